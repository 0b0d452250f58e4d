//! The client's address: who a request comes from before it is known who asks, and what it is told when it has to wait.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::api::auth::{bearer_token, is_forwarded, tries_a_key};
use crate::api::context::RequestContext;
use crate::api::error::ApiError;
use crate::api::language::Language;
use crate::gateway::addresses::{AddressReason, AddressRefusal, Addresses, Client, Listener};
use crate::gateway::error::GatewayError;

/// The name of the limit in answers.
const LIMIT: &str = "client_address";

/// Who sends a request with these headers, if its address is limited. Whose share of places for bodies it takes is noted
/// in its context.
pub(crate) fn client_of(
    addresses: &Addresses,
    listener: Listener,
    headers: &HeaderMap,
    context: &RequestContext,
) -> Option<Client> {
    let lines = headers.get_all(addresses.header().as_str()).iter().map(|value| value.as_bytes());
    let sender = addresses.sender(listener, context.peer, lines, || is_forwarded(headers));
    if let Some(network) = sender.network {
        // Set once: a request has one sender.
        let _ = context.network.set(network);
    }
    sender.client
}

/// Counts what was refused for its credentials. A wrong clock, a nonce that was used or a suspended merchant is none of
/// these: such a request was signed with the right secret. Nor is a request without anything that could be right, which anybody
/// can have sent from the address of somebody else, by a link or a URL to fetch.
pub(crate) fn note_failure(addresses: &Addresses, client: Option<&Client>, headers: &HeaderMap, error: &ApiError) {
    let is_failure = match error {
        ApiError::Gateway(GatewayError::Unauthenticated) => tries_a_key(headers),
        ApiError::OperatorUnauthenticated => bearer_token(headers).is_some(),
        _ => false,
    };
    if let Some(client) = client.filter(|_| is_failure) {
        addresses.note_failure(client);
    }
}

/// One sentence that says why.
pub(crate) fn message(refusal: &AddressRefusal, language: Language) -> String {
    match (refusal.reason, language) {
        (AddressReason::Rate(figure), Language::English) => {
            format!("Request rate exceeds the limit of your address: more than {figure} requests per second")
        }
        (AddressReason::Rate(figure), Language::Chinese) => {
            format!("来自您的地址的请求频率超过限制: 超过每秒 {figure} 次请求限制")
        }
        (AddressReason::FailedAuthentication, Language::English) => String::from(
            "Too many failed authentications from your address; check key and signature, and try again later",
        ),
        (AddressReason::FailedAuthentication, Language::Chinese) => {
            String::from("来自您的地址的认证失败次数过多; 请检查密钥和签名, 稍后重试")
        }
    }
}

/// The fields of its own. It is not known whose tier it would be.
pub(crate) fn add_fields(refusal: &AddressRefusal, fields: &mut Vec<(&'static str, Value)>) {
    fields.extend([
        ("limit", Value::from(LIMIT)),
        ("violated_policies", json!([LIMIT])),
        ("retry_after", Value::from(refusal.retry_after_s())),
    ]);
}
