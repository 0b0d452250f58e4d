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
use crate::actors::webhook::pools::Standing;
use crate::actors::webhook::supervisor::{START_WITHIN, SupervisorMessage};
use crate::clock::Clock;
use crate::domain::ids::{EndpointId, NotificationId};
use crate::domain::time::{Monotonic, Timestamp};
use crate::domain::webhook::{LaneKind, LaneSet};

/// Endpoints with an actor at once. Above, the others wait until one is put away; what is due stays in the store.
pub(super) const ACTORS_MAX: usize = 50_000;

/// First tries in flight to an endpoint that has never taken a webhook: enough to find out, and too few to take all
/// places from others while it hangs.
const UNPROVEN_FIRST_TRIES_MAX: usize = 2;
/// One in so many requests to an endpoint is kept for first tries, so that retries that hang can't stop what is new.
const KEPT_FOR_FIRST: usize = 4;
/// How much of an endpoint's average time a request makes up: one part in so many.
const AVERAGE_OVER: u32 = 8;
/// After trouble on our side, such as a store without room, a notification is left alone for this long.
const HOLD_FIRST: Duration = Duration::from_secs(5);
/// What can't be read, or breaks us, is left alone for twice as long each time, up to this.
const HOLD_MAX: Duration = Duration::from_secs(3_600);
/// Notifications of one endpoint that are held back. Above, nothing of it is sent before one of them may be again.
pub(super) const HELD_MAX: usize = 1_000;

/// Of `all`, how many may be retries; at least one.
const fn again_max(all: usize) -> usize {
    let rest = all - all / KEPT_FOR_FIRST;
    if rest == all && all > 1 { all - 1 } else { rest }
}

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
    /// A request that takes longer is slow.
    slow_after: Duration,
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
    /// Lanes in which something may be new since the last look.
    lanes: LaneSet,
    /// Something was ready at the last look for which there was no room.
    wants_room: bool,
    in_flight: HashMap<NotificationId, InFlight>,
    asking: Asking,
    /// Not to be tried for a while, because of trouble on our side.
    held: HashMap<NotificationId, Held>,
    /// Nothing of it can be sent before then, because of trouble on our side.
    resting_until: Option<Timestamp>,
    /// The last answer was not a success.
    is_failing: bool,
    /// How long its requests take, roughly.
    average: Duration,
    /// Failures of its actor since it was put away last.
    failures: u32,
}

/// Requests of one endpoint that have no answer yet.
#[derive(Clone, Copy, Default)]
struct Asking {
    first: usize,
    again: usize,
}

impl Asking {
    const fn of(&mut self, kind: LaneKind) -> &mut usize {
        match kind {
            LaneKind::First => &mut self.first,
            LaneKind::Again => &mut self.again,
        }
    }
}

/// One request under way.
struct InFlight {
    place: Place,
    kind: LaneKind,
    phase: Phase,
    task: Option<AbortHandle>,
}

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits for others, however long they take.
    Waiting,
    /// Its turn came then.
    Asking(Monotonic),
    /// The answer is there, and its commit under way, however long that takes.
    Recording,
}

/// A notification that is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    until: Timestamp,
    /// For how long that was.
    wait: Duration,
}

/// Why a notification is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Its endpoint wants nothing before then.
    Until(Timestamp),
    /// Something did not work now, that may work soon.
    Passing,
    /// Something does not work that may never work: each time it is left alone for longer.
    Lasting,
}

impl Hold {
    /// For how long from `now`, when it was held back as `last` says before.
    fn after(self, last: Option<Held>, now: Timestamp) -> Held {
        let wait = match self {
            Self::Until(until) => return Held { until, wait: Duration::ZERO },
            Self::Passing => HOLD_FIRST,
            Self::Lasting => longer_hold(last.map(|last| last.wait)),
        };
        Held { until: now.plus(wait), wait }
    }
}

/// How long to leave something alone that does not work again, after it was left alone for `last`.
pub(super) fn longer_hold(last: Option<Duration>) -> Duration {
    last.map_or(HOLD_FIRST, |last| (last * 2).clamp(HOLD_FIRST, HOLD_MAX))
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
    /// It may, as one of an endpoint that is known so.
    Granted(Standing, Place),
    /// It is under way already, or nothing is known of the endpoint.
    NotNeeded,
    /// As many retries as may be are under way.
    NoRoomForRetry,
    /// As many first tries as an endpoint gets that has never taken one are under way.
    NoRoomForFirstTry,
    /// As many requests as may be are under way, or as many answers wait for their commit.
    NoRoom,
}

/// What an endpoint may have under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    /// Requests without an answer, at least 1.
    pub(super) asking: usize,
    /// It has taken a webhook before.
    pub(super) is_proven: bool,
}

impl Entry {
    /// Without an actor, which was asked for `now`.
    fn new(now: Monotonic) -> Self {
        Self {
            actor: None,
            start_asked_at: now,
            is_poked: true,
            lanes: LaneSet::ALL,
            wants_room: false,
            in_flight: HashMap::new(),
            asking: Asking::default(),
            held: HashMap::new(),
            resting_until: None,
            is_failing: false,
            average: Duration::ZERO,
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

    /// Pokes if the actor has anything to do when a request has come further.
    fn poke_for_room(&mut self) {
        if self.wants_room || self.in_flight.is_empty() || !self.lanes.is_empty() {
            self.poke();
        }
    }

    /// The request of this place, if it is under way still.
    fn request(&mut self, notification_id: &NotificationId, place: Place) -> Option<&mut InFlight> {
        self.in_flight.get_mut(notification_id).filter(|request| request.place == place)
    }

    /// A request has its answer. Returns whether it still was the one at this place.
    fn answered(&mut self, notification_id: &NotificationId, place: Place) -> bool {
        let Some(request) = self.request(notification_id, place) else { return false };
        if request.phase != Phase::Recording {
            request.phase = Phase::Recording;
            let kind = request.kind;
            let asking = self.asking.of(kind);
            *asking = asking.saturating_sub(1);
        }
        true
    }

    /// Takes a request out, if it still is the one at this place. Returns whether it was.
    fn end(&mut self, notification_id: &NotificationId, place: Place) -> bool {
        let was_there = self.answered(notification_id, place);
        if was_there {
            self.in_flight.remove(notification_id);
        }
        was_there
    }

    /// Gives up the requests without an answer whose turn came longer than `within` ago. Returns how many those were.
    fn give_up_lost(&mut self, now: Monotonic, within: Duration) -> usize {
        let is_lost = |request: &InFlight| matches!(request.phase, Phase::Asking(began) if now.since(began) > within);
        let lost: Vec<(NotificationId, Place)> = self
            .in_flight
            .iter()
            .filter(|(_, request)| is_lost(request))
            .map(|(notification_id, request)| (notification_id.clone(), request.place))
            .collect();
        for (notification_id, place) in &lost {
            if let Some(task) = self.in_flight.get(notification_id).and_then(|request| request.task.as_ref()) {
                // What it holds, such as its place in a pool, comes back with it.
                task.abort();
            }
            self.end(notification_id, *place);
        }
        lost.len()
    }

    fn is_quiet(&self) -> bool {
        !self.is_poked && self.in_flight.is_empty()
    }

    /// Why no request can be started now, if none can.
    fn refusal(&self, kind: LaneKind, allowed: Allowed) -> Option<Reservation> {
        // An answer whose commit is under way counts too: it is what would be sent again after a crash, and until it is
        // known what it says, a probe is not over.
        if self.in_flight.len() >= allowed.asking {
            return Some(Reservation::NoRoom);
        }
        match kind {
            LaneKind::First if !allowed.is_proven && self.asking.first >= UNPROVEN_FIRST_TRIES_MAX => {
                Some(Reservation::NoRoomForFirstTry)
            }
            LaneKind::Again if self.asking.again >= again_max(allowed.asking) => Some(Reservation::NoRoomForRetry),
            LaneKind::First | LaneKind::Again => None,
        }
    }

    fn standing(&self, is_proven: bool, slow_after: Duration) -> Standing {
        let is_good = is_proven && !self.is_failing && self.average <= slow_after;
        if is_good { Standing::Good } else { Standing::Doubtful }
    }
}

impl WebhookDirectory {
    pub(super) fn new(clock: Clock, slow_after: Duration) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                entries: HashMap::new(),
                supervisor: None,
                is_overflowing: false,
                actors_max: ACTORS_MAX,
                next_place: 0,
                slow_after,
            })),
            clock,
        }
    }

    /// Says that an endpoint has something new due in these lanes, or was changed. Never waits; any number of pokes is one
    /// message.
    pub fn poke(&self, endpoint_id: &EndpointId, lanes: LaneSet) {
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.entries.get_mut(endpoint_id) {
            entry.lanes = entry.lanes.and(lanes);
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
        let is_resting = entry.resting_until.is_some_and(|until| until > now);
        // Who is no longer held back is about to be looked at.
        let is_held = entry.held.values().any(|held| held.until.plus(HOLD_FIRST) > now);
        let is_forgotten = entry.is_quiet() && !is_resting && !is_held;
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

    /// The actor is about to look; pokes from now on are for the next look. Returns the lanes in which something may be
    /// new.
    pub(super) fn begin_look(&self, endpoint_id: &EndpointId) -> LaneSet {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.entries.get_mut(endpoint_id) else { return LaneSet::ALL };
        entry.is_poked = false;
        entry.wants_room = false;
        std::mem::take(&mut entry.lanes)
    }

    /// What is not to be started at `now`, whatever the store says.
    pub(super) fn left_alone(&self, endpoint_id: &EndpointId, now: Timestamp) -> LeftAlone {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.entries.get_mut(endpoint_id) else { return LeftAlone::default() };
        // Remembered for as long again, so that what does not work again is left alone for longer.
        entry.held.retain(|_, held| held.until.plus(held.wait) > now);
        let held = entry.held.iter().filter(|(_, held)| held.until > now);
        LeftAlone {
            in_flight: entry.in_flight.keys().cloned().collect(),
            held: held.map(|(notification_id, held)| (notification_id.clone(), held.until)).collect(),
        }
    }

    /// Until when anything of an endpoint is left alone was said by a clock that was ahead.
    pub(super) fn forget_times(&self, endpoint_id: &EndpointId) {
        if let Some(entry) = self.inner.lock().entries.get_mut(endpoint_id) {
            entry.held.clear();
            entry.resting_until = None;
        }
    }

    /// Nothing of an endpoint can be sent before then, because of trouble on our side.
    pub(super) fn rest(&self, endpoint_id: &EndpointId, until: Timestamp) {
        if let Some(entry) = self.inner.lock().entries.get_mut(endpoint_id) {
            entry.resting_until = Some(until);
        }
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

    /// Asks to start a request.
    pub(super) fn reserve(
        &self,
        endpoint_id: &EndpointId,
        notification_id: &NotificationId,
        kind: LaneKind,
        allowed: Allowed,
    ) -> Reservation {
        let mut inner = self.inner.lock();
        let (place, slow_after) = (inner.next_place, inner.slow_after);
        inner.next_place += 1;
        let Some(entry) = inner.entries.get_mut(endpoint_id) else { return Reservation::NotNeeded };
        if entry.in_flight.contains_key(notification_id) {
            return Reservation::NotNeeded;
        }
        let refusal = entry.refusal(kind, allowed);
        if let Some(refusal) = refusal {
            entry.wants_room = true;
            return refusal;
        }
        *entry.asking.of(kind) += 1;
        entry.in_flight.insert(notification_id.clone(), InFlight { place, kind, phase: Phase::Waiting, task: None });
        Reservation::Granted(entry.standing(allowed.is_proven, slow_after), place)
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
        self.change_in_flight(endpoint_id, notification_id, place, |request| request.phase = Phase::Asking(now));
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
        if let Some(request) = entry.and_then(|entry| entry.request(notification_id, place)) {
            change(request);
        }
    }

    /// A request has an answer, or none is to come. Its place is free; the notification is under way until it is finished.
    pub(super) fn answered(&self, endpoint_id: &EndpointId, notification_id: &NotificationId, answer: &Answered) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.entries.get_mut(endpoint_id) else { return };
        if !entry.answered(notification_id, answer.place) {
            return;
        }
        entry.is_failing = !answer.is_success;
        entry.average = (entry.average * (AVERAGE_OVER - 1) + answer.took) / AVERAGE_OVER;
        entry.poke_for_room();
    }

    /// A request has ended, and its result is committed or given up.
    pub(super) fn finish(&self, finished: &Finished<'_>) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.entries.get_mut(finished.endpoint_id) else { return };
        if !entry.end(finished.notification_id, finished.place) {
            // It was given up, and may be under way once more.
            return;
        }
        let last = entry.held.remove(finished.notification_id);
        if let Some(hold) = finished.hold {
            entry.held.insert(finished.notification_id.clone(), hold.after(last, finished.now));
        }
        entry.lanes = entry.lanes.and(finished.lanes);
        entry.poke_for_room();
    }
}

/// What a receiver answered, or that it did not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) place: Place,
    pub(super) is_success: bool,
    pub(super) took: Duration,
}

/// What is not to be started.
#[derive(Debug, Default)]
pub(super) struct LeftAlone {
    pub(super) in_flight: HashSet<NotificationId>,
    /// Until when.
    pub(super) held: HashMap<NotificationId, Timestamp>,
}

/// How a request ended.
#[derive(Debug)]
pub(super) struct Finished<'a> {
    pub(super) endpoint_id: &'a EndpointId,
    pub(super) notification_id: &'a NotificationId,
    pub(super) place: Place,
    pub(super) now: Timestamp,
    /// Whether it is left alone now.
    pub(super) hold: Option<Hold>,
    /// The lanes in which it may wait again.
    pub(super) lanes: LaneSet,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_s(1_737_715_200);

    #[test]
    fn some_places_of_an_endpoint_are_always_kept_for_first_tries() {
        for (all, again) in [(1, 1), (2, 1), (3, 2), (4, 3), (16, 12), (1_000, 750)] {
            assert_eq!(again_max(all), again, "of {all}");
        }
    }

    #[test]
    fn what_never_works_is_held_back_for_twice_as_long_each_time_up_to_an_hour() {
        let mut held = None;
        let mut waits_s = Vec::new();
        for _ in 0..12 {
            let next = Hold::Lasting.after(held, NOW);
            assert_eq!(next.until, NOW.plus(next.wait));
            waits_s.push(next.wait.as_secs());
            held = Some(next);
        }
        assert_eq!(waits_s, [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]);
        assert_eq!(Hold::Passing.after(held, NOW).wait, HOLD_FIRST);
        let until = NOW.plus(Duration::from_secs(77));
        assert_eq!(Hold::Until(until).after(held, NOW).until, until);
    }
}
