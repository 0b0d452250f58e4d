//! Refunds over HTTP.

use crate::api::call::{MerchantCall, Named, stored, with_key};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::command::CreateRefund;
use crate::gateway::view::RefundView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Post, "/api/v1/payments/{payment_no}/refunds", create)
        .with(Verb::Get, "/api/v1/payments/{payment_no}/refunds", list)
        .with(Verb::Get, "/api/v1/refunds/{refund_no}", get)
}

/// Refund a payment
///
/// All that is left when `amount` is absent. The body may be absent.
#[utoipa::path(
    post, path = "/api/v1/payments/{payment_no}/refunds", operation_id = "create_refund", tag = "Refunds", request_body = Option<CreateRefund>,
    params(("payment_no" = String, Path, description = "The payment's number")),
    responses(
        (status = 201, description = "The refund's outcome is known", body = Envelope<RefundView>),
        (status = 202, description = "The outcome is not known yet and is being asked for", body = Envelope<RefundView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`; `IDEMPOTENCY_IN_PROGRESS`"),
        (status = 422, description = "`IDEMPOTENCY_MISMATCH`, `AMOUNT_TOO_LARGE`, `PAN_REFUSED`"),
        (status = 502, description = "`CHANNEL_ERROR` with `refund_no`: certainly not done, the refund is `failed`"),
    ),
)]
pub(crate) async fn create(
    Named(payment_no): Named<String>,
    MerchantCall { call, caller, origin }: MerchantCall,
) -> Outcome {
    let command: CreateRefund = call.json_or_default()?;
    stored(call.gateway.refunds().create(&caller, with_key(origin)?, &payment_no, command).await?)
}

/// List a payment's refunds
#[utoipa::path(
    get, path = "/api/v1/payments/{payment_no}/refunds", operation_id = "list_refunds", tag = "Refunds",
    params(("payment_no" = String, Path, description = "The payment's number")),
    responses(
        (status = 200, description = "All refunds, newest first", body = Envelope<Listed<RefundView>>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn list(Named(payment_no): Named<String>, MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.refunds().list(&caller, &payment_no)?)
}

/// Read a refund
#[utoipa::path(
    get, path = "/api/v1/refunds/{refund_no}", operation_id = "get_refund", tag = "Refunds",
    params(("refund_no" = String, Path, description = "The refund's number")),
    responses(
        (status = 200, description = "The refund", body = Envelope<RefundView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get(Named(refund_no): Named<String>, MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.refunds().get(&caller, &refund_no)?)
}
