//! The store of a gateway that has a directory of its own, as the operator sees it: how it stands, backups and exports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Clock;
use crate::config::StorageConfig;
use crate::domain::time::Timestamp;
use crate::gateway::backups::Backups;
use crate::gateway::error::GatewayError;
use crate::gateway::exports::Exports;
use crate::storage::checkpoint::Checkpoint;
use crate::storage::engine::{Engine, IN_USE, INDEX, take_lock_if_there};
use crate::storage::files::{DiskFiles, Files};
pub use crate::storage::format::FORMAT;
use crate::storage::held::HeldFile;
use crate::storage::inventory::{self, Inventory};
use crate::storage::segment_reader::last_frame;
use crate::storage::{BaseHealth, Store, StoreError, base};

/// How a store stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoreView {
    /// Its directory.
    pub directory: String,
    /// Whether a process has it open.
    pub in_use: bool,
    /// Its format.
    pub format: u32,
    /// Sequence of the last commit that is durable.
    pub committed_sequence: u64,
    /// Sequence up to which the index has everything; null without a gateway.
    pub applied_sequence: Option<u64>,
    /// Sequence up to which the index is known to be durable; null when nothing says so.
    pub checkpoint_sequence: Option<u64>,
    /// The base export that the index can be rebuilt from; null when that takes the whole journal.
    pub base: Option<BaseView>,
    /// The journal.
    pub journal: JournalView,
    /// Bytes of the index's files.
    pub index_bytes: u64,
    /// Bytes left on the disk, where that is known.
    pub free_bytes: Option<u64>,
    /// Whether that is less than `low_space_bytes`, so that new work is refused.
    pub low_space: bool,
    /// Whether new work is taken; null without a gateway.
    pub accepts_new: Option<bool>,
    /// Why nothing more is acknowledged, if so.
    pub poisoned: Option<String>,
    /// Whether it is held after a restore or an import.
    pub held: bool,
    /// What else there is to know, in words.
    pub remarks: Vec<String>,
}

/// A base export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct BaseView {
    /// Everything up to this sequence is in it.
    pub from_sequence: u64,
    /// When it was begun, in RFC 3339.
    pub made_at: String,
    /// Seconds since then.
    pub age_s: u64,
    /// Bytes of its file.
    pub bytes: u64,
}

/// The journal's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct JournalView {
    /// Where it begins; null when it is empty.
    pub first_sequence: Option<u64>,
    /// How many segments it has.
    pub segments: u64,
    /// Bytes of its files, the one that is prepared ahead included.
    pub bytes: u64,
}

impl StoreView {
    /// How the store in a directory stands, whether a process has it open or not. Changes nothing. What is damaged is a
    /// remark, as far as there is still something to be said.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is of a newer format, [`StoreError::Io`].
    pub fn offline(config: &StorageConfig, now: Timestamp) -> Result<Self, StoreError> {
        let directory = &config.dir;
        let files = DiskFiles::read_only(directory);
        let mut view = Self::of(directory, inventory::take(directory, INDEX)?);
        let mut remark = |error: StoreError| view.remarks.push(error.to_string());
        let in_use = match take_lock_if_there(directory) {
            Ok(_lock) => false,
            Err(StoreError::Io { message, .. }) if message == IN_USE => true,
            Err(error) => {
                remark(error);
                false
            }
        };
        let base = base::find(&files).unwrap_or_else(|error| {
            remark(error);
            None
        });
        let last = last_frame(&files).unwrap_or_else(|error| {
            remark(error);
            None
        });
        let held = HeldFile::of(directory).read().map_or_else(
            |error| {
                remark(error);
                true
            },
            |held| held.is_some(),
        );
        let base_health = base.map(|base| BaseHealth { from: base.from, made_at: base.made_at, bytes: base.bytes });
        let free_bytes = files.free_bytes().ok();
        Ok(Self {
            in_use,
            committed_sequence: last.map_or(0, |last| last.sequence).max(base.map_or(0, |base| base.from)),
            base: base_health.map(|base| BaseView::of(base, now)),
            free_bytes,
            low_space: free_bytes.is_some_and(|bytes| bytes < config.low_space_bytes),
            held,
            ..view
        })
    }

    fn of(directory: &Path, inventory: Inventory) -> Self {
        let Inventory { format, checkpoint, journal_first, segments, journal_bytes, index_bytes, is_index_damaged } =
            inventory;
        let mut remarks = Vec::new();
        if checkpoint == Checkpoint::Damaged {
            remarks.push("the checkpoint is damaged: the next start rebuilds the index".to_owned());
        }
        if is_index_damaged {
            remarks.push("the index was found damaged: the next start rebuilds it".to_owned());
        }
        Self {
            directory: directory.display().to_string(),
            format,
            checkpoint_sequence: match checkpoint {
                Checkpoint::At(sequence) => Some(sequence),
                Checkpoint::Missing | Checkpoint::Damaged => None,
            },
            journal: JournalView { first_sequence: journal_first, segments, bytes: journal_bytes },
            index_bytes,
            remarks,
            ..Self::default()
        }
    }
}

impl BaseView {
    fn of(base: BaseHealth, now: Timestamp) -> Self {
        Self {
            from_sequence: base.from,
            made_at: base.made_at.rfc3339(),
            age_s: now.since(base.made_at).as_secs(),
            bytes: base.bytes,
        }
    }
}

/// The store of a gateway and its directory. Cheap to clone.
#[derive(Clone)]
pub struct OwnStore {
    engine: Arc<Engine>,
    directory: Arc<PathBuf>,
    clock: Clock,
    backups: Backups,
    exports: Exports,
}

impl OwnStore {
    pub(crate) fn new(engine: Arc<Engine>, storage: &StorageConfig, clock: Clock) -> Self {
        let directory = storage.dir.as_path();
        let backups = Backups::new(Arc::clone(&engine), storage, clock.clone());
        let exports = Exports::new(Arc::clone(&engine), directory, clock.clone());
        Self { engine, directory: Arc::new(directory.to_owned()), clock, backups, exports }
    }

    /// Backups of it.
    pub fn backups(&self) -> &Backups {
        &self.backups
    }

    /// Exports of it.
    pub fn exports(&self) -> &Exports {
        &self.exports
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when its directory can't be read.
    pub async fn view(&self, held: bool) -> Result<StoreView, GatewayError> {
        let own = self.clone();
        let looked = tokio::task::spawn_blocking(move || own.look(held)).await;
        Ok(looked.map_err(|error| GatewayError::Internal(format!("looking at the store ended: {error}")))??)
    }

    /// Bytes of the index's files, which are few; `None` when they can't be looked at.
    pub(crate) fn index_bytes(&self) -> Option<u64> {
        inventory::index_bytes(&self.directory, INDEX)
    }

    fn look(&self, held: bool) -> Result<StoreView, StoreError> {
        let view = StoreView::of(&self.directory, inventory::take(&self.directory, INDEX)?);
        let health = self.engine.health();
        Ok(StoreView {
            in_use: true,
            committed_sequence: health.committed,
            applied_sequence: Some(health.applied),
            base: health.disk.base.map(|base| BaseView::of(base, self.clock.now())),
            free_bytes: health.disk.free_bytes,
            low_space: health.disk.is_low,
            accepts_new: Some(health.accepts_new),
            poisoned: health.poisoned,
            held,
            ..view
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Batch;

    const NOW: Timestamp = Timestamp::from_unix_s(1_737_715_200);

    fn config(directory: &Path) -> StorageConfig {
        let overrides = vec![crate::config::Override {
            source: "test".to_owned(),
            path: "storage.dir".to_owned(),
            value: toml::Value::String(directory.display().to_string()),
        }];
        let options = crate::config::LoadOptions { overrides, ..Default::default() };
        let storage = crate::config::Config::load(options).unwrap().storage;
        StorageConfig { segment_bytes: 1 << 20, group_bytes_max: 1 << 18, ballast_bytes: 0, ..storage }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_says_the_same_with_and_without_a_gateway() {
        let house = tempfile::tempdir().unwrap();
        let config = config(&house.path().join("data"));
        let engine = Arc::new(Engine::open_dir(&config).unwrap());
        for number in 0..20_u8 {
            let mut batch = Batch::new();
            batch.put(vec![number], vec![number; 100]);
            engine.commit(batch).await.unwrap();
        }
        let own = OwnStore::new(Arc::clone(&engine), &config, Clock::manual(NOW));
        let online = own.view(false).await.unwrap();
        assert_eq!((online.in_use, online.format, online.committed_sequence), (true, 1, 20));
        assert_eq!((online.accepts_new, online.held), (Some(true), false));
        assert_eq!((online.journal.first_sequence, online.journal.segments), (Some(1), 1));
        assert!(online.journal.bytes >= 1 << 20 && online.free_bytes.is_some());
        let beside = StoreView::offline(&config, NOW).unwrap();
        assert!(beside.in_use && beside.committed_sequence == 20, "{beside:?}");

        engine.close().unwrap();
        drop((own, engine));
        let offline = StoreView::offline(&config, NOW).unwrap();
        assert_eq!((offline.in_use, offline.format, offline.applied_sequence), (false, 1, None));
        assert_eq!(offline.committed_sequence, 21, "the mark of a clean stop has one of its own");
        assert_eq!(offline.checkpoint_sequence, Some(20));
        assert!(offline.index_bytes > 0 && !offline.low_space && offline.remarks.is_empty(), "{offline:?}");

        let low = StorageConfig { low_space_bytes: u64::MAX, ..config.clone() };
        std::fs::write(config.dir.join("CHECKPOINT"), b"x").unwrap();
        std::fs::write(config.dir.join("INDEX_DAMAGED"), b"").unwrap();
        std::fs::write(config.dir.join("HELD"), b"x").unwrap();
        let damaged = StoreView::offline(&low, NOW).unwrap();
        assert!(damaged.low_space && damaged.held && damaged.checkpoint_sequence.is_none());
        assert_eq!(damaged.remarks.len(), 3, "{:?}", damaged.remarks);
        std::fs::write(config.dir.join("FORMAT"), b"tollgate store format 2\n").unwrap();
        assert!(matches!(StoreView::offline(&config, NOW), Err(StoreError::Corrupt(_))));
    }
}
