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
    /// Captured behind the answer, so that what was charged has no fee yet.
    pub(super) captured_later: bool,
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

/// A charge of a PaymentIntent, taken or refused.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) id: String,
    pub(super) paid: bool,
    pub(super) refunded: i64,
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
fn fee_of(intent: &Intent) -> Option<i64> {
    (intent.currency == Currency::USD).then(|| (intent.amount * 29 + 500) / 1000 + 30)
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

    pub(super) fn show(&self, base_url: &str, expansion: Expansion) -> Value {
        let paid = self.status == "succeeded";
        let next_action = (self.status == "requires_action").then(|| {
            let url = format!("{base_url}{}", page::path_of(&self.id));
            json!({ "type": "redirect_to_url", "redirect_to_url": { "url": url, "return_url": self.return_url } })
        });
        json!({
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": 0,
            "amount_received": if paid { self.amount } else { 0 },
            "canceled_at": self.canceled_at.map(Timestamp::unix_s),
            "cancellation_reason": self.cancellation_reason,
            "capture_method": if self.captured_later { "automatic_async" } else { "automatic" },
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
        })
    }

    fn show_charge(&self, charge: &Charge, expansion: Expansion) -> Value {
        if !expansion.charge {
            return json!(charge.id);
        }
        let transaction_id = charge.id.replacen("ch_", "txn_", 1);
        let fee = fee_of(self).filter(|_| charge.paid && !self.captured_later);
        let transaction = fee.map(|fee| {
            if !expansion.balance_transaction {
                return json!(transaction_id);
            }
            json!({
                "id": transaction_id,
                "object": "balance_transaction",
                "amount": self.amount,
                "currency": "usd",
                "fee": fee,
                "net": self.amount - fee,
                "type": "charge",
            })
        });
        json!({
            "id": charge.id,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": if charge.paid { self.amount } else { 0 },
            "amount_refunded": charge.refunded,
            "balance_transaction": transaction,
            "captured": charge.paid,
            "currency": self.currency.code().to_ascii_lowercase(),
            "metadata": self.metadata,
            "paid": charge.paid,
            "payment_intent": self.id,
            "refunded": charge.paid && charge.refunded == self.amount,
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
