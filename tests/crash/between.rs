//! Captures that were sent, and whose answers the process does not live to see: the providers have taken the money and
//! keep their answers back, or do it only when the process is gone. Whatever is started afterwards finds out, and takes
//! nothing again.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{self, Answer};
use crate::deposits::capture;
use crate::ledger::{self, Entries};
use crate::load::{About, Asked, Run};
use crate::process::Serving;
use crate::{books, payer};

/// Channels that hold money.
const CHANNELS: [&str; 3] = ["stripe", "paypal", "alipay"];
/// What is held, and what is taken of it where only a part is.
const HELD: i64 = 20_000;
const PART: i64 = 7_000;
/// Longer than the process has left to live, and than its channels' time limit.
const KEPT_BACK_MS: u64 = 3_000;
/// How long after a request was cut off it is carried out.
const LATE_MS: u64 = 1_500;
/// Steps in which it is waited for something.
const STEP: Duration = Duration::from_millis(10);
const STEPS: usize = 3_000;

/// When the providers take the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Before the process is killed.
    Before,
    /// After that.
    After,
}

/// Captures that are under way.
pub struct UnderWay {
    taken: Taken,
    captures: Vec<Capturing>,
}

struct Capturing {
    channel: &'static str,
    path: String,
    pre_auth_no: String,
    /// What is taken.
    amount: i64,
    answer: JoinHandle<Result<Answer, String>>,
}

/// Captures that were under way when the process was killed.
pub struct Between(Vec<Cut>);

struct Cut {
    path: String,
    pre_auth_no: String,
    amount: i64,
    /// Whether the process was killed between its sending and its provider's answer, or before its effect.
    is_between: bool,
}

/// Has money held at each channel and begins to take it. When this returns, it is taken where it is to be before the kill,
/// and no answer is on its way.
pub async fn begin(run: &Run, serving: &Serving, sandbox_url: &str, taken: Taken) -> UnderWay {
    set_faults(run, sandbox_url, &faultless()).await;
    let mut holds = Vec::new();
    for channel in CHANNELS {
        // It may have been left alone for what the provider did before.
        serving.admin_data("POST", &format!("/admin/v1/channels/{channel}/reset-health"), None).await;
        holds.push((channel, hold(run, channel, taken).await));
    }
    let mut faults = faultless();
    match taken {
        Taken::Before => faults["latency_ms"] = json!(KEPT_BACK_MS),
        Taken::After => {
            faults["late_effect_rate"] = json!(1.0);
            faults["late_effect_ms"] = json!(LATE_MS);
        }
    }
    set_faults(run, sandbox_url, &faults).await;
    let captures = holds.into_iter().map(|(channel, pre_auth_no)| {
        let path = format!("/api/v1/pre-auths/{pre_auth_no}");
        let amount = if channel == "alipay" { HELD } else { PART };
        let asked = capture(&path, (amount != HELD).then_some(amount), &pre_auth_no);
        let run = run.clone();
        let answer = tokio::spawn(async move { asked.send(&run.http, &run.shop).await });
        Capturing { channel, path, pre_auth_no, amount, answer }
    });
    let under_way = UnderWay { taken, captures: captures.collect() };
    under_way.until_sent(run, sandbox_url).await;
    under_way
}

impl UnderWay {
    /// Waits until the providers have taken the money, or at least are about to be asked to.
    async fn until_sent(&self, run: &Run, sandbox_url: &str) {
        for capturing in &self.captures {
            for step in 0.. {
                assert!(step < STEPS, "{} is not captured", capturing.pre_auth_no);
                let is_sent = match self.taken {
                    Taken::Before => {
                        let mut all = HashMap::new();
                        ledger::read(&run.http, sandbox_url, capturing.channel, &mut all).await;
                        all.get(&capturing.pre_auth_no).is_some_and(|there| !there.captures.is_empty())
                    }
                    Taken::After => {
                        let hold = run.shop.get(&capturing.path).await;
                        hold.data("status") == "processing"
                    }
                };
                if is_sent {
                    break;
                }
                tokio::time::sleep(STEP).await;
            }
        }
        // From the commit to the sending.
        tokio::time::sleep(5 * STEP).await;
    }

    /// The process is gone. Nobody asks for them again.
    pub async fn cut_off(self) -> Between {
        let mut cut = Vec::new();
        for capturing in self.captures {
            let Capturing { path, pre_auth_no, amount, .. } = capturing;
            let answer = capturing.answer.await.unwrap();
            // A provider that gives no answer at all is told of at once, and one that keeps it back after a second.
            let is_unknown = |answer: &Answer| answer.status == 202;
            assert!(answer.as_ref().map_or(true, is_unknown), "{answer:?}");
            let is_between = answer.is_err() || self.taken == Taken::After;
            cut.push(Cut { path, pre_auth_no, amount, is_between });
        }
        Between(cut)
    }
}

impl Between {
    /// Without anybody's doing each comes to be captured once, with the amount that was asked for. Returns how many of
    /// them the kill has come between.
    pub async fn are_captured_once(self, run: &Run, sandbox_url: &str) -> usize {
        for one in &self.0 {
            let captured = becomes(run, &one.path, "captured").await;
            assert_eq!(captured["captured_amount"], one.amount, "{captured}");
            let there = ledger::read_all(&run.http, sandbox_url).await;
            let there = there.get(&one.pre_auth_no).cloned().unwrap_or_default();
            assert_eq!(there, Entries { holds: vec![HELD], captures: vec![one.amount], ..Entries::default() });
            books::compare_hold(&captured, &there);
            run.report.checked();
        }
        self.0.iter().filter(|one| one.is_between).count()
    }
}

/// Money that is held: by a token, or once its payer has agreed on the provider's page. Returns the pre-auth's number.
async fn hold(run: &Run, channel: &str, taken: Taken) -> String {
    let order_no = format!("B-{}-{channel}", run.life);
    let mut body = json!({
        "order_no": order_no, "amount": HELD, "currency": "CNY", "channel": channel,
        "description": format!("Deposit {order_no}"), "metadata": { "client": "between" },
    });
    if taken == Taken::After {
        body["payment_token"] = json!("tok_visa");
    }
    let (path, key) = ("/api/v1/pre-auths".to_owned(), format!("k-{order_no}"));
    let asked = Asked { about: About::Hold, path, body, key, has_rival: false };
    for _ in 0..STEPS {
        let (_, answer) = run.ask(&asked).await.unwrap();
        if matches!(answer.status, 201 | 202) {
            payer::act(&run.http, &answer.body["data"], "approve").await;
            let pre_auth_no = answer.data("pre_auth_no").to_owned();
            becomes(run, &format!("/api/v1/pre-auths/{pre_auth_no}"), "requires_capture").await;
            return pre_auth_no;
        }
        // Nobody has room at the moment.
        tokio::time::sleep(STEP).await;
    }
    panic!("nothing is held at {channel}");
}

/// Waits until a pre-auth has this status.
async fn becomes(run: &Run, path: &str, status: &str) -> Value {
    let mut hold = run.shop.get(path).await;
    for _ in 0..STEPS {
        if hold.data("status") == status {
            return hold.body["data"].clone();
        }
        tokio::time::sleep(STEP).await;
        hold = run.shop.get(path).await;
    }
    panic!("{path} does not become {status}: {}", hold.text);
}

fn faultless() -> Value {
    json!({
        "error_rate": 0.0, "error_after_effect_rate": 0.0, "lost_response_rate": 0.0, "rate_limited_rate": 0.0,
        "late_effect_rate": 0.0, "latency_ms": 0, "latency_jitter_ms": 0,
    })
}

async fn set_faults(run: &Run, sandbox_url: &str, faults: &Value) {
    for channel in CHANNELS {
        let path = format!("/control/{channel}");
        let answer = client::send(&run.http, sandbox_url, "PUT", &path, Some(faults.to_string()), HashMap::new()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}
