//! What a channel proves itself with. Kept out of logs and wiped from memory when dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Credential files are small; a larger one is the wrong file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A channel's credentials by name, such as `secret_key`.
#[derive(Clone, Default)]
pub struct Credentials(BTreeMap<String, Zeroizing<String>>);

/// A credential could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The entry's name does not say where to read it from.
    #[error("credential `{0}` must end in `_env` (name of an environment variable) or `_file` (path of a file)")]
    Source(String),
    /// The environment variable is not there.
    #[error("set the environment variable {variable}, which credential `{entry}` names")]
    Variable {
        /// The configuration's entry.
        entry: String,
        /// The variable that it names.
        variable: String,
    },
    /// The file can't be read.
    #[error("the file {path}, which credential `{entry}` names, can't be read: {message}")]
    File {
        /// The configuration's entry.
        entry: String,
        /// The file that it names.
        path: String,
        /// What the operating system said.
        message: String,
    },
}

impl Credentials {
    /// Credentials by name, as they are.
    pub fn new<N: Into<String>, V: Into<String>>(entries: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(entries.into_iter().map(|(name, value)| (name.into(), Zeroizing::new(value.into()))).collect())
    }

    /// Reads what the configuration's entries name: `<name>_env` an environment variable (looked up by `variable`),
    /// `<name>_file` a file. White space around a value is dropped.
    ///
    /// # Errors
    /// [`CredentialError`] for the first entry that can't be read.
    pub fn read(
        entries: &BTreeMap<String, String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, CredentialError> {
        let mut credentials = BTreeMap::new();
        for (entry, source) in entries {
            let (name, value) = if let Some(name) = entry.strip_suffix("_env") {
                let missing = || CredentialError::Variable { entry: entry.clone(), variable: source.clone() };
                (name, Zeroizing::new(variable(source).ok_or_else(missing)?))
            } else if let Some(name) = entry.strip_suffix("_file") {
                (name, read_file(entry, source)?)
            } else {
                return Err(CredentialError::Source(entry.clone()));
            };
            credentials.insert(name.to_owned(), Zeroizing::new(value.trim().to_owned()));
        }
        Ok(Self(credentials))
    }

    /// Whether one of these entries names a pipe or the like, which is read once only, and would be waited for.
    pub(crate) fn name_a_pipe(entries: &BTreeMap<String, String>) -> bool {
        let mut files = entries.iter().filter(|(entry, _)| entry.ends_with("_file"));
        files.any(|(_, path)| std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()))
    }

    /// What tells whether they have changed, and nothing else to whoever does not know `salt`.
    pub(crate) fn digest(&self, salt: &[u8; 32]) -> [u8; 32] {
        let mut digest = Sha256::new_with_prefix(salt);
        for part in self.0.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]) {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    /// One credential; `None` when it is missing or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }
}

fn read_file(entry: &str, path: &str) -> Result<Zeroizing<String>, CredentialError> {
    let failed = |message: String| CredentialError::File { entry: entry.to_owned(), path: path.to_owned(), message };
    let size_bytes = std::fs::metadata(Path::new(path)).map_err(|error| failed(error.to_string()))?.len();
    if size_bytes > FILE_BYTES_MAX {
        return Err(failed(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| failed(error.to_string()))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_from_the_environment_and_from_files_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        std::fs::write(&path, "  from a file\n").unwrap();
        let entries = BTreeMap::from([
            (String::from("secret_key_env"), String::from("STRIPE_KEY")),
            (String::from("app_private_key_file"), path.display().to_string()),
        ]);
        let variable = |name: &str| (name == "STRIPE_KEY").then(|| String::from("sk_live_x"));
        let credentials = Credentials::read(&entries, variable).unwrap();
        assert_eq!(credentials.get("secret_key"), Some("sk_live_x"));
        assert_eq!(credentials.get("app_private_key"), Some("from a file"));
        assert_eq!(credentials.get("app_id"), None);
        assert!(!format!("{credentials:?}").contains("sk_live_x"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let read = |entry: &str, source: &str| {
            Credentials::read(&BTreeMap::from([(entry.to_owned(), source.to_owned())]), |_| None).unwrap_err()
        };
        assert!(matches!(read("secret_key", "sk_live_x"), CredentialError::Source(_)));
        assert!(read("secret_key_env", "STRIPE_KEY").to_string().contains("STRIPE_KEY"));
        assert!(read("secret_key_file", "/nowhere/key").to_string().contains("/nowhere/key"));
    }
}
