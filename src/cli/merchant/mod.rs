//! `tollgate merchant …`: merchants and their keys, through the admin API.

mod limits;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::paging::{self, Paging, rows_of};
use super::table::{Column, or_dash, table};
use limits::{Bars, fullest_table, limits_text};

/// Flags of `merchant`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a merchant; prints its first key, whose secret is shown this once
    #[command(visible_alias = "add")]
    Create {
        /// What people call it
        name: String,
        /// Name of its tier, such as starter
        #[arg(long)]
        tier: String,
        /// Print only what a shell takes: `eval "$(tollgate merchant create … --shell)"` sets TOLLGATE_KEY and TOLLGATE_SECRET
        #[arg(long, conflicts_with = "json")]
        shell: bool,
        #[command(flatten)]
        terms: Terms,
    },
    /// List merchants, newest first
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one merchant
    Show {
        /// Its id, m_…
        merchant_id: String,
    },
    /// Change a merchant; only what is given changes
    Update {
        /// Its id, m_…
        merchant_id: String,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
        /// Name of its tier; takes effect at once
        #[arg(long)]
        tier: Option<String>,
        /// `none` takes away all limits of its own first: the tier's hold, but for those that are given with it
        #[arg(long, value_name = "none", value_parser = ["none"])]
        own_limits: Option<String>,
        #[command(flatten)]
        terms: Terms,
    },
    /// Refuse all of a merchant's requests from now on
    Suspend {
        /// Its id, m_…
        merchant_id: String,
    },
    /// Take a suspended merchant's requests again
    Activate {
        /// Its id, m_…
        merchant_id: String,
    },
    /// Remove a merchant and its keys
    Delete {
        /// Its id, m_…
        merchant_id: String,
    },
    /// Show how much of a merchant's limits is used, or who is nearest to a limit
    Limits {
        /// Its id, m_…; without it, the merchants in memory that use most of a limit
        merchant_id: Option<String>,
        /// Without an id: only those that are near a limit
        #[arg(long, conflicts_with = "merchant_id")]
        near: bool,
        /// Without an id: most rows
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// Add and remove keys
    #[command(subcommand)]
    Key(KeyAction),
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// Make a second key; prints its secret this once
    Add {
        /// The merchant's id, m_…
        merchant_id: String,
    },
    /// Remove a key; requests signed with it are refused from now on
    Remove {
        /// The merchant's id, m_…
        merchant_id: String,
        /// The key's id, ak_…
        key_id: String,
    },
}

/// The limits that a merchant may have of its own.
const LIMITS: [&str; 5] = ["per_second", "per_minute", "per_hour", "burst", "concurrent"];

/// What can be agreed with a merchant beside its tier.
#[derive(Debug, Default, Args)]
struct Terms {
    /// Country, ISO 3166-1 alpha-2
    #[arg(long)]
    country: Option<String>,
    /// The only channels it may use, separated by commas; empty for all
    #[arg(long, value_name = "NAMES")]
    channels: Option<String>,
    /// Requests per second in place of the tier's; limits that are not named stay as they are
    #[arg(long, value_name = "N")]
    per_second: Option<u32>,
    /// Requests per minute
    #[arg(long, value_name = "N")]
    per_minute: Option<u32>,
    /// Requests per hour
    #[arg(long, value_name = "N")]
    per_hour: Option<u32>,
    /// Requests at once
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
    /// Requests in flight
    #[arg(long, value_name = "N")]
    concurrent: Option<u32>,
}

/// Does what was asked through the admin API and prints the result.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let shown = act(&admin, arguments.action).await?;
    paging::print(&shown.value, arguments.admin.json, |_| shown.text)?;
    Ok(Outcome::Fine)
}

/// A result, for scripts and for people.
struct Shown {
    value: Value,
    text: String,
}

async fn act(admin: &Admin, action: Action) -> Result<Shown, Failure> {
    match action {
        Action::Create { name, tier, shell, terms } => {
            let body = body_of([("name", Some(name)), ("tier", Some(tier))], &terms);
            let value = admin.call(Method::POST, &["merchants"], Some(&body)).await?;
            let key = value.get("key").unwrap_or(&Value::Null);
            let text =
                if shell { key_for_shell(key) } else { format!("{}\n\n{}", merchant_text(&value), key_text(key)) };
            Ok(Shown { text, value })
        }
        Action::List { paging } => {
            let merchants = admin.list(&["merchants"], &paging).await?.into_value();
            Ok(Shown { text: merchants_table(&merchants), value: merchants })
        }
        Action::Show { merchant_id } => {
            let value = admin.call(Method::GET, &["merchants", &merchant_id], None).await?;
            Ok(Shown { text: merchant_text(&value), value })
        }
        Action::Update { merchant_id, name, tier, own_limits, terms } => {
            let mut body = body_of([("name", name), ("tier", tier)], &terms);
            if own_limits.is_some() {
                take_away_limits(&mut body);
            }
            if body.as_object().is_none_or(Map::is_empty) {
                return Err(Failure::Usage(String::from(
                    "nothing to change; give --name, --tier, --country or a limit",
                )));
            }
            changed(admin, &merchant_id, &body).await
        }
        Action::Suspend { merchant_id } => changed(admin, &merchant_id, &json!({ "status": "suspended" })).await,
        Action::Activate { merchant_id } => changed(admin, &merchant_id, &json!({ "status": "active" })).await,
        Action::Delete { merchant_id } => {
            let value = admin.call(Method::DELETE, &["merchants", &merchant_id], None).await?;
            Ok(Shown { value, text: format!("merchant {merchant_id} is removed") })
        }
        Action::Limits { merchant_id: Some(merchant_id), .. } => {
            let value = admin.call(Method::GET, &["merchants", &merchant_id, "limits"], None).await?;
            Ok(Shown { text: limits_text(&value, Bars::for_output()), value })
        }
        Action::Limits { merchant_id: None, near, limit } => {
            let (near, limit) = (near.to_string(), limit.to_string());
            let mut value = admin.get(&["limits"], &[("near", near.as_str()), ("limit", limit.as_str())]).await?;
            let rows = value.get_mut("items").map_or(Value::Null, Value::take);
            let text = fullest_table(rows.as_array().map_or(&[][..], Vec::as_slice), Bars::for_output());
            Ok(Shown { value: json!({ "items": rows }), text })
        }
        Action::Key(KeyAction::Add { merchant_id }) => {
            let value = admin.call(Method::POST, &["merchants", &merchant_id, "keys"], Some(&json!({}))).await?;
            Ok(Shown { text: key_text(&value), value })
        }
        Action::Key(KeyAction::Remove { merchant_id, key_id }) => {
            let value = admin.call(Method::DELETE, &["merchants", &merchant_id, "keys", &key_id], None).await?;
            Ok(Shown { value, text: format!("key {key_id} is removed") })
        }
    }
}

async fn changed(admin: &Admin, merchant_id: &str, body: &Value) -> Result<Shown, Failure> {
    let value = admin.call(Method::PATCH, &["merchants", merchant_id], Some(body)).await?;
    Ok(Shown { text: merchant_text(&value), value })
}

/// A body with what was given and nothing else.
fn body_of(texts: [(&str, Option<String>); 2], terms: &Terms) -> Value {
    let mut body = Map::new();
    let given = texts.into_iter().chain([("country", terms.country.clone())]);
    for (key, value) in given {
        if let Some(value) = value {
            body.insert(String::from(key), Value::String(value));
        }
    }
    if let Some(channels) = &terms.channels {
        let names: Vec<&str> = channels.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        body.insert(String::from("channels"), json!(names));
    }
    let figures = [terms.per_second, terms.per_minute, terms.per_hour, terms.burst, terms.concurrent];
    let limits: Map<String, Value> = LIMITS
        .into_iter()
        .zip(figures)
        .filter_map(|(key, figure)| figure.map(|figure| (String::from(key), json!(figure))))
        .collect();
    if !limits.is_empty() {
        body.insert(String::from("limits"), Value::Object(limits));
    }
    Value::Object(body)
}

/// Limits that are not in the body go back to the tier's.
fn take_away_limits(body: &mut Value) {
    match body.get_mut("limits").and_then(Value::as_object_mut) {
        Some(limits) => {
            for key in LIMITS {
                limits.entry(key).or_insert(Value::Null);
            }
        }
        None => body["limits"] = Value::Null,
    }
}

fn text_of(value: &Value, key: &str) -> String {
    or_dash(value.get(key).and_then(Value::as_str))
}

fn list_of(value: &Value, key: &str) -> String {
    let items = value.get(key).and_then(Value::as_array);
    let names: Vec<&str> = items.into_iter().flatten().filter_map(Value::as_str).collect();
    or_dash(Some(&names.join(", ")))
}

fn merchants_table(merchants: &Value) -> String {
    let mut columns = ["merchant", "name", "tier", "country", "status", "keys", "created"].map(Column::Left);
    columns[4] = Column::Status("status");
    let rows: Vec<Vec<String>> = rows_of(merchants)
        .map(|row| {
            let mut cells: Vec<String> =
                ["merchant_id", "name", "tier", "country", "status"].iter().map(|key| text_of(row, key)).collect();
            cells.extend([list_of(row, "keys"), text_of(row, "created_at")]);
            cells
        })
        .collect();
    table(&columns, &rows)
}

/// One merchant, a line a fact.
fn merchant_text(value: &Value) -> String {
    let limits = value.get("limits").and_then(Value::as_object);
    let own: Vec<String> = limits.into_iter().flatten().map(|(key, figure)| format!("{key} {figure}")).collect();
    let mut facts: Vec<(&str, String)> =
        [("merchant", "merchant_id"), ("name", "name"), ("tier", "tier"), ("country", "country"), ("status", "status")]
            .map(|(title, key)| (title, text_of(value, key)))
            .into();
    facts.extend([
        ("own limits", or_dash(Some(&own.join(", ")))),
        ("channels", list_of(value, "channels")),
        ("keys", list_of(value, "keys")),
        ("created", text_of(value, "created_at")),
        ("changed", text_of(value, "updated_at")),
    ]);
    let lines: Vec<String> = facts.into_iter().map(|(title, text)| format!("{title:<12}{text}")).collect();
    lines.join("\n")
}

fn key_text(key: &Value) -> String {
    format!(
        "{:<12}{}\n{:<12}{}\n(the secret is shown this once; keep it safe)",
        "key",
        text_of(key, "id"),
        "secret",
        text_of(key, "secret")
    )
}

/// A key as `tollgate request` and the documents' examples look for it. Ids and secrets need no quotes.
fn key_for_shell(key: &Value) -> String {
    format!("export TOLLGATE_KEY={}\nexport TOLLGATE_SECRET={}", text_of(key, "id"), text_of(key, "secret"))
}

#[cfg(test)]
mod tests;
