//! What is asked of the gateway while it is killed, and what it answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::client::{self, Answer, Client};
use crate::deposits;
use crate::payer;
use crate::process::{operate, try_send};
use crate::report::Report;
use crate::routing::{self, Routing};

/// Every way in which a payment can go, those that succeed more often.
const TOKENS: [&str; 11] = [
    "tok_visa",
    "tok_visa",
    "tok_declined",
    "tok_visa",
    "tok_lost_response",
    "tok_visa",
    "tok_3ds",
    "tok_insufficient_funds",
    "tok_visa",
    "tok_error",
    "tok_processing",
];

/// Where payments go, in turn.
const CHANNELS: [&str; 4] = ["stripe", "alipay", "paypal", "crypto"];

/// Tries of a request that is turned away because something has no room at the moment, and the time between them.
const TRIES: usize = 100;
const TRY_AGAIN_IN: Duration = Duration::from_millis(50);

/// What a POST is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A payment.
    Payment,
    /// A refund.
    Refund,
    /// A cancellation.
    Cancel,
    /// A pre-auth.
    Hold,
    /// A capture.
    Capture,
    /// The cancellation of a pre-auth.
    Release,
}

/// A POST with its idempotency key.
#[derive(Clone)]
pub struct Asked {
    /// What it is about.
    pub about: About,
    /// Where to.
    pub path: String,
    /// The body.
    pub body: Value,
    /// The idempotency key.
    pub key: String,
    /// Whether another request with another key wants the same: at most one of them can have it.
    pub has_rival: bool,
}

impl Asked {
    /// Sends it, signed anew; the error says why there is no answer.
    pub async fn send(&self, http: &reqwest::Client, shop: &Client) -> Result<Answer, String> {
        let text = self.body.to_string();
        let headers = shop.signed("POST", &self.path, &text, Some(&self.key), client::unix_s(), &client::nonce());
        try_send(http, &shop.url, "POST", &self.path, Some(self.body.clone()), headers).await
    }

    /// What an answer means; one that may not be given fails the test.
    fn meaning(&self, answer: &Answer) -> Meaning {
        match (self.about, answer.status, answer.code()) {
            (_, 200..=202, _) => Meaning::Done,
            (About::Payment | About::Refund | About::Hold | About::Capture | About::Release, 502, "CHANNEL_ERROR") => {
                Meaning::NotDone
            }
            (About::Payment | About::Hold, 409, "ORDER_EXISTS") if self.has_rival => Meaning::Lost,
            (About::Capture, 409, "INVALID_STATE") if self.has_rival => Meaning::Lost,
            (About::Refund, 409, "INVALID_STATE") | (About::Refund, 422, "AMOUNT_TOO_LARGE") if self.has_rival => {
                Meaning::Lost
            }
            // It has ended meanwhile.
            (About::Cancel | About::Release, 409, "INVALID_STATE") => Meaning::Lost,
            (_, 409, "IDEMPOTENCY_IN_PROGRESS") => Meaning::InProgress,
            (_, 429, _) | (_, 503, "NO_CHANNEL_AVAILABLE" | "OVERLOADED") => Meaning::TurnedAway,
            _ => panic!("{} with {} was answered {}: {}", self.path, self.body, answer.status, answer.text),
        }
    }
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// What was asked for is there; its outcome may not be known yet.
    Done,
    /// It is there and has failed.
    NotDone,
    /// Another was quicker.
    Lost,
    /// The same request is being worked on.
    InProgress,
    /// Nothing has begun.
    TurnedAway,
}

/// A request whose answer is kept.
pub struct Kept {
    /// What was asked.
    pub asked: Asked,
    /// The answer's bytes.
    pub text: String,
    /// The answer's data; null when it is an error.
    pub data: Value,
    /// In which life of the process.
    pub life: usize,
}

/// What an operator's changes to one merchant should have led to.
#[derive(Clone, Default)]
pub struct Managed {
    /// The tiers that it may have: the one that was answered last, and one that was asked for without an answer.
    pub tiers: Vec<String>,
    /// Keys whose making was answered and whose removal was not asked for.
    pub keys: Vec<client::Key>,
    /// Keys whose removal was answered.
    pub removed_keys: Vec<client::Key>,
    /// Changes that were asked for, by action and object as the audit has them, and whether they were answered.
    pub changes: BTreeMap<(&'static str, String), bool>,
}

/// A payment or pre-auth of which something was asked back.
#[derive(Clone, Copy)]
pub struct Refunded {
    /// What was taken.
    pub amount: i64,
    /// The newest life in which something was asked back.
    pub life: usize,
}

/// What happened so far.
#[derive(Default)]
pub struct Record {
    /// Payments by number.
    pub payments: BTreeMap<String, Kept>,
    /// Refunds by number.
    pub refunds: BTreeMap<String, Kept>,
    /// Cancellations that were taken, by payment.
    pub cancels: BTreeMap<String, Kept>,
    /// Payments that were answered 502, by number.
    pub payments_not_done: BTreeMap<String, Kept>,
    /// Refunds that were answered 502, by number.
    pub refunds_not_done: BTreeMap<String, Kept>,
    /// Pre-auths by number.
    pub holds: BTreeMap<String, Kept>,
    /// Captures that were taken, by pre-auth.
    pub captures: BTreeMap<String, Kept>,
    /// Cancellations that were taken, by pre-auth.
    pub releases: BTreeMap<String, Kept>,
    /// Pre-auths that were answered 502, by number.
    pub holds_not_done: BTreeMap<String, Kept>,
    /// Captures that were answered 502, by pre-auth.
    pub captures_not_done: BTreeMap<String, Kept>,
    /// Cancellations that were answered 502, by pre-auth.
    pub releases_not_done: BTreeMap<String, Kept>,
    /// The paths of what something was asked back of, answered or not.
    pub refunded: BTreeMap<String, Refunded>,
    /// Payments and pre-auths as they were first seen when they were final.
    pub finals: BTreeMap<String, Value>,
    /// How often which answer was given.
    pub answers: BTreeMap<String, usize>,
    /// Pairs of requests at once of which at least one was answered: for the same order, for the same money back, with
    /// the same key, and for the same held money.
    pub pairs: [usize; 4],
    /// Changes of the endpoint that were answered.
    pub endpoint_changes: usize,
    /// What was asked and not answered, because the process was killed meanwhile.
    pub unanswered: Vec<Asked>,
    /// How many of those were asked again after the next start.
    pub answered_later: usize,
    /// Merchants made by the operator.
    pub managed: BTreeMap<String, Managed>,
    /// Their ids in the order in which they were made.
    pub managed_order: Vec<String>,
    /// Descriptions of the endpoint that it may have: answered last, or asked for without an answer.
    pub descriptions: Vec<String>,
    /// How payments are routed.
    pub routing: Routing,
}

impl Record {
    /// Notes an answer, and keeps it if it is one that stays.
    fn note(&mut self, asked: &Asked, answer: &Answer, life: usize) -> Meaning {
        let meaning = asked.meaning(answer);
        *self.answers.entry(format!("{:?} {} {}", asked.about, answer.status, answer.code())).or_default() += 1;
        let kept = || Kept { asked: asked.clone(), text: answer.text.clone(), data: answer.body["data"].clone(), life };
        // Errors have the number beside their code.
        let number = |field: &str| {
            let found = answer.body["data"][field].as_str().or_else(|| answer.body[field].as_str());
            found.unwrap_or_else(|| panic!("no {field}: {}", answer.text)).to_owned()
        };
        let (place, field) = match (asked.about, meaning) {
            (About::Payment, Meaning::Done) => (&mut self.payments, "payment_no"),
            (About::Payment, Meaning::NotDone) => (&mut self.payments_not_done, "payment_no"),
            (About::Refund, Meaning::Done) => (&mut self.refunds, "refund_no"),
            (About::Refund, Meaning::NotDone) => (&mut self.refunds_not_done, "refund_no"),
            (About::Cancel, Meaning::Done) => (&mut self.cancels, "payment_no"),
            (About::Hold, Meaning::Done) => (&mut self.holds, "pre_auth_no"),
            (About::Hold, Meaning::NotDone) => (&mut self.holds_not_done, "pre_auth_no"),
            (About::Capture, Meaning::Done) => (&mut self.captures, "pre_auth_no"),
            (About::Capture, Meaning::NotDone) => (&mut self.captures_not_done, "pre_auth_no"),
            (About::Release, Meaning::Done) => (&mut self.releases, "pre_auth_no"),
            (About::Release, Meaning::NotDone) => (&mut self.releases_not_done, "pre_auth_no"),
            _ => return meaning,
        };
        place.entry(number(field)).or_insert_with(kept);
        meaning
    }

    /// What a payment or a pre-auth looks like, of which nothing may change any more once it is final but what has been
    /// given back.
    pub fn see(&mut self, object: &Value) {
        if is_open(object) {
            return;
        }
        let mut stays = object.clone();
        for changing in ["refunded_amount", "refundable_amount", "updated_at"] {
            stays.as_object_mut().unwrap().remove(changing);
        }
        let number = number_of(object).to_owned();
        let first = self.finals.entry(number).or_insert_with(|| stays.clone());
        assert_eq!(*first, stays, "it changed after it was final");
    }

    /// All answers that stay, by what they are about.
    pub fn kept(&self) -> [&BTreeMap<String, Kept>; 11] {
        [
            &self.payments,
            &self.refunds,
            &self.cancels,
            &self.payments_not_done,
            &self.refunds_not_done,
            &self.holds,
            &self.captures,
            &self.releases,
            &self.holds_not_done,
            &self.captures_not_done,
            &self.releases_not_done,
        ]
    }
}

/// Whether a payment or a pre-auth may still change.
pub fn is_open(object: &Value) -> bool {
    let finals: &[&str] = match object["pre_auth_no"] {
        Value::Null => &["success", "failed", "canceled"],
        _ => &["captured", "canceled", "expired", "failed"],
    };
    !object["status"].as_str().is_some_and(|status| finals.contains(&status))
}

/// The number of a payment or a pre-auth.
pub fn number_of(object: &Value) -> &str {
    object["payment_no"].as_str().or_else(|| object["pre_auth_no"].as_str()).unwrap()
}

/// Clients of one life of the process, until it is killed.
pub struct Load {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    is_killed: Arc<AtomicBool>,
}

impl Load {
    /// Starts `clients` clients of the merchant that pay, `holders` that have money held, and an operator.
    pub fn start(run: &Run, clients: usize, holders: usize) -> Self {
        let mut tasks: Vec<_> = (0..clients)
            .map(|number| {
                let client = PayingClient { run: run.clone(), number };
                tokio::spawn(client.go())
            })
            .collect();
        tasks.extend((0..holders).map(|number| tokio::spawn(deposits::make(run.clone(), number))));
        tasks.push(tokio::spawn(manage_merchants(run.clone())));
        tasks.push(tokio::spawn(change_endpoint(run.clone())));
        tasks.push(tokio::spawn(routing::change_routing(run.clone())));
        Self { tasks, is_killed: Arc::clone(&run.is_killed) }
    }

    /// From now on a request may remain without an answer, and only from now on.
    pub fn about_to_kill(&self) {
        self.is_killed.store(true, Ordering::SeqCst);
    }

    /// Waits for the clients to notice that the process is gone.
    pub async fn end(self) {
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// What all clients of a life share.
#[derive(Clone)]
pub struct Run {
    /// Connections.
    pub http: reqwest::Client,
    /// The merchant that pays.
    pub shop: Client,
    /// The operator's listener.
    pub admin_url: String,
    /// Path of the endpoint that is changed.
    pub endpoint: String,
    /// What happened.
    pub record: Arc<Mutex<Record>>,
    /// How far it is.
    pub report: Arc<Report>,
    /// Which life of the process this is.
    pub life: usize,
    /// Whether it may be gone.
    pub is_killed: Arc<AtomicBool>,
}

impl Run {
    /// Asks and notes what was answered; `None` when the process is gone.
    pub async fn ask(&self, asked: &Asked) -> Option<(Meaning, Answer)> {
        match asked.send(&self.http, &self.shop).await {
            Ok(answer) => {
                let meaning = self.record.lock().note(asked, &answer, self.life);
                Some((meaning, answer))
            }
            Err(error) => {
                self.must_be_killed(&asked.path, &error);
                self.record.lock().unanswered.push(asked.clone());
                None
            }
        }
    }

    /// Reads something of the merchant's; `None` when the process is gone or nobody is let in at the moment.
    pub async fn read(&self, path: &str) -> Option<Value> {
        let headers = self.shop.signed("GET", path, "", None, client::unix_s(), &client::nonce());
        match try_send(&self.http, &self.shop.url, "GET", path, None, headers).await {
            Ok(answer) if matches!(answer.status, 429 | 503) => None,
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{path}: {}", answer.text);
                Some(answer.body["data"].clone())
            }
            Err(error) => {
                self.must_be_killed(path, &error);
                None
            }
        }
    }

    /// A refund of what has this path, of which `taken` was taken.
    pub fn refund(&self, path: &str, taken: i64, amount: i64, key: String) -> Asked {
        let refunded = Refunded { amount: taken, life: self.life };
        self.record.lock().refunded.insert(path.to_owned(), refunded);
        let body = json!({ "amount": amount });
        Asked { about: About::Refund, path: format!("{path}/refunds"), body, key, has_rival: false }
    }

    /// Sends two requests at once, of which the other differs in what `change` does. Returns what came of one that was
    /// done, if one was.
    pub async fn pair(&self, kind: usize, asked: Asked, change: impl FnOnce(&mut Asked)) -> Option<(Meaning, Answer)> {
        let (mut one, mut other) = (asked.clone(), asked);
        change(&mut other);
        let is_same_key = one.key == other.key;
        (one.has_rival, other.has_rival) = (!is_same_key, !is_same_key);
        let (first, second) = tokio::join!(self.ask(&one), self.ask(&other));
        let both: Vec<(Meaning, Answer)> = [first, second].into_iter().flatten().collect();
        if both.is_empty() {
            return None;
        }
        self.record.lock().pairs[kind] += 1;
        let done: Vec<&(Meaning, Answer)> = both.iter().filter(|(meaning, _)| *meaning == Meaning::Done).collect();
        if let [(_, first), (_, second)] = done[..] {
            if is_same_key {
                assert_eq!(first.text, second.text, "the same key at once must get the same bytes");
            } else {
                let holds_order = |answer: &Answer| !matches!(answer.data("status"), "failed" | "canceled" | "expired");
                let is_about_same_money = matches!(one.about, About::Capture | About::Release);
                let both_hold = is_about_same_money || (holds_order(first) && holds_order(second));
                assert!(!both_hold, "both of {}: {first:?}, {second:?}", one.path);
            }
        }
        let best = both.iter().position(|(meaning, _)| *meaning == Meaning::Done).unwrap_or(0);
        both.into_iter().nth(best)
    }

    /// The process may be gone only if it was killed.
    fn must_be_killed(&self, path: &str, error: &str) {
        assert!(self.is_killed.load(Ordering::SeqCst), "{path} was not answered, and nobody had killed it: {error}");
    }

    /// Asks once more what was not answered before a kill. It has to be done now, if nobody else was quicker.
    pub async fn ask_again(&self, asked: Asked) {
        let mut last = String::new();
        for _ in 0..TRIES {
            let answer = asked.send(&self.http, &self.shop).await.unwrap();
            let meaning = self.record.lock().note(&asked, &answer, self.life);
            match meaning {
                Meaning::Done | Meaning::NotDone | Meaning::Lost => return,
                // It may just be taken over.
                Meaning::TurnedAway | Meaning::InProgress => tokio::time::sleep(TRY_AGAIN_IN).await,
            }
            // A channel that was left alone for its provider's faults is for half a minute: its operator knows better.
            if answer.code() == "NO_CHANNEL_AVAILABLE" {
                let path = format!("/admin/v1/channels/{}/reset-health", asked.body["channel"].as_str().unwrap());
                self.change("POST", path, None).await.unwrap();
            }
            last = answer.text;
        }
        panic!("{} with {} gets no answer that stays: {last}", asked.path, asked.key);
    }
}

struct PayingClient {
    run: Run,
    number: usize,
}

impl PayingClient {
    /// Pays, and now and then refunds or cancels, until the process is gone.
    async fn go(self) {
        let mut index = 0;
        while self.step(index).await.is_some() {
            index += 1;
        }
    }

    async fn step(&self, index: usize) -> Option<()> {
        let turn = self.run.life * 5 + self.number * 3 + index;
        let order_no = format!("O-{}-{}-{index}", self.run.life, self.number);
        let asked = self.payment(turn, index, &order_no);
        let (meaning, answer) = match turn % 7 {
            // The same order under two keys, or the same key twice, at once.
            2 => self.run.pair(0, asked, |asked| asked.key.push_str("-rival")).await?,
            4 => self.run.pair(2, asked, |_| {}).await?,
            _ => self.run.ask(&asked).await?,
        };
        let is_twin = turn % 7 == 4;
        assert!(meaning != Meaning::InProgress || is_twin, "nobody else asks for {order_no}: {answer:?}");
        if meaning == Meaning::TurnedAway {
            tokio::time::sleep(TRY_AGAIN_IN).await;
        }
        if meaning != Meaning::Done {
            return Some(());
        }
        let path = format!("/api/v1/payments/{}", answer.data("payment_no"));
        let amount = answer.body["data"]["amount"].as_i64().unwrap();
        // What is closed at BTCPay is looked after for a day more.
        let is_closable = answer.data("channel") != "crypto";
        match answer.data("status") {
            "success" if index.is_multiple_of(3) => {
                let amounts: &[i64] = if index.is_multiple_of(2) { &[100, 150] } else { &[500] };
                for (number, part) in amounts.iter().enumerate() {
                    let asked = self.run.refund(&path, amount, *part, format!("r-{number}-{order_no}"));
                    self.run.ask(&asked).await?;
                }
            }
            // All of it back, twice at once.
            "success" if index % 3 == 1 => {
                let asked = self.run.refund(&path, amount, amount, format!("r-{order_no}"));
                self.run.pair(1, asked, |asked| asked.key.push_str("-rival")).await?;
            }
            "requires_action" | "processing" if turn.is_multiple_of(4) && is_closable => {
                let (body, key) = (json!({}), format!("c-{order_no}"));
                let path = format!("{path}/cancel");
                self.run.ask(&Asked { about: About::Cancel, path, body, key, has_rival: false }).await?;
            }
            "requires_action" => payer::act(&self.run.http, &answer.body["data"], "approve").await,
            _ => {}
        }
        Some(())
    }

    fn payment(&self, turn: usize, index: usize, order_no: &str) -> Asked {
        let channel = CHANNELS[turn % CHANNELS.len()];
        // At Alipay that is a code to be scanned: one that nobody has seen is closed by nothing for half an hour.
        let token = Some(TOKENS[turn % TOKENS.len()]).filter(|token| channel != "alipay" || *token != "tok_3ds");
        let body = json!({
            "order_no": order_no, "amount": 500 + index, "currency": "CNY", "channel": channel,
            "payment_token": token.unwrap_or("tok_declined"), "description": format!("Order {order_no}"),
            "metadata": { "client": self.number.to_string(), "turn": turn.to_string() },
        });
        let (path, key) = ("/api/v1/payments".to_owned(), format!("k-{order_no}"));
        Asked { about: About::Payment, path, body, key, has_rival: false }
    }
}

/// An operator: makes merchants, moves them to another tier, gives them keys and takes keys away.
async fn manage_merchants(run: Run) {
    let mut index = 0;
    while manage_one(&run, &format!("M-{}-{index}", run.life)).await.is_some() {
        index += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Run {
    /// An operator's change; `None` when the process is gone.
    pub async fn change(&self, method: &str, path: String, body: Option<Value>) -> Option<Value> {
        for _ in 0..TRIES {
            match operate(&self.http, &self.admin_url, method, &path, body.clone()).await {
                Ok(answer) if answer.status == 503 => tokio::time::sleep(TRY_AGAIN_IN).await,
                Ok(answer) => {
                    assert!(answer.status < 300, "{method} {path}: {}", answer.text);
                    return Some(answer.body["data"].clone());
                }
                Err(error) => {
                    self.must_be_killed(&path, &error);
                    return None;
                }
            }
        }
        panic!("{method} {path} is turned away again and again");
    }
}

async fn manage_one(run: &Run, name: &str) -> Option<()> {
    let body = json!({ "name": name, "tier": "starter" });
    let made = run.change("POST", "/admin/v1/merchants".to_owned(), Some(body)).await?;
    let id = made["merchant_id"].as_str().unwrap().to_owned();
    let path = format!("/admin/v1/merchants/{id}");
    let first = key_of(&made["key"]);
    run.record.lock().managed_order.push(id.clone());
    let change = |change: &dyn Fn(&mut Managed)| change(run.record.lock().managed.entry(id.clone()).or_default());
    change(&|managed| {
        managed.tiers = vec!["starter".to_owned()];
        managed.keys = vec![first.clone()];
        managed.changes.insert(("merchant.create", id.clone()), true);
    });
    let note = |action: &'static str, object: &str, is_answered: bool| {
        change(&|managed| managed.changes.extend([((action, object.to_owned()), is_answered)]));
    };

    change(&|managed| managed.tiers.push("business".to_owned()));
    note("merchant.update", &id, false);
    run.change("PATCH", path.clone(), Some(json!({ "tier": "business" }))).await?;
    note("merchant.update", &id, true);
    change(&|managed| managed.tiers = vec!["business".to_owned()]);

    note("key.create", &id, false);
    let second = run.change("POST", format!("{path}/keys"), None).await?;
    note("key.create", &id, true);
    change(&|managed| managed.keys.push(key_of(&second)));

    change(&|managed| managed.keys.retain(|key| key.id != first.id));
    let object = format!("{id}/{}", first.id);
    note("key.delete", &object, false);
    run.change("DELETE", format!("{path}/keys/{}", first.id), None).await?;
    note("key.delete", &object, true);
    change(&|managed| managed.removed_keys.push(first.clone()));
    Some(())
}

fn key_of(key: &Value) -> client::Key {
    client::Key { id: key["id"].as_str().unwrap().to_owned(), secret: key["secret"].as_str().unwrap().to_owned() }
}

/// The merchant changes its endpoint again and again.
async fn change_endpoint(run: Run) {
    for index in 0.. {
        let description = format!("{}/{index}", run.life);
        run.record.lock().descriptions.push(description.clone());
        let body = json!({ "description": description });
        let headers =
            run.shop.signed("PATCH", &run.endpoint, &body.to_string(), None, client::unix_s(), &client::nonce());
        let answer = try_send(&run.http, &run.shop.url, "PATCH", &run.endpoint, Some(body), headers).await;
        match answer {
            Ok(answer) => {
                let is_turned_away = matches!(answer.status, 429 | 503);
                assert!(answer.status == 200 || is_turned_away, "{}: {}", run.endpoint, answer.text);
                if !is_turned_away {
                    let mut record = run.record.lock();
                    record.descriptions = vec![description];
                    record.endpoint_changes += 1;
                }
            }
            Err(error) => return run.must_be_killed(&run.endpoint, &error),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What was not answered, each request once.
pub fn each_once(unanswered: Vec<Asked>) -> Vec<Asked> {
    let mut keys = BTreeSet::new();
    unanswered.into_iter().filter(|asked| keys.insert((asked.path.clone(), asked.key.clone()))).collect()
}
