//! What the emulator sends of its own accord, as the adapter takes it.

use std::sync::Arc;

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{CONFIRMED, pay};
use crate::channels::tests::{START, channel_at, charge_with, is_success};
use crate::channels::{Channel, Inbound, Notification, NotificationRefusal, Subject};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::random::Random;
use crate::sandbox::notify::Prepared;
use crate::sandbox::{Sandbox, SandboxOptions, credentials};

fn inbound(signature: Option<String>, body: impl Into<bytes::Bytes>) -> Inbound {
    let headers = signature.into_iter().map(|signature| (String::from("btcpay-sig"), signature)).collect();
    Inbound { headers, query: None, body: body.into(), received_at: START }
}

fn as_sent(prepared: &Prepared) -> Inbound {
    Inbound { headers: prepared.headers.clone(), query: None, body: prepared.body.clone(), received_at: START }
}

fn signed(body: &Value) -> Inbound {
    let body = body.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(credentials::BTCPAY_WEBHOOK_SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    inbound(Some(format!("sha256={}", hex::encode(mac.finalize().into_bytes()))), body)
}

fn channel() -> Arc<dyn Channel> {
    channel_at(ChannelKind::Btcpay, "http://127.0.0.1:1", Clock::manual(START))
}

#[tokio::test]
async fn the_emulators_events_are_taken_with_all_names_of_their_payment() {
    let mut options = SandboxOptions::new(Clock::manual(START), Random::seeded(1));
    let outbox = options.keep_notifications();
    let sandbox = Sandbox::start(options).unwrap();
    let channel = channel_at(ChannelKind::Btcpay, &sandbox.urls()["crypto"], Clock::manual(START));
    let charge = charge_with(Some("tok_visa"));
    let answer = channel.charge(&charge).await;
    assert!(is_success(&answer));
    let mut ids = Vec::new();
    for kind in
        ["InvoiceCreated", "InvoiceReceivedPayment", "InvoiceProcessing", "InvoicePaymentSettled", "InvoiceSettled"]
    {
        let prepared = outbox.take().await;
        assert_eq!(prepared.channel, "crypto");
        let Notification { id, event, subjects, dispute } = channel.verify(&as_sent(&prepared)).await.unwrap();
        assert_eq!((event.as_str(), dispute), (kind, None));
        let subject = Subject {
            reference: Some(charge.reference.clone()),
            merchant_id: Some(charge.merchant_id.clone()),
            provider_key: Some(charge.provider_key.clone()),
            provider_no: answer.refs.channel_order_no.clone(),
        };
        assert_eq!(subjects, [subject]);
        let (headers, body) = prepared.again.clone().unwrap();
        assert_ne!(body, prepared.body, "a redelivery says that it is one");
        let again = channel.verify(&as_sent(&Prepared { headers, body, ..prepared })).await.unwrap();
        assert_eq!((again.id.as_str(), again.event.as_str()), (id.as_str(), kind));
        ids.push(id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5, "each has an id of its own");
}

#[tokio::test]
async fn a_redelivery_has_the_id_of_its_first_delivery() {
    let event = |delivery: &str| {
        signed(&json!({ "deliveryId": delivery, "originalDeliveryId": "D1", "isRedelivery": delivery != "D1",
            "type": "InvoiceSettled", "storeId": credentials::BTCPAY_STORE_ID, "invoiceId": "I1" }))
    };
    let channel = channel();
    let first = channel.verify(&event("D1")).await.unwrap();
    assert_eq!(channel.verify(&event("D2")).await.unwrap(), first);
    assert_eq!(first.id, "D1");
}

#[tokio::test]
async fn what_is_not_from_the_store_is_refused() {
    let channel = channel();
    let genuine = json!({ "deliveryId": "D1", "type": "InvoiceSettled", "storeId": credentials::BTCPAY_STORE_ID,
        "invoiceId": "I1" });
    let right = signed(&genuine);
    assert!(channel.verify(&right).await.is_ok());
    let signature = right.headers[0].1.clone();
    let mut changed = right.body.to_vec();
    changed[20] ^= 1;
    for forged in
        [inbound(None, right.body.clone()), inbound(Some(signature), changed), inbound(Some(String::new()), "")]
    {
        let refusal = channel.verify(&forged).await.unwrap_err();
        assert!(matches!(refusal, NotificationRefusal::Signature(_)), "{refusal}");
    }
    let with = |name: &str, value: Value| {
        let mut event = genuine.clone();
        event[name] = value;
        signed(&event)
    };
    assert_eq!(channel.verify(&with("storeId", json!("Other"))).await, Err(NotificationRefusal::WrongAccount));
    for broken in [
        with("deliveryId", Value::Null),
        with("deliveryId", json!("")),
        with("deliveryId", json!("x".repeat(129))),
        with("type", Value::Null),
        with("storeId", Value::Null),
        signed(&json!([])),
    ] {
        let refusal = channel.verify(&broken).await.unwrap_err();
        assert!(matches!(refusal, NotificationRefusal::Malformed(_)), "{refusal}");
    }
    let of_no_interest = channel.verify(&with("invoiceId", Value::Null)).await.unwrap();
    assert!(of_no_interest.subjects.is_empty());
}

#[tokio::test]
async fn without_a_secret_nothing_is_taken() {
    let config = crate::channels::tests::config(ChannelKind::Btcpay);
    let keys = crate::channels::Credentials::new([("api_key", "k"), ("store_id", "s")]);
    let name = crate::domain::ids::ChannelName::new("x");
    let channel = crate::channels::build(&name, &config, "http://127.0.0.1:1", &keys, Clock::manual(START)).unwrap();
    assert!(!channel.capabilities().notifications && !channel.takes_token("tok_visa"));
    let refusal = channel.verify(&signed(&json!({}))).await.unwrap_err();
    assert_eq!(refusal, NotificationRefusal::NotSupported);
}

#[tokio::test]
async fn what_comes_beside_what_settled_an_invoice_is_told_once_it_is_confirmed() {
    let clock = Clock::manual(START);
    let mut options = SandboxOptions::new(clock.clone(), Random::seeded(1));
    let outbox = options.keep_notifications();
    let sandbox = Sandbox::start(options).unwrap();
    let channel = channel_at(ChannelKind::Btcpay, &sandbox.urls()["crypto"], clock.clone());
    let paid = channel.charge(&charge_with(Some("tok_visa"))).await;
    for _ in 0..5 {
        outbox.take().await;
    }
    clock.advance(CONFIRMED);
    let id = paid.refs.channel_order_no.unwrap();
    pay(&format!("{}/pay/{id}", sandbox.urls()["crypto"]), "1.00").await;
    clock.advance(CONFIRMED);
    assert!(channel.check().await.is_ok());
    for kind in ["InvoiceReceivedPayment", "InvoicePaymentSettled"] {
        let told = channel.verify(&as_sent(&outbox.take().await)).await.unwrap();
        assert_eq!((told.event.as_str(), told.subjects[0].provider_no.as_deref()), (kind, Some(id.as_str())));
    }
}
