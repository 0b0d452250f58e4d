//! Webhook endpoints: how they do, and pausing, enabling, recovering them.

use crate::api::call::Named;
use crate::api::console::call::{ConsoleCall, empty};
use crate::api::console::form::{Button, Field, Form};
use crate::api::console::page::{Confirmation, Page, Section, show};
use crate::api::console::parts::{Part, Parts};
use crate::api::console::table::{Cell, Facts, Table, path_part};
use crate::api::console::text::{count, sent_moment};
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::api::webhook_jobs::time;
use crate::domain::ids::EndpointId;
use crate::gateway::error::GatewayError;
use crate::gateway::page::PageRequest;
use crate::gateway::webhooks::{COUNTED_MAX, EndpointFilter, EndpointView, Kept, OperatorEndpointView, SettableStatus};

use super::PATH;
use super::notifications;

const NAMES: [&str; 4] = ["merchant_id", "status", "health", "given_up"];
/// Notifications shown on an endpoint's page.
const LATEST: usize = 10;

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, PATH, list)
        .with(Verb::Get, "/console/webhooks/endpoints/{endpoint_id}", one)
        .with(Verb::Get, "/console/webhooks/endpoints/{endpoint_id}/pause", ask_pause)
        .with(Verb::Post, "/console/webhooks/endpoints/{endpoint_id}/pause", pause)
        .with(Verb::Get, "/console/webhooks/endpoints/{endpoint_id}/enable", ask_enable)
        .with(Verb::Post, "/console/webhooks/endpoints/{endpoint_id}/enable", enable)
        .with(Verb::Get, "/console/webhooks/endpoints/{endpoint_id}/recover", ask_recover)
        .with(Verb::Post, "/console/webhooks/endpoints/{endpoint_id}/recover", recover)
        .with(Verb::Get, "/console/webhooks/endpoints/{endpoint_id}/reset-health", ask_reset)
        .with(Verb::Post, "/console/webhooks/endpoints/{endpoint_id}/reset-health", reset)
}

/// The page of an endpoint.
pub(super) fn path_of(endpoint_id: &str) -> String {
    format!("{PATH}/endpoints/{}", path_part(endpoint_id))
}

async fn list(call: ConsoleCall) -> Outcome {
    let query = call.query(&NAMES, Pages::Yes)?;
    let filter = EndpointFilter {
        merchant_id: query.text("merchant_id"),
        status: query.text("status"),
        health: query.text("health"),
        has_dead_letters: match query.text("given_up").as_deref() {
            None => false,
            Some("true") => true,
            Some(_) => return Err(ApiError::field("given_up", "must be true or left out")),
        },
    };
    let webhooks = call.gateway().webhooks();
    let asked = query.page()?;
    let mut found = webhooks.list_all_endpoints(&filter, &asked)?;
    let next_cursor = found.next_cursor.as_deref();
    let pager = call.pager(PATH, &asked, found.items.len(), next_cursor);
    let none = empty("No merchant has an endpoint like that.", next_cursor);
    for view in &mut found.items {
        webhooks.count_for(&mut view.endpoint)?;
    }
    let all = [("", "any")];
    let form = Form::filter(PATH)
        .with(Field::line("merchant_id", "Merchant").value(filter.merchant_id))
        .with(
            Field::one_of("status", "Status", all.into_iter().chain(["enabled", "paused", "disabled"].map(same)))
                .value(filter.status),
        )
        .with(
            Field::one_of(
                "health",
                "Health",
                all.into_iter().chain(["healthy", "failing", "open", "unknown"].map(same)),
            )
            .value(filter.health),
        )
        .with(Field::check("given_up", "Given up something").value(filter.has_dead_letters.then_some("true")));
    let columns = ["Endpoint", "Merchant", "Address", "Status", "Health", "Waiting", "Given up", "Last taken (UTC)"];
    let table = Table::new("Webhook endpoints", &columns, none).with_rows(found.items.into_iter().map(row));
    show(&Parts {
        page: call.page(Section::Webhooks, "Webhooks"),
        parts: vec![
            Part::plain().with(vec![
                Button::link("Notifications", notifications::PATH),
                Button::link("Jobs under way", super::jobs::PATH),
            ]),
            Part::new("Endpoints").with(form).with(table).with(pager),
        ],
    })
}

fn same(word: &'static str) -> (&'static str, &'static str) {
    (word, word)
}

fn row(OperatorEndpointView { merchant_id, endpoint }: OperatorEndpointView) -> Vec<Cell> {
    vec![
        Cell::Link { href: path_of(&endpoint.id), text: endpoint.id.clone() },
        Cell::link("/console/limits", merchant_id),
        Cell::text(endpoint.url.as_str()),
        Cell::status(&endpoint.status),
        health(&endpoint),
        number(endpoint.waiting),
        given_up(&endpoint),
        Cell::moment(endpoint.health.last_success_at),
    ]
}

/// How many were given up, which leads to them.
fn given_up(endpoint: &EndpointView) -> Cell {
    match endpoint.dead_letters {
        Some(some) if some > 0 => {
            let href = format!("{}?endpoint_id={}&status=failed", notifications::PATH, path_part(&endpoint.id));
            Cell::Link { href, text: counted(some) }
        }
        none => number(none),
    }
}

fn number(found: Option<usize>) -> Cell {
    found.map_or(Cell::Nothing, |found| Cell::Number(counted(found)))
}

/// How many were found, of which not more than [`COUNTED_MAX`] are counted.
fn counted(found: usize) -> String {
    if found < COUNTED_MAX { count(found) } else { format!("{} or more", count(COUNTED_MAX)) }
}

fn health(endpoint: &EndpointView) -> Cell {
    let state = Cell::status(&endpoint.health.state);
    match &endpoint.health.opens_until {
        Some(until) => Cell::Lines(vec![state, Cell::Until(until.clone())]),
        None => state,
    }
}

async fn one(Named(endpoint_id): Named<EndpointId>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let webhooks = call.gateway().webhooks();
    let OperatorEndpointView { merchant_id, endpoint } = webhooks.find_endpoint(&endpoint_id)?;
    let filter = notifications::of_endpoint(&endpoint.id);
    let page = PageRequest { limit: Some(LATEST), cursor: None };
    let latest = webhooks.list_notifications_of(Some(&merchant_id), &filter, &page)?;
    let none = empty("Nothing was to be sent there yet.", latest.next_cursor.as_deref());
    let latest = notifications::table(latest.items, none);
    let at = path_of(&endpoint.id);
    let mut actions = Vec::new();
    match endpoint.status.as_str() {
        "enabled" => actions.push(Button::link("Pause…", format!("{at}/pause"))),
        _ => actions.push(Button::link("Enable…", format!("{at}/enable"))),
    }
    if endpoint.status != "disabled" {
        actions.push(Button::link("Send again what it missed…", format!("{at}/recover")));
    }
    actions.push(Button::link("Reset health…", format!("{at}/reset-health")));
    let all = format!("{}?endpoint_id={}", notifications::PATH, path_part(&endpoint.id));
    let more = vec![
        Button::link("All notifications", all.clone()),
        Button::link("Given up", format!("{all}&status=failed")),
        Button::link("On their way", format!("{all}&status=retrying")),
    ];
    show(&Parts {
        page: page_of(&call, &endpoint.id, ""),
        parts: vec![
            Part::plain().card().with(facts(&merchant_id, &endpoint)).with(actions),
            Part::new("Latest notifications").with(latest).with(more),
        ],
    })
}

fn page_of(call: &ConsoleCall, endpoint_id: &str, action: &str) -> Page {
    if action.is_empty() {
        return call.page(Section::Webhooks, endpoint_id).below("Webhooks", PATH);
    }
    call.page(Section::Webhooks, action).below("Webhooks", PATH).below(endpoint_id, path_of(endpoint_id))
}

fn facts(merchant_id: &str, endpoint: &EndpointView) -> Facts {
    let events = if endpoint.events.is_empty() { String::from("all") } else { endpoint.events.join(", ") };
    let seconds = |value: Option<u64>| Cell::maybe(value.map(|value| format!("{} s", count(value))));
    let schedule = endpoint.schedule_s.as_ref().map(|waits| {
        let waits: Vec<String> = waits.iter().map(ToString::to_string).collect();
        format!("{} s", waits.join(", "))
    });
    Facts::default()
        .with("Merchant", Cell::link("/console/limits", merchant_id))
        .with("Address", Cell::code(endpoint.url.as_str()))
        .with_some("Description", Cell::maybe(endpoint.description.as_deref()))
        .with("Events", Cell::text(events))
        .with("Status", Cell::status(&endpoint.status))
        .with_some("Disabled because", Cell::maybe(endpoint.disabled_reason.as_deref()))
        .with_some("Disabled at", Cell::moment(endpoint.disabled_at.as_deref()))
        .with("Health", Cell::status(&endpoint.health.state))
        .with("Breaker", Cell::status(&endpoint.health.breaker))
        .with_some("Left alone until", endpoint.health.opens_until.clone().map_or(Cell::Nothing, Cell::Until))
        .with_some("Failing since", Cell::moment(endpoint.health.failing_since.as_deref()))
        .with_some("Last taken", Cell::moment(endpoint.health.last_success_at.as_deref()))
        .with("Waiting", number(endpoint.waiting))
        .with("Given up", given_up(endpoint))
        .with("Tries at most", Cell::count(endpoint.max_attempts))
        .with_some("Own schedule", Cell::maybe(schedule))
        .with_some("Own first wait", seconds(endpoint.initial_backoff_s))
        .with_some("Own longest wait", seconds(endpoint.max_backoff_s))
        .with_some("Own time for an answer", seconds(endpoint.timeout_s))
        .with_some("Old secret signs until", Cell::moment(endpoint.previous_secret_valid_until.as_deref()))
        .with("Made at", Cell::moment(Some(endpoint.created_at.as_str())))
        .with("Changed at", Cell::moment(Some(endpoint.updated_at.as_str())))
}

/// Asks whether something is to be done to an endpoint.
fn confirm(
    call: &ConsoleCall,
    endpoint_id: &EndpointId,
    action: (&str, &str),
    question: &str,
    fields: impl FnOnce(&EndpointView, Form) -> Form,
) -> Outcome {
    call.query(&[], Pages::No)?;
    let OperatorEndpointView { merchant_id, endpoint } = call.gateway().webhooks().find_endpoint(endpoint_id)?;
    let back = path_of(&endpoint.id);
    let (path, words) = action;
    let form = fields(&endpoint, Form::post(format!("{back}/{path}"), call.csrf(), words));
    show(&Confirmation {
        page: page_of(call, &endpoint.id, words),
        question: String::from(question),
        facts: Facts::default()
            .with("Endpoint", Cell::code(endpoint.id.as_str()))
            .with("Merchant", Cell::code(merchant_id))
            .with("Address", Cell::code(endpoint.url.as_str()))
            .with("Status", Cell::status(&endpoint.status))
            .with("Waiting", number(endpoint.waiting)),
        form: form.cancel(back),
    })
}

async fn ask_pause(Named(endpoint_id): Named<EndpointId>, call: ConsoleCall) -> Outcome {
    let question = "Nothing is sent to this endpoint until somebody enables it. What is for it waits, and is kept for as long \
                    as notifications are.";
    confirm(&call, &endpoint_id, ("pause", "Pause it"), question, |_, form| form)
}

async fn pause(Named(endpoint_id): Named<EndpointId>, call: ConsoleCall) -> Outcome {
    let status = (SettableStatus::Paused, None);
    set_status(&call, endpoint_id, status, "The endpoint is paused.").await
}

async fn ask_enable(Named(endpoint_id): Named<EndpointId>, call: ConsoleCall) -> Outcome {
    let question = "The endpoint is sent to again, slowly at first if much waits.";
    confirm(&call, &endpoint_id, ("enable", "Enable it"), question, |endpoint, form| {
        if endpoint.status != "disabled" {
            return form;
        }
        let choices = [("drop", "stays with what was given up"), ("send", "is sent")];
        form.with(Field::one_of("kept", "What was kept since it was disabled", choices))
    })
}

async fn enable(Named(endpoint_id): Named<EndpointId>, call: ConsoleCall) -> Outcome {
    let kept = match call.field("kept").as_deref() {
        Some("send") => Some(Kept::Send),
        Some("drop") => Some(Kept::Drop),
        _ => None,
    };
    let status = (SettableStatus::Enabled, kept);
    set_status(&call, endpoint_id, status, "The endpoint is enabled.").await
}

async fn set_status(
    call: &ConsoleCall,
    endpoint_id: EndpointId,
    status: (SettableStatus, Option<Kept>),
    done: &str,
) -> Outcome {
    let (gateway, operator, back) = (call.gateway().clone(), call.operator.clone(), path_of(endpoint_id.as_str()));
    let work = async move { gateway.webhooks().set_any_status(&endpoint_id, status, &operator).await };
    let result = call.gateway().carry(work).await;
    call.done(result.map(|_| done), &back)
}

async fn ask_recover(Named(endpoint_id): Named<EndpointId>, call: ConsoleCall) -> Outcome {
    let question = "A job sends again everything that this endpoint has not taken since then, the oldest first.";
    confirm(&call, &endpoint_id, ("recover", "Send it again"), question, |_, form| {
        form.with(Field::moment("since", "Since (UTC)").required())
    })
}

async fn recover(Named(endpoint_id): Named<EndpointId>, call: ConsoleCall) -> Outcome {
    let back = path_of(endpoint_id.as_str());
    let since = match time("since", &sent_moment(&call.field("since").unwrap_or_default())) {
        Ok(since) => since,
        Err(error) => return call.done(Err::<String, _>(error), &back),
    };
    let (gateway, operator) = (call.gateway().clone(), call.operator.clone());
    let work = async move { gateway.webhooks().recover_any(&endpoint_id, since, &operator).await };
    match call.gateway().carry::<_, GatewayError>(work).await {
        Ok(job) => call.done(Ok::<_, GatewayError>("The job has begun."), &super::jobs::path_of(&job.id)),
        Err(error) => call.done(Err::<String, _>(error), &back),
    }
}

async fn ask_reset(Named(endpoint_id): Named<EndpointId>, call: ConsoleCall) -> Outcome {
    let question =
        "The breaker closes and what was learned about the endpoint is forgotten: what waits is sent, slowly at first.";
    confirm(&call, &endpoint_id, ("reset-health", "Reset its health"), question, |_, form| form)
}

async fn reset(Named(endpoint_id): Named<EndpointId>, call: ConsoleCall) -> Outcome {
    let (gateway, operator, back) = (call.gateway().clone(), call.operator.clone(), path_of(endpoint_id.as_str()));
    let work = async move { gateway.webhooks().reset_any_health(&endpoint_id, &operator).await };
    let result = call.gateway().carry::<_, GatewayError>(work).await;
    call.done(result.map(|_| "What was learned about the endpoint is forgotten."), &back)
}
