//! What a provider's answer means: few outcomes, the same for every provider.

use serde::{Deserialize, Serialize};

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

/// Names that the provider gave to what it made for us; kept from the first answer that has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRefs {
    /// The provider's number of the charge (`pi_…`, a trade number).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_order_no: Option<String>,
    /// For the payer's browser to go on with, where the provider has such a thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
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
}

impl ChargeAnswer {
    /// An answer that teaches no names.
    pub(crate) fn bare(state: ChargeState) -> Self {
        Self { state, refs: ProviderRefs::default() }
    }

    /// Nothing was learned, and why.
    pub(crate) fn unknown(reason: impl Into<String>) -> Self {
        Self::bare(ChargeState::Unknown { reason: reason.into() })
    }

    /// Certainly not charged.
    pub(crate) fn not_done(failure: Failure) -> Self {
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
    pub(crate) fn bare(state: RefundState) -> Self {
        Self { state, channel_refund_no: None }
    }

    /// Nothing was learned, and why.
    pub(crate) fn unknown(reason: impl Into<String>) -> Self {
        Self::bare(RefundState::Unknown { reason: reason.into() })
    }

    /// Certainly not given back.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self::bare(RefundState::Failed(failure))
    }
}
