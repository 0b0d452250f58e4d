//! Held money in the Stripe emulator: PaymentIntents that are captured by hand.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::sandbox::ledger::{LedgerEntry, LedgerOperation};
use crate::sandbox::stripe::intents::unexpected_state;
use crate::sandbox::stripe::objects::{CaptureMethod, Charge, Expansion, Intent, money_of};
use crate::sandbox::stripe::reply::{Reply, bad_parameter, invalid_request, missing};
use crate::sandbox::stripe::{Context, State};

/// How long a hold lives.
const HOLD_LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// The same where the payer was away: some card networks allow no more.
const HOLD_LIFETIME_OFF_SESSION: Duration = Duration::from_secs(4 * 86_400 + 18 * 3_600);
/// Parameters of a capture, without what is in brackets.
const CAPTURE_PARAMETERS: &[&str] =
    &["amount_to_capture", "expand", "final_capture", "metadata", "statement_descriptor_suffix"];

impl State {
    /// Holds the money.
    pub(super) fn hold(&mut self, intent: &mut Intent, now: Timestamp) {
        let lifetime = if intent.off_session { HOLD_LIFETIME_OFF_SESSION } else { HOLD_LIFETIME };
        let capture_before = now.plus(lifetime);
        intent.status = "requires_capture";
        intent.charge = Some(Charge {
            id: self.new_id("ch_"),
            paid: true,
            captured: 0,
            refunded: 0,
            capture_before: Some(capture_before),
        });
        self.due.insert((capture_before, intent.id.clone()));
        self.write(LedgerOperation::Hold, intent, intent.amount, now);
        self.tell_of_charge("charge.succeeded", intent, now);
        self.tell_of_intent("payment_intent.amount_capturable_updated", intent, now);
    }

    /// Releases what nobody has captured in time.
    pub(super) fn expire(&mut self, intent: &mut Intent, now: Timestamp) {
        self.end_unpaid(intent, Some("automatic"), now);
        self.tell_of_charge("charge.expired", intent, now);
        self.tell_of_intent("payment_intent.canceled", intent, now);
    }

    /// Ends a PaymentIntent of which nothing was taken, and releases what it holds.
    pub(super) fn end_unpaid(&mut self, intent: &mut Intent, reason: Option<&str>, now: Timestamp) {
        if intent.status == "requires_capture" {
            self.write(LedgerOperation::Void, intent, intent.amount, now);
        }
        intent.status = "canceled";
        intent.cancellation_reason = reason.map(str::to_owned);
        intent.canceled_at = Some(now);
    }

    pub(super) fn capture_intent(&mut self, id: &str, context: &Context<'_>) -> Reply {
        match self.try_capture(id, context) {
            Ok(reply) | Err(reply) => reply,
        }
    }

    fn try_capture(&mut self, id: &str, context: &Context<'_>) -> Result<Reply, Reply> {
        let known = |name: &str| CAPTURE_PARAMETERS.contains(&name.split('[').next().unwrap_or(name));
        if let Some((name, _)) = context.parameters.iter().find(|(name, _)| !known(name)) {
            let message = format!("Received unknown parameter: {name}");
            return Err(bad_parameter("parameter_unknown", name, &message));
        }
        let asked_for = amount_asked_for(context)?;
        let mut intent = self.intents.get(id).cloned().ok_or_else(|| missing("payment_intent", id, "intent"))?;
        if intent.status != "requires_capture" {
            return Err(not_capturable(&intent));
        }
        if context.get("final_capture") == Some("false") {
            let message = "This PaymentIntent does not support multiple captures.";
            return Err(Reply::refused(400, invalid_request(None, Some("final_capture"), message)));
        }
        let amount = asked_for.unwrap_or(intent.amount);
        money_of(amount, intent.currency)
            .map_err(|(code, message)| bad_parameter(code, "amount_to_capture", message))?;
        if amount > intent.amount {
            let message = "The amount to capture is greater than the amount that is capturable.";
            let error = invalid_request(Some("amount_too_large"), Some("amount_to_capture"), message);
            return Err(Reply::refused(400, error));
        }
        intent.status = "succeeded";
        intent.metadata.extend(context.map("metadata"));
        if let Some(charge) = &mut intent.charge {
            charge.captured = amount;
        }
        self.write(LedgerOperation::Capture, &intent, amount, context.now);
        self.tell_of_charge("charge.captured", &intent, context.now);
        self.tell_of_intent("payment_intent.succeeded", &intent, context.now);
        self.tell_of_dispute(&intent, context.now);
        Ok(self.keep(intent, context))
    }

    /// Writes into the ledger what was done with so much, as Stripe counts it, of a PaymentIntent's money.
    pub(super) fn write(&mut self, operation: LedgerOperation, intent: &Intent, amount: i64, now: Timestamp) {
        let money = money_of(amount, intent.currency).unwrap_or(intent.money());
        self.ledger.push(LedgerEntry::new(operation, &intent.id, intent.reference(), money, now));
    }
}

/// The amount to capture; `None` for all of it.
fn amount_asked_for(context: &Context<'_>) -> Result<Option<i64>, Reply> {
    let Some(text) = context.get("amount_to_capture") else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(0) => {
            let message = "This value must be greater than or equal to 1.";
            Err(bad_parameter("parameter_invalid_integer", "amount", message))
        }
        Ok(amount) if amount > 0 => Ok(Some(amount)),
        _ => Err(bad_parameter("parameter_invalid_integer", "amount_to_capture", "Invalid non-negative integer")),
    }
}

/// Why there is nothing to capture.
fn not_capturable(intent: &Intent) -> Reply {
    let message = match &intent.charge {
        Some(charge) if intent.capture == CaptureMethod::Manual && (1..intent.amount).contains(&charge.captured) => {
            "The remaining amount on this PaymentIntent could not be captured because the remainder of the authorized \
             amount has been released."
        }
        Some(charge) if charge.captured > 0 => {
            "This PaymentIntent could not be captured because it has already been captured."
        }
        _ => return unexpected_state(intent, "captured", &["requires_capture"]),
    };
    let mut error = invalid_request(Some("payment_intent_unexpected_state"), None, message);
    error["payment_intent"] = intent.show(Expansion::default());
    Reply::refused(400, error)
}
