//! Keeps the store's growth in bounds: makes a new base when enough has been committed since the last, and lets segments
//! leave the journal, in a thread of its own, in no hurry. Another thread looks whether the disk is getting full: the
//! first may wait for a base to be read or for an archive that does not answer.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::storage::archive::Archive;
use crate::storage::base::{self, Base};
use crate::storage::checkpoint::{self, Checkpoint};
use crate::storage::files::Files;
use crate::storage::retirement::{self, ClosedSegment, KeepRule, Leaving, journal_error};
use crate::storage::segments;
use crate::storage::space::Space;
use crate::storage::status::Status;
use crate::storage::view::View;
use crate::storage::{BaseHealth, StoreError};

pub use crate::storage::holds::{JournalHold, JournalHolds};

/// How often it is looked whether the disk is getting full.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How many such turns are left out after one that failed.
const TURNS_LEFT_OUT: u32 = 5;
/// The rest after each page of rows while a base is made.
const PAGE_REST: Duration = Duration::from_millis(2);
/// Pages between two looks at the disk's room while a base is made.
const PAGES_PER_LOOK: u32 = 16;

/// What bounds a store's growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowthOptions {
    /// A new base is made when the journal has grown by this much since the last, or by as much as that one takes; or when
    /// that one is as old as segments are kept.
    pub base_bytes: u64,
    /// What of the journal is kept beyond that.
    pub keep: KeepRule,
    /// With less room than this on the disk new work is refused.
    pub low_space_bytes: u64,
    /// The rest from one look whether a base is due and whether something may leave the journal to the next.
    pub turn_interval: Duration,
}

impl GrowthOptions {
    /// No bounds: no bases, and everything stays in the journal.
    pub const UNBOUNDED: Self = Self {
        base_bytes: u64::MAX,
        keep: KeepRule { age: Duration::MAX, bytes_max: u64::MAX },
        low_space_bytes: 0,
        turn_interval: Duration::from_secs(10),
    };
}

/// The keeper without its thread: it can be stepped.
pub struct Keeper {
    files: Arc<dyn Files>,
    archive: Option<Archive>,
    view: Arc<View>,
    status: Arc<Status>,
    space: Arc<Space>,
    clock: Clock,
    options: GrowthOptions,
    holds: JournalHolds,
    base: Option<Base>,
    /// Whether the base was found whole by this process: nothing leaves the journal for one that was not.
    is_base_whole: bool,
}

impl Keeper {
    /// A keeper for the store in `files`. `base` is the one that counts by now.
    pub fn new(
        files: Arc<dyn Files>,
        view: Arc<View>,
        (status, space): (Arc<Status>, Arc<Space>),
        clock: Clock,
        options: GrowthOptions,
        base: Option<Base>,
    ) -> Self {
        status.set_base(base.as_ref().map(health_of));
        let holds = JournalHolds::default();
        let keeper =
            Self { files, archive: None, view, status, space, clock, options, holds, base, is_base_whole: false };
        if let Err(error) = keeper.measure() {
            tracing::warn!(%error, "how much room the journal takes is not known");
        }
        keeper
    }

    /// The same, with an archive that segments are copied to before they go.
    #[must_use]
    pub fn with_archive(self, archive: Option<Archive>) -> Self {
        Self { archive, ..self }
    }

    /// Those who need the journal as it is.
    pub fn holds(&self) -> JournalHolds {
        self.holds.clone()
    }

    /// Makes a base if one is due, and lets segments go. `go_on` is asked now and then, and may rest; when it says no, what
    /// is being done is given up.
    ///
    /// # Errors
    /// When something can't be read or written; the store is as good as before, and the next turn tries again.
    pub fn turn(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        self.check_base(go_on)?;
        if self.is_base_due()? {
            self.make_base(go_on)?;
        }
        self.let_go(go_on)?;
        self.measure()
    }

    /// Once in a process: is the base still what it was when it was made? One that is not is given up, and another is
    /// made at once if it is needed.
    fn check_base(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        let Some(base) = self.base.filter(|_| !self.is_base_whole) else { return Ok(()) };
        match base::check(&*self.files, base.from, go_on) {
            Ok(found) => self.is_base_whole = found.is_some(),
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::error!(%error, "the base export can't be used: another is made, and until then nothing leaves the journal");
                self.base = None;
                self.status.set_base(None);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Lets the segments go that may.
    fn let_go(&self, go_on: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        let Some(base) = self.base.filter(|_| self.is_base_whole) else { return Ok(()) };
        self.holds.unless_held(|| base::remove_older(&*self.files, &base)).transpose()?;
        let durable = match checkpoint::read(&*self.files).map_err(|error| journal_error(&error))? {
            Checkpoint::At(sequence) => sequence,
            Checkpoint::Missing | Checkpoint::Damaged => return Ok(()),
        };
        let leaving = Leaving { base: &base, durable, rule: &self.options.keep, now: self.clock.now() };
        retirement::retire(&*self.files, self.archive.as_ref(), &self.holds, &leaving, go_on).map(|_| ())
    }

    fn measure(&self) -> Result<(), StoreError> {
        let (bytes, segments) = segments::on_disk(&*self.files).map_err(|error| journal_error(&error))?;
        self.status.set_journal_on_disk(bytes, segments);
        Ok(())
    }

    fn is_base_due(&self) -> Result<bool, StoreError> {
        if self.space.is_full() {
            return Ok(false);
        }
        let (from, base_bytes) = self.base.map_or((0, 0), |base| (base.from, base.bytes));
        let all = segments::list(&*self.files).map_err(|error| journal_error(&error))?;
        // Without a base nothing but the index has what has left the journal.
        if self.base.is_none() && all.first().is_some_and(|first| *first > 1) {
            return Ok(true);
        }
        let closed = retirement::closed(&*self.files).map_err(|error| journal_error(&error))?;
        let new_bytes: u64 = closed.iter().filter(|segment| segment.last > from).map(|segment| segment.bytes).sum();
        Ok(new_bytes >= self.options.base_bytes.max(base_bytes) || self.is_base_old(&closed)?)
    }

    /// Whether what was deleted or erased is in the last base, or in the journal before the first, for longer than segments
    /// are kept.
    fn is_base_old(&self, closed: &[ClosedSegment]) -> Result<bool, StoreError> {
        let since = match (self.base, closed.first()) {
            (Some(base), _) if self.status.committed() > base.until => base.made_at,
            (None, Some(oldest)) => retirement::first_change_at(&*self.files, oldest)
                .map_err(|error| journal_error(&error))?
                .unwrap_or(Timestamp::from_unix_s(0)),
            _ => return Ok(false),
        };
        Ok(self.clock.now().since(since) >= self.options.keep.period())
    }

    fn make_base(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        let mut pages = 0;
        let mut has_room = true;
        let space = Arc::clone(&self.space);
        let mut look_and_go_on = || {
            pages += 1;
            // What is written here must not be what fills the disk.
            has_room = pages % PAGES_PER_LOOK != 0 || space.has_room_beyond_ballast();
            has_room && go_on()
        };
        let made = base::make(&*self.files, &self.view, self.clock.now(), &mut look_and_go_on)?;
        if !has_room {
            return Err(StoreError::Overloaded("the disk has no room for another base export"));
        }
        if let Some(base) = made {
            tracing::info!(from = base.from, bytes = base.bytes, "a base export was made");
            (self.base, self.is_base_whole) = (Some(base), true);
            self.status.set_base(Some(health_of(&base)));
        }
        Ok(())
    }
}

fn health_of(base: &Base) -> BaseHealth {
    BaseHealth { from: base.from, made_at: base.made_at, bytes: base.bytes }
}

/// Ends the keeper's threads.
#[derive(Debug, Default)]
pub struct KeeperSignal {
    is_ending: Mutex<bool>,
    changed: Condvar,
}

impl KeeperSignal {
    /// Ends the threads as soon as possible.
    pub fn end(&self) {
        *self.is_ending.lock() = true;
        self.changed.notify_all();
    }

    /// Rests; false when the thread is to end.
    fn rest(&self, timeout: Duration) -> bool {
        let mut is_ending = self.is_ending.lock();
        if !*is_ending {
            self.changed.wait_for(&mut is_ending, timeout);
        }
        !*is_ending
    }
}

/// The keeper's thread, until it is told to end or the store has failed.
pub fn run(mut keeper: Keeper, signal: &KeeperSignal) {
    let interval = keeper.options.turn_interval;
    let mut rest = interval;
    while signal.rest(rest) && keeper.status.check().is_ok() {
        rest = interval;
        if let Err(error) = keeper.turn(&mut || signal.rest(PAGE_REST)) {
            tracing::warn!(%error, "the journal could not be shortened; tried again later");
            rest = interval.saturating_mul(1 + TURNS_LEFT_OUT);
        }
    }
}

/// The thread that looks at the disk's room, until it is told to end or the store has failed.
pub fn watch_room(space: &Space, status: &Status, signal: &KeeperSignal) {
    while signal.rest(LOOK_INTERVAL) && status.check().is_ok() {
        space.look();
    }
}
