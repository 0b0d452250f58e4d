//! What Prometheus is told about decisions.

use crate::domain::ids::ChannelName;
use crate::domain::routing::{DecisionRecord, NoChannel, Rung, Strategy};
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, IntCounterVec};

/// Where no strategy had to decide, since one channel was left without any.
const NO_STRATEGY: &str = "none";

/// Why no channel was found: none that serves such payments can take one now.
const CAUSE_CHANNELS: &str = "channels";
/// None serves such payments.
const CAUSE_REQUEST: &str = "request";

/// The figures of one gateway's decisions.
pub(in crate::gateway) struct DecisionFigures {
    decisions: IntCounterVec,
    none: IntCounterVec,
    failovers: IntCounterVec,
}

impl DecisionFigures {
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice.
    pub(in crate::gateway) fn new<'a>(
        figures: &Figures,
        channels: impl Iterator<Item = &'a String>,
    ) -> Result<Self, GatewayError> {
        let made = Self {
            decisions: figures.counters(
                "routing_decisions_total",
                "Decisions for a channel, by the step of the ladder and the strategy that decided",
                &["channel", "rung", "strategy"],
            )?,
            none: figures.counters(
                "routing_no_channel_total",
                "Decisions that found no channel, by what is the cause: channels that can't take it now, or the request, which \
                 none of them serves",
                &["cause"],
            )?,
            failovers: figures.counters(
                "routing_failovers_total",
                "Payments for which another channel was asked after this one had refused",
                &["channel"],
            )?,
        };
        for cause in [CAUSE_CHANNELS, CAUSE_REQUEST] {
            made.none.with_label_values(&[cause]);
        }
        for channel in channels {
            for rung in [Rung::Requested, Rung::Smart, Rung::Rules, Rung::Default] {
                made.decisions.with_label_values(&[channel.as_str(), rung.as_str(), NO_STRATEGY]);
            }
            for strategy in Strategy::BUILT_IN {
                made.decisions.with_label_values(&[channel.as_str(), Rung::Smart.as_str(), strategy.as_str()]);
            }
            made.failovers.with_label_values(&[channel.as_str()]);
        }
        Ok(made)
    }

    /// Counts what came of a decision.
    pub(in crate::gateway) fn note<R>(&self, decided: &Result<(R, DecisionRecord), NoChannel>) {
        let record = match decided {
            Ok((_, record)) => record,
            Err(none) => {
                let cause = if none.is_of_request() { CAUSE_REQUEST } else { CAUSE_CHANNELS };
                return self.none.with_label_values(&[cause]).inc();
            }
        };
        let (Some(verdict), Some(rung)) = (record.chosen_channel(), record.rung) else { return };
        let strategy = record.strategy.map_or(NO_STRATEGY, Strategy::as_str);
        self.decisions.with_label_values(&[verdict.channel.as_str(), rung.as_str(), strategy]).inc();
    }

    /// Another channel is asked after this one.
    pub(in crate::gateway) fn failed_over(&self, from: &ChannelName) {
        self.failovers.with_label_values(&[from.as_str()]).inc();
    }
}
