//! The figures of a tier as they hold for one merchant, and the names of the limits made from them.

use serde::{Deserialize, Serialize};

use crate::domain::merchant::LimitOverrides;

/// Largest `burst`: bounds the memory of one merchant's ring (4 bytes an admission).
pub const BURST_MAX: u32 = 100_000;
/// Most requests in flight that can be configured for one merchant.
pub const CONCURRENT_MAX: u32 = 100_000;
/// Longest burst window, `burst / per_second`, in seconds.
pub const BURST_WINDOW_MAX_S: u32 = 3_600;

const MICROS_PER_SECOND: u64 = 1_000_000;

/// Limits in force for one merchant: its tier's, with its own overrides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitFigures {
    /// Advertised rate; the mean over every burst window is never above it. At least 1.
    pub per_second: u32,
    /// Admissions in any 60 s. At least 1.
    pub per_minute: u32,
    /// Admissions in any 3,600 s. At least 1.
    pub per_hour: u32,
    /// Admissions in any `burst / per_second` seconds; from 1 to [`BURST_MAX`].
    pub burst: u32,
    /// Requests in flight; from 1 to [`CONCURRENT_MAX`].
    pub concurrent: u32,
}

/// The figures make no sense together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFigures {
    /// A limit is zero, which would refuse everything for ever; suspend the merchant instead.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// A limit is larger than what the limiter can hold.
    #[error("{name} must be at most {max}")]
    TooLarge {
        /// The figure's name.
        name: &'static str,
        /// The largest value.
        max: u32,
    },
    /// `burst / per_second` is longer than an hour.
    #[error("burst divided by per_second must be at most {BURST_WINDOW_MAX_S} seconds")]
    BurstWindowTooLong,
}

impl LimitFigures {
    /// The figures of a tier with a merchant's overrides laid over them.
    ///
    /// # Errors
    /// When the result is out of range.
    pub fn of(tier: &Self, overrides: &LimitOverrides) -> Result<Self, InvalidFigures> {
        let figures = Self::overridden(tier, overrides);
        figures.check()?;
        Ok(figures)
    }

    /// The same for a merchant that was allowed them once: what is out of range by now is brought to the nearest figures
    /// that are in it.
    pub fn nearest(tier: &Self, overrides: &LimitOverrides) -> Self {
        Self::overridden(tier, overrides).clamped()
    }

    fn overridden(tier: &Self, overrides: &LimitOverrides) -> Self {
        Self {
            per_second: overrides.per_second.unwrap_or(tier.per_second),
            per_minute: overrides.per_minute.unwrap_or(tier.per_minute),
            per_hour: overrides.per_hour.unwrap_or(tier.per_hour),
            burst: overrides.burst.unwrap_or(tier.burst),
            concurrent: overrides.concurrent.unwrap_or(tier.concurrent),
        }
    }

    /// Whether every figure is in range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), InvalidFigures> {
        let named = [
            ("per_second", self.per_second, u32::MAX),
            ("per_minute", self.per_minute, u32::MAX),
            ("per_hour", self.per_hour, u32::MAX),
            ("burst", self.burst, BURST_MAX),
            ("concurrent", self.concurrent, CONCURRENT_MAX),
        ];
        for (name, value, max) in named {
            if value == 0 {
                return Err(InvalidFigures::Zero(name));
            }
            if value > max {
                return Err(InvalidFigures::TooLarge { name, max });
            }
        }
        if self.burst_window_us() > u64::from(BURST_WINDOW_MAX_S) * MICROS_PER_SECOND {
            return Err(InvalidFigures::BurstWindowTooLong);
        }
        Ok(())
    }

    /// The higher of both, figure by figure: what was admitted under either is within its rates.
    pub fn highest(&self, other: &Self) -> Self {
        Self {
            per_second: self.per_second.max(other.per_second),
            per_minute: self.per_minute.max(other.per_minute),
            per_hour: self.per_hour.max(other.per_hour),
            burst: self.burst.max(other.burst),
            concurrent: self.concurrent.max(other.concurrent),
        }
    }

    /// The nearest figures that are in range, so that a limiter never divides by zero or grows without bound whatever
    /// it is handed.
    pub(super) fn clamped(self) -> Self {
        let per_second = self.per_second.max(1);
        let burst_max = per_second.saturating_mul(BURST_WINDOW_MAX_S).min(BURST_MAX);
        Self {
            per_second,
            per_minute: self.per_minute.max(1),
            per_hour: self.per_hour.max(1),
            burst: self.burst.clamp(1, burst_max),
            concurrent: self.concurrent.clamp(1, CONCURRENT_MAX),
        }
    }

    /// Length of the burst window in microseconds, rounded up so that the rate is never exceeded.
    pub fn burst_window_us(&self) -> u64 {
        (u64::from(self.burst) * MICROS_PER_SECOND).div_ceil(u64::from(self.per_second.max(1)))
    }
}

/// One of the limits, by the name that clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// At most `burst` in `burst / per_second` seconds.
    Second,
    /// At most so many in 60 s.
    Minute,
    /// At most so many in 3,600 s.
    Hour,
    /// At most so many in flight.
    Concurrency,
}

impl Policy {
    /// All, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Concurrency];

    /// The name as it is written in headers and bodies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Concurrency => "concurrency",
        }
    }
}

/// A set of limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicySet(u8);

impl PolicySet {
    /// Adds one.
    pub const fn insert(&mut self, policy: Policy) {
        self.0 |= 1 << policy as u8;
    }

    /// Whether it is in the set.
    pub const fn contains(self, policy: Policy) -> bool {
        self.0 & (1 << policy as u8) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in the set, in the order of [`Policy::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Policy> {
        Policy::ALL.into_iter().filter(move |policy| self.contains(*policy))
    }
}
