//! Statements for reconciliation as CSV (RFC 4180): a header row, a row a line, sent while they are read.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_DISPOSITION;
use bytes::Bytes;
use csv::{Terminator, WriterBuilder};
use futures_util::stream;
use utoipa::{IntoParams, IntoResponses};

use crate::api::call::{Call, MerchantCall};
use crate::api::envelope::{Answer, Outcome};
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::api::stream::{StreamFailed, StreamKind};
use crate::domain::ids::MerchantId;
use crate::domain::time::Timestamp;
use crate::gateway::reconciliation::{Cell, Line, Period, Statement, StatementReader};

const CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
/// What spreadsheets take for the beginning of a formula, those for Chinese and Japanese also in full width.
const FORMULA_BEGINNINGS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
/// Shorter ones of a page are sent together with the next.
const PART_BYTES_MIN: usize = 16 * 1024;

/// For the OpenAPI document: which period a statement is of, as [`Period::read`] takes it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct PeriodAsked {
    /// From this day (UTC) or moment (RFC 3339) on
    #[param(example = "2026-01-01")]
    from: String,
    /// Before this day or moment; now when absent
    to: Option<String>,
}

/// For the OpenAPI document: what a statement is answered as.
#[derive(IntoResponses)]
#[response(
    status = 200,
    description = "The rows, as docs/exports.md describes them",
    content_type = "text/csv",
    headers(("Content-Disposition" = String, description = "What to call the file")),
)]
#[expect(dead_code, reason = "it is only described")]
pub(crate) struct StatementCsv(String);

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes
        .with(Verb::Get, "/api/v1/exports/payments", payments)
        .with(Verb::Get, "/api/v1/exports/refunds", refunds)
        .with(Verb::Get, "/api/v1/exports/fees", fees)
}

/// Export payments as CSV
///
/// A row a payment or capture of a pre-auth: payments first; of each kind first what was made before the period, by the day on
/// which its money moved, then the rest in the order in which it was made. What moved money counts when it did, the rest when it
/// was made. Sent while it is read; one that is cut off breaks the connection.
#[utoipa::path(
    get,
    path = "/api/v1/exports/payments",
    operation_id = "export_payments",
    tag = "Exports",
    params(PeriodAsked),
    responses(StatementCsv)
)]
pub(crate) async fn payments(call: MerchantCall) -> Outcome {
    of_merchant(&call, Statement::Payments)
}

/// Export refunds as CSV
///
/// A row a refund of a payment or pre-auth: first those that were asked for before the period, by the day on which they were given
/// back, then the rest in the order in which they were made. One that was given back counts when that was, others when they were
/// made. Sent while it is read; one that is cut off breaks the connection.
#[utoipa::path(
    get,
    path = "/api/v1/exports/refunds",
    operation_id = "export_refunds",
    tag = "Exports",
    params(PeriodAsked),
    responses(StatementCsv)
)]
pub(crate) async fn refunds(call: MerchantCall) -> Outcome {
    of_merchant(&call, Statement::Refunds)
}

/// Export totals by day, channel and currency as CSV
///
/// What was taken, given back and kept by the channel on each day (UTC), and what is left. Sent while it is read; one that is
/// cut off breaks the connection.
#[utoipa::path(
    get,
    path = "/api/v1/exports/fees",
    operation_id = "export_fees",
    tag = "Exports",
    params(PeriodAsked),
    responses(StatementCsv)
)]
pub(crate) async fn fees(call: MerchantCall) -> Outcome {
    of_merchant(&call, Statement::Fees)
}

fn of_merchant(MerchantCall { call, caller, .. }: &MerchantCall, statement: Statement) -> Outcome {
    let query = call.query(&["from", "to"], Pages::No)?;
    let merchant_id = caller.merchant.merchant_id.clone();
    answer(call, statement, Some(merchant_id), query.text("from").as_deref(), query.text("to").as_deref())
}

/// A statement about a period, of one merchant or of all of them.
///
/// # Errors
/// What is wrong with the period or the merchant.
pub(crate) fn answer(
    call: &Call,
    statement: Statement,
    merchant_id: Option<MerchantId>,
    from: Option<&str>,
    to: Option<&str>,
) -> Outcome {
    let period = Period::read(from, to, call.gateway.clock().now())?;
    let reader = call.gateway.reconciliation().statement(statement, merchant_id, period)?;
    let csv = Answer::stream(CSV, StreamKind::Download, parts(statement, reader));
    let name = format!("attachment; filename=\"{}\"", file_name(statement, &period));
    Ok(match HeaderValue::from_str(&name) {
        Ok(name) => csv.with_header(CONTENT_DISPOSITION, name),
        Err(_) => csv,
    })
}

/// Such as `payments-20260101-20260201.csv`; with the time where an end is not the beginning of a day.
fn file_name(statement: Statement, period: &Period) -> String {
    let written = |at: Timestamp| {
        let compact = at.compact();
        compact.strip_suffix("000000").map_or_else(|| compact.clone(), String::from)
    };
    format!("{}-{}-{}.csv", statement.as_str(), written(period.from()), written(period.to()))
}

/// The header row at once, then page by page.
fn parts(
    statement: Statement,
    reader: StatementReader,
) -> impl futures_util::Stream<Item = Result<Bytes, StreamFailed>> + Send + 'static {
    stream::unfold(Some((reader, Some(statement))), |state| async move {
        let (mut reader, header) = state?;
        if let Some(statement) = header {
            return Some((header_row(statement), Some((reader, None))));
        }
        let mut part = Vec::new();
        loop {
            let lines = match reader.next().await {
                Ok(lines) => lines,
                Err(error) => return Some((Err(StreamFailed(error.to_string())), None)),
            };
            let is_over = lines.is_none();
            if let Err(failed) = write_rows(&mut part, lines.unwrap_or_default()) {
                return Some((Err(failed), None));
            }
            if is_over && part.is_empty() {
                return None;
            }
            if is_over || part.len() >= PART_BYTES_MIN {
                return Some((Ok(Bytes::from(part)), (!is_over).then_some((reader, None))));
            }
        }
    })
}

fn header_row(statement: Statement) -> Result<Bytes, StreamFailed> {
    let mut row = Vec::new();
    write_rows(&mut row, vec![statement.columns().iter().map(|column| Cell::Own(String::from(*column))).collect()])?;
    Ok(Bytes::from(row))
}

fn write_rows(target: &mut Vec<u8>, lines: Vec<Line>) -> Result<(), StreamFailed> {
    let failed = |error: &dyn std::fmt::Display| StreamFailed(format!("a row can't be written: {error}"));
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(target);
    for line in lines {
        writer.write_record(line.into_iter().map(text_of)).map_err(|error| failed(&error))?;
    }
    writer.flush().map_err(|error| failed(&error))
}

/// A cell as it is written. A text that a spreadsheet would take for a formula gets an apostrophe in front, which they
/// take for "what follows is text".
fn text_of(cell: Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Number(number) => number.to_string(),
        Cell::Own(text) => text,
        Cell::Foreign(text) if is_like_a_formula(&text) => format!("'{text}"),
        Cell::Foreign(text) => text,
    }
}

/// Whether a spreadsheet could take a text for a formula: some pass over blanks and what can't be seen in front of one.
fn is_like_a_formula(text: &str) -> bool {
    let seen = text.trim_start_matches(|letter: char| letter.is_whitespace() || is_unseen(letter));
    text.starts_with(['\t', '\r', '\n']) || seen.starts_with(FORMULA_BEGINNINGS)
}

/// Control characters, and those that only say how others are shown.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: Line) -> String {
        let mut row = Vec::new();
        write_rows(&mut row, vec![line]).unwrap();
        String::from_utf8(row).unwrap()
    }

    #[test]
    fn rows_are_written_as_rfc_4180_says() {
        let line = vec![
            Cell::Foreign(String::from("plain")),
            Cell::Foreign(String::from("a, \"b\"\r\nc")),
            Cell::Number(-5),
            Cell::Own(String::from("-0.05")),
            Cell::Empty,
            Cell::Foreign(String::from("订单")),
        ];
        assert_eq!(written(line), "plain,\"a, \"\"b\"\"\r\nc\",-5,-0.05,,订单\r\n");
    }

    #[test]
    fn no_text_of_somebody_else_is_a_formula() {
        for (text, row) in [
            ("=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\"\r\n"),
            ("+1", "'+1\r\n"),
            ("-1", "'-1\r\n"),
            ("@SUM(A1)", "'@SUM(A1)\r\n"),
            ("\t=1", "'\t=1\r\n"),
            ("\r=1", "\"'\r=1\"\r\n"),
            ("\n=1", "\"'\n=1\"\r\n"),
            (" =1+1", "' =1+1\r\n"),
            ("\u{3000}\u{a0}=1", "'\u{3000}\u{a0}=1\r\n"),
            ("\u{200b}=1", "'\u{200b}=1\r\n"),
            ("\u{feff} \u{202e}@A1", "'\u{feff} \u{202e}@A1\r\n"),
            ("＝1+1", "'＝1+1\r\n"),
            ("＋1", "'＋1\r\n"),
            ("－1", "'－1\r\n"),
            ("＠A1", "'＠A1\r\n"),
            ("O=1", "O=1\r\n"),
            (" O＝1", " O＝1\r\n"),
        ] {
            assert_eq!(
                written(vec![Cell::Foreign(String::from(text)), Cell::Empty]),
                row.replace("\r\n", ",\r\n"),
                "{text:?}"
            );
        }
    }
}
