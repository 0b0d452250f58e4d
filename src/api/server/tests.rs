//! The bounds of a listener, over real sockets and on virtual time.

mod streams;

use axum::http::Method;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinHandle;

use super::*;
use crate::api::body::BodyBounds;
use crate::api::context::RequestContext;
use crate::api::edge::{Edge, EdgeBounds, Handler};
use crate::api::envelope::{Answer, Outcome};
use crate::api::error::ApiError;
use crate::domain::limit::shedding::Worth;
use crate::domain::time::Timestamp;
use crate::telemetry::Traces;

/// Parts of a stream that a test has ready.
const FED_MAX: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(50);
const STREAM_TIMEOUT: Duration = Duration::from_secs(3_600);
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
const BODY_BYTES_MAX: usize = 64 * 1024;
const SETTINGS: ListenerSettings = ListenerSettings {
    head_max_bytes: 16 * 1024,
    head_timeout: HEAD_TIMEOUT,
    idle_timeout: IDLE_TIMEOUT,
    write_timeout: HEAD_TIMEOUT,
    stall_timeout: STALL_TIMEOUT,
    connections_max: 8,
    drain_timeout: DRAIN_TIMEOUT,
};
/// More than the buffers of two sockets hold.
const BIG_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A site without a gateway behind it.
#[derive(Clone)]
struct Rooms {
    entered: Arc<Notify>,
    release: Arc<Notify>,
    bodies: Arc<BodyBounds>,
    /// Refused because too many were worked on.
    full: Arc<Mutex<Vec<Worth>>>,
    /// A body is being read.
    reading: Arc<Notify>,
    feed: streams::Feed,
}

impl Handler for Rooms {
    type Read = (String, Bytes);

    fn worth(&self, _method: &Method, path: &str) -> Option<Worth> {
        Worth::ALL.into_iter().find(|worth| path.ends_with(worth.as_str()))
    }

    fn note_full(&self, worth: Option<Worth>) {
        self.full.lock().extend(worth);
    }

    async fn read(&self, context: &Arc<RequestContext>, request: Request<Incoming>) -> Result<Self::Read, ApiError> {
        let (head, body) = request.into_parts();
        let path = String::from(head.uri.path());
        if path != "/body" {
            return Ok((path, Bytes::new()));
        }
        self.reading.notify_one();
        Ok((path, self.bodies.read(&head.headers, body, context).await?))
    }

    async fn handle(&self, _context: &Arc<RequestContext>, (path, body): (String, Bytes)) -> Outcome {
        match path.as_str() {
            path if path.starts_with("/waits") => {
                self.entered.notify_one();
                self.release.notified().await;
            }
            "/never" => std::future::pending().await,
            "/panics" => panic!("on purpose"),
            "/big" => return Ok(Answer::document(Bytes::from(vec![b' '; BIG_ANSWER_BYTES]))),
            "/body" => return Ok(Answer::document(Bytes::from(body.len().to_string()))),
            path if path.starts_with("/stream/") => return Ok(streams::answer(path, &self.feed)),
            path if path.starts_with("/ok") => {}
            "/healthz" => {}
            _ => return Err(ApiError::PathNotFound),
        }
        Ok(Answer::document(Bytes::from_static(b"{}")))
    }
}

/// A server on a port of its own.
struct Running {
    address: SocketAddr,
    clock: Clock,
    rooms: Rooms,
    /// What streams say next.
    feeder: Sender<Bytes>,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start(settings: ListenerSettings, requests_in_flight_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock = Clock::virtual_from(Timestamp::from_unix_s(1_700_000_000));
        let bodies = Arc::new(BodyBounds::new(BODY_BYTES_MAX, HEAD_TIMEOUT, requests_in_flight_max));
        let (feeder, feed) = channel(FED_MAX);
        let rooms = Rooms {
            entered: Arc::default(),
            release: Arc::default(),
            bodies,
            full: Arc::default(),
            reading: Arc::default(),
            feed: Arc::new(tokio::sync::Mutex::new(feed)),
        };
        let bounds = EdgeBounds {
            requests_in_flight_max,
            request_timeout: REQUEST_TIMEOUT,
            streams_max: 2,
            stream_timeout: STREAM_TIMEOUT,
        };
        let stopping = CancellationToken::new();
        let edge = Edge::new(rooms.clone(), "test", (clock.clone(), Traces::off()), bounds, stopping.clone());
        let serving = tokio::spawn(serve(listener, None, Arc::new(edge), settings, clock.clone(), stopping.clone()));
        Self { address, clock, rooms, feeder, stopping, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request on a connection of its own and reads the answer.
    async fn get(&self, path: &str) -> Reply {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await
    }

    async fn exchange(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        Reply::read_to_end(&mut stream).await
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Reply {
    head: String,
    body: String,
}

impl Reply {
    async fn read_to_end(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Self::split(String::from_utf8(bytes).unwrap())
    }

    /// Reads one answer whose body is `{}` and leaves the connection open.
    async fn read_one(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"{}") {
            bytes.push(stream.read_u8().await.unwrap());
        }
        Self::split(String::from_utf8(bytes).unwrap())
    }

    fn split(text: String) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        Self { head: head.to_ascii_lowercase(), body: String::from(body) }
    }

    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        String::from(body["code"].as_str().unwrap())
    }

    fn has_header(&self, name: &str) -> bool {
        self.head.lines().any(|line| line.starts_with(&format!("{name}:")))
    }
}

const OK_KEPT: &[u8] = b"GET /ok HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\n\r\n";

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let server = Running::start(SETTINGS, 8).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(OK_KEPT).await.unwrap();
        let reply = Reply::read_one(&mut stream).await;
        assert_eq!(reply.status(), 200);
        assert!(reply.head.contains("x-request-id: mine"), "{}", reply.head);
        assert!(!reply.has_header("connection"));
    }
    let missing = server.get("/nothing").await;
    assert_eq!((missing.status(), missing.code().as_str()), (404, "NOT_FOUND"));
    assert!(missing.head.contains("x-request-id: req_"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_closed() {
    let server = Running::start(SETTINGS, 8).await;
    let mut stream = server.connect().await;
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert!(server.clock.monotonic().millis() >= 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let server = Running::start(SETTINGS, 8).await;
    let mut stream = server.connect().await;
    // Each byte on its own would be quick enough.
    for byte in OK_KEPT {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "it was answered");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_longer_than_a_head_may_take_and_then_closed() {
    let server = Running::start(SETTINGS, 8).await;
    let mut stream = server.connect().await;
    stream.write_all(OK_KEPT).await.unwrap();
    Reply::read_one(&mut stream).await;
    let answered_ms = server.clock.monotonic().millis();
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0, "closed in good order");
    let idle = Duration::from_millis(server.clock.monotonic().millis() - answered_ms);
    assert!(idle > HEAD_TIMEOUT && idle >= IDLE_TIMEOUT - SETTINGS.tick(), "{idle:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_its_answer_is_cut_off() {
    let server = Running::start(SETTINGS, 8).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let mut taken = Vec::new();
    let _ = stream.read_to_end(&mut taken).await;
    assert!(taken.len() < BIG_ANSWER_BYTES);
}

#[tokio::test]
async fn a_body_too_large_is_refused_and_the_client_gets_to_see_it() {
    let server = Running::start(SETTINGS, 8).await;
    let body = vec![b'x'; 600_000];
    let declared = format!("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let chunked = format!("POST /body HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len());
    for head in [declared, chunked] {
        // All of it is sent before the answer is looked at.
        let reply = server.exchange(&[head.as_bytes(), &body].concat()).await;
        assert_eq!((reply.status(), reply.code().as_str()), (413, "PAYLOAD_TOO_LARGE"), "{}", reply.head);
        assert!(reply.head.contains("connection: close"));
    }
    let whole = [
        b"POST /body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 65536\r\n\r\n",
        &body[..BODY_BYTES_MAX],
    ]
    .concat();
    assert_eq!(server.exchange(&whole).await.body, "65536");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_answered_408() {
    let server = Running::start(SETTINGS, 8).await;
    let reply = server.exchange(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n12").await;
    assert_eq!((reply.status(), reply.code().as_str()), (408, "REQUEST_TIMEOUT"));
    assert!(reply.head.contains("connection: close"));
}

#[tokio::test]
async fn connections_too_many_are_told_and_room_comes_back() {
    let server = Running::start(ListenerSettings { connections_max: 1, ..SETTINGS }, 8).await;
    let mut first = server.connect().await;
    first.write_all(OK_KEPT).await.unwrap();
    Reply::read_one(&mut first).await;
    let mut surplus = server.connect().await;
    let refused = Reply::read_to_end(&mut surplus).await;
    assert_eq!((refused.status(), refused.code().as_str()), (503, "OVERLOADED"));
    assert!(refused.has_header("retry-after") && refused.has_header("x-request-id"));
    drop(first);
    for _ in 0..1_000 {
        let mut next = server.connect().await;
        // A refused connection may be reset before anything is read.
        let sent = next.write_all(OK_KEPT).await.is_ok();
        let mut status = [0; 12];
        if sent && next.read_exact(&mut status).await.is_ok() && &status == b"HTTP/1.1 200" {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the room did not come back");
}

#[tokio::test]
async fn requests_too_many_are_refused_at_once_but_probes_are_answered() {
    let server = Running::start(SETTINGS, 1).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /waits HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.rooms.entered.notified().await;
    let refused = server.get("/ok").await;
    assert_eq!((refused.status(), refused.code().as_str()), (503, "OVERLOADED"));
    assert!(refused.head.contains("retry-after: 1"));
    assert_eq!(server.get("/healthz").await.status(), 200);
    server.rooms.release.notify_one();
    assert_eq!(Reply::read_one(&mut busy).await.status(), 200);
    assert_eq!(server.get("/ok").await.status(), 200);
}

#[tokio::test]
async fn requests_that_wait_leave_places_to_those_worth_more() {
    let server = Running::start(SETTINGS, 4).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /waits/create HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        server.rooms.entered.notified().await;
        waiting.push(stream);
    }
    for path in ["/ok/list", "/ok/query", "/ok/manage", "/ok/create"] {
        let refused = server.get(path).await;
        assert_eq!((refused.status(), refused.code().as_str()), (503, "OVERLOADED"), "{path}");
    }
    assert_eq!(*server.rooms.full.lock(), [Worth::List, Worth::Query, Worth::Manage, Worth::Create]);
    assert_eq!(server.get("/ok/finish").await.status(), 200);
    assert_eq!(server.get("/ok").await.status(), 200, "an operator's");
    // A body that arrives when there is no place any more.
    let mut late = server.connect().await;
    late.write_all(b"POST /body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nab")
        .await
        .unwrap();
    server.rooms.reading.notified().await;
    let mut finish = server.connect().await;
    finish.write_all(b"GET /waits/finish HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.rooms.entered.notified().await;
    late.write_all(b"c").await.unwrap();
    assert_eq!(Reply::read_to_end(&mut late).await.status(), 503);
    assert_eq!(server.get("/ok/finish").await.status(), 503);
    assert_eq!(server.rooms.full.lock().last(), Some(&Worth::Finish));
    for stream in waiting.iter_mut().chain([&mut finish]) {
        server.rooms.release.notify_one();
        assert_eq!(Reply::read_one(stream).await.status(), 200);
    }
    assert_eq!(server.get("/ok/list").await.status(), 200);
}

#[tokio::test]
async fn many_clients_that_send_slowly_keep_nobody_out() {
    let server = Running::start(ListenerSettings { connections_max: 64, ..SETTINGS }, 2).await;
    let mut slow = Vec::new();
    for length in
        std::iter::repeat_n(["content-length: 200", "content-length: 60000", "transfer-encoding: chunked"], 16)
    {
        for framing in length {
            let mut stream = server.connect().await;
            let head = format!("POST /body HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    for _ in 0..20 {
        assert_eq!(server.get("/ok").await.status(), 200);
        let posted = b"POST /body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(server.exchange(posted).await.body, "3");
    }
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn every_request_is_answered_by_its_deadline() {
    let server = Running::start(SETTINGS, 8).await;
    let read = server.get("/never").await;
    assert_eq!((read.status(), read.code().as_str()), (503, "OVERLOADED"), "a read may be sent again");
    let write =
        server.exchange(b"POST /never HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!((write.status(), write.code().as_str()), (408, "REQUEST_TIMEOUT"), "it may have changed something");
}

#[tokio::test]
async fn a_panic_is_an_internal_error_of_one_request() {
    let server = Running::start(SETTINGS, 1).await;
    for _ in 0..3 {
        let reply = server.get("/panics").await;
        assert_eq!((reply.status(), reply.code().as_str()), (500, "INTERNAL"));
        assert!(!reply.body.contains("purpose"));
    }
    assert_eq!(server.get("/ok").await.status(), 200, "its slot came back");
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way_and_takes_nothing_more() {
    let server = Running::start(SETTINGS, 8).await;
    let mut idle = server.connect().await;
    idle.write_all(OK_KEPT).await.unwrap();
    Reply::read_one(&mut idle).await;
    let mut fresh = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /waits HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.rooms.entered.notified().await;
    server.stopping.cancel();
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0, "closed");
    assert_eq!(fresh.read(&mut [0; 16]).await.unwrap_or(0), 0, "closed");
    assert!(TcpStream::connect(server.address).await.is_err());
    assert!(!server.serving.is_finished());
    server.rooms.release.notify_one();
    let reply = Reply::read_to_end(&mut busy).await;
    assert_eq!(reply.status(), 200);
    server.serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stopping_takes_no_longer_than_the_drain_timeout() {
    let server = Running::start(SETTINGS, 8).await;
    let mut stuck = server.connect().await;
    stuck.write_all(b"GET /waits HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.rooms.entered.notified().await;
    let before_ms = server.clock.monotonic().millis();
    server.stopping.cancel();
    server.serving.await.unwrap();
    let took = Duration::from_millis(server.clock.monotonic().millis() - before_ms);
    assert!(took >= DRAIN_TIMEOUT && took < REQUEST_TIMEOUT, "{took:?}");
    assert_eq!(stuck.read(&mut [0; 16]).await.unwrap_or(0), 0);
}
