//! Limits by client address, before it is known who asks: a request costs a look into fixed memory, not a body or a
//! signature. Nothing is kept of a client but a keyed hash of its address.
//!
//! The rules may change while requests are under way. Each is found out about, counted and refused under those that were
//! in force when it came; the next one sees the new ones, all of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use parking_lot::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::clock::Clock;
use crate::config::{ClientAddressConfig, Config};
use crate::domain::limit::{AddressLimits, AddressTable, ClientFound, ClientNetwork, ForwardingHeader, find_client};
use crate::domain::time::Monotonic;
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
#[derive(Clone, Debug)]
pub struct Client {
    network: ClientNetwork,
    key: u64,
    /// Those under which it was found.
    rules: Arc<Rules>,
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        (self.network, self.key) == (other.network, other.key)
    }
}

impl Eq for Client {}

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Who shares with whom what there is not enough of; `None` when it is one of many behind the same address, or exempt.
    pub network: Option<ClientNetwork>,
    /// The same, if its requests are limited.
    pub client: Option<Client>,
}

/// What can change while the gateway runs.
#[derive(Debug)]
struct Rules {
    enabled: bool,
    limits: AddressLimits,
    per_second: u32,
    exempt: Vec<IpNet>,
}

impl Rules {
    fn of(config: &ClientAddressConfig) -> Self {
        let block = Duration::from_secs(config.block_s);
        let failures_max = config.failed_authentications_per_minute;
        Self {
            enabled: config.enabled,
            limits: AddressLimits::new(config.per_second, config.burst, failures_max, block),
            per_second: config.per_second,
            exempt: config.exempt_networks.clone(),
        }
    }

    fn exempts(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(&address))
    }
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
    /// Made when clients are limited for the first time, of a size that never changes.
    shards: OnceLock<Vec<Mutex<AddressTable>>>,
    addresses_max: usize,
    rules: ArcSwap<Rules>,
    /// Keeps addresses from being chosen for their places.
    seed: u64,
    trusted_proxies: Vec<IpNet>,
    header: ForwardingHeader,
    clock: Clock,
    refused_for_rate: IntCounter,
    refused_for_failures: IntCounter,
    failures: IntCounter,
    unnamed: IntCounter,
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
        let refused = figures.counters(
            "address_refused_total",
            "Requests refused for what their client's address did before, and why",
            &["reason"],
        )?;
        let addresses = Self {
            shards: OnceLock::new(),
            addresses_max: config.addresses_max,
            rules: ArcSwap::from_pointee(Rules::of(config)),
            seed: random.draw_u64(),
            trusted_proxies: all.server.trusted_proxies.clone(),
            header: all.server.client_address_header,
            clock: clock.clone(),
            refused_for_rate: refused.with_label_values(&["rate"]),
            refused_for_failures: refused.with_label_values(&["failed_authentication"]),
            failures: figures.counter(
                "address_failed_authentications_total",
                "Failed authentications of clients that are limited by their addresses",
            )?,
            unnamed: figures.counter(
                "address_unnamed_total",
                "Requests that are not limited by address because a trusted proxy does not say where they come from",
            )?,
            said_nobody: AtomicBool::new(false),
            said_untrusted: AtomicBool::new(false),
        };
        addresses.configure(config);
        Ok(addresses)
    }

    /// Puts other rules in force, all at once, for the requests that come from now on. What is remembered of clients counts on.
    /// How many are remembered does not change.
    pub(super) fn configure(&self, config: &ClientAddressConfig) {
        let rules = Rules::of(config);
        if rules.enabled {
            let in_shard = self.addresses_max.div_ceil(SHARDS);
            let table = || Mutex::new(AddressTable::new(rules.limits, in_shard));
            self.shards.get_or_init(|| (0..SHARDS).map(|_| table()).collect());
        }
        self.rules.store(Arc::new(rules));
    }

    /// The header in which trusted proxies name clients.
    pub fn header(&self) -> ForwardingHeader {
        self.header
    }

    /// Who sends a request. `lines` are the values of the header that [`Addresses::header`]
    /// names, and `is_forwarded` says whether there is any header of a proxy.
    pub fn sender<'a>(
        &self,
        listener: Listener,
        peer: SocketAddr,
        lines: impl DoubleEndedIterator<Item = &'a [u8]>,
        is_forwarded: impl FnOnce() -> bool,
    ) -> Sender {
        let rules = self.rules.load_full();
        let network = self.network(&rules, peer, lines, is_forwarded);
        let client = network.filter(|_| rules.enabled).map(|network| {
            let mut text = [0; 10];
            text[0] = listener as u8;
            text[1..].copy_from_slice(&network.bytes());
            Client { network, key: xxh3_64_with_seed(&text, self.seed), rules }
        });
        Sender { network, client }
    }

    fn network<'a>(
        &self,
        rules: &Rules,
        peer: SocketAddr,
        lines: impl DoubleEndedIterator<Item = &'a [u8]>,
        is_forwarded: impl FnOnce() -> bool,
    ) -> Option<ClientNetwork> {
        let address = match find_client(peer.ip(), self.header, lines, |address| self.is_trusted(address)) {
            ClientFound::Peer(address) if rules.exempts(address) => {
                if !is_forwarded() {
                    return None;
                }
                // Whoever is behind it is not who was meant to be exempt.
                self.say_untrusted();
                address
            }
            ClientFound::Named(address) if rules.exempts(address) && !address.is_loopback() => return None,
            ClientFound::Peer(address) | ClientFound::Named(address) => address,
            // Counted as one, its clients could keep each other out.
            ClientFound::Nobody => {
                self.unnamed.inc();
                self.say_nobody();
                return None;
            }
        };
        Some(ClientNetwork::of(address))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// When it is one too many; that counts nothing.
    pub fn admit(&self, client: &Client) -> Result<(), AddressRefusal> {
        let now = self.clock.monotonic();
        let Some(mut table) = self.table(client, now) else { return Ok(()) };
        let admitted = table.admit(client.key, now);
        drop(table);
        admitted.map_err(|wait| {
            self.refused_for_rate.inc();
            AddressRefusal::new(AddressReason::Rate(client.rules.per_second), wait)
        })
    }

    /// Says no while the client's authentications have failed too often.
    ///
    /// # Errors
    /// As long as that is so.
    pub fn check_block(&self, client: &Client) -> Result<(), AddressRefusal> {
        let now = self.clock.monotonic();
        let Some(table) = self.table(client, now) else { return Ok(()) };
        let blocked = table.blocked_for(client.key, now);
        drop(table);
        let Some(wait) = blocked else { return Ok(()) };
        self.refused_for_failures.inc();
        Err(AddressRefusal::new(AddressReason::FailedAuthentication, wait))
    }

    /// Counts an authentication of the client that failed.
    pub fn note_failure(&self, client: &Client) {
        let now = self.clock.monotonic();
        let Some(mut table) = self.table(client, now) else { return };
        let is_blocked_now = table.note_failure(client.key, now);
        drop(table);
        self.failures.inc();
        if is_blocked_now {
            tracing::warn!(network = %client.network, "an address is refused for a while: its authentications failed too often");
        }
    }

    /// The table with the client, under the rules of its request.
    fn table(&self, client: &Client, now: Monotonic) -> Option<MutexGuard<'_, AddressTable>> {
        // The lowest bits; the table itself goes by the highest.
        let place = usize::try_from(client.key % SHARDS as u64).unwrap_or(0);
        let mut table = self.shards.get()?.get(place)?.lock();
        table.put_in_force(client.rules.limits, now);
        Some(table)
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
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
