//! Tests of when notifications are tried again.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::{prop, prop_assert, proptest};

use super::settings;
use crate::domain::webhook::{Overrides, Schedule, ScheduleSettings};

#[test]
fn the_built_in_schedule_is_the_documented_table() {
    let schedule = Schedule::from(settings());
    let mut since_first_s = 0;
    let table = [
        (1, 0, 0),
        (2, 1, 1),
        (3, 2, 3),
        (4, 4, 7),
        (5, 8, 15),
        (6, 16, 31),
        (7, 32, 63),
        (8, 60, 123),
        (9, 120, 243),
        (10, 300, 543),
        (11, 600, 1_143),
        (12, 1_800, 2_943),
        (13, 3_600, 6_543),
        (14, 3_600, 10_143),
    ];
    for (attempt, wait_s, documented_since_first_s) in table {
        assert_eq!(schedule.wait_before(attempt).as_secs(), wait_s, "before attempt {attempt}");
        since_first_s += wait_s;
        assert_eq!(since_first_s, documented_since_first_s, "since the first at attempt {attempt}");
    }
    assert_eq!(schedule.wait_before(u32::MAX).as_secs(), 3_600);
}

#[test]
fn another_initial_or_maximum_backoff_scales_and_cuts_the_table() {
    let scaled = Schedule::from(ScheduleSettings { initial_backoff_s: 5, max_backoff_s: 100, ..settings() });
    let waits: Vec<u64> = (1..=9).map(|attempt| scaled.wait_before(attempt).as_secs()).collect();
    assert_eq!(waits, [0, 5, 10, 20, 40, 80, 100, 100, 100]);
}

#[test]
fn an_own_list_replaces_the_table_and_its_last_wait_repeats() {
    let own = Schedule::from(ScheduleSettings { own_waits_s: vec![0, 3, 7], ..settings() });
    let waits: Vec<u64> = (1..=6).map(|attempt| own.wait_before(attempt).as_secs()).collect();
    assert_eq!(waits, [0, 0, 3, 7, 7, 7]);
}

#[test]
fn jitter_stays_within_its_share_and_reaches_both_ends() {
    let schedule = Schedule::from(ScheduleSettings { jitter_percent: 10, ..settings() });
    let waits: Vec<u64> = (0..=200)
        .map(|draw| u64::try_from(schedule.jittered_wait_before(2, None, draw).as_millis()).unwrap())
        .collect();
    assert_eq!(waits.iter().min(), Some(&900));
    assert_eq!(waits.iter().max(), Some(&1_100));
    for draw in [0, 1, u64::MAX] {
        assert_eq!(schedule.jittered_wait_before(1, Some(Duration::from_secs(9)), draw), Duration::ZERO);
        assert_eq!(Schedule::from(settings()).jittered_wait_before(9, None, draw), Duration::from_secs(120));
    }
}

#[test]
fn no_jitter_makes_a_retry_earlier_than_the_receiver_asked() {
    let schedule = Schedule::from(ScheduleSettings { jitter_percent: 10, max_backoff_s: 600, ..settings() });
    for draw in 0..1_000 {
        let asked = schedule.jittered_wait_before(2, Some(Duration::from_secs(30)), draw);
        assert!((30..=33).contains(&asked.as_secs()), "{asked:?}");
        let capped = schedule.jittered_wait_before(2, Some(Duration::from_secs(86_400)), draw);
        assert!((600..=660).contains(&capped.as_secs()), "{capped:?}");
        let shorter_than_planned = schedule.jittered_wait_before(9, Some(Duration::from_secs(1)), draw);
        assert!((108..=132).contains(&shorter_than_planned.as_secs()), "{shorter_than_planned:?}");
    }
}

#[test]
fn an_endpoints_own_settings_win_and_what_it_leaves_out_is_as_configured() {
    let configured = ScheduleSettings { own_waits_s: vec![9], jitter_percent: 10, ..settings() };
    assert_eq!(Overrides::default().schedule(&configured), configured);
    let own = Overrides {
        schedule_s: Some(Vec::new()),
        initial_backoff_s: Some(2),
        max_backoff_s: Some(60),
        jitter_percent: Some(0),
        timeout_s: Some(5),
    };
    let expected = ScheduleSettings { initial_backoff_s: 2, max_backoff_s: 60, ..settings() };
    assert_eq!(own.schedule(&configured), expected);
    assert_eq!(Overrides { schedule_s: Some(vec![7]), ..own.clone() }.schedule(&configured).own_waits_s, [7]);
    let seconds = Duration::from_secs;
    assert_eq!((own.timeout(seconds(30)), own.timeout(seconds(3))), (seconds(5), seconds(3)));
    assert_eq!(Overrides::default().timeout(seconds(30)), seconds(30));
}

#[test]
fn those_that_were_told_the_same_retry_after_do_not_come_back_at_once() {
    let schedule = Schedule::from(ScheduleSettings { jitter_percent: 10, ..settings() });
    let waits: Vec<u128> = (0..500_u64)
        .map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .map(|draw| schedule.jittered_wait_before(2, Some(Duration::from_secs(60)), draw).as_millis())
        .collect();
    assert!(waits.iter().all(|wait_ms| (60_000..=66_000).contains(wait_ms)), "{waits:?}");
    let different: HashSet<&u128> = waits.iter().collect();
    assert!(different.len() > 450, "{}", different.len());
}

#[test]
fn waits_are_as_documented_before_the_seventh_attempt_however_the_endpoint_does() {
    for factor_permille in [500, 2_000] {
        let schedule = Schedule::from(settings()).at_pace(factor_permille);
        let waits: Vec<u64> = (1..=6).map(|attempt| schedule.wait_before(attempt).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16]);
    }
    let waits = |factor_permille| -> Vec<u64> {
        let schedule = Schedule::from(settings()).at_pace(factor_permille);
        (7..=14).map(|attempt| schedule.wait_before(attempt).as_secs()).collect()
    };
    assert_eq!(waits(500), [16, 30, 60, 150, 300, 900, 1_800, 1_800]);
    assert_eq!(waits(2_000), [64, 120, 240, 600, 1_200, 3_600, 3_600, 3_600]);
}

proptest! {
    #[test]
    fn adaptive_waits_stay_within_half_and_twice_the_usual_ones(
        attempt in 1_u32..40,
        factor_permille in 500_u32..=2_000,
        own_waits_s in prop::collection::vec(0_u64..20_000, 0..12),
        max_backoff_s in 1_u64..10_000,
        draw: u64,
    ) {
        let settings = ScheduleSettings { own_waits_s, max_backoff_s, jitter_percent: 10, ..settings() };
        let usual = Schedule::from(settings.clone());
        let adapted = usual.clone().at_pace(factor_permille);
        let (usual_wait, wait) = (usual.wait_before(attempt), adapted.wait_before(attempt));
        prop_assert!(usual_wait / 2 <= wait && wait <= usual_wait * 2);
        prop_assert!(wait <= usual_wait.max(Duration::from_secs(max_backoff_s)));
        let jittered = adapted.jittered_wait_before(attempt, None, draw);
        prop_assert!(wait.mul_f64(0.899) <= jittered && jittered <= wait.mul_f64(1.101));
    }
}
