//! The keeper's threads, and their end.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::storage::StoreError;
use crate::storage::engine::{PanicAlarm, spawn};
use crate::storage::keeper::{self, Keeper, KeeperSignal};
use crate::storage::space::Space;
use crate::storage::status::Status;

/// How long a stop waits for the keeper. It is in an archive that does not answer if it takes longer than a piece of a file
/// does.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct KeeperThreads {
    signal: Arc<KeeperSignal>,
    keeper: JoinHandle<()>,
    watch: JoinHandle<()>,
    /// Hears of it when the keeper's thread ends, by whatever way.
    ended: Receiver<()>,
    end_timeout: Duration,
}

impl KeeperThreads {
    /// Starts them. `lock` is kept for as long as the keeper may still touch the data directory.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub(super) fn start(
        keeper: Keeper,
        (status, space): (&Arc<Status>, &Arc<Space>),
        lock: Option<Arc<File>>,
        end_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let signal = Arc::new(KeeperSignal::default());
        let watch = spawn("tollgate-room", {
            let (signal, status, space) = (Arc::clone(&signal), Arc::clone(status), Arc::clone(space));
            move || {
                let _alarm = PanicAlarm::of(&status);
                keeper::watch_room(&space, &status, &signal);
            }
        })?;
        let (ends, ended) = sync_channel::<()>(1);
        let keeper_thread = spawn("tollgate-keeper", {
            let (signal, status) = (Arc::clone(&signal), Arc::clone(status));
            move || {
                // Dropped in the end: first the lock, then what says that it was.
                let (_ends, _lock) = (ends, lock);
                let _alarm = PanicAlarm::of(&status);
                keeper::run(keeper, &signal);
            }
        });
        match keeper_thread {
            Ok(keeper) => Ok(Self { signal, keeper, watch, ended, end_timeout }),
            Err(error) => {
                signal.end();
                let _ = watch.join();
                Err(error)
            }
        }
    }

    /// Tells them to end, and does not wait for it.
    pub(super) fn end(&self) {
        self.signal.end();
    }

    /// Waits for them for a while. A keeper that waits for its archive is left behind: once the archive answers it touches
    /// nothing any more, and until then, or until the process ends, it keeps the directory locked.
    pub(super) fn join(self) {
        self.signal.end();
        // A panic has poisoned the store, which is told elsewhere.
        let _ = self.watch.join();
        match self.ended.recv_timeout(self.end_timeout) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!(
                    "the thread that shortens the journal does not end, probably because of an archive that does not answer; it is left behind"
                );
            }
            _ => drop(self.keeper.join()),
        }
    }
}
