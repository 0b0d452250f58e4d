//! One decision: readings and request against the table.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::ids::ChannelName;
use crate::domain::money::Money;
use crate::domain::routing::choose::{Rung, Verdict};
use crate::domain::routing::country::Country;
use crate::domain::routing::eligibility::{Dropped, DroppedBy, FeeRequest, dropped_by, fee_on};
use crate::domain::routing::health::ChannelHealth;
use crate::domain::routing::record::{ChannelVerdict, DecisionRecord};
use crate::domain::routing::rules::matching_rule;
use crate::domain::routing::segments::Segment;
use crate::domain::routing::strategies::{DEAD_BAND_PPM, LoadBalancing, Strategy};
use crate::domain::routing::table::{ChannelFacts, RoutingTable};
use crate::domain::time::{Monotonic, Timestamp};

/// After this a place or a probe may be free again; nobody can say when.
const MOMENT: Duration = Duration::from_secs(1);
const PPM: u32 = 1_000_000;
/// Parts in which is counted how much of a difference is not chance.
const KEPT_PARTS: i64 = 4096;

/// What has to be routed.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest<'a> {
    /// Amount and currency.
    pub money: Money,
    /// The payer's country, where it is known.
    pub country: Option<Country>,
    /// Whether that was found out from the payer's address, not given.
    pub country_from_address: bool,
    /// The country of the payer's card, where the merchant gave it.
    pub card_country: Option<Country>,
    /// The merchant's country, where it is known.
    pub merchant_country: Option<Country>,
    /// The payment method, if the merchant named one.
    pub method: Option<&'a str>,
    /// The channel asked for by name, if any.
    pub requested: Option<&'a ChannelName>,
    /// The only channels that the merchant may use; empty for all.
    pub allowed: &'a [ChannelName],
    /// Whose payment it is.
    pub merchant_id: &'a str,
    /// The merchant's tier.
    pub tier: &'a str,
    /// The merchant's number; the same for every attempt of a payment.
    pub order_no: &'a str,
    /// What the merchant noted about it.
    pub metadata: &'a BTreeMap<String, String>,
    /// The time of day.
    pub at: Timestamp,
    /// Channels that were tried for this payment already.
    pub tried: &'a [ChannelName],
    /// Channels whose provider does not know the payer's token.
    pub refusing_token: &'a [ChannelName],
    /// Whether the money is to be held first and taken later.
    pub needs_pre_auth: bool,
    /// 64 random bits.
    pub draw: u64,
}

/// What is read about a channel at the moment of the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelReading {
    /// Payments in flight on it.
    pub in_flight: u32,
    /// Whether nobody is trying it, should it be half-open.
    pub probe_available: bool,
    /// Payments begun on it within the last second.
    pub this_second: u32,
    /// Payments begun on it today (UTC).
    pub today: u32,
    /// Their amounts, in minor units of the settlement currency.
    pub today_minor: i64,
    /// Amounts charged on it this month (UTC), in minor units of the settlement currency.
    pub this_month_minor: i64,
}

/// A channel was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The channel.
    pub channel: ChannelName,
    /// Its place in the table.
    pub place: usize,
    /// The rung that decided.
    pub rung: Rung,
    /// The strategy that decided, if one had to.
    pub strategy: Option<Strategy>,
    /// Whether this payment is the one that tries a half-open channel.
    pub probe: bool,
    /// Whether it goes to a channel whose breaker is open, since all that could take it are being left alone.
    pub all_down: bool,
    /// What it was decided from.
    pub record: DecisionRecord,
}

/// No channel can take it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", record.reason())]
pub struct NoChannel {
    /// What it was decided from, with the reason for every channel.
    pub record: Box<DecisionRecord>,
    /// When the first of the channels that may take it is free, tried again, back or below its day's caps; `None` when time
    /// alone will not help.
    pub retry_in: Option<Duration>,
}

impl NoChannel {
    /// Whether it is the payment that none of the channels that are meant serves, rather than channels that can't take it now.
    /// Those that are switched off or not set up do not count beside others.
    pub fn is_of_request(&self) -> bool {
        let is_meant = |one: &&ChannelVerdict| self.record.requested.as_ref().is_none_or(|name| one.channel == *name);
        let dropped = self.record.channels.iter().filter(is_meant).filter_map(|one| one.dropped_by);
        let mut dropped = dropped.filter(|by| !matches!(by, DroppedBy::Disabled | DroppedBy::Credentials)).peekable();
        dropped.peek().is_some() && dropped.all(DroppedBy::is_for_good)
    }
}

impl Choice {
    /// The choice where load is balanced in turn and it is this turn. Nothing else of the decision changes.
    #[must_use]
    pub fn in_turn(mut self, turn: u64) -> Self {
        if let Some(verdict) = self.record.take_turn(turn) {
            self.adopt(verdict);
        }
        self
    }

    /// The next choice where others took the last place on the chosen channel again and again: the ladder climbed once more
    /// from the same record, in which that channel has no room.
    ///
    /// # Errors
    /// [`NoChannel`] when no other channel can take it.
    pub fn lost_to_others(mut self) -> Result<Self, NoChannel> {
        let lost = &mut self.record.channels[self.place];
        (lost.dropped_by, lost.bound, lost.value) = (Some(DroppedBy::InFlightMax), None, None);
        match self.record.decide_again() {
            Some(verdict) => {
                self.adopt(verdict);
                Ok(self)
            }
            None => Err(NoChannel { record: Box::new(self.record), retry_in: Some(MOMENT) }),
        }
    }

    fn adopt(&mut self, verdict: Verdict) {
        let chosen = &self.record.channels[verdict.place];
        self.channel = chosen.channel.clone();
        self.probe = chosen.is_probe();
        self.all_down = self.record.all_down;
        (self.place, self.rung, self.strategy) = (verdict.place, verdict.rung, verdict.strategy);
    }
}

/// Decides. `readings` are in the order of the table's channels; a channel without a reading counts as idle.
///
/// # Errors
/// [`NoChannel`] when no channel can take it; its record says why for each.
pub fn decide(
    table: &RoutingTable,
    readings: &[ChannelReading],
    request: &RouteRequest<'_>,
    now: Monotonic,
) -> Result<Choice, NoChannel> {
    let setup = &table.setup;
    let mut record = DecisionRecord {
        table_version: table.version,
        setup_version: setup.version,
        draw: request.draw,
        mode: setup.mode,
        smart: setup.smart,
        rules_first: setup.rules_first,
        prior_outcomes: setup.health.approvals.prior_outcomes,
        failed_payment_cost_ppm: setup.failed_payment_cost.ppm(),
        newcomer_share_percent: setup.choice.newcomer_share_percent,
        explore_percent: setup.choice.explore_percent,
        turn: (setup.choice.load_balancing == LoadBalancing::RoundRobin).then_some(0),
        custom: Vec::new(),
        currency: request.money.currency,
        amount_minor: request.money.amount_minor,
        country: request.country,
        country_from_address: request.country_from_address,
        method: request.method.map(str::to_owned),
        requested: request.requested.cloned(),
        rule: matching_rule(setup, request),
        default_place: setup.place_of(&setup.default_channel),
        rung: None,
        strategy: None,
        chosen: None,
        channels: verdicts(table, readings, request, now),
        steps: Vec::new(),
        adopted: false,
        all_down: false,
    };
    let Some(verdict) = record.conclude(&table.custom, request) else {
        let retry_in = retry_in(table, &record, request.at, now);
        return Err(NoChannel { record: Box::new(record), retry_in });
    };
    let chosen = &record.channels[verdict.place];
    Ok(Choice {
        channel: chosen.channel.clone(),
        place: verdict.place,
        rung: verdict.rung,
        strategy: verdict.strategy,
        probe: chosen.is_probe(),
        all_down: record.all_down,
        record,
    })
}

fn verdicts(
    table: &RoutingTable,
    readings: &[ChannelReading],
    request: &RouteRequest<'_>,
    now: Monotonic,
) -> Vec<ChannelVerdict> {
    let setup = &table.setup;
    let unknown = ChannelHealth::default();
    let segment = Segment::new(request.method, request.money.currency, request.country);
    let idle = ChannelReading { probe_available: true, ..ChannelReading::default() };
    let assumed_ppm = table.assumed_ppm(now);
    let least_us = table.health.iter().filter_map(ChannelHealth::latency_us).min().unwrap_or(0);
    let verdict = |(place, facts): (usize, &ChannelFacts)| {
        let health = table.health.get(place).unwrap_or(&unknown);
        let reading = readings.get(place).copied().unwrap_or(idle);
        let breaker = health.breaker_at(now);
        let known = table.estimate(place, &segment, assumed_ppm, now);
        let estimate = known.estimate;
        let dropped = dropped_by(setup, facts, reading, breaker, request);
        ChannelVerdict {
            channel: facts.name.clone(),
            dropped_by: dropped.map(|dropped| dropped.by),
            bound: match dropped {
                Some(Dropped { by: DroppedBy::BreakerOpen, .. }) => {
                    health.opens_in(now).map(|left| request.at.plus(left).unix_ms())
                }
                _ => dropped.and_then(|dropped| dropped.bound),
            },
            value: dropped.and_then(|dropped| dropped.value),
            bound_currency: dropped
                .filter(|dropped| dropped.by == DroppedBy::AmountPerDay)
                .map(|_| setup.settlement_currency),
            fee_minor: fee_on(setup, facts, &FeeRequest::of(request, reading)),
            success_ppm: estimate.success_ppm,
            samples: estimate.samples,
            effective_samples: (estimate.effective != estimate.samples).then_some(estimate.effective),
            level: known.level,
            worth_a_look_ppm: known.worth_a_look_ppm,
            newcomer: table.learned.get(place).is_some_and(|learned| learned.is_newcomer()),
            in_flight: reading.in_flight,
            latency_us: health.latency_us_at(now, least_us),
            weight: facts.weight,
            local: request.country.is_some_and(|country| facts.local_countries.contains(country)),
            breaker,
        }
    };
    let mut verdicts: Vec<ChannelVerdict> = setup.channels.iter().enumerate().map(verdict).collect();
    draw_together(&mut verdicts, setup.health.approvals.prior_outcomes);
    let eligible = verdicts.iter().filter(|verdict| verdict.dropped_by.is_none());
    let best_ppm = eligible.map(|verdict| verdict.success_ppm).max().unwrap_or(0);
    // It is noted of those only that may be left out.
    for verdict in &mut verdicts {
        if verdict.dropped_by.is_some() || best_ppm.saturating_sub(verdict.success_ppm) <= DEAD_BAND_PPM {
            verdict.worth_a_look_ppm = 0;
        }
    }
    verdicts
}

/// Takes out of the success rates of the eligible channels what chance alone makes them differ by. Of several that are
/// equally good the best estimate is that of one that had luck, and the worst that of one that had none. Where they differ
/// by no more than their numbers of outcomes let expect they become one, and the more they differ, the less they change.
fn draw_together(verdicts: &mut [ChannelVerdict], prior: u32) {
    let is_eligible = |verdict: &&mut ChannelVerdict| verdict.dropped_by.is_none();
    let weight = |verdict: &ChannelVerdict| i64::from(verdict.effective()) + i64::from(prior.max(1));
    let (mut channels, mut weights, mut squares, mut sum) = (0, 0, 0, 0);
    for verdict in verdicts.iter_mut().filter(is_eligible) {
        let weight = weight(verdict);
        channels += 1;
        weights += weight;
        squares += weight * weight;
        sum += weight * i64::from(verdict.success_ppm);
    }
    if channels < 2 {
        return;
    }
    let mean = sum / weights;
    let apart = |verdict: &ChannelVerdict| i64::from(verdict.success_ppm) - mean;
    let spread: i64 =
        verdicts.iter_mut().filter(is_eligible).map(|verdict| weight(verdict) * apart(verdict).pow(2)).sum();
    if spread == 0 {
        return;
    }
    // The variance of one outcome. By chance alone the spread is as much for each channel but one.
    let of_one = (mean * (i64::from(PPM) - mean)).max(0);
    // The variance of the channels' true rates over that of one outcome is one of these over the other; smaller by a
    // factor that keeps what follows from overflowing.
    let beyond_chance = (spread - (channels - 1) * of_one).max(0) / 1024;
    let by_chance = ((weights - squares / weights).max(1) * of_one / 1024).max(1);
    for verdict in verdicts.iter_mut().filter(is_eligible) {
        let real = beyond_chance * weight(verdict);
        let kept_parts = real / ((real + by_chance) / KEPT_PARTS + 1);
        verdict.success_ppm = u32::try_from(mean + apart(verdict) * kept_parts / KEPT_PARTS).unwrap_or(0);
    }
}

fn retry_in(table: &RoutingTable, record: &DecisionRecord, at: Timestamp, now: Monotonic) -> Option<Duration> {
    let inputs = record.inputs();
    let wait = |(place, verdict): (usize, &ChannelVerdict)| match verdict.dropped_by {
        // Whoever waits for a channel that nobody would name waits in vain.
        _ if !inputs.may_name(place) => None,
        Some(DroppedBy::BreakerOpen) => table.health.get(place)?.opens_in(now),
        Some(DroppedBy::ProbeTaken | DroppedBy::InFlightMax | DroppedBy::PerSecond) => Some(MOMENT),
        Some(DroppedBy::Maintenance) => verdict.bound.map(|until| Timestamp::from_unix_ms(until).since(at)),
        Some(DroppedBy::PerDay) => Some(until_tomorrow(at)),
        Some(DroppedBy::AmountPerDay) => {
            let alone = table.setup.in_settlement_currency(Money::new(record.amount_minor, record.currency))?;
            (alone <= verdict.bound?).then(|| until_tomorrow(at))
        }
        _ => None,
    };
    record.channels.iter().enumerate().filter_map(wait).min()
}

/// Until the next day (UTC) begins.
fn until_tomorrow(at: Timestamp) -> Duration {
    const DAY_MS: i64 = 86_400_000;
    Duration::from_millis(u64::try_from(DAY_MS - at.unix_ms().rem_euclid(DAY_MS)).unwrap_or(0))
}
