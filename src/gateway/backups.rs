//! Backups of a gateway that runs: one at a time, in the background, into a directory of this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Clock;
use crate::config::StorageConfig;
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::storage::Store;
use crate::storage::backup::{self, SourceState};
use crate::storage::engine::{Engine, take_lock};
use crate::storage::files::{DiskFiles, Files};
use crate::storage::held::HeldFile;
use crate::storage::places::{check_is_store, check_outside};

pub use crate::storage::StoreError;
pub use crate::storage::backup::{MANIFEST, Manifest, OnProgress, Progress, Until, VerifiedBackup, verify};
pub use crate::storage::engine::IN_USE;
pub use crate::storage::restore::{Point, Restored, restore};

/// Backs up a data directory that nobody has open.
///
/// # Errors
/// [`StoreError::Io`] when somebody has it open, [`StoreError::Invalid`] when it holds no store or the destination is in it,
/// and as for [`backup::write`].
pub fn write_offline(
    storage: &StorageConfig,
    destination: &Path,
    now: Timestamp,
    on_progress: OnProgress<'_>,
) -> Result<Manifest, StoreError> {
    let directory = storage.dir.as_path();
    check_is_store(directory)?;
    check_outside(directory, destination)?;
    let _lock = take_lock(directory)?;
    let kept_free_bytes = backup::kept_free(directory, destination, wanted_free_bytes(storage));
    let state = SourceState { committed: None, held_since: held_since(directory)?, kept_free_bytes };
    backup::write(&DiskFiles::new(directory), destination, state, now, on_progress)
}

/// The time that a held store was restored to.
fn held_since(directory: &Path) -> Result<Option<Timestamp>, StoreError> {
    Ok(HeldFile::of(directory).read()?.map(|held| held.since()))
}

/// What a backup must leave free on the store's disk: enough that new work is still taken and some for what comes meanwhile,
/// or, where new work is refused already, what it takes to finish the rest.
fn wanted_free_bytes(storage: &StorageConfig) -> u64 {
    let mark = storage.low_space_bytes;
    let to_finish = storage.segment_bytes.saturating_mul(2).saturating_add(storage.ballast_bytes);
    match DiskFiles::read_only(&storage.dir).free_bytes() {
        Ok(free_bytes) if free_bytes < mark => to_finish,
        _ => to_finish.max(mark.saturating_add(mark / 4).saturating_add(storage.segment_bytes)),
    }
}

/// A backup, as the operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupView {
    /// `none`, `running`, `done` or `failed`.
    pub state: String,
    /// Where it is written.
    pub destination: Option<String>,
    /// Bytes copied.
    pub bytes: u64,
    /// Bytes to copy.
    pub bytes_total: u64,
    /// First sequence that it can be restored to.
    pub first_sequence: Option<u64>,
    /// Last sequence that it can be restored to.
    pub last_sequence: Option<u64>,
    /// When the last commit in it was made, in RFC 3339.
    pub last_time: Option<String>,
    /// Why it failed.
    pub problem: Option<String>,
}

/// The backups of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Backups(Arc<Shared>);

struct Shared {
    engine: Arc<Engine>,
    storage: StorageConfig,
    clock: Clock,
    view: Mutex<BackupView>,
}

impl Backups {
    pub(crate) fn new(engine: Arc<Engine>, storage: &StorageConfig, clock: Clock) -> Self {
        let view = Mutex::new(BackupView { state: "none".to_owned(), ..BackupView::default() });
        Self(Arc::new(Shared { engine, storage: storage.clone(), clock, view }))
    }

    /// How the last backup went or goes.
    pub fn view(&self) -> BackupView {
        self.0.view.lock().clone()
    }

    /// Takes the turn for a backup into a directory of this machine that is empty or not there. Look with [`Backups::view`]
    /// when it is done.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a path that is not absolute, [`GatewayError::InvalidState`] while another one
    /// runs.
    pub(crate) fn reserve(&self, destination: &str) -> Result<ReservedBackup, GatewayError> {
        if !Path::new(destination).is_absolute() {
            return Err(GatewayError::field("destination", "must be an absolute path on the gateway's machine"));
        }
        let mut view = self.0.view.lock();
        if view.state == "running" {
            return Err(GatewayError::InvalidState { status: view.state.clone() });
        }
        let running = BackupView {
            state: "running".to_owned(),
            destination: Some(destination.to_owned()),
            ..BackupView::default()
        };
        let before = std::mem::replace(&mut *view, running);
        Ok(ReservedBackup {
            shared: Arc::clone(&self.0),
            destination: PathBuf::from(destination),
            before: Some(before),
        })
    }
}

/// The turn for a backup that has not begun. Dropped, it is as if it had never been asked for.
pub(crate) struct ReservedBackup {
    shared: Arc<Shared>,
    destination: PathBuf,
    /// What is shown if it does not begin.
    before: Option<BackupView>,
}

impl ReservedBackup {
    /// Begins it, in the background.
    pub(crate) fn begin(mut self) -> BackupView {
        self.before = None;
        let (shared, destination) = (Arc::clone(&self.shared), self.destination.clone());
        let view = shared.view.lock().clone();
        tokio::task::spawn_blocking(move || shared.run(&destination));
        view
    }
}

impl Drop for ReservedBackup {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            *self.shared.view.lock() = before;
        }
    }
}

impl Shared {
    fn run(&self, destination: &Path) {
        let written = self.write(destination);
        let mut view = self.view.lock();
        match written {
            Ok(manifest) => {
                tracing::info!(destination = %destination.display(), last_sequence = manifest.last_sequence, "backed up");
                view.state = "done".to_owned();
                view.first_sequence = Some(manifest.first_sequence);
                view.last_sequence = Some(manifest.last_sequence);
                view.last_time = Some(manifest.last_time.rfc3339());
            }
            Err(error) => {
                tracing::error!(destination = %destination.display(), %error, "the backup failed");
                view.state = "failed".to_owned();
                view.problem = Some(error.to_string());
            }
        }
    }

    fn write(&self, destination: &Path) -> Result<Manifest, StoreError> {
        check_outside(&self.storage.dir, destination)?;
        // What is copied must not leave the journal meanwhile.
        let _hold = self.engine.hold_journal();
        // Before what is committed: a hold that ends meanwhile has only asked about more than the backup says.
        let directory = self.storage.dir.as_path();
        let held_since = held_since(directory)?;
        let kept_free_bytes = backup::kept_free(directory, destination, wanted_free_bytes(&self.storage));
        let state = SourceState { committed: Some(self.engine.health().committed), held_since, kept_free_bytes };
        let files = DiskFiles::new(directory);
        backup::write(&files, destination, state, self.clock.now(), &mut |Progress { bytes, bytes_total }| {
            let mut view = self.view.lock();
            (view.bytes, view.bytes_total) = (bytes, bytes_total);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_turn_that_is_not_used_is_given_back_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut storage = Config::embedded().unwrap().storage;
        (storage.dir, storage.segment_bytes, storage.ballast_bytes) = (directory.path().join("data"), 1 << 20, 0);
        let engine = Arc::new(Engine::open_dir(&storage).unwrap());
        let backups = Backups::new(Arc::clone(&engine), &storage, Clock::system());
        let destination = directory.path().join("backup");
        let name = destination.to_str().unwrap();
        assert!(matches!(backups.reserve("backup"), Err(GatewayError::InvalidRequest(_))));
        let reserved = backups.reserve(name).unwrap();
        assert!(matches!(backups.reserve(name), Err(GatewayError::InvalidState { .. })), "one at a time");
        drop(reserved);
        assert_eq!((backups.view().state.as_str(), destination.exists()), ("none", false));
        assert_eq!(backups.reserve(name).unwrap().begin().state, "running");
        engine.close().unwrap();
    }

    #[test]
    fn a_backup_is_not_made_in_the_store_nor_of_what_is_none() {
        let house = tempfile::tempdir().unwrap();
        let mut storage = Config::embedded().unwrap().storage;
        (storage.dir, storage.segment_bytes, storage.ballast_bytes) = (house.path().join("data"), 1 << 20, 0);
        let engine = Arc::new(Engine::open_dir(&storage).unwrap());
        let running = Backups::new(Arc::clone(&engine), &storage, Clock::system());
        let inside = storage.dir.join("backup");
        running.0.run(&inside);
        let problem = running.view().problem.unwrap();
        assert!(problem.contains("in the data directory"), "{problem}");
        engine.close().unwrap();
        let now = Timestamp::from_unix_s(1_790_000_000);
        assert!(matches!(write_offline(&storage, &inside, now, &mut |_| {}), Err(StoreError::Invalid(_))));
        assert!(!inside.exists());
        let empty = house.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        storage.dir.clone_from(&empty);
        let refused = write_offline(&storage, &house.path().join("backup"), now, &mut |_| {});
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
        assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "not even a lock");
    }

    #[test]
    fn a_backup_leaves_what_new_work_needs_or_at_least_what_finishing_does() {
        let directory = tempfile::tempdir().unwrap();
        let mut storage = Config::embedded().unwrap().storage;
        storage.dir = directory.path().to_owned();
        (storage.segment_bytes, storage.ballast_bytes) = (1_000, 500);
        storage.low_space_bytes = 4_000;
        assert_eq!(wanted_free_bytes(&storage), 6_000);
        storage.low_space_bytes = 0;
        assert_eq!(wanted_free_bytes(&storage), 2_500);
        // The disk is low already: whoever backs up then knows why.
        storage.low_space_bytes = u64::MAX;
        assert_eq!(wanted_free_bytes(&storage), 2_500);
    }
}
