//! The exact window: a ring of the last admissions' times. Whether one more fits is read from one place in the ring, so
//! nothing is approximated.
//!
//! Times are kept as the low 32 bits of ticks in microseconds, which come round every 71.6 minutes. No window is longer
//! than an hour, so an admission that is an hour old can never count again; those are dropped every ten minutes, before
//! their times could be taken for later ones.

use crate::domain::limit::figures::BURST_WINDOW_MAX_S;
use crate::domain::limit::view::millis_up;

/// Expired entries dropped one by one before the rest is found by halving; keeps the usual case short and the worst
/// case logarithmic.
const STEPS_BEFORE_HALVING: u32 = 4;
/// The longest window: older admissions are of no use.
const USE_US: u64 = BURST_WINDOW_MAX_S as u64 * 1_000_000;
/// How often those are dropped.
const DROP_INTERVAL_US: u64 = 600_000_000;
const _: () = assert!(USE_US + DROP_INTERVAL_US < 1 << 32);

/// At most `limit` admissions in any half-open window of `window_us`. Times are ticks in microseconds that never go
/// back.
#[derive(Clone, Debug)]
pub(super) struct BurstRing {
    /// The low bits of the admissions' times.
    ticks: Box<[u32]>,
    /// Where the next admission is written.
    next: usize,
    /// Entries that hold an admission.
    filled: usize,
    /// The newest of them that are still inside the window.
    live: usize,
    limit: usize,
    window_us: u64,
    window_ms: u32,
    /// The latest time seen. Every admission in the ring is less than 2³² µs older.
    latest: u64,
    /// When admissions that are of no use are dropped next.
    drop_at: u64,
    /// Time of the newest admission that was overwritten. Everything the ring no longer knows is at least as old.
    forgotten: Option<u64>,
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
const fn low_bits(tick: u64) -> u32 {
    tick as u32
}

impl BurstRing {
    /// An empty ring at `now`. `window_us` is at most an hour.
    pub(super) fn new(limit: u32, window_us: u64, now: u64) -> Self {
        let limit = limit.max(1) as usize;
        Self {
            ticks: vec![0; limit].into_boxed_slice(),
            next: 0,
            filled: 0,
            live: 0,
            limit,
            window_us,
            window_ms: millis_up(window_us),
            latest: now,
            drop_at: now.saturating_add(DROP_INTERVAL_US),
            forgotten: None,
        }
    }

    /// Low bits of the entry that is `back` admissions before the newest; `back` is below `filled`.
    #[inline]
    fn low_tick(&self, back: usize) -> u32 {
        let capacity = self.ticks.len();
        let index = self.next + capacity - 1 - back;
        self.ticks[if index >= capacity { index - capacity } else { index }]
    }

    /// Age of that entry at `now`, which is not before the latest time seen.
    #[inline]
    fn age_us(&self, back: usize, now: u64) -> u64 {
        u64::from(low_bits(self.latest).wrapping_sub(self.low_tick(back))) + now.saturating_sub(self.latest)
    }

    /// How many of the newest `known` entries are younger than `age_us` at `now`.
    fn younger(&self, mut known: usize, age_us: u64, now: u64) -> usize {
        for _ in 0..STEPS_BEFORE_HALVING {
            if known == 0 || self.age_us(known - 1, now) < age_us {
                return known;
            }
            known -= 1;
        }
        let (mut inside, mut outside) = (0, known);
        while inside < outside {
            let middle = usize::midpoint(inside, outside);
            if self.age_us(middle, now) < age_us {
                inside = middle + 1;
            } else {
                outside = middle;
            }
        }
        inside
    }

    /// Forgets what has left the window.
    #[inline]
    pub(super) fn advance(&mut self, now: u64) {
        let now = now.max(self.latest);
        if self.live > 0 && self.age_us(self.live - 1, now) >= self.window_us {
            self.live = self.younger(self.live - 1, self.window_us, now);
        }
        if now >= self.drop_at {
            self.drop_useless(now);
        }
        self.latest = now;
    }

    #[cold]
    fn drop_useless(&mut self, now: u64) {
        self.filled = self.younger(self.filled, USE_US, now);
        self.live = self.live.min(self.filled);
        self.drop_at = now.saturating_add(DROP_INTERVAL_US);
    }

    /// Admissions inside the window as of the last [`BurstRing::advance`].
    #[inline]
    pub(super) fn used(&self) -> u32 {
        u32::try_from(self.live).unwrap_or(u32::MAX)
    }

    /// Whether `cost` more fit now.
    #[inline]
    pub(super) fn fits(&self, cost: u32) -> bool {
        self.live + cost as usize <= self.limit
    }

    /// How long until `cost` more fit, in microseconds; 0 when they fit now. `cost` is from 1 to the limit.
    pub(super) fn wait_us(&self, cost: u32, now: u64) -> u64 {
        if self.fits(cost) {
            return 0;
        }
        self.leaves_in_us(self.live + cost as usize - self.limit, now)
    }

    /// How long until the window next frees an admission, in microseconds; 0 when it is empty.
    #[inline]
    pub(super) fn reset_us(&self, now: u64) -> u64 {
        let over = (self.live + 1).saturating_sub(self.limit);
        self.leaves_in_us(over.max(1), now)
    }

    /// How long until the `count` oldest have left.
    #[inline]
    fn leaves_in_us(&self, count: usize, now: u64) -> u64 {
        if self.live == 0 {
            return 0;
        }
        let back = self.live.saturating_sub(count);
        self.window_us.saturating_sub(self.age_us(back, now))
    }

    /// Writes down `cost` admissions at `at`, which is not after the latest time seen, whether they fit or not (a restart
    /// may charge more than fits). What is of no use any more is not written down.
    #[inline]
    pub(super) fn record(&mut self, cost: u32, at: u64) {
        let at = at.min(self.latest);
        if self.latest - at >= USE_US {
            return;
        }
        let capacity = self.ticks.len();
        if cost as usize > capacity {
            self.forgotten = Some(at);
        }
        for _ in 0..(cost as usize).min(capacity) {
            if self.filled == capacity {
                let age = low_bits(self.latest).wrapping_sub(self.ticks[self.next]);
                self.forgotten = self.forgotten.max(Some(self.latest - u64::from(age)));
            } else {
                self.filled += 1;
            }
            self.ticks[self.next] = low_bits(at);
            self.next = if self.next + 1 == capacity { 0 } else { self.next + 1 };
            self.live = (self.live + 1).min(self.filled);
        }
    }

    /// Changes limit and window and keeps the history. The ring only grows: admissions that it no longer knows are
    /// taken to be as late as the last that was overwritten, so a raised limit never admits more than is true.
    pub(super) fn reconfigure(&mut self, limit: u32, window_us: u64, now: u64) {
        let now = now.max(self.latest);
        let limit = limit.max(1) as usize;
        if limit > self.ticks.len() {
            // With the times as they are first: those of no use would be taken for later ones behind the change.
            self.filled = self.younger(self.filled, USE_US, now);
            let forgotten = self.forgotten.filter(|tick| now.saturating_sub(*tick) < USE_US);
            let unknown = forgotten.map_or(0, |_| limit - self.filled);
            let mut ticks = vec![low_bits(forgotten.unwrap_or(0)); unknown];
            ticks.extend((0..self.filled).rev().map(|back| self.low_tick(back)));
            self.filled = ticks.len();
            ticks.resize(limit, 0);
            self.next = if self.filled == limit { 0 } else { self.filled };
            self.ticks = ticks.into_boxed_slice();
        }
        self.limit = limit;
        self.window_us = window_us;
        self.window_ms = millis_up(window_us);
        self.live = self.filled;
        self.advance(now);
    }

    /// Times of the admissions inside the window, newest first.
    pub(super) fn live_ticks(&self) -> impl Iterator<Item = u64> {
        (0..self.live).map(|back| self.latest - self.age_us(back, self.latest))
    }

    /// How old every admission is at least that is not among [`BurstRing::live_ticks`].
    pub(super) fn known_us(&self, now: u64) -> u64 {
        self.forgotten.map_or(self.window_us, |tick| now.saturating_sub(tick).min(self.window_us))
    }

    pub(super) fn window_us(&self) -> u64 {
        self.window_us
    }

    /// The same in milliseconds, rounded up.
    pub(super) fn window_ms(&self) -> u32 {
        self.window_ms
    }

    pub(super) fn limit(&self) -> u32 {
        u32::try_from(self.limit).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;
    const ROUND: u64 = 1 << 32;

    #[test]
    fn an_admission_does_not_come_back_when_its_low_bits_come_round() {
        for start in [0, ROUND - 1, ROUND, 5 * ROUND + 17] {
            for gap in [ROUND - 1, ROUND, ROUND + 1, ROUND + SECOND, 3 * ROUND + 2 * SECOND, 10 * ROUND] {
                let mut ring = BurstRing::new(3, 3_600 * SECOND, start);
                ring.record(3, start);
                ring.advance(start + gap);
                assert_eq!((ring.used(), ring.wait_us(3, start + gap)), (0, 0), "{gap} after {start}");
                ring.record(1, start + gap);
                assert_eq!(ring.used(), 1);
                // A longer window finds nothing that is over.
                ring.reconfigure(8, 3_600 * SECOND, start + gap + 5);
                assert_eq!(ring.used(), 1, "{gap} after {start}");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Record { gap_us: u64, cost: u32 },
        Reconfigure { limit: u32, window_s: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        let edges = [0, 1, 600 * SECOND, 3_599 * SECOND, 3_600 * SECOND, ROUND - SECOND, ROUND - 1, ROUND, ROUND + 1];
        let gap_us = prop_oneof![4 => 0..SECOND, 3 => 0..900 * SECOND, 2 => prop::sample::select(edges.to_vec())];
        prop_oneof![
            6 => (gap_us, 1_u32..6).prop_map(|(gap_us, cost)| Step::Record { gap_us, cost }),
            1 => (1_u32..12, 1_u64..3_600).prop_map(|(limit, window_s)| Step::Reconfigure { limit, window_s }),
        ]
    }

    proptest! {
        #[test]
        fn the_ring_counts_as_a_log_of_whole_times_does(
            start in prop::sample::select(vec![ROUND - 5, ROUND, 7 * ROUND + SECOND]),
            steps in prop::collection::vec(step(), 1..200),
        ) {
            // With room for everything the ring forgets nothing, so it must agree with the log exactly.
            let (mut limit, mut window_us, mut now) = (2_000, 10 * SECOND, start);
            let mut ring = BurstRing::new(limit, window_us, now);
            let mut log: VecDeque<u64> = VecDeque::new();
            for step in steps {
                match step {
                    Step::Record { gap_us, cost } => {
                        now += gap_us;
                        ring.advance(now);
                        ring.record(cost, now);
                        log.extend((0..cost).map(|_| now));
                    }
                    Step::Reconfigure { limit: more, window_s } => {
                        limit += more;
                        window_us = window_s * SECOND;
                        ring.reconfigure(limit, window_us, now);
                    }
                }
                let inside: Vec<u64> = log.iter().rev().copied().take_while(|at| now - at < window_us).collect();
                prop_assert_eq!(ring.live_ticks().collect::<Vec<_>>(), inside.clone());
                let leaves_us = inside.last().map_or(0, |oldest| oldest + window_us - now);
                prop_assert_eq!(ring.reset_us(now), leaves_us);
            }
        }
    }
}
