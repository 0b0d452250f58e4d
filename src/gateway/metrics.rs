//! Figures for Prometheus. Each gateway has a registry of its own, so that two in one process do not add up. What somebody
//! counts anyway is read when it is asked for; nothing is counted twice.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{HistogramOpts, Opts, Registry, TextEncoder};

pub(crate) use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::gateway::error::GatewayError;
use crate::storage::{Health, Store};

/// Every name begins with it.
const NAMESPACE: &str = "tollgate";

/// The figures of one gateway.
pub struct Metrics {
    registry: Registry,
    store: Arc<dyn Store>,
    /// Held while the figures are brought up to date and written.
    store_figures: Mutex<StoreFigures>,
}

impl Metrics {
    /// The figures that `figures` makes, with those of `store`.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice or is none.
    pub(crate) fn new(figures: &Figures, store: Arc<dyn Store>) -> Result<Self, GatewayError> {
        let build =
            opts("build_info", "The program that runs; always 1").const_label("version", env!("CARGO_PKG_VERSION"));
        figures.add(IntGauge::with_opts(build))?.set(1);
        let store_figures = Mutex::new(StoreFigures::new(figures)?);
        Ok(Self { registry: figures.0.clone(), store, store_figures })
    }

    /// All figures as they stand, in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when they can't be written.
    pub fn text(&self) -> Result<String, GatewayError> {
        let figures = self.store_figures.lock();
        figures.read(&self.store.health());
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|error| GatewayError::Internal(format!("metrics can't be written: {error}")))
    }
}

/// What a figure says.
pub(crate) enum Value {
    /// A number that only grows.
    Counter(f64),
    /// A number that goes up and down.
    Gauge(f64),
    /// How many there were, and how many were no more than each bound.
    Histogram {
        /// All of them.
        count: u64,
        /// The bounds with their numbers.
        up_to: Vec<(f64, u64)>,
    },
}

impl Metrics {
    /// Tells `take` each figure: its name without the `tollgate_` before it, its labels, and what it says.
    pub(crate) fn each(&self, mut take: impl FnMut(&str, Vec<(&str, &str)>, Value)) {
        for family in self.registry.gather() {
            let name = family.name().strip_prefix(NAMESPACE).and_then(|rest| rest.strip_prefix('_'));
            let Some(name) = name else { continue };
            for metric in family.get_metric() {
                let labels = metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
                let value = match family.get_field_type() {
                    MetricType::COUNTER => Value::Counter(metric.get_counter().get_value()),
                    MetricType::GAUGE => Value::Gauge(metric.get_gauge().get_value()),
                    MetricType::HISTOGRAM => {
                        let histogram = metric.get_histogram();
                        let up_to = histogram.get_bucket().iter();
                        let up_to = up_to.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
                        Value::Histogram { count: histogram.get_sample_count(), up_to: up_to.collect() }
                    }
                    _ => continue,
                };
                take(name, labels, value);
            }
        }
    }
}

/// What the store says of itself.
struct StoreFigures {
    disk_free_bytes: Gauge,
    disk_low: IntGauge,
    disk_full: IntGauge,
    accepts_new: IntGauge,
    poisoned: IntGauge,
    committed_sequence: IntGauge,
    applied_sequence: IntGauge,
    overlay_bytes: IntGauge,
    base_bytes: IntGauge,
    base_made_timestamp_seconds: Gauge,
    journal_disk_bytes: IntGauge,
    journal_segments: IntGauge,
    journal_written_bytes: IntCounter,
    journal_frames: IntCounter,
}

impl StoreFigures {
    fn new(figures: &Figures) -> Result<Self, GatewayError> {
        Ok(Self {
            disk_free_bytes: figures
                .decimal("store_disk_free_bytes", "Room left on the data directory's disk; NaN if unknown")?,
            disk_low: figures
                .gauge("store_disk_low", "1 while new work is refused because the disk has little room left")?,
            disk_full: figures.gauge(
                "store_disk_full",
                "1 while something did not fit and the ballast is given up or not there yet",
            )?,
            accepts_new: figures.gauge("store_accepts_new", "1 while batches that begin something new are taken")?,
            poisoned: figures
                .gauge("store_poisoned", "1 when the store has failed and the process must be started again")?,
            committed_sequence: figures.gauge("store_committed_sequence", "Sequence of the last durable commit")?,
            applied_sequence: figures
                .gauge("store_applied_sequence", "Sequence up to which the index has everything")?,
            overlay_bytes: figures.gauge("store_overlay_bytes", "Bytes in memory that the index does not have yet")?,
            base_bytes: figures
                .gauge("store_base_bytes", "Bytes of the base export that counts; 0 when there is none")?,
            base_made_timestamp_seconds: figures.decimal(
                "store_base_made_timestamp_seconds",
                "When the base export that counts was made; NaN without one",
            )?,
            journal_disk_bytes: figures.gauge("store_journal_disk_bytes", "Bytes of the journal's files")?,
            journal_segments: figures.gauge("store_journal_segments", "The journal's files")?,
            journal_written_bytes: figures
                .counter("store_journal_written_bytes_total", "Bytes written to the journal since the start")?,
            journal_frames: figures.counter(
                "store_journal_frames_total",
                "Frames written to the journal since the start, each with one sync",
            )?,
        })
    }

    fn read(&self, health: &Health) {
        self.disk_free_bytes.set(health.disk.free_bytes.map_or(f64::NAN, |bytes| bytes as f64));
        self.disk_low.set(i64::from(health.disk.is_low));
        self.disk_full.set(i64::from(health.disk.is_full));
        self.accepts_new.set(i64::from(health.accepts_new));
        self.poisoned.set(i64::from(health.poisoned.is_some()));
        self.committed_sequence.set(whole(health.committed));
        self.applied_sequence.set(whole(health.applied));
        self.overlay_bytes.set(whole(health.overlay_bytes));
        self.base_bytes.set(whole(health.disk.base.map_or(0, |base| base.bytes)));
        let made_at = health.disk.base.map(|base| base.made_at.unix_s() as f64);
        self.base_made_timestamp_seconds.set(made_at.unwrap_or(f64::NAN));
        self.journal_disk_bytes.set(whole(health.disk.journal_bytes));
        self.journal_segments.set(whole(health.disk.journal_segments));
        advance(&self.journal_written_bytes, health.journal_bytes_written);
        advance(&self.journal_frames, health.journal_frames_written);
    }
}

/// Makes figures and puts them into a gateway's registry, each with a value from the first reading on. Names are complete
/// but for the `tollgate_` before them; counters end with `_total`. Cheap to clone; clones are the same registry.
#[derive(Clone, Default)]
pub(crate) struct Figures(Registry);

impl Figures {
    /// A whole number that goes up and down.
    pub(crate) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, GatewayError> {
        self.add(IntGauge::with_opts(opts(name, help)))
    }

    /// A number that goes up and down; NaN while it is not known.
    pub(crate) fn decimal(&self, name: &str, help: &str) -> Result<Gauge, GatewayError> {
        self.add(Gauge::with_opts(opts(name, help)))
    }

    /// A number that only grows.
    pub(crate) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, GatewayError> {
        self.add(IntCounter::with_opts(opts(name, help)))
    }

    /// Numbers that only grow, one for each set of values of the labels. Whoever makes it touches every set that there can
    /// be, so that each is there from the first reading on; no label may hold what a client chooses.
    pub(crate) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, GatewayError> {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }

    /// Whole numbers that go up and down, one for each set of values of the labels, as [`Figures::counters`].
    pub(crate) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, GatewayError> {
        self.add(IntGaugeVec::new(opts(name, help), labels))
    }

    /// Numbers that go up and down, one for each set of values of the labels, as [`Figures::counters`]; NaN while not known.
    pub(crate) fn decimals(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, GatewayError> {
        self.add(GaugeVec::new(opts(name, help), labels))
    }

    /// How many of what is measured were no more than each of `bounds`, which rise.
    pub(crate) fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram, GatewayError> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(bounds.to_vec());
        self.add(Histogram::with_opts(opts))
    }

    /// All figures as text.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0.gather()).unwrap()
    }

    fn add<T: Collector + Clone + 'static>(&self, made: Result<T, prometheus::Error>) -> Result<T, GatewayError> {
        let made = made.map_err(|error| not_set_up(&error))?;
        self.0.register(Box::new(made.clone())).map_err(|error| not_set_up(&error))?;
        Ok(made)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

/// A counter follows what somebody else counts. It never goes back.
pub(crate) fn advance(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn not_set_up(error: &prometheus::Error) -> GatewayError {
    GatewayError::Internal(format!("metrics can't be set up: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Batch;
    use crate::storage::memory::MemoryStore;

    #[tokio::test]
    async fn every_figure_is_there_from_the_first_reading_and_follows_the_store() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let metrics = Metrics::new(&Figures::default(), Arc::clone(&store)).unwrap();
        let text = metrics.text().unwrap();
        for line in ["tollgate_store_disk_free_bytes NaN", "tollgate_store_disk_low 0", "tollgate_store_accepts_new 1"]
        {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("# TYPE tollgate_store_journal_frames_total counter"), "{text}");
        assert!(text.contains("tollgate_build_info{version=\""), "{text}");
        let mut batch = Batch::new();
        batch.put(b"key".to_vec(), b"value".to_vec());
        store.commit(batch).await.unwrap();
        let text = metrics.text().unwrap();
        assert!(text.lines().any(|found| found == "tollgate_store_committed_sequence 1"), "{text}");
    }

    #[test]
    fn a_counter_follows_a_total_and_never_goes_back() {
        let counter = IntCounter::new("n", "n").unwrap();
        for (total, expected) in [(5, 5), (5, 5), (9, 9), (3, 9)] {
            advance(&counter, total);
            assert_eq!(counter.get(), expected);
        }
    }
}
