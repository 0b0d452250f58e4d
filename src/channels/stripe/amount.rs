//! Amounts as Stripe counts them. It follows ISO 4217 but for three currencies, and takes three-decimal currencies only
//! with a last digit of zero.

use crate::domain::money::{Currency, Money};

/// Currencies in which Stripe takes payments.
pub(super) const CURRENCIES: &[&str] = &[
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BHD", "BIF", "BMD", "BND",
    "BOB", "BRL", "BSD", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CLP", "CNY", "COP", "CRC", "CVE", "CZK", "DJF",
    "DKK", "DOP", "DZD", "EGP", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GIP", "GMD", "GNF", "GTQ", "GYD", "HKD",
    "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "ISK", "JMD", "JOD", "JPY", "KES", "KGS", "KHR", "KMF", "KRW", "KWD",
    "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MUR", "MVR",
    "MWK", "MXN", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK", "PHP", "PKR",
    "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF", "SAR", "SBD", "SCR", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD",
    "SZL", "THB", "TJS", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "UYU", "UZS", "VND", "VUV",
    "WST", "XAF", "XCD", "XOF", "XPF", "YER", "ZAR", "ZMW",
];

/// How one of our minor units relates to Stripe's.
enum Unit {
    /// They are the same, in steps of `step`.
    Same { step: i64 },
    /// Stripe counts hundredths of our minor unit, and only whole ones of ours.
    Hundredths,
    /// Stripe counts whole units where we count hundredths.
    Whole,
}

fn unit_of(currency: Currency) -> Unit {
    match currency.code() {
        // No decimals in practice, sent with two for backward compatibility.
        "ISK" | "UGX" => Unit::Hundredths,
        // Two decimals in ISO 4217 (a fifth, really), none at Stripe.
        "MGA" => Unit::Whole,
        _ if currency.exponent() == 3 => Unit::Same { step: 10 },
        _ => Unit::Same { step: 1 },
    }
}

/// Stripe takes amounts of at most twelve digits.
const AMOUNT_MAX: i64 = 999_999_999_999;

/// The number that Stripe wants for `money`; `None` when it can't express the amount or does not take the currency.
pub(super) fn to_stripe(money: Money) -> Option<i64> {
    if !CURRENCIES.contains(&money.currency.code()) {
        return None;
    }
    let amount = match unit_of(money.currency) {
        Unit::Same { step } => (money.amount_minor % step == 0).then_some(money.amount_minor),
        Unit::Hundredths => money.amount_minor.checked_mul(100),
        Unit::Whole => (money.amount_minor % 100 == 0).then_some(money.amount_minor / 100),
    };
    amount.filter(|amount| (1..=AMOUNT_MAX).contains(amount))
}

/// The money that Stripe means by `amount`; `None` when it is not a whole number of our minor units.
pub(super) fn from_stripe(amount: i64, currency: Currency) -> Option<Money> {
    let amount_minor = match unit_of(currency) {
        Unit::Same { .. } => Some(amount),
        Unit::Hundredths => (amount % 100 == 0).then_some(amount / 100),
        Unit::Whole => amount.checked_mul(100),
    };
    amount_minor.map(|amount_minor| Money::new(amount_minor, currency))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::AMOUNT_MINOR_MAX;

    fn all_currencies() -> Vec<Currency> {
        let letters = || b'A'..=b'Z';
        let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
        codes.filter_map(|code| std::str::from_utf8(&code).ok()?.parse().ok()).collect()
    }

    #[test]
    fn every_iso_currency_is_sent_exactly_or_not_at_all() {
        let currencies = all_currencies();
        assert!(currencies.len() > 140, "{}", currencies.len());
        for currency in currencies {
            for amount_minor in [1, 9, 10, 99, 100, 12_340, 12_345, 1_000_000, AMOUNT_MINOR_MAX] {
                let money = Money::new(amount_minor, currency);
                let Some(amount) = to_stripe(money) else {
                    let coarse = matches!(currency.code(), "MGA" | "BHD" | "JOD" | "KWD" | "OMR" | "TND");
                    let hundredfold = matches!(currency.code(), "ISK" | "UGX") && amount_minor > AMOUNT_MAX / 100;
                    assert!(coarse || hundredfold || !CURRENCIES.contains(&currency.code()), "{money} was refused");
                    continue;
                };
                assert!(amount <= AMOUNT_MAX, "{money}");
                assert_eq!(from_stripe(amount, currency), Some(money), "{money}");
            }
        }
        assert!(CURRENCIES.iter().all(|code| code.parse::<Currency>().is_ok()));
    }

    #[test]
    fn the_exceptions_are_sent_as_stripe_wants_them() {
        let sent = |amount_minor, code: &str| to_stripe(Money::new(amount_minor, code.parse().unwrap()));
        assert_eq!(sent(1230, "USD"), Some(1230));
        assert_eq!(sent(500, "JPY"), Some(500));
        assert_eq!(sent(5, "ISK"), Some(500));
        assert_eq!(sent(5, "UGX"), Some(500));
        assert_eq!(sent(9_999_999_999, "ISK"), Some(999_999_999_900));
        assert_eq!(sent(10_000_000_000, "ISK"), None, "thirteen digits");
        assert_eq!(sent(500, "MGA"), Some(5));
        assert_eq!(sent(550, "MGA"), None);
        assert_eq!(sent(1250, "KWD"), Some(1250));
        assert_eq!(sent(1255, "KWD"), None);
        assert_eq!(sent(100, "HUF"), Some(100));
        assert_eq!(sent(100, "TWD"), Some(100));
        assert_eq!(sent(100, "IRR"), None);
        assert_eq!(sent(0, "USD"), None);
        assert_eq!(sent(-5, "USD"), None);
    }
}
