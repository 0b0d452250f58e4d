//! Amounts as Alipay writes them.

use crate::domain::money::{Currency, Money};

/// Two decimals, whatever the currency.
pub(super) fn shown(money: Money) -> String {
    let hundredths = i128::from(money.amount_minor) * 100 / i128::from(money.currency.minor_per_unit());
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Plain decimal text with at most two decimals, from 0.01 on, that is a whole number of minor units.
pub(super) fn money_of(text: &str, currency: Currency) -> Option<Money> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || fraction.len() > 2 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let hundredths: i64 = format!("{whole}{fraction:0<2}").parse().ok()?;
    let scaled = hundredths.checked_mul(currency.minor_per_unit())?;
    (hundredths > 0 && scaled % 100 == 0).then(|| Money::new(scaled / 100, currency))
}
