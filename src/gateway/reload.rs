//! Another configuration for a gateway that runs: what can change is put in force, what can't is named.

use std::sync::Arc;

use serde::Serialize;
use toml::Value;
use utoipa::ToSchema;

use crate::actors::router::{InvalidRouting, RouterError};
use crate::config::{ChannelConfig, ClientAddressConfig, Config, ConfigError, LimitsConfig};
use crate::domain::audit::{Change, Operator};
use crate::gateway::countries::{InvalidCountries, Loaded};
use crate::gateway::error::GatewayError;
use crate::gateway::routing::control::InForce;
use crate::gateway::routing::overrides::UnfitView;
use crate::gateway::{Gateway, Inner, limit_events};
use crate::storage::StoreError;

/// What became of a new configuration. Keys are written as `section.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// Keys whose new values are in force now.
    pub applied: Vec<String>,
    /// Keys whose new values wait for the next start.
    pub needs_restart: Vec<String>,
    /// What was changed through the admin API, does not fit the configuration any more, and is not in force.
    pub unfit: Vec<UnfitView>,
}

/// Nothing of a new configuration was put in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// What can change now does not fit what stays as it is.
    #[error("the changes that need no restart do not fit what stays until one: {0}")]
    DoesNotFit(#[from] ConfigError),
    /// The configuration can't be read again.
    #[error("{0}")]
    Source(String),
    /// The routing can't be used.
    #[error(transparent)]
    Routing(#[from] InvalidRouting),
    /// The country database can't be used.
    #[error(transparent)]
    Countries(#[from] InvalidCountries),
    /// The router did not take it.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// The change could not be written down.
    #[error("the change can't be written into the audit: {0}")]
    Audit(#[from] StoreError),
    /// Something inside.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

impl Gateway {
    /// Puts in force what of a valid configuration can change while the gateway runs: tiers (but none is taken away),
    /// limits by client address (but how many are remembered), thresholds of `limit.near`, shedding of load, routing, rules,
    /// rates of exchange (but not to another settlement currency), the channel that costs are compared with, and of the channels that there are whether they are enabled, their fees, countries, currencies,
    /// methods, weights, calls at once, and credentials that were missing. The level of logs is the embedder's to change. What
    /// changes is written into the audit before it is in force; if it could not be put in force after all, so is that.
    ///
    /// It goes on when this future is dropped: a part of a configuration is none.
    ///
    /// # Errors
    /// [`ReloadError`]; then everything is as it was.
    pub async fn reload(&self, wanted: &Config, by: &Operator) -> Result<Reloaded, ReloadError> {
        let (inner, wanted, by) = (Arc::clone(&self.0), wanted.clone(), by.clone());
        self.0.core.carry(Box::pin(async move { inner.put_in_force(&wanted, &by).await })).await
    }
}

/// Where a running gateway finds its configuration again, when the operator asks for that.
pub trait ConfigSource: Send + Sync + 'static {
    /// Reads all layers again. May block.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    fn read(&self) -> Result<Config, String>;

    /// Called when a configuration was put in force, for what is not the gateway's, such as the level of logs.
    fn has_changed(&self, config: &Config, reloaded: &Reloaded);
}

impl Gateway {
    /// Says where the configuration can be read again. Once: a second one is not taken.
    pub fn set_config_source(&self, source: impl ConfigSource) {
        let _ = self.0.config_source.set(Box::new(source));
    }

    /// Reads the configuration again and puts in force what can change while the gateway runs.
    ///
    /// # Errors
    /// [`ReloadError`]; then everything is as it was.
    pub async fn reload_from_source(&self, by: &Operator) -> Result<Reloaded, ReloadError> {
        let (gateway, by) = (self.clone(), by.clone());
        let work = async move {
            let inner = Arc::clone(&gateway.0);
            let read = tokio::task::spawn_blocking(move || match inner.config_source.get() {
                Some(source) => source.read().map_err(ReloadError::Source),
                None => Err(GatewayError::NotFound("configuration to read again").into()),
            });
            let failed = |error| GatewayError::Internal(format!("reading the configuration ended: {error}"));
            let wanted = read.await.map_err(failed)??;
            let reloaded = gateway.0.put_in_force(&wanted, &by).await?;
            if let Some(source) = gateway.0.config_source.get() {
                source.has_changed(&wanted, &reloaded);
            }
            Ok(reloaded)
        };
        self.0.core.carry(Box::pin(work)).await
    }
}

impl Inner {
    async fn put_in_force(&self, wanted: &Config, by: &Operator) -> Result<Reloaded, ReloadError> {
        let mut in_force = self.routing.hold().await;
        // The same file with other content is no change of the configuration.
        self.core.countries.look_again().await;
        self.certificates.look_again().await;
        let next = changeable(&in_force.file, wanted);
        let mut applied = differences(&in_force.file, &next);
        let found = self.routing.find_credentials(&in_force);
        applied.extend(found.iter().map(|channel| format!("channels.{channel}.credentials")));
        let unfit = in_force.unfit.clone();
        let mut reloaded = Reloaded { applied, needs_restart: differences(&next, wanted), unfit };
        if reloaded.applied.is_empty() {
            return Ok(reloaded);
        }
        next.validate_running()?;
        let geoip_database = &next.routing.geoip_database;
        let new_countries = match geoip_database {
            _ if *geoip_database == in_force.file.routing.geoip_database => None,
            Some(path) => Some(Some(Loaded::read(path).await?)),
            None => Some(None),
        };
        let change = change_of(&reloaded.applied, &in_force.file, &next);
        let (tiers, limits) = (next.tiers.clone(), next.limits.clone());
        let next = InForce::after(&in_force, next, in_force.overrides.clone());
        self.routing.adopt(&mut in_force, next, by, &change, "config.reload_failed").await?;
        if let Some(countries) = new_countries {
            self.core.countries.put(countries).await;
        }
        self.snapshots.before_tiers(&tiers).await;
        self.merchants.change_tiers(&tiers);
        self.payments.costs().compare_with(in_force.file.routing.baseline_channel());
        self.shedding.configure(limits.adaptive);
        self.addresses.configure(&limits.client_address);
        self.limit_counts.know_thresholds(&limits.near_percent);
        self.directory.change_near(limit_events::near_settings(&limits));
        reloaded.unfit.clone_from(&in_force.unfit);
        Ok(reloaded)
    }
}

/// What the audit says about a change of these keys. Credentials are not among what can change.
fn change_of(keys: &[String], before: &Config, after: &Config) -> Change {
    let (before, after) = (serde_json::to_value(before).ok(), serde_json::to_value(after).ok());
    keys.iter().fold(Change::new("config.reload", "configuration"), |change, key| {
        let pointer = format!("/{}", key.replace('.', "/"));
        let at =
            |config: &Option<serde_json::Value>| config.as_ref().and_then(|config| config.pointer(&pointer)).cloned();
        change.field(key.as_str(), at(&before), at(&after))
    })
}

/// What is in force with everything from `wanted` that can change while the gateway runs.
fn changeable(in_force: &Config, wanted: &Config) -> Config {
    let mut next = in_force.clone();
    // A tier that is gone would leave its merchants without limits; it goes with the next start.
    next.tiers.extend(wanted.tiers.iter().map(|(name, tier)| (name.clone(), *tier)));
    next.routing = wanted.routing.clone();
    next.routing.failover_max = in_force.routing.failover_max;
    next.routing.snapshot_interval_ms = in_force.routing.snapshot_interval_ms;
    next.rules.clone_from(&wanted.rules);
    // Sums of the day are in it, which caps hold.
    if wanted.fx.settlement_currency == in_force.fx.settlement_currency {
        next.fx = wanted.fx.clone();
    }
    next.limits = limits_of(&in_force.limits, &wanted.limits);
    next.telemetry.log.clone_from(&wanted.telemetry.log);
    for (name, channel) in &mut next.channels {
        if let Some(wanted) = wanted.channels.get(name) {
            change_channel(channel, wanted);
        }
    }
    next
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
    use crate::clock::Clock;
    use crate::gateway::Environment;
    use crate::gateway::audit::AuditFilter;
    use crate::gateway::page::PageRequest;
    use crate::random::Random;

    #[tokio::test]
    async fn a_change_that_did_not_happen_after_all_is_said_to_have_failed() {
        let directory = tempfile::tempdir().unwrap();
        let opened = config(|config| {
            config.storage.dir = directory.path().join("data");
            (config.storage.segment_bytes, config.storage.group_bytes_max) = (1 << 20, 1 << 18);
            config.storage.ballast_bytes = 0;
        });
        let variable = Box::new(|_: &str| None);
        let environment = Environment { clock: Clock::system(), random: Random::seeded(1), variable };
        let gateway = Gateway::open(opened.clone(), environment).await.unwrap();
        // No router, nobody who could put a configuration in force.
        gateway.0.supervisor.stop(std::time::Duration::from_secs(5)).await;
        let mut wanted = opened;
        wanted.channels.get_mut("stripe").unwrap().weight += 1;
        let failed = gateway.reload(&wanted, &Operator::process("signal")).await;
        assert!(matches!(failed, Err(ReloadError::Router(_))), "{failed:?}");
        let entries = gateway.audit().list(&AuditFilter::default(), &PageRequest::default()).unwrap().items;
        let actions: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(actions, ["config.reload_failed", "config.reload"]);
        gateway.stop().await.unwrap();
    }

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
            config.limits.adaptive.commit_ms = 900;
            config.limits.mailbox_max = 9;
            config.limits.lease_ms = 70_000;
            config.limits.merchants_active_max = 9;
            config.limits.external_permits_max = 9;
            config.limits.idle_ms = 9_000;
            config.limits.snapshot_interval_ms = 900;
            config.limits.near_percent = vec![50];
            config.limits.near_interval_s = 90;
            let client_address = &mut config.limits.client_address;
            client_address.enabled = false;
            (client_address.per_second, client_address.burst) = (5, 9);
            (client_address.failed_authentications_per_minute, client_address.block_s) = (5, 9);
            client_address.addresses_max = 2_048;
            client_address.exempt_networks.clear();
            config.routing.smart = false;
            config.routing.failover_max = 7;
            config.routing.baseline_channel = Some(String::from("alipay"));
            config.fx.settlement_currency = "EUR".parse().unwrap();
            config.server.body_max_bytes = 2_048;
            config.telemetry.log = String::from("debug");
            let stripe = config.channels.get_mut("stripe").unwrap();
            stripe.weight = 7;
            stripe.timeout_ms = 5_000;
            config.channels.remove("alipay");
        });
        let next = changeable(&in_force, &wanted);
        let applied = [
            "channels.stripe.weight",
            "limits.adaptive.commit_ms",
            "limits.client_address.block_s",
            "limits.client_address.burst",
            "limits.client_address.enabled",
            "limits.client_address.exempt_networks",
            "limits.client_address.failed_authentications_per_minute",
            "limits.client_address.per_second",
            "limits.near_interval_s",
            "limits.near_percent",
            "routing.baseline_channel",
            "routing.smart",
            "telemetry.log",
            "tiers.starter.per_hour",
        ];
        assert_eq!(differences(&in_force, &next), applied);
        let waiting = [
            "channels.alipay",
            "channels.stripe.timeout_ms",
            "fx.settlement_currency",
            "limits.client_address.addresses_max",
            "limits.external_permits_max",
            "limits.idle_ms",
            "limits.lease_ms",
            "limits.mailbox_max",
            "limits.merchants_active_max",
            "limits.snapshot_interval_ms",
            "routing.failover_max",
            "server.body_max_bytes",
            "tiers.premium",
        ];
        assert_eq!(differences(&next, &wanted), waiting);
        assert!(differences(&wanted, &wanted).is_empty());
    }
}
