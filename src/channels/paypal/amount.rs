//! Amounts as PayPal writes them: decimal text with two decimals, except for three currencies that have none there.

use crate::domain::money::{Currency, Money};

/// Currencies in which PayPal takes payments.
pub(super) const CURRENCIES: &[&str] = &[
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "JPY", "MXN", "MYR", "NOK",
    "NZD", "PHP", "PLN", "SEK", "SGD", "THB", "TWD", "USD",
];
/// Of those, the ones in which a decimal point is an error, whatever ISO 4217 says.
const WHOLE: [&str; 3] = ["HUF", "JPY", "TWD"];

/// The amount as PayPal wants it; `None` when it can't be expressed exactly.
pub(super) fn to_paypal(money: Money) -> Option<String> {
    let code = money.currency.code();
    if money.amount_minor <= 0 || !CURRENCIES.contains(&code) {
        return None;
    }
    if WHOLE.contains(&code) {
        let per_unit = money.currency.minor_per_unit();
        return (money.amount_minor % per_unit == 0).then(|| (money.amount_minor / per_unit).to_string());
    }
    Some(money.decimal())
}

/// The money that PayPal means; `None` when it is no amount of this currency.
pub(super) fn from_paypal(value: &str, currency: Currency) -> Option<Money> {
    Money::parse_decimal(value, currency)
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
            for amount_minor in [1, 9, 10, 99, 100, 12_300, 12_345, 1_000_000, AMOUNT_MINOR_MAX] {
                let money = Money::new(amount_minor, currency);
                let Some(value) = to_paypal(money) else {
                    let coarse = matches!(currency.code(), "HUF" | "TWD") && amount_minor % 100 != 0;
                    assert!(coarse || !CURRENCIES.contains(&currency.code()), "{money} was refused");
                    continue;
                };
                assert_eq!(from_paypal(&value, currency), Some(money), "{money}");
            }
        }
        assert!(CURRENCIES.len() == 24 && CURRENCIES.iter().all(|code| code.parse::<Currency>().is_ok()));
    }

    #[test]
    fn the_exceptions_are_sent_without_a_point() {
        let sent = |amount_minor, code: &str| to_paypal(Money::new(amount_minor, code.parse().unwrap()));
        assert_eq!(sent(1230, "USD").as_deref(), Some("12.30"));
        assert_eq!(sent(5, "EUR").as_deref(), Some("0.05"));
        assert_eq!(sent(500, "JPY").as_deref(), Some("500"));
        assert_eq!(sent(50_000, "HUF").as_deref(), Some("500"));
        assert_eq!(sent(50_000, "TWD").as_deref(), Some("500"));
        assert_eq!(sent(50_001, "HUF"), None);
        assert_eq!(sent(50_001, "TWD"), None);
        assert_eq!(sent(1250, "KWD"), None);
        assert_eq!(sent(0, "USD"), None);
        assert_eq!(sent(-5, "USD"), None);
    }
}
