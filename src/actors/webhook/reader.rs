//! Reads an endpoint with its secrets. They are decrypted once for each revision of the row, not for each request.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::delivery::signing::{Secret, SigningSecrets};
use crate::domain::ids::{EndpointId, MerchantId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Endpoint;
use crate::storage::vault::{Vault, VaultError};
use crate::storage::{Store, StoreError, keys, record};

/// What an endpoint's secrets are bound to when they are encrypted.
pub fn secret_identity(endpoint_id: &EndpointId) -> String {
    format!("webhook_endpoint|{endpoint_id}")
}

/// Why an endpoint can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("a stored webhook secret is not one")]
    NotASecret,
}

impl ReadError {
    /// Whether it is there until somebody mends what is stored.
    pub(super) const fn is_lasting(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, StoreError::Corrupt(_) | StoreError::Invalid(_)),
            Self::Vault(_) | Self::NotASecret => true,
        }
    }
}

/// An endpoint as it is at the moment.
#[derive(Debug)]
pub(super) struct LoadedEndpoint {
    pub(super) endpoint: Endpoint,
    pub(super) revision: u64,
    pub(super) secrets: SigningSecrets,
}

/// Reads one endpoint.
#[derive(Debug)]
pub(super) struct EndpointReader {
    endpoint_id: EndpointId,
    last: Mutex<Option<Arc<LoadedEndpoint>>>,
}

impl EndpointReader {
    pub(super) const fn new(endpoint_id: EndpointId) -> Self {
        Self { endpoint_id, last: Mutex::new(None) }
    }

    /// The endpoint with the secrets that sign at `now`; `None` when it was deleted.
    pub(super) fn load(
        &self,
        store: &dyn Store,
        vault: &Vault,
        merchant_id: &MerchantId,
        now: Timestamp,
    ) -> Result<Option<Arc<LoadedEndpoint>>, ReadError> {
        let Some(stored) = store.get(&keys::endpoint(merchant_id, &self.endpoint_id))? else { return Ok(None) };
        if let Some(last) = &*self.last.lock() {
            let same_secrets = last.secrets.former.len() == last.endpoint.secrets.former_at(now).count();
            if last.revision == stored.revision && same_secrets {
                return Ok(Some(Arc::clone(last)));
            }
        }
        let endpoint: Endpoint = record::decode(&stored.value)?;
        let current = self.unseal(vault, &endpoint.secrets.current)?;
        let former = endpoint.secrets.former_at(now).map(|former| self.unseal(vault, &former.sealed));
        let secrets = SigningSecrets { current, former: former.collect::<Result<_, _>>()? };
        let loaded = Arc::new(LoadedEndpoint { endpoint, revision: stored.revision, secrets });
        *self.last.lock() = Some(Arc::clone(&loaded));
        Ok(Some(loaded))
    }

    fn unseal(&self, vault: &Vault, sealed: &str) -> Result<Secret, ReadError> {
        let text = vault.unseal(&secret_identity(&self.endpoint_id), sealed)?;
        let text = std::str::from_utf8(&text).map_err(|_| ReadError::NotASecret)?;
        Secret::parse(text).map_err(|_| ReadError::NotASecret)
    }
}
