//! What stays when the simulated process dies: disk, index, providers, receivers, what clients remember; the time, the
//! dice, and the trace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tollgate::clock::Clock;
use tollgate::domain::time::Timestamp;
use tollgate::random::Random;
use tollgate::storage::files::Files;
use tollgate::storage::index::MemoryIndex;
use tollgate::storage::sim_files::SimFiles;
use tollgate::storage::whole_file::WholeFiles;

use crate::growth::{Moment, Rows};
use crate::model::Model;
use crate::provider::Ledger;
use crate::receiver::Received;

/// Lines of the trace that are shown when a seed fails.
const TAIL_LINES: usize = 60;
const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);

/// Calls of the store after which it is looked whether time goes on.
const CALLS_PER_LOOK: u64 = 4_096;
/// Most calls of the store at one moment; an honest one has some thousands.
const CALLS_OF_A_MOMENT_MAX: u64 = 500_000;
/// Most calls of the store by one seed; an honest one has some ten thousands.
const CALLS_MAX: u64 = 20_000_000;

/// Draws that depend on nothing but the seed and their order.
#[derive(Clone)]
pub struct Dice(Random);

impl Dice {
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(Random::seeded(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream))
    }

    /// From 0 to `end` - 1.
    pub fn below(&self, end: u64) -> u64 {
        self.0.draw_u64() % end.max(1)
    }

    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        items.get(usize::try_from(self.below(items.len() as u64)).unwrap_or(0))
    }

    pub fn random(&self) -> &Random {
        &self.0
    }
}

/// The windows' files: not durable on purpose, a crash takes or leaves them as chance says.
#[derive(Clone, Default)]
pub struct SimWindows(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl SimWindows {
    pub fn lose(&self) {
        self.0.lock().clear();
    }
}

impl WholeFiles for SimWindows {
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().get(name).cloned())
    }

    fn write(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        self.0.lock().insert(name.to_owned(), content.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.0.lock().remove(name);
        Ok(())
    }
}

pub struct World {
    pub seed: u64,
    pub files: SimFiles,
    pub index: MemoryIndex,
    pub windows: SimWindows,
    pub ledger: Ledger,
    pub received: Received,
    pub model: Mutex<Model>,
    /// For whatever has no dice of its own.
    pub dice: Dice,
    /// What the store held at some moments.
    pub moments: Mutex<VecDeque<Moment>>,
    /// What it held when the last life ended.
    left: Mutex<Rows>,
    calls: AtomicU64,
    /// Time of the last look, and calls since it was another.
    pace: Mutex<(u64, u64)>,
    bases: AtomicU64,
    retired: AtomicU64,
    backups: AtomicU64,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    panicked: Mutex<Option<String>>,
    state: Mutex<State>,
}

struct State {
    /// True time at which this life began, in microseconds since the beginning.
    began_us: u64,
    /// True time at which the life before it ended.
    ended_us: u64,
    clock: Option<Clock>,
    /// The time of day when this life began.
    began_at: Timestamp,
    /// How far the time of day is from the true time.
    skew_ms: i64,
    life: u64,
    faults: bool,
    disk_faults: bool,
    /// Troubles with the disk that pass: how many there are now, and how many have begun.
    troubles: (u64, u64),
    store_failed: bool,
    dead: bool,
    crash_in_steps: Option<u64>,
    crashed: Arc<Notify>,
    violation: Option<String>,
    hash: u64,
    lines: u64,
    tail: VecDeque<String>,
}

impl World {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            files: SimFiles::new(),
            index: MemoryIndex::new(),
            windows: SimWindows::default(),
            ledger: Ledger::new(Dice::new(seed, 2)),
            received: Received::new(Dice::new(seed, 3)),
            model: Mutex::default(),
            dice: Dice::new(seed, 1),
            moments: Mutex::default(),
            left: Mutex::default(),
            calls: AtomicU64::new(0),
            pace: Mutex::default(),
            bases: AtomicU64::new(0),
            retired: AtomicU64::new(0),
            backups: AtomicU64::new(0),
            counts: Mutex::default(),
            panicked: Mutex::default(),
            state: Mutex::new(State {
                began_us: 0,
                ended_us: 0,
                clock: None,
                began_at: START,
                skew_ms: 0,
                life: 0,
                faults: true,
                disk_faults: false,
                troubles: (0, 0),
                store_failed: false,
                dead: false,
                crash_in_steps: None,
                crashed: Arc::default(),
                violation: None,
                hash: 0xcbf2_9ce4_8422_2325,
                lines: 0,
                tail: VecDeque::new(),
            }),
        })
    }

    /// Begins a life within its runtime. Returns its clock.
    pub fn begin_life(&self, life: u64) -> Clock {
        let mut state = self.state.lock();
        let since_start = Duration::from_micros(state.began_us);
        let wall_ms = START.plus(since_start).unix_ms() + state.skew_ms;
        let clock = Clock::virtual_from(Timestamp::from_unix_ms(wall_ms));
        state.clock = Some(clock.clone());
        state.began_at = clock.now();
        state.life = life;
        state.dead = false;
        state.disk_faults = false;
        state.troubles.0 = 0;
        state.store_failed = false;
        state.crash_in_steps = None;
        state.crashed = Arc::default();
        clock
    }

    /// Ends a life; the machine is down for a while.
    pub fn end_life(&self, down: Duration) {
        let now_us = self.now_us();
        let mut state = self.state.lock();
        state.ended_us = now_us;
        state.began_us = now_us + u64::try_from(down.as_micros()).unwrap_or(0);
        state.clock = None;
        state.dead = true;
    }

    /// True time in microseconds since the beginning, whatever the time of day says.
    pub fn now_us(&self) -> u64 {
        let state = self.state.lock();
        state.began_us + state.clock.as_ref().map_or(0, |clock| clock.monotonic().micros())
    }

    /// The time of day at a moment, as those have it whose clocks are right.
    pub fn true_time(&self, at_us: u64) -> Timestamp {
        START.plus(Duration::from_micros(at_us))
    }

    /// When the process was ended last.
    pub fn off_since_us(&self) -> u64 {
        self.state.lock().ended_us
    }

    /// The time by which things are due: that of the day, but for steps back in this life.
    pub fn due_now(&self) -> Timestamp {
        let state = self.state.lock();
        let since = |clock: &Clock| state.began_at.plus(Duration::from_micros(clock.monotonic().micros()));
        state.clock.as_ref().map_or(state.began_at, |clock| clock.now().max(since(clock)))
    }

    /// Somebody sets the time of day.
    pub fn jump(&self, by_ms: i64) {
        let mut state = self.state.lock();
        state.skew_ms += by_ms;
        if let Some(clock) = &state.clock {
            let by = Duration::from_millis(by_ms.unsigned_abs());
            if by_ms < 0 { clock.set_back(by) } else { clock.set_forward(by) }
        }
    }

    pub fn skew_ms(&self) -> i64 {
        self.state.lock().skew_ms
    }

    pub fn life(&self) -> u64 {
        self.state.lock().life
    }

    pub fn set_faults(&self, faults: bool) {
        self.state.lock().faults = faults;
    }

    /// Whether providers, receivers and the disk's speed misbehave.
    pub fn has_faults(&self) -> bool {
        self.state.lock().faults
    }

    /// A write or a sync is going to fail in this life, so that requests may, too.
    pub fn note_disk_faults(&self) {
        self.state.lock().disk_faults = true;
    }

    /// A trouble with the disk begins, that passes.
    pub fn begin_trouble(&self) {
        let mut state = self.state.lock();
        state.troubles = (state.troubles.0 + 1, state.troubles.1 + 1);
    }

    /// It has passed.
    pub fn end_trouble(&self) {
        let mut state = self.state.lock();
        state.troubles.0 = state.troubles.0.saturating_sub(1);
    }

    /// To be asked about later with [`Self::had_trouble_since`].
    pub fn troubles(&self) -> u64 {
        let (now, begun) = self.state.lock().troubles;
        begun - now
    }

    /// Whether something had no room, or no handle, at any moment since then.
    pub fn had_trouble_since(&self, before: u64) -> bool {
        self.state.lock().troubles.1 > before
    }

    /// Whether the disk fails in this life, or has no room now.
    pub fn has_disk_faults(&self) -> bool {
        let state = self.state.lock();
        state.disk_faults || state.troubles.0 > 0
    }

    /// The store takes nothing any more. The process ends soon, or is stopping already.
    pub fn note_failed_store(&self, error: &str) {
        self.trace(&format!("store failed: {error}"));
        self.count("failed stores");
        self.state.lock().store_failed = true;
    }

    pub fn has_failed_store(&self) -> bool {
        self.state.lock().store_failed
    }

    pub fn has_power(&self) -> bool {
        self.files.list("").is_ok()
    }

    /// Something was done, or went wrong.
    pub fn count(&self, what: &'static str) {
        *self.counts.lock().entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().clone()
    }

    /// A task, or the seed's own thread, panics. It may hold any lock.
    pub fn note_panic(&self, what: String) {
        self.panicked.lock().get_or_insert(what);
    }

    pub fn crash_in_steps(&self, steps: u64) {
        self.state.lock().crash_in_steps = Some(steps);
    }

    /// A point at which the process may die. From then on nothing it does reaches the world.
    pub async fn step(&self) {
        let is_dead = {
            let mut state = self.state.lock();
            if let Some(left) = state.crash_in_steps.as_mut() {
                if *left == 0 {
                    state.dead = true;
                    state.crash_in_steps = None;
                    state.crashed.notify_one();
                } else {
                    *left -= 1;
                }
            }
            state.dead
        };
        if is_dead {
            std::future::pending::<()>().await;
        }
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// Ready when the process has died at a step.
    pub async fn crashed(&self) {
        let crashed = Arc::clone(&self.state.lock().crashed);
        crashed.notified().await;
    }

    /// Notes what happened. The hash over all of it is the run's.
    pub fn trace(&self, what: &str) {
        let now_us = self.now_us();
        let mut state = self.state.lock();
        let line = format!("{:>4}.{:06} {what}", now_us / 1_000_000, now_us % 1_000_000);
        for byte in line.bytes() {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        state.lines += 1;
        if std::env::var_os("TOLLGATE_SIM_TRACE").is_some() {
            println!("{line}");
        }
        state.tail.push_back(line);
        if state.tail.len() > TAIL_LINES {
            state.tail.pop_front();
        }
    }

    /// The store was called. Time that stands still meanwhile, and work without an end, are noticed here.
    pub fn count_call(&self) {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if !calls.is_multiple_of(CALLS_PER_LOOK) {
            return;
        }
        let now_us = self.now_us();
        let calls_of_moment = {
            let mut pace = self.pace.lock();
            let since = if pace.0 == now_us { pace.1 + CALLS_PER_LOOK } else { 0 };
            *pace = (now_us, since);
            since
        };
        if calls_of_moment > CALLS_OF_A_MOMENT_MAX {
            self.violate(format!("time stands still while the store is called {calls_of_moment} times"));
        } else if calls > CALLS_MAX {
            self.violate(format!("the store was called {calls} times, and there is no end"));
        }
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub fn leave(&self, rows: Rows) {
        *self.left.lock() = rows;
    }

    pub fn left(&self) -> Rows {
        std::mem::take(&mut self.left.lock())
    }

    pub fn count_base(&self) {
        self.bases.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_retired(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_backup(&self) {
        self.backups.fetch_add(1, Ordering::Relaxed);
    }

    /// How often what bounds the store's growth was at work.
    pub fn growth(&self) -> [u64; 3] {
        [&self.bases, &self.retired, &self.backups].map(|count| count.load(Ordering::Relaxed))
    }

    /// Where a seed is that does not end. `None` when that can't be read either.
    pub fn describe(&self) -> Option<String> {
        let state = self.state.try_lock_for(Duration::from_secs(1))?;
        let last = state.tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        Some(format!(
            "life {}, {} calls of the store; time stands where the last of these lines was written:\n{last}\n\
             to see it again: TOLLGATE_SIM_SEED={} cargo test --test simulation",
            state.life,
            self.calls(),
            self.seed
        ))
    }

    /// What must never be is so.
    pub fn violate(&self, what: String) {
        self.trace(&format!("VIOLATION {what}"));
        let mut state = self.state.lock();
        state.violation.get_or_insert(what);
        state.dead = true;
        state.crashed.notify_one();
    }

    pub fn violation(&self) -> Option<String> {
        let violation = self.state.lock().violation.clone();
        violation.or_else(|| self.panicked.lock().clone())
    }

    pub fn hash(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.hash, state.lines)
    }

    pub fn tail(&self) -> String {
        let state = self.state.lock();
        state.tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}
