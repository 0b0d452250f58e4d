//! Times of day and days of the week, in UTC or in a time zone.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::time::Timestamp;

const DAY_MINUTES: u16 = 24 * 60;
/// Minutes of a week.
pub(super) const WEEK_MINUTES: i64 = 7 * 24 * 60;

/// A time of day in whole minutes, `00:00` to `24:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DayTime(u16);

/// The text is no time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time of day such as 09:30")]
pub struct InvalidDayTime;

impl DayTime {
    /// Minutes since midnight, 0 to 1,440.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for DayTime {
    type Err = InvalidDayTime;

    fn from_str(text: &str) -> Result<Self, InvalidDayTime> {
        let (hours, minutes) = text.split_once(':').ok_or(InvalidDayTime)?;
        let number = |part: &str| {
            let is_plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            if is_plain { part.parse::<u16>().map_err(|_| InvalidDayTime) } else { Err(InvalidDayTime) }
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let whole = hours * 60 + minutes;
        if minutes > 59 || whole > DAY_MINUTES { Err(InvalidDayTime) } else { Ok(Self(whole)) }
    }
}

impl fmt::Display for DayTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for DayTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DayTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// Some days of the week; none stands for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weekdays(u8);

impl Weekdays {
    fn contains(self, days_since_monday: i8) -> bool {
        (0..7).contains(&days_since_monday) && self.0 & (1 << days_since_monday) != 0
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Weekday> for Weekdays {
    fn from_iter<I: IntoIterator<Item = Weekday>>(days: I) -> Self {
        Self(days.into_iter().fold(0, |set, day| set | (1 << day as u8)))
    }
}

/// When a payment is made: in a part of the day, on some days of the week. Both are those of the moment itself: a part of
/// the day that goes over midnight, on Fridays, is the end of Thursday's night and the beginning of Friday's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hours {
    /// From the first (inclusive) until the second (exclusive), over midnight where the second is not later; `None` for
    /// the whole day.
    pub between: Option<(DayTime, DayTime)>,
    /// On these days.
    pub weekdays: Weekdays,
    /// Whose day it is; `None` for UTC.
    pub zone: Option<TimeZone>,
}

impl Hours {
    /// Whether no time is excluded.
    pub const fn is_always(&self) -> bool {
        self.between.is_none() && self.weekdays.is_empty()
    }

    /// Whether a moment is in it. One that no calendar has is not.
    pub fn contains(&self, at: Timestamp) -> bool {
        if self.is_always() {
            return true;
        }
        let Ok(moment) = jiff::Timestamp::from_second(at.unix_s()) else { return false };
        let offset_s = self.zone.as_ref().map_or(0, |zone| i64::from(zone.to_offset(moment).seconds()));
        let local_s = at.unix_s() + offset_s;
        let days = local_s.div_euclid(86_400);
        let minute = u16::try_from(local_s.rem_euclid(86_400) / 60).unwrap_or(0);
        // The first of January 1970 was a Thursday.
        let weekday = i8::try_from((days + 3).rem_euclid(7)).unwrap_or(0);
        let in_day = self.between.is_none_or(|(from, until)| {
            if from < until { from.0 <= minute && minute < until.0 } else { minute >= from.0 || minute < until.0 }
        });
        in_day && (self.weekdays.is_empty() || self.weekdays.contains(weekday))
    }

    /// The minutes of a week, counted from Monday's first, that are in it: from each first until before the second, in
    /// order and apart.
    pub(super) fn week_spans(&self) -> Vec<(i64, i64)> {
        let day_minutes = i64::from(DAY_MINUTES);
        let of_day: Vec<(i64, i64)> = match self.between {
            None => vec![(0, day_minutes)],
            Some((from, until)) if from < until => vec![(i64::from(from.0), i64::from(until.0))],
            Some((from, until)) => vec![(0, i64::from(until.0)), (i64::from(from.0), day_minutes)],
        };
        let days = (0_i8..7).filter(|day| self.weekdays.is_empty() || self.weekdays.contains(*day));
        let spans = days.flat_map(|day| {
            let midnight = i64::from(day) * day_minutes;
            of_day.iter().map(move |(first, end)| (midnight + first, midnight + end))
        });
        let mut joined: Vec<(i64, i64)> = Vec::new();
        for (first, end) in spans.filter(|(first, end)| first < end) {
            match joined.last_mut() {
                Some(last) if last.1 == first => last.1 = end,
                _ => joined.push((first, end)),
            }
        }
        joined
    }
}

/// Whether two zones are certainly the same.
pub(super) fn same_zone(one: Option<&TimeZone>, other: Option<&TimeZone>) -> bool {
    let utc = |zone: Option<&TimeZone>| zone.is_none_or(|zone| *zone == TimeZone::UTC);
    (utc(one) && utc(other)) || (one.is_some() && one == other)
}
