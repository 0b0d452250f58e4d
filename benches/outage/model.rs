//! Four channels that die, slow down and decline more, each in turn, and payments at a fixed rate sent among them by three
//! strategies with the same luck. Virtual time, and no randomness but a seed: the same scenario gives the same figures on
//! every machine.

use std::collections::BTreeMap;
use std::time::Duration;

use tollgate::actors::router::setup_from_config;
use tollgate::config::Config;
use tollgate::domain::fees::FeeSchedule;
use tollgate::domain::ids::ChannelName;
use tollgate::domain::money::{Currency, Money};
use tollgate::domain::routing::{
    BreakerView, ChannelCaps, ChannelFacts, ChannelReading, CountrySet, FeeRequest, Outcome, OutcomeClass,
    RouteRequest, RoutingSetup, RoutingTable, Segment, decide, fee_on,
};
use tollgate::domain::time::{Monotonic, Timestamp};

pub const CHANNELS: usize = 4;
const NAMES: [&str; CHANNELS] = ["a", "b", "c", "d"];
const SECOND_US: u64 = 1_000_000;
const START: Timestamp = Timestamp::from_unix_s(1_760_000_000);
/// The payer's bank declines so many of all payments, whatever the channel.
const BANK_DECLINES: f64 = 0.03;
/// A channel's processor declines so many of what it gets ...
const DECLINES: f64 = 0.05;
/// ... and so many in its incident.
const DECLINES_MORE: f64 = 0.40;
const LATENCY_MS: f64 = 600.0;
const SLOWER: f64 = 20.0;
/// What a dead channel takes to fail.
const DEAD_MS: u32 = 1_000;
/// A call that takes longer is given up: nobody knows what came of it, so no other channel is asked.
const TIMEOUT_MS: u32 = 30_000;
/// A channel has its traffic when it gets, for a minute, at least half of its usual share of the payments ...
const HAS_TRAFFIC: f64 = 0.5;
/// ... and has lost it when it gets less than this part of it.
const HAS_LOST_IT: f64 = 0.2;
const BACK_WINDOW_S: u64 = 60;
/// Its usual share is that of so long before its incident. With less than this one it has none to get back.
const USUAL_WINDOW_S: u64 = 300;
const USUAL_SHARE: f64 = 0.05;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    Dead,
    Slow,
    Declining,
}

impl Incident {
    pub const ALL: [Self; 3] = [Self::Dead, Self::Slow, Self::Declining];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Ours, mode `balanced`, with the settings that are the defaults.
    Tollgate,
    /// One after the other.
    RoundRobin,
    /// The first of the list.
    Priority,
}

impl Plan {
    pub const ALL: [Self; 3] = [Self::Tollgate, Self::RoundRobin, Self::Priority];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tollgate => "tollgate",
            Self::RoundRobin => "round robin",
            Self::Priority => "priority list",
        }
    }
}

/// Each channel has each incident once, with calm before each and after the last.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub rate_per_s: u64,
    pub calm_s: u64,
    pub incident_s: u64,
    /// Other channels asked after a failure that charged nothing, or a processor's decline.
    pub failover_max: usize,
    /// Percent of the amount that each channel takes.
    pub fees: [&'static str; CHANNELS],
}

impl Scenario {
    const fn incidents() -> u64 {
        (CHANNELS * Incident::ALL.len()) as u64
    }

    pub const fn seconds(&self) -> u64 {
        Self::incidents() * (self.calm_s + self.incident_s) + self.calm_s
    }

    pub const fn payments(&self) -> u64 {
        self.seconds() * self.rate_per_s
    }

    /// The channel and what is wrong with it at a moment.
    fn incident_at(&self, at_us: u64) -> Option<(usize, Incident)> {
        let second = at_us / SECOND_US;
        let round = self.calm_s + self.incident_s;
        let (number, within) = (second / round, second % round);
        (within >= self.calm_s && number < Self::incidents()).then(|| Self::numbered(number))
    }

    fn numbered(number: u64) -> (usize, Incident) {
        let number = usize::try_from(number).unwrap_or(0);
        (number / Incident::ALL.len(), Incident::ALL[number % Incident::ALL.len()])
    }

    /// What a payment meets on a channel, and how long that takes: the same for whoever sends it there at that time.
    fn meets(&self, payment: u64, place: usize, at_us: u64) -> (OutcomeClass, u32) {
        let ill = self.incident_at(at_us).filter(|(ill, _)| *ill == place).map(|(_, incident)| incident);
        if ill == Some(Incident::Dead) {
            return (OutcomeClass::TechnicalFailure, DEAD_MS);
        }
        let on = place as u64 + 1;
        let sum: f64 = (10..14).map(|purpose| self.uniform(payment, on * 100 + purpose)).sum();
        let spread = ((sum - 2.0) * 3_f64.sqrt() * 0.25).exp();
        let slower = if ill == Some(Incident::Slow) { SLOWER } else { 1.0 };
        let latency_ms = (LATENCY_MS * slower * spread) as u32;
        if latency_ms > TIMEOUT_MS {
            return (OutcomeClass::TechnicalFailure, TIMEOUT_MS);
        }
        let declines = if ill == Some(Incident::Declining) { DECLINES_MORE } else { DECLINES };
        let class = if self.uniform(payment, 1) < BANK_DECLINES {
            OutcomeClass::DeclinedByBank
        } else if self.uniform(payment, on * 100) < declines {
            OutcomeClass::DeclinedByProcessor
        } else {
            OutcomeClass::Approved
        };
        (class, latency_ms)
    }

    fn amount(&self, payment: u64) -> Money {
        Money::new(500 + (self.uniform(payment, 2) * 19_500.0) as i64, Currency::USD)
    }

    fn uniform(&self, payment: u64, purpose: u64) -> f64 {
        (self.draw(payment, purpose) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Splitmix64 of all three.
    fn draw(&self, payment: u64, purpose: u64) -> u64 {
        let mut value = self.seed;
        for part in [payment, purpose] {
            value = (value ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
            value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            value ^= value >> 31;
        }
        value
    }
}

/// What came of the payments of some time.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub payments: u64,
    /// Payments that were sent to the channel that had the incident, as the first or a further one.
    pub sent_to_it: u64,
    pub approved: u64,
    /// Without an answer from the last channel that was asked.
    pub failed: u64,
    latencies_ms: Vec<u32>,
}

impl Tally {
    pub fn share_sent_to_it(&self) -> f64 {
        self.sent_to_it as f64 / self.payments.max(1) as f64
    }

    pub fn approvals(&self) -> f64 {
        self.approved as f64 / self.payments.max(1) as f64
    }

    /// The latency that 99 of 100 payments do not exceed, further channels included.
    pub fn p99_ms(&self) -> u32 {
        let mut sorted = self.latencies_ms.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(0)
    }
}

/// How long a channel was without traffic after it was well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    After(u64),
    /// Not before the next incident.
    Never,
}

#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub all: Tally,
    /// By [`Incident::ALL`]: payments that began in one.
    pub incidents: [Tally; Incident::ALL.len()],
    /// One for each incident of a channel that had traffic to get back.
    pub back: [Vec<Back>; Incident::ALL.len()],
    /// By [`Incident::ALL`]: times that a channel which had lost its traffic had it again before its incident was over.
    pub too_early: [u64; Incident::ALL.len()],
    /// Times that a channel which had its traffic back lost it again while all were well.
    pub lost_again: u64,
    pub charged_minor: i64,
    pub fees_minor: i64,
}

impl Figures {
    /// Fees in percent of what was charged.
    pub fn fees_percent(&self) -> f64 {
        self.fees_minor as f64 * 100.0 / self.charged_minor.max(1) as f64
    }
}

/// A payment on its way.
struct Payment {
    number: u64,
    began_us: u64,
    tried: Vec<usize>,
}

struct Call {
    payment: Payment,
    chosen: Chosen,
    class: OutcomeClass,
    latency_ms: u32,
}

#[derive(Clone, Copy)]
struct Chosen {
    place: usize,
    /// It tries a channel that is being left alone, and so decides about it.
    tries: bool,
    /// It holds the only right to do so.
    holds_probe: bool,
}

/// Runs a scenario.
pub fn run(scenario: &Scenario, plan: Plan) -> Figures {
    let mut run = Run {
        scenario,
        router: Router::new(scenario, plan),
        calls: BTreeMap::new(),
        calls_made: 0,
        figures: Figures::default(),
        first_choices: vec![[0; CHANNELS]; usize::try_from(scenario.seconds()).unwrap_or(0)],
    };
    for number in 0..scenario.payments() {
        let now_us = number * SECOND_US / scenario.rate_per_s;
        run.answers_until(now_us);
        if number % scenario.rate_per_s == 0 {
            run.router.look_after(now_us);
        }
        run.send(Payment { number, began_us: now_us, tried: Vec::new() }, now_us);
    }
    run.answers_until(u64::MAX);
    note_returns(&mut run.figures, scenario, &run.first_choices);
    run.figures
}

struct Run<'a> {
    scenario: &'a Scenario,
    router: Router,
    /// By the moment of the answer, and a number that makes it the only one.
    calls: BTreeMap<(u64, u64), Call>,
    calls_made: u64,
    figures: Figures,
    /// By second.
    first_choices: Vec<[u32; CHANNELS]>,
}

impl Run<'_> {
    fn send(&mut self, mut payment: Payment, now_us: u64) {
        let Some(chosen) = self.router.choose(self.scenario, &payment, now_us) else {
            return self.end(&payment, OutcomeClass::TechnicalFailure, None, now_us);
        };
        if payment.tried.is_empty() {
            let second = usize::try_from(now_us / SECOND_US).unwrap_or(0);
            if let Some(second) = self.first_choices.get_mut(second) {
                second[chosen.place] += 1;
            }
        }
        if let Some((ill, incident)) = self.scenario.incident_at(now_us)
            && ill == chosen.place
            && self.scenario.incident_at(payment.began_us) == Some((ill, incident))
        {
            self.figures.incidents[incident as usize].sent_to_it += 1;
            self.figures.all.sent_to_it += 1;
        }
        payment.tried.push(chosen.place);
        let (class, latency_ms) = self.scenario.meets(payment.number, chosen.place, now_us);
        self.calls_made += 1;
        self.router.began(chosen, self.calls_made, now_us);
        let answered_us = now_us + u64::from(latency_ms) * 1_000;
        self.calls.insert((answered_us, self.calls_made), Call { payment, chosen, class, latency_ms });
    }

    fn answers_until(&mut self, until_us: u64) {
        while let Some(next) = self.calls.first_entry().filter(|next| next.key().0 <= until_us) {
            let ((now_us, number), call) = next.remove_entry();
            self.router.answered(self.scenario, &call, number, now_us);
            let may_go_on = match call.class {
                OutcomeClass::TechnicalFailure => call.latency_ms < TIMEOUT_MS,
                OutcomeClass::DeclinedByProcessor => true,
                _ => false,
            };
            if may_go_on && call.payment.tried.len() <= self.scenario.failover_max {
                self.send(call.payment, now_us);
            } else {
                self.end(&call.payment, call.class, Some(call.chosen.place), now_us);
            }
        }
    }

    fn end(&mut self, payment: &Payment, class: OutcomeClass, on: Option<usize>, now_us: u64) {
        let latency_ms = u32::try_from((now_us - payment.began_us) / 1_000).unwrap_or(u32::MAX);
        let incident = self.scenario.incident_at(payment.began_us);
        let of_incident = incident.map(|(_, incident)| &mut self.figures.incidents[incident as usize]);
        for tally in std::iter::once(&mut self.figures.all).chain(of_incident) {
            tally.payments += 1;
            tally.approved += u64::from(class == OutcomeClass::Approved);
            tally.failed += u64::from(class == OutcomeClass::TechnicalFailure);
            tally.latencies_ms.push(latency_ms);
        }
        if class == OutcomeClass::Approved {
            let money = self.scenario.amount(payment.number);
            self.figures.charged_minor += money.amount_minor;
            self.figures.fees_minor += on.and_then(|place| self.router.fee(place, money)).unwrap_or(0);
        }
    }
}

/// When channels had their traffic back, and how steadily.
fn note_returns(figures: &mut Figures, scenario: &Scenario, first_choices: &[[u32; CHANNELS]]) {
    let round = scenario.calm_s + scenario.incident_s;
    for number in 0..Scenario::incidents() {
        let (place, incident) = Scenario::numbered(number);
        // The channel's share in some seconds.
        let share = |from: u64, seconds: u64| -> f64 {
            let range = first_choices.iter().skip(from as usize).take(seconds as usize);
            let sum: f64 = range.map(|second| f64::from(second[place])).sum();
            sum / (seconds * scenario.rate_per_s) as f64
        };
        let begins = number * round + scenario.calm_s;
        let before = USUAL_WINDOW_S.min(scenario.calm_s);
        let usual = share(begins - before, before);
        if usual < USUAL_SHARE {
            continue;
        }
        // How often it has its traffic and loses it, minute by minute, and when it has it for the first time.
        let turns = |from: u64, until: u64, mut has: bool| {
            let (mut gains, mut losses, mut first) = (0, 0, None);
            for second in from..=until.saturating_sub(BACK_WINDOW_S) {
                let share = share(second, BACK_WINDOW_S);
                if !has && share >= usual * HAS_TRAFFIC {
                    (has, gains) = (true, gains + 1);
                    first = first.or(Some(second - from));
                } else if has && share < usual * HAS_LOST_IT {
                    (has, losses) = (false, losses + 1);
                }
            }
            (gains, losses, first)
        };
        let ends = begins + scenario.incident_s;
        let (gains, _, _) = turns(begins, ends, true);
        figures.too_early[incident as usize] += gains;
        let (_, losses, first) = turns(ends, ends + scenario.calm_s, false);
        figures.lost_again += losses;
        figures.back[incident as usize].push(first.map_or(Back::Never, Back::After));
    }
}

/// What the router of a running gateway knows, in place of its actor and its counters.
struct Router {
    plan: Plan,
    table: RoutingTable,
    live: [Live; CHANNELS],
    turn: usize,
    jitters: u64,
    seed: u64,
}

#[derive(Default)]
struct Live {
    probe_taken: bool,
    calling: BTreeMap<u64, Monotonic>,
}

impl Router {
    fn new(scenario: &Scenario, plan: Plan) -> Self {
        let table = RoutingTable::fresh(1, setup(scenario.fees));
        Self { plan, table, live: Default::default(), turn: 0, jitters: 0, seed: scenario.seed }
    }

    fn choose(&mut self, scenario: &Scenario, payment: &Payment, now_us: u64) -> Option<Chosen> {
        let simply = |place| Chosen { place, tries: false, holds_probe: false };
        match self.plan {
            Plan::Priority => (0..CHANNELS).find(|place| !payment.tried.contains(place)).map(simply),
            Plan::RoundRobin => {
                let last = payment.tried.last().copied();
                let place = last.map_or(self.turn, |last| last + 1) % CHANNELS;
                self.turn += usize::from(last.is_none());
                Some(simply(place))
            }
            Plan::Tollgate => self.decide(scenario, payment, now_us),
        }
    }

    fn decide(&self, scenario: &Scenario, payment: &Payment, now_us: u64) -> Option<Chosen> {
        let nothing_noted = BTreeMap::new();
        let order_no = payment.number.to_string();
        let tried: Vec<ChannelName> =
            payment.tried.iter().map(|place| self.table.setup.channels[*place].name.clone()).collect();
        let request = RouteRequest {
            money: scenario.amount(payment.number),
            country: None,
            country_from_address: false,
            card_country: None,
            merchant_country: None,
            method: Some("card"),
            requested: None,
            allowed: &[],
            merchant_id: "m_1",
            tier: "starter",
            order_no: &order_no,
            metadata: &nothing_noted,
            at: START.plus(Duration::from_micros(now_us)),
            tried: &tried,
            refusing_token: &[],
            needs_pre_auth: false,
            draw: scenario.draw(payment.number, 3 + payment.tried.len() as u64),
        };
        let readings = self.live.each_ref().map(|live| ChannelReading {
            in_flight: u32::try_from(live.calling.len()).unwrap_or(u32::MAX),
            probe_available: !live.probe_taken,
            ..ChannelReading::default()
        });
        let choice = decide(&self.table, &readings, &request, Monotonic::from_micros(now_us)).ok()?;
        Some(Chosen { place: choice.place, tries: choice.probe || choice.all_down, holds_probe: choice.probe })
    }

    fn began(&mut self, chosen: Chosen, number: u64, now_us: u64) {
        let live = &mut self.live[chosen.place];
        live.probe_taken |= chosen.holds_probe;
        live.calling.insert(number, Monotonic::from_micros(now_us));
    }

    fn answered(&mut self, scenario: &Scenario, call: &Call, number: u64, now_us: u64) {
        let (place, now) = (call.chosen.place, Monotonic::from_micros(now_us));
        self.live[place].calling.remove(&number);
        if self.plan == Plan::Tollgate {
            let setup = std::sync::Arc::clone(&self.table.setup);
            let settings = setup.health_at(place);
            let before = self.table.health[place];
            let outcome = Outcome { class: call.class, latency_ms: Some(call.latency_ms), probe: call.chosen.tries };
            let after = before.after_call(outcome, &settings, now);
            let after = if opened(before.breaker_at(now), after.breaker_at(now)) {
                after.jittered(self.jitter(), &settings, now)
            } else {
                after
            };
            let learned = &mut self.table.learned[place];
            if before.breaker_at(now) != BreakerView::Closed && after.breaker_at(now) == BreakerView::Closed {
                *learned = std::sync::Arc::new(learned.forgotten());
            }
            if let Some(approved) = call.class.approval() {
                let segment = Segment::new(Some("card"), scenario.amount(call.payment.number).currency, None);
                let approvals = &setup.health.approvals;
                let next = learned.after(&segment, approved, approvals, setup.choice.segments_max, now);
                *learned = std::sync::Arc::new(next);
            }
            self.table.health[place] = after.after_ending(call.class, &settings, now);
            self.table.version += 1;
        }
        self.live[place].probe_taken &= !call.chosen.holds_probe;
    }

    /// Once a second: calls that hang.
    fn look_after(&mut self, now_us: u64) {
        let now = Monotonic::from_micros(now_us);
        for place in 0..CHANNELS {
            let (health, settings) = (self.table.health[place], self.table.setup.health_at(place));
            let hangs =
                |began: &&Monotonic| **began > health.answered_at() && now.since(**began) > settings.breaker.slow;
            let hanging = self.live[place].calling.values().filter(hangs).count();
            if hanging == 0 || health.breaker_at(now) != BreakerView::Closed || self.plan != Plan::Tollgate {
                continue;
            }
            let after = health.after_silence(u32::try_from(hanging).unwrap_or(u32::MAX), &settings, now);
            self.table.health[place] = if opened(health.breaker_at(now), after.breaker_at(now)) {
                after.jittered(self.jitter(), &settings, now)
            } else {
                after
            };
        }
    }

    fn jitter(&mut self) -> u64 {
        self.jitters += 1;
        let drawn = Scenario { seed: self.seed ^ 0x6a69_7474_6572, ..UNUSED };
        drawn.draw(self.jitters, 0)
    }

    fn fee(&self, place: usize, money: Money) -> Option<i64> {
        let request =
            FeeRequest { money, payer: None, merchant: None, method: Some("card"), at: START, this_month_minor: 0 };
        fee_on(&self.table.setup, &self.table.setup.channels[place], &request)
    }
}

/// Whose seed alone counts.
const UNUSED: Scenario =
    Scenario { seed: 0, rate_per_s: 1, calm_s: 1, incident_s: 1, failover_max: 0, fees: ["0"; CHANNELS] };

fn opened(before: BreakerView, after: BreakerView) -> bool {
    before != BreakerView::Open && after == BreakerView::Open
}

/// The settings of the embedded configuration with these four channels.
fn setup(fees: [&str; CHANNELS]) -> RoutingSetup {
    let config = Config::embedded().expect("the embedded configuration");
    let mut setup = setup_from_config(&config, &BTreeMap::new()).expect("the embedded configuration routes");
    setup.channels = NAMES.iter().zip(fees).map(|(name, percent)| facts(name, percent)).collect();
    setup.default_channel = ChannelName::new(NAMES[0]);
    setup.rules.clear();
    setup
}

fn facts(name: &str, percent: &str) -> ChannelFacts {
    ChannelFacts {
        name: ChannelName::new(name),
        enabled: true,
        weight: 100,
        fees: FeeSchedule {
            percent: percent.parse().expect("a percentage"),
            fixed_currency: Currency::USD,
            ..FeeSchedule::default()
        },
        local_countries: CountrySet::default(),
        countries: CountrySet::default(),
        currencies: Vec::new(),
        methods: vec![String::from("card")],
        takes_payments: true,
        takes_pre_auths: true,
        has_credentials: true,
        amounts: BTreeMap::new(),
        caps: ChannelCaps::default(),
        maintenance: Vec::new(),
        slow: None,
    }
}
