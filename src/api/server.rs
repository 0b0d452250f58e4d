//! Listening: a loop of our own that accepts a bounded number of connections, refuses more, and stops in good order.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::connection;
use crate::api::stream::ResponseBody;
use crate::api::tls::TlsEntrance;
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::gateway::request_figures::OpenConnection;

/// How long accepting rests when the process has no file descriptors left; those in use come back in the meantime.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The timer of a connection looks this often within the shortest of its bounds, so that a client is cut off at most a
/// quarter late.
const TICKS_PER_BOUND: u32 = 4;
const TICK_MIN: Duration = Duration::from_millis(10);

/// What a listener leads to.
pub(crate) trait Site: Send + Sync + 'static {
    /// Answers one request; never fails.
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<ResponseBody>> + Send;

    /// Counts a connection for as long as what it gives is kept.
    fn connected(&self) -> Option<OpenConnection> {
        None
    }

    /// The bytes sent to a connection too many, which it counts.
    fn refusal(&self) -> Bytes;

    /// The bytes sent to who speaks plain HTTP where TLS is spoken.
    fn refusal_without_tls(&self) -> Bytes;
}

/// The bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerSettings {
    /// Largest head, at least 8 KiB.
    pub(crate) head_max_bytes: usize,
    /// A head must have arrived this long after its first byte, the first one this long after connecting.
    pub(crate) head_timeout: Duration,
    /// A connection without a request is closed after this.
    pub(crate) idle_timeout: Duration,
    /// An answer must have been taken by then.
    pub(crate) write_timeout: Duration,
    /// A client that takes next to nothing of a stream for so long is cut off.
    pub(crate) stall_timeout: Duration,
    /// Connections at once.
    pub(crate) connections_max: usize,
    /// How long stopping waits for requests under way.
    pub(crate) drain_timeout: Duration,
}

impl ListenerSettings {
    /// The bounds that the configuration names. A client gets as long to take an answer as to send a body.
    pub(crate) fn of(config: &ServerConfig) -> Self {
        Self {
            head_max_bytes: config.head_max_bytes,
            head_timeout: Duration::from_millis(config.header_timeout_ms),
            idle_timeout: Duration::from_millis(config.idle_timeout_ms),
            write_timeout: Duration::from_millis(config.body_timeout_ms),
            stall_timeout: Duration::from_millis(config.stream_stall_timeout_ms),
            connections_max: config.connections_max,
            drain_timeout: Duration::from_millis(config.drain_timeout_ms),
        }
    }

    /// How often a connection's phase is looked at.
    pub(crate) fn tick(&self) -> Duration {
        let shortest = self.head_timeout.min(self.idle_timeout).min(self.write_timeout).min(self.stall_timeout);
        (shortest / TICKS_PER_BOUND).max(TICK_MIN)
    }
}

/// Serves `site`, over TLS where there is an entrance for that, until `stopping` is cancelled; then accepts no more, lets requests under way finish within the drain
/// timeout, and cuts off what is left.
pub(crate) async fn serve<S: Site>(
    listener: TcpListener,
    tls: Option<TlsEntrance>,
    site: Arc<S>,
    settings: ListenerSettings,
    clock: Clock,
    stopping: CancellationToken,
) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS)));
    let cut = CancellationToken::new();
    let tls = tls.map(Arc::new);
    while let Some((stream, peer)) = accept(&listener, &stopping).await {
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            let refusal = site.refusal();
            // Where TLS is spoken nobody would understand it.
            if tls.is_none() {
                refuse(&stream, &refusal);
            }
            continue;
        };
        // Answers are written whole; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let (site, clock) = (Arc::clone(&site), clock.clone());
        let (stopping, cut) = (stopping.clone(), cut.clone());
        let counted = site.connected();
        match &tls {
            None => {
                let serving = connection::serve(stream, peer, site, settings, clock, stopping, cut);
                connections.spawn(async move {
                    serving.await;
                    drop((slot, counted));
                });
            }
            Some(tls) => {
                let tls = Arc::clone(tls);
                connections.spawn(async move {
                    // Nothing is under way yet, so stopping does not wait for it.
                    let entered = stopping.run_until_cancelled(enter(&tls, stream, peer, site.as_ref())).await;
                    if let Some(stream) = entered.flatten() {
                        connection::serve(stream, peer, site, settings, clock, stopping, cut).await;
                    }
                    drop((slot, counted));
                });
            }
        }
    }
    // From here on connecting is refused.
    drop(listener);
    connections.close();
    if tokio::time::timeout(settings.drain_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections were cut off at the end of the drain timeout");
        cut.cancel();
        connections.wait().await;
    }
}

/// What is left of a connection after its handshake.
type Entered = Option<Box<TlsStream<TcpStream>>>;

/// Boxed, so that connections do not keep room for their handshakes.
fn enter<'a, S: Site>(
    tls: &'a TlsEntrance,
    stream: TcpStream,
    peer: SocketAddr,
    site: &'a S,
) -> Pin<Box<dyn Future<Output = Entered> + Send + 'a>> {
    Box::pin(async move { tls.enter(stream, peer, || site.refusal_without_tls()).await.map(Box::new) })
}

/// The next connection; `None` when it is time to stop.
async fn accept(listener: &TcpListener, stopping: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => return Some(connection),
            Err(error) if is_of_the_connection(error.kind()) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether only the connection being accepted has failed, not accepting.
fn is_of_the_connection(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Says why and hangs up, without ever waiting for the client: a fresh connection has room for so little.
fn refuse(stream: &TcpStream, refusal: &[u8]) {
    let _ = stream.try_write(refusal);
}

#[cfg(test)]
mod tests;
