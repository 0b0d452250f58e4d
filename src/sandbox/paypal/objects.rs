//! What the PayPal emulator keeps, and how it is shown.

use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;
use crate::sandbox::page;

/// An authorization is valid for this long.
pub(super) const AUTHORIZATION_LIFETIME: Duration = Duration::from_secs(29 * 24 * 60 * 60);

/// What an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Capture,
    Authorize,
}

/// What happens with a payer's means of payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// Pays.
    Approved,
    /// Is refused for this issue.
    Declined(String),
    /// Is taken, and then the capture is declined all the same, in an answer of 201.
    CaptureDeclined,
    /// Wants its holder to act first.
    ActionRequired,
    /// Pays some seconds later.
    Processing,
    /// Never gets an answer, and nothing happens.
    Timeout,
    /// Pays, but the answer is lost.
    LostResponse,
    /// Fails inside PayPal before anything happens.
    Error,
}

/// How a token begins that names the issue of its refusal.
const NAMED_DECLINE: &str = "tok_paypal_declines:";
/// How tokens begin that others refuse; here they pay.
const DECLINED_BY_OTHERS: [&str; 2] = ["tok_stripe_declines:", "tok_alipay_declines:"];

/// The means of payment behind a stored id.
pub(super) fn means_of(token: &str) -> Option<Means> {
    if let Some(issue) = token.strip_prefix(NAMED_DECLINE) {
        let is_issue = !issue.is_empty() && issue.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        return match issue {
            "CAPTURE_DECLINED" => Some(Means::CaptureDeclined),
            issue => is_issue.then(|| Means::Declined(issue.to_owned())),
        };
    }
    if DECLINED_BY_OTHERS.iter().any(|prefix| token.starts_with(prefix)) {
        return Some(Means::Approved);
    }
    match token {
        "tok_visa" | "tok_mastercard" | "tok_amex" | "tok_processing_error" => Some(Means::Approved),
        "tok_declined" => Some(Means::Declined(String::from("INSTRUMENT_DECLINED"))),
        "tok_insufficient_funds" => Some(Means::Declined(String::from("PAYER_CANNOT_PAY"))),
        "tok_stolen_card" => Some(Means::Declined(String::from("CARD_CLOSED"))),
        "tok_3ds" => Some(Means::ActionRequired),
        "tok_processing" => Some(Means::Processing),
        "tok_timeout" => Some(Means::Timeout),
        "tok_lost_response" => Some(Means::LostResponse),
        "tok_error" => Some(Means::Error),
        _ => None,
    }
}

/// The money in an amount, or the issue with it.
pub(super) fn money_in(amount: &Value) -> Result<Money, &'static str> {
    let text = |name: &str| amount.get(name).and_then(Value::as_str);
    let (Some(code), Some(value)) = (text("currency_code"), text("value")) else {
        return Err("MISSING_REQUIRED_PARAMETER");
    };
    let known = [
        "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "JPY", "MXN", "MYR", "NOK",
        "NZD", "PHP", "PLN", "SEK", "SGD", "THB", "TWD", "USD",
    ];
    let currency: Currency = code.parse().map_err(|_| "INVALID_CURRENCY_CODE")?;
    if !known.contains(&code) {
        return Err("CURRENCY_NOT_SUPPORTED");
    }
    if matches!(code, "HUF" | "JPY" | "TWD") && value.contains('.') {
        return Err("DECIMALS_NOT_SUPPORTED");
    }
    let money = Money::parse_decimal(value, currency).ok_or("DECIMAL_PRECISION")?;
    if money.amount_minor > 0 { Ok(money) } else { Err("CANNOT_BE_ZERO_OR_NEGATIVE") }
}

/// An amount as PayPal writes it.
pub(super) fn amount(money: Money) -> Value {
    let decimal = money.decimal();
    let value = match money.currency.code() {
        "HUF" | "JPY" | "TWD" => decimal.split('.').next().unwrap_or_default().to_owned(),
        _ => decimal,
    };
    json!({ "currency_code": money.currency.code(), "value": value })
}

/// What the merchant calls a payment.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) custom_id: Option<String>,
    pub(super) invoice_id: Option<String>,
}

impl Names {
    /// What `body` calls it.
    pub(super) fn in_body(body: &Value) -> Self {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        Self { custom_id: text("custom_id"), invoice_id: text("invoice_id") }
    }

    /// The gateway's number, for the ledger.
    pub(super) fn reference(&self) -> &str {
        self.custom_id.as_deref().map_or("", |id| id.split('~').next().unwrap_or(id))
    }

    fn put(&self, shown: &mut Value) {
        for (name, value) in [("custom_id", &self.custom_id), ("invoice_id", &self.invoice_id)] {
            if let Some(value) = value {
                shown[name] = value.clone().into();
            }
        }
    }
}

/// An order.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) intent: Intent,
    pub(super) status: &'static str,
    pub(super) money: Money,
    pub(super) names: Names,
    pub(super) means: Option<Means>,
    pub(super) authorization_id: Option<String>,
    pub(super) created: Timestamp,
}

/// Money that is held.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) id: String,
    pub(super) order_id: String,
    pub(super) status: &'static str,
    pub(super) money: Money,
    pub(super) names: Names,
    pub(super) captured_minor: i64,
    pub(super) created: Timestamp,
    pub(super) expires: Timestamp,
    /// Its time ran out.
    pub(super) is_expired: bool,
    /// The one that it has replaced.
    pub(super) parent: Option<String>,
    /// The one that has replaced it.
    pub(super) child: Option<String>,
}

/// Money that was taken.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    pub(super) id: String,
    pub(super) order_id: String,
    pub(super) authorization_id: Option<String>,
    pub(super) status: &'static str,
    pub(super) money: Money,
    pub(super) names: Names,
    pub(super) is_final: bool,
    pub(super) refunded_minor: i64,
    pub(super) created: Timestamp,
}

/// Money that was given back.
#[derive(Clone, Debug)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) capture_id: String,
    pub(super) money: Money,
    pub(super) names: Names,
    pub(super) created: Timestamp,
}

/// The fee of a capture: 3.49 % rounded half up, and 49 cents; for dollars only.
fn fee_of(money: Money) -> Option<Money> {
    let fee = (i128::from(money.amount_minor) * 349 + 5_000) / 10_000 + 49;
    i64::try_from(fee).ok().filter(|_| money.currency == Currency::USD).map(|fee| Money::new(fee, money.currency))
}

impl Order {
    pub(super) fn show(&self, authorizations: &[&Authorization], captures: &[&Capture], base_url: &str) -> Value {
        let mut unit = json!({ "reference_id": "default", "amount": amount(self.money),
            "payee": { "merchant_id": crate::sandbox::credentials::PAYPAL_MERCHANT_ID } });
        self.names.put(&mut unit);
        let mut payments = json!({});
        if !authorizations.is_empty() {
            let shown: Vec<Value> = authorizations.iter().map(|authorization| authorization.show(base_url)).collect();
            payments["authorizations"] = shown.into();
        }
        if !captures.is_empty() {
            payments["captures"] = captures.iter().map(|capture| capture.show(base_url)).collect::<Vec<_>>().into();
        }
        if authorizations.len() + captures.len() > 0 {
            unit["payments"] = payments;
        }
        let mut links = vec![json!({ "href": format!("{base_url}/v2/checkout/orders/{}", self.id), "rel": "self" })];
        if matches!(self.status, "CREATED" | "PAYER_ACTION_REQUIRED") {
            let rel = if self.status == "CREATED" { "approve" } else { "payer-action" };
            links.push(json!({ "href": format!("{base_url}{}", page::path_of(&self.id)), "rel": rel }));
        }
        let intent = if self.intent == Intent::Capture { "CAPTURE" } else { "AUTHORIZE" };
        json!({
            "id": self.id, "intent": intent, "status": self.status, "purchase_units": [unit],
            "create_time": self.created.rfc3339(), "links": links,
        })
    }
}

impl Authorization {
    pub(super) fn show(&self, base_url: &str) -> Value {
        let mut shown = json!({
            "id": self.id, "status": self.status, "amount": amount(self.money),
            "create_time": self.created.rfc3339(), "expiration_time": self.expires.rfc3339(),
            "seller_protection": { "status": "ELIGIBLE" },
            "supplementary_data": { "related_ids": { "order_id": self.order_id } },
            "links": [{ "rel": "up", "href": format!("{base_url}/v2/checkout/orders/{}", self.order_id) }],
        });
        self.names.put(&mut shown);
        shown
    }

    /// What of it was neither taken nor let go.
    pub(super) const fn left(&self) -> Money {
        Money::new(self.money.amount_minor - self.captured_minor, self.money.currency)
    }
}

impl Capture {
    pub(super) fn show(&self, base_url: &str) -> Value {
        let above = match &self.authorization_id {
            Some(id) => format!("{base_url}/v2/payments/authorizations/{id}"),
            None => format!("{base_url}/v2/checkout/orders/{}", self.order_id),
        };
        let mut shown = json!({
            "id": self.id, "status": self.status, "amount": amount(self.money), "final_capture": self.is_final,
            "create_time": self.created.rfc3339(),
            "supplementary_data": {
                "related_ids": { "order_id": self.order_id, "authorization_id": self.authorization_id } },
            "links": [{ "rel": "up", "href": above }],
        });
        self.names.put(&mut shown);
        if let Some(fee) = fee_of(self.money).filter(|_| self.status != "PENDING" && self.status != "DECLINED") {
            let net = Money::new(self.money.amount_minor - fee.amount_minor, fee.currency);
            shown["seller_receivable_breakdown"] =
                json!({ "gross_amount": amount(self.money), "paypal_fee": amount(fee), "net_amount": amount(net) });
        }
        shown
    }
}

impl Refund {
    pub(super) fn show(&self, base_url: &str) -> Value {
        let above = format!("{base_url}/v2/payments/captures/{}", self.capture_id);
        let mut shown = json!({
            "id": self.id, "status": "COMPLETED", "amount": amount(self.money),
            "create_time": self.created.rfc3339(), "links": [{ "rel": "up", "href": above }],
        });
        self.names.put(&mut shown);
        shown
    }
}
