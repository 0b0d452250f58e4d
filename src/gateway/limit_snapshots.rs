//! Merchants' windows between their actors' lives and across restarts. They are no money and not in the journal: two
//! files beside it, of which one has the windows and is written when they have changed, and the other, the heartbeat,
//! says every few seconds that the process is alive and up to when the windows are complete. What a crash loses is
//! charged to each merchant as used, by the highest figures that it may have had.

mod files;
mod former;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;

use crate::actors::merchant::{LimitTime, LimiterSnapshots, Loaded};
use crate::clock::Clock;
use crate::config::{Config, TierConfig};
use crate::domain::ids::MerchantId;
use crate::domain::limit::{DAYS_KEPT, DayUsage, LimitFigures, LimiterSnapshot, UnseenSpan};
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::limit_snapshots::files::{
    Heartbeat, LONGEST_WINDOW, Left, Mark, State, Windows, recent, write_down,
};
use crate::gateway::limit_snapshots::former::{FormerFigures, TierFigures};
use crate::gateway::merchants::figures_of;
use crate::gateway::outside::DiskWork;
use crate::storage::whole_file::WholeFiles;

/// Snapshots kept for each merchant that may be active at once.
const KEPT_PER_ACTIVE: usize = 4;
/// How often room is looked for at most, when there is none for a further snapshot.
const MAKE_ROOM_INTERVAL_MS: i64 = 1000;

/// The windows of merchants that were handed over.
pub(super) struct LimitSnapshots {
    snapshots: DashMap<MerchantId, LimiterSnapshot>,
    snapshots_max: usize,
    time: LimitTime,
    boot_id: Option<String>,
    interval: Duration,
    /// Nothing was admitted before this that a window can still hold.
    begun_at: Timestamp,
    /// What processes before may have admitted without any snapshot knowing.
    unseen: Vec<UnseenSpan>,
    /// The figures of the tiers, and those that were replaced.
    figures: Mutex<(TierFigures, FormerFigures)>,
    /// Every admission before this (unix milliseconds) is in a snapshot here.
    complete_until_ms: AtomicI64,
    room_made_at_ms: AtomicI64,
    changed: AtomicBool,
    /// Whether the next process would know that it does not know what is admitted now.
    noted: AtomicBool,
    /// Whether the last files have been written. Held while they are, so that one writing does not cross another.
    finished: tokio::sync::Mutex<bool>,
    files: Arc<dyn WholeFiles>,
    disk_work: DiskWork,
}

impl LimitSnapshots {
    /// Reads what the process before has left, and notes that this one is running: from now on the stop is not clean
    /// until [`LimitSnapshots::write_final`]. Nothing may be admitted before.
    pub(super) async fn open(
        files: Arc<dyn WholeFiles>,
        disk_work: DiskWork,
        config: &Config,
        clock: &Clock,
    ) -> Arc<Self> {
        let interval = Duration::from_millis(config.limits.snapshot_interval_ms);
        let tiers = tier_figures(&config.tiers);
        let left = Left::read(files.as_ref());
        let time = left.limit_time(clock);
        let now = time.now();
        let snapshots = Arc::new(Self {
            snapshots_max: config.limits.merchants_active_max.saturating_mul(KEPT_PER_ACTIVE),
            boot_id: clock.boot_id(),
            interval,
            begun_at: left.begun_at(now),
            unseen: left.unseen(interval, now),
            figures: Mutex::new((tiers.clone(), left.former(&tiers, now))),
            snapshots: left.snapshots(now).collect(),
            time,
            complete_until_ms: AtomicI64::new(now.unix_ms()),
            room_made_at_ms: AtomicI64::new(i64::MIN),
            changed: AtomicBool::new(true),
            noted: AtomicBool::new(false),
            finished: tokio::sync::Mutex::new(false),
            files,
            disk_work,
        });
        snapshots.write().await;
        snapshots
    }

    /// Starts writing at every interval.
    pub(super) fn start(self: &Arc<Self>, core: &Core) {
        let snapshots = Arc::clone(self);
        let core = core.clone();
        core.tasks.clone().spawn(async move {
            let interval = snapshots.interval;
            while core.stopping.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
                snapshots.write_in_time().await;
            }
        });
    }

    /// Writes; after two intervals without a heartbeat nothing is admitted until it is there.
    async fn write_in_time(&self) {
        let mut writing = std::pin::pin!(self.write());
        if tokio::time::timeout(self.interval, writing.as_mut()).await.is_err() {
            tracing::warn!("merchants' windows are not written down in time; requests are refused until they are");
            self.noted.store(false, Ordering::Release);
            writing.await;
        }
    }

    /// Writes the files for the last time. `complete` says whether every merchant's windows were handed over.
    pub(super) async fn write_final(&self, complete: bool) {
        let mut finished = self.finished.lock().await;
        *finished = true;
        self.write_files(complete).await;
    }

    /// Writes down that a merchant has these figures, before others take their place: what it was let through since the last
    /// snapshot was let through by them.
    pub(super) async fn before_change(&self, merchant_id: &MerchantId, figures: LimitFigures) {
        self.figures.lock().1.note(Some(merchant_id), figures, self.time.now());
        self.write().await;
    }

    /// Writes down which tiers there are, before they are in force.
    pub(super) async fn before_tiers(&self, tiers: &BTreeMap<String, TierConfig>) {
        let next = tier_figures(tiers);
        {
            let (tiers, former) = &mut *self.figures.lock();
            former.note_tiers(tiers, &next, self.time.now());
            *tiers = next;
        }
        self.write().await;
    }

    async fn write(&self) {
        let finished = self.finished.lock().await;
        if !*finished {
            self.write_files(false).await;
        }
    }

    /// How things stand.
    fn state(&self, complete_until: Timestamp) -> State {
        let mark = Mark::now(&self.time, self.boot_id.clone());
        let oldest =
            self.unseen.iter().map(|span| span.since).min().map_or(complete_until, |oldest| oldest.min(complete_until));
        let (tiers, former) = &mut *self.figures.lock();
        former.forget_before(oldest);
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        State { mark, begun_at: self.begun_at, interval_ms, tiers: tiers.clone(), former: former.clone() }
    }

    /// Must be called with the lock held.
    async fn write_files(&self, clean: bool) {
        let complete_until = Timestamp::from_unix_ms(self.complete_until_ms.load(Ordering::Acquire));
        let state = self.state(complete_until);
        let (now, wall) = (state.mark.limit_time(), self.time.clock().now());
        self.snapshots.retain(|_, snapshot| is_of_use(snapshot, now, wall));
        let unseen = recent(self.unseen.clone(), now);
        let windows = self.changed.swap(false, Ordering::SeqCst).then(|| {
            let merchants = self.snapshots.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect();
            Windows { complete_until, merchants, unseen: unseen.clone(), state: Some(state.clone()) }
        });
        let heartbeat = Heartbeat { clean, complete_until, alive_at: now, unseen, state: Some(state) };
        let files = Arc::clone(&self.files);
        let written = self.disk_work.run(move || write_down(files.as_ref(), windows.as_ref(), &heartbeat)).await;
        match written {
            Ok(Ok(())) => self.noted.store(true, Ordering::Release),
            Ok(Err((error, not_removed))) => {
                // They are missing in the file, whatever else changes.
                self.changed.store(true, Ordering::SeqCst);
                let not_removed = not_removed.map(|error| error.to_string());
                // With an old heartbeat the next process would take less for unseen than there is.
                self.noted.store(not_removed.is_none(), Ordering::Release);
                tracing::warn!(%error, not_removed, "merchants' windows were not written down");
            }
            Err(error) => {
                self.changed.store(true, Ordering::SeqCst);
                self.noted.store(false, Ordering::Release);
                tracing::error!(error, "writing merchants' windows down broke off");
            }
        }
    }

    /// Forgets snapshots that say nothing about limits any more, only about days.
    fn make_room(&self, now: Timestamp) -> bool {
        let made_at = self.room_made_at_ms.load(Ordering::Acquire);
        if made_at.saturating_add(MAKE_ROOM_INTERVAL_MS) > now.unix_ms() {
            return false;
        }
        self.room_made_at_ms.store(now.unix_ms(), Ordering::Release);
        self.snapshots.retain(|_, snapshot| !is_over(snapshot, now));
        self.snapshots.len() < self.snapshots_max
    }
}

impl LimiterSnapshots for LimitSnapshots {
    fn load(&self, merchant_id: &MerchantId) -> Loaded {
        let snapshot = self.snapshots.get(merchant_id).map(|snapshot| snapshot.clone());
        if self.unseen.is_empty() {
            return Loaded { snapshot, unseen: Vec::new() };
        }
        let figures = self.figures.lock();
        let of_merchant = |span: &UnseenSpan| UnseenSpan { former: figures.1.of(merchant_id, span.since), ..*span };
        Loaded { snapshot, unseen: self.unseen.iter().map(of_merchant).collect() }
    }

    fn save(&self, merchant_id: &MerchantId, snapshot: LimiterSnapshot) -> bool {
        let known = self.snapshots.contains_key(merchant_id);
        if !known && self.snapshots.len() >= self.snapshots_max && !self.make_room(snapshot.saved_at) {
            return false;
        }
        self.snapshots.insert(merchant_id.clone(), snapshot);
        self.changed.store(true, Ordering::SeqCst);
        true
    }

    fn complete(&self, until: Timestamp) {
        self.complete_until_ms.store(until.unix_ms(), Ordering::Release);
    }

    fn limit_time(&self, _clock: &Clock) -> LimitTime {
        self.time.clone()
    }

    fn is_noted(&self) -> bool {
        self.noted.load(Ordering::Acquire)
    }
}

fn tier_figures(tiers: &BTreeMap<String, TierConfig>) -> TierFigures {
    tiers.iter().map(|(name, tier)| (name.clone(), figures_of(tier))).collect()
}

/// Whether all that the snapshot's windows count was longer ago than any of them reaches.
fn is_over(snapshot: &LimiterSnapshot, now: Timestamp) -> bool {
    now.since(snapshot.saved_at) > LONGEST_WINDOW
}

/// Days are dates; they are not dropped because the time of day was set forward.
fn is_of_use(snapshot: &LimiterSnapshot, now: Timestamp, wall: Timestamp) -> bool {
    let today = i64::from(DayUsage::day_of(now.min(wall)));
    let is_kept = |day: &DayUsage| today - i64::from(day.day) < DAYS_KEPT as i64;
    !is_over(snapshot, now) || snapshot.days.last().is_some_and(is_kept)
}

#[cfg(test)]
mod tests;
