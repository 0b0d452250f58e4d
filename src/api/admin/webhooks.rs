//! Webhooks of all merchants, as the operator sees them.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::call::{Call, Named, OperatorCall};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::api::webhook_jobs::Recover;
use crate::api::webhooks::filter_of;
use crate::domain::ids::{EndpointId, JobId, NotificationId};
use crate::gateway::webhooks::{
    EndpointFilter, JobView, Kept, OperatorEndpointView, OperatorJobView, OperatorNotificationView, SettableStatus,
};

/// What a list of endpoints can be narrowed by.
const ENDPOINT_FILTERS: [&str; 3] = ["merchant_id", "status", "health"];
/// What a list of notifications can be narrowed by.
const NOTIFICATION_FILTERS: [&str; 8] =
    ["merchant_id", "status", "endpoint_id", "event", "payment_no", "failure", "from", "to"];

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, "/admin/v1/webhooks/endpoints", list_endpoints)
        .with(Verb::Get, "/admin/v1/webhooks/endpoints/{endpoint_id}", get_endpoint)
        .with(Verb::Post, "/admin/v1/webhooks/endpoints/{endpoint_id}/pause", pause_endpoint)
        .with(Verb::Post, "/admin/v1/webhooks/endpoints/{endpoint_id}/enable", enable_endpoint)
        .with(Verb::Post, "/admin/v1/webhooks/endpoints/{endpoint_id}/recover", recover)
        .with(Verb::Post, "/admin/v1/webhooks/endpoints/{endpoint_id}/reset-health", reset_health)
        .with(Verb::Get, "/admin/v1/webhooks/jobs", list_jobs)
        .with(Verb::Get, "/admin/v1/webhooks/jobs/{job_id}", get_job)
        .with(Verb::Post, "/admin/v1/webhooks/jobs/{job_id}/cancel", cancel_job)
        .with(Verb::Get, "/admin/v1/webhooks/notifications", list_notifications)
        .with(Verb::Get, "/admin/v1/webhooks/notifications/{notification_id}", get_notification)
        .with(Verb::Post, "/admin/v1/webhooks/notifications/{notification_id}/retry", retry_notification)
}

/// List webhook endpoints of all merchants
///
/// With a filter a page may be short and still have a `next_cursor`.
#[utoipa::path(
    get, path = "/admin/v1/webhooks/endpoints", operation_id = "list_all_webhook_endpoints", tag = "Webhooks",
    params(
        ("merchant_id" = Option<String>, Query, description = "Of this merchant"),
        ("status" = Option<String>, Query, description = "`enabled`, `paused` or `disabled`"),
        ("health" = Option<String>, Query, description = "`healthy`, `failing`, `open` or `unknown`"),
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<OperatorEndpointView>>)),
)]
pub(crate) async fn list_endpoints(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let query = call.query(&ENDPOINT_FILTERS, Pages::Yes)?;
    let filter = EndpointFilter {
        merchant_id: query.text("merchant_id"),
        status: query.text("status"),
        health: query.text("health"),
        has_dead_letters: false,
    };
    call.ok(call.gateway.webhooks().list_all_endpoints(&filter, &query.page()?)?)
}

/// Read any merchant's webhook endpoint
#[utoipa::path(
    get, path = "/admin/v1/webhooks/endpoints/{endpoint_id}", operation_id = "get_any_webhook_endpoint",
    tag = "Webhooks",
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "The endpoint", body = Envelope<OperatorEndpointView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get_endpoint(
    Named(endpoint_id): Named<EndpointId>,
    OperatorCall { call, .. }: OperatorCall,
) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.webhooks().find_endpoint(&endpoint_id)?)
}

/// Pause any merchant's webhook endpoint
///
/// Nothing is sent to it for now; what happens is kept.
#[utoipa::path(
    post, path = "/admin/v1/webhooks/endpoints/{endpoint_id}/pause", operation_id = "pause_any_webhook_endpoint",
    tag = "Webhooks",
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "The endpoint as it is now", body = Envelope<OperatorEndpointView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`: the endpoint is disabled"),
    ),
)]
pub(crate) async fn pause_endpoint(
    Named(endpoint_id): Named<EndpointId>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    call.no_fields()?;
    let work = |call: Call| async move {
        let status = (SettableStatus::Paused, None);
        call.ok(call.gateway.webhooks().set_any_status(&endpoint_id, status, &operator).await?)
    };
    call.carry(work).await
}

/// How an endpoint is enabled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnableEndpoint {
    /// What becomes of what was kept since it was disabled; `drop` when absent. Only for a disabled endpoint.
    #[serde(default)]
    kept: Option<Kept>,
}

/// Enable any merchant's webhook endpoint
///
/// What waits for a paused one is sent; of one that was disabled only if `kept` is `send`.
#[utoipa::path(
    post, path = "/admin/v1/webhooks/endpoints/{endpoint_id}/enable", operation_id = "enable_any_webhook_endpoint",
    tag = "Webhooks", request_body = Option<EnableEndpoint>,
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "The endpoint as it is now", body = Envelope<OperatorEndpointView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn enable_endpoint(
    Named(endpoint_id): Named<EndpointId>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    let EnableEndpoint { kept } = call.json_or_default()?;
    let work = |call: Call| async move {
        let status = (SettableStatus::Enabled, kept);
        call.ok(call.gateway.webhooks().set_any_status(&endpoint_id, status, &operator).await?)
    };
    call.carry(work).await
}

/// Send again what any merchant's endpoint has missed
///
/// Everything that was given up for it since a time. The job goes on over restarts.
#[utoipa::path(
    post, path = "/admin/v1/webhooks/endpoints/{endpoint_id}/recover", operation_id = "recover_any_endpoint",
    tag = "Webhooks", request_body = Recover,
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 202, description = "The job that does it", body = Envelope<JobView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`: the endpoint is disabled, or this or too much is under way"),
    ),
)]
pub(crate) async fn recover(
    Named(endpoint_id): Named<EndpointId>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    let since = call.json::<Recover>()?.since()?;
    let work = |call: Call| async move {
        call.accepted(call.gateway.webhooks().recover_any(&endpoint_id, since, &operator).await?)
    };
    call.carry(work).await
}

/// Forget how any merchant's webhook endpoint did
///
/// Its breaker is closed at once, and the days of failures begin anew. What waits is released gradually.
#[utoipa::path(
    post, path = "/admin/v1/webhooks/endpoints/{endpoint_id}/reset-health",
    operation_id = "reset_any_webhook_endpoint_health", tag = "Webhooks",
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "The endpoint as it is now", body = Envelope<OperatorEndpointView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn reset_health(
    Named(endpoint_id): Named<EndpointId>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    call.no_fields()?;
    let work =
        |call: Call| async move { call.ok(call.gateway.webhooks().reset_any_health(&endpoint_id, &operator).await?) };
    call.carry(work).await
}

/// List jobs on many webhooks
///
/// Newest first, with how far each is: a merchant's, or those of all merchants that are under way.
#[utoipa::path(
    get, path = "/admin/v1/webhooks/jobs", operation_id = "list_any_webhook_jobs", tag = "Webhooks",
    params(
        ("merchant_id" = Option<String>, Query, description = "Of this merchant; when absent, those of all that are under way"),
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<OperatorJobView>>)),
)]
pub(crate) async fn list_jobs(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let query = call.query(&["merchant_id"], Pages::Yes)?;
    call.ok(call.gateway.webhooks().list_all_jobs(query.text("merchant_id").as_deref(), &query.page()?)?)
}

/// Read how far any merchant's job is
#[utoipa::path(
    get, path = "/admin/v1/webhooks/jobs/{job_id}", operation_id = "get_any_webhook_job", tag = "Webhooks",
    params(("job_id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job", body = Envelope<OperatorJobView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get_job(Named(job_id): Named<JobId>, OperatorCall { call, .. }: OperatorCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.webhooks().find_job(&job_id)?)
}

/// End any merchant's job
///
/// Where it is; what it has done stays.
#[utoipa::path(
    post, path = "/admin/v1/webhooks/jobs/{job_id}/cancel", operation_id = "cancel_any_webhook_job", tag = "Webhooks",
    params(("job_id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job, ended", body = Envelope<OperatorJobView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`: it is at its end, or has to be done"),
    ),
)]
pub(crate) async fn cancel_job(Named(job_id): Named<JobId>, OperatorCall { call, operator }: OperatorCall) -> Outcome {
    call.no_fields()?;
    let work = |call: Call| async move { call.ok(call.gateway.webhooks().cancel_any_job(&job_id, &operator).await?) };
    call.carry(work).await
}

/// List a merchant's notifications
///
/// Newest first. With a filter a page may be short and still have a `next_cursor`.
#[utoipa::path(
    get, path = "/admin/v1/webhooks/notifications", operation_id = "list_any_notifications", tag = "Webhooks",
    params(
        ("merchant_id" = Option<String>, Query, description = "Of this merchant; may be absent where `endpoint_id` is given"),
        ("status" = Option<String>, Query, description = "`pending`, `retrying`, `success` or `failed`"),
        ("endpoint_id" = Option<String>, Query, description = "To this endpoint"),
        ("event" = Option<String>, Query, description = "Of this event"),
        ("payment_no" = Option<String>, Query, description = "About this payment or pre-auth"),
        ("failure" = Option<String>, Query, description = "Given up for this reason, such as `exhausted`"),
        ("from" = Option<String>, Query, description = "Made at or after this, RFC 3339"),
        ("to" = Option<String>, Query, description = "Made before this, RFC 3339"),
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "One page", body = Envelope<Listed<OperatorNotificationView>>),
        (status = 404, description = "`NOT_FOUND`: no such endpoint, where only that says whose notifications are meant"),
    ),
)]
pub(crate) async fn list_notifications(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let query = call.query(&NOTIFICATION_FILTERS, Pages::Yes)?;
    let filter = filter_of(&query)?;
    let webhooks = call.gateway.webhooks();
    call.ok(webhooks.list_notifications_of(query.text("merchant_id").as_deref(), &filter, &query.page()?)?)
}

/// Read any merchant's notification with its tries
#[utoipa::path(
    get, path = "/admin/v1/webhooks/notifications/{notification_id}", operation_id = "get_any_notification",
    tag = "Webhooks",
    params(("notification_id" = String, Path, description = "The notification's id")),
    responses(
        (status = 200, description = "The notification", body = Envelope<OperatorNotificationView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get_notification(
    Named(notification_id): Named<NotificationId>,
    OperatorCall { call, .. }: OperatorCall,
) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.webhooks().find_notification(&notification_id)?)
}

/// Send any merchant's notification again
///
/// One that was given up, with a fresh schedule.
#[utoipa::path(
    post, path = "/admin/v1/webhooks/notifications/{notification_id}/retry", operation_id = "retry_any_notification",
    tag = "Webhooks",
    params(("notification_id" = String, Path, description = "The notification's id")),
    responses(
        (status = 200, description = "The notification, on its way again", body = Envelope<OperatorNotificationView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`"),
    ),
)]
pub(crate) async fn retry_notification(
    Named(notification_id): Named<NotificationId>,
    OperatorCall { call, operator }: OperatorCall,
) -> Outcome {
    call.no_fields()?;
    let work = |call: Call| async move {
        call.ok(call.gateway.webhooks().retry_any_notification(&notification_id, &operator).await?)
    };
    call.carry(work).await
}
