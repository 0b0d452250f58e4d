//! The journal's reading end: what is on disk after the process was started, whole, torn or damaged.
//!
//! A frame that is not right is a *torn tail* when it can be what a crash left of the last write: then it was never
//! acknowledged, and it is cut off. It is *damage* when anything shows that it was durable once: a
//! valid frame behind it, a later segment (one is started only when everything before it is durable), a sequence
//! that the index, the checkpoint or `REACHED` has already, or a seal before it. Damage is never repaired here.
//!
//! The last frame may have been read from memory only: the process before can have been killed between writing and
//! syncing it, or after a sync that failed, which the operating system does not repeat by itself. So it is written once
//! more and synced before anybody is shown what is in it.

use std::io;

use crate::storage::StoreError;
use crate::storage::files::{FileHandle, Files, read_all};
use crate::storage::frame::{self, ALIGNMENT, Frame, Kind};
use crate::storage::journal::JournalEnd;
use crate::storage::overlay::Change;
use crate::storage::segments::{self, SEGMENT_HEADER_BYTES};

/// What to read and what is known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayRange {
    /// Changes up to this sequence are not wanted.
    pub after: u64,
    /// Sequence up to which everything is known to have been durable.
    pub durable: u64,
    /// First sequence of the last segment that is known to have been begun, 0 for none.
    pub last_segment: u64,
}

/// Reads the journal and hands over, frame by frame, the changes after [`ReplayRange::after`], with the sequence of
/// the frame's last batch. Segments that hold older changes only are not read. The last segment is made durable and
/// ends with its last frame afterwards; nothing is changed when that one or one before it is found damaged.
///
/// # Errors
/// [`StoreError::Corrupt`] when the journal is damaged or a part is missing, [`StoreError::Io`] when it can't be read,
/// and what `visit` returns.
pub fn replay(
    files: &dyn Files,
    range: ReplayRange,
    visit: &mut dyn FnMut(Vec<Change>, u64) -> Result<(), StoreError>,
) -> Result<JournalEnd, StoreError> {
    read(Reader { files, range, visit, repairs: true, end: None, torn: None })
        .map(|reader| reader.end.unwrap_or_default())
}

/// What is found in a journal that is only looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Where it ends.
    pub end: JournalEnd,
    /// The file, and where in it a torn tail begins, if there is one.
    pub torn: Option<(String, u64)>,
}

/// Reads the journal as [`replay`] does and changes nothing: a torn tail stays where it is.
///
/// # Errors
/// As for [`replay`].
pub fn look_through(
    files: &dyn Files,
    range: ReplayRange,
    visit: &mut dyn FnMut(Vec<Change>, u64) -> Result<(), StoreError>,
) -> Result<Looked, StoreError> {
    let reader = read(Reader { files, range, visit, repairs: false, end: None, torn: None })?;
    Ok(Looked { end: reader.end.unwrap_or_default(), torn: reader.torn })
}

fn read(mut reader: Reader<'_>) -> Result<Reader<'_>, StoreError> {
    let range = reader.range;
    let all = segments::list(reader.files).map_err(|error| io_error(segments::DIRECTORY, &error))?;
    let first_wanted = range.after + 1;
    let mut from = all.partition_point(|first| *first <= first_wanted).saturating_sub(1);
    if all.first().is_some_and(|first| *first > first_wanted) {
        return Err(missing(first_wanted, all[0] - 1));
    }
    if all.last().copied().unwrap_or(0) < range.last_segment {
        return Err(missing_segment(range.last_segment));
    }
    // A segment that was begun and got no frame does not say how the one before it ends, which the next frame must.
    if from > 0 && from + 1 == all.len() && !begins_with_frame(reader.files, all[from])? {
        from -= 1;
    }
    for (position, first) in all.iter().enumerate().skip(from) {
        reader.read_segment(*first, all.get(position + 1).copied())?;
    }
    let end = reader.end.unwrap_or_default();
    if end.last_sequence < range.durable {
        return Err(missing(end.last_sequence + 1, range.durable));
    }
    Ok(reader)
}

struct Reader<'a> {
    files: &'a dyn Files,
    range: ReplayRange,
    visit: &'a mut dyn FnMut(Vec<Change>, u64) -> Result<(), StoreError>,
    /// Whether a torn tail is removed and the last frame made durable.
    repairs: bool,
    /// `None` before the first frame.
    end: Option<JournalEnd>,
    torn: Option<(String, u64)>,
}

impl Reader<'_> {
    fn read_segment(&mut self, first: u64, next_segment: Option<u64>) -> Result<(), StoreError> {
        let path = segments::path_of(first);
        let handle = self.files.open(&path).map_err(|error| io_error(&path, &error))?;
        let bytes = read_all(&*handle).map_err(|error| io_error(&path, &error))?;
        let seed = segments::read_segment_header(&bytes)
            .ok_or_else(|| damaged(&path, 0, "the segment's header is not right"))?;
        // Without an earlier segment the chain begins here, at the sequence in the name.
        let expected = self.end.map_or(first, |end| end.last_sequence + 1);
        if expected < first {
            return Err(missing(expected, first - 1));
        }
        if expected > first {
            return Err(damaged(&path, 0, "the segment's name says that it begins before the one before it ends"));
        }
        let mut end = self.end.unwrap_or(JournalEnd { last_sequence: first - 1, ..JournalEnd::default() });
        let mut is_chained = self.end.is_some() || first == 1;
        let mut offset = SEGMENT_HEADER_BYTES;
        let mut frames = Vec::new();
        while let Some(frame) = frame::parse(&bytes[offset..], seed) {
            check_order(&path, offset, &frame, end, is_chained)?;
            end = end_of(&frame);
            is_chained = true;
            frames.push((offset, frame));
            offset += frame.stored_bytes();
            if end.sealed {
                break;
            }
        }
        let is_torn = bytes[offset..].iter().any(|byte| *byte != 0);
        if is_torn {
            // Only a mark in this segment ends it: a process that began after a clean stop writes to a segment of its own.
            let is_sealed = frames.last().is_some_and(|(_, frame)| frame.kind == Kind::Seal);
            let end = JournalEnd { sealed: is_sealed, ..end };
            self.judge_rest(&path, offset, &bytes[offset..], seed, end, next_segment)?;
            if self.repairs {
                tracing::warn!(file = path, offset, "the end of the journal was torn by a crash and is removed");
            }
            self.torn = Some((path.clone(), offset as u64));
        }
        if next_segment.is_none() {
            if end.last_sequence < self.range.durable {
                return Err(missing(end.last_sequence + 1, self.range.durable));
            }
            if self.repairs {
                let last_frame = frames.last().map_or(offset, |(start, _)| *start);
                make_durable(&*handle, &bytes, last_frame..offset).map_err(|error| io_error(&path, &error))?;
            }
        }
        self.end = Some(end);
        frames.iter().try_for_each(|(offset, frame)| self.show(&path, *offset, frame))
    }

    fn show(&mut self, path: &str, offset: usize, frame: &Frame<'_>) -> Result<(), StoreError> {
        let (after, last_sequence) = (self.range.after, end_of(frame).last_sequence);
        if frame.kind == Kind::Seal || last_sequence <= after {
            return Ok(());
        }
        let changes = frame::decode(frame).ok_or_else(|| damaged(path, offset, "the frame's payload can't be read"))?;
        (self.visit)(changes.into_iter().filter(|change| change.revision > after).collect(), last_sequence)
    }

    /// Whether what follows the last good frame is a torn tail; if not, the error says why.
    fn judge_rest(
        &self,
        path: &str,
        offset: usize,
        rest: &[u8],
        seed: u64,
        end: JournalEnd,
        next_segment: Option<u64>,
    ) -> Result<(), StoreError> {
        if end.sealed {
            return Err(damaged(path, offset, "there is something behind the mark of a clean stop"));
        }
        if next_segment.is_some() {
            return Err(damaged(path, offset, "the frame is not right, and a later segment shows that it was"));
        }
        if end.last_sequence < self.range.durable {
            return Err(damaged(
                path,
                offset,
                "the frame is not right, and what is known beside the journal shows that it was",
            ));
        }
        if frame::is_cut_off(rest) {
            return Err(damaged(path, offset, "the file ends before the frame does"));
        }
        let later = (ALIGNMENT..rest.len()).step_by(ALIGNMENT).find(|at| frame::parse(&rest[*at..], seed).is_some());
        match later {
            Some(_) => Err(damaged(path, offset, "the frame is not right, and a later frame shows that it was")),
            None => Ok(()),
        }
    }
}

/// Whether there is a good frame at a segment's beginning.
fn begins_with_frame(files: &dyn Files, first: u64) -> Result<bool, StoreError> {
    let path = segments::path_of(first);
    let bytes = files.open(&path).and_then(|handle| read_all(&*handle)).map_err(|error| io_error(&path, &error))?;
    let seed = segments::read_segment_header(&bytes);
    Ok(seed.is_some_and(|seed| frame::parse(&bytes[SEGMENT_HEADER_BYTES..], seed).is_some()))
}

/// Where the journal ends after a frame.
fn end_of(frame: &Frame<'_>) -> JournalEnd {
    JournalEnd {
        last_sequence: frame.first_sequence + u64::from(frame.count) - 1,
        last_checksum: frame.checksum,
        sealed: frame.kind == Kind::Seal,
        at: frame.at,
    }
}

/// Writes the last frame once more, so that the next sync can't take it for written already, and cuts off what is
/// behind it: nothing is ever added to a segment of an earlier process.
fn make_durable(handle: &dyn FileHandle, bytes: &[u8], last_frame: std::ops::Range<usize>) -> io::Result<()> {
    handle.write_at(last_frame.start as u64, &bytes[last_frame.clone()])?;
    if last_frame.end < bytes.len() {
        handle.set_length(last_frame.end as u64)?;
    }
    handle.sync_data()
}

fn check_order(
    path: &str,
    offset: usize,
    frame: &Frame<'_>,
    end: JournalEnd,
    is_chained: bool,
) -> Result<(), StoreError> {
    if frame.count == 0 || frame.first_sequence != end.last_sequence + 1 {
        return Err(damaged(path, offset, "the frame's sequence does not follow the one before it"));
    }
    if is_chained && frame.previous != end.last_checksum {
        return Err(damaged(path, offset, "the frame does not belong behind the one before it"));
    }
    Ok(())
}

fn damaged(path: &str, offset: usize, what: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "the journal is damaged: {path} at byte {offset}: {what}. The journal was not changed. Copy the data directory \
         before anything else, check the disk, and restore this file or the whole directory from a backup"
    ))
}

fn missing(first: u64, last: u64) -> StoreError {
    StoreError::Corrupt(format!(
        "a part of the journal is missing: sequences {first} to {last}, which have been stored. The journal was not \
         changed. Put the missing files of {}/ back, or restore the data directory from a backup",
        segments::DIRECTORY
    ))
}

fn missing_segment(first: u64) -> StoreError {
    StoreError::Corrupt(format!(
        "a part of the journal is missing: {}, the last file that was begun. The journal was not changed. Put the missing \
         files of {}/ back, or restore the data directory from a backup",
        segments::path_of(first),
        segments::DIRECTORY
    ))
}

fn io_error(path: &str, error: &io::Error) -> StoreError {
    StoreError::Io { context: format!("reading {path}"), message: error.to_string() }
}
