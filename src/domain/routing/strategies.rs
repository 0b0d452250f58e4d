//! The four strategies, and what goes with them: few payments for newcomers, and a few to channels that rank somewhat lower.
//! Each narrows a set of channels or leaves it as it is; none ever empties it. Nothing is decided by the order of a map or
//! by chance: what is equal is decided by the decision's draw or turn, which its record holds.

use serde::{Deserialize, Serialize};

use crate::domain::routing::breaker::BreakerView;
use crate::domain::routing::choose::Inputs;
use crate::domain::routing::custom::CUSTOM_STRATEGIES_MAX;
use crate::domain::routing::record::ChannelVerdict;
use crate::domain::routing::segments::{is_far_behind, mixed};
use crate::domain::routing::set::ChannelSet;

/// A lead below one percentage point is noise.
pub(super) const DEAD_BAND_PPM: u32 = 10_000;
const PPM: u64 = 1_000_000;
/// Loads that differ by less than a quarter are equal; then weight decides.
const LOAD_TOLERANCE_DIVISOR: u128 = 4;
/// What is drawn for different purposes from one draw must not depend on each other.
const DRAW_FOR_NEWCOMERS: u64 = 0x6e65_7763_6f6d_6572;
const DRAW_FOR_EXPLORING: u64 = 0x6578_706c_6f72_6521;
const DRAW_FOR_A_LOOK: u64 = 0x6c6f_6f6b_2061_7420;
/// Most strategies that one decision asks.
pub(super) const ASKED_MAX: usize = 4 + CUSTOM_STRATEGIES_MAX;

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

    /// The same with strategies of these priorities, highest first, in their places among them. The strategy that the
    /// mode puts first stays first; in balanced mode, which puts none first, any may be.
    pub(super) fn order_with(self, priorities: impl Iterator<Item = u8>) -> ([Strategy; ASKED_MAX], usize) {
        let mut order = [Strategy::LoadBalance; ASKED_MAX];
        let mut length = 0;
        let mut add = |strategy: Strategy| {
            order[length] = strategy;
            length += 1;
        };
        let mut custom = priorities.take(CUSTOM_STRATEGIES_MAX).zip(0_u8..).peekable();
        for (index, built_in) in self.order().into_iter().enumerate() {
            let stays_first = index == 0 && self != Self::Balanced;
            // Behind load balance only what has no priority of its own is left.
            let priority = if index == 3 && built_in == Strategy::Geographic { 0 } else { built_in.priority() };
            while !stays_first && let Some((_, number)) = custom.next_if(|(own, _)| *own > priority) {
                add(Strategy::Custom(number));
            }
            add(built_in);
        }
        for (_, number) in custom {
            add(Strategy::Custom(number));
        }
        (order, length)
    }
}

/// How load is shared among channels that are as good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// Two are drawn by weight, and the clearly less loaded of them takes it.
    #[default]
    LeastLoaded,
    /// In turn, by weight and evenly spread.
    RoundRobin,
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
    /// Leaves out channels that were just added, but for a share of payments.
    Newcomers,
    /// A channel that the success rate has just left out, for few payments, so that something is known about it.
    Explore,
    /// A strategy of whoever embeds the gateway: which of those in the record.
    Custom(u8),
}

impl Strategy {
    /// All that have a name of their own.
    pub const BUILT_IN: [Self; 6] =
        [Self::Geographic, Self::SuccessRate, Self::Cost, Self::LoadBalance, Self::Newcomers, Self::Explore];

    /// Its place among those that are asked.
    const fn priority(self) -> u8 {
        match self {
            Self::Geographic => 90,
            Self::SuccessRate => 80,
            Self::Cost => 50,
            Self::LoadBalance => 30,
            Self::Newcomers | Self::Explore | Self::Custom(_) => 0,
        }
    }

    /// The name as it is written; that of an embedding program's strategy is in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Geographic => "geographic",
            Self::SuccessRate => "success_rate",
            Self::Cost => "cost",
            Self::LoadBalance => "load_balance",
            Self::Newcomers => "newcomers",
            Self::Explore => "explore",
            Self::Custom(_) => "custom",
        }
    }

    /// The channels of `set` that this strategy keeps.
    pub(super) fn narrow(self, set: ChannelSet, inputs: &Inputs<'_>) -> ChannelSet {
        let channels = inputs.channels;
        let kept = match self {
            Self::Geographic => set.iter().filter(|place| channels[*place].local).collect(),
            Self::SuccessRate => near_the_best(set, channels, inputs.prior),
            Self::Cost => cheapest(set, inputs),
            Self::LoadBalance => match inputs.turn {
                Some(turn) => next_in_turn(set, channels, turn),
                None => less_loaded_of_two(set, channels, inputs.draw),
            },
            Self::Newcomers | Self::Explore | Self::Custom(_) => set,
        };
        if kept.is_empty() { set } else { kept }
    }
}

/// Whether a draw falls into a share of so many percent.
fn falls_into(percent: u8, draw: u64) -> bool {
    ((draw >> 32) * 100) >> 32 < u64::from(percent)
}

/// The set without newcomers, where somebody else is there who is known and this payment is not one of their share.
pub(super) fn without_newcomers(set: ChannelSet, inputs: &Inputs<'_>) -> Option<ChannelSet> {
    let newcomers: ChannelSet = set.iter().filter(|place| inputs.channels[*place].newcomer).collect();
    if newcomers.is_empty() || falls_into(inputs.newcomer_share_percent, mixed(inputs.draw ^ DRAW_FOR_NEWCOMERS)) {
        return None;
    }
    let known = set.without(newcomers);
    known.iter().any(|place| inputs.channels[place].breaker == BreakerView::Closed).then_some(known)
}

/// For few payments: one of those that the success rate has left out although they are not failing. Those that are near
/// take `explore_percent` among them, however much is known. Any may take as much of that, or some times as much, as a look
/// at it is worth by now.
pub(super) fn explored(before: ChannelSet, kept: ChannelSet, inputs: &Inputs<'_>) -> Option<ChannelSet> {
    if before == kept || inputs.explore_percent == 0 {
        return None;
    }
    let channels = inputs.channels;
    let left_out = before.without(kept);
    let left_out: ChannelSet =
        left_out.iter().filter(|place| channels[*place].breaker == BreakerView::Closed).collect();
    let best_ppm = kept.iter().map(|place| channels[place].success_ppm).max()?;
    let near_draw = mixed(inputs.draw ^ DRAW_FOR_EXPLORING);
    if falls_into(inputs.explore_percent, near_draw) {
        let near = left_out.iter().filter(|place| !is_far_behind(best_ppm, channels[*place].success_ppm));
        if let Some(one) = drawn(near.collect(), near_draw) {
            return Some(ChannelSet::from_iter([one]));
        }
    }
    let look_draw = mixed(inputs.draw ^ DRAW_FOR_A_LOOK);
    let one = drawn(left_out.iter().filter(|place| channels[*place].worth_a_look_ppm > 0).collect(), look_draw)?;
    let share = u64::from(channels[one].worth_a_look_ppm) * u64::from(inputs.explore_percent);
    (((look_draw >> 32) * 100 * PPM) >> 32 < share).then(|| ChannelSet::from_iter([one]))
}

/// One of a set, each as likely, by the lower 32 bits of a draw.
fn drawn(set: ChannelSet, draw: u64) -> Option<usize> {
    let nth = (((draw & 0xffff_ffff) * set.len() as u64) >> 32) as usize;
    set.iter().nth(nth)
}

/// Variance of a success rate in parts per million squared.
fn variance(verdict: &ChannelVerdict, prior: u32) -> u64 {
    let success = u64::from(verdict.success_ppm).min(PPM);
    success * (PPM - success) / (u64::from(verdict.effective()) + u64::from(prior.max(1)))
}

/// Those whose distance from the best is not more than a percentage point or one standard deviation of the difference.
fn near_the_best(set: ChannelSet, channels: &[ChannelVerdict], prior: u32) -> ChannelSet {
    let Some(best) = best_of(set, channels) else { return set };
    set.iter().filter(|place| is_near(best, &channels[*place], prior)).collect()
}

fn best_of(set: ChannelSet, channels: &[ChannelVerdict]) -> Option<&ChannelVerdict> {
    set.iter()
        .map(|place| &channels[place])
        .reduce(|best, candidate| if candidate.success_ppm > best.success_ppm { candidate } else { best })
}

fn is_near(best: &ChannelVerdict, verdict: &ChannelVerdict, prior: u32) -> bool {
    let lead = u64::from(best.success_ppm.saturating_sub(verdict.success_ppm));
    lead <= u64::from(DEAD_BAND_PPM) || lead <= dead_band_ppm(best, verdict, prior)
}

/// The lead in parts per million below which a channel's success rate is as good as the best one's.
pub(super) fn dead_band_ppm(best: &ChannelVerdict, verdict: &ChannelVerdict, prior: u32) -> u64 {
    let deviation = (variance(best, prior) + variance(verdict, prior)).isqrt();
    deviation.max(u64::from(DEAD_BAND_PPM))
}

/// Those with the lowest expected cost; a channel whose fee is not known is never the cheaper one.
fn cheapest(set: ChannelSet, inputs: &Inputs<'_>) -> ChannelSet {
    let Some(best) = best_of(set, inputs.channels) else { return set };
    let mut least = None;
    let mut cheapest = ChannelSet::default();
    for place in set.iter() {
        let Some(cost) = expected_cost(best, &inputs.channels[place], inputs) else { continue };
        if least.is_none_or(|least| cost < least) {
            (least, cheapest) = (Some(cost), ChannelSet::default());
        }
        if least == Some(cost) {
            cheapest.insert(place);
        }
    }
    cheapest
}

/// Parts of a minor unit in which costs are compared, so that nothing is rounded.
pub(super) const COST_PARTS: i128 = 1_000_000_000_000;

/// What a payment is expected to cost on a channel, in [`COST_PARTS`]: the fee where it goes through, and otherwise what a
/// failed payment costs, but never less than the fee. A success rate that is within the dead band of the best counts as
/// that one, so that noise does not outweigh fees.
pub(super) fn expected_cost(best: &ChannelVerdict, verdict: &ChannelVerdict, inputs: &Inputs<'_>) -> Option<i128> {
    let ppm = i128::from(PPM);
    let fee = i128::from(verdict.fee_minor?) * ppm;
    let is_as_good = is_near(best, verdict, inputs.prior);
    let success = i128::from(if is_as_good { best.success_ppm } else { verdict.success_ppm });
    let failed = (i128::from(inputs.failed_payment_cost_ppm) * i128::from(inputs.amount_minor)).max(fee);
    Some(success * fee + (ppm - success) * failed)
}

/// The channel whose turn it is, so that in any round of as many payments as there are weights each has its share,
/// spread evenly over the round.
fn next_in_turn(set: ChannelSet, channels: &[ChannelVerdict], turn: u64) -> ChannelSet {
    let has_weight = set.iter().any(|place| channels[place].weight > 0);
    let weight = |place: usize| if has_weight { u64::from(channels[place].weight) } else { 1 };
    let divisor = set.iter().map(weight).fold(0, greatest_common_divisor).max(1);
    let round: u64 = set.iter().map(|place| weight(place) / divisor).sum();
    // Steps of about the golden section come to every place of a round once, and spread any channel's places over it.
    let mut step = (round * 618 / 1000).max(1);
    while greatest_common_divisor(step, round) != 1 {
        step += 1;
    }
    let at = u128::from(turn % round.max(1)) * u128::from(step) % u128::from(round.max(1));
    let mut left = u64::try_from(at).unwrap_or(0);
    for place in set.iter() {
        let share = weight(place) / divisor;
        if left < share {
            return ChannelSet::from_iter([place]);
        }
        left -= share;
    }
    set
}

const fn greatest_common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
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
