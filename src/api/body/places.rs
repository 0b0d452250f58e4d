//! Places for what takes long with slow clients, bodies that are not small: a bound on all of them, and a share of it for
//! each client.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::domain::limit::ClientNetwork;

/// One client gets one place in so many, so that a few strangers can't hold them all.
const SHARES: usize = 8;
/// But never fewer than this, for many clients behind one address.
const SHARE_MIN: usize = 16;

/// How many of `all_max` places one client gets.
pub(crate) fn share_of(all_max: usize) -> usize {
    (all_max / SHARES).max(SHARE_MIN)
}

/// The places. Taken before anybody knows whether a request is signed by somebody, so only the address counts, found as for
/// the limits by client address.
#[derive(Debug)]
pub(crate) struct Places {
    all_max: usize,
    share_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Only of those that hold any, so never more entries than places.
    by_client: HashMap<ClientNetwork, usize>,
}

/// Held while that lasts.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    places: &'a Places,
    /// `None` when its client has no bound of its own.
    client: Option<ClientNetwork>,
}

impl Places {
    /// `all_max` at once.
    pub(crate) fn new(all_max: usize) -> Self {
        Self { all_max, share_max: share_of(all_max), taken: Mutex::default() }
    }

    /// Takes one; `None` when there is none, or `client` has its share. Who is not counted as one client may take all.
    pub(crate) fn take(&self, client: Option<ClientNetwork>) -> Option<Place<'_>> {
        let mut taken = self.taken.lock();
        if taken.all >= self.all_max {
            return None;
        }
        if let Some(client) = client {
            let held = taken.by_client.get(&client).copied().unwrap_or(0);
            if held >= self.share_max {
                return None;
            }
            taken.by_client.insert(client, held + 1);
        }
        taken.all += 1;
        Some(Place { places: self, client })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        let Some(client) = self.client else { return };
        match taken.by_client.get_mut(&client) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(taken.by_client.remove(&client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Option<ClientNetwork> {
        Some(ClientNetwork::of(text.parse().unwrap()))
    }

    #[test]
    fn one_client_gets_its_share_and_leaves_the_rest_to_others() {
        let places = Places::new(256);
        for (stranger, same) in [("192.0.2.1", "::ffff:192.0.2.1"), ("2001:db8::1", "2001:db8::ffff:1")] {
            let held: Vec<_> = (0..32).map_while(|_| places.take(client(stranger))).collect();
            assert_eq!(held.len(), 32);
            assert!(places.take(client(same)).is_none(), "{same} is the same client");
            assert!(places.take(client("192.0.2.2")).is_some());
            assert!(places.take(client("2001:db8:0:1::1")).is_some());
            drop(held);
            assert!(places.take(client(stranger)).is_some(), "they came back");
        }
        let held: Vec<_> = (0..300).map_while(|_| places.take(None)).collect();
        assert_eq!(held.len(), 256, "many clients that can't be told apart");
        assert!(places.take(client("192.0.2.1")).is_none(), "there are no more");
        drop(held);
        assert!(places.taken.lock().by_client.is_empty());
    }

    #[test]
    fn a_share_is_never_tiny() {
        let places = Places::new(64);
        let held: Vec<_> = (0..64).map_while(|_| places.take(client("192.0.2.1"))).collect();
        assert_eq!(held.len(), SHARE_MIN);
    }
}
