//! Merchants' windows between their actors' lives and across restarts. They are no money and not in the journal: a file
//! beside it is written every few seconds, and what a crash loses of them is charged to each merchant as used.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use crate::actors::merchant::{LimiterSnapshots, Loaded};
use crate::domain::ids::MerchantId;
use crate::domain::limit::{LimiterSnapshot, UnseenSpan};
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::storage::whole_file::WholeFile;

/// File in the data directory.
const FILE: &str = "windows";
/// Snapshots kept for each merchant that may be active at once.
const KEPT_PER_ACTIVE: usize = 4;

/// The windows of merchants that were handed over.
pub(super) struct LimitSnapshots {
    snapshots: DashMap<MerchantId, LimiterSnapshot>,
    snapshots_max: usize,
    /// What the process before may have admitted without any snapshot knowing; `None` after a clean stop.
    unseen: Option<UnseenSpan>,
    file: WholeFile,
    changed: AtomicBool,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Content {
    /// Whether the process stopped in order, so that nothing is missing.
    clean: bool,
    written_at: Timestamp,
    merchants: HashMap<MerchantId, LimiterSnapshot>,
}

impl LimitSnapshots {
    /// Reads what the process before has left. A file that is damaged counts as a crash long ago: windows start empty
    /// but for what may have been used since it was last written.
    pub(super) fn open(core: &Core) -> Self {
        let config = &core.config;
        let file = WholeFile::new(config.storage.dir.join(FILE));
        let content = match file.read() {
            Ok(bytes) => bytes.and_then(|bytes| serde_json::from_slice::<Content>(&bytes).ok()),
            Err(error) => {
                tracing::warn!(file = %file.path().display(), %error, "merchants' windows can't be read and start anew");
                None
            }
        };
        let interval = Duration::from_millis(config.limits.snapshot_interval_ms);
        let unseen = content.as_ref().filter(|content| !content.clean).map(|content| UnseenSpan {
            since: content.written_at,
            // The file is written at every interval, so the process ended within the next one, or a slow next one.
            until: content.written_at.plus(interval * 2).min(core.clock.now()),
        });
        let merchants = content.map(|content| content.merchants).unwrap_or_default();
        Self {
            snapshots: merchants.into_iter().collect(),
            snapshots_max: config.limits.merchants_active_max.saturating_mul(KEPT_PER_ACTIVE),
            unseen,
            file,
            changed: AtomicBool::new(true),
        }
    }

    /// Starts writing the file at every interval.
    pub(super) fn start(self: &Arc<Self>, core: &Core) {
        let snapshots = Arc::clone(self);
        let core = core.clone();
        let interval = Duration::from_millis(core.config.limits.snapshot_interval_ms);
        core.tasks.clone().spawn(async move {
            while core.stopping.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
                snapshots.write(false, core.clock.now()).await;
            }
        });
    }

    /// Writes the file for the last time: nothing is missing in it.
    pub(super) async fn write_final(self: &Arc<Self>, core: &Core) {
        self.write(true, core.clock.now()).await;
    }

    async fn write(self: &Arc<Self>, clean: bool, now: Timestamp) {
        let anything = self.changed.swap(false, Ordering::SeqCst) || !self.snapshots.is_empty() || clean;
        if !anything {
            return;
        }
        let snapshots = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || {
            let merchants =
                snapshots.snapshots.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect();
            let content = serde_json::to_vec(&Content { clean, written_at: now, merchants })?;
            snapshots.file.write(&content)
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(file = %self.file.path().display(), %error, "merchants' windows were not written down");
        }
    }
}

impl LimiterSnapshots for LimitSnapshots {
    fn load(&self, merchant_id: &MerchantId) -> Loaded {
        let snapshot = self.snapshots.get(merchant_id).map(|snapshot| snapshot.clone());
        Loaded { snapshot, unseen: self.unseen }
    }

    fn save(&self, merchant_id: &MerchantId, snapshot: LimiterSnapshot) -> bool {
        let known = self.snapshots.contains_key(merchant_id);
        if !known && self.snapshots.len() >= self.snapshots_max {
            return false;
        }
        self.snapshots.insert(merchant_id.clone(), snapshot);
        self.changed.store(true, Ordering::SeqCst);
        true
    }
}
