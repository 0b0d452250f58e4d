//! A merchant's webhook receiver: keeps what arrives and answers as it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::Value;

/// One delivery as it arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    pub body: Value,
}

impl Delivery {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A running receiver.
#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    state: Arc<Shared>,
}

struct Shared {
    status: AtomicU16,
    deliveries: Mutex<Vec<Delivery>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let state = Arc::new(Shared { status: AtomicU16::new(200), deliveries: Mutex::new(Vec::new()) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(receive)).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    /// What is answered from now on.
    pub fn answer(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state.deliveries.lock().clone()
    }

    /// Deliveries about a payment.
    pub fn about(&self, payment_no: &str) -> Vec<Delivery> {
        self.deliveries().into_iter().filter(|delivery| delivery.body["payment_no"] == payment_no).collect()
    }
}

async fn receive(State(state): State<Arc<Shared>>, headers: HeaderMap, bytes: Bytes) -> StatusCode {
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    state.deliveries.lock().push(Delivery { headers, bytes: bytes.to_vec(), body });
    StatusCode::from_u16(state.status.load(Ordering::SeqCst)).unwrap()
}
