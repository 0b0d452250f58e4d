//! The configuration of a running gateway, read again.

use crate::api::call::OperatorCall;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::routes::{Routes, Verb};
use crate::gateway::reload::Reloaded;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Post, "/admin/v1/config/reload", reload)
}

/// Read the configuration again
///
/// As SIGHUP does: what can change while the gateway runs is put in force, what can't is named. What was changed through
/// this API stays on top. A configuration that is not valid changes nothing.
#[utoipa::path(
    post, path = "/admin/v1/config/reload", operation_id = "reload_config", tag = "Service",
    responses(
        (status = 200, description = "What has changed", body = Envelope<Reloaded>),
        (status = 404, description = "`NOT_FOUND`: this gateway was not started from a configuration that can be read again"),
    ),
)]
pub(crate) async fn reload(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    call.no_fields()?;
    let reloaded = call.gateway.reload_from_source(&operator).await;
    call.ok(reloaded.map_err(crate::gateway::error::GatewayError::from)?)
}
