//! Rates of exchange, exact.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::money::{Currency, Money};

/// A rate of exchange: how many units of the settlement currency one whole unit of a currency is worth, in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FxRate(u64);

impl FxRate {
    /// One for one.
    pub const ONE: Self = Self(1_000_000_000);

    /// Billionths of a unit of the settlement currency.
    pub const fn billionths(self) -> u64 {
        self.0
    }

    /// What `money` is worth in minor units of `settlement`, rounded up, at this rate for its currency; `None` when that is
    /// more than fits.
    pub fn settled(self, money: Money, settlement: Currency) -> Option<i64> {
        if money.currency == settlement {
            return Some(money.amount_minor);
        }
        let numerator = i128::from(money.amount_minor) * i128::from(self.0) * i128::from(settlement.minor_per_unit());
        let denominator = i128::from(Self::ONE.0) * i128::from(money.currency.minor_per_unit());
        i64::try_from((numerator + denominator - 1).div_euclid(denominator)).ok()
    }
}

/// The text is not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a positive rate with at most nine decimals, such as \"0.1387\"")]
pub struct InvalidRate;

impl FromStr for FxRate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 6 || fraction.len() > 9 || !all_digits(whole) || !all_digits(fraction) {
            return Err(InvalidRate);
        }
        let billionths: u64 = format!("{whole}{fraction:0<9}").parse().map_err(|_| InvalidRate)?;
        if billionths == 0 { Err(InvalidRate) } else { Ok(Self(billionths)) }
    }
}

impl fmt::Display for FxRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        formatter.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for FxRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FxRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
