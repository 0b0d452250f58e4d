//! The router with its actor: reservations, probes, changes at run time, failure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::actors::supervisor::RestartBudget;
use crate::domain::fees::{FeeSchedule, Percent};
use crate::domain::money::{Currency, Money};
use crate::domain::routing::{
    ApprovalSettings, BreakerSettings, ChannelCaps, ChoiceSettings, CountrySet, DroppedBy, HealthSettings, OpenedBy,
    RoutingMode, TimeSpan,
};
use crate::domain::time::Timestamp;

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name)
}

fn facts(name: &str, percent_ppm: u32) -> ChannelFacts {
    ChannelFacts {
        name: channel(name),
        enabled: true,
        weight: 1,
        fees: FeeSchedule { percent: Percent::from_ppm(percent_ppm), ..FeeSchedule::default() },
        local_countries: CountrySet::default(),
        countries: CountrySet::default(),
        currencies: Vec::new(),
        methods: Vec::new(),
        takes_payments: true,
        takes_pre_auths: true,
        has_credentials: true,
        amounts: BTreeMap::new(),
        caps: ChannelCaps { concurrent: 3, ..ChannelCaps::default() },
        maintenance: Vec::new(),
        slow: None,
    }
}

/// `a` is cheaper than `b`.
fn setup() -> RoutingSetup {
    RoutingSetup {
        version: 3,
        mode: RoutingMode::Cost,
        smart: true,
        rules_first: false,
        failed_payment_cost: Percent::default(),
        default_channel: channel("a"),
        rules: Vec::new(),
        channels: vec![facts("a", 10_000), facts("b", 20_000)],
        settlement_currency: Currency::USD,
        rates: BTreeMap::new(),
        health: HealthSettings {
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
        },
        choice: ChoiceSettings::default(),
    }
}

static NOTHING_NOTED: BTreeMap<String, String> = BTreeMap::new();

fn request() -> RouteRequest<'static> {
    RouteRequest {
        money: Money::new(10_000, Currency::USD),
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
        draw: 1,
    }
}

struct Bench {
    router: RouterHandle,
    supervisor: Supervisor,
    clock: Clock,
}

impl Bench {
    async fn start() -> Self {
        let clock = Clock::manual(Timestamp::from_unix_s(1_750_000_000));
        let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.unwrap();
        let router = RouterHandle::start(setup(), clock.clone(), &supervisor).await.unwrap();
        Self { router, supervisor, clock }
    }

    fn decide(&self) -> (Reservation, DecisionRecord) {
        self.router.decide(&request()).unwrap()
    }

    /// Waits until everything that was sent has been worked on.
    async fn settle(&self) {
        while self.router.configure((*self.router.table().setup).clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    async fn fail_a(&self) {
        for _ in 0..5 {
            self.router.report(&channel("a"), OutcomeClass::TechnicalFailure, Some(10));
        }
        self.settle().await;
    }

    fn breaker(&self) -> BreakerView {
        self.router.channels()[0].breaker
    }
}

#[tokio::test]
async fn a_place_is_reserved_with_the_decision_and_given_back() {
    let bench = Bench::start().await;
    let reserved: Vec<Reservation> = (0..3).map(|_| bench.decide().0).collect();
    assert!(reserved.iter().all(|reservation| reservation.channel().as_str() == "a"));
    let (other, record) = bench.decide();
    assert_eq!(other.channel().as_str(), "b");
    assert_eq!(record.channels[0].dropped_by, Some(DroppedBy::InFlightMax));
    assert_eq!(record.channels[0].in_flight, 3);
    drop(reserved);
    assert_eq!(bench.decide().0.channel().as_str(), "a");
    assert_eq!(bench.router.channels()[0].in_flight, 0);
    assert_eq!(bench.router.quote(&request()).unwrap().chosen, Some(0));
    assert_eq!(bench.router.channels()[0].in_flight, 0, "a quote takes no place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_never_oversold() {
    let bench = Bench::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let router = bench.router.clone();
        tasks.spawn(async move {
            for _ in 0..2_000 {
                let held: Vec<_> = (0..2).map(|_| router.decide(&request())).collect();
                assert!(router.channels().iter().all(|status| status.in_flight <= 3));
                drop(held);
            }
        });
    }
    tasks.join_all().await;
    assert!(bench.router.channels().iter().all(|status| status.in_flight == 0));
}

#[tokio::test]
async fn technical_failures_open_a_channel_and_one_probe_closes_it() {
    let bench = Bench::start().await;
    bench.fail_a().await;
    assert_eq!(bench.breaker(), BreakerView::Open);
    assert_eq!(bench.decide().0.channel().as_str(), "b");
    bench.clock.advance(Duration::from_secs(30));
    assert_eq!(bench.breaker(), BreakerView::HalfOpen, "nothing had to happen");

    let (unreported, _) = bench.decide();
    assert!(unreported.is_probe());
    let (other, record) = bench.decide();
    assert_eq!((other.channel().as_str(), record.channels[0].dropped_by), ("b", Some(DroppedBy::ProbeTaken)));
    drop(unreported);

    let (mut probe, _) = bench.decide();
    assert!(probe.is_probe(), "a probe that told nothing came back");
    probe.report(OutcomeClass::TechnicalFailure, None);
    bench.settle().await;
    assert_eq!(bench.breaker(), BreakerView::Open);
    bench.clock.advance(Duration::from_secs(59));
    assert_eq!(bench.breaker(), BreakerView::Open, "open for twice as long now");
    bench.clock.advance(Duration::from_secs(1));
    let (mut probe, _) = bench.decide();
    probe.report(OutcomeClass::Approved, Some(20));
    assert!(!probe.is_probe());
    bench.settle().await;
    assert_eq!(bench.breaker(), BreakerView::Closed);
    assert_eq!(bench.decide().0.channel().as_str(), "a");
}

#[tokio::test]
async fn without_any_channel_the_caller_learns_why_and_when() {
    let bench = Bench::start().await;
    bench.fail_a().await;
    let mut only_a = setup();
    only_a.channels[1].enabled = false;
    bench.router.configure(only_a).await.unwrap();
    bench.clock.advance(Duration::from_secs(10));
    let a = channel("a");
    let asked_for = RouteRequest { requested: Some(&a), ..request() };
    let none = bench.router.decide(&asked_for).unwrap_err();
    assert_eq!(none.retry_in, Some(Duration::from_secs(20)));
    let why = "The channel that was asked for can't take it: a is failing and is being left alone.";
    assert_eq!(none.to_string(), why);
    // Nobody else's payment waits for it: it is the last one.
    let (last, record) = bench.decide();
    assert!(record.all_down && !last.is_probe());
    drop(last);
    bench.clock.advance(Duration::from_secs(20));
    let (_probe, record) = bench.decide();
    assert!(!record.all_down);
    let none = bench.router.decide(&asked_for).unwrap_err();
    assert_eq!(none.retry_in, Some(Duration::from_secs(1)));
    let why = "The channel that was asked for can't take it: a is being tried by another payment after failing.";
    assert_eq!(none.to_string(), why);
    // Nor does anybody else's wait for the one that tries it.
    let (beside, record) = bench.decide();
    assert!(record.all_down && !beside.is_probe());
    drop(beside);
    bench.router.reset_health(&channel("a")).await.unwrap();
    assert_eq!(bench.decide().0.channel().as_str(), "a");
    let unknown = bench.router.reset_health(&channel("c")).await;
    assert_eq!(unknown, Err(RouterError::UnknownChannel(channel("c"))));
}

#[tokio::test]
async fn a_change_takes_effect_at_once_and_keeps_health_and_places_by_name() {
    let bench = Bench::start().await;
    let (held, _) = bench.decide();
    for _ in 0..7 {
        bench.router.report(&channel("a"), OutcomeClass::Approved, Some(100));
    }
    let mut changed = setup();
    changed.channels = vec![facts("0", 5_000), facts("a", 30_000)];
    changed.choice.newcomer_share_percent = 100;
    let version = bench.router.configure(changed).await.unwrap();
    assert_eq!(bench.router.table().version, version);
    let status = &bench.router.channels()[1];
    assert_eq!((status.name.as_str(), status.samples, status.in_flight, status.latency_ms), ("a", 7, 1, Some(100)));
    drop(held);
    assert_eq!(bench.router.channels()[1].in_flight, 0);
    assert_eq!(bench.decide().0.channel().as_str(), "0");
    let broken = RoutingSetup { default_channel: channel("x"), ..setup() };
    assert!(matches!(bench.router.configure(broken).await, Err(RouterError::Invalid(_))));
    assert_eq!(bench.router.table().version, version, "nothing has changed");
}

#[tokio::test]
async fn a_failed_router_keeps_deciding_and_goes_on_learning_from_its_last_table() {
    let bench = Bench::start().await;
    bench.fail_a().await;
    let version = bench.router.table().version;
    let (held, _) = bench.decide();
    assert!(bench.router.shared.send(RouterMessage::Fail).is_ok());
    while bench.supervisor.restarts_total() == 0 {
        assert_eq!(bench.decide().0.channel().as_str(), "b", "decisions need no actor");
        tokio::task::yield_now().await;
    }
    bench.settle().await;
    assert!(bench.router.table().version > version);
    assert_eq!(bench.breaker(), BreakerView::Open, "what was learned is kept");
    let status = |place: usize| bench.router.channels()[place].clone();
    assert_eq!((status(1).in_flight, status(1).today), (1, 1));
    drop(held);
    assert_eq!((status(1).in_flight, status(1).today), (0, 0));
    assert_eq!(bench.router.outcomes_dropped_total(), 0);
}

/// The setup with these caps on `a`, where payments of 100.00 USD go.
fn capped(caps: ChannelCaps) -> RoutingSetup {
    let mut setup = setup();
    setup.channels[0].caps = ChannelCaps { concurrent: 1_000, ..caps };
    setup
}

impl Bench {
    /// A payment that begins and ends at once, on the channel that it names.
    fn pay(&self, request: &RouteRequest<'_>) -> String {
        let (mut reservation, _) = self.router.decide(request).unwrap();
        reservation.begin();
        reservation.channel().as_str().to_owned()
    }

    fn pays_on(&self, request: &RouteRequest<'_>, times: usize) -> String {
        (0..times).map(|_| self.pay(request)).collect()
    }
}

#[tokio::test]
async fn no_second_that_slides_has_more_payments_than_it_may() {
    let bench = Bench::start().await;
    let caps = ChannelCaps { per_second: Some(3), ..ChannelCaps::default() };
    bench.router.configure(capped(caps)).await.unwrap();
    assert_eq!(bench.pays_on(&request(), 1), "a");
    bench.clock.advance(Duration::from_millis(600));
    assert_eq!(bench.pays_on(&request(), 3), "aab");
    let (_held, record) = bench.decide();
    let verdict = &record.channels[0];
    assert_eq!(
        (verdict.dropped_by, verdict.bound, verdict.value),
        (Some(DroppedBy::PerSecond), Some(3), Some(3)),
        "what was read is in the record"
    );
    bench.clock.advance(Duration::from_millis(399));
    assert_eq!(bench.pay(&request()), "b", "999 ms after the first");
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.pays_on(&request(), 2), "ab", "the first is a second ago, the others are not");
    bench.clock.advance(Duration::from_millis(600));
    assert_eq!(bench.pays_on(&request(), 3), "aab");
}

#[tokio::test]
async fn who_looks_with_an_older_clock_reading_finds_no_more_room() {
    let caps = ChannelCaps { per_second: Some(1), ..ChannelCaps::default() };
    let (live, at) = (Arc::new(ChannelLive::default()), Timestamp::from_unix_s(1_750_000_000));
    let reserve = |now_ms: u64| {
        let now = Monotonic::from_micros(now_ms * 1_000);
        live.reserve(&Wanted { caps, probe: false, amount_minor: None, now, at })
            .map(|mut reserved| reserved.begin(now))
    };
    assert!(reserve(1_000).is_some());
    assert_eq!(live.read(&caps, Monotonic::from_micros(1_999_000), at).this_second, 1);
    // One thread reads its clock, another one looks a moment later, and then the first one comes to reserve.
    assert_eq!(live.read(&caps, Monotonic::from_micros(2_000_000), at).this_second, 0);
    assert!(reserve(1_999).is_some(), "it counts as of the later moment");
    assert!(reserve(2_999).is_none(), "or there were two within a second");
    assert!(reserve(3_000).is_some());
}

#[tokio::test]
async fn what_never_began_is_given_back_and_what_began_is_not() {
    let bench = Bench::start().await;
    let caps = ChannelCaps {
        per_second: Some(2),
        per_day: Some(3),
        amount_per_day_minor: Some(30_000),
        ..ChannelCaps::default()
    };
    bench.router.configure(capped(caps)).await.unwrap();
    for _ in 0..50 {
        let (reservation, _) = bench.decide();
        assert_eq!(reservation.channel().as_str(), "a");
    }
    let held: Vec<_> = (0..2).map(|_| bench.decide().0).collect();
    assert_eq!(bench.decide().0.channel().as_str(), "b", "what is reserved counts");
    drop(held);
    let status = || bench.router.channels()[0].clone();
    assert_eq!((status().today, status().today_minor), (0, 0));
    assert_eq!(bench.pays_on(&request(), 3), "aab");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.pays_on(&request(), 2), "ab", "three in a day");
    assert_eq!((status().today, status().today_minor), (3, 30_000));
}

#[tokio::test]
async fn a_day_ends_at_midnight_and_a_clock_that_is_set_back_opens_no_second_budget() {
    let bench = Bench::start().await;
    let caps = ChannelCaps { per_day: Some(2), ..ChannelCaps::default() };
    bench.router.configure(capped(caps)).await.unwrap();
    let midnight = 1_750_032_000;
    let pays = |unix_ms: i64, times| {
        bench.pays_on(&RouteRequest { at: Timestamp::from_unix_ms(midnight * 1_000 + unix_ms), ..request() }, times)
    };
    assert_eq!(pays(-1, 3), "aab");
    assert_eq!(pays(0, 1), "a");
    assert_eq!(pays(-1, 1), "b", "the day before is used up");
    assert_eq!(pays(86_399_999, 2), "ab", "and this one is not begun anew");
    assert_eq!(pays(365 * 86_400_000, 2), "aa", "far ahead by mistake");
    assert_eq!(pays(1, 1), "b");
    for day in 1..10 {
        assert_eq!(pays(day * 86_400_000, 3), "aab", "day {day}");
    }
    assert_eq!(pays(-1, 1), "b", "a day that was forgotten has no budget of its own");
}

#[tokio::test]
async fn amounts_count_in_the_settlement_currency() {
    let bench = Bench::start().await;
    let caps = ChannelCaps { amount_per_day_minor: Some(20_000), ..ChannelCaps::default() };
    let mut setup = capped(caps);
    setup.rates = BTreeMap::from([(Currency::CNY, "0.14".parse().unwrap())]);
    bench.router.configure(setup).await.unwrap();
    let yuan = RouteRequest { money: Money::new(100_000, Currency::CNY), ..request() };
    assert_eq!(bench.pay(&yuan), "a", "140.00 USD");
    assert_eq!(bench.pay(&request()), "b", "would be 240.00");
    assert_eq!(bench.router.channels()[0].today_minor, 14_000);
    let small = RouteRequest { money: Money::new(6_000, Currency::USD), ..request() };
    assert_eq!(bench.pays_on(&small, 2), "ab");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_are_exact_among_threads() {
    let bench = Bench::start().await;
    let caps = ChannelCaps {
        per_second: Some(400),
        per_day: Some(1_000),
        amount_per_day_minor: Some(10_000 * 900),
        ..ChannelCaps::default()
    };
    let mut setup = capped(caps);
    setup.channels[1].caps.concurrent = 100_000;
    bench.router.configure(setup).await.unwrap();
    for expected in [400, 400, 100, 0] {
        let begun: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|thread: usize| {
                    let router = bench.router.clone();
                    scope.spawn(move || {
                        let mut begun = 0;
                        for index in 0..400 {
                            let Ok((mut reservation, _)) = router.decide(&request()) else { continue };
                            if reservation.channel().as_str() == "a" && !(index + thread).is_multiple_of(3) {
                                reservation.begin();
                                begun += 1;
                            }
                        }
                        begun
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(begun, expected, "not one too many, and what was given back was taken by others");
        bench.clock.advance(Duration::from_secs(1));
    }
    let status = &bench.router.channels()[0];
    assert_eq!((status.today, status.today_minor, status.in_flight), (900, 9_000_000, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_channel_has_one_probe_among_threads() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let bench = Bench::start().await;
    let mut setup = setup();
    setup.channels.iter_mut().for_each(|facts| facts.caps.concurrent = 100_000);
    bench.router.configure(setup).await.unwrap();
    bench.fail_a().await;
    let mut failed_probes = 0;
    for _ in 0..20 {
        bench.clock.advance(Duration::from_secs(300));
        assert_eq!(bench.breaker(), BreakerView::HalfOpen);
        let (at_once, most, probes) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8_usize {
                let (router, at_once, most, probes) = (bench.router.clone(), &at_once, &most, &probes);
                scope.spawn(move || {
                    for index in 0..50 {
                        let (mut reservation, _) = router.decide(&request()).unwrap();
                        if reservation.channel().as_str() != "a" {
                            continue;
                        }
                        assert!(reservation.is_probe(), "nothing but a probe goes there");
                        most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        at_once.fetch_sub(1, Ordering::SeqCst);
                        if thread == index % 8 {
                            probes.fetch_add(1, Ordering::SeqCst);
                            reservation.report(OutcomeClass::TechnicalFailure, None);
                        }
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1, "one at a time");
        bench.settle().await;
        let probes = probes.load(Ordering::SeqCst);
        assert!(probes <= 1, "{probes} probes failed before the channel was left alone again");
        if probes == 0 {
            let (mut probe, _) = bench.decide();
            probe.report(OutcomeClass::TechnicalFailure, None);
            bench.settle().await;
        }
        failed_probes += 1;
        assert_eq!(bench.router.channels()[0].open.unwrap().failed_probes, failed_probes);
    }
}

#[tokio::test]
async fn calls_that_hang_open_a_channel_before_they_time_out() {
    let bench = Bench::start().await;
    let mut setup = setup();
    setup.channels[0].caps.concurrent = 100;
    setup.channels[0].slow = Some(Duration::from_secs(2));
    bench.router.configure(setup).await.unwrap();
    let call = || {
        let (mut reservation, _) = bench.decide();
        reservation.begin();
        reservation
    };
    let look = || async {
        bench.router.look_after();
        bench.settle().await;
        bench.breaker()
    };
    let mut hanging: Vec<_> = (0..4).map(|_| call()).collect();
    bench.clock.advance(Duration::from_millis(1));
    let mut answered = call();
    bench.clock.advance(Duration::from_millis(2_000));
    assert_eq!(look().await, BreakerView::Closed, "four are not five, and the fifth is not slow yet");
    answered.report(OutcomeClass::Approved, Some(2_000));
    drop(answered);
    bench.settle().await;
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(look().await, BreakerView::Closed);
    hanging.extend((0..4).map(|_| call()));
    bench.clock.advance(Duration::from_millis(2_001));
    assert_eq!(look().await, BreakerView::Closed, "of eight that hang four were sent before the last answer");
    hanging.push(call());
    bench.clock.advance(Duration::from_millis(2_001));
    assert_eq!(look().await, BreakerView::Open);
    assert_eq!(bench.router.channels()[0].open.map(|open| open.by), Some(OpenedBy::Hanging));
    bench.router.reset_health(&channel("a")).await.unwrap();
    assert_eq!(look().await, BreakerView::Closed, "the operator knows of those");
    drop(hanging);
}

#[tokio::test]
async fn a_channel_that_declines_is_not_hanging() {
    let bench = Bench::start().await;
    let mut setup = setup();
    setup.channels[0].caps.concurrent = 100;
    setup.channels[0].slow = Some(Duration::from_secs(2));
    bench.router.configure(setup).await.unwrap();
    let look = async || {
        bench.router.look_after();
        bench.settle().await;
        bench.breaker()
    };
    for class in OutcomeClass::ALL {
        bench.router.reset_health(&channel("a")).await.unwrap();
        bench.clock.advance(Duration::from_millis(1));
        let mut calls: Vec<_> = (0..6).map(|_| bench.decide().0).collect();
        calls.iter_mut().for_each(Reservation::begin);
        bench.clock.advance(Duration::from_millis(2_001));
        let mut declined = calls.pop().unwrap();
        declined.report_call(class, Some(2_001));
        drop(declined);
        let is_answer = class != OutcomeClass::TechnicalFailure;
        let expected = if is_answer { BreakerView::Closed } else { BreakerView::Open };
        assert_eq!(look().await, expected, "{class:?}");
    }
}

#[tokio::test]
async fn failures_while_a_channel_is_being_maintained_do_not_count() {
    let bench = Bench::start().await;
    let now = bench.clock.now();
    let mut setup = setup();
    let span = TimeSpan { from: now, until: now.plus(Duration::from_secs(60)) };
    setup.channels[0].maintenance = vec![span];
    bench.router.configure(setup).await.unwrap();
    for _ in 0..3 {
        bench.fail_a().await;
    }
    let status = &bench.router.channels()[0];
    assert_eq!((status.breaker, status.samples, status.maintained_until), (BreakerView::Closed, 0, Some(span.until)));
    let request = RouteRequest { at: now, ..request() };
    let (reservation, record) = bench.router.decide(&request).unwrap();
    assert_eq!((reservation.channel().as_str(), record.channels[0].dropped_by), ("b", Some(DroppedBy::Maintenance)));
    // Nor do those of which it becomes known later that nothing was done.
    for class in [OutcomeClass::TechnicalFailure, OutcomeClass::DeclinedByProcessor] {
        bench.router.learn(&channel("a"), record.segment(), class);
    }
    bench.settle().await;
    assert_eq!(bench.router.channels()[0].samples, 1, "a refusal is an answer");
    bench.clock.advance(Duration::from_secs(60));
    bench.fail_a().await;
    assert_eq!(bench.breaker(), BreakerView::Open);
}

#[tokio::test]
async fn with_all_down_the_first_that_is_due_takes_it_and_an_answer_closes_it() {
    let bench = Bench::start().await;
    bench.fail_a().await;
    bench.clock.advance(Duration::from_secs(5));
    for _ in 0..5 {
        bench.router.report(&channel("b"), OutcomeClass::TechnicalFailure, Some(10));
    }
    bench.settle().await;
    let (mut first, record) = bench.decide();
    assert_eq!((first.channel().as_str(), record.all_down, first.is_probe()), ("a", true, false));
    let (second, _) = bench.decide();
    assert_eq!(second.channel().as_str(), "a", "nobody is refused meanwhile");
    first.report(OutcomeClass::TechnicalFailure, None);
    bench.settle().await;
    assert_eq!(bench.router.channels()[0].open.map(|open| open.failed_probes), Some(0), "no news");
    let (mut third, _) = bench.decide();
    third.report(OutcomeClass::Approved, None);
    bench.settle().await;
    assert_eq!(bench.breaker(), BreakerView::Closed);
    drop((first, second, third));
    assert!(!bench.decide().1.all_down);
}

#[tokio::test]
async fn what_a_router_leaves_is_what_the_next_one_begins_with() {
    let bench = Bench::start().await;
    bench.pay(&request());
    let (never_began, _) = bench.decide();
    drop(never_began);
    // How long failures took says nothing about its latency.
    bench.router.report(&channel("a"), OutcomeClass::Answered, Some(10));
    bench.fail_a().await;
    let saved = bench.router.save();
    let text = serde_json::to_string(&saved).unwrap();
    let saved: SavedRouter = serde_json::from_str(&text).unwrap();
    let clock = Clock::manual(Timestamp::from_unix_s(1_750_000_010));
    let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.unwrap();
    let mut setup = setup();
    setup.channels.insert(0, facts("0", 30_000));
    let saved = Some((saved, Duration::from_secs(10)));
    let beginning = Beginning { saved, ..Beginning::default() };
    let next = RouterHandle::resume(setup, beginning, clock, &supervisor).await.unwrap();
    let channels = next.channels();
    let open = channels[1].open.unwrap();
    assert_eq!((open.left, open.failed_probes), (Duration::from_secs(20), 0));
    assert_eq!((channels[1].today, channels[1].today_minor, channels[1].latency_ms), (1, 10_000, Some(10)));
    assert_eq!((channels[0].open, channels[0].today, channels[2].today), (None, 0, 0));
}

#[tokio::test]
async fn calls_are_counted_by_what_came_of_them() {
    let bench = Bench::start().await;
    let (mut reservation, _) = bench.decide();
    reservation.report(OutcomeClass::Approved, Some(5));
    bench.router.report(&channel("a"), OutcomeClass::DeclinedByBank, None);
    bench.router.report(&channel("nobody"), OutcomeClass::DeclinedByBank, None);
    let counted: Vec<_> = bench.router.channels()[0].calls.into_iter().filter(|(_, total)| *total > 0).collect();
    assert_eq!(counted, [(OutcomeClass::Approved, 1), (OutcomeClass::DeclinedByBank, 1)]);
}

#[tokio::test]
async fn outcomes_teach_about_the_kind_of_payment_now_or_later() {
    let bench = Bench::start().await;
    let (mut at_once, record) = bench.decide();
    at_once.report(OutcomeClass::Approved, Some(10));
    bench.settle().await;
    let known = || (bench.router.channels()[0].samples, bench.router.table().learned[0].segments());
    assert_eq!(known(), (1, 2), "the channel, its method and its currency");
    let (mut later, _) = bench.decide();
    later.report_call(OutcomeClass::Approved, Some(10));
    bench.settle().await;
    assert_eq!(known(), (1, 2), "a call is not yet an end");
    bench.router.learn(&channel("a"), record.segment(), OutcomeClass::DeclinedByProcessor);
    bench.router.learn(&channel("a"), record.segment(), OutcomeClass::DeclinedByBank);
    bench.settle().await;
    assert_eq!(known(), (2, 2));
    let record = bench.router.quote(&request()).unwrap();
    assert_eq!((record.channels[0].level, record.channels[0].samples), (2, 2));
    bench.router.reset_health(&channel("a")).await.unwrap();
    assert_eq!(known(), (0, 0));
}

#[tokio::test]
async fn a_smaller_window_keeps_the_newest_at_once() {
    let bench = Bench::start().await;
    for index in 0..100 {
        let class = if index < 50 { OutcomeClass::DeclinedByProcessor } else { OutcomeClass::Approved };
        bench.router.report(&channel("a"), class, None);
    }
    let mut smaller = setup();
    smaller.health.approvals.window_outcomes = 40;
    bench.router.configure(smaller).await.unwrap();
    let status = &bench.router.channels()[0];
    assert_eq!((status.samples, status.success_ppm), (40, (40 * 1_000_000 + 20 * 950_000) / 60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_are_exact_however_many_take_them() {
    let bench = Bench::start().await;
    let mut in_turn = setup();
    in_turn.choice.load_balancing = crate::domain::routing::LoadBalancing::RoundRobin;
    in_turn.channels = vec![facts("a", 10_000), facts("b", 10_000)];
    in_turn.channels[0].weight = 3;
    for channel in &mut in_turn.channels {
        channel.caps.concurrent = 100;
    }
    bench.router.configure(in_turn).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let router = bench.router.clone();
        tasks.spawn(async move {
            let to_a = |_: &usize| router.decide(&request()).unwrap().0.channel().as_str() == "a";
            (0..500).filter(to_a).count()
        });
    }
    let to_a: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(to_a, 1_500, "three quarters of 2,000");
    let quoted = bench.router.quote(&request()).unwrap();
    assert_eq!(quoted.turn, Some(2_000));
    assert_eq!(bench.router.quote(&request()).unwrap().chosen, quoted.chosen, "a quote takes no turn");
}
