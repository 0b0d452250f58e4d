//! Windows in memory only: they outlive a merchant's actor, not the process.

use std::sync::OnceLock;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;

use crate::actors::merchant::{LimitTime, LimiterSnapshots, Loaded};
use crate::clock::Clock;
use crate::domain::ids::MerchantId;
use crate::domain::limit::{LimiterSnapshot, PackedSnapshot};
use crate::domain::time::{Monotonic, Timestamp};

/// The longest window of a limiter; an older snapshot says nothing about limits any more.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);
/// How often old snapshots are looked for at most: that looks at all of them.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);

/// The windows of merchants that are not in memory as actors, up to a number of them.
#[derive(Debug)]
pub struct MemorySnapshots {
    snapshots: DashMap<MerchantId, Kept>,
    snapshots_max: usize,
    clock: Clock,
    /// When old snapshots were last looked for.
    purged_at: Mutex<Option<Monotonic>>,
    /// Of the first that asked, so that snapshots of one go on in the next.
    time: OnceLock<LimitTime>,
}

#[derive(Debug)]
struct Kept {
    packed: PackedSnapshot,
    /// By the steady clock: the time of day may be set, and what is thrown away then is lost.
    handed_over_at: Monotonic,
}

impl MemorySnapshots {
    /// Room for `snapshots_max` merchants. Where there is no room, merchants stay in memory as actors rather than being
    /// forgotten; room is made by what was handed over more than an hour ago by `clock`.
    pub fn new(snapshots_max: usize, clock: Clock) -> Self {
        Self { snapshots: DashMap::new(), snapshots_max, clock, purged_at: Mutex::new(None), time: OnceLock::new() }
    }

    fn is_full(&self) -> bool {
        self.snapshots.len() >= self.snapshots_max
    }

    /// Forgets what is too old to say anything, unless that was tried a moment ago.
    fn purge(&self, now: Monotonic) {
        {
            let mut purged_at = self.purged_at.lock();
            if purged_at.is_some_and(|purged_at| now.since(purged_at) < PURGE_INTERVAL) {
                return;
            }
            *purged_at = Some(now);
        }
        self.snapshots.retain(|_, kept| now.since(kept.handed_over_at) <= LONGEST_WINDOW);
    }
}

impl LimiterSnapshots for MemorySnapshots {
    fn load(&self, merchant_id: &MerchantId) -> Loaded {
        let snapshot = self.snapshots.get(merchant_id).map(|kept| kept.packed.unpack());
        Loaded { snapshot, unseen: Vec::new() }
    }

    fn save(&self, merchant_id: &MerchantId, snapshot: LimiterSnapshot) -> bool {
        let now = self.clock.monotonic();
        if !self.snapshots.contains_key(merchant_id) && self.is_full() {
            self.purge(now);
            if self.is_full() {
                return false;
            }
        }
        self.snapshots
            .insert(merchant_id.clone(), Kept { packed: PackedSnapshot::pack(&snapshot), handed_over_at: now });
        true
    }

    fn complete(&self, _until: Timestamp) {}

    fn limit_time(&self, clock: &Clock) -> LimitTime {
        self.time.get_or_init(|| LimitTime::starting_at(clock, clock.now())).clone()
    }
}
