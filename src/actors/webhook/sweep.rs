//! A net under the actors: now and then the due index is walked through, and endpoints that have had something due for a
//! while, though nobody sees to them, are reminded. There should be none; each is reported.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::actors::webhook::Engine;
use crate::domain::ids::EndpointId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DueEntry, Endpoint, EndpointStatus};
use crate::storage::{Row, Scan, StoreError, keys, prefix_end, record};

/// How often it is done.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// What is due for less than this is nobody's fault yet. Longer than anything is held back after trouble.
const OVERDUE_AFTER: Duration = Duration::from_secs(10);
/// Endpoints looked at in one pass, with one read each; the next pass goes on from there.
const ENDPOINTS_MAX: usize = 2_000;
/// Endpoints looked at before other tasks get their turn.
const LOOKED_AT_BEFORE_YIELD: usize = 64;

/// How far the walk has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Where the next pass starts; at the beginning, if nowhere.
    next: Option<Vec<u8>>,
}

impl Sweep {
    /// Looks at the next endpoints.
    ///
    /// # Errors
    /// [`StoreError`] when the due index or an endpoint can't be read.
    pub(super) async fn pass(&mut self, engine: &Engine) -> Result<(), StoreError> {
        let now = engine.due_now();
        let spread = Duration::from_millis(engine.parts.config.restart_spread_ms);
        if engine.stopping.is_cancelled() || now < engine.started_at.plus(spread + OVERDUE_AFTER) {
            // What was left behind by the last run is still being spread.
            return Ok(());
        }
        let end = prefix_end(&keys::notifications_due());
        let mut start = self.next.take().unwrap_or_else(keys::notifications_due);
        for looked_at in 1..=ENDPOINTS_MAX {
            let scan = Scan { start, end: end.clone(), limit: 1, reverse: false };
            let Some(row) = engine.parts.store.scan(&scan)?.pop() else { return Ok(()) };
            start = match keys::parse_notification_due(&row.key) {
                Some((endpoint_id, due_at, _)) => {
                    if due_at.plus(OVERDUE_AFTER) < now && is_forgotten(engine, &endpoint_id, &row, now)? {
                        remind(engine, &endpoint_id, now.since(due_at));
                    }
                    let Some(next) = prefix_end(&keys::notifications_due_of(&endpoint_id)) else { return Ok(()) };
                    next
                }
                None => {
                    engine.unreadable.report(&row.key, "its key has no time and notification");
                    [row.key.as_slice(), &[0]].concat()
                }
            };
            if looked_at % LOOKED_AT_BEFORE_YIELD == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.next = Some(start);
        Ok(())
    }
}

/// Whether an entry has to be sent or ended, and nobody is about to.
fn is_forgotten(engine: &Engine, endpoint_id: &EndpointId, row: &Row, now: Timestamp) -> Result<bool, StoreError> {
    let store = &engine.parts.store;
    let entry: DueEntry = match record::decode(&row.versioned.value) {
        Ok(entry) => entry,
        Err(error) => {
            engine.unreadable.report(&row.key, error);
            return Ok(false);
        }
    };
    let key = keys::endpoint(&entry.merchant_id, endpoint_id);
    let is_only_kept = match store.get(&key)?.map(|stored| record::decode::<Endpoint>(&stored.value)) {
        None => false,
        Some(Ok(endpoint)) => endpoint.status != EndpointStatus::Enabled,
        Some(Err(error)) => {
            engine.unreadable.report(&key, error);
            true
        }
    };
    // Only if it is still there after that, else somebody has just seen to it.
    Ok(!is_only_kept && engine.directory.is_forgotten(endpoint_id, now) && store.get(&row.key)?.is_some())
}

fn remind(engine: &Engine, endpoint_id: &EndpointId, overdue: Duration) {
    engine.reminded_total.fetch_add(1, Ordering::Relaxed);
    let overdue_s = overdue.as_secs();
    tracing::warn!(%endpoint_id, overdue_s, "a webhook was due and nobody saw to it; its endpoint is reminded");
    engine.directory.poke(endpoint_id);
}
