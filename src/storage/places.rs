//! Where something may be read and written: which directory is a store, and what is inside of one.

use std::io::{Error, ErrorKind};
use std::path::{Component, Path, PathBuf};

use crate::storage::StoreError;
use crate::storage::backup::{MANIFEST, failed};
use crate::storage::base;
use crate::storage::new_directory::check_whole;
use crate::storage::segments;

/// Refuses a directory that holds no store, before anything is changed in it: an empty one, where a disk was not mounted,
/// would otherwise become a new store, and another one would get files that it should not have.
///
/// # Errors
/// [`StoreError::Invalid`], and [`StoreError::Corrupt`] for one that was not made to the end.
pub fn check_is_store(directory: &Path) -> Result<(), StoreError> {
    check_whole(directory)?;
    if directory.join(MANIFEST).exists() {
        return Err(StoreError::Invalid(format!(
            "{} is a backup: restore it into a data directory first (`tollgate store restore`)",
            directory.display()
        )));
    }
    // Restored, it has one or the other before it was ever opened.
    match [segments::DIRECTORY, base::DIRECTORY].iter().any(|name| directory.join(name).is_dir()) {
        true => Ok(()),
        false => Err(no_store(directory)),
    }
}

/// What is said of a directory without a store.
pub fn no_store(directory: &Path) -> StoreError {
    StoreError::Invalid(format!(
        "{} is no data directory of a gateway. Is its disk mounted? Give another with --data-dir",
        directory.display()
    ))
}

/// Refuses a file or directory in the data directory `directory`, which need not be there yet: it would be taken for a
/// part of the store, or be lost with it.
///
/// # Errors
/// [`StoreError::Invalid`]; [`StoreError::Io`] when that can't be told.
pub fn check_outside(directory: &Path, target: &Path) -> Result<(), StoreError> {
    let resolved_target = resolved(target).map_err(|error| failed(target, &error))?;
    let resolved_directory = resolved(directory).map_err(|error| failed(directory, &error))?;
    if !resolved_target.starts_with(&resolved_directory) {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "{} is in the data directory {}: give a place outside of it, best on another disk",
        target.display(),
        directory.display()
    )))
}

/// The path without links, as far as it is there; what is not there yet follows as it is written.
fn resolved(path: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path)?;
    for ancestor in absolute.ancestors() {
        let mut found = match ancestor.canonicalize() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            found => found?,
        };
        for part in absolute.strip_prefix(ancestor).unwrap_or(Path::new("")).components() {
            match part {
                Component::Normal(name) => found.push(name),
                Component::ParentDir => _ = found.pop(),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        return Ok(found);
    }
    Ok(absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_data_directory_is_told_through_links_and_missing_parts() {
        let house = tempfile::tempdir().unwrap();
        let path = |name: &str| house.path().join(name);
        let data = path("data");
        std::fs::create_dir_all(data.join("journal")).unwrap();
        let link = path("link");
        std::os::unix::fs::symlink(&data, &link).unwrap();
        let inside = ["data", "data/HELD", "data/a/b", "link/x", "gone/../data/x", "data/journal/x"];
        for directory in [&data, &link] {
            for target in inside {
                let refused = check_outside(directory, &path(target));
                assert!(matches!(refused, Err(StoreError::Invalid(_))), "{target}: {refused:?}");
            }
            for target in ["x", "data2/x", "a/b/x", "data/../x", "data/gone/../../x"] {
                assert_eq!(check_outside(directory, &path(target)), Ok(()), "{target}");
            }
        }
    }

    #[test]
    fn only_a_store_is_taken_for_one() {
        let house = tempfile::tempdir().unwrap();
        assert!(matches!(check_is_store(&house.path().join("gone")), Err(StoreError::Invalid(_))));
        // What a command has left in a wrong directory.
        std::fs::write(house.path().join("LOCK"), "").unwrap();
        assert!(matches!(check_is_store(house.path()), Err(StoreError::Invalid(_))));
        std::fs::create_dir(house.path().join("journal")).unwrap();
        assert_eq!(check_is_store(house.path()), Ok(()));
        std::fs::write(house.path().join(MANIFEST), "{}").unwrap();
        let said = check_is_store(house.path()).unwrap_err().to_string();
        assert!(said.contains("is a backup"), "{said}");
    }
}
