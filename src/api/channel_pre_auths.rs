//! Pre-auths over HTTP for clients that know them by their channel's number. Nothing needs an idempotency key here, and
//! times are Unix seconds.

use crate::api::call::{MerchantCall, Named, stored};
use crate::api::envelope::{Envelope, Outcome};
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::command::{CancelChannelPreAuth, CaptureChannelPreAuth, CreateChannelPreAuth};
use crate::gateway::view::{ChannelOperationView, ChannelPreAuthView};

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Post, "/api/v1/channel/pre-auth", create)
        .with(Verb::Post, "/api/v1/channel/pre-auth/capture", capture)
        .with(Verb::Post, "/api/v1/channel/pre-auth/cancel", cancel)
        .with(Verb::Get, "/api/v1/channel/pre-auth/{channel_pre_auth_no}", get)
}

/// Have money held on one channel
#[utoipa::path(
    post, path = "/api/v1/channel/pre-auth", operation_id = "create_channel_pre_auth", tag = "Pre-auths",
    request_body = CreateChannelPreAuth,
    responses(
        (status = 201, description = "It is known where the pre-auth stands, or the payer has to act", body = Envelope<ChannelPreAuthView>),
        (status = 202, description = "The outcome is not known yet and is being asked for", body = Envelope<ChannelPreAuthView>),
        (status = 409, description = "`ORDER_EXISTS` with `pre_auth_no`, also for the merchant's own number; `IDEMPOTENCY_IN_PROGRESS`"),
        (status = 422, description = "`IDEMPOTENCY_MISMATCH`, `AMOUNT_TOO_LARGE`, `CURRENCY_NOT_SUPPORTED`, `PRE_AUTH_NOT_SUPPORTED`, `PAN_REFUSED`"),
        (status = 502, description = "`CHANNEL_ERROR` with `pre_auth_no`: certainly nothing is held, the pre-auth is `failed`"),
        (status = 503, description = "`NO_CHANNEL_AVAILABLE` with `reasons`, for every channel `{channel, reason, dropped_by, value, demanded}`; `OVERLOADED`; `STORAGE_LOW`; `SHUTTING_DOWN`"),
    ),
)]
pub(crate) async fn create(MerchantCall { call, caller, origin }: MerchantCall) -> Outcome {
    let command: CreateChannelPreAuth = call.json()?;
    stored(call.gateway.pre_auths().by_channel().create(&caller, origin, command).await?)
}

/// Capture a pre-auth by its channel's number
///
/// All that is held when `amount` is absent. What is not taken is released in the same step.
#[utoipa::path(
    post, path = "/api/v1/channel/pre-auth/capture", operation_id = "capture_channel_pre_auth", tag = "Pre-auths",
    request_body = CaptureChannelPreAuth,
    responses(
        (status = 200, description = "Captured", body = Envelope<ChannelOperationView>),
        (status = 202, description = "The outcome is not known yet and is being asked for", body = Envelope<ChannelOperationView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`; `IDEMPOTENCY_IN_PROGRESS`"),
        (status = 422, description = "`IDEMPOTENCY_MISMATCH`; `AMOUNT_TOO_LARGE` with `max_amount`, after the state was checked"),
        (status = 502, description = "`CHANNEL_ERROR` with `pre_auth_no`: certainly not captured, the money is held on"),
    ),
)]
pub(crate) async fn capture(MerchantCall { call, caller, origin }: MerchantCall) -> Outcome {
    let command: CaptureChannelPreAuth = call.json()?;
    stored(call.gateway.pre_auths().by_channel().capture(&caller, origin, command).await?)
}

/// Cancel a pre-auth by its channel's number
#[utoipa::path(
    post, path = "/api/v1/channel/pre-auth/cancel", operation_id = "cancel_channel_pre_auth", tag = "Pre-auths",
    request_body = CancelChannelPreAuth,
    responses(
        (status = 200, description = "Canceled", body = Envelope<ChannelOperationView>),
        (status = 202, description = "The channel is being asked to close it", body = Envelope<ChannelOperationView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`; `IDEMPOTENCY_IN_PROGRESS`"),
        (status = 422, description = "`IDEMPOTENCY_MISMATCH`, `PAN_REFUSED`"),
        (status = 502, description = "`CHANNEL_ERROR` with `pre_auth_no`: certainly not released, the money is held on"),
    ),
)]
pub(crate) async fn cancel(MerchantCall { call, caller, origin }: MerchantCall) -> Outcome {
    let command: CancelChannelPreAuth = call.json()?;
    stored(call.gateway.pre_auths().by_channel().cancel(&caller, origin, command).await?)
}

/// Read a pre-auth by its channel's number
#[utoipa::path(
    get, path = "/api/v1/channel/pre-auth/{channel_pre_auth_no}", operation_id = "get_channel_pre_auth",
    tag = "Pre-auths",
    params(
        ("channel_pre_auth_no" = String, Path, description = "The channel's number"),
        ("channel" = String, Query, description = "The channel"),
    ),
    responses(
        (status = 200, description = "The pre-auth", body = Envelope<ChannelPreAuthView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get(Named(number): Named<String>, MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    let channel = call.query(&["channel"], Pages::No)?.text("channel");
    let channel = channel.ok_or_else(|| ApiError::field("channel", "must be the name of a channel"))?;
    call.ok(call.gateway.pre_auths().by_channel().get(&caller, &channel, &number).await?)
}
