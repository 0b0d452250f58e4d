//! What a request is told that is not let through, and the headers of every answer.

use hyper::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::actors::merchant::Refused;
use crate::domain::limit::headers::{Header, RefusalFields, of_admitted, of_refused, policy_value};
use crate::domain::limit::{LimitView, Refusal, wording};
use crate::domain::time::Timestamp;

/// The body of a refusal by a limit.
#[derive(Serialize)]
struct LimitedBody<'a> {
    code: &'static str,
    message: String,
    #[serde(flatten)]
    fields: RefusalFields<'a>,
}

/// The body of any other answer that is made here.
#[derive(Serialize)]
struct ErrorBody {
    code: &'static str,
    message: String,
}

/// Adds the headers of an answer to a request that was let through.
pub(super) fn add_headers(headers: &mut HeaderMap, view: &LimitView, tier: &str, now: Timestamp) {
    add(headers, of_admitted(view, tier, &policy_value(&view.figures()), now));
}

/// The answer to a request that was not let through.
pub(super) fn of(refused: &Refused, tier: &str, now: Timestamp) -> Response<String> {
    match refused {
        Refused::Limited(refusal) => limited(refusal, tier, now),
        Refused::CostTooLarge { .. } => error(StatusCode::BAD_REQUEST, "INVALID_REQUEST", refused.to_string()),
        Refused::Overloaded(_) | Refused::IdempotencyInProgress(_) => {
            let message = String::from("Too much work at the moment; try again shortly");
            let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
    }
}

fn limited(refusal: &Refusal, tier: &str, now: Timestamp) -> Response<String> {
    let fields = RefusalFields::of(refusal, tier);
    let body = LimitedBody { code: "RATE_LIMIT_EXCEEDED", message: wording::english(refusal), fields };
    let mut answer = json(StatusCode::TOO_MANY_REQUESTS, &body);
    add(answer.headers_mut(), of_refused(refusal, tier, &policy_value(&refusal.view.figures()), now));
    answer
}

fn error(status: StatusCode, code: &'static str, message: String) -> Response<String> {
    json(status, &ErrorBody { code, message })
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
