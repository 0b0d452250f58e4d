//! The hold after a restore, as the operator sees and ends it.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::call::OperatorCall;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::payments::HoldView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/admin/v1/hold", read).with(Verb::Post, "/admin/v1/hold/confirm", confirm)
}

/// Which channel was compared.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmHold {
    /// The channel's name.
    channel: String,
}

/// Read the hold
///
/// After the store was restored, no money moves until every provider was asked about everything since.
#[utoipa::path(
    get, path = "/admin/v1/hold", operation_id = "get_hold", tag = "Store",
    responses((status = 200, description = "The hold", body = Envelope<HoldView>)),
)]
pub(crate) async fn read(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.hold().view())
}

/// Confirm a channel
///
/// Says that what the channel's provider did since the restore point was compared by hand and dealt with.
#[utoipa::path(
    post, path = "/admin/v1/hold/confirm", operation_id = "confirm_hold", tag = "Store", request_body = ConfirmHold,
    responses(
        (status = 200, description = "The hold as it is now", body = Envelope<HoldView>),
        (status = 404, description = "`NOT_FOUND`: no such channel is held"),
    ),
)]
pub(crate) async fn confirm(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let command: ConfirmHold = call.json()?;
    call.ok(call.gateway.hold().confirm(&operator, &command.channel).await?)
}
