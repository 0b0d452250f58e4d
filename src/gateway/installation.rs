//! What makes a data directory this installation's: its id, the mode it was made in, and a canary that shows whether
//! the master key is the right one. Checked as soon as the store is open, which is where the id and the canary are, and
//! before anything else begins.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Mode;
use crate::gateway::outside::MasterKey;
use crate::random::Random;
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
    canary: String,
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
    /// Refuses a store that belongs to the other mode, before anything else is made for this one.
    pub(crate) fn check_mode(store: &dyn Store, mode: Mode) -> Result<(), InstallationError> {
        let Some(stored) = store.get(&keys::installation(KEY))? else { return Ok(()) };
        let record: InstallationRecord = decode(&stored.value)?;
        if record.mode == mode {
            return Ok(());
        }
        Err(InstallationError::OtherMode { stored: mode_name(record.mode), configured: mode_name(mode) })
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
                        stored: mode_name(record.mode),
                        configured: mode_name(mode),
                    });
                }
                let vault = master_key.open(true, random)?;
                vault.unseal(CANARY_IDENTITY, &record.canary)?;
                Ok(Self { id: record.id, vault })
            }
            None => {
                let vault = master_key.open(false, random.clone())?;
                let mut id = [0_u8; 16];
                random.fill(&mut id);
                let id = hex::encode(id);
                let canary = vault.seal(CANARY_IDENTITY, CANARY)?;
                let record = InstallationRecord { id: id.clone(), mode, canary };
                let mut batch = Batch::new();
                batch.insert(keys::installation(KEY), encode(&record)?);
                store.commit(batch).await?;
                Ok(Self { id, vault })
            }
        }
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

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Sandbox => "sandbox",
        Mode::Live => "live",
    }
}
