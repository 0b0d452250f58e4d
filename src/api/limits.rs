//! A merchant's own limits over HTTP.

use crate::api::call::MerchantCall;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::view::LimitsView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/api/v1/limits", read)
}

/// Read the limits and how much of them is used
#[utoipa::path(
    get, path = "/api/v1/limits", operation_id = "get_limits", tag = "Limits",
    responses((status = 200, description = "The limits", body = Envelope<LimitsView>)),
)]
pub(crate) async fn read(MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    call.query(&[], Pages::No)?;
    call.ok(call.gateway.limits(&caller).await?)
}
