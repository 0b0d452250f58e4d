//! What the Stripe emulator keeps, and how it is shown.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;
use crate::sandbox::page;
use crate::sandbox::stripe::cards::Card;

/// A PaymentIntent.
#[derive(Clone, Debug)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) client_secret: String,
    /// As Stripe counts it.
    pub(super) amount: i64,
    pub(super) currency: Currency,
    pub(super) status: &'static str,
    pub(super) capture: CaptureMethod,
    /// Whether the payer is away, which shortens the life of a hold.
    pub(super) off_session: bool,
    /// Where the emulator is, for the payer's page.
    pub(super) base_url: String,
    pub(super) card: Option<Card>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) description: Option<String>,
    pub(super) receipt_email: Option<String>,
    pub(super) return_url: Option<String>,
    pub(super) last_payment_error: Option<Value>,
    pub(super) charge: Option<Charge>,
    pub(super) cancellation_reason: Option<String>,
    pub(super) canceled_at: Option<Timestamp>,
    pub(super) created: Timestamp,
}

/// When what was authorized is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaptureMethod {
    /// Before the answer.
    Automatic,
    /// Behind the answer, so that what was charged has no fee yet.
    AutomaticAsync,
    /// By a request of its own; until then it is held.
    Manual,
}

impl CaptureMethod {
    /// The method of this name; Stripe's own choice without a name.
    pub(super) fn named(name: Option<&str>) -> Option<Self> {
        match name {
            Some("automatic") => Some(Self::Automatic),
            None | Some("automatic_async") => Some(Self::AutomaticAsync),
            Some("manual") => Some(Self::Manual),
            Some(_) => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::AutomaticAsync => "automatic_async",
            Self::Manual => "manual",
        }
    }
}

/// A charge of a PaymentIntent: authorized and perhaps taken, or refused.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) id: String,
    pub(super) paid: bool,
    /// How much was taken; less than the whole amount when the rest was released.
    pub(super) captured: i64,
    pub(super) refunded: i64,
    /// Until when it can be captured, if it is or was a hold.
    pub(super) capture_before: Option<Timestamp>,
}

/// A refund.
#[derive(Clone, Debug)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) intent_id: String,
    pub(super) charge_id: String,
    pub(super) amount: i64,
    pub(super) currency: Currency,
    pub(super) reason: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) created: Timestamp,
}

/// Which references are shown as whole objects.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expansion {
    pub(super) charge: bool,
    pub(super) balance_transaction: bool,
}

impl Expansion {
    /// What `expand[]` asks for.
    pub(super) fn of(parameters: &[(String, String)]) -> Self {
        let asked = |part: &str| {
            parameters
                .iter()
                .any(|(name, value)| name.starts_with("expand[") && value.split('.').any(|step| step == part))
        };
        Self { charge: asked("latest_charge"), balance_transaction: asked("balance_transaction") }
    }
}

/// Whose account it is.
pub(super) fn account() -> Value {
    json!({
        "id": "acct_tollgate_sandbox",
        "object": "account",
        "charges_enabled": true,
        "country": "US",
        "default_currency": "usd",
        "payouts_enabled": true,
    })
}

/// Whether Stripe takes this amount of this currency; the money that it means.
pub(super) fn money_of(amount: i64, currency: Currency) -> Result<Money, (&'static str, &'static str)> {
    let minor = match currency.code() {
        "ISK" | "UGX" if amount % 100 != 0 => {
            let message = "This currency has no decimals: the amount must be divisible by 100.";
            return Err(("invalid_charge_amount_no_decimal_compatible", message));
        }
        "ISK" | "UGX" => amount / 100,
        "MGA" => amount.saturating_mul(100),
        "BHD" | "JOD" | "KWD" | "OMR" | "TND" if amount % 10 != 0 => {
            return Err(("parameter_invalid_integer", "The last digit of amounts in this currency must be 0."));
        }
        _ => amount,
    };
    Ok(Money::new(minor, currency))
}

/// The fee of a charge: 2.9 % rounded half up, and 30 cents. Other currencies settle later, at a rate that is not known.
fn fee_of(captured: i64, currency: Currency) -> Option<i64> {
    (currency == Currency::USD && captured > 0).then(|| (captured * 29 + 500) / 1000 + 30)
}

impl Intent {
    /// The reference that the gateway gave, for the ledger.
    pub(super) fn reference(&self) -> &str {
        self.metadata.get("gateway_payment_id").map_or("", String::as_str)
    }

    /// The money that it is about.
    pub(super) fn money(&self) -> Money {
        money_of(self.amount, self.currency).unwrap_or(Money::new(self.amount, self.currency))
    }

    /// Whether the payer can do something about it on the page.
    pub(super) fn waits_for_payer(&self) -> bool {
        self.status == "requires_action" || self.has_payer_page()
    }

    /// A hold whose payer has still to choose a means of payment, which Stripe leaves to its own code in the browser.
    fn has_payer_page(&self) -> bool {
        self.capture == CaptureMethod::Manual && self.status == "requires_payment_method"
    }

    /// How much can be captured. It stays what it was when it is canceled, as it was seen to do.
    fn capturable(&self) -> i64 {
        let is_authorized = self.charge.as_ref().is_some_and(|charge| charge.paid && charge.captured == 0);
        if is_authorized { self.amount } else { 0 }
    }

    pub(super) fn show(&self, expansion: Expansion) -> Value {
        let url = || format!("{}{}", self.base_url, page::path_of(&self.id));
        let next_action = (self.status == "requires_action").then(
            || json!({ "type": "redirect_to_url", "redirect_to_url": { "url": url(), "return_url": self.return_url } }),
        );
        let mut shown = json!({
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": self.capturable(),
            "amount_received": self.charge.as_ref().map_or(0, |charge| charge.captured),
            "canceled_at": self.canceled_at.map(Timestamp::unix_s),
            "cancellation_reason": self.cancellation_reason,
            "capture_method": self.capture.as_str(),
            "client_secret": self.client_secret,
            "confirmation_method": "automatic",
            "created": self.created.unix_s(),
            "currency": self.currency.code().to_ascii_lowercase(),
            "description": self.description,
            "last_payment_error": self.last_payment_error,
            "latest_charge": self.charge.as_ref().map(|charge| self.show_charge(charge, expansion)),
            "livemode": false,
            "metadata": self.metadata,
            "next_action": next_action,
            "payment_method_types": ["card"],
            "receipt_email": self.receipt_email,
            "status": self.status,
        });
        if self.has_payer_page() {
            shown["sandbox_payer_page"] = json!(url());
        }
        shown
    }

    fn show_charge(&self, charge: &Charge, expansion: Expansion) -> Value {
        if expansion.charge { self.charge_object(charge, expansion) } else { json!(charge.id) }
    }

    pub(super) fn charge_object(&self, charge: &Charge, expansion: Expansion) -> Value {
        let transaction_id = charge.id.replacen("ch_", "txn_", 1);
        let fee = fee_of(charge.captured, self.currency).filter(|_| self.capture != CaptureMethod::AutomaticAsync);
        let transaction = fee.map(|fee| {
            if !expansion.balance_transaction {
                return json!(transaction_id);
            }
            json!({
                "id": transaction_id,
                "object": "balance_transaction",
                "amount": charge.captured,
                "currency": "usd",
                "fee": fee,
                "net": charge.captured - fee,
                "type": "charge",
            })
        });
        json!({
            "id": charge.id,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": charge.captured,
            "amount_refunded": charge.refunded,
            "balance_transaction": transaction,
            "captured": charge.captured > 0,
            "currency": self.currency.code().to_ascii_lowercase(),
            "metadata": self.metadata,
            "paid": charge.paid,
            "payment_intent": self.id,
            "payment_method_details": {
                "type": "card",
                "card": { "capture_before": charge.capture_before.map(Timestamp::unix_s) },
            },
            "refunded": charge.captured > 0 && charge.refunded == charge.captured,
            "status": if charge.paid { "succeeded" } else { "failed" },
        })
    }
}

impl Refund {
    pub(super) fn show(&self) -> Value {
        json!({
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "charge": self.charge_id,
            "created": self.created.unix_s(),
            "currency": self.currency.code().to_ascii_lowercase(),
            "metadata": self.metadata,
            "payment_intent": self.intent_id,
            "reason": self.reason,
            "status": "succeeded",
        })
    }
}
