//! The PayPal emulator: access tokens, orders, authorizations, captures and refunds with PayPal's rules for ids, states
//! and errors, and signed notifications.

mod authorizations;
mod events;
mod objects;
mod orders;
mod reply;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::domain::ids::random_id;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::credentials::{PAYPAL_CERTIFICATE, PAYPAL_CLIENT_ID, PAYPAL_CLIENT_SECRET};
use crate::sandbox::faults::{Draw, Faults};
use crate::sandbox::late::Late;
use crate::sandbox::ledger::LedgerEntry;
use crate::sandbox::notify::Outbox;
use crate::sandbox::paypal::events::{CERTIFICATE_PATH, Signer, Told};
use crate::sandbox::paypal::objects::{Authorization, Capture, Intent, Order, Refund};
use crate::sandbox::paypal::reply::{
    DEBUG_ID, Made, Reply, Step, internal_error, invalid, invalid_client, not_found, rate_limited, unauthorized,
    unprocessable, unsupported_media_type,
};
use crate::sandbox::server::{Call, Emulator, Outcome, answer};
use crate::sandbox::{HELD_OPEN, OBJECTS_MAX, page};

/// The ids of orders are forgotten after this.
const ORDER_KEY_LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);
/// The ids of payments are forgotten after this.
const PAYMENT_KEY_LIFETIME: Duration = Duration::from_secs(45 * 24 * 60 * 60);
/// An access token is good for this long.
const TOKEN_LIFETIME: Duration = Duration::from_secs(32_400);
/// Longest id of a request.
const KEY_LENGTH_MAX: usize = 108;

/// The emulator behind one port.
pub(super) struct PaypalEmulator {
    state: Mutex<State>,
    faults: Arc<Faults>,
    clock: Clock,
    signer: Signer,
    outbox: Arc<Outbox>,
}

/// Everything that PayPal would know.
struct State {
    random: Random,
    settle_after: Duration,
    /// Access tokens, until when they are good.
    tokens: HashMap<String, Timestamp>,
    orders: HashMap<String, Order>,
    authorizations: HashMap<String, Authorization>,
    captures: HashMap<String, Capture>,
    /// Ids of captures by their order, oldest first.
    captures_by_order: HashMap<String, Vec<String>>,
    refunds: HashMap<String, Refund>,
    /// Which order an invoice was paid by.
    invoices: HashMap<String, String>,
    keys: HashMap<(String, String), Recorded>,
    due: BTreeSet<(Timestamp, Due)>,
    /// Requests whose clients are gone and that take effect later.
    late: Late<Call>,
    ledger: Vec<LedgerEntry>,
    /// What happened and was not told yet.
    told: Vec<Told>,
    /// Under which address it was last called.
    base_url: String,
}

/// Something that happens by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Authorize(String),
    Capture(String),
    Expire(String),
}

/// What a request's id remembers.
struct Recorded {
    made: Made,
    at: Timestamp,
    lifetime: Duration,
    /// Until then the first request with the id has no answer yet.
    answered_at: Timestamp,
}

/// One request on its way through the emulator.
struct Context<'a> {
    now: Timestamp,
    draw: Draw,
    body: &'a Value,
    base_url: &'a str,
    prefer: Option<&'a str>,
}

impl Context<'_> {
    /// What was made, whole only where that is asked for.
    fn as_preferred(&self, mut reply: Reply) -> Reply {
        if reply.status < 300 && reply.body.is_object() && self.prefer != Some("return=representation") {
            reply.body =
                json!({ "id": reply.body["id"], "status": reply.body["status"], "links": reply.body["links"] });
        }
        reply
    }
}

impl PaypalEmulator {
    /// An emulator that signs with the fixed certificate.
    ///
    /// # Errors
    /// A sentence, should its key not work.
    pub(super) fn new(
        faults: Arc<Faults>,
        clock: Clock,
        random: Random,
        settle_after: Duration,
        outbox: Arc<Outbox>,
    ) -> Result<Self, String> {
        let state = State {
            random,
            settle_after,
            tokens: HashMap::new(),
            orders: HashMap::new(),
            authorizations: HashMap::new(),
            captures: HashMap::new(),
            captures_by_order: HashMap::new(),
            refunds: HashMap::new(),
            invoices: HashMap::new(),
            keys: HashMap::new(),
            due: BTreeSet::new(),
            late: Late::new(),
            ledger: Vec::new(),
            told: Vec::new(),
            base_url: String::new(),
        };
        Ok(Self { state: Mutex::new(state), faults, clock, signer: Signer::new()?, outbox })
    }

    async fn answer(&self, call: Call) -> Outcome {
        let now = self.clock.now();
        if let Some(reply) = self.aside(&call, now) {
            return reply;
        }
        let draw = self.faults.draw();
        if let Some(delay) = draw.late_effect
            && call.method == hyper::Method::POST
        {
            self.state.lock().late.keep(now.plus(delay), call);
            return Outcome::Cut;
        }
        let step = {
            let mut state = self.state.lock();
            let step = state.serve(&call, draw, now);
            self.send_out(&mut state);
            step
        };
        tokio::time::sleep(draw.latency).await;
        let reply = match step {
            Step::Done(reply) if !draw.lost_response => reply,
            Step::Done(_) | Step::Lost(_) => return Outcome::Cut,
            Step::Held => {
                tokio::time::sleep(HELD_OPEN).await;
                return Outcome::Cut;
            }
        };
        Outcome::Answer(respond(&reply))
    }

    /// What is not PayPal's business with merchants: pages, certificates, tokens, and checks of signatures.
    fn aside(&self, call: &Call, now: Timestamp) -> Option<Outcome> {
        if let Some((id, visit)) = page::visit(call) {
            let mut state = self.state.lock();
            state.base_url = base_url_of(call);
            state.catch_up(now);
            let base_url = state.base_url.clone();
            let (status, waits) = state.visit(id, visit, &base_url, now);
            self.send_out(&mut state);
            return Some(Outcome::Answer(page::render(id, status, waits)));
        }
        let reply = match (call.method.as_str(), call.path.as_str()) {
            ("GET", CERTIFICATE_PATH) => {
                return Some(Outcome::Answer(answer(200, "application/x-pem-file", PAYPAL_CERTIFICATE)));
            }
            ("POST", "/v1/oauth2/token") => self.state.lock().grant(call, now),
            ("POST", "/v1/notifications/verify-webhook-signature") => {
                let is_authorized = self.state.lock().is_authorized(call, now);
                match self.signer.check(&call.body).filter(|_| is_authorized) {
                    Some(true) => Reply::new(200, json!({ "verification_status": "SUCCESS" })),
                    Some(false) => Reply::new(200, json!({ "verification_status": "FAILURE" })),
                    None if is_authorized => invalid("MISSING_REQUIRED_PARAMETER", "/webhook_event"),
                    None => unauthorized(),
                }
            }
            (_, path) if !path.starts_with("/v1/") && !path.starts_with("/v2/") => not_found(),
            _ => return None,
        };
        Some(Outcome::Answer(respond(&reply)))
    }

    /// Hands what happened to whoever sends it; what there is no room for is lost.
    fn send_out(&self, state: &mut State) {
        for told in std::mem::take(&mut state.told) {
            if let Some(prepared) = self.signer.prepare(&told, &state.base_url) {
                let _ = self.outbox.push(prepared);
            }
        }
    }
}

impl Emulator for PaypalEmulator {
    fn handle(&self, call: Call) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        Box::pin(self.answer(call))
    }

    fn catch_up(&self) {
        let mut state = self.state.lock();
        state.catch_up(self.clock.now());
        self.send_out(&mut state);
    }

    fn ledger(&self) -> Vec<LedgerEntry> {
        self.catch_up();
        self.state.lock().ledger.clone()
    }
}

impl State {
    /// Lets everything happen that should have happened by now, in its order.
    fn catch_up(&mut self, now: Timestamp) {
        while let Some((at, call)) = self.late.pop_due(now) {
            self.settle_due(at);
            // Nobody waits for the answer.
            let _ = self.serve_at(&call, Draw::default(), at);
        }
        self.settle_due(now);
    }

    fn settle_due(&mut self, now: Timestamp) {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, due)) = self.due.pop_first() else { return };
            match due {
                Due::Authorize(id) if self.authorizations.get(&id).is_some_and(|it| it.status == "PENDING") => {
                    self.held(&id, at);
                }
                Due::Capture(id) if self.captures.get(&id).is_some_and(|it| it.status == "PENDING") => {
                    self.taken(&id, at);
                }
                Due::Expire(id) => self.let_go(&id, true, at),
                Due::Authorize(_) | Due::Capture(_) => {}
            }
        }
    }

    fn serve(&mut self, call: &Call, draw: Draw, now: Timestamp) -> Step {
        self.base_url = base_url_of(call);
        self.catch_up(now);
        self.serve_at(call, draw, now)
    }

    fn serve_at(&mut self, call: &Call, draw: Draw, now: Timestamp) -> Step {
        if !self.is_authorized(call, now) {
            return Step::Done(unauthorized());
        }
        if draw.rate_limited {
            return Step::Done(rate_limited());
        }
        let is_post = call.method == hyper::Method::POST;
        // What has no body needs no type, and PayPal's own libraries give it none.
        let is_json = call.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if is_post && !call.body.is_empty() && !is_json {
            return Step::Done(unsupported_media_type());
        }
        let body = match call.body.is_empty() {
            true => json!({}),
            false => match serde_json::from_slice(&call.body) {
                Ok(body) => body,
                Err(_) => return Step::Done(invalid("INVALID_PARAMETER_SYNTAX", "/")),
            },
        };
        if let Some(issue) = mocked(call) {
            return Step::Done(unprocessable(&issue));
        }
        let base_url = base_url_of(call);
        let context = Context { now, draw, body: &body, base_url: &base_url, prefer: call.header("prefer") };
        let Some(key) = call.header("paypal-request-id").filter(|_| is_post) else {
            return self.execute(call, &context);
        };
        if key.len() > KEY_LENGTH_MAX {
            return Step::Done(invalid("INVALID_STRING_LENGTH", "PayPal-Request-Id"));
        }
        let key = (call.path.clone(), key.to_owned());
        match self.keys.get(&key) {
            Some(recorded) if now.since(recorded.at) < recorded.lifetime => {
                if now < recorded.answered_at {
                    return Step::Done(unprocessable("PREVIOUS_REQUEST_IN_PROGRESS"));
                }
                return Step::Done(context.as_preferred(self.present(&recorded.made, &base_url)));
            }
            _ if self.keys.len() >= OBJECTS_MAX => return Step::Done(reply::full()),
            _ => {}
        }
        let step = self.execute(call, &context);
        let made = match &step {
            Step::Done(reply) | Step::Lost(reply) => reply.made.clone(),
            Step::Held => Some(Made::Nothing),
        };
        if let Some(made) = made {
            let is_order = call.path.starts_with("/v2/checkout/");
            let lifetime = if is_order { ORDER_KEY_LIFETIME } else { PAYMENT_KEY_LIFETIME };
            let answered_at = now.plus(draw.latency);
            self.keys.insert(key, Recorded { made, at: now, lifetime, answered_at });
        }
        step
    }

    /// What a request made, as it is now.
    fn present(&self, made: &Made, base_url: &str) -> Reply {
        let shown = match made {
            Made::Order(id) => self.show_order(id, base_url),
            Made::Authorization(id) => self.authorizations.get(id).map(|it| it.show(base_url)),
            Made::Capture(id) => self.captures.get(id).map(|it| it.show(base_url)),
            Made::Refund(id) => self.refunds.get(id).map(|it| it.show(base_url)),
            Made::Nothing => return unprocessable("TRANSACTION_REFUSED"),
        };
        shown.map_or_else(not_found, |shown| Reply::new(200, shown))
    }

    fn execute(&mut self, call: &Call, context: &Context<'_>) -> Step {
        if context.draw.error {
            return Step::Done(internal_error());
        }
        let is_post = call.method == hyper::Method::POST;
        let step = match self.route(call, context) {
            Step::Done(reply) if is_post => Step::Done(context.as_preferred(reply)),
            step => step,
        };
        match step {
            // The effect stays, and the id remembers it; only the answer is spoilt.
            Step::Done(reply) if context.draw.error_after_effect && reply.status < 300 => {
                Step::Done(Reply { made: reply.made, ..internal_error() })
            }
            step => step,
        }
    }

    fn route(&mut self, call: &Call, context: &Context<'_>) -> Step {
        let segments: Vec<&str> = call.path.trim_matches('/').split('/').collect();
        Step::Done(match (call.method.as_str(), segments.as_slice()) {
            ("POST", ["v2", "checkout", "orders"]) => return self.create_order(context),
            ("GET", ["v2", "checkout", "orders", id]) => self.get_order(id, context),
            ("POST", ["v2", "checkout", "orders", id, "capture"]) => self.finish_order(id, Intent::Capture, context),
            ("POST", ["v2", "checkout", "orders", id, "authorize"]) => {
                self.finish_order(id, Intent::Authorize, context)
            }
            ("GET", ["v2", "payments", "authorizations", id]) => self.get_authorization(id, context),
            ("POST", ["v2", "payments", "authorizations", id, "capture"]) => self.capture(id, context),
            ("POST", ["v2", "payments", "authorizations", id, "void"]) => self.void(id, context),
            ("POST", ["v2", "payments", "authorizations", id, "reauthorize"]) => self.reauthorize(id, context),
            ("GET", ["v2", "payments", "captures", id]) => self.get_capture(id, context),
            ("POST", ["v2", "payments", "captures", id, "refund"]) => self.refund(id, context),
            ("GET", ["v2", "payments", "refunds", id]) => self.get_refund(id, context),
            _ => not_found(),
        })
    }

    /// Gives out an access token.
    fn grant(&mut self, call: &Call, now: Timestamp) -> Reply {
        let expected = STANDARD.encode(format!("{PAYPAL_CLIENT_ID}:{PAYPAL_CLIENT_SECRET}"));
        let given = call.header("authorization").and_then(|value| value.strip_prefix("Basic "));
        if given != Some(expected.as_str()) {
            return invalid_client();
        }
        let form = call.form();
        if !form.iter().any(|(name, value)| name == "grant_type" && value == "client_credentials") {
            let description = "Grant Type is NULL";
            return Reply::new(400, json!({ "error": "unsupported_grant_type", "error_description": description }));
        }
        self.tokens.retain(|_, until| now < *until);
        let token = format!("A21AA{}", self.new_id());
        self.tokens.insert(token.clone(), now.plus(TOKEN_LIFETIME));
        Reply::new(
            200,
            json!({
                "scope": "https://uri.paypal.com/services/payments/payment", "access_token": token,
                "token_type": "Bearer", "app_id": "APP-80W284485P519543T", "expires_in": TOKEN_LIFETIME.as_secs(),
                "nonce": now.rfc3339(),
            }),
        )
    }

    fn is_authorized(&self, call: &Call, now: Timestamp) -> bool {
        let token = call.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        token.and_then(|token| self.tokens.get(token)).is_some_and(|until| now < *until)
    }

    fn tell(&mut self, event_type: &'static str, resource_type: &'static str, resource: Value, at: Timestamp) {
        let id = format!("WH-{}", self.new_id());
        self.told.push(Told { id, event_type, resource_type, resource, at });
    }

    fn new_id(&self) -> String {
        random_id("", [self.random.draw_u64(), self.random.draw_u64()]).to_ascii_uppercase()
    }
}

fn respond(reply: &Reply) -> hyper::Response<http_body_util::Full<bytes::Bytes>> {
    let body = if reply.status == 204 { String::new() } else { reply.body.to_string() };
    let mut response = answer(reply.status, "application/json", body);
    response.headers_mut().insert("paypal-debug-id", HeaderValue::from_static(DEBUG_ID));
    response
}

fn base_url_of(call: &Call) -> String {
    format!("http://{}", call.header("host").unwrap_or("127.0.0.1"))
}

/// The issue that a request asks to be refused with.
fn mocked(call: &Call) -> Option<String> {
    let wish: Value = serde_json::from_str(call.header("paypal-mock-response")?).ok()?;
    wish["mock_application_codes"].as_str().map(str::to_owned)
}
