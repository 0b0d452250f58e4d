//! Which format a store has, in the file `FORMAT`: one line, such as `tollgate store format 1`. It is looked at before
//! anything else, because a program that is too old would take what it does not know for damage.
//!
//! The number goes up with every change that an older program can't read: of frames, segments, bases, rows of the index or
//! records. A program reads its own format and the one before it, and writes its own.

use std::io;

use crate::storage::StoreError;
use crate::storage::files::{Files, Shortage, read_all};

/// The format that is written.
pub const FORMAT: u32 = 1;
/// The file's name.
pub const FORMAT_FILE: &str = "FORMAT";

const NEXT: &str = "FORMAT.tmp";
const PREFIX: &str = "tollgate store format ";

/// Refuses a store that this program can't read, and notes which format it has from now on. Stores without the file have
/// format 1: they are new or were made before there was one.
///
/// # Errors
/// [`StoreError::Corrupt`] for another format, or when the file can't be understood; [`StoreError::Io`].
pub fn check(files: &dyn Files) -> Result<(), StoreError> {
    let found = look(files)?;
    if found == Some(FORMAT) {
        return Ok(());
    }
    match write(files, FORMAT) {
        Err(error) if Shortage::of(&error).is_some() && found.unwrap_or(1) == FORMAT => {
            tracing::warn!(%error, "the store's format could not be noted; tried again at the next start");
            Ok(())
        }
        written => written.map_err(|error| io_error("writing", &error)),
    }
}

/// The format that a store has, if its file is there; see [`check`]. Changes nothing.
///
/// # Errors
/// As for [`check`].
pub fn look(files: &dyn Files) -> Result<Option<u32>, StoreError> {
    let found = read(files)?;
    found.map_or(Ok(()), |found| refuse_unreadable(found, FORMAT_FILE))?;
    Ok(found)
}

/// Refuses a format that this program can't read. `file` says which it is.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn refuse_unreadable(found: u32, file: &str) -> Result<(), StoreError> {
    if found > FORMAT || found.saturating_add(1) < FORMAT {
        let remedy = if found > FORMAT {
            "use the program that wrote it, or a newer one"
        } else {
            "open it once with each of the versions in between"
        };
        let oldest = FORMAT.saturating_sub(1).max(1);
        return Err(StoreError::Corrupt(format!(
            "the store has format {found}, as the file {file} says, and this program reads formats {oldest} to \
             {FORMAT}: {remedy}, or restore the data directory from a backup. Nothing was changed"
        )));
    }
    Ok(())
}

/// Notes the format of a store that is being made.
///
/// # Errors
/// [`StoreError::Io`].
pub fn note(files: &dyn Files, format: u32) -> Result<(), StoreError> {
    write(files, format).map_err(|error| io_error("writing", &error))
}

fn read(files: &dyn Files) -> Result<Option<u32>, StoreError> {
    let handle = match files.open(FORMAT_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        handle => handle.map_err(|error| io_error("reading", &error))?,
    };
    let bytes = read_all(&*handle).map_err(|error| io_error("reading", &error))?;
    let line = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix('\n'));
    let number = line.and_then(|line| line.strip_prefix(PREFIX)?.parse().ok()).filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| {
        StoreError::Corrupt(format!(
            "the file {FORMAT_FILE} does not say which format the store has. If the store was written by this program, \
             put this line into it: {PREFIX}{FORMAT}. Otherwise restore the data directory from a backup"
        ))
    })
}

fn write(files: &dyn Files, format: u32) -> io::Result<()> {
    let line = format!("{PREFIX}{format}\n");
    let handle = files.create(NEXT)?;
    handle.write_at(0, line.as_bytes())?;
    handle.set_length(line.len() as u64)?;
    handle.sync_data()?;
    files.rename(NEXT, FORMAT_FILE)?;
    files.sync_directory("")
}

fn io_error(doing: &str, error: &io::Error) -> StoreError {
    StoreError::Io { context: format!("{doing} {FORMAT_FILE}"), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim_files::SimFiles;

    fn with(text: &str) -> SimFiles {
        let files = SimFiles::new();
        files.create(FORMAT_FILE).unwrap().write_at(0, text.as_bytes()).unwrap();
        files
    }

    fn refusal(files: &SimFiles) -> String {
        match check(files) {
            Err(StoreError::Corrupt(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_store_gets_the_format_and_is_opened_again() {
        let files = SimFiles::new();
        check(&files).unwrap();
        assert_eq!(read(&files).unwrap(), Some(FORMAT));
        let writes = files.writes();
        check(&files).unwrap();
        assert_eq!(files.writes(), writes);
    }

    #[test]
    fn a_newer_format_is_refused_and_nothing_is_changed() {
        let files = with("tollgate store format 2\n");
        let message = refusal(&files);
        assert!(message.contains("format 2") && message.contains("newer"), "{message}");
        assert_eq!(read(&files).unwrap(), Some(2));
    }

    #[test]
    fn what_is_no_format_is_refused_with_what_to_write() {
        for text in ["", "tollgate store format \n", "tollgate store format 0\n", "tollgate store format 1", "2\n"] {
            assert!(refusal(&with(text)).contains("tollgate store format 1"), "{text:?}");
        }
    }

    #[test]
    fn a_store_without_room_for_it_opens() {
        let files = SimFiles::new();
        files.set_space_bytes(Some(3));
        check(&files).unwrap();
        assert_eq!(read(&files).unwrap(), None);
    }
}
