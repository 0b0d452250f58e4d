//! What Stripe sends of its own accord.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ring::hmac;
use serde_json::{Value, json};

use crate::channels::stripe::tests::holds::{capture_of, hold_with};
use crate::channels::tests::{START, channel_at, charge_with, config, refund_of, sent_first};
use crate::channels::{Channel, Credentials, Inbound, Notification, NotificationRefusal, Subject, build};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::domain::ids::ChannelName;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::notify::Outbox;
use crate::sandbox::{Sandbox, SandboxOptions};

const SECRET: &str = "whsec_test_secret";

fn channel_with(secret_key: &str, webhook_secret: &str) -> Arc<dyn Channel> {
    let credentials = Credentials::new([("secret_key", secret_key), ("webhook_secret", webhook_secret)]);
    let config = config(ChannelKind::Stripe);
    build(&ChannelName::new("x"), &config, "http://127.0.0.1:9", &credentials, Clock::manual(START)).unwrap()
}

fn inbound(signature: Option<&str>, body: &[u8], received_at: Timestamp) -> Inbound {
    let header = |value: &str| (String::from("stripe-signature"), value.to_owned());
    Inbound {
        headers: signature.map(header).into_iter().collect(),
        query: None,
        body: Bytes::copy_from_slice(body),
        received_at,
    }
}

fn v1(secret: &str, signed_at_s: i64, body: &[u8]) -> String {
    let message = [signed_at_s.to_string().as_bytes(), b".", body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("v1={}", hex::encode(hmac::sign(&key, &message)))
}

fn event(object: &Value) -> Value {
    json!({
        "id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "created": START.unix_s(),
        "livemode": false, "data": { "object": object },
    })
}

/// What comes of an event that is signed rightly and now.
async fn taken(channel: &Arc<dyn Channel>, event: &Value) -> Result<Notification, NotificationRefusal> {
    let body = event.to_string();
    let signature = format!("t={},{}", START.unix_s(), v1(SECRET, START.unix_s(), body.as_bytes()));
    channel.verify(&inbound(Some(&signature), body.as_bytes(), START)).await
}

#[tokio::test]
async fn the_signature_is_what_stripes_own_libraries_make() {
    let channel = channel_with("sk_test_x", SECRET);
    let signature = "t=1492774577,v1=691252e266ce41cb94d709c84e9580d4172b117a510bbc81723f657d2cd5d215";
    let at = Timestamp::from_unix_s(1_492_774_577);
    let body = br#"{"id":"evt_test","object":"event"}"#;
    let read = channel.verify(&inbound(Some(signature), body, at)).await;
    assert!(matches!(read, Err(NotificationRefusal::Malformed(_))), "signed rightly, and no whole event: {read:?}");
    let changed = br#"{"id":"evt_tesu","object":"event"}"#;
    let read = channel.verify(&inbound(Some(signature), changed, at)).await;
    assert!(matches!(read, Err(NotificationRefusal::Signature(_))), "{read:?}");
}

#[tokio::test]
async fn only_a_fresh_signature_of_the_current_scheme_counts() {
    let channel = channel_with("sk_test_x", SECRET);
    // White space is part of what is signed.
    let body = format!("\r\n {}\n\t", event(&json!({ "id": "pi_1", "object": "payment_intent" })));
    let body = body.as_bytes();
    let now_s = START.unix_s();
    let (good, other) = (v1(SECRET, now_s, body), v1("whsec_other", now_s, body));
    let trimmed = v1(SECRET, now_s, body.trim_ascii());
    let old = v1(SECRET, now_s - 400, body);
    let refused = |signature: String| {
        let channel = Arc::clone(&channel);
        async move { channel.verify(&inbound(Some(&signature), body, START)).await.unwrap_err() }
    };
    for accepted in [
        format!("t={now_s},{good}"),
        format!("t={now_s},{other},{good}"),
        format!("t={now_s},{good},{other}"),
        format!("t={now_s}, {good}, v0=00"),
        format!("{good},t={now_s}"),
    ] {
        let read = channel.verify(&inbound(Some(&accepted), body, START)).await;
        assert_eq!(read.map(|notification| notification.id).as_deref(), Ok("evt_1"), "{accepted}");
    }
    for wrong in [
        String::new(),
        format!("t={now_s}"),
        good.clone(),
        format!("t=,{good}"),
        format!("t={},{good}", now_s + 1),
        format!("t={now_s},{other}"),
        format!("t={now_s},{trimmed}"),
        format!("t={now_s},{}", good.replace("v1=", "v0=")),
        format!("t={now_s},{}", &good[..good.len() - 2]),
        format!("t={now_s},v1="),
        format!("t={now_s},v1=zz"),
    ] {
        let refusal = refused(wrong.clone()).await;
        assert!(matches!(refusal, NotificationRefusal::Signature(_)), "{wrong}: {refusal:?}");
    }
    assert!(matches!(channel.verify(&inbound(None, body, START)).await, Err(NotificationRefusal::Signature(_))));
    assert_eq!(refused(format!("t={},{old}", now_s - 400)).await, NotificationRefusal::Stale);
    for (distance_s, is_stale) in [(-301, true), (-300, false), (300, false), (301, true)] {
        let at_s = now_s + distance_s;
        let signature = format!("t={at_s},{}", v1(SECRET, at_s, body));
        let read = channel.verify(&inbound(Some(&signature), body, START)).await;
        assert_eq!(read == Err(NotificationRefusal::Stale), is_stale, "{distance_s}");
    }
}

#[tokio::test]
async fn other_modes_and_accounts_are_refused() {
    let object = json!({ "id": "pi_1", "object": "payment_intent" });
    for (secret_key, livemode, is_right) in [
        ("sk_test_x", false, true),
        ("sk_test_x", true, false),
        ("rk_test_x", true, false),
        ("sk_live_x", true, true),
        ("rk_live_x", true, true),
        ("sk_live_x", false, false),
        ("rk_live_x", false, false),
    ] {
        let mut event = event(&object);
        event["livemode"] = json!(livemode);
        let read = taken(&channel_with(secret_key, SECRET), &event).await;
        assert_eq!(read.is_ok(), is_right, "{secret_key} {livemode}");
        assert!(is_right || read == Err(NotificationRefusal::WrongMode));
    }
    let channel = channel_with("sk_test_x", SECRET);
    let mut of_other = event(&object);
    of_other["account"] = json!("acct_other");
    assert_eq!(taken(&channel, &of_other).await, Err(NotificationRefusal::WrongAccount));
    of_other["account"] = Value::Null;
    assert!(taken(&channel, &of_other).await.is_ok());
    let mut unsaid = event(&object);
    unsaid.as_object_mut().unwrap().remove("livemode");
    assert!(matches!(taken(&channel, &unsaid).await, Err(NotificationRefusal::Malformed(_))));
    for id in [String::new(), "e".repeat(129)] {
        let mut odd = event(&object);
        odd["id"] = json!(id);
        assert!(matches!(taken(&channel, &odd).await, Err(NotificationRefusal::Malformed(_))));
    }
    let credentials = Credentials::new([("secret_key", "sk_test_x")]);
    let config = config(ChannelKind::Stripe);
    let deaf =
        build(&ChannelName::new("x"), &config, "http://127.0.0.1:9", &credentials, Clock::manual(START)).unwrap();
    assert!(!deaf.capabilities().notifications && channel.capabilities().notifications);
    assert_eq!(taken(&deaf, &event(&object)).await, Err(NotificationRefusal::NotSupported));
}

#[tokio::test]
async fn what_it_is_about_is_the_payment_intent() {
    let channel = channel_with("sk_test_x", SECRET);
    let metadata = json!({ "gateway_payment_id": "PA1", "gateway_merchant": "m_1", "gateway_attempt": "tg7_PA1_1" });
    let some = |text: &str| Some(text.to_owned());
    let ours = |provider_no: &str| Subject {
        reference: some("PA1"),
        merchant_id: some("m_1"),
        provider_key: some("tg7_PA1_1"),
        provider_no: some(provider_no),
    };
    let numbered = |provider_no: &str| Subject { provider_no: some(provider_no), ..Subject::default() };
    for (object, subjects) in [
        (json!({ "id": "pi_1", "object": "payment_intent", "metadata": metadata }), vec![ours("pi_1")]),
        (
            json!({ "id": "ch_1", "object": "charge", "payment_intent": "pi_1", "metadata": metadata }),
            vec![ours("pi_1")],
        ),
        (json!({ "id": "re_1", "object": "refund", "payment_intent": { "id": "pi_1" } }), vec![numbered("pi_1")]),
        (json!({ "id": "ch_1", "object": "charge", "payment_intent": null, "metadata": {} }), Vec::new()),
        (json!({ "id": "cus_1", "object": "customer", "metadata": metadata }), Vec::new()),
        (json!({ "object": "balance", "metadata": null }), Vec::new()),
        (json!({}), Vec::new()),
    ] {
        let notification = taken(&channel, &event(&object)).await.unwrap();
        assert_eq!((notification.subjects, notification.dispute), (subjects, None), "{object}");
    }
    let dispute = json!({ "id": "du_1", "object": "dispute", "payment_intent": "pi_1", "charge": "ch_1" });
    let notification = taken(&channel, &event(&dispute)).await.unwrap();
    assert_eq!(notification.subjects, [numbered("pi_1")]);
    assert_eq!(notification.dispute.map(|dispute| dispute.dispute_no).as_deref(), Some("du_1"));
}

/// An emulator with its channel, and what it has to tell.
fn telling() -> (Sandbox, Arc<dyn Channel>, Arc<Outbox>, Clock) {
    let clock = Clock::manual(START);
    let mut options = SandboxOptions::new(clock.clone(), Random::seeded(1));
    let outbox = options.keep_notifications();
    let sandbox = Sandbox::start(options).unwrap();
    let channel = channel_at(ChannelKind::Stripe, &sandbox.urls()["stripe"], clock.clone());
    (sandbox, channel, outbox, clock)
}

/// The next notifications, as the adapter reads them.
async fn told(channel: &Arc<dyn Channel>, outbox: &Outbox, clock: &Clock, count: usize) -> Vec<Notification> {
    let mut read = Vec::new();
    for _ in 0..count {
        let prepared = tokio::time::timeout(Duration::from_secs(10), outbox.take()).await.unwrap();
        assert_eq!((prepared.channel, prepared.content_type, prepared.url), ("stripe", "application/json", None));
        let inbound = Inbound { headers: prepared.headers, query: None, body: prepared.body, received_at: clock.now() };
        read.push(channel.verify(&inbound).await.unwrap());
    }
    read
}

fn events(notifications: &[Notification]) -> Vec<&str> {
    notifications.iter().map(|notification| notification.event.as_str()).collect()
}

#[tokio::test]
async fn the_emulator_tells_of_a_hold_in_stripes_order() {
    let (_sandbox, channel, outbox, clock) = telling();
    let hold = hold_with(Some("tok_visa"));
    let refs = channel.authorize(&hold).await.refs;
    channel.capture(&capture_of(&hold, &refs, 1500, sent_first())).await;
    let notifications = told(&channel, &outbox, &clock, 5).await;
    assert_eq!(
        events(&notifications),
        [
            "payment_intent.created",
            "charge.succeeded",
            "payment_intent.amount_capturable_updated",
            "charge.captured",
            "payment_intent.succeeded",
        ]
    );
    let subject = Subject {
        reference: Some(hold.reference.clone()),
        merchant_id: Some(hold.merchant_id.clone()),
        provider_key: Some(hold.provider_key.clone()),
        provider_no: refs.channel_order_no.clone(),
    };
    assert!(notifications.iter().all(|notification| notification.subjects == [subject.clone()]));
    let ids: std::collections::BTreeSet<_> = notifications.iter().map(|notification| &notification.id).collect();
    assert_eq!(ids.len(), 5);
    let declined = hold_with(Some("tok_declined"));
    channel.authorize(&crate::channels::AuthorizeRequest { provider_key: String::from("k2"), ..declined }).await;
    let notifications = told(&channel, &outbox, &clock, 3).await;
    assert_eq!(events(&notifications), ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]);
}

#[tokio::test]
async fn the_emulator_tells_of_what_happens_by_itself() {
    let (_sandbox, channel, outbox, clock) = telling();
    channel.authorize(&hold_with(Some("tok_visa"))).await;
    told(&channel, &outbox, &clock, 3).await;
    clock.advance(Duration::from_secs(7 * 86_400));
    // Nobody calls.
    let notifications = told(&channel, &outbox, &clock, 2).await;
    assert_eq!(events(&notifications), ["charge.expired", "payment_intent.canceled"]);

    let charge = charge_with(Some("tok_processing"));
    channel.charge(&charge).await;
    clock.advance(Duration::from_secs(5));
    let notifications = told(&channel, &outbox, &clock, 4).await;
    assert_eq!(
        events(&notifications),
        ["payment_intent.created", "payment_intent.processing", "charge.succeeded", "payment_intent.succeeded"]
    );
}

#[tokio::test]
async fn the_emulator_tells_of_refunds_and_disputes() {
    let (_sandbox, channel, outbox, clock) = telling();
    let charge = charge_with(Some("tok_createDispute"));
    let refs = channel.charge(&charge).await.refs;
    channel.refund(&refund_of(&charge, &refs, 100, 1)).await;
    let notifications = told(&channel, &outbox, &clock, 6).await;
    assert_eq!(
        events(&notifications)[1..],
        ["charge.succeeded", "payment_intent.succeeded", "charge.dispute.created", "refund.created", "charge.refunded",]
    );
    assert!(notifications[3].dispute.is_some() && notifications[4].dispute.is_none());
    for notification in &notifications {
        assert_eq!(notification.subjects[0].provider_no, refs.channel_order_no);
    }
    assert_eq!(notifications[4].subjects[0].reference.as_ref(), Some(&charge.reference));
}

#[tokio::test]
async fn nothing_is_told_of_what_came_to_nothing() {
    let (_sandbox, channel, outbox, clock) = telling();
    for token in ["tok_timeout", "tok_error", "tok_nonsense"] {
        let hold = hold_with(Some(token));
        channel.authorize(&crate::channels::AuthorizeRequest { provider_key: token.to_owned(), ..hold }).await;
    }
    channel.authorize(&hold_with(None)).await;
    assert_eq!(events(&told(&channel, &outbox, &clock, 1).await), ["payment_intent.created"]);
    assert!(tokio::time::timeout(Duration::from_millis(1), outbox.take()).await.is_err());
}

#[tokio::test]
async fn objects_of_no_interest_may_have_any_shape() {
    let channel = channel_with("sk_test_x", SECRET);
    for object in [
        json!({ "id": 7, "object": "invoice", "payment_intent": { "id": 5 }, "metadata": { "a": 1 } }),
        json!({ "object": "balance", "metadata": [] }),
        json!({}),
        json!(null),
    ] {
        let read = taken(&channel, &event(&object)).await;
        assert!(read.as_ref().is_ok_and(|read| read.subjects.is_empty()), "{object}: {read:?}");
    }
    let wrong = json!({ "id": 7, "object": "charge" });
    assert!(matches!(taken(&channel, &event(&wrong)).await, Err(NotificationRefusal::Malformed(_))));
}
