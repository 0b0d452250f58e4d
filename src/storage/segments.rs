//! The journal's files. A segment is filled with zeros and synced under a temporary name, renamed when its first
//! sequence is known, and never used again for anything else. A helper thread prepares the next one ahead, so that
//! commits do not wait for it.
//!
//! A segment begins with 32 bytes: `TGSEGMT1`, the format version (4), zero (4), a random seed (8) for the checksums of its
//! frames, and xxh3-64 of all that (8). The seed makes sure that bytes of another file, or a frame that somebody has
//! put into a value, are not taken for a frame of this one.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64;

use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::storage::files::{FileHandle, Files, Shortage, read_all, write_zeros};
use crate::storage::frame::{FrameBuilder, Place};
use crate::storage::space::Space;

/// The journal's directory.
pub const DIRECTORY: &str = "journal";
/// Bytes before the first frame.
pub const SEGMENT_HEADER_BYTES: usize = 32;

const SPARE: &str = "journal/next.tmp";
const EXTENSION: &str = ".seg";
const MAGIC: &[u8; 8] = b"TGSEGMT1";
const VERSION: u32 = 1;
/// How often it is looked whether a shortage is over.
const SHORT_RETRY: Duration = Duration::from_secs(1);

/// The path of the segment whose first frame has this sequence.
pub fn path_of(first_sequence: u64) -> String {
    format!("{DIRECTORY}/{first_sequence:020}{EXTENSION}")
}

/// The first sequences of all segments, in order.
///
/// # Errors
/// When the directory can't be read.
pub fn list(files: &dyn Files) -> io::Result<Vec<u64>> {
    let names = files.list(DIRECTORY)?;
    let first_sequences = names.iter().filter_map(|name| name.strip_suffix(EXTENSION)?.parse().ok());
    Ok(first_sequences.filter(|first| *first > 0).collect())
}

/// Bytes of all segments together, and how many there are.
///
/// # Errors
/// When they can't be read.
pub fn on_disk(files: &dyn Files) -> io::Result<(u64, u64)> {
    let all = list(files)?;
    let lengths = all.iter().map(|first| files.open(&path_of(*first))?.length());
    Ok((lengths.sum::<io::Result<u64>>()?, all.len() as u64))
}

/// Makes a journal of nothing but the mark of a clean stop, which takes `sequence`: for a store that begins with an export
/// of everything before it.
///
/// # Errors
/// What the operating system says.
pub fn create_sealed(files: &dyn Files, sequence: u64, at: Timestamp, random: &Random) -> io::Result<()> {
    files.create_directory(DIRECTORY)?;
    files.sync_directory("")?;
    let seed = random.draw_u64();
    let mut frame = FrameBuilder::new();
    let (bytes, _) = frame.seal(Place { first_sequence: sequence, previous: 0, seed }, at);
    let handle = files.create(SPARE)?;
    handle.write_at(0, &segment_header(seed))?;
    handle.write_at(SEGMENT_HEADER_BYTES as u64, bytes)?;
    handle.set_length((SEGMENT_HEADER_BYTES + bytes.len()) as u64)?;
    handle.sync_data()?;
    files.rename(SPARE, &path_of(sequence))?;
    files.sync_directory(DIRECTORY)
}

/// A segment that is written to.
pub struct Segment {
    /// The open file.
    pub handle: Box<dyn FileHandle>,
    /// Seed of its frames' checksums.
    pub seed: u64,
}

/// Why there is no segment to go on in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSegment {
    /// There is not enough of something; there may be later.
    Short(Shortage),
    /// Something else, as the operating system says it.
    Failed(String),
}

impl NoSegment {
    fn from_io(error: &io::Error) -> Self {
        Shortage::of(error).map_or_else(|| Self::Failed(format!("preparing a journal segment: {error}")), Self::Short)
    }
}

/// Prepares segments.
pub struct SegmentSupply {
    workshop: Arc<Workshop>,
    helper: Option<JoinHandle<()>>,
}

struct Workshop {
    files: Arc<dyn Files>,
    space: Arc<Space>,
    random: Random,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    spare: Spare,
    stopping: bool,
}

enum Spare {
    /// To be prepared.
    Wanted,
    /// Prepared under the temporary name.
    Ready(Segment),
    /// Handed out, but the temporary name is still its name: no other may be prepared.
    Naming,
    /// Could not be prepared.
    Unavailable(NoSegment),
}

impl SegmentSupply {
    /// A supply that prepares each segment when it is asked for, without a thread.
    pub fn inline(files: Arc<dyn Files>, space: Arc<Space>, random: Random, segment_bytes: u64) -> Self {
        let state = Mutex::new(State { spare: Spare::Wanted, stopping: false });
        let workshop = Arc::new(Workshop { files, space, random, segment_bytes, state, changed: Condvar::new() });
        Self { workshop, helper: None }
    }

    /// A supply with a thread that has the next segment ready.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn threaded(files: Arc<dyn Files>, space: Arc<Space>, random: Random, segment_bytes: u64) -> io::Result<Self> {
        let mut supply = Self::inline(files, space, random, segment_bytes);
        let workshop = Arc::clone(&supply.workshop);
        let builder = std::thread::Builder::new().name("tollgate-segment".to_owned());
        supply.helper = Some(builder.spawn(move || workshop.run())?);
        Ok(supply)
    }

    /// Bytes that a segment has for frames.
    pub fn frame_bytes_max(&self) -> usize {
        frame_bytes_max(self.workshop.segment_bytes)
    }

    /// Why the segment prepared ahead could not be made, unless that is a shortage that may pass.
    pub fn failure(&self) -> Option<String> {
        match &self.workshop.state.lock().spare {
            Spare::Unavailable(NoSegment::Failed(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// A segment under its final, durable name. Waits for the helper while that is preparing it.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn take(&self, first_sequence: u64) -> Result<Segment, NoSegment> {
        let segment = match &self.helper {
            Some(helper) => self.workshop.wait_for_spare(helper)?,
            None => self.workshop.prepare()?,
        };
        let files = &self.workshop.files;
        let named = files.rename(SPARE, &path_of(first_sequence)).and_then(|()| files.sync_directory(DIRECTORY));
        // The name may be durable or not, so there is no going on, not even when the disk is only full.
        named.map_err(|error| NoSegment::Failed(format!("naming a journal segment: {error}")))?;
        self.workshop.state.lock().spare = Spare::Wanted;
        self.workshop.changed.notify_all();
        Ok(segment)
    }
}

impl Drop for SegmentSupply {
    fn drop(&mut self) {
        self.workshop.state.lock().stopping = true;
        self.workshop.changed.notify_all();
        if let Some(helper) = self.helper.take() {
            let _ = helper.join();
        }
    }
}

impl Workshop {
    /// The helper's life: has a spare ready, and while something is short looks whether it still is.
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.stopping {
            let is_wanted = match &state.spare {
                Spare::Wanted => true,
                Spare::Unavailable(NoSegment::Short(_)) => {
                    self.changed.wait_for(&mut state, SHORT_RETRY);
                    true
                }
                Spare::Ready(_) if self.space.is_full() => {
                    self.changed.wait_for(&mut state, SHORT_RETRY);
                    if !state.stopping {
                        MutexGuard::unlocked(&mut state, || self.space.restore());
                    }
                    false
                }
                Spare::Ready(_) => {
                    self.changed.wait_for(&mut state, SHORT_RETRY);
                    false
                }
                Spare::Naming | Spare::Unavailable(NoSegment::Failed(_)) => {
                    self.changed.wait(&mut state);
                    false
                }
            };
            if is_wanted && !state.stopping {
                let prepared = MutexGuard::unlocked(&mut state, || self.prepare());
                state.spare = prepared.map_or_else(Spare::Unavailable, Spare::Ready);
                self.changed.notify_all();
            }
        }
    }

    fn wait_for_spare(&self, helper: &JoinHandle<()>) -> Result<Segment, NoSegment> {
        let mut state = self.state.lock();
        loop {
            match std::mem::replace(&mut state.spare, Spare::Naming) {
                Spare::Ready(segment) => return Ok(segment),
                Spare::Unavailable(reason) => {
                    state.spare = Spare::Unavailable(reason.clone());
                    return Err(reason);
                }
                waiting => state.spare = waiting,
            }
            if helper.is_finished() {
                return Err(NoSegment::Failed("the thread that prepares journal segments has ended".to_owned()));
            }
            self.changed.wait_for(&mut state, SHORT_RETRY);
        }
    }

    /// Prepares a segment under the temporary name, on a full disk at the ballast's expense.
    fn prepare(&self) -> Result<Segment, NoSegment> {
        let prepared = match self.try_prepare() {
            Err(error) if Shortage::of(&error) == Some(Shortage::Space) && self.space.give_up() => self.try_prepare(),
            prepared => prepared,
        };
        prepared.map_err(|error| NoSegment::from_io(&error))
    }

    fn try_prepare(&self) -> io::Result<Segment> {
        if let Some(segment) = self.left_over() {
            return Ok(segment);
        }
        let made = self.make();
        if made.is_err() {
            // What was allocated so far would only be missing elsewhere.
            let _ = self.files.remove(SPARE);
        }
        made
    }

    fn make(&self) -> io::Result<Segment> {
        // Without a look beforehand a full disk would be written to its last byte at every try.
        if self.files.free_bytes().is_ok_and(|bytes| bytes < self.segment_bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let handle = self.files.create(SPARE)?;
        handle.set_length(0)?;
        let seed = self.random.draw_u64();
        handle.write_at(0, &segment_header(seed))?;
        write_zeros(&*handle, SEGMENT_HEADER_BYTES as u64, self.segment_bytes)?;
        handle.sync_data()?;
        Ok(Segment { handle, seed })
    }

    /// A spare that an earlier process prepared and did not use. It is looked through, because that process may have
    /// been interrupted, and synced, because nobody knows whether it was.
    fn left_over(&self) -> Option<Segment> {
        let handle = self.files.open(SPARE).ok()?;
        if handle.length().ok()? != self.segment_bytes {
            return None;
        }
        let bytes = read_all(&*handle).ok()?;
        let seed = read_segment_header(&bytes)?;
        if bytes[SEGMENT_HEADER_BYTES..].iter().any(|byte| *byte != 0) {
            return None;
        }
        handle.sync_data().ok()?;
        Some(Segment { handle, seed })
    }
}

/// Bytes that a segment of this size has for frames.
pub fn frame_bytes_max(segment_bytes: u64) -> usize {
    usize::try_from(segment_bytes).unwrap_or(usize::MAX).saturating_sub(SEGMENT_HEADER_BYTES)
}

fn segment_header(seed: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&seed.to_le_bytes());
    let checksum = xxh3_64(&header[..24]);
    header[24..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// The seed of a segment, or `None` when its header is damaged or of another version.
pub fn read_segment_header(bytes: &[u8]) -> Option<u64> {
    let seed = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    (bytes.get(..SEGMENT_HEADER_BYTES)? == segment_header(seed)).then_some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim_files::SimFiles;

    fn disk() -> (SimFiles, Arc<dyn Files>) {
        let files = SimFiles::new();
        files.create_directory(DIRECTORY).unwrap();
        files.sync_directory("").unwrap();
        (files.clone(), Arc::new(files))
    }

    #[test]
    fn a_segment_that_was_taken_survives_a_crash() {
        for seed in 0..20 {
            let (disk, files) = disk();
            let space = Arc::new(Space::open(Arc::clone(&files), 0));
            let supply = SegmentSupply::threaded(files, space, Random::seeded(seed), 4096).unwrap();
            let taken = supply.take(17).unwrap();
            disk.crash(&Random::seeded(seed));
            assert_eq!(list(&disk).unwrap(), [17]);
            let bytes = read_all(&*disk.open(&path_of(17)).unwrap()).unwrap();
            assert_eq!(bytes.len(), 4096);
            assert_eq!(read_segment_header(&bytes), Some(taken.seed));
        }
    }

    #[test]
    fn segments_taken_one_after_the_other_are_different_files() {
        let (disk, files) = disk();
        let space = Arc::new(Space::open(Arc::clone(&files), 0));
        let supply = SegmentSupply::threaded(files, space, Random::seeded(1), 4096).unwrap();
        for first in 1..=20_u64 {
            let segment = supply.take(first).unwrap();
            segment.handle.write_at(100, &first.to_le_bytes()).unwrap();
        }
        for first in 1..=20_u64 {
            let bytes = read_all(&*disk.open(&path_of(first)).unwrap()).unwrap();
            assert_eq!(bytes[100..108], first.to_le_bytes());
        }
    }

    #[test]
    fn a_spare_that_was_left_is_used_only_when_it_is_whole() {
        let (disk, files) = disk();
        let space = Arc::new(Space::open(Arc::clone(&files), 0));
        let supply = SegmentSupply::inline(files, space, Random::seeded(1), 4096);
        let workshop = &supply.workshop;
        let first = workshop.prepare().unwrap().seed;
        assert_eq!(workshop.prepare().unwrap().seed, first);
        disk.flip_bit(SPARE, 3000, 1).unwrap();
        let second = workshop.prepare().unwrap().seed;
        assert_ne!(second, first);
        let bytes = read_all(&*disk.open(SPARE).unwrap()).unwrap();
        assert!(bytes[SEGMENT_HEADER_BYTES..].iter().all(|byte| *byte == 0));
        disk.flip_bit(SPARE, 17, 1).unwrap();
        assert_ne!(workshop.prepare().unwrap().seed, second);
    }

    #[test]
    fn a_full_disk_costs_the_ballast_first_and_then_the_segment() {
        let (disk, files) = disk();
        let space = Arc::new(Space::open(Arc::clone(&files), 4096));
        disk.set_space_bytes(Some(5000));
        let supply = SegmentSupply::inline(files, Arc::clone(&space), Random::seeded(1), 4096);
        assert!(supply.take(1).is_ok());
        assert!(space.is_full());
        assert_eq!(supply.take(2).err(), Some(NoSegment::Short(Shortage::Space)));
        assert_eq!(disk.used_bytes(), 4096, "what could not be completed is gone");
        disk.set_space_bytes(None);
        assert!(supply.take(2).is_ok());
    }

    #[test]
    fn another_failure_is_told() {
        let (disk, files) = disk();
        let space = Arc::new(Space::open(Arc::clone(&files), 0));
        let supply = SegmentSupply::inline(files, space, Random::seeded(1), 4096);
        disk.fail_sync_after(0);
        assert!(matches!(supply.take(1).err(), Some(NoSegment::Failed(_))));
    }
}
