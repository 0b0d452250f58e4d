//! What Prometheus is told about traces.

use crate::gateway::Gateway;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, IntCounter, IntCounterVec, advance};
use crate::telemetry::Traces;

/// Figures of spans. Who asks for them has them read.
pub(super) struct TraceFigures {
    sent: IntCounter,
    lost: IntCounterVec,
}

impl TraceFigures {
    pub(super) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        let made = Self {
            sent: figures.counter("trace_spans_sent_total", "Spans that the collector took")?,
            lost: figures.counters("trace_spans_lost_total", "Spans that were lost, by why", &["reason"])?,
        };
        made.read(&Traces::off());
        Ok(made)
    }

    /// Brings them up to date.
    pub(super) fn read(&self, traces: &Traces) {
        let counts = traces.counts();
        advance(&self.sent, counts.sent);
        advance(&self.lost.with_label_values(&["queue_full"]), counts.queue_full);
        advance(&self.lost.with_label_values(&["not_taken"]), counts.not_taken);
    }
}

impl Gateway {
    /// Records what requests lead to.
    pub(crate) fn traces(&self) -> &Traces {
        &self.0.core.traces
    }
}
