//! What a routing decision with its record costs, and what writing the record down costs.
//!
//! `cargo bench --bench routing`. Nanoseconds, medians of turns that are taken in turns; decisions a second are those of one
//! thread. 4 and 16 channels that are known from 200 payments each, 0, 20 and 200 rules: of *no match* none fits, so that
//! all are looked at and the strategies decide; of *last fits* the last one does, and rules are asked first, so that it
//! decides. *Through the handle* is the whole of `RouterHandle::decide` with its counters and the place given back.
//!
//! Environment: `DECISIONS` a turn (5,000), `TURNS` (201).
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a program that measures and prints"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use tollgate::actors::router::{RouterHandle, setup_from_config};
use tollgate::actors::supervisor::{RestartBudget, Supervisor};
use tollgate::clock::Clock;
use tollgate::config::Config;
use tollgate::domain::fees::FeeSchedule;
use tollgate::domain::ids::ChannelName;
use tollgate::domain::money::{Currency, Money};
use tollgate::domain::routing::{
    ChannelCaps, ChannelFacts, ChannelReading, Conditions, CountrySet, MetadataCondition, Outcome, OutcomeClass,
    RouteRequest, RoutingSetup, RoutingTable, Rule, RuleResult, Segment, decide,
};
use tollgate::domain::time::{Monotonic, Timestamp};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Monotonic = Monotonic::from_micros(60_000_000);
const OUTCOMES: u32 = 200;

struct Case {
    channels: usize,
    rules: usize,
    last_fits: bool,
    table: RoutingTable,
    readings: Vec<ChannelReading>,
    times: [Vec<f64>; 4],
}

fn main() {
    let from_environment =
        |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (decisions, turns) = (from_environment("DECISIONS", 5_000), from_environment("TURNS", 201));
    let mut cases = Vec::new();
    for channels in [4, 16] {
        for (rules, last_fits) in [(0, false), (20, false), (20, true), (200, false), (200, true)] {
            cases.push(Case::new(channels, rules, last_fits));
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let routers: Vec<RouterHandle> = cases
        .iter()
        .map(|case| {
            runtime.block_on(async {
                let supervisor = Supervisor::start(RestartBudget::default(), Clock::system()).await.expect("a root");
                let setup = RoutingSetup::clone(&case.table.setup);
                RouterHandle::start(setup, Clock::system(), &supervisor).await.expect("a router")
            })
        })
        .collect();
    for _ in 0..turns {
        for (case, router) in cases.iter_mut().zip(&routers) {
            case.measure(decisions, router);
        }
    }
    println!("nanoseconds, medians of {turns} turns of {decisions}; one thread\n");
    println!(
        "| channels | rules | | decision with its record | decisions/s | writing the record | both | through the handle | record, bytes |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for case in &mut cases {
        let [decide, write, both, handle] = case.times.each_mut().map(|times| median(times));
        let which = match (case.rules, case.last_fits) {
            (0, _) => "",
            (_, true) => "last fits",
            (_, false) => "no match",
        };
        let record = decide_once(case, 0).map_or(0, |record| record.len());
        println!(
            "| {} | {} | {which} | {decide:.0} | {:.0} | {write:.0} | {both:.0} | {handle:.0} | {record} |",
            case.channels,
            case.rules,
            1e9 / decide,
        );
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn decide_once(case: &Case, number: u64) -> Option<Vec<u8>> {
    let metadata = noted();
    let choice = decide(&case.table, &case.readings, &request(&metadata, number), NOW).ok()?;
    serde_json::to_vec(&choice.record).ok()
}

impl Case {
    fn new(channels: usize, rules: usize, last_fits: bool) -> Self {
        let mut table = RoutingTable::fresh(1, setup(channels, rules, last_fits));
        let settings = table.setup.health;
        let segment = Segment::new(Some("card"), Currency::USD, "US".parse().ok());
        for place in 0..channels {
            for number in 0..OUTCOMES {
                let approved = number % 20 != 0;
                let class = if approved { OutcomeClass::Approved } else { OutcomeClass::DeclinedByProcessor };
                let outcome = Outcome { class, latency_ms: Some(400), probe: false };
                table.health[place] = table.health[place].after(outcome, &settings, NOW);
                let learned = table.learned[place].after(&segment, approved, &settings.approvals, 1_024, NOW);
                table.learned[place] = Arc::new(learned);
            }
        }
        let readings = vec![ChannelReading { probe_available: true, in_flight: 3, ..Default::default() }; channels];
        Self { channels, rules, last_fits, table, readings, times: Default::default() }
    }

    fn measure(&mut self, decisions: u64, router: &RouterHandle) {
        let metadata = noted();
        let each = |began: Instant| began.elapsed().as_nanos() as f64 / decisions as f64;
        let began = Instant::now();
        for number in 0..decisions {
            let request = request(&metadata, number);
            let _ = black_box(decide(black_box(&self.table), &self.readings, black_box(&request), NOW));
        }
        self.times[0].push(each(began));
        let choice = decide(&self.table, &self.readings, &request(&metadata, 1), NOW).expect("a choice");
        let mut written = Vec::with_capacity(4_096);
        let began = Instant::now();
        for _ in 0..decisions {
            written.clear();
            serde_json::to_writer(&mut written, black_box(&choice.record)).expect("it can be written");
            black_box(&written);
        }
        self.times[1].push(each(began));
        let began = Instant::now();
        for number in 0..decisions {
            let request = request(&metadata, number);
            let choice = decide(black_box(&self.table), &self.readings, black_box(&request), NOW).expect("a choice");
            written.clear();
            serde_json::to_writer(&mut written, &choice.record).expect("it can be written");
            black_box(&written);
        }
        self.times[2].push(each(began));
        let began = Instant::now();
        for number in 0..decisions {
            let _ = black_box(router.decide(black_box(&request(&metadata, number))));
        }
        self.times[3].push(each(began));
    }
}

fn noted() -> BTreeMap<String, String> {
    BTreeMap::from([(String::from("campaign"), String::from("autumn"))])
}

/// A card payment of 10 to 90 USD from the United States, in which no channel is local.
fn request(metadata: &BTreeMap<String, String>, number: u64) -> RouteRequest<'_> {
    RouteRequest {
        money: Money::new(1_000 + (number % 80).cast_signed() * 100, Currency::USD),
        country: "US".parse().ok(),
        country_from_address: false,
        card_country: None,
        merchant_country: None,
        method: Some("card"),
        requested: None,
        allowed: &[],
        merchant_id: "m_0123456789abcdefghi",
        tier: "business",
        order_no: "ORDER-20250124-0001",
        metadata,
        at: Timestamp::from_unix_s(1_760_000_000),
        tried: &[],
        refusing_token: &[],
        needs_pre_auth: false,
        draw: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    }
}

fn setup(channels: usize, rules: usize, last_fits: bool) -> RoutingSetup {
    let config = Config::embedded().expect("the embedded configuration");
    let mut setup = setup_from_config(&config, &BTreeMap::new()).expect("the embedded configuration routes");
    setup.channels = (0..channels).map(facts).collect();
    setup.default_channel = setup.channels[0].name.clone();
    setup.rules_first = last_fits;
    setup.rules = (0..rules).map(|number| rule(number, last_fits && number + 1 == rules)).collect();
    setup
}

/// What operators write: by country and method, amount and currency, merchant, or what is noted.
fn rule(number: usize, fits: bool) -> Rule {
    let texts = |texts: &[&str]| texts.iter().copied().map(String::from).collect::<Vec<_>>();
    let when = match number % 4 {
        _ if fits => Conditions { methods: texts(&["card"]), ..Conditions::default() },
        0 => Conditions {
            countries: ["CN", "HK", "MO"].iter().filter_map(|code| code.parse().ok()).collect(),
            methods: texts(&["card", "alipay"]),
            ..Conditions::default()
        },
        1 => Conditions {
            currencies: vec![Currency::USD],
            amount_minor_min: Some(100_000),
            methods: texts(&["card"]),
            ..Conditions::default()
        },
        2 => Conditions { merchants: texts(&["m_0000000000000000001"]), ..Conditions::default() },
        _ => Conditions {
            metadata: vec![MetadataCondition { key: String::from("campaign"), values: texts(&["spring", "summer"]) }],
            ..Conditions::default()
        },
    };
    Rule {
        id: Arc::from(format!("rule-{number}")),
        name: Arc::from(format!("what goes where, number {number}")),
        when,
        then: RuleResult::Ordered(vec![ChannelName::new("channel_1"), ChannelName::new("channel_2")]),
        ..Rule::default()
    }
}

fn facts(number: usize) -> ChannelFacts {
    ChannelFacts {
        name: ChannelName::new(format!("channel_{number}")),
        enabled: true,
        weight: 100,
        fees: FeeSchedule {
            percent: "2.9".parse().expect("a percentage"),
            fixed_minor: 30,
            fixed_currency: Currency::USD,
            ..FeeSchedule::default()
        },
        local_countries: CountrySet::default(),
        countries: CountrySet::default(),
        currencies: vec![Currency::USD],
        methods: vec![String::from("paypal"), String::from("card")],
        takes_payments: true,
        takes_pre_auths: true,
        has_credentials: true,
        amounts: BTreeMap::new(),
        caps: ChannelCaps::default(),
        maintenance: Vec::new(),
        slow: None,
    }
}
