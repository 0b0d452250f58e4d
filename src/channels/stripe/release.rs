//! Releases. A hold is let go by canceling its PaymentIntent, which is harmless to repeat however old the first try is: a
//! PaymentIntent that is canceled or captured already comes back with the refusal. No key is sent with it, so that a
//! recorded failure can't stand in the way.

use crate::channels::http::HttpError;
use crate::channels::stripe::hold::{Absence, judge_hold, unknown_state};
use crate::channels::stripe::response::{ErrorReply, PaymentIntent, Reply, read};
use crate::channels::stripe::{StripeChannel, decline, missing_number, unreachable};
use crate::channels::{HoldAnswer, HoldState, ReleaseRequest};

impl StripeChannel {
    pub(super) async fn let_go(&self, request: &ReleaseRequest) -> HoldAnswer {
        let Some(id) = request.refs.channel_order_no.as_deref() else {
            return HoldAnswer::refused(unknown_state("it has no number at Stripe"), missing_number());
        };
        let (hold, is_first) = (&request.hold, request.sent.is_first);
        let deadline = self.client.deadline();
        let answer = match self.client.cancel_intent(id, deadline).await {
            Ok(answer) => answer,
            Err(error @ HttpError::NotSent(_)) if is_first => {
                return self.look_after(id, hold, unreachable(&error), Absence::Certain, deadline).await;
            }
            Err(error) => return HoldAnswer::unknown(error.to_string()),
        };
        let (now, refusal) = match read::<PaymentIntent>(&answer) {
            Ok(Reply::Object(now)) => (Some(now), None),
            Ok(Reply::Error(reply)) if !is_definite(&reply, is_first) => {
                return HoldAnswer::unknown(format!("Stripe answered with HTTP status {}", reply.status));
            }
            Ok(Reply::Error(mut reply)) => {
                let now = reply.error.payment_intent.take();
                (now.map(|now| *now), Some(decline::refusal(&reply)))
            }
            Err(reason) => return HoldAnswer::unknown(reason),
        };
        if let Some(now) = now {
            if now.id != id {
                return HoldAnswer::unknown("Stripe answered about another PaymentIntent");
            }
            let answer = judge_hold(&now, hold);
            // Canceled, by this or earlier. What was captured is read below, with its fee.
            if matches!(answer.state, HoldState::Released { .. }) {
                return answer;
            }
        }
        match refusal {
            Some(failure) => {
                let absence = if is_first { Absence::Certain } else { Absence::when(request.sent.is_settled()) };
                self.look_after(id, hold, failure, absence, deadline).await
            }
            None => HoldAnswer::unknown("Stripe neither canceled the PaymentIntent nor refused to"),
        }
    }
}

/// Whether an error says what became of this request: it was not carried out.
fn is_definite(reply: &ErrorReply, is_first: bool) -> bool {
    match reply.status {
        400 | 402 | 404 => reply.is_stripes() && !reply.is_key_conflict(),
        // About the credentials, which says nothing about an earlier try.
        401 | 403 => is_first && reply.is_stripes(),
        _ => false,
    }
}
