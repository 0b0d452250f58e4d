//! The four strategies. Each narrows a set of channels or leaves it as it is; none ever empties it.

use serde::{Deserialize, Serialize};

use crate::domain::routing::record::ChannelVerdict;
use crate::domain::routing::set::ChannelSet;

/// A lead below one percentage point is noise.
const DEAD_BAND_PPM: u64 = 10_000;
const PPM: u64 = 1_000_000;
/// Loads that differ by less than a quarter are equal; then weight decides.
const LOAD_TOLERANCE_DIVISOR: u128 = 4;

/// The order in which strategies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutingMode {
    /// All four by their priority.
    Balanced,
    /// Cost first, geography last.
    Cost,
    /// Success rate first, geography last.
    Success,
    /// Geography first.
    Geographic,
}

impl RoutingMode {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Cost => "cost",
            Self::Success => "success",
            Self::Geographic => "geographic",
        }
    }

    /// The strategies in the order of this mode. Their priorities are geographic 90, success rate 80, cost 50, load
    /// balance 30.
    pub const fn order(self) -> [Strategy; 4] {
        use Strategy::{Cost, Geographic, LoadBalance, SuccessRate};
        match self {
            Self::Balanced | Self::Geographic => [Geographic, SuccessRate, Cost, LoadBalance],
            Self::Cost => [Cost, SuccessRate, LoadBalance, Geographic],
            Self::Success => [SuccessRate, Cost, LoadBalance, Geographic],
        }
    }
}

/// A way to prefer some channels over others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Channels local to the payer's country; abstains where there is none.
    Geographic,
    /// Channels within a dead band of the best success rate.
    SuccessRate,
    /// The cheapest channels.
    Cost,
    /// One channel, by weight and load.
    LoadBalance,
}

impl Strategy {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Geographic => "geographic",
            Self::SuccessRate => "success_rate",
            Self::Cost => "cost",
            Self::LoadBalance => "load_balance",
        }
    }

    /// The channels of `set` that this strategy keeps.
    pub(super) fn narrow(self, set: ChannelSet, channels: &[ChannelVerdict], prior: u32, draw: u64) -> ChannelSet {
        let kept = match self {
            Self::Geographic => set.iter().filter(|place| channels[*place].local).collect(),
            Self::SuccessRate => near_the_best(set, channels, prior),
            Self::Cost => cheapest(set, channels),
            Self::LoadBalance => less_loaded_of_two(set, channels, draw),
        };
        if kept.is_empty() { set } else { kept }
    }
}

/// Variance of a success rate in parts per million squared.
fn variance(verdict: &ChannelVerdict, prior: u32) -> u64 {
    let success = u64::from(verdict.success_ppm).min(PPM);
    success * (PPM - success) / (u64::from(verdict.samples) + u64::from(prior.max(1)))
}

/// Those whose distance from the best is not more than a percentage point or one standard deviation of the difference.
fn near_the_best(set: ChannelSet, channels: &[ChannelVerdict], prior: u32) -> ChannelSet {
    let Some(best) = set
        .iter()
        .map(|place| &channels[place])
        .reduce(|best, candidate| if candidate.success_ppm > best.success_ppm { candidate } else { best })
    else {
        return set;
    };
    let near = |verdict: &ChannelVerdict| {
        let deviation = (variance(best, prior) + variance(verdict, prior)).isqrt();
        u64::from(best.success_ppm - verdict.success_ppm) <= deviation.max(DEAD_BAND_PPM)
    };
    set.iter().filter(|place| near(&channels[*place])).collect()
}

/// Those with the lowest fee; a channel whose fee is not known is never the cheaper one.
fn cheapest(set: ChannelSet, channels: &[ChannelVerdict]) -> ChannelSet {
    let least = set.iter().filter_map(|place| channels[place].fee_minor).min();
    set.iter().filter(|place| least.is_some() && channels[*place].fee_minor == least).collect()
}

/// Two are drawn by weight; the clearly less loaded takes it, and between equals the one drawn first.
fn less_loaded_of_two(set: ChannelSet, channels: &[ChannelVerdict], draw: u64) -> ChannelSet {
    let Some(first) = draw_by_weight(set, channels, draw >> 32) else { return set };
    let others: ChannelSet = set.iter().filter(|place| *place != first).collect();
    let Some(second) = draw_by_weight(others, channels, draw & 0xffff_ffff) else { return set };
    let (first_load, second_load) = loads(&channels[first], &channels[second]);
    let clearly_less = second_load + second_load.div_ceil(LOAD_TOLERANCE_DIVISOR) < first_load;
    ChannelSet::from_iter([if clearly_less { second } else { first }])
}

/// A channel drawn with a chance in proportion to its weight, from 32 random bits. Without any weight all are equal.
fn draw_by_weight(set: ChannelSet, channels: &[ChannelVerdict], draw: u64) -> Option<usize> {
    let total: u64 = set.iter().map(|place| u64::from(channels[place].weight)).sum();
    let weight = |place: usize| if total == 0 { 1 } else { u64::from(channels[place].weight) };
    let total = if total == 0 { set.len() as u64 } else { total };
    let mut left = u64::try_from((u128::from(draw) * u128::from(total)) >> 32).unwrap_or(0);
    for place in set.iter() {
        if left < weight(place) {
            return Some(place);
        }
        left -= weight(place);
    }
    set.first()
}

/// Latency times payments in flight. A latency that nobody has measured is taken to be the other's.
fn loads(first: &ChannelVerdict, second: &ChannelVerdict) -> (u128, u128) {
    let first_us = first.latency_us.or(second.latency_us).unwrap_or(1).max(1);
    let second_us = second.latency_us.or(first.latency_us).unwrap_or(1).max(1);
    let load = |latency_us: u32, in_flight: u32| u128::from(latency_us) * (u128::from(in_flight) + 1);
    (load(first_us, first.in_flight), load(second_us, second.in_flight))
}
