//! Merchants' windows between their actors' lives and across restarts. They are no money and not in the journal: two
//! files beside it, of which one has the windows and is written when they have changed, and the other, the heartbeat,
//! says every few seconds that the process is alive and up to when the windows are complete. Neither waits for the other;
//! nothing is admitted once the heartbeat on the disk is two intervals old. What a crash loses is
//! charged to each merchant as used, by the highest figures that it may have had.

mod files;
mod former;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::actors::merchant::{LimitTime, LimiterSnapshots, Loaded};
use crate::clock::Clock;
use crate::config::{Config, TierConfig};
use crate::domain::ids::MerchantId;
use crate::domain::limit::{DAYS_KEPT, DayUsage, LimitFigures, LimiterSnapshot, PackedSnapshot, UnseenSpan};
use crate::domain::time::{Monotonic, Timestamp};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::limit_snapshots::files::{
    Heartbeat, LONGEST_WINDOW, Left, Mark, PackedWindows, State, admitted_after_heartbeat, recent, write_heartbeat,
    write_windows,
};
use crate::gateway::limit_snapshots::former::{FormerFigures, TierFigures};
use crate::gateway::merchants::figures_of;
use crate::gateway::metrics::IntCounter;
use crate::gateway::outside::DiskWork;
use crate::storage::whole_file::WholeFiles;

/// Snapshots kept for each merchant that may be active at once.
const KEPT_PER_ACTIVE: usize = 4;
/// How often room is looked for at most, when there is none for a further snapshot.
const MAKE_ROOM_INTERVAL_MS: i64 = 1000;
/// Of all snapshots, how many more are forgotten then than must be, so that it is not done for each.
const MADE_ROOM_PART: usize = 64;
/// The least time between two heartbeats.
const HEARTBEATS_APART: Duration = Duration::from_millis(20);

/// The windows of merchants that were handed over.
pub(super) struct LimitSnapshots {
    snapshots: Arc<DashMap<MerchantId, PackedSnapshot>>,
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
    days_forgotten: OnceLock<IntCounter>,
    changed: AtomicBool,
    /// The same of the windows' file.
    windows_until_ms: AtomicI64,
    /// Whether there is such a file.
    has_windows: AtomicBool,
    /// Until here the next process would know that it does not know what is admitted: what the heartbeat on the disk says,
    /// by the limits' own time in milliseconds.
    admit_until_ms: AtomicI64,
    /// Whether nothing is admitted any more, whatever the heartbeat says.
    has_ended: AtomicBool,
    heartbeat_asked: Notify,
    /// Held while the windows are written.
    windows_writing: tokio::sync::Mutex<()>,
    /// Whether the last files have been written. Held while a heartbeat is, so that one writing does not cross another.
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
            snapshots: Arc::default(),
            time,
            complete_until_ms: AtomicI64::new(now.unix_ms()),
            room_made_at_ms: AtomicI64::new(i64::MIN),
            days_forgotten: OnceLock::new(),
            changed: AtomicBool::new(true),
            // What is in the file is what was read.
            windows_until_ms: AtomicI64::new(now.unix_ms()),
            has_windows: AtomicBool::new(left.has_windows()),
            admit_until_ms: AtomicI64::new(i64::MIN),
            has_ended: AtomicBool::new(false),
            heartbeat_asked: Notify::new(),
            windows_writing: tokio::sync::Mutex::new(()),
            finished: tokio::sync::Mutex::new(false),
            files,
            disk_work,
        });
        for (id, snapshot) in left.snapshots(now) {
            snapshots.snapshots.insert(id, PackedSnapshot::pack(&snapshot));
        }
        snapshots.write().await;
        snapshots
    }

    /// Starts writing at every interval: the windows, and apart from them the heartbeat, which waits for nothing.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when the figure can't be made.
    pub(super) fn start(self: &Arc<Self>, core: &Core) -> Result<(), GatewayError> {
        let help = "Merchants whose daily statistics were forgotten for want of room";
        let _ = self.days_forgotten.set(core.figures.counter("limit_usage_forgotten_total", help)?);
        let (snapshots, stopping) = (Arc::clone(self), core.stopping.clone());
        core.tasks.spawn(async move {
            while stopping.run_until_cancelled(tokio::time::sleep(snapshots.interval)).await.is_some() {
                snapshots.write_windows().await;
            }
        });
        let (snapshots, stopping) = (Arc::clone(self), core.stopping.clone());
        core.tasks.spawn(async move {
            let mut begun = snapshots.time.clock().monotonic();
            while stopping.run_until_cancelled(snapshots.until_heartbeat(begun)).await.is_some() {
                begun = snapshots.time.clock().monotonic();
                snapshots.write_in_time().await;
            }
        });
        Ok(())
    }

    /// Ready when the next heartbeat is due after one whose writing began at `begun`, or one is asked for. A disk may take a
    /// whole interval for each, and the next is there in time all the same.
    async fn until_heartbeat(&self, begun: Monotonic) {
        // However many ask, and however long it fails.
        tokio::time::sleep(HEARTBEATS_APART.min(self.interval)).await;
        let since = self.time.clock().monotonic().since(begun);
        let due = tokio::time::sleep(self.interval.saturating_sub(since));
        tokio::select! {
            () = due => {}
            () = self.heartbeat_asked.notified() => {}
        }
    }

    /// Writes the heartbeat. Nothing needs to be done when that takes long: what may be admitted ends by itself.
    async fn write_in_time(&self) {
        let mut writing = std::pin::pin!(self.write_heartbeat());
        if tokio::time::timeout(self.interval, writing.as_mut()).await.is_err() {
            tracing::warn!("the heartbeat is not written in time; requests are refused two intervals after the last");
            writing.await;
        }
    }

    /// From now on nothing is admitted: a request that has waited for a heartbeat meanwhile would be in no snapshot.
    pub(super) fn admit_no_more(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
    }

    /// Writes the files for the last time. `complete` says whether every merchant's windows were handed over.
    pub(super) async fn write_final(&self, complete: bool) {
        let mut finished = self.finished.lock().await;
        *finished = true;
        self.admit_no_more();
        let is_written = self.write_windows().await;
        self.write_heartbeat_file(complete && is_written).await;
    }

    /// Notes that a merchant is new, so that it is not charged for what may have been admitted before it was there.
    pub(super) fn created(&self, merchant_id: &MerchantId) {
        let now = self.time.now();
        // Otherwise nobody is charged. Room is for those who have sent something.
        if !recent(self.unseen.clone(), now).is_empty() && self.snapshots.len() < self.snapshots_max / 2 {
            self.save(merchant_id, LimiterSnapshot::empty(now));
        }
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
        self.write_windows().await;
        self.write_heartbeat().await;
    }

    async fn write_heartbeat(&self) {
        let finished = self.finished.lock().await;
        if !*finished {
            self.write_heartbeat_file(false).await;
        }
    }

    /// How things stand.
    fn state(&self, complete_until: Timestamp) -> State {
        let mark = Mark::now(&self.time, self.boot_id.clone());
        let unseen = recent(self.unseen.clone(), mark.limit_time());
        let oldest =
            unseen.iter().map(|span| span.since).min().map_or(complete_until, |oldest| oldest.min(complete_until));
        let (tiers, former) = &mut *self.figures.lock();
        former.forget_before(oldest);
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        State { mark, begun_at: self.begun_at, interval_ms, tiers: tiers.clone(), former: former.clone() }
    }

    /// Writes the windows if they have changed. Says whether the file has them all.
    async fn write_windows(&self) -> bool {
        let _writing = self.windows_writing.lock().await;
        let complete_until = Timestamp::from_unix_ms(self.complete_until_ms.load(Ordering::Acquire));
        let state = self.state(complete_until);
        let (now, wall) = (state.mark.limit_time(), self.time.clock().now());
        let unseen = recent(self.unseen.clone(), now);
        let has_changed = self.changed.swap(false, Ordering::SeqCst);
        let (snapshots, files) = (Arc::clone(&self.snapshots), Arc::clone(&self.files));
        let written = self.disk_work.run(move || {
            forget_useless(&snapshots, now, wall);
            if !has_changed {
                return Ok(());
            }
            let merchants = snapshots.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect();
            write_windows(files.as_ref(), &PackedWindows { complete_until, merchants, unseen, state })
        });
        let error = match written.await {
            Ok(Ok(())) => {
                self.windows_until_ms.store(complete_until.unix_ms(), Ordering::Release);
                self.has_windows.store(true, Ordering::Release);
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(panicked) => panicked,
        };
        // They are missing in the file, whatever else changes.
        self.changed.store(true, Ordering::SeqCst);
        tracing::warn!(error, "merchants' windows were not written down");
        false
    }

    /// Must be called with the lock held. Without a heartbeat the next process takes everything since the windows for
    /// unseen, so when it can't be written the old one is taken away. When that fails, or there are no windows either,
    /// nothing is admitted: figures may have changed that the old one does not know, or it says that nobody runs.
    async fn write_heartbeat_file(&self, clean: bool) {
        let complete_until = Timestamp::from_unix_ms(self.windows_until_ms.load(Ordering::Acquire));
        let state = self.state(complete_until);
        let alive_at = state.mark.limit_time();
        let unseen = recent(self.unseen.clone(), alive_at);
        let noted_until_ms = alive_at.plus(admitted_after_heartbeat(self.interval)).unix_ms();
        // It may be there for the next process long before this one learns of it.
        self.admit_until_ms.fetch_min(noted_until_ms, Ordering::AcqRel);
        let heartbeat = Heartbeat { clean, complete_until, alive_at, unseen, state: Some(state) };
        let files = Arc::clone(&self.files);
        let written = self.disk_work.run(move || write_heartbeat(files.as_ref(), &heartbeat)).await;
        let until_ms = match written {
            Ok(Ok(())) => noted_until_ms,
            Ok(Err((error, not_removed))) => {
                let is_charged = not_removed.is_none() && self.has_windows.load(Ordering::Acquire);
                let not_removed = not_removed.map(|error| error.to_string());
                tracing::warn!(%error, not_removed, "the heartbeat was not written");
                if is_charged { i64::MAX } else { i64::MIN }
            }
            Err(error) => {
                tracing::error!(error, "writing the heartbeat broke off");
                i64::MIN
            }
        };
        self.admit_until_ms.store(until_ms, Ordering::Release);
    }

    /// Forgets some snapshots that say nothing about limits any more, only about days, those first that are oldest.
    fn make_room(&self, now: Timestamp) -> bool {
        let made_at = self.room_made_at_ms.load(Ordering::Acquire);
        if made_at.saturating_add(MAKE_ROOM_INTERVAL_MS) > now.unix_ms() {
            return false;
        }
        self.room_made_at_ms.store(now.unix_ms(), Ordering::Release);
        let mut over: Vec<(Timestamp, MerchantId)> = self
            .snapshots
            .iter()
            .filter(|entry| is_over(entry.value(), now))
            .map(|entry| (entry.value().saved_at(), entry.key().clone()))
            .collect();
        let needed =
            (self.snapshots.len() + 1).saturating_sub(self.snapshots_max) + self.snapshots_max / MADE_ROOM_PART;
        let forgotten = needed.min(over.len());
        if forgotten > 0 {
            over.select_nth_unstable(forgotten - 1);
            for (saved_at, merchant_id) in &over[..forgotten] {
                self.snapshots.remove_if(merchant_id, |_, snapshot| snapshot.saved_at() == *saved_at);
            }
            if let Some(counter) = self.days_forgotten.get() {
                counter.inc_by(forgotten as u64);
            }
            tracing::warn!(
                merchants = forgotten,
                "daily statistics of merchants are forgotten, as there is no room for all"
            );
        }
        self.snapshots.len() < self.snapshots_max
    }
}

impl LimiterSnapshots for LimitSnapshots {
    fn load(&self, merchant_id: &MerchantId) -> Loaded {
        let snapshot = self.snapshots.get(merchant_id).map(|snapshot| snapshot.unpack());
        let unseen = recent(self.unseen.clone(), self.time.now());
        if unseen.is_empty() {
            return Loaded { snapshot, unseen };
        }
        let figures = self.figures.lock();
        let of_merchant = |span: &UnseenSpan| UnseenSpan { former: figures.1.of(merchant_id, span.since), ..*span };
        Loaded { snapshot, unseen: unseen.iter().map(of_merchant).collect() }
    }

    fn save(&self, merchant_id: &MerchantId, snapshot: LimiterSnapshot) -> bool {
        let known = self.snapshots.contains_key(merchant_id);
        if !known && self.snapshots.len() >= self.snapshots_max && !self.make_room(snapshot.saved_at) {
            return false;
        }
        self.snapshots.insert(merchant_id.clone(), PackedSnapshot::pack(&snapshot));
        self.changed.store(true, Ordering::SeqCst);
        true
    }

    fn complete(&self, until: Timestamp) {
        // It never goes back: what was in a snapshot stays in one.
        self.complete_until_ms.fetch_max(until.unix_ms(), Ordering::AcqRel);
    }

    fn limit_time(&self, _clock: &Clock) -> LimitTime {
        self.time.clone()
    }

    fn is_noted(&self) -> bool {
        let is_told = self.time.now().unix_ms() < self.admit_until_ms.load(Ordering::Acquire);
        is_told && !self.has_ended.load(Ordering::SeqCst)
    }

    fn ask_to_note(&self) {
        self.heartbeat_asked.notify_one();
    }
}

fn tier_figures(tiers: &BTreeMap<String, TierConfig>) -> TierFigures {
    tiers.iter().map(|(name, tier)| (name.clone(), figures_of(tier))).collect()
}

fn forget_useless(snapshots: &DashMap<MerchantId, PackedSnapshot>, now: Timestamp, wall: Timestamp) {
    snapshots.retain(|_, snapshot| {
        if snapshot.has_windows() && is_over(snapshot, now) {
            *snapshot = snapshot.without_windows();
        }
        is_of_use(snapshot, now, wall)
    });
}

/// Whether all that the snapshot's windows count was longer ago than any of them reaches.
fn is_over(snapshot: &PackedSnapshot, now: Timestamp) -> bool {
    now.since(snapshot.saved_at()) > LONGEST_WINDOW
}

/// Days are dates; they are not dropped because the time of day was set forward.
fn is_of_use(snapshot: &PackedSnapshot, now: Timestamp, wall: Timestamp) -> bool {
    let today = i64::from(DayUsage::day_of(now.min(wall)));
    let is_kept = |day: i32| today - i64::from(day) < DAYS_KEPT as i64;
    !is_over(snapshot, now) || snapshot.last_day().is_some_and(is_kept)
}

#[cfg(test)]
mod tests;
