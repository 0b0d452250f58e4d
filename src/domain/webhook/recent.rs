//! What is remembered of an endpoint's last requests while the process runs.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::domain::webhook::EndpointTry;
use crate::domain::webhook::health::Sign;

/// Parts of the breaker's window that are forgotten one by one.
const SLOTS: usize = 6;
/// What a request says about its endpoint is worth half as much after this long.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// Requests, by what they are worth, before their share says anything. The tries of one notification alone never are so many
/// within their first hours.
const WORTH_MIN: f64 = 10.0;
/// Failures in a row that say enough, however long they take.
const IN_A_ROW_MIN: u64 = 20;
/// A receiver that names a time is left alone altogether for this long at most; the notification that it was told about
/// waits for as long as it said.
const LEFT_ALONE_MAX: Duration = Duration::from_secs(60);

/// Waits as they are configured, in thousandths.
pub(super) const USUAL_PERMILLE: u32 = 1_000;
const SHORTEST_PERMILLE: u32 = 500;
const LONGEST_PERMILLE: u32 = 2_000;

/// One part of the breaker's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    /// Which part of all time.
    number: i64,
    tries: u32,
    failed: u32,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Recent {
    slots: [Slot; SLOTS],
    /// What successes are worth, and failures, at `weighed_at`.
    taken_worth: f64,
    failed_worth: f64,
    weighed_at: Timestamp,
    /// The receiver asked to be left alone.
    left_alone_until: Option<Timestamp>,
    /// Requests that have ended since it recovered.
    pub(super) ended: u32,
    /// How often its places have doubled since then.
    pub(super) doublings: u32,
}

impl Recent {
    /// Notes a request of an endpoint whose breaker looks at the last `window`.
    pub(super) fn note(&mut self, a_try: &EndpointTry, window: Duration) {
        let now = a_try.ended_at;
        self.ended = self.ended.saturating_add(1);
        if let Some(asked) = a_try.leave_alone_for {
            let until = now.plus(asked.min(LEFT_ALONE_MAX));
            self.left_alone_until = Some(self.left_alone_until.map_or(until, |before| before.max(until)));
        }
        let is_failure = match a_try.outcome.sign() {
            Sign::Takes => false,
            Sign::Fails => true,
            Sign::Alive => return,
        };
        self.doublings = if is_failure { self.doublings.saturating_sub(1) } else { self.doublings.saturating_add(1) };
        self.count(now, window, is_failure);
        let left = self.left_of_worth(now);
        self.taken_worth = self.taken_worth * left + if is_failure { 0.0 } else { 1.0 };
        self.failed_worth = self.failed_worth * left + if is_failure { 1.0 } else { 0.0 };
        self.weighed_at = self.weighed_at.max(now);
    }

    fn count(&mut self, now: Timestamp, window: Duration, is_failure: bool) {
        let number = slot_number(now, window);
        let Some(slot) = usize::try_from(number.rem_euclid(SLOTS as i64)).ok().and_then(|at| self.slots.get_mut(at))
        else {
            return;
        };
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.tries = slot.tries.saturating_add(1);
        slot.failed = slot.failed.saturating_add(u32::from(is_failure));
    }

    /// Requests within the last `window`, and how many of them failed.
    pub(super) fn in_window(&self, now: Timestamp, window: Duration) -> (u32, u32) {
        let newest = slot_number(now, window);
        let oldest = newest.saturating_sub(SLOTS as i64 - 1);
        let slots = self.slots.iter().filter(|slot| (oldest..=newest).contains(&slot.number));
        slots.fold((0, 0), |(tries, failed), slot| {
            (tries.saturating_add(slot.tries), failed.saturating_add(slot.failed))
        })
    }

    /// The breaker has opened or closed: what was before says nothing about what is to come.
    pub(super) fn forget_window(&mut self) {
        self.slots = Default::default();
    }

    /// Its backlog is released from now on, of which so many requests are taken to have `ended`.
    pub(super) fn begin_recovery(&mut self, ended: u32) {
        self.ended = ended;
        self.doublings = 0;
    }

    /// Forgets what lies in the future by more than `tolerance`: the clock was set back.
    pub(super) fn settle(&mut self, now: Timestamp, tolerance: Duration) {
        let latest = now.plus(tolerance);
        if self.weighed_at > latest {
            self.weighed_at = now;
        }
        self.left_alone_until = self.left_alone_until.filter(|until| *until <= latest.plus(LEFT_ALONE_MAX));
    }

    /// Until when the receiver asked to be left alone.
    pub(super) fn left_alone_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.left_alone_until.filter(|until| *until > now)
    }

    /// By how much later waits are multiplied, in thousandths: half for an endpoint that takes nearly everything, twice for
    /// one that has taken nothing.
    pub(super) fn factor_permille(&self, now: Timestamp, failed_in_a_row: u64) -> u32 {
        if failed_in_a_row >= IN_A_ROW_MIN {
            return LONGEST_PERMILLE;
        }
        let left = self.left_of_worth(now);
        let (taken, failed) = (self.taken_worth * left, self.failed_worth * left);
        let worth = taken + failed;
        if worth < WORTH_MIN {
            return USUAL_PERMILLE;
        }
        let failed_share = failed / worth;
        let between = |share: f64, from: u32, to: u32| {
            // Both ends are small whole numbers, so nothing is lost.
            (f64::from(from) + share.clamp(0.0, 1.0) * f64::from(to - from)).round() as u32
        };
        if failed_share < 0.5 {
            between((failed_share - 0.1) / 0.4, SHORTEST_PERMILLE, USUAL_PERMILLE)
        } else {
            between((failed_share - 0.5) / 0.5, USUAL_PERMILLE, LONGEST_PERMILLE)
        }
    }

    /// The share of their worth that requests have left of what it was at `weighed_at`.
    fn left_of_worth(&self, now: Timestamp) -> f64 {
        (-now.since(self.weighed_at).as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2()
    }
}

fn slot_number(now: Timestamp, window: Duration) -> i64 {
    let slot_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX) / SLOTS as i64;
    now.unix_ms().div_euclid(slot_ms.max(1))
}
