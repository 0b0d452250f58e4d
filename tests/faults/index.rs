//! Sled's directory: missing, half of it deleted, torn by a kill while opening, damaged while it is in use.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tollgate::storage::engine::Engine;
use tollgate::storage::{Batch, Store};

use crate::house::{Left, Verdict, Written, config, judge};

/// A name, and what is done to the index's directory.
type Case<'a> = (&'a str, &'a dyn Fn(&Path));

/// A copy, changed.
fn changed(written: &Written, change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let copy = written.copy();
    change(&copy.path().join("index"));
    copy
}

#[tokio::test]
async fn an_index_that_is_missing_or_half_deleted_is_rebuilt() {
    let written = Written::new(Left::Killed).await;
    let cases: [Case<'_>; 6] = [
        ("missing", &|index| fs::remove_dir_all(index).unwrap()),
        ("empty", &|index| {
            fs::remove_dir_all(index).unwrap();
            fs::create_dir(index).unwrap();
        }),
        ("without its log", &|index| fs::remove_file(index.join("db")).unwrap()),
        ("without its configuration", &|index| fs::remove_file(index.join("conf")).unwrap()),
        ("without its snapshots", &|index| {
            for entry in fs::read_dir(index).unwrap().flatten() {
                if entry.file_name().to_string_lossy().starts_with("snap.") {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        }),
        ("a file instead of a directory", &|index| {
            fs::remove_dir_all(index).unwrap();
            fs::write(index, b"rubbish").unwrap();
        }),
    ];
    for (name, change) in cases {
        let copy = changed(&written, change);
        assert_eq!(judge(copy.path(), &written), Verdict::Whole, "{name}");
    }
}

#[tokio::test]
async fn a_snapshot_that_was_torn_by_a_kill_while_opening_does_no_harm() {
    let written = Written::new(Left::Killed).await;
    for content in [&b""[..], &b"torn"[..], &[0; 4096][..], &[0xff; 64][..]] {
        for name in ["snap.0000000000000000.generating", "snap.FFFFFFFFFFFFFFFF.generating", "snap.7FFFFFFFFFFFFFFF"] {
            let copy = changed(&written, |index| fs::write(index.join(name), content).unwrap());
            assert_eq!(judge(copy.path(), &written), Verdict::Whole, "{name}: {} bytes", content.len());
        }
    }
}

/// The file is damaged below an engine that has it open. Whatever that engine says from then on is right or an error,
/// and the next start has everything.
#[tokio::test]
async fn an_index_that_is_damaged_while_it_is_in_use_loses_nothing() {
    let written = Written::new(Left::Closed).await;
    for step in [16, 512, 4096] {
        let copy = written.copy();
        let mut small_cache = config(copy.path());
        small_cache.cache_bytes = 1 << 20;
        let engine = Engine::open_dir(&small_cache).unwrap();
        let path = copy.path().join("index/db");
        let mut bytes = fs::read(&path).unwrap();
        bytes.iter_mut().skip(step).step_by(step).for_each(|byte| *byte ^= 0x55);
        fs::write(&path, bytes).unwrap();
        let mut errors = 0;
        for (key, value) in &written.rows {
            match engine.get(key) {
                Ok(Some(found)) => assert_eq!(found.value[..], value[..]),
                Ok(None) => panic!("{} is gone without a word", String::from_utf8_lossy(key)),
                Err(_) => errors += 1,
            }
        }
        // Changes go on or are refused; those that are acknowledged stay.
        let mut added = Vec::new();
        for number in 0..100 {
            let key = format!("k/added/{number}").into_bytes();
            let mut batch = Batch::new();
            batch.put(key.clone(), key.clone());
            if engine.commit(batch).await.is_ok() {
                added.push(key);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _ = engine.close();
        drop(engine);
        let engine = Engine::open_dir(&config(copy.path())).unwrap();
        // What the first start did not meet it may meet here; a further one then rebuilds.
        let readable = written.rows.keys().chain(&added).all(|key| engine.get(key).is_ok());
        let _ = engine.close();
        drop(engine);
        let engine = Engine::open_dir(&config(copy.path())).unwrap();
        for (key, value) in &written.rows {
            let found = engine.get(key).unwrap().unwrap_or_else(|| panic!("{} is lost", String::from_utf8_lossy(key)));
            assert_eq!(found.value[..], value[..]);
        }
        assert!(added.iter().all(|key| engine.get(key).unwrap().is_some()), "what was acknowledged meanwhile is lost");
        eprintln!(
            "every {step}th byte: {errors} rows answered by an error, {} added, readable at once: {readable}",
            added.len()
        );
    }
}
