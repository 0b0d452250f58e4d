//! Who is limited, and that it is nobody else.

use super::*;
use crate::config::Config;
use crate::domain::time::Timestamp;
use crate::gateway::metrics::Figures;
use crate::random::Random;

fn addresses_with(change: impl FnOnce(&mut Config)) -> (Addresses, Clock, Figures) {
    let mut config = Config::embedded().unwrap();
    config.server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    change(&mut config);
    let (clock, figures) = (Clock::manual(Timestamp::from_unix_s(1_700_000_000)), Figures::default());
    let addresses = Addresses::from_parts(&config, &clock, &Random::seeded(1), &figures).unwrap();
    (addresses, clock, figures)
}

/// The client of a request from `peer` with this line of the forwarding header, if any.
fn client(addresses: &Addresses, peer: &str, line: Option<&str>) -> Option<Client> {
    let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
    addresses.client(Listener::Merchants, peer, line.map(str::as_bytes).into_iter(), || line.is_some())
}

#[test]
fn exempt_networks_are_those_of_clients_not_of_proxies() {
    let (addresses, _, _) = addresses_with(|config| {
        config.limits.client_address.exempt_networks.push("203.0.113.0/24".parse().unwrap());
    });
    let is_limited = |peer, line| client(&addresses, peer, line).is_some();
    for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "203.0.113.9"] {
        assert!(!is_limited(peer, None), "{peer}");
        assert!(is_limited(peer, Some("192.0.2.1")), "{peer} may be a proxy that nobody told us of");
    }
    assert!(!is_limited("10.0.0.1", Some("203.0.113.9")), "named by a proxy of ours");
    assert!(is_limited("10.0.0.1", Some("203.0.113.9, 192.0.2.1")));
    assert!(is_limited("10.0.0.1", Some("127.0.0.1")), "the proxy's loopback is not ours");
    assert!(addresses.said_untrusted.load(Ordering::Relaxed) && !addresses.said_nobody.load(Ordering::Relaxed));
    assert!(!is_limited("10.0.0.1", None), "nobody is named");
    assert!(addresses.said_nobody.load(Ordering::Relaxed));
    assert!(!is_limited("10.0.0.1", Some("unknown")));
    assert!(is_limited("192.0.2.1", None) && is_limited("192.0.2.1", Some("203.0.113.9")));
}

#[test]
fn one_client_is_one_whatever_way_it_takes() {
    let (addresses, _, _) = addresses_with(|_| {});
    let straight = client(&addresses, "192.0.2.1", None).unwrap();
    assert_eq!(client(&addresses, "10.0.0.1", Some("192.0.2.1")), Some(straight));
    assert_eq!(client(&addresses, "192.0.2.1", Some("198.51.100.1")), Some(straight));
    assert_eq!(client(&addresses, "10.0.0.1", Some("198.51.100.1, 192.0.2.1:80")), Some(straight));
    assert_ne!(client(&addresses, "192.0.2.2", None), Some(straight));
    let peer = "192.0.2.1:1".parse().unwrap();
    let operator = addresses.client(Listener::Operator, peer, std::iter::empty(), || false);
    assert_ne!(operator, Some(straight), "a listener has its own");
}

#[test]
fn the_default_is_two_hundred_a_second_and_four_hundred_at_once() {
    let (addresses, clock, figures) = addresses_with(|_| {});
    let known = client(&addresses, "192.0.2.1", None).unwrap();
    assert_eq!((0..500).filter(|_| addresses.admit(&known).is_ok()).count(), 400);
    let refusal = addresses.admit(&known).unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_after_s()), (AddressReason::Rate(200), 3), "two seconds and a bucket");
    let other = client(&addresses, "192.0.2.2", None).unwrap();
    assert_eq!(addresses.admit(&other), Ok(()));
    clock.advance(Duration::from_secs(3));
    assert_eq!(addresses.admit(&known), Ok(()));
    let text = figures.text();
    assert!(text.contains("tollgate_address_refused_total{reason=\"rate\"} 101"), "{text}");
    assert!(text.contains("tollgate_address_refused_total{reason=\"failed_authentication\"} 0"), "{text}");
}

#[test]
fn ten_failures_in_a_minute_are_followed_by_a_minute_of_refusals() {
    let (addresses, clock, figures) = addresses_with(|_| {});
    let known = client(&addresses, "2001:db8::1", None).unwrap();
    for _ in 0..10 {
        assert_eq!(addresses.check_block(&known), Ok(()));
        addresses.note_failure(&known);
    }
    let same_network = client(&addresses, "2001:db8::2", None).unwrap();
    let refusal = addresses.check_block(&same_network).unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_after_s()), (AddressReason::FailedAuthentication, 60));
    let other = client(&addresses, "2001:db8:0:1::1", None).unwrap();
    assert_eq!(addresses.check_block(&other), Ok(()));
    clock.advance(Duration::from_millis(59_001));
    assert_eq!(addresses.check_block(&known).unwrap_err().retry_after_s(), 1);
    clock.advance(Duration::from_millis(999));
    assert_eq!(addresses.check_block(&known), Ok(()));
    let text = figures.text();
    assert!(text.contains("tollgate_address_failed_authentications_total 10"), "{text}");
    assert!(text.contains("tollgate_address_refused_total{reason=\"failed_authentication\"} 2"), "{text}");
}

#[test]
fn switched_off_nobody_is_limited_and_no_memory_is_taken() {
    let (addresses, _, _) = addresses_with(|config| config.limits.client_address.enabled = false);
    assert!(addresses.shards.is_empty());
    assert_eq!(client(&addresses, "192.0.2.1", None), None);
}
