//! Where a payment would go, over HTTP.

use crate::api::call::{Call, MerchantCall};
use crate::api::envelope::{Envelope, Outcome};
use crate::api::routes::{Routes, Verb};
use crate::gateway::auth::Caller;
use crate::gateway::command::CreatePayment;
use crate::gateway::explain::DecisionView;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Post, "/api/v1/routing/quote", quote)
}

/// Ask where a payment would go
///
/// Takes a payment request without taking the payment. Fees are given for channels that were dropped, too.
#[utoipa::path(
    post, path = "/api/v1/routing/quote", operation_id = "quote_routing", tag = "Routing", request_body = CreatePayment,
    responses(
        (status = 200, description = "The choice and every channel's figures", body = Envelope<DecisionView>),
        (status = 422, description = "`AMOUNT_TOO_LARGE`, `CURRENCY_NOT_SUPPORTED`, `PAN_REFUSED`"),
    ),
)]
pub(crate) async fn quote(request: MerchantCall) -> Outcome {
    let work = |call: Call, caller: Caller| async move {
        let command: CreatePayment = call.json()?;
        call.ok(call.gateway.payments().quote(&caller, &command, call.context.language)?)
    };
    request.once(work).await
}
