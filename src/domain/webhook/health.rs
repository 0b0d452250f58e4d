//! How an endpoint has been doing, as far as it is stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;
use crate::domain::webhook::Verdict;

/// Time without a try says nothing about an endpoint beyond this: a process that was not running, an endpoint that was
/// paused and a clock that was set forward are not failures of the receiver's.
const UNTRIED_MAX: Duration = Duration::from_secs(26 * 3_600);

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

    /// What it says about whether there is anybody who could take a webhook.
    pub(super) const fn sign(self) -> Sign {
        match self {
            Self::Success => Sign::Takes,
            Self::Refused | Self::Gone => Sign::Alive,
            Self::Retry | Self::NoAnswer | Self::NotAllowed => Sign::Fails,
        }
    }
}

/// What an outcome says about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It takes webhooks.
    Takes,
    /// It answers, and does not want this one. A breaker would help nobody.
    Alive,
    /// It can't take anything now.
    Fails,
}

/// One request that has ended, as it says something about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointTry {
    /// How.
    pub outcome: TryOutcome,
    /// When it was sent.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// It was its notification's last.
    pub is_exhausted: bool,
    /// For how long the receiver asks to be left alone.
    pub leave_alone_for: Option<Duration>,
}

/// An endpoint's breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Webhooks are sent.
    Closed,
    /// None is sent.
    Open {
        /// Until then.
        until: Timestamp,
    },
    /// One is sent, which decides.
    Probing {
        /// Since then.
        since: Timestamp,
    },
}

/// What is known of an endpoint, as it is stored; everything else about it can be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointHealth {
    /// The address that this is known of, as a digest of its URL; any, if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// The first failure since the last success; later, when nothing was tried in between for long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// The last failure since the last success; written down now and then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_at: Option<Timestamp>,
    /// When it last took a webhook; exact only where that ended something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<Timestamp>,
    /// Tries that failed since then; written down now and then.
    pub tries_since_success: u64,
    /// When the merchant was told that it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_failing_at: Option<Timestamp>,
    /// What the merchant was told about it so far: the number of the last of these events.
    pub told: u64,
    /// How often its breaker has opened in a row.
    pub opens: u32,
    /// Until when the breaker is open. Stays until it closes, so a time that is past means that one request decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_until: Option<Timestamp>,
    /// When it last recovered. Its backlog is released slowly at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovering_since: Option<Timestamp>,
    /// When one of its notifications last became a dead letter for want of an answer. Set until it has taken webhooks again
    /// and these are sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_until_success: Option<Timestamp>,
    /// Counts how often this was written, so that of two writes the later one is known.
    pub changes: u64,
    /// When this was last written.
    pub updated_at: Timestamp,
}

impl EndpointHealth {
    /// Its breaker at `now`.
    pub fn breaker(&self, now: Timestamp) -> Breaker {
        match self.open_until {
            None => Breaker::Closed,
            Some(until) if until > now => Breaker::Open { until },
            Some(since) => Breaker::Probing { since },
        }
    }

    /// The same endpoint as if it had been neither sent to nor failed: after it was disabled, at another address, or when
    /// somebody asks for it. What its merchant was told is not forgotten, nor that dead letters wait for a success.
    #[must_use]
    pub fn begun_anew(&self) -> Self {
        Self {
            last_success_at: self.last_success_at,
            dead_until_success: self.dead_until_success,
            told: self.told,
            changes: self.changes,
            updated_at: self.updated_at,
            ..Self::default()
        }
    }

    /// The same where times that lie in the future, because the clock was set back, hold nothing up: an open breaker for
    /// `open_max` at most.
    #[must_use]
    pub fn at_start(mut self, now: Timestamp, open_max: Duration) -> Self {
        let not_after_now = |at: Timestamp| at.min(now);
        self.failing_since = self.failing_since.map(not_after_now);
        self.last_failure_at = self.last_failure_at.map(not_after_now);
        self.last_success_at = self.last_success_at.map(not_after_now);
        self.told_failing_at = self.told_failing_at.map(not_after_now);
        self.recovering_since = self.recovering_since.map(not_after_now);
        self.dead_until_success = self.dead_until_success.map(not_after_now);
        self.updated_at = not_after_now(self.updated_at);
        self.open_until = self.open_until.map(|until| until.min(now.plus(open_max)));
        self
    }

    /// Notes what a try says, but for what follows from it.
    pub fn note(&mut self, a_try: &EndpointTry) {
        let now = a_try.ended_at;
        if a_try.outcome.sign() == Sign::Takes {
            self.failing_since = None;
            self.last_failure_at = None;
            self.told_failing_at = None;
            self.tries_since_success = 0;
            self.last_success_at = Some(self.last_success_at.map_or(now, |last| last.max(now)));
            return;
        }
        let since = self.failing_since.unwrap_or(now);
        let untried = self.last_failure_at.map_or(Duration::ZERO, |last| now.since(last));
        self.failing_since = Some(since.plus(untried.saturating_sub(UNTRIED_MAX)));
        self.last_failure_at = Some(self.last_failure_at.map_or(now, |last| last.max(now)));
        self.tries_since_success = self.tries_since_success.saturating_add(1);
        if a_try.is_exhausted && self.dead_until_success.is_none_or(|dead_at| self.has_taken_since(dead_at)) {
            self.dead_until_success = Some(now);
        }
    }

    /// Whether it took a webhook after `at`.
    pub(super) fn has_taken_since(&self, at: Timestamp) -> bool {
        self.last_success_at.is_some_and(|taken_at| taken_at > at)
    }
}

/// What a merchant is told about an endpoint that is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTrouble {
    /// The first failure since the last success, if that is what is the matter.
    pub since: Option<Timestamp>,
    /// Tries since then.
    pub tries: u64,
    /// The number of what is told about this endpoint, from 1.
    pub sequence: u64,
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
    Failing(EndpointTrouble),
    /// It was disabled.
    Disabled {
        /// Why.
        reason: String,
        /// What went before.
        trouble: EndpointTrouble,
    },
}
