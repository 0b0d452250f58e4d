//! `tollgate channel …`: channels, and the faults of the sandbox's emulators, through the admin API.

mod check;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::routing::patch;
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
    /// Show one channel with what is configured of it
    Show {
        /// Name of the channel, such as stripe
        channel: String,
    },
    /// Let a channel be chosen again
    Enable {
        /// Name of the channel, such as stripe
        channel: String,
    },
    /// Take a channel out of routing; payments under way go on
    Disable {
        /// Name of the channel, such as stripe
        channel: String,
    },
    /// Change what is given of a channel; takes effect at once and stays over restarts
    Set {
        /// Name of the channel, such as stripe
        channel: String,
        #[command(flatten)]
        settings: Box<SettingFlags>,
    },
    /// Close a channel's breaker at once and forget what was learned about it
    Reset {
        /// Name of the channel, such as stripe
        channel: String,
    },
    /// Make a harmless, authenticated call of a channel's provider and say what it found; ends with 1 when all is not well
    Check {
        /// Name of the channel, such as stripe
        channel: String,
    },
    /// Show a sandbox channel's faults, or change those that are given
    Faults {
        /// Name of the channel, such as stripe
        channel: String,
        #[command(flatten)]
        faults: Box<FaultFlags>,
    },
}

/// What to change of a channel.
#[derive(Debug, Default, Args)]
struct SettingFlags {
    /// Share of load among equals, 1 to 1000
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Fees as JSON, such as '{"percent":"2.5","fixed_minor":25}'; only what is given changes
    #[arg(long, value_name = "JSON")]
    fees: Option<String>,
    /// Countries in which it is the local one, separated by commas
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    local_countries: Option<Vec<String>>,
    /// Caps as JSON, such as '{"per_day":1000}'; only what is given changes
    #[arg(long, value_name = "JSON")]
    caps: Option<String>,
    /// When it is away, FROM/UNTIL in RFC 3339, such as 2026-03-01T02:00:00Z/2026-03-01T03:00:00Z; may be repeated
    #[arg(long, value_name = "SPAN")]
    maintenance: Vec<String>,
    /// Go back to what the configuration file says of these, separated by commas, such as fees,weight
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    unset: Vec<String>,
}

impl SettingFlags {
    fn body(&self) -> Result<Value, Failure> {
        let parsed = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => serde_json::from_str::<Value>(text)
                .map(Some)
                .map_err(|error| Failure::Usage(format!("--{name} is not JSON: {error}"))),
        };
        let span = |text: &String| {
            let (from, until) =
                text.split_once('/').ok_or_else(|| Failure::Usage(format!("{text} is not FROM/UNTIL")))?;
            Ok(json!({ "from": from, "until": until }))
        };
        let maintenance: Vec<Value> = self.maintenance.iter().map(span).collect::<Result<_, Failure>>()?;
        let countries = self.local_countries.as_ref();
        let given = [
            ("weight", self.weight.map(|weight| json!(weight))),
            ("fees", parsed("fees", &self.fees)?),
            (
                "local_countries",
                countries.map(|codes| json!(codes.iter().filter(|code| !code.is_empty()).collect::<Vec<_>>())),
            ),
            ("caps", parsed("caps", &self.caps)?),
            ("maintenance", (!maintenance.is_empty()).then(|| json!(maintenance))),
        ];
        patch(given, &self.unset)
    }
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
        Action::Show { channel } => {
            let value = admin.call(Method::GET, &["channels", &channel], None).await?;
            let text = channel_text(&value);
            (value, text)
        }
        Action::Enable { channel } => changed(&admin, &channel, &json!({ "enabled": true })).await?,
        Action::Disable { channel } => changed(&admin, &channel, &json!({ "enabled": false })).await?,
        Action::Set { channel, settings } => changed(&admin, &channel, &settings.body()?).await?,
        Action::Reset { channel } => {
            let value = admin.call(Method::POST, &["channels", &channel, "reset-health"], Some(&json!({}))).await?;
            let text = channel_text(&value);
            (value, text)
        }
        Action::Check { channel } => return check::run(&admin, &channel, arguments.admin.json).await,
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

async fn changed(admin: &Admin, channel: &str, body: &Value) -> Result<(Value, String), Failure> {
    let value = admin.call(Method::PATCH, &["channels", channel], Some(body)).await?;
    let text = channel_text(&value);
    Ok((value, text))
}

/// One channel, a line a fact.
fn channel_text(value: &Value) -> String {
    let titles = ["channel", "kind", "enabled", "breaker", "success", "samples", "in flight", "latency"];
    let health = titles.into_iter().zip(channel_cells(value)).map(|(title, text)| (String::from(title), text));
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Value::Object(fields) if fields.is_empty() => String::new(),
        Value::Array(items) if items.is_empty() => String::new(),
        Value::Object(fields) if !fields.values().any(|value| value.is_object() || value.is_array()) => {
            let field = |(key, value): (&String, &Value)| match value {
                Value::String(text) => format!("{key}={text}"),
                other => format!("{key}={other}"),
            };
            fields.iter().map(field).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    let payments = value.get("payments_today").map(Value::to_string);
    let amount = value.get("amount_today_minor").map(|minor| format!("{minor} minor units"));
    let today = [("payments today", payments), ("amount today", amount)];
    let today = today.map(|(title, text)| (String::from(title), or_dash(text.as_deref())));
    let keys = [
        "opened_by",
        "failed_probes",
        "lacks",
        "weight",
        "fees",
        "local_countries",
        "countries",
        "currencies",
        "methods",
        "amounts",
        "caps",
        "maintenance",
        "overridden",
    ];
    let configured = keys.into_iter().map(|key| {
        let text = value.get(key).filter(|value| !value.is_null()).map(shown);
        (key.replace('_', " "), or_dash(text.as_deref()))
    });
    health
        .chain(today)
        .chain(configured)
        .map(|(title, text)| format!("{title:<17}{text}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The rows of a list that comes as one page.
fn rows_of(value: &Value) -> Vec<Value> {
    value.get("items").unwrap_or(value).as_array().cloned().unwrap_or_default()
}

fn channels_table(rows: &[Value]) -> String {
    let columns = [
        Column::Left("channel"),
        Column::Left("kind"),
        Column::Status("enabled"),
        Column::Status("breaker"),
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
    fn settings_are_sent_as_they_are_given() {
        let settings = SettingFlags {
            weight: Some(3),
            fees: Some(String::from("{\"percent\":\"2.5\"}")),
            maintenance: vec![String::from("a/b")],
            unset: vec![String::from("caps")],
            ..SettingFlags::default()
        };
        let expected = json!({ "weight": 3, "fees": { "percent": "2.5" }, "maintenance": [{ "from": "a", "until": "b" }], "caps": null });
        assert_eq!(settings.body().unwrap(), expected);
        assert!(SettingFlags::default().body().is_err());
        assert!(SettingFlags { caps: Some(String::from("{")), ..SettingFlags::default() }.body().is_err());
        let text = channel_text(
            &json!({ "name": "stripe", "kind": "stripe", "weight": 7, "local_countries": ["DE", "FR"], "overridden": [],
                "payments_today": 12, "amount_today_minor": 3450, "opened_by": "hanging" }),
        );
        assert!(text.contains("payments today   12\namount today     3450 minor units\n"), "{text}");
        assert!(text.contains("opened by        hanging\n"), "{text}");
        assert!(text.contains("local countries  DE, FR") && text.contains("overridden       -"), "{text}");
        let fees = json!({ "name": "stripe", "fees": { "percent": "2.9", "fixed_minor": 30 } });
        assert!(channel_text(&fees).contains("fees             fixed_minor=30 percent=2.9"), "{}", channel_text(&fees));
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
