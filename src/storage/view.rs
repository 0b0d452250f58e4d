//! What readers see: the overlay, and below it the index. Both hold durable data only.

use std::cmp::Ordering as KeyOrder;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::storage::files::Files;
use crate::storage::index::{Index, IndexError, Range};
use crate::storage::overlay::{Lookup, Overlay, Page};
use crate::storage::{ABSENT, Row, Scan, StoreError, Versioned};

/// Rows that one scan may return at most.
pub const SCAN_ROWS_MAX: usize = 65_536;
/// A file whose presence says that the index was found damaged while it was in use.
pub const INDEX_DAMAGED: &str = "INDEX_DAMAGED";

/// Overlay entries looked at before the index is asked; more when more rows are wanted.
const PAGE_ENTRIES_MIN: usize = 64;

/// Where a key's revision was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownRevision {
    /// The revision, [`ABSENT`] if the key is not there.
    pub revision: u64,
    /// Whether the key is absent and nothing of it is in the overlay either.
    pub absent_everywhere: bool,
}

/// Overlay and index.
pub struct View {
    overlay: Arc<Overlay>,
    index: Arc<dyn Index>,
    files: Arc<dyn Files>,
    damage_noted: AtomicBool,
}

impl View {
    /// The overlay's changes over the index.
    pub fn new(overlay: Arc<Overlay>, index: Arc<dyn Index>, files: Arc<dyn Files>) -> Self {
        Self { overlay, index, files, damage_noted: AtomicBool::new(false) }
    }

    /// The overlay.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// The index.
    pub fn index(&self) -> &Arc<dyn Index> {
        &self.index
    }

    /// What a key holds.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        loop {
            let taken_back = self.overlay.taken_back();
            match self.overlay.lookup(key) {
                Lookup::Found(versioned) => return Ok(Some(versioned)),
                Lookup::Deleted => return Ok(None),
                Lookup::Unknown => {}
            }
            // Asked after the overlay: what has left the overlay by now was in the index before.
            let found = self.index.get(key);
            if self.overlay.taken_back() == taken_back {
                return found.map_err(|error| self.note(error));
            }
        }
    }

    /// The revision of a key.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn revision(&self, key: &[u8]) -> Result<KnownRevision, StoreError> {
        loop {
            let taken_back = self.overlay.taken_back();
            if let Some(revision) = self.overlay.revision(key) {
                return Ok(KnownRevision { revision, absent_everywhere: false });
            }
            let found = self.index.get(key);
            if self.overlay.taken_back() == taken_back {
                let found = found.map_err(|error| self.note(error))?;
                return Ok(KnownRevision {
                    revision: found.as_ref().map_or(ABSENT, |versioned| versioned.revision),
                    absent_everywhere: found.is_none(),
                });
            }
        }
    }

    /// A page of rows.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a limit of 0 or above [`SCAN_ROWS_MAX`], and when the index can't be read.
    pub fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        check_scan(scan)?;
        let mut start = scan.start.clone();
        let mut end = scan.end.clone();
        let mut rows = Vec::new();
        loop {
            let wanted = scan.limit - rows.len();
            let taken_back = self.overlay.taken_back();
            let page = self.overlay.page(&start, end.as_deref(), scan.reverse, wanted.max(PAGE_ENTRIES_MIN));
            let last_key = page.entries.last().map(|(key, _)| key.clone()).filter(|_| !page.complete);
            // Of the index only what the page covers: beyond it the overlay has not been looked at.
            let (page_start, page_end) = match &last_key {
                Some(last) if scan.reverse => (last.clone(), end.clone()),
                Some(last) => (start.clone(), Some(successor(last))),
                None => (start.clone(), end.clone()),
            };
            let range = Range {
                start: &page_start,
                end: page_end.as_deref(),
                reverse: scan.reverse,
                // The page can hide or replace this many of them.
                rows_max: wanted + page.entries.len(),
            };
            let index_rows = self.index.range(range);
            if self.overlay.taken_back() != taken_back {
                continue;
            }
            let index_rows = index_rows.map_err(|error| self.note(error))?;
            merge(&mut rows, page, index_rows, scan);
            match last_key {
                Some(last) if rows.len() < scan.limit => {
                    if scan.reverse {
                        end = Some(last)
                    } else {
                        start = successor(&last)
                    }
                }
                _ => return Ok(rows),
            }
        }
    }

    /// Makes a store's error of an index's, and sees to it that a damaged index is rebuilt at the next opening.
    pub fn note(&self, error: IndexError) -> StoreError {
        if matches!(error, IndexError::Corrupt(_)) && !self.damage_noted.swap(true, Ordering::AcqRel) {
            let noted = self.files.create(INDEX_DAMAGED).and_then(|handle| {
                handle.sync_data()?;
                self.files.sync_directory("")
            });
            tracing::error!(%error, noted = noted.is_ok(), "the index is damaged and will be rebuilt at the next start");
        }
        match error {
            // An index that had no room to write in is not read either until it was reopened. That passes.
            IndexError::Short(shortage) => StoreError::Overloaded(shortage.message()),
            error => error.into(),
        }
    }
}

/// The rules of a scan.
///
/// # Errors
/// [`StoreError::Invalid`].
pub fn check_scan(scan: &Scan) -> Result<(), StoreError> {
    if scan.limit == 0 || scan.limit > SCAN_ROWS_MAX {
        return Err(StoreError::Invalid(format!("a scan returns 1 to {SCAN_ROWS_MAX} rows, not {}", scan.limit)));
    }
    Ok(())
}

/// The first key after `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// Appends the merged rows until there are enough; where both have a key, the overlay counts.
fn merge(rows: &mut Vec<Row>, page: Page, index_rows: Vec<Row>, scan: &Scan) {
    let mut entries = page.entries.into_iter().peekable();
    let mut below = index_rows.into_iter().peekable();
    while rows.len() < scan.limit {
        let order = match (entries.peek(), below.peek()) {
            (None, None) => return,
            (Some(_), None) => KeyOrder::Less,
            (None, Some(_)) => KeyOrder::Greater,
            (Some((key, _)), Some(row)) if scan.reverse => row.key.cmp(key),
            (Some((key, _)), Some(row)) => key.cmp(&row.key),
        };
        if order == KeyOrder::Greater {
            rows.extend(below.next());
            continue;
        }
        if order == KeyOrder::Equal {
            below.next();
        }
        let entry = entries.next();
        rows.extend(entry.and_then(|(key, entry)| Some(Row { versioned: entry.versioned()?, key })));
    }
}
