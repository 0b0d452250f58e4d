//! Stripe's codes: who refused, and what is advised. One table for declines, one for requests, one for each network's own
//! codes; nothing else in the adapter knows a code's meaning.
//!
//! A code that is not here was refused by nobody knows whom, so that no other channel is asked.

use crate::channels::DeclineScope;
use crate::channels::DeclineScope::{Bank, Customer, Network, Processor, Unknown};
use crate::domain::outcome::RetryAdvice;
use crate::domain::outcome::RetryAdvice::{Corrected, Later, Never, NotNow};

/// What a decline's code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) scope: DeclineScope,
    /// What follows from the code alone.
    pub(super) advice: Option<RetryAdvice>,
}

/// Codes of declines (`decline_code`, and `code` where there is none): who refused, and what the code itself advises.
const DECLINES: &[(&str, DeclineScope, Option<RetryAdvice>)] = &[
    // Stripe itself, or what it works with: another provider may well take it.
    ("payment_method_not_available", Processor, None),
    ("payment_method_provider_timeout", Processor, None),
    ("processing_error", Processor, None),
    ("three_d_secure_authentication_upstream_error", Processor, None),
    // The network did not get through to the bank, or wants it sent again.
    ("issuer_not_available", Network, None),
    ("reenter_transaction", Network, None),
    // The bank: it would say the same to any provider.
    ("approve_with_id", Bank, None),
    ("call_issuer", Bank, None),
    ("card_declined", Bank, None),
    ("card_not_supported", Bank, None),
    ("currency_not_supported", Bank, None),
    ("do_not_honor", Bank, None),
    ("generic_decline", Bank, None),
    ("invalid_amount", Bank, None),
    ("new_account_information_available", Bank, Some(Corrected)),
    ("no_action_taken", Bank, None),
    ("not_permitted", Bank, None),
    ("payment_method_provider_decline", Bank, None),
    ("security_violation", Bank, None),
    ("service_not_allowed", Bank, None),
    ("transaction_not_allowed", Bank, None),
    ("try_again_later", Bank, Some(Later)),
    // A payment like it was made a moment ago and may have been charged.
    ("duplicate_transaction", Bank, Some(NotNow)),
    // For good: a lost card stays lost.
    ("do_not_try_again", Bank, Some(Never)),
    ("fraudulent", Bank, Some(Never)),
    ("invalid_account", Bank, Some(Never)),
    ("lost_card", Bank, Some(Never)),
    ("pickup_card", Bank, Some(Never)),
    ("restricted_card", Bank, Some(Never)),
    ("revocation_of_all_authorizations", Bank, Some(Never)),
    ("revocation_of_authorization", Bank, Some(Never)),
    ("stolen_card", Bank, Some(Never)),
    ("stop_payment_order", Bank, Some(Never)),
    // The payer: too little money, wrong data, did not authenticate.
    ("authentication_not_handled", Customer, None),
    ("authentication_required", Customer, None),
    ("card_decline_rate_limit_exceeded", Customer, Some(NotNow)),
    ("card_velocity_exceeded", Customer, None),
    ("expired_card", Customer, Some(Corrected)),
    ("incorrect_address", Customer, Some(Corrected)),
    ("incorrect_cvc", Customer, Some(Corrected)),
    ("incorrect_number", Customer, Some(Corrected)),
    ("incorrect_pin", Customer, Some(Corrected)),
    ("incorrect_postal_code", Customer, Some(Corrected)),
    ("incorrect_zip", Customer, Some(Corrected)),
    ("insufficient_funds", Customer, None),
    ("invalid_cvc", Customer, Some(Corrected)),
    ("invalid_expiry_month", Customer, Some(Corrected)),
    ("invalid_expiry_year", Customer, Some(Corrected)),
    ("invalid_number", Customer, Some(Corrected)),
    ("invalid_pin", Customer, Some(Corrected)),
    ("mobile_device_authentication_required", Customer, None),
    ("offline_pin_required", Customer, None),
    ("online_or_offline_pin_required", Customer, None),
    ("payment_intent_authentication_failure", Customer, None),
    ("payment_intent_payment_attempt_expired", Customer, None),
    ("payment_method_customer_decline", Customer, None),
    ("pin_try_exceeded", Customer, None),
    ("setup_intent_authentication_failure", Customer, None),
    ("testmode_decline", Customer, Some(Corrected)),
    ("withdrawal_count_limit_exceeded", Customer, None),
    // The merchant's own list: another provider must not be a way around it.
    ("merchant_blacklist", Customer, Some(Never)),
    // Stripe does not say.
    ("payment_intent_payment_attempt_failed", Unknown, None),
];

/// Stripe's `advice_code`.
const ADVICE: &[(&str, RetryAdvice)] =
    &[("confirm_card_data", Corrected), ("do_not_try_again", Never), ("try_again_later", Later)];

/// Visa's category 1: what the issuer will never approve. Other networks use the same numbers for much the same, so that
/// they count whatever the card.
const NETWORK_NEVER: &[&str] = &["04", "07", "12", "14", "15", "41", "43", "46", "57", "R0", "R1", "R3"];

/// Mastercard's merchant advice codes.
const NETWORK_ADVICE: &[(&str, RetryAdvice)] = &[
    ("01", Corrected),
    ("02", Later),
    ("03", Never),
    ("21", Never),
    // After an hour, a day, two, four, six, eight or ten days.
    ("24", NotNow),
    ("25", NotNow),
    ("26", NotNow),
    ("27", NotNow),
    ("28", NotNow),
    ("29", NotNow),
    ("30", NotNow),
    // A card number for one use.
    ("41", Never),
    // On a list of sanctions.
    ("42", Never),
];

/// Codes of requests that lie in the payment's amount or currency, or in what the account may take of such amounts.
const AMOUNTS: &[&str] = &[
    "amount_too_large",
    "amount_too_small",
    "charge_exceeds_source_limit",
    "charge_exceeds_transaction_limit",
    "invalid_charge_amount",
    "invalid_currency",
];

/// Codes of requests that are refused for the account behind the channel, whatever the payment is: it is not activated, or not
/// for this, or is not signed in to rightly.
const ACCOUNTS: &[&str] = &[
    "account_invalid",
    "api_key_expired",
    "payment_method_unactivated",
    "platform_account_required",
    "platform_api_key_expired",
    "secret_key_required",
    "testmode_charges_only",
    "tls_version_unsupported",
];

/// What a decline's code means.
pub(super) fn meaning_of(code: &str) -> Meaning {
    let row = DECLINES.iter().find(|(known, ..)| *known == code);
    row.map_or(Meaning { scope: Unknown, advice: None }, |(_, scope, advice)| Meaning {
        scope: *scope,
        advice: *advice,
    })
}

/// What Stripe's own advice means.
pub(super) fn advice_of(advice_code: &str) -> Option<RetryAdvice> {
    ADVICE.iter().find(|(known, _)| *known == advice_code).map(|(_, advice)| *advice)
}

/// What a network's decline code means for another try.
pub(super) fn advice_of_network_code(code: &str) -> Option<RetryAdvice> {
    NETWORK_NEVER.contains(&code).then_some(Never)
}

/// What a network's advice means.
pub(super) fn advice_of_network_advice(code: &str) -> Option<RetryAdvice> {
    NETWORK_ADVICE.iter().find(|(known, _)| *known == code).map(|(_, advice)| *advice)
}

/// Whether a request was refused for its amount or currency, which another channel may take.
pub(super) fn is_about_amount(code: &str) -> bool {
    AMOUNTS.contains(&code)
}

/// Who is the reason for a request that was refused with this code and HTTP status: what Stripe finds wrong is its sender's
/// matter; the account, refused credentials, a limit reached or trouble at Stripe are the channel's.
pub(super) fn scope_of_request(code: &str, status: u16) -> DeclineScope {
    match status {
        400 | 404 if !ACCOUNTS.contains(&code) => Customer,
        _ => Processor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_in_the_table_once() {
        let mut codes: Vec<&str> = DECLINES.iter().map(|(code, ..)| *code).collect();
        codes.sort_unstable();
        let count = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }

    /// Stripe's documented decline codes for cards, and whether another channel may be asked after each.
    #[test]
    fn only_what_lies_with_stripe_or_the_network_leaves_room_for_another_channel() {
        let never = [
            "approve_with_id",
            "authentication_not_handled",
            "authentication_required",
            "call_issuer",
            "card_not_supported",
            "card_velocity_exceeded",
            "currency_not_supported",
            "do_not_honor",
            "do_not_try_again",
            "duplicate_transaction",
            "expired_card",
            "fraudulent",
            "generic_decline",
            "incorrect_address",
            "incorrect_cvc",
            "incorrect_number",
            "incorrect_pin",
            "incorrect_zip",
            "insufficient_funds",
            "invalid_account",
            "invalid_amount",
            "invalid_cvc",
            "invalid_expiry_month",
            "invalid_expiry_year",
            "invalid_number",
            "invalid_pin",
            "lost_card",
            "merchant_blacklist",
            "mobile_device_authentication_required",
            "new_account_information_available",
            "no_action_taken",
            "not_permitted",
            "offline_pin_required",
            "online_or_offline_pin_required",
            "pickup_card",
            "pin_try_exceeded",
            "restricted_card",
            "revocation_of_all_authorizations",
            "revocation_of_authorization",
            "security_violation",
            "service_not_allowed",
            "stolen_card",
            "stop_payment_order",
            "testmode_decline",
            "transaction_not_allowed",
            "try_again_later",
            "withdrawal_count_limit_exceeded",
        ];
        for code in never {
            assert!(DECLINES.iter().any(|(known, ..)| *known == code), "{code} is missing");
            assert!(matches!(meaning_of(code).scope, Bank | Customer), "{code}");
        }
        for (code, scope) in [
            ("processing_error", Processor),
            ("issuer_not_available", Network),
            ("reenter_transaction", Network),
            ("a_code_of_next_year", Unknown),
        ] {
            assert_eq!(meaning_of(code), Meaning { scope, advice: None }, "{code}");
        }
    }

    #[test]
    fn networks_rules_about_trying_again_are_known() {
        for code in ["04", "07", "12", "14", "15", "41", "43", "46", "57", "R0", "R1", "R3"] {
            assert_eq!(advice_of_network_code(code), Some(Never), "Visa {code}");
        }
        for code in ["03", "21"] {
            assert_eq!(advice_of_network_advice(code), Some(Never), "Mastercard {code}");
        }
        for code in ["24", "25", "26", "27", "28", "29", "30"] {
            assert_eq!(advice_of_network_advice(code), Some(NotNow), "Mastercard {code}");
        }
        // Not enough funds, over a limit, the bank can't be reached: these may be tried another time.
        for code in ["51", "61", "65", "91", "05", ""] {
            assert_eq!(advice_of_network_code(code), None, "{code}");
        }
        assert_eq!(advice_of_network_advice("99"), None);
        assert_eq!(advice_of("do_not_try_again"), Some(Never));
        assert_eq!(advice_of("an_advice_of_next_year"), None);
        for code in ["lost_card", "stolen_card", "pickup_card", "fraudulent", "do_not_try_again"] {
            assert_eq!(meaning_of(code).advice, Some(Never), "{code}");
        }
    }
}
