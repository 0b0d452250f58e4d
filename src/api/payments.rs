//! Payments over HTTP.

use crate::api::call::{MerchantCall, Named, stored, with_key};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::command::{CreatePayment, PaymentFilter};
use crate::gateway::view::{PaymentView, RoutingView};

/// What a list of payments can be narrowed by.
const FILTERS: [&str; 5] = ["order_no", "status", "channel", "from", "to"];

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Post, "/api/v1/payments", create)
        .with(Verb::Get, "/api/v1/payments", list)
        .with(Verb::Get, "/api/v1/payments/{payment_no}", get)
        .with(Verb::Post, "/api/v1/payments/{payment_no}/cancel", cancel)
        .with(Verb::Get, "/api/v1/payments/{payment_no}/routing", routing)
}

/// Take a payment
///
/// Without `channel` the router chooses. A decline is not an error: 201 with `status: "failed"` and `failure`.
#[utoipa::path(
    post, path = "/api/v1/payments", operation_id = "create_payment", tag = "Payments", request_body = CreatePayment,
    responses(
        (status = 201, description = "The payment's outcome is known, or the payer has to act", body = Envelope<PaymentView>),
        (status = 202, description = "The outcome is not known yet and is being asked for", body = Envelope<PaymentView>),
        (status = 409, description = "`ORDER_EXISTS` with `payment_no`; `IDEMPOTENCY_IN_PROGRESS`"),
        (status = 422, description = "`IDEMPOTENCY_MISMATCH`, `AMOUNT_TOO_LARGE`, `CURRENCY_NOT_SUPPORTED`, `PAN_REFUSED`"),
        (status = 502, description = "`CHANNEL_ERROR` with `payment_no`: certainly not charged, the payment is `failed`"),
        (status = 503, description = "`NO_CHANNEL_AVAILABLE` with `reasons`, for every channel `{channel, reason, dropped_by, value, demanded}`; `OVERLOADED`; `STORAGE_LOW`; `SHUTTING_DOWN`"),
    ),
)]
pub(crate) async fn create(MerchantCall { call, caller, origin }: MerchantCall) -> Outcome {
    let command: CreatePayment = call.json()?;
    stored(call.gateway.payments().create(&caller, origin, command).await?)
}

/// List payments
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/v1/payments", operation_id = "list_payments", tag = "Payments",
    params(
        ("order_no" = Option<String>, Query, description = "Exactly this order number"),
        ("status" = Option<String>, Query, description = "In this status"),
        ("channel" = Option<String>, Query, description = "On this channel"),
        ("from" = Option<String>, Query, description = "Made at or after this, RFC 3339"),
        ("to" = Option<String>, Query, description = "Made before this, RFC 3339"),
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<PaymentView>>)),
)]
pub(crate) async fn list(MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    let query = call.query(&FILTERS, Pages::Yes)?;
    let filter = PaymentFilter {
        order_no: query.text("order_no"),
        status: query.text("status"),
        channel: query.text("channel"),
        from: query.text("from"),
        to: query.text("to"),
    };
    let page = call.gateway.payments().list(&caller, &filter, &query.page()?)?;
    call.ok(page)
}

/// Read a payment
#[utoipa::path(
    get, path = "/api/v1/payments/{payment_no}", operation_id = "get_payment", tag = "Payments",
    params(("payment_no" = String, Path, description = "The payment's number")),
    responses(
        (status = 200, description = "The payment", body = Envelope<PaymentView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get(Named(payment_no): Named<String>, MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.payments().get(&caller, &payment_no)?)
}

/// Cancel a payment
///
/// Possible while the payer has to act or the channel works on it; afterwards use refunds.
#[utoipa::path(
    post, path = "/api/v1/payments/{payment_no}/cancel", operation_id = "cancel_payment", tag = "Payments",
    params(("payment_no" = String, Path, description = "The payment's number")),
    responses(
        (status = 200, description = "Canceled", body = Envelope<PaymentView>),
        (status = 202, description = "The channel is being asked to close it", body = Envelope<PaymentView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`; `IDEMPOTENCY_IN_PROGRESS`"),
        (status = 422, description = "`IDEMPOTENCY_MISMATCH`"),
    ),
)]
pub(crate) async fn cancel(
    Named(payment_no): Named<String>,
    MerchantCall { call, caller, origin }: MerchantCall,
) -> Outcome {
    call.no_fields()?;
    stored(call.gateway.payments().cancel(&caller, with_key(origin)?, &payment_no).await?)
}

/// Read how a payment was routed
///
/// Every attempt with the decision that led to it.
#[utoipa::path(
    get, path = "/api/v1/payments/{payment_no}/routing", operation_id = "get_payment_routing", tag = "Payments",
    params(("payment_no" = String, Path, description = "The payment's number")),
    responses(
        (status = 200, description = "The decisions", body = Envelope<RoutingView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn routing(
    Named(payment_no): Named<String>,
    MerchantCall { call, caller, .. }: MerchantCall,
) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.payments().routing(&caller, &payment_no, call.context.language)?)
}
