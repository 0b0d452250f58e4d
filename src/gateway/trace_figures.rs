//! What Prometheus is told about traces and logs.

use crate::gateway::Gateway;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{IntCounter, IntCounterVec, advance};
use crate::telemetry::Traces;

/// Figures of spans and of lines of logs. Who asks for them has them read.
pub(super) struct TraceFigures {
    sent: IntCounter,
    lost: IntCounterVec,
    lines_lost: IntCounter,
}

impl TraceFigures {
    pub(super) fn new(core: &Core) -> Result<Self, GatewayError> {
        let figures = &core.figures;
        let not_recorded = figures.gauge(
            "traces_not_recorded",
            "1 when nothing is recorded although there is a collector, since its address or headers can't be used",
        )?;
        let is_wanted = core.config.telemetry.otlp_endpoint.is_some();
        not_recorded.set(i64::from(is_wanted && !core.traces.are_recorded()));
        let made = Self {
            sent: figures.counter("trace_spans_sent_total", "Spans that the collector took")?,
            lost: figures.counters("trace_spans_lost_total", "Spans that were lost, by why", &["reason"])?,
            lines_lost: figures.counter(
                "log_lines_lost_total",
                "Lines of the log that were lost, since whoever reads it did not keep up",
            )?,
        };
        made.read(&Traces::off(), 0);
        Ok(made)
    }

    /// Brings them up to date.
    pub(super) fn read(&self, traces: &Traces, log_lines_lost: u64) {
        advance(&self.lines_lost, log_lines_lost);
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
