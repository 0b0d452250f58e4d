//! What can happen to the index on the real disk. Whatever it is, the journal has everything.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tempfile::TempDir;

use crate::storage::conformance::config;
use crate::storage::engine::Engine;
use crate::storage::index::IndexHome;
use crate::storage::overlay::{Change, Entry};
use crate::storage::sled_index::{SledHome, read_waiting};
use crate::storage::tests::put;
use crate::storage::{Store, StoreError};

const ROWS: usize = 300;

async fn write_rows(engine: &Engine, generation: u8) {
    let commits: Vec<_> = (0..ROWS)
        .map(|number| engine.commit(put(&format!("row/{number:04}"), &vec![generation; 20 + number * 30])))
        .collect();
    for commit in commits {
        commit.await.unwrap();
    }
}

fn check_rows(engine: &Engine, generation: u8) {
    for number in 0..ROWS {
        let found = engine.get(format!("row/{number:04}").as_bytes()).unwrap().unwrap();
        assert_eq!(*found.value, vec![generation; 20 + number * 30]);
    }
}

fn index_of(dir: &TempDir) -> PathBuf {
    config(dir).dir.join("index")
}

fn aside(dir: &TempDir) -> Vec<String> {
    let names = fs::read_dir(config(dir).dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("index.broken-")).collect();
    names.sort();
    names
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Writes rows, stops, does something to the data directory, and opens again; returns how often an index was moved
/// aside.
async fn survive(harm: impl FnOnce(&TempDir)) -> usize {
    let dir = TempDir::new().unwrap();
    let engine = Engine::open_dir(&config(&dir)).unwrap();
    write_rows(&engine, 7).await;
    engine.close().unwrap();
    drop(engine);
    harm(&dir);
    let engine = Engine::open_dir(&config(&dir)).unwrap();
    check_rows(&engine, 7);
    write_rows(&engine, 8).await;
    engine.close().unwrap();
    drop(engine);
    let engine = Engine::open_dir(&config(&dir)).unwrap();
    check_rows(&engine, 8);
    aside(&dir).len()
}

#[tokio::test]
async fn an_index_left_alone_is_used() {
    assert_eq!(survive(|_| {}).await, 0);
}

#[tokio::test]
async fn an_index_that_is_gone_is_rebuilt() {
    assert_eq!(survive(|dir| fs::remove_dir_all(index_of(dir)).unwrap()).await, 1);
}

#[tokio::test]
async fn a_snapshot_torn_by_a_kill_while_opening_is_ignored() {
    let harm = |dir: &TempDir| fs::write(index_of(dir).join("snap.00000000000FFFFF.generating"), b"abc").unwrap();
    assert_eq!(survive(harm).await, 0);
}

#[tokio::test]
async fn a_snapshot_that_is_rubbish_leads_to_a_new_index() {
    let harm = |dir: &TempDir| fs::write(index_of(dir).join("snap.0000000000FFFFFF"), b"abc").unwrap();
    assert_eq!(survive(harm).await, 1);
}

#[tokio::test]
async fn a_truncated_index_is_rebuilt() {
    for keep in [0, 1000, 100_000] {
        let harm = |dir: &TempDir| {
            let file = fs::File::options().write(true).open(index_of(dir).join("db")).unwrap();
            assert!(file.metadata().unwrap().len() > keep);
            file.set_len(keep).unwrap();
        };
        assert_eq!(survive(harm).await, 1, "cut to {keep}");
    }
}

#[tokio::test]
async fn an_index_that_is_a_file_of_zeros_is_rebuilt() {
    let harm = |dir: &TempDir| {
        let path = index_of(dir).join("db");
        let length = fs::metadata(&path).unwrap().len();
        fs::write(path, vec![0; usize::try_from(length).unwrap()]).unwrap();
    };
    assert_eq!(survive(harm).await, 1);
}

#[tokio::test]
async fn a_damaged_checkpoint_leads_to_a_new_index() {
    assert_eq!(survive(|dir| fs::write(config(dir).dir.join("CHECKPOINT"), b"abc").unwrap()).await, 1);
}

#[tokio::test]
async fn an_index_older_than_its_checkpoint_is_rebuilt_and_two_are_kept() {
    let dir = TempDir::new().unwrap();
    let engine = Engine::open_dir(&config(&dir)).unwrap();
    write_rows(&engine, 1).await;
    engine.close().unwrap();
    drop(engine);
    let old = dir.path().join("old");
    copy_directory(&index_of(&dir), &old);
    for generation in 2..6 {
        let engine = Engine::open_dir(&config(&dir)).unwrap();
        check_rows(&engine, generation - 1);
        write_rows(&engine, generation).await;
        engine.close().unwrap();
        drop(engine);
        fs::remove_dir_all(index_of(&dir)).unwrap();
        copy_directory(&old, &index_of(&dir));
    }
    let engine = Engine::open_dir(&config(&dir)).unwrap();
    check_rows(&engine, 5);
    assert_eq!(aside(&dir), ["index.broken-3", "index.broken-4"]);
}

#[tokio::test]
async fn bits_flipped_in_the_index_never_show() {
    for seed in 0..12_u64 {
        let dir = TempDir::new().unwrap();
        let engine = Engine::open_dir(&config(&dir)).unwrap();
        write_rows(&engine, 7).await;
        engine.close().unwrap();
        drop(engine);
        let path = index_of(&dir).join("db");
        let mut bytes = fs::read(&path).unwrap();
        let random = crate::random::Random::seeded(seed);
        for _ in 0..20 {
            let at = usize::try_from(random.draw_u64() % bytes.len() as u64).unwrap();
            bytes[at] ^= 1 << (random.draw_u64() % 8);
        }
        fs::write(&path, &bytes).unwrap();
        let mut is_damage_seen = false;
        for _ in 0..2 {
            // Opening may find the damage, or reading may: then the next opening rebuilds.
            let engine = Engine::open_dir(&config(&dir)).unwrap();
            for number in 0..ROWS {
                match engine.get(format!("row/{number:04}").as_bytes()) {
                    Ok(found) => {
                        let found = found.unwrap_or_else(|| panic!("seed {seed}: row {number} is lost without a word"));
                        assert_eq!(*found.value, vec![7; 20 + number * 30], "seed {seed}");
                    }
                    Err(StoreError::Corrupt(_)) => is_damage_seen = true,
                    Err(other) => panic!("{other}"),
                }
            }
            if !is_damage_seen {
                break;
            }
            drop(engine);
            is_damage_seen = false;
        }
        check_rows(&Engine::open_dir(&config(&dir)).unwrap(), 7);
    }
}

#[tokio::test]
async fn an_index_can_not_be_rebuilt_from_a_part_of_the_journal() {
    let dir = TempDir::new().unwrap();
    let engine = Engine::open_dir(&config(&dir)).unwrap();
    write_rows(&engine, 1).await;
    engine.close().unwrap();
    drop(engine);
    let journal = config(&dir).dir.join("journal");
    let first = journal.join("00000000000000000001.seg");
    fs::rename(&first, dir.path().join("kept")).unwrap();
    fs::rename(index_of(&dir), dir.path().join("index")).unwrap();
    match Engine::open_dir(&config(&dir)).map(|_| ()) {
        Err(StoreError::Corrupt(message)) => assert!(message.contains("begins at sequence"), "{message}"),
        other => panic!("{other:?}"),
    }
    fs::rename(dir.path().join("kept"), &first).unwrap();
    check_rows(&Engine::open_dir(&config(&dir)).unwrap(), 1);
}

#[tokio::test]
async fn an_index_is_left_where_it_is_when_the_journal_is_damaged() {
    let dir = TempDir::new().unwrap();
    let engine = Engine::open_dir(&config(&dir)).unwrap();
    write_rows(&engine, 1).await;
    engine.close().unwrap();
    drop(engine);
    let first = config(&dir).dir.join("journal/00000000000000000001.seg");
    let intact = fs::read(&first).unwrap();
    let mut damaged = intact.clone();
    damaged[1000] ^= 1;
    fs::write(&first, damaged).unwrap();
    fs::write(config(&dir).dir.join("INDEX_DAMAGED"), b"").unwrap();
    for _ in 0..4 {
        assert!(matches!(Engine::open_dir(&config(&dir)), Err(StoreError::Corrupt(_))));
    }
    assert!(aside(&dir).is_empty() && index_of(&dir).exists());
    fs::write(&first, intact).unwrap();
    check_rows(&Engine::open_dir(&config(&dir)).unwrap(), 1);
    assert_eq!(aside(&dir), ["index.broken-1"]);
    assert!(!index_of(&dir).with_extension("new").exists());
}

#[test]
fn a_first_pass_that_was_interrupted_leaves_a_usable_index() {
    let dir = TempDir::new().unwrap();
    let home = SledHome::new(dir.path().join("index"), 1 << 20);
    let change = Change { key: b"a".to_vec(), value: Some(Arc::from(&b"1"[..])), revision: 1, absent_below: false };
    let (key, entry) = Entry::from_change(change);
    let index = home.open().unwrap();
    index.apply(&[(&key, &entry)], None).unwrap();
    index.sync().unwrap();
    index.close();
    assert_eq!(home.open().unwrap().applied(), 0);
}

/// The only thread of the runtime has something else to do while a reader waits for an index that is being reopened.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reader_that_waits_keeps_no_other_task_from_running() {
    let lock = Arc::new(RwLock::new(1));
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let reopening = std::thread::spawn({
        let lock = Arc::clone(&lock);
        move || {
            let _reopening = lock.write();
            locked.send(()).unwrap();
            // Ends with an error when nobody lets it go on any more.
            let _ = released.recv_timeout(Duration::from_secs(30)).map_err(|_| panic!("the other task did not run"));
        }
    });
    is_locked.await.unwrap();
    let reader = tokio::spawn(async move { *read_waiting(&lock) });
    let other = tokio::spawn(async move { release.send(()).unwrap() });
    assert_eq!(reader.await.unwrap(), 1);
    other.await.unwrap();
    reopening.join().unwrap();
}

#[tokio::test]
async fn a_directory_is_opened_once_at_a_time() {
    let dir = TempDir::new().unwrap();
    let engine = Engine::open_dir(&config(&dir)).unwrap();
    match Engine::open_dir(&config(&dir)).map(|_| ()) {
        Err(StoreError::Io { message, .. }) => assert!(message.contains("another process"), "{message}"),
        other => panic!("{other:?}"),
    }
    engine.commit(put("a", b"1")).await.unwrap();
    engine.close().unwrap();
    let second = Engine::open_dir(&config(&dir)).unwrap();
    assert!(second.get(b"a").unwrap().is_some(), "a closed engine does not hold the directory");
}

#[tokio::test]
async fn only_its_owner_may_read_the_directory() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let engine = Engine::open_dir(&config(&dir)).unwrap();
    engine.commit(put("a", b"1")).await.unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(config(&dir).dir), 0o700);
    assert_eq!(mode(config(&dir).dir.join("journal/00000000000000000001.seg")), 0o600);
}
