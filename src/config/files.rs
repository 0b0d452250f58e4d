//! Reads files that somebody may replace at any time by what has no end or keeps its reader waiting.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

/// How long anybody waits for a file, unless it may be a very large one.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a file for reading, if it is a regular one: a pipe would be waited for, and a device need not end.
///
/// # Errors
/// What the system says, or that it is not regular.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let regular = |metadata: io::Result<Metadata>| match metadata?.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    };
    // To open a device may do something, or be refused for another reason.
    regular(std::fs::metadata(path))?;
    // A pipe that has come meanwhile is not waited for so, and a regular file is read as ever.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    regular(file.metadata())?;
    Ok(file)
}

/// Reads all of something that has at most `bytes_max`.
///
/// # Errors
/// What the system says, or that it is longer.
pub(crate) fn read_within(source: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// [`read_within`] for text.
///
/// # Errors
/// As [`read_within`], or that it is not UTF-8.
pub(crate) fn read_text_within(source: impl Read, bytes_max: u64) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
    String::from_utf8(read_within(source, bytes_max)?).map_err(not_text)
}

/// Work on files off the runtime, one piece after the other, for none of which anybody waits longer than a limit. A thread
/// that is stuck in a file system that does not answer can't be interrupted: until it is back no other one is begun, so that
/// there is never more than one.
#[derive(Clone, Debug)]
pub(crate) struct FileWork {
    turn: Arc<Mutex<()>>,
    within: Duration,
}

impl Default for FileWork {
    fn default() -> Self {
        Self::new(READ_TIMEOUT)
    }
}

impl FileWork {
    /// Nothing to do yet; waits for a piece of work, and for what is before it, no longer than `within`.
    pub(crate) fn new(within: Duration) -> Self {
        Self { turn: Arc::default(), within }
    }

    /// Does `work`, which may block.
    ///
    /// # Errors
    /// In words, when it takes too long or panics.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let turn = Arc::clone(&self.turn);
        let done = async move {
            let turn = turn.lock_owned().await;
            let work = move || {
                let done = work();
                drop(turn);
                done
            };
            tokio::task::spawn_blocking(work).await.map_err(|error| format!("reading ended: {error}"))
        };
        let late = |_| format!("reading took longer than {} s; does the file system answer?", self.within.as_secs());
        tokio::time::timeout(self.within, done).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_bound_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            assert!(open_regular(path).unwrap_err().to_string().contains("not a regular file"), "{}", path.display());
        }
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read_text_within(open_regular(&file).unwrap(), 5).unwrap(), "12345");
        assert!(read_text_within(open_regular(&file).unwrap(), 4).is_err());
        std::fs::write(&file, [0xff]).unwrap();
        assert!(read_text_within(open_regular(&file).unwrap(), 4).is_err());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_thread_that_is_stuck_and_there_is_one_of_them_only() {
        let files = FileWork::new(Duration::from_millis(50));
        let (let_go, held) = std::sync::mpsc::sync_channel::<()>(1);
        let stuck = files.run(move || held.recv().is_ok()).await;
        assert!(stuck.unwrap_err().contains("longer"));
        let begun = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let second = Arc::clone(&begun);
        assert!(files.run(move || second.store(true, std::sync::atomic::Ordering::SeqCst)).await.is_err());
        assert!(!begun.load(std::sync::atomic::Ordering::SeqCst));
        let_go.send(()).unwrap();
        // Its turn comes when the thread is back, however long that takes.
        while files.run(|| ()).await.is_err() {}
    }
}
