//! The bound on requests at once on one listener. Its last places are kept for what is worth most, so that new payments
//! which wait for a slow provider keep nobody from finishing what was begun.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::limit::shedding::Worth;

/// One of so many places is kept for requests that finish something, rounded up.
const FINISH_SHARE: usize = 16;
/// One of so many for these and for those that begin to move money.
const CREATE_SHARE: usize = 4;

/// The places of a listener. Never waited for: there is one, or the request is refused.
pub(crate) struct InFlight {
    taken: AtomicUsize,
    max: usize,
}

impl InFlight {
    /// `max` places, at least 1.
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max: max.max(1) }
    }

    /// Whether a request of this worth would get a place now; without a worth it is an operator's and may have any.
    pub(crate) fn has_room(&self, worth: Option<Worth>) -> bool {
        self.taken.load(Ordering::Relaxed) < self.places_for(worth)
    }

    /// Takes a place, if there is one for this worth.
    pub(crate) fn enter(&self, worth: Option<Worth>) -> Option<Place<'_>> {
        let places = self.places_for(worth);
        let one_more = |taken: usize| (taken < places).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).ok()?;
        Some(Place(self))
    }

    /// With so many taken, nothing more of this worth comes in. At least one place is for everything.
    fn places_for(&self, worth: Option<Worth>) -> usize {
        let kept = match worth {
            None | Some(Worth::Finish) => 0,
            Some(Worth::Create) => self.max.div_ceil(FINISH_SHARE),
            Some(Worth::List | Worth::Query | Worth::Manage) => self.max.div_ceil(CREATE_SHARE),
        };
        (self.max - kept).max(1)
    }
}

/// A place, until it is dropped.
pub(crate) struct Place<'a>(&'a InFlight);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many get in when only this worth asks.
    fn room(max: usize, worth: Option<Worth>) -> usize {
        let in_flight = InFlight::new(max);
        let mut places = Vec::new();
        while in_flight.has_room(worth) {
            places.push(in_flight.enter(worth).unwrap());
        }
        assert!(in_flight.enter(worth).is_none());
        places.len()
    }

    #[test]
    fn the_last_places_are_kept_for_what_is_worth_most() {
        for (max, lesser, create) in
            [(0, 1, 1), (1, 1, 1), (2, 1, 1), (4, 3, 3), (8, 6, 7), (16, 12, 15), (17, 12, 15), (2_048, 1_536, 1_920)]
        {
            for worth in [Worth::List, Worth::Query, Worth::Manage] {
                assert_eq!(room(max, Some(worth)), lesser, "{max} {worth:?}");
            }
            assert_eq!(room(max, Some(Worth::Create)), create, "{max}");
            assert_eq!(room(max, Some(Worth::Finish)), max.max(1));
            assert_eq!(room(max, None), max.max(1));
        }
    }

    #[test]
    fn whoever_is_in_counts_for_everybody_and_leaves_its_place() {
        let in_flight = InFlight::new(16);
        let payments: Vec<_> = std::iter::from_fn(|| in_flight.enter(Some(Worth::Create))).collect();
        assert_eq!(payments.len(), 15);
        assert!(in_flight.enter(Some(Worth::Query)).is_none());
        let cancel = in_flight.enter(Some(Worth::Finish)).unwrap();
        assert!(in_flight.enter(Some(Worth::Finish)).is_none() && in_flight.enter(None).is_none());
        drop(cancel);
        assert!(in_flight.enter(Some(Worth::Create)).is_none(), "it is not a payment's");
        drop(payments);
        let lists: Vec<_> = std::iter::from_fn(|| in_flight.enter(Some(Worth::List))).collect();
        assert_eq!(lists.len(), 12);
        assert!(in_flight.enter(Some(Worth::Create)).is_some());
    }
}
