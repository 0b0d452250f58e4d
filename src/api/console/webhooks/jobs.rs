//! Work on many notifications at once, such as sending again what an endpoint has missed.

use crate::api::call::Named;
use crate::api::console::call::ConsoleCall;
use crate::api::console::form::{Button, Field, Form};
use crate::api::console::page::{Confirmation, Section, show};
use crate::api::console::parts::{Part, Parts};
use crate::api::console::table::{Cell, Facts, Table, path_part};
use crate::api::envelope::Outcome;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::domain::ids::JobId;
use crate::gateway::error::GatewayError;
use crate::gateway::webhooks::{JobView, OperatorJobView};

use super::endpoints;

/// Where jobs are listed.
pub(super) const PATH: &str = "/console/webhooks/jobs";

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, PATH, list)
        .with(Verb::Get, "/console/webhooks/jobs/{job_id}", one)
        .with(Verb::Get, "/console/webhooks/jobs/{job_id}/cancel", ask_cancel)
        .with(Verb::Post, "/console/webhooks/jobs/{job_id}/cancel", cancel)
}

/// The page of a job.
pub(super) fn path_of(job_id: &str) -> String {
    format!("{PATH}/{}", path_part(job_id))
}

async fn list(call: ConsoleCall) -> Outcome {
    let query = call.query(&["merchant_id"], Pages::Yes)?;
    let merchant_id = query.text("merchant_id");
    let asked = query.page()?;
    let found = call.gateway().webhooks().list_all_jobs(merchant_id.as_deref(), &asked)?;
    let pager = call.pager(PATH, &asked, found.items.len(), found.next_cursor.as_deref());
    let empty = if merchant_id.is_some() { "This merchant has no jobs." } else { "No job is under way." };
    let form = Form::filter(PATH).with(
        Field::line("merchant_id", "Merchant")
            .value(merchant_id)
            .hint("Those under way of all merchants when not given"),
    );
    let columns = ["Job", "Merchant", "What", "Status", "Looked at", "Changed", "Begun at (UTC)", "Ended at (UTC)"];
    let table = Table::new("Jobs, newest first", &columns, empty).with_rows(found.items.into_iter().map(row));
    show(&Parts {
        page: call.page(Section::Webhooks, "Jobs").below("Webhooks", super::PATH),
        parts: vec![Part::plain().with(form).with(table).with(pager)],
    })
}

fn row(OperatorJobView { merchant_id, job }: OperatorJobView) -> Vec<Cell> {
    vec![
        Cell::link(PATH, job.id),
        Cell::link("/console/limits", merchant_id),
        Cell::text(job.kind.replace('_', " ")),
        Cell::status(&job.status),
        Cell::count(job.looked_at),
        Cell::count(job.changed),
        Cell::Moment(job.created_at),
        Cell::moment(job.finished_at),
    ]
}

async fn one(Named(job_id): Named<JobId>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let OperatorJobView { merchant_id, job } = call.gateway().webhooks().find_job(&job_id)?;
    let mut part = Part::plain().card().with(facts(&merchant_id, &job));
    if job.finished_at.is_none() {
        part = part.with(vec![Button::link("End it here…", format!("{}/cancel", path_of(&job.id))).dangerous()]);
    }
    let page = call.page(Section::Webhooks, job.id.as_str()).below("Webhooks", super::PATH).below("Jobs", PATH);
    show(&Parts { page, parts: vec![part] })
}

fn facts(merchant_id: &str, job: &JobView) -> Facts {
    let endpoint = |id: &String| Cell::Link { href: endpoints::path_of(id), text: id.clone() };
    Facts::default()
        .with("Merchant", Cell::link("/console/limits", merchant_id))
        .with_some("Endpoint", job.endpoint_id.as_ref().map_or(Cell::Nothing, endpoint))
        .with("What", Cell::text(job.kind.replace('_', " ")))
        .with("Status", Cell::status(&job.status))
        .with_some("Made since", Cell::moment(job.since.as_deref()))
        .with_some("Made before", Cell::moment(job.until.as_deref()))
        .with_some("Of the event", Cell::maybe(job.filter.event.as_deref()))
        .with_some("In the status", Cell::maybe(job.filter.status.as_deref()))
        .with_some("About", Cell::maybe(job.filter.payment_no.as_deref()))
        .with_some("Given up because", Cell::maybe(job.filter.failure.as_deref()))
        .with("Looked at", Cell::count(job.looked_at))
        .with("Changed", Cell::count(job.changed))
        .with("Passed over", Cell::count(job.skipped))
        .with_some("Problem", Cell::maybe(job.error.as_deref()))
        .with("Begun at", Cell::moment(Some(job.created_at.as_str())))
        .with_some("Ended at", Cell::moment(job.finished_at.as_deref()))
}

async fn ask_cancel(Named(job_id): Named<JobId>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let OperatorJobView { merchant_id, job } = call.gateway().webhooks().find_job(&job_id)?;
    let back = path_of(&job.id);
    show(&Confirmation {
        page: call
            .page(Section::Webhooks, "End a job")
            .below("Webhooks", super::PATH)
            .below(job.id.as_str(), back.as_str()),
        question: String::from("The job ends where it is. What it has changed stays."),
        facts: facts(&merchant_id, &job),
        form: Form::post(format!("{back}/cancel"), call.csrf(), "End it").dangerous().cancel(back),
    })
}

async fn cancel(Named(job_id): Named<JobId>, call: ConsoleCall) -> Outcome {
    let (gateway, operator, back) = (call.gateway().clone(), call.operator.clone(), path_of(job_id.as_str()));
    let work = async move { gateway.webhooks().cancel_any_job(&job_id, &operator).await };
    let result = call.gateway().carry::<_, GatewayError>(work).await;
    call.done(result.map(|_| "The job is ended."), &back)
}
