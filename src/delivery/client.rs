//! The HTTP client under every webhook. One for all endpoints, so that connections are used again; every address is
//! vetted at the moment of connecting, so that a name that changes its address in between (DNS rebinding) gains
//! nothing; no redirect is followed, no proxy is asked, and one deadline covers everything.

use std::error::Error;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};

use crate::config::WebhookConfig;
use crate::delivery::lookups::Lookups;
use crate::delivery::url::{Scope, allowed_loopback, is_localhost, vet};
use crate::delivery::{Answer, Deliver, DeliveryError, DeliveryFuture, DeliveryRequest, DeliveryResult};

/// Connections without a request are closed after this; the next one is vetted anew.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How webhooks are sent.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// Bytes of an answer that are kept, after decompression.
    pub response_max_bytes: usize,
    /// Connections to one host that are kept open between requests.
    pub idle_connections_per_host_max: usize,
    /// Private networks to which webhooks may go.
    pub allowed_private_networks: Vec<IpNet>,
}

impl From<&WebhookConfig> for DeliverySettings {
    fn from(config: &WebhookConfig) -> Self {
        Self {
            response_max_bytes: config.response_max_bytes,
            idle_connections_per_host_max: config.endpoint_in_flight_max,
            allowed_private_networks: config.allowed_private_networks.clone(),
        }
    }
}

/// Sends webhooks over HTTP.
pub struct HttpDelivery {
    settings: DeliverySettings,
    /// For URLs that may lead to public addresses.
    public: reqwest::Client,
    /// For URLs that may lead only to allowed private networks.
    private: reqwest::Client,
}

impl HttpDelivery {
    /// A sender with `settings`.
    ///
    /// # Errors
    /// Why no HTTP client can be made, for the operator.
    pub fn new(settings: DeliverySettings) -> Result<Self, String> {
        let lookups = Lookups::new();
        let public = client(&settings, Scope::PublicOrAllowed, &lookups)?;
        let private = client(&settings, Scope::AllowedOnly, &lookups)?;
        Ok(Self { settings, public, private })
    }

    async fn exchange(&self, request: DeliveryRequest) -> DeliveryResult {
        let vetted = vet(&request.url, &self.settings.allowed_private_networks).map_err(DeliveryError::NotAllowed)?;
        let client = match vetted.scope {
            Scope::PublicOrAllowed => &self.public,
            Scope::AllowedOnly => &self.private,
        };
        let mut builder = client.post(vetted.url).header(CONTENT_TYPE, "application/json");
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        let sending = builder.body(request.body.as_bytes().to_vec()).send();
        let timeout = request.timeout;
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        let mut response = tokio::select! {
            sent = sending => sent.map_err(|error| failure_of(&error))?,
            () = &mut deadline => return Err(DeliveryError::TimedOut(timeout)),
        };
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        // The status is the answer. A body that breaks, never ends or comes drop by drop does not change it.
        while body.len() < self.settings.response_max_bytes {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk,
                () = &mut deadline => break,
            };
            let Ok(Some(chunk)) = chunk else { break };
            let room = self.settings.response_max_bytes - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok(Answer { status, retry_after, response: text_of(&body) })
    }
}

impl Deliver for HttpDelivery {
    fn deliver(&self, request: DeliveryRequest) -> DeliveryFuture<'_> {
        Box::pin(self.exchange(request))
    }
}

impl std::fmt::Debug for HttpDelivery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HttpDelivery").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn client(settings: &DeliverySettings, scope: Scope, lookups: &Arc<Lookups>) -> Result<reqwest::Client, String> {
    // Whoever embeds the crate may have chosen a provider already; theirs is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let resolver = VettingResolver {
        scope,
        allowed_private_networks: settings.allowed_private_networks.clone().into(),
        lookups: Arc::clone(lookups),
    };
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("Tollgate/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(resolver.clone())
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .http1_only()
            .http1_title_case_headers()
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(settings.idle_connections_per_host_max)
    };
    let with_the_machines_authorities = builder().build();
    let first_error = match with_the_machines_authorities {
        Ok(client) => return Ok(client),
        Err(error) => error,
    };
    // A machine without certificate authorities can still serve everything but https webhooks.
    tracing::warn!(
        error = %innermost(&first_error),
        "no certificate authorities found: webhooks over https will fail until they are installed (ca-certificates)"
    );
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can't be set up for webhooks: {error}"))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    builder()
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|error| format!("the HTTP client for webhooks can't be set up: {}", innermost(&error)))
}

/// Resolves names and refuses them as a whole when any address is outside the scope: answers that mix public and
/// private addresses are attacks or mistakes.
#[derive(Clone)]
struct VettingResolver {
    scope: Scope,
    allowed_private_networks: Arc<[IpNet]>,
    lookups: Arc<Lookups>,
}

/// An address behind the name is outside the scope.
#[derive(Debug, thiserror::Error)]
#[error("an address of its host is not on the public internet")]
struct AddressRefused;

/// The name has no address, or can't be looked up.
#[derive(Debug, thiserror::Error)]
#[error("the host name can't be resolved")]
struct NameNotResolved;

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses_of(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

impl VettingResolver {
    async fn addresses_of(&self, name: &str) -> Result<Vec<IpAddr>, Box<dyn Error + Send + Sync>> {
        let addresses = if is_localhost(name) {
            allowed_loopback(&self.allowed_private_networks)
        } else {
            look_up(name, &self.lookups).await?
        };
        if addresses.is_empty() {
            return Err(Box::new(NameNotResolved));
        }
        if !addresses.iter().all(|address| self.scope.holds(*address, &self.allowed_private_networks)) {
            tracing::warn!(host = name, ?addresses, "a webhook's host leads to an address that is not allowed");
            return Err(Box::new(AddressRefused));
        }
        Ok(addresses)
    }
}

async fn look_up(name: &str, lookups: &Arc<Lookups>) -> Result<Vec<IpAddr>, NameNotResolved> {
    // A full name, so that the machine's search domains are not tried; names without a dot need them.
    let full_name = if name.contains('.') { format!("{name}.") } else { name.to_owned() };
    // The turn goes with the thread: a lookup whose request has timed out still counts until it ends.
    let turn = lookups.turn(name).await.ok_or(NameNotResolved)?;
    let looking_up = tokio::task::spawn_blocking(move || {
        let found = (full_name.as_str(), 0).to_socket_addrs();
        drop(turn);
        found.map(|addresses| addresses.map(|address| address.ip()).collect())
    });
    match looking_up.await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(_)) | Err(_) => Err(NameNotResolved),
    }
}

fn failure_of(error: &reqwest::Error) -> DeliveryError {
    tracing::debug!(error = ?error, "a webhook was not answered");
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<AddressRefused>() {
            return DeliveryError::NotAllowed(refused.to_string());
        }
        if cause.is::<NameNotResolved>() {
            return DeliveryError::NotResolved;
        }
        if let Some(failure) = cause.downcast_ref::<std::io::Error>() {
            if let Some(tls) = failure.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return DeliveryError::Tls(tls.to_string());
            }
            if error.is_connect() {
                return DeliveryError::NotConnected(failure.kind().to_string());
            }
        }
        source = cause.source();
    }
    if error.is_connect() { DeliveryError::NotConnected(innermost(error)) } else { DeliveryError::Broken }
}

fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The text of a body that may have been cut inside a character.
fn text_of(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => text.to_owned(),
        Err(error) if error.error_len().is_none() => String::from_utf8_lossy(&body[..error.valid_up_to()]).into_owned(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

#[cfg(test)]
mod tests;
