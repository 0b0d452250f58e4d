//! A snapshot in few bytes, as it is kept in memory for a merchant that is not active: numbers of variable length,
//! counts as differences from their neighbours, and runs of equal ones as one. Only ever read by the process that wrote it.

use crate::domain::limit::days::{DayUsage, RefusedBy};
use crate::domain::limit::figures::Policy;
use crate::domain::limit::near::NearSnapshot;
use crate::domain::limit::snapshot::{BucketsSnapshot, LimiterSnapshot};
use crate::domain::time::Timestamp;

/// A [`LimiterSnapshot`] in some hundred bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedSnapshot {
    saved_at: Timestamp,
    saved_tick: Option<u64>,
    /// The last day with anything counted.
    last_day: Option<i32>,
    has_windows: bool,
    bytes: Box<[u8]>,
}

impl PackedSnapshot {
    /// Packs a snapshot; [`PackedSnapshot::unpack`] gives exactly the same again.
    pub fn pack(snapshot: &LimiterSnapshot) -> Self {
        let LimiterSnapshot {
            version,
            saved_at,
            saved_tick,
            saved_early_us,
            burst,
            burst_known_us,
            minute,
            hour,
            days,
            near,
        } = snapshot;
        let mut writer = Writer::default();
        writer.number(u64::from(*version));
        writer.number(u64::from(*saved_early_us));
        writer.number(u64::from(*burst_known_us));
        writer.differences(burst.iter().map(|(age_ms, _)| *age_ms));
        writer.differences(burst.iter().map(|(_, count)| *count));
        for buckets in [minute, hour] {
            writer.number(u64::from(buckets.width_ms));
            writer.number(u64::from(buckets.phase_ms));
            writer.differences(buckets.counts.iter().copied());
        }
        writer.number(days.len() as u64);
        let mut before = 0;
        for day in days {
            writer.difference(i64::from(day.day) - before);
            before = i64::from(day.day);
            writer.day(day);
        }
        writer.number(near.len() as u64);
        for one in near {
            writer.number((one.policy as u64) << 1 | u64::from(one.waiting));
            writer.number(u64::from(one.percent));
            writer.number(u64::from(one.silent_s));
        }
        let has_windows = !(burst.is_empty() && minute.counts.is_empty() && hour.counts.is_empty());
        Self {
            saved_at: *saved_at,
            saved_tick: *saved_tick,
            last_day: days.last().map(|day| day.day),
            has_windows,
            // Copied, as shrinking what has grown would keep its room.
            bytes: Box::from(writer.0.as_slice()),
        }
    }

    /// The snapshot.
    pub fn unpack(&self) -> LimiterSnapshot {
        let mut reader = Reader(&self.bytes);
        let version = u8::try_from(reader.number()).unwrap_or(u8::MAX);
        let saved_early_us = reader.small();
        let burst_known_us = reader.small();
        let ages_ms = reader.differences();
        let burst = ages_ms.into_iter().zip(reader.differences()).collect();
        let mut buckets =
            || BucketsSnapshot { width_ms: reader.small(), phase_ms: reader.small(), counts: reader.differences() };
        let (minute, hour) = (buckets(), buckets());
        let mut before = 0;
        let days = (0..reader.number())
            .map(|_| {
                before += reader.difference();
                reader.day(i32::try_from(before).unwrap_or(i32::MAX))
            })
            .collect();
        let near = (0..reader.number()).map(|_| reader.near()).collect();
        let Self { saved_at, saved_tick, .. } = *self;
        LimiterSnapshot {
            version,
            saved_at,
            saved_tick,
            saved_early_us,
            burst,
            burst_known_us,
            minute,
            hour,
            days,
            near,
        }
    }

    /// When the snapshot was made.
    pub const fn saved_at(&self) -> Timestamp {
        self.saved_at
    }

    /// The last day on which anything was counted, as days since 1970-01-01.
    pub const fn last_day(&self) -> Option<i32> {
        self.last_day
    }

    /// Whether any window has an admission in it.
    pub const fn has_windows(&self) -> bool {
        self.has_windows
    }

    /// The same with empty windows, for when all that they count is over.
    #[must_use]
    pub fn without_windows(&self) -> Self {
        let snapshot = self.unpack();
        let empty = |buckets: BucketsSnapshot| BucketsSnapshot { counts: Vec::new(), ..buckets };
        let (minute, hour) = (empty(snapshot.minute), empty(snapshot.hour));
        Self::pack(&LimiterSnapshot { burst: Vec::new(), minute, hour, ..snapshot })
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    /// Seven bits a byte, the lowest first; the eighth says that more follow.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push((number & 0x7f) as u8);
    }

    /// The sign in the lowest bit, so that what is near zero is short.
    fn difference(&mut self, difference: i64) {
        self.number((difference << 1 ^ difference >> 63).cast_unsigned());
    }

    /// How many there are, and each one's difference from the one before; behind a difference of zero how many more are
    /// the same.
    fn differences(&mut self, values: impl ExactSizeIterator<Item = u32>) {
        self.number(values.len() as u64);
        let mut before = 0;
        let mut values = values.map(i64::from).peekable();
        while let Some(value) = values.next() {
            self.difference(value - before);
            if value == before {
                let mut more = 0;
                while values.next_if_eq(&before).is_some() {
                    more += 1;
                }
                self.number(more);
            }
            before = value;
        }
    }

    fn day(&mut self, day: &DayUsage) {
        self.number(day.admitted);
        // In nearly every day these are what the next ones add up to.
        let refused = i128::from(day.refused) - i128::from(day.refused_by.total());
        let exact = i64::try_from(refused).ok().filter(|more| (-(1 << 62)..1 << 62).contains(more));
        self.number(u64::from(exact.is_none()));
        match exact {
            Some(more) => self.difference(more),
            None => self.number(day.refused),
        }
        for policy in Policy::ALL {
            self.number(day.refused_by.by(policy));
        }
        self.number(u64::from(day.peak_concurrency));
    }
}

/// What is missing reads as zero.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        while let Some((byte, rest)) = self.0.split_first() {
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 || shift > 63 {
                break;
            }
        }
        number
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number()).unwrap_or(u32::MAX)
    }

    fn difference(&mut self) -> i64 {
        let number = self.number();
        (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
    }

    fn differences(&mut self) -> Vec<u32> {
        let count = usize::try_from(self.number()).unwrap_or(0);
        let mut values = Vec::with_capacity(count);
        let mut value = 0;
        while values.len() < count {
            let difference = self.difference();
            value += difference;
            let more = if difference == 0 { usize::try_from(self.number()).unwrap_or(0) } else { 0 };
            let same = std::iter::repeat_n(u32::try_from(value).unwrap_or(u32::MAX), 1 + more);
            values.extend(same.take(count - values.len()));
        }
        values
    }

    fn day(&mut self, day: i32) -> DayUsage {
        let admitted = self.number();
        let is_whole = self.number() != 0;
        let (whole, more) = if is_whole { (self.number(), 0) } else { (0, self.difference()) };
        let mut refused_by = RefusedBy::default();
        for policy in Policy::ALL {
            refused_by.add(policy, self.number());
        }
        let refused = if is_whole { whole } else { refused_by.total().saturating_add_signed(more) };
        DayUsage { day, admitted, refused, refused_by, peak_concurrency: self.small() }
    }

    fn near(&mut self) -> NearSnapshot {
        let policy_and_waiting = self.number();
        let index = usize::try_from(policy_and_waiting >> 1).unwrap_or(0);
        NearSnapshot {
            policy: Policy::ALL.get(index).copied().unwrap_or(Policy::Second),
            percent: u8::try_from(self.number()).unwrap_or(u8::MAX),
            silent_s: self.small(),
            waiting: policy_and_waiting & 1 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![3 => 0_u64..3, 3 => 0_u64..5_000, 1 => any::<u64>(), 1 => Just(u64::MAX)]
    }

    fn small() -> impl Strategy<Value = u32> {
        prop_oneof![4 => 0_u32..3, 4 => 0_u32..5_000, 1 => any::<u32>(), 1 => Just(u32::MAX)]
    }

    fn buckets(count: usize) -> impl Strategy<Value = BucketsSnapshot> {
        (small(), small(), prop::collection::vec(small(), 0..count))
            .prop_map(|(width_ms, phase_ms, counts)| BucketsSnapshot { width_ms, phase_ms, counts })
    }

    fn day() -> impl Strategy<Value = DayUsage> {
        (any::<i32>(), number(), number(), (number(), number(), number(), number()), small()).prop_map(
            |(day, admitted, refused, (second, minute, hour, concurrency), peak_concurrency)| DayUsage {
                day,
                admitted,
                refused,
                refused_by: RefusedBy { second, minute, hour, concurrency },
                peak_concurrency,
            },
        )
    }

    fn near() -> impl Strategy<Value = NearSnapshot> {
        (0_usize..4, any::<u8>(), small(), any::<bool>()).prop_map(|(policy, percent, silent_s, waiting)| {
            NearSnapshot { policy: Policy::ALL[policy], percent, silent_s, waiting }
        })
    }

    fn snapshot() -> impl Strategy<Value = LimiterSnapshot> {
        let lists = (prop::collection::vec((small(), small()), 0..40), prop::collection::vec(day(), 0..30));
        let times = (any::<i64>(), prop::option::of(any::<u64>()), small());
        (times, small(), lists, buckets(61), buckets(241), prop::collection::vec(near(), 0..16)).prop_map(
            |((saved_at, saved_tick, saved_early_us), burst_known_us, (burst, days), minute, hour, near)| {
                LimiterSnapshot {
                    version: LimiterSnapshot::VERSION,
                    saved_at: Timestamp::from_unix_ms(saved_at),
                    saved_tick,
                    saved_early_us,
                    burst,
                    burst_known_us,
                    minute,
                    hour,
                    days,
                    near,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(snapshot in snapshot()) {
            let packed = PackedSnapshot::pack(&snapshot);
            prop_assert_eq!(packed.unpack(), snapshot.clone());
            prop_assert_eq!(packed.saved_at(), snapshot.saved_at);
            prop_assert_eq!(packed.last_day(), snapshot.days.last().map(|day| day.day));
            let trimmed = packed.without_windows();
            prop_assert!(!trimmed.has_windows());
            prop_assert_eq!(trimmed.unpack().days, snapshot.days);
            prop_assert_eq!(trimmed.unpack().near, snapshot.near);
        }
    }

    /// As of a busy merchant whose minutes differ a little, on thirty days.
    fn busy(per_hour: u32) -> LimiterSnapshot {
        let uneven = |mean: u32, count: u32| (0..count).map(|at| mean + at * 7919 % (mean / 8 + 2)).collect();
        let day = |day: i32| DayUsage {
            day,
            admitted: u64::from(per_hour) * 24,
            refused: 12_345,
            refused_by: RefusedBy { second: 12_000, hour: 345, ..RefusedBy::default() },
            peak_concurrency: 321,
        };
        LimiterSnapshot {
            version: LimiterSnapshot::VERSION,
            saved_at: Timestamp::from_unix_ms(1_737_715_200_000),
            saved_tick: None,
            saved_early_us: 345,
            burst: (0..40).map(|part| (part * 50, 25)).collect(),
            burst_known_us: 2_000_000,
            minute: BucketsSnapshot { width_ms: 1_000, phase_ms: 345, counts: uneven(per_hour / 3_600, 61) },
            hour: BucketsSnapshot { width_ms: 15_000, phase_ms: 5_345, counts: uneven(per_hour / 240, 241) },
            days: (20_000..20_030).map(day).collect(),
            near: Vec::new(),
        }
    }

    #[test]
    fn a_busy_merchants_snapshot_takes_a_kibibyte_and_an_idle_ones_less() {
        for (per_hour, busy_max, idle_max) in [(10_000, 900, 500), (500_000, 1_024, 500)] {
            let packed = PackedSnapshot::pack(&busy(per_hour));
            assert!(packed.has_windows() && packed.bytes.len() <= busy_max, "{} bytes", packed.bytes.len());
            let idle = packed.without_windows();
            assert!(idle.bytes.len() <= idle_max, "{} bytes", idle.bytes.len());
        }
    }
}
