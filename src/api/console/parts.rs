//! Pages that are made of parts, one below the other: facts, tables, forms and buttons, each under its heading.

use askama::Template;

use super::form::{Button, Form, Pager};
use super::page::Page;
use super::table::{Facts, Table};

/// Something that a part is made of.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Facts(Facts),
    Table(Table),
    Form(Form),
    Buttons(Vec<Button>),
    Pager(Pager),
    /// A sentence or two.
    Words(String),
    /// Long text of the machine's, folded away under these words.
    Folded(&'static str, String),
}

impl From<Facts> for Piece {
    fn from(facts: Facts) -> Self {
        Self::Facts(facts)
    }
}

impl From<Table> for Piece {
    fn from(table: Table) -> Self {
        Self::Table(table)
    }
}

impl From<Form> for Piece {
    fn from(form: Form) -> Self {
        Self::Form(form)
    }
}

impl From<Vec<Button>> for Piece {
    fn from(buttons: Vec<Button>) -> Self {
        Self::Buttons(buttons)
    }
}

impl From<Pager> for Piece {
    fn from(pager: Pager) -> Self {
        Self::Pager(pager)
    }
}

/// A part of a page.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Empty for none.
    heading: String,
    is_card: bool,
    pieces: Vec<Piece>,
}

impl Part {
    /// With a heading, and nothing in it yet.
    pub(super) fn new(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), is_card: false, pieces: Vec::new() }
    }

    /// Without a heading.
    pub(super) fn plain() -> Self {
        Self::new("")
    }

    /// Set apart from what stands around it.
    #[must_use]
    pub(super) fn card(mut self) -> Self {
        self.is_card = true;
        self
    }

    /// With one more piece.
    #[must_use]
    pub(super) fn with(mut self, piece: impl Into<Piece>) -> Self {
        self.pieces.push(piece.into());
        self
    }

    /// With a sentence or two.
    #[must_use]
    pub(super) fn saying(self, words: impl Into<String>) -> Self {
        self.with(Piece::Words(words.into()))
    }
}

/// A page of parts.
#[derive(Template)]
#[template(path = "parts.html")]
pub(super) struct Parts {
    /// What stands around them.
    pub(super) page: Page,
    /// In their order.
    pub(super) parts: Vec<Part>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Template)]
    #[template(
        source = "{% for piece in pieces %}{% match piece %}{% when Piece::Words(words) %}{{ words }}{% else %}{% endmatch %}{% endfor %}",
        ext = "html"
    )]
    struct Words {
        pieces: Vec<Piece>,
    }

    #[test]
    fn words_are_text() {
        let part = Part::new("a").card().saying("<script>");
        assert!(part.is_card);
        let html = Words { pieces: part.pieces }.render().unwrap();
        assert!(!html.contains("<script"), "{html}");
    }
}
