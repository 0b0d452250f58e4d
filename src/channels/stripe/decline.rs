//! Who refused, by Stripe's codes, and what a merchant is told about it.

use crate::channels::stripe::response::{ApiError, ErrorReply};
use crate::channels::stripe::{amount_not_supported, codes};
use crate::channels::{DeclineScope, Failure};
use crate::domain::outcome::RetryAdvice;

/// Longest code of a card network that is kept; they have two or three characters.
const NETWORK_CODE_LENGTH_MAX: usize = 8;

/// The failure that a decline (HTTP 402, or a PaymentIntent's last error) means.
pub(super) fn decline(error: &ApiError) -> Failure {
    let decline_code = error.decline_code.as_deref().filter(|code| *code != "generic_decline");
    let code = decline_code.or(error.code.as_deref()).unwrap_or("card_declined");
    let meaning = codes::meaning_of(code);
    let network_code = network_code_in(error.network_decline_code.as_deref());
    let network_advice_code = network_code_in(error.network_advice_code.as_deref());
    // The strictest of all that was said counts.
    let advice = [
        meaning.advice,
        error.advice_code.as_deref().and_then(codes::advice_of),
        network_code.as_deref().and_then(codes::advice_of_network_code),
        network_advice_code.as_deref().and_then(codes::advice_of_network_advice),
    ];
    let advice = advice.into_iter().flatten().max();
    // Whatever the code: what is advised against for good was refused by the card's bank or for it.
    let scope = match meaning.scope {
        DeclineScope::Processor | DeclineScope::Network | DeclineScope::Unknown
            if advice == Some(RetryAdvice::Never) =>
        {
            DeclineScope::Bank
        }
        scope => scope,
    };
    Failure { advice, network_code, network_advice_code, ..Failure::new(code, sentence(code), scope) }
}

/// A network's code, if it looks like one.
fn network_code_in(text: Option<&str>) -> Option<String> {
    let looks_right = |text: &&str| {
        (1..=NETWORK_CODE_LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    text.filter(looks_right).map(str::to_ascii_uppercase)
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
        400 if codes::scope_of_request(code, 400) == DeclineScope::Processor => {
            "Stripe does not let this gateway's account do that."
        }
        _ => "Stripe refused the request as wrong.",
    };
    if codes::is_about_amount(code) {
        return amount_not_supported();
    }
    Failure::new(code, message, codes::scope_of_request(code, reply.status))
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
        assert_eq!(failure.advice, Some(RetryAdvice::Never));
    }

    #[test]
    fn the_strictest_advice_counts_and_the_networks_own_codes_are_kept() {
        let of = |advice_code, network_code: Option<&str>, network_advice_code: Option<&str>| {
            let failure = decline(&ApiError {
                network_decline_code: network_code.map(str::to_owned),
                network_advice_code: network_advice_code.map(str::to_owned),
                ..error("processing_error", None, advice_code)
            });
            (failure.advice, failure.decline_scope, failure.network_code, failure.network_advice_code)
        };
        let text = |text: &str| Some(text.to_owned());
        let later = Some("try_again_later");
        assert_eq!(of(None, None, None), (None, DeclineScope::Processor, None, None));
        assert_eq!(
            of(later, Some("51"), Some("02")),
            (Some(RetryAdvice::Later), DeclineScope::Processor, text("51"), text("02"))
        );
        assert_eq!(of(later, Some("R1"), None), (Some(RetryAdvice::Never), DeclineScope::Bank, text("R1"), None));
        assert_eq!(of(later, None, Some("21")), (Some(RetryAdvice::Never), DeclineScope::Bank, None, text("21")));
        assert_eq!(of(later, None, Some("24")), (Some(RetryAdvice::NotNow), DeclineScope::Processor, None, text("24")));
        assert_eq!(
            of(Some("confirm_card_data"), None, None),
            (Some(RetryAdvice::Corrected), DeclineScope::Processor, None, None)
        );
        // What is no code is not kept.
        assert_eq!(of(None, Some("a sentence"), Some("")), (None, DeclineScope::Processor, None, None));
    }

    #[test]
    fn what_is_wrong_with_the_account_is_the_channel_s_matter() {
        let scope =
            |code| refusal(&ErrorReply { status: 400, replayed: false, error: error(code, None, None) }).decline_scope;
        for code in ["testmode_charges_only", "payment_method_unactivated", "api_key_expired", "account_invalid"] {
            assert_eq!(scope(code), DeclineScope::Processor, "{code}");
        }
        for code in ["resource_missing", "parameter_invalid_empty", "a_code_of_next_year"] {
            assert_eq!(scope(code), DeclineScope::Customer, "{code}");
        }
    }

    #[test]
    fn an_amount_that_stripe_refuses_is_another_channels_chance() {
        for code in ["amount_too_small", "amount_too_large", "invalid_currency", "charge_exceeds_transaction_limit"] {
            let reply = ErrorReply { status: 400, replayed: false, error: error(code, None, None) };
            assert_eq!(refusal(&reply), amount_not_supported(), "{code}");
        }
    }
}
