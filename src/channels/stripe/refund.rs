//! Refunds. A refund is wanted until it is done, so that a provider that can't be reached is not a failure: the same
//! key is sent again until there is an answer, and when the key's time is over, or may be, the refund is looked for in the list.

use crate::channels::http::Deadline;
use crate::channels::stripe::request::refund_parameters;
use crate::channels::stripe::resolve::{KEY_LIFETIME, PAGES_MAX};
use crate::channels::stripe::response::{ErrorReply, List, Refund, Reply, read};
use crate::channels::stripe::{REFUND_KEY, StripeChannel, amount, amount_not_supported, decline, not_received};
use crate::channels::{DeclineScope, Failure, RefundAnswer, RefundRequest, RefundState};

impl StripeChannel {
    pub(super) async fn give_back(&self, request: &RefundRequest) -> RefundAnswer {
        let Some(intent_id) = request.refs.channel_order_no.as_deref() else {
            let message = "The payment has no number at Stripe, so that nothing can be given back.";
            return RefundAnswer::failed(Failure::new("missing_payment", message, DeclineScope::Processor));
        };
        let Some(amount) = amount::to_stripe(request.money) else {
            return RefundAnswer::failed(amount_not_supported());
        };
        let deadline = self.client.deadline();
        if request.key_age().is_none_or(|age| age >= KEY_LIFETIME) {
            // Until then it may have been sent again.
            let last_sent_at = request.sent_by.max(request.first_sent_at.plus(KEY_LIFETIME));
            let is_settled = request.now >= last_sent_at.plus(request.settling);
            return self.look_for_refund(intent_id, request, not_received(), is_settled, deadline).await;
        }
        let form = refund_parameters(request, intent_id, amount);
        let answer = match self.client.create_refund(&form, &request.provider_key, deadline).await {
            Ok(answer) => answer,
            Err(error) => return RefundAnswer::unknown(error.to_string()),
        };
        match read::<Refund>(&answer) {
            Ok(Reply::Object(refund)) if refund.status.as_deref() == Some("succeeded") => judge(&refund, request),
            // The answer may be a recorded one; what the refund is now has to be read.
            Ok(Reply::Object(refund)) if !request.is_first => self.read_refund(&refund.id, request, deadline).await,
            Ok(Reply::Object(refund)) => judge(&refund, request),
            Ok(Reply::Error(reply)) => self.refused_refund(&reply, intent_id, request, deadline).await,
            Err(reason) => RefundAnswer::unknown(reason),
        }
    }

    async fn read_refund(&self, id: &str, request: &RefundRequest, deadline: Deadline) -> RefundAnswer {
        let answer = match self.client.get_refund(id, deadline).await {
            Ok(answer) => answer,
            Err(error) => return RefundAnswer::unknown(error.to_string()),
        };
        match read::<Refund>(&answer) {
            Ok(Reply::Object(refund)) => judge(&refund, request),
            Ok(Reply::Error(reply)) => RefundAnswer::unknown(format!("Stripe answered with status {}", reply.status)),
            Err(reason) => RefundAnswer::unknown(reason),
        }
    }

    async fn refused_refund(
        &self,
        reply: &ErrorReply,
        intent_id: &str,
        request: &RefundRequest,
        deadline: Deadline,
    ) -> RefundAnswer {
        let first = request.is_first;
        match reply.status {
            400..=404 if first && reply.is_stripes() && !reply.is_key_conflict() => {
                RefundAnswer::failed(decline::refusal(reply))
            }
            // An earlier try may have done it all the same; 401 and 403 say nothing about that.
            400 | 402 | 404 if reply.is_stripes() => {
                let failure = decline::refusal(reply);
                self.look_for_refund(intent_id, request, failure, request.is_settled(), deadline).await
            }
            500.. if reply.replayed => {
                self.look_for_refund(intent_id, request, not_received(), request.is_settled(), deadline).await
            }
            status => RefundAnswer::unknown(format!("Stripe answered with HTTP status {status}")),
        }
    }

    /// Looks for the refund in the list of the payment's refunds. When it is not there and nothing can be on its way
    /// any more, it was not carried out, for the reason given.
    async fn look_for_refund(
        &self,
        intent_id: &str,
        request: &RefundRequest,
        absent: Failure,
        is_settled: bool,
        deadline: Deadline,
    ) -> RefundAnswer {
        match self.find_refund(intent_id, request, deadline).await {
            Ok(Some(refund)) => judge(&refund, request),
            Ok(None) if is_settled => RefundAnswer::failed(absent),
            Ok(None) => RefundAnswer::unknown("Stripe has no such refund yet"),
            Err(reason) => RefundAnswer::unknown(reason),
        }
    }

    async fn find_refund(
        &self,
        intent_id: &str,
        request: &RefundRequest,
        deadline: Deadline,
    ) -> Result<Option<Refund>, String> {
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let answer = self.client.list_refunds(intent_id, after.as_deref(), deadline).await;
            let page = match read::<List<Refund>>(&answer.map_err(|error| error.to_string())?)? {
                Reply::Object(page) => page,
                Reply::Error(reply) => return Err(format!("Stripe's list was answered with status {}", reply.status)),
            };
            after = page.data.last().map(|refund| refund.id.clone());
            if let Some(refund) = page.data.into_iter().find(|refund| is_of(refund, request)) {
                return Ok(Some(refund));
            }
            if !page.has_more || after.is_none() {
                return Ok(None);
            }
        }
        Err(String::from("Stripe's list is too long to be looked through"))
    }
}

fn is_of(refund: &Refund, request: &RefundRequest) -> bool {
    refund.metadata.get(REFUND_KEY).is_some_and(|found| *found == request.refund_reference)
}

/// What the present state of a refund means.
fn judge(refund: &Refund, request: &RefundRequest) -> RefundAnswer {
    let same_amount = refund.currency.eq_ignore_ascii_case(request.money.currency.code())
        && amount::from_stripe(refund.amount, request.money.currency) == Some(request.money);
    if !same_amount || !is_of(refund, request) {
        return RefundAnswer::unknown(format!("refund {} is not the one that was asked for", refund.id));
    }
    RefundAnswer { state: state_of(refund), channel_refund_no: Some(refund.id.clone()) }
}

/// Where a refund stands.
pub(super) fn state_of(refund: &Refund) -> RefundState {
    match refund.status.as_deref() {
        Some("succeeded") => RefundState::Success,
        Some("pending" | "requires_action") => RefundState::Pending,
        Some("failed" | "canceled") => {
            let code = refund.failure_reason.as_deref().unwrap_or("refund_failed");
            let message = "The payer's bank did not take the money back.";
            RefundState::Failed(Failure::new(code, message, DeclineScope::Bank))
        }
        _ => RefundState::Unknown { reason: String::from("the refund is in a state that is not known") },
    }
}
