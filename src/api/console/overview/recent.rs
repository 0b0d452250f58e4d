//! The last minutes as figures and charts.

use std::collections::BTreeSet;

use askama::Template;
use askama::filters::HtmlSafe;

use crate::domain::history::{Counted, Minute};
use crate::domain::money::Currency;

use super::super::chart::{Chart, Series};
use super::super::text::{count, money, percent};
use super::Tile;

/// The share of commits whose time is shown.
const COMMITS_SHARE: f64 = 0.99;
/// Currencies that have charts at once.
pub(super) const CURRENCIES_MAX: usize = 4;

/// The last minutes.
#[derive(Template)]
#[template(path = "recent.html")]
pub(super) struct Recent {
    charts: Vec<Chart>,
    minutes: Vec<Minute>,
    /// Currencies in which money was taken, in the order of their codes.
    currencies: BTreeSet<String>,
    /// Those of them that have no charts.
    not_drawn: Vec<String>,
}

impl HtmlSafe for Recent {}

impl Recent {
    /// Of these minutes, the oldest first, with the money of one currency or of the first ones. Amounts of different
    /// currencies can't be compared, so that none of them comes before another but by its code.
    pub(super) fn of(minutes: &[Minute], only: Option<&str>) -> Self {
        let currencies: BTreeSet<String> =
            minutes.iter().flat_map(|minute| minute.counted.money.keys()).cloned().collect();
        let drawn: Vec<&str> = match only {
            Some(only) => vec![only],
            None => currencies.iter().map(String::as_str).take(CURRENCIES_MAX).collect(),
        };
        let not_drawn = currencies.iter().filter(|code| !drawn.contains(&code.as_str())).cloned().collect();
        Self { charts: charts(minutes, &drawn), minutes: minutes.to_vec(), not_drawn, currencies }
    }

    /// Currencies in which money was taken, in the order of their codes.
    pub(super) fn currencies(&self) -> impl Iterator<Item = &String> {
        self.currencies.iter()
    }

    /// What they come to.
    pub(super) fn tiles(&self) -> Vec<Tile> {
        let mut all = Counted::default();
        self.minutes.iter().for_each(|minute| all.add(&minute.counted));
        let span = match self.minutes.len() {
            1 => String::from("in the last minute"),
            minutes => format!("in the last {minutes} min"),
        };
        let (approved, ended) = all
            .ends
            .values()
            .fold((0, 0), |(approved, ended), ends| (approved + ends.approved, ended + ends.approved + ends.declined));
        // The running minute is not over yet.
        let last_full = self.minutes.iter().rev().nth(1).or(self.minutes.last());
        let waiting = self.minutes.last().and_then(|minute| minute.webhooks_waiting);
        let unknown = || String::from("–");
        vec![
            Tile {
                name: "Payments a minute",
                href: None,
                value: count(last_full.map_or(0, |minute| minute.counted.payments)),
                more: format!("{} {span}", count(all.payments)),
            },
            Tile {
                name: "Approved",
                href: None,
                value: if ended > 0 { percent(approved as f64 / ended as f64) } else { unknown() },
                more: format!("of {} {span}", count(ended)),
            },
            Tile { name: "Refused by limits", href: None, value: count(all.refused), more: span.clone() },
            Tile {
                name: "Webhooks waiting",
                href: None,
                value: waiting.map_or_else(unknown, count),
                more: String::from("to be sent, or sent again"),
            },
            Tile {
                name: "Commits on disk within",
                href: None,
                value: all.commits.within(COMMITS_SHARE).map_or_else(unknown, |seconds| milliseconds(seconds * 1e3)),
                more: format!("99 % of {} {span}", count(all.commits.count)),
            },
        ]
    }
}

fn charts(all: &[Minute], currencies: &[&str]) -> Vec<Chart> {
    // The running minute is not over: as a whole one it would be a fall that there is not.
    let minutes = match all {
        [over @ .., _] if !over.is_empty() => over,
        all => all,
    };
    let first = minutes.first().map_or(0, |minute| minute.at.unix_ms().div_euclid(60_000));
    let one = |value: fn(&Minute) -> Option<f64>| {
        vec![Series { name: String::new(), values: minutes.iter().map(value).collect() }]
    };
    let number = |value: f64| count(value.round() as i64);
    let payments = one(|minute| Some(minute.counted.payments as f64));
    let refused = one(|minute| Some(minute.counted.refused as f64));
    let waiting = one(|minute| minute.webhooks_waiting.map(|waiting| waiting as f64));
    let commits = one(|minute| minute.counted.commits.within(COMMITS_SHARE).map(|seconds| seconds * 1e3));
    let mut charts = vec![
        Chart::new("Payments a minute", first, &payments, 4.0, number),
        Chart::new("Approved, by channel", first, &approval(all, minutes), 100.0, |value| format!("{value:.0} %")),
    ];
    for currency in currencies {
        let MoneyLines { taken, saved } = money_lines(currency, minutes);
        // Of one unit at least, whatever its decimals.
        let unit = 10_f64.powi(currency.parse::<Currency>().map_or(0, |known| known.exponent() as i32));
        let write = |value: f64| money(value.round() as i64, currency);
        charts.push(Chart::new(&format!("Money taken a minute, {currency}"), first, &taken, unit, write));
        let title = format!("Fees saved since the first minute shown, {currency}");
        charts.push(Chart::new(&title, first, &saved, unit, write));
    }
    charts.extend([
        Chart::new("Refused by limits a minute", first, &refused, 4.0, number),
        Chart::new("Webhooks waiting", first, &waiting, 4.0, number),
        Chart::new("99 % of commits on disk within", first, &commits, 1.0, milliseconds),
    ]);
    charts
}

fn milliseconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.1} ms") } else { format!("{value:.0} ms") }
}

fn approval(all: &[Minute], minutes: &[Minute]) -> Vec<Series> {
    let channels: BTreeSet<&String> = all.iter().flat_map(|minute| minute.counted.ends.keys()).collect();
    let line = |channel: &String| Series {
        name: channel.clone(),
        values: minutes
            .iter()
            .map(|minute| minute.counted.ends.get(channel).and_then(|ends| ends.approval()).map(|share| share * 100.0))
            .collect(),
    };
    channels.into_iter().map(line).collect()
}

/// The lines of one currency's money.
struct MoneyLines {
    /// What was taken each minute.
    taken: Vec<Series>,
    /// What was saved until then.
    saved: Vec<Series>,
}

fn money_lines(currency: &str, minutes: &[Minute]) -> MoneyLines {
    let of = |minute: &Minute| minute.counted.money.get(currency).copied().unwrap_or_default();
    let mut sum = 0.0;
    let saved = minutes.iter().map(|minute| {
        let amounts = of(minute);
        sum += amounts.baseline_minor as f64 - amounts.fees_minor as f64;
        Some(sum)
    });
    let line = |values| vec![Series { name: String::new(), values }];
    MoneyLines {
        saved: line(saved.collect()),
        taken: line(minutes.iter().map(|minute| Some(of(minute).taken_minor as f64)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::history::{Amounts, Ends, Spread};
    use crate::domain::time::Timestamp;

    fn minute(number: i64, payments: u64) -> Minute {
        let ends = Ends { approved: payments / 2, declined: payments - payments / 2 };
        let amounts =
            Amounts { taken_minor: payments * 1_000, fees_minor: payments * 20, baseline_minor: payments * 30 };
        Minute {
            at: Timestamp::from_unix_s(1_700_000_040 + number * 60),
            counted: Counted {
                payments,
                ends: BTreeMap::from([(String::from("stripe"), ends)]),
                money: BTreeMap::from([(String::from("USD"), amounts)]),
                refused: 1,
                commits: Spread { up_to: vec![(0.001, payments), (0.01, payments * 2)], count: payments * 2 },
            },
            webhooks_waiting: Some(7),
        }
    }

    #[test]
    fn tiles_add_the_minutes_up() {
        let recent = Recent::of(&[minute(0, 10), minute(1, 20), minute(2, 1)], None);
        let tiles = recent.tiles();
        let is = |name: &str, value: &str, more: &str| {
            let tile = tiles.iter().find(|tile| tile.name == name).unwrap();
            assert_eq!((tile.value.as_str(), tile.more.as_str()), (value, more), "{name}");
        };
        is("Payments a minute", "20", "31 in the last 3 min");
        is("Approved", "48.4 %", "of 31 in the last 3 min");
        is("Refused by limits", "3", "in the last 3 min");
        is("Webhooks waiting", "7", "to be sent, or sent again");
        is("Commits on disk within", "10 ms", "99 % of 62 in the last 3 min");
    }

    #[test]
    fn charts_say_the_last_minute_in_words() {
        // The last one runs still: it is not drawn as one in which little happened.
        let html = Recent::of(&[minute(0, 10), minute(1, 20), minute(2, 1)], None).render().unwrap();
        for words in [
            "Payments a minute. In the last minute 20.",
            "In the last minute stripe: 50 %.",
            "Money taken a minute, USD. In the last minute 200.00 USD.",
            "In the last minute 3.00 USD.",
            "In the last minute 10 ms.",
        ] {
            assert!(html.contains(words), "{words} in {html}");
        }
    }

    #[test]
    fn each_currency_has_its_own_charts() {
        let mut last = minute(1, 20);
        let yen = Amounts { taken_minor: 60_000, fees_minor: 10, baseline_minor: 110 };
        last.counted.money.insert(String::from("JPY"), yen);
        let html = Recent::of(&[minute(0, 10), last, minute(2, 0)], None).render().unwrap();
        for words in [
            "Money taken a minute, JPY. In the last minute 60,000 JPY.",
            "Fees saved since the first minute shown, JPY. In the last minute 100 JPY.",
            "Money taken a minute, USD. In the last minute 200.00 USD.",
        ] {
            assert!(html.contains(words), "{words} in {html}");
        }
    }

    #[test]
    fn of_a_great_many_currencies_the_first_have_charts_or_the_one_that_is_chosen() {
        let mut first = minute(0, 10);
        for (place, code) in ["JPY", "EUR", "BHD", "CNY", "GBP"].into_iter().enumerate() {
            // Thousands of one are less than one of another.
            let taken_minor = 1_000_000 >> (place * 3);
            first.counted.money.insert(String::from(code), Amounts { taken_minor, ..Amounts::default() });
        }
        let minutes = [first, minute(1, 20)];
        let drawn = |only: Option<&str>| {
            let recent = Recent::of(&minutes, only);
            let html = recent.render().unwrap();
            let has_chart = |code: &&String| html.contains(&format!("Money taken a minute, {code}."));
            let drawn: Vec<String> = recent.currencies().filter(has_chart).cloned().collect();
            (drawn, html)
        };
        let (all, html) = drawn(None);
        assert_eq!(all, ["BHD", "CNY", "EUR", "GBP"]);
        assert!(html.contains("JPY, USD"), "what is not drawn is named: {html}");
        assert_eq!(drawn(Some("JPY")).0, ["JPY"]);
        let (none, html) = drawn(Some("KRW"));
        assert!(none.is_empty() && html.contains("Money taken a minute, KRW."), "{html}");
    }

    #[test]
    fn the_first_minute_is_drawn_while_it_runs() {
        let html = Recent::of(&[minute(0, 10)], None).render().unwrap();
        assert!(html.contains("Payments a minute. In the last minute 10."), "{html}");
    }

    #[test]
    fn a_gateway_that_has_just_begun_has_nothing_to_show() {
        let recent = Recent::of(&[], None);
        assert!(recent.render().unwrap().contains("Webhooks waiting"));
        assert_eq!(recent.tiles()[1].value, "–");
    }
}
