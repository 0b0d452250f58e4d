//! Tests of how endpoints do, and of what follows.

use std::time::Duration;

use proptest::prelude::{ProptestConfig, prop, prop_assert, proptest};

use super::NOW;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{
    Breaker, EndpointHealth, EndpointTry, EndpointWatch, HealthChange, HealthSettings, Judged, TryOutcome,
};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);
const FAILS: TryOutcome = TryOutcome::Retry;
const TAKES: TryOutcome = TryOutcome::Success;
/// The middle of what is drawn, for an open time of ten seconds.
const NO_JITTER: u64 = 1_000;

fn settings() -> HealthSettings {
    HealthSettings {
        breaker_min: 10,
        breaker_failure_percent: 80,
        breaker_window: Duration::from_secs(60),
        breaker_open: Duration::from_secs(10),
        breaker_open_max: Duration::from_secs(300),
        failing_event_after: DAY,
        disable_after: Some(5 * DAY),
        disable_min_tries: 20,
        recovery_rate_per_s: 10,
        in_flight_max: 16,
    }
}

/// A breaker that never opens, for what is about days.
fn without_breaker() -> HealthSettings {
    HealthSettings { breaker_min: u32::MAX, ..settings() }
}

fn a_try(outcome: TryOutcome, at: Timestamp) -> EndpointTry {
    EndpointTry { outcome, began_at: at, ended_at: at, is_exhausted: false, leave_alone_for: None }
}

fn watch() -> EndpointWatch {
    EndpointWatch::new(EndpointHealth::default(), NOW, &settings())
}

fn learn(watch: &mut EndpointWatch, a_try: &EndpointTry, settings: &HealthSettings) -> Judged {
    let judged = watch.judge(a_try, None, settings, NO_JITTER);
    watch.learn(a_try, judged.is_to_be_written.then_some(&judged), settings);
    judged
}

fn tried(watch: &mut EndpointWatch, outcome: TryOutcome, at: Timestamp) -> Vec<HealthChange> {
    learn(watch, &a_try(outcome, at), &settings()).changes
}

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// An endpoint whose breaker has opened at `after(0)` for ten seconds.
fn opened() -> EndpointWatch {
    let mut watch = watch();
    let changes: Vec<HealthChange> = (0..10).flat_map(|_| tried(&mut watch, FAILS, NOW)).collect();
    assert_eq!(changes, [HealthChange::Opened { until: after(10) }]);
    watch
}

#[test]
fn the_breaker_opens_on_a_share_of_failures_over_enough_tries() {
    let table: [(&str, bool); 8] = [
        ("ffffffffff", true),
        ("fffffffff", false),
        ("..ffffffff", true),
        ("...fffffff", false),
        ("...ffffffffffff", true),
        // Refusals are answers of somebody who is there, and say nothing either way.
        ("rrrrrrrrrrfffffffff", false),
        ("rrrrrrrrrrffffffffff", true),
        ("nnnnnaaaaa", true),
    ];
    for (tries, opens) in table {
        let mut watch = watch();
        let mut changes = Vec::new();
        for (number, letter) in tries.chars().enumerate() {
            let outcome = match letter {
                'f' => FAILS,
                '.' => TAKES,
                'r' => TryOutcome::Refused,
                'n' => TryOutcome::NoAnswer,
                _ => TryOutcome::NotAllowed,
            };
            changes.extend(tried(&mut watch, outcome, NOW.plus(SECOND * u32::try_from(number).unwrap())));
        }
        assert_eq!(!changes.is_empty(), opens, "{tries}: {changes:?}");
        assert_eq!(matches!(watch.health().breaker(NOW), Breaker::Open { .. }), opens, "{tries}");
    }
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let mut watch = watch();
    for _ in 0..9 {
        assert!(tried(&mut watch, FAILS, NOW).is_empty());
    }
    for _ in 0..9 {
        assert!(tried(&mut watch, FAILS, after(61)).is_empty());
    }
    assert_eq!(tried(&mut watch, FAILS, after(62)).len(), 1);
}

#[test]
fn the_tries_of_one_notification_neither_open_the_breaker_nor_change_its_waits() {
    let mut watch = watch();
    for since_first_s in [0, 1, 3, 7, 15, 31, 63, 123, 243, 543, 1_143, 2_943, 6_543] {
        assert_eq!(watch.factor_permille(after(since_first_s)), 1_000);
        assert!(tried(&mut watch, FAILS, after(since_first_s)).is_empty(), "{since_first_s}");
        assert_eq!(watch.closed_until(after(since_first_s), &settings()), None);
        assert_eq!(watch.places(after(since_first_s), &settings()), 16);
    }
}

#[test]
fn an_open_breaker_is_probed_with_one_and_stays_open_twice_as_long_each_time_that_fails() {
    let mut watch = opened();
    assert_eq!(watch.closed_until(NOW, &settings()), Some(after(10)));
    let mut at = after(10);
    for open_s in [20, 40, 80, 160, 300, 300] {
        assert_eq!((watch.closed_until(at, &settings()), watch.places(at, &settings())), (None, 1));
        let changes = tried(&mut watch, FAILS, at);
        let [HealthChange::Opened { until }] = changes.as_slice() else { panic!("{changes:?}") };
        let open = until.since(at);
        let around = Duration::from_secs(open_s);
        assert!(around.mul_f64(0.9) <= open && open <= around.mul_f64(1.1), "{open:?}, not {around:?}");
        at = *until;
    }
    assert_eq!(tried(&mut watch, TAKES, at), [HealthChange::Closed]);
    assert_eq!((watch.health().breaker(at), watch.places(at, &settings())), (Breaker::Closed, 1));
    // It fails again at once: that is no new beginning.
    let at = at.plus(SECOND);
    let changes: Vec<HealthChange> = (0..10).flat_map(|_| tried(&mut watch, FAILS, at)).collect();
    let [HealthChange::Opened { until }] = changes.as_slice() else { panic!("{changes:?}") };
    assert!(until.since(at) >= Duration::from_secs(270), "{changes:?}");
    // And long after that it is.
    tried(&mut watch, TAKES, *until);
    let at = until.plus(HOUR);
    let changes: Vec<HealthChange> = (0..10).flat_map(|_| tried(&mut watch, FAILS, at)).collect();
    assert_eq!(changes, [HealthChange::Opened { until: at.plus(10 * SECOND) }]);
}

#[test]
fn a_refusal_closes_a_breaker_too_since_somebody_answers() {
    let mut watch = opened();
    assert_eq!(tried(&mut watch, TryOutcome::Refused, after(10)), [HealthChange::Closed]);
}

#[test]
fn what_was_sent_before_the_breaker_opened_does_not_decide() {
    for outcome in [FAILS, TAKES, TryOutcome::Refused] {
        let mut watch = opened();
        assert!(tried(&mut watch, outcome, after(5)).is_empty(), "{outcome:?}");
        let late = EndpointTry { ended_at: after(12), ..a_try(outcome, NOW) };
        assert!(learn(&mut watch, &late, &settings()).changes.is_empty(), "{outcome:?}");
        assert_eq!(watch.health().breaker(after(12)), Breaker::Probing { since: after(10) });
    }
}

#[test]
fn open_times_differ_by_a_tenth_at_most() {
    let mut times = Vec::new();
    for draw in (0..4_000).step_by(7) {
        let mut watch = watch();
        for _ in 0..9 {
            tried(&mut watch, FAILS, NOW);
        }
        let judged = watch.judge(&a_try(FAILS, NOW), None, &settings(), draw);
        times.push(judged.health.open_until.unwrap().since(NOW).as_millis());
    }
    assert!(times.iter().all(|time_ms| (9_000..=11_000).contains(time_ms)));
    assert!(times.iter().max().unwrap() - times.iter().min().unwrap() > 1_900);
}

/// Sends as much as may be, each request taking `takes`, for `seconds`; returns when each was started, in milliseconds.
fn release(watch: &mut EndpointWatch, from: Timestamp, takes: Duration, seconds: u64) -> Vec<u128> {
    let (mut started, mut under_way) = (Vec::new(), std::collections::VecDeque::new());
    for millisecond in 0..seconds * 1_000 {
        let now = from.plus(Duration::from_millis(millisecond));
        while under_way.front().is_some_and(|began: &Timestamp| now.since(*began) >= takes) {
            let began_at = under_way.pop_front().unwrap();
            learn(watch, &EndpointTry { ended_at: now, ..a_try(TAKES, began_at) }, &settings());
        }
        while watch.closed_until(now, &settings()).is_none() && under_way.len() < watch.places(now, &settings()) {
            under_way.push_back(now);
            started.push(now.since(from).as_millis());
        }
    }
    started
}

#[test]
fn after_an_outage_the_backlog_is_released_gradually() {
    for takes_ms in [1, 5, 50] {
        let mut watch = opened();
        assert_eq!(tried(&mut watch, TAKES, after(10)), [HealthChange::Closed]);
        let started = release(&mut watch, after(10), Duration::from_millis(takes_ms), 12);
        // After ten seconds that would be ten thousand a second, and nothing is held back any more.
        for (number, at_ms) in started.iter().enumerate().filter(|(_, at_ms)| **at_ms < 9_900) {
            let released = 10.0 * ((*at_ms as f64 / 1_000.0).exp2() - 1.0) + 1.0;
            assert!(number as f64 + 1.0 <= released + 1e-6, "request {number} at {at_ms} ms of {takes_ms} ms each");
        }
        let within = |until_ms| started.iter().filter(|at_ms| **at_ms < until_ms).count();
        assert!(within(1_000) >= 6 && within(1_000) <= 11, "{}", within(1_000));
        assert!(within(3_000) >= 40, "not held up more than needed: {}", within(3_000));
        assert_eq!(watch.places(after(22), &settings()), 16, "and then it is over");
    }
}

#[test]
fn a_success_after_an_outage_without_an_open_breaker_releases_gradually_too() {
    let mut watch = watch();
    tried(&mut watch, FAILS, NOW);
    tried(&mut watch, FAILS, after(30));
    assert!(!learn(&mut watch, &a_try(TAKES, after(59)), &settings()).has_recovered, "that was a minute");
    tried(&mut watch, FAILS, after(100));
    assert!(learn(&mut watch, &a_try(TAKES, after(161)), &settings()).has_recovered);
    assert_eq!(watch.places(after(161), &settings()), 1);
    // A failure takes back what a success gave.
    for (outcome, places) in [(TAKES, 2), (TAKES, 4), (TAKES, 8), (FAILS, 4), (FAILS, 2), (TAKES, 4)] {
        tried(&mut watch, outcome, after(169));
        assert_eq!(watch.places(after(169), &settings()), places);
    }
}

#[test]
fn a_restart_in_the_middle_of_a_recovery_is_no_reason_for_more_at_once() {
    let mut watch = opened();
    tried(&mut watch, TAKES, after(10));
    let again = EndpointWatch::new(*watch.health(), after(14), &settings());
    assert_eq!((again.places(after(14), &settings()), again.closed_until(after(14), &settings())), (1, None));
    let at_once = HealthSettings { recovery_rate_per_s: 0, ..settings() };
    assert_eq!(watch.places(after(10), &at_once), 16, "not wanted");
}

#[test]
fn later_waits_depend_on_the_share_of_failures() {
    let table =
        [(20, 0, 500), (19, 1, 500), (14, 6, 750), (10, 10, 1_000), (5, 15, 1_500), (0, 19, 2_000), (4, 5, 1_000)];
    for (taken, failed, factor_permille) in table {
        let mut watch = watch();
        for _ in 0..failed {
            learn(&mut watch, &a_try(FAILS, NOW), &without_breaker());
        }
        for _ in 0..taken {
            learn(&mut watch, &a_try(TAKES, NOW), &without_breaker());
        }
        assert_eq!(watch.factor_permille(NOW), factor_permille, "{taken} taken, {failed} failed");
        assert_eq!(watch.factor_permille(NOW.plus(HOUR)), 1_000, "nobody knows any more");
    }
    let mut watch = watch();
    for hour in 0..20 {
        assert_eq!(watch.factor_permille(NOW.plus(HOUR * hour)), 1_000, "{hour}");
        tried(&mut watch, FAILS, NOW.plus(HOUR * hour));
    }
    assert_eq!(watch.factor_permille(NOW.plus(HOUR * 20)), 2_000, "twenty in a row are enough, however slow");
}

/// One failure every three hours until something is told; of those, the number of hours after which.
fn told_within(watch: &mut EndpointWatch, from: Timestamp, days: u32) -> Vec<(u64, HealthChange)> {
    let mut told = Vec::new();
    for step in 0..=days * 8 {
        let at = from.plus(3 * HOUR * step);
        let changes = learn(watch, &a_try(FAILS, at), &without_breaker()).changes;
        told.extend(changes.into_iter().map(|change| (at.since(from).as_secs() / 3_600, change)));
    }
    told
}

#[test]
fn five_days_of_nothing_but_failures_disable_after_one_warning() {
    let mut watch = watch();
    let told = told_within(&mut watch, NOW, 5);
    let [(24, HealthChange::Failing(warning)), (120, HealthChange::Disabled { reason, trouble })] = told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert_eq!((warning.since, warning.tries, warning.sequence), (Some(NOW), 9, 1));
    assert_eq!((trouble.since, trouble.tries, trouble.sequence), (Some(NOW), 41, 2));
    assert_eq!(reason, "nothing but failures for 5 days");
    // Enabled again, it begins anew; what was told keeps its numbers.
    let told = told_within(&mut watch, NOW.plus(6 * DAY), 2);
    let [(24, HealthChange::Failing(warning))] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(warning.sequence, 3);
}

#[test]
fn one_success_begins_the_days_anew() {
    let mut watch = watch();
    assert_eq!(told_within(&mut watch, NOW, 4).len(), 1);
    learn(&mut watch, &a_try(TAKES, NOW.plus(4 * DAY + HOUR)), &without_breaker());
    let told = told_within(&mut watch, NOW.plus(4 * DAY + 2 * HOUR), 4);
    assert!(matches!(told.as_slice(), [(24, HealthChange::Failing(_))]), "{told:?}");
}

#[test]
fn an_endpoint_to_which_next_to_nothing_is_sent_is_not_disabled() {
    let mut watch = watch();
    for day in [0, 2, 5, 6] {
        let changes = tried(&mut watch, FAILS, NOW.plus(DAY * day));
        assert!(!changes.iter().any(|change| matches!(change, HealthChange::Disabled { .. })), "{changes:?}");
    }
}

#[test]
fn time_in_which_nothing_was_tried_is_no_failure() {
    let mut watch = watch();
    assert!(told_within(&mut watch, NOW, 0).is_empty());
    for _ in 0..50 {
        tried(&mut watch, TryOutcome::Refused, NOW);
    }
    // Paused for a month, or we did not run, or the clock was set forward.
    let later = NOW.plus(30 * DAY);
    let told = told_within(&mut watch, later, 3);
    assert!(matches!(told.as_slice(), [(0, HealthChange::Failing(_))]), "{told:?}");
    assert_eq!(watch.health().failing_since, Some(later.minus(26 * HOUR)));
}

#[test]
fn an_endpoint_is_never_disabled_without_having_been_told_about() {
    let soon = HealthSettings { disable_after: Some(DAY + SECOND), ..without_breaker() };
    let mut watch = watch();
    for _ in 0..50 {
        learn(&mut watch, &a_try(FAILS, NOW), &soon);
    }
    let told = learn(&mut watch, &a_try(FAILS, NOW.plus(DAY + HOUR)), &soon).changes;
    assert!(matches!(told.as_slice(), [HealthChange::Failing(_)]), "{told:?}");
    let never = HealthSettings { disable_after: None, ..soon.clone() };
    let later = a_try(FAILS, NOW.plus(DAY + 2 * HOUR));
    assert!(watch.judge(&later, None, &never, 0).changes.is_empty());
    assert!(matches!(watch.judge(&later, None, &soon, 0).changes.as_slice(), [HealthChange::Disabled { .. }]));
}

#[test]
fn gone_disables_at_once_and_closes_the_breaker() {
    let mut watch = opened();
    let gone = a_try(TryOutcome::Gone, after(10));
    let judged = watch.judge(&gone, Some("it said so"), &settings(), 0);
    let [HealthChange::Closed, HealthChange::Disabled { reason, trouble }] = judged.changes.as_slice() else {
        panic!("{:?}", judged.changes)
    };
    assert_eq!((reason.as_str(), trouble.sequence), ("it said so", 1));
    watch.learn(&gone, Some(&judged), &settings());
    assert_eq!((watch.closed_until(after(10), &settings()), watch.places(after(10), &settings())), (None, 16));
    assert_eq!((watch.health().failing_since, watch.health().opens), (None, 0));
}

#[test]
fn a_receiver_that_names_a_time_is_left_alone_for_a_minute_at_most() {
    let mut watch = watch();
    let asks = |seconds| EndpointTry { leave_alone_for: Some(Duration::from_secs(seconds)), ..a_try(FAILS, NOW) };
    learn(&mut watch, &asks(30), &settings());
    learn(&mut watch, &asks(10), &settings());
    assert_eq!(watch.closed_until(after(29), &settings()), Some(after(30)));
    assert_eq!(watch.closed_until(after(30), &settings()), None);
    learn(&mut watch, &asks(86_400), &settings());
    assert_eq!(watch.closed_until(NOW, &settings()), Some(after(60)));
}

#[test]
fn an_endpoint_that_is_well_is_never_written_and_one_that_is_not_now_and_then() {
    let mut watch = watch();
    for number in 0..1_000 {
        assert!(!learn(&mut watch, &a_try(TAKES, after(number)), &without_breaker()).is_to_be_written);
    }
    let mut written =
        |outcome, at: Timestamp| learn(&mut watch, &a_try(outcome, at), &without_breaker()).is_to_be_written;
    assert!(written(FAILS, after(1_000)), "the first failure");
    // It comes and goes: at most once in ten seconds.
    let coming_and_going = (0..40_u64).filter(|step| {
        let outcome = if step.is_multiple_of(2) { TAKES } else { FAILS };
        written(outcome, after(1_000).plus(SECOND * u32::try_from(*step).unwrap()))
    });
    assert!((1..=4).contains(&coming_and_going.count()));
    let failing = (0..400).filter(|_| written(FAILS, after(1_040))).count();
    assert!((4..=5).contains(&failing), "{failing}: the beginning, and every hundredth");
    assert!(!written(FAILS, after(1_040).plus(HOUR / 2)));
    assert!(written(FAILS, after(1_040).plus(HOUR)), "that it still fails");
}

#[test]
fn dead_letters_are_known_until_there_was_a_success_after_the_last_of_them() {
    let mut watch = watch();
    let exhausted = |at| EndpointTry { is_exhausted: true, ..a_try(FAILS, at) };
    let mut step = |a_try: EndpointTry| {
        let judged = learn(&mut watch, &a_try, &without_breaker());
        (judged.health.dead_until_success, judged.is_to_be_written)
    };
    assert_eq!(step(exhausted(after(0))), (Some(after(0)), true));
    assert_eq!(step(exhausted(after(1))), (Some(after(0)), false), "known already");
    assert_eq!(step(a_try(TAKES, after(2))), (Some(after(0)), true), "the first success");
    assert_eq!(step(a_try(TAKES, after(3))), (Some(after(0)), false));
    assert_eq!(step(exhausted(after(4))), (Some(after(4)), true), "one more since");
    assert_eq!(step(a_try(TAKES, after(5))), (Some(after(4)), true));
}

#[test]
fn a_clock_that_was_set_back_while_we_did_not_run_holds_nothing_up() {
    let mut watch = opened();
    watch = EndpointWatch::new(*watch.health(), NOW.minus(30 * DAY), &settings());
    let closed = watch.closed_until(NOW.minus(30 * DAY), &settings()).unwrap();
    assert_eq!(closed.since(NOW.minus(30 * DAY)), Duration::from_secs(330));
    assert!(watch.health().failing_since <= Some(NOW.minus(30 * DAY)));
}

#[test]
fn a_clock_that_is_set_back_while_we_run_holds_nothing_up() {
    let (ahead, now) = (NOW.plus(DAY), NOW);
    let mut open = watch();
    (0..10).for_each(|_| drop(tried(&mut open, FAILS, ahead)));
    let mut left_alone = watch();
    let asked = EndpointTry { leave_alone_for: Some(60 * SECOND), ..a_try(FAILS, ahead) };
    learn(&mut left_alone, &asked, &settings());
    let mut recovering = open;
    recovering.settle(ahead.plus(20 * SECOND), &settings());
    tried(&mut recovering, TAKES, ahead.plus(20 * SECOND));
    assert!(recovering.health().recovering_since.is_some());
    for (watch, for_at_most) in [(open, 330), (left_alone, 0), (recovering, 1)] {
        let mut watch = watch;
        assert!(watch.closed_until(now, &settings()).is_some_and(|until| until > ahead));
        watch.settle(now, &settings());
        let closed = watch.closed_until(now, &settings()).map_or(Duration::ZERO, |until| until.since(now));
        assert!(closed <= for_at_most * SECOND, "{closed:?}");
        let settled = watch;
        watch.settle(now.plus(SECOND), &settings());
        assert_eq!(watch, settled, "once");
    }
    // Dead letters of that time are sent again after the next success, and not only a day later.
    let mut dead = watch();
    learn(&mut dead, &EndpointTry { is_exhausted: true, ..a_try(FAILS, ahead) }, &settings());
    dead.settle(now, &settings());
    let taken = learn(&mut dead, &a_try(TAKES, now.plus(SECOND)), &settings());
    assert!(taken.is_to_be_written && taken.health.last_success_at > taken.health.dead_until_success);
    // A moment's difference between two that look is none.
    let mut same = opened();
    same.settle(NOW.minus(SECOND), &settings());
    assert_eq!(same, opened());
}

#[test]
fn of_two_that_are_written_the_later_one_stays_whoever_is_learned_of_first() {
    let mut watch = watch();
    let first = watch.judge(&a_try(FAILS, NOW), None, &settings(), 0);
    let mut second_watch = watch;
    second_watch.learn(&a_try(FAILS, NOW), Some(&first), &settings());
    let exhausted = EndpointTry { is_exhausted: true, ..a_try(FAILS, after(1)) };
    let second = second_watch.judge(&exhausted, None, &settings(), 0);
    assert!(first.is_to_be_written && second.is_to_be_written);
    watch.learn(&exhausted, Some(&second), &settings());
    watch.learn(&a_try(FAILS, NOW), Some(&first), &settings());
    assert_eq!(watch.health().dead_until_success, Some(after(1)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everything_stays_within_its_bounds(
        steps in prop::collection::vec((0_usize..6, 0_u64..40_000, 0_u64..40_000, 0_u64..100), 1..200),
    ) {
        let settings = settings();
        let mut watch = watch();
        let (mut now, mut told) = (NOW, 0);
        for (outcome, wait_ms, took_ms, asked_s) in steps {
            now = now.plus(Duration::from_millis(wait_ms));
            let outcome = TryOutcome::ALL[outcome];
            let a_try = EndpointTry {
                began_at: now.minus(Duration::from_millis(took_ms)),
                is_exhausted: asked_s % 7 == 0,
                leave_alone_for: (asked_s > 50).then(|| Duration::from_secs(asked_s)),
                ..a_try(outcome, now)
            };
            let gone = (outcome == TryOutcome::Gone).then_some("gone");
            let judged = watch.judge(&a_try, gone, &settings, took_ms);
            prop_assert!(judged.changes.is_empty() || judged.is_to_be_written);
            watch.learn(&a_try, judged.is_to_be_written.then_some(&judged), &settings);
            prop_assert!(watch.health().told >= told);
            told = watch.health().told;
            prop_assert!((500..=2_000).contains(&watch.factor_permille(now)));
            prop_assert!((1..=16).contains(&watch.places(now, &settings)));
            if let Some(until) = watch.closed_until(now, &settings) {
                prop_assert!(until > now && until.since(now) <= Duration::from_secs(330));
            }
            stays_the_same(&watch, now)?;
        }
    }
}

/// What is stored says the same after a restart.
fn stays_the_same(watch: &EndpointWatch, now: Timestamp) -> Result<(), proptest::test_runner::TestCaseError> {
    let again = EndpointWatch::new(*watch.health(), now, &settings());
    prop_assert!(again.health() == watch.health());
    Ok(())
}
