//! Making a data directory so that half of one is never opened as a store, and none is left behind.
//!
//! One that is not there is made beside its place and renamed when it is complete. One that is there and empty may be where
//! a disk is mounted, or a link, which no other directory can take the place of: it is filled from a directory within,
//! which goes last. As long as that is there, nobody opens what is around it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::storage::StoreError;
use crate::storage::backup::{check_empty, failed};
use crate::storage::files::{create_private_directory, sync_directory_at, sync_parent_of};
use crate::storage::held::HELD;

/// What a restore works in is called so.
pub(super) const RESTORING: &str = ".restoring";
/// What an import works in is called so.
pub(super) const IMPORTING: &str = ".importing";

/// A data directory that is being made. Dropped before it is finished, nothing is left of it.
pub(super) struct NewDirectory {
    target: PathBuf,
    /// Where it is made.
    place: PathBuf,
    /// Whether that is within the target.
    is_within: bool,
    /// What has its place in the target already.
    moved: Vec<PathBuf>,
    is_finished: bool,
}

impl NewDirectory {
    /// Begins to make `target`, which must be empty or not there, in a directory called `name`, or so at its end.
    pub(super) fn begin(target: &Path, name: &str) -> Result<Self, StoreError> {
        check_free(target)?;
        let is_within = target.is_dir();
        let place = if is_within { target.join(name) } else { beside(target, name) };
        if place.exists() {
            return Err(StoreError::Invalid(format!(
                "{} is there: another restore or import goes on, or was interrupted. Remove it in the latter case",
                place.display()
            )));
        }
        create_private_directory(&place).map_err(|error| failed(&place, &error))?;
        Ok(Self { target: target.to_owned(), place, is_within, moved: Vec::new(), is_finished: false })
    }

    /// Where it is to be filled.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Gives it its name, durably.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        let named = if self.is_within { self.move_out() } else { std::fs::rename(&self.place, &self.target) };
        let named = named.and_then(|()| sync_parent_of(&self.place));
        named.map_err(|error| failed(&self.target, &error))?;
        self.is_finished = true;
        Ok(())
    }

    fn move_out(&mut self) -> std::io::Result<()> {
        let names = std::fs::read_dir(&self.place)?.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names: Vec<OsString> = names.collect::<Result<_, _>>()?;
        // The mark first: whatever happens, no money moves.
        names.sort_by_key(|name| name != OsStr::new(HELD));
        for name in names {
            let to = self.target.join(&name);
            std::fs::rename(self.place.join(&name), &to)?;
            self.moved.push(to);
        }
        sync_directory_at(&self.target)?;
        std::fs::remove_dir(&self.place)
    }

    /// Takes away what was made. What was moved goes first: what is left of it must not be opened.
    fn remove(&self) -> std::io::Result<()> {
        for moved in &self.moved {
            if moved.is_dir() {
                std::fs::remove_dir_all(moved)?;
            } else {
                std::fs::remove_file(moved)?;
            }
        }
        std::fs::remove_dir_all(&self.place)
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        if let Err(error) = self.remove() {
            tracing::warn!(directory = %self.place.display(), %error, "what was not finished could not be removed");
        }
    }
}

/// Refuses a data directory that was not made to the end.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub(super) fn check_whole(directory: &Path) -> Result<(), StoreError> {
    match [RESTORING, IMPORTING].iter().find(|name| directory.join(name).exists()) {
        None => Ok(()),
        Some(name) => Err(StoreError::Corrupt(format!(
            "{} was not made to the end: a restore or an import goes on, or was interrupted, and {name} is still there. In \
             the latter case empty the directory and restore or import again",
            directory.display()
        ))),
    }
}

/// Refuses a directory that no store can be made in.
pub(super) fn check_free(directory: &Path) -> Result<(), StoreError> {
    check_whole(directory)?;
    check_empty(directory)
}

fn beside(directory: &Path, ending: &str) -> PathBuf {
    let mut name = directory.file_name().map_or_else(|| OsString::from("data"), OsString::from);
    name.push(ending);
    directory.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn names_in(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn fill(new: &NewDirectory) {
        std::fs::create_dir(new.place().join("journal")).unwrap();
        std::fs::write(new.place().join("journal/1.seg"), "frames").unwrap();
        std::fs::write(new.place().join(HELD), "held").unwrap();
    }

    #[test]
    fn a_directory_that_is_there_is_filled_and_not_replaced() {
        let house = tempfile::tempdir().unwrap();
        let (mounted, link, new) = (house.path().join("mounted"), house.path().join("link"), house.path().join("new"));
        std::fs::create_dir(&mounted).unwrap();
        // What a file system has at its root.
        std::fs::create_dir(mounted.join("lost+found")).unwrap();
        symlink(&mounted, &link).unwrap();
        let inode = mounted.metadata().unwrap().ino();
        for target in [&mounted, &link] {
            let made = NewDirectory::begin(target, RESTORING).unwrap();
            fill(&made);
            assert!(matches!(check_whole(target), Err(StoreError::Corrupt(_))), "nobody opens it before");
            made.finish().unwrap();
            check_whole(target).unwrap();
            assert_eq!(names_in(&mounted), [HELD, "journal", "lost+found"]);
            assert_eq!(names_in(house.path()), ["link", "mounted"], "nothing is beside it");
            assert_eq!(mounted.metadata().unwrap().ino(), inode);
            assert!(matches!(NewDirectory::begin(target, RESTORING), Err(StoreError::Invalid(_))));
            std::fs::remove_dir_all(mounted.join("journal")).unwrap();
            std::fs::remove_file(mounted.join(HELD)).unwrap();
        }
        let made = NewDirectory::begin(&new, IMPORTING).unwrap();
        fill(&made);
        assert!(!new.exists());
        made.finish().unwrap();
        assert_eq!(names_in(&new), [HELD, "journal"]);
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let house = tempfile::tempdir().unwrap();
        let (there, new) = (house.path().join("there"), house.path().join("new"));
        std::fs::create_dir(&there).unwrap();
        for target in [&there, &new] {
            let made = NewDirectory::begin(target, IMPORTING).unwrap();
            fill(&made);
            assert!(NewDirectory::begin(target, IMPORTING).is_err(), "one at a time");
            drop(made);
            assert_eq!(names_in(house.path()), ["there"]);
            assert!(names_in(&there).is_empty());
        }
        // Somebody writes into it meanwhile.
        let made = NewDirectory::begin(&there, RESTORING).unwrap();
        fill(&made);
        std::fs::create_dir_all(there.join("journal/of-another")).unwrap();
        assert!(matches!(made.finish(), Err(StoreError::Io { .. })));
        assert_eq!(names_in(&there), ["journal"], "only what is theirs");
        assert_eq!(names_in(&there.join("journal")), ["of-another"]);
    }
}
