//! Which channels may take a payment at all, and what each would cost. The same filter for every rung.

use serde::{Deserialize, Serialize};

use crate::domain::fees::{FeeCircumstances, FxRate, PricedBy, fee_of};
use crate::domain::money::Money;
use crate::domain::routing::breaker::BreakerView;
use crate::domain::routing::country::Country;
use crate::domain::routing::decide::{ChannelReading, RouteRequest};
use crate::domain::routing::table::{ChannelFacts, RoutingSetup};
use crate::domain::time::Timestamp;

/// Why a channel was not considered: the first check that it did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DroppedBy {
    /// The operator has switched it off.
    Disabled,
    /// Its credentials are not there.
    Credentials,
    /// The merchant may not use it.
    Merchant,
    /// It does not take payments.
    Payments,
    /// It does not do pre-authorizations.
    PreAuth,
    /// It does not serve the currency.
    Currency,
    /// It does not serve the payer's country.
    Country,
    /// It does not serve the payment method.
    Method,
    /// The amount is below the least that it takes.
    AmountMin,
    /// The amount is above the most that it takes.
    AmountMax,
    /// The payer's token is of another provider.
    Token,
    /// It was tried for this payment already.
    Tried,
    /// It is away, as was announced.
    Maintenance,
    /// Its breaker is open.
    BreakerOpen,
    /// Its breaker is half-open and another payment is trying it.
    ProbeTaken,
    /// It has as many payments in flight as it may.
    InFlightMax,
    /// It got as many payments within a second as it may.
    PerSecond,
    /// It got as many payments today as it may.
    PerDay,
    /// It got as much money today as it may.
    AmountPerDay,
}

impl DroppedBy {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Credentials => "credentials",
            Self::Merchant => "merchant",
            Self::Payments => "payments",
            Self::PreAuth => "pre_auth",
            Self::Currency => "currency",
            Self::Country => "country",
            Self::Method => "method",
            Self::AmountMin => "amount_min",
            Self::AmountMax => "amount_max",
            Self::Token => "token",
            Self::Tried => "tried",
            Self::Maintenance => "maintenance",
            Self::BreakerOpen => "breaker_open",
            Self::ProbeTaken => "probe_taken",
            Self::InFlightMax => "in_flight_max",
            Self::PerSecond => "per_second",
            Self::PerDay => "per_day",
            Self::AmountPerDay => "amount_per_day",
        }
    }

    /// Whether it does not take such payments at all, in whatever state it is.
    pub const fn is_for_good(self) -> bool {
        use DroppedBy::{AmountMax, AmountMin, Country, Currency, Merchant, Method, Payments, PreAuth, Token};
        matches!(self, Merchant | Payments | PreAuth | Currency | Country | Method | AmountMin | AmountMax | Token)
    }

    /// The same in words, to follow the channel's name.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Disabled => "is switched off",
            Self::Credentials => "has no credentials",
            Self::Merchant => "is not open to this merchant",
            Self::Payments => "does not take payments",
            Self::PreAuth => "does not do pre-authorizations",
            Self::Currency => "does not take this currency",
            Self::Country => "does not serve the payer's country",
            Self::Method => "does not take this payment method",
            Self::AmountMin => "does not take amounts as small",
            Self::AmountMax => "does not take amounts as large",
            Self::Token => "does not know this payment token",
            Self::Tried => "was tried already",
            Self::Maintenance => "is being maintained",
            Self::BreakerOpen => "is failing and is being left alone",
            Self::ProbeTaken => "is being tried by another payment after failing",
            Self::InFlightMax => "has as many payments in flight as it may",
            Self::PerSecond => "got as many payments within a second as it may",
            Self::PerDay => "got as many payments today as it may",
            Self::AmountPerDay => "would get more money today than it may",
        }
    }
}

/// A check that was not passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Which.
    pub by: DroppedBy,
    /// The number that it was held against, where there is one: minor units, payments, or the moment at which it ends
    /// in Unix milliseconds.
    pub bound: Option<i64>,
    /// What was found instead, where that is a number and stands nowhere else; of an amount a day with this payment.
    pub value: Option<i64>,
}

impl From<DroppedBy> for Dropped {
    fn from(by: DroppedBy) -> Self {
        Self { by, bound: None, value: None }
    }
}

/// The first check that a channel does not pass, in the order from what never changes to what changes by the moment. The
/// breaker comes last: a channel that it drops could take the payment but for that.
pub(super) fn dropped_by(
    setup: &RoutingSetup,
    facts: &ChannelFacts,
    reading: ChannelReading,
    breaker: BreakerView,
    request: &RouteRequest<'_>,
) -> Option<Dropped> {
    by_what_it_serves(facts, request)
        .or_else(|| by_what_it_did(facts, request))
        .or_else(|| by_caps(setup, facts, reading, request))
        .or_else(|| by_breaker(reading, breaker))
}

/// What changes only when somebody changes the configuration.
fn by_what_it_serves(facts: &ChannelFacts, request: &RouteRequest<'_>) -> Option<Dropped> {
    if !facts.enabled {
        return Some(DroppedBy::Disabled.into());
    }
    if !facts.has_credentials {
        return Some(DroppedBy::Credentials.into());
    }
    if !request.allowed.is_empty() && !request.allowed.contains(&facts.name) {
        return Some(DroppedBy::Merchant.into());
    }
    if request.needs_pre_auth && !facts.takes_pre_auths {
        return Some(DroppedBy::PreAuth.into());
    }
    if !request.needs_pre_auth && !facts.takes_payments {
        return Some(DroppedBy::Payments.into());
    }
    if !facts.currencies.is_empty() && !facts.currencies.contains(&request.money.currency) {
        return Some(DroppedBy::Currency.into());
    }
    if !facts.countries.is_empty() && request.country.is_some_and(|country| !facts.countries.contains(country)) {
        return Some(DroppedBy::Country.into());
    }
    if let Some(method) = request.method
        && !facts.methods.is_empty()
        && !facts.methods.iter().any(|served| served == method)
    {
        return Some(DroppedBy::Method.into());
    }
    let range = facts.amounts.get(&request.money.currency)?;
    let amount_minor = request.money.amount_minor;
    if range.min_minor.is_some_and(|least| amount_minor < least) {
        return Some(Dropped { by: DroppedBy::AmountMin, bound: range.min_minor, value: None });
    }
    let is_above = range.max_minor.is_some_and(|most| amount_minor > most);
    is_above.then_some(Dropped { by: DroppedBy::AmountMax, bound: range.max_minor, value: None })
}

/// What this payment has been through, and whether the channel is known to be away.
fn by_what_it_did(facts: &ChannelFacts, request: &RouteRequest<'_>) -> Option<Dropped> {
    if request.refusing_token.contains(&facts.name) {
        return Some(DroppedBy::Token.into());
    }
    if request.tried.contains(&facts.name) {
        return Some(DroppedBy::Tried.into());
    }
    let span = facts.maintenance_at(request.at)?;
    Some(Dropped { by: DroppedBy::Maintenance, bound: Some(span.until.unix_ms()), value: None })
}

/// How the channel is doing.
fn by_breaker(reading: ChannelReading, breaker: BreakerView) -> Option<Dropped> {
    match breaker {
        BreakerView::Open => Some(DroppedBy::BreakerOpen.into()),
        BreakerView::HalfOpen if !reading.probe_available => Some(DroppedBy::ProbeTaken.into()),
        BreakerView::HalfOpen | BreakerView::Closed => None,
    }
}

fn by_caps(
    setup: &RoutingSetup,
    facts: &ChannelFacts,
    reading: ChannelReading,
    request: &RouteRequest<'_>,
) -> Option<Dropped> {
    let caps = &facts.caps;
    let full = |by: DroppedBy, most: u32, found: u32| {
        Some(Dropped { by, bound: Some(i64::from(most)), value: Some(i64::from(found)) })
    };
    if reading.in_flight >= caps.concurrent {
        // The record has what is in flight.
        return Some(Dropped { by: DroppedBy::InFlightMax, bound: Some(i64::from(caps.concurrent)), value: None });
    }
    if let Some(most) = caps.per_second.filter(|most| reading.this_second >= *most) {
        return full(DroppedBy::PerSecond, most, reading.this_second);
    }
    if let Some(most) = caps.per_day.filter(|most| reading.today >= *most) {
        return full(DroppedBy::PerDay, most, reading.today);
    }
    let most = caps.amount_per_day_minor?;
    // An amount that can't be converted is not known to fit.
    let with_this = setup.in_settlement_currency(request.money).map(|minor| reading.today_minor.saturating_add(minor));
    let fits = with_this.is_some_and(|sum| sum <= most);
    (!fits).then_some(Dropped { by: DroppedBy::AmountPerDay, bound: Some(most), value: with_this })
}

/// Whether the payer is foreign to a channel: outside all of its local countries, or, for a channel that has none,
/// outside the merchant's country. An unknown country is foreign to nobody.
fn is_international(facts: &ChannelFacts, payer: Option<Country>, merchant: Option<Country>) -> bool {
    let Some(payer) = payer else { return false };
    if facts.local_countries.is_empty() {
        return merchant.is_some_and(|merchant| merchant != payer);
    }
    !facts.local_countries.contains(payer)
}

/// What a fee depends on.
#[derive(Clone, Copy, Debug)]
pub struct FeeRequest<'a> {
    /// Amount and currency.
    pub money: Money,
    /// The payer's country, where it is known.
    pub payer: Option<Country>,
    /// The merchant's country, where it is known.
    pub merchant: Option<Country>,
    /// The payment method, if one was named.
    pub method: Option<&'a str>,
    /// When it is.
    pub at: Timestamp,
    /// Charged on the channel this month before it, in minor units of the settlement currency.
    pub this_month_minor: i64,
}

impl<'a> FeeRequest<'a> {
    /// What the fee of a payment on a channel with this reading depends on.
    pub(super) fn of(request: &RouteRequest<'a>, reading: ChannelReading) -> Self {
        Self {
            money: request.money,
            payer: request.country,
            merchant: request.merchant_country,
            method: request.method,
            at: request.at,
            this_month_minor: reading.this_month_minor,
        }
    }
}

/// What a channel takes for a payment, in minor units of its currency; `None` when a rate of exchange that a fixed, least
/// or most fee needs is not known. A payment without a method is priced by the channel's only one, where it has one.
pub fn fee_on(setup: &RoutingSetup, facts: &ChannelFacts, request: &FeeRequest<'_>) -> Option<i64> {
    let money = request.money;
    let only_method = || Some(facts.methods.first()?.as_str()).filter(|_| facts.methods.len() == 1);
    let charges = facts.fees.charges(&PricedBy {
        method: request.method.or_else(only_method),
        currency: money.currency,
        at: request.at,
        this_month_minor: request.this_month_minor,
    });
    let (fixed_rate, payment_rate) = if !charges.has_fixed_parts() || charges.fixed_currency == money.currency {
        (FxRate::ONE, FxRate::ONE)
    } else {
        (setup.rate_of(charges.fixed_currency)?, setup.rate_of(money.currency)?)
    };
    let circumstances = FeeCircumstances {
        international: is_international(facts, request.payer, request.merchant),
        conversion: money.currency != setup.settlement_currency,
        fixed_rate,
        payment_rate,
    };
    Some(fee_of(&charges, money, circumstances).amount_minor)
}
