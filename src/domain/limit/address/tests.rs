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
    let bucket_us = limits().bucket_us;
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

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
                    prop_assert!(wait_us > 0 && wait_us <= WINDOW_US + 2 * limits().bucket_us);
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
    assert_eq!(ADDRESS_ENTRY_BYTES, 64);
    let table = AddressTable::new(limits(), 65_536);
    assert_eq!(table.entries.capacity() * ADDRESS_ENTRY_BYTES, 4 * 1024 * 1024);
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
