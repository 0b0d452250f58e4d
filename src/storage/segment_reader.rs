//! A segment read frame by frame, with no more of it in memory than one frame. For those who copy and check; opening
//! reads whole segments (see `replay`).

use crate::domain::time::Timestamp;
use crate::storage::StoreError;
use crate::storage::files::{FileHandle, Files};
use crate::storage::frame::{self, Frame, HEADER_BYTES};
use crate::storage::segments::{self, SEGMENT_HEADER_BYTES};

/// A segment that is being read.
pub struct SegmentReader {
    handle: Box<dyn FileHandle>,
    path: String,
    first: u64,
    header: [u8; SEGMENT_HEADER_BYTES],
    seed: u64,
    /// Where the next frame begins.
    offset: u64,
    length: u64,
    /// The frame that was read last.
    stored: Vec<u8>,
}

/// A frame whose checksum is right.
pub struct FoundFrame<'a> {
    /// Where it begins in its segment.
    pub offset: u64,
    /// As it is stored, padding included.
    pub stored: &'a [u8],
    /// What it says.
    pub frame: Frame<'a>,
}

impl FoundFrame<'_> {
    /// Sequence of its last batch, or of the seal.
    pub fn last_sequence(&self) -> u64 {
        self.frame.first_sequence.saturating_add(u64::from(self.frame.count).saturating_sub(1))
    }
}

impl SegmentReader {
    /// Opens the segment whose first frame has this sequence.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when its header is not right, [`StoreError::Io`].
    pub fn open(files: &dyn Files, first: u64) -> Result<Self, StoreError> {
        Self::open_at(files, &segments::path_of(first), first)
    }

    /// The same for a segment that is somewhere else.
    ///
    /// # Errors
    /// As for [`SegmentReader::open`].
    pub fn open_at(files: &dyn Files, path: &str, first: u64) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let mut header = [0; SEGMENT_HEADER_BYTES];
        let opened = files.open(&path).and_then(|handle| {
            let length = handle.length()?;
            handle.read_at(0, &mut header)?;
            Ok((handle, length))
        });
        let (handle, length) = opened.map_err(|error| unreadable(&path, &error))?;
        let seed = segments::read_segment_header(&header)
            .ok_or_else(|| damaged(&path, 0, "the segment's header is not right"))?;
        let offset = SEGMENT_HEADER_BYTES as u64;
        Ok(Self { handle, path, first, header, seed, offset, length, stored: Vec::new() })
    }

    /// Its path in the store's directory.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The sequence in its name.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The bytes before its first frame.
    pub fn header(&self) -> &[u8; SEGMENT_HEADER_BYTES] {
        &self.header
    }

    /// Bytes of its file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where the next frame would begin.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame; `None` where there is none, or one that is not right.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn next_frame(&mut self) -> Result<Option<FoundFrame<'_>>, StoreError> {
        let offset = self.offset;
        let mut header = [0; HEADER_BYTES];
        let count = self.handle.read_at(offset, &mut header).map_err(|error| unreadable(&self.path, &error))?;
        let announced = frame::announced_bytes(&header[..count]);
        // What is damaged may tell of any length; memory is taken for what is there only.
        let Some(bytes) = announced.filter(|bytes| *bytes as u64 <= self.length.saturating_sub(offset)) else {
            return Ok(None);
        };
        self.stored.resize(bytes, 0);
        let count = self.handle.read_at(offset, &mut self.stored).map_err(|error| unreadable(&self.path, &error))?;
        let Some(frame) = frame::parse(&self.stored[..count], self.seed) else { return Ok(None) };
        self.offset += bytes as u64;
        Ok(Some(FoundFrame { offset, stored: &self.stored, frame }))
    }
}

/// The last frame of a journal that nobody writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastFrame {
    /// Sequence of its last batch, or of the seal.
    pub sequence: u64,
    /// When it was written, if it says.
    pub at: Option<Timestamp>,
}

/// Looks for the last frame that is right; `None` in a journal without any. What comes before it is not looked at.
///
/// # Errors
/// As for [`SegmentReader::open`].
pub fn last_frame(files: &dyn Files) -> Result<Option<LastFrame>, StoreError> {
    let all = segments::list(files).map_err(|error| unreadable(segments::DIRECTORY, &error))?;
    for first in all.into_iter().rev() {
        let mut reader = SegmentReader::open(files, first)?;
        let mut last = None;
        while let Some(found) = reader.next_frame()? {
            last = Some(LastFrame { sequence: found.last_sequence(), at: found.frame.at });
        }
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

/// Says where a file is damaged.
pub(super) fn damaged(path: &str, offset: u64, what: &str) -> StoreError {
    StoreError::Corrupt(format!("{path} at byte {offset}: {what}"))
}

fn unreadable(path: &str, error: &std::io::Error) -> StoreError {
    StoreError::Io { context: path.to_owned(), message: error.to_string() }
}
