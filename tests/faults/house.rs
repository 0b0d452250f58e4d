//! A data directory with known content, and what a start makes of a copy of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tollgate::config::{Config, StorageConfig};
use tollgate::storage::engine::Engine;
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
    /// Whether it was left without closing it.
    pub is_open: bool,
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

fn value(number: usize) -> Vec<u8> {
    // Now and then one that the index has to split.
    let bytes = if number.is_multiple_of(25) { 9_000 } else { 300 + number * 7 % 1_500 };
    (0..bytes).map(|at| u8::try_from((at * 31 + number * 17) % 251).unwrap()).collect()
}

impl Written {
    /// Several segments; most of it in the index, some in the journal only; left as by a kill, or closed.
    pub async fn new(closed: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut rows = Rows::new();
        let mut config = config(directory.path());
        let engine = Engine::open_dir(&config).unwrap();
        for number in 0..APPLIED_BATCHES {
            put(&engine, &mut rows, number).await;
        }
        // With that everything so far is in the index, durably.
        engine.close().unwrap();
        config.apply_interval_ms = 60_000;
        let engine = Engine::open_dir(&config).unwrap();
        let mut last = Vec::new();
        for number in APPLIED_BATCHES..APPLIED_BATCHES + UNAPPLIED_BATCHES {
            last = put(&engine, &mut rows, number).await;
        }
        if closed {
            engine.close().unwrap();
        }
        drop(engine);
        Self { directory, rows, last, is_open: !closed }
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
