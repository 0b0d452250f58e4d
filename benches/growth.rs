//! How much of the disk a store takes while the same keys are overwritten without end, and how long it takes to open
//! afterwards, also when its index is lost: `cargo bench --bench growth`.
//!
//! `KEYS` (100,000) values of 700 B are overwritten until `MIB` (1,536) have been written to the journal, with segments of 8
//! MiB, a base for each 64 MiB and 128 MiB of the journal kept. Once a second the size of the directory is looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a bench")]
#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate::config::{Config, StorageConfig};
use tollgate::storage::engine::Engine;
use tollgate::storage::{Batch, Store};

const VALUE_BYTES: usize = 700;
const WRITERS: u64 = 32;
const MIB: u64 = 1 << 20;

fn main() {
    let (keys, mib) = (from_environment("KEYS", 100_000), from_environment("MIB", 1_536));
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let engine = Arc::new(Engine::open_dir(&config).expect("a store"));
    let written = runtime.block_on(overwrite(&engine, &config.dir, keys, mib * MIB));
    let base = engine.health().disk.base;
    println!("base: {:?}", base.map(|base| base.bytes / MIB));
    // As after a kill: nothing is closed in order.
    drop(Arc::into_inner(engine).expect("nobody else has it"));
    println!("written {written} MiB, left {} MiB", size_of(&config.dir) / MIB);
    open("after a crash", &config).close().expect("a clean stop");
    open("after a clean stop", &config).close().expect("a clean stop");
    std::fs::remove_dir_all(config.dir.join("index")).expect("an index");
    let engine = open("without its index", &config);
    let rows = engine.get(&key(0)).expect("it can be read");
    assert!(rows.is_some(), "it is all there");
    engine.close().expect("a clean stop");
}

fn config(directory: &Path) -> StorageConfig {
    let mut config = Config::embedded().expect("a configuration").storage;
    config.dir = directory.join("store");
    config.segment_bytes = 8 * MIB;
    config.group_bytes_max = (2 * MIB) as usize;
    config.checkpoint_interval_ms = 5_000;
    config.checkpoint_bytes = 32 * MIB;
    config.cache_bytes = 64 * MIB;
    config.ballast_bytes = 0;
    config.base_bytes = 64 * MIB;
    config.journal_keep_bytes = 128 * MIB;
    config
}

fn open(how: &str, config: &StorageConfig) -> Engine {
    let began = Instant::now();
    let engine = Engine::open_dir(config).expect("a store");
    println!("opening {how}: {} ms", began.elapsed().as_millis());
    engine
}

async fn overwrite(engine: &Arc<Engine>, dir: &Path, keys: u64, bytes: u64) -> u64 {
    let began = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let engine = Arc::clone(engine);
            tokio::spawn(async move {
                let mut number = writer;
                while engine.health().journal_bytes_written < bytes {
                    let mut batch = Batch::finishing();
                    // Scattered over the keys, each as often as every other.
                    batch.put(key(number.wrapping_mul(7_919) % keys), vec![number as u8; VALUE_BYTES]);
                    if engine.commit(batch).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    number += WRITERS;
                }
            })
        })
        .collect();
    let mut most = 0;
    let mut last_said = Duration::ZERO;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (journal, base) = (size_of(&dir.join("journal")), size_of(&dir.join("base")));
        let all = size_of(dir);
        most = most.max(all);
        if began.elapsed() - last_said >= Duration::from_secs(5) {
            last_said = began.elapsed();
            println!(
                "{:>4} s: written {:>5} MiB, directory {:>4} MiB (journal {:>4}, bases {:>4}, index {:>4})",
                began.elapsed().as_secs(),
                engine.health().journal_bytes_written / MIB,
                all / MIB,
                journal / MIB,
                base / MIB,
                size_of(&dir.join("index")) / MIB
            );
        }
    }
    println!("most that the directory ever took: {} MiB", most / MIB);
    engine.health().journal_bytes_written / MIB
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
