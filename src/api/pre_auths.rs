//! Pre-auths over HTTP.

use crate::api::call::{MerchantCall, Named, stored, with_key};
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::command::{
    CancelPreAuth, CapturePreAuth, CreatePayment, CreatePreAuth, CreateRefund, PaymentFilter,
};
use crate::gateway::view::{PreAuthView, RefundView};

/// What a list of pre-auths can be narrowed by.
const FILTERS: [&str; 5] = ["order_no", "status", "channel", "from", "to"];

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Post, "/api/v1/pre-auths", create)
        .with(Verb::Get, "/api/v1/pre-auths", list)
        .with(Verb::Get, "/api/v1/pre-auths/{pre_auth_no}", get)
        .with(Verb::Post, "/api/v1/pre-auths/{pre_auth_no}/capture", capture)
        .with(Verb::Post, "/api/v1/pre-auths/{pre_auth_no}/cancel", cancel)
        .with(Verb::Post, "/api/v1/pre-auths/{pre_auth_no}/refunds", create_refund)
        .with(Verb::Get, "/api/v1/pre-auths/{pre_auth_no}/refunds", list_refunds)
}

/// Have money held
///
/// Without `channel` the router chooses. Without `payment_token` the pre-auth waits for its payer. A decline is not an
/// error: 201 with `failure`.
#[utoipa::path(
    post, path = "/api/v1/pre-auths", operation_id = "create_pre_auth", tag = "Pre-auths", request_body = CreatePayment,
    responses(
        (status = 201, description = "It is known where the pre-auth stands, or the payer has to act", body = Envelope<PreAuthView>),
        (status = 202, description = "The outcome is not known yet and is being asked for", body = Envelope<PreAuthView>),
        (status = 409, description = "`ORDER_EXISTS` with `pre_auth_no`; `IDEMPOTENCY_IN_PROGRESS`"),
        (status = 422, description = "`IDEMPOTENCY_MISMATCH`, `AMOUNT_TOO_LARGE`, `CURRENCY_NOT_SUPPORTED`, `PRE_AUTH_NOT_SUPPORTED`, `PAN_REFUSED`"),
        (status = 502, description = "`CHANNEL_ERROR` with `pre_auth_no`: certainly nothing is held, the pre-auth is `failed`"),
        (status = 503, description = "`NO_CHANNEL_AVAILABLE` with `reasons`, for every channel `{channel, reason, dropped_by, value, demanded}`; `OVERLOADED`; `STORAGE_LOW`; `SHUTTING_DOWN`"),
    ),
)]
pub(crate) async fn create(MerchantCall { call, caller, origin }: MerchantCall) -> Outcome {
    let wanted: CreatePayment = call.json()?;
    let command = CreatePreAuth { wanted, ..CreatePreAuth::default() };
    stored(call.gateway.pre_auths().create(&caller, origin, command).await?)
}

/// List pre-auths
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/v1/pre-auths", operation_id = "list_pre_auths", tag = "Pre-auths",
    params(
        ("order_no" = Option<String>, Query, description = "Exactly this order number"),
        ("status" = Option<String>, Query, description = "In this status"),
        ("channel" = Option<String>, Query, description = "On this channel"),
        ("from" = Option<String>, Query, description = "Made at or after this, RFC 3339"),
        ("to" = Option<String>, Query, description = "Made before this, RFC 3339"),
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<PreAuthView>>)),
)]
pub(crate) async fn list(MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    let query = call.query(&FILTERS, Pages::Yes)?;
    let filter = PaymentFilter {
        order_no: query.text("order_no"),
        status: query.text("status"),
        channel: query.text("channel"),
        from: query.text("from"),
        to: query.text("to"),
    };
    let page = call.gateway.pre_auths().list(&caller, &filter, &query.page()?)?;
    call.ok(page)
}

/// Read a pre-auth
#[utoipa::path(
    get, path = "/api/v1/pre-auths/{pre_auth_no}", operation_id = "get_pre_auth", tag = "Pre-auths",
    params(
        ("pre_auth_no" = String, Path, description = "The pre-auth's number, ours or the merchant's own"),
        ("refresh" = Option<bool>, Query, description = "`true` to have its channel asked first"),
    ),
    responses(
        (status = 200, description = "The pre-auth", body = Envelope<PreAuthView>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn get(Named(pre_auth_no): Named<String>, MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    let refresh = match call.query(&["refresh"], Pages::No)?.text("refresh").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::field("refresh", "must be true or false")),
    };
    call.ok(call.gateway.pre_auths().get(&caller, &pre_auth_no, refresh).await?)
}

/// Capture a pre-auth
///
/// All that is held when `amount` is absent. What is not taken is released in the same step. The body may be absent.
#[utoipa::path(
    post, path = "/api/v1/pre-auths/{pre_auth_no}/capture", operation_id = "capture_pre_auth", tag = "Pre-auths",
    request_body = Option<CapturePreAuth>,
    params(("pre_auth_no" = String, Path, description = "The pre-auth's number, ours or the merchant's own")),
    responses(
        (status = 200, description = "Captured", body = Envelope<PreAuthView>),
        (status = 202, description = "The outcome is not known yet and is being asked for", body = Envelope<PreAuthView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`; `IDEMPOTENCY_IN_PROGRESS`"),
        (status = 422, description = "`IDEMPOTENCY_MISMATCH`; `AMOUNT_TOO_LARGE` with `max_amount`, after the state was checked"),
        (status = 502, description = "`CHANNEL_ERROR` with `pre_auth_no`: certainly not captured, the money is held on"),
    ),
)]
pub(crate) async fn capture(
    Named(pre_auth_no): Named<String>,
    MerchantCall { call, caller, origin }: MerchantCall,
) -> Outcome {
    let command: CapturePreAuth = call.json_or_default()?;
    stored(call.gateway.pre_auths().capture(&caller, with_key(origin)?, &pre_auth_no, command).await?)
}

/// Cancel a pre-auth
///
/// Releases what is held, or gives up what is not held yet. The body may be absent.
#[utoipa::path(
    post, path = "/api/v1/pre-auths/{pre_auth_no}/cancel", operation_id = "cancel_pre_auth", tag = "Pre-auths",
    request_body = Option<CancelPreAuth>,
    params(("pre_auth_no" = String, Path, description = "The pre-auth's number, ours or the merchant's own")),
    responses(
        (status = 200, description = "Canceled", body = Envelope<PreAuthView>),
        (status = 202, description = "The channel is being asked to close it", body = Envelope<PreAuthView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`; `IDEMPOTENCY_IN_PROGRESS`"),
        (status = 422, description = "`IDEMPOTENCY_MISMATCH`, `PAN_REFUSED`"),
        (status = 502, description = "`CHANNEL_ERROR` with `pre_auth_no`: certainly not released, the money is held on"),
    ),
)]
pub(crate) async fn cancel(
    Named(pre_auth_no): Named<String>,
    MerchantCall { call, caller, origin }: MerchantCall,
) -> Outcome {
    let command: CancelPreAuth = call.json_or_default()?;
    stored(call.gateway.pre_auths().cancel(&caller, with_key(origin)?, &pre_auth_no, command).await?)
}

/// Refund a captured pre-auth
///
/// All that is left when `amount` is absent. The body may be absent.
#[utoipa::path(
    post, path = "/api/v1/pre-auths/{pre_auth_no}/refunds", operation_id = "create_pre_auth_refund", tag = "Refunds",
    request_body = Option<CreateRefund>,
    params(("pre_auth_no" = String, Path, description = "The pre-auth's number, ours or the merchant's own")),
    responses(
        (status = 201, description = "The refund's outcome is known", body = Envelope<RefundView>),
        (status = 202, description = "The outcome is not known yet and is being asked for", body = Envelope<RefundView>),
        (status = 404, description = "`NOT_FOUND`"),
        (status = 409, description = "`INVALID_STATE` with `status`; `IDEMPOTENCY_IN_PROGRESS`"),
        (status = 422, description = "`IDEMPOTENCY_MISMATCH`, `AMOUNT_TOO_LARGE`, `PAN_REFUSED`"),
        (status = 502, description = "`CHANNEL_ERROR` with `refund_no`: certainly not done, the refund is `failed`"),
    ),
)]
pub(crate) async fn create_refund(
    Named(pre_auth_no): Named<String>,
    MerchantCall { call, caller, origin }: MerchantCall,
) -> Outcome {
    let command: CreateRefund = call.json_or_default()?;
    stored(call.gateway.pre_auths().refund(&caller, with_key(origin)?, &pre_auth_no, command).await?)
}

/// List a pre-auth's refunds
#[utoipa::path(
    get, path = "/api/v1/pre-auths/{pre_auth_no}/refunds", operation_id = "list_pre_auth_refunds", tag = "Refunds",
    params(("pre_auth_no" = String, Path, description = "The pre-auth's number, ours or the merchant's own")),
    responses(
        (status = 200, description = "All refunds, newest first", body = Envelope<Listed<RefundView>>),
        (status = 404, description = "`NOT_FOUND`"),
    ),
)]
pub(crate) async fn list_refunds(
    Named(pre_auth_no): Named<String>,
    MerchantCall { call, caller, .. }: MerchantCall,
) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.pre_auths().refunds(&caller, &pre_auth_no)?)
}
