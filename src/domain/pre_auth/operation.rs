//! Operations on a pre-auth: what was, or is about to be, sent to its channel. Each is stored before it is sent, and at
//! most one is open.

use serde::{Deserialize, Serialize};

use crate::domain::outcome::Failure;
use crate::domain::time::Timestamp;

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OperationKind {
    /// Has the money held. Open until it is, or the provider's object is closed.
    Authorize,
    /// Takes so much and releases the rest.
    Capture {
        /// Minor units of the pre-auth's currency; reserved while this is open.
        money_minor: i64,
    },
    /// Releases all that is held.
    Release {
        /// What for.
        why: ReleaseWhy,
    },
    /// Has the money held for longer.
    Extend,
}

impl OperationKind {
    /// The kind as it is written; the part of a provider key that says which operation it is of.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Capture { .. } => "capture",
            Self::Release { .. } => "release",
            Self::Extend => "extend",
        }
    }
}

/// Why a pre-auth is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum ReleaseWhy {
    /// The merchant wants it.
    Merchant {
        /// In the merchant's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It is about to expire, and is to be released then.
    Expiry,
    /// The payer has not acted in time.
    Unconfirmed,
    /// Money is held although the pre-auth is over.
    Stray,
}

/// An operation that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Which one of its pre-auth it is, from 1.
    pub number: u32,
    /// What it does.
    #[serde(flatten)]
    pub kind: OperationKind,
    /// Identifies it to the provider.
    pub provider_key: String,
    /// When it was about to be sent.
    pub sent_at: Timestamp,
    /// When it became clear that its request has no answer: by then it was sent, or never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered_at: Option<Timestamp>,
    /// When the channel last said where the object stands; `None` when it has not since this operation began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<Timestamp>,
    /// Questions asked about it so far.
    #[serde(default)]
    pub resolve_tries: u32,
}

impl Operation {
    /// Whether there was any answer about it, or it is clear that its first request has none.
    pub const fn had_answer(&self) -> bool {
        self.known_at.is_some() || self.unanswered_at.is_some()
    }
}

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationOutcome {
    /// It was done.
    Done,
    /// The payer's means of payment was refused for good, and the provider's object is closed.
    Declined,
    /// It was certainly not done.
    Refused,
}

impl OperationOutcome {
    /// The outcome as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Declined => "declined",
            Self::Refused => "refused",
        }
    }
}

/// An operation that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedOperation {
    /// Which one of its pre-auth it was, from 1.
    pub number: u32,
    /// What it did.
    #[serde(flatten)]
    pub kind: OperationKind,
    /// What came of it.
    pub outcome: OperationOutcome,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When it was about to be sent.
    pub sent_at: Timestamp,
    /// When it was over.
    pub ended_at: Timestamp,
}
