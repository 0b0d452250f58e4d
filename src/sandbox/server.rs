//! The socket of one emulator. It can go down, so that connecting is refused and open connections break, and come up
//! again on the same port; and an answer can be withheld by closing its connection.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::sandbox::ledger::LedgerEntry;

/// Largest body of a request.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Connections open at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;

/// A request as an emulator sees it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Path without the query, as sent.
    pub(super) path: String,
    /// Parameters of the query in order, decoded.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    /// The body read as a form.
    pub(super) fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What becomes of a request.
pub(super) enum Outcome {
    /// It is answered.
    Answer(Response<Full<Bytes>>),
    /// Its connection is closed with no byte sent.
    Cut,
}

/// Answers requests.
pub(super) trait Emulator: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, call: Call) -> Pin<Box<dyn Future<Output = Outcome> + Send + '_>>;

    /// Lets everything happen that should have happened by now, and tells it.
    fn catch_up(&self);

    /// What it did with money, in order.
    fn ledger(&self) -> Vec<LedgerEntry>;
}

/// An answer with a status and a body. Headers are added by whoever wants them.
pub(super) fn answer(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// A port of its own on loopback, with an emulator behind it.
pub(super) struct Server {
    address: SocketAddr,
    emulator: Arc<dyn Emulator>,
    state: Mutex<State>,
}

enum State {
    /// Listening.
    Up { stop: CancellationToken, tasks: TaskTracker },
    /// Not listening. The port stays bound, so that nobody else gets it, and refuses connections.
    Down { reserved: TcpSocket },
    /// For good.
    Stopped,
}

impl Server {
    /// Listens on a free loopback port, or only reserves it.
    ///
    /// # Errors
    /// When no port can be had.
    pub(super) fn start(emulator: Arc<dyn Emulator>, down: bool) -> io::Result<Self> {
        let reserved = reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr()?;
        let state = if down { State::Down { reserved } } else { listen(reserved, &emulator)? };
        Ok(Self { address, emulator, state: Mutex::new(state) })
    }

    /// Where it listens, or would.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Goes down or comes up; does nothing if it is there already. When it returns, it is so.
    ///
    /// # Errors
    /// When the port can't be listened on any more.
    pub(super) async fn set_down(&self, down: bool) -> io::Result<()> {
        let mut state = self.state.lock().await;
        *state = match (std::mem::replace(&mut *state, State::Stopped), down) {
            (State::Up { stop, tasks }, true) => {
                close(&stop, &tasks).await;
                State::Down { reserved: reserve(self.address)? }
            }
            (State::Down { reserved }, false) => listen(reserved, &self.emulator)?,
            (unchanged, _) => unchanged,
        };
        Ok(())
    }

    /// Closes the socket and every connection, for good.
    pub(super) async fn stop(&self) {
        let mut state = self.state.lock().await;
        if let State::Up { stop, tasks } = std::mem::replace(&mut *state, State::Stopped) {
            close(&stop, &tasks).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let State::Up { stop, .. } = self.state.get_mut() {
            stop.cancel();
        }
    }
}

async fn close(stop: &CancellationToken, tasks: &TaskTracker) {
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(reserved: TcpSocket, emulator: &Arc<dyn Emulator>) -> io::Result<State> {
    let listener = reserved.listen(BACKLOG)?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(accept(listener, Arc::clone(emulator), stop.clone(), tasks.clone()));
    Ok(State::Up { stop, tasks })
}

async fn accept(listener: TcpListener, emulator: Arc<dyn Emulator>, stop: CancellationToken, tasks: TaskTracker) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let permit = Arc::clone(&connections).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, connection) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = accepted => accepted,
        };
        let Ok((stream, _)) = connection else {
            // Out of file descriptors, most likely: others have to be closed first.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let (emulator, stop) = (Arc::clone(&emulator), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = serve(stream, emulator) => {}
            }
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, emulator: Arc<dyn Emulator>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let emulator = Arc::clone(&emulator);
        async move {
            let call = read(request).await?;
            match emulator.handle(call).await {
                Outcome::Answer(response) => Ok(response),
                // An error in place of an answer makes hyper close the connection without writing anything.
                Outcome::Cut => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            }
        }
    });
    // Its error is that the peer went away or that it was cut; neither is ours to report.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn read(request: Request<Incoming>) -> io::Result<Call> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?.to_bytes();
    let query = head.uri.query().unwrap_or_default();
    Ok(Call {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: head.headers,
        body,
    })
}
