//! Routes lines of traffic and adds up what they cost.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::actors::router::setup_from_config;
use crate::channels::{Capabilities, CurrencySupport, currencies_of};
use crate::config::Config;
use crate::domain::ids::ChannelName;
use crate::domain::money::Currency;
use crate::domain::routing::{
    ChannelFacts, ChannelReading, Choice, FeeRequest, NoChannel, Outcome, OutcomeClass, RouteRequest, RoutingMode,
    RoutingSetup, RoutingTable, Rung, Strategy, decide, fee_on,
};
use crate::domain::time::{Monotonic, Timestamp};
use crate::random::Random;

use super::super::failure::Failure;
use super::report::{ChannelReport, LineReport, ModeReport, Report, Sums};
use super::traffic::Line;

/// Payments of one line that are decided by themselves at most; more are decided in as many groups.
const GROUPS_MAX: u64 = 1_000;
/// Lines that are kept to be shown.
const LINES_MAX: usize = 1_000;
const NOW: Monotonic = Monotonic::from_micros(1);
const PPM: u64 = 1_000_000;

/// How a simulation goes.
pub(super) struct Settings {
    pub(super) modes: Vec<RoutingMode>,
    pub(super) against: String,
    pub(super) success: Vec<SuccessRate>,
    /// The version of the routing in force that the configuration was made from, if it was.
    pub(super) version: Option<u64>,
    pub(super) at: Timestamp,
    pub(super) seed: u64,
    pub(super) keeps_lines: bool,
}

/// What a channel approves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SuccessRate {
    channel: String,
    ppm: u32,
}

impl FromStr for SuccessRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || String::from("must be a channel and a share from 0 to 1, such as stripe=0.95");
        let (channel, share) = text.split_once('=').ok_or_else(wrong)?;
        let share: f64 = share.parse().map_err(|_| wrong())?;
        if channel.is_empty() || !(0.0..=1.0).contains(&share) {
            return Err(wrong());
        }
        // Checked to be from 0 to 1.
        Ok(Self { channel: channel.to_owned(), ppm: (share * 1e6).round() as u32 })
    }
}

/// A simulation under way.
pub(super) struct Simulation {
    runs: Vec<Run>,
    against: usize,
    against_month_minor: i64,
    settlement: Currency,
    version: Option<u64>,
    at: Timestamp,
    seed: u64,
    /// Expected approvals by place, in parts per million; empty when nothing was said about any.
    success_ppm: Vec<u32>,
    lines: Option<Vec<LineReport>>,
    lines_seen: usize,
    all: Sums,
}

/// One mode.
struct Run {
    mode: RoutingMode,
    table: RoutingTable,
    readings: Vec<ChannelReading>,
    random: Random,
    /// Whose turn it is among channels that take payments in turn, by the set that they are.
    turns: BTreeMap<u32, u64>,
    channels: Vec<Sums>,
    unrouted: u64,
    unrouted_why: Option<String>,
}

impl Simulation {
    pub(super) fn new(config: &Config, settings: &Settings) -> Result<Self, Failure> {
        let setup = setup_of(config)?;
        let place_of = |flag: &str, name: &str| {
            setup.place_of(&ChannelName::new(name)).ok_or_else(|| {
                let names: Vec<&str> = setup.channels.iter().map(|channel| channel.name.as_str()).collect();
                Failure::Usage(format!("{flag} names no channel with {name:?}; there are {}", names.join(", ")))
            })
        };
        let against = place_of("--against", &settings.against)?;
        let prior_ppm = setup.health.approvals.prior_success_ppm;
        let mut rates = vec![None; setup.channels.len()];
        for rate in &settings.success {
            rates[place_of("--success", &rate.channel)?] = Some(rate.ppm);
        }
        let success_ppm = if settings.success.is_empty() {
            Vec::new()
        } else {
            rates.iter().map(|rate| rate.unwrap_or(prior_ppm)).collect()
        };
        let run = |mode: &RoutingMode| {
            let mut table = RoutingTable::fresh(1, RoutingSetup { mode: *mode, smart: true, ..setup.clone() });
            for (place, rate) in rates.iter().enumerate() {
                if let Some(ppm) = rate {
                    teach(&mut table, place, *ppm);
                }
            }
            let idle = ChannelReading { probe_available: true, ..ChannelReading::default() };
            Run {
                mode: *mode,
                readings: vec![idle; setup.channels.len()],
                channels: vec![Sums::default(); setup.channels.len()],
                table,
                random: Random::seeded(settings.seed),
                turns: BTreeMap::new(),
                unrouted: 0,
                unrouted_why: None,
            }
        };
        Ok(Self {
            runs: settings.modes.iter().map(run).collect(),
            against,
            against_month_minor: 0,
            settlement: setup.settlement_currency,
            version: settings.version,
            at: settings.at,
            seed: settings.seed,
            success_ppm,
            lines: settings.keeps_lines.then(Vec::new),
            lines_seen: 0,
            all: Sums::default(),
        })
    }

    /// Whether no payment was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.all.payments == 0
    }

    /// Routes the payments of a line in every mode.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub(super) fn take(&mut self, line: &Line) -> Result<(), String> {
        if line.count == 0 {
            return Ok(());
        }
        let no_rate = || {
            let currency = line.money.currency;
            format!("currency: {currency} has no rate of exchange; add it to [fx.rates] of the configuration")
        };
        let setup = self.runs.first().map(|run| std::sync::Arc::clone(&run.table.setup)).ok_or_else(no_rate)?;
        let worth_minor = setup.in_settlement_currency(line.money).ok_or_else(no_rate)?;
        let keeps = self.lines.is_some() && self.lines_seen < LINES_MAX;
        self.lines_seen += 1;
        let mut kept: Vec<LineReport> = Vec::new();
        let against = &setup.channels[self.against];
        let (mut left, mut part) = (line.count, 0);
        // The price on the channel compared with changes within a line where that one's next tier is reached.
        while left > 0 {
            let asked = FeeRequest {
                money: line.money,
                payer: line.country,
                merchant: line.merchant_country,
                method: line.method.as_deref(),
                at: self.at,
                this_month_minor: self.against_month_minor,
            };
            let against_fee = fee_on(&setup, against, &asked).ok_or_else(no_rate)?;
            let count = left.min(until_next_tier(against, self.at, self.against_month_minor, worth_minor));
            self.against_month_minor = later(self.against_month_minor, worth_minor, count);
            self.all.add(line.money, count, 0, against_fee);
            for (place, run) in self.runs.iter_mut().enumerate() {
                let mut sums = LineReport::new(line, run.mode);
                run.take(line, part, count, worth_minor, against_fee, self.at, &mut sums).ok_or_else(no_rate)?;
                if keeps {
                    match kept.get_mut(place) {
                        Some(known) => known.add(&sums),
                        None => kept.push(sums),
                    }
                }
            }
            left -= count;
            part += 1;
        }
        if !self.all.is_countable() || self.runs.iter().flat_map(|run| &run.channels).any(|sums| !sums.is_countable()) {
            return Err(String::from("with it the sums are larger than can be counted; check amount and count"));
        }
        if let Some(lines) = &mut self.lines {
            lines.append(&mut kept);
        }
        Ok(())
    }

    /// What it came to.
    ///
    /// # Errors
    /// When sums are too large for the numbers that reports have.
    pub(super) fn report(self) -> Result<Report, String> {
        let rates = self.runs.first().map(|run| std::sync::Arc::clone(&run.table.setup));
        let success = |place: usize, payments: u64| {
            self.success_ppm.get(place).map(|ppm| payments as f64 * f64::from(*ppm) / PPM as f64)
        };
        let modes = self.runs.iter().map(|run| {
            let channels = run.channels.iter().enumerate().filter(|(_, sums)| sums.payments > 0);
            let channels = channels.map(|(place, sums)| ChannelReport {
                channel: run.table.setup.channels[place].name.to_string(),
                expected_approvals: success(place, sums.payments),
                sums: sums.clone(),
            });
            ModeReport {
                mode: run.mode,
                channels: channels.collect(),
                unrouted: run.unrouted,
                unrouted_why: run.unrouted_why.clone(),
            }
        });
        let modes = modes.collect();
        let against = rates.as_ref().map_or_else(String::new, |setup| setup.channels[self.against].name.to_string());
        let report = Report {
            settlement: self.settlement,
            rates: rates.map(|setup| setup.rates.clone()).unwrap_or_default(),
            against,
            version: self.version,
            at: self.at,
            seed: self.seed,
            modes,
            all: self.all,
            lines: self.lines,
            lines_left_out: self.lines_seen.saturating_sub(LINES_MAX),
        };
        if report.is_countable() { Ok(report) } else { Err(format!("its sums are too large in {}", report.settlement)) }
    }
}

impl Run {
    /// Routes `count` payments; `None` when one of them has no price.
    #[allow(clippy::too_many_arguments, reason = "all of it is about one group of one line")]
    fn take(
        &mut self,
        line: &Line,
        group: usize,
        count: u64,
        worth_minor: i64,
        against_fee: i64,
        at: Timestamp,
        line_sums: &mut LineReport,
    ) -> Option<()> {
        let setup = std::sync::Arc::clone(&self.table.setup);
        let mut left = count;
        let mut is_spread = false;
        let mut part = 0_usize;
        while left > 0 {
            let order_no = format!("{}-{group}-{part}", line.number);
            let decided = decide(&self.table, &self.readings, &self.request(line, &order_no, at), NOW);
            let choice = match decided {
                Ok(choice) => self.in_turn(choice),
                Err(NoChannel { record, .. }) => {
                    self.unrouted += left;
                    line_sums.unrouted += left;
                    self.unrouted_why.get_or_insert_with(|| format!("line {}: {}", line.number, record.reason()));
                    return Some(());
                }
            };
            // Where the draw or the payment's number decides, one decision does not speak for all of them.
            is_spread |= choice.strategy == Some(Strategy::LoadBalance) || choice.rung == Rung::Rules;
            let alike = if is_spread { count.div_ceil(GROUPS_MAX) } else { left };
            let fee = choice.record.channels[choice.place].fee_minor?;
            let month_minor = &mut self.readings[choice.place].this_month_minor;
            // Nor where the channel's next tier is reached.
            let same_fee = until_next_tier(&setup.channels[choice.place], at, *month_minor, worth_minor);
            let these = left.min(alike).min(same_fee);
            *month_minor = later(*month_minor, worth_minor, these);
            self.channels[choice.place].add(line.money, these, fee, against_fee);
            line_sums.note(choice.channel.as_str(), these, fee, against_fee);
            left -= these;
            part += 1;
        }
        Some(())
    }

    /// The choice with the next turn, where load is balanced in turn, as the router takes it.
    fn in_turn(&mut self, choice: Choice) -> Choice {
        let Some(set) = choice.record.taken_in_turn() else { return choice };
        let turn = self.turns.entry(set.bits()).or_default();
        let choice = choice.in_turn(*turn);
        *turn += 1;
        choice
    }

    fn request<'a>(&self, line: &'a Line, order_no: &'a str, at: Timestamp) -> RouteRequest<'a> {
        const NOTHING: &BTreeMap<String, String> = &BTreeMap::new();
        RouteRequest {
            money: line.money,
            country: line.country,
            country_from_address: false,
            card_country: line.card_country,
            merchant_country: line.merchant_country,
            method: line.method.as_deref(),
            requested: None,
            allowed: &[],
            merchant_id: "simulated",
            tier: &line.tier,
            order_no,
            metadata: NOTHING,
            at,
            tried: &[],
            refusing_token: &[],
            needs_pre_auth: false,
            draw: self.random.draw_u64(),
        }
    }
}

/// How many payments of this worth have the same fee, until what is charged in the month reaches the channel's next tier.
fn until_next_tier(channel: &ChannelFacts, at: Timestamp, month_minor: i64, worth_minor: i64) -> u64 {
    let Some(from_minor) = channel.fees.next_tier_minor(at, month_minor) else { return u64::MAX };
    let missing = u64::try_from(from_minor.saturating_sub(month_minor)).unwrap_or(0);
    missing.div_ceil(u64::try_from(worth_minor).unwrap_or(0).max(1)).max(1)
}

fn later(month_minor: i64, worth_minor: i64, count: u64) -> i64 {
    let more = i128::from(worth_minor) * i128::from(count);
    i64::try_from(i128::from(month_minor) + more).unwrap_or(i64::MAX)
}

/// The setup of the configuration, with what the adapters can do, and nothing kept back: credentials are not looked at.
fn setup_of(config: &Config) -> Result<RoutingSetup, Failure> {
    let can = Capabilities { charge: true, refund: true, pre_auth: true, ..Capabilities::default() };
    let abilities = config.channels.keys().map(|name| (ChannelName::new(name.as_str()), can)).collect();
    let mut setup = setup_from_config(config, &abilities).map_err(|error| Failure::Usage(error.to_string()))?;
    // Now and then a payment goes elsewhere to learn; here there is nothing to learn.
    setup.choice.explore_percent = 0;
    for facts in &mut setup.channels {
        facts.has_credentials = true;
        // The traffic is a month's; what is away for an hour of it does not change where all of it goes.
        facts.maintenance.clear();
        let Some(channel) = config.channels.get(facts.name.as_str()) else { continue };
        let supported = currencies_of(channel.kind);
        match supported {
            CurrencySupport::Listed(codes) if facts.currencies.is_empty() => {
                facts.currencies = codes.iter().filter_map(|code| code.parse().ok()).collect();
            }
            _ => facts.currencies.retain(|currency| supported.contains(*currency)),
        }
    }
    Ok(setup)
}

/// As if the channel's window were full of outcomes with this share of approvals, evenly spread.
fn teach(table: &mut RoutingTable, place: usize, ppm: u32) {
    let settings = table.setup.health;
    let approvals_before = |index: u64| index * u64::from(ppm) / PPM;
    for index in 0..settings.approvals.window_outcomes as u64 {
        let approved = approvals_before(index + 1) > approvals_before(index);
        let class = if approved { OutcomeClass::Approved } else { OutcomeClass::DeclinedByNetwork };
        let outcome = Outcome { class, latency_ms: None, probe: false };
        table.health[place] = table.health[place].after(outcome, &settings, NOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fees::FeeTier;
    use crate::domain::money::Money;

    fn settings(modes: &[RoutingMode]) -> Settings {
        Settings {
            modes: modes.to_vec(),
            against: "stripe".to_owned(),
            success: Vec::new(),
            version: None,
            at: Timestamp::from_unix_s(1_790_000_000),
            seed: 1,
            keeps_lines: false,
        }
    }

    fn line(amount_minor: i64, method: Option<&str>, count: u64) -> Line {
        Line {
            number: 1,
            money: Money::new(amount_minor, Currency::USD),
            country: "US".parse().ok(),
            card_country: None,
            merchant_country: None,
            method: method.map(String::from),
            tier: String::new(),
            count,
        }
    }

    fn fees(report: &Report, mode: usize) -> Vec<(String, u64, i128)> {
        let channels = report.modes[mode].channels.iter();
        channels
            .map(|channel| (channel.channel.clone(), channel.sums.payments, report.settled(&channel.sums).fees))
            .collect()
    }

    fn simulated(config: &Config, settings: &Settings, lines: &[Line]) -> Report {
        let mut simulation = Simulation::new(config, settings).unwrap();
        lines.iter().for_each(|line| simulation.take(line).unwrap());
        simulation.report().unwrap()
    }

    #[test]
    fn a_month_s_volume_makes_later_payments_cheaper() {
        let mut config = Config::embedded().unwrap();
        let tier = FeeTier { from_minor: 500_000, percent: "1".parse().unwrap(), fixed_minor: Some(0) };
        config.channels.get_mut("stripe").unwrap().fees.tiers = vec![tier];
        let lines = [line(10_000, Some("card"), 100)];
        let report = simulated(&config, &settings(&[RoutingMode::Cost]), &lines);
        // Fifty at 3.20 until 5,000 are full, and fifty at 1.00.
        assert_eq!(fees(&report, 0), [("stripe".to_owned(), 100, 50 * 320 + 50 * 100)]);
        assert_eq!(report.settled(&report.all).against, 50 * 320 + 50 * 100);
        // To the payment, however many a line has: of 21.00 each, 239 make more than 5,000.
        for (amount, count, dear, dear_fee) in [(10_000, 20_050, 50, 320), (2_100, 1_000_000_000, 239, 91)] {
            let report = simulated(&config, &settings(&[RoutingMode::Cost]), &[line(amount, Some("card"), count)]);
            let expected = i128::from(dear) * dear_fee + i128::from(count - dear) * i128::from(amount) / 100;
            assert_eq!(fees(&report, 0), [("stripe".to_owned(), count, expected)]);
            assert_eq!(report.settled(&report.all).against, expected);
        }
    }

    #[test]
    fn channels_take_payments_in_turn_where_that_is_configured() {
        let mut config = Config::embedded().unwrap();
        config.routing.load_balance = crate::domain::routing::LoadBalancing::RoundRobin;
        let alipay = config.channels["alipay"].clone();
        for (name, weight) in [("alipay", 300), ("alipay2", 100)] {
            config.channels.insert(name.to_owned(), crate::config::ChannelConfig { weight, ..alipay.clone() });
        }
        let lines: Vec<Line> = (0..100).map(|_| line(10_000, Some("alipay"), 1)).collect();
        let report = simulated(&config, &settings(&[RoutingMode::Cost]), &lines);
        assert_eq!(fees(&report, 0), [("alipay".to_owned(), 75, 75 * 60), ("alipay2".to_owned(), 25, 25 * 60)]);
        let report = simulated(&config, &settings(&[RoutingMode::Cost]), &[line(10_000, Some("alipay"), 8_000)]);
        assert_eq!(report.modes[0].channels[0].sums.payments, 6_000);
    }

    #[test]
    fn a_channel_that_is_away_for_a_while_is_not_away_for_a_month() {
        let mut config = Config::embedded().unwrap();
        let at = settings(&[]).at;
        let (from, until) = (at.rfc3339(), at.plus(std::time::Duration::from_secs(60)).rfc3339());
        config.channels.get_mut("stripe").unwrap().maintenance = vec![crate::config::MaintenanceConfig { from, until }];
        let report = simulated(&config, &settings(&[RoutingMode::Cost]), &[line(10_000, Some("card"), 5)]);
        assert_eq!((report.modes[0].unrouted, fees(&report, 0)), (0, vec![("stripe".to_owned(), 5, 5 * 320)]));
    }

    #[test]
    fn sums_that_no_report_can_show_are_refused() {
        let mut config = Config::embedded().unwrap();
        let mut simulation = Simulation::new(&config, &settings(&[RoutingMode::Cost])).unwrap();
        let most = crate::domain::money::AMOUNT_MINOR_MAX;
        simulation.take(&line(most, None, 1_000_000)).unwrap();
        assert!(simulation.take(&line(most, None, 1)).unwrap_err().contains("larger than can be counted"));
        config.fx.rates.insert("EUR".parse().unwrap(), "999999".parse().unwrap());
        let mut simulation = Simulation::new(&config, &settings(&[RoutingMode::Cost])).unwrap();
        let euros = Line { money: Money::new(most, "EUR".parse().unwrap()), ..line(1, None, 1_000_000) };
        simulation.take(&euros).unwrap();
        assert!(simulation.report().is_err_and(|what| what.contains("too large in USD")));
    }

    #[test]
    fn success_rates_steer_and_give_expected_approvals() {
        let config = Config::embedded().unwrap();
        let success =
            ["stripe=0.98", "paypal=0.6", "alipay=0.6", "crypto=0.6"].map(|text| text.parse().unwrap()).to_vec();
        let settings = Settings { success, ..settings(&[RoutingMode::Success, RoutingMode::Cost]) };
        let report = simulated(&config, &settings, &[line(10_000, None, 100)]);
        assert_eq!(report.modes[0].channels[0].channel, "stripe");
        assert!((report.modes[0].channels[0].expected_approvals.unwrap() - 98.0).abs() < 1e-9);
        for wrong in ["stripe", "stripe=1.1", "=0.5", "stripe=x"] {
            assert!(wrong.parse::<SuccessRate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn load_among_equals_is_spread_the_same_way_for_the_same_seed() {
        let mut config = Config::embedded().unwrap();
        let alipay = config.channels["alipay"].clone();
        for (name, weight) in [("alipay", 300), ("alipay2", 100)] {
            config.channels.insert(name.to_owned(), crate::config::ChannelConfig { weight, ..alipay.clone() });
        }
        let lines = [line(10_000, Some("alipay"), 100_000)];
        let first = fees(&simulated(&config, &settings(&[RoutingMode::Cost]), &lines), 0);
        assert_eq!(first, fees(&simulated(&config, &settings(&[RoutingMode::Cost]), &lines), 0));
        let share = first[0].1 as f64 / 100_000.0;
        assert!((0.70..0.80).contains(&share) && first[0].1 + first[1].1 == 100_000, "{first:?}");
        let other = Settings { seed: 2, ..settings(&[RoutingMode::Cost]) };
        assert_ne!(first, fees(&simulated(&config, &other, &lines), 0));
    }

    #[test]
    fn what_no_channel_takes_is_counted_with_the_reason() {
        let config = Config::embedded().unwrap();
        let report = simulated(&config, &settings(&[RoutingMode::Cost]), &[line(100, Some("barter"), 7)]);
        assert_eq!((report.modes[0].unrouted, report.modes[0].channels.len()), (7, 0));
        assert!(report.modes[0].unrouted_why.as_deref().is_some_and(|why| why.starts_with("line 1: ")));
        let mut simulation = Simulation::new(&config, &settings(&[RoutingMode::Cost])).unwrap();
        let won = Line { money: Money::new(100, "KRW".parse().unwrap()), ..line(1, None, 1) };
        assert!(simulation.take(&won).unwrap_err().contains("[fx.rates]"));
    }
}
