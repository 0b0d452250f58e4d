//! The `Idempotency-Key` header: up to 255 visible characters, on every POST.

use axum::http::{HeaderMap, HeaderName, Method};

use crate::api::auth::only_value;
use crate::api::error::ApiError;
use crate::gateway::idempotency::IdempotencyKey;

/// The header.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Its name as it is documented.
pub(crate) const IDEMPOTENCY_KEY_NAME: &str = "Idempotency-Key";
/// Longest key.
pub(crate) const KEY_LEN_MAX: usize = 255;

/// Reads the key of a POST; other methods need none, and theirs is ignored.
///
/// # Errors
/// An invalid request when the key is empty, too long, sent twice or holds anything but visible ASCII.
pub(crate) fn key_of(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<IdempotencyKey>, ApiError> {
    if *method != Method::POST || !headers.contains_key(IDEMPOTENCY_KEY) {
        return Ok(None);
    }
    let key = only_value(headers, &IDEMPOTENCY_KEY).filter(|key| is_valid(key)).ok_or_else(|| {
        ApiError::field(IDEMPOTENCY_KEY_NAME, format!("must be sent once, 1 to {KEY_LEN_MAX} visible ASCII characters"))
    })?;
    Ok(Some(IdempotencyKey::new(method.as_str(), path, key, body)?))
}

/// The error for a request that must not be sent without a key.
pub(crate) fn missing() -> ApiError {
    ApiError::field(IDEMPOTENCY_KEY_NAME, "is required here, so that sending the request again is safe")
}

fn is_valid(key: &str) -> bool {
    (1..=KEY_LEN_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, keys: &[&str]) -> Result<Option<IdempotencyKey>, ApiError> {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(IDEMPOTENCY_KEY, key.parse().unwrap());
        }
        key_of(&method, "/api/v1/payments", &headers, b"{}")
    }

    #[test]
    fn a_post_may_have_one_key() {
        assert!(read(Method::POST, &[]).unwrap().is_none());
        for key in ["k", "!~{}", &"k".repeat(255)] {
            assert!(read(Method::POST, &[key]).unwrap().is_some(), "{key}");
        }
    }

    #[test]
    fn keys_out_of_form_are_refused() {
        for keys in [&[""][..], &["a b"], &[" "], &["a", "a"], &["a\tb"], &[&"k".repeat(256)]] {
            let refused = read(Method::POST, keys).unwrap_err();
            assert_eq!(refused.code(), crate::api::codes::Code::InvalidRequest, "{keys:?}");
        }
    }

    #[test]
    fn other_methods_ignore_it() {
        assert!(read(Method::GET, &["a b"]).unwrap().is_none());
    }
}
