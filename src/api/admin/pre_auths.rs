//! Pre-auths of all merchants, as the operator sees them.

use crate::api::call::{Named, OperatorCall};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::command::PaymentFilter;
use crate::gateway::view::OperatorPreAuthView;

/// What a list of pre-auths can be narrowed by.
const FILTERS: [&str; 6] = ["merchant_id", "order_no", "status", "channel", "from", "to"];

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/admin/v1/pre-auths", list).with(Verb::Get, "/admin/v1/pre-auths/{pre_auth_no}", get)
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
