//! Takes over the index of what is due from before it had lanes.

use crate::domain::webhook::{DueEntry, Lane, Notification};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::{ABSENT, Batch, Row, Scan, Store, StoreError, keys, prefix_end, record};

/// Entries taken over at once.
const PAGE_ROWS: usize = 256;

/// Moves every entry of the former index to where it belongs now, before anything is sent. Entries for which there is
/// nothing to do are taken away, and those that can't be read stay. Cut off anywhere, it goes on at the next start.
///
/// # Errors
/// [`StoreError`] when the store can't be read or takes nothing.
pub(super) async fn convert(store: &dyn Store, unreadable: &UnreadableRows) -> Result<(), StoreError> {
    let prefix = keys::former_notifications_due();
    let mut scan = Scan { start: prefix.clone(), end: prefix_end(&prefix), limit: PAGE_ROWS, reverse: false };
    let mut moved = 0;
    loop {
        let page = store.scan(&scan)?;
        let Some(last) = page.last() else { break };
        let mut batch = Batch::finishing();
        for row in &page {
            if let Err(error) = convert_row(store, row, &mut batch) {
                unreadable.report(&row.key, error);
            }
        }
        moved += page.len();
        if !batch.writes.is_empty() {
            store.commit(batch).await?;
        }
        scan.start = [last.key.as_slice(), &[0]].concat();
    }
    if moved > 0 {
        tracing::info!(moved, "the index of what is due was taken over");
    }
    Ok(())
}

fn convert_row(store: &dyn Store, row: &Row, batch: &mut Batch) -> Result<(), StoreError> {
    let damaged = || StoreError::Corrupt(String::from("its key has no time and notification"));
    let (endpoint_id, due_at, notification_id) = keys::parse_former_notification_due(&row.key).ok_or_else(damaged)?;
    let entry: DueEntry = record::decode(&row.versioned.value)?;
    let key = keys::notification(&entry.merchant_id, &notification_id);
    let stored = store.get(&key)?;
    let notification: Option<Notification> = stored.as_ref().map(|stored| record::decode(&stored.value)).transpose()?;
    batch.expect(row.key.clone(), row.versioned.revision);
    batch.expect(key, stored.map_or(ABSENT, |stored| stored.revision));
    batch.delete(row.key.clone());
    let is_due = |notification: &Notification| notification.status.is_open() && notification.due_at == Some(due_at);
    if let Some(notification) = notification.filter(is_due) {
        let key = keys::notification_due(&endpoint_id, Lane::of(&notification), due_at, &notification_id);
        batch.put(key, record::encode(&DueEntry::of(&notification))?);
    }
    Ok(())
}
