//! Who hangs delays nobody else, and retries that hang delay nothing new. In virtual time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fixture::{Act, FakeReceiver, Fixture, START, answer, settle, webhook_config};
use super::store::store;
use crate::clock::Clock;
use crate::config::{Config, WebhookConfig};
use crate::delivery::DeliveryRequest;
use crate::domain::event::EventName;
use crate::domain::ids::MerchantId;
use crate::domain::time::Timestamp;

/// As it is by default, but for the endpoints of one merchant.
fn default_config() -> WebhookConfig {
    WebhookConfig { endpoints_max: 1_000, jitter_percent: 0, ..Config::embedded().unwrap().webhook }
}

fn attempt_of(request: &DeliveryRequest) -> &str {
    request.headers.iter().find(|(name, _)| *name == "x-webhook-attempt").map_or("", |(_, value)| value.as_str())
}

/// Whose so many endpoints are.
fn hung_merchants(endpoints: usize) -> Vec<MerchantId> {
    let merchants = endpoints.div_ceil(default_config().endpoints_max);
    (0..merchants).map(|number| MerchantId::new(format!("m_hung_{number}"))).collect()
}

/// How long a healthy endpoint's webhooks take while so many others, which took webhooks before, begin to hang.
async fn worst_latency_beside(hung: usize) -> Duration {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let is_hanging = Arc::new(AtomicBool::new(false));
    let receiver = FakeReceiver::new(&clock, {
        let is_hanging = Arc::clone(&is_hanging);
        move |_, request| {
            if request.url.contains("good") {
                Act::AnswerAfter(Duration::from_millis(20))
            } else if is_hanging.load(Ordering::SeqCst) {
                Act::AnswerAfterWith(Duration::from_secs(30), 504)
            } else {
                answer(200)
            }
        }
    });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), default_config()).await;
    let (hung_ids, good_id) = (hung_merchants(hung), MerchantId::new("m_good"));
    for number in 0..hung {
        let hung_id = &hung_ids[number / default_config().endpoints_max];
        fixture.endpoint_of(hung_id, &format!("https://hung-{number}.example/")).await;
    }
    fixture.endpoint_of(&good_id, "https://good.example/").await;
    for hung_id in &hung_ids {
        fixture.publish_of(hung_id, "PY-first", 100).await;
    }
    fixture.publish_of(&good_id, "PY-first", 100).await;
    fixture.pass(Duration::from_millis(50)).await;
    assert_eq!(receiver.seen().len(), hung + 1);
    is_hanging.store(true, Ordering::SeqCst);
    let mut published: Vec<(String, Timestamp)> = Vec::new();
    // All at once, and then some more, as retries come.
    for number in 0..100 {
        if number < 17 || number % 10 == 0 {
            for hung_id in &hung_ids {
                fixture.publish_of(hung_id, &format!("PY-hung-{number}"), 100).await;
            }
        }
        if number >= 16 {
            // More than go out in time with the two places that there are while the others hold theirs.
            for one in 0..100 {
                let payment_no = format!("PY-good-{number}-{one}");
                published.push((payment_no.clone(), clock.now()));
                fixture.publish_of(&good_id, &payment_no, 100).await;
            }
            fixture.pass(Duration::from_millis(500)).await;
        }
    }
    fixture.pass(Duration::from_secs(40)).await;
    let seen = receiver.seen();
    let good = seen.iter().filter(|seen| seen.url.contains("good"));
    let arrived: HashMap<String, Timestamp> = good.map(|seen| (seen.payment_no(), seen.at)).collect();
    let latency_of = |(payment_no, at): &(String, Timestamp)| {
        arrived.get(payment_no).map_or(Duration::MAX, |arrived_at| arrived_at.since(*at))
    };
    assert!(seen.len() > 3 * hung, "the others were asked as well");
    published.iter().map(latency_of).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_begin_to_hang_delay_no_other_for_long() {
    for hung in [48, 200] {
        let worst = worst_latency_beside(hung).await;
        // Half a second is what a request may last before it leaves the pool of those that don't.
        assert!(worst <= Duration::from_millis(700), "{worst:?} beside {hung}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_endpoints_than_there_are_places_may_hang() {
    let webhook = default_config();
    let hung = 2_000;
    assert!(hung > webhook.in_flight_max + webhook.slow_in_flight_max);
    let worst = worst_latency_beside(hung).await;
    // Until all are known, each quick place has some of them, one after the other: five, and one more for those that have two.
    assert!(worst <= Duration::from_millis(6 * 500 + 200), "{worst:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_answers_slowly_has_all_its_places() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| Act::AnswerAfter(Duration::from_millis(800)));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), default_config()).await;
    fixture.endpoint("https://slow.example/").await;
    for number in 0..162 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    // Two to find out, and then sixteen at a time.
    fixture.pass(Duration::from_millis(11 * 800 + 100)).await;
    assert_eq!((receiver.most_in_flight(), receiver.seen().len(), fixture.due()), (16, 162, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_new_does_not_wait_for_the_endpoints_own_retries() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, request| match attempt_of(request) {
        "1" => answer(500),
        _ => Act::AnswerAfterWith(Duration::from_secs(30), 500),
    });
    let config = WebhookConfig { schedule_s: vec![1], max_attempts: 100, breaker_min: 1_000, ..default_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    fixture.endpoint("https://hung.example/").await;
    for number in 0..600 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    fixture.pass(Duration::from_secs(5)).await;
    let retries = receiver.seen().iter().filter(|seen| seen.attempt() == "2").count();
    assert_eq!((retries, receiver.seen().len()), (12, 612));
    for number in 600..620 {
        let payment_no = format!("PY{number}");
        fixture.publish(EventName::PaymentSuccess, &payment_no).await;
        settle().await;
        assert!(receiver.seen().iter().any(|seen| seen.payment_no() == payment_no), "{payment_no} waits");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backlog_costs_reads_for_what_is_sent_of_it_and_for_nothing_else() {
    const BACKLOG: usize = 5_000;
    let (store, clock) = (store(), Clock::virtual_from(START));
    let is_hanging = Arc::new(AtomicBool::new(true));
    let receiver = FakeReceiver::new(&clock, {
        let is_hanging = Arc::clone(&is_hanging);
        move |_, _| match is_hanging.load(Ordering::SeqCst) {
            true => Act::AnswerAfter(Duration::from_secs(20)),
            false => answer(200),
        }
    });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), default_config()).await;
    fixture.endpoint("https://example.com/").await;
    for number in 0..BACKLOG {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:04}")).await;
    }
    settle().await;
    let waiting = store.reads();
    // While there is less than a window is large, it is read anew for each.
    assert!(waiting.rows < BACKLOG, "{waiting:?}");
    assert_eq!(receiver.seen().len(), 2);
    is_hanging.store(false, Ordering::SeqCst);
    fixture.pass(Duration::from_secs(60)).await;
    assert_eq!((receiver.seen().len(), fixture.due()), (BACKLOG, 0));
    let rows = store.reads().rows - waiting.rows;
    assert!(rows < 4 * BACKLOG, "{rows} rows were read");
}

#[tokio::test(start_paused = true)]
async fn many_endpoints_that_never_took_one_do_not_keep_a_new_one_waiting() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, request| match request.url.contains("hung") {
        true => Act::AnswerAfterWith(Duration::from_secs(30), 504),
        false => answer(200),
    });
    let config = WebhookConfig { slow_in_flight_max: 64, endpoints_max: 99, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    let (hung_id, new_id) = (MerchantId::new("m_hung"), MerchantId::new("m_new"));
    for number in 0..50 {
        fixture.endpoint_of(&hung_id, &format!("https://hung-{number}.example/")).await;
    }
    fixture.publish_of(&hung_id, "PY1", 100).await;
    settle().await;
    fixture.publish_of(&hung_id, "PY2", 100).await;
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(receiver.seen().len(), 56, "the last places are for endpoints that have none");
    fixture.endpoint_of(&new_id, "https://new.example/").await;
    fixture.publish_of(&new_id, "PY3", 100).await;
    settle().await;
    assert_eq!(receiver.seen().last().unwrap().url, "https://new.example/");
}
