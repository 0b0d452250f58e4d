//! Histograms that somebody else has counted.

use parking_lot::Mutex;

use super::{Collector, Desc, Figures, MetricFamily, proto};
use crate::gateway::error::GatewayError;
use crate::storage::spread::SpreadReading;

/// A histogram that follows a [`SpreadReading`]. Clones are the same.
#[derive(Clone)]
pub(super) struct Followed(std::sync::Arc<Inner>);

struct Inner {
    desc: Desc,
    help: String,
    /// What one of the counted units is in the unit of the figure: a millionth for microseconds.
    unit: f64,
    reading: Mutex<SpreadReading>,
}

impl Followed {
    /// # Errors
    /// [`GatewayError::Internal`] when the name is there twice or is none.
    pub(super) fn new(figures: &Figures, name: &str, help: &str, unit: f64) -> Result<Self, GatewayError> {
        let desc = super::describe(name, help)?;
        let made = Self(std::sync::Arc::new(Inner { desc, help: help.to_owned(), unit, reading: Mutex::default() }));
        figures.add(Ok(made))
    }

    /// Follows.
    pub(super) fn set(&self, reading: &SpreadReading) {
        *self.0.reading.lock() = reading.clone();
    }
}

impl Collector for Followed {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let reading = self.0.reading.lock();
        let mut so_far = 0;
        let buckets = reading.bounds.iter().zip(&reading.counts).map(|(bound, count)| {
            so_far += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound as f64 * self.0.unit);
            bucket.set_cumulative_count(so_far);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(reading.counts.iter().sum());
        histogram.set_sample_sum(reading.sum as f64 * self.0.unit);
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        let mut family = MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}
