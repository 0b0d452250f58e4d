//! Aligned tables for people.

use comfy_table::{Cell, CellAlignment, ContentArrangement, presets};

/// A column: what stands above it, and on which side its cells are aligned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Texts.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

impl Column {
    fn cell(self, text: &str) -> Cell {
        match self {
            Self::Left(_) => Cell::new(text).set_alignment(CellAlignment::Left),
            Self::Right(_) => Cell::new(text).set_alignment(CellAlignment::Right),
        }
    }

    fn title(self) -> &'static str {
        let (Self::Left(title) | Self::Right(title)) = self;
        title
    }
}

/// A table of `rows`, each with one cell for each of `columns`. On a terminal cells are wrapped to its width.
pub(super) fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().map(|column| column.cell(column.title())));
    for row in rows {
        table.add_row(columns.iter().zip(row).map(|(column, text)| column.cell(text)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // Nothing follows the last column, so trailing blanks are only noise.
    let lines: Vec<String> = table.lines().map(|line| String::from(line.trim_end())).collect();
    lines.join("\n")
}

/// What a table shows for something that is not there.
pub(super) fn or_dash(text: Option<&str>) -> String {
    String::from(text.filter(|text| !text.is_empty()).unwrap_or("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_on_their_sides() {
        let rows = [vec![String::from("stripe"), String::from("7")], vec![String::from("x"), String::from("1234")]];
        let text = table(&[Column::Left("channel"), Column::Right("payments")], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].ends_with("payments"));
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        assert!(lines[1].trim_start().starts_with("stripe"));
        assert!(lines[2].ends_with("1234"));
    }

    #[test]
    fn nothing_is_shown_as_a_dash() {
        assert_eq!(or_dash(None), "-");
        assert_eq!(or_dash(Some("")), "-");
        assert_eq!(or_dash(Some("DE")), "DE");
    }
}
