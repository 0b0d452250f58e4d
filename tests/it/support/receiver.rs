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
use tokio::net::TcpSocket;
use tollgate::delivery::signing::{VerifyError, verify};
use tollgate::domain::time::Timestamp;

use super::client::unix_s;

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

    /// Verifies it as Standard Webhooks has it.
    pub fn verify(&self, secret: &str) -> Result<(), VerifyError> {
        let headers = self.headers.keys().map(|name| (name.as_str(), self.header(name.as_str())));
        let now = Timestamp::from_unix_s(i64::try_from(unix_s()).unwrap());
        verify(secret, headers, &self.bytes, now)
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

/// A receiver that is down: its port is its own, and connecting is refused.
pub struct ReceiverDown {
    pub url: String,
    socket: TcpSocket,
}

impl ReceiverDown {
    /// Comes up at the same address.
    pub fn up(self) -> Receiver {
        let state = Arc::new(Shared { status: AtomicU16::new(200), deliveries: Mutex::new(Vec::new()) });
        let listener = self.socket.listen(64).unwrap();
        let router = Router::new().route("/hook", post(receive)).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { url: self.url, state }
    }
}

impl Receiver {
    pub async fn start() -> Self {
        Self::down().up()
    }

    pub fn down() -> ReceiverDown {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        ReceiverDown { url: format!("http://{}/hook", socket.local_addr().unwrap()), socket }
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
