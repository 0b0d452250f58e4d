//! One connection: HTTP/1.1 with a bound on everything that a client can be slow with. Hyper's own timeout for heads
//! runs between requests too and would close idle connections with it, and nothing in hyper bounds how long a client
//! may take to read; so each connection has a phase here, and one timer that looks at it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response, header};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::api::server::{ListenerSettings, Site};
use crate::api::stream::{ResponseBody, StreamFailed};
use crate::clock::Clock;

/// How long, and for how many bytes, a closed connection is still read, so that a client that is sending gets to see
/// the answer instead of a reset.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1 << 20;
/// Of a stream a client has to take so much within the bound on stalling, while more waits for it.
const STREAM_PROGRESS_BYTES: usize = 16 * 1024;
/// The smallest buffer that hyper takes.
const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Connected, and nothing has arrived yet.
    Fresh,
    /// Between two requests.
    Idle,
    /// A head is on its way.
    Head,
    /// A request is being worked on; its own bounds hold.
    Busy,
    /// The answer is being written.
    Answering,
    /// The answer is being made and written.
    Streaming,
}

/// The phase and when it began, written by the connection's own task and read by its timer.
#[derive(Debug)]
struct Activity {
    clock: Clock,
    phase: AtomicU64,
    since_ms: AtomicU64,
    /// While streaming: whether something waits for the client, since when (`since_ms`), and what it took of it.
    waits: AtomicBool,
    taken_bytes: AtomicUsize,
    /// Whether the connection is being closed by us while the client may still be sending.
    lingers: AtomicBool,
}

impl Activity {
    fn new(clock: Clock) -> Self {
        let since_ms = AtomicU64::new(clock.monotonic().millis());
        Self {
            clock,
            phase: AtomicU64::new(Phase::Fresh as u64),
            since_ms,
            waits: AtomicBool::new(false),
            taken_bytes: AtomicUsize::new(0),
            lingers: AtomicBool::new(false),
        }
    }

    fn enter(&self, phase: Phase) {
        self.since_ms.store(self.clock.monotonic().millis(), Ordering::Relaxed);
        self.phase.store(phase as u64, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        const PHASES: [Phase; 6] =
            [Phase::Fresh, Phase::Idle, Phase::Head, Phase::Busy, Phase::Answering, Phase::Streaming];
        let stored = usize::try_from(self.phase.load(Ordering::Relaxed)).unwrap_or(0);
        PHASES.get(stored).copied().unwrap_or(Phase::Fresh)
    }

    /// Notes that a part of a stream was offered to the client, and how much of it was taken.
    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        if self.phase() != Phase::Streaming {
            return;
        }
        if !self.waits.swap(true, Ordering::Relaxed) {
            self.begin_waiting();
        }
        let taken_bytes = match written {
            Poll::Ready(Ok(bytes)) => *bytes,
            _ => 0,
        };
        if self.taken_bytes.fetch_add(taken_bytes, Ordering::Relaxed) + taken_bytes >= STREAM_PROGRESS_BYTES {
            self.begin_waiting();
        }
    }

    fn begin_waiting(&self) {
        self.since_ms.store(self.clock.monotonic().millis(), Ordering::Relaxed);
        self.taken_bytes.store(0, Ordering::Relaxed);
    }

    /// Notes that the client has everything there is.
    fn flushed(&self) {
        match self.phase() {
            Phase::Answering => self.enter(Phase::Idle),
            Phase::Streaming => self.waits.store(false, Ordering::Relaxed),
            _ => {}
        }
    }

    /// The phase, if it has lasted too long.
    fn overdue(&self, settings: &ListenerSettings) -> Option<Phase> {
        let phase = self.phase();
        let bound = match phase {
            Phase::Idle => settings.idle_timeout,
            Phase::Fresh | Phase::Head => settings.head_timeout,
            Phase::Busy => return None,
            Phase::Answering => settings.write_timeout,
            Phase::Streaming if !self.waits.load(Ordering::Relaxed) => return None,
            Phase::Streaming => settings.stall_timeout,
        };
        let lasted_ms = self.clock.monotonic().millis().saturating_sub(self.since_ms.load(Ordering::Relaxed));
        (Duration::from_millis(lasted_ms) >= bound).then_some(phase)
    }
}

/// What bytes come and go over: a connection, or TLS over one.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The connection itself.
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for Box<TlsStream<TcpStream>> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve<S: Site>(
    stream: impl Stream,
    peer: SocketAddr,
    site: Arc<S>,
    settings: ListenerSettings,
    clock: Clock,
    stopping: CancellationToken,
    cut: CancellationToken,
) {
    let activity = Arc::new(Activity::new(clock));
    let io = TokioIo::new(WatchedStream { stream, activity: Arc::clone(&activity) });
    let watched = Arc::clone(&activity);
    let service = service_fn(move |request| {
        Box::pin(answer(Arc::clone(&site), Arc::clone(&watched), request, peer)) as AnswerFuture
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(settings.head_max_bytes.max(BUFFER_BYTES_MIN))
        .serve_connection(io, service);
    let mut is_stopping = false;
    loop {
        let finished = tokio::select! {
            result = std::future::poll_fn(|task| connection.poll_without_shutdown(task)) => Some(result),
            () = stopping.cancelled(), if !is_stopping => None,
            () = cut.cancelled() => break,
            () = tokio::time::sleep(settings.tick()) => match activity.overdue(&settings) {
                None => continue,
                // Nothing is under way: close in good order.
                Some(Phase::Idle) => None,
                Some(phase) => {
                    tracing::debug!(%peer, ?phase, "a slow client was cut off");
                    break;
                }
            },
        };
        match finished {
            // Hyper would wait for a first request here.
            None if activity.phase() == Phase::Fresh => return,
            None => {
                is_stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            Some(Ok(())) if activity.lingers.load(Ordering::Relaxed) => {
                let stream = connection.into_parts().io.into_inner().stream;
                tokio::select! { () = linger(stream) => {}, () = cut.cancelled() => {} }
                return;
            }
            // TLS says that it ends; without that a client can't tell whether somebody has cut it off.
            Some(Ok(())) if activity.phase() != Phase::Streaming => {
                let mut stream = connection.into_parts().io.into_inner().stream;
                let ended = tokio::time::timeout(LINGER_TIMEOUT, stream.shutdown());
                tokio::select! { _ = ended => {}, () = cut.cancelled() => {} }
                return;
            }
            // Broken connections are the client's business; there is nobody left to tell.
            Some(_) => break,
        }
    }
    if activity.phase() == Phase::Streaming {
        // To a client that speaks HTTP/1.0, such as a proxy, a connection that is closed in good order is the end of the
        // body: a part would be taken for the whole.
        let _ = connection.into_parts().io.into_inner().stream.tcp().set_zero_linger();
    }
}

type AnswerFuture = Pin<Box<dyn Future<Output = Result<Response<WatchedBody>, Infallible>> + Send>>;

async fn answer<S: Site>(
    site: Arc<S>,
    activity: Arc<Activity>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<WatchedBody>, Infallible> {
    activity.enter(Phase::Busy);
    let response = site.answer(request, peer).await;
    if response.headers().contains_key(header::CONNECTION) {
        activity.lingers.store(true, Ordering::Relaxed);
    }
    let is_stream = response.body().is_stream();
    activity.enter(if is_stream { Phase::Streaming } else { Phase::Answering });
    let streaming = is_stream.then_some(activity);
    Ok(response.map(|body| WatchedBody { body, streaming }))
}

/// A body that notes when the last of a stream has been made.
struct WatchedBody {
    body: ResponseBody,
    /// Of the connection, for a stream.
    streaming: Option<Arc<Activity>>,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = StreamFailed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamFailed>>> {
        let polled = Pin::new(&mut self.body).poll_frame(task);
        if let (Poll::Ready(None), Some(activity)) = (&polled, &self.streaming) {
            activity.enter(Phase::Answering);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends our side and reads what the client is still sending, within bounds: closing with unread bytes would reset the
/// connection and could take the answer with it.
pub(crate) async fn linger(mut stream: impl Stream) {
    let reading = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut buffer = [0_u8; 4096];
        let mut read_bytes = 0;
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            read_bytes += count;
            if read_bytes > LINGER_BYTES_MAX {
                return;
            }
        }
    };
    // Whether it ended by itself or was cut makes no difference.
    let _ = tokio::time::timeout(LINGER_TIMEOUT, reading).await;
}

/// A stream that notes when a head begins to arrive and when an answer has been written.
struct WatchedStream<T> {
    stream: T,
    activity: Arc<Activity>,
}

impl<T: Stream> AsyncRead for WatchedStream<T> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(task, buffer);
        if buffer.filled().len() > before && matches!(self.activity.phase(), Phase::Fresh | Phase::Idle) {
            self.activity.enter(Phase::Head);
        }
        read
    }
}

impl<T: Stream> AsyncWrite for WatchedStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.activity.note_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(task, slices);
        self.activity.note_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for once everything before it has been written.
    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(task);
        if flushed.is_ready() {
            self.activity.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
