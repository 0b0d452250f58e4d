//! A receiver of Tollgate's webhooks: verifies both signatures, handles each event once, answers at once.
//!
//! ```sh
//! WEBHOOK_SECRET=whsec_… cargo run --example verify_webhook
//! ```
//!
//! In another terminal, with a gateway whose `[webhook] allowed_private_networks` has `127.0.0.0/8`:
//!
//! ```sh
//! tollgate request POST /api/v1/webhooks/endpoints --data '{"url":"http://127.0.0.1:3001/webhooks"}'
//! ```
#![allow(clippy::print_stdout, reason = "an example that says what it has got")]

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tollgate::clock::Clock;
use tollgate::webhook::{VerifyError, WebhookBody, verify, verify_body};

const ADDRESS: &str = "127.0.0.1:3001";
/// Ids that are remembered. A receiver with a database notes the id in the transaction that does what the event asks for
/// instead, so that a crash in between neither loses an event nor handles one twice.
const IDS_MAX: usize = 100_000;

/// What has arrived.
pub(crate) struct Inbox {
    /// The endpoint's secret, as it was shown when the endpoint was made.
    secret: String,
    clock: Clock,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    oldest_first: VecDeque<String>,
    handled: Vec<WebhookBody>,
}

impl Inbox {
    /// For webhooks that are signed with this secret.
    pub(crate) fn new(secret: &str) -> Arc<Self> {
        Arc::new(Self { secret: String::from(secret), clock: Clock::system(), seen: Mutex::default() })
    }

    /// The routes.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/webhooks", post(receive)).with_state(Arc::clone(self))
    }

    /// The events that were handled.
    #[allow(dead_code, reason = "for the test of this example")]
    pub(crate) fn handled(&self) -> Vec<WebhookBody> {
        self.seen.lock().handled.clone()
    }

    /// Whether the request is Tollgate's. Nothing of it may be used before.
    fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), VerifyError> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let named = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        verify(&self.secret, named, body, self.clock.now())?;
        // One of the two is enough; this one is for receivers that have no library of Standard Webhooks.
        verify_body(&self.secret, text("x-webhook-signature").unwrap_or_default(), body)
    }

    /// Handles an event unless it was handled before.
    fn handle_once(&self, id: &str, event: WebhookBody) {
        let mut seen = self.seen.lock();
        if !seen.ids.insert(String::from(id)) {
            return;
        }
        seen.oldest_first.push_back(String::from(id));
        if seen.oldest_first.len() > IDS_MAX
            && let Some(oldest) = seen.oldest_first.pop_front()
        {
            seen.ids.remove(&oldest);
        }
        let object = event.payment_no.as_deref().or(event.pre_auth_no.as_deref()).unwrap_or("-");
        println!("{} {object}", event.event);
        seen.handled.push(event);
    }
}

/// Answers 2xx as soon as the event is safe; what takes long is done afterwards, since Tollgate waits only so long and would
/// send it again.
async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if inbox.check(&headers, &body).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    match (id, WebhookBody::parse(&body)) {
        (Some(id), Ok(event)) => {
            inbox.handle_once(id, event);
            StatusCode::NO_CONTENT
        }
        _ => StatusCode::BAD_REQUEST,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = std::env::var("WEBHOOK_SECRET").map_err(|_| "set WEBHOOK_SECRET to the endpoint's secret, whsec_…")?;
    let listener =
        TcpListener::bind(ADDRESS).await.map_err(|error| format!("{ADDRESS} can't be listened on: {error}"))?;
    println!("listening on http://{}/webhooks", listener.local_addr()?);
    Ok(axum::serve(listener, Inbox::new(&secret).router()).await?)
}
