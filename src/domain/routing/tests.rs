//! Routing as the operator and the merchant meet it.

mod bounds;
mod custom;
mod last_channel;
mod learning;
mod no_channel;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::domain::fees::{FeeSchedule, Percent};
use crate::domain::ids::ChannelName;
use crate::domain::money::{Currency, Money};
use crate::domain::time::{Monotonic, Timestamp};
use custom::{Narrow, nothing, others_than_given, paypal_only, with_strategies};

const NOW: Monotonic = Monotonic::from_micros(1_000_000);
const HEALTH: HealthSettings = HealthSettings {
    approvals: ApprovalSettings {
        window_outcomes: 200,
        prior_outcomes: 20,
        prior_success_ppm: 950_000,
        forget_half_after: Duration::from_secs(300),
    },
    breaker: BreakerSettings {
        window_outcomes: 200,
        consecutive_failures: 5,
        failure_percent: 50,
        min_outcomes: 20,
        slow: Duration::from_secs(8),
        slow_percent: 80,
        jitter_percent: 0,
        open: Duration::from_secs(30),
        open_max: Duration::from_secs(300),
    },
};

fn channel(text: &str) -> ChannelName {
    ChannelName::new(text)
}

fn country(text: &str) -> Country {
    text.parse().unwrap()
}

fn countries(text: &str) -> CountrySet {
    text.split_ascii_whitespace().map(country).collect()
}

fn percent(text: &str) -> Percent {
    text.parse().unwrap()
}

fn facts(name: &str, fees: (&str, i64, &str, &str), local: &str, methods: &[&str], pre_auth: bool) -> ChannelFacts {
    ChannelFacts {
        name: channel(name),
        enabled: true,
        weight: 100,
        fees: FeeSchedule {
            percent: percent(fees.0),
            fixed_minor: fees.1,
            fixed_currency: Currency::USD,
            international_percent: percent(fees.2),
            conversion_percent: percent(fees.3),
            ..FeeSchedule::default()
        },
        local_countries: countries(local),
        countries: CountrySet::default(),
        currencies: Vec::new(),
        methods: methods.iter().map(|method| String::from(*method)).collect(),
        takes_payments: true,
        takes_pre_auths: pre_auth,
        has_credentials: true,
        amounts: BTreeMap::new(),
        caps: ChannelCaps { concurrent: 100, ..ChannelCaps::default() },
        maintenance: Vec::new(),
        slow: None,
    }
}

const STRIPE: usize = 3;
const PAYPAL: usize = 2;
const ALIPAY: usize = 0;
const CRYPTO: usize = 1;

/// The four channels of the product, in the order of their names.
fn setup(mode: RoutingMode) -> RoutingSetup {
    RoutingSetup {
        version: 3,
        mode,
        smart: true,
        rules_first: false,
        failed_payment_cost: Percent::default(),
        default_channel: channel("stripe"),
        rules: Vec::new(),
        channels: vec![
            facts("alipay", ("0.6", 0, "0", "0"), "CN HK MO", &["alipay"], true),
            facts("crypto", ("1", 0, "0", "0"), "", &["crypto"], false),
            facts("paypal", ("3.49", 49, "1.5", "0"), "", &["paypal", "card"], true),
            facts("stripe", ("2.9", 30, "1.5", "1"), "US CA GB DE FR AU NZ JP SG", &["card"], true),
        ],
        settlement_currency: Currency::USD,
        rates: BTreeMap::from([(Currency::CNY, "0.14".parse().unwrap())]),
        health: HEALTH,
        choice: ChoiceSettings::default(),
    }
}

/// A setup of no channels, for tests that bring their own.
pub(super) fn bare_setup() -> RoutingSetup {
    RoutingSetup { channels: Vec::new(), ..setup(RoutingMode::Balanced) }
}

fn table(setup: RoutingSetup) -> RoutingTable {
    RoutingTable::fresh(7, setup)
}

static NOTHING_NOTED: BTreeMap<String, String> = BTreeMap::new();

fn request(amount_minor: i64) -> RouteRequest<'static> {
    RouteRequest {
        money: Money::new(amount_minor, Currency::USD),
        country: None,
        country_from_address: false,
        card_country: None,
        merchant_country: None,
        method: None,
        requested: None,
        allowed: &[],
        merchant_id: "m_1",
        tier: "starter",
        order_no: "O-1",
        metadata: &NOTHING_NOTED,
        at: Timestamp::from_unix_s(1_750_000_000),
        tried: &[],
        refusing_token: &[],
        needs_pre_auth: false,
        draw: 0,
    }
}

fn idle(table: &RoutingTable) -> Vec<ChannelReading> {
    vec![ChannelReading { probe_available: true, ..ChannelReading::default() }; table.setup.channels.len()]
}

fn learn(table: &mut RoutingTable, place: usize, class: OutcomeClass, times: usize) {
    for _ in 0..times {
        let outcome = Outcome { class, latency_ms: None, probe: false };
        table.health[place] = table.health[place].after(outcome, &HEALTH, NOW);
    }
}

fn chosen(table: &RoutingTable, request: &RouteRequest<'_>) -> Choice {
    decide(table, &idle(table), request, NOW).unwrap()
}

#[test]
fn the_modes_ask_the_strategies_in_the_documented_order() {
    use Strategy::{Cost, Geographic, LoadBalance, SuccessRate};
    assert_eq!(RoutingMode::Balanced.order(), [Geographic, SuccessRate, Cost, LoadBalance]);
    assert_eq!(RoutingMode::Cost.order(), [Cost, SuccessRate, LoadBalance, Geographic]);
    assert_eq!(RoutingMode::Success.order(), [SuccessRate, Cost, LoadBalance, Geographic]);
    assert_eq!(RoutingMode::Geographic.order(), [Geographic, SuccessRate, Cost, LoadBalance]);
}

#[test]
fn geography_keeps_local_channels_and_abstains_where_there_is_none() {
    let table = table(setup(RoutingMode::Balanced));
    let from = |code| RouteRequest { country: Some(country(code)), ..request(10_000) };
    let choice = chosen(&table, &from("CN"));
    assert_eq!((choice.channel, choice.strategy), (channel("alipay"), Some(Strategy::Geographic)));
    assert_eq!(chosen(&table, &from("US")).channel, channel("stripe"));
    let nobody_local = chosen(&table, &from("BR"));
    assert_eq!(nobody_local.strategy, Some(Strategy::Cost), "geography and success rate abstained");
    assert_eq!(nobody_local.channel, channel("alipay"));
    let [geographic, success_rate, cost] = &nobody_local.record.steps[..] else { panic!("three steps") };
    assert_eq!((geographic.before, geographic.after), (success_rate.before, success_rate.before));
    assert_eq!((cost.before.len(), cost.after.len()), (4, 1));
}

#[test]
fn a_token_goes_to_no_provider_that_does_not_know_it() {
    let table = table(setup(RoutingMode::Cost));
    let refusing = [channel("alipay")];
    let with_token = RouteRequest { refusing_token: &refusing, ..request(10_000) };
    assert_eq!(chosen(&table, &request(10_000)).channel, channel("alipay"));
    let choice = chosen(&table, &with_token);
    assert_ne!(choice.channel, channel("alipay"));
    let verdict = choice.record.channels.iter().find(|verdict| verdict.channel == channel("alipay")).unwrap();
    assert_eq!(verdict.dropped_by, Some(DroppedBy::Token));
    let alipay = channel("alipay");
    let asked_for = RouteRequest { requested: Some(&alipay), ..with_token };
    assert!(decide(&table, &idle(&table), &asked_for, NOW).is_err(), "naming the channel does not help");
}

#[test]
fn a_clear_lead_in_success_decides_and_a_small_one_does_not() {
    let mut near = table(setup(RoutingMode::Success));
    let card = RouteRequest { method: Some("card"), ..request(10_000) };
    learn(&mut near, PAYPAL, OutcomeClass::Approved, 200);
    assert_eq!(chosen(&near, &card).strategy, Some(Strategy::Cost), "a fresh channel is within the dead band");
    for _ in 0..20 {
        learn(&mut near, STRIPE, OutcomeClass::DeclinedByProcessor, 2);
        learn(&mut near, STRIPE, OutcomeClass::Approved, 8);
    }
    let choice = chosen(&near, &card);
    assert_eq!((choice.channel, choice.strategy), (channel("paypal"), Some(Strategy::SuccessRate)));
    assert!(choice.record.reason().contains("99."), "{}", choice.record.reason());
    near.health[PAYPAL] = ChannelHealth::default();
    assert_eq!(chosen(&near, &card).strategy, Some(Strategy::Cost), "what is only assumed is no clear lead");
    learn(&mut near, STRIPE, OutcomeClass::DeclinedByProcessor, 100);
    let choice = chosen(&near, &card);
    assert_eq!((choice.channel.as_str(), choice.strategy), ("paypal", Some(Strategy::SuccessRate)));
    let reason = choice.record.reason();
    assert!(reason.contains(" % is assumed of it, since nothing is known yet"), "no outcomes are no reason: {reason}");
}

#[test]
fn cost_reproduces_the_documented_month() {
    let table = table(setup(RoutingMode::Cost));
    let from_us = RouteRequest { country: Some(country("US")), ..request(10_000) };
    let mut fees_minor = 0;
    for (method, count) in [("alipay", 6_460), ("card", 3_540)] {
        let choice = chosen(&table, &RouteRequest { method: Some(method), ..from_us });
        fees_minor += choice.record.channels[choice.place].fee_minor.unwrap() * count;
    }
    assert_eq!(fees_minor, 1_520_400);
    let stripe = &table.setup.channels[STRIPE];
    let fee = fee_on(&table.setup, stripe, &FeeRequest::of(&from_us, ChannelReading::default()));
    assert_eq!(fee, Some(320));
}

#[test]
fn a_tie_in_cost_is_no_reason() {
    let mut twins = setup(RoutingMode::Cost);
    twins.channels[PAYPAL].fees = twins.channels[STRIPE].fees.clone();
    twins.channels[PAYPAL].local_countries = twins.channels[STRIPE].local_countries;
    let table = table(twins);
    let choice = chosen(&table, &RouteRequest { method: Some("card"), ..request(10_000) });
    assert_eq!(choice.strategy, Some(Strategy::LoadBalance));
    assert_eq!(choice.record.steps[0].after.len(), 2);
}

#[test]
fn fees_know_what_is_international_and_what_is_converted() {
    let setup = setup(RoutingMode::Cost);
    let dollars = Money::new(10_000, Currency::USD);
    let fee = |place: usize, money, payer: Option<&str>, merchant: Option<&str>| {
        let request =
            RouteRequest { money, country: payer.map(country), merchant_country: merchant.map(country), ..request(0) };
        fee_on(&setup, &setup.channels[place], &FeeRequest::of(&request, ChannelReading::default()))
    };
    assert_eq!(fee(STRIPE, dollars, Some("BR"), None), Some(470));
    assert_eq!(fee(STRIPE, dollars, None, None), Some(320), "an unknown country is not international");
    assert_eq!(fee(PAYPAL, dollars, Some("US"), Some("US")), Some(398));
    assert_eq!(fee(PAYPAL, dollars, Some("DE"), Some("US")), Some(548));
    assert_eq!(fee(PAYPAL, dollars, Some("DE"), None), Some(398), "foreign to whom is not known");
    // 2.9 % + 1 % conversion of 100 CNY, and 0.30 USD at 0.14 USD a yuan.
    assert_eq!(fee(STRIPE, Money::new(10_000, Currency::CNY), None, None), Some(390 + 214));
    let won = Money::new(10_000, "KRW".parse().unwrap());
    assert_eq!(fee(STRIPE, won, None, None), None, "the fixed part can't be converted");
    assert_eq!(fee(ALIPAY, won, None, None), Some(60));
}

#[test]
fn a_decision_prices_by_the_month_the_day_and_the_method() {
    use crate::domain::fees::{FeeOverride, FeeTier};
    let mut setup = setup(RoutingMode::Cost);
    let tier = FeeTier { from_minor: 1_000_000, percent: percent("2"), fixed_minor: Some(0) };
    let change = FeeSchedule {
        valid_from: Some("2026-01-01".parse().unwrap()),
        percent: percent("5"),
        ..FeeSchedule::default()
    };
    let own = FeeOverride { percent: percent("1"), fixed_minor: 0 };
    setup.channels[STRIPE].fees.tiers = vec![tier];
    setup.channels[STRIPE].fees.changes = vec![change];
    setup.channels[ALIPAY].fees.by_method = [("alipay".to_owned(), own)].into();
    let table = table(setup);
    let fees = |day: &str, month_minor| {
        let at = day.parse::<crate::domain::time::Day>().unwrap().start();
        let reading =
            ChannelReading { probe_available: true, this_month_minor: month_minor, ..ChannelReading::default() };
        let choice = decide(&table, &[reading; 4], &RouteRequest { at, ..request(10_000) }, NOW).unwrap();
        [STRIPE, ALIPAY].map(|place| choice.record.channels[place].fee_minor)
    };
    assert_eq!(fees("2025-12-31", 999_999), [Some(320), Some(100)], "of its only method");
    assert_eq!(fees("2025-12-31", 1_000_000), [Some(200), Some(100)]);
    assert_eq!(fees("2026-01-01", 1_000_000), [Some(500), Some(100)]);
}

#[test]
fn a_channel_of_unknown_cost_is_never_the_cheaper_one() {
    let table = table(setup(RoutingMode::Cost));
    let won = RouteRequest { money: Money::new(10_000, "KRW".parse().unwrap()), ..request(0) };
    let choice = chosen(&table, &won);
    assert_eq!((choice.channel, choice.strategy), (channel("alipay"), Some(Strategy::Cost)));
    let only_unknown = chosen(&table, &RouteRequest { method: Some("card"), ..won });
    assert_eq!(only_unknown.strategy, Some(Strategy::LoadBalance), "cost abstains");
}

#[test]
fn load_goes_by_weight_among_equals_and_away_from_the_loaded() {
    let mut twins = setup(RoutingMode::Balanced);
    twins.channels[PAYPAL].fees = twins.channels[STRIPE].fees.clone();
    twins.channels[PAYPAL].local_countries = twins.channels[STRIPE].local_countries;
    (twins.channels[PAYPAL].weight, twins.channels[STRIPE].weight) = (3, 1);
    let table = table(twins);
    let card = |draw| RouteRequest { method: Some("card"), draw, ..request(10_000) };
    let share = |readings: &[ChannelReading]| {
        let to_paypal = |step: u64| {
            let draw = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            decide(&table, readings, &card(draw), NOW).unwrap().place == PAYPAL
        };
        (0..4_000).filter(|step| to_paypal(*step)).count()
    };
    assert!((2_900..=3_100).contains(&share(&idle(&table))));
    let mut loaded = idle(&table);
    loaded[PAYPAL].in_flight = 10;
    assert_eq!(share(&loaded), 0, "of two the less loaded");
    loaded[STRIPE].in_flight = 9;
    assert!(share(&loaded) > 2_500, "a small difference is none");
}

#[test]
fn every_filter_drops_and_says_so() {
    let mut all = setup(RoutingMode::Balanced);
    all.channels[ALIPAY].currencies = vec![Currency::CNY];
    all.channels[CRYPTO].enabled = false;
    all.channels[PAYPAL].countries = countries("US");
    all.channels[STRIPE].caps.concurrent = 2;
    let mut table = table(all);
    let from_germany = RouteRequest { country: Some(country("DE")), ..request(10_000) };
    let mut readings = idle(&table);
    readings[STRIPE].in_flight = 2;
    let none = decide(&table, &readings, &from_germany, NOW).unwrap_err();
    let dropped: Vec<_> = none.record.channels.iter().map(|verdict| verdict.dropped_by).collect();
    use DroppedBy::{BreakerOpen, Disabled, InFlightMax, Merchant, Method, PreAuth, Tried};
    assert_eq!(dropped, [Some(DroppedBy::Currency), Some(Disabled), Some(DroppedBy::Country), Some(InFlightMax)]);
    assert!(none.record.channels.iter().all(|verdict| verdict.fee_minor.is_some()), "fees of dropped channels too");
    assert_eq!(none.retry_in, Some(Duration::from_secs(1)));
    assert!(none.to_string().contains("stripe has as many payments in flight as it may"), "{none}");

    let why = |table: &RoutingTable, request: &RouteRequest<'_>, place: usize| {
        let decision = decide(table, &idle(table), request, NOW);
        let record = decision.map_or_else(|none| *none.record, |choice| choice.record);
        record.channels[place].dropped_by
    };
    let (allowed, tried) = ([channel("paypal")], [channel("stripe")]);
    assert_eq!(why(&table, &RouteRequest { allowed: &allowed, ..request(1) }, STRIPE), Some(Merchant));
    assert_eq!(why(&table, &RouteRequest { tried: &tried, ..request(1) }, STRIPE), Some(Tried));
    assert_eq!(why(&table, &RouteRequest { method: Some("paypal"), ..request(1) }, STRIPE), Some(Method));
    let hold = RouteRequest { needs_pre_auth: true, ..request(1) };
    assert_eq!(why(&table, &hold, STRIPE), None);
    Arc::make_mut(&mut table.setup).channels[CRYPTO].enabled = true;
    assert_eq!(why(&table, &hold, CRYPTO), Some(PreAuth));
    learn(&mut table, STRIPE, OutcomeClass::TechnicalFailure, 5);
    assert_eq!(why(&table, &request(1), STRIPE), Some(BreakerOpen));
}

#[test]
fn a_channel_asked_for_skips_the_choice_but_not_the_filter() {
    let mut table = table(setup(RoutingMode::Cost));
    let paypal = channel("paypal");
    let asked = RouteRequest { requested: Some(&paypal), ..request(10_000) };
    let choice = chosen(&table, &asked);
    assert_eq!((choice.channel, choice.rung, choice.strategy), (paypal.clone(), Rung::Requested, None));
    learn(&mut table, PAYPAL, OutcomeClass::TechnicalFailure, 5);
    let none = decide(&table, &idle(&table), &asked, NOW).unwrap_err();
    assert!(none.record.reason().contains("failing"), "{}", none.record.reason());
    assert_eq!(none.retry_in, Some(Duration::from_secs(30)));
    let why_stripe = none.record.why_not(&none.record.channels[STRIPE], crate::domain::language::Language::English);
    assert_eq!(why_stripe, "could take it, but another channel was asked for");
    let unknown = channel("klarna");
    let none = decide(&table, &idle(&table), &RouteRequest { requested: Some(&unknown), ..asked }, NOW).unwrap_err();
    assert!(none.record.reason().contains("there is no channel klarna"), "{}", none.record.reason());
}

#[test]
fn the_ladder_goes_from_strategies_to_rules_to_the_default() {
    let rule = |name: &str, methods: &[&str], channels: &[&str]| Rule {
        name: Arc::from(name),
        when: Conditions {
            methods: methods.iter().map(|method| String::from(*method)).collect(),
            ..Conditions::default()
        },
        then: RuleResult::Ordered(channels.iter().map(|name| channel(name)).collect()),
        ..Rule::default()
    };
    let mut by_rules = setup(RoutingMode::Balanced);
    by_rules.smart = false;
    by_rules.rules = vec![rule("cards", &["card"], &["paypal", "stripe"]), rule("the same", &["card"], &["stripe"])];
    let card = RouteRequest { method: Some("card"), ..request(10_000) };
    let mut table = table(by_rules.clone());
    let choice = chosen(&table, &card);
    assert_eq!((choice.channel, choice.rung, choice.strategy), (channel("paypal"), Rung::Rules, None));
    assert_eq!(choice.record.reason(), "The rule \"cards\" names paypal.");
    learn(&mut table, PAYPAL, OutcomeClass::TechnicalFailure, 5);
    assert_eq!(chosen(&table, &card).channel, channel("stripe"), "the rule's next, not the next rule's");
    assert_eq!(chosen(&table, &request(10_000)).rung, Rung::Default, "no method, no rule");
    let by_alipay = RouteRequest { method: Some("alipay"), ..request(10_000) };
    assert!(decide(&table, &idle(&table), &by_alipay, NOW).is_err(), "the default is filtered too");
    by_rules.smart = true;
    let smart = self::table(by_rules.clone());
    assert_eq!(chosen(&smart, &card).rung, Rung::Smart);
    assert!(chosen(&smart, &card).record.rule.is_some(), "the rule is noted all the same");
    by_rules.rules_first = true;
    let rules_first = self::table(by_rules);
    assert_eq!(chosen(&rules_first, &card).rung, Rung::Rules);
    assert_eq!(chosen(&rules_first, &request(10_000)).rung, Rung::Smart, "no rule, so the strategies");
}

#[test]
fn rules_match_only_when_every_condition_holds() {
    let rule = Conditions {
        countries: countries("DE FR"),
        currencies: vec![Currency::USD],
        methods: vec![String::from("card")],
        tiers: vec![String::from("premium")],
        amount_minor_min: Some(1_000),
        amount_minor_max: Some(2_000),
        ..Conditions::default()
    };
    let fits = RouteRequest { country: Some(country("DE")), method: Some("card"), tier: "premium", ..request(1_000) };
    assert!(rule.hold(&fits));
    assert!(rule.hold(&RouteRequest { money: Money::new(2_000, Currency::USD), ..fits }));
    let misfits = [
        RouteRequest { country: Some(country("US")), ..fits },
        RouteRequest { country: None, ..fits },
        RouteRequest { method: None, ..fits },
        RouteRequest { method: Some("alipay"), ..fits },
        RouteRequest { tier: "starter", ..fits },
        RouteRequest { money: Money::new(999, Currency::USD), ..fits },
        RouteRequest { money: Money::new(2_001, Currency::USD), ..fits },
        RouteRequest { money: Money::new(1_500, Currency::CNY), ..fits },
    ];
    assert!(misfits.iter().all(|misfit| !rule.hold(misfit)));
}

#[test]
fn a_half_open_channel_is_tried_by_one_payment_that_would_want_it() {
    let mut table = table(setup(RoutingMode::Balanced));
    learn(&mut table, STRIPE, OutcomeClass::TechnicalFailure, 5);
    let from_us = RouteRequest { country: Some(country("US")), ..request(10_000) };
    let later = NOW.plus(Duration::from_secs(30));
    let choice = decide(&table, &idle(&table), &from_us, later).unwrap();
    assert_eq!((choice.place, choice.probe), (STRIPE, true));
    let mut taken = idle(&table);
    taken[STRIPE].probe_available = false;
    let other = decide(&table, &taken, &from_us, later).unwrap();
    assert_eq!(other.record.channels[STRIPE].dropped_by, Some(DroppedBy::ProbeTaken));
    assert!(!other.probe && other.place != STRIPE);
}

#[test]
fn setups_that_do_not_fit_together_are_refused() {
    let good = setup(RoutingMode::Balanced);
    assert_eq!(good.check(), Ok(()));
    let unknown = RoutingSetup { default_channel: channel("klarna"), ..good.clone() };
    assert_eq!(unknown.check(), Err(InvalidSetup::UnknownDefault(channel("klarna"))));
    let mut twice = good.clone();
    twice.channels.push(good.channels[0].clone());
    assert_eq!(twice.check(), Err(InvalidSetup::DuplicateChannel(channel("alipay"))));
    let mut ruled = good;
    ruled.rules.push(Rule { then: RuleResult::Ordered(vec![channel("klarna")]), ..Rule::default() });
    assert!(matches!(ruled.check(), Err(InvalidSetup::UnknownInRule { .. })));
}

#[test]
fn a_record_is_small_enough_for_a_row() {
    let mut table = table(setup(RoutingMode::Balanced));
    let american = RouteRequest { country: Some(country("US")), ..request(9_999_999) };
    for place in 0..4 {
        learn_of(&mut table, place, &american, true, 200);
        learn(&mut table, place, OutcomeClass::Approved, 200);
        let outcome = Outcome { class: OutcomeClass::Approved, latency_ms: Some(321), probe: false };
        table.health[place] = table.health[place].after(outcome, &HEALTH, NOW);
    }
    let request = RouteRequest { draw: u64::MAX, ..american };
    let readings = vec![ChannelReading { in_flight: 99, probe_available: true, ..ChannelReading::default() }; 4];
    let choice = decide(&table, &readings, &request, NOW).unwrap();
    let text = serde_json::to_string(&choice.record).unwrap();
    assert!(text.len() < 700, "{} bytes: {text}", text.len());
}

/// Two channels for cards that differ in nothing but what a test gives them.
fn twins(mode: RoutingMode) -> RoutingSetup {
    let mut twins = setup(mode);
    twins.channels[PAYPAL].fees = twins.channels[STRIPE].fees.clone();
    twins.channels[PAYPAL].local_countries = twins.channels[STRIPE].local_countries;
    twins
}

fn card(draw: u64) -> RouteRequest<'static> {
    RouteRequest { method: Some("card"), draw: draw.wrapping_mul(0x9e37_79b9_7f4a_7c15), ..request(10_000) }
}

fn learn_of(table: &mut RoutingTable, place: usize, request: &RouteRequest<'_>, approved: bool, times: usize) {
    let segment = Segment::new(request.method, request.money.currency, request.country);
    let class = if approved { OutcomeClass::Approved } else { OutcomeClass::DeclinedByProcessor };
    for _ in 0..times {
        table.health[place] = table.health[place].after_ending(class, &HEALTH, NOW);
        table.learned[place] = Arc::new(table.learned[place].after(&segment, approved, &HEALTH.approvals, 64, NOW));
    }
}

#[test]
fn the_success_rate_is_that_of_the_kind_of_payment() {
    let mut table = table(twins(RoutingMode::Success));
    Arc::make_mut(&mut table.setup).choice.explore_percent = 0;
    let german = RouteRequest { country: Some(country("DE")), ..card(1) };
    let american = RouteRequest { country: Some(country("US")), ..card(1) };
    for _ in 0..40 {
        learn_of(&mut table, STRIPE, &german, false, 2);
        learn_of(&mut table, STRIPE, &american, true, 3);
        learn_of(&mut table, PAYPAL, &german, true, 3);
        learn_of(&mut table, PAYPAL, &american, false, 2);
    }
    let choice = chosen(&table, &german);
    assert_eq!((choice.place, choice.strategy), (PAYPAL, Some(Strategy::SuccessRate)));
    assert_eq!((choice.record.channels[STRIPE].level, choice.record.channels[STRIPE].samples), (3, 80));
    assert_eq!(chosen(&table, &american).place, STRIPE);
    let nowhere = chosen(&table, &card(1));
    assert_eq!(nowhere.record.channels[STRIPE].level, 2, "less special where the country is not known");
    assert_ne!(nowhere.strategy, Some(Strategy::SuccessRate));
    assert!(matches!(choice.record.margin(), Some(Margin::Success { over: STRIPE, ppm: 100_000.. })));
}

#[test]
fn a_clearly_failing_channel_is_dearer_by_what_failures_cost() {
    let mut cheap = twins(RoutingMode::Cost);
    cheap.channels[PAYPAL].fees.percent = percent("2.8");
    let by_cost = |failed: &str, declined: usize| {
        let mut table = table(RoutingSetup { failed_payment_cost: percent(failed), ..cheap.clone() });
        learn(&mut table, STRIPE, OutcomeClass::Approved, 200);
        // Spread evenly: declines that were all before the approvals would be of the past.
        for index in 0..200 {
            let is_declined = (index + 1) * declined / 200 > index * declined / 200;
            let class = if is_declined { OutcomeClass::DeclinedByProcessor } else { OutcomeClass::Approved };
            learn(&mut table, PAYPAL, class, 1);
        }
        let choice = chosen(&table, &card(1));
        assert_eq!(choice.strategy, Some(Strategy::Cost));
        choice
    };
    assert_eq!(by_cost("10", 2).place, PAYPAL, "a lead within the dead band outweighs no fee");
    let dearer = by_cost("10", 60);
    assert_eq!(dearer.place, STRIPE);
    assert!(matches!(dearer.record.margin(), Some(Margin::Cost { over: PAYPAL, minor: 1.. })));
    assert!(dearer.record.expected_cost_minor(PAYPAL) > dearer.record.expected_cost_minor(STRIPE));
    let cost = Money::new(dearer.record.expected_cost_minor(STRIPE).unwrap(), Currency::USD);
    let reason = dearer.record.reason();
    let expected = format!(
        "stripe is expected to cost the least of those left, {cost} with what failed payments cost; its fee is 3.20 USD."
    );
    assert_eq!(reason, expected, "it is not the one with the lowest fee");
    let reason = by_cost("10", 2).record.reason();
    assert_eq!(reason, "paypal is the cheapest of those left, at a fee of 3.10 USD.");
    assert_eq!(by_cost("0", 60).place, PAYPAL, "what fails costs nothing here");
    let record = DecisionRecord { failed_payment_cost_ppm: 0, ..dearer.record };
    assert_eq!(record.replay().0.unwrap().place, PAYPAL, "the record alone says what failures cost");
}

#[test]
fn in_turn_every_round_is_exact_and_spread() {
    let mut in_turn = twins(RoutingMode::Balanced);
    (in_turn.channels[PAYPAL].weight, in_turn.channels[STRIPE].weight) = (500, 300);
    in_turn.choice.load_balancing = LoadBalancing::RoundRobin;
    let table = table(in_turn);
    let choice = chosen(&table, &card(1));
    let places: Vec<usize> = (16..32).map(|turn| choice.clone().in_turn(turn).place).collect();
    assert_eq!(places.iter().filter(|place| **place == PAYPAL).count(), 10, "two rounds of five and three");
    assert!(places.windows(4).all(|four| four.contains(&STRIPE)), "{places:?}");
    let second = choice.in_turn(23);
    assert_eq!((second.record.turn, second.strategy), (Some(23), Some(Strategy::LoadBalance)));
    assert_eq!(second.record.replay().0.unwrap().place, second.place);
}

#[test]
fn decisions_are_told_in_chinese_too() {
    use crate::domain::language::Language::Chinese;
    let table = table(setup(RoutingMode::Balanced));
    let choice = chosen(&table, &RouteRequest { country: Some(country("CN")), ..request(10_000) });
    assert_eq!(choice.record.reason_in(Chinese), "alipay 是付款人所在国家的本地渠道。");
    let step = &choice.record.steps[0];
    assert_eq!(choice.record.step_in_words(step, Chinese), "geographic 从 4 个渠道中保留了 alipay。");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn a_decision_is_made_again_from_its_record_and_only_among_the_eligible(
        draw in any::<u64>(),
        mode in 0_usize..4,
        channels in prop::collection::vec((0_usize..8, 0_usize..40, 0_u32..120, any::<bool>()), 4),
        kind in 0_usize..4,
        newcomers in prop::collection::vec(any::<bool>(), 4),
        shares in (0_u8..=100, 0_u8..=20, any::<bool>()),
        strategies in prop::collection::vec((0_usize..4, any::<u8>()), 0..3),
        costs in (0_u32..300_000, 1_i64..10_000_000, any::<u64>()),
        asked in (0_usize..8, 0_usize..8, 0_usize..8, 0_usize..5, 0_u32..6),
    ) {
        let modes = [RoutingMode::Balanced, RoutingMode::Cost, RoutingMode::Success, RoutingMode::Geographic];
        let mut setup = setup(modes[mode]);
        setup.smart = kind != 3;
        setup.rules.push(Rule {
            name: Arc::from("r"),
            then: if draw % 2 == 0 {
                RuleResult::Ordered(vec![channel("crypto")])
            } else {
                let share = |name: &str, percent| Share { channel: channel(name), percent };
                RuleResult::Split(vec![share("crypto", 40), share("stripe", 60), share("alipay", 0)])
            },
            ..Rule::default()
        });
        setup.rules_first = draw % 3 == 0;
        setup.failed_payment_cost = Percent::from_ppm(costs.0);
        setup.choice.newcomer_share_percent = shares.0;
        setup.choice.explore_percent = shares.1;
        if shares.2 {
            setup.choice.load_balancing = LoadBalancing::RoundRobin;
        }
        let told = [paypal_only, nothing, others_than_given, |all: &Candidates<'_>| all.set().iter().skip(1).collect()];
        let names = ["one", "two"];
        let strategies: Vec<(&str, u8, Narrow)> = strategies
            .into_iter()
            .zip(names)
            .map(|((kind, priority), name)| (name, priority, told[kind]))
            .collect();
        let (wish, tried, allowed, method, per_day) = asked;
        setup.channels[draw as usize % 4].caps.per_day = Some(per_day);
        setup.channels[wish % 4].caps.amount_per_day_minor = Some(costs.1);
        let mut table = with_strategies(setup, &strategies);
        let mut readings = Vec::new();
        let classes = [
            OutcomeClass::Approved, OutcomeClass::Answered, OutcomeClass::DeclinedByProcessor,
            OutcomeClass::DeclinedByNetwork, OutcomeClass::DeclinedByBank, OutcomeClass::DeclinedByCustomer,
            OutcomeClass::DeclinedUnspecified, OutcomeClass::TechnicalFailure,
        ];
        for (place, (class, times, in_flight, probe_available)) in channels.into_iter().enumerate() {
            learn(&mut table, place, classes[class], times);
            if newcomers[place] {
                table.learned[place] = Arc::new(Learned::newcomer());
            }
            learn_of(&mut table, place, &RouteRequest { country: Some(country("US")), ..card(0) }, class % 2 == 0, times);
            let today = u32::try_from(place).unwrap();
            readings.push(ChannelReading { in_flight, probe_available, today, ..ChannelReading::default() });
        }
        let countries = [None, Some(country("US")), Some(country("CN")), Some(country("BR"))];
        let one_of = |number: usize| table.setup.channels.get(number).map(|facts| facts.name.clone());
        // Of eight numbers four name a channel, and the others none.
        let (wish, tried) = (one_of(wish), one_of(tried).into_iter().collect::<Vec<_>>());
        let allowed: Vec<ChannelName> = one_of(allowed).into_iter().chain(wish.clone()).collect();
        let money = if costs.0 % 5 == 0 { Money::new(costs.1, "KRW".parse().unwrap()) } else { request(costs.1).money };
        let request = RouteRequest {
            draw, money, country: countries[kind], requested: wish.as_ref(), tried: &tried,
            allowed: if costs.2 % 2 == 0 { &[] } else { &allowed },
            method: [Some("card"), Some("crypto"), Some("alipay"), Some("paypal"), None][method],
            ..request(costs.1)
        };
        let later = NOW.plus(Duration::from_secs(draw % 60));
        let decision = decide(&table, &readings, &request, later);
        let record = match decision {
            Ok(choice) => {
                let choice = if shares.2 { choice.in_turn(costs.2) } else { choice };
                let chosen = &choice.record.channels[choice.place];
                let is_down = matches!(chosen.dropped_by, Some(DroppedBy::BreakerOpen | DroppedBy::ProbeTaken));
                let is_as_said = if choice.all_down { is_down } else { chosen.dropped_by.is_none() };
                prop_assert!(is_as_said, "{}", choice.record.reason());
                prop_assert!(!choice.probe || readings[choice.place].probe_available && !choice.all_down);
                let up = choice.record.channels.iter().filter(|one| one.dropped_by.is_none()).count();
                prop_assert!(!choice.all_down || !table.setup.smart || up == 0);
                prop_assert_eq!(Some(choice.place), choice.record.chosen);
                prop_assert!(wish.is_none() || wish.as_ref() == Some(&choice.channel));
                prop_assert!(!tried.contains(&choice.channel));
                prop_assert!(request.allowed.is_empty() || allowed.contains(&choice.channel));
                let again = choice.clone().lost_to_others();
                prop_assert!(again.as_ref().map_or(true, |next| next.place != choice.place));
                prop_assert!(again.map_or_else(|none| none.record.is_reproduced(), |next| next.record.is_reproduced()));
                choice.record
            }
            Err(none) => {
                let nobody = |one: &ChannelVerdict| one.dropped_by.is_some() || wish.as_ref().is_some_and(|wish| one.channel != *wish);
                prop_assert!(!table.setup.smart || none.record.channels.iter().all(nobody));
                *none.record
            }
        };
        prop_assert!(record.steps.iter().all(|step| !step.after.is_empty() && step.after.len() <= step.before.len()));
        let stored: DecisionRecord = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        prop_assert_eq!(&stored, &record);
        let (verdict, steps) = stored.replay();
        prop_assert_eq!(verdict.map(|verdict| verdict.place), record.chosen);
        prop_assert_eq!(verdict.map(|verdict| verdict.rung), record.rung);
        prop_assert_eq!(verdict.and_then(|verdict| verdict.strategy), record.strategy);
        prop_assert_eq!(steps, record.steps.clone());
        prop_assert!(!record.reason().is_empty());
        let _ = (record.margin(), record.expected_cost_minor(0));
    }
}
