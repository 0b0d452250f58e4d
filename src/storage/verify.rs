//! Looks whether a store that nobody has open is whole, and changes nothing: its format, the base, every frame of the
//! journal and how they follow each other, the checkpoint, the mark of a restore, and the audit's chain. The index is not
//! looked at: it can be rebuilt from the others.

use std::path::Path;

use crate::domain::audit::{Anchor, AuditHead, ChainProblem};
use crate::storage::audit_rows::AuditRows;
use crate::storage::backup::{OnProgress, Progress, failed};
use crate::storage::base;
use crate::storage::checkpoint::{self, CHECKPOINT, Checkpoint};
use crate::storage::engine::{INDEX, LOCK, take_lock_if_there};
use crate::storage::export::{ExportReader, ExportSummary};
use crate::storage::files::{DiskFiles, Files};
use crate::storage::format;
use crate::storage::held::{HELD, Held, HeldFile};
use crate::storage::reached::{self, REACHED};
use crate::storage::replay::{self, ReplayRange};
use crate::storage::segment_reader::damaged;
use crate::storage::segments;
use crate::storage::{ABSENT, StoreError};

/// A data directory that was read and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedDirectory {
    /// First sequence of the journal; `None` without a segment.
    pub journal_first: Option<u64>,
    /// Segments of the journal.
    pub segments: u64,
    /// Last sequence of the journal.
    pub last_sequence: u64,
    /// Sequence that the base begins from, if there is one.
    pub base_from: Option<u64>,
    /// The file, and where in it a torn tail begins: what a crash left of a frame that was never acknowledged. The next
    /// start cuts it off.
    pub torn: Option<(String, u64)>,
    /// The mark of a restore or an import.
    pub held: Option<Held>,
    /// The end of the audit's chain, or what is wrong with it.
    pub audit: Result<AuditHead, ChainProblem>,
}

/// Whether a directory is one that a gateway could open, rather than a backup.
pub fn is_data_directory(directory: &Path) -> bool {
    let marks = [format::FORMAT_FILE, CHECKPOINT, LOCK, INDEX, HELD];
    marks.iter().any(|name| directory.join(name).exists())
}

/// Reads a whole data directory. The audit's chain is checked against an anchor if there is one.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is damaged, of a newer format, or not complete; [`StoreError::Io`], also when somebody
/// has it open.
pub fn directory(
    directory: &Path,
    anchor: Option<Anchor>,
    on_progress: OnProgress<'_>,
) -> Result<VerifiedDirectory, StoreError> {
    let _lock = take_lock_if_there(directory)?;
    let held = HeldFile::of(directory).read()?;
    let found = files(&DiskFiles::read_only(directory), anchor, on_progress)?;
    Ok(VerifiedDirectory { held, ..found })
}

/// The same for a store on any files, without the mark of a restore.
///
/// # Errors
/// As for [`directory`].
pub(super) fn files(
    files: &dyn Files,
    anchor: Option<Anchor>,
    on_progress: OnProgress<'_>,
) -> Result<VerifiedDirectory, StoreError> {
    format::look(files)?;
    let checkpoint = checkpoint::read(files).map_err(|error| failed(Path::new(CHECKPOINT), &error))?;
    let checkpointed = match checkpoint {
        Checkpoint::At(sequence) => sequence,
        Checkpoint::Missing => 0,
        Checkpoint::Damaged => {
            return Err(damaged(CHECKPOINT, 0, "it is damaged. The next start rebuilds the index without it"));
        }
    };
    reached::check(files)?;
    let reached = reached::read(files).map_err(|error| failed(Path::new(REACHED), &error))?;
    let mut audit = AuditRows::default();
    let base = look_at_bases(files, &mut audit)?;
    let base_from = base.map_or(0, |summary| summary.header.from);
    let sizes = sizes(files)?;
    let journal_first = sizes.first().map(|(first, _)| *first);
    if let Some(first) = journal_first.filter(|first| *first > base_from + 1) {
        return Err(StoreError::Corrupt(format!(
            "sequences {} to {} are neither in a base export nor in the journal: put the missing files of {}/ or {}/ back, \
             or restore the data directory from a backup",
            base_from + 1,
            first - 1,
            base::DIRECTORY,
            segments::DIRECTORY
        )));
    }
    let base_bytes = base.map_or(0, |summary| summary.bytes);
    let mut progress = JournalProgress::new(sizes.clone(), base_bytes, on_progress);
    let range = ReplayRange {
        after: journal_first.unwrap_or(1) - 1,
        durable: checkpointed.max(base.map_or(0, |summary| summary.until)).max(reached.durable),
        last_segment: reached.segment,
    };
    let looked = replay::look_through(files, range, &mut |changes, last_sequence| {
        audit.take_changes(changes, base_from);
        progress.reached(last_sequence);
        Ok(())
    })?;
    progress.reached(u64::MAX);
    Ok(VerifiedDirectory {
        journal_first,
        segments: sizes.len() as u64,
        last_sequence: looked.end.last_sequence,
        base_from: base.map(|summary| summary.header.from),
        torn: looked.torn,
        held: None,
        audit: audit.check(anchor),
    })
}

/// Reads all bases that are there; gives the one that counts, whose rows the audit takes.
fn look_at_bases(files: &dyn Files, audit: &mut AuditRows) -> Result<Option<ExportSummary>, StoreError> {
    base::check_fact(files)?;
    let base = base::find(files)?;
    // Where no file says which one counts, those that are damaged were passed over.
    let all = base::list(files).map_err(|error| failed(Path::new(base::DIRECTORY), &error))?;
    for from in all.into_iter().filter(|from| base.is_none_or(|base| base.from != *from)) {
        base::verify(files, from)?;
    }
    let Some(base) = base else { return Ok(None) };
    let summary = base::look_through(files, base.from, &mut |row| audit.take_row(row))?;
    if (summary.until, summary.bytes) != (base.until, base.bytes) {
        return Err(damaged(&base::path_of(base.from), 0, "it is another than the file BASE says"));
    }
    Ok(Some(summary))
}

/// The first sequences of all segments, and their bytes.
fn sizes(files: &dyn Files) -> Result<Vec<(u64, u64)>, StoreError> {
    let all = segments::list(files).map_err(|error| failed(Path::new(segments::DIRECTORY), &error))?;
    let size = |first: u64| {
        let path = segments::path_of(first);
        let length = files.open(&path).and_then(|handle| handle.length());
        length.map(|length| (first, length)).map_err(|error| failed(Path::new(&path), &error))
    };
    all.into_iter().map(size).collect()
}

/// Tells how many bytes of segments are behind a sequence.
struct JournalProgress<'a> {
    segments: std::iter::Peekable<std::vec::IntoIter<(u64, u64)>>,
    /// Of the segment that is being read.
    bytes: u64,
    progress: Progress,
    on_progress: OnProgress<'a>,
}

impl<'a> JournalProgress<'a> {
    fn new(segments: Vec<(u64, u64)>, base_bytes: u64, on_progress: OnProgress<'a>) -> Self {
        let bytes_total = base_bytes + segments.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let progress = Progress { bytes: base_bytes, bytes_total };
        on_progress(progress);
        Self { segments: segments.into_iter().peekable(), bytes: 0, progress, on_progress }
    }

    fn reached(&mut self, sequence: u64) {
        let mut has_moved = false;
        while let Some((_, bytes)) = self.segments.next_if(|(first, _)| *first <= sequence) {
            self.progress.bytes += std::mem::replace(&mut self.bytes, bytes);
            has_moved = true;
        }
        if sequence == u64::MAX {
            self.progress.bytes += std::mem::take(&mut self.bytes);
            has_moved = true;
        }
        if has_moved {
            (self.on_progress)(self.progress);
        }
    }
}

/// An export that was read and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedExport {
    /// What it is.
    pub summary: ExportSummary,
    /// The end of the audit's chain, or what is wrong with it.
    pub audit: Result<AuditHead, ChainProblem>,
}

/// Reads a whole export. The audit's chain is checked against an anchor if there is one.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is damaged or of a newer format, [`StoreError::Io`].
pub fn export(path: &Path, anchor: Option<Anchor>, on_progress: OnProgress<'_>) -> Result<VerifiedExport, StoreError> {
    let bytes_total = std::fs::metadata(path).map_err(|error| failed(path, &error))?.len();
    let mut reader = ExportReader::open(path)?;
    let mut audit = AuditRows::default();
    let (mut smallest, mut largest) = (u64::MAX, 0);
    while let Some(row) = reader.next_row()? {
        (smallest, largest) = (smallest.min(row.versioned.revision), largest.max(row.versioned.revision));
        audit.take_row(row);
        on_progress(Progress { bytes: reader.offset(), bytes_total });
    }
    let summary = reader.verify()?;
    // Revisions that no commit had, or that commits to come will have once more.
    if smallest == ABSENT || largest > summary.until {
        return Err(StoreError::Corrupt(format!(
            "the rows of {} have revisions from {smallest} to {largest}, and an export up to sequence {} has some from 1 to \
             that only",
            path.display(),
            summary.until
        )));
    }
    Ok(VerifiedExport { summary, audit: audit.check(anchor) })
}
