//! Figures for Prometheus. Each gateway has a registry of its own, so that two in one process do not add up. What somebody
//! counts anyway is read when it is asked for; nothing is counted twice.

mod process;
mod spread;
mod store;
mod values;

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc, Describer};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{self, MetricFamily};
use prometheus::{HistogramOpts, Opts, Registry, TextEncoder};

pub(crate) use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use crate::clock::Clock;
use crate::gateway::error::GatewayError;
use crate::storage::Store;
use process::{Process, Runtime};
use store::StoreFigures;

pub(crate) use values::Value;

/// Every name begins with it.
const NAMESPACE: &str = "tollgate";

/// The figures of one gateway.
pub struct Metrics {
    registry: Registry,
    store: Arc<dyn Store>,
    /// Held while the figures are brought up to date and written.
    store_figures: Mutex<StoreFigures>,
    runtime: Runtime,
}

impl Metrics {
    /// The figures that `figures` makes, with those of `store` and of this process.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice or is none.
    pub(crate) fn new(figures: &Figures, store: Arc<dyn Store>, clock: Clock) -> Result<Self, GatewayError> {
        let build =
            opts("build_info", "The program that runs; always 1").const_label("version", env!("CARGO_PKG_VERSION"));
        figures.add(IntGauge::with_opts(build))?.set(1);
        let store_figures = Mutex::new(StoreFigures::new(figures)?);
        let process = Process::new(NAMESPACE, clock);
        figures.0.register(Box::new(process)).map_err(|error| not_set_up(&error))?;
        Ok(Self { registry: figures.0.clone(), store, store_figures, runtime: Runtime::new(figures)? })
    }

    /// All figures as they stand, in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when they can't be written.
    pub fn text(&self) -> Result<String, GatewayError> {
        let figures = self.store_figures.lock();
        figures.read(&self.store.health());
        self.runtime.read();
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|error| GatewayError::Internal(format!("metrics can't be written: {error}")))
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

    /// A number that only grows and need not be whole.
    pub(crate) fn decimal_counter(&self, name: &str, help: &str) -> Result<Counter, GatewayError> {
        self.add(Counter::with_opts(opts(name, help)))
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

    /// Histograms, one for each set of values of the labels, as [`Figures::counters`].
    pub(crate) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        bounds: &[f64],
    ) -> Result<HistogramVec, GatewayError> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(bounds.to_vec());
        self.add(HistogramVec::new(opts, labels))
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

/// What a figure without labels says of itself to its registry.
fn describe(name: &str, help: &str) -> Result<Desc, GatewayError> {
    opts(name, help).describe().map_err(|error| not_set_up(&error))
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
        let metrics = Metrics::new(&Figures::default(), Arc::clone(&store), Clock::system()).unwrap();
        let text = metrics.text().unwrap();
        for line in ["tollgate_store_disk_free_bytes NaN", "tollgate_store_disk_low 0", "tollgate_store_accepts_new 1"]
        {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("# TYPE tollgate_store_journal_frames_total counter"), "{text}");
        assert!(text.contains("tollgate_build_info{version=\""), "{text}");
        // Which are of this process, and of this test's runtime.
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
        };
        assert!(value("tollgate_process_open_fds") > 2.0 && value("tollgate_process_threads") >= 1.0);
        assert!(value("tollgate_process_resident_memory_bytes") > 1_000_000.0);
        assert!(value("tollgate_process_cpu_seconds_total") > 0.0);
        assert!((value("tollgate_runtime_workers") - 1.0).abs() < 0.1);
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
