//! Merchants' limits for services beside the gateway, in whatever language they are written.

use crate::api::call::OperatorCall;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::routes::{Routes, Verb};
use crate::gateway::external_permits::{CheckLimits, LimitCheckView, ReleasePermit, ReleasedView};

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Post, "/admin/v1/limits/check", check).with(Verb::Post, "/admin/v1/limits/release", release)
}

/// Ask a merchant's limits about a request
///
/// Counts it and hands out a permit for as long as it runs, or refuses it and consumes nothing: both are 200.
#[utoipa::path(
    post, path = "/admin/v1/limits/check", operation_id = "check_limits", tag = "Limits", request_body = CheckLimits,
    responses(
        (status = 200, description = "What the limits say", body = Envelope<LimitCheckView>),
        (status = 403, description = "`FORBIDDEN`: the merchant is suspended"),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn check(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let command: CheckLimits = call.json()?;
    // In the client's own task: who hangs up before the decision leaves no permit behind.
    call.ok(call.gateway.check_limits(&command).await?)
}

/// Give a permit back
///
/// As often as one likes: the second time changes nothing.
#[utoipa::path(
    post, path = "/admin/v1/limits/release", operation_id = "release_permit", tag = "Limits", request_body = ReleasePermit,
    responses((status = 200, description = "Whether it was still out", body = Envelope<ReleasedView>)),
)]
pub(crate) async fn release(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let command: ReleasePermit = call.json()?;
    call.ok(call.gateway.release_permit(&command.permit))
}
