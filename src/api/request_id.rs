//! Every request has an id: the client's own if it is sane, else a new one. It is in every answer and every log line.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::domain::ids::is_request_id;
use crate::domain::pan::identifier_holds_card_number;

/// The header that carries it, both ways.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Makes ids that differ within this process and, by their random start, between processes.
#[derive(Debug)]
pub(crate) struct RequestIds {
    seed: u64,
    count: AtomicU64,
}

impl RequestIds {
    /// A source of its own.
    pub(crate) fn new() -> Self {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        Self { seed: high ^ low, count: AtomicU64::new(low) }
    }

    /// The client's id if it sent exactly one that is sane, else a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> String {
        let mut sent = headers.get_all(REQUEST_ID).iter();
        match (sent.next().and_then(|value| value.to_str().ok()), sent.next()) {
            (Some(id), None) if is_request_id(id) && !tells(id) => String::from(id),
            _ => self.draw(),
        }
    }

    /// A new id: `req_` and 24 hexadecimal digits that do not say how many requests there were.
    pub(crate) fn draw(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mixed = xxh3_64_with_seed(&count.to_le_bytes(), self.seed);
        // The low half of the count keeps ids of one process apart for certain; mixing it hides the number.
        let own = (count ^ self.seed) & u64::from(u32::MAX);
        format!("req_{mixed:016x}{own:08x}")
    }
}

/// Whether an id tells what must not be in logs: a card number, or something that looks like a secret.
fn tells(id: &str) -> bool {
    let is_secret = |part: &str| ["sk_", "rk_", "whsec_"].iter().any(|secret| part.starts_with(secret));
    id.split(['-', '.', ':']).any(is_secret) || identifier_holds_card_number(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_sane_id_of_the_client_is_kept() {
        let ids = RequestIds::new();
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, "order-1:task_2.x".parse().unwrap());
        assert_eq!(ids.of(&headers), "order-1:task_2.x");
    }

    #[test]
    fn anything_else_is_replaced() {
        let ids = RequestIds::new();
        for bad in [
            "",
            " ",
            "a b",
            "a\"b",
            "a{b",
            &"a".repeat(65),
            "é",
            "4242424242424242",
            "order:4242-4242-4242-4242",
            "sk_live_a1",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, axum::http::HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            assert!(ids.of(&headers).starts_with("req_"), "{bad:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(REQUEST_ID, "a".parse().unwrap());
        twice.append(REQUEST_ID, "b".parse().unwrap());
        assert!(ids.of(&twice).starts_with("req_"));
        assert_eq!(ids.of(&HeaderMap::new()).len(), 28);
    }

    #[test]
    fn ids_differ() {
        let ids = RequestIds::new();
        let drawn: BTreeSet<String> = (0..1_000).map(|_| ids.draw()).collect();
        assert_eq!(drawn.len(), 1_000);
        assert_ne!(RequestIds::new().draw(), RequestIds::new().draw());
    }
}
