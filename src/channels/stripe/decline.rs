//! Who refused, by Stripe's codes, and what a merchant is told about it.

use crate::channels::stripe::response::{ApiError, ErrorReply};
use crate::channels::{DeclineScope, Failure};

/// The failure that a decline (HTTP 402, or a PaymentIntent's last error) means.
pub(super) fn decline(error: &ApiError) -> Failure {
    let decline_code = error.decline_code.as_deref().filter(|code| *code != "generic_decline");
    let code = decline_code.or(error.code.as_deref()).unwrap_or("card_declined");
    let scope = scope_of(code);
    // Whatever the code: when the network advises against another try, another channel must not be asked either.
    let final_for_all = error.advice_code.as_deref() == Some("do_not_try_again");
    let scope = match scope {
        DeclineScope::Processor | DeclineScope::Network | DeclineScope::Unknown if final_for_all => DeclineScope::Bank,
        scope => scope,
    };
    Failure::new(code, sentence(code), scope)
}

fn scope_of(code: &str) -> DeclineScope {
    match code {
        "authentication_required"
        | "card_velocity_exceeded"
        | "expired_card"
        | "incorrect_address"
        | "incorrect_cvc"
        | "incorrect_number"
        | "incorrect_pin"
        | "incorrect_zip"
        | "insufficient_funds"
        | "invalid_cvc"
        | "invalid_expiry_month"
        | "invalid_expiry_year"
        | "invalid_number"
        | "invalid_pin"
        | "online_or_offline_pin_required"
        | "payment_intent_authentication_failure"
        | "payment_intent_payment_attempt_expired"
        | "pin_try_exceeded"
        | "setup_intent_authentication_failure"
        | "withdrawal_count_limit_exceeded" => DeclineScope::Customer,
        "approve_with_id"
        | "call_issuer"
        | "card_declined"
        | "card_not_supported"
        | "currency_not_supported"
        | "do_not_honor"
        | "do_not_try_again"
        | "fraudulent"
        | "invalid_account"
        | "lost_card"
        | "new_account_information_available"
        | "no_action_taken"
        | "not_permitted"
        | "pickup_card"
        | "restricted_card"
        | "revocation_of_all_authorizations"
        | "revocation_of_authorization"
        | "security_violation"
        | "service_not_allowed"
        | "stolen_card"
        | "stop_payment_order"
        | "transaction_not_allowed"
        | "try_again_later" => DeclineScope::Bank,
        "issuer_not_available" | "reenter_transaction" => DeclineScope::Network,
        "duplicate_transaction" | "merchant_blacklist" | "processing_error" | "testmode_decline" => {
            DeclineScope::Processor
        }
        _ => DeclineScope::Unknown,
    }
}

fn sentence(code: &str) -> &'static str {
    match code {
        "insufficient_funds" => "The card has not enough funds.",
        // What the bank says about theft stays with the merchant's staff, so that it is not told to the payer's face.
        "lost_card" | "stolen_card" | "pickup_card" => "The card was refused by the bank for good.",
        "fraudulent" | "merchant_blacklist" => "The payment was refused as suspicious.",
        "expired_card" => "The card has expired.",
        "incorrect_cvc" | "invalid_cvc" => "The card's security code is wrong.",
        "incorrect_number" | "invalid_number" => "The card's number is wrong.",
        "authentication_required" => "The bank wants the payer to authenticate.",
        "payment_intent_authentication_failure" => "The payer did not authenticate.",
        "card_velocity_exceeded" => "The card has reached its limit.",
        "processing_error" => "The card could not be processed.",
        "issuer_not_available" => "The bank could not be reached.",
        _ => "The card was declined.",
    }
}

/// The failure that any other refusal of a request means. Refused credentials, a limit reached or trouble at Stripe are
/// the channel's matter, so that another one may be tried; a request that Stripe finds wrong (a token that does not
/// exist) is its sender's, and says nothing about the channel.
pub(super) fn refusal(reply: &ErrorReply) -> Failure {
    let code = match (reply.error.code.as_deref(), reply.status) {
        (Some(code), _) => code,
        (None, 401) => "invalid_credentials",
        (None, 403) => "permission_denied",
        (None, 429) => "rate_limit",
        (None, _) => reply.error.kind.as_deref().unwrap_or("invalid_request"),
    };
    let message = match reply.status {
        401 | 403 => "Stripe does not accept this gateway's credentials.",
        429 => "Stripe's rate limit is reached.",
        404 => "Stripe does not know what the request names.",
        _ => "Stripe refused the request as wrong.",
    };
    let scope = match reply.status {
        400 | 404 => DeclineScope::Customer,
        _ => DeclineScope::Processor,
    };
    Failure::new(code, message, scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, decline_code: Option<&str>, advice_code: Option<&str>) -> ApiError {
        ApiError {
            code: Some(code.to_owned()),
            decline_code: decline_code.map(str::to_owned),
            advice_code: advice_code.map(str::to_owned),
            ..ApiError::default()
        }
    }

    #[test]
    fn the_most_exact_code_counts() {
        let of = |code, decline_code| {
            let failure = decline(&error(code, decline_code, None));
            (failure.code, failure.decline_scope)
        };
        let expected = |code: &str, scope| (code.to_owned(), scope);
        assert_eq!(of("card_declined", Some("generic_decline")), expected("card_declined", DeclineScope::Bank));
        assert_eq!(
            of("card_declined", Some("insufficient_funds")),
            expected("insufficient_funds", DeclineScope::Customer)
        );
        assert_eq!(of("card_declined", Some("stolen_card")), expected("stolen_card", DeclineScope::Bank));
        assert_eq!(of("expired_card", None), expected("expired_card", DeclineScope::Customer));
        assert_eq!(of("processing_error", None), expected("processing_error", DeclineScope::Processor));
        assert_eq!(of("brand_new_code", None), expected("brand_new_code", DeclineScope::Unknown));
    }

    #[test]
    fn a_wrong_request_is_its_sender_s_and_the_rest_the_channel_s() {
        let scope = |status| {
            let error = ApiError { kind: Some(String::from("invalid_request_error")), ..ApiError::default() };
            refusal(&ErrorReply { status, replayed: false, error }).decline_scope
        };
        for status in [400, 404] {
            assert_eq!(scope(status), DeclineScope::Customer, "{status}");
        }
        for status in [401, 403, 429, 500, 503] {
            assert_eq!(scope(status), DeclineScope::Processor, "{status}");
        }
    }

    #[test]
    fn advice_against_another_try_keeps_other_channels_out() {
        let failure = decline(&error("processing_error", None, Some("do_not_try_again")));
        assert_eq!(failure.decline_scope, DeclineScope::Bank);
    }
}
