//! What becomes of payments while channels die, slow down and decline more, and come back: our routing beside a plain round
//! robin and a static priority list, with the same payments and the same luck.
//!
//! `cargo bench --bench outage`; environment: `SEED` (1), `RATE` (10 payments a second). Virtual time: the figures are the
//! same on every machine. `model.rs` says what happens; `tests/outage.rs` holds the ordering.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that measures and prints")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "figures")]

mod model;

use model::{Back, CHANNELS, Figures, Incident, Plan, Scenario, run};

fn main() {
    let from_environment =
        |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (seed, rate_per_s) = (from_environment("SEED", 1), from_environment("RATE", 10));
    for (title, fees) in [("equal fees", ["2.9"; CHANNELS]), ("2.0, 2.4, 2.8 and 3.2 %", ["2.0", "2.4", "2.8", "3.2"])]
    {
        for failover_max in [0, 2] {
            let scenario = Scenario { seed, rate_per_s, calm_s: 1_800, incident_s: 1_200, failover_max, fees };
            let hours = scenario.seconds() as f64 / 3_600.0;
            let channels = if failover_max == 0 { "one channel a payment" } else { "up to two more channels" };
            println!("\n### {title}, {channels}: {} payments in {hours} h, seed {seed}\n", scenario.payments());
            print(&Plan::ALL.map(|plan| (plan, run(&scenario, plan))));
        }
    }
}

fn print(runs: &[(Plan, Figures)]) {
    println!("| | {} |", runs.iter().map(|(plan, _)| plan.as_str()).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(runs.len()));
    let row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        println!("| {name} | {} |", runs.iter().map(|(_, figures)| cell(figures)).collect::<Vec<_>>().join(" | "));
    };
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let [dead, slow, declining] = Incident::ALL.map(|incident| incident as usize);
    row("sent to the dead channel while it was dead", &|figures| percent(figures.incidents[dead].share_sent_to_it()));
    row("sent to the slow channel while it was slow", &|figures| percent(figures.incidents[slow].share_sent_to_it()));
    row("sent to the declining channel while it declined", &|figures| {
        percent(figures.incidents[declining].share_sent_to_it())
    });
    row("payments failed, in all", &|figures| figures.all.failed.to_string());
    row("approved, in all", &|figures| percent(figures.all.approvals()));
    row("approved while one was dead", &|figures| percent(figures.incidents[dead].approvals()));
    row("approved while one declined", &|figures| percent(figures.incidents[declining].approvals()));
    row("p99, in all", &|figures| format!("{:.1} s", f64::from(figures.all.p99_ms()) / 1_000.0));
    row("p99 while one was slow", &|figures| format!("{:.1} s", f64::from(figures.incidents[slow].p99_ms()) / 1_000.0));
    row("traffic back after being dead, median / longest", &|figures| times(&figures.back[dead]));
    row("after being slow", &|figures| times(&figures.back[slow]));
    row("after declining", &|figures| times(&figures.back[declining]));
    row("had it back too early, after declining", &|figures| figures.too_early[declining].to_string());
    row("lost it again while all were well", &|figures| figures.lost_again.to_string());
    row("fees, of what was charged", &|figures| format!("{:.3} %", figures.fees_percent()));
}

fn times(back: &[Back]) -> String {
    let mut sorted: Vec<u64> = back
        .iter()
        .map(|back| match back {
            Back::After(seconds) => *seconds,
            Back::Never => u64::MAX,
        })
        .collect();
    sorted.sort_unstable();
    let in_words =
        |seconds: u64| if seconds == u64::MAX { String::from("not in time") } else { format!("{seconds} s") };
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(median), Some(longest)) => format!("{} / {}", in_words(*median), in_words(*longest)),
        _ => String::from("–"),
    }
}
