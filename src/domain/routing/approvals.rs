//! Approvals: how many payments go through of those that the channel, its network or its own trouble decides. They rank
//! channels, and only that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::routing::window::{OutcomeWindow, SavedWindow};
use crate::domain::time::Monotonic;

const PPM: u64 = 1_000_000;
/// The window is weighed in this many equal parts: the newest counts this many times as much as the oldest, those between
/// in equal steps.
const PARTS: usize = 8;

/// How a success rate is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApprovalSettings {
    /// Outcomes remembered; at most [`WINDOW_OUTCOMES_MAX`](super::WINDOW_OUTCOMES_MAX).
    pub window_outcomes: usize,
    /// Weight of the prior in outcomes, so that few outcomes do not decide.
    pub prior_outcomes: u32,
    /// Expected success rate before anything is known, in parts per million.
    pub prior_success_ppm: u32,
    /// Without news for this long, what was learned counts half; a channel that ranked low gets another chance.
    pub forget_half_after: Duration,
}

/// An estimate and what it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowEstimate {
    /// Expected share of approvals, in parts per million.
    pub success_ppm: u32,
    /// Outcomes behind it, the prior not counted.
    pub samples: u32,
    /// The number of equally weighed outcomes that would say as much: less than `samples`, since newer ones count more.
    pub effective: u32,
}

/// What is known about the approvals of a channel, or of one kind of payment on it. Everything that an estimate needs of
/// the window is worked out when something is learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Approvals {
    window: OutcomeWindow,
    /// When something was last learned.
    learned_at: Monotonic,
    /// Share of approvals in the window, newer outcomes counting more.
    rate_ppm: u32,
    /// See [`WindowEstimate::effective`].
    effective: u32,
}

/// Approvals as they are written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedApprovals {
    window: SavedWindow,
    /// How long ago something was last learned.
    age_ms: u64,
}

impl Approvals {
    /// What is to be written down.
    pub fn save(&self, now: Monotonic) -> SavedApprovals {
        let age_ms = u64::try_from(now.since(self.learned_at).as_millis()).unwrap_or(u64::MAX);
        SavedApprovals { window: self.window.save(), age_ms }
    }

    /// What was written down `passed` ago, less by what has faded since.
    pub fn restore(saved: &SavedApprovals, passed: Duration, settings: &ApprovalSettings, now: Monotonic) -> Self {
        let age = Duration::from_millis(saved.age_ms).saturating_add(passed);
        let mut window = OutcomeWindow::restore(&saved.window);
        let half_lives = age.as_micros() / settings.forget_half_after.as_micros().max(1);
        window.keep(window.len() >> u32::try_from(half_lives).unwrap_or(u32::MAX).min(63));
        Self { window, learned_at: now, ..Self::default() }.weigh(settings)
    }

    /// The state after one more.
    #[must_use]
    pub fn after(mut self, approved: bool, settings: &ApprovalSettings, now: Monotonic) -> Self {
        self.window.keep(self.window.len() >> self.half_lives(settings, now));
        self.window.push(approved, settings.window_outcomes);
        self.learned_at = now;
        self.weigh(settings)
    }

    /// The state with the newest outcomes that fit a window of another size.
    #[must_use]
    pub fn resized(mut self, settings: &ApprovalSettings) -> Self {
        self.window.keep(settings.window_outcomes.max(1));
        self.weigh(settings)
    }

    fn weigh(mut self, settings: &ApprovalSettings) -> Self {
        let part = settings.window_outcomes.max(1).div_ceil(PARTS);
        let (mut good, mut all, mut squares) = (0_u64, 0_u64, 0_u64);
        for index in 0..PARTS {
            let (from, to) = (index * part, ((index + 1) * part).min(self.window.len()));
            if from >= to {
                break;
            }
            let weight = (PARTS - index) as u64;
            let outcomes = (to - from) as u64;
            good += weight * self.window.good_between(from, to);
            all += weight * outcomes;
            squares += weight * weight * outcomes;
        }
        self.rate_ppm = u32::try_from((good * PPM).checked_div(all).unwrap_or(0)).unwrap_or(0);
        self.effective = u32::try_from((all * all).checked_div(squares).unwrap_or(0)).unwrap_or(u32::MAX);
        self
    }

    fn half_lives(&self, settings: &ApprovalSettings, now: Monotonic) -> u32 {
        let idle = now.since(self.learned_at);
        // The usual case: every decision asks this for every channel, and the division below is a long one.
        if idle < settings.forget_half_after {
            return 0;
        }
        let half_life_us = settings.forget_half_after.as_micros().max(1);
        u32::try_from(idle.as_micros() / half_life_us).unwrap_or(u32::MAX).min(31)
    }

    /// What was learned, less the longer it is ago, on top of the configured prior.
    pub fn estimate(&self, settings: &ApprovalSettings, now: Monotonic) -> WindowEstimate {
        self.estimate_upon(settings.prior_success_ppm, settings, now)
    }

    /// What was learned, less the longer it is ago, on top of what is expected without it.
    pub fn estimate_upon(&self, prior_ppm: u32, settings: &ApprovalSettings, now: Monotonic) -> WindowEstimate {
        let half_lives = self.half_lives(settings, now);
        let samples = u32::try_from(self.window.len()).unwrap_or(u32::MAX) >> half_lives;
        let effective = self.effective >> half_lives;
        let (learned, prior) = (u64::from(samples), u64::from(settings.prior_outcomes.max(1)));
        let expected = u64::from(self.rate_ppm) * learned + u64::from(prior_ppm) * prior;
        let success_ppm = u32::try_from(expected / (learned + prior)).unwrap_or(0);
        WindowEstimate { success_ppm, samples, effective }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: ApprovalSettings = ApprovalSettings {
        window_outcomes: 200,
        prior_outcomes: 20,
        prior_success_ppm: 900_000,
        forget_half_after: Duration::from_secs(300),
    };

    fn after(approvals: Approvals, approved: bool, times: usize) -> Approvals {
        (0..times).fold(approvals, |approvals, _| approvals.after(approved, &SETTINGS, Monotonic::from_micros(0)))
    }

    fn estimate(approvals: &Approvals) -> WindowEstimate {
        approvals.estimate(&SETTINGS, Monotonic::from_micros(0))
    }

    #[test]
    fn newer_outcomes_count_more() {
        let falling = after(after(Approvals::default(), true, 100), false, 100);
        let rising = after(after(Approvals::default(), false, 100), true, 100);
        assert_eq!((falling.rate_ppm, rising.rate_ppm), (277_777, 722_222), "10 of 36 parts and 26 of 36");
        assert_eq!((estimate(&rising).samples, estimate(&rising).effective), (200, 158));
        assert_eq!(estimate(&after(Approvals::default(), true, 25)).effective, 25, "one part, one weight");
    }

    #[test]
    fn another_size_of_the_window_keeps_the_newest() {
        let smaller = ApprovalSettings { window_outcomes: 80, ..SETTINGS };
        let rising = after(after(Approvals::default(), false, 100), true, 100);
        let kept = rising.resized(&smaller);
        assert_eq!((kept.window.len(), kept.rate_ppm), (80, 1_000_000));
        let larger = kept.resized(&SETTINGS);
        assert_eq!((larger.window.len(), larger.rate_ppm), (80, 1_000_000), "nothing comes back and nothing is lost");
    }
}
