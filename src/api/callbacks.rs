//! What providers send of their own accord. Their own signatures say who they are, over the bytes as they came, so that
//! nothing of a body is looked at before.

use axum::http::HeaderMap;

use crate::api::call::{CallbackCall, Named};
use crate::api::envelope::{Answer, Outcome};
use crate::api::routes::{Routes, Verb};

/// Everything below it belongs to providers.
pub(crate) const PREFIX: &str = "/callbacks";

pub(crate) fn routes() -> Routes {
    Routes::default().with(Verb::Post, "/callbacks/{channel}", receive)
}

/// The headers in their order, names in lower case.
pub(crate) fn headers_of(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect()
}

/// Tell what happened at a provider
///
/// For providers: the body is what the channel's provider sends, with its own signature. It is kept before it is answered,
/// and gone into afterwards.
#[utoipa::path(
    post, path = "/callbacks/{channel}", operation_id = "receive_callback", tag = "Providers",
    request_body(content = String, description = "As the provider sends it", content_type = "*/*"),
    params(("channel" = String, Path, description = "The channel's name")),
    responses(
        (status = 200, description = "It is kept, or was before; with what the provider wants to read", body = String, content_type = "text/plain"),
        (status = 400, description = "`INVALID_REQUEST`: the body did not arrive completely"),
        (status = 401, description = "`UNAUTHENTICATED`: it is not proved to come from the provider, about our account and in our mode"),
        (status = 404, description = "`NOT_FOUND`: no such channel, or it takes no notifications"),
        (status = 413, description = "`PAYLOAD_TOO_LARGE`"),
        (status = 429, description = "`RATE_LIMIT_EXCEEDED`: too many requests from the client's address"),
    ),
)]
pub(crate) async fn receive(Named(channel): Named<String>, CallbackCall { call, headers }: CallbackCall) -> Outcome {
    let query = call.raw_query().map(str::to_owned);
    let acknowledgement = call.gateway.callbacks().receive(&channel, headers, query, call.body).await?;
    Ok(Answer::plain(acknowledgement.content_type, acknowledgement.body))
}
