//! Kills a gateway with SIGKILL under load and starts it again on the same directory, several times. The emulators run
//! in a process of their own, because a provider does not crash with us; afterwards both books are compared.
//!
//! `TOLLGATE_CRASH_KILLS` sets how often (5 by default).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "it/support/client.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
mod client;
#[path = "it/support/receiver.rs"]
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
mod receiver;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use client::{Client, Key};
use parking_lot::Mutex;
use receiver::Receiver;
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");
const ADMIN_TOKEN: &str = "an-admin-token-for-tests";
const CLIENTS: usize = 8;
const KILLS_DEFAULT: usize = 5;

/// A child process that is killed when the test ends.
struct Process {
    child: Child,
    /// Lines of its output, as far as they were waited for.
    lines: BufReader<Box<dyn std::io::Read + Send>>,
}

impl Process {
    fn start(mut command: Command, output_is_stdout: bool) -> Self {
        command.stdin(Stdio::null());
        if output_is_stdout {
            command.stdout(Stdio::piped()).stderr(Stdio::null());
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        let output: Box<dyn std::io::Read + Send> = if output_is_stdout {
            Box::new(child.stdout.take().unwrap())
        } else {
            Box::new(child.stderr.take().unwrap())
        };
        Self { child, lines: BufReader::new(output) }
    }

    fn line_with(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).unwrap();
            assert!(read > 0, "the process ended before it said {text:?}: {seen}");
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
        }
    }

    /// Reads the rest away, so that the process never waits for its output.
    fn drain(&mut self) {
        let empty: Box<dyn std::io::Read + Send> = Box::new(std::io::empty());
        let lines = std::mem::replace(&mut self.lines, BufReader::new(empty));
        std::thread::spawn(move || lines.lines().map_while(Result::ok).count());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Serving {
    process: Process,
    url: String,
    admin_url: String,
}

fn serve(directory: &Path, sandbox_url: &str) -> Serving {
    let mut command = Command::new(BINARY);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory)
        .env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN)
        .env("TOLLGATE_SANDBOX__URL", format!("\"{sandbox_url}\""))
        .env("TOLLGATE_PAYMENTS__RESOLVE_FIRST_MS", "50")
        .env("TOLLGATE_PAYMENTS__RESOLVE_EARLY_MAX_MS", "200")
        .env("TOLLGATE_PAYMENTS__SETTLING_MS", "4000")
        .env("TOLLGATE_CHANNELS__STRIPE__TIMEOUT_MS", "1000")
        .env("TOLLGATE_CHANNELS__ALIPAY__TIMEOUT_MS", "1000")
        .env("TOLLGATE_WEBHOOK__ALLOWED_PRIVATE_NETWORKS", "[\"127.0.0.0/8\"]")
        .env("TOLLGATE_WEBHOOK__RESTART_SPREAD_MS", "100")
        .env("TOLLGATE_STORAGE__SEGMENT_BYTES", "4194304")
        .env("TOLLGATE_STORAGE__GROUP_BYTES_MAX", "1048576")
        .env("TOLLGATE_STORAGE__CHECKPOINT_INTERVAL_MS", "1000")
        .env("TOLLGATE_TELEMETRY__FORMAT", "\"json\"");
    let mut process = Process::start(command, false);
    let line = process.line_with("\"ready\"");
    process.drain();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let address = |name: &str| {
        let found = ready["fields"][name].as_str().or_else(|| ready[name].as_str());
        format!("http://{}", found.unwrap_or_else(|| panic!("no {name} in {line}")))
    };
    Serving { url: address("listen"), admin_url: address("admin_listen"), process }
}

async fn admin(serving: &Serving, method: &str, path: &str, body: Option<Value>) -> Value {
    let headers = HashMap::from([("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}"))]);
    let answer = client::send(
        &client::http_client(),
        &serving.admin_url,
        method,
        path,
        body.map(|body| body.to_string()),
        headers,
    )
    .await;
    assert!(answer.status < 300, "{path}: {}", answer.text);
    answer.body["data"].clone()
}

/// What was answered with 2xx, by payment.
#[derive(Default)]
struct Answered {
    payments: BTreeMap<String, Payment>,
    /// The answers' bodies by refund.
    refunds: HashMap<String, Value>,
}

struct Payment {
    idempotency_key: String,
    body: Value,
    text: String,
    refunded: bool,
}

/// One client: pays, now and then refunds, until the process is gone.
async fn load(shop: Client, round: usize, number: usize, answered: Arc<Mutex<Answered>>, stop: Arc<AtomicBool>) {
    let tokens = ["tok_visa", "tok_visa", "tok_visa", "tok_declined", "tok_lost_response", "tok_visa"];
    for index in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let order_no = format!("O-{round}-{number}-{index}");
        let channel = if (number + index).is_multiple_of(2) { "stripe" } else { "alipay" };
        let body = json!({
            "order_no": order_no, "amount": 500 + index, "currency": "CNY", "channel": channel,
            "payment_token": tokens[index % tokens.len()],
        });
        let key = format!("k-{order_no}");
        let Some(answer) = try_post(&shop, "/api/v1/payments", &body, &key).await else { return };
        if answer.status >= 300 {
            continue;
        }
        let payment_no = answer.data("payment_no").to_owned();
        let refund = answer.data("status") == "success" && index % 4 == 0;
        let payment = Payment { idempotency_key: key, body, text: answer.text.clone(), refunded: refund };
        answered.lock().payments.insert(payment_no.clone(), payment);
        if refund {
            let path = format!("/api/v1/payments/{payment_no}/refunds");
            let Some(answer) = try_post(&shop, &path, &json!({ "amount": 100 }), &order_no).await else { return };
            if answer.status < 300 {
                answered.lock().refunds.insert(answer.data("refund_no").to_owned(), answer.body["data"].clone());
            }
        }
    }
}

/// `None` when the process is gone.
async fn try_post(shop: &Client, path: &str, body: &Value, key: &str) -> Option<client::Answer> {
    let text = body.to_string();
    let headers = shop.signed("POST", path, &text, Some(key), client::unix_s(), &client::nonce());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = http.post(format!("{}{path}", shop.url)).header("content-type", "application/json").body(text);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    let text = response.text().await.ok()?;
    let body = serde_json::from_str(&text).ok()?;
    Some(client::Answer { status, headers: HashMap::new(), text, body })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_loses_nothing_that_it_answered_and_charges_nobody_twice() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kills = std::env::var("TOLLGATE_CRASH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS_DEFAULT);
    let directory = tempfile::tempdir().unwrap();
    let mut sandbox_command = Command::new(BINARY);
    sandbox_command.args(["sandbox", "--listen", "127.0.0.1:0"]);
    let mut sandbox = Process::start(sandbox_command, true);
    let control = sandbox.line_with("control");
    sandbox.drain();
    let sandbox_url = control.split_whitespace().last().unwrap().trim_end_matches("/control").to_owned();
    let receiver = Receiver::start().await;
    misbehave(&sandbox_url, true).await;

    let mut serving = serve(directory.path(), &sandbox_url);
    let limits = json!({ "per_second": 10_000, "per_minute": 600_000, "per_hour": 36_000_000, "burst": 10_000, "concurrent": 10_000 });
    let made = admin(
        &serving,
        "POST",
        "/admin/v1/merchants",
        Some(json!({ "name": "crash", "tier": "premium", "limits": limits })),
    )
    .await;
    let key = Key {
        id: made["key"]["id"].as_str().unwrap().to_owned(),
        secret: made["key"]["secret"].as_str().unwrap().to_owned(),
    };
    let mut shop = Client::new(&serving.url, key, made["merchant_id"].as_str().unwrap());
    let endpoint = shop.post("/api/v1/webhooks/endpoints", json!({ "url": receiver.url })).await;
    assert_eq!(endpoint.status, 201, "{}", endpoint.text);

    let answered = Arc::new(Mutex::new(Answered::default()));
    let pauses = AtomicU64::new(0);
    for round in 0..kills {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| tokio::spawn(load(shop.clone(), round, number, Arc::clone(&answered), Arc::clone(&stop))))
            .collect();
        // Another moment every time, between 0.3 and 0.9 seconds into the load.
        let pause = 300 + pauses.fetch_add(217, Ordering::SeqCst) % 600;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        serving.process.kill();
        stop.store(true, Ordering::SeqCst);
        for client in clients {
            client.await.unwrap();
        }
        // A process that dies while it recovers must not do harm either.
        if round % 2 == 1 {
            let mut short_lived = serve(directory.path(), &sandbox_url);
            short_lived.process.kill();
        }
        serving = serve(directory.path(), &sandbox_url);
        shop.url.clone_from(&serving.url);
        admitted(&shop).await;
    }
    misbehave(&sandbox_url, false).await;
    check(&shop, &serving, &sandbox_url, &receiver, &answered).await;
}

/// Waits until the merchant is let through again: after a crash it counts as having used its burst.
async fn admitted(shop: &Client) {
    for _ in 0..100 {
        let answer = shop.get("/api/v1/payments?limit=1").await;
        if answer.status != 429 {
            assert_eq!(answer.status, 200, "{}", answer.text);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the merchant is not let through for 5 seconds after a start");
}

/// Has both providers fail in every way that leaves an outcome unknown, or behave again.
async fn misbehave(sandbox_url: &str, does: bool) {
    let rate = if does { 0.03 } else { 0.0 };
    for (channel, seed) in [("stripe", 1), ("alipay", 2)] {
        let faults = json!({
            "error_rate": rate, "error_after_effect_rate": rate, "lost_response_rate": rate, "rate_limited_rate": rate,
            "late_effect_rate": rate, "late_effect_ms": 1_500, "latency_jitter_ms": 20, "seed": seed,
        });
        let path = format!("/control/{channel}");
        let body = Some(faults.to_string());
        let headers = HashMap::from([("content-type".to_owned(), "application/json".to_owned())]);
        let answer = client::send(&client::http_client(), sandbox_url, "PUT", &path, body, headers).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

async fn check(shop: &Client, serving: &Serving, sandbox_url: &str, receiver: &Receiver, answered: &Mutex<Answered>) {
    // What was signed in the second of the start is still refused if the clock says so; wait that second out.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let all = settle(shop).await;
    let by_number: HashMap<&str, &Value> =
        all.iter().map(|payment| (payment["payment_no"].as_str().unwrap(), payment)).collect();
    let answered = std::mem::take(&mut *answered.lock());
    assert!(answered.payments.len() > 20, "too little load to say anything: {}", answered.payments.len());

    for (payment_no, payment) in &answered.payments {
        let stored =
            by_number.get(payment_no.as_str()).unwrap_or_else(|| panic!("{payment_no} was answered and is lost"));
        assert_eq!(stored["order_no"], payment.body["order_no"]);
        assert_eq!(stored["amount"], payment.body["amount"]);
        let again = try_post(shop, "/api/v1/payments", &payment.body, &payment.idempotency_key).await.unwrap();
        assert_eq!(again.text, payment.text, "the same key must get the same bytes");
        let first: Value = serde_json::from_str(&payment.text).unwrap();
        if matches!(first["data"]["status"].as_str(), Some("success" | "failed")) {
            assert_eq!(stored["status"], first["data"]["status"], "{payment_no} changed after it was final");
        }
    }
    for (refund_no, answer) in &answered.refunds {
        let refund = shop.get(&format!("/api/v1/refunds/{refund_no}")).await;
        let allowed: &[&str] = match answer["status"].as_str().unwrap() {
            // The provider failed, and said so only when it was asked again.
            "pending" => &["success", "failed"],
            last => &[last],
        };
        assert!(allowed.contains(&refund.data("status")), "{refund_no}: {answer} became {}", refund.text);
    }
    compare_books(sandbox_url, &by_number).await;
    compare_events(shop, &all).await;
    every_webhook_arrives(receiver, &all).await;
    let health = admin(serving, "GET", "/admin/v1/channels", None).await;
    assert!(health.is_object() || health.is_array());
    let refunded = answered.payments.values().filter(|payment| payment.refunded).count();
    assert!(refunded > 0, "no refund was tried");
}

/// All payments, once none is open any more. A refused payment of Alipay's that could not be closed before the kill
/// looks like one whose payer is still confirming; after a while the merchant does not wait for that.
async fn settle(shop: &Client) -> Vec<Value> {
    for round in 0..300 {
        let all = list_all(shop, "/api/v1/payments?limit=100").await;
        let open =
            all.iter().filter(|payment| !matches!(payment["status"].as_str(), Some("success" | "failed" | "canceled")));
        let open: Vec<&Value> = open.collect();
        if open.is_empty() {
            return all;
        }
        let waits_at_alipay = |payment: &Value| payment["channel"] == "alipay" && payment["reconciling"] == false;
        if round == 50 {
            for payment in open.into_iter().filter(|payment| waits_at_alipay(payment)) {
                let payment_no = payment["payment_no"].as_str().unwrap();
                let path = format!("/api/v1/payments/{payment_no}/cancel");
                shop.post_with_key(&path, json!({}), payment_no).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let all = list_all(shop, "/api/v1/payments?limit=100").await;
    let open: Vec<_> = all.iter().filter(|payment| payment["status"] == "processing").collect();
    panic!("payments are still open after 30 seconds: {open:?}");
}

async fn list_all(shop: &Client, first: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut path = first.to_owned();
    loop {
        let page = shop.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let items = page.body["data"]["items"].as_array().unwrap();
        // The list of events always says where to go on, for those who poll.
        if items.is_empty() {
            return all;
        }
        all.extend(items.iter().cloned());
        match page.body["data"]["next_cursor"].as_str() {
            Some(cursor) => path = format!("{first}&cursor={cursor}"),
            None => return all,
        }
    }
}

/// Nobody was charged twice; what was charged there is `success` here and the other way round; refunds likewise.
async fn compare_books(sandbox_url: &str, by_number: &HashMap<&str, &Value>) {
    let mut charged: HashMap<String, (usize, i64)> = HashMap::new();
    let mut refunded: HashMap<String, i64> = HashMap::new();
    for channel in ["stripe", "alipay"] {
        let path = format!("/control/{channel}/ledger");
        let ledger = client::send(&client::http_client(), sandbox_url, "GET", &path, None, HashMap::new()).await;
        for line in ledger.body["items"].as_array().unwrap() {
            let reference = line["reference"].as_str().unwrap().to_owned();
            let amount = line["amount_minor"].as_i64().unwrap();
            match line["operation"].as_str().unwrap() {
                "charge" => {
                    let entry = charged.entry(reference).or_default();
                    *entry = (entry.0 + 1, amount);
                }
                "refund" => *refunded.entry(reference).or_default() += amount,
                other => panic!("unexpected {other}"),
            }
        }
    }
    for (reference, (times, amount)) in &charged {
        assert_eq!(*times, 1, "{reference} was charged {times} times");
        let payment = by_number.get(reference.as_str()).unwrap_or_else(|| panic!("{reference} is charged and unknown"));
        assert_eq!(payment["status"], "success", "{reference} is charged: {payment}");
        assert_eq!(payment["amount"], *amount);
    }
    for (number, payment) in by_number {
        assert_eq!(payment["status"] == "success", charged.contains_key(*number), "{number}: {payment}");
        let expected = refunded.get(*number).copied().unwrap_or(0);
        assert_eq!(payment["refunded_amount"], expected, "{number}");
    }
}

/// One event for each payment's end and for each refund, numbered without gaps.
async fn compare_events(shop: &Client, all: &[Value]) {
    let events = list_all(shop, "/api/v1/events?limit=100").await;
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence"], index as u64 + 1, "the stream has a gap");
    }
    for payment in all {
        let name = format!("payment.{}", payment["status"].as_str().unwrap());
        let told = events
            .iter()
            .filter(|event| event["event"] == name.as_str() && event["payment_no"] == payment["payment_no"]);
        assert_eq!(told.count(), 1, "{name} of {}", payment["payment_no"]);
    }
}

async fn every_webhook_arrives(receiver: &Receiver, all: &[Value]) {
    let expected: HashSet<String> =
        all.iter().map(|payment| payment["payment_no"].as_str().unwrap().to_owned()).collect();
    for _ in 0..300 {
        let arrived: HashSet<String> = receiver
            .deliveries()
            .iter()
            .filter(|delivery| delivery.body["event"].as_str().is_some_and(|name| name.starts_with("payment.")))
            .filter_map(|delivery| delivery.body["payment_no"].as_str().map(str::to_owned))
            .collect();
        if expected.is_subset(&arrived) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("webhooks are missing after 30 seconds");
}
