//! Moves committed changes from the overlay into the index, in passes, and makes the index durable now and then.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::storage::StoreError;
use crate::storage::checkpoint;
use crate::storage::files::{Files, is_full};
use crate::storage::index::IndexError;
use crate::storage::overlay::Entry;
use crate::storage::space::Space;
use crate::storage::status::Status;
use crate::storage::view::View;

/// Keys that go to the index at once. More would make readers wait longer, and sled keeps the garbage of a batch until
/// later operations: with 1,000 keys at once its memory grew to gigabytes under random updates, with 250 not at all.
const CHUNK_KEYS_MAX: usize = 250;
/// Bytes of values that go to the index at once, or one value if that alone has more.
const CHUNK_BYTES_MAX: usize = 512 << 10;
/// How long to wait before a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// When the applier does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplierPace {
    /// How long changes are collected before they go to the index.
    pub apply_interval: Duration,
    /// Waits after which the index is made durable.
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
}

impl Applier {
    /// An applier whose index has been durable up to `checkpointed`.
    pub fn new(view: Arc<View>, files: Arc<dyn Files>, pace: ApplierPace, checkpointed: u64) -> Self {
        Self { view, files, pace, checkpointed, bytes_since_checkpoint: 0, bytes_since_reopening: 0 }
    }

    /// Moves everything into the index that has been committed by now. After an error it can be called again: making
    /// the same changes twice does no harm.
    ///
    /// # Errors
    /// What the index says.
    pub fn pass(&mut self) -> Result<(), IndexError> {
        let (overlay, index) = (self.view.overlay(), self.view.index());
        let Some((sealed, sequence)) = overlay.seal(index.applied()) else { return Ok(()) };
        let mut chunk: Vec<(&Vec<u8>, &Entry)> = Vec::with_capacity(CHUNK_KEYS_MAX);
        let mut chunk_bytes = 0;
        for (key, entry) in sealed.iter() {
            if chunk.len() >= CHUNK_KEYS_MAX || chunk_bytes >= CHUNK_BYTES_MAX {
                index.apply(&chunk, None)?;
                chunk.clear();
                chunk_bytes = 0;
            }
            let bytes = key.len() + entry.value.as_ref().map_or(0, |value| value.len());
            chunk_bytes += bytes;
            self.bytes_since_checkpoint += bytes as u64;
            self.bytes_since_reopening += bytes as u64;
            chunk.push((key, entry));
        }
        index.apply(&chunk, Some(sequence))?;
        overlay.forget_sealed();
        Ok(())
    }

    /// Makes the index durable and notes up to where, unless that is known already.
    ///
    /// # Errors
    /// What the index or the operating system says.
    pub fn checkpoint(&mut self) -> Result<(), IndexError> {
        let index = self.view.index();
        let applied = index.applied();
        if applied > self.checkpointed {
            index.sync()?;
            checkpoint::write(&*self.files, applied).map_err(|error| {
                if is_full(&error) {
                    IndexError::Full
                } else {
                    IndexError::Failed(format!("writing the checkpoint: {error}"))
                }
            })?;
            self.checkpointed = applied;
        }
        self.bytes_since_checkpoint = 0;
        if self.bytes_since_reopening >= self.pace.reopen_bytes {
            self.reopen()?;
        }
        Ok(())
    }

    /// Closes the index and opens it again.
    ///
    /// # Errors
    /// What the index says.
    pub fn reopen(&mut self) -> Result<(), IndexError> {
        let index = self.view.index();
        let before = index.applied();
        index.reopen()?;
        self.bytes_since_reopening = 0;
        if index.applied() < before.min(self.checkpointed) {
            return Err(IndexError::Corrupt("it lost what had been made durable when it was reopened".to_owned()));
        }
        Ok(())
    }

    /// Whether so much was applied since the last checkpoint that the next is due.
    pub fn is_checkpoint_due(&self) -> bool {
        self.bytes_since_checkpoint >= self.pace.checkpoint_bytes
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

    /// Waits for the wish to end, whoever is in a hurry.
    fn wait_for_end(&self, timeout: Duration) {
        let is_going_on = |wish: &mut Wish| matches!(wish, Wish::None | Wish::Hurry);
        self.changed.wait_while_for(&mut self.wish.lock(), is_going_on, timeout);
    }
}

/// The applier's thread: passes and checkpoints until it is told to end.
///
/// # Errors
/// Why the last pass or checkpoint failed, or the store before it.
pub fn run(mut applier: Applier, signal: &ApplierSignal, status: &Status, space: &Space) -> Result<(), StoreError> {
    let pause = applier.pace.apply_interval;
    let mut waited = Duration::ZERO;
    loop {
        let wish = signal.wait(pause);
        if wish == Wish::Abandon {
            return Ok(());
        }
        status.check()?;
        if wish == Wish::None {
            waited += pause;
        }
        let is_last = wish == Wish::Finish;
        let is_due = is_last || waited >= applier.pace.checkpoint_interval;
        let worked = applier.pass().and_then(|()| {
            if is_due || applier.is_checkpoint_due() {
                waited = Duration::ZERO;
                applier.checkpoint()?;
            }
            Ok(())
        });
        match worked {
            Ok(()) if is_last => return Ok(()),
            Ok(()) => {}
            Err(IndexError::Full) if !is_last => {
                // The index remembers that it failed: only reopening makes it try again.
                space.give_up();
                signal.wait_for_end(FULL_RETRY);
                if let Err(error) = applier.reopen()
                    && error != IndexError::Full
                {
                    return Err(poison(&applier, status, error));
                }
            }
            Err(error) => return Err(poison(&applier, status, error)),
        }
    }
}

fn poison(applier: &Applier, status: &Status, error: IndexError) -> StoreError {
    let error = applier.view.note(error);
    status.poison(&error.to_string());
    error
}
