//! Exports of a store that is open or not, and stores that are made of them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::storage::backup::{self, SourceState, Until};
use crate::storage::engine::{Engine, INDEX, take_lock};
use crate::storage::export::{ExportHeader, ExportReader, ExportSummary, ExportWriter};
use crate::storage::export_file::{export_directory, export_running};
use crate::storage::files::{DiskFiles, Files};
use crate::storage::held::HeldFile;
use crate::storage::import::{Imported, import};
use crate::storage::restore::{Point, restore};
use crate::storage::sled_index::SledHome;
use crate::storage::tests::{START, everything, options};
use crate::storage::{Batch, Row, Scan, Store, StoreError, Versioned, verify};

const MEMORY: (u64, u64) = (1 << 20, 1 << 20);
const LATER: Timestamp = Timestamp::from_unix_s(1_900_000_000);

fn open(directory: &Path) -> Engine {
    std::fs::create_dir_all(directory).unwrap();
    let files: Arc<dyn Files> = Arc::new(DiskFiles::new(directory));
    let home = SledHome::new(directory.join(INDEX), 1 << 20);
    Engine::open(files, &home, &options(), Random::seeded(1)).unwrap()
}

async fn write(engine: &Engine, generation: u8) {
    for number in 0..60_u8 {
        let mut batch = Batch::new();
        batch.put(format!("a/{number:03}").into_bytes(), vec![generation; 40]);
        batch.put(format!("z/{number:03}").into_bytes(), vec![generation; 40]);
        if number % 7 == generation % 7 {
            batch.delete(format!("m/{number:03}").into_bytes());
        } else {
            batch.put(format!("m/{number:03}").into_bytes(), vec![generation; 900]);
        }
        batch.append(b"stream/".to_vec(), vec![generation]);
        engine.commit(batch).await.unwrap();
    }
}

fn rows_of(engine: &Engine) -> Vec<Row> {
    engine.scan(&everything()).unwrap()
}

fn rows_in(export: &Path) -> Vec<Row> {
    let mut reader = ExportReader::open(export).unwrap();
    std::iter::from_fn(|| reader.next_row().unwrap()).collect()
}

fn export_offline(directory: &Path, target: &Path) -> Result<ExportSummary, StoreError> {
    export_directory(directory, MEMORY, target, LATER, &mut || true)
}

fn import_to(export: &Path, directory: &Path) -> Result<Imported, StoreError> {
    import(export, directory, LATER, &Random::seeded(5), &mut |_| {})
}

fn message<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Corrupt(message) | StoreError::Invalid(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// A store with some history, closed, and its rows.
async fn store(house: &TempDir) -> (std::path::PathBuf, Vec<Row>) {
    let data = house.path().join("data");
    let engine = open(&data);
    write(&engine, 1).await;
    write(&engine, 2).await;
    let rows = rows_of(&engine);
    engine.close().unwrap();
    (data, rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_and_imported_is_the_same_store() {
    let house = tempfile::tempdir().unwrap();
    let (data, rows) = store(&house).await;
    let file = |name: &str| house.path().join(name);
    let first = export_offline(&data, &file("first.tgx")).unwrap();
    let second = export_offline(&data, &file("second.tgx")).unwrap();
    assert_eq!((first.header.from, first.rows), (first.until, rows.len() as u64), "it is exact by itself");
    assert_eq!(first, second, "made of the same rows, it is the same file");
    assert!(rows_in(&file("first.tgx")) == rows);
    assert!(first.header.made_at < LATER, "the time of the last commit counts and not that of the export");

    let new = file("new");
    let imported = import_to(&file("first.tgx"), &new).unwrap();
    assert_eq!(imported.summary, first);
    let held = HeldFile::of(&new).read().unwrap().unwrap();
    assert_eq!((held.restored_until_sequence, held.restored_until_time), (first.until, first.header.made_at));
    let looked = verify::directory(&new, None, &mut |_| {}).unwrap();
    assert_eq!((looked.base_from, looked.last_sequence), (Some(first.until), first.until + 1));
    for opening in 0..2_u64 {
        let engine = open(&new);
        assert!(rows_of(&engine) == rows, "opening {opening}: revisions, too");
        assert_eq!(engine.health().committed, first.until + 1);
        engine.close().unwrap();
    }
    let engine = open(&new);
    let mut batch = Batch::new();
    batch.append(b"stream/".to_vec(), vec![9]);
    let committed = engine.commit(batch).await.unwrap();
    assert_eq!((committed.sequence, committed.numbers), (first.until + 2, vec![121]), "streams go on");
    engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_a_running_store_is_its_state_at_one_moment() {
    let house = tempfile::tempdir().unwrap();
    let data = house.path().join("data");
    let engine = Arc::new(open(&data));
    write(&engine, 1).await;
    let before = engine.health().committed;
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (engine, is_over) = (Arc::clone(&engine), Arc::clone(&is_over));
        async move {
            for generation in 2..100 {
                if !is_over.load(Ordering::Acquire) {
                    write(&engine, generation).await;
                }
            }
            is_over.store(true, Ordering::Release);
        }
    });
    let target = house.path().join("x.tgx");
    let exported = tokio::task::spawn_blocking({
        let (engine, data, target) = (Arc::clone(&engine), data.clone(), target.clone());
        let is_over = Arc::clone(&is_over);
        move || {
            // Each page is read when something has changed since the one before it.
            let mut seen = before;
            let mut wait_for_change = || {
                while engine.health().committed < seen + 20 && !is_over.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                seen = engine.health().committed;
                true
            };
            export_running(&engine, &data, &target, START, &mut wait_for_change).unwrap()
        }
    });
    let exported = exported.await.unwrap();
    is_over.store(true, Ordering::Release);
    writer.await.unwrap();
    assert_eq!(exported.header.from, exported.until);
    assert!(exported.until >= before + 20, "there were changes meanwhile");

    // The journal knows what the state was at that sequence.
    let committed = engine.health().committed;
    let (backup, restored) = (house.path().join("backup"), house.path().join("restored"));
    let state = SourceState { committed: Some(committed), ..SourceState::default() };
    backup::write(&DiskFiles::new(&data), &backup, state, START, &mut |_| {}).unwrap();
    let until = Some(Until::Sequence(exported.until));
    assert_eq!(
        restore(&backup, &restored, Point { until, ask_since: None }, START, &Random::seeded(3), &mut |_| {})
            .unwrap()
            .until_sequence,
        exported.until
    );
    let expected = open(&restored);
    assert!(rows_in(&target) == rows_of(&expected));
    let new = house.path().join("new");
    import_to(&target, &new).unwrap();
    assert!(rows_of(&open(&new)) == rows_of(&expected));
    let left: Vec<_> = std::fs::read_dir(house.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("x.tgx.")), "{left:?}");
    engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_exported_is_refused() {
    let house = tempfile::tempdir().unwrap();
    let (data, _) = store(&house).await;
    let target = house.path().join("x.tgx");
    std::fs::write(&target, b"x").unwrap();
    assert!(message(export_offline(&data, &target)).contains("nothing is ever overwritten"));
    assert_eq!(std::fs::read(&target).unwrap(), b"x");
    std::fs::remove_file(&target).unwrap();
    let lock = take_lock(&data).unwrap();
    assert!(matches!(export_offline(&data, &target), Err(StoreError::Io { .. })));
    drop(lock);
    assert!(export_directory(&data, MEMORY, &target, LATER, &mut || false).is_err());
    assert!(!target.exists(), "half of it is not left behind");
    export_offline(&data, &target).unwrap();
    let new = house.path().join("new");
    import_to(&target, &new).unwrap();
    let said = message(export_offline(&new, &house.path().join("y.tgx")));
    assert!(said.contains("held"), "{said}");
    let engine = open(&new);
    let said = message(export_running(&engine, &new, &house.path().join("y.tgx"), START, &mut || true));
    assert!(said.contains("held"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_imported_is_refused_and_nothing_is_there_then() {
    let house = tempfile::tempdir().unwrap();
    let (data, _) = store(&house).await;
    let (export, new) = (house.path().join("x.tgx"), house.path().join("new"));
    export_offline(&data, &export).unwrap();
    assert!(message(import_to(&export, &data)).contains("not empty"));
    let whole = std::fs::read(&export).unwrap();
    let bad = house.path().join("bad.tgx");
    for position in (0..whole.len()).step_by(997) {
        let mut bytes = whole.clone();
        bytes[position] ^= 1;
        std::fs::write(&bad, bytes).unwrap();
        assert!(import_to(&bad, &new).is_err(), "byte {position}");
    }
    std::fs::write(&bad, &whole[..whole.len() - 1]).unwrap();
    assert!(message(import_to(&bad, &new)).contains("bad.tgx"));
    let mut newer = whole.clone();
    newer[8] = 2;
    std::fs::write(&bad, newer).unwrap();
    assert!(message(import_to(&bad, &new)).contains("newer"));

    for (revision, until) in [(0, 9), (10, 9)] {
        let header = ExportHeader { from: until, made_at: START };
        let mut writer = ExportWriter::new(Vec::new(), header).unwrap();
        let versioned = Versioned { revision, value: Arc::from(b"1".as_slice()) };
        writer.row(&Row { key: b"a".to_vec(), versioned }).unwrap();
        std::fs::write(&bad, writer.finish(until).unwrap().1).unwrap();
        assert!(message(import_to(&bad, &new)).contains("revisions"), "revision {revision}");
    }

    // A base is written while rows change: without the journal it is no state that ever was.
    let engine = Arc::new(open(&data));
    let mut pages = 0;
    let handle = tokio::runtime::Handle::current();
    let fuzzy = tokio::task::block_in_place(|| {
        engine.export(Vec::new(), START, &mut || {
            pages += 1;
            if pages == 1 {
                handle.block_on(write(&engine, 3));
            }
            true
        })
    });
    let (summary, bytes) = fuzzy.unwrap().unwrap();
    assert!(summary.until > summary.header.from);
    std::fs::write(&bad, bytes).unwrap();
    assert!(message(import_to(&bad, &new)).contains("while its store changed"));
    assert!(!new.exists() && !house.path().join("new.importing").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_rows_can_be_moved_too() {
    let house = tempfile::tempdir().unwrap();
    let (data, export, new) = (house.path().join("data"), house.path().join("x.tgx"), house.path().join("new"));
    open(&data).close().unwrap();
    export_offline(&data, &export).unwrap();
    import_to(&export, &new).unwrap();
    let engine = open(&new);
    assert_eq!(engine.scan(&Scan { limit: 1, ..everything() }).unwrap(), []);
    engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_goes_nowhere_near_the_store() {
    let house = tempfile::tempdir().unwrap();
    let (data, _) = store(&house).await;
    let engine = open(&data);
    for inside in ["HELD", "x.tgx", "journal/x.tgx", "new/../x.tgx"] {
        let said = message(export_running(&engine, &data, &data.join(inside), START, &mut || true));
        assert!(said.contains("in the data directory"), "{said}");
    }
    engine.close().unwrap();
    let said = message(export_offline(&data, &data.join("HELD")));
    assert!(said.contains("in the data directory"), "{said}");
    assert!(!data.join("HELD").exists());
    // A typo: what is there is no store, and gets nothing that one has.
    let empty = house.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let said = message(export_offline(&empty, &house.path().join("x.tgx")));
    assert!(said.contains("no data directory"), "{said}");
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_does_not_fill_the_disk_of_its_store() {
    let house = tempfile::tempdir().unwrap();
    let (data, _) = store(&house).await;
    let mut options = options();
    options.growth.low_space_bytes = u64::MAX;
    let files: Arc<dyn Files> = Arc::new(DiskFiles::new(&data));
    let home = SledHome::new(data.join(INDEX), 1 << 20);
    let engine = Engine::open(files, &home, &options, Random::seeded(1)).unwrap();
    let target = house.path().join("x.tgx");
    let refused = export_running(&engine, &data, &target, START, &mut || true);
    assert!(matches!(refused, Err(StoreError::Overloaded(why)) if why.contains("another disk")), "{refused:?}");
    assert_eq!(std::fs::read_dir(house.path()).unwrap().count(), 1, "nothing is left of it");
    engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_made_where_a_disk_is_mounted_or_a_link_leads() {
    let house = tempfile::tempdir().unwrap();
    let (data, rows) = store(&house).await;
    let (export, backup) = (house.path().join("x.tgx"), house.path().join("backup"));
    export_offline(&data, &export).unwrap();
    backup::write(&DiskFiles::new(&data), &backup, SourceState::default(), START, &mut |_| {}).unwrap();
    for by_import in [true, false] {
        let (mounted, link) = (house.path().join(format!("mounted-{by_import}")), house.path().join("link"));
        std::fs::create_dir(&mounted).unwrap();
        std::os::unix::fs::symlink(&mounted, &link).unwrap();
        if by_import {
            import_to(&export, &link).unwrap();
        } else {
            restore(&backup, &link, Point::default(), START, &Random::seeded(3), &mut |_| {}).unwrap();
        }
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(HeldFile::of(&mounted).read().unwrap().is_some());
        let engine = open(&link);
        assert!(rows_of(&engine) == rows);
        engine.close().unwrap();
        std::fs::remove_file(&link).unwrap();
    }
}

#[test]
fn a_directory_that_was_not_made_to_the_end_is_not_opened() {
    let mut storage = crate::config::Config::embedded().unwrap().storage;
    for name in [".restoring", ".importing"] {
        let house = tempfile::tempdir().unwrap();
        (storage.dir, storage.segment_bytes, storage.ballast_bytes) = (house.path().to_owned(), 1 << 20, 0);
        std::fs::create_dir(house.path().join("journal")).unwrap();
        std::fs::create_dir(house.path().join(name)).unwrap();
        let refusals = [
            message(Engine::open_dir(&storage).map(|_| ())),
            message(export_offline(house.path(), Path::new("x.tgx"))),
            message(verify::directory(house.path(), None, &mut |_| {})),
            message(restore(house.path(), house.path(), Point::default(), START, &Random::seeded(3), &mut |_| {})),
        ];
        assert!(refusals.iter().all(|said| said.contains("not made to the end")), "{refusals:?}");
        assert_eq!(std::fs::read_dir(house.path()).unwrap().count(), 2, "nothing was made in it");
    }
}
