//! The actor of one endpoint: looks what is due, starts it, sleeps until the next is due.

use std::sync::Arc;
use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef, MessagingErr};

use crate::actors::webhook::Engine;
use crate::actors::webhook::directory::{Allowed, HELD_MAX, Reservation, longer_hold};
use crate::actors::webhook::health::Gate;
use crate::actors::webhook::reader::{EndpointReader, LoadedEndpoint, ReadError};
use crate::actors::webhook::send;
use crate::actors::webhook::window::{Reading, Windows};
use crate::domain::ids::EndpointId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Endpoint, EndpointStatus, Picker, Room};
use crate::storage::keys;

/// Longest sleep. Due times are times of day, so a clock that is set forward is noticed within this.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// What may be sent again within this is kept in memory until then.
const KEPT_FOR_MAX: Duration = Duration::from_secs(1);
/// Reads of the store in one look; what is left is for the next one,
const ROUNDS_MAX: usize = 8;
/// after this.
const NEXT_LOOK_AFTER: Duration = Duration::from_millis(10);
/// A retry that seems to be due later than the longest wait doubled and this was due before the clock was set back.
const CLOCK_STEP_MIN: Duration = Duration::from_secs(3_600);
/// When a look is earlier than the one before by more than this, the clock was ahead and was set back in between.
const CLOCK_BACK_MIN: Duration = Duration::from_secs(60);

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
    windows: Windows,
    picker: Picker,
    /// The longest wait before a retry.
    wait_max: Duration,
    /// The endpoint is no longer there: what waits for it is ended.
    is_deleted: bool,
    /// Since the endpoint can't be read: when to try that again, and how long that is after the last time.
    trouble: Option<(Timestamp, Duration)>,
    /// When it looked last.
    looked_at: Timestamp,
    sleep: u64,
    sleeper: Option<JoinHandle<Result<(), MessagingErr<EndpointMessage>>>>,
}

/// What may be sent now.
enum Course {
    /// So much.
    Send(Allowed),
    /// Nothing before then.
    NotBefore(Timestamp),
    /// Nothing until the endpoint is changed.
    Nothing,
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
        let windows = Windows::new(Arc::clone(&engine), endpoint_id.clone());
        let tuning = engine.healths.tuning();
        let longest_s =
            tuning.schedule.own_waits_s.iter().copied().max().unwrap_or(0).max(tuning.schedule.max_backoff_s);
        drop(tuning);
        Ok(EndpointState {
            wait_max: wait_max_of(longest_s),
            looked_at: engine.due_now(),
            engine,
            endpoint_id,
            reader,
            windows,
            picker: Picker::default(),
            is_deleted: false,
            trouble: None,
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
        if self.looked_at > now.plus(CLOCK_BACK_MIN) {
            // What seemed to be due later may be due now.
            self.windows.forget();
            self.trouble = None;
            self.engine.directory.forget_times(&self.endpoint_id);
        }
        self.looked_at = now;
        for _ in 0..ROUNDS_MAX {
            let unread = self.engine.directory.begin_look(&self.endpoint_id);
            self.windows.add_unread(unread);
            // Before anything is read, once it is known whose endpoint it is: nothing is held that can't be sent.
            let mut allowed = None;
            if self.windows.merchant_id().is_some() {
                match self.allowed(now)? {
                    Ok(known) => allowed = Some(known),
                    Err(left) => return Ok(left),
                }
            }
            if self.windows.wants_reading(now) {
                let left_alone = self.engine.directory.left_alone(&self.endpoint_id, now);
                if left_alone.held.len() >= HELD_MAX
                    && let Some(until) = left_alone.held.values().min()
                {
                    return Ok(Left::Later(*until));
                }
                let (wait_max, is_all) = (self.wait_max, self.is_deleted);
                self.windows.fill(Reading { now, left_alone: &left_alone, wait_max, is_all })?;
            }
            if self.windows.is_empty() {
                return Ok(Left::Nothing);
            }
            let allowed = match allowed {
                Some(known) => known,
                None => match self.allowed(now)? {
                    Ok(known) => known,
                    Err(left) => return Ok(left),
                },
            };
            self.start_ready(now, allowed);
            if !self.windows.wants_reading(now) {
                return Ok(match self.windows.next_at(now) {
                    Some(at) => Left::Later(at),
                    None if self.windows.is_empty() => Left::Nothing,
                    // It is started when something else has ended.
                    None => Left::NoRoom,
                });
            }
        }
        // More than one look can start: go on when something ends, or soon.
        Ok(Left::Later(now.plus(NEXT_LOOK_AFTER)))
    }

    /// What may be sent now, or what is left if that is nothing.
    fn allowed(&mut self, now: Timestamp) -> Result<Result<Allowed, Left>, ActorProcessingErr> {
        let left = match self.course(now)? {
            Course::Send(allowed) => return Ok(Ok(allowed)),
            Course::NotBefore(until) => {
                // With time to look once more.
                self.engine.directory.rest(&self.endpoint_id, until.plus(SLEEP_MAX));
                Left::Later(until)
            }
            Course::Nothing => Left::Nothing,
        };
        // What may be sent again soon is kept: a gradual release pauses after each request.
        if !matches!(&left, Left::Later(until) if until.since(now) <= KEPT_FOR_MAX) {
            self.windows.forget();
        }
        Ok(Err(left))
    }

    /// What may be sent now, as the endpoint is.
    fn course(&mut self, now: Timestamp) -> Result<Course, ActorProcessingErr> {
        let parts = &self.engine.parts;
        // Nothing that waits can be read.
        let Some(merchant_id) = self.windows.merchant_id() else { return Ok(Course::Nothing) };
        let loaded = self.reader.load(parts.store.as_ref(), &parts.vault, merchant_id, parts.clock.now());
        let course = loaded.and_then(|loaded| self.course_for(loaded, now));
        match course {
            Ok(course) => {
                self.trouble = None;
                Ok(course)
            }
            Err(error) if error.is_lasting() => Ok(Course::NotBefore(self.rest(&error, now))),
            Err(error) => Err(error.into()),
        }
    }

    fn course_for(&mut self, loaded: Option<Arc<LoadedEndpoint>>, now: Timestamp) -> Result<Course, ReadError> {
        let healths = &self.engine.healths;
        let Some(loaded) = loaded else {
            if !self.is_deleted {
                // Everything is ended now, whenever it would have been due.
                self.is_deleted = true;
                self.windows.forget();
            }
            let asking = self.engine.parts.config.endpoint_in_flight_max.max(1);
            return Ok(Course::Send(Allowed { asking, is_proven: true, is_failing: false }));
        };
        let endpoint = &loaded.endpoint;
        self.is_deleted = false;
        match endpoint.status {
            EndpointStatus::Enabled => {}
            EndpointStatus::Paused | EndpointStatus::Disabled => return Ok(Course::Nothing),
        }
        if let Gate::Closed { until } = healths.gate(endpoint, now)? {
            return Ok(Course::NotBefore(until));
        }
        let asking = healths.pace(endpoint, now).max(1);
        let is_proven = endpoint.proven_at.is_some();
        let is_failing = healths.is_failing(endpoint, now);
        self.wait_max = self.wait_max_for(endpoint);
        Ok(Course::Send(Allowed { asking, is_proven, is_failing }))
    }

    /// No retry to an endpoint is due later than this.
    fn wait_max_for(&self, endpoint: &Endpoint) -> Duration {
        let tuning = self.engine.healths.tuning();
        let (usual, own) = (&tuning.schedule, &endpoint.overrides);
        let schedule_s = own.schedule_s.as_ref().unwrap_or(&usual.own_waits_s);
        let longest_s = schedule_s.iter().copied().max().unwrap_or(0);
        wait_max_of(longest_s.max(own.max_backoff_s.unwrap_or(usual.max_backoff_s)))
    }

    /// The endpoint can't be read: nothing can be sent for a while, and each time for longer.
    fn rest(&mut self, error: &ReadError, now: Timestamp) -> Timestamp {
        if let Some((until, _)) = self.trouble.filter(|(until, _)| *until > now) {
            return until;
        }
        if let Some(merchant_id) = self.windows.merchant_id() {
            self.engine.unreadable.report(&keys::endpoint(merchant_id, &self.endpoint_id), error);
        }
        let wait = longer_hold(self.trouble.map(|(_, wait)| wait));
        let until = now.plus(wait);
        self.trouble = Some((until, wait));
        until
    }

    /// Starts what is ready, as far as there is room.
    fn start_ready(&mut self, now: Timestamp, allowed: Allowed) {
        let mut room = Room::ALL;
        while let Some(lane) = self.picker.choose(&self.windows.heads(now), room) {
            let mut reservation = Reservation::NotNeeded;
            let directory = &self.engine.directory;
            let taken = self.windows.take_first(lane, |due| {
                reservation = directory.reserve(&self.endpoint_id, &due.notification_id, lane.kind(), allowed);
                matches!(reservation, Reservation::NotNeeded | Reservation::Granted(..))
            });
            match (reservation, taken) {
                (Reservation::Granted(standing, place), Some(due)) => {
                    self.picker.picked();
                    send::start(&self.engine, Arc::clone(&self.reader), due, (standing, place));
                }
                (Reservation::NotNeeded, Some(_)) => {}
                (Reservation::NoRoomForRetry, _) => room.for_again = false,
                (Reservation::NoRoomForFirstTry, _) => room.for_first = false,
                (Reservation::NoRoom | Reservation::NotNeeded | Reservation::Granted(..), _) => return,
            }
        }
    }
}

/// What no wait is longer than, when the longest of the schedule is this.
fn wait_max_of(longest_s: u64) -> Duration {
    Duration::from_secs(longest_s.saturating_mul(2)).saturating_add(CLOCK_STEP_MIN)
}
