//! The channels that are set up, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::channels::{Channel, ChannelSetupError, CredentialError, Credentials, build, default_base_url};
use crate::clock::Clock;
use crate::config::{ChannelConfig, ChannelKind, Config};
use crate::domain::ids::ChannelName;

/// Why a channel can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum ChannelsError {
    /// A credential is missing.
    #[error("channel {channel}: {source}")]
    Credential {
        /// The channel.
        channel: String,
        /// What is missing.
        source: CredentialError,
    },
    /// The adapter can't be made.
    #[error(transparent)]
    Setup(#[from] ChannelSetupError),
    /// There is no address to talk to.
    #[error("channel {0} has no base_url, and there is no sandbox for it")]
    NoAddress(String),
}

/// The channels of a gateway.
pub(crate) struct ChannelSet(BTreeMap<ChannelName, Arc<dyn Channel>>);

/// Where a built-in or separate emulator of a provider listens, and with which credentials.
pub(crate) struct SandboxAddresses {
    /// By the provider's name.
    pub(crate) urls: BTreeMap<String, String>,
}

impl ChannelSet {
    /// Sets up every configured channel. Channels with `sandbox = true` talk to the emulators.
    pub(crate) fn build(
        config: &Config,
        sandbox: &SandboxAddresses,
        environment: &dyn Fn(&str) -> Option<String>,
        clock: &Clock,
    ) -> Result<Self, ChannelsError> {
        let mut channels = BTreeMap::new();
        for (name, channel_config) in &config.channels {
            let channel = build_one(name, channel_config, sandbox, environment, clock)?;
            channels.insert(ChannelName::new(name.as_str()), channel);
        }
        Ok(Self(channels))
    }

    /// Channels that somebody else has made, by name.
    pub(crate) fn get(&self, name: &ChannelName) -> Option<&Arc<dyn Channel>> {
        self.0.get(name)
    }
}

fn build_one(
    name: &str,
    config: &ChannelConfig,
    sandbox: &SandboxAddresses,
    environment: &dyn Fn(&str) -> Option<String>,
    clock: &Clock,
) -> Result<Arc<dyn Channel>, ChannelsError> {
    let channel_name = ChannelName::new(name);
    if config.sandbox && config.kind != ChannelKind::Instant {
        let provider = provider_of(config.kind);
        let url = sandbox.urls.get(provider).ok_or_else(|| ChannelsError::NoAddress(name.to_owned()))?;
        let credentials = crate::sandbox::credentials(provider);
        return Ok(build(&channel_name, config, url, &credentials, clock.clone())?);
    }
    let credentials = Credentials::read(&config.credentials, environment)
        .map_err(|source| ChannelsError::Credential { channel: name.to_owned(), source })?;
    let base_url = match (&config.base_url, default_base_url(config.kind)) {
        (Some(configured), _) => configured.clone(),
        (None, Some(default)) => default.to_owned(),
        (None, None) if config.kind == ChannelKind::Instant => String::new(),
        (None, None) => return Err(ChannelsError::NoAddress(name.to_owned())),
    };
    Ok(build(&channel_name, config, &base_url, &credentials, clock.clone())?)
}

/// The provider whose emulator stands in for a kind of channel.
const fn provider_of(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Stripe => "stripe",
        ChannelKind::Alipay => "alipay",
        ChannelKind::Instant => "instant",
    }
}
