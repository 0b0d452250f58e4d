//! Bases of the journal: what may leave it, and what is left to recover from.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::random::Random;
use crate::storage::backup;
use crate::storage::base::{self, BASE};
use crate::storage::conformance;
use crate::storage::engine::{Engine, EngineOptions, Parts};
use crate::storage::files::Files;
use crate::storage::index::MemoryIndex;
use crate::storage::keeper::GrowthOptions;
use crate::storage::retirement::KeepRule;
use crate::storage::segments;
use crate::storage::sim_files::SimFiles;
use crate::storage::tests::{Machine, START, contents, everything, options, put, step};
use crate::storage::{Batch, DISK_SPACE_IS_LOW, Store, StoreError};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
const KEYS: usize = 300;

pub(super) type Contents = Vec<(Vec<u8>, Vec<u8>)>;

pub(super) fn growing(age: Duration, bytes_max: u64) -> EngineOptions {
    let keep = KeepRule { age, bytes_max };
    let growth = GrowthOptions { base_bytes: 1, keep, ..GrowthOptions::UNBOUNDED };
    EngineOptions { growth, ..options() }
}

/// Opens a machine that keeps nothing of the journal longer than it must.
pub(super) fn open(machine: &Machine, seed: u64) -> Result<Parts, StoreError> {
    machine.open_with(seed, &growing(Duration::ZERO, u64::MAX), &Clock::manual(START))
}

/// Overwrites all keys, deletes some, and appends to a stream.
pub(super) fn write(parts: &mut Parts, generation: u8) {
    for first in (0..KEYS).step_by(10) {
        let mut batches: Vec<Batch> =
            (first..first + 10).map(|key| put(&format!("key/{key:04}"), &[generation; 60])).collect();
        if first % 30 == 0 {
            let mut batch = Batch::new();
            batch.delete(format!("key/{:04}", (first + usize::from(generation)) % KEYS).into_bytes());
            batch.append(b"stream/".to_vec(), vec![generation]);
            batches.push(batch);
        }
        step(&mut parts.committer, batches).into_iter().for_each(|answer| {
            answer.unwrap();
        });
    }
}

pub(super) fn seen(parts: &Parts) -> Contents {
    contents(parts.view.scan(&everything()).unwrap())
}

/// A machine whose journal has lost its beginning to a base, and what is in it.
pub(super) fn with_base() -> (Machine, Contents) {
    let machine = Machine::new();
    let mut parts = open(&machine, 1).unwrap();
    (1..4).for_each(|generation| write(&mut parts, generation));
    parts.applier.turn(true).unwrap();
    parts.keeper.turn(&mut || true).unwrap();
    assert!(first_segment(&machine) > 1);
    write(&mut parts, 4);
    let contents = seen(&parts);
    (machine, contents)
}

pub(super) fn first_segment(machine: &Machine) -> u64 {
    segments::list(&machine.files).unwrap()[0]
}

fn refusal(machine: &Machine) -> String {
    match open(machine, 9).map(|_| ()) {
        Err(StoreError::Corrupt(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_index_that_is_lost_is_rebuilt_from_the_base_and_the_journal_behind_it() {
    let (machine, expected) = with_base();
    machine.index.clear();
    let mut parts = open(&machine, 2).unwrap();
    assert!(seen(&parts) == expected);
    // Numbers of streams go on.
    let mut batch = Batch::new();
    batch.append(b"stream/".to_vec(), vec![9]);
    let committed = step(&mut parts.committer, vec![batch]).remove(0).unwrap();
    assert_eq!(committed.numbers, [41]);
}

#[test]
fn a_base_made_while_rows_change_is_exact_once_the_journal_is_replayed() {
    let machine = Machine::new();
    let mut parts = open(&machine, 1).unwrap();
    (1..4).for_each(|generation| write(&mut parts, generation));
    parts.applier.turn(true).unwrap();
    let Parts { mut committer, mut applier, view, mut keeper, status, .. } = parts;
    let mut pages = 0;
    keeper
        .turn(&mut || {
            pages += 1;
            // One row that the scan has passed, one that it has still to come to, one more, and one less.
            let mut batch = put("key/0000", &[100 + pages; 60]);
            batch.put(b"key/9999".to_vec(), vec![pages]);
            batch.put(vec![b'a', pages], vec![pages]);
            batch.delete(format!("key/{:04}", 50 * usize::from(pages)).into_bytes());
            step(&mut committer, vec![batch]).remove(0).unwrap();
            applier.pass().unwrap();
            true
        })
        .unwrap();
    assert!(pages >= 2, "several pages");
    assert!(status.base().unwrap().from < status.committed());
    let expected = contents(view.scan(&everything()).unwrap());
    machine.index.clear();
    assert!(seen(&open(&machine, 2).unwrap()) == expected);
}

#[test]
fn a_crash_at_any_moment_of_it_loses_nothing() {
    let mut has_ended = false;
    for syncs in 0.. {
        let (machine, expected) = with_base();
        let mut parts = open(&machine, 2).unwrap();
        write(&mut parts, 5);
        parts.applier.turn(true).unwrap();
        let expected = if seen(&parts) == expected { panic!("nothing changed") } else { seen(&parts) };
        machine.files.power_off_after_syncs(syncs);
        has_ended |= parts.keeper.turn(&mut || true).is_ok();
        drop(parts);
        let random = Random::seeded(syncs);
        machine.crash(&random);
        if random.draw_u64().is_multiple_of(2) {
            machine.index.clear();
        }
        let parts = open(&machine, 3).unwrap_or_else(|error| panic!("after {syncs} syncs: {error}"));
        assert!(seen(&parts) == expected, "after {syncs} syncs");
        if has_ended {
            return;
        }
    }
}

#[test]
fn a_segment_stays_until_the_index_is_durable_behind_it() {
    let machine = Machine::new();
    let mut parts = open(&machine, 1).unwrap();
    write(&mut parts, 1);
    parts.keeper.turn(&mut || true).unwrap();
    assert!(parts.status.base().is_some());
    assert_eq!(first_segment(&machine), 1, "there is no checkpoint");
    parts.applier.turn(true).unwrap();
    parts.keeper.turn(&mut || true).unwrap();
    assert!(first_segment(&machine) > 1);
    let all = segments::list(&machine.files).unwrap();
    assert!(*all.last().unwrap() <= parts.status.committed(), "the last one never goes");
}

#[test]
fn what_is_young_stays_unless_there_is_too_much_of_it() {
    let run = |bytes_max: u64| {
        let (machine, clock) = (Machine::new(), Clock::manual(START));
        let mut parts = machine.open_with(1, &growing(HOUR, bytes_max), &clock).unwrap();
        write(&mut parts, 1);
        clock.advance(HOUR / 2);
        let later = parts.status.committed();
        write(&mut parts, 2);
        parts.applier.turn(true).unwrap();
        parts.keeper.turn(&mut || true).unwrap();
        let before = first_segment(&machine);
        clock.advance(HOUR * 2 / 3);
        parts.keeper.turn(&mut || true).unwrap();
        (before, first_segment(&machine), later)
    };
    let (before, after, later) = run(u64::MAX);
    assert_eq!(before, 1, "all are young");
    assert!(after > 1 && after <= later + 1, "of the first half all but what may be of the second are old");
    let (before, _, _) = run(3 * 4096);
    assert!(before > 1, "the oldest went before their time");
}

#[test]
fn nothing_leaves_while_somebody_holds_the_journal() {
    let machine = Machine::new();
    let mut parts = open(&machine, 1).unwrap();
    write(&mut parts, 1);
    parts.applier.turn(true).unwrap();
    let hold = parts.keeper.holds().hold();
    parts.keeper.turn(&mut || true).unwrap();
    assert_eq!(first_segment(&machine), 1);
    drop(hold);
    parts.keeper.turn(&mut || true).unwrap();
    assert!(first_segment(&machine) > 1);
}

#[test]
fn a_base_can_be_given_up_while_it_is_read_back() {
    let machine = Machine::new();
    let mut parts = open(&machine, 1).unwrap();
    write(&mut parts, 1);
    let written = || {
        let handle = machine.files.open("base/next.tmp").ok()?;
        crate::storage::files::read_all(&*handle).ok()
    };
    // The end has 56 bytes. Once it is there the file is only read.
    let is_complete = || {
        let end = |bytes: Vec<u8>| bytes.len().checked_sub(56).is_some_and(|end| bytes[end..].starts_with(b"END."));
        written().is_some_and(end)
    };
    let mut asked = 0;
    parts
        .keeper
        .turn(&mut || {
            asked += u32::from(is_complete());
            !is_complete()
        })
        .unwrap();
    assert_eq!(asked, 1, "it is asked while it is read back, and then no more");
    assert_eq!((written(), parts.status.base()), (None, None));
    parts.keeper.turn(&mut || true).unwrap();
    assert!(parts.status.base().is_some());
}

#[test]
fn a_damaged_base_is_refused_when_it_is_needed_and_no_matter_otherwise() {
    for part in 0..8 {
        let (machine, expected) = with_base();
        let base = base::find(&machine.files).unwrap().unwrap();
        machine.files.flip_bit(&base::path_of(base.from), base.bytes * part / 8 + 7, 1).unwrap();
        assert!(seen(&open(&machine, 2).unwrap()) == expected);
        machine.index.clear();
        let message = refusal(&machine);
        assert!(message.contains(&base::path_of(base.from)) && message.contains("restore"), "{message}");
    }
}

#[test]
fn a_base_that_was_damaged_is_made_again_before_anything_leaves_the_journal() {
    for is_gone in [false, true] {
        let (machine, expected) = with_base();
        let damaged = base::find(&machine.files).unwrap().unwrap();
        let path = base::path_of(damaged.from);
        if is_gone {
            machine.files.remove(&path).unwrap();
        } else {
            machine.files.flip_bit(&path, damaged.bytes / 2, 1).unwrap();
        }
        let mut parts = open(&machine, 2).unwrap();
        assert_eq!(parts.status.base().map(|base| base.from), Some(damaged.from), "it was not looked at yet");
        let before = first_segment(&machine);
        parts.applier.turn(true).unwrap();
        parts.keeper.turn(&mut || false).unwrap();
        assert_eq!((first_segment(&machine), parts.status.base()), (before, None), "and another could not be made");
        parts.keeper.turn(&mut || true).unwrap();
        assert!(parts.status.base().is_some_and(|base| base.from > damaged.from));
        drop(parts);
        machine.index.clear();
        assert!(seen(&open(&machine, 3).unwrap()) == expected, "gone: {is_gone}");
    }
}

#[test]
fn nothing_leaves_for_a_base_that_this_process_has_not_read() {
    let machine = Machine::new();
    let mut parts = machine.open_with(1, &growing(HOUR, u64::MAX), &Clock::manual(START)).unwrap();
    write(&mut parts, 1);
    parts.applier.turn(true).unwrap();
    parts.keeper.turn(&mut || true).unwrap();
    assert_eq!((first_segment(&machine), parts.status.base().is_some()), (1, true), "all are young");
    drop(parts);
    let mut parts = open(&machine, 2).unwrap();
    parts.keeper.turn(&mut || false).unwrap();
    assert_eq!(first_segment(&machine), 1);
    parts.keeper.turn(&mut || true).unwrap();
    assert!(first_segment(&machine) > 1);
    let (bytes, segments) = parts.status.journal_on_disk();
    let left = segments::list(&machine.files).unwrap();
    let lengths = left.iter().map(|first| machine.files.open(&segments::path_of(*first)).unwrap().length().unwrap());
    assert_eq!((bytes, segments), (lengths.sum(), left.len() as u64));
}

#[test]
fn a_base_that_is_missing_is_refused_when_it_is_needed() {
    let (machine, expected) = with_base();
    let base = base::find(&machine.files).unwrap().unwrap();
    machine.files.remove(&base::path_of(base.from)).unwrap();
    assert!(seen(&open(&machine, 2).unwrap()) == expected);
    machine.index.clear();
    assert!(open(&machine, 2).is_err());
    machine.files.remove(BASE).unwrap();
    assert!(refusal(&machine).contains("base/"));
}

#[test]
fn the_newest_whole_base_counts_when_nothing_says_which() {
    let (machine, expected) = with_base();
    machine.files.flip_bit(BASE, 9, 1).unwrap();
    machine.index.clear();
    assert!(seen(&open(&machine, 2).unwrap()) == expected);
    assert!(machine.files.open(BASE).is_ok());
}

#[test]
fn a_store_can_begin_with_an_export() {
    let source = Machine::new();
    let mut parts = open(&source, 1).unwrap();
    write(&mut parts, 1);
    let (summary, bytes) = crate::storage::dump::dump(&parts.view, START, Vec::new(), &mut || true).unwrap().unwrap();
    let machine = Machine::new();
    machine.files.create_directory(base::DIRECTORY).unwrap();
    let handle = machine.files.create(&base::path_of(summary.header.from)).unwrap();
    handle.write_at(0, &bytes).unwrap();
    segments::create_sealed(&machine.files, summary.until + 1, START, &Random::seeded(3)).unwrap();
    for opening in 0..2 {
        let mut copy = open(&machine, 2).unwrap();
        assert!(seen(&copy) == seen(&parts), "opening {opening}");
        assert_eq!(copy.status.committed(), summary.until + 1 + opening);
        step(&mut copy.committer, vec![put("key/0007", &[1; 60])]).remove(0).unwrap();
    }
}

#[test]
fn a_journal_that_ends_before_the_base_is_exact_is_refused() {
    let (machine, _) = with_base();
    let last = *segments::list(&machine.files).unwrap().last().unwrap();
    machine.files.remove(&segments::path_of(last)).unwrap();
    machine.index.clear();
    let base = base::find(&machine.files).unwrap().unwrap();
    if base.until >= last {
        assert!(refusal(&machine).contains("missing"));
    }
    // All of them: the base alone is not enough, because nobody can tell what came after it.
    for first in segments::list(&machine.files).unwrap() {
        machine.files.remove(&segments::path_of(first)).unwrap();
    }
    assert!(refusal(&machine).contains("missing"));
}

#[tokio::test]
async fn new_work_is_refused_while_room_is_low_and_what_has_begun_is_finished() {
    let files = SimFiles::new();
    let growth = GrowthOptions { low_space_bytes: 1 << 20, ..GrowthOptions::UNBOUNDED };
    let options = EngineOptions { growth, ..conformance::options() };
    files.set_space_bytes(Some(options.segment_bytes * 4 + options.ballast_bytes - 1));
    let engine = Engine::open(Arc::new(files.clone()), &MemoryIndex::new(), &options, Random::seeded(1)).unwrap();
    assert!(engine.health().disk.is_low && !engine.health().accepts_new);
    assert_eq!(engine.commit(put("a", b"1")).await, Err(StoreError::Overloaded(DISK_SPACE_IS_LOW)));
    let mut batch = Batch::finishing();
    batch.put(b"b".to_vec(), b"2".to_vec());
    engine.commit(batch).await.unwrap();
    assert!(files.open("BALLAST").is_ok(), "it was not needed");
    engine.close().unwrap();
}

/// Nothing makes a base here but its age.
fn aging() -> EngineOptions {
    let growth = GrowthOptions { keep: KeepRule { age: HOUR * 48, bytes_max: u64::MAX }, ..GrowthOptions::UNBOUNDED };
    EngineOptions { growth, ..options() }
}

fn base_from(parts: &mut Parts) -> Option<u64> {
    parts.applier.turn(true).unwrap();
    parts.keeper.turn(&mut || true).unwrap();
    parts.status.base().map(|base| base.from)
}

#[test]
fn what_was_erased_does_not_wait_for_a_busier_day() {
    let (machine, clock) = (Machine::new(), Clock::manual(START));
    let mut parts = machine.open_with(1, &aging(), &clock).unwrap();
    write(&mut parts, 1);
    clock.advance(HOUR * 47);
    assert_eq!(base_from(&mut parts), None, "too young");
    clock.advance(HOUR);
    let first = base_from(&mut parts).unwrap();
    assert!(first_segment(&machine) > 1, "segments of that age go");
    clock.advance(HOUR * 100);
    assert_eq!(base_from(&mut parts), Some(first), "nothing was committed since");
    step(&mut parts.committer, vec![put("key/0001", b"")]).remove(0).unwrap();
    let second = base_from(&mut parts).unwrap();
    assert!(second > first, "the base before it has what was overwritten");
    step(&mut parts.committer, vec![put("key/0002", b"")]).remove(0).unwrap();
    clock.advance(HOUR * 47);
    assert_eq!(base_from(&mut parts), Some(second), "too young again");
    let expected = seen(&parts);
    machine.index.clear();
    assert!(seen(&machine.open_with(2, &aging(), &clock).unwrap()) == expected);
}

#[test]
fn a_segment_is_left_when_it_is_old_though_it_is_not_full() {
    let (machine, clock) = (Machine::new(), Clock::manual(START));
    let mut parts = machine.open_with(1, &EngineOptions { ballast_bytes: 0, ..aging() }, &clock).unwrap();
    let commit = |parts: &mut Parts| step(&mut parts.committer, vec![put("k", b"v")]).remove(0).unwrap().sequence;
    commit(&mut parts);
    clock.advance(HOUR * 47);
    commit(&mut parts);
    assert_eq!(segments::list(&machine.files).unwrap(), [1]);
    clock.advance(HOUR);
    // As long as there is no room for another one, the old one does.
    machine.files.set_space_bytes(Some(machine.files.used_bytes()));
    commit(&mut parts);
    assert_eq!(segments::list(&machine.files).unwrap(), [1]);
    machine.files.set_space_bytes(None);
    let next = commit(&mut parts);
    assert_eq!(segments::list(&machine.files).unwrap(), [1, next]);
    let expected = seen(&parts);
    machine.index.clear();
    assert!(seen(&machine.open_with(2, &aging(), &clock).unwrap()) == expected);
}

#[test]
fn a_store_that_keeps_nothing_longer_makes_a_base_an_hour() {
    let (machine, clock) = (Machine::new(), Clock::manual(START));
    let mut growing = aging();
    growing.growth.keep.age = Duration::ZERO;
    let mut parts = machine.open_with(1, &growing, &clock).unwrap();
    write(&mut parts, 1);
    assert_eq!(base_from(&mut parts), None);
    clock.advance(HOUR);
    assert!(base_from(&mut parts).is_some());
}

#[test]
fn a_store_whose_base_is_replaced_meanwhile_is_backed_up() {
    /// Makes another base whenever a file is opened.
    struct Hurried(SimFiles, parking_lot::Mutex<Parts>);

    impl Files for Hurried {
        fn create(&self, path: &str) -> std::io::Result<Box<dyn crate::storage::files::FileHandle>> {
            self.0.create(path)
        }

        fn open(&self, path: &str) -> std::io::Result<Box<dyn crate::storage::files::FileHandle>> {
            let mut parts = self.1.lock();
            write(&mut parts, 5);
            parts.applier.turn(true).unwrap();
            parts.keeper.turn(&mut || true).unwrap();
            self.0.open(path)
        }

        fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
            self.0.rename(from, to)
        }

        fn remove(&self, path: &str) -> std::io::Result<()> {
            self.0.remove(path)
        }

        fn list(&self, directory: &str) -> std::io::Result<Vec<String>> {
            self.0.list(directory)
        }

        fn create_directory(&self, directory: &str) -> std::io::Result<()> {
            self.0.create_directory(directory)
        }

        fn sync_directory(&self, directory: &str) -> std::io::Result<()> {
            self.0.sync_directory(directory)
        }

        fn free_bytes(&self) -> std::io::Result<u64> {
            self.0.free_bytes()
        }
    }

    let machine = Machine::new();
    let mut parts = open(&machine, 1).unwrap();
    write(&mut parts, 1);
    parts.applier.turn(true).unwrap();
    parts.keeper.turn(&mut || true).unwrap();
    let committed = parts.status.committed();
    let hold = parts.keeper.holds().hold();
    let state = backup::SourceState { committed: Some(committed), ..backup::SourceState::default() };
    let source = Hurried(machine.files.clone(), parking_lot::Mutex::new(parts));
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("backup");
    let written = backup::write(&source, &destination, state, START, &mut |_| {}).unwrap();
    assert!(written.first_sequence > committed, "the base was made after it was asked what is committed");
    assert_eq!(backup::verify(&destination, None, &mut |_| {}).unwrap().manifest, written);
    let bases = || machine.files.list(base::DIRECTORY).unwrap().len();
    assert!(bases() > 1, "they stay while they may be copied");
    drop(hold);
    source.1.lock().keeper.turn(&mut || true).unwrap();
    assert_eq!(bases(), 1);
}
