//! What must be exact at the moment of a decision: payments in flight and the right to try a half-open channel. Shared
//! counters that outlive tables and the actor.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use crate::actors::router::RouterHandle;
use crate::domain::ids::ChannelName;
use crate::domain::routing::{ChannelReading, Outcome, OutcomeClass};

/// One channel's counters.
#[derive(Debug, Default)]
pub(super) struct ChannelLive {
    in_flight: AtomicU32,
    probe_taken: AtomicBool,
    this_month_minor: AtomicI64,
}

impl ChannelLive {
    pub fn read(&self) -> ChannelReading {
        ChannelReading {
            in_flight: self.in_flight.load(Ordering::Acquire),
            probe_available: !self.probe_taken.load(Ordering::Acquire),
            this_month_minor: self.this_month_minor.load(Ordering::Acquire),
            ..ChannelReading::default()
        }
    }

    /// Notes what was charged on it this month, in minor units of the settlement currency.
    pub fn note_month(&self, this_month_minor: i64) {
        self.this_month_minor.store(this_month_minor, Ordering::Release);
    }

    /// Takes a place, and the probe where this is one; `None` when somebody else was quicker.
    pub fn reserve(self: &Arc<Self>, in_flight_max: u32, probe: bool) -> Option<Reserved> {
        let one_more = |in_flight: u32| (in_flight < in_flight_max).then_some(in_flight + 1);
        self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        let place = Place(Arc::clone(self));
        if !probe {
            return Some(Reserved { _place: place, token: None });
        }
        let token = self.probe_taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
        token.ok().map(|_| Reserved { _place: place, token: Some(ProbeToken(Arc::clone(self))) })
    }
}

/// A place among a channel's payments in flight.
struct Place(Arc<ChannelLive>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right to try a half-open channel; comes back when dropped.
pub(super) struct ProbeToken(Arc<ChannelLive>);

impl Drop for ProbeToken {
    fn drop(&mut self) {
        self.0.probe_taken.store(false, Ordering::Release);
    }
}

/// What a decision has reserved.
pub(super) struct Reserved {
    _place: Place,
    token: Option<ProbeToken>,
}

/// A place on the channel that was chosen, held while the payment is on it and given back when dropped. When it is the
/// probe of a half-open channel and nothing is reported, the probe comes back with it.
pub struct Reservation {
    channel: ChannelName,
    reserved: Reserved,
    router: RouterHandle,
}

impl Reservation {
    pub(super) fn new(channel: ChannelName, reserved: Reserved, router: RouterHandle) -> Self {
        Self { channel, reserved, router }
    }

    /// The channel.
    pub const fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Whether this is the one payment that tries a half-open channel.
    pub const fn is_probe(&self) -> bool {
        self.reserved.token.is_some()
    }

    /// Reports what came of the call and how long it took. The first report of a probe decides about the breaker.
    pub fn report(&mut self, class: OutcomeClass, latency_ms: Option<u32>) {
        let token = self.reserved.token.take();
        let outcome = Outcome { class, latency_ms, probe: token.is_some() };
        self.router.send_outcome(&self.channel, outcome, token);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reservation").field("channel", &self.channel).field("probe", &self.is_probe()).finish()
    }
}
