//! What is known about one request from its first byte on, shared by everyone who works on it.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::MatchedPath;
use axum::http::{HeaderMap, Method};
use hyper::body::Body;

use crate::api::language::{Language, language_of};
use crate::api::numbers::Numbers;
use crate::domain::ids::MerchantId;
use crate::domain::limit::ClientNetwork;

/// Which route takes a request.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// One of a router.
    Matched(MatchedPath),
    /// One that is answered without a router, as listed.
    Listed(&'static str),
}

impl Route {
    /// Its pattern.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Matched(path) => path.as_str(),
            Self::Listed(path) => path,
        }
    }
}

/// One request. What is learned on the way is set once and read when the answer is written and logged.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// Its id.
    pub(crate) request_id: String,
    /// The language of its messages.
    pub(crate) language: Language,
    /// Its method.
    pub(crate) method: Method,
    /// Who is at the other end of the connection, which may be a proxy.
    pub(crate) peer: SocketAddr,
    /// Whether it came over TLS of our own, so that nobody between us and who is at the other end could read it.
    pub(crate) is_tls: bool,
    /// Whose share of places for bodies it takes; not set for who shares with nobody (exempt networks) and for those whom
    /// a trusted proxy does not name.
    pub(crate) network: OnceLock<ClientNetwork>,
    /// The route's pattern; the path itself is not logged, since it may hold anything.
    pub(crate) route: OnceLock<Route>,
    /// What it is about.
    pub(crate) numbers: Numbers,
    /// Who sent it.
    pub(crate) merchant: OnceLock<MerchantId>,
    /// The limit headers of its answer, from admission on.
    pub(crate) limit_headers: OnceLock<HeaderMap>,
    body_unread: AtomicBool,
}

impl RequestContext {
    /// A request that has just arrived.
    pub(crate) fn new(request_id: String, method: Method, headers: &HeaderMap, peer: SocketAddr) -> Self {
        Self {
            request_id,
            language: language_of(headers),
            method,
            peer,
            is_tls: false,
            network: OnceLock::new(),
            route: OnceLock::new(),
            numbers: Numbers::default(),
            merchant: OnceLock::new(),
            limit_headers: OnceLock::new(),
            body_unread: AtomicBool::new(false),
        }
    }

    /// Remembers that bytes of the body may still be on their way, so that the connection is closed after the answer.
    pub(crate) fn leave_body_unread(&self) {
        self.body_unread.store(true, Ordering::Relaxed);
    }

    /// The same for a body that nobody is going to read, unless there is none.
    pub(crate) fn leave_body_unread_unless_empty<B: Body>(&self, body: &B) {
        if !body.is_end_stream() {
            self.leave_body_unread();
        }
    }

    /// Whether bytes of the body may still be on their way.
    pub(crate) fn body_is_unread(&self) -> bool {
        self.body_unread.load(Ordering::Relaxed)
    }
}
