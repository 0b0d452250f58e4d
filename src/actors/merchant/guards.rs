//! Rights that end by being dropped, whatever happens to who holds them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::actors::merchant::slot::Slot;
use crate::domain::limit::LeaseId;

/// Keeps a merchant's slot from being put away.
pub(in crate::actors) struct SlotGuard(Arc<Slot>);

impl SlotGuard {
    /// Holds the slot; `None` when it is being put away.
    pub fn hold(slot: &Arc<Slot>) -> Option<Self> {
        slot.hold().then(|| Self(Arc::clone(slot)))
    }

    /// One more guard of the same slot, which can't be put away while this one stands.
    pub fn another(&self) -> Self {
        // Never refused: the slot is held by `self`.
        self.0.hold();
        Self(Arc::clone(&self.0))
    }

    pub fn slot(&self) -> &Slot {
        &self.0
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// A place in a merchant's mailbox and in the sum of all mailboxes; goes with the message and ends with it.
pub(in crate::actors) struct Ticket {
    guard: SlotGuard,
    total: Arc<AtomicUsize>,
}

impl Ticket {
    /// Takes both places; `None` when either is taken up.
    pub fn take(guard: SlotGuard, queued_max: usize, total: &Arc<AtomicUsize>, total_max: usize) -> Option<Self> {
        if !take_place(&guard.slot().queued, queued_max) {
            return None;
        }
        if !take_place(total, total_max) {
            guard.slot().queued.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Self { guard, total: Arc::clone(total) })
    }

    /// A guard of the slot that outlives the ticket.
    pub fn guard(&self) -> SlotGuard {
        self.guard.another()
    }
}

fn take_place(taken: &AtomicUsize, max: usize) -> bool {
    let more = |taken: usize| (taken < max).then_some(taken + 1);
    taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.guard.slot().queued.fetch_sub(1, Ordering::AcqRel);
        self.total.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right to have one request in flight. Given back when dropped, also by a panic or a client that went away; when
/// its lease has run out before, dropping it changes nothing.
pub struct Permit {
    guard: SlotGuard,
    lease: LeaseId,
}

impl Permit {
    pub(super) fn new(guard: SlotGuard, lease: LeaseId) -> Self {
        Self { guard, lease }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.guard.slot().held().leases.release(self.lease);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Permit")
    }
}

/// An idempotency key that is being worked on. May go on in a task after the permit was given back; a second request
/// with the key is refused until it is dropped.
pub struct IdempotencyClaim {
    guard: SlotGuard,
    fingerprint: u128,
}

impl IdempotencyClaim {
    pub(super) fn new(guard: SlotGuard, fingerprint: u128) -> Self {
        Self { guard, fingerprint }
    }

    /// The key's fingerprint.
    pub const fn fingerprint(&self) -> u128 {
        self.fingerprint
    }
}

impl Drop for IdempotencyClaim {
    fn drop(&mut self) {
        self.guard.slot().held().claims.remove(&self.fingerprint);
    }
}

impl fmt::Debug for IdempotencyClaim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IdempotencyClaim")
    }
}
