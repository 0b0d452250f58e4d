//! Makes a data directory from a backup, up to a point of its journal. The directory is made beside its place and renamed
//! when it is complete, and it is *held*: see `held`. The index is rebuilt when it is opened.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::domain::time::Timestamp;
use crate::storage::StoreError;
use crate::storage::backup::{
    Manifest, OnProgress, Until, Walk, base_of, check_empty, create, failed, finish, segment_of, verify,
};
use crate::storage::base;
use crate::storage::files::{DiskFiles, create_private_directory, sync_parent_of};
use crate::storage::held::{Held, HeldFile};
use crate::storage::segments::SEGMENT_HEADER_BYTES;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the backup has.
    pub manifest: Manifest,
    /// Sequence of the last commit that was restored.
    pub until_sequence: u64,
    /// When that was made.
    pub until_time: Timestamp,
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
    check_empty(directory)?;
    let manifest = verify(backup, on_progress)?;
    if let Some(Until::Sequence(sequence)) = until
        && !(manifest.first_sequence..=manifest.last_sequence).contains(&sequence)
    {
        return Err(out_of_range(&manifest));
    }
    let until = until.unwrap_or(Until::Sequence(manifest.last_sequence));
    let beside = beside(directory);
    check_empty(&beside)?;
    create_private_directory(&beside).map_err(|error| failed(&beside, &error))?;
    let mut walk = Walk::new(manifest.made_at);
    let mut is_over = false;
    for file in &manifest.files {
        let bytes = std::fs::read(backup.join(&file.path)).map_err(|error| failed(&backup.join(&file.path), &error))?;
        let bytes = match segment_of(&file.path) {
            Some(_) if is_over => continue,
            Some(first) => {
                let end = walk.segment(&file.path, first, &bytes, &until)?;
                is_over = end < bytes.len();
                if end <= SEGMENT_HEADER_BYTES { continue } else { &bytes[..end] }
            }
            None => &bytes[..],
        };
        let target = beside.join(&file.path);
        let mut copy = create(&target)?;
        copy.write_all(bytes).map_err(|error| failed(&target, &error))?;
        finish(&target, &copy)?;
    }
    let until_sequence = walk.end.last_sequence;
    if until_sequence < manifest.first_sequence || until_sequence == 0 {
        std::fs::remove_dir_all(&beside).map_err(|error| failed(&beside, &error))?;
        return Err(out_of_range(&manifest));
    }
    if let Some(from) = manifest.files.iter().find_map(|file| base_of(&file.path)) {
        let files = DiskFiles::new(&beside);
        let found = base::verify(&files, from)?;
        base::note(&files, &found)?;
    }
    let held = Held {
        restored_until_sequence: until_sequence,
        restored_until_time: walk.time,
        made_at: now,
        confirmed: std::collections::BTreeMap::new(),
    };
    HeldFile::of(&beside).write(&held)?;
    let named = std::fs::rename(&beside, directory).and_then(|()| sync_parent_of(directory));
    named.map_err(|error| failed(directory, &error))?;
    Ok(Restored { manifest, until_sequence, until_time: walk.time })
}

fn beside(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().map_or_else(|| OsString::from("data"), OsString::from);
    name.push(".restoring");
    directory.with_file_name(name)
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
