//! The channels that are set up, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::channels::{Capabilities, Channel, ChannelSetupError, CredentialError, Credentials, CurrencySupport, build};
use crate::clock::Clock;
use crate::config::{ChannelConfig, ChannelKind, Config};
use crate::domain::ids::ChannelName;
use crate::domain::routing::RoutingSetup;
use crate::gateway::sandbox::{credentials_of, provider_of};

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

impl ChannelSet {
    /// Sets up every configured channel. Channels with `sandbox = true` talk to the emulators at `sandbox_urls`.
    pub(crate) fn build(
        config: &Config,
        sandbox_urls: &BTreeMap<String, String>,
        variable: &dyn Fn(&str) -> Option<String>,
        clock: &Clock,
    ) -> Result<BTreeMap<ChannelName, Arc<dyn Channel>>, ChannelsError> {
        let mut channels = BTreeMap::new();
        for (name, channel_config) in &config.channels {
            let channel = build_one(name, channel_config, sandbox_urls, variable, clock)?;
            channels.insert(ChannelName::new(name.as_str()), channel);
        }
        Ok(channels)
    }

    /// These channels.
    pub(crate) fn new(channels: BTreeMap<ChannelName, Arc<dyn Channel>>) -> Self {
        Self(channels)
    }

    /// Channels that a test has made.
    #[cfg(test)]
    pub(crate) fn of(channels: impl IntoIterator<Item = (&'static str, Arc<dyn Channel>)>) -> Self {
        Self(channels.into_iter().map(|(name, channel)| (ChannelName::new(name), channel)).collect())
    }

    /// What each channel can do.
    pub(crate) fn abilities(&self) -> BTreeMap<ChannelName, Capabilities> {
        self.0.iter().map(|(name, channel)| (name.clone(), channel.capabilities())).collect()
    }

    /// Leaves in a setup what the adapters can do: what is not configured is all that they can, what is configured is
    /// only what they can.
    pub(crate) fn narrow(&self, setup: &mut RoutingSetup) {
        for facts in &mut setup.channels {
            let Some(channel) = self.0.get(&facts.name) else { continue };
            let supported = channel.currencies();
            match supported {
                CurrencySupport::Listed(codes) if facts.currencies.is_empty() => {
                    facts.currencies = codes.iter().filter_map(|code| code.parse().ok()).collect();
                }
                _ => facts.currencies.retain(|currency| supported.contains(*currency)),
            }
            if facts.methods.is_empty() {
                facts.methods = channel.methods().iter().map(ToString::to_string).collect();
            }
        }
    }

    /// The channels whose provider does not know this token, so that it is not shown to them.
    pub(crate) fn refusing(&self, token: Option<&str>) -> Vec<ChannelName> {
        let Some(token) = token else { return Vec::new() };
        let refusing = self.0.iter().filter(|(_, channel)| !channel.takes_token(token));
        refusing.map(|(name, _)| name.clone()).collect()
    }

    /// Whether one of these channels (of all, if none is named) knows this token. Without any that is set up it is not
    /// the token that is wrong.
    pub(crate) fn any_takes(&self, token: &str, names: &[ChannelName]) -> bool {
        let mut asked = self.0.iter().filter(|(name, _)| names.is_empty() || names.contains(name)).peekable();
        asked.peek().is_none() || asked.any(|(_, channel)| channel.takes_token(token))
    }

    /// One channel.
    pub(crate) fn get(&self, name: &ChannelName) -> Option<&Arc<dyn Channel>> {
        self.0.get(name)
    }
}

fn build_one(
    name: &str,
    config: &ChannelConfig,
    sandbox_urls: &BTreeMap<String, String>,
    variable: &dyn Fn(&str) -> Option<String>,
    clock: &Clock,
) -> Result<Arc<dyn Channel>, ChannelsError> {
    let channel_name = ChannelName::new(name);
    if config.kind == ChannelKind::Instant {
        return Ok(build(&channel_name, config, "", &Credentials::default(), clock.clone())?);
    }
    if config.sandbox {
        let no_address = || ChannelsError::NoAddress(name.to_owned());
        let url = sandbox_urls.get(provider_of(config.kind)).ok_or_else(no_address)?;
        return Ok(build(&channel_name, config, url, &credentials_of(config.kind), clock.clone())?);
    }
    let credentials = Credentials::read(&config.credentials, variable)
        .map_err(|source| ChannelsError::Credential { channel: name.to_owned(), source })?;
    let base_url = config.base_url.as_ref().ok_or_else(|| ChannelsError::NoAddress(name.to_owned()))?;
    Ok(build(&channel_name, config, base_url, &credentials, clock.clone())?)
}
