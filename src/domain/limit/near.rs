//! When a merchant is told that it comes near a limit: at each threshold once a window, and not again and again while its
//! use goes up and down around it.
//!
//! A threshold is passed when an admission brings the use to it. Then it is silent for the length of the window (and for
//! the configured interval at least), and until the use was [`HYSTERESIS_POINTS`] below it. A request of cost 1 that is
//! refused passes every threshold of the limits that refused it, since there is no room for anything. A dearer one says only
//! that there was no room for itself; what is used decides.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::limit::figures::Policy;
use crate::domain::limit::view::{LimitView, Refusal};
use crate::domain::time::Monotonic;

/// Thresholds that can be told apart.
pub const THRESHOLDS_MAX: usize = 4;
/// Lowest threshold, in percent.
pub const THRESHOLD_MIN_PERCENT: u8 = 20;
/// How far below a threshold the use must have been before it is passed again, in points of percent.
pub const HYSTERESIS_POINTS: u8 = 10;

const POLICIES: usize = Policy::ALL.len();

/// Which thresholds there are, and how long each is silent at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearSettings {
    /// In percent of a limit; 0 for none.
    percent: [u8; THRESHOLDS_MAX],
    interval_s: u32,
}

impl NearSettings {
    /// Of `percent` the first [`THRESHOLDS_MAX`] from [`THRESHOLD_MIN_PERCENT`] to 100 count.
    pub fn new(percent: &[u8], interval_s: u32) -> Self {
        let mut kept = [0; THRESHOLDS_MAX];
        let in_range = percent.iter().filter(|percent| (THRESHOLD_MIN_PERCENT..=100).contains(*percent));
        for (place, percent) in kept.iter_mut().zip(in_range) {
            *place = *percent;
        }
        Self { percent: kept, interval_s }
    }

    /// No threshold: nobody is ever told.
    pub const fn none() -> Self {
        Self { percent: [0; THRESHOLDS_MAX], interval_s: 0 }
    }

    /// The lowest threshold, in percent, if there is one.
    pub fn lowest(&self) -> Option<u8> {
        self.thresholds().map(|(_, percent)| percent).min()
    }

    fn thresholds(&self) -> impl Iterator<Item = (usize, u8)> {
        self.percent.into_iter().enumerate().filter(|(_, percent)| *percent > 0)
    }

    fn silence_s(&self, window_ms: u32) -> u32 {
        self.interval_s.max(window_ms.div_ceil(1000))
    }
}

/// A threshold that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Of which limit.
    pub policy: Policy,
    /// The threshold, in percent.
    pub percent: u8,
    /// How much of the limit is used.
    pub used: u32,
    /// The limit.
    pub quota: u32,
    /// Length of the window in milliseconds; 0 for requests in flight.
    pub window_ms: u32,
}

/// Which thresholds of a merchant are silent. Has no memory beside itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NearLimits {
    /// By limit and threshold: silent up to this second of the monotonic clock.
    silent_until_s: [[u32; THRESHOLDS_MAX]; POLICIES],
    /// By limit, a bit for each threshold: the use has not been low enough since it was passed.
    waiting: [u8; POLICIES],
}

/// A threshold that is silent, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearSnapshot {
    /// Of which limit.
    pub policy: Policy,
    /// The threshold, in percent.
    pub percent: u8,
    /// For how many seconds from the snapshot on it is silent.
    pub silent_s: u32,
    /// Whether the use has not been low enough since it was passed.
    pub waiting: bool,
}

/// One limit before and after a decision.
#[derive(Clone, Copy)]
struct Use {
    policy: Policy,
    before: u32,
    after: u32,
    /// Whether there is no room, whatever the figures are.
    is_full: bool,
    quota: u32,
    window_ms: u32,
}

impl NearLimits {
    /// Notes an admission of `cost` after which the limits stand as in `view`. Tells `passed` what it passed.
    pub fn admitted(
        &mut self,
        settings: &NearSettings,
        view: &LimitView,
        cost: u32,
        now: Monotonic,
        mut passed: impl FnMut(Passed),
    ) {
        for (policy, after, quota, window_ms) in uses(view) {
            let own_cost = if policy == Policy::Concurrency { 1 } else { cost };
            let before = after.saturating_sub(own_cost);
            let of_policy = Use { policy, before, after, is_full: false, quota, window_ms };
            self.look(settings, of_policy, now, &mut passed);
        }
    }

    /// Notes that a request of `cost` was refused. Tells `passed` what it passed, with what is used in truth.
    pub fn refused(
        &mut self,
        settings: &NearSettings,
        refusal: &Refusal,
        cost: u32,
        now: Monotonic,
        mut passed: impl FnMut(Passed),
    ) {
        let violated = refusal.violated();
        for (policy, used, quota, window_ms) in uses(&refusal.view) {
            let is_full = cost <= 1 && violated.contains(policy);
            let of_policy = Use { policy, before: used, after: used, is_full, quota, window_ms };
            if violated.contains(policy) {
                self.look(settings, of_policy, now, &mut passed);
            } else {
                self.calm(settings, of_policy);
            }
        }
    }

    fn look(&mut self, settings: &NearSettings, looked_at: Use, now: Monotonic, passed: &mut impl FnMut(Passed)) {
        self.calm(settings, looked_at);
        let Use { policy, after, is_full, quota, window_ms, .. } = looked_at;
        for (index, percent) in settings.thresholds() {
            let reached = is_full || u64::from(after) * 100 >= u64::from(quota) * u64::from(percent);
            let is_waiting = self.waiting[policy as usize] & (1 << index) != 0;
            if !reached || is_waiting || whole_seconds(now) < self.silent_until_s[policy as usize][index] {
                continue;
            }
            self.silence(policy, index, seconds_up(now).saturating_add(settings.silence_s(window_ms)));
            passed(Passed { policy, percent, used: after, quota, window_ms });
        }
    }

    /// Notes that the use was low enough.
    fn calm(&mut self, settings: &NearSettings, Use { policy, before, quota, .. }: Use) {
        if self.waiting[policy as usize] == 0 {
            return;
        }
        for (index, percent) in settings.thresholds() {
            let low = u64::from(percent - HYSTERESIS_POINTS);
            if u64::from(before) * 100 < u64::from(quota) * low {
                self.waiting[policy as usize] &= !(1 << index);
            }
        }
    }

    fn silence(&mut self, policy: Policy, index: usize, until_s: u32) {
        let silent = &mut self.silent_until_s[policy as usize][index];
        *silent = until_s.max(*silent);
        self.waiting[policy as usize] |= 1 << index;
    }

    /// Silences everything as if it had just been passed: for a merchant whose windows were charged for what nobody saw,
    /// which says nothing about how near it is.
    pub fn silence_all(&mut self, settings: &NearSettings, view: &LimitView, now: Monotonic) {
        for (policy, _, _, window_ms) in uses(view) {
            for (index, _) in settings.thresholds() {
                self.silence(policy, index, seconds_up(now).saturating_add(settings.silence_s(window_ms)));
            }
        }
    }

    /// Goes on under other settings: a threshold that was there before stays as silent as it was, a new one has nothing to
    /// be silent about. Another interval holds from the next time on.
    pub fn go_on(&mut self, from: &NearSettings, to: &NearSettings) {
        let before = std::mem::take(self);
        for (index, percent) in to.thresholds() {
            let Some((known, _)) = from.thresholds().find(|(_, known)| *known == percent) else { continue };
            for policy in 0..POLICIES {
                self.silent_until_s[policy][index] = before.silent_until_s[policy][known];
                self.waiting[policy] |= ((before.waiting[policy] >> known) & 1) << index;
            }
        }
    }

    /// What is silent, for storing.
    pub fn save(&self, settings: &NearSettings, now: Monotonic) -> Vec<NearSnapshot> {
        let mut saved = Vec::new();
        for policy in Policy::ALL {
            for (index, percent) in settings.thresholds() {
                let silent_s = self.silent_until_s[policy as usize][index].saturating_sub(whole_seconds(now));
                let waiting = self.waiting[policy as usize] & (1 << index) != 0;
                if silent_s > 0 || waiting {
                    saved.push(NearSnapshot { policy, percent, silent_s, waiting });
                }
            }
        }
        saved
    }

    /// Goes on from what was stored `elapsed` ago. Thresholds that are new since have nothing to be silent about.
    pub fn restore(settings: &NearSettings, saved: &[NearSnapshot], elapsed: Duration, now: Monotonic) -> Self {
        let elapsed_s = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
        let mut limits = Self::default();
        for stored in saved {
            let Some((index, _)) = settings.thresholds().find(|(_, percent)| *percent == stored.percent) else {
                continue;
            };
            let left_s = stored.silent_s.saturating_sub(elapsed_s);
            if left_s > 0 {
                limits.silent_until_s[stored.policy as usize][index] = seconds_up(now).saturating_add(left_s);
            }
            if stored.waiting {
                limits.waiting[stored.policy as usize] |= 1 << index;
            }
        }
        limits
    }
}

fn uses(view: &LimitView) -> [(Policy, u32, u32, u32); POLICIES] {
    let LimitView { second, minute, hour, concurrency, .. } = view;
    [
        (Policy::Second, second.used, second.limit, second.window_ms),
        (Policy::Minute, minute.used, minute.limit, minute.window_ms),
        (Policy::Hour, hour.used, hour.limit, hour.window_ms),
        (Policy::Concurrency, concurrency.used, concurrency.limit, 0),
    ]
}

fn whole_seconds(at: Monotonic) -> u32 {
    u32::try_from(at.micros() / 1_000_000).unwrap_or(u32::MAX)
}

fn seconds_up(at: Monotonic) -> u32 {
    u32::try_from(at.micros().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::limit::{Decision, Leases, LimitFigures, Limiter};

    const SETTINGS: NearSettings = NearSettings { percent: [80, 95, 0, 0], interval_s: 600 };
    const FIGURES: LimitFigures =
        LimitFigures { per_second: 10, per_minute: 100, per_hour: 1_000, burst: 20, concurrent: 10 };

    fn at_ms(ms: u64) -> Monotonic {
        Monotonic::from_micros(ms * 1000)
    }

    struct Bench {
        limiter: Limiter,
        leases: Leases,
        near: NearLimits,
        passed: Vec<(u64, Passed)>,
    }

    impl Bench {
        fn new(figures: LimitFigures) -> Self {
            Self {
                limiter: Limiter::new(figures, at_ms(0)),
                leases: Leases::new(1, Duration::from_secs(60)),
                near: NearLimits::default(),
                passed: Vec::new(),
            }
        }

        /// A request that ends at once, unless it is to stay in flight.
        fn ask(&mut self, ms: u64, cost: u32, stays: bool) -> bool {
            let now = at_ms(ms);
            let Self { limiter, leases, near, passed } = self;
            match limiter.decide(leases, cost, now) {
                Decision::Admitted { lease, view } => {
                    near.admitted(&SETTINGS, &view, cost, now, |one| passed.push((ms, one)));
                    if !stays {
                        leases.release(lease);
                    }
                    true
                }
                Decision::Refused(refusal) => {
                    near.refused(&SETTINGS, &refusal, cost, now, |one| passed.push((ms, one)));
                    false
                }
                Decision::CostTooLarge { .. } => false,
            }
        }

        /// As many requests as reach the lower threshold.
        fn burst(&mut self, ms: u64) {
            for _ in 0..16 {
                self.ask(ms, 1, false);
            }
        }

        fn seen(&self) -> Vec<(u64, Policy, u8, u32)> {
            self.passed.iter().map(|(ms, one)| (*ms, one.policy, one.percent, one.used)).collect()
        }
    }

    #[test]
    fn each_threshold_is_passed_once_however_long_the_flood() {
        let mut bench = Bench::new(FIGURES);
        for _ in 0..100 {
            bench.ask(0, 1, false);
        }
        assert_eq!(bench.seen(), [(0, Policy::Second, 80, 16), (0, Policy::Second, 95, 19)]);
        assert_eq!((bench.passed[0].1.quota, bench.passed[0].1.window_ms), (20, 2_000));
    }

    #[test]
    fn a_window_is_told_about_again_after_its_silence_and_a_low() {
        let mut bench = Bench::new(FIGURES);
        bench.burst(0);
        bench.burst(300_000);
        bench.burst(599_999);
        assert_eq!(bench.seen().len(), 1);
        bench.burst(700_000);
        assert_eq!(bench.seen(), [(0, Policy::Second, 80, 16), (700_000, Policy::Second, 80, 16)]);
    }

    #[test]
    fn going_up_and_down_around_a_threshold_is_told_about_once() {
        // In flight: 8 of 10 is the threshold, and below 7 is low.
        let mut bench = Bench::new(LimitFigures { per_minute: 60_000, per_hour: 500_000, ..FIGURES });
        for request in 0..7 {
            assert!(bench.ask(request, 1, true));
        }
        for round in 0..200_u64 {
            // The eighth comes and goes for twenty minutes; leases are granted anew before they expire.
            let ms = 1_000 + round * 6_000;
            bench.leases = Leases::new(1, Duration::from_secs(60));
            for _ in 0..7 {
                bench.leases.grant(at_ms(ms));
            }
            assert!(bench.ask(ms, 1, false));
        }
        let about = |bench: &Bench| bench.seen().iter().filter(|seen| seen.1 == Policy::Concurrency).count();
        assert_eq!(about(&bench), 1);
        // Once it was low, it is told about again.
        bench.leases = Leases::new(1, Duration::from_secs(60));
        for request in 0..8 {
            assert!(bench.ask(2_000_000 + request, 1, true));
        }
        assert_eq!(about(&bench), 2);
    }

    #[test]
    fn a_dear_request_that_is_refused_says_nothing_about_what_is_used() {
        let mut bench = Bench::new(FIGURES);
        bench.ask(0, 1, false);
        assert!(!bench.ask(0, 20, false), "1 and 20 are more than 20");
        bench.ask(0, 14, false);
        assert!(!bench.ask(0, 6, false), "15 and 6 are more than 20");
        assert_eq!(bench.seen(), []);
        // The real approach is told about.
        bench.ask(0, 1, false);
        assert!(!bench.ask(0, 5, false));
        assert_eq!(bench.seen(), [(0, Policy::Second, 80, 16)]);
        bench.ask(0, 3, false);
        assert_eq!(bench.seen()[1..], [(0, Policy::Second, 95, 19)]);
    }

    #[test]
    fn a_refusal_tells_what_is_used_in_truth() {
        let passed_by = |used: u32, cost: u32| {
            let mut bench = Bench::new(FIGURES);
            bench.ask(0, used, false);
            let Decision::Refused(refusal) = bench.limiter.decide(&mut bench.leases, 21 - used, at_ms(0)) else {
                panic!("{used} and one more than fits are admitted");
            };
            let mut passed = Vec::new();
            NearLimits::default().refused(&SETTINGS, &refusal, cost, at_ms(0), |one| {
                passed.push((one.policy, one.percent, one.used));
            });
            passed
        };
        // At a threshold already, for instance since the limit was lowered.
        assert_eq!(passed_by(17, 4), [(Policy::Second, 80, 17)]);
        assert_eq!(passed_by(3, 18), []);
        // Where not even one fits, there is no room, whatever is still counted.
        assert_eq!(passed_by(3, 1), [(Policy::Second, 80, 3), (Policy::Second, 95, 3)]);
    }

    #[test]
    fn a_limit_of_one_is_told_about_at_intervals() {
        let mut bench = Bench::new(LimitFigures { concurrent: 1, per_hour: 10_000, ..FIGURES });
        for second in 0..1_300 {
            assert!(bench.ask(second * 1000, 1, false));
        }
        let times: Vec<u64> = bench
            .seen()
            .iter()
            .filter(|seen| seen.1 == Policy::Concurrency && seen.2 == 95)
            .map(|seen| seen.0)
            .collect();
        assert_eq!(times, [0, 600_000, 1_200_000]);
    }

    #[test]
    fn what_is_silent_stays_so_over_a_restart_and_what_was_charged_is_not_told_about() {
        let mut bench = Bench::new(FIGURES);
        bench.burst(500);
        let saved = bench.near.save(&SETTINGS, at_ms(500));
        assert_eq!(saved.len(), 1);
        let text = serde_json::to_string(&saved).unwrap();
        assert_eq!(serde_json::from_str::<Vec<NearSnapshot>>(&text).unwrap(), saved);
        for (elapsed_s, expected) in [(10, 0), (598, 0), (700, 1)] {
            let mut again = Bench::new(FIGURES);
            again.near = NearLimits::restore(&SETTINGS, &saved, Duration::from_secs(elapsed_s), at_ms(0));
            again.burst(1_100);
            assert_eq!(again.seen().len(), expected, "{elapsed_s} s later");
        }
        let mut charged = Bench::new(FIGURES);
        let view = charged.limiter.view(&mut charged.leases, at_ms(0));
        charged.near.silence_all(&SETTINGS, &view, at_ms(0));
        for request in 0..900 {
            charged.ask(request * 600, 1, false);
        }
        assert_eq!(charged.seen(), []);
    }

    #[test]
    fn what_is_silent_stays_so_under_other_thresholds() {
        let mut bench = Bench::new(FIGURES);
        bench.burst(0);
        // 80 is the second now, and 50 is new.
        let other = NearSettings::new(&[50, 80], 600);
        bench.near.go_on(&SETTINGS, &other);
        let kept = NearSnapshot { policy: Policy::Second, percent: 80, silent_s: 600, waiting: true };
        assert_eq!(bench.near.save(&other, at_ms(0)), [kept]);
        let mut told = Vec::new();
        let Bench { limiter, leases, near, .. } = &mut bench;
        let now = at_ms(0);
        let Decision::Admitted { view, .. } = limiter.decide(leases, 1, now) else { panic!("17 of 20") };
        near.admitted(&other, &view, 1, now, |one| told.push((one.policy, one.percent)));
        assert_eq!(told, [(Policy::Second, 50)]);
        // And back: 80 has not been low since, 95 was never passed, 50 is forgotten.
        near.go_on(&other, &SETTINGS);
        assert_eq!(near.save(&SETTINGS, now), [kept]);
        near.go_on(&SETTINGS, &NearSettings::none());
        assert_eq!(*near, NearLimits::default());
        assert_eq!((other.lowest(), NearSettings::none().lowest()), (Some(50), None));
    }

    #[test]
    fn thresholds_that_make_no_sense_do_not_count() {
        assert_eq!(NearSettings::new(&[0, 19, 20, 101, 100], 5).percent, [20, 100, 0, 0]);
        assert_eq!(NearSettings::new(&[30, 40, 50, 60, 70], 5).percent, [30, 40, 50, 60]);
    }

    proptest! {
        #[test]
        fn nobody_is_told_below_a_threshold_or_twice_within_an_interval(
            requests in proptest::collection::vec((0_u64..40_000, 1_u32..6, any::<bool>()), 1..600),
            hour in 50_u32..400,
        ) {
            let mut bench = Bench::new(LimitFigures { per_hour: hour, ..FIGURES });
            let mut ms = 0;
            for (gap, cost, stays) in requests {
                // Mostly bursts, now and then a pause.
                ms += if gap < 38_000 { gap / 200 } else { gap * 20 };
                let before = bench.passed.len();
                let admitted = bench.ask(ms, cost, stays);
                for (_, one) in &bench.passed[before..] {
                    prop_assert!(u64::from(one.used) * 100 >= u64::from(one.quota) * u64::from(one.percent));
                    if admitted {
                        let view = bench.limiter.view(&mut Leases::new(1, Duration::from_secs(60)), at_ms(ms));
                        let used = match one.policy {
                            Policy::Second => view.second.used,
                            Policy::Minute => view.minute.used,
                            Policy::Hour => view.hour.used,
                            Policy::Concurrency => one.used,
                        };
                        prop_assert_eq!(one.used, used);
                    }
                }
            }
            for (index, (at, one)) in bench.passed.iter().enumerate() {
                let interval_ms = u64::from(one.window_ms).max(600_000);
                let mut later = bench.passed[index + 1..].iter();
                let same = later.find(|(_, next)| (next.policy, next.percent) == (one.policy, one.percent));
                if let Some((next, _)) = same {
                    prop_assert!(next - at >= interval_ms, "{at} and {next}: {one:?}");
                }
            }
        }
    }
}
