//! Merchants and their limits: who is near one, how much of each window is used, and another tier.

use crate::api::call::Named;
use crate::api::console::call::ConsoleCall;
use crate::api::console::form::{Button, Field, Form};
use crate::api::console::page::{Confirmation, Section, show};
use crate::api::console::parts::{Part, Parts};
use crate::api::console::table::{Cell, Facts, Table, path_part};
use crate::api::console::text::count;
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::config::TierConfig;
use crate::gateway::command::UpdateMerchant;
use crate::gateway::page::PageRequest;
use crate::gateway::view::{ConcurrencyView, DayView, FullMerchantView, MerchantView, WindowView};

const PATH: &str = "/console/limits";
const MERCHANTS: &str = "/console/merchants";
/// Merchants shown that are near a limit.
const FULLEST: usize = 50;

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, PATH, fullest)
        .with(Verb::Get, MERCHANTS, merchants)
        .with(Verb::Get, "/console/limits/{merchant_id}", one)
        .with(Verb::Get, "/console/limits/{merchant_id}/tier", ask_tier)
        .with(Verb::Post, "/console/limits/{merchant_id}/tier", change_tier)
}

fn path_of(merchant_id: &str) -> String {
    format!("{PATH}/{}", path_part(merchant_id))
}

async fn fullest(call: ConsoleCall) -> Outcome {
    let near = call.query(&["near"], Pages::No)?.text("near").is_some();
    let page = PageRequest { limit: Some(FULLEST), cursor: None };
    let found = call.gateway().fullest_merchants(near, &page).await?;
    let form = Form::filter(PATH).with(Field::check("near", "Only those near a limit").value(near.then_some("true")));
    let columns = ["Merchant", "Tier", "Fullest", "A second", "A minute", "An hour", "At once"];
    let empty = if near { "No merchant is near a limit." } else { "No merchant has asked for anything lately." };
    let table = Table::new("Merchants by how much they use of a limit, the fullest first", &columns, empty).with_rows(
        found.items.into_iter().map(|merchant| {
            let name = call.gateway().merchants().get(&merchant.merchant_id).map(|known| known.name).ok();
            full_row(merchant, name)
        }),
    );
    show(&Parts {
        page: call.page(Section::Limits, "Limits"),
        parts: vec![
            Part::plain().with(vec![Button::link("All merchants", MERCHANTS)]),
            Part::new("Who uses most of a limit").with(form).with(table),
            Part::new("Tiers").with(tiers(&call)),
        ],
    })
}

fn full_row(merchant: FullMerchantView, name: Option<String>) -> Vec<Cell> {
    let window = |name: &str| merchant.windows.iter().find(|window| window.name == name).map_or(Cell::Nothing, bar);
    let cells = [window("second"), window("minute"), window("hour")];
    let fullest = Cell::text(format!("{} ({:.0} %)", merchant.limit, merchant.used_percent));
    let who = Cell::Lines(vec![Cell::link(PATH, merchant.merchant_id), Cell::maybe(name)]);
    let mut row = vec![who, Cell::maybe(merchant.tier), fullest];
    row.extend(cells);
    row.push(at_once(&merchant.concurrency));
    row
}

/// How much of a window is used.
fn bar(window: &WindowView) -> Cell {
    meter(window.used, window.limit)
}

fn at_once(concurrency: &ConcurrencyView) -> Cell {
    meter(concurrency.used, concurrency.limit)
}

fn meter(used: u64, limit: u64) -> Cell {
    let percent = if limit == 0 { 100.0 } else { used as f64 * 100.0 / limit as f64 };
    Cell::meter(percent, format!("{} of {}", count(used), count(limit)))
}

fn tiers(call: &ConsoleCall) -> Table {
    let columns = ["Tier", "A second", "Burst", "A minute", "An hour", "At once"];
    let row = |(name, tier): (&String, &TierConfig)| {
        let figures = [tier.per_second, tier.burst, tier.per_minute, tier.per_hour, tier.concurrent];
        [Cell::text(name.as_str())].into_iter().chain(figures.map(Cell::count)).collect()
    };
    let settings = call.gateway().settings();
    Table::new("The tiers' limits", &columns, "There are no tiers.").with_rows(settings.tiers.iter().map(row))
}

async fn merchants(call: ConsoleCall) -> Outcome {
    let page = call.query(&[], Pages::Yes)?.page()?;
    let found = call.gateway().merchants().list(&page)?;
    let rows = found.items.len();
    let columns = ["Merchant", "Name", "Tier", "Country", "Status", "Keys", "Made at (UTC)"];
    let row = |merchant: MerchantView| {
        vec![
            Cell::link(PATH, merchant.merchant_id),
            Cell::text(merchant.name),
            Cell::text(merchant.tier),
            Cell::maybe(merchant.country),
            Cell::status(&merchant.status),
            Cell::count(merchant.keys.len()),
            Cell::Moment(merchant.created_at),
        ]
    };
    let empty = "There are no merchants. Add one with: tollgate merchant create";
    let table = Table::new("Merchants", &columns, empty).with_rows(found.items.into_iter().map(row));
    let pager = call.pager(MERCHANTS, &page, rows, found.next_cursor.as_deref());
    show(&Parts {
        page: call.page(Section::Limits, "Merchants").below("Limits", PATH),
        parts: vec![Part::plain().with(table).with(pager)],
    })
}

async fn one(Named(merchant_id): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let merchant = call.gateway().merchants().get(&merchant_id)?;
    let used = call.gateway().merchant_limits(&merchant_id).await?;
    let own: Vec<String> = own_limits(&merchant);
    let facts = Facts::default()
        .with("Name", Cell::text(merchant.name.as_str()))
        .with("Number", Cell::code(merchant.merchant_id.as_str()))
        .with("Status", Cell::status(&merchant.status))
        .with("Tier", Cell::text(merchant.tier.as_str()))
        .with_some("Own limits", Cell::text(own.join(", ")))
        .with_some("Country", Cell::maybe(merchant.country.as_deref()))
        .with_some("Only these channels", Cell::text(merchant.channels.join(", ")))
        .with_some("Keys", Cell::Lines(merchant.keys.iter().map(|key| Cell::code(key.as_str())).collect()))
        .with("Made at", Cell::moment(Some(merchant.created_at.as_str())))
        .with("Requests are counted", Cell::text(if used.active { "in memory" } else { "as last written down" }))
        .with("Permits taken back", Cell::count(used.leases_expired));
    let limits = used.limits;
    let columns = ["Limit", "Used", "Left", "All of it again at (UTC)"];
    let window = |window: &WindowView| {
        vec![
            Cell::text(window.name.as_str()),
            bar(window),
            Cell::count(window.remaining),
            Cell::moment(window.reset_at.as_deref()),
        ]
    };
    let mut rows: Vec<Vec<Cell>> = limits.windows.iter().map(window).collect();
    let left = limits.concurrency.limit.saturating_sub(limits.concurrency.used);
    rows.push(vec![Cell::text("at once"), at_once(&limits.concurrency), Cell::count(left), Cell::Nothing]);
    let windows = Table::new("Limits and how much of them is used", &columns, "There are no limits.").with_rows(rows);
    // The days begin with today, as soon as something was asked for.
    let today = Some(&limits.today).filter(|today| limits.days.iter().all(|day| day.date != today.date));
    let days = today.into_iter().chain(&limits.days).map(day);
    let columns =
        ["Day (UTC)", "Let in", "Refused", "By the burst", "By the minute", "By the hour", "At once", "Most at once"];
    let days = Table::new("Requests by day", &columns, "Nothing was asked for yet.").with_rows(days);
    let id = path_part(&merchant.merchant_id);
    let elsewhere = vec![
        Button::link("Its payments", format!("/console/payments?merchant_id={id}")),
        Button::link("Its webhook endpoints", format!("/console/webhooks?merchant_id={id}")),
        Button::link("Its notifications", format!("/console/webhooks/notifications?merchant_id={id}")),
    ];
    let change = vec![Button::link("Change the tier…", format!("{}/tier", path_of(&merchant.merchant_id)))];
    show(&Parts {
        page: call.page(Section::Limits, merchant.name.as_str()).below("Limits", PATH),
        parts: vec![
            Part::plain().card().with(facts).with(change),
            Part::new("Limits").with(windows),
            Part::new("Days").with(days),
            Part::new("More of it").with(elsewhere),
        ],
    })
}

/// The limits that replace the tier's.
fn own_limits(merchant: &MerchantView) -> Vec<String> {
    let limits = serde_json::to_value(merchant.limits).unwrap_or_default();
    let named = limits.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    named.map(|(name, value)| format!("{name} {value}")).collect()
}

fn day(day: &DayView) -> Vec<Cell> {
    let by = &day.refused_by;
    let figures = [day.admitted, day.refused, by.second, by.minute, by.hour, by.concurrency];
    let counted = figures.map(Cell::count).into_iter();
    [Cell::text(day.date.as_str())].into_iter().chain(counted).chain([Cell::count(day.peak_concurrency)]).collect()
}

async fn ask_tier(Named(merchant_id): Named<String>, call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let merchant = call.gateway().merchants().get(&merchant_id)?;
    let settings = call.gateway().settings();
    let choices = settings.tiers.iter().map(|(name, tier)| {
        let words =
            format!("{name}: {} a second, {} a minute, {} an hour", tier.per_second, tier.per_minute, tier.per_hour);
        (name.as_str(), words)
    });
    let back = path_of(&merchant.merchant_id);
    let form = Form::post(format!("{back}/tier"), call.csrf(), "Change the tier")
        .with(Field::one_of("tier", "Tier", choices).value(Some(merchant.tier.as_str())).required());
    show(&Confirmation {
        page: call
            .page(Section::Limits, "Change the tier")
            .below("Limits", PATH)
            .below(merchant.name.as_str(), back.as_str()),
        question: String::from(
            "The new limits hold with the next request. What was used before counts on: a lower tier may refuse for as long as \
             its windows last.",
        ),
        facts: Facts::default()
            .with("Merchant", Cell::text(merchant.name))
            .with("Number", Cell::code(merchant.merchant_id))
            .with("Tier now", Cell::text(merchant.tier)),
        form: form.cancel(back),
    })
}

async fn change_tier(Named(merchant_id): Named<String>, call: ConsoleCall) -> Outcome {
    let tier = call.field("tier").ok_or_else(|| ApiError::field("tier", "must be given"))?;
    let said = format!("The tier is {tier} now.");
    let command = UpdateMerchant { tier: Some(tier), ..UpdateMerchant::default() };
    let changed = call.gateway().merchants().update(&merchant_id, command, &call.operator).await;
    call.done(changed.map(|_| said), &path_of(&merchant_id))
}
