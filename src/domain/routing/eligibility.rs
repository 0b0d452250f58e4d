//! Which channels may take a payment at all, and what each would cost. The same filter for every rung.

use serde::{Deserialize, Serialize};

use crate::domain::fees::{FeeCircumstances, FxRate, fee_of};
use crate::domain::money::Money;
use crate::domain::routing::country::Country;
use crate::domain::routing::decide::{ChannelReading, RouteRequest};
use crate::domain::routing::health::BreakerView;
use crate::domain::routing::table::{ChannelFacts, RoutingSetup};

/// Why a channel was not considered: the first check that it did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DroppedBy {
    /// The operator has switched it off.
    Disabled,
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
    /// The payer's token is of another provider.
    Token,
    /// It was tried for this payment already.
    Tried,
    /// Its breaker is open.
    BreakerOpen,
    /// Its breaker is half-open and another payment is trying it.
    ProbeTaken,
    /// It has as many payments in flight as it may.
    InFlightMax,
}

impl DroppedBy {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Merchant => "merchant",
            Self::Payments => "payments",
            Self::PreAuth => "pre_auth",
            Self::Currency => "currency",
            Self::Country => "country",
            Self::Method => "method",
            Self::Token => "token",
            Self::Tried => "tried",
            Self::BreakerOpen => "breaker_open",
            Self::ProbeTaken => "probe_taken",
            Self::InFlightMax => "in_flight_max",
        }
    }

    /// The same in words, to follow the channel's name.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Disabled => "is switched off",
            Self::Merchant => "is not open to this merchant",
            Self::Payments => "does not take payments",
            Self::PreAuth => "does not do pre-authorizations",
            Self::Currency => "does not take this currency",
            Self::Country => "does not serve the payer's country",
            Self::Method => "does not take this payment method",
            Self::Token => "does not know this payment token",
            Self::Tried => "was tried already",
            Self::BreakerOpen => "is failing and is being left alone",
            Self::ProbeTaken => "is being tried by another payment after failing",
            Self::InFlightMax => "has as many payments in flight as it may",
        }
    }
}

/// The first check that a channel does not pass, in the order from what never changes to what changes by the moment.
pub(super) fn dropped_by(
    facts: &ChannelFacts,
    reading: ChannelReading,
    breaker: BreakerView,
    request: &RouteRequest<'_>,
) -> Option<DroppedBy> {
    if !facts.enabled {
        return Some(DroppedBy::Disabled);
    }
    if !request.allowed.is_empty() && !request.allowed.contains(&facts.name) {
        return Some(DroppedBy::Merchant);
    }
    if request.needs_pre_auth && !facts.takes_pre_auths {
        return Some(DroppedBy::PreAuth);
    }
    if !request.needs_pre_auth && !facts.takes_payments {
        return Some(DroppedBy::Payments);
    }
    if !facts.currencies.is_empty() && !facts.currencies.contains(&request.money.currency) {
        return Some(DroppedBy::Currency);
    }
    if !facts.countries.is_empty() && request.country.is_some_and(|country| !facts.countries.contains(country)) {
        return Some(DroppedBy::Country);
    }
    if let Some(method) = request.method
        && !facts.methods.is_empty()
        && !facts.methods.iter().any(|served| served == method)
    {
        return Some(DroppedBy::Method);
    }
    if request.refusing_token.contains(&facts.name) {
        return Some(DroppedBy::Token);
    }
    if request.tried.contains(&facts.name) {
        return Some(DroppedBy::Tried);
    }
    match breaker {
        BreakerView::Open => return Some(DroppedBy::BreakerOpen),
        BreakerView::HalfOpen if !reading.probe_available => return Some(DroppedBy::ProbeTaken),
        BreakerView::HalfOpen | BreakerView::Closed => {}
    }
    (reading.in_flight >= facts.in_flight_max).then_some(DroppedBy::InFlightMax)
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

/// What a channel takes for a payment, in minor units of its currency; `None` when a rate of exchange that the fixed
/// part needs is not known.
pub fn fee_on(
    setup: &RoutingSetup,
    facts: &ChannelFacts,
    money: Money,
    payer: Option<Country>,
    merchant: Option<Country>,
) -> Option<i64> {
    let (fixed_rate, payment_rate) = if facts.fees.fixed_minor == 0 || facts.fees.fixed_currency == money.currency {
        (FxRate::ONE, FxRate::ONE)
    } else {
        (setup.rate_of(facts.fees.fixed_currency)?, setup.rate_of(money.currency)?)
    };
    let circumstances = FeeCircumstances {
        international: is_international(facts, payer, merchant),
        conversion: money.currency != setup.settlement_currency,
        fixed_rate,
        payment_rate,
    };
    Some(fee_of(&facts.fees, money, circumstances).amount_minor)
}
