//! How long the gateway itself takes with requests for pre-auths and captures: all the time from when they reach it,
//! authenticated and admitted, until they are answered, but for their channels' calls.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::clock::Clock;
use crate::domain::ids::PreAuthNo;
use crate::domain::time::Monotonic;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, Histogram};

/// Upper bounds of the histogram's buckets, in seconds.
const BOUNDS: [f64; 12] = [0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0];

/// The times of one gateway. Cheap to clone.
#[derive(Clone)]
pub(super) struct OwnTimes(Arc<Inner>);

struct Inner {
    clock: Clock,
    histogram: Histogram,
    /// Pre-auths whose request is being timed, with how long the channel took for it, once that is known.
    calls: DashMap<PreAuthNo, Option<Duration>>,
}

/// A request that is being timed; dropped when it is answered. What never got as far as its channel is not counted.
pub(super) struct OwnTime {
    times: OwnTimes,
    pre_auth_no: PreAuthNo,
    began: Monotonic,
}

impl OwnTimes {
    /// # Errors
    /// [`GatewayError::Internal`] when the name is there already.
    pub(super) fn new(figures: &Figures, clock: Clock) -> Result<Self, GatewayError> {
        let histogram = figures.histogram(
            "pre_auth_own_seconds",
            "How long requests for pre-auths and captures took, less what their channels took",
            &BOUNDS,
        )?;
        Ok(Self(Arc::new(Inner { clock, histogram, calls: DashMap::new() })))
    }

    /// Reads the clock for a request that has just come.
    pub(super) fn now(&self) -> Monotonic {
        self.0.clock.monotonic()
    }

    /// Times a request that came at `began`. Of several about one pre-auth at once only the first is.
    pub(super) fn time(&self, pre_auth_no: &PreAuthNo, began: Monotonic) -> Option<OwnTime> {
        match self.0.calls.entry(pre_auth_no.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                free.insert(None);
                Some(OwnTime { times: self.clone(), pre_auth_no: pre_auth_no.clone(), began })
            }
        }
    }

    /// The channel took so long for what was asked of it first.
    pub(super) fn channel_took(&self, pre_auth_no: &PreAuthNo, took: Duration) {
        if let Some(mut call) = self.0.calls.get_mut(pre_auth_no) {
            *call = Some(took);
        }
    }
}

impl Drop for OwnTime {
    fn drop(&mut self) {
        let inner = &self.times.0;
        if let Some((_, Some(took))) = inner.calls.remove(&self.pre_auth_no) {
            let own = inner.clock.monotonic().since(self.began).saturating_sub(took);
            inner.histogram.observe(own.as_secs_f64());
        }
    }
}
