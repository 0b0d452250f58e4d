//! The router's setup from the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::channels::Capabilities;
use crate::config::{self, ChannelConfig, Config, MaintenanceConfig, RuleConfig, ShareConfig};
use crate::domain::ids::ChannelName;
use crate::domain::routing::{
    ApprovalSettings, BreakerSettings, ChannelFacts, ChoiceSettings, Conditions, Country, CountrySet, HealthSettings,
    Hours, InvalidSetup, MetadataCondition, RoutingMode, RoutingSetup, Rule, RuleResult, Share, WINDOW_OUTCOMES_MAX,
};

/// What was learned about a channel counts half after this long without news.
const FORGET_HALF_AFTER: Duration = Duration::from_secs(300);
const PPM_PER_PERCENT: u32 = 10_000;

/// The configuration's routing can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRouting {
    /// A country is not a code.
    #[error("{place}: {country:?} is not an ISO 3166-1 alpha-2 country code in capitals")]
    Country {
        /// Where it stands.
        place: String,
        /// What stands there.
        country: String,
    },
    /// A time zone is not known.
    #[error("{place}: {zone:?} is not a time zone that this machine knows; install tzdata or name another")]
    TimeZone {
        /// Where it stands.
        place: String,
        /// What stands there.
        zone: String,
    },
    /// The parts do not fit together.
    #[error(transparent)]
    Setup(#[from] InvalidSetup),
}

/// The setup that a configuration describes. `capabilities` say what each channel's adapter can do; a channel that is
/// not in it has no credentials and can do nothing.
///
/// # Errors
/// The first thing that is wrong.
pub fn setup_from_config(
    config: &Config,
    capabilities: &BTreeMap<ChannelName, Capabilities>,
) -> Result<RoutingSetup, InvalidRouting> {
    let routing = &config.routing;
    let mut channels = Vec::with_capacity(config.channels.len());
    for (name, channel) in &config.channels {
        let name = ChannelName::new(name.as_str());
        let can = capabilities.get(&name).copied();
        channels.push(facts_of(name, channel, can)?);
    }
    let setup = RoutingSetup {
        version: 0,
        mode: mode_of(routing.mode),
        smart: routing.smart,
        rules_first: routing.rules_first,
        failed_payment_cost: routing.failed_payment_cost_percent,
        default_channel: ChannelName::new(routing.default_channel.as_str()),
        rules: config.rules.iter().map(rule_from_config).collect::<Result<_, _>>()?,
        channels,
        settlement_currency: config.fx.settlement_currency,
        rates: config.fx.rates.clone(),
        health: HealthSettings {
            approvals: ApprovalSettings {
                window_outcomes: routing.window_outcomes.clamp(1, WINDOW_OUTCOMES_MAX),
                prior_outcomes: routing.prior_outcomes,
                prior_success_ppm: routing.prior_success_percent.min(100) * PPM_PER_PERCENT,
                forget_half_after: FORGET_HALF_AFTER,
            },
            breaker: BreakerSettings {
                window_outcomes: routing.window_outcomes.clamp(1, WINDOW_OUTCOMES_MAX),
                consecutive_failures: routing.breaker_consecutive_failures,
                failure_percent: routing.breaker_failure_percent,
                min_outcomes: routing.breaker_min_outcomes,
                open: Duration::from_millis(routing.breaker_open_ms),
                open_max: Duration::from_millis(routing.breaker_open_max_ms),
                slow: Duration::from_millis(routing.slow_call_ms),
                slow_percent: routing.breaker_slow_percent,
                jitter_percent: routing.breaker_jitter_percent,
            },
        },
        choice: ChoiceSettings {
            segments_max: routing.segments_max,
            newcomer_share_percent: routing.newcomer_share_percent,
            explore_percent: routing.explore_percent,
            load_balancing: routing.load_balance,
        },
    };
    setup.check()?;
    Ok(setup)
}

/// The mode as the domain names it.
const fn mode_of(mode: config::RoutingMode) -> RoutingMode {
    match mode {
        config::RoutingMode::Balanced => RoutingMode::Balanced,
        config::RoutingMode::Cost => RoutingMode::Cost,
        config::RoutingMode::Success => RoutingMode::Success,
        config::RoutingMode::Geographic => RoutingMode::Geographic,
    }
}

/// A channel whose adapter is not there has no credentials.
fn facts_of(
    name: ChannelName,
    channel: &ChannelConfig,
    can: Option<Capabilities>,
) -> Result<ChannelFacts, InvalidRouting> {
    let place = |key: &str| format!("[channels.{name}] {key}");
    let methods = channel.methods_served().into_iter().map(String::from).collect();
    Ok(ChannelFacts {
        enabled: channel.enabled,
        weight: channel.weight,
        fees: channel.fees.clone(),
        local_countries: countries_of(&channel.local_countries, || place("local_countries"))?,
        countries: countries_of(&channel.countries, || place("countries"))?,
        currencies: channel.currencies.clone(),
        methods,
        takes_payments: can.is_some_and(|can| can.charge),
        takes_pre_auths: can.is_some_and(|can| can.pre_auth),
        has_credentials: can.is_some(),
        amounts: channel.amounts.clone(),
        caps: channel.caps,
        maintenance: channel.maintenance.iter().filter_map(MaintenanceConfig::span).collect(),
        slow: channel.slow_call_ms.map(Duration::from_millis),
        name,
    })
}

/// A rule as the domain has it.
///
/// # Errors
/// What can't be understood in it.
pub fn rule_from_config(rule: &RuleConfig) -> Result<Rule, InvalidRouting> {
    let place = || format!("the rule {:?}", rule.name);
    let zone = match &rule.time_zone {
        None => None,
        Some(name) => {
            let unknown = |_| InvalidRouting::TimeZone { place: place(), zone: name.clone() };
            Some(TimeZone::get(name).map_err(unknown)?)
        }
    };
    let channel = |name: &String| ChannelName::new(name.as_str());
    Ok(Rule {
        id: Arc::from(rule.id()),
        name: Arc::from(rule.name.as_str()),
        enabled: rule.enabled,
        when: Conditions {
            countries: countries_of(&rule.countries, place)?,
            not_countries: countries_of(&rule.not_countries, place)?,
            currencies: rule.currencies.clone(),
            methods: rule.methods.clone(),
            not_methods: rule.not_methods.clone(),
            tiers: rule.tiers.clone(),
            merchants: rule.merchants.clone(),
            not_merchants: rule.not_merchants.clone(),
            card_countries: countries_of(&rule.card_countries, place)?,
            not_card_countries: countries_of(&rule.not_card_countries, place)?,
            amount_minor_min: rule.amount_minor_min,
            amount_minor_max: rule.amount_minor_max,
            hours: Hours {
                between: rule.from.zip(rule.until),
                weekdays: rule.weekdays.iter().copied().collect(),
                zone,
            },
            metadata: rule
                .metadata
                .iter()
                .map(|(key, values)| MetadataCondition { key: key.clone(), values: values.clone() })
                .collect(),
        },
        then: if rule.split.is_empty() {
            RuleResult::Ordered(rule.channels.iter().map(channel).collect())
        } else {
            let share = |share: &ShareConfig| Share { channel: channel(&share.channel), percent: share.percent };
            RuleResult::Split(rule.split.iter().map(share).collect())
        },
    })
}

fn countries_of(codes: &[String], place: impl Fn() -> String) -> Result<CountrySet, InvalidRouting> {
    let country = |code: &String| {
        let invalid = |_| InvalidRouting::Country { place: place(), country: code.clone() };
        code.parse::<Country>().map_err(invalid)
    };
    codes.iter().map(country).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ChannelKind;
    use crate::domain::fees::FeeSchedule;
    use crate::domain::routing::ChannelCaps;

    fn config(methods: &[&str], local_countries: &[&str]) -> ChannelConfig {
        let texts = |given: &[&str]| given.iter().map(|text| String::from(*text)).collect::<Vec<_>>();
        ChannelConfig {
            kind: ChannelKind::Stripe,
            enabled: true,
            sandbox: true,
            base_url: None,
            credentials: BTreeMap::new(),
            fees: FeeSchedule::default(),
            local_countries: texts(local_countries),
            countries: Vec::new(),
            currencies: Vec::new(),
            methods: texts(methods),
            weight: 1,
            amounts: BTreeMap::new(),
            caps: ChannelCaps::default(),
            maintenance: Vec::new(),
            timeout_ms: 10_000,
            slow_call_ms: None,
            hold_valid_s: 604_800,
        }
    }

    #[test]
    fn a_channel_takes_what_its_adapter_can_unless_narrowed() {
        let can = Some(Capabilities { charge: true, refund: true, ..Capabilities::default() });
        let name = || ChannelName::new("stripe");
        let facts = facts_of(name(), &config(&[], &["US"]), can).unwrap();
        assert_eq!(facts.methods, ["card"]);
        assert!(facts.takes_payments && !facts.takes_pre_auths);
        assert!("US".parse().is_ok_and(|country| facts.local_countries.contains(country)));
        assert_eq!(facts_of(name(), &config(&["wallet"], &[]), can).unwrap().methods, ["wallet"]);
        let wrong = facts_of(name(), &config(&[], &["usa"]), can).unwrap_err();
        assert!(wrong.to_string().starts_with("[channels.stripe] local_countries: \"usa\""), "{wrong}");
    }
}
