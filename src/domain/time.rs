//! Points in time as the domain sees them: numbers that somebody else has read from a clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY_MS: i64 = 86_400_000;

/// A point in UTC time, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The point `unix_ms` milliseconds after the Unix epoch.
    pub const fn from_unix_ms(unix_ms: i64) -> Self {
        Self(unix_ms)
    }

    /// The point `unix_s` seconds after the Unix epoch.
    pub const fn from_unix_s(unix_s: i64) -> Self {
        Self(unix_s.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn unix_s(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This point and `duration` more.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This point less `duration`.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with whole seconds (`2025-01-24T10:30:45Z`), as the HTTP contract writes times.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_second(self.unix_s()) {
            Ok(timestamp) => timestamp.to_string(),
            Err(_) => String::from("1970-01-01T00:00:00Z"),
        }
    }

    /// Reads an RFC 3339 point in time.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|timestamp| Self(timestamp.as_millisecond()))
    }

    /// `yyyymmddHHMMSS` in UTC, the form that payment numbers carry.
    pub fn compact(self) -> String {
        match jiff::Timestamp::from_second(self.unix_s()) {
            Ok(timestamp) => timestamp.strftime("%Y%m%d%H%M%S").to_string(),
            Err(_) => String::from("19700101000000"),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.rfc3339())
    }
}

/// A day in UTC, written `yyyy-mm-dd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

/// The text is not a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a day such as \"2026-01-31\"")]
pub struct InvalidDay;

impl Day {
    /// Before all others.
    pub const FIRST: Self = Self(i32::MIN);
    /// After all others.
    pub const LAST: Self = Self(i32::MAX);

    /// The day in which a moment lies.
    pub fn of(at: Timestamp) -> Self {
        Self(i32::try_from(at.unix_ms().div_euclid(DAY_MS)).unwrap_or(i32::MAX))
    }

    /// Its first moment.
    pub const fn start(self) -> Timestamp {
        Timestamp::from_unix_ms(self.0 as i64 * DAY_MS)
    }

    /// The day before it.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The first day of its month.
    #[must_use]
    pub fn month(self) -> Self {
        let day_of_month = self.date().map_or(1, |date| date.day());
        Self(self.0.saturating_sub(i32::from(day_of_month) - 1))
    }

    /// The first day of the month after its own.
    #[must_use]
    pub fn next_month(self) -> Self {
        // From a first day on, 31 days lie in the next month whatever the lengths of both.
        Self(self.month().0.saturating_add(31)).month()
    }

    fn date(self) -> Option<jiff::civil::Date> {
        jiff::Timestamp::from_millisecond(self.start().unix_ms())
            .ok()
            .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date())
    }
}

impl FromStr for Day {
    type Err = InvalidDay;

    fn from_str(text: &str) -> Result<Self, InvalidDay> {
        let date = Some(text).filter(|text| text.len() == 10).and_then(|text| text.parse::<jiff::civil::Date>().ok());
        let start = date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok()).ok_or(InvalidDay)?;
        Ok(Self::of(Timestamp::from_unix_ms(start.timestamp().as_millisecond())))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.date() {
            Some(date) => write!(formatter, "{date}"),
            None => formatter.write_str("1970-01-01"),
        }
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A reading of a clock that never goes back, in microseconds since the process (or the test) started. It says nothing
/// about the time of day and is never stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(u64);

impl Monotonic {
    /// The reading `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the start, rounded down.
    pub const fn millis(self) -> u64 {
        self.0 / 1000
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This reading and `duration` more.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight_utc_and_know_their_month() {
        let day: Day = "2024-02-29".parse().unwrap();
        assert_eq!((day.to_string(), day.month().to_string()), ("2024-02-29".to_owned(), "2024-02-01".to_owned()));
        assert_eq!(day.start(), Timestamp::parse_rfc3339("2024-02-29T00:00:00Z").unwrap());
        let (last, first) = (day.start().unix_ms() - 1, day.start().unix_ms());
        assert_eq!(Day::of(Timestamp::from_unix_ms(last)), day.before());
        assert_eq!(Day::of(Timestamp::from_unix_ms(first)), day);
        assert_eq!(Day::of(Timestamp::from_unix_ms(-1)).to_string(), "1969-12-31");
        for (day, next) in [("2024-01-31", "2024-02-01"), ("2023-02-01", "2023-03-01"), ("2024-12-31", "2025-01-01")] {
            assert_eq!(day.parse::<Day>().unwrap().next_month().to_string(), next);
        }
        for wrong in ["2023-02-29", "2024-2-29", "20240229", "", "2024-02-29T00"] {
            assert_eq!(wrong.parse::<Day>(), Err(InvalidDay), "{wrong}");
        }
    }
}
