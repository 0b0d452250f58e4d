//! Merchants' endpoints, kept in memory because every event asks for them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::ids::MerchantId;
use crate::domain::webhook::Endpoint;
use crate::storage::{Scan, Store, StoreError, keys, record};

/// Merchants whose endpoints are kept in memory.
const MERCHANTS_MAX: usize = 10_000;
/// Endpoints of one merchant that are read; far above what can be made.
const ENDPOINTS_READ_MAX: usize = 1_000;

/// Endpoints by merchant, as they are in the store.
pub struct EndpointLists {
    store: Arc<dyn Store>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Counts changes, so that a list read before a change is not kept after it.
    changes: u64,
    lists: HashMap<MerchantId, Arc<[Endpoint]>>,
}

impl EndpointLists {
    /// Nothing is in memory yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, kept: Mutex::new(Kept::default()) }
    }

    /// All endpoints of a merchant, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub fn of(&self, merchant_id: &MerchantId) -> Result<Arc<[Endpoint]>, StoreError> {
        let changes = {
            let kept = self.kept.lock();
            if let Some(list) = kept.lists.get(merchant_id) {
                return Ok(Arc::clone(list));
            }
            kept.changes
        };
        let rows = self.store.scan(&Scan::prefix(&keys::endpoints_of(merchant_id), ENDPOINTS_READ_MAX))?;
        let list: Vec<Endpoint> =
            rows.iter().map(|row| record::decode(&row.versioned.value)).collect::<Result<_, StoreError>>()?;
        let list: Arc<[Endpoint]> = list.into();
        let mut kept = self.kept.lock();
        if kept.changes == changes {
            if kept.lists.len() >= MERCHANTS_MAX {
                // Rare, and reading again is cheap: no need to know which was used last.
                kept.lists.clear();
            }
            kept.lists.insert(merchant_id.clone(), Arc::clone(&list));
        }
        Ok(list)
    }

    /// Reads a merchant's endpoints again next time. Called after every commit that changes one.
    pub fn forget(&self, merchant_id: &MerchantId) {
        let mut kept = self.kept.lock();
        kept.changes += 1;
        kept.lists.remove(merchant_id);
    }
}
