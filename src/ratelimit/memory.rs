//! Windows in memory only: they outlive a merchant's actor, not the process.

use std::sync::OnceLock;
use std::time::Duration;

use dashmap::DashMap;

use crate::actors::merchant::{LimitTime, LimiterSnapshots, Loaded};
use crate::clock::Clock;
use crate::domain::ids::MerchantId;
use crate::domain::limit::{LimiterSnapshot, PackedSnapshot};
use crate::domain::time::Timestamp;

/// The longest window of a limiter; an older snapshot says nothing about limits any more.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);

/// The windows of merchants that are not in memory as actors, up to a number of them.
#[derive(Debug)]
pub struct MemorySnapshots {
    snapshots: DashMap<MerchantId, PackedSnapshot>,
    snapshots_max: usize,
    /// Of the first that asked, so that snapshots of one go on in the next.
    time: OnceLock<LimitTime>,
}

impl MemorySnapshots {
    /// Room for `snapshots_max` merchants. Where there is no room, merchants stay in memory as actors rather than being
    /// forgotten.
    pub fn new(snapshots_max: usize) -> Self {
        Self { snapshots: DashMap::new(), snapshots_max, time: OnceLock::new() }
    }
}

impl LimiterSnapshots for MemorySnapshots {
    fn load(&self, merchant_id: &MerchantId) -> Loaded {
        let snapshot = self.snapshots.get(merchant_id).map(|packed| packed.unpack());
        Loaded { snapshot, unseen: Vec::new() }
    }

    fn save(&self, merchant_id: &MerchantId, snapshot: LimiterSnapshot) -> bool {
        let is_known = self.snapshots.contains_key(merchant_id);
        if !is_known && self.snapshots.len() >= self.snapshots_max {
            let now = snapshot.saved_at;
            self.snapshots.retain(|_, kept| now.since(kept.saved_at()) <= LONGEST_WINDOW);
            if self.snapshots.len() >= self.snapshots_max {
                return false;
            }
        }
        self.snapshots.insert(merchant_id.clone(), PackedSnapshot::pack(&snapshot));
        true
    }

    fn complete(&self, _until: Timestamp) {}

    fn limit_time(&self, clock: &Clock) -> LimitTime {
        self.time.get_or_init(|| LimitTime::starting_at(clock, clock.now())).clone()
    }
}
