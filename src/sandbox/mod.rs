//! The providers' emulators: for the demo, for tests, and for whoever builds an integration. Each speaks its provider's
//! own protocol on a loopback port of its own, keeps its state in memory, and misbehaves when it is told to.
//!
//! A payment's token steers what happens to it: `tok_visa` pays, `tok_declined`, `tok_insufficient_funds` and
//! `tok_stolen_card` are refused, `tok_3ds` waits for the payer on a page, `tok_processing` pays some seconds later,
//! `tok_timeout` gets no answer and nothing happens, `tok_lost_response` pays but the answer is lost, `tok_error` fails
//! before anything happens, `tok_processing_error` is refused by Stripe through a fault of its own and paid by Alipay.
//! `tok_stripe_declines:CODE[:ADVICE[:NETWORK_CODE[:NETWORK_ADVICE]]]` is refused by Stripe with these codes and paid by
//! the others, as `tok_alipay_declines:REASON` is by Alipay and `tok_paypal_declines:ISSUE` by PayPal; with
//! `CAPTURE_DECLINED`, PayPal takes it and then answers 201 to a capture that it declines.
//!
//! Time goes on in them without anybody calling: what is due happens, and is told to `<base>/callbacks/<channel>` once a
//! gateway has registered its base.

mod alipay;
mod control;
pub mod credentials;
mod crypto;
mod faults;
mod late;
mod ledger;
pub mod notify;
mod page;
mod paypal;
mod sender;
mod server;
mod stripe;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::config::FaultConfig;
use crate::random::Random;
use crate::sandbox::alipay::AlipayEmulator;
use crate::sandbox::crypto::CryptoEmulator;
use crate::sandbox::faults::Faults;
use crate::sandbox::notify::Outbox;
use crate::sandbox::paypal::PaypalEmulator;
use crate::sandbox::sender::Sender;
use crate::sandbox::server::{Emulator, Server};
use crate::sandbox::stripe::StripeEmulator;

pub use crate::sandbox::control::serve_control;
pub use crate::sandbox::faults::{FaultPatch, InvalidFault};
pub use crate::sandbox::ledger::{Ledger, LedgerEntry, LedgerOperation};

/// Objects of one kind that an emulator keeps at most; more are refused.
const OBJECTS_MAX: usize = 1_000_000;
/// A request that gets no answer is held open this long at most.
const HELD_OPEN: Duration = Duration::from_secs(60);
/// How often the emulators look for what has happened by itself.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Names of the emulated channels.
const CHANNELS: [&str; 4] = ["stripe", "paypal", "alipay", "crypto"];

/// How emulators are started.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// Faults by channel.
    pub faults: BTreeMap<String, FaultConfig>,
    /// What they take for the time.
    pub clock: Clock,
    /// Where their numbers come from.
    pub random: Random,
    /// How long what settles by itself takes for it.
    pub settle_after: Duration,
    /// Where the notifications stay that they would send of their own accord; `None` to have them sent.
    pub kept: Option<Arc<Outbox>>,
}

impl SandboxOptions {
    /// Emulators without faults.
    pub fn new(clock: Clock, random: Random) -> Self {
        Self { faults: BTreeMap::new(), clock, random, settle_after: Duration::from_secs(3), kept: None }
    }

    /// Has the notifications stay in the outbox that is returned, for whoever passes them on in a way of its own.
    pub fn keep_notifications(&mut self) -> Arc<Outbox> {
        Arc::clone(self.kept.get_or_insert_default())
    }
}

/// Why a sandbox did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No such channel.
    #[error("there is no emulator of `{0}`")]
    UnknownChannel(String),
    /// A fault that can't be had.
    #[error(transparent)]
    Invalid(#[from] InvalidFault),
    /// No address to which notifications could go.
    #[error("`url` must be {0}")]
    Callbacks(&'static str),
    /// A socket failed.
    #[error("the emulator's socket failed: {0}")]
    Io(#[from] io::Error),
}

/// Running emulators. They stop when this is dropped; [`Sandbox::stop`] also waits until they have.
pub struct Sandbox {
    channels: BTreeMap<&'static str, Running>,
    sender: Sender,
    /// Ends what lets time go on.
    _time: DropGuard,
}

struct Running {
    faults: Arc<Faults>,
    emulator: Arc<dyn Emulator>,
    server: Server,
}

impl Sandbox {
    /// Starts every emulator on a free loopback port. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SandboxError`] when a port can't be had or the faults name an unknown channel or an impossible rate.
    pub fn start(options: SandboxOptions) -> Result<Self, SandboxError> {
        if let Some(unknown) = options.faults.keys().find(|name| !CHANNELS.contains(&name.as_str())) {
            return Err(SandboxError::UnknownChannel(unknown.clone()));
        }
        let outbox = options.kept.clone().unwrap_or_default();
        let mut channels = BTreeMap::new();
        for name in CHANNELS {
            let config = options.faults.get(name).copied().unwrap_or_default();
            faults::check(&config)?;
            channels.insert(name, Running::start(name, config, &options, Arc::clone(&outbox))?);
        }
        let faults = channels.iter().map(|(name, running)| (*name, Arc::clone(&running.faults))).collect();
        // What is kept is not sent.
        let sent = if options.kept.is_some() { Arc::default() } else { outbox };
        let sender = Sender::start(sent, faults, options.clock);
        let time = CancellationToken::new();
        let emulators = channels.values().map(|running| Arc::clone(&running.emulator)).collect();
        tokio::spawn(time.clone().run_until_cancelled_owned(let_time_go_on(emulators)));
        Ok(Self { channels, sender, _time: time.drop_guard() })
    }

    /// Where notifications go from now on, those too that were not taken yet: `<url>/callbacks/<channel>`, or nowhere.
    ///
    /// # Errors
    /// [`SandboxError::Callbacks`].
    pub fn set_callbacks(&self, url: Option<&str>) -> Result<(), SandboxError> {
        let base = url.map(sender::base_of).transpose().map_err(SandboxError::Callbacks)?;
        self.sender.set_base(base);
        Ok(())
    }

    /// Where notifications go.
    pub fn callbacks(&self) -> Option<String> {
        self.sender.base().map(String::from)
    }

    /// Where each emulator listens, or would if it were not down: `http://127.0.0.1:PORT`.
    pub fn urls(&self) -> BTreeMap<String, String> {
        let url = |running: &Running| format!("http://{}", running.server.address());
        self.channels.iter().map(|(name, running)| ((*name).to_owned(), url(running))).collect()
    }

    /// An emulator's faults.
    ///
    /// # Errors
    /// [`SandboxError::UnknownChannel`].
    pub fn faults(&self, channel: &str) -> Result<FaultConfig, SandboxError> {
        Ok(self.channel(channel)?.faults.config())
    }

    /// Changes an emulator's faults and gives them all back. When it returns, `down` is so: connecting is refused and
    /// no connection is open, or connecting works again.
    ///
    /// # Errors
    /// [`SandboxError`] when the channel is unknown, the change impossible, or the port can't be listened on.
    pub async fn set_faults(&self, channel: &str, patch: FaultPatch) -> Result<FaultConfig, SandboxError> {
        let running = self.channel(channel)?;
        let config = patch.apply(running.faults.config())?;
        running.faults.set(config, patch.seed.is_some());
        running.server.set_down(config.down).await?;
        Ok(config)
    }

    /// What an emulator did with money, in order.
    ///
    /// # Errors
    /// [`SandboxError::UnknownChannel`].
    pub fn ledger(&self, channel: &str) -> Result<Vec<LedgerEntry>, SandboxError> {
        Ok(self.channel(channel)?.emulator.ledger())
    }

    /// Closes every socket and connection, gives up what is not sent yet, and waits until that is done.
    pub async fn stop(&self) {
        self.sender.stop().await;
        for running in self.channels.values() {
            running.server.stop().await;
        }
    }

    fn channel(&self, name: &str) -> Result<&Running, SandboxError> {
        self.channels.get(name).ok_or_else(|| SandboxError::UnknownChannel(name.to_owned()))
    }
}

/// What is due in the emulators happens soon after, without anybody calling.
async fn let_time_go_on(emulators: Vec<Arc<dyn Emulator>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for emulator in &emulators {
            emulator.catch_up();
        }
    }
}

impl Running {
    fn start(
        name: &str,
        config: FaultConfig,
        options: &SandboxOptions,
        outbox: Arc<Outbox>,
    ) -> Result<Self, SandboxError> {
        let faults = Arc::new(Faults::new(config));
        let (clock, random) = (options.clock.clone(), options.random.clone());
        let settle_after = options.settle_after;
        let emulator: Arc<dyn Emulator> = match name {
            "stripe" => Arc::new(StripeEmulator::new(Arc::clone(&faults), clock, random, settle_after, outbox)),
            "paypal" => {
                let made = PaypalEmulator::new(Arc::clone(&faults), clock, random, settle_after, outbox);
                Arc::new(made.map_err(io::Error::other)?)
            }
            "alipay" => {
                let made = AlipayEmulator::new(Arc::clone(&faults), clock, random, settle_after, outbox);
                Arc::new(made.map_err(io::Error::other)?)
            }
            "crypto" => Arc::new(CryptoEmulator::new(Arc::clone(&faults), options, outbox)),
            other => return Err(SandboxError::UnknownChannel(other.to_owned())),
        };
        let server = Server::start(Arc::clone(&emulator), config.down)?;
        Ok(Self { faults, emulator, server })
    }
}
