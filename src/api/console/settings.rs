//! What the gateway goes by, how its store does, and reading the configuration again.

use crate::api::console::call::ConsoleCall;
use crate::api::console::form::{Button, Field, Form};
use crate::api::console::page::{Section, show};
use crate::api::console::parts::{Part, Parts, Piece};
use crate::api::console::table::{Cell, Facts, Table, Tone};
use crate::api::console::text::count;
use crate::api::envelope::Outcome;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::Gateway;
use crate::gateway::error::GatewayError;
use crate::gateway::log_level::{ChangeLogLevel, LogLevelView};
use crate::gateway::reload::{ConfigCheck, ConfigView, KeyChangeView, Reloaded};
use crate::gateway::store::StoreView;

const PATH: &str = "/console/settings";
const RELOAD: &str = "/console/settings/reload";
const BACKUP: &str = "/console/settings/backup";
const LOG_LEVEL: &str = "/console/settings/log-level";
/// Characters of a value that is shown.
const VALUE_CHARACTERS_MAX: usize = 120;

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, PATH, all)
        .with(Verb::Get, RELOAD, ask_reload)
        .with(Verb::Post, RELOAD, reload)
        .with(Verb::Post, BACKUP, backup)
        .with(Verb::Post, LOG_LEVEL, change_log_level)
}

async fn all(call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let gateway = call.gateway();
    let config = gateway.config_in_force().await?;
    let mut parts = vec![
        Part::new("Gateway").card().with(about(gateway)),
        Part::new("Configuration")
            .card()
            .with(config_facts(&config))
            .with(vec![Button::link("Read it again…", RELOAD)])
            .with(Piece::Folded("All that is in force; secrets are hidden", gateway.config_text().await?)),
    ];
    // Whoever embeds the gateway keeps logs of its own.
    match gateway.log_level() {
        Ok(level) => parts.push(logs(&call, &level)),
        Err(GatewayError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    // A store that was handed over has no directory.
    match gateway.store_view().await {
        Ok(store) => parts.push(Part::new("Store").card().with(store_facts(&store))),
        Err(GatewayError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(backups) = gateway.backups() {
        let view = backups.view();
        let facts = Facts::default()
            .with("Last backup", Cell::status(&view.state))
            .with_some("Written to", Cell::maybe(view.destination.as_deref()))
            .with("Copied", Cell::text(format!("{} of {} bytes", count(view.bytes), count(view.bytes_total))))
            .with_some("Holds all up to", Cell::moment(view.last_time))
            .with_some("Problem", Cell::maybe(view.problem));
        let form = Form::post(BACKUP, call.csrf(), "Back up now").with(
            Field::line("destination", "Directory on the gateway's machine")
                .hint("It is made; it must not be there yet. Better on another disk.")
                .required(),
        );
        parts.push(Part::new("Backup").card().with(facts).with(form));
    }
    show(&Parts { page: call.page(Section::Settings, "Settings"), parts })
}

fn about(gateway: &Gateway) -> Facts {
    let config = gateway.config();
    let ready = if gateway.is_ready() { (Tone::Good, "yes") } else { (Tone::Bad, "no") };
    Facts::default()
        .with("Version", Cell::code(env!("CARGO_PKG_VERSION")))
        .with("Mode", Cell::text(config.mode.as_str()))
        .with("Takes new requests", Cell::Badge(ready.0, String::from(ready.1)))
        .with("Merchants' listener", Cell::code(config.server.listen.to_string()))
        .with("Operator's listener", Cell::code(config.server.admin_listen.to_string()))
        .with("Data directory", Cell::code(config.storage.dir.display().to_string()))
}

fn config_facts(view: &ConfigView) -> Facts {
    let lines = |names: &[String]| match names {
        [] => Cell::Nothing,
        names => Cell::Lines(names.iter().map(|name| Cell::code(name.as_str())).collect()),
    };
    let unfit: Vec<Cell> =
        view.unfit.iter().map(|unfit| Cell::text(format!("{}: {}", unfit.what, unfit.problem))).collect();
    let facts = Facts::default()
        .with("Changed through the API or here", lines(&view.overridden))
        .with("Waits for a restart", lines(&view.needs_restart))
        .with_some("Not in force any more", if unfit.is_empty() { Cell::Nothing } else { Cell::Lines(unfit) });
    let Some(last) = &view.last_reload else {
        return facts.with("Last read", Cell::text("at the start"));
    };
    let refused: Vec<Cell> = last.refused.iter().map(|file| Cell::text(file.problem.as_str())).collect();
    let how = match &last.problem {
        None => Cell::Badge(Tone::Good, String::from("in force")),
        Some(_) => Cell::Badge(Tone::Bad, String::from("nothing was changed")),
    };
    facts
        .with("Last read", Cell::moment(Some(last.at.as_str())))
        .with("Because of", Cell::text(last.by.as_str()))
        .with("Outcome", how)
        .with_some("Problem", Cell::maybe(last.problem.as_deref()))
        .with_some("Put in force", lines(&last.applied))
        .with_some("Files not taken up", if refused.is_empty() { Cell::Nothing } else { Cell::Lines(refused) })
}

fn store_facts(store: &StoreView) -> Facts {
    let bytes = |bytes: u64| Cell::text(format!("{} bytes", count(bytes)));
    let taken = match store.accepts_new {
        Some(true) => Cell::Badge(Tone::Good, String::from("yes")),
        Some(false) => Cell::Badge(Tone::Bad, String::from("no")),
        None => Cell::Nothing,
    };
    let remarks: Vec<Cell> = store.remarks.iter().map(|remark| Cell::text(remark.as_str())).collect();
    Facts::default()
        .with("Directory", Cell::code(store.directory.as_str()))
        .with_some("Takes new work", taken)
        .with_some("Failed", Cell::maybe(store.poisoned.as_deref()))
        .with("Held after a restore", Cell::text(if store.held { "yes" } else { "no" }))
        .with("Commits", Cell::count(store.committed_sequence))
        .with_some("In the index up to", store.applied_sequence.map_or(Cell::Nothing, Cell::count))
        .with("Journal", bytes(store.journal.bytes))
        .with("Journal's files", Cell::count(store.journal.segments))
        .with("Index", bytes(store.index_bytes))
        .with_some("Base export", store.base.as_ref().map_or(Cell::Nothing, |base| bytes(base.bytes)))
        .with_some("Base export made at", Cell::moment(store.base.as_ref().map(|base| base.made_at.as_str())))
        .with_some("Room on the disk", store.free_bytes.map_or(Cell::Nothing, bytes))
        .with("Format", Cell::count(store.format))
        .with_some("Remarks", if remarks.is_empty() { Cell::Nothing } else { Cell::Lines(remarks) })
}

fn logs(call: &ConsoleCall, level: &LogLevelView) -> Part {
    let facts = Facts::default()
        .with("Logged now", Cell::code(level.filter.as_str()))
        .with("Configured", Cell::code(level.configured_filter.as_str()))
        .with_some("As configured again", level.until.clone().map_or(Cell::Nothing, Cell::Until));
    let form = Form::post(LOG_LEVEL, call.csrf(), "Change it")
        .with(
            Field::line("filter", "Level, or filter")
                .value(Some(level.filter.as_str()))
                .hint("Such as debug, or info,tollgate::delivery=debug; empty for what is configured"),
        )
        .with(
            Field::typed("for_s", "For so many seconds", "number")
                .hint("Until the next change or start when not given"),
        );
    Part::new("Log").card().with(facts).with(form)
}

async fn change_log_level(call: ConsoleCall) -> Outcome {
    let for_s = call.field("for_s").map(|text| text.parse::<u64>());
    let changed = match for_s.transpose() {
        Ok(for_s) => {
            let wanted = ChangeLogLevel { filter: call.field("filter"), for_s };
            call.gateway().change_log_level(&call.operator, wanted).await
        }
        Err(_) => Err(GatewayError::field("for_s", "must be a whole number")),
    };
    call.done(changed.map(|level| format!("Logged now: {}.", level.filter)), PATH)
}

async fn ask_reload(call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let page = call.page(Section::Settings, "Read the configuration again").below("Settings", PATH);
    let part = match Box::pin(call.gateway().check_config(None)).await {
        Err(error) => Part::plain()
            .card()
            .saying(format!(
                "It can't be used; what is in force stays: {}",
                super::page::in_words(&GatewayError::from(error).into())
            ))
            .with(vec![Button::link("Back", PATH)]),
        Ok(check) => asked(&call, &check),
    };
    show(&Parts { page, parts: vec![part] })
}

fn asked(call: &ConsoleCall, check: &ConfigCheck) -> Part {
    let columns = ["Key", "Now", "Then", "In force"];
    let table =
        Table::new("What would change", &columns, "Nothing has changed.").with_rows(check.changes.iter().map(row));
    let mut part = Part::plain().card().with(table);
    for unfit in &check.unfit {
        part =
            part.saying(format!("Changed through the API, and not in force then: {}: {}", unfit.what, unfit.problem));
    }
    match &check.refused {
        Some(reason) => part.saying(format!("Nothing of it can be put in force without a restart: {reason}")),
        None => part.with(Form::post(RELOAD, call.csrf(), "Put in force what can change now").cancel(PATH)),
    }
}

fn row(change: &KeyChangeView) -> Vec<Cell> {
    let when = match (change.overridden, change.takes_effect.as_str()) {
        (true, _) => Cell::text("not while the API says otherwise"),
        (false, "at_once") => Cell::Badge(Tone::Good, String::from("at once")),
        _ => Cell::Badge(Tone::Warn, String::from("after a restart")),
    };
    vec![Cell::code(change.key.as_str()), value(change.before.as_ref()), value(change.after.as_ref()), when]
}

fn value(value: Option<&serde_json::Value>) -> Cell {
    let Some(value) = value else { return Cell::Nothing };
    let text = value.as_str().map_or_else(|| value.to_string(), String::from);
    if text.chars().count() <= VALUE_CHARACTERS_MAX {
        return Cell::code(text);
    }
    let kept: String = text.chars().take(VALUE_CHARACTERS_MAX - 1).collect();
    Cell::code(format!("{kept}…"))
}

async fn reload(call: ConsoleCall) -> Outcome {
    let reloaded = call.gateway().reload_from_source(&call.operator).await.map_err(GatewayError::from);
    let said = reloaded.map(|reloaded| {
        let files: String = reloaded.refused.iter().map(|file| format!(" Not taken up: {}.", file.problem)).collect();
        keys_said(&reloaded) + &files
    });
    call.done(said, PATH)
}

/// What came of the keys.
fn keys_said(Reloaded { applied, needs_restart, .. }: &Reloaded) -> String {
    match (applied.len(), needs_restart.len()) {
        (0, 0) => String::from("Nothing has changed."),
        (0, waiting) => format!("Nothing can change now; {waiting} keys wait for a restart."),
        (now, 0) => format!("In force now: {}.", if now > 5 { format!("{now} keys") } else { applied.join(", ") }),
        (now, waiting) => format!("{now} keys are in force now, {waiting} wait for a restart."),
    }
}

async fn backup(call: ConsoleCall) -> Outcome {
    let destination = call.field("destination").unwrap_or_default();
    let begun = call.gateway().begin_backup(&call.operator, &destination).await;
    call.done(begun.map(|_| "The backup has begun."), PATH)
}
