//! What bounds the store's growth, and backups, with the real keeper in place of its thread. Both take a while in life, so
//! that here others do something between any two of their steps.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tollgate::clock::Clock;
use tollgate::domain::ids::PaymentNo;
use tollgate::domain::time::Timestamp;
use tollgate::gateway::audit;
use tollgate::gateway::idempotency::IdempotencyKey;
use tollgate::random::Random;
use tollgate::storage::backup::{self, Manifest, SourceState, Until};
use tollgate::storage::engine::{EngineOptions, Parts, SegmentsBy};
use tollgate::storage::files::{FileHandle, Files};
use tollgate::storage::index::MemoryIndex;
use tollgate::storage::keeper::GrowthOptions;
use tollgate::storage::restore::{Point, restore};
use tollgate::storage::retirement::KeepRule;
use tollgate::storage::sim_files::SimFiles;
use tollgate::storage::view::View;
use tollgate::storage::{Scan, Store, StoreError, keys, retirement};

use crate::clients::key_of;
use crate::store::{SEGMENT_BYTES, SimStore};
use crate::world::{Dice, World};

/// With less than this on the disk new work is refused.
pub const LOW_SPACE_BYTES: u64 = 512 << 10;
/// Rows read at once, where all are.
const PAGE_ROWS: usize = 500;
/// States of the store that are remembered, to be restored to.
const MOMENTS_MAX: usize = 4;

/// All rows: revision and value by key.
pub type Rows = BTreeMap<Vec<u8>, (u64, Arc<[u8]>)>;

/// All rows of the store as they were after a commit.
#[derive(Clone)]
pub struct Moment {
    pub sequence: u64,
    pub rows: Rows,
}

/// So small that bases are made and segments leave within a seed.
pub fn draw_growth(dice: &Dice) -> GrowthOptions {
    let ages = [Duration::ZERO, Duration::from_secs(20), Duration::from_secs(3_600)];
    let most = [2 * SEGMENT_BYTES, 6 * SEGMENT_BYTES, u64::MAX];
    GrowthOptions {
        base_bytes: SEGMENT_BYTES * dice.between(1, 4),
        keep: KeepRule {
            age: dice.pick(&ages).copied().unwrap_or_default(),
            bytes_max: dice.pick(&most).copied().unwrap_or_default(),
        },
        low_space_bytes: LOW_SPACE_BYTES,
        ..GrowthOptions::UNBOUNDED
    }
}

pub fn all_rows(view: &View) -> Result<Rows, StoreError> {
    let mut rows = Rows::new();
    let mut scan = Scan { start: Vec::new(), end: None, limit: PAGE_ROWS, reverse: false };
    loop {
        let page = view.scan(&scan)?;
        let is_last = page.len() < PAGE_ROWS;
        if let Some(last) = page.last() {
            scan.start = [last.key.as_slice(), &[0]].concat();
        }
        rows.extend(page.into_iter().map(|row| (row.key, (row.versioned.revision, row.versioned.value))));
        if is_last {
            return Ok(rows);
        }
    }
}

/// Remembers what the store holds now.
pub fn remember(world: &World, sequence: u64, view: &View) {
    let Ok(rows) = all_rows(view) else { return };
    let mut moments = world.moments.lock();
    if moments.len() == MOMENTS_MAX {
        moments.pop_front();
    }
    moments.push_back(Moment { sequence, rows });
}

/// The keeper's thread, in virtual time.
pub async fn keep(store: Arc<SimStore>, dice: Dice) {
    let world = Arc::clone(store.world());
    let mut looks_left = dice.between(1, 4);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.step().await;
        if store.is_over() {
            return;
        }
        store.space().look();
        looks_left -= 1;
        if looks_left > 0 {
            continue;
        }
        looks_left = dice.between(1, 4);
        let before = store.base();
        let troubles = world.troubles();
        let turned = store.keeper_turn(&dice);
        if let Err(error) = turned {
            world.trace(&format!("the journal could not be shortened: {error}"));
            let may_be = world.has_disk_faults()
                || world.had_trouble_since(troubles)
                || world.is_dead()
                || store.space().is_low()
                || store.is_over();
            if !may_be && world.files.list("").is_ok() {
                world.violate(format!("the journal could not be shortened: {error}"));
            }
        }
        if let Some(base) = store.base().filter(|base| Some(base) != before.as_ref()) {
            world.count_base();
            world.trace(&format!("base from {} with {} bytes", base.from, base.bytes));
        }
    }
}

/// After everything has come to rest the journal has no more than it may.
pub fn check_journal(world: &World, store: &SimStore) {
    let Ok(closed) = retirement::closed(&world.files) else { return };
    let growth = store.growth();
    if closed.first().is_some_and(|first| first.first > 1) {
        world.count_retired();
    }
    if growth.keep.bytes_max == u64::MAX {
        return;
    }
    let base_bytes = store.base().map_or(0, |base| base.bytes);
    let bytes: u64 = closed.iter().map(|segment| segment.bytes).sum();
    let most = growth.keep.bytes_max.max(growth.base_bytes.max(base_bytes)) + 3 * SEGMENT_BYTES;
    if bytes > most {
        world.violate(format!("the journal has {bytes} bytes in closed segments and may have {most}: {growth:?}"));
    }
}

/// The audit's chain is whole, goes on from where it was known to be, and has each change that was acknowledged.
pub fn check_audit(world: &World, store: &SimStore) {
    let anchor = world.model.lock().anchor.clone();
    match audit::verify(store, anchor) {
        Ok(Ok(_)) => {}
        Ok(Err(problem)) => return world.violate(format!("the audit's chain: {problem}")),
        Err(error) => return world.violate(format!("the audit can't be read: {error}")),
    }
    let rows = store.scan(&Scan::prefix(&keys::audit(), usize::from(u16::MAX))).unwrap_or_default();
    let mut entries: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in rows {
        let Some(entry) = json_of(&row.versioned.value) else { continue };
        let text = |name: &str| entry["entry"][name].as_str().unwrap_or_default().to_owned();
        *entries.entry((text("action"), text("object"))).or_default() += 1;
    }
    let model = world.model.lock();
    let missing = model.audited.iter().find(|(change, count)| entries.get(*change).copied().unwrap_or(0) < **count);
    if let Some(missing) = missing {
        let what = format!("acknowledged changes are not in the audit: {missing:?} of {entries:?}");
        drop(model);
        world.violate(what);
    }
}

/// A record without the byte that says which form it has.
fn json_of(value: &[u8]) -> Option<Value> {
    serde_json::from_slice(value.get(1..)?).ok()
}

/// Backs the store up while it is in use, restores it beside, and looks for everything that was acknowledged.
pub async fn back_up_once(store: Arc<SimStore>, dice: Dice) {
    let world = Arc::clone(store.world());
    tokio::time::sleep(Duration::from_millis(dice.between(500, 12_000))).await;
    world.step().await;
    if store.is_over() || world.files.list("").is_err() {
        return;
    }
    let Ok(before) = store.moment() else { return };
    if before.sequence == 0 {
        return;
    }
    check_acknowledged(&world, &before.rows);
    let directory = tempfile::tempdir().unwrap();
    let (copy, restored) = (directory.path().join("backup"), directory.path().join("restored"));
    let manifest = match store.back_up(&copy, &dice) {
        Ok(manifest) => manifest,
        Err(error) => {
            world.trace("not backed up");
            if !world.has_disk_faults() && !store.is_over() && world.files.list("").is_ok() {
                world.violate(format!("it could not be backed up: {error}"));
            }
            return;
        }
    };
    world.count_backup();
    world.trace(&format!("backup of {} to {}", manifest.first_sequence, manifest.last_sequence));
    if let Err(what) = restore_and_compare(&copy, &restored, None, &before) {
        return world.violate(format!("a backup up to {} restored: {what}", before.sequence));
    }
    let range = manifest.first_sequence.max(1)..=manifest.last_sequence;
    let earlier: Vec<Moment> =
        world.moments.lock().iter().filter(|moment| range.contains(&moment.sequence)).cloned().collect();
    if let Some(moment) = dice.pick(&earlier) {
        let beside = directory.path().join("earlier");
        let until = Some(Until::Sequence(moment.sequence));
        if let Err(what) = restore_and_compare(&copy, &beside, until, moment) {
            world.violate(format!("a backup restored up to {}: {what}", moment.sequence));
        }
    }
}

/// Restores into a real directory, opens that as a second simulated disk, and compares all rows.
fn restore_and_compare(backup: &Path, directory: &Path, until: Option<Until>, moment: &Moment) -> Result<(), String> {
    let point = Point { until, ask_since: None };
    let restored = restore(backup, directory, point, Timestamp::default(), &Random::seeded(1), &mut |_| {});
    let restored = restored.map_err(|error| error.to_string())?;
    if restored.until_sequence < moment.sequence || until.is_some() && restored.until_sequence > moment.sequence {
        return Err(format!("it ends at {} in place of {}", restored.until_sequence, moment.sequence));
    }
    let files = SimFiles::new();
    take_over(directory, &files).map_err(|error| error.to_string())?;
    let rows = open_beside(files).map_err(|error| format!("it does not open: {error}"))?;
    // Without a point to end at, a backup may have more than was there when it began; what it has is never older.
    let is_exact = restored.until_sequence == moment.sequence;
    let differs = moment.rows.iter().find(|(key, (revision, value))| match rows.get(*key) {
        Some(found) if is_exact => *found != (*revision, Arc::clone(value)),
        Some((found, _)) => found < revision,
        None => is_exact,
    });
    match differs {
        Some((key, (revision, _))) => {
            Err(format!("row {} of {revision} is not as it was", String::from_utf8_lossy(key)))
        }
        None if is_exact && rows.len() != moment.rows.len() => {
            Err(format!("it has {} rows in place of {}", rows.len(), moment.rows.len()))
        }
        None => Ok(()),
    }
}

/// Without the index everything comes back from the base and the journal behind it.
pub fn check_rebuilt(world: &World) {
    let left = world.left();
    match open_beside(world.files.clone()) {
        Err(error) => world.violate(format!("the index could not be rebuilt in the end: {error}")),
        Ok(rows) => {
            let lost = left.iter().find(|(key, row)| rows.get(*key).is_none_or(|(revision, _)| *revision < row.0));
            if let Some((key, _)) = lost {
                world.violate(format!("row {} was lost when the index was rebuilt", String::from_utf8_lossy(key)));
            }
        }
    }
}

/// All rows of the store on a disk, which is opened without an index.
fn open_beside(files: SimFiles) -> Result<Rows, StoreError> {
    let options = EngineOptions { ballast_bytes: 0, growth: GrowthOptions::UNBOUNDED, ..SimStore::options() };
    let (clock, random) = (Clock::manual(Timestamp::default()), tollgate::random::Random::seeded(1));
    let parts = Parts::open(Arc::new(files), &MemoryIndex::new(), &options, random, SegmentsBy::Committer, clock)?;
    all_rows(&parts.view)
}

/// Copies a directory onto a simulated disk.
fn take_over(directory: &Path, files: &SimFiles) -> io::Result<()> {
    let mut below = vec![String::new()];
    while let Some(inner) = below.pop() {
        for entry in std::fs::read_dir(directory.join(&inner))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if inner.is_empty() { name } else { format!("{inner}/{name}") };
            if entry.file_type()?.is_dir() {
                files.create_directory(&path)?;
                below.push(path);
            } else {
                files.create(&path)?.write_at(0, &std::fs::read(entry.path())?)?;
            }
        }
    }
    Ok(())
}

/// What clients were told stands in the rows, as far as the disk had room to store it.
fn check_acknowledged(world: &World, rows: &Rows) {
    if world.has_disk_faults() {
        return;
    }
    let mut lost = Vec::new();
    {
        let model = world.model.lock();
        for sent in model.sent.iter().filter(|sent| sent.unkept.is_none()) {
            let Some(answer) = &sent.answer else { continue };
            let merchant_id = &model.shops[sent.merchant].merchant_id;
            let IdempotencyKey { fingerprint, .. } = key_of(sent);
            let row = rows.get(&keys::idempotency(merchant_id, fingerprint)).and_then(|(_, value)| json_of(value));
            if row.is_none_or(|row| row["answer"]["body"] != answer.body.as_str()) {
                lost.push(format!("the answer to {}", sent.key));
            }
        }
        for (number, payment) in &model.payments {
            let merchant_id = &model.shops[payment.merchant].merchant_id;
            if !rows.contains_key(&keys::payment(merchant_id, &PaymentNo::new(number.as_str()))) {
                lost.push(number.clone());
            }
        }
    }
    if let Some(first) = lost.first() {
        world.violate(format!("{first} was acknowledged and is not in the store"));
    }
}

/// A disk on which others write whenever a file of it is opened.
struct Shared {
    files: SimFiles,
    meanwhile: Box<dyn Fn() + Send + Sync>,
}

impl SimStore {
    /// Backs up what is committed by now, while others go on.
    fn back_up(self: &Arc<Self>, destination: &Path, dice: &Dice) -> Result<Manifest, StoreError> {
        let _hold = self.hold_journal();
        let (store, others) = (Arc::clone(self), dice.clone());
        let source = Shared {
            files: self.world().files.clone(),
            meanwhile: Box::new(move || {
                store.others_go_on(&others);
                if others.chance(20) {
                    // What goes wrong with it is seen at its own next turn.
                    let _ = store.keeper_turn(&others);
                }
            }),
        };
        let state = SourceState { committed: Some(self.health().committed), ..SourceState::default() };
        backup::write(&source, destination, state, Timestamp::default(), &mut |_| {})
    }
}

impl Files for Shared {
    fn create(&self, path: &str) -> io::Result<Box<dyn FileHandle>> {
        self.files.create(path)
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn FileHandle>> {
        (self.meanwhile)();
        self.files.open(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.files.remove(path)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.files.list(directory)
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        self.files.create_directory(directory)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.files.sync_directory(directory)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.files.free_bytes()
    }
}
