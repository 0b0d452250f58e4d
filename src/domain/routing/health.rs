//! How a channel is doing: `(state, outcome, now) → state`.
//!
//! Two things are kept apart. *Approvals* rank channels: how many payments went through of those that the channel,
//! its network or its own trouble decided; what the payer's bank or the payer did says nothing about the channel.
//! *Technical health* is the breaker's business: only whether the channel answered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::routing::approvals::{ApprovalSettings, Approvals, SavedApprovals, WindowEstimate};
use crate::domain::routing::breaker::{Breaker, BreakerSettings, BreakerView, Call, OpenBreaker, SavedBreaker};
use crate::domain::routing::outcome_class::OutcomeClass;
use crate::domain::routing::segments::WholeChannel;
use crate::domain::time::Monotonic;

/// A new latency counts one eighth, so that the average follows within a few dozen calls ...
const LATENCY_SHARE: u64 = 8;
/// ... or more after a while without any: what was measured counts half after this long. So load comes back to a channel
/// that was slow.
const LATENCY_HALF_MS: u64 = 30_000;

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
    /// Whether this was the one call that tries a half-open channel, or one that went to an open one because all were
    /// down.
    pub probe: bool,
}

/// What is known about one channel, as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHealth {
    approvals: SavedApprovals,
    breaker: SavedBreaker,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency_us: Option<u32>,
}

/// What is known about one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelHealth {
    approvals: Approvals,
    breaker: Breaker,
    latency_us: Option<u32>,
    /// When that was last measured.
    measured_at: Monotonic,
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
        self.learn_latency(outcome, now);
        let before = self.breaker_at(now);
        let latency = outcome.latency_ms.map(|latency_ms| Duration::from_millis(u64::from(latency_ms)));
        let call = Call { latency, probe: outcome.probe };
        self.breaker = self.breaker.after(outcome.class, call, &settings.breaker, now);
        if before != BreakerView::Closed && self.breaker_at(now) == BreakerView::Closed {
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

    /// The state when that many calls, all sent after [`ChannelHealth::answered_at`], have been without an answer for longer
    /// than [`BreakerSettings::slow`].
    #[must_use]
    pub fn after_silence(mut self, hanging: u32, settings: &HealthSettings, now: Monotonic) -> Self {
        self.breaker = self.breaker.after_silence(hanging, &settings.breaker, now);
        self
    }

    /// The state with the time for which its breaker stays open made longer or shorter at random. To be called once, when it
    /// has just opened.
    #[must_use]
    pub fn jittered(mut self, draw: u64, settings: &HealthSettings, now: Monotonic) -> Self {
        self.breaker = self.breaker.jittered(draw, &settings.breaker, now);
        self
    }

    /// What is to be written down.
    pub fn save(&self, now: Monotonic) -> SavedHealth {
        SavedHealth {
            approvals: self.approvals.save(now),
            breaker: self.breaker.save(now),
            latency_us: self.latency_us,
        }
    }

    /// What was written down `passed` ago.
    pub fn restore(saved: &SavedHealth, passed: Duration, settings: &HealthSettings, now: Monotonic) -> Self {
        Self {
            approvals: Approvals::restore(&saved.approvals, passed, &settings.approvals, now),
            breaker: Breaker::restore(&saved.breaker, passed, &settings.breaker, now),
            latency_us: saved.latency_us,
            measured_at: now,
        }
    }

    /// The state under settings with another size of the window: the newest outcomes are kept.
    #[must_use]
    pub fn resized(mut self, settings: &HealthSettings) -> Self {
        self.approvals = self.approvals.resized(&settings.approvals);
        self
    }

    fn learn_latency(&mut self, outcome: Outcome, now: Monotonic) {
        let Some(latency_ms) = outcome.latency_ms else { return };
        let new_us = u64::from(latency_ms) * 1000;
        let is_failure = outcome.class.technical() == Some(false);
        if is_failure && self.latency_us.is_none_or(|known_us| new_us < u64::from(known_us)) {
            // To refuse quickly is not to be quick: a channel that is down would look like the one with the least load.
            return;
        }
        let average_us = match self.latency_us {
            None => new_us,
            Some(known_us) => {
                let weight = faded(LATENCY_SHARE - 1, now.since(self.measured_at));
                (u64::from(known_us) * weight + new_us * (LATENCY_SHARE - weight)) / LATENCY_SHARE
            }
        };
        self.latency_us = Some(u32::try_from(average_us).unwrap_or(u32::MAX));
        self.measured_at = now;
    }

    /// The state after an operator's reset: closed, and nothing known but the latency.
    #[must_use]
    pub fn reset(self, now: Monotonic) -> Self {
        let (latency_us, measured_at) = (self.latency_us, self.measured_at);
        Self { latency_us, measured_at, breaker: Breaker::closed_at(now), ..Self::default() }
    }

    /// The breaker as it stands at `now`; nothing has to happen for it to become half-open.
    pub fn breaker_at(&self, now: Monotonic) -> BreakerView {
        self.breaker.view_at(now)
    }

    /// How long the breaker stays open; `None` when it does not stand open.
    pub fn opens_in(&self, now: Monotonic) -> Option<Duration> {
        self.open_at(now).map(|open| open.left).filter(|left| !left.is_zero())
    }

    /// How the breaker stands when it is not closed.
    pub fn open_at(&self, now: Monotonic) -> Option<OpenBreaker> {
        self.breaker.open_at(now)
    }

    /// When the channel last answered a call.
    pub const fn answered_at(&self) -> Monotonic {
        self.breaker.answered_at()
    }

    /// The success rate to rank by. A half-open channel ranks by the prior alone, or it would never be tried again.
    pub fn estimate(&self, settings: &HealthSettings, now: Monotonic) -> WindowEstimate {
        match self.breaker_at(now) {
            BreakerView::HalfOpen => Approvals::default().estimate(&settings.approvals, now),
            BreakerView::Closed | BreakerView::Open => self.approvals.estimate(&settings.approvals, now),
        }
    }

    /// What kinds of payments on it are estimated upon. Of a half-open channel nothing is taken to be known.
    pub(super) fn whole(&self, assumed_ppm: u32, settings: &HealthSettings, now: Monotonic) -> WholeChannel {
        if self.breaker_at(now) == BreakerView::HalfOpen {
            return WholeChannel { assumed_ppm, ..WholeChannel::default() };
        }
        let evidence = self.approvals.evidence(&settings.approvals, now);
        WholeChannel { assumed_ppm, evidence, worth_a_look_ppm: self.approvals.worth_a_look_ppm(now) }
    }

    /// The average latency in microseconds, when any was measured.
    pub const fn latency_us(&self) -> Option<u32> {
        self.latency_us
    }

    /// The same to go by at `now`: the longer ago it was measured, the nearer to the least of the channels, so that one that
    /// was slow is tried again.
    pub fn latency_us_at(&self, now: Monotonic, least_us: u32) -> Option<u32> {
        let latency_us = self.latency_us?;
        let left_us = faded(u64::from(latency_us), now.since(self.measured_at));
        Some(u32::try_from(left_us).unwrap_or(u32::MAX).max(least_us.min(latency_us)))
    }
}

/// What is left of something after a while: half after each [`LATENCY_HALF_MS`], in a straight line between.
fn faded(value: u64, age: Duration) -> u64 {
    let (age_ms, half_ms) = (u64::try_from(age.as_millis()).unwrap_or(u64::MAX), LATENCY_HALF_MS);
    let left = value.checked_shr(u32::try_from(age_ms / half_ms).unwrap_or(u32::MAX)).unwrap_or(0);
    left - left * (age_ms % half_ms) / (2 * half_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::routing::OpenedBy;

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
            slow: Duration::from_secs(8),
            slow_percent: 80,
            open: Duration::from_secs(30),
            open_max: Duration::from_secs(100),
            jitter_percent: 0,
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

    const CLASSES: [OutcomeClass; OutcomeClass::ALL.len()] = OutcomeClass::ALL;

    fn taking(health: ChannelHealth, class: OutcomeClass, latency_ms: u32, now: Monotonic) -> ChannelHealth {
        health.after(Outcome { class, latency_ms: Some(latency_ms), probe: false }, &SETTINGS, now)
    }

    #[test]
    fn only_the_channels_own_failures_ever_hurt_it_and_only_its_own_answers_count_for_it() {
        for class in CLASSES {
            // However often and however slowly.
            let health = (0..1_000).fold(ChannelHealth::default(), |health, _| taking(health, class, 60_000, at(1)));
            let opens =
                matches!(class, OutcomeClass::TechnicalFailure | OutcomeClass::Approved | OutcomeClass::Answered);
            let expected = if opens { BreakerView::Open } else { BreakerView::Closed };
            assert_eq!(health.breaker_at(at(1)), expected, "{class:?}");
            let quick = (0..1_000).fold(ChannelHealth::default(), |health, _| taking(health, class, 100, at(1)));
            let fails = class == OutcomeClass::TechnicalFailure;
            assert_eq!(quick.breaker_at(at(1)) == BreakerView::Open, fails, "{class:?}");
            let samples = quick.estimate(&SETTINGS, at(1)).samples;
            let says_nothing = matches!(
                class,
                OutcomeClass::DeclinedByBank | OutcomeClass::DeclinedByCustomer | OutcomeClass::Answered
            );
            assert_eq!(samples == 0, says_nothing, "{class:?} counts for approvals");
        }
        // A bank's decline between failures does not save the channel either.
        let mut health = ChannelHealth::default();
        for _ in 0..5 {
            health = after(health, OutcomeClass::TechnicalFailure, at(1));
            health = after(health, OutcomeClass::DeclinedByBank, at(1));
        }
        assert_eq!(health.breaker_at(at(1)), BreakerView::Open);
    }

    #[test]
    fn slow_answers_open_once_they_are_most_of_enough() {
        let mut health = ChannelHealth::default();
        for index in 0..19 {
            health = taking(health, OutcomeClass::Approved, 8_001, at(index));
        }
        assert_eq!(health.breaker_at(at(19)), BreakerView::Closed, "19 calls are too few");
        let punctual = taking(health, OutcomeClass::Approved, 8_000, at(19));
        assert_eq!(punctual.breaker_at(at(19)), BreakerView::Closed, "8 s are not slow");
        let open = taking(health, OutcomeClass::Approved, 8_001, at(19));
        assert_eq!(open.open_at(at(19)).map(|open| open.by), Some(OpenedBy::Slow));
        // A probe that is as slow finds nothing mended, and one in time does.
        let probe = |latency_ms| Outcome { class: OutcomeClass::Approved, latency_ms: Some(latency_ms), probe: true };
        let still = open.after(probe(9_000), &SETTINGS, at(60));
        assert_eq!(still.open_at(at(60)).map(|open| (open.failed_probes, open.by)), Some((1, OpenedBy::Slow)));
        assert_eq!(open.after(probe(900), &SETTINGS, at(60)).breaker_at(at(60)), BreakerView::Closed);
        let mut off = SETTINGS;
        off.breaker.slow_percent = 0;
        let outcome = Outcome { class: OutcomeClass::Approved, latency_ms: Some(60_000), probe: false };
        let never = (0..500).fold(ChannelHealth::default(), |health, _| health.after(outcome, &off, at(1)));
        assert_eq!(never.after_silence(500, &off, at(1)).breaker_at(at(1)), BreakerView::Closed);
    }

    #[test]
    fn calls_without_an_answer_open_before_they_time_out() {
        let busy = (0..100).fold(ChannelHealth::default(), |health, _| after(health, OutcomeClass::Approved, at(1)));
        assert_eq!(busy.answered_at(), at(1));
        assert_eq!(busy.after_silence(4, &SETTINGS, at(20)), busy, "fewer than failures in a row may be");
        let silent = busy.after_silence(5, &SETTINGS, at(20));
        assert_eq!(silent.open_at(at(20)).map(|open| open.by), Some(OpenedBy::Hanging));
        assert_eq!(silent.after_silence(50, &SETTINGS, at(25)), silent, "it opens once");
        let tried = probed(silent, OutcomeClass::Approved, at(50));
        assert_eq!((tried.breaker_at(at(50)), tried.answered_at()), (BreakerView::Closed, at(50)));
    }

    #[test]
    fn an_open_channel_that_answers_because_all_were_down_closes_and_one_that_fails_changes_nothing() {
        let open = opened(at(0));
        let failed = probed(open, OutcomeClass::TechnicalFailure, at(5));
        assert_eq!(failed.open_at(at(5)), open.open_at(at(5)));
        assert_eq!(probed(open, OutcomeClass::Approved, at(5)).breaker_at(at(5)), BreakerView::Closed);
        assert_eq!(after(open, OutcomeClass::Approved, at(5)).breaker_at(at(5)), BreakerView::Open, "late news");
    }

    #[test]
    fn the_jitter_stays_within_its_share_and_below_the_maximum() {
        let mut settings = SETTINGS;
        settings.breaker.jitter_percent = 20;
        let left = |health: ChannelHealth, draw| health.jittered(draw, &settings, at(0)).opens_in(at(0)).unwrap();
        let open = opened(at(0));
        let drawn: Vec<Duration> =
            (0..2_000_u64).map(|index| left(open, index.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!((24_000..24_100).contains(&least.as_millis()), "{least:?}");
        assert!((35_900..=36_000).contains(&most.as_millis()), "{most:?}");
        let grown = (0..10).fold(open, |health, _| {
            let due = health.opens_in(at(0)).map_or(at(0), |left| at(0).plus(left));
            let failed = probed(health, OutcomeClass::TechnicalFailure, due);
            ChannelHealth::restore(&failed.save(due), Duration::ZERO, &settings, at(0))
        });
        assert!(
            (0..500)
                .all(|draw: u64| left(grown, draw.wrapping_mul(0x9e37_79b9_7f4a_7c15)) <= SETTINGS.breaker.open_max)
        );
        settings.breaker.jitter_percent = 0;
        assert_eq!(open.jittered(77, &settings, at(0)), open);
        assert_eq!(ChannelHealth::default().jittered(77, &settings, at(0)), ChannelHealth::default());
    }

    #[test]
    fn what_is_written_down_comes_back_older_by_what_passed() {
        let mut health = ChannelHealth::default();
        for index in 0..150 {
            health = taking(
                health,
                if index % 3 == 0 { OutcomeClass::Approved } else { OutcomeClass::DeclinedByNetwork },
                80,
                at(9),
            );
        }
        let saved: SavedHealth = serde_json::from_str(&serde_json::to_string(&health.save(at(10))).unwrap()).unwrap();
        let restored = |passed_s| ChannelHealth::restore(&saved, Duration::from_secs(passed_s), &SETTINGS, at(0));
        assert_eq!(restored(0).estimate(&SETTINGS, at(0)), health.estimate(&SETTINGS, at(10)));
        assert_eq!(restored(0).latency_us(), Some(80_000));
        assert_eq!(restored(300).estimate(&SETTINGS, at(0)).samples, 75);
        assert_eq!(restored(u64::MAX).estimate(&SETTINGS, at(0)).samples, 0);
        // The failures that it had are counted on.
        let four = (0..4).fold(health, |health, _| after(health, OutcomeClass::TechnicalFailure, at(10)));
        let back = ChannelHealth::restore(&four.save(at(10)), Duration::ZERO, &SETTINGS, at(0));
        assert_eq!(after(back, OutcomeClass::TechnicalFailure, at(0)).breaker_at(at(0)), BreakerView::Open);
    }

    #[test]
    fn an_open_breaker_is_neither_forgotten_nor_held_open_by_a_restart() {
        let twice = probed(opened(at(0)), OutcomeClass::TechnicalFailure, at(30));
        let saved = twice.save(at(40));
        let restored = |passed: Duration, settings: &HealthSettings| {
            let open = ChannelHealth::restore(&saved, passed, settings, at(0)).open_at(at(0)).unwrap();
            assert_eq!((open.failed_probes, open.by), (1, OpenedBy::Consecutive));
            open.left
        };
        assert_eq!(restored(Duration::ZERO, &SETTINGS), Duration::from_secs(50), "also when the clock was set back");
        assert_eq!(restored(Duration::from_secs(20), &SETTINGS), Duration::from_secs(30));
        assert_eq!(restored(Duration::MAX, &SETTINGS), Duration::ZERO, "half-open, not closed");
        let mut shorter = SETTINGS;
        shorter.breaker.open_max = Duration::from_secs(7);
        assert_eq!(restored(Duration::ZERO, &shorter), Duration::from_secs(7));
        let probe = ChannelHealth::restore(&saved, Duration::MAX, &SETTINGS, at(0));
        let failed = probed(probe, OutcomeClass::TechnicalFailure, at(0));
        assert_eq!(failed.opens_in(at(0)), Some(Duration::from_secs(100)), "its time grows on");
    }

    #[test]
    fn an_operators_reset_closes_at_once() {
        let reset = opened(at(0)).reset(at(20));
        assert_eq!(reset.breaker_at(at(20)), BreakerView::Closed);
        let old = (0..1_000).fold(reset, |health, _| taking(health, OutcomeClass::TechnicalFailure, 10_001, at(30)));
        assert_eq!(old.breaker_at(at(30)), BreakerView::Closed, "they were sent before");
    }

    #[test]
    fn calls_from_before_the_breaker_closed_say_nothing_when_they_end() {
        let fail = |health, count, latency_ms, now| {
            (0..count).fold(health, |health, _| taking(health, OutcomeClass::TechnicalFailure, latency_ms, now))
        };
        let closed = probed(opened(at(0)), OutcomeClass::Approved, at(40));
        assert_eq!(closed.breaker_at(at(40)), BreakerView::Closed);
        // Sent at 39 s and lost; as many sent at 40 s and lost are news.
        assert_eq!(fail(closed, 5, 6_000, at(45)).breaker_at(at(45)), BreakerView::Closed);
        assert_eq!(fail(closed, 5, 5_000, at(45)).breaker_at(at(45)), BreakerView::Open);
        // They do not make it look slow either, nor do they count later.
        let slow = (0..100).fold(closed, |health, _| taking(health, OutcomeClass::Approved, 20_000, at(50)));
        assert_eq!(slow.breaker_at(at(50)), BreakerView::Closed);
        let again = fail(fail(closed, 4, 6_000, at(45)), 4, 1_000, at(46));
        assert_eq!(again.breaker_at(at(46)), BreakerView::Closed);
        assert_eq!(fail(again, 1, 1_000, at(46)).breaker_at(at(46)), BreakerView::Open);
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
    fn a_quick_failure_is_not_speed_and_a_slow_one_is_slow() {
        let measure = |health: ChannelHealth, class, latency_ms| {
            health.after(Outcome { class, latency_ms: Some(latency_ms), probe: false }, &SETTINGS, at(0))
        };
        let refused = measure(ChannelHealth::default(), OutcomeClass::TechnicalFailure, 1);
        assert_eq!(refused.latency_us(), None);
        let known = measure(refused, OutcomeClass::Approved, 400);
        assert_eq!(measure(known, OutcomeClass::TechnicalFailure, 1).latency_us(), Some(400_000));
        assert_eq!(measure(known, OutcomeClass::TechnicalFailure, 8_400).latency_us(), Some(1_400_000));
        assert_eq!(measure(known, OutcomeClass::DeclinedByBank, 80).latency_us(), Some(360_000));
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

    #[test]
    fn a_latency_that_was_measured_long_ago_holds_little_against_a_channel() {
        let measure = |health: ChannelHealth, latency_ms, now| {
            let outcome = Outcome { class: OutcomeClass::Answered, latency_ms: Some(latency_ms), probe: false };
            health.after(outcome, &SETTINGS, now)
        };
        let slow = (0..50).fold(ChannelHealth::default(), |health, _| measure(health, 8_000, at(1)));
        let by_then = |seconds: u64| slow.latency_us_at(at(1 + seconds), 600_000);
        assert_eq!(
            [0, 30, 60, 120, 9_999].map(by_then).map(Option::unwrap),
            [8_000_000, 4_000_000, 2_000_000, 600_000, 600_000]
        );
        assert_eq!(
            slow.latency_us_at(at(9_999), 9_000_000),
            Some(8_000_000),
            "nobody is taken to be slower than he was"
        );
        assert_eq!(measure(slow, 600, at(1)).latency_us(), Some(7_075_000));
        assert_eq!(measure(slow, 600, at(121)).latency_us(), Some(600_000), "the new one is all that is known");
    }
}
