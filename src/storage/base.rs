//! Bases: exports of the store in its own directory, from which the index can be rebuilt without the journal before
//! them. Only what is in a base may leave the journal.
//!
//! A base is written beside its place, synced, read back and compared, and only then gets its name. The file `BASE` says
//! which one counts: `TGBASE01`, `from` (8), `until` (8), when it was made (8, milliseconds since 1970), bytes of the file
//! (8), xxh3-64 of all that (8).

use std::io::{self, BufReader, Read, Write};

use xxhash_rust::xxh3::xxh3_64;

use crate::domain::time::Timestamp;
use crate::storage::dump::dump;
use crate::storage::export::{ExportReader, ExportSummary};
use crate::storage::files::{FileHandle, Files, read_all};
use crate::storage::index::Index;
use crate::storage::overlay::{Change, Entry};
use crate::storage::view::View;
use crate::storage::{Row, StoreError};

/// The bases' directory.
pub const DIRECTORY: &str = "base";
/// The file that says which base counts.
pub const BASE: &str = "BASE";

const NEXT: &str = "base/next.tmp";
const NEXT_FACT: &str = "BASE.tmp";
const EXTENSION: &str = ".tgx";
const MAGIC: &[u8; 8] = b"TGBASE01";
const FACT_BYTES: usize = 48;
/// Rows that go to the index at once while it is rebuilt; see `applier`.
const CHUNK_ROWS: usize = 125;
/// Rows read between two rests while a base is checked in passing.
const CHECK_ROWS: u64 = 250;

/// Bytes of a new base that are made durable at once.
const SYNC_BYTES: usize = 16 << 20;

/// A base that was found whole when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Sequence up to which everything is in it.
    pub from: u64,
    /// Sequence that the journal must reach for the base and the journal after `from` to be exact.
    pub until: u64,
    /// When it was begun.
    pub made_at: Timestamp,
    /// Bytes of its file.
    pub bytes: u64,
}

impl Base {
    /// The base that an export is.
    pub fn of(summary: &ExportSummary) -> Self {
        let ExportSummary { header, until, bytes, .. } = *summary;
        Self { from: header.from, until, made_at: header.made_at, bytes }
    }
}

/// The path of the base that begins from this sequence.
pub fn path_of(from: u64) -> String {
    format!("{DIRECTORY}/{from:020}{EXTENSION}")
}

/// The base that counts, if there is one. Where `BASE` is missing or damaged that is the newest whose file is whole.
///
/// # Errors
/// When files can't be read.
pub fn find(files: &dyn Files) -> Result<Option<Base>, StoreError> {
    if let Some(base) = read_fact(files).map_err(|error| io_error(BASE, &error))? {
        return Ok(Some(base));
    }
    let mut all = list(files).map_err(|error| io_error(DIRECTORY, &error))?;
    while let Some(from) = all.pop() {
        match verify(files, from) {
            Ok(base) => return Ok(Some(base)),
            Err(error @ StoreError::Io { .. }) => return Err(error),
            Err(error) => tracing::warn!(%error, "a base that can't be used is passed over"),
        }
    }
    Ok(None)
}

/// Refuses a file `BASE` that is there and can't be understood. Opening does without it; who looks for damage does not.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is damaged, [`StoreError::Io`].
pub fn check_fact(files: &dyn Files) -> Result<(), StoreError> {
    let is_there = match files.open(BASE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        handle => handle.map(|_| true).map_err(|error| io_error(BASE, &error))?,
    };
    match read_fact(files).map_err(|error| io_error(BASE, &error))? {
        None if is_there => Err(StoreError::Corrupt(format!(
            "{BASE} at byte 0: it is damaged. The next start finds the base export without it"
        ))),
        _ => Ok(()),
    }
}

/// Hands every row of a base over in order, and answers what the whole is.
///
/// # Errors
/// As for [`verify`].
pub fn look_through(files: &dyn Files, from: u64, visit: &mut dyn FnMut(Row)) -> Result<ExportSummary, StoreError> {
    let mut reader = read(files, &path_of(from))?;
    while let Some(row) = reader.next_row()? {
        visit(row);
    }
    let summary = reader.verify()?;
    if summary.header.from != from {
        return Err(holds_another(from));
    }
    Ok(summary)
}

/// Reads a whole base and answers what it is.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is damaged, [`StoreError::Io`] when it can't be read.
pub fn verify(files: &dyn Files, from: u64) -> Result<Base, StoreError> {
    look_through(files, from, &mut |_| {}).map(|summary| Base::of(&summary))
}

/// The same with rests: `go_on` is asked now and then and may rest; `None` when it said no.
///
/// # Errors
/// As for [`verify`].
pub fn check(files: &dyn Files, from: u64, go_on: &mut dyn FnMut() -> bool) -> Result<Option<Base>, StoreError> {
    match read_through(files, &path_of(from), go_on)? {
        Some(summary) if summary.header.from != from => Err(holds_another(from)),
        summary => Ok(summary.map(|summary| Base::of(&summary))),
    }
}

/// Reads a whole export, with rests; `None` when `go_on` said no.
fn read_through(
    files: &dyn Files,
    path: &str,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<ExportSummary>, StoreError> {
    let mut reader = read(files, path)?;
    let mut rows: u64 = 0;
    while reader.next_row()?.is_some() {
        rows += 1;
        if rows.is_multiple_of(CHECK_ROWS) && !go_on() {
            return Ok(None);
        }
    }
    reader.verify().map(Some)
}

/// Says in `BASE` that this base counts; its file must have been found whole.
///
/// # Errors
/// When it can't be written; what was said before counts then.
pub fn note(files: &dyn Files, base: &Base) -> Result<(), StoreError> {
    write_fact(files, base).map_err(|error| io_error(BASE, &error))
}

/// Makes a base of what readers see; from then on it counts. `go_on` is asked after each page of rows that was written or
/// read back, and may rest; `None` when it said no.
///
/// # Errors
/// When it can't be written or read back; what was there before counts then.
pub fn make(
    files: &dyn Files,
    view: &View,
    made_at: Timestamp,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Base>, StoreError> {
    let made = write_new(files, view, made_at, go_on);
    if !matches!(made, Ok(Some(_))) {
        // Half a base only takes room.
        let _ = files.remove(NEXT);
    }
    made
}

/// Removes the bases before the one that counts. Nobody may be about to copy one of them.
///
/// # Errors
/// When they can't be listed or removed.
pub fn remove_older(files: &dyn Files, base: &Base) -> Result<(), StoreError> {
    let all = list(files).map_err(|error| io_error(DIRECTORY, &error))?;
    let older: Vec<u64> = all.into_iter().filter(|from| *from < base.from).collect();
    if older.is_empty() {
        return Ok(());
    }
    for from in older {
        files.remove(&path_of(from)).map_err(|error| io_error(&path_of(from), &error))?;
    }
    files.sync_directory(DIRECTORY).map_err(|error| io_error(DIRECTORY, &error))
}

fn write_new(
    files: &dyn Files,
    view: &View,
    made_at: Timestamp,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Base>, StoreError> {
    let prepared = files.create_directory(DIRECTORY).and_then(|()| files.sync_directory(""));
    prepared.map_err(|error| io_error(DIRECTORY, &error))?;
    let handle = files.create(NEXT).map_err(|error| io_error(NEXT, &error))?;
    let Some((written, sink)) = dump(view, made_at, Sequential::new(handle), go_on)? else { return Ok(None) };
    sink.handle.sync_data().map_err(|error| io_error(NEXT, &error))?;
    drop(sink);
    let Some(read_back) = read_through(files, NEXT, go_on)? else { return Ok(None) };
    if read_back != written {
        return Err(StoreError::Corrupt(format!("{NEXT} does not read back as it was written")));
    }
    let base = Base::of(&written);
    let named = files
        .rename(NEXT, &path_of(base.from))
        .and_then(|()| files.sync_directory(DIRECTORY))
        .and_then(|()| write_fact(files, &base));
    named.map_err(|error| io_error(&path_of(base.from), &error))?;
    Ok(Some(base))
}

/// Fills a new index with a base's rows. The base is verified on the way; after an error the index is of no use.
///
/// # Errors
/// When the base is damaged or can't be read, and what the index says.
pub fn load(files: &dyn Files, base: &Base, index: &dyn Index) -> Result<(), StoreError> {
    let mut reader = read(files, &path_of(base.from))?;
    let mut chunk: Vec<(Vec<u8>, Entry)> = Vec::with_capacity(CHUNK_ROWS);
    while let Some(Row { key, versioned }) = reader.next_row()? {
        let (value, revision) = (Some(versioned.value), versioned.revision);
        chunk.push(Entry::from_change(Change { key, value, revision, absent_below: false }));
        if chunk.len() == CHUNK_ROWS {
            apply(index, &chunk, None)?;
            chunk.clear();
        }
    }
    apply(index, &chunk, Some(base.from))
}

fn apply(index: &dyn Index, chunk: &[(Vec<u8>, Entry)], applied: Option<u64>) -> Result<(), StoreError> {
    let changes: Vec<(&Vec<u8>, &Entry)> = chunk.iter().map(|(key, entry)| (key, entry)).collect();
    index.apply(&changes, applied).map_err(StoreError::from)
}

/// The sequences that all bases begin from, in order.
///
/// # Errors
/// When the directory can't be read.
pub fn list(files: &dyn Files) -> io::Result<Vec<u64>> {
    let names = match files.list(DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    Ok(names.iter().filter_map(|name| name.strip_suffix(EXTENSION)?.parse().ok()).collect())
}

fn read(files: &dyn Files, path: &str) -> Result<ExportReader<BufReader<Sequential>>, StoreError> {
    let handle = files.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::Corrupt(format!("the base export {path} is not there")),
        _ => io_error(path, &error),
    })?;
    ExportReader::new(BufReader::with_capacity(256 << 10, Sequential::new(handle)), path)
}

fn read_fact(files: &dyn Files) -> io::Result<Option<Base>> {
    let handle = match files.open(BASE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        handle => handle?,
    };
    let bytes = read_all(&*handle)?;
    let field = |offset: usize| Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?));
    let base = || {
        let made_at = Timestamp::from_unix_ms(i64::try_from(field(24)?).ok()?);
        Some(Base { from: field(8)?, until: field(16)?, made_at, bytes: field(32)? })
    };
    Ok(base().filter(|base| encode_fact(base) == *bytes))
}

fn write_fact(files: &dyn Files, base: &Base) -> io::Result<()> {
    let handle = files.create(NEXT_FACT)?;
    handle.write_at(0, &encode_fact(base))?;
    handle.set_length(FACT_BYTES as u64)?;
    handle.sync_data()?;
    files.rename(NEXT_FACT, BASE)?;
    files.sync_directory("")
}

fn encode_fact(base: &Base) -> [u8; FACT_BYTES] {
    let mut bytes = [0; FACT_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&base.from.to_le_bytes());
    bytes[16..24].copy_from_slice(&base.until.to_le_bytes());
    bytes[24..32].copy_from_slice(&u64::try_from(base.made_at.unix_ms()).unwrap_or(0).to_le_bytes());
    bytes[32..40].copy_from_slice(&base.bytes.to_le_bytes());
    let checksum = xxh3_64(&bytes[..40]);
    bytes[40..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// A file that is read or written from its beginning on.
struct Sequential {
    handle: Box<dyn FileHandle>,
    offset: u64,
    /// Bytes written since the last sync.
    unsynced: usize,
}

impl Sequential {
    fn new(handle: Box<dyn FileHandle>) -> Self {
        Self { handle, offset: 0, unsynced: 0 }
    }
}

impl Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.handle.read_at(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Write for Sequential {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.handle.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        self.unsynced += bytes.len();
        // In one go at the end it would keep a stop, and the journal's own syncs, waiting.
        if self.unsynced >= SYNC_BYTES {
            self.handle.sync_data()?;
            self.unsynced = 0;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn holds_another(from: u64) -> StoreError {
    StoreError::Corrupt(format!("the file {} does not hold what its name says", path_of(from)))
}

fn io_error(path: &str, error: &io::Error) -> StoreError {
    StoreError::Io { context: format!("the base export, {path}"), message: error.to_string() }
}
