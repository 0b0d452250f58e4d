//! Which endpoints have an actor, and what each has under way.
//!
//! What is under way is kept here and not in the actor, so that an actor that is started again after a failure does not
//! send what its predecessor's tasks are still sending.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{ActorId, ActorRef};
use tokio::task::AbortHandle;

use crate::actors::webhook::endpoint::EndpointMessage;
use crate::actors::webhook::permits::{Class, doubtful_max};
use crate::actors::webhook::supervisor::{START_WITHIN, SupervisorMessage};
use crate::clock::Clock;
use crate::domain::ids::{EndpointId, NotificationId};
use crate::domain::time::{Monotonic, Timestamp};
use crate::domain::webhook::LaneSet;

/// Endpoints with an actor at once. Above, the others wait until one is put away; what is due stays in the store.
pub(super) const ACTORS_MAX: usize = 50_000;

/// First tries in flight to an endpoint that has never taken a webhook: enough to find out, and too few to take all
/// places from others while it hangs.
const UNPROVEN_FIRST_TRIES_MAX: usize = 2;

/// Finds the actor of an endpoint. Cheap to clone; clones are the same directory.
#[derive(Clone)]
pub struct WebhookDirectory {
    inner: Arc<Mutex<Inner>>,
    clock: Clock,
}

struct Inner {
    entries: HashMap<EndpointId, Entry>,
    /// Present while actors may be started.
    supervisor: Option<ActorRef<SupervisorMessage>>,
    /// Endpoints were turned away because there were too many; the supervisor looks for them later.
    is_overflowing: bool,
    actors_max: usize,
    next_place: Place,
}

/// Tells the requests of one notification apart, one after another.
pub(super) type Place = u64;

struct Entry {
    /// `None` while it is being started.
    actor: Option<ActorRef<EndpointMessage>>,
    /// When that was asked for last.
    start_asked_at: Monotonic,
    /// A `Look` is in its mailbox, or will be sent when it has started. So one is enough for any number of pokes.
    is_poked: bool,
    in_flight: HashMap<NotificationId, InFlight>,
    doubtful_in_flight: usize,
    /// Not to be tried before then, because of trouble on our side.
    held: HashMap<NotificationId, Timestamp>,
    /// The last answer was not a success.
    is_failing: bool,
    /// Failures of its actor since it was put away last.
    failures: u32,
}

/// One request under way.
struct InFlight {
    place: Place,
    is_first_try: bool,
    /// When its turn came; before that it waits for others, however long they take.
    began: Option<Monotonic>,
    task: Option<AbortHandle>,
}

/// Who sees to an endpoint of which something should have been sent a while ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// Somebody: something is under way, held back or about to be looked at.
    Given,
    /// Nobody.
    Forgotten,
    /// So many requests that never ended. They were given up.
    RequestsLost(usize),
    /// An actor that was to start and never did. It was asked for again.
    StartLost,
}

/// Whether a request may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reservation {
    /// It may, in this class.
    Granted(Class, Place),
    /// It is under way already, or nothing is known of the endpoint.
    NotNeeded,
    /// As many retries as may be are under way.
    NoRoomForRetry,
    /// As many first tries as an endpoint gets that has never taken one are under way.
    NoRoomForFirstTry,
    /// As many requests as may be are under way.
    NoRoom,
}

impl Entry {
    /// Without an actor, which was asked for `now`.
    fn new(now: Monotonic) -> Self {
        Self {
            actor: None,
            start_asked_at: now,
            is_poked: true,
            in_flight: HashMap::new(),
            doubtful_in_flight: 0,
            held: HashMap::new(),
            is_failing: false,
            failures: 0,
        }
    }

    fn poke(&mut self) {
        if self.is_poked {
            return;
        }
        self.is_poked = true;
        if let Some(actor) = &self.actor {
            // An actor that has just failed does not take it; its successor looks first thing.
            let _ = actor.cast(EndpointMessage::Look);
        }
    }

    /// First tries under way.
    fn first_tries(&self) -> usize {
        self.in_flight.len().saturating_sub(self.doubtful_in_flight)
    }

    /// Takes a request out, if it still is the one at this place. Returns whether it was.
    fn end(&mut self, notification_id: &NotificationId, place: Place) -> bool {
        if self.in_flight.get(notification_id).is_none_or(|known| known.place != place) {
            return false;
        }
        let ended = self.in_flight.remove(notification_id);
        if ended.is_some_and(|ended| !ended.is_first_try) {
            self.doubtful_in_flight = self.doubtful_in_flight.saturating_sub(1);
        }
        true
    }

    /// Gives up the requests whose turn came longer than `within` ago. Returns how many those were.
    fn give_up_lost(&mut self, now: Monotonic, within: Duration) -> usize {
        let is_lost = |request: &InFlight| request.began.is_some_and(|began| now.since(began) > within);
        let lost: Vec<(NotificationId, Place)> = self
            .in_flight
            .iter()
            .filter(|(_, request)| is_lost(request))
            .map(|(notification_id, request)| (notification_id.clone(), request.place))
            .collect();
        for (notification_id, place) in &lost {
            if let Some(task) = self.in_flight.get(notification_id).and_then(|request| request.task.as_ref()) {
                // What it holds, such as its permit, comes back with it.
                task.abort();
            }
            self.end(notification_id, *place);
        }
        lost.len()
    }

    fn is_quiet(&self) -> bool {
        !self.is_poked && self.in_flight.is_empty()
    }
}

impl WebhookDirectory {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                entries: HashMap::new(),
                supervisor: None,
                is_overflowing: false,
                actors_max: ACTORS_MAX,
                next_place: 0,
            })),
            clock,
        }
    }

    /// Says that an endpoint has something new due in these lanes, or was changed. Never waits; any number of pokes is one
    /// message. Every look is at all lanes.
    pub fn poke(&self, endpoint_id: &EndpointId, _lanes: LaneSet) {
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.entries.get_mut(endpoint_id) {
            entry.poke();
            return;
        }
        let Some(supervisor) = inner.supervisor.clone() else { return };
        if inner.entries.len() >= inner.actors_max {
            if !inner.is_overflowing {
                inner.is_overflowing = true;
                let _ = supervisor.cast(SupervisorMessage::LookForTurnedAwayLater);
            }
            return;
        }
        inner.entries.insert(endpoint_id.clone(), Entry::new(self.clock.monotonic()));
        let _ = supervisor.cast(SupervisorMessage::Start(endpoint_id.clone()));
    }

    /// Who sees to an endpoint of which something should have been sent a while ago. A request must have ended `within`
    /// this time from its turn.
    pub(super) fn care_of(&self, endpoint_id: &EndpointId, now: Timestamp, within: Duration) -> Care {
        let monotonic = self.clock.monotonic();
        let mut inner = self.inner.lock();
        let (is_overflowing, supervisor) = (inner.is_overflowing, inner.supervisor.clone());
        let Some(entry) = inner.entries.get_mut(endpoint_id) else {
            // It may have been turned away, and is looked for by other means.
            return if is_overflowing { Care::Given } else { Care::Forgotten };
        };
        let lost = entry.give_up_lost(monotonic, within);
        if lost > 0 {
            return Care::RequestsLost(lost);
        }
        match (&entry.actor, supervisor) {
            (None, Some(supervisor)) if monotonic.since(entry.start_asked_at) > START_WITHIN => {
                entry.start_asked_at = monotonic;
                let _ = supervisor.cast(SupervisorMessage::Start(endpoint_id.clone()));
                return Care::StartLost;
            }
            (Some(actor), _) if entry.is_poked => {
                // It is busy, or has missed the poke; looking once more does no harm.
                let _ = actor.cast(EndpointMessage::Look);
            }
            _ => {}
        }
        let is_forgotten = entry.is_quiet() && entry.held.values().all(|until| *until <= now);
        if is_forgotten && !is_overflowing { Care::Forgotten } else { Care::Given }
    }

    /// Actors may be started from now on.
    pub(super) fn open(&self, supervisor: ActorRef<SupervisorMessage>) {
        self.inner.lock().supervisor = Some(supervisor);
    }

    /// No more actors are started.
    pub(super) fn close(&self) {
        self.inner.lock().supervisor = None;
    }

    /// Lets fewer actors be in memory at once.
    #[cfg(test)]
    pub(crate) fn limit_actors(&self, actors_max: usize) {
        self.inner.lock().actors_max = actors_max;
    }

    /// Makes an entry of which nobody is told, as if the message had been lost.
    #[cfg(test)]
    pub(crate) fn lose_start_of(&self, endpoint_id: &EndpointId) {
        self.inner.lock().entries.insert(endpoint_id.clone(), Entry::new(self.clock.monotonic()));
    }

    pub(super) fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }

    pub(super) fn contains(&self, endpoint_id: &EndpointId) -> bool {
        self.inner.lock().entries.contains_key(endpoint_id)
    }

    /// Forgets that endpoints were turned away; they are about to be poked again.
    pub(super) fn begin_to_look_for_turned_away(&self) {
        self.inner.lock().is_overflowing = false;
    }

    /// Makes every actor look, so that those that only sleep make room for endpoints that were turned away.
    pub(super) fn poke_all_actors(&self) {
        self.inner.lock().entries.values_mut().for_each(Entry::poke);
    }

    /// Whether endpoints are waiting for others to be put away.
    pub(super) fn is_overflowing(&self) -> bool {
        self.inner.lock().is_overflowing
    }

    /// Whether an actor has to be started: an endpoint never has two.
    pub(super) fn needs_actor(&self, endpoint_id: &EndpointId) -> bool {
        self.inner.lock().entries.get(endpoint_id).is_some_and(|entry| entry.actor.is_none())
    }

    /// The endpoint's actor has started; tells it to look.
    pub(super) fn attach(&self, endpoint_id: &EndpointId, actor: ActorRef<EndpointMessage>) {
        if let Some(entry) = self.inner.lock().entries.get_mut(endpoint_id) {
            let _ = actor.cast(EndpointMessage::Look);
            entry.is_poked = true;
            entry.actor = Some(actor);
        }
    }

    /// The endpoint's actor could not be started, or has ended by itself. Returns how often that happened, if it has
    /// to be started again: not when it was put away.
    pub(super) fn lost(&self, endpoint_id: &EndpointId, actor_id: Option<ActorId>) -> Option<u32> {
        let mut inner = self.inner.lock();
        let entry = inner.entries.get_mut(endpoint_id)?;
        if entry.actor.as_ref().map(|actor| actor.get_id()) != actor_id {
            return None;
        }
        entry.actor = None;
        entry.start_asked_at = self.clock.monotonic();
        entry.is_poked = true;
        entry.failures = entry.failures.saturating_add(1);
        Some(entry.failures)
    }

    /// The actor is about to look; pokes from now on are for the next look. Returns what is held back at `now`.
    pub(super) fn begin_look(&self, endpoint_id: &EndpointId, now: Timestamp) -> Look {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.entries.get_mut(endpoint_id) else { return Look::default() };
        entry.is_poked = false;
        entry.held.retain(|_, until| *until > now);
        Look { in_flight: entry.in_flight.keys().cloned().collect(), held: entry.held.clone() }
    }

    /// Whether the actor may end: nothing is under way and nobody has poked it since it began to look. If so, it is no
    /// longer in the directory, and the next poke starts another one.
    pub(super) fn try_put_away(&self, endpoint_id: &EndpointId) -> bool {
        let mut inner = self.inner.lock();
        let is_quiet = inner.entries.get(endpoint_id).is_none_or(Entry::is_quiet);
        if is_quiet {
            inner.entries.remove(endpoint_id);
        }
        is_quiet
    }

    /// Asks to start a request, of which an endpoint may have `in_flight_max`.
    pub(super) fn reserve(
        &self,
        endpoint_id: &EndpointId,
        notification_id: &NotificationId,
        is_first_try: bool,
        is_proven: bool,
        in_flight_max: usize,
    ) -> Reservation {
        let mut inner = self.inner.lock();
        let place = inner.next_place;
        inner.next_place += 1;
        let Some(entry) = inner.entries.get_mut(endpoint_id) else { return Reservation::NotNeeded };
        if entry.in_flight.contains_key(notification_id) {
            return Reservation::NotNeeded;
        }
        if entry.in_flight.len() >= in_flight_max {
            return Reservation::NoRoom;
        }
        if is_first_try && !is_proven && entry.first_tries() >= UNPROVEN_FIRST_TRIES_MAX {
            return Reservation::NoRoomForFirstTry;
        }
        if !is_first_try {
            if entry.doubtful_in_flight >= doubtful_max(in_flight_max) {
                return Reservation::NoRoomForRetry;
            }
            entry.doubtful_in_flight += 1;
        }
        let request = InFlight { place, is_first_try, began: None, task: None };
        entry.in_flight.insert(notification_id.clone(), request);
        let is_fresh = is_first_try && !entry.is_failing;
        Reservation::Granted(if is_fresh { Class::Fresh } else { Class::Doubtful }, place)
    }

    /// Which task carries a request out, unless it has ended already.
    pub(super) fn carried_by(
        &self,
        endpoint_id: &EndpointId,
        notification_id: &NotificationId,
        place: Place,
        task: AbortHandle,
    ) {
        self.change_in_flight(endpoint_id, notification_id, place, |request| request.task = Some(task));
    }

    /// The turn of a request has come; from now on its time runs.
    pub(super) fn began(&self, endpoint_id: &EndpointId, notification_id: &NotificationId, place: Place) {
        let now = self.clock.monotonic();
        self.change_in_flight(endpoint_id, notification_id, place, |request| request.began = Some(now));
    }

    fn change_in_flight(
        &self,
        endpoint_id: &EndpointId,
        notification_id: &NotificationId,
        place: Place,
        change: impl FnOnce(&mut InFlight),
    ) {
        let mut inner = self.inner.lock();
        let entry = inner.entries.get_mut(endpoint_id);
        let request = entry.and_then(|entry| entry.in_flight.get_mut(notification_id));
        if let Some(request) = request.filter(|request| request.place == place) {
            change(request);
        }
    }

    /// A request has ended, and its result is committed or given up.
    pub(super) fn finish(&self, finished: &Finished<'_>) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.entries.get_mut(finished.endpoint_id) else { return };
        if !entry.end(finished.notification_id, finished.place) {
            // It was given up, and may be under way once more.
            return;
        }
        if let Some(until) = finished.hold_until {
            entry.held.insert(finished.notification_id.clone(), until);
        }
        if let Some(is_success) = finished.is_success {
            entry.is_failing = !is_success;
        }
        entry.poke();
    }
}

/// What the directory knows when an actor looks.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) in_flight: HashSet<NotificationId>,
    pub(super) held: HashMap<NotificationId, Timestamp>,
}

/// How a request ended.
#[derive(Debug)]
pub(super) struct Finished<'a> {
    pub(super) endpoint_id: &'a EndpointId,
    pub(super) notification_id: &'a NotificationId,
    pub(super) place: Place,
    /// Not to be tried before then.
    pub(super) hold_until: Option<Timestamp>,
    /// What the receiver answered, if it was asked.
    pub(super) is_success: Option<bool>,
}
