//! Disk space held back: a ballast file that is given up when the disk is full, so that what has begun can be
//! finished.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::storage::files::{Files, write_zeros};

/// The ballast's name.
pub const BALLAST: &str = "BALLAST";

/// Whether the disk is full, and the ballast.
pub struct Space {
    files: Arc<dyn Files>,
    ballast_bytes: u64,
    /// With less room than this new work is refused.
    low_space_bytes: u64,
    /// Whether there was less when it was last looked.
    low: AtomicBool,
    /// Room when it was last looked; `u64::MAX` when that is not known.
    free_bytes: AtomicU64,
    full: AtomicBool,
    /// Whether the index has no room. Only its next success shows that it has, whatever fits elsewhere.
    index_full: AtomicBool,
    /// Held while the ballast is made or given up, so that one does not cross the other.
    ballast: Mutex<()>,
}

impl Space {
    /// Makes the ballast unless it is there in full size. A disk without room for it counts as full.
    pub fn open(files: Arc<dyn Files>, ballast_bytes: u64) -> Self {
        Self::open_with_mark(files, ballast_bytes, 0)
    }

    /// The same for a disk that counts as low with less than `low_space_bytes` left.
    pub fn open_with_mark(files: Arc<dyn Files>, ballast_bytes: u64, low_space_bytes: u64) -> Self {
        let space = Self {
            files,
            ballast_bytes,
            low_space_bytes,
            low: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            full: AtomicBool::new(false),
            index_full: AtomicBool::new(false),
            ballast: Mutex::new(()),
        };
        // No word about a first ballast: nobody was refused for want of it.
        if let Err(error) = space.make_ballast() {
            tracing::warn!(%error, ballast_bytes, "the disk has no room for the ballast: new work is refused");
            space.full.store(true, Ordering::Release);
            // Half a ballast would hold back the room that finishing needs.
            let _ = space.files.remove(BALLAST);
        }
        space.look();
        space
    }

    /// Looks how much room the disk has. It stays low until there is a quarter more than the mark, so that it does not
    /// change with every file.
    pub fn look(&self) {
        let Ok(free_bytes) = self.files.free_bytes() else { return };
        self.free_bytes.store(free_bytes, Ordering::Release);
        let was_low = self.low.load(Ordering::Acquire);
        let mark =
            if was_low { self.low_space_bytes.saturating_add(self.low_space_bytes / 4) } else { self.low_space_bytes };
        let is_low = free_bytes < mark;
        if is_low != was_low {
            self.low.store(is_low, Ordering::Release);
            if is_low {
                tracing::warn!(
                    free_bytes,
                    low_space_bytes = self.low_space_bytes,
                    "the disk has little room left: new work is refused, and what has begun is finished"
                );
            } else {
                tracing::info!(free_bytes, "the disk has room again: new work is taken");
            }
        }
    }

    /// Whether the disk had little room left when it was last looked.
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Acquire)
    }

    /// Room when it was last looked, if that is known.
    pub fn free_bytes(&self) -> Option<u64> {
        Some(self.free_bytes.load(Ordering::Acquire)).filter(|bytes| *bytes < u64::MAX)
    }

    /// Whether there is more room now than what is kept back for work: the mark, and the ballast once more.
    pub fn has_room_beyond_ballast(&self) -> bool {
        let kept_back = self.low_space_bytes.saturating_add(self.ballast_bytes);
        self.files.free_bytes().map_or(true, |free_bytes| free_bytes >= kept_back)
    }

    /// Whether the disk was full when it was last asked for space.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire) || self.index_full.load(Ordering::Acquire)
    }

    /// Notes that the index has no room, and gives the ballast up.
    pub fn index_is_full(&self) {
        if !self.index_full.swap(true, Ordering::AcqRel) {
            tracing::warn!("the disk has no room for the index: new work is refused");
        }
        self.give_up();
    }

    /// Notes that the index could be written.
    pub fn index_has_room(&self) {
        if self.index_full.swap(false, Ordering::AcqRel) {
            tracing::info!("the disk has room for the index");
        }
    }

    /// Notes that the disk is full and gives the ballast up. Returns whether that made room.
    pub fn give_up(&self) -> bool {
        let _crossing = self.ballast.lock();
        let was_full = self.full.swap(true, Ordering::AcqRel);
        let has_made_room = self.files.remove(BALLAST).is_ok();
        if has_made_room {
            tracing::warn!("the disk is full: the ballast was given up, new work is refused");
        } else if !was_full {
            tracing::warn!("the disk is full: there is no ballast to give up, new work is refused");
        }
        has_made_room
    }

    /// Makes the ballast again if there is room for it; then the disk no longer counts as full. While the index has no
    /// room, the ballast must not take what there is.
    pub fn restore(&self) -> bool {
        if self.index_full.load(Ordering::Acquire) {
            return false;
        }
        let _crossing = self.ballast.lock();
        match self.make_ballast() {
            Ok(()) => {
                if self.full.swap(false, Ordering::AcqRel) {
                    tracing::info!("the disk has room for the ballast: new work is taken");
                }
                true
            }
            Err(error) => {
                tracing::debug!(%error, "there is no room for the ballast");
                // Half a ballast would hold back the room that finishing needs.
                let _ = self.files.remove(BALLAST);
                false
            }
        }
    }

    fn has_ballast(&self) -> bool {
        self.ballast_bytes == 0
            || self
                .files
                .open(BALLAST)
                .and_then(|handle| handle.length())
                .is_ok_and(|length| length == self.ballast_bytes)
    }

    fn make_ballast(&self) -> io::Result<()> {
        if self.has_ballast() {
            return Ok(());
        }
        if self.files.free_bytes().is_ok_and(|bytes| bytes < self.ballast_bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let handle = self.files.create(BALLAST)?;
        write_zeros(&*handle, 0, self.ballast_bytes)?;
        self.files.sync_directory("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim_files::SimFiles;

    #[test]
    fn the_ballast_is_made_given_up_and_made_again() {
        let files = SimFiles::new();
        let space = Space::open(Arc::new(files.clone()), 10_000);
        assert_eq!((space.is_full(), files.used_bytes()), (false, 10_000));
        assert!(space.give_up());
        assert_eq!((space.is_full(), files.used_bytes()), (true, 0));
        assert!(!space.give_up(), "there is nothing more to give up");
        files.set_space_bytes(Some(9_999));
        assert!(!space.restore());
        assert_eq!((space.is_full(), files.used_bytes()), (true, 0));
        files.set_space_bytes(Some(10_000));
        assert!(space.restore());
        assert_eq!((space.is_full(), files.used_bytes()), (false, 10_000));
    }

    #[test]
    fn an_index_without_room_keeps_the_disk_full_until_it_has_some() {
        let files = SimFiles::new();
        let space = Space::open(Arc::new(files.clone()), 10_000);
        space.index_is_full();
        assert!(space.is_full() && !space.restore() && files.used_bytes() == 0);
        space.index_has_room();
        assert!(space.is_full(), "the ballast is missing still");
        assert!(space.restore() && !space.is_full());
    }

    #[test]
    fn little_room_is_noticed_before_there_is_none_and_forgotten_only_when_there_is_more() {
        let files = SimFiles::new();
        let space = Space::open_with_mark(Arc::new(files.clone()), 10_000, 4_000);
        assert!(!space.is_low());
        let leave = |bytes: u64| {
            files.set_space_bytes(Some(10_000 + bytes));
            space.look();
            space.is_low()
        };
        assert!(!leave(4_000));
        assert!(leave(3_999));
        assert_eq!((space.free_bytes(), space.is_full(), files.used_bytes()), (Some(3_999), false, 10_000));
        assert!(leave(4_999), "a little more is not enough");
        assert!(!leave(5_000));
    }

    #[test]
    fn looking_for_room_writes_nothing() {
        let files = SimFiles::new();
        files.set_space_bytes(Some(5_000));
        let space = Space::open(Arc::new(files.clone()), 10_000);
        let writes = files.writes();
        assert!(!space.restore());
        assert_eq!(files.writes(), writes);
    }

    #[test]
    fn a_disk_without_room_for_the_ballast_counts_as_full_from_the_beginning() {
        let files = SimFiles::new();
        files.set_space_bytes(Some(5_000));
        assert!(Space::open(Arc::new(files), 10_000).is_full());
    }
}
