//! For receivers: whether a webhook is Tollgate's, and what it says.
//!
//! Every webhook is signed twice. [`verify`] checks the signature of [Standard Webhooks](https://www.standardwebhooks.com), which
//! covers the id, the time and the body; use that one if you use only one. [`verify_body`] checks `X-Webhook-Signature`, which
//! covers the body alone. Both compare in constant time.
//!
//! ```
//! use tollgate::domain::time::Timestamp;
//! use tollgate::webhook::{VerifyError, verify};
//!
//! let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
//! let headers = [
//!     ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
//!     ("webhook-timestamp", "1614265330"),
//!     ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
//! ];
//! let body = br#"{"test": 2432232314}"#;
//! let now = Timestamp::from_unix_s(1_614_265_333);
//! assert_eq!(verify(secret, headers, body, now), Ok(()));
//! assert_eq!(verify(secret, headers, b"{}", now), Err(VerifyError::Signature));
//! // Whoever has recorded it can't send it again later.
//! assert_eq!(verify(secret, headers, body, Timestamp::from_unix_s(1_614_269_999)), Err(VerifyError::Timestamp));
//! ```
//!
//! A webhook may come more than once, always with the same `webhook-id`: note the id in the transaction that does what the
//! event asks for, and answer 2xx to one that is known. `examples/verify_webhook.rs` is a whole receiver.

use serde::Deserialize;
use serde_json::Value;

pub use crate::delivery::signing::{TOLERANCE_S, VerifyError, verify, verify_body};

/// The body of a webhook. Fields that are added later are passed over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct WebhookBody {
    /// Such as `payment.success`.
    pub event: String,
    /// The payment that it is about; for a pre-auth and for `test` there is none.
    #[serde(default)]
    pub payment_no: Option<String>,
    /// The pre-auth that it is about.
    #[serde(default)]
    pub pre_auth_no: Option<String>,
    /// The refund that it is about.
    #[serde(default)]
    pub refund_no: Option<String>,
    /// The merchant's own number.
    #[serde(default)]
    pub order_no: Option<String>,
    /// Minor units.
    #[serde(default)]
    pub amount: Option<i64>,
    /// ISO 4217.
    #[serde(default)]
    pub currency: Option<String>,
    /// The object's status then.
    #[serde(default)]
    pub status: Option<String>,
    /// When it happened, Unix seconds.
    pub timestamp: i64,
    /// What else there is to say, by event; `sequence` numbers the merchant's events without gaps.
    #[serde(default)]
    pub extra: Value,
}

impl WebhookBody {
    /// Reads a body that was verified.
    ///
    /// # Errors
    /// When it is no webhook's.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_whatever_is_added_to_it() {
        let body = br#"{"event":"payment.success","payment_no":"PY1","order_no":"O-1","amount":50000,"currency":"USD",
            "status":"success","timestamp":1737715200,"extra":{"sequence":17},"later":true}"#;
        let read = WebhookBody::parse(body).unwrap();
        assert_eq!((read.event.as_str(), read.payment_no.as_deref()), ("payment.success", Some("PY1")));
        assert_eq!((read.amount, read.refund_no, &read.extra["sequence"]), (Some(50_000), None, &Value::from(17)));
        let test = WebhookBody::parse(br#"{"event":"test","payment_no":null,"amount":null,"timestamp":1}"#).unwrap();
        assert_eq!((test.amount, test.status), (None, None));
        assert!(WebhookBody::parse(b"[]").is_err());
    }
}
