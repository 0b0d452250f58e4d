//! What PayPal answers, as far as it matters here. Everything that PayPal may extend has a catch-all.

use serde::Deserialize;

use crate::channels::http::HttpAnswer;
use crate::channels::paypal::amount;
use crate::domain::money::{Currency, Money};

/// Longest code of a card network that is kept; they have a few characters.
const NETWORK_CODE_LENGTH_MAX: usize = 8;
/// Longest name of an error that is one.
const NAME_LENGTH_MAX: usize = 64;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum OrderStatus {
    Created,
    Saved,
    Approved,
    Voided,
    Completed,
    PayerActionRequired,
    #[serde(other)]
    Other,
}

/// Where an authorization stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum AuthorizationStatus {
    Created,
    Captured,
    Denied,
    /// Not among those that PayPal documents; older answers have it.
    Expired,
    PartiallyCaptured,
    Pending,
    Voided,
    #[serde(other)]
    Other,
}

/// Where a capture stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum CaptureStatus {
    Completed,
    Declined,
    PartiallyRefunded,
    Pending,
    Refunded,
    Failed,
    #[serde(other)]
    Other,
}

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum RefundStatus {
    Cancelled,
    Completed,
    Failed,
    Pending,
    #[serde(other)]
    Other,
}

/// An amount.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Amount {
    pub(super) currency_code: String,
    pub(super) value: String,
}

impl Amount {
    /// The money that it is, if it is of this currency.
    pub(super) fn in_currency(&self, currency: Currency) -> Option<Money> {
        (self.currency_code == currency.code()).then(|| amount::from_paypal(&self.value, currency)).flatten()
    }

    /// Whether it is this money.
    pub(super) fn is(&self, money: Money) -> bool {
        self.in_currency(money.currency) == Some(money)
    }
}

/// Somewhere to go from here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Link {
    pub(super) href: String,
    pub(super) rel: String,
}

/// An order.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) status: OrderStatus,
    #[serde(default)]
    pub(super) purchase_units: Vec<PurchaseUnit>,
    #[serde(default)]
    pub(super) links: Vec<Link>,
}

/// What an order is about; ours have one.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PurchaseUnit {
    #[serde(default)]
    pub(super) custom_id: Option<String>,
    #[serde(default)]
    pub(super) invoice_id: Option<String>,
    #[serde(default)]
    pub(super) amount: Option<Amount>,
    #[serde(default)]
    pub(super) payments: Payments,
}

/// What was done for a purchase unit.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Payments {
    #[serde(default)]
    pub(super) authorizations: Vec<Authorization>,
    #[serde(default)]
    pub(super) captures: Vec<Capture>,
}

/// Money that is held.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Authorization {
    pub(super) id: String,
    pub(super) status: AuthorizationStatus,
    pub(super) amount: Amount,
    #[serde(default)]
    pub(super) custom_id: Option<String>,
    #[serde(default)]
    pub(super) create_time: Option<String>,
    #[serde(default)]
    pub(super) expiration_time: Option<String>,
}

/// Money that was taken.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Capture {
    pub(super) id: String,
    pub(super) status: CaptureStatus,
    pub(super) amount: Amount,
    #[serde(default)]
    pub(super) custom_id: Option<String>,
    #[serde(default)]
    pub(super) final_capture: bool,
    #[serde(default)]
    pub(super) seller_receivable_breakdown: Option<Breakdown>,
    #[serde(default)]
    pub(super) processor_response: Option<ProcessorResponse>,
}

/// What the seller gets of a capture.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Breakdown {
    #[serde(default)]
    pub(super) paypal_fee: Option<Amount>,
}

/// What the card's bank said.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ProcessorResponse {
    #[serde(default)]
    pub(super) response_code: Option<String>,
}

impl Capture {
    /// PayPal's own fee in minor units of the payment's currency.
    pub(super) fn fee_minor(&self, currency: Currency) -> Option<i64> {
        let fee = self.seller_receivable_breakdown.as_ref()?.paypal_fee.as_ref()?;
        fee.in_currency(currency).map(|fee| fee.amount_minor)
    }

    /// The network's code of a refusal, if it looks like one.
    pub(super) fn network_code(&self) -> Option<String> {
        let code = self.processor_response.as_ref()?.response_code.as_ref()?;
        let looks_right = (1..=NETWORK_CODE_LENGTH_MAX).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        looks_right.then(|| code.to_ascii_uppercase())
    }
}

/// Money that was given back.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) status: RefundStatus,
    #[serde(default)]
    pub(super) amount: Option<Amount>,
    #[serde(default)]
    pub(super) invoice_id: Option<String>,
}

/// An answer that is PayPal's beyond doubt: an object of the expected kind, or an error.
#[derive(Clone, Debug)]
pub(super) enum Reply<T> {
    /// The object asked for.
    Object(T),
    /// Refused, or failed.
    Error(ErrorReply),
}

/// An error as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ErrorReply {
    /// The HTTP status, 400 or higher.
    pub(super) status: u16,
    /// PayPal's name of the error; none when it is not in PayPal's form.
    pub(super) name: Option<String>,
    /// The first issue, which says what it is about.
    pub(super) issue: Option<String>,
    /// What PayPal's support asks for.
    pub(super) debug_id: Option<String>,
}

impl ErrorReply {
    /// Whether the body is one of PayPal's own errors, and not of something between.
    pub(super) fn is_paypals(&self) -> bool {
        self.name.is_some()
    }

    /// The first issue, or else the name; empty when there is none.
    pub(super) fn issue(&self) -> &str {
        let general = ["UNPROCESSABLE_ENTITY", "INVALID_REQUEST", "AUTHENTICATION_FAILURE", "NOT_AUTHORIZED"];
        let name = self.name.as_deref().filter(|name| !general.contains(name));
        self.issue.as_deref().or(name).unwrap_or_default()
    }

    /// For the log and the operator.
    pub(super) fn describe(&self) -> String {
        let debug_id = self.debug_id.as_deref().unwrap_or("none");
        format!("PayPal answered with HTTP status {} {} (debug id {debug_id})", self.status, self.issue())
    }
}

/// Reads an answer; `Err` says why it can't be believed.
pub(super) fn read<T: for<'de> Deserialize<'de>>(answer: &HttpAnswer) -> Result<Reply<T>, String> {
    match answer.status {
        200 | 201 => serde_json::from_slice(&answer.body)
            .map(Reply::Object)
            .map_err(|_| String::from("PayPal's answer can't be read")),
        status if status >= 400 => Ok(Reply::Error(error_of(answer))),
        status => Err(format!("an answer with HTTP status {status} that is not PayPal's")),
    }
}

/// Reads an error. One that is not in PayPal's form has no name.
pub(super) fn error_of(answer: &HttpAnswer) -> ErrorReply {
    #[derive(Default, Deserialize)]
    struct Body {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        debug_id: Option<String>,
        #[serde(default)]
        details: Vec<Detail>,
    }
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default)]
        issue: Option<String>,
    }
    let body: Body = serde_json::from_slice(&answer.body).unwrap_or_default();
    let issue = body.details.into_iter().next().and_then(|detail| detail.issue);
    let (name, issue, debug_id) = (name_in(body.name), name_in(issue), name_in(body.debug_id));
    ErrorReply { status: answer.status, name, issue, debug_id }
}

/// What looks like a name of PayPal's; other text goes into no log and no failure.
fn name_in(text: Option<String>) -> Option<String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    text.filter(|text| (1..=NAME_LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_part))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(body: &serde_json::Value) -> ErrorReply {
        let body = bytes::Bytes::from(body.to_string());
        error_of(&HttpAnswer { status: 422, headers: reqwest::header::HeaderMap::new(), body })
    }

    #[test]
    fn only_what_looks_like_a_name_is_kept_of_an_error() {
        let detail = json!({ "issue": "INSTRUMENT_DECLINED", "description": "Mr X's card" });
        let reply = error(&json!({ "name": "UNPROCESSABLE_ENTITY", "debug_id": "f0-1", "details": [detail] }));
        assert_eq!((reply.issue(), reply.debug_id.as_deref()), ("INSTRUMENT_DECLINED", Some("f0-1")));
        for text in ["card 4242 4242", "a\nb", "", &"X".repeat(65)] {
            let reply = error(&json!({ "name": text, "debug_id": text, "details": [{ "issue": text }] }));
            assert_eq!((reply.name, reply.issue, reply.debug_id), (None, None, None), "{text}");
        }
    }

    #[test]
    fn a_network_s_code_looks_like_one() {
        let code = |text: &str| {
            let capture = json!({ "id": "C1", "status": "DECLINED", "amount": { "currency_code": "USD", "value": "1.00" },
                "processor_response": { "response_code": text } });
            serde_json::from_value::<Capture>(capture).unwrap().network_code()
        };
        assert_eq!((code("0500").as_deref(), code("a sentence"), code("")), (Some("0500"), None, None));
    }
}
