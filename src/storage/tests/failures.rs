//! Errors of the disk while the engine runs.

use std::sync::Arc;
use std::time::Duration;

use crate::random::Random;
use crate::storage::conformance;
use crate::storage::engine::Engine;
use crate::storage::files::Files;
use crate::storage::index::{IndexError, MemoryIndex};
use crate::storage::segments;
use crate::storage::sim_files::SimFiles;
use crate::storage::tests::{Machine, put, step};
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
    index.fail_next(IndexError::Full);
    engine.commit(put("a", b"1")).await.unwrap();
    wait_until(|| engine.health().overlay_bytes == 0).await;
    assert!(engine.health().poisoned.is_none());
    index.fail_next(IndexError::Corrupt("a test".to_owned()));
    engine.commit(finishing("b", b"1")).await.unwrap();
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
