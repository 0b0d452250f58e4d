//! Whether the time of day can be believed. It may be set, by hand, by a time server, or by a machine that starts with an
//! empty battery; a steady clock beside it shows that. What deletes for good asks here first, and so does what has to
//! know how old something really is.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::time::{Monotonic, Timestamp};

/// By how much the time of day may part from the steady clock at once, beside a drift of one percent.
pub const STEP_MAX: Duration = Duration::from_secs(600);
/// The share of the time gone by, one in so many, by which a time server may speed it up or slow it down.
const DRIFT_DIVISOR: u32 = 100;
/// How long after a step nothing is believed: long enough for a time server, or a person in the morning, to mend it.
/// Whatever was going to be deleted is only deleted so much later.
pub const STEADY_FOR: Duration = Duration::from_secs(6 * 3_600);
/// The same at the start, when the last thing that was written down is longer ago than this. A machine that was off and
/// a clock that is ahead look alike.
pub const START_GAP_MAX: Duration = Duration::from_secs(3_600);
/// How long readings are compared with the same earlier one.
const ANCHOR_FOR: Duration = Duration::from_secs(3_600);
/// Steps remembered; beyond that the oldest is forgotten.
const PERIODS_MAX: usize = 64;

/// A step of the time of day, as it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// By how much it was set forward, in milliseconds; negative for back.
    pub by_ms: i64,
}

/// A time between two steps, as the time of day then had it.
#[derive(Clone, Copy, Debug)]
struct Period {
    from: Timestamp,
    until: Timestamp,
    /// Time of day less steady time, in milliseconds: the least and the most. They differ only in the first one, which stands
    /// for all that are forgotten.
    offsets_ms: (i64, i64),
}

/// Compares readings of both clocks. Pure: whoever reads them hands the readings over.
#[derive(Clone, Debug)]
pub struct ClockWatch {
    /// Never empty; the last one is now.
    periods: VecDeque<Period>,
    anchor: (Timestamp, Monotonic),
    last: (Timestamp, Monotonic),
    doubted_since: Option<Monotonic>,
}

impl ClockWatch {
    /// Begins with a first reading. `last_written_at` is when the last thing before was written down, if that is known.
    pub fn new(last_written_at: Option<Timestamp>, now: Timestamp, steady: Monotonic) -> Self {
        let is_gap = last_written_at.is_some_and(|at| now.since(at) > START_GAP_MAX);
        let offset_ms = offset_ms_of(now, steady);
        let from = Timestamp::from_unix_ms(i64::MIN);
        let first = Period { from, until: now, offsets_ms: (offset_ms, offset_ms) };
        Self {
            periods: VecDeque::from([first]),
            anchor: (now, steady),
            last: (now, steady),
            doubted_since: is_gap.then_some(steady),
        }
    }

    /// Takes a reading; answers the step since the one before it, if there was one.
    pub fn observe(&mut self, now: Timestamp, steady: Monotonic) -> Option<Step> {
        let elapsed = steady.since(self.anchor.1);
        let by_ms = now.unix_ms().saturating_sub(self.anchor.0.plus(elapsed).unix_ms());
        let tolerance_ms = u64::try_from((STEP_MAX + elapsed / DRIFT_DIVISOR).as_millis()).unwrap_or(u64::MAX);
        let step = (by_ms.unsigned_abs() > tolerance_ms).then_some(Step { by_ms });
        // The step may have come at any time since the last reading.
        let unseen = steady.since(self.last.1);
        let seen_until = if step.is_some() { self.last.0.plus(unseen) } else { now };
        if let Some(current) = self.periods.back_mut() {
            current.until = current.until.max(seen_until);
        }
        if step.is_some() {
            self.forget_oldest();
            let offset_ms = offset_ms_of(now, steady);
            self.periods.push_back(Period { from: now.minus(unseen), until: now, offsets_ms: (offset_ms, offset_ms) });
            self.doubted_since = Some(steady);
        }
        if step.is_some() || elapsed >= ANCHOR_FOR {
            self.anchor = (now, steady);
        }
        self.last = (now, steady);
        if self.doubted_since.is_some_and(|since| steady.since(since) >= STEADY_FOR) {
            self.doubted_since = None;
        }
        step
    }

    /// Whether the time of day, as it was last read, may be used to delete something for good.
    pub fn is_believed(&self) -> bool {
        self.doubted_since.is_none()
    }

    /// By how much the time of day may have been set back since it was `then`: so much more than it seems may have gone by.
    pub fn set_back_since(&self, then: Timestamp) -> Duration {
        let Some((current_ms, _)) = self.periods.back().map(|period| period.offsets_ms) else { return Duration::ZERO };
        let may_be = self.periods_at(then);
        longest(may_be.map(|period| period.offsets_ms.1.saturating_sub(current_ms)))
    }

    /// By how much the time of day may have been set forward since it was `then`: so much less than it seems may have gone by.
    pub fn set_forward_since(&self, then: Timestamp) -> Duration {
        let Some((_, current_ms)) = self.periods.back().map(|period| period.offsets_ms) else { return Duration::ZERO };
        let may_be = self.periods_at(then);
        longest(may_be.map(|period| current_ms.saturating_sub(period.offsets_ms.0)))
    }

    fn periods_at(&self, then: Timestamp) -> impl Iterator<Item = &Period> {
        self.periods.iter().filter(move |period| period.from <= then && then <= period.until)
    }

    /// Makes room for one more. The second oldest then stands for the oldest, too, whichever of the two is worse.
    fn forget_oldest(&mut self) {
        if self.periods.len() < PERIODS_MAX {
            return;
        }
        let Some(oldest) = self.periods.pop_front() else { return };
        if let Some(next) = self.periods.front_mut() {
            next.from = oldest.from;
            next.until = next.until.max(oldest.until);
            next.offsets_ms = (next.offsets_ms.0.min(oldest.offsets_ms.0), next.offsets_ms.1.max(oldest.offsets_ms.1));
        }
    }
}

fn longest(by_ms: impl Iterator<Item = i64>) -> Duration {
    Duration::from_millis(by_ms.max().and_then(|most_ms| u64::try_from(most_ms).ok()).unwrap_or(0))
}

fn offset_ms_of(now: Timestamp, steady: Monotonic) -> i64 {
    now.unix_ms().saturating_sub(i64::try_from(steady.millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_S: i64 = 1_737_715_200;
    const HOUR_S: i64 = 3_600;

    /// Two clocks: the one on the wall, and the steady one.
    struct Clocks {
        wall_s: i64,
        steady_s: i64,
        watch: ClockWatch,
    }

    impl Clocks {
        fn new(last_written_at_s: Option<i64>) -> Self {
            let watch = ClockWatch::new(last_written_at_s.map(wall), wall(START_S), steady(0));
            Self { wall_s: START_S, steady_s: 0, watch }
        }

        fn pass(&mut self, for_s: i64) -> Option<Step> {
            self.wall_s += for_s;
            self.steady_s += for_s;
            self.watch.observe(wall(self.wall_s), steady(self.steady_s))
        }

        fn pass_with_readings(&mut self, for_s: i64) {
            for _ in 0..for_s / 600 {
                assert_eq!(self.pass(600), None);
            }
        }
    }

    fn wall(unix_s: i64) -> Timestamp {
        Timestamp::from_unix_s(unix_s)
    }

    fn steady(since_start_s: i64) -> Monotonic {
        Monotonic::from_micros(u64::try_from(since_start_s).unwrap() * 1_000_000)
    }

    #[test]
    fn a_clock_that_goes_is_believed() {
        let mut clocks = Clocks::new(Some(START_S - 600));
        clocks.pass_with_readings(30 * 24 * HOUR_S);
        assert!(clocks.watch.is_believed());
        // Long without a reading, as while a pass is long.
        assert_eq!(clocks.pass(40 * 24 * HOUR_S), None);
        assert!(clocks.watch.is_believed());
        assert!(Clocks::new(None).watch.is_believed(), "there is nothing to compare it with");
    }

    #[test]
    fn a_step_either_way_is_not_believed_until_it_has_stayed_for_hours() {
        for by_s in [2 * 24 * HOUR_S, 700, -700, -30 * HOUR_S] {
            let mut clocks = Clocks::new(None);
            clocks.pass(600);
            clocks.wall_s += by_s;
            assert_eq!(clocks.pass(600), Some(Step { by_ms: by_s * 1_000 }));
            assert!(!clocks.watch.is_believed(), "{by_s}");
            clocks.pass_with_readings(6 * HOUR_S - 600);
            assert!(!clocks.watch.is_believed(), "{by_s}");
            clocks.pass(600);
            assert!(clocks.watch.is_believed(), "{by_s}");
        }
    }

    #[test]
    fn a_step_and_the_way_back_are_two_steps() {
        let mut clocks = Clocks::new(None);
        clocks.wall_s += 48 * HOUR_S;
        clocks.pass(60);
        clocks.pass_with_readings(5 * HOUR_S);
        clocks.wall_s -= 48 * HOUR_S;
        assert!(clocks.pass(60).is_some());
        clocks.pass_with_readings(5 * HOUR_S);
        assert!(!clocks.watch.is_believed(), "it counts from the second one");
    }

    #[test]
    fn small_steps_in_a_row_and_a_slow_drift_are_told_apart() {
        let mut clocks = Clocks::new(None);
        // A time server speeds the clock up by half a percent, for days.
        for _ in 0..1_000 {
            clocks.wall_s += 3;
            assert_eq!(clocks.pass(600), None);
        }
        let noticed = (0..5).any(|_| {
            clocks.wall_s += 400;
            clocks.pass(600).is_some()
        });
        assert!(noticed);
    }

    #[test]
    fn a_machine_that_was_off_waits_like_one_whose_clock_is_ahead() {
        let mut clocks = Clocks::new(Some(START_S - 30 * 24 * HOUR_S));
        assert!(!clocks.watch.is_believed());
        clocks.pass_with_readings(6 * HOUR_S);
        assert!(clocks.watch.is_believed());
    }

    #[test]
    fn what_was_set_back_is_added_to_ages_from_before_and_to_no_others() {
        let mut clocks = Clocks::new(None);
        clocks.pass(24 * HOUR_S);
        let before_s = clocks.wall_s;
        clocks.wall_s -= 20 * HOUR_S;
        clocks.pass(60);
        let hours_since = |clocks: &Clocks, at_s| clocks.watch.set_back_since(wall(at_s)).as_secs() / 3_600;
        assert_eq!(hours_since(&clocks, before_s), 20);
        assert_eq!(hours_since(&clocks, START_S - 24 * HOUR_S), 20, "from before the start");
        assert_eq!(hours_since(&clocks, before_s + HOUR_S), 0, "it has never been that time");
        // Sent now, at a time of day that has been twice: the longer age counts.
        assert_eq!(hours_since(&clocks, clocks.wall_s), 20);
        clocks.pass_with_readings(30 * HOUR_S);
        assert_eq!(hours_since(&clocks, clocks.wall_s), 0);
        assert_eq!(hours_since(&clocks, before_s), 20, "still, after it has caught up");
    }

    #[test]
    fn what_was_set_forward_has_not_gone_by_since_before() {
        let mut clocks = Clocks::new(None);
        clocks.pass(HOUR_S);
        let before_s = clocks.wall_s;
        clocks.wall_s += 23 * HOUR_S;
        clocks.pass(60);
        let hours_since = |clocks: &Clocks, at_s| clocks.watch.set_forward_since(wall(at_s)).as_secs() / 3_600;
        assert_eq!(hours_since(&clocks, before_s), 23);
        clocks.pass(HOUR_S);
        assert_eq!(hours_since(&clocks, clocks.wall_s), 0, "sent since");
        assert_eq!(clocks.watch.set_back_since(wall(before_s)), Duration::ZERO);
        clocks.wall_s -= 23 * HOUR_S;
        clocks.pass(60);
        assert_eq!(hours_since(&clocks, before_s), 0, "it is right again");
    }

    #[test]
    fn a_clock_that_was_ahead_for_minutes_makes_nothing_older_that_was_sent_before_or_since() {
        let mut clocks = Clocks::new(None);
        clocks.pass(HOUR_S);
        let before_s = clocks.wall_s;
        clocks.wall_s += 48 * HOUR_S;
        clocks.pass(300);
        let ahead_s = clocks.wall_s;
        clocks.wall_s -= 48 * HOUR_S;
        clocks.pass(300);
        assert_eq!(clocks.watch.set_back_since(wall(before_s)), Duration::ZERO);
        assert_eq!(clocks.watch.set_back_since(wall(clocks.wall_s)), Duration::ZERO);
        assert_eq!(clocks.watch.set_back_since(wall(ahead_s)), Duration::from_secs(48 * 3_600));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut clocks = Clocks::new(None);
        for _ in 0..PERIODS_MAX * 3 {
            clocks.wall_s += HOUR_S;
            assert!(clocks.pass(60).is_some());
        }
        assert_eq!(clocks.watch.periods.len(), PERIODS_MAX);
        // What was sent before all of it has not waited for what the clock has skipped since.
        let skipped = clocks.watch.set_forward_since(wall(START_S));
        assert_eq!(skipped.as_secs(), (PERIODS_MAX * 3) as u64 * 3_600);
        assert_eq!(clocks.watch.set_back_since(wall(START_S)), Duration::ZERO);
    }
}
