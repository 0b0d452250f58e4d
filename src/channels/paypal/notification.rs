//! What PayPal sends of its own accord. Its signature covers the body by a checksum of 32 bits, so that nothing in it is
//! taken for more than a hint to ask.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::channels::paypal::PaypalChannel;
use crate::channels::paypal::certificate::{Allowance, Certificates, Verdict, allowed};
use crate::channels::paypal::request::reference_in;
use crate::channels::{DisputeHint, Inbound, Notification, NotificationRefusal, Subject};
use crate::domain::time::Timestamp;

/// PayPal sends a notification again for three days; a day more leaves room.
const AGE_MAX: Duration = Duration::from_secs(4 * 24 * 60 * 60);
/// How far PayPal's clock may be ahead of ours.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// Longest id of a notification.
const ID_LENGTH_MAX: usize = 128;
/// Things that one notification is about; ours are about one.
const SUBJECTS_MAX: usize = 8;
/// Notifications that PayPal is asked to check for us in a minute.
const CHECKS_PER_MINUTE: usize = 60;
/// How the events begin that are of interest here.
const EVENTS: [&str; 6] = [
    "CHECKOUT.ORDER.",
    "CHECKOUT.PAYMENT-APPROVAL.",
    "PAYMENT.AUTHORIZATION.",
    "PAYMENT.CAPTURE.",
    "PAYMENT.REFUND.",
    "CUSTOMER.DISPUTE.",
];

/// What notifications are checked with.
pub(super) struct Notifications {
    webhook_id: String,
    merchant_id: Option<String>,
    certificates: Certificates,
    checks: Allowance,
}

impl Notifications {
    pub(super) const fn new(webhook_id: String, merchant_id: Option<String>, certificates: Certificates) -> Self {
        Self { webhook_id, merchant_id, certificates, checks: Allowance::new(CHECKS_PER_MINUTE) }
    }
}

/// The headers of a signature.
struct Transmission<'a> {
    id: &'a str,
    time: &'a str,
    signature: &'a str,
    certificate: &'a str,
    algorithm: &'a str,
}

impl<'a> Transmission<'a> {
    fn of(inbound: &'a Inbound) -> Result<Self, NotificationRefusal> {
        let header = |name| inbound.header(name).ok_or(NotificationRefusal::Signature("a header of it is missing"));
        Ok(Self {
            id: header("paypal-transmission-id")?,
            time: header("paypal-transmission-time")?,
            signature: header("paypal-transmission-sig")?,
            certificate: header("paypal-cert-url")?,
            algorithm: header("paypal-auth-algo")?,
        })
    }

    fn message(&self, webhook_id: &str, body: &[u8]) -> String {
        format!("{}|{}|{webhook_id}|{}", self.id, self.time, crc32fast::hash(body))
    }
}

#[derive(Deserialize)]
struct Event {
    id: String,
    event_type: String,
    #[serde(default)]
    resource: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    id: Option<String>,
    custom_id: Option<String>,
    payee: Option<Payee>,
    purchase_units: Vec<Unit>,
    supplementary_data: Supplement,
    links: Vec<UpLink>,
    dispute_id: Option<String>,
    disputed_transactions: Vec<Disputed>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Payee {
    merchant_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Unit {
    custom_id: Option<String>,
    payee: Option<Payee>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Supplement {
    related_ids: RelatedIds,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RelatedIds {
    authorization_id: Option<String>,
    order_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UpLink {
    rel: String,
    href: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Disputed {
    custom: Option<String>,
    seller_transaction_id: Option<String>,
}

impl PaypalChannel {
    pub(super) async fn verify_notification(&self, inbound: &Inbound) -> Result<Notification, NotificationRefusal> {
        let Some(notifications) = &self.notifications else { return Err(NotificationRefusal::NotSupported) };
        let transmission = Transmission::of(inbound)?;
        if !transmission.algorithm.eq_ignore_ascii_case("SHA256withRSA") {
            return Err(NotificationRefusal::Signature("it is of another kind"));
        }
        let http = self.client.http();
        let address = allowed(transmission.certificate, http.base_url())?;
        check_time(transmission.time, inbound.received_at)?;
        let signature =
            STANDARD.decode(transmission.signature).map_err(|_| NotificationRefusal::Signature("it is not base64"))?;
        if notifications.certificates.has_no_roots() {
            self.check_online(notifications, &transmission, inbound).await?;
        } else {
            let now = self.clock.monotonic();
            let chain = notifications.certificates.chain_at(&address, http, now).await?;
            let message = transmission.message(&notifications.webhook_id, &inbound.body);
            match notifications.certificates.judge(&chain, message.as_bytes(), &signature, inbound.received_at) {
                Verdict::Good => notifications.certificates.keep(&address, &chain, true),
                // Kept all the same, or forged notifications would use up what may be fetched.
                Verdict::Forged => {
                    notifications.certificates.keep(&address, &chain, false);
                    return Err(NotificationRefusal::Signature("it is not one of this message"));
                }
                Verdict::Bad(reason) => return Err(NotificationRefusal::Signature(reason)),
                Verdict::NoRoot => {
                    self.check_online(notifications, &transmission, inbound).await?;
                    notifications.certificates.keep(&address, &chain, true);
                }
            }
        }
        read(&inbound.body, notifications.merchant_id.as_deref())
    }

    /// Lets PayPal check what no root here can. The body goes there as it came, so that it is looked at first: it must be
    /// one whole document, or it could say more than it is.
    async fn check_online(
        &self,
        notifications: &Notifications,
        transmission: &Transmission<'_>,
        inbound: &Inbound,
    ) -> Result<(), NotificationRefusal> {
        if serde_json::from_slice::<IgnoredAny>(&inbound.body).is_err() {
            return Err(NotificationRefusal::Malformed("its body is no JSON"));
        }
        let unavailable = |reason: &str| NotificationRefusal::CertificateUnavailable(reason.to_owned());
        if !notifications.checks.take(self.clock.monotonic()) {
            return Err(unavailable("too many had to be checked within a minute"));
        }
        let names = json!({
            "auth_algo": transmission.algorithm,
            "cert_url": transmission.certificate,
            "transmission_id": transmission.id,
            "transmission_sig": transmission.signature,
            "transmission_time": transmission.time,
            "webhook_id": notifications.webhook_id,
        });
        let mut question = names.to_string().into_bytes();
        question.pop();
        question.extend_from_slice(b",\"webhook_event\":");
        question.extend_from_slice(&inbound.body);
        question.push(b'}');
        let answer = self.client.check_signature(question, self.client.deadline()).await;
        let answer = answer.map_err(|error| unavailable(&error.to_string()))?;
        #[derive(Deserialize)]
        struct Checked {
            verification_status: String,
        }
        let checked = serde_json::from_slice::<Checked>(&answer.body).ok().filter(|_| answer.status == 200);
        match checked.as_ref().map(|checked| checked.verification_status.as_str()) {
            Some("SUCCESS") => Ok(()),
            Some(_) => Err(NotificationRefusal::Signature("PayPal says that it is not right")),
            None => Err(unavailable("PayPal did not say whether it is right")),
        }
    }
}

fn check_time(text: &str, now: Timestamp) -> Result<(), NotificationRefusal> {
    let Some(sent_at) = Timestamp::parse_rfc3339(text) else {
        return Err(NotificationRefusal::Signature("its time can't be read"));
    };
    if now.since(sent_at) > AGE_MAX || sent_at.since(now) > AHEAD_MAX {
        return Err(NotificationRefusal::Stale);
    }
    Ok(())
}

/// What a notification that is PayPal's says.
fn read(body: &[u8], merchant_id: Option<&str>) -> Result<Notification, NotificationRefusal> {
    let event: Event =
        serde_json::from_slice(body).map_err(|_| NotificationRefusal::Malformed("its body is no event"))?;
    if event.id.is_empty() || event.id.len() > ID_LENGTH_MAX {
        return Err(NotificationRefusal::Malformed("its id is missing or too long"));
    }
    // That of other events may have any shape.
    let is_of_interest = EVENTS.iter().any(|beginning| event.event_type.starts_with(beginning));
    let resource = if is_of_interest {
        serde_json::from_value::<Resource>(event.resource)
            .map_err(|_| NotificationRefusal::Malformed("its resource can't be read"))?
    } else {
        Resource::default()
    };
    let payees = resource.purchase_units.iter().map(|unit| &unit.payee).chain([&resource.payee]);
    let mut accounts = payees.flatten().filter_map(|payee| payee.merchant_id.as_deref());
    if merchant_id.is_some_and(|ours| accounts.any(|theirs| theirs != ours)) {
        return Err(NotificationRefusal::WrongAccount);
    }
    let mut subjects = subjects_of(&resource);
    subjects.truncate(SUBJECTS_MAX);
    let dispute = resource.dispute_id.filter(|_| event.event_type.starts_with("CUSTOMER.DISPUTE."));
    Ok(Notification {
        id: event.id,
        event: event.event_type,
        subjects,
        dispute: dispute.map(|dispute_no| DisputeHint { dispute_no }),
    })
}

fn subjects_of(resource: &Resource) -> Vec<Subject> {
    if !resource.disputed_transactions.is_empty() {
        let disputed = resource.disputed_transactions.iter();
        let subject =
            |disputed: &Disputed| subject_of(disputed.custom.as_deref(), disputed.seller_transaction_id.as_deref());
        return disputed.filter_map(subject).collect();
    }
    if !resource.purchase_units.is_empty() {
        let units = resource.purchase_units.iter();
        return units.filter_map(|unit| subject_of(unit.custom_id.as_deref(), resource.id.as_deref())).collect();
    }
    let related = &resource.supplementary_data.related_ids;
    let above = resource.links.iter().find(|link| link.rel == "up").and_then(|link| link.href.rsplit('/').next());
    let number = related.authorization_id.as_deref().or(above).or(related.order_id.as_deref());
    subject_of(resource.custom_id.as_deref(), number.or(resource.id.as_deref())).into_iter().collect()
}

/// Something that a notification is about. What carries a name that is not of ours is somebody else's.
fn subject_of(custom_id: Option<&str>, provider_no: Option<&str>) -> Option<Subject> {
    let provider_no = provider_no.map(str::to_owned);
    let Some(custom_id) = custom_id else {
        return provider_no.map(|number| Subject { provider_no: Some(number), ..Subject::default() });
    };
    let (reference, merchant_id) = reference_in(custom_id);
    let is_ours = reference.starts_with("PY") || reference.starts_with("PA");
    is_ours.then(|| Subject {
        reference: Some(reference.to_owned()),
        merchant_id: merchant_id.map(str::to_owned),
        provider_key: None,
        provider_no,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(body: serde_json::Value) -> Vec<Subject> {
        read(body.to_string().as_bytes(), None).unwrap().subjects
    }

    #[test]
    fn the_checksum_is_paypal_s() {
        assert_eq!(crc32fast::hash(br#"{"event_type":"PAYMENT.CAPTURE.COMPLETED"}"#), 2_182_570_485);
    }

    #[test]
    fn an_event_says_what_it_is_about() {
        let capture = subjects(json!({
            "id": "WH-1", "event_type": "PAYMENT.CAPTURE.COMPLETED",
            "resource": { "id": "C1", "custom_id": "PA1~m_1",
                "supplementary_data": { "related_ids": { "authorization_id": "A1", "order_id": "O1" } } },
        }));
        let expected = Subject {
            reference: Some(String::from("PA1")),
            merchant_id: Some(String::from("m_1")),
            provider_key: None,
            provider_no: Some(String::from("A1")),
        };
        assert_eq!(capture, [expected]);
        let order = subjects(json!({
            "id": "WH-1", "event_type": "CHECKOUT.ORDER.APPROVED",
            "resource": { "id": "O1", "purchase_units": [{ "custom_id": "PY1~m_1" }] },
        }));
        assert_eq!((order[0].reference.as_deref(), order[0].provider_no.as_deref()), (Some("PY1"), Some("O1")));
        let linked = subjects(json!({
            "id": "WH-1", "event_type": "PAYMENT.CAPTURE.REFUNDED",
            "resource": { "id": "R1", "links": [{ "rel": "up", "href": "https://api.paypal.com/v2/payments/captures/C9" }] },
        }));
        assert_eq!(linked[0].provider_no.as_deref(), Some("C9"));
    }

    #[test]
    fn what_is_somebody_else_s_is_of_no_interest() {
        let shapeless = json!({ "id": "WH-1", "event_type": "BILLING.PLAN.CREATED",
            "resource": { "id": 7, "links": null, "purchase_units": null } });
        assert!(subjects(shapeless).is_empty());
        assert!(subjects(json!({ "id": "WH-1", "event_type": "BILLING.PLAN.CREATED", "resource": null })).is_empty());
        for (event_type, custom_id) in [("PAYMENT.CAPTURE.COMPLETED", "inv-1"), ("BILLING.PLAN.CREATED", "PY1~m_1")] {
            let event = json!({ "id": "WH-1", "event_type": event_type, "resource": { "custom_id": custom_id } });
            assert!(subjects(event).is_empty(), "{event_type}");
        }
        let event = json!({
            "id": "WH-1", "event_type": "PAYMENT.CAPTURE.COMPLETED",
            "resource": { "custom_id": "PY1~m_1", "payee": { "merchant_id": "OTHER" } },
        });
        let body = event.to_string();
        assert_eq!(read(body.as_bytes(), Some("OURS")), Err(NotificationRefusal::WrongAccount));
        assert!(read(body.as_bytes(), Some("OTHER")).is_ok() && read(body.as_bytes(), None).is_ok());
    }

    #[test]
    fn a_dispute_is_told_with_its_number() {
        let event = json!({
            "id": "WH-1", "event_type": "CUSTOMER.DISPUTE.CREATED",
            "resource": { "dispute_id": "PP-D-1",
                "disputed_transactions": [{ "custom": "PY1~m_1", "seller_transaction_id": "C1" }] },
        });
        let read = read(event.to_string().as_bytes(), None).unwrap();
        assert_eq!(read.dispute.unwrap().dispute_no, "PP-D-1");
        assert_eq!(read.subjects[0].reference.as_deref(), Some("PY1"));
    }

    #[test]
    fn an_event_without_a_usable_id_is_none() {
        for body in [
            String::from("{}"),
            String::from("<html>"),
            String::from(r#"{"id":"","event_type":"X"}"#),
            format!(r#"{{"id":"{}","event_type":"X"}}"#, "W".repeat(129)),
        ] {
            assert!(matches!(read(body.as_bytes(), None), Err(NotificationRefusal::Malformed(_))), "{body}");
        }
    }
}
