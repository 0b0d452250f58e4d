//! What a provider's answer means: few outcomes, the same for every provider.

use serde::{Deserialize, Serialize};

use crate::domain::money::Money;
use crate::domain::time::Timestamp;

/// Who refused a payment, which decides whether another channel may be tried and whether the channel's health suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclineScope {
    /// The provider itself: its limits, its configuration, its technical trouble.
    Processor,
    /// The card network or scheme.
    Network,
    /// The payer's bank.
    Bank,
    /// The payer: wrong data, not enough money, gave up.
    Customer,
    /// The provider did not say.
    Unknown,
}

/// What the card's bank or network says about trying again, from the mildest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAdvice {
    /// It may work another time.
    Later,
    /// Not with these data.
    Corrected,
    /// Not before some hours or days have gone by.
    NotNow,
    /// Not with this card again, through whichever channel.
    Never,
}

impl RetryAdvice {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Later => "later",
            Self::Corrected => "corrected",
            Self::NotNow => "not_now",
            Self::Never => "never",
        }
    }
}

/// The code of a failure that lies in the amount: this channel can't express it, another one may.
pub const AMOUNT_NOT_SUPPORTED: &str = "amount_not_supported";

/// The code of a failure that lies in the channel: what was asked for is nothing that it can do.
pub const NOT_SUPPORTED: &str = "not_supported";

/// Why something failed, in words that may be shown to a merchant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable and lower-case, such as `card_declined` or `insufficient_funds`; the provider's own code where it has one.
    pub code: String,
    /// One sentence. Never carries card data, tokens or bodies.
    pub message: String,
    /// Who refused.
    pub decline_scope: DeclineScope,
    /// What was said about trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<RetryAdvice>,
    /// The card network's own code, such as `51`, where the provider passes it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_code: Option<String>,
    /// The card network's own advice, such as `03`, where the provider passes it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_advice_code: Option<String>,
}

impl Failure {
    /// A failure with this code and sentence, refused by `decline_scope`.
    pub fn new(code: impl Into<String>, message: impl Into<String>, decline_scope: DeclineScope) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            decline_scope,
            advice: None,
            network_code: None,
            network_advice_code: None,
        }
    }

    /// The channel can't do what was asked for, and has not tried.
    pub fn not_supported() -> Self {
        Self::new(NOT_SUPPORTED, "This payment channel can't do that.", DeclineScope::Processor)
    }
}

/// What the payer has to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NextAction {
    /// Visit this page.
    Redirect {
        /// The page.
        url: String,
    },
}

/// Names that the provider gave to what it made for us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRefs {
    /// The provider's number of the charge or of what holds the money (`pi_…`, an order's or a trade's number).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_order_no: Option<String>,
    /// For the payer's browser to go on with, where the provider has such a thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// The provider's number of the hold in force, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_no: Option<String>,
    /// The number of the hold that the one in force has replaced, where releasing has to name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_hold_no: Option<String>,
    /// What refunds have to name, where that is none of the numbers above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_no: Option<String>,
}

impl ProviderRefs {
    /// Takes over every name that `more` has; the others stay.
    pub fn learn(&mut self, more: &Self) {
        let Self { channel_order_no, client_secret, hold_no, parent_hold_no, capture_no } = more;
        for (known, learned) in [
            (&mut self.channel_order_no, channel_order_no),
            (&mut self.client_secret, client_secret),
            (&mut self.hold_no, hold_no),
            (&mut self.parent_hold_no, parent_hold_no),
            (&mut self.capture_no, capture_no),
        ] {
            if learned.is_some() {
                known.clone_from(learned);
            }
        }
    }

    /// The numbers among the names: whatever the provider may call the object by.
    pub fn numbers(&self) -> impl Iterator<Item = &str> {
        let numbers = [&self.channel_order_no, &self.hold_no, &self.parent_hold_no, &self.capture_no];
        numbers.into_iter().flatten().map(String::as_str)
    }
}

/// In which way money came that was not asked for so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrayKind {
    /// Less than was asked for.
    Partial,
    /// After the time for it was over.
    Late,
    /// More than was asked for.
    Over,
}

impl StrayKind {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Late => "late",
            Self::Over => "over",
        }
    }
}

/// Where a charge stands at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeState {
    /// The money was taken.
    Success {
        /// The provider's own fee in minor units of the payment's currency, where it says so.
        fee_minor: Option<i64>,
    },
    /// Refused for good and the provider's object is closed: it can't charge any more.
    Declined(Failure),
    /// Certainly not charged and not able to: the provider was not reached, refused the request itself, or its object
    /// is closed. Another channel may be asked if the failure's scope allows it.
    NotDone(Failure),
    /// The payer has to act.
    ActionRequired {
        /// What to do, where the provider says so.
        next_action: Option<NextAction>,
        /// When the provider gives up waiting, where it says so.
        expires_at: Option<Timestamp>,
    },
    /// The provider has it and works on it.
    Processing,
    /// Closed at the provider before anything was charged, because we or the payer gave it up or its time ran out.
    Canceled,
    /// Money came in another way than it was asked for, so that it does not count as charged.
    Stray {
        /// In which way.
        kind: StrayKind,
        /// How much, where the provider says so.
        received: Option<Money>,
    },
    /// What happened is not known, or the object could not be closed yet. Ask again.
    Unknown {
        /// For the log and the operator.
        reason: String,
    },
}

/// An answer about a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeAnswer {
    /// Where it stands.
    pub state: ChargeState,
    /// Names learned with this answer.
    pub refs: ProviderRefs,
    /// Whether the call sent what may move money although it was no first try (it finished what the payer had approved):
    /// that may then still be on its way.
    pub sent_money: bool,
}

impl ChargeAnswer {
    /// An answer that teaches no names.
    pub fn bare(state: ChargeState) -> Self {
        Self::with(state, ProviderRefs::default())
    }

    /// An answer that teaches names.
    pub const fn with(state: ChargeState, refs: ProviderRefs) -> Self {
        Self { state, refs, sent_money: false }
    }

    /// Nothing was learned, and why.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::bare(ChargeState::Unknown { reason: reason.into() })
    }

    /// Certainly not charged.
    pub fn not_done(failure: Failure) -> Self {
        Self::bare(ChargeState::NotDone(failure))
    }
}

/// Where a refund stands at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundState {
    /// The money went back (or is bound to, without anybody being able to stop it).
    Success,
    /// Certainly not done and not going to be.
    Failed(Failure),
    /// The provider has it and works on it.
    Pending,
    /// What happened is not known. Ask again.
    Unknown {
        /// For the log and the operator.
        reason: String,
    },
}

/// An answer about a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundAnswer {
    /// Where it stands.
    pub state: RefundState,
    /// The provider's number of the refund, where it has one.
    pub channel_refund_no: Option<String>,
}

impl RefundAnswer {
    /// An answer that teaches no number.
    pub fn bare(state: RefundState) -> Self {
        Self { state, channel_refund_no: None }
    }

    /// Nothing was learned, and why.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::bare(RefundState::Unknown { reason: reason.into() })
    }

    /// Certainly not given back.
    pub fn failed(failure: Failure) -> Self {
        Self::bare(RefundState::Failed(failure))
    }
}

/// Where money that is held for a merchant stands at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// The object is open and waits for the payer's means of payment.
    AwaitsMethod {
        /// Why the last try failed, if there was one.
        failure: Option<Failure>,
        /// What the payer has to do, where the provider says so.
        next_action: Option<NextAction>,
        /// When the provider gives up waiting, where it says so.
        expires_at: Option<Timestamp>,
    },
    /// The payer has to act.
    ActionRequired {
        /// What to do, where the provider says so.
        next_action: Option<NextAction>,
        /// When the provider gives up waiting, where it says so.
        expires_at: Option<Timestamp>,
    },
    /// The provider has it and works on it.
    Processing,
    /// The money is held.
    Held {
        /// How much, in minor units of the hold's currency.
        held_minor: i64,
        /// When the provider lets it go, where it says so.
        expires_at: Option<Timestamp>,
        /// Until when capturing is sure to work, where the provider says so.
        honor_until: Option<Timestamp>,
    },
    /// Final: so much was taken, and the rest is released.
    Captured {
        /// How much, in minor units of the hold's currency.
        captured_minor: i64,
        /// The provider's own fee in those units, where it says so.
        fee_minor: Option<i64>,
    },
    /// Final: nothing was taken, and nothing is held any more.
    Released {
        /// Whether it was its time that ran out.
        expired: bool,
    },
    /// Refused for good, and the provider's object is closed.
    Declined(Failure),
    /// Certainly never made, or closed before anything was held.
    NotDone(Failure),
    /// What happened is not known. Ask again.
    Unknown {
        /// For the log and the operator.
        reason: String,
    },
}

/// An answer about held money: where the object stands now, whatever was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldAnswer {
    /// Where it stands.
    pub state: HoldState,
    /// The capture, release or extension that was asked for was certainly not done, and why.
    pub refused: Option<Failure>,
    /// Names learned with this answer.
    pub refs: ProviderRefs,
    /// As for a charge.
    pub sent_money: bool,
}

impl HoldAnswer {
    /// An answer that teaches no names.
    pub fn bare(state: HoldState) -> Self {
        Self { state, refused: None, refs: ProviderRefs::default(), sent_money: false }
    }

    /// Nothing was learned, and why.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::bare(HoldState::Unknown { reason: reason.into() })
    }

    /// Certainly nothing held.
    pub fn not_done(failure: Failure) -> Self {
        Self::bare(HoldState::NotDone(failure))
    }

    /// What was asked for was certainly not done, and where the object stands.
    pub fn refused(state: HoldState, failure: Failure) -> Self {
        Self { refused: Some(failure), ..Self::bare(state) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn names_are_added_and_replaced_and_never_forgotten() {
        let mut refs = ProviderRefs {
            channel_order_no: some("O-1"),
            client_secret: some("secret"),
            hold_no: some("A-1"),
            ..ProviderRefs::default()
        };
        let extended = ProviderRefs { hold_no: some("A-2"), parent_hold_no: some("A-1"), ..ProviderRefs::default() };
        refs.learn(&extended);
        refs.learn(&ProviderRefs { capture_no: some("C-1"), ..ProviderRefs::default() });
        refs.learn(&ProviderRefs::default());
        assert_eq!(refs.numbers().collect::<Vec<_>>(), ["O-1", "A-2", "A-1", "C-1"]);
        assert_eq!(refs.client_secret.as_deref(), Some("secret"));
        refs.learn(&ProviderRefs { client_secret: some("newer"), ..ProviderRefs::default() });
        assert_eq!(refs.client_secret.as_deref(), Some("newer"));
    }

    #[test]
    fn a_secret_is_no_number() {
        let refs = ProviderRefs { client_secret: some("secret"), ..ProviderRefs::default() };
        assert_eq!(refs.numbers().count(), 0);
    }

    #[test]
    fn a_kind_of_stray_is_stored_as_it_is_written() {
        for kind in [StrayKind::Partial, StrayKind::Late, StrayKind::Over] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
