//! Approvals: how many payments go through of those that the channel, its network or its own trouble decides. They rank
//! channels, and only that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::routing::window::{OutcomeWindow, SavedWindow};
use crate::domain::time::Monotonic;

const PPM: u64 = 1_000_000;

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
}

/// What is known about a channel's approvals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Approvals {
    window: OutcomeWindow,
    /// When something was last learned.
    learned_at: Monotonic,
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
        Self { window, learned_at: now }
    }

    /// The state after one more.
    #[must_use]
    pub fn after(mut self, approved: bool, settings: &ApprovalSettings, now: Monotonic) -> Self {
        self.window.keep(self.window.len() >> self.half_lives(settings, now));
        self.window.push(approved, settings.window_outcomes);
        self.learned_at = now;
        self
    }

    fn half_lives(&self, settings: &ApprovalSettings, now: Monotonic) -> u32 {
        let half_life_us = settings.forget_half_after.as_micros().max(1);
        u32::try_from(now.since(self.learned_at).as_micros() / half_life_us).unwrap_or(u32::MAX).min(63)
    }

    /// What was learned, less the longer it is ago, on top of the prior.
    pub fn estimate(&self, settings: &ApprovalSettings, now: Monotonic) -> WindowEstimate {
        let half_lives = self.half_lives(settings, now);
        let (good, samples) = (self.window.good() >> half_lives, self.window.len() as u64 >> half_lives);
        let prior = u64::from(settings.prior_outcomes.max(1));
        let expected = good * PPM + prior * u64::from(settings.prior_success_ppm);
        WindowEstimate {
            success_ppm: u32::try_from(expected / (samples + prior)).unwrap_or(0),
            samples: u32::try_from(samples).unwrap_or(u32::MAX),
        }
    }
}
