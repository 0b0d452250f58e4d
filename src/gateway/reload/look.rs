//! The configuration that is in force, and what another one would change, without changing anything.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::config::{Config, KeyChange, TakesEffect, effective_json, effective_toml};
use crate::gateway::Gateway;
use crate::gateway::countries::Loaded;
use crate::gateway::error::GatewayError;
use crate::gateway::reload::{LastReload, ReloadError};
use crate::gateway::routing::control::InForce;
use crate::gateway::routing::overrides::UnfitView;

/// The configuration of a running gateway.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ConfigView {
    /// All of it as it is in force, with what the admin API has changed on top; secrets are hidden.
    #[schema(value_type = Object)]
    pub config: Value,
    /// What the admin API has changed, such as `channels.stripe.weight`.
    pub overridden: Vec<String>,
    /// What of that does not fit the configuration file any more, and is not in force.
    pub unfit: Vec<UnfitView>,
    /// Keys that were changed since the start and wait for the next one.
    pub needs_restart: Vec<String>,
    /// How the last reading of the configuration went; null when there was none since the start.
    #[schema(nullable)]
    pub last_reload: Option<LastReload>,
}

/// What another configuration would change.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ConfigCheck {
    /// Every key that differs, by its path.
    pub changes: Vec<KeyChangeView>,
    /// Why nothing would be put in force without a restart; null when what can change would.
    pub refused: Option<String>,
    /// What was changed through the admin API and would not be in force on top of it.
    pub unfit: Vec<UnfitView>,
}

/// One key that differs. What is secret of its values is hidden.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct KeyChangeView {
    /// Its path.
    #[schema(example = "tiers.starter.burst")]
    pub key: String,
    /// What it is now; null when there is nothing.
    #[schema(value_type = Option<Value>)]
    pub before: Option<Value>,
    /// What it would be; null when there would be nothing.
    #[schema(value_type = Option<Value>)]
    pub after: Option<Value>,
    /// `at_once` or `at_restart`.
    #[schema(example = "at_once")]
    pub takes_effect: String,
    /// Whether the admin API has put another value on top, which stays in force.
    pub overridden: bool,
}

impl Gateway {
    /// The configuration in force.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when it can't be shown.
    pub async fn config_in_force(&self) -> Result<ConfigView, GatewayError> {
        let in_force = self.0.routing.hold().await.clone();
        let (last_reload, needs_restart) = self.0.reloads.last();
        Ok(ConfigView {
            config: effective_json(&in_force.config).map_err(not_shown)?,
            overridden: in_force.overrides.names(),
            unfit: in_force.unfit,
            needs_restart,
            last_reload,
        })
    }

    /// The configuration that the gateway goes by: the one that it was opened with and what was put in force since then. What
    /// the admin API has changed of the routing is not in it.
    pub fn settings(&self) -> Arc<Config> {
        self.0.core.settings()
    }

    /// The configuration in force as text that can be loaded again, but for what is hidden.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when it can't be shown.
    pub async fn config_text(&self) -> Result<String, GatewayError> {
        let in_force = self.0.routing.hold().await;
        effective_toml(&in_force.config).map_err(not_shown)
    }

    /// What reading the configuration again would change: with `text` in place of what is in the configuration file, if it is
    /// given. Nothing is changed.
    ///
    /// # Errors
    /// [`ReloadError::Source`] when it is not valid.
    pub async fn check_config(&self, text: Option<String>) -> Result<ConfigCheck, ReloadError> {
        let wanted = self.read_source(text).await?;
        let in_force = self.0.routing.hold().await.clone();
        let overridden = in_force.overrides.names();
        let changes = in_force.file.changes_to(&wanted)?;
        let next = in_force.file.with_changeable(&wanted);
        let refused = self.refusal(&in_force.file, &next).await.map(|error| error.to_string());
        let next = InForce::after(&in_force, next, in_force.overrides.clone());
        let refused = refused.or_else(|| self.0.routing.check_setup(&next.config).err().map(|error| error.to_string()));
        let (credentials, _) = self.0.other_credentials(&in_force.file).await?;
        // Neither can be shown.
        let waiting = |key: String| KeyChange { key, before: None, after: None, takes_effect: TakesEffect::AtRestart };
        let changes = changes.into_iter().chain(credentials.into_iter().map(waiting));
        let changes = changes.map(|change| KeyChangeView::of(change, &overridden)).collect();
        Ok(ConfigCheck { changes, refused, unfit: next.unfit })
    }

    async fn refusal(&self, in_force: &Config, next: &Config) -> Option<ReloadError> {
        if let Err(error) = next.validate_running() {
            return Some(error.into());
        }
        let database = next
            .routing
            .geoip_database
            .as_ref()
            .filter(|_| next.routing.geoip_database != in_force.routing.geoip_database);
        match database {
            Some(path) => Loaded::read(path).await.err().map(ReloadError::from),
            None => None,
        }
    }
}

impl KeyChangeView {
    /// For people and programs; `overridden` names what the admin API has changed.
    pub fn of(change: KeyChange, overridden: &[String]) -> Self {
        let is_below = |part: &String| {
            let rest = change.key.strip_prefix(part.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let takes_effect = match change.takes_effect {
            TakesEffect::AtOnce => "at_once",
            TakesEffect::AtRestart => "at_restart",
        };
        Self {
            overridden: overridden.iter().any(is_below),
            key: change.key,
            before: change.before,
            after: change.after,
            takes_effect: takes_effect.to_owned(),
        }
    }
}

fn not_shown(error: crate::config::ConfigError) -> GatewayError {
    GatewayError::Internal(error.to_string())
}
