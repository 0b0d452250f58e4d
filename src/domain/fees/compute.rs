//! What charges come to.

use crate::domain::fees::{Charges, FxRate};
use crate::domain::money::{AMOUNT_MINOR_MAX, Money};

/// Parts per million of the whole.
const PPM: i128 = 1_000_000;

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

/// The fee of one payment in the payment's own currency: the percentages of it and the fixed part, not less than the least
/// and not more than the most fee, rounded half up to the minor unit once, at the end.
///
/// Exact for amounts from 0 to [`AMOUNT_MINOR_MAX`], for fixed, least and most fees in that range, and for every rate; what
/// is outside counts as the nearest that is not.
pub fn fee_of(charges: &Charges, money: Money, circumstances: FeeCircumstances) -> Money {
    let mut ppm = i128::from(charges.percent.ppm());
    if circumstances.international {
        ppm += i128::from(charges.international_percent.ppm());
    }
    if circumstances.conversion {
        ppm += i128::from(charges.conversion_percent.ppm());
    }
    let amount = i128::from(bounded(money.amount_minor));
    let rounded = if charges.fixed_currency == money.currency || !charges.has_fixed_parts() {
        // Both parts over 1e6. At most 1e12 * 3e6 + 1e12 * 1e6: this fits 64 bits, in which a division is much quicker.
        let part = |minor: i64| i64::try_from(i128::from(bounded(minor)) * PPM).unwrap_or(i64::MAX);
        let percent_part = i64::try_from(amount * ppm).unwrap_or(i64::MAX);
        let exact = limited(percent_part.saturating_add(part(charges.fixed_minor)), charges, part);
        const HALF: i64 = 500_000;
        exact.saturating_add(HALF).div_euclid(2 * HALF)
    } else {
        // Over 1e6 times (payment rate x minor units of the fixed currency). At most 1e12 * 3e6 * 1e15 * 1e4 for the
        // percentages and 1e12 * 1e15 * 1e4 * 1e6 for the rest, doubled: 8e37 of 1.7e38.
        let fixed_rate = i128::from(circumstances.fixed_rate.billionths());
        let payment_rate = i128::from(circumstances.payment_rate.billionths());
        let fixed_scale = payment_rate * i128::from(charges.fixed_currency.minor_per_unit());
        let per_minor = fixed_rate * i128::from(money.currency.minor_per_unit()) * PPM;
        let part = |minor: i64| i128::from(bounded(minor)) * per_minor;
        let exact = limited(amount * ppm * fixed_scale + part(charges.fixed_minor), charges, part);
        let denominator = PPM * fixed_scale;
        i64::try_from((2 * exact + denominator).div_euclid(2 * denominator)).unwrap_or(i64::MAX)
    };
    Money::new(rounded, money.currency)
}

fn bounded(minor: i64) -> i64 {
    minor.clamp(0, AMOUNT_MINOR_MAX)
}

/// Not less than the least and not more than the most; the most has the last word.
fn limited<T: Ord>(exact: T, charges: &Charges, part: impl Fn(i64) -> T) -> T {
    let exact = match charges.min_minor {
        Some(least) => exact.max(part(least)),
        None => exact,
    };
    match charges.max_minor {
        Some(most) => exact.min(part(most)),
        None => exact,
    }
}
