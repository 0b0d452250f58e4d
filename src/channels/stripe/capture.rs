//! Captures. The same key is sent again while Stripe is sure to remember it; after that the PaymentIntent is only read.
//! What was captured is read from the PaymentIntent, and "refused" is said only of one that is found still held.

use crate::channels::http::{Deadline, HttpError};
use crate::channels::stripe::hold::{Absence, judge_hold, unknown_state};
use crate::channels::stripe::request::capture_parameters;
use crate::channels::stripe::resolve::KEY_LIFETIME;
use crate::channels::stripe::response::{ErrorReply, PaymentIntent, Reply, read};
use crate::channels::stripe::{
    StripeChannel, amount, amount_not_supported, decline, missing_number, not_received, unreachable,
};
use crate::channels::{CaptureRequest, HoldAnswer, HoldState};

impl StripeChannel {
    pub(super) async fn take_held(&self, request: &CaptureRequest) -> HoldAnswer {
        let Some(id) = request.refs.channel_order_no.as_deref() else {
            return HoldAnswer::refused(unknown_state("it has no number at Stripe"), missing_number());
        };
        let (hold, sent) = (&request.hold, &request.sent);
        let deadline = self.client.deadline();
        let Some(amount) = amount::to_stripe(request.money) else {
            return self.look_after(id, hold, amount_not_supported(), Absence::Certain, deadline).await;
        };
        if sent.key_age().is_none_or(|age| age >= KEY_LIFETIME) {
            // Until then it may have been sent again.
            let last_sent_at = sent.sent_by.max(sent.first_sent_at.plus(KEY_LIFETIME));
            let absence = Absence::when(sent.now >= last_sent_at.plus(sent.settling));
            return self.look_after(id, hold, not_received(), absence, deadline).await;
        }
        let form = capture_parameters(request, amount);
        let answer = match self.client.capture_intent(id, &form, &request.provider_key, deadline).await {
            Ok(answer) => answer,
            Err(error @ HttpError::NotSent(_)) if sent.is_first => {
                return self.look_after(id, hold, unreachable(&error), Absence::Certain, deadline).await;
            }
            Err(error) => return HoldAnswer::unknown(error.to_string()),
        };
        match read::<PaymentIntent>(&answer) {
            Ok(Reply::Object(intent)) if intent.id == id => self.captured_as_asked(intent, request, deadline).await,
            Ok(Reply::Object(_)) => HoldAnswer::unknown("Stripe answered about another PaymentIntent"),
            Ok(Reply::Error(reply)) => self.refused_capture(&reply, id, request, deadline).await,
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// An answer to a capture that says what was asked for is true. Any other may be a recorded one, so that the
    /// PaymentIntent is read.
    async fn captured_as_asked(
        &self,
        intent: PaymentIntent,
        request: &CaptureRequest,
        deadline: Deadline,
    ) -> HoldAnswer {
        let answer = judge_hold(&intent, &request.hold);
        match answer.state {
            HoldState::Captured { captured_minor, .. } if captured_minor == request.money.amount_minor => answer,
            _ => self.look_after(&intent.id, &request.hold, not_received(), Absence::Possible, deadline).await,
        }
    }

    async fn refused_capture(
        &self,
        reply: &ErrorReply,
        id: &str,
        request: &CaptureRequest,
        deadline: Deadline,
    ) -> HoldAnswer {
        let (hold, sent) = (&request.hold, &request.sent);
        match reply.status {
            400..=404 if sent.is_first && reply.is_stripes() && !reply.is_key_conflict() => {
                self.look_after(id, hold, decline::refusal(reply), Absence::Certain, deadline).await
            }
            // An earlier try may have done it all the same; 401 and 403 say nothing about that.
            400 | 402 | 404 if reply.is_stripes() => {
                self.look_after(id, hold, decline::refusal(reply), Absence::when(sent.is_settled()), deadline).await
            }
            // Recorded: Stripe has finished with the key, and will only ever say this again.
            500.. if reply.replayed => {
                self.look_after(id, hold, not_received(), Absence::when(sent.is_settled()), deadline).await
            }
            status => HoldAnswer::unknown(format!("Stripe answered with HTTP status {status}")),
        }
    }
}
