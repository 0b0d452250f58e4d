//! What a decision about a merchant's limits costs, and how much memory a merchant takes.
//!
//! `cargo bench --bench limits`. Decisions, in nanoseconds, the median of turns that are taken in turns (A B C A B C …):
//! - *tollgate*: burst, minute and hour, and a request in flight that is given back: one decision;
//! - *tollgate, refused*: the same of a merchant that has used its limits up;
//! - *governor × 3*: three of its limiters asked one after another, without requests in flight; it admits up to twice its
//!   quota in a window;
//! - *exact log*: a queue of times for each window, cut and counted.
//!
//! Requests come so far apart that none is refused, except in the second row. Memory: by how much the process
//! grows with limiters that have admitted a burst, as the system counts it.
//!
//! Environment: `DECISIONS` a turn (200,000), `TURNS` (15), `LIMITERS` (10,000; 1000000 takes 1 GB).
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use tollgate::domain::limit::{Decision, Leases, LimitFigures, Limiter};
use tollgate::domain::time::Monotonic;

const STARTER: LimitFigures =
    LimitFigures { per_second: 10, per_minute: 500, per_hour: 10_000, burst: 20, concurrent: 10 };
const PREMIUM: LimitFigures =
    LimitFigures { per_second: 500, per_minute: 25_000, per_hour: 500_000, burst: 1_000, concurrent: 500 };
const LEASE: Duration = Duration::from_secs(60);
const HOUR_US: u64 = 3_600_000_000;

fn main() {
    let decisions = from_environment("DECISIONS", 200_000);
    let turns = usize::try_from(from_environment("TURNS", 15)).expect("a number");
    let limiters = usize::try_from(from_environment("LIMITERS", 10_000)).expect("a number");
    println!("nanoseconds a decision, median of {turns} turns of {decisions}");
    for (tier, figures) in [("starter", STARTER), ("premium", PREMIUM)] {
        measure(tier, figures, decisions, turns);
    }
    println!("\nbytes a merchant, of {limiters} limiters that have admitted a burst");
    for (tier, figures) in [("starter", STARTER), ("premium", PREMIUM)] {
        println!("{tier:<10} {:>8}", bytes_of(figures, limiters));
    }
}

fn measure(tier: &str, figures: LimitFigures, decisions: u64, turns: usize) {
    // Just below the hour's limit, which is the slowest, and below what the buckets of it allow.
    let gap_us = HOUR_US / u64::from(figures.per_hour) + HOUR_US / u64::from(figures.per_hour) / 100;
    let (mut ours, mut theirs, mut log) = (Ours::new(figures), Governors::new(figures), ExactLog::new(figures));
    let mut full = Ours::new(figures);
    while full.decide() {}
    let names = ["tollgate", "tollgate, refused", "governor x 3", "exact log"];
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..=turns {
        let turn = [
            time(decisions, || {
                ours.now_us += gap_us;
                assert!(ours.decide());
            }),
            time(decisions, || assert!(!full.decide())),
            time(decisions, || assert!(theirs.decide(gap_us))),
            time(decisions, || {
                log.now_us += gap_us;
                assert!(log.decide());
            }),
        ];
        for (times, time) in times.iter_mut().zip(turn) {
            times.push(time);
        }
    }
    for (name, times) in names.into_iter().zip(&mut times) {
        // The first turn fills the windows.
        println!("{tier:<10} {name:<20} {:>8.1}", median(&mut times[1..]));
    }
}

fn time(decisions: u64, mut decide: impl FnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..decisions {
        decide();
    }
    started.elapsed().as_secs_f64() * 1e9 / decisions as f64
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Ours: one decision, and its lease given back.
struct Ours {
    limiter: Limiter,
    leases: Leases,
    now_us: u64,
}

impl Ours {
    fn new(figures: LimitFigures) -> Self {
        let limiter = Limiter::new(figures, Monotonic::from_micros(0));
        Self { limiter, leases: Leases::new(figures.concurrent.min(64), LEASE), now_us: 0 }
    }

    fn decide(&mut self) -> bool {
        match black_box(self.limiter.decide(&mut self.leases, 1, Monotonic::from_micros(self.now_us))) {
            Decision::Admitted { lease, .. } => self.leases.release(lease),
            Decision::Refused(_) | Decision::CostTooLarge { .. } => false,
        }
    }
}

type Governor = RateLimiter<
    governor::state::NotKeyed,
    governor::state::InMemoryState,
    FakeRelativeClock,
    governor::middleware::NoOpMiddleware<governor::nanos::Nanos>,
>;

/// Three of governor's, on a clock that costs nothing, as ours is handed the time.
struct Governors {
    clock: FakeRelativeClock,
    limiters: [Governor; 3],
}

impl Governors {
    fn new(figures: LimitFigures) -> Self {
        let clock = FakeRelativeClock::default();
        let number = |figure: u32| NonZeroU32::new(figure).expect("above zero");
        let quotas = [
            Quota::per_second(number(figures.per_second)).allow_burst(number(figures.burst)),
            Quota::per_minute(number(figures.per_minute)),
            Quota::per_hour(number(figures.per_hour)),
        ];
        let limiters = quotas.map(|quota| RateLimiter::direct_with_clock(quota, clock.clone()));
        Self { clock, limiters }
    }

    fn decide(&mut self, gap_us: u64) -> bool {
        self.clock.advance(Duration::from_micros(gap_us));
        self.limiters.iter().all(|limiter| black_box(limiter.check()).is_ok())
    }
}

/// A queue of times for each window.
struct ExactLog {
    windows: [(VecDeque<u64>, u64, usize); 3],
    now_us: u64,
}

impl ExactLog {
    fn new(figures: LimitFigures) -> Self {
        let window = |window_us: u64, limit: u32| (VecDeque::new(), window_us, limit as usize);
        let windows = [
            window(figures.burst_window_us(), figures.burst),
            window(60_000_000, figures.per_minute),
            window(HOUR_US, figures.per_hour),
        ];
        Self { windows, now_us: 0 }
    }

    fn decide(&mut self) -> bool {
        for (log, window_us, limit) in &mut self.windows {
            while log.front().is_some_and(|oldest| self.now_us - oldest >= *window_us) {
                log.pop_front();
            }
            if log.len() >= *limit {
                return false;
            }
        }
        for (log, _, _) in &mut self.windows {
            log.push_back(self.now_us);
        }
        black_box(true)
    }
}

/// Bytes of one merchant's windows and leases. Freed memory is used again: measure the smallest first.
fn bytes_of(figures: LimitFigures, limiters: usize) -> usize {
    let mut made: Vec<Ours> = Vec::with_capacity(limiters);
    let before = resident_bytes();
    for _ in 0..limiters {
        let mut limiter = Ours::new(figures);
        while limiter.decide() {}
        made.push(limiter);
    }
    let grown = resident_bytes().saturating_sub(before);
    black_box(&made);
    grown / limiters
}

/// Memory of this process that is really there, of pages of 4 KiB.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("the process's memory");
    let pages = text.split_whitespace().nth(1).expect("a second figure");
    pages.parse::<usize>().expect("a number") * 4096
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}
