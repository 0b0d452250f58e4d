//! What is learned about endpoints, and what follows from it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fixture::{Act, FakeReceiver, Fixture, START, Seen, answer, settle, webhook_config};
use super::store::{TestStore, store};
use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::delivery::Answer;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Endpoint, EndpointHealth, JobKind, Overrides, WebhookJob};
use crate::gateway::page::PageRequest;
use crate::gateway::webhooks::UpdateEndpoint;
use crate::storage::{Batch, Scan, Store, keys, record};

const URL: &str = "https://example.com/";
const HOUR: Duration = Duration::from_secs(3_600);
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// A receiver that answers 500 until it is up.
fn receiver_that_is_down(clock: &Clock) -> (Arc<FakeReceiver>, Arc<AtomicBool>) {
    let is_up = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_up);
    let receiver = FakeReceiver::new(clock, move |_, _| answer(if asked.load(Ordering::SeqCst) { 200 } else { 500 }));
    (receiver, is_up)
}

fn health(store: &TestStore, endpoint_id: &EndpointId) -> EndpointHealth {
    let row = store.get(&keys::endpoint_health(&MerchantId::new("m_1"), endpoint_id)).unwrap().unwrap();
    record::decode(&row.value).unwrap()
}

async fn put_health(fixture: &Fixture, endpoint_id: &EndpointId, row: Vec<u8>) {
    let mut batch = Batch::new();
    batch.put(keys::endpoint_health(&fixture.merchant_id, endpoint_id), row);
    fixture.store.commit(batch).await.unwrap();
}

fn events(fixture: &Fixture) -> Vec<String> {
    let page = PageRequest { limit: Some(100), cursor: None };
    let events = fixture.webhooks.list_events(&fixture.merchant_id, &page).unwrap().items;
    events.into_iter().map(|event| event.event).collect()
}

fn heard_by(receiver: &FakeReceiver, url: &str, event: &str) -> Vec<(Timestamp, serde_json::Value)> {
    let heard = |seen: &Seen| seen.url == url && seen.headers["x-webhook-event"] == event;
    let seen = receiver.seen().into_iter().filter(heard);
    seen.map(|seen| (seen.at, serde_json::from_str(&seen.body).unwrap())).collect()
}

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
    let gone_id = fixture.endpoint("https://gone.example/hook?token=t").await;
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
    assert_eq!(body["extra"]["url"], "https://gone.example/hook", "no token is told to others");
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
    put_health(&fixture, &endpoint_id, record::encode(&health).unwrap()).await;
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

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_down_is_probed_and_its_backlog_is_then_released_gradually() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let (receiver, is_up) = receiver_that_is_down(&clock);
    let config = WebhookConfig { endpoint_in_flight_max: 16, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    let endpoint_id = fixture.endpoint(URL).await;
    for number in 0..1_000 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(HOUR).await;
    let while_down = receiver.seen().len();
    assert!((10..60).contains(&while_down), "{while_down} requests in an hour");
    assert_eq!(fixture.due(), 1_000, "none was given up");
    is_up.store(true, Ordering::SeqCst);
    let up_at = clock.now();
    fixture.pass(HOUR / 4).await;
    assert_eq!((fixture.due(), fixture.webhooks.actors.reminded_total()), (0, 0));
    let arrived: Vec<Seen> = receiver.seen().into_iter().skip(while_down).collect();
    assert_eq!(arrived.iter().map(Seen::id).collect::<HashSet<&str>>().len(), 1_000);
    assert_eq!(arrived.len(), 1_000, "each once");
    assert!(arrived[0].at.since(up_at) <= Duration::from_secs(330), "the next probe finds it");
    for (number, seen) in arrived.iter().enumerate().skip(1) {
        let elapsed = seen.at.since(arrived[0].at).as_secs_f64();
        let released = 10.0 * (elapsed.exp2() - 1.0) + 1.0;
        assert!(number as f64 <= released + 1e-6, "request {number} after {elapsed} s");
    }
    let took = arrived[999].at.since(arrived[0].at);
    assert!(took <= Duration::from_secs(10), "held up for {took:?}");
    let health = health(&store, &endpoint_id);
    assert_eq!((health.failing_since, health.open_until), (None, None));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_and_what_led_to_it_outlive_restarts() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let (receiver, is_up) = receiver_that_is_down(&clock);
    let config = WebhookConfig { restart_spread_ms: 0, ..webhook_config() };
    let mut fixture = Fixture::start(&store, &clock, receiver.clone(), config.clone()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    for number in 0..40 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(Duration::from_secs(1)).await;
    let at_first = health(&store, &endpoint_id);
    assert_eq!((at_first.failing_since.is_some(), at_first.opens), (true, 1));
    for restart in 1..=2 {
        let seen = receiver.seen().len();
        let open_until = health(&store, &endpoint_id).open_until.unwrap();
        fixture.webhooks.stop(STOP_WITHIN).await;
        fixture = Fixture::start(&store, &clock, receiver.clone(), config.clone()).await;
        fixture.pass(open_until.since(clock.now()).saturating_sub(Duration::from_millis(10))).await;
        assert_eq!(receiver.seen().len(), seen, "restart {restart}: still open");
        fixture.pass(Duration::from_secs(1)).await;
        assert_eq!(receiver.seen().len(), seen + 1, "restart {restart}: one probe");
        let now = health(&store, &endpoint_id);
        assert_eq!((now.failing_since, now.opens), (at_first.failing_since, restart + 1));
    }
    is_up.store(true, Ordering::SeqCst);
    fixture.pass(HOUR).await;
    assert_eq!((fixture.due(), fixture.webhooks.actors.reminded_total()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_opened_while_the_clock_was_ahead_holds_nothing_up_when_it_is_right_again() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let (receiver, is_up) = receiver_that_is_down(&clock);
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    clock.set_forward(24 * HOUR);
    for number in 0..40 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(Duration::from_secs(1)).await;
    assert!(health(&store, &endpoint_id).open_until > Some(START.plus(24 * HOUR)));
    clock.set_back(24 * HOUR);
    is_up.store(true, Ordering::SeqCst);
    fixture.pass(HOUR / 4).await;
    assert_eq!((fixture.due(), health(&store, &endpoint_id).open_until), (0, None));
}

#[tokio::test(start_paused = true)]
async fn five_days_of_nothing_but_failures_are_told_and_then_disable_the_endpoint() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let is_down = |url: &str| url == URL;
    let receiver = FakeReceiver::new(&clock, move |_, request| answer(if is_down(&request.url) { 502 } else { 200 }));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    let other = "https://other.example/";
    fixture.endpoint(other).await;
    for number in 0..21 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
        fixture.pass(6 * HOUR).await;
    }
    let [(warned_at, warning)] = heard_by(&receiver, other, "webhook.endpoint_failing").try_into().unwrap();
    let [(disabled_at, disabled)] = heard_by(&receiver, other, "webhook.endpoint_disabled").try_into().unwrap();
    assert_eq!(warned_at.since(START).as_secs() / 3_600, 24);
    assert_eq!(disabled_at.since(START).as_secs() / 3_600, 120);
    for (body, sequence) in [(&warning, 1), (&disabled, 2)] {
        let extra = &body["extra"];
        assert_eq!((&extra["endpoint_id"], &extra["url"]), (&endpoint_id.as_str().into(), &URL.into()));
        assert_eq!((&extra["since"], &extra["sequence"]), (&START.rfc3339().into(), &sequence.into()));
        assert_eq!((&extra["last_status_code"], &extra["last_error"]), (&502.into(), &serde_json::Value::Null));
        assert!(extra["tries"].as_u64() > Some(20), "{extra}");
        assert!(body["payment_no"].is_null() && body["amount"].is_null(), "{body}");
    }
    assert_eq!((&warning["status"], &disabled["status"]), (&"failing".into(), &"disabled".into()));
    assert_eq!(disabled["extra"]["reason"], "nothing but failures for 5 days");
    let view = fixture.webhooks.get_endpoint(&fixture.merchant_id, &endpoint_id).unwrap();
    assert_eq!(view.status, "disabled");
    assert_eq!(view.disabled_reason.as_deref(), Some("nothing but failures for 5 days"));
    // The endpoint itself is told nothing of it; who polls is.
    assert!(heard_by(&receiver, URL, "webhook.endpoint_failing").is_empty());
    let told: Vec<String> = events(&fixture).into_iter().filter(|name| name.starts_with("webhook.")).collect();
    assert_eq!(told, ["webhook.endpoint_failing", "webhook.endpoint_disabled"]);
    let jobs = store.scan(&Scan::prefix(&keys::webhook_jobs_of(&fixture.merchant_id), 10)).unwrap();
    let [job]: [WebhookJob; 1] =
        jobs.iter().map(|row| record::decode(&row.versioned.value).unwrap()).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((job.kind, job.endpoint_id), (JobKind::Park, Some(endpoint_id.clone())));
    assert_eq!(health(&store, &endpoint_id).failing_since, None, "enabled again, it begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_to_be_left_alone_is_sent_nothing_else_meanwhile() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| match number {
        0 => {
            let retry_after = Some(String::from("20"));
            Act::Answer(Ok(Answer { status: 429, retry_after, ..Answer::default() }))
        }
        _ => answer(200),
    });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(Duration::from_secs(1)).await;
    fixture.publish(EventName::PaymentSuccess, "PY2").await;
    fixture.pass(Duration::from_secs(60)).await;
    let seen: Vec<u64> = receiver.seen().iter().map(|seen| seen.at.since(START).as_secs()).collect();
    assert_eq!((seen, fixture.due()), (vec![0, 20, 20], 0));
}

#[tokio::test(start_paused = true)]
async fn later_waits_are_longer_for_an_endpoint_that_takes_nothing() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let (receiver, _) = receiver_that_is_down(&clock);
    let config = WebhookConfig { breaker_min: 1_000, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    fixture.endpoint(URL).await;
    for number in 0..3 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(HOUR / 12).await;
    let seen = receiver.seen();
    let first = seen[0].id().to_owned();
    let of_first = seen.iter().filter(|seen| seen.id() == first);
    let seconds: Vec<u64> = of_first.map(|seen| seen.at.since(START).as_secs()).collect();
    assert_eq!(seconds, [0, 1, 3, 7, 15, 31, 95, 215]);
}

#[tokio::test(start_paused = true)]
async fn another_address_begins_anew_and_a_row_that_cant_be_read_holds_up_nothing() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let (receiver, is_up) = receiver_that_is_down(&clock);
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    for number in 0..20 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(Duration::from_secs(1)).await;
    let while_down = receiver.seen().len();
    assert!(health(&store, &endpoint_id).open_until.is_some());
    is_up.store(true, Ordering::SeqCst);
    let elsewhere = UpdateEndpoint { url: Some("https://elsewhere.example/".to_owned()), ..UpdateEndpoint::default() };
    fixture.webhooks.update_endpoint(&fixture.merchant_id, &endpoint_id, elsewhere).await.unwrap();
    settle().await;
    assert!(receiver.seen().len() > while_down, "sent at once");
    fixture.pass(HOUR).await;
    assert_eq!(fixture.due(), 0);

    let damaged_id = fixture.endpoint("https://damaged.example/").await;
    put_health(&fixture, &damaged_id, b"\x01{".to_vec()).await;
    fixture.publish(EventName::PaymentFailed, "PY900").await;
    fixture.pass(Duration::from_secs(60)).await;
    assert_eq!(fixture.due(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_an_endpoint_is_read_again_when_others_have_changed_it() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let (receiver, is_up) = receiver_that_is_down(&clock);
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    for number in 0..20 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(Duration::from_secs(1)).await;
    let while_down = receiver.seen().len();
    is_up.store(true, Ordering::SeqCst);
    let anew = health(&store, &endpoint_id).begun_anew();
    put_health(&fixture, &endpoint_id, record::encode(&anew).unwrap()).await;
    fixture.webhooks.actors.forget_health(&endpoint_id);
    fixture.publish(EventName::PaymentFailed, "PY900").await;
    settle().await;
    assert!(receiver.seen().len() > while_down, "its breaker is no longer open");
    fixture.pass(HOUR).await;
    assert_eq!(fixture.due(), 0);
}
