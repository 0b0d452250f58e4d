//! Payments and refunds that could not be resolved, ended by the operator.

use crate::api::call::{Named, OperatorCall};
use crate::api::envelope::{Envelope, Outcome};
use crate::api::routes::{Routes, Verb};
use crate::gateway::command::ResolveByHand;
use crate::gateway::view::{OperatorPaymentView, OperatorRefundView};

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Post, "/admin/v1/payments/{payment_no}/resolve", payment).with(
        Verb::Post,
        "/admin/v1/refunds/{refund_no}/resolve",
        refund,
    )
}

/// Resolve a payment
///
/// Ends a payment in `needs_review` as somebody has found out that it ended. The merchant is told; the order number of one
/// that failed is free again.
#[utoipa::path(
    post, path = "/admin/v1/payments/{payment_no}/resolve", operation_id = "resolve_payment", tag = "Payments",
    request_body = ResolveByHand,
    params(("payment_no" = String, Path, description = "The payment's number")),
    responses(
        (status = 200, description = "The payment as it is now", body = Envelope<OperatorPaymentView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE`: it does not need it"),
    ),
)]
pub(crate) async fn payment(
    Named(payment_no): Named<String>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    let command: ResolveByHand = call.json()?;
    call.ok(call.gateway.payments().resolve(&operator, &payment_no, command).await?)
}

/// Resolve a refund
///
/// Ends a refund in `needs_review` as somebody has found out that it ended. The merchant is told; the amount of one that
/// failed can be given back again.
#[utoipa::path(
    post, path = "/admin/v1/refunds/{refund_no}/resolve", operation_id = "resolve_refund", tag = "Payments",
    request_body = ResolveByHand,
    params(("refund_no" = String, Path, description = "The refund's number")),
    responses(
        (status = 200, description = "The refund as it is now", body = Envelope<OperatorRefundView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE`: it does not need it"),
    ),
)]
pub(crate) async fn refund(Named(refund_no): Named<String>, OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let command: ResolveByHand = call.json()?;
    call.ok(call.gateway.refunds().resolve(&operator, &refund_no, command).await?)
}
