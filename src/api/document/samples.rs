//! The body of each error, made by what makes the real ones.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::codes::Code;
use crate::api::error::ApiError;
use crate::api::language::Language;
use crate::api::limit_headers::LimitedRequest;
use crate::domain::limit::{Decision, Leases, LimitFigures, Limiter, Refusal};
use crate::domain::time::{Monotonic, Timestamp};
use crate::gateway::error::{Forbidden, GatewayError, UrlRefusal};

const REQUEST_ID: &str = "req_5f0c1d2e3a4b5c6d7e8f9a0b";
const PAYMENT_NO: &str = "PY20250124104000abcdefgh";
const BUSINESS: LimitFigures =
    LimitFigures { per_second: 50, per_minute: 2_500, per_hour: 50_000, burst: 100, concurrent: 50 };

/// An example of the body that goes with a code.
pub(super) fn body_of(code: Code) -> Value {
    let Some(error) = sample(code) else { return no_channel() };
    serde_json::from_slice(&error.body(Language::English, REQUEST_ID)).unwrap_or_default()
}

fn sample(code: Code) -> Option<ApiError> {
    let error = match code {
        Code::InvalidRequest => return Some(ApiError::field("amount", "must be at least 1 minor unit")),
        Code::MethodNotAllowed => return Some(ApiError::MethodNotAllowed { allow: None }),
        Code::RequestTimeout => return Some(ApiError::BodyTimeout),
        Code::PayloadTooLarge => return Some(ApiError::PayloadTooLarge { max_bytes: 65_536 }),
        Code::UnsupportedMediaType => return Some(ApiError::UnsupportedMediaType),
        Code::RateLimitExceeded => {
            return Some(ApiError::Limited(Box::new(LimitedRequest {
                refusal: refusal()?,
                tier: String::from("business"),
            })));
        }
        Code::ChannelError => {
            return Some(ApiError::ChannelFailed { field: "payment_no", number: String::from(PAYMENT_NO) });
        }
        Code::NoChannelAvailable => return None,
        Code::Unauthenticated => GatewayError::Unauthenticated,
        Code::SignatureExpired => GatewayError::SignatureExpired { server_time: Timestamp::from_unix_s(1_737_715_200) },
        Code::NonceReused => GatewayError::NonceReused,
        Code::Forbidden => GatewayError::Forbidden(Forbidden::Suspended),
        Code::NotFound => GatewayError::NotFound("payment"),
        Code::OrderExists => GatewayError::OrderExists { field: "payment_no", number: String::from(PAYMENT_NO) },
        Code::InvalidState => GatewayError::InvalidState { status: String::from("canceled") },
        Code::IdempotencyInProgress => GatewayError::IdempotencyInProgress,
        Code::IdempotencyMismatch => GatewayError::IdempotencyMismatch,
        Code::AmountTooLarge => GatewayError::AmountTooLarge { max_minor: 4_000 },
        Code::CurrencyNotSupported => GatewayError::CurrencyNotSupported(String::from("XAU")),
        Code::PreAuthNotSupported => GatewayError::PreAuthNotSupported,
        Code::PanRefused => GatewayError::PanRefused(String::from("description")),
        Code::UrlNotAllowed => GatewayError::UrlNotAllowed(UrlRefusal::NotHttps),
        Code::Internal => GatewayError::Internal(String::new()),
        Code::Overloaded => GatewayError::Overloaded { retry_after_s: 1 },
        Code::Held => GatewayError::Held,
        Code::StorageLow => GatewayError::StorageLow,
        Code::ShuttingDown => GatewayError::ShuttingDown,
    };
    Some(ApiError::Gateway(error))
}

/// What the tier `business` says to the first request too many.
fn refusal() -> Option<Refusal> {
    let now = Monotonic::from_micros(0);
    let mut leases = Leases::new(1, Duration::from_secs(60));
    let mut limiter = Limiter::new(BUSINESS, now);
    (0..=BUSINESS.burst).find_map(|_| match limiter.decide(&mut leases, 1, now) {
        Decision::Admitted { lease, .. } => {
            leases.release(lease);
            None
        }
        Decision::Refused(refusal) => Some(refusal),
        Decision::CostTooLarge { .. } => None,
    })
}

/// This one tells of a whole decision; a test takes a real one and compares.
fn no_channel() -> Value {
    json!({
        "code": Code::NoChannelAvailable.as_str(),
        "message": "No channel can take this payment now",
        "reasons": [{
            "channel": "alipay",
            "reason": "is switched off",
            "dropped_by": "disabled",
            "value": null,
            "demanded": null,
        }],
        "request_id": REQUEST_ID,
    })
}
