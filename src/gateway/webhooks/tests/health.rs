//! What is learned about endpoints, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use super::fixture::{FakeReceiver, Fixture, START, answer, settle, webhook_config};
use super::store::store;
use crate::clock::Clock;
use crate::domain::event::EventName;
use crate::domain::ids::EndpointId;
use crate::domain::webhook::{Endpoint, EndpointHealth, Overrides};
use crate::gateway::page::PageRequest;
use crate::storage::{Batch, Store, keys, record};

async fn change(fixture: &Fixture, endpoint_id: &EndpointId, change: impl FnOnce(&mut Endpoint)) {
    let key = keys::endpoint(&fixture.merchant_id, endpoint_id);
    let mut endpoint: Endpoint = record::decode(&fixture.store.get(&key).unwrap().unwrap().value).unwrap();
    change(&mut endpoint);
    let mut batch = Batch::new();
    batch.put(key, record::encode(&endpoint).unwrap());
    fixture.store.commit(batch).await.unwrap();
    fixture.webhooks.forget_endpoints(&fixture.merchant_id);
}

#[tokio::test(start_paused = true)]
async fn that_an_endpoint_was_disabled_is_told_to_the_others() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, request| answer(if request.url.contains("gone") { 410 } else { 200 }));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let gone_id = fixture.endpoint("https://gone.example/").await;
    fixture.endpoint("https://other.example/").await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(Duration::from_secs(60)).await;
    let told: Vec<(String, serde_json::Value)> = receiver
        .seen()
        .into_iter()
        .filter(|seen| seen.headers["x-webhook-event"] == "webhook.endpoint_disabled")
        .map(|seen| (seen.url, serde_json::from_str(&seen.body).unwrap()))
        .collect();
    let [(url, body)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((url.as_str(), &body["status"]), ("https://other.example/", &"disabled".into()));
    assert_eq!(body["extra"]["endpoint_id"], gone_id.as_str());
    assert_eq!(body["extra"]["reason"], "the receiver answered 410 Gone");
    let page = PageRequest { limit: Some(10), cursor: None };
    let events = fixture.webhooks.list_events(&fixture.merchant_id, &page).unwrap().items;
    let names: Vec<&str> = events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(names, ["payment.success", "webhook.endpoint_disabled"]);
    assert_eq!(fixture.due(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_while_an_endpoints_breaker_is_open_and_no_try_is_used_up() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint("https://example.com/").await;
    let open_until = START.plus(Duration::from_secs(100));
    let health = EndpointHealth { open_until: Some(open_until), ..EndpointHealth::default() };
    let mut batch = Batch::new();
    batch.put(keys::endpoint_health(&fixture.merchant_id, &endpoint_id), record::encode(&health).unwrap());
    store.commit(batch).await.unwrap();
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(Duration::from_secs(99)).await;
    assert_eq!((receiver.seen().len(), fixture.webhooks.actors.reminded_total()), (0, 0));
    fixture.pass(Duration::from_secs(2)).await;
    let view = fixture.only_notification();
    assert_eq!((view.status.as_str(), view.attempts), ("success", 1));
    assert_eq!(fixture.webhooks.actors.under_way(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn an_endpoints_own_schedule_and_timeout_hold() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let timeouts = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let noted = Arc::clone(&timeouts);
    let receiver = FakeReceiver::new(&clock, move |number, request| {
        noted.lock().push(request.timeout.as_secs());
        answer(if number < 2 { 503 } else { 200 })
    });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint("https://example.com/").await;
    let own = |schedule_s, timeout_s| Overrides { schedule_s, timeout_s, ..Overrides::default() };
    change(&fixture, &endpoint_id, |endpoint| endpoint.overrides = own(Some(vec![7, 11]), Some(5))).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    settle().await;
    change(&fixture, &endpoint_id, |endpoint| endpoint.overrides = own(Some(vec![7, 11]), Some(31))).await;
    fixture.pass(Duration::from_secs(60)).await;
    let seen: Vec<u64> = receiver.seen().iter().map(|request| request.at.since(START).as_secs()).collect();
    assert_eq!(seen, [0, 7, 18]);
    assert_eq!(*timeouts.lock(), [5, 30, 30], "never longer than configured");
}
