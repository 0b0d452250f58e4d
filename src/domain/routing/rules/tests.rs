//! Rules as operators write them, and what is said about them against trying everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::sample::subsequence;

use super::*;
use crate::domain::fees::FeeSchedule;
use crate::domain::money::{Currency, Money};
use crate::domain::routing::country::{Country, CountrySet};
use crate::domain::routing::table::{AmountRange, ChannelCaps, ChannelFacts};
use crate::domain::time::Timestamp;

const COUNTRIES: [&str; 2] = ["CN", "DE"];
const METHODS: [&str; 2] = ["alipay", "card"];
const TIERS: [&str; 2] = ["premium", "starter"];
const MERCHANTS: [&str; 2] = ["m_1", "m_2"];
const CURRENCIES: [&str; 2] = ["EUR", "USD"];
const AMOUNTS: [i64; 3] = [1, 100, 999_999_999_999];
const NOTES: [Option<&str>; 3] = [None, Some("a"), Some("b")];
/// 1 January 1970 was a Thursday.
const THURSDAY: i64 = 0;

fn country(code: &str) -> Country {
    code.parse().unwrap()
}

fn currency(code: &str) -> Currency {
    code.parse().unwrap()
}

fn time(text: &str) -> DayTime {
    text.parse().unwrap()
}

fn facts(name: &str) -> ChannelFacts {
    ChannelFacts {
        name: ChannelName::new(name),
        enabled: true,
        weight: 100,
        fees: serde_json::from_str::<FeeSchedule>(r#"{ "percent": "1" }"#).unwrap(),
        local_countries: CountrySet::default(),
        countries: CountrySet::default(),
        currencies: Vec::new(),
        methods: Vec::new(),
        takes_payments: true,
        takes_pre_auths: false,
        has_credentials: true,
        amounts: BTreeMap::new(),
        caps: ChannelCaps::default(),
        maintenance: Vec::new(),
        slow: None,
    }
}

/// A payment's terms in full, so that requests can be made of them.
#[derive(Clone, Debug)]
struct Payment {
    money: Money,
    country: Option<Country>,
    card_country: Option<Country>,
    method: Option<&'static str>,
    tier: &'static str,
    merchant: &'static str,
    metadata: BTreeMap<String, String>,
    at: Timestamp,
}

fn payment() -> Payment {
    Payment {
        money: Money::new(100, Currency::USD),
        country: None,
        card_country: None,
        method: None,
        tier: "starter",
        merchant: "m_1",
        metadata: BTreeMap::new(),
        at: Timestamp::from_unix_s(THURSDAY),
    }
}

fn request<'a>(payment: &'a Payment, order_no: &'a str) -> RouteRequest<'a> {
    RouteRequest {
        money: payment.money,
        country: payment.country,
        country_from_address: false,
        card_country: payment.card_country,
        merchant_country: None,
        method: payment.method,
        requested: None,
        allowed: &[],
        merchant_id: payment.merchant,
        tier: payment.tier,
        order_no,
        metadata: &payment.metadata,
        at: payment.at,
        tried: &[],
        refusing_token: &[],
        needs_pre_auth: false,
        draw: 0,
    }
}

fn holds(when: &Conditions, payment: &Payment) -> bool {
    when.hold(&request(payment, "O-1"))
}

fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| String::from(*text)).collect()
}

#[test]
fn what_is_asked_for_and_not_known_does_not_match_even_negated() {
    let countries = |codes: &[&str]| codes.iter().map(|code| country(code)).collect::<CountrySet>();
    let not_us = Conditions { not_countries: countries(&["US"]), ..Conditions::default() };
    let from = |code: &str| Payment { country: Some(country(code)), ..payment() };
    assert!(holds(&not_us, &from("DE")) && !holds(&not_us, &from("US")) && !holds(&not_us, &payment()));
    let card = Conditions { not_card_countries: countries(&["US"]), ..Conditions::default() };
    let of_card = |code: &str| Payment { card_country: Some(country(code)), ..payment() };
    assert!(holds(&card, &of_card("DE")) && !holds(&card, &of_card("US")) && !holds(&card, &payment()));
    let no_card = Conditions { not_methods: texts(&["card"]), ..Conditions::default() };
    let by = |method| Payment { method: Some(method), ..payment() };
    assert!(holds(&no_card, &by("alipay")) && !holds(&no_card, &by("card")) && !holds(&no_card, &payment()));
    let others = Conditions { not_merchants: texts(&["m_1"]), ..Conditions::default() };
    assert!(!holds(&others, &payment()) && holds(&others, &Payment { merchant: "m_2", ..payment() }));
    let noted = |values: &[&str]| Conditions {
        metadata: vec![MetadataCondition { key: String::from("campaign"), values: texts(values) }],
        ..Conditions::default()
    };
    let with = |value: &str| Payment {
        metadata: BTreeMap::from([(String::from("campaign"), String::from(value))]),
        ..payment()
    };
    assert!(holds(&noted(&[]), &with("x")) && !holds(&noted(&[]), &payment()));
    assert!(holds(&noted(&["x", "y"]), &with("y")) && !holds(&noted(&["x", "y"]), &with("z")));
}

#[test]
fn hours_are_those_of_the_zone_and_may_go_over_midnight() {
    let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
    let night = Hours { between: Some((time("22:00"), time("06:00"))), ..Hours::default() };
    assert!(night.contains(at("2026-03-02T22:00:00Z")) && night.contains(at("2026-03-02T05:59:59Z")));
    assert!(!night.contains(at("2026-03-02T06:00:00Z")) && !night.contains(at("2026-03-02T21:59:59Z")));
    let weekend = Hours { weekdays: [Weekday::Sat, Weekday::Sun].into_iter().collect(), ..Hours::default() };
    assert!(weekend.contains(at("2026-03-01T00:00:00Z")) && !weekend.contains(at("2026-03-02T00:00:00Z")));
    assert!(weekend.contains(at("1969-12-28T23:59:59Z")), "a Sunday before the epoch");
    // Nine hours ahead all the year: Monday begins there on Sunday afternoon.
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(9));
    let there = Hours {
        between: Some((time("00:00"), time("24:00"))),
        weekdays: [Weekday::Mon].into_iter().collect(),
        zone: Some(zone),
    };
    assert!(there.contains(at("2026-03-01T15:00:00Z")) && !there.contains(at("2026-03-01T14:59:59Z")));
    assert!(!Hours { between: night.between, ..Hours::default() }.contains(Timestamp::from_unix_ms(i64::MAX)));
    for text in ["9:00", "24:01", "23:60", "ab:cd", "1000", "", "+1:00"] {
        assert!(text.parse::<DayTime>().is_err(), "{text}");
    }
    assert_eq!(time("24:00").to_string(), "24:00");
}

#[test]
fn a_zone_with_summer_time_moves_its_hours() {
    let Ok(zone) = jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3") else { panic!("a zone") };
    let office = Hours { between: Some((time("09:00"), time("17:00"))), zone: Some(zone), ..Hours::default() };
    let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
    assert!(office.contains(at("2026-01-12T08:00:00Z")) && !office.contains(at("2026-01-12T07:59:00Z")));
    assert!(office.contains(at("2026-07-13T07:00:00Z")) && !office.contains(at("2026-07-13T15:00:00Z")));
}

fn share(name: &str, percent: u32) -> Share {
    Share { channel: ChannelName::new(name), percent }
}

#[test]
fn a_split_is_stable_keeps_its_shares_and_correlates_with_no_other() {
    let shares = [share("a", 70), share("b", 30), share("c", 0)];
    let first = |rule: &str, order: &str| {
        let point = split_point(rule, "m_1", order);
        split_order(&shares, point).next().unwrap().channel.to_string()
    };
    let mut both = [[0_u32; 2]; 2];
    for number in 0..20_000 {
        let order = format!("ORDER-{number}");
        let arm = |rule: &str| usize::from(first(rule, &order) == "b");
        both[arm("r-1")][arm("r-2")] += 1;
    }
    // 14,000 / 6,000 by the first; within either the same shares by the second. Six standard deviations.
    let near = |count: u32, expected: u32, deviation: u32| count.abs_diff(expected) < 6 * deviation;
    assert!(near(both[0][0] + both[0][1], 14_000, 65), "{both:?}");
    assert!(near(both[0][0], 9_800, 71) && near(both[1][1], 1_800, 41), "{both:?}");
    // Of every version of this program.
    assert_eq!((split_point("r-1", "m_1", "ORDER-1"), split_point("r-1", "m_1", "ORDER-2")), PINNED);
    let order = |point| split_order(&shares, point).map(|share| share.channel.as_str()).collect::<Vec<_>>();
    assert_eq!(
        (order(6_999), order(7_000), order(9_999)),
        (vec!["a", "b", "c"], vec!["b", "a", "c"], vec!["b", "a", "c"])
    );
    assert_ne!(split_point("r", "m_1", "1x"), split_point("r", "m_11", "x"), "parts do not run together");
}

const PINNED: (u32, u32) = (2_763, 5_005);

fn known<'a>() -> KnownNames<'a> {
    KnownNames { tiers: &TIERS, merchant: &|merchant| Some(MERCHANTS.contains(&merchant)) }
}

fn messages(channels: &[ChannelFacts], rules: &[Rule]) -> Vec<(Severity, String)> {
    let found = check_rules(channels, rules, &known());
    found.into_iter().map(|finding| (finding.severity, finding.message)).collect()
}

fn to(names: &[&str], when: Conditions) -> Rule {
    let channels = names.iter().map(|name| ChannelName::new(*name)).collect();
    Rule { id: Arc::from("r"), name: Arc::from("r"), when, then: RuleResult::Ordered(channels), ..Rule::default() }
}

#[test]
fn what_is_not_there_and_what_can_not_be_is_named() {
    let alipay = ChannelFacts {
        methods: texts(&["alipay"]),
        currencies: vec![Currency::CNY],
        countries: [country("CN")].into_iter().collect(),
        amounts: BTreeMap::from([(Currency::CNY, AmountRange { min_minor: Some(10), max_minor: Some(20) })]),
        ..facts("alipay")
    };
    let card = ChannelFacts { methods: texts(&["card"]), currencies: vec![Currency::USD], ..facts("stripe") };
    let channels = [alipay, card];
    let any = Conditions::default;
    let usd = || vec![Currency::USD];
    let says = |rule: Rule, severity: Severity, part: &str| {
        let found = messages(&channels, std::slice::from_ref(&rule));
        assert!(found.iter().any(|(of, message)| *of == severity && message.contains(part)), "{part}: {found:?}");
    };
    use Severity::{Error, Warning};
    assert!(messages(&channels, &[to(&["stripe", "alipay"], any())]).is_empty());
    says(to(&["klarna"], any()), Error, "the channel klarna, which is not there");
    says(to(&[], any()), Error, "names no channel");
    says(to(&["stripe"], Conditions { tiers: texts(&["gold"]), ..any() }), Error, "the tier \"gold\"");
    says(to(&["stripe"], Conditions { merchants: texts(&["m_9"]), ..any() }), Error, "the merchant \"m_9\"");
    says(to(&["stripe"], Conditions { methods: texts(&["cash"]), ..any() }), Error, "the method \"cash\"");
    let yen = Conditions { currencies: vec![currency("JPY")], ..any() };
    says(to(&["stripe"], yen), Error, "the currency JPY, which no channel takes");
    let amount =
        |least, most, currencies| Conditions { amount_minor_min: least, amount_minor_max: most, currencies, ..any() };
    says(to(&["stripe"], amount(Some(1), None, vec![])), Error, "minor units of different currencies");
    says(to(&["stripe"], amount(Some(2), Some(1), usd())), Error, "can never match");
    says(to(&["stripe"], amount(None, Some(0), usd())), Error, "can never match");
    says(to(&["alipay"], amount(Some(21), None, vec![Currency::CNY])), Error, "takes no such amounts");
    says(to(&["alipay"], amount(None, None, usd())), Error, "alipay takes none of the currencies");
    says(to(&["alipay"], Conditions { methods: texts(&["card"]), ..any() }), Error, "serves none of the methods");
    says(to(&["alipay"], Conditions { not_methods: texts(&["alipay"]), ..any() }), Error, "methods that are excluded");
    let abroad = Conditions { not_countries: [country("CN")].into_iter().collect(), ..any() };
    says(to(&["alipay"], abroad.clone()), Error, "serves none of the countries");
    says(to(&["stripe", "alipay"], abroad), Warning, "the channel alipay, which can never take");
    let nowhere = Conditions {
        countries: [country("CN")].into_iter().collect(),
        not_countries: [country("CN")].into_iter().collect(),
        ..any()
    };
    says(to(&["stripe"], nowhere), Error, "every country that it names is excluded");
    says(to(&["stripe", "stripe"], any()), Warning, "twice");
    let split = |shares: Vec<Share>| Rule { then: RuleResult::Split(shares), ..to(&[], any()) };
    says(split(vec![share("stripe", 60), share("alipay", 30)]), Error, "add up to 100 percent, not 90");
    says(split(vec![share("stripe", 60), share("stripe", 40)]), Error, "twice");
    let mut off = channels.clone();
    off[1].enabled = false;
    assert_eq!(messages(&off, &[to(&["stripe"], any())])[0].0, Warning);
}

#[test]
fn a_rule_behind_one_that_takes_all_of_it_is_never_reached() {
    let channels = [facts("stripe")];
    let rule = |id: &str, when: Conditions| Rule { id: Arc::from(id), ..to(&["stripe"], when) };
    let cards = Conditions { methods: texts(&["card"]), ..Conditions::default() };
    let rules = [rule("all", Conditions::default()), rule("cards", cards.clone())];
    let found = check_rules(&channels, &rules, &known());
    assert_eq!((found.len(), found[0].severity, &*found[0].rule), (1, Severity::Warning, "cards"));
    assert_eq!(ids(&found[0].other_rules), ["all"]);
    let mut off = rules.clone();
    off[0].enabled = false;
    assert!(check_rules(&channels, &off, &known()).is_empty(), "a rule that is off stands in nobody's way");
    let other_way = [rule("cards", cards), rule("all", Conditions::default())];
    assert!(check_rules(&channels, &other_way, &known()).is_empty());
}

fn ids(of: &[Arc<str>]) -> Vec<&str> {
    of.iter().map(|id| &**id).collect()
}

/// What is said of the last rule, when nothing is said of the others.
fn said_of_last(whens: &[Conditions]) -> Option<Finding> {
    let rule = |(place, when): (usize, &Conditions)| {
        let id = format!("r{place}");
        Rule { id: Arc::from(id.as_str()), name: Arc::from(id), ..to(&["x"], when.clone()) }
    };
    let rules: Vec<Rule> = whens.iter().enumerate().map(rule).collect();
    let mut found = check_rules(&[facts("x")], &rules, &known());
    let of_last = format!("r{}", rules.len() - 1);
    assert!(found.iter().all(|finding| *finding.rule == *of_last), "{found:?}");
    found.pop()
}

#[test]
fn rules_that_together_take_all_of_another_are_named_and_no_others() {
    let any = Conditions::default;
    let countries = |codes: &[&str]| codes.iter().map(|code| country(code)).collect::<CountrySet>();
    let from = |codes: &[&str]| Conditions { countries: countries(codes), ..any() };
    let tier = |tier: &str| Conditions { tiers: texts(&[tier]), ..any() };
    let by = |methods: &[&str]| Conditions { methods: texts(methods), ..any() };
    let not_by = |methods: &[&str]| Conditions { not_methods: texts(methods), ..any() };
    let amount = |least, most| Conditions {
        amount_minor_min: least,
        amount_minor_max: most,
        currencies: vec![Currency::USD],
        ..any()
    };
    let days = |days: &[Weekday]| Hours { weekdays: days.iter().copied().collect(), ..Hours::default() };
    let at = |from: &str, until: &str| Hours { between: Some((time(from), time(until))), ..Hours::default() };
    let when = |hours: Hours| Conditions { hours, ..any() };
    let noted = |values: &[&str]| Conditions {
        metadata: vec![MetadataCondition { key: String::from("k"), values: texts(values) }],
        ..any()
    };
    use Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
    let berlin = |between: (&str, &str)| Hours {
        zone: jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").ok(),
        ..at(between.0, between.1)
    };
    let covered: &[(&str, Vec<Conditions>, &[&str])] = &[
        ("countries", vec![from(&["DE"]), from(&["FR", "IT"]), from(&["BR"]), from(&["DE", "IT"])], &["r0", "r1"]),
        ("tiers", vec![tier("premium"), tier("starter"), any()], &["r0", "r1"]),
        ("methods", vec![not_by(&["card"]), by(&["card"]), by(&["card", "alipay"])], &["r0", "r1"]),
        ("amounts", vec![amount(None, Some(100)), amount(Some(101), None), amount(Some(5), None)], &["r0", "r1"]),
        ("days", vec![when(days(&[Mon, Tue, Wed, Thu, Fri])), when(days(&[Sat, Sun])), by(&["card"])], &["r0", "r1"]),
        ("hours", vec![when(at("22:00", "06:00")), when(at("06:00", "22:00")), any()], &["r0", "r1"]),
        (
            "nights",
            vec![when(at("20:00", "24:00")), when(at("00:00", "08:00")), when(at("22:00", "06:00"))],
            &["r0", "r1"],
        ),
        ("a zone", vec![when(berlin(("08:00", "20:00"))), when(berlin(("20:00", "08:00"))), any()], &["r0", "r1"]),
        ("the whole day", vec![when(at("00:00", "24:00")), from(&["DE"])], &["r0"]),
        ("every day", vec![when(days(&[Mon, Tue, Wed, Thu, Fri, Sat, Sun])), any()], &["r0"]),
        ("notes", vec![noted(&["a"]), noted(&["b", "c"]), noted(&["a", "b"])], &["r0", "r1"]),
        (
            "two things at once",
            vec![
                Conditions { tiers: texts(&["premium"]), ..from(&["DE"]) },
                Conditions { tiers: texts(&["premium"]), ..from(&["FR"]) },
                tier("starter"),
                Conditions { methods: texts(&["card"]), ..from(&["DE", "FR"]) },
            ],
            &["r0", "r1", "r2"],
        ),
    ];
    for (what, whens, expected) in covered {
        let said = said_of_last(whens).unwrap_or_else(|| panic!("{what}: nothing is said"));
        assert!(said.message.contains("is never reached"), "{what}: {}", said.message);
        assert_eq!(ids(&said.other_rules), *expected, "{what}: {}", said.message);
        // Without one of them something is left.
        for gone in 0..expected.len() {
            let mut fewer = whens.clone();
            fewer.remove(expected[gone][1..].parse().unwrap());
            assert_eq!(said_of_last(&fewer), None, "{what} without {}", expected[gone]);
        }
    }
    let not_covered: &[(&str, Vec<Conditions>)] = &[
        ("a payment without a method", vec![by(&["card"]), not_by(&["card"]), any()]),
        (
            "a payer of unknown country",
            vec![from(&["DE"]), Conditions { not_countries: countries(&["DE"]), ..any() }, any()],
        ),
        ("another note", vec![noted(&["a"]), noted(&["b"]), noted(&[])]),
        ("no note", vec![noted(&[]), any()]),
        ("other currencies", vec![amount(None, Some(100)), amount(Some(101), None), any()]),
        ("an amount between", vec![amount(None, Some(99)), amount(Some(101), None), amount(Some(5), None)]),
        ("a minute between", vec![when(at("22:00", "06:00")), when(at("06:01", "22:00")), any()]),
        ("zones apart", vec![when(at("08:00", "20:00")), when(berlin(("20:00", "08:00"))), any()]),
    ];
    for (what, whens) in not_covered {
        assert_eq!(said_of_last(whens), None, "{what}");
    }
}

#[test]
fn a_table_that_is_too_large_to_compare_is_answered_and_says_so() {
    let values: Vec<String> = (0..300).map(|number| format!("v{number}")).collect();
    let rule = |place: usize| {
        let id: Arc<str> = Arc::from(format!("r{place}"));
        // All but one of the same values, so that the sets differ, and one that nobody else asks for.
        let mut values = values.clone();
        values.remove(place % 300);
        let noted = |key: String, values: Vec<String>| MetadataCondition { key, values };
        let metadata = vec![noted(String::from("k"), values), noted(format!("z{place}"), Vec::new())];
        Rule { id: Arc::clone(&id), name: id, ..to(&["x"], Conditions { metadata, ..Conditions::default() }) }
    };
    let rules: Vec<Rule> = (0..1_500).map(rule).collect();
    let found = check_rules(&[facts("x")], &rules, &known());
    let told: Vec<&Finding> = found.iter().filter(|finding| finding.message.contains("too large")).collect();
    assert_eq!((found.len(), told.len()), (1, 1), "{found:?}");
    assert!(check_rules(&[facts("x")], &rules[..100], &known()).is_empty());
}

fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(of, 0..=of.len()).prop_map(|chosen| texts(&chosen))
}

fn few(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    (any::<bool>(), some(of)).prop_map(|(given, chosen)| if given { chosen } else { Vec::new() })
}

fn country_sets() -> impl Strategy<Value = CountrySet> {
    few(&COUNTRIES).prop_map(|codes| codes.iter().map(|code| country(code)).collect())
}

fn hours() -> impl Strategy<Value = Hours> {
    let times = ["00:00", "06:00", "12:00", "18:00", "24:00"];
    let between = prop::option::of((0_usize..4, 0_usize..5));
    (between, any::<bool>(), any::<bool>()).prop_map(move |(between, on_thursday, on_friday)| Hours {
        between: between
            .filter(|(from, until)| from != until)
            .map(|(from, until)| (time(times[from]), time(times[until]))),
        weekdays: [(on_thursday, Weekday::Thu), (on_friday, Weekday::Fri)]
            .into_iter()
            .filter_map(|(given, day)| given.then_some(day))
            .collect(),
        zone: None,
    })
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let bound = || prop::option::of(0_usize..AMOUNTS.len());
    let noted = prop::option::of(some(&["a", "b"]));
    let texts = (few(&METHODS), few(&METHODS), few(&TIERS), few(&MERCHANTS), few(&MERCHANTS));
    let places = (country_sets(), country_sets(), country_sets(), country_sets());
    ((few(&CURRENCIES), bound(), bound()), texts, places, noted, hours()).prop_map(
        |((currencies, least, most), texts, places, noted, hours)| {
            let bounded = |bound: Option<usize>| bound.map(|place| AMOUNTS[place]).filter(|_| !currencies.is_empty());
            Conditions {
                amount_minor_min: bounded(least),
                amount_minor_max: bounded(most),
                currencies: currencies.iter().map(|code| currency(code)).collect(),
                methods: texts.0,
                not_methods: texts.1,
                tiers: texts.2,
                merchants: texts.3,
                not_merchants: texts.4,
                countries: places.0,
                not_countries: places.1,
                card_countries: places.2,
                not_card_countries: places.3,
                metadata: noted
                    .map(|values| MetadataCondition { key: String::from("k"), values })
                    .into_iter()
                    .collect(),
                hours,
            }
        },
    )
}

/// Every value of one field, the others as they are.
fn each<T: Clone>(payments: &[Payment], values: &[T], set: impl Fn(&mut Payment, T)) -> Vec<Payment> {
    let mut all = Vec::with_capacity(payments.len() * values.len());
    for payment in payments {
        for value in values {
            let mut changed = payment.clone();
            set(&mut changed, value.clone());
            all.push(changed);
        }
    }
    all
}

/// Every payment of a small world that a rule takes: fields that it does not ask about take each value, too.
fn matching(when: &Conditions) -> Vec<Payment> {
    let countries: Vec<Option<Country>> =
        std::iter::once(None).chain(["BR", "CN", "DE"].map(|code| Some(country(code)))).collect();
    let methods: Vec<Option<&'static str>> =
        std::iter::once(None).chain(METHODS.map(Some)).chain([Some("cash")]).collect();
    let keep = |mut payments: Vec<Payment>, part: Conditions| {
        payments.retain(|payment| holds(&part, payment));
        payments
    };
    let none = Conditions::default;
    let money: Vec<Money> = CURRENCIES
        .iter()
        .flat_map(|code| AMOUNTS.map(|amount| Money::new(amount, currency(code))))
        .chain([Money::new(100, currency("JPY"))])
        .collect();
    let payments = each(&[payment()], &money, |payment, money| payment.money = money);
    let payments = keep(
        payments,
        Conditions {
            currencies: when.currencies.clone(),
            amount_minor_min: when.amount_minor_min,
            amount_minor_max: when.amount_minor_max,
            ..none()
        },
    );
    let payments = each(&payments, &methods, |payment, method| payment.method = method);
    let part = Conditions { methods: when.methods.clone(), not_methods: when.not_methods.clone(), ..none() };
    let payments = each(&keep(payments, part), &TIERS, |payment, tier| payment.tier = tier);
    let part = Conditions { tiers: when.tiers.clone(), ..none() };
    let payments = each(&keep(payments, part), &["m_1", "m_2", "m_3"], |payment, merchant| payment.merchant = merchant);
    let part = Conditions { merchants: when.merchants.clone(), not_merchants: when.not_merchants.clone(), ..none() };
    let payments = each(&keep(payments, part), &countries, |payment, country| payment.country = country);
    let part = Conditions { countries: when.countries, not_countries: when.not_countries, ..none() };
    let times = [0, 6, 12, 18, 24, 30, 36, 42, 48].map(|hour| THURSDAY + hour * 3_600);
    let payments = each(&keep(payments, part), &times, |payment, at| payment.at = Timestamp::from_unix_s(at));
    keep(payments, Conditions { hours: when.hours.clone(), ..none() })
}

/// The two fields that stay out of [`matching`], so that its world is not too large: all their values.
fn rest(payment: &Payment) -> Vec<Payment> {
    let countries: Vec<Option<Country>> =
        std::iter::once(None).chain(["BR", "CN", "DE"].map(|code| Some(country(code)))).collect();
    let payments = each(std::slice::from_ref(payment), &countries, |payment, country| payment.card_country = country);
    each(&payments, &NOTES, |payment, note| {
        payment.metadata = note.into_iter().map(|note| (String::from("k"), String::from(note))).collect();
    })
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(3_000))]
    #[test]
    fn what_is_said_to_never_match_never_does_and_what_is_said_to_be_shadowed_is(
        first in conditions(),
        second in conditions(),
        loosened in any::<u16>(),
    ) {
        // Two rules drawn alone are hardly ever one within the other: the first is loosened from the second often.
        let mut outer = second.clone();
        let gone = |bit: u16| loosened & (1 << bit) != 0;
        if gone(0) { outer.currencies.clear(); }
        if gone(0) || gone(1) { (outer.amount_minor_min, outer.amount_minor_max) = (None, None); }
        if gone(2) { outer.methods.clear(); }
        if gone(3) { outer.not_methods.clear(); }
        if gone(4) { outer.tiers.clear(); }
        if gone(5) { outer.merchants.clear(); }
        if gone(6) { outer.not_merchants = first.not_merchants.clone(); }
        if gone(7) { outer.countries = first.countries; }
        if gone(8) { outer.not_countries = CountrySet::default(); }
        if gone(9) { outer.card_countries = CountrySet::default(); }
        if gone(10) { outer.hours = first.hours.clone(); }
        if gone(11) { outer.metadata.clear(); }
        let outer = if gone(12) { first } else { outer };
        let rule = |id: &str, when: &Conditions| Rule { id: Arc::from(id), ..to(&["x"], when.clone()) };
        let rules = [rule("outer", &outer), rule("inner", &second)];
        let found = check_rules(&[facts("x")], &rules, &known());
        let says = |id: &str, part: &str| {
            found.iter().any(|finding| &*finding.rule == id && finding.message.contains(part))
        };
        for (id, when) in [("outer", &outer), ("inner", &second)] {
            let is_empty = matching(when).iter().all(|payment| !rest(payment).iter().any(|payment| holds(when, payment)));
            prop_assert!(!says(id, "can never match") || is_empty, "{:?} matches", when);
            prop_assert_eq!(says(id, "can never match"), is_empty, "contradictions of one rule are all found: {:?}", when);
        }
        if says("inner", "is never reached") {
            for payment in matching(&second) {
                for payment in rest(&payment).into_iter().filter(|payment| holds(&second, payment)) {
                    prop_assert!(holds(&outer, &payment), "{:?} within {:?}: {:?}", second, outer, payment);
                }
            }
        }
    }

    #[test]
    fn a_channel_that_is_said_to_take_nothing_takes_nothing(
        when in conditions(),
        methods in few(&METHODS),
        currencies in few(&CURRENCIES),
        countries in country_sets(),
        bounds in prop::option::of((0_usize..3, 0_usize..3)),
    ) {
        use crate::domain::routing::{ChannelReading, RoutingTable, decide};
        use crate::domain::time::Monotonic;
        let range = |(least, most): (usize, usize)| AmountRange {
            min_minor: Some(AMOUNTS[least.min(most)]), max_minor: Some(AMOUNTS[least.max(most)]),
        };
        let channel = ChannelFacts {
            methods,
            currencies: currencies.iter().map(|code| currency(code)).collect(),
            countries,
            amounts: bounds.map(range).map(|range| (Currency::USD, range)).into_iter().collect(),
            ..facts("x")
        };
        let rules = vec![to(&["x"], when.clone())];
        let found = check_rules(std::slice::from_ref(&channel), &rules, &known());
        if found.iter().any(|finding| finding.message.contains("can never take")) {
            let setup = RoutingSetup { channels: vec![channel], rules, smart: false, ..crate::domain::routing::tests::bare_setup() };
            let table = RoutingTable::fresh(1, setup);
            let idle = [ChannelReading { probe_available: true, ..ChannelReading::default() }];
            for payment in matching(&when) {
                let decided = decide(&table, &idle, &request(&payment, "O-1"), Monotonic::from_micros(0));
                prop_assert!(decided.is_err(), "{:?} goes to {:?}", payment, table.setup.channels[0]);
            }
        }
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(500))]
    #[test]
    fn what_several_rules_are_said_to_take_together_they_take(
        whole in conditions(),
        halved in any::<u8>(),
        left_out in prop::option::of(0_usize..8),
    ) {
        let mut parts = vec![whole.clone()];
        let mut halve = |bit: u8, halves: &dyn Fn(&Conditions) -> [Conditions; 2]| {
            if halved & (1 << bit) != 0 && parts.len() < 8 {
                parts = parts.iter().flat_map(halves).collect();
            }
        };
        halve(0, &|part| [(None, Some(99)), (Some(100), None)].map(|(least, most)| Conditions {
            amount_minor_min: part.amount_minor_min.max(least),
            amount_minor_max: part.amount_minor_max.or(most).min(most.or(part.amount_minor_max)),
            ..part.clone()
        }));
        if whole.tiers.is_empty() {
            halve(1, &|part| TIERS.map(|tier| Conditions { tiers: texts(&[tier]), ..part.clone() }));
        }
        if whole.hours.weekdays == Weekdays::default() {
            let days = |days: &[Weekday]| days.iter().copied().collect::<Weekdays>();
            use Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
            halve(2, &|part| [days(&[Thu, Sat]), days(&[Mon, Tue, Wed, Fri, Sun])].map(|weekdays| Conditions {
                hours: Hours { weekdays, ..part.hours.clone() }, ..part.clone()
            }));
        }
        if !whole.countries.is_empty() || !whole.not_countries.is_empty() {
            halve(3, &|part| {
                let mut two = [part.clone(), part.clone()];
                two[0].not_countries = [country("CN")].into_iter().chain(
                    COUNTRIES.map(country).into_iter().filter(|country| part.not_countries.contains(*country))
                ).collect();
                two[1].countries = [country("CN")].into_iter().filter(|country| {
                    part.countries.is_empty() || part.countries.contains(*country)
                }).collect();
                // Nothing of it is from there: an empty list would ask for nothing.
                if two[1].countries.is_empty() { two[1].countries = [country("BR")].into_iter().collect(); }
                two
            });
        }
        let is_whole = left_out.is_none_or(|place| place >= parts.len() || parts.len() < 2);
        if let Some(place) = left_out.filter(|_| !is_whole) {
            parts.remove(place);
        }
        let rule = |id: &str, when: &Conditions| Rule { id: Arc::from(id), ..to(&["x"], when.clone()) };
        let mut rules: Vec<Rule> = parts.iter().enumerate().map(|(place, part)| rule(&format!("p{place}"), part)).collect();
        rules.push(rule("whole", &whole));
        let found = check_rules(&[facts("x")], &rules, &known());
        let says = |part: &str| {
            found.iter().any(|finding| &*finding.rule == "whole" && finding.message.contains(part))
        };
        if says("is never reached") {
            for payment in matching(&whole) {
                for payment in rest(&payment).into_iter().filter(|payment| holds(&whole, payment)) {
                    prop_assert!(parts.iter().any(|part| holds(part, &payment)), "{:?} is left: {:?}", payment, parts);
                }
            }
        }
        prop_assert!(!is_whole || says("is never reached") || says("can never match"), "{:?} of {:?}", parts, whole);
    }
}

#[test]
fn a_rule_that_can_not_be_followed_leaves_the_decision_to_the_next_rung() {
    use crate::domain::routing::{ChannelReading, RoutingTable, Rung, decide};
    use crate::domain::time::Monotonic;
    let setup = RoutingSetup {
        channels: vec![facts("x")],
        default_channel: ChannelName::new("x"),
        rules: vec![to(&["gone", "lost"], Conditions::default())],
        rules_first: true,
        ..crate::domain::routing::tests::bare_setup()
    };
    let idle = [ChannelReading { probe_available: true, ..ChannelReading::default() }];
    for (smart, rung) in [(true, Rung::Smart), (false, Rung::Default)] {
        let setup = RoutingSetup { smart, ..setup.clone() };
        let table = RoutingTable::fresh(1, setup);
        let choice = decide(&table, &idle, &request(&payment(), "O-1"), Monotonic::from_micros(0)).unwrap();
        assert_eq!(choice.rung, rung);
        let rule = choice.record.rule.unwrap();
        assert_eq!((&*rule.id, rule.places.len()), ("r", 0), "the record says that the rule led nowhere");
    }
}
