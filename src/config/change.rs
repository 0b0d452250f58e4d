//! What a running gateway can take over of another configuration, and what has to wait for its next start.

use serde_json::{Map, Value};

use super::effective::effective_json;
use super::{ChannelConfig, ClientAddressConfig, Config, ConfigError, LimitsConfig, PreAuthConfig, WebhookConfig};

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesEffect {
    /// As soon as the configuration is read again.
    AtOnce,
    /// With the next start.
    AtRestart,
}

/// One key in which two configurations differ. What is secret of its values is hidden.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyChange {
    /// Its path, such as `tiers.starter.burst`. A table that only one of them has is one key.
    pub key: String,
    /// What it was, unless there was nothing.
    pub before: Option<Value>,
    /// What it is then, unless there is nothing.
    pub after: Option<Value>,
    /// When.
    pub takes_effect: TakesEffect,
}

impl Config {
    /// This configuration with everything from `wanted` that can change while the gateway runs.
    #[must_use]
    pub fn with_changeable(&self, wanted: &Self) -> Self {
        let mut next = self.clone();
        // A tier that is gone would leave its merchants without limits; it goes with the next start.
        next.tiers.extend(wanted.tiers.iter().map(|(name, tier)| (name.clone(), *tier)));
        next.admin.clone_from(&wanted.admin);
        next.routing = wanted.routing.clone();
        next.routing.snapshot_interval_ms = self.routing.snapshot_interval_ms;
        next.rules.clone_from(&wanted.rules);
        // Sums of the day are in it, which caps hold.
        if wanted.fx.settlement_currency == self.fx.settlement_currency {
            next.fx = wanted.fx.clone();
        }
        next.limits = limits_of(&self.limits, &wanted.limits);
        next.telemetry.log.clone_from(&wanted.telemetry.log);
        next.retention = wanted.retention.clone();
        next.payments.failover_within_ms = wanted.payments.failover_within_ms;
        next.payments.idempotency_keep_s = wanted.payments.idempotency_keep_s;
        next.payments.refunds_max = wanted.payments.refunds_max;
        next.payments.on_stray = wanted.payments.on_stray;
        next.pre_auth = pre_auth_of(&self.pre_auth, &wanted.pre_auth);
        next.callbacks.keep_days = wanted.callbacks.keep_days;
        next.callbacks.unknown_keep_s = wanted.callbacks.unknown_keep_s;
        change_webhook(&mut next.webhook, &wanted.webhook);
        for (name, channel) in &mut next.channels {
            if let Some(wanted) = wanted.channels.get(name) {
                change_channel(channel, wanted);
            }
        }
        next
    }

    /// Every key in which `wanted` differs, by their paths.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] when a configuration can't be shown.
    pub fn changes_to(&self, wanted: &Self) -> Result<Vec<KeyChange>, ConfigError> {
        let next = self.with_changeable(wanted);
        let (before, after) = (effective_json(self)?, effective_json(wanted)?);
        let value = |of: &Value, key: &str| at(of, key).filter(|value| !value.is_null()).cloned();
        let change = |takes_effect| {
            let (before, after) = (&before, &after);
            move |key: String| KeyChange { before: value(before, &key), after: value(after, &key), key, takes_effect }
        };
        let at_once = differences(self, &next)?.into_iter().map(change(TakesEffect::AtOnce));
        let waiting = differences(&next, wanted)?.into_iter().map(change(TakesEffect::AtRestart));
        let mut changes: Vec<KeyChange> = at_once.chain(waiting).collect();
        changes.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(changes)
    }
}

/// Of the limits that are not a tier's, what is looked up again for each request or told again to those who hold it. The rest
/// was given to actors, maps and memory when they were made.
fn limits_of(in_force: &LimitsConfig, wanted: &LimitsConfig) -> LimitsConfig {
    LimitsConfig {
        near_percent: wanted.near_percent.clone(),
        near_interval_s: wanted.near_interval_s,
        adaptive: wanted.adaptive,
        client_address: ClientAddressConfig {
            addresses_max: in_force.client_address.addresses_max,
            ..wanted.client_address.clone()
        },
        ..in_force.clone()
    }
}

/// The bounds were given to actors when they were made; what becomes of a hold is asked again each time.
fn pre_auth_of(in_force: &PreAuthConfig, wanted: &PreAuthConfig) -> PreAuthConfig {
    PreAuthConfig {
        active_max: in_force.active_max,
        idle_s: in_force.idle_s,
        refunds_max: in_force.refunds_max,
        ..wanted.clone()
    }
}

/// Not how long requests may take, how many there are at once and where they may go, which connections, memory and the vetting
/// of addresses were made for; nor the length of the breaker's window, by whose parts tries have been counted.
fn change_webhook(webhook: &mut WebhookConfig, wanted: &WebhookConfig) {
    webhook.max_attempts = wanted.max_attempts;
    webhook.initial_backoff_s = wanted.initial_backoff_s;
    webhook.max_backoff_s = wanted.max_backoff_s;
    webhook.schedule_s.clone_from(&wanted.schedule_s);
    webhook.jitter_percent = wanted.jitter_percent;
    webhook.retry_interval_s = wanted.retry_interval_s;
    webhook.breaker_min = wanted.breaker_min;
    webhook.breaker_failure_percent = wanted.breaker_failure_percent;
    webhook.breaker_open_s = wanted.breaker_open_s;
    webhook.breaker_open_max_s = wanted.breaker_open_max_s;
    webhook.failing_event_after_s = wanted.failing_event_after_s;
    webhook.disable_after_s = wanted.disable_after_s;
    webhook.disable_min_tries = wanted.disable_min_tries;
    webhook.recovery_rate_per_s = wanted.recovery_rate_per_s;
    webhook.jobs_max = wanted.jobs_max;
    webhook.dead_letter_sweeps_max = wanted.dead_letter_sweeps_max;
    webhook.endpoints_max = wanted.endpoints_max;
    webhook.rotation_overlap_s = wanted.rotation_overlap_s;
}

fn change_channel(channel: &mut ChannelConfig, wanted: &ChannelConfig) {
    channel.enabled = wanted.enabled;
    channel.fees = wanted.fees.clone();
    channel.local_countries.clone_from(&wanted.local_countries);
    channel.countries.clone_from(&wanted.countries);
    channel.currencies.clone_from(&wanted.currencies);
    channel.methods.clone_from(&wanted.methods);
    channel.weight = wanted.weight;
    channel.amounts.clone_from(&wanted.amounts);
    channel.caps = wanted.caps;
    channel.maintenance.clone_from(&wanted.maintenance);
    channel.slow_call_ms = wanted.slow_call_ms;
}

/// The keys in which two configurations differ, by their paths.
///
/// # Errors
/// [`ConfigError::Problems`] when one of them can't be written as JSON.
pub(crate) fn differences(left: &Config, right: &Config) -> Result<Vec<String>, ConfigError> {
    let written = |config: &Config| serde_json::to_value(config).map_err(|error| ConfigError::not_shown(&error));
    let mut keys = Vec::new();
    compare("", Some(&written(left)?), Some(&written(right)?), &mut keys);
    Ok(keys)
}

fn compare(path: &str, left: Option<&Value>, right: Option<&Value>, keys: &mut Vec<String>) {
    if let (Some(Value::Object(left)), Some(Value::Object(right))) = (left, right) {
        let mut names: Vec<&String> = Map::keys(left).chain(Map::keys(right)).collect();
        names.sort();
        names.dedup();
        for name in names {
            let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            compare(&below, left.get(name), right.get(name), keys);
        }
    } else if left.filter(|value| !value.is_null()) != right.filter(|value| !value.is_null()) {
        keys.push(path.to_owned());
    }
}

/// What stands at a key that [`differences`] has named.
fn at<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(config, |value, name| value.get(name))
}

#[cfg(test)]
mod tests;
