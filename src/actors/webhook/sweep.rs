//! A net under the actors: now and then the due index is walked through, and endpoints that have had something due for a
//! while, though nobody sees to them, are reminded. There should be none; each is reported.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::actors::webhook::Engine;
use crate::actors::webhook::directory::Care;
use crate::actors::webhook::health::Gate;
use crate::actors::webhook::send::answered_within;
use crate::domain::ids::EndpointId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::{DueEntry, Endpoint, EndpointStatus, Lane, LaneSet};
use crate::storage::{Row, Scan, StoreError, keys, prefix_end, record};

/// How often it is done.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// What is due for less than this is nobody's fault yet. Longer than anything is held back after trouble.
const OVERDUE_AFTER: Duration = Duration::from_secs(10);
/// Rows looked at in one pass: the first of each lane that can be read, and those before it that can't. The next pass
/// goes on from there.
const ROWS_MAX: usize = 2_000;
/// Rows looked at before other tasks get their turn.
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
        for looked_at in 1..=ROWS_MAX {
            let scan = Scan { start, end: end.clone(), limit: 1, reverse: false };
            let Some(row) = engine.parts.store.scan(&scan)?.pop() else { return Ok(()) };
            start = match read(engine, &row) {
                Some((endpoint_id, lane, due_at, entry)) => {
                    if due_at.plus(OVERDUE_AFTER) < now {
                        look_after(engine, &endpoint_id, (&row, &entry), (due_at, now))?;
                    }
                    let Some(next) = prefix_end(&keys::notifications_due_in(&endpoint_id, lane)) else { return Ok(()) };
                    next
                }
                // Whether it is seen to is told by the next one.
                None => [row.key.as_slice(), &[0]].concat(),
            };
            if looked_at % LOOKED_AT_BEFORE_YIELD == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.next = Some(start);
        Ok(())
    }
}

/// What a row of the due index says; one that can't be read is reported.
fn read(engine: &Engine, row: &Row) -> Option<(EndpointId, Lane, Timestamp, DueEntry)> {
    let Some((endpoint_id, lane, due_at, _)) = keys::parse_notification_due(&row.key) else {
        engine.unreadable.report(&row.key, "its key has no lane, time and notification");
        return None;
    };
    match record::decode(&row.versioned.value) {
        Ok(entry) => Some((endpoint_id, lane, due_at, entry)),
        Err(error) => {
            engine.unreadable.report(&row.key, error);
            None
        }
    }
}

/// Reminds an endpoint whose first entry has to be sent or ended since `due_at`, if nobody is about to.
fn look_after(
    engine: &Engine,
    endpoint_id: &EndpointId,
    (row, entry): (&Row, &DueEntry),
    (due_at, now): (Timestamp, Timestamp),
) -> Result<(), StoreError> {
    if is_only_kept(engine, endpoint_id, entry)? {
        return Ok(());
    }
    let within = answered_within(Duration::from_secs(engine.parts.config.timeout_s));
    let why = match engine.directory.care_of(endpoint_id, now, within) {
        Care::Given => return Ok(()),
        // Only if it is still there after that, else somebody has just seen to it.
        Care::Forgotten if engine.parts.store.get(&row.key)?.is_none() => return Ok(()),
        Care::Forgotten => "nobody saw to it",
        Care::RequestsLost(_) => "a request never ended and was given up",
        Care::StartLost => "its actor never started",
    };
    engine.reminded_total.fetch_add(1, Ordering::Relaxed);
    let overdue_s = now.since(due_at).as_secs();
    tracing::warn!(%endpoint_id, overdue_s, why, "a webhook is overdue; its endpoint is reminded");
    engine.directory.poke(endpoint_id, LaneSet::ALL);
    Ok(())
}

/// Whether an endpoint wants nothing sent at the moment. Of one that was deleted, what is due has to be ended.
fn is_only_kept(engine: &Engine, endpoint_id: &EndpointId, entry: &DueEntry) -> Result<bool, StoreError> {
    let key = keys::endpoint(&entry.merchant_id, endpoint_id);
    Ok(match engine.parts.store.get(&key)?.map(|stored| record::decode::<Endpoint>(&stored.value)) {
        None => false,
        Some(Ok(endpoint)) => {
            // Also when it is left alone no longer, but its actor has just begun to send again what was due meanwhile.
            endpoint.status != EndpointStatus::Enabled
                || engine.healths.gate(&endpoint, engine.due_now().minus(OVERDUE_AFTER))? != Gate::Open
        }
        Some(Err(error)) => {
            engine.unreadable.report(&key, error);
            true
        }
    })
}
