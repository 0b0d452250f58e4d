//! What lies beside a merchant's mailbox: the way to its actor, what must survive the actor, and what is answered
//! without it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, MutexGuard};
use ractor::ActorRef;
use tokio::sync::{Notify, OnceCell};

use crate::actors::merchant::{LimitObserver, MerchantMessage};
use crate::domain::ids::MerchantId;
use crate::domain::limit::{Leases, LimitFigures, LimitView, Policy, Refusal, RefusedBy, UnseenSpan};
use crate::domain::time::{Monotonic, Timestamp};

/// Set in the count of holders while the merchant is being put away; nobody can begin to hold it then.
const CLOSED: usize = 1 << (usize::BITS - 1);
/// Requests in flight that a merchant has room for from the start; most never have more.
const LEASES_EXPECTED: u32 = 8;

/// A refusal that goes on by itself: nothing is consumed by refusals, so until its end every request is refused.
#[derive(Clone, Copy, Debug)]
pub(in crate::actors) struct Blocked {
    /// What was decided.
    pub refusal: Refusal,
    /// When.
    pub decided_at: Monotonic,
    /// The revision of the figures it was decided by.
    pub revision: u64,
}

/// Leases and claims that are out.
pub(in crate::actors) struct Held {
    pub leases: Leases,
    pub claims: HashSet<u128>,
}

/// The figures of a merchant.
struct Figures {
    in_force: LimitFigures,
    revision: u64,
    /// The highest of those that were replaced since the last snapshot.
    former: Option<LimitFigures>,
}

/// One active merchant.
pub(in crate::actors) struct Slot {
    merchant_id: MerchantId,
    actor: ArcSwapOption<ActorRef<MerchantMessage>>,
    /// Done once the actor was started for the first time.
    pub started: OnceCell<()>,
    /// Senders, permits and claims that are out, and [`CLOSED`].
    holders: AtomicUsize,
    /// Messages that wait for the actor.
    pub queued: AtomicUsize,
    held: Mutex<Held>,
    figures: Mutex<Figures>,
    /// End of the refusal below in microseconds; 0 for none. Looked at before the lock is taken.
    blocked_until_us: AtomicU64,
    blocked: Mutex<Option<Blocked>>,
    /// Requests refused without the actor that it has not counted yet, in the order of [`Policy::ALL`].
    refused: [AtomicU64; Policy::ALL.len()],
    /// How much of the limit that is used most was used at the last decision, in thousandths. Only less can be since.
    most_used: AtomicU32,
    observer: Arc<dyn LimitObserver>,
    /// Changes of what is stored, counted, and how many of them are in a snapshot that was taken over.
    changes: AtomicU64,
    changes_saved: AtomicU64,
    /// Whether the actor has been asked for a snapshot and has not answered.
    pub save_asked: AtomicBool,
    /// Every admission before this is in a snapshot, by the limits' own time; `None` before the first start. Never goes back.
    complete_at: Mutex<Option<Timestamp>>,
    last_used_us: AtomicU64,
    gone: AtomicBool,
    /// Told when the merchant has been put away or stays after all.
    pub reopened: Notify,
}

impl Slot {
    pub fn new(
        merchant_id: MerchantId,
        figures: LimitFigures,
        revision: u64,
        lease: Duration,
        observer: Arc<dyn LimitObserver>,
    ) -> Self {
        let leases = Leases::new(figures.concurrent.min(LEASES_EXPECTED), lease);
        Self {
            merchant_id,
            actor: ArcSwapOption::empty(),
            started: OnceCell::new(),
            holders: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            held: Mutex::new(Held { leases, claims: HashSet::new() }),
            figures: Mutex::new(Figures { in_force: figures, revision, former: None }),
            blocked_until_us: AtomicU64::new(0),
            blocked: Mutex::new(None),
            refused: Default::default(),
            most_used: AtomicU32::new(0),
            observer,
            changes: AtomicU64::new(0),
            changes_saved: AtomicU64::new(0),
            save_asked: AtomicBool::new(false),
            complete_at: Mutex::new(None),
            last_used_us: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            reopened: Notify::new(),
        }
    }

    pub fn merchant_id(&self) -> &MerchantId {
        &self.merchant_id
    }

    /// Makes a (new) actor known to senders.
    pub fn publish(&self, actor: ActorRef<MerchantMessage>) {
        self.actor.store(Some(Arc::new(actor)));
    }

    /// Sends to the actor. The message comes back to be dropped when there is none that takes it.
    pub fn send(&self, message: MerchantMessage) -> Result<(), Unreachable> {
        let actor = self.actor.load();
        let actor = actor.as_ref().ok_or(Unreachable)?;
        actor.send_message(message).map_err(|_| Unreachable)
    }

    /// Begins to hold the merchant in memory; `false` when it is being put away.
    pub fn hold(&self) -> bool {
        let more = |holders: usize| (holders & CLOSED == 0).then_some(holders + 1);
        self.holders.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    pub fn let_go(&self) {
        self.holders.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether nobody holds it.
    pub fn is_free(&self) -> bool {
        self.holders.load(Ordering::Acquire) == 0
    }

    /// Keeps everybody out, if nobody holds it.
    pub fn close(&self) -> bool {
        self.holders.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Lets senders in again after [`Slot::close`].
    pub fn reopen(&self) {
        self.holders.fetch_and(!CLOSED, Ordering::AcqRel);
        self.reopened.notify_waiters();
    }

    pub fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }

    pub fn figures(&self) -> (LimitFigures, u64) {
        let figures = self.figures.lock();
        (figures.in_force, figures.revision)
    }

    pub fn set_figures(&self, in_force: LimitFigures, revision: u64) {
        let mut figures = self.figures.lock();
        if figures.in_force != in_force {
            let replaced = figures.in_force;
            figures.former = Some(figures.former.map_or(replaced, |former| former.highest(&replaced)));
        }
        (figures.in_force, figures.revision) = (in_force, revision);
    }

    /// Takes permits back whose time is over, at most `max`, and says so. Answers how many.
    pub fn reap(&self, now: Monotonic, max: u64) -> u64 {
        let expired = self.held().leases.expire_some(now, max);
        self.note_expired(expired);
        expired
    }

    /// Publishes a refusal that holds until its end.
    pub fn block(&self, blocked: Blocked) {
        let until = blocked.decided_at.plus(blocked.refusal.blocked_for());
        let mut published = self.blocked.lock();
        *published = Some(blocked);
        self.blocked_until_us.store(until.micros(), Ordering::Release);
    }

    /// Takes the published refusal back.
    pub fn unblock(&self) {
        let mut published = self.blocked.lock();
        *published = None;
        self.blocked_until_us.store(0, Ordering::Release);
    }

    /// The refusal that a request of cost 1 with these figures meets now, decided without the actor and counted for it.
    pub fn refusal_now(&self, figures: &LimitFigures, revision: Option<u64>, now: Monotonic) -> Option<Refusal> {
        if now.micros() >= self.blocked_until_us.load(Ordering::Acquire) {
            return None;
        }
        let blocked = (*self.blocked.lock())?;
        let by_others = blocked.refusal.view.figures() != *figures;
        if revision.map_or(by_others, |revision| revision > blocked.revision) {
            return None;
        }
        let (busy, expired) = {
            let mut held = self.held();
            let before = held.leases.expired_total();
            held.leases.expire(now);
            (held.leases.in_use() >= blocked.refusal.view.concurrency.limit, held.leases.expired_total() - before)
        };
        self.note_expired(expired);
        let refusal = blocked.refusal.after(now.since(blocked.decided_at), busy)?;
        self.refused[refusal.limit() as usize].fetch_add(1, Ordering::Relaxed);
        self.observer.refused(refusal.limit());
        self.changes.fetch_add(1, Ordering::AcqRel);
        Some(refusal)
    }

    /// Requests refused without the actor since this was last asked.
    pub fn take_refused(&self) -> RefusedBy {
        let mut taken = RefusedBy::default();
        for (policy, refused) in Policy::ALL.into_iter().zip(&self.refused) {
            if refused.load(Ordering::Relaxed) > 0 {
                taken.add(policy, refused.swap(0, Ordering::Relaxed));
            }
        }
        taken
    }

    /// Says that leases ended by their time: requests that ran too long, or permits that got lost.
    pub fn note_expired(&self, leases: u64) {
        if leases > 0 {
            self.observer.leases_expired(leases);
            tracing::warn!(merchant_id = %self.merchant_id, leases, "permits were taken back because their time was over");
        }
    }

    /// Notes how the limits stand after a decision, so that the directory finds the fullest without asking everybody.
    pub fn note_use(&self, view: &LimitView) {
        self.most_used.store(view.most_used().1, Ordering::Relaxed);
    }

    /// What [`Slot::note_use`] noted last, in thousandths of a limit.
    pub fn most_used(&self) -> u32 {
        self.most_used.load(Ordering::Relaxed)
    }

    pub fn observer(&self) -> &dyn LimitObserver {
        &*self.observer
    }

    /// Notes that an actor starts `at` of the limits' own time with what the snapshots know. Answers the span in which an
    /// earlier actor of this slot admitted what no snapshot knows, if it did.
    pub fn begin(&self, at: Timestamp) -> Option<UnseenSpan> {
        self.unblock();
        self.save_asked.store(false, Ordering::Release);
        let mut complete_at = self.complete_at.lock();
        if !self.is_unsaved() {
            *complete_at = (*complete_at).max(Some(at));
            return None;
        }
        // The millisecond that has begun belongs to it.
        let until = at.plus(Duration::from_millis(1));
        complete_at.map(|since| UnseenSpan { since, until, former: self.figures.lock().former })
    }

    /// Notes that the actor has something that no snapshot has. When it had nothing of the kind before, everything that was
    /// decided before `complete_at` is in one.
    pub fn changed(&self, complete_at: impl FnOnce() -> Timestamp) {
        let changes = self.changes.fetch_add(1, Ordering::AcqRel);
        if changes == self.changes_saved.load(Ordering::Acquire) {
            let mut known = self.complete_at.lock();
            *known = (*known).max(Some(complete_at()));
        }
    }

    /// Whether the actor has anything that no snapshot has.
    pub fn is_unsaved(&self) -> bool {
        self.changes.load(Ordering::Acquire) != self.changes_saved.load(Ordering::Acquire)
    }

    /// Changes up to now, for [`Slot::saved`].
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Notes that a snapshot made `at` of the limits' own time was taken over, which has the first `changes`.
    pub fn saved(&self, changes: u64, at: Timestamp) {
        let mut complete_at = self.complete_at.lock();
        *complete_at = (*complete_at).max(Some(at));
        self.changes_saved.store(changes, Ordering::Release);
        self.figures.lock().former = None;
    }

    /// Since when there may be admissions that no snapshot has; `None` when there are none from before `before`, at which
    /// every decision that had been made was noted here.
    pub fn incomplete_since(&self, before: Timestamp) -> Option<Timestamp> {
        let mut complete_at = self.complete_at.lock();
        if self.is_unsaved() {
            return *complete_at;
        }
        if let Some(known) = &mut *complete_at {
            *known = before.max(*known);
        }
        None
    }

    /// Notes that the merchant has been put away for good; a successor may come.
    pub fn gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.reopened.notify_waiters();
    }

    /// Whether somebody is putting it away at the moment.
    pub fn is_leaving(&self) -> bool {
        self.holders.load(Ordering::Acquire) & CLOSED != 0 && !self.gone.load(Ordering::Acquire)
    }

    pub fn used(&self, now: Monotonic) {
        self.last_used_us.store(now.micros(), Ordering::Relaxed);
    }

    pub fn last_used(&self) -> Monotonic {
        Monotonic::from_micros(self.last_used_us.load(Ordering::Relaxed))
    }
}

/// There is no actor that takes messages at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::actors) struct Unreachable;
