//! Limits against an exact log: whatever the traffic, no true window holds more than its limit.

mod adversary;

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::time::{Monotonic, Timestamp};

const STARTER: LimitFigures =
    LimitFigures { per_second: 10, per_minute: 500, per_hour: 10_000, burst: 20, concurrent: 10 };
const SMALL: LimitFigures = LimitFigures { per_second: 4, per_minute: 30, per_hour: 90, burst: 6, concurrent: 1_000 };
const LEASE: Duration = Duration::from_secs(60);
const WALL: Timestamp = Timestamp::from_unix_ms(1_737_715_200_000);

fn at_us(micros: u64) -> Monotonic {
    Monotonic::from_micros(micros)
}

fn at_ms(millis: u64) -> Monotonic {
    at_us(millis * 1000)
}

/// A limiter with its leases, each given back at once.
struct Bench {
    limiter: Limiter,
    leases: Leases,
}

impl Bench {
    fn new(figures: LimitFigures) -> Self {
        Self { limiter: Limiter::new(figures, at_us(0)), leases: Leases::new(0, LEASE) }
    }

    fn ask(&mut self, cost: u32, now: Monotonic) -> Decision {
        let decision = self.limiter.decide(&mut self.leases, cost, now);
        if let Decision::Admitted { lease, .. } = decision {
            assert!(self.leases.release(lease));
        }
        decision
    }

    fn admits(&mut self, now: Monotonic) -> bool {
        matches!(self.ask(1, now), Decision::Admitted { .. })
    }

    fn refusal(&mut self, now: Monotonic) -> Refusal {
        match self.ask(1, now) {
            Decision::Refused(refusal) => refusal,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

/// Every admission there ever was, to look at all windows afterwards.
#[derive(Default)]
struct Log(Vec<u64>);

impl Log {
    /// The most admissions that any half-open window of `window_us` holds.
    fn most_in(&self, window_us: u64) -> usize {
        let mut inside: VecDeque<u64> = VecDeque::new();
        let mut most = 0;
        for admitted in &self.0 {
            inside.push_back(*admitted);
            while inside.front().is_some_and(|oldest| admitted - oldest >= window_us) {
                inside.pop_front();
            }
            most = most.max(inside.len());
        }
        most
    }

    fn respects(&self, figures: &LimitFigures) -> bool {
        self.most_in(figures.burst_window_us()) <= figures.burst as usize
            && self.most_in(60_000_000) <= figures.per_minute as usize
            && self.most_in(3_600_000_000) <= figures.per_hour as usize
    }
}

/// Gaps between requests as attackers and clients choose them: none, tiny, just around window and bucket edges, long.
fn gaps_us() -> impl Strategy<Value = Vec<u64>> {
    let gap = prop_oneof![
        5 => Just(0),
        5 => 1_u64..50_000,
        3 => 50_000_u64..600_000,
        2 => prop::sample::select(vec![999_999, 1_000_000, 1_000_001, 1_499_999, 1_500_000, 1_999_999, 2_000_000]),
        1 => prop::sample::select(vec![14_999_999, 15_000_000, 59_999_999, 60_000_000, 60_999_999, 61_000_000]),
        1 => 100_000_000_u64..4_000_000_000,
    ];
    prop::collection::vec(gap, 1..400)
}

fn run(gaps: &[u64], mut admits: impl FnMut(u64) -> u32) -> Log {
    let mut log = Log::default();
    let mut now_us = 0;
    for gap in gaps {
        now_us += gap;
        for _ in 0..admits(now_us) {
            log.0.push(now_us);
        }
    }
    log
}

/// The limiter that most products have: a counter that starts anew with every window of the clock.
struct FixedWindow {
    window: u64,
    count: u32,
}

impl FixedWindow {
    fn admits(&mut self, figures: &LimitFigures, now_us: u64) -> bool {
        let window = now_us / figures.burst_window_us();
        if window != self.window {
            *self = Self { window, count: 0 };
        }
        self.count += 1;
        self.count <= figures.burst
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_true_window_is_ever_above_its_limit(gaps in gaps_us(), costs in prop::collection::vec(1_u32..4, 400)) {
        let mut bench = Bench::new(SMALL);
        let mut costs = costs.into_iter();
        let log = run(&gaps, |now_us| {
            let cost = costs.next().unwrap_or(1);
            if matches!(bench.ask(cost, at_us(now_us)), Decision::Admitted { .. }) { cost } else { 0 }
        });
        prop_assert!(log.respects(&SMALL));
    }

    #[test]
    fn the_burst_window_refuses_only_what_an_exact_log_refuses(gaps in gaps_us()) {
        let wide = LimitFigures { per_minute: 1_000_000, per_hour: 1_000_000, ..SMALL };
        let mut bench = Bench::new(wide);
        let mut admitted: VecDeque<u64> = VecDeque::new();
        let mut now_us = 0;
        for gap in gaps {
            now_us += gap;
            while admitted.front().is_some_and(|oldest| now_us - oldest >= wide.burst_window_us()) {
                admitted.pop_front();
            }
            let expected = admitted.len() < wide.burst as usize;
            prop_assert_eq!(bench.admits(at_us(now_us)), expected);
            if expected {
                admitted.push_back(now_us);
            }
        }
    }

    #[test]
    fn a_refusal_is_honest_changes_nothing_and_foretells_itself(gaps in gaps_us()) {
        let mut bench = Bench::new(SMALL);
        let mut now_us = 0;
        for gap in gaps {
            now_us += gap;
            let Decision::Refused(refusal) = bench.ask(1, at_us(now_us)) else { continue };
            prop_assert!(!refusal.violated().is_empty());
            let wait_us = u64::try_from(refusal.blocked_for().as_micros()).unwrap();
            for share in [0, 1, 2, 3] {
                let later_us = (wait_us * share / 4).min(wait_us - 1);
                let foretold = refusal.after(Duration::from_micros(later_us), false);
                let Decision::Refused(decided) = bench.clone_limiter().ask(1, at_us(now_us + later_us)) else {
                    panic!("admitted before the wait was over");
                };
                prop_assert_eq!(foretold.map(|refusal| refusal.waits_us), Some(decided.waits_us));
            }
            prop_assert!(refusal.after(refusal.blocked_for(), false).is_none());
            prop_assert!(bench.clone_limiter().admits(at_us(now_us + wait_us)));
        }
    }

    #[test]
    fn limits_may_change_at_any_time_and_stay_true(
        gaps in gaps_us(),
        changes in prop::collection::vec((1_u32..12, 1_u32..30, 1_u32..60), 1..8),
    ) {
        // The true maximum of what was in force holds for every window, whichever way the limits moved.
        let mut bench = Bench::new(SMALL);
        let every = gaps.len() / changes.len() + 1;
        let mut in_force = vec![SMALL];
        let mut log = Log::default();
        let mut now_us = 0;
        for (index, gap) in gaps.iter().enumerate() {
            now_us += gap;
            if index % every == every - 1 {
                let (per_second, burst, per_minute) = changes[index / every];
                let figures = LimitFigures { per_second, burst, per_minute, ..SMALL };
                bench.limiter.reconfigure(figures, at_us(now_us));
                in_force.push(figures);
            }
            let figures = in_force[in_force.len() - 1];
            let in_burst = |log: &Log| log.0.iter().filter(|at| now_us - **at < figures.burst_window_us()).count();
            let in_minute = |log: &Log| log.0.iter().filter(|at| now_us - **at < 60_000_000).count();
            if bench.admits(at_us(now_us)) {
                log.0.push(now_us);
                prop_assert!(in_burst(&log) <= figures.burst as usize);
                prop_assert!(in_minute(&log) <= figures.per_minute as usize);
            }
        }
    }

    #[test]
    fn a_restart_is_never_more_generous(gaps in gaps_us(), restarts in prop::collection::vec(0_u64..8_000, 1..6)) {
        let mut bench = Bench::new(SMALL);
        let every = gaps.len() / restarts.len() + 1;
        // `now_us` is true time; each process counts its own from `started_us`.
        let (mut now_us, mut started_us) = (0, 0);
        let wall = |now_us: u64| WALL.plus(Duration::from_micros(now_us));
        let mut log = Log::default();
        for (index, gap) in gaps.iter().enumerate() {
            now_us += gap;
            if index % every == every - 1 {
                let saved = bench.limiter.save(&DailyUsage::default(), at_us(now_us - started_us), wall(now_us));
                now_us += restarts[index / every] * 1000;
                started_us = now_us - now_us % 777;
                let restored =
                    Limiter::restore(SMALL, Some(&saved), &[], at_us(now_us - started_us), wall(now_us));
                bench.limiter = restored;
            }
            if bench.admits(at_us(now_us - started_us)) {
                log.0.push(now_us);
            }
        }
        prop_assert!(log.respects(&SMALL));
    }
}

impl Bench {
    fn clone_limiter(&self) -> Self {
        Self { limiter: self.limiter.clone(), leases: self.leases.clone() }
    }
}

#[test]
fn the_same_property_fails_for_a_fixed_window() {
    // The end of one window and the beginning of the next: the attack that every client finds by accident.
    let mut gaps = vec![SMALL.burst_window_us() - 1];
    gaps.extend([0; 10]);
    gaps.push(1);
    gaps.extend([0; 10]);
    let mut fixed = FixedWindow { window: 0, count: 0 };
    let log = run(&gaps, |now_us| u32::from(fixed.admits(&SMALL, now_us)));
    assert!(!log.respects(&SMALL), "the property can tell a fixed window from a sliding one");
    let mut bench = Bench::new(SMALL);
    assert!(run(&gaps, |now_us| u32::from(bench.admits(at_us(now_us)))).respects(&SMALL));
}

#[test]
fn a_burst_passes_at_once_and_a_paced_client_always() {
    let mut bench = Bench::new(STARTER);
    for _ in 0..20 {
        assert!(bench.admits(at_ms(5)));
    }
    let refusal = bench.refusal(at_ms(5));
    assert_eq!(refusal.limit(), Policy::Second);
    assert_eq!(refusal.wait(), Duration::from_secs(2));
    assert!(!bench.admits(at_us(2_004_999)));
    assert!(bench.admits(at_ms(2_005)));

    let mut paced = Bench::new(LimitFigures { per_minute: 100_000, per_hour: 1_000_000, ..STARTER });
    for request in 0..5_000 {
        assert!(paced.admits(at_us(333 + request * 100_000)), "request {request} at 10 per second");
    }
}

#[test]
fn the_throughput_lost_to_buckets_is_within_the_stated_bound() {
    // A client that always asks: two hours at one request in 10 ms.
    let figures = LimitFigures { per_second: 1_000, burst: 2_000, per_minute: 500, per_hour: 25_000, concurrent: 10 };
    let mut bench = Bench::new(figures);
    let admitted = (0..720_000_u64).filter(|step| bench.admits(at_ms(step * 10))).count();
    let exact = 2 * 25_000_usize;
    assert!(admitted <= exact);
    let least = exact - exact / 61 - exact / 241 - 500;
    assert!(admitted >= least, "{admitted} of {exact} were admitted, at least {least} are promised");
}

#[test]
fn every_limit_that_refuses_is_named_and_a_refusal_consumes_nothing() {
    let figures = LimitFigures { per_second: 5, per_minute: 5, per_hour: 5, burst: 5, concurrent: 5 };
    let mut limiter = Limiter::new(figures, at_us(0));
    let mut leases = Leases::new(5, LEASE);
    for _ in 0..5 {
        assert!(matches!(limiter.decide(&mut leases, 1, at_ms(10)), Decision::Admitted { .. }));
    }
    for _ in 0..1_000 {
        let Decision::Refused(refusal) = limiter.decide(&mut leases, 1, at_ms(20)) else { panic!("admitted") };
        assert_eq!(refusal.violated().iter().collect::<Vec<_>>(), Policy::ALL);
        assert_eq!(refusal.limit(), Policy::Hour);
        assert_eq!((refusal.view.second.used, refusal.view.minute.used, refusal.view.hour.used), (5, 5, 5));
    }
    // The leases end after a minute; the hour still refuses and says how long.
    let Decision::Refused(refusal) = limiter.decide(&mut leases, 1, at_ms(61_010)) else { panic!("admitted") };
    assert_eq!(refusal.violated().iter().collect::<Vec<_>>(), [Policy::Hour]);
    assert_eq!(leases.expired_total(), 5);
    let honest = at_ms(61_010).plus(refusal.wait());
    assert!(matches!(limiter.decide(&mut leases, 1, honest), Decision::Admitted { .. }));
}

#[test]
fn requests_in_flight_are_limited_and_have_no_honest_wait() {
    let figures = LimitFigures { concurrent: 2, ..STARTER };
    let mut limiter = Limiter::new(figures, at_us(0));
    let mut leases = Leases::new(2, LEASE);
    let Decision::Admitted { lease, .. } = limiter.decide(&mut leases, 1, at_ms(0)) else { panic!("refused") };
    assert!(matches!(limiter.decide(&mut leases, 1, at_ms(0)), Decision::Admitted { .. }));
    let Decision::Refused(refusal) = limiter.decide(&mut leases, 1, at_ms(0)) else { panic!("admitted") };
    assert_eq!((refusal.limit(), refusal.retry_after_s()), (Policy::Concurrency, 1));
    assert_eq!(refusal.blocked_for(), Duration::ZERO);
    assert!(refusal.after(Duration::ZERO, true).is_none(), "requests in flight are never answered without asking");
    assert!(leases.release(lease));
    assert!(matches!(limiter.decide(&mut leases, 1, at_ms(1)), Decision::Admitted { .. }));
}

#[test]
fn what_can_never_fit_is_not_a_matter_of_waiting() {
    let mut bench = Bench::new(STARTER);
    assert_eq!(bench.ask(21, at_ms(0)), Decision::CostTooLarge { cost_max: 20 });
    assert!(matches!(bench.ask(20, at_ms(0)), Decision::Admitted { .. }));
    let Decision::Refused(refusal) = bench.ask(5, at_ms(0)) else { panic!("admitted") };
    assert_eq!(refusal.wait(), Duration::from_secs(2));
}

#[test]
fn a_higher_tier_has_room_at_once_and_a_lower_one_refuses_until_it_fits() {
    let business = LimitFigures { per_second: 50, per_minute: 2_500, per_hour: 50_000, burst: 100, concurrent: 50 };
    let mut bench = Bench::new(STARTER);
    while bench.admits(at_ms(100)) {}
    bench.limiter.reconfigure(business, at_ms(150));
    let admitted = (0..200).filter(|_| bench.admits(at_ms(150))).count();
    assert_eq!(admitted, 80, "the 20 before count on");
    bench.limiter.reconfigure(STARTER, at_ms(200));
    let refusal = bench.refusal(at_ms(200));
    assert_eq!((refusal.view.second.used, refusal.view.second.remaining()), (100, 0));
    assert_eq!(refusal.wait(), Duration::from_millis(1_950), "until 81 of the 100 have left");
    assert!(bench.admits(at_ms(2_150)));
}

#[test]
fn an_unclean_stop_is_charged_for_what_nobody_saw() {
    let snapshot = Bench::new(STARTER).limiter.save(&DailyUsage::default(), at_ms(0), WALL);
    let after = |millis: u64| WALL.plus(Duration::from_millis(millis));
    // Alive unseen for 3 s, down for 1 s: at most two burst windows' worth, the last of it 1 s ago.
    let gap = UnseenSpan::new(WALL, after(3_000));
    let mut limiter = Limiter::restore(STARTER, Some(&snapshot), &[gap], at_ms(7), after(4_000));
    let mut leases = Leases::new(10, LEASE);
    let view = limiter.view(&mut leases, at_ms(7));
    assert_eq!((view.second.used, view.minute.used, view.hour.used), (20, 40, 40));
    let Decision::Refused(refusal) = limiter.decide(&mut leases, 1, at_ms(7)) else { panic!("admitted") };
    assert_eq!(refusal.wait(), Duration::from_secs(1));

    // A merchant without a snapshot may have been busy in the gap too; a snapshot made after it knows everything.
    let mut unknown = Limiter::restore(STARTER, None, &[gap], at_ms(7), after(4_000));
    assert_eq!(unknown.view(&mut leases, at_ms(7)).hour.used, 40);
    let later = LimiterSnapshot { saved_at: after(3_500), ..snapshot };
    let mut known = Limiter::restore(STARTER, Some(&later), &[gap], at_ms(7), after(4_000));
    assert!(known.is_empty(at_ms(7)));
}

#[test]
fn a_wall_clock_that_went_back_opens_nothing() {
    let mut bench = Bench::new(STARTER);
    while bench.admits(at_ms(500)) {}
    let snapshot = bench.limiter.save(&DailyUsage::default(), at_ms(500), WALL);
    let mut restored = Limiter::restore(STARTER, Some(&snapshot), &[], at_ms(1), WALL.minus(Duration::from_secs(9)));
    let Decision::Refused(refusal) = restored.decide(&mut Leases::new(1, LEASE), 1, at_ms(1)) else {
        panic!("admitted");
    };
    assert_eq!(refusal.wait(), Duration::from_secs(2));
}

#[test]
fn snapshots_are_small_and_read_back() {
    let premium =
        LimitFigures { per_second: 500, per_minute: 25_000, per_hour: 500_000, burst: 1_000, concurrent: 500 };
    let mut bench = Bench::new(premium);
    for step in 0..400_000_u64 {
        bench.ask(1, at_ms(step * 5));
    }
    let now = at_ms(400_000 * 5);
    let snapshot = bench.limiter.save(&DailyUsage::default(), now, WALL);
    let text = serde_json::to_string(&snapshot).unwrap();
    assert!(text.len() < 4_000, "{} bytes", text.len());
    let stored = LimiterSnapshot { saved_tick: None, ..snapshot.clone() };
    assert_eq!(serde_json::from_str::<LimiterSnapshot>(&text).unwrap(), stored, "ticks are of this process alone");
    let mut restored = Limiter::restore(premium, Some(&snapshot), &[], at_ms(0), WALL);
    let mut leases = Leases::new(1, LEASE);
    let (before, after) = (bench.limiter.view(&mut leases, now), restored.view(&mut leases, at_ms(0)));
    assert_eq!((after.second.used, after.minute.used, after.hour.used), {
        (before.second.used, before.minute.used, before.hour.used)
    });
}

#[test]
fn a_gap_of_any_length_is_quick_and_empties_the_windows() {
    let mut bench = Bench::new(STARTER);
    while bench.admits(at_ms(0)) {}
    let much_later = at_us(u64::MAX / 4);
    assert!(bench.limiter.is_empty(much_later));
    assert!(bench.admits(much_later));
}

#[test]
fn figures_are_the_tiers_with_the_merchants_own_and_checked() {
    use crate::domain::merchant::LimitOverrides;
    let own = LimitOverrides { burst: Some(10), concurrent: Some(3), ..LimitOverrides::default() };
    let figures = LimitFigures::of(&STARTER, &own).unwrap();
    assert_eq!(figures, LimitFigures { burst: 10, concurrent: 3, ..STARTER });
    assert_eq!(figures.burst_window_us(), 1_000_000);
    let zero = LimitOverrides { per_hour: Some(0), ..LimitOverrides::default() };
    assert_eq!(LimitFigures::of(&STARTER, &zero), Err(InvalidFigures::Zero("per_hour")));
    let slow = LimitOverrides { per_second: Some(1), burst: Some(3_601), ..LimitOverrides::default() };
    assert_eq!(LimitFigures::of(&STARTER, &slow), Err(InvalidFigures::BurstWindowTooLong));
    let nothing = LimitFigures { per_second: 0, per_minute: 0, per_hour: 0, burst: 0, concurrent: 0 };
    assert!(Bench::new(nothing).admits(at_ms(0)), "a limiter stands even on figures that nobody checked");
}

fn header<'a>(headers: &'a [headers::Header], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

#[test]
fn headers_say_what_the_contract_says() {
    let mut bench = Bench::new(STARTER);
    let policy = headers::policy_value(&STARTER);
    assert_eq!(
        policy,
        "\"second\";q=20;w=2, \"minute\";q=500;w=60, \"hour\";q=10000;w=3600, \
         \"concurrency\";q=10;qu=\"concurrent-requests\""
    );
    let now = WALL.plus(Duration::from_millis(1_500));
    let Decision::Admitted { view, .. } = bench.ask(1, at_ms(0)) else { panic!("refused") };
    let fields = headers::of_admitted(&view, "starter", &policy, now);
    assert_eq!(header(&fields, headers::LIMIT), Some("10"));
    assert_eq!(header(&fields, headers::REMAINING), Some("19"));
    assert_eq!(header(&fields, headers::RESET), Some("1737715204"), "1.5 s + 2 s, rounded up");
    assert_eq!(header(&fields, headers::TIER), Some("starter"));
    assert_eq!(header(&fields, headers::CURRENT), Some("\"second\";r=19;t=2"));
    assert_eq!(header(&fields, headers::NEAR_LIMIT), None);
    assert_eq!(header(&fields, headers::RETRY_AFTER), None);

    for used in 2..=16 {
        let Decision::Admitted { view, .. } = bench.ask(1, at_ms(0)) else { panic!("refused") };
        let fields = headers::of_admitted(&view, "starter", &policy, now);
        assert_eq!(header(&fields, headers::NEAR_LIMIT).is_some(), used >= 16, "{used} of 20");
    }
    while bench.admits(at_ms(0)) {}
    let refusal = bench.refusal(at_ms(700));
    let fields = headers::of_refused(&refusal, "starter", &policy, now);
    assert_eq!(header(&fields, headers::REMAINING), Some("0"));
    assert_eq!(header(&fields, headers::RETRY_AFTER), Some("2"), "1.3 s, rounded up");
    assert_eq!(header(&fields, headers::CURRENT), Some("\"second\";r=0;t=2"));
    assert_eq!(header(&fields, headers::POLICY), Some(policy.as_str()));
    assert_eq!(header(&fields, headers::NEAR_LIMIT), Some("true"));
    let body = serde_json::to_string(&headers::RefusalFields::of(&refusal, "starter")).unwrap();
    assert_eq!(body, r#"{"tier":"starter","limit":"second","violated_policies":["second"],"retry_after":2}"#);
    assert_eq!(wording::english(&refusal), "Request rate exceeds the limit: more than 10 requests per second");
    assert_eq!(wording::chinese(&refusal), "请求频率超过限制: 超过每秒 10 次请求限制");
}

#[test]
fn the_tightest_window_is_the_one_with_the_fewest_left() {
    let figures = LimitFigures { per_minute: 22, ..STARTER };
    let mut bench = Bench::new(figures);
    for _ in 0..18 {
        assert!(bench.admits(at_ms(0)));
    }
    // Of 20 two are left now, of 22 four; after the burst window has emptied the minute binds.
    let view = bench.limiter.view(&mut bench.leases, at_ms(0));
    assert_eq!((view.tightest().0, view.tightest().1.remaining()), (Policy::Second, 2));
    let view = bench.limiter.view(&mut bench.leases, at_ms(2_000));
    assert_eq!((view.tightest().0, view.tightest().1.remaining()), (Policy::Minute, 4));
    assert_eq!(view.fullest().0, Policy::Minute);
}
