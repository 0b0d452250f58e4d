//! How the gateway as a whole does.

use crate::api::call::OperatorCall;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::stats::StatsView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/admin/v1/stats", read)
}

/// Read how the gateway does
///
/// Version, mode, readiness, and what its limits and webhooks come to, from memory alone.
#[utoipa::path(
    get, path = "/admin/v1/stats", operation_id = "get_stats", tag = "Service",
    responses((status = 200, description = "The figures", body = Envelope<StatsView>)),
)]
pub(crate) async fn read(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.stats())
}
