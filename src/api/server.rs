//! Listening: a loop of our own that accepts a bounded number of connections, refuses more, and stops in good order.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::connection;
use crate::api::stream::ResponseBody;
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

/// Serves `site` until `stopping` is cancelled; then accepts no more, lets requests under way finish within the drain
/// timeout, and cuts off what is left.
pub(crate) async fn serve<S: Site>(
    listener: TcpListener,
    site: Arc<S>,
    settings: ListenerSettings,
    clock: Clock,
    stopping: CancellationToken,
) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS)));
    let cut = CancellationToken::new();
    while let Some((stream, peer)) = accept(&listener, &stopping).await {
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            refuse(&stream, &site.refusal());
            continue;
        };
        // Answers are written whole; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let serving =
            connection::serve(stream, peer, Arc::clone(&site), settings, clock.clone(), stopping.clone(), cut.clone());
        let counted = site.connected();
        connections.spawn(async move {
            serving.await;
            drop((slot, counted));
        });
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
