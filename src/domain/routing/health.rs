//! How a channel is doing: `(state, outcome, now) → state`.
//!
//! Two things are kept apart. *Approvals* rank channels: how many payments went through of those that the channel,
//! its network or its own trouble decided; what the payer's bank or the payer did says nothing about the channel.
//! *Technical health* is the breaker's business: only whether the channel answered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::time::Monotonic;

/// Most outcomes that a window can hold.
pub const WINDOW_OUTCOMES_MAX: usize = WORDS * 64;

const WORDS: usize = 16;
const PPM: u64 = 1_000_000;
/// A new latency counts one eighth, so that the average follows within a few dozen calls.
const LATENCY_SHARE: i64 = 8;

/// How outcomes become judgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Outcomes remembered per channel; at most [`WINDOW_OUTCOMES_MAX`].
    pub window_outcomes: usize,
    /// Weight of the prior in outcomes, so that few outcomes do not decide.
    pub prior_outcomes: u32,
    /// Expected success rate before anything is known, in parts per million.
    pub prior_success_ppm: u32,
    /// Technical failures in a row that open the breaker.
    pub breaker_consecutive_failures: u32,
    /// Share of technical failures in the window that opens the breaker, in percent.
    pub breaker_failure_percent: u32,
    /// Outcomes needed before that share counts.
    pub breaker_min_outcomes: u32,
    /// First time that an open breaker stays open; doubles with each failed probe.
    pub breaker_open: Duration,
    /// Longest time that it stays open.
    pub breaker_open_max: Duration,
    /// Without news for this long, what was learned counts half; a channel that ranked low gets another chance.
    pub forget_half_after: Duration,
}

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
enum Breaker {
    Closed,
    /// Open until then, half-open from then on until a probe tells.
    Open {
        until: Monotonic,
        failed_probes: u32,
    },
}

/// The last outcomes as bits, newest at bit 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OutcomeWindow {
    words: [u64; WORDS],
    len: usize,
}

impl OutcomeWindow {
    /// Adds one and keeps the newest `capacity`; a changed capacity loses no more than it must.
    fn push(&mut self, good: bool, capacity: usize) {
        let mut carry = u64::from(good);
        for word in &mut self.words {
            let out = *word >> 63;
            *word = (*word << 1) | carry;
            carry = out;
        }
        self.len += 1;
        self.keep(capacity.clamp(1, WINDOW_OUTCOMES_MAX));
    }

    fn keep(&mut self, newest: usize) {
        self.len = self.len.min(newest);
        for (index, word) in self.words.iter_mut().enumerate() {
            let bits = self.len.saturating_sub(index * 64).min(64);
            if bits < 64 {
                *word &= (1 << bits) - 1;
            }
        }
    }

    fn good(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// An estimate and what it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowEstimate {
    /// Expected share of approvals, in parts per million.
    pub success_ppm: u32,
    /// Outcomes behind it, the prior not counted.
    pub samples: u32,
}

/// What is known about one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelHealth {
    approvals: OutcomeWindow,
    technical: OutcomeWindow,
    /// Technical failures since the last technical success.
    failures_in_a_row: u32,
    breaker: Breaker,
    latency_us: Option<u32>,
    /// When approvals were last learned.
    learned_at: Monotonic,
}

impl Default for ChannelHealth {
    fn default() -> Self {
        Self {
            approvals: OutcomeWindow::default(),
            technical: OutcomeWindow::default(),
            failures_in_a_row: 0,
            breaker: Breaker::Closed,
            latency_us: None,
            learned_at: Monotonic::default(),
        }
    }
}

impl ChannelHealth {
    /// The state after an outcome.
    #[must_use]
    pub fn after(mut self, outcome: Outcome, settings: &HealthSettings, now: Monotonic) -> Self {
        self.learn_latency(outcome.latency_ms);
        match self.breaker_at(now) {
            BreakerView::Closed => self.judge(outcome.class, settings, now),
            BreakerView::HalfOpen if outcome.probe => self.judge_probe(outcome.class, settings, now),
            // Late news of calls that were sent before the breaker opened tell nothing about now.
            BreakerView::Open | BreakerView::HalfOpen => {}
        }
        if let Some(approved) = outcome.class.approval() {
            self.approvals.keep(self.approvals.len >> self.half_lives(settings, now));
            self.approvals.push(approved, settings.window_outcomes);
            self.learned_at = now;
        }
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

    fn judge(&mut self, class: OutcomeClass, settings: &HealthSettings, now: Monotonic) {
        let Some(answered) = class.technical() else { return };
        self.technical.push(answered, settings.window_outcomes);
        self.failures_in_a_row = if answered { 0 } else { self.failures_in_a_row + 1 };
        if answered {
            return;
        }
        let outcomes = self.technical.len as u64;
        let failures = outcomes - self.technical.good();
        let too_many = outcomes >= u64::from(settings.breaker_min_outcomes)
            && failures * 100 >= outcomes * u64::from(settings.breaker_failure_percent);
        if too_many || self.failures_in_a_row >= settings.breaker_consecutive_failures.max(1) {
            self.open(0, settings, now);
        }
    }

    fn judge_probe(&mut self, class: OutcomeClass, settings: &HealthSettings, now: Monotonic) {
        let Breaker::Open { failed_probes, .. } = self.breaker else { return };
        if class.technical() == Some(false) {
            self.open(failed_probes.saturating_add(1), settings, now);
        } else {
            // Even a decline is an answer. What was learned in the outage says nothing about the channel now.
            *self = Self { latency_us: self.latency_us, ..Self::default() };
        }
    }

    fn open(&mut self, failed_probes: u32, settings: &HealthSettings, now: Monotonic) {
        let grown = settings.breaker_open.saturating_mul(1_u32.checked_shl(failed_probes).unwrap_or(u32::MAX));
        let until = now.plus(grown.min(settings.breaker_open_max));
        self.breaker = Breaker::Open { until, failed_probes };
        self.technical = OutcomeWindow::default();
        self.failures_in_a_row = 0;
    }

    /// The state after an operator's reset: closed, and nothing known but the latency.
    #[must_use]
    pub fn reset(self) -> Self {
        Self { latency_us: self.latency_us, ..Self::default() }
    }

    /// The breaker as it stands at `now`; nothing has to happen for it to become half-open.
    pub fn breaker_at(&self, now: Monotonic) -> BreakerView {
        match self.breaker {
            Breaker::Closed => BreakerView::Closed,
            Breaker::Open { until, .. } if now < until => BreakerView::Open,
            Breaker::Open { .. } => BreakerView::HalfOpen,
        }
    }

    /// How long the breaker stays open; `None` when it does not stand open.
    pub fn opens_in(&self, now: Monotonic) -> Option<Duration> {
        match self.breaker {
            Breaker::Open { until, .. } if now < until => Some(until.since(now)),
            Breaker::Open { .. } | Breaker::Closed => None,
        }
    }

    fn half_lives(&self, settings: &HealthSettings, now: Monotonic) -> u32 {
        let half_life_us = settings.forget_half_after.as_micros().max(1);
        u32::try_from(now.since(self.learned_at).as_micros() / half_life_us).unwrap_or(u32::MAX).min(63)
    }

    /// The success rate to rank by: what was learned, less the longer it is ago, on top of the prior. A half-open
    /// channel ranks by the prior alone, or it would never be tried again.
    pub fn estimate(&self, settings: &HealthSettings, now: Monotonic) -> WindowEstimate {
        let half_lives = self.half_lives(settings, now);
        let (good, samples) = match self.breaker_at(now) {
            BreakerView::HalfOpen => (0, 0),
            BreakerView::Closed | BreakerView::Open => {
                (self.approvals.good() >> half_lives, self.approvals.len as u64 >> half_lives)
            }
        };
        let prior = u64::from(settings.prior_outcomes.max(1));
        let expected = good * PPM + prior * u64::from(settings.prior_success_ppm);
        WindowEstimate {
            success_ppm: u32::try_from(expected / (samples + prior)).unwrap_or(0),
            samples: u32::try_from(samples).unwrap_or(u32::MAX),
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
        window_outcomes: 200,
        prior_outcomes: 20,
        prior_success_ppm: 950_000,
        breaker_consecutive_failures: 5,
        breaker_failure_percent: 50,
        breaker_min_outcomes: 20,
        breaker_open: Duration::from_secs(30),
        breaker_open_max: Duration::from_secs(100),
        forget_half_after: Duration::from_secs(300),
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
        assert_eq!(fresh.estimate(&SETTINGS, at(0)), WindowEstimate { success_ppm: 950_000, samples: 0 });
        let mut health = fresh;
        for index in 0..1_000 {
            let class = if index % 2 == 0 { OutcomeClass::Approved } else { OutcomeClass::DeclinedByNetwork };
            health = after(health, class, at(10));
        }
        // 100 of 200 and 19 of 20.
        assert_eq!(health.estimate(&SETTINGS, at(10)), WindowEstimate { success_ppm: 119_000_000 / 220, samples: 200 });
        assert_eq!(health.estimate(&SETTINGS, at(310)).samples, 100, "half after five minutes without news");
        assert_eq!(health.estimate(&SETTINGS, at(10_000)).success_ppm, 950_000);
        let smaller = HealthSettings { window_outcomes: 50, ..SETTINGS };
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
