//! What Prometheus is told about the service as a whole, read when it asks.

use std::sync::Arc;

use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, Gauge, GaugeVec, IntCounter, IntGauge, advance};
use crate::storage::{Scan, Store, keys};

/// What is done when it is due, and how the key of an entry says when that is.
const QUEUES: [Queue; 3] = [
    Queue { name: "payments", prefix: keys::payments_due, due_at: payment_due_at },
    Queue { name: "pre_auths", prefix: keys::pre_auths_due, due_at: pre_auth_due_at },
    Queue { name: "callbacks", prefix: keys::inboxes_open, due_at: callback_due_at },
];

struct Queue {
    name: &'static str,
    prefix: fn() -> Vec<u8>,
    due_at: fn(&[u8]) -> Option<Timestamp>,
}

fn payment_due_at(key: &[u8]) -> Option<Timestamp> {
    keys::parse_payment_due(key).map(|(due_at, _)| due_at)
}

fn pre_auth_due_at(key: &[u8]) -> Option<Timestamp> {
    keys::parse_pre_auth_due(key).map(|(due_at, _)| due_at)
}

fn callback_due_at(key: &[u8]) -> Option<Timestamp> {
    keys::parse_inbox_open(key).map(|(due_at, ..)| due_at)
}

/// How the service stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    pub(super) ready: bool,
    pub(super) held: bool,
    pub(super) restarts: u64,
    pub(super) index_bytes: Option<u64>,
    pub(super) backup_made_at: Option<Timestamp>,
    pub(super) backup_failed: bool,
}

/// The figures of one gateway.
pub(super) struct ServiceFigures {
    store: Arc<dyn Store>,
    ready: IntGauge,
    held: IntGauge,
    restarts: IntCounter,
    index_bytes: Gauge,
    backup_made: Gauge,
    backup_failed: IntGauge,
    overdue: GaugeVec,
}

impl ServiceFigures {
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice.
    pub(super) fn new(figures: &Figures, store: Arc<dyn Store>) -> Result<Self, GatewayError> {
        Ok(Self {
            store,
            ready: figures.gauge("ready", "1 while requests should be sent here, as /readyz says")?,
            held: figures.gauge("held", "1 while no money moves after a restore or an import")?,
            restarts: figures
                .counter("actor_restarts_total", "Actors that failed and were started again; there should be none")?,
            index_bytes: figures
                .decimal("store_index_bytes", "Bytes of the index's files; NaN when the store has no directory")?,
            backup_made: figures.decimal(
                "store_backup_timestamp_seconds",
                "When the last commit in the last backup of this process was made; NaN before there is one",
            )?,
            backup_failed: figures.gauge("store_backup_failed", "1 when the last backup has failed")?,
            overdue: figures.decimals(
                "overdue_seconds",
                "For how long what is due first has been due: payments and pre-auths whose channel is asked, \
                 notifications of providers",
                &["queue"],
            )?,
        })
    }

    /// Brings them up to date.
    pub(super) fn read(&self, standing: &Standing, now: Timestamp) {
        self.ready.set(i64::from(standing.ready));
        self.held.set(i64::from(standing.held));
        advance(&self.restarts, standing.restarts);
        self.index_bytes.set(standing.index_bytes.map_or(f64::NAN, |bytes| bytes as f64));
        self.backup_made.set(standing.backup_made_at.map_or(f64::NAN, |at| at.unix_s() as f64));
        self.backup_failed.set(i64::from(standing.backup_failed));
        for queue in QUEUES {
            // NaN when it can't be read, which is said elsewhere.
            let first = self.store.scan(&Scan::prefix(&(queue.prefix)(), 1));
            let overdue = first.map_or(f64::NAN, |rows| {
                let due_at = rows.first().and_then(|row| (queue.due_at)(&row.key));
                due_at.map_or(0.0, |due_at| now.since(due_at).as_secs_f64())
            });
            self.overdue.with_label_values(&[queue.name]).set(overdue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::PaymentNo;
    use crate::storage::Batch;
    use crate::storage::memory::MemoryStore;

    #[tokio::test]
    async fn what_is_due_first_says_how_late_everything_is() {
        let (figures, store) = (Figures::default(), MemoryStore::default());
        let service = ServiceFigures::new(&figures, Arc::new(store.clone())).unwrap();
        let now = Timestamp::from_unix_s(1_700_000_000);
        let has = |line: &str| {
            let text = figures.text();
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        };
        service.read(&Standing::default(), now);
        has(r#"tollgate_overdue_seconds{queue="payments"} 0"#);
        has("tollgate_store_index_bytes NaN");
        let mut batch = Batch::new();
        for (after_s, number) in [(-90, "PY1"), (-30, "PY2"), (60, "PY3")] {
            let due_at = Timestamp::from_unix_s(1_700_000_000 + after_s);
            batch.put(keys::payment_due(due_at, &PaymentNo::new(number)), b"x".to_vec());
        }
        store.commit(batch).await.unwrap();
        let standing = Standing { ready: true, restarts: 2, ..Standing::default() };
        service.read(&standing, now);
        has(r#"tollgate_overdue_seconds{queue="payments"} 90"#);
        has(r#"tollgate_overdue_seconds{queue="callbacks"} 0"#);
        has("tollgate_actor_restarts_total 2");
        has("tollgate_ready 1");
    }
}
