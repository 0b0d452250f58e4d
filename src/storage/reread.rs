//! A part of the journal read again while it is written to, for an index that was reopened and has lost it.
//!
//! All that is asked for was durable long ago, so nothing is judged or repaired here, and what stands behind it is not
//! looked at: the committer may be writing there.

use std::collections::BTreeMap;

use crate::storage::files::{Files, read_all};
use crate::storage::frame;
use crate::storage::index::IndexError;
use crate::storage::overlay::Entry;
use crate::storage::segments::{self, SEGMENT_HEADER_BYTES};

/// The newest changes of all keys that were changed after sequence `after`, up to and including `until`, which must be
/// the end of a frame.
///
/// # Errors
/// When the journal can't be read now, or does not have all of it.
pub fn reread(files: &dyn Files, after: u64, until: u64) -> Result<BTreeMap<Vec<u8>, Entry>, IndexError> {
    let all = segments::list(files).map_err(|error| IndexError::from_io(&error))?;
    let from = all.partition_point(|first| *first <= after + 1).saturating_sub(1);
    let mut rows = BTreeMap::new();
    let mut reached = after;
    for first in &all[from..] {
        if reached >= until {
            break;
        }
        reached = reread_segment(files, *first, (reached, until), &mut rows)?;
    }
    if reached < until {
        return Err(IndexError::Failed(format!(
            "the journal was to be read from sequence {} to {until} again and ends at {reached}",
            after + 1
        )));
    }
    Ok(rows)
}

/// Reads one segment's part of what is wanted, and returns the sequence that was reached.
fn reread_segment(
    files: &dyn Files,
    first: u64,
    (after, until): (u64, u64),
    rows: &mut BTreeMap<Vec<u8>, Entry>,
) -> Result<u64, IndexError> {
    let path = segments::path_of(first);
    let bytes = files.open(&path).and_then(|handle| read_all(&*handle)).map_err(|error| IndexError::from_io(&error))?;
    let unreadable = |offset: usize| IndexError::Failed(format!("{path} can't be read again from byte {offset} on"));
    let seed = segments::read_segment_header(&bytes).ok_or_else(|| unreadable(0))?;
    let mut reached = after;
    let mut offset = SEGMENT_HEADER_BYTES;
    while reached < until
        && let Some(found) = frame::parse(&bytes[offset..], seed)
    {
        if found.first_sequence > reached + 1 {
            return Err(unreadable(offset));
        }
        let last_sequence = found.first_sequence + u64::from(found.count) - 1;
        if last_sequence > after {
            let changes = frame::decode(&found).ok_or_else(|| unreadable(offset))?;
            rows.extend(changes.into_iter().filter(|change| change.revision > after).map(Entry::from_change));
            reached = last_sequence;
        }
        offset += found.stored_bytes();
    }
    Ok(reached)
}
