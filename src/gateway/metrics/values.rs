//! Figures as they stand, for who shows them rather than gathers them.

use super::proto::MetricType;
use super::{Metrics, NAMESPACE};

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
