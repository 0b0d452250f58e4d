//! A merchant's events in order, for those who poll.

use crate::domain::event::Event;
use crate::domain::ids::MerchantId;
use crate::gateway::error::GatewayError;
use crate::gateway::page::{Page, PageRequest, cursor_of};
use crate::gateway::webhooks::{EventView, Webhooks};
use crate::storage::{Scan, keys, record};

impl Webhooks {
    /// The number of a merchant's last event; 0 when there is none.
    ///
    /// # Errors
    /// [`GatewayError`] when it can't be read.
    pub(crate) fn last_event_number(&self, merchant_id: &MerchantId) -> Result<u64, GatewayError> {
        let rows = self.core.store.scan(&Scan::prefix_reverse(&keys::events_of(merchant_id), 1))?;
        Ok(rows.first().and_then(|row| keys::event_number(&row.key)).unwrap_or(0))
    }

    /// A merchant's events, oldest first. `next_cursor` is there as long as the page has rows, so that a client that
    /// polls can go on from where it is.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the page asked for is none.
    pub fn list_events(&self, merchant_id: &MerchantId, page: &PageRequest) -> Result<Page<EventView>, GatewayError> {
        let prefix = keys::events_of(merchant_id);
        let mut scan = Scan::prefix(&prefix, page.rows()?);
        if let Some(after) = page.key_after(&prefix)? {
            scan.start = [after.as_slice(), &[0]].concat();
        }
        let rows = self.core.store.scan(&scan)?;
        let next_cursor = match rows.last() {
            Some(last) => Some(cursor_of(&prefix, &last.key)),
            None => page.cursor.clone(),
        };
        let items = rows
            .iter()
            .map(|row| {
                let sequence = keys::event_number(&row.key)
                    .ok_or_else(|| GatewayError::Internal(String::from("an event's key has no number")))?;
                Ok(EventView::of(sequence, record::decode::<Event>(&row.versioned.value)?))
            })
            .collect::<Result<_, GatewayError>>()?;
        Ok(Page { items, next_cursor })
    }
}
