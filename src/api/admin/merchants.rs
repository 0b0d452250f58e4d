//! Merchants, as the operator manages them.

use crate::api::call::{Named, OperatorCall};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Nothing, Outcome};
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::command::{CreateMerchant, UpdateMerchant};
use crate::gateway::view::{FullMerchantView, MerchantLimitsView, MerchantView, NewMerchantView};

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Post, "/admin/v1/merchants", create)
        .with(Verb::Get, "/admin/v1/merchants", list)
        .with(Verb::Get, "/admin/v1/merchants/{merchant_id}", get)
        .with(Verb::Patch, "/admin/v1/merchants/{merchant_id}", update)
        .with(Verb::Delete, "/admin/v1/merchants/{merchant_id}", delete)
        .with(Verb::Get, "/admin/v1/merchants/{merchant_id}/limits", limits)
        .with(Verb::Get, "/admin/v1/limits", fullest)
}

/// Make a merchant
///
/// With its first key, whose secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/admin/v1/merchants", operation_id = "create_merchant", tag = "Merchants", request_body = CreateMerchant,
    responses((status = 201, description = "The merchant and its first key", body = Envelope<NewMerchantView>)),
)]
pub(crate) async fn create(OperatorCall { call, operator }: OperatorCall) -> Outcome {
    let command: CreateMerchant = call.json()?;
    call.created(call.gateway.merchants().create(command, &operator).await?)
}

/// List merchants
#[utoipa::path(
    get, path = "/admin/v1/merchants", operation_id = "list_merchants", tag = "Merchants",
    params(
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<MerchantView>>)),
)]
pub(crate) async fn list(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let page = call.query(&[], Pages::Yes)?.page()?;
    call.ok(call.gateway.merchants().list(&page)?)
}

/// Read a merchant
#[utoipa::path(
    get, path = "/admin/v1/merchants/{merchant_id}", operation_id = "get_merchant", tag = "Merchants",
    params(("merchant_id" = String, Path, description = "The merchant's id")),
    responses(
        (status = 200, description = "The merchant", body = Envelope<MerchantView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get(Named(merchant_id): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.merchants().get(&merchant_id)?)
}

/// Change a merchant
///
/// Only what is given changes, and takes effect at once.
#[utoipa::path(
    patch, path = "/admin/v1/merchants/{merchant_id}", operation_id = "update_merchant", tag = "Merchants", request_body = Option<UpdateMerchant>,
    params(("merchant_id" = String, Path, description = "The merchant's id")),
    responses(
        (status = 200, description = "The merchant as it is now", body = Envelope<MerchantView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn update(
    Named(merchant_id): Named<String>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    let command: UpdateMerchant = call.json_or_default()?;
    call.ok(call.gateway.merchants().update(&merchant_id, command, &operator).await?)
}

/// Remove a merchant
///
/// Its keys stop working at once; what it did stays on record.
#[utoipa::path(
    delete, path = "/admin/v1/merchants/{merchant_id}", operation_id = "delete_merchant", tag = "Merchants",
    params(("merchant_id" = String, Path, description = "The merchant's id")),
    responses(
        (status = 200, description = "Removed; `data` is empty", body = Envelope<Nothing>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn delete(
    Named(merchant_id): Named<String>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    call.no_fields()?;
    call.gateway.merchants().delete(&merchant_id, &operator).await?;
    call.ok(Nothing {})
}

/// Read a merchant's limits and how much of them is used
#[utoipa::path(
    get, path = "/admin/v1/merchants/{merchant_id}/limits", operation_id = "get_merchant_limits", tag = "Merchants",
    params(("merchant_id" = String, Path, description = "The merchant's id")),
    responses(
        (status = 200, description = "The limits", body = Envelope<MerchantLimitsView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn limits(Named(merchant_id): Named<String>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.merchant_limits(&merchant_id).await?)
}

/// List the merchants that are nearest to a limit
///
/// Of those in memory, the one that uses most of one of its limits first. One page: the order changes all the time.
#[utoipa::path(
    get, path = "/admin/v1/limits", operation_id = "list_fullest_merchants", tag = "Merchants",
    params(
        ("near" = Option<bool>, Query, description = "`true`: only those from the lowest share of `near_percent` on"),
        ("limit" = Option<u32>, Query, description = "Rows, 1 to 100; 20 when absent"),
    ),
    responses((status = 200, description = "The merchants; `next_cursor` is null", body = Envelope<Listed<FullMerchantView>>)),
)]
pub(crate) async fn fullest(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let query = call.query(&["near"], Pages::Yes)?;
    let near = match query.text("near").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::field("near", "must be true or false")),
    };
    call.ok(call.gateway.fullest_merchants(near, &query.page()?).await?)
}
