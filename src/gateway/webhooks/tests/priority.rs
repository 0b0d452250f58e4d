//! In which order one endpoint's webhooks go out. In virtual time.

use std::time::Duration;

use super::fixture::{Act, FakeReceiver, Fixture, START, answer, settle, webhook_config};
use super::store::store;
use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::domain::event::EventName;
use crate::gateway::webhooks::{SettableStatus, UpdateEndpoint};

/// One at a time, so that the order is that of the picks.
fn one_at_a_time() -> WebhookConfig {
    WebhookConfig { endpoint_in_flight_max: 1, horizon_max: 512, ..webhook_config() }
}

fn set_status(status: SettableStatus) -> UpdateEndpoint {
    UpdateEndpoint { status: Some(status), ..UpdateEndpoint::default() }
}

/// Amounts of all four classes in US dollars, by the last digit of the payment's number.
const AMOUNTS_MINOR: [i64; 7] = [100, 2_000_000, 15_000, 100_000, 999_999, 9_999, 1_000_000];

fn class_of(payment: usize) -> usize {
    match AMOUNTS_MINOR[payment % AMOUNTS_MINOR.len()] {
        1_000_000.. => 0,
        100_000.. => 1,
        10_000.. => 2,
        _ => 3,
    }
}

/// The order in which payments have to go out that happened one after another.
fn expected(payments: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..payments).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let is_oldest = order.len() % 4 == 3;
        let next = if is_oldest {
            0
        } else {
            left.iter()
                .map(|payment| class_of(*payment))
                .enumerate()
                .min_by_key(|(place, class)| (*class, *place))
                .unwrap()
                .0
        };
        order.push(left.remove(next));
    }
    order
}

#[tokio::test(start_paused = true)]
async fn larger_amounts_go_first_and_every_fourth_time_the_oldest() {
    const PAYMENTS: usize = 40;
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), one_at_a_time()).await;
    let endpoint_id = fixture.endpoint("https://example.com/").await;
    let update = |status| fixture.webhooks.update_endpoint(&fixture.merchant_id, &endpoint_id, set_status(status));
    update(SettableStatus::Paused).await.unwrap();
    for payment in 0..PAYMENTS {
        let amount_minor = AMOUNTS_MINOR[payment % AMOUNTS_MINOR.len()];
        fixture.publish_of(&fixture.merchant_id, &format!("PY{payment}"), amount_minor).await;
        fixture.pass(Duration::from_millis(1)).await;
    }
    update(SettableStatus::Enabled).await.unwrap();
    fixture.pass(Duration::from_secs(1)).await;
    let order: Vec<String> = receiver.seen().iter().map(super::fixture::Seen::payment_no).collect();
    let expected: Vec<String> = expected(PAYMENTS).iter().map(|payment| format!("PY{payment}")).collect();
    assert_eq!(order, expected);
}

#[tokio::test(start_paused = true)]
async fn a_small_amount_is_not_kept_waiting_by_a_stream_of_large_ones() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| Act::AnswerAfter(Duration::from_millis(100)));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), one_at_a_time()).await;
    fixture.endpoint("https://example.com/").await;
    for number in 0..3 {
        fixture.publish_of(&fixture.merchant_id, &format!("PY-large-{number}"), 5_000_000).await;
    }
    settle().await;
    fixture.publish_of(&fixture.merchant_id, "PY-small", 1).await;
    for number in 3..60 {
        fixture.publish_of(&fixture.merchant_id, &format!("PY-large-{number}"), 5_000_000).await;
        fixture.pass(Duration::from_millis(50)).await;
    }
    let order: Vec<String> = receiver.seen().iter().map(super::fixture::Seen::payment_no).collect();
    let place = order.iter().position(|payment_no| payment_no == "PY-small").unwrap();
    // Those before it in time go first when it is the oldest's turn.
    assert!(place <= 3 + 4, "{order:?}");
    assert!(order.len() > 20);
}

#[tokio::test(start_paused = true)]
async fn first_tries_go_before_retries_of_the_same_class() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| answer(if number < 3 { 500 } else { 200 }));
    let config = WebhookConfig { schedule_s: vec![10], ..one_at_a_time() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    let endpoint_id = fixture.endpoint("https://example.com/").await;
    let update = |status| fixture.webhooks.update_endpoint(&fixture.merchant_id, &endpoint_id, set_status(status));
    for number in 0..3 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
        fixture.pass(Duration::from_millis(1)).await;
    }
    update(SettableStatus::Paused).await.unwrap();
    fixture.pass(Duration::from_secs(20)).await;
    for number in 3..6 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
        fixture.pass(Duration::from_millis(1)).await;
    }
    update(SettableStatus::Enabled).await.unwrap();
    fixture.pass(Duration::from_secs(1)).await;
    let order: Vec<String> = receiver.seen().iter().skip(3).map(super::fixture::Seen::payment_no).collect();
    assert_eq!(order, ["PY3", "PY4", "PY5", "PY0", "PY1", "PY2"]);
}
