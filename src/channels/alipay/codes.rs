//! Alipay's codes: whether a call went through, and who refused if not. The HTTP status is 200 for all of them.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::channels::DeclineScope::{Bank, Customer, Processor, Unknown};
use crate::channels::{AMOUNT_NOT_SUPPORTED, DeclineScope, Failure};

/// An answer by its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply<T> {
    /// 10000: done.
    Done(T),
    /// 10003: accepted, the payer has to act on the telephone.
    Waiting,
    /// Certainly not done.
    Refused(Refusal),
    /// 20000, a system error, or a code that is not known: anything may have happened.
    Unclear(String),
}

/// A call that Alipay refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// 40004 and the like.
    pub(super) code: String,
    /// The reason in capitals, such as `ACQ.TRADE_NOT_EXIST`; empty when there is none.
    pub(super) sub_code: String,
}

/// Reads the signed part of an answer; `Err` says why it can't be read.
pub(super) fn reply_of<T: DeserializeOwned>(raw: &str) -> Result<Reply<T>, String> {
    #[derive(Deserialize)]
    struct Head {
        code: String,
        #[serde(default)]
        sub_code: String,
    }
    let head: Head = serde_json::from_str(raw).map_err(|_| String::from("Alipay's answer has no code"))?;
    match head.code.as_str() {
        "10000" => {
            serde_json::from_str(raw).map(Reply::Done).map_err(|_| String::from("Alipay's answer can't be read"))
        }
        "10003" => Ok(Reply::Waiting),
        // What a business failure means is known by its reason alone: one that is not known may have left anything behind.
        "40004" if reason_of(&head.sub_code).and_then(scope_of_reason).is_none() => {
            Ok(Reply::Unclear(format!("40004 {}", head.sub_code)))
        }
        "20001" | "40001" | "40002" | "40003" | "40004" | "40005" | "40006" => {
            Ok(Reply::Refused(Refusal { code: head.code, sub_code: head.sub_code }))
        }
        _ => Ok(Reply::Unclear(format!("{} {}", head.code, head.sub_code))),
    }
}

/// Reasons of business failures that say for certain that this call did nothing, and who is the reason. `SYSTEM_ERROR`,
/// `CONCURRENT_REQUEST` and the like are not among them, nor is what Alipay may add: what happened is then not known.
const REASONS: [(&str, DeclineScope); 55] = [
    // The payer.
    ("BUYER_BALANCE_NOT_ENOUGH", Customer),
    ("BUYER_BANKCARD_BALANCE_NOT_ENOUGH", Customer),
    ("BUYER_ENABLE_STATUS_FORBID", Customer),
    ("BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR", Customer),
    ("BUYER_PAYMENT_AMOUNT_MONTH_LIMIT_ERROR", Customer),
    ("ERROR_BALANCE_PAYMENT_DISABLE", Customer),
    ("ERROR_BUYER_CERTIFY_LEVEL_LIMIT", Customer),
    ("MOBILE_PAYMENT_SWITCH_OFF", Customer),
    ("NO_PAYMENT_INSTRUMENTS_AVAILABLE", Customer),
    ("PAYMENT_AUTH_CODE_INVALID", Customer),
    ("PULL_MOBILE_CASHIER_FAIL", Customer),
    ("SOUNDWAVE_PARSER_FAIL", Customer),
    ("TRADE_BUYER_NOT_MATCH", Customer),
    ("USER_FACE_PAYMENT_SWITCH_OFF", Customer),
    // The payer's bank, or Alipay's judgement of the payer: no way around it through another channel.
    ("BUYER_BANKCARD_FORBID", Bank),
    ("PAYMENT_FAIL", Bank),
    ("PAYMENT_REQUEST_HAS_RISK", Bank),
    // The content of the request, which is its sender's matter.
    ("BUYER_SELLER_EQUAL", Customer),
    ("EXIST_FORBIDDEN_WORD", Customer),
    ("ILLEGAL_ARGUMENT", Customer),
    ("INVALID_PARAMETER", Customer),
    ("SUBJECT_CAN_NOT_BE_EMPTY", Customer),
    // The amount, which another channel may take.
    ("TOTAL_FEE_EXCEED", Processor),
    // The application or the merchant's account at Alipay.
    ("ACCESS_FORBIDDEN", Processor),
    ("BEYOND_PAY_RESTRICTION", Processor),
    ("BEYOND_PER_RECEIPT_RESTRICTION", Processor),
    ("HAS_NO_PRIVILEGE", Processor),
    ("INVALID_RECEIVE_ACCOUNT", Processor),
    ("PARTNER_ERROR", Processor),
    ("SELLER_BALANCE_NOT_ENOUGH", Processor),
    ("SELLER_BEEN_BLOCKED", Processor),
    ("SELLER_NOT_EXIST", Processor),
    // A trade or refund that is there already: nobody may take it for never made.
    ("CONTEXT_INCONSISTENT", Unknown),
    ("DISCORDANT_REPEAT_REQUEST", Unknown),
    ("NOT_ALLOW_PARTIAL_REFUND", Unknown),
    ("REASON_TRADE_BEEN_FREEZEN", Unknown),
    ("REASON_TRADE_REFUND_FEE_ERR", Unknown),
    ("REASON_TRADE_STATUS_INVALID", Unknown),
    ("REFUND_AMT_NOT_EQUAL_TOTAL", Unknown),
    ("TRADE_HAS_CLOSE", Unknown),
    ("TRADE_HAS_SUCCESS", Unknown),
    ("TRADE_NOT_ALLOW_REFUND", Unknown),
    ("TRADE_NOT_EXIST", Unknown),
    ("TRADE_STATUS_ERROR", Unknown),
    // Held money that is not there, not there any more, or not enough: where it stands has to be asked.
    ("AUTH_AMOUNT_NOT_ENOUGH", Unknown),
    ("AUTH_NO_ERROR", Unknown),
    ("AUTH_OPERATION_NOT_EXIST", Unknown),
    ("AUTH_ORDER_HAS_CLOSED", Unknown),
    ("AUTH_ORDER_HAS_FINISHED", Unknown),
    ("AUTH_ORDER_NOT_EXIST", Unknown),
    ("AUTH_ORDER_NOT_PAID", Unknown),
    ("ORDER_ALREADY_CLOSED", Unknown),
    ("ORDER_ALREADY_FINISH", Unknown),
    ("PRE_AUTH_PROD_CODE_INCONSISTENT", Unknown),
    ("REQUEST_AMOUNT_EXCEED", Unknown),
];

/// Reasons about the content of the request.
const WRONG_REQUESTS: [&str; 5] =
    ["BUYER_SELLER_EQUAL", "EXIST_FORBIDDEN_WORD", "ILLEGAL_ARGUMENT", "INVALID_PARAMETER", "SUBJECT_CAN_NOT_BE_EMPTY"];

/// Reasons that say that a number is in use, so that what for has to be asked.
const USED_NUMBERS: [&str; 7] = [
    "AUTH_ORDER_HAS_CLOSED",
    "AUTH_ORDER_HAS_FINISHED",
    "CONTEXT_INCONSISTENT",
    "ORDER_ALREADY_CLOSED",
    "ORDER_ALREADY_FINISH",
    "TRADE_HAS_CLOSE",
    "TRADE_HAS_SUCCESS",
];

/// Who is the reason for a business failure; `None` when the reason is not known, or says nothing for certain.
fn scope_of_reason(reason: &str) -> Option<DeclineScope> {
    REASONS.iter().find(|(known, _)| *known == reason).map(|(_, scope)| *scope)
}

/// The reason in a sub-code without its prefix (`ACQ.`, which Alipay now and then misspells); `None` when there is none.
fn reason_of(sub_code: &str) -> Option<&str> {
    sub_code.rsplit('.').next().filter(|reason| !reason.is_empty())
}

impl Refusal {
    /// Whether its reason is this one, without the prefix (`ACQ.` or `AQC.`).
    pub(super) fn is(&self, reason: &str) -> bool {
        self.reason() == reason
    }

    /// Whether it was refused because its number was used before, for whatever it was.
    pub(super) fn is_used_number(&self) -> bool {
        self.code == "40004" && USED_NUMBERS.contains(&self.reason())
    }

    /// Whether Alipay knows no such freeze.
    pub(super) fn is_no_freeze(&self) -> bool {
        self.is("AUTH_ORDER_NOT_EXIST") || self.is("AUTH_OPERATION_NOT_EXIST")
    }

    /// Whether Alipay is called too often, so that nothing is refused but this try.
    pub(super) fn is_call_limit(&self) -> bool {
        self.code == "40005" || self.reason() == "app-call-limited"
    }

    /// Whether the payer's side refused, rather than Alipay the request.
    pub(super) fn is_decline(&self) -> bool {
        matches!(self.scope(), DeclineScope::Customer | DeclineScope::Bank | DeclineScope::Network)
    }

    /// The failure that it means.
    pub(super) fn failure(&self) -> Failure {
        let code = match self.reason() {
            "BUYER_BALANCE_NOT_ENOUGH" | "BUYER_BANKCARD_BALANCE_NOT_ENOUGH" => String::from("insufficient_funds"),
            "TOTAL_FEE_EXCEED" => AMOUNT_NOT_SUPPORTED.to_owned(),
            "" => format!("alipay_{}", self.code),
            reason => reason.to_ascii_lowercase().replace('-', "_"),
        };
        Failure::new(code, self.sentence(), self.scope())
    }

    fn reason(&self) -> &str {
        reason_of(&self.sub_code).unwrap_or_default()
    }

    fn scope(&self) -> DeclineScope {
        match self.code.as_str() {
            "40004" => scope_of_reason(self.reason()).unwrap_or(Unknown),
            // Refused at the door: credentials, permissions, limits of calls.
            _ if self.is_wrong_request() => Customer,
            _ => Processor,
        }
    }

    /// Whether Alipay found the content of the request wrong, which is its sender's matter and no trouble of Alipay's.
    fn is_wrong_request(&self) -> bool {
        match self.code.as_str() {
            "40001" | "40002" => self.reason() == "invalid-parameter",
            "40004" => WRONG_REQUESTS.contains(&self.reason()),
            _ => false,
        }
    }

    fn sentence(&self) -> &'static str {
        match (self.code.as_str(), self.reason()) {
            ("40005", _) => "Alipay's rate limit is reached.",
            ("20001" | "40006", _) => "Alipay does not accept this gateway's credentials.",
            ("40004", "BUYER_BALANCE_NOT_ENOUGH" | "BUYER_BANKCARD_BALANCE_NOT_ENOUGH") => {
                "The payer's account has not enough funds."
            }
            ("40004", "PAYMENT_AUTH_CODE_INVALID") => "The payment code is wrong or too old.",
            ("40004", "PAYMENT_REQUEST_HAS_RISK") => "The payment was refused as too risky.",
            _ if self.is_wrong_request() => "Alipay refused the request as wrong.",
            ("40004", _) if self.is_decline() => "The payment was declined.",
            _ => "Alipay refused the request.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(raw: &str) -> Reply<serde_json::Value> {
        reply_of(raw).unwrap()
    }

    #[test]
    fn only_clear_refusals_are_refusals() {
        assert!(matches!(class(r#"{"code":"10000","msg":"Success"}"#), Reply::Done(_)));
        assert_eq!(class(r#"{"code":"10003"}"#), Reply::Waiting);
        for raw in [
            r#"{"code":"20000","sub_code":"isp.unknow-error"}"#,
            r#"{"code":"40004","sub_code":"ACQ.SYSTEM_ERROR"}"#,
            r#"{"code":"40004","sub_code":"AQC.SYSTEM_ERROR"}"#,
            r#"{"code":"40004","sub_code":"ACQ.CONCURRENT_REQUEST"}"#,
            r#"{"code":"40004","sub_code":"ACQ.A_REASON_OF_NEXT_YEAR"}"#,
            r#"{"code":"40004","sub_code":""}"#,
            r#"{"code":"40004"}"#,
            r#"{"code":"99999"}"#,
        ] {
            assert!(matches!(class(raw), Reply::Unclear(_)), "{raw}");
        }
        for raw in [
            r#"{"code":"40002","sub_code":"isv.invalid-signature"}"#,
            r#"{"code":"40005","sub_code":"isv.app-call-limited"}"#,
            r#"{"code":"40004","sub_code":"ACQ.TRADE_HAS_CLOSE"}"#,
        ] {
            assert!(matches!(class(raw), Reply::Refused(_)), "{raw}");
        }
        assert!(reply_of::<serde_json::Value>(r#"{"msg":"no code"}"#).is_err());
    }

    #[test]
    fn every_reason_has_its_place_and_only_alipays_own_leave_room_for_another_channel() {
        let mut reasons: Vec<&str> = REASONS.iter().map(|(reason, _)| *reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), REASONS.len());
        assert!(WRONG_REQUESTS.iter().all(|reason| scope_of_reason(reason) == Some(Customer)));
        assert!(USED_NUMBERS.iter().all(|reason| scope_of_reason(reason) == Some(Unknown)));
        let others_turn: Vec<&str> =
            REASONS.iter().filter(|(_, scope)| *scope == Processor).map(|(reason, _)| *reason).collect();
        assert_eq!(
            others_turn,
            [
                "TOTAL_FEE_EXCEED",
                "ACCESS_FORBIDDEN",
                "BEYOND_PAY_RESTRICTION",
                "BEYOND_PER_RECEIPT_RESTRICTION",
                "HAS_NO_PRIVILEGE",
                "INVALID_RECEIVE_ACCOUNT",
                "PARTNER_ERROR",
                "SELLER_BALANCE_NOT_ENOUGH",
                "SELLER_BEEN_BLOCKED",
                "SELLER_NOT_EXIST",
            ]
        );
        for reason in ["SYSTEM_ERROR", "CONCURRENT_REQUEST", "A_REASON_OF_NEXT_YEAR", ""] {
            assert_eq!(scope_of_reason(reason), None, "{reason}");
        }
        // A number that is in use may be a charge: nobody else is asked for it.
        for reason in ["TRADE_HAS_SUCCESS", "TRADE_HAS_CLOSE", "CONTEXT_INCONSISTENT"] {
            assert_eq!(scope_of_reason(reason), Some(Unknown), "{reason}");
        }
    }

    #[test]
    fn scopes_say_who_refused() {
        let failure = |code: &str, sub_code: &str| {
            let failure = Refusal { code: code.to_owned(), sub_code: sub_code.to_owned() }.failure();
            (failure.code, failure.decline_scope)
        };
        assert_eq!(
            failure("40004", "ACQ.BUYER_BALANCE_NOT_ENOUGH"),
            (String::from("insufficient_funds"), DeclineScope::Customer)
        );
        assert_eq!(failure("40004", "ACQ.PAYMENT_FAIL"), (String::from("payment_fail"), DeclineScope::Bank));
        assert_eq!(
            failure("40005", "isv.app-call-limited"),
            (String::from("app_call_limited"), DeclineScope::Processor)
        );
        assert_eq!(failure("40001", ""), (String::from("alipay_40001"), DeclineScope::Processor));
        assert_eq!(failure("40002", "isv.invalid-signature").1, DeclineScope::Processor);
        assert_eq!(failure("40002", "isv.invalid-parameter").1, DeclineScope::Customer);
        assert_eq!(failure("40004", "ACQ.INVALID_PARAMETER").1, DeclineScope::Customer);
    }
}
