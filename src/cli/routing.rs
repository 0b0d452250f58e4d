//! `tollgate routing …`: how channels are chosen, and the versions of that, through the admin API.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::paging::{self, Paging, rows_of};
use super::rule::findings_text;
use super::table::{Column, or_dash, table};

/// Flags of `routing`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show mode, ladder, default channel, and what was changed through the admin API
    Show,
    /// Change what is given; takes effect at once and stays over restarts
    Set {
        /// Which strategy is asked first
        #[arg(long)]
        mode: Option<Mode>,
        /// Whether strategies decide at all
        #[arg(long, value_name = "BOOL")]
        smart: Option<bool>,
        /// Whether the rules are asked before the strategies
        #[arg(long, value_name = "BOOL")]
        rules_first: Option<bool>,
        /// The channel of payments that nothing else decides
        #[arg(long, value_name = "CHANNEL")]
        default_channel: Option<String>,
        /// Go back to what the configuration file says of these, separated by commas: mode, smart, rules_first,
        /// default_channel
        #[arg(long, value_name = "KEYS", value_delimiter = ',')]
        unset: Vec<String>,
    },
    /// List versions, newest first
    Versions {
        #[command(flatten)]
        paging: Paging,
    },
    /// Put in force again what a version had
    Rollback {
        /// The version's number; 0 for nothing but the configuration file
        version: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Balanced,
    Cost,
    Success,
    Geographic,
}

/// Does what was asked through the admin API and prints the result.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let (value, text) = match arguments.action {
        Action::Show => {
            let value = admin.call(Method::GET, &["routing"], None).await?;
            let text = settings_text(&value);
            (value, text)
        }
        Action::Set { mode, smart, rules_first, default_channel, unset } => {
            let mode = mode.and_then(|mode| mode.to_possible_value().map(|value| json!(value.get_name())));
            let given = [
                ("mode", mode),
                ("smart", smart.map(|smart| json!(smart))),
                ("rules_first", rules_first.map(|first| json!(first))),
                ("default_channel", default_channel.map(|channel| json!(channel))),
            ];
            let body = patch(given, &unset)?;
            let value = admin.call(Method::PUT, &["routing"], Some(&body)).await?;
            let text = settings_text(&value);
            (value, text)
        }
        Action::Versions { paging } => {
            let versions = admin.list(&["routing", "versions"], &paging).await?.into_value();
            let text = versions_table(&versions);
            (versions, text)
        }
        Action::Rollback { version } => {
            let body = json!({ "version": version });
            let value = admin.call(Method::POST, &["routing", "rollback"], Some(&body)).await?;
            let text = settings_text(&value);
            (value, text)
        }
    };
    paging::print(&value, arguments.admin.json, |_| text)?;
    Ok(Outcome::Fine)
}

/// A body with what was given, and null for what is to go back to the configuration file.
pub(super) fn patch<const N: usize>(given: [(&str, Option<Value>); N], unset: &[String]) -> Result<Value, Failure> {
    let mut body: Map<String, Value> =
        given.into_iter().filter_map(|(key, value)| Some((String::from(key), value?))).collect();
    for key in unset {
        if body.insert(key.clone(), Value::Null).is_some() {
            return Err(Failure::Usage(format!("{key} can't be set and unset at once")));
        }
    }
    if body.is_empty() {
        return Err(Failure::Usage(String::from("nothing to change; say what, --help names the flags")));
    }
    Ok(Value::Object(body))
}

fn settings_text(value: &Value) -> String {
    let shown = |key: &str| match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => String::from(if *flag { "yes" } else { "no" }),
        Some(other) if !other.is_null() => other.to_string(),
        _ => or_dash(None),
    };
    let names = |key: &str| {
        let items = value.get(key).and_then(Value::as_array);
        let names: Vec<&str> = items.into_iter().flatten().filter_map(Value::as_str).collect();
        or_dash(Some(&names.join(", ")))
    };
    let mut lines = vec![
        format!("{:<17}{}", "version", shown("version")),
        format!("{:<17}{}", "mode", shown("mode")),
        format!("{:<17}{}", "smart", shown("smart")),
        format!("{:<17}{}", "rules first", shown("rules_first")),
        format!("{:<17}{}", "default channel", shown("default_channel")),
        format!("{:<17}{}", "rules", shown("rules")),
        format!("{:<17}{}", "changed by API", names("overridden")),
    ];
    for unfit in value.get("unfit").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| unfit.get(key).and_then(Value::as_str).unwrap_or_default();
        lines.push(format!("{:<17}{}: {}", "not in force", text("what"), text("problem")));
    }
    let findings = findings_text(value);
    if !findings.is_empty() {
        lines.push(findings);
    }
    lines.join("\n")
}

fn versions_table(versions: &Value) -> String {
    let columns = [
        Column::Right("version"),
        Column::Left("at"),
        Column::Left("by"),
        Column::Left("action"),
        Column::Left("object"),
        Column::Left("changed"),
    ];
    let cells = |row: &Value| {
        let text = |key: &str| or_dash(row.get(key).and_then(Value::as_str));
        let number = row.get("version").map(ToString::to_string).unwrap_or_default();
        let is_in_force = row.get("in_force").and_then(Value::as_bool).unwrap_or(false);
        let changes = row.get("changes").and_then(Value::as_object);
        let changed: Vec<&str> = changes.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let mark = if is_in_force { "*" } else { "" };
        vec![
            format!("{mark}{number}"),
            text("at"),
            text("by"),
            text("action"),
            text("object"),
            or_dash(Some(&changed.join(", "))),
        ]
    };
    table(&columns, &rows_of(versions).map(cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_sent_and_what_is_unset_is_null() {
        let body = patch([("mode", Some(json!("cost"))), ("smart", None)], &[String::from("default_channel")]).unwrap();
        assert_eq!(body, json!({ "mode": "cost", "default_channel": null }));
        assert!(patch([("mode", None)], &[]).is_err());
        assert!(patch([("mode", Some(json!("cost")))], &[String::from("mode")]).is_err());
    }

    #[test]
    fn settings_and_versions_are_shown() {
        let text = settings_text(&json!({
            "version": 7, "mode": "cost", "smart": true, "rules_first": false, "default_channel": "stripe", "rules": 2,
            "overridden": ["routing.mode"], "unfit": [{ "what": "rules.a", "problem": "names no channel" }], "findings": [],
        }));
        assert!(text.contains("changed by API   routing.mode") && text.contains("rules.a: names no channel"), "{text}");
        let row = json!({ "version": 7, "in_force": true, "at": "t", "by": "admin", "action": "routing.update",
            "object": "routing", "changes": { "routing.mode": {} } });
        let text = versions_table(&json!({ "items": [row] }));
        assert!(text.contains("*7") && text.contains("routing.mode"), "{text}");
    }
}
