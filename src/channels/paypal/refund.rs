//! Refunds. A refund is wanted until it is done, so that a provider that can't be reached is not a failure: the same id
//! is sent again until there is an answer, and PayPal answers with where the refund stands now.

use serde_json::json;

use crate::channels::paypal::capture::PAYMENT_KEY_LIFETIME;
use crate::channels::paypal::request::{amount_of, custom_id_of};
use crate::channels::paypal::response::{ErrorReply, Refund, RefundStatus, Reply, read};
use crate::channels::paypal::{PaypalChannel, amount, amount_not_supported};
use crate::channels::{DeclineScope, Failure, RefundAnswer, RefundRequest, RefundState};

/// Longest note that PayPal takes.
const NOTE_CHARACTERS_MAX: usize = 255;

impl PaypalChannel {
    pub(super) async fn give_back(&self, request: &RefundRequest) -> RefundAnswer {
        let Some(capture_id) = request.refs.capture_no.as_deref() else {
            let message = "The payment has no capture at PayPal, so that nothing can be given back.";
            return RefundAnswer::failed(Failure::new("missing_payment", message, DeclineScope::Processor));
        };
        let Some(value) = amount::to_paypal(request.money) else {
            return RefundAnswer::failed(amount_not_supported());
        };
        if request.key_age().is_none_or(|age| age >= PAYMENT_KEY_LIFETIME) {
            return RefundAnswer::unknown("PayPal does not remember this refund's id any more");
        }
        let mut body = json!({
            "amount": amount_of(request.money.currency, &value),
            "custom_id": custom_id_of(&request.reference, &request.merchant_id),
            "invoice_id": request.provider_key,
        });
        if let Some(reason) = request.reason.as_deref().filter(|text| !text.trim().is_empty()) {
            body["note_to_payer"] = reason.chars().take(NOTE_CHARACTERS_MAX).collect::<String>().into();
        }
        let deadline = self.client.deadline();
        let answer = match self.client.refund(capture_id, &body, &request.provider_key, deadline).await {
            Ok(answer) => answer,
            Err(error) => return RefundAnswer::unknown(error.to_string()),
        };
        match read::<Refund>(&answer) {
            Ok(Reply::Object(refund)) => judge(&refund, request),
            Ok(Reply::Error(reply)) if is_final(&reply, request) => RefundAnswer::failed(reply.failure()),
            Ok(Reply::Error(reply)) => RefundAnswer::unknown(reply.describe()),
            Err(reason) => RefundAnswer::unknown(reason),
        }
    }
}

/// Whether a refusal holds. An earlier try with the same id, had it been carried out, would have been shown instead.
fn is_final(reply: &ErrorReply, request: &RefundRequest) -> bool {
    reply.is_about_the_request() && (request.is_first || request.is_settled())
}

/// What the present state of a refund means.
fn judge(refund: &Refund, request: &RefundRequest) -> RefundAnswer {
    let is_it = refund.invoice_id.as_deref().is_none_or(|id| id == request.provider_key)
        && refund.amount.as_ref().is_some_and(|amount| amount.is(request.money));
    if !is_it {
        return RefundAnswer::unknown(format!("refund {} is not the one that was asked for", refund.id));
    }
    let state = match refund.status {
        RefundStatus::Completed => RefundState::Success,
        RefundStatus::Pending => RefundState::Pending,
        RefundStatus::Failed | RefundStatus::Cancelled => {
            let message = "The payer's side did not take the money back.";
            RefundState::Failed(Failure::new("refund_failed", message, DeclineScope::Bank))
        }
        RefundStatus::Other => {
            RefundState::Unknown { reason: String::from("the refund is in a state that is not known") }
        }
    };
    RefundAnswer { state, channel_refund_no: Some(refund.id.clone()) }
}
