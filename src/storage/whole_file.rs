//! A small file that is always either the old one or the new one: written beside its place, synced, renamed. The first
//! line is a checksum of the rest.

use std::io::Write;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::storage::files::sync_parent_of;

/// A few small files by name, each written whole.
pub trait WholeFiles: Send + Sync + 'static {
    /// As [`WholeFile::read`].
    ///
    /// # Errors
    /// When it is there but can't be read.
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>>;

    /// As [`WholeFile::write`].
    ///
    /// # Errors
    /// When that fails; the old file is then still there.
    fn write(&self, name: &str, content: &[u8]) -> std::io::Result<()>;

    /// As [`WholeFile::remove`].
    ///
    /// # Errors
    /// When that fails; it may be there still.
    fn remove(&self, name: &str) -> std::io::Result<()>;
}

/// Whole files in a directory.
#[derive(Clone, Debug)]
pub struct DirectoryFiles {
    directory: PathBuf,
}

impl DirectoryFiles {
    /// Those in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    fn file(&self, name: &str) -> WholeFile {
        WholeFile::new(self.directory.join(name))
    }
}

impl WholeFiles for DirectoryFiles {
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        self.file(name).read()
    }

    fn write(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        self.file(name).write(content)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.file(name).remove()
    }
}

/// A file that is written whole.
#[derive(Clone, Debug)]
pub struct WholeFile {
    path: PathBuf,
}

impl WholeFile {
    /// The file at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds; `None` when it is not there.
    ///
    /// # Errors
    /// When it is there but can't be read; [`std::io::ErrorKind::InvalidData`] when it is damaged.
    pub fn read(&self) -> std::io::Result<Option<Vec<u8>>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || std::io::Error::new(std::io::ErrorKind::InvalidData, "it is damaged: its checksum is wrong");
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
        let (checksum, content) = (&bytes[..end], &bytes[end + 1..]);
        let intact = checksum == format!("{:016x}", xxh3_64(content)).as_bytes();
        if intact { Ok(Some(content.to_vec())) } else { Err(damaged()) }
    }

    /// Replaces it. Blocks until it is on disk.
    ///
    /// # Errors
    /// When that fails; the old file is then still there.
    pub fn write(&self, content: &[u8]) -> std::io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = std::fs::File::create(&temporary)?;
        writeln!(file, "{:016x}", xxh3_64(content))?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        sync_parent_of(&self.path)
    }

    /// Removes it, if it is there. Blocks until that is on disk.
    ///
    /// # Errors
    /// When that fails; it may be there still.
    pub fn remove(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_parent_of(&self.path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = WholeFile::new(directory.path().join("windows"));
        assert_eq!(file.read().unwrap(), None);
        file.write(b"one").unwrap();
        file.write(b"two\nlines").unwrap();
        assert_eq!(file.read().unwrap(), Some(b"two\nlines".to_vec()));
        let mut bytes = std::fs::read(file.path()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        for damaged in [bytes.as_slice(), b"", b"no line"] {
            std::fs::write(file.path(), damaged).unwrap();
            assert_eq!(file.read().unwrap_err().kind(), std::io::ErrorKind::InvalidData);
        }
    }
}
