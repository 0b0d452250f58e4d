//! Fee rates as providers quote them, exact: percentages in parts per million, fixed parts in minor units.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::money::{Currency, Money};

/// A percentage with up to four decimals, kept as parts per million: 2.9 % is 29,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

impl Percent {
    /// Parts per million; 1,000,000 is the whole.
    pub const fn from_ppm(ppm: u32) -> Self {
        Self(ppm)
    }

    /// Parts per million.
    pub const fn ppm(self) -> u32 {
        self.0
    }
}

/// The text is not a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a percentage between 0 and 100 with at most four decimals, such as \"2.9\"")]
pub struct InvalidPercent;

impl FromStr for Percent {
    type Err = InvalidPercent;

    fn from_str(text: &str) -> Result<Self, InvalidPercent> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || fraction.len() > 4 || !all_digits(whole) || !all_digits(fraction) {
            return Err(InvalidPercent);
        }
        let ppm: u32 = format!("{whole}{fraction:0<4}").parse().map_err(|_| InvalidPercent)?;
        if ppm > 1_000_000 { Err(InvalidPercent) } else { Ok(Self(ppm)) }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        formatter.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a channel takes for one payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeeSchedule {
    /// Share of the amount.
    pub percent: Percent,
    /// Fixed part of every payment, in minor units of `fixed_currency`.
    #[serde(default)]
    pub fixed_minor: i64,
    /// Currency of the fixed part.
    #[serde(default = "usd")]
    pub fixed_currency: Currency,
    /// Added when the payer's country is foreign to the channel.
    #[serde(default)]
    pub international_percent: Percent,
    /// Added when the payment's currency is not the settlement currency.
    #[serde(default)]
    pub conversion_percent: Percent,
    /// The day these figures were read, `yyyy-mm-dd`.
    #[serde(default)]
    pub as_of: String,
}

fn usd() -> Currency {
    Currency::USD
}

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

/// What makes one payment dearer than the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeCircumstances {
    /// The payer's country is foreign to the channel.
    pub international: bool,
    /// The payment's currency is not the settlement currency.
    pub conversion: bool,
    /// Worth of the fixed part's currency in the settlement currency.
    pub fixed_rate: FxRate,
    /// Worth of the payment's currency in the settlement currency.
    pub payment_rate: FxRate,
}

/// The fee of one payment in the payment's own currency, rounded half up to the minor unit once, at the end.
pub fn fee_of(schedule: &FeeSchedule, money: Money, circumstances: FeeCircumstances) -> Money {
    let mut ppm = i128::from(schedule.percent.ppm());
    if circumstances.international {
        ppm += i128::from(schedule.international_percent.ppm());
    }
    if circumstances.conversion {
        ppm += i128::from(schedule.conversion_percent.ppm());
    }
    // Both parts over one denominator: 1e6 for the percentage times (payment rate x minor units of the fixed currency).
    let fixed_rate = i128::from(circumstances.fixed_rate.billionths());
    let payment_rate = i128::from(circumstances.payment_rate.billionths());
    let fixed_scale = payment_rate * i128::from(schedule.fixed_currency.minor_per_unit());
    let percent_part = i128::from(money.amount_minor) * ppm * fixed_scale;
    let fixed_part =
        i128::from(schedule.fixed_minor) * fixed_rate * i128::from(money.currency.minor_per_unit()) * 1_000_000;
    let denominator = 1_000_000 * fixed_scale;
    let rounded = (2 * (percent_part + fixed_part) + denominator).div_euclid(2 * denominator);
    Money::new(i64::try_from(rounded).unwrap_or(i64::MAX), money.currency)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(percent: &str, fixed_minor: i64) -> FeeSchedule {
        FeeSchedule {
            percent: percent.parse().unwrap(),
            fixed_minor,
            fixed_currency: Currency::USD,
            international_percent: "1.5".parse().unwrap(),
            conversion_percent: "1".parse().unwrap(),
            as_of: String::new(),
        }
    }

    const AT_HOME: FeeCircumstances = FeeCircumstances {
        international: false,
        conversion: false,
        fixed_rate: FxRate::ONE,
        payment_rate: FxRate::ONE,
    };

    #[test]
    fn the_documented_cost_case_comes_out_to_the_cent() {
        for (amount_minor, stripe, alipay) in
            [(1_000, 59, 6), (10_000, 320, 60), (100_000, 2_930, 600), (1_000_000, 29_030, 6_000)]
        {
            let money = Money::new(amount_minor, Currency::USD);
            assert_eq!(fee_of(&schedule("2.9", 30), money, AT_HOME).amount_minor, stripe);
            assert_eq!(fee_of(&schedule("0.6", 0), money, AT_HOME).amount_minor, alipay);
        }
    }

    #[test]
    fn halves_round_up_and_fixed_parts_are_converted() {
        let money = Money::new(1_500, Currency::USD);
        assert_eq!(fee_of(&schedule("2.9", 30), money, AT_HOME).amount_minor, 74);
        let yen = Money::new(10_000, "JPY".parse().unwrap());
        let abroad = FeeCircumstances {
            international: true,
            conversion: true,
            fixed_rate: FxRate::ONE,
            payment_rate: "0.01".parse().unwrap(),
        };
        // 5.4 % of 10,000 yen and 0.30 USD at 100 yen a dollar.
        assert_eq!(fee_of(&schedule("2.9", 30), yen, abroad).amount_minor, 570);
    }
}
