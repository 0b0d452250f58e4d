//! Backups and what is made of them, and looking whether a store is whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::clock::Clock;
use crate::domain::audit::{Anchor, AuditHead, ChainProblem, Change, Operator};
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::storage::backup::{self, MANIFEST, Manifest, SourceState, Until, VerifiedBackup};
use crate::storage::engine::{LOCK, Parts, SegmentsBy, take_lock};
use crate::storage::files::{DiskFiles, Files, read_all};
use crate::storage::held::{Held, HeldFile};
use crate::storage::index::MemoryIndex;
use crate::storage::reached::REACHED;
use crate::storage::record::encode;
use crate::storage::restore::{Point, Restored, restore};
use crate::storage::tests::growth::{self, Contents, with_base};
use crate::storage::tests::{Machine, START, contents, everything, options, put, step};
use crate::storage::verify::{self, VerifiedDirectory};
use crate::storage::{Batch, StoreError, base, checkpoint, keys, manifest, segments};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn place() -> (TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (backup, data) = (directory.path().join("backup"), directory.path().join("data"));
    (directory, backup, data)
}

pub(super) fn back_up(machine: &Machine, destination: &Path) -> Result<Manifest, StoreError> {
    let mut bytes = Vec::new();
    let written =
        backup::write(&machine.files, destination, SourceState::default(), START, &mut |progress| bytes.push(progress));
    if written.is_ok() {
        let last = bytes.last().unwrap();
        assert_eq!(last.bytes, last.bytes_total, "the progress ends where it should");
    }
    written
}

fn verify(backup: &Path) -> Result<VerifiedBackup, StoreError> {
    backup::verify(backup, None, &mut |_| {})
}

pub(super) fn restore_to(backup: &Path, data: &Path, until: Option<Until>) -> Result<Restored, StoreError> {
    restore_asking(backup, data, Point { until, ask_since: None }, START)
}

fn restore_asking(backup: &Path, data: &Path, point: Point, now: Timestamp) -> Result<Restored, StoreError> {
    restore(backup, data, point, now, &Random::seeded(3), &mut |_| {})
}

fn message<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Corrupt(message) | StoreError::Invalid(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// What a gateway would find in a directory.
pub(super) fn opened(directory: &Path) -> Contents {
    let files: Arc<dyn Files> = Arc::new(DiskFiles::new(directory));
    let (index, clock) = (MemoryIndex::new(), Clock::manual(START));
    let parts = Parts::open(files, &index, &options(), Random::seeded(1), SegmentsBy::Committer, clock).unwrap();
    contents(parts.view.scan(&everything()).unwrap())
}

/// A machine with one commit a minute and a frame for each, without a base: keys `key/1` to `key/<count>`.
fn minutes(count: u32) -> Machine {
    let machine = Machine::new();
    let clock = Clock::manual(START);
    let mut parts = machine.open_with(1, &options(), &clock).unwrap();
    for number in 1..=count {
        clock.advance(MINUTE);
        step(&mut parts.committer, vec![put(&format!("key/{number}"), &[1; 900])]).remove(0).unwrap();
    }
    drop(parts);
    machine
}

/// A batch with the next entry of the audit.
fn audited(head: &mut AuditHead) -> Batch {
    let change = Change::new("merchant.update", "m_1");
    let (entry, next) = head.extend(&Operator::process("test"), &change, START).unwrap();
    *head = next;
    let mut batch = Batch::new();
    batch.append(keys::audit(), encode(&entry).unwrap());
    batch.put(keys::audit_head(), encode(head).unwrap());
    batch
}

/// Reads, changes and writes the list of a backup.
fn change_manifest(backup: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let path = backup.join(MANIFEST);
    let mut manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_backup_of_base_and_journal_is_whole_and_holds_everything() {
    let (_directory, backup, data) = place();
    let (machine, expected) = with_base();
    let manifest = back_up(&machine, &backup).unwrap();
    assert!(manifest.base_from > 0 && manifest.files.len() > 3, "{manifest:?}");
    assert_eq!(verify(&backup).unwrap().manifest, manifest);
    let restored = restore_to(&backup, &data, None).unwrap();
    assert_eq!(restored.until_sequence, manifest.last_sequence);
    assert!(opened(&data) == expected);
    let held = HeldFile::of(&data).read().unwrap().unwrap();
    assert_eq!((held.restored_until_sequence, held.restored_until_time), (manifest.last_sequence, START));
}

#[test]
fn a_store_is_restored_to_any_of_its_commits_and_to_no_other() {
    let (directory, backup, _) = place();
    let manifest = back_up(&minutes(9), &backup).unwrap();
    assert_eq!((manifest.first_sequence, manifest.last_sequence), (0, 9));
    assert_eq!(manifest.last_time, START.plus(9 * MINUTE));
    let at = |minutes: u32, seconds: i64| {
        Until::Time(Timestamp::from_unix_s(START.unix_s() + i64::from(minutes) * 60 + seconds))
    };
    let cases = [
        (None, 9),
        (Some(Until::Sequence(1)), 1),
        (Some(Until::Sequence(5)), 5),
        (Some(Until::Sequence(9)), 9),
        (Some(at(1, 0)), 1),
        (Some(at(4, 59)), 4),
        (Some(at(9, 0)), 9),
        (Some(at(900, 0)), 9),
    ];
    for (case, (until, expected)) in cases.into_iter().enumerate() {
        let data = directory.path().join(format!("data-{case}"));
        let restored = restore_to(&backup, &data, until).unwrap();
        assert_eq!(restored.until_sequence, expected, "{until:?}");
        assert_eq!(restored.until_time, START.plus(MINUTE * u32::try_from(expected).unwrap()));
        assert_eq!(opened(&data).len() as u64, expected, "{until:?}");
    }
    for until in [Until::Sequence(0), Until::Sequence(10), at(0, 59), at(0, -900)] {
        let data = directory.path().join("nowhere");
        assert!(message(restore_to(&backup, &data, Some(until))).contains("sequences 1 to 9"), "{until:?}");
        assert!(!data.exists() && !directory.path().join("nowhere.restoring").exists());
    }
}

#[test]
fn a_clock_that_was_ahead_for_a_while_hides_nothing_that_came_after() {
    let (_directory, backup, data) = place();
    let machine = Machine::new();
    for (minute, ahead) in [(1, 0), (2, 600), (3, 600), (4, 0), (5, 0), (6, 0)] {
        let clock = Clock::manual(START.plus((minute + ahead) * MINUTE));
        let mut parts = machine.open_with(u64::from(minute), &options(), &clock).unwrap();
        step(&mut parts.committer, vec![put(&format!("key/{minute}"), b"")]).remove(0).unwrap();
    }
    back_up(&machine, &backup).unwrap();
    let restored = restore_to(&backup, &data, Some(Until::Time(START.plus(5 * MINUTE)))).unwrap();
    assert_eq!((restored.until_sequence, restored.until_time), (5, START.plus(5 * MINUTE)));
    assert_eq!(opened(&data).len(), 5);
}

#[test]
fn with_a_base_nothing_before_it_is_exact() {
    let (directory, backup, data) = place();
    let (machine, _) = with_base();
    let manifest = back_up(&machine, &backup).unwrap();
    let before = Until::Sequence(manifest.first_sequence - 1);
    assert!(message(restore_to(&backup, &data, Some(before))).contains("can be restored to sequences"));
    let first = restore_to(&backup, &data, Some(Until::Sequence(manifest.first_sequence))).unwrap();
    // Commits of one frame are restored together or not at all.
    assert_eq!(first.until_sequence, manifest.first_sequence);
    let between = Until::Sequence(manifest.last_sequence - 1);
    let restored = restore_to(&backup, &directory.path().join("other"), Some(between)).unwrap();
    assert!((manifest.first_sequence..manifest.last_sequence).contains(&restored.until_sequence), "{restored:?}");
}

#[test]
fn every_flipped_bit_and_every_missing_file_is_found() {
    let (_directory, backup, data) = place();
    let (machine, _) = with_base();
    let manifest = back_up(&machine, &backup).unwrap();
    for file in &manifest.files {
        let path = backup.join(&file.path);
        let whole = std::fs::read(&path).unwrap();
        for offset in [0, 20, whole.len() / 2, whole.len() - 1] {
            flip(&path, offset);
            let said = message(verify(&backup));
            assert!(said.contains(&file.path) && said.contains("not as it was"), "{said}");
            assert!(message(restore_to(&backup, &data, None)).contains(&file.path));
            std::fs::write(&path, &whole).unwrap();
        }
        std::fs::write(&path, &whole[..whole.len() - 8]).unwrap();
        assert!(message(verify(&backup)).contains(&file.path));
        std::fs::remove_file(&path).unwrap();
        let said = message(verify(&backup));
        assert!(said.contains(&file.path) && said.contains("missing"), "{said}");
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(verify(&backup).is_ok() && !data.exists());
}

#[test]
fn what_was_damaged_before_its_checksum_was_made_is_found_with_its_place() {
    let (_directory, backup, _) = place();
    let (machine, _) = with_base();
    let manifest = back_up(&machine, &backup).unwrap();
    for (number, file) in manifest.files.iter().enumerate() {
        let path = backup.join(&file.path);
        let whole = std::fs::read(&path).unwrap();
        flip(&path, whole.len() / 2);
        let sha256 = hex::encode(Sha256::digest(std::fs::read(&path).unwrap()));
        change_manifest(&backup, |manifest| manifest["files"][number]["sha256"] = sha256.into());
        let said = message(verify(&backup));
        assert!(said.contains(&file.path) && said.contains("byte"), "{said}");
        std::fs::write(&path, &whole).unwrap();
        change_manifest(&backup, |manifest| manifest["files"][number]["sha256"] = file.sha256.clone().into());
    }
    assert!(verify(&backup).is_ok());
}

#[test]
fn a_list_that_is_not_right_is_refused() {
    let (_directory, backup, _) = place();
    let (machine, _) = with_base();
    back_up(&machine, &backup).unwrap();
    let path = backup.join(MANIFEST);
    let whole = std::fs::read(&path).unwrap();
    let changed = |change: fn(&mut serde_json::Value)| {
        std::fs::write(&path, &whole).unwrap();
        change_manifest(&backup, change);
        message(verify(&backup))
    };
    let newer = changed(|manifest| manifest["format"] = 2.into());
    assert!(newer.contains("format 2") && newer.contains("newer"), "{newer}");
    let outside = changed(|manifest| manifest["files"][1]["path"] = "../../etc/passwd".into());
    assert!(outside.contains("no file of a store"), "{outside}");
    let later = changed(|manifest| manifest["last_sequence"] = 1_000_000.into());
    assert!(later.contains("its list says"), "{later}");
    let without = |place: usize| {
        std::fs::write(&path, &whole).unwrap();
        change_manifest(&backup, |manifest| {
            manifest["files"].as_array_mut().unwrap().remove(place);
        });
        message(verify(&backup))
    };
    assert!(without(0).contains("base/"));
    assert!(without(1).contains("journal begins at sequence"));
    assert!(without(2).contains("does not follow"));
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(message(verify(&backup)).contains(MANIFEST));
    std::fs::remove_file(&path).unwrap();
    assert!(message(verify(&backup)).contains("no backup, or making it was interrupted"));
}

#[test]
fn nothing_that_is_there_is_touched() {
    let (directory, backup, data) = place();
    let machine = minutes(2);
    std::fs::create_dir(&backup).unwrap();
    std::fs::write(backup.join("x"), b"x").unwrap();
    assert!(message(back_up(&machine, &backup)).contains("not empty"));
    std::fs::remove_file(backup.join("x")).unwrap();
    back_up(&machine, &backup).unwrap();
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("x"), b"x").unwrap();
    assert!(message(restore_to(&backup, &data, None)).contains("not empty"));
    std::fs::remove_dir_all(&data).unwrap();
    let beside = directory.path().join("data.restoring");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("x"), b"x").unwrap();
    assert!(message(restore_to(&backup, &data, None)).contains("data.restoring"));
    std::fs::remove_dir_all(&beside).unwrap();
    restore_to(&backup, &data, None).unwrap();
}

#[test]
fn a_journal_with_a_gap_is_not_backed_up() {
    let (_directory, backup, _) = place();
    let machine = minutes(9);
    let all = segments::list(&machine.files).unwrap();
    machine.files.remove(&segments::path_of(all[1])).unwrap();
    assert!(message(back_up(&machine, &backup)).contains("missing: sequences"));
    assert!(!backup.join(MANIFEST).exists());
}

#[test]
fn a_backup_of_a_held_store_is_held_from_where_that_was() {
    let (_directory, backup, data) = place();
    let since = START.minus(MINUTE);
    let state = SourceState { held_since: Some(since), ..SourceState::default() };
    backup::write(&minutes(3).files, &backup, state, START, &mut |_| {}).unwrap();
    let restored = restore_to(&backup, &data, None).unwrap();
    assert_eq!(restored.until_time, START.plus(3 * MINUTE));
    assert_eq!(HeldFile::of(&data).read().unwrap().unwrap().since(), since);
}

#[test]
fn the_audit_is_checked_in_backups_and_in_stores() {
    let (directory, backup, data) = place();
    let (machine, _) = with_base();
    let mut parts = growth::open(&machine, 3).unwrap();
    let mut head = AuditHead::empty();
    for number in 0..6 {
        step(&mut parts.committer, vec![audited(&mut head)]).remove(0).unwrap();
        if number == 2 {
            parts.applier.turn(true).unwrap();
            growth::write(&mut parts, 5);
            parts.keeper.turn(&mut || true).unwrap();
        }
    }
    back_up(&machine, &backup).unwrap();
    assert_eq!(verify(&backup).unwrap().audit, Ok(head.clone()));
    let look = || verify::files(&machine.files, None, &mut |_| {}).unwrap();
    assert_eq!(look().audit, Ok(head.clone()));
    let anchor = Anchor { number: 2, hash: "0".repeat(64) };
    let foreign = backup::verify(&backup, Some(anchor), &mut |_| {}).unwrap();
    assert_eq!(foreign.audit, Err(ChainProblem::WrongAnchor { number: 2 }));

    let mut batch = Batch::new();
    batch.delete(keys::audit_entry(2));
    step(&mut parts.committer, vec![batch]).remove(0).unwrap();
    let touched = directory.path().join("touched");
    back_up(&machine, &touched).unwrap();
    let gap = Err(ChainProblem::Gap { expected: 2, found: 3 });
    assert_eq!(verify(&touched).unwrap().audit, gap);
    assert_eq!(look().audit, gap);
    // On the worst day a broken record of changes is no reason to be without the payments.
    assert_eq!(restore_to(&touched, &data, None).unwrap().audit, gap);
}

fn look(machine: &Machine) -> Result<VerifiedDirectory, StoreError> {
    let (writes, syncs) = (machine.files.writes(), machine.files.syncs());
    let names = machine.files.list(segments::DIRECTORY).unwrap();
    let found = verify::files(&machine.files, None, &mut |_| {});
    assert_eq!((machine.files.writes(), machine.files.syncs()), (writes, syncs), "nothing is written");
    assert_eq!(machine.files.list(segments::DIRECTORY).unwrap(), names);
    found
}

#[test]
fn a_store_is_looked_through_and_nothing_is_changed() {
    let machine = minutes(9);
    let found = look(&machine).unwrap();
    assert_eq!((found.journal_first, found.last_sequence, found.base_from), (Some(1), 9, None));
    assert_eq!((found.torn, found.audit), (None, Ok(AuditHead::empty())));
    let (machine, _) = with_base();
    let found = look(&machine).unwrap();
    assert!(found.journal_first > Some(1) && found.base_from.is_some());
    let mut last = backup::Progress::default();
    verify::files(&machine.files, None, &mut |progress| last = progress).unwrap();
    assert!(last.bytes == last.bytes_total && last.bytes > 0, "{last:?}");
}

#[test]
fn a_torn_tail_is_told_and_stays() {
    let machine = minutes(9);
    let last = *segments::list(&machine.files).unwrap().last().unwrap();
    let path = segments::path_of(last);
    let bytes = read_all(&*machine.files.open(&path).unwrap()).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    machine.files.flip_bit(&path, end as u64 - 10, 1).unwrap();
    assert!(message(look(&machine)).contains(&path), "it is known to have been durable");
    // As a power cut may leave it.
    machine.files.remove(REACHED).unwrap();
    let found = look(&machine).unwrap();
    let (file, offset) = found.torn.unwrap();
    assert_eq!((file, found.last_sequence), (path.clone(), 8));
    assert!(offset >= 32);
    assert_eq!(read_all(&*machine.files.open(&path).unwrap()).unwrap().len(), bytes.len());
}

#[test]
fn damage_in_a_store_is_told_with_file_and_place() {
    let file_at = |machine: &Machine, place: usize| segments::path_of(segments::list(&machine.files).unwrap()[place]);
    let in_journal = minutes(9);
    let path = file_at(&in_journal, 1);
    in_journal.files.flip_bit(&path, 300, 1).unwrap();
    let said = message(look(&in_journal));
    assert!(said.contains(&path) && said.contains("at byte 32"), "{said}");

    let without = minutes(9);
    without.files.remove(&file_at(&without, 1)).unwrap();
    assert!(message(look(&without)).contains("missing: sequences"));
    let beginning = minutes(9);
    beginning.files.remove(&file_at(&beginning, 0)).unwrap();
    assert!(message(look(&beginning)).contains("neither in a base export nor in the journal"));

    let (in_base, _) = with_base();
    let from = base::find(&in_base.files).unwrap().unwrap().from;
    in_base.files.flip_bit(&base::path_of(from), 500, 1).unwrap();
    let said = message(look(&in_base));
    assert!(said.contains(&base::path_of(from)) && said.contains("near byte"), "{said}");
    let (unnamed, _) = with_base();
    unnamed.files.flip_bit(base::BASE, 9, 1).unwrap();
    assert!(message(look(&unnamed)).contains("BASE at byte 0"));
    unnamed.files.remove(base::BASE).unwrap();
    look(&unnamed).unwrap();
    unnamed.files.flip_bit(&base::path_of(from), 500, 1).unwrap();
    assert!(message(look(&unnamed)).contains("near byte"), "a base is not passed over because nothing names it");

    let ahead = minutes(9);
    checkpoint::write(&ahead.files, 12).unwrap();
    assert!(message(look(&ahead)).contains("sequences 10 to 12"));
    ahead.files.flip_bit(checkpoint::CHECKPOINT, 9, 1).unwrap();
    assert!(message(look(&ahead)).contains("CHECKPOINT at byte 0"));
    let newer = minutes(1);
    newer.files.create("FORMAT").unwrap().write_at(0, b"tollgate store format 2\n").unwrap();
    assert!(message(look(&newer)).contains("newer"));
}

#[test]
fn a_directory_that_is_open_is_not_looked_through() {
    let (_directory, backup, data) = place();
    back_up(&minutes(3), &backup).unwrap();
    restore_to(&backup, &data, None).unwrap();
    assert!(verify::is_data_directory(&data) && !verify::is_data_directory(&backup));
    let look = || verify::directory(&data, None, &mut |_| {});
    let found = look().unwrap();
    assert_eq!((found.last_sequence, found.held.is_some()), (3, true));
    assert!(!data.join(LOCK).exists(), "not even the lock's file is made");
    let lock = take_lock(&data).unwrap();
    assert!(matches!(look(), Err(StoreError::Io { .. })));
    drop(lock);
    look().unwrap();
    HeldFile::of(&data)
        .write(&Held {
            restored_until_sequence: 1,
            restored_until_time: START,
            since: None,
            made_at: START,
            confirmed: std::collections::BTreeMap::new(),
        })
        .unwrap();
    flip(&data.join("HELD"), 20);
    assert!(message(look()).contains("HELD"));
}

/// A store whose base has everything, closed, and what is in it.
fn base_and_nothing_behind_it() -> (Machine, u64) {
    let (machine, _) = with_base();
    let mut parts = growth::open(&machine, 3).unwrap();
    parts.applier.turn(true).unwrap();
    growth::write(&mut parts, 5);
    parts.applier.turn(true).unwrap();
    parts.keeper.turn(&mut || true).unwrap();
    drop(parts);
    let from = base::find(&machine.files).unwrap().unwrap().from;
    (machine, from)
}

#[test]
fn what_is_restored_to_the_base_and_no_frame_behind_it_opens() {
    let (directory, backup, data) = place();
    let (machine, from) = base_and_nothing_behind_it();
    // The next process begins a segment of its own.
    let mut parts = growth::open(&machine, 4).unwrap();
    step(&mut parts.committer, vec![put("key/behind", b"x")]).remove(0).unwrap();
    drop(parts);
    let manifest = back_up(&machine, &backup).unwrap();
    let firsts = manifest.files.iter().filter_map(|file| manifest::segment_of(&file.path)).collect::<Vec<u64>>();
    assert_eq!((manifest.first_sequence, firsts), (from, vec![from + 1]));
    let restored = restore_to(&backup, &data, Some(Until::Sequence(from))).unwrap();
    assert_eq!(restored.until_sequence, from);
    assert_eq!(verify::directory(&data, None, &mut |_| {}).unwrap().base_from, Some(from));
    let found = opened(&data);
    assert!(!found.is_empty() && found.iter().all(|(key, _)| key != b"key/behind"));
    assert_eq!(opened(&data), found, "again");

    // The same without a segment in the backup.
    let bare = directory.path().join("bare");
    std::fs::rename(&backup, &bare).unwrap();
    std::fs::remove_dir_all(bare.join(segments::DIRECTORY)).unwrap();
    change_manifest(&bare, |manifest| {
        manifest["files"].as_array_mut().unwrap().retain(|file| file["path"].as_str().unwrap().starts_with("base/"));
        manifest["last_sequence"] = from.into();
    });
    let other = directory.path().join("other");
    assert_eq!(restore_to(&bare, &other, None).unwrap().until_sequence, from);
    assert_eq!(opened(&other), found);
}

#[test]
fn a_backup_is_not_made_of_a_journal_that_would_not_open() {
    let (_directory, backup, _) = place();
    let machine = minutes(9);
    let all = segments::list(&machine.files).unwrap();
    let path = segments::path_of(*all.last().unwrap());
    machine.files.flip_bit(&path, 300, 1).unwrap();
    let said = message(back_up(&machine, &backup));
    assert!(said.contains(&path) && said.contains("damaged"), "{said}");
    assert!(!backup.exists(), "nothing is left behind");
    // Cut off cleanly, it can be told from what is noted beside it.
    let machine = minutes(9);
    machine.files.open(&path).unwrap().set_length(32).unwrap();
    assert!(message(back_up(&machine, &backup)).contains("missing"));
    // A tail that a crash tore is no damage, and is not copied.
    let machine = minutes(9);
    let bytes = read_all(&*machine.files.open(&path).unwrap()).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    machine.files.flip_bit(&path, end as u64 - 10, 1).unwrap();
    machine.files.remove(REACHED).unwrap();
    assert_eq!(back_up(&machine, &backup).unwrap().last_sequence, 8);
    verify(&backup).unwrap();
}

#[test]
fn a_backup_carries_the_format_of_its_store() {
    let (_directory, backup, data) = place();
    let machine = minutes(3);
    assert_eq!(back_up(&machine, &backup).unwrap().store_format, 1);
    restore_to(&backup, &data, None).unwrap();
    assert_eq!(std::fs::read_to_string(data.join("FORMAT")).unwrap(), "tollgate store format 1\n");
    change_manifest(&backup, |manifest| manifest["store_format"] = 2.into());
    let said = message(verify(&backup));
    assert!(said.contains("format 2") && said.contains("newer"), "{said}");
    change_manifest(&backup, |manifest| drop(manifest.as_object_mut().unwrap().remove("store_format")));
    assert_eq!(verify(&backup).unwrap().manifest.store_format, 1, "as it was before it was said");
    machine.files.create("FORMAT").unwrap().write_at(0, b"tollgate store format 2\n").unwrap();
    assert!(message(back_up(&machine, &data.join("x"))).contains("newer"));
}

#[test]
fn a_backup_leaves_the_room_that_the_store_needs_and_nothing_of_itself() {
    let (directory, backup, _) = place();
    let machine = minutes(9);
    let bytes_total = std::cell::Cell::new(0);
    let write = |destination: &Path, kept_free_bytes, free_bytes: &dyn Fn() -> std::io::Result<u64>| {
        let state = SourceState { kept_free_bytes, ..SourceState::default() };
        backup::write_within(
            &machine.files,
            destination,
            state,
            START,
            &mut |p| bytes_total.set(p.bytes_total),
            free_bytes,
        )
    };
    write(&backup, None, &|| Ok(0)).unwrap();
    let needed = 5_000 + bytes_total.get();
    let other = directory.path().join("other");
    let refused = write(&other, Some(5_000), &|| Ok(needed - 1));
    assert!(matches!(&refused, Err(StoreError::Io { message, .. }) if message.contains("another disk")), "{refused:?}");
    assert!(!other.exists());
    // Others take the room while it is copied.
    let looks = std::cell::Cell::new(0);
    std::fs::create_dir(&other).unwrap();
    let refused = write(&other, Some(5_000), &|| {
        looks.set(looks.get() + 1);
        Ok(if looks.get() == 1 { needed } else { 4_999 })
    });
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 0, "the directory was there, and is empty once more");
    write(&other, Some(5_000), &|| Ok(needed)).unwrap();
    verify(&other).unwrap();
    assert_eq!(backup::kept_free(&backup, &directory.path().join("a/b/c"), 7), Some(7), "it is on the same disk");
}

/// A machine whose frames say these minutes after the start, one after the other.
fn at_minutes(times: &[u32]) -> Machine {
    let machine = Machine::new();
    for (number, minutes) in times.iter().enumerate() {
        let clock = Clock::manual(START.plus(*minutes * MINUTE));
        let mut parts = machine.open_with(1, &options(), &clock).unwrap();
        step(&mut parts.committer, vec![put(&format!("key/{number}"), b"x")]).remove(0).unwrap();
    }
    machine
}

#[test]
fn a_clock_that_was_ahead_does_not_hide_what_happened_since() {
    let (directory, backup, _) = place();
    let slack = 15 * MINUTE;
    // For a while the clock was two hours ahead.
    back_up(&at_minutes(&[10, 11, 132, 133, 14, 15]), &backup).unwrap();
    let now = START.plus(200 * MINUTE);
    let point = |until| Point { until: Some(Until::Sequence(until)), ask_since: None };
    let asked = |name: &str, point, now| {
        let data = directory.path().join(name);
        let restored = restore_asking(&backup, &data, point, now).unwrap();
        let held = HeldFile::of(&data).read().unwrap().unwrap();
        assert_eq!((held.asked_since(), held.made_at), (restored.asked_since, now));
        restored.asked_since
    };
    // `back_up` says that the backup was made at the start; later ones are told apart.
    change_manifest(&backup, |manifest| manifest["made_at"] = serde_json::to_value(now).unwrap());
    assert_eq!(asked("before", point(4), now), START.plus(10 * MINUTE).minus(slack));
    let early = Point { ask_since: Some(START), ..point(4) };
    assert_eq!(asked("asked", early, now), START.minus(slack));

    // What came behind the point shows it, too, and so do the backup's time and the restore's.
    std::fs::remove_dir_all(&backup).unwrap();
    back_up(&at_minutes(&[132, 133, 14, 15]), &backup).unwrap();
    change_manifest(&backup, |manifest| manifest["made_at"] = serde_json::to_value(now).unwrap());
    assert_eq!(asked("behind", point(2), now), START.plus(14 * MINUTE).minus(slack));
    assert_eq!(asked("restored", point(2), START.plus(9 * MINUTE)), START.plus(9 * MINUTE).minus(slack));
    change_manifest(&backup, |manifest| manifest["made_at"] = serde_json::to_value(START).unwrap());
    assert_eq!(asked("made", point(2), now), START.minus(slack));
}
