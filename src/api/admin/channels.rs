//! Payment channels, as the operator sees them.

use crate::api::call::{Named, OperatorCall};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::page::Page;
use crate::gateway::routing::channels::{ChannelDetailView, UpdateChannel};
use crate::gateway::routing::check::ChannelCheckView;
use crate::gateway::view::ChannelView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, "/admin/v1/channels", list)
        .with(Verb::Get, "/admin/v1/channels/{name}", get)
        .with(Verb::Patch, "/admin/v1/channels/{name}", update)
        .with(Verb::Post, "/admin/v1/channels/{name}/reset-health", reset_health)
        .with(Verb::Post, "/admin/v1/channels/{name}/check", check)
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

/// Read a channel with what is configured of it
#[utoipa::path(
    get, path = "/admin/v1/channels/{name}", operation_id = "get_channel", tag = "Channels",
    params(("name" = String, Path, description = "The channel's name")),
    responses(
        (status = 200, description = "The channel", body = Envelope<ChannelDetailView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get(Named(name): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.routing().channel(&name).await?)
}

/// Change a channel
///
/// Only what is given changes, in `fees` and `caps` too, with the next decision; `null` goes back to what the configuration
/// file says. It stays over restarts.
#[utoipa::path(
    patch, path = "/admin/v1/channels/{name}", operation_id = "update_channel", tag = "Channels", request_body = Option<UpdateChannel>,
    params(("name" = String, Path, description = "The channel's name")),
    responses(
        (status = 200, description = "The channel as it is now", body = Envelope<ChannelDetailView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn update(Named(name): Named<String>, OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let command: UpdateChannel = call.json_or_default()?;
    call.ok(call.gateway.routing().update_channel(&name, command, &operator).await?)
}

/// Close a channel's breaker
///
/// At once, and forget what was learned about it.
#[utoipa::path(
    post, path = "/admin/v1/channels/{name}/reset-health", operation_id = "reset_channel_health", tag = "Channels",
    params(("name" = String, Path, description = "The channel's name")),
    responses(
        (status = 200, description = "The channel as it is now", body = Envelope<ChannelDetailView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn reset_health(Named(name): Named<String>, OperatorCall { call, operator }: OperatorCall) -> Outcome {
    call.no_fields()?;
    call.ok(call.gateway.routing().reset_health(&name, &operator).await?)
}

/// Check a channel
///
/// Makes a harmless, authenticated call of its provider and says what that showed: whether the credentials are taken, whose
/// account they are, and what is missing. No money is moved, nothing is changed, and payments do not notice. The answer is 200
/// also when the provider can't be reached or refuses; `result` says so.
#[utoipa::path(
    post, path = "/admin/v1/channels/{name}/check", operation_id = "check_channel", tag = "Channels",
    params(("name" = String, Path, description = "The channel's name")),
    responses(
        (status = 200, description = "What was found", body = Envelope<ChannelCheckView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn check(Named(name): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.no_fields()?;
    call.ok(call.gateway.routing().check_channel(&name).await?)
}
