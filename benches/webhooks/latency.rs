//! From commit to arrival, in quiet times and beside endpoints that hang.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::house::{Hook, House, config};
use crate::options::Options;
use crate::report::{Times, load, median};
use crate::station::Station;

/// The receiver's group of the endpoint whose latency is measured.
const HEALTHY: usize = 0;
/// That of those that hang.
const HUNG: usize = 1;
/// Events a second to the healthy endpoint beside those that hang.
const RATE: f64 = 100.0;
/// Events that each endpoint has waiting when it begins to hang: as many as it may have in flight, and one more.
const BURST: u64 = 17;
/// How long it is looked apart what happens when all of them begin to hang.
const BEGINNING: f64 = 1.5;
/// Webhooks that each endpoint takes at once before it begins to hang: more than it takes until it counts as quick, also
/// when it has hung before.
const TAKEN_BEFORE: u64 = 32;
/// Turns beside hung endpoints and without.
const TURNS: usize = 2;

/// Makes events at a fixed rate and looks when they come. Numbers are from `first` on.
async fn open_loop(house: &Arc<House>, station: &Station, hook: &Hook, first: u64, rate: f64, seconds: f64) -> Times {
    let count = (rate * seconds) as u64;
    station.drain(HEALTHY).await;
    let began = Instant::now();
    let mut commits = Vec::new();
    for number in 0..count {
        tokio::time::sleep_until(began + Duration::from_secs_f64(number as f64 / rate)).await;
        let (house, hook) = (Arc::clone(house), hook.clone());
        commits.push(tokio::spawn(async move { (first + number, house.publish(&[(&hook, first + number)]).await) }));
    }
    let mut durable = HashMap::new();
    for commit in commits {
        let (number, at_us) = commit.await.expect("a commit");
        durable.insert(number, at_us);
    }
    station.until(HEALTHY, count).await;
    let arrivals = station.drain(HEALTHY).await;
    Times::new(arrivals.iter().map(|(number, at_us)| at_us.saturating_sub(durable[number])).collect())
}

/// An open house and one endpoint in it that has taken a webhook.
async fn begin(options: &Options, station: &Station) -> (tempfile::TempDir, Arc<House>, Hook) {
    let directory = tempfile::tempdir_in(&options.dir).expect("a directory");
    let house = Arc::new(House::open(config(&directory.path().join("data"))).await);
    station.set(HEALTHY, "take").await;
    station.drain(HEALTHY).await;
    let hook = house.hooks(vec![station.url(HEALTHY, 0)]).await.remove(0);
    house.publish(&[(&hook, 0)]).await;
    station.until(HEALTHY, 1).await;
    (directory, house, hook)
}

pub async fn measure(options: &Options, station: &Station) {
    let (_directory, house, hook) = begin(options, station).await;
    println!("\nfrom commit to arrival, one endpoint, {} s at each rate", options.seconds);
    let mut first = 1;
    for rate in [100.0, 1_000.0] {
        // Warm, and not the first of its kind.
        open_loop(&house, station, &hook, first, rate, 0.5).await;
        first += rate as u64;
        let times = open_loop(&house, station, &hook, first, rate, options.seconds).await;
        first += (rate * options.seconds) as u64;
        println!("  {rate:>5}/s: {}", times.line());
    }
    house.gateway.stop().await.expect("a stop in order");
}

pub async fn beside_hung(options: &Options, station: &Station) {
    let (_directory, house, hook) = begin(options, station).await;
    let hung = options.hung;
    println!("\nfrom commit to arrival at {RATE}/s, alone and beside {hung} endpoints that hang");
    station.set(HUNG, "take").await;
    station.drain(HUNG).await;
    let hooks = house.hooks((1..=hung).map(|number| station.url(HUNG, number)).collect()).await;
    let whose = |number: u64| &hooks[usize::try_from(number).unwrap_or(0) % hooks.len()];
    let (mut alone, mut beside, mut beginnings) = (Vec::new(), Vec::new(), Vec::new());
    let (mut first, mut next_hung) = (1, 0);
    for turn in 1..=TURNS {
        // Nobody holds them for suspect.
        let taken = next_hung..next_hung + TAKEN_BEFORE * hung as u64;
        next_hung = taken.end;
        house.publish_all(taken, whose).await;
        station.until(HUNG, TAKEN_BEFORE * hung as u64).await;
        let times = open_loop(&house, station, &hook, first, RATE, options.seconds).await;
        first += 1_000_000;
        println!("  {turn}: alone:                    {}", times.line());
        alone.push(times.p99_ms());

        station.set(HUNG, "hang").await;
        let burst = next_hung..next_hung + BURST * hung as u64;
        next_hung = burst.end;
        let beginning = open_loop(&house, station, &hook, first, RATE, BEGINNING);
        let (times, ()) = tokio::join!(beginning, house.publish_all(burst, whose));
        first += 1_000_000;
        println!("  {turn}: while they begin to hang: {}", times.line());
        beginnings.push(times.max_ms());

        // Each of them gets something new every second.
        let seconds = options.seconds.ceil() as u64;
        let from = next_hung;
        next_hung += seconds * hung as u64;
        let feeding = async {
            for second in 0..seconds {
                let from = from + second * hung as u64;
                house.publish_all(from..from + hung as u64, whose).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let measuring = open_loop(&house, station, &hook, first, RATE, options.seconds);
        let (times, ()) = tokio::join!(measuring, feeding);
        first += 1_000_000;
        println!("  {turn}: beside those that hang:   {}", times.line());
        beside.push(times.p99_ms());
        station.set(HUNG, "take").await;
        station.until_quiet(HUNG, Duration::from_secs(2), Duration::from_secs(15)).await;
        station.drain(HUNG).await;
    }
    let (alone, beside) = (median(alone), median(beside));
    println!(
        "  medians: p99 {alone:.2} ms alone, {beside:.2} ms beside {hung} that hang ({:.2} ×, {:+.2} ms); slowest while they begin \
         {:.0} ms; load {}",
        beside / alone,
        beside - alone,
        median(beginnings),
        load()
    );
    // What hangs still is not waited for.
    let _ = house.gateway.stop().await;
}
