//! Entries and changes go together, the chain is whole, and what was touched is found.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::random::Random;
use crate::storage::engine::Engine;
use crate::storage::memory::MemoryStore;
use crate::storage::vault::Vault;

fn core() -> Core {
    let random = Random::seeded(1);
    Core::new(
        Arc::new(MemoryStore::new()),
        Clock::manual(Timestamp::from_unix_s(1_737_715_200)),
        random.clone(),
        Config::embedded().unwrap(),
        Vault::with_key(&[7; 32], random),
    )
}

fn by(name: &str) -> Operator {
    Operator { name: name.to_owned(), request_id: "r-1".to_owned() }
}

fn change(number: usize) -> Change {
    Change::new("merchant.update", format!("m_{}", number % 3)).field("n", None, Some(json!(number)))
}

fn checked(core: &Core, anchor: Option<Anchor>) -> Result<AuditHead, ChainProblem> {
    verify(core.store.as_ref(), anchor).unwrap()
}

fn page(core: &Core, filter: AuditFilter, limit: usize, cursor: Option<String>) -> AuditPage {
    Audit::new(core.clone()).list(&filter, &PageRequest { limit: Some(limit), cursor }).unwrap()
}

#[tokio::test]
async fn a_change_and_its_entry_are_committed_together_or_not_at_all() {
    let core = core();
    let mut batch = Batch::new();
    batch.insert(b"k".to_vec(), b"1".to_vec());
    commit(&core, batch.clone(), &by("admin"), &change(1)).await.unwrap();
    let refused = commit(&core, batch, &by("admin"), &change(2)).await;
    assert_eq!(refused, Err(StoreError::Precondition { index: 0 }), "the batch's own precondition is named as its own");
    assert_eq!(checked(&core, None).unwrap().number, 1);
    let entries = page(&core, AuditFilter::default(), 10, None);
    assert_eq!(entries.items.len(), 1);
    assert_eq!(entries.items[0].actor, "admin");
    assert_eq!(entries.items[0].request_id.as_deref(), Some("r-1"));
    assert_eq!(entries.chain.hash, entries.items[0].hash);
}

/// More than could all be overtaken by each other within some tries.
const AT_ONCE: usize = 200;

#[tokio::test]
async fn changes_at_the_same_time_all_get_their_places() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = Config::embedded().unwrap().storage;
    (storage.dir, storage.ballast_bytes) = (directory.path().join("data"), 0);
    let engine = Arc::new(Engine::open_dir(&storage).unwrap());
    let core = Core { store: engine.clone(), ..core() };
    let write = |number| {
        let core = core.clone();
        async move { record(&core, &by("admin"), &change(number)).await }
    };
    let (first, second) = (write(0), write(1));
    // Who goes away while it is committed has its place all the same, and is in nobody's way.
    let gone = tokio::spawn(first);
    tokio::task::yield_now().await;
    gone.abort();
    second.await.unwrap();
    let written = checked(&core, None).unwrap().number;
    let tasks: Vec<_> = (0..AT_ONCE).map(|number| tokio::spawn(write(number))).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(checked(&core, None).unwrap().number, written + AT_ONCE as u64);
    engine.close().unwrap();
}

#[tokio::test]
async fn a_chain_of_several_chunks_is_checked_to_its_end() {
    let core = core();
    assert_eq!(checked(&core, None), Ok(AuditHead::empty()));
    for number in 0..=2 * CHUNK_ROWS {
        record(&core, &by("admin"), &change(number)).await.unwrap();
    }
    let head = checked(&core, None).unwrap();
    assert_eq!(head.number, 2 * CHUNK_ROWS as u64 + 1);
    let anchor = Anchor { number: head.number, hash: head.hash.clone() };
    assert_eq!(checked(&core, Some(anchor.clone())), Ok(head));

    let last = keys::audit_entry(2 * CHUNK_ROWS as u64);
    let stored = core.store.get(&last).unwrap().unwrap();
    let touched = String::from_utf8(stored.value.to_vec()).unwrap().replace("\"admin\"", "\"other\"");
    let mut batch = Batch::new();
    batch.put(last, touched.into_bytes());
    core.store.commit(batch).await.unwrap();
    assert_eq!(checked(&core, None), Err(ChainProblem::WrongHash { number: 2 * CHUNK_ROWS as u64 }));
}

#[tokio::test]
async fn entries_taken_out_cut_off_or_left_behind_the_head_are_found() {
    let core = core();
    let mut heads = Vec::new();
    for number in 0..5 {
        record(&core, &by("admin"), &change(number)).await.unwrap();
        heads.push(head(core.store.as_ref()).unwrap());
    }
    let whole = core.store.get(&keys::audit_entry(3)).unwrap().unwrap();
    let mut batch = Batch::new();
    batch.delete(keys::audit_entry(3));
    core.store.commit(batch).await.unwrap();
    assert_eq!(checked(&core, None), Err(ChainProblem::Gap { expected: 3, found: 4 }));
    let mut batch = Batch::new();
    batch.put(keys::audit_entry(3), whole.value.to_vec());
    batch.put(keys::audit_head(), encode(&heads[3]).unwrap());
    core.store.commit(batch).await.unwrap();
    assert_eq!(checked(&core, None), Err(ChainProblem::WrongEnd { last: 5, head: 4 }));
    let mut batch = Batch::new();
    batch.delete(keys::audit_entry(5));
    core.store.commit(batch).await.unwrap();
    assert!(checked(&core, None).is_ok(), "without an anchor it can't be seen");
    let anchor = Anchor { number: 5, hash: heads[4].hash.clone() };
    assert_eq!(checked(&core, Some(anchor)), Err(ChainProblem::WrongAnchor { number: 5 }));
    let mut batch = Batch::new();
    batch.delete(keys::audit_entry(4));
    core.store.commit(batch).await.unwrap();
    assert_eq!(checked(&core, None), Err(ChainProblem::WrongEnd { last: 3, head: 4 }));
}

#[tokio::test]
async fn pages_are_newest_first_and_filters_fit() {
    let core = core();
    for number in 0..7 {
        record(&core, &by(if number % 2 == 0 { "anna" } else { "ben" }), &change(number)).await.unwrap();
    }
    record(&core, &by("anna"), &Change::new("key.delete", "m_1/ak_1")).await.unwrap();
    let first = page(&core, AuditFilter::default(), 3, None);
    let numbers = |page: &AuditPage| page.items.iter().map(|entry| entry.number).collect::<Vec<_>>();
    assert_eq!(numbers(&first), [8, 7, 6]);
    let second = page(&core, AuditFilter::default(), 10, first.next_cursor);
    assert_eq!(numbers(&second), [5, 4, 3, 2, 1]);
    assert_eq!(second.next_cursor, None);
    let with = |filter: AuditFilter| numbers(&page(&core, filter, 10, None));
    assert_eq!(with(AuditFilter { actor: Some("ben".to_owned()), ..AuditFilter::default() }), [6, 4, 2]);
    assert_eq!(with(AuditFilter { object: Some("m_1".to_owned()), ..AuditFilter::default() }), [8, 5, 2]);
    assert_eq!(with(AuditFilter { object: Some("m_".to_owned()), ..AuditFilter::default() }), Vec::<u64>::new());
    assert_eq!(with(AuditFilter { action: Some("key.delete".to_owned()), ..AuditFilter::default() }), [8]);
    let now = "2025-01-24T10:40:00Z".to_owned();
    assert_eq!(with(AuditFilter { from: Some(now.clone()), ..AuditFilter::default() }).len(), 8);
    assert!(with(AuditFilter { to: Some(now), ..AuditFilter::default() }).is_empty());
    let wrong = Audit::new(core)
        .list(&AuditFilter { from: Some("yesterday".to_owned()), ..AuditFilter::default() }, &PageRequest::default());
    assert!(matches!(wrong, Err(GatewayError::InvalidRequest(_))));
}
