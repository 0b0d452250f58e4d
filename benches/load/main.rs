//! What a request costs through the whole gateway beside a bare axum handler on the same machine, in the same run.
//!
//! `cargo bench --bench load [-- --seconds S --connections C --turns N]`. Starts the release binary on a temporary
//! directory and free loopback ports, with one channel of kind `instant`, and beside it, in a process of its own, a
//! handler that does nothing but read and write the same JSON. Then, in turns (A B A B …):
//! - *payment*: closed loop, `POST /api/v1/payments`, signed, durable, each answer checked;
//! - *limits*: closed loop, `GET /api/v1/limits`, signed and limited;
//! - *paced*: payments at half the rate that was reached, open loop: the schedule is fixed, and latency counts from the
//!   scheduled time, so that a server that stalls can't hide it.
//!
//! `--only flood` measures something else: what one merchant's flood does to the latency of another, see `flood`.
//!
//! `--also PATH` measures another build of the gateway in the same turns, `--server PATH` takes another one than this
//! bench was built with. docs/benchmarks.md explains the figures.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

mod bare;
mod disk;
mod drive;
mod flood;
mod http;
mod options;
mod report;
mod request;
mod server;

use std::time::Duration;

use disk::Disk;
use drive::{Load, Measured, Pace, drive};
use options::Options;
use report::{Board, Section};
use request::Kind;
use server::Contestant;

/// Before the first turn, so that connections, caches and the first segment are there.
const WARM_UP: Duration = Duration::from_millis(1500);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == bare::ARGUMENT) {
        return bare::serve();
    }
    // `cargo test --all-targets` runs benches too, without this.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run with: cargo bench --bench load");
        return;
    }
    run(&Options::read(&arguments));
}

fn run(options: &Options) {
    let home = tempfile::tempdir_in(&options.dir).expect("a directory");
    let mut disk = Disk::create(home.path());
    let mut contestants = vec![Contestant::gateway("tollgate", &options.server, home.path(), options)];
    if let Some(binary) = &options.also {
        contestants.push(Contestant::gateway("also", binary, home.path(), options));
    }
    contestants.push(Contestant::bare());
    if options.flood {
        let wrong = flood::run(options, &contestants[0], &contestants[contestants.len() - 1]);
        assert!(wrong == 0, "{wrong} answers were wrong");
        return;
    }
    println!(
        "{} connections from {} threads, {} turns of {} s each; machine: {} CPUs",
        options.connections,
        options.client_threads,
        options.turns,
        options.seconds,
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    let mut board = Board::new(contestants.iter().map(|contestant| contestant.name).collect());
    let paced = options.kinds.contains(&Kind::Payment) && !options.closed_only;
    for &kind in &options.kinds {
        for contestant in &contestants {
            measure(contestant, &load(options, kind, Pace::Closed, WARM_UP));
        }
        let turn_length = Duration::from_secs_f64(options.seconds);
        in_turns(&mut board, kind.section(), options, &contestants, &mut disk, |_| {
            load(options, kind, Pace::Closed, turn_length)
        });
    }
    if paced {
        let rate = board.median_rate(Section::Payment, 0) / 2.0;
        let turn_length = Duration::from_secs_f64(options.seconds);
        in_turns(&mut board, Section::Paced, options, &contestants, &mut disk, |_| {
            load(options, Kind::Payment, Pace::Open { per_s: rate }, turn_length)
        });
    }
    board.print(&disk);
    for contestant in contestants {
        let name = contestant.name;
        let payments = contestant.payments();
        if let Some(written) = contestant.stop() {
            written.print(name, payments);
        }
    }
    assert!(board.failures() == 0, "{} answers were wrong", board.failures());
}

fn load(options: &Options, kind: Kind, pace: Pace, length: Duration) -> Load {
    Load { kind, pace, length, connections: options.connections, threads: options.client_threads }
}

fn in_turns(
    board: &mut Board,
    section: Section,
    options: &Options,
    contestants: &[Contestant],
    disk: &mut Disk,
    load_of: impl Fn(&Contestant) -> Load,
) {
    for turn in 0..options.turns {
        disk.sample();
        // Whoever is measured second finds the machine as the first has left it, so they take turns in that, too.
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        order.rotate_left(turn % contestants.len());
        for index in order {
            let contestant = &contestants[index];
            let measured = measure(contestant, &load_of(contestant));
            println!("{}", measured.line(section.name(), turn, contestant.name));
            board.add(section, index, measured);
        }
    }
}

/// One turn, with the processor time that the server used for it, including what it does afterwards.
fn measure(contestant: &Contestant, load: &Load) -> Measured {
    let before = contestant.cpu_s();
    let mut measured = drive(contestant.target(), load);
    contestant.settle();
    measured.cpu_s = contestant.cpu_s() - before;
    if load.kind == Kind::Payment {
        contestant.count_payments(measured.answers());
    }
    measured
}
