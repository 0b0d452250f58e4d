//! How far the journal is known to reach. A journal says by itself where it ends, except when its end was taken away
//! cleanly: the last segment removed, or cut off between two frames. The file `REACHED` says up to which sequence everything was
//! made durable, and which segment was begun last; a journal that has less has lost something.
//!
//! It is written after each frame that was synced, but synced itself only when a segment is begun: that costs a commit next to nothing. What it says
//! is true however old it is, so that it does no harm when a power cut leaves an old one. A process that is killed
//! leaves the newest. Nothing depends on it being there: where it can't be written, less is noticed.
//!
//! Two slots of 32 bytes, in sectors of their own, are written in turns, so that one of them is always whole: `TGREACH1`, the
//! sequence (8), the first sequence of the segment (8), xxh3-64 of these (8).

use std::io;

use xxhash_rust::xxh3::xxh3_64;

use crate::storage::StoreError;
use crate::storage::files::{FileHandle, Files, read_all};

/// The file's name.
pub const REACHED: &str = "REACHED";

const MAGIC: &[u8; 8] = b"TGREACH1";
const SLOT_BYTES: usize = 32;
/// Where the slots are: as far from each other as the largest sectors are long.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];

/// How far a journal reaches at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Sequence up to which everything was made durable.
    pub durable: u64,
    /// First sequence of the segment that was begun last, 0 for none. It may have no frame.
    pub segment: u64,
}

/// Reads what is known; nothing is when the file is missing or damaged.
///
/// # Errors
/// When it is there and can't be read.
pub fn read(files: &dyn Files) -> io::Result<Reached> {
    let handle = match files.open(REACHED) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Reached::default()),
        handle => handle?,
    };
    let slots = slots_of(&read_all(&*handle)?);
    let newest = slots.into_iter().flatten().max_by_key(order);
    if newest.is_none() {
        tracing::warn!(
            file = REACHED,
            "the file is damaged: whether the journal's end is missing can't be told from it"
        );
    }
    Ok(newest.unwrap_or_default())
}

/// Looks for damage. A slot is whole, or was never written.
///
/// # Errors
/// [`StoreError::Corrupt`] when something else is there, [`StoreError::Io`] when it can't be read.
pub fn check(files: &dyn Files) -> Result<(), StoreError> {
    let read = match files.open(REACHED) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        handle => handle.and_then(|handle| read_all(&*handle)),
    };
    let bytes =
        read.map_err(|error| StoreError::Io { context: format!("reading {REACHED}"), message: error.to_string() })?;
    let slots = slots_of(&bytes);
    for (slot, offset) in slots.iter().zip(SLOT_OFFSETS) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let written = &bytes[start..bytes.len().min(start + SLOT_BYTES)];
        let is_unwritten = written.iter().all(|byte| *byte == 0);
        if slot.is_none() && !is_unwritten || slots == [None, None] {
            return Err(StoreError::Corrupt(format!(
                "{REACHED} at byte {offset}: it is damaged, so that a journal whose end was taken away might look whole. The \
                 next start writes it anew from the journal as it is: compare its end with what you know, such as the audit's"
            )));
        }
    }
    Ok(())
}

/// Writes it down.
pub struct ReachedFile {
    /// `None` when it can't be written.
    handle: Option<Box<dyn FileHandle>>,
    /// Which slot is written next.
    next_slot: usize,
    reached: Reached,
}

impl ReachedFile {
    /// Begins with `reached`, and makes that durable. The file is made if there is none.
    pub fn open(files: &dyn Files, reached: Reached) -> Self {
        let mut file = Self { handle: None, next_slot: 0, reached };
        if let Err(error) = file.begin(files) {
            file.give_up(&error);
        }
        file
    }

    /// Notes that everything up to `durable` is.
    pub fn advance(&mut self, durable: u64) {
        self.reached.durable = durable;
        if let Err(error) = self.write() {
            self.give_up(&error);
        }
    }

    /// Notes durably that a segment was begun, whose name must be durable already.
    pub fn begin_segment(&mut self, first_sequence: u64) {
        self.reached.segment = first_sequence;
        if let Err(error) = self.write().and_then(|()| self.sync()) {
            self.give_up(&error);
        }
    }

    fn begin(&mut self, files: &dyn Files) -> io::Result<()> {
        let (handle, is_new) = match files.open(REACHED) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (files.create(REACHED)?, true),
            handle => (handle?, false),
        };
        let [first, second] = slots_of(&read_all(&*handle)?).map(|slot| slot.as_ref().map(order));
        // The older one goes first; nothing is older than a damaged one.
        self.next_slot = usize::from(second < first);
        self.handle = Some(handle);
        self.write()?;
        self.sync()?;
        if is_new { files.sync_directory("") } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(handle) = &self.handle else { return Ok(()) };
        handle.write_at(SLOT_OFFSETS[self.next_slot], &encode(self.reached))?;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.as_ref().map_or(Ok(()), |handle| handle.sync_data())
    }

    /// What was noted stays true; only nothing more is noted.
    fn give_up(&mut self, error: &io::Error) {
        self.handle = None;
        tracing::warn!(
            file = REACHED,
            %error,
            "the file can't be written: until the next start nothing says whether the journal's end is missing"
        );
    }
}

fn order(reached: &Reached) -> (u64, u64) {
    (reached.durable, reached.segment)
}

fn slots_of(bytes: &[u8]) -> [Option<Reached>; 2] {
    SLOT_OFFSETS.map(|offset| {
        let offset = usize::try_from(offset).ok()?;
        let slot = bytes.get(offset..offset + SLOT_BYTES)?;
        let field = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
        let reached = Reached { durable: field(8)?, segment: field(16)? };
        (encode(reached) == *slot).then_some(reached)
    })
}

fn encode(reached: Reached) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&reached.durable.to_le_bytes());
    bytes[16..24].copy_from_slice(&reached.segment.to_le_bytes());
    let checksum = xxh3_64(&bytes[..24]);
    bytes[24..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::storage::sim_files::SimFiles;

    fn at(durable: u64, segment: u64) -> Reached {
        Reached { durable, segment }
    }

    #[test]
    fn a_killed_process_leaves_the_newest_and_a_power_cut_at_least_what_was_synced() {
        for seed in 0..50 {
            let files = SimFiles::new();
            assert_eq!(read(&files).unwrap(), Reached::default());
            let mut file = ReachedFile::open(&files, at(4, 1));
            file.begin_segment(5);
            for durable in 5..9 {
                file.advance(durable);
                files.kill();
                assert_eq!(read(&files).unwrap(), at(durable, 5));
                file = ReachedFile::open(&files, at(durable, 5));
            }
            file.begin_segment(9);
            file.advance(9);
            file.advance(10);
            files.crash(&Random::seeded(seed));
            let reached = read(&files).unwrap();
            assert_eq!(reached.segment, 9, "seed {seed}");
            assert!((8..=10).contains(&reached.durable), "seed {seed}: {reached:?}");
        }
    }

    #[test]
    fn a_damaged_slot_leaves_the_other_and_two_leave_nothing() {
        let files = SimFiles::new();
        let mut file = ReachedFile::open(&files, at(1, 1));
        file.advance(2);
        file.advance(3);
        check(&files).unwrap();
        files.flip_bit(REACHED, 9, 0).unwrap();
        assert_eq!(read(&files).unwrap(), at(2, 1));
        assert!(check(&files).unwrap_err().to_string().contains("REACHED at byte"), "one is enough to be told");
        // The damaged one is the next to be written.
        let mut file = ReachedFile::open(&files, at(3, 1));
        assert_eq!(read(&files).unwrap(), at(3, 1));
        file.advance(4);
        files.flip_bit(REACHED, 3, 0).unwrap();
        files.flip_bit(REACHED, 4096 + 25, 0).unwrap();
        assert_eq!(read(&files).unwrap(), Reached::default());
        assert!(check(&files).is_err());
        drop(ReachedFile::open(&files, at(4, 1)));
        assert_eq!(read(&files).unwrap(), at(4, 1));
        let empty = SimFiles::new();
        check(&empty).unwrap();
        drop(empty.create(REACHED).unwrap());
        assert!(check(&empty).is_err(), "emptied");
        let new = SimFiles::new();
        drop(ReachedFile::open(&new, at(1, 1)));
        check(&new).unwrap();
    }

    #[test]
    fn a_disk_without_room_for_it_is_no_reason_to_stop() {
        let files = SimFiles::new();
        files.set_space_bytes(Some(10));
        let mut file = ReachedFile::open(&files, at(1, 1));
        file.advance(2);
        file.begin_segment(3);
        files.set_space_bytes(None);
        drop(ReachedFile::open(&files, at(2, 1)));
        assert_eq!(read(&files).unwrap(), at(2, 1));
    }
}
