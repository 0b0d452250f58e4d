//! Asking name servers. A question costs a socket and no thread, so very many can be open at once, and it ends when nobody
//! wants its answer any more.

use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use parking_lot::Mutex;

use crate::delivery::hosts::Stamp;

/// Where the machine's name servers are written; a change of it is noticed.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// When the addresses of one kind are there, those of the other kind have so long to come, too.
const OTHER_KIND_WITHIN: Duration = Duration::from_millis(500);
/// How often a question is put anew, to other servers if there are some, within the time for an answer.
const ROUNDS: u32 = 2;

/// What name servers say of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its addresses, at least one.
    pub(super) addresses: Vec<IpAddr>,
    /// How long that holds.
    pub(super) ttl: Duration,
}

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookUpError {
    /// There is no such name, or it has no address.
    #[error("the host name can't be resolved")]
    NotFound,
    /// No name server could be asked, or none could say.
    #[error("the name servers could not say which addresses the host has")]
    Failed,
    /// No name server has answered in time.
    #[error("the host name could not be resolved in time")]
    TimedOut,
}

/// A question under way.
pub(super) type Asking = Pin<Box<dyn Future<Output = Result<Found, LookUpError>> + Send>>;

/// Those who know the addresses of names.
pub(super) trait NameServers: Send + Sync + 'static {
    /// Asks for all addresses of `name`, in normal form. Ends within a bounded time.
    fn ask(&self, name: &str) -> Asking;
}

/// The machine's name servers. What is written about them is read again when it has changed.
pub(super) struct SystemNameServers(Arc<Inner>);

struct Inner {
    timeout: Duration,
    /// How to ask, and the state of the file from which that is known; without one it holds for good.
    resolver: Mutex<Option<(Source, TokioResolver)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Machine(Option<Stamp>),
    #[cfg(test)]
    Test,
}

impl SystemNameServers {
    /// They have `timeout` for an answer.
    pub(super) fn new(timeout: Duration) -> Self {
        Self(Arc::new(Inner { timeout, resolver: Mutex::new(None) }))
    }

    /// One name server at an address of the test's.
    #[cfg(test)]
    pub(super) fn at(server: std::net::SocketAddr, timeout: Duration) -> Self {
        use hickory_resolver::config::ConnectionConfig;

        let mut udp = ConnectionConfig::udp();
        udp.port = server.port();
        let mut server = NameServerConfig::udp(server.ip());
        server.connections = vec![udp];
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let resolver = build(config, ResolverOpts::default(), timeout).unwrap();
        Self(Arc::new(Inner { timeout, resolver: Mutex::new(Some((Source::Test, resolver))) }))
    }
}

impl NameServers for SystemNameServers {
    fn ask(&self, name: &str) -> Asking {
        let inner = Arc::clone(&self.0);
        let name = name.to_owned();
        Box::pin(async move {
            let reading = Arc::clone(&inner);
            // Its settings may have to be read from a file.
            let resolver = tokio::task::spawn_blocking(move || reading.resolver()).await;
            let Ok(Some(resolver)) = resolver else { return Err(LookUpError::Failed) };
            addresses_of(&resolver, &name).await
        })
    }
}

impl Inner {
    fn resolver(&self) -> Option<TokioResolver> {
        let source = Source::Machine(Stamp::of(Path::new(RESOLV_CONF)));
        let mut held = self.resolver.lock();
        match &*held {
            Some((known, resolver)) if *known == source => return Some(resolver.clone()),
            #[cfg(test)]
            Some((Source::Test, resolver)) => return Some(resolver.clone()),
            _ => {}
        }
        let (config, options) = settings();
        match build(config, options, self.timeout) {
            Ok(resolver) => {
                *held = Some((source, resolver.clone()));
                Some(resolver)
            }
            Err(error) => {
                tracing::warn!(%error, "the machine's name servers can't be used");
                None
            }
        }
    }
}

fn settings() -> (ResolverConfig, ResolverOpts) {
    read_system_conf().unwrap_or_else(|error| {
        // As the C library does.
        tracing::warn!(path = RESOLV_CONF, %error, "no name servers found; asking this machine's own");
        let own = NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1]));
        (ResolverConfig::from_parts(None, Vec::new(), vec![own]), ResolverOpts::default())
    })
}

fn build(config: ResolverConfig, options: ResolverOpts, timeout: Duration) -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
    let options = builder.options_mut();
    options.timeout = timeout / ROUNDS;
    options.attempts = (ROUNDS - 1) as usize;
    // What is remembered is remembered by us, and the list of hosts has been looked at.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    // One server after the other, those that answer first: the sockets of look-ups are counted.
    options.num_concurrent_reqs = 1;
    // There are never so many look-ups at once.
    options.max_active_requests = 8_192;
    builder.build()
}

async fn addresses_of(resolver: &TokioResolver, name: &str) -> Result<Found, LookUpError> {
    // A full name, so that the machine's search domains are not tried; names without a dot need them.
    let full = if name.contains('.') { format!("{name}.") } else { name.to_owned() };
    let Ok(full) = Name::from_ascii(&full) else { return Err(LookUpError::NotFound) };
    let v4 = Box::pin(records(resolver, full.clone(), RecordType::A));
    let v6 = Box::pin(records(resolver, full, RecordType::AAAA));
    let (first, other) = select(v4, v6).await.factor_first();
    let other = match first {
        Ok(_) => tokio::time::timeout(OTHER_KIND_WITHIN, other).await.unwrap_or(Err(LookUpError::TimedOut)),
        Err(_) => other.await,
    };
    match (first, other) {
        (Ok(mut first), Ok(other)) => {
            first.addresses.extend(other.addresses);
            Ok(Found { ttl: first.ttl.min(other.ttl), ..first })
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
        (Err(LookUpError::NotFound), Err(LookUpError::NotFound)) => Err(LookUpError::NotFound),
        (Err(LookUpError::TimedOut), Err(_)) | (Err(_), Err(LookUpError::TimedOut)) => Err(LookUpError::TimedOut),
        (Err(_), Err(_)) => Err(LookUpError::Failed),
    }
}

async fn records(resolver: &TokioResolver, name: Name, kind: RecordType) -> Result<Found, LookUpError> {
    let lookup = resolver.lookup(name, kind).await.map_err(|error| match error {
        NetError::Timeout => LookUpError::TimedOut,
        NetError::Dns(DnsError::NoRecordsFound(_)) => LookUpError::NotFound,
        _ => {
            tracing::debug!(%error, "the name servers could not say which addresses a webhook's host has");
            LookUpError::Failed
        }
    })?;
    let mut addresses = Vec::new();
    let mut ttl_s = u32::MAX;
    for record in lookup.answers() {
        // Names on the way count for how long the answer holds.
        ttl_s = ttl_s.min(record.ttl);
        match &record.data {
            RData::A(address) => addresses.push(IpAddr::V4(address.0)),
            RData::AAAA(address) => addresses.push(IpAddr::V6(address.0)),
            _ => {}
        }
    }
    if addresses.is_empty() {
        return Err(LookUpError::NotFound);
    }
    Ok(Found { addresses, ttl: Duration::from_secs(u64::from(ttl_s)) })
}

#[cfg(test)]
mod tests;
