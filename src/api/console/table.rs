//! Tables, lists of facts, and what stands in them.

use askama::Template;
use askama::filters::HtmlSafe;

use super::form::Button;
use super::text;

/// A longer word is broken where the line ends.
const WORD_CHARACTERS_MAX: usize = 20;

/// How something does, at a glance. The word says it too, for who sees no colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Somebody should look.
    Warn,
    /// Under way.
    Busy,
    /// Neither.
    Plain,
}

impl Tone {
    /// The class that gives the colour.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Warn => "warn",
            Self::Busy => "busy",
            Self::Plain => "plain",
        }
    }

    /// The tone of a status of any object: payments, pre-auths, refunds, notifications, endpoints, breakers, merchants.
    pub(super) fn of_status(status: &str) -> Self {
        match status {
            "success" | "captured" | "delivered" | "active" | "closed" | "enabled" | "done" | "healthy" | "ready"
            | "requires_capture" | "completed" | "refunded" => Self::Good,
            "failed" | "dead" | "open" | "suspended" | "declined" | "refused" | "disabled" | "unhealthy" => Self::Bad,
            "needs_review" | "half_open" | "degraded" | "paused" | "expired" | "slow" => Self::Warn,
            "pending"
            | "processing"
            | "requires_action"
            | "requires_payment_method"
            | "retrying"
            | "running"
            | "sending" => Self::Busy,
            _ => Self::Plain,
        }
    }
}

/// One thing in a table or a list of facts. What is text is escaped.
#[derive(Clone, Debug, Template)]
#[template(path = "cell.html")]
pub(super) enum Cell {
    /// Words.
    Text(String),
    /// A number or an amount, set to the right.
    Number(String),
    /// A name of the machine's, such as a payment's number.
    Code(String),
    /// A name of the machine's that leads to a page.
    Link {
        /// Where.
        href: String,
        /// What it says.
        text: String,
    },
    /// A word with a colour.
    Badge(Tone, String),
    /// A point in time, RFC 3339.
    Moment(String),
    /// A point in time, RFC 3339, with how long it is until then; that runs where there are scripts.
    Until(String),
    /// How much of something is used.
    Meter {
        /// From 0 to 100; above that it is drawn full.
        percent: f64,
        /// In words.
        text: String,
    },
    /// Something that is already HTML of ours.
    Buttons(Vec<Button>),
    /// Several, one below the other.
    Lines(Vec<Cell>),
    /// Nothing is there.
    Nothing,
}

impl HtmlSafe for Cell {}

impl Cell {
    /// Words, or nothing.
    pub(super) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() { Self::Nothing } else { Self::Text(text) }
    }

    /// Words, or nothing.
    pub(super) fn maybe(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Nothing, Self::text)
    }

    /// A number, thousands set apart.
    pub(super) fn count(number: impl ToString) -> Self {
        Self::Number(text::count(number))
    }

    /// An amount of minor units.
    pub(super) fn money(amount_minor: i64, currency: &str) -> Self {
        Self::Number(text::money(amount_minor, currency))
    }

    /// A name of the machine's, or nothing.
    pub(super) fn code(name: impl Into<String>) -> Self {
        let name = name.into();
        if name.is_empty() { Self::Nothing } else { Self::Code(name) }
    }

    /// A name of the machine's that leads to the page of its object: `below` such as `/console/payments`.
    pub(super) fn link(below: &str, name: impl Into<String>) -> Self {
        let name = name.into();
        Self::Link { href: format!("{below}/{}", path_part(&name)), text: name }
    }

    /// A status with its colour.
    pub(super) fn status(status: &str) -> Self {
        Self::Badge(Tone::of_status(status), text::words(status))
    }

    /// A point in time, or nothing.
    pub(super) fn moment(rfc3339: Option<impl Into<String>>) -> Self {
        rfc3339.map_or(Self::Nothing, |at| Self::Moment(at.into()))
    }

    /// A share of something that should not be used up.
    pub(super) fn meter(percent: f64, text: impl Into<String>) -> Self {
        Self::Meter { percent, text: text.into() }
    }

    fn class(&self) -> &'static str {
        match self {
            Self::Number(_) => "number",
            Self::Buttons(_) => "buttons",
            _ => "",
        }
    }

    /// Whether it has to be broken somewhere, so that it does not push the others aside.
    fn is_long(text: &str) -> bool {
        text.split_whitespace().any(|word| word.chars().count() > WORD_CHARACTERS_MAX)
    }

    fn moment_words(rfc3339: &str) -> String {
        text::moment(rfc3339)
    }
}

/// One part of a path, with nothing in it that would end it.
pub(super) fn path_part(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut path, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => path.push(char::from(byte)),
            other => path.push_str(&format!("%{other:02X}")),
        }
        path
    })
}

/// A table. On a narrow screen each row becomes a card, so that nothing has to be pushed aside.
#[derive(Clone, Debug, Template)]
#[template(path = "table.html")]
pub(super) struct Table {
    /// What it lists, for who hears it read; not shown.
    caption: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    /// Shown in place of rows when there are none.
    empty: String,
}

impl HtmlSafe for Table {}

impl Table {
    /// Without rows yet; `empty` is said if it stays so.
    pub(super) fn new(caption: impl Into<String>, columns: &[&'static str], empty: impl Into<String>) -> Self {
        Self::named(caption, columns.iter().map(|name| String::from(*name)).collect(), empty)
    }

    /// The same, with columns whose names are known only now.
    pub(super) fn named(caption: impl Into<String>, columns: Vec<String>, empty: impl Into<String>) -> Self {
        Self { caption: caption.into(), columns, rows: Vec::new(), empty: empty.into() }
    }

    /// With these rows, each with a cell for every column.
    #[must_use]
    pub(super) fn with_rows(mut self, rows: impl IntoIterator<Item = Vec<Cell>>) -> Self {
        self.rows.extend(rows);
        self
    }

    fn column(&self, place: &usize) -> &str {
        self.columns.get(*place).map(String::as_str).unwrap_or_default()
    }

    /// The class of a column's cells, where all are of one kind but for those with nothing in them.
    fn class(&self, place: &usize) -> &'static str {
        let cells = self.rows.iter().filter_map(|row| row.get(*place));
        cells.filter(|cell| !matches!(cell, Cell::Nothing)).map(Cell::class).next().unwrap_or_default()
    }
}

/// Facts about one object, each with its name.
#[derive(Clone, Debug, Default, Template)]
#[template(path = "facts.html")]
pub(super) struct Facts(Vec<(&'static str, Cell)>);

impl HtmlSafe for Facts {}

impl Facts {
    /// With one more.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, cell: Cell) -> Self {
        self.0.push((name, cell));
        self
    }

    /// With one more, unless there is nothing to say.
    #[must_use]
    pub(super) fn with_some(self, name: &'static str, cell: Cell) -> Self {
        if matches!(cell, Cell::Nothing) { self } else { self.with(name, cell) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = r#"<script>alert("x")</script>'"#;

    #[test]
    fn whatever_stands_in_a_cell_is_text() {
        let cells = [
            Cell::text(EVIL),
            Cell::Number(String::from(EVIL)),
            Cell::code(EVIL),
            Cell::link("/console/payments", EVIL),
            Cell::status(EVIL),
            Cell::moment(Some(EVIL)),
            Cell::Until(String::from(EVIL)),
            Cell::meter(50.0, EVIL),
            Cell::Buttons(vec![Button::link(EVIL, EVIL)]),
            Cell::Lines(vec![Cell::text(EVIL)]),
        ];
        for cell in &cells {
            let html = cell.render().unwrap();
            assert!(!html.contains("<script") && !html.contains("(\"x"), "{html}");
            assert!(html.contains("&#60;script&#62;"), "it is shown: {html}");
        }
        let table = Table::new(EVIL, &["a"], EVIL).with_rows(cells.into_iter().map(|cell| vec![cell]));
        let facts = Facts::default().with("a", Cell::text(EVIL));
        for html in [table.render().unwrap(), facts.render().unwrap()] {
            assert!(!html.contains("<script"), "{html}");
        }
    }

    #[test]
    fn a_table_without_rows_says_so_and_cells_have_their_columns_name() {
        let table = Table::new("Payments", &["Number", "Amount"], "No payments yet.");
        assert!(table.render().unwrap().contains("No payments yet."));
        let html = table.with_rows([vec![Cell::code("PY1"), Cell::money(1_000, "USD")]]).render().unwrap();
        assert!(
            html.contains("data-label=\"Amount\"") && html.contains("10.00 USD") && !html.contains("yet"),
            "{html}"
        );
    }

    #[test]
    fn a_part_of_a_path_stays_one() {
        assert_eq!(path_part("PY2025-1_a"), "PY2025-1_a");
        assert_eq!(path_part("a/b?c#d e"), "a%2Fb%3Fc%23d%20e");
    }
}
