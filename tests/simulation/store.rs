//! The real journal, committer, overlay and applier on simulated files, stepped by two tasks in place of threads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tollgate::clock::Clock;
use tollgate::storage::applier::Applier;
use tollgate::storage::committer::Committer;
use tollgate::storage::engine::{EngineOptions, Parts, SegmentsBy};
use tollgate::storage::files::{Files, Shortage};
use tollgate::storage::index::IndexError;
use tollgate::storage::keeper::{GrowthOptions, JournalHold, JournalHolds, Keeper};
use tollgate::storage::queue::{CommitQueue, QueueBounds};
use tollgate::storage::request::Request;
use tollgate::storage::segments::frame_bytes_max;
use tollgate::storage::space::Space;
use tollgate::storage::status::Status;
use tollgate::storage::view::View;
use tollgate::storage::{
    BaseHealth, Batch, CommitFuture, CommitHealth, DISK_SPACE_IS_LOW, DiskHealth, Health, Row, Scan, Store, StoreError,
    Urgency, Versioned,
};

use crate::growth::{self, LOW_SPACE_BYTES, Moment, all_rows, draw_growth};
use crate::world::{Dice, World};

pub const SEGMENT_BYTES: u64 = 32 << 10;
const OVERLAY_BYTES_MAX: u64 = 2 << 20;
/// Room that is needed beside the ballast for the next segment.
pub const BALLAST_BYTES: u64 = 96 << 10;

pub struct SimStore {
    world: Arc<World>,
    queue: CommitQueue,
    waiting: AtomicU64,
    arrived: Notify,
    committed: Notify,
    committer: Mutex<Committer>,
    applier: Mutex<Applier>,
    view: Arc<View>,
    status: Arc<Status>,
    space: Arc<Space>,
    keeper: Mutex<Keeper>,
    holds: JournalHolds,
    growth: GrowthOptions,
    closed: AtomicBool,
    batch_bytes_max: usize,
}

impl SimStore {
    pub fn options() -> EngineOptions {
        EngineOptions {
            segment_bytes: SEGMENT_BYTES,
            queue_batches_max: 64,
            group_bytes_max: 16 << 10,
            overlay_bytes_max: OVERLAY_BYTES_MAX,
            apply_interval: Duration::from_millis(200),
            checkpoint_interval: Duration::from_secs(5),
            checkpoint_bytes: 128 << 10,
            reopen_bytes: 256 << 10,
            ballast_bytes: BALLAST_BYTES,
            growth: GrowthOptions { low_space_bytes: LOW_SPACE_BYTES, ..GrowthOptions::UNBOUNDED },
        }
    }

    pub fn open(world: &Arc<World>, dice: &Dice, clock: Clock) -> Result<Arc<Self>, StoreError> {
        let files: Arc<dyn Files> = Arc::new(world.files.clone());
        let growth = draw_growth(dice);
        let options = EngineOptions { growth, ..Self::options() };
        let parts = Parts::open(files, &world.index, &options, dice.random().clone(), SegmentsBy::Committer, clock)?;
        let Parts { committer, applier, view, status, space, keeper, .. } = parts;
        let bounds =
            QueueBounds { batches_max: options.queue_batches_max, memory_bytes_max: options.overlay_bytes_max };
        let store = Arc::new(Self {
            world: Arc::clone(world),
            queue: CommitQueue::new(bounds),
            waiting: AtomicU64::new(0),
            arrived: Notify::new(),
            committed: Notify::new(),
            committer: Mutex::new(committer),
            applier: Mutex::new(applier),
            view,
            status,
            space,
            holds: keeper.holds(),
            keeper: Mutex::new(keeper),
            growth,
            closed: AtomicBool::new(false),
            batch_bytes_max: frame_bytes_max(SEGMENT_BYTES).min(usize::try_from(OVERLAY_BYTES_MAX / 4).unwrap()),
        });
        tokio::spawn(Arc::clone(&store).commit_all(dice.clone()));
        tokio::spawn(Arc::clone(&store).apply_all(dice.clone()));
        tokio::spawn(growth::keep(Arc::clone(&store), Dice::new(world.seed, 4_000 + world.life())));
        Ok(store)
    }

    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub fn space(&self) -> &Space {
        &self.space
    }

    pub fn growth(&self) -> &GrowthOptions {
        &self.growth
    }

    pub fn base(&self) -> Option<BaseHealth> {
        self.status.base()
    }

    /// Whether it does nothing any more.
    pub fn is_over(&self) -> bool {
        self.closed.load(Ordering::SeqCst) || self.status.check().is_err()
    }

    pub fn hold_journal(&self) -> JournalHold {
        self.holds.hold()
    }

    /// All that is committed by now.
    pub fn moment(&self) -> Result<Moment, StoreError> {
        Ok(Moment { sequence: self.status.committed(), rows: all_rows(&self.view)? })
    }

    /// One turn of the keeper, between whose pages others go on. `Ok` when it is at one already.
    pub fn keeper_turn(&self, dice: &Dice) -> Result<(), StoreError> {
        let Some(mut keeper) = self.keeper.try_lock() else { return Ok(()) };
        keeper.turn(&mut || {
            self.others_go_on(dice);
            !self.is_over()
        })
    }

    /// What the committer's and the applier's threads might do at this moment.
    pub fn others_go_on(&self, dice: &Dice) {
        if dice.chance(40) && !self.is_over() {
            self.commit_group(dice);
        }
        if dice.chance(20) && !self.is_over() {
            // An error is met again by the applier itself.
            let _ = self.applier.lock().turn(dice.chance(50));
        }
    }

    async fn commit_all(self: Arc<Self>, dice: Dice) {
        loop {
            self.arrived.notified().await;
            while self.waiting.load(Ordering::SeqCst) > 0 && !self.closed.load(Ordering::SeqCst) {
                tokio::time::sleep(self.latency(&dice)).await;
                self.world.step().await;
                if self.closed.load(Ordering::SeqCst) {
                    return;
                }
                self.commit_group(&dice);
                if let Err(error) = self.status.check() {
                    self.world.note_failed_store(&error.to_string());
                    self.queue.abort(&error);
                    return;
                }
                // Whoever was answered gets a turn before the next frame.
                self.world.step().await;
            }
        }
    }

    /// How long the disk takes: now and then long, and sometimes it hangs.
    fn latency(&self, dice: &Dice) -> Duration {
        let us = match dice.below(200) {
            _ if !self.world.has_faults() => 200,
            0 => dice.between(3_000_000, 20_000_000),
            1..=6 => dice.between(50_000, 600_000),
            _ => dice.between(50, 3_000),
        };
        Duration::from_micros(us)
    }

    fn commit_group(&self, dice: &Dice) {
        let mut group = Vec::new();
        let mut committer = self.committer.lock();
        if self.waiting.load(Ordering::SeqCst) == 0 || !self.queue.take_group(&mut group, committer.frame_bytes_max()) {
            return;
        }
        let taken = group.len() as u64;
        self.waiting.fetch_sub(taken, Ordering::SeqCst);
        committer.step(&mut group);
        drop(committer);
        self.world.trace(&format!("commit {taken} up to {}", self.status.committed()));
        if dice.chance(1) && self.status.check().is_ok() {
            growth::remember(&self.world, self.status.committed(), &self.view);
        }
        self.committed.notify_one();
    }

    async fn apply_all(self: Arc<Self>, dice: Dice) {
        let mut since_checkpoint_ms = 0;
        loop {
            self.committed.notified().await;
            let pause_ms = dice.between(20, 400);
            since_checkpoint_ms += pause_ms;
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            self.world.step().await;
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            let is_due = since_checkpoint_ms > 2_000;
            let turned = self.applier.lock().turn(is_due);
            match turned {
                Ok(has_checkpoint) => {
                    self.space.index_has_room();
                    if has_checkpoint {
                        since_checkpoint_ms = 0;
                        self.world.trace("checkpoint");
                    }
                }
                Err(error) if error.may_pass() => {
                    if error == IndexError::Short(Shortage::Space) {
                        self.space.index_is_full();
                    }
                    self.committed.notify_one();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => {
                    let error = self.view.note(error);
                    self.world.note_failed_store(&error.to_string());
                    self.status.poison(&error.to_string());
                    return;
                }
            }
        }
    }

    fn enqueue(
        &self,
        batch: Batch,
    ) -> Result<oneshot::Receiver<Result<tollgate::storage::Committed, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::new(batch, self.batch_bytes_max, reply)?;
        self.status.check()?;
        if request.urgency == Urgency::New && self.space.is_low() {
            return Err(StoreError::Overloaded(DISK_SPACE_IS_LOW));
        }
        if request.urgency == Urgency::New && self.space.is_full() {
            return Err(StoreError::Overloaded("the disk is full"));
        }
        self.queue.push(request, self.view.overlay().bytes())?;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_one();
        Ok(answer)
    }
}

impl Store for SimStore {
    fn commit(&self, batch: Batch) -> CommitFuture {
        self.world.count_call();
        match self.enqueue(batch) {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok(answer) => Box::pin(async move {
                answer.await.unwrap_or_else(|_| Err(StoreError::Indeterminate("the committer ended".to_owned())))
            }),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.world.count_call();
        self.view.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        self.world.count_call();
        self.view.scan(scan)
    }

    fn health(&self) -> Health {
        let poisoned = self.status.poisoned();
        let overlay_bytes = self.view.overlay().bytes();
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
            commits: CommitHealth::default(),
            disk: DiskHealth {
                free_bytes: self.space.free_bytes(),
                is_low: self.space.is_low(),
                is_full: self.space.is_full(),
                base: self.status.base(),
                journal_bytes: self.status.journal_on_disk().0,
                journal_segments: self.status.journal_on_disk().1,
            },
        }
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        self.status.failed()
    }

    fn close(&self) -> Result<(), StoreError> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.queue.close(StoreError::Poisoned("it is closed".to_owned()));
        while self.waiting.load(Ordering::SeqCst) > 0 && self.status.check().is_ok() {
            self.commit_group(&self.world.dice);
        }
        let applied = self.applier.lock().last_turn();
        let sealed = self.committer.lock().seal();
        self.status.check()?;
        applied.map_err(StoreError::from)?;
        sealed
    }
}
