//! A long window in bounded memory: counts in `k + 1` buckets of `window / k`, the oldest of them counted in full
//! although only a part of it may still be inside.
//!
//! Why no true window holds more than the limit: take any window and its last admission at `t`. The buckets counted at
//! `t` cover everything since `t - window`, so every admission of that window was in the sum, and the sum was at most
//! the limit. The price is that an admission is given back up to one bucket late: at most `1 / (k + 1)` of the
//! throughput.
//!
//! Time moves from bucket to bucket, so the place of a bucket is counted on and never divided for: most decisions fall
//! into the bucket of the one before and compare two numbers.

use crate::domain::limit::view::millis_up;

#[derive(Clone, Debug)]
pub(super) struct Buckets {
    /// `k + 1` counts in a ring.
    counts: Box<[u32]>,
    width_us: u64,
    window_ms: u32,
    limit: u64,
    /// Sum of all counts.
    sum: u64,
    /// Added to a time before it is divided by the width, so that buckets that were stored end when they ended before.
    shift_us: u64,
    /// The bucket of the last time seen: that time divided by the width.
    current: u64,
    /// Where its count stands.
    place: usize,
    /// When the bucket after it begins.
    current_ends: u64,
    /// The oldest bucket with a count, while `sum` is above 0.
    first: u64,
}

impl Buckets {
    /// Counts a window of `buckets` times `width_us`.
    pub(super) fn new(buckets: u32, width_us: u64, limit: u32, now: u64) -> Self {
        let counts = vec![0; buckets as usize + 1].into_boxed_slice();
        let current = now / width_us;
        let current_ends = (current + 1).saturating_mul(width_us);
        let window_ms = millis_up(u64::from(buckets) * width_us);
        Self {
            counts,
            width_us,
            window_ms,
            limit: u64::from(limit),
            sum: 0,
            shift_us: 0,
            current,
            place: 0,
            current_ends,
            first: current,
        }
    }

    fn len(&self) -> u64 {
        self.counts.len() as u64
    }

    /// Where the count of a bucket stands: of the current one or one of the `k` before it.
    fn index(&self, bucket: u64) -> usize {
        let back = usize::try_from(self.current - bucket).unwrap_or(usize::MAX);
        if back <= self.place { self.place - back } else { self.place + self.counts.len() - back }
    }

    fn count(&self, bucket: u64) -> u64 {
        u64::from(self.counts[self.index(bucket)])
    }

    /// Moves on to `now`; after a gap of any length at most `k + 1` buckets are cleared.
    #[inline]
    pub(super) fn advance(&mut self, now: u64) {
        if now >= self.current_ends {
            self.move_on((now + self.shift_us) / self.width_us);
        }
    }

    #[cold]
    fn move_on(&mut self, bucket: u64) {
        let cleared = (bucket - self.current).min(self.len());
        for _ in 0..cleared {
            self.place = if self.place + 1 == self.counts.len() { 0 } else { self.place + 1 };
            self.sum -= u64::from(std::mem::take(&mut self.counts[self.place]));
        }
        self.current = bucket;
        self.current_ends = (bucket + 1).saturating_mul(self.width_us) - self.shift_us;
        self.find_first();
    }

    fn find_first(&mut self) {
        if self.sum == 0 {
            self.first = self.current;
            return;
        }
        self.first = self.first.max((self.current + 1).saturating_sub(self.len()));
        while self.first < self.current && self.count(self.first) == 0 {
            self.first += 1;
        }
    }

    #[inline]
    pub(super) fn used(&self) -> u32 {
        u32::try_from(self.sum).unwrap_or(u32::MAX)
    }

    /// Whether `cost` more fit now.
    #[inline]
    pub(super) fn fits(&self, cost: u32) -> bool {
        self.sum + u64::from(cost) <= self.limit
    }

    /// How long until `cost` more fit, in microseconds; 0 when they fit now. `cost` is from 1 to the limit.
    pub(super) fn wait_us(&self, cost: u32, now: u64) -> u64 {
        if self.fits(cost) {
            return 0;
        }
        self.leaves_in_us(self.sum + u64::from(cost) - self.limit, now)
    }

    /// How long until the window next frees an admission, in microseconds; 0 when it is empty.
    #[inline]
    pub(super) fn reset_us(&self, now: u64) -> u64 {
        if self.sum == 0 {
            return 0;
        }
        if self.sum <= self.limit {
            return self.ends_in_us(self.first, now);
        }
        self.leaves_in_us(self.sum + 1 - self.limit, now)
    }

    /// How long until a bucket's admissions leave.
    #[inline]
    fn ends_in_us(&self, bucket: u64, now: u64) -> u64 {
        ((bucket + self.len()) * self.width_us).saturating_sub(now + self.shift_us)
    }

    /// How long until at least `count` have left. Looks at `k + 1` buckets at most.
    fn leaves_in_us(&self, count: u64, now: u64) -> u64 {
        let mut left = 0;
        let mut bucket = self.first;
        loop {
            left += self.count(bucket);
            if left >= count || bucket >= self.current {
                return self.ends_in_us(bucket, now);
            }
            bucket += 1;
        }
    }

    /// Writes down `cost` admissions at `tick`, which may lie in the past, whether they fit or not.
    #[inline]
    pub(super) fn record(&mut self, cost: u32, tick: u64) {
        let bucket = match tick >= self.current_ends - self.width_us {
            true => self.current,
            false => (tick + self.shift_us) / self.width_us,
        };
        if cost == 0 || bucket + self.len() <= self.current {
            return;
        }
        let index = self.index(bucket);
        let before = self.counts[index];
        self.counts[index] = before.saturating_add(cost);
        self.first = if self.sum == 0 { bucket } else { self.first.min(bucket) };
        self.sum += u64::from(self.counts[index] - before);
    }

    /// Moves the buckets' ends so that one begins at `begins_at`. Only while nothing is counted.
    pub(super) fn begin_one_at(&mut self, begins_at: u64, now: u64) {
        self.shift_us = (self.width_us - begins_at % self.width_us) % self.width_us;
        self.current = (now + self.shift_us) / self.width_us;
        self.current_ends = (self.current + 1).saturating_mul(self.width_us) - self.shift_us;
        self.first = self.current;
    }

    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = u64::from(limit);
    }

    pub(super) fn limit(&self) -> u32 {
        u32::try_from(self.limit).unwrap_or(u32::MAX)
    }

    pub(super) fn window_us(&self) -> u64 {
        (self.len() - 1) * self.width_us
    }

    /// The same in milliseconds, rounded up.
    pub(super) fn window_ms(&self) -> u32 {
        self.window_ms
    }

    pub(super) fn width_us(&self) -> u64 {
        self.width_us
    }

    /// How far into the current bucket `now` is.
    pub(super) fn phase_us(&self, now: u64) -> u64 {
        (now + self.shift_us).saturating_sub(self.current * self.width_us)
    }

    /// Counts from the current bucket back to the oldest that holds anything.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = u32> {
        let oldest = if self.sum == 0 { self.current + 1 } else { self.first };
        (oldest..=self.current).rev().map(|bucket| self.counts[self.index(bucket)])
    }
}
