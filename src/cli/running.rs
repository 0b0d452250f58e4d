//! A gateway with its two listeners, as `serve` and `demo` run it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::failure::Failure;
use crate::api::Api;
use crate::config::Config;
use crate::gateway::addresses::Listener;
use crate::gateway::{Environment, Gateway, OpenError};

/// A gateway that answers requests.
pub(super) struct RunningGateway {
    /// The gateway itself.
    pub(super) gateway: Gateway,
    /// Where merchants reach it.
    pub(super) address: SocketAddr,
    /// Where operators reach it.
    pub(super) admin_address: SocketAddr,
    api: Api,
    shutdown: CancellationToken,
}

impl RunningGateway {
    /// Listens, opens the gateway and serves it. The ports are taken first, so that a second start on the same ports
    /// fails before it touches anything.
    pub(super) async fn start(config: Config, context: &Context) -> Result<Self, Failure> {
        let listener = listen(config.server.listen, "--listen").await?;
        let admin_listener = listen(config.server.admin_listen, "--admin-listen").await?;
        let address = address_of(&listener)?;
        let admin_address = address_of(&admin_listener)?;
        let variables: std::collections::HashMap<String, String> = context.environment.iter().cloned().collect();
        let environment = Environment {
            clock: context.clock.clone(),
            random: context.random.clone(),
            variable: Box::new(move |name| variables.get(name).filter(|value| !value.is_empty()).cloned()),
        };
        let gateway = Gateway::open(config, environment).await.map_err(not_opened)?;
        let shutdown = CancellationToken::new();
        let api = Api::start(gateway.clone(), listener, admin_listener, shutdown.clone())
            .map_err(|error| Failure::Failed(format!("the listeners can't be used: {error}")))?;
        let base = base_of(&gateway, Listener::Merchants, address);
        if let Err(reason) = gateway.register_callbacks(&base).await {
            // What they would say is asked for instead.
            tracing::warn!(reason, "the sandbox can't be told where its notifications are to go; none will come");
        }
        Ok(Self { gateway, address, admin_address, api, shutdown })
    }

    /// The address at which this machine reaches the operator's listener.
    pub(super) fn admin_base(&self) -> String {
        base_of(&self.gateway, Listener::Operator, self.admin_address)
    }

    /// Stops in good order: no new connections, requests under way are answered, the store is closed.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        self.gateway.begin_stopping();
        self.shutdown.cancel();
        self.api.drained().await;
        self.gateway.stop().await.map_err(|error| {
            Failure::Failed(format!("the store was not closed in good order ({error}); it recovers at the next start"))
        })
    }
}

/// The URL at which this machine reaches a listener of the gateway.
fn base_of(gateway: &Gateway, listener: Listener, address: SocketAddr) -> String {
    let scheme = if gateway.certificate(listener).is_some() { "https" } else { "http" };
    format!("{scheme}://{}", reachable(address))
}

/// An address under which this machine reaches a listener of its own.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        // One that listens on all addresses listens on those of IPv6, whether or not on the others.
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(loopback, address.port())
}

fn not_opened(error: OpenError) -> Failure {
    if matches!(error, OpenError::Countries(_) | OpenError::Certificate(_)) {
        return Failure::Usage(error.to_string());
    }
    Failure::Failed(if error.is_about_data_directory() {
        format!(
            "the data directory can't be used ({error}); stop whoever else uses it, make room on its disk, check who may write \
             there, or give another with --data-dir"
        )
    } else {
        error.to_string()
    })
}

async fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::Failed(format!("{address} can't be listened on ({error}); give another address with {flag}"))
    })
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::Failed(format!("a listener has no address: {error}")))
}
