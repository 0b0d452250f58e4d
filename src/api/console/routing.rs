//! How channels are chosen: the ladder, channels and their health, rules, versions, and what would happen to a payment.

mod channels;
mod quote;
mod versions;

use crate::api::console::call::ConsoleCall;
use crate::api::console::form::{Button, Field, Form};
use crate::api::console::page::{Confirmation, Section, show};
use crate::api::console::parts::{Part, Parts};
use crate::api::console::table::{Cell, Facts, Table, Tone};
use crate::api::envelope::Outcome;
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::config::RuleConfig;
use crate::gateway::routing::rules::RuleView;
use crate::gateway::routing::settings::{RoutingSettingsView, UpdateRouting};

const PATH: &str = "/console/routing";
const CHANGE: &str = "/console/routing/change";
/// The field that names the version that was looked at.
const SEEN: &str = "version";
const MODES: [(&str, &str); 4] = [
    ("balanced", "balanced: geographic, success rate, cost, load"),
    ("cost", "cost first"),
    ("success", "success rate first"),
    ("geographic", "geographic first"),
];

pub(super) fn add_routes(routes: Routes) -> Routes {
    let routes = routes.with(Verb::Get, PATH, all).with(Verb::Get, CHANGE, ask_change).with(Verb::Post, CHANGE, change);
    let routes = channels::add_routes(routes);
    let routes = versions::add_routes(routes);
    quote::add_routes(routes)
}

async fn all(call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let routing = call.gateway().routing();
    let settings = routing.settings().await?;
    let actions = vec![
        Button::link("Change…", CHANGE),
        Button::link("What would happen to a payment?", quote::PATH),
        Button::link("Versions", versions::PATH),
    ];
    let hits = routing.rule_hits();
    let rules = routing.rules().await;
    let columns = ["No.", "Rule", "When", "Goes to", "From", "Decided"];
    let rules = Table::new("Rules, in the order in which they are asked", &columns, "There are no rules.").with_rows(
        rules.into_iter().map(|view| {
            let decided = hits.get(view.rule.id()).copied().unwrap_or(0);
            rule_row(&view, decided)
        }),
    );
    let mut rules = Part::new("Rules").with(rules);
    if let Some(note) = &settings.note {
        rules = rules.saying(note.as_str());
    }
    rules = rules.saying("Decided: payments and pre-auths that the rule has sent somewhere since the process began.");
    show(&Parts {
        page: call.page(Section::Routing, "Routing"),
        parts: vec![
            Part::plain().card().with(facts(&settings)).with(actions),
            Part::new("Channels").with(channels::table(call.gateway())),
            rules,
        ],
    })
}

fn facts(settings: &RoutingSettingsView) -> Facts {
    let ladder = match (settings.smart, settings.rules_first) {
        (true, false) => "strategies, then rules, then the default channel",
        (true, true) => "rules, then strategies, then the default channel",
        (false, _) => "rules, then the default channel",
    };
    let lines = |lines: Vec<Cell>| if lines.is_empty() { Cell::Nothing } else { Cell::Lines(lines) };
    let overridden = settings.overridden.iter().map(|name| Cell::code(name.as_str())).collect();
    let unfit = settings.unfit.iter().map(|unfit| Cell::text(format!("{}: {}", unfit.what, unfit.problem))).collect();
    let finding = |finding: &crate::gateway::routing::rules::FindingView| {
        let tone = if finding.severity == "error" { Tone::Bad } else { Tone::Warn };
        Cell::Badge(tone, format!("{}: {}", finding.rule, finding.message))
    };
    Facts::default()
        .with("Version", Cell::count(settings.version))
        .with("Mode", Cell::text(settings.mode.as_str()))
        .with("Ladder", Cell::text(ladder))
        .with("Default channel", Cell::link("/console/routing/channels", settings.default_channel.as_str()))
        .with_some("Changed through the API or here", lines(overridden))
        .with_some("Not in force any more", lines(unfit))
        .with_some("Findings", lines(settings.findings.iter().map(finding).collect()))
}

fn rule_row(view: &RuleView, decided: u64) -> Vec<Cell> {
    let rule = &view.rule;
    let name = if rule.enabled {
        Cell::text(rule.name.as_str())
    } else {
        Cell::Lines(vec![Cell::text(rule.name.as_str()), Cell::status("disabled")])
    };
    let goes_to = if rule.split.is_empty() {
        rule.channels.join(", ")
    } else {
        let shares: Vec<String> =
            rule.split.iter().map(|share| format!("{} {} %", share.channel, share.percent)).collect();
        shares.join(", ")
    };
    vec![
        Cell::count(view.position),
        name,
        Cell::Lines(conditions(rule).into_iter().map(Cell::text).collect()),
        Cell::text(goes_to),
        Cell::text(if view.source == "api" { "API" } else { "file" }),
        Cell::count(decided),
    ]
}

/// What a payment must be for a rule, in words.
fn conditions(rule: &RuleConfig) -> Vec<String> {
    const NOT_CONDITIONS: [&str; 5] = ["id", "name", "enabled", "channels", "split"];
    let fields = serde_json::to_value(rule).unwrap_or_default();
    let named = fields.as_object().into_iter().flatten().filter(|(name, _)| !NOT_CONDITIONS.contains(&name.as_str()));
    let in_words = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => {
            let items: Vec<String> =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), String::from)).collect();
            items.join(", ")
        }
        other => other.to_string(),
    };
    let said: Vec<String> =
        named.map(|(name, value)| format!("{}: {}", name.replace('_', " "), in_words(value))).collect();
    if said.is_empty() { vec![String::from("every payment")] } else { said }
}

async fn ask_change(call: ConsoleCall) -> Outcome {
    call.query(&[], Pages::No)?;
    let settings = call.gateway().routing().settings().await?;
    let enabled = call.gateway().channels().into_iter().filter(|channel| channel.enabled);
    let channels: Vec<(String, String)> = enabled.map(|channel| (channel.name.clone(), channel.name)).collect();
    let form = Form::post(CHANGE, call.csrf(), "Change it")
        .with(seen(settings.version))
        .with(Field::one_of("mode", "Mode", MODES).value(Some(settings.mode.as_str())))
        .with(Field::check("smart", "Strategies decide").value(settings.smart.then_some("true")))
        .with(
            Field::check("rules_first", "Rules are asked before the strategies")
                .value(settings.rules_first.then_some("true")),
        )
        .with(
            Field::one_of("default_channel", "Default channel", channels)
                .value(Some(settings.default_channel.as_str())),
        );
    show(&Confirmation {
        page: call.page(Section::Routing, "Change the routing").below("Routing", PATH),
        question: String::from(
            "It holds with the next payment, stays over restarts, and is a version: one can go back to the one before.",
        ),
        facts: facts(&settings),
        form: form.cancel(PATH),
    })
}

/// The version that somebody looks at who is asked, in the form.
fn seen(version: u64) -> Field {
    Field::hidden(SEEN, version.to_string())
}

/// The version that somebody has looked at who sends a form.
fn seen_version(call: &ConsoleCall) -> Result<u64, ApiError> {
    let version = call.field(SEEN).and_then(|text| text.parse().ok());
    version.ok_or_else(|| ApiError::field(SEEN, "must be the version that was looked at; load the page again"))
}

async fn change(call: ConsoleCall) -> Outcome {
    let routing = call.gateway().routing();
    let before = routing.settings().await?;
    let flag = |name: &str| call.field(name).is_some();
    // What stays as it is does not become a change of the API's.
    let text = |name: &str, was: &str| call.field(name).filter(|wanted| wanted != was).map(serde_json::Value::from);
    let switch = |name: &str, was: bool| (flag(name) != was).then(|| serde_json::Value::from(flag(name)));
    let command = UpdateRouting {
        mode: text("mode", &before.mode),
        smart: switch("smart", before.smart),
        rules_first: switch("rules_first", before.rules_first),
        default_channel: text("default_channel", &before.default_channel),
    };
    let changed = match seen_version(&call) {
        Ok(seen) => routing.update_seen(command, Some(seen), &call.operator).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    call.done(changed.map(|after| format!("Version {} is in force.", after.version)), PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_said_in_words() {
        let rule = RuleConfig { name: String::from("r"), enabled: true, ..RuleConfig::default() };
        assert_eq!(conditions(&rule), ["every payment"]);
        let rule = RuleConfig {
            countries: vec![String::from("DE"), String::from("AT")],
            amount_minor_min: Some(5_000),
            not_methods: vec![String::from("card")],
            ..rule
        };
        let mut said = conditions(&rule);
        said.sort();
        assert_eq!(said, ["amount minor min: 5000", "countries: DE, AT", "not methods: card"]);
    }
}
