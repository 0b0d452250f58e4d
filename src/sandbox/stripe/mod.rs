//! The Stripe emulator: PaymentIntents, captured at once or by hand, and refunds, with Stripe's rules for authentication,
//! idempotency and errors, and its events.

mod cards;
mod events;
mod holds;
mod intents;
mod objects;
mod refunds;
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
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::domain::ids::random_id;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::credentials::STRIPE_SECRET_KEY;
use crate::sandbox::faults::{Draw, Faults};
use crate::sandbox::late::Late;
use crate::sandbox::ledger::LedgerEntry;
use crate::sandbox::notify::Outbox;
use crate::sandbox::server::{Call, Emulator, Outcome, answer};
use crate::sandbox::stripe::events::Event;
use crate::sandbox::stripe::objects::{Expansion, Intent, Refund};
use crate::sandbox::stripe::reply::Reply;
use crate::sandbox::{HELD_OPEN, OBJECTS_MAX, page};

/// Stripe forgets keys after this.
const KEY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The emulator behind one port.
pub(super) struct StripeEmulator {
    state: Mutex<State>,
    faults: Arc<Faults>,
    clock: Clock,
}

/// Everything that Stripe would know.
struct State {
    random: Random,
    settle_after: Duration,
    intents: HashMap<String, Intent>,
    /// Ids of intents, oldest first.
    intent_order: Vec<String>,
    refunds: HashMap<String, Refund>,
    /// Ids of refunds, oldest first.
    refund_order: Vec<String>,
    /// Ids of refunds by their intent, oldest first.
    refunds_by_intent: HashMap<String, Vec<String>>,
    keys: HashMap<String, Recorded>,
    /// Intents that settle by themselves, by when.
    due: BTreeSet<(Timestamp, String)>,
    /// Requests whose clients are gone and that take effect later.
    late: Late<Call>,
    ledger: Vec<LedgerEntry>,
    /// What happened and was not told yet, in its order.
    events: Vec<Event>,
    outbox: Arc<Outbox>,
}

/// What a key remembers.
struct Recorded {
    fingerprint: [u8; 32],
    reply: Reply,
    at: Timestamp,
    /// Until then the first request with the key has no answer yet.
    answered_at: Timestamp,
}

/// One request on its way through the emulator.
struct Context<'a> {
    now: Timestamp,
    draw: Draw,
    parameters: &'a [(String, String)],
    base_url: &'a str,
    expansion: Expansion,
}

impl Context<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The entries of a map, such as `metadata[name]`.
    fn map(&self, name: &str) -> std::collections::BTreeMap<String, String> {
        let entry = |found: &str| found.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']').map(str::to_owned);
        self.parameters.iter().filter_map(|(found, value)| Some((entry(found)?, value.clone()))).collect()
    }
}

/// What becomes of a request inside.
enum Step {
    /// It has this answer.
    Done(Reply),
    /// It has this answer, and its connection is cut in place of it.
    Lost(Reply),
    /// It never gets one, and nothing was done.
    Held,
}

impl StripeEmulator {
    pub(super) fn new(
        faults: Arc<Faults>,
        clock: Clock,
        random: Random,
        settle_after: Duration,
        outbox: Arc<Outbox>,
    ) -> Self {
        let state = State {
            random,
            settle_after,
            intents: HashMap::new(),
            intent_order: Vec::new(),
            refunds: HashMap::new(),
            refund_order: Vec::new(),
            refunds_by_intent: HashMap::new(),
            keys: HashMap::new(),
            due: BTreeSet::new(),
            late: Late::new(),
            ledger: Vec::new(),
            events: Vec::new(),
            outbox,
        };
        Self { state: Mutex::new(state), faults, clock }
    }

    async fn answer(&self, call: Call) -> Outcome {
        if let Some((id, visit)) = page::visit(&call) {
            let (mut state, now) = (self.state.lock(), self.clock.now());
            state.catch_up(now);
            let (status, waits) = state.visit(id, visit, now);
            state.send_events(now);
            return Outcome::Answer(page::render(id, status, waits));
        }
        let draw = self.faults.draw();
        if let Some(delay) = draw.late_effect
            && call.method == hyper::Method::POST
        {
            let now = self.clock.now();
            self.state.lock().late.keep(now.plus(delay), call);
            return Outcome::Cut;
        }
        let (step, replayed) = self.state.lock().serve(&call, draw, self.clock.now());
        tokio::time::sleep(draw.latency).await;
        let reply = match step {
            Step::Done(reply) if !draw.lost_response => reply,
            Step::Done(_) | Step::Lost(_) => return Outcome::Cut,
            Step::Held => {
                tokio::time::sleep(HELD_OPEN).await;
                return Outcome::Cut;
            }
        };
        let mut response = answer(reply.status, "application/json", reply.body);
        let headers = response.headers_mut();
        if replayed {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        if reply.status == 429 {
            headers.insert("retry-after", HeaderValue::from_static("1"));
        }
        for name in ["idempotency-key", "stripe-version"] {
            if let Some(value) = call.headers.get(name) {
                headers.insert(name, value.clone());
            }
        }
        Outcome::Answer(response)
    }
}

impl Emulator for StripeEmulator {
    fn handle(&self, call: Call) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        Box::pin(self.answer(call))
    }

    fn catch_up(&self) {
        let (mut state, now) = (self.state.lock(), self.clock.now());
        state.catch_up(now);
        state.send_events(now);
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

    /// Serves one request; says too whether the answer is a recorded one.
    fn serve(&mut self, call: &Call, draw: Draw, now: Timestamp) -> (Step, bool) {
        self.catch_up(now);
        let served = self.serve_at(call, draw, now);
        self.send_events(now);
        served
    }

    fn serve_at(&mut self, call: &Call, draw: Draw, now: Timestamp) -> (Step, bool) {
        if !is_authorized(call) {
            return (Step::Done(reply::unauthorized()), false);
        }
        if draw.rate_limited {
            return (Step::Done(reply::rate_limited()), false);
        }
        let is_post = call.method == hyper::Method::POST;
        let parameters = if is_post { call.form() } else { call.query.clone() };
        let base_url = format!("http://{}", call.header("host").unwrap_or("127.0.0.1"));
        let context =
            Context { now, draw, parameters: &parameters, base_url: &base_url, expansion: Expansion::of(&parameters) };
        let key = call.header("idempotency-key").filter(|_| is_post);
        let Some(key) = key else { return (self.execute(call, &context), false) };
        let fingerprint = fingerprint_of(&call.path, &parameters);
        match self.keys.get(key) {
            Some(recorded) if now.since(recorded.at) < KEY_LIFETIME => {
                if recorded.fingerprint != fingerprint {
                    return (Step::Done(reply::key_conflict()), false);
                }
                if now < recorded.answered_at {
                    return (Step::Done(reply::key_in_use()), false);
                }
                return (Step::Done(recorded.reply.clone()), true);
            }
            _ if self.keys.len() >= OBJECTS_MAX => return (Step::Done(reply::full()), false),
            _ => {}
        }
        let step = self.execute(call, &context);
        if let Step::Done(reply) | Step::Lost(reply) = &step
            && reply.recorded
        {
            let answered_at = now.plus(draw.latency);
            let recorded = Recorded { fingerprint, reply: reply.clone(), at: now, answered_at };
            self.keys.insert(key.to_owned(), recorded);
        }
        (step, false)
    }

    fn execute(&mut self, call: &Call, context: &Context<'_>) -> Step {
        if context.draw.error {
            return Step::Done(reply::internal_error());
        }
        let step = self.route(call, context);
        match step {
            // The effect stays; only the answer is spoilt, and it is the spoilt one that the key remembers.
            Step::Done(reply) if context.draw.error_after_effect && reply.status == 200 => {
                Step::Done(reply::internal_error())
            }
            step => step,
        }
    }

    fn route(&mut self, call: &Call, context: &Context<'_>) -> Step {
        let segments: Vec<&str> = call.path.trim_matches('/').split('/').collect();
        match (call.method.as_str(), segments.as_slice()) {
            ("POST", ["v1", "payment_intents"]) => self.create_intent(context),
            ("POST", ["v1", "payment_intents", id, "confirm"]) => self.confirm_intent(id, context),
            ("GET", ["v1", "payment_intents"]) => Step::Done(self.list_intents(context)),
            ("GET", ["v1", "payment_intents", id]) => Step::Done(self.get_intent(id, context)),
            ("POST", ["v1", "payment_intents", id, "cancel"]) => Step::Done(self.cancel_intent(id, context)),
            ("POST", ["v1", "payment_intents", id, "capture"]) => Step::Done(self.capture_intent(id, context)),
            ("GET", ["v1", "account"]) => Step::Done(Reply::ok(&objects::account())),
            ("POST", ["v1", "refunds"]) => Step::Done(self.create_refund(context)),
            ("GET", ["v1", "refunds"]) => Step::Done(self.list_refunds(context)),
            ("GET", ["v1", "refunds", id]) => Step::Done(self.get_refund(id)),
            (method, _) => Step::Done(reply::unknown_route(method, &call.path)),
        }
    }

    fn new_id(&self, prefix: &str) -> String {
        random_id(prefix, [self.random.draw_u64(), self.random.draw_u64()])
    }
}

/// Bearer, or Basic with the key as the user.
fn is_authorized(call: &Call) -> bool {
    let Some(authorization) = call.header("authorization") else { return false };
    if let Some(key) = authorization.strip_prefix("Bearer ") {
        return key == STRIPE_SECRET_KEY;
    }
    let basic = authorization.strip_prefix("Basic ").and_then(|encoded| STANDARD.decode(encoded).ok());
    basic.is_some_and(|pair| pair == format!("{STRIPE_SECRET_KEY}:").as_bytes())
}

/// A digest of where a request goes and what it says, whatever the order of its parameters.
fn fingerprint_of(path: &str, parameters: &[(String, String)]) -> [u8; 32] {
    let mut sorted: Vec<&(String, String)> = parameters.iter().collect();
    sorted.sort();
    let mut digest = Sha256::new();
    digest.update(path.as_bytes());
    for (name, value) in sorted {
        for part in [name, value] {
            digest.update(part.len().to_be_bytes());
            digest.update(part.as_bytes());
        }
    }
    digest.finalize().into()
}

/// A page of a list: at most `limit` objects (10 unless asked otherwise) from those after `starting_after`.
fn page_of<'a, T>(
    context: &Context<'_>,
    newest_first: impl Iterator<Item = (&'a str, T)>,
) -> Result<(Vec<T>, bool), Reply> {
    let limit = match context.get("limit").map(str::parse::<usize>) {
        None => 10,
        Some(Ok(limit)) if (1..=100).contains(&limit) => limit,
        Some(_) => {
            return Err(reply::bad_parameter("parameter_invalid_integer", "limit", "Limit must be between 1 and 100"));
        }
    };
    let starting_after = context.get("starting_after");
    let mut rest = newest_first.skip_while(|(id, _)| starting_after.is_some_and(|after| *id != after));
    if starting_after.is_some() {
        rest.next();
    }
    let objects: Vec<T> = rest.by_ref().take(limit).map(|(_, object)| object).collect();
    Ok((objects, rest.next().is_some()))
}
