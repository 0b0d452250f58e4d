//! What a durable commit costs beside appending the same bytes to a file and syncing it, in the same run.
//!
//! `cargo bench --bench journal`. Four rows, in turns (A B C D B A C D …), with the median of the turns:
//! - *engine*: writers that each wait for their commit before the next one;
//! - *without REACHED*: the same on a store that can't write that file, and so does not note after each frame how far it is;
//! - *append*: one thread that appends as many bytes as the engine wrote in each frame, one `fdatasync` after each, in
//!   a zero-filled file. This is what the disk allows for groups of that size;
//! - *full groups*: the same, with one group of all writers for each `fdatasync`, which no closed loop can reach.
//!
//! Environment: `WRITERS` (64), `COMMITS` a turn (10,000), `VALUE_BYTES` (700), `TURNS` (15), `APPLY_INTERVAL_MS` (100), `DIR` (the system's
//! temporary directory; should be on the disk that is meant).
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tollgate::config::StorageConfig;
use tollgate::storage::engine::Engine;
use tollgate::storage::{Batch, Store};

struct Plan {
    writers: u64,
    commits: u64,
    value_bytes: usize,
    turns: usize,
}

struct Turn {
    commits_per_s: f64,
    frames: u64,
    bytes: u64,
}

fn main() {
    let plan = Plan {
        writers: from_environment("WRITERS", 64),
        commits: from_environment("COMMITS", 10_000),
        value_bytes: usize::try_from(from_environment("VALUE_BYTES", 700)).expect("a length"),
        turns: usize::try_from(from_environment("TURNS", 15)).expect("a number"),
    };
    let parent = std::env::var("DIR").map_or_else(|_| std::env::temp_dir(), Into::into);
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    let bytes_a_turn = 2 * plan.commits * (plan.value_bytes as u64 + 200);
    let raw = RawFile::create(dir.path(), plan.turns as u64 * bytes_a_turn);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let engine = Arc::new(open(&dir.path().join("store")));
    let unnoted = Arc::new(open(&without_reached(&dir.path().join("unnoted"))));
    let (mut engines, mut appends, mut groups, mut shares) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut unnoted_engines, mut unnoted_shares) = (Vec::new(), Vec::new());
    for turn in 0..plan.turns {
        let measure = |engine| runtime.block_on(measure_engine(&plan, engine, turn));
        // Neither is always the first.
        let (measured, other) = if turn % 2 == 0 {
            let measured = measure(&engine);
            (measured, measure(&unnoted))
        } else {
            let other = measure(&unnoted);
            (measure(&engine), other)
        };
        let append = plan.commits as f64 / raw.append(measured.frames, measured.bytes);
        let group = plan.commits as f64 / raw.append(plan.commits / plan.writers, measured.bytes);
        println!(
            "turn {turn:>2}: engine {:>7.0}/s in frames of {:>4.1} commits, without REACHED {:>7.0}/s, append {append:>7.0}/s, full groups {group:>7.0}/s",
            measured.commits_per_s,
            plan.commits as f64 / measured.frames as f64,
            other.commits_per_s,
        );
        engines.push(measured.commits_per_s);
        appends.push(append);
        groups.push(group);
        shares.push(100.0 * measured.commits_per_s / append);
        unnoted_engines.push(other.commits_per_s);
        unnoted_shares.push(100.0 * measured.commits_per_s / other.commits_per_s);
    }
    engine.close().expect("a clean stop");
    unnoted.close().expect("a clean stop");
    let (engine, append, group) = (median(engines), median(appends), median(groups));
    println!(
        "medians: engine {engine:.0}/s, append {append:.0}/s, full groups {group:.0}/s; engine/append {:.0} %, of each turn {:.0} %",
        100.0 * engine / append,
        median(shares),
    );
    let unnoted = median(unnoted_engines);
    println!(
        "without REACHED {unnoted:.0}/s; engine/without {:.1} %, of each turn {:.1} %",
        100.0 * engine / unnoted,
        median(unnoted_shares),
    );
}

/// A directory in which `REACHED` can be opened and not be made durable, so that a store goes on without it.
fn without_reached(dir: &Path) -> PathBuf {
    std::fs::create_dir(dir).expect("a directory");
    std::os::unix::fs::symlink("/dev/null", dir.join("REACHED")).expect("a link");
    dir.to_path_buf()
}

fn open(dir: &Path) -> Engine {
    let config = StorageConfig {
        dir: dir.to_path_buf(),
        segment_bytes: 64 << 20,
        queue_batches_max: 4096,
        group_bytes_max: 1 << 20,
        overlay_bytes_max: 256 << 20,
        apply_interval_ms: from_environment("APPLY_INTERVAL_MS", 100),
        checkpoint_interval_ms: 5000,
        checkpoint_bytes: 64 << 20,
        cache_bytes: 64 << 20,
        ballast_bytes: 0,
        low_space_bytes: 0,
        base_bytes: 1 << 40,
        growth_interval_ms: 10_000,
        journal_keep_hours: 0,
        journal_keep_bytes: 1 << 40,
        clock_back_max_s: 300,
        archive_dir: None,
    };
    Engine::open_dir(&config).expect("a store")
}

async fn measure_engine(plan: &Plan, engine: &Arc<Engine>, turn: usize) -> Turn {
    // The first commit of all waits for the first segment, which is not what is measured.
    engine.commit(Batch::new()).await.expect("a commit");
    let before = engine.health();
    let each = plan.commits / plan.writers;
    let batches = |writer| (0..each).map(move |number| batch(plan, turn, writer, number)).collect::<Vec<Batch>>();
    let all: Vec<_> = (0..plan.writers).map(batches).collect();
    let started = Instant::now();
    let writers: Vec<_> = all
        .into_iter()
        .map(|batches| {
            let engine = Arc::clone(engine);
            tokio::spawn(async move {
                for batch in batches {
                    engine.commit(batch).await.expect("a commit");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = engine.health();
    // What is left to do is not to be done at the expense of the next measurement.
    while engine.health().applied < after.committed {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Turn {
        commits_per_s: (each * plan.writers) as f64 / seconds,
        frames: after.journal_frames_written - before.journal_frames_written,
        bytes: after.journal_bytes_written - before.journal_bytes_written,
    }
}

fn batch(plan: &Plan, turn: usize, writer: u64, number: u64) -> Batch {
    let mut batch = Batch::new();
    batch.insert(format!("writer/{writer:05}/{turn:05}/{number:010}").into_bytes(), vec![7; plan.value_bytes]);
    batch
}

/// A file that was filled with zeros and synced.
struct RawFile {
    file: File,
    offset: Cell<u64>,
}

impl RawFile {
    fn create(dir: &Path, bytes: u64) -> Self {
        let file = File::create(dir.join("append")).expect("a file");
        let zeros = vec![0; 1 << 20];
        for chunk in 0..=bytes >> 20 {
            file.write_all_at(&zeros, chunk << 20).expect("zeros");
        }
        file.sync_all().expect("a sync");
        Self { file, offset: Cell::new(0) }
    }

    /// Seconds for appending so many frames of so many bytes together, with a sync after each.
    fn append(&self, frames: u64, bytes: u64) -> f64 {
        let frame = vec![7; usize::try_from(bytes / frames).expect("a length")];
        let started = Instant::now();
        for _ in 0..frames {
            self.file.write_all_at(&frame, self.offset.get()).expect("an append");
            self.file.sync_data().expect("a sync");
            self.offset.set(self.offset.get() + frame.len() as u64);
        }
        started.elapsed().as_secs_f64()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
