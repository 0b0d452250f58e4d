//! A limiter's windows as they are stored: ages before a point of wall time, since a monotonic clock starts anew with
//! every process. Every rounding makes history look younger, so a restored limiter is never more generous.

use serde::{Deserialize, Serialize};

use crate::domain::limit::buckets::Buckets;
use crate::domain::limit::days::DayUsage;
use crate::domain::limit::near::NearSnapshot;
use crate::domain::limit::ring::BurstRing;
use crate::domain::time::Timestamp;

/// Into how many parts of its window a burst ring is summed up for storing.
const RING_PARTS: u64 = 40;

/// What a merchant's limiter needs to go on after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimiterSnapshot {
    /// Form of this record, [`LimiterSnapshot::VERSION`] when written by this program.
    pub version: u8,
    /// When it was made.
    pub saved_at: Timestamp,
    /// Admissions in the burst window, newest first: age in milliseconds (that of the youngest) and how many.
    pub burst: Vec<(u32, u32)>,
    /// The minute.
    pub minute: BucketsSnapshot,
    /// The hour.
    pub hour: BucketsSnapshot,
    /// Admitted and refused by day, oldest first.
    #[serde(default)]
    pub days: Vec<DayUsage>,
    /// Thresholds about which the merchant has been told lately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<NearSnapshot>,
}

impl LimiterSnapshot {
    /// The form that this program writes and reads.
    pub const VERSION: u8 = 1;
}

/// The buckets of a long window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketsSnapshot {
    /// Width of a bucket in milliseconds.
    pub width_ms: u32,
    /// How far into the newest bucket the snapshot was made, in milliseconds.
    pub phase_ms: u32,
    /// Admissions by bucket, newest first, up to the oldest with any.
    pub counts: Vec<u32>,
}

/// A span of wall time in which admissions may have been made that no snapshot knows: from the last time that all
/// changed merchants were saved to the end of a process that did not stop cleanly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnseenSpan {
    /// Up to here the snapshots are complete.
    pub since: Timestamp,
    /// From here on nothing was admitted by the process that ended.
    pub until: Timestamp,
}

impl UnseenSpan {
    /// Whether a merchant with this snapshot (or none) is charged for any of it.
    pub fn is_unknown_to(&self, snapshot: Option<&LimiterSnapshot>) -> bool {
        self.until > self.since && snapshot.is_none_or(|snapshot| snapshot.saved_at < self.until)
    }

    /// The part of the span that a snapshot made at `saved_at` does not know.
    pub(super) fn after(&self, saved_at: Timestamp) -> Self {
        Self { since: self.since.max(saved_at), until: self.until }
    }
}

fn millis(micros: u64) -> u32 {
    u32::try_from(micros / 1000).unwrap_or(u32::MAX)
}

pub(super) fn save_ring(ring: &BurstRing, now: u64) -> Vec<(u32, u32)> {
    let part_us = ring.window_us().div_ceil(RING_PARTS).max(1);
    let mut parts: Vec<(u32, u32)> = Vec::new();
    let mut youngest_us = 0;
    for tick in ring.live_ticks() {
        let age_us = now.saturating_sub(tick);
        match parts.last_mut() {
            Some((_, count)) if age_us < youngest_us + part_us => *count += 1,
            _ => {
                youngest_us = age_us;
                parts.push((millis(age_us), 1));
            }
        }
    }
    parts
}

pub(super) fn save_buckets(buckets: &Buckets, now: u64) -> BucketsSnapshot {
    BucketsSnapshot {
        width_ms: millis(buckets.width_us()),
        phase_ms: millis(buckets.phase_us(now)),
        counts: buckets.newest_first().collect(),
    }
}

/// Puts saved counts at the youngest time that each of them can have.
pub(super) fn restore_buckets(buckets: &mut Buckets, snapshot: &BucketsSnapshot, saved_tick: u64) {
    let mut age_ms = 0;
    for (index, count) in snapshot.counts.iter().enumerate() {
        if index == 1 {
            age_ms = u64::from(snapshot.phase_ms);
        } else if index > 1 {
            age_ms += u64::from(snapshot.width_ms);
        }
        buckets.record(*count, saved_tick.saturating_sub(age_ms * 1000));
    }
}
