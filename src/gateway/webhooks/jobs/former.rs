//! Dead letters from before there was an index of them: they are entered in it, once. Until that is done no job is carried
//! out, for jobs find them by it.

use crate::actors::webhook::rows::{self, Changed};
use crate::domain::webhook::Notification;
use crate::gateway::error::GatewayError;
use crate::gateway::retention::rest_after;
use crate::gateway::webhooks::jobs::page::after;
use crate::gateway::webhooks::jobs::work::Worker;
use crate::storage::{Batch, Scan, StoreError, keys, record};

/// Notes that it was done.
const KEY: &str = "webhook_dead_letters";
const DONE: &[u8] = b"indexed";
/// Rows read at once.
const PAGE_ROWS: usize = 256;

/// Enters all that are missing, unless that was done before. Cut off anywhere, it begins anew at the next start.
///
/// # Errors
/// [`GatewayError`] when the store can't be read or takes nothing.
pub(super) async fn index(worker: &Worker) -> Result<(), GatewayError> {
    let (store, clock) = (worker.store(), &worker.webhooks.core.clock);
    if store.get(&keys::installation(KEY))?.is_some() {
        return Ok(());
    }
    let mut scan = Scan::prefix(&keys::notifications(), PAGE_ROWS);
    let mut entered = 0;
    loop {
        let began = clock.monotonic();
        let page = store.scan(&scan)?;
        let mut batch = Batch::finishing();
        let mut missing = 0;
        for row in &page {
            let notification: Notification = match record::decode(&row.versioned.value) {
                Ok(notification) => notification,
                Err(error) => {
                    worker.unreadable.report(&row.key, error);
                    continue;
                }
            };
            let Some((key, entry)) = rows::dead_entry(&notification)? else { continue };
            if store.get(&key)?.is_none() {
                batch.expect(row.key.clone(), row.versioned.revision);
                batch.put(key, entry);
                missing += 1;
            }
        }
        let last = page.last().filter(|_| page.len() == PAGE_ROWS);
        if last.is_none() {
            batch.put(keys::installation(KEY), DONE.to_vec());
        }
        if !batch.writes.is_empty() {
            match store.commit(batch).await {
                Ok(_) => {}
                // Somebody has changed one of them meanwhile.
                Err(StoreError::Precondition { .. }) => {
                    tokio::time::sleep(rest_after(clock.monotonic().since(began))).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        }
        for _ in 0..missing {
            worker.webhooks.count(&Changed { dead_letters: 1, ..Changed::default() });
        }
        entered += missing;
        let Some(last) = last else { break };
        scan.start = after(&last.key);
        tokio::time::sleep(rest_after(clock.monotonic().since(began))).await;
    }
    if entered > 0 {
        tracing::info!(entered, "dead letters from before there was an index of them were entered in it");
    }
    Ok(())
}
