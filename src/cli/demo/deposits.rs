//! The demo's deposits: a shop has money held, and then takes what is owed of it or lets it go.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::plan::{DepositEnd, PlannedDeposit};
use super::traffic::{LOOK_AGAIN, LOOKS_MAX, Merchant, Requests, Sent, data_of, json_of, text, unexpected};
use crate::cli::failure::Failure;

/// How long a guest stays.
const STAY: Duration = Duration::from_millis(100);

/// A deposit that was asked for, and how it ended.
#[derive(Clone, Debug)]
pub(super) struct SentDeposit {
    pub(super) pre_auth_no: String,
    pub(super) status: String,
    /// All amounts in minor units of its currency.
    pub(super) authorized_minor: i64,
    pub(super) captured_minor: i64,
}

impl SentDeposit {
    fn of(view: &Value) -> Result<Self, Failure> {
        let amount = |name: &str| view.get(name).and_then(Value::as_i64).unwrap_or(0);
        Ok(Self {
            pre_auth_no: String::from(text(view, "pre_auth_no")?),
            status: String::from(text(view, "status")?),
            authorized_minor: amount("authorized_amount"),
            captured_minor: amount("captured_amount"),
        })
    }

    /// Whether nothing more becomes of it.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.status.as_str(), "captured" | "canceled" | "expired" | "failed")
    }

    /// Events that tell of it: that it is held, and its end.
    pub(super) fn events(&self) -> u64 {
        u64::from(self.authorized_minor > 0) + u64::from(self.is_final())
    }
}

impl Merchant {
    /// Has all deposits of the plan held, each when it is due, and ends them.
    pub(super) async fn make_deposits(self, plan: Vec<PlannedDeposit>) -> Result<Sent, Failure> {
        let clock = self.signer.clock.clone();
        let started = clock.monotonic();
        let mut tasks = JoinSet::new();
        for deposit in plan {
            let due = Duration::from_millis(deposit.due_ms);
            tokio::time::sleep(due.saturating_sub(clock.monotonic().since(started))).await;
            let merchant = self.clone();
            tasks.spawn(async move { merchant.make_deposit(&deposit).await });
        }
        let mut sent = Sent::default();
        while let Some(finished) = tasks.join_next().await {
            let (deposit, requests) =
                finished.map_err(|error| Failure::Failed(format!("a deposit broke off: {error}")))??;
            sent.deposits.push(deposit);
            sent.requests.add(requests);
        }
        Ok(sent)
    }

    async fn make_deposit(&self, deposit: &PlannedDeposit) -> Result<(SentDeposit, Requests), Failure> {
        let mut requests = Requests::default();
        let mut body = json!({
            "order_no": deposit.order_no,
            "amount": deposit.money.amount_minor,
            "currency": deposit.money.currency,
            "payment_token": "tok_visa",
            "description": "tollgate demo deposit",
        });
        if let Some(channel) = deposit.channel {
            body["channel"] = json!(channel);
        }
        let taken = self.call_once(Method::POST, "/api/v1/pre-auths", Some(&body), "", &mut requests).await?;
        let number = match taken.status {
            StatusCode::CREATED | StatusCode::ACCEPTED => data_of(&taken),
            // Its channel did not hold anything, or an earlier try did arrive: it is there and can be read.
            StatusCode::BAD_GATEWAY | StatusCode::CONFLICT => json_of(&taken),
            _ => return Err(unexpected(&taken)),
        };
        let path = format!("/api/v1/pre-auths/{}", text(&number, "pre_auth_no")?);
        let held = self.follow(&path, &["requires_capture"], &mut requests).await?;
        if held.status != "requires_capture" {
            return Ok((held, requests));
        }
        tokio::time::sleep(STAY).await;
        let (action, body) = match deposit.end {
            DepositEnd::Captured { amount_minor } => ("capture", json!({ "amount": amount_minor })),
            DepositEnd::Canceled => ("cancel", json!({ "reason": "the guest did not come" })),
        };
        let key = format!("{action}-{}", deposit.order_no);
        let ended = self.call_once(Method::POST, &format!("{path}/{action}"), Some(&body), &key, &mut requests).await?;
        match ended.status {
            StatusCode::OK | StatusCode::ACCEPTED | StatusCode::BAD_GATEWAY | StatusCode::CONFLICT => {}
            _ => return Err(unexpected(&ended)),
        }
        Ok((self.follow(&path, &[], &mut requests).await?, requests))
    }

    /// The deposit once it has ended or is in one of these statuses, or as it is after a while.
    async fn follow(&self, path: &str, statuses: &[&str], requests: &mut Requests) -> Result<SentDeposit, Failure> {
        let mut looks = 0;
        loop {
            let answer = self.call(Method::GET, path, None, requests).await?;
            if answer.status != StatusCode::OK {
                return Err(unexpected(&answer));
            }
            let deposit = SentDeposit::of(&data_of(&answer))?;
            if deposit.is_final() || statuses.contains(&deposit.status.as_str()) || looks == LOOKS_MAX {
                return Ok(deposit);
            }
            looks += 1;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
