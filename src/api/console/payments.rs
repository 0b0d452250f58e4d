//! Payments: the list, the way to the exports, and what ends a payment or refund that could not be resolved. One payment's
//! story is told in `story`.

mod decision;
pub(super) mod story;

use askama::Template;

use crate::api::call::Named;
use crate::api::console::call::{ConsoleCall, empty, first_found};
use crate::api::console::form::{Button, Field, Form, Pager};
use crate::api::console::page::{Confirmation, Page, Section, show};
use crate::api::console::table::{Cell, Facts, Table, path_part};
use crate::api::console::text::{sent_moment, words};
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::exports;
use crate::api::query::{Pages, Query};
use crate::api::routes::{Routes, Verb};
use crate::domain::ids::MerchantId;
use crate::domain::payment::PaymentStatus;
use crate::gateway::Gateway;
use crate::gateway::command::{PaymentFilter, ResolveByHand, ResolvedStatus};
use crate::gateway::error::GatewayError;
use crate::gateway::page::PageRequest;
use crate::gateway::reconciliation::Statement;
use crate::gateway::view::{OperatorPaymentView, RefundView};

pub(super) const PATH: &str = "/console/payments";
const EXPORTS: &str = "/console/exports";
/// What lists of payments and of pre-auths can be narrowed by.
pub(super) const NAMES: [&str; 6] = ["merchant_id", "order_no", "status", "channel", "from", "to"];
const COLUMNS: [&str; 7] = ["Payment", "Order", "Merchant", "Amount", "Status", "Channel", "Made (UTC)"];

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, PATH, list)
        .with(Verb::Get, EXPORTS, export)
        .with(Verb::Get, "/console/payments/{payment_no}", story::show_one)
        .with(Verb::Get, "/console/payments/{payment_no}/resolve", ask_resolve)
        .with(Verb::Post, "/console/payments/{payment_no}/resolve", resolve)
        .with(Verb::Get, "/console/refunds/{refund_no}/resolve", ask_resolve_refund)
        .with(Verb::Post, "/console/refunds/{refund_no}/resolve", resolve_refund)
}

#[derive(Template)]
#[template(path = "payments.html")]
struct PaymentsPage {
    page: Page,
    filter: Form,
    table: Table,
    pager: Pager,
    export: Form,
}

async fn list(call: ConsoleCall) -> Outcome {
    let query = call.query(&NAMES, Pages::Yes)?;
    let filter = filter_of(&query);
    let merchant_id = merchant_of(&query);
    let asked = query.page()?;
    let payments = call.gateway().payments();
    let list = |page: &PageRequest| payments.list_all(merchant_id.as_deref(), &filter, page);
    let found = first_found(asked.clone(), list).await?;
    let next_cursor = found.next_cursor.as_deref();
    let statuses: Vec<&str> = PaymentStatus::ALL.iter().map(|status| status.as_str()).collect();
    show(&PaymentsPage {
        page: call.page(Section::Payments, "Payments"),
        filter: filter_form(PATH, call.gateway(), &query, &statuses),
        table: table(&found.items, empty("No payment fits.", next_cursor)),
        pager: call.pager(PATH, &asked, found.items.len(), next_cursor),
        export: export_form(&query),
    })
}

/// Payments in a table; `empty` is said if there are none.
pub(super) fn table(payments: &[OperatorPaymentView], empty: &str) -> Table {
    let row = |view: &OperatorPaymentView| {
        let payment = &view.payment;
        vec![
            Cell::link(PATH, &payment.payment_no),
            Cell::code(&payment.order_no),
            merchant(&view.merchant_id),
            Cell::money(payment.amount, &payment.currency),
            Cell::status(&payment.status),
            Cell::maybe(payment.channel.clone()),
            Cell::moment(Some(&payment.created_at)),
        ]
    };
    Table::new("Payments, newest first", &COLUMNS, empty).with_rows(payments.iter().map(row))
}

/// A merchant, with the way to its limits.
pub(super) fn merchant(merchant_id: &str) -> Cell {
    Cell::link("/console/limits", merchant_id)
}

/// The merchant that the query names.
pub(super) fn merchant_of(query: &Query<'_>) -> Option<String> {
    query.text("merchant_id").map(|text| String::from(text.trim())).filter(|text| !text.is_empty())
}

/// What the query narrows a list by.
pub(super) fn filter_of(query: &Query<'_>) -> PaymentFilter {
    let moment = |name| query.text(name).map(|text| sent_moment(text.trim()));
    let text = |name| query.text(name).map(|text| String::from(text.trim())).filter(|text| !text.is_empty());
    PaymentFilter {
        order_no: text("order_no"),
        status: text("status"),
        channel: text("channel"),
        from: moment("from"),
        to: moment("to"),
    }
}

/// The row above a list.
pub(super) fn filter_form(path: &str, gateway: &Gateway, query: &Query<'_>, statuses: &[&str]) -> Form {
    let any = || (String::new(), String::from("Any"));
    let statuses = statuses.iter().map(|status| (String::from(*status), words(status)));
    let channels = gateway.config().channels.keys().map(|name| (name.clone(), name.clone()));
    Form::filter(path)
        .with(Field::line("order_no", "Order number").value(query.text("order_no")))
        .with(Field::line("merchant_id", "Merchant").value(query.text("merchant_id")))
        .with(Field::one_of("status", "Status", std::iter::once(any()).chain(statuses)).value(query.text("status")))
        .with(Field::one_of("channel", "Channel", std::iter::once(any()).chain(channels)).value(query.text("channel")))
        .with(Field::moment("from", "From (UTC)").value(query.text("from")))
        .with(Field::moment("to", "Before (UTC)").value(query.text("to")))
}

fn export_form(query: &Query<'_>) -> Form {
    let statements = [
        ("payments", "Payments and captures"),
        ("refunds", "Refunds"),
        ("fees", "Totals by day, channel and currency"),
    ];
    Form::ask(EXPORTS, "Download CSV")
        .with(Field::one_of("statement", "What", statements))
        .with(Field::line("merchant_id", "Merchant").value(query.text("merchant_id")).hint("All when empty"))
        .with(Field::typed("from", "From (UTC)", "date").required())
        .with(Field::typed("to", "Before (UTC)", "date").hint("Now when empty"))
}

/// Sends a statement as a file.
async fn export(call: ConsoleCall) -> Outcome {
    let query = call.query(&["statement", "merchant_id", "from", "to"], Pages::No)?;
    let text = |name| query.text(name).map(|text| String::from(text.trim()));
    let statement: Statement = text("statement")
        .unwrap_or_default()
        .parse()
        .map_err(|_| ApiError::field("statement", "must be one of payments, refunds, fees"))?;
    let merchant_id = text("merchant_id").filter(|id| !id.is_empty()).map(MerchantId::new);
    exports::answer(&call.call, statement, merchant_id, text("from").as_deref(), text("to").as_deref())
}

fn path_of(payment_no: &str) -> String {
    format!("{PATH}/{}", path_part(payment_no))
}

/// The fields that say how something ended that could not be resolved.
pub(super) fn with_verdict<'a>(form: Form, verdicts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Form {
    let hint = "It stands in the audit; no customers' data, please.";
    // Nothing is chosen before somebody has: the browser asks for it.
    let choices = std::iter::once(("", "Choose…")).chain(verdicts);
    form.with(Field::one_of("status", "At the provider", choices).required())
        .with(Field::line("reason", "How that was found out").required().hint(hint))
}

const ENDED: [(&str, &str); 2] = [("success", "The money moved"), ("failed", "It certainly did not move")];

fn resolution(call: &ConsoleCall) -> Result<ResolveByHand, ApiError> {
    let status = match call.field("status").as_deref() {
        Some("success") => ResolvedStatus::Success,
        Some("failed") => ResolvedStatus::Failed,
        _ => return Err(ApiError::field("status", "must be one of success, failed")),
    };
    Ok(ResolveByHand { status, reason: call.field("reason").unwrap_or_default() })
}

async fn ask_resolve(Named(payment_no): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let found = call.gateway().payments().find(&payment_no)?;
    let back = path_of(&payment_no);
    let payment = &found.payment;
    let form = Form::post(format!("{back}/resolve"), call.csrf(), "End it").dangerous().cancel(&back);
    show(&Confirmation {
        page: call.page(Section::Payments, "End a payment by hand").below("Payments", PATH).below(&payment_no, &back),
        question: String::from(
            "The gateway could not find out what became of this payment. Look it up at the provider, then say how it ended. \
             The merchant is told, and it can't be changed again.",
        ),
        facts: Facts::default()
            .with("Payment", Cell::code(&payment.payment_no))
            .with("Order", Cell::code(&payment.order_no))
            .with("Merchant", merchant(&found.merchant_id))
            .with("Amount", Cell::money(payment.amount, &payment.currency))
            .with("Status", Cell::status(&payment.status))
            .with_some("Channel", Cell::maybe(payment.channel.clone()))
            .with_some("Number there", Cell::code(payment.channel_order_no.clone().unwrap_or_default())),
        form: with_verdict(form, ENDED),
    })
}

async fn resolve(Named(payment_no): Named<String>, call: ConsoleCall) -> Outcome {
    let back = path_of(&payment_no);
    let command = match resolution(&call) {
        Ok(command) => command,
        Err(error) => return call.done(Err::<String, _>(error), &back),
    };
    let resolved = call.gateway().payments().resolve(&call.operator, &payment_no, command).await;
    call.done(resolved.map(|view| format!("The payment was ended: {}.", words(&view.payment.status))), &back)
}

/// Where the page of what a refund is of stands.
pub(super) fn page_of_refund(gateway: &Gateway, refund_no: &str) -> Result<String, GatewayError> {
    let number = gateway.refunds().object_of(refund_no)?;
    Ok(page_of_object(&number))
}

/// Where the page of a payment or pre-auth stands.
pub(super) fn page_of_object(number: &str) -> String {
    let below = if number.starts_with(crate::domain::ids::PRE_AUTH_NO_PREFIX) { super::pre_auths::PATH } else { PATH };
    format!("{below}/{}", path_part(number))
}

async fn ask_resolve_refund(Named(refund_no): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let number = call.gateway().refunds().object_of(&refund_no)?;
    let back = page_of_object(&number);
    let form = Form::post(format!("/console/refunds/{}/resolve", path_part(&refund_no)), call.csrf(), "End it")
        .dangerous()
        .cancel(&back);
    show(&Confirmation {
        page: call.page(Section::Payments, "End a refund by hand").below(&number, &back),
        question: String::from(
            "The gateway could not find out what became of this refund. Look it up at the provider, then say how it ended. The \
             merchant is told, and it can't be changed again.",
        ),
        facts: refund_facts(call.gateway(), &refund_no, &number)?,
        form: with_verdict(form, ENDED),
    })
}

/// What a refund is that is to be ended: of the payment or pre-auth with this number.
fn refund_facts(gateway: &Gateway, refund_no: &str, number: &str) -> Result<Facts, GatewayError> {
    let (merchant_id, refunds) = if number.starts_with(crate::domain::ids::PRE_AUTH_NO_PREFIX) {
        let pre_auths = gateway.pre_auths();
        (pre_auths.find(number)?.merchant_id, pre_auths.refunds_of(number)?)
    } else {
        (gateway.payments().find(number)?.merchant_id, gateway.refunds().of_payment(number)?)
    };
    let is_it = |refund: &RefundView| refund.refund_no == refund_no;
    let refund = refunds.into_iter().find(is_it).ok_or(GatewayError::NotFound("refund"))?;
    Ok(Facts::default()
        .with("Refund", Cell::code(refund_no))
        .with("Of", Cell::Link { href: page_of_object(number), text: String::from(number) })
        .with("Merchant", merchant(&merchant_id))
        .with("Amount", Cell::money(refund.amount, &refund.currency))
        .with("Status", Cell::status(&refund.status))
        .with_some("Number there", Cell::code(refund.channel_refund_no.unwrap_or_default()))
        .with("Made (UTC)", Cell::moment(Some(refund.created_at))))
}

async fn resolve_refund(Named(refund_no): Named<String>, call: ConsoleCall) -> Outcome {
    let back = page_of_refund(call.gateway(), &refund_no)?;
    let command = match resolution(&call) {
        Ok(command) => command,
        Err(error) => return call.done(Err::<String, _>(error), &back),
    };
    let gateway = call.gateway();
    let resolved = match gateway.refunds().resolve(&call.operator, &refund_no, command.clone()).await {
        Err(GatewayError::NotFound(_)) => gateway.pre_auths().resolve_refund(&call.operator, &refund_no, command).await,
        resolved => resolved,
    };
    call.done(resolved.map(|view| format!("The refund was ended: {}.", words(&view.refund.status))), &back)
}

/// Refunds of a payment or pre-auth.
pub(super) fn refunds_table(refunds: &[RefundView]) -> Table {
    let columns = ["Refund", "Amount", "Status", "Number there", "Reason", "Made (UTC)", "Changed (UTC)", "Action"];
    let row = |refund: &RefundView| {
        let action = match refund.status.as_str() {
            "needs_review" => {
                let href = format!("/console/refunds/{}/resolve", path_part(&refund.refund_no));
                Cell::Buttons(vec![Button::link("End by hand…", href).dangerous()])
            }
            _ => Cell::Nothing,
        };
        let status = match &refund.failure {
            Some(failure) => Cell::Lines(vec![Cell::status(&refund.status), Cell::text(&failure.message)]),
            None => Cell::status(&refund.status),
        };
        vec![
            Cell::code(&refund.refund_no),
            Cell::money(refund.amount, &refund.currency),
            status,
            Cell::code(refund.channel_refund_no.clone().unwrap_or_default()),
            Cell::maybe(refund.reason.clone()),
            Cell::moment(Some(&refund.created_at)),
            Cell::moment(Some(&refund.updated_at)),
            action,
        ]
    };
    Table::new("Refunds, newest first", &columns, "Nothing was given back.").with_rows(refunds.iter().map(row))
}
