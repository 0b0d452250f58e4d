//! The file with the master keys, outside the store: one key a line, in hexadecimal. The first one seals, the others open
//! what was sealed before the key was rotated. Always written whole: beside its place, synced, renamed.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::random::Random;
use crate::storage::files::{create_private_directory, sync_parent_of};
use crate::storage::vault::VaultError;

/// Length of a master key.
pub const KEY_BYTES: usize = 32;
/// Length of a key's id.
pub const KEY_ID_BYTES: usize = 8;
/// Most keys in one file. A rotation needs two.
const KEYS_MAX: usize = 16;

/// Which master key something was sealed with: the beginning of the key's SHA-256. No secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKeyId([u8; KEY_ID_BYTES]);

impl MasterKeyId {
    /// The id with these bytes.
    pub const fn new(bytes: [u8; KEY_ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; KEY_ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for MasterKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A master key. Wiped from memory when dropped, and never shown.
#[derive(Clone)]
pub struct MasterKeyBytes(Zeroizing<[u8; KEY_BYTES]>);

impl MasterKeyBytes {
    /// The key with these bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new one.
    pub fn generate(random: &Random) -> Self {
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
        random.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Its id.
    pub fn id(&self) -> MasterKeyId {
        let mut id = [0_u8; KEY_ID_BYTES];
        id.copy_from_slice(&Sha256::digest(self.0.as_slice())[..KEY_ID_BYTES]);
        MasterKeyId(id)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for MasterKeyBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MasterKeyBytes({})", self.id())
    }
}

/// The master keys of an installation: the one that seals, and older ones that only open.
#[derive(Clone, Debug)]
pub struct KeyRing {
    current: MasterKeyBytes,
    older: Vec<MasterKeyBytes>,
}

impl KeyRing {
    /// One key and no older ones.
    pub const fn of(current: MasterKeyBytes) -> Self {
        Self { current, older: Vec::new() }
    }

    /// The key that seals.
    pub const fn current(&self) -> &MasterKeyBytes {
        &self.current
    }

    /// The keys that only open.
    pub fn older(&self) -> &[MasterKeyBytes] {
        &self.older
    }

    /// All keys, the one that seals first.
    pub fn keys(&self) -> impl Iterator<Item = &MasterKeyBytes> {
        std::iter::once(&self.current).chain(&self.older)
    }

    /// Whether a key with this id is in it.
    pub fn contains(&self, id: MasterKeyId) -> bool {
        self.keys().any(|key| key.id() == id)
    }

    /// The same with another key that seals; those that are here only open from then on.
    #[must_use]
    pub fn with_new(&self, current: MasterKeyBytes) -> Self {
        Self { current, older: self.keys().cloned().collect() }
    }

    /// The same without older keys.
    #[must_use]
    pub fn without_older(&self) -> Self {
        Self::of(self.current.clone())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<MasterKeyBytes> = Vec::new();
        for (index, line) in text.trim().lines().enumerate() {
            let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
            hex::decode_to_slice(line.trim(), bytes.as_mut_slice())
                .map_err(|_| format!("line {} must hold a key as 64 hexadecimal digits and nothing else", index + 1))?;
            let key = MasterKeyBytes(bytes);
            if keys.iter().any(|known| known.id() == key.id()) {
                return Err(format!("line {} repeats an earlier key", index + 1));
            }
            keys.push(key);
        }
        if keys.len() > KEYS_MAX {
            return Err(format!("it holds more than {KEYS_MAX} keys"));
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or("it is empty; a line of it must hold a key as 64 hexadecimal digits")?;
        Ok(Self { current, older: keys.collect() })
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity((2 * KEY_BYTES + 1) * (1 + self.older.len())));
        for key in self.keys() {
            text.push_str(&Zeroizing::new(hex::encode(key.as_bytes())));
            text.push('\n');
        }
        text
    }
}

/// Where the master keys of an installation are.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The file at `path`, which need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys in it; `None` when there is no such file.
    ///
    /// # Errors
    /// [`VaultError::KeyFile`] when it can't be read or holds anything but keys.
    pub fn read(&self) -> Result<Option<KeyRing>, VaultError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => KeyRing::parse(&Zeroizing::new(text)).map(Some).map_err(|message| self.failed(&message)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    /// Writes the keys. A crash leaves the file as it was before or as it is to be. A file that is there keeps its mode, and
    /// its owner and group where this process may give files away; a link is followed. Blocks until that is on disk.
    ///
    /// # Errors
    /// [`VaultError::KeyFile`].
    pub fn write(&self, ring: &KeyRing) -> Result<(), VaultError> {
        let written = self.resolved().and_then(|path| write_private(&path, &ring.text()));
        written.map_err(|error| self.failed(&format!("it can't be written: {error}")))
    }

    /// Where the file itself is: at the end of the links that a deployment has made, which it may make anew at any time. A
    /// file in the place of the link would be lost then, and the only copy of a new key with it.
    fn resolved(&self) -> std::io::Result<PathBuf> {
        if !std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_symlink()) {
            return Ok(self.path.clone());
        }
        std::fs::canonicalize(&self.path).map_err(|error| {
            std::io::Error::new(error.kind(), format!("it is a symbolic link to where no file can be found ({error})"))
        })
    }

    /// Where a key is kept once nothing in the store needs it any more. Backups from before do. Beside the file itself, and
    /// not beside a link to it.
    pub fn place_of_old(&self, id: MasterKeyId) -> PathBuf {
        let path = self.resolved().unwrap_or_else(|_| self.path.clone());
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".old-{id}"));
        path.with_file_name(name)
    }

    /// Keeps a key in a file of its own beside this one. Blocks until that is on disk.
    ///
    /// # Errors
    /// [`VaultError::KeyFile`].
    pub fn set_aside(&self, key: &MasterKeyBytes) -> Result<PathBuf, VaultError> {
        let place = Self::new(self.place_of_old(key.id()));
        place.write(&KeyRing::of(key.clone()))?;
        Ok(place.path)
    }

    fn failed(&self, message: &str) -> VaultError {
        VaultError::KeyFile { path: self.path.clone(), message: message.to_owned() }
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_private_directory(directory)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    // One that a crash has left may be anything.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    take_over_access(path, &file)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_parent_of(path)
}

/// Lets those read the new file who may read the one that it replaces, if there is one.
fn take_over_access(replaced: &Path, file: &File) -> std::io::Result<()> {
    let before = match std::fs::metadata(replaced) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        before => before?,
    };
    let has_group = file.metadata()?.gid() == before.gid() || fchown(file, None, Some(before.gid())).is_ok();
    if file.metadata()?.uid() != before.uid() {
        // Only root may; anybody else could read it before and can now.
        let _ = fchown(file, Some(before.uid()), None);
    }
    // What the group may do is not for another group.
    let mode = before.mode() & if has_group { 0o777 } else { 0o707 };
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> MasterKeyBytes {
        MasterKeyBytes::new([byte; KEY_BYTES])
    }

    fn ids(ring: &KeyRing) -> Vec<MasterKeyId> {
        ring.keys().map(MasterKeyBytes::id).collect()
    }

    #[test]
    fn several_keys_read_back_in_their_order_and_a_file_of_one_line_is_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::new(directory.path().join("master.key"));
        assert!(file.read().unwrap().is_none());
        let ring = KeyRing::of(key(1)).with_new(key(2)).with_new(key(3));
        std::fs::write(directory.path().join("master.key.tmp"), "what a crash has left").unwrap();
        file.write(&ring).unwrap();
        assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let read = file.read().unwrap().unwrap();
        assert_eq!(ids(&read), [key(3).id(), key(2).id(), key(1).id()]);
        assert_eq!(ids(&read.without_older()), [key(3).id()]);
        // As it was always written, and as an editor would leave it.
        for text in [format!("{}\n", "11".repeat(32)), format!("\r\n{}\r\n\n", "11".repeat(32)), "11".repeat(32)] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(ids(&file.read().unwrap().unwrap()), [MasterKeyBytes::new([0x11; KEY_BYTES]).id()]);
        }
    }

    #[test]
    fn a_link_stays_one_and_the_file_that_it_leads_to_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (secrets, data) = (directory.path().join("secrets"), directory.path().join("data"));
        std::fs::create_dir(&secrets).unwrap();
        std::fs::create_dir(&data).unwrap();
        let (link, target) = (data.join("master.key"), secrets.canonicalize().unwrap().join("tollgate.key"));
        let between = data.join("between");
        std::os::unix::fs::symlink("../secrets/tollgate.key", &between).unwrap();
        std::os::unix::fs::symlink(&between, &link).unwrap();
        let file = KeyFile::new(link.clone());
        assert!(file.read().unwrap().is_none());
        let refused = file.write(&KeyRing::of(key(1))).unwrap_err().to_string();
        assert!(refused.contains("symbolic link"), "what is not there may only not be mounted: {refused}");
        std::fs::write(&target, "11".repeat(32)).unwrap();
        file.write(&KeyRing::of(key(1)).with_new(key(2))).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(ids(&KeyFile::new(target.clone()).read().unwrap().unwrap()), [key(2).id(), key(1).id()]);
        let place = file.set_aside(&key(1)).unwrap();
        assert_eq!(place, target.with_file_name(format!("tollgate.key.old-{}", key(1).id())));
        assert_eq!(place, file.place_of_old(key(1).id()));
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 2, "nothing is beside the link");
    }

    #[test]
    fn a_file_that_is_there_keeps_its_mode_and_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::new(directory.path().join("master.key"));
        file.write(&KeyRing::of(key(1))).unwrap();
        // Another owner and group only where this process may give files away.
        let given = std::os::unix::fs::chown(file.path(), Some(4321), Some(1234)).is_ok();
        for mode in [0o640, 0o400, 0o600] {
            std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            let before = std::fs::metadata(file.path()).unwrap();
            file.write(&KeyRing::of(key(1)).with_new(key(2))).unwrap();
            let after = std::fs::metadata(file.path()).unwrap();
            assert_eq!(after.mode() & 0o777, mode);
            assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()), "given away: {given}");
        }
    }

    #[test]
    fn anything_but_keys_is_refused_by_its_line_and_never_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::new(directory.path().join("master.key"));
        let (one, two) = ("11".repeat(32), "22".repeat(32));
        let long: String = (0..=KEYS_MAX).map(|byte| format!("{}\n", format!("{byte:02x}").repeat(32))).collect();
        for (text, word) in [
            (String::new(), "empty"),
            (format!("{one}\nhalf-a-secret\n"), "line 2 must hold"),
            (format!("{one}\n\n{two}\n"), "line 2 must hold"),
            (format!("{one} {two}"), "line 1 must hold"),
            (format!("{one}\n{}", &two[2..]), "line 2 must hold"),
            (format!("{one}\n{one}"), "line 2 repeats"),
            (long, "more than"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let said = file.read().unwrap_err().to_string();
            assert!(said.contains(word) && said.contains("master.key"), "{said}");
            assert!(!said.contains("1111") && !said.contains("2222") && !said.contains("half"), "{said}");
        }
    }

    #[test]
    fn an_old_key_is_kept_beside_under_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::new(directory.path().join("master.key"));
        let place = file.set_aside(&key(7)).unwrap();
        assert_eq!(place, directory.path().join(format!("master.key.old-{}", key(7).id())));
        assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ids(&KeyFile::new(place).read().unwrap().unwrap()), [key(7).id()]);
        assert!(!format!("{:?}", key(7)).contains("0707"));
    }
}
