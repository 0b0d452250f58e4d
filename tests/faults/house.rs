//! A data directory with known content, and what a start makes of a copy of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tollgate::config::{Config, StorageConfig};
use tollgate::storage::engine::Engine;
use tollgate::storage::reached::REACHED;
use tollgate::storage::{Batch, Scan, Store};

const APPLIED_BATCHES: usize = 600;
const UNAPPLIED_BATCHES: usize = 60;

/// What is in a store.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A directory that was written and left.
pub struct Written {
    pub directory: tempfile::TempDir,
    /// Everything that was acknowledged.
    pub rows: Rows,
    /// Keys of the last frame.
    pub last: Vec<Vec<u8>>,
    /// Whether nothing is noted about the frames of its last segment.
    pub is_end_unknown: bool,
}

/// How a directory was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Closed in order.
    Closed,
    /// As by a kill.
    Killed,
    /// As by a power cut, with the oldest note about the journal's end that can be.
    WithoutPower,
}

/// What of the journal is left when a base export was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// Everything.
    Whole,
    /// What is not in the base, and some more.
    BehindBase,
}

/// A small store, so that every part of every file can be damaged in turn.
pub fn config(directory: &Path) -> StorageConfig {
    let mut config = Config::embedded().unwrap().storage;
    config.dir = directory.to_owned();
    config.segment_bytes = 1 << 20;
    config.group_bytes_max = 256 << 10;
    config.checkpoint_bytes = 1 << 20;
    config.cache_bytes = 4 << 20;
    config.ballast_bytes = 1 << 20;
    config.apply_interval_ms = 1;
    config.checkpoint_interval_ms = 1000;
    config
}

/// The same with a base export as soon as there are two segments.
fn config_with_base(directory: &Path, journal: Journal) -> StorageConfig {
    let mut config = config(directory);
    config.base_bytes = config.segment_bytes;
    config.low_space_bytes = 0;
    config.growth_interval_ms = 100;
    if journal == Journal::BehindBase {
        config.journal_keep_hours = 0;
    }
    config
}

fn value(number: usize) -> Vec<u8> {
    // Now and then one that the index has to split.
    let bytes = if number.is_multiple_of(25) { 9_000 } else { 300 + number * 7 % 1_500 };
    (0..bytes).map(|at| u8::try_from((at * 31 + number * 17) % 251).unwrap()).collect()
}

impl Written {
    /// Several segments; most of it in the index, some in the journal only.
    pub async fn new(left: Left) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let engine = Engine::open_dir(&config).unwrap();
        let mut rows = Rows::new();
        for number in 0..APPLIED_BATCHES {
            put(&engine, &mut rows, number).await;
        }
        // With that everything so far is in the index, durably.
        engine.close().unwrap();
        Self::finish(directory, config, rows, left).await
    }

    /// The same with a base export. It is waited for a minute at most.
    pub async fn with_base(journal: Journal) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = config_with_base(directory.path(), journal);
        let engine = Engine::open_dir(&config).unwrap();
        let mut rows = Rows::new();
        for number in 0..APPLIED_BATCHES {
            put(&engine, &mut rows, number).await;
        }
        let is_done = || {
            let begins_later = !directory.path().join("journal/00000000000000000001.seg").exists();
            engine.health().disk.base.is_some() && begins_later == (journal == Journal::BehindBase)
        };
        for _ in 0..600 {
            if is_done() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(is_done(), "no base export was made in a minute");
        engine.close().unwrap();
        Self::finish(directory, config, rows, Left::Killed).await
    }

    /// Some more that only the journal has.
    async fn finish(directory: tempfile::TempDir, mut config: StorageConfig, mut rows: Rows, left: Left) -> Self {
        config.apply_interval_ms = 60_000;
        let engine = Engine::open_dir(&config).unwrap();
        let mut last = put(&engine, &mut rows, APPLIED_BATCHES).await;
        // The first of a segment, which all the others fit into, too.
        let oldest_note = fs::read(directory.path().join(REACHED)).unwrap();
        for number in APPLIED_BATCHES + 1..APPLIED_BATCHES + UNAPPLIED_BATCHES {
            last = put(&engine, &mut rows, number).await;
        }
        if left == Left::Closed {
            engine.close().unwrap();
        }
        drop(engine);
        if left == Left::WithoutPower {
            fs::write(directory.path().join(REACHED), oldest_note).unwrap();
        }
        Self { directory, rows, last, is_end_unknown: left == Left::WithoutPower }
    }

    /// Every file, by its path in the directory.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(self.directory.path(), &mut found);
        found.sort();
        found.iter().map(|path| path.strip_prefix(self.directory.path()).unwrap().to_owned()).collect()
    }

    /// A copy to be damaged.
    pub fn copy(&self) -> tempfile::TempDir {
        let target = tempfile::tempdir().unwrap();
        copy_into(self.directory.path(), target.path());
        target
    }
}

async fn put(engine: &Engine, rows: &mut Rows, number: usize) -> Vec<Vec<u8>> {
    let mut batch = Batch::new();
    // New keys, changed ones and removed ones.
    let keys = [format!("k/{number:05}"), format!("k/{:05}/changing", number % 40)].map(String::into_bytes);
    for key in &keys {
        rows.insert(key.clone(), value(number));
        batch.put(key.clone(), value(number));
    }
    if number % 10 == 9 {
        let removed = format!("k/{:05}", number - 5).into_bytes();
        rows.remove(&removed);
        batch.delete(removed);
    }
    engine.commit(batch).await.unwrap();
    keys.to_vec()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, found) } else { found.push(path) }
    }
}

/// Copies a tree.
pub fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a start made of a damaged directory.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything acknowledged is there.
    Whole,
    /// Everything is there after another start; before it, reading some rows was an error.
    WholeAfterAnotherStart,
    /// It does not open and says why.
    Refused(String),
    /// Only the last frame is missing: it can't be told from one that was never acknowledged.
    LastFrameMissing,
    /// Something is gone and nobody was told.
    SilentLoss(String),
}

/// Opens a directory and looks for everything.
pub fn judge(directory: &Path, written: &Written) -> Verdict {
    let mut is_second = false;
    loop {
        let engine = match Engine::open_dir(&config(directory)) {
            Ok(engine) => engine,
            Err(error) => return Verdict::Refused(error.to_string()),
        };
        let seen = compare(&engine, written);
        let closed = engine.close();
        drop(engine);
        match seen {
            Seen::Unreadable(error) if is_second => {
                return Verdict::SilentLoss(format!("unreadable for ever: {error}"));
            }
            Seen::Unreadable(_) => is_second = true,
            Seen::Verdict(Verdict::Whole) if is_second => return Verdict::WholeAfterAnotherStart,
            // What was shown once stays: the applier may have met the damage after that.
            Seen::Verdict(Verdict::Whole) if closed.is_err() => is_second = true,
            Seen::Verdict(verdict) => return verdict,
        }
    }
}

enum Seen {
    Unreadable(String),
    Verdict(Verdict),
}

fn compare(engine: &Engine, written: &Written) -> Seen {
    let mut missing = Vec::new();
    for (key, value) in &written.rows {
        match engine.get(key) {
            Err(error) => return Seen::Unreadable(error.to_string()),
            Ok(Some(found)) if found.value[..] == value[..] => {}
            Ok(_) => missing.push(key.clone()),
        }
    }
    let rows = match engine.scan(&Scan::prefix(b"k/", 10_000)) {
        Ok(rows) => rows,
        Err(error) => return Seen::Unreadable(error.to_string()),
    };
    let strange = rows.iter().find(|row| !written.rows.contains_key(&row.key));
    Seen::Verdict(if missing.iter().any(|key| !written.last.contains(key)) {
        Verdict::SilentLoss(format!("{} rows are missing or older, {:?} first", missing.len(), text(&missing[0])))
    } else if !missing.is_empty() {
        Verdict::LastFrameMissing
    } else if let Some(row) = strange {
        Verdict::SilentLoss(format!("{} was removed and is back", text(&row.key)))
    } else if rows.len() != written.rows.len() {
        Verdict::SilentLoss(format!("a scan finds {} of {} rows", rows.len(), written.rows.len()))
    } else {
        Verdict::Whole
    })
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
