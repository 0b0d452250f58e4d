//! What everything is measured against: axum with a handler that reads JSON and writes it again, and one that writes
//! JSON, and nothing else. No signature is checked, nothing is limited, nothing is stored.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// As the first argument: serve, and do not measure.
pub const ARGUMENT: &str = "--serve-bare";
/// What is printed in front of the address.
pub const READY: &str = "ready ";

#[derive(Serialize, Deserialize)]
struct Payment {
    order_no: String,
    amount: i64,
    currency: String,
    country: String,
    method: String,
    description: String,
}

#[derive(Clone, Serialize)]
struct Window {
    name: String,
    limit: u64,
    window_s: f64,
    used: u64,
    remaining: u64,
    reset_at: String,
}

#[derive(Clone, Serialize)]
struct Limits {
    tier: String,
    windows: Vec<Window>,
}

async fn echo(Json(payment): Json<Payment>) -> (StatusCode, Json<Payment>) {
    (StatusCode::CREATED, Json(payment))
}

async fn limits(State(limits): State<Limits>) -> Json<Limits> {
    Json(limits)
}

/// Serves until killed, with a runtime like the gateway's.
pub fn serve() {
    let window = |name: &str, window_s| Window {
        name: name.to_owned(),
        limit: 100_000,
        window_s,
        used: 12_345,
        remaining: 87_655,
        reset_at: "2025-01-24T10:30:45.123Z".to_owned(),
    };
    let windows = vec![window("second", 1.0), window("minute", 60.0), window("hour", 3600.0)];
    let router = Router::new()
        .route("/api/v1/payments", post(echo))
        .route("/api/v1/limits", get(limits))
        .with_state(Limits { tier: "premium".to_owned(), windows });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{READY}{}", listener.local_addr().expect("an address"));
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("an option"));
        axum::serve(listener, router).await.expect("serving");
    });
}
