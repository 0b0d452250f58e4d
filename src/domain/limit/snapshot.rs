//! A limiter's windows as they are stored: ages before a point of the limits' own time, which goes on over restarts, since a
//! monotonic clock starts anew with every process. Every rounding makes history look younger, so a restored limiter is
//! never more generous. Nothing is rounded twice, though, however often windows are put away and loaded again: counts go
//! back into the bucket that they were in, the burst window's admissions are summed up in parts with fixed ends, all of it
//! in whole milliseconds, and within one process the monotonic clock says where that was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::limit::buckets::Buckets;
use crate::domain::limit::days::DayUsage;
use crate::domain::limit::figures::LimitFigures;
use crate::domain::limit::near::NearSnapshot;
use crate::domain::limit::ring::BurstRing;
use crate::domain::time::Timestamp;

/// Into how many parts of its window a burst ring is summed up for storing.
const RING_PARTS: u64 = 40;
/// What the minute counts is complete up to this age.
const MINUTE_US: u64 = 60_000_000;
/// The longest window of a limiter.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);

/// What a merchant's limiter needs to go on after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimiterSnapshot {
    /// Form of this record, [`LimiterSnapshot::VERSION`] when written by this program.
    pub version: u8,
    /// When it was made, by the limits' own time.
    pub saved_at: Timestamp,
    /// The tick in microseconds of the limiter that made it, which ages and phases count from: in whole milliseconds. Of
    /// use to the process that made it alone.
    #[serde(skip)]
    pub saved_tick: Option<u64>,
    /// How long after it was made that was, in microseconds; below 1000.
    #[serde(default)]
    pub saved_early_us: u32,
    /// Admissions in the burst window, newest first: age in milliseconds (that of the youngest) and how many.
    pub burst: Vec<(u32, u32)>,
    /// Every admission that is not in `burst` was at least so many microseconds old.
    #[serde(default)]
    pub burst_known_us: u32,
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

    /// One of a merchant of which everything is known at `saved_at`: that it has sent nothing.
    pub fn empty(saved_at: Timestamp) -> Self {
        Self {
            version: Self::VERSION,
            saved_at,
            saved_tick: None,
            saved_early_us: 0,
            burst: Vec::new(),
            burst_known_us: 0,
            minute: BucketsSnapshot::default(),
            hour: BucketsSnapshot::default(),
            days: Vec::new(),
            near: Vec::new(),
        }
    }

    /// Whether this program knows the form. What another form says of windows is not looked at.
    pub const fn is_known(&self) -> bool {
        self.version == Self::VERSION
    }

    /// What a snapshot of an unknown form may know of admissions.
    pub(super) fn unread(&self) -> UnseenSpan {
        UnseenSpan::all_before(self.saved_at)
    }

    /// Admissions before those in `burst`, as the longer windows know them, oldest first: the least age in microseconds
    /// that each can have, and how many. They had left the burst window, but a longer one would hold them again.
    pub(super) fn before_burst(&self) -> Vec<(u64, u32)> {
        let mut newest: u64 = self.burst.iter().map(|(_, count)| u64::from(*count)).sum();
        let mut before = Vec::new();
        let mut least_us = u64::from(self.burst_known_us);
        for (buckets, reach_us) in [(&self.minute, 0), (&self.hour, MINUTE_US)] {
            least_us = least_us.max(reach_us);
            let (mut skipped, mut counted) = (newest, 0);
            for (age_us, count) in buckets.ages() {
                let further = u64::from(count).saturating_sub(skipped);
                skipped = skipped.saturating_sub(u64::from(count));
                counted += u64::from(count);
                if further > 0 {
                    least_us = least_us.max(age_us);
                    before.push((least_us, u32::try_from(further).unwrap_or(u32::MAX)));
                }
            }
            newest = newest.max(counted);
        }
        before.reverse();
        before
    }
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

/// A span of the limits' own time in which admissions may have been made that no snapshot knows: from the last time that all
/// changed merchants were saved to the end of a process that did not stop cleanly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnseenSpan {
    /// Up to here the snapshots are complete.
    pub since: Timestamp,
    /// From here on nothing was admitted by the process that ended.
    pub until: Timestamp,
    /// Figures that may have been in force in it beside those that are now, the highest of each.
    #[serde(skip)]
    pub former: Option<LimitFigures>,
}

impl UnseenSpan {
    /// The span in which no other figures were in force than now.
    pub const fn new(since: Timestamp, until: Timestamp) -> Self {
        Self { since, until, former: None }
    }

    /// Everything before `until` that a window can still hold.
    pub fn all_before(until: Timestamp) -> Self {
        Self::new(until.minus(LONGEST_WINDOW), until)
    }

    /// Whether a merchant with this snapshot (or none) is charged for any of it.
    pub fn is_unknown_to(&self, snapshot: Option<&LimiterSnapshot>) -> bool {
        self.until > self.since && snapshot.is_none_or(|snapshot| snapshot.saved_at < self.until)
    }

    /// The part of the span that a snapshot made at `saved_at` does not know.
    pub(super) fn after(&self, saved_at: Timestamp) -> Self {
        Self { since: self.since.max(saved_at), ..*self }
    }
}

impl BucketsSnapshot {
    /// The youngest age that each bucket's admissions can have, in microseconds, and how many there are, newest first.
    fn ages(&self) -> impl Iterator<Item = (u64, u32)> {
        let (width_us, phase_us) = (u64::from(self.width_ms) * 1000, u64::from(self.phase_ms) * 1000);
        let age_us = move |index: u64| index.checked_sub(1).map_or(0, |whole| phase_us + whole * width_us);
        (0_u64..).zip(&self.counts).map(move |(index, count)| (age_us(index), *count))
    }
}

const MS_US: u64 = 1000;

fn millis(micros: u64) -> u32 {
    u32::try_from(micros / MS_US).unwrap_or(u32::MAX)
}

/// The tick that ages are counted from in a snapshot made at `now`.
pub(super) fn whole_ms(now: u64) -> u64 {
    now.next_multiple_of(MS_US)
}

/// The ages at `saved_tick` of the ring's admissions. Those in the same part of the window count as the latest of them.
pub(super) fn save_ring(ring: &BurstRing, saved_tick: u64) -> Vec<(u32, u32)> {
    let part_us = ring.window_us().div_ceil(RING_PARTS).max(1);
    let mut parts: Vec<(u32, u32)> = Vec::new();
    let mut part_before = None;
    for tick in ring.live_ticks() {
        let tick = whole_ms(tick);
        let part = Some(tick / part_us);
        match parts.last_mut() {
            Some((_, count)) if part == part_before => *count += 1,
            _ => parts.push((millis(saved_tick.saturating_sub(tick)), 1)),
        }
        part_before = part;
    }
    parts
}

/// How old every admission is at `saved_tick` at least that [`save_ring`] leaves out at `now`, in microseconds.
pub(super) fn ring_known_us(ring: &BurstRing, now: u64, saved_tick: u64) -> u32 {
    u32::try_from(ring.known_us(now) + (saved_tick - now)).unwrap_or(u32::MAX)
}

pub(super) fn save_buckets(buckets: &Buckets, saved_tick: u64) -> BucketsSnapshot {
    BucketsSnapshot {
        width_ms: millis(buckets.width_us()),
        phase_ms: millis(buckets.phase_us(saved_tick)),
        counts: buckets.newest_first().collect(),
    }
}

/// Puts saved counts into buckets that end when those that they were in did. In buckets of another width they come as late
/// as each of them can be.
pub(super) fn restore_buckets(buckets: &mut Buckets, snapshot: &BucketsSnapshot, saved_tick: u64, now: u64) {
    let (width_us, phase_us) = (u64::from(snapshot.width_ms) * MS_US, u64::from(snapshot.phase_ms) * MS_US);
    if width_us != buckets.width_us() {
        for (age_us, count) in snapshot.ages() {
            buckets.record(count, saved_tick.saturating_sub(age_us));
        }
        return;
    }
    let mut begins_at = whole_ms(saved_tick.saturating_sub(phase_us));
    buckets.begin_one_at(begins_at, now);
    for count in &snapshot.counts {
        buckets.record(*count, begins_at.min(now));
        begins_at = begins_at.saturating_sub(width_us);
    }
}
