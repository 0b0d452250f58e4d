//! Who is asking: the signature headers or HTTP Basic, as the gateway wants to see them. Whether they are right is the
//! gateway's to say.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::api::error::ApiError;
use crate::api::idempotency::IDEMPOTENCY_KEY;
use crate::domain::ids::KEY_ID_PREFIX;
use crate::domain::signature::SignedParts;
use crate::gateway::auth::Credentials;
use crate::gateway::error::GatewayError;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");
const NONCE: HeaderName = HeaderName::from_static("x-nonce");
const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const SIGNING: [HeaderName; 4] = [API_KEY, TIMESTAMP, NONCE, SIGNATURE];
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers that a proxy leaves behind. With any of them the peer's address says nothing about the client's.
const FORWARDING: [HeaderName; 8] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("via"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    FORWARDED_PROTO,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("cf-connecting-ip"),
];

/// What a request shows to say who sends it.
#[derive(Clone, Debug)]
pub(crate) enum Presented {
    /// The four signature headers.
    Signature {
        /// `X-Api-Key`.
        key_id: String,
        /// `X-Timestamp`.
        timestamp: String,
        /// `X-Nonce`.
        nonce: String,
        /// `X-Signature`.
        signature: String,
    },
    /// User and password of HTTP Basic.
    Basic {
        /// The user.
        key_id: String,
        /// The password; wiped from memory when done.
        secret: Zeroizing<String>,
    },
}

impl Presented {
    /// Reads what the request shows. Signature headers come first: a request that has any of them is never taken as
    /// HTTP Basic.
    ///
    /// # Errors
    /// [`GatewayError::Unauthenticated`] when nothing is shown, or not completely, or twice;
    /// [`ApiError::BasicNotAllowed`] when HTTP Basic came over a way that others can read.
    pub(crate) fn read(
        headers: &HeaderMap,
        peer: SocketAddr,
        is_tls: bool,
        trusted_proxies: &[IpNet],
    ) -> Result<Self, ApiError> {
        if begins_to_sign(headers) {
            return Self::read_signature(headers).ok_or_else(unauthenticated);
        }
        if !headers.contains_key(AUTHORIZATION) {
            return Err(unauthenticated());
        }
        if !is_private_way(headers, peer.ip().to_canonical(), is_tls, trusted_proxies) {
            return Err(ApiError::BasicNotAllowed);
        }
        Self::read_basic(headers).ok_or_else(unauthenticated)
    }

    fn read_signature(headers: &HeaderMap) -> Option<Self> {
        let text = |name: HeaderName| only_value(headers, &name).map(String::from);
        Some(Self::Signature {
            key_id: text(API_KEY)?,
            timestamp: text(TIMESTAMP)?,
            nonce: text(NONCE)?,
            signature: text(SIGNATURE)?,
        })
    }

    fn read_basic(headers: &HeaderMap) -> Option<Self> {
        let (scheme, encoded) = only_value(headers, &AUTHORIZATION)?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
        let (key_id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        Some(Self::Basic { key_id: String::from(key_id), secret: Zeroizing::new(String::from(secret)) })
    }

    /// The same for the gateway, over the request's head and body exactly as they were sent.
    pub(crate) fn credentials<'a>(&'a self, head: &'a Parts, body: &'a [u8]) -> Credentials<'a> {
        match self {
            Self::Basic { key_id, secret } => Credentials::Basic { key_id, secret },
            Self::Signature { key_id, timestamp, nonce, signature } => Credentials::Signed {
                signature,
                parts: SignedParts {
                    key_id,
                    timestamp,
                    nonce,
                    method: head.method.as_str(),
                    path_and_query: head.uri.path_and_query().map_or("/", |sent| sent.as_str()),
                    idempotency_key: only_value(&head.headers, &IDEMPOTENCY_KEY).unwrap_or_default(),
                    body,
                },
            },
        }
    }
}

/// Whether a request could be a try to be taken for a merchant's. One that could not guesses nothing: somebody may have been
/// given its URL to fetch, and user and password with it (`http://user:password@…`), which every client sends as HTTP
/// Basic. So that counts only with a user that has the form of a key's id; no other one is ever right.
pub(crate) fn tries_a_key(headers: &HeaderMap) -> bool {
    begins_to_sign(headers)
        || matches!(
            Presented::read_basic(headers),
            Some(Presented::Basic { key_id, .. }) if key_id.starts_with(KEY_ID_PREFIX)
        )
}

/// The operator's token that a request shows, unless that is empty.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only_value(headers, &AUTHORIZATION)?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

fn begins_to_sign(headers: &HeaderMap) -> bool {
    SIGNING.iter().any(|name| headers.contains_key(name))
}

fn unauthenticated() -> ApiError {
    ApiError::Gateway(GatewayError::Unauthenticated)
}

/// The header's value if it was sent exactly once and is text.
pub(crate) fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Whether a proxy has left any header behind.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDING.iter().any(|name| headers.contains_key(name))
}

/// Whether a password may be taken from this request: it came over TLS of our own, straight over loopback, or through a
/// proxy of ours that says that the client used TLS. A proxy of ours that speaks TLS with us is believed when it says that
/// its client did not.
fn is_private_way(headers: &HeaderMap, peer: IpAddr, is_tls: bool, trusted_proxies: &[IpNet]) -> bool {
    if !is_forwarded(headers) {
        return is_tls || peer.is_loopback();
    }
    let is_trusted = trusted_proxies.iter().any(|network| network.contains(&peer));
    (is_tls && !is_trusted) || came_over_tls(headers, peer, trusted_proxies)
}

/// Whether a proxy of ours says that the client used TLS.
pub(crate) fn came_over_tls(headers: &HeaderMap, peer: IpAddr, trusted_proxies: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    let is_trusted = trusted_proxies.iter().any(|network| network.contains(&peer));
    let mut protocols = headers.get_all(FORWARDED_PROTO).iter().peekable();
    // Every hop has to say it: a list with one `http` in it was read by somebody.
    let says_tls = protocols.peek().is_some()
        && protocols.all(|value| {
            value.to_str().is_ok_and(|list| list.split(',').all(|hop| hop.trim().eq_ignore_ascii_case("https")))
        });
    is_trusted && says_tls
}

#[cfg(test)]
mod tests;
