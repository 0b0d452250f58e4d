//! Amounts as Alipay writes them: decimal text with two decimals, whatever the currency.

use crate::domain::money::{Currency, Money};

/// Currencies in which a trade can be priced; all but CNY are sent as `trans_currency`.
pub(super) const CURRENCIES: &[&str] = &[
    "CNY", "AED", "AUD", "CAD", "CHF", "CZK", "DKK", "EUR", "GBP", "HKD", "IDR", "ILS", "JPY", "KRW", "LKR", "MUR",
    "MYR", "NOK", "NZD", "PHP", "RUB", "SEK", "SGD", "THB", "TWD", "USD", "ZAR",
];
/// Alipay's largest amount, in hundredths.
const HUNDREDTHS_MAX: i64 = 100_000_000 * 100;

/// The text that Alipay wants for `money`; `None` when it can't express the amount or does not take the currency.
pub(super) fn to_alipay(money: Money) -> Option<String> {
    if !CURRENCIES.contains(&money.currency.code()) {
        return None;
    }
    let hundredths = money.amount_minor.checked_mul(100)?;
    let per_unit = money.currency.minor_per_unit();
    if hundredths % per_unit != 0 {
        return None;
    }
    let hundredths = hundredths / per_unit;
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    (1..=HUNDREDTHS_MAX).contains(&hundredths).then_some(text)
}

/// The money that Alipay means; `None` when it is not a plain decimal number of the currency's minor units.
pub(super) fn from_alipay(text: &str, currency: Currency) -> Option<Money> {
    let text = match text.split_once('.') {
        Some((whole, fraction)) => {
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
        }
        None => text.to_owned(),
    };
    Money::parse_decimal(&text, currency)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::AMOUNT_MINOR_MAX;

    #[test]
    fn amounts_have_two_decimals_and_read_back() {
        for (amount_minor, code, text) in [
            (1, "CNY", "0.01"),
            (1230, "USD", "12.30"),
            (500, "JPY", "500.00"),
            (10_000_000_000, "CNY", "100000000.00"),
        ] {
            let money = Money::new(amount_minor, code.parse().unwrap());
            assert_eq!(to_alipay(money).as_deref(), Some(text));
            assert_eq!(from_alipay(text, money.currency), Some(money));
        }
    }

    #[test]
    fn every_iso_currency_is_sent_exactly_or_not_at_all() {
        let letters = || b'A'..=b'Z';
        let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
        let currencies: Vec<Currency> =
            codes.filter_map(|code| std::str::from_utf8(&code).ok()?.parse().ok()).collect();
        assert!(currencies.len() > 140, "{}", currencies.len());
        for currency in currencies {
            for amount_minor in [1, 9, 10, 99, 100, 12_340, 12_345, 1_000_000, 100_000_000] {
                let money = Money::new(amount_minor, currency);
                match to_alipay(money) {
                    Some(text) => assert_eq!(from_alipay(&text, currency), Some(money), "{money}"),
                    None => assert!(!CURRENCIES.contains(&currency.code()), "{money} was refused"),
                }
            }
            assert_eq!(to_alipay(Money::new(AMOUNT_MINOR_MAX, currency)), None, "{currency}");
        }
        assert!(CURRENCIES.iter().all(|code| code.parse::<Currency>().is_ok()));
    }

    #[test]
    fn what_alipay_cannot_express_is_refused() {
        for (amount_minor, code) in [(0, "CNY"), (-1, "CNY"), (10_000_000_001, "CNY"), (1250, "KWD"), (100, "BRL")] {
            assert_eq!(to_alipay(Money::new(amount_minor, code.parse().unwrap())), None, "{amount_minor} {code}");
        }
        for text in ["", "x", "1.001", "1e2", "0.5.0"] {
            assert_eq!(from_alipay(text, Currency::CNY), None, "{text}");
        }
        assert_eq!(from_alipay("5.50", "JPY".parse().unwrap()), None);
    }
}
