//! Answers that are made while they are sent, over real sockets and on virtual time.

use futures_util::stream;

use super::*;
use crate::api::stream::{StreamFailed, StreamKind};

/// How a chunked body says that it is whole.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What the streams of a test say; nothing ends one.
pub(super) type Feed = Arc<tokio::sync::Mutex<tokio::sync::mpsc::Receiver<Bytes>>>;

/// The answer of a path below `/stream`.
pub(super) fn answer(path: &str, feed: &Feed) -> Answer {
    let kind = if path.ends_with("live") { StreamKind::Live } else { StreamKind::Download };
    let content_type = axum::http::HeaderValue::from_static("text/plain");
    match path {
        "/stream/endless" | "/stream/endless/live" => {
            Answer::stream(content_type, kind, stream::repeat(Ok(Bytes::from(vec![b'x'; 64 * 1024]))))
        }
        "/stream/fails" => {
            let parts = [Ok(Bytes::from_static(b"begun")), Err(StreamFailed(String::from("on purpose")))];
            Answer::stream(content_type, kind, stream::iter(parts))
        }
        "/stream/panics" => Answer::stream(content_type, kind, stream::poll_fn(|_| panic!("on purpose"))),
        _ => {
            let next = |feed: Feed| async move {
                let part = feed.lock().await.recv().await.filter(|part| !part.is_empty())?;
                Some((Ok(part), feed))
            };
            Answer::stream(content_type, kind, stream::unfold(Arc::clone(feed), next))
        }
    }
}

impl Running {
    /// Asks for a stream and reads the head of the answer.
    async fn open(&self, path: &str) -> (TcpStream, Reply) {
        let mut connection = self.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(connection.read_u8().await.unwrap());
        }
        (connection, Reply::split(String::from_utf8(bytes).unwrap()))
    }

    fn say(&self, part: &'static str) {
        self.feeder.try_send(Bytes::from_static(part.as_bytes())).unwrap();
    }

    fn end_stream(&self) {
        self.say("");
    }
}

async fn read_exactly(connection: &mut TcpStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    connection.read_exact(&mut bytes).await.unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

/// Everything until the end, and whether that was a closing in good order.
async fn read_rest(connection: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let closed = connection.read_to_end(&mut bytes).await.is_ok();
    (bytes, closed)
}

#[tokio::test]
async fn a_part_arrives_before_the_next_is_made_and_the_connection_stays() {
    let server = Running::start(SETTINGS, 8).await;
    let (mut connection, reply) = server.open("/stream/download").await;
    assert_eq!(reply.status(), 200);
    assert!(reply.head.contains("transfer-encoding: chunked") && reply.has_header("x-request-id"), "{}", reply.head);
    assert!(reply.head.contains("content-type: text/plain") && reply.head.contains("cache-control: no-store"));
    server.say("one");
    read_exactly(&mut connection, "3\r\none\r\n").await;
    server.say("three");
    read_exactly(&mut connection, "5\r\nthree\r\n").await;
    server.end_stream();
    read_exactly(&mut connection, "0\r\n\r\n").await;
    connection.write_all(OK_KEPT).await.unwrap();
    assert_eq!(Reply::read_one(&mut connection).await.status(), 200);
}

#[tokio::test]
async fn a_stream_holds_a_place_of_its_own_and_none_of_a_request() {
    let server = Running::start(SETTINGS, 1).await;
    let (first, _) = server.open("/stream/live").await;
    let (second, reply) = server.open("/stream/live").await;
    assert_eq!(reply.status(), 200, "there are two places");
    let refused = server.get("/stream/live").await;
    assert_eq!((refused.status(), refused.code().as_str()), (503, "OVERLOADED"));
    assert!(refused.head.contains("retry-after: 10"), "{}", refused.head);
    assert_eq!(server.get("/ok").await.status(), 200);
    let (_download, reply) = server.open("/stream/download").await;
    assert_eq!(reply.status(), 200, "downloads have places of their own");
    drop((first, second));
    for _ in 0..10_000 {
        if server.open("/stream/live").await.1.status() == 200 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("a place did not come back when its client went away");
}

#[tokio::test]
async fn nothing_is_made_for_a_head_request() {
    let server = Running::start(SETTINGS, 8).await;
    for _ in 0..4 {
        let reply = server.exchange(b"HEAD /stream/download HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert_eq!((reply.status(), reply.body.as_str()), (200, ""));
    }
    let (mut connection, _) = server.open("/stream/download").await;
    server.say("all of it");
    read_exactly(&mut connection, "9\r\nall of it\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut_off_and_its_place_comes_back() {
    let server = Running::start(SETTINGS, 8).await;
    let mut stuck = Vec::new();
    for _ in 0..2 {
        stuck.push(server.open("/stream/endless").await.0);
    }
    tokio::time::sleep(STALL_TIMEOUT / 2).await;
    assert_eq!(server.get("/stream/endless").await.status(), 503, "they get their time");
    tokio::time::sleep(STALL_TIMEOUT).await;
    assert_eq!(server.open("/stream/download").await.1.status(), 200);
    for mut connection in stuck {
        let (bytes, closed) = read_rest(&mut connection).await;
        assert!(!closed && !bytes.ends_with(LAST_CHUNK), "reset, not closed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_steadily_is_not_cut_off_and_one_with_nothing_to_read_neither() {
    let server = Running::start(SETTINGS, 8).await;
    let (mut steady, _) = server.open("/stream/endless").await;
    let (mut quiet, _) = server.open("/stream/live").await;
    let mut buffer = vec![0; 16 * 1024 * 1024];
    for _ in 0..8 {
        tokio::time::sleep(STALL_TIMEOUT / 2).await;
        steady.read_exact(&mut buffer).await.unwrap();
    }
    tokio::time::sleep(STALL_TIMEOUT / 2).await;
    server.say("news");
    read_exactly(&mut quiet, "4\r\nnews\r\n").await;
    drop(steady);
    tokio::time::sleep(4 * STALL_TIMEOUT).await;
    server.say("more");
    read_exactly(&mut quiet, "4\r\nmore\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn at_the_time_limit_a_live_stream_ends_and_a_download_breaks() {
    let server = Running::start(SETTINGS, 8).await;
    let (mut live, _) = server.open("/stream/live").await;
    let (mut download, _) = server.open("/stream/download").await;
    let (bytes, closed) = read_rest(&mut live).await;
    assert_eq!((bytes.as_slice(), closed), (LAST_CHUNK, true));
    assert!(server.clock.monotonic().millis() >= 3_600_000);
    let (bytes, closed) = read_rest(&mut download).await;
    assert_eq!((bytes.as_slice(), closed), (&b""[..], false));
}

#[tokio::test]
async fn what_fails_inside_breaks_the_answer_and_nothing_else() {
    let server = Running::start(SETTINGS, 1).await;
    for _ in 0..3 {
        for path in ["/stream/fails", "/stream/panics"] {
            let mut connection = server.connect().await;
            connection.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
            let (bytes, closed) = read_rest(&mut connection).await;
            assert!(!closed && !bytes.ends_with(LAST_CHUNK), "{path}");
        }
    }
    assert_eq!(server.get("/ok").await.status(), 200);
}

#[tokio::test]
async fn a_client_of_http_1_0_can_tell_a_part_from_the_whole() {
    let server = Running::start(SETTINGS, 8).await;
    let mut broken = server.connect().await;
    broken.write_all(b"GET /stream/fails HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(!read_rest(&mut broken).await.1, "a connection that is closed would be the end of the body");
    let mut whole = server.connect().await;
    whole.write_all(b"GET /stream/download HTTP/1.0\r\n\r\n").await.unwrap();
    server.say("all of it");
    server.end_stream();
    let (bytes, closed) = read_rest(&mut whole).await;
    assert!(closed && bytes.ends_with(b"\r\n\r\nall of it"));
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_live_streams_at_once_and_waits_for_downloads() {
    let server = Running::start(SETTINGS, 8).await;
    let (mut live, _) = server.open("/stream/live").await;
    let (mut download, _) = server.open("/stream/download").await;
    let (mut endless, _) = server.open("/stream/endless").await;
    let before_ms = server.clock.monotonic().millis();
    server.stopping.cancel();
    assert_eq!(read_rest(&mut live).await, (LAST_CHUNK.to_vec(), true));
    assert!(server.clock.monotonic().millis() < before_ms + 1_000);
    server.say("the rest");
    read_exactly(&mut download, "8\r\nthe rest\r\n").await;
    server.serving.await.unwrap();
    let took = Duration::from_millis(server.clock.monotonic().millis() - before_ms);
    assert!(took >= DRAIN_TIMEOUT && took < DRAIN_TIMEOUT + STALL_TIMEOUT / 2, "{took:?}");
    for connection in [&mut download, &mut endless] {
        let (bytes, closed) = read_rest(connection).await;
        assert!(!closed && !bytes.ends_with(LAST_CHUNK));
    }
}
