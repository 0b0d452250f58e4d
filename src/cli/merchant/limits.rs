//! How full merchants' limits are, as tables with small bars.

use std::io::{IsTerminal, stdout};

use serde_json::Value;

use crate::cli::merchant::text_of;
use crate::cli::table::{Column, or_dash, table};

/// Characters of a full bar.
const BAR: u64 = 20;

/// What bars are drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bars {
    /// Blocks, for terminals.
    Blocks,
    /// Plain ASCII, for files and other programs.
    Plain,
}

impl Bars {
    /// What standard output can show.
    pub(super) fn for_output() -> Self {
        if stdout().is_terminal() { Self::Blocks } else { Self::Plain }
    }

    /// Full only when everything is used, and not empty when anything is.
    fn draw(self, used: u64, limit: u64) -> String {
        let full = match (used, limit) {
            (0, _) | (_, 0) => 0,
            _ if used >= limit => BAR,
            _ => (u128::from(used) * u128::from(BAR) / u128::from(limit)).try_into().unwrap_or(BAR).clamp(1, BAR - 1),
        };
        let (filled, empty) = match self {
            Self::Blocks => ("█", "░"),
            Self::Plain => ("#", "."),
        };
        let count = |characters: u64| usize::try_from(characters).unwrap_or(0);
        format!("{}{}", filled.repeat(count(full)), empty.repeat(count(BAR - full)))
    }
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// One merchant's limits, and its requests by day.
pub(super) fn limits_text(value: &Value, bars: Bars) -> String {
    let columns = [
        Column::Left("limit"),
        Column::Right("window"),
        Column::Right("used"),
        Column::Right("of"),
        Column::Left(""),
        Column::Left("frees one at"),
    ];
    let mut rows: Vec<Vec<String>> = items(value, "windows")
        .map(|window| {
            let length = window.get("window_s").and_then(Value::as_f64).unwrap_or(0.0);
            use_row(&text_of(window, "name"), format!("{length} s"), window, bars)
        })
        .collect();
    if let Some(in_flight) = value.get("concurrency") {
        rows.push(use_row("concurrency", String::from("-"), in_flight, bars));
    }
    let place = match value.get("active").and_then(Value::as_bool) {
        Some(true) => "in memory",
        _ => "not in memory; as of the last snapshot",
    };
    let expired = number(value, "leases_expired");
    format!(
        "tier {}, {} requests a second, {} at once; {place}; {expired} permits expired\n\n{}\n\n{}",
        text_of(value, "tier"),
        number(value, "per_second"),
        number(value, "burst"),
        table(&columns, &rows),
        days_table(value)
    )
}

fn use_row(name: &str, window: String, value: &Value, bars: Bars) -> Vec<String> {
    let (used, limit) = (number(value, "used"), number(value, "limit"));
    let reset_at = or_dash(value.get("reset_at").and_then(Value::as_str));
    vec![String::from(name), window, used.to_string(), limit.to_string(), bars.draw(used, limit), reset_at]
}

fn days_table(value: &Value) -> String {
    let columns = [
        Column::Left("day"),
        Column::Right("admitted"),
        Column::Right("refused"),
        Column::Right("second"),
        Column::Right("minute"),
        Column::Right("hour"),
        Column::Right("concurrency"),
        Column::Right("peak in flight"),
    ];
    let rows: Vec<Vec<String>> = items(value, "days")
        .map(|day| {
            let by = day.get("refused_by").unwrap_or(&Value::Null);
            let mut cells = vec![text_of(day, "date")];
            cells.extend(["admitted", "refused"].map(|key| number(day, key).to_string()));
            cells.extend(["second", "minute", "hour", "concurrency"].map(|key| number(by, key).to_string()));
            cells.push(number(day, "peak_concurrency").to_string());
            cells
        })
        .collect();
    if rows.is_empty() { String::from("no requests in the last 30 days") } else { table(&columns, &rows) }
}

/// The merchants that are nearest to a limit.
pub(super) fn fullest_table(rows: &[Value], bars: Bars) -> String {
    if rows.is_empty() {
        return String::from("no merchant is in memory");
    }
    let columns = [
        Column::Left("merchant"),
        Column::Left("tier"),
        Column::Left("limit"),
        Column::Right("used"),
        Column::Left(""),
        Column::Right("in flight"),
    ];
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let percent = row.get("used_percent").and_then(Value::as_f64).unwrap_or(0.0);
            let in_flight = row.get("concurrency").unwrap_or(&Value::Null);
            let (used, limit) = most_used(row).unwrap_or((0, 0));
            vec![
                text_of(row, "merchant_id"),
                text_of(row, "tier"),
                text_of(row, "limit"),
                format!("{percent} %"),
                bars.draw(used, limit),
                format!("{} of {}", number(in_flight, "used"), number(in_flight, "limit")),
            ]
        })
        .collect();
    table(&columns, &rows)
}

/// Used and limit of the limit that the row names.
fn most_used(row: &Value) -> Option<(u64, u64)> {
    let name = row.get("limit")?.as_str()?;
    let named = if name == "concurrency" {
        row.get("concurrency")?
    } else {
        items(row, "windows").find(|window| window.get("name").and_then(Value::as_str) == Some(name))?
    };
    Some((number(named, "used"), number(named, "limit")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bar_is_full_only_at_the_limit_and_empty_only_at_zero() {
        let draw = |used, limit| Bars::Plain.draw(used, limit);
        assert_eq!(draw(0, 500), "....................");
        assert_eq!(draw(1, 500), "#...................");
        assert_eq!(draw(250, 500), "##########..........");
        assert_eq!(draw(499, 500), "###################.");
        assert_eq!(draw(500, 500), "####################");
        assert_eq!(draw(900, 500), "####################", "a limit that was lowered");
        assert_eq!(draw(7, 0), "....................");
        assert_eq!(Bars::Blocks.draw(1, 2).chars().count(), 20);
    }

    #[test]
    fn everything_there_is_stands_in_the_tables() {
        let view = json!({
            "tier": "starter", "per_second": 10, "burst": 20, "active": true, "leases_expired": 2,
            "windows": [{ "name": "second", "limit": 20, "window_s": 2.0, "used": 16, "remaining": 4,
                "reset_at": "2025-01-24T10:30:47Z" }],
            "concurrency": { "limit": 10, "used": 3 },
            "today": {},
            "days": [{ "date": "2025-01-24", "admitted": 41, "refused": 9, "peak_concurrency": 8,
                "refused_by": { "second": 5, "minute": 0, "hour": 1, "concurrency": 3 } }],
        });
        let text = limits_text(&view, Bars::Plain);
        assert!(text.is_ascii(), "{text}");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let has = |words: &[&str]| lines.iter().any(|line| line == words);
        assert!(
            text.starts_with("tier starter, 10 requests a second, 20 at once; in memory; 2 permits expired"),
            "{text}"
        );
        assert!(has(&["second", "2", "s", "16", "20", "################....", "2025-01-24T10:30:47Z"]), "{text}");
        assert!(has(&["concurrency", "-", "3", "10", "######..............", "-"]), "{text}");
        assert!(has(&["2025-01-24", "41", "9", "5", "0", "1", "3", "8"]), "{text}");

        let row = json!({ "merchant_id": "m_1", "tier": "starter", "limit": "second", "used_percent": 80.0,
            "windows": view["windows"], "concurrency": view["concurrency"] });
        let text = fullest_table(&[row], Bars::Plain);
        let words: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(words, ["m_1", "starter", "second", "80", "%", "################....", "3", "of", "10"]);
    }
}
