//! A merchant's limits on its answers: the headers of every one, and what a refused request is told.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::api::language::Language;
use crate::domain::limit::headers::{Header, RefusalFields, of_admitted, of_refused, policy_value};
use crate::domain::limit::{LimitFigures, LimitView, Refusal, wording};
use crate::domain::time::Timestamp;

/// A request that a limit refused, and whose limit it was.
#[derive(Clone, Debug)]
pub(crate) struct LimitedRequest {
    /// The refusal with its figures.
    pub(crate) refusal: Refusal,
    /// The merchant's tier.
    pub(crate) tier: String,
}

impl LimitedRequest {
    /// One sentence that names the limit.
    pub(crate) fn message(&self, language: Language) -> String {
        match language {
            Language::English => wording::english(&self.refusal),
            Language::Chinese => wording::chinese(&self.refusal),
        }
    }

    /// Whole seconds to wait.
    pub(crate) fn retry_after_s(&self) -> u64 {
        self.refusal.retry_after_s()
    }

    /// The fields of its own.
    pub(crate) fn add_fields(&self, body: &mut Map<String, Value>) {
        if let Ok(Value::Object(fields)) = serde_json::to_value(RefusalFields::of(&self.refusal, &self.tier)) {
            body.extend(fields);
        }
    }

    /// The headers of the refusal.
    pub(crate) fn headers(&self, now: Timestamp) -> HeaderMap {
        let policy = policy_value(&figures_of(&self.refusal.view));
        header_map(of_refused(&self.refusal, &self.tier, &policy, now))
    }
}

/// The headers of an answer to a request that was let through, or that waits for one with the same idempotency key.
pub(crate) fn headers_of(view: &LimitView, tier: &str, now: Timestamp) -> HeaderMap {
    header_map(of_admitted(view, tier, &policy_value(&figures_of(view)), now))
}

/// The figures in force, which a view carries with its readings.
fn figures_of(view: &LimitView) -> LimitFigures {
    LimitFigures {
        per_second: view.per_second,
        per_minute: view.minute.limit,
        per_hour: view.hour.limit,
        burst: view.second.limit,
        concurrent: view.concurrency.limit,
    }
}

fn header_map(headers: Vec<Header>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        // A tier's name comes from the configuration; one that is no header value is left out rather than fatal.
        if let Ok(value) = HeaderValue::try_from(value) {
            map.insert(HeaderName::from_static(name), value);
        }
    }
    map
}
