//! What a decision is made over: the operator's configuration and the channels' health, as one immutable table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::fees::{FeeSchedule, FxRate, Percent};
use crate::domain::ids::ChannelName;
use crate::domain::money::{Currency, Money};
use crate::domain::routing::breaker::BreakerView;
use crate::domain::routing::country::CountrySet;
use crate::domain::routing::custom::CustomStrategies;
use crate::domain::routing::health::{ChannelHealth, HealthSettings};
use crate::domain::routing::rules::Rule;
use crate::domain::routing::segments::{Learned, Segment, SegmentEstimate, is_far_behind};
use crate::domain::routing::set::CHANNELS_MAX;
use crate::domain::routing::strategies::{LoadBalancing, RoutingMode};
use crate::domain::time::{Monotonic, Timestamp};

/// What is fixed about one channel until somebody changes the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelFacts {
    /// Its name.
    pub name: ChannelName,
    /// Whether it may be chosen.
    pub enabled: bool,
    /// Share of load among equals; 0 only where nothing else is left.
    pub weight: u32,
    /// What the provider takes.
    pub fees: FeeSchedule,
    /// Countries in which it is the local one; ranks, and decides what is international.
    pub local_countries: CountrySet,
    /// Payers' countries it serves; empty for all.
    pub countries: CountrySet,
    /// Currencies it serves; empty for all.
    pub currencies: Vec<Currency>,
    /// Methods it serves; empty for all.
    pub methods: Vec<String>,
    /// Whether it takes payments.
    pub takes_payments: bool,
    /// Whether it holds money first and takes it later.
    pub takes_pre_auths: bool,
    /// Whether its credentials were there when it was set up.
    pub has_credentials: bool,
    /// The amounts that it takes, by currency; a currency that is not named has no bounds.
    pub amounts: BTreeMap<Currency, AmountRange>,
    /// How much may go through it.
    pub caps: ChannelCaps,
    /// When it is known to be away.
    pub maintenance: Vec<TimeSpan>,
    /// Calls that take longer are slow; `None` for what holds for all.
    pub slow: Option<Duration>,
}

impl ChannelFacts {
    /// The span of its maintenance that a moment lies in, if any.
    pub fn maintenance_at(&self, at: Timestamp) -> Option<&TimeSpan> {
        self.maintenance.iter().find(|span| span.contains(at))
    }
}

/// The least and the most of one payment, in minor units; both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmountRange {
    /// At least this much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_minor: Option<i64>,
    /// At most this much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_minor: Option<i64>,
}

/// How much may go through a channel; what is more goes elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelCaps {
    /// Payments on it at once.
    #[serde(default = "concurrent_by_default")]
    pub concurrent: u32,
    /// Payments begun in any second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Payments begun in a day (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// Sum of the amounts begun in a day (UTC), in minor units of the settlement currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_per_day_minor: Option<i64>,
}

const fn concurrent_by_default() -> u32 {
    256
}

impl Default for ChannelCaps {
    fn default() -> Self {
        Self { concurrent: concurrent_by_default(), per_second: None, per_day: None, amount_per_day_minor: None }
    }
}

/// From a moment (inclusive) until another (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSpan {
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
}

impl TimeSpan {
    /// Whether a moment lies in it.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

/// How strategies choose among channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChoiceSettings {
    /// Most kinds of payments (by method, currency and country) that are known of one channel.
    pub segments_max: usize,
    /// The share of payments that channels may have of which too little is known, in percent.
    pub newcomer_share_percent: u8,
    /// The share of payments that go to a channel that ranks somewhat lower by success, in percent.
    pub explore_percent: u8,
    /// How load is shared among channels that are as good.
    pub load_balancing: LoadBalancing,
}

impl Default for ChoiceSettings {
    fn default() -> Self {
        let load_balancing = LoadBalancing::default();
        Self { segments_max: 1_024, newcomer_share_percent: 10, explore_percent: 2, load_balancing }
    }
}

/// Everything about routing that an operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingSetup {
    /// Counts changes of the setup; kept over restarts.
    pub version: u64,
    /// Order of the strategies.
    pub mode: RoutingMode,
    /// Whether strategies decide at all; otherwise rules, then the default.
    pub smart: bool,
    /// Whether the rule table is asked before the strategies.
    pub rules_first: bool,
    /// What a payment that does not go through costs, as a share of its amount: a channel that clearly succeeds less is
    /// dearer by that.
    pub failed_payment_cost: Percent,
    /// The last rung of the ladder.
    pub default_channel: ChannelName,
    /// The rule table, top down, first match.
    pub rules: Vec<Rule>,
    /// The channels; their order breaks ties, so it must be the same every time.
    pub channels: Vec<ChannelFacts>,
    /// The currency in which providers settle.
    pub settlement_currency: Currency,
    /// What one whole unit of a currency is worth in the settlement currency.
    pub rates: BTreeMap<Currency, FxRate>,
    /// How health is judged.
    pub health: HealthSettings,
    /// How strategies choose.
    pub choice: ChoiceSettings,
}

/// Why a setup can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetup {
    /// There are more channels than a table holds.
    #[error("at most {CHANNELS_MAX} channels can be configured")]
    TooManyChannels,
    /// Two channels have the same name.
    #[error("the channel {0} is there twice")]
    DuplicateChannel(ChannelName),
    /// The default channel is not one of the channels.
    #[error("the default channel {0} is not among the channels")]
    UnknownDefault(ChannelName),
    /// A rule names a channel that is not there.
    #[error("the rule {rule:?} names the channel {channel}, which is not there")]
    UnknownInRule {
        /// The rule's name.
        rule: Arc<str>,
        /// The channel that is not there.
        channel: ChannelName,
    },
}

impl RoutingSetup {
    /// Whether the parts fit together.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), InvalidSetup> {
        if self.channels.len() > CHANNELS_MAX {
            return Err(InvalidSetup::TooManyChannels);
        }
        for (place, channel) in self.channels.iter().enumerate() {
            if self.place_of(&channel.name) != Some(place) {
                return Err(InvalidSetup::DuplicateChannel(channel.name.clone()));
            }
        }
        if self.place_of(&self.default_channel).is_none() {
            return Err(InvalidSetup::UnknownDefault(self.default_channel.clone()));
        }
        for rule in &self.rules {
            if let Some(channel) = rule.then.channels().find(|channel| self.place_of(channel).is_none()) {
                return Err(InvalidSetup::UnknownInRule { rule: Arc::clone(&rule.name), channel: channel.clone() });
            }
        }
        Ok(())
    }

    /// Whether any channel has a cap for a day.
    pub fn bounds_days(&self) -> bool {
        let is_bounded = |caps: &ChannelCaps| caps.per_day.is_some() || caps.amount_per_day_minor.is_some();
        self.channels.iter().any(|facts| is_bounded(&facts.caps))
    }

    /// The place of a channel in the table.
    pub fn place_of(&self, name: &ChannelName) -> Option<usize> {
        self.channels.iter().position(|channel| channel.name == *name)
    }

    /// How the health of the channel at a place is judged.
    pub fn health_at(&self, place: usize) -> HealthSettings {
        let mut settings = self.health;
        if let Some(slow) = self.channels.get(place).and_then(|facts| facts.slow) {
            settings.breaker.slow = slow;
        }
        settings
    }

    /// What a currency is worth in the settlement currency, if that is known.
    pub fn rate_of(&self, currency: Currency) -> Option<FxRate> {
        if currency == self.settlement_currency {
            return Some(FxRate::ONE);
        }
        self.rates.get(&currency).copied()
    }
}

impl RoutingSetup {
    /// An amount in minor units of the settlement currency, rounded up; `None` without a rate.
    pub fn in_settlement_currency(&self, money: Money) -> Option<i64> {
        self.rate_of(money.currency)?.settled(money, self.settlement_currency)
    }
}

/// One published table. It never changes; what is learned is published as the next one.
#[derive(Clone, Debug)]
pub struct RoutingTable {
    /// Counts tables from 1 since the process started.
    pub version: u64,
    /// The operator's part.
    pub setup: Arc<RoutingSetup>,
    /// The channels' health, place by place as in the setup.
    pub health: Vec<ChannelHealth>,
    /// What is known about kinds of payments on them, place by place.
    pub learned: Vec<Arc<Learned>>,
    /// Strategies of whoever embeds the gateway.
    pub custom: CustomStrategies,
}

impl RoutingTable {
    /// A table of which nothing is known but the setup.
    pub fn fresh(version: u64, setup: RoutingSetup) -> Self {
        let channels = setup.channels.len();
        Self {
            version,
            setup: Arc::new(setup),
            health: vec![ChannelHealth::default(); channels],
            learned: vec![Arc::default(); channels],
            custom: CustomStrategies::default(),
        }
    }

    /// What is assumed of a channel without outcomes of its own, in parts per million: the average of those that are not
    /// far behind the best, with the configured prior.
    pub(super) fn assumed_ppm(&self, now: Monotonic) -> u32 {
        let settings = &self.setup.health;
        let (prior, outcomes) = (settings.approvals.prior_success_ppm, settings.approvals.prior_outcomes.max(1));
        let closed = || self.health.iter().filter(|health| health.breaker_at(now) == BreakerView::Closed);
        let best_ppm = closed().map(|health| health.estimate(settings, now).success_ppm).max().unwrap_or(prior);
        let (mut good, mut all) = (u64::from(prior) * u64::from(outcomes), u64::from(outcomes));
        for health in closed() {
            let own = health.whole(prior, settings, now).evidence;
            if !is_far_behind(best_ppm, own.estimate_upon(prior, &settings.approvals).success_ppm) {
                good += own.good;
                all += u64::from(own.samples);
            }
        }
        u32::try_from(good / all).unwrap_or(prior)
    }

    /// What to expect of a payment of this kind on the channel at a place, of which `assumed_ppm` is expected before its
    /// own outcomes count. A half-open channel ranks by that alone, or it would never be tried again.
    pub(super) fn estimate(
        &self,
        place: usize,
        segment: &Segment,
        assumed_ppm: u32,
        now: Monotonic,
    ) -> SegmentEstimate {
        let settings = &self.setup.health;
        let unknown = ChannelHealth::default();
        let health = self.health.get(place).unwrap_or(&unknown);
        let channel = health.whole(assumed_ppm, settings, now);
        match self.learned.get(place) {
            Some(learned) if health.breaker_at(now) != BreakerView::HalfOpen => {
                learned.estimate(segment, &channel, &settings.approvals, now)
            }
            _ => Learned::default().estimate(segment, &channel, &settings.approvals, now),
        }
    }
}
