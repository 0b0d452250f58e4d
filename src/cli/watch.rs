//! Notices that the configuration file has changed.
//!
//! Folders are watched, not the file: editors write a new file and move it to the old one's place, and what puts files in
//! place for containers turns a symbolic link to another folder. What is noticed there is only a reason to look: the file has
//! changed when its content is another one than before, so that who reads it, or writes beside it, causes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::config::{FILE_BYTES_MAX, FileWork, open_regular, read_within};

/// It is looked all the same this often: some file systems tell nobody what changes on them.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A file that has become shorter, or is new without having been renamed, may still be written, and is to be left alone for so
/// many times as long.
const PATIENCE_WITH_UNFINISHED: u32 = 5;
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
        let bytes = open_regular(path).and_then(|file| read_within(file, FILE_BYTES_MAX)).ok();
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
    /// Whether another file was renamed into its place, so that nobody is writing in it any more.
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

/// What the system has told of the file.
#[derive(Default)]
struct Told {
    /// Where the file is, and every symbolic link on the way to it.
    names: BTreeSet<PathBuf>,
    /// Whether the last that became of one of these names is that something was renamed to it.
    is_renamed: bool,
}

impl Told {
    fn note(&mut self, event: &notify::Event) {
        match event.kind {
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {}
            // The last path is where it went.
            EventKind::Modify(ModifyKind::Name(_)) => {
                self.is_renamed |= event.paths.last().is_some_and(|path| self.names.contains(path));
            }
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => {
                self.is_renamed &= !event.paths.iter().any(|path| self.names.contains(path));
            }
            _ => {}
        }
    }
}

/// The folders that are watched.
struct Followed {
    /// Tells what happens in `folders`; `None` where the system can't.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    told: Arc<Mutex<Told>>,
}

impl Followed {
    /// Watches the folders through which the file is reached now, and no others. May block.
    fn follow(&mut self, path: &Path) {
        let (folders, names) = way_to(path);
        self.told.lock().names = names;
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.folders.difference(&folders) {
            // Watched no more when the folder itself is gone.
            let _ = watcher.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for folder in folders {
            // Again each time: a folder of the same name may be another one by now, and who is watched already is not watched
            // twice.
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
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

/// Watches one file.
pub(super) struct Watch {
    path: PathBuf,
    seen: Seen,
    noticed: mpsc::Receiver<()>,
    told: Arc<Mutex<Told>>,
    followed: Arc<Mutex<Followed>>,
    files: FileWork,
    /// Whether the file system answered when it was asked last.
    answers: bool,
    settle: Duration,
    look_every: Duration,
}

impl Watch {
    /// Watches the file at `path`, which was last `seen` so; it is looked at once it has been left alone for `settle`.
    pub(super) async fn start(path: &Path, seen: Seen, settle: Duration) -> Self {
        // One note is enough, however much happens until it is read.
        let (note, noticed) = mpsc::channel(1);
        let told = Arc::new(Mutex::new(Told::default()));
        let told_of = Arc::clone(&told);
        let on_event = move |event: notify::Result<notify::Event>| {
            match event {
                // Somebody reads, as we do.
                Ok(event) if is_reading(event.kind) => return,
                Ok(event) => told_of.lock().note(&event),
                // Such as that some of what happened is not told.
                Err(error) => {
                    tracing::debug!(%error, "what happens to the configuration file is not told of completely");
                }
            }
            let _ = note.try_send(());
        };
        let watcher = notify::recommended_watcher(on_event).inspect_err(not_told_of).ok();
        let followed = Followed { watcher, folders: BTreeSet::new(), told: Arc::clone(&told) };
        let mut watch = Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            seen,
            noticed,
            told,
            followed: Arc::new(Mutex::new(followed)),
            files: FileWork::default(),
            answers: true,
            settle,
            look_every: LOOK_EVERY,
        };
        watch.follow().await;
        watch
    }

    /// Ready when the file's content is another one than before, and was at two looks, which are further apart when it may
    /// still be written; also when it is gone, or there again. Nothing is lost when this is dropped before.
    pub(super) async fn changed(&mut self) -> Change {
        loop {
            // Changed before anybody watched, or between two looks.
            if let Some((now, content)) = self.look().await {
                let is_other = !now.is_same_file(&self.seen);
                let may_grow = now.bytes() < self.seen.bytes() || is_other && !self.is_replaced_by(&now);
                let patience = if may_grow { self.settle * PATIENCE_WITH_UNFINISHED } else { self.settle };
                tokio::time::sleep(patience).await;
                let path = self.path.clone();
                if self.on_files(move || stamp_of(&path)).await.is_some_and(|stamp| stamp == now.stamp) {
                    let is_replaced = self.is_replaced_by(&now);
                    self.told.lock().is_renamed = false;
                    self.seen = now;
                    return Change { content, is_replaced };
                }
                continue;
            }
            let look_every = self.look_every;
            tokio::select! {
                // Whatever else happens until then is looked at together.
                Some(()) = self.noticed.recv() => tokio::time::sleep(self.settle).await,
                () = tokio::time::sleep(look_every) => {}
            }
            self.follow().await;
        }
    }

    /// Takes the file as it is for what is known: somebody else is about to read it.
    pub(super) async fn note_seen(&mut self) {
        let path = self.path.clone();
        if let Some(seen) = self.on_files(move || Seen::now(&path)).await {
            self.told.lock().is_renamed = false;
            self.seen = seen;
        }
    }

    /// What the file is now, if its content is not what is known.
    async fn look(&mut self) -> Option<(Seen, Option<Vec<u8>>)> {
        let (path, before) = (self.path.clone(), self.seen.stamp.clone());
        let look = move || (stamp_of(&path) != before).then(|| Seen::read(&path));
        let (now, content) = self.on_files(look).await??;
        if now.content == self.seen.content {
            self.told.lock().is_renamed = false;
            self.seen = now;
            return None;
        }
        Some((now, content))
    }

    /// Whether what is there `now` was renamed into the place of the file that was there: written to its end before. One that
    /// has come after there was none may just have been begun.
    fn is_replaced_by(&self, now: &Seen) -> bool {
        let were_there = now.stamp.is_some() && self.seen.stamp.is_some();
        were_there && !now.is_same_file(&self.seen) && self.told.lock().is_renamed
    }

    async fn follow(&mut self) {
        let (path, followed) = (self.path.clone(), Arc::clone(&self.followed));
        self.on_files(move || followed.lock().follow(&path)).await;
    }

    /// Does what may block; `None` when it did not end in time.
    async fn on_files<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let done = self.files.run(work).await;
        if let Err(problem) = &done
            && self.answers
        {
            tracing::error!(problem, path = %self.path.display(), "the configuration file can't be looked at for now");
        }
        self.answers = done.is_ok();
        done.ok()
    }
}

/// Whether an event changes nothing.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn not_told_of(error: &notify::Error) {
    tracing::warn!(
        %error,
        every_s = LOOK_EVERY.as_secs(),
        "changes of the configuration file are not told of by the system; it is looked at now and then"
    );
}

/// The folders in which something changes when the file at `path` becomes another one, and the names that it has there: its
/// own, and those of every symbolic link on the way.
fn way_to(path: &Path) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let (mut folders, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut place = path.to_owned();
    for _ in 0..LINKS_MAX {
        // A link may be any part of the path; the last one is found first.
        for ancestor in place.ancestors() {
            if ancestor.is_symlink()
                && let Some(folder) = ancestor.parent()
            {
                folders.insert(folder.to_owned());
                names.insert(ancestor.to_owned());
            }
        }
        if let Some(folder) = place.parent() {
            folders.insert(folder.to_owned());
            names.insert(place.clone());
        }
        let Ok(target) = fs::read_link(&place) else { break };
        let Some(folder) = place.parent() else { break };
        place = folder.join(target);
    }
    (folders, names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Far longer than any of this takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn watch(path: &Path) -> Watch {
        let mut watch = Watch::start(path, Seen::now(path), Duration::from_millis(20)).await;
        assert!(watch.followed.lock().watcher.is_some(), "this system tells of changes");
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
        assert!(watch.look().await.is_none());
    }

    #[tokio::test]
    async fn a_file_is_written_replaced_removed_and_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "a = 1").unwrap();
        let mut watch = watch(&path).await;
        fs::write(&path, "a = 2").unwrap();
        let change = changes(&mut watch).await;
        assert_eq!((change.content.as_deref(), change.is_replaced), (Some(&b"a = 2"[..]), false));
        let beside = folder.path().join("config.toml~");
        fs::write(&beside, "a = 3").unwrap();
        fs::rename(&beside, &path).unwrap();
        assert!(changes(&mut watch).await.is_replaced);
        assert_eq!(watch.seen.content, Some(Sha256::digest("a = 3").into()));
        fs::remove_file(&path).unwrap();
        assert!(changes(&mut watch).await.content.is_none());
        fs::write(&path, "a = 4").unwrap();
        assert!(!changes(&mut watch).await.is_replaced, "it may be half of one");
        assert_eq!(watch.seen.content, Some(Sha256::digest("a = 4").into()));
        // Gone and there again before anybody looked, and written to after it was renamed.
        fs::write(&beside, "a = 5").unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a = 5").unwrap();
        assert!(!changes(&mut watch).await.is_replaced);
        fs::rename(&beside, &path).unwrap();
        fs::write(&path, "a = 6").unwrap();
        assert!(!changes(&mut watch).await.is_replaced);
    }

    #[tokio::test]
    async fn a_pipe_in_its_place_is_a_change_and_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let (path, pipe) = (folder.path().join("config.toml"), folder.path().join("pipe"));
        fs::write(&path, "a = 1").unwrap();
        let mut watch = watch(&path).await;
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fs::rename(&pipe, &path).unwrap();
        assert!(changes(&mut watch).await.content.is_none());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a = 2").unwrap();
        assert_eq!(changes(&mut watch).await.content.as_deref(), Some(&b"a = 2"[..]));
    }

    #[tokio::test]
    async fn what_happens_beside_it_and_the_same_content_are_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "a = 1").unwrap();
        let mut watch = watch(&path).await;
        fs::write(folder.path().join("other"), "b = 1").unwrap();
        is_left_alone(&mut watch).await;
        fs::write(&path, "a = 1").unwrap();
        is_left_alone(&mut watch).await;
        fs::write(&path, "a = 2").unwrap();
        watch.note_seen().await;
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
        let mut watch = watch(&at("config.toml")).await;
        symlink("..2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        fs::remove_dir_all(at("..1")).unwrap();
        assert!(changes(&mut watch).await.is_replaced);
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
        let mut watch = Watch::start(&path, Seen::now(&path), Duration::from_millis(400)).await;
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
        let mut watch = Watch::start(&path, seen, Duration::from_millis(20)).await;
        changes(&mut watch).await;
    }
}
