//! What one call of a channel says about it: few classes, the same for every provider.

use serde::{Deserialize, Serialize};

/// What came of one call of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeClass {
    /// The money was taken.
    Approved,
    /// The channel answered; whether the payment goes through is open (the payer has to act, the channel works on it).
    Answered,
    /// The provider itself refused.
    DeclinedByProcessor,
    /// The card network or scheme refused.
    DeclinedByNetwork,
    /// The payer's bank refused. Says nothing about the channel.
    DeclinedByBank,
    /// The payer's mistake, lack of money or wish. Says nothing about the channel.
    DeclinedByCustomer,
    /// Refused, and nobody said by whom.
    DeclinedUnspecified,
    /// Not reached, no answer, or an answer that says the channel itself is broken.
    TechnicalFailure,
}

impl OutcomeClass {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Approved,
        Self::Answered,
        Self::DeclinedByProcessor,
        Self::DeclinedByNetwork,
        Self::DeclinedByBank,
        Self::DeclinedByCustomer,
        Self::DeclinedUnspecified,
        Self::TechnicalFailure,
    ];

    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Answered => "answered",
            Self::DeclinedByProcessor => "declined_by_processor",
            Self::DeclinedByNetwork => "declined_by_network",
            Self::DeclinedByBank => "declined_by_bank",
            Self::DeclinedByCustomer => "declined_by_customer",
            Self::DeclinedUnspecified => "declined_unspecified",
            Self::TechnicalFailure => "technical_failure",
        }
    }

    /// What it says about approvals, if anything.
    pub const fn approval(self) -> Option<bool> {
        match self {
            Self::Approved => Some(true),
            Self::DeclinedByProcessor
            | Self::DeclinedByNetwork
            | Self::DeclinedUnspecified
            | Self::TechnicalFailure => Some(false),
            Self::Answered | Self::DeclinedByBank | Self::DeclinedByCustomer => None,
        }
    }

    /// What it says about technical health, if anything.
    pub const fn technical(self) -> Option<bool> {
        match self {
            Self::Approved | Self::Answered => Some(true),
            Self::TechnicalFailure => Some(false),
            Self::DeclinedByProcessor
            | Self::DeclinedByNetwork
            | Self::DeclinedByBank
            | Self::DeclinedByCustomer
            | Self::DeclinedUnspecified => None,
        }
    }
}
