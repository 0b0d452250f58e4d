//! Backups: the base that counts and the journal behind it, copied frame by frame into a directory of their own, with a
//! list of the files and their checksums. A store can be backed up while it is in use. Secrets in it are encrypted, and
//! the master key is never copied: it must be kept somewhere else.
//!
//! | file | what it is |
//! |---|---|
//! | `manifest.json` | [`Manifest`]; written last, so that a backup without it is not complete |
//! | `base/<from>.tgx` | the base, unless the whole journal is there |
//! | `journal/<first sequence>.seg` | segments, without what is behind their last durable frame |

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::domain::audit::{Anchor, AuditHead, ChainProblem};
use crate::domain::time::Timestamp;
use crate::storage::StoreError;
use crate::storage::audit_rows::AuditRows;
use crate::storage::backup_room::{Room, remove_half, shares_disk};
use crate::storage::base;
use crate::storage::checkpoint::{self, CHECKPOINT, Checkpoint};
use crate::storage::files::{DiskFiles, Files, create_private_directory, sync_parent_of};
use crate::storage::format;
use crate::storage::manifest::{check_complete, first_store_format, segment_of, write_manifest};
use crate::storage::reached::{self, REACHED};
use crate::storage::replay::{self, ReplayRange};
use crate::storage::segment_reader::{SegmentReader, damaged};
use crate::storage::segments::{self, SEGMENT_HEADER_BYTES};
use crate::storage::walk::Walk;

pub use crate::storage::manifest::{BackupFile, FORMAT, MANIFEST, Manifest, read_manifest};
pub use crate::storage::restore::Until;

/// Bytes copied at once.
const CHUNK_BYTES: usize = 1 << 20;

/// How far something long is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all.
    pub bytes_total: u64,
}

/// Told how far it is.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress);

/// What is known of a store that is copied, beside its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// The last sequence that is known to be durable; `None` for a store that nobody has open.
    pub committed: Option<u64>,
    /// When it is held: the time that it was restored to.
    pub held_since: Option<Timestamp>,
    /// Bytes that must stay free where the copy goes; `None` when that is another disk than the store's.
    pub kept_free_bytes: Option<u64>,
}

/// Copies a store into `destination`, which must be empty or not there. No segment may leave the journal meanwhile,
/// and no base may go. What was copied is removed again after an error.
///
/// # Errors
/// [`StoreError::Invalid`] for a destination that is not empty, [`StoreError::Corrupt`] when the store is damaged or of a
/// newer format, [`StoreError::Io`], also when there is too little room.
pub fn write(
    source: &dyn Files,
    destination: &Path,
    state: SourceState,
    now: Timestamp,
    on_progress: OnProgress<'_>,
) -> Result<Manifest, StoreError> {
    let disk = DiskFiles::read_only(destination);
    write_within(source, destination, state, now, on_progress, &|| disk.free_bytes())
}

/// The same with another way to learn how much room there is.
pub(super) fn write_within(
    source: &dyn Files,
    destination: &Path,
    state: SourceState,
    now: Timestamp,
    on_progress: OnProgress<'_>,
    free_bytes: &dyn Fn() -> std::io::Result<u64>,
) -> Result<Manifest, StoreError> {
    check_empty(destination)?;
    let store_format = format::look(source)?.unwrap_or_else(first_store_format);
    let base = base::find(source)?;
    let committed = match state.committed {
        Some(committed) => committed,
        None => last_durable(source, base.as_ref())?,
    };
    let was_there = destination.exists();
    create_private_directory(destination).map_err(|error| failed(destination, &error))?;
    let room = Room::new(destination, state.kept_free_bytes, free_bytes);
    let copy = Copy { destination, room, files: Vec::new(), progress: Progress::default(), on_progress };
    let written = copy_all(source, base, committed, copy).and_then(|copied| {
        let manifest = Manifest {
            format: FORMAT,
            store_format,
            program: concat!("tollgate ", env!("CARGO_PKG_VERSION")).to_owned(),
            made_at: now,
            held_since: state.held_since,
            ..copied
        };
        write_manifest(destination, &manifest)?;
        Ok(manifest)
    });
    if written.is_err() {
        remove_half(destination, was_there);
    }
    written
}

/// The end of a journal that nobody writes to, found as it is when the store is opened: a tail that a crash tore is left
/// out, and what was durable once must be there.
fn last_durable(source: &dyn Files, base: Option<&base::Base>) -> Result<u64, StoreError> {
    let checkpointed = match checkpoint::read(source).map_err(|error| failed(Path::new(CHECKPOINT), &error))? {
        Checkpoint::At(sequence) => sequence,
        Checkpoint::Missing | Checkpoint::Damaged => 0,
    };
    let reached = reached::read(source).map_err(|error| failed(Path::new(REACHED), &error))?;
    let range = ReplayRange {
        after: base.map_or(0, |base| base.from),
        durable: checkpointed.max(base.map_or(0, |base| base.until)).max(reached.durable),
        last_segment: reached.segment,
    };
    replay::look_through(source, range, &mut |_, _| Ok(())).map(|looked| looked.end.last_sequence)
}

/// Copies base and journal, and answers the list as far as they say what is in it.
fn copy_all(
    source: &dyn Files,
    base: Option<base::Base>,
    committed: u64,
    mut copy: Copy<'_, '_>,
) -> Result<Manifest, StoreError> {
    let from = base.map_or(0, |base| base.from);
    let all = segments::list(source).map_err(|error| failed(Path::new(segments::DIRECTORY), &error))?;
    if all.first().is_some_and(|first| *first > from + 1) {
        return Err(StoreError::Corrupt(format!(
            "the journal begins at sequence {} and the base export ends at {from}: sequences between are missing",
            all[0]
        )));
    }
    let wanted = all.partition_point(|first| *first <= from + 1).saturating_sub(1);
    copy.progress.bytes_total = base.map_or(0, |base| base.bytes);
    for first in &all[wanted..] {
        copy.progress.bytes_total += length_of(source, &segments::path_of(*first))?;
    }
    copy.room.expect(copy.progress.bytes_total)?;
    if let Some(base) = &base {
        copy.copy_file(source, &base::path_of(base.from))?;
    }
    // The base may have been finished after it was asked what is durable; what a base has seen is.
    let durable = base.map_or(committed, |base| committed.max(base.until));
    let mut walk = Walk::new(base.map_or(Timestamp::default(), |base| base.made_at));
    for (place, first) in all.iter().enumerate().skip(wanted) {
        let mut reader = SegmentReader::open(source, *first)?;
        let end = copy.copy_frames(&mut reader, &mut walk, durable)?;
        let is_last = place + 1 == all.len() || walk.end.last_sequence >= durable;
        if !is_last && walk.end.last_sequence + 1 != all[place + 1] {
            return Err(damaged(reader.path(), end, "frames are missing before the next segment"));
        }
        // The header, and what is behind the last frame.
        copy.advance(reader.length().saturating_sub(end) + SEGMENT_HEADER_BYTES as u64);
        if is_last {
            break;
        }
    }
    // Segments behind the last frame are not copied.
    copy.advance(copy.progress.bytes_total.saturating_sub(copy.progress.bytes));
    let first_sequence = base.map_or(0, |base| base.until);
    let last_sequence = walk.end.last_sequence.max(from);
    if last_sequence < first_sequence || last_sequence < committed {
        return Err(StoreError::Corrupt(format!("the journal ends at sequence {last_sequence}, before it should")));
    }
    Ok(Manifest {
        format: FORMAT,
        store_format: format::FORMAT,
        program: String::new(),
        made_at: walk.time,
        base_from: from,
        first_sequence,
        last_sequence,
        last_time: walk.time,
        held_since: None,
        files: copy.files,
    })
}

/// A backup that was read and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBackup {
    /// What is in it.
    pub manifest: Manifest,
    /// The end of the audit's chain, or what is wrong with it. A backup with a broken chain can be restored all the same.
    pub audit: Result<AuditHead, ChainProblem>,
}

/// Reads a whole backup: every checksum, every frame and how they follow each other, every row of the base, and the
/// audit's chain, against an anchor if there is one.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is damaged or not complete, [`StoreError::Io`].
pub fn verify(
    backup: &Path,
    anchor: Option<Anchor>,
    on_progress: OnProgress<'_>,
) -> Result<VerifiedBackup, StoreError> {
    let manifest = read_manifest(backup)?;
    check_complete(&manifest)?;
    let files = DiskFiles::read_only(backup);
    let mut progress = Progress { bytes: 0, bytes_total: manifest.files.iter().map(|file| file.bytes).sum() };
    let mut walk = Walk::new(manifest.last_time);
    let mut audit = AuditRows::default();
    for file in &manifest.files {
        let path = backup.join(&file.path);
        let (bytes, sha256) = digest_of(&path)?;
        if bytes != file.bytes || sha256 != file.sha256 {
            return Err(StoreError::Corrupt(format!(
                "{} is not as it was when the backup was made. Use another backup",
                path.display()
            )));
        }
        if let Some(first) = segment_of(&file.path) {
            let mut reader = SegmentReader::open(&files, first)?;
            let end = walk.segment(&mut reader, u64::MAX, &mut |_, changes| {
                audit.take_changes(changes, manifest.base_from);
                Ok(())
            })?;
            if end < bytes {
                return Err(damaged(&file.path, end, "there is something that is not a frame"));
            }
        } else {
            base::look_through(&files, manifest.base_from, &mut |row| audit.take_row(row))?;
        }
        progress.bytes += file.bytes;
        on_progress(progress);
    }
    if walk.end.last_sequence.max(manifest.base_from) != manifest.last_sequence {
        return Err(StoreError::Corrupt(format!(
            "the backup ends at sequence {}, and its list says {}",
            walk.end.last_sequence, manifest.last_sequence
        )));
    }
    Ok(VerifiedBackup { audit: audit.check(anchor), manifest })
}

/// Copies files and keeps the list.
struct Copy<'a, 'b> {
    destination: &'a Path,
    room: Room<'a>,
    files: Vec<BackupFile>,
    progress: Progress,
    on_progress: OnProgress<'b>,
}

impl Copy<'_, '_> {
    fn advance(&mut self, bytes: u64) {
        self.progress.bytes += bytes;
        (self.on_progress)(self.progress);
    }

    fn copy_file(&mut self, source: &dyn Files, path: &str) -> Result<(), StoreError> {
        let from = source.open(path).map_err(|error| failed(Path::new(path), &error))?;
        let target = self.destination.join(path);
        let mut file = create(&target)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut digest = Sha256::new();
        let mut offset = 0;
        loop {
            let count = from.read_at(offset, &mut chunk).map_err(|error| failed(Path::new(path), &error))?;
            if count == 0 {
                break;
            }
            file.write_all(&chunk[..count]).map_err(|error| failed(&target, &error))?;
            digest.update(&chunk[..count]);
            offset += count as u64;
            self.advance(count as u64);
            self.room.look(self.progress.bytes)?;
        }
        finish(&target, &file)?;
        self.files.push(BackupFile { path: path.to_owned(), bytes: offset, sha256: hex::encode(digest.finalize()) });
        Ok(())
    }

    /// Copies the frames of a segment up to the last durable one; returns where that ends.
    fn copy_frames(&mut self, reader: &mut SegmentReader, walk: &mut Walk, durable: u64) -> Result<u64, StoreError> {
        let mut segment = SegmentCopy::new(self.destination, reader);
        let end = walk.segment(reader, durable, &mut |found, _| {
            self.progress.bytes += found.stored.len() as u64;
            (self.on_progress)(self.progress);
            self.room.look(self.progress.bytes)?;
            segment.add(found.stored)
        })?;
        self.files.extend(segment.finish()?);
        Ok(end)
    }
}

/// A copy of a segment's frames below another directory. Without any frame there is no file.
pub(super) struct SegmentCopy {
    path: String,
    target: PathBuf,
    header: [u8; SEGMENT_HEADER_BYTES],
    file: Option<BufWriter<File>>,
    digest: Sha256,
    bytes: u64,
}

impl SegmentCopy {
    pub(super) fn new(destination: &Path, reader: &SegmentReader) -> Self {
        Self {
            path: reader.path().to_owned(),
            target: destination.join(reader.path()),
            header: *reader.header(),
            file: None,
            digest: Sha256::new(),
            bytes: 0,
        }
    }

    pub(super) fn add(&mut self, stored: &[u8]) -> Result<(), StoreError> {
        if self.file.is_none() {
            self.file = Some(BufWriter::with_capacity(CHUNK_BYTES, create(&self.target)?));
            self.put(&self.header.clone())?;
        }
        self.put(stored)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|error| failed(&self.target, &error))?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes it durable; `None` when there was no frame.
    pub(super) fn finish(self) -> Result<Option<BackupFile>, StoreError> {
        let Self { path, target, file, digest, bytes, .. } = self;
        let Some(file) = file else { return Ok(None) };
        let file = file.into_inner().map_err(|error| failed(&target, error.error()))?;
        finish(&target, &file)?;
        Ok(Some(BackupFile { path, bytes, sha256: hex::encode(digest.finalize()) }))
    }
}

/// Bytes that must stay free at `destination` for the store in `directory` to go on, when both are on one disk.
pub fn kept_free(directory: &Path, destination: &Path, wanted_bytes: u64) -> Option<u64> {
    shares_disk(directory, destination).then_some(wanted_bytes)
}

/// Refuses a directory that has something in it.
pub(super) fn check_empty(directory: &Path) -> Result<(), StoreError> {
    match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(directory, &error)),
        // A file system has its own directory at its root.
        Ok(mut entries) => match entries.find(|entry| !entry.as_ref().is_ok_and(|it| it.file_name() == "lost+found")) {
            None => Ok(()),
            Some(_) => Err(StoreError::Invalid(format!(
                "{} is not empty: nothing is ever overwritten. Give a directory that is empty or not there",
                directory.display()
            ))),
        },
    }
}

fn digest_of(path: &Path) -> Result<(u64, String), StoreError> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            StoreError::Corrupt(format!("{} is missing. Use another backup", path.display()))
        }
        _ => failed(path, &error),
    })?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut chunk).map_err(|error| failed(path, &error))?;
        if count == 0 {
            return Ok((bytes, hex::encode(digest.finalize())));
        }
        digest.update(&chunk[..count]);
        bytes += count as u64;
    }
}

pub(super) fn create(path: &Path) -> Result<File, StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(directory) = path.parent() {
        create_private_directory(directory).map_err(|error| failed(directory, &error))?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).map_err(|error| failed(path, &error))
}

pub(super) fn finish(path: &Path, file: &File) -> Result<(), StoreError> {
    file.sync_all().and_then(|()| sync_parent_of(path)).map_err(|error| failed(path, &error))
}

fn length_of(files: &dyn Files, path: &str) -> Result<u64, StoreError> {
    files.open(path).and_then(|handle| handle.length()).map_err(|error| failed(Path::new(path), &error))
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Io { context: path.display().to_string(), message: error.to_string() }
}
