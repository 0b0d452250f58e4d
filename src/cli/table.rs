//! Aligned tables for people.

use comfy_table::{Cell, CellAlignment, ContentArrangement, presets};

use super::output::harmless;
use super::style::{self, BOLD, RESET, Tone};

/// Stand for the beginning of a style while the table is laid out, because they take no room: titles, and a state's tones.
const MARKS: [(char, Tone); 4] =
    [('\u{2061}', Tone::Plain), ('\u{2062}', Tone::Good), ('\u{2063}', Tone::Open), ('\u{2064}', Tone::Bad)];

/// A column: what stands above it, and on which side its cells are aligned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Texts.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
    /// States, which have colours where there are any.
    Status(&'static str),
}

impl Column {
    fn cell(self, text: &str, with_colors: bool) -> Cell {
        let alignment = match self {
            Self::Left(_) | Self::Status(_) => CellAlignment::Left,
            Self::Right(_) => CellAlignment::Right,
        };
        // Nobody else's marks.
        let text = harmless(text).replace(|character| MARKS.iter().any(|(mark, _)| *mark == character), "");
        let mark = match self {
            Self::Status(_) if with_colors => mark_of(Tone::of(&text)),
            _ => None,
        };
        Cell::new(mark.into_iter().chain(text.chars()).collect::<String>()).set_alignment(alignment)
    }

    fn title_cell(self, with_colors: bool) -> Cell {
        let mark = with_colors.then_some(MARKS[0].0);
        let alignment = if matches!(self, Self::Right(_)) { CellAlignment::Right } else { CellAlignment::Left };
        Cell::new(mark.into_iter().chain(self.title().chars()).collect::<String>()).set_alignment(alignment)
    }

    fn title(self) -> &'static str {
        let (Self::Left(title) | Self::Right(title) | Self::Status(title)) = self;
        title
    }
}

/// A table of `rows`, each with one cell for each of `columns`. A line may be longer than the terminal is wide: what is shown
/// is there to be copied, and a number that is broken in two is none.
pub(super) fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    drawn(columns, rows, style::on_stdout())
}

fn drawn(columns: &[Column], rows: &[Vec<String>], with_colors: bool) -> String {
    // Nothing follows the last column, so trailing blanks are only noise.
    let lines: Vec<String> = laid_out(columns, rows, with_colors).lines().map(|line| styled(line.trim_end())).collect();
    lines.join("\n")
}

fn laid_out(columns: &[Column], rows: &[Vec<String>], with_colors: bool) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| column.title_cell(with_colors)));
    for row in rows {
        table.add_row(columns.iter().zip(row).map(|(column, text)| column.cell(text, with_colors)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn mark_of(tone: Tone) -> Option<char> {
    MARKS[1..].iter().find(|(_, marked)| *marked == tone).map(|(mark, _)| *mark)
}

/// A line with styles in place of marks: titles are bold to the end of the line, states are coloured to the end of the word.
fn styled(line: &str) -> String {
    let tone_of = |character: char| MARKS.iter().find(|(mark, _)| *mark == character).map(|(_, tone)| *tone);
    let mut text = String::with_capacity(line.len());
    let mut open = "";
    for character in line.chars() {
        match tone_of(character) {
            Some(tone) => {
                let style = if tone == Tone::Plain { BOLD } else { tone.style() };
                if open != style {
                    text.push_str(style);
                    open = style;
                }
            }
            None => {
                if character == ' ' && !open.is_empty() && open != BOLD {
                    text.push_str(RESET);
                    open = "";
                }
                text.push(character);
            }
        }
    }
    if !open.is_empty() {
        text.push_str(RESET);
    }
    text
}

/// What a table shows for something that is not there.
pub(super) fn or_dash(text: Option<&str>) -> String {
    String::from(text.filter(|text| !text.is_empty()).unwrap_or("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::STYLES;

    #[test]
    fn columns_are_aligned_on_their_sides() {
        let rows = [vec![String::from("stripe"), String::from("7")], vec![String::from("x"), String::from("1234")]];
        let text = drawn(&[Column::Left("channel"), Column::Right("payments")], &rows, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].ends_with("payments"));
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        assert!(lines[1].trim_start().starts_with("stripe"));
        assert!(lines[2].ends_with("1234"));
    }

    #[test]
    fn nothing_is_broken_in_two_on_a_narrow_terminal() {
        let row = ["PY20261122035149axt0paix", "m_0mwravr5t3skfnccjnv", "2026-11-22T03:51:49Z", "failover"];
        let columns = ["payment", "merchant", "created", "strategy"].map(Column::Left);
        let mut table = laid_out(&columns, &[row.map(String::from).to_vec()], false);
        table.set_width(40);
        let lines: Vec<String> = table.lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), row);
    }

    #[test]
    fn states_have_colours_that_others_cannot_bring() {
        let rows = [vec![String::from("\u{1b}[8mshop"), String::from("suspended")]];
        let columns = [Column::Left("name"), Column::Status("status")];
        let plain = drawn(&columns, &rows, false);
        assert!(!plain.contains('\u{1b}') && plain.contains("\\u001b[8mshop"), "{plain:?}");
        let colored = drawn(&columns, &rows, true);
        let lines: Vec<&str> = colored.lines().collect();
        assert!(lines[0].starts_with("\u{1b}[1mname") && lines[0].ends_with("status\u{1b}[0m"), "{colored:?}");
        assert!(lines[1].ends_with("  \u{1b}[31msuspended\u{1b}[0m"), "{colored:?}");
        let without = STYLES.iter().fold(colored.clone(), |text, style| text.replace(style, ""));
        assert_eq!(without, plain, "colours take no room");
        let marked = drawn(&columns, &[vec![String::from("\u{2064}shop"), String::from("-")]], true);
        assert!(!marked.contains("\u{1b}[31m"), "{marked:?}");
    }

    #[test]
    fn nothing_is_shown_as_a_dash() {
        assert_eq!(or_dash(None), "-");
        assert_eq!(or_dash(Some("")), "-");
        assert_eq!(or_dash(Some("DE")), "DE");
    }
}
