//! Fee rates as providers quote them, exact: percentages in parts per million, fixed parts in minor units. What is in force
//! follows from the day, the method, the currency and the month's volume; what it comes to is one division at the end.

mod compute;
mod percent;
mod rate;
mod schedule;
#[cfg(test)]
mod tests;

pub use compute::{FeeCircumstances, fee_of};
pub use percent::{InvalidPercent, Percent};
pub use rate::{FxRate, InvalidRate};
pub use schedule::{Charges, FeeOverride, FeeSchedule, FeeTier, PricedBy};
