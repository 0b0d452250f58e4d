//! Refunds. BTCPay gives money back by a pull payment, which the payer claims: it is pending until that is paid out. Making
//! one is not idempotent, so that it is asked for once. From then on it is known by its id, or found by our refund number
//! where the answer with the id was lost.

use crate::channels::btcpay::request::refund_body;
use crate::channels::btcpay::response::{ErrorReply, PaymentMethod, Payout, PayoutState, PullPayment, Reply, read};
use crate::channels::btcpay::{BtcpayChannel, amount, amount_not_supported, not_received, refused, unreachable};
use crate::channels::http::{Deadline, HttpError};
use crate::channels::{DeclineScope, Failure, RefundAnswer, RefundRequest, RefundState};

impl BtcpayChannel {
    pub(super) async fn give_back(&self, request: &RefundRequest) -> RefundAnswer {
        let deadline = self.client.deadline();
        if !request.is_first {
            return self.ask_about_refund(request, deadline).await;
        }
        let Some(invoice_id) = request.refs.channel_order_no.as_deref() else {
            let message = "The payment has no number at BTCPay, so that nothing can be given back.";
            return RefundAnswer::failed(Failure::new("missing_payment", message, DeclineScope::Processor));
        };
        let Some(amount) = amount::to_btcpay(request.money) else {
            return RefundAnswer::failed(amount_not_supported());
        };
        let method_id = match self.paid_with(invoice_id, deadline).await {
            Ok(method_id) => method_id,
            Err(failure) => return RefundAnswer::failed(failure),
        };
        let body = refund_body(request, &amount, &method_id);
        let response = match self.client.refund(invoice_id, &body, deadline).await {
            Ok(response) => response,
            Err(error @ HttpError::NotSent(_)) => return RefundAnswer::failed(unreachable(&error)),
            Err(error) => return RefundAnswer::unknown(error.to_string()),
        };
        match read::<PullPayment>(&response) {
            Ok(Reply::Object(pull)) if is_of(&pull, request) => pending(&pull),
            Ok(Reply::Object(pull)) => RefundAnswer::unknown(format!("pull payment {} is not this refund", pull.id)),
            Ok(Reply::Error(reply)) => not_made(&reply),
            Err(reason) => RefundAnswer::unknown(reason),
        }
    }

    /// The way by which the payer paid, which is the one back. Nothing has been sent that moves money when this fails.
    async fn paid_with(&self, invoice_id: &str, deadline: Deadline) -> Result<String, Failure> {
        let response = self.client.payment_methods(invoice_id, deadline).await;
        let response = response.map_err(|error| unreachable(&error))?;
        let failed = |message: &str| refused("refund_failed", message);
        match read::<Vec<PaymentMethod>>(&response) {
            Ok(Reply::Object(methods)) => methods
                .into_iter()
                .find(|method| !method.payments.is_empty())
                .map(|method| method.payment_method_id)
                .ok_or_else(|| failed("BTCPay does not know how the payer has paid.")),
            Ok(Reply::Error(ErrorReply { said: Some((code, message)), .. })) => Err(refused(&code, &message)),
            Ok(Reply::Error(reply)) => Err(failed(&format!("BTCPay answered with HTTP status {}.", reply.status))),
            Err(_) => Err(failed("BTCPay's answer could not be read.")),
        }
    }

    /// Looks for the refund. When it is not there and can't be on its way any more, it was not carried out.
    async fn ask_about_refund(&self, request: &RefundRequest, deadline: Deadline) -> RefundAnswer {
        if let Some(id) = request.channel_refund_no.as_deref() {
            return self.ask_by_id(id, request, deadline).await;
        }
        match self.find_refund(request, deadline).await {
            Ok(Some(pull)) => self.judge_refund(&pull, request, deadline).await,
            Ok(None) if request.is_settled() => RefundAnswer::failed(not_received()),
            Ok(None) => RefundAnswer::unknown("BTCPay has no such refund yet"),
            Err(reason) => RefundAnswer::unknown(reason),
        }
    }

    async fn ask_by_id(&self, id: &str, request: &RefundRequest, deadline: Deadline) -> RefundAnswer {
        let response = match self.client.pull_payment(id, deadline).await {
            Ok(response) => response,
            Err(error) => return RefundAnswer::unknown(error.to_string()),
        };
        match read::<PullPayment>(&response) {
            Ok(Reply::Object(pull)) => self.judge_refund(&pull, request, deadline).await,
            Ok(Reply::Error(reply)) => RefundAnswer::unknown(format!("BTCPay answered with status {}", reply.status)),
            Err(reason) => RefundAnswer::unknown(reason),
        }
    }

    async fn find_refund(&self, request: &RefundRequest, deadline: Deadline) -> Result<Option<PullPayment>, String> {
        let response = self.client.pull_payments(deadline).await.map_err(|error| error.to_string())?;
        let named = |pull: &PullPayment| pull.name.as_deref() == Some(request.refund_reference.as_str());
        match read::<Vec<PullPayment>>(&response)? {
            Reply::Object(pulls) => Ok(pulls.into_iter().find(named)),
            Reply::Error(reply) => Err(format!("BTCPay's list was answered with status {}", reply.status)),
        }
    }

    async fn judge_refund(&self, pull: &PullPayment, request: &RefundRequest, deadline: Deadline) -> RefundAnswer {
        if !is_of(pull, request) {
            return RefundAnswer::unknown(format!("pull payment {} is not the one that was asked for", pull.id));
        }
        let response = match self.client.payouts(&pull.id, deadline).await {
            Ok(response) => response,
            Err(error) => return RefundAnswer::unknown(error.to_string()),
        };
        match read::<Vec<Payout>>(&response) {
            Ok(Reply::Object(payouts)) => {
                let state = state_of(pull, &payouts);
                RefundAnswer { state, channel_refund_no: Some(pull.id.clone()) }
            }
            Ok(Reply::Error(reply)) => RefundAnswer::unknown(format!("BTCPay answered with status {}", reply.status)),
            Err(reason) => RefundAnswer::unknown(reason),
        }
    }
}

fn is_of(pull: &PullPayment, request: &RefundRequest) -> bool {
    pull.name.as_deref() == Some(request.refund_reference.as_str())
        && pull.currency == request.money.currency.code()
        && amount::exactly(&pull.amount, request.money.currency) == Some(request.money)
}

fn pending(pull: &PullPayment) -> RefundAnswer {
    RefundAnswer { state: RefundState::Pending, channel_refund_no: Some(pull.id.clone()) }
}

fn state_of(pull: &PullPayment, payouts: &[Payout]) -> RefundState {
    let is_open = |payout: &Payout| !matches!(payout.state, PayoutState::Cancelled | PayoutState::Completed);
    if payouts.iter().any(is_open) {
        return RefundState::Pending;
    }
    if payouts.iter().any(|payout| payout.state == PayoutState::Completed) {
        return RefundState::Success;
    }
    // Somebody has put it away before the payer claimed anything.
    match pull.archived {
        true => RefundState::Failed(refused("refund_withdrawn", "The refund was withdrawn before it was claimed.")),
        false => RefundState::Pending,
    }
}

fn not_made(reply: &ErrorReply) -> RefundAnswer {
    match (reply.status, &reply.said) {
        (400 | 401 | 403 | 404 | 422 | 429, Some((code, message))) => RefundAnswer::failed(refused(code, message)),
        (status, _) => RefundAnswer::unknown(format!("BTCPay answered with HTTP status {status}")),
    }
}
