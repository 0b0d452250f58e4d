//! How a webhook is sent: [`signing`] its body, vetting its [`url`] and every [`address`] behind it, and the HTTP
//! [`client`]. What follows from an answer is decided in [`crate::domain::webhook`].

pub mod address;
mod allowance;
mod body;
pub mod client;
mod connector;
mod hosts;
mod name_servers;
mod pool;
mod resolver;
pub mod signing;
#[cfg(test)]
mod test_name_server;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
pub mod url;

pub use resolver::LOOK_UP_SOCKETS_MAX;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// One request to a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRequest {
    /// Where it goes.
    pub url: String,
    /// Headers of its own, signatures included.
    pub headers: Vec<(&'static str, String)>,
    /// The body, JSON.
    pub body: Arc<str>,
    /// It ends within this, everything included.
    pub timeout: Duration,
}

/// What a receiver answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<String>,
    /// The beginning of the body, decompressed; bytes that are not UTF-8 are replaced.
    pub response: String,
}

/// Why there is no answer. The texts are shown to the merchant and say nothing about the inside of our network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The URL, or an address that its host has, must not be used. Nothing was sent.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// The host has no address.
    #[error("the host name can't be resolved")]
    NotResolved,
    /// No name server could say which addresses the host has.
    #[error("the name servers could not say which addresses the host has")]
    NameServersFailed,
    /// No name server has said in time which addresses the host has.
    #[error("the host name could not be resolved in time")]
    NotResolvedInTime,
    /// No connection.
    #[error("the connection failed: {0}")]
    NotConnected(String),
    /// The receiver's certificate is not accepted, or TLS failed otherwise.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// Time ran out before there was a connection to the receiver. Nothing was sent.
    #[error("no connection within {} s", .0.as_secs())]
    NotConnectedInTime(Duration),
    /// Time ran out before the receiver answered.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection broke.
    #[error("the connection broke before an answer")]
    Broken,
    /// What came is not HTTP/1, or its head is too long.
    #[error("what came is no answer in HTTP/1.1")]
    NotHttp,
}

/// How one request ended.
pub type DeliveryResult = Result<Answer, DeliveryError>;

/// A delivery under way.
pub type DeliveryFuture<'a> = Pin<Box<dyn Future<Output = DeliveryResult> + Send + 'a>>;

/// What a sender has done since its start, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFigures {
    /// Connections that are kept open without a request.
    pub idle_connections: usize,
    /// Host names whose addresses were found by asking.
    pub look_ups_ok: u64,
    /// Host names about which enough was remembered.
    pub look_ups_cached: u64,
    /// Host names without an address, or of which no name server could say.
    pub look_ups_failed: u64,
    /// Host names about which no name server answered in time.
    pub look_ups_timed_out: u64,
    /// Host names with an address that webhooks must not go to, counted with each new answer.
    pub look_ups_refused: u64,
}

/// Sends one request. [`client::HttpDelivery`] is the real one; tests and simulations have their own.
pub trait Deliver: Send + Sync + 'static {
    /// Sends `request` once and waits for its answer, for a bounded time.
    fn deliver(&self, request: DeliveryRequest) -> DeliveryFuture<'_>;

    /// Its figures; all zero when it keeps none.
    fn figures(&self) -> DeliveryFigures {
        DeliveryFigures::default()
    }
}
