//! The test cards: what happens to a payment by the token that it is made with.

/// What a card does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Card {
    /// Pays.
    Approved,
    /// Pays, and its holder's bank claims the money back.
    Disputed,
    /// Is refused with these codes.
    Declined(Decline),
    /// Wants its holder to act first.
    ActionRequired,
    /// Pays some seconds later.
    Processing,
    /// Never gets an answer, and nothing happens.
    Timeout,
    /// Pays, but the answer is lost.
    LostResponse,
    /// Fails inside Stripe before anything happens.
    Error,
}

/// A refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decline {
    pub(super) code: &'static str,
    pub(super) decline_code: &'static str,
    pub(super) advice_code: Option<&'static str>,
    pub(super) network_decline_code: Option<&'static str>,
    pub(super) network_advice_code: Option<&'static str>,
    pub(super) message: &'static str,
}

const fn declined(code: &'static str, decline_code: &'static str, advice_code: Option<&'static str>) -> Decline {
    Decline {
        code,
        decline_code,
        advice_code,
        network_decline_code: None,
        network_advice_code: None,
        message: "Your card was declined.",
    }
}

/// How a token begins that names the codes of its refusal: the decline code, then, each behind a colon and all but the first
/// optional, Stripe's advice, the network's decline code and the network's advice.
const NAMED_DECLINE: &str = "tok_stripe_declines:";
/// How tokens begin that others refuse; here they pay.
const DECLINED_BY_OTHERS: [&str; 2] = ["tok_alipay_declines:", "tok_paypal_declines:"];
/// Codes that are on the error itself, without a decline code of their own kind.
const OWN_CODES: [&str; 4] = ["expired_card", "incorrect_cvc", "incorrect_number", "processing_error"];
/// Decline codes that can be asked for.
const DECLINE_CODES: [&str; 51] = [
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
    "issuer_not_available",
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
    "processing_error",
    "reenter_transaction",
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
    // One that nobody knows yet.
    "unheard_of",
];
/// Stripe's advice that can be asked for.
const ADVICE_CODES: [&str; 3] = ["confirm_card_data", "do_not_try_again", "try_again_later"];
/// Networks' codes that can be asked for.
const NETWORK_CODES: [&str; 36] = [
    "01", "02", "03", "04", "05", "07", "12", "14", "15", "19", "21", "22", "24", "25", "26", "27", "28", "29", "30",
    "40", "41", "42", "43", "46", "51", "54", "57", "59", "61", "62", "65", "91", "96", "R0", "R1", "R3",
];

/// The refusal that a token names; `None` when there is no such code.
fn named_decline(codes: &str) -> Option<Decline> {
    let mut codes = codes.split(':');
    let asked_for = codes.next()?;
    let decline_code = *DECLINE_CODES.iter().find(|known| **known == asked_for)?;
    let mut one_of = |known: &'static [&'static str]| match codes.next() {
        None | Some("") => Some(None),
        Some(code) => known.iter().find(|known| **known == code).map(|known| Some(*known)),
    };
    let (advice_code, network_decline_code, network_advice_code) =
        (one_of(&ADVICE_CODES)?, one_of(&NETWORK_CODES)?, one_of(&NETWORK_CODES)?);
    let code = if OWN_CODES.contains(&decline_code) { decline_code } else { "card_declined" };
    Some(Decline { network_decline_code, network_advice_code, ..declined(code, decline_code, advice_code) })
}

/// The refusal that gives no reason.
pub(super) const GENERIC: Decline = declined("card_declined", "generic_decline", Some("try_again_later"));

/// The card behind a token (`tok_…`) or a test PaymentMethod (`pm_card_…`).
pub(super) fn card_of(token: &str) -> Option<Card> {
    let refusal = |code, decline_code, advice_code| Some(Card::Declined(declined(code, decline_code, advice_code)));
    if let Some(codes) = token.strip_prefix(NAMED_DECLINE) {
        return named_decline(codes).map(Card::Declined);
    }
    if DECLINED_BY_OTHERS.iter().any(|prefix| token.starts_with(prefix)) {
        return Some(Card::Approved);
    }
    let name = token.strip_prefix("tok_").or_else(|| token.strip_prefix("pm_card_"))?;
    match name {
        "visa" | "mastercard" | "amex" => Some(Card::Approved),
        "createDispute" => Some(Card::Disputed),
        "declined" | "visa_chargeDeclined" | "chargeDeclined" => Some(Card::Declined(GENERIC)),
        "insufficient_funds" | "visa_chargeDeclinedInsufficientFunds" | "chargeDeclinedInsufficientFunds" => {
            refusal("card_declined", "insufficient_funds", Some("try_again_later"))
        }
        "stolen_card" | "visa_chargeDeclinedStolenCard" | "chargeDeclinedStolenCard" => {
            refusal("card_declined", "stolen_card", Some("do_not_try_again"))
        }
        "visa_chargeDeclinedLostCard" | "chargeDeclinedLostCard" => {
            refusal("card_declined", "lost_card", Some("do_not_try_again"))
        }
        "visa_chargeDeclinedVelocityLimitExceeded" | "chargeDeclinedVelocityLimitExceeded" => {
            refusal("card_declined", "card_velocity_exceeded", Some("try_again_later"))
        }
        "chargeDeclinedExpiredCard" => refusal("expired_card", "expired_card", Some("confirm_card_data")),
        "chargeDeclinedIncorrectCvc" => refusal("incorrect_cvc", "incorrect_cvc", Some("confirm_card_data")),
        "processing_error" | "chargeDeclinedProcessingError" => {
            refusal("processing_error", "processing_error", Some("try_again_later"))
        }
        "3ds" | "threeDSecure2Required" => Some(Card::ActionRequired),
        "processing" => Some(Card::Processing),
        "timeout" => Some(Card::Timeout),
        "lost_response" => Some(Card::LostResponse),
        "error" => Some(Card::Error),
        _ => None,
    }
}
