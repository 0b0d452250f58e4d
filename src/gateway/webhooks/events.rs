//! A merchant's events in order, for those who poll.

use xxhash_rust::xxh3::xxh3_64;

use crate::domain::event::Event;
use crate::domain::ids::MerchantId;
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::page::{Page, PageRequest, cursor_of, not_of_this_list};
use crate::gateway::webhooks::{EventView, Webhooks};
use crate::storage::request::stream_head_key;
use crate::storage::{Scan, keys, prefix_end, record};

impl Webhooks {
    /// The number of a merchant's last event; 0 when there is none.
    ///
    /// # Errors
    /// [`GatewayError`] when it can't be read.
    pub(crate) fn last_event_number(&self, merchant_id: &MerchantId) -> Result<u64, GatewayError> {
        // Also when the event itself was kept long enough.
        let head = self.core.store.get(&stream_head_key(&keys::events_of(merchant_id)))?;
        Ok(head.and_then(|head| keys::event_number(&head.value)).unwrap_or(0))
    }

    /// A merchant's events, oldest first. `next_cursor` is there as long as the page has rows, so that a client that
    /// polls can go on from where it is.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] when the page asked for is none, or comes after an event that a restored store does
    /// not know.
    pub fn list_events(&self, merchant_id: &MerchantId, page: &PageRequest) -> Result<Page<EventView>, GatewayError> {
        let prefix = keys::events_of(merchant_id);
        let mut scan = Scan::prefix(&prefix, page.rows()?);
        if let Some(after) = page.place_after(&prefix, |place| place_of(place).is_some())? {
            let (number, digest) = place_of(&after[prefix.len()..]).ok_or_else(not_of_this_list)?;
            self.check_place(merchant_id, number, digest)?;
            scan.start = [keys::event(merchant_id, number).as_slice(), &[0]].concat();
        }
        let rows = self.core.store.scan(&scan)?;
        let next_cursor = match rows.last() {
            Some(last) => {
                let digest = digest_of(&record::decode(&last.versioned.value)?);
                Some(format!("{}{digest:016x}", cursor_of(&prefix, &last.key)))
            }
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

    /// The number of the first event that is not older than `at`, halving what is left: a merchant may have millions.
    pub(super) fn first_event_at(&self, merchant_id: &MerchantId, at: Timestamp) -> Result<u64, GatewayError> {
        let end = prefix_end(&keys::events_of(merchant_id));
        let (mut low, mut high) = (1, self.last_event_number(merchant_id)?.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            let start = keys::event(merchant_id, middle);
            let rows = self.core.store.scan(&Scan { start, end: end.clone(), limit: 1, reverse: false })?;
            match rows.first() {
                Some(row) if record::decode::<Event>(&row.versioned.value)?.at < at => {
                    low = keys::event_number(&row.key).unwrap_or(middle).max(middle) + 1;
                }
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Refuses to go on after an event that is not the one that has this number now: the store was restored to a time before
    /// it, and what has happened since has numbers that the client takes for known.
    ///
    /// A cursor of an earlier version has no digest: only that so many events were told can be checked.
    fn check_place(&self, merchant_id: &MerchantId, number: u64, digest: Option<u64>) -> Result<(), GatewayError> {
        let Some(digest) = digest else {
            return if number <= self.last_event_number(merchant_id)? { Ok(()) } else { Err(not_of_this_list()) };
        };
        let is_known = match self.core.store.get(&keys::event(merchant_id, number))? {
            Some(stored) => digest_of(&record::decode(&stored.value)?) == digest,
            // It was kept long enough, unless it never was.
            None => number <= self.last_event_number(merchant_id)?,
        };
        let message = "was made before the gateway was restored from a backup: begin anew without one, and pass over the ids \
                       that you know";
        if is_known { Ok(()) } else { Err(GatewayError::field("cursor", message)) }
    }
}

/// An event as a cursor names it.
fn digest_of(event: &Event) -> u64 {
    xxh3_64(event.id.as_str().as_bytes())
}

/// The number and the digest of the event that a cursor of ours names; `None` for any other. Earlier versions named only the
/// number. Numbers begin with 1.
fn place_of(cursor: &[u8]) -> Option<(u64, Option<u64>)> {
    let (number, digest) = cursor.split_at_checked(8)?;
    let number = Some(u64::from_be_bytes(number.try_into().ok()?)).filter(|number| *number > 0)?;
    let digest = match digest {
        [] => None,
        digest => Some(u64::from_be_bytes(digest.try_into().ok()?)),
    };
    Some((number, digest))
}
