//! Figures for Prometheus.

use crate::api::call::OperatorCall;
use crate::api::envelope::{Answer, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};

/// Where programs that gather figures look first; it needs a token like everything else of the operator.
pub(crate) const SHORT_PATH: &str = "/metrics";

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/admin/v1/metrics", read).with(Verb::Get, SHORT_PATH, read_short)
}

/// Read all figures
///
/// In Prometheus' text format 0.0.4.
#[utoipa::path(
    get, path = "/admin/v1/metrics", operation_id = "get_metrics", tag = "Service",
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain")),
)]
pub(crate) async fn read(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    Ok(Answer::metrics(call.gateway.metrics().text()?))
}

/// Read all figures at the usual path
///
/// The same as `/admin/v1/metrics`, with the same token.
#[utoipa::path(
    get, path = "/metrics", operation_id = "get_metrics_at_usual_path", tag = "Service",
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain")),
)]
pub(crate) async fn read_short(request: OperatorCall) -> Outcome {
    read(request).await
}
