//! Who changed what.

use std::collections::BTreeMap;

use askama::Template;
use serde_json::Value;

use crate::api::envelope::Outcome;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::domain::audit::FieldChange;
use crate::gateway::audit::{AuditChainView, AuditEntryView, AuditFilter};

use super::call::{ConsoleCall, empty};
use super::form::{Button, Field, Form, Pager};
use super::page::{Page, Section, show};
use super::table::{Cell, Facts, Table, Tone};
use super::text::{count, sent_moment};

const PATH: &str = "/console/audit";
const NAMES: [&str; 6] = ["actor", "action", "object", "from", "to", "verify"];

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, PATH, list)
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    page: Page,
    chain: Facts,
    check: Button,
    filter: Form,
    table: Table,
    pager: Pager,
}

async fn list(call: ConsoleCall) -> Outcome {
    let query = call.query(&NAMES, Pages::Yes)?;
    let text = |name| query.text(name);
    let moment = |name| query.text(name).map(|text| sent_moment(&text));
    let filter = AuditFilter {
        actor: text("actor"),
        action: text("action"),
        object: text("object"),
        from: moment("from"),
        to: moment("to"),
    };
    let audit = call.gateway().audit();
    let asked = query.page()?;
    let found = audit.list(&filter, &asked)?;
    let next_cursor = found.next_cursor.as_deref();
    let pager = call.pager(PATH, &asked, found.items.len(), next_cursor);
    let chain = if query.text("verify").is_some() { audit.verify(None).await? } else { found.chain };
    let form = Form::filter(PATH)
        .with(Field::line("actor", "By").value(text("actor")))
        .with(Field::line("action", "Action").value(text("action")))
        .with(Field::line("object", "Object").value(text("object")))
        .with(Field::moment("from", "From (UTC)").value(text("from")))
        .with(Field::moment("to", "Before (UTC)").value(text("to")));
    let none = if filter == AuditFilter::default() { "Nothing was changed yet." } else { "No change fits." };
    let columns = ["No.", "When (UTC)", "By", "Action", "Object", "Changes", "Request"];
    let table = Table::new("Administrative changes, newest first", &columns, empty(none, next_cursor))
        .with_rows(found.items.into_iter().map(row));
    show(&AuditPage {
        page: call.page(Section::Audit, "Audit"),
        chain: facts(&chain),
        check: Button::link("Check the whole chain", "/console/audit?verify=true"),
        filter: form,
        table,
        pager,
    })
}

fn facts(chain: &AuditChainView) -> Facts {
    let facts = Facts::default().with("Entries", Cell::count(chain.number)).with("Hash", Cell::code(&*chain.hash));
    match (chain.intact, &chain.problem) {
        (Some(true), _) => facts.with("Chain", Cell::Badge(Tone::Good, String::from("intact"))),
        (Some(false), problem) => facts
            .with("Chain", Cell::Badge(Tone::Bad, String::from("damaged")))
            .with_some("Problem", Cell::maybe(problem.as_deref())),
        (None, _) => facts,
    }
}

fn row(entry: AuditEntryView) -> Vec<Cell> {
    vec![
        Cell::count(entry.number),
        Cell::Moment(entry.at),
        Cell::text(entry.actor),
        Cell::code(entry.action),
        Cell::code(entry.object),
        changes(&entry.changes, entry.changes_left_out),
        Cell::code(entry.request_id.unwrap_or_default()),
    ]
}

fn changes(changes: &BTreeMap<String, FieldChange>, left_out: usize) -> Cell {
    let value = |value: &Option<Value>| value.as_ref().map_or_else(|| String::from("–"), short);
    let line = |(name, change): (&String, &FieldChange)| {
        Cell::text(format!("{name}: {} → {}", value(&change.before), value(&change.after)))
    };
    let mut lines: Vec<Cell> = changes.iter().map(line).collect();
    if left_out > 0 {
        lines.push(Cell::text(format!("and {} more", count(left_out))));
    }
    if lines.is_empty() { Cell::Nothing } else { Cell::Lines(lines) }
}

fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
