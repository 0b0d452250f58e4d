//! The mark of a restored store. While it is there, the gateway moves no money: payments may have been made behind the
//! point that the store was restored to, and only the providers know of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;
use crate::storage::StoreError;
use crate::storage::whole_file::WholeFile;

/// The file's name in the data directory.
pub const HELD: &str = "HELD";
/// How much earlier than the restore point the providers are asked from, for clocks that differ and requests that were on
/// their way.
pub const SLACK: Duration = Duration::from_secs(15 * 60);

/// What the mark says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Sequence of the last commit that the store was restored with.
    pub restored_until_sequence: u64,
    /// When that commit was made, as the clock of its machine had it.
    pub restored_until_time: Timestamp,
    /// The earliest time that the commit can have been made at, when that is not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it was restored.
    pub made_at: Timestamp,
    /// Channels that the operator has compared and confirmed, and when.
    #[serde(default)]
    pub confirmed: BTreeMap<String, Timestamp>,
}

impl Held {
    /// The earliest time that the restore point can have been at.
    pub fn since(&self) -> Timestamp {
        self.since.map_or(self.restored_until_time, |since| since.min(self.restored_until_time))
    }

    /// From when on providers are asked what they have.
    pub fn asked_since(&self) -> Timestamp {
        self.since().minus(SLACK)
    }
}

/// Where the mark of one store is kept.
#[derive(Clone, Debug)]
pub struct HeldFile(WholeFile);

impl HeldFile {
    /// That of the store in `directory`.
    pub fn of(directory: &Path) -> Self {
        Self(WholeFile::new(directory.join(HELD)))
    }

    /// What the mark says; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is there and can't be understood: it is not taken for absent, because then money
    /// could move twice.
    pub fn read(&self) -> Result<Option<Held>, StoreError> {
        let damaged = || {
            StoreError::Corrupt(format!(
                "{} is damaged, so that it is not known up to where the store was restored; restore the backup again",
                self.0.path().display()
            ))
        };
        match self.0.read() {
            Ok(Some(content)) => serde_json::from_slice(&content).map(Some).map_err(|_| damaged()),
            Ok(None) => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(damaged()),
            Err(error) => Err(self.failed("reading", &error)),
        }
    }

    /// Writes the mark. Blocks until it is on disk.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write(&self, held: &Held) -> Result<(), StoreError> {
        let content = serde_json::to_vec(held)
            .map_err(|error| StoreError::Invalid(format!("{HELD} can't be written: {error}")))?;
        self.0.write(&content).map_err(|error| self.failed("writing", &error))
    }

    /// Removes the mark. Blocks until that is on disk.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove(&self) -> Result<(), StoreError> {
        self.0.remove().map_err(|error| self.failed("removing", &error))
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> StoreError {
        StoreError::Io { context: format!("{what} {}", self.0.path().display()), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_reads_back_and_a_damaged_one_is_not_taken_for_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = HeldFile::of(directory.path());
        assert_eq!(file.read(), Ok(None));
        let time = Timestamp::from_unix_ms(1_790_000_000_123);
        let confirmed = BTreeMap::from([(String::from("alipay"), time)]);
        let held = Held {
            restored_until_sequence: 7,
            restored_until_time: time,
            since: Some(Timestamp::from_unix_ms(1_790_000_000_000)),
            made_at: time,
            confirmed,
        };
        file.write(&held).unwrap();
        assert_eq!(file.read(), Ok(Some(held)));
        let path = directory.path().join(HELD);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(file.read(), Err(StoreError::Corrupt(_))));
        file.remove().unwrap();
        assert_eq!(file.read(), Ok(None));
    }
}
