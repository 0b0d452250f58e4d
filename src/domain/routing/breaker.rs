//! Technical health: whether a channel answers. After failures it is left alone for a while, then one payment tries it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::routing::outcome_class::OutcomeClass;
use crate::domain::routing::window::OutcomeWindow;
use crate::domain::time::Monotonic;

/// When a channel is left alone and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Calls remembered.
    pub window_outcomes: usize,
    /// Technical failures in a row that open the breaker.
    pub consecutive_failures: u32,
    /// Share of technical failures in the window that opens the breaker, in percent.
    pub failure_percent: u32,
    /// Outcomes needed before that share counts.
    pub min_outcomes: u32,
    /// First time that an open breaker stays open; doubles with each failed probe.
    pub open: Duration,
    /// Longest time that it stays open.
    pub open_max: Duration,
}

/// The breaker as decisions and people see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerView {
    /// Payments flow.
    #[default]
    Closed,
    /// No payment goes there.
    Open,
    /// One payment may try.
    HalfOpen,
}

impl BreakerView {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Open until then, half-open from then on until a probe tells.
    Open {
        until: Monotonic,
        failed_probes: u32,
    },
}

/// A channel's breaker with what it goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Breaker {
    technical: OutcomeWindow,
    /// Technical failures since the last technical success.
    failures_in_a_row: u32,
    state: State,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { technical: OutcomeWindow::default(), failures_in_a_row: 0, state: State::Closed }
    }
}

impl Breaker {
    /// The state after an outcome; `probe` says that it is that of the one call that tries a half-open channel.
    #[must_use]
    pub fn after(mut self, class: OutcomeClass, probe: bool, settings: &BreakerSettings, now: Monotonic) -> Self {
        match self.view_at(now) {
            BreakerView::Closed => self.judge(class, settings, now),
            BreakerView::HalfOpen if probe => self.judge_probe(class, settings, now),
            // Late news of calls that were sent before the breaker opened tell nothing about now.
            BreakerView::Open | BreakerView::HalfOpen => {}
        }
        self
    }

    fn judge(&mut self, class: OutcomeClass, settings: &BreakerSettings, now: Monotonic) {
        let Some(answered) = class.technical() else { return };
        self.technical.push(answered, settings.window_outcomes);
        self.failures_in_a_row = if answered { 0 } else { self.failures_in_a_row + 1 };
        if answered {
            return;
        }
        let outcomes = self.technical.len() as u64;
        let failures = outcomes - self.technical.good();
        let too_many = outcomes >= u64::from(settings.min_outcomes)
            && failures * 100 >= outcomes * u64::from(settings.failure_percent);
        if too_many || self.failures_in_a_row >= settings.consecutive_failures.max(1) {
            self.open(0, settings, now);
        }
    }

    fn judge_probe(&mut self, class: OutcomeClass, settings: &BreakerSettings, now: Monotonic) {
        let State::Open { failed_probes, .. } = self.state else { return };
        if class.technical() == Some(false) {
            self.open(failed_probes.saturating_add(1), settings, now);
        } else {
            // Even a decline is an answer.
            *self = Self::default();
        }
    }

    fn open(&mut self, failed_probes: u32, settings: &BreakerSettings, now: Monotonic) {
        let grown = settings.open.saturating_mul(1_u32.checked_shl(failed_probes).unwrap_or(u32::MAX));
        let until = now.plus(grown.min(settings.open_max));
        *self = Self { state: State::Open { until, failed_probes }, ..Self::default() };
    }

    /// The breaker as it stands at `now`; nothing has to happen for it to become half-open.
    pub fn view_at(&self, now: Monotonic) -> BreakerView {
        match self.state {
            State::Closed => BreakerView::Closed,
            State::Open { until, .. } if now < until => BreakerView::Open,
            State::Open { .. } => BreakerView::HalfOpen,
        }
    }

    /// How long the breaker stays open; `None` when it does not stand open.
    pub fn opens_in(&self, now: Monotonic) -> Option<Duration> {
        match self.state {
            State::Open { until, .. } if now < until => Some(until.since(now)),
            State::Open { .. } | State::Closed => None,
        }
    }
}
