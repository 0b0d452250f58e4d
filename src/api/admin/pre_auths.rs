//! Pre-auths of all merchants, as the operator sees them.

use crate::api::call::{Call, Named, OperatorCall};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::command::{CancelPreAuth, CapturePreAuth, PaymentFilter};
use crate::gateway::view::OperatorPreAuthView;

/// What a list of pre-auths can be narrowed by.
const FILTERS: [&str; 6] = ["merchant_id", "order_no", "status", "channel", "from", "to"];

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, "/admin/v1/pre-auths", list)
        .with(Verb::Get, "/admin/v1/pre-auths/{pre_auth_no}", get)
        .with(Verb::Post, "/admin/v1/pre-auths/{pre_auth_no}/capture", capture)
        .with(Verb::Post, "/admin/v1/pre-auths/{pre_auth_no}/cancel", cancel)
}

/// List pre-auths of all merchants
///
/// Newest first, by the second. With a filter a page may be short and still have a `next_cursor`.
#[utoipa::path(
    get, path = "/admin/v1/pre-auths", operation_id = "list_all_pre_auths", tag = "Pre-auths",
    params(
        ("merchant_id" = Option<String>, Query, description = "Of this merchant"),
        ("order_no" = Option<String>, Query, description = "Exactly this order number"),
        ("status" = Option<String>, Query, description = "In this status"),
        ("channel" = Option<String>, Query, description = "On this channel"),
        ("from" = Option<String>, Query, description = "Made at or after this, RFC 3339"),
        ("to" = Option<String>, Query, description = "Made before this, RFC 3339"),
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<OperatorPreAuthView>>)),
)]
pub(crate) async fn list(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let query = call.query(&FILTERS, Pages::Yes)?;
    let filter = PaymentFilter {
        order_no: query.text("order_no"),
        status: query.text("status"),
        channel: query.text("channel"),
        from: query.text("from"),
        to: query.text("to"),
    };
    let merchant_id = query.text("merchant_id");
    call.ok(call.gateway.pre_auths().list_all(merchant_id.as_deref(), &filter, &query.page()?)?)
}

/// Read any merchant's pre-auth
#[utoipa::path(
    get, path = "/admin/v1/pre-auths/{pre_auth_no}", operation_id = "get_any_pre_auth", tag = "Pre-auths",
    params(("pre_auth_no" = String, Path, description = "The pre-auth's number")),
    responses(
        (status = 200, description = "The pre-auth", body = Envelope<OperatorPreAuthView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get(Named(pre_auth_no): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.pre_auths().find(&pre_auth_no)?)
}

/// Capture any merchant's pre-auth
///
/// Without `amount` all that is held; less than that releases the rest. The merchant is told.
#[utoipa::path(
    post, path = "/admin/v1/pre-auths/{pre_auth_no}/capture", operation_id = "capture_any_pre_auth", tag = "Pre-auths",
    request_body = Option<CapturePreAuth>,
    params(("pre_auth_no" = String, Path, description = "The pre-auth's number")),
    responses(
        (status = 200, description = "The pre-auth as it is now; `requires_capture` if its channel has refused", body = Envelope<OperatorPreAuthView>),
        (status = 202, description = "The outcome is not known yet and is being asked for", body = Envelope<OperatorPreAuthView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`: nothing is held, or something is under way"),
        (status = 422, description = "`AMOUNT_TOO_LARGE`: more than is held"),
    ),
)]
pub(crate) async fn capture(
    Named(pre_auth_no): Named<String>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    let command: CapturePreAuth = call.json_or_default()?;
    let view = call.gateway.pre_auths().capture_by(&operator, &pre_auth_no, command).await?;
    answer(&call, view)
}

/// Cancel any merchant's pre-auth
///
/// Releases what is held, or gives up what is not held yet. The merchant is told.
#[utoipa::path(
    post, path = "/admin/v1/pre-auths/{pre_auth_no}/cancel", operation_id = "cancel_any_pre_auth", tag = "Pre-auths",
    request_body = Option<CancelPreAuth>,
    params(("pre_auth_no" = String, Path, description = "The pre-auth's number")),
    responses(
        (status = 200, description = "The pre-auth as it is now; `requires_capture` if its channel has refused", body = Envelope<OperatorPreAuthView>),
        (status = 202, description = "The outcome is not known yet and is being asked for", body = Envelope<OperatorPreAuthView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`: it is over, or something is under way"),
    ),
)]
pub(crate) async fn cancel(
    Named(pre_auth_no): Named<String>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    let command: CancelPreAuth = call.json_or_default()?;
    let view = call.gateway.pre_auths().cancel_by(&operator, &pre_auth_no, command).await?;
    answer(&call, view)
}

fn answer(call: &Call, view: OperatorPreAuthView) -> Outcome {
    let is_open = view.pre_auth.status == "processing" || view.pre_auth.reconciling;
    if is_open { call.accepted(view) } else { call.ok(view) }
}
