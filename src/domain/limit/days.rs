//! How many requests a merchant sent by day, for `GET /limits`.

use serde::{Deserialize, Serialize};

use crate::domain::limit::figures::Policy;
use crate::domain::time::Timestamp;

/// Days kept, today included.
pub const DAYS_KEPT: usize = 30;

const MS_PER_DAY: i64 = 86_400_000;

/// Refused requests by the limit that refused longest, which is the one that their answers named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedBy {
    /// By the burst window.
    pub second: u64,
    /// By the minute.
    pub minute: u64,
    /// By the hour.
    pub hour: u64,
    /// By the number of requests in flight.
    pub concurrency: u64,
}

impl RefusedBy {
    /// One request that `policy` refused.
    pub fn one(policy: Policy) -> Self {
        let mut refused = Self::default();
        refused.add(policy, 1);
        refused
    }

    /// Adds requests that `policy` refused.
    pub fn add(&mut self, policy: Policy, requests: u64) {
        let counted = match policy {
            Policy::Second => &mut self.second,
            Policy::Minute => &mut self.minute,
            Policy::Hour => &mut self.hour,
            Policy::Concurrency => &mut self.concurrency,
        };
        *counted = counted.saturating_add(requests);
    }

    /// How many `policy` refused.
    pub const fn by(&self, policy: Policy) -> u64 {
        match policy {
            Policy::Second => self.second,
            Policy::Minute => self.minute,
            Policy::Hour => self.hour,
            Policy::Concurrency => self.concurrency,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        Policy::ALL.into_iter().fold(0, |total, policy| total.saturating_add(self.by(policy)))
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One day's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayUsage {
    /// The day in UTC, as days since 1970-01-01.
    pub day: i32,
    /// Requests that were let through.
    pub admitted: u64,
    /// Requests that were refused by a limit.
    pub refused: u64,
    /// The same by limit; less in days that were stored before this was counted.
    #[serde(default, skip_serializing_if = "RefusedBy::is_empty")]
    pub refused_by: RefusedBy,
    /// Most requests that were in flight at once.
    #[serde(default)]
    pub peak_concurrency: u32,
}

impl DayUsage {
    /// The day of a point in time.
    pub fn day_of(at: Timestamp) -> i32 {
        i32::try_from(at.unix_ms().div_euclid(MS_PER_DAY)).unwrap_or(i32::MAX)
    }

    /// The day as `yyyy-mm-dd`.
    pub fn date(&self) -> String {
        let mut date = Timestamp::from_unix_ms(i64::from(self.day) * MS_PER_DAY).rfc3339();
        date.truncate(10);
        date
    }
}

/// [`DAYS_KEPT`] days on which there was anything to count: the last, unless the clock has been elsewhere for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DailyUsage {
    /// Oldest first.
    days: Vec<DayUsage>,
}

impl DailyUsage {
    /// Goes on from stored days.
    pub fn restore(stored: &[DayUsage]) -> Self {
        let mut days = stored.to_vec();
        days.sort_by_key(|day| day.day);
        days.dedup_by_key(|day| day.day);
        Self { days }
    }

    /// Counts requests on the day of `at`; `in_flight` is how many were at once after them. When there are too many days
    /// the one goes that is farthest from it, so that a clock that shows a wrong day for a moment costs one day.
    pub fn count(&mut self, at: Timestamp, admitted: u64, refused_by: &RefusedBy, in_flight: u32) {
        let day = DayUsage::day_of(at);
        if let Some(today) = self.on(day) {
            today.admitted = today.admitted.saturating_add(admitted);
            today.refused = today.refused.saturating_add(refused_by.total());
            for policy in Policy::ALL {
                today.refused_by.add(policy, refused_by.by(policy));
            }
            today.peak_concurrency = today.peak_concurrency.max(in_flight);
        }
    }

    /// The place to count on `day`.
    fn on(&mut self, day: i32) -> Option<&mut DayUsage> {
        // Nearly always the last.
        if self.days.last().is_none_or(|last| last.day != day)
            && let Err(place) = self.days.binary_search_by_key(&day, |kept| kept.day)
        {
            self.days.insert(place, DayUsage { day, ..DayUsage::default() });
            // One before all others may be of a wrong clock, too, and must not cost the last.
            let kept_max = DAYS_KEPT + usize::from(place == 0);
            while self.days.len() > kept_max {
                let distance = |kept: Option<&DayUsage>| kept.map_or(0, |kept| kept.day.abs_diff(day));
                let is_last_farther = distance(self.days.last()) >= distance(self.days.first());
                self.days.remove(if is_last_farther { self.days.len() - 1 } else { 0 });
            }
        }
        self.days.iter_mut().rev().find(|kept| kept.day == day)
    }

    /// The day of `at`, zero when nothing was counted on it.
    pub fn today(&self, at: Timestamp) -> DayUsage {
        let day = DayUsage::day_of(at);
        let counted = self.days.iter().rev().find(|kept| kept.day == day);
        counted.copied().unwrap_or(DayUsage { day, ..DayUsage::default() })
    }

    /// The last [`DAYS_KEPT`] days up to that of `at`, as far as there was anything to count, oldest first.
    pub fn until(&self, at: Timestamp) -> Vec<DayUsage> {
        let today = i64::from(DayUsage::day_of(at));
        let is_recent = |kept: &&DayUsage| (0..DAYS_KEPT as i64).contains(&(today - i64::from(kept.day)));
        self.days.iter().filter(is_recent).copied().collect()
    }

    /// The days kept, oldest first.
    pub fn days(&self) -> &[DayUsage] {
        &self.days
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_day(day: i64) -> Timestamp {
        Timestamp::from_unix_ms(day * MS_PER_DAY + 5)
    }

    #[test]
    fn thirty_days_are_kept_and_no_more() {
        let mut usage = DailyUsage::default();
        for day in 100..150 {
            usage.count(on_day(day), 2, &RefusedBy::one(Policy::Hour), 7);
            usage.count(on_day(day), 1, &RefusedBy::default(), 3);
        }
        assert_eq!(usage.days().len(), DAYS_KEPT);
        let refused_by = RefusedBy::one(Policy::Hour);
        let expected = DayUsage { day: 149, admitted: 3, refused: 1, refused_by, peak_concurrency: 7 };
        assert_eq!(usage.today(on_day(149)), expected);
        assert_eq!(usage.days()[0].day, 120);
        assert_eq!(usage.today(on_day(150)), DayUsage { day: 150, ..DayUsage::default() });
        assert_eq!(DailyUsage::restore(usage.days()), usage);
    }

    #[test]
    fn a_clock_that_goes_back_loses_no_count_and_dates_read_well() {
        let mut usage = DailyUsage::default();
        usage.count(on_day(20_112), 1, &RefusedBy::default(), 1);
        usage.count(on_day(20_111), 1, &RefusedBy::default(), 2);
        usage.count(on_day(20_112), 3, &RefusedBy::default(), 2);
        let on = |day, admitted| DayUsage { day, admitted, peak_concurrency: 2, ..DayUsage::default() };
        assert_eq!(usage.days(), [on(20_111, 1), on(20_112, 4)]);
        assert_eq!(usage.until(on_day(20_111)), [on(20_111, 1)]);
        assert_eq!(usage.days()[1].date(), "2025-01-24");
    }

    #[test]
    fn a_clock_that_shows_a_wrong_day_for_a_moment_costs_one_day_at_most() {
        for wrong in [-400, 30, 36_500] {
            let mut usage = DailyUsage::default();
            for day in 100..130 {
                usage.count(on_day(day), 2, &RefusedBy::default(), 1);
            }
            usage.count(on_day(129 + wrong), 1, &RefusedBy::default(), 1);
            for _ in 0..3 {
                usage.count(on_day(129), 1, &RefusedBy::default(), 1);
            }
            usage.count(on_day(130), 1, &RefusedBy::default(), 1);
            let shown = usage.until(on_day(130));
            assert!(shown.len() >= DAYS_KEPT - 1, "{} days, {wrong} off", shown.len());
            assert_eq!((shown[shown.len() - 2].admitted, shown[shown.len() - 1].day), (5, 130), "{wrong} off");
            assert!(usage.days().len() <= DAYS_KEPT);
        }
    }

    #[test]
    fn days_that_are_over_are_not_shown() {
        let mut usage = DailyUsage::default();
        for day in [100, 129, 130] {
            usage.count(on_day(day), 1, &RefusedBy::default(), 1);
        }
        let shown = |day| usage.until(on_day(day)).iter().map(|kept| kept.day).collect::<Vec<_>>();
        assert_eq!((shown(129), shown(130), shown(159)), (vec![100, 129], vec![129, 130], vec![130]));
    }

    #[test]
    fn days_that_were_stored_before_limits_were_told_apart_are_read() {
        let day: DayUsage = serde_json::from_str(r#"{"day":20112,"admitted":5,"refused":3}"#).unwrap();
        assert_eq!(day, DayUsage { day: 20_112, admitted: 5, refused: 3, ..DayUsage::default() });
        let mut usage = DailyUsage::restore(&[day]);
        usage.count(on_day(20_112), 0, &RefusedBy::one(Policy::Second), 0);
        let today = usage.today(on_day(20_112));
        assert_eq!((today.refused, today.refused_by), (4, RefusedBy::one(Policy::Second)));
        let text = serde_json::to_string(&today).unwrap();
        assert_eq!(serde_json::from_str::<DayUsage>(&text).unwrap(), today);
    }
}
