//! The actor of one merchant: decides in one message whether a request may go on.
//!
//! It owns the merchant's windows and daily counts. What must survive its failure lies beside it in the slot: the
//! leases of requests in flight and the claims of idempotency keys, taken by the actor alone and given back by whoever
//! held them, without a message.

mod guards;
mod limit_time;
mod observer;
mod slot;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

pub use guards::{IdempotencyClaim, Permit};
pub(super) use guards::{SlotGuard, Ticket};
pub use limit_time::LimitTime;
pub use observer::{LimitObserver, NearLimit, NoObserver};
pub(super) use slot::{Blocked, Slot};

use crate::actors::supervisor::{Respawn, Spawned};
use crate::clock::Clock;
use crate::domain::ids::MerchantId;
use crate::domain::limit::{
    DailyUsage, DayUsage, Decision, LimitFigures, LimitView, Limiter, LimiterSnapshot, NearLimits, NearSettings,
    Passed, Refusal, RefusedBy, UnseenSpan,
};
use crate::domain::time::{Monotonic, Timestamp};

pub(super) const NOT_NOTED: &str = "what is admitted could not be charged for after a crash at the moment";

/// Longer than an actor takes from reading the time for a request to noting that it has admitted something.
pub(super) const DECIDING_MAX: Duration = Duration::from_millis(100);

/// What is known about a merchant's windows from before.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The last snapshot that was saved, if any.
    pub snapshot: Option<LimiterSnapshot>,
    /// Times before this process in which the merchant may have been admitted without any snapshot knowing, after stops
    /// that were not clean.
    pub unseen: Vec<UnseenSpan>,
}

/// Where windows are kept while their merchant's actor is not in memory. Both calls are made from within an actor and
/// must be quick: a map in memory, written down by somebody else.
pub trait LimiterSnapshots: Send + Sync + 'static {
    /// What was last handed over, even if it is not on disk yet.
    fn load(&self, merchant_id: &MerchantId) -> Loaded;

    /// Takes a snapshot over. `false` when there is no room; the actor then stays in memory.
    fn save(&self, merchant_id: &MerchantId, snapshot: LimiterSnapshot) -> bool;

    /// Every admission before `until` is in a snapshot that was handed over. Told now and then.
    fn complete(&self, until: Timestamp);

    /// The time by which snapshots are made and loaded; asked for once by each directory. As it stands it begins with the time
    /// of day: snapshots that outlive their process, or are handed to a second directory, must go on with the time that
    /// they were made by.
    fn limit_time(&self, clock: &Clock) -> LimitTime {
        LimitTime::starting_at(clock, clock.now())
    }

    /// Whether a crash now would be charged for, so that requests may be admitted. While it is not, they are refused.
    fn is_noted(&self) -> bool {
        true
    }

    /// Asks for that to be so soon, since a request waits for it. It waits for a moment only.
    fn ask_to_note(&self) {}
}

/// A request was let through.
#[derive(Debug)]
pub struct Admitted {
    /// The right to be in flight; given back when dropped.
    pub permit: Permit,
    /// The claim on the idempotency key, when one was given; given back when dropped.
    pub claim: Option<IdempotencyClaim>,
    /// The limits after it.
    pub view: LimitView,
}

/// A request was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A limit refused it; nothing was consumed.
    #[error("a limit refused the request")]
    Limited(Refusal),
    /// The same idempotency key is being worked on. The request has counted.
    #[error("a request with the same idempotency key is being worked on")]
    IdempotencyInProgress(LimitView),
    /// It costs more than a window can ever hold.
    #[error("the request costs more than the limits can ever admit, which is {cost_max}")]
    CostTooLarge {
        /// The most that one request may cost.
        cost_max: u32,
    },
    /// It can't be decided now; never let through for that reason.
    #[error("{0}")]
    Overloaded(&'static str),
}

/// The limits of a merchant and what it used, for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MerchantUsage {
    /// The limits as they stand.
    pub view: LimitView,
    /// Today's requests.
    pub today: DayUsage,
    /// Requests by day, oldest first.
    pub days: Vec<DayUsage>,
    /// Requests in flight that ran longer than their lease since the actor's slot was made; each is a fault.
    pub leases_expired_total: u64,
    /// Whether the merchant is in memory.
    pub is_active: bool,
}

/// What every merchant's actor is given.
pub(super) struct Surroundings {
    pub clock: Clock,
    pub limit_time: LimitTime,
    pub snapshots: Arc<dyn LimiterSnapshots>,
    pub claims_max: usize,
    /// Changes while actors run; each looks when it is about to tell.
    pub near: ArcSwap<NearSettings>,
    pub observer: Arc<dyn LimitObserver>,
    /// The longest that a request has waited for its decision since somebody asked.
    pub longest_wait_us: AtomicU64,
}

impl Surroundings {
    /// Notes how long a request has waited. Most have not waited longer than another, and write nothing.
    fn waited(&self, waited: Duration) {
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        if waited_us > self.longest_wait_us.load(Ordering::Relaxed) {
            self.longest_wait_us.fetch_max(waited_us, Ordering::Relaxed);
        }
        self.observer.waited(waited);
    }
}

pub(super) struct AdmitMessage {
    pub ticket: Ticket,
    pub sent_at: Monotonic,
    pub figures: LimitFigures,
    pub revision: Option<u64>,
    pub idempotency: Option<u128>,
    pub cost: u32,
    pub reply: oneshot::Sender<Result<Admitted, Refused>>,
}

pub(super) enum MerchantMessage {
    /// Decide about a request.
    Admit(AdmitMessage),
    /// Other limits hold.
    UpdateLimits { figures: LimitFigures, revision: u64, _guard: SlotGuard },
    /// Tell the limits as they stand, by these figures if they are later ones.
    View { figures: Option<(LimitFigures, Option<u64>)>, reply: oneshot::Sender<MerchantUsage>, _guard: SlotGuard },
    /// Hand over a snapshot if anything has changed; tells whether nothing is unsaved any more.
    Save { reply: Option<oneshot::Sender<bool>>, _guard: SlotGuard },
    /// Hand over the state and end, if it is taken. Nobody holds the slot any more.
    PutAway { reply: oneshot::Sender<bool> },
    /// Fail, for tests of what happens then.
    #[cfg(test)]
    Fail,
}

/// Makes the closure that starts a merchant's actor, for the first time or again.
pub(super) fn respawn(slot: &Arc<Slot>, surroundings: &Arc<Surroundings>) -> Respawn {
    let (slot, surroundings) = (Arc::clone(slot), Arc::clone(surroundings));
    Arc::new(move |root: ActorCell| {
        let (slot, surroundings) = (Arc::clone(&slot), Arc::clone(&surroundings));
        Box::pin(async move {
            let arguments = (Arc::clone(&slot), surroundings);
            let (actor, _task) = Actor::spawn_linked(None, MerchantActor, arguments, root).await?;
            let cell = actor.get_cell();
            Ok(Spawned { cell, publish: Box::new(move || slot.publish(actor)) })
        })
    })
}

struct MerchantActor;

struct MerchantState {
    slot: Arc<Slot>,
    surroundings: Arc<Surroundings>,
    limiter: Limiter,
    days: DailyUsage,
    near: NearLimits,
    /// The settings that `near` was made by.
    near_settings: NearSettings,
    revision: u64,
}

impl Actor for MerchantActor {
    type Msg = MerchantMessage;
    type State = MerchantState;
    type Arguments = (Arc<Slot>, Arc<Surroundings>);

    async fn pre_start(
        &self,
        _myself: ActorRef<MerchantMessage>,
        (slot, surroundings): Self::Arguments,
    ) -> Result<MerchantState, ActorProcessingErr> {
        Ok(MerchantState::start(slot, surroundings))
    }

    async fn handle(
        &self,
        myself: ActorRef<MerchantMessage>,
        message: MerchantMessage,
        state: &mut MerchantState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MerchantMessage::Admit(message) => state.admit(message),
            MerchantMessage::UpdateLimits { figures, revision, .. } => state.put_in_force(figures, Some(revision)),
            MerchantMessage::View { figures, reply, .. } => {
                if let Some((figures, revision)) = figures {
                    state.put_in_force(figures, revision);
                }
                let _ = reply.send(state.usage());
            }
            MerchantMessage::Save { reply, .. } => {
                let saved = state.save();
                state.slot.save_asked.store(false, Ordering::Release);
                if let Some(reply) = reply {
                    let _ = reply.send(saved);
                }
            }
            MerchantMessage::PutAway { reply } => {
                let saved = state.save();
                if saved {
                    myself.stop(None);
                }
                let _ = reply.send(saved);
            }
            #[cfg(test)]
            MerchantMessage::Fail => panic!("told to fail"),
        }
        Ok(())
    }
}

impl MerchantState {
    /// Goes on from the last snapshot. An actor that takes the place of a failed one is charged for the time since that
    /// snapshot, in which the failed one may have admitted anything.
    fn start(slot: Arc<Slot>, surroundings: Arc<Surroundings>) -> Self {
        // In this order: when time passes between the two, less seems to have passed since the snapshot.
        let at = surroundings.limit_time.now();
        let now = surroundings.clock.monotonic();
        let loaded = surroundings.snapshots.load(slot.merchant_id());
        let lost = slot.begin(at);
        let unseen: Vec<UnseenSpan> = loaded.unseen.into_iter().chain(lost).collect();
        let (figures, revision) = slot.figures();
        let snapshot = loaded.snapshot.as_ref();
        let limiter = Limiter::restore(figures, snapshot, &unseen, now, at);
        let settings = **surroundings.near.load();
        let near = snapshot.map_or_else(NearLimits::default, |snapshot| {
            NearLimits::restore(&settings, &snapshot.near, at.since(snapshot.saved_at), now)
        });
        let is_unread = snapshot.is_some_and(|snapshot| !snapshot.is_known());
        let is_charged = is_unread || unseen.iter().any(|span| span.is_unknown_to(snapshot));
        let days = loaded.snapshot.map_or_else(DailyUsage::default, |snapshot| DailyUsage::restore(&snapshot.days));
        if !unseen.is_empty() {
            slot.changed(|| at);
        }
        let mut state = Self { slot, surroundings, limiter, days, near, near_settings: settings, revision };
        let view = state.view(now);
        if is_charged {
            // Its windows are fuller than they may have been, and that is no news.
            state.near.silence_all(&settings, &view, now);
        }
        state
    }

    fn admit(&mut self, message: AdmitMessage) {
        let AdmitMessage { ticket, sent_at, figures, revision, idempotency, cost, reply } = message;
        if reply.is_closed() {
            return;
        }
        self.put_in_force(figures, revision);
        let now = self.surroundings.clock.monotonic();
        self.surroundings.waited(now.since(sent_at));
        // Behind the reading of the time, so that nothing is admitted after it.
        let answer = match self.surroundings.snapshots.is_noted() {
            true => self.decide(&ticket, idempotency, cost, now),
            false => Err(Refused::Overloaded(NOT_NOTED)),
        };
        // Who asked may be gone; a permit that nobody takes is dropped here and so given back.
        let _ = reply.send(answer);
    }

    /// Takes figures over that are later than those in force, or that hold for one request.
    fn put_in_force(&mut self, figures: LimitFigures, revision: Option<u64>) {
        let is_other = figures != self.limiter.figures();
        let is_later = revision.map_or(is_other, |revision| revision > self.revision);
        if !is_later {
            return;
        }
        self.revision = revision.unwrap_or(self.revision);
        self.slot.set_figures(figures, self.revision);
        self.slot.unblock();
        if is_other {
            let now = self.surroundings.clock.monotonic();
            self.limiter.reconfigure(figures, now);
            self.view(now);
        }
    }

    /// The limits as they stand.
    fn view(&mut self, now: Monotonic) -> LimitView {
        let mut held = self.slot.held();
        let expired_before = held.leases.expired_total();
        let view = self.limiter.view(&mut held.leases, now);
        let expired = held.leases.expired_total() - expired_before;
        drop(held);
        self.slot.note_expired(expired);
        self.slot.note_use(&view);
        view
    }

    fn decide(
        &mut self,
        ticket: &Ticket,
        idempotency: Option<u128>,
        cost: u32,
        now: Monotonic,
    ) -> Result<Admitted, Refused> {
        let wall = self.surroundings.clock.now();
        self.count_refused(wall, RefusedBy::default());
        let mut held = self.slot.held();
        if idempotency.is_some() && held.claims.len() >= self.surroundings.claims_max {
            return Err(Refused::Overloaded("too many requests of this merchant are being worked on"));
        }
        let expired_before = held.leases.expired_total();
        let decision = self.limiter.decide(&mut held.leases, cost, now);
        let expired = held.leases.expired_total() - expired_before;
        match decision {
            Decision::Admitted { lease, mut view } => {
                let decided = view;
                let in_progress = idempotency.is_some_and(|fingerprint| !held.claims.insert(fingerprint));
                if in_progress {
                    held.leases.release(lease);
                    view.concurrency.used = held.leases.in_use();
                }
                drop(held);
                self.note_admitted(&decided, cost, now, wall);
                self.slot.note_expired(expired);
                if in_progress {
                    return Err(Refused::IdempotencyInProgress(view));
                }
                let claim = idempotency.map(|fingerprint| IdempotencyClaim::new(ticket.guard(), fingerprint));
                Ok(Admitted { permit: Permit::new(ticket.guard(), lease), claim, view })
            }
            Decision::Refused(refusal) => {
                drop(held);
                self.note_refused(&refusal, cost, now, wall);
                self.slot.note_expired(expired);
                if cost <= 1 && !refusal.blocked_for().is_zero() {
                    self.slot.block(Blocked { refusal, decided_at: now, revision: self.revision });
                }
                Err(Refused::Limited(refusal))
            }
            Decision::CostTooLarge { cost_max } => Err(Refused::CostTooLarge { cost_max }),
        }
    }

    fn note_admitted(&mut self, view: &LimitView, cost: u32, now: Monotonic, wall: Timestamp) {
        self.days.count(wall, 1, &RefusedBy::default(), view.concurrency.used);
        self.changed();
        self.slot.note_use(view);
        self.slot.observer().admitted();
        self.follow_near_settings();
        let tell = teller(&self.slot, wall);
        self.near.admitted(&self.near_settings, view, cost, now, tell);
    }

    fn note_refused(&mut self, refusal: &Refusal, cost: u32, now: Monotonic, wall: Timestamp) {
        self.count_refused(wall, RefusedBy::one(refusal.limit()));
        self.slot.note_use(&refusal.view);
        self.slot.observer().refused(refusal.limit());
        self.follow_near_settings();
        let tell = teller(&self.slot, wall);
        self.near.refused(&self.near_settings, refusal, cost, now, tell);
    }

    fn follow_near_settings(&mut self) {
        let settings = **self.surroundings.near.load();
        if settings != self.near_settings {
            self.near.go_on(&self.near_settings, &settings);
            self.near_settings = settings;
        }
    }

    /// Counts refused requests, and those that were refused beside the mailbox since the last time.
    fn count_refused(&mut self, wall: Timestamp, refused: RefusedBy) {
        let beside = self.slot.take_refused();
        for counted in [beside, refused] {
            if counted.total() > 0 {
                self.days.count(wall, 0, &counted, 0);
                self.changed();
            }
        }
    }

    fn changed(&mut self) {
        self.slot.changed(|| self.surroundings.limit_time.now().minus(DECIDING_MAX));
    }

    fn usage(&mut self) -> MerchantUsage {
        let (now, wall) = (self.surroundings.clock.monotonic(), self.surroundings.clock.now());
        self.count_refused(wall, RefusedBy::default());
        let view = self.view(now);
        let leases_expired_total = self.slot.held().leases.expired_total();
        let (today, days) = (self.days.today(wall), self.days.until(wall));
        MerchantUsage { view, today, days, leases_expired_total, is_active: true }
    }

    /// Hands over a snapshot if anything has changed. `true` when nothing is unsaved afterwards.
    fn save(&mut self) -> bool {
        let Surroundings { clock, limit_time, .. } = &*self.surroundings;
        let (now, at, wall) = (clock.monotonic(), limit_time.now(), clock.now());
        self.count_refused(wall, RefusedBy::default());
        // Read before the snapshot is made, so that a refusal beside the mailbox meanwhile is not taken for saved.
        let changes = self.slot.changes();
        if !self.slot.is_unsaved() {
            return true;
        }
        let mut snapshot = self.limiter.save(&self.days, now, at);
        snapshot.near = self.near.save(&self.near_settings, now);
        if !self.surroundings.snapshots.save(self.slot.merchant_id(), snapshot) {
            return false;
        }
        self.slot.saved(changes, at);
        true
    }
}

/// Tells the observer which thresholds the merchant of `slot` passed.
fn teller(slot: &Slot, wall: Timestamp) -> impl FnMut(Passed) + '_ {
    move |passed| slot.observer().near(NearLimit { merchant_id: slot.merchant_id().clone(), passed, at: wall })
}
