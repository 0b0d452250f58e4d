//! A receiver for tests that answers byte for byte what the test says, also what no HTTP server would.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

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
    _accepting: JoinSet<()>,
}

impl Receiver {
    /// Starts it. `script` says how to answer a request, given its number from 0.
    pub(crate) async fn start(script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let script: Script = Arc::new(script);
        let mut accepting = JoinSet::new();
        let (log, count) = (Arc::clone(&received), Arc::clone(&connections));
        accepting.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve(stream, Arc::clone(&log), Arc::clone(&script)));
            }
        });
        Self { url, received, connections, _accepting: accepting }
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

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Vec<Received>>>, script: Script) {
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
            Reply::Hang => std::future::pending().await,
            Reply::Close => return,
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Received> {
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
