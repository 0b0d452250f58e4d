//! The machine's own list of names (`/etc/hosts`), which is asked before any name server. It is read again when it has
//! changed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

/// A longer file is not read; the largest lists of advertisers that people keep there are half of it.
const SIZE_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Stamp {
    /// That of the file at `path`; `None` if there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok(), length: metadata.len() })
    }
}

type Names = HashMap<Box<str>, Vec<IpAddr>>;

/// The file as it was when last read.
#[derive(Debug)]
pub(super) struct HostsFile {
    path: PathBuf,
    read: Mutex<(Option<Stamp>, Arc<Names>)>,
}

impl HostsFile {
    /// The file at `path`, which need not be there.
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read: Mutex::default() }
    }

    /// The addresses that it has for `name`, in any case and with or without a dot at the end. Reads the file if it has
    /// changed, so it must not be called where nothing may block.
    pub(super) fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        let stamp = Stamp::of(&self.path);
        let mut read = self.read.lock();
        if read.0 != stamp {
            *read = (stamp, Arc::new(self.names(stamp)));
        }
        let names = Arc::clone(&read.1);
        drop(read);
        names.get(normal(name).as_str()).cloned().unwrap_or_default()
    }

    fn names(&self, stamp: Option<Stamp>) -> Names {
        if stamp.is_none_or(|stamp| stamp.length > SIZE_MAX_BYTES) {
            return Names::new();
        }
        match std::fs::read(&self.path) {
            Ok(bytes) => parse(&String::from_utf8_lossy(&bytes)),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the list of hosts can't be read");
                Names::new()
            }
        }
    }
}

fn parse(text: &str) -> Names {
    let mut names = Names::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        for name in words {
            let addresses = names.entry(normal(name).into_boxed_str()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    names
}

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_with_all_their_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let text = "# 10.9.9.9 remarked.internal\n127.0.0.1\tGood.Internal other # remarked.internal\n::1 good.internal\n\
                    nonsense good.internal\n\n10.0.0.1\n127.0.0.1 good.internal.\n";
        std::fs::write(&path, text).unwrap();
        let hosts = HostsFile::new(&path);
        let both: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(hosts.addresses_of("good.internal"), both);
        assert_eq!(hosts.addresses_of("GOOD.internal."), both);
        assert_eq!(hosts.addresses_of("other"), both[..1]);
        assert!(hosts.addresses_of("remarked.internal").is_empty());
        assert!(hosts.addresses_of("good").is_empty());
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_missing_one_has_no_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let hosts = HostsFile::new(&path);
        assert!(hosts.addresses_of("a.internal").is_empty());
        std::fs::write(&path, "10.0.0.1 a.internal\n").unwrap();
        assert_eq!(hosts.addresses_of("a.internal"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        std::fs::write(&path, "10.0.0.200 a.internal\n").unwrap();
        assert_eq!(hosts.addresses_of("a.internal"), ["10.0.0.200".parse::<IpAddr>().unwrap()]);
        std::fs::remove_file(&path).unwrap();
        assert!(hosts.addresses_of("a.internal").is_empty());
    }
}
