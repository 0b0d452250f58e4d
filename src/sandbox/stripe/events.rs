//! What the Stripe emulator sends of its own accord: events in the order in which things happened, signed when they leave.

use bytes::Bytes;
use ring::hmac;
use serde_json::{Value, json};

use crate::domain::time::Timestamp;
use crate::sandbox::credentials::STRIPE_WEBHOOK_SECRET;
use crate::sandbox::notify::Prepared;
use crate::sandbox::stripe::State;
use crate::sandbox::stripe::cards::Card;
use crate::sandbox::stripe::objects::{Expansion, Intent};

/// The version of the API that events are written in.
const API_VERSION: &str = "2026-08-26.dahlia";

/// Something that happened.
pub(super) struct Event {
    kind: &'static str,
    /// The object as it was then.
    object: Value,
    at: Timestamp,
}

impl State {
    /// Notes that something happened to an object.
    pub(super) fn tell(&mut self, kind: &'static str, object: Value, at: Timestamp) {
        self.events.push(Event { kind, object, at });
    }

    /// The same before what was noted from `index` on.
    pub(super) fn tell_at(&mut self, index: usize, kind: &'static str, object: Value, at: Timestamp) {
        self.events.insert(index.min(self.events.len()), Event { kind, object, at });
    }

    /// The same of a PaymentIntent.
    pub(super) fn tell_of_intent(&mut self, kind: &'static str, intent: &Intent, at: Timestamp) {
        self.tell(kind, intent.show(Expansion::default()), at);
    }

    /// The same of the charge of a PaymentIntent, if it has one.
    pub(super) fn tell_of_charge(&mut self, kind: &'static str, intent: &Intent, at: Timestamp) {
        if let Some(charge) = &intent.charge {
            self.tell(kind, intent.charge_object(charge, Expansion::default()), at);
        }
    }

    /// Notes that a card's bank claims back what was just taken, if it is such a card.
    pub(super) fn tell_of_dispute(&mut self, intent: &Intent, at: Timestamp) {
        let Some(charge) = intent.charge.as_ref().filter(|_| intent.card == Some(Card::Disputed)) else { return };
        let dispute = json!({
            "id": self.new_id("du_"),
            "object": "dispute",
            "amount": charge.captured,
            "charge": charge.id,
            "created": at.unix_s(),
            "currency": intent.currency.code().to_ascii_lowercase(),
            "livemode": false,
            "metadata": {},
            "payment_intent": intent.id,
            "reason": "fraudulent",
            "status": "needs_response",
        });
        self.tell("charge.dispute.created", dispute, at);
    }

    /// Signs what was not told yet and hands it to whoever sends it. What there is no room for is lost.
    pub(super) fn send_events(&mut self, now: Timestamp) {
        for event in std::mem::take(&mut self.events) {
            let body = json!({
                "id": self.new_id("evt_"),
                "object": "event",
                "api_version": API_VERSION,
                "created": event.at.unix_s(),
                "data": { "object": event.object },
                "livemode": false,
                "pending_webhooks": 1,
                "request": null,
                "type": event.kind,
            })
            .to_string();
            self.outbox.push(Prepared {
                channel: "stripe",
                url: None,
                content_type: "application/json",
                headers: vec![(String::from("stripe-signature"), signature_of(&body, now))],
                body: Bytes::from(body),
                taken_says: None,
                refusal_is_final: false,
                signed_at: now,
                again: None,
            });
        }
    }
}

/// The header that proves where a body comes from.
fn signature_of(body: &str, now: Timestamp) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, STRIPE_WEBHOOK_SECRET.as_bytes());
    let signature = hmac::sign(&key, format!("{}.{body}", now.unix_s()).as_bytes());
    format!("t={},v1={}", now.unix_s(), hex::encode(signature))
}
