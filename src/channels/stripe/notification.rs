//! What Stripe sends of its own accord. Its signature is over the body exactly as it arrived; what it is about is read only
//! after that, and nothing of amounts or states is.

use std::collections::BTreeMap;
use std::time::Duration;

use ring::hmac;
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;

use crate::channels::stripe::response::{Expandable, PaymentIntent, Reply, read};
use crate::channels::stripe::{ATTEMPT_KEY, MERCHANT_KEY, REFERENCE_KEY, StripeChannel};
use crate::channels::{DisputeHint, Inbound, ListError, Notification, NotificationRefusal, Subject};
use crate::domain::time::Timestamp;

/// How far the time of a signature may be from ours.
const TOLERANCE: Duration = Duration::from_secs(300);
/// Longest id of an event; Stripe's have some thirty characters.
const ID_BYTES_MAX: usize = 128;

/// An event, as far as it matters here.
#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    livemode: bool,
    /// Whose account it is about, on events of accounts that are connected to another one.
    #[serde(default)]
    account: Option<String>,
    data: EventData,
}

#[derive(Deserialize)]
struct EventData {
    object: Value,
}

/// Kinds of objects that matter here. The others may have any shape.
const KINDS: [&str; 4] = ["payment_intent", "charge", "refund", "dispute"];

/// What happened to something that matters here.
#[derive(Default, Deserialize)]
struct EventObject {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    payment_intent: Option<Expandable<Named>>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

/// An object of which only the name matters.
#[derive(Clone, Debug, Deserialize)]
struct Named {
    id: String,
}

impl StripeChannel {
    pub(super) fn read_notification(&self, inbound: &Inbound) -> Result<Notification, NotificationRefusal> {
        let secret = self.webhook_secret.as_ref().ok_or(NotificationRefusal::NotSupported)?;
        let signed_at = verified(secret, inbound)?;
        let now = inbound.received_at;
        if now.since(signed_at).max(signed_at.since(now)) > TOLERANCE {
            return Err(NotificationRefusal::Stale);
        }
        let event: Event =
            serde_json::from_slice(&inbound.body).map_err(|_| NotificationRefusal::Malformed("it is no event"))?;
        if event.id.is_empty() || event.id.len() > ID_BYTES_MAX {
            return Err(NotificationRefusal::Malformed("its id is empty or too long"));
        }
        if self.livemode.is_some_and(|livemode| livemode != event.livemode) {
            return Err(NotificationRefusal::WrongMode);
        }
        // Those of our own account name none.
        if event.account.is_some() {
            return Err(NotificationRefusal::WrongAccount);
        }
        let matters = event.data.object["object"].as_str().is_some_and(|kind| KINDS.contains(&kind));
        let object = if matters {
            serde_json::from_value::<EventObject>(event.data.object)
                .map_err(|_| NotificationRefusal::Malformed("its object can't be read"))?
        } else {
            EventObject::default()
        };
        let dispute = match (&object.id, object.object.as_deref()) {
            (Some(id), Some("dispute")) => Some(DisputeHint { dispute_no: id.clone() }),
            _ => None,
        };
        Ok(Notification { id: event.id, event: event.kind, subjects: object.subject().into_iter().collect(), dispute })
    }
}

impl StripeChannel {
    /// The names that we gave a PaymentIntent: a dispute names it by its number alone.
    pub(super) async fn look_up_names(&self, provider_no: &str) -> Result<Option<Subject>, ListError> {
        let answer = self.client.get_intent(provider_no, self.client.deadline()).await;
        let answer = answer.map_err(|error| ListError::Failed(error.to_string()))?;
        match read::<PaymentIntent>(&answer) {
            Ok(Reply::Object(mut intent)) if intent.id == provider_no => {
                let subject = Subject {
                    reference: intent.metadata.remove(REFERENCE_KEY),
                    merchant_id: intent.metadata.remove(MERCHANT_KEY),
                    provider_key: intent.metadata.remove(ATTEMPT_KEY),
                    provider_no: Some(intent.id),
                };
                Ok(Some(subject).filter(|subject| subject.reference.is_some()))
            }
            Ok(Reply::Object(_)) => Err(ListError::Failed("Stripe answered about another PaymentIntent".to_owned())),
            Ok(Reply::Error(reply)) if reply.status == 404 => Ok(None),
            Ok(Reply::Error(reply)) => Err(ListError::Failed(format!("Stripe answered with status {}", reply.status))),
            Err(reason) => Err(ListError::Failed(reason)),
        }
    }
}

impl EventObject {
    /// What it is about: always the PaymentIntent, whose numbers are known here.
    fn subject(self) -> Option<Subject> {
        let provider_no = match self.object.as_deref() {
            Some("payment_intent") => self.id,
            Some("charge" | "refund" | "dispute") => self.payment_intent.map(|intent| match intent {
                Expandable::Object(intent) => intent.id,
                Expandable::Id(id) => id,
            }),
            _ => return None,
        };
        let mut metadata = self.metadata.unwrap_or_default();
        let subject = Subject {
            reference: metadata.remove(REFERENCE_KEY),
            merchant_id: metadata.remove(MERCHANT_KEY),
            provider_key: metadata.remove(ATTEMPT_KEY),
            provider_no,
        };
        (subject.reference.is_some() || subject.provider_no.is_some()).then_some(subject)
    }
}

/// When the body was signed, if one of its signatures was made with `secret`.
fn verified(secret: &str, inbound: &Inbound) -> Result<Timestamp, NotificationRefusal> {
    let header = inbound.header("stripe-signature").ok_or(NotificationRefusal::Signature("there is none"))?;
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let signed_at = parts().find(|(name, _)| *name == "t").map(|(_, value)| value);
    let signed_at = signed_at.ok_or(NotificationRefusal::Signature("it names no time"))?;
    let mut message = Vec::with_capacity(signed_at.len() + 1 + inbound.body.len());
    message.extend_from_slice(signed_at.as_bytes());
    message.push(b'.');
    message.extend_from_slice(&inbound.body);
    // Compared in a time that says nothing about where they differ. While a secret is replaced there are two.
    let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &message);
    let is_right = |signature: &str| {
        hex::decode(signature).is_ok_and(|signature| bool::from(signature.as_slice().ct_eq(expected.as_ref())))
    };
    if !parts().any(|(name, value)| name == "v1" && is_right(value)) {
        return Err(NotificationRefusal::Signature("no signature of the current scheme fits"));
    }
    let signed_at_s = signed_at.parse().map_err(|_| NotificationRefusal::Signature("its time is no number"))?;
    Ok(Timestamp::from_unix_s(signed_at_s))
}
