//! How a group of batches looks in the journal: one frame, checksummed and chained to the one before it.
//!
//! | bytes | field (little-endian) |
//! |---|---|
//! | 0..8 | `TGFRAME1` |
//! | 8..16 | xxh3-64, seeded by the segment, over everything from byte 16 to the end of the payload |
//! | 16 | format version, 1 |
//! | 17 | kind: 1 data, 2 seal |
//! | 18..20 | milliseconds within the second of the time of day when it was written |
//! | 20..24 | bytes of payload |
//! | 24..32 | sequence of the first batch |
//! | 32..36 | number of batches |
//! | 36..40 | the time of day when it was written, in seconds since 1970; 0 in frames that do not say |
//! | 40..48 | checksum of the frame before this one, 0 for the very first |
//! | 48.. | payload, then zeros up to a multiple of 8 |
//!
//! The payload holds the batches one after the other: number of changes (4), then for each change the length of the
//! key (4), the length of the value (4, all ones for a delete), the key and the value.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::domain::time::Timestamp;
use crate::storage::overlay::Change;

/// Bytes before a frame's payload.
pub const HEADER_BYTES: usize = 48;
/// Frames begin at multiples of this.
pub const ALIGNMENT: usize = 8;

const MAGIC: &[u8; 8] = b"TGFRAME1";
const VERSION: u8 = 1;
const DELETED: u32 = u32::MAX;
/// Where the part of a frame begins that its checksum covers.
const CHECKED_FROM: usize = 16;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Holds batches.
    Data,
    /// The mark of a clean stop; holds nothing, but has a sequence of its own.
    Seal,
}

/// A frame that was read and whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Data or seal.
    pub kind: Kind,
    /// Sequence of its first batch, or of the seal.
    pub first_sequence: u64,
    /// Batches in it; 1 for a seal.
    pub count: u32,
    /// The time of day when it was written, as that machine's clock had it: it may go back from one frame to the next.
    /// `None` in frames of programs that did not write it.
    pub at: Option<Timestamp>,
    /// Checksum of the frame before it.
    pub previous: u64,
    /// Its own checksum.
    pub checksum: u64,
    /// The encoded batches.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes that it takes in the segment, padding included.
    pub fn stored_bytes(&self) -> usize {
        stored_bytes(self.payload.len())
    }
}

/// Bytes that a frame takes in a segment.
pub const fn stored_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT)
}

/// Bytes that a change takes in a payload.
pub const fn change_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    8 + key_bytes + value_bytes
}

/// Bytes that a batch takes in a payload beside its changes.
pub const BATCH_BYTES: usize = 4;

/// Where a frame stands in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Sequence of its first batch, or of the seal.
    pub first_sequence: u64,
    /// Checksum of the frame before it, 0 for the very first.
    pub previous: u64,
    /// Seed of the segment's checksums.
    pub seed: u64,
}

/// Builds frames, one after the other, in the same buffer.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl FrameBuilder {
    /// An empty frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no batch has been added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Batches added so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes that the frame will take in the segment.
    pub fn stored_bytes(&self) -> usize {
        stored_bytes(self.bytes.len().saturating_sub(HEADER_BYTES))
    }

    /// Forgets what was added and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// Adds a batch.
    pub fn add_batch(&mut self, changes: &[Change]) {
        self.begin();
        self.bytes.extend_from_slice(&length_of(changes.len()).to_le_bytes());
        for change in changes {
            self.bytes.extend_from_slice(&length_of(change.key.len()).to_le_bytes());
            let value_length = change.value.as_ref().map_or(DELETED, |value| length_of(value.len()));
            self.bytes.extend_from_slice(&value_length.to_le_bytes());
            self.bytes.extend_from_slice(&change.key);
            if let Some(value) = &change.value {
                self.bytes.extend_from_slice(value);
            }
        }
        self.count += 1;
    }

    /// Completes a data frame that is written at `at` and returns its bytes and its checksum.
    pub fn finish(&mut self, place: Place, at: Timestamp) -> (&[u8], u64) {
        self.begin();
        self.complete(Kind::Data, place, at)
    }

    /// Makes a seal instead and returns its bytes and its checksum.
    pub fn seal(&mut self, place: Place, at: Timestamp) -> (&[u8], u64) {
        self.clear();
        self.begin();
        self.count = 1;
        self.complete(Kind::Seal, place, at)
    }

    fn begin(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_BYTES, 0);
        }
    }

    fn complete(&mut self, kind: Kind, place: Place, at: Timestamp) -> (&[u8], u64) {
        let Place { first_sequence, previous, seed } = place;
        let (seconds, millis) = time_fields(at);
        let end = self.bytes.len();
        let header = &mut self.bytes[..HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[16] = VERSION;
        header[17] = match kind {
            Kind::Data => 1,
            Kind::Seal => 2,
        };
        header[18..20].copy_from_slice(&millis.to_le_bytes());
        header[20..24].copy_from_slice(&length_of(end - HEADER_BYTES).to_le_bytes());
        header[24..32].copy_from_slice(&first_sequence.to_le_bytes());
        header[32..36].copy_from_slice(&self.count.to_le_bytes());
        header[36..40].copy_from_slice(&seconds.to_le_bytes());
        header[40..48].copy_from_slice(&previous.to_le_bytes());
        let checksum = xxh3_64_with_seed(&self.bytes[CHECKED_FROM..end], seed);
        self.bytes[8..16].copy_from_slice(&checksum.to_le_bytes());
        self.bytes.resize(end.next_multiple_of(ALIGNMENT), 0);
        (&self.bytes, checksum)
    }
}

/// A time of day as it stands in a frame: seconds until 2106, and milliseconds.
fn time_fields(at: Timestamp) -> (u32, u16) {
    let unix_ms = at.unix_ms().max(0);
    match u32::try_from(unix_ms / 1_000) {
        Ok(seconds) => (seconds, u16::try_from(unix_ms % 1_000).unwrap_or(0)),
        Err(_) => (u32::MAX, 0),
    }
}

/// When the frame at the beginning of `bytes` was written, if it says. Only its header is looked at, and not whether it
/// is right: for what does no harm when it is wrong.
pub fn written_at(bytes: &[u8]) -> Option<Timestamp> {
    bytes.get(..HEADER_BYTES).filter(|header| &header[..8] == MAGIC).and_then(time_at)
}

/// The time of day in a frame's header, if it has one.
fn time_at(header: &[u8]) -> Option<Timestamp> {
    let seconds = u32_at(header, 36)?;
    let millis = u16::from_le_bytes(header.get(18..20)?.try_into().ok()?);
    (seconds > 0).then(|| Timestamp::from_unix_ms(i64::from(seconds) * 1_000 + i64::from(millis)))
}

/// Lengths are checked when a batch is taken, long before they reach 4 GiB.
fn length_of(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX - 1)
}

/// The frame at the beginning of `bytes`, or `None` when there is none or it is damaged.
pub fn parse(bytes: &[u8], seed: u64) -> Option<Frame<'_>> {
    let header = bytes.get(..HEADER_BYTES)?;
    if &header[..8] != MAGIC || header[16] != VERSION {
        return None;
    }
    let payload_bytes = usize::try_from(u32_at(header, 20)?).ok()?;
    let end = HEADER_BYTES.checked_add(payload_bytes)?;
    let checked = bytes.get(CHECKED_FROM..end)?;
    let padding = bytes.get(end..end.next_multiple_of(ALIGNMENT))?;
    let checksum = u64_at(header, 8)?;
    if xxh3_64_with_seed(checked, seed) != checksum || padding.iter().any(|byte| *byte != 0) {
        return None;
    }
    let kind = match header[17] {
        1 => Kind::Data,
        2 => Kind::Seal,
        _ => return None,
    };
    Some(Frame {
        kind,
        first_sequence: u64_at(header, 24)?,
        count: u32_at(header, 32)?,
        at: time_at(header),
        previous: u64_at(header, 40)?,
        checksum,
        payload: &bytes[HEADER_BYTES..end],
    })
}

/// Whether `bytes`, the rest of a file, end before what has begun in them: in a header, or in the payload that a header
/// tells of. A segment has room for each of its frames before one is written, so a crash does not leave that.
pub fn is_cut_off(bytes: &[u8]) -> bool {
    let Some(header) = bytes.get(..HEADER_BYTES) else {
        return bytes.iter().any(|byte| *byte != 0);
    };
    let payload_bytes = u32_at(header, 20).and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
    &header[..8] == MAGIC && stored_bytes_checked(payload_bytes).is_none_or(|stored| stored > bytes.len())
}

/// Bytes that the frame whose header is at the beginning of `bytes` takes in its segment, as that header says; `None` when
/// there is no header. Whether the frame is right, only [`parse`] says.
pub fn announced_bytes(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER_BYTES).filter(|header| &header[..8] == MAGIC && header[16] == VERSION)?;
    stored_bytes_checked(usize::try_from(u32_at(header, 20)?).ok()?)
}

fn stored_bytes_checked(payload_bytes: usize) -> Option<usize> {
    HEADER_BYTES.checked_add(payload_bytes)?.checked_next_multiple_of(ALIGNMENT)
}

/// The changes of a data frame, each with its revision, batch by batch in the order of their sequences. `None` when
/// the payload does not hold what the header says.
pub fn decode(frame: &Frame<'_>) -> Option<Vec<Change>> {
    let mut rest = frame.payload;
    let mut changes = Vec::new();
    for batch in 0..u64::from(frame.count) {
        let revision = frame.first_sequence.checked_add(batch)?;
        for _ in 0..take_u32(&mut rest)? {
            let key_length = usize::try_from(take_u32(&mut rest)?).ok()?;
            let value_length = take_u32(&mut rest)?;
            let key = take(&mut rest, key_length)?.to_vec();
            let value = match value_length {
                DELETED => None,
                length => Some(Arc::from(take(&mut rest, usize::try_from(length).ok()?)?)),
            };
            changes.push(Change { key, value, revision, absent_below: false });
        }
    }
    rest.is_empty().then_some(changes)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    u32_at(take(rest, 4)?, 0)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_unix_ms(1_737_715_200_123);

    fn place(first_sequence: u64, previous: u64, seed: u64) -> Place {
        Place { first_sequence, previous, seed }
    }

    fn change(key: &[u8], value: Option<&[u8]>, revision: u64) -> Change {
        Change { key: key.to_vec(), value: value.map(Arc::from), revision, absent_below: false }
    }

    #[test]
    fn a_frame_reads_back_as_it_was_built() {
        let batches = [
            vec![change(b"a", Some(b"1"), 7), change(b"bb", None, 7)],
            vec![],
            vec![change(b"c", Some(&[9; 5000]), 9), change(b"d", Some(b""), 9)],
        ];
        let mut builder = FrameBuilder::new();
        batches.iter().for_each(|batch| builder.add_batch(batch));
        let expected_bytes = builder.stored_bytes();
        let (bytes, checksum) = builder.finish(place(7, 55, 99), AT);
        assert_eq!(bytes.len(), expected_bytes);
        let frame = parse(bytes, 99).unwrap();
        assert_eq!((frame.kind, frame.first_sequence, frame.count), (Kind::Data, 7, 3));
        assert_eq!(frame.at, Some(AT));
        assert_eq!((frame.previous, frame.checksum, frame.stored_bytes()), (55, checksum, bytes.len()));
        assert_eq!(announced_bytes(bytes), Some(bytes.len()));
        assert_eq!(announced_bytes(&bytes[8..]), None);
        assert_eq!(decode(&frame).unwrap(), batches.concat());
        assert!(parse(bytes, 98).is_none(), "a frame of another segment is none");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let mut builder = FrameBuilder::new();
        builder.add_batch(&[change(b"key", Some(b"value"), 1)]);
        let good = builder.finish(place(1, 0, 5), AT).0.to_vec();
        for position in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[position / 8] ^= 1 << (position % 8);
            assert!(parse(&bad, 5).is_none(), "bit {position}");
        }
        for length in 0..good.len() {
            assert!(parse(&good[..length], 5).is_none(), "cut to {length}");
        }
    }

    #[test]
    fn times_are_kept_as_far_as_a_frame_can_say_them() {
        let read = |unix_ms| {
            let mut builder = FrameBuilder::new();
            builder.add_batch(&[]);
            let (bytes, _) = builder.finish(place(1, 0, 5), Timestamp::from_unix_ms(unix_ms));
            parse(bytes, 5).unwrap().at.map(Timestamp::unix_ms)
        };
        assert_eq!(read(1_999), Some(1_999));
        assert_eq!(read(0), None, "frames of before did not say when they were written");
        assert_eq!(read(-5), None);
        assert_eq!(read(i64::MAX), Some(i64::from(u32::MAX) * 1_000));
    }

    #[test]
    fn a_seal_holds_nothing() {
        let mut builder = FrameBuilder::new();
        builder.add_batch(&[change(b"key", None, 1)]);
        let (bytes, _) = builder.seal(place(12, 3, 5), AT);
        let frame = parse(bytes, 5).unwrap();
        assert_eq!((frame.kind, frame.first_sequence, frame.count), (Kind::Seal, 12, 1));
        assert!(frame.payload.is_empty());
    }
}
