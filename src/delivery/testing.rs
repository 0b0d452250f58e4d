//! A receiver for tests that answers byte for byte what the test says, also what no HTTP server would.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Request line and headers.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: String,
}

impl Received {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.lines().skip(1).filter_map(|line| line.split_once(": "))
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answer this and keep the connection.
    Bytes(Vec<u8>),
    /// Answer this, then byte after byte of nothing useful without end.
    ThenDrip(Vec<u8>),
    /// Answer this, then the same nothing as fast as it is taken, without end.
    ThenFlood(Vec<u8>),
    /// Send this again and again, as fast as it is taken, without end.
    Flood(Vec<u8>),
    /// Answer this and close the connection.
    ThenClose(Vec<u8>),
    /// Answer this after so long.
    After(Duration, Vec<u8>),
    /// Never answer.
    Hang,
    /// Close the connection.
    Close,
}

/// An answer with a status, further header lines and a body.
pub(crate) fn reply(status: u16, header_lines: &str, body: &[u8]) -> Reply {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{header_lines}\r\n", body.len());
    Reply::Bytes([head.as_bytes(), body].concat())
}

type Script = Arc<dyn Fn(usize, &Received) -> Reply + Send + Sync>;

/// A receiver on a free port of 127.0.0.1; dropping it closes everything.
pub(crate) struct Receiver {
    /// Where it is.
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl Receiver {
    /// Starts it. `script` says how to answer a request, given its number from 0.
    pub(crate) async fn start(script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, script).await
    }

    /// Starts one that speaks TLS.
    pub(crate) async fn start_tls(
        config: rustls::ServerConfig,
        script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config))), script).await
    }

    async fn start_with(
        tls: Option<TlsAcceptor>,
        script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/hook", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(AtomicUsize::new(0));
        let script: Script = Arc::new(script);
        let mut accepting = JoinSet::new();
        let (log, count, now_open) = (Arc::clone(&received), Arc::clone(&connections), Arc::clone(&open));
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                now_open.fetch_add(1, Ordering::SeqCst);
                let (log, script, now_open) = (Arc::clone(&log), Arc::clone(&script), Arc::clone(&now_open));
                let tls = tls.clone();
                serving.spawn(async move {
                    match tls {
                        None => serve(stream, log, script).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, log, script).await;
                            }
                        }
                    }
                    now_open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, received, connections, open, _accepting: accepting }
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// All requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have come.
    pub(crate) async fn wait_for(&self, requests: usize) -> Vec<Received> {
        eventually(|| Some(self.received()).filter(|received| received.len() >= requests)).await
    }
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..4_000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen");
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, log: Arc<Mutex<Vec<Received>>>, script: Script) {
    while let Some(request) = read_request(&mut stream).await {
        let number = {
            let mut log = log.lock();
            log.push(request.clone());
            log.len() - 1
        };
        match script(number, &request) {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::ThenDrip(bytes) => {
                let _ = stream.write_all(&bytes).await;
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Reply::ThenFlood(bytes) => {
                let _ = stream.write_all(&bytes).await;
                while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
                return;
            }
            Reply::Flood(bytes) => {
                let bytes = bytes.repeat(1_000);
                while stream.write_all(&bytes).await.is_ok() {}
                return;
            }
            Reply::ThenClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::After(wait, bytes) => {
                tokio::time::sleep(wait).await;
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Hang => std::future::pending().await,
            Reply::Close => return,
        }
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Received> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
            let mut request = Received { head, body: String::new() };
            let length: usize = request.header("content-length").unwrap().parse().unwrap();
            let body = bytes.get(head_end + 4..head_end + 4 + length);
            if let Some(body) = body {
                request.body = String::from_utf8(body.to_vec()).unwrap();
                return Some(request);
            }
        }
        let mut buffer = [0_u8; 4_096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}
