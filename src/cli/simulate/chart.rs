//! A bar chart of fees by mode and channel, as SVG that can be read on light and on dark ground.

use std::fmt::Write;

use super::report::{Report, grouped};

const WIDTH: i128 = 900;
const LABEL_WIDTH: i128 = 170;
const VALUE_WIDTH: i128 = 190;
const ROW: i128 = 44;
const TOP: i128 = 84;
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
        COLOURS[place % COLOURS.len()]
    };
    let total = |parts: &[(String, i128)]| parts.iter().map(|(_, minor)| *minor).sum::<i128>();
    let most = bars.iter().map(|(_, parts)| total(parts)).max().unwrap_or(0).max(1);
    let height = TOP + ROW * bars.len() as i128 + 12;
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
    for (place, channel) in channels.iter().enumerate() {
        let x = 12 + 140 * place as i128;
        let (colour, channel) = (colour_of(channel), escaped(channel));
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"46\" width=\"14\" height=\"14\" fill=\"{colour}\"/><text x=\"{}\" y=\"58\">{channel}</text>",
            x + 20
        );
    }
    for (row, (label, parts)) in bars.iter().enumerate() {
        let y = TOP + ROW * row as i128;
        let _ = writeln!(out, "<text x=\"12\" y=\"{}\">{}</text>", y + 21, escaped(label));
        let mut before = 0;
        for (channel, minor) in parts {
            let at = |minor: i128| LABEL_WIDTH + minor * (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / most;
            let (x, end) = (at(before), at(before + minor));
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"30\" fill=\"{}\"><title>{}: {}</title></rect>",
                end - x,
                colour_of(channel),
                escaped(channel),
                escaped(&money(*minor))
            );
            before += minor;
        }
        let x = LABEL_WIDTH + total(parts) * (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / most + 8;
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\">{}</text>", y + 21, escaped(&money(total(parts))));
    }
    out.push_str("</svg>\n");
    out
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
}
