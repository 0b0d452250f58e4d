//! Which addresses a webhook may go to: public ones, and private ones only in networks that the operator names.
//! Everything that could reach into our own network, in any of the spellings that IPv6 has for an IPv4 address, is
//! refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What an address is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On the public internet.
    Public,
    /// Not public, but in a network that the operator allows.
    AllowedPrivate,
    /// Neither.
    Forbidden,
}

/// IPv4 networks that are not the public internet (IANA's special-purpose registry), as address and prefix length.
const NOT_PUBLIC_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
    ([255, 255, 255, 255], 32),
];

/// The only IPv6 network that is routed publicly, 2000::/3.
const GLOBAL_V6: ([u16; 8], u32) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Networks within 2000::/3 that are not the public internet. 6to4 (2002::/16) carries an IPv4 address of anybody's
/// choice and is refused whole.
const NOT_PUBLIC_V6: [([u16; 8], u32); 4] = [
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    ([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

/// Parts of 2001::/23 that are public all the same.
const PUBLIC_IN_2001_V6: [([u16; 8], u32); 5] = [
    ([0x2001, 1, 0, 0, 0, 0, 0, 1], 128),
    ([0x2001, 1, 0, 0, 0, 0, 0, 2], 128),
    ([0x2001, 3, 0, 0, 0, 0, 0, 0], 32),
    ([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48),
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28),
];

/// NAT64's well-known prefix; what follows it is the IPv4 address that counts.
const NAT64_V6: ([u16; 8], u32) = ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// What `address` is to us, given the private networks that the operator allows.
pub fn reach_of(address: IpAddr, allowed_private_networks: &[IpNet]) -> Reach {
    if is_public(address) {
        return Reach::Public;
    }
    if allowed_private_networks.iter().any(|network| network.contains(&address)) {
        return Reach::AllowedPrivate;
    }
    Reach::Forbidden
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4.iter().any(|(network, prefix_length)| {
        let mask = u32::MAX << (32 - prefix_length);
        u32::from(address) & mask == u32::from(Ipv4Addr::from(*network))
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if within(address, NAT64_V6) {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    // Everything else outside 2000::/3 goes here, with IPv4-mapped, IPv4-compatible, SIIT and ISATAP addresses.
    if !within(address, GLOBAL_V6) {
        return false;
    }
    PUBLIC_IN_2001_V6.iter().any(|network| within(address, *network))
        || !NOT_PUBLIC_V6.iter().any(|network| within(address, *network))
}

fn within(address: Ipv6Addr, (network, prefix_length): ([u16; 8], u32)) -> bool {
    let mask = u128::MAX << (128 - prefix_length);
    u128::from(address) & mask == u128::from(Ipv6Addr::from(network))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(address: &str) -> Reach {
        reach_of(address.parse().unwrap(), &["127.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()])
    }

    #[test]
    fn addresses_that_are_not_public_are_forbidden() {
        let forbidden = [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "192.168.255.255",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:0:7f00:1",
            "::5efe:7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "3fff:fff::1",
            "5f00::1",
            "fc00::1",
            "fd01::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ];
        for address in forbidden {
            let allowed = address == "fd00:ec2::254";
            let expected = if allowed { Reach::AllowedPrivate } else { Reach::Forbidden };
            assert_eq!(reach(address), expected, "{address}");
        }
    }

    #[test]
    fn public_addresses_are_public_up_to_the_edges_of_what_is_not() {
        let public = [
            "1.0.0.0",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2001:1::1",
            "2001:1::2",
            "2001:3::1",
            "2001:4:112::1",
            "2001:20::1",
            "2003::1",
            "3ffe::1",
            "2000::1",
            "64:ff9b::808:808",
        ];
        for address in public {
            assert_eq!(reach(address), Reach::Public, "{address}");
        }
    }

    #[test]
    fn only_named_networks_are_allowed() {
        assert_eq!(reach("127.0.0.1"), Reach::AllowedPrivate);
        assert_eq!(reach("127.255.0.9"), Reach::AllowedPrivate);
        assert_eq!(reach_of("127.0.0.1".parse().unwrap(), &[]), Reach::Forbidden);
    }
}
