//! Letting held money go. Alipay does each `out_request_no` once however often it is sent, so that a release is sent again
//! until there is an answer. The number must not be that of the freeze.

use serde::{Deserialize, Serialize};

use crate::channels::alipay::charge::is_amount;
use crate::channels::alipay::codes::Reply;
use crate::channels::alipay::hold::{cannot_be_sent, refs_of_hold};
use crate::channels::alipay::wire::CallError;
use crate::channels::alipay::{AlipayChannel, amount, amount_not_supported, missing_hold, number_of, unreachable};
use crate::channels::http::Deadline;
use crate::channels::{HoldAnswer, HoldState, ReleaseRequest};

/// Longest remark that Alipay takes.
const REMARK_CHARACTERS_MAX: usize = 100;
/// What stands where the merchant gives no reason; Alipay wants one.
const NO_REASON: &str = "released";

/// Held money to let go.
#[derive(Serialize)]
struct UnfreezeContent<'a> {
    auth_no: &'a str,
    out_request_no: &'a str,
    amount: &'a str,
    remark: String,
}

/// The answer.
#[derive(Deserialize)]
struct Unfrozen {
    auth_no: String,
    out_request_no: String,
    amount: String,
    status: String,
}

impl AlipayChannel {
    pub(super) async fn let_go(&self, request: &ReleaseRequest) -> HoldAnswer {
        let prepared = request.refs.hold_no.as_deref().ok_or_else(missing_hold);
        let prepared = prepared.and_then(|auth_no| {
            amount::to_alipay(request.held).map(|amount| (auth_no, amount)).ok_or_else(amount_not_supported)
        });
        let (auth_no, amount) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return cannot_be_sent(failure, &request.sent),
        };
        let deadline = self.client.deadline();
        let number = number_of(&request.provider_key);
        let content = UnfreezeContent {
            auth_no,
            out_request_no: &number,
            amount: &amount,
            remark: remark_of(request.reason.as_deref()),
        };
        let notify_url = request.hold.notify_url.as_deref();
        let method = "alipay.fund.auth.order.unfreeze";
        match self.client.call_notified::<Unfrozen>(method, &content, notify_url, deadline).await {
            Ok(Reply::Done(unfrozen)) => {
                let is_ours = unfrozen.auth_no == auth_no
                    && unfrozen.out_request_no == number
                    && is_amount(&unfrozen.amount, request.held);
                match unfrozen.status.as_str() {
                    _ if !is_ours => HoldAnswer::unknown("Alipay answered about another pre-authorization"),
                    "SUCCESS" => released(auth_no),
                    "INIT" => self.unclear_release(HoldState::Processing, request, deadline).await,
                    status => HoldAnswer::unknown(format!("the release's status is {status}")),
                }
            }
            Ok(Reply::Waiting) => self.unclear_release(HoldState::Processing, request, deadline).await,
            Ok(Reply::Refused(refusal)) if refusal.is_call_limit() => HoldAnswer::unknown(refusal.failure().message),
            Ok(Reply::Refused(refusal)) => {
                self.refused_operation(refusal.failure(), &request.hold, &request.sent, deadline).await
            }
            Ok(Reply::Unclear(code)) => {
                let reason = format!("Alipay answered {code}");
                self.unclear_release(HoldState::Unknown { reason }, request, deadline).await
            }
            Err(CallError::NotSent(reason)) if request.sent.is_first => {
                self.refused_operation(unreachable(reason), &request.hold, &request.sent, deadline).await
            }
            Err(error) => HoldAnswer::unknown(error.to_string()),
        }
    }

    /// Alipay does not know, or has not finished: whether anything is still held says it.
    async fn unclear_release(&self, state: HoldState, request: &ReleaseRequest, deadline: Deadline) -> HoldAnswer {
        let answer = self.look_at_hold(&request.hold, deadline).await;
        match answer.state {
            HoldState::Released { .. } | HoldState::Captured { .. } => answer,
            _ => HoldAnswer { state, ..answer },
        }
    }
}

/// We let it go.
fn released(auth_no: &str) -> HoldAnswer {
    let refs = refs_of_hold(Some(auth_no.to_owned()));
    HoldAnswer { refs, ..HoldAnswer::bare(HoldState::Released { expired: false }) }
}

fn remark_of(reason: Option<&str>) -> String {
    let reason = reason.filter(|reason| !reason.trim().is_empty()).unwrap_or(NO_REASON);
    reason.chars().take(REMARK_CHARACTERS_MAX).collect()
}
