//! Sending, in virtual time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fixture::{Act, FakeReceiver, Fixture, START, answer, event, settle, webhook_config};
use super::store::{Stored, store};
use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::delivery::testing::eventually;
use crate::delivery::{Answer, DeliveryError};
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, NotificationId};
use crate::domain::webhook::{AmountClass, Lane, LaneKind};
use crate::gateway::error::GatewayError;
use crate::gateway::webhooks::{SettableStatus, UpdateEndpoint};
use crate::storage::{Batch, Store, StoreError, Write, keys};

/// Where first tries wait of what these tests tell.
const SMALLEST_FIRST: Lane = Lane::new(AmountClass::SMALLEST, LaneKind::First);
const URL: &str = "https://example.com/hook";

/// Time that is more than any schedule takes.
const LONG: Duration = Duration::from_secs(86_400);

fn set_status(status: SettableStatus) -> UpdateEndpoint {
    UpdateEndpoint { status: Some(status), ..UpdateEndpoint::default() }
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_out_at_once_and_the_actor_is_put_away() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    settle().await;
    let view = fixture.only_notification();
    assert_eq!((view.status.as_str(), view.attempts, view.status_code), ("success", 1, Some(200)));
    assert_eq!((view.payment_no.as_deref(), view.order_no.as_deref()), (Some("PY1"), Some("ORDER-1")));
    assert_eq!(receiver.seen()[0].headers["x-webhook-attempt"], "1");
    assert_eq!(fixture.due(), 0);
    assert!(!fixture.webhooks.actors.is_active(&endpoint_id));
    // And it comes back for the next one.
    fixture.publish(EventName::PaymentSuccess, "PY2").await;
    settle().await;
    assert_eq!(receiver.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_in_the_documented_steps_with_the_same_id_and_body() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(503));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(LONG).await;
    let seen = receiver.seen();
    let seconds: Vec<u64> = seen.iter().map(|request| request.at.since(seen[0].at).as_secs()).collect();
    assert_eq!(seconds, [0, 1, 3, 7, 15, 31, 63, 123, 243, 543, 1_143, 2_943, 6_543]);
    let same: HashSet<(String, String)> = seen.iter().map(|one| (one.id().to_owned(), one.body.clone())).collect();
    assert_eq!(same.len(), 1);
    assert_eq!(seen[12].headers["x-webhook-attempt"], "13");
    assert_ne!(seen[0].headers["webhook-timestamp"], seen[12].headers["webhook-timestamp"]);
    let view = fixture.only_notification();
    assert_eq!((view.status.as_str(), view.attempts, fixture.due()), ("failed", 13, 0));
    assert_eq!(view.error.as_deref(), Some("the receiver answered 503"));
    assert_eq!(view.tries.unwrap().len(), 13);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_succeeds_ends_it_and_shows_its_steps() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| match number {
        0 => Act::Answer(Err(DeliveryError::NotResolved)),
        1 => Act::Answer(Ok(Answer { status: 429, retry_after: Some(String::from("30")), ..Answer::default() })),
        _ => answer(200),
    });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    settle().await;
    let waiting = fixture.only_notification();
    assert_eq!((waiting.status.as_str(), waiting.next_retry_at.is_some()), ("retrying", true));
    assert_eq!(waiting.error.as_deref(), Some("the host name can't be resolved"));
    fixture.pass(Duration::from_secs(120)).await;
    let seen = receiver.seen();
    let seconds: Vec<u64> = seen.iter().map(|request| request.at.since(seen[0].at).as_secs()).collect();
    assert_eq!(seconds, [0, 1, 31]);
    let view = fixture.only_notification();
    assert_eq!((view.status.as_str(), view.error, view.next_retry_at), ("success", None, None));
}

#[tokio::test(start_paused = true)]
async fn gone_disables_the_endpoint_and_what_else_was_due_is_kept() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let is_gone = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&is_gone);
    let receiver = FakeReceiver::new(&clock, move |_, _| answer(if gone.load(Ordering::SeqCst) { 410 } else { 503 }));
    // How fast it gets what was kept is another matter.
    let config = WebhookConfig { recovery_rate_per_s: 0, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    let endpoint_id = fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(Duration::from_secs(2)).await;
    is_gone.store(true, Ordering::SeqCst);
    fixture.publish(EventName::PaymentFailed, "PY2").await;
    fixture.pass(LONG).await;
    let view = fixture.webhooks.get_endpoint(&fixture.merchant_id, &endpoint_id).unwrap();
    assert_eq!(view.status, "disabled");
    assert_eq!(view.disabled_reason.as_deref(), Some("the receiver answered 410 Gone"));
    let requests = receiver.seen().len();
    let statuses: Vec<String> = fixture.notifications().into_iter().map(|view| view.status).collect();
    assert_eq!(statuses, ["failed", "failed"]);
    // What happens now is kept with it, and nothing is sent.
    fixture.publish(EventName::PaymentSuccess, "PY3").await;
    fixture.pass(LONG).await;
    assert_eq!((fixture.notifications().len(), receiver.seen().len(), fixture.due()), (3, requests, 0));
    // Enabled again, it gets that when it is asked for.
    is_gone.store(false, Ordering::SeqCst);
    fixture
        .webhooks
        .update_endpoint(&fixture.merchant_id, &endpoint_id, set_status(SettableStatus::Enabled))
        .await
        .unwrap();
    settle().await;
    assert_eq!(receiver.seen().len(), requests);
    fixture.webhooks.recover(&fixture.merchant_id, &endpoint_id, START).await.unwrap();
    fixture.pass(Duration::from_millis(100)).await;
    assert_eq!(receiver.seen().len(), requests + 3);
}

#[tokio::test(start_paused = true)]
async fn a_paused_endpoint_keeps_what_happens_and_sends_it_later() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    let update = |status| fixture.webhooks.update_endpoint(&fixture.merchant_id, &endpoint_id, set_status(status));
    update(SettableStatus::Paused).await.unwrap();
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(LONG).await;
    assert_eq!((receiver.seen().len(), fixture.due()), (0, 1));
    assert!(!fixture.webhooks.actors.is_active(&endpoint_id));
    update(SettableStatus::Enabled).await.unwrap();
    settle().await;
    assert_eq!((receiver.seen().len(), fixture.due()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hung_receiver_that_never_took_one_delays_nobody_else_and_gets_two() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver =
        FakeReceiver::new(&clock, |_, request| if request.url.contains("hung") { Act::Hang } else { answer(200) });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint("https://hung.example/").await;
    fixture.endpoint("https://good.example/").await;
    for number in 0..100 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    settle().await;
    let seen = receiver.seen();
    let good = seen.iter().filter(|request| request.url.contains("good")).count();
    assert_eq!((good, seen.len() - good), (100, 2));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_took_one_gets_all_its_places_until_its_address_changes() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| if number == 0 { answer(200) } else { Act::Hang });
    let before = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = before.endpoint(URL).await;
    before.publish(EventName::PaymentSuccess, "PY1").await;
    settle().await;
    before.webhooks.stop(Duration::from_secs(3)).await;
    // That is known for good, not only while its actor is there.
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    for number in 0..40 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    settle().await;
    assert_eq!(receiver.seen().len(), 1 + webhook_config().endpoint_in_flight_max);
    fixture.webhooks.stop(Duration::from_secs(3)).await;
    let change = UpdateEndpoint { url: Some(String::from("https://moved.example/")), ..UpdateEndpoint::default() };
    fixture.webhooks.update_endpoint(&fixture.merchant_id, &endpoint_id, change).await.unwrap();
    let hung = FakeReceiver::new(&clock, |_, _| Act::Hang);
    let after = Fixture::start(&store, &clock, hung.clone(), webhook_config()).await;
    after.pass(Duration::from_secs(10)).await;
    assert_eq!(hung.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn retries_of_an_unproven_endpoint_do_not_wait_for_its_first_tries() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| if number == 0 { answer(500) } else { Act::Hang });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    for number in 0..20 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    fixture.pass(Duration::from_secs(3)).await;
    let attempts: Vec<String> = receiver.seen().iter().map(|seen| seen.headers["x-webhook-attempt"].clone()).collect();
    assert_eq!(attempts, ["1", "1", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn gone_at_an_address_that_was_changed_meanwhile_disables_nothing() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| match number {
        0 => Act::AnswerAfterWith(Duration::from_secs(5), 410),
        _ => answer(200),
    });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    settle().await;
    let change = UpdateEndpoint { url: Some(String::from("https://moved.example/")), ..UpdateEndpoint::default() };
    fixture.webhooks.update_endpoint(&fixture.merchant_id, &endpoint_id, change).await.unwrap();
    fixture.pass(Duration::from_secs(6)).await;
    assert_eq!(fixture.only_notification().status, "failed");
    let view = fixture.webhooks.get_endpoint(&fixture.merchant_id, &endpoint_id).unwrap();
    assert_eq!((view.status.as_str(), view.disabled_reason), ("enabled", None));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_holds_up_neither_new_webhooks_nor_retries() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| answer(if number == 0 { 500 } else { 200 }));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(Duration::from_millis(500)).await;
    clock.set_back(Duration::from_secs(3_600));
    fixture.publish(EventName::PaymentSuccess, "PY2").await;
    fixture.pass(Duration::from_secs(7)).await;
    assert_eq!((receiver.seen().len(), fixture.due()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_is_found_and_what_is_only_kept_is_not() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, request| {
        if request.url.contains("slow") { Act::AnswerAfter(Duration::from_secs(300)) } else { answer(200) }
    });
    // The slow one stays within what it has.
    let config = crate::config::WebhookConfig { timeout_s: 300, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    let endpoint_id = fixture.endpoint(URL).await;
    fixture.endpoint("https://slow.example/").await;
    let paused_id = fixture.endpoint("https://paused.example/").await;
    let paused = set_status(SettableStatus::Paused);
    fixture.webhooks.update_endpoint(&fixture.merchant_id, &paused_id, paused).await.unwrap();
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    settle().await;
    // Committed and told to nobody, as if a poke had been lost.
    let mut batch = Batch::new();
    let event = event(EventName::PaymentSuccess, "PY2", clock.now());
    let planned = fixture.webhooks.plan(&mut batch, &fixture.merchant_id, &event, None).unwrap();
    store.commit(batch).await.unwrap();
    drop(planned);
    settle().await;
    let seen_of = |part: &str| receiver.seen().iter().filter(|seen| seen.url.contains(part)).count();
    assert_eq!(seen_of("example.com"), 1);
    fixture.pass(Duration::from_secs(120)).await;
    assert_eq!((seen_of("example.com"), seen_of("paused")), (2, 0));
    assert_eq!(fixture.webhooks.actors.reminded_total(), 1, "the slow and the paused one are no faults");
    assert!(!fixture.webhooks.actors.is_active(&endpoint_id));
}

#[tokio::test(start_paused = true)]
async fn due_entries_that_cant_be_read_hold_up_nothing() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    let mut batch = Batch::new();
    batch.put(keys::notification_due(&endpoint_id, SMALLEST_FIRST, START, &NotificationId::new("wn_0")), b"?".to_vec());
    batch.put([keys::notifications_due_of(&endpoint_id).as_slice(), &[0]].concat(), Vec::new());
    store.commit(batch).await.unwrap();
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(Duration::from_secs(300)).await;
    assert_eq!((receiver.seen().len(), fixture.due()), (1, 2));
    assert_eq!((fixture.only_notification().status.as_str(), fixture.webhooks.actors.reminded_total()), ("success", 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_behind_entries_that_cant_be_read_is_found() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    let mut batch = Batch::new();
    batch.put(keys::notification_due(&endpoint_id, SMALLEST_FIRST, START, &NotificationId::new("wn_0")), b"?".to_vec());
    batch.put([keys::notifications_due_of(&endpoint_id).as_slice(), &[0]].concat(), Vec::new());
    let event = event(EventName::PaymentSuccess, "PY1", clock.now());
    let planned = fixture.webhooks.plan(&mut batch, &fixture.merchant_id, &event, None).unwrap();
    store.commit(batch).await.unwrap();
    drop(planned);
    fixture.pass(Duration::from_secs(120)).await;
    assert_eq!((receiver.seen().len(), fixture.due()), (1, 2));
    assert_eq!((fixture.only_notification().status.as_str(), fixture.webhooks.actors.reminded_total()), ("success", 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_is_given_up_and_sent_again() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| if number < 2 { Act::Hang } else { answer(200) });
    // All the places there are: without those of the lost ones nothing more goes out.
    let config = crate::config::WebhookConfig { in_flight_max: 2, slow_in_flight_max: 2, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    let endpoint_id = fixture.endpoint(URL).await;
    for number in 0..5 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(Duration::from_secs(60)).await;
    assert_eq!((receiver.seen().len(), fixture.webhooks.actors.reminded_total()), (2, 0), "it may still end");
    fixture.pass(Duration::from_secs(300)).await;
    assert_eq!((receiver.seen().len(), fixture.due(), fixture.webhooks.actors.reminded_total()), (7, 0, 1));
    assert!(!fixture.webhooks.actors.is_active(&endpoint_id));
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_never_started_is_started_later() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    settle().await;
    fixture.webhooks.actors.directory().lose_start_of(&endpoint_id);
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(Duration::from_secs(60)).await;
    assert_eq!(receiver.seen().len(), 0);
    fixture.pass(Duration::from_secs(120)).await;
    assert_eq!((receiver.seen().len(), fixture.due(), fixture.webhooks.actors.reminded_total()), (1, 0, 1));
    assert!(!fixture.webhooks.actors.is_active(&endpoint_id));
}

#[tokio::test(start_paused = true)]
async fn retries_that_hang_leave_room_for_first_tries_of_the_same_endpoint_and_of_others() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, request| {
        let attempt = request.headers.iter().find(|(name, _)| *name == "x-webhook-attempt").unwrap();
        match (request.url.contains("hung"), attempt.1.as_str()) {
            (false, _) => answer(200),
            (true, "1") => answer(500),
            (true, _) => Act::Hang,
        }
    });
    // It is about places, so the breaker stays out of the way.
    let config = crate::config::WebhookConfig { in_flight_max: 8, breaker_min: 1_000, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    fixture.endpoint("https://hung.example/").await;
    for number in 0..40 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    fixture.pass(Duration::from_secs(5)).await;
    let retries = receiver.seen().iter().filter(|seen| seen.headers["x-webhook-attempt"] == "2").count();
    assert_eq!(retries, 6);
    fixture.endpoint("https://good.example/").await;
    fixture.publish(EventName::PaymentFailed, "PY900").await;
    settle().await;
    let good = receiver.seen().iter().filter(|seen| seen.url.contains("good")).count();
    assert_eq!(good, 1);
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_bounded_over_all_endpoints() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| Act::AnswerAfter(Duration::from_secs(1)));
    // Those that are not known yet have two places, and those that took one have three.
    let config = crate::config::WebhookConfig {
        in_flight_max: 3,
        slow_in_flight_max: 2,
        slow_after_ms: 2_000,
        ..webhook_config()
    };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    for number in 0..4 {
        fixture.endpoint(&format!("https://{number}.example/")).await;
    }
    for number in 0..50 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    fixture.pass(LONG).await;
    assert_eq!((receiver.most_in_flight(), receiver.seen().len(), fixture.due()), (5, 200, 0));
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_sends_the_rest_spread_out_and_each_once() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let silent = FakeReceiver::new(&clock, |_, _| Act::Hang);
    let before = Fixture::start(&store, &clock, silent.clone(), webhook_config()).await;
    before.endpoint(URL).await;
    before.endpoint("https://other.example/").await;
    for number in 0..100 {
        before.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    settle().await;
    before.webhooks.stop(Duration::from_secs(3)).await;
    assert_eq!(before.due(), 200);
    settle().await;
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let after = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let started_at = clock.now();
    after.pass(Duration::from_secs(60)).await;
    let seen = receiver.seen();
    let ids: HashSet<&str> = seen.iter().map(super::fixture::Seen::id).collect();
    assert_eq!((seen.len(), ids.len(), after.due()), (200, 200, 0));
    let offsets_ms: Vec<u128> = seen.iter().map(|request| request.at.since(started_at).as_millis()).collect();
    assert!(offsets_ms.iter().max() <= Some(&5_100), "{offsets_ms:?}");
    assert!(offsets_ms.iter().filter(|offset| **offset < 1_000).count() < 100, "not spread: {offsets_ms:?}");
    // What was under way when we stopped comes again with the same id.
    assert!(silent.seen().iter().all(|request| ids.contains(request.id())));
}

#[tokio::test(start_paused = true)]
async fn a_result_the_store_has_no_room_for_is_committed_later_without_sending_again() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, {
        let store = Arc::clone(&store);
        move |_, _| {
            store.fail([
                (StoreError::Overloaded("test"), Stored::No),
                (StoreError::Precondition { index: 0 }, Stored::No),
                (StoreError::Indeterminate(String::from("test")), Stored::Yes),
            ]);
            answer(200)
        }
    });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(LONG).await;
    assert!(store.has_failed());
    let view = fixture.only_notification();
    assert_eq!((view.status.as_str(), view.attempts), ("success", 1));
    assert_eq!((receiver.seen().len(), fixture.due()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn while_the_store_takes_nothing_nothing_is_sent_twice_and_little_is_asked() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, {
        let store = Arc::clone(&store);
        move |number, _| {
            if number == 10 {
                store.refuse(true);
            }
            answer(200)
        }
    });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY000").await;
    settle().await;
    // Committed before anybody is told, so that the store can refuse in the middle of it.
    let mut all_planned = Vec::new();
    for number in 1..200 {
        let mut batch = Batch::new();
        let event = event(EventName::PaymentSuccess, &format!("PY{number:03}"), clock.now());
        all_planned.push(fixture.webhooks.plan(&mut batch, &fixture.merchant_id, &event, None).unwrap());
        store.commit(batch).await.unwrap();
    }
    all_planned.into_iter().for_each(|planned| fixture.webhooks.announce(planned));
    fixture.pass(Duration::from_secs(600)).await;
    let under_way = fixture.webhooks.actors.under_way();
    let asked = receiver.seen().len();
    let in_flight_max = webhook_config().endpoint_in_flight_max;
    assert_eq!(under_way.asking, 0);
    assert_eq!(under_way.recording, in_flight_max, "as many as are in flight at most, to be sent again after a crash");
    assert!(asked <= 10 + in_flight_max, "{asked}");
    assert_eq!(fixture.webhooks.actors.reminded_total(), 0);
    store.refuse(false);
    fixture.pass(Duration::from_secs(6)).await;
    assert_eq!((fixture.due(), receiver.seen().len()), (0, 200));
    let seen = receiver.seen();
    let ids: HashSet<&str> = seen.iter().map(super::fixture::Seen::id).collect();
    assert_eq!(ids.len(), seen.len(), "sent twice");
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_sending_holds_the_notification_back_and_nothing_else() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| if number == 0 { Act::Panic } else { answer(200) });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.publish(EventName::PaymentSuccess, "PY2").await;
    settle().await;
    assert_eq!(receiver.seen().len(), 2);
    fixture.pass(Duration::from_secs(6)).await;
    assert_eq!((receiver.seen().len(), fixture.due()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_fails_is_started_again_and_does_not_send_twice() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| Act::AnswerAfter(Duration::from_secs(20)));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    let other_id = fixture.endpoint("https://other.example/").await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    settle().await;
    store.panic_on_scan_of(keys::notifications_due_of(&endpoint_id));
    fixture.publish(EventName::PaymentSuccess, "PY2").await;
    fixture.pass(LONG).await;
    assert_eq!((receiver.seen().len(), fixture.due()), (4, 0));
    assert!(!fixture.webhooks.actors.is_active(&endpoint_id));
    assert!(!fixture.webhooks.actors.is_active(&other_id));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_while_the_request_is_under_way_stays_and_the_try_is_noted() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| Act::AnswerAfter(Duration::from_secs(5)));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    settle().await;
    let id = NotificationId::new(fixture.only_notification().id);
    let canceled = fixture.webhooks.cancel_notification(&fixture.merchant_id, &id).await.unwrap();
    assert_eq!((canceled.status.as_str(), canceled.error.as_deref()), ("failed", Some("canceled")));
    assert_eq!(fixture.due(), 0);
    let again = fixture.webhooks.cancel_notification(&fixture.merchant_id, &id).await;
    assert!(matches!(again, Err(GatewayError::InvalidState { .. })));
    fixture.pass(LONG).await;
    let view = fixture.only_notification();
    assert_eq!((view.status.as_str(), view.error.as_deref(), view.attempts), ("failed", Some("canceled"), 1));
    assert_eq!(receiver.seen().len(), 1);
    // Begun anew it goes out again with the same id.
    fixture.webhooks.retry_notification(&fixture.merchant_id, &id).await.unwrap();
    fixture.pass(LONG).await;
    let seen = receiver.seen();
    assert_eq!((seen.len(), seen[0].id() == seen[1].id()), (2, true));
    assert_eq!(fixture.only_notification().status, "success");
    let success = fixture.webhooks.retry_notification(&fixture.merchant_id, &id).await;
    assert!(matches!(success, Err(GatewayError::InvalidState { .. })));
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_to_a_deleted_endpoint_ends() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(500));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    for number in 0..70 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    settle().await;
    assert_eq!(fixture.due(), 70);
    fixture.webhooks.delete_endpoint(&fixture.merchant_id, &endpoint_id).await.unwrap();
    settle().await;
    assert_eq!(fixture.due(), 0);
    assert!(fixture.notifications().iter().all(|view| view.error.as_deref() == Some("the endpoint was deleted")));
    let id = NotificationId::new(fixture.notifications()[0].id.clone());
    let retried = fixture.webhooks.retry_notification(&fixture.merchant_id, &id).await;
    assert!(matches!(retried, Err(GatewayError::InvalidState { .. })));
    let gone = fixture.webhooks.delete_endpoint(&fixture.merchant_id, &endpoint_id).await;
    assert!(matches!(gone, Err(GatewayError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_what_is_under_way_and_starts_nothing_more() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| match number {
        0 => answer(200),
        _ => Act::AnswerAfter(Duration::from_secs(2)),
    });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY000").await;
    settle().await;
    for number in 1..=20 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    settle().await;
    fixture.webhooks.stop(Duration::from_secs(3)).await;
    let in_flight_max = webhook_config().endpoint_in_flight_max;
    assert_eq!((receiver.seen().len(), fixture.due()), (1 + in_flight_max, 20 - in_flight_max));
    fixture.publish(EventName::PaymentSuccess, "PY999").await;
    fixture.pass(LONG).await;
    assert_eq!(receiver.seen().len(), 1 + in_flight_max);
}

#[tokio::test(start_paused = true)]
async fn a_test_event_goes_to_one_endpoint_whatever_it_wants() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    fixture.endpoint("https://other.example/").await;
    let narrow = UpdateEndpoint { events: Some(vec![String::from("refund.*")]), ..UpdateEndpoint::default() };
    fixture.webhooks.update_endpoint(&fixture.merchant_id, &endpoint_id, narrow).await.unwrap();
    let sent = fixture.webhooks.send_test(&fixture.merchant_id, &endpoint_id).await.unwrap();
    assert_eq!((sent.event.as_str(), sent.status.as_str()), ("test", "pending"));
    settle().await;
    let seen = receiver.seen();
    assert_eq!((seen.len(), seen[0].url.as_str()), (1, URL));
    let body: serde_json::Value = serde_json::from_str(&seen[0].body).unwrap();
    assert_eq!((&body["event"], &body["amount"]), (&serde_json::json!("test"), &serde_json::Value::Null));
    assert_eq!(body["timestamp"], serde_json::json!(START.unix_s()));
    let unknown = fixture.webhooks.send_test(&fixture.merchant_id, &EndpointId::new("we_x")).await;
    assert!(matches!(unknown, Err(GatewayError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn endpoints_for_which_there_is_no_actor_wait_for_one_and_lose_nothing() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| answer(if number < 20 { 500 } else { 200 }));
    let config = crate::config::WebhookConfig { schedule_s: vec![600], ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    fixture.webhooks.actors.directory().limit_actors(2);
    for number in 0..10 {
        fixture.endpoint(&format!("https://{number}.example/")).await;
    }
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.publish(EventName::PaymentSuccess, "PY2").await;
    settle().await;
    assert!(fixture.webhooks.actors.active() <= 2);
    // Those that only sleep make room: everybody is asked long before the first retry is due.
    fixture.pass(Duration::from_secs(300)).await;
    assert_eq!((receiver.seen().len(), fixture.due()), (20, 20));
    fixture.pass(LONG).await;
    assert_eq!((receiver.seen().len(), fixture.due(), fixture.webhooks.actors.active()), (40, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_poke_that_races_with_putting_away_is_not_lost() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Arc::new(Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await);
    fixture.endpoint(URL).await;
    let mut publishing = tokio::task::JoinSet::new();
    for publisher in 0..4 {
        let fixture = Arc::clone(&fixture);
        publishing.spawn(async move {
            for number in 0..250 {
                fixture.publish(EventName::PaymentSuccess, &format!("PY{publisher}-{number}")).await;
                for _ in 0..number % 7 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    publishing.join_all().await;
    eventually(|| (fixture.due() == 0).then_some(())).await;
    let seen = receiver.seen();
    let ids: HashSet<&str> = seen.iter().map(super::fixture::Seen::id).collect();
    assert_eq!((seen.len(), ids.len()), (1_000, 1_000));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cant_be_read_is_tried_more_and_more_seldom() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    fixture.endpoint(URL).await;
    let mut batch = Batch::new();
    let event = event(EventName::PaymentSuccess, "PY1", clock.now());
    let planned = fixture.webhooks.plan(&mut batch, &fixture.merchant_id, &event, None).unwrap();
    let rows = keys::notifications();
    for write in &mut batch.writes {
        if let Write::Put { key, value } = write
            && key.starts_with(&rows)
        {
            *value = b"?".to_vec();
        }
    }
    store.commit(batch).await.unwrap();
    let before = store.reads();
    fixture.webhooks.announce(planned);
    fixture.pass(LONG).await;
    let (gets, scans) = (store.reads().gets - before.gets, store.reads().scans - before.scans);
    // Most of it by the sweep, every half minute; every five seconds it would be 17,280 times.
    assert!(gets < 12_000 && scans < 8_000, "{gets} gets, {scans} scans");
    assert_eq!((receiver.seen().len(), fixture.due()), (0, 1));
    assert_eq!((fixture.webhooks.actors.unreadable(), fixture.webhooks.actors.reminded_total()), (1, 0));
    // And it holds up nothing else.
    fixture.publish(EventName::PaymentSuccess, "PY2").await;
    settle().await;
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_secret_cant_be_read_rests_until_it_is_mended() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    let key = keys::endpoint(&fixture.merchant_id, &endpoint_id);
    let good = store.get(&key).unwrap().unwrap();
    let text = String::from_utf8(good.value[1..].to_vec()).unwrap();
    let mut row: serde_json::Value = serde_json::from_str(&text).unwrap();
    row["secrets"]["current"] = serde_json::json!("damaged");
    let damaged = [&good.value[..1], row.to_string().as_bytes()].concat();
    let put = async |value: Vec<u8>| {
        let mut batch = Batch::new();
        batch.put(key.clone(), value);
        store.commit(batch).await.unwrap();
    };
    put(damaged).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(LONG).await;
    assert_eq!((receiver.seen().len(), fixture.due()), (0, 1));
    assert_eq!((fixture.webhooks.actors.unreadable(), fixture.webhooks.actors.reminded_total()), (1, 0));
    put(good.value.to_vec()).await;
    fixture.pass(Duration::from_secs(3_700)).await;
    assert_eq!((receiver.seen().len(), fixture.due()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_retry_set_while_the_clock_was_far_ahead_goes_out_when_it_is_right_again() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| answer(if number == 0 { 500 } else { 200 }));
    let ahead = Clock::virtual_from(START.plus(LONG * 365));
    let before = Fixture::start(&store, &ahead, receiver.clone(), webhook_config()).await;
    before.endpoint(URL).await;
    before.publish(EventName::PaymentSuccess, "PY1").await;
    before.pass(Duration::from_millis(500)).await;
    before.publish(EventName::PaymentSuccess, "PY2").await;
    before.webhooks.stop(Duration::ZERO).await;
    let requests = receiver.seen().len();
    assert_eq!(before.due(), 3 - requests);
    let after = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    after.pass(Duration::from_secs(7)).await;
    assert_eq!((receiver.seen().len(), after.due()), (3, 0));
}
