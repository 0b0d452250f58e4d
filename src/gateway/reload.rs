//! Another configuration for a gateway that runs: what can change is put in force, what can't is named.

mod look;
mod status;

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::router::{InvalidRouting, RouterError};
use crate::config::{Config, ConfigError, TakesEffect};
use crate::domain::audit::{Change, Operator};
use crate::domain::ids::ChannelName;
use crate::gateway::countries::{InvalidCountries, Loaded};
use crate::gateway::error::GatewayError;
use crate::gateway::routing::control::InForce;
use crate::gateway::routing::overrides::UnfitView;
use crate::gateway::{Gateway, Inner, limit_events};
use crate::storage::StoreError;

pub use look::{ConfigCheck, ConfigView, KeyChangeView};
pub use status::LastReload;
pub(crate) use status::Reloads;

/// What became of a new configuration. Keys are written as `section.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// Keys whose new values are in force now.
    pub applied: Vec<String>,
    /// Keys whose new values wait for the next start.
    pub needs_restart: Vec<String>,
    /// What was changed through the admin API, does not fit the configuration any more, and is not in force.
    pub unfit: Vec<UnfitView>,
    /// Files behind the configuration that have changed and can't be used: what was read of them before stays in use.
    pub refused: Vec<RefusedFileView>,
}

/// A certificate, its key, the country database or a channel's credentials that can't be used as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RefusedFileView {
    /// The key that names the file.
    #[schema(example = "server.tls_certificate")]
    pub key: String,
    /// What is wrong, in one sentence with the key and the file.
    pub problem: String,
}

impl RefusedFileView {
    fn new(key: &str, problem: impl ToString) -> Self {
        Self { key: key.to_owned(), problem: problem.to_string() }
    }
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
    /// Puts in force what of a valid configuration can change while the gateway runs ([`Config::with_changeable`]), and finds
    /// credentials that were missing. The level of logs is the embedder's to change. What changes is written into the audit
    /// before it is in force; if it could not be put in force after all, so is that.
    ///
    /// It goes on when this future is dropped: a part of a configuration is none.
    ///
    /// # Errors
    /// [`ReloadError`]; then everything is as it was.
    pub async fn reload(&self, wanted: &Config, by: &Operator) -> Result<Reloaded, ReloadError> {
        let (inner, wanted, by) = (Arc::clone(&self.0), wanted.clone(), by.clone());
        let work = async move {
            let reloaded = inner.put_in_force(&wanted, &by).await;
            inner.reloads.note(inner.core.clock.now(), &by, &reloaded);
            reloaded
        };
        self.0.core.carry(Box::pin(work)).await
    }
}

/// Where a running gateway finds its configuration again, when the operator asks for that.
pub trait ConfigSource: Send + Sync + 'static {
    /// Reads all layers again. May block.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    fn read(&self) -> Result<Config, String>;

    /// Reads all layers again, with `text` in place of what is in the configuration file. May block.
    ///
    /// # Errors
    /// What is wrong with them, in words; that it can't, where there is no file.
    fn read_with(&self, text: &str) -> Result<Config, String> {
        let _ = text;
        Err(String::from("this gateway was not started from a configuration file"))
    }

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
        self.reload_from(None, by).await
    }

    /// The same with `text` for what is in the configuration file, or why what is in it is not to be used.
    ///
    /// # Errors
    /// [`ReloadError`]; then everything is as it was.
    pub(crate) async fn reload_from_text(
        &self,
        text: Result<String, String>,
        by: &Operator,
    ) -> Result<Reloaded, ReloadError> {
        self.reload_from(Some(text), by).await
    }

    async fn reload_from(&self, text: Option<Result<String, String>>, by: &Operator) -> Result<Reloaded, ReloadError> {
        let (gateway, by) = (self.clone(), by.clone());
        let work = async move {
            let reloaded = Box::pin(gateway.read_and_put_in_force(text, &by)).await;
            // Where there is nothing to read, nothing was tried.
            if !matches!(reloaded, Err(ReloadError::Gateway(GatewayError::NotFound(_)))) {
                gateway.0.reloads.note(gateway.0.core.clock.now(), &by, &reloaded);
            }
            reloaded
        };
        self.0.core.carry(Box::pin(work)).await
    }

    async fn read_and_put_in_force(
        &self,
        text: Option<Result<String, String>>,
        by: &Operator,
    ) -> Result<Reloaded, ReloadError> {
        let text = text.transpose().map_err(ReloadError::Source)?;
        let wanted = self.read_source(text).await?;
        let reloaded = self.0.put_in_force(&wanted, by).await?;
        if let Some(source) = self.0.config_source.get() {
            source.has_changed(&wanted, &reloaded);
        }
        Ok(reloaded)
    }

    /// All layers as they are now, with `text` in place of what is in the file if it is given.
    async fn read_source(&self, text: Option<String>) -> Result<Config, ReloadError> {
        let inner = Arc::clone(&self.0);
        let read = self.0.on_files(move || {
            let Some(source) = inner.config_source.get() else {
                return Err(GatewayError::NotFound("configuration to read again").into());
            };
            let read = text.map_or_else(|| source.read(), |text| source.read_with(&text));
            read.map_err(ReloadError::Source)
        });
        read.await?
    }
}

impl Inner {
    async fn put_in_force(&self, wanted: &Config, by: &Operator) -> Result<Reloaded, ReloadError> {
        let mut reloaded = self.change_to(wanted, by).await?;
        // Last: a configuration that is refused changes nothing at all.
        let looks = self.core.stopping.run_until_cancelled(self.look_at_files());
        reloaded.refused.extend(looks.await.unwrap_or_default());
        Ok(reloaded)
    }

    /// Takes up what is in files that the configuration names: other content is no change of it. Says which can't be used.
    async fn look_at_files(&self) -> Vec<RefusedFileView> {
        let countries = self.core.countries.look_again(true).await;
        let certificates = self.certificates.look_again().await;
        let countries = countries.iter().map(|problem| RefusedFileView::new("routing.geoip_database", problem));
        countries.chain(certificates.iter().map(|problem| RefusedFileView::new(problem.key(), problem))).collect()
    }

    /// Does what may wait for files, for as long as that is bearable and the gateway does not stop.
    async fn on_files<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReloadError> {
        let done = self.core.stopping.run_until_cancelled(self.reloads.files.run(work)).await;
        done.unwrap_or_else(|| Err(String::from("the gateway stops")))
            .map_err(|problem| ReloadError::Source(format!("the configuration can't be read: {problem}")))
    }

    /// The keys of credentials that changed since a channel took them, which wait for the next start, and which of them can't
    /// be read, so that this start would leave the channel out, or be refused.
    async fn other_credentials(&self, file: &Config) -> Result<(Vec<String>, Vec<RefusedFileView>), ReloadError> {
        let (routing, file) = (self.routing.clone(), file.clone());
        let changed = self.on_files(move || routing.with_other_credentials(&file)).await?;
        let unreadable = changed.iter().filter_map(|(channel, problem)| {
            let key = credentials_key(channel);
            problem.as_ref().map(|problem| RefusedFileView::new(&key, format!("{key}: {problem}")))
        });
        Ok((changed.iter().map(|(channel, _)| credentials_key(channel)).collect(), unreadable.collect()))
    }

    /// [`Inner::other_credentials`], and the channels whose credentials were missing and are there now.
    async fn look_for_credentials(&self) -> Result<(Vec<String>, Vec<RefusedFileView>, Vec<ChannelName>), ReloadError> {
        let file = self.routing.hold().await.file.clone();
        let (others, refused) = self.other_credentials(&file).await?;
        let routing = self.routing.clone();
        let found = self.on_files(move || routing.find_credentials(&file)).await?;
        Ok((others, refused, found))
    }

    async fn change_to(&self, wanted: &Config, by: &Operator) -> Result<Reloaded, ReloadError> {
        // Before anything is held that others wait for. What names credentials does not change while the gateway runs.
        let (other_credentials, refused, found) = Box::pin(self.look_for_credentials()).await?;
        let mut in_force = self.routing.hold().await;
        let next = in_force.file.with_changeable(wanted);
        let (mut applied, mut needs_restart) = keys_of(&in_force.file, wanted)?;
        needs_restart.extend(other_credentials);
        applied.extend(found.iter().map(credentials_key));
        let unfit = in_force.unfit.clone();
        let mut reloaded = Reloaded { applied, needs_restart, unfit, refused };
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
        self.core.reloaded.put(in_force.file.clone());
        self.webhooks.configure(&in_force.file.webhook);
        reloaded.unfit.clone_from(&in_force.unfit);
        Ok(reloaded)
    }
}

/// What a channel's credentials are called as a whole.
fn credentials_key(channel: &ChannelName) -> String {
    format!("channels.{channel}.credentials")
}

/// The keys that can change at once and those that wait for the next start.
fn keys_of(in_force: &Config, wanted: &Config) -> Result<(Vec<String>, Vec<String>), ConfigError> {
    let changes = in_force.changes_to(wanted)?.into_iter().map(|change| (change.takes_effect, change.key));
    let (at_once, waiting): (Vec<_>, Vec<_>) = changes.partition(|(when, _)| *when == TakesEffect::AtOnce);
    let keys = |of: Vec<(TakesEffect, String)>| of.into_iter().map(|(_, key)| key).collect();
    Ok((keys(at_once), keys(waiting)))
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
}
