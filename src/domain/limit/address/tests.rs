//! Clients against an exact log: no true window above its limit, and nobody pays for others.

use proptest::prelude::*;

use super::*;

const MINUTE_US: u64 = 60 * MICROS_PER_SECOND;
const BLOCK: Duration = Duration::from_secs(60);
/// 6 in any 1.5 s.
const PER_SECOND: u32 = 4;
const BURST: u32 = 6;
const WINDOW_US: u64 = 1_500_000;

fn limits() -> AddressLimits {
    AddressLimits::new(PER_SECOND, BURST, 10, BLOCK)
}

fn at_us(micros: u64) -> Monotonic {
    Monotonic::from_micros(micros)
}

fn at_s(seconds: u64) -> Monotonic {
    at_us(seconds * MICROS_PER_SECOND)
}

/// A table of one set.
fn one_set() -> AddressTable {
    AddressTable::new(limits(), WAYS)
}

/// Keys that are spread over all sets, as hashes are.
fn key_of(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn block(table: &mut AddressTable, key: u64, now: Monotonic) {
    for _ in 0..9 {
        assert!(!table.note_failure(key, now));
    }
    assert!(table.note_failure(key, now), "the tenth");
}

/// Times at which somebody asks: bursts, gaps around the bucket and the window, long pauses.
fn trace() -> impl Strategy<Value = Vec<u64>> {
    let bucket_us = limits().pace.bucket_us;
    let gap = prop_oneof![
        4 => Just(0),
        4 => 0..bucket_us * 2,
        2 => (bucket_us - 2)..(bucket_us + 2),
        2 => (WINDOW_US - 2)..(WINDOW_US + 2),
        1 => 0..10 * WINDOW_US,
        1 => (MINUTE_US - 2)..(MINUTE_US + 2),
    ];
    prop::collection::vec(gap, 1..300)
}

/// Rate and burst with fewer, as many and more admissions than there are buckets, and with parts that don't come out even.
const FIGURES: [(u32, u32); 6] = [(4, 6), (200, 400), (7, 7), (3, 29), (1, 120), (997, 1_009)];

/// Gaps in thousandths of a bucket (heaps, an even pace, pauses), with how often each comes.
fn rhythm() -> impl Strategy<Value = Vec<(u64, usize)>> {
    let gap = prop_oneof![4 => Just(0), 4 => 0..300_u64, 2 => 300..2_500_u64, 1 => 2_500..70_000_u64];
    prop::collection::vec((gap, 1..80_usize), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_figures_and_the_rhythm_no_true_window_holds_more_than_the_burst(
        start_us in 0..100 * WINDOW_US, figures in 0..FIGURES.len(), rhythm in rhythm(),
    ) {
        let (per_second, burst) = FIGURES[figures];
        let limits = AddressLimits::new(per_second, burst, 10, BLOCK);
        let window_us = u64::from(burst) * MICROS_PER_SECOND / u64::from(per_second);
        let mut table = AddressTable::new(limits, WAYS);
        let mut now_us = start_us;
        let mut log: Vec<u64> = Vec::new();
        for gap in rhythm.iter().flat_map(|(gap, times)| std::iter::repeat_n(*gap, *times)) {
            now_us += gap * limits.pace.bucket_us / 1_000;
            match table.admit(7, at_us(now_us)) {
                Ok(()) => log.push(now_us),
                Err(wait) => {
                    let wait_us = u64::try_from(wait.as_micros()).unwrap();
                    prop_assert!(wait_us > 0 && wait_us <= window_us + 2 * limits.pace.bucket_us);
                    let mut patient = table.clone();
                    prop_assert!(patient.admit(7, at_us(now_us + wait_us)).is_ok(), "who waits as told is admitted");
                    let inside = log.iter().rev().take_while(|at| **at + window_us + limits.pace.bucket_us > now_us).count();
                    prop_assert!(inside >= burst as usize, "refused with {inside} in the window and a bucket");
                }
            }
        }
        for (place, first_us) in log.iter().enumerate() {
            let inside = log[place..].iter().take_while(|at| **at < first_us + window_us).count();
            prop_assert!(inside <= burst as usize, "{inside} from {first_us} on");
        }
    }

    #[test]
    fn no_true_window_holds_more_than_the_burst(start_us in 0..100 * WINDOW_US, gaps in trace()) {
        let mut table = one_set();
        let mut now_us = start_us;
        let mut log: Vec<u64> = Vec::new();
        for gap_us in gaps {
            now_us += gap_us;
            match table.admit(7, at_us(now_us)) {
                Ok(()) => log.push(now_us),
                Err(wait) => {
                    let wait_us = u64::try_from(wait.as_micros()).unwrap();
                    prop_assert!(wait_us > 0 && wait_us <= WINDOW_US + 2 * limits().pace.bucket_us);
                    let mut patient = table.clone();
                    prop_assert!(patient.admit(7, at_us(now_us + wait_us)).is_ok(), "who waits as told is admitted");
                }
            }
        }
        for (place, first_us) in log.iter().enumerate() {
            let inside = log[place..].iter().take_while(|at| **at < first_us + WINDOW_US).count();
            prop_assert!(inside <= BURST as usize, "{inside} from {first_us} on");
        }
    }

    #[test]
    fn no_minute_holds_more_failures_than_allowed(start_us in 0..MINUTE_US, gaps in trace()) {
        let mut table = one_set();
        let mut now_us = start_us;
        let mut log: Vec<u64> = Vec::new();
        for gap_us in gaps {
            now_us += gap_us * 20;
            if table.blocked_for(7, at_us(now_us)).is_none() {
                table.note_failure(7, at_us(now_us));
                log.push(now_us);
            }
        }
        for (place, first_us) in log.iter().enumerate() {
            let inside = log[place..].iter().take_while(|at| **at < first_us + MINUTE_US).count();
            prop_assert!(inside <= 10, "{inside} from {first_us} on");
        }
    }
}

#[test]
fn a_client_that_keeps_to_twelve_thirteenths_is_never_refused() {
    let mut table = AddressTable::new(AddressLimits::new(200, 400, 10, BLOCK), WAYS);
    let pace_us = 2_000_000 * 13 / 12 / 400 + 2;
    for number in 0..20_000 {
        assert_eq!(table.admit(7, at_us(number * pace_us)), Ok(()), "request {number}");
    }
    let mut fresh = AddressTable::new(AddressLimits::new(200, 400, 10, BLOCK), WAYS);
    assert_eq!((0..1_000).filter(|_| fresh.admit(7, at_s(5)).is_ok()).count(), 400, "the burst passes at once");
}

/// How many of so many requests are refused that come `per_second` in a second, each up to `late_us` late.
fn refused_at(per_second: u64, start_us: u64, late_us: u64) -> usize {
    let mut table = AddressTable::new(AddressLimits::new(200, 400, 10, BLOCK), WAYS);
    let random = crate::random::Random::seeded(start_us);
    let refused = |number: &u64| {
        let late = if late_us == 0 { 0 } else { random.draw_u64() % late_us };
        table.admit(7, at_us(start_us + number * MICROS_PER_SECOND / per_second + late)).is_err()
    };
    (0..8_000).filter(refused).count()
}

#[test]
fn a_client_that_paces_itself_within_the_rate_is_never_refused() {
    for start_us in [0, 1, 33_333, 90_910, 1_234_567, 99_999_999] {
        for per_second in [100, 185, 190, 195, 198, 199] {
            assert_eq!(refused_at(per_second, start_us, 0), 0, "{per_second} a second from {start_us} on");
        }
        // At the rate itself an even pace leaves no microsecond to spare; an admission may be given back a part late.
        assert!(refused_at(200, start_us, 0) <= 8_000 / 400, "from {start_us} on");
        // On a network nothing is even: 20 ms are four requests.
        assert_eq!(refused_at(190, start_us, 20_000), 0, "from {start_us} on");
        assert!(refused_at(210, start_us, 0) >= 8_000 / 30, "what is above the rate is refused");
    }
}

/// Several small heaps in one bucket look like an even pace, which costs a heap at most.
#[test]
fn a_client_that_sends_in_heaps_loses_less_than_a_heap() {
    for (heap, per_second) in [(2, 199), (5, 197), (10, 195), (20, 199), (40, 199), (100, 199), (400, 199)] {
        let mut table = AddressTable::new(AddressLimits::new(200, 400, 10, BLOCK), WAYS);
        for number in 0..8_000 {
            let now = at_us(12_345 + number / heap * heap * MICROS_PER_SECOND / per_second);
            assert_eq!(table.admit(7, now), Ok(()), "request {number} in heaps of {heap}");
        }
    }
}

#[test]
fn a_refusal_counts_nothing() {
    let mut table = one_set();
    for _ in 0..BURST {
        assert_eq!(table.admit(7, at_s(1)), Ok(()));
    }
    for _ in 0..1_000 {
        assert!(table.admit(7, at_s(1)).is_err());
    }
    let wait = table.admit(7, at_s(1)).unwrap_err();
    for _ in 0..BURST {
        assert_eq!(table.admit(7, at_s(1).plus(wait)), Ok(()));
    }
}

#[test]
fn a_reading_from_before_the_last_is_counted_as_the_last() {
    let mut table = one_set();
    for number in 0..BURST {
        let now = if number % 2 == 0 { at_s(100) } else { at_s(40) };
        assert_eq!(table.admit(7, now), Ok(()));
    }
    assert!(table.admit(7, at_s(40)).is_err());
    assert!(table.admit(7, at_us(100 * MICROS_PER_SECOND + WINDOW_US - 1)).is_err());
}

#[test]
fn ten_failures_within_a_minute_block_for_the_time_of_the_block() {
    let mut table = one_set();
    for number in 0..30 {
        assert!(!table.note_failure(7, at_s(number * 8)), "nine in any seventy seconds are allowed");
    }
    let mut table = one_set();
    block(&mut table, 7, at_s(100));
    assert_eq!(table.blocked_for(7, at_s(100)), Some(BLOCK));
    assert_eq!(table.blocked_for(8, at_s(100)), None, "nobody else is");
    assert_eq!(table.blocked_for(7, at_s(159)), Some(Duration::from_secs(1)));
    // What was under way already neither lengthens nor repeats it.
    assert!((0..50).all(|_| !table.note_failure(7, at_s(150))));
    assert_eq!(table.blocked_for(7, at_s(160)), None);
    assert!((0..9).all(|_| !table.note_failure(7, at_s(160))), "it begins anew");
    assert!(table.note_failure(7, at_s(160)));
}

#[test]
fn a_block_is_not_about_the_rate() {
    let mut table = one_set();
    block(&mut table, 7, at_s(1));
    assert_eq!(table.admit(7, at_s(1)), Ok(()), "what needs no authentication goes on");
}

#[test]
fn a_flood_from_other_addresses_refuses_and_blocks_nobody_else() {
    let mut table = AddressTable::new(limits(), 512);
    let innocent = key_of(0);
    let mut others = 0;
    for second in 0..60 {
        // Less than it may: four in 1.5 s.
        for part in 0..3 {
            let now = at_us(second * MICROS_PER_SECOND + part * 333_333);
            assert_eq!(table.admit(innocent, now), Ok(()));
            assert_eq!(table.blocked_for(innocent, now), None);
            for _ in 0..1_000 {
                others += 1;
                let other = key_of(others);
                let _ = table.admit(other, now);
                table.note_failure(other, now);
            }
        }
    }
}

#[test]
fn the_blocked_stay_blocked_whoever_else_comes() {
    let mut table = AddressTable::new(limits(), 512);
    block(&mut table, key_of(0), at_s(10));
    for number in 1..100_000 {
        // Some are worth keeping themselves.
        for _ in 0..1 + number % 9 {
            table.note_failure(key_of(number), at_s(40));
        }
        let _ = table.admit(key_of(number), at_s(40));
    }
    assert_eq!(table.blocked_for(key_of(0), at_s(40)), Some(Duration::from_secs(30)));
}

#[test]
fn who_is_remembered_least_makes_room() {
    let mut table = one_set();
    let now = at_s(100);
    // With one failure, with two admissions, and six with one admission, of which 3 was seen first.
    table.note_failure(1, now);
    for _ in 0..2 {
        assert_eq!(table.admit(2, now), Ok(()));
    }
    assert_eq!(table.admit(3, at_us(99_500_000)), Ok(()));
    for key in 4..=8 {
        assert_eq!(table.admit(key, now), Ok(()));
    }
    let has = |table: &AddressTable, key: u64| table.entries.iter().any(|entry| entry.key == key);
    assert_eq!(table.admit(9, now), Ok(()));
    assert!(!has(&table, 3) && (1..=9).filter(|key| has(&table, *key)).count() == 8);
    // Once everything is long ago, the first to come goes first, and failures and blocks that are over keep nobody.
    let mut table = one_set();
    block(&mut table, 1, at_s(1));
    for key in 2..=8 {
        assert_eq!(table.admit(key, at_s(10)), Ok(()));
    }
    assert_eq!(table.admit(9, at_s(100)), Ok(()));
    assert!(!has(&table, 1));
    // When all are blocked, the one whose block ends first goes.
    let mut table = one_set();
    for key in 1..=8 {
        block(&mut table, key, at_s(10 - key));
    }
    assert_eq!(table.admit(9, at_s(20)), Ok(()));
    assert!(!has(&table, 8) && table.blocked_for(7, at_s(20)).is_some());
}

#[test]
fn memory_is_as_stated() {
    assert_eq!(ADDRESS_ENTRY_BYTES, 128);
    let table = AddressTable::new(limits(), 65_536);
    assert_eq!(table.entries.capacity() * ADDRESS_ENTRY_BYTES, 8 * 1024 * 1024);
    assert_eq!(AddressTable::new(limits(), 0).entries.len(), WAYS);
    // Every key has a place.
    for key in [0, 1, u64::MAX] {
        let mut table = AddressTable::new(limits(), 100);
        assert_eq!(table.admit(key, at_s(1)), Ok(()));
        block(&mut table, key, at_s(1));
        assert!(table.blocked_for(key, at_s(1)).is_some());
    }
}

#[test]
fn figures_out_of_range_are_brought_into_it() {
    let mut strict = AddressTable::new(AddressLimits::new(0, 0, 0, BLOCK), 1);
    assert_eq!(strict.admit(7, at_s(1)), Ok(()));
    assert!(strict.admit(7, at_s(1)).is_err());
    assert!(strict.note_failure(7, at_s(1)));
    let mut wide = AddressTable::new(AddressLimits::new(u32::MAX, u32::MAX, u32::MAX, BLOCK), 1);
    assert_eq!((0..100_000).filter(|_| wide.admit(7, at_s(1)).is_ok()).count(), ADDRESS_BURST_MAX as usize);
    assert_eq!((1..=300).find(|_| wide.note_failure(7, at_s(1))), Some(250));
}

/// Rate, burst: buckets of all kinds of lengths.
const CHANGES: [(u32, u32); 5] = [(PER_SECOND, BURST), (1, 6), (6, 6), (5, 30), (1, 2)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whoever_is_admitted_after_a_change_fits_into_the_window_that_holds_then(
        gaps in trace(),
        changes in prop::collection::vec(0..300_usize, 1..12),
    ) {
        let mut table = one_set();
        let (mut now_us, mut in_force, mut changed) = (7 * WINDOW_US, 0, 0);
        // The longest window that was in force since: what was in a shorter one before is forgotten at the lengthening.
        let mut known_from_us = 0;
        let mut log: Vec<u64> = Vec::new();
        for (step, gap_us) in gaps.into_iter().enumerate() {
            now_us += gap_us;
            if changes.contains(&step) {
                changed += 1;
                let window_us = |(rate, burst): (u32, u32)| u64::from(burst) * MICROS_PER_SECOND / u64::from(rate);
                let (from, to) = (CHANGES[in_force], CHANGES[changed % CHANGES.len()]);
                if window_us(to) > window_us(from) {
                    known_from_us = known_from_us.max(now_us.saturating_sub(window_us(from)));
                }
                in_force = changed % CHANGES.len();
                table.put_in_force(AddressLimits::new(to.0, to.1, 10, BLOCK), at_us(now_us));
            }
            let (rate, burst) = CHANGES[in_force];
            let window_us = u64::from(burst) * MICROS_PER_SECOND / u64::from(rate);
            match table.admit(7, at_us(now_us)) {
                Ok(()) => {
                    log.push(now_us);
                    let from_us = known_from_us.max((now_us + 1).saturating_sub(window_us));
                    let inside = log.iter().filter(|at| **at >= from_us).count();
                    prop_assert!(inside <= burst as usize, "{inside} in the window before {now_us}, at most {burst}");
                }
                Err(wait) => {
                    let wait_us = u64::try_from(wait.as_micros()).unwrap();
                    let mut patient = table.clone();
                    prop_assert!(patient.admit(7, at_us(now_us + wait_us)).is_ok(), "who waits as told is admitted");
                }
            }
        }
    }
}

#[test]
fn a_limit_below_what_is_used_refuses_until_it_fits_with_the_right_wait() {
    let mut table = AddressTable::new(AddressLimits::new(10, 60, 10, BLOCK), WAYS);
    for second in 0..3 {
        for _ in 0..20 {
            assert_eq!(table.admit(7, at_s(100 + second)), Ok(()));
        }
    }
    // The same window, for fewer.
    table.put_in_force(AddressLimits::new(5, 30, 10, BLOCK), at_s(103));
    let wait = table.admit(7, at_s(103)).unwrap_err();
    assert!(wait > Duration::from_secs(4), "the first twenty are not enough: {wait:?}");
    assert!(table.clone().admit(7, at_s(103).plus(wait - Duration::from_micros(1))).is_err());
    let later = at_s(103).plus(wait);
    assert_eq!((0..30).filter(|_| table.admit(7, later).is_ok()).count(), 10);
    // Of nobody else is anything known.
    assert_eq!((0..50).filter(|_| table.admit(8, later).is_ok()).count(), 30);
}

#[test]
fn failures_and_blocks_outlive_changes() {
    let mut table = one_set();
    for _ in 0..8 {
        assert!(!table.note_failure(7, at_s(100)));
    }
    block(&mut table, 8, at_s(100));
    table.put_in_force(AddressLimits::new(1, 100, 5, Duration::from_secs(5)), at_s(101));
    assert_eq!(table.blocked_for(8, at_s(101)), Some(Duration::from_secs(59)), "as it was told");
    assert_eq!(table.blocked_for(7, at_s(101)), None, "nothing has failed since");
    assert!(table.note_failure(7, at_s(101)));
    assert_eq!(table.blocked_for(7, at_s(101)), Some(Duration::from_secs(5)));
}

#[test]
fn any_number_of_changes_keeps_what_is_counted() {
    let mut table = AddressTable::new(AddressLimits::new(1, 60, 10, BLOCK), WAYS);
    for key in [7, 8] {
        assert_eq!((0..60).filter(|_| table.admit(key, at_s(100)).is_ok()).count(), 60);
    }
    // More lengths than there are numbers for them; 7 is looked at all the time, 8 never.
    for change in 0..2_000 {
        let limits = AddressLimits::new(1, 60 + change % 700, 10, BLOCK);
        table.put_in_force(limits, at_s(101));
        if change % 3 == 0 {
            let _ = table.admit(7, at_s(101));
        }
    }
    assert!(table.layouts.len() <= LAYOUTS_MAX);
    table.put_in_force(AddressLimits::new(1, 60, 10, BLOCK), at_s(101));
    for key in [7, 8] {
        assert!(table.admit(key, at_s(102)).is_err(), "{key}");
        assert_eq!(table.clone().admit(key, at_s(400)), Ok(()), "{key}");
    }
    // Who makes room is found among entries of several lengths.
    table.put_in_force(AddressLimits::new(1, 120, 10, BLOCK), at_s(103));
    for key in 10..17 {
        assert_eq!(table.admit(key, at_s(103)), Ok(()));
    }
    assert!([7, 8].iter().all(|key| table.entries.iter().any(|entry| entry.key == *key)));
}
