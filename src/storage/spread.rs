//! How often something was how large: counts by upper bounds, kept without a lock by whoever does the work and read by
//! whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of times in microseconds, from what a disk with a protected cache takes to one that hangs.
pub const TIME_BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];
/// Upper bounds of how many batches share a frame.
pub const GROUP_BOUNDS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// See the module.
#[derive(Debug)]
pub struct Spread {
    bounds: &'static [u64],
    /// One for each bound, and one for what is above all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a [`Spread`] has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpreadReading {
    /// Upper bounds, inclusive, which rise.
    pub bounds: &'static [u64],
    /// How many were no more than the bound in the same place and more than the one before; last those above all.
    pub counts: Vec<u64>,
    /// All of them added up.
    pub sum: u64,
}

impl Spread {
    /// Nothing counted yet. `bounds` rise.
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn note(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a time, in microseconds.
    pub fn note_time(&self, time: Duration) {
        self.note(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// What was counted so far. What is counted meanwhile may be in one figure and not in another.
    pub fn read(&self) -> SpreadReading {
        SpreadReading {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_what_is_as_large_and_the_last_place_what_is_larger_than_all() {
        let spread = Spread::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, 1_000] {
            spread.note(value);
        }
        assert_eq!(spread.read(), SpreadReading { bounds: &[10, 20], counts: vec![2, 2, 2], sum: 1_062 });
    }

    #[test]
    fn times_are_in_microseconds_and_bounds_rise() {
        let spread = Spread::new(&TIME_BOUNDS_US);
        spread.note_time(Duration::from_micros(50));
        spread.note_time(Duration::from_secs(60));
        let reading = spread.read();
        assert_eq!((reading.counts[0], reading.counts.last()), (1, Some(&1)));
        assert!(TIME_BOUNDS_US.is_sorted() && GROUP_BOUNDS.is_sorted());
    }
}
