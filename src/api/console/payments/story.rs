//! One payment's whole story: what it is, why it went where it went, what happened, who was told.

use askama::Template;

use super::decision::{AttemptStory, attempt_story};
use super::{PATH, merchant, refunds_table};
use crate::api::call::Named;
use crate::api::console::call::ConsoleCall;
use crate::api::console::form::Button;
use crate::api::console::page::{Page, Section, show};
use crate::api::console::table::{Cell, Facts, Table, path_part};
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::domain::ids::MerchantId;
use crate::domain::language::Language;
use crate::domain::time::Timestamp;
use crate::gateway::Gateway;
use crate::gateway::error::GatewayError;
use crate::gateway::view::{FailureView, OperatorPaymentView, RefundView, StrayView};
use crate::gateway::webhooks::{EventView, NotificationView};

#[derive(Template)]
#[template(path = "payment.html")]
struct PaymentPage {
    page: Page,
    actions: Vec<Button>,
    facts: Facts,
    /// Why it failed.
    failure: Option<Facts>,
    attempts: Vec<AttemptStory>,
    told: Told,
    refunds: Table,
    strays: Option<Table>,
    json: String,
}

pub(super) async fn show_one(Named(payment_no): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let gateway = call.gateway();
    let found = gateway.payments().find(&payment_no)?;
    let routing = gateway.payments().find_routing(&payment_no, Language::English)?.routing;
    let payment = &found.payment;
    let currency = payment.currency.as_str();
    let attempts = routing.attempts.iter().map(|attempt| attempt_story(attempt, currency)).collect::<Result<_, _>>()?;
    let strays = (!found.strays.is_empty()).then(|| strays_table(&found.strays, currency));
    let refunds = gateway.refunds().of_payment(&payment_no)?;
    let own = [Some(&payment.created_at), payment.paid_at.as_ref(), Some(&payment.updated_at)];
    let asked = routing.attempts.iter().map(|attempt| &attempt.sent_at);
    let times = own.into_iter().flatten().chain(asked).chain(times_around(&refunds, &found.strays));
    let told = told(gateway, &found.merchant_id, &payment.payment_no, times)?;
    show(&PaymentPage {
        page: call.page(Section::Payments, &payment.payment_no).below("Payments", PATH),
        actions: actions(&found),
        facts: facts(&found),
        failure: payment.failure.as_ref().map(failure_facts),
        attempts,
        told,
        refunds: refunds_table(&refunds),
        strays,
        json: pretty(&found)?,
    })
}

fn actions(found: &OperatorPaymentView) -> Vec<Button> {
    let payment = &found.payment;
    let mut actions = Vec::new();
    if payment.status == "needs_review" {
        let href = format!("{PATH}/{}/resolve", path_part(&payment.payment_no));
        actions.push(Button::link("End by hand…", href).dangerous());
    }
    actions
}

fn facts(found: &OperatorPaymentView) -> Facts {
    let payment = &found.payment;
    let currency = payment.currency.as_str();
    let fee = payment.fee.as_ref().map_or(Cell::Nothing, |fee| Cell::money(fee.amount, &fee.currency));
    let refunded = match payment.refunded_amount {
        0 => Cell::Nothing,
        amount => Cell::money(amount, currency),
    };
    let status = match payment.reconciling {
        true => Cell::Lines(vec![Cell::status(&payment.status), Cell::text("its channel is being asked")]),
        false => Cell::status(&payment.status),
    };
    Facts::default()
        .with("Status", status)
        .with("Amount", Cell::money(payment.amount, currency))
        .with_some("Given back", refunded)
        .with_some("Fee", fee)
        .with("Merchant", merchant(&found.merchant_id))
        .with("Order", Cell::code(&payment.order_no))
        .with_some("Channel", Cell::maybe(payment.channel.clone()))
        .with_some("Number there", Cell::code(payment.channel_order_no.clone().unwrap_or_default()))
        .with_some("Method", Cell::maybe(payment.method.clone()))
        .with_some("Payer's country", Cell::maybe(payment.country.clone()))
        .with_some("Description", Cell::maybe(payment.description.clone()))
        .with("Made (UTC)", Cell::moment(Some(&payment.created_at)))
        .with_some("Paid (UTC)", Cell::moment(payment.paid_at.as_ref()))
        .with("Changed (UTC)", Cell::moment(Some(&payment.updated_at)))
        .with_some("Customer's data erased (UTC)", Cell::moment(payment.erased_at.as_ref()))
}

/// Why something failed, in words.
pub(in crate::api::console) fn failure_facts(failure: &FailureView) -> Facts {
    Facts::default()
        .with("Why it failed", Cell::text(&failure.message))
        .with("Code", Cell::code(&failure.code))
        .with("Who refused", Cell::text(&failure.decline_scope))
        .with_some("Trying again", Cell::maybe(failure.advice.clone()))
        .with_some("Network's code", Cell::code(failure.network_code.clone().unwrap_or_default()))
        .with_some("Network's advice", Cell::code(failure.network_advice_code.clone().unwrap_or_default()))
}

/// Money that came otherwise than it was asked for.
pub(in crate::api::console) fn strays_table(strays: &[StrayView], currency: &str) -> Table {
    let columns = ["Kind", "Amount", "Noticed (UTC)", "What was done", "Refund"];
    let row = |stray: &StrayView| {
        vec![
            Cell::text(&stray.kind),
            stray.amount.map_or(Cell::Nothing, |amount| Cell::money(amount, currency)),
            Cell::moment(Some(&stray.seen_at)),
            Cell::text(&stray.action),
            Cell::code(stray.refund_no.clone().unwrap_or_default()),
        ]
    };
    Table::new("Money that came otherwise than asked for", &columns, "None.").with_rows(strays.iter().map(row))
}

/// When something happened to the refunds and strays of an object.
pub(in crate::api::console) fn times_around<'a>(
    refunds: &'a [RefundView],
    strays: &'a [StrayView],
) -> impl Iterator<Item = &'a String> {
    let of_refunds = refunds.iter().flat_map(|refund| [&refund.created_at, &refund.updated_at]);
    of_refunds.chain(strays.iter().map(|stray| &stray.seen_at))
}

/// What happened to an object, and who was told.
pub(in crate::api::console) struct Told {
    /// Its events.
    pub(in crate::api::console) events: Table,
    /// The webhooks about it.
    pub(in crate::api::console) webhooks: Table,
    /// Where the webhooks are that were not looked at; none when all were.
    pub(in crate::api::console) others: Option<String>,
}

/// What was told of a payment or pre-auth to which something happened at these times.
pub(in crate::api::console) fn told<'a>(
    gateway: &Gateway,
    merchant_id: &str,
    number: &str,
    times: impl Iterator<Item = &'a String>,
) -> Result<Told, ApiError> {
    let times: Vec<Timestamp> = times.filter_map(|text| Timestamp::parse_rfc3339(text)).collect();
    let (webhooks, merchant) = (gateway.webhooks(), MerchantId::new(merchant_id));
    let events = webhooks.events_about(&merchant, number, &times)?;
    let notifications = webhooks.notifications_about(&merchant, number, &times)?;
    let others = format!(
        "/console/webhooks/notifications?merchant_id={}&payment_no={}",
        path_part(merchant_id),
        path_part(number)
    );
    Ok(Told {
        events: events_table(&events.items),
        webhooks: webhooks_table(&notifications.items),
        others: (!events.is_all || !notifications.is_all).then_some(others),
    })
}

fn events_table(events: &[EventView]) -> Table {
    let row = |event: &EventView| {
        vec![
            Cell::moment(Some(&event.created_at)),
            Cell::code(&event.event),
            Cell::count(event.sequence),
            Cell::code(&event.id),
        ]
    };
    let columns = ["When (UTC)", "Event", "Merchant's event no.", "Id"];
    Table::new("Events, oldest first", &columns, "No event is kept of it.").with_rows(events.iter().map(row))
}

fn webhooks_table(notifications: &[NotificationView]) -> Table {
    let columns = ["Notification", "Event", "To", "Status", "Tries", "Last answer", "Next try (UTC)", "Arrived (UTC)"];
    let row = |notification: &NotificationView| {
        let answer = match (&notification.error, notification.status_code) {
            (Some(error), _) => Cell::text(error),
            (None, Some(status)) => Cell::Number(status.to_string()),
            (None, None) => Cell::Nothing,
        };
        vec![
            Cell::link("/console/webhooks/notifications", &notification.id),
            Cell::code(&notification.event),
            Cell::text(&notification.url),
            Cell::status(&notification.status),
            Cell::Number(format!("{} of {}", notification.attempts, notification.max_attempts)),
            answer,
            Cell::moment(notification.next_retry_at.as_ref()),
            Cell::moment(notification.succeeded_at.as_ref()),
        ]
    };
    let empty = "None was found: nobody was to be told, or it is not kept any more.";
    Table::new("Webhooks, newest first", &columns, empty).with_rows(notifications.iter().map(row))
}

/// All that the API says of it.
pub(in crate::api::console) fn pretty(view: &impl serde::Serialize) -> Result<String, ApiError> {
    let pretty = serde_json::to_string_pretty(view);
    pretty.map_err(|error| GatewayError::Internal(format!("a view can't be written as JSON: {error}")).into())
}
