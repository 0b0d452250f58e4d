//! What is shed, in which order, and that it settles.

use proptest::prelude::*;

use super::*;

const TARGETS: Targets = Targets {
    mailbox_delay: Duration::from_millis(50),
    commit: Duration::from_millis(500),
    lag: Duration::from_millis(50),
    rise: Duration::from_secs(20),
    fall: Duration::from_secs(60),
};
const LOOK: Duration = Duration::from_millis(500);

fn waiting(mailbox_delay_ms: u64) -> Signals {
    Signals { mailbox_delay: Duration::from_millis(mailbox_delay_ms), ..Signals::default() }
}

#[test]
fn each_class_is_shed_wholly_before_the_next_begins() {
    for severity in 0..=SEVERITY_MAX {
        for pair in Worth::ALL.windows(2) {
            let (less, more) = (shed_permille(severity, pair[0]), shed_permille(severity, pair[1]));
            assert!(more == 0 || less == 1_000, "{severity}: {pair:?} {less} {more}");
        }
        for worth in Worth::ALL {
            assert!(shed_permille(severity, worth) <= shed_permille(severity + 1, worth), "{severity} {worth:?}");
        }
    }
    let shares = |severity| Worth::ALL.map(|worth| shed_permille(severity, worth));
    assert_eq!(shares(0), [0, 0, 0, 0, 0]);
    assert_eq!(shares(100), [500, 0, 0, 0, 0]);
    assert_eq!(shares(200), [1_000, 0, 0, 0, 0]);
    assert_eq!(shares(700), [1_000, 1_000, 1_000, 500, 0]);
    assert_eq!(shares(800), [1_000, 1_000, 1_000, 1_000, 0]);
    assert_eq!(shares(SEVERITY_MAX), [1_000, 1_000, 1_000, 1_000, 900]);
    assert_eq!(shares(u32::MAX), shares(SEVERITY_MAX));
}

#[test]
fn who_is_shed_comes_back_later_the_worse_it_is_and_not_together() {
    for (severity, latest) in [(0, 1), (1, 2), (250, 2), (251, 3), (1_000, 5), (u32::MAX, 5)] {
        let waits: std::collections::BTreeSet<u64> = (0..1_000).map(|draw| retry_after_s(severity, draw)).collect();
        assert_eq!(waits, (1..=latest).collect(), "{severity}");
    }
}

#[test]
fn late_timers_count_only_while_the_processors_are_all_in_use() {
    let late =
        |processor_permille| Signals { lag: Duration::from_millis(150), processor_permille, ..Signals::default() };
    assert_eq!(late(1_000).pressure(&TARGETS), 3_000);
    assert_eq!(late(950).pressure(&TARGETS), 3_000);
    assert_eq!(late(949).pressure(&TARGETS), 0);
    let busy = Signals { processor_permille: 1_000, ..Signals::default() };
    assert_eq!(busy.pressure(&TARGETS), 0);
}

#[test]
fn the_worst_signal_counts() {
    let signals = Signals {
        mailbox_delay: Duration::from_millis(25),
        commit: Duration::from_millis(1_000),
        lag: Duration::from_secs(60),
        processor_permille: 10,
    };
    assert_eq!(signals.pressure(&TARGETS), 2_000);
}

#[test]
fn a_hiccup_sheds_nothing() {
    let mut controller = Controller::default();
    for _ in 0..10 {
        assert_eq!(controller.observe(&waiting(60_000), &TARGETS, Duration::from_secs(3_600)), 0);
        assert_eq!(controller.observe(&waiting(30), &TARGETS, LOOK), 0);
    }
    controller.observe(&waiting(60_000), &TARGETS, LOOK);
    assert_eq!(controller.observe(&waiting(60_000), &TARGETS, LOOK), 25);
}

#[test]
fn slow_up_and_slower_down() {
    let mut controller = Controller::default();
    controller.observe(&waiting(1_000), &TARGETS, LOOK);
    for expected in (25..=1_000).step_by(25) {
        assert_eq!(controller.observe(&waiting(1_000), &TARGETS, LOOK), expected);
    }
    let looks_to = |severity: u32, delay_ms: u64| {
        let mut controller = controller;
        let mut looks = 0;
        while controller.severity() > severity {
            assert!(looks < 10_000, "{delay_ms}: it stays at {}", controller.severity());
            controller.observe(&waiting(delay_ms), &TARGETS, LOOK);
            looks += 1;
        }
        looks
    };
    for delay_ms in [0, 24] {
        assert_eq!(looks_to(0, delay_ms), 120, "{delay_ms}: a minute");
    }
    for delay_ms in [25, 40, 50] {
        assert_eq!(looks_to(0, delay_ms), 480, "{delay_ms}: four minutes");
    }
    // As far as the signal lets it: twice the target wants 250.
    assert_eq!(looks_to(250, 100), 360);
}

#[test]
fn after_a_spell_the_same_load_ends_where_it_would_have_without_it() {
    for delay_ms in [0, 24, 25, 49, 50, 51, 60, 100, 150, 249, 250, 1_000] {
        let (mut steady, mut stalled) = (Controller::default(), Controller::default());
        for _ in 0..60 {
            stalled.observe(&waiting(5_000), &TARGETS, LOOK);
        }
        assert_eq!(stalled.severity(), SEVERITY_MAX);
        // Four minutes: the slowest fall of all.
        for _ in 0..480 {
            steady.observe(&waiting(delay_ms), &TARGETS, LOOK);
            stalled.observe(&waiting(delay_ms), &TARGETS, LOOK);
        }
        let wanted = u32::try_from(delay_ms.saturating_sub(50) * 5).unwrap().min(SEVERITY_MAX);
        assert_eq!((steady.severity(), stalled.severity()), (wanted, wanted), "{delay_ms}");
    }
}

#[test]
fn how_bad_it_is_bounds_what_is_shed() {
    // The disk is slow whatever is shed: at twice the target lists and a quarter of the queries.
    let mut controller = Controller::default();
    for _ in 0..1_000 {
        let slow = Signals { commit: Duration::from_secs(1), ..Signals::default() };
        controller.observe(&slow, &TARGETS, LOOK);
    }
    assert_eq!(controller.severity(), 250);
}

/// Something that says how much to shed.
trait Sheds {
    fn look(&mut self, signals: &Signals) -> u32;
}

impl Sheds for Controller {
    fn look(&mut self, signals: &Signals) -> u32 {
        self.observe(signals, &TARGETS, LOOK)
    }
}

/// What is written first when load is to be shed.
struct OnOff;

impl Sheds for OnOff {
    fn look(&mut self, signals: &Signals) -> u32 {
        if signals.pressure(&TARGETS) > AT_TARGET { 400 } else { 0 }
    }
}

/// A node that does a thousand requests a second and lets the others wait. Answers the severity at each look.
fn drive(sheds: &mut dyn Sheds, looks: usize, arriving_per_s: impl Fn(usize) -> f64) -> Vec<u32> {
    const PER_S: f64 = 1_000.0;
    const MIX: [f64; 5] = [0.4, 0.3, 0.05, 0.2, 0.05];
    let (mut waiting_requests, mut severity) = (0.0_f64, 0);
    let mut severities = Vec::new();
    for look in 0..looks {
        let kept = |worth: Worth| 1.0 - f64::from(shed_permille(severity, worth)) / 1_000.0;
        let share: f64 = Worth::ALL.iter().map(|worth| MIX[worth.index()] * kept(*worth)).sum();
        waiting_requests += (arriving_per_s(look) * share - PER_S) * LOOK.as_secs_f64();
        // No more are in the house at once.
        waiting_requests = waiting_requests.clamp(0.0, 2_048.0);
        let delay = Duration::from_secs_f64(waiting_requests / PER_S);
        severity = sheds.look(&Signals { mailbox_delay: delay, ..Signals::default() });
        severities.push(severity);
    }
    severities
}

/// How far it went up and down altogether.
fn travelled(severities: &[u32]) -> u32 {
    severities.windows(2).map(|pair| pair[0].abs_diff(pair[1])).sum()
}

#[test]
fn a_step_of_load_settles_where_a_switch_flaps() {
    for arriving_per_s in [1_100.0, 1_500.0, 2_500.0] {
        let mut controller = Controller::default();
        // 200 s of it, then half of what the node can do.
        let step = |look| if look < 400 { arriving_per_s } else { 500.0 };
        let severities = drive(&mut controller, 600, step);
        let settled = &severities[120..400];
        let (least, most) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
        assert!(*least > 0 && most - least <= 60, "{arriving_per_s}: {least} to {most}");
        assert!(*most < 600, "{arriving_per_s}: new payments are let in");
        assert_eq!(severities[599], 0, "and then it is over");
        let episodes = severities.windows(2).filter(|pair| pair[0] == 0 && pair[1] > 0).count();
        assert_eq!(episodes, 1, "{arriving_per_s}");
        let switched = drive(&mut OnOff, 600, step);
        let flaps = switched.windows(2).filter(|pair| pair[0] == 0 && pair[1] > 0).count();
        assert!(flaps > 20, "{arriving_per_s}: {flaps}");
        assert!(travelled(&switched[120..400]) > 10 * travelled(settled), "{arriving_per_s}");
    }
}

fn any_signals() -> impl Strategy<Value = Signals> {
    let ms = || prop_oneof![0_u64..2_000, Just(0), Just(u64::MAX / 2_000)];
    (ms(), ms(), ms(), 0_u32..1_100).prop_map(|(mailbox_delay_ms, commit_ms, lag_ms, processor_permille)| Signals {
        mailbox_delay: Duration::from_millis(mailbox_delay_ms),
        commit: Duration::from_millis(commit_ms),
        lag: Duration::from_millis(lag_ms),
        processor_permille,
    })
}

proptest! {
    #[test]
    fn what_is_shed_grows_with_severity_and_shrinks_with_worth(
        severity in 0..=SEVERITY_MAX, more in 0..=SEVERITY_MAX, draw: u64
    ) {
        for worth in Worth::ALL {
            prop_assert!(!sheds(severity, worth, draw) || sheds(severity + more, worth, draw));
        }
        for pair in Worth::ALL.windows(2) {
            prop_assert!(!sheds(severity, pair[1], draw) || sheds(severity, pair[0], draw));
        }
    }

    #[test]
    fn no_step_is_larger_than_the_rate(
        looks in prop::collection::vec((any_signals(), 0_u64..3_000), 1..200), rise_s in 1_u64..100, fall_s in 1_u64..100
    ) {
        let targets =
            Targets { rise: Duration::from_secs(rise_s), fall: Duration::from_secs(fall_s), ..TARGETS };
        let mut controller = Controller::default();
        for (signals, elapsed_ms) in looks {
            let before = controller.severity();
            let after = controller.observe(&signals, &targets, Duration::from_millis(elapsed_ms));
            prop_assert!(after <= SEVERITY_MAX);
            let counted_ms = elapsed_ms.min(1_000);
            // One for what is rounded away.
            prop_assert!(u64::from(after.saturating_sub(before)) <= counted_ms / rise_s + 1);
            prop_assert!(u64::from(before.saturating_sub(after)) <= counted_ms / fall_s + 1);
            let pressure = signals.pressure(&targets);
            prop_assert!(after <= before || pressure > AT_TARGET);
            let wanted = pressure.saturating_sub(AT_TARGET).saturating_mul(WANTED_PER_PRESSURE).min(LEVEL_MAX) / FINE;
            prop_assert!(after >= before || u64::from(after) >= wanted, "no further than to what is wanted");
            if pressure >= CALM {
                prop_assert!(u64::from(before.saturating_sub(after)) <= counted_ms / (4 * fall_s) + 1);
            }
        }
    }

    #[test]
    fn more_pressure_never_sheds_less(delays_ms in prop::collection::vec((0_u64..400, 0_u64..400), 1..200)) {
        let (mut lower, mut higher) = (Controller::default(), Controller::default());
        for (delay_ms, more_ms) in delays_ms {
            let less = lower.observe(&waiting(delay_ms), &TARGETS, LOOK);
            let more = higher.observe(&waiting(delay_ms + more_ms), &TARGETS, LOOK);
            prop_assert!(less <= more);
        }
    }
}
