//! How long commits take, for whoever waits for them. A commit that has not ended counts, too: a disk that hangs
//! completes none.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::domain::time::Monotonic;
use crate::storage::{Batch, CommitFuture, Health, Row, Scan, Store, StoreError, Versioned};
use crate::telemetry::trace::{self, Kind};

/// The times of a store's commits.
pub(in crate::gateway) struct CommitTimes {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When those began that somebody waits for, in their order. The store bounds how many that can be.
    under_way: BTreeMap<u64, Monotonic>,
    begun: u64,
    /// The longest that ended since this was last asked.
    longest: Duration,
}

impl CommitTimes {
    /// None yet.
    pub(in crate::gateway) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }

    /// The longest that a commit has taken since this was last asked, or has by now.
    pub(super) fn take_longest(&self, now: Monotonic) -> Duration {
        let mut state = self.state.lock();
        let oldest = state.under_way.first_key_value().map_or(Duration::ZERO, |(_, began)| now.since(*began));
        std::mem::take(&mut state.longest).max(oldest)
    }

    fn begin(self: &Arc<Self>) -> UnderWay {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        state.begun += 1;
        let number = state.begun;
        state.under_way.insert(number, now);
        UnderWay { times: Arc::clone(self), number }
    }
}

/// A commit that somebody waits for. Ends by being dropped.
struct UnderWay {
    times: Arc<CommitTimes>,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = self.times.clock.monotonic();
        let mut state = self.times.state.lock();
        if let Some(began) = state.under_way.remove(&self.number) {
            state.longest = state.longest.max(now.since(began));
        }
    }
}

/// A store whose commits are timed.
pub(in crate::gateway) struct TimedStore {
    inner: Arc<dyn Store>,
    times: Arc<CommitTimes>,
}

impl TimedStore {
    /// The same store, timed.
    pub(in crate::gateway) fn over(inner: Arc<dyn Store>, times: &Arc<CommitTimes>) -> Arc<dyn Store> {
        Arc::new(Self { inner, times: Arc::clone(times) })
    }
}

impl Store for TimedStore {
    fn commit(&self, batch: Batch) -> CommitFuture {
        let under_way = self.times.begin();
        let mut span = trace::begin("commit", Kind::Internal);
        let committing = self.inner.commit(batch);
        Box::pin(async move {
            let committed = committing.await;
            drop(under_way);
            match &committed {
                Ok(committed) => span.set("tollgate.sequence", i64::try_from(committed.sequence).unwrap_or(i64::MAX)),
                Err(StoreError::Precondition { .. }) => span.set("tollgate.outcome", "overtaken"),
                Err(_) => span.fail("not committed"),
            }
            committed
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        self.inner.scan(scan)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        self.inner.failed()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}
