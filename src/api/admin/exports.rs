//! Statements of all merchants, or of any one of them, for the operator.

use crate::api::call::OperatorCall;
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::exports::{PeriodAsked, StatementCsv, answer};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::domain::ids::MerchantId;
use crate::gateway::reconciliation::Statement;

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, "/admin/v1/exports/payments", payments)
        .with(Verb::Get, "/admin/v1/exports/refunds", refunds)
        .with(Verb::Get, "/admin/v1/exports/fees", fees)
}

/// Export payments of merchants as CSV
///
/// As the merchants' own export, of one merchant or of all of them, one after the other.
#[utoipa::path(
    get, path = "/admin/v1/exports/payments", operation_id = "export_all_payments", tag = "Exports",
    params(PeriodAsked, ("merchant_id" = Option<String>, Query, description = "Only this merchant's")),
    responses(StatementCsv, (status = 404, description = "`NOT_FOUND`: there is no such merchant")),
)]
pub(crate) async fn payments(call: OperatorCall) -> Outcome {
    of_operator(&call, Statement::Payments)
}

/// Export refunds of merchants as CSV
///
/// As the merchants' own export, of one merchant or of all of them, one after the other.
#[utoipa::path(
    get, path = "/admin/v1/exports/refunds", operation_id = "export_all_refunds", tag = "Exports",
    params(PeriodAsked, ("merchant_id" = Option<String>, Query, description = "Only this merchant's")),
    responses(StatementCsv, (status = 404, description = "`NOT_FOUND`: there is no such merchant")),
)]
pub(crate) async fn refunds(call: OperatorCall) -> Outcome {
    of_operator(&call, Statement::Refunds)
}

/// Export merchants' totals by day, channel and currency as CSV
///
/// As the merchants' own export, of one merchant or of all of them, one after the other.
#[utoipa::path(
    get, path = "/admin/v1/exports/fees", operation_id = "export_all_fees", tag = "Exports",
    params(PeriodAsked, ("merchant_id" = Option<String>, Query, description = "Only this merchant's")),
    responses(StatementCsv, (status = 404, description = "`NOT_FOUND`: there is no such merchant")),
)]
pub(crate) async fn fees(call: OperatorCall) -> Outcome {
    of_operator(&call, Statement::Fees)
}

fn of_operator(OperatorCall { call, .. }: &OperatorCall, statement: Statement) -> Outcome {
    let query = call.query(&["from", "to", "merchant_id"], Pages::No)?;
    // A script whose variable is empty must not get what all of them have taken.
    if query.is_empty("merchant_id") {
        return Err(ApiError::field("merchant_id", "must have a value, or not be there"));
    }
    let merchant_id = query.text("merchant_id").map(MerchantId::new);
    answer(call, statement, merchant_id, query.text("from").as_deref(), query.text("to").as_deref())
}
