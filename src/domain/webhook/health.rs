//! How an endpoint has been doing.

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;
use crate::domain::webhook::Verdict;

/// How a request to an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TryOutcome {
    /// The receiver has it.
    Success,
    /// The receiver answered that it can't take it now.
    Retry,
    /// The receiver does not want it.
    Refused,
    /// The receiver wants nothing more.
    Gone,
    /// There was no answer.
    NoAnswer,
    /// Nothing was sent: its address must not be used.
    NotAllowed,
}

impl TryOutcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Retry, Self::Refused, Self::Gone, Self::NoAnswer, Self::NotAllowed];

    /// What an answer with this verdict is.
    pub const fn of_answer(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Success => Self::Success,
            Verdict::Retry => Self::Retry,
            Verdict::Refused => Self::Refused,
            Verdict::Gone => Self::Gone,
        }
    }

    /// Its name in figures.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Retry => "retry",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::NoAnswer => "no_answer",
            Self::NotAllowed => "not_allowed",
        }
    }
}

/// What is known of an endpoint, as it is stored; everything else about it can be forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointHealth {
    /// The first failure since the last success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// When it last took a webhook; exact only where that ended something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<Timestamp>,
    /// Tries that failed since then; written down now and then.
    pub tries_since_success: u64,
    /// When the merchant was told that it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_failing_at: Option<Timestamp>,
    /// How often its breaker has opened in a row.
    pub opens: u32,
    /// Until when the breaker is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_until: Option<Timestamp>,
    /// Since when its backlog is released, while it is released slowly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovering_since: Option<Timestamp>,
    /// When one of its notifications last became a dead letter for want of an answer. Set until it has taken webhooks again
    /// and these are sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_until_success: Option<Timestamp>,
    /// When this was last changed.
    pub updated_at: Timestamp,
}

/// What a try has changed about an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// Its breaker opened.
    Opened {
        /// Until then nothing is sent.
        until: Timestamp,
    },
    /// Its breaker closed.
    Closed,
    /// It has taken nothing for so long that the merchant has to be told.
    Failing {
        /// The first of the failures.
        since: Timestamp,
        /// Tries since then.
        tries: u64,
    },
    /// It was disabled.
    Disabled {
        /// Why.
        reason: String,
    },
}
