//! A long window in bounded memory: counts in `k + 1` buckets of `window / k`, the oldest of them counted in full
//! although only a part of it may still be inside.
//!
//! Why no true window holds more than the limit: take any window and its last admission at `t`. The buckets counted at
//! `t` cover everything since `t - window`, so every admission of that window was in the sum, and the sum was at most
//! the limit. The price is that an admission is given back up to one bucket late: at most `1 / (k + 1)` of the
//! throughput.

#[derive(Clone, Debug)]
pub(super) struct Buckets {
    /// `k + 1` counts; bucket `b` (its time divided by the width) stands at `b` modulo the length.
    counts: Box<[u32]>,
    width_us: u64,
    limit: u64,
    /// Sum of all counts.
    sum: u64,
    /// The bucket of the last time seen.
    current: u64,
    /// The oldest bucket with a count, while `sum` is above 0.
    first: u64,
}

impl Buckets {
    /// Counts a window of `buckets` times `width_us`.
    pub(super) fn new(buckets: u32, width_us: u64, limit: u32, now: u64) -> Self {
        let counts = vec![0; buckets as usize + 1].into_boxed_slice();
        let current = now / width_us;
        Self { counts, width_us, limit: u64::from(limit), sum: 0, current, first: current }
    }

    fn len(&self) -> u64 {
        self.counts.len() as u64
    }

    fn index(&self, bucket: u64) -> usize {
        usize::try_from(bucket % self.len()).unwrap_or(0)
    }

    fn count(&self, bucket: u64) -> u64 {
        u64::from(self.counts[self.index(bucket)])
    }

    /// Moves on to `now`; after a gap of any length at most `k + 1` buckets are cleared.
    pub(super) fn advance(&mut self, now: u64) {
        let bucket = now / self.width_us;
        if bucket <= self.current {
            return;
        }
        let cleared = (bucket - self.current).min(self.len());
        for step in 1..=cleared {
            let index = self.index(self.current + step);
            self.sum -= u64::from(std::mem::take(&mut self.counts[index]));
        }
        self.current = bucket;
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

    pub(super) fn used(&self) -> u32 {
        u32::try_from(self.sum).unwrap_or(u32::MAX)
    }

    /// How long until `cost` more fit, in microseconds; 0 when they fit now. `cost` is from 1 to the limit.
    pub(super) fn wait_us(&self, cost: u32, now: u64) -> u64 {
        let wanted = self.sum + u64::from(cost);
        if wanted <= self.limit {
            return 0;
        }
        self.leaves_in_us(wanted - self.limit, now)
    }

    /// How long until the window next frees an admission, in microseconds; 0 when it is empty.
    pub(super) fn reset_us(&self, now: u64) -> u64 {
        if self.sum == 0 {
            return 0;
        }
        self.leaves_in_us((self.sum + 1).saturating_sub(self.limit).max(1), now)
    }

    /// How long until at least `count` have left. Looks at `k + 1` buckets at most.
    fn leaves_in_us(&self, count: u64, now: u64) -> u64 {
        let mut left = 0;
        let mut bucket = self.first;
        loop {
            left += self.count(bucket);
            if left >= count || bucket >= self.current {
                return ((bucket + self.len()) * self.width_us).saturating_sub(now);
            }
            bucket += 1;
        }
    }

    /// Writes down `cost` admissions at `tick`, which may lie in the past, whether they fit or not.
    pub(super) fn record(&mut self, cost: u32, tick: u64) {
        let bucket = (tick / self.width_us).min(self.current);
        if cost == 0 || bucket + self.len() <= self.current {
            return;
        }
        let index = self.index(bucket);
        let before = self.counts[index];
        self.counts[index] = before.saturating_add(cost);
        self.first = if self.sum == 0 { bucket } else { self.first.min(bucket) };
        self.sum += u64::from(self.counts[index] - before);
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

    pub(super) fn width_us(&self) -> u64 {
        self.width_us
    }

    /// How far into the current bucket `now` is.
    pub(super) fn phase_us(&self, now: u64) -> u64 {
        now.saturating_sub(self.current * self.width_us)
    }

    /// Counts from the current bucket back to the oldest that holds anything.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = u32> {
        let oldest = if self.sum == 0 { self.current + 1 } else { self.first };
        (oldest..=self.current).rev().map(|bucket| self.counts[self.index(bucket)])
    }
}
