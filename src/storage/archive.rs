//! The archive: where segments are copied that leave the journal, to be put back by hand.
//!
//! Each data directory has a sub-directory of its own there. The file `TIMELINE` has its name, 16 hexadecimal digits that are
//! drawn when the first segment is archived. A directory that is made by a restore or an import has no such file: its
//! journal has other changes under the same sequences, and gets another name. What is in the archive is never replaced.

use std::io;
use std::sync::Arc;

use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::storage::StoreError;
use crate::storage::files::{FileHandle, Files, read_all};
use crate::storage::retirement::ClosedSegment;
use crate::storage::segment_reader::SegmentReader;
use crate::storage::segments;
use crate::storage::walk::Walk;

/// The file in the data directory that has the sub-directory's name.
pub const TIMELINE: &str = "TIMELINE";

const NEXT_TIMELINE: &str = "TIMELINE.tmp";
const TIMELINE_DIGITS: usize = 16;
/// Bytes that are copied, compared or checked between two rests.
const PIECE_BYTES: usize = 1 << 20;

/// See the module.
pub struct Archive {
    files: Arc<dyn Files>,
    random: Random,
}

impl Archive {
    /// The archive in `files`; `random` draws a timeline's name.
    pub fn new(files: Arc<dyn Files>, random: Random) -> Self {
        Self { files, random }
    }

    /// Copies a segment of the journal in `source` into the archive, unless it is there already, durably. Afterwards what is
    /// there was read back and compared, and every frame of it is right. `go_on` is asked after each piece and may rest;
    /// false when it said no.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the segment is damaged or the archive has another file of its name; both stay as they
    /// are. [`StoreError::Io`].
    pub fn keep(
        &self,
        source: &dyn Files,
        segment: &ClosedSegment,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        let original = segments::path_of(segment.first);
        let timeline = self.timeline(source).map_err(|error| failed(TIMELINE, &error))?;
        let path = format!("{timeline}/{}", original.rsplit('/').next().unwrap_or(&original));
        let is_there = match self.files.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            handle => handle.map(|_| true).map_err(|error| failed(&path, &error))?,
        };
        if is_there {
            return self.check(source, segment, &path, go_on);
        }
        let temporary = format!("{path}.tmp");
        let copied = self.copy(source, &original, &timeline, &temporary, go_on).map_err(|error| failed(&path, &error));
        let checked = match copied {
            Ok(true) => self.check(source, segment, &temporary, go_on),
            other => other,
        };
        if !matches!(checked, Ok(true)) {
            // Half a copy only takes room.
            let _ = self.files.remove(&temporary);
            return checked;
        }
        let named = self.files.rename(&temporary, &path).and_then(|()| self.files.sync_directory(&timeline));
        named.map(|()| true).map_err(|error| failed(&path, &error))
    }

    /// The name of this journal's sub-directory.
    fn timeline(&self, source: &dyn Files) -> io::Result<String> {
        let known = match source.open(TIMELINE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            handle => timeline_in(&read_all(&*handle?)?),
        };
        if let Some(timeline) = known {
            return Ok(timeline);
        }
        let timeline = format!("{:016x}", self.random.draw_u64());
        let content = format!("{timeline}\n");
        let handle = source.create(NEXT_TIMELINE)?;
        handle.write_at(0, content.as_bytes())?;
        handle.sync_data()?;
        source.rename(NEXT_TIMELINE, TIMELINE)?;
        source.sync_directory("")?;
        tracing::info!(directory = timeline, "segments that leave the journal go to this directory of the archive");
        Ok(timeline)
    }

    fn copy(
        &self,
        source: &dyn Files,
        original: &str,
        timeline: &str,
        temporary: &str,
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<bool> {
        self.files.create_directory(timeline)?;
        self.files.sync_directory("")?;
        let (from, to) = (source.open(original)?, self.files.create(temporary)?);
        let mut pieces = Pieces::of(&*from);
        while let Some((offset, piece)) = pieces.next()? {
            to.write_at(offset, piece)?;
            // Piece by piece, so that the end does not have to wait for all of it.
            to.sync_data()?;
            if !go_on() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a file of the archive has the same bytes as the segment, and all frames.
    fn check(
        &self,
        source: &dyn Files,
        segment: &ClosedSegment,
        path: &str,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        let original = segments::path_of(segment.first);
        match self.is_same(source, &original, path, go_on).map_err(|error| failed(path, &error))? {
            Same::GivenUp => Ok(false),
            Same::No => Err(StoreError::Corrupt(format!(
                "the archive's file {path} has not the same bytes as {original}, and neither is touched: the file is damaged, or \
                 the data directory is a copy of another one that has the same archive. Move the file away in the first case, \
                 and remove {TIMELINE} from the data directory in the second"
            ))),
            Same::Yes => self.check_frames(segment, path, go_on),
        }
    }

    fn is_same(
        &self,
        source: &dyn Files,
        original: &str,
        path: &str,
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<Same> {
        let (from, to) = (source.open(original)?, self.files.open(path)?);
        if from.length()? != to.length()? {
            return Ok(Same::No);
        }
        let (mut expected, mut found) = (Pieces::of(&*from), Pieces::of(&*to));
        while let Some(piece) = expected.next()? {
            if found.next()? != Some(piece) {
                return Ok(Same::No);
            }
            if !go_on() {
                return Ok(Same::GivenUp);
            }
        }
        Ok(Same::Yes)
    }

    fn check_frames(
        &self,
        segment: &ClosedSegment,
        path: &str,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        let mut reader = SegmentReader::open_at(&*self.files, path, segment.first)?;
        let mut walk = Walk::new(Timestamp::from_unix_s(0));
        let (mut bytes, mut is_given_up) = (0, false);
        let walked = walk.segment(&mut reader, u64::MAX, &mut |found, _| {
            bytes += found.stored.len();
            if bytes >= PIECE_BYTES {
                bytes = 0;
                is_given_up = !go_on();
            }
            if is_given_up { Err(StoreError::Overloaded("it is being stopped")) } else { Ok(()) }
        });
        if is_given_up {
            return Ok(false);
        }
        let end = walked?;
        if walk.end.last_sequence != segment.last {
            return Err(StoreError::Corrupt(format!(
                "{} at byte {end}: there is no whole frame, though the next segment begins at sequence {}. The file stays where \
                 it is, and so do those behind it. It is not needed to open the store: move it away if no backup has it whole",
                segments::path_of(segment.first),
                segment.last + 1
            )));
        }
        Ok(true)
    }
}

enum Same {
    Yes,
    No,
    GivenUp,
}

/// A file's bytes, a piece at a time.
struct Pieces<'a> {
    handle: &'a dyn FileHandle,
    offset: u64,
    buffer: Vec<u8>,
}

impl<'a> Pieces<'a> {
    fn of(handle: &'a dyn FileHandle) -> Self {
        Self { handle, offset: 0, buffer: vec![0; PIECE_BYTES] }
    }

    /// Offset and bytes of the next piece; `None` at the end.
    fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        let offset = self.offset;
        let count = self.handle.read_at(offset, &mut self.buffer)?;
        self.offset += count as u64;
        Ok((count > 0).then(|| (offset, &self.buffer[..count])))
    }
}

fn timeline_in(bytes: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let is_name = name.len() == TIMELINE_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_name.then(|| name.to_owned())
}

fn failed(path: &str, error: &io::Error) -> StoreError {
    StoreError::Io { context: format!("archiving a journal segment, {path}"), message: error.to_string() }
}
