//! What is asked of the gateway while it is killed, and what it answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::client::{self, Answer, Client};
use crate::process::{operate, try_send};
use crate::report::Report;

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

/// A POST with its idempotency key.
#[derive(Clone)]
pub struct Asked {
    /// Where to.
    pub path: String,
    /// The body.
    pub body: Value,
    /// The idempotency key.
    pub key: String,
}

impl Asked {
    /// Sends it, signed anew; `None` when the process is gone.
    pub async fn send(&self, http: &reqwest::Client, shop: &Client) -> Option<Answer> {
        let text = self.body.to_string();
        let headers = shop.signed("POST", &self.path, &text, Some(&self.key), client::unix_s(), &client::nonce());
        try_send(http, &shop.url, "POST", &self.path, Some(self.body.clone()), headers).await
    }
}

/// A request that was answered with 2xx.
pub struct Kept {
    /// What was asked.
    pub asked: Asked,
    /// The answer's bytes.
    pub text: String,
    /// The answer's data.
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
}

impl Record {
    /// The newest life that something was answered in.
    pub fn life(&self) -> usize {
        self.payments.values().map(|kept| kept.life).max().unwrap_or(0)
    }
}

/// Clients of one life of the process, until it is killed.
pub struct Load {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Starts `clients` merchants' clients and an operator.
    pub fn start(run: &Run, life: usize, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks: Vec<_> = (0..clients)
            .map(|number| {
                let client = PayingClient { run: run.clone(), life, number, stop: Arc::clone(&stop) };
                tokio::spawn(client.go())
            })
            .collect();
        tasks.push(tokio::spawn(manage_merchants(run.clone(), life, Arc::clone(&stop))));
        tasks.push(tokio::spawn(change_endpoint(run.clone(), life, Arc::clone(&stop))));
        Self { tasks, stop }
    }

    /// Waits for the clients to notice that the process is gone.
    pub async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
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
}

impl Run {
    /// Asks and notes what was answered; `None` when the process is gone.
    async fn ask(&self, asked: Asked) -> Option<(Asked, Answer)> {
        match asked.send(&self.http, &self.shop).await {
            Some(answer) => Some((asked, answer)),
            None => {
                self.record.lock().unanswered.push(asked);
                None
            }
        }
    }
}

struct PayingClient {
    run: Run,
    life: usize,
    number: usize,
    stop: Arc<AtomicBool>,
}

impl PayingClient {
    /// Pays, and now and then refunds or cancels, until the process is gone.
    async fn go(self) {
        for index in 0.. {
            if self.stop.load(Ordering::SeqCst) || self.step(index).await.is_none() {
                return;
            }
        }
    }

    async fn step(&self, index: usize) -> Option<()> {
        let turn = self.life * 5 + self.number * 3 + index;
        let order_no = format!("O-{}-{}-{index}", self.life, self.number);
        let channel = if turn.is_multiple_of(2) { "stripe" } else { "alipay" };
        // At Alipay that is a code to be scanned, which nobody does and nothing closes for half an hour.
        let token = Some(TOKENS[turn % TOKENS.len()]).filter(|token| channel == "stripe" || *token != "tok_3ds");
        let token = token.unwrap_or("tok_declined");
        let body = json!({
            "order_no": order_no, "amount": 500 + index, "currency": "CNY", "channel": channel,
            "payment_token": token,
        });
        let asked = Asked { path: "/api/v1/payments".to_owned(), body, key: format!("k-{order_no}") };
        let (asked, answer) = self.run.ask(asked).await?;
        if answer.status >= 300 {
            return Some(());
        }
        let payment_no = answer.data("payment_no").to_owned();
        let status = answer.data("status").to_owned();
        self.run.record.lock().payments.insert(payment_no.clone(), self.kept(asked, answer));
        let path = format!("/api/v1/payments/{payment_no}");
        if status == "success" && index.is_multiple_of(3) {
            let amounts: &[i64] = if index.is_multiple_of(2) { &[100, 150] } else { &[500] };
            for (number, amount) in amounts.iter().enumerate() {
                let body = json!({ "amount": amount });
                let asked = Asked { path: format!("{path}/refunds"), body, key: format!("r-{number}-{order_no}") };
                let (asked, answer) = self.run.ask(asked).await?;
                if answer.status < 300 {
                    let number = answer.data("refund_no").to_owned();
                    self.run.record.lock().refunds.insert(number, self.kept(asked, answer));
                }
            }
        }
        if matches!(status.as_str(), "requires_action" | "processing") && turn.is_multiple_of(4) {
            let asked = Asked { path: format!("{path}/cancel"), body: json!({}), key: format!("c-{order_no}") };
            let (asked, answer) = self.run.ask(asked).await?;
            if answer.status < 300 {
                self.run.record.lock().cancels.insert(payment_no, self.kept(asked, answer));
            }
        }
        Some(())
    }

    fn kept(&self, asked: Asked, answer: Answer) -> Kept {
        Kept { asked, text: answer.text, data: answer.body["data"].clone(), life: self.life }
    }
}

/// An operator: makes merchants, moves them to another tier, gives them keys and takes keys away.
async fn manage_merchants(run: Run, life: usize, stop: Arc<AtomicBool>) {
    let mut index = 0;
    while !stop.load(Ordering::SeqCst) && manage_one(&run, &format!("M-{life}-{index}")).await.is_some() {
        index += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn manage_one(run: &Run, name: &str) -> Option<()> {
    let ask = |method, path: String, body| async move {
        let answer = operate(&run.http, &run.admin_url, method, &path, body).await?;
        assert!(answer.status < 300 || answer.status == 503, "{path}: {}", answer.text);
        (answer.status < 300).then(|| answer.body["data"].clone())
    };
    let made = ask("POST", "/admin/v1/merchants".to_owned(), Some(json!({ "name": name, "tier": "starter" }))).await?;
    let id = made["merchant_id"].as_str().unwrap().to_owned();
    let path = format!("/admin/v1/merchants/{id}");
    let first = key_of(&made["key"]);
    run.record.lock().managed_order.push(id.clone());
    let change = |change: &dyn Fn(&mut Managed)| change(run.record.lock().managed.entry(id.clone()).or_default());
    change(&|managed| {
        managed.tiers = vec!["starter".to_owned()];
        managed.keys = vec![first.clone()];
    });

    change(&|managed| managed.tiers.push("business".to_owned()));
    ask("PATCH", path.clone(), Some(json!({ "tier": "business" }))).await?;
    change(&|managed| managed.tiers = vec!["business".to_owned()]);

    let second = ask("POST", format!("{path}/keys"), None).await?;
    change(&|managed| managed.keys.push(key_of(&second)));

    change(&|managed| managed.keys.retain(|key| key.id != first.id));
    ask("DELETE", format!("{path}/keys/{}", first.id), None).await?;
    change(&|managed| managed.removed_keys.push(first.clone()));
    Some(())
}

fn key_of(key: &Value) -> client::Key {
    client::Key { id: key["id"].as_str().unwrap().to_owned(), secret: key["secret"].as_str().unwrap().to_owned() }
}

/// The merchant changes its endpoint again and again.
async fn change_endpoint(run: Run, life: usize, stop: Arc<AtomicBool>) {
    for index in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let description = format!("{life}/{index}");
        run.record.lock().descriptions.push(description.clone());
        let body = json!({ "description": description });
        let headers =
            run.shop.signed("PATCH", &run.endpoint, &body.to_string(), None, client::unix_s(), &client::nonce());
        let Some(answer) = try_send(&run.http, &run.shop.url, "PATCH", &run.endpoint, Some(body), headers).await else {
            return;
        };
        if answer.status == 200 {
            run.record.lock().descriptions = vec![description];
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
