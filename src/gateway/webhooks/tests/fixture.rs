//! A webhook capability of its own for each test, with a receiver that does what the test says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::store::TestStore;
use crate::clock::Clock;
use crate::config::{Config, WebhookConfig};
use crate::delivery::{Answer, Deliver, DeliveryFuture, DeliveryRequest, DeliveryResult};
use crate::domain::event::{Event, EventName};
use crate::domain::ids::{EndpointId, EventId, MerchantId, NotificationId, sortable_id};
use crate::domain::money::Currency;
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::page::PageRequest;
use crate::gateway::webhooks::{CreateEndpoint, NewSecretView, NotificationFilter, NotificationView, Webhooks};
use crate::random::Random;
use crate::storage::vault::Vault;
use crate::storage::{Batch, Store, keys};

pub(super) const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);

/// What the receiver does with a request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Answer(DeliveryResult),
    /// Answers 200 after this.
    AnswerAfter(Duration),
    /// Answers this status after that.
    AnswerAfterWith(Duration, u16),
    Hang,
    Panic,
}

pub(super) fn answer(status: u16) -> Act {
    Act::Answer(Ok(Answer { status, retry_after: None, response: format!("answer {status}") }))
}

/// One request as the receiver saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) at: Timestamp,
    pub(super) url: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// What its body says that it is about.
    pub(super) fn payment_no(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body["payment_no"].as_str().unwrap().to_owned()
    }

    /// Which try it is.
    pub(super) fn attempt(&self) -> &str {
        &self.headers["x-webhook-attempt"]
    }
}

type Script = dyn Fn(usize, &DeliveryRequest) -> Act + Send + Sync;

/// Stands in for the network.
pub(super) struct FakeReceiver {
    clock: Clock,
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    in_flight: Mutex<(usize, usize)>,
}

impl FakeReceiver {
    pub(super) fn new(
        clock: &Clock,
        script: impl Fn(usize, &DeliveryRequest) -> Act + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            script: Box::new(script),
            seen: Mutex::default(),
            in_flight: Mutex::default(),
        })
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(super) fn most_in_flight(&self) -> usize {
        self.in_flight.lock().1
    }

    async fn receive(&self, request: DeliveryRequest) -> DeliveryResult {
        let number = {
            let mut seen = self.seen.lock();
            let headers = request.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            let body = request.body.to_string();
            seen.push(Seen { at: self.clock.now(), url: request.url.clone(), headers, body });
            seen.len() - 1
        };
        {
            let mut in_flight = self.in_flight.lock();
            in_flight.0 += 1;
            in_flight.1 = in_flight.1.max(in_flight.0);
        }
        let _ended = Ended(&self.in_flight);
        match (self.script)(number, &request) {
            Act::Answer(result) => result,
            Act::AnswerAfter(wait) => {
                tokio::time::sleep(wait).await;
                Ok(Answer { status: 200, ..Answer::default() })
            }
            Act::AnswerAfterWith(wait, status) => {
                tokio::time::sleep(wait).await;
                Ok(Answer { status, ..Answer::default() })
            }
            Act::Hang => std::future::pending().await,
            Act::Panic => panic!("told to"),
        }
    }
}

struct Ended<'a>(&'a Mutex<(usize, usize)>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().0 -= 1;
    }
}

impl Deliver for FakeReceiver {
    fn deliver(&self, request: DeliveryRequest) -> DeliveryFuture<'_> {
        Box::pin(self.receive(request))
    }
}

pub(super) struct Fixture {
    pub(super) webhooks: Webhooks,
    pub(super) store: Arc<TestStore>,
    pub(super) clock: Clock,
    pub(super) merchant_id: MerchantId,
}

impl Fixture {
    pub(super) async fn start(
        store: &Arc<TestStore>,
        clock: &Clock,
        deliver: Arc<dyn Deliver>,
        config: WebhookConfig,
    ) -> Self {
        let core = core(Arc::clone(store) as Arc<dyn Store>, clock, config);
        let webhooks = Webhooks::start(core, deliver).await.unwrap();
        let merchant_id = MerchantId::new("m_1");
        Self { webhooks, store: Arc::clone(store), clock: clock.clone(), merchant_id }
    }

    /// An endpoint that wants everything.
    pub(super) async fn endpoint(&self, url: &str) -> EndpointId {
        EndpointId::new(self.new_endpoint(url).await.endpoint.id)
    }

    pub(super) async fn new_endpoint(&self, url: &str) -> NewSecretView {
        let request = CreateEndpoint { url: url.to_owned(), ..CreateEndpoint::default() };
        self.webhooks.create_endpoint(&self.merchant_id, request).await.unwrap()
    }

    /// An endpoint of another merchant.
    pub(super) async fn endpoint_of(&self, merchant_id: &MerchantId, url: &str) -> EndpointId {
        let request = CreateEndpoint { url: url.to_owned(), ..CreateEndpoint::default() };
        EndpointId::new(self.webhooks.create_endpoint(merchant_id, request).await.unwrap().endpoint.id)
    }

    /// Commits an event and announces it.
    pub(super) async fn publish(&self, name: EventName, payment_no: &str) {
        self.publish_event(&self.merchant_id, event(name, payment_no, self.clock.now())).await;
    }

    /// Commits a payment of a merchant, of so much in US dollars, and announces it.
    pub(super) async fn publish_of(&self, merchant_id: &MerchantId, payment_no: &str, amount_minor: i64) {
        let event = event(EventName::PaymentSuccess, payment_no, self.clock.now());
        self.publish_event(merchant_id, Event { amount_minor, ..event }).await;
    }

    async fn publish_event(&self, merchant_id: &MerchantId, event: Event) {
        let mut batch = Batch::new();
        let planned = self.webhooks.plan(&mut batch, merchant_id, &event, Some("ORDER-1")).unwrap();
        self.store.commit(batch).await.unwrap();
        self.webhooks.announce(planned);
    }

    pub(super) fn notifications(&self) -> Vec<NotificationView> {
        let page = PageRequest { limit: Some(100), cursor: None };
        self.webhooks.list_notifications(&self.merchant_id, &NotificationFilter::default(), &page).unwrap().items
    }

    pub(super) fn only_notification(&self) -> NotificationView {
        let [only] = self.notifications().try_into().unwrap();
        self.webhooks.get_notification(&self.merchant_id, &NotificationId::new(only.id)).unwrap()
    }

    pub(super) fn due(&self) -> usize {
        self.store.count(&keys::notifications_due())
    }

    /// Lets everything run that has nothing to wait for, then some virtual time pass.
    pub(super) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
        settle().await;
    }
}

/// Lets everything run that has nothing to wait for.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub(super) fn event(name: EventName, payment_no: &str, at: Timestamp) -> Event {
    let body = format!(r#"{{"event":"{}","payment_no":"{payment_no}","extra":{{"b":1,"a":2}}}}"#, name.as_str());
    Event {
        id: EventId::new(sortable_id("ev_", at, 0)),
        name,
        object_no: Some(payment_no.to_owned()),
        amount_minor: 100,
        currency: Some(Currency::USD),
        at,
        body: serde_json::value::RawValue::from_string(body).unwrap(),
    }
}

pub(super) fn webhook_config() -> WebhookConfig {
    WebhookConfig {
        max_attempts: 13,
        initial_backoff_s: 1,
        max_backoff_s: 3_600,
        schedule_s: Vec::new(),
        jitter_percent: 0,
        timeout_s: 30,
        retry_interval_s: 300,
        endpoint_in_flight_max: 8,
        in_flight_max: 64,
        horizon_max: 32,
        response_max_bytes: 16 * 1024,
        endpoints_max: 16,
        restart_spread_ms: 5_000,
        rotation_overlap_s: 86_400,
        allowed_private_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..Config::embedded().unwrap().webhook
    }
}

/// What webhooks stand on, over any store.
pub(super) fn core(store: Arc<dyn Store>, clock: &Clock, webhook: WebhookConfig) -> Core {
    let mut config = Config::embedded().unwrap();
    config.server.drain_timeout_ms = 3000;
    config.webhook = webhook;
    let random = Random::seeded(1);
    Core::new(store, clock.clone(), random.clone(), config, Vault::with_key(&[7; 32], random))
}
