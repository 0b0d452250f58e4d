//! Which address a request comes from: the peer's, or what proxies of ours say about it.
//!
//! A forwarding header is a list that every proxy on the way adds to at the right. Only what our own proxies have added
//! can be believed, so the list is read from the right: our proxies are passed over, and the first address that is not
//! one of them is the client. Everything to the left of it was written by the client or by strangers and is not looked
//! at. Only one kind of header is read: a proxy that writes the one hands the other through from the client.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The header in which trusted proxies say where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`: addresses.
    XForwardedFor,
    /// `Forwarded` (RFC 7239): elements with `for=`.
    Forwarded,
}

impl ForwardingHeader {
    /// The header's name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// Where a request comes from. IPv4 addresses written as IPv6 are IPv4 addresses here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFound {
    /// From the peer, which is no proxy of ours.
    Peer(IpAddr),
    /// From an address that a proxy of ours names.
    Named(IpAddr),
    /// Through a proxy of ours that names nobody: it sent no header, or one that says `unknown`, holds a name of the
    /// proxy's own instead of an address, or makes no sense.
    Nobody,
}

/// Finds out where a request comes from. `lines` are the values of the header in the order in which they were sent.
pub fn find_client<'a>(
    peer: IpAddr,
    header: ForwardingHeader,
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> ClientFound {
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return ClientFound::Peer(peer);
    }
    for line in lines.rev() {
        let mut rest = Some(line);
        while let Some(list) = rest {
            let (before, entry) = cut_last(list, b',', header);
            match read_entry(entry, header) {
                Some(address) if is_trusted(address) => rest = before,
                Some(address) => return ClientFound::Named(address),
                // Whatever stands further left is not said by a proxy of ours, as far as we can tell.
                None => return ClientFound::Nobody,
            }
        }
    }
    ClientFound::Nobody
}

/// Cuts a list at its last separator. Looked for from the right, so that a quotation mark that a client leaves open can't
/// swallow what a proxy has added after it.
fn cut_last(list: &[u8], separator: u8, header: ForwardingHeader) -> (Option<&[u8]>, &[u8]) {
    let has_quotes = header == ForwardingHeader::Forwarded;
    let mut is_quoted = false;
    for (place, byte) in list.iter().enumerate().rev() {
        if has_quotes && *byte == b'"' && !is_escaped(&list[..place]) {
            is_quoted = !is_quoted;
        } else if *byte == separator && !is_quoted {
            return (Some(&list[..place]), &list[place + 1..]);
        }
    }
    (None, list)
}

/// Whether what follows `before` is escaped: it ends with an odd number of backslashes.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

fn read_entry(entry: &[u8], header: ForwardingHeader) -> Option<IpAddr> {
    match header {
        ForwardingHeader::XForwardedFor => read_node(std::str::from_utf8(entry).ok()?.trim()),
        ForwardingHeader::Forwarded => read_node(node_of(entry)?),
    }
}

/// What stands behind `for=` in an element; `None` without one, or with two.
fn node_of(element: &[u8]) -> Option<&str> {
    let mut node = None;
    let mut rest = Some(element);
    while let Some(pairs) = rest {
        let (before, pair) = cut_last(pairs, b';', ForwardingHeader::Forwarded);
        rest = before;
        let pair = std::str::from_utf8(pair).ok()?.trim();
        let Some((name, value)) = pair.split_once('=') else { continue };
        if name.trim_end().eq_ignore_ascii_case("for") && node.replace(value.trim_start()).is_some() {
            return None;
        }
    }
    let node = node?;
    match node.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(node),
    }
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn read_node(node: &str) -> Option<IpAddr> {
    let address = if let Some(bracketed) = node.strip_prefix('[') {
        let (inside, after) = bracketed.split_once(']')?;
        let is_ended = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        IpAddr::V6(inside.parse().ok().filter(|_| is_ended)?)
    } else if let Ok(address) = node.parse() {
        address
    } else {
        let (address, port) = node.split_once(':')?;
        IpAddr::V4(address.parse().ok().filter(|_| is_port(port))?)
    };
    Some(address.to_canonical()).filter(|address| !address.is_unspecified())
}

/// A port, or what RFC 7239 allows in its place.
fn is_port(text: &str) -> bool {
    let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number || text.strip_prefix('_').is_some_and(|name| !name.is_empty())
}

/// What counts as one client: an IPv4 address, or the 64 bits of an IPv6 address that one network gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientNetwork {
    /// One address.
    V4(Ipv4Addr),
    /// The upper 64 bits.
    V6(u64),
}

/// Translators put IPv4 addresses behind this prefix (RFC 6052), 64:ff9b::/96, so that one /64 would be all of them.
const TRANSLATED: u128 = 0x0064_ff9b << 96;

impl ClientNetwork {
    /// The client at this address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                let low = u32::try_from(bits & u128::from(u32::MAX)).unwrap_or_default();
                if bits - u128::from(low) == TRANSLATED {
                    return Self::V4(Ipv4Addr::from_bits(low));
                }
                Self::V6(u64::try_from(bits >> 64).unwrap_or_default())
            }
        }
    }

    /// The same as bytes that no other client has.
    pub fn bytes(self) -> [u8; 9] {
        let (kind, bits) = match self {
            Self::V4(address) => (4, u64::from(address.to_bits())),
            Self::V6(bits) => (6, bits),
        };
        let mut bytes = [0; 9];
        bytes[0] = kind;
        bytes[1..].copy_from_slice(&bits.to_be_bytes());
        bytes
    }
}

/// Shortened, for logs: the network of 256 addresses, or the first 48 bits.
impl fmt::Display for ClientNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => write!(formatter, "{}/24", Ipv4Addr::from_bits(address.to_bits() & !0xff)),
            Self::V6(bits) => {
                write!(formatter, "{}/48", Ipv6Addr::from_bits(u128::from(bits & !0xffff) << 64))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_trusted(address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
            || address == "fd00::1".parse::<IpAddr>().unwrap()
    }

    fn find(peer: &str, header: ForwardingHeader, lines: &[&str]) -> ClientFound {
        find_client(address(peer), header, lines.iter().map(|line| line.as_bytes()), is_trusted)
    }

    fn listed(lines: &[&str]) -> ClientFound {
        find(PROXY, ForwardingHeader::XForwardedFor, lines)
    }

    fn forwarded(lines: &[&str]) -> ClientFound {
        find(PROXY, ForwardingHeader::Forwarded, lines)
    }

    fn named(text: &str) -> ClientFound {
        ClientFound::Named(address(text))
    }

    #[test]
    fn of_strangers_nothing_is_believed() {
        for header in [ForwardingHeader::XForwardedFor, ForwardingHeader::Forwarded] {
            for lines in [&["203.0.113.9"][..], &["for=203.0.113.9"], &["10.0.0.1"], &[]] {
                let found = find("192.0.2.1", header, lines);
                assert_eq!(found, ClientFound::Peer(address("192.0.2.1")), "{lines:?}");
            }
        }
        let mapped = find("::ffff:192.0.2.1", ForwardingHeader::XForwardedFor, &["203.0.113.9"]);
        assert_eq!(mapped, ClientFound::Peer(address("192.0.2.1")));
        let mapped = find("::ffff:10.0.0.1", ForwardingHeader::XForwardedFor, &["203.0.113.9"]);
        assert_eq!(mapped, named("203.0.113.9"), "the proxy is the same in IPv6");
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_of_ours_is_the_client() {
        for lines in [
            &["203.0.113.9"][..],
            &["203.0.113.9, 10.1.1.1"],
            &["203.0.113.9,10.1.1.1 ,\t10.2.2.2"],
            &["203.0.113.9", "10.1.1.1", "fd00::1"],
            // What the client wrote itself.
            &["198.51.100.1, 203.0.113.9"],
            &["198.51.100.1", "203.0.113.9"],
            &["10.9.9.9, 203.0.113.9, 10.1.1.1"],
            &["unknown, 203.0.113.9"],
            &["\", 203.0.113.9"],
            &[", , 203.0.113.9"],
        ] {
            assert_eq!(listed(lines), named("203.0.113.9"), "{lines:?}");
        }
    }

    #[test]
    fn an_address_may_have_a_port_and_brackets() {
        for (line, client) in [
            ("203.0.113.9:4711", "203.0.113.9"),
            ("2001:db8::9", "2001:db8::9"),
            ("[2001:db8::9]", "2001:db8::9"),
            ("[2001:db8::9]:4711", "2001:db8::9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("[::ffff:203.0.113.9]:1", "203.0.113.9"),
        ] {
            assert_eq!(listed(&[line]), named(client), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_ends_the_walk() {
        for line in [
            "",
            " ",
            "unknown",
            "_hidden",
            "garbage",
            "203.0.113.9, ",
            "203.0.113.9, garbage",
            "203.0.113.9, unknown, 10.1.1.1",
            "203.0.113.9:",
            "203.0.113.9:x",
            "203.0.113.9:123456",
            "203.0.113.9:1:2",
            "[2001:db8::9",
            "[2001:db8::9]x",
            "[203.0.113.9]",
            "2001:db8::9]",
            "\"203.0.113.9\"",
            "203.0.113.256",
            "0203.0.113.9",
            "0.0.0.0",
            "::",
            "unix:",
            "203.0.113.9\u{e9}",
        ] {
            assert_eq!(listed(&[line]), ClientFound::Nobody, "{line}");
        }
        assert_eq!(listed(&["203.0.113.9", ""]), ClientFound::Nobody, "a line of a proxy that names nobody");
        assert_eq!(listed(&[]), ClientFound::Nobody);
        assert_eq!(listed(&["10.1.1.1, 10.2.2.2"]), ClientFound::Nobody, "only proxies of ours");
        let not_text = [&b"203.0.113.9, \xff"[..]];
        let header = ForwardingHeader::XForwardedFor;
        assert_eq!(find_client(address(PROXY), header, not_text.into_iter(), is_trusted), ClientFound::Nobody);
    }

    #[test]
    fn elements_of_rfc_7239_are_read() {
        for lines in [
            &["for=203.0.113.9"][..],
            &["For=203.0.113.9;proto=https;by=10.0.0.1"],
            &["proto=https ; FOR = 203.0.113.9"],
            &["for=\"203.0.113.9:4711\""],
            &["for=\"203.0.113.9:_port\""],
            &["for=198.51.100.1, for=203.0.113.9"],
            &["for=198.51.100.1", "for=203.0.113.9"],
            &["for=203.0.113.9;by=10.1.1.1, for=10.1.1.1"],
            &["for=203.0.113.9;host=\"a,b;for=198.51.100.1\""],
            &["for=203.0.113.9;host=\"a\\\",b;for=198.51.100.1\""],
            // A quotation mark that the client has left open.
            &["for=\"198.51.100.1, for=203.0.113.9"],
            &["host=\", for=203.0.113.9;proto=https"],
            &["host=\"\\, for=203.0.113.9"],
        ] {
            assert_eq!(forwarded(lines), named("203.0.113.9"), "{lines:?}");
        }
        assert_eq!(forwarded(&["for=\"[2001:db8::9]:4711\";proto=https"]), named("2001:db8::9"));
        assert_eq!(forwarded(&["for=\"[2001:db8::9]\", for=\"[fd00::1]\""]), named("2001:db8::9"));
    }

    #[test]
    fn elements_without_an_address_name_nobody() {
        for line in [
            "",
            "for=unknown",
            "for=_hidden",
            "for=\"_hidden:_port\"",
            "proto=https",
            "203.0.113.9",
            "for=203.0.113.9, for=unknown",
            "for=203.0.113.9, proto=https",
            "for=203.0.113.9;for=198.51.100.1",
            "for=\"203.0.113.9",
            "for=203.0.113.9\"",
            "for=",
            "for=\"\"",
            "for=\"203\\.0.113.9\"",
        ] {
            assert_eq!(forwarded(&[line]), ClientFound::Nobody, "{line}");
        }
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let of = |text: &str| ClientNetwork::of(address(text));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("192.0.2.1"), of("64:ff9b::192.0.2.1"), "a translator's addresses are many clients");
        assert_ne!(of("64:ff9b::192.0.2.1"), of("64:ff9b:1::192.0.2.1"));
        let v6 = Ipv6Addr::from_bits(u128::from(0xc000_0201_u32) << 64);
        assert_ne!(of("192.0.2.1").bytes(), ClientNetwork::of(IpAddr::V6(v6)).bytes());
    }

    #[test]
    fn logs_get_a_shortened_address() {
        assert_eq!(ClientNetwork::of(address("203.0.113.9")).to_string(), "203.0.113.0/24");
        assert_eq!(ClientNetwork::of(address("2001:db8:7:8::1")).to_string(), "2001:db8:7::/48");
    }
}
