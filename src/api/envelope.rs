//! The form of every body: `{"code":…,"message":…,"data":…}` or, for errors, the code, the message, fields of its own
//! and the request's id.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::language::Language;
use crate::api::stream::{StreamFailed, StreamKind, StreamSource};
use crate::gateway::answer::{Answered, StoredAnswer};
use crate::gateway::error::GatewayError;

/// The code of every success.
pub(crate) const SUCCESS: &str = "SUCCESS";
/// Prometheus' text format.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A success. Serialised here only; the document describes it by this type too.
#[derive(Serialize, ToSchema)]
pub(crate) struct Envelope<T> {
    /// `SUCCESS`.
    #[schema(example = "SUCCESS", value_type = String)]
    pub(crate) code: &'static str,
    /// One sentence for people.
    pub(crate) message: String,
    /// What was asked for.
    pub(crate) data: T,
}

/// The data of an answer that has none, such as a removal's.
#[derive(Serialize, ToSchema)]
pub(crate) struct Nothing {}

impl<T> Envelope<T> {
    fn success(data: T, language: Language) -> Self {
        Self { code: SUCCESS, message: String::from(language.choose("Success", "成功")), data }
    }
}

/// An answer that is not an error (or an error that is stored as an answer), ready to be sent but for the headers that
/// every response has.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// The whole body; empty where there is a stream.
    pub(crate) body: Bytes,
    /// A body that is made while it is sent.
    pub(crate) stream: Option<StreamSource>,
    /// `Content-Type`.
    pub(crate) content_type: HeaderValue,
    /// Whether it was given before.
    pub(crate) replayed: bool,
    /// The code of the error that a page for people is about, for the log.
    pub(crate) error_code: Option<&'static str>,
    /// Headers of its own; they stand in place of what every answer has, such as `Cache-Control`.
    pub(crate) headers: HeaderMap,
}

impl Answer {
    /// A whole body of a type.
    pub(crate) fn new(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Self {
        Self { status, body, stream: None, content_type, replayed: false, error_code: None, headers: HeaderMap::new() }
    }

    /// A body that is made while it is sent. Nothing of it is asked for before there is room for it on the way to the
    /// client, so a part should be at most some 64 KiB; the rest of its bounds are the listener's. Not for what is kept
    /// under an idempotency key.
    pub(crate) fn stream<S>(content_type: HeaderValue, kind: StreamKind, parts: S) -> Self
    where
        S: Stream<Item = Result<Bytes, StreamFailed>> + Send + 'static,
    {
        let stream = Some(StreamSource::new(kind, parts));
        Self { stream, ..Self::new(StatusCode::OK, content_type, Bytes::new()) }
    }

    /// A page for people.
    pub(crate) fn html(status: StatusCode, page: String) -> Self {
        Self::new(status, HTML, Bytes::from(page))
    }

    /// As a page that tells people of this error.
    #[must_use]
    pub(crate) fn about(mut self, error: &ApiError) -> Self {
        self.error_code = Some(error.code().as_str());
        self
    }

    /// With a header of its own; of the same name there may be several.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// `data` in the envelope.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when it can't be written as JSON.
    pub(crate) fn of<T: Serialize>(status: StatusCode, data: T, language: Language) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(&Envelope::success(data, language))
            .map_err(|error| GatewayError::Internal(format!("an answer can't be written as JSON: {error}")))?;
        Ok(Self::new(status, JSON, Bytes::from(body)))
    }

    /// A whole JSON document without the envelope.
    pub(crate) fn document(body: Bytes) -> Self {
        Self::new(StatusCode::OK, JSON, body)
    }

    /// A text without the envelope.
    pub(crate) fn plain(content_type: &'static str, body: &'static str) -> Self {
        let content_type = HeaderValue::from_static(content_type);
        Self::new(StatusCode::OK, content_type, Bytes::from_static(body.as_bytes()))
    }

    /// Figures for Prometheus.
    pub(crate) fn metrics(text: String) -> Self {
        Self::new(StatusCode::OK, METRICS, Bytes::from(text))
    }

    /// The answer as the gateway keeps it.
    pub(crate) fn into_stored(self) -> StoredAnswer {
        StoredAnswer { status: self.status.as_u16(), body: String::from_utf8_lossy(&self.body).into_owned() }
    }

    /// An answer of the gateway, byte for byte.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when its status is none.
    pub(crate) fn stored(answered: Answered) -> Result<Self, ApiError> {
        let StoredAnswer { status, body } = answered.answer;
        let status = StatusCode::from_u16(status)
            .map_err(|_| GatewayError::Internal(format!("a stored answer has the status {status}")))?;
        Ok(Self { replayed: answered.replayed, ..Self::new(status, JSON, Bytes::from(body)) })
    }
}

/// What came of a request, on its way from a handler through the router to where it is written.
pub(crate) type Outcome = Result<Answer, ApiError>;

/// An [`Outcome`] inside an axum response, which is only its carrier.
#[derive(Clone)]
struct Carried(Outcome);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        carry(Ok(self))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        carry(Err(self))
    }
}

fn carry(outcome: Outcome) -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(Carried(outcome));
    response
}

/// Takes the outcome out of what a router answered.
pub(crate) fn outcome_of(mut response: Response) -> Outcome {
    match response.extensions_mut().remove::<Carried>() {
        Some(Carried(outcome)) => outcome,
        // Every route and fallback carries an outcome; axum itself answers only these two.
        None if response.status() == StatusCode::NOT_FOUND => Err(ApiError::PathNotFound),
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            let allow = response.headers_mut().remove(axum::http::header::ALLOW);
            Err(ApiError::MethodNotAllowed { allow })
        }
        None => {
            Err(GatewayError::Internal(format!("a route answered {} without an outcome", response.status())).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_has_code_message_and_data_in_this_order() {
        let answer = Answer::of(StatusCode::CREATED, [1, 2], Language::English).unwrap();
        assert_eq!(answer.status, StatusCode::CREATED);
        assert_eq!(answer.body, r#"{"code":"SUCCESS","message":"Success","data":[1,2]}"#);
        let chinese = Answer::of(StatusCode::OK, Nothing {}, Language::Chinese).unwrap();
        assert_eq!(chinese.body, r#"{"code":"SUCCESS","message":"成功","data":{}}"#.as_bytes());
    }

    #[test]
    fn an_outcome_survives_the_router() {
        let answer = Answer::document(Bytes::from_static(b"{}"));
        assert_eq!(outcome_of(answer.into_response()).unwrap().body, "{}");
        assert!(matches!(outcome_of(ApiError::PathNotFound.into_response()), Err(ApiError::PathNotFound)));
        let naked = StatusCode::IM_A_TEAPOT.into_response();
        assert!(matches!(outcome_of(naked), Err(ApiError::Gateway(GatewayError::Internal(_)))));
    }
}
