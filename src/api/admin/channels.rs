//! Payment channels, as the operator sees them.

use crate::api::call::OperatorCall;
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::page::Page;
use crate::gateway::view::ChannelView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/admin/v1/channels", list)
}

/// List channels with their health
#[utoipa::path(
    get, path = "/admin/v1/channels", operation_id = "list_channels", tag = "Channels",
    responses((status = 200, description = "All channels", body = Envelope<Listed<ChannelView>>)),
)]
pub(crate) async fn list(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(Page { items: call.gateway.channels(), next_cursor: None })
}
