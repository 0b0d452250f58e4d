//! The same operations through the adapter at the emulator and at `localstripe`, another one, compared in what the adapter
//! makes of the answers. It needs a localstripe, which `.ci/differential.sh` starts; without one it says so.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::channels::stripe::tests::holds::{capture_of, release_of};
use crate::channels::tests::{channel_at, charge_with, hold_of, question_about, refund_of, sent_first};
use crate::channels::{
    AuthorizeRequest, CaptureRequest, Channel, ChargeAnswer, ChargeRequest, ChargeState, HoldAnswer, HoldQuestion,
    HoldState, Inbound, ProviderRefs, RefundAnswer, RefundState, ResolveRequest,
};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::domain::money::{Currency, Money};
use crate::random::Random;
use crate::sandbox::credentials::STRIPE_WEBHOOK_SECRET;
use crate::sandbox::testing::send;
use crate::sandbox::{Sandbox, SandboxOptions};

/// Where localstripe is, behind `.ci/localstripe_front.py`.
const ADDRESS: &str = "TOLLGATE_LOCALSTRIPE_URL";
/// Something that a form has to carry unharmed.
const ODD: &str = "a & b = c + d / 100 % ü?#[]";
/// The event that both send.
const EVENT: &str = "payment_intent.succeeded";

/// Notifications as they came.
type Came = Arc<Mutex<Vec<Inbound>>>;

/// A receiver of notifications, and what came.
async fn receiver(clock: Clock) -> (String, Came) {
    let came = Came::default();
    let kept = Arc::clone(&came);
    let take = move |headers: HeaderMap, body: Bytes| {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        kept.lock().push(Inbound { headers: headers.collect(), query: None, body, received_at: clock.now() });
        std::future::ready(())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/callbacks/stripe", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (base, came)
}

/// A charge of an emulator's, each with names of its own.
fn charge(name: &str, money: Money) -> ChargeRequest {
    let charge = charge_with(Some("pm_card_visa"));
    ChargeRequest { reference: format!("PY{name} {ODD}"), provider_key: format!("k-{name}"), money, ..charge }
}

fn hold(name: &str, token: Option<&str>) -> AuthorizeRequest {
    let (reference, provider_key) = (format!("PA{name} {ODD}"), format!("k-{name}"));
    AuthorizeRequest { reference, provider_key, payment_token: token.map(str::to_owned), ..hold_of(2000) }
}

/// What is known of an object's names: of which kind they are, not which.
fn kinds_of(refs: &ProviderRefs) -> String {
    let kind = |name: &Option<String>| name.as_deref().map(|name| name.chars().take(3).collect::<String>());
    format!("{:?} {:?} {:?}", kind(&refs.channel_order_no), refs.client_secret.is_some(), refs.capture_no)
}

/// All but the fee, which each takes as it likes.
fn charged(answer: &ChargeAnswer) -> String {
    let state = match &answer.state {
        ChargeState::Success { fee_minor: _ } => String::from("success"),
        other => format!("{other:?}"),
    };
    format!("{state} {} {}", kinds_of(&answer.refs), answer.sent_money)
}

/// All but the fee, the page for the payer, which is the emulator's own, and the expiry, of which localstripe knows nothing.
fn held(answer: &HoldAnswer) -> String {
    let state = match &answer.state {
        HoldState::Held { held_minor, honor_until, .. } => format!("held {held_minor} {honor_until:?}"),
        HoldState::Captured { captured_minor, .. } => format!("captured {captured_minor}"),
        HoldState::AwaitsMethod { failure, expires_at, .. } => format!("awaits {failure:?} {expires_at:?}"),
        other => format!("{other:?}"),
    };
    format!("{state} {:?} {} {}", answer.refused, kinds_of(&answer.refs), answer.sent_money)
}

fn refunded(answer: &RefundAnswer) -> String {
    let kind = answer.channel_refund_no.as_deref().map(|number| number.starts_with("re_"));
    format!("{:?} {kind:?}", answer.state)
}

fn asked(charge: &ChargeRequest, refs: &ProviderRefs, clock: &Clock) -> ResolveRequest {
    let now = clock.now();
    ResolveRequest {
        charge: charge.clone(),
        first_sent_at: now,
        sent_by: now,
        settling: Duration::from_secs(60),
        set_back: Duration::ZERO,
        now,
        refs: refs.clone(),
        offered_at: None,
        money_sent_at: None,
        close: false,
    }
}

/// What the adapter says at one of them, step by step.
async fn story(channel: &Arc<dyn Channel>, came: &Came, clock: &Clock) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    let mut step = |name: &str, said: String| steps.push((name.to_owned(), said));

    let monies = [("dollars", Money::new(1230, Currency::USD)), ("yen", Money::new(500, "JPY".parse().unwrap()))];
    for (number, (name, money)) in (1..).zip(monies) {
        let request = charge(name, money);
        let answer = channel.charge(&request).await;
        step(name, charged(&answer));
        let again = channel.resolve(&asked(&request, &answer.refs, clock)).await;
        step(&format!("{name}, asked"), charged(&again));
        let part = channel.refund(&refund_of(&request, &answer.refs, 400, number)).await;
        assert_eq!(part.state, RefundState::Success);
        step(&format!("{name}, given back"), refunded(&part));
    }
    let ask = |hold: &AuthorizeRequest, refs: &ProviderRefs, close: bool| HoldQuestion {
        refs: refs.clone(),
        close,
        ..question_about(hold)
    };

    for amount_minor in [2000, 1500] {
        let request = hold(&format!("captured-{amount_minor}"), Some("pm_card_visa"));
        let answer = channel.authorize(&request).await;
        assert!(matches!(answer.state, HoldState::Held { held_minor: 2000, .. }), "{answer:?}");
        step("held", held(&answer));
        step("held, asked", held(&channel.ask_hold(&ask(&request, &answer.refs, false)).await));
        let capture = capture_of(&request, &answer.refs, amount_minor, sent_first());
        let capture = CaptureRequest { provider_key: format!("c-{amount_minor}"), ..capture };
        let taken = channel.capture(&capture).await;
        step("captured", held(&taken));
        step("captured, asked", held(&channel.ask_hold(&ask(&request, &answer.refs, false)).await));
    }

    let request = hold("released", Some("pm_card_visa"));
    let answer = channel.authorize(&request).await;
    step("released", held(&channel.release(&release_of(&request, &answer.refs, sent_first())).await));
    step("released, asked", held(&channel.ask_hold(&ask(&request, &answer.refs, false)).await));

    let request = hold("open", None);
    let answer = channel.authorize(&request).await;
    step("open", held(&answer));
    step("open, closed", held(&channel.ask_hold(&ask(&request, &answer.refs, true)).await));

    // Two charges and two captures.
    for _ in 0..1_000 {
        if came.lock().iter().filter(|inbound| is_of(inbound, EVENT)).count() == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut told = Vec::new();
    let came: Vec<Inbound> = came.lock().drain(..).collect();
    for inbound in came.into_iter().filter(|inbound| is_of(inbound, EVENT)) {
        let notification = channel.verify(&inbound).await.unwrap();
        assert_eq!((notification.event.as_str(), notification.subjects.len()), (EVENT, 1));
        assert!(notification.id.starts_with("evt_"), "{}", notification.id);
        let subject = notification.subjects[0].clone();
        let is_intent = subject.provider_no.is_some_and(|number| number.starts_with("pi_"));
        told.push(format!("{:?} {:?} {:?} {is_intent}", subject.reference, subject.merchant_id, subject.provider_key));
        let mut body = inbound.body.to_vec();
        body.push(b' ');
        assert!(channel.verify(&Inbound { body: Bytes::from(body), ..inbound }).await.is_err(), "forged");
    }
    told.sort();
    step("told", told.join("\n"));
    steps
}

fn is_of(inbound: &Inbound, event: &str) -> bool {
    let body: serde_json::Value = serde_json::from_slice(&inbound.body).unwrap_or_default();
    body["type"] == event
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "whoever runs it has to know that nothing was compared")]
async fn localstripe_says_the_same() {
    let clock = Clock::system();
    let sandbox = Sandbox::start(SandboxOptions::new(clock.clone(), Random::seeded(1))).unwrap();
    let (base, came) = receiver(clock.clone()).await;
    sandbox.set_callbacks(Some(&base)).unwrap();
    let ours = story(&channel_at(ChannelKind::Stripe, &sandbox.urls()["stripe"], clock.clone()), &came, &clock).await;
    assert_eq!(ours.last().unwrap().1.lines().count(), 4, "{ours:?}");
    let Ok(address) = std::env::var(ADDRESS) else {
        eprintln!("{ADDRESS} is not set: the adapter was not compared at localstripe");
        return;
    };

    let (base, came) = receiver(clock.clone()).await;
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("url", &format!("{base}/callbacks/stripe")).append_pair("secret", STRIPE_WEBHOOK_SECRET);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let registered = send("POST", &format!("{address}/_config/webhooks/tollgate"), &headers, &form.finish()).await;
    assert_eq!(registered.unwrap().status, 200);
    let theirs = story(&channel_at(ChannelKind::Stripe, &address, clock.clone()), &came, &clock).await;
    for (mine, other) in ours.iter().zip(&theirs) {
        assert_eq!(mine, other);
    }
    assert_eq!(ours.len(), theirs.len());
    eprintln!("{} steps through the adapter are the same at localstripe", ours.len());
}
