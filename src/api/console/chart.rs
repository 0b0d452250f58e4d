//! Charts: lines over the last minutes, drawn here as SVG. Their colours are given by the sheet of styles, so that they
//! fit light and dark; the same figures stand below as a table, for who can't see them.

use std::fmt;

use askama::Template;
use askama::filters::HtmlSafe;
use plotters::prelude::*;

use super::table::{Cell, Table};

/// The sheet of styles gives these colours others; they are what is seen without it.
const SERIES: [RGBColor; 6] = [
    RGBColor(0x24, 0x56, 0xD6),
    RGBColor(0x0A, 0x8A, 0x50),
    RGBColor(0xC2, 0x57, 0x0C),
    RGBColor(0x8B, 0x3F, 0xD1),
    RGBColor(0xB3, 0x26, 0x1E),
    RGBColor(0x64, 0x70, 0x8A),
];
const TEXT: RGBColor = RGBColor(0x5B, 0x65, 0x78);
const LINES: RGBColor = RGBColor(0xDF, 0xE3, 0xEA);
const SIZE: (u32, u32) = (560, 190);
/// Of the labels beside a chart: how wide a character is, and the least and most that all of them take.
const CHARACTER_WIDTH: i32 = 8;
const LABEL_WIDTH: (i32, i32) = (44, 140);
/// Minutes of the table below a chart, the newest: all of three hours would be most of the page.
const TABLE_MINUTES_MAX: usize = 30;
/// Labels below a chart.
const LABELS: i64 = 6;

/// SVG that was drawn here.
#[derive(Clone, Debug, Default)]
struct Drawing(String);

impl fmt::Display for Drawing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl HtmlSafe for Drawing {}

/// One line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// What it is of.
    pub(super) name: String,
    /// A value for each minute; none where there is nothing to say.
    pub(super) values: Vec<Option<f64>>,
}

/// Lines over minutes.
#[derive(Clone, Debug, Template)]
#[template(path = "chart.html")]
pub(super) struct Chart {
    title: String,
    /// In one sentence.
    summary: String,
    legend: Vec<(usize, String)>,
    drawing: Drawing,
    /// What folds the table away.
    table_name: String,
    table: Table,
}

impl HtmlSafe for Chart {}

impl Chart {
    /// Of `series` over the minutes from `first` (in minutes since the Unix epoch). `top` is the least that the axis
    /// reaches to; `write` writes a value with its unit.
    pub(super) fn new(title: &str, first: i64, series: &[Series], top: f64, write: impl Fn(f64) -> String) -> Self {
        // One that can't be drawn still has its table.
        let drawing = draw(first, series, top, &write).unwrap_or_default();
        let last = |series: &Series| series.values.last().copied().flatten();
        let words = |value: Option<f64>| value.map_or_else(|| String::from("nothing"), &write);
        let now: Vec<String> = series
            .iter()
            .map(|series| match series.name.as_str() {
                "" => words(last(series)),
                name => format!("{name}: {}", words(last(series))),
            })
            .collect();
        let legend = series.iter().enumerate().filter(|(_, series)| !series.name.is_empty());
        Self {
            title: String::from(title),
            summary: format!("{title}. In the last minute {}.", now.join(", ")),
            legend: legend.map(|(place, series)| (place % SERIES.len() + 1, series.name.clone())).collect(),
            drawing: Drawing(drawing),
            table_name: match minutes_of(series) {
                minutes if minutes > TABLE_MINUTES_MAX => format!("The last {TABLE_MINUTES_MAX} minutes as a table"),
                _ => String::from("As a table"),
            },
            table: table(title, first, series, &write),
        }
    }
}

/// Minutes that the longest of them has.
fn minutes_of(series: &[Series]) -> usize {
    series.iter().map(|series| series.values.len()).max().unwrap_or(0)
}

fn clock(minute: i64) -> String {
    let of_day = minute.rem_euclid(24 * 60);
    format!("{:02}:{:02}", of_day / 60, of_day % 60)
}

/// The last minutes, newest first.
fn table(title: &str, first: i64, series: &[Series], write: &impl Fn(f64) -> String) -> Table {
    let minutes = minutes_of(series);
    let value = |series: &Series, place: usize| {
        let value = series.values.get(place).copied().flatten();
        value.map_or(Cell::Nothing, |value| Cell::Number(write(value)))
    };
    let rows = (0..minutes).rev().take(TABLE_MINUTES_MAX).map(|place| {
        let minute = first.saturating_add(i64::try_from(place).unwrap_or(0));
        let mut row = vec![Cell::Text(clock(minute))];
        row.extend(series.iter().map(|series| value(series, place)));
        row
    });
    let names = series.iter().map(|series| match series.name.as_str() {
        "" => String::from("Value"),
        name => String::from(name),
    });
    let columns = std::iter::once(String::from("Minute (UTC)")).chain(names);
    Table::named(title, columns.collect(), "Nothing yet.").with_rows(rows)
}

/// # Errors
/// What the drawing crate says; it draws into memory.
fn draw(
    first: i64,
    series: &[Series],
    top: f64,
    write: &impl Fn(f64) -> String,
) -> Result<String, DrawingAreaErrorKind<std::io::Error>> {
    let minutes = minutes_of(series);
    let last = first.saturating_add(i64::try_from(minutes.max(2)).unwrap_or(2) - 1);
    let values = series.iter().flat_map(|series| series.values.iter().flatten());
    // An axis has some length.
    let highest = values.fold(top, |high, value| high.max(*value)).max(0.001);
    let longest = i32::try_from(write(highest).chars().count()).unwrap_or(i32::MAX);
    let label_width = longest.saturating_mul(CHARACTER_WIDTH).clamp(LABEL_WIDTH.0, LABEL_WIDTH.1);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let step = ((last - first) / LABELS).max(1);
        let labels: Vec<i64> = (first..=last).filter(|minute| minute.rem_euclid(step) == 0).collect();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(24)
            .x_label_area_size(22)
            .y_label_area_size(label_width)
            .build_cartesian_2d((first..last).with_key_points(labels), 0.0..highest * 1.05)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .y_labels(4)
            .light_line_style(TRANSPARENT)
            .bold_line_style(LINES)
            .axis_style(LINES)
            .label_style(("sans-serif", 15).into_font().color(&TEXT))
            .x_label_formatter(&|minute| clock(*minute))
            .y_label_formatter(&|value| write(*value))
            .draw()?;
        for (place, series) in series.iter().enumerate() {
            let color = SERIES.get(place % SERIES.len()).copied().unwrap_or(TEXT);
            for run in runs(first, &series.values) {
                match run.as_slice() {
                    [alone] => {
                        chart.draw_series(std::iter::once(Circle::new(*alone, 2, color.filled())))?;
                    }
                    _ => {
                        chart.draw_series(LineSeries::new(run, color.stroke_width(2)))?;
                    }
                }
            }
        }
        area.present()?;
    }
    // Its size is the page's to say.
    Ok(svg.replacen(&format!("width=\"{}\" height=\"{}\" ", SIZE.0, SIZE.1), "aria-hidden=\"true\" ", 1))
}

/// Points that follow each other without a gap.
fn runs(first: i64, values: &[Option<f64>]) -> Vec<Vec<(i64, f64)>> {
    let mut runs: Vec<Vec<(i64, f64)>> = Vec::new();
    let mut is_open = false;
    for (minute, value) in (first..).zip(values) {
        match (value, runs.last_mut()) {
            (None, _) => {}
            (Some(value), Some(run)) if is_open => run.push((minute, *value)),
            (Some(value), _) => runs.push(vec![(minute, *value)]),
        }
        is_open = value.is_some();
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[Option<f64>]) -> Series {
        Series { name: String::from(name), values: values.to_vec() }
    }

    #[test]
    fn a_chart_is_drawn_with_colours_of_the_sheet_and_a_table() {
        let values: Vec<Option<f64>> = (0..60).map(|minute| Some(f64::from(minute))).collect();
        let two = [series("stripe", &values), series("<script>", &[None; 60])];
        let html = Chart::new("Payments", 29_000_000, &two, 1.0, |value| format!("{value:.0}")).render().unwrap();
        assert!(html.contains("<svg") && html.contains("<polyline") && html.contains("stroke=\"#2456D6\""), "{html}");
        assert!(
            html.contains("stripe: 59") && html.contains("&#60;script&#62;") && !html.contains("<script"),
            "{html}"
        );
        assert!(!html.contains(" style=") && !html.contains("width=\"560\""), "{html}");
        assert!(html.contains("<table>") && html.contains("22:19"), "{html}");
        assert_eq!(html.matches("<tr>").count(), 1 + TABLE_MINUTES_MAX, "the newest minutes stand in the table");
        assert!(html.contains("The last 30 minutes as a table") && !html.contains("21:49"), "{html}");
    }

    #[test]
    fn every_colour_has_another_in_the_sheet_of_styles() {
        let styles = include_str!("assets/console.css");
        for RGBColor(red, green, blue) in SERIES.into_iter().chain([TEXT, LINES]) {
            let name = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
            assert!(styles.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_gap_is_no_line_and_a_lonely_point_is_seen() {
        let values = [Some(1.0), None, Some(2.0), Some(3.0), None];
        let found = runs(10, &values);
        assert_eq!(found, [vec![(10, 1.0)], vec![(12, 2.0), (13, 3.0)]]);
        let html = Chart::new("x", 10, &[series("", &values)], 1.0, |value| value.to_string()).render().unwrap();
        assert!(html.contains("<circle") && html.contains("In the last minute nothing."), "{html}");
    }

    #[test]
    fn what_has_no_minutes_yet_can_be_drawn() {
        let none = Chart::new("x", 0, &[series("", &[])], 1.0, |value| value.to_string());
        assert!(none.render().unwrap().contains("Nothing yet."));
        let zero = Chart::new("x", 0, &[series("", &[Some(0.0)])], 0.0, |value| value.to_string());
        assert!(zero.render().unwrap().contains("<svg"));
        assert!(Chart::new("x", 0, &[], 1.0, |value| value.to_string()).render().is_ok());
    }
}
