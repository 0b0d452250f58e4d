//! Shares of a rule's payments by channel. Which share a payment falls into is a function of the rule, the merchant and
//! the merchant's number, so that it is the same for every attempt, and that what falls together under one rule does not
//! under another.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::domain::ids::ChannelName;

/// Points of a split: hundredths of a percent.
pub const POINTS: u32 = 10_000;
const POINTS_PER_PERCENT: u32 = POINTS / 100;

/// A channel's share of a rule's payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The channel.
    pub channel: ChannelName,
    /// Percent of the payments; 0 for one that only stands in for the others.
    pub percent: u32,
}

/// Why shares are no split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// They are not the whole.
    #[error("must have shares that add up to 100 percent, not {0}")]
    Sum(u64),
    /// A channel has two.
    #[error("names the channel {0} twice")]
    Twice(ChannelName),
}

/// Whether shares are a split.
///
/// # Errors
/// [`SplitError`].
pub(super) fn check_split(shares: &[Share]) -> Result<(), SplitError> {
    for (place, share) in shares.iter().enumerate() {
        if shares.iter().take(place).any(|other| other.channel == share.channel) {
            return Err(SplitError::Twice(share.channel.clone()));
        }
    }
    let sum: u64 = shares.iter().map(|share| u64::from(share.percent)).sum();
    if sum == 100 { Ok(()) } else { Err(SplitError::Sum(sum)) }
}

/// The point at which a payment stands among those of a rule, below [`POINTS`]. It never changes from one version of this
/// program to the next.
pub fn split_point(rule_id: &str, merchant_id: &str, order_no: &str) -> u32 {
    // Each hash is the seed of the next, so that no text can be moved from one part into another.
    let of_rule = xxh3_64(rule_id.as_bytes());
    let of_merchant = xxh3_64_with_seed(merchant_id.as_bytes(), of_rule);
    let hash = xxh3_64_with_seed(order_no.as_bytes(), of_merchant);
    let point = (u128::from(hash) * u128::from(POINTS)) >> 64;
    u32::try_from(point).unwrap_or(POINTS - 1)
}

/// The shares in the order in which a payment at `point` asks them: the one that the point falls into, then the others as
/// they stand.
pub fn split_order(shares: &[Share], point: u32) -> impl Iterator<Item = &Share> {
    let mut end = 0_u32;
    let drawn = shares.iter().position(|share| {
        end = end.saturating_add(share.percent.saturating_mul(POINTS_PER_PERCENT));
        point < end
    });
    let first = drawn.and_then(|drawn| shares.get(drawn));
    let others = shares.iter().enumerate().filter(move |(place, _)| Some(*place) != drawn).map(|(_, share)| share);
    first.into_iter().chain(others)
}
