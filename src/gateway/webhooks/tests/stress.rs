//! Everything at once: many endpoints, answers of every kind, a store that fails, merchants who pause, cancel and retry.
//! Whatever the order, nothing that is due may be forgotten.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::fixture::{Act, FakeReceiver, Fixture, START, answer, core, event, webhook_config};
use super::store::store;
use crate::clock::Clock;
use crate::config::{StorageConfig, WebhookConfig};
use crate::delivery::testing::eventually;
use crate::delivery::{Answer, Deliver, DeliveryError, DeliveryRequest};
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::gateway::webhooks::{CreateEndpoint, SettableStatus, UpdateEndpoint, Webhooks};
use crate::random::Random;
use crate::storage::engine::Engine;
use crate::storage::{Batch, Scan, Store, keys};

/// Longer than the whole schedule takes, holds and pauses included.
const LONG: Duration = Duration::from_secs(86_400);
const ENDPOINTS: usize = 6;
const EVENTS: usize = 100;

fn id_of(request: &DeliveryRequest) -> &str {
    request.headers.iter().find(|(name, _)| *name == "webhook-id").map_or("", |(_, value)| value.as_str())
}

/// An answer by chance; the notifications that were taken are noted.
fn chance_of(random: Random, taken: Arc<Mutex<HashSet<String>>>) -> impl Fn(usize, &DeliveryRequest) -> Act {
    move |_, request| {
        let draw = random.draw_u64();
        let act = match draw % 16 {
            0 => answer(500),
            1 => Act::Answer(Err(DeliveryError::Broken)),
            2 => Act::Answer(Ok(Answer { status: 503, retry_after: Some(String::from("7")), ..Answer::default() })),
            3 => Act::Panic,
            4 => answer(408),
            5..=9 => Act::AnswerAfter(Duration::from_millis(draw / 16 % 3_000)),
            _ => answer(200),
        };
        if matches!(&act, Act::AnswerAfter(_) | Act::Answer(Ok(Answer { status: 200, .. }))) {
            taken.lock().insert(id_of(request).to_owned());
        }
        act
    }
}

/// What a merchant does to its endpoints and notifications, by chance.
async fn meddle(fixture: &Fixture, endpoints: &[EndpointId], random: &Random) {
    let draw = random.draw_u64();
    let endpoint = &endpoints[usize::try_from(draw / 64 % 6).unwrap()];
    let status = match draw % 8 {
        0 => SettableStatus::Paused,
        1..=3 => SettableStatus::Enabled,
        4 => {
            let Some(view) = fixture.notifications().into_iter().next() else { return };
            let id = NotificationId::new(view.id);
            let _ = fixture.webhooks.cancel_notification(&fixture.merchant_id, &id).await;
            let _ = fixture.webhooks.retry_notification(&fixture.merchant_id, &id).await;
            return;
        }
        _ => return,
    };
    let change = UpdateEndpoint { status: Some(status), ..UpdateEndpoint::default() };
    fixture.webhooks.update_endpoint(&fixture.merchant_id, endpoint, change).await.unwrap();
}

async fn everything_ends(seed: u64) {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let random = Random::seeded(seed);
    let taken: Arc<Mutex<HashSet<String>>> = Arc::default();
    let receiver = FakeReceiver::new(&clock, chance_of(random.clone(), Arc::clone(&taken)));
    let config = WebhookConfig {
        max_attempts: 60,
        in_flight_max: 12,
        endpoint_in_flight_max: 4,
        horizon_max: 8,
        schedule_s: vec![0, 1, 2, 60],
        ..webhook_config()
    };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    fixture.webhooks.actors.directory().limit_actors(4);
    let mut endpoints = Vec::new();
    for number in 0..ENDPOINTS {
        endpoints.push(fixture.endpoint(&format!("https://{number}.example/")).await);
    }
    store.fail_by_chance(&random, 15);
    for number in 0..EVENTS {
        // In all lanes.
        let amount_minor = [100, 20_000, 200_000, 2_000_000][number % 4];
        fixture.publish_of(&fixture.merchant_id, &format!("PY{number}"), amount_minor).await;
        meddle(&fixture, &endpoints, &random).await;
        let draw = random.draw_u64();
        if draw.is_multiple_of(3) {
            fixture.pass(Duration::from_millis(draw / 3 % 700)).await;
        }
    }
    for endpoint in &endpoints {
        let enabled = UpdateEndpoint { status: Some(SettableStatus::Enabled), ..UpdateEndpoint::default() };
        fixture.webhooks.update_endpoint(&fixture.merchant_id, endpoint, enabled).await.unwrap();
    }
    fixture.pass(LONG).await;
    assert_eq!(fixture.due(), 0, "seed {seed}: forgotten");
    assert_eq!(fixture.webhooks.actors.active(), 0, "seed {seed}: an actor is left");
    assert_eq!(fixture.webhooks.actors.reminded_total(), 0, "seed {seed}: only the sweep found it");
    let mut statuses: HashMap<String, usize> = HashMap::new();
    for view in fixture.notifications() {
        *statuses.entry(view.status.clone()).or_default() += 1;
        let is_right = match view.status.as_str() {
            "success" => taken.lock().contains(&view.id),
            // All tries in vain is next to impossible, so that this was the merchant.
            "failed" => view.error.as_deref() == Some("canceled"),
            _ => false,
        };
        assert!(is_right, "seed {seed}: {view:?}");
    }
    assert!(statuses["success"] > 80, "seed {seed}: {statuses:?}");
    fixture.webhooks.stop(Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_nothing_is_forgotten() {
    for seed in 0..30 {
        everything_ends(seed).await;
    }
}

/// Takes one webhook in two at the first try.
fn every_other(taken: Arc<Mutex<HashSet<String>>>) -> impl Fn(usize, &DeliveryRequest) -> Act {
    move |number, request| {
        if number % 2 == 0 {
            return answer(500);
        }
        taken.lock().insert(id_of(request).to_owned());
        answer(200)
    }
}

/// Webhooks over the engine that the product runs on, with an index that gets everything at once.
struct OnEngine {
    webhooks: Webhooks,
    store: Arc<Engine>,
    clock: Clock,
    _directory: TempDir,
}

impl OnEngine {
    async fn start(deliver: Arc<dyn Deliver>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let storage = StorageConfig {
            dir: directory.path().join("data"),
            segment_bytes: 1 << 20,
            queue_batches_max: 1024,
            group_bytes_max: 32 << 10,
            overlay_bytes_max: 4 << 20,
            apply_interval_ms: 1,
            checkpoint_interval_ms: 10,
            checkpoint_bytes: 64 << 10,
            cache_bytes: 8 << 20,
            ballast_bytes: 0,
            low_space_bytes: 0,
            base_bytes: 1 << 40,
            growth_interval_ms: 10_000,
            journal_keep_hours: 0,
            journal_keep_bytes: 1 << 40,
            clock_back_max_s: 300,
            archive_dir: None,
        };
        let store = Arc::new(Engine::open_dir(&storage).unwrap());
        let clock = Clock::virtual_from(START);
        // The receiver fails by turns; that one endpoint gets many of the failures in a row is not what this is about.
        let config = WebhookConfig { schedule_s: vec![0], max_attempts: 100, breaker_min: 1_000, ..webhook_config() };
        let core = core(Arc::clone(&store) as Arc<dyn Store>, &clock, config);
        let webhooks = Webhooks::start(core, deliver).await.unwrap();
        Self { webhooks, store, clock, _directory: directory }
    }

    async fn publish(&self, merchant_id: &MerchantId, payment_no: &str) {
        let mut batch = Batch::new();
        let event = event(EventName::PaymentSuccess, payment_no, self.clock.now());
        let planned = self.webhooks.plan(&mut batch, merchant_id, &event, None).unwrap();
        self.store.commit(batch).await.unwrap();
        self.webhooks.announce(planned);
    }

    fn is_anything_due(&self) -> bool {
        !self.store.scan(&Scan::prefix(&keys::notifications_due(), 1)).unwrap().is_empty()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_forgotten_while_the_engine_moves_it_from_memory_to_the_index() {
    const MERCHANTS: usize = 3;
    const ROUNDS: usize = 40;
    let taken: Arc<Mutex<HashSet<String>>> = Arc::default();
    let clock = Clock::virtual_from(START);
    let receiver = FakeReceiver::new(&clock, every_other(Arc::clone(&taken)));
    let bed = Arc::new(OnEngine::start(receiver).await);
    let merchants: Vec<MerchantId> = (0..MERCHANTS).map(|number| MerchantId::new(format!("m_{number}"))).collect();
    for merchant_id in &merchants {
        let request = CreateEndpoint { url: String::from("https://example.com/"), ..CreateEndpoint::default() };
        bed.webhooks.create_endpoint(merchant_id, request).await.unwrap();
    }
    let mut published = 0;
    for round in 0..ROUNDS {
        let mut publishing = tokio::task::JoinSet::new();
        for (number, merchant_id) in merchants.iter().cloned().enumerate() {
            let bed = Arc::clone(&bed);
            // Sometimes one alone: its poke is the only one, and no later one makes good for it.
            let events = if round % 2 == 0 { 1 } else { 12 };
            published += events;
            publishing.spawn(async move {
                for event in 0..events {
                    bed.publish(&merchant_id, &format!("PY{round}-{number}-{event}")).await;
                }
            });
        }
        publishing.join_all().await;
        // What is left over would be the last thing of its endpoint: nothing else wakes its actor.
        eventually(|| (!bed.is_anything_due()).then_some(())).await;
    }
    assert_eq!(taken.lock().len(), published);
    assert_eq!(bed.webhooks.actors.reminded_total(), 0);
}
