//! Which segments may leave the journal, and how: those whose every change is in the base and in what the index has
//! made durable, when they have been kept long enough or take too much room. They are deleted, and copied to an archive before if there is
//! one.

use std::io;
use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::storage::StoreError;
use crate::storage::archive::Archive;
use crate::storage::base::Base;
use crate::storage::files::Files;
use crate::storage::frame::{self, HEADER_BYTES};
use crate::storage::holds::JournalHolds;
use crate::storage::segments::{self, SEGMENT_HEADER_BYTES};

/// The least of [`KeepRule::period`].
const PERIOD_MIN: Duration = Duration::from_secs(3_600);

/// How long segments that could go are kept all the same, so that the store can be restored to a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepRule {
    /// This long after the last change in them.
    pub age: Duration,
    /// But never more than this many bytes of the journal; what could not go yet counts, too.
    pub bytes_max: u64,
}

impl KeepRule {
    /// How long a segment is written to at the most, and how old a base gets once something was committed behind it: what
    /// was deleted or erased is gone from both after two of these. Not less than an hour, so that little is written.
    pub fn period(&self) -> Duration {
        self.age.max(PERIOD_MIN)
    }
}

/// A closed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSegment {
    /// Its first sequence.
    pub first: u64,
    /// Its last.
    pub last: u64,
    /// Bytes of its file.
    pub bytes: u64,
}

/// All segments but the one that is written to, in order.
///
/// # Errors
/// When they can't be read.
pub fn closed(files: &dyn Files) -> io::Result<Vec<ClosedSegment>> {
    let all = segments::list(files)?;
    let pairs = all.windows(2);
    pairs
        .map(|pair| {
            let bytes = files.open(&segments::path_of(pair[0]))?.length()?;
            Ok(ClosedSegment { first: pair[0], last: pair[1] - 1, bytes })
        })
        .collect()
}

/// What tells which segments may go.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// The base that counts, found whole.
    pub base: &'a Base,
    /// The checkpoint's sequence.
    pub durable: u64,
    /// How long segments are kept all the same.
    pub rule: &'a KeepRule,
    /// The time of day.
    pub now: Timestamp,
}

/// Lets the segments go that may, the oldest first. Returns how many. None goes while there is a hold. `go_on` is asked now
/// and then, and once before each that goes.
///
/// # Errors
/// When something can't be read, copied or removed, or is not whole in the archive. What is left is whole, and is tried
/// again the next time.
pub fn retire(
    files: &dyn Files,
    archive: Option<&Archive>,
    holds: &JournalHolds,
    leaving: &Leaving<'_>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<u64, StoreError> {
    let closed = closed(files).map_err(|error| journal_error(&error))?;
    let mut bytes: u64 = closed.iter().map(|segment| segment.bytes).sum();
    let mut retired = 0;
    for segment in closed {
        if !may_go(files, leaving, &segment, bytes).map_err(|error| journal_error(&error))? || holds.is_held() {
            break;
        }
        if let Some(archive) = archive
            && !archive.keep(files, &segment, go_on)?
        {
            break;
        }
        // The archive may have kept it waiting for long.
        if !go_on() {
            break;
        }
        let path = segments::path_of(segment.first);
        let Some(removed) = holds.unless_held(|| files.remove(&path)) else { break };
        let removed = removed.and_then(|()| files.sync_directory(segments::DIRECTORY));
        removed.map_err(|error| journal_error(&error))?;
        bytes -= segment.bytes;
        retired += 1;
        tracing::info!(file = path, archived = archive.is_some(), "a segment has left the journal");
    }
    Ok(retired)
}

/// Whether the oldest closed segment may go, when all closed ones together have so many bytes.
fn may_go(files: &dyn Files, leaving: &Leaving<'_>, segment: &ClosedSegment, bytes: u64) -> io::Result<bool> {
    let Leaving { base, durable, rule, now } = leaving;
    if segment.last > base.from.min(*durable) {
        return Ok(false);
    }
    let is_young = now.since(last_change_at(files, segment, base)?) < rule.age;
    if is_young && bytes <= rule.bytes_max {
        return Ok(false);
    }
    // A segment without a frame does not say how the one before it ended.
    has_frame(files, segment.last + 1)
}

/// When the first change of a segment was made, if it says so.
///
/// # Errors
/// When it can't be read.
pub fn first_change_at(files: &dyn Files, segment: &ClosedSegment) -> io::Result<Option<Timestamp>> {
    first_frame_at(files, segment.first)
}

/// Whether a frame has been begun in a segment.
fn has_frame(files: &dyn Files, first: u64) -> io::Result<bool> {
    let mut header = [0; HEADER_BYTES];
    let count = files.open(&segments::path_of(first))?.read_at(SEGMENT_HEADER_BYTES as u64, &mut header)?;
    Ok(header[..count].iter().any(|byte| *byte != 0))
}

/// When the last change of a segment was made at the latest: the frame behind it says, or else the base was made later.
fn last_change_at(files: &dyn Files, segment: &ClosedSegment, base: &Base) -> io::Result<Timestamp> {
    Ok(first_frame_at(files, segment.last + 1)?.unwrap_or(base.made_at))
}

/// When the first frame of the segment that begins with this sequence was written.
fn first_frame_at(files: &dyn Files, first_sequence: u64) -> io::Result<Option<Timestamp>> {
    let handle = files.open(&segments::path_of(first_sequence))?;
    let mut header = [0; HEADER_BYTES];
    let count = handle.read_at(SEGMENT_HEADER_BYTES as u64, &mut header)?;
    Ok(frame::written_at(&header[..count]))
}

/// Says that the journal could not be shortened, and why.
pub(super) fn journal_error(error: &io::Error) -> StoreError {
    StoreError::Io { context: "shortening the journal".to_owned(), message: error.to_string() }
}
