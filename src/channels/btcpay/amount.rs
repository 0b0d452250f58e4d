//! Amounts as a BTCPay server writes them: decimal strings in the currency's whole units, sometimes with more decimals than
//! the currency has, since what was paid was another currency.

use crate::domain::money::{Currency, Money};

/// How `money` is written; `None` for what can't be asked for.
pub(super) fn to_btcpay(money: Money) -> Option<String> {
    (money.amount_minor > 0).then(|| money.decimal())
}

/// The money that `text` means, if it is a whole number of minor units.
pub(super) fn exactly(text: &str, currency: Currency) -> Option<Money> {
    let (kept, rest) = split(text, currency)?;
    rest.bytes().all(|digit| digit == b'0').then(|| Money::parse_decimal(kept, currency)).flatten()
}

/// The whole minor units in `text`: what is less than one can't be given back.
pub(super) fn whole_units(text: &str, currency: Currency) -> Option<Money> {
    let (kept, rest) = split(text, currency)?;
    rest.bytes().all(|digit| digit.is_ascii_digit()).then(|| Money::parse_decimal(kept, currency)).flatten()
}

/// The part of `text` that the currency can express, and the decimals beyond it.
fn split(text: &str, currency: Currency) -> Option<(&str, &str)> {
    let Some(point) = text.find('.') else { return Some((text, "")) };
    let decimals = usize::try_from(currency.exponent()).ok()?;
    let end = match decimals {
        0 => point,
        decimals => text.len().min(point + 1 + decimals),
    };
    let rest = text.get(end..)?;
    Some((text.get(..end)?, rest.strip_prefix('.').unwrap_or(rest)))
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
    fn every_iso_currency_is_read_back_as_it_is_written() {
        let currencies = all_currencies();
        assert!(currencies.len() > 140, "{}", currencies.len());
        for currency in currencies {
            for amount_minor in [1, 9, 10, 99, 100, 12_340, 12_345, 1_000_000, AMOUNT_MINOR_MAX] {
                let money = Money::new(amount_minor, currency);
                let text = to_btcpay(money).unwrap();
                assert_eq!(exactly(&text, currency), Some(money), "{text}");
                assert_eq!(whole_units(&text, currency), Some(money), "{text}");
            }
            assert_eq!((to_btcpay(Money::new(0, currency)), to_btcpay(Money::new(-1, currency))), (None, None));
        }
    }

    #[test]
    fn decimals_beyond_the_currencys_are_only_left_out_where_that_is_meant() {
        let yen: Currency = "JPY".parse().unwrap();
        let dinar: Currency = "KWD".parse().unwrap();
        for (text, currency, exact, whole) in [
            ("20", Currency::USD, Some(2000), Some(2000)),
            ("20.5", Currency::USD, Some(2050), Some(2050)),
            ("20.500000", Currency::USD, Some(2050), Some(2050)),
            ("20.509", Currency::USD, None, Some(2050)),
            ("0.004", Currency::USD, None, Some(0)),
            ("500.0", yen, Some(500), Some(500)),
            ("500.9", yen, None, Some(500)),
            ("1.2345", dinar, None, Some(1234)),
            ("1.2340", dinar, Some(1234), Some(1234)),
            ("", Currency::USD, None, None),
            (".5", Currency::USD, None, None),
            ("1e3", Currency::USD, None, None),
            ("1.23x", Currency::USD, None, None),
            ("1.2.3", Currency::USD, None, None),
            ("NaN", Currency::USD, None, None),
        ] {
            let minor = |money: Option<Money>| money.map(|money| money.amount_minor);
            assert_eq!(minor(exactly(text, currency)), exact, "{text}");
            assert_eq!(minor(whole_units(text, currency)), whole, "{text}");
        }
    }
}
