//! Which merchants are active: starts a merchant's actor when it is needed, finds it, and puts it away when it is idle,
//! without losing what its windows hold.

mod fullest;
mod housekeeping;

pub use fullest::FullMerchant;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::actors::merchant::{
    AdmitMessage, Admitted, LimitObserver, LimiterSnapshots, MerchantMessage, MerchantUsage, NOT_NOTED, NoObserver,
    Refused, Slot, SlotGuard, Surroundings, Ticket, respawn,
};
use crate::actors::supervisor::{StartError, Supervisor};
use crate::clock::Clock;
use crate::domain::ids::MerchantId;
use crate::domain::limit::{DailyUsage, Leases, LimitFigures, Limiter, NearSettings};

/// How often, and after what time, a request looks again whether what is admitted would be charged for.
const NOTED_TRIES_MAX: usize = 25;
const NOTED_PAUSE: Duration = Duration::from_millis(10);
/// How often a sender that meets a merchant being put away looks again.
const FIND_TRIES_MAX: usize = 16;

const CLOSING: &str = "the gateway is stopping";
const FULL: &str = "too many merchants are active at the moment";
const BUSY: &str = "too many requests of this merchant are waiting";
const RESTARTING: &str = "the merchant's limits are being recovered";

/// Bounds of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectorySettings {
    /// A permit is taken back after this.
    pub lease: Duration,
    /// Merchants in memory at once.
    pub merchants_active_max: usize,
    /// A merchant is put away after being idle this long.
    pub idle: Duration,
    /// Requests that may wait for one merchant's actor.
    pub mailbox_max: usize,
    /// Requests that may wait for all of them.
    pub mailboxes_total_max: usize,
    /// Idempotency keys of one merchant being worked on at once.
    pub claims_max: usize,
    /// How often windows of changed merchants are handed over.
    pub snapshot_interval: Duration,
}

/// A request that asks to be let through.
#[derive(Clone, Debug)]
pub struct AdmitRequest {
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// The merchant's limits as the caller knows them.
    pub figures: LimitFigures,
    /// Grows with every change of the figures; the highest that was seen is in force. `None` when there is no order in
    /// which they change: the figures hold for this request, whatever others brought.
    pub revision: Option<u64>,
    /// Fingerprint of the idempotency key with its scope, when the request has one.
    pub idempotency: Option<u128>,
    /// How many requests it counts for, usually 1.
    pub cost: u32,
}

/// The active merchants. Cheap to clone; clones are the same directory.
#[derive(Clone)]
pub struct MerchantDirectory {
    inner: Arc<Inner>,
    /// Ends with the last clone.
    _housekeeper: Arc<Housekeeper>,
}

struct Inner {
    slots: DashMap<MerchantId, Arc<Slot>>,
    active: AtomicUsize,
    queued_total: Arc<AtomicUsize>,
    settings: DirectorySettings,
    surroundings: Arc<Surroundings>,
    supervisor: Supervisor,
    /// Told when there is no room for one more merchant.
    pressure: Notify,
    stopping: AtomicBool,
}

struct Housekeeper(JoinHandle<()>);

impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl MerchantDirectory {
    /// An empty directory whose actors run under `supervisor`. Must be called within a runtime: it starts the task that
    /// hands over snapshots and puts idle merchants away.
    pub fn start(
        settings: DirectorySettings,
        clock: Clock,
        snapshots: Arc<dyn LimiterSnapshots>,
        supervisor: Supervisor,
    ) -> Self {
        Self::start_observed(settings, clock, snapshots, supervisor, NearSettings::none(), Arc::new(NoObserver))
    }

    /// The same, and `observer` is told what the limits decide and, at the thresholds of `near`, who comes near them.
    pub fn start_observed(
        settings: DirectorySettings,
        clock: Clock,
        snapshots: Arc<dyn LimiterSnapshots>,
        supervisor: Supervisor,
        near: NearSettings,
        observer: Arc<dyn LimitObserver>,
    ) -> Self {
        let claims_max = settings.claims_max;
        let limit_time = snapshots.limit_time(&clock);
        let inner = Arc::new(Inner {
            slots: DashMap::new(),
            active: AtomicUsize::new(0),
            queued_total: Arc::new(AtomicUsize::new(0)),
            settings,
            surroundings: Arc::new(Surroundings {
                clock,
                limit_time,
                snapshots,
                claims_max,
                near: ArcSwap::from_pointee(near),
                observer,
                longest_wait_us: AtomicU64::new(0),
            }),
            supervisor,
            pressure: Notify::new(),
            stopping: AtomicBool::new(false),
        });
        let housekeeper = tokio::spawn(housekeeping::run(Arc::downgrade(&inner)));
        Self { inner, _housekeeper: Arc::new(Housekeeper(housekeeper)) }
    }

    /// Decides whether a request may go on.
    ///
    /// # Errors
    /// [`Refused`], with the figures for the answer where a limit refused.
    pub async fn admit(&self, request: AdmitRequest) -> Result<Admitted, Refused> {
        let inner = &self.inner;
        if inner.stopping.load(Ordering::Acquire) {
            return Err(Refused::Overloaded(CLOSING));
        }
        if !inner.surroundings.snapshots.is_noted() && !until_noted(&*inner.surroundings.snapshots).await {
            return Err(Refused::Overloaded(NOT_NOTED));
        }
        let guard = inner.enter(&request).await?;
        let now = inner.surroundings.clock.monotonic();
        guard.slot().used(now);
        // It was decided for one request: a dearer one waits longer, or never fits.
        if request.cost <= 1
            && let Some(refusal) = guard.slot().refusal_now(&request.figures, request.revision, now)
        {
            return Err(Refused::Limited(refusal));
        }
        let slot = guard.another();
        let settings = &inner.settings;
        let ticket = Ticket::take(guard, settings.mailbox_max, &inner.queued_total, settings.mailboxes_total_max)
            .ok_or(Refused::Overloaded(BUSY))?;
        let (reply, answer) = oneshot::channel();
        let AdmitRequest { figures, revision, idempotency, cost, .. } = request;
        let message = AdmitMessage { ticket, sent_at: now, figures, revision, idempotency, cost, reply };
        slot.slot().send(MerchantMessage::Admit(message)).map_err(|_| Refused::Overloaded(RESTARTING))?;
        // No timer is needed: the actor answers without waiting for anything, and when it fails the message is dropped
        // with it.
        answer.await.unwrap_or(Err(Refused::Overloaded(RESTARTING)))
    }

    /// Puts other limits in force for a merchant at once, if it is active. Its next request would bring them anyway.
    pub fn update_limits(&self, merchant_id: &MerchantId, figures: LimitFigures, revision: u64) {
        let Some(slot) = self.inner.find(merchant_id) else { return };
        let Some(guard) = SlotGuard::hold(&slot) else { return };
        slot.unblock();
        let _ = slot.send(MerchantMessage::UpdateLimits { figures, revision, _guard: guard });
    }

    /// Which thresholds there are.
    pub fn near(&self) -> NearSettings {
        **self.inner.surroundings.near.load()
    }

    /// Puts other thresholds in force for all merchants at once. What was told before stays told.
    pub fn change_near(&self, near: NearSettings) {
        self.inner.surroundings.near.store(Arc::new(near));
    }

    /// The limits of a merchant as they stand, without consuming anything or starting an actor. `figures` and `revision`
    /// are those of an [`AdmitRequest`]: they are in force from here on, unless later ones were seen.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] while the merchant's actor is being started again.
    pub async fn usage(
        &self,
        merchant_id: &MerchantId,
        figures: LimitFigures,
        revision: Option<u64>,
    ) -> Result<MerchantUsage, Refused> {
        let slot = self.inner.find(merchant_id);
        let held = slot.as_ref().and_then(|slot| SlotGuard::hold(slot).map(|guard| (slot, guard)));
        let Some((slot, guard)) = held else {
            return Ok(self.inner.usage_from_snapshot(merchant_id, figures));
        };
        let (reply, answer) = oneshot::channel();
        let sent = slot.send(MerchantMessage::View { figures: Some((figures, revision)), reply, _guard: guard });
        sent.map_err(|_| Refused::Overloaded(RESTARTING))?;
        answer.await.map_err(|_| Refused::Overloaded(RESTARTING))
    }

    /// Merchants in memory.
    pub fn active(&self) -> usize {
        self.inner.active.load(Ordering::Relaxed)
    }

    /// Requests that wait for an actor, over all merchants.
    pub fn queued(&self) -> usize {
        self.inner.queued_total.load(Ordering::Relaxed)
    }

    /// The longest that a request has waited for its merchant's actor since this was last asked.
    pub fn take_longest_wait(&self) -> Duration {
        Duration::from_micros(self.inner.surroundings.longest_wait_us.swap(0, Ordering::Relaxed))
    }

    /// Hands over the windows of every merchant with anything unsaved. Answers how many could not be handed over.
    pub async fn snapshot_all(&self) -> usize {
        self.inner.snapshot_all().await
    }

    /// Stops: no request is let through any more, what waits is decided, every window is handed over. The actors end
    /// with their supervisor. Answers how many merchants' windows could not be handed over.
    pub async fn stop(&self) -> usize {
        self.inner.stopping.store(true, Ordering::Release);
        self.inner.snapshot_all().await
    }
}

impl Inner {
    fn find(&self, merchant_id: &MerchantId) -> Option<Arc<Slot>> {
        self.slots.get(merchant_id).map(|slot| Arc::clone(&slot))
    }

    /// Holds the merchant's slot, with its actor started. Waits for a predecessor that is being put away.
    async fn enter(&self, request: &AdmitRequest) -> Result<SlotGuard, Refused> {
        for _ in 0..FIND_TRIES_MAX {
            let slot = self.find_or_insert(request)?;
            let Some(guard) = SlotGuard::hold(&slot) else {
                wait_until_put_away(&slot).await;
                continue;
            };
            if slot.started.initialized() {
                return Ok(guard);
            }
            // In a task of its own, which holds the slot: whoever asked first may go away half-way, and then an actor
            // would run that nobody watches over, beside the one that the next request starts.
            let (supervisor, surroundings) = (self.supervisor.clone(), Arc::clone(&self.surroundings));
            let holding = guard.another();
            let starting = tokio::spawn(async move {
                let _holding = holding;
                start_actor(&slot, &supervisor, &surroundings).await
            });
            return match starting.await {
                Ok(Ok(())) => Ok(guard),
                Ok(Err(error)) => {
                    tracing::error!(%error, "a merchant's actor could not be started");
                    Err(Refused::Overloaded(RESTARTING))
                }
                Err(error) => {
                    tracing::error!(%error, "the start of a merchant's actor broke off");
                    Err(Refused::Overloaded(RESTARTING))
                }
            };
        }
        Err(Refused::Overloaded(RESTARTING))
    }

    fn find_or_insert(&self, request: &AdmitRequest) -> Result<Arc<Slot>, Refused> {
        if let Some(slot) = self.find(&request.merchant_id) {
            return Ok(slot);
        }
        match self.slots.entry(request.merchant_id.clone()) {
            Entry::Occupied(slot) => Ok(Arc::clone(slot.get())),
            Entry::Vacant(vacant) => {
                let one_more = |active: usize| (active < self.settings.merchants_active_max).then_some(active + 1);
                if self.active.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_err() {
                    self.pressure.notify_one();
                    return Err(Refused::Overloaded(FULL));
                }
                let merchant_id = request.merchant_id.clone();
                let observer = Arc::clone(&self.surroundings.observer);
                let lease = self.settings.lease;
                let revision = request.revision.unwrap_or(0);
                let slot = Slot::new(merchant_id, request.figures, revision, lease, observer);
                self.surroundings.observer.merchant_came();
                Ok(Arc::clone(&vacant.insert(Arc::new(slot))))
            }
        }
    }

    fn usage_from_snapshot(&self, merchant_id: &MerchantId, figures: LimitFigures) -> MerchantUsage {
        let Surroundings { clock, limit_time, snapshots, .. } = &*self.surroundings;
        let (at, now, wall) = (limit_time.now(), clock.monotonic(), clock.now());
        let loaded = snapshots.load(merchant_id);
        let unseen = &loaded.unseen;
        let mut limiter = Limiter::restore(figures, loaded.snapshot.as_ref(), unseen, now, at);
        let days = loaded.snapshot.map_or_else(DailyUsage::default, |snapshot| DailyUsage::restore(&snapshot.days));
        let view = limiter.view(&mut Leases::new(0, self.settings.lease), now);
        let (today, days) = (days.today(wall), days.until(wall));
        MerchantUsage { view, today, days, leases_expired_total: 0, is_active: false }
    }
}

/// Waits for a moment, as when the process stood still and nobody had a turn. Whether a crash would be charged for then.
async fn until_noted(snapshots: &dyn LimiterSnapshots) -> bool {
    snapshots.ask_to_note();
    for _ in 0..NOTED_TRIES_MAX {
        tokio::time::sleep(NOTED_PAUSE).await;
        if snapshots.is_noted() {
            return true;
        }
    }
    false
}

/// Starts the actor, once however many ask.
async fn start_actor(
    slot: &Arc<Slot>,
    supervisor: &Supervisor,
    surroundings: &Arc<Surroundings>,
) -> Result<(), StartError> {
    let start = || supervisor.start_child(Arc::from("merchant"), respawn(slot, surroundings));
    slot.started.get_or_try_init(start).await.map(|_| ())
}

/// Ready when the merchant has been put away, or stays after all.
async fn wait_until_put_away(slot: &Slot) {
    let reopened = slot.reopened.notified();
    tokio::pin!(reopened);
    reopened.as_mut().enable();
    if slot.is_leaving() {
        reopened.await;
    }
}

#[cfg(test)]
mod tests;
