//! Channels die, slow down, decline more and come back: who sends payments where, in virtual time. `cargo bench --bench
//! outage` prints the figures of a longer run.
#![allow(clippy::expect_used, reason = "a test")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "figures")]

#[path = "../benches/outage/model.rs"]
mod model;

use model::{Back, CHANNELS, Figures, Incident, Plan, Scenario, run};

const DEAD: usize = Incident::Dead as usize;
const SLOW: usize = Incident::Slow as usize;
const DECLINING: usize = Incident::Declining as usize;

fn scenario(failover_max: usize, fees: [&'static str; CHANNELS]) -> Scenario {
    Scenario { seed: 7, rate_per_s: 4, calm_s: 900, incident_s: 600, failover_max, fees }
}

#[test]
fn ours_keeps_payments_from_ill_channels_and_gives_them_their_traffic_back() {
    let scenario = scenario(0, ["2.9"; CHANNELS]);
    let [ours, round_robin, priority] = Plan::ALL.map(|plan| run(&scenario, plan));
    for (plan, figures) in Plan::ALL.iter().zip([&ours, &round_robin, &priority]) {
        assert_eq!(figures.all.payments, scenario.payments(), "{}: every payment ends once", plan.as_str());
    }
    // Of the others a quarter of the payments goes to the ill channel: always, or all of them in a quarter of the incidents.
    for incident in [DEAD, SLOW, DECLINING] {
        for others in [&round_robin, &priority] {
            let share = others.incidents[incident].share_sent_to_it();
            assert!((0.24..=0.26).contains(&share), "{share}");
        }
    }
    let (dead, slow, declining) = (&ours.incidents[DEAD], &ours.incidents[SLOW], &ours.incidents[DECLINING]);
    assert!(dead.share_sent_to_it() < 0.02, "{}", dead.share_sent_to_it());
    assert!(slow.share_sent_to_it() < 0.10, "{}", slow.share_sent_to_it());
    assert!(declining.share_sent_to_it() < 0.15, "{}", declining.share_sent_to_it());
    for others in [&round_robin, &priority] {
        assert!(ours.all.failed * 10 < others.all.failed, "{} and {}", ours.all.failed, others.all.failed);
        assert!(ours.all.approved > others.all.approved);
        assert!(declining.approvals() > others.incidents[DECLINING].approvals());
        assert!(ours.all.p99_ms() < others.all.p99_ms());
    }
    // All are back, each time: once dead, when the breaker has let one try, at most five minutes later.
    assert_all_back(&ours, [420, 300, 600]);
    assert_eq!(round_robin.back[DEAD].len(), CHANNELS);
    assert!(round_robin.back[DEAD].iter().all(|back| *back == Back::After(0)), "it never took it away");
}

/// Each channel had at least half of its usual share for a minute again that many seconds after each incident, and did not
/// have it before.
fn assert_all_back(figures: &Figures, bounds_s: [u64; 3]) {
    for (incident, bound_s) in [DEAD, SLOW, DECLINING].into_iter().zip(bounds_s) {
        let times = &figures.back[incident];
        let in_time = |back: &Back| matches!(back, Back::After(seconds) if *seconds <= bound_s);
        assert!(times.len() == CHANNELS && times.iter().all(in_time), "{:?}: {times:?}", Incident::ALL[incident]);
    }
    assert_eq!((figures.too_early[DEAD], figures.too_early[DECLINING]), (0, 0), "no turning back and forth");
}

#[test]
fn with_ten_payments_a_second_a_channel_that_declined_is_back_within_six_minutes() {
    for seed in [1, 2] {
        let rate = Scenario { seed, rate_per_s: 10, calm_s: 600, ..scenario(0, ["2.9"; CHANNELS]) };
        let ours = run(&rate, Plan::Tollgate);
        assert_all_back(&ours, [420, 300, 360]);
        let share = ours.incidents[DECLINING].share_sent_to_it();
        assert!(share < 0.02, "what it costs to know: {share}");
    }
}

#[test]
fn the_cheapest_of_channels_that_are_equally_good_takes_what_it_can() {
    let scenario = scenario(0, ["2.0", "2.4", "2.8", "3.2"]);
    let ours = run(&scenario, Plan::Tollgate);
    // It is ill for a tenth of the time; then the next one takes it.
    assert!(ours.fees_percent() < 2.07, "{}", ours.fees_percent());
}

#[test]
fn further_channels_save_payments_for_everybody_and_ours_needs_them_least() {
    let scenario = scenario(2, ["2.0", "2.4", "2.8", "3.2"]);
    let [ours, round_robin, priority] = Plan::ALL.map(|plan| run(&scenario, plan));
    assert!(ours.all.approved >= round_robin.all.approved.min(priority.all.approved));
    assert!(ours.incidents[DEAD].share_sent_to_it() * 5.0 < round_robin.incidents[DEAD].share_sent_to_it());
    assert!(ours.all.p99_ms() <= round_robin.all.p99_ms() && ours.all.p99_ms() <= priority.all.p99_ms());
    assert!(ours.fees_percent() < round_robin.fees_percent());
}

#[test]
fn a_seed_gives_the_same_figures_again_and_another_one_gives_others() {
    let figures = |seed: u64| {
        let scenario = Scenario { seed, ..scenario(1, ["2.9"; CHANNELS]) };
        let scenario = Scenario { calm_s: 300, incident_s: 300, ..scenario };
        let Figures { all, fees_minor, back, .. } = run(&scenario, Plan::Tollgate);
        (all.approved, all.failed, all.sent_to_it, all.p99_ms(), fees_minor, back)
    };
    assert_eq!(figures(1), figures(1));
    assert_ne!(figures(1), figures(2));
}
