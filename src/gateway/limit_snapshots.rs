//! Merchants' windows between their actors' lives and across restarts. They are no money and not in the journal: two
//! files beside it, of which one has the windows and is written when they have changed, and the other, the heartbeat,
//! says every few seconds that the process is alive and up to when the windows are complete. What a crash loses is
//! charged to each merchant as used.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::actors::merchant::{LimiterSnapshots, Loaded};
use crate::config::LimitsConfig;
use crate::domain::ids::MerchantId;
use crate::domain::limit::{DAYS_KEPT, DayUsage, LimiterSnapshot, PackedSnapshot, UnseenSpan};
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::outside::DiskWork;
use crate::storage::whole_file::WholeFiles;

/// The windows' file in the data directory.
const WINDOWS: &str = "windows";
/// The heartbeat's.
const HEARTBEAT: &str = "heartbeat";
/// Snapshots kept for each merchant that may be active at once.
const KEPT_PER_ACTIVE: usize = 4;
/// The longest window of a limiter: what was admitted longer ago does not count any more.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);
/// Crashes within the longest window that are told apart; of more the oldest count as one.
const UNSEEN_MAX: usize = 16;
/// How often room is looked for at most, when there is none for a further snapshot.
const MAKE_ROOM_INTERVAL_MS: i64 = 1000;

/// What was handed over for one merchant.
struct Kept {
    packed: PackedSnapshot,
    /// How often the files were written since: time that a jump of the time of day does not make longer.
    writes: u32,
}

impl Kept {
    fn new(snapshot: &LimiterSnapshot) -> Self {
        Self { packed: PackedSnapshot::pack(snapshot), writes: 0 }
    }

    /// Lets go of windows that count nothing any more, by the time of day and by how often the files were written, so
    /// that a clock which is set forward and back again empties no window for good.
    fn shrink(&mut self, interval: Duration, now: Timestamp) {
        if interval.saturating_mul(self.writes) > LONGEST_WINDOW
            && self.packed.has_windows()
            && is_over(&self.packed, now)
        {
            self.packed = self.packed.without_windows();
        }
        self.writes = self.writes.saturating_add(1);
    }
}

/// The windows of merchants that were handed over.
pub(super) struct LimitSnapshots {
    snapshots: DashMap<MerchantId, Kept>,
    snapshots_max: usize,
    interval: Duration,
    /// What processes before may have admitted without any snapshot knowing.
    unseen: Vec<UnseenSpan>,
    /// Every admission before this (unix milliseconds) is in a snapshot here.
    complete_until_ms: AtomicI64,
    room_made_at_ms: AtomicI64,
    changed: AtomicBool,
    /// Whether the last files have been written. Held while they are, so that one writing does not cross another.
    finished: tokio::sync::Mutex<bool>,
    files: Arc<dyn WholeFiles>,
    disk_work: DiskWork,
}

#[derive(Deserialize)]
struct Windows {
    /// Every admission before this is in `merchants`.
    complete_until: Timestamp,
    merchants: HashMap<MerchantId, LimiterSnapshot>,
}

/// The same to be written, unpacked one by one.
#[derive(Serialize)]
struct PackedWindows {
    complete_until: Timestamp,
    #[serde(serialize_with = "unpacked")]
    merchants: Vec<(MerchantId, PackedSnapshot)>,
}

fn unpacked<S: Serializer>(merchants: &[(MerchantId, PackedSnapshot)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(merchants.iter().map(|(merchant_id, packed)| (merchant_id, packed.unpack())))
}

#[derive(Serialize, Deserialize)]
struct Heartbeat {
    /// Whether the process stopped in order, so that nothing is missing.
    clean: bool,
    /// Every admission before this is in the windows' file.
    complete_until: Timestamp,
    alive_at: Timestamp,
    /// What processes before it may have admitted, and merchants that were not active since have not been charged for.
    unseen: Vec<UnseenSpan>,
}

impl LimitSnapshots {
    /// Reads what the process before has left, and notes that this one is running: from now on the stop is not clean
    /// until [`LimitSnapshots::write_final`]. Nothing may be admitted before.
    pub(super) async fn open(
        files: Arc<dyn WholeFiles>,
        disk_work: DiskWork,
        limits: &LimitsConfig,
        now: Timestamp,
    ) -> Arc<Self> {
        let interval = Duration::from_millis(limits.snapshot_interval_ms);
        let windows: Option<Windows> = read(files.as_ref(), WINDOWS);
        let unseen = unseen(read(files.as_ref(), HEARTBEAT), windows.as_ref(), interval, now);
        let merchants = windows.map(|windows| windows.merchants).unwrap_or_default().into_iter();
        let snapshots = Arc::new(Self {
            snapshots: merchants.map(|(id, snapshot)| (id, Kept::new(&snapshot))).collect(),
            snapshots_max: limits.merchants_active_max.saturating_mul(KEPT_PER_ACTIVE),
            interval,
            unseen,
            complete_until_ms: AtomicI64::new(now.unix_ms()),
            room_made_at_ms: AtomicI64::new(i64::MIN),
            changed: AtomicBool::new(true),
            finished: tokio::sync::Mutex::new(false),
            files,
            disk_work,
        });
        snapshots.write(now).await;
        snapshots
    }

    /// Starts writing at every interval.
    pub(super) fn start(self: &Arc<Self>, core: &Core) {
        let snapshots = Arc::clone(self);
        let core = core.clone();
        let interval = Duration::from_millis(core.config.limits.snapshot_interval_ms);
        core.tasks.clone().spawn(async move {
            while core.stopping.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
                snapshots.write(core.clock.now()).await;
            }
        });
    }

    /// Writes the files for the last time. `complete` says whether every merchant's windows were handed over.
    pub(super) async fn write_final(&self, complete: bool, now: Timestamp) {
        let mut finished = self.finished.lock().await;
        *finished = true;
        self.write_files(complete, now).await;
    }

    async fn write(&self, now: Timestamp) {
        let finished = self.finished.lock().await;
        if !*finished {
            self.write_files(false, now).await;
        }
    }

    /// Must be called with the lock held.
    async fn write_files(&self, clean: bool, now: Timestamp) {
        let complete_until = Timestamp::from_unix_ms(self.complete_until_ms.load(Ordering::Acquire));
        self.snapshots.retain(|_, kept| {
            kept.shrink(self.interval, now);
            is_of_use(&kept.packed, now)
        });
        let windows = self.changed.swap(false, Ordering::SeqCst).then(|| {
            let merchants =
                self.snapshots.iter().map(|entry| (entry.key().clone(), entry.value().packed.clone())).collect();
            PackedWindows { complete_until, merchants }
        });
        let heartbeat = Heartbeat { clean, complete_until, alive_at: now, unseen: recent(self.unseen.clone(), now) };
        let files = Arc::clone(&self.files);
        let written = self.disk_work.run(move || write_down(files.as_ref(), windows.as_ref(), &heartbeat)).await;
        if let Ok(Err(error)) = written {
            // They are missing in the file, whatever else changes.
            self.changed.store(true, Ordering::SeqCst);
            tracing::warn!(%error, "merchants' windows were not written down");
        }
    }

    /// Forgets snapshots that say nothing about limits any more, only about days.
    fn make_room(&self, now: Timestamp) -> bool {
        let made_at = self.room_made_at_ms.load(Ordering::Acquire);
        if made_at.saturating_add(MAKE_ROOM_INTERVAL_MS) > now.unix_ms() {
            return false;
        }
        self.room_made_at_ms.store(now.unix_ms(), Ordering::Release);
        self.snapshots.retain(|_, kept| !is_over(&kept.packed, now));
        self.snapshots.len() < self.snapshots_max
    }
}

impl LimiterSnapshots for LimitSnapshots {
    fn load(&self, merchant_id: &MerchantId) -> Loaded {
        let snapshot = self.snapshots.get(merchant_id).map(|kept| kept.packed.unpack());
        Loaded { snapshot, unseen: self.unseen.clone() }
    }

    fn save(&self, merchant_id: &MerchantId, snapshot: LimiterSnapshot) -> bool {
        let known = self.snapshots.contains_key(merchant_id);
        if !known && self.snapshots.len() >= self.snapshots_max && !self.make_room(snapshot.saved_at) {
            return false;
        }
        self.snapshots.insert(merchant_id.clone(), Kept::new(&snapshot));
        self.changed.store(true, Ordering::SeqCst);
        true
    }

    fn complete(&self, until: Timestamp) {
        self.complete_until_ms.store(until.unix_ms(), Ordering::Release);
    }
}

/// Writes the windows first: the heartbeat says up to when they are complete. Without a heartbeat the next process
/// takes everything since the windows for unseen, so when it can't be written there must not be an old one.
fn write_down(files: &dyn WholeFiles, windows: Option<&PackedWindows>, heartbeat: &Heartbeat) -> std::io::Result<()> {
    let written = windows
        .map_or(Ok(()), |windows| files.write(WINDOWS, &serde_json::to_vec(windows)?))
        .and_then(|()| files.write(HEARTBEAT, &serde_json::to_vec(heartbeat)?));
    if written.is_err() {
        files.remove(HEARTBEAT)?;
    }
    written
}

/// What a file holds. One that is damaged or can't be read counts as missing.
fn read<T: DeserializeOwned>(files: &dyn WholeFiles, name: &str) -> Option<T> {
    match files.read(name) {
        Ok(bytes) => serde_json::from_slice(&bytes?).ok(),
        Err(error) => {
            tracing::warn!(file = name, %error, "what is known of merchants' windows can't be read");
            None
        }
    }
}

/// The spans in which earlier processes may have admitted what no snapshot knows.
fn unseen(
    heartbeat: Option<Heartbeat>,
    windows: Option<&Windows>,
    interval: Duration,
    now: Timestamp,
) -> Vec<UnseenSpan> {
    let Some(heartbeat) = heartbeat else {
        let since = windows.map(|windows| windows.complete_until);
        return recent(since.map(|since| UnseenSpan { since, until: now }).into_iter().collect(), now);
    };
    let mut spans = heartbeat.unseen;
    if !heartbeat.clean {
        // It is written at every interval, so the process ended within the next one, or a slow next one.
        let until = heartbeat.alive_at.plus(interval * 2).min(now);
        spans.push(UnseenSpan { since: heartbeat.complete_until, until });
    }
    recent(spans, now)
}

/// The spans, oldest first, that still count.
fn recent(mut spans: Vec<UnseenSpan>, now: Timestamp) -> Vec<UnseenSpan> {
    spans.retain(|span| now.since(span.until) < LONGEST_WINDOW);
    while spans.len() > UNSEEN_MAX {
        let oldest = spans.remove(0);
        spans[0].since = oldest.since.min(spans[0].since);
    }
    spans
}

/// Whether all that the snapshot's windows count was longer ago than any of them reaches.
fn is_over(snapshot: &PackedSnapshot, now: Timestamp) -> bool {
    now.since(snapshot.saved_at()) > LONGEST_WINDOW
}

fn is_of_use(snapshot: &PackedSnapshot, now: Timestamp) -> bool {
    let is_kept = |day: i32| i64::from(DayUsage::day_of(now)) - i64::from(day) < DAYS_KEPT as i64;
    !is_over(snapshot, now) || snapshot.last_day().is_some_and(is_kept)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::domain::limit::BucketsSnapshot;
    use crate::storage::whole_file::DirectoryFiles;

    const START: Timestamp = Timestamp::from_unix_s(1_737_715_200);

    fn at(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    fn limits() -> LimitsConfig {
        let limits = Config::embedded().unwrap().limits;
        LimitsConfig { snapshot_interval_ms: 5_000, merchants_active_max: 1, ..limits }
    }

    fn snapshot(saved_at: Timestamp, days: Vec<DayUsage>) -> LimiterSnapshot {
        let (minute, hour) = (BucketsSnapshot::default(), BucketsSnapshot::default());
        LimiterSnapshot {
            version: LimiterSnapshot::VERSION,
            saved_at,
            burst: vec![(0, 1)],
            burst_known_ms: 0,
            minute,
            hour,
            days,
            near: Vec::new(),
        }
    }

    fn id(number: usize) -> MerchantId {
        MerchantId::new(format!("m_{number}"))
    }

    async fn open(dir: &Path, now: Timestamp) -> Arc<LimitSnapshots> {
        LimitSnapshots::open(Arc::new(DirectoryFiles::new(dir)), DiskWork::Threads, &limits(), now).await
    }

    async fn unseen_at(dir: &Path, now: Timestamp) -> Vec<UnseenSpan> {
        open(dir, now).await.load(&id(1)).unseen
    }

    fn span(since: u64, until: u64) -> UnseenSpan {
        UnseenSpan { since: at(since), until: at(until) }
    }

    #[tokio::test]
    async fn a_clean_stop_leaves_nothing_unseen_and_all_windows() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = open(dir.path(), at(0)).await;
        assert!(snapshots.save(&id(1), snapshot(at(10), Vec::new())));
        snapshots.write_final(true, at(12)).await;
        // Whoever comes late changes nothing any more.
        snapshots.write(at(13)).await;
        drop(snapshots);
        let again = open(dir.path(), at(20)).await;
        assert_eq!(again.load(&id(1)).snapshot, Some(snapshot(at(10), Vec::new())));
        assert!(again.load(&id(1)).unseen.is_empty());
        again.write_final(false, at(25)).await;
        assert_eq!(unseen_at(dir.path(), at(26)).await, [span(20, 26)], "not all was handed over");
    }

    #[tokio::test]
    async fn after_a_crash_all_since_the_windows_were_complete_is_unseen() {
        let dir = tempfile::tempdir().unwrap();
        // Not even the first interval passes.
        drop(open(dir.path(), at(0)).await);
        assert_eq!(unseen_at(dir.path(), at(3)).await, [span(0, 3)]);
        let snapshots = open(dir.path(), at(1000)).await;
        snapshots.complete(at(1093));
        snapshots.write(at(1100)).await;
        drop(snapshots);
        let unseen = unseen_at(dir.path(), at(2000)).await;
        assert_eq!(unseen.last(), Some(&span(1093, 1110)), "written at 1100, and admitting for a while");
        assert_eq!(unseen.first(), Some(&span(0, 3)), "nobody has been charged for that one yet");
        let later = unseen_at(dir.path(), at(3 * 3600)).await;
        assert_eq!(later, [], "what was admitted an hour ago does not count");
    }

    #[tokio::test]
    async fn without_a_heartbeat_everything_since_the_windows_is_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = open(dir.path(), at(0)).await;
        snapshots.complete(at(50));
        assert!(snapshots.save(&id(1), snapshot(at(50), Vec::new())));
        // The heartbeat can't be replaced, so an old one must not stay.
        std::fs::create_dir(dir.path().join("heartbeat.tmp")).unwrap();
        snapshots.write(at(60)).await;
        assert!(!dir.path().join("heartbeat").exists());
        std::fs::remove_dir(dir.path().join("heartbeat.tmp")).unwrap();
        assert_eq!(unseen_at(dir.path(), at(500)).await, [span(50, 500)]);
    }

    #[tokio::test]
    async fn the_windows_are_written_when_they_have_changed_only() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = open(dir.path(), at(0)).await;
        assert!(snapshots.save(&id(1), snapshot(at(1), Vec::new())));
        snapshots.write(at(5)).await;
        let windows = dir.path().join("windows");
        std::fs::remove_file(&windows).unwrap();
        snapshots.write(at(10)).await;
        assert!(!windows.exists());
        assert!(snapshots.save(&id(1), snapshot(at(11), Vec::new())));
        snapshots.write(at(15)).await;
        assert!(windows.exists());
    }

    #[tokio::test]
    async fn snapshots_that_are_of_no_use_any_more_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = open(dir.path(), at(0)).await;
        let today = vec![DayUsage { day: DayUsage::day_of(at(0)), admitted: 1, ..DayUsage::default() }];
        for number in 0..KEPT_PER_ACTIVE {
            assert!(snapshots.save(&id(number), snapshot(at(0), today.clone())));
        }
        assert!(!snapshots.save(&id(9), snapshot(at(60), Vec::new())), "all of them count still");
        assert!(snapshots.save(&id(0), snapshot(at(60), today)), "one that is known needs no room");
        // The days of a merchant that is idle are kept as long as there is room.
        snapshots.write(at(3620)).await;
        assert_eq!(snapshots.snapshots.len(), KEPT_PER_ACTIVE);
        assert!(snapshots.save(&id(9), snapshot(at(3620), Vec::new())));
        assert!(snapshots.load(&id(0)).snapshot.is_some() && snapshots.load(&id(1)).snapshot.is_none());
        snapshots.write(at(40 * 86_400)).await;
        assert!(snapshots.snapshots.is_empty());
    }

    #[tokio::test]
    async fn windows_that_are_over_take_no_room_and_days_stay() {
        let dir = tempfile::tempdir().unwrap();
        let today = vec![DayUsage { day: DayUsage::day_of(at(0)), admitted: 1, ..DayUsage::default() }];
        let snapshots = open(dir.path(), at(0)).await;
        assert!(snapshots.save(&id(1), snapshot(at(0), today.clone())));
        // The clock jumps ahead for a while: nothing is over yet.
        snapshots.write(at(10_000)).await;
        assert_eq!(snapshots.load(&id(1)).snapshot, Some(snapshot(at(0), today.clone())));
        for write in 2..=721 {
            snapshots.write(at(write * 5)).await;
        }
        assert_eq!(snapshots.load(&id(1)).snapshot, Some(snapshot(at(0), today.clone())), "3,605 s, 721 intervals");
        snapshots.write(at(3_610)).await;
        let kept = snapshots.load(&id(1)).snapshot;
        assert_eq!(kept, Some(LimiterSnapshot { burst: Vec::new(), ..snapshot(at(0), today) }));
    }

    #[test]
    fn many_crashes_are_remembered_as_few() {
        let spans = (0..40).map(|number| span(number * 10, number * 10 + 5)).collect();
        let kept = recent(spans, at(500));
        assert_eq!((kept.len(), kept[0].since), (UNSEEN_MAX, at(0)));
    }
}
