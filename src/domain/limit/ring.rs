//! The exact window: a ring of the last admissions' times. Whether one more fits is read from one place in the ring, so
//! nothing is approximated and nothing has to be cleaned up.

/// Expired entries dropped one by one before the rest is found by halving; keeps the usual case short and the worst
/// case logarithmic.
const STEPS_BEFORE_HALVING: u32 = 4;

/// At most `limit` admissions in any half-open window of `window_us`. Times are ticks in microseconds that never go
/// back.
#[derive(Clone, Debug)]
pub(super) struct BurstRing {
    ticks: Box<[u64]>,
    /// Where the next admission is written.
    next: usize,
    /// Entries that hold an admission.
    filled: usize,
    /// The newest of them that are still inside the window.
    live: usize,
    limit: usize,
    window_us: u64,
    /// Time of the newest admission that was overwritten. Everything the ring no longer knows is at least as old.
    forgotten: Option<u64>,
}

impl BurstRing {
    pub(super) fn new(limit: u32, window_us: u64) -> Self {
        let limit = limit.max(1) as usize;
        let ticks = vec![0; limit].into_boxed_slice();
        Self { ticks, next: 0, filled: 0, live: 0, limit, window_us, forgotten: None }
    }

    /// Time of the entry that is `back` admissions before the newest; `back` is below `filled`.
    fn tick(&self, back: usize) -> u64 {
        let capacity = self.ticks.len();
        let index = self.next + capacity - 1 - back;
        self.ticks[if index >= capacity { index - capacity } else { index }]
    }

    fn expired(&self, back: usize, now: u64) -> bool {
        now.saturating_sub(self.tick(back)) >= self.window_us
    }

    /// Forgets what has left the window.
    pub(super) fn advance(&mut self, now: u64) {
        for _ in 0..STEPS_BEFORE_HALVING {
            if self.live == 0 || !self.expired(self.live - 1, now) {
                return;
            }
            self.live -= 1;
        }
        let (mut inside, mut outside) = (0, self.live);
        while inside < outside {
            let middle = usize::midpoint(inside, outside);
            if self.expired(middle, now) {
                outside = middle;
            } else {
                inside = middle + 1;
            }
        }
        self.live = inside;
    }

    /// Admissions inside the window as of the last [`BurstRing::advance`].
    pub(super) fn used(&self) -> u32 {
        u32::try_from(self.live).unwrap_or(u32::MAX)
    }

    /// How long until `cost` more fit, in microseconds; 0 when they fit now. `cost` is from 1 to the limit.
    pub(super) fn wait_us(&self, cost: u32, now: u64) -> u64 {
        let wanted = self.live + cost as usize;
        if wanted <= self.limit {
            return 0;
        }
        self.leaves_in_us(wanted - self.limit, now)
    }

    /// How long until the window next frees an admission, in microseconds; 0 when it is empty.
    pub(super) fn reset_us(&self, now: u64) -> u64 {
        let over = (self.live + 1).saturating_sub(self.limit);
        self.leaves_in_us(over.max(1), now)
    }

    /// How long until the `count` oldest have left.
    fn leaves_in_us(&self, count: usize, now: u64) -> u64 {
        if self.live == 0 {
            return 0;
        }
        let back = self.live.saturating_sub(count);
        (self.tick(back) + self.window_us).saturating_sub(now)
    }

    /// Writes down `cost` admissions at `now`, whether they fit or not (a restart may charge more than fits).
    pub(super) fn record(&mut self, cost: u32, now: u64) {
        let capacity = self.ticks.len();
        if cost as usize > capacity {
            self.forgotten = Some(now);
        }
        for _ in 0..(cost as usize).min(capacity) {
            if self.filled == capacity {
                self.forgotten = self.forgotten.max(Some(self.ticks[self.next]));
            } else {
                self.filled += 1;
            }
            self.ticks[self.next] = now;
            self.next = if self.next + 1 == capacity { 0 } else { self.next + 1 };
            self.live = (self.live + 1).min(self.filled);
        }
    }

    /// Changes limit and window and keeps the history. The ring only grows: admissions that it no longer knows are
    /// taken to be as late as the last that was overwritten, so a raised limit never admits more than is true.
    pub(super) fn reconfigure(&mut self, limit: u32, window_us: u64, now: u64) {
        let limit = limit.max(1) as usize;
        if limit > self.ticks.len() {
            let unknown = self.forgotten.map_or(0, |_| limit - self.filled);
            let mut ticks = vec![self.forgotten.unwrap_or(0); unknown];
            ticks.extend((0..self.filled).rev().map(|back| self.tick(back)));
            self.filled = ticks.len();
            ticks.resize(limit, 0);
            self.next = if self.filled == limit { 0 } else { self.filled };
            self.ticks = ticks.into_boxed_slice();
        }
        self.limit = limit;
        self.window_us = window_us;
        self.live = self.filled;
        self.advance(now);
    }

    /// Times of the admissions inside the window, newest first.
    pub(super) fn live_ticks(&self) -> impl Iterator<Item = u64> {
        (0..self.live).map(|back| self.tick(back))
    }

    /// How old every admission is at least that is not among [`BurstRing::live_ticks`].
    pub(super) fn known_us(&self, now: u64) -> u64 {
        self.forgotten.map_or(self.window_us, |tick| now.saturating_sub(tick).min(self.window_us))
    }

    pub(super) fn window_us(&self) -> u64 {
        self.window_us
    }

    pub(super) fn limit(&self) -> u32 {
        u32::try_from(self.limit).unwrap_or(u32::MAX)
    }
}
