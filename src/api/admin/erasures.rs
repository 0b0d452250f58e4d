//! Erasing customers' data, as the operator asks for it.

use crate::api::call::{Named, OperatorCall};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::erasures::{EraseCustomer, ErasureView};

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Post, "/admin/v1/merchants/{merchant_id}/payments/{payment_no}/erase", erase_payment)
        .with(Verb::Post, "/admin/v1/merchants/{merchant_id}/pre-auths/{pre_auth_no}/erase", erase_pre_auth)
        .with(Verb::Post, "/admin/v1/merchants/{merchant_id}/erasures", erase_customer)
        .with(Verb::Get, "/admin/v1/erasures", list)
        .with(Verb::Get, "/admin/v1/erasures/{erasure_id}", get)
}

/// Erase a customer's data from a payment
///
/// E-mail, address, description, metadata, return URL and refunds' reasons go, in the stored answers to its requests, too;
/// numbers, amounts and states stay. The payment's row is erased with this answer, the rest soon after.
#[utoipa::path(
    post, path = "/admin/v1/merchants/{merchant_id}/payments/{payment_no}/erase", operation_id = "erase_payment",
    tag = "Erasures",
    params(
        ("merchant_id" = String, Path, description = "The merchant's id"),
        ("payment_no" = String, Path, description = "The payment's number"),
    ),
    responses(
        (status = 202, description = "Begun", body = Envelope<ErasureView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE`: the payment, or a refund of it, is not final yet"),
    ),
)]
pub(crate) async fn erase_payment(
    Named((merchant_id, payment_no)): Named<(String, String)>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    call.no_fields()?;
    call.accepted(call.gateway.erasures().erase_payment(&merchant_id, &payment_no, &operator).await?)
}

/// Erase a customer's data from a pre-auth
///
/// As from a payment; what a merchant said when it canceled goes too.
#[utoipa::path(
    post, path = "/admin/v1/merchants/{merchant_id}/pre-auths/{pre_auth_no}/erase", operation_id = "erase_pre_auth",
    tag = "Erasures",
    params(
        ("merchant_id" = String, Path, description = "The merchant's id"),
        ("pre_auth_no" = String, Path, description = "Our number of the pre-auth"),
    ),
    responses(
        (status = 202, description = "Begun", body = Envelope<ErasureView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE`: the pre-auth, or a refund of it, is not final yet"),
    ),
)]
pub(crate) async fn erase_pre_auth(
    Named((merchant_id, pre_auth_no)): Named<(String, String)>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    call.no_fields()?;
    call.accepted(call.gateway.erasures().erase_pre_auth(&merchant_id, &pre_auth_no, &operator).await?)
}

/// Erase a customer's data from all payments and pre-auths
///
/// Of one merchant, found by exactly one of `customer_email` and `customer_id` (a field of their metadata). In the
/// background; those that are not final yet are counted in `open_payments` and `open_pre_auths` and left as they are, rows that
/// can't be read in `unreadable`.
#[utoipa::path(
    post, path = "/admin/v1/merchants/{merchant_id}/erasures", operation_id = "erase_customer", tag = "Erasures",
    request_body = EraseCustomer,
    params(("merchant_id" = String, Path, description = "The merchant's id")),
    responses(
        (status = 202, description = "Begun", body = Envelope<ErasureView>),
        (status = 404, description = "`NOT_FOUND`: neither such a merchant nor anything of it"),
        (status = 503, description = "`OVERLOADED`: very many erasures wait"),
    ),
)]
pub(crate) async fn erase_customer(
    Named(merchant_id): Named<String>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    let command: EraseCustomer = call.json()?;
    call.accepted(call.gateway.erasures().erase_customer(&merchant_id, command, &operator).await?)
}

/// List erasures
///
/// Newest first; those that were done 90 days ago are taken away, the audit keeps that they were asked for.
#[utoipa::path(
    get, path = "/admin/v1/erasures", operation_id = "list_erasures", tag = "Erasures",
    params(
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<ErasureView>>)),
)]
pub(crate) async fn list(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let page = call.query(&[], Pages::Yes)?.page()?;
    call.ok(call.gateway.erasures().list(&page)?)
}

/// Read an erasure
#[utoipa::path(
    get, path = "/admin/v1/erasures/{erasure_id}", operation_id = "get_erasure", tag = "Erasures",
    params(("erasure_id" = String, Path, description = "The erasure's id")),
    responses(
        (status = 200, description = "How far it is", body = Envelope<ErasureView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get(Named(erasure_id): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.erasures().get(&erasure_id)?)
}
