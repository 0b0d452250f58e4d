//! The test cards: what happens to a payment by the token that it is made with.

/// What a card does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Card {
    /// Pays.
    Approved,
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
    pub(super) message: &'static str,
}

const fn declined(code: &'static str, decline_code: &'static str, advice_code: Option<&'static str>) -> Decline {
    Decline { code, decline_code, advice_code, message: "Your card was declined." }
}

/// The refusal that gives no reason.
pub(super) const GENERIC: Decline = declined("card_declined", "generic_decline", Some("try_again_later"));

/// The card behind a token (`tok_…`) or a test PaymentMethod (`pm_card_…`).
pub(super) fn card_of(token: &str) -> Option<Card> {
    let refusal = |code, decline_code, advice_code| Some(Card::Declined(declined(code, decline_code, advice_code)));
    let name = token.strip_prefix("tok_").or_else(|| token.strip_prefix("pm_card_"))?;
    match name {
        "visa" | "mastercard" | "amex" | "createDispute" => Some(Card::Approved),
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
