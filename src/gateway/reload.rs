//! Another configuration for a gateway that runs: what can change is put in force, what can't is named.

use std::sync::Arc;

use toml::Value;

use crate::actors::router::{InvalidRouting, RouterError, setup_from_config};
use crate::config::{ChannelConfig, Config, ConfigError};
use crate::gateway::error::GatewayError;
use crate::gateway::{Gateway, Inner};

/// What became of a new configuration. Keys are written as `section.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys whose new values are in force now.
    pub applied: Vec<String>,
    /// Keys whose new values wait for the next start.
    pub needs_restart: Vec<String>,
}

/// Nothing of a new configuration was put in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// What can change now does not fit what stays as it is.
    #[error("the changes that need no restart do not fit what stays until one: {0}")]
    DoesNotFit(#[from] ConfigError),
    /// The routing can't be used.
    #[error(transparent)]
    Routing(#[from] InvalidRouting),
    /// The router did not take it.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// Something inside.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

impl Gateway {
    /// Puts in force what of a valid configuration can change while the gateway runs: tiers (but none is taken away),
    /// routing, rules, rates of exchange, and of the channels that there are whether they are enabled, their fees,
    /// countries, currencies, methods, weights and calls at once. The level of logs is the embedder's to change.
    ///
    /// It goes on when this future is dropped: a part of a configuration is none.
    ///
    /// # Errors
    /// [`ReloadError`]; then everything is as it was.
    pub async fn reload(&self, wanted: &Config) -> Result<Reloaded, ReloadError> {
        let (inner, wanted) = (Arc::clone(&self.0), wanted.clone());
        self.0.core.carry(async move { inner.put_in_force(&wanted).await }).await
    }
}

impl Inner {
    async fn put_in_force(&self, wanted: &Config) -> Result<Reloaded, ReloadError> {
        let mut in_force = self.in_force.lock().await;
        let next = changeable(&in_force, wanted);
        let reloaded = Reloaded { applied: differences(&in_force, &next), needs_restart: differences(&next, wanted) };
        if reloaded.applied.is_empty() {
            return Ok(reloaded);
        }
        next.validate()?;
        let mut setup = setup_from_config(&next, &self.channels.abilities())?;
        self.channels.narrow(&mut setup);
        self.router.configure(setup).await?;
        self.merchants.change_tiers(&next.tiers);
        *in_force = next;
        Ok(reloaded)
    }
}

/// What is in force with everything from `wanted` that can change while the gateway runs.
fn changeable(in_force: &Config, wanted: &Config) -> Config {
    let mut next = in_force.clone();
    // A tier that is gone would leave its merchants without limits; it goes with the next start.
    next.tiers.extend(wanted.tiers.iter().map(|(name, tier)| (name.clone(), *tier)));
    next.routing = wanted.routing.clone();
    next.routing.failover_max = in_force.routing.failover_max;
    next.rules.clone_from(&wanted.rules);
    next.fx = wanted.fx.clone();
    next.telemetry.log.clone_from(&wanted.telemetry.log);
    for (name, channel) in &mut next.channels {
        if let Some(wanted) = wanted.channels.get(name) {
            change_channel(channel, wanted);
        }
    }
    next
}

fn change_channel(channel: &mut ChannelConfig, wanted: &ChannelConfig) {
    channel.enabled = wanted.enabled;
    channel.fees = wanted.fees.clone();
    channel.local_countries.clone_from(&wanted.local_countries);
    channel.countries.clone_from(&wanted.countries);
    channel.currencies.clone_from(&wanted.currencies);
    channel.methods.clone_from(&wanted.methods);
    channel.weight = wanted.weight;
    channel.in_flight_max = wanted.in_flight_max;
}

/// The keys in which two configurations differ.
fn differences(left: &Config, right: &Config) -> Vec<String> {
    let mut paths = Vec::new();
    match (Value::try_from(left), Value::try_from(right)) {
        (Ok(left), Ok(right)) => compare("", Some(&left), Some(&right), &mut paths),
        // A number that TOML can't hold; which key it is can't be said then.
        _ if left != right => paths.push(String::from("(some key)")),
        _ => {}
    }
    paths
}

fn compare(path: &str, left: Option<&Value>, right: Option<&Value>, paths: &mut Vec<String>) {
    if let (Some(Value::Table(left)), Some(Value::Table(right))) = (left, right) {
        let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&below, left.get(key), right.get(key), paths);
        }
    } else if left != right {
        paths.push(path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::embedded().unwrap();
        change(&mut config);
        config
    }

    #[test]
    fn what_can_change_is_told_from_what_can_not() {
        let in_force = config(|_| {});
        let wanted = config(|config| {
            config.tiers.get_mut("starter").unwrap().per_hour = 9_000;
            config.tiers.remove("premium");
            config.routing.smart = false;
            config.routing.failover_max = 7;
            config.server.body_max_bytes = 2_048;
            config.telemetry.log = String::from("debug");
            let stripe = config.channels.get_mut("stripe").unwrap();
            stripe.weight = 7;
            stripe.timeout_ms = 5_000;
            config.channels.remove("alipay");
        });
        let next = changeable(&in_force, &wanted);
        let applied = ["channels.stripe.weight", "routing.smart", "telemetry.log", "tiers.starter.per_hour"];
        assert_eq!(differences(&in_force, &next), applied);
        let waiting = [
            "channels.alipay",
            "channels.stripe.timeout_ms",
            "routing.failover_max",
            "server.body_max_bytes",
            "tiers.premium",
        ];
        assert_eq!(differences(&next, &wanted), waiting);
        assert!(differences(&wanted, &wanted).is_empty());
    }
}
