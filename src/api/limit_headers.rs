//! A merchant's limits on its answers: the headers of every one, and what a refused request is told.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::api::language::Language;
use crate::domain::limit::headers::{Header, RefusalFields, of_admitted, of_refused, policy_value};
use crate::domain::limit::{LimitView, Refusal, wording};
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
        wording::message(&self.refusal, language)
    }

    /// Whole seconds to wait.
    pub(crate) fn retry_after_s(&self) -> u64 {
        self.refusal.retry_after_s()
    }

    /// The fields of its own.
    pub(crate) fn add_fields(&self, fields: &mut Vec<(&'static str, Value)>) {
        let own = RefusalFields::of(&self.refusal, &self.tier);
        let violated: Value = own.violated_policies.iter().map(|policy| policy.as_str()).collect();
        fields.extend([
            ("tier", Value::from(own.tier)),
            ("limit", Value::from(own.limit.as_str())),
            ("violated_policies", violated),
            ("retry_after", Value::from(own.retry_after)),
        ]);
    }

    /// The headers of the refusal.
    pub(crate) fn headers(&self, now: Timestamp) -> HeaderMap {
        let policy = policy_value(&self.refusal.view.figures());
        header_map(of_refused(&self.refusal, &self.tier, &policy, now))
    }
}

/// The headers of an answer to a request that was let through, or that waits for one with the same idempotency key.
pub(crate) fn headers_of(view: &LimitView, tier: &str, now: Timestamp) -> HeaderMap {
    header_map(of_admitted(view, tier, &policy_value(&view.figures()), now))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::error::ApiError;
    use crate::domain::limit::{Decision, Leases, LimitFigures, Limiter};
    use crate::domain::time::Monotonic;

    const BUSINESS: LimitFigures =
        LimitFigures { per_second: 50, per_minute: 2_500, per_hour: 50_000, burst: 100, concurrent: 50 };

    /// What the documented tier says to the first request too many.
    fn refused() -> LimitedRequest {
        let now = Monotonic::from_micros(0);
        let mut leases = Leases::new(1, Duration::from_secs(60));
        let mut limiter = Limiter::new(BUSINESS, now);
        loop {
            match limiter.decide(&mut leases, 1, now) {
                Decision::Admitted { lease, .. } => leases.release(lease),
                Decision::Refused(refusal) => return LimitedRequest { refusal, tier: String::from("business") },
                Decision::CostTooLarge { .. } => panic!("one request is not too much"),
            };
        }
    }

    #[test]
    fn a_refusal_s_body_is_as_documented() {
        let error = ApiError::Limited(Box::new(refused()));
        assert_eq!(
            error.body(Language::English, "req_1"),
            r#"{"code":"RATE_LIMIT_EXCEEDED","message":"Request rate exceeds the limit: more than 50 requests per second","tier":"business","limit":"second","violated_policies":["second"],"retry_after":2,"request_id":"req_1"}"#
        );
        let chinese: Value = serde_json::from_slice(&error.body(Language::Chinese, "req_1")).unwrap();
        assert_eq!(chinese["message"], "请求频率超过限制: 超过每秒 50 次请求限制");
    }

    #[test]
    fn a_refusal_has_all_headers() {
        let headers = refused().headers(Timestamp::from_unix_s(1_700_000_000));
        assert_eq!(headers["x-ratelimit-limit"], "50");
        assert_eq!(headers["x-ratelimit-remaining"], "0");
        assert_eq!(headers["x-ratelimit-reset"], "1700000002");
        assert_eq!(headers["x-ratelimit-tier"], "business");
        assert_eq!(headers["x-ratelimit-nearlimit"], "true");
        assert_eq!(headers["retry-after"], "2");
        assert!(headers.contains_key("ratelimit") && headers.contains_key("ratelimit-policy"));
    }

    #[test]
    fn a_tier_that_is_no_header_value_is_left_out() {
        let now = Monotonic::from_micros(0);
        let view = Limiter::new(BUSINESS, now).view(&mut Leases::new(1, Duration::from_secs(60)), now);
        let headers = headers_of(&view, "a\nb", Timestamp::from_unix_s(0));
        assert_eq!(headers["x-ratelimit-remaining"], "100");
        assert!(!headers.contains_key("x-ratelimit-tier"));
    }
}
