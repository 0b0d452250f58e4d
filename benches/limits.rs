//! What limits cost: a decision, an admission through a merchant's actor, and the memory of a merchant.
//!
//! `cargo bench --bench limits [-- decisions|admissions|memory]`. Times are nanoseconds, medians of turns that are taken
//! in turns (A B C A B C …); ratios are medians of the turns' ratios.
//!
//! - *decisions*, for each tier: one decision over burst, minute, hour and requests in flight, and its lease given back.
//!   *paced* keeps just below the hour's limit, so that minute and hour are as full as they can be; *burst* goes on as fast
//!   as the burst window allows, which is full all the time (the longer limits are raised for it); *refused* asks a merchant
//!   that has used its burst up, where governor and the log stop at the first limit. Beside it, asked at the same times: three of `governor`'s limiters one after another,
//!   which do not count requests in flight, tell less and admit up to twice a quota in a window; and an exact log, a queue
//!   of times for each window. All are handed the time; *with a clock* both read it, ours once, each of governor's itself.
//! - *admissions*: the whole of `MerchantDirectory::admit`, permit given back, on one thread: message to the actor,
//!   decision, answer; and refused beside the mailbox. Then by 64 tasks at once on all processors.
//! - *memory*: by how much a process grows by a merchant, as the system counts it, each in a process of its own: the limiter
//!   with its leases, a merchant in the directory (actor, slot, mailbox, place under the supervisor), and one that is
//!   known and not active (its packed snapshot with its place in the map); with one request ever, with full windows and
//!   thirty days of statistics, and with those of an hour ago.
//!
//! Environment: `DECISIONS` a turn (10,000: short, so that most turns are not interrupted), `TURNS` (301), `ACTIVE` (10000,100000: how many active merchants), `IDLE`
//! (10000,1000000). A million active merchants take 6 to 12 GB.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use tokio::runtime::Runtime;
use tollgate::actors::directory::{AdmitRequest, DirectorySettings, MerchantDirectory};
use tollgate::actors::merchant::{LimiterSnapshots, Loaded, Refused};
use tollgate::actors::supervisor::{RestartBudget, Supervisor};
use tollgate::clock::Clock;
use tollgate::config::Config;
use tollgate::domain::ids::MerchantId;
use tollgate::domain::limit::{
    BucketsSnapshot, DAYS_KEPT, DailyUsage, DayUsage, Decision, Leases, LimitFigures, Limiter, LimiterSnapshot,
    PackedSnapshot, RefusedBy,
};
use tollgate::domain::time::{Monotonic, Timestamp};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LEASE: Duration = Duration::from_secs(60);
const HOUR_US: u64 = 3_600_000_000;
/// As many leases as the directory makes room for from the start.
const LEASES_EXPECTED: u32 = 8;
/// First argument of a process that measures memory, and first word of what it prints.
const MEMORY_OF: &str = "--memory-of";
const TASKS: usize = 64;
const ADMISSION_TURNS: usize = 15;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == MEMORY_OF) {
        return memory_of(&arguments[1..]);
    }
    let wants = |part: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == part);
    if wants("decisions") {
        let turns = usize::try_from(from_environment("TURNS", 301)).expect("a number");
        let decisions = from_environment("DECISIONS", 10_000);
        println!("nanoseconds a decision, median of {turns} turns of {decisions}");
        println!(
            "{:<12}{:<10}{:>10}{:>14}{:>11}{:>16}{:>12}",
            "tier", "load", "tollgate", "governor x 3", "exact log", "/ governor x 3", "/ exact log"
        );
        for (tier, figures) in tiers() {
            decide_in_turns(&tier, figures, decisions, turns);
        }
        with_clocks(decisions, turns);
    }
    if wants("admissions") {
        println!("\nadmissions through the directory, median of {ADMISSION_TURNS} turns");
        admissions(ADMISSION_TURNS);
    }
    if wants("memory") {
        println!("\nbytes a merchant");
        println!(
            "{:<12}{:<10}{:>12}{:>14}{:>14}{:>14}",
            "what", "tier", "merchants", "one request", "full", "full, over"
        );
        for kind in ["limiter", "active", "idle"] {
            let counts = if kind == "idle" { ("IDLE", "10000,1000000") } else { ("ACTIVE", "10000,100000") };
            let counts = std::env::var(counts.0).unwrap_or_else(|_| counts.1.to_owned());
            for merchants in counts.split(',') {
                for (tier, _) in tiers() {
                    let [light, full] = ["light", "full"].map(|load| run_memory_of(kind, &tier, merchants, load));
                    print!("{kind:<12}{tier:<10}{merchants:>12}{light:>14}{full:>14}");
                    match kind {
                        "idle" => println!("{:>14}", run_memory_of(kind, &tier, merchants, "over")),
                        _ => println!(),
                    }
                }
            }
        }
    }
}

/// The tiers of the embedded configuration, smallest first.
fn tiers() -> Vec<(String, LimitFigures)> {
    let config = Config::embedded().expect("the embedded configuration");
    let mut tiers: Vec<_> = config
        .tiers
        .iter()
        .map(|(name, tier)| {
            let figures = LimitFigures {
                per_second: tier.per_second,
                per_minute: tier.per_minute,
                per_hour: tier.per_hour,
                burst: tier.burst,
                concurrent: tier.concurrent,
            };
            (name.clone(), figures)
        })
        .collect();
    tiers.sort_by_key(|(_, figures)| figures.per_second);
    tiers
}

fn decide_in_turns(tier: &str, figures: LimitFigures, decisions: u64, turns: usize) {
    // Just below the hour's limit and below what its buckets allow.
    let paced_us = HOUR_US / u64::from(figures.per_hour) + HOUR_US / u64::from(figures.per_hour) / 100;
    let wide = LimitFigures { per_minute: figures.per_second * 62, per_hour: figures.per_second * 3_700, ..figures };
    let burst_us = wide.burst_window_us() / u64::from(wide.burst);
    compare(tier, "paced", figures, paced_us, decisions, turns, true);
    compare(tier, "burst", wide, burst_us, decisions, turns, true);
    compare(tier, "refused", figures, 0, decisions, turns, false);
}

/// Ours, governor's and the log, asked every `gap_us`, which all admit or (once they are full) all refuse.
fn compare(tier: &str, load: &str, figures: LimitFigures, gap_us: u64, decisions: u64, turns: usize, admits: bool) {
    let (mut ours, mut theirs, mut log) = (Ours::new(figures), Governors::new(figures), ExactLog::new(figures));
    if !admits {
        while ours.decide() {}
        while theirs.decide(0) {}
        while log.decide() {}
    }
    let mut times: [Vec<f64>; 3] = Default::default();
    // The first turn fills the windows.
    for turn in 0..=turns {
        let turn_times = [
            time(decisions, || {
                ours.now_us += gap_us;
                assert_eq!(ours.decide(), admits);
            }),
            time(decisions, || assert_eq!(theirs.decide(gap_us), admits)),
            time(decisions, || {
                log.now_us += gap_us;
                assert_eq!(log.decide(), admits);
            }),
        ];
        for (times, time) in times.iter_mut().zip(turn_times).filter(|_| turn > 0) {
            times.push(time);
        }
    }
    let ratio = |other: usize| median(times[0].iter().zip(&times[other]).map(|(ours, other)| ours / other).collect());
    let [own, governor, log] = times.each_ref().map(|times| median(times.clone()));
    println!("{tier:<12}{load:<10}{own:>10.1}{governor:>14.1}{log:>11.1}{:>16.2}{:>12.2}", ratio(1), ratio(2));
}

/// The same with each reading a clock, on limits that are never reached.
fn with_clocks(decisions: u64, turns: usize) {
    let figures =
        LimitFigures { per_second: 100_000, burst: 100_000, per_minute: u32::MAX, per_hour: u32::MAX, concurrent: 500 };
    let runtime = runtime(false);
    let _entered = runtime.enter();
    let clock = Clock::system();
    let mut ours = Ours::new(figures);
    let quota = Quota::per_second(NonZeroU32::MAX).allow_burst(NonZeroU32::MAX);
    let theirs = [(); 3].map(|()| RateLimiter::direct(quota));
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..turns {
        let turn_times = [
            time(decisions, || {
                black_box(clock.monotonic());
                ours.now_us += 11;
                assert!(ours.decide());
            }),
            time(decisions, || assert!(theirs.iter().all(|limiter| black_box(limiter.check()).is_ok()))),
            time(decisions, || {
                black_box(clock.monotonic());
            }),
        ];
        for (times, time) in times.iter_mut().zip(turn_times) {
            times.push(time);
        }
    }
    let ratio = median(times[0].iter().zip(&times[1]).map(|(ours, theirs)| ours / theirs).collect());
    let [own, governor, clock] = times.map(median);
    println!(
        "with a clock: tollgate {own:.1}, governor x 3 {governor:.1}, ratio {ratio:.2}; reading the clock once {clock:.1}"
    );
}

fn time(decisions: u64, mut decide: impl FnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..decisions {
        decide();
    }
    started.elapsed().as_secs_f64() * 1e9 / decisions as f64
}

fn median(mut times: Vec<f64>) -> f64 {
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
        Self { limiter, leases: Leases::new(figures.concurrent.min(LEASES_EXPECTED), LEASE), now_us: 0 }
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
        if gap_us > 0 {
            self.clock.advance(Duration::from_micros(gap_us));
        }
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

/// What every merchant starts with, and where nothing is put.
struct Shelf(Option<LimiterSnapshot>);

impl LimiterSnapshots for Shelf {
    fn load(&self, _merchant_id: &MerchantId) -> Loaded {
        Loaded { snapshot: self.0.clone(), unseen: Vec::new() }
    }

    fn save(&self, _merchant_id: &MerchantId, _snapshot: LimiterSnapshot) -> bool {
        true
    }

    fn complete(&self, _until: Timestamp) {}
}

fn runtime(all_processors: bool) -> Runtime {
    let mut builder = if all_processors {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build().expect("a runtime")
}

/// A directory whose merchants stay; the supervisor must be kept as long.
async fn directory(merchants_max: usize, snapshot: Option<LimiterSnapshot>) -> (MerchantDirectory, Supervisor) {
    let clock = Clock::system();
    let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.expect("a root");
    let settings = DirectorySettings {
        lease: LEASE,
        merchants_active_max: merchants_max,
        idle: Duration::from_secs(86_400),
        mailbox_max: 1024,
        mailboxes_total_max: 100_000,
        claims_max: 1024,
        snapshot_interval: Duration::from_secs(3600),
    };
    (MerchantDirectory::start(settings, clock, Arc::new(Shelf(snapshot)), supervisor.clone()), supervisor)
}

fn request(merchant: usize, figures: LimitFigures) -> AdmitRequest {
    let merchant_id = MerchantId::new(format!("m_{merchant:019}"));
    AdmitRequest { merchant_id, figures, revision: Some(1), idempotency: None, cost: 1 }
}

fn admissions(turns: usize) {
    const ASKED: u64 = 20_000;
    let wide =
        LimitFigures { per_second: 100_000, burst: 100_000, per_minute: u32::MAX, per_hour: u32::MAX, concurrent: 500 };
    // At most so many fit into the wide burst window, whatever the machine does.
    let narrow = LimitFigures { per_hour: 1, ..wide };
    let (mut admitted, mut refused, mut together) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..turns {
        let one_thread = runtime(false);
        one_thread.block_on(async {
            let (directory, _supervisor) = directory(8, None).await;
            for (merchant, figures, times) in [(1, wide, &mut admitted), (2, narrow, &mut refused)] {
                let asked = request(merchant, figures);
                assert!(directory.admit(asked.clone()).await.is_ok());
                let started = Instant::now();
                for _ in 0..ASKED {
                    let answer = black_box(directory.admit(asked.clone()).await);
                    match answer {
                        Ok(_) => assert_eq!(merchant, 1),
                        Err(Refused::Limited(_)) => assert_eq!(merchant, 2),
                        Err(other) => panic!("{other}"),
                    }
                }
                times.push(started.elapsed().as_secs_f64() * 1e9 / ASKED as f64);
            }
        });
        for (merchants, name) in [(1, "one merchant"), (1000, "1,000 merchants")] {
            let all = runtime(true);
            let seconds = all.block_on(async {
                let (directory, _supervisor) = directory(merchants, None).await;
                for merchant in 0..merchants {
                    assert!(directory.admit(request(merchant, wide)).await.is_ok());
                }
                let started = Instant::now();
                let each = usize::try_from(ASKED).expect("a number") * 4 / TASKS;
                let tasks: Vec<_> = (0..TASKS)
                    .map(|task| {
                        let directory = directory.clone();
                        tokio::spawn(async move {
                            for number in 0..each {
                                let answer = directory.admit(request((task * each + number) % merchants, wide)).await;
                                assert!(answer.is_ok(), "{answer:?}");
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("a task");
                }
                started.elapsed().as_secs_f64() / (each * TASKS) as f64
            });
            together.push((turn, name, seconds));
        }
    }
    println!("admitted through the actor, one thread:     {:>8.0} ns", median(admitted));
    println!("refused beside the mailbox, one thread:     {:>8.0} ns", median(refused));
    for name in ["one merchant", "1,000 merchants"] {
        let rates = together.iter().filter(|(_, of, _)| *of == name).map(|(_, _, seconds)| 1.0 / seconds).collect();
        println!("admitted by {TASKS} tasks, {name:<16}        {:>8.0} a second", median(rates));
    }
}

/// Measures in a process of its own, whose memory nobody has used before.
fn run_memory_of(kind: &str, tier: &str, merchants: &str, load: &str) -> String {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    let output = command.args([MEMORY_OF, kind, tier, merchants, load]).output().expect("a process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn memory_of(arguments: &[String]) {
    let [kind, tier, merchants, load] = arguments else { panic!("kind, tier, number and load") };
    let merchants: usize = merchants.parse().expect("a number");
    let (_, figures) = tiers().into_iter().find(|(name, _)| name == tier).expect("a tier");
    let snapshot = (load != "light").then(|| full(figures));
    let grown = match kind.as_str() {
        "limiter" => limiters(figures, merchants, snapshot.as_ref()),
        "active" => active(figures, merchants, snapshot),
        _ => idle(figures, merchants, snapshot, load == "over"),
    };
    println!("{}", grown / merchants);
}

/// Windows as full as they get, and thirty days of statistics.
fn full(figures: LimitFigures) -> LimiterSnapshot {
    let now = Clock::system().now();
    let today = DayUsage::day_of(now);
    let days = i32::try_from(DAYS_KEPT).expect("few");
    let day = |day: i32| DayUsage {
        day,
        admitted: u64::from(figures.per_hour) * 12 + u64::from(day.unsigned_abs()),
        refused: 1_234,
        refused_by: RefusedBy { second: 1_200, minute: 30, hour: 4, concurrency: 0 },
        peak_concurrency: figures.concurrent,
    };
    // Uneven, as requests that come by chance are.
    let uneven = |limit: u32, count: u32| {
        let mean = (limit / count).max(1);
        (0..count).map(|at| mean - mean / 16 + at * 7919 % (mean / 8 + 1)).collect()
    };
    let part_ms = u32::try_from(figures.burst_window_us() / 40_000).expect("short");
    LimiterSnapshot {
        version: LimiterSnapshot::VERSION,
        saved_at: now,
        saved_tick: None,
        saved_early_us: 0,
        burst: (0..40).map(|part| (part * part_ms, figures.burst.div_ceil(40))).collect(),
        burst_known_us: 0,
        minute: BucketsSnapshot { width_ms: 1_000, phase_ms: 500, counts: uneven(figures.per_minute, 61) },
        hour: BucketsSnapshot { width_ms: 15_000, phase_ms: 500, counts: uneven(figures.per_hour, 241) },
        days: (today - days + 1..=today).map(day).collect(),
        near: Vec::new(),
    }
}

fn limiters(figures: LimitFigures, merchants: usize, snapshot: Option<&LimiterSnapshot>) -> usize {
    let wall = Clock::system().now();
    let mut made: Vec<(Ours, DailyUsage)> = Vec::with_capacity(merchants);
    let before = resident_bytes();
    for _ in 0..merchants {
        let mut ours = Ours::new(figures);
        let mut days = DailyUsage::default();
        if let Some(snapshot) = snapshot {
            ours.limiter = Limiter::restore(figures, Some(snapshot), &[], Monotonic::from_micros(0), wall);
            days = DailyUsage::restore(&snapshot.days);
        }
        ours.decide();
        made.push((ours, days));
    }
    let grown = resident_bytes().saturating_sub(before);
    black_box(&made);
    grown
}

fn active(figures: LimitFigures, merchants: usize, snapshot: Option<LimiterSnapshot>) -> usize {
    // All start on one thread, as memory that a thread keeps for itself is no merchant's.
    let runtime = runtime(false);
    runtime.block_on(async {
        let (directory, _supervisor) = directory(merchants + 1, snapshot).await;
        black_box(directory.admit(request(merchants, figures)).await).ok();
        let before = resident_bytes();
        for merchant in 0..merchants {
            if let Err(Refused::Overloaded(why)) = black_box(directory.admit(request(merchant, figures)).await) {
                panic!("{why}");
            }
        }
        assert_eq!(directory.active(), merchants + 1);
        resident_bytes().saturating_sub(before)
    })
}

fn idle(figures: LimitFigures, merchants: usize, snapshot: Option<LimiterSnapshot>, is_over: bool) -> usize {
    let clock = Clock::manual(Timestamp::from_unix_ms(1_737_715_200_000));
    let snapshot = snapshot.unwrap_or_else(|| {
        let mut ours = Ours::new(figures);
        let mut days = DailyUsage::default();
        ours.decide();
        days.count(clock.now(), 1, &RefusedBy::default(), 1);
        ours.limiter.save(&days, clock.monotonic(), clock.now())
    });
    // What the gateway keeps for each, in the map in which it keeps them.
    let known: DashMap<MerchantId, (PackedSnapshot, u32)> = DashMap::new();
    let before = resident_bytes();
    for merchant in 0..merchants {
        let packed = PackedSnapshot::pack(&snapshot);
        let packed = if is_over { packed.without_windows() } else { packed };
        known.insert(request(merchant, figures).merchant_id, (packed, 0));
    }
    let grown = resident_bytes().saturating_sub(before);
    black_box(&known);
    grown
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
