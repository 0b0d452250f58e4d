//! Makes a data directory from an export; see `new_directory`. It is verified before it gets its place. The
//! export becomes its base, and its journal begins behind it with the mark of a clean stop. It is *held*: an export is a
//! point in time that may be long ago. The index is made when it is opened.

use std::path::Path;

use crate::domain::audit::{AuditHead, ChainProblem};
use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::storage::StoreError;
use crate::storage::backup::{OnProgress, failed};
use crate::storage::base;
use crate::storage::export::ExportSummary;
use crate::storage::files::DiskFiles;
use crate::storage::format;
use crate::storage::held::{Held, HeldFile};
use crate::storage::new_directory::{IMPORTING, NewDirectory, check_free};
use crate::storage::restore::copy_file;
use crate::storage::segments;
use crate::storage::verify;

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What the export is.
    pub summary: ExportSummary,
    /// The end of the audit's chain, or what is wrong with it.
    pub audit: Result<AuditHead, ChainProblem>,
}

/// Imports an export into `directory`, which must be empty or not there.
///
/// # Errors
/// [`StoreError::Invalid`] when the directory is not empty or the export is none of a single moment,
/// [`StoreError::Corrupt`] when it is damaged or of a newer format, [`StoreError::Io`].
pub fn import(
    export: &Path,
    directory: &Path,
    now: Timestamp,
    random: &Random,
    on_progress: OnProgress<'_>,
) -> Result<Imported, StoreError> {
    check_free(directory)?;
    let summary = verify::export(export, None, on_progress)?.summary;
    if summary.header.from != summary.until {
        return Err(StoreError::Invalid(format!(
            "{} was written while its store changed (sequences {} to {}) and is exact only together with the journal of \
             that store: use a file of `tollgate store export`, or restore a backup",
            export.display(),
            summary.header.from,
            summary.until
        )));
    }
    let new = NewDirectory::begin(directory, IMPORTING)?;
    let audit = fill(new.place(), export, &summary, now, random)?;
    new.finish()?;
    Ok(Imported { summary, audit })
}

fn fill(
    beside: &Path,
    export: &Path,
    summary: &ExportSummary,
    now: Timestamp,
    random: &Random,
) -> Result<Result<AuditHead, ChainProblem>, StoreError> {
    let files = DiskFiles::new(beside);
    let from = summary.header.from;
    let path = base::path_of(from);
    copy_file(export, &beside.join(&path))?;
    if base::look_through(&files, from, &mut |_| {})? != *summary {
        return Err(StoreError::Corrupt(format!("{path} does not read back as it was in {}", export.display())));
    }
    base::note(&files, &base::Base::of(summary))?;
    let begun = segments::create_sealed(&files, from + 1, now, random);
    begun.map_err(|error| failed(&beside.join(segments::DIRECTORY), &error))?;
    format::check(&files)?;
    let held = Held {
        restored_until_sequence: summary.until,
        restored_until_time: summary.header.made_at,
        since: Some(summary.header.made_at.min(now)),
        made_at: now,
        confirmed: std::collections::BTreeMap::new(),
    };
    HeldFile::of(beside).write(&held)?;
    Ok(verify::directory(beside, None, &mut |_| {})?.audit)
}
