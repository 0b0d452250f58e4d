//! The journal's reading end: what is on disk after the process was started, whole, torn or damaged.
//!
//! A frame that is not right is a *torn tail* when it can be what a crash left of the last write: then it was never
//! acknowledged, and it is overwritten with zeros. It is *damage* when anything shows that it was durable once: a
//! valid frame behind it, a later segment (one is started only when everything before it is durable), a sequence
//! that the index or the checkpoint has already, or a seal before it. Damage is never repaired here.

use crate::storage::StoreError;
use crate::storage::files::{Files, read_all, write_zeros};
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
}

/// Reads the journal and hands over, frame by frame, the changes after [`ReplayRange::after`], with the sequence of
/// the frame's last batch. Segments that hold older changes only are not read. A torn tail is removed.
///
/// # Errors
/// [`StoreError::Corrupt`] when the journal is damaged or a part is missing, [`StoreError::Io`] when it can't be read,
/// and what `visit` returns.
pub fn replay(
    files: &dyn Files,
    range: ReplayRange,
    visit: &mut dyn FnMut(Vec<Change>, u64) -> Result<(), StoreError>,
) -> Result<JournalEnd, StoreError> {
    let all = segments::list(files).map_err(|error| io_error(segments::DIRECTORY, &error))?;
    let first_wanted = range.after + 1;
    let from = all.partition_point(|first| *first <= first_wanted).saturating_sub(1);
    if all.first().is_some_and(|first| *first > first_wanted) {
        return Err(missing(first_wanted, all[0] - 1));
    }
    let mut reader = Reader { files, range, visit, end: None };
    for (position, first) in all.iter().enumerate().skip(from) {
        reader.read_segment(*first, all.get(position + 1).copied())?;
    }
    let end = reader.end.unwrap_or_default();
    if end.last_sequence < range.durable {
        return Err(missing(end.last_sequence + 1, range.durable));
    }
    Ok(end)
}

struct Reader<'a> {
    files: &'a dyn Files,
    range: ReplayRange,
    visit: &'a mut dyn FnMut(Vec<Change>, u64) -> Result<(), StoreError>,
    /// `None` before the first frame.
    end: Option<JournalEnd>,
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
        while let Some(frame) = frame::parse(&bytes[offset..], seed) {
            check_order(&path, offset, &frame, end, is_chained)?;
            end = self.take_frame(&path, offset, &frame)?;
            is_chained = true;
            offset += frame.stored_bytes();
            if end.sealed {
                break;
            }
        }
        self.end = Some(end);
        let rest = &bytes[offset..];
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.judge_rest(&path, offset, rest, seed, end, next_segment)?;
        tracing::warn!(file = path, offset, "the end of the journal was torn by a crash and is removed");
        write_zeros(&*handle, offset as u64, bytes.len() as u64).map_err(|error| io_error(&path, &error))
    }

    fn take_frame(&mut self, path: &str, offset: usize, frame: &Frame<'_>) -> Result<JournalEnd, StoreError> {
        let last_sequence = frame.first_sequence + u64::from(frame.count) - 1;
        if frame.kind == Kind::Data && last_sequence > self.range.after {
            let changes =
                frame::decode(frame).ok_or_else(|| damaged(path, offset, "the frame's payload can't be read"))?;
            let after = self.range.after;
            (self.visit)(changes.into_iter().filter(|change| change.revision > after).collect(), last_sequence)?;
        }
        Ok(JournalEnd { last_sequence, last_checksum: frame.checksum, sealed: frame.kind == Kind::Seal })
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
            return Err(damaged(path, offset, "the frame is not right, and the index shows that it was"));
        }
        let later = (ALIGNMENT..rest.len()).step_by(ALIGNMENT).find(|at| frame::parse(&rest[*at..], seed).is_some());
        match later {
            Some(_) => Err(damaged(path, offset, "the frame is not right, and a later frame shows that it was")),
            None => Ok(()),
        }
    }
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
        "the journal is damaged: {path} at byte {offset}: {what}. Nothing was changed. Copy the data directory before \
         anything else, check the disk, and restore this file or the whole directory from a backup"
    ))
}

fn missing(first: u64, last: u64) -> StoreError {
    StoreError::Corrupt(format!(
        "a part of the journal is missing: sequences {first} to {last}, which have been stored. Nothing was changed. \
         Put the missing files of {}/ back, or restore the data directory from a backup",
        segments::DIRECTORY
    ))
}

fn io_error(path: &str, error: &std::io::Error) -> StoreError {
    StoreError::Io { context: format!("reading {path}"), message: error.to_string() }
}
