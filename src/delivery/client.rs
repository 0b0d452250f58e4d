//! The HTTP client under every webhook. One for all endpoints, so that connections are used again; every address is
//! vetted at the moment of connecting, no redirect is followed, no proxy is asked, and one deadline covers everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, Uri};
use ipnet::IpNet;
use url::{Host, Position, Url};

use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::delivery::body::Excerpt;
use crate::delivery::connector::Connector;
use crate::delivery::hosts::HostsFile;
use crate::delivery::name_servers::{NameServers, SystemNameServers};
use crate::delivery::pool::{Connection, Pool, PoolSettings, Target};
use crate::delivery::resolver::{Resolver, ResolverSettings};
use crate::delivery::tls::{self, Authorities};
use crate::delivery::url::{Rules, VettedUrl, vet};
use crate::delivery::{
    Answer, Deliver, DeliveryError, DeliveryFigures, DeliveryFuture, DeliveryRequest, DeliveryResult,
};
use crate::domain::webhook::PortRange;

/// Connections without a request are closed after this; the next one is vetted anew.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A body that goes on after what is kept of it is read to its end, so that its connection can be used again, if so much is
/// enough for that
const DRAINED_MAX_BYTES: usize = 256 * 1024;
/// and it comes within this.
const DRAINED_WITHIN: Duration = Duration::from_millis(250);
/// The machine's own list of names.
const HOSTS_FILE: &str = "/etc/hosts";

/// How webhooks are sent.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// Bytes of an answer that are kept, after decompression.
    pub response_max_bytes: usize,
    /// Connections to one host that are kept open between requests.
    pub idle_connections_per_host_max: usize,
    /// Connections to all hosts that are kept open between requests.
    pub idle_connections_max: usize,
    /// A connection is used no longer than this; then its host is looked up again.
    pub connection_age_max: Duration,
    /// A name server has so long for an answer.
    pub dns_timeout: Duration,
    /// Names whose addresses are remembered.
    pub dns_cache_max: usize,
    /// Addresses are remembered for their time to live, and no longer than this.
    pub dns_ttl_max: Duration,
    /// That a name has no address is remembered for this long.
    pub dns_negative_ttl: Duration,
    /// Ports at public addresses to which webhooks may go.
    pub public_ports: Vec<PortRange>,
    /// Private networks to which webhooks may go.
    pub allowed_private_networks: Vec<IpNet>,
}

impl From<&WebhookConfig> for DeliverySettings {
    fn from(config: &WebhookConfig) -> Self {
        Self {
            response_max_bytes: config.response_max_bytes,
            idle_connections_per_host_max: config.endpoint_in_flight_max,
            idle_connections_max: config.idle_connections_max,
            connection_age_max: Duration::from_secs(config.connection_age_max_s),
            dns_timeout: Duration::from_millis(config.dns_timeout_ms),
            dns_cache_max: config.dns_cache_max,
            dns_ttl_max: Duration::from_secs(config.dns_ttl_max_s),
            dns_negative_ttl: Duration::from_secs(config.dns_negative_ttl_s),
            public_ports: config.public_ports.clone(),
            allowed_private_networks: config.allowed_private_networks.clone(),
        }
    }
}

/// What of the world a sender uses.
struct World {
    clock: Clock,
    hosts: HostsFile,
    name_servers: Box<dyn NameServers>,
    authorities: Authorities,
}

impl World {
    fn machine(settings: &DeliverySettings) -> Self {
        Self {
            clock: Clock::system(),
            hosts: HostsFile::new(HOSTS_FILE),
            name_servers: Box::new(SystemNameServers::new(settings.dns_timeout)),
            authorities: Authorities::Machine,
        }
    }
}

/// Sends webhooks over HTTP.
pub struct HttpDelivery {
    settings: DeliverySettings,
    connector: Connector,
    pool: Arc<Pool>,
}

impl HttpDelivery {
    /// A sender with `settings`.
    ///
    /// # Errors
    /// Why no HTTP client can be made, for the operator.
    pub fn new(settings: DeliverySettings) -> Result<Self, String> {
        let world = World::machine(&settings);
        Self::within(settings, world)
    }

    fn within(settings: DeliverySettings, world: World) -> Result<Self, String> {
        let World { clock, hosts, name_servers, authorities } = world;
        let names = ResolverSettings {
            timeout: settings.dns_timeout,
            names_max: settings.dns_cache_max,
            ttl_max: settings.dns_ttl_max,
            negative_ttl: settings.dns_negative_ttl,
        };
        let kept = PoolSettings {
            idle_max: settings.idle_connections_max,
            idle_of_one_max: settings.idle_connections_per_host_max,
            idle_timeout: IDLE_TIMEOUT,
            age_max: settings.connection_age_max,
        };
        let connector = Connector {
            resolver: Resolver::new(names, clock.clone(), hosts, name_servers),
            allowed_private_networks: settings.allowed_private_networks.clone(),
            tls: tls::connector(authorities)?,
            clock: clock.clone(),
        };
        Ok(Self { settings, connector, pool: Pool::new(kept, clock) })
    }

    async fn exchange(&self, request: DeliveryRequest) -> DeliveryResult {
        let DeliverySettings { public_ports, allowed_private_networks, .. } = &self.settings;
        let rules = Rules { allowed_private_networks, public_ports };
        let VettedUrl { url, scope } = vet(&request.url, rules).map_err(DeliveryError::NotAllowed)?;
        let target = Target {
            host: url.host().ok_or(DeliveryError::Broken)?.to_owned(),
            port: url.port_or_known_default().ok_or(DeliveryError::Broken)?,
            is_tls: url.scheme() == "https",
            scope,
        };
        let timeout = request.timeout;
        let message = message_of(&url, request)?;
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        let is_sent = AtomicBool::new(false);
        let (response, connection) = tokio::select! {
            asked = self.ask(&target, message, &is_sent) => asked?,
            () = &mut deadline => return Err(match is_sent.load(Ordering::Relaxed) {
                false => DeliveryError::NotConnectedInTime(timeout),
                true => DeliveryError::TimedOut(timeout),
            }),
        };
        let (head, mut body) = response.into_parts();
        let mut excerpt = Excerpt::new(&head.headers, self.settings.response_max_bytes);
        // The status is the answer. A body that breaks, never ends or comes drop by drop does not change it.
        tokio::select! {
            () = read(&mut body, &mut excerpt) => {}
            () = &mut deadline => {}
        }
        if body.is_end_stream() {
            self.pool.give_back(target, connection);
        }
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: head.status.as_u16(), retry_after, response: excerpt.into_text() })
    }

    /// Sends `message` and waits for the head of the answer. A kept connection that its receiver has closed meanwhile is
    /// replaced if nothing of the message was sent over it; otherwise the receiver may have it. `is_sent` says whether
    /// there was a connection.
    async fn ask(
        &self,
        target: &Target,
        mut message: Request<Full<Bytes>>,
        is_sent: &AtomicBool,
    ) -> Result<(Response<Incoming>, Connection), DeliveryError> {
        while let Some(mut kept) = self.pool.take(target) {
            if kept.sender.ready().await.is_err() {
                continue;
            }
            kept.allowance.renew();
            is_sent.store(true, Ordering::Relaxed);
            match kept.sender.try_send_request(message).await {
                Ok(response) => return Ok((response, kept)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => {
                        is_sent.store(false, Ordering::Relaxed);
                        message = unsent;
                    }
                    None => return Err(broken(error.error())),
                },
            }
        }
        let mut connection = self.connector.connect(target).await?;
        is_sent.store(true, Ordering::Relaxed);
        match connection.sender.send_request(message).await {
            Ok(response) => Ok((response, connection)),
            Err(error) => Err(broken(&error)),
        }
    }
}

impl Deliver for HttpDelivery {
    fn deliver(&self, request: DeliveryRequest) -> DeliveryFuture<'_> {
        Box::pin(self.exchange(request))
    }

    fn figures(&self) -> DeliveryFigures {
        let look_ups = self.connector.resolver.figures();
        DeliveryFigures {
            idle_connections: self.pool.idle(),
            look_ups_ok: look_ups.ok.load(Ordering::Relaxed),
            look_ups_cached: look_ups.cached.load(Ordering::Relaxed),
            look_ups_failed: look_ups.failed.load(Ordering::Relaxed),
            look_ups_timed_out: look_ups.timed_out.load(Ordering::Relaxed),
            look_ups_refused: look_ups.refused.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for HttpDelivery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HttpDelivery").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn message_of(url: &Url, request: DeliveryRequest) -> Result<Request<Full<Bytes>>, DeliveryError> {
    let unfit = |what| DeliveryError::NotAllowed(format!("its {what} can't be sent"));
    let path: Uri = url[Position::BeforePath..].parse().map_err(|_| unfit("path"))?;
    let mut headers = HeaderMap::with_capacity(request.headers.len() + 5);
    headers.insert(HOST, HeaderValue::from_str(&host_header(url)).map_err(|_| unfit("host"))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Tollgate/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit("headers"))?;
        headers.insert(name, HeaderValue::from_str(&value).map_err(|_| unfit("headers"))?);
    }
    let mut message = Request::new(Full::new(Bytes::copy_from_slice(request.body.as_bytes())));
    *message.method_mut() = Method::POST;
    *message.uri_mut() = path;
    *message.headers_mut() = headers;
    Ok(message)
}

/// The host as the URL has it, with its port if that is not the scheme's own.
fn host_header(url: &Url) -> String {
    let host = url.host().map(|host: Host<&str>| host.to_string()).unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// Reads until the body ends or breaks, or until enough of it is there and its end is not near.
async fn read(body: &mut Incoming, excerpt: &mut Excerpt) {
    while !body.is_end_stream() {
        let Some(Ok(frame)) = body.frame().await else { return };
        if let Some(chunk) = frame.data_ref()
            && !excerpt.take(chunk)
        {
            let _ = tokio::time::timeout(DRAINED_WITHIN, drain(body)).await;
            return;
        }
    }
}

async fn drain(body: &mut Incoming) {
    let mut left = DRAINED_MAX_BYTES;
    while !body.is_end_stream() && body.size_hint().lower() <= left as u64 {
        let Some(Ok(frame)) = body.frame().await else { return };
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = rest;
    }
}

fn broken(error: &hyper::Error) -> DeliveryError {
    tracing::debug!(%error, "a webhook was not answered");
    if error.is_parse() { DeliveryError::NotHttp } else { DeliveryError::Broken }
}

#[cfg(test)]
mod tests;
