//! Pull payments in the BTCPay emulator: refunds that the payer claims.

use serde_json::{Value, json};

use crate::domain::money::Money;
use crate::domain::time::Timestamp;
use crate::sandbox::OBJECTS_MAX;
use crate::sandbox::crypto::reply::{self, Reply};
use crate::sandbox::crypto::{Context, State};
use crate::sandbox::ledger::{LedgerEntry, LedgerOperation};
use crate::sandbox::page;

/// A pull payment.
#[derive(Clone, Debug)]
pub(super) struct PullPayment {
    id: String,
    invoice_id: String,
    name: String,
    money: Money,
    pub(super) is_claimed: bool,
}

impl PullPayment {
    fn show(&self, base_url: &str) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "amount": self.money.decimal(),
            "currency": self.money.currency.code(),
            "archived": false,
            "viewLink": format!("{base_url}{}", page::path_of(&self.id)),
        })
    }
}

impl State {
    pub(super) fn refund_invoice(&mut self, invoice_id: &str, context: &Context<'_>) -> Reply {
        let Some(invoice) = self.invoices.get(invoice_id) else { return reply::missing_invoice() };
        if !invoice.is_refundable() {
            return reply::not_refundable();
        }
        let body = &context.body;
        if body["payoutMethodId"].as_str().is_none_or(str::is_empty) {
            return reply::invalid("payoutMethodId", "Please select one of the payment methods which were available");
        }
        let money = match body["refundVariant"].as_str() {
            Some("Fiat") => Some(Money::new(invoice.paid_minor, invoice.money.currency)),
            Some("Custom") if body["customCurrency"].as_str() == Some(invoice.money.currency.code()) => {
                let amount = body["customAmount"].as_str();
                amount.and_then(|amount| Money::parse_decimal(amount, invoice.money.currency))
            }
            _ => return reply::invalid("refundVariant", "`refundVariant` is not valid here"),
        };
        let Some(money) = money.filter(|money| money.amount_minor > 0) else {
            return reply::invalid("customAmount", "Amount must be greater than 0");
        };
        if self.pulls.len() >= OBJECTS_MAX {
            return reply::full();
        }
        let name = body["name"].as_str().map_or_else(|| format!("Refund {invoice_id}"), str::to_owned);
        let id = self.new_id("");
        let pull = PullPayment { id: id.clone(), invoice_id: invoice_id.to_owned(), name, money, is_claimed: false };
        let shown = Reply::ok(&pull.show(context.base_url));
        self.pull_order.push(id.clone());
        self.pulls.insert(id, pull);
        shown
    }

    /// All of them, newest first: this list has no pages.
    pub(super) fn list_pulls(&self, context: &Context<'_>) -> Reply {
        let pulls = self.pull_order.iter().rev().filter_map(|id| self.pulls.get(id));
        Reply::ok(&Value::Array(pulls.map(|pull| pull.show(context.base_url)).collect()))
    }

    pub(super) fn get_pull(&self, id: &str, base_url: &str) -> Reply {
        self.pulls.get(id).map_or_else(reply::missing_pull, |pull| Reply::ok(&pull.show(base_url)))
    }

    pub(super) fn list_payouts(&self, id: &str) -> Reply {
        let Some(pull) = self.pulls.get(id) else { return reply::not_found() };
        let payout = json!({ "id": format!("{id}1"), "pullPaymentId": id, "state": "Completed" });
        Reply::ok(&if pull.is_claimed { json!([payout]) } else { json!([]) })
    }

    /// The payer takes it.
    pub(super) fn claim(&mut self, id: &str, now: Timestamp) {
        let Some(pull) = self.pulls.get_mut(id).filter(|pull| !pull.is_claimed) else { return };
        pull.is_claimed = true;
        let reference = self.invoices.get(&pull.invoice_id).map_or("", |invoice| invoice.reference());
        self.ledger.push(LedgerEntry::new(LedgerOperation::Refund, id, reference, pull.money, now));
    }
}
