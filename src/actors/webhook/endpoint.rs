//! The actor of one endpoint: looks what is due, starts it, sleeps until the next is due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef, MessagingErr};
use xxhash_rust::xxh3::xxh3_64;

use crate::actors::webhook::Engine;
use crate::actors::webhook::directory::{Look, Reservation};
use crate::actors::webhook::health::Gate;
use crate::actors::webhook::reader::EndpointReader;
use crate::actors::webhook::send::{self, Due};
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{EndpointStatus, Lane};
use crate::storage::{Row, Scan, StoreError, keys, prefix_end, record};

/// Longest sleep. Due times are times of day, so a clock that is set forward is noticed within this.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Reads of the store in one look; what is left is for the next one.
const REFILLS_MAX: usize = 8;

/// What an endpoint's actor is told.
#[derive(Debug)]
pub(super) enum EndpointMessage {
    /// Something may be due, or has changed, or has ended.
    Look,
    /// The sleep is over.
    Wake {
        /// Which sleep; those before it were given up.
        sleep: u64,
    },
}

/// See the module.
pub(super) struct EndpointActor;

/// What one endpoint's actor holds. All of it can be read again.
pub(super) struct EndpointState {
    engine: Arc<Engine>,
    endpoint_id: EndpointId,
    reader: Arc<EndpointReader>,
    /// Whose it is, as soon as that is known.
    merchant_id: Option<MerchantId>,
    /// Due by now and not started, in the order of their due times; at most `horizon_max`.
    window: VecDeque<Waiting>,
    /// The endpoint has taken a webhook before.
    is_proven: bool,
    /// Requests to it that may be under way.
    pace: usize,
    sleep: u64,
    sleeper: Option<JoinHandle<Result<(), MessagingErr<EndpointMessage>>>>,
}

struct Waiting {
    due: Due,
    /// When it may be started: when it was due, or later after our own restart or trouble.
    ready_at: Timestamp,
}

/// How much of what is ready could be started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// All of it.
    Enough,
    /// Not all retries. New first tries still can be.
    ForFirstTriesOnly,
    /// Not all first tries, because the endpoint has never taken one. Retries still can be.
    ForRetriesOnly,
    /// Nothing more can.
    None,
}

impl Room {
    /// What is left of the room when only `rest` of it is.
    fn without(self, rest: Self) -> Self {
        if self == Self::Enough || self == rest { rest } else { Self::None }
    }
}

/// What is left after a look.
enum Left {
    /// Nothing, or nothing that may be sent.
    Nothing,
    /// Something that is started when something else has ended.
    NoRoom,
    /// Something that is due then.
    Later(Timestamp),
}

impl Actor for EndpointActor {
    type Msg = EndpointMessage;
    type State = EndpointState;
    type Arguments = (Arc<Engine>, EndpointId);

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (engine, endpoint_id): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let reader = Arc::new(EndpointReader::new(endpoint_id.clone()));
        Ok(EndpointState {
            engine,
            endpoint_id,
            reader,
            merchant_id: None,
            window: VecDeque::new(),
            is_proven: false,
            pace: 1,
            sleep: 0,
            sleeper: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            EndpointMessage::Wake { sleep } if sleep != state.sleep => return Ok(()),
            EndpointMessage::Wake { .. } | EndpointMessage::Look => {}
        }
        state.give_up_sleep();
        if state.engine.stopping.is_cancelled() {
            return Ok(());
        }
        match state.look()? {
            Left::NoRoom => {}
            Left::Later(at) if !state.makes_room_for_others(at) => state.sleep_until(&myself, at),
            Left::Later(_) | Left::Nothing => {
                if state.engine.directory.try_put_away(&state.endpoint_id) {
                    myself.stop(None);
                }
            }
        }
        Ok(())
    }
}

impl Drop for EndpointState {
    fn drop(&mut self) {
        // Timers are tasks of their own and would outlive the actor.
        self.give_up_sleep();
    }
}

impl EndpointState {
    fn give_up_sleep(&mut self) {
        self.sleep += 1;
        if let Some(sleeper) = self.sleeper.take() {
            sleeper.abort();
        }
    }

    fn sleep_until(&mut self, myself: &ActorRef<EndpointMessage>, at: Timestamp) {
        let sleep = self.sleep;
        let duration = at.since(self.engine.due_now()).min(SLEEP_MAX);
        self.sleeper = Some(myself.send_after(duration, move || EndpointMessage::Wake { sleep }));
    }

    /// Whether this actor is put away although something is due later, because others have no room at all. It is
    /// started again with those that were turned away.
    fn makes_room_for_others(&self, next_at: Timestamp) -> bool {
        next_at.since(self.engine.due_now()) > SLEEP_MAX && self.engine.directory.is_overflowing()
    }

    /// Starts what is due and fits.
    fn look(&mut self) -> Result<Left, ActorProcessingErr> {
        let now = self.engine.due_now();
        for _ in 0..REFILLS_MAX {
            let known = self.engine.directory.begin_look(&self.endpoint_id, now);
            if let Some(until) = self.closed_until(now)? {
                self.window.clear();
                return Ok(Left::Later(until));
            }
            if self.start_ready(now) == Room::None {
                return Ok(Left::NoRoom);
            }
            let Some(refilled) = self.refill(now, &known)? else { return Ok(Left::Nothing) };
            let room = self.start_ready(now);
            match room {
                Room::Enough => {}
                Room::ForRetriesOnly if refilled.is_whole => {}
                Room::ForRetriesOnly | Room::ForFirstTriesOnly | Room::None => return Ok(Left::NoRoom),
            }
            if refilled.is_whole {
                // What is ready and had no room is started when something else has ended.
                let waiting = self.window.iter().map(|waiting| waiting.ready_at).filter(|ready_at| *ready_at > now);
                return Ok(match waiting.chain(refilled.next_due_at).min() {
                    Some(at) => Left::Later(at),
                    None if room == Room::Enough => Left::Nothing,
                    None => Left::NoRoom,
                });
            }
        }
        // More than one look can start: go on when something ends, or soon.
        Ok(Left::Later(now.plus(Duration::from_millis(10))))
    }

    /// Starts what is ready, as far as there is room.
    fn start_ready(&mut self, now: Timestamp) -> Room {
        let mut room = Room::Enough;
        let mut stay = VecDeque::with_capacity(self.window.len());
        let mut waiting = std::mem::take(&mut self.window).into_iter();
        for next in waiting.by_ref() {
            if next.ready_at > now {
                stay.push_back(next);
                continue;
            }
            let due = &next.due;
            let is_first_try = due.entry.is_first_try();
            match self.engine.directory.reserve(
                &self.endpoint_id,
                &due.notification_id,
                is_first_try,
                self.is_proven,
                self.pace,
            ) {
                Reservation::NotNeeded => {}
                Reservation::Granted(class, place) => {
                    send::start(&self.engine, Arc::clone(&self.reader), next.due, (class, place));
                }
                Reservation::NoRoomForRetry => {
                    room = room.without(Room::ForFirstTriesOnly);
                    stay.push_back(next);
                }
                Reservation::NoRoomForFirstTry => {
                    room = room.without(Room::ForRetriesOnly);
                    stay.push_back(next);
                }
                Reservation::NoRoom => {
                    room = Room::None;
                    stay.push_back(next);
                    break;
                }
            }
        }
        stay.extend(waiting);
        self.window = stay;
        room
    }

    /// Reads what is due from the store. `None` when nothing may be sent.
    fn refill(&mut self, now: Timestamp, known: &Look) -> Result<Option<Refilled>, ActorProcessingErr> {
        let store = Arc::clone(&self.engine.parts.store);
        let limit = self.engine.parts.config.horizon_max.max(1) + known.in_flight.len();
        let (mut rows, later) = self.due_rows(now, limit)?;
        let Some(merchant_id) =
            rows.iter().chain(&later).find_map(|row| self.read(row)).map(|due| due.entry.merchant_id)
        else {
            self.window.clear();
            return Ok(None);
        };
        let endpoint =
            self.reader.load(store.as_ref(), &self.engine.parts.vault, &merchant_id, self.engine.parts.clock.now())?;
        if let Some(loaded) = &endpoint {
            self.is_proven = loaded.endpoint.proven_at.is_some();
        }
        if self.merchant_id.is_none() {
            self.merchant_id = Some(merchant_id);
            if let Some(until) = self.closed_until(now)? {
                return Ok(Some(Refilled { is_whole: true, next_due_at: Some(until) }));
            }
        }
        let mut next_due_at = later.iter().filter_map(due_at).min();
        let is_deleted = endpoint.is_none();
        match endpoint.map(|loaded| loaded.endpoint.status) {
            Some(EndpointStatus::Enabled) => {}
            Some(EndpointStatus::Paused | EndpointStatus::Disabled) => {
                self.window.clear();
                return Ok(None);
            }
            None => {
                // Of a deleted endpoint everything is ended now, whenever it would have been due.
                rows = store.scan(&Scan::prefix(&keys::notifications_due_of(&self.endpoint_id), limit))?;
                next_due_at = None;
            }
        }
        let is_whole = rows.len() < limit;
        self.window = rows.iter().filter_map(|row| self.waiting(row, known)).collect();
        if is_deleted {
            // But what is held back after trouble stays so: else a store that takes nothing would be asked in a tight loop.
            for waiting in &mut self.window {
                waiting.ready_at = known.held.get(&waiting.due.notification_id).map_or(now, |until| now.max(*until));
            }
        }
        Ok(Some(Refilled { is_whole, next_due_at }))
    }

    /// Until when nothing may be sent to the endpoint because of how it does. If something may, how much is asked as well:
    /// that changes with each answer.
    fn closed_until(&mut self, now: Timestamp) -> Result<Option<Timestamp>, ActorProcessingErr> {
        let Some(merchant_id) = &self.merchant_id else { return Ok(None) };
        let Engine { parts, healths, .. } = self.engine.as_ref();
        let loaded = self.reader.load(parts.store.as_ref(), &parts.vault, merchant_id, parts.clock.now())?;
        let Some(endpoint) = loaded.as_ref().map(|loaded| &loaded.endpoint) else { return Ok(None) };
        if endpoint.status != EndpointStatus::Enabled {
            return Ok(None);
        }
        self.pace = healths.pace(endpoint, now);
        Ok(match healths.gate(endpoint, now)? {
            Gate::Open => None,
            Gate::Closed { until } => Some(until),
        })
    }

    /// What is due by `now` in any lane, the earliest first, and of each lane the first of what is due later.
    fn due_rows(&self, now: Timestamp, limit: usize) -> Result<(Vec<Row>, Vec<Row>), StoreError> {
        let store = self.engine.parts.store.as_ref();
        let of_endpoint = keys::notifications_due_of(&self.endpoint_id);
        let all_end = prefix_end(&of_endpoint);
        let (mut due, mut later) = (Vec::new(), Vec::new());
        let mut start = of_endpoint.clone();
        loop {
            // Lanes in which there is nothing cost nothing.
            let first = store.scan(&Scan { start, end: all_end.clone(), limit: 1, reverse: false })?;
            let byte = first.first().and_then(|row| row.key.get(of_endpoint.len()).copied());
            let Some(lane) = byte.and_then(Lane::from_byte) else { break };
            let lane_start = keys::notifications_due_in(&self.endpoint_id, lane);
            let due_end = keys::notifications_due_end(&self.endpoint_id, lane, now);
            let Some(lane_end) = prefix_end(&lane_start) else { break };
            due.extend(store.scan(&Scan { start: lane_start, end: Some(due_end.clone()), limit, reverse: false })?);
            later.extend(store.scan(&Scan {
                start: due_end,
                end: Some(lane_end.clone()),
                limit: 1,
                reverse: false,
            })?);
            start = lane_end;
        }
        due.sort_by_key(due_at);
        due.truncate(limit);
        Ok((due, later))
    }

    fn waiting(&self, row: &Row, known: &Look) -> Option<Waiting> {
        let due = self.read(row).filter(|due| !known.in_flight.contains(&due.notification_id))?;
        let held_until = known.held.get(&due.notification_id).copied().unwrap_or_default();
        let ready_at = self.spread(due.due_at, &due.notification_id).max(held_until);
        Some(Waiting { due, ready_at })
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

    /// When something may be started that was due at `due_at`: what waited while we were not running is spread over
    /// the time after our start, each at a place of its own.
    fn spread(&self, due_at: Timestamp, notification_id: &NotificationId) -> Timestamp {
        if due_at >= self.engine.started_at {
            return due_at;
        }
        let spread_ms = self.engine.parts.config.restart_spread_ms;
        let place_ms = xxh3_64(notification_id.as_str().as_bytes()).checked_rem(spread_ms).unwrap_or(0);
        self.engine.started_at.plus(Duration::from_millis(place_ms))
    }
}

/// When a row of the due index is due.
fn due_at(row: &Row) -> Option<Timestamp> {
    keys::parse_notification_due(&row.key).map(|(_, _, due_at, _)| due_at)
}

/// What a refill found.
struct Refilled {
    /// Everything that is due by now is in the window.
    is_whole: bool,
    /// When the first of what is due later is due.
    next_due_at: Option<Timestamp>,
}
