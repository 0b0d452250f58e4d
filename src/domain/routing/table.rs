//! What a decision is made over: the operator's configuration and the channels' health, as one immutable table.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::fees::{FeeSchedule, FxRate};
use crate::domain::ids::ChannelName;
use crate::domain::money::{Currency, Money};
use crate::domain::routing::country::{Country, CountrySet};
use crate::domain::routing::decide::RouteRequest;
use crate::domain::routing::health::{ChannelHealth, HealthSettings};
use crate::domain::routing::set::CHANNELS_MAX;
use crate::domain::routing::strategies::RoutingMode;

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
    /// Payments on it at once; more go elsewhere.
    pub in_flight_max: u32,
}

/// One line of the operator's rule table: what a payment must be (every given condition holds), and where it goes then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Shown in decisions.
    pub name: Arc<str>,
    /// Payer's countries; a payer of unknown country matches only a rule without any.
    pub countries: CountrySet,
    /// Currencies; empty for all.
    pub currencies: Vec<Currency>,
    /// Methods; empty for all. A payment without a method matches only a rule without any.
    pub methods: Vec<String>,
    /// Merchants' tiers; empty for all.
    pub tiers: Vec<String>,
    /// At least this much, in minor units.
    pub amount_minor_min: Option<i64>,
    /// At most this much, in minor units.
    pub amount_minor_max: Option<i64>,
    /// Channels in the order of preference.
    pub channels: Vec<ChannelName>,
}

impl Rule {
    /// Whether every given condition holds.
    pub fn matches(&self, request: &RouteRequest<'_>) -> bool {
        let Money { amount_minor, currency } = request.money;
        let country = |country: Option<Country>| country.is_some_and(|known| self.countries.contains(known));
        let method = |method: Option<&str>| method.is_some_and(|given| self.methods.iter().any(|one| one == given));
        (self.countries.is_empty() || country(request.country))
            && (self.currencies.is_empty() || self.currencies.contains(&currency))
            && (self.methods.is_empty() || method(request.method))
            && (self.tiers.is_empty() || self.tiers.iter().any(|tier| tier == request.tier))
            && self.amount_minor_min.is_none_or(|least| amount_minor >= least)
            && self.amount_minor_max.is_none_or(|most| amount_minor <= most)
    }
}

/// Everything about routing that an operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingSetup {
    /// Order of the strategies.
    pub mode: RoutingMode,
    /// Whether strategies decide at all; otherwise rules, then the default.
    pub smart: bool,
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
            if let Some(channel) = rule.channels.iter().find(|channel| self.place_of(channel).is_none()) {
                return Err(InvalidSetup::UnknownInRule { rule: Arc::clone(&rule.name), channel: channel.clone() });
            }
        }
        Ok(())
    }

    /// The place of a channel in the table.
    pub fn place_of(&self, name: &ChannelName) -> Option<usize> {
        self.channels.iter().position(|channel| channel.name == *name)
    }

    /// What a currency is worth in the settlement currency, if that is known.
    pub fn rate_of(&self, currency: Currency) -> Option<FxRate> {
        if currency == self.settlement_currency {
            return Some(FxRate::ONE);
        }
        self.rates.get(&currency).copied()
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
}
