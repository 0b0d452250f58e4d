//! Taking, and holding for longer, what is held. The same id is sent again for as long as PayPal remembers it: it either
//! does it now or says what became of it. After that, and before a refusal of a repetition is believed, the
//! authorization is read.

use std::time::Duration;

use serde_json::json;

use crate::channels::http::{Deadline, HttpError};
use crate::channels::paypal::charge::not_captured;
use crate::channels::paypal::hold::taken;
use crate::channels::paypal::request::{Terms, amount_of};
use crate::channels::paypal::response::{Authorization, Capture, CaptureStatus, ErrorReply, Reply, read};
use crate::channels::paypal::{PaypalChannel, amount, amount_not_supported, not_received, unreachable};
use crate::channels::{
    AuthorizeRequest, CaptureRequest, ExtendRequest, Failure, HoldAnswer, HoldState, ProviderRefs, ReleaseRequest, Sent,
};

/// PayPal remembers the ids of payments for 45 days; a day less leaves room for clocks and delays.
pub(super) const PAYMENT_KEY_LIFETIME: Duration = Duration::from_secs(44 * 24 * 60 * 60);

/// An operation on held money, as far as it matters to what its refusal means.
struct Tried<'a> {
    hold: &'a AuthorizeRequest,
    refs: &'a ProviderRefs,
    sent: &'a Sent,
}

impl PaypalChannel {
    pub(super) async fn take(&self, request: &CaptureRequest) -> HoldAnswer {
        let tried = Tried { hold: &request.hold, refs: &request.refs, sent: &request.sent };
        let deadline = self.client.deadline();
        let (Some(hold_no), Some(value)) = (&request.refs.hold_no, amount::to_paypal(request.money)) else {
            let state = self.state_of_hold(&request.hold, &request.refs, deadline).await;
            return HoldAnswer { refused: Some(amount_not_supported()), ..state };
        };
        if request.sent.key_age().is_none_or(|age| age >= PAYMENT_KEY_LIFETIME) {
            return self.only_read(&tried, PAYMENT_KEY_LIFETIME, deadline).await;
        }
        let body = json!({
            "amount": amount_of(request.money.currency, &value),
            "invoice_id": request.provider_key,
            "final_capture": true,
        });
        let answer = match self.client.capture(hold_no, &body, &request.provider_key, deadline).await {
            Ok(answer) => answer,
            Err(error) => return not_answered(&error, &request.sent),
        };
        match read::<Capture>(&answer) {
            Ok(Reply::Object(capture)) => self.judge_capture(capture, request, &tried, deadline).await,
            Ok(Reply::Error(reply)) => self.refused(&reply, &tried, deadline).await,
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// What the present state of the capture means; that it was answered as made says nothing.
    async fn judge_capture(
        &self,
        capture: Capture,
        request: &CaptureRequest,
        tried: &Tried<'_>,
        deadline: Deadline,
    ) -> HoldAnswer {
        let names_us = |id: &str| id == Terms::of_hold(tried.hold).custom_id();
        if !capture.amount.is(request.money) || !capture.custom_id.as_deref().is_none_or(names_us) {
            return HoldAnswer::unknown(format!("capture {} is not the one that was asked for", capture.id));
        }
        let refs = ProviderRefs { capture_no: Some(capture.id.clone()), ..ProviderRefs::default() };
        match capture.status {
            CaptureStatus::Declined | CaptureStatus::Failed => {
                let now = self.state_of_hold(tried.hold, tried.refs, deadline).await;
                HoldAnswer { refused: Some(not_captured(&capture)), ..now }
            }
            CaptureStatus::Pending => HoldAnswer { refs, ..HoldAnswer::bare(HoldState::Processing) },
            CaptureStatus::Completed | CaptureStatus::PartiallyRefunded | CaptureStatus::Refunded => {
                // What was asked for was a final one, whether or not the answer repeats that.
                taken(&[Capture { final_capture: true, ..capture }], tried.hold)
            }
            CaptureStatus::Other => {
                let state = HoldState::Unknown { reason: String::from("the capture is in a state that is not known") };
                HoldAnswer { refs, ..HoldAnswer::bare(state) }
            }
        }
    }

    pub(super) async fn let_go(&self, request: &ReleaseRequest) -> HoldAnswer {
        let deadline = self.client.deadline();
        let answer = self.void(&request.hold, &request.refs, request.sent.is_first, deadline).await;
        let Some(failure) = answer.refused.clone() else { return answer };
        let tried = Tried { hold: &request.hold, refs: &request.refs, sent: &request.sent };
        believed(answer, failure, &tried)
    }

    pub(super) async fn hold_for_longer(&self, request: &ExtendRequest) -> HoldAnswer {
        let tried = Tried { hold: &request.hold, refs: &request.refs, sent: &request.sent };
        let deadline = self.client.deadline();
        let value = amount::to_paypal(request.held);
        let (Some(hold_no), None, Some(value)) = (&request.refs.hold_no, &request.refs.parent_hold_no, value) else {
            // What was extended once can't be extended again.
            let state = self.state_of_hold(&request.hold, &request.refs, deadline).await;
            return HoldAnswer { refused: Some(Failure::not_supported()), ..state };
        };
        if request.sent.key_age().is_none_or(|age| age >= PAYMENT_KEY_LIFETIME) {
            return self.only_read(&tried, PAYMENT_KEY_LIFETIME, deadline).await;
        }
        let body = json!({ "amount": amount_of(request.held.currency, &value) });
        let answer = match self.client.reauthorize(hold_no, &body, &request.provider_key, deadline).await {
            Ok(answer) => answer,
            Err(error) => return not_answered(&error, &request.sent),
        };
        match read::<Authorization>(&answer) {
            Ok(Reply::Object(now)) if now.id == *hold_no => {
                HoldAnswer::unknown("PayPal answered with the authorization that was to be replaced")
            }
            Ok(Reply::Object(now)) => {
                let refs = ProviderRefs {
                    hold_no: Some(now.id),
                    parent_hold_no: Some(hold_no.clone()),
                    ..ProviderRefs::default()
                };
                let state = self.state_of_hold(&request.hold, &refs, deadline).await;
                HoldAnswer { refs, ..state }
            }
            Ok(Reply::Error(reply)) => self.refused(&reply, &tried, deadline).await,
            Err(reason) => HoldAnswer::unknown(reason),
        }
    }

    /// What a refusal means: the state is read, and only what is still held makes it one.
    async fn refused(&self, reply: &ErrorReply, tried: &Tried<'_>, deadline: Deadline) -> HoldAnswer {
        let is_first = tried.sent.is_first;
        if !reply.is_definite() || (!is_first && !reply.is_about_the_request()) {
            return HoldAnswer::unknown(reply.describe());
        }
        if reply.issue() == "AUTHORIZATION_EXPIRED" {
            return HoldAnswer::bare(HoldState::Released { expired: true });
        }
        let now = self.state_of_hold(tried.hold, tried.refs, deadline).await;
        believed(now, reply.failure(), tried)
    }

    /// The id can't be sent any more: only what is still held shows that nothing was done.
    async fn only_read(&self, tried: &Tried<'_>, lifetime: Duration, deadline: Deadline) -> HoldAnswer {
        let now = self.state_of_hold(tried.hold, tried.refs, deadline).await;
        // Until the id's time was over it may have been sent again.
        let last_sent_at = tried.sent.sent_by.max(tried.sent.first_sent_at.plus(lifetime));
        match now.state {
            HoldState::Held { .. } if tried.sent.now >= last_sent_at.plus(tried.sent.settling) => {
                HoldAnswer { refused: Some(not_received()), ..now }
            }
            HoldState::Held { .. } => HoldAnswer::unknown("an earlier try may still take effect"),
            _ => now,
        }
    }
}

/// A refusal beside the state that was read after it: of a repetition it is believed only when no earlier try can take
/// effect any more. Where nothing is held any more, the state says all.
fn believed(now: HoldAnswer, failure: Failure, tried: &Tried<'_>) -> HoldAnswer {
    let is_certain = tried.sent.is_first || tried.sent.is_settled();
    match now.state {
        HoldState::Held { .. } if is_certain => HoldAnswer { refused: Some(failure), ..now },
        HoldState::Held { .. } => HoldAnswer::unknown("an earlier try may still take effect"),
        // It was refused for certain, whatever kept its state from being read.
        HoldState::Unknown { .. } if tried.sent.is_first => HoldAnswer { refused: Some(failure), ..now },
        _ => HoldAnswer { refused: None, ..now },
    }
}

/// Nothing came back. Only of a first try that never left this is the end of it.
fn not_answered(error: &HttpError, sent: &Sent) -> HoldAnswer {
    let unknown = HoldAnswer::unknown(error.to_string());
    match error {
        HttpError::NotSent(_) if sent.is_first => HoldAnswer { refused: Some(unreachable(error)), ..unknown },
        HttpError::NotSent(_) | HttpError::MayHaveArrived(_) => unknown,
    }
}
