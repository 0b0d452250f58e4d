//! `tollgate costs`: what payments have cost, beside one channel for all of them.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::simulate::share;
use super::table::{Column, or_dash, table};
use crate::domain::money::{Currency, Money};
use crate::domain::time::Day;

/// Flags of `costs`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// First day (UTC), such as 2026-01-01
    #[arg(long, value_name = "DAY")]
    from: Option<Day>,
    /// Last day (UTC), included
    #[arg(long, value_name = "DAY")]
    to: Option<Day>,
    /// Only this channel
    #[arg(long)]
    channel: Option<String>,
    /// A row for each day, or one for each channel over all days
    #[arg(long, value_enum, default_value_t = By::Channel)]
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Day,
    Channel,
}

/// Asks the admin API and prints the answer.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let days = [("from", arguments.from), ("to", arguments.to)];
    let mut filter: Vec<(&str, String)> =
        days.into_iter().filter_map(|(name, day)| day.map(|day| (name, day.to_string()))).collect();
    filter.extend(arguments.channel.map(|channel| ("channel", channel)));
    filter.push(("group", String::from(if arguments.by == By::Day { "day" } else { "channel" })));
    filter.push(("limit", String::from("100")));
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    let page = loop {
        let mut query: Vec<(&str, &str)> = filter.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page = admin.get(&["costs"], &query).await?;
        let rows = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_empty = rows.is_empty();
        items.extend(rows);
        cursor = page.get("next_cursor").and_then(Value::as_str).map(String::from);
        if cursor.is_none() || is_empty {
            break page;
        }
    };
    let all = json!({ "complete": page["complete"], "baseline_channel": page["baseline_channel"],
        "totals": page["totals"], "items": items });
    if arguments.admin.json {
        output::json(&all)?
    } else {
        output::line(&text_of(&all))?
    }
    Ok(Outcome::Fine)
}

fn text_of(all: &Value) -> String {
    let baseline = all["baseline_channel"].as_str().unwrap_or_default();
    let columns = [
        Column::Left("day"),
        Column::Left("channel"),
        Column::Left("currency"),
        Column::Right("payments"),
        Column::Right("amount"),
        Column::Right("fees"),
        Column::Right("reported"),
        Column::Right("baseline"),
        Column::Right("saved"),
        Column::Right("share"),
        Column::Right("refunded"),
    ];
    let items = || all["items"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = items().map(cells).collect();
    if rows.is_empty() {
        return String::from("no payments were charged");
    }
    let mut text = table(&columns, &rows);
    text.push_str(&totals_text(&all["totals"], baseline));
    text.push_str(&format!(
        "\n(reported: payments whose fee the provider has told; baseline: what they would have cost on {baseline}; days are UTC)"
    ));
    let unknown: i64 = items().filter_map(|row| row["baseline_unknown"].as_i64()).sum();
    if unknown > 0 {
        text.push_str(&format!(
            "\nOf {unknown} payments it is not known what they would have cost on {baseline}; they count there with what they did cost."
        ));
    }
    if all["complete"] == json!(false) {
        text.push_str("\nNot all stored payments are counted yet; ask again later.");
    }
    text
}

/// A sentence about all rows together.
fn totals_text(totals: &Value, baseline: &str) -> String {
    let Some(currency) = totals["currency"].as_str().and_then(|code| code.parse::<Currency>().ok()) else {
        return String::new();
    };
    let money = |key: &str| Money::new(totals[key].as_i64().unwrap_or(0), currency);
    let share = totals["saved_percent"].as_f64().map(|percent| format!(" ({percent:.1} %)")).unwrap_or_default();
    let mut text = format!(
        "\nall: {} payments, {}; fees {}, on {baseline} {}; saved {}{share}",
        totals["payments"].as_i64().unwrap_or(0),
        money("amount"),
        money("fees"),
        money("baseline_fees"),
        money("saved"),
    );
    let left_out: Vec<&str> = totals["left_out"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !left_out.is_empty() {
        text.push_str(&format!("\n(without {}: no rate of exchange)", left_out.join(", ")));
    }
    text
}

fn cells(row: &Value) -> Vec<String> {
    let currency = row["currency"].as_str().and_then(|code| code.parse::<Currency>().ok()).unwrap_or(Currency::USD);
    let money = |key: &str| Money::new(row[key].as_i64().unwrap_or(0), currency).decimal();
    let count = |key: &str| row[key].as_i64().unwrap_or(0).to_string();
    vec![
        or_dash(row["day"].as_str()),
        or_dash(row["channel"].as_str()),
        currency.to_string(),
        count("payments"),
        money("amount"),
        money("fees"),
        count("fees_reported"),
        money("baseline_fees"),
        money("saved"),
        share(row["saved"].as_i64().unwrap_or(0), row["baseline_fees"].as_i64().unwrap_or(0)),
        money("refunded"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_in_their_currency_and_what_is_missing_is_said() {
        let row = json!({ "day": null, "channel": "alipay", "currency": "JPY", "payments": 2, "amount": 5000, "fees": 30,
            "fees_reported": 1, "baseline_unknown": 1, "baseline_fees": 200, "saved": 170, "refunded": 0 });
        assert_eq!(cells(&row), ["-", "alipay", "JPY", "2", "5000", "30", "1", "200", "170", "85.0 %", "0"]);
        let totals = json!({ "currency": "USD", "payments": 2, "amount": 3200, "fees": 19, "baseline_fees": 128,
            "saved": 109, "saved_percent": 85.2, "left_out": ["BRL"] });
        let all = |complete: bool| json!({ "complete": complete, "baseline_channel": "stripe", "totals": totals, "items": [row] });
        assert!(text_of(&all(false)).contains("Not all") && !text_of(&all(true)).contains("Not all"));
        let text = text_of(&all(true));
        for part in [
            "all: 2 payments, 32.00 USD; fees 0.19 USD, on stripe 1.28 USD; saved 1.09 USD (85.2 %)",
            "without BRL",
            "Of 1 payments",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
