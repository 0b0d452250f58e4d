//! Limits of clients by their addresses, in memory that is fixed from the start.
//!
//! An entry for each of so many clients: its admissions in conservative buckets (as those of a merchant's minute: no true
//! window ever holds more than `burst`, and an admission is given back up to one bucket late, which costs a client that
//! sends all it may a thirteenth at most), its failed authentications in a minute, and until when it is blocked for them.
//! Entries are found by a keyed hash and live in sets of eight; when a set is full, the entry that remembers least makes
//! room. So a client may be forgotten and begin anew, but it never pays for what others did, as it would where clients
//! share counters (a count-min sketch).
//!
//! Limits may change at any time. What is remembered then counts on: an entry is brought to the new buckets when it is next
//! looked at, each count as late as it may have been, so that the new window is never above its limit either.

use std::time::Duration;

use crate::domain::time::Monotonic;

/// Entries in one set: how many places are looked at for a client.
const WAYS: usize = 8;
/// Buckets of the window, and one more for the part of the oldest that is still inside.
const RATE_BUCKETS: u64 = 12;
const RATE_SLOTS: usize = RATE_BUCKETS as usize + 1;
/// Buckets of the minute in which failures are counted, and one more.
const FAILURE_SLOTS: usize = 7;
const FAILURE_BUCKET_US: u64 = 10_000_000;
const MICROS_PER_SECOND: u64 = 1_000_000;

/// Largest `burst`.
pub const ADDRESS_BURST_MAX: u32 = 60_000;
/// Lengths of buckets in which entries may be at the same time; with more changes than that all are brought to one.
const LAYOUTS_MAX: usize = 256;

/// Most failures in a minute that can be allowed.
pub const ADDRESS_FAILURES_MAX: u32 = 250;

/// What one client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    burst: u16,
    bucket_us: u64,
    failures_max: u8,
    block: Duration,
}

impl AddressLimits {
    /// At most `burst` requests (1 to [`ADDRESS_BURST_MAX`]) in `burst / per_second` seconds; after `failures_max` failed
    /// authentications (1 to [`ADDRESS_FAILURES_MAX`]) in a minute, none for as long as `block`. What is out of range is
    /// brought into it.
    pub fn new(per_second: u32, burst: u32, failures_max: u32, block: Duration) -> Self {
        let burst = burst.clamp(1, ADDRESS_BURST_MAX);
        let window_us = (u64::from(burst) * MICROS_PER_SECOND).div_ceil(u64::from(per_second.max(1)));
        Self {
            burst: u16::try_from(burst).unwrap_or(u16::MAX),
            bucket_us: window_us.div_ceil(RATE_BUCKETS).max(1),
            failures_max: u8::try_from(failures_max.clamp(1, ADDRESS_FAILURES_MAX)).unwrap_or(u8::MAX),
            block,
        }
    }
}

/// What is remembered of one client.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The hash of the client; 0 for none.
    key: u64,
    /// The rate's bucket that was current when the entry was last looked at.
    rate_bucket: u64,
    blocked_until_us: u64,
    /// The same for failures.
    failure_bucket: u32,
    /// Admissions by bucket, which stands at its number modulo the length.
    rate: [u16; RATE_SLOTS],
    failures: [u8; FAILURE_SLOTS],
    /// Which of the table's lengths its rate's buckets have.
    layout: u8,
}

/// Bytes of one entry; four MiB for the 65,536 of the default.
pub const ADDRESS_ENTRY_BYTES: usize = size_of::<Entry>();
const _: () = assert!(ADDRESS_ENTRY_BYTES <= 64);

impl Entry {
    const EMPTY: Self = Self {
        key: 0,
        rate_bucket: 0,
        blocked_until_us: 0,
        failure_bucket: 0,
        rate: [0; RATE_SLOTS],
        failures: [0; FAILURE_SLOTS],
        layout: 0,
    };

    /// Moves on to `now_us`. A reading from before the last one changes nothing: what is counted then is counted late.
    fn advance(&mut self, now_us: u64, bucket_us: u64) {
        let rate_bucket = now_us / bucket_us;
        clear(&mut self.rate, self.rate_bucket, rate_bucket);
        self.rate_bucket = self.rate_bucket.max(rate_bucket);
        let failure_bucket = now_us / FAILURE_BUCKET_US;
        clear(&mut self.failures, u64::from(self.failure_bucket), failure_bucket);
        self.failure_bucket = self.failure_bucket.max(u32::try_from(failure_bucket).unwrap_or(u32::MAX));
    }

    /// Brings the admissions from buckets of `from_us` to buckets of `to_us`, none to an earlier time than it may have been at.
    fn lay_out(&mut self, from_us: u64, to_us: u64, now_us: u64) {
        if from_us == to_us {
            return;
        }
        let end_of = |bucket: u64| (bucket + 1).saturating_mul(from_us) - 1;
        let seen_us = self.rate_bucket.saturating_mul(from_us);
        let last_us = end_of(self.rate_bucket).min(now_us).max(seen_us);
        let (slots, last) = (RATE_SLOTS as u64, last_us / to_us);
        let mut rate = [0_u16; RATE_SLOTS];
        for bucket in (self.rate_bucket + 1).saturating_sub(slots)..=self.rate_bucket {
            let at = end_of(bucket).min(last_us) / to_us;
            if at + slots > last {
                let slot = &mut rate[slot_of(at, RATE_SLOTS)];
                *slot = slot.saturating_add(self.rate[slot_of(bucket, RATE_SLOTS)]);
            }
        }
        (self.rate, self.rate_bucket) = (rate, last);
    }

    fn admissions(&self) -> u64 {
        self.rate.iter().copied().map(u64::from).sum()
    }

    fn failed(&self) -> u64 {
        self.failures.iter().copied().map(u64::from).sum()
    }

    /// How long until so many of the oldest admissions are given back that there are less than `burst`: one of them, or
    /// more when the limit was lowered below what is used.
    fn wait_us(&self, burst: u64, now_us: u64, bucket_us: u64) -> u64 {
        let slots = RATE_SLOTS as u64;
        let first = (self.rate_bucket + 1).saturating_sub(slots);
        let mut left = self.admissions();
        let fits = (first..=self.rate_bucket).find(|bucket| {
            left = left.saturating_sub(u64::from(self.rate[slot_of(*bucket, RATE_SLOTS)]));
            left < burst
        });
        let leaves_us = fits.map_or(0, |bucket| (bucket + slots).saturating_mul(bucket_us));
        leaves_us.saturating_sub(now_us)
    }

    /// How much would be lost with it: a block, failures, admissions, and how lately it was seen, in this order.
    fn worth(mut self, now_us: u64, own_bucket_us: u64, bucket_us: u64) -> (u64, u64, u64, u64) {
        let seen = self.rate_bucket.saturating_mul(own_bucket_us);
        self.lay_out(own_bucket_us, bucket_us, now_us);
        self.advance(now_us, bucket_us);
        let blocked_until_us = if self.blocked_until_us > now_us { self.blocked_until_us } else { 0 };
        (blocked_until_us, self.failed(), self.admissions(), seen)
    }
}

/// Clears the slots of the buckets after `from` up to `to`; after a gap of any length each slot once.
fn clear<T: Default>(slots: &mut [T], from: u64, to: u64) {
    let cleared = to.saturating_sub(from).min(slots.len() as u64);
    for step in 1..=cleared {
        slots[slot_of(from + step, slots.len())] = T::default();
    }
}

fn slot_of(bucket: u64, slots: usize) -> usize {
    usize::try_from(bucket % slots as u64).unwrap_or(0)
}

/// The length of buckets behind its number, which is always one of them.
fn length_of(layouts: &[u64], layout: u8) -> u64 {
    layouts.get(usize::from(layout)).copied().unwrap_or(1)
}

/// The clients that are remembered. Readings should not go back; one that does counts as the latest before it.
#[derive(Clone, Debug)]
pub struct AddressTable {
    limits: AddressLimits,
    /// The lengths of buckets in which entries may be, in microseconds.
    layouts: Vec<u64>,
    /// Which of them the limits in force have.
    layout: u8,
    sets: usize,
    entries: Vec<Entry>,
}

impl AddressTable {
    /// Remembers `addresses_max` clients, rounded up to whole sets. All memory is taken here.
    pub fn new(limits: AddressLimits, addresses_max: usize) -> Self {
        let sets = addresses_max.div_ceil(WAYS).max(1);
        Self { limits, layouts: vec![limits.bucket_us], layout: 0, sets, entries: vec![Entry::EMPTY; sets * WAYS] }
    }

    /// Lets other limits hold from now on. What was counted stays: it counts in the window of the new limits as far as it was
    /// in that of the old ones, blocks end when it was said, and failures count on. Nothing is done for each client here.
    pub fn put_in_force(&mut self, limits: AddressLimits, now: Monotonic) {
        if limits == self.limits {
            return;
        }
        self.limits = limits;
        let known = self.layouts.iter().position(|bucket_us| *bucket_us == limits.bucket_us);
        let place = known.unwrap_or_else(|| self.add_layout(now.micros()));
        self.layout = u8::try_from(place).unwrap_or_default();
    }

    /// Adds the length of the limits in force. Once there is no number left for it, all entries are brought to it.
    fn add_layout(&mut self, now_us: u64) -> usize {
        let bucket_us = self.limits.bucket_us;
        if self.layouts.len() >= LAYOUTS_MAX {
            for entry in &mut self.entries {
                entry.lay_out(length_of(&self.layouts, entry.layout), bucket_us, now_us);
                entry.layout = 0;
            }
            self.layouts.clear();
        }
        self.layouts.push(bucket_us);
        self.layouts.len() - 1
    }

    /// Counts a request of a client, or refuses it, which counts nothing.
    ///
    /// # Errors
    /// How long to wait; a client that does is admitted, unless it has sent others in the meantime.
    pub fn admit(&mut self, key: u64, now: Monotonic) -> Result<(), Duration> {
        let (burst, bucket_us, now_us) = (u64::from(self.limits.burst), self.limits.bucket_us, now.micros());
        let entry = self.entry(key, now_us);
        if entry.admissions() >= burst {
            return Err(Duration::from_micros(entry.wait_us(burst, now_us, bucket_us)));
        }
        entry.rate[slot_of(entry.rate_bucket, RATE_SLOTS)] += 1;
        Ok(())
    }

    /// How long the client is still blocked, if it is.
    pub fn blocked_for(&self, key: u64, now: Monotonic) -> Option<Duration> {
        let key = key.max(1);
        let entry = self.set(key).iter().find(|entry| entry.key == key)?;
        let left_us = entry.blocked_until_us.saturating_sub(now.micros());
        (left_us > 0).then(|| Duration::from_micros(left_us))
    }

    /// Counts a failed authentication; says whether the client is blocked for it from now on. What fails while it is
    /// blocked, because it was under way already, counts nothing.
    pub fn note_failure(&mut self, key: u64, now: Monotonic) -> bool {
        let (limits, now_us) = (self.limits, now.micros());
        let entry = self.entry(key, now_us);
        if entry.blocked_until_us > now_us {
            return false;
        }
        let slot = slot_of(u64::from(entry.failure_bucket), FAILURE_SLOTS);
        entry.failures[slot] = entry.failures[slot].saturating_add(1);
        if entry.failed() < u64::from(limits.failures_max) {
            return false;
        }
        entry.blocked_until_us = now.plus(limits.block).micros();
        entry.failures = [0; FAILURE_SLOTS];
        true
    }

    /// Where the set of a client begins.
    fn begin_of_set(&self, key: u64) -> usize {
        let set = (u128::from(key) * self.sets as u128) >> 64;
        usize::try_from(set).unwrap_or(0) * WAYS
    }

    fn set(&self, key: u64) -> &[Entry] {
        let begin = self.begin_of_set(key);
        &self.entries[begin..begin + WAYS]
    }

    /// The client's entry as it stands now; a new one takes the place of the least in its set.
    fn entry(&mut self, key: u64, now_us: u64) -> &mut Entry {
        let key = key.max(1);
        let (bucket_us, layout) = (self.limits.bucket_us, self.layout);
        let set = self.set(key);
        let known = set.iter().position(|entry| entry.key == key);
        let worth = |place: usize| {
            let entry = set[place];
            entry.worth(now_us, length_of(&self.layouts, entry.layout), bucket_us)
        };
        let least = || (0..WAYS).min_by_key(|place| worth(*place)).unwrap_or(0);
        let place = self.begin_of_set(key) + known.unwrap_or_else(least);
        let entry = &mut self.entries[place];
        if known.is_none() {
            *entry = Entry { key, ..Entry::EMPTY };
        } else {
            entry.lay_out(length_of(&self.layouts, entry.layout), bucket_us, now_us);
        }
        entry.layout = layout;
        entry.advance(now_us, bucket_us);
        entry
    }
}

#[cfg(test)]
mod tests;
