//! What has to hold after each start, and in the end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::books;
use crate::client::Client;
use crate::load::{Kept, Record, Run};
use crate::process::Serving;
use crate::receiver::Receiver;

/// Requests of one endpoint in flight at once: what `[webhook] endpoint_in_flight_max` is by default.
const WEBHOOKS_IN_FLIGHT_MAX: usize = 16;
/// Answers that are asked for once more after each start.
const ASKED_AGAIN: usize = 60;
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
    /// Merchants made by the operator.
    pub merchants: usize,
    /// Events.
    pub events: usize,
    /// Webhooks that came.
    pub webhooks: usize,
    /// Those that came once more in a later life of the process.
    pub duplicates: usize,
    /// Most duplicates that one kill has led to.
    pub duplicates_of_a_kill_max: usize,
}

/// When each life of the process ended, in webhooks that had come by then.
#[derive(Debug, Default)]
pub struct Lives(Vec<usize>);

impl Lives {
    /// Notes that the process is gone.
    pub async fn ended(&mut self, receiver: &Receiver) {
        // What it has sent may still be on its way through the receiver.
        tokio::time::sleep(Duration::from_millis(20)).await;
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

/// Everything that can be said without waiting: what was answered is there, with the same bytes for the same key.
pub async fn after_a_start(run: &Run, serving: &Serving, stream_read: &mut Stream) {
    // Clients that got no answer ask again, as they are told to; the books say in the end whether that moved money twice.
    let unanswered = std::mem::take(&mut run.record.lock().unanswered);
    let asked_again = stream::iter(unanswered.iter().map(|asked| asked.send(&run.http, &run.shop)));
    let answers: Vec<_> = asked_again.buffer_unordered(AT_ONCE).collect().await;
    for answer in answers {
        let answer = answer.unwrap();
        assert!(answer.status < 500 || matches!(answer.status, 502 | 503), "{}", answer.text);
    }
    run.record.lock().answered_later += unanswered.len();

    let record = std::mem::take(&mut *run.record.lock());
    let newest = |kept: &Kept| kept.life + 2 >= record.life();
    let all = record.payments.values().chain(record.refunds.values()).chain(record.cancels.values());
    same_bytes(run, all.filter(|kept| newest(kept)).take(ASKED_AGAIN)).await;
    let newest_payments = record.payments.iter().filter(|(_, kept)| newest(kept));
    stream::iter(newest_payments)
        .for_each_concurrent(AT_ONCE, |(number, kept)| async move {
            let stored = run.shop.get(&format!("/api/v1/payments/{number}")).await;
            assert_eq!(stored.status, 200, "{number} was answered and is lost: {}", stored.text);
            same_payment(number, kept, &stored.body["data"]);
            run.report.checked();
        })
        .await;
    managed_merchants(run, serving, &record, 3).await;
    let endpoint = run.shop.get(&run.endpoint).await;
    assert!(
        record.descriptions.iter().any(|one| one == endpoint.data("description")) || record.descriptions.is_empty()
    );
    *run.record.lock() = record;
    stream_read.read_on(&run.shop).await;
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

fn same_payment(number: &str, kept: &Kept, stored: &Value) {
    assert_eq!(stored["order_no"], kept.asked.body["order_no"]);
    assert_eq!(stored["amount"], kept.asked.body["amount"]);
    if matches!(kept.data["status"].as_str(), Some("success" | "failed")) {
        assert_eq!(stored["status"], kept.data["status"], "{number} changed after it was final");
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
    stream_read: &mut Stream,
) -> Found {
    after_a_start(run, serving, stream_read).await;
    let all = settle(&run.shop).await;
    let by_number: HashMap<&str, &Value> =
        all.iter().map(|payment| (payment["payment_no"].as_str().unwrap(), payment)).collect();
    let orders: HashSet<&str> = all.iter().filter_map(|payment| payment["order_no"].as_str()).collect();
    let record = std::mem::take(&mut *run.record.lock());
    for (number, kept) in &record.payments {
        let stored = by_number.get(number.as_str()).unwrap_or_else(|| panic!("{number} was answered and is lost"));
        same_payment(number, kept, stored);
        run.report.checked();
    }
    // An order is there twice only when the first try has failed for certain.
    let held = all.iter().filter(|payment| !matches!(payment["status"].as_str(), Some("failed" | "canceled")));
    let mut held_orders = HashSet::new();
    assert!(held.into_iter().all(|payment| held_orders.insert(payment["order_no"].as_str())), "an order is paid twice");
    assert!(orders.len() >= held_orders.len());
    same_bytes(run, record.payments.values().chain(record.refunds.values()).chain(record.cancels.values())).await;
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
    managed_merchants(run, serving, &record, usize::MAX).await;
    books::compare_ledgers(sandbox_url, &by_number).await;
    stream_read.read_on(&run.shop).await;
    books::compare_events(&stream_read.events, &by_number, &record);
    every_webhook_arrives(receiver, &stream_read.events).await;
    let (webhooks, duplicates) = count_duplicates(receiver, lives, &stream_read.events);
    Found {
        payments: all.len(),
        payments_answered: record.payments.len(),
        unanswered: record.answered_later,
        refunds: record.refunds.len(),
        cancels: record.cancels.len(),
        merchants: record.managed.len(),
        events: stream_read.events.len(),
        webhooks,
        duplicates: duplicates.iter().sum(),
        duplicates_of_a_kill_max: duplicates.iter().copied().max().unwrap_or(0),
    }
}

/// All payments, once none is open any more. Payers who are still to act never do: the merchant gives up on them. What
/// was refused or waits for its payer, and could not be closed or told before the kill, looks like one of those.
async fn settle(shop: &Client) -> Vec<Value> {
    for round in 0..600 {
        let all = list_all(shop, "/api/v1/payments?limit=100").await;
        let open =
            all.iter().filter(|payment| !matches!(payment["status"].as_str(), Some("success" | "failed" | "canceled")));
        let open: Vec<&Value> = open.collect();
        if open.is_empty() && refunds_are_settled(shop, &all).await {
            return all;
        }
        let waits =
            |payment: &&Value| payment["status"] == "requires_action" || payment["reconciling"] == false && round >= 50;
        for payment in open.into_iter().filter(waits).filter(|_| round % 25 == 0) {
            let payment_no = payment["payment_no"].as_str().unwrap();
            let path = format!("/api/v1/payments/{payment_no}/cancel");
            shop.post_with_key(&path, json!({}), &format!("settle-{round}-{payment_no}")).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let all = list_all(shop, "/api/v1/payments?limit=100").await;
    let open: Vec<_> = all
        .iter()
        .filter(|payment| !matches!(payment["status"].as_str(), Some("success" | "failed" | "canceled")))
        .collect();
    panic!("payments are still open after a minute: {open:?}");
}

/// Whether no refund is pending.
async fn refunds_are_settled(shop: &Client, all: &[Value]) -> bool {
    let paid = all.iter().filter(|payment| payment["status"] == "success");
    let settled = stream::iter(paid).map(|payment| async {
        let path = format!("/api/v1/payments/{}/refunds", payment["payment_no"].as_str().unwrap());
        shop.get(&path).await.items().iter().all(|refund| refund["status"] != "pending")
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

/// Each event comes, with its own bytes.
async fn every_webhook_arrives(receiver: &Receiver, events: &[Value]) {
    let mut missing = 0;
    for _ in 0..300 {
        let deliveries = receiver.deliveries();
        let arrived: HashSet<String> = deliveries.iter().map(|one| one.body.to_string()).collect();
        missing = events.iter().filter(|event| !arrived.contains(&event["body"].to_string())).count();
        if missing == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{missing} webhooks are missing after 30 seconds");
}

/// How many webhooks came, and how many of each life came once more in a later one: at most what was in flight when it
/// ended. Within a life none comes twice, because all are answered 200.
fn count_duplicates(receiver: &Receiver, lives: &Lives, events: &[Value]) -> (usize, Vec<usize>) {
    let deliveries = receiver.deliveries();
    let mut last_seen: HashMap<String, usize> = HashMap::new();
    let mut duplicates = vec![0; lives.0.len() + 1];
    let mut bodies: HashMap<String, Vec<u8>> = HashMap::new();
    for (number, delivery) in deliveries.iter().enumerate() {
        let id = delivery.header("webhook-id").to_owned();
        let life = lives.of(number);
        if let Some(before) = last_seen.insert(id.clone(), life) {
            assert!(before < life, "{id} came twice in one life of the process");
            duplicates[before] += 1;
        }
        let first = bodies.entry(id.clone()).or_insert_with(|| delivery.bytes.clone());
        assert_eq!(*first, delivery.bytes, "{id} came with other bytes");
    }
    assert_eq!(bodies.len(), events.len(), "one webhook for each event");
    let worst = duplicates.iter().copied().max().unwrap_or(0);
    assert!(worst <= WEBHOOKS_IN_FLIGHT_MAX, "{worst} webhooks of one life came again: more than were in flight");
    (deliveries.len(), duplicates)
}
