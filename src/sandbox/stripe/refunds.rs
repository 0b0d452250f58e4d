//! Refunds in the Stripe emulator.

use serde_json::{Value, json};

use crate::domain::money::Currency;
use crate::sandbox::OBJECTS_MAX;
use crate::sandbox::ledger::{LedgerEntry, LedgerOperation};
use crate::sandbox::stripe::objects::{Refund, money_of};
use crate::sandbox::stripe::reply::{Reply, bad_parameter, full, invalid_request, missing};
use crate::sandbox::stripe::{Context, State, page_of};

impl State {
    pub(super) fn create_refund(&mut self, context: &Context<'_>) -> Reply {
        match self.try_refund(context) {
            Ok(reply) | Err(reply) => reply,
        }
    }

    fn try_refund(&mut self, context: &Context<'_>) -> Result<Reply, Reply> {
        let intent_id = self.refunded_intent(context)?;
        if self.refunds.len() >= OBJECTS_MAX {
            return Err(full());
        }
        let refund_id = self.new_id("re_");
        let missing_intent = || missing("payment_intent", &intent_id, "payment_intent");
        let intent = self.intents.get_mut(&intent_id).ok_or_else(missing_intent)?;
        let currency = intent.currency;
        let Some(charge) = intent.charge.as_mut().filter(|charge| charge.captured > 0) else {
            let message = format!("This PaymentIntent ({intent_id}) does not have a successful charge to refund.");
            return Err(Reply::refused(400, invalid_request(None, Some("payment_intent"), &message)));
        };
        let left = charge.captured - charge.refunded;
        if left == 0 {
            let message = format!("Charge {} has already been refunded.", charge.id);
            return Err(Reply::refused(400, invalid_request(Some("charge_already_refunded"), None, &message)));
        }
        let amount = match context.get("amount").map(str::parse::<i64>) {
            None => left,
            Some(Ok(amount)) if amount > 0 => amount,
            Some(_) => return Err(bad_parameter("parameter_invalid_integer", "amount", "Invalid positive integer")),
        };
        money_of(amount, currency).map_err(|(code, message)| bad_parameter(code, "amount", message))?;
        if amount > left {
            let message = format!(
                "Refund amount ({}) is greater than unrefunded amount on charge ({})",
                shown(amount, currency),
                shown(left, currency)
            );
            return Err(Reply::refused(400, invalid_request(None, Some("amount"), &message)));
        }
        charge.refunded += amount;
        let refund = Refund {
            id: refund_id,
            intent_id,
            charge_id: charge.id.clone(),
            amount,
            currency,
            reason: context.get("reason").map(str::to_owned),
            metadata: context.map("metadata"),
            created: context.now,
        };
        let money = money_of(amount, currency).map_err(|(code, message)| bad_parameter(code, "amount", message))?;
        let entry = LedgerEntry::new(LedgerOperation::Refund, &refund.id, intent.reference(), money, context.now);
        self.ledger.push(entry);
        let (shown, intent) = (refund.show(), intent.clone());
        let reply = Reply::ok(&shown);
        self.tell("refund.created", shown, context.now);
        self.tell_of_charge("charge.refunded", &intent, context.now);
        self.refunds_by_intent.entry(refund.intent_id.clone()).or_default().push(refund.id.clone());
        self.refund_order.push(refund.id.clone());
        self.refunds.insert(refund.id.clone(), refund);
        Ok(reply)
    }

    /// The PaymentIntent that is named, by itself or by its charge.
    fn refunded_intent(&self, context: &Context<'_>) -> Result<String, Reply> {
        if let Some(id) = context.get("payment_intent") {
            return Ok(id.to_owned());
        }
        let Some(charge_id) = context.get("charge") else {
            let message = "One of the following params should be provided for this request: payment_intent or charge.";
            return Err(Reply::invalid(400, invalid_request(Some("parameter_missing"), None, message)));
        };
        let of_charge = |charge: &crate::sandbox::stripe::objects::Charge| charge.id == charge_id;
        let found = self.intents.values().find(|intent| intent.charge.as_ref().is_some_and(of_charge));
        found.map(|intent| intent.id.clone()).ok_or_else(|| missing("charge", charge_id, "charge"))
    }

    pub(super) fn get_refund(&self, id: &str) -> Reply {
        match self.refunds.get(id) {
            Some(refund) => Reply::ok(&refund.show()),
            None => missing("refund", id, "id"),
        }
    }

    pub(super) fn list_refunds(&self, context: &Context<'_>) -> Reply {
        let from = context.get("created[gte]").and_then(|value| value.parse::<i64>().ok());
        let ids = match context.get("payment_intent") {
            Some(intent_id) => self.refunds_by_intent.get(intent_id).map_or(&[][..], Vec::as_slice),
            None => self.refund_order.as_slice(),
        };
        let newest_first = ids
            .iter()
            .rev()
            .filter_map(|id| self.refunds.get(id))
            // In order of their time, so that the first one before the range ends the search.
            .take_while(|refund| from.is_none_or(|from| refund.created.unix_s() >= from))
            .map(|refund| (refund.id.as_str(), refund));
        match page_of(context, newest_first) {
            Ok((refunds, has_more)) => {
                let data: Vec<Value> = refunds.into_iter().map(Refund::show).collect();
                Reply::ok(&json!({ "object": "list", "url": "/v1/refunds", "has_more": has_more, "data": data }))
            }
            Err(reply) => reply,
        }
    }
}

/// An amount as Stripe's messages show it.
fn shown(amount: i64, currency: Currency) -> String {
    if currency == Currency::USD {
        return format!("${}.{:02}", amount / 100, amount % 100);
    }
    match money_of(amount, currency) {
        Ok(money) => format!("{} {}", money.decimal(), currency.code().to_ascii_lowercase()),
        Err(_) => format!("{amount} {}", currency.code().to_ascii_lowercase()),
    }
}
