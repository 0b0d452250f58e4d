//! The router with its actor: reservations, probes, changes at run time, failure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::actors::supervisor::RestartBudget;
use crate::domain::fees::{FeeSchedule, Percent};
use crate::domain::money::{Currency, Money};
use crate::domain::routing::{
    ApprovalSettings, BreakerSettings, ChannelCaps, ChoiceSettings, CountrySet, DroppedBy, HealthSettings, RoutingMode,
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
        fees: FeeSchedule {
            percent: Percent::from_ppm(percent_ppm),
            fixed_minor: 0,
            fixed_currency: Currency::USD,
            international_percent: Percent::default(),
            conversion_percent: Percent::default(),
            as_of: String::new(),
        },
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
        let clock = Clock::manual(Timestamp::from_unix_s(1_737_715_200));
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
    let none = bench.router.decide(&request()).unwrap_err();
    assert_eq!(none.retry_in, Some(Duration::from_secs(20)));
    assert_eq!(none.to_string(), "No channel can take it: a is failing and is being left alone, b is switched off.");
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
    assert_eq!(bench.router.channels()[1].in_flight, 1);
    drop(held);
    assert_eq!(bench.router.outcomes_dropped_total(), 0);
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
