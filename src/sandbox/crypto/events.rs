//! What the BTCPay emulator sends of its own accord: signed as BTCPay signs, over the body alone.

use bytes::Bytes;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::domain::time::Timestamp;
use crate::sandbox::credentials::{BTCPAY_STORE_ID, BTCPAY_WEBHOOK_SECRET};
use crate::sandbox::crypto::invoices::Invoice;
use crate::sandbox::notify::Prepared;

/// The event `kind` about an invoice, with what is special to it. `ids` are those of its first delivery and of all others.
pub(super) fn event(invoice: &Invoice, kind: &str, special: &Value, ids: [&str; 2], now: Timestamp) -> Prepared {
    let [first_id, later_id] = ids;
    let mut body = json!({
        "deliveryId": first_id,
        "webhookId": "TollgateSandboxWebhook",
        "originalDeliveryId": first_id,
        "isRedelivery": false,
        "type": kind,
        "timestamp": now.unix_s(),
        "storeId": BTCPAY_STORE_ID,
        "invoiceId": invoice.id,
        "metadata": invoice.metadata,
    });
    for (name, value) in special.as_object().into_iter().flatten() {
        body[name.as_str()] = value.clone();
    }
    let (headers, first) = signed(&body);
    (body["deliveryId"], body["isRedelivery"]) = (json!(later_id), json!(true));
    Prepared {
        channel: "crypto",
        url: None,
        content_type: "application/json",
        headers,
        body: first,
        taken_says: None,
        refusal_is_final: true,
        signed_at: now,
        again: Some(signed(&body)),
    }
}

/// The headers and the bytes of a body.
fn signed(body: &Value) -> (Vec<(String, String)>, Bytes) {
    let body = Bytes::from(body.to_string());
    (vec![(String::from("btcpay-sig"), signature_of(&body))], body)
}

fn signature_of(body: &[u8]) -> String {
    // A key of any length will do, so that there is always a code.
    let mac = Hmac::<Sha256>::new_from_slice(BTCPAY_WEBHOOK_SECRET.as_bytes());
    let code = mac.map(|mac| mac.chain_update(body).finalize().into_bytes());
    format!("sha256={}", code.map(hex::encode).unwrap_or_default())
}
