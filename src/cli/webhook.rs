//! `tollgate webhook …`: merchants' endpoints and what is on its way to them, through the admin API.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::paging::{self, Paging, rows_of};
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
        #[command(flatten)]
        paging: Paging,
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
    /// Close an endpoint's breaker at once and forget how it did
    ResetHealth {
        /// Its id, we_…
        endpoint_id: String,
    },
    /// List jobs with how far they are, newest first: a merchant's, or all that are under way
    Jobs {
        /// The merchant, m_…
        #[arg(long, value_name = "ID")]
        merchant: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show how far a job is
    ShowJob {
        /// Its id, wj_…
        job_id: String,
    },
    /// End a job where it is; what it has done stays
    CancelJob {
        /// Its id, wj_…
        job_id: String,
    },
    /// List a merchant's or an endpoint's notifications, newest first
    Notifications {
        /// The merchant, m_…
        #[arg(long, value_name = "ID", required_unless_present = "endpoint")]
        merchant: Option<String>,
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
        /// Given up for this reason: exhausted, refused, canceled, endpoint_deleted, endpoint_disabled or expired
        #[arg(long)]
        failure: Option<String>,
        /// Made at or after this, such as 2026-01-02T03:04:05Z
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Made before this
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
        #[command(flatten)]
        paging: Paging,
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
    paging::print(&value, is_json, text)?;
    Ok(Outcome::Fine)
}

type Text = fn(&Value) -> String;

async fn carry_out(admin: &Admin, action: Action) -> Result<(Value, Text), Failure> {
    let get = async |what: &str, id: &str| admin.get(&["webhooks", what, id], &[]).await;
    let post = async |what: &str, id: &str, act: &str, body: Option<Value>| {
        admin.call(Method::POST, &["webhooks", what, id, act], body.as_ref()).await
    };
    Ok(match action {
        Action::List { merchant, status, health, paging } => {
            let filter = [("merchant_id", merchant), ("status", status), ("health", health)];
            (rows(admin, "endpoints", &filter, &paging).await?, endpoints_table)
        }
        Action::Show { endpoint_id } => (get("endpoints", &endpoint_id).await?, fields_text),
        Action::Pause { endpoint_id } => (post("endpoints", &endpoint_id, "pause", None).await?, fields_text),
        Action::Enable { endpoint_id, send_kept } => {
            let body = send_kept.then(|| json!({ "kept": "send" }));
            (post("endpoints", &endpoint_id, "enable", body).await?, fields_text)
        }
        Action::Recover { endpoint_id, since } => {
            let body = json!({ "since": since });
            (post("endpoints", &endpoint_id, "recover", Some(body)).await?, fields_text)
        }
        Action::ResetHealth { endpoint_id } => {
            (post("endpoints", &endpoint_id, "reset-health", None).await?, fields_text)
        }
        Action::Jobs { merchant, paging } => {
            (rows(admin, "jobs", &[("merchant_id", merchant)], &paging).await?, jobs_table)
        }
        Action::ShowJob { job_id } => (get("jobs", &job_id).await?, fields_text),
        Action::CancelJob { job_id } => (post("jobs", &job_id, "cancel", None).await?, fields_text),
        Action::Notifications { merchant, status, endpoint, event, payment, failure, from, to, paging } => {
            let filter = [
                ("merchant_id", merchant),
                ("status", status),
                ("endpoint_id", endpoint),
                ("event", event),
                ("payment_no", payment),
                ("failure", failure),
                ("from", from),
                ("to", to),
            ];
            (rows(admin, "notifications", &filter, &paging).await?, notifications_table)
        }
        Action::ShowNotification { notification_id } => {
            (get("notifications", &notification_id).await?, notification_text)
        }
        Action::Retry { notification_id } => {
            (post("notifications", &notification_id, "retry", None).await?, notification_text)
        }
    })
}

async fn rows(admin: &Admin, list: &str, filter: &[(&str, Option<String>)], paging: &Paging) -> Result<Value, Failure> {
    let filter: Vec<(&str, &str)> =
        filter.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    Ok(admin.list_with(&["webhooks", list], &filter, paging).await?.into_value())
}

fn text_of(row: &Value, key: &str) -> String {
    or_dash(row.get(key).and_then(Value::as_str))
}

/// A column and what stands in it.
type Cells = (Column, fn(&Value) -> String);

fn listed(rows: &Value, cells: &[Cells]) -> String {
    let columns: Vec<Column> = cells.iter().map(|(column, _)| *column).collect();
    let of_row = |row: &Value| cells.iter().map(|(_, cell)| cell(row)).collect();
    table(&columns, &rows_of(rows).map(of_row).collect::<Vec<_>>())
}

fn endpoints_table(rows: &Value) -> String {
    let cells: [Cells; 7] = [
        (Column::Left("endpoint"), |row| text_of(row, "id")),
        (Column::Left("merchant"), |row| text_of(row, "merchant_id")),
        (Column::Status("status"), |row| text_of(row, "status")),
        (Column::Status("health"), |row| text_of(&row["health"], "state")),
        (Column::Left("failing since"), |row| text_of(&row["health"], "failing_since")),
        (Column::Left("events"), |row| shown(&row["events"])),
        (Column::Left("url"), |row| text_of(row, "url")),
    ];
    listed(rows, &cells)
}

fn notifications_table(rows: &Value) -> String {
    let cells: [Cells; 10] = [
        (Column::Left("notification"), |row| text_of(row, "id")),
        (Column::Left("event"), |row| text_of(row, "event")),
        (Column::Left("payment"), |row| {
            text_of(row, if row["pre_auth_no"].is_string() { "pre_auth_no" } else { "payment_no" })
        }),
        (Column::Left("endpoint"), |row| text_of(row, "endpoint_id")),
        (Column::Status("status"), |row| text_of(row, "status")),
        (Column::Right("tries"), |row| shown(&row["attempts"])),
        (Column::Left("next try"), |row| text_of(row, "next_retry_at")),
        (Column::Left("created"), |row| text_of(row, "created_at")),
        (Column::Left("given up"), |row| text_of(row, "failure")),
        (Column::Left("error"), |row| text_of(row, "error")),
    ];
    listed(rows, &cells)
}

fn jobs_table(rows: &Value) -> String {
    let cells: [Cells; 11] = [
        (Column::Left("job"), |row| text_of(row, "id")),
        (Column::Left("merchant"), |row| text_of(row, "merchant_id")),
        (Column::Left("kind"), |row| text_of(row, "kind")),
        (Column::Status("status"), |row| text_of(row, "status")),
        (Column::Left("endpoint"), |row| text_of(row, "endpoint_id")),
        (Column::Left("only"), |row| only(&row["filter"])),
        (Column::Right("looked at"), |row| shown(&row["looked_at"])),
        (Column::Right("changed"), |row| shown(&row["changed"])),
        (Column::Right("skipped"), |row| shown(&row["skipped"])),
        (Column::Left("created"), |row| text_of(row, "created_at")),
        (Column::Left("finished"), |row| text_of(row, "finished_at")),
    ];
    listed(rows, &cells)
}

/// What a job's filter says.
fn only(filter: &Value) -> String {
    let values = filter.as_object().into_iter().flat_map(|fields| fields.values()).filter_map(Value::as_str);
    or_dash(Some(&values.collect::<Vec<_>>().join(", ")))
}

/// Where the values of [`fields_text`] begin.
const VALUES_AT: usize = 28;

/// A value as text.
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
    lines.into_iter().map(|(name, text)| field_line(&name, &text)).collect::<Vec<_>>().join("\n")
}

/// A name and its value. What a receiver answers may have any number of lines; none of them may look like another field.
fn field_line(name: &str, text: &str) -> String {
    let below = format!("\n{:VALUES_AT$}", "");
    format!("{name:<VALUES_AT$}{}", text.lines().collect::<Vec<_>>().join(&below))
}

/// One notification with its tries as a table.
fn notification_text(value: &Value) -> String {
    let mut without_tries = value.clone();
    let tries = without_tries.as_object_mut().and_then(|fields| fields.remove("tries")).unwrap_or_default();
    let cells: [Cells; 5] = [
        (Column::Left("try at"), |a_try| text_of(a_try, "at")),
        (Column::Right("took"), |a_try| format!("{} ms", a_try["duration_ms"])),
        (Column::Right("status"), |a_try| shown(&a_try["status_code"])),
        (Column::Left("error"), |a_try| text_of(a_try, "error")),
        // What a receiver answers may have any number of lines.
        (Column::Left("answer"), |a_try| {
            let answer = text_of(a_try, "response").split_whitespace().collect::<Vec<_>>().join(" ");
            answer.chars().take(60).collect()
        }),
    ];
    let fields = fields_text(&without_tries);
    let is_tried = tries.as_array().is_some_and(|tries| !tries.is_empty());
    if is_tried { format!("{fields}\n\n{}", listed(&tries, &cells)) } else { fields }
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
        let job = json!({ "id": "wj_1", "merchant_id": "m_1", "kind": "retry", "status": "running", "looked_at": 640,
            "filter": { "event": "payment.failed", "failure": "refused", "payment_no": null, "status": null } });
        let listed = jobs_table(&json!([job]));
        assert!(
            listed.contains("m_1") && listed.contains("640") && listed.contains("payment.failed, refused"),
            "{listed}"
        );
        let forged = fields_text(&json!({ "response": "no\r\nstatus  success", "status": "failed" }));
        assert_eq!(forged.lines().filter(|line| line.starts_with("status")).count(), 1, "{forged}");
        assert!(forged.contains(&format!("{:VALUES_AT$}no\n{:VALUES_AT$}status  success", "response", "")), "{forged}");
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
            (200, page),
            (200, one),
            (200, one),
            (200, one),
            (409, r#"{"code":"INVALID_STATE","message":"Not possible"}"#),
        ])
        .await;
        let admin = Admin::at(&server.url, "token").unwrap();
        let (endpoint_id, notification_id) = (String::from("we_1"), String::from("wn_1"));
        let actions = [
            Action::List { merchant: None, status: None, health: Some(String::from("open")), paging: Paging::first(5) },
            Action::Show { endpoint_id: endpoint_id.clone() },
            Action::Pause { endpoint_id: endpoint_id.clone() },
            Action::Enable { endpoint_id, send_kept: true },
            Action::Notifications {
                merchant: Some(String::from("m_1")),
                status: Some(String::from("failed")),
                endpoint: None,
                event: None,
                payment: None,
                failure: Some(String::from("refused")),
                from: None,
                to: Some(String::from("T")),
                paging: Paging::first(20),
            },
            Action::ShowNotification { notification_id: notification_id.clone() },
            Action::Recover { endpoint_id: String::from("we_1"), since: String::from("T") },
            Action::Jobs { merchant: Some(String::from("m_1")), paging: Paging::first(7) },
            Action::Jobs { merchant: None, paging: Paging::first(7) },
            Action::ShowJob { job_id: String::from("wj_1") },
            Action::CancelJob { job_id: String::from("wj_1") },
            Action::ResetHealth { endpoint_id: String::from("we_1") },
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
                "GET /admin/v1/webhooks/notifications?limit=20&merchant_id=m_1&status=failed&failure=refused&to=T",
                "GET /admin/v1/webhooks/notifications/wn_1",
                "POST /admin/v1/webhooks/endpoints/we_1/recover",
                "GET /admin/v1/webhooks/jobs?limit=7&merchant_id=m_1",
                "GET /admin/v1/webhooks/jobs?limit=7",
                "GET /admin/v1/webhooks/jobs/wj_1",
                "POST /admin/v1/webhooks/jobs/wj_1/cancel",
                "POST /admin/v1/webhooks/endpoints/we_1/reset-health",
                "POST /admin/v1/webhooks/notifications/wn_1/retry",
            ]
        );
        assert_eq!(server.asked()[3].json(), json!({ "kept": "send" }));
        assert!(server.asked().iter().all(|asked| asked.header("authorization") == "Bearer token"));
    }
}
