//! What anybody may ask: whether the process is alive and ready, and what its API looks like.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::call::OpenCall;
use crate::api::envelope::{Answer, Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::error::GatewayError;

pub(crate) fn routes() -> Routes {
    Routes::default().with(Verb::Get, "/healthz", alive).with(Verb::Get, "/readyz", ready).with(
        Verb::Get,
        "/openapi.json",
        document,
    )
}

/// How the process is doing.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProbeView {
    /// `alive` or `ready`.
    #[schema(value_type = String, example = "ready")]
    status: &'static str,
}

/// Whether the process is alive
#[utoipa::path(
    get, path = "/healthz", operation_id = "get_health", tag = "Service",
    responses((status = 200, description = "It is", body = Envelope<ProbeView>)),
)]
pub(crate) async fn alive(request: OpenCall) -> Outcome {
    request.call.ok(ProbeView { status: "alive" })
}

/// Whether requests are taken
///
/// 200 when recovery is done, everything listens, and the process is not stopping.
#[utoipa::path(
    get, path = "/readyz", operation_id = "get_readiness", tag = "Service",
    responses(
        (status = 200, description = "They are", body = Envelope<ProbeView>),
        (status = 503, description = "`SHUTTING_DOWN` or `OVERLOADED`: not now"),
    ),
)]
pub(crate) async fn ready(request: OpenCall) -> Outcome {
    let gateway = &request.call.gateway;
    if gateway.is_stopping() {
        return Err(GatewayError::ShuttingDown.into());
    }
    if !gateway.is_ready() {
        return Err(GatewayError::Overloaded { retry_after_s: 1 }.into());
    }
    request.call.ok(ProbeView { status: "ready" })
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "get_openapi", tag = "Service",
    responses(
        (status = 200, description = "OpenAPI 3.1", body = Object),
        (status = 429, description = "`RATE_LIMIT_EXCEEDED`: too many requests from the client's address"),
    ),
)]
pub(crate) async fn document(request: OpenCall) -> Outcome {
    request.call.query(&[], Pages::No)?;
    Ok(Answer::document(request.document))
}
