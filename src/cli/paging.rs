//! How much of a list is shown, and where it goes on.

use clap::Args;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output;

/// Rows of `--all`: more than a person reads, and no more than fits into memory.
const ALL_ROWS_MAX: usize = 1_000_000;

/// Flags of every list that comes in pages.
#[derive(Clone, Debug, Args)]
pub(super) struct Paging {
    /// Most rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// All rows, up to a million
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Go on behind the rows of an earlier call, which has named it
    #[arg(long, value_name = "CURSOR")]
    pub(super) cursor: Option<String>,
}

impl Paging {
    /// Rows that are wanted.
    pub(super) fn rows_max(&self) -> usize {
        if self.all { ALL_ROWS_MAX } else { usize::try_from(self.limit).unwrap_or(ALL_ROWS_MAX) }
    }

    /// The first so many rows.
    #[cfg(test)]
    pub(super) const fn first(limit: u32) -> Self {
        Self { limit, all: false, cursor: None }
    }
}

/// Rows, and where the next ones begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    pub(super) rows: Vec<Value>,
    pub(super) next_cursor: Option<String>,
}

impl Listed {
    /// For scripts, in the form of the API's lists.
    pub(super) fn into_value(self) -> Value {
        json!({ "items": self.rows, "next_cursor": self.next_cursor })
    }
}

/// The rows of a list in that form.
pub(super) fn rows_of(list: &Value) -> impl Iterator<Item = &Value> {
    list.get("items").unwrap_or(list).as_array().into_iter().flatten()
}

/// Prints `value` as JSON, or what `text` makes of it; of a list with more rows it says how to see them.
pub(super) fn print(value: &Value, is_json: bool, text: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
    if is_json {
        return output::json(value);
    }
    output::line(&text(value))?;
    if let Some(cursor) = value.get("next_cursor").and_then(Value::as_str) {
        output::note(&format!("There are more: --all shows them, --cursor {cursor} the next ones."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_shown_in_the_form_of_the_api() {
        let listed = Listed { rows: vec![json!(1), json!(2)], next_cursor: Some(String::from("c")) };
        let value = listed.into_value();
        assert_eq!(value, json!({ "items": [1, 2], "next_cursor": "c" }));
        assert_eq!(rows_of(&value).count(), 2);
        assert_eq!(rows_of(&json!([1])).count(), 1);
    }

    #[test]
    fn all_has_a_bound_too() {
        assert_eq!(Paging::first(7).rows_max(), 7);
        assert_eq!(Paging { limit: 20, all: true, cursor: None }.rows_max(), ALL_ROWS_MAX);
    }
}
