//! Endpoints, lists and events.

use std::sync::Arc;
use std::time::Duration;

use super::fixture::{FakeReceiver, Fixture, START, answer, event, settle, webhook_config};
use super::jobs::set;
use super::store::store;
use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::delivery::signing::verify;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::EndpointStatus;
use crate::gateway::error::GatewayError;
use crate::gateway::page::PageRequest;
use crate::gateway::webhooks::{CreateEndpoint, Kept, NotificationFilter, SettableStatus, UpdateEndpoint};
use crate::storage::{Batch, Store, keys};

const URL: &str = "https://example.com/hook";

async fn fixture() -> Fixture {
    let clock = Clock::virtual_from(START);
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    Fixture::start(&store(), &clock, receiver, webhook_config()).await
}

fn page(limit: usize, cursor: Option<String>) -> PageRequest {
    PageRequest { limit: Some(limit), cursor }
}

#[tokio::test(start_paused = true)]
async fn the_secret_is_shown_once_and_is_not_in_the_store() {
    let fixture = fixture().await;
    let made = fixture.new_endpoint(URL).await;
    assert!(made.secret.starts_with("whsec_"));
    assert_eq!((made.endpoint.status.as_str(), made.endpoint.events.as_slice()), ("enabled", &["*".to_owned()][..]));
    assert_eq!((made.endpoint.max_attempts, made.endpoint.url.as_str()), (13, URL));
    let view = serde_json::to_value(&made).unwrap();
    assert!(view["secret"].is_string() && view["id"].is_string());
    let id = EndpointId::new(made.endpoint.id.clone());
    let read = fixture.webhooks.get_endpoint(&fixture.merchant_id, &id).unwrap();
    assert!(!serde_json::to_string(&read).unwrap().contains("whsec_"));
    let stored = fixture.store.get(&crate::storage::keys::endpoint(&fixture.merchant_id, &id)).unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&stored.value).contains(&made.secret));
    assert!(!format!("{made:?}").contains(&made.secret));
}

#[tokio::test(start_paused = true)]
async fn a_former_secret_signs_for_as_long_as_configured_and_no_longer() {
    for overlap_s in [0, 1_000, 86_400] {
        let (store, clock) = (store(), Clock::virtual_from(START));
        let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
        let config = WebhookConfig { rotation_overlap_s: overlap_s, ..webhook_config() };
        let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
        let first = fixture.new_endpoint("https://shop.example/").await;
        let id = EndpointId::new(first.endpoint.id);
        let second = fixture.webhooks.rotate_secret(&fixture.merchant_id, &id).await.unwrap();
        let end = START.plus(Duration::from_secs(overlap_s));
        for before_end in [500_u64, 2] {
            let at = end.minus(Duration::from_millis(before_end));
            fixture.pass(at.since(clock.now())).await;
            fixture.publish(EventName::PaymentSuccess, "PY1").await;
        }
        fixture.pass(Duration::from_millis(2)).await;
        fixture.publish(EventName::PaymentSuccess, "PY2").await;
        fixture.pass(Duration::from_secs(1)).await;
        let seen = receiver.seen();
        assert_eq!(seen.len(), 3);
        for one in &seen {
            let verifies = |secret: &str| {
                let headers = one.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                verify(secret, headers, one.body.as_bytes(), one.at).is_ok()
            };
            assert!(verifies(&second.secret));
            let is_within = one.at < end;
            assert_eq!(verifies(&first.secret), is_within, "{overlap_s} s, at {:?}", one.at);
            assert_eq!(one.headers["webhook-signature"].split(' ').count(), 1 + usize::from(is_within));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_requests_are_refused_by_field() {
    let fixture = fixture().await;
    let create = |request| fixture.webhooks.create_endpoint(&fixture.merchant_id, request);
    let good = CreateEndpoint { url: URL.to_owned(), ..CreateEndpoint::default() };
    for url in ["http://example.com/", "https://10.0.0.1/", "https://a:b@example.com/", "nonsense"] {
        let refused = create(CreateEndpoint { url: url.to_owned(), ..good.clone() }).await;
        assert!(matches!(refused, Err(GatewayError::UrlNotAllowed(_))), "{url}");
    }
    let wrong = [
        ("events", CreateEndpoint { events: Some(vec![]), ..good.clone() }),
        ("events", CreateEndpoint { events: Some(vec![String::from("nothing")]), ..good.clone() }),
        ("description", CreateEndpoint { description: Some("x".repeat(501)), ..good.clone() }),
        ("max_attempts", CreateEndpoint { max_attempts: Some(0), ..good.clone() }),
        ("max_attempts", CreateEndpoint { max_attempts: Some(101), ..good.clone() }),
    ];
    for (field, request) in wrong {
        let Err(GatewayError::InvalidRequest(errors)) = create(request).await else { panic!("{field} was taken") };
        assert_eq!(errors[0].field, field);
    }
    assert!(fixture.webhooks.list_endpoints(&fixture.merchant_id, &page(20, None)).unwrap().items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_more_endpoints_than_the_limit_even_when_made_at_once() {
    let fixture = Arc::new(fixture().await);
    let mut making = tokio::task::JoinSet::new();
    for number in 0..24 {
        let fixture = Arc::clone(&fixture);
        making.spawn(async move {
            let request = CreateEndpoint { url: format!("https://{number}.example/"), ..CreateEndpoint::default() };
            fixture.webhooks.create_endpoint(&fixture.merchant_id, request).await.is_ok()
        });
    }
    let made = making.join_all().await.into_iter().filter(|is_made| *is_made).count();
    assert!(made <= 16);
    while fixture.webhooks.list_endpoints(&fixture.merchant_id, &page(100, None)).unwrap().items.len() < 16 {
        fixture.endpoint(URL).await;
    }
    let request = CreateEndpoint { url: URL.to_owned(), ..CreateEndpoint::default() };
    let refused = fixture.webhooks.create_endpoint(&fixture.merchant_id, request.clone()).await;
    assert!(matches!(refused, Err(GatewayError::Forbidden(_))));
    let other = fixture.webhooks.create_endpoint(&MerchantId::new("m_2"), request).await;
    assert!(other.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_change_merges_and_is_in_force_for_the_next_event() {
    let fixture = fixture().await;
    let id = fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    let changes = UpdateEndpoint {
        events: Some(vec![String::from("refund.*"), String::from("refund.*")]),
        description: Some(String::from("till 3")),
        ..UpdateEndpoint::default()
    };
    let view = fixture.webhooks.update_endpoint(&fixture.merchant_id, &id, changes).await.unwrap();
    assert_eq!((view.url.as_str(), view.events.as_slice()), (URL, &["refund.*".to_owned()][..]));
    assert_eq!(view.description.as_deref(), Some("till 3"));
    fixture.publish(EventName::PaymentSuccess, "PY2").await;
    fixture.publish(EventName::RefundSuccess, "PY3").await;
    settle().await;
    let numbers: Vec<Option<String>> = fixture.notifications().into_iter().map(|view| view.payment_no).collect();
    assert_eq!(numbers, [Some(String::from("PY3")), Some(String::from("PY1"))]);
    let moved = UpdateEndpoint { url: Some(String::from("https://192.168.0.1/")), ..UpdateEndpoint::default() };
    let refused = fixture.webhooks.update_endpoint(&fixture.merchant_id, &id, moved).await;
    assert!(matches!(refused, Err(GatewayError::UrlNotAllowed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_disabled_endpoint_can_be_enabled_and_not_paused() {
    let fixture = fixture().await;
    let id = fixture.endpoint(URL).await;
    set(&fixture, &id, EndpointStatus::Disabled).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    let update = async |status, kept| {
        let changes = UpdateEndpoint { status: Some(status), kept, ..UpdateEndpoint::default() };
        fixture.webhooks.update_endpoint(&fixture.merchant_id, &id, changes).await
    };
    let paused = update(SettableStatus::Paused, None).await;
    assert!(matches!(&paused, Err(GatewayError::InvalidState { status }) if status == "disabled"), "{paused:?}");
    let view = fixture.webhooks.get_endpoint(&fixture.merchant_id, &id).unwrap();
    assert_eq!((view.status.as_str(), view.disabled_reason.as_deref()), ("disabled", Some("for a test")));
    update(SettableStatus::Enabled, Some(Kept::Send)).await.unwrap();
    fixture.pass(Duration::from_secs(10)).await;
    assert_eq!(fixture.only_notification().status, "success", "what was kept can still be sent");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_tries_goes_back_to_the_gateways() {
    let fixture = fixture().await;
    let id = fixture.endpoint(URL).await;
    for (body, expected) in [
        (r#"{"max_attempts":5}"#, 5),
        (r#"{"description":"x"}"#, 5),
        (r#"{"max_attempts":null}"#, webhook_config().max_attempts),
    ] {
        let changes: UpdateEndpoint = serde_json::from_str(body).unwrap();
        let view = fixture.webhooks.update_endpoint(&fixture.merchant_id, &id, changes).await.unwrap();
        assert_eq!(view.max_attempts, expected, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_merchant_sees_how_much_waits_for_an_endpoint_and_how_much_was_given_up() {
    let clock = Clock::virtual_from(START);
    let receiver = FakeReceiver::new(&clock, |_, _| answer(404));
    let fixture = Fixture::start(&store(), &clock, receiver, webhook_config()).await;
    let id = fixture.endpoint(URL).await;
    for number in 0..2 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(Duration::from_secs(10)).await;
    set(&fixture, &id, EndpointStatus::Paused).await;
    for number in 2..5 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    let view = fixture.webhooks.get_endpoint(&fixture.merchant_id, &id).unwrap();
    assert_eq!((view.waiting, view.dead_letters), (Some(3), Some(2)));
    let listed = fixture.webhooks.list_endpoints(&fixture.merchant_id, &page(20, None)).unwrap();
    assert_eq!((listed.items[0].waiting, listed.items[0].dead_letters), (None, None), "a list counts nothing");
    let whys: Vec<Option<String>> = fixture.notifications().into_iter().map(|view| view.failure).collect();
    let refused = Some(String::from("refused"));
    assert_eq!(whys, [None, None, None, refused.clone(), refused]);
}

#[tokio::test(start_paused = true)]
async fn another_merchants_objects_are_not_there() {
    let fixture = fixture().await;
    let id = fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    settle().await;
    let notification_id = NotificationId::new(fixture.only_notification().id);
    let stranger = MerchantId::new("m_");
    assert!(matches!(fixture.webhooks.get_endpoint(&stranger, &id), Err(GatewayError::NotFound(_))));
    assert!(matches!(fixture.webhooks.delete_endpoint(&stranger, &id).await, Err(GatewayError::NotFound(_))));
    let notification = fixture.webhooks.get_notification(&stranger, &notification_id);
    assert!(matches!(notification, Err(GatewayError::NotFound(_))));
    assert!(fixture.webhooks.list_events(&stranger, &page(20, None)).unwrap().items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_are_listed_in_order_without_gaps_and_a_poller_goes_on_where_it_was() {
    let fixture = fixture().await;
    for number in 0..5 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    let list = |cursor| fixture.webhooks.list_events(&fixture.merchant_id, &page(2, cursor)).unwrap();
    let mut sequences = Vec::new();
    let mut cursor = None;
    for _ in 0..3 {
        let events = list(cursor);
        sequences.extend(events.items.iter().map(|event| event.sequence));
        cursor = events.next_cursor;
    }
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    let nothing_new = list(cursor);
    assert!(nothing_new.items.is_empty());
    fixture.publish(EventName::PaymentFailed, "PY5").await;
    let new = list(nothing_new.next_cursor);
    assert_eq!((new.items.len(), new.items[0].sequence), (1, 6));
    assert_eq!((new.items[0].event.as_str(), new.items[0].payment_no.as_deref()), ("payment.failed", Some("PY5")));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_no_list_of_events_gave_is_refused() {
    let fixture = fixture().await;
    for number in 0..3 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    let list = |cursor: &str| fixture.webhooks.list_events(&fixture.merchant_id, &page(20, Some(String::from(cursor))));
    let given = fixture.webhooks.list_events(&fixture.merchant_id, &page(2, None)).unwrap().next_cursor.unwrap();
    assert_eq!(list(&given).unwrap().items.len(), 1);
    // As versions before the digest made them.
    assert_eq!(list(&given[..16]).unwrap().items.len(), 1);
    let (zero, beyond) = ("00".repeat(8), format!("{:016x}", 4));
    let payment = hex::encode(b"PY20250124104000abcdefgh\0");
    let longer = format!("{given}00");
    for strange in ["", "00", "zz", &given[..14], &given[..20], &longer, &zero, &beyond, &payment, &"ff".repeat(500)] {
        let Err(GatewayError::InvalidRequest(errors)) = list(strange) else { panic!("{strange}") };
        assert_eq!(errors[0].field, "cursor", "{strange}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_poller_is_told_that_the_store_was_restored() {
    let events = async |fixture: &Fixture, count: u32| {
        for _ in 0..count {
            // So that no two have the same id.
            fixture.pass(Duration::from_secs(1)).await;
            fixture.publish(EventName::PaymentSuccess, "PY1").await;
        }
    };
    let all = |fixture: &Fixture, cursor| fixture.webhooks.list_events(&fixture.merchant_id, &page(20, cursor));
    let before = fixture().await;
    events(&before, 3).await;
    let cursor = all(&before, None).unwrap().next_cursor;
    let restored = fixture().await;
    restored.pass(Duration::from_secs(100)).await;
    events(&restored, 2).await;
    // Whether there are fewer events than the client knows, or others.
    for known in 2..4 {
        let refused = all(&restored, cursor.clone());
        let Err(GatewayError::InvalidRequest(errors)) = refused else { panic!("{known}: {refused:?}") };
        assert_eq!(errors[0].field, "cursor");
        events(&restored, 1).await;
    }
    let own = all(&restored, None).unwrap().next_cursor;
    assert!(all(&restored, own.clone()).unwrap().items.is_empty());
    // What was kept long enough is not there either, and nothing is wrong with that.
    let mut batch = Batch::new();
    (1..=4).for_each(|number| batch.delete(keys::event(&restored.merchant_id, number)));
    restored.store.commit(batch).await.unwrap();
    assert_eq!(restored.webhooks.last_event_number(&restored.merchant_id).unwrap(), 4);
    events(&restored, 1).await;
    assert_eq!(all(&restored, own).unwrap().items[0].sequence, 5);
}

#[tokio::test(start_paused = true)]
async fn notifications_are_listed_newest_first_by_filter_and_page() {
    let fixture = fixture().await;
    let id = fixture.endpoint(URL).await;
    for number in 0..250 {
        let name = if number % 50 == 0 { EventName::RefundFailed } else { EventName::PaymentSuccess };
        fixture.publish(name, &format!("PY{number:03}")).await;
        settle().await;
    }
    let numbers = |filter: &NotificationFilter, limit| {
        let mut numbers = Vec::new();
        let mut cursor = None;
        loop {
            let found =
                fixture.webhooks.list_notifications(&fixture.merchant_id, filter, &page(limit, cursor)).unwrap();
            assert!(found.items.len() <= limit);
            numbers.extend(found.items.into_iter().filter_map(|view| view.payment_no));
            cursor = found.next_cursor;
            if cursor.is_none() {
                return numbers;
            }
        }
    };
    let all: Vec<String> = (0..250).rev().map(|number| format!("PY{number:03}")).collect();
    assert_eq!(numbers(&NotificationFilter::default(), 100), all);
    let refunds = NotificationFilter { event: Some(String::from("refund.failed")), ..NotificationFilter::default() };
    assert_eq!(numbers(&refunds, 2), ["PY200", "PY150", "PY100", "PY050", "PY000"]);
    let one = NotificationFilter {
        payment_no: Some(String::from("PY007")),
        status: Some(String::from("success")),
        endpoint_id: Some(id.to_string()),
        ..NotificationFilter::default()
    };
    assert_eq!(numbers(&one, 20), ["PY007"]);
    let wrong = NotificationFilter { status: Some(String::from("sent")), ..NotificationFilter::default() };
    let refused = fixture.webhooks.list_notifications(&fixture.merchant_id, &wrong, &page(20, None));
    assert!(matches!(refused, Err(GatewayError::InvalidRequest(_))));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_committed_leaves_nothing() {
    let fixture = fixture().await;
    fixture.endpoint(URL).await;
    let mut batch = Batch::new();
    let planned = fixture
        .webhooks
        .plan(&mut batch, &fixture.merchant_id, &event(EventName::PaymentSuccess, "PY1", START), None)
        .unwrap();
    // The event; the notification and its due entry; and that the due entry is new.
    assert_eq!((batch.appends.len(), batch.writes.len(), batch.preconditions.len()), (1, 2, 1));
    fixture.webhooks.announce(planned);
    settle().await;
    assert_eq!((fixture.notifications().len(), fixture.due()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_told_of_an_object_is_found_among_a_great_many_others() {
    let fixture = fixture().await;
    fixture.endpoint(URL).await;
    let others = async |from: usize, number: usize| {
        for number in from..from + number {
            fixture.publish(EventName::PaymentSuccess, &format!("PY_OTHER_{number}")).await;
        }
        fixture.pass(Duration::from_secs(60)).await;
    };
    let made = fixture.clock.now();
    fixture.publish(EventName::PaymentSuccess, "PY_FIRST").await;
    fixture.pass(Duration::from_secs(60)).await;
    others(0, 10).await;
    let refunded = fixture.clock.now();
    fixture.publish(EventName::RefundSuccess, "PY_FIRST").await;
    fixture.pass(Duration::from_secs(60)).await;
    let found = |times: &[Timestamp]| {
        let events = fixture.webhooks.events_about(&fixture.merchant_id, "PY_FIRST", times).unwrap();
        let webhooks = fixture.webhooks.notifications_about(&fixture.merchant_id, "PY_FIRST", times).unwrap();
        let names: Vec<String> = events.items.into_iter().map(|event| event.event).collect();
        let sent: Vec<String> = webhooks.items.into_iter().map(|item| item.event).collect();
        (names, events.is_all, sent, webhooks.is_all)
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (both, newest_first) =
        (names(&["payment.success", "refund.success"]), names(&["refund.success", "payment.success"]));
    assert_eq!(found(&[refunded, made]), (both, true, newest_first, true));
    assert_eq!(found(&[]), (Vec::new(), true, Vec::new(), true));
    // More than are looked at in one go, before it is given back once more.
    others(10, 6_500).await;
    let again = fixture.clock.now();
    fixture.publish(EventName::RefundFailed, "PY_FIRST").await;
    fixture.pass(Duration::from_secs(60)).await;
    let all = names(&["payment.success", "refund.success", "refund.failed"]);
    let newest_first: Vec<String> = all.iter().rev().cloned().collect();
    assert_eq!(found(&[made, refunded, again]), (all, false, newest_first, false));
}
