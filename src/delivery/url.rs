//! Which URLs a webhook may go to. What can be said without asking a name server is said here, when an endpoint is made
//! and again before each request; the addresses behind a name are vetted when the connection is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

use crate::delivery::address::{Reach, reach_of};
use crate::domain::webhook::PortRange;

/// Longest URL of an endpoint, in bytes.
pub const URL_MAX_BYTES: usize = 2_048;

/// Longest host name, and longest part of one between dots, in bytes (RFC 1035).
const NAME_MAX_BYTES: usize = 253;
const LABEL_MAX_BYTES: usize = 63;

/// Top levels that no public name server knows (RFC 6761, RFC 6762, RFC 7686, RFC 8375, ICANN's `.internal`).
const PRIVATE_TOP_LEVELS: [&str; 8] =
    [".internal", ".local", ".lan", ".home.arpa", ".test", ".invalid", ".onion", ".localdomain"];

/// Where the operator allows webhooks to go.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Private networks to which they may go.
    pub allowed_private_networks: &'a [IpNet],
    /// Ports at public addresses.
    pub public_ports: &'a [PortRange],
}

/// Which addresses a request to a vetted URL may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Public ones, and private ones that the operator allows.
    PublicOrAllowed,
    /// Only private ones that the operator allows, because the URL is not fit for the public internet.
    AllowedOnly,
}

impl Scope {
    /// Whether an address is in it.
    pub fn holds(self, address: IpAddr, allowed_private_networks: &[IpNet]) -> bool {
        match reach_of(address, allowed_private_networks) {
            Reach::Public => self == Self::PublicOrAllowed,
            Reach::AllowedPrivate => true,
            Reach::Forbidden => false,
        }
    }
}

/// A URL that may be sent to, as far as can be said without resolving its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VettedUrl {
    /// The URL in its normal form.
    pub url: Url,
    /// Which addresses it may lead to.
    pub scope: Scope,
}

/// Vets `text`. The error says what is wrong with it, for the merchant.
///
/// # Errors
/// What is wrong, as one sentence without a full stop.
pub fn vet(text: &str, rules: Rules<'_>) -> Result<VettedUrl, String> {
    if text.len() > URL_MAX_BYTES {
        return Err(format!("it is longer than {URL_MAX_BYTES} bytes"));
    }
    // The URL standard drops tabs and line ends and reads a backslash as a slash; whoever needs that hides something.
    if text.chars().any(|character| character.is_whitespace() || character.is_control() || character == '\\') {
        return Err(String::from("it contains white space, control characters or a backslash"));
    }
    let url = Url::parse(text).map_err(|error| format!("it is not a URL: {error}"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(String::from("it must begin with https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(String::from("it must not carry a user name or password"));
    }
    if url.fragment().is_some() {
        return Err(String::from("it must not have a fragment"));
    }
    let scope = scope_of(&url, rules)?;
    Ok(VettedUrl { url, scope })
}

/// Loopback addresses that the operator allows; what `localhost` means.
pub fn allowed_loopback(allowed_private_networks: &[IpNet]) -> Vec<IpAddr> {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        .into_iter()
        .filter(|address| Scope::AllowedOnly.holds(*address, allowed_private_networks))
        .collect()
}

/// Whether a host name means this machine, whatever a name server says.
pub fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn scope_of(url: &Url, rules: Rules<'_>) -> Result<Scope, String> {
    match url.host() {
        None => Err(String::from("it has no host")),
        Some(Host::Ipv4(address)) => scope_of_address(url, IpAddr::V4(address), rules),
        Some(Host::Ipv6(address)) => scope_of_address(url, IpAddr::V6(address), rules),
        Some(Host::Domain(name)) => scope_of_name(url, name, rules),
    }
}

fn scope_of_address(url: &Url, address: IpAddr, rules: Rules<'_>) -> Result<Scope, String> {
    match reach_of(address, rules.allowed_private_networks) {
        Reach::Forbidden => Err(String::from("its address is not on the public internet")),
        Reach::AllowedPrivate => Ok(Scope::AllowedOnly),
        Reach::Public => fit_for_public(url, rules.public_ports).map(|()| Scope::PublicOrAllowed),
    }
}

fn scope_of_name(url: &Url, name: &str, rules: Rules<'_>) -> Result<Scope, String> {
    let Rules { allowed_private_networks, public_ports } = rules;
    if is_localhost(name) {
        let allowed = !allowed_loopback(allowed_private_networks).is_empty();
        return if allowed { Ok(Scope::AllowedOnly) } else { Err(String::from("its host is this machine")) };
    }
    if name.ends_with('.') {
        return Err(String::from("its host must not end with a dot"));
    }
    if !is_name(name) {
        return Err(String::from("its host is not a name that a name server could know"));
    }
    if is_private_name(name) {
        return if allowed_private_networks.is_empty() {
            Err(String::from("its host is not a name on the public internet"))
        } else {
            Ok(Scope::AllowedOnly)
        };
    }
    fit_for_public(url, public_ports).map(|()| Scope::PublicOrAllowed)
}

/// Whether a name server could know a host name, in lower case and in ASCII.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_MAX_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= NAME_MAX_BYTES && name.split('.').all(is_label)
}

/// Whether a host name can't be one of the public internet: without a dot, or below a top level that is set aside.
fn is_private_name(name: &str) -> bool {
    !name.contains('.') || PRIVATE_TOP_LEVELS.iter().any(|top_level| name.ends_with(top_level))
}

/// Only TLS goes over the public internet, and only to ports on which web servers are: other services must not be
/// sent requests.
fn fit_for_public(url: &Url, public_ports: &[PortRange]) -> Result<(), String> {
    if url.scheme() != "https" {
        return Err(String::from("it must begin with https://"));
    }
    if url.port_or_known_default().is_some_and(|port| public_ports.iter().any(|ports| ports.contains(port))) {
        return Ok(());
    }
    let ports: Vec<String> = public_ports.iter().map(PortRange::to_string).collect();
    Err(format!("its port must be one of {}", ports.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vetted(text: &str, allowed_private_networks: &[IpNet]) -> Result<VettedUrl, String> {
        let public_ports = ["443", "80", "8000-9000"].map(|ports| ports.parse().unwrap());
        vet(text, Rules { allowed_private_networks, public_ports: &public_ports })
    }

    fn loopback() -> Vec<IpNet> {
        vec!["127.0.0.0/8".parse().unwrap()]
    }

    #[test]
    fn public_https_urls_are_taken() {
        for text in [
            "https://example.com",
            "https://example.com/hook?a=b",
            "https://EXAMPLE.com:443/",
            "https://example.com:80/",
            "https://example.com:8443/",
            "https://8.8.8.8/",
            "https://[2606:4700::1111]/",
            "https://bücher.example/",
        ] {
            assert_eq!(vetted(text, &[]).map(|vetted| vetted.scope), Ok(Scope::PublicOrAllowed), "{text}");
        }
    }

    #[test]
    fn everything_that_could_reach_inside_is_refused() {
        for text in [
            "",
            "example.com",
            "ftp://example.com/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "http://example.com/",
            "https://user@example.com/",
            "https://user:password@example.com/",
            "https://:password@example.com/",
            "https://example.com/#fragment",
            "https://example.com:22/",
            "https://example.com:7999/",
            "https://example.com:9001/",
            "https://example.com:65535/",
            "https://example.com:0/",
            "https://localhost/",
            "https://LOCALHOST/",
            "https://localhost./",
            "https://a.localhost/",
            "https://a.localhost./",
            "https://example.com./",
            "https://redis/",
            "https://a..b/",
            "https://.example.com/",
            "https://*.example.com/",
            "https://shop!.example.com/",
            "https://shop.onion/",
            "https://shop.invalid/",
            "https://localhost.localdomain/",
            "https://metadata.google.internal/",
            "https://printer.local/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://017700000001/",
            "https://0x7f000001/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://127.0.0.1./",
            "https://0/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::1]/",
            "https://[::7f00:1]/",
            "https://[::ffff:0:7f00:1]/",
            "https://[::5efe:7f00:1]/",
            "https://[fe80::1]/",
            "https://10.0.0.1/",
            "https://192.168.1.1/",
            "https://\u{ff11}27.0.0.1/",
            "https://127\u{3002}0\u{3002}0\u{3002}1/",
            "https://exa\tmple.com/",
            "https://example.com\\@127.0.0.1/",
            " https://example.com/",
            "https://example.com/\n",
            "https://",
        ] {
            assert!(vetted(text, &[]).is_err(), "{text:?}");
        }
        assert!(vetted(&format!("https://example.com/{}", "a".repeat(URL_MAX_BYTES)), &[]).is_err());
        for (label, labels, is_taken) in [(63, 3, true), (64, 1, false), (49, 5, true), (50, 5, false)] {
            let name = vec!["a".repeat(label); labels].join(".");
            let host = if labels == 5 { name } else { format!("{name}.com") };
            assert_eq!(vetted(&format!("https://{host}/"), &[]).is_ok(), is_taken, "{host}");
        }
    }

    #[test]
    fn an_allowed_network_opens_itself_for_plain_http_and_any_port_and_nothing_else() {
        for text in [
            "http://127.0.0.1:5000/hook",
            "https://127.0.0.1:22/",
            "http://localhost:1234/",
            "http://2130706433:1234/",
            "http://receiver:8080/",
            "http://hooks.internal:81/",
        ] {
            assert_eq!(vetted(text, &loopback()).map(|vetted| vetted.scope), Ok(Scope::AllowedOnly), "{text}");
        }
        for text in [
            "http://10.0.0.1/",
            "http://8.8.8.8/",
            "https://8.8.8.8:22/",
            "http://[::1]/",
            "http://user@127.0.0.1/",
            "http://example.com/",
            "https://example.com:22/",
        ] {
            assert!(vetted(text, &loopback()).is_err(), "{text}");
        }
    }

    /// What browsers and C libraries read as this address.
    fn spellings(address: Ipv4Addr) -> Vec<String> {
        let [a, b, c, d] = address.octets();
        let (number, last_three) = (u32::from(address), u32::from(address) & 0xff_ffff);
        let last_two = u32::from(address) & 0xffff;
        let (high, low) = (number >> 16, number & 0xffff);
        let mut spellings = vec![
            format!("{a}.{b}.{c}.{d}"),
            format!("{a}.{b}.{c}.{d}."),
            format!("{number}"),
            format!("0x{number:x}"),
            format!("0X{number:08X}"),
            format!("0{number:o}"),
            format!("{a}.{last_three}"),
            format!("{a}.{b}.{last_two}"),
            format!("0x{a:x}.0{b:o}.{last_two}"),
            format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
            format!("{a}%2e{b}%2E{c}.{d}"),
            format!("{a}\u{3002}{b}\u{ff0e}{c}\u{ff61}{d}"),
        ];
        let wide = |digit: char| char::from_u32(u32::from(digit) - u32::from('0') + 0xff10).unwrap_or(digit);
        let digits = format!("{a}.{b}.{c}.{d}");
        spellings.push(digits.chars().map(|digit| if digit.is_ascii_digit() { wide(digit) } else { digit }).collect());
        for prefix in ["::", "::ffff:", "::ffff:0:", "::5efe:", "64:ff9b::", "64:ff9b:1::", "2001:0:1:2:3:4:"] {
            spellings.push(format!("[{prefix}{high:x}:{low:x}]"));
            spellings.push(format!("[{prefix}{a}.{b}.{c}.{d}]"));
        }
        spellings.push(format!("[2002:{high:x}:{low:x}::1]"));
        spellings
    }

    #[test]
    fn no_spelling_of_a_private_address_is_taken() {
        for address in
            ["127.0.0.1", "169.254.169.254", "10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.9", "0.0.0.0"]
        {
            for host in spellings(address.parse().unwrap()) {
                let refused = vetted(&format!("https://{host}/"), &[]);
                assert!(refused.is_err(), "{host} is {refused:?}");
            }
        }
        // That the spellings are read at all is seen where the address is public.
        let public: Ipv4Addr = "8.8.4.4".parse().unwrap();
        let taken = |host: &String| vetted(&format!("https://{host}/"), &[]).is_ok();
        assert_eq!(spellings(public).iter().filter(|host| taken(host)).count(), 16);
    }

    #[test]
    fn the_operator_says_which_ports_are_open_at_public_addresses() {
        let rules = Rules { allowed_private_networks: &[], public_ports: &["10443".parse().unwrap()] };
        assert!(vet("https://example.com:10443/", rules).is_ok());
        let refused = vet("https://example.com/", rules).unwrap_err();
        assert_eq!(refused, "its port must be one of 10443");
        assert!(vet("http://example.com:10443/", rules).is_err());
    }

    #[test]
    fn a_scope_holds_only_its_addresses() {
        let public: IpAddr = "8.8.8.8".parse().unwrap();
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let private: IpAddr = "10.0.0.1".parse().unwrap();
        for (scope, address, expected) in [
            (Scope::PublicOrAllowed, public, true),
            (Scope::PublicOrAllowed, local, true),
            (Scope::PublicOrAllowed, private, false),
            (Scope::AllowedOnly, public, false),
            (Scope::AllowedOnly, local, true),
            (Scope::AllowedOnly, private, false),
        ] {
            assert_eq!(scope.holds(address, &loopback()), expected, "{scope:?} {address}");
        }
    }
}
