//! What a BTCPay server sends of its own accord. It signs the body and no time, so that what was seen before is told by the
//! id of its first delivery, which every redelivery carries.

use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::Sha256;

use crate::channels::btcpay::BtcpayChannel;
use crate::channels::btcpay::request::{ATTEMPT_KEY, MERCHANT_KEY, REFERENCE_KEY};
use crate::channels::{Inbound, Notification, NotificationRefusal, Subject};

/// Header of the signature, in lower case.
const SIGNATURE_HEADER: &str = "btcpay-sig";
/// In front of the hexadecimal signature.
const SCHEME: &str = "sha256=";
/// Longest id that is taken.
const ID_BYTES_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    original_delivery_id: Option<String>,
    #[serde(default)]
    delivery_id: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    store_id: String,
    #[serde(default)]
    invoice_id: Option<String>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

impl BtcpayChannel {
    pub(super) fn read_notification(&self, inbound: &Inbound) -> Result<Notification, NotificationRefusal> {
        let secret = self.webhook_secret.as_ref().ok_or(NotificationRefusal::NotSupported)?;
        check_signature(secret, inbound)?;
        let event: Event =
            serde_json::from_slice(&inbound.body).map_err(|_| NotificationRefusal::Malformed("it is no event"))?;
        if event.store_id != self.client.store_id() {
            return Err(NotificationRefusal::WrongAccount);
        }
        let id = event.original_delivery_id.or(event.delivery_id).filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()));
        let id = id.ok_or(NotificationRefusal::Malformed("it has no id"))?;
        let subject = |invoice_id: String| {
            let text = |name: &str| event.metadata.as_ref()?.get(name)?.as_str().map(str::to_owned);
            Subject {
                reference: text(REFERENCE_KEY),
                merchant_id: text(MERCHANT_KEY),
                provider_key: text(ATTEMPT_KEY),
                provider_no: Some(invoice_id),
            }
        };
        let subjects = event.invoice_id.clone().map(subject).into_iter().collect();
        Ok(Notification { id, event: event.kind, subjects, dispute: None })
    }
}

/// Over the body as it came, in a time that says nothing about how much of the signature is right.
fn check_signature(secret: &str, inbound: &Inbound) -> Result<(), NotificationRefusal> {
    let given = inbound.header(SIGNATURE_HEADER).ok_or(NotificationRefusal::Signature("there is none"))?;
    let given = given.strip_prefix(SCHEME).ok_or(NotificationRefusal::Signature("it is of no known kind"))?;
    let given = hex::decode(given).map_err(|_| NotificationRefusal::Signature("it is not hexadecimal"))?;
    let wrong = NotificationRefusal::Signature("it is wrong");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| wrong.clone())?;
    mac.update(&inbound.body);
    mac.verify_slice(&given).map_err(|_| wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn signatures_are_btcpays() {
        let inbound = |body: &'static str, signature: &str| Inbound {
            headers: vec![(SIGNATURE_HEADER.to_owned(), signature.to_owned())],
            query: None,
            body: body.into(),
            received_at: Timestamp::from_unix_s(0),
        };
        let signature = "sha256=85bf69eececbeb4819c3ddf879f8bd6d46faf64d784b383cb7eb2dcfa5713064";
        let body = r#"{"type":"InvoiceSettled"}"#;
        assert_eq!(check_signature("s3cr3t", &inbound(body, signature)), Ok(()));
        for (secret, body, signature) in [
            ("s3cr3T", body, signature),
            ("s3cr3t", r#"{"type": "InvoiceSettled"}"#, signature),
            ("s3cr3t", body, "85bf69eececbeb4819c3ddf879f8bd6d46faf64d784b383cb7eb2dcfa5713064"),
            ("s3cr3t", body, "sha256=85bf69eececbeb4819c3ddf879f8bd6d"),
            ("s3cr3t", body, "sha256="),
            ("s3cr3t", body, "sha256=xx"),
        ] {
            let refusal = check_signature(secret, &inbound(body, signature)).unwrap_err();
            assert!(matches!(refusal, NotificationRefusal::Signature(_)), "{signature}");
        }
    }
}
