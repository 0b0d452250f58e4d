//! Webhooks over HTTP: endpoints, and what is on its way to them.

use crate::api::call::{Call, MerchantCall, Named};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Nothing, Outcome};
use crate::api::error::ApiError;
use crate::api::query::{Pages, Query};
use crate::api::routes::{Routes, Verb};
use crate::api::webhook_jobs::time;
use crate::domain::ids::{EndpointId, NotificationId};
use crate::gateway::auth::Caller;
use crate::gateway::webhooks::{
    CreateEndpoint, EndpointView, NewSecretView, NotificationFilter, NotificationView, UpdateEndpoint,
};

/// What a list of notifications can be narrowed by.
pub(crate) const FILTERS: [&str; 7] = ["status", "endpoint_id", "event", "payment_no", "failure", "from", "to"];

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Post, "/api/v1/webhooks/endpoints", create_endpoint)
        .with(Verb::Get, "/api/v1/webhooks/endpoints", list_endpoints)
        .with(Verb::Get, "/api/v1/webhooks/endpoints/{endpoint_id}", get_endpoint)
        .with(Verb::Patch, "/api/v1/webhooks/endpoints/{endpoint_id}", update_endpoint)
        .with(Verb::Delete, "/api/v1/webhooks/endpoints/{endpoint_id}", delete_endpoint)
        .with(Verb::Post, "/api/v1/webhooks/endpoints/{endpoint_id}/rotate-secret", rotate_secret)
        .with(Verb::Post, "/api/v1/webhooks/endpoints/{endpoint_id}/test", send_test)
        .with(Verb::Get, "/api/v1/webhooks/notifications", list_notifications)
        .with(Verb::Get, "/api/v1/webhooks/notifications/{notification_id}", get_notification)
        .with(Verb::Post, "/api/v1/webhooks/notifications/{notification_id}/retry", retry_notification)
        .with(Verb::Post, "/api/v1/webhooks/notifications/{notification_id}/cancel", cancel_notification)
}

/// Make an endpoint
///
/// The secret is in this answer and in that of a rotation, and nowhere else.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints", tag = "Webhooks", request_body = CreateEndpoint,
    responses(
        (status = 201, description = "The endpoint with its secret", body = Envelope<NewSecretView>),
        (status = 403, description = "`FORBIDDEN`: there are as many as a merchant may have, or the merchant is suspended"),
        (status = 422, description = "`URL_NOT_ALLOWED`, `PAN_REFUSED`"),
    ),
)]
pub(crate) async fn create_endpoint(request: MerchantCall) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        let command: CreateEndpoint = call.json()?;
        call.created(call.gateway.webhooks().create_endpoint(&caller.merchant.merchant_id, command).await?)
    };
    request.once(work).await
}

/// List endpoints
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/v1/webhooks/endpoints", tag = "Webhooks",
    params(
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<EndpointView>>)),
)]
pub(crate) async fn list_endpoints(MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    let page = call.query(&[], Pages::Yes)?.page()?;
    call.ok(call.gateway.webhooks().list_endpoints(&caller.merchant.merchant_id, &page)?)
}

/// Read an endpoint
#[utoipa::path(
    get, path = "/api/v1/webhooks/endpoints/{endpoint_id}", tag = "Webhooks",
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "The endpoint", body = Envelope<EndpointView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get_endpoint(
    Named(endpoint_id): Named<EndpointId>,
    MerchantCall { call, caller, .. }: MerchantCall,
) -> Outcome {
    call.query(&[], Pages::No)?;
    let webhooks = call.gateway.webhooks();
    call.ok(webhooks.get_endpoint(&caller.merchant.merchant_id, &endpoint_id)?)
}

/// Change an endpoint
///
/// Only what is given changes. `paused` keeps what happens and sends it when the endpoint is `enabled` again.
#[utoipa::path(
    patch, path = "/api/v1/webhooks/endpoints/{endpoint_id}", tag = "Webhooks", request_body = Option<UpdateEndpoint>,
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "The endpoint as it is now", body = Envelope<EndpointView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`: it is disabled, and can be enabled but not paused"),
        (status = 422, description = "`URL_NOT_ALLOWED`, `PAN_REFUSED`"),
    ),
)]
pub(crate) async fn update_endpoint(Named(endpoint_id): Named<EndpointId>, merchant_call: MerchantCall) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        let command: UpdateEndpoint = call.json_or_default()?;
        let webhooks = call.gateway.webhooks();
        call.ok(webhooks.update_endpoint(&caller.merchant.merchant_id, &endpoint_id, command).await?)
    };
    merchant_call.carry(work).await
}

/// Remove an endpoint
///
/// What was on its way to it is given up.
#[utoipa::path(
    delete, path = "/api/v1/webhooks/endpoints/{endpoint_id}", tag = "Webhooks",
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "Removed; `data` is empty", body = Envelope<Nothing>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn delete_endpoint(Named(endpoint_id): Named<EndpointId>, merchant_call: MerchantCall) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        call.no_fields()?;
        call.gateway.webhooks().delete_endpoint(&caller.merchant.merchant_id, &endpoint_id).await?;
        call.ok(Nothing {})
    };
    merchant_call.carry(work).await
}

/// Change an endpoint's secret
///
/// For a day both secrets sign, so that a receiver can change over.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/rotate-secret", tag = "Webhooks",
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "The endpoint with its new secret", body = Envelope<NewSecretView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn rotate_secret(Named(endpoint_id): Named<EndpointId>, request: MerchantCall) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        call.no_fields()?;
        call.ok(call.gateway.webhooks().rotate_secret(&caller.merchant.merchant_id, &endpoint_id).await?)
    };
    request.once(work).await
}

/// Send a test event
///
/// To this endpoint only, whatever events it wants.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/test", tag = "Webhooks",
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "The notification, on its way", body = Envelope<NotificationView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`: the endpoint is not enabled"),
    ),
)]
pub(crate) async fn send_test(Named(endpoint_id): Named<EndpointId>, request: MerchantCall) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        call.no_fields()?;
        call.ok(call.gateway.webhooks().send_test(&caller.merchant.merchant_id, &endpoint_id).await?)
    };
    request.once(work).await
}

/// List notifications
///
/// Newest first. With a filter a page may be short, even empty, and still have a `next_cursor`: ask on until there is none.
#[utoipa::path(
    get, path = "/api/v1/webhooks/notifications", tag = "Webhooks",
    params(
        ("status" = Option<String>, Query, description = "`pending`, `retrying`, `success` or `failed`"),
        ("endpoint_id" = Option<String>, Query, description = "To this endpoint"),
        ("event" = Option<String>, Query, description = "Of this event"),
        ("payment_no" = Option<String>, Query, description = "About this payment or pre-auth"),
        ("failure" = Option<String>, Query, description = "Given up for this reason: `exhausted`, `refused`, `canceled`, `endpoint_deleted`, `endpoint_disabled` or `expired`"),
        ("from" = Option<String>, Query, description = "Made at or after this, RFC 3339"),
        ("to" = Option<String>, Query, description = "Made before this, RFC 3339"),
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<NotificationView>>)),
)]
pub(crate) async fn list_notifications(MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    let query = call.query(&FILTERS, Pages::Yes)?;
    let filter = filter_of(&query)?;
    let webhooks = call.gateway.webhooks();
    let merchant_id = &caller.merchant.merchant_id;
    call.ok(webhooks.list_notifications(merchant_id, &filter, &query.page()?)?)
}

/// The filter in a query that may have [`FILTERS`].
///
/// # Errors
/// An invalid request when a time is none.
pub(crate) fn filter_of(query: &Query<'_>) -> Result<NotificationFilter, ApiError> {
    let time_in = |name| query.text(name).map(|text| time(name, &text)).transpose();
    Ok(NotificationFilter {
        status: query.text("status"),
        endpoint_id: query.text("endpoint_id"),
        event: query.text("event"),
        payment_no: query.text("payment_no"),
        failure: query.text("failure"),
        from: time_in("from")?,
        to: time_in("to")?,
    })
}

/// Read a notification with its tries
#[utoipa::path(
    get, path = "/api/v1/webhooks/notifications/{notification_id}", tag = "Webhooks",
    params(("notification_id" = String, Path, description = "The notification's id")),
    responses(
        (status = 200, description = "The notification", body = Envelope<NotificationView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get_notification(
    Named(notification_id): Named<NotificationId>,
    MerchantCall { call, caller, .. }: MerchantCall,
) -> Outcome {
    call.query(&[], Pages::No)?;
    let webhooks = call.gateway.webhooks();
    call.ok(webhooks.get_notification(&caller.merchant.merchant_id, &notification_id)?)
}

/// Send a notification again
///
/// One that was given up, with a fresh schedule.
#[utoipa::path(
    post, path = "/api/v1/webhooks/notifications/{notification_id}/retry", tag = "Webhooks",
    params(("notification_id" = String, Path, description = "The notification's id")),
    responses(
        (status = 200, description = "The notification, on its way again", body = Envelope<NotificationView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`"),
    ),
)]
pub(crate) async fn retry_notification(
    Named(notification_id): Named<NotificationId>,
    request: MerchantCall,
) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        call.no_fields()?;
        call.ok(call.gateway.webhooks().retry_notification(&caller.merchant.merchant_id, &notification_id).await?)
    };
    request.once(work).await
}

/// Give a notification up
#[utoipa::path(
    post, path = "/api/v1/webhooks/notifications/{notification_id}/cancel", tag = "Webhooks",
    params(("notification_id" = String, Path, description = "The notification's id")),
    responses(
        (status = 200, description = "The notification, given up", body = Envelope<NotificationView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`"),
    ),
)]
pub(crate) async fn cancel_notification(
    Named(notification_id): Named<NotificationId>,
    request: MerchantCall,
) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        call.no_fields()?;
        call.ok(call.gateway.webhooks().cancel_notification(&caller.merchant.merchant_id, &notification_id).await?)
    };
    request.once(work).await
}
