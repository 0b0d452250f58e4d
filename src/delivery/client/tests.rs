//! Tests of `client`.

use super::*;
use crate::delivery::testing::{Receiver, Reply, reply};

const CAP_BYTES: usize = 16 * 1024;

fn delivery() -> HttpDelivery {
    HttpDelivery::new(DeliverySettings {
        response_max_bytes: CAP_BYTES,
        idle_connections_per_host_max: 4,
        allowed_private_networks: vec!["127.0.0.0/8".parse().unwrap()],
    })
    .unwrap()
}

fn request(url: &str) -> DeliveryRequest {
    DeliveryRequest {
        url: url.to_owned(),
        headers: vec![("x-webhook-event", String::from("test")), ("webhook-id", String::from("wn_1"))],
        body: Arc::from(r#"{"event":"test"}"#),
        timeout: Duration::from_secs(20),
    }
}

fn within(timeout: Duration, url: &str) -> DeliveryRequest {
    DeliveryRequest { timeout, ..request(url) }
}

async fn deliver_to(receiver: &Receiver) -> DeliveryResult {
    delivery().deliver(request(&receiver.url)).await
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
    assert!(received[0].head.contains("X-Webhook-Event: test"), "{}", received[0].head);
    assert_eq!(received[0].header("webhook-id"), Some("wn_1"));
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let target = Receiver::start(|_, _| reply(200, "", b"")).await;
    let location = format!("Location: {}\r\n", target.url);
    let receiver = Receiver::start(move |_, _| reply(307, &location, b"")).await;
    assert_eq!(deliver_to(&receiver).await.unwrap().status, 307);
    assert!(target.received().is_empty());
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
    assert_eq!(delivery().deliver(within(short, &hung.url)).await, Err(DeliveryError::TimedOut(short)));
    let dripping_head = Receiver::start(|_, _| Reply::ThenDrip(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec())).await;
    assert_eq!(delivery().deliver(within(short, &dripping_head.url)).await, Err(DeliveryError::TimedOut(short)));
    let dripping_body =
        Receiver::start(|_, _| Reply::ThenDrip(b"HTTP/1.1 503 X\r\nContent-Length: 99999\r\n\r\n".to_vec())).await;
    assert_eq!(delivery().deliver(within(short, &dripping_body.url)).await.unwrap().status, 503);
}

#[tokio::test]
async fn no_answer_is_said_in_words() {
    let closing = Receiver::start(|_, _| Reply::Close).await;
    assert_eq!(deliver_to(&closing).await, Err(DeliveryError::Broken));
    let nonsense = Receiver::start(|_, _| Reply::Bytes(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())).await;
    assert_eq!(deliver_to(&nonsense).await, Err(DeliveryError::Broken));
    let nobody = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let refused = delivery().deliver(request(&url)).await;
    assert_eq!(refused, Err(DeliveryError::NotConnected(String::from("connection refused"))));
}

#[tokio::test]
async fn an_https_url_whose_server_does_not_speak_tls_fails_without_sending() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let url = receiver.url.replace("http://", "https://");
    let answer = delivery().deliver(within(Duration::from_millis(500), &url)).await;
    assert!(answer.is_err(), "{answer:?}");
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn urls_that_are_not_allowed_are_never_asked() {
    let receiver = Receiver::start(|_, _| reply(200, "", b"")).await;
    let strict =
        HttpDelivery::new(DeliverySettings { allowed_private_networks: Vec::new(), ..delivery().settings }).unwrap();
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

#[tokio::test]
async fn a_name_is_refused_as_a_whole_when_any_address_is_out_of_scope() {
    let resolver = VettingResolver {
        scope: Scope::PublicOrAllowed,
        allowed_private_networks: Arc::from([]),
        lookups: Lookups::new(),
    };
    // An address as a name resolves to itself without a name server.
    let refused = resolver.addresses_of("127.0.0.1").await;
    assert!(refused.is_err());
    let refused = resolver.addresses_of("localhost").await.unwrap_err();
    assert!(refused.is::<NameNotResolved>());
}

#[test]
fn a_text_cut_inside_a_character_loses_only_that_character() {
    assert_eq!(text_of("aé".as_bytes()), "aé");
    assert_eq!(text_of(&"aé".as_bytes()[..2]), "a");
    assert_eq!(text_of(b"a\xffb"), "a\u{fffd}b");
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
