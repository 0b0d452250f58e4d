//! Versions of the routing, and the way back to one.

use crate::api::call::Named;
use crate::api::console::call::ConsoleCall;
use crate::api::console::form::{Button, Form};
use crate::api::console::page::{Confirmation, Section, show};
use crate::api::console::parts::{Part, Parts};
use crate::api::console::table::{Cell, Facts, Table, Tone};
use crate::api::console::text::count;
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::routing::settings::RollBack;
use crate::gateway::routing::versions::RoutingVersionView;

pub(super) const PATH: &str = "/console/routing/versions";

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, PATH, list)
        .with(Verb::Get, "/console/routing/versions/{version}/rollback", ask_rollback)
        .with(Verb::Post, "/console/routing/versions/{version}/rollback", roll_back)
}

async fn list(call: ConsoleCall) -> Outcome {
    let page = call.query(&[], Pages::Yes)?.page()?;
    let found = call.gateway().routing().versions(&page).await?;
    let rows = found.items.len();
    let columns = ["Version", "When (UTC)", "By", "Action", "Object", "Changed", "Back"];
    let table = Table::new("Versions of the routing, newest first", &columns, "There is no version yet.")
        .with_rows(found.items.into_iter().map(row));
    let pager = call.pager(PATH, &page, rows, found.next_cursor.as_deref());
    let words = "Going back puts in force again what was changed through the API or here up to that version, as a new version. \
                 What the configuration file says stays as it is.";
    show(&Parts {
        page: call.page(Section::Routing, "Versions").below("Routing", super::PATH),
        parts: vec![Part::plain().saying(words).with(table).with(pager).with(vec![
            Button::link("Back to the configuration file alone…", format!("{PATH}/0/rollback")).dangerous(),
        ])],
    })
}

fn row(version: RoutingVersionView) -> Vec<Cell> {
    let mut changed: Vec<Cell> = version.changes.keys().map(|key| Cell::code(key.as_str())).collect();
    if version.changes_left_out > 0 {
        changed.push(Cell::text(format!("and {} more", count(version.changes_left_out))));
    }
    let back = if version.in_force {
        Cell::Badge(Tone::Good, String::from("in force"))
    } else {
        Cell::Buttons(vec![Button::link("Go back…", format!("{PATH}/{}/rollback", version.version))])
    };
    vec![
        Cell::count(version.version),
        Cell::Moment(version.at),
        Cell::text(version.by),
        Cell::code(version.action),
        Cell::code(version.object),
        if changed.is_empty() { Cell::Nothing } else { Cell::Lines(changed) },
        back,
    ]
}

async fn ask_rollback(Named(version): Named<u64>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let now = call.gateway().routing().settings().await?;
    let to = if version == 0 { Cell::text("the configuration file alone") } else { Cell::count(version) };
    show(&Confirmation {
        page: call.page(Section::Routing, "Go back").below("Routing", super::PATH).below("Versions", PATH),
        question: String::from(
            "What was changed through the API or here becomes what it was then, as a new version. It holds with the next payment.",
        ),
        facts: Facts::default().with("In force", Cell::count(now.version)).with("Back to", to),
        form: Form::post(format!("{PATH}/{version}/rollback"), call.csrf(), "Go back")
            .with(super::seen(now.version))
            .dangerous()
            .cancel(PATH),
    })
}

async fn roll_back(Named(version): Named<u64>, call: ConsoleCall) -> Outcome {
    let routing = call.gateway().routing();
    let changed = match super::seen_version(&call) {
        Ok(seen) => {
            let changed = routing.roll_back_seen(RollBack { version }, Some(seen), &call.operator).await;
            changed.map_err(ApiError::from)
        }
        Err(error) => Err(error),
    };
    call.done(changed.map(|after| format!("Version {} is in force.", after.version)), PATH)
}
