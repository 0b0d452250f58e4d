//! A gateway that asks about nothing by itself, and that is killed when it has said that it has taken what providers told it:
//! payers have acted on their pages, and nobody but the notifications says so. The next process goes into them.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::callbacks;
use crate::client::{self, Client};
use crate::messenger::Messenger;
use crate::process::{BINARY, Serving, serve_arguments, start_sandbox};
use crate::report::Report;
use crate::{admitted, merchant, payer};

/// Payments and pre-auths that wait for their payers: what, at which channel, and by which token.
const WAITING: [(&str, &str, Option<&str>); 7] = [
    ("payments", "stripe", Some("tok_3ds")),
    ("payments", "paypal", Some("tok_3ds")),
    ("payments", "alipay", Some("tok_3ds")),
    ("payments", "crypto", Some("tok_3ds")),
    ("pre-auths", "stripe", None),
    ("pre-auths", "paypal", None),
    ("pre-auths", "alipay", None),
];
/// Longer than the process has left to live: its questions have no answers.
const LATENCY_MS: u64 = 3_000;
/// Notifications of one visit come within this.
const ALL_COME_WITHIN: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(10);
const STEPS: usize = 3_000;
/// Far longer than the test.
const UNASKED_MS: &str = "600000";

/// Tells, kills, and looks. Returns how many notifications the process had taken.
pub async fn and_killed(report: &Report) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let (_sandbox, sandbox_url) = start_sandbox();
    let messenger = Messenger::start().await;
    let mut serving = Serving::start(unasking(directory.path(), &sandbox_url)).unwrap();
    messenger.lead_to(&serving.url, &sandbox_url).await;
    let shop = merchant(&serving, "told").await;
    let http = client::http_client();
    let mut waiting = Vec::new();
    for (kind, channel, token) in WAITING {
        waiting.push(begin(&shop, kind, channel, token).await);
    }
    // What was told of their beginning is gone into before: else it would be asked for that later.
    tokio::time::sleep(ALL_COME_WITHIN).await;
    callbacks::are_gone_into(&serving).await;
    messenger.keep_back(true);
    for (path, object) in &waiting {
        assert!(object["next_action"]["url"].is_string(), "nobody can act for {path}: {object}");
        payer::act(&http, object, "approve").await;
    }
    tokio::time::sleep(ALL_COME_WITHIN).await;
    let told = messenger.kept_back();
    assert!(told >= WAITING.len(), "{told} notifications of {} visits", WAITING.len());
    for (path, object) in &waiting {
        assert_eq!(shop.get(path).await.data("status"), object["status"], "somebody has asked about {path}");
    }
    set_latency(&sandbox_url, LATENCY_MS).await;
    let (taken_before, _) = messenger.taken();
    messenger.keep_back(false);
    for step in 0.. {
        if messenger.taken().0 - taken_before >= told {
            break;
        }
        assert!(step < STEPS, "notifications are not taken");
        tokio::time::sleep(STEP).await;
    }
    serving.process.kill_running();
    report.killed();
    set_latency(&sandbox_url, 0).await;
    messenger.none_was_refused();

    serving = Serving::start(unasking(directory.path(), &sandbox_url)).unwrap();
    messenger.lead_to(&serving.url, &sandbox_url).await;
    let shop = shop.at(&serving.url);
    admitted(&shop).await;
    for (path, _) in &waiting {
        becomes_known(&shop, path).await;
        report.checked();
    }
    serving.process.kill_running();
    told
}

fn unasking(directory: &Path, sandbox_url: &str) -> Command {
    let mut command = Command::new(BINARY);
    serve_arguments(&mut command, directory, sandbox_url);
    for setting in ["FIRST", "EARLY_MAX", "LATE_MAX"] {
        command.env(format!("TOLLGATE_PAYMENTS__RESOLVE_{setting}_MS"), UNASKED_MS);
    }
    command
}

/// Begins one that waits for its payer; its path and how it is.
async fn begin(shop: &Client, kind: &str, channel: &str, token: Option<&str>) -> (String, Value) {
    let mut body = json!({ "order_no": format!("T-{kind}-{channel}"), "amount": 700, "currency": "CNY" });
    body["channel"] = json!(channel);
    if let Some(token) = token {
        body["payment_token"] = json!(token);
    }
    let made = shop.post(&format!("/api/v1/{kind}"), body).await.expect(201, "SUCCESS");
    let number = if kind == "payments" { made.data("payment_no") } else { made.data("pre_auth_no") };
    (format!("/api/v1/{kind}/{number}"), made.body["data"].clone())
}

async fn becomes_known(shop: &Client, path: &str) {
    let mut object = shop.get(path).await;
    for _ in 0..STEPS {
        if matches!(object.data("status"), "success" | "requires_capture") {
            return;
        }
        tokio::time::sleep(STEP).await;
        object = shop.get(path).await;
    }
    panic!("what was taken was not acted upon: {}", object.text);
}

async fn set_latency(sandbox_url: &str, latency_ms: u64) {
    let http = client::http_client();
    for channel in ["stripe", "paypal", "alipay", "crypto"] {
        let (path, faults) = (format!("/control/{channel}"), json!({ "latency_ms": latency_ms }).to_string());
        let answer = client::send(&http, sandbox_url, "PUT", &path, Some(faults), HashMap::new()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}
