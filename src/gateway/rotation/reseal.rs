//! Going through everything in the store that is sealed, a page at a time.

use std::sync::atomic::Ordering;

use crate::gateway::erasures::reseal_erasure;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::reseal_answer;
use crate::gateway::merchants::reseal_key;
use crate::gateway::patience::Patience;
use crate::gateway::retention::rest_after;
use crate::gateway::rotation::{KeyRotation, RotationError};
use crate::gateway::webhooks::reseal_endpoint;
use crate::storage::vault::Vault;
use crate::storage::{Batch, Committed, Row, Scan, StoreError, keys};

/// Rows read at once.
const PAGE_ROWS: usize = 128;
/// Bytes of one commit, but for a single row that has more.
const BATCH_BYTES: usize = 256 * 1024;
/// Tries of one row that others keep changing; the next pass finds it again.
const CONFLICTS_MAX: usize = 8;

/// Makes a row's new value; `None` when nothing in it is under an old key.
type Reseal = fn(&Vault, &Row) -> Result<Option<Vec<u8>>, GatewayError>;

/// A kind of record with something sealed in it.
struct Kind {
    /// Prefix of its rows.
    prefix: fn() -> Vec<u8>,
    /// Seals a row of it again.
    reseal: Reseal,
}

/// All kinds of records that anything is sealed in, but for the installation's own.
const KINDS: [Kind; 4] = [
    Kind { prefix: keys::api_keys, reseal: reseal_key },
    Kind { prefix: keys::endpoints, reseal: reseal_endpoint },
    Kind { prefix: keys::erasures, reseal: reseal_erasure },
    Kind { prefix: keys::idempotencies, reseal: reseal_answer },
];

/// What one look at everything came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pass {
    /// Rows that had something under an old key.
    pub(super) resealed: u64,
    /// Rows that could not be read.
    pub(super) unreadable: u64,
}

/// Rows to be written together.
#[derive(Default)]
struct Group {
    rows: Vec<Row>,
    batch: Batch,
    bytes: usize,
}

impl KeyRotation {
    /// Looks at everything once, and seals again what is under an old key.
    pub(super) async fn pass(&self) -> Result<Pass, RotationError> {
        let mut pass = Pass::default();
        for kind in &KINDS {
            let core = &self.0.core;
            let mut scan = Scan::prefix(&(kind.prefix)(), PAGE_ROWS);
            loop {
                let began = core.clock.monotonic();
                let page = core.store.scan(&scan)?;
                let is_last = page.len() < PAGE_ROWS;
                if let Some(last) = page.last() {
                    // The first key after it.
                    scan.start = [last.key.as_slice(), &[0]].concat();
                }
                self.reseal_page(kind, page, &mut pass).await?;
                tokio::time::sleep(rest_after(core.clock.monotonic().since(began))).await;
                if is_last {
                    break;
                }
            }
        }
        Ok(pass)
    }

    async fn reseal_page(&self, kind: &Kind, page: Vec<Row>, pass: &mut Pass) -> Result<(), RotationError> {
        let mut group = Group::default();
        for row in page {
            let Some(value) = self.resealed(kind, &row, pass) else { continue };
            if group.bytes + value.len() > BATCH_BYTES && !group.rows.is_empty() {
                self.write(kind, std::mem::take(&mut group), pass).await?;
            }
            group.bytes += value.len();
            group.batch.replace(row.key.clone(), row.versioned.revision, value);
            group.rows.push(row);
        }
        if group.rows.is_empty() { Ok(()) } else { self.write(kind, group, pass).await }
    }

    /// A row's new value, if it needs one.
    fn resealed(&self, kind: &Kind, row: &Row, pass: &mut Pass) -> Option<Vec<u8>> {
        match (kind.reseal)(&self.0.core.vault, row) {
            Ok(value) => value,
            Err(error) => {
                // Nobody could use it before, and nobody can now.
                pass.unreadable += 1;
                self.0.unreadable.report(&row.key, error);
                None
            }
        }
    }

    /// Writes a group, or each row of it for itself when one was changed meanwhile: that change stays.
    async fn write(&self, kind: &Kind, group: Group, pass: &mut Pass) -> Result<(), RotationError> {
        match self.commit(group.batch).await {
            Ok(_) => group.rows.iter().for_each(|row| self.count(row, pass)),
            Err(RotationError::Store(StoreError::Precondition { .. })) => {
                for row in group.rows {
                    self.reseal_changed(kind, row, pass).await?;
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn reseal_changed(&self, kind: &Kind, mut row: Row, pass: &mut Pass) -> Result<(), RotationError> {
        for _ in 0..CONFLICTS_MAX {
            let Some(stored) = self.0.core.store.get(&row.key)? else { return Ok(()) };
            row.versioned = stored;
            let Some(value) = self.resealed(kind, &row, pass) else { return Ok(()) };
            let mut batch = Batch::new();
            batch.replace(row.key.clone(), row.versioned.revision, value);
            match self.commit(batch).await {
                Ok(_) => {
                    self.count(&row, pass);
                    return Ok(());
                }
                Err(RotationError::Store(StoreError::Precondition { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        // So that there is another pass.
        pass.resealed += 1;
        Ok(())
    }

    fn count(&self, row: &Row, pass: &mut Pass) {
        pass.resealed += 1;
        self.0.resealed.fetch_add(1, Ordering::Relaxed);
        if row.key.starts_with(&keys::endpoints())
            && let Some(merchant_id) = keys::merchant_of(&row.key)
        {
            (self.0.endpoints_changed)(&merchant_id);
        }
    }

    /// Commits, once the store has room for it.
    async fn commit(&self, batch: Batch) -> Result<Committed, RotationError> {
        let core = &self.0.core;
        let mut patience = Patience::new();
        loop {
            match core.store.commit(batch.clone()).await {
                Err(StoreError::Overloaded(_)) => {}
                result => return Ok(result?),
            }
            if !patience.for_another_try(core).await {
                return Err(RotationError::Stopping);
            }
        }
    }
}
