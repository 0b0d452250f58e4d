//! The files that the journal is made of, behind a trait: the real disk in service, [`SimFiles`] in tests.
//!
//! [`SimFiles`]: crate::storage::sim_files::SimFiles

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

/// Most bytes that [`write_zeros`] writes between two syncs. Small, so that a commit's own sync, which shares the disk
/// and on some file systems the transaction, does not wait behind a whole segment.
const ZERO_CHUNK_BYTES: usize = 1 << 20;

/// A directory tree. Paths are relative to its root, parts divided by `/`; the root itself is the empty path.
pub trait Files: Send + Sync + 'static {
    /// Creates an empty file and opens it; one that is there already is emptied.
    ///
    /// # Errors
    /// What the operating system says.
    fn create(&self, path: &str) -> io::Result<Box<dyn FileHandle>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// What the operating system says; `NotFound` if there is no such file.
    fn open(&self, path: &str) -> io::Result<Box<dyn FileHandle>>;

    /// Renames a file within its directory; one that has the new name already is replaced. Durable after
    /// [`Files::sync_directory`].
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says; `NotFound` if there is no such file.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Makes a directory unless it is there.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_directory(&self, directory: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;

    /// Bytes that this process may still take of the disk. A quota may allow less.
    ///
    /// # Errors
    /// What the operating system says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. It stays the same file when it is renamed.
pub trait FileHandle: Send + Sync {
    /// Writes all of `bytes` at `offset`, extending the file if need be. Durable after [`FileHandle::sync_data`].
    ///
    /// # Errors
    /// What the operating system says; a part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads from `offset` until the buffer is full or the file ends, and returns how many bytes that were.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Makes content and length durable. After an error nothing is known about what was written since the last
    /// success, and trying again does not help.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file off, or extends it with zeros.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Bytes in the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn length(&self) -> io::Result<u64>;
}

/// A directory on the real disk.
#[derive(Clone, Debug)]
pub struct DiskFiles {
    root: PathBuf,
    /// Directories that have been synced before: they stay open, so that a new name can be made durable even when no
    /// further file can be opened.
    directories: Arc<Mutex<HashMap<String, Arc<File>>>>,
    /// Whether nothing may be changed through it.
    is_read_only: bool,
}

impl DiskFiles {
    /// The tree below `root`, which has to be there.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), directories: Arc::default(), is_read_only: false }
    }

    /// The same for who only looks: whatever would change something is refused, and what may only be read can be.
    pub fn read_only(root: impl Into<PathBuf>) -> Self {
        Self { is_read_only: true, ..Self::new(root) }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.is_read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// Where the tree begins.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn directory(&self, directory: &str) -> io::Result<Arc<File>> {
        if let Some(open) = self.directories.lock().get(directory) {
            return Ok(Arc::clone(open));
        }
        let opened = Arc::new(File::open(self.root.join(directory))?);
        self.directories.lock().insert(directory.to_owned(), Arc::clone(&opened));
        Ok(opened)
    }
}

impl Files for DiskFiles {
    fn create(&self, path: &str) -> io::Result<Box<dyn FileHandle>> {
        self.check_writable()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Box::new(DiskFile(options.open(self.root.join(path))?)))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn FileHandle>> {
        let mut options = OpenOptions::new();
        Ok(Box::new(DiskFile(options.read(true).write(!self.is_read_only).open(self.root.join(path))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_file(self.root.join(path))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(directory))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        self.check_writable()?;
        create_private_directory(&self.root.join(directory))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.directory(directory)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.root)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Makes a directory that only its owner may read, unless it is there. Its parents are made too, and every name that is
/// new is durable afterwards.
///
/// # Errors
/// What the operating system says.
pub fn create_private_directory(directory: &Path) -> io::Result<()> {
    let is_new = |ancestor: &&Path| !ancestor.as_os_str().is_empty() && !ancestor.exists();
    let made: Vec<&Path> = directory.ancestors().take_while(is_new).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    made.into_iter().rev().try_for_each(sync_parent_of)
}

/// Makes the name of a file or directory of the real disk durable.
///
/// # Errors
/// What the operating system says.
pub fn sync_parent_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        None => Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => sync_directory_at(Path::new(".")),
        Some(parent) => sync_directory_at(parent),
    }
}

/// Makes the names in a directory of the real disk durable.
///
/// # Errors
/// What the operating system says.
pub fn sync_directory_at(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

struct DiskFile(File);

impl FileHandle for DiskFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// All bytes of a file.
///
/// # Errors
/// What the operating system says.
pub fn read_all(handle: &dyn FileHandle) -> io::Result<Vec<u8>> {
    let length = usize::try_from(handle.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let count = handle.read_at(0, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Writes zeros from `start` to `end`, in pieces, each made durable before the next.
///
/// # Errors
/// What the operating system says; a part may have been written.
pub fn write_zeros(handle: &dyn FileHandle, start: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_CHUNK_BYTES.min(usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX))];
    let mut offset = start;
    while offset < end {
        let count = zeros.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        handle.write_at(offset, &zeros[..count])?;
        handle.sync_data()?;
        offset += count as u64;
    }
    Ok(())
}

/// Something that there is not enough of for now. There may be again, without a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The disk or the quota is full.
    Space,
    /// This process, or the machine, may open no more files.
    Handles,
}

impl Shortage {
    /// The shortage that an error tells of, if it does.
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Some(Self::Space)
            }
            _ => matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE)).then_some(Self::Handles),
        }
    }

    /// A few words for those who are refused.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Space => "the disk is full",
            Self::Handles => "too many files are open",
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}
