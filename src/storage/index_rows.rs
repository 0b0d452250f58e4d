//! How rows look in the embedded index. No stored value exceeds 4 KiB, because from about 8 KiB on the index would put
//! them into separate files that it never syncs: a larger value is split into a head and parts. Every stored value
//! carries its revision and a checksum over everything it means, key included.
//!
//! | stored key | stored value |
//! |---|---|
//! | `00` | `applied` (8), checksum (8) |
//! | `01` key | format version 1 (1), revision (8), bytes of the whole value (4), checksum (8), the first bytes |
//! | `02` length of key (2, big-endian) key, number of part (2, big-endian, from 1) | revision (8), checksum (8), further bytes |

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::storage::Versioned;
use crate::storage::index::IndexError;

/// The key of the sequence up to which everything is applied.
pub const APPLIED_KEY: &[u8] = &[0];
/// First byte of the keys of rows.
pub const HEAD_PREFIX: u8 = 1;

const STORED_BYTES_MAX: usize = 4096;
const PART_PREFIX: u8 = 2;
const VERSION: u8 = 1;
const HEAD_FIXED_BYTES: usize = 21;
const PART_FIXED_BYTES: usize = 16;
const HEAD_DATA_BYTES: usize = STORED_BYTES_MAX - HEAD_FIXED_BYTES;
const PART_DATA_BYTES: usize = STORED_BYTES_MAX - PART_FIXED_BYTES;

/// A row's head as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The row's revision.
    pub revision: u64,
    /// Bytes of the whole value.
    pub value_bytes: usize,
    /// The first of them.
    pub data: &'a [u8],
}

impl Head<'_> {
    /// How many parts follow.
    pub fn parts(&self) -> u16 {
        parts_of(self.value_bytes)
    }
}

/// How many parts a value of this length has beside the head. Values are at most 1 MiB, far from 65,535 parts.
pub fn parts_of(value_bytes: usize) -> u16 {
    let parts = value_bytes.saturating_sub(HEAD_DATA_BYTES).div_ceil(PART_DATA_BYTES);
    u16::try_from(parts).unwrap_or(u16::MAX)
}

/// The stored key of a row's head.
pub fn head_key(key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(HEAD_PREFIX);
    stored.extend_from_slice(key);
    stored
}

/// The stored key of a part, counted from 1.
pub fn part_key(key: &[u8], part: u16) -> Vec<u8> {
    let mut stored = Vec::with_capacity(5 + key.len());
    stored.push(PART_PREFIX);
    stored.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
    stored.extend_from_slice(key);
    stored.extend_from_slice(&part.to_be_bytes());
    stored
}

/// The stored value of a row's head.
pub fn encode_head(key: &[u8], revision: u64, value: &[u8]) -> Vec<u8> {
    let data = &value[..value.len().min(HEAD_DATA_BYTES)];
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    let mut stored = Vec::with_capacity(HEAD_FIXED_BYTES + data.len());
    stored.push(VERSION);
    stored.extend_from_slice(&revision.to_le_bytes());
    stored.extend_from_slice(&length.to_le_bytes());
    stored.extend_from_slice(&checksum(HEAD_PREFIX, key, 0, revision, u64::from(length), data).to_le_bytes());
    stored.extend_from_slice(data);
    stored
}

/// The stored value of a part, counted from 1.
pub fn encode_part(key: &[u8], revision: u64, value: &[u8], part: u16) -> Vec<u8> {
    let start = HEAD_DATA_BYTES + (usize::from(part) - 1) * PART_DATA_BYTES;
    let data = &value[start.min(value.len())..(start + PART_DATA_BYTES).min(value.len())];
    let mut stored = Vec::with_capacity(PART_FIXED_BYTES + data.len());
    stored.extend_from_slice(&revision.to_le_bytes());
    stored.extend_from_slice(&checksum(PART_PREFIX, key, part, revision, 0, data).to_le_bytes());
    stored.extend_from_slice(data);
    stored
}

/// Reads a head.
///
/// # Errors
/// [`IndexError::Corrupt`] when it is not what was stored.
pub fn decode_head<'a>(key: &[u8], stored: &'a [u8]) -> Result<Head<'a>, IndexError> {
    let read = || {
        let revision = u64_at(stored, 1)?;
        let length = u32::from_le_bytes(stored.get(9..13)?.try_into().ok()?);
        let data = stored.get(HEAD_FIXED_BYTES..)?;
        let value_bytes = usize::try_from(length).ok()?;
        let is_right = stored[0] == VERSION
            && data.len() == value_bytes.min(HEAD_DATA_BYTES)
            && u64_at(stored, 13)? == checksum(HEAD_PREFIX, key, 0, revision, u64::from(length), data);
        is_right.then_some(Head { revision, value_bytes, data })
    };
    read().ok_or_else(|| wrong(key))
}

/// Reads a part, counted from 1, that must belong to this revision.
///
/// # Errors
/// [`IndexError::Corrupt`] when it is not what was stored.
pub fn decode_part<'a>(key: &[u8], part: u16, revision: u64, stored: &'a [u8]) -> Result<&'a [u8], IndexError> {
    let read = || {
        let data = stored.get(PART_FIXED_BYTES..)?;
        let is_right =
            u64_at(stored, 0)? == revision && u64_at(stored, 8)? == checksum(PART_PREFIX, key, part, revision, 0, data);
        is_right.then_some(data)
    };
    read().ok_or_else(|| wrong(key))
}

/// Puts a value together; `part` fetches what is stored of a part.
///
/// # Errors
/// [`IndexError::Corrupt`] when something is missing or wrong, and what `part` returns.
pub fn assemble<P: AsRef<[u8]>>(
    key: &[u8],
    head: Head<'_>,
    part: impl Fn(u16) -> Result<Option<P>, IndexError>,
) -> Result<Versioned, IndexError> {
    if head.parts() == 0 {
        return Ok(Versioned { revision: head.revision, value: Arc::from(head.data) });
    }
    let mut value = head.data.to_vec();
    for number in 1..=head.parts() {
        let stored = part(number)?.ok_or_else(|| wrong(key))?;
        value.extend_from_slice(decode_part(key, number, head.revision, stored.as_ref())?);
    }
    if value.len() != head.value_bytes {
        return Err(wrong(key));
    }
    Ok(Versioned { revision: head.revision, value: value.into() })
}

/// The stored value of `applied`.
pub fn encode_applied(applied: u64) -> [u8; 16] {
    let mut stored = [0; 16];
    stored[..8].copy_from_slice(&applied.to_le_bytes());
    stored[8..].copy_from_slice(&checksum(0, APPLIED_KEY, 0, applied, 0, &[]).to_le_bytes());
    stored
}

/// Reads `applied`.
///
/// # Errors
/// [`IndexError::Corrupt`] when it is not what was stored.
pub fn decode_applied(stored: &[u8]) -> Result<u64, IndexError> {
    let applied = u64_at(stored, 0).filter(|applied| encode_applied(*applied) == stored);
    applied.ok_or_else(|| wrong(APPLIED_KEY))
}

fn checksum(kind: u8, key: &[u8], part: u16, revision: u64, length: u64, data: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&[kind]);
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key);
    hash.update(&part.to_le_bytes());
    hash.update(&revision.to_le_bytes());
    hash.update(&length.to_le_bytes());
    hash.update(data);
    hash.digest()
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

fn wrong(key: &[u8]) -> IndexError {
    IndexError::Corrupt(format!("the record under key {} is not what was stored", hex::encode(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_length_come_back_and_stay_small() {
        let edges = [0, 1, HEAD_DATA_BYTES - 1, HEAD_DATA_BYTES, HEAD_DATA_BYTES + 1];
        let more = [HEAD_DATA_BYTES + PART_DATA_BYTES, HEAD_DATA_BYTES + PART_DATA_BYTES + 1, 100 * 1024, 1 << 20];
        for length in edges.into_iter().chain(more) {
            let value: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let head = encode_head(b"key", 7, &value);
            assert!(head.len() <= STORED_BYTES_MAX);
            let head = decode_head(b"key", &head).unwrap();
            let part = |number| {
                let stored = encode_part(b"key", 7, &value, number);
                assert!(stored.len() > PART_FIXED_BYTES && stored.len() <= STORED_BYTES_MAX);
                Ok(Some(stored))
            };
            let versioned = assemble(b"key", head, part).unwrap();
            assert_eq!((versioned.revision, &*versioned.value), (7, &*value));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_mix_up_is_found() {
        let value = vec![5; HEAD_DATA_BYTES + 10];
        let head = encode_head(b"key", 7, &value);
        for position in (0..400).chain((head.len() - 8) * 8..head.len() * 8) {
            let mut bad = head.clone();
            bad[position / 8] ^= 1 << (position % 8);
            assert!(decode_head(b"key", &bad).is_err(), "bit {position}");
        }
        assert!(decode_head(b"other", &head).is_err());
        assert!(decode_head(b"key", &head[..head.len() - 1]).is_err());
        let part = encode_part(b"key", 7, &value, 1);
        assert!(decode_part(b"key", 1, 7, &part).is_ok());
        assert!(decode_part(b"key", 2, 7, &part).is_err());
        assert!(decode_part(b"key", 1, 8, &part).is_err());
        let head = decode_head(b"key", &head).unwrap();
        assert!(assemble(b"key", head, |_| Ok(None::<Vec<u8>>)).is_err());
        assert!(assemble(b"key", head, |_| Ok(Some(encode_part(b"key", 6, &value, 1)))).is_err());
    }

    #[test]
    fn applied_is_checked() {
        let mut stored = encode_applied(99);
        assert_eq!(decode_applied(&stored).unwrap(), 99);
        stored[0] ^= 1;
        assert!(decode_applied(&stored).is_err());
    }
}
