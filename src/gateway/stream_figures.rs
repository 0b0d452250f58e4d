//! What Prometheus is told about answers that are made while they are sent, such as exports and live figures: how many are
//! open, how they ended, and how many were refused for want of a place.

use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, IntCounterVec, IntGaugeVec};

/// What streams there are.
pub(crate) const KINDS: [&str; 2] = ["download", "live"];
/// How they end.
pub(crate) const ENDINGS: [&str; 5] = ["whole", "stopping", "too_long", "failed", "client_gone"];

/// The figures of one gateway's streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct StreamFigures {
    open: IntGaugeVec,
    ended: IntCounterVec,
    refused: IntCounterVec,
}

impl StreamFigures {
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice.
    pub(super) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        Ok(Self {
            open: figures.gauges(
                "http_streams",
                "Answers that are being made while they are sent",
                &["listener", "kind"],
            )?,
            ended: figures.counters(
                "http_streams_ended_total",
                "Answers that were made while they were sent, by how they ended",
                &["listener", "kind", "ending"],
            )?,
            refused: figures.counters(
                "http_streams_refused_total",
                "The same that were refused since as many as there may be were open",
                &["listener", "kind"],
            )?,
        })
    }

    /// Those of one listener, each there from the first reading on.
    pub(super) fn of_listener(&self, listener: &'static str) -> ListenerStreams {
        for kind in KINDS {
            self.open.with_label_values(&[listener, kind]);
            self.refused.with_label_values(&[listener, kind]);
            for ending in ENDINGS {
                self.ended.with_label_values(&[listener, kind, ending]);
            }
        }
        ListenerStreams { figures: self.clone(), listener }
    }
}

/// The figures of one listener's streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ListenerStreams {
    figures: StreamFigures,
    listener: &'static str,
}

impl ListenerStreams {
    /// A stream of this kind has begun.
    pub(crate) fn begin(&self, kind: &'static str) {
        self.figures.open.with_label_values(&[self.listener, kind]).inc();
    }

    /// It has ended in this way.
    pub(crate) fn end(&self, kind: &'static str, ending: &'static str) {
        self.figures.open.with_label_values(&[self.listener, kind]).dec();
        self.figures.ended.with_label_values(&[self.listener, kind, ending]).inc();
    }

    /// There was no place for one.
    pub(crate) fn refuse(&self, kind: &'static str) {
        self.figures.refused.with_label_values(&[self.listener, kind]).inc();
    }
}
