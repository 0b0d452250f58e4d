//! What lies beside a pre-auth's mailbox: the way to its actor, and what its channel is being asked, which has to outlive an
//! actor that fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use ractor::ActorRef;

use crate::actors::pre_auth::actor::{Asked, Mail};
use crate::actors::pre_auth::{Answered, PreAuthId, PreAuthMessage};
use crate::domain::ids::RefundNo;
use crate::domain::time::Monotonic;
use crate::telemetry::trace;

/// What an actor is told.
pub(super) enum ActorMessage {
    /// By others.
    Outer(PreAuthMessage),
    /// A call has ended; without an answer when it broke off.
    Answered {
        /// The call.
        call: Call,
        /// What was asked for.
        asked: Asked,
        /// What was answered.
        answered: Option<Box<Answered>>,
    },
    /// To store what could not be stored.
    Retry,
    /// To end, if there is nothing to do.
    Leave,
    /// To fail, for tests of what happens then.
    #[cfg(test)]
    Fail,
}

/// The way to an actor.
enum Way {
    /// There is none: it is started with the next message.
    None,
    /// This one, by its number.
    To(u64, ActorRef<Mail>),
    /// The pre-auth was put away; it may have another slot.
    Gone,
}

/// One pre-auth that is worked on.
pub(super) struct Slot {
    pub id: PreAuthId,
    way: Mutex<Way>,
    /// Messages that wait for the actor, and clients who wait with it.
    inbox: AtomicUsize,
    /// What the channel is being asked: about the hold, and about refunds.
    calls: Mutex<Calls>,
    actors: AtomicU64,
    last_used_us: AtomicU64,
}

#[derive(Default)]
struct Calls {
    hold: bool,
    refunds: HashSet<RefundNo>,
}

impl Slot {
    pub fn new(id: PreAuthId) -> Self {
        Self {
            id,
            way: Mutex::new(Way::None),
            inbox: AtomicUsize::new(0),
            calls: Mutex::default(),
            actors: AtomicU64::new(0),
            last_used_us: AtomicU64::new(0),
        }
    }

    /// Sends to the actor, which `start` starts with its number if there is none. The message comes back when the slot is
    /// gone, or no actor can be started.
    pub fn send(
        self: &Arc<Self>,
        message: ActorMessage,
        total: Option<&Arc<AtomicUsize>>,
        start: impl FnOnce(u64) -> Option<ActorRef<Mail>>,
    ) -> Result<(), ActorMessage> {
        let mut way = self.way.lock();
        let mut mail = Mail { message, counted: Counted::one(self, total), here: trace::here() };
        match &*way {
            Way::Gone => return Err(mail.message),
            Way::To(_, actor) => match actor.send_message(mail) {
                Ok(()) => return Ok(()),
                // It has ended by failing, and nobody has noticed yet.
                Err(ractor::MessagingErr::SendErr(unsent)) => mail = unsent,
                Err(_) => return Ok(()),
            },
            Way::None => {}
        }
        let number = self.actors.fetch_add(1, Ordering::Relaxed);
        let Some(actor) = start(number) else { return Err(mail.message) };
        let sent = actor.send_message(mail);
        *way = Way::To(number, actor);
        match sent {
            Err(ractor::MessagingErr::SendErr(unsent)) => Err(unsent.message),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Notes that the actor with this number has ended by itself. Another may have taken its place.
    pub fn lost(&self, number: u64) {
        let mut way = self.way.lock();
        if matches!(&*way, Way::To(known, _) if *known == number) {
            *way = Way::None;
        }
    }

    /// Keeps everybody out, if nothing waits but `known` messages and nothing is being asked.
    pub fn close(&self, known: usize) -> bool {
        let mut way = self.way.lock();
        let is_free = self.inbox.load(Ordering::Acquire) <= known && !self.has_calls();
        if is_free {
            *way = Way::Gone;
        }
        is_free
    }

    /// Ends the actor, whatever it does.
    pub fn kill(&self) {
        if let Way::To(_, actor) = std::mem::replace(&mut *self.way.lock(), Way::Gone) {
            actor.stop(None);
        }
    }

    pub fn has_actor(&self) -> bool {
        matches!(&*self.way.lock(), Way::To(..))
    }

    /// Messages and clients that wait.
    pub fn waiting(&self) -> usize {
        self.inbox.load(Ordering::Acquire)
    }

    /// Whether the channel is being asked anything, or what it answered is not stored yet.
    pub fn has_calls(&self) -> bool {
        let calls = self.calls.lock();
        calls.hold || !calls.refunds.is_empty()
    }

    /// Whether it is being asked about the hold.
    pub fn has_hold_call(&self) -> bool {
        self.calls.lock().hold
    }

    /// Whether it is being asked about a refund.
    pub fn has_refund_call(&self, refund_no: &RefundNo) -> bool {
        self.calls.lock().refunds.contains(refund_no)
    }

    /// Begins to ask about the hold, or about a refund; `None` while that is being done.
    pub fn call(self: &Arc<Self>, refund_no: Option<&RefundNo>) -> Option<Call> {
        let mut calls = self.calls.lock();
        let begins = match refund_no {
            Some(refund_no) => calls.refunds.insert(refund_no.clone()),
            None => !std::mem::replace(&mut calls.hold, true),
        };
        begins.then(|| Call { slot: Arc::clone(self), refund_no: refund_no.cloned() })
    }

    pub fn used(&self, now: Monotonic) {
        self.last_used_us.store(now.micros(), Ordering::Relaxed);
    }

    pub fn last_used(&self) -> Monotonic {
        Monotonic::from_micros(self.last_used_us.load(Ordering::Relaxed))
    }
}

/// A question to the channel, from its beginning until what was answered is stored.
pub(super) struct Call {
    slot: Arc<Slot>,
    pub refund_no: Option<RefundNo>,
}

impl Call {
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut calls = self.slot.calls.lock();
        match &self.refund_no {
            Some(refund_no) => {
                calls.refunds.remove(refund_no);
            }
            None => calls.hold = false,
        }
    }
}

/// A place in a mailbox, and for messages of others in the sum of all of them.
pub(super) struct Counted {
    slot: Arc<Slot>,
    total: Option<Arc<AtomicUsize>>,
}

impl Counted {
    pub fn one(slot: &Arc<Slot>, total: Option<&Arc<AtomicUsize>>) -> Self {
        slot.inbox.fetch_add(1, Ordering::AcqRel);
        if let Some(total) = total {
            total.fetch_add(1, Ordering::AcqRel);
        }
        Self { slot: Arc::clone(slot), total: total.cloned() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.slot.inbox.fetch_sub(1, Ordering::AcqRel);
        if let Some(total) = &self.total {
            total.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
