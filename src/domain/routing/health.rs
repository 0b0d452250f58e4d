//! How a channel is doing: `(state, outcome, now) → state`.
//!
//! Two things are kept apart. *Approvals* rank channels: how many payments went through of those that the channel,
//! its network or its own trouble decided; what the payer's bank or the payer did says nothing about the channel.
//! *Technical health* is the breaker's business: only whether the channel answered.

use std::time::Duration;

use crate::domain::routing::approvals::{ApprovalSettings, Approvals, WindowEstimate};
use crate::domain::routing::breaker::{Breaker, BreakerSettings, BreakerView};
use crate::domain::routing::outcome_class::OutcomeClass;
use crate::domain::time::Monotonic;

/// A new latency counts one eighth, so that the average follows within a few dozen calls.
const LATENCY_SHARE: i64 = 8;

/// How outcomes become judgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// How success rates are estimated.
    pub approvals: ApprovalSettings,
    /// When a channel is left alone.
    pub breaker: BreakerSettings,
}

/// One outcome with what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What came of it.
    pub class: OutcomeClass,
    /// How long the channel took, where that was measured.
    pub latency_ms: Option<u32>,
    /// Whether this was the one call that tries a half-open channel.
    pub probe: bool,
}

/// What is known about one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelHealth {
    approvals: Approvals,
    breaker: Breaker,
    latency_us: Option<u32>,
}

impl ChannelHealth {
    /// The state after an outcome that is also how the payment ended.
    #[must_use]
    pub fn after(self, outcome: Outcome, settings: &HealthSettings, now: Monotonic) -> Self {
        self.after_call(outcome, settings, now).after_ending(outcome.class, settings, now)
    }

    /// The state after a call: how it went and how long it took. What came of the payment may become known later.
    #[must_use]
    pub fn after_call(mut self, outcome: Outcome, settings: &HealthSettings, now: Monotonic) -> Self {
        self.learn_latency(outcome.latency_ms);
        let before = self.breaker_at(now);
        self.breaker = self.breaker.after(outcome.class, outcome.probe, &settings.breaker, now);
        if before == BreakerView::HalfOpen && self.breaker_at(now) == BreakerView::Closed {
            // What was learned in the outage says nothing about the channel now.
            self.approvals = Approvals::default();
        }
        self
    }

    /// The state after it became known what came of a payment, as far as that says something about approvals.
    #[must_use]
    pub fn after_ending(mut self, class: OutcomeClass, settings: &HealthSettings, now: Monotonic) -> Self {
        if let Some(approved) = class.approval() {
            self.approvals = self.approvals.after(approved, &settings.approvals, now);
        }
        self
    }

    /// The state under settings with another size of the window: the newest outcomes are kept.
    #[must_use]
    pub fn resized(mut self, settings: &HealthSettings) -> Self {
        self.approvals = self.approvals.resized(&settings.approvals);
        self
    }

    fn learn_latency(&mut self, latency_ms: Option<u32>) {
        let Some(latency_ms) = latency_ms else { return };
        let new_us = i64::from(latency_ms) * 1000;
        let average_us = match self.latency_us {
            None => new_us,
            Some(known) => i64::from(known) + (new_us - i64::from(known)) / LATENCY_SHARE,
        };
        self.latency_us = Some(u32::try_from(average_us).unwrap_or(u32::MAX));
    }

    /// The state after an operator's reset: closed, and nothing known but the latency.
    #[must_use]
    pub fn reset(self) -> Self {
        Self { latency_us: self.latency_us, ..Self::default() }
    }

    /// The breaker as it stands at `now`; nothing has to happen for it to become half-open.
    pub fn breaker_at(&self, now: Monotonic) -> BreakerView {
        self.breaker.view_at(now)
    }

    /// How long the breaker stays open; `None` when it does not stand open.
    pub fn opens_in(&self, now: Monotonic) -> Option<Duration> {
        self.breaker.opens_in(now)
    }

    /// The success rate to rank by. A half-open channel ranks by the prior alone, or it would never be tried again.
    pub fn estimate(&self, settings: &HealthSettings, now: Monotonic) -> WindowEstimate {
        match self.breaker_at(now) {
            BreakerView::HalfOpen => Approvals::default().estimate(&settings.approvals, now),
            BreakerView::Closed | BreakerView::Open => self.approvals.estimate(&settings.approvals, now),
        }
    }

    /// The average latency in microseconds, when any was measured.
    pub const fn latency_us(&self) -> Option<u32> {
        self.latency_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: HealthSettings = HealthSettings {
        approvals: ApprovalSettings {
            window_outcomes: 200,
            prior_outcomes: 20,
            prior_success_ppm: 950_000,
            forget_half_after: Duration::from_secs(300),
        },
        breaker: BreakerSettings {
            window_outcomes: 200,
            consecutive_failures: 5,
            failure_percent: 50,
            min_outcomes: 20,
            open: Duration::from_secs(30),
            open_max: Duration::from_secs(100),
        },
    };

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_micros(seconds * 1_000_000)
    }

    fn after(health: ChannelHealth, class: OutcomeClass, now: Monotonic) -> ChannelHealth {
        health.after(Outcome { class, latency_ms: None, probe: false }, &SETTINGS, now)
    }

    fn probed(health: ChannelHealth, class: OutcomeClass, now: Monotonic) -> ChannelHealth {
        health.after(Outcome { class, latency_ms: None, probe: true }, &SETTINGS, now)
    }

    fn opened(now: Monotonic) -> ChannelHealth {
        (0..5).fold(ChannelHealth::default(), |health, _| after(health, OutcomeClass::TechnicalFailure, now))
    }

    #[test]
    fn failures_in_a_row_open_and_a_success_between_does_not() {
        let four =
            (0..4).fold(ChannelHealth::default(), |health, _| after(health, OutcomeClass::TechnicalFailure, at(1)));
        assert_eq!(four.breaker_at(at(1)), BreakerView::Closed);
        let saved = after(four, OutcomeClass::Answered, at(1));
        assert_eq!(after(saved, OutcomeClass::TechnicalFailure, at(1)).breaker_at(at(1)), BreakerView::Closed);
        assert_eq!(opened(at(1)).breaker_at(at(1)), BreakerView::Open);
    }

    #[test]
    fn a_share_of_failures_opens_once_there_are_enough_outcomes() {
        let mut health = ChannelHealth::default();
        for pair in 0..9 {
            health = after(after(health, OutcomeClass::Approved, at(pair)), OutcomeClass::TechnicalFailure, at(pair));
        }
        assert_eq!(health.breaker_at(at(9)), BreakerView::Closed, "18 outcomes are too few");
        health = after(after(health, OutcomeClass::Approved, at(9)), OutcomeClass::TechnicalFailure, at(9));
        assert_eq!(health.breaker_at(at(9)), BreakerView::Open);
    }

    #[test]
    fn declines_never_touch_the_breaker_and_the_payers_side_touches_nothing() {
        let mut health = ChannelHealth::default();
        for _ in 0..500 {
            health = after(health, OutcomeClass::DeclinedByProcessor, at(1));
            health = after(health, OutcomeClass::DeclinedByNetwork, at(1));
            health = after(health, OutcomeClass::DeclinedUnspecified, at(1));
        }
        assert_eq!(health.breaker_at(at(1)), BreakerView::Closed);
        assert!(health.estimate(&SETTINGS, at(1)).success_ppm < 100_000);
        for class in [OutcomeClass::DeclinedByBank, OutcomeClass::DeclinedByCustomer] {
            assert_eq!(after(health, class, at(2)), health);
        }
    }

    #[test]
    fn an_open_breaker_becomes_half_open_by_itself_and_one_probe_decides() {
        let open = opened(at(0));
        assert_eq!(open.opens_in(at(10)), Some(Duration::from_secs(20)));
        assert_eq!(open.breaker_at(at(29)), BreakerView::Open);
        assert_eq!(open.breaker_at(at(30)), BreakerView::HalfOpen);
        for class in [OutcomeClass::Approved, OutcomeClass::Answered, OutcomeClass::DeclinedByBank] {
            let closed = probed(open, class, at(31));
            assert_eq!(closed.breaker_at(at(31)), BreakerView::Closed, "{class:?} is an answer");
            assert!(closed.estimate(&SETTINGS, at(31)).success_ppm >= 950_000, "the outage is forgotten");
        }
        assert_eq!(after(open, OutcomeClass::Approved, at(31)).breaker_at(at(31)), BreakerView::HalfOpen, "late news");
    }

    #[test]
    fn the_open_time_doubles_with_failed_probes_up_to_its_maximum_and_starts_anew() {
        let mut health = opened(at(0));
        let mut now = 0;
        for expected_s in [30, 60, 100, 100] {
            assert_eq!(health.opens_in(at(now)), Some(Duration::from_secs(expected_s)));
            now += expected_s;
            health = probed(health, OutcomeClass::TechnicalFailure, at(now));
        }
        now += 100;
        health = probed(health, OutcomeClass::Approved, at(now));
        let again = (0..5).fold(health, |health, _| after(health, OutcomeClass::TechnicalFailure, at(now)));
        assert_eq!(again.opens_in(at(now)), Some(Duration::from_secs(30)));
    }

    #[test]
    fn an_operators_reset_closes_at_once() {
        assert_eq!(opened(at(0)).reset().breaker_at(at(0)), BreakerView::Closed);
    }

    #[test]
    fn the_estimate_starts_at_the_prior_follows_the_window_and_fades() {
        let fresh = ChannelHealth::default();
        assert_eq!(fresh.estimate(&SETTINGS, at(0)), WindowEstimate { success_ppm: 950_000, samples: 0, effective: 0 });
        let mut health = fresh;
        for index in 0..1_000 {
            let class = if index % 2 == 0 { OutcomeClass::Approved } else { OutcomeClass::DeclinedByNetwork };
            health = after(health, class, at(10));
        }
        // Eight parts of 25 outcomes, the newest weighing 8: every second of them has 13 approvals, the others 12.
        let rate_ppm = (12 * 36 + 16) * 1_000_000 / (25 * 36);
        let success_ppm = (rate_ppm * 200 + 19_000_000) / 220;
        let expected = WindowEstimate { success_ppm, samples: 200, effective: 158 };
        assert_eq!(health.estimate(&SETTINGS, at(10)), expected);
        assert_eq!(health.estimate(&SETTINGS, at(310)).samples, 100, "half after five minutes without news");
        assert_eq!(health.estimate(&SETTINGS, at(10_000)).success_ppm, 950_000);
        let mut smaller = SETTINGS;
        smaller.approvals.window_outcomes = 50;
        let class = OutcomeClass::Approved;
        let resized = health.after(Outcome { class, latency_ms: None, probe: false }, &smaller, at(10));
        assert_eq!(resized.estimate(&smaller, at(10)).samples, 50, "a changed window keeps the newest");
    }

    #[test]
    fn latency_follows_what_is_measured() {
        let measure = |health: ChannelHealth, latency_ms| {
            let outcome = Outcome { class: OutcomeClass::Answered, latency_ms: Some(latency_ms), probe: false };
            health.after(outcome, &SETTINGS, at(1))
        };
        let first = measure(ChannelHealth::default(), 100);
        assert_eq!(first.latency_us(), Some(100_000));
        let settled = (0..100).fold(first, |health, _| measure(health, 300));
        assert!(settled.latency_us().is_some_and(|micros| (299_000..=300_000).contains(&micros)));
    }
}
