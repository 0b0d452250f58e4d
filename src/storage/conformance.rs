//! What every store must do, whatever it is made of: one suite, run against each.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::config::StorageConfig;
use crate::random::Random;
use crate::storage::engine::{Engine, EngineOptions};
use crate::storage::files::DiskFiles;
use crate::storage::index::MemoryIndex;
use crate::storage::keeper::GrowthOptions;
use crate::storage::memory::MemoryStore;
use crate::storage::sim_files::SimFiles;
use crate::storage::sled_index::SledHome;
use crate::storage::{ABSENT, Batch, Committed, Scan, Store, StoreError, Urgency};

/// Small enough that segments, groups and passes end often.
pub fn options() -> EngineOptions {
    EngineOptions {
        segment_bytes: 256 << 10,
        queue_batches_max: 1024,
        group_bytes_max: 32 << 10,
        overlay_bytes_max: 4 << 20,
        apply_interval: Duration::from_millis(2),
        checkpoint_interval: Duration::from_millis(10),
        checkpoint_bytes: 64 << 10,
        reopen_bytes: 256 << 10,
        ballast_bytes: 64 << 10,
        growth: GrowthOptions::UNBOUNDED,
    }
}

/// The same for the real disk.
pub fn config(dir: &TempDir) -> StorageConfig {
    StorageConfig {
        dir: dir.path().join("data"),
        segment_bytes: 256 << 10,
        queue_batches_max: 1024,
        group_bytes_max: 32 << 10,
        overlay_bytes_max: 4 << 20,
        apply_interval_ms: 2,
        checkpoint_interval_ms: 10,
        checkpoint_bytes: 64 << 10,
        cache_bytes: 8 << 20,
        ballast_bytes: 64 << 10,
        low_space_bytes: 0,
        base_bytes: 1 << 40,
        growth_interval_ms: 10_000,
        journal_keep_hours: 0,
        journal_keep_bytes: 1 << 40,
        clock_back_max_s: 300,
        archive_dir: None,
    }
}

/// A kind of store that can be opened again where it was.
trait Kind {
    fn open(&self) -> Arc<dyn Store>;
}

struct InMemory(MemoryStore);

impl Kind for InMemory {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }
}

struct Simulated(SimFiles, MemoryIndex);

impl Kind for Simulated {
    fn open(&self) -> Arc<dyn Store> {
        let files = Arc::new(self.0.clone());
        Arc::new(Engine::open(files, &self.1, &options(), Random::seeded(1)).unwrap())
    }
}

/// The real disk, with an index that is reopened all the time.
struct Reopening(TempDir);

impl Kind for Reopening {
    fn open(&self) -> Arc<dyn Store> {
        let files = Arc::new(DiskFiles::new(self.0.path()));
        let home = SledHome::new(self.0.path().join("index"), 8 << 20);
        let options = EngineOptions { reopen_bytes: 20_000, ..options() };
        Arc::new(Engine::open(files, &home, &options, Random::seeded(1)).unwrap())
    }
}

struct OnDisk(TempDir);

impl Kind for OnDisk {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(Engine::open_dir(&config(&self.0)).unwrap())
    }
}

fn put(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(key.to_vec(), value.to_vec());
    batch
}

fn delete(key: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.delete(key.to_vec());
    batch
}

fn value_of(store: &dyn Store, key: &[u8]) -> Option<Vec<u8>> {
    store.get(key).unwrap().map(|versioned| versioned.value.to_vec())
}

fn keys_of(store: &dyn Store, scan: &Scan) -> Vec<String> {
    store.scan(scan).unwrap().into_iter().map(|row| String::from_utf8(row.key).unwrap()).collect()
}

/// Waits until the index has everything, so that a test sees the same with and without the overlay.
async fn settle(store: &dyn Store) {
    for _ in 0..2000 {
        let health = store.health();
        if health.overlay_bytes == 0 && health.applied >= health.committed {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the overlay does not drain: {:?}", store.health());
}

async fn puts_gets_and_deletes(store: &dyn Store) {
    assert_eq!(store.get(b"a").unwrap(), None);
    let first = store.commit(put(b"a", b"1")).await.unwrap();
    let second = store.commit(put(b"b", b"")).await.unwrap();
    assert!(first.sequence >= 1 && second.sequence > first.sequence);
    assert_eq!(store.get(b"a").unwrap().unwrap().revision, first.sequence);
    assert_eq!(value_of(store, b"b"), Some(vec![]));
    let third = store.commit(put(b"a", b"3")).await.unwrap();
    assert_eq!(store.get(b"a").unwrap().unwrap().revision, third.sequence);
    assert_eq!(store.health().committed, third.sequence);
    settle(store).await;
    assert_eq!(value_of(store, b"a"), Some(b"3".to_vec()));
    store.commit(delete(b"a")).await.unwrap();
    store.commit(delete(b"never there")).await.unwrap();
    assert_eq!(store.get(b"a").unwrap(), None);
    settle(store).await;
    assert_eq!(store.get(b"a").unwrap(), None);
    let empty = store.commit(Batch::new()).await.unwrap();
    assert!(empty.sequence > third.sequence);
}

async fn preconditions(store: &dyn Store) {
    let mut batch = Batch::new();
    batch.insert(b"p".to_vec(), b"1".to_vec());
    let first = store.commit(batch.clone()).await.unwrap();
    assert_eq!(store.commit(batch).await, Err(StoreError::Precondition { index: 0 }));
    let mut batch = Batch::new();
    batch.expect(b"q".to_vec(), ABSENT);
    batch.replace(b"p".to_vec(), first.sequence + 1, b"2".to_vec());
    batch.put(b"r".to_vec(), b"2".to_vec());
    assert_eq!(store.commit(batch).await, Err(StoreError::Precondition { index: 1 }));
    assert_eq!((value_of(store, b"p"), value_of(store, b"r")), (Some(b"1".to_vec()), None));
    settle(store).await;
    let mut batch = Batch::finishing();
    batch.replace(b"p".to_vec(), first.sequence, b"2".to_vec());
    let second = store.commit(batch).await.unwrap();
    assert_eq!(store.get(b"p").unwrap().unwrap().revision, second.sequence);
    store.commit(delete(b"p")).await.unwrap();
    let mut batch = Batch::new();
    batch.insert(b"p".to_vec(), b"again".to_vec());
    store.commit(batch).await.unwrap();
}

/// Commits that were queued together see each other in the order of their arrival.
async fn preconditions_within_a_group(store: &dyn Store) {
    for round in 0..20_u32 {
        let key = format!("group/{round}").into_bytes();
        let commits: Vec<_> = (0..8)
            .map(|_| {
                let mut batch = Batch::new();
                batch.insert(key.clone(), b"x".to_vec());
                store.commit(batch)
            })
            .collect();
        let mut answers = Vec::new();
        for commit in commits {
            answers.push(commit.await);
        }
        assert!(answers[0].is_ok());
        assert!(answers[1..].iter().all(|answer| *answer == Err(StoreError::Precondition { index: 0 })));
        // Insert, delete and insert again without waiting in between.
        let mut insert = Batch::new();
        insert.insert(key.clone(), b"y".to_vec());
        let (deleted, inserted) = (store.commit(delete(&key)), store.commit(insert));
        assert!(deleted.await.is_ok() && inserted.await.is_ok());
        assert_eq!(value_of(store, &key), Some(b"y".to_vec()));
    }
}

async fn a_dropped_future_takes_nothing_back(store: &dyn Store) {
    drop(store.commit(put(b"dropped", b"1")));
    store.commit(put(b"behind", b"1")).await.unwrap();
    assert!(value_of(store, b"dropped").is_some());
}

async fn rules(store: &dyn Store) {
    let mut twice = put(b"k", b"1");
    twice.delete(b"k".to_vec());
    let mut stream = Batch::new();
    stream.append(Vec::new(), b"1".to_vec());
    for bad in
        [twice, stream, put(b"", b""), put(&[b'k'; 1025], b""), put(b"k", &[0; (1 << 20) + 1]), put(b"\xFEk", b"")]
    {
        assert!(matches!(store.commit(bad).await, Err(StoreError::Invalid(_))));
    }
    assert_eq!(store.get(b"k").unwrap(), None);
    assert!(matches!(store.scan(&Scan::prefix(b"k", 0)), Err(StoreError::Invalid(_))));
}

async fn streams(store: &Arc<dyn Store>) {
    let tasks: Vec<_> = (0..16)
        .map(|writer| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                for _ in 0..25 {
                    let mut batch = Batch::new();
                    batch.append(b"stream/a/".to_vec(), vec![writer]);
                    batch.append(b"stream/b/".to_vec(), vec![writer]);
                    batch.append(b"stream/a/".to_vec(), vec![writer]);
                    let Committed { numbers: given, .. } = store.commit(batch).await.unwrap();
                    assert_eq!(given[2], given[0] + 1);
                    numbers.push((given[0], given[1]));
                }
                numbers
            })
        })
        .collect();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for task in tasks {
        for (first, second) in task.await.unwrap() {
            a.extend([first, first + 1]);
            b.push(second);
        }
    }
    a.sort_unstable();
    b.sort_unstable();
    assert_eq!(a, (1..=800).collect::<Vec<u64>>());
    assert_eq!(b, (1..=400).collect::<Vec<u64>>());
    let rows = store.scan(&Scan::prefix(b"stream/b/", 1000)).unwrap();
    let numbers: Vec<u64> = rows.iter().map(|row| u64::from_be_bytes(row.key[9..].try_into().unwrap())).collect();
    assert_eq!(numbers, b);
    settle(&**store).await;
    let mut batch = Batch::new();
    batch.append(b"stream/b/".to_vec(), b"next".to_vec());
    assert_eq!(store.commit(batch).await.unwrap().numbers, [401]);
    // A commit that is refused leaves no gap.
    let mut refused = Batch::new();
    refused.expect(b"not there".to_vec(), 1);
    refused.append(b"stream/b/".to_vec(), b"no".to_vec());
    assert!(store.commit(refused).await.is_err());
    let mut batch = Batch::new();
    batch.append(b"stream/b/".to_vec(), b"after".to_vec());
    assert_eq!(store.commit(batch).await.unwrap().numbers, [402]);
}

async fn scans(store: &dyn Store) {
    let all: Vec<String> = (0..300).map(|number| format!("s/{number:03}")).collect();
    for key in all.iter().step_by(2) {
        store.commit(put(key.as_bytes(), b"old")).await.unwrap();
    }
    settle(store).await;
    // The rest, some changes and many tombstones stand above the index now.
    let mut commits: Vec<_> =
        all.iter().skip(1).step_by(2).map(|key| store.commit(put(key.as_bytes(), b"new"))).collect();
    let removed = |number: usize| (20..150).contains(&number) || number.is_multiple_of(7);
    commits.extend(
        all.iter()
            .enumerate()
            .filter(|(number, _)| removed(*number))
            .map(|(_, key)| store.commit(delete(key.as_bytes()))),
    );
    for commit in commits {
        commit.await.unwrap();
    }
    store.commit(put(b"s", b"before")).await.unwrap();
    store.commit(put(b"s1", b"after")).await.unwrap();
    let left: Vec<String> =
        all.iter().enumerate().filter(|(number, _)| !removed(*number)).map(|(_, key)| key.clone()).collect();
    for _ in 0..2 {
        check_scans(store, &left);
        settle(store).await;
    }
}

fn check_scans(store: &dyn Store, left: &[String]) {
    let backwards: Vec<String> = left.iter().rev().cloned().collect();
    assert_eq!(keys_of(store, &Scan::prefix(b"s/", 1000)), left);
    assert_eq!(keys_of(store, &Scan::prefix_reverse(b"s/", 1000)), backwards);
    for limit in [1, 2, 3, 10, 64, left.len(), left.len() + 1] {
        assert_eq!(keys_of(store, &Scan::prefix(b"s/", limit)), left[..limit.min(left.len())]);
        let (mut forward, mut start) = (Vec::new(), b"s/".to_vec());
        loop {
            let page = keys_of(store, &Scan { start: start.clone(), end: Some(b"s0".to_vec()), limit, reverse: false });
            forward.extend(page.iter().cloned());
            if page.len() < limit {
                break;
            }
            start = [page.last().unwrap().as_bytes(), b"\0"].concat();
        }
        assert_eq!(forward, left);
        let (mut backward, mut end) = (Vec::new(), b"s0".to_vec());
        loop {
            let page = keys_of(store, &Scan { start: b"s/".to_vec(), end: Some(end.clone()), limit, reverse: true });
            backward.extend(page.iter().cloned());
            if page.len() < limit {
                break;
            }
            end = page.last().unwrap().clone().into_bytes();
        }
        assert_eq!(backward, backwards);
    }
    let bounds =
        |start: &str, end: &str| Scan { start: start.into(), end: Some(end.into()), limit: 1000, reverse: false };
    assert_eq!(keys_of(store, &bounds("s/150", "s/153")), ["s/150", "s/151", "s/152"]);
    assert_eq!(keys_of(store, &bounds("s/030", "s/100")), Vec::<String>::new());
    assert_eq!(keys_of(store, &bounds("s/2", "s/1")), Vec::<String>::new());
    assert_eq!(keys_of(store, &bounds("s/150", "s/150")), Vec::<String>::new());
    let last = Scan { start: b"s/299".to_vec(), end: None, limit: 2, reverse: false };
    assert_eq!(keys_of(store, &last), ["s/299", "s1"]);
}

async fn large_values(store: &dyn Store) {
    for (length, byte) in [(100 * 1024, 1), (10, 2), (5000, 3), (60_000, 4), (4096, 5)] {
        let value: Vec<u8> = (0..length).map(|at| byte ^ (at % 253) as u8).collect();
        store.commit(put(b"large", &value)).await.unwrap();
        assert_eq!(value_of(store, b"large").as_ref(), Some(&value));
        settle(store).await;
        assert_eq!(value_of(store, b"large").as_ref(), Some(&value));
        assert_eq!(store.scan(&Scan::prefix(b"large", 10)).unwrap()[0].versioned.value[..], value);
    }
    store.commit(delete(b"large")).await.unwrap();
    settle(store).await;
    assert_eq!(value_of(store, b"large"), None);
}

/// Every writer adds to the same counter, and reads while others write.
async fn many_writers(store: &Arc<dyn Store>) {
    let tasks: Vec<_> = (0..32_u32)
        .map(|writer| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for round in 0..20_u32 {
                    let own = format!("many/{writer:02}/{round:02}").into_bytes();
                    let urgency = if round % 2 == 0 { Urgency::New } else { Urgency::Finish };
                    loop {
                        let read = store.get(b"counter").unwrap();
                        let count =
                            read.as_ref().map_or(0, |found| u32::from_le_bytes((*found.value).try_into().unwrap()));
                        let mut batch = Batch { urgency, ..Batch::default() };
                        let revision = read.map_or(ABSENT, |found| found.revision);
                        batch.replace(b"counter".to_vec(), revision, (count + 1).to_le_bytes().to_vec());
                        batch.insert(own.clone(), vec![0; 200]);
                        match store.commit(batch).await {
                            Ok(_) => break,
                            Err(StoreError::Precondition { index: 0 }) => {}
                            other => panic!("{other:?}"),
                        }
                    }
                    assert!(store.get(&own).unwrap().is_some(), "what was acknowledged can be read");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(value_of(&**store, b"counter"), Some(640_u32.to_le_bytes().to_vec()));
    assert_eq!(store.scan(&Scan::prefix(b"many/", 1000)).unwrap().len(), 640);
}

/// Rows that stay are in every scan, whatever moves between overlay and index meanwhile.
async fn no_row_is_missed(store: &Arc<dyn Store>) {
    for number in 0..100 {
        store.commit(put(format!("stay/{number:02}").as_bytes(), b"0")).await.unwrap();
    }
    let writer = {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for round in 0..300_u32 {
                let mut batch = put(format!("stay/{:02}", round % 100).as_bytes(), &round.to_le_bytes());
                batch.put(format!("stay/{:02}/come and go", round % 100).into_bytes(), b"x".to_vec());
                batch.delete(format!("stay/{:02}/come and go", (round + 50) % 100).into_bytes());
                store.commit(batch).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        for scan in [Scan::prefix(b"stay/", 1000), Scan::prefix_reverse(b"stay/", 1000)] {
            let rows = store.scan(&scan).unwrap();
            assert_eq!(rows.iter().filter(|row| row.key.len() == 7).count(), 100);
            assert!(rows.windows(2).all(|pair| (pair[0].key < pair[1].key) != scan.reverse));
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

async fn run_all(kind: &dyn Kind) {
    let store = kind.open();
    puts_gets_and_deletes(&*store).await;
    preconditions(&*store).await;
    preconditions_within_a_group(&*store).await;
    a_dropped_future_takes_nothing_back(&*store).await;
    rules(&*store).await;
    streams(&store).await;
    scans(&*store).await;
    large_values(&*store).await;
    many_writers(&store).await;
    no_row_is_missed(&store).await;
}

/// Everything is there after opening again, after a clean stop and without one.
async fn run_reopening(kind: &dyn Kind) {
    let mut expected: Vec<(Vec<u8>, u64)> = Vec::new();
    let mut appended = 0;
    for life in 0..6_u32 {
        let store = kind.open();
        // Every other life is closed, from the first one on.
        assert!(life == 0 || store.health().was_left_open == (life % 2 == 0), "life {life}");
        let rows = store.scan(&Scan::prefix(b"life/", 10_000)).unwrap();
        let found: Vec<(Vec<u8>, u64)> = rows.into_iter().map(|row| (row.key, row.versioned.revision)).collect();
        assert_eq!(found, expected, "life {life}");
        assert!(expected.iter().all(|(_, revision)| *revision <= store.health().committed));
        for number in 0..40_u32 {
            let key = format!("life/{life}/{number:02}").into_bytes();
            let mut batch = put(&key, &vec![7; 50 * number as usize]);
            batch.append(b"events/".to_vec(), key.clone());
            let committed = store.commit(batch).await.unwrap();
            appended += 1;
            assert_eq!(committed.numbers, [appended]);
            expected.push((key, committed.sequence));
        }
        let gone = expected.remove(0).0;
        store.commit(delete(&gone)).await.unwrap();
        if life % 2 == 0 {
            store.close().unwrap();
            assert!(matches!(store.commit(put(b"late", b"1")).await, Err(StoreError::Poisoned(_))));
            store.close().unwrap();
        }
    }
}

#[tokio::test]
async fn memory_store_conforms() {
    run_all(&InMemory(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_on_simulated_files_conforms() {
    let simulated = Simulated(SimFiles::new(), MemoryIndex::new());
    run_all(&simulated).await;
    run_reopening(&simulated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_with_an_index_that_is_often_reopened_conforms() {
    run_all(&Reopening(TempDir::new().unwrap())).await;
    run_reopening(&Reopening(TempDir::new().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_on_disk_conforms() {
    run_all(&OnDisk(TempDir::new().unwrap())).await;
    run_reopening(&OnDisk(TempDir::new().unwrap())).await;
}
