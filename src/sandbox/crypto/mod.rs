//! The emulator of a BTCPay server: invoices and refunds by the rules of its Greenfield API.

mod events;
mod invoices;
mod pulls;
mod reply;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper::{Method, Response};
use parking_lot::Mutex;
use serde_json::Value;

use crate::clock::Clock;
use crate::domain::ids::random_id;
use crate::domain::money::Money;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::sandbox::credentials::{BTCPAY_API_KEY, BTCPAY_STORE_ID};
use crate::sandbox::crypto::invoices::Invoice;
use crate::sandbox::crypto::pulls::PullPayment;
use crate::sandbox::crypto::reply::Reply;
use crate::sandbox::faults::{Draw, Faults};
use crate::sandbox::late::Late;
use crate::sandbox::ledger::LedgerEntry;
use crate::sandbox::notify::Outbox;
use crate::sandbox::page::{self, Visit};
use crate::sandbox::server::{Call, Emulator, Outcome, answer};
use crate::sandbox::{HELD_OPEN, SandboxOptions};

/// Most rows of a list.
const ROWS_MAX: usize = 1_000;

/// The emulator behind one port.
pub(super) struct CryptoEmulator {
    state: Mutex<State>,
    faults: Arc<Faults>,
    clock: Clock,
}

/// Everything that the server would know.
struct State {
    random: Random,
    settle_after: Duration,
    invoices: HashMap<String, Invoice>,
    /// Ids of invoices, oldest first.
    order: Vec<String>,
    pulls: HashMap<String, PullPayment>,
    /// Ids of pull payments, oldest first.
    pull_order: Vec<String>,
    /// Invoices to which something happens by itself, by when.
    due: BTreeSet<(Timestamp, String)>,
    /// Requests whose clients are gone and that take effect later.
    late: Late<Call>,
    ledger: Vec<LedgerEntry>,
    outbox: Arc<Outbox>,
}

/// One request on its way through the emulator.
struct Context<'a> {
    now: Timestamp,
    draw: Draw,
    query: &'a [(String, String)],
    body: Value,
    base_url: &'a str,
}

impl Context<'_> {
    /// All values of a parameter.
    fn all(&self, name: &str) -> Vec<&str> {
        self.query.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A parameter that is a number of rows.
    fn number(&self, name: &str, default: usize) -> usize {
        let given = self.all(name).first().and_then(|value| value.parse().ok());
        given.map_or(default, |number: usize| if name == "take" { number.min(ROWS_MAX) } else { number })
    }
}

/// What becomes of a request inside.
enum Step {
    /// It has this answer.
    Done(Reply),
    /// It was done, and its connection is cut in place of an answer.
    Lost,
    /// It never gets one, and nothing was done.
    Held,
}

impl CryptoEmulator {
    pub(super) fn new(faults: Arc<Faults>, options: &SandboxOptions, outbox: Arc<Outbox>) -> Self {
        let state = State {
            random: options.random.clone(),
            settle_after: options.settle_after,
            invoices: HashMap::new(),
            order: Vec::new(),
            pulls: HashMap::new(),
            pull_order: Vec::new(),
            due: BTreeSet::new(),
            late: Late::new(),
            ledger: Vec::new(),
            outbox,
        };
        Self { state: Mutex::new(state), faults, clock: options.clock.clone() }
    }

    async fn answer(&self, call: Call) -> Outcome {
        if let Some((id, visit)) = page::visit(&call) {
            return Outcome::Answer(self.state.lock().visit(id, visit, &call, self.clock.now()));
        }
        let draw = self.faults.draw();
        if let Some(delay) = draw.late_effect
            && call.method == Method::POST
        {
            let now = self.clock.now();
            self.state.lock().late.keep(now.plus(delay), call);
            return Outcome::Cut;
        }
        let step = self.state.lock().serve(&call, draw, self.clock.now());
        tokio::time::sleep(draw.latency).await;
        let reply = match step {
            Step::Done(reply) if !draw.lost_response => reply,
            Step::Done(_) | Step::Lost => return Outcome::Cut,
            Step::Held => {
                tokio::time::sleep(HELD_OPEN).await;
                return Outcome::Cut;
            }
        };
        let mut response = answer(reply.status, "application/json", reply.body);
        if reply.status == 429 {
            response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
        }
        Outcome::Answer(response)
    }
}

impl Emulator for CryptoEmulator {
    fn handle(&self, call: Call) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>> {
        Box::pin(self.answer(call))
    }

    fn catch_up(&self) {
        self.state.lock().catch_up(self.clock.now());
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

    fn serve(&mut self, call: &Call, draw: Draw, now: Timestamp) -> Step {
        self.catch_up(now);
        self.serve_at(call, draw, now)
    }

    fn serve_at(&mut self, call: &Call, draw: Draw, now: Timestamp) -> Step {
        let segments: Vec<&str> = call.path.trim_matches('/').split('/').collect();
        let ["api", "v1", resource @ ..] = segments.as_slice() else { return Step::Done(reply::not_found()) };
        if !is_known(&call.method, resource) {
            return Step::Done(reply::not_found());
        }
        if call.header("authorization") != Some(format!("token {BTCPAY_API_KEY}").as_str()) {
            return Step::Done(reply::unauthenticated());
        }
        if draw.rate_limited {
            return Step::Done(reply::rate_limited());
        }
        if draw.error {
            return Step::Done(reply::internal_error());
        }
        let body = match (&call.method, serde_json::from_slice(&call.body)) {
            (&Method::POST, Ok(body)) => body,
            (&Method::POST, Err(_)) => return Step::Done(reply::invalid("", "The body is no JSON")),
            _ => Value::Null,
        };
        let base_url = format!("http://{}", call.header("host").unwrap_or("127.0.0.1"));
        let context = Context { now, draw, query: &call.query, body, base_url: &base_url };
        let step = self.route(&call.method, resource, &context);
        match step {
            // The effect stays; only the answer is spoilt.
            Step::Done(reply) if draw.error_after_effect && reply.status == 200 => Step::Done(reply::internal_error()),
            step => step,
        }
    }

    fn route(&mut self, method: &Method, resource: &[&str], context: &Context<'_>) -> Step {
        if let ["stores", store_id, rest @ ..] = resource {
            return match (*store_id == BTCPAY_STORE_ID, method, rest) {
                (false, ..) => Step::Done(reply::other_store()),
                (true, &Method::POST, ["invoices"]) => self.create_invoice(context),
                (true, _, ["invoices"]) => Step::Done(self.list_invoices(context)),
                (true, _, ["pull-payments"]) => Step::Done(self.list_pulls(context)),
                // Where invoices stood before they had an address without their store.
                _ => self.route(method, rest, context),
            };
        }
        Step::Done(match (method, resource) {
            (&Method::GET, ["invoices", id]) => self.get_invoice(id, context.base_url),
            (&Method::GET, ["invoices", id, "payment-methods"]) => self.payment_methods(id, context.now),
            (&Method::POST, ["invoices", id, "status"]) => self.mark_invoice(id, context),
            (&Method::POST, ["invoices", id, "refund"]) => self.refund_invoice(id, context),
            (&Method::GET, ["pull-payments", id]) => self.get_pull(id, context.base_url),
            (&Method::GET, ["pull-payments", id, "payouts"]) => self.list_payouts(id),
            _ => reply::not_found(),
        })
    }

    /// What a payer does with the page of an invoice, or of a refund.
    fn visit(&mut self, id: &str, visit: Visit, call: &Call, now: Timestamp) -> Response<Full<Bytes>> {
        self.catch_up(now);
        if self.pulls.contains_key(id) {
            if visit == Visit::Approve {
                self.claim(id, now);
            }
            let is_claimed = self.pulls.get(id).is_some_and(|pull| pull.is_claimed);
            return page::render(id, Some(if is_claimed { "claimed" } else { "to be claimed" }), !is_claimed);
        }
        let Some(invoice) = self.invoices.get(id) else { return page::render(id, None, false) };
        match visit {
            Visit::Look => {}
            Visit::Approve => {
                let amount = call.query.iter().find(|(name, _)| name == "amount").map(|(_, value)| value.as_str());
                let asked = Money::parse_decimal(amount.unwrap_or_default(), invoice.money.currency);
                let left_minor = invoice.money.amount_minor - invoice.paid_minor;
                let amount_minor = asked.map_or(left_minor, |money| money.amount_minor);
                if amount_minor > 0 {
                    self.receive(id, amount_minor, now);
                }
            }
            Visit::Decline => self.expire(id, now),
        }
        let state = self.invoices.get(id).map(|invoice| (invoice.status, invoice.status == "New"));
        page::render(id, state.map(|(status, _)| status), state.is_some_and(|(_, waits)| waits))
    }

    fn new_id(&self, prefix: &str) -> String {
        random_id(prefix, [self.random.draw_u64(), self.random.draw_u64()])
    }
}

/// Whether there is something at all to be asked there; without a key, nobody learns more.
fn is_known(method: &Method, resource: &[&str]) -> bool {
    let resource = match resource {
        ["stores", _, rest @ ..] => rest,
        resource => resource,
    };
    match resource {
        ["invoices"] => *method == Method::GET || *method == Method::POST,
        ["pull-payments"]
        | ["invoices" | "pull-payments", _]
        | ["invoices", _, "payment-methods"]
        | ["pull-payments", _, "payouts"] => *method == Method::GET,
        ["invoices", _, "status" | "refund"] => *method == Method::POST,
        _ => false,
    }
}
