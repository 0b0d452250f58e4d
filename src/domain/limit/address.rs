//! Limits of clients by their addresses, in memory that is fixed from the start.
//!
//! An entry for each of so many clients: its admissions in conservative buckets, its failed authentications in a minute, and
//! until when it is blocked for them.
//!
//! No true window ever holds more than `burst`, since an admission is never given back early, and up to one bucket late at
//! the most. Each bucket remembers when its last admission came, and how far behind the advertised pace they were
//! ([`Entry::late`], [`Entry::last`]): they leave one by one at that pace, and all with the last. So a client that
//! spreads evenly what it may send is hardly ever an admission behind, and one that sends it in heaps less than a heap.
//!
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
/// Buckets of the window, and one more for the part of the oldest that is still inside. As many as two lines of a
/// processor's cache have room for.
const RATE_BUCKETS: u64 = 22;
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
    pace: Pace,
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
            pace: Pace { burst: u64::from(burst), bucket_us: window_us.div_ceil(RATE_BUCKETS).max(1) },
            failures_max: u8::try_from(failures_max.clamp(1, ADDRESS_FAILURES_MAX)).unwrap_or(u8::MAX),
            block,
        }
    }
}

/// The rate: at most `burst` in [`RATE_BUCKETS`] buckets of `bucket_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    burst: u64,
    bucket_us: u64,
}

impl Pace {
    const fn window_us(&self) -> u64 {
        self.bucket_us * RATE_BUCKETS
    }

    /// How long so many admissions take at the advertised rate, rounded up.
    const fn lasts_us(&self, admissions: u64) -> u64 {
        admissions.saturating_mul(self.window_us()).div_ceil(self.burst)
    }

    /// How many admissions begin within so long at the advertised rate, the first of them at once.
    const fn begin_in(&self, elapsed_us: u64) -> u64 {
        elapsed_us.saturating_mul(self.burst) / self.window_us() + 1
    }

    /// A time within a bucket as a part of it, rounded up.
    fn part(&self, offset_us: u64) -> u8 {
        let parts = offset_us.saturating_mul(LATE_PARTS).div_ceil(self.bucket_us);
        u8::try_from(parts).unwrap_or(u8::MAX)
    }

    /// The time of such a part, rounded up.
    fn offset_us(&self, part: u8) -> u64 {
        (u64::from(part) * self.bucket_us).div_ceil(LATE_PARTS)
    }
}

/// In how many parts of a bucket [`Entry::late`] and [`Entry::last`] are counted.
const LATE_PARTS: u64 = u8::MAX as u64;

/// The admissions of one bucket.
#[derive(Clone, Copy)]
struct Bucket {
    begin_us: u64,
    admissions: u64,
    late: u8,
    last: u8,
}

impl Bucket {
    /// When the admission before which there were `before` in this bucket leaves the window; never earlier than in truth.
    fn leaves_us(&self, before: u64, pace: &Pace) -> u64 {
        let offset_us = pace.offset_us(self.late).saturating_add(pace.lasts_us(before)).min(pace.offset_us(self.last));
        self.begin_us.saturating_add(offset_us).saturating_add(pace.window_us())
    }

    /// How many have left by now.
    fn left(&self, now_us: u64, pace: &Pace) -> u64 {
        let Some(elapsed_us) = now_us.checked_sub(self.leaves_us(0, pace)) else { return 0 };
        if pace.offset_us(self.late).saturating_add(elapsed_us) >= pace.offset_us(self.last) {
            return self.admissions;
        }
        pace.begin_in(elapsed_us).min(self.admissions)
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
    /// By bucket: the most that one of its admissions came later than it would have at the advertised rate, had the first
    /// come as the bucket began. In parts of a bucket.
    late: [u8; RATE_SLOTS],
    /// By bucket: when the last came, in parts of a bucket.
    last: [u8; RATE_SLOTS],
    failures: [u8; FAILURE_SLOTS],
    /// Which of the table's lengths its rate's buckets have.
    layout: u8,
}

/// Bytes of one entry; eight MiB for the 65,536 of the default.
pub const ADDRESS_ENTRY_BYTES: usize = size_of::<Entry>();
const _: () = assert!(ADDRESS_ENTRY_BYTES <= 128);

impl Entry {
    const EMPTY: Self = Self {
        key: 0,
        rate_bucket: 0,
        blocked_until_us: 0,
        failure_bucket: 0,
        rate: [0; RATE_SLOTS],
        late: [0; RATE_SLOTS],
        last: [0; RATE_SLOTS],
        failures: [0; FAILURE_SLOTS],
        layout: 0,
    };

    /// Moves on to `now_us`. A reading from before the last one changes nothing: what is counted then is counted late.
    fn advance(&mut self, now_us: u64, bucket_us: u64) {
        let rate_bucket = now_us / bucket_us;
        clear(&mut self.rate, self.rate_bucket, rate_bucket);
        clear(&mut self.late, self.rate_bucket, rate_bucket);
        clear(&mut self.last, self.rate_bucket, rate_bucket);
        self.rate_bucket = self.rate_bucket.max(rate_bucket);
        let failure_bucket = now_us / FAILURE_BUCKET_US;
        clear(&mut self.failures, u64::from(self.failure_bucket), failure_bucket);
        self.failure_bucket = self.failure_bucket.max(u32::try_from(failure_bucket).unwrap_or(u32::MAX));
    }

    /// Brings the admissions from buckets of one pace to those of another, none to an earlier time than it may have been at.
    fn lay_out(&mut self, from: &Pace, to: &Pace, now_us: u64) {
        if from == to {
            return;
        }
        let end_of = |bucket: u64| (bucket + 1).saturating_mul(from.bucket_us) - 1;
        let seen_us = self.rate_bucket.saturating_mul(from.bucket_us);
        let last_us = end_of(self.rate_bucket).min(now_us).max(seen_us);
        let (slots, last) = (RATE_SLOTS as u64, last_us / to.bucket_us);
        let mut rate = [0_u16; RATE_SLOTS];
        for bucket in (self.rate_bucket + 1).saturating_sub(slots)..=self.rate_bucket {
            let at = end_of(bucket).min(last_us) / to.bucket_us;
            if at + slots > last {
                let slot = &mut rate[slot_of(at, RATE_SLOTS)];
                *slot = slot.saturating_add(self.rate[slot_of(bucket, RATE_SLOTS)]);
            }
        }
        (self.rate, self.rate_bucket) = (rate, last);
        // How they lie within the new ones is not known: as late as can be.
        self.late = rate.map(|admissions| if admissions > 0 { u8::MAX } else { 0 });
        self.last = self.late;
    }

    /// The buckets that may hold admissions, oldest first.
    fn buckets(&self, pace: Pace) -> impl Iterator<Item = Bucket> {
        let first = (self.rate_bucket + 1).saturating_sub(RATE_SLOTS as u64);
        (first..=self.rate_bucket).map(move |bucket| {
            let slot = slot_of(bucket, RATE_SLOTS);
            let begin_us = bucket.saturating_mul(pace.bucket_us);
            Bucket { begin_us, admissions: u64::from(self.rate[slot]), late: self.late[slot], last: self.last[slot] }
        })
    }

    /// Admissions that count.
    fn admissions(&self, now_us: u64, pace: &Pace) -> u64 {
        let counted: u64 = self.rate.iter().copied().map(u64::from).sum();
        // Of the others nothing can have left.
        let left = self.buckets(*pace).next().map_or(0, |oldest| oldest.left(now_us, pace));
        counted - left
    }

    /// Counts an admission.
    fn count(&mut self, now_us: u64, pace: &Pace) {
        let slot = slot_of(self.rate_bucket, RATE_SLOTS);
        let offset_us = now_us.saturating_sub(self.rate_bucket.saturating_mul(pace.bucket_us));
        let late_us = offset_us.saturating_sub(pace.lasts_us(u64::from(self.rate[slot])));
        self.late[slot] = self.late[slot].max(pace.part(late_us));
        self.last[slot] = self.last[slot].max(pace.part(offset_us));
        self.rate[slot] = self.rate[slot].saturating_add(1);
    }

    fn failed(&self) -> u64 {
        self.failures.iter().copied().map(u64::from).sum()
    }

    /// How long until so many of the oldest admissions are given back that there are less than `burst`: one of them, or
    /// more when the limit was lowered below what is used.
    fn wait_us(&self, now_us: u64, pace: &Pace) -> u64 {
        let mut wanted = (self.admissions(now_us, pace) + 1).saturating_sub(pace.burst);
        for bucket in self.buckets(*pace) {
            let left = bucket.left(now_us, pace);
            let inside = bucket.admissions - left;
            if wanted <= inside {
                return bucket.leaves_us((left + wanted).saturating_sub(1), pace).saturating_sub(now_us);
            }
            wanted -= inside;
        }
        0
    }

    /// How much would be lost with it: a block, failures, admissions, and how lately it was seen, in this order.
    fn worth(mut self, now_us: u64, own: &Pace, pace: &Pace) -> (u64, u64, u64, u64) {
        let seen = self.rate_bucket.saturating_mul(own.bucket_us);
        self.lay_out(own, pace, now_us);
        self.advance(now_us, pace.bucket_us);
        let blocked_until_us = if self.blocked_until_us > now_us { self.blocked_until_us } else { 0 };
        (blocked_until_us, self.failed(), self.admissions(now_us, pace), seen)
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

/// The pace behind its number, which is always one of them.
fn pace_of(layouts: &[Pace], layout: u8, in_force: &Pace) -> Pace {
    layouts.get(usize::from(layout)).copied().unwrap_or(*in_force)
}

/// The clients that are remembered. Readings should not go back; one that does counts as the latest before it.
#[derive(Clone, Debug)]
pub struct AddressTable {
    limits: AddressLimits,
    /// The lengths of buckets in which entries may be, in microseconds.
    layouts: Vec<Pace>,
    /// Which of them the limits in force have.
    layout: u8,
    sets: usize,
    entries: Vec<Entry>,
}

impl AddressTable {
    /// Remembers `addresses_max` clients, rounded up to whole sets. All memory is taken here.
    pub fn new(limits: AddressLimits, addresses_max: usize) -> Self {
        let sets = addresses_max.div_ceil(WAYS).max(1);
        Self { limits, layouts: vec![limits.pace], layout: 0, sets, entries: vec![Entry::EMPTY; sets * WAYS] }
    }

    /// Lets other limits hold from now on. What was counted stays: it counts in the window of the new limits as far as it was
    /// in that of the old ones, blocks end when it was said, and failures count on. Nothing is done for each client here.
    pub fn put_in_force(&mut self, limits: AddressLimits, now: Monotonic) {
        if limits == self.limits {
            return;
        }
        self.limits = limits;
        let known = self.layouts.iter().position(|pace| *pace == limits.pace);
        let place = known.unwrap_or_else(|| self.add_layout(now.micros()));
        self.layout = u8::try_from(place).unwrap_or_default();
    }

    /// Adds the length of the limits in force. Once there is no number left for it, all entries are brought to it.
    fn add_layout(&mut self, now_us: u64) -> usize {
        let pace = self.limits.pace;
        if self.layouts.len() >= LAYOUTS_MAX {
            for entry in &mut self.entries {
                entry.lay_out(&pace_of(&self.layouts, entry.layout, &pace), &pace, now_us);
                entry.layout = 0;
            }
            self.layouts.clear();
        }
        self.layouts.push(pace);
        self.layouts.len() - 1
    }

    /// Counts a request of a client, or refuses it, which counts nothing.
    ///
    /// # Errors
    /// How long to wait; a client that does is admitted, unless it has sent others in the meantime.
    pub fn admit(&mut self, key: u64, now: Monotonic) -> Result<(), Duration> {
        let (pace, now_us) = (self.limits.pace, now.micros());
        let entry = self.entry(key, now_us);
        if entry.admissions(now_us, &pace) >= pace.burst {
            return Err(Duration::from_micros(entry.wait_us(now_us, &pace)));
        }
        entry.count(now_us, &pace);
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
        let (pace, layout) = (self.limits.pace, self.layout);
        let set = self.set(key);
        let known = set.iter().position(|entry| entry.key == key);
        let worth = |place: usize| {
            let entry = set[place];
            entry.worth(now_us, &pace_of(&self.layouts, entry.layout, &pace), &pace)
        };
        let least = || (0..WAYS).min_by_key(|place| worth(*place)).unwrap_or(0);
        let place = self.begin_of_set(key) + known.unwrap_or_else(least);
        let entry = &mut self.entries[place];
        if known.is_none() {
            *entry = Entry { key, ..Entry::EMPTY };
        } else {
            entry.lay_out(&pace_of(&self.layouts, entry.layout, &pace), &pace, now_us);
        }
        entry.layout = layout;
        entry.advance(now_us, pace.bucket_us);
        entry
    }
}

#[cfg(test)]
mod tests;
