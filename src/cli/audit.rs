//! `tollgate audit …`: who changed what, through the admin API.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::paging::{self, Paging, rows_of};
use super::table::{Column, or_dash, table};

/// Flags of `audit`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List changes, newest first
    List {
        #[command(flatten)]
        paging: Paging,
        #[command(flatten)]
        filter: Box<Filter>,
    },
    /// Check that no entry was changed, taken out or put in; ends with 1 when one was
    Verify {
        /// Number and hash of an entry that were written down elsewhere; shows whether entries were cut off
        #[arg(long, value_name = "NUMBER:HASH")]
        anchor: Option<String>,
    },
}

/// Which changes.
#[derive(Debug, Default, Args)]
struct Filter {
    /// Name of the token that was used
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// What was done, such as merchant.update
    #[arg(long)]
    action: Option<String>,
    /// To what, such as a merchant's id
    #[arg(long)]
    object: Option<String>,
    /// Not before this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

impl Filter {
    fn pairs(&self) -> Vec<(&str, &str)> {
        let Self { actor, action, object, from, to } = self;
        let all = [("actor", actor), ("action", action), ("object", object), ("from", from), ("to", to)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

/// Does what was asked through the admin API and prints the result.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    match arguments.action {
        Action::List { paging, filter } => {
            let listed = admin.list_with(&["audit"], &filter.pairs(), &paging).await?;
            paging::print(&listed.into_value(), arguments.admin.json, entries_table)?;
            Ok(Outcome::Fine)
        }
        Action::Verify { anchor } => {
            let mut query = vec![("verify", "true"), ("limit", "1")];
            query.extend(anchor.as_deref().map(|anchor| ("anchor", anchor)));
            let chain = admin.get(&["audit"], &query).await?["chain"].take();
            if arguments.admin.json {
                output::json(&chain)?;
            } else {
                output::line(&chain_text(&chain))?;
            }
            let intact = chain.get("intact").and_then(Value::as_bool) == Some(true);
            Ok(if intact { Outcome::Fine } else { Outcome::Failed })
        }
    }
}

fn entries_table(list: &Value) -> String {
    let columns = [
        Column::Right("number"),
        Column::Left("at"),
        Column::Left("actor"),
        Column::Left("action"),
        Column::Left("object"),
        Column::Left("changes"),
    ];
    let rows: Vec<Vec<String>> = rows_of(list).map(entry_cells).collect();
    table(&columns, &rows)
}

fn entry_cells(row: &Value) -> Vec<String> {
    let text = |key: &str| or_dash(row.get(key).and_then(Value::as_str));
    let changes = row.get("changes").and_then(Value::as_object);
    let changes: Vec<String> = changes
        .into_iter()
        .flatten()
        .map(|(name, change)| {
            let side = |key: &str| change.get(key).map_or_else(|| String::from("-"), Value::to_string);
            format!("{name}: {} > {}", side("before"), side("after"))
        })
        .collect();
    vec![
        or_dash(row.get("number").and_then(Value::as_u64).map(|number| number.to_string()).as_deref()),
        text("at"),
        text("actor"),
        text("action"),
        text("object"),
        or_dash(Some(&changes.join("; "))),
    ]
}

fn chain_text(chain: &Value) -> String {
    let number = chain.get("number").and_then(Value::as_u64).unwrap_or_default();
    let hash = chain.get("hash").and_then(Value::as_str).unwrap_or_default();
    match chain.get("problem").and_then(Value::as_str) {
        Some(problem) => format!("the audit can't be trusted: {problem}"),
        None => format!("{number} entries, none touched; write this down elsewhere as an anchor: {number}:{hash}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_one_row_with_what_changed() {
        let row = json!({ "number": 7, "at": "2025-01-24T10:40:00Z", "actor": "admin", "action": "merchant.update",
            "object": "m_1", "changes": { "tier": { "before": "starter", "after": "premium" }, "x": { "after": 1 } } });
        let cells = entry_cells(&row);
        assert_eq!(cells[0], "7");
        assert_eq!(cells[5], "tier: \"starter\" > \"premium\"; x: - > 1");
    }

    #[test]
    fn only_given_filters_are_sent() {
        let filter = Filter { action: Some(String::from("key.create")), ..Filter::default() };
        assert_eq!(filter.pairs(), [("action", "key.create")]);
    }

    #[test]
    fn a_chain_is_said_to_be_whole_or_what_is_wrong() {
        let whole = chain_text(&json!({ "number": 3, "hash": "ab", "intact": true, "problem": null }));
        assert!(whole.contains("3:ab"), "{whole}");
        let broken =
            chain_text(&json!({ "number": 3, "hash": "ab", "intact": false, "problem": "entry 2 is missing" }));
        assert!(broken.contains("entry 2 is missing"), "{broken}");
    }
}
