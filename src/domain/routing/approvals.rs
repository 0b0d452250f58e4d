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
/// So many of the newest outcomes are compared with those before them ...
const COMPARED: [usize; 10] = [8, 10, 12, 16, 20, 24, 32, 48, 64, 96];
/// ... and replace them when they are better by more standard deviations than this has squared: two and a half. To be
/// wrong costs few payments, since the next ones tell.
const BETTER_BY_SQUARED: u64 = 6;
/// The same when they are worse: four, since a channel that is well goes without payments when it is wrong.
const WORSE_BY_SQUARED: u64 = 16;
/// A look at a channel is worth the whole share of payments for looks once the last one is so long ago ...
const WORTH_A_LOOK_AFTER: Duration = Duration::from_secs(45);
/// ... or half of that for each approval in a row that came last, up to so many, ...
const HALVED_BY_APPROVALS: u32 = 6;
/// ... and from so many on more than it ...
const SEEMS_WELL_AFTER: u32 = 4;
/// ... up to so many times, so that a channel which seems to be well need not wait long to be known to be.
const LOOKS_TIMES_MAX: u32 = 5;

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
        if let Some(newest) = since_it_changed(&self.window) {
            self.window.keep(newest);
        }
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
        self.evidence(settings, now).estimate_upon(settings.prior_success_ppm, settings)
    }

    /// What was learned, less the longer it is ago.
    pub fn evidence(&self, settings: &ApprovalSettings, now: Monotonic) -> Evidence {
        let half_lives = self.half_lives(settings, now);
        let samples = u32::try_from(self.window.len()).unwrap_or(u32::MAX) >> half_lives;
        let good = u64::from(self.rate_ppm) * u64::from(samples);
        Evidence { good, samples, effective: self.effective >> half_lives }
    }

    /// How much of the share of payments for looks a look is worth, in parts per million: the more, the longer ago the last
    /// one was and the more approvals in a row came last.
    pub fn worth_a_look_ppm(&self, now: Monotonic) -> u32 {
        let age_us = now.since(self.learned_at).min(WORTH_A_LOOK_AFTER * LOOKS_TIMES_MAX).as_micros();
        let well = self.window.good_in_a_row();
        let ppm = (u64::try_from(age_us).unwrap_or(0) / WORTH_A_LOOK_AFTER.as_secs()) << well.min(HALVED_BY_APPROVALS);
        let most_ppm = if well < SEEMS_WELL_AFTER { PPM } else { u64::from(LOOKS_TIMES_MAX) * PPM };
        u32::try_from(ppm.min(most_ppm)).unwrap_or(0)
    }
}

/// Outcomes that count at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Approvals among them, in millionths of one.
    pub good: u64,
    /// How many there are.
    pub samples: u32,
    /// See [`WindowEstimate::effective`].
    pub effective: u32,
}

impl Evidence {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// What remains without the outcomes of a part of it.
    #[must_use]
    pub fn without(&self, part: &Self) -> Self {
        let samples = self.samples.saturating_sub(part.samples);
        let good = self.good.saturating_sub(part.good).min(u64::from(samples) * PPM);
        Self { good, samples, effective: samples }
    }

    /// The estimate on top of what is expected without it.
    pub fn estimate_upon(&self, prior_ppm: u32, settings: &ApprovalSettings) -> WindowEstimate {
        let prior = u64::from(settings.prior_outcomes.max(1));
        let expected = self.good + u64::from(prior_ppm) * prior;
        let success_ppm = u32::try_from(expected / (u64::from(self.samples) + prior)).unwrap_or(0);
        WindowEstimate { success_ppm, samples: self.samples, effective: self.effective }
    }
}

/// How many of the newest outcomes, the last among them, differ from those before by more than chance explains; what was
/// before them says nothing any more.
fn since_it_changed(window: &OutcomeWindow) -> Option<usize> {
    let (all, good, got_better) = (window.len() as u64, window.good(), window.good_in_a_row() > 0);
    let deviations_squared = if got_better { BETTER_BY_SQUARED } else { WORSE_BY_SQUARED };
    let has_changed = |newest: &usize| {
        let (new, new_good) = (*newest as u64, window.good_between(0, *newest));
        let old = all - new;
        let (of_new, of_old) = (new_good * old, (good - new_good) * new);
        // The difference of both shares and its deviation were they one, each times both numbers of outcomes.
        let difference = of_new.abs_diff(of_old);
        let variance_by_all = new * old * good * (all - good);
        (of_new > of_old) == got_better && difference * difference * all > deviations_squared * variance_by_all
    };
    COMPARED.into_iter().take_while(|newest| *newest < window.len()).find(has_changed)
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

    /// What a window of these outcomes weighs, whatever they say about a change.
    fn weighed(older: bool, newer: bool) -> Approvals {
        let mut approvals = Approvals::default();
        for approved in [[older; 100], [newer; 100]].as_flattened() {
            approvals.window.push(*approved, SETTINGS.window_outcomes);
        }
        approvals.weigh(&SETTINGS)
    }

    #[test]
    fn newer_outcomes_count_more() {
        let (falling, rising) = (weighed(true, false), weighed(false, true));
        assert_eq!((falling.rate_ppm, rising.rate_ppm), (277_777, 722_222), "10 of 36 parts and 26 of 36");
        assert_eq!((estimate(&rising).samples, estimate(&rising).effective), (200, 158));
        assert_eq!(estimate(&after(Approvals::default(), true, 25)).effective, 25, "one part, one weight");
    }

    #[test]
    fn another_size_of_the_window_keeps_the_newest() {
        let smaller = ApprovalSettings { window_outcomes: 80, ..SETTINGS };
        let rising = weighed(false, true);
        let kept = rising.resized(&smaller);
        assert_eq!((kept.window.len(), kept.rate_ppm), (80, 1_000_000));
        let larger = kept.resized(&SETTINGS);
        assert_eq!((larger.window.len(), larger.rate_ppm), (80, 1_000_000), "nothing comes back and nothing is lost");
    }

    /// So many outcomes of which every `nth` is a decline, the first of them in the middle.
    fn declining(approvals: Approvals, nth: usize, times: usize) -> Approvals {
        (0..times).fold(approvals, |approvals, index| after(approvals, !(index + nth / 2).is_multiple_of(nth), 1))
    }

    #[test]
    fn what_was_before_a_change_is_forgotten_and_chance_is_no_change() {
        let well = declining(Approvals::default(), 20, 400);
        assert_eq!(well.window.len(), 200, "one in twenty, again and again");
        let ill = declining(well, 2, 30);
        assert!(ill.window.len() <= 30 && ill.rate_ppm < 600_000, "{} of {}", ill.rate_ppm, ill.window.len());
        let still = declining(ill, 2, 60);
        assert!(still.window.len() >= 60, "no news");
        let well_again = after(still, true, 8);
        assert_eq!((well_again.window.len(), well_again.rate_ppm), (8, 1_000_000));
        // The same eight approvals are nothing new of a channel that declines one in twenty, ...
        assert_eq!(after(well, true, 8).window.len(), 200);
        // ... nor are two declines, or three.
        assert_eq!(after(well, false, 3).window.len(), 200);
    }

    #[test]
    fn a_look_is_worth_more_with_its_age_and_with_approvals_in_a_row_up_to_a_bound() {
        let at = |seconds: u64| Monotonic::from_micros(seconds * 1_000_000);
        let declined = after(Approvals::default(), false, 10);
        let worth = [0, 9, 45, 10_000].map(|age| declined.worth_a_look_ppm(at(age)));
        assert_eq!(worth, [0, 200_000, 1_000_000, 1_000_000]);
        let in_a_row = |approvals: usize| after(declined, true, approvals);
        let after_9_s = [1, 2, 3, 4].map(|approvals| in_a_row(approvals).worth_a_look_ppm(at(9)));
        assert_eq!(after_9_s, [400_000, 800_000, 1_000_000, 3_200_000]);
        assert_eq!(in_a_row(7).worth_a_look_ppm(at(10_000)), 5_000_000);
        assert_eq!(in_a_row(7).worth_a_look_ppm(at(0)), 0);
    }
}
