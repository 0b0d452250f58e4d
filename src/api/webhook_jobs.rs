//! Work on many notifications at once, over HTTP: sending again and giving up by filter, catching up, and how far it is.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::call::{Call, MerchantCall, Named};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::domain::ids::{EndpointId, JobId};
use crate::domain::time::Timestamp;
use crate::gateway::auth::Caller;
use crate::gateway::error::GatewayError;
use crate::gateway::webhooks::{JobView, NotificationFilter};

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Post, "/api/v1/webhooks/endpoints/{endpoint_id}/recover", recover)
        .with(Verb::Post, "/api/v1/webhooks/notifications/retry", retry_many)
        .with(Verb::Post, "/api/v1/webhooks/notifications/cancel", cancel_many)
        .with(Verb::Get, "/api/v1/webhooks/jobs", list_jobs)
        .with(Verb::Get, "/api/v1/webhooks/jobs/{job_id}", get_job)
        .with(Verb::Post, "/api/v1/webhooks/jobs/{job_id}/cancel", cancel_job)
}

/// Since when an endpoint has missed something.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recover {
    /// RFC 3339; what was given up from then on is sent again.
    #[schema(example = "2025-01-24T10:30:45Z")]
    pub(crate) since: String,
}

impl Recover {
    /// The time that was given.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when it is none.
    pub(crate) fn since(&self) -> Result<Timestamp, GatewayError> {
        time("since", &self.since)
    }
}

/// Reads the time in a field or in a query.
///
/// # Errors
/// [`GatewayError::InvalidRequest`] when it is none.
pub(crate) fn time(field: &str, text: &str) -> Result<Timestamp, GatewayError> {
    Timestamp::parse_rfc3339(text)
        .ok_or_else(|| GatewayError::field(field, "must be an RFC 3339 time, such as 2025-01-24T10:30:45Z"))
}

/// Which notifications: at least one of these has to be given, and all that are given have to fit.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManyNotifications {
    /// To this endpoint.
    #[serde(default)]
    endpoint_id: Option<String>,
    /// Of this event.
    #[serde(default)]
    event: Option<String>,
    /// In this status.
    #[serde(default)]
    status: Option<String>,
    /// About this payment.
    #[serde(default)]
    payment_no: Option<String>,
    /// Given up for this reason: `exhausted`, `refused`, `canceled`, `endpoint_deleted`, `endpoint_disabled` or `expired`.
    #[serde(default)]
    failure: Option<String>,
    /// Made at or after this, RFC 3339.
    #[serde(default)]
    from: Option<String>,
    /// Made before this, RFC 3339.
    #[serde(default)]
    to: Option<String>,
}

impl ManyNotifications {
    fn filter(self) -> Result<NotificationFilter, GatewayError> {
        let Self { endpoint_id, event, status, payment_no, failure, from, to } = self;
        let from = from.map(|text| time("from", &text)).transpose()?;
        let to = to.map(|text| time("to", &text)).transpose()?;
        Ok(NotificationFilter { endpoint_id, event, status, payment_no, failure, from, to })
    }
}

/// Send again what an endpoint has missed
///
/// Everything that was given up for it since a time: because no try succeeded, because it refused, or because it was
/// disabled. Answers at once; the job goes on over restarts. New events stay ahead of what is sent again.
#[utoipa::path(
    post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/recover", operation_id = "recover_endpoint",
    tag = "Webhooks", request_body = Recover,
    params(("endpoint_id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 202, description = "The job that does it", body = Envelope<JobView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`: the endpoint is disabled, this is under way already (`job_id`), or `jobs_max` jobs are"),
    ),
)]
pub(crate) async fn recover(Named(endpoint_id): Named<EndpointId>, request: MerchantCall) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        let since = call.json::<Recover>()?.since()?;
        call.accepted(call.gateway.webhooks().recover(&caller.merchant.merchant_id, &endpoint_id, since).await?)
    };
    request.once(work).await
}

/// Send many notifications again
///
/// Those that were given up and fit the filter, with a fresh schedule.
#[utoipa::path(
    post, path = "/api/v1/webhooks/notifications/retry", operation_id = "retry_notifications", tag = "Webhooks",
    request_body = ManyNotifications,
    responses(
        (status = 202, description = "The job that does it", body = Envelope<JobView>),
        (status = 404, description = "`NOT_FOUND`: the endpoint"),
        (status = 409, description = "`INVALID_STATE` with `status`: the endpoint is disabled, or `jobs_max` jobs are under way"),
    ),
)]
pub(crate) async fn retry_many(request: MerchantCall) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        let filter = call.json_or_default::<ManyNotifications>()?.filter()?;
        call.accepted(call.gateway.webhooks().retry_many(&caller.merchant.merchant_id, &filter).await?)
    };
    request.once(work).await
}

/// Give many notifications up
///
/// Those that are on their way and fit the filter.
#[utoipa::path(
    post, path = "/api/v1/webhooks/notifications/cancel", operation_id = "cancel_notifications", tag = "Webhooks",
    request_body = ManyNotifications,
    responses(
        (status = 202, description = "The job that does it", body = Envelope<JobView>),
        (status = 404, description = "`NOT_FOUND`: the endpoint"),
        (status = 409, description = "`INVALID_STATE` with `status`: `jobs_max` jobs are under way"),
    ),
)]
pub(crate) async fn cancel_many(request: MerchantCall) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        let filter = call.json_or_default::<ManyNotifications>()?.filter()?;
        call.accepted(call.gateway.webhooks().cancel_many(&caller.merchant.merchant_id, &filter).await?)
    };
    request.once(work).await
}

/// List jobs
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/v1/webhooks/jobs", operation_id = "list_webhook_jobs", tag = "Webhooks",
    params(
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<JobView>>)),
)]
pub(crate) async fn list_jobs(MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    let page = call.query(&[], Pages::Yes)?.page()?;
    call.ok(call.gateway.webhooks().list_jobs(&caller.merchant.merchant_id, &page)?)
}

/// Read how far a job is
#[utoipa::path(
    get, path = "/api/v1/webhooks/jobs/{job_id}", operation_id = "get_webhook_job", tag = "Webhooks",
    params(("job_id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job", body = Envelope<JobView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get_job(Named(job_id): Named<JobId>, MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.webhooks().get_job(&caller.merchant.merchant_id, &job_id)?)
}

/// End a job
///
/// Where it is; what it has done stays.
#[utoipa::path(
    post, path = "/api/v1/webhooks/jobs/{job_id}/cancel", operation_id = "cancel_webhook_job", tag = "Webhooks",
    params(("job_id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job, ended", body = Envelope<JobView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`: it is at its end, or has to be done"),
    ),
)]
pub(crate) async fn cancel_job(Named(job_id): Named<JobId>, request: MerchantCall) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        call.no_fields()?;
        call.ok(call.gateway.webhooks().cancel_job(&caller.merchant.merchant_id, &job_id).await?)
    };
    request.once(work).await
}
