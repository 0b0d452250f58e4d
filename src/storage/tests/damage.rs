//! Flipped bits and missing files in the journal: what a crash can leave is removed, everything else is refused.

use crate::random::Random;
use crate::storage::StoreError;
use crate::storage::files::{Files, read_all};
use crate::storage::frame::{self, HEADER_BYTES};
use crate::storage::reached::REACHED;
use crate::storage::segments::{self, SEGMENT_HEADER_BYTES};
use crate::storage::tests::{Machine, put, step};

const FRAMES: usize = 6;

/// A journal of one segment with a few frames, each of one batch.
fn written(seal: bool) -> Machine {
    let machine = Machine::new();
    let mut parts = machine.open(1).unwrap();
    for number in 0..FRAMES {
        let answers = step(&mut parts.committer, vec![put(&format!("key/{number}"), &[number as u8; 100])]);
        assert!(answers[0].is_ok());
    }
    if seal {
        parts.committer.seal().unwrap();
    }
    machine
}

/// Where the frames of the first segment begin, and where the last ends.
fn offsets(machine: &Machine) -> Vec<usize> {
    let bytes = read_all(&*machine.files.open(&segments::path_of(1)).unwrap()).unwrap();
    let seed = segments::read_segment_header(&bytes).unwrap();
    let mut offsets = vec![SEGMENT_HEADER_BYTES];
    while let Some(frame) = frame::parse(&bytes[*offsets.last().unwrap()..], seed) {
        offsets.push(offsets.last().unwrap() + frame.stored_bytes());
    }
    offsets
}

fn flip(machine: &Machine, offset: usize) {
    machine.files.flip_bit(&segments::path_of(1), offset as u64, 3).unwrap();
}

fn assert_refused(machine: &Machine, offset: usize) {
    match machine.open(2) {
        Err(StoreError::Corrupt(message)) => {
            assert!(message.contains(&segments::path_of(1)), "{message}");
            assert!(message.contains(&format!("byte {offset}:")), "{offset}: {message}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("damage at {offset} was not noticed"),
    }
}

/// As a power cut may leave it: what was noted last about the journal's end was in memory only.
fn forget_the_end(machine: &Machine) {
    machine.files.remove(REACHED).unwrap();
}

/// One byte of each field of a frame, and of its padding if it has some.
fn regions(start: usize, end: usize) -> Vec<usize> {
    let header = [0, 7, 8, 15, 16, 17, 18, 20, 23, 24, 31, 32, 36, 40, 47];
    let payload = [HEADER_BYTES, HEADER_BYTES + 4, HEADER_BYTES + 20, end - start - 1];
    header.into_iter().chain(payload).map(|offset| start + offset).collect()
}

#[test]
fn damage_before_the_last_frame_is_refused_and_nothing_is_changed() {
    let intact = offsets(&written(false));
    assert_eq!(intact.len(), FRAMES + 1);
    for frame in [0, 1, FRAMES - 2] {
        for offset in regions(intact[frame], intact[frame + 1]) {
            let machine = written(false);
            flip(&machine, offset);
            assert_refused(&machine, intact[frame]);
            assert_refused(&machine, intact[frame]);
            flip(&machine, offset);
            let parts = machine.open(3).unwrap();
            assert!(parts.view.get(b"key/5").unwrap().is_some());
        }
    }
}

#[test]
fn damage_in_the_last_frame_is_a_torn_tail_when_nothing_says_that_it_was_durable() {
    let intact = offsets(&written(false));
    // A length that goes beyond the file is none that a crash leaves: see below.
    let of_the_length = intact[FRAMES - 1] + 23;
    for offset in regions(intact[FRAMES - 1], intact[FRAMES]).into_iter().filter(|offset| *offset != of_the_length) {
        let machine = written(false);
        flip(&machine, offset);
        assert_refused(&machine, intact[FRAMES - 1]);
        forget_the_end(&machine);
        let mut parts = machine.open(2).unwrap();
        assert!(parts.view.get(b"key/4").unwrap().is_some());
        assert!(parts.view.get(b"key/5").unwrap().is_none());
        assert_eq!(parts.status.committed(), FRAMES as u64 - 1);
        // Its place in the order is given to the next, which begins a new segment.
        let next = step(&mut parts.committer, vec![put("next", b"1")]).remove(0).unwrap();
        assert_eq!(next.sequence, FRAMES as u64);
        drop(parts);
        machine.crash(&Random::seeded(1));
        let parts = machine.open(3).unwrap();
        assert!(parts.view.get(b"next").unwrap().is_some());
        assert_eq!(offsets(&machine).len(), FRAMES);
    }
}

#[test]
fn an_end_that_was_cut_off_between_two_frames_is_missed() {
    let intact = offsets(&written(false));
    for (frame, offset) in intact.iter().take(FRAMES).enumerate() {
        let cut = || {
            let machine = written(false);
            machine.files.open(&segments::path_of(1)).unwrap().set_length(*offset as u64).unwrap();
            machine
        };
        let machine = cut();
        for _ in 0..2 {
            match machine.open(2) {
                Err(StoreError::Corrupt(message)) => {
                    assert!(message.contains(&format!("sequences {} to {FRAMES}", frame + 1)), "{message}");
                }
                _ => panic!("frame {frame} was not missed"),
            }
        }
        // With a note from before, as after a power cut, nobody can tell.
        let machine = cut();
        forget_the_end(&machine);
        assert_eq!(machine.open(2).unwrap().status.committed(), frame as u64);
    }
}

#[test]
fn a_last_segment_that_was_removed_is_missed_even_after_a_power_cut() {
    for seed in 0..20 {
        let machine = Machine::new();
        let mut parts = machine.open(1).unwrap();
        while segments::list(&machine.files).unwrap().len() < 3 {
            step(&mut parts.committer, vec![put("key", &[1; 500])]).remove(0).unwrap();
        }
        drop(parts);
        machine.crash(&Random::seeded(seed));
        let last = *segments::list(&machine.files).unwrap().last().unwrap();
        let path = segments::path_of(last);
        machine.files.remove(&path).unwrap();
        match machine.open(2) {
            Err(StoreError::Corrupt(message)) => {
                assert!(message.contains(&path) && message.contains("Put the missing files"), "{message}");
            }
            _ => panic!("{path} was not missed, seed {seed}"),
        }
    }
}

#[test]
fn a_frame_that_ends_behind_its_file_is_no_torn_tail() {
    let intact = offsets(&written(false));
    let machine = written(false);
    flip(&machine, intact[FRAMES - 1] + 23);
    assert_refused(&machine, intact[FRAMES - 1]);
    for frame in [1, FRAMES - 1] {
        for kept in [8, 20, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 60, intact[1] - intact[0] - 1] {
            let machine = written(false);
            let cut = machine.files.open(&segments::path_of(1)).unwrap();
            cut.set_length((intact[frame] + kept) as u64).unwrap();
            assert_refused(&machine, intact[frame]);
        }
    }
}

#[test]
fn a_tail_of_rubbish_is_torn_as_well() {
    let intact = offsets(&written(false));
    for offset in [intact[FRAMES], intact[FRAMES] + 8, intact[FRAMES] + 700] {
        let machine = written(false);
        flip(&machine, offset);
        let parts = machine.open(2).unwrap();
        assert!(parts.view.get(b"key/5").unwrap().is_some());
        drop(parts);
        let bytes = read_all(&*machine.files.open(&segments::path_of(1)).unwrap()).unwrap();
        assert!(bytes[intact[FRAMES]..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_frame_that_the_index_has_is_never_a_torn_tail() {
    let intact = offsets(&written(false));
    let machine = written(false);
    let mut parts = machine.open(2).unwrap();
    parts.applier.pass().unwrap();
    parts.applier.checkpoint().unwrap();
    drop(parts);
    flip(&machine, intact[FRAMES - 1] + HEADER_BYTES);
    assert_refused(&machine, intact[FRAMES - 1]);
    // The checkpoint alone is enough, should the index be lost.
    machine.index.clear();
    assert_refused(&machine, intact[FRAMES - 1]);
}

#[test]
fn a_frame_before_a_later_segment_is_never_a_torn_tail() {
    let intact = offsets(&written(false));
    let machine = written(false);
    let mut parts = machine.open(2).unwrap();
    step(&mut parts.committer, vec![put("later", b"1")]);
    drop(parts);
    assert_eq!(segments::list(&machine.files).unwrap(), [1, FRAMES as u64 + 1]);
    flip(&machine, intact[FRAMES - 1] + 30);
    assert_refused(&machine, intact[FRAMES - 1]);
}

#[test]
fn behind_a_seal_there_is_nothing() {
    let intact = offsets(&written(true));
    assert_eq!(intact.len(), FRAMES + 2, "the seal is a frame");
    for frame in [0, FRAMES - 1] {
        let machine = written(true);
        flip(&machine, intact[frame] + HEADER_BYTES);
        assert_refused(&machine, intact[frame]);
    }
    let machine = written(true);
    let handle = machine.files.open(&segments::path_of(1)).unwrap();
    assert_eq!(handle.length().unwrap(), intact[FRAMES + 1] as u64, "the zeros behind the seal are cut off");
    handle.write_at(intact[FRAMES + 1] as u64 + 8, &[0]).unwrap();
    machine.open(2).unwrap();
    handle.write_at(intact[FRAMES + 1] as u64 + 8, &[1]).unwrap();
    assert_refused(&machine, intact[FRAMES + 1]);
}

#[test]
fn a_seal_is_written_once_and_takes_a_sequence() {
    let machine = written(true);
    for _ in 0..3 {
        let mut parts = machine.open(2).unwrap();
        assert_eq!(parts.status.committed(), FRAMES as u64 + 1);
        assert_eq!(parts.status.last_change(), FRAMES as u64, "a seal changes nothing");
        parts.committer.seal().unwrap();
    }
    assert_eq!(segments::list(&machine.files).unwrap(), [1]);
    let mut parts = machine.open(2).unwrap();
    let next = step(&mut parts.committer, vec![put("next", b"1")]).remove(0).unwrap();
    assert_eq!(next.sequence, FRAMES as u64 + 2);
    drop(parts);
    let parts = machine.open(3).unwrap();
    assert_eq!(parts.status.last_change(), next.sequence);
    assert!(parts.view.get(b"key/0").unwrap().is_some() && parts.view.get(b"next").unwrap().is_some());
}

#[test]
fn a_segments_header_and_name_are_checked() {
    let machine = written(false);
    flip(&machine, 16);
    assert_refused(&machine, 0);
    let machine = written(false);
    machine.files.rename(&segments::path_of(1), &segments::path_of(3)).unwrap();
    match machine.open(2) {
        Err(StoreError::Corrupt(message)) => assert!(message.contains("sequences 1 to 2"), "{message}"),
        _ => panic!("a missing beginning was not noticed"),
    }
}

#[test]
fn a_missing_segment_is_noticed() {
    for lost in [0, 1, 2] {
        let machine = Machine::new();
        let mut parts = machine.open(1).unwrap();
        for number in 0..30 {
            step(&mut parts.committer, vec![put(&format!("key/{number}"), &[1; 500])]);
        }
        parts.applier.pass().unwrap();
        parts.applier.checkpoint().unwrap();
        drop(parts);
        let all = segments::list(&machine.files).unwrap();
        assert!(all.len() >= 4);
        let lost = if lost == 2 { all[all.len() - 1] } else { all[lost] };
        machine.files.remove(&segments::path_of(lost)).unwrap();
        if lost == all[all.len() - 1] {
            assert!(matches!(machine.open(2), Err(StoreError::Corrupt(_))), "the index has more than the journal");
        }
        // Without the index everything is needed.
        machine.index.clear();
        match machine.open(2) {
            Err(StoreError::Corrupt(message)) => assert!(message.contains("back"), "{message}"),
            _ => panic!("segment {lost} was not missed"),
        }
    }
}
