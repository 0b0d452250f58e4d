//! Requests in flight as leases: each ends when it is given back or when its time is over, whichever comes first, so
//! that a permit that got lost does not narrow a merchant for ever.

use std::time::Duration;

use crate::domain::time::Monotonic;

/// Marks the end of the list.
const NONE: u32 = u32::MAX;

/// Names one lease. A slot is used again under another generation, so a late return never ends someone else's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId {
    slot: u32,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    expires: Monotonic,
    /// Odd while it is granted. Grows with every grant and every end.
    generation: u32,
    older: u32,
    /// Of a free slot: the next that is free.
    newer: u32,
}

/// The leases of one merchant. All run equally long, so the order of granting is the order of expiring: a list through
/// the slots gives constant work for granting, returning and expiring one.
#[derive(Clone, Debug)]
pub struct Leases {
    slots: Vec<Slot>,
    /// The slot that ended last, and by its link the others that are free.
    free: u32,
    oldest: u32,
    newest: u32,
    in_use: u32,
    expired_total: u64,
    lease: Duration,
}

impl Leases {
    /// No lease yet; room for `expected` is made at once. Each will run for `lease`.
    pub fn new(expected: u32, lease: Duration) -> Self {
        Self {
            slots: Vec::with_capacity(expected as usize),
            free: NONE,
            oldest: NONE,
            newest: NONE,
            in_use: 0,
            expired_total: 0,
            lease,
        }
    }

    /// Ends the leases whose time is over.
    #[inline]
    pub fn expire(&mut self, now: Monotonic) {
        self.expire_some(now, u64::MAX);
    }

    /// Ends the oldest of the leases whose time is over, at most `max` of them. Answers how many it ended.
    pub fn expire_some(&mut self, now: Monotonic, max: u64) -> u64 {
        let before = self.expired_total;
        while self.expired_total - before < max
            && self.oldest != NONE
            && self.slots[self.oldest as usize].expires <= now
        {
            self.expired_total += 1;
            self.remove(self.oldest);
        }
        self.expired_total - before
    }

    /// Leases that run, as of the last [`Leases::expire`].
    pub const fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Leases that ended by their time. Each is a request that ran longer than its deadline, or a lost permit.
    pub const fn expired_total(&self) -> u64 {
        self.expired_total
    }

    /// Grants one. Whether there is room has been decided before.
    #[inline]
    pub fn grant(&mut self, now: Monotonic) -> LeaseId {
        let index = self.take_free();
        let (newest, expires) = (self.newest, now.plus(self.lease));
        let slot = &mut self.slots[index as usize];
        let generation = slot.generation.wrapping_add(1);
        *slot = Slot { expires, generation, older: newest, newer: NONE };
        if newest == NONE {
            self.oldest = index;
        } else {
            self.slots[newest as usize].newer = index;
        }
        self.newest = index;
        self.in_use += 1;
        LeaseId { slot: index, generation }
    }

    /// A slot that nobody has, which is no longer among the free ones.
    fn take_free(&mut self) -> u32 {
        let index = self.free;
        if let Some(slot) = self.slots.get(index as usize) {
            self.free = slot.newer;
            return index;
        }
        self.slots.push(Slot { expires: Monotonic::from_micros(0), generation: 0, older: NONE, newer: NONE });
        u32::try_from(self.slots.len() - 1).unwrap_or(NONE - 1)
    }

    /// Gives one back. `false` when it had ended already; then nothing changes.
    #[inline]
    pub fn release(&mut self, lease: LeaseId) -> bool {
        // The generation that was handed out is odd, so it is never that of a free slot.
        let runs = self.slots.get(lease.slot as usize).is_some_and(|slot| slot.generation == lease.generation);
        if runs {
            self.remove(lease.slot);
        }
        runs
    }

    fn remove(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let (older, newer) = (slot.older, slot.newer);
        slot.newer = self.free;
        match older {
            NONE => self.oldest = newer,
            _ => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            _ => self.slots[newer as usize].older = older,
        }
        self.free = index;
        self.in_use -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_late_return_does_not_end_someone_elses_lease() {
        let mut leases = Leases::new(1, MINUTE);
        let first = leases.grant(at(0));
        leases.expire(at(60));
        assert_eq!((leases.in_use(), leases.expired_total()), (0, 1));
        let second = leases.grant(at(61));
        assert!(!leases.release(first), "the first lease is over");
        assert_eq!(leases.in_use(), 1);
        assert!(leases.release(second));
        assert!(!leases.release(second), "giving back twice counts once");
        assert_eq!(leases.in_use(), 0);
    }

    #[test]
    fn leases_end_in_the_order_of_granting_whatever_was_returned_between() {
        let mut leases = Leases::new(2, MINUTE);
        let granted: Vec<LeaseId> = (0..5).map(|second| leases.grant(at(second))).collect();
        assert!(leases.release(granted[2]));
        assert!(leases.release(granted[0]));
        assert!(leases.release(granted[4]));
        leases.expire(at(61));
        assert_eq!((leases.in_use(), leases.expired_total()), (1, 1), "of the second and the fourth one is over");
        leases.expire(at(63));
        assert_eq!((leases.in_use(), leases.expired_total()), (0, 2));
        assert!(!leases.release(granted[1]));
        let again = leases.grant(at(70));
        assert!(leases.release(again));
    }

    #[test]
    fn a_bounded_look_ends_the_oldest_first_and_each_once() {
        let mut leases = Leases::new(2, MINUTE);
        let granted: Vec<LeaseId> = (0..5).map(|second| leases.grant(at(second))).collect();
        assert_eq!(leases.expire_some(at(63), 3), 3);
        assert!(!leases.release(granted[2]), "the third is over");
        assert_eq!((leases.in_use(), leases.expired_total()), (2, 3));
        assert!(leases.release(granted[3]), "nobody has looked at the fourth yet");
        assert_eq!(leases.expire_some(at(63), 3), 0, "the fifth runs");
        assert_eq!(leases.expire_some(at(64), 3), 1);
        assert_eq!((leases.in_use(), leases.expired_total()), (0, 4));
    }

    #[test]
    fn memory_is_bounded_by_what_was_in_use_at_once() {
        let mut leases = Leases::new(0, MINUTE);
        for round in 0..10_000 {
            let lease = leases.grant(at(round));
            assert!(leases.release(lease));
        }
        assert_eq!(leases.slots.len(), 1);
    }
}
