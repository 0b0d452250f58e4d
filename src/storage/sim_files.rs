//! Files in memory that forget what was not synced, for tests and simulation.
//!
//! Content and names have two states, as seen and as durable. [`SimFiles::crash`] keeps what was synced and, of the
//! rest, sector by sector and name by name, whatever chance says. Errors can be ordered in advance.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::random::Random;
use crate::storage::files::{FileHandle, Files};

/// What a disk writes as a whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// A simulated disk. Cheap to clone; clones are the same disk.
#[derive(Clone, Default)]
pub struct SimFiles(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    /// Counts crashes, so that handles from before one can't be used after it.
    boot: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names that no sync of their directory has made durable yet, oldest first.
    pending_names: Vec<NameChange>,
    faults: Faults,
    syncs: u64,
    writes: u64,
}

#[derive(Default)]
struct Inode {
    directory: bool,
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: BTreeSet<usize>,
    /// Sectors whose sync failed: like Linux, a later sync reports success without writing them, unless they are
    /// written again.
    lost: BTreeSet<usize>,
}

#[derive(Clone)]
enum NameChange {
    Set { path: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
    Remove { path: String },
}

#[derive(Default)]
struct Faults {
    powered_off: bool,
    writes_before_failure: Option<u64>,
    syncs_before_failure: Option<u64>,
    syncs_before_power_off: Option<u64>,
    space_bytes: Option<u64>,
    no_handles: bool,
}

impl SimFiles {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `count` more writes succeed and the one after them fail.
    pub fn fail_write_after(&self, count: u64) {
        self.0.lock().faults.writes_before_failure = Some(count);
    }

    /// Lets `count` more syncs of a file succeed and the one after them fail; what it was to make durable is lost at
    /// the next crash, whatever later syncs say.
    pub fn fail_sync_after(&self, count: u64) {
        self.0.lock().faults.syncs_before_failure = Some(count);
    }

    /// Lets `count` more syncs (of files and directories) succeed and switches the power off at the one after them.
    pub fn power_off_after_syncs(&self, count: u64) {
        self.0.lock().faults.syncs_before_power_off = Some(count);
    }

    /// Limits the bytes that all files may have together; `None` lifts the limit.
    pub fn set_space_bytes(&self, bytes: Option<u64>) {
        self.0.lock().faults.space_bytes = bytes;
    }

    /// Lets every creating and opening of a file fail as if too many were open, until it is called again.
    pub fn set_no_handles(&self, no_handles: bool) {
        self.0.lock().faults.no_handles = no_handles;
    }

    /// Bytes that all files have together.
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes()
    }

    /// Syncs that have succeeded so far.
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// Writes that have succeeded so far.
    pub fn writes(&self) -> u64 {
        self.0.lock().writes
    }

    /// Ends the process but not the machine: what was written is there, synced or not, and a sync that failed before
    /// has still not written anything. Faults end, and handles from before are dead.
    pub fn kill(&self) {
        let mut disk = self.0.lock();
        disk.boot += 1;
        disk.faults = Faults::default();
    }

    /// Loses what was not synced, or a part of it, as chance says. Faults end, and handles from before are dead.
    pub fn crash(&self, random: &Random) {
        let mut disk = self.0.lock();
        disk.boot += 1;
        disk.faults = Faults::default();
        let survivors = usize::try_from(random.draw_u64() % (disk.pending_names.len() as u64 + 1)).unwrap_or(0);
        let pending = std::mem::take(&mut disk.pending_names);
        for change in &pending[..survivors] {
            change.apply(&mut disk.durable_names);
        }
        let names: BTreeMap<String, u64> = disk
            .durable_names
            .iter()
            .filter(|(path, _)| directory_of(path).is_empty() || disk.durable_names.contains_key(directory_of(path)))
            .map(|(path, inode)| (path.clone(), *inode))
            .collect();
        disk.durable_names.clone_from(&names);
        disk.inodes.retain(|inode, _| names.values().any(|kept| kept == inode));
        disk.names = names;
        for inode in disk.inodes.values_mut() {
            inode.crash(random);
        }
    }

    /// Flips one bit of a file, in both states.
    ///
    /// # Errors
    /// `NotFound` if there is no such file or it is not that long.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) -> io::Result<()> {
        let mut disk = self.0.lock();
        let inode = disk.inode_of(path)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let inode = disk.inodes.get_mut(&inode).ok_or(io::ErrorKind::NotFound)?;
        for state in [&mut inode.seen, &mut inode.durable] {
            *state.get_mut(offset).ok_or(io::ErrorKind::NotFound)? ^= 1 << (bit % 8);
        }
        Ok(())
    }

    fn handle(&self, inode: u64) -> Box<dyn FileHandle> {
        Box::new(SimFile { disk: self.clone(), boot: self.0.lock().boot, inode })
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove { path } => {
                names.remove(path);
            }
        }
    }

    fn directory(&self) -> &str {
        match self {
            Self::Set { path, .. } | Self::Remove { path } => directory_of(path),
            Self::Rename { to, .. } => directory_of(to),
        }
    }
}

fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Inode {
    fn mark_dirty(&mut self, start: usize, end: usize) {
        for sector in start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            self.dirty.insert(sector);
            self.lost.remove(&sector);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            if self.lost.contains(&sector) {
                continue;
            }
            let start = (sector * SECTOR_BYTES).min(self.seen.len());
            let end = (start + SECTOR_BYTES).min(self.seen.len());
            self.durable[start..end].copy_from_slice(&self.seen[start..end]);
        }
    }

    fn crash(&mut self, random: &Random) {
        let length = if random.draw_u64().is_multiple_of(2) { self.seen.len() } else { self.durable.len() };
        let mut survived = self.durable.clone();
        survived.resize(length, 0);
        for sector in std::mem::take(&mut self.dirty) {
            let start = (sector * SECTOR_BYTES).min(length);
            let end = (start + SECTOR_BYTES).min(length).min(self.seen.len());
            if start < end && !self.lost.contains(&sector) && random.draw_u64().is_multiple_of(2) {
                survived[start..end].copy_from_slice(&self.seen[start..end]);
            }
        }
        self.lost.clear();
        self.seen.clone_from(&survived);
        self.durable = survived;
    }
}

impl Disk {
    fn check_power(&self) -> io::Result<()> {
        if self.faults.powered_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn check_handles(&self) -> io::Result<()> {
        if self.faults.no_handles { Err(rustix::io::Errno::MFILE.into()) } else { Ok(()) }
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|inode| self.inodes.get(inode)).map(|inode| inode.seen.len() as u64).sum()
    }

    fn inode_of(&self, path: &str) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn new_inode(&mut self, path: &str, directory: bool) -> io::Result<u64> {
        let parent = directory_of(path);
        if !parent.is_empty() && !self.names.contains_key(parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.next_inode += 1;
        let inode = self.next_inode;
        self.inodes.insert(inode, Inode { directory, ..Inode::default() });
        self.change_name(NameChange::Set { path: path.to_owned(), inode });
        Ok(inode)
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    fn check_space(&self, growth_bytes: u64) -> io::Result<()> {
        match self.faults.space_bytes {
            Some(space) if growth_bytes > 0 && self.used_bytes() + growth_bytes > space => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn count_sync(&mut self) -> io::Result<()> {
        self.check_power()?;
        if fails_now(&mut self.faults.syncs_before_power_off) {
            self.faults.powered_off = true;
        }
        self.check_power()?;
        self.syncs += 1;
        Ok(())
    }
}

/// Counts down; true, once, when there is nothing left to count.
fn fails_now(countdown: &mut Option<u64>) -> bool {
    match countdown {
        None => false,
        Some(0) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
    }
}

impl Files for SimFiles {
    fn create(&self, path: &str) -> io::Result<Box<dyn FileHandle>> {
        let inode = {
            let mut disk = self.0.lock();
            disk.check_power()?;
            disk.check_handles()?;
            disk.new_inode(path, false)?
        };
        Ok(self.handle(inode))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn FileHandle>> {
        let inode = {
            let disk = self.0.lock();
            disk.check_power()?;
            disk.check_handles()?;
            disk.inode_of(path)?
        };
        Ok(self.handle(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.check_power()?;
        let inode = disk.inode_of(from)?;
        disk.change_name(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.check_power()?;
        disk.inode_of(path)?;
        disk.change_name(NameChange::Remove { path: path.to_owned() });
        Ok(())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let disk = self.0.lock();
        disk.check_power()?;
        if !directory.is_empty() {
            disk.inode_of(directory)?;
        }
        let of_directory = disk.names.keys().filter(|path| directory_of(path) == directory);
        Ok(of_directory.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect())
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.check_power()?;
        if !disk.names.contains_key(directory) {
            disk.new_inode(directory, true)?;
        }
        Ok(())
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.count_sync()?;
        for change in std::mem::take(&mut disk.pending_names) {
            if change.directory() == directory {
                change.apply(&mut disk.durable_names);
            } else {
                disk.pending_names.push(change);
            }
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = self.0.lock();
        disk.check_power()?;
        Ok(disk.faults.space_bytes.map_or(u64::MAX, |space| space.saturating_sub(disk.used_bytes())))
    }
}

struct SimFile {
    disk: SimFiles,
    boot: u64,
    inode: u64,
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut Disk, u64) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.0.lock();
        disk.check_power()?;
        if disk.boot != self.boot {
            return Err(io::Error::other("the handle is from before a crash"));
        }
        work(&mut disk, self.inode)
    }
}

fn file_of(disk: &mut Disk, inode: u64) -> io::Result<&mut Inode> {
    disk.inodes.get_mut(&inode).filter(|inode| !inode.directory).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl FileHandle for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|disk, inode| {
            if fails_now(&mut disk.faults.writes_before_failure) {
                return Err(io::Error::other("injected write error"));
            }
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let end = start + bytes.len();
            let length = file_of(disk, inode)?.seen.len();
            disk.check_space(end.saturating_sub(length) as u64)?;
            let file = file_of(disk, inode)?;
            if file.seen.len() < end {
                file.seen.resize(end, 0);
            }
            file.seen[start..end].copy_from_slice(bytes);
            file.mark_dirty(start, end);
            disk.writes += 1;
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|disk, inode| {
            let file = file_of(disk, inode)?;
            let start = usize::try_from(offset).map_err(io::Error::other)?.min(file.seen.len());
            let count = buffer.len().min(file.seen.len() - start);
            buffer[..count].copy_from_slice(&file.seen[start..start + count]);
            Ok(count)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|disk, inode| {
            disk.count_sync()?;
            let fails = fails_now(&mut disk.faults.syncs_before_failure);
            let file = file_of(disk, inode)?;
            if fails {
                let dirty = std::mem::take(&mut file.dirty);
                file.lost.extend(dirty);
                return Err(io::Error::other("injected sync error"));
            }
            file.sync();
            Ok(())
        })
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.with(|disk, inode| {
            let before = file_of(disk, inode)?.seen.len();
            disk.check_space(length.saturating_sub(before as u64))?;
            let after = usize::try_from(length).map_err(io::Error::other)?;
            let file = file_of(disk, inode)?;
            file.seen.resize(after, 0);
            file.mark_dirty(before.min(after), before.max(after));
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|disk, inode| Ok(file_of(disk, inode)?.seen.len() as u64))
    }
}
