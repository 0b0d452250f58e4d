//! Starting on a store from before there were lanes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fixture::{FakeReceiver, Fixture, START, answer, core, webhook_config};
use super::store::{Stored, store};
use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::domain::event::EventName;
use crate::domain::ids::{JobId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Endpoint, EndpointStatus};
use crate::gateway::webhooks::Webhooks;
use crate::storage::{Batch, Scan, Store, StoreError, keys, prefix_end, record};

const EVENTS: usize = 600;

#[tokio::test(start_paused = true)]
async fn what_was_due_before_lanes_is_sent_once_also_when_taking_over_is_cut_off() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let config = WebhookConfig { restart_spread_ms: 0, horizon_max: 600, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config.clone()).await;
    let endpoint_id = fixture.endpoint("https://example.com/").await;
    let key = keys::endpoint(&fixture.merchant_id, &endpoint_id);
    let set = async |status| {
        let mut endpoint: Endpoint = record::decode(&store.get(&key).unwrap().unwrap().value).unwrap();
        endpoint.set_status(status, START);
        let mut batch = Batch::new();
        batch.put(key.clone(), record::encode(&endpoint).unwrap());
        store.commit(batch).await.unwrap();
    };
    set(EndpointStatus::Paused).await;
    for number in 0..EVENTS {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.webhooks.stop(Duration::from_secs(3)).await;
    set(EndpointStatus::Enabled).await;
    // As it was written then.
    let prefix = keys::notifications_due();
    let mut start = prefix.clone();
    let mut entry = None;
    loop {
        let scan = Scan { start, end: prefix_end(&prefix), limit: 100, reverse: false };
        let rows = store.scan(&scan).unwrap();
        let Some(last) = rows.last() else { break };
        start = [last.key.as_slice(), &[0]].concat();
        let mut batch = Batch::new();
        for row in &rows {
            let (endpoint_id, _, due_at, notification_id) = keys::parse_notification_due(&row.key).unwrap();
            batch.delete(row.key.clone());
            let value = row.versioned.value.to_vec();
            entry = Some(value.clone());
            batch.put(keys::former_notification_due(&endpoint_id, due_at, &notification_id), value);
        }
        store.commit(batch).await.unwrap();
    }
    let former = |at: Timestamp, id: &str| keys::former_notification_due(&endpoint_id, at, &NotificationId::new(id));
    let mut batch = Batch::new();
    // Of a notification that is not there, and one that can't be read.
    batch.put(former(START, "wn_gone"), entry.unwrap());
    batch.put(former(START, "wn_0"), b"?".to_vec());
    store.commit(batch).await.unwrap();
    let former_left = || store.count(&keys::former_notifications_due());
    assert_eq!((former_left(), fixture.due()), (EVENTS + 2, 0));

    // Of three pages the first is stored, whatever was said of it, and the second is not.
    for (stored, left) in [(Stored::Yes, EVENTS + 2 - 255), (Stored::No, EVENTS + 2 - 255)] {
        store.fail([(StoreError::Indeterminate(String::from("test")), stored)]);
        let started = Webhooks::start(core(store.clone(), &clock, config.clone()), receiver.clone()).await;
        assert!(started.is_err());
        assert_eq!(former_left(), left);
        assert!(receiver.seen().is_empty());
    }
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    fixture.pass(Duration::from_secs(60)).await;
    assert_eq!((former_left(), fixture.due()), (1, 0), "only what can't be read is left");
    let ids: HashSet<String> = receiver.seen().iter().map(|seen| seen.id().to_owned()).collect();
    assert_eq!((receiver.seen().len(), ids.len()), (EVENTS, EVENTS));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_from_before_their_index_are_entered_in_it_once() {
    const EVENTS: usize = 300;
    let (store, clock) = (store(), Clock::virtual_from(START));
    let is_up = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_up);
    let receiver = FakeReceiver::new(&clock, move |_, _| answer(if asked.load(Ordering::SeqCst) { 200 } else { 404 }));
    let config = WebhookConfig { restart_spread_ms: 0, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config.clone()).await;
    let endpoint_id = fixture.endpoint("https://example.com/").await;
    for number in 0..EVENTS {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(Duration::from_secs(10)).await;
    fixture.webhooks.stop(Duration::from_secs(3)).await;
    let dead = || store.count(&keys::dead_letters());
    assert_eq!(dead(), EVENTS);
    // As it was then. One of them is there: the program was stopped in the middle.
    let mut batch = Batch::new();
    let entries = store.scan(&Scan::prefix(&keys::dead_letters(), 2 * EVENTS)).unwrap();
    entries.into_iter().skip(1).for_each(|row| batch.delete(row.key));
    batch.delete(keys::installation("webhook_dead_letters"));
    store.commit(batch).await.unwrap();
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config.clone()).await;
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(dead(), EVENTS);
    is_up.store(true, Ordering::SeqCst);
    let job = fixture.webhooks.recover(&fixture.merchant_id, &endpoint_id, START).await.unwrap();
    fixture.pass(Duration::from_secs(60)).await;
    let job = fixture.webhooks.get_job(&fixture.merchant_id, &JobId::new(job.id)).unwrap();
    assert_eq!((job.status.as_str(), job.changed, dead()), ("done", EVENTS as u64, 0));
    fixture.webhooks.stop(Duration::from_secs(3)).await;

    // Once noted, it is not done again.
    let reads = store.reads();
    let fixture = Fixture::start(&store, &clock, receiver, config).await;
    fixture.pass(Duration::from_secs(1)).await;
    assert!(store.reads().rows - reads.rows < EVENTS);
    fixture.webhooks.stop(Duration::from_secs(3)).await;
}
