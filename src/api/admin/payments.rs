//! Payments of all merchants, as the operator sees them.

use crate::api::call::{Named, OperatorCall};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::command::PaymentFilter;
use crate::gateway::view::{OperatorPaymentView, OperatorRoutingView};

/// What a list of payments can be narrowed by.
const FILTERS: [&str; 6] = ["merchant_id", "order_no", "status", "channel", "from", "to"];

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/admin/v1/payments", list).with(Verb::Get, "/admin/v1/payments/{payment_no}", get).with(
        Verb::Get,
        "/admin/v1/payments/{payment_no}/routing",
        routing,
    )
}

/// List payments of all merchants
///
/// Newest first, by the second. With a filter a page may be short and still have a `next_cursor`.
#[utoipa::path(
    get, path = "/admin/v1/payments", operation_id = "list_all_payments", tag = "Payments",
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
    responses((status = 200, description = "One page", body = Envelope<Listed<OperatorPaymentView>>)),
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
    call.ok(call.gateway.payments().list_all(merchant_id.as_deref(), &filter, &query.page()?)?)
}

/// Read any merchant's payment
#[utoipa::path(
    get, path = "/admin/v1/payments/{payment_no}", operation_id = "get_any_payment", tag = "Payments",
    params(("payment_no" = String, Path, description = "The payment's number")),
    responses(
        (status = 200, description = "The payment", body = Envelope<OperatorPaymentView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get(Named(payment_no): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.payments().find(&payment_no)?)
}

/// Read how any merchant's payment was routed
///
/// Every attempt with the decision that led to it.
#[utoipa::path(
    get, path = "/admin/v1/payments/{payment_no}/routing", operation_id = "get_any_payment_routing", tag = "Payments",
    params(("payment_no" = String, Path, description = "The payment's number")),
    responses(
        (status = 200, description = "The decisions", body = Envelope<OperatorRoutingView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn routing(Named(payment_no): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.payments().find_routing(&payment_no, call.context.language)?)
}
