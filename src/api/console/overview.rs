//! The first page: how the gateway does now, and did in the last hours. It shows itself anew while it is looked at.

mod live;
pub(super) mod news;
mod recent;

use std::collections::BTreeSet;

use askama::Template;
use askama::filters::HtmlSafe;

use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::query::{Pages, Query};
use crate::api::routes::{Routes, Verb};
use crate::domain::history::MINUTES_MAX;
use crate::domain::money::Currency;
use crate::domain::time::Day;
use crate::gateway::Gateway;
use crate::gateway::command::PaymentFilter;
use crate::gateway::costs::CostsFilter;
use crate::gateway::error::GatewayError;
use crate::gateway::page::PageRequest;

use super::PREFIX;
use super::call::ConsoleCall;
use super::form::{Field, Form};
use super::page::{Page, Section, show};
use super::table::{Cell, Table};
use super::text::{count, money, percent};

use recent::{CURRENCIES_MAX, Recent};

/// Where the page's news come from.
pub(super) const LIVE: &str = "/console/live";
/// Minutes that are shown, if nobody says how many.
const MINUTES_SHOWN: usize = 60;
/// What can be chosen.
const NAMES: [&str; 2] = ["minutes", "currency"];
/// Payments that are shown.
const LATEST_MAX: usize = 8;

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, PREFIX, overview).with(Verb::Get, LIVE, live::news)
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    page: Page,
    span: Form,
    now: Now,
}

async fn overview(call: ConsoleCall) -> Outcome {
    let shown = Shown::read(&call.query(&NAMES, Pages::No)?)?;
    let now = Now::of(call.gateway(), &shown)?;
    let span = Form::filter(PREFIX)
        .submit("Show")
        .with(Field::one_of("minutes", "Show the last", shown.spans()).value(Some(shown.minutes.to_string())));
    let chosen = shown.currency.clone();
    let mut currencies: BTreeSet<String> = now.recent.currencies().cloned().collect();
    currencies.extend(chosen.clone());
    let span = match currencies.len() {
        0 | 1 => span,
        number => {
            let all = match number <= CURRENCIES_MAX {
                true => String::from("every currency, each on its own"),
                false => format!("the first {CURRENCIES_MAX} of {number} currencies, each on its own"),
            };
            let each = currencies.into_iter().map(|code| (code.clone(), code));
            let choices = std::iter::once((String::new(), all)).chain(each);
            span.with(Field::one_of("currency", "Money in", choices).value(chosen))
        }
    };
    let page = call.page(Section::Overview, "Overview").live(shown.path());
    show(&OverviewPage { page, span, now })
}

/// What somebody wants to see.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shown {
    minutes: usize,
    /// The only one whose money has charts.
    currency: Option<String>,
}

impl Shown {
    /// # Errors
    /// An invalid request that says what is wrong.
    fn read(query: &Query<'_>) -> Result<Self, ApiError> {
        let minutes = match query.text("minutes") {
            None => MINUTES_SHOWN,
            Some(text) => {
                let minutes = text.parse().ok().filter(|minutes| (1..=MINUTES_MAX).contains(minutes));
                let wrong = || format!("must be a whole number from 1 to {MINUTES_MAX}");
                minutes.ok_or_else(|| ApiError::field("minutes", wrong()))?
            }
        };
        let currency = query.text("currency").map(|text| text.parse::<Currency>());
        let wrong = |_| ApiError::field("currency", "must be the code of a currency, such as USD");
        let currency = currency.transpose().map_err(wrong)?.map(|currency| currency.to_string());
        Ok(Self { minutes, currency })
    }

    /// Spans that can be chosen, among them this one.
    fn spans(&self) -> Vec<(String, String)> {
        let known = [(15, "15 minutes"), (60, "1 hour"), (180, "3 hours")];
        let mut spans: Vec<(usize, String)> = known.map(|(minutes, words)| (minutes, String::from(words))).into();
        if spans.iter().all(|(minutes, _)| *minutes != self.minutes) {
            spans.push((self.minutes, format!("{} min", self.minutes)));
            spans.sort();
        }
        spans.into_iter().map(|(minutes, words)| (minutes.to_string(), words)).collect()
    }

    /// Where what is shown is sent anew.
    fn path(&self) -> String {
        let currency = self.currency.as_ref().map(|code| format!("&currency={code}")).unwrap_or_default();
        format!("{LIVE}?minutes={}{currency}", self.minutes)
    }
}

/// One figure with its name.
struct Tile {
    name: &'static str,
    /// Where more is said.
    href: Option<&'static str>,
    value: String,
    /// In words, beside it.
    more: String,
}

/// Figures side by side.
#[derive(Template)]
#[template(path = "tiles.html")]
struct Tiles(Vec<Tile>);

impl HtmlSafe for Tiles {}

/// What the page shows, in parts that are replaced one by one.
struct Now {
    tiles: Tiles,
    recent: Recent,
    channels: Table,
    money: Table,
    payments: Table,
}

impl Now {
    /// As it is now, with some minutes of before.
    ///
    /// # Errors
    /// When the store can't be read.
    fn of(gateway: &Gateway, shown: &Shown) -> Result<Self, GatewayError> {
        gateway.read_history();
        let all = gateway.recent_minutes();
        let last = all.get(all.len().saturating_sub(shown.minutes)..).unwrap_or_default();
        let recent = Recent::of(last, shown.currency.as_deref());
        let (today, money) = today(gateway)?;
        let mut tiles = recent.tiles();
        tiles.push(given_up(gateway));
        tiles.extend(today);
        Ok(Self { tiles: Tiles(tiles), recent, channels: channels(gateway), money, payments: latest(gateway)? })
    }

    /// The parts by their places in the page.
    ///
    /// # Errors
    /// When they can't be written.
    fn fragments(&self) -> Result<[(&'static str, String); 5], askama::Error> {
        Ok([
            ("tiles", self.tiles.render()?),
            ("recent", self.recent.render()?),
            ("channels", self.channels.render()?),
            ("money", self.money.render()?),
            ("payments", self.payments.render()?),
        ])
    }
}

/// What was given up of all merchants' webhooks, and the way to whose they are.
fn given_up(gateway: &Gateway) -> Tile {
    let number = gateway.stats().webhooks.dead_letters;
    Tile {
        name: "Webhooks given up",
        href: number.is_some_and(|number| number > 0).then_some("/console/webhooks?given_up=true"),
        value: number.map_or_else(|| String::from("–"), count),
        more: String::from("kept, to be sent again by hand"),
    }
}

fn channels(gateway: &Gateway) -> Table {
    let columns = ["Channel", "Breaker", "Approved", "In flight", "Latency", "Payments today"];
    let rows = gateway.channels().into_iter().map(|channel| {
        vec![
            Cell::link(Section::Routing.path(), channel.name),
            Cell::status(if channel.enabled { &channel.breaker } else { "disabled" }),
            if channel.samples > 0 { Cell::Number(percent(channel.success_rate)) } else { Cell::Nothing },
            Cell::count(channel.in_flight),
            channel.latency_ms.map_or(Cell::Nothing, |ms| Cell::Number(format!("{ms:.0} ms"))),
            Cell::count(channel.payments_today),
        ]
    });
    Table::new("Channels", &columns, "No channels are configured.").with_rows(rows)
}

/// What was charged today: all of it in one currency, and each channel's.
fn today(gateway: &Gateway) -> Result<(Vec<Tile>, Table), GatewayError> {
    let day = Day::of(gateway.clock().now());
    let filter = CostsFilter { from: Some(day), to: Some(day), by_channel: true, ..CostsFilter::default() };
    let costs = gateway.costs(&filter, &PageRequest { limit: Some(100), cursor: None })?;
    let totals = &costs.totals;
    let saved_percent = totals.saved_percent.map(|percent| format!("{percent:.1} % of ")).unwrap_or_default();
    // What has no rate of exchange can't be added up.
    let without = match (costs.complete, totals.left_out.as_slice()) {
        (false, _) => String::from("; still being counted"),
        (true, []) => String::new(),
        (true, left_out) => format!("; without {}, see below", left_out.join(", ")),
    };
    let tiles = vec![
        Tile {
            name: "Taken today",
            href: None,
            value: money(totals.amount, &totals.currency),
            more: format!("{} payments{without}", count(totals.payments)),
        },
        Tile {
            name: "Fees saved today",
            href: None,
            value: money(totals.saved, &totals.currency),
            more: format!(
                "{saved_percent}{} on {}{without}",
                money(totals.baseline_fees, &totals.currency),
                costs.baseline_channel
            ),
        },
    ];
    let columns = ["Channel", "Payments", "Taken", "Refunded", "Fees", "Fees saved"];
    let rows = costs.items.into_iter().map(|row| {
        vec![
            Cell::link(Section::Routing.path(), row.channel),
            Cell::count(row.payments),
            Cell::money(row.amount, &row.currency),
            Cell::money(row.refunded, &row.currency),
            Cell::money(row.fees, &row.currency),
            Cell::money(row.saved, &row.currency),
        ]
    });
    Ok((tiles, Table::new("Money today", &columns, "Nothing was charged today.").with_rows(rows)))
}

fn latest(gateway: &Gateway) -> Result<Table, GatewayError> {
    let page = PageRequest { limit: Some(LATEST_MAX), cursor: None };
    let found = gateway.payments().list_all(None, &PaymentFilter::default(), &page)?;
    let columns = ["Payment", "Status", "Amount", "Channel", "Merchant", "Made (UTC)"];
    let rows = found.items.into_iter().map(|row| {
        let payment = row.payment;
        vec![
            Cell::link(Section::Payments.path(), payment.payment_no),
            Cell::status(&payment.status),
            Cell::money(payment.amount, &payment.currency),
            Cell::maybe(payment.channel),
            Cell::code(row.merchant_id),
            Cell::Moment(payment.created_at),
        ]
    });
    Ok(Table::new("Latest payments", &columns, "No payments yet.").with_rows(rows))
}
