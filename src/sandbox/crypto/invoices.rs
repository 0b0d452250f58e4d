//! Invoices in the BTCPay emulator: what is paid for them, when, and what that makes of them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::domain::money::{AMOUNT_MINOR_MAX, Currency, Money};
use crate::domain::time::Timestamp;
use crate::sandbox::OBJECTS_MAX;
use crate::sandbox::credentials::BTCPAY_STORE_ID;
use crate::sandbox::crypto::reply::{self, Reply};
use crate::sandbox::crypto::{Context, State, Step, events};
use crate::sandbox::ledger::{LedgerEntry, LedgerOperation};
use crate::sandbox::page;

/// The payer's time when none is asked for, in minutes.
const EXPIRATION_MINUTES: u64 = 15;
/// How long after that payments are looked for when nothing else is asked for, in minutes.
const MONITORING_MINUTES: u64 = 1_440;
/// Longest time that can be asked for: a year, in minutes.
const MINUTES_MAX: u64 = 525_600;
/// The way to pay that there is.
const PAYMENT_METHOD: &str = "BTC-CHAIN";
/// Metadata that says what the payer does.
const TOKEN_KEY: &str = "sandboxPaymentToken";

/// An invoice.
#[derive(Clone, Debug)]
pub(super) struct Invoice {
    pub(super) id: String,
    pub(super) money: Money,
    pub(super) paid_minor: i64,
    pub(super) status: &'static str,
    pub(super) additional: &'static str,
    pub(super) metadata: Map<String, Value>,
    pub(super) created: Timestamp,
    expires: Timestamp,
    watched_until: Timestamp,
    /// When what was paid last is confirmed.
    confirmed_at: Timestamp,
    /// When that settles it, while it is not settled.
    pub(super) settles: Option<Timestamp>,
}

impl Invoice {
    /// Our payment number, or whatever else stands there.
    pub(super) fn reference(&self) -> &str {
        self.metadata.get("orderId").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether there is money that can be given back.
    pub(super) fn is_refundable(&self) -> bool {
        self.paid_minor > 0 && matches!(self.status, "Settled" | "Expired" | "Invalid")
    }

    fn show(&self, base_url: &str) -> Value {
        let paid = Money::new(self.paid_minor, self.money.currency);
        json!({
            "id": self.id,
            "storeId": BTCPAY_STORE_ID,
            "amount": self.money.decimal(),
            "paidAmount": paid.decimal(),
            "currency": self.money.currency.code(),
            "type": "Standard",
            "checkoutLink": format!("{base_url}{}", page::path_of(&self.id)),
            "createdTime": self.created.unix_s(),
            "expirationTime": self.expires.unix_s(),
            "monitoringExpiration": self.watched_until.unix_s(),
            "status": self.status,
            "additionalStatus": self.additional,
            "availableStatusesForManualMarking": self.markable(),
            "archived": false,
            "metadata": self.metadata,
        })
    }

    fn markable(&self) -> &'static [&'static str] {
        match self.status {
            "New" | "Processing" | "Expired" => &["Settled", "Invalid"],
            "Settled" => &["Invalid"],
            _ => &["Settled"],
        }
    }
}

/// What a payer does.
enum Payer {
    Pays,
    PaysUnconfirmed,
    Waits,
    Refused,
    NeverAnswered,
    AnswerLost,
    Fails,
}

fn payer_of(token: &str) -> Option<Payer> {
    if ["tok_alipay_declines:", "tok_paypal_declines:", "tok_stripe_declines:"].iter().any(|it| token.starts_with(it)) {
        return Some(Payer::Pays);
    }
    match token {
        "tok_visa" | "tok_processing_error" => Some(Payer::Pays),
        "tok_processing" => Some(Payer::PaysUnconfirmed),
        "tok_3ds" => Some(Payer::Waits),
        "tok_declined" | "tok_insufficient_funds" | "tok_stolen_card" => Some(Payer::Refused),
        "tok_timeout" => Some(Payer::NeverAnswered),
        "tok_lost_response" => Some(Payer::AnswerLost),
        "tok_error" => Some(Payer::Fails),
        _ => None,
    }
}

impl State {
    pub(super) fn create_invoice(&mut self, context: &Context<'_>) -> Step {
        let (invoice, payer) = match self.new_invoice(context) {
            Ok(made) => made,
            Err(reply) => return Step::Done(reply),
        };
        if context.draw.decline {
            return Step::Done(no_wallet());
        }
        match payer {
            Payer::Refused => return Step::Done(no_wallet()),
            Payer::NeverAnswered => return Step::Held,
            Payer::Fails => return Step::Done(reply::internal_error()),
            Payer::Pays | Payer::PaysUnconfirmed | Payer::Waits | Payer::AnswerLost => {}
        }
        let id = invoice.id.clone();
        self.tell(&invoice, "InvoiceCreated", &json!({}), context.now);
        self.order.push(id.clone());
        let amount_minor = invoice.money.amount_minor;
        self.due.insert((invoice.expires, id.clone()));
        self.invoices.insert(id.clone(), invoice);
        match payer {
            Payer::Pays | Payer::AnswerLost => {
                self.receive(&id, amount_minor, context.now);
                self.settle(&id, context.now);
                if let Some(invoice) = self.invoices.get_mut(&id) {
                    invoice.confirmed_at = context.now;
                }
            }
            Payer::PaysUnconfirmed => self.receive(&id, amount_minor, context.now),
            _ => {}
        }
        if matches!(payer, Payer::AnswerLost) {
            return Step::Lost;
        }
        Step::Done(self.get_invoice(&id, context.base_url))
    }

    fn new_invoice(&self, context: &Context<'_>) -> Result<(Invoice, Payer), Reply> {
        let body = &context.body;
        let currency = body["currency"].as_str().unwrap_or_default();
        let currency: Currency =
            currency.parse().map_err(|_| reply::invalid("currency", "The currency is not supported"))?;
        let amount = body["amount"].as_str().and_then(|amount| Money::parse_decimal(amount, currency));
        let money = amount.filter(|money| (1..=AMOUNT_MINOR_MAX).contains(&money.amount_minor));
        let money = money.ok_or_else(|| reply::invalid("amount", "The amount should be 0 or more."))?;
        let minutes = |name: &str, default: u64| match &body["checkout"][name] {
            Value::Null => Ok(default),
            value => value
                .as_u64()
                .filter(|minutes| (1..=MINUTES_MAX).contains(minutes))
                .ok_or_else(|| reply::invalid(&format!("checkout.{name}"), "It is out of range")),
        };
        let expires = context.now.plus(Duration::from_secs(60 * minutes("expirationMinutes", EXPIRATION_MINUTES)?));
        let watched_until = expires.plus(Duration::from_secs(60 * minutes("monitoringMinutes", MONITORING_MINUTES)?));
        let metadata = body["metadata"].as_object().cloned().unwrap_or_default();
        let payer = match metadata.get(TOKEN_KEY).map(Value::as_str) {
            None => Payer::Waits,
            Some(token) => token
                .and_then(payer_of)
                .ok_or_else(|| reply::invalid("metadata.sandboxPaymentToken", "There is no such token"))?,
        };
        if self.invoices.len() >= OBJECTS_MAX {
            return Err(reply::full());
        }
        let invoice = Invoice {
            id: self.new_id(""),
            money,
            paid_minor: 0,
            status: "New",
            additional: "None",
            metadata,
            created: context.now,
            expires,
            watched_until,
            confirmed_at: context.now,
            settles: None,
        };
        Ok((invoice, payer))
    }

    pub(super) fn get_invoice(&self, id: &str, base_url: &str) -> Reply {
        self.invoices.get(id).map_or_else(reply::missing_invoice, |invoice| Reply::ok(&invoice.show(base_url)))
    }

    /// Newest first.
    pub(super) fn list_invoices(&self, context: &Context<'_>) -> Reply {
        let wanted = context.all("orderId");
        let invoices = self.order.iter().rev().filter_map(|id| self.invoices.get(id));
        let fits = |invoice: &&Invoice| wanted.is_empty() || wanted.contains(&invoice.reference());
        let page = invoices.filter(fits).skip(context.number("skip", 0)).take(context.number("take", 50));
        Reply::ok(&Value::Array(page.map(|invoice| invoice.show(context.base_url)).collect()))
    }

    /// Somebody says by hand what it is.
    pub(super) fn mark_invoice(&mut self, id: &str, context: &Context<'_>) -> Reply {
        let Some(invoice) = self.invoices.get_mut(id) else { return reply::missing_invoice() };
        let status = context.body["status"].as_str().unwrap_or_default();
        let Some(status) = invoice.markable().iter().copied().find(|markable| *markable == status) else {
            return reply::invalid(
                "status",
                "Status can only be marked to invalid or settled within certain conditions.",
            );
        };
        (invoice.status, invoice.additional, invoice.settles) = (status, "Marked", None);
        let invoice = invoice.clone();
        let kind = if invoice.status == "Invalid" { "InvoiceInvalid" } else { "InvoiceSettled" };
        self.tell(&invoice, kind, &json!({ "manuallyMarked": true }), context.now);
        Reply::ok(&invoice.show(context.base_url))
    }

    pub(super) fn payment_methods(&self, id: &str, now: Timestamp) -> Reply {
        let Some(invoice) = self.invoices.get(id) else { return reply::missing_invoice() };
        let paid = Money::new(invoice.paid_minor, invoice.money.currency).decimal();
        let status = if now >= invoice.confirmed_at { "Settled" } else { "Processing" };
        let payments = if invoice.paid_minor > 0 { json!([{ "value": paid, "status": status }]) } else { json!([]) };
        Reply::ok(&json!([{ "paymentMethodId": PAYMENT_METHOD, "activated": true, "payments": payments }]))
    }

    /// The payer sends so much. What comes after the server has stopped looking is not noticed.
    pub(super) fn receive(&mut self, id: &str, amount_minor: i64, now: Timestamp) {
        let settle_after = self.settle_after;
        let Some(invoice) = self.invoices.get_mut(id) else { return };
        let confirmed_at = now.plus(settle_after);
        let money = Money::new(amount_minor, invoice.money.currency);
        self.ledger.push(LedgerEntry::new(LedgerOperation::Charge, id, invoice.reference(), money, now));
        if now >= invoice.watched_until {
            return;
        }
        invoice.paid_minor = invoice.paid_minor.saturating_add(amount_minor);
        invoice.confirmed_at = confirmed_at;
        self.due.insert((confirmed_at, id.to_owned()));
        let is_full = invoice.paid_minor >= invoice.money.amount_minor;
        let is_late = invoice.status != "New";
        match (invoice.status, is_full) {
            ("New", true) => {
                (invoice.status, invoice.settles) = ("Processing", Some(confirmed_at));
            }
            ("Expired", true) => invoice.additional = "PaidLate",
            ("New" | "Expired", false) => invoice.additional = "PaidPartial",
            _ => {}
        }
        if is_full && matches!(invoice.status, "Processing" | "Settled") && invoice.additional != "Marked" {
            let is_over = invoice.paid_minor > invoice.money.amount_minor;
            invoice.additional = if is_over { "PaidOver" } else { "None" };
        }
        let invoice = invoice.clone();
        let received = json!({ "afterExpiration": is_late, "paymentMethodId": PAYMENT_METHOD,
            "payment": { "value": money.decimal(), "status": "Processing" } });
        self.tell(&invoice, "InvoiceReceivedPayment", &received, now);
        if invoice.status == "Processing" {
            let over_paid = json!({ "overPaid": invoice.additional == "PaidOver" });
            self.tell(&invoice, "InvoiceProcessing", &over_paid, now);
        }
    }

    /// What was paid is confirmed.
    pub(super) fn settle(&mut self, id: &str, now: Timestamp) {
        let Some(invoice) = self.invoices.get_mut(id).filter(|invoice| invoice.status == "Processing") else { return };
        (invoice.status, invoice.settles) = ("Settled", None);
        let invoice = invoice.clone();
        let payment = json!({ "afterExpiration": false, "paymentMethodId": PAYMENT_METHOD });
        self.tell(&invoice, "InvoicePaymentSettled", &payment, now);
        let settled = json!({ "manuallyMarked": false, "overPaid": invoice.additional == "PaidOver" });
        self.tell(&invoice, "InvoiceSettled", &settled, now);
    }

    /// Lets happen what time brings: payments are confirmed, payers' time ends.
    pub(super) fn settle_due(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            self.due.remove(&(at, id.clone()));
            let Some(invoice) = self.invoices.get(&id) else { continue };
            let is_over = invoice.expires <= at;
            match invoice.settles {
                Some(settles) if settles <= at => self.settle(&id, at),
                None if is_over && invoice.status == "New" => self.expire(&id, at),
                None => self.confirm(&id, at),
                Some(_) => {}
            }
        }
    }

    /// What came beside or after what settled it is confirmed.
    fn confirm(&self, id: &str, now: Timestamp) {
        let is_confirmed = |invoice: &&Invoice| invoice.confirmed_at == now && invoice.is_refundable();
        let Some(invoice) = self.invoices.get(id).filter(is_confirmed) else { return };
        let payment = json!({ "afterExpiration": invoice.status != "Settled", "paymentMethodId": PAYMENT_METHOD });
        self.tell(invoice, "InvoicePaymentSettled", &payment, now);
    }

    /// The payer's time is over.
    pub(super) fn expire(&mut self, id: &str, now: Timestamp) {
        let Some(invoice) = self.invoices.get_mut(id).filter(|invoice| invoice.status == "New") else { return };
        (invoice.status, invoice.expires) = ("Expired", now);
        let invoice = invoice.clone();
        self.tell(&invoice, "InvoiceExpired", &json!({ "partiallyPaid": invoice.paid_minor > 0 }), now);
    }

    fn tell(&self, invoice: &Invoice, kind: &str, special: &Value, now: Timestamp) {
        let ids = [self.new_id(""), self.new_id("")];
        // What there is no room for is lost, as with a server that gives up.
        let _ = self.outbox.push(events::event(invoice, kind, special, [&ids[0], &ids[1]], now));
    }
}

/// The like of a decline where coins are sent: the server can't offer any way to pay.
fn no_wallet() -> Reply {
    reply::invalid("paymentMethods", "No wallet has been linked to your BTCPay Store.")
}
