//! Refunds. Alipay does each `out_request_no` once however often it is sent, so that a refund is sent again until there
//! is an answer; an answer that no money moved this time is checked by asking.

use serde::{Deserialize, Serialize};

use crate::channels::alipay::charge::is_amount;
use crate::channels::alipay::codes::Reply;
use crate::channels::alipay::{AlipayChannel, amount, amount_not_supported, number_of};
use crate::channels::http::Deadline;
use crate::channels::{DeclineScope, Failure, ProviderRefs, RefundAnswer, RefundRequest, RefundState};

/// Longest reason that Alipay takes.
const REASON_CHARACTERS_MAX: usize = 200;

/// Money to give back.
#[derive(Serialize)]
struct RefundContent<'a> {
    trade_no: &'a str,
    out_request_no: &'a str,
    refund_amount: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_currency: Option<&'a str>,
}

/// Names a refund.
#[derive(Serialize)]
struct RefundName<'a> {
    trade_no: &'a str,
    out_request_no: &'a str,
}

/// The answer to a refund.
#[derive(Deserialize)]
struct Refunded {
    trade_no: String,
    #[serde(default)]
    fund_change: Option<String>,
}

/// The answer to a question about a refund. Without a status there is no such refund.
#[derive(Deserialize)]
struct RefundFound {
    #[serde(default)]
    out_request_no: Option<String>,
    #[serde(default)]
    refund_amount: Option<String>,
    #[serde(default)]
    refund_status: Option<String>,
}

impl AlipayChannel {
    pub(super) async fn give_back(&self, request: &RefundRequest) -> RefundAnswer {
        let Some(trade_no) = trade_of(&request.refs) else {
            let message = "The payment has no number at Alipay, so that nothing can be given back.";
            return RefundAnswer::failed(Failure::new("missing_payment", message, DeclineScope::Processor));
        };
        let Some(refund_amount) = amount::to_alipay(request.money) else {
            return RefundAnswer::failed(amount_not_supported());
        };
        let deadline = self.client.deadline();
        let number = number_of(&request.provider_key);
        let content = RefundContent {
            trade_no,
            out_request_no: &number,
            refund_amount: &refund_amount,
            refund_reason: request.reason.as_ref().map(|reason| reason.chars().take(REASON_CHARACTERS_MAX).collect()),
            refund_currency: (request.money.currency.code() != "CNY").then(|| request.money.currency.code()),
        };
        match self.client.call::<Refunded>("alipay.trade.refund", &content, deadline).await {
            Ok(Reply::Done(refunded)) if refunded.trade_no != trade_no => {
                RefundAnswer::unknown("Alipay answered about another payment")
            }
            Ok(Reply::Done(refunded)) if refunded.fund_change.as_deref() == Some("Y") => done(number),
            Ok(Reply::Done(_)) => match self.ask_about_refund(trade_no, &number, request, deadline).await {
                Ok(true) => done(number),
                // It does not say that it works on it, and for how long it has not done it counts.
                Ok(false) => RefundAnswer::unknown("Alipay took the refund and has not given anything back"),
                Err(reason) => RefundAnswer::unknown(reason),
            },
            Ok(Reply::Refused(refusal)) => {
                self.refused_refund(&refusal.failure(), trade_no, number, request, deadline).await
            }
            Ok(Reply::Waiting) => RefundAnswer::bare(RefundState::Pending),
            Ok(Reply::Unclear(code)) => RefundAnswer::unknown(format!("Alipay answered {code}")),
            Err(error) => RefundAnswer::unknown(error.to_string()),
        }
    }

    /// A refusal of the first request is final; one of a repetition may be because an earlier one was carried out.
    async fn refused_refund(
        &self,
        failure: &Failure,
        trade_no: &str,
        number: String,
        request: &RefundRequest,
        deadline: Deadline,
    ) -> RefundAnswer {
        // At the limit of calls nothing is refused but this try.
        if failure.code == "app_call_limited" {
            return RefundAnswer::unknown(failure.message.clone());
        }
        if request.is_first {
            return RefundAnswer::failed(failure.clone());
        }
        match self.ask_about_refund(trade_no, &number, request, deadline).await {
            Ok(true) => done(number),
            Ok(false) if request.is_settled() => RefundAnswer::failed(failure.clone()),
            Ok(false) => RefundAnswer::unknown("an earlier request may still be on its way to Alipay"),
            Err(reason) => RefundAnswer::unknown(reason),
        }
    }

    /// Whether the refund has been carried out.
    async fn ask_about_refund(
        &self,
        trade_no: &str,
        number: &str,
        request: &RefundRequest,
        deadline: Deadline,
    ) -> Result<bool, String> {
        let name = RefundName { trade_no, out_request_no: number };
        match self.client.call::<RefundFound>("alipay.trade.fastpay.refund.query", &name, deadline).await {
            Ok(Reply::Done(found)) if found.refund_status.is_none() => Ok(false),
            Ok(Reply::Done(found)) => {
                let is_ours = found.out_request_no.as_deref() == Some(number)
                    && found.refund_amount.is_some_and(|amount| is_amount(&amount, request.money));
                match found.refund_status.as_deref() {
                    Some("REFUND_SUCCESS") if is_ours => Ok(true),
                    status => Err(format!("Alipay answered about a refund with status {status:?}")),
                }
            }
            Ok(Reply::Refused(refusal)) => Err(format!("Alipay answered {} {}", refusal.code, refusal.sub_code)),
            Ok(Reply::Waiting) => Ok(false),
            Ok(Reply::Unclear(code)) => Err(format!("Alipay answered {code}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The trade that took the money: the payment itself, or what took it out of a hold.
fn trade_of(refs: &ProviderRefs) -> Option<&str> {
    let payment = refs.channel_order_no.as_ref().filter(|_| refs.hold_no.is_none());
    refs.capture_no.as_ref().or(payment).map(String::as_str)
}

fn done(number: String) -> RefundAnswer {
    RefundAnswer { state: RefundState::Success, channel_refund_no: Some(number) }
}
