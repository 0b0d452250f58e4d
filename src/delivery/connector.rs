//! Makes connections to receivers. Every address of a name is vetted at the moment of connecting, so that a name that changes
//! its address in between (DNS rebinding) gains nothing, and the addresses that were vetted are those that are tried.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Host;

use crate::clock::Clock;
use crate::delivery::DeliveryError;
use crate::delivery::allowance::{Allowance, Allowed};
use crate::delivery::name_servers::LookUpError;
use crate::delivery::pool::{Connection, Target};
use crate::delivery::resolver::Resolver;
use crate::delivery::tls;
use crate::delivery::url::{allowed_loopback, is_localhost};

/// While an address does not answer, the next one is tried after this (RFC 8305).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Longest head of an answer.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Most header lines of an answer.
const HEADERS_MAX: usize = 256;

/// Connects to where it is allowed to.
pub(super) struct Connector {
    /// Knows the addresses of names.
    pub(super) resolver: Arc<Resolver>,
    /// Private networks to which webhooks may go.
    pub(super) allowed_private_networks: Vec<IpNet>,
    /// Whom to trust.
    pub(super) tls: TlsConnector,
    /// When connections were opened.
    pub(super) clock: Clock,
}

impl Connector {
    /// A new connection to `target`.
    ///
    /// # Errors
    /// Why there is none, for the merchant.
    pub(super) async fn connect(&self, target: &Target) -> Result<Connection, DeliveryError> {
        let addresses = self.vetted_addresses(target).await?;
        let stream = connect_to_any(&addresses, target.port).await.map_err(|error| not_connected(&error))?;
        // Small requests wait for nothing.
        stream.set_nodelay(true).map_err(|error| not_connected(&error))?;
        let allowance = Allowance::new();
        let stream = Allowed::new(stream, allowance.clone());
        if !target.is_tls {
            return self.speak(stream, allowance).await;
        }
        let name = server_name(&target.host)?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| tls::failure_of(&error))?;
        self.speak(stream, allowance).await
    }

    async fn speak<S>(&self, stream: S, allowance: Allowance) -> Result<Connection, DeliveryError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.title_case_headers(true).max_buf_size(HEAD_MAX_BYTES).max_headers(HEADERS_MAX);
        // A header line that nobody needs is no reason to send a webhook again that was taken.
        builder
            .ignore_invalid_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|_| DeliveryError::Broken)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a webhook's receiver ended");
            }
        });
        Ok(Connection::new(sender, allowance, self.clock.monotonic(), driver))
    }

    /// Names are refused as a whole when any address is outside the scope: answers that mix public and private addresses are
    /// attacks or mistakes.
    async fn vetted_addresses(&self, target: &Target) -> Result<Vec<IpAddr>, DeliveryError> {
        let holds = |address: &IpAddr| target.scope.holds(*address, &self.allowed_private_networks);
        let name = match &target.host {
            Host::Ipv4(address) => return vetted_literal(IpAddr::V4(*address), holds),
            Host::Ipv6(address) => return vetted_literal(IpAddr::V6(*address), holds),
            Host::Domain(name) if is_localhost(name) => {
                let loopback = allowed_loopback(&self.allowed_private_networks);
                return if loopback.is_empty() { Err(DeliveryError::NotResolved) } else { Ok(loopback) };
            }
            Host::Domain(name) => name,
        };
        let resolved = self.resolver.resolve(name).await.map_err(|error| match error {
            LookUpError::NotFound => DeliveryError::NotResolved,
            LookUpError::Failed => DeliveryError::NameServersFailed,
            LookUpError::TimedOut => DeliveryError::NotResolvedInTime,
        })?;
        if resolved.addresses.iter().all(holds) {
            return Ok(in_turns(&resolved.addresses));
        }
        // Once an answer: it is remembered, and tries go on.
        if resolved.report() {
            self.resolver.figures().refused.fetch_add(1, Ordering::Relaxed);
            // One is enough, there may be thousands.
            let address = resolved.addresses.iter().find(|address| !holds(address));
            tracing::warn!(host = name, ?address, "a webhook's host leads to an address that is not allowed");
        }
        Err(not_public())
    }
}

fn vetted_literal(address: IpAddr, holds: impl Fn(&IpAddr) -> bool) -> Result<Vec<IpAddr>, DeliveryError> {
    if holds(&address) { Ok(vec![address]) } else { Err(not_public()) }
}

fn not_public() -> DeliveryError {
    DeliveryError::NotAllowed(String::from("an address of its host is not on the public internet"))
}

fn not_connected(error: &io::Error) -> DeliveryError {
    DeliveryError::NotConnected(error.kind().to_string())
}

fn server_name(host: &Host<String>) -> Result<ServerName<'static>, DeliveryError> {
    match host {
        Host::Ipv4(address) => Ok(ServerName::from(IpAddr::V4(*address))),
        Host::Ipv6(address) => Ok(ServerName::from(IpAddr::V6(*address))),
        Host::Domain(name) => ServerName::try_from(name.clone())
            .map_err(|_| DeliveryError::NotAllowed(String::from("its host can't be named in TLS"))),
    }
}

/// One of each kind after the other, so that a network which carries only one of them costs one failure.
fn in_turns(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let (v4, v6): (Vec<&IpAddr>, Vec<&IpAddr>) = addresses.iter().partition(|address| address.is_ipv4());
    let longest = v4.len().max(v6.len());
    let turns = (0..longest).flat_map(|turn| [v4.get(turn), v6.get(turn)]);
    turns.flatten().map(|address| **address).take(ADDRESSES_MAX).collect()
}

/// The first connection that comes about. All others are dropped.
async fn connect_to_any(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut trying = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            trying.push(TcpStream::connect(SocketAddr::new(*address, port)));
        }
        let next_at = tokio::time::sleep(NEXT_ADDRESS_AFTER);
        tokio::select! {
            connected = trying.next() => match connected {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = next_at, if !waiting.as_slice().is_empty() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_addresses_take_turns_and_are_bounded() {
        let addresses: Vec<IpAddr> =
            ["::1", "::2", "::3", "10.0.0.1"].iter().map(|address| address.parse().unwrap()).collect();
        let turns: Vec<String> = in_turns(&addresses).iter().map(ToString::to_string).collect();
        assert_eq!(turns, ["10.0.0.1", "::1", "::2", "::3"]);
        assert_eq!(in_turns(&vec![addresses[0]; 100]).len(), ADDRESSES_MAX);
        assert!(in_turns(&[]).is_empty());
    }

    #[tokio::test]
    async fn when_one_address_fails_the_next_one_is_used() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = ["127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let stream = connect_to_any(&addresses, port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), addresses[1]);
        drop(listener);
        let failure = connect_to_any(&addresses, port).await.unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::ConnectionRefused);
    }
}
