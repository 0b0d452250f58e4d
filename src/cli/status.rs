//! `tollgate status`: how a running gateway does, on one screen.

use clap::Args;
use serde_json::Value;

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::duration::duration_text;
use super::failure::{Failure, Outcome};
use super::paging;
use super::table::{Column, or_dash, table};

/// Flags of `status`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
}

/// Asks the gateway and prints what it says. Fine when it takes requests.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let stats = admin.get(&["stats"], &[]).await?;
    let channels = admin.get(&["channels"], &[]).await?;
    // A gateway whose store was handed over by the program around it has none to look at.
    let store = match admin.get(&["store"], &[]).await {
        Err(Failure::Refused { answer, .. }) if answer["code"] == "NOT_FOUND" => Value::Null,
        other => other?,
    };
    let is_ready = stats["ready"] == true;
    let mut status = stats;
    status["channels"] = channels["items"].clone();
    status["store"] = store;
    paging::print(&status, arguments.admin.json, status_text)?;
    Ok(if is_ready { Outcome::Fine } else { Outcome::Failed })
}

fn status_text(status: &Value) -> String {
    let facts = [
        ("gateway", readiness(status)),
        ("version", format!("{}, {}", text(&status["version"]), text(&status["mode"]))),
        (
            "up for",
            status["uptime_s"].as_u64().map_or_else(
                || or_dash(None),
                |uptime_s| format!("{} (since {})", duration_text(uptime_s), text(&status["started_at"])),
            ),
        ),
        ("store", store_state(&status["store"])),
        ("requests", limits_text(&status["limits"])),
        ("webhooks", webhooks_text(&status["webhooks"])),
    ];
    let rows: Vec<Vec<String>> = facts.into_iter().map(|(name, fact)| vec![String::from(name), fact]).collect();
    let facts = table(&[Column::Left("status"), Column::Status("")], &rows);
    format!("{facts}\n\n{}", channels_table(&status["channels"]))
}

fn readiness(status: &Value) -> String {
    String::from(match (status["ready"] == true, status["stopping"] == true) {
        (true, _) => "ready",
        (false, true) => "stopping",
        (false, false) => "not ready: it is taking over what was left behind, or its store takes nothing new",
    })
}

fn store_state(store: &Value) -> String {
    if store.is_null() {
        return or_dash(None);
    }
    if let Some(reason) = store["poisoned"].as_str() {
        return format!("failed: {reason}");
    }
    let state = match (store["accepts_new"] == true, store["held"] == true) {
        (true, false) => "fine",
        (_, true) => "running, held after a restore (`tollgate store hold`)",
        (false, false) => "refused: it takes nothing new",
    };
    let free = store["free_bytes"].as_u64().map(|bytes| format!(", {} MiB free", bytes >> 20)).unwrap_or_default();
    format!("{state}, change {}{free}", store["committed_sequence"])
}

fn limits_text(limits: &Value) -> String {
    let number = |key: &str| limits[key].as_u64().unwrap_or(0);
    let by: Vec<String> = limits["refused_by"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(limit, count)| format!("{limit} {count}"))
        .collect();
    let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
    let refused = number("refused");
    format!(
        "{} admitted, {refused} refused by limits{by}, {} merchants active",
        number("admitted"),
        number("merchants_active")
    )
}

fn webhooks_text(webhooks: &Value) -> String {
    let number = |key: &str| or_dash(webhooks[key].as_u64().map(|number| number.to_string()).as_deref());
    format!("{} waiting, {} given up", number("waiting"), number("dead_letters"))
}

fn channels_table(channels: &Value) -> String {
    let columns = [
        Column::Left("channel"),
        Column::Status("enabled"),
        Column::Status("breaker"),
        Column::Right("success"),
        Column::Right("samples"),
        Column::Right("in flight"),
    ];
    let cells = |channel: &Value| {
        let success = channel["success_rate"].as_f64().map(|rate| format!("{:.1} %", rate * 100.0));
        let count = |key: &str| channel[key].as_u64().unwrap_or(0).to_string();
        let enabled = if channel["lacks"].is_string() {
            "no credentials"
        } else if channel["enabled"] == true {
            "yes"
        } else {
            "no"
        };
        vec![
            text(&channel["name"]),
            String::from(enabled),
            text(&channel["breaker"]),
            or_dash(success.as_deref()),
            count("samples"),
            count("in_flight"),
        ]
    };
    table(&columns, &channels.as_array().into_iter().flatten().map(cells).collect::<Vec<_>>())
}

fn text(value: &Value) -> String {
    or_dash(value.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_screen_says_it_all() {
        let status = json!({
            "ready": true, "stopping": false, "version": "0.1.0", "mode": "sandbox", "uptime_s": 7_300,
            "started_at": "2026-01-01T00:00:00Z",
            "limits": { "admitted": 70, "refused": 3, "refused_by": { "second": 3, "hour": 0 }, "merchants_active": 2 },
            "webhooks": { "waiting": 4, "dead_letters": null },
            "store": { "accepts_new": true, "held": false, "committed_sequence": 9, "free_bytes": 5_u64 << 20 },
            "channels": [{ "name": "stripe", "enabled": true, "breaker": "open", "success_rate": 0.5, "samples": 8,
                "in_flight": 1 }],
        });
        let shown = status_text(&status);
        for part in [
            "ready",
            "0.1.0, sandbox",
            "2 h (since 2026-01-01T00:00:00Z)",
            "fine, change 9, 5 MiB free",
            "70 admitted, 3 refused by limits (second 3), 2 merchants active",
            "4 waiting, - given up",
            "50.0 %",
        ] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        assert!(shown.lines().count() < 20, "{shown}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(readiness(&json!({ "ready": false, "stopping": true })), "stopping");
        assert!(readiness(&json!({ "ready": false, "stopping": false })).starts_with("not ready"));
        assert_eq!(store_state(&Value::Null), "-");
        assert_eq!(store_state(&json!({ "poisoned": "a sync failed" })), "failed: a sync failed");
        assert!(store_state(&json!({ "accepts_new": false, "held": true })).contains("store hold"));
        assert!(store_state(&json!({ "accepts_new": false, "held": false })).starts_with("refused"));
    }
}
