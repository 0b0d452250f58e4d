//! TLS of our own: what happens between a connection and its first request.
//!
//! A client that has sent nothing holds its connection and no more, as with plain HTTP. From its first byte on it takes a
//! place among the handshakes, of which one client has a share only, and which it loses to others when all are taken
//! (`handshakes.rs`); so that slow ones keep nobody else out. All of it ends at one deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::api::connection::linger;
use crate::api::handshakes::Handshakes;
use crate::gateway::Gateway;
use crate::gateway::addresses::Listener;
use crate::gateway::certificates::{Handshake, ListenerCertificate};
use crate::gateway::error::GatewayError;

/// The first byte of every TLS connection: a record of a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// The entrance of a listener that speaks TLS.
pub(crate) struct TlsEntrance {
    acceptor: TlsAcceptor,
    certificate: Arc<ListenerCertificate>,
    timeout: Duration,
    handshakes: Handshakes,
    gateway: Gateway,
    listener: Listener,
}

impl TlsEntrance {
    /// The entrance of one of the gateway's listeners; `None` when that speaks plain HTTP.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when TLS can't be set up.
    pub(crate) fn of(gateway: &Gateway, listener: Listener) -> Result<Option<Self>, GatewayError> {
        let Some(certificate) = gateway.certificate(listener) else { return Ok(None) };
        let config = &gateway.config().server;
        Ok(Some(Self {
            acceptor: TlsAcceptor::from(certificate.server_config()?),
            certificate: Arc::clone(certificate),
            timeout: Duration::from_millis(config.tls_handshake_timeout_ms),
            handshakes: Handshakes::new(config.tls_handshakes_max, gateway.clock().clone()),
            gateway: gateway.clone(),
            listener,
        }))
    }

    /// Shakes hands; `None` when nothing came of it, and the connection is closed. Who speaks plain HTTP is answered with
    /// `refusal`.
    pub(crate) async fn enter(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        refusal: impl FnOnce() -> Bytes,
    ) -> Option<TlsStream<TcpStream>> {
        let entered = tokio::time::timeout(self.timeout, self.shake_hands(stream, peer, refusal)).await;
        let (handshake, stream) = entered.unwrap_or((Some(Handshake::TimedOut), None));
        if let Some(handshake) = handshake {
            self.certificate.note(handshake);
            if handshake != Handshake::Done {
                tracing::debug!(%peer, ?handshake, "a client did not get through the TLS handshake");
            }
        }
        stream
    }

    /// What became of it, unless nothing was begun, and the connection if it can be used.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        refusal: impl FnOnce() -> Bytes,
    ) -> (Option<Handshake>, Option<TlsStream<TcpStream>>) {
        let mut first = [0];
        match stream.peek(&mut first).await {
            // Somebody who looks whether there is anybody, such as a load balancer.
            Ok(0) | Err(_) => return (None, None),
            Ok(_) if first[0] != HANDSHAKE_RECORD => {
                refuse(stream, &refusal()).await;
                return (Some(Handshake::NotTls), None);
            }
            Ok(_) => {}
        }
        // Whose connections a balancer hands on is not known yet; where its network is exempt or trusted, it has no share.
        let sender = self.gateway.addresses().sender(self.listener, peer, std::iter::empty(), || false);
        let Some(place) = self.handshakes.take(sender.network).await else { return (Some(Handshake::Refused), None) };
        let accepted = tokio::select! {
            biased;
            accepted = self.acceptor.accept(stream) => accepted,
            () = place.taken_away() => return (Some(Handshake::GaveWay), None),
        };
        match accepted {
            Ok(stream) => (Some(Handshake::Done), Some(stream)),
            Err(error) => {
                tracing::debug!(%peer, %error, "a TLS handshake failed");
                (Some(Handshake::Failed), None)
            }
        }
    }
}

/// Says in plain HTTP what is spoken here, and reads what the client is still sending, so that it gets to see it.
async fn refuse(mut stream: TcpStream, refusal: &[u8]) {
    if stream.write_all(refusal).await.is_ok() {
        linger(stream).await;
    }
}
