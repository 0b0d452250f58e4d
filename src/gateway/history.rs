//! What the last hours were like, for who looks at the gateway rather than at a monitoring system. Nothing is counted for
//! it: the figures are read every few seconds.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::history::{Counted, History, Minute, Reading};
use crate::gateway::metrics::Value;
use crate::gateway::{Gateway, Inner};

/// Between two readings.
pub const READ_INTERVAL: Duration = Duration::from_secs(15);

/// The last hours of one gateway.
#[derive(Default)]
pub(super) struct Recent(Mutex<History>);

/// Reads the figures until the gateway stops.
pub(super) fn start(gateway: &Gateway) {
    let inner: Weak<Inner> = Arc::downgrade(&gateway.0);
    let stopping = gateway.0.core.stopping.clone();
    gateway.0.core.tasks.spawn(async move {
        let read = async {
            // The gateway is not kept by who looks at it.
            while let Some(inner) = inner.upgrade() {
                Gateway(inner).read_history();
                tokio::time::sleep(READ_INTERVAL).await;
            }
        };
        stopping.run_until_cancelled(read).await;
    });
}

impl Gateway {
    /// The last minutes, oldest first: as far as the last reading, at most [`crate::domain::history::MINUTES_MAX`].
    pub fn recent_minutes(&self) -> Vec<Minute> {
        self.0.recent.0.lock().minutes().cloned().collect()
    }

    /// Reads the figures now, for who looks on. It is done every [`READ_INTERVAL`] anyway.
    pub fn read_history(&self) {
        let mut reading = Reading::default();
        let counted = &mut reading.counted;
        self.metrics().each(|name, labels, value| match (name, value) {
            ("webhook_waiting", Value::Gauge(waiting)) if waiting >= 0.0 => {
                reading.webhooks_waiting = Some(whole(waiting));
            }
            (name, Value::Counter(count)) => take_counter(counted, name, &labels, whole(count)),
            ("commit_duration_seconds", Value::Histogram { count, up_to }) => {
                counted.commits.count = count;
                counted.commits.up_to = up_to;
            }
            _ => {}
        });
        self.0.recent.0.lock().note(self.0.core.clock.now(), reading);
    }
}

fn take_counter(counted: &mut Counted, name: &str, labels: &[(&str, &str)], count: u64) {
    let label = |wanted: &str| labels.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| *value);
    let currency = || label("currency").to_owned();
    match name {
        "payments_begun_total" => counted.payments = count,
        "payments_total" => {
            let ends = counted.ends.entry(label("channel").to_owned()).or_default();
            match label("end") {
                "success" => ends.approved += count,
                "failed" => ends.declined += count,
                _ => {}
            }
        }
        "limit_refused_total" => counted.refused += count,
        "payment_amount_minor_total" => counted.money.entry(currency()).or_default().taken_minor += count,
        "fees_minor_total" => counted.money.entry(currency()).or_default().fees_minor += count,
        "fees_baseline_minor_total" => counted.money.entry(currency()).or_default().baseline_minor += count,
        _ => {}
    }
}

/// A counter's value, which is a whole number that is not negative.
fn whole(value: f64) -> u64 {
    value as u64
}
