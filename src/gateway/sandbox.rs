//! The providers' emulators next to the gateway: started with it or found elsewhere, and told to misbehave.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::channels::{Credentials, register_callbacks, separate_sandbox_urls};
use crate::clock::Clock;
use crate::config::{ChannelKind, Config, FaultConfig, Mode, SandboxConfig};
use crate::gateway::Gateway;
use crate::gateway::error::GatewayError;
use crate::random::Random;
use crate::sandbox::{FaultPatch, LedgerEntry, Sandbox, SandboxError, SandboxOptions, credentials};

/// Why the emulators are not there.
#[derive(Debug, thiserror::Error)]
pub enum SandboxStartError {
    /// The built-in ones can't be started.
    #[error("the sandbox can't be started: {0}")]
    BuiltIn(#[from] SandboxError),
    /// The separate sandbox does not answer as one.
    #[error(
        "the sandbox at {url} does not answer ({reason}); start it with `tollgate sandbox`, or take [sandbox] url away"
    )]
    Separate {
        /// Where it should be.
        url: String,
        /// What went wrong.
        reason: String,
    },
}

/// The built-in emulators, for the operator to look into and to disturb.
pub struct SandboxControl(Arc<Sandbox>);

/// The emulators that the channels talk to.
pub(super) struct Emulators {
    /// Where each listens, by provider.
    pub(super) urls: BTreeMap<String, String>,
    /// The built-in ones, if it is them.
    pub(super) built_in: Option<Arc<Sandbox>>,
}

impl Emulators {
    /// Starts the built-in emulators, or finds the separate ones; neither in live mode.
    pub(super) async fn start(config: &Config, clock: &Clock, random: &Random) -> Result<Self, SandboxStartError> {
        let Some(settings) = settings_in(config) else {
            return Ok(Self { urls: BTreeMap::new(), built_in: None });
        };
        if let Some(url) = &settings.url {
            let urls = separate_sandbox_urls(url, clock.clone())
                .await
                .map_err(|reason| SandboxStartError::Separate { url: url.clone(), reason })?;
            return Ok(Self { urls, built_in: None });
        }
        let options =
            SandboxOptions { faults: settings.faults.clone(), ..SandboxOptions::new(clock.clone(), random.clone()) };
        let sandbox = Arc::new(Sandbox::start(options)?);
        Ok(Self { urls: sandbox.urls(), built_in: Some(sandbox) })
    }
}

/// What is said about the emulators, if there are to be any.
fn settings_in(config: &Config) -> Option<&SandboxConfig> {
    let needed = config.channels.values().any(|channel| channel.sandbox && channel.kind != ChannelKind::Instant);
    config.sandbox.as_ref().filter(|_| needed && config.mode == Mode::Sandbox)
}

impl Gateway {
    /// Tells the emulators where the merchants' listener is, so that their notifications come to
    /// `<base>/callbacks/<channel>`. Does nothing where there are no emulators.
    ///
    /// # Errors
    /// Why they can't be told.
    pub async fn register_callbacks(&self, base: &str) -> Result<(), String> {
        if let Some(SandboxControl(sandbox)) = self.sandbox() {
            return sandbox.set_callbacks(Some(base)).map_err(|error| error.to_string());
        }
        match settings_in(self.config()).and_then(|settings| settings.url.as_deref()) {
            Some(url) => register_callbacks(url, base, self.clock().clone()).await,
            None => Ok(()),
        }
    }
}

/// The provider whose emulator stands in for a kind of channel.
pub(super) const fn provider_of(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Stripe => "stripe",
        ChannelKind::Paypal => "paypal",
        ChannelKind::Alipay => "alipay",
        ChannelKind::Btcpay => "crypto",
        ChannelKind::Instant => "instant",
        ChannelKind::Custom => "custom",
    }
}

/// What an emulator takes for credentials.
pub(super) fn credentials_of(kind: ChannelKind) -> Credentials {
    Credentials::new(credentials::of(kind))
}

impl SandboxControl {
    pub(super) fn new(sandbox: Arc<Sandbox>) -> Self {
        Self(sandbox)
    }

    pub(super) async fn stop(&self) {
        self.0.stop().await;
    }

    /// How an emulator misbehaves.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn faults(&self, channel: &str) -> Result<FaultConfig, GatewayError> {
        self.0.faults(channel).map_err(refused)
    }

    /// Changes what `patch` names and answers with all of it.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], or [`GatewayError::InvalidRequest`] for unknown fields and impossible rates.
    pub async fn set_faults(&self, channel: &str, patch: serde_json::Value) -> Result<FaultConfig, GatewayError> {
        let patch: FaultPatch =
            serde_json::from_value(patch).map_err(|error| GatewayError::field("body", error.to_string()))?;
        self.0.set_faults(channel, patch).await.map_err(refused)
    }

    /// What an emulator did with money, in order.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn ledger(&self, channel: &str) -> Result<Vec<LedgerEntry>, GatewayError> {
        self.0.ledger(channel).map_err(refused)
    }
}

fn refused(error: SandboxError) -> GatewayError {
    match error {
        SandboxError::UnknownChannel(_) => GatewayError::NotFound("emulator"),
        SandboxError::Invalid(invalid) => GatewayError::field(invalid.field, invalid.to_string()),
        SandboxError::Callbacks(expected) => GatewayError::field("url", format!("must be {expected}")),
        SandboxError::Io(error) => GatewayError::Internal(format!("an emulator's socket: {error}")),
    }
}
