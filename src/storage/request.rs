//! A batch on its way to the committer, checked and turned into what the committer works with.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::storage::frame::{BATCH_BYTES, change_bytes, stored_bytes};
use crate::storage::overlay::{Change, ENTRY_OVERHEAD_BYTES};
use crate::storage::{Batch, Committed, Precondition, StoreError, Urgency, Write};

/// Longest key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest value.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// First byte of the keys that hold the last number of each stream. They are read like others, and written by appends
/// only.
pub const STREAM_HEAD_PREFIX: u8 = 0xFE;

/// Bytes of a stream's number at the end of a row's key.
const NUMBER_BYTES: usize = 8;

/// Where the answer to a batch goes.
pub type Reply = oneshot::Sender<Result<Committed, StoreError>>;

/// A batch that keeps the rules.
#[derive(Debug)]
pub struct Request {
    /// What must hold.
    pub preconditions: Vec<Precondition>,
    /// Puts and deletes; their revisions are not known yet.
    pub changes: Vec<Change>,
    /// Streams and what to append.
    pub appends: Vec<(Vec<u8>, Arc<[u8]>)>,
    /// What is refused first.
    pub urgency: Urgency,
    /// Bytes that it takes in a frame.
    pub frame_bytes: usize,
    /// Bytes that it takes in memory until the index has it.
    pub memory_bytes: u64,
    /// Where the answer goes.
    pub reply: Reply,
}

impl Request {
    /// Checks a batch of at most `frame_bytes_max` in its frame.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], saying which rule it breaks.
    pub fn new(batch: Batch, frame_bytes_max: usize, reply: Reply) -> Result<Self, StoreError> {
        check(&batch)?;
        let changes: Vec<Change> = batch
            .writes
            .into_iter()
            .map(|write| match write {
                Write::Put { key, value } => (key, Some(Arc::from(value))),
                Write::Delete { key } => (key, None),
            })
            .map(|(key, value)| Change { key, value, revision: 0, absent_below: false })
            .collect();
        let appends: Vec<(Vec<u8>, Arc<[u8]>)> =
            batch.appends.into_iter().map(|append| (append.stream, Arc::from(append.value))).collect();
        let payload_bytes = BATCH_BYTES
            + changes.iter().map(|change| change_bytes(change.key.len(), value_bytes(change))).sum::<usize>()
            + appends.iter().map(|(stream, value)| append_bytes(stream.len(), value.len())).sum::<usize>();
        let frame_bytes = stored_bytes(payload_bytes);
        if frame_bytes > frame_bytes_max {
            return Err(StoreError::Invalid(format!(
                "a batch takes at most {frame_bytes_max} bytes in the journal, not {frame_bytes}"
            )));
        }
        let entries = changes.len() + 2 * appends.len();
        let memory_bytes = payload_bytes as u64 + entries as u64 * ENTRY_OVERHEAD_BYTES;
        let (preconditions, urgency) = (batch.preconditions, batch.urgency);
        Ok(Self { preconditions, changes, appends, urgency, frame_bytes, memory_bytes, reply })
    }
}

/// The key that holds the last number of a stream.
pub fn stream_head_key(stream: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + stream.len());
    key.push(STREAM_HEAD_PREFIX);
    key.extend_from_slice(stream);
    key
}

/// The key of a stream's row.
pub fn stream_row_key(stream: &[u8], number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(stream.len() + NUMBER_BYTES);
    key.extend_from_slice(stream);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The rules of a batch that do not depend on the engine.
///
/// # Errors
/// [`StoreError::Invalid`], saying which rule it breaks.
pub fn check(batch: &Batch) -> Result<(), StoreError> {
    for write in &batch.writes {
        let (key, value_length) = match write {
            Write::Put { key, value } => (key, value.len()),
            Write::Delete { key } => (key, 0),
        };
        check_key(key, KEY_BYTES_MAX)?;
        check_value(value_length)?;
        if key[0] >= STREAM_HEAD_PREFIX {
            return Err(invalid("keys that begin with 0xFE or 0xFF belong to the store"));
        }
    }
    for append in &batch.appends {
        check_key(&append.stream, KEY_BYTES_MAX - NUMBER_BYTES)?;
        check_value(append.value.len())?;
        if append.stream[0] >= STREAM_HEAD_PREFIX {
            return Err(invalid("streams that begin with 0xFE or 0xFF belong to the store"));
        }
    }
    let mut keys: Vec<&[u8]> = batch.writes.iter().map(key_of).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("a batch writes a key at most once"));
    }
    Ok(())
}

fn check_key(key: &[u8], bytes_max: usize) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > bytes_max {
        return Err(StoreError::Invalid(format!("a key has 1 to {bytes_max} bytes, not {}", key.len())));
    }
    Ok(())
}

fn check_value(bytes: usize) -> Result<(), StoreError> {
    if bytes > VALUE_BYTES_MAX {
        return Err(StoreError::Invalid(format!("a value has at most {VALUE_BYTES_MAX} bytes, not {bytes}")));
    }
    Ok(())
}

fn invalid(rule: &str) -> StoreError {
    StoreError::Invalid(rule.to_owned())
}

fn key_of(write: &Write) -> &[u8] {
    match write {
        Write::Put { key, .. } | Write::Delete { key } => key,
    }
}

fn value_bytes(change: &Change) -> usize {
    change.value.as_ref().map_or(0, |value| value.len())
}

/// An append writes the row and the stream's head.
fn append_bytes(stream_bytes: usize, value_bytes: usize) -> usize {
    change_bytes(stream_bytes + NUMBER_BYTES, value_bytes) + change_bytes(1 + stream_bytes, NUMBER_BYTES)
}
