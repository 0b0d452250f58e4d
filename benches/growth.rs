//! What a store takes of its disk while the same keys are overwritten without end, what a base export costs those who
//! commit meanwhile, and how long opening takes afterwards: `cargo bench --bench growth`.
//!
//! For each number of keys in `KEYS` (`20000,100000,300000`) values of 700 B are overwritten by 32 writers until `MIB` (768) have been
//! written to the journal, with segments of 8 MiB, a base for each 64 MiB and 64 MiB of the journal kept. The writers keep to `RATE`
//! (10,000) commits a second together, so that it is a base that is seen in the figures and not a machine at its end.
//! Then the store is opened as after a kill, as after a clean stop, and without its index. `DIR`: where (the system's
//! temporary directory).

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tollgate::config::{Config, StorageConfig};
use tollgate::storage::engine::Engine;
use tollgate::storage::{Batch, Store};

const VALUE_BYTES: usize = 700;
const WRITERS: u64 = 32;
const MIB: u64 = 1 << 20;
const SEGMENT_BYTES: u64 = 8 * MIB;
const BASE_BYTES: u64 = 64 * MIB;
const KEEP_BYTES: u64 = 64 * MIB;
/// How often it is looked whether a base is being made.
const LOOK: Duration = Duration::from_millis(5);

fn main() {
    let sizes = std::env::var("KEYS").unwrap_or_else(|_| "20000,100000,300000".to_owned());
    let (bytes, rate) = (from_environment("MIB", 768) * MIB, from_environment("RATE", 10_000));
    for keys in sizes.split(',').filter_map(|text| text.parse().ok()) {
        measure(keys, bytes, rate);
    }
}

fn measure(keys: u64, bytes: u64, rate: u64) {
    let parent = std::env::var("DIR").map_or_else(|_| std::env::temp_dir(), Into::into);
    let directory = tempfile::tempdir_in(parent).expect("a directory");
    let config = config(directory.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let engine = Arc::new(Engine::open_dir(&config).expect("a store"));
    println!("{keys} keys, {} MiB to be written, {rate} commits/s at most", bytes / MIB);
    let seen = runtime.block_on(overwrite(&engine, &config, (keys, bytes, rate)));
    seen.print(engine.health().disk.base.map_or(0, |base| base.bytes));
    // As after a kill: nothing is closed in order.
    drop(Arc::into_inner(engine).expect("nobody else has it"));
    println!("  left {} MiB", size_of(&config.dir) / MIB);
    open("after a kill", &config).close().expect("a clean stop");
    open("after a clean stop", &config).close().expect("a clean stop");
    std::fs::remove_dir_all(config.dir.join("index")).expect("an index");
    let engine = open("without its index", &config);
    assert!(engine.get(&key(0)).expect("it can be read").is_some(), "it is all there");
    engine.close().expect("a clean stop");
}

fn config(directory: &Path) -> StorageConfig {
    let mut config = Config::embedded().expect("a configuration").storage;
    config.dir = directory.join("store");
    config.segment_bytes = SEGMENT_BYTES;
    config.group_bytes_max = (2 * MIB) as usize;
    config.checkpoint_interval_ms = 5_000;
    config.checkpoint_bytes = 32 * MIB;
    config.cache_bytes = 64 * MIB;
    config.ballast_bytes = 0;
    config.base_bytes = BASE_BYTES;
    config.journal_keep_bytes = KEEP_BYTES;
    config
}

fn open(how: &str, config: &StorageConfig) -> Engine {
    let began = Instant::now();
    let engine = Engine::open_dir(config).expect("a store");
    println!("  opening {how}: {} ms", began.elapsed().as_millis());
    engine
}

/// What was seen while a store was written to.
#[derive(Default)]
struct Seen {
    bases: u64,
    directory_most: u64,
    journal_most: u64,
    bases_most: u64,
    index_most: u64,
    /// Time of each commit, in microseconds, apart for those that ended while a base was made.
    beside_base: Vec<u64>,
    otherwise: Vec<u64>,
    took: Duration,
}

impl Seen {
    fn look(&mut self, directory: &Path) {
        let [journal, base, index] = ["journal", "base", "index"].map(|name| size_of(&directory.join(name)));
        self.directory_most = self.directory_most.max(size_of(directory));
        self.journal_most = self.journal_most.max(journal);
        self.bases_most = self.bases_most.max(base);
        self.index_most = self.index_most.max(index);
    }

    fn print(mut self, base_bytes: u64) {
        println!(
            "  {} s, {} bases of {} MiB in the end; most that was taken: {} MiB (journal {}, bases {}, index {})",
            self.took.as_secs(),
            self.bases,
            base_bytes / MIB,
            self.directory_most / MIB,
            self.journal_most / MIB,
            self.bases_most / MIB,
            self.index_most / MIB
        );
        for (when, times) in [("while a base is made", &mut self.beside_base), ("otherwise", &mut self.otherwise)] {
            times.sort_unstable();
            let at = |part: usize| times.get(times.len() * part / 1_000).map_or(0, |micros| micros / 10);
            let [p50, p99, p999] = [500, 990, 999].map(|part| at(part) as f64 / 100.0);
            println!("  {when}: {} commits, p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms", times.len());
        }
    }
}

async fn overwrite(engine: &Arc<Engine>, config: &StorageConfig, (keys, bytes, rate): (u64, u64, u64)) -> Seen {
    let began = Instant::now();
    let is_base_made = Arc::new(AtomicBool::new(false));
    let pause = Duration::from_secs_f64(WRITERS as f64 / rate as f64);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (engine, is_base_made) = (Arc::clone(engine), Arc::clone(&is_base_made));
            tokio::spawn(async move { write(&engine, &is_base_made, writer, (keys, bytes, pause)).await })
        })
        .collect();
    let next_base = config.dir.join("base/next.tmp");
    let mut seen = Seen::default();
    let (mut last_base, mut last_said, mut last_looked) = (0, began, began);
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(LOOK).await;
        is_base_made.store(next_base.exists(), Ordering::Relaxed);
        let from = engine.health().disk.base.map_or(0, |base| base.from);
        seen.bases += u64::from(from != last_base);
        last_base = from;
        if last_looked.elapsed() >= Duration::from_millis(200) {
            last_looked = Instant::now();
            seen.look(&config.dir);
        }
        if last_said.elapsed() >= Duration::from_secs(10) {
            last_said = Instant::now();
            let written = engine.health().journal_bytes_written / MIB;
            println!(
                "  {:>4} s: written {written:>5} MiB, directory {:>4} MiB",
                began.elapsed().as_secs(),
                size_of(&config.dir) / MIB
            );
        }
    }
    for writer in writers {
        let [beside_base, otherwise] = writer.await.expect("a writer");
        seen.beside_base.extend(beside_base);
        seen.otherwise.extend(otherwise);
    }
    seen.took = began.elapsed();
    seen
}

/// One writer: a commit each `pause`, late ones at once; the times of those beside a base, and of the others.
async fn write(
    engine: &Engine,
    is_base_made: &AtomicBool,
    writer: u64,
    (keys, bytes, pause): (u64, u64, Duration),
) -> [Vec<u64>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    let mut number = writer;
    // Not all at the same moment.
    let mut due = tokio::time::Instant::now() + pause.mul_f64(writer as f64 / WRITERS as f64);
    while engine.health().journal_bytes_written < bytes {
        tokio::time::sleep_until(due).await;
        let mut batch = Batch::finishing();
        // Scattered over the keys, each as often as every other.
        batch.put(key(number.wrapping_mul(7_919) % keys), vec![(number % 251) as u8; VALUE_BYTES]);
        let began = Instant::now();
        if engine.commit(batch).await.is_ok() {
            let beside_base = is_base_made.load(Ordering::Relaxed);
            times[usize::from(!beside_base)].push(began.elapsed().as_micros() as u64);
        }
        number += WRITERS;
        due += pause;
    }
    times
}

fn key(number: u64) -> Vec<u8> {
    format!("key/{number:010}").into_bytes()
}

/// Bytes of all files; one that goes while it is looked at counts for nothing.
fn size_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}
