//! Exports for the operator: a file that is exact by itself, so that a store can be made of it (see `import`), from a
//! store that is open or from one that nobody has open.
//!
//! What `dump` writes of a running store is fuzzy: it takes a while, and rows change meanwhile. It is written to a file
//! of its own first; then what the journal says of that while is put over it. The result has everything up to one
//! sequence and nothing behind it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::time::Timestamp;
use crate::storage::backup::{create, failed, finish};
use crate::storage::dump::dump;
use crate::storage::engine::{Engine, INDEX, take_lock};
use crate::storage::export::{ExportHeader, ExportReader, ExportSummary, ExportWriter};
use crate::storage::files::{DiskFiles, Files, sync_parent_of};
use crate::storage::held::HeldFile;
use crate::storage::overlay::Entry;
use crate::storage::recovery::recover;
use crate::storage::reread::reread;
use crate::storage::segment_reader::last_frame;
use crate::storage::sled_index::SledHome;
use crate::storage::{Row, Store, StoreError};

/// Bytes that may be committed while an export is made of a running store: they are held in memory until they are put
/// over it.
const CHANGES_BYTES_MAX: u64 = 256 << 20;
/// Bytes written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Asked now and then while rows are written: false to give up. It may rest.
pub type GoOn<'a> = &'a mut dyn FnMut() -> bool;

/// Exports the store in `directory`, which nobody may have open, into a file that is not there yet. The store is recovered
/// as at a start: a torn tail is cut off, and an index that is of no use is rebuilt. `go_on` is asked after each page of
/// rows.
///
/// # Errors
/// [`StoreError::Io`] when somebody has the directory open or something can't be read or written,
/// [`StoreError::Invalid`] when the file is there or the store is held, [`StoreError::Corrupt`] when it is damaged.
pub fn export_directory(
    directory: &Path,
    (cache_bytes, overlay_bytes_max): (u64, u64),
    target: &Path,
    now: Timestamp,
    go_on: GoOn<'_>,
) -> Result<ExportSummary, StoreError> {
    let _lock = take_lock(directory)?;
    check_target(target)?;
    check_not_held(directory)?;
    let files: Arc<dyn Files> = Arc::new(DiskFiles::new(directory));
    // The time of the last commit and not of this moment: a store that is made of the export is held from then on.
    let made_at = last_frame(&*files)?.and_then(|last| last.at).unwrap_or(now);
    let home = SledHome::new(directory.join(INDEX), cache_bytes);
    let recovered = recover(&files, &home, overlay_bytes_max)?;
    let written = write_file(target, |sink| {
        let dumped = dump(&recovered.view, made_at, sink, go_on)?;
        dumped.ok_or_else(|| StoreError::Invalid("the export was given up".to_owned()))
    });
    recovered.view.index().close();
    written
}

/// Exports a store that is in use into a file that is not there yet. Takes room for two such files. `go_on` is asked after
/// each page of rows.
///
/// # Errors
/// As for [`export_directory`]; [`StoreError::Overloaded`] when too much is committed meanwhile,
/// [`StoreError::Invalid`] when `go_on` said no.
pub fn export_running(
    engine: &Engine,
    directory: &Path,
    target: &Path,
    now: Timestamp,
    go_on: GoOn<'_>,
) -> Result<ExportSummary, StoreError> {
    check_target(target)?;
    check_not_held(directory)?;
    // What changes meanwhile is read from the journal.
    let _hold = engine.hold_journal();
    let fuzzy_path = with_ending(target, ".fuzzy");
    let exported = write_exact(engine, directory, target, &fuzzy_path, now, go_on);
    let _ = std::fs::remove_file(&fuzzy_path);
    exported
}

fn write_exact(
    engine: &Engine,
    directory: &Path,
    target: &Path,
    fuzzy_path: &Path,
    now: Timestamp,
    go_on: GoOn<'_>,
) -> Result<ExportSummary, StoreError> {
    let written_before = engine.health().journal_bytes_written;
    let is_too_much = || engine.health().journal_bytes_written.saturating_sub(written_before) > CHANGES_BYTES_MAX;
    let fuzzy = write_file(fuzzy_path, |sink| {
        let dumped = engine.export(sink, now, &mut || !is_too_much() && go_on())?;
        dumped.ok_or_else(|| match is_too_much() {
            true => StoreError::Overloaded("too much changes while it is exported; make a backup instead"),
            false => StoreError::Invalid("the export was given up".to_owned()),
        })
    })?;
    let (from, until) = (fuzzy.header.from, fuzzy.until);
    let changes = reread(&DiskFiles::read_only(directory), from, until)?;
    write_file(target, |sink| put_over(fuzzy_path, changes, ExportHeader { from: until, made_at: now }, sink))
}

/// Writes the rows of an export with changes over them: the newest of each key up to `header.from`.
fn put_over<W: Write>(
    fuzzy: &Path,
    changes: BTreeMap<Vec<u8>, Entry>,
    header: ExportHeader,
    sink: W,
) -> Result<(ExportSummary, W), StoreError> {
    let failed =
        |error: std::io::Error| StoreError::Io { context: "writing an export".to_owned(), message: error.to_string() };
    let mut reader = ExportReader::open(fuzzy)?;
    let mut writer = ExportWriter::new(sink, header).map_err(failed)?;
    let mut put = |key: Vec<u8>, entry: &Entry| match entry.versioned() {
        Some(versioned) => writer.row(&Row { key, versioned }).map_err(failed),
        None => Ok(()),
    };
    let mut changes = changes.into_iter().peekable();
    while let Some(Row { key, versioned }) = reader.next_row()? {
        while let Some((changed, entry)) = changes.next_if(|(changed, _)| *changed < key) {
            put(changed, &entry)?;
        }
        let entry = match changes.next_if(|(changed, _)| *changed == key) {
            Some((_, entry)) => entry,
            None => Entry::from_versioned(versioned),
        };
        put(key, &entry)?;
    }
    for (changed, entry) in changes {
        put(changed, &entry)?;
    }
    writer.finish(header.from).map_err(failed)
}

/// Writes a file beside its place, reads it back, and gives it its name.
fn write_file(
    target: &Path,
    write: impl FnOnce(BufWriter<File>) -> Result<(ExportSummary, BufWriter<File>), StoreError>,
) -> Result<ExportSummary, StoreError> {
    let temporary = with_ending(target, ".tmp");
    let written = write_beside(&temporary, write);
    let named = written.and_then(|summary| {
        let named = std::fs::rename(&temporary, target).and_then(|()| sync_parent_of(target));
        named.map(|()| summary).map_err(|error| failed(target, &error))
    });
    if named.is_err() {
        // Half an export only takes room.
        let _ = std::fs::remove_file(&temporary);
    }
    named
}

fn write_beside(
    temporary: &Path,
    write: impl FnOnce(BufWriter<File>) -> Result<(ExportSummary, BufWriter<File>), StoreError>,
) -> Result<ExportSummary, StoreError> {
    let sink = BufWriter::with_capacity(CHUNK_BYTES, create(temporary)?);
    let (summary, sink) = write(sink)?;
    let file = sink.into_inner().map_err(|error| failed(temporary, error.error()))?;
    finish(temporary, &file)?;
    if ExportReader::open(temporary)?.verify()? != summary {
        return Err(StoreError::Corrupt(format!("{} does not read back as it was written", temporary.display())));
    }
    Ok(summary)
}

/// Refuses a file that is there.
pub(super) fn check_target(target: &Path) -> Result<(), StoreError> {
    match std::fs::symlink_metadata(target) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(target, &error)),
        Ok(_) => Err(StoreError::Invalid(format!(
            "{} is there: nothing is ever overwritten. Give a file that is not there",
            target.display()
        ))),
    }
}

/// An export does not say since when its store is held, so that one of a held store would be held from too late.
fn check_not_held(directory: &Path) -> Result<(), StoreError> {
    match HeldFile::of(directory).read()? {
        None => Ok(()),
        Some(_) => Err(StoreError::Invalid(
            "the store is held after a restore, and an export does not say since when. End the hold first (`tollgate store \
             hold`), or make a backup, which does"
                .to_owned(),
        )),
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Versioned;
    use crate::storage::overlay::Change;

    const HEADER: ExportHeader = ExportHeader { from: 3, made_at: Timestamp::from_unix_s(1_737_715_200) };

    fn row(key: &str, revision: u64) -> Row {
        let value = Arc::from(format!("{key}{revision}").into_bytes());
        Row { key: key.as_bytes().to_vec(), versioned: Versioned { revision, value } }
    }

    fn change(key: &str, revision: u64, is_there: bool) -> (Vec<u8>, Entry) {
        let Row { key, versioned } = row(key, revision);
        Entry::from_change(Change { key, value: is_there.then_some(versioned.value), revision, absent_below: false })
    }

    #[test]
    fn what_changed_meanwhile_is_put_over_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tgx");
        let rows = [row("b", 1), row("c", 2), row("d", 5), row("e", 3), row("g", 3)];
        write_file(&path, |sink| {
            let mut writer = ExportWriter::new(sink, HEADER).unwrap();
            rows.iter().for_each(|row| writer.row(row).unwrap());
            Ok(writer.finish(7).unwrap())
        })
        .unwrap();
        // `d` was seen in between, `e` and `h` are gone, `a`, `f` and `i` came after they had been passed.
        let changes = [("a", 4, true), ("c", 6, true), ("d", 7, true), ("e", 5, false), ("f", 6, true)];
        let changes = changes.into_iter().chain([("h", 6, false), ("i", 7, true)]);
        let changes = changes.map(|(key, revision, is_there)| change(key, revision, is_there)).collect();
        let header = ExportHeader { from: 7, ..HEADER };
        let (summary, bytes) = put_over(&path, changes, header, Vec::new()).unwrap();
        assert_eq!((summary.header.from, summary.until), (7, 7));
        let mut reader = ExportReader::new(bytes.as_slice(), "x").unwrap();
        let expected = [("a", 4), ("b", 1), ("c", 6), ("d", 7), ("f", 6), ("g", 3), ("i", 7)];
        for (key, revision) in expected {
            assert_eq!(reader.next_row().unwrap(), Some(row(key, revision)));
        }
        assert_eq!(reader.next_row().unwrap(), None);
    }

    #[test]
    fn what_is_there_is_not_overwritten_and_what_failed_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tgx");
        let given_up = write_file(&path, |_| Err(StoreError::Overloaded("no")));
        assert_eq!(given_up, Err(StoreError::Overloaded("no")));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        check_target(&path).unwrap();
        std::fs::write(&path, b"x").unwrap();
        assert!(matches!(check_target(&path), Err(StoreError::Invalid(_))));
    }
}
