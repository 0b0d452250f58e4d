//! Stands between the providers and the gateway: what they send of their own accord goes through here, as it is, so that
//! it is known what the gateway said it has taken. It can be kept back for a while.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tollgate::clock::Clock;
use tollgate::domain::time::Monotonic;

use crate::client;

/// Headers that are not about what is sent.
const OF_THE_CONNECTION: [&str; 4] = ["connection", "content-length", "host", "transfer-encoding"];
/// Providers' signatures are good for five minutes.
const STILL_GOOD: Duration = Duration::from_secs(60);

/// A notification that the gateway has taken.
#[derive(Clone)]
pub struct Taken {
    channel: String,
    headers: HeaderMap,
    body: Bytes,
    at: Monotonic,
}

/// What has gone through.
#[derive(Default)]
struct Seen {
    /// Those that were answered 200, each time that they were.
    taken: Vec<Taken>,
    /// Those that were refused for good; all of them are genuine.
    refused: Vec<String>,
    /// Those that are kept back at the moment.
    kept_back: usize,
}

#[derive(Clone)]
struct Way {
    http: reqwest::Client,
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
    /// Where the gateway is.
    gateway: Arc<Mutex<String>>,
    /// Whether what comes is passed on.
    is_open: watch::Receiver<bool>,
}

/// A running messenger.
pub struct Messenger {
    url: String,
    way: Way,
    gate: watch::Sender<bool>,
}

impl Messenger {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (gate, is_open) = watch::channel(true);
        let (seen, gateway) = (Arc::default(), Arc::default());
        let way = Way { http: client::http_client(), clock: Clock::system(), seen, gateway, is_open };
        let router = Router::new().route("/callbacks/{channel}", post(pass_on)).with_state(way.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, way, gate }
    }

    /// From now on notifications go to this gateway, through here. A gateway registers itself when it starts.
    pub async fn lead_to(&self, gateway: &str, sandbox_url: &str) {
        gateway.clone_into(&mut self.way.gateway.lock());
        let base = json!({ "url": self.url }).to_string();
        let headers = Default::default();
        let answer = client::send(&self.way.http, sandbox_url, "PUT", "/control/callbacks", Some(base), headers).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Keeps back what comes, or lets it through.
    pub fn keep_back(&self, does: bool) {
        self.gate.send_replace(!does);
    }

    /// How many are kept back.
    pub fn kept_back(&self) -> usize {
        self.way.seen.lock().kept_back
    }

    /// How many were taken, each time that they were, and how many different ones.
    pub fn taken(&self) -> (usize, usize) {
        let seen = self.way.seen.lock();
        let different: HashSet<&[u8]> = seen.taken.iter().map(|taken| &taken.body[..]).collect();
        (seen.taken.len(), different.len())
    }

    /// None was refused: all are genuine.
    pub fn none_was_refused(&self) {
        let seen = self.way.seen.lock();
        assert!(seen.refused.is_empty(), "genuine notifications were refused: {:?}", seen.refused);
    }

    /// What was taken not long ago, at most `newest`, each once.
    pub fn taken_lately(&self, newest: usize) -> Vec<Taken> {
        let (seen, now) = (self.way.seen.lock(), self.way.clock.monotonic());
        let mut known = HashSet::new();
        let lately = seen.taken.iter().rev().take_while(|taken| now.since(taken.at) < STILL_GOOD);
        lately.filter(|taken| known.insert(taken.body.clone())).take(newest).cloned().collect()
    }

    /// Sends one once more, as it came, and answers the status.
    pub async fn repeat(&self, taken: &Taken) -> u16 {
        let answer = self.way.send(&taken.channel, &taken.headers, &taken.body).await;
        answer.map_or(0, |(status, _)| status.as_u16())
    }
}

impl Way {
    /// The gateway's answer; `None` when it has none.
    async fn send(&self, channel: &str, headers: &HeaderMap, body: &Bytes) -> Option<(StatusCode, Bytes)> {
        let address = format!("{}/callbacks/{channel}", *self.gateway.lock());
        let mut request = self.http.post(address).body(body.clone());
        for (name, value) in headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str())) {
            request = request.header(name, value);
        }
        let response = request.send().await.ok()?;
        Some((response.status(), response.bytes().await.ok()?))
    }
}

async fn pass_on(State(way): State<Way>, Path(channel): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    way.seen.lock().kept_back += 1;
    let _ = way.is_open.clone().wait_for(|is_open| *is_open).await;
    way.seen.lock().kept_back -= 1;
    let Some((status, answer)) = way.send(&channel, &headers, &body).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let mut seen = way.seen.lock();
    if status == StatusCode::OK {
        seen.taken.push(Taken { channel, headers, body, at: way.clock.monotonic() });
    } else if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        seen.refused.push(format!("{status} of {channel}: {}", String::from_utf8_lossy(&body)));
    }
    (status, answer).into_response()
}
