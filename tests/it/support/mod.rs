//! A whole gateway on free ports and a temporary directory, clients that sign, and a receiver that can be scripted.

mod browser;
mod client;
mod logs;
mod receiver;
pub mod schema;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tollgate::api::Api;
use tollgate::clock::Clock;
use tollgate::config::Config;
use tollgate::gateway::{Environment, Gateway, OpenError};
use tollgate::random::Random;
use tollgate::storage::engine::{Engine, EngineOptions, Parts, SegmentsBy};
use tollgate::storage::files::DiskFiles;
use tollgate::storage::keeper::GrowthOptions;
use tollgate::storage::retirement::KeepRule;
use tollgate::storage::sled_index::SledHome;

pub use browser::Browser;
pub use client::{Answer, Client, Key, http_client, nonce, send, unix_s};
pub use logs::LogBook;
pub use receiver::{Delivery, Receiver};

/// A running gateway.
pub struct House {
    pub gateway: Gateway,
    pub url: String,
    pub admin_url: String,
    pub admin_token: String,
    pub directory: TempDir,
    http: reqwest::Client,
    api: Api,
    shutdown: CancellationToken,
}

/// The embedded configuration with short waits, so that what is asked for again is asked for soon.
pub fn quick_config() -> Config {
    let mut config = Config::embedded().unwrap();
    config.payments.resolve_first_ms = 20;
    config.payments.resolve_early_max_ms = 100;
    config.payments.settling_ms = 1_000;
    config.storage.segment_bytes = 4 * 1024 * 1024;
    config.storage.group_bytes_max = 1024 * 1024;
    config.storage.ballast_bytes = 0;
    config.storage.cache_bytes = 16 * 1024 * 1024;
    config.webhook.allowed_private_networks = vec!["127.0.0.0/8".parse().unwrap()];
    config.webhook.schedule_s = vec![0, 1, 1];
    config.webhook.breaker_open_s = 1;
    for channel in config.channels.values_mut() {
        channel.timeout_ms = 1_000;
    }
    // However slow the machine is that runs the tests.
    config.limits.adaptive.enabled = false;
    config
}

/// Nobody asks a provider of his own accord within a day.
pub fn without_polling(config: &mut Config) {
    const DAY_MS: u64 = 86_400_000;
    config.payments.resolve_first_ms = DAY_MS;
    config.payments.resolve_early_max_ms = DAY_MS;
}

impl House {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::start_in(directory, change).await
    }

    /// With no other channel than Stripe and Alipay: one for cards, one that is local to China.
    pub async fn start_with_two(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_with(|config| {
            config.channels.retain(|name, _| matches!(name.as_str(), "stripe" | "alipay"));
            change(config);
        })
        .await
    }

    /// Opens a gateway without listeners, or does not.
    pub async fn open(data_directory: &Path, change: impl FnOnce(&mut Config)) -> Result<Gateway, OpenError> {
        Self::open_by(Clock::system(), data_directory, change).await
    }

    /// The same with another clock.
    pub async fn open_by(
        clock: Clock,
        data_directory: &Path,
        change: impl FnOnce(&mut Config),
    ) -> Result<Gateway, OpenError> {
        let mut config = quick_config();
        change(&mut config);
        config.storage.dir = data_directory.to_owned();
        let environment = Environment { clock, random: Random::from_os(), variable: Box::new(|_| None) };
        Gateway::open(config, environment).await
    }

    /// Starts on a directory that an earlier gateway has left.
    pub async fn start_in(directory: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(directory, Clock::system(), change).await
    }

    /// The same, at another time than now.
    pub async fn start_at(directory: TempDir, clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let gateway = Self::open_by(clock, &directory.path().join("data"), change).await.unwrap();
        Self::serving(gateway, directory).await
    }

    /// A gateway that was opened on `data` in this directory.
    pub async fn serving(gateway: Gateway, directory: TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let admin_url = format!("http://{}", admin_listener.local_addr().unwrap());
        let admin_token = gateway.admin_tokens()[0].secret.clone();
        let shutdown = CancellationToken::new();
        let api = Api::start(gateway.clone(), listener, admin_listener, shutdown.clone()).unwrap();
        Self { gateway, url, admin_url, admin_token, directory, http: http_client(), api, shutdown }
    }

    /// Stops in order and gives the directory back, for another start.
    pub async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.api.drained().await;
        self.gateway.stop().await.unwrap();
        self.directory
    }

    /// A new merchant of a tier.
    pub async fn merchant(&self, tier: &str) -> Client {
        self.merchant_with(serde_json::json!({ "name": format!("a {tier} shop"), "tier": tier })).await
    }

    /// A new merchant of the tier `business` with limits of its own.
    pub async fn merchant_limited(&self, limits: serde_json::Value) -> Client {
        self.merchant_with(serde_json::json!({ "name": "a shop", "tier": "business", "limits": limits })).await
    }

    /// A new merchant as described.
    pub async fn merchant_with(&self, body: serde_json::Value) -> Client {
        let answer = self.admin("POST", "/admin/v1/merchants", Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let data = &answer.body["data"];
        let key = Key {
            id: data["key"]["id"].as_str().unwrap().to_owned(),
            secret: data["key"]["secret"].as_str().unwrap().to_owned(),
        };
        Client::with_clock(&self.url, key, data["merchant_id"].as_str().unwrap(), self.gateway.clock().clone())
    }

    /// One request of the operator.
    pub async fn admin(&self, method: &str, path: &str, body: Option<serde_json::Value>) -> Answer {
        let bearer = format!("Bearer {}", self.admin_token);
        let headers = HashMap::from([("authorization".to_owned(), bearer)]);
        self.admin_as(method, path, body, headers).await
    }

    /// One request to the operator's listener with these headers.
    pub async fn admin_as(
        &self,
        method: &str,
        path: &str,
        body: Option<serde_json::Value>,
        headers: HashMap<String, String>,
    ) -> Answer {
        client::send(&self.http, &self.admin_url, method, path, body.map(|body| body.to_string()), headers).await
    }

    /// Tells a built-in emulator to misbehave.
    pub async fn disturb(&self, channel: &str, faults: serde_json::Value) {
        let answer = self.admin("PUT", &format!("/admin/v1/sandbox/{channel}"), Some(faults)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// What an emulator says it did for a reference.
    pub async fn ledger(&self, channel: &str, reference: &str) -> Vec<serde_json::Value> {
        let answer = self.admin("GET", &format!("/admin/v1/sandbox/{channel}/ledger"), None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let items = answer.body["data"]["items"].as_array().cloned().unwrap();
        items.into_iter().filter(|item| item["reference"] == reference).collect()
    }

    /// All charges of a reference in all emulators.
    pub async fn charges(&self, reference: &str) -> usize {
        let mut charges = 0;
        for channel in ["stripe", "paypal", "alipay", "crypto"] {
            let items = self.ledger(channel, reference).await;
            charges += items.iter().filter(|item| item["operation"] == "charge").count();
        }
        charges
    }
}

/// The store of a gateway that was stopped.
pub fn open_store(data_directory: &Path) -> Engine {
    let mut storage = quick_config().storage;
    storage.dir = data_directory.to_owned();
    Engine::open_dir(&storage).unwrap()
}

/// Makes a base of a store that was stopped more than once, and lets all of the journal go that is in it.
pub fn make_base(data_directory: &Path, clock: Clock) {
    let storage = quick_config().storage;
    let keep = KeepRule { age: Duration::ZERO, bytes_max: 0 };
    let growth = GrowthOptions { base_bytes: 1, keep, ..GrowthOptions::UNBOUNDED };
    let options = EngineOptions { growth, ..EngineOptions::from_config(&storage) };
    let home = SledHome::new(data_directory.join("index"), storage.cache_bytes);
    let files = Arc::new(DiskFiles::new(data_directory));
    let mut parts = Parts::open(files, &home, &options, Random::from_os(), SegmentsBy::Committer, clock).unwrap();
    let before = parts.status.base();
    parts.applier.turn(true).unwrap();
    parts.keeper.turn(&mut || true).unwrap();
    assert_ne!(parts.status.base(), before, "there is a segment to shorten the journal by");
    parts.view.index().close();
}

/// Asks until `found` says yes; fails the test when it does not within ten seconds.
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    for _ in 0..500 {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not happen within ten seconds");
}
