//! What was told about one object, found by the times at which something happened to it: there is no index by object.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::event::Event;
use crate::domain::ids::MerchantId;
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::page::{LIMIT_MAX, PageRequest};
use crate::gateway::webhooks::{EventView, NotificationFilter, NotificationView, Webhooks};
use crate::storage::{Scan, keys, record};

/// So much before and after a time is looked at; times are shown in whole seconds.
const SLACK: Duration = Duration::from_secs(2);
/// Times that are looked around, those that lie close together being one.
const WINDOWS_MAX: usize = 12;
/// Events looked at between the first time and the last; as many again around the times, of all of them together.
const ROWS_LOOKED_AT_MAX: usize = 4_000;
/// Events read at once.
const ROWS_READ_MAX: usize = 200;
const READS_MAX: usize = ROWS_LOOKED_AT_MAX / ROWS_READ_MAX;
/// Pages of notifications looked at between the first time and the last.
const PAGES_MAX: usize = 3;
/// The same around the times, of all of them together; one each at least.
const PAGES_AROUND_MAX: usize = WINDOWS_MAX;

/// What was found about an object.
#[derive(Clone, Debug)]
pub struct About<T> {
    /// What was found.
    pub items: Vec<T>,
    /// Whether all between the first time and the last was looked at. Otherwise the merchant was told so much that only what
    /// lies close to the times was.
    pub is_all: bool,
}

impl Webhooks {
    /// A merchant's events about an object to which something happened at these times, oldest first.
    ///
    /// # Errors
    /// [`GatewayError`] when they can't be read.
    pub fn events_about(
        &self,
        merchant_id: &MerchantId,
        object_no: &str,
        times: &[Timestamp],
    ) -> Result<About<EventView>, GatewayError> {
        let mut found = BTreeMap::new();
        let Some(span) = span(times) else { return Ok(About { items: Vec::new(), is_all: true }) };
        let is_all = self.add_events(&mut found, merchant_id, object_no, span, READS_MAX)?;
        if !is_all {
            let windows = windows(times);
            let reads_max = READS_MAX / windows.len();
            for window in windows {
                self.add_events(&mut found, merchant_id, object_no, window, reads_max)?;
            }
        }
        Ok(About { items: found.into_values().collect(), is_all })
    }

    /// Adds the events between two times by their numbers, with so many reads. Answers whether all were looked at.
    fn add_events(
        &self,
        found: &mut BTreeMap<u64, EventView>,
        merchant_id: &MerchantId,
        object_no: &str,
        (from, to): (Timestamp, Timestamp),
        reads_max: usize,
    ) -> Result<bool, GatewayError> {
        let first = self.first_event_at(merchant_id, from)?;
        let behind = self.first_event_at(merchant_id, to.plus(Duration::from_millis(1)))?;
        let (start, end) = (keys::event(merchant_id, first), Some(keys::event(merchant_id, behind)));
        let mut scan = Scan { start, end, limit: ROWS_READ_MAX, reverse: false };
        if first >= behind {
            return Ok(true);
        }
        for _ in 0..reads_max {
            let rows = self.core.store.scan(&scan)?;
            for row in rows.iter().filter(|row| record::may_name(&row.versioned.value, object_no)) {
                let event: Event = record::decode(&row.versioned.value)?;
                if event.object_no.as_deref() == Some(object_no) {
                    let number = keys::event_number(&row.key).unwrap_or(0);
                    found.insert(number, EventView::of(number, event));
                }
            }
            match rows.last() {
                Some(last) if rows.len() == ROWS_READ_MAX => scan.start = [last.key.as_slice(), &[0]].concat(),
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// A merchant's notifications about an object to which something happened at these times, newest first.
    ///
    /// # Errors
    /// [`GatewayError`] when they can't be read.
    pub fn notifications_about(
        &self,
        merchant_id: &MerchantId,
        object_no: &str,
        times: &[Timestamp],
    ) -> Result<About<NotificationView>, GatewayError> {
        // Their ids are in the order of time.
        let mut found = BTreeMap::new();
        let Some(span) = span(times) else { return Ok(About { items: Vec::new(), is_all: true }) };
        let is_all = self.add_notifications(&mut found, merchant_id, object_no, span, PAGES_MAX)?;
        if !is_all {
            let windows = windows(times);
            let pages_max = PAGES_AROUND_MAX / windows.len();
            for window in windows {
                self.add_notifications(&mut found, merchant_id, object_no, window, pages_max)?;
            }
        }
        Ok(About { items: found.into_values().rev().collect(), is_all })
    }

    /// Adds the notifications between two times in so many pages, by their ids. Answers whether all were looked at.
    fn add_notifications(
        &self,
        found: &mut BTreeMap<String, NotificationView>,
        merchant_id: &MerchantId,
        object_no: &str,
        (from, to): (Timestamp, Timestamp),
        pages_max: usize,
    ) -> Result<bool, GatewayError> {
        let filter = NotificationFilter {
            payment_no: Some(String::from(object_no)),
            from: Some(from),
            to: Some(to),
            ..NotificationFilter::default()
        };
        let mut page = PageRequest { limit: Some(LIMIT_MAX), cursor: None };
        for _ in 0..pages_max {
            let read = self.list_notifications(merchant_id, &filter, &page)?;
            found.extend(read.items.into_iter().map(|item| (item.id.clone(), item)));
            page.cursor = read.next_cursor;
            if page.cursor.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// From before the first time until after the last; `None` when there are none.
fn span(times: &[Timestamp]) -> Option<(Timestamp, Timestamp)> {
    Some((times.iter().min()?.minus(SLACK), times.iter().max()?.plus(SLACK)))
}

/// Around each time, none of them twice; of a great many the first and the last.
fn windows(times: &[Timestamp]) -> Vec<(Timestamp, Timestamp)> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let mut windows: Vec<(Timestamp, Timestamp)> = Vec::new();
    for time in times {
        let (from, to) = (time.minus(SLACK), time.plus(SLACK));
        match windows.last_mut() {
            Some(last) if from <= last.1 => last.1 = to,
            _ => windows.push((from, to)),
        }
    }
    let too_many = windows.len().saturating_sub(WINDOWS_MAX);
    if too_many > 0 {
        windows.drain(1..=too_many);
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_lie_close_together_are_looked_around_once() {
        let at = |seconds: i64| Timestamp::from_unix_s(1_700_000_000 + seconds);
        assert_eq!(windows(&[]), []);
        assert_eq!(windows(&[at(100), at(0), at(3), at(0)]), [(at(-2), at(5)), (at(98), at(102))]);
        let many: Vec<Timestamp> = (0..100).map(|number| at(number * 10)).collect();
        let some = windows(&many);
        assert_eq!((some.len(), some[0].0, some[1].0), (WINDOWS_MAX, at(-2), at(888)));
        assert_eq!(some.last().unwrap().1, at(992));
    }
}
