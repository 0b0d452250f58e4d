//! The engine that the product runs on: a journal with an embedded index behind it.
//!
//! `commit` puts a batch into the queue. The committer's thread takes what has queued, writes it as one frame, syncs,
//! shows it in the overlay and answers. The applier's thread moves the overlay into the index. Readers look into the
//! overlay, then into the index, and never wait for the journal.

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::config::StorageConfig;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::storage::applier::{self, Applier, ApplierPace, ApplierSignal};
use crate::storage::archive::Archive;
use crate::storage::committer::Committer;
use crate::storage::dump::dump;
use crate::storage::export::ExportSummary;
use crate::storage::files::{DiskFiles, Files, create_private_directory};
use crate::storage::index::IndexHome;
use crate::storage::journal::Journal;
use crate::storage::keeper::{GrowthOptions, JournalHold, JournalHolds, Keeper};
use crate::storage::keeper_threads::{END_TIMEOUT, KeeperThreads};
use crate::storage::new_directory::check_whole;
use crate::storage::queue::{CommitQueue, QueueBounds};
use crate::storage::recovery::recover;
use crate::storage::request::Request;
use crate::storage::retirement::KeepRule;
use crate::storage::segments::{SegmentSupply, frame_bytes_max};
use crate::storage::sled_index::SledHome;
use crate::storage::space::Space;
use crate::storage::status::Status;
use crate::storage::view::View;
use crate::storage::{
    Batch, CommitFuture, CommitHealth, DISK_SPACE_IS_LOW, DiskHealth, Health, Row, Scan, Store, StoreError, Urgency,
    Versioned,
};

/// Bytes applied after which the index is reopened. docs/durability.md has the measurements behind it.
const REOPEN_BYTES: u64 = 512 << 20;
/// The index's directory.
pub const INDEX: &str = "index";
/// The file whose lock says that a process has the directory open.
pub const LOCK: &str = "LOCK";

/// The message of [`StoreError::Io`] when somebody else has a directory open.
pub const IN_USE: &str = "another process has it open";
/// How often a lock is tried that somebody else has, and the wait in between.
const LOCK_TRIES: u32 = 6;
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// What an engine is opened with, apart from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Size of one journal segment.
    pub segment_bytes: u64,
    /// Batches that may wait for the committer.
    pub queue_batches_max: usize,
    /// Bytes of batches in one journal frame at most.
    pub group_bytes_max: usize,
    /// Bytes in memory that the index does not have yet.
    pub overlay_bytes_max: u64,
    /// How long changes are collected before they go to the index.
    pub apply_interval: Duration,
    /// How often the index is made durable at the least.
    pub checkpoint_interval: Duration,
    /// Bytes after which the index is made durable even before that.
    pub checkpoint_bytes: u64,
    /// Bytes after which the index is reopened.
    pub reopen_bytes: u64,
    /// Size of the file that is given up when the disk is full.
    pub ballast_bytes: u64,
    /// What bounds the store's growth.
    pub growth: GrowthOptions,
}

impl EngineOptions {
    /// The options that the configuration asks for.
    pub fn from_config(config: &StorageConfig) -> Self {
        Self {
            segment_bytes: config.segment_bytes,
            queue_batches_max: config.queue_batches_max,
            group_bytes_max: config.group_bytes_max,
            overlay_bytes_max: config.overlay_bytes_max,
            apply_interval: Duration::from_millis(config.apply_interval_ms),
            checkpoint_interval: Duration::from_millis(config.checkpoint_interval_ms),
            checkpoint_bytes: config.checkpoint_bytes,
            reopen_bytes: REOPEN_BYTES,
            ballast_bytes: config.ballast_bytes,
            growth: GrowthOptions {
                base_bytes: config.base_bytes,
                keep: KeepRule {
                    age: Duration::from_secs(config.journal_keep_hours.saturating_mul(3_600)),
                    bytes_max: config.journal_keep_bytes,
                },
                low_space_bytes: config.low_space_bytes,
                turn_interval: Duration::from_millis(config.growth_interval_ms),
            },
        }
    }

    fn pace(&self) -> ApplierPace {
        ApplierPace {
            apply_interval: self.apply_interval,
            checkpoint_interval: self.checkpoint_interval,
            checkpoint_bytes: self.checkpoint_bytes,
            reopen_bytes: self.reopen_bytes,
        }
    }
}

/// Who prepares journal segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentsBy {
    /// A thread, ahead of time.
    Thread,
    /// The committer, when it needs one. For simulations, where nothing may happen by itself.
    Committer,
}

/// An engine's parts, without threads. [`Engine`] runs them; a simulation steps them.
pub struct Parts {
    /// Evaluates, writes, answers.
    pub committer: Committer,
    /// Moves changes into the index.
    pub applier: Applier,
    /// What readers see.
    pub view: Arc<View>,
    /// How it goes.
    pub status: Arc<Status>,
    /// Room on the disk.
    pub space: Arc<Space>,
    /// Makes bases and lets segments leave the journal.
    pub keeper: Keeper,
    /// When the last frame was written that was found; `None` when there is none or it does not say.
    pub last_written_at: Option<Timestamp>,
}

impl Parts {
    /// Recovers what is on disk. `clock` says when each frame of the journal is written.
    ///
    /// # Errors
    /// As for [`Engine::open`].
    pub fn open(
        files: Arc<dyn Files>,
        home: &dyn IndexHome,
        options: &EngineOptions,
        random: Random,
        segments_by: SegmentsBy,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let recovered = recover(&files, home, options.overlay_bytes_max)?;
        let (ballast_bytes, low_space_bytes) = (options.ballast_bytes, options.growth.low_space_bytes);
        let space = Arc::new(Space::open_with_mark(Arc::clone(&files), ballast_bytes, low_space_bytes));
        let (supply_files, supply_space) = (Arc::clone(&files), Arc::clone(&space));
        let supply = match segments_by {
            SegmentsBy::Committer => SegmentSupply::inline(supply_files, supply_space, random, options.segment_bytes),
            SegmentsBy::Thread => SegmentSupply::threaded(supply_files, supply_space, random, options.segment_bytes)
                .map_err(|error| io_error("starting a thread", &error))?,
        };
        let status = Arc::new(Status::new(&recovered.end));
        let last_written_at = recovered.end.at;
        let journal =
            Journal::new(supply, recovered.end, recovered.reached).with_segment_age_max(options.growth.keep.period());
        let view = recovered.view;
        let committer =
            Committer::new(journal, Arc::clone(&view), Arc::clone(&status), options.group_bytes_max, clock.clone());
        let keeper = Keeper::new(
            Arc::clone(&files),
            Arc::clone(&view),
            (Arc::clone(&status), Arc::clone(&space)),
            clock,
            options.growth,
            recovered.base,
        );
        let applier = Applier::new(Arc::clone(&view), files, options.pace(), recovered.checkpointed);
        Ok(Self { committer, applier, view, status, space, keeper, last_written_at })
    }
}

/// See the module.
pub struct Engine {
    queue: Arc<CommitQueue>,
    view: Arc<View>,
    status: Arc<Status>,
    space: Arc<Space>,
    signal: Arc<ApplierSignal>,
    holds: JournalHolds,
    batch_bytes_max: usize,
    last_written_at: Option<Timestamp>,
    /// `None` once the engine is closed.
    running: Mutex<Option<Running>>,
}

struct Running {
    committer: JoinHandle<Committer>,
    applier: JoinHandle<Result<(), StoreError>>,
    keeper: KeeperThreads,
    /// Held as long as the directory is in use.
    lock: Option<Arc<File>>,
}

/// What an engine is opened with beside files, index and options.
struct Surroundings {
    random: Random,
    clock: Clock,
    lock: Option<File>,
    /// Where segments go that leave the journal.
    archive: Option<Arc<dyn Files>>,
    keeper_end_timeout: Duration,
}

impl Engine {
    /// How commits get to the disk.
    fn commit_health(&self) -> CommitHealth {
        let (waiting, waiting_bytes) = self.queue.waiting();
        CommitHealth { waiting, waiting_bytes, groups: self.status.groups(), syncs: self.status.syncs() }
    }

    /// Opens the store in the configured directory, making one if there is none, and recovers what a crash has left.
    ///
    /// # Errors
    /// [`StoreError::Io`] when another process has it open or a file can't be read or written, [`StoreError::Corrupt`]
    /// when something is damaged that can't be rebuilt, or a restore into the directory was interrupted.
    pub fn open_dir(config: &StorageConfig) -> Result<Self, StoreError> {
        Self::open_dir_by(config, Clock::system())
    }

    /// The same, with another clock than the machine's for the times that are written down.
    ///
    /// # Errors
    /// As for [`Engine::open_dir`].
    pub fn open_dir_by(config: &StorageConfig, clock: Clock) -> Result<Self, StoreError> {
        check_whole(&config.dir)?;
        create_private_directory(&config.dir)
            .map_err(|error| io_error(&format!("making {}", config.dir.display()), &error))?;
        let lock = take_lock(&config.dir)?;
        let files = Arc::new(DiskFiles::new(&config.dir));
        let home = SledHome::new(config.dir.join(INDEX), config.cache_bytes);
        let options = EngineOptions::from_config(config);
        let archive = config.archive_dir.as_ref().map(|directory| open_archive(directory)).transpose()?;
        let surroundings = Surroundings {
            random: Random::from_os(),
            clock,
            lock: Some(lock),
            archive,
            keeper_end_timeout: END_TIMEOUT,
        };
        Self::start(files, &home, &options, surroundings)
    }

    /// Opens a store on any files and any index.
    ///
    /// # Errors
    /// As for [`Engine::open_dir`].
    pub fn open(
        files: Arc<dyn Files>,
        home: &dyn IndexHome,
        options: &EngineOptions,
        random: Random,
    ) -> Result<Self, StoreError> {
        Self::open_by(files, home, options, random, (None, END_TIMEOUT))
    }

    /// The same with an archive, and with another wait for the keeper in the end.
    pub(super) fn open_by(
        files: Arc<dyn Files>,
        home: &dyn IndexHome,
        options: &EngineOptions,
        random: Random,
        (archive, keeper_end_timeout): (Option<Arc<dyn Files>>, Duration),
    ) -> Result<Self, StoreError> {
        let surroundings = Surroundings { random, clock: Clock::system(), lock: None, archive, keeper_end_timeout };
        Self::start(files, home, options, surroundings)
    }

    fn start(
        files: Arc<dyn Files>,
        home: &dyn IndexHome,
        options: &EngineOptions,
        surroundings: Surroundings,
    ) -> Result<Self, StoreError> {
        let Surroundings { random, clock, lock, archive, keeper_end_timeout } = surroundings;
        let archive = archive.map(|files| Archive::new(files, random.clone()));
        let lock = lock.map(Arc::new);
        let Parts { committer, applier, view, status, space, keeper, last_written_at } =
            Parts::open(files, home, options, random, SegmentsBy::Thread, clock)?;
        let bounds =
            QueueBounds { batches_max: options.queue_batches_max, memory_bytes_max: options.overlay_bytes_max };
        let queue = Arc::new(CommitQueue::new(bounds));
        let signal = Arc::new(ApplierSignal::default());
        let committer_thread = spawn("tollgate-commit", {
            let stage = CommitStage {
                queue: Arc::clone(&queue),
                view: Arc::clone(&view),
                status: Arc::clone(&status),
                signal: Arc::clone(&signal),
                hurry_bytes: options.overlay_bytes_max / 2,
            };
            move || stage.run(committer)
        })?;
        let applier_thread = spawn("tollgate-apply", {
            let (signal, status, space) = (Arc::clone(&signal), Arc::clone(&status), Arc::clone(&space));
            move || {
                let _alarm = PanicAlarm::of(&status);
                applier::run(applier, &signal, &status, &space, &Clock::system())
            }
        });
        let applier_thread = match applier_thread {
            Ok(thread) => thread,
            Err(error) => {
                queue.abort(&closed());
                let _ = committer_thread.join();
                return Err(error);
            }
        };
        let keeper = keeper.with_archive(archive);
        let holds = keeper.holds();
        let keeper_threads = match KeeperThreads::start(keeper, (&status, &space), lock.clone(), keeper_end_timeout) {
            Ok(threads) => threads,
            Err(error) => {
                queue.abort(&closed());
                signal.abandon();
                let _ = committer_thread.join();
                let _ = applier_thread.join();
                return Err(error);
            }
        };
        let running = Running { committer: committer_thread, applier: applier_thread, keeper: keeper_threads, lock };
        // A batch that could never fit beside others would only ever be told to try again.
        let overlay_share = usize::try_from(options.overlay_bytes_max / 4).unwrap_or(usize::MAX);
        Ok(Self {
            queue,
            view,
            status,
            space,
            signal,
            holds,
            batch_bytes_max: frame_bytes_max(options.segment_bytes).min(overlay_share),
            last_written_at,
            running: Mutex::new(Some(running)),
        })
    }

    /// Writes all rows to `sink`, which the caller syncs, while the store stays in use; see [`dump`]. `go_on` is asked
    /// after each page of rows and may rest; `None` when it said no.
    ///
    /// # Errors
    /// As for [`dump`].
    pub fn export<W: Write>(
        &self,
        sink: W,
        made_at: Timestamp,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<(ExportSummary, W)>, StoreError> {
        dump(&self.view, made_at, sink, go_on)
    }

    /// Whether the disk has more room now than what is kept back for work.
    pub fn has_room_beyond_ballast(&self) -> bool {
        self.space.has_room_beyond_ballast()
    }

    /// When the last change was made that was found at opening, as the clock had it then; `None` when there is none, or a
    /// program has written it that did not say.
    pub fn last_written_at(&self) -> Option<Timestamp> {
        self.last_written_at
    }

    /// Until the answer is dropped no segment leaves the journal and no base goes, such as while they are copied.
    pub fn hold_journal(&self) -> JournalHold {
        self.holds.hold()
    }

    fn enqueue(
        &self,
        batch: Batch,
    ) -> Result<oneshot::Receiver<Result<crate::storage::Committed, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::new(batch, self.batch_bytes_max, reply)?;
        self.status.check()?;
        if request.urgency == Urgency::New {
            if self.space.is_low() {
                return Err(StoreError::Overloaded(DISK_SPACE_IS_LOW));
            }
            if self.space.is_full() {
                return Err(StoreError::Overloaded("the disk is full"));
            }
        }
        self.queue.push(request, self.view.overlay().bytes())?;
        Ok(answer)
    }
}

impl Store for Engine {
    fn commit(&self, batch: Batch) -> CommitFuture {
        match self.enqueue(batch) {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok(answer) => Box::pin(async move {
                answer.await.unwrap_or_else(|_| {
                    Err(StoreError::Indeterminate("the committer ended before it answered".to_owned()))
                })
            }),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.view.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        self.view.scan(scan)
    }

    fn health(&self) -> Health {
        let poisoned = self.status.poisoned();
        let overlay_bytes = self.view.overlay().bytes();
        let (journal_bytes, journal_segments) = self.status.journal_on_disk();
        Health {
            accepts_new: poisoned.is_none()
                && !self.space.is_low()
                && !self.space.is_full()
                && self.queue.has_room(overlay_bytes),
            poisoned,
            was_left_open: self.status.was_left_open(),
            committed: self.status.committed(),
            last_change: self.status.last_change(),
            applied: self.view.index().applied(),
            overlay_bytes,
            journal_bytes_written: self.status.journal_bytes_written(),
            journal_frames_written: self.status.journal_frames_written(),
            commits: self.commit_health(),
            disk: DiskHealth {
                free_bytes: self.space.free_bytes(),
                is_low: self.space.is_low(),
                is_full: self.space.is_full(),
                journal_bytes,
                journal_segments,
                base: self.status.base(),
            },
        }
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        self.status.failed()
    }

    fn close(&self) -> Result<(), StoreError> {
        let Some(running) = self.running.lock().take() else { return Ok(()) };
        running.keeper.end();
        self.queue.close(closed());
        let committer = running.committer.join();
        self.signal.finish();
        let applied = running.applier.join().unwrap_or_else(|_| Err(ended("the applier's thread panicked")));
        let sealed = match committer {
            Ok(mut committer) => committer.seal(),
            Err(_) => Err(ended("the committer's thread panicked")),
        };
        // Last, because it may wait for an archive that does not answer.
        running.keeper.join();
        self.view.index().close();
        drop(running.lock);
        self.status.check()?;
        applied.and(sealed)
    }
}

impl Drop for Engine {
    /// Without [`Store::close`] before it this is like a crash that loses nothing acknowledged.
    fn drop(&mut self) {
        let Some(running) = self.running.lock().take() else { return };
        self.queue.abort(&closed());
        self.signal.abandon();
        running.keeper.end();
        let _ = running.committer.join();
        let _ = running.applier.join();
        running.keeper.join();
        self.view.index().close();
        drop(running.lock);
    }
}

/// The committer's thread.
struct CommitStage {
    queue: Arc<CommitQueue>,
    view: Arc<View>,
    status: Arc<Status>,
    signal: Arc<ApplierSignal>,
    hurry_bytes: u64,
}

impl CommitStage {
    fn run(self, mut committer: Committer) -> Committer {
        let _alarm = PanicAlarm { status: &self.status, queue: Some(&self.queue) };
        let mut group = Vec::new();
        while self.queue.take_group(&mut group, committer.frame_bytes_max()) {
            committer.step(&mut group);
            if let Err(error) = self.status.check() {
                self.queue.abort(&error);
                break;
            }
            if self.view.overlay().bytes() > self.hurry_bytes {
                self.signal.hurry();
            }
        }
        committer
    }
}

/// Poisons the store when the thread that holds it panics, and answers those who wait for that thread.
pub(super) struct PanicAlarm<'a> {
    status: &'a Status,
    /// What the thread would have worked off.
    queue: Option<&'a CommitQueue>,
}

impl<'a> PanicAlarm<'a> {
    /// An alarm for a thread that nobody waits for.
    pub(super) fn of(status: &'a Status) -> Self {
        Self { status, queue: None }
    }
}

impl Drop for PanicAlarm<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        const REASON: &str = "a thread of the store panicked";
        self.status.poison(REASON);
        if let Some(queue) = self.queue {
            queue.abort(&ended(REASON));
        }
    }
}

fn open_archive(directory: &Path) -> Result<Arc<dyn Files>, StoreError> {
    create_private_directory(directory)
        .map_err(|error| io_error(&format!("making the archive {}", directory.display()), &error))?;
    Ok(Arc::new(DiskFiles::new(directory)))
}

/// Takes the lock that says that a process has a data directory open; it is given back when the file is closed.
///
/// # Errors
/// [`StoreError::Io`] when another process has it.
pub fn take_lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| io_error(&format!("opening {}", path.display()), &error))?;
    lock(file, directory)
}

/// The same for who changes nothing, not even by making the file: without it, `None`, and nobody has the directory open.
///
/// # Errors
/// As for [`take_lock`].
pub fn take_lock_if_there(directory: &Path) -> Result<Option<File>, StoreError> {
    let path = directory.join(LOCK);
    match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(&format!("opening {}", path.display()), &error)),
        Ok(file) => lock(file, directory).map(Some),
    }
}

fn lock(file: File, directory: &Path) -> Result<File, StoreError> {
    let mut locked = file.try_lock();
    for _ in 1..LOCK_TRIES {
        if !matches!(locked, Err(std::fs::TryLockError::WouldBlock)) {
            break;
        }
        // Somebody may only be looking whether the directory is open.
        std::thread::sleep(LOCK_WAIT);
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Io {
            context: format!("opening the store in {}", directory.display()),
            message: IN_USE.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(io_error(&format!("locking {}", directory.join(LOCK).display()), &error))
        }
    }
}

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StoreError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| io_error("starting a thread", &error))
}

fn closed() -> StoreError {
    StoreError::Poisoned("it is closed".to_owned())
}

fn ended(how: &str) -> StoreError {
    StoreError::Poisoned(how.to_owned())
}

fn io_error(context: &str, error: &std::io::Error) -> StoreError {
    StoreError::Io { context: context.to_owned(), message: error.to_string() }
}
