//! The gateway over HTTP: two listeners, one for merchants and one for the operator.
//!
//! From the outside in: `server` accepts connections, `connection` serves one, `edge` stands around every request,
//! `merchant` and `admin` say who may come in, and one file a resource calls the gateway. Every outcome is one value
//! (`envelope::Outcome`) until `edge` writes it, so that ids, languages, errors and headers are written in one place.

mod admin;
mod auth;
mod body;
mod call;
mod callbacks;
mod channel_pre_auths;
mod client_address;
mod codes;
mod connection;
mod console;
mod context;
mod counted;
mod docs;
mod document;
mod edge;
mod envelope;
mod error;
mod events;
mod exports;
mod field_messages;
mod handshakes;
mod idempotency;
mod in_flight;
mod json;
mod language;
mod limit_headers;
mod limits;
mod merchant;
mod messages;
mod numbers;
mod open;
mod payments;
mod pre_auths;
mod query;
mod quotes;
mod refunds;
mod render;
mod request_id;
mod routes;
mod server;
mod stream;
mod tls;
mod webhook_jobs;
mod webhooks;
mod worth;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::Gateway;
use crate::gateway::addresses::Listener;

pub use document::{Part as DocumentPart, openapi_document, openapi_document_of};

use admin::AdminHandler;
use document::Documents;
use edge::{Edge, EdgeBounds, Handler};
use merchant::MerchantHandler;
use server::ListenerSettings;
use tls::TlsEntrance;

/// Both listeners, serving.
#[derive(Debug)]
pub struct Api {
    listeners: TaskTracker,
}

impl Api {
    /// Serves `gateway` on two bound listeners until `shutdown` is cancelled. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address of the operator's listener can't be read, or TLS can't be set up.
    pub fn start(
        gateway: Gateway,
        listener: TcpListener,
        admin_listener: TcpListener,
        shutdown: CancellationToken,
    ) -> std::io::Result<Self> {
        let documents = Arc::new(Documents::default());
        let admin_handler = AdminHandler::new(gateway.clone(), admin_listener.local_addr()?, Arc::clone(&documents));
        let merchant_handler = MerchantHandler::new(gateway.clone(), documents);
        let listeners = TaskTracker::new();
        let entrance =
            |listener| TlsEntrance::of(&gateway, listener).map_err(|error| std::io::Error::other(error.to_string()));
        let (tls, admin_tls) = (entrance(Listener::Merchants)?, entrance(Listener::Operator)?);
        serve(&listeners, &gateway, merchant_handler, "merchant", (listener, tls), shutdown.clone());
        serve(&listeners, &gateway, admin_handler, "admin", (admin_listener, admin_tls), shutdown.clone());
        // So that whoever still asks is told to go elsewhere, and everything that stops shares one deadline.
        listeners.spawn(async move {
            shutdown.cancelled().await;
            gateway.begin_stopping();
        });
        listeners.close();
        Ok(Self { listeners })
    }

    /// Ready when shutdown was asked for and the last connection is closed, which takes at most the drain timeout.
    pub async fn drained(&self) {
        self.listeners.wait().await;
    }
}

fn serve<H: Handler>(
    listeners: &TaskTracker,
    gateway: &Gateway,
    handler: H,
    listener_name: &'static str,
    (listener, tls): (TcpListener, Option<TlsEntrance>),
    shutdown: CancellationToken,
) {
    let config = &gateway.config().server;
    let clock = gateway.clock().clone();
    let listed = handler.routes().into_iter().map(|(verb, route)| (verb.as_str(), route));
    let figures = gateway.request_figures().of_listener(listener_name, listed);
    let around = (clock.clone(), gateway.traces().clone());
    let edge = Edge::new(handler, listener_name, around, EdgeBounds::of(config), shutdown.clone()).counted(figures);
    let edge = if tls.is_some() { edge.over_tls(config.tls_hsts_max_age_s) } else { edge };
    let settings = ListenerSettings::of(config);
    listeners.spawn(server::serve(listener, tls, Arc::new(edge), settings, clock, shutdown));
}
