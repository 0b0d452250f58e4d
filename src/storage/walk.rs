//! Follows a journal from segment to segment and checks that each frame belongs behind the one before it.

use crate::domain::time::Timestamp;
use crate::storage::StoreError;
use crate::storage::frame::{self, Kind};
use crate::storage::journal::JournalEnd;
use crate::storage::overlay::Change;
use crate::storage::segment_reader::{FoundFrame, SegmentReader, damaged};

/// Takes the frames of a walk, each with its changes.
pub type OnFrame<'a> = &'a mut dyn FnMut(&FoundFrame<'_>, Vec<Change>) -> Result<(), StoreError>;

/// See the module.
pub(super) struct Walk {
    /// Where it is.
    pub(super) end: JournalEnd,
    /// When the last frame was made.
    pub(super) time: Timestamp,
    /// Whether there was a frame.
    pub(super) has_begun: bool,
}

impl Walk {
    /// A walk that has not begun. `time` is that of a journal without frames that tell.
    pub(super) fn new(time: Timestamp) -> Self {
        Self { end: JournalEnd::default(), time, has_begun: false }
    }

    /// Checks the frames of a segment that end at sequence `until` or before and hands them over; returns where the last of them ends.
    pub(super) fn segment(
        &mut self,
        reader: &mut SegmentReader,
        until: u64,
        on_frame: OnFrame<'_>,
    ) -> Result<u64, StoreError> {
        let (path, first) = (reader.path().to_owned(), reader.first());
        if !self.has_begun {
            self.end.last_sequence = first - 1;
        } else if self.end.last_sequence + 1 != first {
            return Err(damaged(&path, 0, "the segment does not follow the one before it"));
        }
        while let Some(found) = reader.next_frame()? {
            if found.last_sequence() > until {
                return Ok(found.offset);
            }
            let (offset, frame) = (found.offset, &found.frame);
            let is_chained = self.has_begun || first == 1;
            if frame.first_sequence != self.end.last_sequence + 1
                || (is_chained && frame.previous != self.end.last_checksum)
            {
                return Err(damaged(&path, offset, "the frame does not follow the one before it"));
            }
            let changes = match frame.kind {
                Kind::Seal => Vec::new(),
                Kind::Data => {
                    frame::decode(frame).ok_or_else(|| damaged(&path, offset, "the frame's payload can't be read"))?
                }
            };
            let sealed = frame.kind == Kind::Seal;
            let last_sequence = found.last_sequence();
            self.end = JournalEnd { last_sequence, last_checksum: frame.checksum, sealed, at: frame.at };
            self.time = frame.at.unwrap_or(self.time);
            self.has_begun = true;
            on_frame(&found, changes)?;
        }
        Ok(reader.offset())
    }
}
