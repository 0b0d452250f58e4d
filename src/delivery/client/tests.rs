//! Tests of `client`.

use super::*;
use crate::delivery::test_name_server::{NameServer, Says, has};
use crate::delivery::testing::{Receiver, Reply, eventually, reply};

mod connections;
mod names;
mod trust;

const CAP_BYTES: usize = 16 * 1024;
/// Longer than anything takes here, however busy the machine is.
const PATIENT: Duration = Duration::from_secs(60);

fn settings() -> DeliverySettings {
    DeliverySettings {
        response_max_bytes: CAP_BYTES,
        idle_connections_per_host_max: 4,
        idle_connections_max: 100,
        connection_age_max: Duration::from_secs(300),
        dns_timeout: PATIENT,
        dns_cache_max: 1_000,
        dns_ttl_max: Duration::from_secs(300),
        dns_negative_ttl: Duration::from_secs(30),
        public_ports: vec!["443".parse().unwrap()],
        allowed_private_networks: vec!["127.0.0.0/8".parse().unwrap()],
    }
}

fn delivery() -> HttpDelivery {
    HttpDelivery::new(settings()).unwrap()
}

/// One that knows names from `server` alone.
fn asking(server: &NameServer, settings: DeliverySettings, clock: Clock) -> HttpDelivery {
    let world = World {
        clock,
        hosts: HostsFile::new("/nonexistent/hosts"),
        name_servers: Box::new(SystemNameServers::at(server.address, settings.dns_timeout)),
        authorities: Authorities::Machine,
    };
    HttpDelivery::within(settings, world).unwrap()
}

fn request(url: &str) -> DeliveryRequest {
    DeliveryRequest {
        url: url.to_owned(),
        headers: vec![("x-webhook-event", String::from("test")), ("webhook-id", String::from("wn_1"))],
        body: Arc::from(r#"{"event":"test"}"#),
        timeout: PATIENT,
    }
}

/// The receiver by a name of its own.
fn named(receiver: &Receiver, name: &str) -> String {
    receiver.url.replace("127.0.0.1", name)
}

async fn deliver_to(receiver: &Receiver) -> DeliveryResult {
    delivery().deliver(request(&receiver.url)).await
}

async fn deliver_within(timeout: Duration, receiver: &Receiver) -> DeliveryResult {
    delivery().deliver(DeliveryRequest { timeout, ..request(&receiver.url) }).await
}

#[tokio::test]
async fn a_webhook_arrives_as_documented_and_connections_are_used_again() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"thanks")).await;
    let delivery = delivery();
    for _ in 0..3 {
        let answer = delivery.deliver(request(&receiver.url)).await.unwrap();
        assert_eq!(answer, Answer { status: 200, retry_after: None, response: String::from("thanks") });
    }
    let received = receiver.received();
    assert!(received[0].head.starts_with("POST /hook HTTP/1.1\r\n"));
    assert_eq!(received[0].body, r#"{"event":"test"}"#);
    assert_eq!(received[0].header("content-type"), Some("application/json"));
    assert_eq!(received[0].header("user-agent"), Some(concat!("Tollgate/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(received[0].header("host"), receiver.url.split('/').nth(2));
    assert_eq!(received[0].header("accept-encoding"), Some("gzip"));
    assert!(received[0].head.contains("X-Webhook-Event: test"), "{}", received[0].head);
    assert_eq!(received[0].header("webhook-id"), Some("wn_1"));
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let target = Receiver::start(|_, _| reply(200, "", b"")).await;
    for location in [target.url.clone(), String::from("http://169.254.169.254/latest/meta-data/")] {
        let location = format!("Location: {location}\r\n");
        let receiver = Receiver::start(move |_, _| reply(307, &location, b"")).await;
        assert_eq!(deliver_to(&receiver).await.unwrap().status, 307);
        assert_eq!(receiver.received().len(), 1);
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn retry_after_is_handed_on() {
    let receiver = Receiver::start(|_, _| reply(429, "Retry-After: 7\r\n", b"")).await;
    assert_eq!(deliver_to(&receiver).await.unwrap().retry_after.as_deref(), Some("7"));
}

#[tokio::test]
async fn of_a_long_answer_only_the_beginning_is_kept() {
    let receiver = Receiver::start(|_, _| reply(200, "", &vec![b'a'; 5 * 1024 * 1024])).await;
    let answer = deliver_to(&receiver).await.unwrap();
    assert_eq!((answer.status, answer.response.len()), (200, CAP_BYTES));
}

#[tokio::test]
async fn a_compressed_answer_counts_by_what_it_unpacks_to() {
    let packed = gzip_of_zeros(200_000);
    let receiver = Receiver::start(move |_, _| reply(500, "Content-Encoding: gzip\r\n", &packed)).await;
    let answer = deliver_to(&receiver).await.unwrap();
    assert_eq!((answer.status, answer.response.len()), (500, CAP_BYTES));
    assert!(answer.response.bytes().all(|byte| byte == 0));
}

#[tokio::test]
async fn an_answer_that_is_not_what_its_headers_say_keeps_its_status() {
    let receiver = Receiver::start(|_, _| reply(200, "Content-Encoding: gzip\r\n", b"not gzip at all")).await;
    assert_eq!(deliver_to(&receiver).await.unwrap().status, 200);
}

#[tokio::test]
async fn one_deadline_covers_everything() {
    let short = Duration::from_millis(300);
    let hung = Receiver::start(|_, _| Reply::Hang).await;
    assert_eq!(deliver_within(short, &hung).await, Err(DeliveryError::TimedOut(short)));
    let dripping_head = Receiver::start(|_, _| Reply::ThenDrip(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec())).await;
    assert_eq!(deliver_within(short, &dripping_head).await, Err(DeliveryError::TimedOut(short)));
    let dripping_body =
        Receiver::start(|_, _| Reply::ThenDrip(b"HTTP/1.1 503 X\r\nContent-Length: 99999\r\n\r\n".to_vec())).await;
    assert_eq!(deliver_within(short, &dripping_body).await.unwrap().status, 503);
    let silent = NameServer::start(|_, _| Says::Nothing).await;
    let by_name = asking(&silent, settings(), Clock::system());
    let answer = by_name.deliver(DeliveryRequest { timeout: short, ..request("http://a.internal/") }).await;
    assert_eq!(answer, Err(DeliveryError::NotConnectedInTime(short)));
    // Whoever takes connections and says nothing, also not TLS.
    let mute = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("https://{}/", mute.local_addr().unwrap());
    let answer = delivery().deliver(DeliveryRequest { timeout: short, ..request(&url) }).await;
    assert_eq!(answer, Err(DeliveryError::NotConnectedInTime(short)));
}

#[tokio::test]
async fn a_body_without_end_does_not_hold_up_a_success() {
    for head in ["Content-Length: 99999999999\r\n", "Connection: close\r\n"] {
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n");
        let receiver = Receiver::start(move |_, _| Reply::ThenFlood(head.clone().into_bytes())).await;
        let delivery = delivery();
        let answer = delivery.deliver(request(&receiver.url)).await.unwrap();
        assert_eq!((answer.status, answer.response.len()), (200, CAP_BYTES));
        eventually(|| (receiver.open() == 0).then_some(())).await;
        assert_eq!(delivery.figures().idle_connections, 0);
    }
}

#[tokio::test]
async fn headers_without_end_are_no_answer() {
    let receiver = Receiver::start(|_, _| Reply::ThenFlood(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec())).await;
    assert_eq!(deliver_to(&receiver).await, Err(DeliveryError::NotHttp));
    eventually(|| (receiver.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn an_answer_with_header_lines_that_are_wrong_counts() {
    let many: String = (0..200).map(|number| format!("X-{number}: a\r\n")).collect();
    let wrong = ["Bad Header: a\r\n", "X-A : a\r\n", "X-A: a\r\n b\r\n", "no colon\r\n", "X-\u{e9}: a\r\n", &many];
    for lines in wrong {
        let sent = format!("{lines}Retry-After: 7\r\n");
        let receiver = Receiver::start(move |_, _| reply(503, &sent, b"later")).await;
        let expected = Answer { status: 503, retry_after: Some(String::from("7")), response: String::from("later") };
        assert_eq!(deliver_to(&receiver).await, Ok(expected), "{lines}");
    }
}

#[tokio::test]
async fn answers_without_end_before_the_answer_are_none() {
    let receiver = Receiver::start(|number, _| match number {
        0 => reply(200, "", b""),
        _ => Reply::Flood(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
    })
    .await;
    let delivery = delivery();
    assert_eq!(delivery.deliver(request(&receiver.url)).await.unwrap().status, 200);
    // Over the connection that was kept, and over one that is new.
    for _ in 0..2 {
        assert_eq!(delivery.deliver(request(&receiver.url)).await, Err(DeliveryError::Broken));
        eventually(|| (receiver.open() == 0).then_some(())).await;
    }
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_connection_carries_any_number_of_long_answers() {
    let receiver = Receiver::start(|_, _| reply(200, &format!("X-A: {}\r\n", "a".repeat(60_000)), b"ok")).await;
    let delivery = delivery();
    for _ in 0..80 {
        assert_eq!(delivery.deliver(request(&receiver.url)).await.unwrap().response, "ok");
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_keeps_its_status_and_its_beginning() {
    let head = b"HTTP/1.1 201 X\r\nContent-Length: 100\r\n\r\nbeginning";
    let receiver = Receiver::start(|_, _| Reply::ThenClose(head.to_vec())).await;
    let answer = deliver_to(&receiver).await.unwrap();
    assert_eq!((answer.status, answer.response.as_str()), (201, "beginning"));
}

#[tokio::test]
async fn a_gzip_bomb_of_a_gigabyte_is_opened_no_further_than_what_is_kept() {
    let packed = gzip_of_zeros(4_200_000);
    let receiver = Receiver::start(move |_, _| reply(200, "Content-Encoding: gzip\r\n", &packed)).await;
    let answer = deliver_to(&receiver).await.unwrap();
    assert_eq!((answer.status, answer.response.len()), (200, CAP_BYTES));
}

#[tokio::test]
async fn what_can_not_be_sent_is_refused_unsent() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let line_end = vec![("x-webhook-event", String::from("a\r\nb: c"))];
    let refused = delivery().deliver(DeliveryRequest { headers: line_end, ..request(&receiver.url) }).await;
    assert!(matches!(refused, Err(DeliveryError::NotAllowed(_))), "{refused:?}");
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn no_answer_is_said_in_words() {
    let closing = Receiver::start(|_, _| Reply::Close).await;
    assert_eq!(deliver_to(&closing).await, Err(DeliveryError::Broken));
    let nonsense = Receiver::start(|_, _| Reply::Bytes(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())).await;
    assert_eq!(deliver_to(&nonsense).await, Err(DeliveryError::NotHttp));
    let newer = Receiver::start(|_, _| Reply::Bytes(b"HTTP/2.0 200 OK\r\n\r\n".to_vec())).await;
    assert_eq!(deliver_to(&newer).await, Err(DeliveryError::NotHttp));
    let nobody = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let refused = delivery().deliver(request(&url)).await;
    assert_eq!(refused, Err(DeliveryError::NotConnected(String::from("connection refused"))));
}

#[tokio::test]
async fn urls_that_are_not_allowed_are_never_asked() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let strict = HttpDelivery::new(DeliverySettings { allowed_private_networks: Vec::new(), ..settings() }).unwrap();
    for url in [receiver.url.clone(), receiver.url.replace("127.0.0.1", "localhost")] {
        let answer = strict.deliver(request(&url)).await;
        assert!(matches!(answer, Err(DeliveryError::NotAllowed(_))), "{answer:?}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn localhost_is_this_machine_where_that_is_allowed() {
    let receiver = Receiver::start(|_, _| reply(204, "", b"")).await;
    let url = receiver.url.replace("127.0.0.1", "localhost");
    assert_eq!(delivery().deliver(request(&url)).await.unwrap().status, 204);
}

/// A gzip stream that unpacks to `blocks` times 258 zero bytes, about 160 times its own size.
fn gzip_of_zeros(blocks: usize) -> Vec<u8> {
    let mut bits = Vec::with_capacity(blocks * 13 + 64);
    let mut put = |value: u32, count: u32| (0..count).rev().for_each(|bit| bits.push(value >> bit & 1));
    // One last block with fixed codes: a zero byte, then copies of 258 bytes from a distance of 1.
    put(1, 1);
    put(0b10, 2);
    put(0b0011_0000, 8);
    for _ in 0..blocks {
        put(0b1100_0101, 8);
        put(0, 5);
    }
    put(0, 7);
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for chunk in bits.chunks(8) {
        stream.push(chunk.iter().enumerate().fold(0, |byte, (index, bit)| byte | u8::try_from(*bit << index).unwrap()));
    }
    stream.extend_from_slice(&[0; 8]);
    stream
}
