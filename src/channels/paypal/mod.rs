//! PayPal, by its Orders and Payments.

use crate::channels::build::required;
use crate::channels::{Channel, Credentials, CurrencySupport};

/// Currencies in which PayPal takes payments.
pub(super) const CURRENCIES: CurrencySupport = CurrencySupport::Listed(&[
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "JPY", "MXN", "MYR", "NOK",
    "NZD", "PHP", "PLN", "SEK", "SGD", "THB", "TWD", "USD",
]);

/// A PayPal account.
pub(super) struct PaypalChannel;

impl PaypalChannel {
    /// Credentials: `client_id` and `client_secret`.
    ///
    /// # Errors
    /// A sentence, when one is missing.
    pub(super) fn new(credentials: &Credentials) -> Result<Self, String> {
        required(credentials, "client_id")?;
        required(credentials, "client_secret")?;
        Ok(Self)
    }
}

impl Channel for PaypalChannel {
    fn currencies(&self) -> CurrencySupport {
        CURRENCIES
    }

    fn methods(&self) -> &'static [&'static str] {
        &["paypal", "card"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Currency;

    #[test]
    fn every_currency_is_one() {
        let CurrencySupport::Listed(codes) = CURRENCIES else { panic!() };
        assert!(codes.len() == 24 && codes.iter().all(|code| code.parse::<Currency>().is_ok()), "{codes:?}");
    }
}
