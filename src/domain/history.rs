//! What the last hours were like, a minute at a time: made from readings of what is counted anyway, and bounded however
//! long the process runs.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::time::Timestamp;

/// Minutes that are remembered.
pub const MINUTES_MAX: usize = 180;

const MINUTE_MS: i64 = 60_000;

/// Payments of a channel that came to their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// That succeeded.
    pub approved: u64,
    /// That failed.
    pub declined: u64,
}

impl Ends {
    /// The share that succeeded, 0 to 1; `None` when none ended.
    pub fn approval(&self) -> Option<f64> {
        let ended = self.approved.saturating_add(self.declined);
        (ended > 0).then(|| self.approved as f64 / ended as f64)
    }
}

/// Money of one currency, in its minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Of payments that succeeded.
    pub taken_minor: u64,
    /// What their channels took of it.
    pub fees_minor: u64,
    /// What the channel would have taken that is compared with.
    pub baseline_minor: u64,
}

/// How long things took: how many, and how many of them no longer than each bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Bounds in seconds, which rise, each with how many took no longer.
    pub up_to: Vec<(f64, u64)>,
    /// All of them.
    pub count: u64,
}

impl Spread {
    /// The least bound that this share of them kept, in seconds; the highest when it was longer than all, `None` of none.
    pub fn within(&self, share: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let wanted = (self.count as f64 * share).ceil();
        let kept = self.up_to.iter().find(|(_, count)| *count as f64 >= wanted).or(self.up_to.last());
        kept.map(|(bound, _)| *bound)
    }
}

/// What was counted until a moment, or between two.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// Payments that were stored.
    pub payments: u64,
    /// Payments that ended, by channel.
    pub ends: BTreeMap<String, Ends>,
    /// Money, by currency.
    pub money: BTreeMap<String, Amounts>,
    /// Requests that a limit refused.
    pub refused: u64,
    /// Commits.
    pub commits: Spread,
}

impl Counted {
    /// What came since an earlier reading. What has become less began anew and counts whole.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let less = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let ends = |(channel, now): (&String, &Ends)| {
            let before = earlier.ends.get(channel).copied().unwrap_or_default();
            let came =
                Ends { approved: less(now.approved, before.approved), declined: less(now.declined, before.declined) };
            (channel.clone(), came)
        };
        let money = |(currency, now): (&String, &Amounts)| {
            let before = earlier.money.get(currency).copied().unwrap_or_default();
            let came = Amounts {
                taken_minor: less(now.taken_minor, before.taken_minor),
                fees_minor: less(now.fees_minor, before.fees_minor),
                baseline_minor: less(now.baseline_minor, before.baseline_minor),
            };
            (currency.clone(), came)
        };
        let up_to = |(place, (bound, now)): (usize, &(f64, u64))| {
            let before = earlier.commits.up_to.get(place).map_or(0, |(_, count)| *count);
            (*bound, less(*now, before))
        };
        Self {
            payments: less(self.payments, earlier.payments),
            ends: self.ends.iter().map(ends).collect(),
            money: self.money.iter().map(money).collect(),
            refused: less(self.refused, earlier.refused),
            commits: Spread {
                up_to: self.commits.up_to.iter().enumerate().map(up_to).collect(),
                count: less(self.commits.count, earlier.commits.count),
            },
        }
    }

    /// Adds what came besides.
    pub fn add(&mut self, more: &Self) {
        self.payments += more.payments;
        self.refused += more.refused;
        for (channel, came) in &more.ends {
            let ends = self.ends.entry(channel.clone()).or_default();
            ends.approved += came.approved;
            ends.declined += came.declined;
        }
        for (currency, came) in &more.money {
            let amounts = self.money.entry(currency.clone()).or_default();
            amounts.taken_minor += came.taken_minor;
            amounts.fees_minor += came.fees_minor;
            amounts.baseline_minor += came.baseline_minor;
        }
        for (place, (bound, count)) in more.commits.up_to.iter().enumerate() {
            match self.commits.up_to.get_mut(place) {
                Some((_, known)) => *known += count,
                None => self.commits.up_to.push((*bound, *count)),
            }
        }
        self.commits.count += more.commits.count;
    }
}

/// A reading: what was counted so far, and how much of something there is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Counted since the start of the process.
    pub counted: Counted,
    /// Notifications that wait to be sent; `None` while they have not been counted.
    pub webhooks_waiting: Option<u64>,
}

/// One minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Minute {
    /// When it began.
    pub at: Timestamp,
    /// What was counted in it.
    pub counted: Counted,
    /// The most that waited at once, as far as it was looked at.
    pub webhooks_waiting: Option<u64>,
}

impl Minute {
    fn empty(at_minute: i64) -> Self {
        let at = Timestamp::from_unix_ms(at_minute.saturating_mul(MINUTE_MS));
        Self { at, counted: Counted::default(), webhooks_waiting: None }
    }

    fn number(&self) -> i64 {
        self.at.unix_ms().div_euclid(MINUTE_MS)
    }
}

/// The last minutes, without a gap between the first and the last.
#[derive(Clone, Debug, Default)]
pub struct History {
    minutes: VecDeque<Minute>,
    counted: Counted,
}

impl History {
    /// Takes a reading of this moment. A clock that was set back adds to the last minute until it has caught up.
    pub fn note(&mut self, now: Timestamp, reading: Reading) {
        let came = reading.counted.since(&self.counted);
        self.counted = reading.counted;
        self.reach(now.unix_ms().div_euclid(MINUTE_MS));
        if let Some(last) = self.minutes.back_mut() {
            last.counted.add(&came);
            last.webhooks_waiting = last.webhooks_waiting.max(reading.webhooks_waiting);
        }
    }

    /// The minutes, oldest first.
    pub fn minutes(&self) -> impl Iterator<Item = &Minute> {
        self.minutes.iter()
    }

    /// Lets the last minute be this one.
    fn reach(&mut self, minute: i64) {
        let kept = i64::try_from(MINUTES_MAX).unwrap_or(i64::MAX);
        let next = self.minutes.back().map_or(minute, |last| last.number().saturating_add(1));
        // After a long sleep nothing is left of what was.
        for missing in next.max(minute.saturating_sub(kept - 1))..=minute {
            self.minutes.push_back(Minute::empty(missing));
        }
        let oldest = minute.saturating_sub(kept);
        while self.minutes.len() > MINUTES_MAX || self.minutes.front().is_some_and(|first| first.number() <= oldest) {
            self.minutes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64, second: i64) -> Timestamp {
        Timestamp::from_unix_s(1_700_000_040 + minute * 60 + second)
    }

    fn payments(payments: u64) -> Reading {
        Reading { counted: Counted { payments, ..Counted::default() }, webhooks_waiting: None }
    }

    fn of(history: &History) -> Vec<u64> {
        history.minutes().map(|minute| minute.counted.payments).collect()
    }

    #[test]
    fn what_came_between_two_readings_counts_in_the_minute_of_the_later_one() {
        let mut history = History::default();
        for (minute, second, total) in [(0, 5, 3), (0, 59, 10), (1, 0, 12), (4, 30, 20)] {
            history.note(at(minute, second), payments(total));
        }
        assert_eq!(of(&history), [10, 2, 0, 0, 8]);
        let first = history.minutes().next().unwrap().at;
        assert_eq!(first, at(0, 0), "minutes begin with the clock's");
    }

    #[test]
    fn only_so_many_are_remembered_and_none_of_before_a_long_sleep() {
        let mut history = History::default();
        for minute in 0..1_000_u64 {
            history.note(at(i64::try_from(minute).unwrap(), 0), payments(minute + 1));
        }
        assert_eq!(of(&history), [1; MINUTES_MAX]);
        history.note(at(999 + 170, 0), payments(1_000));
        assert_eq!(of(&history).iter().sum::<u64>(), 10, "the last ten are still there");
        history.note(at(1_000_000, 0), payments(1_005));
        assert_eq!((of(&history).len(), of(&history).iter().sum::<u64>()), (MINUTES_MAX, 5));
    }

    #[test]
    fn a_clock_that_is_set_back_loses_nothing() {
        let mut history = History::default();
        history.note(at(10, 0), payments(1));
        history.note(at(3, 0), payments(5));
        history.note(at(11, 0), payments(6));
        assert_eq!(of(&history), [5, 1]);
    }

    #[test]
    fn everything_is_told_apart_and_added_up() {
        let reading = |factor: u64| Counted {
            payments: 10 * factor,
            ends: BTreeMap::from([("stripe".to_owned(), Ends { approved: 3 * factor, declined: factor })]),
            money: BTreeMap::from([(
                "USD".to_owned(),
                Amounts { taken_minor: 100 * factor, fees_minor: 3 * factor, baseline_minor: 4 * factor },
            )]),
            refused: factor,
            commits: Spread { up_to: vec![(0.001, 5 * factor), (0.01, 9 * factor)], count: 10 * factor },
        };
        assert_eq!(reading(3).since(&reading(2)), reading(1));
        assert_eq!(reading(2).since(&Counted::default()), reading(2));
        assert_eq!(reading(1).since(&reading(2)), reading(1), "counters that began anew");
        let mut sum = Counted::default();
        sum.add(&reading(1));
        sum.add(&reading(2));
        assert_eq!(sum, reading(3));
        assert_eq!(sum.ends["stripe"].approval(), Some(0.75));
        assert_eq!(Ends::default().approval(), None);
    }

    #[test]
    fn most_keep_a_bound() {
        let spread = Spread { up_to: vec![(0.001, 50), (0.01, 99), (0.1, 100)], count: 100 };
        assert_eq!(spread.within(0.5), Some(0.001));
        assert_eq!(spread.within(0.99), Some(0.01));
        assert_eq!(spread.within(1.0), Some(0.1));
        let long = Spread { up_to: vec![(0.001, 0)], count: 3 };
        assert_eq!(long.within(0.5), Some(0.001), "longer than every bound");
        assert_eq!(Spread::default().within(0.5), None);
    }

    #[test]
    fn the_most_that_waited_is_kept() {
        let mut history = History::default();
        for waiting in [None, Some(5), Some(2)] {
            history.note(at(0, 0), Reading { webhooks_waiting: waiting, ..Reading::default() });
        }
        assert_eq!(history.minutes().next().unwrap().webhooks_waiting, Some(5));
    }
}
