//! What a durable commit costs beside appending the same bytes to a file and syncing it, in the same run.
//!
//! `cargo bench --bench journal`. Three rows, in turns (A B C A B C …), with the median of the turns:
//! - *engine*: writers that each wait for their commit before the next one;
//! - *append*: one thread that appends as many bytes as the engine wrote in each frame, one `fdatasync` after each, in
//!   a zero-filled file. This is what the disk allows for groups of that size;
//! - *full groups*: the same, with one group of all writers for each `fdatasync`, which no closed loop can reach.
//!
//! Environment: `WRITERS` (64), `COMMITS` a turn (20,000), `VALUE_BYTES` (700), `TURNS` (5), `DIR` (the system's
//! temporary directory; should be on the disk that is meant).
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
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
        commits: from_environment("COMMITS", 20_000),
        value_bytes: usize::try_from(from_environment("VALUE_BYTES", 700)).expect("a length"),
        turns: usize::try_from(from_environment("TURNS", 5)).expect("a number"),
    };
    let parent = std::env::var("DIR").map_or_else(|_| std::env::temp_dir(), Into::into);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (mut engine, mut append, mut full) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 1..=plan.turns {
        let dir = tempfile::tempdir_in(&parent).expect("a directory");
        let measured = runtime.block_on(measure_engine(&plan, dir.path()));
        let raw = measure_append(&plan, dir.path(), measured.frames, measured.bytes);
        let grouped = measure_append(&plan, dir.path(), plan.commits / plan.writers, measured.bytes);
        println!(
            "turn {turn}: engine {:>7.0}/s in {} frames of {:.1} commits, append {raw:>7.0}/s, full groups {grouped:>7.0}/s",
            measured.commits_per_s,
            measured.frames,
            plan.commits as f64 / measured.frames as f64,
        );
        engine.push(measured.commits_per_s);
        append.push(raw);
        full.push(grouped);
    }
    let (engine, append, full) = (median(engine), median(append), median(full));
    println!(
        "median: engine {engine:.0}/s = {:.0} % of append {append:.0}/s = {:.0} % of full groups {full:.0}/s",
        100.0 * engine / append,
        100.0 * engine / full,
    );
}

async fn measure_engine(plan: &Plan, dir: &Path) -> Turn {
    let config = StorageConfig {
        dir: dir.join("store"),
        segment_bytes: 64 << 20,
        queue_batches_max: 4096,
        group_bytes_max: 1 << 20,
        overlay_bytes_max: 256 << 20,
        apply_interval_ms: 200,
        checkpoint_interval_ms: 5000,
        checkpoint_bytes: 64 << 20,
        cache_bytes: 64 << 20,
        ballast_bytes: 0,
    };
    let engine = Arc::new(Engine::open_dir(&config).expect("a store"));
    // The first commit waits for the first segment, which is not what is measured.
    engine.commit(batch(plan, u64::MAX, 0)).await.expect("a commit");
    let before = engine.health();
    let started = Instant::now();
    let each = plan.commits / plan.writers;
    let writers: Vec<_> = (0..plan.writers)
        .map(|writer| {
            let engine = Arc::clone(&engine);
            let batches: Vec<Batch> = (0..each).map(|number| batch(plan, writer, number)).collect();
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
    engine.close().expect("a clean stop");
    Turn {
        commits_per_s: (each * plan.writers) as f64 / seconds,
        frames: after.journal_frames_written - before.journal_frames_written,
        bytes: after.journal_bytes_written - before.journal_bytes_written,
    }
}

fn batch(plan: &Plan, writer: u64, number: u64) -> Batch {
    let mut batch = Batch::new();
    batch.insert(format!("writer/{writer:020}/{number:010}").into_bytes(), vec![7; plan.value_bytes]);
    batch
}

/// Commits a second if each frame took only its append and its sync.
fn measure_append(plan: &Plan, dir: &Path, frames: u64, bytes: u64) -> f64 {
    let file = File::create(dir.join("append")).expect("a file");
    let frame = vec![7; usize::try_from(bytes / frames).expect("a length")];
    let zeros = vec![0; 1 << 20];
    for chunk in 0..=bytes >> 20 {
        file.write_all_at(&zeros, chunk << 20).expect("zeros");
    }
    file.sync_all().expect("a sync");
    let started = Instant::now();
    for number in 0..frames {
        file.write_all_at(&frame, number * frame.len() as u64).expect("an append");
        file.sync_data().expect("a sync");
    }
    plan.commits as f64 / started.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
