//! Merchants' API keys, as the operator manages them.

use crate::api::call::{Named, OperatorCall};
use crate::api::envelope::{Envelope, Nothing, Outcome};
use crate::api::routes::{Routes, Verb};
use crate::gateway::view::NewKeyView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Post, "/admin/v1/merchants/{merchant_id}/keys", create).with(
        Verb::Delete,
        "/admin/v1/merchants/{merchant_id}/keys/{key_id}",
        delete,
    )
}

/// Make a key
///
/// A merchant has up to two, one in use and one to change over to. The secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/admin/v1/merchants/{merchant_id}/keys", operation_id = "create_key", tag = "Merchants",
    params(("merchant_id" = String, Path, description = "The merchant's id")),
    responses(
        (status = 201, description = "The key", body = Envelope<NewKeyView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE`: the merchant has two keys"),
    ),
)]
pub(crate) async fn create(
    Named(merchant_id): Named<String>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    call.no_fields()?;
    call.created(call.gateway.merchants().create_key(&merchant_id, &operator).await?)
}

/// Remove a key
///
/// It stops working at once.
#[utoipa::path(
    delete, path = "/admin/v1/merchants/{merchant_id}/keys/{key_id}", operation_id = "delete_key", tag = "Merchants",
    params(
        ("merchant_id" = String, Path, description = "The merchant's id"),
        ("key_id" = String, Path, description = "The key's id"),
    ),
    responses(
        (status = 200, description = "Removed; `data` is empty", body = Envelope<Nothing>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn delete(
    Named((merchant_id, key_id)): Named<(String, String)>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    call.no_fields()?;
    call.gateway.merchants().delete_key(&merchant_id, &key_id, &operator).await?;
    call.ok(Nothing {})
}
