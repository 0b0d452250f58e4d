//! What makes a data directory this installation's: its id, the mode it was made in, and a canary for each master key
//! that secrets in it may be under, which shows whether that key is here. Checked as soon as the store is open, which is
//! where the id and the canaries are, and before anything else begins.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Mode;
use crate::gateway::outside::MasterKey;
use crate::random::Random;
use crate::storage::key_file::MasterKeyId;
use crate::storage::record::{Record, decode, encode};
use crate::storage::vault::{Vault, VaultError};
use crate::storage::{Batch, Store, StoreError, keys};

const KEY: &str = "installation";
const CANARY_IDENTITY: &str = "installation|canary";
const CANARY: &[u8] = b"tollgate";

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// The directory belongs to the other mode.
    #[error(
        "the data directory was made in {stored} mode and can't be opened in {configured} mode: \
         use another directory ([storage] dir or --data-dir)"
    )]
    OtherMode {
        /// The mode that the directory was made in.
        stored: &'static str,
        /// The mode that is configured.
        configured: &'static str,
    },
    /// The key file does not hold a key that secrets are under.
    #[error(
        "wrong master key: the store has secrets under the key {key_id}, which {file} does not hold. Put that key into a \
         further line of it. If the key was rotated after this store was backed up, it is in {old}, or where that file \
         was moved to"
    )]
    MasterKeyMissing {
        /// Which key.
        key_id: MasterKeyId,
        /// The key file.
        file: PathBuf,
        /// Where a rotation leaves that key.
        old: PathBuf,
    },
    /// The master key is missing or wrong.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The store can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The installation's own record.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct InstallationRecord {
    id: String,
    mode: Mode,
    /// Under the key that seals.
    canary: String,
    /// Under the keys before it, as long as secrets may be under them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    older_canaries: Vec<String>,
}

impl Record for InstallationRecord {
    const NAME: &'static str = "installation record";
}

/// An opened installation.
#[derive(Debug)]
pub(crate) struct Installation {
    /// Random, made once; provider keys derive from it.
    id: String,
    /// Opens the installation's secrets.
    pub(crate) vault: Vault,
}

impl Installation {
    /// Whether the store holds one.
    pub(crate) fn is_there(store: &dyn Store) -> Result<bool, StoreError> {
        Ok(store.get(&keys::installation(KEY))?.is_some())
    }

    /// Refuses a store that belongs to the other mode, before anything else is made for this one.
    pub(crate) fn check_mode(store: &dyn Store, mode: Mode) -> Result<(), InstallationError> {
        let Some(stored) = store.get(&keys::installation(KEY))? else { return Ok(()) };
        let record: InstallationRecord = decode(&stored.value)?;
        if record.mode == mode {
            return Ok(());
        }
        Err(InstallationError::OtherMode { stored: record.mode.as_str(), configured: mode.as_str() })
    }

    /// Opens the installation that the store holds, or makes it.
    pub(crate) async fn open(
        store: &dyn Store,
        mode: Mode,
        master_key: &MasterKey,
        random: Random,
    ) -> Result<Self, InstallationError> {
        match store.get(&keys::installation(KEY))? {
            Some(stored) => {
                let record: InstallationRecord = decode(&stored.value)?;
                if record.mode != mode {
                    return Err(InstallationError::OtherMode {
                        stored: record.mode.as_str(),
                        configured: mode.as_str(),
                    });
                }
                let vault = master_key.open(true, random)?;
                for canary in std::iter::once(&record.canary).chain(&record.older_canaries) {
                    vault.unseal(CANARY_IDENTITY, canary).map_err(|error| name_missing(error, master_key))?;
                }
                Ok(Self { id: record.id, vault })
            }
            None => {
                let vault = master_key.open(false, random.clone())?;
                let mut id = [0_u8; 16];
                random.fill(&mut id);
                let id = hex::encode(id);
                let canary = vault.sealing().seal(CANARY_IDENTITY, CANARY)?;
                let record = InstallationRecord { id: id.clone(), mode, canary, older_canaries: Vec::new() };
                let mut batch = Batch::new();
                batch.insert(keys::installation(KEY), encode(&record)?);
                store.commit(batch).await?;
                Ok(Self { id, vault })
            }
        }
    }

    /// Adds to `batch` that secrets may be under the key that seals in `vault`, beside those that they may be under
    /// already. Returns false when the record says so already. To be committed before anything is sealed with it.
    pub(crate) fn list_key(store: &dyn Store, vault: &Vault, batch: &mut Batch) -> Result<bool, InstallationError> {
        Self::change(store, batch, |record| {
            if vault.reseal(CANARY_IDENTITY, &record.canary)?.is_none() {
                return Ok(false);
            }
            let canary = vault.sealing().seal(CANARY_IDENTITY, CANARY)?;
            let before = std::mem::replace(&mut record.canary, canary);
            record.older_canaries.insert(0, before);
            Ok(true)
        })
    }

    /// Adds to `batch` that all secrets are under the key that seals. Returns false when the record says so already.
    pub(crate) fn forget_older_keys(store: &dyn Store, batch: &mut Batch) -> Result<bool, InstallationError> {
        Self::change(store, batch, |record| Ok(!std::mem::take(&mut record.older_canaries).is_empty()))
    }

    fn change(
        store: &dyn Store,
        batch: &mut Batch,
        change: impl FnOnce(&mut InstallationRecord) -> Result<bool, InstallationError>,
    ) -> Result<bool, InstallationError> {
        let key = keys::installation(KEY);
        let Some(stored) = store.get(&key)? else {
            return Err(StoreError::Invalid("the store holds no installation".to_owned()).into());
        };
        let mut record: InstallationRecord = decode(&stored.value)?;
        let is_changed = change(&mut record)?;
        if is_changed {
            batch.replace(key, stored.revision, encode(&record)?);
        }
        Ok(is_changed)
    }

    /// The key under which an operation is known to a provider: the same for every repetition, never a merchant's text.
    pub(crate) fn provider_keys(&self) -> ProviderKeys {
        ProviderKeys(self.id.clone().into())
    }
}

/// Makes the keys under which operations are known to providers.
#[derive(Clone, Debug)]
pub(crate) struct ProviderKeys(std::sync::Arc<str>);

impl ProviderKeys {
    /// Keys of an installation that is none.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self("test".into())
    }

    /// The key of attempt `attempt` (from 1) of `operation` on the object `number`.
    pub(crate) fn key(&self, number: &str, operation: &str, attempt: usize) -> String {
        let digest = Sha256::digest(format!("{}|{number}|{operation}|{attempt}", self.0).as_bytes());
        format!("tg_{}", hex::encode(&digest[..20]))
    }
}

/// Says which file a key that is not here would be in.
fn name_missing(error: VaultError, master_key: &MasterKey) -> InstallationError {
    match (error, master_key.file()) {
        (VaultError::KeyMissing(key_id), Some(file)) => InstallationError::MasterKeyMissing {
            key_id,
            file: file.path().to_path_buf(),
            old: file.place_of_old(key_id),
        },
        (error, _) => error.into(),
    }
}
