//! Sends the planned payments as merchants do: signed, over HTTP, and patient when a limit says so.

use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

use super::deposits::SentDeposit;
use super::plan::{PlannedPayment, Shop};
use crate::cli::client::{Answer, Client};
use crate::cli::failure::Failure;
use crate::cli::signer::Signer;
use crate::domain::money::Money;
use crate::domain::time::Monotonic;

/// Tries of one payment; each waits as long as the gateway says, so that few are needed.
const TRIES_MAX: u32 = 50;
/// Longest wait that is obeyed.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at a payment whose outcome is not known yet.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Looks at such a payment, or at a pre-auth.
pub(super) const LOOKS_MAX: u32 = 20;

/// A shop with its key.
#[derive(Clone)]
pub(super) struct Merchant {
    pub(super) shop: Shop,
    pub(super) client: Client,
    pub(super) signer: Signer,
    /// The gateway's address.
    pub(super) base_url: Url,
}

/// Requests of one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Requests {
    pub(super) admitted: u64,
    pub(super) refused: u64,
}

/// A payment that was sent, and how it ended.
#[derive(Clone, Debug)]
pub(super) struct SentPayment {
    pub(super) payment_no: String,
    pub(super) status: String,
    pub(super) channel: Option<String>,
    pub(super) money: Money,
    pub(super) country: &'static str,
    /// In minor units of the payment's currency.
    pub(super) fee_minor: i64,
    /// When the final answer came; unset when the outcome had to be asked for.
    pub(super) answered_at: Option<Monotonic>,
}

/// Everything that one merchant did.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) requests: Requests,
    pub(super) payments: Vec<SentPayment>,
    pub(super) deposits: Vec<SentDeposit>,
}

impl Merchant {
    /// Sends the whole plan, each payment when it is due.
    pub(super) async fn send_all(self, plan: Vec<PlannedPayment>, progress: ProgressBar) -> Result<Sent, Failure> {
        let clock = self.signer.clock.clone();
        let started = clock.monotonic();
        let slots = Arc::new(Semaphore::new(self.shop.in_flight_max));
        let mut sent = Sent::default();
        let mut tasks = JoinSet::new();
        for payment in plan {
            let due = Duration::from_millis(payment.due_ms);
            tokio::time::sleep(due.saturating_sub(clock.monotonic().since(started))).await;
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
            let merchant = self.clone();
            let progress = progress.clone();
            tasks.spawn(async move {
                let result = merchant.send_until_taken(&payment).await;
                progress.inc(1);
                drop(slot);
                result
            });
            while let Some(finished) = tasks.try_join_next() {
                sent.add(finished)?;
            }
        }
        while let Some(finished) = tasks.join_next().await {
            sent.add(finished)?;
        }
        Ok(sent)
    }

    /// One payment, sent again as long as a limit or overload refuses it, and followed to its outcome.
    async fn send_until_taken(&self, payment: &PlannedPayment) -> Result<(SentPayment, Requests), Failure> {
        let mut requests = Requests::default();
        let body = body_of(payment);
        let answer = self.call(Method::POST, "/api/v1/payments", Some(&body), &mut requests).await?;
        let answered_at = self.signer.clock.monotonic();
        let mut view = match answer.status {
            StatusCode::CREATED | StatusCode::ACCEPTED => data_of(&answer),
            // The channel did not take it, or an earlier try did arrive: the payment is there and can be read.
            StatusCode::BAD_GATEWAY | StatusCode::CONFLICT => {
                self.read(text(&json_of(&answer), "payment_no")?, &mut requests).await?
            }
            _ => return Err(unexpected(&answer)),
        };
        let answered_finally = is_final(&view);
        for _ in 0..LOOKS_MAX {
            if is_final(&view) {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            view = self.read(text(&view, "payment_no")?, &mut requests).await?;
        }
        let sent = SentPayment {
            payment_no: String::from(text(&view, "payment_no")?),
            status: String::from(text(&view, "status")?),
            channel: view.get("channel").and_then(Value::as_str).map(String::from),
            money: payment.money,
            country: payment.country,
            fee_minor: view.pointer("/fee/amount").and_then(Value::as_i64).unwrap_or(0),
            answered_at: answered_finally.then_some(answered_at),
        };
        Ok((sent, requests))
    }

    async fn read(&self, payment_no: &str, requests: &mut Requests) -> Result<Value, Failure> {
        let answer = self.call(Method::GET, &format!("/api/v1/payments/{payment_no}"), None, requests).await?;
        if answer.status != StatusCode::OK {
            return Err(unexpected(&answer));
        }
        Ok(data_of(&answer))
    }

    /// One signed request, repeated after the wait that the gateway asks for while it refuses.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        requests: &mut Requests,
    ) -> Result<Answer, Failure> {
        self.call_once(method, path, body, "", requests).await
    }

    /// The same with an idempotency key, where it is not empty: however often it is repeated, it has one effect.
    pub(super) async fn call_once(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        idempotency_key: &str,
        requests: &mut Requests,
    ) -> Result<Answer, Failure> {
        let url = self.base_url.join(path).map_err(|error| Failure::Failed(format!("{path}: {error}")))?;
        let body = body.map(|body| body.to_string().into_bytes());
        for _ in 0..TRIES_MAX {
            let headers = self.signer.headers(&method, &url, idempotency_key, body.as_deref().unwrap_or_default())?;
            let answer = self.client.send(method.clone(), &url, headers, body.clone()).await?;
            match answer.status {
                StatusCode::TOO_MANY_REQUESTS => requests.refused += 1,
                StatusCode::SERVICE_UNAVAILABLE => {}
                _ => {
                    requests.admitted += 1;
                    return Ok(answer);
                }
            }
            tokio::time::sleep(wait_of(&answer)).await;
        }
        Err(Failure::Failed(format!("the gateway refused one request {TRIES_MAX} times; send fewer payments")))
    }
}

impl Requests {
    /// Adds what another one counted.
    pub(super) fn add(&mut self, more: Self) {
        self.admitted += more.admitted;
        self.refused += more.refused;
    }
}

impl Sent {
    fn add(
        &mut self,
        finished: Result<Result<(SentPayment, Requests), Failure>, tokio::task::JoinError>,
    ) -> Result<(), Failure> {
        let (payment, requests) =
            finished.map_err(|error| Failure::Failed(format!("a sender broke off: {error}")))??;
        self.payments.push(payment);
        self.requests.add(requests);
        Ok(())
    }
}

fn body_of(payment: &PlannedPayment) -> Value {
    let mut body = json!({
        "order_no": payment.order_no,
        "amount": payment.money.amount_minor,
        "currency": payment.money.currency,
        "country": payment.country,
        "payment_token": payment.token,
        "description": "tollgate demo",
    });
    if let (Some(method), Some(fields)) = (payment.method, body.as_object_mut()) {
        fields.insert(String::from("method"), Value::from(method));
    }
    body
}

pub(super) fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// What an answer that is no error says.
pub(super) fn data_of(answer: &Answer) -> Value {
    json_of(answer).get("data").cloned().unwrap_or_default()
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Failure> {
    let found = value.get(key).and_then(Value::as_str);
    found.ok_or_else(|| Failure::Failed(format!("an answer of the gateway has no {key}: {value}")))
}

/// Whether nothing more will happen to a payment by itself within the demo.
fn is_final(view: &Value) -> bool {
    let status = view.get("status").and_then(Value::as_str).unwrap_or_default();
    matches!(status, "success" | "failed" | "canceled")
}

fn wait_of(answer: &Answer) -> Duration {
    let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1)).min(WAIT_MAX)
}

pub(super) fn unexpected(answer: &Answer) -> Failure {
    let body = String::from_utf8_lossy(&answer.body);
    Failure::Failed(format!("the gateway answered {} where that was not expected: {body}", answer.status))
}
