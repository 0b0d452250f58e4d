//! Orders in the PayPal emulator.

use serde_json::Value;

use crate::domain::time::Timestamp;
use crate::sandbox::OBJECTS_MAX;
use crate::sandbox::page::Visit;
use crate::sandbox::paypal::objects::{Authorization, Capture, Intent, Means, Names, Order, means_of, money_in};
use crate::sandbox::paypal::reply::{Made, Reply, Step, full, internal_error, invalid, not_found, unprocessable};
use crate::sandbox::paypal::{Context, State};

/// Longest names that PayPal takes.
const NAME_LENGTH_MAX: usize = 127;

impl State {
    pub(super) fn create_order(&mut self, context: &Context<'_>) -> Step {
        let order = match self.new_order(context) {
            Ok(order) => order,
            Err(reply) => return Step::Done(reply),
        };
        match order.means.clone() {
            None => Step::Done(self.keep_order(order, context)),
            Some(Means::ActionRequired) => Step::Done(self.keep_order(order, context)),
            Some(Means::Timeout) => Step::Held,
            Some(Means::Error) => Step::Done(Reply { made: Some(Made::Nothing), ..internal_error() }),
            Some(Means::Declined(issue)) => Step::Done(unprocessable(&issue)),
            Some(Means::Approved | Means::LostResponse) if context.draw.decline => {
                Step::Done(unprocessable("INSTRUMENT_DECLINED"))
            }
            Some(Means::Approved | Means::CaptureDeclined | Means::Processing) => {
                Step::Done(self.complete(order, context))
            }
            Some(Means::LostResponse) => Step::Lost(self.complete(order, context)),
        }
    }

    fn new_order(&self, context: &Context<'_>) -> Result<Order, Reply> {
        let body = context.body;
        let intent = match body["intent"].as_str() {
            Some("CAPTURE") => Intent::Capture,
            Some("AUTHORIZE") => Intent::Authorize,
            _ => return Err(invalid("INVALID_PARAMETER_VALUE", "/intent")),
        };
        let [unit] = body["purchase_units"].as_array().map_or(&[][..], Vec::as_slice) else {
            return Err(invalid("INVALID_ARRAY_MAX_ITEMS", "/purchase_units"));
        };
        let money = money_in(&unit["amount"]).map_err(unprocessable)?;
        let names = Names::in_body(unit);
        if [&names.custom_id, &names.invoice_id].into_iter().flatten().any(|name| name.len() > NAME_LENGTH_MAX) {
            return Err(invalid("INVALID_STRING_LENGTH", "/purchase_units/@reference_id=='default'/custom_id"));
        }
        let source = &body["payment_source"];
        let token = source["paypal"]["vault_id"].as_str().or(source["card"]["vault_id"].as_str());
        let means = match token {
            None => None,
            Some(token) => Some(means_of(token).ok_or_else(|| unprocessable("TOKEN_ID_NOT_FOUND"))?),
        };
        if self.orders.len() >= OBJECTS_MAX {
            return Err(full());
        }
        let status = if source.is_object() { "PAYER_ACTION_REQUIRED" } else { "CREATED" };
        let (id, created) = (self.new_id(), context.now);
        Ok(Order { id, intent, status, money, names, means, authorization_id: None, created })
    }

    /// Takes the money, or holds it.
    fn complete(&mut self, mut order: Order, context: &Context<'_>) -> Reply {
        if let Err(reply) = self.take_invoice(&order) {
            return reply;
        }
        order.status = "COMPLETED";
        let waits = order.means == Some(Means::Processing);
        match order.intent {
            Intent::Capture => {
                let status = match order.means {
                    Some(Means::CaptureDeclined) => "DECLINED",
                    _ if waits => "PENDING",
                    _ => "COMPLETED",
                };
                let capture = Capture {
                    id: self.new_id(),
                    order_id: order.id.clone(),
                    authorization_id: None,
                    status,
                    money: order.money,
                    names: order.names.clone(),
                    is_final: true,
                    refunded_minor: 0,
                    created: context.now,
                };
                let order = order.clone();
                self.orders.insert(order.id.clone(), order);
                self.add_capture(capture, context.now);
            }
            Intent::Authorize => {
                let status = if waits { "PENDING" } else { "CREATED" };
                let authorization = Authorization::new(self.new_id(), &order, status, context.now);
                order.authorization_id = Some(authorization.id.clone());
                self.orders.insert(order.id.clone(), order.clone());
                self.add_authorization(authorization, context.now);
            }
        }
        self.keep_order(order, context)
    }

    /// An invoice is paid once.
    fn take_invoice(&mut self, order: &Order) -> Result<(), Reply> {
        let Some(invoice_id) = &order.names.invoice_id else { return Ok(()) };
        match self.invoices.get(invoice_id) {
            Some(paid_by) if *paid_by != order.id => Err(unprocessable("DUPLICATE_INVOICE_ID")),
            _ => {
                self.invoices.insert(invoice_id.clone(), order.id.clone());
                Ok(())
            }
        }
    }

    fn keep_order(&mut self, order: Order, context: &Context<'_>) -> Reply {
        let id = order.id.clone();
        self.orders.insert(id.clone(), order);
        let shown = self.show_order(&id, context.base_url).unwrap_or_default();
        Reply::making(201, shown, Made::Order(id))
    }

    /// An order with everything that was done for it.
    pub(super) fn show_order(&self, id: &str, base_url: &str) -> Option<Value> {
        let order = self.orders.get(id)?;
        let authorizations: Vec<&Authorization> =
            order.authorization_id.iter().filter_map(|id| self.authorizations.get(id)).collect();
        let captures: Vec<&Capture> = self
            .captures_by_order
            .get(id)
            .map(|ids| ids.iter().filter_map(|id| self.captures.get(id)).collect())
            .unwrap_or_default();
        Some(order.show(&authorizations, &captures, base_url))
    }

    pub(super) fn get_order(&self, id: &str, context: &Context<'_>) -> Reply {
        self.show_order(id, context.base_url).map_or_else(not_found, |shown| Reply::new(200, shown))
    }

    /// Captures or authorizes an order that its payer has approved.
    pub(super) fn finish_order(&mut self, id: &str, intent: Intent, context: &Context<'_>) -> Reply {
        let Some(order) = self.orders.get(id).cloned() else { return not_found() };
        if order.intent != intent {
            return unprocessable("ACTION_DOES_NOT_MATCH_INTENT");
        }
        match (order.status, intent) {
            ("APPROVED", _) if context.draw.decline => unprocessable("INSTRUMENT_DECLINED"),
            ("APPROVED", _) => self.complete(order, context),
            ("COMPLETED", Intent::Capture) => unprocessable("ORDER_ALREADY_CAPTURED"),
            ("COMPLETED", Intent::Authorize) => unprocessable("ORDER_ALREADY_AUTHORIZED"),
            ("VOIDED", _) => unprocessable("ORDER_COMPLETED_OR_VOIDED"),
            _ => unprocessable("ORDER_NOT_APPROVED"),
        }
    }

    /// A payer's visit: how the order stands after it, and whether it still waits for the payer.
    pub(super) fn visit(
        &mut self,
        id: &str,
        visit: Visit,
        base_url: &str,
        now: Timestamp,
    ) -> (Option<&'static str>, bool) {
        let Some(order) = self.orders.get_mut(id) else { return (None, false) };
        if matches!(order.status, "CREATED" | "PAYER_ACTION_REQUIRED") {
            match visit {
                Visit::Look => {}
                Visit::Approve => order.status = "APPROVED",
                Visit::Decline => order.status = "VOIDED",
            }
            let status = order.status;
            if status == "APPROVED" {
                let shown = self.show_order(id, base_url).unwrap_or_default();
                self.tell("CHECKOUT.ORDER.APPROVED", "checkout-order", shown, now);
            }
            return (Some(status), matches!(status, "CREATED" | "PAYER_ACTION_REQUIRED"));
        }
        (Some(order.status), false)
    }
}
