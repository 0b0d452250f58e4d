//! What Prometheus is told about channels.

use crate::actors::router::RouterHandle;
use crate::domain::routing::BreakerView;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, GaugeVec, IntCounterVec, IntGaugeVec, advance};

/// Parts per million of the whole.
const PPM: f64 = 1_000_000.0;

/// Figures by channel. Who asks for them has them read.
pub(super) struct ChannelFigures {
    breaker: IntGaugeVec,
    calls: IntCounterVec,
    enabled: IntGaugeVec,
    has_credentials: IntGaugeVec,
    in_flight: IntGaugeVec,
    success: GaugeVec,
}

impl ChannelFigures {
    pub(super) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        let labels = ["channel"];
        Ok(Self {
            breaker: figures.gauges(
                "channel_breaker",
                "A channel's breaker: 0 closed, 1 half-open, 2 open",
                &labels,
            )?,
            calls: figures.counters(
                "channel_calls_total",
                "Calls of a channel that ended, and what is known of payments later, by what came of them",
                &["channel", "class"],
            )?,
            enabled: figures.gauges("channel_enabled", "1 while a channel may be chosen", &labels)?,
            has_credentials: figures.gauges(
                "channel_has_credentials",
                "0 when a channel could not be set up for want of its credentials",
                &labels,
            )?,
            in_flight: figures.gauges("channel_in_flight", "Payments under way on a channel", &labels)?,
            success: figures.decimals(
                "channel_success_ratio",
                "The success rate that the router expects of a channel, 0 to 1",
                &labels,
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
            self.enabled.with_label_values(&[channel]).set(i64::from(status.enabled));
            self.has_credentials.with_label_values(&[channel]).set(i64::from(status.has_credentials));
            self.in_flight.with_label_values(&[channel]).set(i64::from(status.in_flight));
            self.success.with_label_values(&[channel]).set(f64::from(status.success_ppm) / PPM);
            for (class, total) in status.calls {
                advance(&self.calls.with_label_values(&[channel, class.as_str()]), total);
            }
        }
    }
}
