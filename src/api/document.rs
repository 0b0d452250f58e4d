//! The OpenAPI document, made from the handlers. What holds for many operations (credentials, headers, the usual
//! errors) is added here in one place.

mod common;
mod examples;
mod forms;
mod parts;
mod refine;
mod samples;
mod service;

use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::api::admin::exports as all_exports;
use crate::api::admin::limits as external_limits;
use crate::api::admin::payments as all_payments;
use crate::api::admin::pre_auths as all_pre_auths;
use crate::api::admin::webhooks as all_webhooks;
use crate::api::admin::{
    audit, channels, config, costs, erasures, hold, keys, log_level, merchants, metrics, resolve, routing, rules,
    sandbox, stats, store,
};
use crate::api::{
    callbacks, channel_pre_auths, docs, events, exports, limits, open, payments, pre_auths, quotes, refunds,
    webhook_jobs, webhooks,
};
use crate::gateway::explain::UnavailableView;
use common::{Credentials, UsualErrors, UsualHeaders, UsualParameters};
use examples::Examples;
use forms::Forms;
use refine::{ErrorBodies, OnceEach};
use service::Service;

pub(crate) use parts::Documents;
pub use parts::{Part, openapi_document, openapi_document_of};

/// A list, for the document.
#[derive(Serialize, ToSchema)]
pub(crate) struct Listed<T> {
    /// The rows.
    items: Vec<T>,
    /// Ask for this next; null when there is no more.
    next_cursor: Option<String>,
}

/// An error, for the document.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorSchema {
    /// What a program reads.
    #[schema(example = "INVALID_REQUEST")]
    code: String,
    /// What people read, in the language of `Accept-Language` (English, or Chinese for `zh`).
    message: String,
    /// For asking about it; also in `X-Request-Id`.
    request_id: String,
    /// With `INVALID_REQUEST`: what is wrong with which field.
    #[schema(required = false, nullable = false)]
    errors: Option<Vec<FieldErrorSchema>>,
    /// With `SIGNATURE_EXPIRED`: the server's clock, Unix seconds.
    #[schema(required = false, nullable = false)]
    server_time: Option<i64>,
    /// With `ORDER_EXISTS` and `CHANNEL_ERROR`.
    #[schema(required = false, nullable = false)]
    payment_no: Option<String>,
    /// With `ORDER_EXISTS` and `CHANNEL_ERROR` about a pre-auth.
    #[schema(required = false, nullable = false)]
    pre_auth_no: Option<String>,
    /// With `CHANNEL_ERROR`.
    #[schema(required = false, nullable = false)]
    refund_no: Option<String>,
    /// With `INVALID_STATE`: the object's status.
    #[schema(required = false, nullable = false)]
    status: Option<String>,
    /// With `INVALID_STATE` about a job: the one that is under way already.
    #[schema(required = false, nullable = false)]
    job_id: Option<String>,
    /// With `AMOUNT_TOO_LARGE`: the most that would be possible, in minor units.
    #[schema(required = false, nullable = false)]
    max_amount: Option<i64>,
    /// With `PAN_REFUSED`: the field that holds what looks like a card number.
    #[schema(required = false, nullable = false)]
    field: Option<String>,
    /// With `PAYLOAD_TOO_LARGE`: the largest body.
    #[schema(required = false, nullable = false)]
    max_bytes: Option<u64>,
    /// With `NO_CHANNEL_AVAILABLE`: why not, by channel.
    #[schema(required = false, nullable = false)]
    reasons: Option<Vec<UnavailableView>>,
    /// With `RATE_LIMIT_EXCEEDED`: the merchant's tier; not there with `client_address`.
    #[schema(required = false, nullable = false)]
    tier: Option<String>,
    /// With `RATE_LIMIT_EXCEEDED`: the limit that refuses longest.
    #[schema(required = false, nullable = false)]
    limit: Option<String>,
    /// With `RATE_LIMIT_EXCEEDED`: `second`, `minute`, `hour`, `concurrency`; or `client_address`, which is decided before it
    /// is known who asks.
    #[schema(required = false, nullable = false)]
    violated_policies: Option<Vec<String>>,
    /// With `RATE_LIMIT_EXCEEDED`: whole seconds, as in `Retry-After`.
    #[schema(required = false, nullable = false)]
    retry_after: Option<u64>,
}

/// What is wrong with one field.
#[derive(Serialize, ToSchema)]
#[schema(as = FieldError)]
pub(crate) struct FieldErrorSchema {
    /// The field, with dots before inner ones.
    field: String,
    /// What is wrong.
    message: String,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tollgate",
        description = "A payment gateway in one process. Amounts are integers in a currency's minor units; times are \
                       RFC 3339 in UTC. Paths under /api/v1 are served by the merchants' listener, paths under \
                       /admin/v1 by the operator's. A query parameter without a value counts as absent. Beside \
                       what operations list, any may answer 405 `METHOD_NOT_ALLOWED` to another method."
    ),
    paths(
        payments::create, payments::list, payments::get, payments::cancel, payments::routing,
        refunds::create, refunds::list, refunds::get,
        pre_auths::create, pre_auths::list, pre_auths::get, pre_auths::capture, pre_auths::cancel,
        pre_auths::create_refund, pre_auths::list_refunds,
        channel_pre_auths::create, channel_pre_auths::capture, channel_pre_auths::cancel, channel_pre_auths::get,
        quotes::quote, limits::read,
        webhooks::create_endpoint, webhooks::list_endpoints, webhooks::get_endpoint, webhooks::update_endpoint,
        webhooks::delete_endpoint, webhooks::rotate_secret, webhooks::send_test,
        webhooks::list_notifications, webhooks::get_notification, webhooks::retry_notification,
        webhooks::cancel_notification,
        webhook_jobs::recover, webhook_jobs::retry_many, webhook_jobs::cancel_many, webhook_jobs::list_jobs,
        webhook_jobs::get_job, webhook_jobs::cancel_job,
        events::list, exports::payments, exports::refunds, exports::fees,
        merchants::create, merchants::list, merchants::get, merchants::update, merchants::delete, merchants::limits,
        merchants::fullest,
        keys::create, keys::delete, audit::list,
        costs::list, all_exports::payments, all_exports::refunds, all_exports::fees, channels::list, channels::get, channels::update, channels::reset_health,
        channels::check,
        routing::get, routing::update, routing::versions, routing::roll_back,
        rules::list, rules::create, rules::check, rules::get, rules::update, rules::delete, config::reload, config::show, config::check,
        log_level::read, log_level::change,
        all_payments::list, all_payments::get, all_payments::routing, resolve::payment, resolve::pre_auth, resolve::refund,
        all_pre_auths::list, all_pre_auths::get, all_pre_auths::capture, all_pre_auths::cancel,
        all_webhooks::list_endpoints, all_webhooks::get_endpoint, all_webhooks::pause_endpoint,
        all_webhooks::enable_endpoint, all_webhooks::list_notifications, all_webhooks::get_notification,
        all_webhooks::retry_notification, all_webhooks::recover, all_webhooks::reset_health,
        all_webhooks::list_jobs, all_webhooks::get_job, all_webhooks::cancel_job,
        external_limits::check, external_limits::release,
        erasures::erase_payment, erasures::erase_pre_auth, erasures::erase_customer, erasures::list, erasures::get,
        hold::read, hold::confirm, store::status, store::begin, store::read, store::begin_export, store::read_export,
        store::rotate, store::read_rotation,
        metrics::read, metrics::read_short, stats::read,
        sandbox::get, sandbox::put, sandbox::ledger,
        open::root, open::alive, open::ready, open::document, docs::page, docs::file, callbacks::receive,
    ),
    components(schemas(ErrorSchema)),
    modifiers(
        &Credentials, &UsualParameters, &UsualErrors, &UsualHeaders, &OnceEach, &Forms, &Examples, &ErrorBodies, &Service,
    ),
)]
struct Document;

fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[cfg(test)]
mod tests;
