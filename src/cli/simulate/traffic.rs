//! Traffic as it is read: a line at a time, so that a file may be of any size.

use std::io::{BufRead, Read};

use serde::Deserialize;

use crate::domain::money::{AMOUNT_MINOR_MAX, Currency, Money};
use crate::domain::routing::Country;

/// Longest line.
const LINE_BYTES_MAX: u64 = 65_536;
/// Most payments of one line.
const COUNT_MAX: u64 = 1_000_000_000;
const COLUMNS: &str =
    "amount (or amount_minor), currency, country, card_country, merchant_country, method, tier and count";

/// Payments that are alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// Its number in the file, from 1.
    pub(super) number: u64,
    /// What each is about.
    pub(super) money: Money,
    /// The payer's country.
    pub(super) country: Option<Country>,
    /// The card's country.
    pub(super) card_country: Option<Country>,
    /// The merchant's country.
    pub(super) merchant_country: Option<Country>,
    /// The method.
    pub(super) method: Option<String>,
    /// The merchant's tier.
    pub(super) tier: String,
    /// How many.
    pub(super) count: u64,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrongLine {
    pub(super) line: u64,
    pub(super) what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Amount,
    Currency,
    Country,
    CardCountry,
    MerchantCountry,
    Method,
    Tier,
    Count,
}

enum Format {
    /// Nothing was read yet.
    Unknown,
    JsonLines,
    Csv(Vec<Column>),
}

/// The texts of one line.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(alias = "amount_minor")]
    amount: i64,
    currency: String,
    country: Option<String>,
    card_country: Option<String>,
    merchant_country: Option<String>,
    method: Option<String>,
    tier: Option<String>,
    count: Option<u64>,
}

/// Reads traffic.
pub(super) struct Traffic<R> {
    reader: R,
    number: u64,
    format: Format,
    buffer: Vec<u8>,
}

impl<R: BufRead> Traffic<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0, format: Format::Unknown, buffer: Vec::new() }
    }

    /// The next line that has payments; `None` at the end.
    pub(super) fn next_line(&mut self) -> Option<Result<Line, WrongLine>> {
        loop {
            match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(what) => return Some(Err(WrongLine { line: self.number, what })),
            }
            match self.parse() {
                Ok(None) => {}
                Ok(Some(line)) => return Some(Ok(line)),
                Err(what) => return Some(Err(WrongLine { line: self.number, what })),
            }
        }
    }

    /// Reads a line into the buffer; `false` at the end.
    fn read(&mut self) -> Result<bool, String> {
        self.number += 1;
        self.buffer.clear();
        let mut bounded = (&mut self.reader).take(LINE_BYTES_MAX);
        let bytes = bounded.read_until(b'\n', &mut self.buffer).map_err(|error| format!("can't be read ({error})"))?;
        if bytes as u64 == LINE_BYTES_MAX && !self.buffer.ends_with(b"\n") {
            return Err(format!("is longer than {LINE_BYTES_MAX} bytes; give one group of payments a line"));
        }
        Ok(bytes > 0)
    }

    fn parse(&mut self) -> Result<Option<Line>, String> {
        let text = std::str::from_utf8(&self.buffer).map_err(|_| String::from("is not UTF-8 text"))?;
        let text = if self.number == 1 { text.trim_start_matches('\u{feff}') } else { text };
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(None);
        }
        let raw = match &self.format {
            Format::Unknown if text.starts_with('{') => {
                let raw = json(text)?;
                self.format = Format::JsonLines;
                raw
            }
            Format::Unknown => {
                self.format = Format::Csv(header(text)?);
                return Ok(None);
            }
            Format::JsonLines => json(text)?,
            Format::Csv(columns) => csv(columns, text)?,
        };
        checked(raw, self.number).map(Some)
    }
}

fn json(text: &str) -> Result<Raw, String> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        // It says "at line 1" of each line.
        let message = message.split(" at line ").next().unwrap_or_default();
        format!("is no payment: {message}")
    })
}

fn header(text: &str) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    for name in fields(text)? {
        let column = match name.trim() {
            "amount" | "amount_minor" => Column::Amount,
            "currency" => Column::Currency,
            "country" => Column::Country,
            "card_country" => Column::CardCountry,
            "merchant_country" => Column::MerchantCountry,
            "method" => Column::Method,
            "tier" => Column::Tier,
            "count" => Column::Count,
            other => return Err(format!("the column {other:?} is not known; the header names {COLUMNS}")),
        };
        if columns.contains(&column) {
            return Err(format!("the column {name:?} is there twice"));
        }
        columns.push(column);
    }
    for (needed, name) in [(Column::Amount, "amount"), (Column::Currency, "currency")] {
        if !columns.contains(&needed) {
            return Err(format!("the header lacks the column {name}; it names {COLUMNS}"));
        }
    }
    Ok(columns)
}

fn csv(columns: &[Column], text: &str) -> Result<Raw, String> {
    let fields = fields(text)?;
    if fields.len() != columns.len() {
        return Err(format!("has {} fields where the header has {}", fields.len(), columns.len()));
    }
    let mut raw = Raw::default();
    for (column, field) in columns.iter().zip(fields) {
        let field = field.trim();
        let given = || Some(field).filter(|field| !field.is_empty()).map(String::from);
        let number = |name: &str| format!("{name}: must be a whole number, not {field:?}");
        match column {
            Column::Amount => {
                raw.amount =
                    field.parse().map_err(|_| format!("{}, in minor units such as cents", number("amount")))?;
            }
            Column::Currency => raw.currency = field.to_owned(),
            Column::Country => raw.country = given(),
            Column::CardCountry => raw.card_country = given(),
            Column::MerchantCountry => raw.merchant_country = given(),
            Column::Method => raw.method = given(),
            Column::Tier => raw.tier = given(),
            Column::Count if field.is_empty() => {}
            Column::Count => raw.count = Some(field.parse().map_err(|_| number("count"))?),
        }
    }
    Ok(raw)
}

/// The fields of a line of CSV; one in quotes may hold commas, and a quote written twice.
fn fields(text: &str) -> Result<Vec<String>, String> {
    if !text.contains('"') {
        return Ok(text.split(',').map(String::from).collect());
    }
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let field = match fields.last_mut() {
            Some(field) => field,
            None => break,
        };
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                field.push('"');
                characters.next();
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if is_quoted { Err(String::from("a quote is not closed")) } else { Ok(fields) }
}

fn checked(raw: Raw, number: u64) -> Result<Line, String> {
    if !(1..=AMOUNT_MINOR_MAX).contains(&raw.amount) {
        return Err(format!("amount: must be from 1 to {AMOUNT_MINOR_MAX} minor units, not {}", raw.amount));
    }
    let currency: Currency =
        raw.currency.parse().map_err(|error| format!("currency: {:?} is {error}", raw.currency))?;
    let country = |name: &str, code: Option<String>| {
        let Some(code) = code.filter(|code| !code.is_empty()) else { return Ok(None) };
        let wrong = |_| format!("{name}: {code:?} is not an ISO 3166-1 alpha-2 code in capitals such as DE");
        code.parse::<Country>().map(Some).map_err(wrong)
    };
    let count = raw.count.unwrap_or(1);
    if count > COUNT_MAX {
        return Err(format!("count: must be at most {COUNT_MAX}"));
    }
    Ok(Line {
        number,
        money: Money::new(raw.amount, currency),
        country: country("country", raw.country)?,
        card_country: country("card_country", raw.card_country)?,
        merchant_country: country("merchant_country", raw.merchant_country)?,
        method: raw.method.filter(|method| !method.is_empty()),
        tier: raw.tier.unwrap_or_default(),
        count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Line>, WrongLine> {
        let mut traffic = Traffic::new(text.as_bytes());
        let mut lines = Vec::new();
        while let Some(line) = traffic.next_line() {
            lines.push(line?);
        }
        Ok(lines)
    }

    fn wrong(text: &str) -> (u64, String) {
        let wrong = read(text).unwrap_err();
        (wrong.line, wrong.what)
    }

    #[test]
    fn csv_and_json_lines_say_the_same() {
        let csv = "\u{feff}# a comment\r\namount,currency,country,method,count\r\n1000,USD,US,card,3\r\n\r\n 500 ,JPY,,\"ali\"\"pay\",\n";
        let json = "{\"amount_minor\":1000,\"currency\":\"USD\",\"country\":\"US\",\"method\":\"card\",\"count\":3}\n\n\
                    {\"amount\":500,\"currency\":\"JPY\",\"method\":\"ali\\\"pay\"}";
        let (csv, json) = (read(csv).unwrap(), read(json).unwrap());
        assert_eq!(csv.iter().map(|line| line.number).collect::<Vec<_>>(), [3, 5]);
        let alike = |line: &Line| Line { number: 0, ..line.clone() };
        assert_eq!(csv.iter().map(alike).collect::<Vec<_>>(), json.iter().map(alike).collect::<Vec<_>>());
        assert_eq!((csv[0].count, csv[1].count, csv[1].country), (3, 1, None));
        assert_eq!(csv[1].method.as_deref(), Some("ali\"pay"));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_line() {
        for (text, line, part) in [
            ("amount,currency\n1.50,USD", 2, "minor units such as cents"),
            ("amount,currency\n10,USD\n0,USD", 3, "from 1 to"),
            ("amount,currency\n1000000000000,USD", 2, "from 1 to"),
            ("amount,currency\n10,EURO", 2, "EURO"),
            ("amount,currency,country\n10,USD,us", 2, "\"us\""),
            ("amount,currency\n10,USD,7", 2, "3 fields"),
            ("amount,currency,methd\n", 1, "methd"),
            ("amount,amount_minor,currency\n", 1, "twice"),
            ("amount,country\n", 1, "currency"),
            ("amount,currency,count\n10,USD,-1", 2, "count"),
            ("amount,currency,count\n10,USD,2000000000", 2, "count"),
            ("amount,currency\n\"10,USD", 2, "quote"),
            ("{\"amount\":10,\"currency\":\"USD\"}\n{\"amount\":10}", 2, "currency"),
            ("{\"amount\":10,\"currency\":\"USD\",\"x\":1}", 1, "x"),
        ] {
            let (found, what) = wrong(text);
            assert_eq!(found, line, "{text}: {what}");
            assert!(what.contains(part), "{text}: {what}");
        }
        let endless = format!("amount,currency\n{}", "1".repeat(100_000));
        assert_eq!(wrong(&endless).0, 2);
        assert!(Traffic::new([0xff_u8, b'\n'].as_slice()).next_line().is_some_and(|line| line.is_err()));
    }
}
