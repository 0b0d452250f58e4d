//! `tollgate channel …`: channels, and the faults of the sandbox's emulators, through the admin API.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::table::{Column, or_dash, table};

/// Flags of `channel`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List channels with their health
    List,
    /// Show a sandbox channel's faults, or change those that are given
    Faults {
        /// Name of the channel, such as stripe
        channel: String,
        #[command(flatten)]
        faults: Box<FaultFlags>,
    },
}

/// Faults to change. Rates are shares from 0 to 1.
#[derive(Debug, Default, Args)]
struct FaultFlags {
    /// Milliseconds added to every answer
    #[arg(long, value_name = "MS")]
    latency_ms: Option<u64>,
    /// Milliseconds added at random, up to this many
    #[arg(long, value_name = "MS")]
    latency_jitter_ms: Option<u64>,
    /// Share that is declined
    #[arg(long, value_name = "RATE")]
    decline_rate: Option<f64>,
    /// Share that is answered 500 before any effect
    #[arg(long, value_name = "RATE")]
    error_rate: Option<f64>,
    /// Share that is answered 500 after the effect
    #[arg(long, value_name = "RATE")]
    error_after_effect_rate: Option<f64>,
    /// Share whose connection is closed after the effect with no byte sent
    #[arg(long, value_name = "RATE")]
    lost_response_rate: Option<f64>,
    /// Share whose connection is closed with no byte sent and whose effect comes later
    #[arg(long, value_name = "RATE")]
    late_effect_rate: Option<f64>,
    /// Milliseconds by which such an effect is late
    #[arg(long, value_name = "MS")]
    late_effect_ms: Option<u64>,
    /// Share that is answered as over the provider's rate limit
    #[arg(long, value_name = "RATE")]
    rate_limited_rate: Option<f64>,
    /// Share of notifications that are sent twice
    #[arg(long, value_name = "RATE")]
    duplicate_notification_rate: Option<f64>,
    /// Whether nothing listens at all
    #[arg(long, value_name = "BOOL")]
    down: Option<bool>,
    /// Seed of the faults' random numbers
    #[arg(long)]
    seed: Option<u64>,
}

impl FaultFlags {
    /// The faults that were given.
    fn patch(&self) -> Map<String, Value> {
        let wholes = [
            ("latency_ms", self.latency_ms),
            ("latency_jitter_ms", self.latency_jitter_ms),
            ("late_effect_ms", self.late_effect_ms),
            ("seed", self.seed),
        ];
        let rates = [
            ("decline_rate", self.decline_rate),
            ("error_rate", self.error_rate),
            ("error_after_effect_rate", self.error_after_effect_rate),
            ("lost_response_rate", self.lost_response_rate),
            ("late_effect_rate", self.late_effect_rate),
            ("rate_limited_rate", self.rate_limited_rate),
            ("duplicate_notification_rate", self.duplicate_notification_rate),
        ];
        let wholes = wholes.into_iter().map(|(key, value)| (key, value.map(|value| json!(value))));
        let rates = rates.into_iter().map(|(key, value)| (key, value.map(|value| json!(value))));
        let down = std::iter::once(("down", self.down.map(|down| json!(down))));
        wholes
            .chain(rates)
            .chain(down)
            .filter_map(|(key, value)| value.map(|value| (String::from(key), value)))
            .collect()
    }
}

/// Does what was asked through the admin API and prints the result.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let (value, text) = match arguments.action {
        Action::List => {
            let value = admin.call(Method::GET, &["channels"], None).await?;
            let text = channels_table(&rows_of(&value));
            (value, text)
        }
        Action::Faults { channel, faults } => {
            let path = ["sandbox", channel.as_str()];
            let patch = faults.patch();
            let value = if patch.is_empty() {
                admin.call(Method::GET, &path, None).await?
            } else {
                admin.call(Method::PUT, &path, Some(&Value::Object(patch))).await?
            };
            let text = faults_text(&value);
            (value, text)
        }
    };
    if arguments.admin.json {
        output::json(&value)?
    } else {
        output::line(&text)?
    }
    Ok(Outcome::Fine)
}

/// The rows of a list that comes as one page.
fn rows_of(value: &Value) -> Vec<Value> {
    value.get("items").unwrap_or(value).as_array().cloned().unwrap_or_default()
}

fn channels_table(rows: &[Value]) -> String {
    let columns = [
        Column::Left("channel"),
        Column::Left("kind"),
        Column::Left("enabled"),
        Column::Left("breaker"),
        Column::Right("success"),
        Column::Right("samples"),
        Column::Right("in flight"),
        Column::Right("latency"),
    ];
    let rows: Vec<Vec<String>> = rows.iter().map(channel_cells).collect();
    table(&columns, &rows)
}

fn channel_cells(row: &Value) -> Vec<String> {
    let text = |key: &str| or_dash(row.get(key).and_then(Value::as_str));
    let count = |key: &str| or_dash(row.get(key).and_then(Value::as_u64).map(|count| count.to_string()).as_deref());
    let number = |key: &str| row.get(key).and_then(Value::as_f64);
    let is_given = |key: &str| row.get(key).is_some_and(Value::is_string);
    let enabled = if is_given("lacks") {
        "no credentials"
    } else if is_given("maintained_until") {
        "maintained"
    } else if row.get("enabled").and_then(Value::as_bool).unwrap_or(false) {
        "yes"
    } else {
        "no"
    };
    let breaker = match row.get("opens_until").and_then(Value::as_str) {
        Some(until) if text("breaker") == "open" => format!("open until {until}"),
        _ => text("breaker"),
    };
    vec![
        text("name"),
        text("kind"),
        String::from(enabled),
        breaker,
        or_dash(number("success_rate").map(|rate| format!("{:.1} %", rate * 100.0)).as_deref()),
        count("samples"),
        count("in_flight"),
        or_dash(number("latency_ms").map(|latency| format!("{latency:.1} ms")).as_deref()),
    ]
}

/// Faults, a line each.
fn faults_text(value: &Value) -> String {
    let lines: Vec<String> =
        value.as_object().into_iter().flatten().map(|(key, value)| format!("{key:<29}{value}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_given_faults_are_sent() {
        let faults = FaultFlags { down: Some(false), decline_rate: Some(0.5), ..FaultFlags::default() };
        assert_eq!(Value::Object(faults.patch()), json!({ "down": false, "decline_rate": 0.5 }));
        assert!(FaultFlags::default().patch().is_empty());
    }

    #[test]
    fn channels_are_shown_with_units_and_dashes() {
        let channel = json!({ "name": "stripe", "kind": "stripe", "enabled": true, "breaker": "closed",
            "success_rate": 0.9876, "samples": 200, "in_flight": 0, "latency_ms": null });
        let cells = channel_cells(&channel);
        assert_eq!(cells, ["stripe", "stripe", "yes", "closed", "98.8 %", "200", "0", "-"]);
        let away = json!({ "name": "alipay", "kind": "alipay", "enabled": true, "breaker": "open",
            "opens_until": "2026-01-02T03:04:05Z", "lacks": "channel alipay: set the environment variable X" });
        assert_eq!(channel_cells(&away)[2..4], ["no credentials", "open until 2026-01-02T03:04:05Z"]);
        for list in [json!([channel]), json!({ "items": [channel], "next_cursor": null })] {
            assert!(channels_table(&rows_of(&list)).contains("98.8 %"));
        }
    }
}
