//! Routing as the configuration describes it, and what can be asked about it.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::router::RouterHandle;
use crate::channels::{Channel, CurrencySupport};
use crate::config::{ChannelConfig, Config, RoutingMode as ConfiguredMode, RuleConfig};
use crate::domain::ids::ChannelName;
use crate::domain::money::Currency;
use crate::domain::routing::{
    ChannelFacts, Country, CountrySet, DecisionRecord, HealthSettings, InvalidCountry, RouteRequest, RoutingMode,
    RoutingSetup, Rule,
};
use crate::gateway::channels::ChannelSet;
use crate::gateway::view::{ChannelView, FeeView, QuoteChannelView, QuoteView};

/// What was learned counts half after this long without news.
const FORGET_HALF_AFTER: Duration = Duration::from_secs(600);
/// Parts per million of the whole.
const PPM: f64 = 1_000_000.0;

/// The routing setup that the configuration describes, for the channels that are set up.
pub(crate) fn setup_of(config: &Config, channels: &ChannelSet) -> Result<RoutingSetup, InvalidCountry> {
    let routing = &config.routing;
    let facts = config
        .channels
        .iter()
        .filter_map(|(name, channel_config)| {
            let name = ChannelName::new(name.as_str());
            let channel = channels.get(&name)?;
            Some(facts_of(name, channel_config, channel.as_ref()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(RoutingSetup {
        mode: match routing.mode {
            ConfiguredMode::Balanced => RoutingMode::Balanced,
            ConfiguredMode::Cost => RoutingMode::Cost,
            ConfiguredMode::Success => RoutingMode::Success,
            ConfiguredMode::Geographic => RoutingMode::Geographic,
        },
        smart: routing.smart,
        default_channel: ChannelName::new(routing.default_channel.as_str()),
        rules: config.rules.iter().map(rule_of).collect::<Result<Vec<_>, _>>()?,
        channels: facts,
        settlement_currency: config.fx.settlement_currency,
        rates: config.fx.rates.clone(),
        health: HealthSettings {
            window_outcomes: routing.window_outcomes,
            prior_outcomes: routing.prior_outcomes,
            prior_success_ppm: routing.prior_success_percent.saturating_mul(10_000),
            breaker_consecutive_failures: routing.breaker_consecutive_failures,
            breaker_failure_percent: routing.breaker_failure_percent,
            breaker_min_outcomes: routing.breaker_min_outcomes,
            breaker_open: Duration::from_millis(routing.breaker_open_ms),
            breaker_open_max: Duration::from_millis(routing.breaker_open_max_ms),
            forget_half_after: FORGET_HALF_AFTER,
        },
    })
}

fn facts_of(name: ChannelName, config: &ChannelConfig, channel: &dyn Channel) -> Result<ChannelFacts, InvalidCountry> {
    let capabilities = channel.capabilities();
    Ok(ChannelFacts {
        name,
        enabled: config.enabled,
        weight: config.weight,
        fees: config.fees.clone(),
        local_countries: countries(&config.local_countries)?,
        countries: countries(&config.countries)?,
        currencies: currencies(&config.currencies, channel.currencies()),
        methods: methods(&config.methods, channel.methods()),
        takes_payments: capabilities.charge,
        takes_pre_auths: capabilities.pre_auth,
        in_flight_max: config.in_flight_max,
    })
}

fn countries(codes: &[String]) -> Result<CountrySet, InvalidCountry> {
    codes.iter().map(|code| code.parse::<Country>()).collect()
}

/// What is configured, as far as the adapter can do it; all that the adapter can do when nothing is configured.
fn currencies(configured: &[Currency], supported: CurrencySupport) -> Vec<Currency> {
    match supported {
        CurrencySupport::All => configured.to_vec(),
        CurrencySupport::Listed(codes) if configured.is_empty() => {
            codes.iter().filter_map(|code| code.parse().ok()).collect()
        }
        CurrencySupport::Listed(_) => {
            configured.iter().copied().filter(|currency| supported.contains(*currency)).collect()
        }
    }
}

fn methods(configured: &[String], supported: &[&str]) -> Vec<String> {
    if configured.is_empty() {
        return supported.iter().map(ToString::to_string).collect();
    }
    configured.to_vec()
}

fn rule_of(config: &RuleConfig) -> Result<Rule, InvalidCountry> {
    Ok(Rule {
        name: config.name.as_str().into(),
        countries: countries(&config.countries)?,
        currencies: config.currencies.clone(),
        methods: config.methods.clone(),
        tiers: config.tiers.clone(),
        amount_minor_min: config.amount_minor_min,
        amount_minor_max: config.amount_minor_max,
        channels: config.channels.iter().map(|name| ChannelName::new(name.as_str())).collect(),
    })
}

/// Where a payment would go, and why.
pub(crate) fn quote(router: &RouterHandle, request: &RouteRequest<'_>) -> QuoteView {
    let record = router.quote(request);
    QuoteView {
        channel: record.chosen_channel().map(|verdict| verdict.channel.to_string()),
        rung: record.rung.map(|rung| rung.as_str().to_owned()),
        strategy: record.strategy.map(|strategy| strategy.as_str().to_owned()),
        reason: record.reason(),
        channels: quote_channels(&record),
    }
}

fn quote_channels(record: &DecisionRecord) -> Vec<QuoteChannelView> {
    let currency = record.currency.to_string();
    let channels = record.channels.iter().map(|verdict| QuoteChannelView {
        channel: verdict.channel.to_string(),
        eligible: verdict.dropped_by.is_none(),
        dropped_by: verdict.dropped_by.map(|filter| filter.as_str().to_owned()),
        fee: verdict.fee_minor.map(|amount| FeeView { amount, currency: currency.clone() }),
        success_rate: f64::from(verdict.success_ppm) / PPM,
        samples: u64::from(verdict.samples),
        in_flight: u64::from(verdict.in_flight),
        breaker: verdict.breaker.as_str().to_owned(),
    });
    channels.collect()
}

/// The channels as the operator sees them.
pub(crate) fn channel_views(config: &Config, router: &RouterHandle) -> Vec<ChannelView> {
    let kinds = |name: &ChannelName| {
        let kind = config.channels.get(name.as_str()).map(|channel| channel.kind);
        kind.and_then(|kind| serde_json::to_value(kind).ok()).and_then(|kind| kind.as_str().map(str::to_owned))
    };
    let views = router.channel_status().into_iter().map(|status| ChannelView {
        kind: kinds(&status.name).unwrap_or_default(),
        name: status.name.to_string(),
        enabled: status.enabled,
        breaker: status.breaker.as_str().to_owned(),
        success_rate: f64::from(status.success_ppm) / PPM,
        samples: u64::from(status.samples),
        in_flight: u64::from(status.in_flight),
        latency_ms: status.latency_us.map(|micros| f64::from(micros) / 1000.0),
    });
    views.collect()
}

/// What the outcome of a charge says about its channel.
pub(crate) fn outcome_class(state: &crate::domain::outcome::ChargeState) -> crate::domain::routing::OutcomeClass {
    use crate::domain::outcome::{ChargeState, DeclineScope};
    use crate::domain::routing::OutcomeClass;
    match state {
        ChargeState::Success { .. } => OutcomeClass::Approved,
        ChargeState::ActionRequired { .. } | ChargeState::Processing | ChargeState::Canceled => OutcomeClass::Answered,
        ChargeState::Unknown { .. } => OutcomeClass::TechnicalFailure,
        ChargeState::Declined(failure) => match failure.decline_scope {
            DeclineScope::Processor => OutcomeClass::DeclinedByProcessor,
            DeclineScope::Network => OutcomeClass::DeclinedByNetwork,
            DeclineScope::Bank => OutcomeClass::DeclinedByBank,
            DeclineScope::Customer => OutcomeClass::DeclinedByCustomer,
            DeclineScope::Unknown => OutcomeClass::DeclinedUnspecified,
        },
        // Nothing was done: when that is the channel's own doing it was not able to, which is a technical matter.
        ChargeState::NotDone(failure) => match failure.decline_scope {
            DeclineScope::Processor | DeclineScope::Network => OutcomeClass::TechnicalFailure,
            DeclineScope::Bank => OutcomeClass::DeclinedByBank,
            DeclineScope::Customer => OutcomeClass::DeclinedByCustomer,
            DeclineScope::Unknown => OutcomeClass::DeclinedUnspecified,
        },
    }
}

