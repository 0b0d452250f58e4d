//! Channels: how they do, and taking them out of the routing or back in.

use serde_json::Value;

use crate::api::call::Named;
use crate::api::console::call::{ConsoleCall, go_to};
use crate::api::console::form::{Button, Form};
use crate::api::console::page::{Confirmation, Section, show};
use crate::api::console::parts::{Part, Parts, Piece};
use crate::api::console::table::{Cell, Facts, Table, path_part};
use crate::api::console::text::{count, expectation};
use crate::api::envelope::Outcome;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::Gateway;
use crate::gateway::routing::channels::{ChannelDetailView, UpdateChannel};
use crate::gateway::view::ChannelView;

const BELOW: &str = "/console/routing/channels";

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, "/console/routing/{name}", short)
        .with(Verb::Get, "/console/routing/channels/{name}", one)
        .with(Verb::Get, "/console/routing/channels/{name}/enable", ask_enable)
        .with(Verb::Post, "/console/routing/channels/{name}/enable", enable)
        .with(Verb::Get, "/console/routing/channels/{name}/disable", ask_disable)
        .with(Verb::Post, "/console/routing/channels/{name}/disable", disable)
        .with(Verb::Get, "/console/routing/channels/{name}/reset-health", ask_reset)
        .with(Verb::Post, "/console/routing/channels/{name}/reset-health", reset)
}

fn path_of(name: &str) -> String {
    format!("{BELOW}/{}", path_part(name))
}

async fn short(Named(name): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    go_to(&path_of(&name))
}

/// All channels as they stand.
pub(super) fn table(gateway: &Gateway) -> Table {
    let settlement = gateway.settings().fx.settlement_currency.to_string();
    let columns = [
        "Channel",
        "State",
        "Expected to succeed",
        "Outcomes",
        "In flight",
        "Latency",
        "Payments today",
        "Money today",
    ];
    let row = |channel: ChannelView| {
        let money = Cell::money(channel.amount_today_minor, &settlement);
        vec![
            Cell::link(BELOW, channel.name.as_str()),
            state(&channel),
            success_rate(&channel),
            Cell::count(channel.samples),
            Cell::count(channel.in_flight),
            Cell::Number(channel.latency_ms.map_or_else(|| String::from("–"), |ms| format!("{ms:.0} ms"))),
            Cell::count(channel.payments_today),
            money,
        ]
    };
    Table::new("Channels", &columns, "No channels are configured.").with_rows(gateway.channels().into_iter().map(row))
}

fn state(channel: &ChannelView) -> Cell {
    if !channel.enabled {
        return Cell::status("disabled");
    }
    let mut lines = vec![Cell::status(&channel.breaker)];
    lines.extend(channel.opens_until.clone().map(Cell::Until));
    if let Some(until) = &channel.maintained_until {
        lines.extend([Cell::text("maintained until"), Cell::Until(until.clone())]);
    }
    lines.extend(channel.lacks.as_ref().map(|lacks| Cell::text(format!("lacks {lacks}"))));
    if let (1, Some(only)) = (lines.len(), lines.first()) { only.clone() } else { Cell::Lines(lines) }
}

fn success_rate(channel: &ChannelView) -> Cell {
    Cell::Number(expected(channel))
}

fn expected(channel: &ChannelView) -> String {
    expectation(channel.success_rate, channel.samples == 0)
}

async fn one(Named(name): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let view = call.gateway().routing().channel(&name).await?;
    let at = path_of(&view.channel.name);
    let switch = if view.channel.enabled {
        Button::link("Disable…", format!("{at}/disable")).dangerous()
    } else {
        Button::link("Enable…", format!("{at}/enable"))
    };
    let actions = vec![switch, Button::link("Reset health…", format!("{at}/reset-health"))];
    let folded = |what: &'static str, value: &Value| Piece::Folded(what, format!("{value:#}"));
    show(&Parts {
        page: call.page(Section::Routing, view.channel.name.as_str()).below("Routing", super::PATH),
        parts: vec![
            Part::plain().card().with(facts(call.gateway(), &view)).with(actions),
            Part::new("Configured")
                .with(folded("Fees", &view.fees))
                .with(folded("Bounds of single payments", &view.amounts))
                .with(folded("How much may go through it", &view.caps))
                .with(folded("Maintenance", &view.maintenance)),
        ],
    })
}

fn facts(gateway: &Gateway, view: &ChannelDetailView) -> Facts {
    let ChannelDetailView { channel, .. } = view;
    let all = |names: &[String]| if names.is_empty() { String::from("all") } else { names.join(", ") };
    let settlement = gateway.settings().fx.settlement_currency.to_string();
    let probes = (channel.failed_probes > 0).then(|| count(channel.failed_probes));
    Facts::default()
        .with("Kind", Cell::text(channel.kind.as_str()))
        .with("State", state(channel))
        .with_some("Opened by", Cell::maybe(channel.opened_by.as_deref().map(|by| by.replace('_', " "))))
        .with_some("Failed probes", Cell::maybe(probes))
        .with("Expected to succeed", Cell::meter(channel.success_rate * 100.0, expected(channel)))
        .with("Outcomes behind it", Cell::count(channel.samples))
        .with_some("Latency", Cell::maybe(channel.latency_ms.map(|ms| format!("{ms:.0} ms"))))
        .with("In flight", Cell::count(channel.in_flight))
        .with("Payments today", Cell::count(channel.payments_today))
        .with("Money today", Cell::money(channel.amount_today_minor, &settlement))
        .with("Weight", Cell::count(view.weight))
        .with_some("Local in", Cell::text(view.local_countries.join(", ")))
        .with("Payers' countries", Cell::text(all(&view.countries)))
        .with("Currencies", Cell::text(all(&view.currencies)))
        .with("Methods", Cell::text(all(&view.methods)))
        .with_some("Changed through the API or here", Cell::text(view.overridden.join(", ")))
}

/// Asks whether something is to be done to a channel.
async fn confirm(call: &ConsoleCall, name: &str, action: (&str, &str), question: &str, is_dangerous: bool) -> Outcome {
    call.query(&[], Pages::No)?;
    let view = call.gateway().routing().channel(name).await?;
    let (path, words) = action;
    let back = path_of(&view.channel.name);
    let form = Form::post(format!("{back}/{path}"), call.csrf(), words);
    show(&Confirmation {
        page: call
            .page(Section::Routing, words)
            .below("Routing", super::PATH)
            .below(view.channel.name.as_str(), back.as_str()),
        question: String::from(question),
        facts: Facts::default()
            .with("Channel", Cell::code(view.channel.name.as_str()))
            .with("State", state(&view.channel))
            .with("Expected to succeed", Cell::text(expected(&view.channel)))
            .with("In flight", Cell::count(view.channel.in_flight)),
        form: if is_dangerous { form.dangerous() } else { form }.cancel(back),
    })
}

async fn ask_enable(Named(name): Named<String>, call: ConsoleCall) -> Outcome {
    confirm(&call, &name, ("enable", "Enable it"), "Payments may go to this channel from now on.", false).await
}

async fn enable(Named(name): Named<String>, call: ConsoleCall) -> Outcome {
    set_enabled(&call, &name, true).await
}

async fn ask_disable(Named(name): Named<String>, call: ConsoleCall) -> Outcome {
    let question = "No new payment goes to this channel; what is under way there goes on, and refunds and captures are still sent \
                    there. It stays so over restarts.";
    confirm(&call, &name, ("disable", "Disable it"), question, true).await
}

async fn disable(Named(name): Named<String>, call: ConsoleCall) -> Outcome {
    set_enabled(&call, &name, false).await
}

async fn set_enabled(call: &ConsoleCall, name: &str, enabled: bool) -> Outcome {
    let command = UpdateChannel { enabled: Some(Value::from(enabled)), ..UpdateChannel::default() };
    let changed = call.gateway().routing().update_channel(name, command, &call.operator).await;
    let said = if enabled { "The channel is enabled." } else { "The channel is disabled." };
    call.done(changed.map(|_| said), &path_of(name))
}

async fn ask_reset(Named(name): Named<String>, call: ConsoleCall) -> Outcome {
    let question = "Its breaker closes at once, and what was learned about it is forgotten: it is sent payments as a channel of which \
                    nothing is known.";
    confirm(&call, &name, ("reset-health", "Reset its health"), question, false).await
}

async fn reset(Named(name): Named<String>, call: ConsoleCall) -> Outcome {
    let changed = call.gateway().routing().reset_health(&name, &call.operator).await;
    call.done(changed.map(|_| "What was learned about the channel is forgotten."), &path_of(&name))
}
