//! `tollgate webhook …`: merchants' endpoints and what is on its way to them, through the admin API.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::table::{Column, or_dash, table};

/// Flags of `webhook`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List endpoints with how they do
    List {
        /// Of this merchant, m_…
        #[arg(long, value_name = "ID")]
        merchant: Option<String>,
        /// enabled, paused or disabled
        #[arg(long)]
        status: Option<String>,
        /// healthy, failing, open or unknown
        #[arg(long)]
        health: Option<String>,
        /// Most rows
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Show one endpoint
    Show {
        /// Its id, we_…
        endpoint_id: String,
    },
    /// Send nothing to an endpoint for now; what happens is kept
    Pause {
        /// Its id, we_…
        endpoint_id: String,
    },
    /// Send to an endpoint again
    Enable {
        /// Its id, we_…
        endpoint_id: String,
        /// Also send what was kept since it was disabled
        #[arg(long)]
        send_kept: bool,
    },
    /// Send an endpoint again what it has missed
    Recover {
        /// Its id, we_…
        endpoint_id: String,
        /// From then on, such as 2026-01-02T03:04:05Z
        #[arg(long, value_name = "TIME")]
        since: String,
    },
    /// List a merchant's jobs, newest first, with how far they are
    Jobs {
        /// The merchant, m_…
        #[arg(long, value_name = "ID")]
        merchant: String,
        /// Most rows
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// List a merchant's notifications, newest first
    Notifications {
        /// The merchant, m_…
        #[arg(long, value_name = "ID")]
        merchant: String,
        /// pending, retrying, success or failed
        #[arg(long)]
        status: Option<String>,
        /// To this endpoint, we_…
        #[arg(long, value_name = "ID")]
        endpoint: Option<String>,
        /// Of this event, such as payment.success
        #[arg(long)]
        event: Option<String>,
        /// About this payment, PY…
        #[arg(long, value_name = "NO")]
        payment: Option<String>,
        /// Most rows
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Show one notification with its tries
    ShowNotification {
        /// Its id, wn_…
        notification_id: String,
    },
    /// Send a notification again that was given up
    Retry {
        /// Its id, wn_…
        notification_id: String,
    },
}

/// Does what was asked through the admin API and prints the result.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let is_json = arguments.admin.json;
    let (value, text) = carry_out(&admin, arguments.action).await?;
    if is_json {
        output::json(&value)?
    } else {
        output::line(&text(&value))?
    }
    Ok(Outcome::Fine)
}

type Text = fn(&Value) -> String;

async fn carry_out(admin: &Admin, action: Action) -> Result<(Value, Text), Failure> {
    let endpoint = |id| ["webhooks", "endpoints", id];
    let notification = |id| ["webhooks", "notifications", id];
    Ok(match action {
        Action::List { merchant, status, health, limit } => {
            let filter = [("merchant_id", merchant), ("status", status), ("health", health)];
            (rows(admin, "endpoints", &filter, limit).await?, endpoints_table)
        }
        Action::Show { endpoint_id } => (admin.get(&endpoint(&endpoint_id), &[]).await?, fields_text),
        Action::Pause { endpoint_id } => {
            let path = ["webhooks", "endpoints", endpoint_id.as_str(), "pause"];
            (admin.call(Method::POST, &path, None).await?, fields_text)
        }
        Action::Enable { endpoint_id, send_kept } => {
            let path = ["webhooks", "endpoints", endpoint_id.as_str(), "enable"];
            let body = send_kept.then(|| json!({ "kept": "send" }));
            (admin.call(Method::POST, &path, body.as_ref()).await?, fields_text)
        }
        Action::Recover { endpoint_id, since } => {
            let path = ["webhooks", "endpoints", endpoint_id.as_str(), "recover"];
            (admin.call(Method::POST, &path, Some(&json!({ "since": since }))).await?, fields_text)
        }
        Action::Jobs { merchant, limit } => {
            (rows(admin, "jobs", &[("merchant_id", Some(merchant))], limit).await?, jobs_table)
        }
        Action::Notifications { merchant, status, endpoint, event, payment, limit } => {
            let filter = [
                ("merchant_id", Some(merchant)),
                ("status", status),
                ("endpoint_id", endpoint),
                ("event", event),
                ("payment_no", payment),
            ];
            (rows(admin, "notifications", &filter, limit).await?, notifications_table)
        }
        Action::ShowNotification { notification_id } => {
            (admin.get(&notification(&notification_id), &[]).await?, notification_text)
        }
        Action::Retry { notification_id } => {
            let path = ["webhooks", "notifications", notification_id.as_str(), "retry"];
            (admin.call(Method::POST, &path, None).await?, notification_text)
        }
    })
}

async fn rows(admin: &Admin, list: &str, filter: &[(&str, Option<String>)], limit: u32) -> Result<Value, Failure> {
    let filter: Vec<(&str, &str)> =
        filter.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let rows_max = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Value::Array(admin.list_with(&["webhooks", list], &filter, rows_max).await?))
}

fn text_of(row: &Value, key: &str) -> String {
    or_dash(row.get(key).and_then(Value::as_str))
}

fn endpoints_table(rows: &Value) -> String {
    let columns = [
        Column::Left("endpoint"),
        Column::Left("merchant"),
        Column::Left("status"),
        Column::Left("health"),
        Column::Left("failing since"),
        Column::Left("events"),
        Column::Left("url"),
    ];
    let cells = |row: &Value| {
        vec![
            text_of(row, "id"),
            text_of(row, "merchant_id"),
            text_of(row, "status"),
            text_of(&row["health"], "state"),
            text_of(&row["health"], "failing_since"),
            shown(&row["events"]),
            text_of(row, "url"),
        ]
    };
    table(&columns, &rows.as_array().into_iter().flatten().map(cells).collect::<Vec<_>>())
}

fn notifications_table(rows: &Value) -> String {
    let columns = [
        Column::Left("notification"),
        Column::Left("event"),
        Column::Left("payment"),
        Column::Left("endpoint"),
        Column::Left("status"),
        Column::Right("tries"),
        Column::Left("next try"),
        Column::Left("created"),
        Column::Left("error"),
    ];
    let cells = |row: &Value| {
        vec![
            text_of(row, "id"),
            text_of(row, "event"),
            text_of(row, if row["pre_auth_no"].is_string() { "pre_auth_no" } else { "payment_no" }),
            text_of(row, "endpoint_id"),
            text_of(row, "status"),
            row["attempts"].to_string(),
            text_of(row, "next_retry_at"),
            text_of(row, "created_at"),
            text_of(row, "error"),
        ]
    };
    table(&columns, &rows.as_array().into_iter().flatten().map(cells).collect::<Vec<_>>())
}

fn jobs_table(rows: &Value) -> String {
    let columns = [
        Column::Left("job"),
        Column::Left("kind"),
        Column::Left("status"),
        Column::Left("endpoint"),
        Column::Right("looked at"),
        Column::Right("changed"),
        Column::Right("skipped"),
        Column::Left("created"),
        Column::Left("finished"),
    ];
    let cells = |row: &Value| {
        vec![
            text_of(row, "id"),
            text_of(row, "kind"),
            text_of(row, "status"),
            text_of(row, "endpoint_id"),
            shown(&row["looked_at"]),
            shown(&row["changed"]),
            shown(&row["skipped"]),
            text_of(row, "created_at"),
            text_of(row, "finished_at"),
        ]
    };
    table(&columns, &rows.as_array().into_iter().flatten().map(cells).collect::<Vec<_>>())
}

/// A value in one line.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::from("-"),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A line for each field that there is, inner ones after a dot.
fn fields_text(value: &Value) -> String {
    let mut lines = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Object(fields) if name != "payload" => {
                let inner = fields.iter().filter(|(_, value)| !value.is_null());
                lines.extend(inner.map(|(inner, value)| (format!("{name}.{inner}"), shown(value))));
            }
            other => lines.push((name.clone(), shown(other))),
        }
    }
    lines.into_iter().map(|(name, text)| format!("{name:<28}{text}")).collect::<Vec<_>>().join("\n")
}

/// One notification with its tries as a table.
fn notification_text(value: &Value) -> String {
    let mut without_tries = value.clone();
    let tries = without_tries.as_object_mut().and_then(|fields| fields.remove("tries")).unwrap_or_default();
    let columns = [
        Column::Left("try at"),
        Column::Right("took"),
        Column::Right("status"),
        Column::Left("error"),
        Column::Left("answer"),
    ];
    let cells = |a_try: &Value| {
        let code = a_try["status_code"].as_u64().map(|code| code.to_string());
        // What a receiver answers may have any number of lines.
        let answer = text_of(a_try, "response").split_whitespace().collect::<Vec<_>>().join(" ");
        vec![
            text_of(a_try, "at"),
            format!("{} ms", a_try["duration_ms"]),
            or_dash(code.as_deref()),
            text_of(a_try, "error"),
            answer.chars().take(60).collect(),
        ]
    };
    let rows: Vec<Vec<String>> = tries.as_array().into_iter().flatten().map(cells).collect();
    let fields = fields_text(&without_tries);
    if rows.is_empty() { fields } else { format!("{fields}\n\n{}", table(&columns, &rows)) }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Scripted;
    use super::*;

    fn endpoint() -> Value {
        json!({ "id": "we_1", "merchant_id": "m_1", "status": "disabled", "disabled_reason": "it is gone",
            "events": ["payment.*", "refund.failed"], "url": "https://shop.example/", "max_attempts": 13,
            "health": { "state": "failing", "failing_since": "T1", "breaker": "closed", "opens_until": null },
            "description": null, "waiting": 3 })
    }

    #[test]
    fn endpoints_and_notifications_are_shown_without_json() {
        let listed = endpoints_table(&json!([endpoint()]));
        for part in ["we_1", "m_1", "disabled", "failing", "T1", "payment.*, refund.failed", "https://shop.example/"] {
            assert!(listed.contains(part), "{part} is missing in\n{listed}");
        }
        let one = fields_text(&endpoint());
        for line in [
            "health.state                failing",
            "waiting                     3",
            "disabled_reason             it is gone",
        ] {
            assert!(one.lines().any(|found| found == line), "{line} is missing in\n{one}");
        }
        assert!(!one.contains("description") && !one.contains("opens_until") && !one.contains('{'), "{one}");
        let notification = json!({ "id": "wn_1", "event": "payment.success", "payment_no": "PY1", "attempts": 2,
            "endpoint_id": "we_1", "status": "failed", "error": "the receiver answered 500", "created_at": "T0",
            "tries": [{ "at": "T2", "duration_ms": 12, "status_code": 500, "response": "no\n  room", "error": null }] });
        let listed = notifications_table(&json!([notification]));
        assert!(listed.contains("wn_1") && listed.contains("the receiver answered 500"), "{listed}");
        let one = notification_text(&notification);
        assert!(one.contains("12 ms") && one.contains("500") && one.contains("no room"), "{one}");
        assert!(!one.contains("tries  "), "{one}");
    }

    #[tokio::test]
    async fn what_is_asked_of_the_gateway() {
        let page = r#"{"data":{"items":[{"id":"we_1"}],"next_cursor":null}}"#;
        let one = r#"{"data":{"id":"we_1"}}"#;
        let server = Scripted::start(&[
            (200, page),
            (200, one),
            (200, one),
            (200, one),
            (200, page),
            (200, one),
            (202, one),
            (200, page),
            (409, r#"{"code":"INVALID_STATE","message":"Not possible"}"#),
        ])
        .await;
        let admin = Admin::at(&server.url, "token").unwrap();
        let (endpoint_id, notification_id) = (String::from("we_1"), String::from("wn_1"));
        let actions = [
            Action::List { merchant: None, status: None, health: Some(String::from("open")), limit: 5 },
            Action::Show { endpoint_id: endpoint_id.clone() },
            Action::Pause { endpoint_id: endpoint_id.clone() },
            Action::Enable { endpoint_id, send_kept: true },
            Action::Notifications {
                merchant: String::from("m_1"),
                status: Some(String::from("failed")),
                endpoint: None,
                event: None,
                payment: None,
                limit: 20,
            },
            Action::ShowNotification { notification_id: notification_id.clone() },
            Action::Recover { endpoint_id: String::from("we_1"), since: String::from("T") },
            Action::Jobs { merchant: String::from("m_1"), limit: 7 },
        ];
        for action in actions {
            carry_out(&admin, action).await.unwrap();
        }
        assert!(carry_out(&admin, Action::Retry { notification_id }).await.is_err());
        let asked: Vec<String> = server.asked().iter().map(|asked| format!("{} {}", asked.method, asked.uri)).collect();
        assert_eq!(
            asked,
            [
                "GET /admin/v1/webhooks/endpoints?limit=5&health=open",
                "GET /admin/v1/webhooks/endpoints/we_1",
                "POST /admin/v1/webhooks/endpoints/we_1/pause",
                "POST /admin/v1/webhooks/endpoints/we_1/enable",
                "GET /admin/v1/webhooks/notifications?limit=20&merchant_id=m_1&status=failed",
                "GET /admin/v1/webhooks/notifications/wn_1",
                "POST /admin/v1/webhooks/endpoints/we_1/recover",
                "GET /admin/v1/webhooks/jobs?limit=7&merchant_id=m_1",
                "POST /admin/v1/webhooks/notifications/wn_1/retry",
            ]
        );
        assert_eq!(server.asked()[3].json(), json!({ "kept": "send" }));
        assert!(server.asked().iter().all(|asked| asked.header("authorization") == "Bearer token"));
    }
}
