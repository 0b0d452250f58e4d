//! What a payment must be. Every given condition holds; what is asked for and not known does not match, neither a
//! condition nor its negation.

use crate::domain::money::{Currency, Money};
use crate::domain::routing::country::{Country, CountrySet};
use crate::domain::routing::decide::RouteRequest;
use crate::domain::routing::rules::hours::Hours;

/// What a payment must be; every given condition holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Payer's countries; a payer of unknown country matches only without any.
    pub countries: CountrySet,
    /// Countries that the payer's is not; a payer of unknown country matches only without any.
    pub not_countries: CountrySet,
    /// Currencies; empty for all.
    pub currencies: Vec<Currency>,
    /// Methods; empty for all. A payment without a method matches only without any.
    pub methods: Vec<String>,
    /// Methods that the payment's is not. A payment without a method matches only without any.
    pub not_methods: Vec<String>,
    /// Merchants' tiers; empty for all.
    pub tiers: Vec<String>,
    /// Merchants' ids; empty for all.
    pub merchants: Vec<String>,
    /// Merchants' ids that the payment's is not.
    pub not_merchants: Vec<String>,
    /// Countries of the card; a card of unknown country matches only without any.
    pub card_countries: CountrySet,
    /// Countries that the card's is not; a card of unknown country matches only without any.
    pub not_card_countries: CountrySet,
    /// At least this much, in minor units of one of `currencies`, which are given then.
    pub amount_minor_min: Option<i64>,
    /// At most this much, in minor units of one of `currencies`, which are given then.
    pub amount_minor_max: Option<i64>,
    /// When it is made.
    pub hours: Hours,
    /// What the merchant noted about it.
    pub metadata: Vec<MetadataCondition>,
}

/// What a merchant must have noted about a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataCondition {
    /// Under this name.
    pub key: String,
    /// One of these; empty for anything.
    pub values: Vec<String>,
}

impl Conditions {
    /// Whether every given condition holds.
    pub fn hold(&self, request: &RouteRequest<'_>) -> bool {
        let Money { amount_minor, currency } = request.money;
        (self.currencies.is_empty() || self.currencies.contains(&currency))
            && self.amount_minor_min.is_none_or(|least| amount_minor >= least)
            && self.amount_minor_max.is_none_or(|most| amount_minor <= most)
            && text_fits(&self.methods, &self.not_methods, request.method)
            && text_fits(&self.tiers, &[], Some(request.tier))
            && country_fits(&self.countries, &self.not_countries, request.country)
            && text_fits(&self.merchants, &self.not_merchants, Some(request.merchant_id))
            && country_fits(&self.card_countries, &self.not_card_countries, request.card_country)
            && self.metadata.iter().all(|condition| condition.holds(request))
            && self.hours.contains(request.at)
    }
}

impl MetadataCondition {
    fn holds(&self, request: &RouteRequest<'_>) -> bool {
        let noted = request.metadata.get(&self.key);
        noted.is_some_and(|noted| self.values.is_empty() || self.values.contains(noted))
    }
}

fn text_fits(wanted: &[String], unwanted: &[String], given: Option<&str>) -> bool {
    if wanted.is_empty() && unwanted.is_empty() {
        return true;
    }
    let Some(given) = given else { return false };
    let among = |texts: &[String]| texts.iter().any(|text| text == given);
    (wanted.is_empty() || among(wanted)) && !among(unwanted)
}

fn country_fits(wanted: &CountrySet, unwanted: &CountrySet, given: Option<Country>) -> bool {
    let anywhere = wanted.is_empty();
    if anywhere && unwanted.is_empty() {
        return true;
    }
    given.is_some_and(|country| (anywhere || wanted.contains(country)) && !unwanted.contains(country))
}
