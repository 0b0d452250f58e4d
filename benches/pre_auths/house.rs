//! A gateway in this process with its HTTP server, a real store in a directory of its own, and one channel.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tollgate::api::Api;
use tollgate::channels::{Channel, Credentials, build};
use tollgate::clock::Clock;
use tollgate::config::{ChannelKind, Config};
use tollgate::delivery::client::{DeliverySettings, HttpDelivery};
use tollgate::domain::audit::Operator;
use tollgate::domain::ids::ChannelName;
use tollgate::domain::merchant::LimitOverrides;
use tollgate::gateway::Gateway;
use tollgate::gateway::command::CreateMerchant;
use tollgate::gateway::outside::{DiskWork, MasterKey, Outside};
use tollgate::random::Random;
use tollgate::sandbox::{Sandbox, SandboxOptions, credentials};
use tollgate::storage::Store;
use tollgate::storage::engine::Engine;
use tollgate::storage::whole_file::DirectoryFiles;

use crate::timed::Timed;

/// The only channel there is.
pub const CHANNEL: &str = "stripe";
/// More than is ever at once.
const CONCURRENT_MAX: u32 = 100_000;

/// Who holds the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nobody: the answer is there at once.
    Instant,
    /// The Stripe adapter and its emulator.
    StripeEmulator,
}

impl Over {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Instant => "a channel of kind `instant`",
            Self::StripeEmulator => "the Stripe adapter and its emulator, latency 0",
        }
    }

    const fn kind(self) -> ChannelKind {
        match self {
            Self::Instant => ChannelKind::Instant,
            Self::StripeEmulator => ChannelKind::Stripe,
        }
    }
}

/// See the module.
pub struct House {
    gateway: Gateway,
    /// The channel, which both the gateway and the bare loop call.
    pub channel: Arc<dyn Channel>,
    pub timed: Arc<Timed>,
    pub address: SocketAddr,
    pub merchant_id: String,
    pub key_id: String,
    pub secret: String,
    /// Answers that said that there is no room at the moment.
    pub come_again: AtomicU64,
    shutdown: CancellationToken,
    api: Api,
    _sandbox: Sandbox,
}

impl House {
    pub async fn open(directory: &Path, over: Over) -> Self {
        let clock = Clock::system();
        let sandbox = Sandbox::start(SandboxOptions::new(clock.clone(), Random::from_os())).expect("emulators");
        let config = config(directory, over);
        let storage = config.storage.clone();
        let opening = {
            let clock = clock.clone();
            move || Engine::open_dir_by(&storage, clock).expect("a store")
        };
        let engine = Arc::new(tokio::task::spawn_blocking(opening).await.expect("an opening"));
        let name = ChannelName::new(CHANNEL);
        let given = Credentials::new(credentials::of(over.kind()));
        let url = &sandbox.urls()[CHANNEL];
        let channel = build(&name, &config.channels[CHANNEL], url, &given, clock.clone()).expect("a channel");
        let timed = Timed::new(Arc::clone(&channel));
        let deliver = HttpDelivery::new(DeliverySettings::from(&config.webhook)).expect("a sender");
        let outside = Outside {
            store: engine as Arc<dyn Store>,
            master_key: MasterKey::Given([7; 32]),
            windows: Arc::new(DirectoryFiles::new(&config.storage.dir)),
            disk_work: DiskWork::Threads,
            channels: BTreeMap::from([(name, Arc::clone(&timed) as Arc<dyn Channel>)]),
            deliver: Arc::new(deliver),
            admin_tokens: Vec::new(),
        };
        let assembled = Box::pin(Gateway::assemble(config, clock, Random::from_os(), outside)).await;
        let gateway = assembled.expect("a gateway");
        let made = gateway.merchants().create(merchant(), &Operator::process("bench")).await.expect("a merchant");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let admin_listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let shutdown = CancellationToken::new();
        let api = Api::start(gateway.clone(), listener, admin_listener, shutdown.clone()).expect("a server");
        Self {
            gateway,
            channel,
            timed,
            address,
            merchant_id: made.merchant.merchant_id,
            key_id: made.key.id,
            secret: made.key.secret,
            come_again: AtomicU64::new(0),
            shutdown,
            api,
            _sandbox: sandbox,
        }
    }

    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.api.drained().await;
        self.gateway.stop().await.expect("a stop in order");
    }
}

/// The embedded configuration with a single channel, and more of what a single key is not meant to have for long.
fn config(directory: &Path, over: Over) -> Config {
    let mut config = Config::embedded().expect("a configuration");
    directory.clone_into(&mut config.storage.dir);
    config.auth.nonces_max = 64_000_000;
    config.limits.adaptive.enabled = false;
    config.channels.retain(|name, _| name == CHANNEL);
    if let Some(channel) = config.channels.get_mut(CHANNEL) {
        channel.kind = over.kind();
        channel.caps.concurrent = CONCURRENT_MAX;
    }
    CHANNEL.clone_into(&mut config.routing.default_channel);
    config
}

/// A merchant that no limit stops.
fn merchant() -> CreateMerchant {
    let limits = LimitOverrides {
        per_second: Some(CONCURRENT_MAX),
        per_minute: Some(u32::MAX),
        per_hour: Some(u32::MAX),
        burst: Some(CONCURRENT_MAX),
        concurrent: Some(CONCURRENT_MAX),
    };
    CreateMerchant {
        name: "Hotel".to_owned(),
        tier: "premium".to_owned(),
        country: None,
        limits: Some(limits),
        channels: None,
    }
}
