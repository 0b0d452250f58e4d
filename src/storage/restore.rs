//! Makes a data directory from a backup, up to a point of its journal; see `new_directory`. It is *held*: see `held`. The
//! index is rebuilt when it is opened.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::domain::audit::{AuditHead, ChainProblem};
use crate::domain::time::Timestamp;
use crate::storage::StoreError;
use crate::storage::backup::{
    Manifest, OnProgress, SegmentCopy, VerifiedBackup, base_of, create, failed, finish, segment_of, verify,
};
use crate::storage::base;
use crate::storage::files::DiskFiles;
use crate::storage::held::{Held, HeldFile};
use crate::storage::new_directory::{NewDirectory, RESTORING, check_free};
use crate::storage::segment_reader::SegmentReader;
use crate::storage::walk::Walk;

/// Up to where something is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The last commit with at most this sequence.
    Sequence(u64),
    /// The last commit that was made at this time or before, as the machine's clock had it.
    Time(Timestamp),
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the backup has.
    pub manifest: Manifest,
    /// Sequence of the last commit that was restored.
    pub until_sequence: u64,
    /// When that was made.
    pub until_time: Timestamp,
    /// The end of the audit's chain in the whole backup, or what is wrong with it.
    pub audit: Result<AuditHead, ChainProblem>,
}

/// Restores a backup into `directory`, which must be empty or not there, up to `until` or to its end.
///
/// # Errors
/// [`StoreError::Invalid`] when the directory is not empty or the backup can't be restored to that point,
/// [`StoreError::Corrupt`] when the backup is damaged, [`StoreError::Io`].
pub fn restore(
    backup: &Path,
    directory: &Path,
    until: Option<Until>,
    now: Timestamp,
    on_progress: OnProgress<'_>,
) -> Result<Restored, StoreError> {
    check_free(directory)?;
    let VerifiedBackup { manifest, audit } = verify(backup, None, on_progress)?;
    let source = DiskFiles::read_only(backup);
    let until = match until {
        None => manifest.last_sequence,
        Some(Until::Sequence(sequence)) => sequence,
        Some(Until::Time(time)) => last_until(&source, &manifest, time)?,
    };
    if !(manifest.first_sequence..=manifest.last_sequence).contains(&until) {
        return Err(out_of_range(&manifest));
    }
    let new = NewDirectory::begin(directory, RESTORING)?;
    let place = new.place();
    let mut walk = Walk::new(manifest.made_at);
    let mut is_over = false;
    for file in &manifest.files {
        match segment_of(&file.path) {
            Some(_) if is_over => {}
            Some(first) => {
                let mut reader = SegmentReader::open(&source, first)?;
                let mut copy = SegmentCopy::new(place, &reader);
                let end = walk.segment(&mut reader, until, &mut |found, _| copy.add(found.stored))?;
                is_over = end < reader.length();
                copy.finish()?;
            }
            None => copy_file(&backup.join(&file.path), &place.join(&file.path))?,
        }
    }
    let until_sequence = walk.end.last_sequence;
    if until_sequence < manifest.first_sequence || until_sequence == 0 {
        return Err(out_of_range(&manifest));
    }
    if let Some(from) = manifest.files.iter().find_map(|file| base_of(&file.path)) {
        let files = DiskFiles::new(place);
        let found = base::verify(&files, from)?;
        base::note(&files, &found)?;
    }
    let held = Held {
        restored_until_sequence: until_sequence,
        // What the providers were not asked about when the backup was made, they are asked about now.
        restored_until_time: manifest.held_since.map_or(walk.time, |since| since.min(walk.time)),
        made_at: now,
        confirmed: std::collections::BTreeMap::new(),
    };
    HeldFile::of(place).write(&held)?;
    new.finish()?;
    Ok(Restored { manifest, until_sequence, until_time: walk.time, audit })
}

/// The last sequence that was committed at `time` or before, 0 for none. The whole journal is looked through: behind what was
/// written while the clock was ahead there may be more.
fn last_until(source: &DiskFiles, manifest: &Manifest, time: Timestamp) -> Result<u64, StoreError> {
    let mut last = 0;
    for first in manifest.files.iter().filter_map(|file| segment_of(&file.path)) {
        let mut reader = SegmentReader::open(source, first)?;
        while let Some(found) = reader.next_frame()? {
            if found.frame.at.is_none_or(|at| at <= time) {
                last = found.last_sequence();
            }
        }
    }
    Ok(last)
}

/// Copies a file, durably.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut source = File::open(from).map_err(|error| failed(from, &error))?;
    let mut target = create(to)?;
    io::copy(&mut source, &mut target).map_err(|error| failed(to, &error))?;
    finish(to, &target)
}

fn out_of_range(manifest: &Manifest) -> StoreError {
    StoreError::Invalid(format!(
        "this backup can be restored to sequences {} to {} (the last was committed at {}); for an earlier point use an \
         earlier backup",
        manifest.first_sequence.max(1),
        manifest.last_sequence,
        manifest.last_time.rfc3339()
    ))
}
