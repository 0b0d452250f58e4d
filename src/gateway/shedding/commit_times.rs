//! How long commits take, for whoever waits for them. A commit that has not ended counts, too: a disk that hangs
//! completes none.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::domain::time::Monotonic;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, Histogram};
use crate::storage::{Batch, CommitFuture, Health, Row, Scan, Store, StoreError, Versioned};
use crate::telemetry::trace::{self, Kind};

/// Bounds of how long a commit takes, in seconds.
const BOUNDS: [f64; 12] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// The times of a store's commits.
pub(in crate::gateway) struct CommitTimes {
    clock: Clock,
    durations: Histogram,
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
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when the figure is there already.
    pub(in crate::gateway) fn new(clock: Clock, figures: &Figures) -> Result<Arc<Self>, GatewayError> {
        let durations = figures.histogram(
            "commit_duration_seconds",
            "How long commits took, for whoever waited for them: in the queue, on the disk, and those that failed",
            &BOUNDS,
        )?;
        Ok(Arc::new(Self { clock, durations, state: Mutex::default() }))
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
            let took = now.since(began);
            state.longest = state.longest.max(took);
            drop(state);
            self.times.durations.observe(took.as_secs_f64());
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
