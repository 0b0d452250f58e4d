//! Rotation of the master key: everything opens afterwards, and after an end at any moment.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;

use tokio::sync::Notify;

use super::*;
use crate::actors::webhook::secret_identity;
use crate::config::Mode;
use crate::delivery::{Deliver, DeliveryFuture, DeliveryRequest};
use crate::domain::audit::AuditHead;
use crate::domain::ids::{EndpointId, KeyId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Endpoint;
use crate::gateway::answer::StoredAnswer;
use crate::gateway::erasures::{EraseCustomer, Erasures};
use crate::gateway::idempotency::{self, IdempotencyKey};
use crate::gateway::merchants::Merchants;
use crate::gateway::webhooks::Webhooks;
use crate::storage::key_file::MasterKeyId;
use crate::storage::memory::MemoryStore;
use crate::storage::record::{decode, encode};
use crate::storage::{CommitFuture, Health, Row, Scan, Versioned, Write, keys};

const START: Timestamp = Timestamp::from_unix_s(1_790_000_000);
const CUSTOMER: &str = "somebody@example.com";

/// Where a store stops taking commits.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Commits that it takes.
    commits: u64,
    /// Whether the one after them is stored, though nobody hears of it.
    stores_the_last: bool,
}

/// A store that stops at a cut, as for a process that is killed, and can let a commit wait.
struct CutStore {
    inner: MemoryStore,
    cut: Option<Cut>,
    commits: AtomicU64,
    is_cut: Notify,
    /// The next commit of an endpoint's row waits for `go`.
    gate: AtomicBool,
    at_gate: Notify,
    go: Arc<Notify>,
    /// Whether the next commit panics.
    panics: AtomicBool,
}

impl CutStore {
    fn new(inner: &MemoryStore, cut: Option<Cut>) -> Arc<Self> {
        Arc::new(Self {
            inner: inner.clone(),
            cut,
            commits: AtomicU64::new(0),
            is_cut: Notify::new(),
            gate: AtomicBool::new(false),
            at_gate: Notify::new(),
            go: Arc::default(),
            panics: AtomicBool::new(false),
        })
    }
}

impl Store for CutStore {
    fn commit(&self, batch: Batch) -> CommitFuture {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "as a fault in a program would");
        let before = self.commits.fetch_add(1, Ordering::SeqCst);
        if let Some(cut) = self.cut.filter(|cut| before >= cut.commits) {
            if cut.stores_the_last && before == cut.commits {
                drop(self.inner.commit(batch));
            }
            self.is_cut.notify_one();
            return Box::pin(std::future::pending());
        }
        let is_of_endpoint =
            |write: &Write| matches!(write, Write::Put { key, .. } if key.starts_with(&keys::endpoints()));
        if batch.writes.iter().any(is_of_endpoint) && self.gate.swap(false, Ordering::SeqCst) {
            self.at_gate.notify_one();
            let (go, inner) = (Arc::clone(&self.go), self.inner.clone());
            return Box::pin(async move {
                go.notified().await;
                inner.commit(batch).await
            });
        }
        self.inner.commit(batch)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        self.inner.scan(scan)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        self.inner.failed()
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

struct NoNetwork;

impl Deliver for NoNetwork {
    fn deliver(&self, _request: DeliveryRequest) -> DeliveryFuture<'_> {
        Box::pin(std::future::pending())
    }
}

/// One process on a store and a key file.
struct House {
    core: Core,
    merchants: Merchants,
    webhooks: Webhooks,
    erasures: Erasures,
    rotation: KeyRotation,
}

impl House {
    async fn open(store: Arc<dyn Store>, file: &KeyFile) -> Result<Self, InstallationError> {
        let config = Config::embedded().unwrap();
        let random = Random::from_os();
        let master_key = MasterKey::File(file.clone());
        let installation = Installation::open(store.as_ref(), Mode::Sandbox, &master_key, random.clone()).await?;
        let core = Core::new(store, Clock::virtual_from(START), random, config, installation.vault);
        let webhooks = Webhooks::start(core.clone(), Arc::new(NoNetwork)).await.unwrap();
        let rotation = KeyRotation::new(core.clone(), Some(file.clone()), DiskWork::InPlace, Box::new(|_| {}));
        rotation.open().await?;
        let merchants = Merchants::new(core.clone(), Box::new(|_, _| Box::pin(async {})), Box::new(|_, _, _| {}));
        let erasures = Erasures::new(core.clone());
        Ok(Self { core, merchants, webhooks, erasures, rotation })
    }

    /// Waits for a rotation that goes on.
    async fn rotated(&self) -> KeyRotationView {
        for _ in 0..100_000 {
            let view = self.rotation.view();
            if view.state != "running" {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the rotation does not end: {:?}", self.rotation.view());
    }

    fn endpoint(&self, secrets: &Secrets) -> Endpoint {
        let row = self.core.store.get(&keys::endpoint(&secrets.merchant_id, &secrets.endpoint_id)).unwrap().unwrap();
        decode(&row.value).unwrap()
    }

    fn open_secret(&self, secrets: &Secrets, sealed: &str) -> String {
        let text = self.core.vault.unseal(&secret_identity(&secrets.endpoint_id), sealed).unwrap();
        String::from_utf8(text.to_vec()).unwrap()
    }

    /// Everything that was ever sealed opens and is what it was.
    async fn check(&self, secrets: &Secrets) {
        let key = self.merchants.key(&secrets.key_id).unwrap().unwrap();
        assert_eq!(*key.secret, secrets.key_secret);
        let sealed = self.endpoint(secrets).secrets;
        assert_eq!(self.open_secret(secrets, &sealed.current), secrets.webhook_secret);
        assert_eq!(self.open_secret(secrets, &sealed.former[0].sealed), secrets.webhook_secret_before);
        let answered = secrets.ask(&self.core, "another").await;
        assert_eq!((answered.0.as_str(), answered.1), ("whsec_in_an_answer", true));
        let erasures = self.core.store.scan(&Scan::prefix(&keys::erasures(), 10)).unwrap();
        let record: Value = serde_json::from_slice(&erasures[0].versioned.value[1..]).unwrap();
        let identity = format!("erasure|{}", record["erasure_id"].as_str().unwrap());
        let customer = self.core.vault.unseal(&identity, record["sealed_customer"].as_str().unwrap()).unwrap();
        assert!(String::from_utf8(customer.to_vec()).unwrap().contains(CUSTOMER));
        assert_eq!(erasures.len(), 1);
    }
}

/// What was sealed.
struct Secrets {
    merchant_id: MerchantId,
    key_id: KeyId,
    key_secret: String,
    endpoint_id: EndpointId,
    webhook_secret: String,
    webhook_secret_before: String,
}

impl Secrets {
    /// Has one of each kind sealed.
    async fn make(house: &House) -> Self {
        let by = Operator::process("test");
        let command = serde_json::from_value(json!({ "name": "A shop", "tier": "business" })).unwrap();
        let merchant = house.merchants.create(command, &by).await.unwrap();
        let merchant_id = MerchantId::new(merchant.merchant.merchant_id);
        let command = serde_json::from_value(json!({ "url": "https://example.com/hook" })).unwrap();
        let made = house.webhooks.create_endpoint(&merchant_id, command).await.unwrap();
        let endpoint_id = EndpointId::new(made.endpoint.id.clone());
        let rotated = house.webhooks.rotate_secret(&merchant_id, &endpoint_id).await.unwrap();
        let customer = EraseCustomer { customer_email: Some(CUSTOMER.to_owned()), customer_id: None };
        house.erasures.erase_customer(merchant_id.as_str(), customer, &by).await.unwrap();
        let secrets = Self {
            merchant_id,
            key_id: KeyId::new(merchant.key.id),
            key_secret: merchant.key.secret,
            endpoint_id,
            webhook_secret: rotated.secret,
            webhook_secret_before: made.secret,
        };
        let answered = secrets.ask(&house.core, "whsec_in_an_answer").await;
        assert_eq!((answered.0.as_str(), answered.1), ("whsec_in_an_answer", false));
        secrets
    }

    /// Sends a request under one idempotency key; says what was answered and whether that was kept.
    async fn ask(&self, core: &Core, body: &str) -> (String, bool) {
        let key = IdempotencyKey::new("POST", "/x", "k", b"{}").unwrap();
        let answer = StoredAnswer { status: 201, body: body.to_owned() };
        let work = async { Ok::<_, GatewayError>(answer) };
        let answered = idempotency::once(core, &self.merchant_id, Some(key), None, work).await.unwrap();
        (answered.answer.body, answered.replayed)
    }
}

/// A directory with a key file, and a store with one secret of each kind.
struct World {
    _directory: tempfile::TempDir,
    file: KeyFile,
    store: MemoryStore,
    secrets: Secrets,
    old: MasterKeyBytes,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::new(directory.path().join("master.key"));
        let store = MemoryStore::new();
        let house = House::open(Arc::new(store.clone()), &file).await.unwrap();
        let secrets = Secrets::make(&house).await;
        house.check(&secrets).await;
        let old = file.read().unwrap().unwrap().current().clone();
        Self { _directory: directory, file, store, secrets, old }
    }

    async fn house(&self) -> House {
        House::open(Arc::new(self.store.clone()), &self.file).await.unwrap()
    }

    fn rows(&self) -> Vec<Row> {
        let all = Scan { start: vec![0], end: None, limit: 10_000, reverse: false };
        self.store.scan(&all).unwrap()
    }

    /// Rows with something sealed under this key, found by what every sealed text begins with, whatever the row is.
    fn rows_under(&self, id: MasterKeyId) -> Vec<Row> {
        let mark = format!("01{id}");
        let has = |row: &Row| row.versioned.value.windows(mark.len()).any(|window| window == mark.as_bytes());
        self.rows().into_iter().filter(has).collect()
    }

    /// The rotation has come to its end: one key, everything under it, the old one kept.
    async fn check_rotated(&self, times: usize) {
        let ring = self.file.read().unwrap().unwrap();
        assert!(ring.older().is_empty());
        assert_ne!(ring.current().id(), self.old.id());
        assert!(self.rows_under(self.old.id()).is_empty(), "{:?}", self.rows_under(self.old.id()));
        let kept = KeyFile::new(self.file.place_of_old(self.old.id())).read().unwrap().unwrap();
        assert_eq!(kept.current().as_bytes(), self.old.as_bytes());
        let house = self.house().await;
        house.check(&self.secrets).await;
        assert!(house.core.vault.older().is_empty());
        let shown = self.rows().into_iter().map(|row| String::from_utf8_lossy(&row.versioned.value).into_owned());
        let texts: Vec<String> = shown.collect();
        for key in [&self.old, ring.current()] {
            let needle = hex::encode(key.as_bytes());
            assert!(!texts.iter().any(|text| text.contains(&needle)), "a key is in the store");
        }
        let audited = |action: &str| texts.iter().filter(|text| text.contains(action)).count();
        assert_eq!((audited("master_key.rotate"), audited("master_key.retire_older")), (times, times));
        let head: AuditHead = audit::verify(house.core.store.as_ref(), None).unwrap().unwrap();
        assert!(head.number > 0);
    }
}

fn by() -> Operator {
    Operator { name: String::from("ops"), request_id: String::from("r-1") }
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_sealed_opens_after_a_rotation() {
    let world = World::new().await;
    let house = world.house().await;
    assert_eq!(house.rotation.view().state, "none");
    assert!(world.rows_under(world.old.id()).len() >= 5, "the kinds and the installation's own");
    let begun = house.rotation.begin(&by()).unwrap();
    assert_eq!(begun.state, "running");
    assert!(matches!(house.rotation.begin(&by()), Err(GatewayError::InvalidState { .. })), "one at a time");
    let done = house.rotated().await;
    assert_eq!((done.state.as_str(), done.resealed, done.unreadable), ("done", 4, 0), "{done:?}");
    assert_eq!(done.kept_in, [world.file.place_of_old(world.old.id()).display().to_string()]);
    assert!(done.older_key_ids.is_empty());
    // The process that did it goes on with what it has in memory, and a later one too.
    house.check(&world.secrets).await;
    world.check_rotated(1).await;
    // And once more.
    house.rotation.begin(&by()).unwrap();
    assert_eq!(house.rotated().await.state, "done");
    house.check(&world.secrets).await;
    world.check_rotated(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_ends_at_any_commit_goes_on_at_the_next_start() {
    let mut cuts = 0;
    'commits: for commits in 0.. {
        for stores_the_last in [false, true] {
            let world = World::new().await;
            let cut = Cut { commits, stores_the_last };
            let store = CutStore::new(&world.store, Some(cut));
            let dying = House::open(Arc::clone(&store) as _, &world.file).await.unwrap();
            dying.rotation.claim().unwrap();
            let by = by();
            tokio::select! {
                biased;
                () = dying.rotation.run(&by) => break 'commits,
                () = store.is_cut.notified() => {}
            }
            cuts += 1;
            let ring = world.file.read().unwrap().unwrap();
            assert_eq!(ring.older().len(), 1, "{cut:?}: nothing can be under a key that is not in the file");
            // What a kill while a file is written leaves.
            std::fs::write(world.file.path().with_file_name("master.key.tmp"), "half").unwrap();
            let house = world.house().await;
            house.check(&world.secrets).await;
            assert_eq!(house.rotation.view().older_key_ids, [world.old.id().to_string()]);
            house.rotation.start();
            let view = house.rotated().await;
            assert_eq!(view.state, "done", "{cut:?}: {view:?}");
            house.check(&world.secrets).await;
            world.check_rotated(1).await;
        }
    }
    assert!(cuts >= 8, "only {cuts} places to end at");
}

#[tokio::test(start_paused = true)]
async fn an_end_after_the_old_key_was_set_aside_leaves_nothing_to_do_but_the_file() {
    let world = World::new().await;
    let house = world.house().await;
    house.rotation.begin(&by()).unwrap();
    house.rotated().await;
    let ring = world.file.read().unwrap().unwrap();
    world.file.write(&KeyRing::of(world.old.clone()).with_new(ring.current().clone())).unwrap();
    let next = world.house().await;
    next.rotation.start();
    let view = next.rotated().await;
    assert_eq!((view.state.as_str(), view.resealed), ("done", 0));
    world.check_rotated(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_changes_meanwhile_stays_changed() {
    let mut world = World::new().await;
    let store = CutStore::new(&world.store, None);
    let house = House::open(Arc::clone(&store) as _, &world.file).await.unwrap();
    store.gate.store(true, Ordering::SeqCst);
    house.rotation.begin(&by()).unwrap();
    store.at_gate.notified().await;
    let secrets = &mut world.secrets;
    let rotated = house.webhooks.rotate_secret(&secrets.merchant_id, &secrets.endpoint_id).await.unwrap();
    secrets.webhook_secret_before = std::mem::replace(&mut secrets.webhook_secret, rotated.secret);
    store.go.notify_one();
    let view = house.rotated().await;
    assert_eq!(view.state, "done", "{view:?}");
    house.check(&world.secrets).await;
    world.check_rotated(1).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_takes_the_place_of_one_that_was_over_and_sealed_anew_meanwhile() {
    let world = World::new().await;
    let house = world.house().await;
    tokio::time::sleep(Duration::from_secs(house.core.config.payments.idempotency_keep_s)).await;
    let key = IdempotencyKey::new("POST", "/x", "k", b"{}").unwrap();
    let rotation = house.rotation.clone();
    let work = async move {
        rotation.claim()?;
        rotation.run(&by()).await;
        Ok::<_, GatewayError>(StoredAnswer { status: 201, body: String::from("a second time") })
    };
    let answered = idempotency::once(&house.core, &world.secrets.merchant_id, Some(key), None, work).await.unwrap();
    assert!(!answered.replayed);
    assert_eq!(house.rotation.view().resealed, 4, "the old answer among them");
    let again = world.secrets.ask(&house.core, "a third time").await;
    assert_eq!((again.0.as_str(), again.1), ("a second time", true));
}

#[tokio::test(start_paused = true)]
async fn what_is_being_sealed_with_the_old_key_is_waited_for() {
    let world = World::new().await;
    let house = world.house().await;
    let sealing = house.core.vault.sealing();
    house.rotation.begin(&by()).unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(house.rotation.view().state, "running");
    // As a request that was slow: sealed before the rotation, stored long after it began.
    let mut endpoint = house.endpoint(&world.secrets);
    let identity = secret_identity(&world.secrets.endpoint_id);
    endpoint.secrets.current = sealing.seal(&identity, world.secrets.webhook_secret.as_bytes()).unwrap();
    let mut batch = Batch::new();
    batch.put(keys::endpoint(&world.secrets.merchant_id, &world.secrets.endpoint_id), encode(&endpoint).unwrap());
    house.core.store.commit(batch).await.unwrap();
    drop(sealing);
    assert_eq!(house.rotated().await.state, "done");
    world.check_rotated(1).await;

    // One that never ends keeps both keys, and says so.
    let stuck = house.core.vault.sealing();
    house.rotation.begin(&by()).unwrap();
    let view = house.rotated().await;
    assert_eq!(view.state, "failed");
    assert!(view.problem.unwrap().contains("ask for the rotation again"));
    assert_eq!(world.file.read().unwrap().unwrap().older().len(), 1);
    drop(stuck);
    house.rotation.begin(&by()).unwrap();
    assert_eq!(house.rotated().await.state, "done");
    world.check_rotated(2).await;
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_try_waited_for_in_vain_is_waited_for_again() {
    let world = World::new().await;
    let house = world.house().await;
    let late = house.core.vault.sealing();
    for _try in 0..2 {
        house.rotation.begin(&by()).unwrap();
        let view = house.rotated().await;
        assert_eq!(view.state, "failed", "{view:?}");
        assert_eq!(view.older_key_ids, [world.old.id().to_string()]);
    }
    // What is sealed with the new key, however long that takes, is in nobody's way.
    let of_now = house.core.vault.sealing();
    house.rotation.begin(&by()).unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut endpoint = house.endpoint(&world.secrets);
    let identity = secret_identity(&world.secrets.endpoint_id);
    endpoint.secrets.current = late.seal(&identity, world.secrets.webhook_secret.as_bytes()).unwrap();
    let mut batch = Batch::new();
    batch.put(keys::endpoint(&world.secrets.merchant_id, &world.secrets.endpoint_id), encode(&endpoint).unwrap());
    house.core.store.commit(batch).await.unwrap();
    drop(late);
    assert_eq!(house.rotated().await.state, "done");
    house.check(&world.secrets).await;
    world.check_rotated(1).await;

    // The next rotation makes that key an old one, and waits for what it is still sealing.
    house.rotation.begin(&by()).unwrap();
    let view = house.rotated().await;
    assert_eq!((view.state.as_str(), view.older_key_ids.len()), ("failed", 1), "{view:?}");
    drop(of_now);
    house.rotation.begin(&by()).unwrap();
    assert_eq!(house.rotated().await.state, "done");
    world.check_rotated(2).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_by_a_panic_can_be_asked_for_again() {
    let world = World::new().await;
    let store = CutStore::new(&world.store, None);
    let house = House::open(Arc::clone(&store) as _, &world.file).await.unwrap();
    store.panics.store(true, Ordering::SeqCst);
    house.rotation.begin(&by()).unwrap();
    let view = house.rotated().await;
    assert_eq!(view.state, "failed");
    assert!(view.problem.unwrap().contains("ask for the rotation again"));
    house.rotation.begin(&by()).unwrap();
    assert_eq!(house.rotated().await.state, "done");
    world.check_rotated(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_rotated_where_no_gateway_has_ever_been() {
    let house = tempfile::tempdir().unwrap();
    let mut config = Config::embedded().unwrap();
    let storage = &mut config.storage;
    (storage.dir, storage.segment_bytes, storage.ballast_bytes) = (house.path().to_owned(), 1 << 20, 0);
    let by = by();
    let rotate = || rotate_offline(config.clone(), Clock::system(), Random::from_os(), &by);
    let refused = rotate().await.unwrap_err();
    assert!(matches!(refused, OpenError::Store(StoreError::Invalid(_))), "{refused}");
    assert_eq!(std::fs::read_dir(house.path()).unwrap().count(), 0, "nothing was made");
    // A store, but nobody's.
    crate::storage::engine::Engine::open_dir(&config.storage).unwrap().close().unwrap();
    let refused = rotate().await.unwrap_err();
    assert!(matches!(refused, OpenError::Store(StoreError::Invalid(_))), "{refused}");
    assert!(!key_file_of(&config).path().exists(), "no key was made");
}

#[tokio::test(start_paused = true)]
async fn an_older_backup_names_the_key_that_it_needs_and_opens_with_it() {
    let mut world = World::new().await;
    let before = world.store.copy();
    let house = world.house().await;
    house.rotation.begin(&by()).unwrap();
    house.rotated().await;
    let new = world.file.read().unwrap().unwrap().current().clone();
    let refused = |store: &MemoryStore| {
        let (store, file) = (store.clone(), world.file.clone());
        async move { House::open(Arc::new(store), &file).await.err().unwrap().to_string() }
    };
    let said = refused(&before).await;
    let place = world.file.place_of_old(world.old.id()).display().to_string();
    assert!(said.contains(&world.old.id().to_string()) && said.contains(&place), "{said}");
    for key in [&world.old, &new] {
        assert!(!said.contains(&hex::encode(key.as_bytes())), "{said}");
    }
    // The other way round: the old key alone for what was backed up afterwards.
    world.file.write(&KeyRing::of(world.old.clone())).unwrap();
    let said = refused(&world.store.copy()).await;
    assert!(said.contains(&new.id().to_string()), "{said}");
    // With both, the current one first, everything opens and is put under the current one.
    world.file.write(&KeyRing::of(world.old.clone()).with_new(new)).unwrap();
    world.store = before;
    let house = world.house().await;
    house.check(&world.secrets).await;
    house.rotation.start();
    assert_eq!(house.rotated().await.state, "done");
    world.check_rotated(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_backup_from_the_middle_of_a_rotation_needs_both_keys() {
    let world = World::new().await;
    // The commit that lists the new key, and one of sealing again.
    let store = CutStore::new(&world.store, Some(Cut { commits: 2, stores_the_last: false }));
    let dying = House::open(Arc::clone(&store) as _, &world.file).await.unwrap();
    dying.rotation.claim().unwrap();
    let by = by();
    tokio::select! {
        () = dying.rotation.run(&by) => panic!("it was not cut"),
        () = store.is_cut.notified() => {}
    }
    let ring = world.file.read().unwrap().unwrap();
    for (alone, missing) in [(&world.old, ring.current()), (ring.current(), &world.old)] {
        world.file.write(&KeyRing::of(alone.clone())).unwrap();
        let refused = House::open(Arc::new(world.store.clone()), &world.file).await.err().unwrap().to_string();
        assert!(refused.contains(&missing.id().to_string()), "{refused}");
    }
    world.file.write(&ring).unwrap();
    world.house().await.check(&world.secrets).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_file_that_cannot_be_written_or_was_exchanged_changes_nothing() {
    let world = World::new().await;
    let house = world.house().await;
    // Something that can't be replaced stands where the new file is written.
    let in_the_way: PathBuf = world.file.path().with_file_name("master.key.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    house.rotation.begin(&by()).unwrap();
    let view = house.rotated().await;
    assert_eq!(view.state, "failed");
    let problem = view.problem.unwrap();
    assert!(problem.contains("can't be written") && problem.contains("put a new key before the old one"), "{problem}");
    assert_eq!(house.core.vault.current(), world.old.id());
    std::fs::remove_dir(&in_the_way).unwrap();

    world.file.write(&KeyRing::of(MasterKeyBytes::new([9; 32]))).unwrap();
    house.rotation.begin(&by()).unwrap();
    let view = house.rotated().await;
    assert!(view.problem.unwrap().contains("does not hold the keys that the gateway was started with"));
    house.check(&world.secrets).await;
    world.file.write(&KeyRing::of(world.old.clone())).unwrap();
    house.rotation.begin(&by()).unwrap();
    assert_eq!(house.rotated().await.state, "done");
    world.check_rotated(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_file_that_comes_from_elsewhere_is_changed_there() {
    let world = World::new().await;
    let new = MasterKeyBytes::new([9; 32]);
    world.file.write(&KeyRing::of(world.old.clone()).with_new(new.clone())).unwrap();
    std::fs::create_dir(world.file.path().with_file_name("master.key.tmp")).unwrap();
    std::fs::create_dir(format!("{}.tmp", world.file.place_of_old(world.old.id()).display())).unwrap();
    let house = world.house().await;
    house.rotation.start();
    let view = house.rotated().await;
    assert_eq!((view.state.as_str(), view.resealed), ("failed", 4));
    let problem = view.problem.unwrap();
    assert!(problem.contains("Nothing in the store is under an older key any more"), "{problem}");
    assert!(world.rows_under(world.old.id()).is_empty());
    std::fs::write(world.file.path(), hex::encode(new.as_bytes())).unwrap();
    let house = world.house().await;
    house.check(&world.secrets).await;
    assert!(house.core.vault.older().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_counted_and_stops_nothing() {
    let world = World::new().await;
    let house = world.house().await;
    let mut batch = Batch::new();
    batch.put(keys::api_key(&KeyId::new("ak_damaged")), b"\x01{".to_vec());
    house.core.store.commit(batch).await.unwrap();
    house.rotation.begin(&by()).unwrap();
    let view = house.rotated().await;
    assert_eq!((view.state.as_str(), view.resealed, view.unreadable), ("done", 4, 1));
    world.check_rotated(1).await;
}
