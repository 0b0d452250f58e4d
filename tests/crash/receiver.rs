//! A merchant's webhook receivers, one for each endpoint: they refuse some, or take their time for an answer when they have
//! taken it. They know when nothing is on its way through them any more.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::serve::Listener;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::client;

/// What each endpoint does: one of so many is answered 500, and the answer comes so long after it was taken. The last one is
/// where most kills find something that was taken and whose answer nobody gets.
const MANNERS: [(usize, Duration); ENDPOINTS] = [
    (10, Duration::ZERO),
    (3, Duration::ZERO),
    (50, Duration::from_millis(50)),
    (usize::MAX, Duration::from_millis(100)),
];
/// Endpoints of the merchant.
pub const ENDPOINTS: usize = 4;
/// Steps in which it is waited until nothing is on its way.
const QUIET_STEPS: usize = 5_000;
const QUIET_STEP: Duration = Duration::from_millis(1);

/// One delivery as it arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// To which endpoint.
    pub endpoint: usize,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body's bytes.
    pub bytes: Vec<u8>,
    /// The body.
    pub body: Value,
    /// Whether it was answered 200; 500 otherwise.
    pub is_taken: bool,
}

impl Delivery {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Receivers that take nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It always answers 500.
    Dead,
    /// It answers 410, until it is there again.
    Gone,
}

/// What they were asked.
#[derive(Clone, Default)]
struct Others {
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    is_back: Arc<AtomicBool>,
}

/// A running receiver.
#[derive(Clone)]
pub struct Receiver {
    base_url: String,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    others: Others,
    open: Arc<AtomicUsize>,
}

impl Receiver {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let open = Arc::<AtomicUsize>::default();
        let deliveries = Arc::<Mutex<Vec<Delivery>>>::default();
        let others = Others::default();
        let router = Router::new()
            .route("/hook/{endpoint}", post(receive))
            .route("/probe", get(|| async { "{}" }))
            .with_state(Arc::clone(&deliveries))
            .merge(Router::new().route("/other/{manner}", post(refuse)).with_state(others.clone()));
        let counting = Counting { listener, open: Arc::clone(&open) };
        tokio::spawn(async move { axum::serve(counting, router).await });
        Self { base_url, deliveries, others, open }
    }

    /// Where webhooks of an endpoint go.
    pub fn url(&self, endpoint: usize) -> String {
        format!("{}/hook/{endpoint}", self.base_url)
    }

    /// Where those of one that takes nothing go.
    pub fn url_of(&self, manner: Manner) -> String {
        format!("{}/other/{}", self.base_url, manner as usize)
    }

    /// What one was asked that takes nothing.
    pub fn asked(&self, manner: Manner) -> Vec<Delivery> {
        let deliveries = self.others.deliveries.lock();
        deliveries.iter().filter(|delivery| delivery.endpoint == manner as usize).cloned().collect()
    }

    /// The one that was gone is there again.
    pub fn come_back(&self) {
        self.others.is_back.store(true, Ordering::SeqCst);
    }

    /// What has arrived.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().clone()
    }

    /// Waits until all that was sent by a process that is gone has arrived: its connections end when they are read to
    /// their ends. Connections are taken in the order in which they come, so that one of ours comes after all of them.
    pub async fn quiet(&self) {
        let probed = client::http_client().get(format!("{}/probe", self.base_url)).send().await.unwrap();
        assert_eq!(probed.status().as_u16(), 200);
        drop(probed);
        for _ in 0..QUIET_STEPS {
            if self.open.load(Ordering::SeqCst) == 0 {
                return;
            }
            tokio::time::sleep(QUIET_STEP).await;
        }
        panic!("{} connections of a process that is gone stay open", self.open.load(Ordering::SeqCst));
    }
}

async fn receive(
    State(deliveries): State<Arc<Mutex<Vec<Delivery>>>>,
    Path(endpoint): Path<usize>,
    headers: HeaderMap,
    bytes: Bytes,
) -> StatusCode {
    let (refused_one_of, its_time) = MANNERS[endpoint];
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let is_taken = {
        let mut deliveries = deliveries.lock();
        let before = deliveries.iter().filter(|delivery| delivery.endpoint == endpoint).count();
        let is_taken = before % refused_one_of != refused_one_of - 1;
        deliveries.push(Delivery { endpoint, headers, bytes: bytes.to_vec(), body, is_taken });
        is_taken
    };
    tokio::time::sleep(its_time).await;
    if is_taken { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

async fn refuse(
    State(others): State<Others>,
    Path(manner): Path<usize>,
    headers: HeaderMap,
    bytes: Bytes,
) -> StatusCode {
    let is_dead = manner == Manner::Dead as usize;
    let is_taken = !is_dead && others.is_back.load(Ordering::SeqCst);
    others.deliveries.lock().push(Delivery {
        endpoint: manner,
        headers,
        bytes: bytes.to_vec(),
        body: Value::Null,
        is_taken,
    });
    match (is_taken, is_dead) {
        (true, _) => StatusCode::OK,
        (false, true) => StatusCode::INTERNAL_SERVER_ERROR,
        (false, false) => StatusCode::GONE,
    }
}

/// Counts the connections that are open.
struct Counting {
    listener: TcpListener,
    open: Arc<AtomicUsize>,
}

impl Listener for Counting {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        self.open.fetch_add(1, Ordering::SeqCst);
        (Counted { stream, open: Arc::clone(&self.open) }, address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Counted {
    stream: TcpStream,
    open: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
