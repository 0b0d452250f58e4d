//! What a channel takes, as it is configured, and which of it is in force for a payment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::fees::Percent;
use crate::domain::money::Currency;
use crate::domain::time::{Day, Timestamp};

/// What a channel takes for its payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeeSchedule {
    /// Only within `changes`: the day (UTC) from which on it replaces what was before, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Day>,
    /// Share of the amount.
    pub percent: Percent,
    /// Fixed part of every payment, in minor units of `fixed_currency`.
    #[serde(default)]
    pub fixed_minor: i64,
    /// Currency of the fixed part and of the least and the most fee.
    #[serde(default = "usd")]
    pub fixed_currency: Currency,
    /// Added when the payer's country is foreign to the channel.
    #[serde(default)]
    pub international_percent: Percent,
    /// Added when the payment's currency is not the settlement currency.
    #[serde(default)]
    pub conversion_percent: Percent,
    /// The fee is at least this, in minor units of `fixed_currency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_minor: Option<i64>,
    /// The fee is at most this, in minor units of `fixed_currency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_minor: Option<i64>,
    /// The day these figures were read, `yyyy-mm-dd`.
    #[serde(default)]
    pub as_of: String,
    /// What a month's volume makes cheaper, by rising volume.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<FeeTier>,
    /// What is different for a method.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_method: BTreeMap<String, FeeOverride>,
    /// What is different for a currency, unless the method has its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_currency: BTreeMap<Currency, FeeOverride>,
    /// What replaces all of the above later, by rising days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<FeeSchedule>,
}

/// What holds once so much was charged on the channel in the month (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeeTier {
    /// From this volume on, in minor units of the settlement currency.
    pub from_minor: i64,
    /// In place of the schedule's.
    pub percent: Percent,
    /// In place of the schedule's, where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_minor: Option<i64>,
}

/// What holds for some payments in place of the schedule's percentage and fixed part, and of its tiers. The surcharges
/// and the least and the most fee stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeeOverride {
    /// In place of the schedule's.
    pub percent: Percent,
    /// In place of the schedule's.
    #[serde(default)]
    pub fixed_minor: i64,
}

/// What a payment is priced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PricedBy<'a> {
    /// Its method, where that is known.
    pub method: Option<&'a str>,
    /// Its currency.
    pub currency: Currency,
    /// When it is.
    pub at: Timestamp,
    /// Charged on the channel this month before it, in minor units of the settlement currency.
    pub this_month_minor: i64,
}

/// What is in force for one payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charges {
    /// Share of the amount.
    pub percent: Percent,
    /// Fixed part.
    pub fixed_minor: i64,
    /// Currency of the fixed part and of the least and the most fee.
    pub fixed_currency: Currency,
    /// Added when the payer's country is foreign to the channel.
    pub international_percent: Percent,
    /// Added when the payment's currency is not the settlement currency.
    pub conversion_percent: Percent,
    /// The fee is at least this.
    pub min_minor: Option<i64>,
    /// The fee is at most this.
    pub max_minor: Option<i64>,
}

impl Charges {
    /// Whether an amount of `fixed_currency` is part of them, so that a rate of exchange may be needed.
    pub fn has_fixed_parts(&self) -> bool {
        self.fixed_minor != 0 || self.min_minor.is_some() || self.max_minor.is_some()
    }
}

const fn usd() -> Currency {
    Currency::USD
}

impl Default for FeeSchedule {
    /// Nothing at all.
    fn default() -> Self {
        Self {
            valid_from: None,
            percent: Percent::default(),
            fixed_minor: 0,
            fixed_currency: usd(),
            international_percent: Percent::default(),
            conversion_percent: Percent::default(),
            min_minor: None,
            max_minor: None,
            as_of: String::new(),
            tiers: Vec::new(),
            by_method: BTreeMap::new(),
            by_currency: BTreeMap::new(),
            changes: Vec::new(),
        }
    }
}

impl FeeSchedule {
    /// What is in force for a payment.
    pub fn charges(&self, by: &PricedBy<'_>) -> Charges {
        self.in_force(by.at).own_charges(by)
    }

    /// The schedule and all that replace it, in their order.
    pub fn versions(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.changes)
    }

    /// The next volume of the month, above this one, at which what it takes changes.
    pub fn next_tier_minor(&self, at: Timestamp, this_month_minor: i64) -> Option<i64> {
        let volumes = self.in_force(at).tiers.iter().map(|tier| tier.from_minor);
        volumes.filter(|from_minor| *from_minor > this_month_minor).min()
    }

    fn in_force(&self, at: Timestamp) -> &Self {
        let began = |change: &&Self| change.valid_from.is_some_and(|day| day.start() <= at);
        self.changes.iter().filter(began).max_by_key(|change| change.valid_from).unwrap_or(self)
    }

    fn own_charges(&self, by: &PricedBy<'_>) -> Charges {
        let (percent, fixed_minor) = self.percent_and_fixed(by);
        Charges {
            percent,
            fixed_minor,
            fixed_currency: self.fixed_currency,
            international_percent: self.international_percent,
            conversion_percent: self.conversion_percent,
            min_minor: self.min_minor,
            max_minor: self.max_minor,
        }
    }

    /// The method's own, else the currency's own, else the tier's, else the schedule's.
    fn percent_and_fixed(&self, by: &PricedBy<'_>) -> (Percent, i64) {
        let by_method = by.method.filter(|_| !self.by_method.is_empty()).and_then(|method| self.by_method.get(method));
        if let Some(own) = by_method.or_else(|| self.by_currency.get(&by.currency)) {
            return (own.percent, own.fixed_minor);
        }
        let reached = |tier: &&FeeTier| tier.from_minor <= by.this_month_minor;
        match self.tiers.iter().filter(reached).max_by_key(|tier| tier.from_minor) {
            Some(tier) => (tier.percent, tier.fixed_minor.unwrap_or(self.fixed_minor)),
            None => (self.percent, self.fixed_minor),
        }
    }
}
