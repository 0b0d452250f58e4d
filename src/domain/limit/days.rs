//! How many requests a merchant sent by day, for `GET /limits`.

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;

/// Days kept, today included.
pub const DAYS_KEPT: usize = 30;

const MS_PER_DAY: i64 = 86_400_000;

/// One day's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayUsage {
    /// The day in UTC, as days since 1970-01-01.
    pub day: i32,
    /// Requests that were let through.
    pub admitted: u64,
    /// Requests that were refused by a limit.
    pub refused: u64,
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

/// The last [`DAYS_KEPT`] days on which there was anything to count.
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

    /// Counts requests on the day of `at`. A clock that went back counts for the latest day.
    pub fn count(&mut self, at: Timestamp, admitted: u64, refused: u64) {
        let day = DayUsage::day_of(at);
        if self.days.last().is_none_or(|last| last.day < day) {
            self.days.retain(|kept| i64::from(day) - i64::from(kept.day) < DAYS_KEPT as i64);
            self.days.push(DayUsage { day, admitted: 0, refused: 0 });
        }
        if let Some(today) = self.days.last_mut() {
            today.admitted = today.admitted.saturating_add(admitted);
            today.refused = today.refused.saturating_add(refused);
        }
    }

    /// The day of `at`, zero when nothing was counted on it.
    pub fn today(&self, at: Timestamp) -> DayUsage {
        let day = DayUsage::day_of(at);
        let counted = self.days.iter().rev().find(|kept| kept.day == day);
        counted.copied().unwrap_or(DayUsage { day, admitted: 0, refused: 0 })
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
            usage.count(on_day(day), 2, 1);
            usage.count(on_day(day), 1, 0);
        }
        assert_eq!(usage.days().len(), DAYS_KEPT);
        assert_eq!(usage.today(on_day(149)), DayUsage { day: 149, admitted: 3, refused: 1 });
        assert_eq!(usage.days()[0].day, 120);
        assert_eq!(usage.today(on_day(150)), DayUsage { day: 150, admitted: 0, refused: 0 });
        assert_eq!(DailyUsage::restore(usage.days()), usage);
    }

    #[test]
    fn a_clock_that_goes_back_loses_no_count_and_dates_read_well() {
        let mut usage = DailyUsage::default();
        usage.count(on_day(20_112), 1, 0);
        usage.count(on_day(20_111), 1, 0);
        assert_eq!(usage.days(), [DayUsage { day: 20_112, admitted: 2, refused: 0 }]);
        assert_eq!(usage.days()[0].date(), "2025-01-24");
    }
}
