//! One decision: readings and request against the table.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::ids::ChannelName;
use crate::domain::money::Money;
use crate::domain::routing::breaker::BreakerView;
use crate::domain::routing::choose::{Rung, Verdict};
use crate::domain::routing::country::Country;
use crate::domain::routing::eligibility::{Dropped, DroppedBy, FeeRequest, dropped_by, fee_on};
use crate::domain::routing::health::ChannelHealth;
use crate::domain::routing::record::{ChannelVerdict, DecisionRecord};
use crate::domain::routing::rules::matching_rule;
use crate::domain::routing::segments::Segment;
use crate::domain::routing::strategies::{LoadBalancing, Strategy};
use crate::domain::routing::table::{ChannelFacts, RoutingTable};
use crate::domain::time::{Monotonic, Timestamp};

/// After this a place or a probe may be free again; nobody can say when.
const MOMENT: Duration = Duration::from_secs(1);

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
        self.probe = chosen.breaker == BreakerView::HalfOpen;
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
        probe: chosen.breaker == BreakerView::HalfOpen,
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
    let verdict = |(place, facts): (usize, &ChannelFacts)| {
        let health = table.health.get(place).unwrap_or(&unknown);
        let reading = readings.get(place).copied().unwrap_or(idle);
        let breaker = health.breaker_at(now);
        let known = table.estimate(place, &segment, now);
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
            newcomer: table.learned.get(place).is_some_and(|learned| learned.is_newcomer()),
            in_flight: reading.in_flight,
            latency_us: health.latency_us(),
            weight: facts.weight,
            local: request.country.is_some_and(|country| facts.local_countries.contains(country)),
            breaker,
        }
    };
    setup.channels.iter().enumerate().map(verdict).collect()
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
