//! The one place that says what an error is over HTTP: its code and status, its fields, its headers and its message.

use std::time::Duration;

use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::api::client_address;
use crate::api::codes::Code;
use crate::api::field_messages;
use crate::api::language::Language;
use crate::api::limit_headers::LimitedRequest;
use crate::api::messages::message_of;
use crate::domain::webhook::JobStatus;
use crate::gateway::addresses::AddressRefusal;
use crate::gateway::error::{FieldError, GatewayError, JobRefusal};
use crate::gateway::explain::unavailable_views;

/// When to come back after being told that the process stops: by then another one listens.
const STOPPING_RETRY_AFTER_S: u64 = 5;
/// When to come back after being told that the store is held.
const HELD_RETRY_AFTER_S: u64 = 30;
/// When to come back after being told that no channel is available, where time alone will not help: somebody has to change
/// something.
const NO_CHANNEL_RETRY_AFTER_S: u64 = 60;
/// When to come back after the disk had little room left.
const STORAGE_LOW_RETRY_AFTER_S: u64 = 30;
/// When to come back while a request with the same idempotency key runs.
const IN_PROGRESS_RETRY_AFTER_S: u64 = 1;

/// Why a request was not done: what the gateway says, and what only HTTP can get wrong.
#[derive(Clone, Debug)]
pub(crate) enum ApiError {
    /// The gateway did not do it.
    Gateway(GatewayError),
    /// A limit of the merchant.
    Limited(Box<LimitedRequest>),
    /// A limit of the client's address, before it is known who asks.
    AddressLimited(AddressRefusal),
    /// The channel certainly did not do it. What was to be made is `failed` and can be read; a hold that was to be captured is
    /// as it was.
    ChannelFailed {
        /// `payment_no` or `refund_no`.
        field: &'static str,
        /// The object's number.
        number: String,
    },
    /// HTTP Basic over a connection that others can read.
    BasicNotAllowed,
    /// No valid bearer token on the admin listener.
    OperatorUnauthenticated,
    /// Plain HTTP on a listener that speaks TLS.
    TlsExpected,
    /// The `Host` header names somebody else (DNS rebinding).
    HostNotAllowed,
    /// No route has this path.
    PathNotFound,
    /// The path is there, the method is not.
    MethodNotAllowed {
        /// The `Allow` header.
        allow: Option<HeaderValue>,
    },
    /// The body did not arrive in time.
    BodyTimeout,
    /// A request that may have changed something was not answered by its deadline.
    AnswerTimeout,
    /// The body is larger than allowed.
    PayloadTooLarge {
        /// The most that is allowed.
        max_bytes: usize,
    },
    /// The body is not declared as JSON, or is compressed.
    UnsupportedMediaType,
}

impl From<GatewayError> for ApiError {
    fn from(error: GatewayError) -> Self {
        Self::Gateway(error)
    }
}

impl From<AddressRefusal> for ApiError {
    fn from(refusal: AddressRefusal) -> Self {
        Self::AddressLimited(refusal)
    }
}

impl ApiError {
    /// One wrong field.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Gateway(GatewayError::field(field, message))
    }

    /// What a program reads; decides the status too.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Gateway(error) => gateway_code(error),
            Self::Limited(_) | Self::AddressLimited(_) => Code::RateLimitExceeded,
            Self::ChannelFailed { .. } => Code::ChannelError,
            Self::BasicNotAllowed | Self::OperatorUnauthenticated => Code::Unauthenticated,
            Self::HostNotAllowed => Code::Forbidden,
            Self::TlsExpected => Code::InvalidRequest,
            Self::PathNotFound => Code::NotFound,
            Self::MethodNotAllowed { .. } => Code::MethodNotAllowed,
            Self::BodyTimeout | Self::AnswerTimeout => Code::RequestTimeout,
            Self::PayloadTooLarge { .. } => Code::PayloadTooLarge,
            Self::UnsupportedMediaType => Code::UnsupportedMediaType,
        }
    }

    /// The body: code, message, fields of its own, the request's id.
    pub(crate) fn body(&self, language: Language, request_id: &str) -> Bytes {
        let mut fields =
            vec![("code", Value::from(self.code().as_str())), ("message", Value::from(message_of(self, language)))];
        self.add_fields(&mut fields, language);
        fields.push(("request_id", Value::from(request_id)));
        // Maps of plain values with text for names can always be written.
        Bytes::from(serde_json::to_vec(&InOrder(fields)).unwrap_or_default())
    }

    /// Adds the headers that this error calls for.
    pub(crate) fn add_headers(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self {
            Self::MethodNotAllowed { allow: Some(allow) } => {
                headers.insert(ALLOW, allow.clone());
            }
            Self::OperatorUnauthenticated => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tollgate-admin\""));
            }
            _ if self.code().status() == axum::http::StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Signature realm=\"tollgate\""));
            }
            _ => {}
        }
    }

    /// Whole seconds after which it makes sense to come back.
    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Limited(limited) => Some(limited.retry_after_s()),
            Self::AddressLimited(refusal) => Some(refusal.retry_after_s()),
            Self::Gateway(GatewayError::Overloaded { retry_after_s }) => Some((*retry_after_s).max(1)),
            Self::Gateway(GatewayError::StorageLow) => Some(STORAGE_LOW_RETRY_AFTER_S),
            Self::Gateway(GatewayError::ShuttingDown) => Some(STOPPING_RETRY_AFTER_S),
            Self::Gateway(GatewayError::Held) => Some(HELD_RETRY_AFTER_S),
            Self::Gateway(GatewayError::NoChannelAvailable(none)) => {
                let seconds = |wait: Duration| wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Some(none.retry_in.map_or(NO_CHANNEL_RETRY_AFTER_S, |wait| seconds(wait).max(1)))
            }
            Self::Gateway(GatewayError::IdempotencyInProgress) => Some(IN_PROGRESS_RETRY_AFTER_S),
            _ => None,
        }
    }

    fn add_fields(&self, fields: &mut Vec<(&'static str, Value)>, language: Language) {
        let mut add = |name, value| fields.push((name, value));
        match self {
            Self::Limited(limited) => limited.add_fields(fields),
            Self::AddressLimited(refusal) => client_address::add_fields(refusal, fields),
            Self::ChannelFailed { field, number } => add(field, Value::from(number.as_str())),
            Self::PayloadTooLarge { max_bytes } => add("max_bytes", Value::from(*max_bytes)),
            Self::Gateway(error) => match error {
                GatewayError::InvalidRequest(errors) => {
                    add("errors", errors.iter().map(|error| field_value(error, language)).collect());
                }
                GatewayError::SignatureExpired { server_time } => add("server_time", Value::from(server_time.unix_s())),
                GatewayError::OrderExists { field, number } => add(field, Value::from(number.as_str())),
                GatewayError::InvalidState { status } => add("status", Value::from(status.as_str())),
                GatewayError::JobRefused(JobRefusal::UnderWay(job_id)) => {
                    add("status", Value::from(JobStatus::Running.as_str()));
                    add("job_id", Value::from(job_id.as_str()));
                }
                GatewayError::JobRefused(JobRefusal::TooMany(_)) => add("status", Value::from("jobs_max")),
                GatewayError::JobRefused(JobRefusal::HasToBeDone(_)) => {
                    add("status", Value::from(JobStatus::Running.as_str()));
                }
                GatewayError::AmountTooLarge { max_minor } => add("max_amount", Value::from(*max_minor)),
                GatewayError::PanRefused(field) => add("field", Value::from(field.as_str())),
                GatewayError::NoChannelAvailable(none) => {
                    let reasons = serde_json::to_value(unavailable_views(none, language));
                    add("reasons", reasons.unwrap_or(Value::Null));
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// Fields that are written in this order, since people read them too.
struct InOrder(Vec<(&'static str, Value)>);

impl Serialize for InOrder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn field_value(error: &FieldError, language: Language) -> Value {
    json!({"field": error.field, "message": field_messages::in_language(&error.message, language)})
}

fn gateway_code(error: &GatewayError) -> Code {
    match error {
        GatewayError::InvalidRequest(_) => Code::InvalidRequest,
        GatewayError::Unauthenticated | GatewayError::InvalidNonce => Code::Unauthenticated,
        GatewayError::SignatureExpired { .. } => Code::SignatureExpired,
        GatewayError::NonceReused => Code::NonceReused,
        GatewayError::Forbidden(_) => Code::Forbidden,
        GatewayError::NotFound(_) => Code::NotFound,
        GatewayError::OrderExists { .. } => Code::OrderExists,
        GatewayError::InvalidState { .. } | GatewayError::JobRefused(_) => Code::InvalidState,
        GatewayError::IdempotencyInProgress => Code::IdempotencyInProgress,
        GatewayError::IdempotencyMismatch => Code::IdempotencyMismatch,
        GatewayError::AmountTooLarge { .. } => Code::AmountTooLarge,
        GatewayError::CurrencyNotSupported(_) => Code::CurrencyNotSupported,
        GatewayError::PreAuthNotSupported => Code::PreAuthNotSupported,
        GatewayError::PanRefused(_) => Code::PanRefused,
        GatewayError::UrlNotAllowed(_) => Code::UrlNotAllowed,
        GatewayError::NoChannelAvailable(_) => Code::NoChannelAvailable,
        GatewayError::Overloaded { .. } => Code::Overloaded,
        GatewayError::Held => Code::Held,
        GatewayError::StorageLow => Code::StorageLow,
        GatewayError::ShuttingDown => Code::ShuttingDown,
        GatewayError::Internal(_) => Code::Internal,
    }
}

#[cfg(test)]
mod tests;
