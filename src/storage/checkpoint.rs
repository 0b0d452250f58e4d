//! The checkpoint: a file that says up to which sequence the index is known to be durable. An index that has less
//! than that has lost something.

use std::io;

use xxhash_rust::xxh3::xxh3_64;

use crate::storage::files::{Files, read_all};

/// The checkpoint's name.
pub const CHECKPOINT: &str = "CHECKPOINT";

const NEXT: &str = "CHECKPOINT.tmp";
const MAGIC: &[u8; 8] = b"TGCHECK1";
const BYTES: usize = 24;

/// What the checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// There is none.
    Missing,
    /// There is one that can't be read.
    Damaged,
    /// The index has been durable up to this sequence.
    At(u64),
}

/// Reads the checkpoint.
///
/// # Errors
/// What the operating system says.
pub fn read(files: &dyn Files) -> io::Result<Checkpoint> {
    let handle = match files.open(CHECKPOINT) {
        Ok(handle) => handle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checkpoint::Missing),
        Err(error) => return Err(error),
    };
    let bytes = read_all(&*handle)?;
    let sequence = bytes.get(8..16).and_then(|sequence| sequence.try_into().ok()).map(u64::from_le_bytes);
    Ok(match sequence {
        Some(sequence) if encode(sequence) == *bytes => Checkpoint::At(sequence),
        _ => Checkpoint::Damaged,
    })
}

/// Replaces the checkpoint. The index must be durable up to `sequence` already.
///
/// # Errors
/// What the operating system says; the old checkpoint or the new one is there then.
pub fn write(files: &dyn Files, sequence: u64) -> io::Result<()> {
    let handle = files.create(NEXT)?;
    handle.write_at(0, &encode(sequence))?;
    handle.set_length(BYTES as u64)?;
    handle.sync_data()?;
    files.rename(NEXT, CHECKPOINT)?;
    files.sync_directory("")
}

fn encode(sequence: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    let checksum = xxh3_64(&bytes[..16]);
    bytes[16..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::storage::sim_files::SimFiles;

    #[test]
    fn it_survives_a_crash_and_damage_is_seen() {
        let files = SimFiles::new();
        assert_eq!(read(&files).unwrap(), Checkpoint::Missing);
        write(&files, 7).unwrap();
        write(&files, 9).unwrap();
        files.crash(&Random::seeded(1));
        assert_eq!(read(&files).unwrap(), Checkpoint::At(9));
        files.flip_bit(CHECKPOINT, 9, 0).unwrap();
        assert_eq!(read(&files).unwrap(), Checkpoint::Damaged);
    }

    #[test]
    fn a_crash_while_it_is_written_leaves_the_old_or_the_new() {
        for seed in 0..40 {
            let files = SimFiles::new();
            write(&files, 7).unwrap();
            files.power_off_after_syncs(seed % 3);
            let _ = write(&files, 9);
            files.crash(&Random::seeded(seed));
            assert!(matches!(read(&files).unwrap(), Checkpoint::At(7 | 9)), "seed {seed}");
        }
    }
}
