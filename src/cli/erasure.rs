//! `tollgate erasure …`: customers' data is erased, through the admin API.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::paging::{self, Paging, rows_of};
use super::table::{Column, or_dash, table};

/// Flags of `erasure`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Erase the customer's data of one payment
    Payment {
        /// The merchant's id, m_…
        merchant_id: String,
        /// The payment's number, PY…
        payment_no: String,
    },
    /// Erase the customer's data of one pre-auth
    PreAuth {
        /// The merchant's id, m_…
        merchant_id: String,
        /// The pre-auth's number, PA…
        pre_auth_no: String,
    },
    /// Erase the data of one customer of a merchant, in all payments and pre-auths that are final
    Customer {
        /// The merchant's id, m_…
        merchant_id: String,
        #[command(flatten)]
        customer: Customer,
    },
    /// List erasures, newest first
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show how far an erasure is
    Show {
        /// Its id, er_…
        erasure_id: String,
    },
}

/// Who the customer is.
#[derive(Debug, Args)]
#[group(id = "who", required = true, multiple = false)]
struct Customer {
    /// The customer_email of payments and pre-auths
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// The customer_id in their metadata
    #[arg(long, value_name = "ID")]
    customer_id: Option<String>,
}

impl Customer {
    fn command(self) -> Value {
        let fields = [("customer_email", self.email), ("customer_id", self.customer_id)];
        let given = fields.into_iter().filter_map(|(name, value)| Some((String::from(name), json!(value?))));
        Value::Object(Map::from_iter(given))
    }
}

/// Does what was asked through the admin API and prints the result.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let value = match arguments.action {
        Action::Payment { merchant_id, payment_no } => {
            let path = ["merchants", merchant_id.as_str(), "payments", payment_no.as_str(), "erase"];
            admin.call(Method::POST, &path, None).await?
        }
        Action::PreAuth { merchant_id, pre_auth_no } => {
            let path = ["merchants", merchant_id.as_str(), "pre-auths", pre_auth_no.as_str(), "erase"];
            admin.call(Method::POST, &path, None).await?
        }
        Action::Customer { merchant_id, customer } => {
            let path = ["merchants", merchant_id.as_str(), "erasures"];
            admin.call(Method::POST, &path, Some(&customer.command())).await?
        }
        Action::List { paging } => admin.list(&["erasures"], &paging).await?.into_value(),
        Action::Show { erasure_id } => admin.call(Method::GET, &["erasures", erasure_id.as_str()], None).await?,
    };
    paging::print(&value, arguments.admin.json, erasures_table)?;
    Ok(Outcome::Fine)
}

/// One erasure, or a list of them.
fn erasures_table(value: &Value) -> String {
    let columns = [
        Column::Left("erasure"),
        Column::Left("merchant"),
        Column::Left("of"),
        Column::Status("status"),
        Column::Right("payments"),
        Column::Right("pre-auths"),
        Column::Right("still open"),
        Column::Right("answers"),
        Column::Right("notifications"),
        Column::Right("unreadable"),
        Column::Left("requested by"),
        Column::Left("at"),
    ];
    let rows: Vec<Vec<String>> = match value.get("items") {
        Some(_) => rows_of(value).map(cells).collect(),
        None => vec![cells(value)],
    };
    table(&columns, &rows)
}

fn cells(row: &Value) -> Vec<String> {
    let text = |key: &str| or_dash(row.get(key).and_then(Value::as_str));
    let number = |key: &str| row["erased"].get(key).and_then(Value::as_u64);
    let count = |key: &str| or_dash(number(key).map(|n| n.to_string()).as_deref());
    let still_open = number("open_payments").map(|payments| payments + number("open_pre_auths").unwrap_or(0));
    let one = ["payment_no", "pre_auth_no"].into_iter().find_map(|key| row.get(key).and_then(Value::as_str));
    let subject = one.map_or_else(|| text("subject"), String::from);
    vec![
        text("erasure_id"),
        text("merchant_id"),
        subject,
        text("status"),
        count("payments"),
        count("pre_auths"),
        or_dash(still_open.map(|n| n.to_string()).as_deref()),
        count("answers"),
        count("notifications"),
        count("unreadable"),
        text("requested_by"),
        text("requested_at"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_sent() {
        let customer = Customer { email: Some(String::from("a@example.com")), customer_id: None };
        assert_eq!(customer.command(), json!({ "customer_email": "a@example.com" }));
    }

    #[test]
    fn an_erasure_is_one_row() {
        let erasure = json!({ "erasure_id": "er_1", "merchant_id": "m_1", "subject": "payment", "payment_no": "PY1",
            "status": "done", "erased": { "payments": 1, "open_payments": 4, "pre_auths": 5, "open_pre_auths": 6,
            "answers": 2, "notifications": 3, "unreadable": 0 },
            "requested_by": "admin", "requested_at": "2025-01-24T10:40:00Z" });
        assert_eq!(cells(&erasure)[2..10], ["PY1", "done", "1", "5", "10", "2", "3", "0"]);
        let of_pre_auth =
            json!({ "erasure_id": "er_2", "subject": "pre_auth", "payment_no": null, "pre_auth_no": "PA1" });
        assert_eq!(cells(&of_pre_auth)[2], "PA1");
        assert_eq!(erasures_table(&erasure), erasures_table(&json!({ "items": [erasure] })));
    }
}
