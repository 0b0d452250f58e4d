//! The configuration: typed sections, the layers that they are read from, and the rules that they must keep.
//!
//! Layers, later ones win: the `config.toml` that is built in (it documents every key), a file, environment variables,
//! flags. [`Config::load`] puts them together and checks the result; nothing here reads the process's environment.

mod change;
mod effective;
mod environment;
mod error;
mod files;
mod layers;
mod reader;
mod routing;
mod service;
mod validate;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use change::{KeyChange, TakesEffect};
pub use effective::{effective_json, effective_toml};
pub(crate) use error::toml_problem;
pub use error::{ConfigError, Problem};
pub(crate) use files::{FileWork, open_regular, read_text_within, read_within};
pub use routing::{ChannelConfig, ChannelKind, MaintenanceConfig, RoutingConfig, RoutingMode, RuleConfig, ShareConfig};
pub use service::{
    AdaptiveConfig, AdminConfig, AuthConfig, ClientAddressConfig, LimitsConfig, LogFormat, ReloadConfig,
    SecurityConfig, ServerConfig, StorageConfig, TelemetryConfig, TierConfig,
};
pub use validate::telemetry::{parse_log_filter, traces_url};
pub use work::{
    CallbacksConfig, FaultConfig, FxConfig, PaymentsConfig, PreAuthConfig, RetentionConfig, SandboxConfig,
    WebhookConfig,
};

use layers::{Layers, Source};

/// The lowest layer, which documents every key.
pub const EMBEDDED: &str = include_str!("../../config.toml");

/// Longest configuration file, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Whether real money moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Built-in emulators stand in for the providers.
    Sandbox,
    /// Real providers, real money.
    Live,
}

impl Mode {
    /// The name as it is configured.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Live => "live",
        }
    }
}

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Sandbox or live; stamped into the data directory.
    pub mode: Mode,
    /// Listeners and their bounds.
    pub server: ServerConfig,
    /// Reading it again while the gateway runs.
    pub reload: ReloadConfig,
    /// The operator's listener.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Where and how state is kept.
    pub storage: StorageConfig,
    /// Authentication of merchants.
    pub auth: AuthConfig,
    /// Limits by tier.
    pub tiers: BTreeMap<String, TierConfig>,
    /// Bounds of admission.
    pub limits: LimitsConfig,
    /// How a channel is chosen.
    pub routing: RoutingConfig,
    /// The operator's rule table, top down, first match.
    #[serde(default)]
    pub rules: Vec<RuleConfig>,
    /// Payment channels by name.
    pub channels: BTreeMap<String, ChannelConfig>,
    /// How payments are carried and unknown outcomes asked about.
    pub payments: PaymentsConfig,
    /// How money that is held first is carried.
    pub pre_auth: PreAuthConfig,
    /// What providers send of their own accord.
    pub callbacks: CallbacksConfig,
    /// How long records are kept.
    pub retention: RetentionConfig,
    /// How webhooks are sent.
    pub webhook: WebhookConfig,
    /// The built-in emulators. Not allowed in live mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxConfig>,
    /// Rates of exchange.
    pub fx: FxConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Keys that protect what is stored.
    pub security: SecurityConfig,
}

/// One value from above all files and variables, such as a flag's.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// What it is called when it is wrong, such as `--listen`.
    pub source: String,
    /// The key's path, such as `server.listen`.
    pub path: String,
    /// The value.
    pub value: toml::Value,
}

/// Where a configuration is read from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadOptions {
    /// A file above the embedded layer.
    pub file: Option<PathBuf>,
    /// What that file says, in place of what is in it; `file` is then only its name.
    pub file_text: Option<String>,
    /// Environment variables by name. Those that are not configuration are ignored.
    pub environment: Vec<(String, String)>,
    /// Single values above everything else, in their order.
    pub overrides: Vec<Override>,
    /// The channels that a program which embeds this one brings along; only those may be of kind `custom`.
    pub custom_channels: Vec<String>,
}

impl Config {
    /// Reads all layers, puts them together and checks the result.
    ///
    /// # Errors
    /// [`ConfigError::File`] when the file can't be read or is not TOML, [`ConfigError::Problems`] with everything
    /// that is unknown, of the wrong type or against a rule.
    pub fn load(options: LoadOptions) -> Result<Self, ConfigError> {
        let mut layers = embedded_layers()?;
        let given = options.file_text.is_some().then(|| PathBuf::from("the configuration file"));
        if let Some(path) = options.file.as_ref().or(given.as_ref()) {
            let unusable = |message: String| ConfigError::File { path: path.clone(), message };
            // Pipes too: it is read once.
            let read_file = || read_text_within(std::fs::File::open(path)?, FILE_BYTES_MAX);
            let text = options.file_text.map_or_else(read_file, Ok).map_err(|error| unusable(error.to_string()))?;
            let table = text.parse().map_err(|error| unusable(toml_problem(&text, &error)))?;
            layers.merge(&Source::File(path.display().to_string()), table);
        }
        for setting in environment::settings(options.environment) {
            layers.set(&Source::Variable(setting.name), &setting.path, setting.value);
        }
        for one in options.overrides {
            let path: Vec<String> = one.path.split('.').map(String::from).collect();
            layers.set(&Source::Flag(one.source), &path, one.value);
        }
        layers.drop_embedded_sandbox_in_live_mode();
        let custom: Vec<&str> = options.custom_channels.iter().map(String::as_str).collect();
        layers.read_checked(&custom)
    }

    /// The embedded defaults alone: sandbox mode, loopback addresses.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] if the embedded file is wrong, which a test rules out.
    pub fn embedded() -> Result<Self, ConfigError> {
        embedded_layers()?.read_checked(&[])
    }

    /// Checks every rule that types can't express.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with all that is wrong, each with its key and what to do.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_with(&[])
    }

    /// Whether two channels' provider may tell about one at the address of the other: they are the same, or two accounts, or
    /// two names of one account, at the same built-in kind of provider.
    pub fn is_one_provider(&self, one: &str, other: &str) -> bool {
        let kind_of = |name: &str| self.channels.get(name).map(|channel| channel.kind);
        one == other || kind_of(one).is_some_and(|kind| kind != ChannelKind::Custom && kind_of(other) == Some(kind))
    }

    /// The same for a program that brings the channels along which are named in `custom`: these have to be there, and only
    /// they may be of kind `custom`.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn validate_with(&self, custom: &[&str]) -> Result<(), ConfigError> {
        let problems = validate::problems(self, custom);
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Problems(problems)) }
    }

    /// The same for what a running gateway is to go by: its channels of kind `custom` were brought along when it was opened.
    pub(crate) fn validate_running(&self) -> Result<(), ConfigError> {
        let brought = self.channels.iter().filter(|(_, channel)| channel.kind == ChannelKind::Custom);
        let brought: Vec<&str> = brought.map(|(name, _)| name.as_str()).collect();
        self.validate_with(&brought)
    }
}

/// What is wrong with a rule on top of this configuration, each with its key inside of the rule.
pub(crate) fn rule_problems(config: &Config, rule: &RuleConfig) -> Vec<Problem> {
    validate::rule_problems(config, rule)
}

fn embedded_layers() -> Result<Layers, ConfigError> {
    let table = EMBEDDED.parse().map_err(|error| ConfigError::File {
        path: PathBuf::from("config.toml (built in)"),
        message: toml_problem(EMBEDDED, &error),
    })?;
    let mut layers = Layers::default();
    layers.merge(&Source::Embedded, table);
    Ok(layers)
}

#[cfg(test)]
mod tests;
