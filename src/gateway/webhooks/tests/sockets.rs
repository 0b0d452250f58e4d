//! The whole way, over real sockets. Waits are zero, so that no test sleeps for a schedule.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::fixture::{Fixture, START, webhook_config};
use super::store::{TestStore, store};
use crate::clock::Clock;
use crate::config::{Config, WebhookConfig};
use crate::delivery::Deliver;
use crate::delivery::client::{DeliverySettings, HttpDelivery};
use crate::delivery::signing::{Secret, VerifyError, verify};
use crate::delivery::testing::{Received, Receiver, Reply, eventually, reply};
use crate::domain::event::EventName;
use crate::domain::ids::EndpointId;

fn config() -> WebhookConfig {
    WebhookConfig { schedule_s: vec![0], restart_spread_ms: 0, ..webhook_config() }
}

fn http() -> Arc<dyn Deliver> {
    Arc::new(HttpDelivery::new(DeliverySettings::from(&config())).unwrap())
}

async fn start(store: &Arc<TestStore>) -> Fixture {
    Fixture::start(store, &Clock::virtual_from(START), http(), config()).await
}

fn check(received: &Received, secret: &str) -> Result<(), VerifyError> {
    verify(secret, received.headers(), received.body.as_bytes(), START)
}

#[tokio::test]
async fn a_failure_then_a_success_with_good_signatures() {
    let receiver = Receiver::start(|number, _| reply(if number < 2 { 500 } else { 200 }, "", b"noted")).await;
    let fixture = start(&store()).await;
    let secret = fixture.new_endpoint(&receiver.url).await.secret;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    let received = receiver.wait_for(3).await;
    for (number, request) in received.iter().enumerate() {
        assert_eq!(check(request, &secret), Ok(()));
        let plain = Secret::parse(&secret).unwrap().sign_body(request.body.as_bytes());
        assert_eq!(request.header("x-webhook-signature"), Some(plain.as_str()));
        assert_eq!(request.header("x-webhook-event"), Some("payment.success"));
        assert_eq!(request.header("x-webhook-attempt"), Some((number + 1).to_string().as_str()));
        assert_eq!(request.header("x-webhook-timestamp"), request.header("webhook-timestamp"));
        // Byte for byte as it was made, also the order of fields.
        assert_eq!(request.body, r#"{"event":"payment.success","payment_no":"PY1","extra":{"b":1,"a":2}}"#);
    }
    let view = eventually(|| Some(fixture.only_notification()).filter(|view| view.status == "success")).await;
    assert_eq!((view.attempts, view.response.as_deref()), (3, Some("noted")));
    assert_eq!(received[0].header("webhook-id"), Some(view.id.as_str()));
}

#[tokio::test]
async fn during_a_rotation_both_secrets_verify() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let fixture = start(&store()).await;
    let first = fixture.new_endpoint(&receiver.url).await;
    let id = EndpointId::new(first.endpoint.id);
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    receiver.wait_for(1).await;
    let second = fixture.webhooks.rotate_secret(&fixture.merchant_id, &id).await.unwrap();
    assert_ne!(first.secret, second.secret);
    assert!(second.endpoint.previous_secret_valid_until.is_some());
    fixture.publish(EventName::PaymentSuccess, "PY2").await;
    let received = receiver.wait_for(2).await;
    assert_eq!(check(&received[0], &second.secret), Err(VerifyError::Signature));
    assert_eq!((check(&received[1], &first.secret), check(&received[1], &second.secret)), (Ok(()), Ok(())));
    let plain = Secret::parse(&second.secret).unwrap().sign_body(received[1].body.as_bytes());
    assert_eq!(received[1].header("x-webhook-signature"), Some(plain.as_str()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_after_29_s_and_no_longer_after_31_s() {
    let ok = b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n";
    let receiver = Receiver::start(move |number, _| {
        Reply::After(Duration::from_secs(if number == 0 { 31 } else { 29 }), ok.to_vec())
    })
    .await;
    // As it is configured when nothing is.
    assert_eq!((config().timeout_s, Config::embedded().unwrap().webhook.timeout_s), (30, 30));
    let fixture = start(&store()).await;
    fixture.endpoint(&receiver.url).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(Duration::from_secs(65)).await;
    let view = fixture.only_notification();
    assert_eq!((view.status.as_str(), receiver.received().len()), ("success", 2));
    let tries: Vec<_> =
        view.tries.unwrap().into_iter().map(|one| (one.duration_ms / 1_000, one.status_code, one.error)).collect();
    let late = Some(String::from("no answer within 30 s"));
    assert_eq!(tries, [(30, None, late), (29, Some(200), None)]);
}

#[tokio::test]
async fn redirects_and_refusals_are_final() {
    for status in [302, 404] {
        let receiver = Receiver::start(move |_, _| reply(status, "Location: http://127.0.0.1:1/\r\n", b"")).await;
        let fixture = start(&store()).await;
        fixture.endpoint(&receiver.url).await;
        fixture.publish(EventName::PaymentSuccess, "PY1").await;
        let view = eventually(|| Some(fixture.only_notification()).filter(|view| view.status == "failed")).await;
        assert_eq!((view.attempts, view.status_code, fixture.due()), (1, Some(status), 0));
    }
}

#[tokio::test]
async fn a_hung_receiver_does_not_delay_another_endpoint() {
    let hung = Receiver::start(|_, _| Reply::Hang).await;
    let good = Receiver::start(|_, _| reply(204, "", b"")).await;
    let fixture = start(&store()).await;
    fixture.endpoint(&hung.url).await;
    fixture.endpoint(&good.url).await;
    for number in 0..50 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    assert_eq!(good.wait_for(50).await.len(), 50);
    assert!(hung.received().len() <= config().endpoint_in_flight_max);
    assert!(good.connections() <= config().endpoint_in_flight_max, "connections are used again");
}

#[tokio::test]
async fn after_a_restart_everything_arrives_and_only_what_was_in_flight_comes_twice() {
    let store = store();
    let receiver =
        Receiver::start(|number, _| if (1..5).contains(&number) { Reply::Hang } else { reply(200, "", b"") }).await;
    let before = start(&store).await;
    before.endpoint(&receiver.url).await;
    for number in 0..30 {
        before.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    receiver.wait_for(5).await;
    eventually(|| (before.due() == 4).then_some(())).await;
    // Nothing is stopped in order: what is under way is simply forgotten, as after a crash.
    let after = start(&store).await;
    eventually(|| (after.due() == 0).then_some(())).await;
    let mut times = HashMap::new();
    for request in receiver.received() {
        *times.entry(request.header("webhook-id").unwrap().to_owned()).or_insert(0) += 1;
    }
    let twice = times.values().filter(|count| **count == 2).count();
    assert_eq!((times.len(), twice, receiver.received().len()), (30, 4, 34));
    assert!(after.notifications().iter().all(|view| view.status == "success"));
}
