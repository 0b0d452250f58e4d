//! Errors of the disk while the engine runs.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::storage::applier::{self, Applier, ApplierPace, ApplierSignal};
use crate::storage::conformance;
use crate::storage::engine::{Engine, Parts};
use crate::storage::files::{Files, Shortage};
use crate::storage::index::{IndexError, MemoryIndex};
use crate::storage::segments;
use crate::storage::sim_files::SimFiles;
use crate::storage::tests::{Machine, everything, put, step};
use crate::storage::{Batch, Store, StoreError, Urgency};

fn finishing(key: &str, value: &[u8]) -> Batch {
    Batch { urgency: Urgency::Finish, ..put(key, value) }
}

#[test]
fn a_failed_sync_poisons_and_is_never_repeated() {
    for is_write in [false, true] {
        let machine = Machine::new();
        let mut parts = machine.open(1).unwrap();
        assert!(step(&mut parts.committer, vec![put("before", b"1")])[0].is_ok());
        let mut insert = Batch::new();
        insert.insert(b"before".to_vec(), b"2".to_vec());
        if is_write {
            machine.files.fail_write_after(0);
        } else {
            machine.files.fail_sync_after(0);
        }
        let answers = step(&mut parts.committer, vec![put("lost", b"1"), insert.clone()]);
        assert!(matches!(answers[0], Err(StoreError::Indeterminate(_))));
        assert!(
            matches!(answers[1], Err(StoreError::Indeterminate(_))),
            "it may have been refused because of the first"
        );
        assert!(parts.view.get(b"lost").unwrap().is_none(), "what is not durable is not seen");
        let syncs = machine.files.syncs();
        for batch in [put("after", b"1"), insert] {
            assert!(matches!(step(&mut parts.committer, vec![batch])[0], Err(StoreError::Poisoned(_))));
        }
        assert!(matches!(parts.committer.seal(), Err(StoreError::Poisoned(_))));
        assert_eq!(machine.files.syncs(), syncs, "nothing was synced after the failure");
        assert!(parts.view.get(b"before").unwrap().is_some());
        drop(parts);
        machine.crash(&Random::seeded(1));
        let parts = machine.open(2).unwrap();
        assert!(parts.view.get(b"before").unwrap().is_some());
        assert!(parts.view.get(b"after").unwrap().is_none());
    }
}

#[test]
fn a_group_of_refusals_writes_nothing() {
    let machine = Machine::new();
    let mut parts = machine.open(1).unwrap();
    let mut insert = Batch::new();
    insert.insert(b"a".to_vec(), b"1".to_vec());
    assert!(step(&mut parts.committer, vec![insert.clone()])[0].is_ok());
    let syncs = machine.files.syncs();
    let answers = step(&mut parts.committer, vec![insert.clone(), insert]);
    assert!(answers.iter().all(|answer| *answer == Err(StoreError::Precondition { index: 0 })));
    assert_eq!(machine.files.syncs(), syncs);
}

#[test]
fn a_full_disk_refuses_and_changes_nothing() {
    let machine = Machine::new();
    let mut parts = machine.open(1).unwrap();
    machine.files.set_space_bytes(Some(machine.files.used_bytes()));
    // The ballast makes room for one segment, and then there is none.
    let mut taken = 0;
    let refused = loop {
        let answer = step(&mut parts.committer, vec![finishing(&format!("key/{taken:02}"), &[1; 600])]).remove(0);
        match answer {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Overloaded("the disk is full"));
    assert!((4..8).contains(&taken), "{taken}");
    assert!(parts.space.is_full() && parts.status.poisoned().is_none());
    machine.files.set_space_bytes(None);
    assert!(step(&mut parts.committer, vec![finishing("again", b"1")])[0].is_ok());
    assert!(parts.space.restore() && !parts.space.is_full());
    drop(parts);
    machine.crash(&Random::seeded(2));
    let parts = machine.open(2).unwrap();
    assert!(parts.view.get(format!("key/{:02}", taken - 1).as_bytes()).unwrap().is_some());
    assert!(parts.view.get(format!("key/{taken:02}").as_bytes()).unwrap().is_none());
    assert!(parts.view.get(b"again").unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_engine_gives_up_its_ballast_and_gets_it_back() {
    let (files, index) = (SimFiles::new(), MemoryIndex::new());
    let mut options = conformance::options();
    options.segment_bytes = 8192;
    options.ballast_bytes = 3 * 8192;
    let engine = Engine::open(Arc::new(files.clone()), &index, &options, Random::seeded(1)).unwrap();
    engine.commit(put("first", b"1")).await.unwrap();
    // Room for what is there and for files of a few bytes, not for another segment.
    wait_until(|| files.open("journal/next.tmp").is_ok_and(|spare| spare.length().is_ok_and(|length| length == 8192)))
        .await;
    files.set_space_bytes(Some(files.used_bytes() + 512));
    // The thread that prepares segments notices at any moment, also between two commits.
    for number in 0.. {
        assert!(number < 100, "nobody noticed that the disk is full");
        match engine.commit(put(&format!("new/{number:03}"), &[1; 1000])).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => {
                assert_eq!(error, StoreError::Overloaded("the disk is full"));
                break;
            }
        }
    }
    assert!(!engine.health().accepts_new);
    for round in 0..8 {
        engine.commit(finishing(&format!("finish/{round}"), &[2; 1000])).await.unwrap();
    }
    // It is there for a moment whenever somebody tries whether there is room for it.
    wait_until(|| files.open("BALLAST").is_err()).await;
    files.set_space_bytes(None);
    wait_until(|| engine.health().accepts_new).await;
    engine.commit(put("new", b"1")).await.unwrap();
    assert!(files.open("BALLAST").is_ok());
    engine.close().unwrap();
}

async fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_whose_sync_fails_says_so_once_and_stays_readable() {
    let (files, index) = (SimFiles::new(), MemoryIndex::new());
    let engine = Engine::open(Arc::new(files.clone()), &index, &conformance::options(), Random::seeded(1)).unwrap();
    let mut failed = tokio::spawn(engine.failed());
    engine.commit(put("a", b"1")).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(5), &mut failed).await.is_err());
    files.power_off_after_syncs(0);
    let answer = engine.commit(put("b", b"1")).await;
    assert!(matches!(answer, Err(StoreError::Indeterminate(_) | StoreError::Poisoned(_))), "{answer:?}");
    assert!(!failed.await.unwrap().is_empty());
    assert!(matches!(engine.commit(finishing("c", b"1")).await, Err(StoreError::Poisoned(_))));
    assert!(engine.health().poisoned.is_some() && !engine.health().accepts_new);
    assert!(engine.get(b"a").unwrap().is_some());
    assert!(matches!(engine.close(), Err(StoreError::Poisoned(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_fails_poisons_and_one_that_is_full_does_not() {
    let (files, index) = (SimFiles::new(), MemoryIndex::new());
    let open = || Engine::open(Arc::new(files.clone()), &index, &conformance::options(), Random::seeded(1)).unwrap();
    let engine = open();
    index.fail_next(IndexError::Short(Shortage::Space));
    engine.commit(put("a", b"1")).await.unwrap();
    wait_until(|| engine.health().overlay_bytes == 0).await;
    assert!(engine.health().poisoned.is_none());
    // Full until the commit is acknowledged: a checkpoint must not meet the fault before it.
    index.set_full(true);
    engine.commit(finishing("b", b"1")).await.unwrap();
    index.fail_next(IndexError::Corrupt("a test".to_owned()));
    index.set_full(false);
    assert!(engine.failed().await.contains("a test"));
    assert!(engine.get(b"b").unwrap().is_some(), "what was acknowledged can still be read");
    drop(engine);
    assert!(files.open("INDEX_DAMAGED").is_ok());
    let engine = open();
    assert!(engine.get(b"a").unwrap().is_some() && engine.get(b"b").unwrap().is_some());
    assert!(files.open("INDEX_DAMAGED").is_err(), "it was rebuilt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_refused_when_the_overlay_is_full_and_what_has_begun_later() {
    let (files, index) = (SimFiles::new(), MemoryIndex::new());
    let mut options = conformance::options();
    options.overlay_bytes_max = 400_000;
    // Nothing is moved before the overlay is half full, and then the index refuses it.
    options.apply_interval = Duration::from_secs(3600);
    let engine = Engine::open(Arc::new(files), &index, &options, Random::seeded(1)).unwrap();
    index.set_full(true);
    let (mut taken, mut number) = (0, 0);
    for urgency in [Urgency::New, Urgency::Finish] {
        loop {
            number += 1;
            match engine.commit(Batch { urgency, ..put(&format!("key/{number}"), &[1; 10_000]) }).await {
                Ok(_) => taken += 1,
                Err(StoreError::Overloaded(_)) => break,
                other => panic!("{other:?}"),
            }
        }
        let (least, most) = if urgency == Urgency::New { (15, 30) } else { (35, 40) };
        assert!((least..most).contains(&taken), "{taken} {urgency:?}");
        assert!(engine.health().overlay_bytes <= 400_000);
    }
}

/// Rows that the index has taken and not made durable, and one more for each of its applied changes.
fn with_unsynced_rows(machine: &Machine) -> Parts {
    let mut parts = machine.open(1).unwrap();
    for (number, is_durable) in [(1, true), (2, false), (3, false)] {
        for key in [format!("row/{number}"), "common".to_owned()] {
            assert!(step(&mut parts.committer, vec![put(&key, &[number; 300])])[0].is_ok());
        }
        parts.applier.pass().unwrap();
        if is_durable {
            parts.applier.checkpoint().unwrap();
        }
    }
    parts
}

fn check_unsynced_rows(parts: &Parts) {
    for number in 1..=3_u8 {
        let row = parts.view.get(format!("row/{number}").as_bytes()).unwrap().unwrap();
        assert_eq!(*row.value, [number; 300]);
    }
    assert_eq!(*parts.view.get(b"common").unwrap().unwrap().value, [3; 300]);
    assert_eq!(parts.view.scan(&everything()).unwrap().len(), 4);
}

#[test]
fn an_index_that_loses_what_it_had_not_synced_gets_it_again() {
    let machine = Machine::new();
    let mut parts = with_unsynced_rows(&machine);
    machine.index.fail_next(IndexError::Short(Shortage::Space));
    assert_eq!(parts.applier.turn(true), Err(IndexError::Short(Shortage::Space)));
    check_unsynced_rows(&parts);
    assert_eq!(parts.applier.turn(true), Ok(true));
    check_unsynced_rows(&parts);
    assert_eq!((parts.view.overlay().bytes(), machine.index.rows()), (0, 4));
    drop(parts);
    machine.crash(&Random::seeded(1));
    check_unsynced_rows(&machine.open(2).unwrap());
}

#[test]
fn a_clean_stop_in_what_is_read_again_does_no_harm() {
    let machine = Machine::new();
    let mut parts = machine.open(1).unwrap();
    assert!(step(&mut parts.committer, vec![finishing("before", b"1")])[0].is_ok());
    parts.applier.pass().unwrap();
    parts.applier.checkpoint().unwrap();
    parts.committer.seal().unwrap();
    drop(parts);
    let mut parts = machine.open(2).unwrap();
    assert!(step(&mut parts.committer, vec![finishing("after", b"2")])[0].is_ok());
    parts.applier.pass().unwrap();
    machine.index.fail_next(IndexError::Short(Shortage::Space));
    assert_eq!(parts.applier.turn(true), Err(IndexError::Short(Shortage::Space)));
    assert_eq!(parts.applier.turn(true), Ok(true));
    for key in ["before", "after"] {
        assert!(parts.view.get(key.as_bytes()).unwrap().is_some(), "{key}");
    }
}

#[test]
fn an_index_without_room_for_a_long_time_goes_on_when_it_has_some() {
    let machine = Machine::new();
    let mut parts = with_unsynced_rows(&machine);
    machine.index.set_full(true);
    for number in 0..6 {
        let answer = step(&mut parts.committer, vec![finishing("meanwhile", &[number; 20])]).remove(0);
        assert!(answer.is_ok(), "the journal has room");
        assert!(parts.applier.turn(false).unwrap_err().may_pass());
        assert_eq!(parts.view.get(b"meanwhile").unwrap().unwrap().value[0], number);
    }
    machine.index.set_full(false);
    assert_eq!(parts.applier.turn(true), Ok(true));
    check_unsynced_rows_and(&parts, b"meanwhile");
    drop(parts);
    machine.crash(&Random::seeded(1));
    check_unsynced_rows_and(&machine.open(2).unwrap(), b"meanwhile");
}

#[test]
fn an_index_that_is_not_read_for_lack_of_room_is_no_failure_and_goes_on_when_it_has_some() {
    let machine = Machine::new();
    let mut parts = with_unsynced_rows(&machine);
    assert_eq!(parts.applier.turn(true), Ok(true));
    machine.index.set_unreadable_when_full(true);
    machine.index.set_full(true);
    assert!(step(&mut parts.committer, vec![finishing("meanwhile", b"1")])[0].is_ok());
    assert!(parts.applier.turn(true).unwrap_err().may_pass());
    let refused = StoreError::Overloaded("the disk is full");
    assert_eq!(parts.view.get(b"row/1"), Err(refused.clone()));
    assert_eq!(parts.view.scan(&everything()), Err(refused.clone()));
    let mut batch = Batch::finishing();
    batch.insert(b"row/1".to_vec(), b"2".to_vec());
    assert_eq!(step(&mut parts.committer, vec![batch]), [Err(refused)]);
    assert!(parts.status.poisoned().is_none());
    machine.index.set_full(false);
    assert_eq!(parts.applier.turn(true), Ok(true));
    check_unsynced_rows_and(&parts, b"meanwhile");
}

fn check_unsynced_rows_and(parts: &Parts, key: &[u8]) {
    assert!(parts.view.get(key).unwrap().is_some());
    for number in 1..=3 {
        assert!(parts.view.get(format!("row/{number}").as_bytes()).unwrap().is_some());
    }
}

#[test]
fn an_index_is_not_closed_as_long_as_it_could_not_be_opened() {
    let machine = Machine::new();
    let mut parts = with_unsynced_rows(&machine);
    machine.index.fail_next(IndexError::Short(Shortage::Space));
    assert!(parts.applier.turn(true).is_err());
    machine.files.set_space_bytes(Some(machine.files.used_bytes() + 100));
    assert_eq!(parts.applier.turn(true), Err(IndexError::Short(Shortage::Space)));
    assert_eq!(machine.index.rows(), 4, "it was left alone");
    machine.files.set_space_bytes(None);
    assert_eq!(parts.applier.turn(true), Ok(true));
    check_unsynced_rows(&parts);
}

#[test]
fn too_many_open_files_refuse_and_do_no_harm() {
    let machine = Machine::new();
    let mut parts = with_unsynced_rows(&machine);
    machine.files.set_no_handles(true);
    assert_eq!(parts.applier.turn(true), Err(IndexError::Short(Shortage::Handles)), "the checkpoint is a file");
    let refused = (0..20).find_map(|_| step(&mut parts.committer, vec![finishing("more", &[1; 900])]).remove(0).err());
    assert_eq!(refused, Some(StoreError::Overloaded("too many files are open")));
    assert!(parts.status.poisoned().is_none() && !parts.space.is_full());
    assert!(machine.open(2).is_err(), "and nothing is rebuilt for that reason");
    machine.files.set_no_handles(false);
    assert!(step(&mut parts.committer, vec![finishing("more", b"1")])[0].is_ok());
    assert_eq!(parts.applier.turn(true), Ok(true));
    check_unsynced_rows_and(&parts, b"more");
}

#[test]
fn what_a_killed_process_had_written_and_not_synced_stays_once_it_was_shown() {
    for fails in [true, false] {
        let machine = Machine::new();
        let mut parts = machine.open(1).unwrap();
        assert!(step(&mut parts.committer, vec![put("before", b"1")])[0].is_ok());
        if fails {
            machine.files.fail_sync_after(0);
        }
        let answer = step(&mut parts.committer, vec![put("last", &[1; 1000])]).remove(0);
        assert_eq!(answer.is_err(), fails);
        drop(parts);
        machine.kill(&Random::seeded(1));
        let parts = machine.open(2).unwrap();
        assert!(parts.view.get(b"last").unwrap().is_some());
        drop(parts);
        machine.crash(&Random::seeded(2));
        let parts = machine.open(3).unwrap();
        assert!(parts.view.get(b"last").unwrap().is_some(), "it was shown");
    }
}

#[test]
fn a_crash_does_not_cost_a_segment() {
    let machine = Machine::new();
    for life in 0..20 {
        let mut parts = machine.open(life).unwrap();
        assert!(step(&mut parts.committer, vec![put("a", &[1; 100])])[0].is_ok());
        drop(parts);
        machine.crash(&Random::seeded(life));
    }
    drop(machine.open(20).unwrap());
    let all = segments::list(&machine.files).unwrap();
    assert_eq!(all.len(), 20);
    for first in all {
        let length = machine.files.open(&segments::path_of(first)).unwrap().length().unwrap();
        assert!(length < 400, "segment {first} has {length} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committer_that_panics_leaves_nobody_waiting() {
    let (files, index) = (SimFiles::new(), MemoryIndex::new());
    let engine = Engine::open(Arc::new(files), &index, &conformance::options(), Random::seeded(1)).unwrap();
    engine.commit(put("a", b"1")).await.unwrap();
    index.panic_next();
    let commits: Vec<_> = (0..500)
        .map(|number| {
            let mut batch = Batch::new();
            batch.insert(format!("key/{number}").into_bytes(), vec![1; 700]);
            engine.commit(batch)
        })
        .collect();
    let mut refused = 0;
    for commit in commits {
        refused += usize::from(commit.await.is_err());
    }
    assert!(refused > 0 && engine.health().poisoned.is_some());
    assert!(engine.commit(put("b", b"1")).await.is_err());
    assert!(engine.close().is_err());
}

#[test]
fn checkpoints_are_made_by_the_time_however_busy_it_is() {
    let machine = Machine::new();
    let mut parts = machine.open(1).unwrap();
    assert!(step(&mut parts.committer, vec![put("a", b"1")])[0].is_ok());
    let pace = ApplierPace {
        apply_interval: Duration::from_secs(3600),
        checkpoint_interval: Duration::from_secs(60),
        checkpoint_bytes: u64::MAX,
        reopen_bytes: u64::MAX,
    };
    let applier = Applier::new(Arc::clone(&parts.view), Arc::new(machine.files.clone()), pace, 0);
    let (clock, signal) = (Clock::manual(Timestamp::from_unix_ms(0)), ApplierSignal::default());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| applier::run(applier, &signal, &parts.status, &parts.space, &clock));
        // Somebody is always in a hurry, so that the applier never has a pause.
        for _ in 0..100_000 {
            if machine.files.open("CHECKPOINT").is_ok() {
                break;
            }
            signal.hurry();
            clock.advance(Duration::from_secs(1));
            std::thread::yield_now();
        }
        let has_checkpoint = machine.files.open("CHECKPOINT").is_ok();
        signal.abandon();
        thread.join().unwrap().unwrap();
        assert!(has_checkpoint);
    });
}

#[test]
fn the_journal_may_end_anywhere_in_a_segment() {
    // Batches of every size up to a whole segment, so that frames end at every distance from its end.
    let machine = Machine::new();
    let mut parts = machine.open(1).unwrap();
    for number in 0..200_usize {
        let batch = put(&format!("key/{number:03}"), &vec![1; number * 13 % 1900]);
        assert!(step(&mut parts.committer, vec![batch])[0].is_ok());
    }
    drop(parts);
    machine.crash(&Random::seeded(4));
    let parts = machine.open(2).unwrap();
    assert_eq!(parts.status.committed(), 200);
    let all = segments::list(&machine.files).unwrap();
    assert!(all.len() > 20 && all.windows(2).all(|pair| pair[0] < pair[1]));
}
