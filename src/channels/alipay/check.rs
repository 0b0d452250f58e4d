//! Looking whether the credentials fit: questions about what can't be there, which change nothing.

use serde::Serialize;
use serde::de::IgnoredAny;

use crate::channels::alipay::AlipayChannel;
use crate::channels::alipay::codes::Reply;
use crate::channels::alipay::resolve::TradeName;
use crate::channels::http::Deadline;
use crate::channels::{CheckFailure, CheckReport};

/// A number that no payment has: their keys begin otherwise.
const NO_NUMBER: &str = "tollgate_check";

/// Names a freeze that is not there.
#[derive(Serialize)]
struct NoFreeze {
    out_order_no: &'static str,
    out_request_no: &'static str,
    operation_type: &'static str,
}

impl AlipayChannel {
    pub(super) async fn check_credentials(&self) -> Result<CheckReport, CheckFailure> {
        let deadline = self.client.deadline();
        let name = TradeName { out_trade_no: NO_NUMBER };
        match self.client.call::<IgnoredAny>("alipay.trade.query", &name, deadline).await {
            Ok(Reply::Done(_)) => {}
            Ok(Reply::Refused(refusal)) if refusal.is("TRADE_NOT_EXIST") => {}
            // Nothing that the keys are to blame for.
            Ok(Reply::Refused(refusal)) if refusal.is_call_limit() => {
                return Err(CheckFailure::Unreachable(String::from("it is asked too often")));
            }
            Ok(Reply::Refused(refusal)) => {
                return Err(CheckFailure::Refused(format!("{} {}", refusal.code, refusal.sub_code)));
            }
            Ok(Reply::Waiting) => return Err(CheckFailure::Unreachable(String::from("it has not finished"))),
            Ok(Reply::Unclear(code)) => return Err(CheckFailure::Unreachable(format!("it answered {code}"))),
            Err(error) => return Err(CheckFailure::Unreachable(error.to_string())),
        }
        let mut findings = vec![String::from("The keys fit: both sides accept each other's signatures.")];
        findings.push(self.whether_it_may_hold(deadline).await);
        if self.seller_id.is_none() {
            findings.push(String::from(
                "No seller_id is given: a notification about another seller of the application counts as one's own.",
            ));
        }
        Ok(CheckReport { account: Some(self.client.app_id().to_owned()), livemode: self.client.livemode(), findings })
    }

    /// Whether the application's contract lets it hold money.
    async fn whether_it_may_hold(&self, deadline: Deadline) -> String {
        let name = NoFreeze { out_order_no: NO_NUMBER, out_request_no: NO_NUMBER, operation_type: "FREEZE" };
        let method = "alipay.fund.auth.operation.detail.query";
        match self.client.call::<IgnoredAny>(method, &name, deadline).await {
            Ok(Reply::Done(_)) => String::from("The application may hold money."),
            Ok(Reply::Refused(refusal)) if refusal.is_no_freeze() => String::from("The application may hold money."),
            Ok(Reply::Refused(refusal)) => {
                format!("The application may not hold money ({} {}).", refusal.code, refusal.sub_code)
            }
            Ok(Reply::Waiting | Reply::Unclear(_)) | Err(_) => {
                String::from("Whether the application may hold money could not be found out.")
            }
        }
    }
}
