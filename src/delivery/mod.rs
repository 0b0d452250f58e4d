//! How a webhook is sent: [`signing`] its body, vetting its [`url`] and every [`address`] behind it, and the HTTP
//! [`client`]. What follows from an answer is decided in [`crate::domain::webhook`].

pub mod address;
pub mod client;
mod lookups;
pub mod signing;
#[cfg(test)]
pub(crate) mod testing;
pub mod url;

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
    /// No connection.
    #[error("the connection failed: {0}")]
    NotConnected(String),
    /// The receiver's certificate is not accepted, or TLS failed otherwise.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// Time ran out before the receiver answered.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection broke, or what came is not HTTP.
    #[error("the connection broke before an answer")]
    Broken,
}

/// How one request ended.
pub type DeliveryResult = Result<Answer, DeliveryError>;

/// A delivery under way.
pub type DeliveryFuture<'a> = Pin<Box<dyn Future<Output = DeliveryResult> + Send + 'a>>;

/// Sends one request. [`client::HttpDelivery`] is the real one; tests and simulations have their own.
pub trait Deliver: Send + Sync + 'static {
    /// Sends `request` once and waits for its answer, for a bounded time.
    fn deliver(&self, request: DeliveryRequest) -> DeliveryFuture<'_>;
}
