//! What a BTCPay server answers, as far as it matters here. Everything that it may extend has a catch-all.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::channels::ChargeRequest;
use crate::channels::btcpay::amount;
use crate::channels::btcpay::request::{ATTEMPT_KEY, REFERENCE_KEY};
use crate::channels::http::HttpAnswer;
use crate::domain::money::Money;
use crate::domain::time::Timestamp;

/// Where an invoice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum InvoiceStatus {
    /// It waits for the payer.
    New,
    /// Paid, and not confirmed yet.
    Processing,
    /// The payer's time is over.
    Expired,
    /// Somebody closed it, or its payment did not hold.
    Invalid,
    /// Paid.
    Settled,
    #[serde(other)]
    Other,
}

/// What is special about that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum AdditionalStatus {
    #[default]
    None,
    PaidLate,
    PaidPartial,
    /// Somebody has said so by hand.
    Marked,
    /// What was paid did not hold.
    Invalid,
    PaidOver,
    #[serde(other)]
    Other,
}

/// An invoice.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Invoice {
    pub(super) id: String,
    pub(super) store_id: String,
    #[serde(default)]
    pub(super) amount: Option<String>,
    #[serde(default)]
    pub(super) paid_amount: Option<String>,
    pub(super) currency: String,
    #[serde(default)]
    pub(super) checkout_link: Option<String>,
    /// Unix seconds, as the other times.
    pub(super) created_time: i64,
    pub(super) monitoring_expiration: i64,
    pub(super) status: InvoiceStatus,
    #[serde(default)]
    pub(super) additional_status: AdditionalStatus,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

impl Invoice {
    fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(name)?.as_str()
    }

    /// Whether it was made for this attempt.
    pub(super) fn is_of(&self, charge: &ChargeRequest) -> bool {
        self.metadata(REFERENCE_KEY) == Some(charge.reference.as_str())
            && self.metadata(ATTEMPT_KEY) == Some(charge.provider_key.as_str())
    }

    /// Whether it asks for exactly this.
    pub(super) fn asks_for(&self, money: Money) -> bool {
        self.currency == money.currency.code()
            && self.amount.as_deref().and_then(|amount| amount::exactly(amount, money.currency)) == Some(money)
    }

    /// What has been paid so far, in the currency in which it was asked for; `None` when the server does not say.
    pub(super) fn paid(&self, asked: Money) -> Option<Money> {
        amount::whole_units(self.paid_amount.as_deref()?, asked.currency)
    }

    /// Whether the server still looks for payments.
    pub(super) fn is_monitored(&self, now: Timestamp) -> bool {
        now.unix_s() < self.monitoring_expiration
    }
}

/// How one way to pay was used.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PaymentMethod {
    pub(super) payment_method_id: String,
    #[serde(default)]
    pub(super) payments: Vec<CoinPayment>,
}

impl PaymentMethod {
    /// Whether nothing that was paid by it can be taken back any more.
    pub(super) fn is_confirmed(&self) -> bool {
        let is_over = |payment: &CoinPayment| matches!(payment.status, CoinStatus::Settled | CoinStatus::Invalid);
        self.payments.iter().all(is_over)
    }
}

/// Coins that somebody has sent.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct CoinPayment {
    #[serde(default)]
    status: CoinStatus,
}

/// Whether they have arrived for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum CoinStatus {
    Settled,
    Invalid,
    /// Not yet, or nobody says so.
    #[default]
    #[serde(other)]
    Open,
}

/// Money that its receiver claims.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PullPayment {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    pub(super) amount: String,
    pub(super) currency: String,
    #[serde(default)]
    pub(super) archived: bool,
}

/// Where a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum PayoutState {
    AwaitingApproval,
    AwaitingPayment,
    InProgress,
    Completed,
    Cancelled,
    #[serde(other)]
    Other,
}

/// A claim.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Payout {
    pub(super) state: PayoutState,
}

/// An answer that could be read.
#[derive(Clone, Debug)]
pub(super) enum Reply<T> {
    Object(T),
    Error(ErrorReply),
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ErrorReply {
    pub(super) status: u16,
    /// What a BTCPay server says; `None` when it was somebody else who answered.
    pub(super) said: Option<(String, String)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorBody {
    Fields(Vec<FieldProblem>),
    Coded { code: String, message: String },
}

#[derive(Deserialize)]
struct FieldProblem {
    path: String,
    message: String,
}

impl ErrorBody {
    fn said(self) -> (String, String) {
        match self {
            Self::Coded { code, message } => (code, message),
            Self::Fields(problems) => {
                let told: Vec<String> =
                    problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
                (String::from("validation-error"), told.join("; "))
            }
        }
    }
}

/// Reads an answer; the error says why that was not possible.
pub(super) fn read<T: DeserializeOwned>(answer: &HttpAnswer) -> Result<Reply<T>, String> {
    if (200..300).contains(&answer.status) {
        let object = serde_json::from_slice(&answer.body);
        return object.map(Reply::Object).map_err(|error| format!("its answer can't be read: {error}"));
    }
    let said = serde_json::from_slice(&answer.body).ok().map(ErrorBody::said);
    Ok(Reply::Error(ErrorReply { status: answer.status, said }))
}
