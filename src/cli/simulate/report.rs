//! What a simulation came to, for people and for scripts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::table::{Column, table};
use super::traffic::Line;
use crate::domain::fees::FxRate;
use crate::domain::money::{Currency, Money};
use crate::domain::routing::RoutingMode;
use crate::domain::time::{Day, Timestamp};

/// Largest sum, in minor units: far more than there is of any currency, and far from what numbers can hold, also converted.
const SUM_MINOR_MAX: i128 = 1_000_000_000_000_000_000;

/// Exact sums by currency, in minor units.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) payments: u64,
    by_currency: BTreeMap<Currency, Figures>,
}

/// Volume, what it costs, and what it would cost on the channel that it is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) volume: i128,
    pub(super) fees: i128,
    pub(super) against: i128,
}

impl Figures {
    fn is_countable(&self) -> bool {
        [self.volume, self.fees, self.against].iter().all(|sum| *sum <= SUM_MINOR_MAX)
    }
}

impl Sums {
    /// Adds `count` payments of an amount, each with these fees in its currency.
    pub(super) fn add(&mut self, money: Money, count: u64, fee_minor: i64, against_minor: i64) {
        self.payments += count;
        let figures = self.by_currency.entry(money.currency).or_default();
        let times = |minor: i64| i128::from(minor) * i128::from(count);
        figures.volume += times(money.amount_minor);
        figures.fees += times(fee_minor);
        figures.against += times(against_minor);
    }

    /// Whether no sum is larger than [`SUM_MINOR_MAX`].
    pub(super) fn is_countable(&self) -> bool {
        self.by_currency.values().all(Figures::is_countable)
    }

    fn join(&mut self, other: &Self) {
        self.payments += other.payments;
        for (currency, more) in &other.by_currency {
            let figures = self.by_currency.entry(*currency).or_default();
            figures.volume += more.volume;
            figures.fees += more.fees;
            figures.against += more.against;
        }
    }
}

/// One channel in one mode.
pub(super) struct ChannelReport {
    pub(super) channel: String,
    pub(super) sums: Sums,
    pub(super) expected_approvals: Option<f64>,
}

/// One mode.
pub(super) struct ModeReport {
    pub(super) mode: RoutingMode,
    pub(super) channels: Vec<ChannelReport>,
    pub(super) unrouted: u64,
    pub(super) unrouted_why: Option<String>,
}

impl ModeReport {
    fn all(&self) -> Sums {
        let mut all = Sums::default();
        self.channels.iter().for_each(|channel| all.join(&channel.sums));
        all
    }

    fn expected_approvals(&self) -> Option<f64> {
        // A sum of nothing is no expectation.
        self.channels.first()?;
        self.channels.iter().map(|channel| channel.expected_approvals).sum()
    }
}

/// One line of traffic in one mode; fees of all its payments, in their currency.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LineReport {
    number: u64,
    mode: RoutingMode,
    money: Money,
    channels: Vec<String>,
    payments: u64,
    fees: i128,
    against: i128,
    pub(super) unrouted: u64,
}

impl LineReport {
    pub(super) fn new(line: &Line, mode: RoutingMode) -> Self {
        let (number, money) = (line.number, line.money);
        Self { number, mode, money, channels: Vec::new(), payments: 0, fees: 0, against: 0, unrouted: 0 }
    }

    /// Notes `count` payments on a channel.
    pub(super) fn note(&mut self, channel: &str, count: u64, fee_minor: i64, against_minor: i64) {
        if !self.channels.iter().any(|known| known == channel) {
            self.channels.push(channel.to_owned());
        }
        self.payments += count;
        self.fees += i128::from(fee_minor) * i128::from(count);
        self.against += i128::from(against_minor) * i128::from(count);
    }

    pub(super) fn add(&mut self, more: &Self) {
        for channel in &more.channels {
            if !self.channels.contains(channel) {
                self.channels.push(channel.clone());
            }
        }
        self.payments += more.payments;
        self.fees += more.fees;
        self.against += more.against;
        self.unrouted += more.unrouted;
    }
}

/// Everything.
pub(super) struct Report {
    pub(super) settlement: Currency,
    pub(super) rates: BTreeMap<Currency, FxRate>,
    pub(super) against: String,
    pub(super) version: Option<u64>,
    pub(super) at: Timestamp,
    pub(super) seed: u64,
    pub(super) modes: Vec<ModeReport>,
    /// All payments with what they would cost on the channel compared with.
    pub(super) all: Sums,
    pub(super) lines: Option<Vec<LineReport>>,
    pub(super) lines_left_out: usize,
}

impl Report {
    /// Sums in minor units of the settlement currency: each currency's is converted and rounded half up once.
    pub(super) fn settled(&self, sums: &Sums) -> Figures {
        let mut total = Figures::default();
        for (currency, figures) in &sums.by_currency {
            let rate = if *currency == self.settlement { Some(FxRate::ONE) } else { self.rates.get(currency).copied() };
            // Lines of a currency without a rate are refused.
            let Some(rate) = rate else { continue };
            let numerator = i128::from(rate.billionths()) * i128::from(self.settlement.minor_per_unit());
            let denominator = i128::from(FxRate::ONE.billionths()) * i128::from(currency.minor_per_unit());
            let settled = |minor: i128| (2 * minor * numerator + denominator).div_euclid(2 * denominator);
            total.volume += settled(figures.volume);
            total.fees += settled(figures.fees);
            total.against += settled(figures.against);
        }
        total
    }

    /// Whether all sums can be shown in the settlement currency, too.
    pub(super) fn is_countable(&self) -> bool {
        let modes = self.modes.iter().map(ModeReport::all);
        modes.chain([self.all.clone()]).all(|sums| self.settled(&sums).is_countable())
    }

    /// The bars of a chart: what everything costs on the one channel, then by mode and channel.
    pub(super) fn bars(&self) -> Vec<(String, Vec<(String, i128)>)> {
        let against = vec![(self.against.clone(), self.settled(&self.all).against)];
        let mut bars = vec![(format!("all on {}", self.against), against)];
        for mode in &self.modes {
            let parts = mode.channels.iter().map(|channel| (channel.channel.clone(), self.settled(&channel.sums).fees));
            bars.push((mode.mode.as_str().to_owned(), parts.collect()));
        }
        bars
    }

    /// A sentence about it.
    pub(super) fn title(&self) -> String {
        let all = self.settled(&self.all);
        format!(
            "{} payments, {} {}; everything on {}: {} {} of fees",
            grouped(i128::from(self.all.payments), 0),
            self.money(all.volume),
            self.settlement,
            self.against,
            self.money(all.against),
            self.settlement
        )
    }

    fn money(&self, minor: i128) -> String {
        grouped(minor, self.settlement.exponent())
    }

    /// The tables.
    pub(super) fn text(&self) -> String {
        let has_success = self.modes.iter().any(|mode| mode.expected_approvals().is_some());
        let mut columns = vec![
            Column::Left("mode"),
            Column::Left("channel"),
            Column::Right("payments"),
            Column::Right("volume"),
            Column::Right("fees"),
            Column::Right("compared"),
            Column::Right("saved"),
            Column::Right("share"),
        ];
        if has_success {
            columns.push(Column::Right("approved"));
        }
        let mut rows = Vec::new();
        for mode in &self.modes {
            let all = mode.all();
            let mut row = |channel: &str, sums: &Sums, approvals: Option<f64>| {
                let figures = self.settled(sums);
                let mut cells = vec![
                    mode.mode.as_str().to_owned(),
                    channel.to_owned(),
                    grouped(i128::from(sums.payments), 0),
                    self.money(figures.volume),
                    self.money(figures.fees),
                    self.money(figures.against),
                    self.money(figures.against - figures.fees),
                    share(figures.against - figures.fees, figures.against),
                ];
                let percent = |approvals: f64| format!("{:.1} %", approvals * 100.0 / sums.payments.max(1) as f64);
                if has_success {
                    cells.push(approvals.map_or_else(|| "-".to_owned(), percent));
                }
                rows.push(cells);
            };
            for channel in &mode.channels {
                row(&channel.channel, &channel.sums, channel.expected_approvals);
            }
            row("all", &all, mode.expected_approvals());
        }
        let mut parts = vec![self.title(), table(&columns, &rows)];
        let routing = self.version.map(|version| format!(" and version {version} of the routing, which is in force"));
        parts.push(format!(
            "(in {}, with the fees of {}{}; compared: what the same payments cost on {}, whatever their method)",
            self.settlement,
            Day::of(self.at),
            routing.unwrap_or_default(),
            self.against
        ));
        for mode in self.modes.iter().filter(|mode| mode.unrouted > 0) {
            let why = mode.unrouted_why.as_deref().unwrap_or("no channel takes them");
            let (count, s) = (grouped(i128::from(mode.unrouted), 0), if mode.unrouted == 1 { "" } else { "s" });
            parts.push(format!("{}: {count} payment{s} left out: no channel ({why})", mode.mode.as_str()));
        }
        parts.extend(self.lines_text());
        parts.join("\n")
    }

    fn lines_text(&self) -> Vec<String> {
        let Some(lines) = &self.lines else { return Vec::new() };
        let columns = [
            Column::Right("line"),
            Column::Left("mode"),
            Column::Right("payments"),
            Column::Right("amount"),
            Column::Left("currency"),
            Column::Left("channel"),
            Column::Right("fees"),
            Column::Right("compared"),
            Column::Right("saved"),
            Column::Right("share"),
        ];
        let cells = |line: &LineReport| {
            let exponent = line.money.currency.exponent();
            vec![
                line.number.to_string(),
                line.mode.as_str().to_owned(),
                grouped(i128::from(line.payments), 0),
                grouped(i128::from(line.money.amount_minor), exponent),
                line.money.currency.to_string(),
                if line.channels.is_empty() { "-".to_owned() } else { line.channels.join(", ") },
                grouped(line.fees, exponent),
                grouped(line.against, exponent),
                grouped(line.against - line.fees, exponent),
                share(line.against - line.fees, line.against),
            ]
        };
        let rows: Vec<Vec<String>> = lines.iter().map(cells).collect();
        let mut texts = vec![String::new(), table(&columns, &rows)];
        if self.lines_left_out > 0 {
            texts.push(format!("({} more lines are not shown)", self.lines_left_out));
        }
        texts
    }

    /// The same for scripts; amounts in minor units.
    pub(super) fn json(&self) -> Value {
        let figures = |sums: &Sums| {
            let figures = self.settled(sums);
            let saved = figures.against - figures.fees;
            json!({ "payments": sums.payments, "volume_minor": number(figures.volume), "fees_minor": number(figures.fees),
                "compared_fees_minor": number(figures.against), "saved_minor": number(saved),
                "saved_percent": tenths(saved, figures.against) })
        };
        let with = |mut object: Value, key: &str, value: Value| {
            object[key] = value;
            object
        };
        let modes = self.modes.iter().map(|mode| {
            let channels = mode.channels.iter().map(|channel| {
                let object = with(figures(&channel.sums), "channel", json!(channel.channel));
                with(object, "expected_approvals", json!(channel.expected_approvals))
            });
            let object = with(figures(&mode.all()), "mode", json!(mode.mode.as_str()));
            let object = with(object, "expected_approvals", json!(mode.expected_approvals()));
            let object = with(object, "unrouted", json!(mode.unrouted));
            let object = with(object, "unrouted_reason", json!(mode.unrouted_why));
            with(object, "channels", channels.collect())
        });
        let all = self.settled(&self.all);
        let object = json!({ "settlement_currency": self.settlement, "compared_with": self.against,
            "fees_of": Day::of(self.at), "routing_version": self.version, "seed": self.seed, "payments": self.all.payments,
            "volume_minor": number(all.volume), "compared_fees_minor": number(all.against),
            "modes": modes.collect::<Vec<_>>() });
        let Some(lines) = &self.lines else { return object };
        let line = |line: &LineReport| {
            let saved = line.against - line.fees;
            json!({ "line": line.number, "mode": line.mode.as_str(), "payments": line.payments,
                "amount_minor": line.money.amount_minor, "currency": line.money.currency, "channels": line.channels,
                "fees_minor": number(line.fees), "compared_fees_minor": number(line.against),
                "saved_minor": number(saved), "saved_percent": tenths(saved, line.against), "unrouted": line.unrouted })
        };
        let object = with(object, "lines", lines.iter().map(line).collect());
        with(object, "lines_left_out", json!(self.lines_left_out))
    }
}

/// A sum as JSON has it; none is larger.
fn number(minor: i128) -> i64 {
    i64::try_from(minor).unwrap_or(if minor < 0 { i64::MIN } else { i64::MAX })
}

/// A share in tenths of a percent, rounded half up; `None` of nothing.
fn permille(part: i128, whole: i128) -> Option<i128> {
    (whole > 0).then(|| (2000 * part + whole).div_euclid(2 * whole))
}

fn tenths(part: i128, whole: i128) -> Option<f64> {
    permille(part, whole).map(|permille| permille as f64 / 10.0)
}

/// `81.3 %`
pub(in crate::cli) fn share(part: impl Into<i128>, whole: impl Into<i128>) -> String {
    let Some(permille) = permille(part.into(), whole.into()) else { return "-".to_owned() };
    let sign = if permille < 0 { "-" } else { "" };
    format!("{sign}{}.{} %", permille.abs() / 10, permille.abs() % 10)
}

/// `1,234.50`
pub(super) fn grouped(minor: i128, exponent: u32) -> String {
    let per_unit = 10_u128.pow(exponent);
    let (whole, rest) = (minor.unsigned_abs() / per_unit, minor.unsigned_abs() % per_unit);
    let digits = whole.to_string();
    let mut text = String::from(if minor < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if exponent == 0 { text } else { format!("{text}.{rest:0width$}", width = exponent as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_shares_rounded_half_up() {
        for (minor, exponent, text) in [
            (0, 2, "0.00"),
            (123_456_789, 2, "1,234,567.89"),
            (-100_005, 2, "-1,000.05"),
            (1_000, 0, "1,000"),
            (7, 3, "0.007"),
        ] {
            assert_eq!(grouped(minor, exponent), text);
        }
        for (part, whole, text) in
            [(260, 320, "81.3 %"), (53, 59, "89.8 %"), (1, 0, "-"), (-1, 1_000, "-0.1 %"), (16_796, 32_000, "52.5 %")]
        {
            assert_eq!(share(part, whole), text);
        }
    }
}
