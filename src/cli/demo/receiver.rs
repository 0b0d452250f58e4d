//! The demo merchants' webhook receiver: checks every signature, fails now and then, and keeps count.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::failure::Failure;
use crate::clock::Clock;
use crate::delivery::signing::{Secret, verify};
use crate::domain::time::Monotonic;
use crate::random::Random;

/// Out of a thousand webhooks so many are answered 500, so that retries can be seen.
const FAILURES_PERMILLE: u64 = 30;
/// Largest webhook.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What arrived so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Webhooks that came at all, repetitions included.
    pub(super) attempts: u64,
    /// Of them, those whose signature did not hold.
    pub(super) invalid: u64,
    /// Notifications (by `webhook-id`) that were sent more than once.
    pub(super) retried: u64,
    /// Notifications that were taken with 200.
    pub(super) delivered: HashSet<String>,
    /// When the first notification about a payment was taken.
    pub(super) taken_at: HashMap<String, Monotonic>,
}

#[derive(Default)]
struct Book {
    tally: Tally,
    /// How often each notification came.
    times_seen: HashMap<String, u64>,
}

struct Shared {
    clock: Clock,
    random: Random,
    /// Endpoint's secret by tier.
    secrets: Mutex<HashMap<String, String>>,
    book: Mutex<Book>,
}

/// A running receiver. It stops when it is dropped.
pub(super) struct Receiver {
    base_url: String,
    shared: Arc<Shared>,
    stopping: CancellationToken,
}

impl Receiver {
    /// Listens on a free loopback port.
    pub(super) async fn start(clock: Clock, random: Random) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::Failed(format!("no port for the webhook receiver: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let base_url = format!("http://{}", listener.local_addr().map_err(failed)?);
        let shared = Arc::new(Shared { clock, random, secrets: Mutex::default(), book: Mutex::default() });
        let router = Router::new()
            .route("/webhooks/{tier}", post(receive))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        let stopping = CancellationToken::new();
        let stopped = stopping.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Ok(Self { base_url, shared, stopping })
    }

    /// Where a tier's merchant is told.
    pub(super) fn url_for(&self, tier: &str) -> String {
        format!("{}/webhooks/{tier}", self.base_url)
    }

    /// From now on a tier's webhooks must be signed with this.
    pub(super) fn expect_secret(&self, tier: &str, secret: String) {
        self.shared.secrets.lock().insert(String::from(tier), secret);
    }

    /// How many notifications were taken.
    pub(super) fn delivered(&self) -> u64 {
        self.shared.book.lock().tally.delivered.len() as u64
    }

    /// What arrived so far.
    pub(super) fn tally(&self) -> Tally {
        self.shared.book.lock().tally.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

#[derive(Deserialize)]
struct About {
    #[serde(default)]
    payment_no: Option<String>,
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    Path(tier): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let now = shared.clock.monotonic();
    let secret = shared.secrets.lock().get(&tier).cloned();
    let holds = secret.is_some_and(|secret| signatures_hold(&secret, &headers, &body, &shared.clock));
    let fails = shared.random.draw_u64() % 1000 < FAILURES_PERMILLE;
    let id = header(&headers, "webhook-id").unwrap_or_default();
    let mut book = shared.book.lock();
    let Book { tally, times_seen } = &mut *book;
    tally.attempts += 1;
    if !holds {
        tally.invalid += 1;
        return StatusCode::UNAUTHORIZED;
    }
    let times = times_seen.entry(String::from(id)).or_default();
    *times += 1;
    if *times == 2 {
        tally.retried += 1;
    }
    if fails {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    tally.delivered.insert(String::from(id));
    if let Ok(About { payment_no: Some(payment_no) }) = serde_json::from_slice(&body) {
        tally.taken_at.entry(payment_no).or_insert(now);
    }
    StatusCode::OK
}

/// Both signatures: the one of Standard Webhooks and the plain one over the body.
fn signatures_hold(secret: &str, headers: &HeaderMap, body: &[u8], clock: &Clock) -> bool {
    let texts = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let standard = verify(secret, texts, body, clock.now()).is_ok();
    let plain = Secret::parse(secret)
        .is_ok_and(|secret| header(headers, "x-webhook-signature") == Some(secret.sign_body(body).as_str()));
    standard && plain
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
