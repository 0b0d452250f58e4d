//! Authorizations, captures and refunds in the PayPal emulator.

use std::time::Duration;

use crate::domain::money::Money;
use crate::domain::time::Timestamp;
use crate::sandbox::OBJECTS_MAX;
use crate::sandbox::ledger::{LedgerEntry, LedgerOperation};
use crate::sandbox::paypal::objects::{
    AUTHORIZATION_LIFETIME, Authorization, Capture, Means, Names, Order, Refund, money_in,
};
use crate::sandbox::paypal::reply::{Made, Reply, full, not_found, unprocessable};
use crate::sandbox::paypal::{Context, Due, State};

/// An authorization can be replaced by a new one only after this.
const REAUTHORIZED_AFTER: Duration = Duration::from_secs(3 * 24 * 60 * 60);

impl Authorization {
    pub(super) fn new(id: String, order: &Order, status: &'static str, now: Timestamp) -> Self {
        Self {
            id,
            order_id: order.id.clone(),
            status,
            money: order.money,
            names: order.names.clone(),
            captured_minor: 0,
            created: now,
            expires: now.plus(AUTHORIZATION_LIFETIME),
            is_expired: false,
            parent: None,
            child: None,
        }
    }
}

impl State {
    /// Holds money, now or once it has settled.
    pub(super) fn add_authorization(&mut self, authorization: Authorization, now: Timestamp) {
        let id = authorization.id.clone();
        self.due.insert((authorization.expires, Due::Expire(id.clone())));
        let is_pending = authorization.status == "PENDING";
        self.authorizations.insert(id.clone(), authorization);
        if is_pending {
            self.due.insert((now.plus(self.settle_after), Due::Authorize(id)));
        } else {
            self.held(&id, now);
        }
    }

    /// The money is held.
    pub(super) fn held(&mut self, id: &str, at: Timestamp) {
        let Some(authorization) = self.authorizations.get_mut(id) else { return };
        authorization.status = "CREATED";
        let authorization = authorization.clone();
        self.write(LedgerOperation::Hold, id, &authorization.names, authorization.money, at);
        let shown = authorization.show(&self.base_url);
        self.tell("PAYMENT.AUTHORIZATION.CREATED", "authorization", shown, at);
    }

    pub(super) fn get_authorization(&self, id: &str, context: &Context<'_>) -> Reply {
        match self.authorizations.get(id) {
            Some(authorization) => Reply::new(200, authorization.show(context.base_url)),
            None => not_found(),
        }
    }

    pub(super) fn capture(&mut self, id: &str, context: &Context<'_>) -> Reply {
        let Some(authorization) = self.authorizations.get(id).cloned() else { return not_found() };
        let issue = match authorization.status {
            "VOIDED" if authorization.is_expired => Some("AUTHORIZATION_EXPIRED"),
            "VOIDED" => Some("AUTHORIZATION_VOIDED"),
            "CAPTURED" => Some("AUTHORIZATION_ALREADY_CAPTURED"),
            "PENDING" => Some("TRANSACTION_REFUSED"),
            // What was replaced holds nothing any more.
            _ if authorization.child.is_some() => Some("TRANSACTION_REFUSED"),
            _ => None,
        };
        if let Some(issue) = issue {
            return unprocessable(issue);
        }
        let money = match context.body.get("amount").map(money_in) {
            None => authorization.left(),
            Some(Ok(money)) => money,
            Some(Err(issue)) => return unprocessable(issue),
        };
        if money.currency != authorization.money.currency {
            return unprocessable("AUTH_CAPTURE_CURRENCY_MISMATCH");
        }
        if money.amount_minor > authorization.left().amount_minor {
            return unprocessable("MAX_CAPTURE_AMOUNT_EXCEEDED");
        }
        if self.captures.len() >= OBJECTS_MAX {
            return full();
        }
        let means = self.orders.get(&authorization.order_id).and_then(|order| order.means.clone());
        let declined = means == Some(Means::CaptureDeclined);
        let waits = means == Some(Means::Processing);
        let is_final = context.body["final_capture"].as_bool().unwrap_or(false);
        let own = Names::in_body(context.body);
        let capture = Capture {
            id: self.new_id(),
            order_id: authorization.order_id.clone(),
            authorization_id: Some(authorization.id.clone()),
            status: if declined {
                "DECLINED"
            } else if waits {
                "PENDING"
            } else {
                "COMPLETED"
            },
            money,
            names: Names { invoice_id: own.invoice_id, ..authorization.names.clone() },
            is_final,
            refunded_minor: 0,
            created: context.now,
        };
        let capture_id = capture.id.clone();
        if !declined {
            self.used_up(&authorization, money, is_final);
        }
        self.add_capture(capture, context.now);
        let shown = self.captures.get(&capture_id).map(|capture| capture.show(context.base_url));
        Reply::making(201, shown.unwrap_or_default(), Made::Capture(capture_id))
    }

    /// What a capture leaves of an authorization, and of the one that it has replaced.
    fn used_up(&mut self, authorization: &Authorization, money: Money, is_final: bool) {
        let all = is_final || money.amount_minor == authorization.left().amount_minor;
        let status = if all { "CAPTURED" } else { "PARTIALLY_CAPTURED" };
        for id in [Some(&authorization.id), authorization.parent.as_ref()].into_iter().flatten() {
            if let Some(authorization) = self.authorizations.get_mut(id) {
                authorization.captured_minor += money.amount_minor;
                authorization.status = status;
            }
        }
    }

    /// Takes money, now or once it has settled.
    pub(super) fn add_capture(&mut self, capture: Capture, now: Timestamp) {
        let (id, status) = (capture.id.clone(), capture.status);
        self.captures_by_order.entry(capture.order_id.clone()).or_default().push(id.clone());
        let shown = capture.show(&self.base_url);
        self.captures.insert(id.clone(), capture);
        match status {
            "COMPLETED" => self.taken(&id, now),
            "PENDING" => {
                self.due.insert((now.plus(self.settle_after), Due::Capture(id)));
                self.tell("PAYMENT.CAPTURE.PENDING", "capture", shown, now);
            }
            _ => self.tell("PAYMENT.CAPTURE.DECLINED", "capture", shown, now),
        }
    }

    /// The money was taken.
    pub(super) fn taken(&mut self, id: &str, at: Timestamp) {
        let Some(capture) = self.captures.get_mut(id) else { return };
        capture.status = "COMPLETED";
        let capture = capture.clone();
        let operation =
            if capture.authorization_id.is_some() { LedgerOperation::Capture } else { LedgerOperation::Charge };
        self.write(operation, id, &capture.names, capture.money, at);
        let shown = capture.show(&self.base_url);
        self.tell("PAYMENT.CAPTURE.COMPLETED", "capture", shown, at);
    }

    pub(super) fn void(&mut self, id: &str, context: &Context<'_>) -> Reply {
        let Some(authorization) = self.authorizations.get(id).cloned() else { return not_found() };
        let issue = match authorization.status {
            "VOIDED" => Some("PREVIOUSLY_VOIDED"),
            "CAPTURED" => Some("PREVIOUSLY_CAPTURED"),
            _ if authorization.parent.is_some() => Some("CANNOT_BE_VOIDED"),
            _ => None,
        };
        if let Some(issue) = issue {
            return unprocessable(issue);
        }
        self.let_go(id, false, context.now);
        let wants_all = context.prefer == Some("return=representation");
        let shown = self.authorizations.get(id).map(|authorization| authorization.show(context.base_url));
        match shown.filter(|_| wants_all) {
            Some(shown) => Reply::new(200, shown),
            None => Reply::new(204, serde_json::Value::Null),
        }
    }

    /// Nothing is held any more, by this authorization and the one that has replaced it.
    pub(super) fn let_go(&mut self, id: &str, is_expired: bool, at: Timestamp) {
        let Some(authorization) = self.authorizations.get(id).cloned() else { return };
        let is_open = |status: &str| matches!(status, "CREATED" | "PENDING" | "PARTIALLY_CAPTURED");
        if !is_open(authorization.status) || authorization.parent.is_some() {
            return;
        }
        for id in [Some(&authorization.id), authorization.child.as_ref()].into_iter().flatten() {
            if let Some(authorization) = self.authorizations.get_mut(id) {
                authorization.status = "VOIDED";
                authorization.is_expired = is_expired;
            }
        }
        // What never came to be held is let go without a line.
        if authorization.status != "PENDING" {
            self.write(LedgerOperation::Void, id, &authorization.names, authorization.left(), at);
        }
        if let Some(shown) = self.authorizations.get(id).map(|authorization| authorization.show(&self.base_url)) {
            self.tell("PAYMENT.AUTHORIZATION.VOIDED", "authorization", shown, at);
        }
    }

    pub(super) fn reauthorize(&mut self, id: &str, context: &Context<'_>) -> Reply {
        let Some(authorization) = self.authorizations.get(id).cloned() else { return not_found() };
        if authorization.parent.is_some() || authorization.child.is_some() {
            return unprocessable("REAUTHORIZATION_NOT_SUPPORTED");
        }
        match authorization.status {
            "CREATED" => {}
            "VOIDED" => return unprocessable("AUTHORIZATION_VOIDED"),
            _ => return unprocessable("REAUTHORIZATION_NOT_SUPPORTED"),
        }
        if context.now.since(authorization.created) < REAUTHORIZED_AFTER {
            return unprocessable("REAUTHORIZATION_TOO_SOON");
        }
        match context.body.get("amount").map(money_in) {
            Some(Err(issue)) => return unprocessable(issue),
            Some(Ok(money)) if money != authorization.money => {
                return unprocessable("AUTHORIZATION_AMOUNT_EXCEEDED");
            }
            _ => {}
        }
        let child = Authorization {
            id: self.new_id(),
            created: context.now,
            parent: Some(authorization.id.clone()),
            ..authorization
        };
        if let Some(authorization) = self.authorizations.get_mut(id) {
            authorization.child = Some(child.id.clone());
        }
        let (child_id, shown) = (child.id.clone(), child.show(context.base_url));
        self.authorizations.insert(child_id.clone(), child);
        Reply::making(201, shown, Made::Authorization(child_id))
    }

    pub(super) fn get_capture(&self, id: &str, context: &Context<'_>) -> Reply {
        match self.captures.get(id) {
            Some(capture) => Reply::new(200, capture.show(context.base_url)),
            None => not_found(),
        }
    }

    pub(super) fn refund(&mut self, id: &str, context: &Context<'_>) -> Reply {
        let Some(capture) = self.captures.get(id).cloned() else { return not_found() };
        match capture.status {
            "COMPLETED" | "PARTIALLY_REFUNDED" => {}
            "REFUNDED" => return unprocessable("CAPTURE_FULLY_REFUNDED"),
            "PENDING" => return unprocessable("PENDING_CAPTURE"),
            _ => return unprocessable("CAPTURE_STATUS_NOT_VALID"),
        }
        let left = Money::new(capture.money.amount_minor - capture.refunded_minor, capture.money.currency);
        let money = match context.body.get("amount").map(money_in) {
            None => left,
            Some(Ok(money)) => money,
            Some(Err(issue)) => return unprocessable(issue),
        };
        if money.currency != left.currency {
            return unprocessable("CURRENCY_MISMATCH");
        }
        if money.amount_minor > left.amount_minor {
            return unprocessable("REFUND_AMOUNT_EXCEEDED");
        }
        if self.refunds.len() >= OBJECTS_MAX {
            return full();
        }
        if let Some(capture) = self.captures.get_mut(id) {
            capture.refunded_minor += money.amount_minor;
            capture.status = if money == left { "REFUNDED" } else { "PARTIALLY_REFUNDED" };
        }
        let refund = Refund {
            id: self.new_id(),
            capture_id: id.to_owned(),
            money,
            names: Names::in_body(context.body),
            created: context.now,
        };
        self.write(LedgerOperation::Refund, &refund.id, &capture.names, money, context.now);
        let (refund_id, shown) = (refund.id.clone(), refund.show(context.base_url));
        self.refunds.insert(refund_id.clone(), refund);
        self.tell("PAYMENT.CAPTURE.REFUNDED", "refund", shown.clone(), context.now);
        Reply::making(201, shown, Made::Refund(refund_id))
    }

    pub(super) fn get_refund(&self, id: &str, context: &Context<'_>) -> Reply {
        match self.refunds.get(id) {
            Some(refund) => Reply::new(200, refund.show(context.base_url)),
            None => not_found(),
        }
    }

    fn write(&mut self, operation: LedgerOperation, id: &str, names: &Names, money: Money, at: Timestamp) {
        self.ledger.push(LedgerEntry::new(operation, id, names.reference(), money, at));
    }
}
