//! Exports for the operator: a file that is exact by itself, so that a store can be made of it (see `import`), from a
//! store that is open or from one that nobody has open.
//!
//! What `dump` writes of a running store is fuzzy: it takes a while, and rows change meanwhile. It is written to a file
//! of its own first; then what the journal says of that while is put over it. The result has everything up to one
//! sequence and nothing behind it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::time::Timestamp;
use crate::random::Random;
use crate::storage::backup::{failed, finish};
use crate::storage::backup_room::shares_disk;
use crate::storage::dump::{PAGE_ROWS, dump};
use crate::storage::engine::{Engine, INDEX, take_lock};
use crate::storage::export::{ExportHeader, ExportReader, ExportSummary, ExportWriter};
use crate::storage::files::{DiskFiles, Files, create_private_directory, sync_parent_of};
use crate::storage::held::HeldFile;
use crate::storage::overlay::Entry;
use crate::storage::places::{check_is_store, check_outside};
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

/// On the store's own disk an export must not take what work needs.
const NO_ROOM: StoreError = StoreError::Overloaded(
    "the disk of the data directory has no room for an export beside what is kept free for work; write it to another disk",
);

/// Asked now and then while rows are written: false to give up. It may rest.
pub type GoOn<'a> = &'a mut dyn FnMut() -> bool;

/// Exports the store in `directory`, which nobody may have open, into a file that is not there yet. The store is recovered
/// as at a start: a torn tail is cut off, and an index that is of no use is rebuilt. `go_on` is asked after each page of
/// rows.
///
/// # Errors
/// [`StoreError::Io`] when somebody has the directory open or something can't be read or written,
/// [`StoreError::Invalid`] when there is no store, the file is there or in the data directory, or the store is held,
/// [`StoreError::Corrupt`] when it is damaged.
pub fn export_directory(
    directory: &Path,
    (cache_bytes, overlay_bytes_max): (u64, u64),
    target: &Path,
    now: Timestamp,
    go_on: GoOn<'_>,
) -> Result<ExportSummary, StoreError> {
    check_is_store(directory)?;
    check_target(directory, target)?;
    let _lock = take_lock(directory)?;
    check_not_held(directory)?;
    let files: Arc<dyn Files> = Arc::new(DiskFiles::new(directory));
    // The time of the last commit and not of this moment: a store that is made of the export is held from then on.
    let made_at = last_frame(&*files)?.and_then(|last| last.at).unwrap_or(now);
    let home = SledHome::new(directory.join(INDEX), cache_bytes);
    let recovered = recover(&files, &home, overlay_bytes_max)?;
    let written = write_file(target, |sink| {
        let dumped = dump(&recovered.view, made_at, sink, go_on)?;
        dumped.ok_or_else(given_up)
    });
    recovered.view.index().close();
    written
}

/// Exports a store that is in use into a file that is not there yet. Takes room for two such files; on the disk of the data
/// directory what is kept back for work must stay free. `go_on` is asked after each page of rows.
///
/// # Errors
/// As for [`export_directory`]; [`StoreError::Overloaded`] when too much is committed meanwhile or there is too
/// little room, [`StoreError::Invalid`] when `go_on` said no.
pub fn export_running(
    engine: &Engine,
    directory: &Path,
    target: &Path,
    now: Timestamp,
    go_on: GoOn<'_>,
) -> Result<ExportSummary, StoreError> {
    check_target(directory, target)?;
    check_not_held(directory)?;
    let shares_disk = shares_disk(directory, target);
    let has_room = || !shares_disk || engine.has_room_beyond_ballast();
    if !has_room() {
        return Err(NO_ROOM);
    }
    // What changes meanwhile is read from the journal.
    let _hold = engine.hold_journal();
    let written_before = engine.health().journal_bytes_written;
    let is_too_much = || engine.health().journal_bytes_written.saturating_sub(written_before) > CHANGES_BYTES_MAX;
    let mut refusal = None;
    let mut look_and_go_on = || {
        refusal = if is_too_much() {
            Some(StoreError::Overloaded("too much changes while it is exported; make a backup instead"))
        } else if !has_room() {
            Some(NO_ROOM)
        } else {
            (!go_on()).then(given_up)
        };
        refusal.is_none()
    };
    let dumped =
        write_temporary(target, "fuzzy", |sink| engine.export(sink, now, &mut look_and_go_on)?.ok_or_else(given_up));
    let (summary, fuzzy) = match refusal {
        Some(refusal) => return Err(refusal),
        None => dumped?,
    };
    let (from, until) = (summary.header.from, summary.until);
    let changes = reread(&DiskFiles::read_only(directory), from, until)?;
    let header = ExportHeader { from: until, made_at: now };
    write_file(target, |sink| put_over(&fuzzy.path, changes, header, sink, &has_room))
}

fn given_up() -> StoreError {
    StoreError::Invalid("the export was given up".to_owned())
}

/// Writes the rows of an export with changes over them: the newest of each key up to `header.from`.
fn put_over<W: Write>(
    fuzzy: &Path,
    changes: BTreeMap<Vec<u8>, Entry>,
    header: ExportHeader,
    sink: W,
    has_room: &dyn Fn() -> bool,
) -> Result<(ExportSummary, W), StoreError> {
    let failed =
        |error: std::io::Error| StoreError::Io { context: "writing an export".to_owned(), message: error.to_string() };
    let mut reader = ExportReader::open(fuzzy)?;
    let mut writer = ExportWriter::new(sink, header).map_err(failed)?;
    let mut rows = 0;
    let mut put = |key: Vec<u8>, entry: &Entry| {
        let Some(versioned) = entry.versioned() else { return Ok(()) };
        rows += 1;
        if rows % PAGE_ROWS == 0 && !has_room() {
            return Err(NO_ROOM);
        }
        writer.row(&Row { key, versioned }).map_err(failed)
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
    let (summary, temporary) = write_temporary(target, "tmp", write)?;
    temporary.rename(target).map(|()| summary)
}

/// Writes a file beside `target` and reads it back.
fn write_temporary(
    target: &Path,
    ending: &str,
    write: impl FnOnce(BufWriter<File>) -> Result<(ExportSummary, BufWriter<File>), StoreError>,
) -> Result<(ExportSummary, Temporary), StoreError> {
    let (temporary, file) = Temporary::create(target, ending)?;
    let (summary, sink) = write(BufWriter::with_capacity(CHUNK_BYTES, file))?;
    let path = &temporary.path;
    let file = sink.into_inner().map_err(|error| failed(path, error.error()))?;
    finish(path, &file)?;
    if ExportReader::open(path)?.verify()? != summary {
        return Err(StoreError::Corrupt(format!("{} does not read back as it was written", path.display())));
    }
    Ok((summary, temporary))
}

/// A file that nobody else has made, beside what it is to become. Half an export only takes room: it goes with this.
struct Temporary {
    path: PathBuf,
    is_renamed: bool,
}

impl Temporary {
    fn create(target: &Path, ending: &str) -> Result<(Self, File), StoreError> {
        let directory = target.parent().unwrap_or(Path::new(""));
        create_private_directory(directory).map_err(|error| failed(directory, &error))?;
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:016x}.{ending}", Random::from_os().draw_u64()));
        let path = target.with_file_name(name);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed(&path, &error))?;
        Ok((Self { path, is_renamed: false }, file))
    }

    fn rename(mut self, target: &Path) -> Result<(), StoreError> {
        std::fs::rename(&self.path, target).map_err(|error| failed(target, &error))?;
        self.is_renamed = true;
        sync_parent_of(target).map_err(|error| failed(target, &error))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_renamed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Refuses a file that is there, or would be in the data directory.
fn check_target(directory: &Path, target: &Path) -> Result<(), StoreError> {
    check_outside(directory, target)?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

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
        let (summary, bytes) = put_over(&path, changes, header, Vec::new(), &|| true).unwrap();
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
        // What is called as a temporary file once was is somebody's.
        let others = ["x.tgx.tmp", "x.tgx.fuzzy"].map(|name| directory.path().join(name));
        others.iter().for_each(|other| std::fs::write(other, b"x").unwrap());
        finish(Path::new("x.tgx"), &File::open(directory.path()).unwrap()).unwrap();
        let refused = write_file(&path, |_| Err(StoreError::Overloaded("no")));
        assert_eq!(refused, Err(StoreError::Overloaded("no")));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        let data = directory.path().join("data");
        check_target(&data, &path).unwrap();
        write_file(&path, |sink| Ok(ExportWriter::new(sink, HEADER).unwrap().finish(3).unwrap())).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        others.iter().for_each(|other| assert_eq!(std::fs::read(other).unwrap(), b"x"));
        assert!(matches!(check_target(&data, &path), Err(StoreError::Invalid(_))));
    }

    #[test]
    fn what_has_no_room_for_its_second_half_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tgx");
        let rows: Vec<Row> = (0..300).map(|number| row(&format!("{number:03}"), 1)).collect();
        write_file(&path, |sink| {
            let mut writer = ExportWriter::new(sink, HEADER).unwrap();
            rows.iter().for_each(|row| writer.row(row).unwrap());
            Ok(writer.finish(3).unwrap())
        })
        .unwrap();
        let looks = std::cell::Cell::new(0);
        let has_room = || {
            looks.set(looks.get() + 1);
            looks.get() < 2
        };
        let target = directory.path().join("y.tgx");
        let refused = write_file(&target, |sink| put_over(&path, BTreeMap::new(), HEADER, sink, &has_room));
        assert_eq!((refused, looks.get()), (Err(NO_ROOM), 2));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "it takes no room any more");
    }
}
