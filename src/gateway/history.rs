//! What the last hours were like, for who looks at the gateway rather than at a monitoring system. Nothing is counted for
//! it: the figures are read once a minute, and when somebody looks.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::history::{Counted, History, Minute, Reading};
use crate::domain::time::Timestamp;
use crate::gateway::metrics::Value;
use crate::gateway::{Gateway, Inner};

const MINUTE: Duration = Duration::from_secs(60);
/// So long before a minute's end its figures are read, so that they count as its own.
const EARLY: Duration = Duration::from_millis(500);

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
                let gateway = Gateway(inner);
                gateway.read_history();
                let wait = until_the_end(gateway.0.core.clock.now());
                drop(gateway);
                tokio::time::sleep(wait).await;
            }
        };
        stopping.run_until_cancelled(read).await;
    });
}

/// How long it is until the figures of the running minute are to be read; of the next one when that is over.
fn until_the_end(now: Timestamp) -> Duration {
    let minute_ms = i64::try_from(MINUTE.as_millis()).unwrap_or(i64::MAX);
    let into = Duration::from_millis(u64::try_from(now.unix_ms().rem_euclid(minute_ms)).unwrap_or(0));
    let end = MINUTE.saturating_sub(EARLY);
    if into < end { end.saturating_sub(into) } else { end.saturating_add(MINUTE).saturating_sub(into) }
}

impl Gateway {
    /// The last minutes, oldest first: as far as the last reading, at most [`crate::domain::history::MINUTES_MAX`].
    pub fn recent_minutes(&self) -> Vec<Minute> {
        self.0.recent.0.lock().minutes().cloned().collect()
    }

    /// Reads the figures now, for who looks on. It is done once a minute anyway.
    pub fn read_history(&self) {
        let mut reading = Reading::default();
        let counted = &mut reading.counted;
        self.0.webhooks.read_figures();
        self.0.metrics.each(|name, labels, value| match (name, value) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_read_shortly_before_it_ends() {
        let wait = |ms: i64| until_the_end(Timestamp::from_unix_ms(1_700_000_040_000 + ms)).as_millis();
        assert_eq!((wait(0), wait(20_000), wait(59_499)), (59_500, 39_500, 1));
        assert_eq!((wait(59_500), wait(59_999), wait(60_000)), (60_000, 59_501, 59_500));
    }

    #[test]
    fn counters_are_taken_by_their_names_and_labels() {
        let mut counted = Counted::default();
        let mut take = |name: &str, labels: &[(&str, &str)], count| take_counter(&mut counted, name, labels, count);
        take("payments_begun_total", &[], 9);
        take("payments_total", &[("channel", "stripe"), ("end", "success")], 5);
        take("payments_total", &[("channel", "stripe"), ("end", "failed")], 2);
        take("payments_total", &[("channel", "stripe"), ("end", "canceled")], 1);
        take("limit_refused_total", &[("limit", "second")], 3);
        take("limit_refused_total", &[("limit", "hour")], 4);
        take("fees_minor_total", &[("channel", "stripe"), ("currency", "USD")], 30);
        take("fees_minor_total", &[("channel", "alipay"), ("currency", "USD")], 10);
        take("http_requests_total", &[], 100);
        assert_eq!((counted.payments, counted.refused), (9, 7));
        assert_eq!((counted.ends["stripe"].approved, counted.ends["stripe"].declined), (5, 2));
        assert_eq!(counted.money["USD"].fees_minor, 40);
    }
}
