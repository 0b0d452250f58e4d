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
    addresses.sender(Listener::Merchants, peer, line.map(str::as_bytes).into_iter(), || line.is_some()).client
}

#[test]
fn exempt_networks_are_those_of_clients_not_of_proxies() {
    let (addresses, _, figures) = addresses_with(|config| {
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
    let text = figures.text();
    assert!(text.contains("tollgate_address_unnamed_total 2"), "{text}");
    assert!(is_limited("192.0.2.1", None) && is_limited("192.0.2.1", Some("203.0.113.9")));
}

#[test]
fn one_client_is_one_whatever_way_it_takes() {
    let (addresses, _, _) = addresses_with(|_| {});
    let straight = client(&addresses, "192.0.2.1", None).unwrap();
    let straight = Some(straight);
    assert_eq!(client(&addresses, "10.0.0.1", Some("192.0.2.1")), straight);
    assert_eq!(client(&addresses, "192.0.2.1", Some("198.51.100.1")), straight);
    assert_eq!(client(&addresses, "10.0.0.1", Some("198.51.100.1, 192.0.2.1:80")), straight);
    assert_ne!(client(&addresses, "192.0.2.2", None), straight);
    let peer = "192.0.2.1:1".parse().unwrap();
    let operator = addresses.sender(Listener::Operator, peer, std::iter::empty(), || false).client;
    assert!(operator.is_some());
    assert_ne!(operator, straight, "a listener has its own");
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
    assert!(addresses.shards.get().is_none());
    assert_eq!(client(&addresses, "192.0.2.1", None), None);
}

fn rules_with(change: impl FnOnce(&mut ClientAddressConfig)) -> ClientAddressConfig {
    let mut config = Config::embedded().unwrap().limits.client_address;
    change(&mut config);
    config
}

#[test]
fn rules_change_while_clients_are_counted_and_nothing_is_forgotten() {
    let (addresses, clock, _) = addresses_with(|_| {});
    let known = || client(&addresses, "192.0.2.1", None).unwrap();
    assert_eq!((0..300).filter(|_| addresses.admit(&known()).is_ok()).count(), 300);
    for _ in 0..5 {
        addresses.note_failure(&known());
    }
    // 60 in a minute, and 300 are used: refused until that many are given back that there are less than 60.
    addresses.configure(&rules_with(|rules| {
        (rules.per_second, rules.burst) = (1, 60);
        (rules.failed_authentications_per_minute, rules.block_s) = (6, 10);
    }));
    let refusal = addresses.admit(&known()).unwrap_err();
    assert_eq!(refusal.reason, AddressReason::Rate(1));
    assert!((60..=65).contains(&refusal.retry_after_s()), "{refusal:?}");
    addresses.note_failure(&known());
    assert_eq!(addresses.check_block(&known()).unwrap_err().retry_after_s(), 10, "five of before and one");
    clock.advance(Duration::from_secs(refusal.retry_after_s()));
    assert_eq!(addresses.admit(&known()), Ok(()), "its word can be taken");
    assert_eq!(addresses.check_block(&known()), Ok(()));
    // Raised again there is room at once, but for what was used.
    addresses.configure(&rules_with(|_| {}));
    assert_eq!((0..500).filter(|_| addresses.admit(&known()).is_ok()).count(), 399);
    // A block ends when it was said, whatever the time of blocks is then.
    for _ in 0..10 {
        addresses.note_failure(&known());
    }
    addresses.configure(&rules_with(|rules| (rules.failed_authentications_per_minute, rules.block_s) = (250, 1)));
    assert_eq!(addresses.check_block(&known()).unwrap_err().retry_after_s(), 60);
}

#[test]
fn a_request_that_came_before_a_change_ends_under_the_rules_under_which_it_came() {
    let (addresses, _, _) = addresses_with(|_| {});
    let early = client(&addresses, "203.0.113.9", None).unwrap();
    // One change: the network is exempt, and whoever is not may send one at once.
    let strict = rules_with(|rules| {
        rules.exempt_networks.push("203.0.113.0/24".parse().unwrap());
        (rules.per_second, rules.burst, rules.failed_authentications_per_minute) = (1, 1, 1);
    });
    addresses.configure(&strict);
    assert_eq!(client(&addresses, "203.0.113.9", None), None);
    for _ in 0..5 {
        assert_eq!(addresses.admit(&early), Ok(()), "neither exempt nor limited to one");
        addresses.note_failure(&early);
        assert_eq!(addresses.check_block(&early), Ok(()));
    }
    let late = client(&addresses, "192.0.2.1", None).unwrap();
    assert_eq!(addresses.admit(&late), Ok(()));
    let refusal = addresses.admit(&late).unwrap_err();
    assert_eq!(refusal.reason, AddressReason::Rate(1));
    // Under way together in one table, they don't make each other's windows shorter.
    for _ in 0..20 {
        assert_eq!(addresses.admit(&early), Ok(()));
        assert!(addresses.admit(&late).is_err());
    }
}

#[test]
fn limits_are_switched_on_and_off_and_on_without_a_restart() {
    let (addresses, _, _) = addresses_with(|config| config.limits.client_address.enabled = false);
    addresses.configure(&rules_with(|_| {}));
    let known = client(&addresses, "192.0.2.1", None).unwrap();
    assert_eq!((0..500).filter(|_| addresses.admit(&known).is_ok()).count(), 400);
    addresses.configure(&rules_with(|rules| rules.enabled = false));
    assert_eq!(client(&addresses, "192.0.2.1", None), None);
    addresses.configure(&rules_with(|_| {}));
    let known = client(&addresses, "192.0.2.1", None).unwrap();
    assert!(addresses.admit(&known).is_err(), "it is remembered");
}

#[test]
fn who_shares_with_whom_is_known_though_nobody_is_limited() {
    let (addresses, _, _) = addresses_with(|config| config.limits.client_address.enabled = false);
    let network = |peer: &str, line: Option<&str>| {
        let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
        addresses.sender(Listener::Merchants, peer, line.map(str::as_bytes).into_iter(), || line.is_some()).network
    };
    let of = |address: &str| Some(ClientNetwork::of(address.parse().unwrap()));
    assert_eq!(network("192.0.2.1", None), of("192.0.2.1"));
    assert_eq!(network("10.0.0.1", Some("192.0.2.1")), of("192.0.2.1"));
    assert_eq!(network("10.0.0.1", Some("unknown")), None);
    assert_eq!(network("127.0.0.1", None), None);
    assert_eq!(network("127.0.0.1", Some("192.0.2.1")), of("127.0.0.1"), "a proxy that nobody told us of");
}
