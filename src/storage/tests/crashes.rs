//! The power goes off at any sync, again and again. What was acknowledged is there afterwards, what was refused is not,
//! and what was neither is there as a whole or not at all.

use crate::random::Random;
use crate::storage::committer::Committer;
use crate::storage::conformance;
use crate::storage::engine::{Engine, Parts};
use crate::storage::files::{Files, Shortage};
use crate::storage::index::IndexError;
use crate::storage::memory::MemoryStore;
use crate::storage::segments;
use crate::storage::sim_files::SimFiles;
use crate::storage::tests::{Machine, contents, contents_of, everything, put, step};
use crate::storage::{Batch, Scan, Store, StoreError};

const LIVES: u64 = 4;
const ROUNDS: u64 = 30;

fn below(random: &Random, end: u64) -> u64 {
    random.draw_u64() % end
}

fn key(random: &Random) -> Vec<u8> {
    format!("key/{:02}", below(random, 24)).into_bytes()
}

fn random_batch(random: &Random) -> Batch {
    let mut batch = Batch::new();
    let value = vec![random.draw_u64().to_le_bytes()[0]; below(random, 700) as usize];
    match below(random, 6) {
        0 => batch.insert(key(random), value),
        1 => batch.delete(key(random)),
        2 => batch.append(b"stream/".to_vec(), value),
        3 => {
            batch.put(b"left".to_vec(), value.clone());
            batch.put(b"right".to_vec(), value.clone());
            batch.append(b"stream/".to_vec(), value);
        }
        _ => batch.put(key(random), value),
    }
    batch
}

/// Commits the same to the model and compares the answers. Returns batches whose fate is not known.
async fn step_both(committer: &mut Committer, model: &MemoryStore, batches: Vec<Batch>) -> Vec<Batch> {
    let mut unknown = Vec::new();
    for (answer, batch) in step(committer, batches.clone()).into_iter().zip(batches) {
        match answer {
            Err(StoreError::Indeterminate(_)) => unknown.push(batch),
            Err(StoreError::Poisoned(_)) => {}
            answer => {
                assert!(unknown.is_empty(), "nothing is acknowledged after a failure");
                let expected = model.commit(batch).await;
                assert_eq!(answer.map(|committed| committed.numbers), expected.map(|committed| committed.numbers));
            }
        }
    }
    unknown
}

async fn live(machine: &Machine, parts: &mut Parts, model: &MemoryStore, random: &Random) -> Vec<Batch> {
    for _ in 0..ROUNDS {
        match below(random, 10) {
            0 => {
                // Fails when the index was told to.
                let _ = parts.applier.pass();
            }
            1 => {
                // Fails when the power goes off while it is written.
                let _ = parts.applier.checkpoint();
            }
            2 => {
                // An index without room loses what it was not synced with when it is reopened in the next turn.
                machine.index.fail_next(IndexError::Short(Shortage::Space));
                let _ = parts.applier.turn(true);
                assert_eq!(contents(parts.view.scan(&everything()).unwrap()), contents_of(model));
            }
            3 => {
                let _ = parts.applier.turn(below(random, 2) == 0);
            }
            _ => {
                let batches = (0..=below(random, 5)).map(|_| random_batch(random)).collect();
                let unknown = step_both(&mut parts.committer, model, batches).await;
                if parts.status.poisoned().is_some() {
                    return unknown;
                }
                assert_eq!(contents(parts.view.scan(&everything()).unwrap()), contents_of(model));
            }
        }
    }
    if below(random, 2) == 0 {
        let _ = parts.committer.seal();
    }
    Vec::new()
}

/// The store must hold what the model holds, or that and the first of the batches whose fate is not known.
async fn compare(parts: &Parts, model: &MemoryStore, unknown: Vec<Batch>, seed: u64) {
    let found = contents(parts.view.scan(&everything()).unwrap());
    let mut unknown = unknown.into_iter();
    while found != contents_of(model) {
        let Some(batch) = unknown.next() else { panic!("seed {seed}: the store does not hold what was acknowledged") };
        let _ = model.commit(batch).await;
    }
}

async fn crash_and_recover(seed: u64) {
    let random = Random::seeded(seed);
    let (machine, model) = (Machine::new(), MemoryStore::new());
    for life in 0..LIVES {
        machine.files.power_off_after_syncs(below(&random, 60));
        let unknown = match machine.open(seed + life) {
            Ok(mut parts) => live(&machine, &mut parts, &model, &random).await,
            Err(error) => {
                assert!(matches!(error, StoreError::Io { .. }), "seed {seed}: {error}");
                Vec::new()
            }
        };
        machine.end(&random);
        let parts = machine.open(seed + life).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        compare(&parts, &model, unknown, seed).await;
        drop(parts);
        // A second crash, of a process that has only read, must not matter: what it was shown stays.
        machine.crash(&random);
        let parts = machine.open(seed + life).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        compare(&parts, &model, Vec::new(), seed).await;
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_whenever_the_power_goes_off() {
    for seed in 0..400 {
        crash_and_recover(seed).await;
    }
}

/// What the first process after a clean stop was writing when the power went off is a torn tail like any other.
#[tokio::test]
async fn a_torn_first_frame_after_a_clean_stop_is_removed() {
    for seed in 0..60 {
        let machine = Machine::new();
        let mut parts = machine.open(1).unwrap();
        step(&mut parts.committer, vec![put("kept", &[1; 2000])]).pop().unwrap().unwrap();
        parts.committer.seal().unwrap();
        drop(parts);
        let mut parts = machine.open(2).unwrap();
        machine.files.power_off_after_syncs(seed % 4);
        let is_acknowledged = step(&mut parts.committer, vec![put("next", &[2; 2000])]).pop().unwrap().is_ok();
        machine.crash(&Random::seeded(seed));
        let parts = machine.open(3).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let found = contents(parts.view.scan(&everything()).unwrap());
        assert_eq!(found[0], (b"kept".to_vec(), vec![1; 2000]));
        assert!(found.len() == 2 || !is_acknowledged, "seed {seed}");
    }
}

/// The same workload, cut off at each of its syncs in turn.
#[tokio::test]
async fn every_sync_may_be_the_last() {
    let mut cut = 0;
    loop {
        let random = Random::seeded(7);
        let (machine, model) = (Machine::new(), MemoryStore::new());
        machine.files.power_off_after_syncs(cut);
        let mut is_cut = true;
        let unknown = match machine.open(1) {
            Ok(mut parts) => {
                let unknown = live(&machine, &mut parts, &model, &random).await;
                is_cut = machine.files.create("probe").is_err();
                unknown
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Io { .. }), "cut {cut}: {error}");
                Vec::new()
            }
        };
        for _ in 0..3 {
            machine.crash(&Random::seeded(cut));
        }
        let parts = machine.open(2).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        compare(&parts, &model, unknown, cut).await;
        if !is_cut {
            break;
        }
        cut += 1;
    }
    assert!(cut > 20, "{cut} syncs are too few to mean anything");
}

/// With all threads running: writers that count what was acknowledged, and the power going off under them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_engine_loses_nothing_acknowledged() {
    for seed in 0..12 {
        let (machine, random) = (Machine::new(), Random::seeded(seed));
        let open = || {
            let files = std::sync::Arc::new(machine.files.clone());
            Engine::open(files, &machine.index, &conformance::options(), Random::seeded(seed))
        };
        let engine = std::sync::Arc::new(open().unwrap());
        machine.files.power_off_after_syncs(20 + below(&random, 200));
        let writers: Vec<_> = (0..8_u64)
            .map(|writer| {
                let engine = std::sync::Arc::clone(&engine);
                tokio::spawn(async move {
                    let mut acknowledged = 0_u64;
                    loop {
                        let mut batch = Batch::new();
                        batch.put(format!("count/{writer}").into_bytes(), (acknowledged + 1).to_be_bytes().to_vec());
                        batch.append(format!("rows/{writer}/").into_bytes(), vec![1; 300]);
                        match engine.commit(batch).await {
                            Ok(_) => acknowledged += 1,
                            Err(StoreError::Overloaded(_)) => tokio::task::yield_now().await,
                            Err(_) => return acknowledged,
                        }
                    }
                })
            })
            .collect();
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.push(writer.await.unwrap());
        }
        assert!(!engine.failed().await.is_empty());
        drop(engine);
        machine.crash(&random);
        let engine = open().unwrap();
        for (writer, count) in acknowledged.into_iter().enumerate() {
            let found = engine.get(format!("count/{writer}").as_bytes()).unwrap();
            let found = found.map_or(0, |found| u64::from_be_bytes((*found.value).try_into().unwrap()));
            assert!(found == count || found == count + 1, "seed {seed}: {found} found, {count} acknowledged");
            let rows = engine.scan(&Scan::prefix(format!("rows/{writer}/").as_bytes(), 10_000)).unwrap();
            assert_eq!(rows.len() as u64, found, "seed {seed}: half a batch");
        }
    }
}

#[test]
fn a_segment_that_got_no_frame_does_not_break_the_chain() {
    for torn in [false, true] {
        let machine = Machine::new();
        let mut parts = machine.open(1).unwrap();
        assert!(step(&mut parts.committer, vec![put("before", b"1")])[0].is_ok());
        parts.applier.turn(true).unwrap();
        let last = parts.status.committed();
        drop(parts);
        machine.kill(&Random::seeded(1));
        // Begun, named, and then the power was off.
        let header = segment_header(&machine.files);
        let begun = machine.files.create(&segments::path_of(last + 1)).unwrap();
        begun.write_at(0, &header).unwrap();
        begun.write_at(header.len() as u64, &[u8::from(torn); 4096]).unwrap();
        begun.sync_data().unwrap();
        let mut parts = machine.open(2).unwrap();
        assert!(step(&mut parts.committer, vec![put("after", b"2")])[0].is_ok());
        drop(parts);
        machine.kill(&Random::seeded(2));
        // Everything that is read is read in one go.
        machine.index.clear();
        let parts = machine.open(3).unwrap();
        assert!([&b"before"[..], b"after"].iter().all(|key| parts.view.get(key).unwrap().is_some()));
    }
}

fn segment_header(files: &SimFiles) -> Vec<u8> {
    let first = segments::list(files).unwrap()[0];
    let mut header = vec![0; segments::SEGMENT_HEADER_BYTES];
    files.open(&segments::path_of(first)).unwrap().read_at(0, &mut header).unwrap();
    header
}

#[test]
fn a_segment_whose_name_was_not_durable_when_it_was_found_may_be_gone_after_a_power_cut() {
    for seed in 0..20 {
        let random = Random::seeded(seed);
        let machine = Machine::new();
        let mut parts = machine.open(seed).unwrap();
        step(&mut parts.committer, vec![put("a", b"1")])[0].clone().unwrap();
        let next = segments::path_of(2);
        // The process is killed right behind the renaming of the segment that it was going to begin.
        let prepared = segments::path_of(1);
        let handle = machine.files.create("journal/next.tmp").unwrap();
        let header = crate::storage::files::read_all(&*machine.files.open(&prepared).unwrap()).unwrap();
        handle.write_at(0, &header[..segments::SEGMENT_HEADER_BYTES]).unwrap();
        handle.set_length(4096).unwrap();
        handle.sync_data().unwrap();
        machine.files.rename("journal/next.tmp", &next).unwrap();
        drop(parts);
        machine.kill(&random);
        drop(machine.open(seed + 1).unwrap());
        machine.crash(&random);
        let parts = machine.open(seed + 2).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(parts.view.get(b"a").unwrap().unwrap().value.as_ref(), b"1");
    }
}
