//! What sending webhooks costs, with everything that makes them durable, on real sockets and a real disk.
//!
//! `cargo bench --bench webhooks [-- --only one|many|latency|hung|backlog]`, about two minutes. A receiver that does next to
//! nothing runs in a process of its own; the gateway runs in this one (with the backlog: in one that is killed), and events
//! are committed in it directly, as payments commit them. Every endpoint has a host of its own. Measured is
//! - *one*, *many*: `--count` webhooks that wait already are sent to one endpoint, and to `--endpoints`, each with a commit
//!   after its answer; beside a bare loop of the same sender with as many requests in flight, in turns (A B A B …);
//! - *latency*: from the moment at which an event is durable to its arrival at the receiver, which has the same clock, at 100
//!   and 1,000 events a second. The times of the events are fixed beforehand, so that a stall can't hide;
//! - *hung*: the same at 100 a second, beside `--hung` endpoints that have answered before and answer no more, in turns, and
//!   apart from it in the moment in which all of them begin to hang;
//! - *backlog*: memory with `--backlog` webhooks waiting, and the time from starting the process to the first webhook, after
//!   SIGKILL and after a stop in order. `--backlog 1000000` takes some minutes more and 5 GB in `--dir`; `--spread 1000` has
//!   them wait for so many endpoints in place of one.
//!
//! docs/benchmarks.md explains the figures.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

mod backlog;
mod bare;
mod house;
mod latency;
mod options;
mod rate;
#[allow(dead_code, reason = "shared with a test, which uses more of it")]
mod receiver;
mod report;
mod station;

use options::{Options, Part};
use station::Station;

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match arguments.first().map(String::as_str) {
        Some(station::ARGUMENT) => return runtime().block_on(station::receive(&arguments[1..])),
        Some(backlog::ARGUMENT) => return runtime().block_on(backlog::live(&arguments[1..])),
        _ => {}
    }
    // `cargo test --all-targets` runs benches too, without this.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run with: cargo bench --bench webhooks");
        return;
    }
    let options = Options::read(&arguments);
    println!(
        "machine: {} CPUs, load {}; data in {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        report::load(),
        options.dir.display()
    );
    runtime().block_on(run(&options));
}

async fn run(options: &Options) {
    let station = Station::start(1 + options.endpoints.max(options.hung).max(options.spread)).await;
    for part in &options.parts {
        match part {
            Part::One => Box::pin(rate::measure(options, &station, 1)).await,
            Part::Many => Box::pin(rate::measure(options, &station, options.endpoints)).await,
            Part::Latency => Box::pin(latency::measure(options, &station)).await,
            Part::Hung => Box::pin(latency::beside_hung(options, &station)).await,
            Part::Backlog => Box::pin(backlog::measure(options, &station)).await,
        }
    }
}
