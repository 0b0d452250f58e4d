//! PaymentIntents in the Stripe emulator.

use serde_json::{Value, json};

use crate::domain::money::{AMOUNT_MINOR_MAX, Currency};
use crate::domain::time::Timestamp;
use crate::sandbox::OBJECTS_MAX;
use crate::sandbox::ledger::LedgerOperation;
use crate::sandbox::page::Visit;
use crate::sandbox::stripe::cards::{Card, Decline, GENERIC, card_of};
use crate::sandbox::stripe::objects::{CaptureMethod, Charge, Expansion, Intent, money_of};
use crate::sandbox::stripe::reply::{Reply, bad_parameter, card_error, full, internal_error, invalid_request, missing};
use crate::sandbox::stripe::{Context, State, Step, page_of};

/// Parameters of a new PaymentIntent, without what is in brackets.
const CREATE_PARAMETERS: &[&str] = &[
    "amount",
    "automatic_payment_methods",
    "capture_method",
    "confirm",
    "confirmation_method",
    "currency",
    "description",
    "expand",
    "metadata",
    "off_session",
    "payment_method",
    "payment_method_data",
    "payment_method_types",
    "receipt_email",
    "return_url",
    "statement_descriptor_suffix",
];
/// Statuses in which a PaymentIntent can be confirmed.
const OPEN: &[&str] = &["requires_payment_method", "requires_confirmation", "requires_action"];
/// Statuses in which a PaymentIntent can be canceled.
const CANCELABLE: &[&str] =
    &["requires_payment_method", "requires_capture", "requires_confirmation", "requires_action"];
/// The payer did not approve.
const NOT_AUTHENTICATED: Decline = Decline {
    code: "payment_intent_authentication_failure",
    decline_code: "authentication_required",
    advice_code: None,
    network_decline_code: None,
    network_advice_code: None,
    message: "The provided PaymentMethod has failed authentication.",
};

impl State {
    pub(super) fn create_intent(&mut self, context: &Context<'_>) -> Step {
        match self.new_intent(context) {
            Ok(intent) if intent.card.is_some() && context.get("confirm") == Some("true") => {
                let (id, shown, told) = (intent.id.clone(), intent.show(Expansion::default()), self.events.len());
                let step = self.confirm(intent, context);
                // Before whatever came of it, and not at all if nothing did.
                if self.intents.contains_key(&id) {
                    self.tell_at(told, "payment_intent.created", shown, context.now);
                }
                step
            }
            Ok(intent) => {
                self.tell_of_intent("payment_intent.created", &intent, context.now);
                Step::Done(self.keep(intent, context))
            }
            Err(reply) => Step::Done(reply),
        }
    }

    fn new_intent(&self, context: &Context<'_>) -> Result<Intent, Reply> {
        let known = |name: &str| CREATE_PARAMETERS.contains(&name.split('[').next().unwrap_or(name));
        if let Some((name, _)) = context.parameters.iter().find(|(name, _)| !known(name)) {
            let message = format!("Received unknown parameter: {name}");
            return Err(bad_parameter("parameter_unknown", name, &message));
        }
        let capture = CaptureMethod::named(context.get("capture_method")).ok_or_else(|| {
            let message = "Invalid capture_method: must be one of automatic, automatic_async, or manual";
            bad_parameter("parameter_invalid_string", "capture_method", message)
        })?;
        let currency = required(context, "currency")?.to_ascii_uppercase();
        let currency: Currency = currency.parse().map_err(|_| {
            bad_parameter("invalid_currency", "currency", &format!("Invalid currency: {}", currency.to_lowercase()))
        })?;
        let amount: i64 = required(context, "amount")?.parse().ok().filter(|amount| *amount > 0).ok_or_else(|| {
            bad_parameter("parameter_invalid_integer", "amount", "This value must be greater than or equal to 1.")
        })?;
        if amount > AMOUNT_MINOR_MAX {
            return Err(bad_parameter("amount_too_large", "amount", "Amount must be no more than $9,999,999,999.99"));
        }
        money_of(amount, currency).map_err(|(code, message)| bad_parameter(code, "amount", message))?;
        let card = card_in(context)?;
        if context.get("confirm") == Some("true") && card.is_none() {
            let message = "You cannot confirm this PaymentIntent because it's missing a payment method.";
            return Err(Reply::invalid(400, invalid_request(Some("payment_intent_unexpected_state"), None, message)));
        }
        if self.intents.len() >= OBJECTS_MAX {
            return Err(full());
        }
        let id = self.new_id("pi_");
        Ok(Intent {
            client_secret: self.new_id(&format!("{id}_secret_")),
            id,
            amount,
            currency,
            status: if card.is_some() { "requires_confirmation" } else { "requires_payment_method" },
            capture,
            off_session: context.get("off_session") == Some("true"),
            base_url: context.base_url.to_owned(),
            card,
            metadata: context.map("metadata"),
            description: context.get("description").map(str::to_owned),
            receipt_email: context.get("receipt_email").map(str::to_owned),
            return_url: context.get("return_url").map(str::to_owned),
            last_payment_error: None,
            charge: None,
            cancellation_reason: None,
            canceled_at: None,
            created: context.now,
        })
    }

    pub(super) fn confirm_intent(&mut self, id: &str, context: &Context<'_>) -> Step {
        let Some(intent) = self.intents.get(id) else { return Step::Done(missing("payment_intent", id, "intent")) };
        if !OPEN.contains(&intent.status) {
            return Step::Done(unexpected_state(intent, "confirmed", OPEN));
        }
        let mut intent = intent.clone();
        match card_in(context) {
            Ok(Some(card)) => intent.card = Some(card),
            Ok(None) => {}
            Err(reply) => return Step::Done(reply),
        }
        if let Some(return_url) = context.get("return_url") {
            intent.return_url = Some(return_url.to_owned());
        }
        if context.get("off_session").is_some() {
            intent.off_session = context.get("off_session") == Some("true");
        }
        self.confirm(intent, context)
    }

    /// Tries to take or hold the money, and keeps what comes of it.
    fn confirm(&mut self, mut intent: Intent, context: &Context<'_>) -> Step {
        intent.last_payment_error = None;
        match intent.card {
            None => Step::Done(unexpected_state(&intent, "confirmed", OPEN)),
            Some(Card::Timeout) => Step::Held,
            Some(Card::Error) => Step::Done(internal_error()),
            Some(Card::Declined(decline)) => Step::Done(self.decline(intent, decline, context)),
            Some(Card::Approved | Card::Disputed | Card::LostResponse) if context.draw.decline => {
                Step::Done(self.decline(intent, GENERIC, context))
            }
            Some(Card::Approved | Card::Disputed) => {
                self.authorize(&mut intent, context.now);
                Step::Done(self.keep(intent, context))
            }
            Some(Card::LostResponse) => {
                self.authorize(&mut intent, context.now);
                Step::Lost(self.keep(intent, context))
            }
            Some(Card::ActionRequired) => {
                intent.status = "requires_action";
                self.tell_of_intent("payment_intent.requires_action", &intent, context.now);
                Step::Done(self.keep(intent, context))
            }
            Some(Card::Processing) => {
                intent.status = "processing";
                self.due.insert((context.now.plus(self.settle_after), intent.id.clone()));
                self.tell_of_intent("payment_intent.processing", &intent, context.now);
                Step::Done(self.keep(intent, context))
            }
        }
    }

    fn decline(&mut self, mut intent: Intent, decline: Decline, context: &Context<'_>) -> Reply {
        let mut error = self.fail(&mut intent, decline, context.now);
        error["payment_intent"] = intent.show(Expansion::default());
        self.keep(intent, context);
        Reply::refused(402, error)
    }

    /// Makes the attempt a failed one; the PaymentIntent waits for other means of payment.
    fn fail(&mut self, intent: &mut Intent, decline: Decline, now: Timestamp) -> Value {
        let charge = Charge { id: self.new_id("ch_"), paid: false, captured: 0, refunded: 0, capture_before: None };
        let error = card_error(decline, &charge.id);
        intent.status = "requires_payment_method";
        intent.card = None;
        intent.last_payment_error = Some(error.clone());
        intent.charge = Some(charge);
        self.tell_of_charge("charge.failed", intent, now);
        self.tell_of_intent("payment_intent.payment_failed", intent, now);
        error
    }

    /// The bank says yes: takes the money, or holds it.
    fn authorize(&mut self, intent: &mut Intent, now: Timestamp) {
        if intent.capture == CaptureMethod::Manual { self.hold(intent, now) } else { self.take(intent, now) }
    }

    /// Takes the money.
    fn take(&mut self, intent: &mut Intent, now: Timestamp) {
        intent.status = "succeeded";
        intent.charge = Some(Charge {
            id: self.new_id("ch_"),
            paid: true,
            captured: intent.amount,
            refunded: 0,
            capture_before: None,
        });
        self.write(LedgerOperation::Charge, intent, intent.amount, now);
        self.tell_of_charge("charge.succeeded", intent, now);
        self.tell_of_intent("payment_intent.succeeded", intent, now);
        self.tell_of_dispute(intent, now);
    }

    pub(super) fn keep(&mut self, intent: Intent, context: &Context<'_>) -> Reply {
        let reply = Reply::ok(&intent.show(context.expansion));
        if !self.intents.contains_key(&intent.id) {
            self.intent_order.push(intent.id.clone());
        }
        self.intents.insert(intent.id.clone(), intent);
        reply
    }

    /// Goes on with intents whose time has come: what is being processed settles, and what is held expires.
    pub(super) fn settle_due(&mut self, now: Timestamp) {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, id)) = self.due.pop_first() else { return };
            let Some(mut intent) = self.intents.get(&id).cloned() else { continue };
            match intent.status {
                "processing" => self.authorize(&mut intent, at),
                "requires_capture" => self.expire(&mut intent, at),
                _ => continue,
            }
            self.intents.insert(id, intent);
        }
    }

    pub(super) fn get_intent(&self, id: &str, context: &Context<'_>) -> Reply {
        match self.intents.get(id) {
            Some(intent) => Reply::ok(&intent.show(context.expansion)),
            None => missing("payment_intent", id, "intent"),
        }
    }

    pub(super) fn list_intents(&self, context: &Context<'_>) -> Reply {
        let bound = |name: &str| context.get(name).and_then(|value| value.parse::<i64>().ok());
        let (from, after) = (bound("created[gte]"), bound("created[gt]"));
        let (to, before) = (bound("created[lte]"), bound("created[lt]"));
        let newest_first = self
            .intent_order
            .iter()
            .rev()
            .filter_map(|id| self.intents.get(id))
            // In order of their time, so that the first one before the range ends the search.
            .take_while(|intent| from.is_none_or(|from| intent.created.unix_s() >= from))
            .take_while(|intent| after.is_none_or(|after| intent.created.unix_s() > after))
            .filter(|intent| to.is_none_or(|to| intent.created.unix_s() <= to))
            .filter(|intent| before.is_none_or(|before| intent.created.unix_s() < before))
            .map(|intent| (intent.id.as_str(), intent));
        match page_of(context, newest_first) {
            Ok((intents, has_more)) => {
                let data: Vec<Value> = intents.into_iter().map(|intent| intent.show(context.expansion)).collect();
                Reply::ok(&json!({
                    "object": "list", "url": "/v1/payment_intents", "has_more": has_more, "data": data,
                }))
            }
            Err(reply) => reply,
        }
    }

    pub(super) fn cancel_intent(&mut self, id: &str, context: &Context<'_>) -> Reply {
        let reason = context.get("cancellation_reason");
        if reason
            .is_some_and(|reason| !["duplicate", "fraudulent", "requested_by_customer", "abandoned"].contains(&reason))
        {
            return bad_parameter("parameter_invalid_string", "cancellation_reason", "Invalid cancellation_reason");
        }
        let Some(mut intent) = self.intents.get(id).cloned() else { return missing("payment_intent", id, "intent") };
        if !CANCELABLE.contains(&intent.status) {
            return unexpected_state(&intent, "canceled", CANCELABLE);
        }
        self.end_unpaid(&mut intent, reason, context.now);
        self.tell_of_intent("payment_intent.canceled", &intent, context.now);
        self.keep(intent, context)
    }

    /// A payer's visit: how the payment stands after it, and whether it still waits for the payer.
    pub(super) fn visit(&mut self, id: &str, visit: Visit, now: Timestamp) -> (Option<&'static str>, bool) {
        let Some(mut intent) = self.intents.get(id).cloned() else { return (None, false) };
        if intent.waits_for_payer() {
            match visit {
                Visit::Look => {}
                Visit::Approve => {
                    intent.last_payment_error = None;
                    self.authorize(&mut intent, now);
                }
                Visit::Decline => {
                    let decline = if intent.status == "requires_action" { NOT_AUTHENTICATED } else { GENERIC };
                    self.fail(&mut intent, decline, now);
                }
            }
        }
        let (status, waits) = (intent.status, intent.waits_for_payer());
        self.intents.insert(intent.id.clone(), intent);
        (Some(status), waits)
    }
}

fn required<'a>(context: &'a Context<'_>, name: &str) -> Result<&'a str, Reply> {
    context
        .get(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| bad_parameter("parameter_missing", name, &format!("Missing required param: {name}.")))
}

/// The card that a request brings: by token in `payment_method_data`, or as a test PaymentMethod.
fn card_in(context: &Context<'_>) -> Result<Option<Card>, Reply> {
    if let Some(token) = context.get("payment_method_data[card][token]") {
        let card = card_of(token).filter(|_| token.starts_with("tok_"));
        let missing = || bad_parameter("resource_missing", "payment_method_data[card][token]", "No such token");
        return card.map(Some).ok_or_else(missing);
    }
    let Some(method) = context.get("payment_method") else { return Ok(None) };
    let card = card_of(method).filter(|_| method.starts_with("pm_"));
    card.map(Some).ok_or_else(|| {
        bad_parameter("resource_missing", "payment_method", &format!("No such PaymentMethod: '{method}'"))
    })
}

/// Why it can't be `participle`, which it can in the `allowed` statuses only.
pub(super) fn unexpected_state(intent: &Intent, participle: &str, allowed: &[&str]) -> Reply {
    let message = format!(
        "This PaymentIntent cannot be {participle} because it has a status of {}. Only a PaymentIntent with one of the \
         following statuses may be {participle}: {}.",
        intent.status,
        allowed.join(", ")
    );
    let mut error = invalid_request(Some("payment_intent_unexpected_state"), None, &message);
    error["payment_intent"] = intent.show(Expansion::default());
    Reply::refused(400, error)
}
