//! Notices that the configuration file has changed.
//!
//! Folders are watched, not the file: editors write a new file and move it to the old one's place, and what puts files in
//! place for containers turns a symbolic link to another folder. What is noticed there is only a reason to look: the file has
//! changed when its content is another one than before, so that who reads it, or writes beside it, causes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify_debouncer_mini::notify::{self, RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, DebouncedEventKind, Debouncer, new_debouncer};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

/// It is looked all the same this often: some file systems tell nobody what changes on them.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A file that has become shorter may still be written, and is to be left alone for so many times as long.
const PATIENCE_WITH_SHORTER: u32 = 5;
/// Symbolic links followed one after the other, as many as Linux follows.
const LINKS_MAX: usize = 40;

/// A file as it was seen last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Where it is, and what of it changes when it is written: cheap to ask, and nobody notices.
    stamp: Option<Stamp>,
    content: Option<[u8; 32]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    place: PathBuf,
    inode: (u64, u64),
    bytes: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    /// The file as it is.
    pub(super) fn now(path: &Path) -> Self {
        Self::read(path).0
    }

    fn read(path: &Path) -> (Self, Option<Vec<u8>>) {
        // The stamp first: what is written in between is looked at once more.
        let stamp = stamp_of(path);
        let bytes = fs::read(path).ok();
        let content = bytes.as_ref().map(|bytes| Sha256::digest(bytes).into());
        (Self { stamp, content }, bytes)
    }

    fn bytes(&self) -> u64 {
        self.stamp.as_ref().map_or(0, |stamp| stamp.bytes)
    }

    /// Whether both are one file, whatever is in it.
    fn is_same_file(&self, other: &Self) -> bool {
        let file = |seen: &Self| seen.stamp.as_ref().map(|stamp| (stamp.place.clone(), stamp.inode));
        file(self) == file(other)
    }
}

/// A file that is another one than before.
#[derive(Debug)]
pub(super) struct Change {
    /// What is in it now; `None` when it is gone or can't be read.
    pub(super) content: Option<Vec<u8>>,
    /// Whether another file has taken its place, so that nobody is writing in it any more.
    pub(super) is_replaced: bool,
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let place = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&place).ok()?;
    Some(Stamp {
        place,
        inode: (metadata.dev(), metadata.ino()),
        bytes: metadata.len(),
        written: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Watches one file.
pub(super) struct Watch {
    path: PathBuf,
    seen: Seen,
    noticed: mpsc::Receiver<()>,
    /// Tells what happens in `folders`; `None` where the system can't.
    debouncer: Option<Debouncer<RecommendedWatcher>>,
    folders: BTreeSet<PathBuf>,
    settle: Duration,
    look_every: Duration,
}

impl Watch {
    /// Watches the file at `path`, which was last `seen` so; it is looked at once it has been left alone for `settle`.
    pub(super) fn start(path: &Path, seen: Seen, settle: Duration) -> Self {
        // One note is enough, however much happens until it is read.
        let (note, noticed) = mpsc::channel(1);
        let on_event = move |event: DebounceEventResult| {
            let is_reason = match event {
                // What is still being written is told of again.
                Ok(events) => events.iter().any(|event| event.kind == DebouncedEventKind::Any),
                // Such as that some of what happened is not told.
                Err(error) => {
                    tracing::debug!(%error, "what happens to the configuration file is not told of completely");
                    true
                }
            };
            if is_reason {
                let _ = note.try_send(());
            }
        };
        let debouncer = new_debouncer(settle, on_event).inspect_err(not_told_of).ok();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut watch =
            Self { path, seen, noticed, debouncer, folders: BTreeSet::new(), settle, look_every: LOOK_EVERY };
        watch.follow();
        watch
    }

    /// Ready when the file's content is another one than before, and was at two looks, which are further apart when it has
    /// become shorter; also when it is gone, or there again.
    pub(super) async fn changed(&mut self) -> Change {
        loop {
            // Changed before anybody watched, or between two looks.
            if let Some((now, content)) = self.look() {
                let is_shorter = now.bytes() < self.seen.bytes();
                let patience = if is_shorter { self.settle * PATIENCE_WITH_SHORTER } else { self.settle };
                tokio::time::sleep(patience).await;
                if stamp_of(&self.path) == now.stamp {
                    let is_replaced = !now.is_same_file(&self.seen);
                    self.seen = now;
                    return Change { content, is_replaced };
                }
                continue;
            }
            let look_every = self.look_every;
            tokio::select! {
                Some(()) = self.noticed.recv() => {}
                () = tokio::time::sleep(look_every) => {}
            }
            self.follow();
        }
    }

    /// Takes the file as it is for what is known: somebody else is about to read it.
    pub(super) fn note_seen(&mut self) {
        self.seen = Seen::now(&self.path);
    }

    /// What the file is now, if its content is not what is known.
    fn look(&mut self) -> Option<(Seen, Option<Vec<u8>>)> {
        if stamp_of(&self.path) == self.seen.stamp {
            return None;
        }
        let (now, content) = Seen::read(&self.path);
        if now.content == self.seen.content {
            self.seen = now;
            return None;
        }
        Some((now, content))
    }

    /// Watches the folders through which the file is reached now, and no others.
    fn follow(&mut self) {
        let Some(debouncer) = &mut self.debouncer else { return };
        let folders = folders_to(&self.path);
        for gone in self.folders.difference(&folders) {
            // Watched no more when the folder itself is gone.
            let _ = debouncer.watcher().unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for folder in folders {
            // Again each time: a folder of the same name may be another one by now, and who is watched already is not watched
            // twice.
            match debouncer.watcher().watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder);
                }
                Err(error) if self.folders.contains(&folder) || !folder.exists() => {
                    tracing::debug!(%error, folder = %folder.display(), "a folder can't be watched for now");
                }
                Err(error) => not_told_of(&error),
            }
        }
        self.folders = watched;
    }
}

fn not_told_of(error: &notify::Error) {
    tracing::warn!(
        %error,
        every_s = LOOK_EVERY.as_secs(),
        "changes of the configuration file are not told of by the system; it is looked at now and then"
    );
}

/// The folders in which something changes when the file at `path` becomes another one: its own, and those of every symbolic
/// link on the way.
fn folders_to(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut place = path.to_owned();
    for _ in 0..LINKS_MAX {
        // A link may be any part of the path; the last one is found first.
        for ancestor in place.ancestors() {
            if ancestor.is_symlink()
                && let Some(folder) = ancestor.parent()
            {
                folders.insert(folder.to_owned());
            }
        }
        if let Some(folder) = place.parent() {
            folders.insert(folder.to_owned());
        }
        let Ok(target) = fs::read_link(&place) else { break };
        let Some(folder) = place.parent() else { break };
        place = folder.join(target);
    }
    folders
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Far longer than any of this takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn watch(path: &Path) -> Watch {
        let mut watch = Watch::start(path, Seen::now(path), Duration::from_millis(20));
        assert!(watch.debouncer.is_some(), "this system tells of changes");
        // Nothing but what is told of is to be the reason.
        watch.look_every = PATIENCE * 2;
        watch
    }

    async fn changes(watch: &mut Watch) -> Change {
        tokio::time::timeout(PATIENCE, watch.changed()).await.expect("the change is noticed")
    }

    /// Waits until something in the folder has been noticed that is no change of the file.
    async fn is_left_alone(watch: &mut Watch) {
        tokio::time::timeout(PATIENCE, watch.noticed.recv()).await.expect("something is noticed").unwrap();
        assert!(watch.look().is_none());
    }

    #[tokio::test]
    async fn a_file_is_written_replaced_removed_and_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "a = 1").unwrap();
        let mut watch = watch(&path);
        fs::write(&path, "a = 2").unwrap();
        let change = changes(&mut watch).await;
        assert_eq!((change.content.as_deref(), change.is_replaced), (Some(&b"a = 2"[..]), false));
        let beside = folder.path().join("config.toml~");
        fs::write(&beside, "a = 3").unwrap();
        fs::rename(&beside, &path).unwrap();
        assert!(changes(&mut watch).await.is_replaced);
        assert_eq!(watch.seen.content, Some(Sha256::digest("a = 3").into()));
        fs::remove_file(&path).unwrap();
        changes(&mut watch).await;
        fs::write(&path, "a = 4").unwrap();
        changes(&mut watch).await;
        assert_eq!(watch.seen.content, Some(Sha256::digest("a = 4").into()));
    }

    #[tokio::test]
    async fn what_happens_beside_it_and_the_same_content_are_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "a = 1").unwrap();
        let mut watch = watch(&path);
        fs::write(folder.path().join("other"), "b = 1").unwrap();
        is_left_alone(&mut watch).await;
        fs::write(&path, "a = 1").unwrap();
        is_left_alone(&mut watch).await;
        fs::write(&path, "a = 2").unwrap();
        watch.note_seen();
        is_left_alone(&mut watch).await;
    }

    #[tokio::test]
    async fn a_link_that_points_elsewhere_is_a_change_wherever_on_the_way_it_is() {
        // As Kubernetes mounts a ConfigMap: config.toml -> ..data/config.toml, ..data -> ..1.
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "a = 1"), ("..2", "a = 2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("config.toml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/config.toml", at("config.toml")).unwrap();
        let mut watch = watch(&at("config.toml"));
        symlink("..2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        fs::remove_dir_all(at("..1")).unwrap();
        changes(&mut watch).await;
        assert_eq!(watch.seen.content, Some(Sha256::digest("a = 2").into()));
        // Where it points now is watched, too.
        fs::write(at("..2").join("config.toml"), "a = 3").unwrap();
        changes(&mut watch).await;
        assert_eq!(watch.seen.content, Some(Sha256::digest("a = 3").into()));
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "a = 1\nb = 1\n").unwrap();
        let mut watch = Watch::start(&path, Seen::now(&path), Duration::from_millis(400));
        fs::write(&path, "").unwrap();
        let write_rest = async {
            // Longer than it would be left alone for were it not shorter.
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            fs::write(&path, "a = 2\nb = 2\n").unwrap();
        };
        let (change, ()) = tokio::join!(changes(&mut watch), write_rest);
        assert_eq!(change.content.as_deref(), Some(&b"a = 2\nb = 2\n"[..]));
    }

    #[tokio::test]
    async fn a_change_before_it_was_watched_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "a = 1").unwrap();
        let seen = Seen::now(&path);
        fs::write(&path, "a = 22").unwrap();
        let mut watch = Watch::start(&path, seen, Duration::from_millis(20));
        changes(&mut watch).await;
    }
}
