//! `tollgate payment …`: payments of all merchants and how they were routed, through the admin API.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::admin::{Admin, AdminArguments};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::list_filter::ListFilter;
use super::paging::{self, Paging, rows_of};
use super::table::{Column, or_dash, table};
use crate::domain::money::{Currency, Money};

/// Where the values of an object begin, unless it has long names.
const NAME_WIDTH_MIN: usize = 18;
/// How refunds' numbers begin.
const REFUND_PREFIX: &str = "RF";

/// Flags of `payment`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List payments, newest first
    List {
        /// In this status, such as failed
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        filter: ListFilter,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one payment
    Show {
        /// Its number, PY…
        payment_no: String,
    },
    /// Show where a payment went and why: every attempt with its decision
    Routing {
        /// Its number, PY…
        payment_no: String,
    },
    /// End a payment or a refund in needs_review as it was found to have ended; it is in the audit, and the merchant is told
    Resolve {
        /// Its number, PY… or RF…
        number: String,
        /// Whether the money moved
        #[arg(long, value_parser = ["success", "failed"])]
        status: String,
        /// How that was found out
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Does what was asked through the admin API and prints the result.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let admin = Admin::new(&arguments.admin, context)?;
    let is_json = arguments.admin.json;
    let (value, text): (Value, fn(&Value) -> String) = match arguments.action {
        Action::List { status, filter, paging } => {
            let query = filter.query(status.as_deref());
            (admin.list_with(&["payments"], &query, &paging).await?.into_value(), payments_table)
        }
        Action::Show { payment_no } => {
            (admin.call(Method::GET, &["payments", payment_no.as_str()], None).await?, object_text)
        }
        Action::Routing { payment_no } => {
            (admin.call(Method::GET, &["payments", payment_no.as_str(), "routing"], None).await?, routing_text)
        }
        Action::Resolve { number, status, reason } => {
            let kind = if number.starts_with(REFUND_PREFIX) { "refunds" } else { "payments" };
            let body = json!({ "status": status, "reason": reason });
            (admin.call(Method::POST, &[kind, number.as_str(), "resolve"], Some(&body)).await?, object_text)
        }
    };
    paging::print(&value, is_json, text)?;
    Ok(Outcome::Fine)
}

/// A text of an object, or a dash.
pub(super) fn text_of(row: &Value, key: &str) -> String {
    or_dash(row.get(key).and_then(Value::as_str))
}

/// An amount in its currency's whole units, such as `3.20 USD`.
pub(super) fn money(amount: &Value) -> String {
    money_of(amount["amount"].as_i64(), amount["currency"].as_str())
}

/// The same of an amount and a currency.
pub(super) fn money_of(minor: Option<i64>, code: Option<&str>) -> String {
    match (minor, code.and_then(|code| code.parse::<Currency>().ok())) {
        (Some(minor), Some(currency)) => Money::new(minor, currency).to_string(),
        _ => String::from("-"),
    }
}

fn payments_table(rows: &Value) -> String {
    let columns = [
        Column::Left("payment"),
        Column::Left("merchant"),
        Column::Left("order"),
        Column::Right("amount"),
        Column::Status("status"),
        Column::Left("channel"),
        Column::Left("strategy"),
        Column::Right("fee"),
        Column::Left("created"),
    ];
    let cells = |row: &Value| {
        vec![
            text_of(row, "payment_no"),
            text_of(row, "merchant_id"),
            text_of(row, "order_no"),
            money(row),
            text_of(row, "status"),
            text_of(row, "channel"),
            decided_by(&row["routing"]),
            money(&row["fee"]),
            text_of(row, "created_at"),
        ]
    };
    table(&columns, &rows_of(rows).map(cells).collect::<Vec<_>>())
}

/// One payment or pre-auth, a line for each field that it has.
pub(super) fn object_text(object: &Value) -> String {
    let currency = object["currency"].as_str().filter(|code| code.parse::<Currency>().is_ok());
    let line = |(name, value): (&String, &Value)| {
        let text = match (name.as_str(), value) {
            (_, Value::Null) => return None,
            // Each amount says what it is of.
            ("currency", _) if currency.is_some() => return None,
            (name, _) if currency.is_some() && (name == "amount" || name.ends_with("_amount")) => {
                money_of(value.as_i64(), currency)
            }
            ("fee", _) => money(value),
            ("routing", _) => format!("{}: {}", decided_by(value), text_of(value, "reason")),
            ("failure", _) => {
                let [code, message, scope] = ["code", "message", "decline_scope"].map(|key| text_of(value, key));
                format!("{code} ({scope}): {message}")
            }
            ("next_action", _) => format!("{} to {}", text_of(value, "type"), text_of(value, "url")),
            (_, Value::String(text)) => text.clone(),
            (_, Value::Object(fields)) if fields.is_empty() => return None,
            (_, other) => other.to_string(),
        };
        Some((name.clone(), text))
    };
    let lines: Vec<(String, String)> = object.as_object().into_iter().flatten().filter_map(line).collect();
    let width = lines.iter().map(|(name, _)| name.len() + 2).fold(NAME_WIDTH_MIN, usize::max);
    lines.iter().map(|(name, text)| format!("{name:<width$}{text}")).collect::<Vec<_>>().join("\n")
}

/// The strategy that decided, or else the rung.
fn decided_by(routing: &Value) -> String {
    or_dash(routing["strategy"].as_str().or_else(|| routing["rung"].as_str()))
}

/// Every attempt with its decision.
fn routing_text(routing: &Value) -> String {
    let mut parts = vec![format!("{} of {}", text_of(routing, "payment_no"), text_of(routing, "merchant_id"))];
    for attempt in routing["attempts"].as_array().into_iter().flatten() {
        parts.push(attempt_text(attempt));
    }
    parts.join("\n\n")
}

fn attempt_text(attempt: &Value) -> String {
    let decision = &attempt["explanation"];
    let mut lines = vec![format!(
        "attempt {} on {}: {}, sent {}",
        attempt["attempt"],
        text_of(attempt, "channel"),
        text_of(attempt, "outcome"),
        text_of(attempt, "sent_at")
    )];
    lines.push(format!("  {}", text_of(decision, "reason")));
    lines.extend(margin_text(&decision["margin"]).map(|text| format!("  {text}")));
    lines.push(format!(
        "  rung {}, strategy {}, mode {}, table {}, setup {}, draw {}",
        text_of(decision, "rung"),
        text_of(decision, "strategy"),
        text_of(decision, "mode"),
        decision["table_version"],
        decision["setup_version"],
        text_of(decision, "draw")
    ));
    if let Some(rule) = decision["rule"]["name"].as_str() {
        lines.push(format!("  the rule \"{rule}\" fits"));
    }
    lines.push(String::new());
    lines.push(indented(&channels_table(decision)));
    let steps: Vec<String> = decision["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, step)| format!("  {}. {}", index + 1, text_of(step, "in_words")))
        .collect();
    if !steps.is_empty() {
        lines.push(String::new());
        lines.extend(steps);
    }
    let failover = &attempt["failover"];
    if let (Some(explanation), false) = (failover["explanation"].as_str(), failover["reason"] == "asked") {
        lines.push(String::new());
        lines.push(format!("  {explanation}"));
    }
    if let Some(failed_over) = attempt["failed_over"].as_str() {
        lines.push(String::new());
        lines.push(format!("  {failed_over}"));
    }
    lines.join("\n")
}

fn margin_text(margin: &Value) -> Option<String> {
    let over = margin["over"].as_str()?;
    if let Some(points) = margin["percentage_points"].as_f64() {
        return Some(format!("{points:.2} percentage points ahead of {over}"));
    }
    // What is saved is rounded down, so that nothing may stand for less than one minor unit.
    let (saved, currency) = (margin["saved"]["amount"].as_i64(), margin["saved"]["currency"].as_str());
    let saved = match saved {
        Some(0) => format!("less than {}", money_of(Some(1), currency)),
        _ => money_of(saved, currency),
    };
    Some(format!("expected cost {saved} below that of {over}"))
}

fn channels_table(decision: &Value) -> String {
    let columns = [
        Column::Left("channel"),
        Column::Left("eligible"),
        Column::Left("local"),
        Column::Right("success"),
        Column::Left("of"),
        Column::Right("samples"),
        Column::Right("fee"),
        Column::Right("expected cost"),
        Column::Right("in flight"),
        Column::Right("latency"),
        Column::Status("breaker"),
    ];
    let yes_no = |value: &Value| String::from(if value.as_bool().unwrap_or(false) { "yes" } else { "no" });
    let cells = |channel: &Value| {
        vec![
            text_of(channel, "channel"),
            eligibility_text(channel),
            yes_no(&channel["local"]),
            or_dash(channel["success_rate"].as_f64().map(|rate| format!("{:.1} %", rate * 100.0)).as_deref()),
            text_of(channel, "success_level"),
            channel["samples"].to_string(),
            money(&channel["fee"]),
            money(&channel["expected_cost"]),
            channel["in_flight"].to_string(),
            or_dash(channel["latency_ms"].as_f64().map(|latency| format!("{latency:.1} ms")).as_deref()),
            text_of(channel, "breaker"),
        ]
    };
    let rows: Vec<Vec<String>> = decision["channels"].as_array().into_iter().flatten().map(cells).collect();
    table(&columns, &rows)
}

/// `yes`, or the filter with what it found and what it demands.
fn eligibility_text(channel: &Value) -> String {
    let dropped = &channel["dropped"];
    let Some(filter) = dropped["filter"].as_str() else { return String::from("yes") };
    let demanded = if matches!(filter, "breaker_open" | "maintenance") { "until" } else { "demanded" };
    match (dropped["value"].as_str(), dropped["demanded"].as_str()) {
        (Some(value), Some(bound)) => format!("{filter}: {value}, {demanded} {bound}"),
        (Some(value), None) => format!("{filter}: {value}"),
        (None, Some(bound)) => format!("{filter}: {demanded} {bound}"),
        (None, None) => String::from(filter),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routing_is_told_as_tables_and_sentences() {
        let channel = |name: &str, dropped: Value| {
            json!({ "channel": name, "eligible": dropped.is_null(), "dropped": dropped, "local": true,
                "success_rate": 0.9, "success_level": "country", "samples": 7, "in_flight": 0, "latency_ms": 12.5,
                "fee": { "amount": 320, "currency": "USD" }, "expected_cost": null, "breaker": "closed" })
        };
        let attempt = json!({ "attempt": 1, "channel": "stripe", "outcome": "not_done", "sent_at": "T",
            "failed_over": "stripe could not do it.",
            "explanation": { "reason": "Because.", "rung": "smart", "strategy": "cost", "mode": "cost", "draw": "5",
                "table_version": 1, "setup_version": 2, "rule": { "name": "big" },
                "margin": { "over": "alipay", "saved": { "amount": 7, "currency": "USD" } },
                "steps": [{ "in_words": "cost kept stripe of 2." }],
                "channels": [channel("stripe", Value::Null), channel("alipay",
                    json!({ "filter": "per_day", "value": "100", "demanded": "90" }))] } });
        let text = routing_text(&json!({ "payment_no": "PY1", "merchant_id": "m_1", "attempts": [attempt] }));
        for part in [
            "PY1 of m_1",
            "attempt 1 on stripe: not_done",
            "Because.",
            "expected cost 0.07 USD below that of alipay",
            "3.20 USD",
            "the rule \"big\" fits",
            "per_day: 100, demanded 90",
            "1. cost kept stripe of 2.",
            "stripe could not do it.",
            "90.0 %",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn money_is_shown_in_whole_units_of_its_currency() {
        for (currency, amount, fee) in
            [("USD", "100.00 USD", "0.60 USD"), ("JPY", "10000 JPY", "60 JPY"), ("KWD", "10.000 KWD", "0.060 KWD")]
        {
            let payment = json!({ "amount": 10_000, "currency": currency, "refunded_amount": 0,
                "fee": { "amount": 60, "currency": currency } });
            let listed = payments_table(&json!([payment]));
            let shown = object_text(&payment);
            for text in [&listed, &shown] {
                assert!(text.contains(amount) && text.contains(fee), "{text}");
            }
            assert!(!shown.contains('{') && !shown.contains("currency"), "{shown}");
            let fractional = amount.contains('.');
            assert_eq!(shown.contains("refunded_amount   0."), fractional, "{shown}");
            let saved = |minor| json!({ "over": "stripe", "saved": { "amount": minor, "currency": currency } });
            let margin = margin_text(&saved(60)).unwrap();
            assert!(margin.contains(fee), "{margin}");
            assert!(margin_text(&saved(0)).unwrap().contains("less than "));
        }
    }

    #[test]
    fn a_payment_is_shown_without_json() {
        let payment = json!({ "failure": { "code": "lost_card", "message": "The card is lost.", "decline_scope": "bank" },
            "routing": { "rung": "smart", "strategy": null, "reason": "Because." },
            "next_action": { "type": "redirect", "url": "http://pay" } });
        let expected = "failure           lost_card (bank): The card is lost.\nnext_action       redirect to http://pay\n\
            routing           smart: Because.";
        assert_eq!(object_text(&payment), expected);
    }

    #[test]
    fn a_channel_that_is_away_says_until_when() {
        let dropped =
            |filter: &str, value: Value| json!({ "dropped": { "filter": filter, "value": value, "demanded": "T" } });
        assert_eq!(eligibility_text(&dropped("breaker_open", json!("open"))), "breaker_open: open, until T");
        assert_eq!(eligibility_text(&dropped("maintenance", Value::Null)), "maintenance: until T");
    }

    #[test]
    fn what_a_payment_does_not_have_is_not_shown() {
        let text = object_text(&json!({ "payment_no": "PY1", "failure": null, "metadata": {}, "amount": 5 }));
        assert_eq!(text, "amount            5\npayment_no        PY1");
    }
}
