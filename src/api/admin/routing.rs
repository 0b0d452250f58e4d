//! Mode, ladder and default channel of the routing, its versions, and rollback, as the operator manages them.

use crate::api::call::OperatorCall;
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::routing::settings::{RollBack, RoutingSettingsView, UpdateRouting};
use crate::gateway::routing::versions::RoutingVersionView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, "/admin/v1/routing", get)
        .with(Verb::Put, "/admin/v1/routing", update)
        .with(Verb::Get, "/admin/v1/routing/versions", versions)
        .with(Verb::Post, "/admin/v1/routing/rollback", roll_back)
}

/// Read how channels are chosen
///
/// With the version in force, what was changed through this API, and what of that does not fit the configuration file any
/// more.
#[utoipa::path(
    get, path = "/admin/v1/routing", operation_id = "get_routing", tag = "Routing",
    responses((status = 200, description = "The routing in force", body = Envelope<RoutingSettingsView>)),
)]
pub(crate) async fn get(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.routing().settings().await?)
}

/// Change how channels are chosen
///
/// Only what is given changes, at once and as a whole; `null` goes back to what the configuration file says. It stays over
/// restarts.
#[utoipa::path(
    put, path = "/admin/v1/routing", operation_id = "update_routing", tag = "Routing", request_body = Option<UpdateRouting>,
    responses((status = 200, description = "The routing in force now", body = Envelope<RoutingSettingsView>)),
)]
pub(crate) async fn update(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let command: UpdateRouting = call.json_or_default()?;
    call.ok(call.gateway.routing().update(command, &operator).await?)
}

/// List versions of the routing
///
/// One for each change of what is in force, whoever made it; the last 1,000 are kept.
#[utoipa::path(
    get, path = "/admin/v1/routing/versions", operation_id = "list_routing_versions", tag = "Routing",
    params(
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page, newest first", body = Envelope<Listed<RoutingVersionView>>)),
)]
pub(crate) async fn versions(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let page = call.query(&[], Pages::Yes)?.page()?;
    call.ok(call.gateway.routing().versions(&page).await?)
}

/// Go back to a version
///
/// What was changed through this API is again what it was in that version, as a new version. What the configuration file
/// says stays as it is.
#[utoipa::path(
    post, path = "/admin/v1/routing/rollback", operation_id = "roll_back_routing", tag = "Routing", request_body = RollBack,
    responses(
        (status = 200, description = "The routing in force now", body = Envelope<RoutingSettingsView>),
        (status = 404, description = "`NOT_FOUND`: no such version is kept"),
    ),
)]
pub(crate) async fn roll_back(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let command: RollBack = call.json()?;
    call.ok(call.gateway.routing().roll_back(command, &operator).await?)
}
