//! Moves committed changes from the overlay into the index, in passes, and makes the index durable now and then.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::storage::StoreError;
use crate::storage::checkpoint;
use crate::storage::files::{Files, Shortage};
use crate::storage::index::IndexError;
use crate::storage::overlay::Entry;
use crate::storage::reread::reread;
use crate::storage::space::Space;
use crate::storage::status::Status;
use crate::storage::view::View;

/// Keys that go to the index at once, about a millisecond's work: requests wait for a processor meanwhile. From 1,000 on
/// sled keeps so much garbage of a batch until later operations that its memory grew to gigabytes under random updates;
/// with 250 it did not grow at all.
const CHUNK_KEYS_MAX: usize = 125;
/// Bytes of values that go to the index at once, or one value if that alone has more.
const CHUNK_BYTES_MAX: usize = 512 << 10;
/// How long to wait before a failed pass is tried again, at first.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// How long to wait at most: each time twice as long as before, up to this.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Room on the disk without which the index is not closed for reopening: opening writes a snapshot of a few megabytes.
const REOPEN_ROOM_BYTES: u64 = 8 << 20;
/// Room on the disk without which the index is left as it is: once it was to be written while the disk was full, it can't
/// be read either until it was reopened, and what it has not got yet the overlay has.
const WRITE_ROOM_BYTES: u64 = 4 << 20;

/// When the applier does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplierPace {
    /// How long changes are collected before they go to the index.
    pub apply_interval: Duration,
    /// How often the index is made durable at the least.
    pub checkpoint_interval: Duration,
    /// Bytes applied after which the index is made durable even before that.
    pub checkpoint_bytes: u64,
    /// Bytes applied after which the index is reopened at a checkpoint, which bounds how long the next opening takes.
    pub reopen_bytes: u64,
}

/// The applier without its thread: it can be stepped.
pub struct Applier {
    view: Arc<View>,
    files: Arc<dyn Files>,
    pace: ApplierPace,
    checkpointed: u64,
    bytes_since_checkpoint: u64,
    bytes_since_reopening: u64,
    /// Whether the index has failed: it goes on only after it was reopened.
    is_stale: bool,
    /// Whether nobody reads the index any more after the next turn.
    is_ending: bool,
    /// Whether the last pass ended before the index was touched, for want of room.
    has_refrained: bool,
    /// Whether the overlay has everything that the index had after the last checkpoint.
    has_taken_back: bool,
}

impl Applier {
    /// An applier whose index has been durable up to `checkpointed`.
    pub fn new(view: Arc<View>, files: Arc<dyn Files>, pace: ApplierPace, checkpointed: u64) -> Self {
        Self {
            view,
            files,
            pace,
            checkpointed,
            bytes_since_checkpoint: 0,
            bytes_since_reopening: 0,
            is_stale: false,
            is_ending: false,
            has_refrained: false,
            has_taken_back: false,
        }
    }

    /// A pass, and a checkpoint if `is_due` or many bytes were applied since the last. Says whether there was a
    /// checkpoint. An index that failed in a turn before is reopened first.
    ///
    /// # Errors
    /// What the index or the operating system says. It can be tried again if [`IndexError::may_pass`].
    pub fn turn(&mut self, is_due: bool) -> Result<bool, IndexError> {
        self.turn_resting(is_due, &|_| {})
    }

    /// The last turn before the end: nobody reads the index afterwards, so that it is written however little room there is.
    ///
    /// # Errors
    /// As for [`Applier::turn`].
    pub fn last_turn(&mut self) -> Result<(), IndexError> {
        self.is_ending = true;
        self.turn(true).map(|_| ())
    }

    /// A turn with a rest of the given length after each chunk of changes.
    fn turn_resting(&mut self, is_due: bool, rest: &dyn Fn(Duration)) -> Result<bool, IndexError> {
        if self.is_stale {
            self.revive()?;
        }
        self.pass_resting(rest)?;
        let is_due = is_due || self.bytes_since_checkpoint >= self.pace.checkpoint_bytes;
        if is_due {
            self.checkpoint()?;
        }
        Ok(is_due)
    }

    /// Moves everything into the index that has been committed by now. After an error it can be called again: making
    /// the same changes twice does no harm.
    ///
    /// # Errors
    /// What the index says.
    pub fn pass(&mut self) -> Result<(), IndexError> {
        self.pass_resting(&|_| {})
    }

    fn pass_resting(&mut self, rest: &dyn Fn(Duration)) -> Result<(), IndexError> {
        let moved = self.move_sealed(rest);
        self.is_stale |= moved.is_err() && !self.has_refrained;
        moved
    }

    /// Whether there is room for the index to grow; asked before each time that it is written.
    ///
    /// # Errors
    /// When there is none; the index is as good as before then.
    fn refrain_without_room(&mut self) -> Result<(), IndexError> {
        self.has_refrained = !self.is_ending && self.files.free_bytes().is_ok_and(|bytes| bytes < WRITE_ROOM_BYTES);
        if self.has_refrained { Err(IndexError::Short(Shortage::Space)) } else { Ok(()) }
    }

    fn move_sealed(&mut self, rest: &dyn Fn(Duration)) -> Result<(), IndexError> {
        let view = Arc::clone(&self.view);
        let (overlay, index) = (view.overlay(), view.index());
        self.has_refrained = false;
        let Some((sealed, sequence)) = overlay.seal(index.applied()) else { return Ok(()) };
        // All rests together take half as long as changes are collected, so that many changes only make them shorter.
        let chunks = u32::try_from(sealed.len() / CHUNK_KEYS_MAX + 1).unwrap_or(u32::MAX);
        let rest_each = self.pace.apply_interval / 2 / chunks;
        let mut chunk: Vec<(&Vec<u8>, &Entry)> = Vec::with_capacity(CHUNK_KEYS_MAX);
        let mut chunk_bytes = 0;
        for (key, entry) in sealed.iter() {
            if chunk.len() >= CHUNK_KEYS_MAX || chunk_bytes >= CHUNK_BYTES_MAX {
                self.refrain_without_room()?;
                index.apply(&chunk, None)?;
                rest(rest_each);
                chunk.clear();
                chunk_bytes = 0;
            }
            let bytes = key.len() + entry.value.as_ref().map_or(0, |value| value.len());
            chunk_bytes += bytes;
            self.bytes_since_checkpoint += bytes as u64;
            self.bytes_since_reopening += bytes as u64;
            chunk.push((key, entry));
        }
        self.refrain_without_room()?;
        index.apply(&chunk, Some(sequence))?;
        overlay.forget_sealed();
        self.has_taken_back = false;
        Ok(())
    }

    /// Makes the index durable and notes up to where, unless that is known already.
    ///
    /// # Errors
    /// What the index or the operating system says.
    pub fn checkpoint(&mut self) -> Result<(), IndexError> {
        let view = Arc::clone(&self.view);
        let index = view.index();
        let applied = index.applied();
        self.has_refrained = false;
        if applied > self.checkpointed {
            self.refrain_without_room()?;
            let synced = index.sync();
            self.is_stale |= synced.is_err();
            synced?;
            checkpoint::write(&*self.files, applied).map_err(|error| match IndexError::from_io(&error) {
                IndexError::Failed(reason) => IndexError::Failed(format!("writing the checkpoint: {reason}")),
                passing => passing,
            })?;
            self.checkpointed = applied;
        }
        self.bytes_since_checkpoint = 0;
        if self.bytes_since_reopening >= self.pace.reopen_bytes && self.has_room() {
            self.reopen()?;
        }
        Ok(())
    }

    /// Makes an index work again that has failed. What it had and had not made durable it may lose by that, so that is
    /// read from the journal and held in the overlay beforehand: readers miss nothing at any time.
    fn revive(&mut self) -> Result<(), IndexError> {
        if !self.has_room() {
            return Err(IndexError::Short(Shortage::Space));
        }
        let applied = self.view.index().applied();
        if applied > self.checkpointed && !self.has_taken_back {
            let lost = reread(&*self.files, self.checkpointed, applied)?;
            self.view.overlay().take_back(lost, applied);
            self.has_taken_back = true;
        }
        self.reopen()?;
        tracing::info!(applied = self.view.index().applied(), "the index was reopened and goes on");
        Ok(())
    }

    /// Whether there is so much room that the index can be expected to open again: as long as it is not closed, it can
    /// be read.
    fn has_room(&self) -> bool {
        self.files.free_bytes().map_or(true, |bytes| bytes >= REOPEN_ROOM_BYTES)
    }

    /// Closes the index and opens it again.
    fn reopen(&mut self) -> Result<(), IndexError> {
        let index = self.view.index();
        self.is_stale = true;
        index.reopen()?;
        self.is_stale = false;
        self.bytes_since_reopening = 0;
        if index.applied() < self.checkpointed {
            return Err(IndexError::Corrupt("it lost what had been made durable when it was reopened".to_owned()));
        }
        Ok(())
    }
}

/// Tells the applier's thread what to do.
#[derive(Debug, Default)]
pub struct ApplierSignal {
    wish: Mutex<Wish>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    None,
    Hurry,
    Finish,
    Abandon,
}

impl ApplierSignal {
    /// Starts a pass now.
    pub fn hurry(&self) {
        let mut wish = self.wish.lock();
        if *wish == Wish::None {
            *wish = Wish::Hurry;
            self.changed.notify_one();
        }
    }

    /// Ends the thread after a last pass and a checkpoint.
    pub fn finish(&self) {
        self.end(Wish::Finish);
    }

    /// Ends the thread as soon as possible.
    pub fn abandon(&self) {
        self.end(Wish::Abandon);
    }

    fn end(&self, end: Wish) {
        *self.wish.lock() = end;
        self.changed.notify_one();
    }

    /// Waits for a wish; a wish to hurry is taken.
    fn wait(&self, timeout: Duration) -> Wish {
        let mut wish = self.wish.lock();
        if *wish == Wish::None {
            self.changed.wait_for(&mut wish, timeout);
        }
        let wished = *wish;
        if wished == Wish::Hurry {
            *wish = Wish::None;
        }
        wished
    }

    /// Rests, unless there is a wish.
    fn rest(&self, timeout: Duration) {
        self.changed.wait_while_for(&mut self.wish.lock(), |wish| *wish == Wish::None, timeout);
    }

    /// Waits for the wish to end, whoever is in a hurry.
    fn wait_for_end(&self, timeout: Duration) {
        let is_going_on = |wish: &mut Wish| matches!(wish, Wish::None | Wish::Hurry);
        self.changed.wait_while_for(&mut self.wish.lock(), is_going_on, timeout);
    }
}

/// The applier's thread: passes and checkpoints until it is told to end. While something is short, or the index in use
/// elsewhere, it tries again and again; the overlay holds what was committed, and new work is refused when that is full.
///
/// # Errors
/// Why the last pass or checkpoint failed, or the store before it.
pub fn run(
    mut applier: Applier,
    signal: &ApplierSignal,
    status: &Status,
    space: &Space,
    clock: &Clock,
) -> Result<(), StoreError> {
    let pace = applier.pace;
    let mut checkpoint_made_at = clock.monotonic();
    let mut retry = RETRY_MIN;
    loop {
        let wish = signal.wait(pace.apply_interval);
        if wish == Wish::Abandon {
            return Ok(());
        }
        status.check()?;
        let is_last = wish == Wish::Finish;
        let is_due = is_last || clock.monotonic().since(checkpoint_made_at) >= pace.checkpoint_interval;
        let rest = |length| {
            if wish == Wish::None {
                signal.rest(length);
            }
        };
        let turned = if is_last { applier.last_turn().map(|()| true) } else { applier.turn_resting(is_due, &rest) };
        match turned {
            Ok(has_checkpoint) => {
                retry = RETRY_MIN;
                space.index_has_room();
                if is_last {
                    return Ok(());
                }
                if has_checkpoint {
                    checkpoint_made_at = clock.monotonic();
                }
            }
            // The journal has everything, and the next start goes on from it.
            Err(error) if error.may_pass() && is_last => return Err(error.into()),
            Err(error) if error.may_pass() => {
                // What the index was spared stands in no payment's way: there is room in the overlay.
                if error == IndexError::Short(Shortage::Space) && !applier.has_refrained {
                    space.index_is_full();
                }
                tracing::warn!(%error, retry_in_ms = retry.as_millis(), "the index can't be written at the moment");
                signal.wait_for_end(retry);
                retry = (retry * 2).min(RETRY_MAX);
            }
            Err(error) => {
                let error = applier.view.note(error);
                status.poison(&error.to_string());
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::storage::index::MemoryIndex;
    use crate::storage::overlay::{Change, Overlay};
    use crate::storage::sim_files::SimFiles;

    #[test]
    fn a_pass_rests_after_each_chunk_and_half_an_interval_in_all_at_the_most() {
        let files: Arc<dyn Files> = Arc::new(SimFiles::new());
        let index = crate::storage::index::IndexHome::open(&MemoryIndex::new()).unwrap();
        let overlay = Arc::new(Overlay::new(0));
        let value: Arc<[u8]> = Arc::from([1]);
        let change = |number| Change {
            key: format!("key/{number:05}").into_bytes(),
            value: Some(Arc::clone(&value)),
            revision: 1,
            absent_below: false,
        };
        overlay.add((0..4 * CHUNK_KEYS_MAX).map(change), 1);
        let view = Arc::new(View::new(overlay, index, Arc::clone(&files)));
        let pace = ApplierPace {
            apply_interval: Duration::from_millis(200),
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_bytes: 1 << 20,
            reopen_bytes: 1 << 20,
        };
        let mut applier = Applier::new(view, files, pace, 0);
        let rests = RefCell::new(Vec::new());
        applier.pass_resting(&|length| rests.borrow_mut().push(length)).unwrap();
        let rests = rests.into_inner();
        assert_eq!(rests.len(), 3, "none after the last");
        assert!(rests.iter().sum::<Duration>() <= pace.apply_interval / 2);
        assert!(rests.iter().all(|rest| !rest.is_zero()));
        assert_eq!(applier.view.index().applied(), 1);
    }

    /// Sled's can't be read from its first failed write until it was reopened, for which there is no room either.
    #[test]
    fn an_index_is_not_touched_without_room_and_goes_on_when_there_is_some() {
        let disk = SimFiles::new();
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        let index = crate::storage::index::IndexHome::open(&MemoryIndex::new()).unwrap();
        let overlay = Arc::new(Overlay::new(0));
        let value: Arc<[u8]> = Arc::from([1]);
        let change = |sequence| Change {
            key: b"key".to_vec(),
            value: Some(Arc::clone(&value)),
            revision: sequence,
            absent_below: false,
        };
        overlay.add([change(1)], 1);
        let view = Arc::new(View::new(overlay, index, Arc::clone(&files)));
        let pace = ApplierPace {
            apply_interval: Duration::ZERO,
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_bytes: 1 << 20,
            reopen_bytes: 1 << 20,
        };
        let mut applier = Applier::new(view, files, pace, 0);
        for free_bytes in [0, WRITE_ROOM_BYTES - 1] {
            disk.set_space_bytes(Some(disk.used_bytes() + free_bytes));
            assert_eq!(applier.turn(true), Err(IndexError::Short(Shortage::Space)));
            assert_eq!((applier.view.index().applied(), applier.is_stale, applier.has_refrained), (0, false, true));
        }
        disk.set_space_bytes(Some(disk.used_bytes() + WRITE_ROOM_BYTES));
        assert_eq!(applier.turn(false), Ok(false));
        assert_eq!(applier.view.index().applied(), 1);
        // What it has and has not made durable waits as well.
        disk.set_space_bytes(Some(disk.used_bytes()));
        assert_eq!(applier.turn(true), Err(IndexError::Short(Shortage::Space)));
        assert!(!applier.is_stale);
        disk.set_space_bytes(None);
        assert_eq!(applier.turn(true), Ok(true));
    }

    #[test]
    fn nobody_rests_while_there_is_a_wish() {
        let signal = ApplierSignal::default();
        signal.hurry();
        signal.rest(Duration::from_secs(3600));
        assert_eq!(signal.wait(Duration::ZERO), Wish::Hurry, "it is still there");
        signal.finish();
        signal.rest(Duration::from_secs(3600));
    }
}
