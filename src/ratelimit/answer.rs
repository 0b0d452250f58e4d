//! What a request is told that is not let through, and the headers of every answer.

use hyper::http::header::{ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::actors::merchant::Refused;
use crate::domain::ids::is_request_id;
use crate::domain::language::Language;
use crate::domain::limit::headers::{Header, RefusalFields, of_admitted, of_refused, policy_value};
use crate::domain::limit::{LimitView, Refusal, wording};
use crate::domain::time::Timestamp;

/// The header with a request's id, if it has one.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The body of a refusal by a limit.
#[derive(Serialize)]
struct LimitedBody<'a> {
    code: &'static str,
    message: String,
    #[serde(flatten)]
    fields: RefusalFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// The body of any other answer that is made here.
#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// What a request's head says about how it is to be answered.
struct Asked<'a> {
    language: Language,
    /// Its id, when it has exactly one that can be taken over.
    request_id: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn read(headers: &'a HeaderMap) -> Self {
        let languages = headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok());
        let mut ids = headers.get_all(REQUEST_ID).iter();
        let request_id = match (ids.next().and_then(|value| value.to_str().ok()), ids.next()) {
            (Some(id), None) if is_request_id(id) => Some(id),
            _ => None,
        };
        Self { language: Language::preferred(languages), request_id }
    }
}

/// Adds the headers of an answer to a request that was let through.
pub(super) fn add_headers(headers: &mut HeaderMap, view: &LimitView, tier: &str, now: Timestamp) {
    add(headers, of_admitted(view, tier, &policy_value(&view.figures()), now));
}

/// The answer to a request with these headers that was not let through.
pub(super) fn of(refused: &Refused, tier: &str, headers: &HeaderMap, now: Timestamp) -> Response<String> {
    let asked = Asked::read(headers);
    match refused {
        Refused::Limited(refusal) => limited(refusal, tier, &asked, now),
        Refused::CostTooLarge { cost_max } => {
            let message = wording::cost_too_large(*cost_max, asked.language);
            error(StatusCode::BAD_REQUEST, "INVALID_REQUEST", message, &asked)
        }
        Refused::Overloaded(_) | Refused::IdempotencyInProgress(_) => {
            let message = String::from(wording::overloaded(asked.language));
            let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message, &asked);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
    }
}

fn limited(refusal: &Refusal, tier: &str, asked: &Asked<'_>, now: Timestamp) -> Response<String> {
    let (fields, message) = (RefusalFields::of(refusal, tier), wording::message(refusal, asked.language));
    let body = LimitedBody { code: "RATE_LIMIT_EXCEEDED", message, fields, request_id: asked.request_id };
    let mut answer = json(StatusCode::TOO_MANY_REQUESTS, &body);
    add(answer.headers_mut(), of_refused(refusal, tier, &policy_value(&refusal.view.figures()), now));
    answer
}

fn error(status: StatusCode, code: &'static str, message: String, asked: &Asked<'_>) -> Response<String> {
    json(status, &ErrorBody { code, message, request_id: asked.request_id })
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> Response<String> {
    // Plain data, which can always be written.
    let mut answer = Response::new(serde_json::to_string(body).unwrap_or_default());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn add(map: &mut HeaderMap, headers: Vec<Header>) {
    for (name, value) in headers {
        // A tier's name that is no header value is left out rather than fatal.
        if let Ok(value) = HeaderValue::try_from(value) {
            map.insert(HeaderName::from_static(name), value);
        }
    }
}
