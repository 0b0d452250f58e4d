//! Times of day and days of the week, in UTC or in a time zone.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::time::Timestamp;

const DAY_MINUTES: u16 = 24 * 60;

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

    /// Whether every day that this stands for is one that `other` stands for.
    const fn is_within(self, other: Self) -> bool {
        const ALL: u8 = 0b0111_1111;
        let days = if self.0 == 0 { ALL } else { self.0 };
        let others = if other.0 == 0 { ALL } else { other.0 };
        days & !others == 0
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

    /// Whether it is certain that every moment in it is one of `other`. Times of different zones are not compared.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        if other.is_always() {
            return true;
        }
        if self.is_always() || !same_zone(self.zone.as_ref(), other.zone.as_ref()) {
            return false;
        }
        let in_day = match (self.between, other.between) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(inner), Some(outer)) => {
                let length = |(from, until): (DayTime, DayTime)| (until.0 + DAY_MINUTES - from.0) % DAY_MINUTES;
                // 00:00 until 24:00 is the whole day, not nothing.
                let whole = |times: (DayTime, DayTime)| if length(times) == 0 { DAY_MINUTES } else { length(times) };
                let late = (inner.0.0 + DAY_MINUTES - outer.0.0 % DAY_MINUTES) % DAY_MINUTES;
                late + whole(inner) <= whole(outer) || whole(outer) == DAY_MINUTES
            }
        };
        in_day && self.weekdays.is_within(other.weekdays)
    }
}

fn same_zone(one: Option<&TimeZone>, other: Option<&TimeZone>) -> bool {
    let utc = |zone: Option<&TimeZone>| zone.is_none_or(|zone| *zone == TimeZone::UTC);
    (utc(one) && utc(other)) || (one.is_some() && one == other)
}
