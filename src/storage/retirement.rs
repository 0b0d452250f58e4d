//! Which segments may leave the journal, and how: those whose every change is in the base and in what the index has
//! made durable, when they have been kept long enough or take too much room. They are deleted, or moved to an archive.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::storage::base::Base;
use crate::storage::files::{Files, read_all};
use crate::storage::frame::{self, HEADER_BYTES};
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

/// Lets the segments go that may, the oldest first. Returns how many. `durable` is the checkpoint's sequence.
///
/// # Errors
/// When something can't be read, moved or removed. What is left is whole, and is tried again the next time.
pub fn retire(
    files: &dyn Files,
    archive: Option<&Arc<dyn Files>>,
    base: &Base,
    durable: u64,
    rule: &KeepRule,
    now: Timestamp,
) -> io::Result<u64> {
    let closed = closed(files)?;
    let mut bytes: u64 = closed.iter().map(|segment| segment.bytes).sum();
    let mut retired = 0;
    for segment in closed {
        if segment.last > base.from.min(durable) {
            break;
        }
        let is_young = now.since(last_change_at(files, &segment, base)?) < rule.age;
        if is_young && bytes <= rule.bytes_max {
            break;
        }
        // A segment without a frame does not say how the one before it ended.
        if !has_frame(files, segment.last + 1)? {
            break;
        }
        let path = segments::path_of(segment.first);
        if let Some(archive) = archive {
            copy(files, &**archive, &path)?;
        }
        files.remove(&path)?;
        files.sync_directory(segments::DIRECTORY)?;
        bytes -= segment.bytes;
        retired += 1;
        tracing::info!(file = path, archived = archive.is_some(), "a segment has left the journal");
    }
    Ok(retired)
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

/// Copies a file to the same path of another tree, durably, and reads it back.
fn copy(from: &dyn Files, to: &dyn Files, path: &str) -> io::Result<()> {
    let bytes = read_all(&*from.open(path)?)?;
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    to.create_directory(directory)?;
    to.sync_directory("")?;
    let temporary = format!("{path}.tmp");
    let handle = to.create(&temporary)?;
    handle.write_at(0, &bytes)?;
    handle.set_length(bytes.len() as u64)?;
    handle.sync_data()?;
    if read_all(&*to.open(&temporary)?)? != bytes {
        return Err(io::Error::other(format!("{path} does not read back from the archive as it was written")));
    }
    to.rename(&temporary, path)?;
    to.sync_directory(directory)
}
