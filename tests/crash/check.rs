//! What has to hold after each start, and in the end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::books;
use crate::client::Client;
use crate::load::{Kept, Record, Run, each_once, is_open, number_of};
use crate::payer;
use crate::process::Serving;
use crate::receiver::{ENDPOINTS, Receiver};
use crate::report::say;

/// `[webhook] endpoint_in_flight_max` by default: requests of one endpoint without an answer, and answers whose commit is
/// under way.
const WEBHOOKS_IN_FLIGHT_MAX: usize = 16;
/// Answers of each kind that are asked for once more after each start.
const ASKED_AGAIN: usize = 20;
/// How long an outcome that is not known yet may go unasked: channels are asked about each some times a second, and
/// answer within a second.
const ASKED_WITHIN: Duration = Duration::from_secs(15);
/// Requests that the checks have in flight.
const AT_ONCE: usize = 8;

/// What was found in the end.
#[derive(Debug)]
#[allow(dead_code, reason = "printed")]
pub struct Found {
    /// Payments that exist.
    pub payments: usize,
    /// Payments that were answered.
    pub payments_answered: usize,
    /// Requests that were not answered.
    pub unanswered: usize,
    /// Refunds that were answered.
    pub refunds: usize,
    /// Cancellations that were taken.
    pub cancels: usize,
    /// Pre-auths that exist.
    pub holds: usize,
    /// Captures that were taken.
    pub captures: usize,
    /// Cancellations of pre-auths that were taken.
    pub releases: usize,
    /// Payments, pre-auths, refunds, captures and cancellations of pre-auths that were answered 502.
    pub not_done: usize,
    /// Pairs of requests at once, for the same order, for the same money back, with the same key, and for the same held
    /// money.
    pub pairs: [usize; 4],
    /// Changes of the endpoint.
    pub endpoint_changes: usize,
    /// Changes of the routing that were answered, and those that were not and are in force all the same.
    pub routing_changes: [usize; 2],
    /// Webhooks that were refused.
    pub refused: usize,
    /// Outcomes that were not known at the last start.
    pub unknown: usize,
    /// Merchants made by the operator.
    pub merchants: usize,
    /// Events.
    pub events: usize,
    /// Webhooks that came.
    pub webhooks: usize,
    /// Those that came once more in a later life of the process.
    pub duplicates: usize,
    /// Most duplicates that one kill has led to, over all endpoints.
    pub duplicates_of_a_kill_max: usize,
}

impl Found {
    /// Enough happened of everything to say something. With the usual number of kills it is far more than this.
    pub fn assert_enough(&self, kills: usize) {
        let of_each = [
            ("payments", self.payments, 200),
            ("unanswered requests", self.unanswered, 50),
            ("refunds", self.refunds, 30),
            ("cancellations", self.cancels, 5),
            ("pre-auths", self.holds, 100),
            ("captures", self.captures, 30),
            ("cancellations of pre-auths", self.releases, 10),
            ("answers 502", self.not_done, 1),
            ("pairs for one order", self.pairs[0], 10),
            ("pairs for one amount", self.pairs[1], 10),
            ("pairs with one key", self.pairs[2], 10),
            ("pairs for held money", self.pairs[3], 10),
            ("merchants", self.merchants, 50),
            ("changes of the endpoint", self.endpoint_changes, 100),
            ("changes of the routing", self.routing_changes[0], 100),
            ("refused webhooks", self.refused, 60),
            ("webhooks that came again", self.duplicates, 20),
        ];
        for (what, count, least) in of_each {
            assert!(count >= least * kills / 100, "too few {what} to say anything: {self:?}");
        }
    }
}

/// When each life of the process ended, in webhooks that had come by then.
#[derive(Debug, Default)]
pub struct Lives(Vec<usize>);

impl Lives {
    /// Notes that the process is gone.
    pub async fn ended(&mut self, receiver: &Receiver) {
        // What it has sent may still be on its way.
        receiver.quiet().await;
        self.0.push(receiver.deliveries().len());
    }

    fn of(&self, delivery: usize) -> usize {
        self.0.partition_point(|end| *end <= delivery)
    }
}

/// The merchant's events as far as they were read.
#[derive(Debug, Default)]
pub struct Stream {
    cursor: Option<String>,
    events: Vec<Value>,
}

impl Stream {
    /// Reads on. What was read before must go on without a gap.
    async fn read_on(&mut self, shop: &Client) {
        loop {
            let cursor = self.cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let page = shop.get(&format!("/api/v1/events?limit=100{cursor}")).await;
            assert_eq!(page.status, 200, "{}", page.text);
            let events = page.items();
            for event in &events {
                assert_eq!(event["sequence"], self.events.len() as u64 + 1, "the stream has a gap");
                self.events.push(event.clone());
            }
            if let Some(cursor) = page.body["data"]["next_cursor"].as_str() {
                self.cursor = Some(cursor.to_owned());
            }
            if events.is_empty() {
                return;
            }
        }
    }
}

/// What is read on from one start to the next.
#[derive(Debug, Default)]
pub struct Read {
    stream: Stream,
    /// The audit's end when it was last looked.
    audit_end: Option<String>,
}

impl Read {
    /// The events that were read.
    pub fn events(&self) -> &[Value] {
        &self.stream.events
    }
}

/// Everything that can be said without waiting: what was answered is there, with the same bytes for the same key.
pub async fn after_a_start(run: &Run, serving: &Serving, read: &mut Read) {
    // Clients that got no answer ask again, as they are told to; the books say in the end whether that moved money twice.
    let unanswered = each_once(std::mem::take(&mut run.record.lock().unanswered));
    let count = unanswered.len();
    stream::iter(unanswered).for_each_concurrent(AT_ONCE, |asked| run.ask_again(asked)).await;
    run.record.lock().answered_later += count;

    let record = std::mem::take(&mut *run.record.lock());
    let is_new = |life: usize| life + 3 >= run.life;
    let newest = |kept: &&Kept| is_new(kept.life);
    for all in record.kept() {
        same_bytes(run, all.values().filter(newest).take(ASKED_AGAIN)).await;
    }
    let mut seen = Vec::new();
    for (kind, made) in [("payments", &record.payments), ("pre-auths", &record.holds)] {
        for (number, kept) in made.iter().filter(|(_, kept)| is_new(kept.life)) {
            seen.push(kept.data.clone());
            let stored = run.shop.get(&format!("/api/v1/{kind}/{number}")).await;
            assert_eq!(stored.status, 200, "{number} was answered and is lost: {}", stored.text);
            same_terms(kept, &stored.body["data"]);
            seen.push(stored.body["data"].clone());
            run.report.checked();
        }
    }
    for changes in [&record.cancels, &record.captures, &record.releases] {
        seen.extend(changes.values().filter(newest).map(|kept| kept.data.clone()));
    }
    for (path, refunded) in record.refunded.iter().filter(|(_, refunded)| is_new(refunded.life)) {
        no_more_than_taken(run, path, refunded.amount).await;
    }
    managed_merchants(run, serving, &record, 3).await;
    let mut record = record;
    record.routing.is_in_force(run, serving).await;
    let endpoint = run.shop.get(&run.endpoint).await;
    assert_eq!(endpoint.status, 200, "{}", endpoint.text);
    let description = endpoint.data("description");
    assert!(record.descriptions.iter().any(|one| one == description), "{description}: {:?}", record.descriptions);
    *run.record.lock() = record;
    seen.iter().for_each(|object| run.record.lock().see(object));
    audit_is_whole(serving, &mut read.audit_end).await;
    read.stream.read_on(&run.shop).await;
}

/// What has been given back and what is about to be is no more than what was taken.
async fn no_more_than_taken(run: &Run, path: &str, amount: i64) {
    let refunds = run.shop.get(&format!("{path}/refunds")).await;
    assert_eq!(refunds.status, 200, "{}", refunds.text);
    let held = refunds.items();
    let held = held.iter().filter(|refund| matches!(refund["status"].as_str(), Some("success" | "pending")));
    let sum: i64 = held.map(|refund| refund["amount"].as_i64().unwrap()).sum();
    assert!(sum <= amount, "{path}: {sum} of {amount} go back: {}", refunds.text);
    run.report.checked();
}

/// The audit's chain is whole, and goes on where it ended.
async fn audit_is_whole(serving: &Serving, end: &mut Option<String>) {
    let anchor = end.as_ref().map(|end| format!("&anchor={end}")).unwrap_or_default();
    let audit = serving.admin_data("GET", &format!("/admin/v1/audit?limit=1&verify=true{anchor}"), None).await;
    let chain = &audit["chain"];
    assert_eq!(chain["intact"], true, "{chain}");
    *end = Some(format!("{}:{}", chain["number"], chain["hash"].as_str().unwrap()));
}

/// Each change that was answered stands in the audit, once, and what was not answered at most once.
async fn audit_has_all(serving: &Serving, record: &Record) {
    let mut entries: HashMap<(String, String), usize> = HashMap::new();
    let mut cursor = String::new();
    loop {
        let page = serving.admin_data("GET", &format!("/admin/v1/audit?limit=100{cursor}"), None).await;
        for entry in page["items"].as_array().unwrap() {
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            *entries.entry((text("action"), text("object"))).or_default() += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    record.routing.stands_in_audit(&entries);
    for ((action, object), is_answered) in record.managed.values().flat_map(|managed| &managed.changes) {
        let count = entries.get(&((*action).to_owned(), object.clone())).copied().unwrap_or(0);
        assert!(count <= 1 && (count == 1 || !is_answered), "{action} of {object} stands {count} times in the audit");
    }
}

/// The same requests with the same keys get the same bytes.
async fn same_bytes(run: &Run, kept: impl Iterator<Item = &Kept>) {
    stream::iter(kept)
        .for_each_concurrent(AT_ONCE, |kept| async move {
            let again = kept.asked.send(&run.http, &run.shop).await.unwrap();
            assert_eq!(again.text, kept.text, "the same key must get the same bytes");
            run.report.checked();
        })
        .await;
}

fn same_terms(kept: &Kept, stored: &Value) {
    for field in ["order_no", "amount", "currency", "description", "metadata"] {
        assert_eq!(stored[field], kept.asked.body[field], "{field} of {stored}");
    }
}

/// Tier and keys are what was answered last; the newest `newest` merchants, or all.
async fn managed_merchants(run: &Run, serving: &Serving, record: &Record, newest: usize) {
    for id in record.managed_order.iter().rev().take(newest) {
        let managed = &record.managed[id];
        run.report.checked();
        let data = serving.admin_data("GET", &format!("/admin/v1/merchants/{id}"), None).await;
        assert!(managed.tiers.iter().any(|tier| data["tier"] == tier.as_str()), "{data}: {:?}", managed.tiers);
        let keys: HashSet<&str> = data["keys"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(managed.keys.iter().all(|key| keys.contains(key.id.as_str())), "{data}: a key is lost");
        assert!(managed.removed_keys.iter().all(|key| !keys.contains(key.id.as_str())), "{data}: a key is back");
        // The secrets are those that were answered: what signs with them is let in, or not.
        for (key, is_in) in
            managed.keys.iter().map(|key| (key, true)).chain(managed.removed_keys.iter().map(|key| (key, false)))
        {
            let answer = Client::new(&run.shop.url, key.clone(), id).get("/api/v1/payments?limit=1").await;
            assert!((answer.status != 401) == is_in, "{id}: {}", answer.text);
        }
    }
}

/// Everything, once nothing is open any more.
pub async fn in_the_end(
    run: &Run,
    serving: &Serving,
    sandbox_url: &str,
    receiver: &Receiver,
    lives: &Lives,
    read: &mut Read,
) -> Found {
    after_a_start(run, serving, read).await;
    let unknown = unknown_outcomes_are_asked_about(&run.shop, serving).await;
    let crypto_url = crypto_url(run, sandbox_url).await;
    let all = settle(run, &crypto_url).await;
    for object in &all {
        run.record.lock().see(object);
    }
    let by_number: HashMap<&str, &Value> = all.iter().map(|object| (number_of(object), object)).collect();
    let payments = all.iter().filter(|object| object["pre_auth_no"].is_null()).count();
    let mut record = std::mem::take(&mut *run.record.lock());
    run.record.lock().finals = std::mem::take(&mut record.finals);
    for (number, kept) in record.payments.iter().chain(&record.holds) {
        let stored = by_number.get(number.as_str()).unwrap_or_else(|| panic!("{number} was answered and is lost"));
        same_terms(kept, stored);
        run.record.lock().see(&kept.data);
        run.report.checked();
    }
    for number in record.payments_not_done.keys().chain(record.holds_not_done.keys()) {
        assert_eq!(by_number[number.as_str()]["status"], "failed", "{number} was answered 502");
    }
    for number in record.refunds_not_done.keys() {
        let refund = run.shop.get(&format!("/api/v1/refunds/{number}")).await;
        assert_eq!(refund.data("status"), "failed", "{number} was answered 502: {}", refund.text);
    }
    for (path, refunded) in &record.refunded {
        no_more_than_taken(run, path, refunded.amount).await;
    }
    // An order is there twice only when the first try has failed for certain. Payments and pre-auths have numbers of
    // their own.
    let keeps_order = |object: &&Value| !matches!(object["status"].as_str(), Some("failed" | "canceled" | "expired"));
    let mut held_orders = HashSet::new();
    assert!(
        all.iter().filter(keeps_order).all(|object| held_orders.insert(object["order_no"].as_str())),
        "an order is taken twice"
    );
    for all in record.kept() {
        same_bytes(run, all.values()).await;
    }
    for (number, kept) in &record.refunds {
        let refund = run.shop.get(&format!("/api/v1/refunds/{number}")).await;
        let allowed: &[&str] = match kept.data["status"].as_str().unwrap() {
            // The provider failed, and said so only when it was asked again.
            "pending" => &["success", "failed"],
            last => &[last],
        };
        assert!(allowed.contains(&refund.data("status")), "{number}: {} became {}", kept.text, refund.text);
        assert_eq!(refund.body["data"]["amount"], kept.data["amount"]);
        run.report.checked();
    }
    for (number, kept) in &record.cancels {
        let canceled = kept.data["status"] == "canceled";
        assert!(!canceled || by_number[number.as_str()]["status"] == "canceled", "{number} is not canceled any more");
    }
    for (number, kept) in &record.captures {
        is_captured_as_answered(kept, by_number[number.as_str()]);
        run.report.checked();
    }
    for (number, kept) in &record.releases {
        let canceled = kept.data["status"] == "canceled";
        assert!(!canceled || by_number[number.as_str()]["status"] == "canceled", "{number} is not canceled any more");
    }
    managed_merchants(run, serving, &record, usize::MAX).await;
    books::compare_ledgers(run, sandbox_url, &by_number).await;
    audit_is_whole(serving, &mut read.audit_end).await;
    audit_has_all(serving, &record).await;
    read.stream.read_on(&run.shop).await;
    let events = &read.stream.events;
    books::compare_events(events, &by_number, &record);
    every_webhook_arrives(receiver, events).await;
    let (webhooks, duplicates) = count_duplicates(receiver, lives, events);
    say(&format!("{:?}", record.answers));
    Found {
        payments,
        payments_answered: record.payments.len(),
        unanswered: record.answered_later,
        refunds: record.refunds.len(),
        cancels: record.cancels.len(),
        merchants: record.managed.len(),
        holds: all.len() - payments,
        captures: record.captures.len(),
        releases: record.releases.len(),
        not_done: record.payments_not_done.len()
            + record.refunds_not_done.len()
            + record.holds_not_done.len()
            + record.captures_not_done.len()
            + record.releases_not_done.len(),
        pairs: record.pairs,
        endpoint_changes: record.endpoint_changes,
        routing_changes: record.routing.changes(),
        refused: receiver.deliveries().iter().filter(|delivery| !delivery.is_taken).count(),
        unknown,
        events: events.len(),
        webhooks,
        duplicates: duplicates.iter().sum(),
        duplicates_of_a_kill_max: duplicates.iter().copied().max().unwrap_or(0),
    }
}

/// What was taken is what was asked for, if it was taken.
fn is_captured_as_answered(kept: &Kept, stored: &Value) {
    let asked = kept.asked.body["amount"].as_i64().unwrap_or_else(|| stored["amount"].as_i64().unwrap());
    match stored["status"].as_str().unwrap() {
        "captured" => assert_eq!(stored["captured_amount"], asked, "{}", kept.text),
        _ => assert_ne!(kept.data["status"], "captured", "it is not captured any more: {stored}"),
    }
}

/// All payments and pre-auths.
async fn everything(shop: &Client) -> Vec<Value> {
    let mut all = list_all(shop, "/api/v1/payments?limit=100").await;
    all.extend(list_all(shop, "/api/v1/pre-auths?limit=100").await);
    all
}

/// Where a payment or a pre-auth is.
fn path_of(object: &Value) -> String {
    let kind = if object["pre_auth_no"].is_null() { "payments" } else { "pre-auths" };
    format!("/api/v1/{kind}/{}", number_of(object))
}

/// Payments and pre-auths whose outcome is not known are asked about without anybody's doing: each changes soon, or ends.
/// Whatever else is done to one of them, such as a cancellation, would make good for a lost entry that says when. Returns
/// how many there were.
async fn unknown_outcomes_are_asked_about(shop: &Client, serving: &Serving) -> usize {
    let all = everything(shop).await;
    let mut waiting: Vec<Value> =
        all.into_iter().filter(|object| is_open(object) && object["reconciling"] == true).collect();
    let count = waiting.len();
    for _ in 0..ASKED_WITHIN.as_millis() / 200 {
        let mut still = Vec::new();
        for before in waiting {
            let now = shop.get(&path_of(&before)).await;
            if now.body["data"]["updated_at"] == before["updated_at"] {
                still.push(before);
            }
        }
        waiting = still;
        if waiting.is_empty() {
            return count;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let said = serving.process.last_said();
    panic!("nobody asks about outcomes that are not known: {waiting:?}; what was said last: {said}");
}

/// Where the emulator of the one provider is whose refunds are claimed by the payer.
async fn crypto_url(run: &Run, sandbox_url: &str) -> String {
    let urls: Value = run.http.get(format!("{sandbox_url}/control")).send().await.unwrap().json().await.unwrap();
    urls["crypto"].as_str().unwrap().to_owned()
}

/// All payments and pre-auths, once none is open any more. Payers who are still to act never do, but where nothing can be
/// closed: the merchant gives up on them, and on what is held. What was refused or waits for its payer, and could not be
/// closed or told before the kill, looks like one of those.
async fn settle(run: &Run, crypto_url: &str) -> Vec<Value> {
    let shop = &run.shop;
    for round in 0..600 {
        let all = everything(shop).await;
        let open: Vec<&Value> = all.iter().filter(|object| is_open(object)).collect();
        if open.is_empty() && refunds_are_settled(run, crypto_url, &all).await {
            // Some of the refunds may have ended since it was listed what they are of.
            return everything(shop).await;
        }
        let waits = |object: &&Value| {
            let is_left = matches!(
                object["status"].as_str(),
                Some("requires_action" | "requires_payment_method" | "requires_capture")
            );
            is_left || object["reconciling"] == false && round >= 50
        };
        for object in open.into_iter().filter(waits).filter(|_| round % 25 == 0) {
            if object["channel"] == "crypto" {
                payer::act(&run.http, object, "approve").await;
                continue;
            }
            let key = format!("settle-{round}-{}", number_of(object));
            shop.post_with_key(&format!("{}/cancel", path_of(object)), json!({}), &key).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let open: Vec<_> = everything(shop).await.into_iter().filter(is_open).collect();
    panic!("payments or pre-auths are still open after a minute: {open:?}");
}

/// Whether no refund is pending. Those that the payer has to claim are claimed.
async fn refunds_are_settled(run: &Run, crypto_url: &str, all: &[Value]) -> bool {
    let taken = all.iter().filter(|object| matches!(object["status"].as_str(), Some("success" | "captured")));
    let settled = stream::iter(taken).map(|object| async move {
        let refunds = run.shop.get(&format!("{}/refunds", path_of(object))).await.items();
        let pending: Vec<&Value> = refunds.iter().filter(|refund| refund["status"] == "pending").collect();
        if object["channel"] == "crypto" {
            for number in pending.iter().filter_map(|refund| refund["channel_refund_no"].as_str()) {
                payer::visit(&run.http, &format!("{crypto_url}/pay/{number}/approve")).await;
            }
        }
        pending.is_empty()
    });
    settled.buffer_unordered(AT_ONCE).all(|is_settled| async move { is_settled }).await
}

async fn list_all(shop: &Client, first: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut path = first.to_owned();
    loop {
        let page = shop.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        all.extend(page.items());
        match page.body["data"]["next_cursor"].as_str() {
            Some(cursor) => path = format!("{first}&cursor={cursor}"),
            None => return all,
        }
    }
}

/// Each event comes to each endpoint, with its own bytes.
async fn every_webhook_arrives(receiver: &Receiver, events: &[Value]) {
    let mut missing = [0; ENDPOINTS];
    for _ in 0..300 {
        let deliveries = receiver.deliveries();
        let mut arrived: Vec<HashSet<String>> = vec![HashSet::new(); ENDPOINTS];
        for one in deliveries.iter().filter(|one| one.is_taken) {
            arrived[one.endpoint].insert(one.body.to_string());
        }
        let bodies: Vec<String> = events.iter().map(|event| event["body"].to_string()).collect();
        missing =
            std::array::from_fn(|endpoint| bodies.iter().filter(|body| !arrived[endpoint].contains(*body)).count());
        if missing == [0; ENDPOINTS] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{missing:?} webhooks are missing after 30 seconds");
}

/// How many webhooks came, and how many of each life came once more in a later one: to each endpoint at most what was in
/// flight when it ended. One that came again, was refused and is tried again is one all the same. What was taken does not
/// come again within a life.
fn count_duplicates(receiver: &Receiver, lives: &Lives, events: &[Value]) -> (usize, Vec<usize>) {
    let deliveries = receiver.deliveries();
    let mut last_taken: HashMap<String, usize> = HashMap::new();
    let mut came_again: HashSet<(String, usize)> = HashSet::new();
    let mut duplicates = vec![[0; ENDPOINTS]; lives.0.len() + 1];
    let mut firsts: HashMap<String, (usize, Vec<u8>)> = HashMap::new();
    for (number, delivery) in deliveries.iter().enumerate() {
        let id = delivery.header("webhook-id").to_owned();
        let life = lives.of(number);
        if let Some(before) = last_taken.get(&id) {
            assert!(*before < life, "{id} came again in the life of the process in which it was taken");
            if came_again.insert((id.clone(), *before)) {
                duplicates[*before][delivery.endpoint] += 1;
            }
        }
        if delivery.is_taken {
            last_taken.insert(id.clone(), life);
        }
        let first = firsts.entry(id.clone()).or_insert_with(|| (delivery.endpoint, delivery.bytes.clone()));
        assert_eq!(first.0, delivery.endpoint, "{id} came to another endpoint");
        assert_eq!(first.1, delivery.bytes, "{id} came with other bytes");
    }
    for endpoint in 0..ENDPOINTS {
        let ids = firsts.values().filter(|(of, _)| *of == endpoint).count();
        assert_eq!(ids, events.len(), "one webhook of endpoint {endpoint} for each event");
    }
    for of_endpoints in &duplicates {
        let worst = of_endpoints.iter().copied().max().unwrap_or(0);
        assert!(worst <= WEBHOOKS_IN_FLIGHT_MAX, "{worst} webhooks of one life came again: more than were in flight");
    }
    (deliveries.len(), duplicates.iter().map(|of_endpoints| of_endpoints.iter().sum()).collect())
}
