//! Tests of picking.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, prop, proptest};

use super::NOW;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{AmountClass, Heads, Lane, LaneKind, Picker, Room};

fn lane(class: u8, kind: LaneKind) -> Lane {
    Lane::new(AmountClass::try_from(class).unwrap(), kind)
}

fn heads(of: &[(u8, LaneKind, u64)]) -> Heads {
    let mut heads = Heads::default();
    for (class, kind, due_s) in of {
        heads[usize::from(lane(*class, *kind).byte())] = Some(NOW.plus(Duration::from_secs(*due_s)));
    }
    heads
}

#[test]
fn larger_amounts_and_first_tries_come_first_and_the_oldest_every_fourth_time() {
    let heads = heads(&[
        (0, LaneKind::Again, 5),
        (1, LaneKind::First, 9),
        (1, LaneKind::Again, 3),
        (3, LaneKind::First, 4),
        (3, LaneKind::Again, 2),
    ]);
    let mut picker = Picker::default();
    let mut chosen = Vec::new();
    for _ in 0..8 {
        chosen.push(picker.choose(&heads, Room::ALL).unwrap());
        picker.picked();
    }
    let (largest, oldest) = (lane(0, LaneKind::Again), lane(3, LaneKind::Again));
    assert_eq!(chosen, [largest, largest, largest, oldest, largest, largest, largest, oldest]);
    let only_first = Room { for_again: false, ..Room::ALL };
    assert_eq!(picker.choose(&heads, only_first), Some(lane(1, LaneKind::First)));
    let only_again = Room { for_first: false, ..Room::ALL };
    assert_eq!(picker.choose(&heads, only_again), Some(largest));
    assert_eq!(picker.choose(&heads, Room { for_first: false, for_again: false }), None);
    assert_eq!(picker.choose(&Heads::default(), Room::ALL), None);
}

#[test]
fn what_is_chosen_and_not_sent_is_no_pick() {
    let heads = heads(&[(0, LaneKind::First, 5), (3, LaneKind::First, 1)]);
    let picker = Picker::default();
    for _ in 0..10 {
        assert_eq!(picker.choose(&heads, Room::ALL), Some(lane(0, LaneKind::First)));
    }
}

/// Lanes with what waits in them, by when it was due.
struct Waiting([VecDeque<Timestamp>; Lane::COUNT]);

impl Waiting {
    fn heads(&self) -> Heads {
        std::array::from_fn(|lane| self.0[lane].front().copied())
    }

    fn oldest(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(|lane| lane.front().copied()).min()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_starves_and_otherwise_the_largest_class_goes_first(
        due in prop::collection::vec((0_usize..Lane::COUNT, 0_u64..100), 1..80),
    ) {
        let mut waiting = Waiting(Default::default());
        for (lane, due_s) in &due {
            waiting.0[*lane].push_back(NOW.plus(Duration::from_secs(*due_s)));
        }
        waiting.0.iter_mut().for_each(|lane| lane.make_contiguous().sort());
        let mut picker = Picker::default();
        let mut since_oldest = 0;
        for _ in 0..due.len() {
            let oldest = waiting.oldest().unwrap();
            let first = waiting.0.iter().position(|lane| !lane.is_empty()).unwrap();
            let chosen = usize::from(picker.choose(&waiting.heads(), Room::ALL).unwrap().byte());
            picker.picked();
            let due_at = waiting.0[chosen].pop_front().unwrap();
            assert!(chosen == first || due_at == oldest, "neither the largest nor the oldest");
            since_oldest = if due_at == oldest { 0 } else { since_oldest + 1 };
            assert!(since_oldest < 4, "the oldest waits");
        }
        assert!(waiting.oldest().is_none(), "not all was picked");
    }
}
