//! `tollgate rule …`: the rule table, through the admin API.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::table::{Column, or_dash, table};
use crate::config::toml_problem;

/// Flags of `rule`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List rules in their order; the first that matches a payment counts
    List,
    /// Show one rule
    Show {
        /// Its id
        id: String,
    },
    /// Add a rule
    #[command(visible_alias = "create")]
    Add(Box<RuleFlags>),
    /// Change what is given of a rule
    Update {
        /// Its id
        id: String,
        #[command(flatten)]
        rule: Box<RuleFlags>,
    },
    /// Remove a rule
    Delete {
        /// Its id
        id: String,
    },
    /// Find rules that can never match, shadow each other, or name what is not there; ends with 1 on errors
    Check(Box<RuleFlags>),
}

/// A rule's fields. Lists are separated by commas.
#[derive(Debug, Default, Args)]
struct RuleFlags {
    /// Read the rule from this file, TOML or JSON; other flags go on top
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Names it for good; made when not given
    #[arg(long = "id", value_name = "ID")]
    own_id: Option<String>,
    /// Shown in decisions
    #[arg(long)]
    name: Option<String>,
    /// Whether it counts
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    /// Payer's countries
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    countries: Option<Vec<String>>,
    /// Countries that the payer's is not
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    not_countries: Option<Vec<String>>,
    /// Currencies
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    currencies: Option<Vec<String>>,
    /// Methods
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    methods: Option<Vec<String>>,
    /// Methods that the payment's is not
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    not_methods: Option<Vec<String>>,
    /// Merchants' tiers
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tiers: Option<Vec<String>>,
    /// Merchants' ids
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    merchants: Option<Vec<String>>,
    /// Merchants' ids that the payment's is not
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    not_merchants: Option<Vec<String>>,
    /// Countries of the card
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    card_countries: Option<Vec<String>>,
    /// Countries that the card's is not
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    not_card_countries: Option<Vec<String>>,
    /// At least this much, in minor units of one of --currencies
    #[arg(long, value_name = "MINOR")]
    amount_min: Option<i64>,
    /// At most this much, in minor units of one of --currencies
    #[arg(long, value_name = "MINOR")]
    amount_max: Option<i64>,
    /// From this time of day on, such as 22:00
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Until before this time of day, such as 06:00
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Days of the week, mon to sun
    #[arg(long, value_name = "DAYS", value_delimiter = ',')]
    weekdays: Option<Vec<String>>,
    /// Whose time that is, such as Europe/Berlin; UTC when not given
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// What the merchant noted: KEY for anything, KEY=VALUE,VALUE for one of these; may be repeated
    #[arg(long, value_name = "KEY[=VALUES]")]
    metadata: Vec<String>,
    /// Channels in the order of preference
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    channels: Option<Vec<String>>,
    /// Shares that add up to 100, such as stripe=90,alipay=10
    #[arg(long, value_name = "SHARES", value_delimiter = ',', conflicts_with = "channels")]
    split: Option<Vec<String>>,
    /// Put it before the rule with this id
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// Put it at this place, from 1
    #[arg(long, value_name = "N", conflicts_with = "before")]
    position: Option<usize>,
    /// Take these fields away, separated by commas
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    unset: Vec<String>,
}

impl RuleFlags {
    /// The fields that were given.
    fn fields(&self) -> Result<Map<String, Value>, Failure> {
        let mut fields = match &self.file {
            Some(file) => fields_of(file)?,
            None => Map::new(),
        };
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        let list = |list: &Option<Vec<String>>| {
            list.as_ref().map(|list| json!(list.iter().filter(|entry| !entry.is_empty()).collect::<Vec<_>>()))
        };
        let given = [
            ("id", text(&self.own_id)),
            ("name", text(&self.name)),
            ("enabled", self.enabled.map(|enabled| json!(enabled))),
            ("countries", list(&self.countries)),
            ("not_countries", list(&self.not_countries)),
            ("currencies", list(&self.currencies)),
            ("methods", list(&self.methods)),
            ("not_methods", list(&self.not_methods)),
            ("tiers", list(&self.tiers)),
            ("merchants", list(&self.merchants)),
            ("not_merchants", list(&self.not_merchants)),
            ("card_countries", list(&self.card_countries)),
            ("not_card_countries", list(&self.not_card_countries)),
            ("amount_minor_min", self.amount_min.map(|bound| json!(bound))),
            ("amount_minor_max", self.amount_max.map(|bound| json!(bound))),
            ("from", text(&self.from)),
            ("until", text(&self.until)),
            ("weekdays", list(&self.weekdays)),
            ("time_zone", text(&self.time_zone)),
            ("metadata", self.metadata()),
            ("channels", list(&self.channels)),
            ("split", self.shares()?),
            ("before", text(&self.before)),
            ("position", self.position.map(|position| json!(position))),
        ];
        fields.extend(given.into_iter().filter_map(|(key, value)| Some((String::from(key), value?))));
        fields.extend(self.unset.iter().map(|field| (field.clone(), Value::Null)));
        Ok(fields)
    }

    fn metadata(&self) -> Option<Value> {
        let condition = |text: &String| {
            let (key, values) = text.split_once('=').unwrap_or((text, ""));
            let values: Vec<&str> = values.split(',').filter(|value| !value.is_empty()).collect();
            (String::from(key), json!(values))
        };
        let conditions: Map<String, Value> = self.metadata.iter().map(condition).collect();
        (!conditions.is_empty()).then_some(Value::Object(conditions))
    }

    fn shares(&self) -> Result<Option<Value>, Failure> {
        let Some(shares) = &self.split else { return Ok(None) };
        let share = |text: &String| {
            let wrong = || Failure::Usage(format!("{text} is not a share such as stripe=90"));
            let (channel, percent) = text.split_once('=').ok_or_else(wrong)?;
            let percent: u32 = percent.trim_end_matches('%').parse().map_err(|_| wrong())?;
            Ok(json!({ "channel": channel, "percent": percent }))
        };
        let shares: Vec<Value> = shares.iter().map(share).collect::<Result<_, Failure>>()?;
        Ok(Some(json!(shares)))
    }
}

/// A rule's fields in a file, TOML or JSON.
fn fields_of(file: &Path) -> Result<Map<String, Value>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("{} can't be read: {error}", file.display())))?;
    let is_json = text.trim_start().starts_with('{');
    let parsed = if is_json {
        serde_json::from_str::<Value>(&text).map_err(|error| error.to_string())
    } else {
        let table: Result<toml::Table, _> = text.parse();
        table
            .map_err(|error| toml_problem(&text, &error))
            .and_then(|table| serde_json::to_value(table).map_err(|error| error.to_string()))
    };
    match parsed {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Failure::Usage(format!("{} does not hold a rule's fields", file.display()))),
        Err(error) => Err(Failure::Usage(format!("{} is neither TOML nor JSON: {error}", file.display()))),
    }
}

/// Does what was asked through the admin API and prints the result.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let mut outcome = Outcome::Fine;
    let (value, text) = match arguments.action {
        Action::List => {
            let value = admin.call(Method::GET, &["rules"], None).await?;
            let text = rules_table(value.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice));
            (value, text)
        }
        Action::Show { id } => {
            let value = admin.call(Method::GET, &["rules", &id], None).await?;
            let text = rule_text(&value);
            (value, text)
        }
        Action::Add(rule) => {
            let body = Value::Object(rule.fields()?);
            let value = admin.call(Method::POST, &["rules"], Some(&body)).await?;
            let text = saved_text(&value);
            (value, text)
        }
        Action::Update { id, rule } => {
            let fields = rule.fields()?;
            if fields.is_empty() {
                return Err(Failure::Usage(String::from("nothing to change; say what, --help names the flags")));
            }
            let value = admin.call(Method::PUT, &["rules", &id], Some(&Value::Object(fields))).await?;
            let text = saved_text(&value);
            (value, text)
        }
        Action::Delete { id } => {
            let value = admin.call(Method::DELETE, &["rules", &id], None).await?;
            (value, format!("rule {id} is removed"))
        }
        Action::Check(rule) => {
            let fields = rule.fields()?;
            let body = if fields.is_empty() { json!({}) } else { json!({ "rule": fields }) };
            let value = admin.call(Method::POST, &["rules", "check"], Some(&body)).await?;
            if value.get("errors").and_then(Value::as_u64).is_some_and(|errors| errors > 0) {
                outcome = Outcome::Failed;
            }
            let text = checked_text(&value);
            (value, text)
        }
    };
    if arguments.admin.json {
        output::json(&value)?;
    } else {
        output::line(&text)?;
    }
    Ok(outcome)
}

/// A rule's conditions in one line.
fn conditions_of(rule: &Value) -> String {
    const NOT_CONDITIONS: [&str; 13] = [
        "id", "name", "enabled", "channels", "split", "source", "position", "version", "findings", "note", "metadata",
        "before", "code",
    ];
    let shown = |value: &Value| match value {
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join(",")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fields = rule.as_object().into_iter().flatten();
    let conditions = fields.filter(|(key, _)| !NOT_CONDITIONS.contains(&key.as_str()));
    let conditions = conditions.map(|(key, value)| format!("{key}={}", shown(value)));
    let noted = rule.get("metadata").and_then(Value::as_object).into_iter().flatten();
    let noted = noted.map(|(key, values)| format!("metadata.{key}={}", shown(values)));
    conditions.chain(noted).collect::<Vec<_>>().join(" ")
}

fn result_of(rule: &Value) -> String {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(String::from);
    let items = |key: &str| rule.get(key).and_then(Value::as_array).into_iter().flatten();
    let channels: Vec<&str> = items("channels").filter_map(Value::as_str).collect();
    let share = |share: &Value| Some(format!("{} {} %", text(share, "channel")?, share.get("percent")?));
    let shares: Vec<String> = items("split").filter_map(share).collect();
    if shares.is_empty() { channels.join(", then ") } else { shares.join(", ") }
}

fn rules_table(rows: &[Value]) -> String {
    let columns = [
        Column::Right("place"),
        Column::Left("id"),
        Column::Left("name"),
        Column::Left("source"),
        Column::Status("enabled"),
        Column::Left("when"),
        Column::Left("then"),
    ];
    let cells = |row: &Value| {
        let text = |key: &str| or_dash(row.get(key).and_then(Value::as_str));
        vec![
            row.get("position").map(ToString::to_string).unwrap_or_default(),
            text("id"),
            text("name"),
            text("source"),
            String::from(if is_enabled(row) { "yes" } else { "no" }),
            or_dash(Some(&conditions_of(row))),
            result_of(row),
        ]
    };
    table(&columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

/// A field that is left out where it is true.
fn is_enabled(rule: &Value) -> bool {
    rule.get("enabled").and_then(Value::as_bool).unwrap_or(true)
}

fn rule_text(rule: &Value) -> String {
    let text = |key: &str| or_dash(rule.get(key).and_then(Value::as_str));
    let place = rule.get("position").map(ToString::to_string);
    let enabled = String::from(if is_enabled(rule) { "yes" } else { "no" });
    let facts = [
        ("rule", text("id")),
        ("name", text("name")),
        ("source", text("source")),
        ("place", or_dash(place.as_deref())),
        ("enabled", enabled),
        ("when", or_dash(Some(&conditions_of(rule)))),
        ("then", result_of(rule)),
    ];
    facts.map(|(title, text)| format!("{title:<9}{text}")).join("\n")
}

fn saved_text(value: &Value) -> String {
    let findings = findings_text(value);
    let text = rule_text(value);
    if findings.is_empty() { text } else { format!("{text}\n{findings}") }
}

fn checked_text(value: &Value) -> String {
    let count = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    let summary = format!("{} rules: {} errors, {} warnings", count("rules"), count("errors"), count("warnings"));
    let findings = findings_text(value);
    if findings.is_empty() { summary } else { format!("{findings}\n{summary}") }
}

/// Findings, a line each, and what is to be known about the rules as a whole; empty without any.
pub(super) fn findings_text(value: &Value) -> String {
    let findings = value.get("findings").and_then(Value::as_array).into_iter().flatten();
    let line = |finding: &Value| {
        let text = |key: &str| finding.get(key).and_then(Value::as_str).unwrap_or_default();
        format!("{}: rule {} {}", text("severity"), text("rule"), text("message"))
    };
    let note = value.get("note").and_then(Value::as_str).map(|note| format!("note: {note}"));
    findings.map(line).chain(note).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_fields_over_those_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rule.toml");
        std::fs::write(&file, "name = \"from file\"\ncountries = [\"DE\"]\nmetadata = { a = [] }\n").unwrap();
        let flags = RuleFlags {
            file: Some(file),
            name: Some(String::from("night")),
            split: Some(vec![String::from("stripe=90"), String::from("alipay=10%")]),
            metadata: vec![String::from("campaign=x,y"), String::from("table")],
            unset: vec![String::from("from")],
            position: Some(1),
            ..RuleFlags::default()
        };
        let expected = json!({
            "name": "night", "countries": ["DE"], "metadata": { "campaign": ["x", "y"], "table": [] }, "from": null,
            "split": [{ "channel": "stripe", "percent": 90 }, { "channel": "alipay", "percent": 10 }], "position": 1,
        });
        assert_eq!(Value::Object(flags.fields().unwrap()), expected);
        let json = directory.path().join("rule.json");
        std::fs::write(&json, "{\"name\": \"j\"}").unwrap();
        assert_eq!(fields_of(&json).unwrap(), *json!({ "name": "j" }).as_object().unwrap());
        let wrong = RuleFlags { split: Some(vec![String::from("stripe")]), ..RuleFlags::default() };
        assert!(matches!(wrong.fields(), Err(Failure::Usage(_))));
        assert!(RuleFlags::default().fields().unwrap().is_empty());
    }

    #[test]
    fn rules_are_shown_with_what_they_ask_and_where_they_lead() {
        let rule = json!({
            "id": "r", "name": "n", "source": "api", "position": 1, "countries": ["DE", "FR"], "amount_minor_min": 5,
            "metadata": { "campaign": ["x"] }, "split": [{ "channel": "stripe", "percent": 90 }, { "channel": "alipay", "percent": 10 }],
        });
        let text = rules_table(std::slice::from_ref(&rule));
        for part in ["countries=DE,FR", "amount_minor_min=5", "metadata.campaign=x", "stripe 90 %, alipay 10 %", "yes"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        let findings = json!({ "rules": 1, "errors": 0, "warnings": 1,
            "findings": [{ "rule": "r", "severity": "warning", "message": "is never reached", "other_rules": [] }] });
        assert_eq!(checked_text(&findings), "warning: rule r is never reached\n1 rules: 0 errors, 1 warnings");
        let noted = json!({ "findings": [], "note": "no rule is asked" });
        assert_eq!(findings_text(&noted), "note: no rule is asked");
        let saved = json!({ "id": "r", "countries": ["DE"], "channels": ["stripe"], "note": "no rule is asked" });
        assert_eq!(conditions_of(&saved), "countries=DE", "only what is asked of a payment");
    }
}
