//! Payments, pre-auths and refunds that could not be resolved, ended by the operator.

use crate::api::call::{Named, OperatorCall};
use crate::api::envelope::{Envelope, Outcome};
use crate::api::routes::{Routes, Verb};
use crate::gateway::command::{ResolveByHand, ResolvePreAuthByHand};
use crate::gateway::error::GatewayError;
use crate::gateway::view::{OperatorPaymentView, OperatorPreAuthView, OperatorRefundView};

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Post, "/admin/v1/payments/{payment_no}/resolve", payment)
        .with(Verb::Post, "/admin/v1/pre-auths/{pre_auth_no}/resolve", pre_auth)
        .with(Verb::Post, "/admin/v1/refunds/{refund_no}/resolve", refund)
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

/// Resolve a pre-auth
///
/// Ends a pre-auth in `needs_review` as somebody has found out that it stands. The merchant is told; the order number is free
/// again unless something was taken or is held.
#[utoipa::path(
    post, path = "/admin/v1/pre-auths/{pre_auth_no}/resolve", operation_id = "resolve_pre_auth", tag = "Pre-auths",
    request_body = ResolvePreAuthByHand,
    params(("pre_auth_no" = String, Path, description = "The pre-auth's number")),
    responses(
        (status = 200, description = "The pre-auth as it is now", body = Envelope<OperatorPreAuthView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE`: it does not need it, or what was held is said never to have been"),
        (status = 422, description = "`AMOUNT_TOO_LARGE`: more than was to be held"),
    ),
)]
pub(crate) async fn pre_auth(
    Named(pre_auth_no): Named<String>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    let command: ResolvePreAuthByHand = call.json()?;
    call.ok(call.gateway.pre_auths().resolve(&operator, &pre_auth_no, command).await?)
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
    let of_payment = call.gateway.refunds().resolve(&operator, &refund_no, command.clone()).await;
    call.ok(match of_payment {
        Err(GatewayError::NotFound(_)) => {
            call.gateway.pre_auths().resolve_refund(&operator, &refund_no, command).await?
        }
        resolved => resolved?,
    })
}
