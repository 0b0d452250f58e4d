//! What the PayPal emulator tells of its own accord, signed as PayPal signs it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::domain::time::Timestamp;
use crate::sandbox::credentials::{PAYPAL_CERTIFICATE_KEY, PAYPAL_WEBHOOK_ID};
use crate::sandbox::notify::Prepared;

/// Where the certificate is, below the emulator's address.
pub(super) const CERTIFICATE_PATH: &str = "/v1/notifications/certs/CERT-sandbox";

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) id: String,
    pub(super) event_type: &'static str,
    pub(super) resource_type: &'static str,
    pub(super) resource: Value,
    pub(super) at: Timestamp,
}

/// A question whether a signature is right.
#[derive(Deserialize)]
struct Question<'a> {
    cert_url: String,
    transmission_id: String,
    transmission_sig: String,
    transmission_time: String,
    webhook_id: String,
    #[serde(borrow)]
    webhook_event: &'a RawValue,
}

/// Signs with the emulator's certificate.
pub(super) struct Signer(RsaKeyPair);

impl Signer {
    /// A signer with the fixed key.
    ///
    /// # Errors
    /// A sentence, should that key not work.
    pub(super) fn new() -> Result<Self, String> {
        let der = STANDARD.decode(PAYPAL_CERTIFICATE_KEY).map_err(|error| error.to_string())?;
        RsaKeyPair::from_pkcs8(&der).map(Self).map_err(|error| error.to_string())
    }

    fn sign(&self, text: &str) -> Option<String> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
        Some(STANDARD.encode(signature))
    }

    /// What happened, as PayPal would send it.
    pub(super) fn prepare(&self, told: &Told, base_url: &str) -> Option<Prepared> {
        let time = told.at.rfc3339();
        let body = json!({
            "id": told.id, "event_version": "1.0", "create_time": time, "resource_type": told.resource_type,
            "event_type": told.event_type, "summary": "Something happened.", "resource": told.resource, "links": [],
        })
        .to_string();
        let transmission_id = format!("t-{}", told.id);
        let signature = self.sign(&signed_text(&transmission_id, &time, PAYPAL_WEBHOOK_ID, body.as_bytes()))?;
        let header = |name: &str, value: String| (name.to_owned(), value);
        Some(Prepared {
            channel: "paypal",
            url: None,
            content_type: "application/json",
            headers: vec![
                header("paypal-transmission-id", transmission_id),
                header("paypal-transmission-time", time),
                header("paypal-transmission-sig", signature),
                header("paypal-cert-url", format!("{base_url}{CERTIFICATE_PATH}")),
                header("paypal-auth-algo", String::from("SHA256withRSA")),
            ],
            body: Bytes::from(body),
            taken_says: None,
            refusal_is_final: false,
            signed_at: told.at,
            again: None,
        })
    }

    /// Whether the signature in a question is right; `None` when it is no question.
    pub(super) fn check(&self, body: &[u8]) -> Option<bool> {
        let question: Question<'_> = serde_json::from_slice(body).ok()?;
        let event = question.webhook_event.get().as_bytes();
        let text = signed_text(&question.transmission_id, &question.transmission_time, &question.webhook_id, event);
        // These signatures have no chance in them: the right one is the only one.
        let is_right = self.sign(&text).is_some_and(|signature| signature == question.transmission_sig);
        Some(is_right && question.webhook_id == PAYPAL_WEBHOOK_ID && question.cert_url.ends_with(CERTIFICATE_PATH))
    }
}

fn signed_text(id: &str, time: &str, webhook_id: &str, body: &[u8]) -> String {
    format!("{id}|{time}|{webhook_id}|{}", crc32fast::hash(body))
}
