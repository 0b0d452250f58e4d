//! What PayPal sends of its own accord, and what others send in its name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{approve, channel_with, hold_with, page_of};
use crate::channels::tests::{START, charge_with, http_answer, is_success};
use crate::channels::{Channel, Inbound, Notification, NotificationRefusal};
use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::notify::{Outbox, Prepared};
use crate::sandbox::{FaultPatch, Sandbox, SandboxOptions};

/// An emulator whose notifications can be taken.
struct Teller {
    sandbox: Sandbox,
    outbox: Arc<Outbox>,
    clock: Clock,
}

impl Teller {
    fn at(start: Timestamp) -> Self {
        let clock = Clock::manual(start);
        let mut options = SandboxOptions::new(clock.clone(), Random::seeded(1));
        let outbox = options.keep_notifications();
        Self { sandbox: Sandbox::start(options).unwrap(), outbox, clock }
    }

    fn channel(&self, changes: &[(&'static str, &'static str)]) -> Arc<dyn Channel> {
        channel_with(&self.sandbox.urls()["paypal"], self.clock.clone(), changes)
    }

    /// What is told about a charge that was captured.
    async fn told_of_charge(&self) -> Inbound {
        assert!(is_success(&self.channel(&[]).charge(&charge_with(Some("tok_visa"))).await));
        self.inbound(self.outbox.take().await)
    }

    fn inbound(&self, prepared: Prepared) -> Inbound {
        assert_eq!((prepared.channel, prepared.content_type), ("paypal", "application/json"));
        Inbound { headers: prepared.headers, query: None, body: prepared.body, received_at: self.clock.now() }
    }
}

fn copy_of(inbound: &Inbound) -> Inbound {
    Inbound {
        headers: inbound.headers.clone(),
        query: None,
        body: inbound.body.clone(),
        received_at: inbound.received_at,
    }
}

fn with_header(inbound: &Inbound, name: &str, value: &str) -> Inbound {
    let mut changed = copy_of(inbound);
    for (found, old) in &mut changed.headers {
        if found == name {
            *old = value.to_owned();
        }
    }
    changed
}

fn is_forged(verified: &Result<Notification, NotificationRefusal>) -> bool {
    matches!(verified, Err(NotificationRefusal::Signature(_)))
}

#[tokio::test]
async fn what_paypal_signed_is_believed_as_often_as_it_comes() {
    let teller = Teller::at(START);
    let told = teller.told_of_charge().await;
    let channel = teller.channel(&[]);
    let notification = channel.verify(&told).await.unwrap();
    assert_eq!(notification.event, "PAYMENT.CAPTURE.COMPLETED");
    let charge = charge_with(None);
    let subject = &notification.subjects[0];
    assert_eq!(subject.reference.as_deref(), Some(charge.reference.as_str()));
    assert_eq!(subject.merchant_id.as_deref(), Some(charge.merchant_id.as_str()));
    assert!(subject.provider_no.is_some() && notification.dispute.is_none());
    // The certificate is kept: nobody has to be asked for it again.
    teller.sandbox.set_faults("paypal", FaultPatch { down: Some(true), ..FaultPatch::default() }).await.unwrap();
    assert_eq!(channel.verify(&told).await, Ok(notification));
    let forgetful = teller.channel(&[]);
    assert!(matches!(forgetful.verify(&told).await, Err(NotificationRefusal::CertificateUnavailable(_))));
}

#[tokio::test]
async fn an_approval_is_told_with_the_number_of_its_order() {
    let teller = Teller::at(START);
    let channel = teller.channel(&[]);
    let hold = hold_with(None);
    let offered = channel.authorize(&hold).await;
    approve(&page_of(&offered)).await;
    let told = teller.inbound(teller.outbox.take().await);
    let notification = channel.verify(&told).await.unwrap();
    assert_eq!(notification.event, "CHECKOUT.ORDER.APPROVED");
    let subject = &notification.subjects[0];
    assert_eq!(subject.reference.as_deref(), Some(hold.reference.as_str()));
    assert_eq!(subject.provider_no, offered.refs.channel_order_no);
    let of_others = teller.channel(&[("merchant_id", "ANOTHER")]);
    assert_eq!(of_others.verify(&told).await, Err(NotificationRefusal::WrongAccount));
}

#[tokio::test]
async fn what_was_changed_or_signed_for_another_is_forged() {
    let teller = Teller::at(START);
    let told = teller.told_of_charge().await;
    let channel = teller.channel(&[]);
    for place in [0, told.body.len() / 2, told.body.len() - 1] {
        let mut body = told.body.to_vec();
        body[place] ^= 1;
        let changed = Inbound { body: Bytes::from(body), ..copy_of(&told) };
        assert!(is_forged(&channel.verify(&changed).await), "{place}");
    }
    let mut body = told.body.to_vec();
    body.push(b' ');
    assert!(is_forged(&channel.verify(&Inbound { body: Bytes::from(body), ..copy_of(&told) }).await));
    assert!(is_forged(&channel.verify(&Inbound { body: Bytes::new(), ..copy_of(&told) }).await));
    let elsewhere = teller.channel(&[("webhook_id", "WH-ANOTHER")]);
    assert!(is_forged(&elsewhere.verify(&told).await));
    for (name, value) in [
        ("paypal-transmission-id", "another"),
        ("paypal-transmission-time", "2026-09-21T00:00:00Z"),
        ("paypal-transmission-time", "yesterday"),
        ("paypal-transmission-sig", "AAAA"),
        ("paypal-transmission-sig", "not base64!"),
        ("paypal-auth-algo", "none"),
        ("paypal-cert-url", "https://evil.example/cert"),
        ("paypal-cert-url", "https://api.paypal.com.evil.example/cert"),
    ] {
        let verified = channel.verify(&with_header(&told, name, value)).await;
        assert!(
            verified.is_err() && !matches!(verified, Err(NotificationRefusal::CertificateUnavailable(_))),
            "{name}"
        );
    }
    for missing in 0..told.headers.len() {
        let mut changed = copy_of(&told);
        changed.headers.remove(missing);
        assert!(is_forged(&channel.verify(&changed).await), "{missing}");
    }
    let elsewhere = with_header(&told, "paypal-cert-url", "https://api.paypal.com/v1/notifications/certs/x");
    assert_eq!(channel.verify(&elsewhere).await, Err(NotificationRefusal::WrongMode));
}

#[tokio::test]
async fn what_is_too_old_or_of_the_future_is_refused() {
    let teller = Teller::at(START);
    let told = teller.told_of_charge().await;
    let channel = teller.channel(&[]);
    let at = |seconds: i64| Inbound { received_at: Timestamp::from_unix_s(START.unix_s() + seconds), ..copy_of(&told) };
    let day = 24 * 60 * 60;
    assert!(channel.verify(&at(3 * day)).await.is_ok(), "it was sent again for three days");
    for seconds in [4 * day + 1, -301] {
        assert_eq!(channel.verify(&at(seconds)).await, Err(NotificationRefusal::Stale));
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_none() {
    let teller = Teller::at(START);
    let told = teller.told_of_charge().await;
    let other = rcgen::generate_simple_self_signed(vec![String::from("ca.example")]).unwrap();
    let pem = STANDARD.encode(other.cert.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n");
    let other: &'static str = Box::leak(pem.into_boxed_str());
    assert!(is_forged(&teller.channel(&[("webhook_ca", other)]).verify(&told).await));
    // Long after the certificate's time.
    let teller = Teller::at(Timestamp::from_unix_s(4_900_000_000));
    let told = teller.told_of_charge().await;
    assert!(is_forged(&teller.channel(&[]).verify(&told).await));
}

#[tokio::test]
async fn where_no_root_is_known_paypal_is_asked() {
    let teller = Teller::at(START);
    let told = teller.told_of_charge().await;
    let channel = teller.channel(&[("webhook_ca", "")]);
    assert!(channel.verify(&told).await.is_ok());
    let forged = with_header(&told, "paypal-transmission-id", "another");
    assert!(is_forged(&channel.verify(&forged).await));
    // A body that would say more than it is never goes there.
    let body = Bytes::from(format!("{},\"webhook_id\":\"x\"", String::from_utf8_lossy(&told.body)));
    let refused = channel.verify(&Inbound { body, ..copy_of(&told) }).await;
    assert!(matches!(refused, Err(NotificationRefusal::Malformed(_))), "{refused:?}");
}

#[tokio::test]
async fn forged_ones_with_ever_new_addresses_cause_few_fetches() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut request = vec![0; 4 * 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&http_answer(404, "text/plain", "", 0)).await;
            let _ = stream.shutdown().await;
        }
    });
    let teller = Teller::at(START);
    let told = teller.told_of_charge().await;
    let channel = channel_with(&url, teller.clock.clone(), &[]);
    let flood = async |from: usize| {
        for number in from..from + 1_000 {
            let forged = with_header(&told, "paypal-cert-url", &format!("{url}/v1/notifications/certs/{number}"));
            assert!(channel.verify(&forged).await.is_err());
        }
    };
    flood(0).await;
    assert_eq!(asked.load(Ordering::SeqCst), 6);
    teller.clock.advance(Duration::from_secs(60));
    flood(1_000).await;
    assert_eq!(asked.load(Ordering::SeqCst), 12);
}

#[tokio::test]
async fn forged_ones_do_not_drive_out_the_certificate_in_use() {
    let teller = Teller::at(START);
    let told = teller.told_of_charge().await;
    let channel = teller.channel(&[]);
    assert!(channel.verify(&told).await.is_ok());
    let address = told.headers.iter().find(|(name, _)| name == "paypal-cert-url").unwrap().1.clone();
    // The same certificate is there under as many addresses as one likes.
    for number in 0..12 {
        if number % 6 == 5 {
            teller.clock.advance(Duration::from_secs(60));
        }
        let forged = with_header(&told, "paypal-cert-url", &format!("{address}?{number}"));
        assert!(
            is_forged(&channel.verify(&with_header(&forged, "paypal-transmission-id", "another")).await),
            "{number}"
        );
    }
    teller.sandbox.set_faults("paypal", FaultPatch { down: Some(true), ..FaultPatch::default() }).await.unwrap();
    assert!(channel.verify(&told).await.is_ok());
}
