//! What Prometheus is told about channels.

use crate::actors::router::RouterHandle;
use crate::domain::routing::BreakerView;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, IntCounterVec, IntGaugeVec, advance};

/// Figures by channel. Who asks for them has them read.
pub(super) struct ChannelFigures {
    breaker: IntGaugeVec,
    calls: IntCounterVec,
}

impl ChannelFigures {
    pub(super) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        Ok(Self {
            breaker: figures.gauges(
                "channel_breaker",
                "A channel's breaker: 0 closed, 1 half-open, 2 open",
                &["channel"],
            )?,
            calls: figures.counters(
                "channel_calls_total",
                "Calls of a channel that ended, and what is known of payments later, by what came of them",
                &["channel", "class"],
            )?,
        })
    }

    /// Brings them up to date.
    pub(super) fn read(&self, router: &RouterHandle) {
        for status in router.channels() {
            let channel = status.name.as_str();
            let breaker = match status.breaker {
                BreakerView::Closed => 0,
                BreakerView::HalfOpen => 1,
                BreakerView::Open => 2,
            };
            self.breaker.with_label_values(&[channel]).set(breaker);
            for (class, total) in status.calls {
                advance(&self.calls.with_label_values(&[channel, class.as_str()]), total);
            }
        }
    }
}
