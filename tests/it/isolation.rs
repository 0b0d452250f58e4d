//! Endpoints that hang hold up nobody else's webhooks, on real sockets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tollgate::clock::Clock;

use crate::support::{Client, House, eventually};

const ENDPOINTS: &str = "/api/v1/webhooks/endpoints";
/// Endpoints that hang.
const HUNG: usize = 200;
/// Webhooks for each of them: as many as one endpoint may have in flight, and one more.
const FOR_EACH: usize = 17;
/// Webhooks for the endpoint that answers, while they hang.
const MEANWHILE: usize = 50;
/// How long one of these may take. Requests that hang take thirty seconds.
const WITHIN: Duration = Duration::from_secs(1);

/// Receivers at one address: `/hung/N` answers until it is told not to, `/well` always.
struct Receivers {
    clock: Clock,
    hangs: AtomicBool,
    /// Webhooks that came to those that hang.
    hung: AtomicUsize,
    /// When which payment's webhook came to the other one, in microseconds.
    well: Mutex<HashMap<String, u64>>,
}

async fn hung(State(receivers): State<Arc<Receivers>>, Path(_number): Path<usize>) {
    receivers.hung.fetch_add(1, Ordering::SeqCst);
    if receivers.hangs.load(Ordering::SeqCst) {
        std::future::pending().await
    }
}

async fn well(State(receivers): State<Arc<Receivers>>, body: Bytes) {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let now_us = receivers.clock.monotonic().micros();
    receivers.well.lock().insert(body["payment_no"].as_str().unwrap_or_default().to_owned(), now_us);
}

async fn start() -> (String, Arc<Receivers>) {
    let receivers = Arc::new(Receivers {
        clock: Clock::system(),
        hangs: AtomicBool::new(false),
        hung: AtomicUsize::new(0),
        well: Mutex::default(),
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router =
        Router::new().route("/hung/{number}", post(hung)).route("/well", post(well)).with_state(Arc::clone(&receivers));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receivers)
}

async fn pay(shop: &Client, number: usize) -> String {
    let paid = shop.pay(&format!("O-{number}"), 900, json!({})).await.expect(201, "SUCCESS");
    paid.data("payment_no").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_have_answered_and_hang_hold_up_nobody_else() {
    let house = House::start_with(|config| config.webhook.endpoints_max = HUNG).await;
    let (url, receivers) = start().await;
    let (hanging, healthy) = (house.merchant("premium").await, house.merchant("premium").await);
    for number in 0..HUNG {
        let body = json!({ "url": format!("{url}/hung/{number}") });
        hanging.post(ENDPOINTS, body).await.expect(201, "SUCCESS");
    }
    healthy.post(ENDPOINTS, json!({ "url": format!("{url}/well") })).await.expect(201, "SUCCESS");
    // Each has taken one, so that nothing is known against any of them.
    pay(&hanging, 0).await;
    pay(&healthy, 0).await;
    eventually("the first webhook of each", || async {
        let all_have = receivers.hung.load(Ordering::SeqCst) >= HUNG && !receivers.well.lock().is_empty();
        all_have.then_some(())
    })
    .await;

    receivers.hangs.store(true, Ordering::SeqCst);
    for number in 1..=FOR_EACH {
        pay(&hanging, number).await;
    }
    eventually("all of them to hang", || async { (receivers.hung.load(Ordering::SeqCst) >= 2 * HUNG).then_some(()) })
        .await;
    let mut slowest = Duration::ZERO;
    for number in 1..=MEANWHILE {
        let payment_no = pay(&healthy, number).await;
        let committed_us = receivers.clock.monotonic().micros();
        let came_us = eventually("the webhook of an endpoint that answers", || async {
            receivers.well.lock().get(&payment_no).copied()
        })
        .await;
        slowest = slowest.max(Duration::from_micros(came_us.saturating_sub(committed_us)));
    }
    assert!(slowest < WITHIN, "a webhook took {slowest:?} although its receiver answers");
}
