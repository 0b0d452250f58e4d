//! The journal: frames written one after the other into segments, each synced before it counts.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::storage::files::{FileHandle, Shortage};
use crate::storage::frame::{FrameBuilder, Place, stored_bytes};
use crate::storage::reached::ReachedFile;
use crate::storage::segments::{NoSegment, SEGMENT_HEADER_BYTES, Segment, SegmentSupply};

/// Where the journal ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalEnd {
    /// Sequence of the last batch or seal, 0 when there is none.
    pub last_sequence: u64,
    /// Checksum of the last frame, 0 when there is none.
    pub last_checksum: u64,
    /// Whether the last frame is a seal.
    pub sealed: bool,
    /// When the last frame was written, if it says so.
    pub at: Option<Timestamp>,
}

/// Why a frame was not made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// There is no segment for it because something is short. Nothing was written.
    Short(Shortage),
    /// Writing or syncing failed, and whether the frame is durable is not known. The journal takes nothing more.
    Failed(String),
}

/// The journal's writing end. See `replay` for the reading end.
pub struct Journal {
    supply: SegmentSupply,
    /// The segment being written. Each opening starts a new one, when there is something to write.
    current: Option<Current>,
    segment_age_max: Duration,
    end: JournalEnd,
    reached: ReachedFile,
    failed: Option<String>,
    written_bytes: u64,
    written_frames: u64,
}

struct Current {
    handle: Box<dyn FileHandle>,
    seed: u64,
    offset: u64,
    length: u64,
    begun_at: Timestamp,
}

impl Journal {
    /// A journal that goes on after `end` and notes in `reached` how far it is.
    pub fn new(supply: SegmentSupply, end: JournalEnd, reached: ReachedFile) -> Self {
        let segment_age_max = Duration::MAX;
        Self { supply, current: None, segment_age_max, end, reached, failed: None, written_bytes: 0, written_frames: 0 }
    }

    /// The same, leaving each segment at the first frame that comes so long after its first, even if it is not full: only
    /// what is not written to any more can be retired.
    #[must_use]
    pub fn with_segment_age_max(self, segment_age_max: Duration) -> Self {
        Self { segment_age_max, ..self }
    }

    /// Most bytes that a frame can have, header and padding included.
    pub fn frame_bytes_max(&self) -> usize {
        self.supply.frame_bytes_max()
    }

    /// Where the journal ends now.
    pub fn end(&self) -> JournalEnd {
        self.end
    }

    /// Bytes written since opening.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Frames written since opening.
    pub fn written_frames(&self) -> u64 {
        self.written_frames
    }

    /// Writes the frame that was built, with the time of day `at`, and makes it durable.
    ///
    /// # Errors
    /// [`AppendError::Short`] when nothing was written; after [`AppendError::Failed`] every further append fails.
    pub fn append(&mut self, frame: &mut FrameBuilder, at: Timestamp) -> Result<(), AppendError> {
        let count = u64::from(frame.count());
        let first_sequence = self.end.last_sequence + 1;
        let (seed, offset) = self.place(frame.stored_bytes(), first_sequence, at)?;
        let (bytes, checksum) = frame.finish(Place { first_sequence, previous: self.end.last_checksum, seed }, at);
        self.write(offset, bytes)?;
        let last_sequence = self.end.last_sequence + count;
        self.end = JournalEnd { last_sequence, last_checksum: checksum, sealed: false, at: Some(at) };
        self.reached.advance(self.end.last_sequence);
        Ok(())
    }

    /// Writes the mark of a clean stop, unless the journal ends with one, and cuts off the zeros behind it.
    ///
    /// # Errors
    /// As for [`Journal::append`].
    pub fn seal(&mut self, at: Timestamp) -> Result<(), AppendError> {
        if self.end.sealed || self.end.last_sequence == 0 {
            return Ok(());
        }
        let sequence = self.end.last_sequence + 1;
        let mut frame = FrameBuilder::new();
        let (seed, offset) = self.place(stored_bytes(0), sequence, at)?;
        let (bytes, checksum) =
            frame.seal(Place { first_sequence: sequence, previous: self.end.last_checksum, seed }, at);
        self.write(offset, bytes)?;
        self.end = JournalEnd { last_sequence: sequence, last_checksum: checksum, sealed: true, at: Some(at) };
        self.reached.advance(sequence);
        if let Some(current) = self.current.take() {
            let cut = current.handle.set_length(current.offset).and_then(|()| current.handle.sync_data());
            cut.map_err(|error| self.fail(format!("cutting off a sealed journal segment: {error}")))?;
        }
        Ok(())
    }

    /// Seed and offset for a frame of this size, in the current segment or a new one.
    fn place(&mut self, frame_bytes: usize, first_sequence: u64, at: Timestamp) -> Result<(u64, u64), AppendError> {
        if let Some(reason) = &self.failed {
            return Err(AppendError::Failed(reason.clone()));
        }
        if let Some(reason) = self.supply.failure() {
            return Err(self.fail(reason));
        }
        let roomy = self.current.as_ref().filter(|current| current.offset + frame_bytes as u64 <= current.length);
        let in_current = roomy.map(|current| (current.seed, current.offset));
        let is_old = |current: &Current| at.since(current.begun_at) >= self.segment_age_max;
        if let Some(place) = in_current.filter(|_| !roomy.is_some_and(is_old)) {
            return Ok(place);
        }
        let Segment { handle, seed } = match self.supply.take(first_sequence) {
            Ok(segment) => segment,
            // An old one does for as long as there is no other.
            Err(NoSegment::Short(shortage)) => return in_current.ok_or(AppendError::Short(shortage)),
            Err(NoSegment::Failed(reason)) => return Err(self.fail(reason)),
        };
        self.reached.begin_segment(first_sequence);
        let offset = SEGMENT_HEADER_BYTES as u64;
        let length = offset + self.supply.frame_bytes_max() as u64;
        self.current = Some(Current { handle, seed, offset, length, begun_at: at });
        Ok((seed, offset))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AppendError> {
        let Some(current) = &mut self.current else {
            return Err(self.fail("there is no segment to write to".to_owned()));
        };
        let written = current.handle.write_at(offset, bytes).and_then(|()| current.handle.sync_data());
        if let Err(error) = written {
            return Err(self.fail(format!("writing the journal: {error}")));
        }
        current.offset = offset + bytes.len() as u64;
        self.written_bytes += bytes.len() as u64;
        self.written_frames += 1;
        Ok(())
    }

    fn fail(&mut self, reason: String) -> AppendError {
        AppendError::Failed(self.failed.get_or_insert(reason).clone())
    }
}
