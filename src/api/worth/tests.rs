//! Every route has its worth, and a request that is shed costs nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::routes::Verb;
use crate::api::{Api, merchant, open};
use crate::clock::Clock;
use crate::gateway::shedding::testing::Node;
use crate::gateway::view::NewKeyView;

const WORTHS: [(Verb, &str, Worth); 42] = [
    (Verb::Post, "/api/v1/payments", Worth::Create),
    (Verb::Get, "/api/v1/payments", Worth::List),
    (Verb::Get, "/api/v1/payments/{payment_no}", Worth::Query),
    (Verb::Post, "/api/v1/payments/{payment_no}/cancel", Worth::Finish),
    (Verb::Get, "/api/v1/payments/{payment_no}/routing", Worth::Query),
    (Verb::Post, "/api/v1/payments/{payment_no}/refunds", Worth::Finish),
    (Verb::Get, "/api/v1/payments/{payment_no}/refunds", Worth::List),
    (Verb::Get, "/api/v1/refunds/{refund_no}", Worth::Query),
    (Verb::Post, "/api/v1/pre-auths", Worth::Create),
    (Verb::Get, "/api/v1/pre-auths", Worth::List),
    (Verb::Get, "/api/v1/pre-auths/{pre_auth_no}", Worth::Query),
    (Verb::Post, "/api/v1/pre-auths/{pre_auth_no}/capture", Worth::Finish),
    (Verb::Post, "/api/v1/pre-auths/{pre_auth_no}/cancel", Worth::Finish),
    (Verb::Post, "/api/v1/pre-auths/{pre_auth_no}/refunds", Worth::Finish),
    (Verb::Get, "/api/v1/pre-auths/{pre_auth_no}/refunds", Worth::List),
    (Verb::Post, "/api/v1/channel/pre-auth", Worth::Create),
    (Verb::Post, "/api/v1/channel/pre-auth/capture", Worth::Finish),
    (Verb::Post, "/api/v1/channel/pre-auth/cancel", Worth::Finish),
    (Verb::Get, "/api/v1/channel/pre-auth/{channel_pre_auth_no}", Worth::Query),
    (Verb::Post, "/api/v1/routing/quote", Worth::Query),
    (Verb::Get, "/api/v1/limits", Worth::Query),
    (Verb::Post, "/api/v1/webhooks/endpoints", Worth::Manage),
    (Verb::Get, "/api/v1/webhooks/endpoints", Worth::List),
    (Verb::Get, "/api/v1/webhooks/endpoints/{endpoint_id}", Worth::Query),
    (Verb::Patch, "/api/v1/webhooks/endpoints/{endpoint_id}", Worth::Manage),
    (Verb::Delete, "/api/v1/webhooks/endpoints/{endpoint_id}", Worth::Manage),
    (Verb::Post, "/api/v1/webhooks/endpoints/{endpoint_id}/rotate-secret", Worth::Manage),
    (Verb::Post, "/api/v1/webhooks/endpoints/{endpoint_id}/test", Worth::Manage),
    (Verb::Get, "/api/v1/webhooks/notifications", Worth::List),
    (Verb::Get, "/api/v1/webhooks/notifications/{notification_id}", Worth::Query),
    (Verb::Post, "/api/v1/webhooks/notifications/{notification_id}/retry", Worth::Manage),
    (Verb::Post, "/api/v1/webhooks/notifications/{notification_id}/cancel", Worth::Manage),
    (Verb::Post, "/api/v1/webhooks/endpoints/{endpoint_id}/recover", Worth::Manage),
    (Verb::Post, "/api/v1/webhooks/notifications/retry", Worth::Manage),
    (Verb::Post, "/api/v1/webhooks/notifications/cancel", Worth::Manage),
    (Verb::Get, "/api/v1/webhooks/jobs", Worth::List),
    (Verb::Get, "/api/v1/webhooks/jobs/{job_id}", Worth::Query),
    (Verb::Post, "/api/v1/webhooks/jobs/{job_id}/cancel", Worth::Manage),
    (Verb::Get, "/api/v1/events", Worth::List),
    (Verb::Get, "/api/v1/exports/payments", Worth::List),
    (Verb::Get, "/api/v1/exports/refunds", Worth::List),
    (Verb::Get, "/api/v1/exports/fees", Worth::List),
];

fn method(verb: Verb) -> Method {
    match verb {
        Verb::Get => Method::GET,
        Verb::Post => Method::POST,
        Verb::Put => Method::PUT,
        Verb::Patch => Method::PATCH,
        Verb::Delete => Method::DELETE,
    }
}

#[test]
fn every_route_has_its_worth() {
    let routes = merchant::routes();
    let mut listed: Vec<(Verb, &str)> = routes.listed().to_vec();
    let mut known: Vec<(Verb, &str)> = WORTHS.iter().map(|(verb, path, _)| (*verb, *path)).collect();
    listed.sort();
    known.sort();
    assert_eq!(listed, known, "a route without a worth, or a worth without a route");
    for (verb, path, worth) in WORTHS {
        assert_eq!(worth_of(&method(verb), path), worth, "{verb:?} {path}");
        assert_eq!(stated_worth(&method(verb), path), Some(worth), "{verb:?} {path} is named, not left to the rest");
        if verb == Verb::Get {
            assert_eq!(worth_of(&Method::HEAD, path), worth, "HEAD {path}");
        }
    }
}

/// Routes to which neither load nor keys matter, and why they may be asked by anybody at any time.
const NEVER_SHED: [(Verb, &str, &str); 6] = [
    (Verb::Get, "/healthz", "a supervisor would end a process that is only busy"),
    (Verb::Get, "/readyz", "a balancer decides by it where load goes"),
    (Verb::Get, "/openapi.json", "bytes that are made already"),
    (Verb::Get, "/", "a few fixed words"),
    (Verb::Get, "/docs", "a page that is in the program"),
    (Verb::Get, "/docs/{file}", "bytes that are in the program"),
];

#[test]
fn whatever_else_the_listener_answers_is_never_shed_by_decision() {
    let mut listed = open::routes().listed().to_vec();
    let mut decided: Vec<(Verb, &str)> = NEVER_SHED.iter().map(|(verb, path, _)| (*verb, *path)).collect();
    listed.sort();
    decided.sort();
    assert_eq!(listed, decided, "an open route without a decision, or a decision without a route");
    for (_, path, reason) in NEVER_SHED {
        assert!(!merchant::is_below("/api/v1", path) && !reason.is_empty(), "{path}");
    }
    let own = merchant::routes();
    assert!(own.listed().iter().all(|(_, path)| merchant::is_below("/api/v1", path)), "else nobody asks for its worth");
}

#[test]
fn what_no_route_has_is_worth_least() {
    let long = format!("/api/v1{}", "/x".repeat(1_000));
    for path in
        ["/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/payments/P-1/cancel/more", "/api/v1/webhooks", &long]
    {
        for method in [Method::GET, Method::POST, Method::PUT, Method::OPTIONS] {
            assert_eq!(worth_of(&method, path), Worth::List, "{method} {path}");
            assert_eq!(stated_worth(&method, path), None, "{method} {path}");
        }
    }
}

/// Serves a node and asks it; the answer's status line, headers and body.
struct Listening {
    node: Node,
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    api: Api,
}

impl Listening {
    async fn start(requests_in_flight_max: usize) -> Self {
        let node = Node::start(Clock::system(), |config| {
            // Only the test says how much is shed.
            config.limits.adaptive.enabled = false;
            config.server.requests_in_flight_max = requests_in_flight_max;
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        let api = Api::start(node.gateway.clone(), listener, admin, shutdown.clone()).unwrap();
        Self { node, address, shutdown, api }
    }

    /// Sends this and nothing more, and reads until the server hangs up.
    async fn ask(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.api.drained().await;
        self.node.gateway.stop().await.unwrap();
    }
}

fn get(path: &str, authorization: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {authorization}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shed_is_answered_503_before_anything_is_looked_at() {
    let house = Listening::start(2_048).await;
    let merchant = house.node.merchant().await;
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", merchant.key.id, merchant.key.secret)));
    house.node.shed_as_at(200);
    for _ in 0..20 {
        let answer = house.ask(&get("/api/v1/payments", &basic)).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\"code\":\"OVERLOADED\""), "{answer}");
        let retry_after = answer.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
        assert!((1..=2).contains(&retry_after.trim().parse::<u32>().unwrap()), "{answer}");
        assert!(!answer.to_lowercase().contains("x-ratelimit-limit"), "{answer}");
    }
    let limits = house.node.gateway.merchant_limits(&merchant.merchant.merchant_id).await.unwrap();
    assert!(limits.limits.windows.iter().all(|window| window.used == 0), "{limits:?}");
    assert_eq!((limits.limits.today.admitted, limits.limits.today.refused), (0, 0));
    let text = house.node.gateway.metrics().text().unwrap();
    assert!(text.contains("tollgate_shed_requests_total{worth=\"list\"} 20\n"), "{text}");
    assert!(text.contains("tollgate_shed_requests_total{worth=\"query\"} 0\n"), "{text}");
    // Worth more, so asked for its key.
    assert!(house.ask(&get("/api/v1/limits", &basic)).await.starts_with("HTTP/1.1 200 "));
    assert!(house.ask(&get("/api/v1/limits", "Basic eDp4")).await.starts_with("HTTP/1.1 401 "));

    house.node.shed_as_at(1_000);
    assert!(
        house.ask(&get("/api/v1/limits", "Basic eDp4")).await.starts_with("HTTP/1.1 503 "),
        "before authentication"
    );
    // A body that never comes: the answer does not wait for it.
    let head =
        "POST /api/v1/payments HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n";
    let answer = house.ask(head).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connection: close"), "{answer}");
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert!(house.ask(&get(path, "x")).await.starts_with("HTTP/1.1 200 "), "{path}");
    }
    house.stop().await;
}

/// Posts this on a connection of its own.
fn post(path: &str, authorization: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {authorization}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn basic(key: &NewKeyView) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", key.id, key.secret)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_that_wait_for_a_slow_provider_keep_nobody_from_cancelling() {
    let house = Listening::start(4).await;
    let (one, other) = (basic(&house.node.merchant().await.key), basic(&house.node.merchant().await.key));
    // Longer than any test: nothing here waits for it.
    house.node.providers.set(std::time::Duration::from_secs(3_600));
    let pay = |number: u32| {
        let body = format!(r#"{{"order_no":"O-{number}","amount":900,"currency":"USD","channel":"stripe"}}"#);
        post("/api/v1/payments", &one, &body)
    };
    let mut waiting = Vec::new();
    for number in 0..3 {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(pay(number).as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let all_wait = async {
        while house.node.gateway.channels().iter().map(|channel| channel.in_flight).sum::<u64>() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), all_wait).await.expect("the payments reach the provider");
    for refused in [pay(3), get("/api/v1/limits", &other), get("/api/v1/payments", &other), get("/openapi.json", "x")] {
        let answer = house.ask(&refused).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"code\":\"OVERLOADED\""), "{answer}");
        assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    }
    for path in ["/api/v1/payments/P-1/cancel", "/api/v1/payments/P-1/refunds"] {
        let answer = house.ask(&post(path, &other, r#"{"refund_no":"R-1","amount":1}"#)).await;
        assert!(!answer.starts_with("HTTP/1.1 503 ") && !answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    // Finish by its name only: it is no route of the API.
    assert!(house.ask(&post("/x/y/payments/P-1/cancel", &other, "")).await.starts_with("HTTP/1.1 503 "));
    assert!(house.ask(&get("/healthz", "x")).await.starts_with("HTTP/1.1 200 "));
    let text = house.node.gateway.metrics().text().unwrap();
    for (worth, refused) in [("list", 3), ("query", 1), ("manage", 0), ("create", 1), ("finish", 0), ("operator", 0)] {
        let line = format!("tollgate_in_flight_refused_total{{worth=\"{worth}\"}} {refused}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
}
