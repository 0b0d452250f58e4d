//! What the engine does when things go wrong.

mod archives;
mod copies;
mod crashes;
mod damage;
mod failures;
mod growth;
mod index_loss;
mod sim_files;
mod transfer;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::storage::committer::Committer;
use crate::storage::engine::{EngineOptions, Parts, SegmentsBy};
use crate::storage::files::Files;
use crate::storage::index::MemoryIndex;
use crate::storage::keeper::GrowthOptions;
use crate::storage::request::Request;
use crate::storage::segments::frame_bytes_max;
use crate::storage::sim_files::SimFiles;
use crate::storage::{Batch, Committed, Row, Scan, Store, StoreError};

/// When the machine's clock stands still.
const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);

/// Segments of a few frames each.
fn options() -> EngineOptions {
    EngineOptions {
        segment_bytes: 4096,
        queue_batches_max: 64,
        group_bytes_max: 2048,
        overlay_bytes_max: 1 << 20,
        apply_interval: Duration::from_millis(1),
        checkpoint_interval: Duration::from_millis(5),
        checkpoint_bytes: 1 << 20,
        reopen_bytes: 1 << 20,
        ballast_bytes: 4096,
        growth: GrowthOptions::UNBOUNDED,
    }
}

/// A machine whose parts are stepped by the test.
struct Machine {
    files: SimFiles,
    index: MemoryIndex,
}

impl Machine {
    fn new() -> Self {
        Self { files: SimFiles::new(), index: MemoryIndex::new() }
    }

    fn open(&self, seed: u64) -> Result<Parts, StoreError> {
        self.open_with(seed, &options(), &Clock::manual(START))
    }

    fn open_with(&self, seed: u64, options: &EngineOptions, clock: &Clock) -> Result<Parts, StoreError> {
        let files: Arc<dyn Files> = Arc::new(self.files.clone());
        Parts::open(files, &self.index, options, Random::seeded(seed), SegmentsBy::Committer, clock.clone())
    }

    /// The power goes off.
    fn crash(&self, random: &Random) {
        self.files.crash(random);
        self.index.crash(random);
    }

    /// The process is killed: what it has written is there as long as the power is on.
    fn kill(&self, random: &Random) {
        self.files.kill();
        self.index.crash(random);
    }

    /// One or the other; a machine without power can't kill anything.
    fn end(&self, random: &Random) {
        let has_power = self.files.list("").is_ok();
        if has_power && random.draw_u64().is_multiple_of(2) { self.kill(random) } else { self.crash(random) }
    }
}

type Answer = Result<Committed, StoreError>;

/// Commits a group of batches that have arrived together.
fn step(committer: &mut Committer, batches: Vec<Batch>) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut group: Vec<Request> = batches
        .into_iter()
        .map(|batch| {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            Request::new(batch, frame_bytes_max(options().segment_bytes), reply).unwrap()
        })
        .collect();
    committer.step(&mut group);
    answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect()
}

fn put(key: &str, value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(key.as_bytes().to_vec(), value.to_vec());
    batch
}

fn everything() -> Scan {
    Scan { start: Vec::new(), end: None, limit: 10_000, reverse: false }
}

/// Keys and values, without revisions.
fn contents(rows: Vec<Row>) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows.into_iter().map(|row| (row.key, row.versioned.value.to_vec())).collect()
}

fn contents_of(store: &dyn Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    contents(store.scan(&everything()).unwrap())
}
