//! What is remembered of endpoints, of as many as there is room for.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64;

use crate::domain::ids::EndpointId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::EndpointWatch;

/// Endpoints of which something is remembered. Of those above nothing is lost but how their last requests went.
const WATCHED_MAX: usize = 50_000;
/// They are kept in so many parts, so that many endpoints do not wait for one another.
const PARTS: usize = 16;
/// Of one part, those that were used lately.
const LATELY_MAX: usize = WATCHED_MAX / PARTS / 2;

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The address that it is known of, as a digest.
    pub(super) address: u64,
    /// As of when the endpoint had that address.
    pub(super) endpoint_at: Timestamp,
    pub(super) watch: EndpointWatch,
    /// A digest of its row; 0 if there was none.
    pub(super) stored: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Watched([Mutex<Part>; PARTS]);

/// Some of the endpoints, roughly in the order of their last use: those that were used lately, and those that were used
/// before.
#[derive(Default)]
pub(super) struct Part {
    lately: HashMap<EndpointId, Known>,
    before: HashMap<EndpointId, Known>,
}

impl Watched {
    /// The part in which an endpoint is, if it is in any.
    pub(super) fn part(&self, endpoint_id: &EndpointId) -> MutexGuard<'_, Part> {
        let digest = xxh3_64(endpoint_id.as_str().as_bytes()) % PARTS as u64;
        self.0[usize::try_from(digest).unwrap_or(0)].lock()
    }
}

impl Part {
    pub(super) fn get(&mut self, endpoint_id: &EndpointId) -> Option<&mut Known> {
        if !self.lately.contains_key(endpoint_id)
            && let Some((endpoint_id, known)) = self.before.remove_entry(endpoint_id)
        {
            self.insert(endpoint_id, known);
        }
        self.lately.get_mut(endpoint_id)
    }

    pub(super) fn insert(&mut self, endpoint_id: EndpointId, known: Known) {
        if self.lately.len() >= LATELY_MAX {
            self.before = std::mem::take(&mut self.lately);
        }
        self.before.remove(&endpoint_id);
        self.lately.insert(endpoint_id, known);
    }

    pub(super) fn remove(&mut self, endpoint_id: &EndpointId) {
        self.lately.remove(endpoint_id);
        self.before.remove(endpoint_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(stored: u64) -> Known {
        let settings = crate::domain::webhook::HealthSettings {
            breaker_min: 10,
            breaker_failure_percent: 80,
            breaker_window: std::time::Duration::from_secs(60),
            breaker_open: std::time::Duration::from_secs(10),
            breaker_open_max: std::time::Duration::from_secs(300),
            failing_event_after: std::time::Duration::from_secs(86_400),
            disable_after: None,
            disable_min_tries: 20,
            recovery_rate_per_s: 10,
            in_flight_max: 16,
        };
        let now = Timestamp::from_unix_s(1);
        Known { address: 1, endpoint_at: now, watch: EndpointWatch::new(Default::default(), now, &settings), stored }
    }

    #[test]
    fn as_many_are_remembered_as_there_is_room_for_and_those_in_use_stay() {
        let watched = Watched::default();
        let in_use = EndpointId::new("we_in_use");
        watched.part(&in_use).insert(in_use.clone(), known(7));
        for number in 0..200_000_u64 {
            let endpoint_id = EndpointId::new(format!("we_{number}"));
            watched.part(&endpoint_id).insert(endpoint_id.clone(), known(number));
            assert_eq!(watched.part(&in_use).get(&in_use).map(|known| known.stored), Some(7), "{number}");
        }
        let kept: usize = watched.0.iter().map(Mutex::lock).map(|part| part.lately.len() + part.before.len()).sum();
        assert!((WATCHED_MAX / 2..=WATCHED_MAX).contains(&kept), "{kept}");
        watched.part(&in_use).remove(&in_use);
        assert!(watched.part(&in_use).get(&in_use).is_none());
    }
}
