//! Secrets at rest: XChaCha20-Poly1305 under a master key that is kept in a file outside the store.
//!
//! Every secret is bound to the record that it belongs to (the associated data), so that rows can't be swapped. What is
//! sealed names its key, so that the key can be changed while secrets under the one before are still there.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::random::Random;
use crate::storage::key_file::{KEY_BYTES, KEY_ID_BYTES, KeyFile, KeyRing, MasterKeyBytes, MasterKeyId};

const FORM: u8 = 1;
const NONCE_BYTES: usize = 24;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;

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
    /// A secret was encrypted with a master key that is not here.
    #[error("a stored secret can't be decrypted: it is under master key {0}, which is not in the master key file")]
    KeyMissing(MasterKeyId),
    /// A secret was moved from another record, or was changed.
    #[error("a stored secret can't be decrypted: wrong master key, or the record was changed")]
    NotDecrypted,
    /// Encryption failed.
    #[error("a secret can't be encrypted")]
    NotEncrypted,
}

/// Encrypts and decrypts secrets. The key that encrypts can be changed at any time.
pub struct Vault {
    ring: ArcSwap<Ring>,
    random: Random,
}

struct Ring {
    current: SealingKey,
    older: Vec<SealingKey>,
}

struct SealingKey {
    id: MasterKeyId,
    cipher: XChaCha20Poly1305,
}

impl SealingKey {
    fn new(key: &MasterKeyBytes) -> Self {
        Self { id: key.id(), cipher: XChaCha20Poly1305::new(key.as_bytes().into()) }
    }
}

impl Ring {
    fn new(ring: &KeyRing) -> Self {
        Self { current: SealingKey::new(ring.current()), older: ring.older().iter().map(SealingKey::new).collect() }
    }
}

impl Vault {
    /// Reads the master keys from `file`. Makes a new one (mode 0600) when the file is not there, unless
    /// `encrypted_records_exist`.
    ///
    /// # Errors
    /// [`VaultError::KeyFile`] or [`VaultError::KeyLost`].
    pub fn open(file: &KeyFile, encrypted_records_exist: bool, random: Random) -> Result<Self, VaultError> {
        if let Some(ring) = file.read()? {
            return Ok(Self::with_ring(&ring, random));
        }
        if encrypted_records_exist {
            return Err(VaultError::KeyLost(file.path().to_path_buf()));
        }
        let ring = KeyRing::of(MasterKeyBytes::generate(&random));
        file.write(&ring)?;
        Ok(Self::with_ring(&ring, random))
    }

    /// A vault with a key that somebody else keeps.
    pub fn with_key(key: &[u8; KEY_BYTES], random: Random) -> Self {
        Self::with_ring(&KeyRing::of(MasterKeyBytes::new(*key)), random)
    }

    /// A vault with these keys.
    pub fn with_ring(ring: &KeyRing, random: Random) -> Self {
        Self { ring: ArcSwap::from_pointee(Ring::new(ring)), random }
    }

    /// For sealing with the key of this moment. To be kept until what it sealed is committed or given up: the key counts
    /// as in use for as long.
    pub fn sealing(&self) -> Sealing {
        Sealing { ring: self.ring.load_full(), random: self.random.clone() }
    }

    /// Decrypts what [`Sealing::seal`] made for the same `identity`.
    ///
    /// # Errors
    /// [`VaultError::KeyMissing`] or [`VaultError::NotDecrypted`].
    pub fn unseal(&self, identity: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let bytes = hex::decode(sealed).map_err(|_| VaultError::NotDecrypted)?;
        let id = key_id_of(&bytes).ok_or(VaultError::NotDecrypted)?;
        let ring = self.ring.load();
        let key = std::iter::once(&ring.current).chain(&ring.older).find(|key| key.id == id);
        let key = key.ok_or(VaultError::KeyMissing(id))?;
        let nonce = XNonce::from_slice(&bytes[1 + KEY_ID_BYTES..HEADER_BYTES]);
        let payload = Payload { msg: &bytes[HEADER_BYTES..], aad: identity.as_bytes() };
        key.cipher.decrypt(nonce, payload).map(Zeroizing::new).map_err(|_| VaultError::NotDecrypted)
    }

    /// The same secret under the key that seals now; `None` when it is under that key already.
    ///
    /// # Errors
    /// As for [`Vault::unseal`] and [`Sealing::seal`].
    pub fn reseal(&self, identity: &str, sealed: &str) -> Result<Option<String>, VaultError> {
        let is_current = hex::decode(sealed).is_ok_and(|bytes| key_id_of(&bytes) == Some(self.current()));
        if is_current {
            return Ok(None);
        }
        let secret = self.unseal(identity, sealed)?;
        self.sealing().seal(identity, &secret).map(Some)
    }

    /// The key that seals.
    pub fn current(&self) -> MasterKeyId {
        self.ring.load().current.id
    }

    /// The keys that only open.
    pub fn older(&self) -> Vec<MasterKeyId> {
        self.ring.load().older.iter().map(|key| key.id).collect()
    }

    /// Uses other keys from now on. What is returned says whether somebody still seals with those before.
    pub fn replace(&self, ring: &KeyRing) -> RetiredKeys {
        RetiredKeys(self.ring.swap(Arc::new(Ring::new(ring))))
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Vault")
    }
}

/// Seals with the key of the moment that it was made in; see [`Vault::sealing`].
#[must_use = "it says that the key is in use for as long as it is kept"]
pub struct Sealing {
    ring: Arc<Ring>,
    random: Random,
}

impl Sealing {
    /// Encrypts `secret` for the record that `identity` names.
    ///
    /// # Errors
    /// [`VaultError::NotEncrypted`].
    pub fn seal(&self, identity: &str, secret: &[u8]) -> Result<String, VaultError> {
        let key = &self.ring.current;
        let mut nonce = [0_u8; NONCE_BYTES];
        self.random.fill(&mut nonce);
        let payload = Payload { msg: secret, aad: identity.as_bytes() };
        let ciphertext =
            key.cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| VaultError::NotEncrypted)?;
        let mut sealed = Vec::with_capacity(HEADER_BYTES + ciphertext.len());
        sealed.push(FORM);
        sealed.extend_from_slice(key.id.as_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok(hex::encode(sealed))
    }
}

/// Keys that were replaced.
pub struct RetiredKeys(Arc<Ring>);

impl RetiredKeys {
    /// The key that sealed.
    pub fn current(&self) -> MasterKeyId {
        self.0.current.id
    }

    /// Whether what was sealed with them may still be on its way to the store.
    pub fn are_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// The key that something was sealed with; `None` when it is nothing that was sealed here.
fn key_id_of(sealed: &[u8]) -> Option<MasterKeyId> {
    if sealed.len() < HEADER_BYTES || sealed[0] != FORM {
        return None;
    }
    Some(MasterKeyId::new(sealed[1..=KEY_ID_BYTES].try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn ring(keys: &[u8]) -> KeyRing {
        let mut keys = keys.iter().rev().map(|byte| MasterKeyBytes::new([*byte; KEY_BYTES]));
        let first = KeyRing::of(keys.next().unwrap());
        keys.fold(first, |ring, key| ring.with_new(key))
    }

    fn vault(keys: &[u8]) -> Vault {
        Vault::with_ring(&ring(keys), Random::seeded(1))
    }

    #[test]
    fn a_secret_reads_back_only_for_its_own_record_and_key() {
        let sealed = vault(&[1]).sealing().seal("api_key|ak_1", b"sk_secret").unwrap();
        assert!(!sealed.contains("sk_secret"));
        assert_eq!(vault(&[1]).unseal("api_key|ak_1", &sealed).unwrap().as_slice(), b"sk_secret");
        assert!(vault(&[1]).unseal("api_key|ak_2", &sealed).is_err());
        let id = MasterKeyBytes::new([1; KEY_BYTES]).id();
        let missing = vault(&[2]).unseal("api_key|ak_1", &sealed).unwrap_err();
        assert!(matches!(missing, VaultError::KeyMissing(named) if named == id), "{missing}");
        let mut changed = sealed.clone();
        changed.replace_range(sealed.len() - 1.., if sealed.ends_with('0') { "1" } else { "0" });
        assert!(matches!(vault(&[1]).unseal("api_key|ak_1", &changed), Err(VaultError::NotDecrypted)));
    }

    #[test]
    fn older_keys_open_and_only_the_first_seals() {
        let old = vault(&[1]).sealing().seal("a", b"x").unwrap();
        let both = vault(&[2, 1]);
        assert_eq!(both.unseal("a", &old).unwrap().as_slice(), b"x");
        let new = both.reseal("a", &old).unwrap().unwrap();
        assert_eq!(vault(&[2]).unseal("a", &new).unwrap().as_slice(), b"x");
        assert_eq!(both.reseal("a", &new).unwrap(), None, "it is under the first key already");
        assert!(both.reseal("b", &old).is_err(), "it is another record's");
    }

    #[test]
    fn a_key_counts_as_in_use_until_what_it_sealed_is_committed() {
        let vault = vault(&[1]);
        let sealing = vault.sealing();
        let retired = vault.replace(&ring(&[2, 1]));
        assert!(retired.are_in_use());
        let late = sealing.seal("a", b"x").unwrap();
        assert!(vault.reseal("a", &late).unwrap().is_some(), "it was sealed with the key before");
        drop(sealing);
        assert!(!retired.are_in_use());
        let _of_now = vault.sealing();
        assert!(!retired.are_in_use());
    }

    #[test]
    fn the_key_file_is_made_once_with_mode_0600_and_never_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::new(directory.path().join("master.key"));
        let sealed = Vault::open(&file, false, Random::from_os()).unwrap().sealing().seal("a", b"b").unwrap();
        assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Vault::open(&file, true, Random::from_os()).unwrap();
        assert_eq!(again.unseal("a", &sealed).unwrap().as_slice(), b"b");
        std::fs::remove_file(file.path()).unwrap();
        assert!(matches!(Vault::open(&file, true, Random::from_os()), Err(VaultError::KeyLost(_))));
        assert!(!file.path().exists());
    }
}
