//! What payments have cost.

use crate::api::call::OperatorCall;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::domain::time::{Day, Timestamp};
use crate::gateway::costs::{CostsFilter, CostsView};

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/admin/v1/costs", list)
}

/// List what payments have cost, beside one channel for all of them
///
/// By day (UTC), channel and currency, newest day first; the fees are the provider's own where it gives them.
#[utoipa::path(
    get, path = "/admin/v1/costs", operation_id = "list_costs", tag = "Channels",
    params(
        ("from" = Option<String>, Query, description = "First day, such as 2026-01-31, or a moment in it (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Last day, likewise; it is included"),
        ("channel" = Option<String>, Query, description = "Only this channel"),
        ("group" = Option<String>, Query, description = "`day` (when not given), or `channel` for one row over all days"),
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "Costs", body = Envelope<CostsView>)),
)]
pub(crate) async fn list(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let query = call.query(&["from", "to", "channel", "group"], Pages::Yes)?;
    let day = |name: &str| {
        let Some(text) = query.text(name) else { return Ok(None) };
        let moment = || Timestamp::parse_rfc3339(&text).map(Day::of);
        let wrong = || ApiError::field(name, "must be a day such as 2026-01-31, or RFC 3339");
        text.parse::<Day>().ok().or_else(moment).map(Some).ok_or_else(wrong)
    };
    let by_channel = match query.text("group").as_deref() {
        None | Some("day") => false,
        Some("channel") => true,
        Some(_) => return Err(ApiError::field("group", "must be day or channel")),
    };
    let filter = CostsFilter { from: day("from")?, to: day("to")?, channel: query.text("channel"), by_channel };
    if filter.from.zip(filter.to).is_some_and(|(from, to)| to < from) {
        return Err(ApiError::field("to", "must not be before `from`"));
    }
    call.ok(call.gateway.costs(&filter, &query.page()?)?)
}
