//! Which pre-auths are being worked on: starts an actor when there is something for it, finds it, and puts it away when it
//! is idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ractor::{ActorRef, ActorRuntime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::actors::pre_auth::actor::{Mail, PreAuthActor};
use crate::actors::pre_auth::housekeeping;
use crate::actors::pre_auth::slot::{ActorMessage, Slot};
use crate::actors::pre_auth::{PreAuthId, PreAuthMessage, PreAuthWorks};
use crate::clock::Clock;

/// How often a sender that meets a pre-auth being put away looks again.
const FIND_TRIES_MAX: usize = 16;
/// How often it is looked whether everything has ended.
const STOPPING_PAUSE: Duration = Duration::from_millis(10);

/// Bounds of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreAuthDirectorySettings {
    /// Pre-auths in memory at once.
    pub active_max: usize,
    /// A pre-auth is put away after being idle this long.
    pub idle: Duration,
    /// Messages and clients that may wait for one of them.
    pub mailbox_max: usize,
    /// Messages and clients that may wait for all of them.
    pub mailboxes_total_max: usize,
    /// Refunds of one pre-auth at most.
    pub refunds_max: usize,
}

/// A message was not taken; nothing of it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing is taken any more.
    #[error("the gateway is stopping")]
    Stopping,
    /// There is no room for one more.
    #[error("too many pre-auths are being worked on at the moment")]
    Full,
    /// There is no room in its mailbox.
    #[error("too many requests about this pre-auth are waiting")]
    Busy,
}

/// The pre-auths that are worked on. Cheap to clone; clones are the same directory.
#[derive(Clone)]
pub struct PreAuthDirectory {
    shared: Arc<Shared>,
    /// Ends with the last clone.
    _housekeeper: Arc<Housekeeper>,
}

/// What all actors share.
pub(super) struct Shared {
    pub works: Arc<dyn PreAuthWorks>,
    pub settings: PreAuthDirectorySettings,
    pub slots: DashMap<PreAuthId, Arc<Slot>>,
    pub clock: Clock,
    /// Told when there is no room for one more.
    pub pressure: Notify,
    active: AtomicUsize,
    waiting_total: Arc<AtomicUsize>,
    stopping: AtomicBool,
}

struct Housekeeper(JoinHandle<()>);

impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PreAuthDirectory {
    /// An empty directory. Must be called within a runtime: it starts the task that puts idle pre-auths away.
    pub fn start(works: Arc<dyn PreAuthWorks>, clock: Clock, settings: PreAuthDirectorySettings) -> Self {
        let shared = Arc::new(Shared {
            works,
            settings,
            slots: DashMap::new(),
            clock,
            pressure: Notify::new(),
            active: AtomicUsize::new(0),
            waiting_total: Arc::new(AtomicUsize::new(0)),
            stopping: AtomicBool::new(false),
        });
        let housekeeper = tokio::spawn(housekeeping::run(Arc::downgrade(&shared)));
        Self { shared, _housekeeper: Arc::new(Housekeeper(housekeeper)) }
    }

    /// Has a message seen to. Must be called within a runtime; never waits.
    ///
    /// # Errors
    /// [`Refused`]; whoever waits for the message is dropped with it.
    pub fn send(&self, id: &PreAuthId, message: PreAuthMessage) -> Result<(), Refused> {
        let shared = &self.shared;
        if shared.is_stopping() {
            return Err(Refused::Stopping);
        }
        let mut message = ActorMessage::Outer(message);
        for _ in 0..FIND_TRIES_MAX {
            let slot = shared.find_or_insert(id)?;
            let settings = &shared.settings;
            let is_full = shared.waiting_total.load(Ordering::Acquire) >= settings.mailboxes_total_max;
            if is_full || slot.waiting() >= settings.mailbox_max {
                return Err(Refused::Busy);
            }
            slot.used(shared.clock.monotonic());
            match shared.post(&slot, message, Some(&shared.waiting_total)) {
                Ok(()) => return Ok(()),
                Err(unsent) => message = unsent,
            }
            shared.forget(&slot);
        }
        Err(Refused::Busy)
    }

    /// Pre-auths in memory.
    pub fn active(&self) -> usize {
        self.shared.active.load(Ordering::Relaxed)
    }

    /// Messages and clients that wait, over all pre-auths.
    pub fn waiting(&self) -> usize {
        self.shared.waiting_total.load(Ordering::Relaxed)
    }

    /// Stops: nothing is taken and no channel is asked any more, and what was asked is waited for, for at most `drain`.
    /// Answers how many pre-auths were left with something open; the next process asks about it.
    pub async fn stop(&self, drain: Duration) -> usize {
        let shared = &self.shared;
        shared.stopping.store(true, Ordering::Release);
        let ending = async {
            while shared.open() > 0 {
                tokio::time::sleep(STOPPING_PAUSE).await;
            }
        };
        let _ = tokio::time::timeout(drain, ending).await;
        let left = shared.open();
        for slot in shared.slots_that(|_| true, usize::MAX) {
            slot.kill();
            shared.forget(&slot);
        }
        left
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Shared {
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Sends to the actor of a slot, which is started if there is none.
    pub fn post(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        message: ActorMessage,
        total: Option<&Arc<AtomicUsize>>,
    ) -> Result<(), ActorMessage> {
        slot.send(message, total, |number| self.start_actor(slot, number))
    }

    fn start_actor(self: &Arc<Self>, slot: &Arc<Slot>, number: u64) -> Option<ActorRef<Mail>> {
        let arguments = (Arc::clone(self), Arc::clone(slot), number);
        match ActorRuntime::spawn_instant(None, PreAuthActor, arguments) {
            Ok((actor, _task)) => Some(actor),
            Err(error) => {
                tracing::error!(pre_auth_no = %slot.id.pre_auth_no, %error, "a pre-auth's actor could not be started");
                None
            }
        }
    }

    /// Takes a slot out that can't be used any more, once.
    pub fn forget(&self, slot: &Arc<Slot>) {
        if self.slots.remove_if(&slot.id, |_, known| Arc::ptr_eq(known, slot)).is_some() {
            self.active.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Slots that fit, without holding the map for longer than it takes to look.
    pub fn slots_that(&self, fits: impl Fn(&Slot) -> bool, max: usize) -> Vec<Arc<Slot>> {
        let fitting = self.slots.iter().filter(|entry| fits(entry.value()));
        fitting.take(max).map(|entry| Arc::clone(entry.value())).collect()
    }

    fn open(&self) -> usize {
        self.slots_that(|slot| slot.waiting() > 0 || slot.has_calls(), usize::MAX).len()
    }

    fn find_or_insert(&self, id: &PreAuthId) -> Result<Arc<Slot>, Refused> {
        if let Some(slot) = self.slots.get(id) {
            return Ok(Arc::clone(&slot));
        }
        match self.slots.entry(id.clone()) {
            Entry::Occupied(slot) => Ok(Arc::clone(slot.get())),
            Entry::Vacant(vacant) => {
                let one_more = |active: usize| (active < self.settings.active_max).then_some(active + 1);
                if self.active.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_err() {
                    self.pressure.notify_one();
                    return Err(Refused::Full);
                }
                Ok(Arc::clone(&vacant.insert(Arc::new(Slot::new(id.clone())))))
            }
        }
    }
}
