//! The first page: how the gateway does now.

use askama::Template;

use crate::api::envelope::Outcome;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};

use super::PREFIX;
use super::call::ConsoleCall;
use super::page::{Page, Section, show};
use super::table::{Cell, Table};
use super::text::percent;

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, PREFIX, overview)
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    page: Page,
    channels: Table,
}

async fn overview(call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let columns = ["Channel", "Breaker", "Approved", "In flight", "Latency"];
    let rows = call.gateway().channels().into_iter().map(|channel| {
        vec![
            Cell::link(Section::Routing.path(), channel.name),
            Cell::status(if channel.enabled { &channel.breaker } else { "disabled" }),
            Cell::Number(if channel.samples > 0 { percent(channel.success_rate) } else { String::from("–") }),
            Cell::count(channel.in_flight),
            Cell::Number(channel.latency_ms.map_or_else(|| String::from("–"), |ms| format!("{ms:.0} ms"))),
        ]
    });
    let channels = Table::new("Channels", &columns, "No channels are configured.").with_rows(rows);
    show(&OverviewPage { page: call.page(Section::Overview, "Overview"), channels })
}
