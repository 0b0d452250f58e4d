//! What a pre-auth costs beside its channel: signed requests over real sockets, durable on a real disk.
//!
//! `cargo bench --bench pre_auths [-- --count N --seconds S --turns N --connections C --dir DIR]`, about half a minute. The
//! gateway and its HTTP server run in this process, over a channel that is timed: of kind `instant`, and the Stripe adapter
//! over the emulator, which answers without latency and runs in this process, too. Every pre-auth is created and all of it
//! captured; each answer is checked. Measured is
//! - *own share*: one client, one request after the other: the time from writing a request to having read its answer, less
//!   what the channel's call took;
//! - *rate*: pre-auths a second, created and captured, in a closed loop of many connections; over the emulator in turns (A B A
//!   B …) with a bare loop that makes the same calls of the same adapter to the same emulator and does nothing else.
//!
//! docs/benchmarks.md explains the figures.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

mod bare;
mod client;
mod house;
#[allow(dead_code, reason = "shared with another bench")]
#[path = "../load/http.rs"]
mod http;
mod options;
mod report;
mod timed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bare::Bare;
use client::Client;
use house::{House, Over};
use options::Options;
use report::{Times, load, median};
use timed::Call;

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pre-auths before anything is measured, so that connections, caches and the first segment are there.
const WARM_UP: u64 = 50;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs benches too, without this.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run with: cargo bench --bench pre_auths");
        return;
    }
    let options = Options::read(&arguments);
    println!(
        "machine: {} CPUs, load {}; data in {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        load(),
        options.dir.display()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for over in [Over::Instant, Over::StripeEmulator] {
            Box::pin(measure(&options, over)).await;
        }
    });
}

async fn measure(options: &Options, over: Over) {
    let directory = tempfile::tempdir_in(&options.dir).expect("a directory");
    let house = Arc::new(House::open(&directory.path().join("data"), over).await);
    println!("\nover {}", over.name());
    own_share(options, &house).await;
    rate(options, &house, over).await;
    house.stop().await;
}

/// One client and nobody beside it.
async fn own_share(options: &Options, house: &House) {
    let mut client = Client::connect(house).await;
    for _ in 0..WARM_UP {
        let number = client.create().await.pre_auth_no;
        client.capture(&number).await;
    }
    let (mut creating, mut capturing) = (Vec::new(), Vec::new());
    for _ in 0..options.count {
        let created = client.create().await;
        let took_us = client.capture(&created.pre_auth_no).await;
        let own_us = |call: Call, took_us: u64| took_us.saturating_sub(house.timed.take(call, &created.pre_auth_no));
        creating.push(own_us(Call::Authorize, created.took_us));
        capturing.push(own_us(Call::Capture, took_us));
    }
    println!("  own share of a create:  {}", Times::new(creating).line());
    println!("  own share of a capture: {}", Times::new(capturing).line());
}

/// Many clients at once.
async fn rate(options: &Options, house: &Arc<House>, over: Over) {
    let bare = (over == Over::StripeEmulator).then(|| Arc::new(Bare::new(house)));
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for turn in 0..options.turns {
        // Whoever is second finds the machine as the first has left it, so they take turns in that, too.
        let order = if turn % 2 == 0 { [false, true] } else { [true, false] };
        for is_bare in order {
            match &bare {
                Some(bare) if is_bare => bares.push(bare_turn(options, bare).await),
                None if is_bare => {}
                _ => ours.push(our_turn(options, house).await),
            }
        }
    }
    let (our, calls) = (median(ours.clone()), median(bares.clone()));
    print!("  {} connections: {our:.0} pre-auths/s, created and captured", options.connections);
    if bare.is_some() {
        let ratios = ours.iter().zip(&bares).map(|(our, bare)| our / bare).collect();
        print!("; bare calls {calls:.0}/s, ratio of a turn {:.2}", median(ratios));
    }
    println!("; {} answers asked to come again; load {}", house.come_again.swap(0, Ordering::Relaxed), load());
}

/// Pre-auths a second.
async fn our_turn(options: &Options, house: &Arc<House>) -> f64 {
    let (started, until) = (Instant::now(), Duration::from_secs_f64(options.seconds));
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..options.connections)
        .map(|_| {
            let (house, done) = (Arc::clone(house), Arc::clone(&done));
            tokio::spawn(async move {
                let mut client = Client::connect(&house).await;
                while started.elapsed() < until {
                    let created = client.create().await;
                    client.capture(&created.pre_auth_no).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a client");
    }
    house.timed.forget();
    done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

async fn bare_turn(options: &Options, bare: &Arc<Bare>) -> f64 {
    let (started, until) = (Instant::now(), Duration::from_secs_f64(options.seconds));
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..options.connections)
        .map(|_| {
            let (bare, done) = (Arc::clone(bare), Arc::clone(&done));
            tokio::spawn(async move {
                while started.elapsed() < until {
                    bare.hold_and_take().await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a loop");
    }
    done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}
