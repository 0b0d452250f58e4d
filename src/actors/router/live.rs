//! What must be exact at the moment of a decision: payments in flight and the right to try a half-open channel. Shared
//! counters that outlive tables and the actor.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::actors::router::{Ending, RouterHandle};
use crate::domain::ids::ChannelName;
use crate::domain::routing::{ChannelReading, Outcome, OutcomeClass, Segment};

/// One channel's counters.
#[derive(Debug, Default)]
pub(super) struct ChannelLive {
    in_flight: AtomicU32,
    probe_taken: AtomicBool,
}

impl ChannelLive {
    pub fn read(&self) -> ChannelReading {
        ChannelReading {
            in_flight: self.in_flight.load(Ordering::Acquire),
            probe_available: !self.probe_taken.load(Ordering::Acquire),
            ..ChannelReading::default()
        }
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
    segment: Segment,
    reserved: Reserved,
    router: RouterHandle,
}

impl Reservation {
    pub(super) fn new(channel: ChannelName, segment: Segment, reserved: Reserved, router: RouterHandle) -> Self {
        Self { channel, segment, reserved, router }
    }

    /// The channel.
    pub const fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Whether this is the one payment that tries a half-open channel.
    pub const fn is_probe(&self) -> bool {
        self.reserved.token.is_some()
    }

    /// Reports what came of the payment with the call, and how long that took. The first report of a probe decides about
    /// the breaker.
    pub fn report(&mut self, class: OutcomeClass, latency_ms: Option<u32>) {
        self.send(class, latency_ms, Ending::KnownOf(self.segment));
    }

    /// Reports how the call went and how long it took; what came of the payment is told with [`RouterHandle::learn`] when
    /// that is stored. The first report of a probe decides about the breaker.
    pub fn report_call(&mut self, class: OutcomeClass, latency_ms: Option<u32>) {
        self.send(class, latency_ms, Ending::Later);
    }

    fn send(&mut self, class: OutcomeClass, latency_ms: Option<u32>, ending: Ending) {
        let token = self.reserved.token.take();
        let outcome = Outcome { class, latency_ms, probe: token.is_some() };
        self.router.send_outcome(&self.channel, outcome, ending, token);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reservation").field("channel", &self.channel).field("probe", &self.is_probe()).finish()
    }
}
