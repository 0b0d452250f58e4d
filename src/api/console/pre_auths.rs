//! Pre-auths: what is held the shortest, the list, one's whole story, and taking or releasing what is held.

use askama::Template;

use crate::api::call::Named;
use crate::api::console::call::{ConsoleCall, empty, filled};
use crate::api::console::form::{Button, Field, Form, Pager};
use crate::api::console::page::{Confirmation, Page, Section, show};
use crate::api::console::payments::story::{Told, failure_facts, pretty, strays_table, times_around, told};
use crate::api::console::payments::{
    NAMES, filter_form, filter_of, merchant, merchant_of, refunds_table, with_verdict,
};
use crate::api::console::table::{Cell, Facts, Table, path_part};
use crate::api::console::text::{money, sent_moment, words};
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::domain::money::{Currency, Money};
use crate::domain::pre_auth::PreAuthStatus;
use crate::gateway::command::{
    CancelPreAuth, CapturePreAuth, PaymentFilter, ResolvePreAuthByHand, ResolvedPreAuthStatus,
};
use crate::gateway::page::PageRequest;
use crate::gateway::view::{OperationView, OperatorPreAuthView};

pub(super) const PATH: &str = "/console/pre-auths";
/// Rows of what is held the shortest.
const EXPIRING_MAX: usize = 50;

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, PATH, list)
        .with(Verb::Get, "/console/pre-auths/{pre_auth_no}", show_one)
        .with(Verb::Get, "/console/pre-auths/{pre_auth_no}/capture", ask_capture)
        .with(Verb::Post, "/console/pre-auths/{pre_auth_no}/capture", capture)
        .with(Verb::Get, "/console/pre-auths/{pre_auth_no}/cancel", ask_cancel)
        .with(Verb::Post, "/console/pre-auths/{pre_auth_no}/cancel", cancel)
        .with(Verb::Get, "/console/pre-auths/{pre_auth_no}/resolve", ask_resolve)
        .with(Verb::Post, "/console/pre-auths/{pre_auth_no}/resolve", resolve)
}

#[derive(Template)]
#[template(path = "pre_auths.html")]
struct PreAuthsPage {
    page: Page,
    /// What is held the shortest; only where nothing is filtered.
    expiring: Option<Expiring>,
    filter: Form,
    table: Table,
    pager: Pager,
}

struct Expiring {
    table: Table,
    is_all: bool,
}

async fn list(call: ConsoleCall) -> Outcome {
    let query = call.query(&NAMES, Pages::Yes)?;
    let filter = filter_of(&query);
    let merchant_id = merchant_of(&query);
    let pre_auths = call.gateway().pre_auths();
    let asked = query.page()?;
    let list = |page: &PageRequest| pre_auths.list_all(merchant_id.as_deref(), &filter, page);
    let found = filled(asked.clone(), list).await?;
    let next_cursor = found.next_cursor.as_deref();
    let is_plain = filter == PaymentFilter::default() && merchant_id.is_none() && query.text("cursor").is_none();
    let expiring = match is_plain {
        true => {
            let held = pre_auths.expiring(EXPIRING_MAX)?;
            Some(Expiring { table: expiring_table(&held.items), is_all: held.is_all })
        }
        false => None,
    };
    let statuses: Vec<&str> = PreAuthStatus::ALL.iter().map(|status| status.as_str()).collect();
    show(&PreAuthsPage {
        page: call.page(Section::PreAuths, "Pre-auths"),
        expiring,
        filter: filter_form(PATH, call.gateway(), &query, &statuses),
        table: table(&found.items, empty("No pre-auth fits.", next_cursor)),
        pager: call.pager(PATH, &asked, found.items.len(), next_cursor),
    })
}

fn expiring_table(held: &[OperatorPreAuthView]) -> Table {
    let columns = ["Pre-auth", "Order", "Merchant", "Held", "Ends (UTC)", "Channel", "Action"];
    let row = |view: &OperatorPreAuthView| {
        let pre_auth = &view.pre_auth;
        let path = path_of(&pre_auth.pre_auth_no);
        vec![
            Cell::link(PATH, &pre_auth.pre_auth_no),
            Cell::code(&pre_auth.order_no),
            merchant(&view.merchant_id),
            Cell::money(pre_auth.authorized_amount, &pre_auth.currency),
            pre_auth.expires_at.clone().map_or(Cell::Nothing, Cell::Until),
            Cell::text(&pre_auth.channel),
            Cell::Buttons(vec![
                Button::link("Capture…", format!("{path}/capture")),
                Button::link("Cancel…", format!("{path}/cancel")).dangerous(),
            ]),
        ]
    };
    Table::new("Held money, by when that ends", &columns, "No money is held.").with_rows(held.iter().map(row))
}

/// Pre-auths in a table; `empty` is said if there are none.
pub(super) fn table(pre_auths: &[OperatorPreAuthView], empty: &str) -> Table {
    let columns = ["Pre-auth", "Order", "Merchant", "Amount", "Captured", "Status", "Channel", "Made (UTC)"];
    let row = |view: &OperatorPreAuthView| {
        let pre_auth = &view.pre_auth;
        let captured = match pre_auth.captured_amount {
            0 => Cell::Nothing,
            amount => Cell::money(amount, &pre_auth.currency),
        };
        vec![
            Cell::link(PATH, &pre_auth.pre_auth_no),
            Cell::code(&pre_auth.order_no),
            merchant(&view.merchant_id),
            Cell::money(pre_auth.amount, &pre_auth.currency),
            captured,
            Cell::status(&pre_auth.status),
            Cell::text(&pre_auth.channel),
            Cell::moment(Some(&pre_auth.created_at)),
        ]
    };
    Table::new("Pre-auths, newest first", &columns, empty).with_rows(pre_auths.iter().map(row))
}

#[derive(Template)]
#[template(path = "pre_auth.html")]
struct PreAuthPage {
    page: Page,
    actions: Vec<Button>,
    facts: Facts,
    failure: Option<Facts>,
    /// Why this channel, in one sentence.
    reason: String,
    operations: Table,
    told: Told,
    refunds: Table,
    strays: Option<Table>,
    json: String,
}

async fn show_one(Named(pre_auth_no): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let gateway = call.gateway();
    let found = gateway.pre_auths().find(&pre_auth_no)?;
    let pre_auth = &found.pre_auth;
    let refunds = gateway.pre_auths().refunds_of(&pre_auth_no)?;
    let own = [
        Some(&pre_auth.created_at),
        pre_auth.authorized_at.as_ref(),
        pre_auth.captured_at.as_ref(),
        Some(&pre_auth.updated_at),
    ];
    let asked = pre_auth.operations.iter().map(|operation| &operation.at);
    let times = own.into_iter().flatten().chain(asked).chain(times_around(&refunds, &found.strays));
    let told = told(gateway, &found.merchant_id, &pre_auth.pre_auth_no, times)?;
    show(&PreAuthPage {
        page: call.page(Section::PreAuths, &pre_auth.pre_auth_no).below("Pre-auths", PATH),
        actions: actions(&found),
        facts: facts(&found),
        failure: pre_auth.failure.as_ref().map(failure_facts),
        reason: pre_auth.routing.reason.clone(),
        operations: operations_table(&pre_auth.operations, &pre_auth.currency),
        told,
        refunds: refunds_table(&refunds),
        strays: (!found.strays.is_empty()).then(|| strays_table(&found.strays, &pre_auth.currency)),
        json: pretty(&found)?,
    })
}

fn actions(found: &OperatorPreAuthView) -> Vec<Button> {
    let path = path_of(&found.pre_auth.pre_auth_no);
    let cancel = || Button::link("Cancel…", format!("{path}/cancel")).dangerous();
    match found.pre_auth.status.as_str() {
        "requires_capture" => vec![Button::link("Capture…", format!("{path}/capture")), cancel()],
        "requires_payment_method" | "requires_action" => vec![cancel()],
        "needs_review" => vec![Button::link("End by hand…", format!("{path}/resolve")).dangerous()],
        _ => Vec::new(),
    }
}

fn facts(found: &OperatorPreAuthView) -> Facts {
    let pre_auth = &found.pre_auth;
    let currency = pre_auth.currency.as_str();
    let some = |amount: i64| if amount == 0 { Cell::Nothing } else { Cell::money(amount, currency) };
    let status = match pre_auth.reconciling {
        true => Cell::Lines(vec![Cell::status(&pre_auth.status), Cell::text("its channel is being asked")]),
        false => Cell::status(&pre_auth.status),
    };
    let fee = pre_auth.fee.as_ref().map_or(Cell::Nothing, |fee| Cell::money(fee.amount, &fee.currency));
    let is_held = pre_auth.status == "requires_capture";
    let ends = match &pre_auth.expires_at {
        Some(at) if is_held => Cell::Until(at.clone()),
        other => Cell::moment(other.as_ref()),
    };
    Facts::default()
        .with("Status", status)
        .with("Asked for", Cell::money(pre_auth.amount, currency))
        .with_some("Held", some(pre_auth.authorized_amount))
        .with_some("Captured", some(pre_auth.captured_amount))
        .with_some("Released", some(pre_auth.released_amount))
        .with_some("Given back", some(pre_auth.refunded_amount))
        .with_some("Fee", fee)
        .with_some(if is_held { "Hold ends (UTC)" } else { "Time to act, or hold, ended (UTC)" }, ends)
        .with("Merchant", merchant(&found.merchant_id))
        .with("Order", Cell::code(&pre_auth.order_no))
        .with_some("Merchant's own number", Cell::code(pre_auth.reference.clone().unwrap_or_default()))
        .with("Channel", Cell::text(&pre_auth.channel))
        .with_some("Number there", Cell::code(pre_auth.channel_pre_auth_no.clone().unwrap_or_default()))
        .with_some("Method", Cell::maybe(pre_auth.method.clone()))
        .with_some("Payer's country", Cell::maybe(pre_auth.country.clone()))
        .with_some("Description", Cell::maybe(pre_auth.description.clone()))
        .with("Made (UTC)", Cell::moment(Some(&pre_auth.created_at)))
        .with_some("Held since (UTC)", Cell::moment(pre_auth.authorized_at.as_ref()))
        .with_some("Captured (UTC)", Cell::moment(pre_auth.captured_at.as_ref()))
        .with("Changed (UTC)", Cell::moment(Some(&pre_auth.updated_at)))
        .with_some("Customer's data erased (UTC)", Cell::moment(pre_auth.erased_at.as_ref()))
}

fn operations_table(operations: &[OperationView], currency: &str) -> Table {
    let columns = ["When (UTC)", "What", "Amount", "What came of it", "Why"];
    let row = |operation: &OperationView| {
        vec![
            Cell::moment(Some(&operation.at)),
            Cell::text(words(&operation.kind)),
            operation.amount.map_or(Cell::Nothing, |amount| Cell::money(amount, currency)),
            Cell::text(words(&operation.status)),
            Cell::maybe(operation.failure.as_ref().map(|failure| failure.message.clone())),
        ]
    };
    Table::new("What was asked of the channel", &columns, "Nothing yet.").with_rows(operations.iter().map(row))
}

fn path_of(pre_auth_no: &str) -> String {
    format!("{PATH}/{}", path_part(pre_auth_no))
}

/// A page that asks whether something is really to be done to a pre-auth.
fn confirmation(call: &ConsoleCall, found: &OperatorPreAuthView, title: &str, question: &str, form: Form) -> Outcome {
    let pre_auth = &found.pre_auth;
    let back = path_of(&pre_auth.pre_auth_no);
    show(&Confirmation {
        page: call.page(Section::PreAuths, title).below("Pre-auths", PATH).below(&pre_auth.pre_auth_no, &back),
        question: String::from(question),
        facts: Facts::default()
            .with("Pre-auth", Cell::code(&pre_auth.pre_auth_no))
            .with("Order", Cell::code(&pre_auth.order_no))
            .with("Merchant", merchant(&found.merchant_id))
            .with("Held", Cell::money(pre_auth.authorized_amount, &pre_auth.currency))
            .with("Status", Cell::status(&pre_auth.status))
            .with_some("Ends (UTC)", pre_auth.expires_at.clone().map_or(Cell::Nothing, Cell::Until)),
        form: form.dangerous().cancel(back),
    })
}

async fn ask_capture(Named(pre_auth_no): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let found = call.gateway().pre_auths().find(&pre_auth_no)?;
    let pre_auth = &found.pre_auth;
    let held = match pre_auth.currency.parse::<Currency>() {
        Ok(currency) => Money::new(pre_auth.authorized_amount, currency).decimal(),
        Err(_) => String::new(),
    };
    let amount = Field::line("amount", format!("Amount in {}", pre_auth.currency))
        .value(Some(held))
        .required()
        .hint("What is not taken is released.");
    let form = Form::post(format!("{}/capture", path_of(&pre_auth_no)), call.csrf(), "Capture it").with(amount);
    let question = "The money will be taken from the payer. It can be given back later, but not be held again.";
    confirmation(&call, &found, "Capture a pre-auth", question, form)
}

async fn capture(Named(pre_auth_no): Named<String>, call: ConsoleCall) -> Outcome {
    let back = path_of(&pre_auth_no);
    let captured = capture_as_said(&call, &pre_auth_no).await;
    let said = captured.map(|view| {
        let pre_auth = &view.pre_auth;
        match pre_auth.status.as_str() {
            "captured" => format!("{} was captured.", money(pre_auth.captured_amount, &pre_auth.currency)),
            "processing" => String::from("The capture was sent; its outcome is not known yet and is being asked for."),
            status => format!("It was not captured; the pre-auth is: {}.", words(status)),
        }
    });
    call.done(said, &back)
}

async fn capture_as_said(call: &ConsoleCall, pre_auth_no: &str) -> Result<OperatorPreAuthView, ApiError> {
    let pre_auths = call.gateway().pre_auths();
    let currency = pre_auths.find(pre_auth_no)?.pre_auth.currency;
    let amount = call.field("amount").unwrap_or_default();
    let amount = currency.parse::<Currency>().ok().and_then(|currency| Money::parse_decimal(&amount, currency));
    let amount = amount.ok_or_else(|| {
        ApiError::field("amount", "must be an amount with at most the currency's decimals, such as 12.30")
    })?;
    let command = CapturePreAuth { amount: Some(amount.amount_minor) };
    Ok(pre_auths.capture_by(&call.operator, pre_auth_no, command).await?)
}

async fn ask_cancel(Named(pre_auth_no): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let found = call.gateway().pre_auths().find(&pre_auth_no)?;
    let form = Form::post(format!("{}/cancel", path_of(&pre_auth_no)), call.csrf(), "Cancel it")
        .with(Field::line("reason", "Reason").hint("The merchant's customer may be told; 255 characters at most."));
    let question = "What is held will be released to the payer, and nothing can be captured any more.";
    confirmation(&call, &found, "Cancel a pre-auth", question, form)
}

async fn cancel(Named(pre_auth_no): Named<String>, call: ConsoleCall) -> Outcome {
    let back = path_of(&pre_auth_no);
    let command = CancelPreAuth { reason: call.field("reason") };
    let canceled = call.gateway().pre_auths().cancel_by(&call.operator, &pre_auth_no, command).await;
    let said = canceled.map(|view| match view.pre_auth.status.as_str() {
        "canceled" => String::from("It was canceled, and what was held is released."),
        "processing" | "requires_payment_method" | "requires_action" if view.pre_auth.reconciling => {
            String::from("The cancellation was sent; its outcome is not known yet and is being asked for.")
        }
        "processing" => String::from("The cancellation was sent; its outcome is not known yet and is being asked for."),
        status => format!("It was not canceled; the pre-auth is: {}.", words(status)),
    });
    call.done(said, &back)
}

const STANDS: [(&str, &str); 4] = [
    ("requires_capture", "The money is held"),
    ("captured", "Money was taken, the rest was released"),
    ("canceled", "Nothing was taken, nothing is held any more"),
    ("failed", "Nothing was ever held"),
];

async fn ask_resolve(Named(pre_auth_no): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let found = call.gateway().pre_auths().find(&pre_auth_no)?;
    let form = Form::post(format!("{}/resolve", path_of(&pre_auth_no)), call.csrf(), "End it");
    let amount = format!("What was taken, in {}", found.pre_auth.currency);
    let form = with_verdict(form, STANDS)
        .with(Field::line("captured_amount", amount).hint("Only where money was taken."))
        .with(
            Field::moment("expires_at", "When the hold ends (UTC)")
                .hint("Only where it is held, and if that is known."),
        );
    let question = "The gateway could not find out what became of this pre-auth. Look it up at the provider, then say how it \
                    stands. The merchant is told.";
    confirmation(&call, &found, "End a pre-auth by hand", question, form)
}

async fn resolve(Named(pre_auth_no): Named<String>, call: ConsoleCall) -> Outcome {
    let back = path_of(&pre_auth_no);
    let resolved = resolve_as_said(&call, &pre_auth_no).await;
    call.done(resolved.map(|view| format!("The pre-auth is now: {}.", words(&view.pre_auth.status))), &back)
}

async fn resolve_as_said(call: &ConsoleCall, pre_auth_no: &str) -> Result<OperatorPreAuthView, ApiError> {
    let pre_auths = call.gateway().pre_auths();
    let currency = pre_auths.find(pre_auth_no)?.pre_auth.currency;
    let status = match call.field("status").as_deref() {
        Some("requires_capture") => ResolvedPreAuthStatus::RequiresCapture,
        Some("captured") => ResolvedPreAuthStatus::Captured,
        Some("canceled") => ResolvedPreAuthStatus::Canceled,
        Some("failed") => ResolvedPreAuthStatus::Failed,
        _ => return Err(ApiError::field("status", "must be one of requires_capture, captured, canceled, failed")),
    };
    let captured_amount = match call.field("captured_amount") {
        None => None,
        Some(text) => {
            let amount = currency.parse::<Currency>().ok().and_then(|currency| Money::parse_decimal(&text, currency));
            Some(amount.map(|amount| amount.amount_minor).ok_or_else(|| {
                ApiError::field(
                    "captured_amount",
                    "must be an amount with at most the currency's decimals, such as 12.30",
                )
            })?)
        }
    };
    let command = ResolvePreAuthByHand {
        status,
        reason: call.field("reason").unwrap_or_default(),
        captured_amount,
        expires_at: call.field("expires_at").map(|text| sent_moment(&text)),
    };
    Ok(pre_auths.resolve(&call.operator, pre_auth_no, command).await?)
}
