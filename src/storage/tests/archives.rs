//! Archives: what is in them when segments have left, and archives that do not answer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::random::Random;
use crate::storage::archive::{Archive, TIMELINE};
use crate::storage::backup::Until;
use crate::storage::base::{self, BASE};
use crate::storage::conformance;
use crate::storage::engine::{Engine, EngineOptions, Parts};
use crate::storage::files::{DiskFiles, FileHandle, Files, read_all};
use crate::storage::frame::{FrameBuilder, Place};
use crate::storage::index::MemoryIndex;
use crate::storage::keeper::{GrowthOptions, JournalHold, JournalHolds};
use crate::storage::overlay::Change;
use crate::storage::retirement::{ClosedSegment, KeepRule};
use crate::storage::segment_reader;
use crate::storage::segments;
use crate::storage::sim_files::SimFiles;
use crate::storage::tests::copies::{back_up, opened, place, restore_to};
use crate::storage::tests::growth::{first_segment, growing, open, seen, write};
use crate::storage::tests::{Machine, START, contents_of, put};
use crate::storage::{Store, StoreError};

fn archiving(parts: &mut Parts, archive: &SimFiles, seed: u64) {
    let archive = Archive::new(Arc::new(archive.clone()), Random::seeded(seed));
    let options = growing(Duration::ZERO, u64::MAX);
    let (files, view) = (Arc::new(SimFiles::new()), Arc::clone(&parts.view));
    let (status, space) = (Arc::clone(&parts.status), Arc::clone(&parts.space));
    let other =
        crate::storage::keeper::Keeper::new(files, view, (status, space), Clock::manual(START), options.growth, None);
    let keeper = std::mem::replace(&mut parts.keeper, other);
    parts.keeper = keeper.with_archive(Some(archive));
}

/// A machine with segments that may leave for this archive.
fn with_archive(archive: &SimFiles, seed: u64, generation: u8) -> (Machine, Parts) {
    let machine = Machine::new();
    let mut parts = open(&machine, seed).unwrap();
    write(&mut parts, generation);
    parts.applier.turn(true).unwrap();
    archiving(&mut parts, archive, seed);
    (machine, parts)
}

fn bytes_of(files: &SimFiles, path: &str) -> Vec<u8> {
    read_all(&*files.open(path).unwrap()).unwrap()
}

fn timeline(machine: &Machine) -> String {
    String::from_utf8(bytes_of(&machine.files, TIMELINE)).unwrap().trim().to_owned()
}

fn archived(archive: &SimFiles, timeline: &str) -> Vec<u64> {
    let names = archive.list(timeline).unwrap();
    names.iter().map(|name| name.strip_suffix(".seg").unwrap().parse().unwrap()).collect()
}

fn corrupt(answer: Result<(), StoreError>) -> String {
    match answer {
        Err(StoreError::Corrupt(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn segments_are_whole_in_the_archive_before_they_leave() {
    let archive = SimFiles::new();
    let (machine, mut parts) = with_archive(&archive, 1, 1);
    let expected = seen(&parts);
    let before = segments::list(&machine.files).unwrap();
    archive.fail_sync_after(2);
    assert!(parts.keeper.turn(&mut || true).is_err());
    parts.keeper.turn(&mut || true).unwrap();
    archive.crash(&Random::seeded(1));
    let timeline = timeline(&machine);
    let (gone, left) = (archived(&archive, &timeline), segments::list(&machine.files).unwrap());
    assert!(!gone.is_empty());
    assert_eq!([gone.as_slice(), left.as_slice()].concat(), before);
    // Put back, they are a whole journal again.
    for first in gone {
        let path = segments::path_of(first);
        let bytes = bytes_of(&archive, &path.replace(segments::DIRECTORY, &timeline));
        machine.files.create(&path).unwrap().write_at(0, &bytes).unwrap();
    }
    machine.files.remove(BASE).unwrap();
    machine.files.remove(&base::path_of(base::find(&machine.files).unwrap().unwrap().from)).unwrap();
    machine.index.clear();
    assert!(seen(&open(&machine, 2).unwrap()) == expected);
}

#[test]
fn archived_segments_carry_an_older_backup_on() {
    let archive = SimFiles::new();
    let (machine, mut parts) = with_archive(&archive, 1, 1);
    let (directory, older, data) = place();
    let manifest = back_up(&machine, &older).unwrap();
    (2..4).for_each(|generation| write(&mut parts, generation));
    parts.applier.turn(true).unwrap();
    let whole = directory.path().join("whole");
    back_up(&machine, &whole).unwrap();
    parts.keeper.turn(&mut || true).unwrap();
    let (timeline, left) = (timeline(&machine), first_segment(&machine));
    assert!(left > manifest.last_sequence + 10, "{left}");
    // As the documentation says.
    restore_to(&older, &data, None).unwrap();
    let last = *segments::list(&DiskFiles::new(&data)).unwrap().last().unwrap();
    for first in archived(&archive, &timeline).into_iter().filter(|first| *first >= last) {
        let bytes = bytes_of(&archive, &format!("{timeline}/{first:020}.seg"));
        std::fs::write(data.join(segments::path_of(first)), bytes).unwrap();
    }
    let same = directory.path().join("same");
    let restored = restore_to(&whole, &same, Some(Until::Sequence(left - 1))).unwrap();
    assert_eq!(restored.until_sequence, left - 1);
    assert!(opened(&data) == opened(&same));
    assert!(segment_reader::last_frame(&DiskFiles::new(&data)).unwrap().unwrap().sequence >= left - 1);
}

#[test]
fn two_journals_do_not_mix_in_one_archive() {
    let archive = SimFiles::new();
    let mut machines: Vec<(Machine, Parts)> =
        (1..3).map(|seed| with_archive(&archive, u64::from(seed), seed)).collect();
    let mut originals = Vec::new();
    for (machine, parts) in &mut machines {
        let all = segments::list(&machine.files).unwrap();
        let bytes: Vec<Vec<u8>> =
            all.iter().map(|first| bytes_of(&machine.files, &segments::path_of(*first))).collect();
        parts.keeper.turn(&mut || true).unwrap();
        assert!(first_segment(machine) > 1);
        originals.push((timeline(machine), all, bytes));
    }
    assert_ne!(originals[0].0, originals[1].0);
    for (timeline, all, bytes) in originals {
        let gone = archived(&archive, &timeline);
        assert_eq!(gone, all[..gone.len()]);
        for (first, bytes) in gone.iter().zip(bytes) {
            assert!(bytes_of(&archive, &format!("{timeline}/{first:020}.seg")) == bytes);
        }
    }
}

#[test]
fn a_name_is_drawn_once_and_again_when_it_is_gone_or_damaged() {
    let archive = SimFiles::new();
    let (machine, mut parts) = with_archive(&archive, 1, 1);
    let mut names = Vec::new();
    for generation in 2..6 {
        parts.keeper.turn(&mut || true).unwrap();
        names.push(timeline(&machine));
        match generation {
            3 => machine.files.remove(TIMELINE).unwrap(),
            4 => machine.files.flip_bit(TIMELINE, 3, 7).unwrap(),
            _ => {}
        }
        write(&mut parts, generation);
        parts.applier.turn(true).unwrap();
    }
    assert_eq!(names[0], names[1]);
    assert!(names[1] != names[2] && names[2] != names[3] && names[1] != names[3]);
}

#[test]
fn what_is_in_the_archive_is_never_replaced() {
    let archive = SimFiles::new();
    let (machine, mut parts) = with_archive(&archive, 1, 1);
    let (copy, mut copy_parts) = with_archive(&archive, 2, 2);
    parts.keeper.turn(&mut || true).unwrap();
    let path = format!("{}/{:020}.seg", timeline(&machine), 1);
    let before = bytes_of(&archive, &path);
    copy.files.create(TIMELINE).unwrap().write_at(0, &bytes_of(&machine.files, TIMELINE)).unwrap();
    let message = corrupt(copy_parts.keeper.turn(&mut || true));
    assert!(message.contains(&path) && message.contains(TIMELINE), "{message}");
    assert!(bytes_of(&archive, &path) == before && first_segment(&copy) == 1);
    // As the message says.
    copy.files.remove(TIMELINE).unwrap();
    copy_parts.keeper.turn(&mut || true).unwrap();
    assert!(first_segment(&copy) > 1 && bytes_of(&archive, &path) == before);
}

#[test]
fn a_segment_that_was_copied_and_not_removed_leaves_the_next_time() {
    let archive = SimFiles::new();
    let (machine, mut parts) = with_archive(&archive, 1, 1);
    let first = segments::path_of(1);
    let original = bytes_of(&machine.files, &first);
    parts.keeper.turn(&mut || true).unwrap();
    let after = first_segment(&machine);
    machine.files.create(&first).unwrap().write_at(0, &original).unwrap();
    let writes = archive.writes();
    // There is a gap behind it, so only the copy is asked for.
    let archive_of = Archive::new(Arc::new(archive.clone()), Random::seeded(9));
    let next = archived(&archive, &timeline(&machine)).get(1).copied().unwrap_or(after);
    let segment = ClosedSegment { first: 1, last: next - 1, bytes: original.len() as u64 };
    assert!(archive_of.keep(&machine.files, &segment, &mut || true).unwrap());
    assert_eq!(archive.writes(), writes, "nothing was written");
}

#[test]
fn a_damaged_segment_does_not_leave_for_the_archive() {
    let archive = SimFiles::new();
    let (machine, mut parts) = with_archive(&archive, 1, 1);
    let path = segments::path_of(1);
    machine.files.flip_bit(&path, 1000, 1).unwrap();
    let message = corrupt(parts.keeper.turn(&mut || true));
    assert!(message.contains(&path), "{message}");
    assert_eq!(first_segment(&machine), 1);
    assert!(archived(&archive, &timeline(&machine)).is_empty());
    // As the message says: it is not needed.
    machine.files.remove(&path).unwrap();
    parts.keeper.turn(&mut || true).unwrap();
    assert!(!archived(&archive, &timeline(&machine)).is_empty());
    let expected = seen(&parts);
    machine.index.clear();
    assert!(seen(&open(&machine, 2).unwrap()) == expected);
}

#[test]
fn copying_can_be_given_up_after_each_piece() {
    let (files, archive) = (SimFiles::new(), SimFiles::new());
    files.create_directory(segments::DIRECTORY).unwrap();
    segments::create_sealed(&files, 1, START, &Random::seeded(1)).unwrap();
    // Three MiB more behind the seal.
    let mut reader = segment_reader::SegmentReader::open(&files, 1).unwrap();
    let seed = segments::read_segment_header(reader.header()).unwrap();
    let mut previous = reader.next_frame().unwrap().unwrap().frame.checksum;
    let (mut offset, path) = (reader.offset(), segments::path_of(1));
    for first_sequence in 2..5 {
        let mut frame = FrameBuilder::new();
        let value = Some(Arc::from(vec![7; 1 << 20]));
        frame.add_batch(&[Change { key: b"key".to_vec(), value, revision: first_sequence, absent_below: false }]);
        let (bytes, checksum) = frame.finish(Place { first_sequence, previous, seed }, START);
        files.open(&path).unwrap().write_at(offset, bytes).unwrap();
        (offset, previous) = (offset + bytes.len() as u64, checksum);
    }
    let segment = ClosedSegment { first: 1, last: 4, bytes: offset };
    let keeper = Archive::new(Arc::new(archive.clone()), Random::seeded(1));
    let mut is_kept = false;
    for allowed in 0..40 {
        let mut asked = 0;
        is_kept = keeper
            .keep(&files, &segment, &mut || {
                asked += 1;
                asked <= allowed
            })
            .unwrap();
        let timeline = String::from_utf8(bytes_of(&files, TIMELINE)).unwrap();
        assert_eq!(archive.list(timeline.trim()).unwrap().len(), usize::from(is_kept), "after {allowed} pieces");
        if is_kept {
            assert!(allowed >= 9, "copied, compared and checked in {allowed} pieces");
            break;
        }
    }
    assert!(is_kept);
}

/// An archive that does something before each file is made.
struct Before<F>(SimFiles, F);

impl<F: Fn() + Send + Sync + 'static> Files for Before<F> {
    fn create(&self, path: &str) -> std::io::Result<Box<dyn FileHandle>> {
        (self.1)();
        self.0.create(path)
    }

    fn open(&self, path: &str) -> std::io::Result<Box<dyn FileHandle>> {
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

#[test]
fn a_hold_does_not_wait_for_the_archive_and_the_segment_stays() {
    let machine = Machine::new();
    let mut parts = open(&machine, 1).unwrap();
    write(&mut parts, 1);
    parts.applier.turn(true).unwrap();
    let holds: JournalHolds = parts.keeper.holds();
    let taken: Arc<Mutex<Option<JournalHold>>> = Arc::default();
    let slow = Before(SimFiles::new(), {
        let taken = Arc::clone(&taken);
        move || *taken.lock() = Some(holds.hold())
    });
    let Parts { keeper, .. } = parts;
    let mut keeper = keeper.with_archive(Some(Archive::new(Arc::new(slow), Random::seeded(1))));
    keeper.turn(&mut || true).unwrap();
    assert!(taken.lock().is_some() && first_segment(&machine) == 1);
    drop(taken.lock().take());
    // It is in the archive by now, so nobody takes a hold for it; one is taken for the next.
    keeper.turn(&mut || true).unwrap();
    assert!(first_segment(&machine) > 1);
}

/// Something that does not answer until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut is_open = self.is_open.lock();
        while !*is_open {
            self.changed.wait(&mut is_open);
        }
    }

    fn open(&self) {
        *self.is_open.lock() = true;
        self.changed.notify_all();
    }
}

/// What `work` answers, if it does: what fails here would wait for ever.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, answered) = sync_channel(1);
    std::thread::spawn(move || answer.send(work()));
    answered.recv_timeout(Duration::from_secs(60)).expect("it waits for the archive")
}

#[tokio::test]
async fn an_archive_that_does_not_answer_keeps_nobody_waiting() {
    let (files, index, gate) = (SimFiles::new(), MemoryIndex::new(), Arc::new(Gate::default()));
    let (asked, is_asked): (SyncSender<()>, Receiver<()>) = sync_channel(1);
    let archive: Arc<dyn Files> = Arc::new(Before(SimFiles::new(), {
        let gate = Arc::clone(&gate);
        move || {
            let _ = asked.try_send(());
            gate.pass();
        }
    }));
    let keep = KeepRule { age: Duration::ZERO, bytes_max: 0 };
    let growth =
        GrowthOptions { base_bytes: 1, keep, low_space_bytes: 1 << 20, turn_interval: Duration::from_millis(1) };
    let options = EngineOptions { growth, ..conformance::options() };
    let end_timeout = Duration::from_millis(100);
    let shared: Arc<dyn Files> = Arc::new(files.clone());
    let engine = Engine::open_by(shared, &index, &options, Random::seeded(1), (Some(archive), end_timeout)).unwrap();
    let engine = Arc::new(engine);
    let mut number: u32 = 0;
    while is_asked.try_recv().is_err() {
        number += 1;
        engine.commit(put(&format!("key/{:04}", number % 100), &[7; 100])).await.unwrap();
        tokio::task::yield_now().await;
    }
    // The keeper waits for the archive from here on.
    let other = Arc::clone(&engine);
    drop(in_time(move || other.hold_journal()));
    files.set_space_bytes(Some(files.used_bytes()));
    let other = Arc::clone(&engine);
    in_time(move || {
        while !other.health().disk.is_low {
            std::thread::yield_now()
        }
    });
    files.set_space_bytes(None);
    let (expected, other) = (contents_of(&*engine), Arc::clone(&engine));
    in_time(move || other.close()).unwrap();
    let last = segment_reader::last_frame(&files).unwrap().unwrap();
    assert!(last.sequence > engine.health().committed.saturating_sub(1));
    let before = segments::list(&files).unwrap();
    // What was left behind touches nothing once it gets its answer.
    gate.open();
    let shared: Arc<dyn Files> = Arc::new(files.clone());
    let quiet = EngineOptions { growth: GrowthOptions::UNBOUNDED, ..options };
    let opened = Engine::open(shared, &index, &quiet, Random::seeded(2)).unwrap();
    assert!(contents_of(&opened) == expected);
    assert_eq!(segments::list(&files).unwrap(), before);
    opened.close().unwrap();
}
