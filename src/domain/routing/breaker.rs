//! Technical health: whether a channel answers, and in time. After failures it is left alone for a while, then one payment
//! tries it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::routing::outcome_class::OutcomeClass;
use crate::domain::routing::window::{OutcomeWindow, SavedWindow};
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
    /// Outcomes needed before that share counts, and that of slow calls.
    pub min_outcomes: u32,
    /// Calls that take longer are slow.
    pub slow: Duration,
    /// Share of slow calls in the window that opens the breaker, in percent; 0: slow calls are no reason.
    pub slow_percent: u32,
    /// First time that an open breaker stays open; doubles with each failed probe.
    pub open: Duration,
    /// Longest time that it stays open.
    pub open_max: Duration,
    /// By how much of it a time differs at random at most, in percent.
    pub jitter_percent: u32,
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

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenedBy {
    /// Technical failures in a row.
    Consecutive,
    /// The share of technical failures.
    FailureRate,
    /// The share of slow calls.
    Slow,
    /// Calls that got no answer while nothing else got one either.
    Hanging,
}

impl OpenedBy {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::FailureRate => "failure_rate",
            Self::Slow => "slow",
            Self::Hanging => "hanging",
        }
    }
}

/// A breaker that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenBreaker {
    /// How long it stays open; zero when it is half-open.
    pub left: Duration,
    /// Probes that failed since it opened.
    pub failed_probes: u32,
    /// Why it opened.
    pub by: OpenedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Open until then, half-open from then on until a probe tells.
    Open {
        until: Monotonic,
        failed_probes: u32,
        by: OpenedBy,
    },
}

/// A channel's breaker with what it goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Breaker {
    technical: OutcomeWindow,
    /// The same calls; good are those that were not slow.
    in_time: OutcomeWindow,
    /// Technical failures since the last technical success.
    failures_in_a_row: u32,
    /// When the channel last answered a call.
    answered_at: Monotonic,
    /// When it was last closed, if it was. Calls that began before that were sent into the trouble that is over.
    closed_at: Option<Monotonic>,
    state: State,
}

/// A breaker as it is written down. Times are lengths, so that a clock that was set says nothing about them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBreaker {
    technical: SavedWindow,
    in_time: SavedWindow,
    failures_in_a_row: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<SavedOpen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedOpen {
    left_ms: u64,
    failed_probes: u32,
    by: OpenedBy,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            technical: OutcomeWindow::default(),
            in_time: OutcomeWindow::default(),
            failures_in_a_row: 0,
            answered_at: Monotonic::default(),
            closed_at: None,
            state: State::Closed,
        }
    }
}

impl Breaker {
    /// The state after an outcome; `probe` says that it is that of a call that tries a channel which is not closed.
    #[must_use]
    pub fn after(mut self, class: OutcomeClass, call: Call, settings: &BreakerSettings, now: Monotonic) -> Self {
        let is_slow = settings.slow_percent > 0 && call.latency.is_some_and(|latency| latency > settings.slow);
        match self.view_at(now) {
            BreakerView::Closed if self.is_of_before(call, now) => {}
            BreakerView::Closed => self.judge(class, is_slow, settings, now),
            BreakerView::HalfOpen if call.probe => self.judge_probe(class, is_slow, settings, now),
            // It went there because all were down. That it is still down is no news.
            BreakerView::Open if call.probe && answers(class, is_slow) => self.close(now),
            // Late news of calls that were sent before the breaker opened tell nothing about now.
            BreakerView::Open | BreakerView::HalfOpen => {}
        }
        self
    }

    /// Whether a call began before the breaker was closed: how it ends says nothing about the channel now.
    fn is_of_before(&self, call: Call, now: Monotonic) -> bool {
        let since_closed = self.closed_at.map(|closed_at| now.since(closed_at));
        since_closed.zip(call.latency).is_some_and(|(since_closed, latency)| latency > since_closed)
    }

    fn judge(&mut self, class: OutcomeClass, is_slow: bool, settings: &BreakerSettings, now: Monotonic) {
        let Some(answered) = class.technical() else { return };
        self.technical.push(answered, settings.window_outcomes);
        self.in_time.push(!is_slow, settings.window_outcomes);
        if answered {
            (self.failures_in_a_row, self.answered_at) = (0, now);
        } else {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        }
        let by = if !answered && self.failures_in_a_row >= settings.consecutive_failures.max(1) {
            OpenedBy::Consecutive
        } else if !answered && is_much(&self.technical, 0, settings.failure_percent, settings.min_outcomes) {
            OpenedBy::FailureRate
        } else if is_slow && is_much(&self.in_time, 0, settings.slow_percent, settings.min_outcomes) {
            OpenedBy::Slow
        } else {
            return;
        };
        self.open(0, by, settings, now);
    }

    fn judge_probe(&mut self, class: OutcomeClass, is_slow: bool, settings: &BreakerSettings, now: Monotonic) {
        let State::Open { failed_probes, by, .. } = self.state else { return };
        if answers(class, is_slow) {
            self.close(now);
        } else {
            self.open(failed_probes.saturating_add(1), by, settings, now);
        }
    }

    /// The state when that many calls, all sent after the last answer, have been without one for longer than
    /// [`BreakerSettings::slow`]. They open a closed breaker when they are as many as failures in a row may be, or, taken
    /// as slow calls, too large a share.
    #[must_use]
    pub fn after_silence(mut self, hanging: u32, settings: &BreakerSettings, now: Monotonic) -> Self {
        if settings.slow_percent == 0 || hanging == 0 || self.state != State::Closed {
            return self;
        }
        if hanging >= settings.consecutive_failures.max(1)
            || is_much(&self.in_time, hanging, settings.slow_percent, settings.min_outcomes)
        {
            self.open(0, OpenedBy::Hanging, settings, now);
        }
        self
    }

    fn close(&mut self, now: Monotonic) {
        // Even a decline is an answer.
        *self = Self::closed_at(now);
    }

    /// One that was closed at `now`, whatever calls from before that still bring.
    pub fn closed_at(now: Monotonic) -> Self {
        Self { answered_at: now, closed_at: Some(now), ..Self::default() }
    }

    fn open(&mut self, failed_probes: u32, by: OpenedBy, settings: &BreakerSettings, now: Monotonic) {
        let grown = settings.open.saturating_mul(1_u32.checked_shl(failed_probes).unwrap_or(u32::MAX));
        let until = now.plus(grown.min(settings.open_max));
        let state = State::Open { until, failed_probes, by };
        *self = Self { state, answered_at: self.answered_at, ..Self::default() };
    }

    /// The state with the time that is left to stay open made longer or shorter by up to the jitter, so that channels that
    /// failed together are not tried together. To be called once, when it has just opened.
    #[must_use]
    pub fn jittered(mut self, draw: u64, settings: &BreakerSettings, now: Monotonic) -> Self {
        if let State::Open { until, .. } = &mut self.state {
            let jitter_ppm = u64::from(settings.jitter_percent.min(100)) * 10_000;
            let factor_ppm = 1_000_000 - jitter_ppm + draw % (2 * jitter_ppm + 1);
            let left_us = u128::from(until.micros().saturating_sub(now.micros())) * u128::from(factor_ppm) / 1_000_000;
            let left = Duration::from_micros(u64::try_from(left_us).unwrap_or(u64::MAX));
            *until = now.plus(left.min(settings.open_max));
        }
        self
    }

    /// The breaker as it stands at `now`; nothing has to happen for it to become half-open.
    pub fn view_at(&self, now: Monotonic) -> BreakerView {
        match self.state {
            State::Closed => BreakerView::Closed,
            State::Open { until, .. } if now < until => BreakerView::Open,
            State::Open { .. } => BreakerView::HalfOpen,
        }
    }

    /// How it stands when it is not closed.
    pub fn open_at(&self, now: Monotonic) -> Option<OpenBreaker> {
        match self.state {
            State::Closed => None,
            State::Open { until, failed_probes, by } => Some(OpenBreaker { left: until.since(now), failed_probes, by }),
        }
    }

    /// When the channel last answered a call.
    pub const fn answered_at(&self) -> Monotonic {
        self.answered_at
    }

    /// What is to be written down.
    pub fn save(&self, now: Monotonic) -> SavedBreaker {
        let open = self.open_at(now).map(|open| SavedOpen {
            left_ms: u64::try_from(open.left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX),
            failed_probes: open.failed_probes,
            by: open.by,
        });
        SavedBreaker {
            technical: self.technical.save(),
            in_time: self.in_time.save(),
            failures_in_a_row: self.failures_in_a_row,
            open,
        }
    }

    /// What was written down `passed` ago. One that was open stays so no longer than it would have, or than one may now.
    pub fn restore(saved: &SavedBreaker, passed: Duration, settings: &BreakerSettings, now: Monotonic) -> Self {
        let state = saved.open.map_or(State::Closed, |open| {
            let left = Duration::from_millis(open.left_ms).saturating_sub(passed).min(settings.open_max);
            State::Open { until: now.plus(left), failed_probes: open.failed_probes, by: open.by }
        });
        Self {
            technical: OutcomeWindow::restore(&saved.technical),
            in_time: OutcomeWindow::restore(&saved.in_time),
            failures_in_a_row: saved.failures_in_a_row,
            answered_at: now,
            closed_at: None,
            state,
        }
    }
}

/// What a call was like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// How long it took, where that was measured.
    pub latency: Option<Duration>,
    /// Whether it tried a channel that is not closed.
    pub probe: bool,
}

/// Whether a call that tries a channel finds it well: it answered, whatever it said, and in time.
fn answers(class: OutcomeClass, is_slow: bool) -> bool {
    class.technical() != Some(false) && !(is_slow && class.technical() == Some(true))
}

/// Whether the share of what is not good, with that many more, is at least `percent`, of at least `min_outcomes`.
fn is_much(window: &OutcomeWindow, more: u32, percent: u32, min_outcomes: u32) -> bool {
    let outcomes = window.len() as u64 + u64::from(more);
    let bad = outcomes - window.good();
    outcomes >= u64::from(min_outcomes) && bad * 100 >= outcomes * u64::from(percent)
}
