//! Tests of lanes and classes.

use super::{after, answered, notification};
use crate::domain::webhook::{AmountClass, Lane, LaneKind, LaneSet};

#[test]
fn larger_amounts_have_smaller_classes_and_what_is_unknown_the_last() {
    let bounds = [1_000_000, 100_000, 10_000];
    let table = [
        (Some(i64::MAX), 0),
        (Some(1_000_000), 0),
        (Some(999_999), 1),
        (Some(100_000), 1),
        (Some(99_999), 2),
        (Some(10_000), 2),
        (Some(9_999), 3),
        (Some(0), 3),
        (Some(-1), 3),
        (None, 3),
    ];
    for (worth, class) in table {
        assert_eq!(AmountClass::of(worth, bounds).number(), class, "{worth:?}");
    }
    assert_eq!(AmountClass::default(), AmountClass::of(None, bounds));
    assert_eq!(serde_json::to_string(&AmountClass::of(Some(99_999), bounds)).unwrap(), "2");
    assert!(serde_json::from_str::<AmountClass>("4").is_err());
}

#[test]
fn lanes_read_back_and_sort_by_class_with_first_tries_before_others() {
    let all: Vec<Lane> = Lane::all().collect();
    assert_eq!(all.len(), Lane::COUNT);
    assert!(all.is_sorted());
    for (lane, byte) in all.iter().zip(0..) {
        assert_eq!((lane.byte(), Lane::from_byte(byte)), (byte, Some(*lane)));
    }
    assert_eq!(Lane::from_byte(8), None);
    assert_eq!(Lane::from_byte(u8::MAX), None);
}

#[test]
fn a_notification_is_in_the_first_lane_of_its_class_until_it_was_tried() {
    let mut new = notification();
    new.class = AmountClass::of(Some(5), [7, 5, 3]);
    assert_eq!(Lane::of(&new), Lane::new(new.class, LaneKind::First));
    let class = new.class;
    assert_eq!(Lane::of(&after(new, &answered(500)).notification), Lane::new(class, LaneKind::Again));
}

#[test]
fn a_set_of_lanes_has_what_was_added() {
    let (one, other) = (Lane::from_byte(1).unwrap(), Lane::from_byte(6).unwrap());
    let mut set = LaneSet::from(one);
    assert!(set.has(one) && !set.has(other));
    assert!(set.and(LaneSet::from(other)).has(other));
    set.remove(one);
    assert_eq!((set, set.is_empty()), (LaneSet::NONE, true));
    assert!(Lane::all().all(|lane| LaneSet::ALL.has(lane)));
}
