//! Opening: from what is on disk to overlay and index. The journal has the last word; an index that is of no use is
//! rebuilt from it and then moved aside.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::storage::StoreError;
use crate::storage::applier::{Applier, ApplierPace};
use crate::storage::base::{self, Base};
use crate::storage::checkpoint::{self, Checkpoint};
use crate::storage::files::Files;
use crate::storage::format;
use crate::storage::index::{Index, IndexError, IndexHome};
use crate::storage::journal::JournalEnd;
use crate::storage::overlay::Overlay;
use crate::storage::reached::{self, Reached, ReachedFile};
use crate::storage::replay::{ReplayRange, replay};
use crate::storage::segments;
use crate::storage::view::{INDEX_DAMAGED, View};

/// Commits between two lines in the log while the journal is replayed.
const PROGRESS_COMMITS: u64 = 100_000;

/// What opening found.
pub struct Recovered {
    /// Overlay and index, together complete.
    pub view: Arc<View>,
    /// Where the journal goes on.
    pub end: JournalEnd,
    /// Sequence up to which the index is durable.
    pub checkpointed: u64,
    /// The base that counts.
    pub base: Option<Base>,
    /// Where it is noted how far the journal reaches.
    pub reached: ReachedFile,
}

/// What replaying has made of an index.
struct Filled {
    view: Arc<View>,
    end: JournalEnd,
    checkpointed: u64,
}

/// Opens the index and replays what it does not have. The overlay is kept below half of `overlay_bytes_max`.
///
/// # Errors
/// [`StoreError::Corrupt`] when the journal is damaged or incomplete, [`StoreError::Io`] when something can't be read or
/// written.
pub fn recover(files: &Arc<dyn Files>, home: &dyn IndexHome, overlay_bytes_max: u64) -> Result<Recovered, StoreError> {
    format::check(&**files)?;
    let prepared = files.create_directory(segments::DIRECTORY).and_then(|()| files.sync_directory(""));
    prepared.map_err(|error| io_error("preparing the journal's directory", &error))?;
    let found = checkpoint::read(&**files).map_err(|error| io_error("reading the checkpoint", &error))?;
    let checkpointed = match found {
        Checkpoint::At(sequence) => sequence,
        Checkpoint::Missing | Checkpoint::Damaged => 0,
    };
    let base = base::find(&**files)?;
    let reached =
        reached::read(&**files).map_err(|error| io_error(&format!("reading {}", reached::REACHED), &error))?;
    let recovery = Recovery { files, home, overlay_bytes_max, checkpointed, base, reached };
    let Filled { view, end, checkpointed } = recovery.run(found)?;
    // Whatever the journal has now was made durable when it was read.
    let all = segments::list(&**files).map_err(|error| io_error("listing the journal", &error))?;
    // A process that was killed right behind a renaming has left a name that a power cut would still take away; what is
    // noted must not outlast it.
    let named = files.sync_directory(segments::DIRECTORY);
    named.map_err(|error| io_error("syncing the journal's directory", &error))?;
    let now = Reached { durable: end.last_sequence, segment: all.last().copied().unwrap_or(0) };
    Ok(Recovered { view, end, checkpointed, base, reached: ReachedFile::open(&**files, now) })
}

struct Recovery<'a> {
    files: &'a Arc<dyn Files>,
    home: &'a dyn IndexHome,
    overlay_bytes_max: u64,
    checkpointed: u64,
    base: Option<Base>,
    reached: Reached,
}

enum Unusable {
    Rebuild(String),
    Refuse(IndexError),
}

enum Failure {
    Index(IndexError),
    Journal(StoreError),
}

impl Failure {
    fn into_store_error(self) -> StoreError {
        match self {
            Self::Index(error) => error.into(),
            Self::Journal(error) => error,
        }
    }
}

impl Recovery<'_> {
    fn run(&self, found: Checkpoint) -> Result<Filled, StoreError> {
        let index = match self.open_index(found) {
            Ok(index) => index,
            Err(Unusable::Rebuild(reason)) => return self.rebuild(&reason),
            Err(Unusable::Refuse(error)) => return Err(error.into()),
        };
        match self.fill(Arc::clone(&index)) {
            Err(Failure::Index(error @ IndexError::Corrupt(_))) => {
                index.close();
                drop(index);
                self.rebuild(&error.to_string())
            }
            filled => filled.map_err(Failure::into_store_error),
        }
    }

    fn open_index(&self, found: Checkpoint) -> Result<Arc<dyn Index>, Unusable> {
        if found == Checkpoint::Damaged {
            return Err(Unusable::Rebuild("the checkpoint is damaged".to_owned()));
        }
        if self.files.open(INDEX_DAMAGED).is_ok() {
            return Err(Unusable::Rebuild("it was found damaged while it was in use".to_owned()));
        }
        let index = match self.home.open() {
            Ok(index) => index,
            Err(error) if error.may_pass() => return Err(Unusable::Refuse(error)),
            Err(error) => return Err(Unusable::Rebuild(error.to_string())),
        };
        let applied = index.applied();
        if applied < self.checkpointed {
            index.close();
            return Err(Unusable::Rebuild(format!(
                "it has everything up to sequence {applied} only, and was durable up to {}",
                self.checkpointed
            )));
        }
        if let Some(first) = self.journal_begins_behind(applied) {
            index.close();
            return Err(Unusable::Rebuild(format!(
                "it has everything up to sequence {applied} only, and the journal begins at {first}"
            )));
        }
        Ok(index)
    }

    /// Where the journal begins, when that is too late for an index with everything up to `applied` but not for the base.
    /// So it is when a base and a journal were put into an empty directory.
    fn journal_begins_behind(&self, applied: u64) -> Option<u64> {
        let base = self.base?;
        let first = segments::list(&**self.files).ok()?.first().copied()?;
        (applied + 1 < first && first <= base.from + 1).then_some(first)
    }

    /// What is to be read of the journal behind `after`, and how far it must reach, whatever the index has.
    fn range(&self, after: u64) -> ReplayRange {
        let durable = self.checkpointed.max(self.base.map_or(0, |base| base.until)).max(self.reached.durable);
        ReplayRange { after, durable, last_segment: self.reached.segment }
    }

    /// The base to rebuild the index from; `None` when that takes the whole journal.
    fn whole_base(&self, reason: &str, journal_first: Option<u64>) -> Result<Option<Base>, StoreError> {
        let has_whole_journal = journal_first.is_none_or(|first| first == 1);
        let first = journal_first.unwrap_or(1);
        let Some(base) = self.base else {
            if has_whole_journal {
                return Ok(None);
            }
            return Err(StoreError::Corrupt(format!(
                "the index can't be used ({reason}) and can't be rebuilt, because the journal begins at sequence {first} \
                 instead of 1 and there is no base export in {}/. Put the missing files of {}/ or {}/ back, or restore \
                 the data directory from a backup",
                base::DIRECTORY,
                segments::DIRECTORY,
                base::DIRECTORY
            )));
        };
        match base::verify(&**self.files, base.from) {
            Ok(whole) => Ok(Some(whole)),
            Err(error) if has_whole_journal => {
                tracing::warn!(%error, "the base export can't be used; the whole journal is");
                Ok(None)
            }
            Err(error) => Err(StoreError::Corrupt(format!(
                "the index can't be used ({reason}) and can't be rebuilt, because the base export can't be read: {error}. \
                 Put {} back, or the journal from sequence 1 to {} from its archive, or restore the data directory from a \
                 backup",
                base::path_of(base.from),
                first - 1
            ))),
        }
    }

    /// Makes a new index of the base and the journal behind it, or of the whole journal. The old one stays where it is
    /// until the new one is complete.
    fn rebuild(&self, reason: &str) -> Result<Filled, StoreError> {
        let all = segments::list(&**self.files).map_err(|error| io_error("listing the journal", &error))?;
        let base = self.whole_base(reason, all.first().copied())?;
        let after = base.map_or(0, |base| base.from);
        tracing::warn!(reason, segments = all.len(), base = after, "the index can't be used and is rebuilt");
        // Is there anything whole to rebuild it from? The old index may be worth more than a part of the journal.
        replay(&**self.files, self.range(after), &mut |_, _| Ok(()))?;
        let new = self.home.open_new()?;
        if let Some(base) = &base {
            base::load(&**self.files, base, &*new)?;
        }
        let (end, applied) = self.fill_new(new)?;
        self.home.adopt_new()?;
        let index = self.home.open()?;
        if index.applied() < applied {
            return Err(IndexError::Corrupt(format!("it was rebuilt and has less than sequence {applied}")).into());
        }
        // The old checkpoint stays until now, so that an interrupted rebuilding starts again.
        checkpoint::write(&**self.files, applied).map_err(|error| io_error("writing the checkpoint", &error))?;
        match self.files.remove(INDEX_DAMAGED) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("removing the mark of a damaged index", &error));
            }
            _ => {}
        }
        self.files.sync_directory("").map_err(|error| io_error("syncing the data directory", &error))?;
        if let Some(base) = &base {
            base::note(&**self.files, base)?;
        }
        tracing::info!(sequence = applied, "the index is rebuilt");
        let view = Arc::new(View::new(Arc::new(Overlay::new(applied)), index, Arc::clone(self.files)));
        Ok(Filled { view, end, checkpointed: applied })
    }

    /// Fills a new index with what it does not have of the journal, makes it durable and closes it. Returns where the journal ends, and the
    /// sequence up to which the index has everything.
    fn fill_new(&self, new: Arc<dyn Index>) -> Result<(JournalEnd, u64), StoreError> {
        let Filled { view, end, .. } = self.fill(new).map_err(Failure::into_store_error)?;
        let mut applier = Applier::new(Arc::clone(&view), Arc::clone(self.files), self.pace(), 0);
        applier.pass()?;
        view.index().sync()?;
        let applied = view.index().applied();
        view.index().close();
        Ok((end, applied))
    }

    /// Replays what the index does not have.
    fn fill(&self, index: Arc<dyn Index>) -> Result<Filled, Failure> {
        let applied = index.applied();
        let overlay = Arc::new(Overlay::new(applied));
        let view = Arc::new(View::new(overlay, index, Arc::clone(self.files)));
        let mut applier = Applier::new(Arc::clone(&view), Arc::clone(self.files), self.pace(), self.checkpointed);
        let mut index_error = None;
        let mut next_progress = applied + PROGRESS_COMMITS;
        let mut range = self.range(applied);
        range.durable = range.durable.max(applied);
        let replayed = replay(&**self.files, range, &mut |changes, last_sequence| {
            view.overlay().add(changes, last_sequence);
            if last_sequence >= next_progress {
                next_progress = last_sequence + PROGRESS_COMMITS;
                tracing::info!(sequence = last_sequence, "replaying the journal");
            }
            if view.overlay().bytes() > self.overlay_bytes_max / 2 {
                applier.pass().map_err(|error| {
                    index_error = Some(error.clone());
                    StoreError::from(error)
                })?;
            }
            Ok(())
        });
        match (replayed, index_error) {
            (Ok(end), _) => Ok(Filled { view, end, checkpointed: self.checkpointed }),
            (Err(_), Some(error)) => Err(Failure::Index(error)),
            (Err(error), None) => Err(Failure::Journal(error)),
        }
    }

    /// Nothing is due by time while opening.
    fn pace(&self) -> ApplierPace {
        ApplierPace {
            apply_interval: Duration::MAX,
            checkpoint_interval: Duration::MAX,
            checkpoint_bytes: u64::MAX,
            reopen_bytes: u64::MAX,
        }
    }
}

fn io_error(context: &str, error: &io::Error) -> StoreError {
    StoreError::Io { context: context.to_owned(), message: error.to_string() }
}
