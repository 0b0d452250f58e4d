//! Limits by client address, before it is known who asks: a request costs a look into fixed memory, not a body or a
//! signature. Nothing is kept of a client but a keyed hash of its address.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::limit::{AddressLimits, AddressTable, ClientFound, ClientNetwork, ForwardingHeader, find_client};
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, IntCounter};
use crate::random::Random;

/// Tables behind locks of their own, so that requests on several cores seldom wait for each other.
const SHARDS: usize = 16;

/// Where a request arrived. A client counts on each listener by itself, so that a merchant's wrong keys don't keep the
/// operator out who sits behind the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The merchants'.
    Merchants,
    /// The operator's.
    Operator,
}

/// A client whose requests are limited by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    network: ClientNetwork,
    key: u64,
}

/// A client has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRefusal {
    /// Why.
    pub reason: AddressReason,
    wait: Duration,
}

/// Why a client has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressReason {
    /// It sends more than this many requests per second.
    Rate(u32),
    /// Its authentications failed too often.
    FailedAuthentication,
}

impl AddressRefusal {
    /// A refusal for `wait` from now on.
    pub(crate) const fn new(reason: AddressReason, wait: Duration) -> Self {
        Self { reason, wait }
    }

    /// Whole seconds to wait, at least 1; rounded up, so that who waits them is not refused for this again.
    pub fn retry_after_s(&self) -> u64 {
        let whole_s = self.wait.as_secs();
        (whole_s + u64::from(self.wait.subsec_nanos() > 0)).max(1)
    }
}

/// All clients by their addresses.
pub struct Addresses {
    /// None when clients are not limited.
    shards: Vec<Mutex<AddressTable>>,
    /// Keeps addresses from being chosen for their places.
    seed: u64,
    per_second: u32,
    exempt: Vec<IpNet>,
    trusted_proxies: Vec<IpNet>,
    header: ForwardingHeader,
    clock: Clock,
    refused_for_rate: IntCounter,
    refused_for_failures: IntCounter,
    failures: IntCounter,
    /// Whether it was said that a trusted proxy names nobody.
    said_nobody: AtomicBool,
    /// Whether it was said that a proxy in an exempt network is not trusted.
    said_untrusted: AtomicBool,
}

impl Addresses {
    pub(crate) fn new(core: &Core) -> Result<Self, GatewayError> {
        Self::from_parts(&core.config, &core.clock, &core.random, &core.figures)
    }

    fn from_parts(all: &Config, clock: &Clock, random: &Random, figures: &Figures) -> Result<Self, GatewayError> {
        let config = &all.limits.client_address;
        let block = Duration::from_secs(config.block_s);
        let failures_max = config.failed_authentications_per_minute;
        let limits = AddressLimits::new(config.per_second, config.burst, failures_max, block);
        let shards = if config.enabled { SHARDS } else { 0 };
        let in_shard = config.addresses_max.div_ceil(SHARDS);
        let refused = figures.counters(
            "address_refused_total",
            "Requests refused for what their client's address did before, and why",
            &["reason"],
        )?;
        Ok(Self {
            shards: (0..shards).map(|_| Mutex::new(AddressTable::new(limits, in_shard))).collect(),
            seed: random.draw_u64(),
            per_second: config.per_second,
            exempt: config.exempt_networks.clone(),
            trusted_proxies: all.server.trusted_proxies.clone(),
            header: all.server.client_address_header,
            clock: clock.clone(),
            refused_for_rate: refused.with_label_values(&["rate"]),
            refused_for_failures: refused.with_label_values(&["failed_authentication"]),
            failures: figures.counter(
                "address_failed_authentications_total",
                "Failed authentications of clients that are limited by their addresses",
            )?,
            said_nobody: AtomicBool::new(false),
            said_untrusted: AtomicBool::new(false),
        })
    }

    /// The header in which trusted proxies name clients.
    pub fn header(&self) -> ForwardingHeader {
        self.header
    }

    /// Who sends a request, if its address is limited. `lines` are the values of the header that [`Addresses::header`]
    /// names, and `is_forwarded` says whether there is any header of a proxy.
    pub fn client<'a>(
        &self,
        listener: Listener,
        peer: SocketAddr,
        lines: impl DoubleEndedIterator<Item = &'a [u8]>,
        is_forwarded: impl FnOnce() -> bool,
    ) -> Option<Client> {
        if self.shards.is_empty() {
            return None;
        }
        let address = match find_client(peer.ip(), self.header, lines, |address| self.is_trusted(address)) {
            ClientFound::Peer(address) if self.is_exempt(address) => {
                if !is_forwarded() {
                    return None;
                }
                // Whoever is behind it is not who was meant to be exempt.
                self.say_untrusted();
                address
            }
            ClientFound::Named(address) if self.is_exempt(address) && !address.is_loopback() => return None,
            ClientFound::Peer(address) | ClientFound::Named(address) => address,
            // Counted as one, its clients could keep each other out.
            ClientFound::Nobody => {
                self.say_nobody();
                return None;
            }
        };
        let network = ClientNetwork::of(address);
        let mut text = [0; 10];
        text[0] = listener as u8;
        text[1..].copy_from_slice(&network.bytes());
        Some(Client { network, key: xxh3_64_with_seed(&text, self.seed) })
    }

    /// Counts a request.
    ///
    /// # Errors
    /// When it is one too many; that counts nothing.
    pub fn admit(&self, client: &Client) -> Result<(), AddressRefusal> {
        let Some(shard) = self.shard(client) else { return Ok(()) };
        let now = self.clock.monotonic();
        let admitted = shard.lock().admit(client.key, now);
        admitted.map_err(|wait| {
            self.refused_for_rate.inc();
            AddressRefusal::new(AddressReason::Rate(self.per_second), wait)
        })
    }

    /// Says no while the client's authentications have failed too often.
    ///
    /// # Errors
    /// As long as that is so.
    pub fn check_block(&self, client: &Client) -> Result<(), AddressRefusal> {
        let Some(shard) = self.shard(client) else { return Ok(()) };
        let now = self.clock.monotonic();
        let blocked = shard.lock().blocked_for(client.key, now);
        let Some(wait) = blocked else { return Ok(()) };
        self.refused_for_failures.inc();
        Err(AddressRefusal::new(AddressReason::FailedAuthentication, wait))
    }

    /// Counts an authentication of the client that failed.
    pub fn note_failure(&self, client: &Client) {
        let Some(shard) = self.shard(client) else { return };
        self.failures.inc();
        let now = self.clock.monotonic();
        let is_blocked_now = shard.lock().note_failure(client.key, now);
        if is_blocked_now {
            tracing::warn!(network = %client.network, "an address is refused for a while: its authentications failed too often");
        }
    }

    fn shard(&self, client: &Client) -> Option<&Mutex<AddressTable>> {
        // The lowest bits; the table itself goes by the highest.
        self.shards.get(usize::try_from(client.key % SHARDS as u64).unwrap_or(0))
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(&address))
    }

    fn say_nobody(&self) {
        if !self.said_nobody.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                header = self.header.as_str(),
                "a trusted proxy does not say where a request comes from; such requests are not limited by address \
                 (server.client_address_header names the header that is read)"
            );
        }
    }

    fn say_untrusted(&self) {
        if !self.said_untrusted.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a request came through a proxy in an exempt network that is not trusted; all clients of that proxy count \
                 as one address (name it in server.trusted_proxies)"
            );
        }
    }
}

#[cfg(test)]
mod tests;
