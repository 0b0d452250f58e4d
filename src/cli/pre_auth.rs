//! `tollgate pre-auth …`: pre-auths of all merchants, through the admin API.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::list_filter::ListFilter;
use super::paging::{self, Paging, rows_of};
use super::payment::{money, money_of, object_text, text_of};
use super::table::{Column, table};

/// Flags of `pre-auth`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List pre-auths, newest first
    List {
        /// In this status, such as requires_capture
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        filter: ListFilter,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one pre-auth
    Show {
        /// Its number, PA…
        pre_auth_no: String,
    },
    /// Say where a pre-auth in needs_review stands, as its provider shows it
    Resolve {
        /// Its number, PA…
        pre_auth_no: String,
        /// requires_capture: the money is held; captured: --captured of it was taken; canceled: nothing is held any more;
        /// failed: nothing ever was
        #[arg(long, value_parser = ["requires_capture", "captured", "canceled", "failed"])]
        status: String,
        /// What was taken, in minor units (with --status captured)
        #[arg(long, value_name = "MINOR", value_parser = clap::value_parser!(i64).range(1..))]
        captured: Option<i64>,
        /// When the provider lets the money go, such as 2025-01-24T10:30:45Z (with --status requires_capture)
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// How that was found out
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Does what was asked through the admin API and prints the result.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let (value, text): (Value, fn(&Value) -> String) = match arguments.action {
        Action::List { status, filter, paging } => {
            let query = filter.query(status.as_deref());
            (admin.list_with(&["pre-auths"], &query, &paging).await?.into_value(), pre_auths_table)
        }
        Action::Show { pre_auth_no } => {
            (admin.call(Method::GET, &["pre-auths", pre_auth_no.as_str()], None).await?, pre_auth_text)
        }
        Action::Resolve { pre_auth_no, status, captured, expires_at, reason } => {
            let mut body = json!({ "status": status, "reason": reason });
            for (name, value) in
                [("captured_amount", captured.map(Value::from)), ("expires_at", expires_at.map(Value::from))]
            {
                if let Some(value) = value {
                    body[name] = value;
                }
            }
            let path = ["pre-auths", pre_auth_no.as_str(), "resolve"];
            (admin.call(Method::POST, &path, Some(&body)).await?, pre_auth_text)
        }
    };
    paging::print(&value, arguments.admin.json, text)?;
    Ok(Outcome::Fine)
}

fn pre_auths_table(rows: &Value) -> String {
    let columns = [
        Column::Left("pre-auth"),
        Column::Left("merchant"),
        Column::Left("order"),
        Column::Right("amount"),
        Column::Status("status"),
        Column::Left("channel"),
        Column::Right("captured"),
        Column::Right("refunded"),
        Column::Left("expires"),
        Column::Left("created"),
    ];
    let cells = |row: &Value| {
        let amount = |name: &str| money_of(row[name].as_i64(), row["currency"].as_str());
        vec![
            text_of(row, "pre_auth_no"),
            text_of(row, "merchant_id"),
            text_of(row, "order_no"),
            money(row),
            text_of(row, "status"),
            text_of(row, "channel"),
            amount("captured_amount"),
            amount("refunded_amount"),
            text_of(row, "expires_at"),
            text_of(row, "created_at"),
        ]
    };
    table(&columns, &rows_of(rows).map(cells).collect::<Vec<_>>())
}

/// One pre-auth, a line for each field that it has, and one for each operation.
fn pre_auth_text(pre_auth: &Value) -> String {
    let mut fields = pre_auth.clone();
    let operations = fields.as_object_mut().and_then(|fields| fields.remove("operations")).unwrap_or_default();
    let currency = pre_auth["currency"].as_str();
    let line = |operation: &Value| {
        let [kind, status, at] = ["kind", "status", "at"].map(|name| text_of(operation, name));
        let amount = operation["amount"].as_i64().map(|minor| format!(" of {}", money_of(Some(minor), currency)));
        let why = operation["failure"]["code"].as_str().map(|code| format!(" ({code})"));
        format!("{at}  {kind}{}: {status}{}", amount.unwrap_or_default(), why.unwrap_or_default())
    };
    let lines = operations.as_array().into_iter().flatten().map(line);
    std::iter::once(object_text(&fields)).chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pre_auth_is_shown_with_what_was_asked_of_its_channel() {
        let pre_auth = json!({
            "pre_auth_no": "PA1", "amount": 10_000, "captured_amount": 2_500, "currency": "USD",
            "channel_pre_auth_no": "pi_1",
            "operations": [
                { "kind": "authorize", "status": "done", "at": "T1" },
                { "kind": "capture", "status": "refused", "amount": 2_500, "at": "T2",
                  "failure": { "code": "expired", "message": "", "decline_scope": "bank" } },
            ],
        });
        let expected = "amount               100.00 USD\n\
            captured_amount      25.00 USD\n\
            channel_pre_auth_no  pi_1\n\
            pre_auth_no          PA1\n\
            T1  authorize: done\n\
            T2  capture of 25.00 USD: refused (expired)";
        assert_eq!(pre_auth_text(&pre_auth), expected);
    }

    #[test]
    fn a_list_says_what_is_held_and_taken() {
        let row = json!({ "pre_auth_no": "PA1", "merchant_id": "m_1", "amount": 10_000, "captured_amount": 0,
            "refunded_amount": 0, "currency": "JPY", "status": "requires_capture", "expires_at": "T" });
        let listed = pre_auths_table(&json!([row]));
        for part in ["PA1", "m_1", "10000 JPY", "requires_capture", "0 JPY"] {
            assert!(listed.contains(part), "{part} is missing in\n{listed}");
        }
    }
}
