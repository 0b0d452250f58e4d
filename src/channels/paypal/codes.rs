//! PayPal's issues: what a refusal means, who refused, and whether another try is advised.

use crate::channels::DeclineScope::{Bank, Customer, Processor};
use crate::channels::paypal::response::ErrorReply;
use crate::channels::{AMOUNT_NOT_SUPPORTED, DeclineScope, Failure};
use crate::domain::outcome::RetryAdvice;
use crate::domain::outcome::RetryAdvice::{Corrected, Later, Never, NotNow};

/// What an issue means.
type Meaning = (&'static str, DeclineScope, Option<RetryAdvice>);

/// Issues by who is the reason. What is not among them is nobody's known reason, so that no other channel is asked.
const ISSUES: [Meaning; 47] = [
    // The payer, or the payer's means of payment.
    ("CARD_EXPIRED", Customer, Some(Corrected)),
    ("COMPLIANCE_VIOLATION", Customer, None),
    ("MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED", Customer, Some(NotNow)),
    ("PAYER_ACCOUNT_LOCKED_OR_CLOSED", Customer, Some(Never)),
    ("PAYER_ACCOUNT_RESTRICTED", Customer, Some(Never)),
    ("PAYER_ACTION_REQUIRED", Customer, None),
    ("PAYER_CANNOT_PAY", Customer, Some(Corrected)),
    ("PAYER_COUNTRY_NOT_SUPPORTED", Customer, None),
    ("PAYMENT_SOURCE_CANNOT_BE_USED", Customer, Some(Corrected)),
    ("PAYMENT_SOURCE_DECLINED_BY_PROCESSOR", Bank, Some(Later)),
    ("TOKEN_ID_NOT_FOUND", Customer, Some(Corrected)),
    // The bank behind the payer, or PayPal's judgement of the payer: no way around it through another channel.
    ("CARD_CLOSED", Bank, Some(Never)),
    ("INSTRUMENT_DECLINED", Bank, Some(Later)),
    ("PAYMENT_DENIED", Bank, None),
    ("REDIRECT_PAYER_FOR_ALTERNATE_FUNDING", Bank, Some(Corrected)),
    ("TRANSACTION_BLOCKED_BY_PAYEE", Bank, None),
    ("TRANSACTION_REFUSED", Bank, None),
    // The content of the request, which is its sender's matter.
    ("INVALID_PARAMETER_SYNTAX", Customer, None),
    ("INVALID_PARAMETER_VALUE", Customer, None),
    ("INVALID_STRING_LENGTH", Customer, None),
    ("MISSING_REQUIRED_PARAMETER", Customer, None),
    ("CURRENCY_MISMATCH", Customer, None),
    // The amount, which another channel may take.
    ("CANNOT_BE_ZERO_OR_NEGATIVE", Processor, None),
    ("CURRENCY_NOT_SUPPORTED", Processor, None),
    ("DECIMALS_NOT_SUPPORTED", Processor, None),
    ("DECIMAL_PRECISION", Processor, None),
    ("INVALID_CURRENCY_CODE", Processor, None),
    ("TRANSACTION_AMOUNT_EXCEEDS_MONTHLY_MAX_LIMIT", Processor, None),
    ("TRANSACTION_LIMIT_EXCEEDED", Processor, None),
    // The account at PayPal, or PayPal.
    ("CONSENT_NEEDED", Processor, None),
    ("PAYEE_ACCOUNT_INVALID", Processor, None),
    ("PAYEE_ACCOUNT_LOCKED_OR_CLOSED", Processor, None),
    ("PAYEE_ACCOUNT_RESTRICTED", Processor, None),
    ("PAYEE_BLOCKED_TRANSACTION", Processor, None),
    ("PAYEE_NOT_ENABLED_FOR_CARD_PROCESSING", Processor, None),
    ("PERMISSION_DENIED", Processor, None),
    ("RATE_LIMIT_REACHED", Processor, Some(Later)),
    ("REFUND_FAILED_INSUFFICIENT_FUNDS", Processor, Some(Later)),
    // What is there already, and what can be done with it no more.
    ("AUTHORIZATION_ALREADY_CAPTURED", DeclineScope::Unknown, None),
    ("AUTHORIZATION_EXPIRED", DeclineScope::Unknown, None),
    ("AUTHORIZATION_VOIDED", DeclineScope::Unknown, None),
    ("CAPTURE_FULLY_REFUNDED", DeclineScope::Unknown, None),
    ("MAX_CAPTURE_AMOUNT_EXCEEDED", DeclineScope::Unknown, None),
    ("ORDER_EXPIRED", DeclineScope::Unknown, None),
    ("REAUTHORIZATION_NOT_SUPPORTED", DeclineScope::Unknown, None),
    ("REFUND_AMOUNT_EXCEEDED", DeclineScope::Unknown, None),
    ("REFUND_TIME_LIMIT_EXCEEDED", DeclineScope::Unknown, None),
];

/// Issues after which it is open what an earlier request with the same names did, or still does.
const IN_DOUBT: [&str; 7] = [
    "DUPLICATE_INVOICE_ID",
    "DUPLICATE_REQUEST_ID",
    "ORDER_ALREADY_AUTHORIZED",
    "ORDER_ALREADY_CAPTURED",
    "ORDER_COMPLETED_OR_VOIDED",
    "PREVIOUS_REQUEST_IN_PROGRESS",
    "RESOURCE_CONFLICT",
];

/// Issues about the amount or its currency.
const AMOUNTS: [&str; 7] = [
    "CANNOT_BE_ZERO_OR_NEGATIVE",
    "CURRENCY_NOT_SUPPORTED",
    "DECIMALS_NOT_SUPPORTED",
    "DECIMAL_PRECISION",
    "INVALID_CURRENCY_CODE",
    "TRANSACTION_AMOUNT_EXCEEDS_MONTHLY_MAX_LIMIT",
    "TRANSACTION_LIMIT_EXCEEDED",
];

fn meaning_of(issue: &str) -> Option<&'static Meaning> {
    ISSUES.iter().find(|(known, ..)| *known == issue)
}

impl ErrorReply {
    /// Whether PayPal certainly did nothing because of this request.
    pub(super) fn is_definite(&self) -> bool {
        match self.status {
            // Turned away at the door.
            401 | 429 => true,
            400 | 403 | 404 | 405 | 413 | 415 | 422 => self.is_paypals() && !IN_DOUBT.contains(&self.issue()),
            _ => false,
        }
    }

    /// Whether what it says holds for an earlier try of the same request too: it was looked at, and refused.
    pub(super) fn is_about_the_request(&self) -> bool {
        self.is_definite() && matches!(self.status, 400 | 404 | 422)
    }

    /// Whether the payer's side refused, rather than PayPal the request.
    pub(super) fn is_decline(&self) -> bool {
        self.status == 422 && self.is_definite() && matches!(self.scope(), Customer | Bank) && !self.is_wrong_request()
    }

    /// The failure that it means.
    pub(super) fn failure(&self) -> Failure {
        let issue = self.issue();
        let code = match issue {
            amount if AMOUNTS.contains(&amount) => AMOUNT_NOT_SUPPORTED.to_owned(),
            "" => format!("paypal_{}", self.status),
            issue => issue.to_ascii_lowercase(),
        };
        let advice = meaning_of(issue).and_then(|(.., advice)| *advice);
        Failure { advice, ..Failure::new(code, self.sentence(), self.scope()) }
    }

    fn scope(&self) -> DeclineScope {
        match (self.status, meaning_of(self.issue())) {
            (_, Some((_, scope, _))) => *scope,
            (401 | 403 | 429, None) => Processor,
            (400, None) => Customer,
            _ => DeclineScope::Unknown,
        }
    }

    fn is_wrong_request(&self) -> bool {
        let known =
            ["INVALID_PARAMETER_SYNTAX", "INVALID_PARAMETER_VALUE", "INVALID_STRING_LENGTH", "CURRENCY_MISMATCH"];
        self.status == 400 || known.contains(&self.issue()) || self.issue() == "MISSING_REQUIRED_PARAMETER"
    }

    fn sentence(&self) -> &'static str {
        match (self.status, self.issue()) {
            (401 | 403, _) => "PayPal does not accept this gateway's credentials.",
            (429, _) => "PayPal's rate limit is reached.",
            (_, issue) if AMOUNTS.contains(&issue) => "PayPal can't take this amount in this currency.",
            _ if self.is_wrong_request() => "PayPal refused the request as wrong.",
            _ if self.is_decline() => "The payment was declined.",
            _ => "PayPal refused the request.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, issue: &str) -> ErrorReply {
        ErrorReply {
            status,
            name: Some(String::from("UNPROCESSABLE_ENTITY")),
            issue: Some(issue.to_owned()).filter(|issue| !issue.is_empty()),
            debug_id: None,
        }
    }

    #[test]
    fn every_issue_has_one_place() {
        let mut issues: Vec<&str> = ISSUES.iter().map(|(issue, ..)| *issue).collect();
        issues.sort_unstable();
        issues.dedup();
        assert_eq!(issues.len(), ISSUES.len());
        assert!(IN_DOUBT.iter().all(|issue| meaning_of(issue).is_none()));
        assert!(AMOUNTS.iter().all(|issue| matches!(meaning_of(issue), Some((_, Processor, _)))));
    }

    #[test]
    fn what_leaves_doubt_is_no_refusal() {
        for issue in IN_DOUBT {
            assert!(!reply(422, issue).is_definite(), "{issue}");
        }
        for status in [409, 500, 502, 503, 504, 302] {
            assert!(!reply(status, "INSTRUMENT_DECLINED").is_definite(), "{status}");
        }
        let of_a_proxy = ErrorReply { status: 403, name: None, issue: None, debug_id: None };
        assert!(!of_a_proxy.is_definite());
        assert!(reply(422, "AN_ISSUE_OF_NEXT_YEAR").is_definite());
        assert_eq!(reply(422, "AN_ISSUE_OF_NEXT_YEAR").failure().decline_scope, DeclineScope::Unknown);
    }

    #[test]
    fn declines_are_the_payer_s_side_only() {
        for issue in ["INSTRUMENT_DECLINED", "PAYER_CANNOT_PAY", "TRANSACTION_REFUSED"] {
            assert!(reply(422, issue).is_decline(), "{issue}");
        }
        for issue in ["PAYEE_ACCOUNT_RESTRICTED", "DECIMAL_PRECISION", "INVALID_PARAMETER_VALUE", "", "UNHEARD_OF"] {
            assert!(!reply(422, issue).is_decline(), "{issue}");
        }
        let failure = reply(422, "INSTRUMENT_DECLINED").failure();
        assert_eq!((failure.code.as_str(), failure.decline_scope), ("instrument_declined", Bank));
        assert_eq!(failure.advice, Some(Later));
        assert_eq!(reply(422, "DECIMAL_PRECISION").failure().code, AMOUNT_NOT_SUPPORTED);
        assert_eq!(reply(429, "").failure().decline_scope, Processor);
        assert_eq!(reply(401, "").failure().code, "paypal_401");
    }
}
