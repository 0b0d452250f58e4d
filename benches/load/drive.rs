//! Sends requests from several connections, and notes how long each answer took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::http::Connection;
use crate::report::percentile;
use crate::request::{Kind, Merchant, is_right};

/// Numbers of requests, each used once in a run.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A whole turn ends this long after its time, whatever the server does.
const OVERTIME: Duration = Duration::from_secs(30);
/// Arrivals that are due within this are let go together: the operating system's own sleep is no finer.
const PACER_STEP: Duration = Duration::from_micros(100);

/// Who is asked.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub merchant: Merchant,
    pub is_gateway: bool,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each connection sends the next one when it has its answer.
    Closed,
    /// At times fixed beforehand.
    Open { per_s: f64 },
}

/// One turn.
#[derive(Clone, Debug)]
pub struct Load {
    pub kind: Kind,
    pub pace: Pace,
    pub length: Duration,
    pub connections: usize,
    pub threads: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Measured {
    /// Of each right answer, in microseconds, sorted.
    latencies_us: Vec<u32>,
    /// Answers that were wrong, with the first of them in words.
    pub wrong: u64,
    pub first_wrong: Option<String>,
    /// Answers to a flood that were no refusal.
    pub let_through: u64,
    /// From the first request to the last answer.
    pub elapsed_s: f64,
    /// Processor time of the server.
    pub cpu_s: f64,
}

impl Measured {
    pub fn answers(&self) -> u64 {
        self.latencies_us.len() as u64
    }

    pub fn per_s(&self) -> f64 {
        self.answers() as f64 / self.elapsed_s
    }

    pub fn cpu_us_each(&self) -> f64 {
        1e6 * self.cpu_s / self.answers().max(1) as f64
    }

    pub fn latency_ms(&self, percent: f64) -> f64 {
        f64::from(percentile(&self.latencies_us, percent)) / 1000.0
    }

    pub fn line(&self, section: &str, turn: usize, name: &str) -> String {
        let mut line = format!(
            "{section:<8} turn {turn:>2} {name:<18} {:>7.0}/s  p50 {:>7.2} ms  p99 {:>7.2} ms  p99.9 {:>7.2} ms  {:>6.1} µs CPU each",
            self.per_s(),
            self.latency_ms(50.0),
            self.latency_ms(99.0),
            self.latency_ms(99.9),
            self.cpu_us_each(),
        );
        if let Some(first) = &self.first_wrong {
            line.push_str(&format!("  {} wrong, the first: {first}", self.wrong));
        }
        line
    }

    fn add(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.wrong += other.wrong;
        self.let_through += other.let_through;
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
    }
}

/// Arrivals of an open loop.
struct Schedule {
    started: Instant,
    per_s: f64,
    total: u64,
    /// Permits: arrivals whose time has come and that nobody has taken.
    due: Semaphore,
    taken: AtomicU64,
}

impl Schedule {
    fn new(per_s: f64, length: Duration) -> Self {
        let total = (per_s * length.as_secs_f64()).ceil().max(1.0) as u64;
        Self { started: Instant::now(), per_s, total, due: Semaphore::new(0), taken: AtomicU64::new(0) }
    }

    fn time_of(&self, arrival: u64) -> Instant {
        self.started + Duration::from_secs_f64(arrival as f64 / self.per_s)
    }

    /// Lets arrivals go at their times; blocks until the last.
    fn pace(&self) {
        let mut released = 0;
        while released < self.total {
            let passed = self.started.elapsed().as_secs_f64();
            let due = ((passed * self.per_s) as u64 + 1).min(self.total);
            self.due.add_permits(usize::try_from(due - released).unwrap_or(0));
            released = due;
            let wait = self.time_of(released).saturating_duration_since(Instant::now());
            std::thread::sleep(wait.max(PACER_STEP));
        }
    }

    /// The next arrival's time, once it has come; `None` after the last.
    async fn arrival(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let arrival = self.taken.fetch_add(1, Ordering::Relaxed);
        if arrival + 1 == self.total {
            self.due.close();
        }
        Some(self.time_of(arrival))
    }
}

/// Carries out one turn.
pub fn drive(target: &Target, load: &Load) -> Measured {
    let schedule = match load.pace {
        Pace::Closed => None,
        Pace::Open { per_s } => Some(Arc::new(Schedule::new(per_s, load.length))),
    };
    let started = schedule.as_ref().map_or_else(Instant::now, |schedule| schedule.started);
    let senders: Vec<_> = (0..load.threads)
        .map(|thread| {
            let share = load.connections / load.threads + usize::from(thread < load.connections % load.threads);
            let (target, kind, until) = (target.clone(), load.kind, started + load.length);
            let schedule = schedule.clone();
            std::thread::spawn(move || send_from(&target, kind, share, until, schedule))
        })
        .collect();
    if let Some(schedule) = &schedule {
        schedule.pace();
    }
    let mut measured = Measured::default();
    for sender in senders {
        measured.add(sender.join().expect("a sender"));
    }
    measured.elapsed_s = started.elapsed().as_secs_f64();
    measured.latencies_us.sort_unstable();
    measured
}

/// One thread with its share of the connections.
fn send_from(
    target: &Target,
    kind: Kind,
    connections: usize,
    until: Instant,
    schedule: Option<Arc<Schedule>>,
) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let sender = Sender { target: target.clone(), kind, until, schedule: schedule.clone() };
                tokio::spawn(tokio::time::timeout_at((until + OVERTIME).into(), sender.run()))
            })
            .collect();
        let mut measured = Measured::default();
        for task in tasks {
            match task.await.expect("a connection") {
                Ok(sent) => measured.add(sent),
                Err(_) => measured.add(failed("no answer in time".to_owned())),
            }
        }
        measured
    })
}

struct Sender {
    target: Target,
    kind: Kind,
    until: Instant,
    schedule: Option<Arc<Schedule>>,
}

impl Sender {
    async fn run(self) -> Measured {
        let mut measured = Measured::default();
        let (mut request, mut body) = (Vec::new(), Vec::new());
        let mut connection = match Connection::open(self.target.address).await {
            Ok(connection) => connection,
            Err(error) => return failed(format!("connecting: {error}")),
        };
        while let Some(due) = self.next().await {
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
            self.target.merchant.write_request(self.kind, number, &mut request, &mut body);
            match connection.exchange(&request).await {
                Ok((status, answer)) if is_right(self.kind, self.target.is_gateway, number, status, answer) => {
                    measured.latencies_us.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                Ok((200, _)) if self.kind == Kind::Flood => measured.let_through += 1,
                Ok((status, answer)) => {
                    measured.add(failed(format!("{status} {}", String::from_utf8_lossy(answer))));
                }
                Err(error) => {
                    measured.add(failed(error.to_string()));
                    return measured;
                }
            }
        }
        measured
    }

    /// When the next request is to be sent, at that time.
    async fn next(&self) -> Option<Instant> {
        match &self.schedule {
            Some(schedule) => schedule.arrival().await,
            None => Some(Instant::now()).filter(|now| *now < self.until),
        }
    }
}

fn failed(how: String) -> Measured {
    Measured { wrong: 1, first_wrong: Some(how), ..Measured::default() }
}
