//! Secrets at rest: XChaCha20-Poly1305 under a master key that is kept in a file outside the store.
//!
//! Every secret is bound to the record that it belongs to (the associated data), so that rows can't be swapped.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::random::Random;
use crate::storage::files::create_private_directory;

const FORM: u8 = 1;
const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;

/// Why a secret or the master key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file can't be read or made.
    #[error("the master key file {path}: {message}")]
    KeyFile {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The master key is missing although records encrypted with it exist.
    #[error(
        "the master key file {0} is missing, but the store has records encrypted with it; put the file back \
         (it is never made again, because then nothing could be read)"
    )]
    KeyLost(PathBuf),
    /// A secret was encrypted with another key, was moved from another record, or was changed.
    #[error("a stored secret can't be decrypted: wrong master key, or the record was changed")]
    NotDecrypted,
    /// Encryption failed.
    #[error("a secret can't be encrypted")]
    NotEncrypted,
}

/// Encrypts and decrypts secrets.
pub struct Vault {
    cipher: XChaCha20Poly1305,
    key_id: [u8; KEY_ID_BYTES],
    random: Random,
}

impl Vault {
    /// Reads the master key from `path`. Makes a new one (mode 0600) when the file is not there, unless
    /// `encrypted_records_exist`.
    ///
    /// # Errors
    /// [`VaultError::KeyFile`] or [`VaultError::KeyLost`].
    pub fn open(path: &Path, encrypted_records_exist: bool, random: Random) -> Result<Self, VaultError> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
                hex::decode_to_slice(Zeroizing::new(text).trim(), key.as_mut_slice())
                    .map_err(|_| key_file_error(path, "it must hold 64 hexadecimal digits and nothing else"))?;
                Ok(Self::with_key(&key, random))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if encrypted_records_exist {
                    return Err(VaultError::KeyLost(path.to_path_buf()));
                }
                let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
                random.fill(key.as_mut_slice());
                write_key_file(path, &key).map_err(|error| key_file_error(path, &error.to_string()))?;
                Ok(Self::with_key(&key, random))
            }
            Err(error) => Err(key_file_error(path, &error.to_string())),
        }
    }

    /// A vault with a key that somebody else keeps.
    pub fn with_key(key: &[u8; KEY_BYTES], random: Random) -> Self {
        let mut key_id = [0_u8; KEY_ID_BYTES];
        key_id.copy_from_slice(&Sha256::digest(key)[..KEY_ID_BYTES]);
        Self { cipher: XChaCha20Poly1305::new(key.into()), key_id, random }
    }

    /// Encrypts `secret` for the record that `identity` names.
    ///
    /// # Errors
    /// [`VaultError::NotEncrypted`].
    pub fn seal(&self, identity: &str, secret: &[u8]) -> Result<String, VaultError> {
        let mut nonce = [0_u8; NONCE_BYTES];
        self.random.fill(&mut nonce);
        let payload = Payload { msg: secret, aad: identity.as_bytes() };
        let ciphertext =
            self.cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| VaultError::NotEncrypted)?;
        let mut sealed = vec![FORM];
        sealed.extend_from_slice(&self.key_id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok(hex::encode(sealed))
    }

    /// Decrypts what [`Vault::seal`] made for the same `identity`.
    ///
    /// # Errors
    /// [`VaultError::NotDecrypted`].
    pub fn unseal(&self, identity: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let bytes = hex::decode(sealed).map_err(|_| VaultError::NotDecrypted)?;
        let header = 1 + KEY_ID_BYTES + NONCE_BYTES;
        if bytes.len() < header || bytes[0] != FORM || bytes[1..=KEY_ID_BYTES] != self.key_id {
            return Err(VaultError::NotDecrypted);
        }
        let nonce = XNonce::from_slice(&bytes[1 + KEY_ID_BYTES..header]);
        let payload = Payload { msg: &bytes[header..], aad: identity.as_bytes() };
        self.cipher.decrypt(nonce, payload).map(Zeroizing::new).map_err(|_| VaultError::NotDecrypted)
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Vault")
    }
}

fn key_file_error(path: &Path, message: &str) -> VaultError {
    VaultError::KeyFile { path: path.to_path_buf(), message: message.to_owned() }
}

/// Writes the key beside its place, syncs it and renames it, so that a crash leaves either no key or a whole one.
fn write_key_file(path: &Path, key: &[u8; KEY_BYTES]) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_private_directory(directory)?;
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(Zeroizing::new(hex::encode(key)).as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn vault(key: u8) -> Vault {
        Vault::with_key(&[key; KEY_BYTES], Random::seeded(1))
    }

    #[test]
    fn a_secret_reads_back_only_for_its_own_record_and_key() {
        let sealed = vault(1).seal("api_key|ak_1", b"sk_secret").unwrap();
        assert!(!sealed.contains("sk_secret"));
        assert_eq!(vault(1).unseal("api_key|ak_1", &sealed).unwrap().as_slice(), b"sk_secret");
        assert!(vault(1).unseal("api_key|ak_2", &sealed).is_err());
        assert!(vault(2).unseal("api_key|ak_1", &sealed).is_err());
        let mut changed = sealed.clone();
        changed.replace_range(sealed.len() - 1.., if sealed.ends_with('0') { "1" } else { "0" });
        assert!(vault(1).unseal("api_key|ak_1", &changed).is_err());
    }

    #[test]
    fn the_key_file_is_made_once_with_mode_0600_and_never_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let sealed = Vault::open(&path, false, Random::from_os()).unwrap().seal("a", b"b").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Vault::open(&path, true, Random::from_os()).unwrap();
        assert_eq!(again.unseal("a", &sealed).unwrap().as_slice(), b"b");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Vault::open(&path, true, Random::from_os()), Err(VaultError::KeyLost(_))));
        assert!(!path.exists());
    }
}
