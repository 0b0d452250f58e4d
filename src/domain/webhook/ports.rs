//! Ports to which webhooks may go.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One port or a range of them, such as `443` or `8000-9000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A text that is no range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a port from 1 to 65535, such as \"443\", or a range of them, such as \"8000-9000\"")]
pub struct NotPorts;

impl PortRange {
    /// Whether `port` is in it.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl FromStr for PortRange {
    type Err = NotPorts;

    fn from_str(text: &str) -> Result<Self, NotPorts> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && text.as_bytes()[0] != b'+');
        let (first, last) = port(first).zip(port(last)).ok_or(NotPorts)?;
        if first <= last { Ok(Self { first, last }) } else { Err(NotPorts) }
    }
}

impl TryFrom<String> for PortRange {
    type Error = NotPorts;

    fn try_from(text: String) -> Result<Self, NotPorts> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(ports: PortRange) -> Self {
        ports.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(formatter, "{}", self.first),
            false => write!(formatter, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_or_a_range_is_read_and_written_alike() {
        for text in ["443", "8000-9000", "1-65535"] {
            assert_eq!(text.parse::<PortRange>().map(|ports| ports.to_string()), Ok(String::from(text)));
        }
        let ports: PortRange = "8000-9000".parse().unwrap();
        assert_eq!([7_999, 8_000, 9_000, 9_001].map(|port| ports.contains(port)), [false, true, true, false]);
        for text in ["", "-", "0", "65536", "9000-8000", "80-", "-80", "+80", "80,443", "80-90-100", " 80"] {
            assert_eq!(text.parse::<PortRange>(), Err(NotPorts), "{text:?}");
        }
    }
}
