//! How urgent a webhook is.

use crate::config::Config;
use crate::domain::fees::FxRate;
use crate::domain::money::{Currency, Money};
use crate::domain::webhook::AmountClass;

/// The class of an amount, by what it is worth in the settlement currency. What is about no money, or in a currency without
/// a rate, is in the last.
pub(super) fn class_of(config: &Config, currency: Option<Currency>, amount_minor: i64) -> AmountClass {
    let settlement = config.fx.settlement_currency;
    let worth = currency.and_then(|currency| {
        let rate = if currency == settlement { FxRate::ONE } else { *config.fx.rates.get(&currency)? };
        rate.settled(Money { amount_minor, currency }, settlement)
    });
    AmountClass::of(worth, config.webhook.amount_classes_minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_all_currencies_are_compared_by_what_they_are_worth() {
        let mut config = Config::embedded().unwrap();
        let (jpy, kwd) = ("JPY".parse().unwrap(), "KWD".parse().unwrap());
        config.fx.rates.insert(jpy, "0.0064".parse().unwrap());
        config.fx.rates.remove(&kwd);
        let class = |currency, amount_minor| class_of(&config, currency, amount_minor).number();
        assert_eq!(class(Some(Currency::USD), 40_000), 2);
        assert_eq!(class(Some(jpy), 50_000), 2, "320 USD");
        assert_eq!(class(Some(jpy), 1_562_500), 0, "10,000 USD");
        assert_eq!(class(Some(jpy), 1_562_000), 1);
        assert_eq!(class(Some(kwd), 1_000_000_000), 3);
        assert_eq!(class(None, 1_000_000_000), 3);
    }
}
