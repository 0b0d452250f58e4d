//! The operator's rule table: what a payment must be, and where it goes then. Top down, the first match counts.

use std::sync::Arc;

use crate::domain::ids::ChannelName;
use crate::domain::money::{Currency, Money};
use crate::domain::routing::country::{Country, CountrySet};
use crate::domain::routing::decide::RouteRequest;

/// One line of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Names it for good, also when it is moved or changed.
    pub id: Arc<str>,
    /// Shown in decisions.
    pub name: Arc<str>,
    /// What a payment must be.
    pub when: Conditions,
    /// Where it goes then.
    pub then: RuleResult,
}

/// What a payment must be; every given condition holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Payer's countries; a payer of unknown country matches only without any.
    pub countries: CountrySet,
    /// Currencies; empty for all.
    pub currencies: Vec<Currency>,
    /// Methods; empty for all. A payment without a method matches only without any.
    pub methods: Vec<String>,
    /// Merchants' tiers; empty for all.
    pub tiers: Vec<String>,
    /// At least this much, in minor units.
    pub amount_minor_min: Option<i64>,
    /// At most this much, in minor units.
    pub amount_minor_max: Option<i64>,
}

/// Where a payment goes that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleResult {
    /// The first of these that can take it.
    Ordered(Vec<ChannelName>),
}

impl Default for RuleResult {
    fn default() -> Self {
        Self::Ordered(Vec::new())
    }
}

impl RuleResult {
    /// Every channel that it names.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        match self {
            Self::Ordered(channels) => channels.iter(),
        }
    }
}

impl Conditions {
    /// Whether every given condition holds.
    pub fn hold(&self, request: &RouteRequest<'_>) -> bool {
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
