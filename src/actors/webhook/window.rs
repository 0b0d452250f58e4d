//! What an endpoint's actor holds of the notifications that wait for it: of each lane the first few, and when the next is
//! due.
//!
//! A lane is read when something may be new in it, when something in it has become due, or when all that was read of it is
//! used up. So a backlog costs memory and reads for what is sent of it, however long it is. The more endpoints have something
//! due, the less is held of each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::actors::webhook::Engine;
use crate::actors::webhook::directory::LeftAlone;
use crate::actors::webhook::send::Due;
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Heads, Lane, LaneKind, LaneSet};
use crate::storage::{Row, Scan, StoreError, keys, prefix_end, record};

/// Entries of a lane that are held at least, if there are not too many endpoints.
const WINDOW_MIN: usize = 8;
/// Entries of a lane that are held at least, however many endpoints there are.
const WINDOW_FEW: usize = 4;
/// Entries of all endpoints that are held together, as far as these few allow: some 80 MB.
const HELD_MAX: usize = 262_144;
/// Rows read at once at most.
const PAGE_ROWS_MAX: usize = 1_000;

/// Something that waits.
struct Waiting {
    due: Due,
    /// When it may be started: when it was due, or later after our own restart.
    ready_at: Timestamp,
}

/// The beginning of one lane.
#[derive(Default)]
struct Window {
    /// In the order in which it may be started; at most so many as there was room for.
    waiting: VecDeque<Waiting>,
    room: usize,
    /// There is more that is due already.
    has_more: bool,
    /// When there is something to be started that is not in the window.
    later_at: Option<Timestamp>,
}

impl Window {
    fn is_ready(&self, now: Timestamp) -> bool {
        self.waiting.front().is_some_and(|first| first.ready_at <= now)
    }

    /// Whether reading it again at `now` would find something to be started that is not there.
    fn is_used_up(&self, now: Timestamp) -> bool {
        !self.is_ready(now)
            && ((self.has_more && self.waiting.len() < self.room) || self.later_at.is_some_and(|at| at <= now))
    }

    /// When there is something to do that there is not at `now`.
    fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_ready(now) {
            return None;
        }
        let first = self.waiting.front().map(|first| first.ready_at);
        first.into_iter().chain(self.later_at).min()
    }
}

/// What is read at which time.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) now: Timestamp,
    /// Passed over.
    pub(super) left_alone: &'a LeftAlone,
    /// No wait is longer than this. What seems to have a longer one was due before the clock was set back.
    pub(super) wait_max: Duration,
    /// Everything, whenever it is due: it is to be ended.
    pub(super) is_all: bool,
}

/// See the module.
pub(super) struct Windows {
    engine: Arc<Engine>,
    endpoint_id: EndpointId,
    lanes: [Window; Lane::COUNT],
    /// What may have something new since it was read.
    unread: LaneSet,
    window_max: usize,
    merchant_id: Option<MerchantId>,
    /// As [`Engine::held`] has it.
    held: usize,
}

/// How many entries of a lane are held while so many endpoints have something due; `most` otherwise.
fn room_beside(endpoints: usize, most: usize) -> usize {
    let share = HELD_MAX / Lane::COUNT / endpoints.max(1);
    share.max(WINDOW_FEW).min(most)
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.engine.held.fetch_sub(self.held, Ordering::Relaxed);
    }
}

impl Windows {
    pub(super) fn new(engine: Arc<Engine>, endpoint_id: EndpointId) -> Self {
        let window_max = (engine.parts.config.horizon_max / Lane::COUNT).max(WINDOW_MIN);
        Self {
            engine,
            endpoint_id,
            lanes: Default::default(),
            unread: LaneSet::ALL,
            window_max,
            merchant_id: None,
            held: 0,
        }
    }

    /// Counts what is held.
    fn count(&mut self) {
        let held = self.lanes.iter().map(|window| window.waiting.len()).sum();
        let before = std::mem::replace(&mut self.held, held);
        // Wraps where it is less than before.
        self.engine.held.fetch_add(held.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Something may be new in these lanes.
    pub(super) fn add_unread(&mut self, lanes: LaneSet) {
        self.unread = self.unread.and(lanes);
    }

    /// Forgets everything; the next time, all lanes are read.
    pub(super) fn forget(&mut self) {
        self.lanes = Default::default();
        self.unread = LaneSet::ALL;
        self.count();
    }

    /// Whose endpoint it is, once anything of it was read.
    pub(super) const fn merchant_id(&self) -> Option<&MerchantId> {
        self.merchant_id.as_ref()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|window| window.waiting.is_empty() && !window.has_more && window.later_at.is_none())
    }

    /// Whether [`Windows::fill`] would read anything.
    pub(super) fn wants_reading(&self, now: Timestamp) -> bool {
        !self.wanted(now).is_empty()
    }

    /// The first of each lane that may be started now.
    pub(super) fn heads(&self, now: Timestamp) -> Heads {
        std::array::from_fn(|lane| {
            let first = self.lanes.get(lane).and_then(|window| window.waiting.front());
            first.filter(|first| first.ready_at <= now).map(|first| first.due.due_at)
        })
    }

    /// Takes the first of a lane out, if `is_taken` says so.
    pub(super) fn take_first(&mut self, lane: Lane, is_taken: impl FnOnce(&Due) -> bool) -> Option<Due> {
        let window = self.lanes.get_mut(usize::from(lane.byte()))?;
        if !is_taken(&window.waiting.front()?.due) {
            return None;
        }
        let first = window.waiting.pop_front();
        self.count();
        first.map(|first| first.due)
    }

    /// When there is something to do that there is not at `now`.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.lanes.iter().filter_map(|window| window.next_at(now)).min()
    }

    /// Reads what may be new, what has become due, and what is used up.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read; what was not read is read the next time.
    pub(super) fn fill(&mut self, reading: Reading<'_>) -> Result<(), StoreError> {
        let filled = self.fill_wanted(reading);
        self.count();
        filled
    }

    fn fill_wanted(&mut self, reading: Reading<'_>) -> Result<(), StoreError> {
        let wanted = self.wanted(reading.now);
        let occupied = self.occupied(wanted)?;
        for lane in Lane::all().filter(|lane| wanted.has(*lane)) {
            let window = if occupied.has(lane) { self.read_lane(lane, reading)? } else { Window::default() };
            if let Some(place) = self.lanes.get_mut(usize::from(lane.byte())) {
                *place = window;
            }
            self.unread.remove(lane);
        }
        Ok(())
    }

    /// The lanes that have to be read. What is new in a lane of which not all is known is found when the rest is used up.
    fn wanted(&self, now: Timestamp) -> LaneSet {
        let mut wanted = LaneSet::NONE;
        for (lane, window) in Lane::all().zip(&self.lanes) {
            let has_enough = window.has_more && window.is_ready(now);
            if window.is_used_up(now) || (self.unread.has(lane) && !has_enough) {
                wanted.add(lane);
            }
        }
        wanted
    }

    /// Those of `wanted` in which there is anything. Lanes in which there is nothing cost nothing.
    fn occupied(&self, wanted: LaneSet) -> Result<LaneSet, StoreError> {
        let several = Lane::all().filter(|lane| wanted.has(*lane)).nth(1).is_some();
        if !several {
            return Ok(wanted);
        }
        let of_endpoint = keys::notifications_due_of(&self.endpoint_id);
        let (mut start, end) = (of_endpoint.clone(), prefix_end(&of_endpoint));
        let mut occupied = LaneSet::NONE;
        loop {
            let first = self.scan(&Scan { start, end: end.clone(), limit: 1, reverse: false })?;
            let byte = first.first().and_then(|row| row.key.get(of_endpoint.len()).copied());
            let Some(lane) = byte.and_then(Lane::from_byte) else { return Ok(occupied) };
            occupied.add(lane);
            let Some(next) = prefix_end(&keys::notifications_due_in(&self.endpoint_id, lane)) else {
                return Ok(occupied);
            };
            start = next;
        }
    }

    fn read_lane(&mut self, lane: Lane, reading: Reading<'_>) -> Result<Window, StoreError> {
        let start = keys::notifications_due_in(&self.endpoint_id, lane);
        let Some(lane_end) = prefix_end(&start) else { return Ok(Window::default()) };
        let room = room_beside(self.engine.directory.len(), self.window_max);
        let mut window = Window { room, ..Window::default() };
        // What was never tried is due, whatever the clock said when it was made.
        if reading.is_all || lane.kind() == LaneKind::First {
            self.read_into(&mut window, (start, lane_end), reading)?;
        } else {
            let due_end = keys::notifications_due_end(&self.endpoint_id, lane, reading.now);
            self.read_into(&mut window, (start, due_end.clone()), reading)?;
            self.read_later(&mut window, (lane, due_end, lane_end), reading)?;
        }
        window.waiting.make_contiguous().sort_by_key(|waiting| (waiting.ready_at, waiting.due.due_at));
        Ok(window)
    }

    /// Reads the rows from the first key to before the second into `window`, until it is full.
    fn read_into(
        &mut self,
        window: &mut Window,
        (mut start, end): (Vec<u8>, Vec<u8>),
        reading: Reading<'_>,
    ) -> Result<(), StoreError> {
        // One more than there is room for, to know whether there are more.
        let limit = (window.room + 1 + reading.left_alone.in_flight.len()).min(PAGE_ROWS_MAX);
        loop {
            let rows = self.scan(&Scan { start, end: Some(end.clone()), limit, reverse: false })?;
            for row in &rows {
                let Some(due) = self.due_of(row, reading.left_alone) else { continue };
                if let Some(until) = reading.left_alone.held.get(&due.notification_id) {
                    window.later_at = Some(window.later_at.map_or(*until, |at| at.min(*until)));
                    continue;
                }
                if window.waiting.len() >= window.room {
                    window.has_more = true;
                    return Ok(());
                }
                let ready_at = self.ready_at(&due, reading.now);
                window.waiting.push_back(Waiting { due, ready_at });
            }
            let Some(last) = rows.last().filter(|_| rows.len() >= limit) else { return Ok(()) };
            start = [last.key.as_slice(), &[0]].concat();
        }
    }

    /// When the first of what is not due is due, and what should have been due long ago.
    fn read_later(
        &mut self,
        window: &mut Window,
        (lane, due_end, lane_end): (Lane, Vec<u8>, Vec<u8>),
        reading: Reading<'_>,
    ) -> Result<(), StoreError> {
        let scan = Scan { start: due_end, end: Some(lane_end.clone()), limit: 1, reverse: false };
        let first = self.scan(&scan)?.pop();
        let Some(at) = first.as_ref().and_then(due_at) else { return Ok(()) };
        if self.merchant_id.is_none()
            && let Some(row) = &first
        {
            self.merchant_id = self.read(row).map(|due| due.entry.merchant_id);
        }
        let last = reading.now.plus(reading.wait_max);
        let first_at = if at > last { None } else { Some(at) };
        window.later_at = window.later_at.into_iter().chain(first_at).min();
        let beyond = keys::notifications_due_end(&self.endpoint_id, lane, last);
        self.read_into(window, (beyond, lane_end), reading)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        self.engine.parts.store.scan(scan)
    }

    /// What a row says, if it is not under way.
    fn due_of(&mut self, row: &Row, left_alone: &LeftAlone) -> Option<Due> {
        let is_under_way = keys::parse_notification_due(&row.key)
            .is_some_and(|(_, _, _, notification_id)| left_alone.in_flight.contains(&notification_id));
        if is_under_way && self.merchant_id.is_some() {
            return None;
        }
        let due = self.read(row)?;
        self.merchant_id.get_or_insert_with(|| due.entry.merchant_id.clone());
        (!is_under_way).then_some(due)
    }

    /// What a row of the due index says; one that can't be read is passed over.
    fn read(&self, row: &Row) -> Option<Due> {
        let Some((_, lane, due_at, notification_id)) = keys::parse_notification_due(&row.key) else {
            self.engine.unreadable.report(&row.key, "its key has no lane, time and notification");
            return None;
        };
        match record::decode(&row.versioned.value) {
            Ok(entry) => Some(Due { endpoint_id: self.endpoint_id.clone(), lane, due_at, notification_id, entry }),
            Err(error) => {
                self.engine.unreadable.report(&row.key, error);
                None
            }
        }
    }

    /// When something may be started: what waited while we were not running is spread over the time after our start, each
    /// at a place of its own.
    fn ready_at(&self, due: &Due, now: Timestamp) -> Timestamp {
        let started_at = self.engine.started_at;
        if due.due_at >= started_at {
            return due.due_at.min(now);
        }
        let spread_ms = self.engine.parts.config.restart_spread_ms;
        let place_ms = place_of(&due.notification_id).checked_rem(spread_ms).unwrap_or(0);
        let place_at = started_at.plus(Duration::from_millis(place_ms));
        // Once its place has come, it has its turn as ever.
        if place_at <= now { due.due_at } else { place_at }
    }
}

fn place_of(notification_id: &NotificationId) -> u64 {
    xxh3_64(notification_id.as_str().as_bytes())
}

/// When a row of the due index is due.
fn due_at(row: &Row) -> Option<Timestamp> {
    keys::parse_notification_due(&row.key).map(|(_, _, due_at, _)| due_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_endpoints_there_are_the_less_is_held_of_each() {
        let rooms = [0, 1, 512, 1_000, 5_000, 50_000].map(|endpoints| room_beside(endpoints, 64));
        assert_eq!(rooms, [64, 64, 64, 32, 6, WINDOW_FEW]);
        assert_eq!(room_beside(1_000_000, 2), 2);
        for endpoints in [100, 1_000, 8_000] {
            assert!(endpoints * Lane::COUNT * room_beside(endpoints, usize::MAX) <= HELD_MAX);
        }
    }
}
