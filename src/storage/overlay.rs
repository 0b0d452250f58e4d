//! Committed changes that the index does not have yet.
//!
//! Two ordered maps: the *active* one takes commits; the *sealed* one is being moved into the index and never changes.
//! Moving starts by sealing (the maps change places) and ends by forgetting the sealed one as a whole, so neither
//! needs the lock for long. A reader looks into the active map, the sealed one and then the index, in this order:
//! what it no longer finds in the first two was in the index before it left them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::storage::Versioned;

/// What an entry is counted as beside its key and value: map nodes, pointers, allocator overhead.
pub const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// One key's change as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Vec<u8>,
    /// What it holds now; `None` when it was deleted.
    pub value: Option<Arc<[u8]>>,
    /// Sequence of the commit.
    pub revision: u64,
    /// Whether it is known that nothing older of this key is in the index or on its way there.
    pub absent_below: bool,
}

/// What the overlay holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Newest value; `None` when it was deleted.
    pub value: Option<Arc<[u8]>>,
    /// Sequence of the commit.
    pub revision: u64,
    /// See [`Change::absent_below`]. Such a key needs no tombstone when it is deleted.
    absent_below: bool,
}

impl Entry {
    /// The entry as a reader sees it; `None` for a tombstone.
    pub fn versioned(&self) -> Option<Versioned> {
        let value = self.value.clone()?;
        Some(Versioned { revision: self.revision, value })
    }

    /// A row as an entry.
    pub fn from_versioned(versioned: Versioned) -> Self {
        Self { value: Some(versioned.value), revision: versioned.revision, absent_below: false }
    }

    /// A key and what it holds after a change of which nothing is known but the change itself.
    pub fn from_change(change: Change) -> (Vec<u8>, Self) {
        let Change { key, value, revision, .. } = change;
        (key, Self { value, revision, absent_below: false })
    }
}

/// The sealed changes, in the order of their keys.
pub type Sealed = Arc<BTreeMap<Vec<u8>, Entry>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Overlay {
    maps: RwLock<Maps>,
    /// How often changes were taken back.
    taken_back: AtomicU64,
}

#[derive(Debug, Default)]
struct Maps {
    active: BTreeMap<Vec<u8>, Entry>,
    active_bytes: u64,
    /// Sequence up to which changes have been added.
    last_sequence: u64,
    sealed: Sealed,
    sealed_bytes: u64,
    /// Set while there is something sealed: the sequence that the index has when all of it was moved.
    sealed_sequence: Option<u64>,
}

/// What the overlay knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It has this value.
    Found(Versioned),
    /// It was deleted; the index does not matter.
    Deleted,
    /// Nothing; the index knows.
    Unknown,
}

/// Part of a range of the overlay.
#[derive(Debug)]
pub struct Page {
    /// Entries in the order of the scan, tombstones included.
    pub entries: Vec<(Vec<u8>, Entry)>,
    /// Whether these are all to the end of the range.
    pub complete: bool,
}

impl Overlay {
    /// An empty overlay over an index that has everything up to `applied`.
    pub fn new(applied: u64) -> Self {
        let maps = Maps { last_sequence: applied, ..Maps::default() };
        Self { maps: RwLock::new(maps), taken_back: AtomicU64::new(0) }
    }

    /// Adds changes in the order of their commits; everything up to `last_sequence` is in then.
    pub fn add(&self, changes: impl IntoIterator<Item = Change>, last_sequence: u64) {
        let mut maps = self.maps.write();
        for change in changes {
            maps.add(change);
        }
        maps.last_sequence = last_sequence;
    }

    /// What is known of a key.
    pub fn lookup(&self, key: &[u8]) -> Lookup {
        let maps = self.maps.read();
        match maps.active.get(key).or_else(|| maps.sealed.get(key)) {
            None => Lookup::Unknown,
            Some(entry) => entry.versioned().map_or(Lookup::Deleted, Lookup::Found),
        }
    }

    /// The revision of a key (0 if it was deleted), or `None` when only the index knows.
    pub fn revision(&self, key: &[u8]) -> Option<u64> {
        let maps = self.maps.read();
        let entry = maps.active.get(key).or_else(|| maps.sealed.get(key))?;
        Some(if entry.value.is_some() { entry.revision } else { 0 })
    }

    /// The first entries (the last, if `reverse`) of a range, tombstones included, at most `entries_max`.
    pub fn page(&self, start: &[u8], end: Option<&[u8]>, reverse: bool, entries_max: usize) -> Page {
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        if end.is_some_and(|end| end <= start) {
            return Page { entries: Vec::new(), complete: true };
        }
        let range = (Bound::Included(start), upper);
        let maps = self.maps.read();
        let active = maps.active.range::<[u8], _>(range);
        let sealed = maps.sealed.range::<[u8], _>(range);
        if reverse {
            merge(active.rev(), sealed.rev(), |a, b| a > b, entries_max)
        } else {
            merge(active, sealed, |a, b| a < b, entries_max)
        }
    }

    /// Bytes held, overhead included.
    pub fn bytes(&self) -> u64 {
        let maps = self.maps.read();
        maps.active_bytes + maps.sealed_bytes
    }

    /// Seals what is active, unless something is sealed already, and returns it with the sequence that the index has
    /// once it is moved. `None` when the index has everything.
    pub fn seal(&self, applied: u64) -> Option<(Sealed, u64)> {
        let mut maps = self.maps.write();
        if maps.sealed_sequence.is_none() {
            if maps.last_sequence <= applied {
                return None;
            }
            maps.sealed = Arc::new(std::mem::take(&mut maps.active));
            maps.sealed_bytes = std::mem::take(&mut maps.active_bytes);
            maps.sealed_sequence = Some(maps.last_sequence);
        }
        Some((Arc::clone(&maps.sealed), maps.sealed_sequence?))
    }

    /// Forgets what was sealed: the index has it.
    pub fn forget_sealed(&self) {
        let moved = {
            let mut maps = self.maps.write();
            maps.sealed_bytes = 0;
            maps.sealed_sequence = None;
            std::mem::take(&mut maps.sealed)
        };
        drop(moved);
    }

    /// Takes changes back that the index had, everything up to `sequence`, because it may be about to lose them. They
    /// are older than all that is held, are found behind it, and go to the index once more with what is sealed. Their
    /// bytes are not counted: nobody could be refused instead.
    pub fn take_back(&self, mut changes: BTreeMap<Vec<u8>, Entry>, sequence: u64) {
        // Only who moves the sealed changes into the index calls this, so they stay what they are meanwhile.
        let sealed = Arc::clone(&self.maps.read().sealed);
        changes.extend(sealed.iter().map(|(key, entry)| (key.clone(), entry.clone())));
        let mut maps = self.maps.write();
        maps.sealed = Arc::new(changes);
        maps.sealed_sequence.get_or_insert(sequence);
        self.taken_back.fetch_add(1, Ordering::AcqRel);
    }

    /// How often changes were taken back. Who looks here and then into the index has to look again if this has grown
    /// meanwhile.
    pub fn taken_back(&self) -> u64 {
        self.taken_back.load(Ordering::Acquire)
    }

    /// Sequence up to which changes have been added.
    pub fn last_sequence(&self) -> u64 {
        self.maps.read().last_sequence
    }
}

impl Maps {
    fn add(&mut self, change: Change) {
        let bytes = entry_bytes(&change.key, change.value.as_ref());
        let sealed = &self.sealed;
        match self.active.get_mut(&change.key) {
            Some(entry) if entry.absent_below && change.value.is_none() => {
                self.active_bytes -= entry_bytes(&change.key, entry.value.as_ref());
                self.active.remove(&change.key);
            }
            Some(entry) => {
                self.active_bytes = self.active_bytes + bytes - entry_bytes(&change.key, entry.value.as_ref());
                entry.value = change.value;
                entry.revision = change.revision;
            }
            None => {
                let absent_below = change.absent_below && !sealed.contains_key(&change.key);
                self.active_bytes += bytes;
                let entry = Entry { value: change.value, revision: change.revision, absent_below };
                self.active.insert(change.key, entry);
            }
        }
    }
}

fn entry_bytes(key: &[u8], value: Option<&Arc<[u8]>>) -> u64 {
    ENTRY_OVERHEAD_BYTES + key.len() as u64 + value.map_or(0, |value| value.len() as u64)
}

/// Merges two ordered runs; where both have a key, the first wins.
fn merge<'a>(
    newer: impl Iterator<Item = (&'a Vec<u8>, &'a Entry)>,
    older: impl Iterator<Item = (&'a Vec<u8>, &'a Entry)>,
    before: impl Fn(&[u8], &[u8]) -> bool,
    entries_max: usize,
) -> Page {
    let (mut newer, mut older) = (newer.peekable(), older.peekable());
    let mut entries = Vec::new();
    while entries.len() < entries_max {
        let take_older = match (newer.peek(), older.peek()) {
            (None, None) => return Page { entries, complete: true },
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some((new_key, _)), Some((old_key, _))) => {
                if new_key == old_key {
                    older.next();
                    false
                } else {
                    before(old_key, new_key)
                }
            }
        };
        let next = if take_older { older.next() } else { newer.next() };
        entries.extend(next.map(|(key, entry)| (key.clone(), entry.clone())));
    }
    let complete = newer.peek().is_none() && older.peek().is_none();
    Page { entries, complete }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, revision: u64, absent_below: bool) -> Change {
        Change { key: key.into(), value: Some(Arc::from(key.as_bytes())), revision, absent_below }
    }

    fn delete(key: &str, revision: u64) -> Change {
        Change { key: key.into(), value: None, revision, absent_below: false }
    }

    fn keys(page: &Page) -> Vec<&str> {
        page.entries.iter().map(|(key, _)| std::str::from_utf8(key).unwrap()).collect()
    }

    #[test]
    fn a_key_known_to_be_new_leaves_nothing_when_it_is_deleted() {
        let overlay = Overlay::new(0);
        overlay.add([put("new", 1, true), put("old", 1, false)], 1);
        overlay.add([put("new", 2, false), delete("new", 3), delete("old", 3)], 3);
        assert_eq!(overlay.lookup(b"new"), Lookup::Unknown);
        assert_eq!(overlay.lookup(b"old"), Lookup::Deleted);
        assert_eq!(overlay.bytes(), ENTRY_OVERHEAD_BYTES + 3);
        let (sealed, sequence) = overlay.seal(0).unwrap();
        assert_eq!((sealed.len(), sequence), (1, 3));
    }

    #[test]
    fn a_tombstone_stays_when_the_key_may_be_below() {
        let overlay = Overlay::new(0);
        overlay.add([put("a", 1, true)], 1);
        overlay.seal(0).unwrap();
        // It is on its way to the index, so deleting it has to reach the index as well, whatever is claimed.
        overlay.add([delete("a", 2), put("b", 2, true)], 2);
        assert_eq!(overlay.lookup(b"a"), Lookup::Deleted);
        overlay.add([put("a", 3, true), delete("a", 4)], 4);
        assert_eq!(overlay.lookup(b"a"), Lookup::Deleted);
        overlay.forget_sealed();
        assert_eq!(overlay.lookup(b"a"), Lookup::Deleted);
        assert_eq!(overlay.seal(1).unwrap().0.len(), 2);
    }

    #[test]
    fn a_put_over_a_sealed_entry_is_never_taken_for_new() {
        let overlay = Overlay::new(0);
        overlay.add([put("a", 1, false)], 1);
        overlay.seal(0).unwrap();
        overlay.add([put("a", 2, true), delete("a", 3)], 3);
        assert_eq!(overlay.lookup(b"a"), Lookup::Deleted);
        assert!(overlay.seal(0).unwrap().0.contains_key(b"a".as_slice()), "sealing again returns the same");
    }

    #[test]
    fn sealing_with_nothing_left_still_moves_the_sequence() {
        let overlay = Overlay::new(4);
        assert!(overlay.seal(4).is_none());
        overlay.add([put("a", 5, true), delete("a", 6)], 6);
        let (sealed, sequence) = overlay.seal(4).unwrap();
        assert!(sealed.is_empty());
        assert_eq!((sequence, overlay.bytes()), (6, 0));
        overlay.forget_sealed();
        assert!(overlay.seal(6).is_none());
    }

    #[test]
    fn what_is_taken_back_is_behind_everything_and_goes_again() {
        let overlay = Overlay::new(0);
        overlay.add([put("a", 1, false), put("b", 1, false), put("c", 1, false), put("d", 1, false)], 1);
        overlay.seal(0).unwrap();
        overlay.forget_sealed();
        overlay.add([delete("b", 2), put("e", 2, true)], 2);
        overlay.seal(1).unwrap();
        overlay.add([put("c", 3, false), delete("d", 3)], 3);
        let bytes = overlay.bytes();
        let lost = ["a", "b", "c", "d"].map(|key| Entry::from_change(put(key, 1, false)));
        overlay.take_back(BTreeMap::from(lost), 1);
        assert_eq!((overlay.bytes(), overlay.taken_back()), (bytes, 1));
        assert_eq!(keys(&overlay.page(b"", None, false, 10)), ["a", "b", "c", "d", "e"]);
        assert_eq!(
            (overlay.revision(b"a"), overlay.revision(b"b"), overlay.revision(b"c")),
            (Some(1), Some(0), Some(3))
        );
        let (sealed, sequence) = overlay.seal(0).unwrap();
        assert_eq!((sealed.len(), sequence), (5, 2));
        assert!(sealed[b"b".as_slice()].value.is_none());
        overlay.forget_sealed();
        assert_eq!(overlay.lookup(b"a"), Lookup::Unknown);
        assert_eq!(overlay.lookup(b"d"), Lookup::Deleted);
    }

    #[test]
    fn taking_back_with_nothing_sealed_seals() {
        let overlay = Overlay::new(7);
        overlay.take_back(BTreeMap::from([Entry::from_change(put("a", 6, false))]), 7);
        assert_eq!(overlay.seal(5).unwrap().1, 7);
    }

    #[test]
    fn pages_merge_both_maps_in_both_directions() {
        let overlay = Overlay::new(0);
        overlay.add([put("a", 1, false), put("c", 1, false), put("e", 1, false)], 1);
        overlay.seal(0).unwrap();
        overlay.add([put("b", 2, false), delete("c", 2), put("f", 2, false)], 2);
        let page = overlay.page(b"a", Some(b"f"), false, 10);
        assert_eq!(keys(&page), ["a", "b", "c", "e"]);
        assert!(page.complete);
        assert!(page.entries[2].1.value.is_none(), "the newer entry wins");
        let page = overlay.page(b"b", None, true, 3);
        assert_eq!(keys(&page), ["f", "e", "c"]);
        assert!(!page.complete);
        assert_eq!(keys(&overlay.page(b"b", None, true, 4)), ["f", "e", "c", "b"]);
        assert!(overlay.page(b"z", Some(b"a"), false, 3).complete);
    }

    #[test]
    fn bytes_follow_every_change() {
        let overlay = Overlay::new(0);
        overlay.add([put("abc", 1, false)], 1);
        assert_eq!(overlay.bytes(), ENTRY_OVERHEAD_BYTES + 6);
        overlay.add([delete("abc", 2)], 2);
        assert_eq!(overlay.bytes(), ENTRY_OVERHEAD_BYTES + 3);
        overlay.seal(0).unwrap();
        overlay.add([put("x", 3, false)], 3);
        assert_eq!(overlay.bytes(), 2 * ENTRY_OVERHEAD_BYTES + 5);
        overlay.forget_sealed();
        assert_eq!(overlay.bytes(), ENTRY_OVERHEAD_BYTES + 2);
    }
}
