//! What anybody may ask: whether the process is alive and ready, and what its API looks like.

use axum::http::Method;
use axum::http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::call::OpenCall;
use crate::api::console;
use crate::api::docs;
use crate::api::document::Part;
use crate::api::envelope::{Answer, Envelope, Outcome};
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::error::GatewayError;

pub(crate) fn routes() -> Routes {
    let routes = Routes::default()
        .with(Verb::Get, "/", root)
        .with(Verb::Get, "/healthz", alive)
        .with(Verb::Get, "/readyz", ready)
        .with(Verb::Get, "/openapi.json", document);
    docs::add_routes(routes)
}

/// Answers what anybody may ask by one of [`routes`].
pub(crate) async fn answer(routes: &Routes, head: Parts, call: OpenCall) -> Outcome {
    let is_read = head.method == Method::GET || head.method == Method::HEAD;
    // Typed like this by people; clients of the API have no use for it, so that the document has no route for it.
    if is_read && head.uri.path() == docs::SLASHED {
        return Ok(docs::without_slash());
    }
    routes.answer(head, call).await
}

/// How the process is doing.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProbeView {
    /// `alive` or `ready`.
    #[schema(value_type = String, example = "ready")]
    status: &'static str,
}

/// What this is, and where to read on.
#[derive(Serialize, ToSchema)]
pub(crate) struct RootView {
    /// `Tollgate`.
    #[schema(value_type = String, example = "Tollgate")]
    name: &'static str,
    /// The program's version.
    #[schema(value_type = String, example = "0.1.0")]
    version: &'static str,
    /// Where the page is on which the API can be read and tried.
    #[schema(value_type = String, example = "/docs")]
    docs: &'static str,
    /// Where the operator's pages are; on the operator's listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, nullable = false, example = "/console")]
    console: Option<&'static str>,
    /// Where the OpenAPI document of this listener is.
    #[schema(example = "/openapi.json?part=merchants")]
    openapi: String,
}

/// What this is
///
/// And where its documentation is.
#[utoipa::path(
    get, path = "/", operation_id = "get_root", tag = "Service",
    responses((status = 200, description = "Where to read on", body = Envelope<RootView>)),
)]
pub(crate) async fn root(request: OpenCall) -> Outcome {
    request.call.query(&[], Pages::No)?;
    let openapi = format!("/openapi.json?part={}", request.part.as_str());
    let console = (request.part == Part::Operator).then_some(console::PREFIX);
    let version = env!("CARGO_PKG_VERSION");
    request.call.ok(RootView { name: "Tollgate", version, docs: docs::PATH, console, openapi })
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
    params(("part" = Option<String>, Query, description = "Only what one listener answers: `merchants` or `operator`.")),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(crate) async fn document(request: OpenCall) -> Outcome {
    let part = match request.call.query(&["part"], Pages::No)?.text("part") {
        None => None,
        Some(name) => Some(Part::named(&name).ok_or_else(|| ApiError::field("part", "must be merchants or operator"))?),
    };
    Ok(Answer::document(request.documents.get(part)))
}
