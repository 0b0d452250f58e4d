//! Rotation of the master key while the gateway runs (or offline, see [`rotate_offline`]).
//!
//! In this order, so that a process that ends anywhere leaves a store that opens, and the next one goes on:
//!
//! 1. The key file gets the new key as its first line; the old one stays behind it.
//! 2. The installation's record says, with an entry in the audit, that secrets may be under either.
//! 3. From now on the new key seals. What is being sealed with the old one is waited for.
//! 4. Every secret under an old key is sealed again, until a look at all of them finds none.
//! 5. The installation's record says, with an entry in the audit, that all secrets are under the new key.
//! 6. The old key is kept in a file of its own beside the key file: backups from before need it.
//! 7. The key file holds the new key only.

mod reseal;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::audit::{Change, Operator};
use crate::domain::ids::MerchantId;
use crate::gateway::audit;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::installation::{Installation, InstallationError};
use crate::gateway::outside::{DiskWork, MasterKey};
use crate::gateway::{OpenError, key_file_of, open_store};
use crate::random::Random;
use crate::storage::key_file::{KeyFile, KeyRing, MasterKeyBytes};
use crate::storage::places::{check_is_store, no_store};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::vault::{RetiredKeys, Vault, VaultError};
use crate::storage::{Batch, Store, StoreError};

/// How long is waited for what is being sealed with the old key.
const SEALINGS_WAIT_MAX: Duration = Duration::from_secs(60);
/// Wait between two looks at that.
const SEALINGS_WAIT: Duration = Duration::from_millis(20);
/// The view's state while a rotation goes on.
const RUNNING: &str = "running";
/// The view's state when one did not come to its end.
const FAILED: &str = "failed";
/// Looks at all secrets until one finds none under an old key. Two are enough unless records change all the time.
const PASSES_MAX: usize = 16;

/// Why a rotation did not come to its end. It goes on at the next start, or when it is asked for again.
#[derive(Debug, thiserror::Error)]
enum RotationError {
    #[error(
        "{0}. If the key file comes from elsewhere and can't be written here, put a new key before the old one there, \
         restart the gateway, and take the old one out when it says that nothing is under it any more"
    )]
    NotWritten(VaultError),
    #[error(
        "{0}. Nothing in the store is under an older key any more: if the key file comes from elsewhere and can't be \
         written here, take the older keys out of it there, and keep them with the backups"
    )]
    NotTakenOut(VaultError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Installation(#[from] InstallationError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the key file {0} does not hold the keys that the gateway was started with; put them back")]
    OtherKeys(String),
    #[error("what was begun before is still being stored under the old key; ask for the rotation again")]
    StillInUse,
    #[error("records changed all the time; ask for the rotation again")]
    NeverDone,
    #[error("the gateway is stopping")]
    Stopping,
    #[error("{0}")]
    DiskWork(String),
}

/// A rotation of the master key, as the operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyRotationView {
    /// `none`, `running`, `done` or `failed`.
    pub state: String,
    /// Id of the key that secrets are sealed with: the beginning of its SHA-256.
    pub key_id: String,
    /// Ids of keys that secrets may still be under.
    pub older_key_ids: Vec<String>,
    /// Secrets that this rotation sealed again.
    pub resealed: u64,
    /// Records that could not be read, each named in the log. They are left as they are.
    pub unreadable: u64,
    /// Where the old keys are kept now. Backups from before the rotation need them: move them to where those are.
    pub kept_in: Vec<String>,
    /// Why it failed.
    pub problem: Option<String>,
}

/// Called with a merchant of whose endpoints a row was changed.
pub(crate) type EndpointsChanged = Box<dyn Fn(&MerchantId) + Send + Sync>;

/// The rotations of a gateway's master key. Cheap to clone.
#[derive(Clone)]
pub struct KeyRotation(Arc<Shared>);

struct Shared {
    core: Core,
    /// `None` when somebody else keeps the key.
    file: Option<KeyFile>,
    disk_work: DiskWork,
    endpoints_changed: EndpointsChanged,
    resealed: AtomicU64,
    unreadable: UnreadableRows,
    /// What sealed before a rotation changed the keys, also one that did not come to its end, as long as it is in use.
    retired: Mutex<Vec<RetiredKeys>>,
    view: Mutex<KeyRotationView>,
}

/// A rotation that goes on. One that ends in the middle, by a panic too, must not be taken for one that still goes on.
struct Going<'a>(&'a Mutex<KeyRotationView>);

impl Drop for Going<'_> {
    fn drop(&mut self) {
        let mut view = self.0.lock();
        if view.state == RUNNING {
            view.state = FAILED.to_owned();
            view.problem = Some("it ended in the middle; ask for the rotation again, and it goes on".to_owned());
            tracing::error!("the rotation of the master key ended in the middle");
        }
    }
}

impl KeyRotation {
    pub(crate) fn new(
        core: Core,
        file: Option<KeyFile>,
        disk_work: DiskWork,
        endpoints_changed: EndpointsChanged,
    ) -> Self {
        let view = KeyRotationView { state: "none".to_owned(), ..KeyRotationView::default() };
        Self(Arc::new(Shared {
            core,
            file,
            disk_work,
            endpoints_changed,
            resealed: AtomicU64::new(0),
            unreadable: UnreadableRows::default(),
            retired: Mutex::default(),
            view: Mutex::new(view),
        }))
    }

    /// How the last rotation of this process went or goes.
    pub fn view(&self) -> KeyRotationView {
        let shared = &self.0;
        let mut view = shared.view.lock().clone();
        let vault = &shared.core.vault;
        view.key_id = vault.current().to_string();
        view.older_key_ids = vault.older().iter().map(ToString::to_string).collect();
        view.resealed = shared.resealed.load(Ordering::Relaxed);
        view
    }

    /// Begins a rotation to a new key, or goes on with one that did not come to its end. Look with
    /// [`KeyRotation::view`] when it is done.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`] when the key is in no file, [`GatewayError::InvalidState`] while one runs.
    pub fn begin(&self, by: &Operator) -> Result<KeyRotationView, GatewayError> {
        let shared = &self.0;
        if shared.file.is_none() {
            return Err(GatewayError::NotFound("master key file: the key is kept by somebody else"));
        }
        self.claim()?;
        let (this, by) = (self.clone(), by.clone());
        shared.core.tasks.spawn(async move {
            let stopping = this.0.core.stopping.clone();
            // Cut off anywhere, it goes on at the next start.
            stopping.run_until_cancelled(this.run(&by)).await;
        });
        Ok(self.view())
    }

    /// Writes down that secrets may be under the key that seals, if that is not written down yet. To be called before
    /// anything is sealed.
    pub(crate) async fn open(&self) -> Result<(), InstallationError> {
        let core = &self.0.core;
        self.list_key(&core.vault, &Operator::process("rotation")).await
    }

    /// Goes on with a rotation that an earlier process did not bring to its end.
    pub(crate) fn start(&self) {
        let older = self.0.core.vault.older();
        if older.is_empty() {
            return;
        }
        tracing::warn!(older_keys = ?older, "a rotation of the master key is not finished; it goes on");
        if let Err(error) = self.begin(&Operator::process("rotation")) {
            tracing::error!(%error, "the rotation of the master key can't go on");
        }
    }

    /// Makes this caller the only one who rotates.
    fn claim(&self) -> Result<(), GatewayError> {
        let mut view = self.0.view.lock();
        if view.state == RUNNING {
            return Err(GatewayError::InvalidState { status: view.state.clone() });
        }
        *view = KeyRotationView { state: RUNNING.to_owned(), ..KeyRotationView::default() };
        self.0.resealed.store(0, Ordering::Relaxed);
        Ok(())
    }

    async fn run(&self, by: &Operator) {
        let _going = Going(&self.0.view);
        let result = self.rotate(by).await;
        let vault = &self.0.core.vault;
        let mut view = self.0.view.lock();
        match result {
            Ok(()) => {
                view.state = "done".to_owned();
                tracing::warn!(
                    key_id = %vault.current(),
                    kept_in = ?view.kept_in,
                    "the master key was rotated. Backups from before need the old key: move its file to where they are"
                );
            }
            Err(error) => {
                view.state = FAILED.to_owned();
                view.problem = Some(error.to_string());
                tracing::error!(%error, key_id = %vault.current(), older_keys = ?vault.older(), "the master key was not rotated to the end");
            }
        }
    }

    async fn rotate(&self, by: &Operator) -> Result<(), RotationError> {
        let Some(file) = &self.0.file else { return Ok(()) };
        let ring = self.write_new_key(file).await?;
        self.use_keys(&ring, by).await?;
        self.wait_for_older().await?;
        self.reseal_all().await?;
        self.forget_older(&ring, by).await?;
        self.set_older_aside(file, &ring).await
    }

    /// The keys in the file, with a new first one unless a rotation is under way already.
    async fn write_new_key(&self, file: &KeyFile) -> Result<KeyRing, RotationError> {
        let (file, random) = (file.clone(), self.0.core.random.clone());
        let in_use: Vec<_> = std::iter::once(self.0.core.vault.current()).chain(self.0.core.vault.older()).collect();
        self.on_disk(move || {
            let other_keys = || RotationError::OtherKeys(file.path().display().to_string());
            let ring = file.read()?.ok_or_else(other_keys)?;
            if !in_use.iter().all(|id| ring.contains(*id)) {
                return Err(other_keys());
            }
            if !ring.older().is_empty() {
                return Ok(ring);
            }
            let ring = ring.with_new(MasterKeyBytes::generate(&random));
            file.write(&ring).map_err(RotationError::NotWritten)?;
            Ok(ring)
        })
        .await
    }

    /// Seals with the first of these keys from now on.
    async fn use_keys(&self, ring: &KeyRing, by: &Operator) -> Result<(), RotationError> {
        let core = &self.0.core;
        self.list_key(&Vault::with_ring(ring, core.random.clone()), by).await?;
        self.replace(ring);
        Ok(())
    }

    fn replace(&self, ring: &KeyRing) {
        // Under the lock, so that whoever looks finds what was replaced.
        let mut retired = self.0.retired.lock();
        retired.push(self.0.core.vault.replace(ring));
    }

    /// Waits until everything is stored that was sealed with older keys, whichever rotation replaced them.
    async fn wait_for_older(&self) -> Result<(), RotationError> {
        let current = self.0.core.vault.current();
        let are_older_in_use = || {
            let mut retired = self.0.retired.lock();
            retired.retain(RetiredKeys::are_in_use);
            retired.iter().any(|keys| keys.current() != current)
        };
        let waiting = async {
            while are_older_in_use() {
                tokio::time::sleep(SEALINGS_WAIT).await;
            }
        };
        tokio::time::timeout(SEALINGS_WAIT_MAX, waiting).await.map_err(|_elapsed| RotationError::StillInUse)
    }

    async fn list_key(&self, vault: &Vault, by: &Operator) -> Result<(), InstallationError> {
        let core = &self.0.core;
        let mut batch = Batch::finishing();
        if !Installation::list_key(core.store.as_ref(), vault, &mut batch)? {
            return Ok(());
        }
        let older: Vec<String> = vault.older().iter().map(ToString::to_string).collect();
        let change = Change::new("master_key.rotate", vault.current().to_string());
        audit::commit(core, batch, by, &change.field("older_keys", None, Some(json!(older)))).await?;
        Ok(())
    }

    async fn reseal_all(&self) -> Result<(), RotationError> {
        for _ in 0..PASSES_MAX {
            let pass = self.pass().await?;
            self.0.view.lock().unreadable = pass.unreadable;
            if pass.resealed == 0 {
                return Ok(());
            }
        }
        Err(RotationError::NeverDone)
    }

    async fn forget_older(&self, ring: &KeyRing, by: &Operator) -> Result<(), RotationError> {
        let core = &self.0.core;
        let mut batch = Batch::finishing();
        if !Installation::forget_older_keys(core.store.as_ref(), &mut batch)? {
            return Ok(());
        }
        let older: Vec<String> = ring.older().iter().map(|key| key.id().to_string()).collect();
        let change = Change::new("master_key.retire_older", ring.current().id().to_string());
        let resealed = Value::from(self.0.resealed.load(Ordering::Relaxed));
        let change = change.field("older_keys", Some(json!(older)), None).field("resealed", None, Some(resealed));
        audit::commit(core, batch, by, &change).await?;
        Ok(())
    }

    async fn set_older_aside(&self, file: &KeyFile, ring: &KeyRing) -> Result<(), RotationError> {
        let (file, last) = (file.clone(), ring.without_older());
        let older = ring.older().to_vec();
        let written = last.clone();
        let kept_in = self
            .on_disk(move || {
                let mut kept_in = Vec::with_capacity(older.len());
                for key in &older {
                    kept_in.push(file.set_aside(key).map_err(RotationError::NotTakenOut)?.display().to_string());
                }
                file.write(&written).map_err(RotationError::NotTakenOut)?;
                Ok(kept_in)
            })
            .await?;
        // The same key seals as before; the next rotation waits for what it is sealing.
        self.replace(&last);
        self.0.view.lock().kept_in = kept_in;
        Ok(())
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RotationError> + Send + 'static,
    ) -> Result<T, RotationError> {
        self.0.disk_work.run(work).await.map_err(RotationError::DiskWork)?
    }
}

/// Rotates the master key of a data directory that nobody has open, in the same steps.
///
/// # Errors
/// [`OpenError`] when the directory can't be opened, or holds no installation: none is made. That the rotation failed is
/// said in the view.
pub async fn rotate_offline(
    config: Config,
    clock: Clock,
    random: Random,
    by: &Operator,
) -> Result<KeyRotationView, OpenError> {
    check_is_store(&config.storage.dir)?;
    // Not with a clock that is behind either: what it writes would hide that from the next start.
    let (engine, _) = open_store(&config, clock.clone()).await?;
    let store: Arc<dyn Store> = engine;
    let rotated = rotate_store(Arc::clone(&store), config, clock, random, by).await;
    let closed = DiskWork::Threads.run(move || store.close()).await;
    let view = rotated?;
    closed.map_err(StoreError::Poisoned)??;
    Ok(view)
}

async fn rotate_store(
    store: Arc<dyn Store>,
    config: Config,
    clock: Clock,
    random: Random,
    by: &Operator,
) -> Result<KeyRotationView, OpenError> {
    if !Installation::is_there(store.as_ref())? {
        return Err(no_store(&config.storage.dir).into());
    }
    Installation::check_mode(store.as_ref(), config.mode)?;
    let file = key_file_of(&config);
    let master_key = MasterKey::File(file.clone());
    let installation = Installation::open(store.as_ref(), config.mode, &master_key, random.clone()).await?;
    let core = Core::new(store, clock, random, config, installation.vault);
    let rotation = KeyRotation::new(core, Some(file), DiskWork::Threads, Box::new(|_| {}));
    rotation.open().await?;
    rotation.claim()?;
    rotation.run(by).await;
    Ok(rotation.view())
}
