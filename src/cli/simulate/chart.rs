//! A bar chart of fees by mode and channel, as SVG that can be read on light and on dark ground.

use std::fmt::Write;

use super::report::{Report, grouped};

const WIDTH: i128 = 900;
/// Least width of the bars' labels; longer ones take it from the bars.
const LABEL_WIDTH: i128 = 170;
const VALUE_WIDTH: i128 = 190;
/// A letter and the gap behind a text, in the font that browsers take; somewhat too wide rather than too narrow.
const LETTER: i128 = 8;
const GAP: i128 = 24;
const ROW: i128 = 44;
const LEGEND_TOP: i128 = 46;
const LEGEND_ROW: i128 = 24;
/// Tell apart on both grounds, also for those who see few colours.
const COLOURS: [&str; 8] = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bb7733", "#888888"];

/// The chart.
pub(super) fn svg(report: &Report) -> String {
    let exponent = report.settlement.exponent();
    draw(&report.title(), &report.bars(), |minor| format!("{} {}", grouped(minor, exponent), report.settlement))
}

fn draw(title: &str, bars: &[(String, Vec<(String, i128)>)], money: impl Fn(i128) -> String) -> String {
    let mut channels: Vec<&str> = Vec::new();
    for (channel, _) in bars.iter().flat_map(|(_, parts)| parts) {
        if !channels.contains(&channel.as_str()) {
            channels.push(channel);
        }
    }
    channels.sort_unstable();
    let colour_of = |channel: &str| {
        let place = channels.iter().position(|known| *known == channel).unwrap_or(0);
        // Behind the last colour they begin again, paler.
        let opacity = ["1", "0.5", "0.25", "0.75"][place / COLOURS.len() % 4];
        format!("fill=\"{}\" fill-opacity=\"{opacity}\"", COLOURS[place % COLOURS.len()])
    };
    let label_width = bars.iter().map(|(label, _)| 12 + width_of(label)).max().unwrap_or(0).max(LABEL_WIDTH);
    let bar_width = WIDTH - label_width - VALUE_WIDTH;
    let legend = legend_places(&channels);
    let legend_rows = legend.last().map_or(1, |(_, row)| row + 1);
    let top = LEGEND_TOP + LEGEND_ROW * legend_rows + 14;
    let total = |parts: &[(String, i128)]| parts.iter().map(|(_, minor)| *minor).sum::<i128>();
    let most = bars.iter().map(|(_, parts)| total(parts)).max().unwrap_or(0).max(1);
    let height = top + ROW * bars.len() as i128 + 12;
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"14\">\n<title>{0}</title>\n\
         <style>text {{ fill: #1a1a1a }} .ground {{ fill: #ffffff }} \
         @media (prefers-color-scheme: dark) {{ text {{ fill: #f0f0f0 }} .ground {{ fill: #181818 }} }}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n<text x=\"12\" y=\"28\">{0}</text>",
        escaped(title)
    );
    for (channel, (x, row)) in channels.iter().zip(&legend) {
        let (colour, channel) = (colour_of(channel), escaped(channel));
        let y = LEGEND_TOP + LEGEND_ROW * row;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"14\" height=\"14\" {colour}/><text x=\"{}\" y=\"{}\">{channel}</text>",
            x + 20,
            y + 12
        );
    }
    for (row, (label, parts)) in bars.iter().enumerate() {
        let y = top + ROW * row as i128;
        let _ = writeln!(out, "<text x=\"12\" y=\"{}\">{}</text>", y + 21, escaped(label));
        let mut before = 0;
        for (channel, minor) in parts {
            let at = |minor: i128| label_width + minor * bar_width / most;
            let (x, end) = (at(before), at(before + minor));
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"30\" {}><title>{}: {}</title></rect>",
                end - x,
                colour_of(channel),
                escaped(channel),
                escaped(&money(*minor))
            );
            before += minor;
        }
        let x = label_width + total(parts) * bar_width / most + 8;
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\">{}</text>", y + 21, escaped(&money(total(parts))));
    }
    out.push_str("</svg>\n");
    out
}

fn width_of(text: &str) -> i128 {
    LETTER * text.chars().count() as i128 + GAP
}

/// Where each channel stands in the legend: from the left, and in which row.
fn legend_places(channels: &[&str]) -> Vec<(i128, i128)> {
    let (mut x, mut row) = (12, 0);
    let place = |channel: &&str| {
        let width = 20 + width_of(channel);
        if x > 12 && x + width > WIDTH {
            (x, row) = (12, row + 1);
        }
        let place = (x, row);
        x += width;
        place
    };
    channels.iter().map(place).collect()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML knows no other control characters.
            other if other.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_to_scale_and_texts_are_escaped() {
        let part = |channel: &str, minor| (channel.to_owned(), minor);
        let bars = [
            ("all on a<b>&\"".to_owned(), vec![part("a<b>&\"", 1_000)]),
            ("cost".to_owned(), vec![part("a<b>&\"", 250), part("c", 250)]),
            ("none".to_owned(), Vec::new()),
        ];
        let text = draw("1 < 2 \u{7}", &bars, |minor| minor.to_string());
        assert!(text.contains("all on a&lt;b&gt;&amp;&quot;") && !text.contains("a<b>") && !text.contains('\u{7}'));
        for (x, width) in [(170, 540), (170, 135), (305, 135)] {
            assert!(
                text.contains(&format!("<rect x=\"{x}\" y=\""))
                    && text.contains(&format!("width=\"{width}\" height=\"30\""))
            );
        }
        // Every element that is begun is ended, in order.
        let mut open = Vec::new();
        for tag in text.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split(' ').next().unwrap().to_owned()),
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!draw("", &[], |minor| minor.to_string()).is_empty());
    }

    #[test]
    fn many_channels_with_long_names_have_room_and_colours_of_their_own() {
        let names: Vec<String> = (0..16).map(|number| format!("{:a<30}{number:02}", "")).collect();
        let parts: Vec<(String, i128)> = names.iter().map(|name| (name.clone(), 10)).collect();
        let text = draw("", &[(format!("all on {}", names[0]), parts)], |minor| minor.to_string());
        let number_after = |text: &str, before: &str| -> i128 {
            text.split(before).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        let mut ends = std::collections::BTreeMap::new();
        for line in text.lines().filter(|line| line.contains("height=\"14\"")) {
            let (x, y) = (number_after(line, "<text x=\""), number_after(line, "y=\""));
            assert!(ends.insert(y, x + 32 * LETTER).is_none_or(|end| end < x - 20), "{line}");
            assert!(x + 32 * LETTER <= WIDTH, "{line}");
        }
        assert!(ends.len() > 1, "in rows");
        let bars: Vec<&str> = text.lines().filter(|line| line.contains("height=\"30\"")).collect();
        let first = number_after(bars[0], "<rect x=\"");
        assert!(first >= 12 + 39 * LETTER, "behind its label: {first}");
        let fills: std::collections::BTreeSet<&str> =
            bars.iter().map(|bar| bar.split(" fill=").nth(1).unwrap().split('>').next().unwrap()).collect();
        assert_eq!((bars.len(), fills.len()), (16, 16));
        assert!(number_after(bars[0], " y=\"") > *ends.keys().last().unwrap() + 14, "below the legend");
    }
}
