//! Places for bodies that are not small: a bound on all of them, and a share of it for each client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use parking_lot::Mutex;

/// One client gets one place in so many, so that a few strangers can't hold them all.
const SHARES: usize = 8;
/// But never fewer than this, for many clients behind one address.
const SHARE_MIN: usize = 16;

/// The places. Taken before anybody knows whether a request is signed by somebody, so only the address counts.
#[derive(Debug)]
pub(super) struct Places {
    all_max: usize,
    share_max: usize,
    /// Their requests are those of many clients.
    exempt: Vec<IpNet>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Only of those that hold any, so never more entries than places.
    by_client: HashMap<IpAddr, usize>,
}

/// Held while a body is read.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    /// `None` when its client has no bound of its own.
    client: Option<IpAddr>,
}

impl Places {
    /// `all_max` at once. Clients over loopback and in `exempt` may hold all of them, since proxies are there.
    pub(super) fn new(all_max: usize, exempt: Vec<IpNet>) -> Self {
        Self { all_max, share_max: (all_max / SHARES).max(SHARE_MIN), exempt, taken: Mutex::default() }
    }

    /// Takes one for a client at `peer`; `None` when there is none, or its client has its share.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Place<'_>> {
        let peer = peer.to_canonical();
        let is_exempt = peer.is_loopback() || self.exempt.iter().any(|network| network.contains(&peer));
        let client = (!is_exempt).then(|| client_of(peer));
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

/// What counts as one client: an IPv4 address, or the 64 bits of an IPv6 address that one network gets.
fn client_of(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_client_gets_its_share_and_leaves_the_rest_to_others() {
        let places = Places::new(256, vec!["10.0.0.0/8".parse().unwrap()]);
        for (stranger, same) in [("192.0.2.1", "::ffff:192.0.2.1"), ("2001:db8::1", "2001:db8::ffff:1")] {
            let held: Vec<_> = (0..32).map_while(|_| places.take(address(stranger))).collect();
            assert_eq!(held.len(), 32);
            assert!(places.take(address(same)).is_none(), "{same} is the same client");
            assert!(places.take(address("192.0.2.2")).is_some());
            assert!(places.take(address("2001:db8:0:1::1")).is_some());
            drop(held);
            assert!(places.take(address(stranger)).is_some(), "they came back");
        }
        for proxy in ["127.0.0.1", "::1", "10.1.2.3"] {
            let held: Vec<_> = (0..300).map_while(|_| places.take(address(proxy))).collect();
            assert_eq!(held.len(), 256);
            assert!(places.take(address("192.0.2.1")).is_none(), "there are no more");
        }
        assert!(places.taken.lock().by_client.is_empty());
    }

    #[test]
    fn a_share_is_never_tiny() {
        let places = Places::new(64, Vec::new());
        let held: Vec<_> = (0..64).map_while(|_| places.take(address("192.0.2.1"))).collect();
        assert_eq!(held.len(), SHARE_MIN);
    }
}
