//! What a flood of one merchant does to another: a quiet merchant reads its limits at a fixed rate, open loop, while a
//! merchant of the smallest tier asks as fast as it is answered, which is nearly always 429.
//!
//! In turns: nobody floods; the flood asks the same gateway; the flood asks the bare handler beside it, which takes as
//! much of the machine without touching the gateway; and, for what axum alone does, quiet and flood both at the bare
//! handler. Client and servers share the processors, so only the second beside the third says what a merchant does to
//! another *within* the gateway.

use std::time::Duration;

use crate::drive::{Load, Measured, Pace, Target, drive};
use crate::options::Options;
use crate::report::median;
use crate::request::Kind;
use crate::server::Contestant;

/// The flood begins so long before the quiet merchant is measured, and ends as much after.
const LEAD: Duration = Duration::from_millis(300);
const WARM_UP: Duration = Duration::from_millis(1500);
const QUIET_CONNECTIONS: usize = 16;

struct Scenario {
    name: &'static str,
    quiet: Target,
    flood: Option<Target>,
    turns: Vec<(Measured, Option<Measured>, f64)>,
}

/// Carries it out; answers how many answers were wrong.
pub fn run(options: &Options, gateway: &Contestant, bare: &Contestant) -> u64 {
    let quiet = gateway.target().clone();
    let flooding = gateway.flooding();
    let scenario = |name, quiet: &Target, flood: Option<&Target>| Scenario {
        name,
        quiet: quiet.clone(),
        flood: flood.cloned(),
        turns: Vec::new(),
    };
    let mut scenarios = [
        scenario("quiet alone", &quiet, None),
        scenario("flood beside it", &quiet, Some(&flooding)),
        scenario("flood at bare axum", &quiet, Some(bare.target())),
        scenario("both at bare axum", bare.target(), Some(bare.target())),
    ];
    for scenario in &scenarios {
        measure(options, scenario, WARM_UP);
    }
    let length = Duration::from_secs_f64(options.seconds);
    for turn in 0..options.turns {
        for index in 0..scenarios.len() {
            let scenario = &mut scenarios[(index + turn) % 4];
            let before = gateway.cpu_s();
            let (quiet, flood) = measure(options, scenario, length);
            let cpu_s = gateway.cpu_s() - before;
            println!("{}", quiet.line("quiet", turn, scenario.name));
            if let Some(flood) = &flood {
                println!("{}  {} let through", flood.line("flood", turn, ""), flood.let_through);
            }
            scenario.turns.push((quiet, flood, cpu_s));
            gateway.settle();
        }
    }
    print(options, &scenarios);
    let wrong = |(quiet, flood, _): &(Measured, Option<Measured>, f64)| {
        quiet.wrong + flood.as_ref().map_or(0, |flood| flood.wrong)
    };
    scenarios.iter().flat_map(|scenario| &scenario.turns).map(wrong).sum()
}

fn measure(options: &Options, scenario: &Scenario, length: Duration) -> (Measured, Option<Measured>) {
    let quiet = Load {
        kind: Kind::Limits,
        pace: Pace::Open { per_s: options.quiet_rate },
        length,
        connections: QUIET_CONNECTIONS,
        threads: 1,
    };
    let pace = if options.flood_rate > 0.0 { Pace::Open { per_s: options.flood_rate } } else { Pace::Closed };
    std::thread::scope(|scope| {
        let flood = scenario.flood.as_ref().map(|target| {
            let flood = Load {
                kind: Kind::Flood,
                pace,
                length: length + 2 * LEAD,
                connections: options.connections,
                threads: 1,
            };
            scope.spawn(move || drive(target, &flood))
        });
        std::thread::sleep(LEAD);
        let quiet = drive(&scenario.quiet, &quiet);
        (quiet, flood.map(|flood| flood.join().expect("the flood")))
    })
}

fn print(options: &Options, scenarios: &[Scenario]) {
    let pace = if options.flood_rate > 0.0 { format!("{}/s", options.flood_rate) } else { "closed loop".to_owned() };
    println!("\nquiet at {}/s, flood {pace} on {} connections; ms", options.quiet_rate, options.connections);
    println!(
        "{:<20}{:>10}{:>10}{:>10}{:>12}{:>12}{:>14}{:>12}{:>12}",
        "", "p50", "p99", "p99.9", "p50/alone", "p99/alone", "p99.9/alone", "flood/s", "gateway CPU"
    );
    for scenario in scenarios {
        print!("{:<20}", scenario.name);
        for percent in [50.0, 99.0, 99.9] {
            print!("{:>10.2}", median(scenario.turns.iter().map(|(quiet, ..)| quiet.latency_ms(percent)).collect()));
        }
        for (percent, width) in [(50.0, 12), (99.0, 12), (99.9, 14)] {
            let alone = &scenarios[0].turns;
            let ratios = scenario.turns.iter().zip(alone);
            let ratios = ratios.map(|((quiet, ..), (alone, ..))| quiet.latency_ms(percent) / alone.latency_ms(percent));
            print!("{:>width$.2}", median(ratios.collect()));
        }
        let floods: Vec<f64> =
            scenario.turns.iter().map(|(_, flood, _)| flood.as_ref().map_or(0.0, Measured::per_s)).collect();
        let share = |(quiet, _, cpu_s): &(Measured, Option<Measured>, f64)| 100.0 * cpu_s / quiet.elapsed_s;
        print!("{:>12.0}", median(floods));
        println!("{:>11.0}%", median(scenario.turns.iter().map(share).collect()));
    }
}
