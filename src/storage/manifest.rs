//! The list of a backup: which files it has, with their checksums, and what can be restored from them.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;
use crate::storage::backup::{create, failed, finish};
use crate::storage::files::sync_parent_of;
use crate::storage::{StoreError, base, format, segments};

/// The list's name.
pub const MANIFEST: &str = "manifest.json";
/// Its name while it is written.
pub(super) const MANIFEST_TEMPORARY: &str = "manifest.tmp";
/// The format that is written. Readers accept this one.
pub const FORMAT: u32 = 1;
/// Longest list that is read.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The backup's format.
    pub format: u32,
    /// The format of the store in it; backups from before it was said have the first.
    #[serde(default = "first_store_format")]
    pub store_format: u32,
    /// The program that made it.
    pub program: String,
    /// When it was begun.
    pub made_at: Timestamp,
    /// Sequence that the base begins from; 0 when there is none and the whole journal is there.
    pub base_from: u64,
    /// First sequence that can be restored to.
    pub first_sequence: u64,
    /// Last sequence that can be restored to.
    pub last_sequence: u64,
    /// When the last commit in it was made.
    pub last_time: Timestamp,
    /// When the store was held: the time that it had been restored to. What a restore makes of it must be held from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_since: Option<Timestamp>,
    /// All other files.
    pub files: Vec<BackupFile>,
}

/// The format of stores whose backups do not say it.
pub(super) const fn first_store_format() -> u32 {
    1
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Below the backup's directory.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Reads the list of a backup.
///
/// # Errors
/// [`StoreError::Corrupt`] when there is none or it can't be understood.
pub fn read_manifest(backup: &Path) -> Result<Manifest, StoreError> {
    let path = backup.join(MANIFEST);
    let file = File::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::Corrupt(format!(
            "{} has no {MANIFEST}: it is no backup, or making it was interrupted",
            backup.display()
        )),
        _ => failed(&path, &error),
    })?;
    let mut text = String::new();
    file.take(MANIFEST_BYTES_MAX).read_to_string(&mut text).map_err(|error| failed(&path, &error))?;
    let damaged = |error: serde_json::Error| StoreError::Corrupt(format!("{}: {error}", path.display()));
    let value: serde_json::Value = serde_json::from_str(&text).map_err(damaged)?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if format > u64::from(FORMAT) {
        return Err(StoreError::Corrupt(format!(
            "the backup has format {format}, this program reads formats up to {FORMAT}: use the program that made it, or \
             a newer one"
        )));
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(damaged)?;
    format::refuse_unreadable(manifest.store_format, MANIFEST)?;
    Ok(manifest)
}

/// Writes the list of a backup, which is complete then.
pub(super) fn write_manifest(destination: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let path = destination.join(MANIFEST);
    let temporary = destination.join(MANIFEST_TEMPORARY);
    let text = serde_json::to_vec_pretty(manifest)
        .map_err(|error| StoreError::Invalid(format!("{MANIFEST} can't be written: {error}")))?;
    let mut file = create(&temporary)?;
    file.write_all(&text).map_err(|error| failed(&temporary, &error))?;
    finish(&temporary, &file)?;
    std::fs::rename(&temporary, &path).and_then(|()| sync_parent_of(&path)).map_err(|error| failed(&path, &error))
}

/// Refuses the path of something that is no file of a store: a list from elsewhere can't lead out of its directory.
fn check_path(path: &str) -> Result<(), StoreError> {
    if segment_of(path).is_some() || base_of(path).is_some() {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("the backup's list names {path}, which is no file of a store")))
}

/// The first sequence of the segment at a path.
pub(super) fn segment_of(path: &str) -> Option<u64> {
    let name = path.strip_prefix(segments::DIRECTORY)?.strip_prefix('/')?;
    let first: u64 = name.strip_suffix(".seg")?.parse().ok()?;
    (first > 0 && segments::path_of(first) == path).then_some(first)
}

/// The sequence that the base at a path begins from.
pub(super) fn base_of(path: &str) -> Option<u64> {
    let name = path.strip_prefix(base::DIRECTORY)?.strip_prefix('/')?;
    let from: u64 = name.strip_suffix(".tgx")?.parse().ok()?;
    (base::path_of(from) == path).then_some(from)
}

/// Refuses a list with something that is no file of a store, without the base that it tells of, or with a journal that
/// begins too late for that.
pub(super) fn check_complete(manifest: &Manifest) -> Result<(), StoreError> {
    manifest.files.iter().try_for_each(|file| check_path(&file.path))?;
    let from = manifest.base_from;
    let bases: Vec<u64> = manifest.files.iter().filter_map(|file| base_of(&file.path)).collect();
    let expected: &[u64] = if from == 0 && bases.is_empty() { &[] } else { &[from] };
    if bases != expected {
        return Err(StoreError::Corrupt(format!("the backup's list does not have {} only", base::path_of(from))));
    }
    match manifest.files.iter().find_map(|file| segment_of(&file.path)) {
        Some(first) if first > from + 1 => Err(StoreError::Corrupt(format!(
            "the backup's journal begins at sequence {first}, and its base ends at {from}: sequences between are missing"
        ))),
        _ => Ok(()),
    }
}
