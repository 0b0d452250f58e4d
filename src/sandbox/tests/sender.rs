//! What the emulators tell of their own accord, and whom.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::FaultConfig;
use crate::random::Random;
use crate::sandbox::faults::Faults;
use crate::sandbox::notify::{Outbox, Prepared};
use crate::sandbox::sender::{PLACES, Sender, base_of};
use crate::sandbox::testing::send;
use crate::sandbox::tests::START;
use crate::sandbox::{FaultPatch, Sandbox, SandboxError, SandboxOptions, serve_control};

/// Longer than all tries of a notification take together.
const ALL_TRIES: Duration = Duration::from_secs(120);

/// Something that takes notifications and answers as it is told.
struct Receiver {
    base: String,
    state: Arc<Shared>,
}

struct Shared {
    /// Answers to come; afterwards 200 with `success`.
    answers: Mutex<VecDeque<(u16, &'static str)>>,
    came: Mutex<Vec<(String, HeaderMap, Bytes)>>,
    /// Requests wait here for their answers.
    gate: Semaphore,
}

impl Receiver {
    async fn answering(answers: &[(u16, &'static str)]) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answers, Semaphore::MAX_PERMITS)
    }

    fn on(listener: TcpListener, answers: &[(u16, &'static str)], open: usize) -> Self {
        let base = format!("http://{}", listener.local_addr().unwrap());
        let answers = Mutex::new(answers.iter().copied().collect());
        let state = Arc::new(Shared { answers, came: Mutex::default(), gate: Semaphore::new(open) });
        let router = Router::new().fallback(take).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { base, state }
    }

    fn paths(&self) -> Vec<String> {
        self.state.came.lock().iter().map(|(path, ..)| path.clone()).collect()
    }

    fn bodies(&self) -> Vec<String> {
        self.state.came.lock().iter().map(|(.., body)| String::from_utf8(body.to_vec()).unwrap()).collect()
    }

    fn events(&self) -> Vec<Value> {
        self.bodies().iter().map(|body| serde_json::from_str(body).unwrap()).collect()
    }

    /// Waits until so many have come.
    async fn took(&self, count: usize) {
        until("notifications", || self.state.came.lock().len() >= count).await;
    }
}

async fn take(State(state): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    state.came.lock().push((uri.to_string(), headers, body));
    state.gate.acquire().await.unwrap().forget();
    let answer = state.answers.lock().pop_front();
    let (status, text) = answer.unwrap_or((200, "success"));
    (StatusCode::from_u16(status).unwrap(), text)
}

/// Looks again and again, in real time.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}");
}

/// Lets time that is virtual go by step by step, with moments in between for what comes over sockets.
async fn go_on(by: Duration) {
    const STEP: Duration = Duration::from_millis(500);
    for _ in 0..by.as_millis() / STEP.as_millis() {
        let elsewhere = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1)));
        elsewhere.await.unwrap();
        tokio::time::advance(STEP).await;
    }
}

fn prepared(body: &'static str) -> Prepared {
    Prepared {
        channel: "stripe",
        url: None,
        content_type: "application/json",
        headers: vec![(String::from("stripe-signature"), String::from("t=1,v1=2"))],
        body: Bytes::from_static(body.as_bytes()),
        taken_says: None,
        refusal_is_final: false,
        signed_at: START,
        again: None,
    }
}

/// A sender and what it sends.
fn sender(clock: &Clock, faults: FaultConfig) -> (Sender, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::default());
    let faults = BTreeMap::from([("stripe", Arc::new(Faults::new(faults)))]);
    (Sender::start(Arc::clone(&outbox), faults, clock.clone()), outbox)
}

fn to(receiver: &Receiver) -> (Sender, Arc<Outbox>) {
    let (sender, outbox) = sender(&Clock::manual(START), FaultConfig::default());
    sender.set_base(Some(base_of(&receiver.base).unwrap()));
    (sender, outbox)
}

#[tokio::test]
async fn a_notification_goes_out_as_it_was_signed() {
    let receiver = Receiver::answering(&[]).await;
    let (sender, outbox) = sender(&Clock::manual(START), FaultConfig::default());
    // Below a path of its own, too.
    sender.set_base(Some(base_of(&format!("{}/shop/", receiver.base)).unwrap()));
    outbox.push(prepared("{ \"a\" : 1 }"));
    receiver.took(1).await;
    let (path, headers, body) = receiver.state.came.lock()[0].clone();
    assert_eq!((path.as_str(), body.as_ref()), ("/shop/callbacks/stripe", &b"{ \"a\" : 1 }"[..]));
    assert_eq!(headers["stripe-signature"], "t=1,v1=2");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["host"], receiver.base["http://".len()..]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_is_sent_again_after_1_5_and_30_seconds_and_then_given_up() {
    let receiver = Receiver::answering(&[(500, ""), (404, ""), (302, ""), (503, "")]).await;
    let (_sender, outbox) = to(&receiver);
    outbox.push(prepared("1"));
    let mut counts = Vec::new();
    for wait_s in [0, 2, 6, 31, 300] {
        go_on(Duration::from_secs(wait_s)).await;
        go_on(Duration::from_millis(500)).await;
        counts.push(receiver.paths().len());
    }
    assert_eq!(counts, [1, 2, 3, 4, 4]);
    assert_eq!(receiver.bodies(), ["1"; 4]);
}

#[tokio::test(start_paused = true)]
async fn taken_is_what_the_provider_takes_for_it() {
    // 200 and something else, then what is asked for.
    let receiver = Receiver::answering(&[(200, "ok"), (500, "success"), (200, "success\n")]).await;
    let (_sender, outbox) = to(&receiver);
    outbox.push(Prepared { taken_says: Some("success"), ..prepared("1") });
    go_on(ALL_TRIES).await;
    assert_eq!(receiver.paths().len(), 3);

    // A refusal is final for some, unless it may change.
    for (answers, tries) in
        [(&[(401, "")][..], 1), (&[(408, ""), (429, ""), (400, "")], 3), (&[(500, ""), (502, ""), (204, "")], 3)]
    {
        let receiver = Receiver::answering(answers).await;
        let (_sender, outbox) = to(&receiver);
        let again = (vec![(String::from("btcpay-sig"), String::from("other"))], Bytes::from_static(b"again"));
        outbox.push(Prepared { refusal_is_final: true, again: Some(again), ..prepared("1") });
        go_on(ALL_TRIES).await;
        let bodies = receiver.bodies();
        assert_eq!(bodies.len(), tries, "{answers:?}");
        assert_eq!(bodies[0], "1");
        assert!(bodies[1..].iter().all(|body| body == "again"), "{bodies:?}");
    }
}

#[tokio::test]
async fn as_many_are_sent_twice_as_faults_say() {
    let receiver = Receiver::answering(&[]).await;
    let faults = FaultConfig { duplicate_notification_rate: 1.0, ..FaultConfig::default() };
    let (sender, outbox) = sender(&Clock::manual(START), faults);
    sender.set_base(Some(base_of(&receiver.base).unwrap()));
    outbox.push(prepared("1"));
    outbox.push(prepared("2"));
    receiver.took(4).await;
    let mut bodies = receiver.bodies();
    bodies.sort();
    assert_eq!(bodies, ["1", "1", "2", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_try_goes_to_where_the_gateway_is_by_then() {
    // It is down: the port is its own, and nobody listens.
    let down = TcpSocket::new_v4().unwrap();
    down.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (sender, outbox) = sender(&Clock::manual(START), FaultConfig::default());
    sender.set_base(Some(base_of(&format!("http://{}", down.local_addr().unwrap())).unwrap()));
    outbox.push(prepared("1"));
    go_on(Duration::from_secs(3)).await;
    let elsewhere = Receiver::answering(&[]).await;
    sender.set_base(Some(base_of(&elsewhere.base).unwrap()));
    go_on(Duration::from_secs(10)).await;
    assert_eq!(elsewhere.bodies(), ["1"]);

    // The one that was down comes up again and is found, too.
    sender.set_base(Some(base_of(&format!("http://{}", down.local_addr().unwrap())).unwrap()));
    outbox.push(prepared("2"));
    go_on(Duration::from_secs(3)).await;
    let receiver = Receiver::on(down.listen(16).unwrap(), &[], Semaphore::MAX_PERMITS);
    go_on(Duration::from_secs(10)).await;
    assert_eq!(receiver.bodies(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_signed_too_long_ago_is_given_up() {
    let receiver = Receiver::answering(&[(500, "")]).await;
    let clock = Clock::manual(START);
    let (sender, outbox) = sender(&clock, FaultConfig::default());
    sender.set_base(Some(base_of(&receiver.base).unwrap()));
    outbox.push(prepared("1"));
    go_on(Duration::from_millis(500)).await;
    assert_eq!(receiver.bodies(), ["1"]);
    clock.advance(Duration::from_secs(299));
    go_on(ALL_TRIES).await;
    assert_eq!(receiver.bodies(), ["1"], "receivers would call it stale");
    outbox.push(Prepared { signed_at: clock.now(), ..prepared("2") });
    go_on(Duration::from_secs(1)).await;
    assert_eq!(receiver.bodies(), ["1", "2"]);
}

#[tokio::test]
async fn no_more_are_posted_at_once_than_there_are_places() {
    let receiver = Receiver::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), &[], 0);
    let (_sender, outbox) = to(&receiver);
    for _ in 0..PLACES + 10 {
        assert!(outbox.push(prepared("1")));
    }
    receiver.took(PLACES).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(receiver.paths().len(), PLACES);
    receiver.state.gate.add_permits(1);
    receiver.took(PLACES + 1).await;
    receiver.state.gate.add_permits(PLACES + 10);
    receiver.took(PLACES + 10).await;
}

#[tokio::test]
async fn nothing_is_sent_to_strangers() {
    let receiver = Receiver::answering(&[]).await;
    let port = receiver.base.rsplit(':').next().unwrap().to_owned();
    let (sender, outbox) = sender(&Clock::manual(START), FaultConfig::default());
    let named = |url: &str| Prepared { url: Some(url.to_owned()), ..prepared("1") };
    // Nobody has registered: only this host may be named.
    for stranger in ["http://203.0.113.7/a", "https://127.0.0.1/a", "http://pay.example/a", "ftp://127.0.0.1/a", "a"] {
        outbox.push(named(stranger));
    }
    outbox.push(prepared("nobody has registered"));
    outbox.push(named(&format!("{}/mine?a=b", receiver.base)));
    outbox.push(named(&format!("http://localhost:{port}/mine")));
    receiver.took(2).await;
    let mut paths = receiver.paths();
    paths.sort();
    assert_eq!(paths, ["/mine", "/mine?a=b"]);
    // Once somebody has, what is meant for strangers comes there.
    sender.set_base(Some(base_of(&receiver.base).unwrap()));
    outbox.push(named("https://pay.example/callbacks/stripe"));
    receiver.took(3).await;
    assert_eq!(receiver.paths()[2], "/callbacks/stripe");
    sender.stop().await;
    outbox.push(prepared("2"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(receiver.paths().len(), 3, "it has stopped");
}

#[test]
fn a_base_is_plain_http() {
    for url in ["http://127.0.0.1:8080", "http://gateway/", "http://[::1]:80/below"] {
        assert!(base_of(url).is_ok(), "{url}");
    }
    let long = format!("http://host/{}", "a".repeat(3_000));
    for url in
        ["", "8080", "https://host", "http://", "http://u@host", "http://u:p@host", "http://h/?q", "http://h/#f", &long]
    {
        assert!(base_of(url).is_err(), "{url}");
    }
}

const STRIPE_KEY: (&str, &str) = ("authorization", "Bearer sk_test_tollgate_sandbox");

#[tokio::test]
async fn what_happens_by_itself_is_told_without_anybody_calling() {
    let receiver = Receiver::answering(&[]).await;
    let clock = Clock::manual(START);
    let sandbox = Sandbox::start(SandboxOptions::new(clock.clone(), Random::seeded(1))).unwrap();
    sandbox.set_callbacks(Some(&receiver.base)).unwrap();
    let charge = "amount=2000&currency=usd&confirm=true&payment_method_data[type]=card&payment_method_data[card][token]=tok_processing";
    let intents = format!("{}/v1/payment_intents", sandbox.urls()["stripe"]);
    assert_eq!(send("POST", &intents, &[STRIPE_KEY], charge).await.unwrap().json()["status"], "processing");
    receiver.took(2).await;
    clock.advance(Duration::from_secs(3));
    receiver.took(4).await;
    let mut kinds: Vec<String> = receiver.events().iter().map(|event| event["type"].to_string()).collect();
    kinds.sort();
    let expected =
        ["charge.succeeded", "payment_intent.created", "payment_intent.processing", "payment_intent.succeeded"];
    assert_eq!(kinds, expected.map(|kind| format!("\"{kind}\"")));
    assert_eq!(receiver.paths(), ["/callbacks/stripe"; 4]);
    sandbox.stop().await;
}

#[tokio::test]
async fn invoices_are_settled_without_anybody_calling_and_tokens_that_paypal_refuses_pay_at_stripe() {
    let receiver = Receiver::answering(&[]).await;
    let clock = Clock::manual(START);
    let sandbox = Sandbox::start(SandboxOptions::new(clock.clone(), Random::seeded(1))).unwrap();
    sandbox.set_callbacks(Some(&receiver.base)).unwrap();
    let invoice = json!({ "amount": "10.00", "currency": "USD",
        "metadata": { "orderId": "PY1", "sandboxPaymentToken": "tok_processing" } });
    let headers = [
        ("authorization", &*format!("token {}", crate::sandbox::credentials::BTCPAY_API_KEY)),
        ("content-type", "application/json"),
    ];
    let store = crate::sandbox::credentials::BTCPAY_STORE_ID;
    let url = format!("{}/api/v1/stores/{store}/invoices", sandbox.urls()["crypto"]);
    let answer = send("POST", &url, &headers, &invoice.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    receiver.took(3).await;
    clock.advance(Duration::from_secs(3));
    receiver.took(5).await;
    assert!(receiver.events().iter().any(|event| event["type"] == "InvoiceSettled"));
    assert!(receiver.paths().iter().all(|path| path == "/callbacks/crypto"));
    let faults = FaultPatch { duplicate_notification_rate: Some(1.0), ..FaultPatch::default() };
    assert!(sandbox.set_faults("stripe", faults).await.is_ok());
    let charge = "amount=2000&currency=usd&confirm=true&payment_method_data[type]=card&payment_method_data[card][token]=tok_paypal_declines:INSTRUMENT_DECLINED";
    let intents = format!("{}/v1/payment_intents", sandbox.urls()["stripe"]);
    assert_eq!(send("POST", &intents, &[STRIPE_KEY], charge).await.unwrap().json()["status"], "succeeded");
    let of_stripe = || receiver.paths().iter().filter(|path| *path == "/callbacks/stripe").count();
    until("duplicates", || of_stripe() == 6).await;
}

#[tokio::test]
async fn the_base_is_registered_at_the_control() {
    let receiver = Receiver::answering(&[]).await;
    let sandbox = Arc::new(Sandbox::start(SandboxOptions::new(Clock::manual(START), Random::seeded(1))).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/control/callbacks", listener.local_addr().unwrap());
    tokio::spawn(serve_control(listener, Arc::clone(&sandbox), std::future::pending()));
    assert_eq!(send("GET", &url, &[], "").await.unwrap().json(), json!({ "url": null }));
    let base = json!({ "url": receiver.base });
    let answer = send("PUT", &url, &[], &base.to_string()).await.unwrap();
    assert_eq!((answer.status, answer.json()), (200, json!({ "url": format!("{}/", receiver.base) })));
    for body in ["", "{}", "[]", r#"{"url":7}"#, r#"{"url":"https://a"}"#, r#"{"url":"http://a","more":1}"#] {
        assert_eq!(send("PUT", &url, &[], body).await.unwrap().status, 400, "{body}");
    }
    assert_eq!(sandbox.callbacks(), Some(format!("{}/", receiver.base)), "refused ones change nothing");
    assert!(matches!(sandbox.set_callbacks(Some("nowhere")), Err(SandboxError::Callbacks(_))));
    let charge = "amount=2000&currency=usd&confirm=true&payment_method_data[type]=card&payment_method_data[card][token]=tok_visa";
    let intents = format!("{}/v1/payment_intents", sandbox.urls()["stripe"]);
    assert_eq!(send("POST", &intents, &[STRIPE_KEY], charge).await.unwrap().status, 200);
    receiver.took(3).await;
    assert_eq!(send("PUT", &url, &[], r#"{"url":null}"#).await.unwrap().json(), json!({ "url": null }));
    sandbox.set_callbacks(None).unwrap();
    assert_eq!(send("POST", &intents, &[STRIPE_KEY], charge).await.unwrap().status, 200);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(receiver.paths().len(), 3);
}
