//! Notifications: what was sent, what the receivers said, and sending it again.

use url::form_urlencoded;

use crate::api::call::Named;
use crate::api::console::call::{ConsoleCall, empty};
use crate::api::console::form::{Button, Field, Form};
use crate::api::console::page::{Confirmation, Section, show};
use crate::api::console::parts::{Part, Parts, Piece};
use crate::api::console::table::{Cell, Facts, Table, path_part};
use crate::api::console::text::{count, sent_moment};
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::api::webhook_jobs::time;
use crate::domain::ids::NotificationId;
use crate::gateway::error::GatewayError;
use crate::gateway::webhooks::{NotificationFilter, NotificationView, OperatorNotificationView, TryView};

use super::endpoints;

/// Where notifications are listed.
pub(super) const PATH: &str = "/console/webhooks/notifications";
const NAMES: [&str; 8] = ["merchant_id", "endpoint_id", "status", "event", "payment_no", "failure", "from", "to"];
/// Notifications sent again with one form.
const AGAIN_MAX: usize = 100;

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, PATH, list)
        .with(Verb::Get, "/console/webhooks/resend", ask_again)
        .with(Verb::Post, "/console/webhooks/resend", again)
        .with(Verb::Get, "/console/webhooks/notifications/{notification_id}", one)
}

/// Those to one endpoint.
pub(super) fn of_endpoint(endpoint_id: &str) -> NotificationFilter {
    NotificationFilter { endpoint_id: Some(String::from(endpoint_id)), ..NotificationFilter::default() }
}

async fn list(call: ConsoleCall) -> Outcome {
    let query = call.query(&NAMES, Pages::Yes)?;
    let text = |name: &str| query.text(name);
    let moment = |name: &str| text(name).map(|at| time(name, &sent_moment(&at))).transpose();
    let filter = NotificationFilter {
        status: text("status"),
        endpoint_id: text("endpoint_id"),
        event: text("event"),
        payment_no: text("payment_no"),
        failure: text("failure"),
        from: moment("from")?,
        to: moment("to")?,
    };
    let statuses =
        [("", "any"), ("pending", "pending"), ("retrying", "retrying"), ("success", "taken"), ("failed", "given up")];
    let form = Form::filter(PATH)
        .with(Field::line("merchant_id", "Merchant").value(text("merchant_id")))
        .with(Field::line("endpoint_id", "Endpoint").value(text("endpoint_id")))
        .with(Field::one_of("status", "Status", statuses).value(text("status")))
        .with(Field::line("event", "Event").value(text("event")))
        .with(Field::line("payment_no", "Payment or pre-auth").value(text("payment_no")))
        .with(Field::moment("from", "From (UTC)").value(text("from")))
        .with(Field::moment("to", "Before (UTC)").value(text("to")));
    let page = call.page(Section::Webhooks, "Notifications").below("Webhooks", super::PATH);
    let merchant_id = text("merchant_id");
    // There is no list of those of all merchants.
    if merchant_id.is_none() && filter.endpoint_id.is_none() {
        let part = Part::plain().with(form).saying("Say whose: a merchant or an endpoint.");
        return show(&Parts { page, parts: vec![part] });
    }
    let asked = query.page()?;
    let found = call.gateway().webhooks().list_notifications_of(merchant_id.as_deref(), &filter, &asked)?;
    let next_cursor = found.next_cursor.as_deref();
    let failed: Vec<&str> = found.items.iter().filter(|item| is_given_up(&item.notification)).map(id_of).collect();
    let mut part = Part::plain().with(form);
    if !failed.is_empty() {
        let words = format!("Send the {} given up here again…", count(failed.len()));
        part = part.with(vec![Button::link(words, again_path(&failed))]);
    }
    let pager = call.pager(PATH, &asked, found.items.len(), next_cursor);
    let table = table(found.items, empty("There is no such notification.", next_cursor));
    show(&Parts { page, parts: vec![part.with(table).with(pager)] })
}

fn id_of(view: &OperatorNotificationView) -> &str {
    &view.notification.id
}

fn is_given_up(notification: &NotificationView) -> bool {
    notification.status == "failed"
}

fn again_path(ids: &[&str]) -> String {
    let ids = form_urlencoded::Serializer::new(String::new()).append_pair("ids", &ids.join(",")).finish();
    format!("/console/webhooks/resend?{ids}")
}

/// A list of notifications; `empty` is said if there are none.
pub(super) fn table(items: Vec<OperatorNotificationView>, empty: &str) -> Table {
    let columns = ["Notification", "Event", "About", "Status", "Tries", "Last answer", "Next try", "Made at (UTC)"];
    Table::new("Notifications, newest first", &columns, empty)
        .with_rows(items.into_iter().map(|OperatorNotificationView { notification, .. }| row(notification)))
}

fn row(notification: NotificationView) -> Vec<Cell> {
    vec![
        Cell::link(PATH, notification.id.as_str()),
        Cell::code(notification.event.as_str()),
        about(&notification),
        Cell::status(&notification.status),
        Cell::Number(format!("{} of {}", notification.attempts, notification.max_attempts)),
        answer(notification.status_code, notification.error.as_deref()),
        notification.next_retry_at.map_or(Cell::Nothing, Cell::Until),
        Cell::Moment(notification.created_at),
    ]
}

fn about(notification: &NotificationView) -> Cell {
    match (&notification.payment_no, &notification.pre_auth_no) {
        (Some(no), _) => Cell::link("/console/payments", no.as_str()),
        (None, Some(no)) => Cell::link("/console/pre-auths", no.as_str()),
        (None, None) => Cell::maybe(notification.order_no.as_deref()),
    }
}

/// What the receiver said, or why it said nothing.
fn answer(status_code: Option<u16>, error: Option<&str>) -> Cell {
    let status = status_code.map(|code| code.to_string());
    let said: Vec<Cell> = [status.as_deref(), error].into_iter().flatten().map(Cell::text).collect();
    if said.is_empty() { Cell::Nothing } else { Cell::Lines(said) }
}

async fn one(Named(notification_id): Named<NotificationId>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let found = call.gateway().webhooks().find_notification(&notification_id)?;
    let OperatorNotificationView { merchant_id, notification } = found;
    let mut first = Part::plain().card().with(facts(&merchant_id, &notification));
    if is_given_up(&notification) {
        first = first.with(vec![Button::link("Send it again…", again_path(&[&notification.id]))]);
    }
    let columns = ["When (UTC)", "Took", "Answer", "What it said"];
    let tries = Table::new("Tries, in their order", &columns, "It has not been tried yet.")
        .with_rows(notification.tries.iter().flatten().map(try_row));
    let sent = Piece::Folded("The body that is sent", pretty(notification.payload.get()));
    let headers = "It is sent as a POST with webhook-id (the notification's number), webhook-timestamp and webhook-signature; each \
                   try is signed anew.";
    show(&Parts {
        page: call
            .page(Section::Webhooks, notification.id.as_str())
            .below("Webhooks", super::PATH)
            .below("Notifications", PATH),
        parts: vec![first, Part::new("Tries").with(tries), Part::new("Request").saying(headers).with(sent)],
    })
}

fn facts(merchant_id: &str, notification: &NotificationView) -> Facts {
    let endpoint =
        Cell::Link { href: endpoints::path_of(&notification.endpoint_id), text: notification.endpoint_id.clone() };
    Facts::default()
        .with("Event", Cell::code(notification.event.as_str()))
        .with_some("About", about(notification))
        .with_some("Order", Cell::maybe(notification.order_no.as_deref()))
        .with("Merchant", Cell::link("/console/limits", merchant_id))
        .with("Endpoint", endpoint)
        .with("Address", Cell::code(notification.url.as_str()))
        .with("Status", Cell::status(&notification.status))
        .with("Tries", Cell::text(format!("{} of {}", notification.attempts, notification.max_attempts)))
        .with_some("Given up because", Cell::maybe(notification.failure.as_deref()))
        .with_some("Next try", notification.next_retry_at.clone().map_or(Cell::Nothing, Cell::Until))
        .with("Made at", Cell::moment(Some(notification.created_at.as_str())))
        .with_some("Taken at", Cell::moment(notification.succeeded_at.as_deref()))
        .with_some("Given up at", Cell::moment(notification.failed_at.as_deref()))
}

fn try_row(one: &TryView) -> Vec<Cell> {
    vec![
        Cell::Moment(one.at.clone()),
        Cell::Number(format!("{} ms", count(one.duration_ms))),
        answer(one.status_code, one.error.as_deref()),
        Cell::maybe(one.response.as_deref()),
    ]
}

/// JSON with line breaks; what is none, as it is.
fn pretty(text: &str) -> String {
    let read: Result<serde_json::Value, _> = serde_json::from_str(text);
    read.map_or_else(|_| String::from(text), |value| format!("{value:#}"))
}

/// The notifications that a form names.
fn named(text: &str) -> Result<Vec<NotificationId>, ApiError> {
    let ids: Vec<&str> = text.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    if ids.is_empty() || ids.len() > AGAIN_MAX {
        return Err(ApiError::field("ids", format!("must name 1 to {AGAIN_MAX} notifications")));
    }
    Ok(ids.into_iter().map(NotificationId::new).collect())
}

async fn ask_again(call: ConsoleCall) -> Outcome {
    let text = call.query(&["ids"], Pages::No)?.text("ids").unwrap_or_default();
    let ids = named(&text)?;
    let first = ids.first().map(|id| call.gateway().webhooks().find_notification(id)).transpose()?;
    let Some(OperatorNotificationView { merchant_id, notification }) = first else {
        return Err(ApiError::PathNotFound);
    };
    let (question, back) = match ids.len() {
        1 => (
            String::from("This notification is sent again at once, with its number as before."),
            format!("{PATH}/{}", path_part(&notification.id)),
        ),
        number => (
            format!("These {} notifications are sent again at once, each with its number as before.", count(number)),
            format!("{PATH}?endpoint_id={}&status=failed", path_part(&notification.endpoint_id)),
        ),
    };
    let facts = Facts::default()
        .with("Merchant", Cell::code(merchant_id))
        .with("Address", Cell::code(notification.url.as_str()))
        .with("Notifications", Cell::Lines(ids.iter().map(|id| Cell::code(id.as_str())).collect()));
    let form =
        Form::post("/console/webhooks/resend", call.csrf(), "Send again").with(Field::hidden("ids", text.as_str()));
    show(&Confirmation {
        page: call.page(Section::Webhooks, "Send again").below("Webhooks", super::PATH).below("Notifications", PATH),
        question,
        facts,
        form: form.with(Field::hidden("back", back.as_str())).cancel(back),
    })
}

async fn again(call: ConsoleCall) -> Outcome {
    let ids = named(&call.field("ids").unwrap_or_default())?;
    let back = call.field("back").filter(|back| back.starts_with(PATH)).unwrap_or_else(|| String::from(PATH));
    let (gateway, operator) = (call.gateway().clone(), call.operator.clone());
    let number = ids.len();
    let work = async move {
        let mut refused = Vec::new();
        for id in &ids {
            match gateway.webhooks().retry_any_notification(id, &operator).await {
                Ok(_) => {}
                // About all of them.
                Err(error @ (GatewayError::Internal(_) | GatewayError::Overloaded { .. })) => return Err(error),
                Err(error) if ids.len() == 1 => return Err(error),
                Err(_) => refused.push(id.as_str().to_owned()),
            }
        }
        Ok(refused)
    };
    let result = call.gateway().carry::<Vec<String>, GatewayError>(work).await;
    let said = result.map_err(ApiError::from).and_then(|refused| match (number, refused.len()) {
        (1, _) => Ok(String::from("It is on its way again.")),
        (all, 0) => Ok(format!("All {} are on their way again.", count(all))),
        (all, left) if left == all => Err(ApiError::field("ids", "name none that is still to be sent again")),
        (all, left) => {
            let refused = refused.join(", ");
            Ok(format!("{} are on their way again; not any more to be sent: {refused}.", count(all - left)))
        }
    });
    call.done(said, &back)
}
