//! What the running process logs.

use crate::api::call::OperatorCall;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::log_level::{ChangeLogLevel, LogLevelView};

const PATH: &str = "/admin/v1/log-level";

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, PATH, read).with(Verb::Put, PATH, change)
}

/// Read what is logged
#[utoipa::path(
    get, path = "/admin/v1/log-level", operation_id = "get_log_level", tag = "Service",
    responses(
        (status = 200, description = "What is logged", body = Envelope<LogLevelView>),
        (status = 404, description = "`NOT_FOUND`: the program that embeds this gateway keeps logs of its own"),
    ),
)]
pub(crate) async fn read(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.log_level()?)
}

/// Change what is logged
///
/// At once, for a while or until the next change, reload of `telemetry.log` or start. Other libraries' details are never
/// logged, whatever the filter says: there may be secrets in them.
#[utoipa::path(
    put, path = "/admin/v1/log-level", operation_id = "change_log_level", tag = "Service",
    request_body = ChangeLogLevel,
    responses(
        (status = 200, description = "What is logged now", body = Envelope<LogLevelView>),
        (status = 404, description = "`NOT_FOUND`: the program that embeds this gateway keeps logs of its own"),
    ),
)]
pub(crate) async fn change(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let wanted: ChangeLogLevel = call.json()?;
    call.ok(call.gateway.change_log_level(&operator, wanted).await?)
}
