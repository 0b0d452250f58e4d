//! What is counted of notifications of providers.

use crate::domain::ids::ChannelName;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, IntCounter, IntCounterVec, IntGauge};

/// What comes of a request that claims to be a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is kept, and gone into.
    Taken,
    /// It is there already.
    Duplicate,
    /// It is about nothing of interest, and kept only so that it is known.
    Ignored,
    /// It does not come from the provider, or not about our account.
    Refused,
    /// It can't be proved or kept now; the provider sends it again.
    Unavailable,
}

impl Arrival {
    const ALL: [Self; 5] = [Self::Taken, Self::Duplicate, Self::Ignored, Self::Refused, Self::Unavailable];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The figures of one gateway's notifications.
pub(super) struct CallbackFigures {
    arrived: IntCounterVec,
    open: IntGauge,
    unknown: IntCounter,
}

impl CallbackFigures {
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice.
    pub(super) fn new<'a>(figures: &Figures, channels: impl Iterator<Item = &'a String>) -> Result<Self, GatewayError> {
        let made = Self {
            arrived: figures.counters(
                "callbacks_total",
                "Notifications of providers, by what came of them",
                &["channel", "outcome"],
            )?,
            open: figures.gauge("callbacks_open", "Notifications of providers that are still to be gone into")?,
            unknown: figures.counter(
                "callbacks_unknown_total",
                "Notifications of providers about something that never came up here",
            )?,
        };
        // All are there from the first scrape.
        for channel in channels {
            for arrival in Arrival::ALL {
                made.arrived.with_label_values(&[channel.as_str(), arrival.as_str()]);
            }
        }
        Ok(made)
    }

    /// Counts one that has arrived on a channel that is configured.
    pub(super) fn count(&self, channel: &ChannelName, arrival: Arrival) {
        self.arrived.with_label_values(&[channel.as_str(), arrival.as_str()]).inc();
    }

    /// So many more are open.
    pub(super) fn opened(&self, more: usize) {
        self.open.add(i64::try_from(more).unwrap_or(i64::MAX));
    }

    /// One was gone into, or given up.
    pub(super) fn closed(&self, is_unknown: bool) {
        self.open.dec();
        if is_unknown {
            self.unknown.inc();
        }
    }
}
