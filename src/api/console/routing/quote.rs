//! What would happen to a payment that came now.

use serde_json::{Map, Value};

use crate::api::console::call::ConsoleCall;
use crate::api::console::form::{Field, Form};
use crate::api::console::page::{Section, in_words, show};
use crate::api::console::parts::{Part, Parts};
use crate::api::console::table::{Cell, Facts, Table, Tone};
use crate::api::console::text::expectation;
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::query::{Pages, Query};
use crate::api::routes::{Routes, Verb};
use crate::domain::language::Language;
use crate::gateway::command::CreatePayment;
use crate::gateway::explain::{ChannelDecisionView, DecisionView, StepView};
use crate::gateway::view::FeeView;

pub(super) const PATH: &str = "/console/routing/quote";
const NAMES: [&str; 9] = [
    "merchant_id",
    "amount",
    "currency",
    "method",
    "country",
    "card_country",
    "customer_ip",
    "channel",
    "payment_token",
];

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, PATH, quote)
}

async fn quote(call: ConsoleCall) -> Outcome {
    let query = call.query(&NAMES, Pages::No)?;
    let page = call.page(Section::Routing, "What would happen to a payment?").below("Routing", super::PATH);
    let mut parts = vec![Part::plain().card().with(form(&query))];
    if let Some(merchant_id) = query.text("merchant_id") {
        let command = command_of(&query);
        let decided = command.and_then(|command| {
            call.gateway().quote_for(&merchant_id, &command, Language::English).map_err(ApiError::from)
        });
        match decided {
            Ok(decision) => parts.extend(told(&decision)),
            // The form stays as it was filled in.
            Err(error) => parts.push(Part::plain().saying(in_words(&error))),
        }
    }
    show(&Parts { page, parts })
}

fn form(query: &Query<'_>) -> Form {
    let line = |name: &'static str, label: &str| Field::line(name, label).value(query.text(name));
    Form::ask(PATH, "Ask")
        .with(line("merchant_id", "Merchant").required())
        .with(
            Field::typed("amount", "Amount", "number")
                .value(query.text("amount"))
                .hint("In minor units, such as cents")
                .required(),
        )
        .with(
            line("currency", "Currency")
                .value(Some(query.text("currency").unwrap_or_else(|| String::from("USD"))))
                .required(),
        )
        .with(line("method", "Method").hint("Such as card, paypal, alipay, crypto; any when not given"))
        .with(line("country", "Payer's country").hint("Two letters"))
        .with(line("card_country", "Card's country"))
        .with(line("customer_ip", "Payer's address").hint("Says the country where that is not given"))
        .with(line("channel", "Channel that the merchant asks for"))
        .with(line("payment_token", "Payment token"))
}

fn command_of(query: &Query<'_>) -> Result<CreatePayment, ApiError> {
    let mut fields = Map::new();
    for name in NAMES.into_iter().filter(|name| !["merchant_id", "amount"].contains(name)) {
        if let Some(text) = query.text(name) {
            fields.insert(String::from(name), Value::from(text));
        }
    }
    let amount = query.text("amount").and_then(|text| text.parse::<i64>().ok());
    let amount = amount.ok_or_else(|| ApiError::field("amount", "must be a whole number of minor units"))?;
    fields.insert(String::from("amount"), Value::from(amount));
    // Nothing is taken, so it is no order.
    fields.insert(String::from("order_no"), Value::from("QUOTE"));
    let wrong = |error: serde_json::Error| ApiError::field("currency", error.to_string());
    serde_json::from_value(Value::Object(fields)).map_err(wrong)
}

fn told(decision: &DecisionView) -> Vec<Part> {
    let chosen = match &decision.channel {
        Some(channel) => Cell::link("/console/routing/channels", channel.as_str()),
        None => Cell::Badge(Tone::Bad, String::from("no channel can take it")),
    };
    let by = match (&decision.rung, &decision.strategy) {
        (Some(rung), Some(strategy)) => format!("{rung}: {}", strategy.replace('_', " ")),
        (Some(rung), None) => rung.clone(),
        (None, _) => String::new(),
    };
    let facts = Facts::default()
        .with("Goes to", chosen)
        .with_some("Decided by", Cell::text(by))
        .with("Because", Cell::text(decision.reason.as_str()))
        .with_some("Rule that fits", Cell::maybe(decision.rule.as_ref().map(|rule| rule.name.as_str())))
        .with_some("Default channel", Cell::maybe(decision.default_channel.as_deref()))
        .with("Version of the routing", Cell::count(decision.setup_version));
    let columns =
        ["Channel", "Can take it", "Fee", "Expected cost", "Expected to succeed", "In flight", "Local", "Breaker"];
    let channels = Table::new("What each channel would do with it", &columns, "There are no channels.")
        .with_rows(decision.channels.iter().map(|channel| channel_row(channel, decision.channel.as_deref())));
    let columns = ["Strategy", "Asked about", "Left", "Why"];
    let steps = Table::new("The strategies, in the order in which they were asked", &columns, "No strategy was asked.")
        .with_rows(decision.steps.iter().map(step_row));
    vec![
        Part::new("Decision").card().with(facts),
        Part::new("Channels").with(channels),
        Part::new("Strategies").with(steps),
    ]
}

fn channel_row(channel: &ChannelDecisionView, chosen: Option<&str>) -> Vec<Cell> {
    let money =
        |fee: &Option<FeeView>| fee.as_ref().map_or(Cell::Nothing, |fee| Cell::money(fee.amount, &fee.currency));
    let takes = match &channel.dropped {
        _ if chosen == Some(channel.channel.as_str()) => Cell::Badge(Tone::Good, String::from("chosen")),
        Some(dropped) => {
            Cell::Lines(vec![Cell::Badge(Tone::Bad, String::from("no")), Cell::text(dropped.in_words.as_str())])
        }
        None if channel.eligible => Cell::text("yes"),
        None => Cell::text("no"),
    };
    vec![
        Cell::link("/console/routing/channels", channel.channel.as_str()),
        takes,
        money(&channel.fee),
        money(&channel.expected_cost),
        Cell::Number(expectation(channel.success_rate, channel.samples == 0)),
        Cell::count(channel.in_flight),
        Cell::text(if channel.local { "yes" } else { "no" }),
        Cell::status(&channel.breaker),
    ]
}

fn step_row(step: &StepView) -> Vec<Cell> {
    vec![
        Cell::text(step.strategy.replace('_', " ")),
        Cell::text(step.before.join(", ")),
        Cell::text(step.after.join(", ")),
        Cell::text(step.in_words.as_str()),
    ]
}
