//! Deliveries a second, beside the bare loop.

use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::Clock;
use tollgate::gateway::webhooks::SettableStatus;
use tollgate::storage::Store;

use crate::bare::Bare;
use crate::house::{House, config};
use crate::options::Options;
use crate::report::{load, median};
use crate::station::{Arrivals, Station};

/// Of the receiver.
const GROUP: usize = 0;
/// What is left to do after the last arrival, such as its commit, belongs to the processor time.
const SETTLE: Duration = Duration::from_millis(300);

/// What one turn came to.
#[derive(Clone, Copy)]
struct Turn {
    per_s: f64,
    /// Processor time of the sender for each, in microseconds.
    cpu_us: f64,
    journal_bytes: f64,
}

/// Measures with so many endpoints.
pub async fn measure(options: &Options, station: &Station, endpoints: usize) {
    let directory = tempfile::tempdir_in(&options.dir).expect("a directory");
    let config = config(&directory.path().join("data"));
    let webhook = config.webhook.clone();
    let in_flight = webhook.in_flight_max.min(webhook.endpoint_in_flight_max * endpoints);
    let house = House::open(config).await;
    let bare = Bare::new(&webhook);
    let urls: Vec<String> = (1..=endpoints).map(|number| station.url(GROUP, number)).collect();
    let hooks = house.hooks(urls.clone()).await;
    let urls = Arc::new(urls);
    let whose = |number: u64| &hooks[usize::try_from(number).unwrap_or(0) % hooks.len()];
    // Each endpoint takes one: until then it counts as unknown, and connections are there.
    let first = endpoints as u64;
    house.publish_all(0..first, whose).await;
    station.until(GROUP, first).await;
    station.drain(GROUP).await;
    bare.send(&urls, first.max(1_000), in_flight).await;
    station.drain(GROUP).await;
    println!("\n{endpoints} endpoints, {} webhooks a turn, {in_flight} in flight", options.count);
    let clock = Clock::system();
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for turn in 0..options.turns {
        // Whoever is second finds the machine as the first has left it, so they take turns in that, too.
        let order = if turn % 2 == 0 { [true, false] } else { [false, true] };
        for is_bare in order {
            if is_bare {
                let cpu = clock.processor_time();
                bare.send(&urls, options.count, in_flight).await;
                let cpu = clock.processor_time().saturating_sub(cpu);
                let turn = turn_of(&station.drain(GROUP).await, options.count, cpu, 0);
                println!("  bare loop: {}", line(turn));
                bares.push(turn);
                continue;
            }
            house.set_status(&hooks, SettableStatus::Paused).await;
            let from = first + options.count * turn as u64;
            house.publish_all(from..from + options.count, whose).await;
            house.applied().await;
            let (cpu, journal) = (clock.processor_time(), house.engine.health().journal_bytes_written);
            house.set_status(&hooks, SettableStatus::Enabled).await;
            station.until(GROUP, options.count).await;
            tokio::time::sleep(SETTLE).await;
            let cpu = clock.processor_time().saturating_sub(cpu);
            let journal = house.engine.health().journal_bytes_written - journal;
            let turn = turn_of(&station.drain(GROUP).await, options.count, cpu, journal);
            println!("  tollgate:  {}", line(turn));
            ours.push(turn);
        }
    }
    let of = |turns: &[Turn], value: fn(&Turn) -> f64| median(turns.iter().map(value).collect());
    let ratios = ours.iter().zip(&bares).map(|(our, bare)| our.per_s / bare.per_s).collect();
    println!(
        "  medians: tollgate {:.0}/s, bare loop {:.0}/s, ratio of a turn {:.2}; CPU {:.0} and {:.0} µs, journal {:.0} bytes a \
         delivery; load {}",
        of(&ours, |turn| turn.per_s),
        of(&bares, |turn| turn.per_s),
        median(ratios),
        of(&ours, |turn| turn.cpu_us),
        of(&bares, |turn| turn.cpu_us),
        of(&ours, |turn| turn.journal_bytes),
        load()
    );
    house.gateway.stop().await.expect("a stop in order");
}

/// Between the first arrival and the last.
fn turn_of(arrivals: &Arrivals, count: u64, cpu: Duration, journal_bytes: u64) -> Turn {
    assert_eq!(arrivals.len() as u64, count, "each comes once");
    let times = || arrivals.iter().map(|(_, at_us)| *at_us);
    let took_us = times().max().unwrap_or(0) - times().min().unwrap_or(0);
    let count = count as f64;
    Turn {
        per_s: count / (took_us.max(1) as f64 / 1e6),
        cpu_us: cpu.as_micros() as f64 / count,
        journal_bytes: journal_bytes as f64 / count,
    }
}

fn line(turn: Turn) -> String {
    let Turn { per_s, cpu_us, journal_bytes } = turn;
    format!("{per_s:>7.0}/s, CPU {cpu_us:>4.0} µs, journal {journal_bytes:>5.0} bytes each, load {}", load())
}
