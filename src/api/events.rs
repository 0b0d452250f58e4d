//! A merchant's events over HTTP, for those who poll.

use crate::api::call::MerchantCall;
use crate::api::document::Listed;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::webhooks::EventView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/api/v1/events", list)
}

/// List events
///
/// Oldest first, numbered without gaps. Keep the cursor to go on from there later.
#[utoipa::path(
    get, path = "/api/v1/events", operation_id = "list_events", tag = "Events",
    params(
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Envelope<Listed<EventView>>)),
)]
pub(crate) async fn list(MerchantCall { call, caller, .. }: MerchantCall) -> Outcome {
    let page = call.query(&[], Pages::Yes)?.page()?;
    call.ok(call.gateway.webhooks().list_events(&caller.merchant.merchant_id, &page)?)
}
