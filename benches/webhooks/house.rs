//! A gateway in this process, with a real store in a directory of its own and the real sender, and the events that it sends.
//! They are committed here, some at a time, because payments alone are not made as fast as webhooks go out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::value::RawValue;
use tollgate::channels::{Credentials, build};
use tollgate::clock::Clock;
use tollgate::config::{ChannelKind, Config};
use tollgate::delivery::client::{DeliverySettings, HttpDelivery};
use tollgate::domain::audit::Operator;
use tollgate::domain::event::{Event, EventName};
use tollgate::domain::ids::{ChannelName, EndpointId, EventId, MerchantId, sortable_id};
use tollgate::domain::money::Currency;
use tollgate::gateway::Gateway;
use tollgate::gateway::command::CreateMerchant;
use tollgate::gateway::error::GatewayError;
use tollgate::gateway::outside::{DiskWork, MasterKey, Outside};
use tollgate::gateway::webhooks::{CreateEndpoint, SettableStatus, UpdateEndpoint};
use tollgate::random::Random;
use tollgate::storage::engine::Engine;
use tollgate::storage::whole_file::DirectoryFiles;
use tollgate::storage::{Batch, Store, StoreError};

/// What every body begins with; behind it stands its number in [`NUMBER_DIGITS`] digits.
pub const BODY_START: &str = r#"{"event":"payment.success","payment_no":""#;
/// See [`BODY_START`].
pub const NUMBER_DIGITS: usize = 20;
/// Endpoints that are made or changed at once.
const AT_ONCE: usize = 64;
/// Events of one commit, when there are many.
pub const EVENTS_A_COMMIT: usize = 100;
/// Commits under way at once, when there are many.
const COMMITS_AT_ONCE: usize = 8;
/// Wait before what the store had no room for is tried again.
const NO_ROOM_WAIT: Duration = Duration::from_millis(5);
/// Longest wait until the index has everything.
const APPLIED_WITHIN: Duration = Duration::from_secs(120);

/// An endpoint and whose it is.
#[derive(Clone, Debug)]
pub struct Hook {
    pub merchant_id: MerchantId,
    pub endpoint_id: EndpointId,
}

/// See the module.
pub struct House {
    pub gateway: Gateway,
    pub engine: Arc<Engine>,
    clock: Clock,
}

/// The embedded configuration, with its store in `directory`, and webhooks that may go to this machine.
pub fn config(directory: &Path) -> Config {
    let mut config = Config::embedded().expect("a configuration");
    config.storage.dir = directory.to_owned();
    config.webhook.allowed_private_networks = vec!["127.0.0.0/8".parse().expect("a network")];
    config.limits.adaptive.enabled = false;
    for channel in config.channels.values_mut() {
        channel.kind = ChannelKind::Instant;
    }
    config
}

/// The body of an event.
pub fn body(number: u64) -> String {
    format!(
        "{BODY_START}{number:020}\",\"order_no\":\"ORDER-2025-{number:010}\",\"amount\":{},\"currency\":\"USD\",\
         \"status\":\"success\",\"timestamp\":1737714645,\"extra\":{{\"channel\":\"stripe\",\"method\":\"card\",\
         \"channel_order_no\":\"pi_3QkZ8f2eZvKYlo2C1aBcDeFg\",\"refunded_amount\":0,\"description\":\"2 tickets, row 14\",\
         \"metadata\":{{\"cart\":\"b7d1a9c24f\",\"campaign\":\"spring\"}},\"sequence\":1}}}}",
        amount_of(number)
    )
}

/// Of all classes.
fn amount_of(number: u64) -> i64 {
    i64::try_from(number.wrapping_mul(7_919) % 2_000_000 + 1).unwrap_or(1)
}

impl House {
    /// Opens it, with all that an earlier one has left in its directory. Within a runtime.
    pub async fn open(config: Config) -> Self {
        let clock = Clock::system();
        let storage = config.storage.clone();
        let opening = {
            let clock = clock.clone();
            move || Engine::open_dir_by(&storage, clock).expect("a store")
        };
        let engine = Arc::new(tokio::task::spawn_blocking(opening).await.expect("an opening"));
        let deliver = HttpDelivery::new(DeliverySettings::from(&config.webhook)).expect("a sender");
        let channels = config.channels.iter().map(|(name, channel)| {
            let name = ChannelName::new(name.as_str());
            let credentials = Credentials::new([("unused", "unused")]);
            let built = build(&name, channel, "", &credentials, clock.clone()).expect("a channel");
            (name, built)
        });
        let outside = Outside {
            store: Arc::clone(&engine) as Arc<dyn Store>,
            master_key: MasterKey::Given([7; 32]),
            windows: Arc::new(DirectoryFiles::new(&config.storage.dir)),
            disk_work: DiskWork::Threads,
            channels: channels.collect(),
            deliver: Arc::new(deliver),
            admin_tokens: Vec::new(),
        };
        let assembled = Box::pin(Gateway::assemble(config, clock.clone(), Random::from_os(), outside)).await;
        Self { gateway: assembled.expect("a gateway"), engine, clock }
    }

    /// Merchants with an endpoint each, one for each address.
    pub async fn hooks(&self, urls: Vec<String>) -> Vec<Hook> {
        stream::iter(urls).map(|url| self.hook(url)).buffered(AT_ONCE).collect().await
    }

    async fn hook(&self, url: String) -> Hook {
        let made = loop {
            let command = CreateMerchant {
                name: "Shop".to_owned(),
                tier: "starter".to_owned(),
                country: None,
                limits: None,
                channels: None,
            };
            match self.gateway.merchants().create(command, &Operator::process("bench")).await {
                Ok(made) => break made,
                // Many at once, who all write into the audit.
                Err(GatewayError::Overloaded { .. }) => tokio::time::sleep(NO_ROOM_WAIT).await,
                Err(error) => panic!("a merchant can't be made: {error}"),
            }
        };
        let merchant_id = MerchantId::new(made.merchant.merchant_id.as_str());
        let request = CreateEndpoint { url, ..CreateEndpoint::default() };
        let made = self.gateway.webhooks().create_endpoint(&merchant_id, request).await.expect("an endpoint");
        Hook { merchant_id, endpoint_id: EndpointId::new(made.endpoint.id.as_str()) }
    }

    /// Pauses endpoints, or goes on.
    pub async fn set_status(&self, hooks: &[Hook], status: SettableStatus) {
        let changes = stream::iter(hooks).map(|hook| async move {
            let changes = UpdateEndpoint { status: Some(status), ..UpdateEndpoint::default() };
            let webhooks = self.gateway.webhooks();
            webhooks.update_endpoint(&hook.merchant_id, &hook.endpoint_id, changes).await.expect("a change");
        });
        changes.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    /// Commits events in one commit, and tells who sends them. Returns when they were durable, as [`Clock::steady`] has it, in
    /// microseconds.
    pub async fn publish(&self, events: &[(&Hook, u64)]) -> u64 {
        loop {
            let mut batch = Batch::new();
            let plan = |(hook, number): &(&Hook, u64)| {
                let event = self.event(*number);
                self.gateway.webhooks().plan(&mut batch, &hook.merchant_id, &event, None).expect("its endpoints")
            };
            let planned: Vec<_> = events.iter().map(plan).collect();
            match self.engine.commit(batch).await {
                Ok(_) => {
                    let durable_us = self.now_us();
                    planned.into_iter().for_each(|planned| self.gateway.webhooks().announce(planned));
                    return durable_us;
                }
                Err(StoreError::Overloaded(_)) => tokio::time::sleep(NO_ROOM_WAIT).await,
                Err(error) => panic!("events can't be stored: {error}"),
            }
        }
    }

    /// Commits the events with these numbers as fast as the store takes them; `whose` says to which endpoint each goes.
    pub async fn publish_all<'a>(&self, numbers: std::ops::Range<u64>, whose: impl Fn(u64) -> &'a Hook) {
        let events: Vec<(&Hook, u64)> = numbers.map(|number| (whose(number), number)).collect();
        let commits = stream::iter(events.chunks(EVENTS_A_COMMIT)).map(|some| self.publish(some));
        commits.buffer_unordered(COMMITS_AT_ONCE).collect::<Vec<u64>>().await;
    }

    /// Waits until the index has everything that is committed.
    pub async fn applied(&self) {
        let until = self.now_us() + u64::try_from(APPLIED_WITHIN.as_micros()).unwrap_or(u64::MAX);
        loop {
            let health = self.engine.health();
            if health.applied >= health.committed {
                return;
            }
            assert!(self.now_us() < until, "the index falls behind: {health:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The time since the machine was started, in microseconds: other processes have the same.
    pub fn now_us(&self) -> u64 {
        self.clock.steady().micros()
    }

    fn event(&self, number: u64) -> Event {
        let at = self.clock.now();
        Event {
            id: EventId::new(sortable_id("ev_", at, number)),
            name: EventName::PaymentSuccess,
            object_no: Some(format!("{number:020}")),
            amount_minor: amount_of(number),
            currency: Some(Currency::USD),
            at,
            body: RawValue::from_string(body(number)).expect("JSON"),
        }
    }
}
