//! Sockets, faults and control.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::clock::Clock;
use crate::config::FaultConfig;
use crate::random::Random;
use crate::sandbox::testing::send;
use crate::sandbox::tests::{START, sandbox};
use crate::sandbox::{FaultPatch, Sandbox, SandboxError, SandboxOptions, serve_control};

const DOWN: FaultPatch = FaultPatch {
    latency_ms: None,
    latency_jitter_ms: None,
    decline_rate: None,
    error_rate: None,
    error_after_effect_rate: None,
    lost_response_rate: None,
    late_effect_rate: None,
    late_effect_ms: None,
    rate_limited_rate: None,
    duplicate_notification_rate: None,
    down: Some(true),
    seed: None,
};
const UP: FaultPatch = FaultPatch { down: Some(false), ..DOWN };

#[tokio::test]
async fn down_refuses_connections_and_breaks_open_ones_and_up_is_the_same_port() {
    let (sandbox, _) = sandbox();
    let url = sandbox.urls()["stripe"].clone();
    let address = url.strip_prefix("http://").unwrap().to_owned();
    for _ in 0..3 {
        let mut idle = TcpStream::connect(&address).await.unwrap();
        // Part of a request: the connection is in use.
        idle.write_all(b"GET / HT").await.unwrap();
        sandbox.set_faults("stripe", DOWN).await.unwrap();
        assert_eq!(idle.read(&mut [0; 16]).await.unwrap_or(0), 0);
        let refused = TcpStream::connect(&address).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert_eq!(sandbox.urls()["stripe"], url);
        assert!(TcpStream::connect(sandbox.urls()["alipay"].strip_prefix("http://").unwrap()).await.is_ok());
        sandbox.set_faults("stripe", UP).await.unwrap();
        assert_eq!(send("GET", &format!("{url}/v1/payment_intents"), &[], "").await.unwrap().status, 401);
    }
    sandbox.stop().await;
    assert!(TcpStream::connect(&address).await.is_err());
    // Stopped is for good.
    sandbox.set_faults("stripe", UP).await.unwrap();
    assert!(TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn dropping_a_sandbox_closes_its_ports() {
    let (sandbox, _) = sandbox();
    let address = sandbox.urls()["alipay"].strip_prefix("http://").unwrap().to_owned();
    let mut open = TcpStream::connect(&address).await.unwrap();
    drop(sandbox);
    assert_eq!(open.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn it_starts_with_the_faults_that_are_configured() {
    let start = |name: &str, faults: FaultConfig| {
        let mut options = SandboxOptions::new(Clock::manual(START), Random::seeded(1));
        options.faults = BTreeMap::from([(name.to_owned(), faults)]);
        Sandbox::start(options)
    };
    let sandbox = start("alipay", FaultConfig { down: true, seed: 5, ..FaultConfig::default() }).unwrap();
    let address = sandbox.urls()["alipay"].strip_prefix("http://").unwrap().to_owned();
    assert!(TcpStream::connect(&address).await.is_err());
    sandbox.set_faults("alipay", UP).await.unwrap();
    assert!(TcpStream::connect(&address).await.is_ok());
    assert!(matches!(start("nobody", FaultConfig::default()), Err(SandboxError::UnknownChannel(_))));
    let impossible = FaultConfig { error_rate: 2.0, ..FaultConfig::default() };
    assert!(matches!(start("stripe", impossible), Err(SandboxError::Invalid(_))));
}

#[tokio::test]
async fn a_lost_answer_is_a_connection_closed_without_a_byte() {
    let (sandbox, _) = sandbox();
    let url = sandbox.urls()["stripe"].clone();
    sandbox.set_faults("stripe", FaultPatch { lost_response_rate: Some(1.0), ..FaultPatch::default() }).await.unwrap();
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /v1/payment_intents HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn control_shows_and_changes_faults_and_shows_the_book() {
    let (sandbox, _) = sandbox();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/control", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let server = tokio::spawn(serve_control(listener, Arc::clone(&sandbox), shutdown));

    let urls = send("GET", &base, &[], "").await.unwrap().json();
    assert_eq!(urls, json!(sandbox.urls()));
    let put = |channel: &str, body: &'static str| {
        let url = format!("{base}/{channel}");
        async move { send("PUT", &url, &[("content-type", "application/json")], body).await.unwrap() }
    };
    assert_eq!(put("stripe", r#"{"latency_ms":1,"seed":9}"#).await.status, 200);
    let merged = put("stripe", r#"{"decline_rate":0.5}"#).await.json();
    assert_eq!((&merged["latency_ms"], &merged["decline_rate"], &merged["seed"]), (&json!(1), &json!(0.5), &json!(9)));
    assert_eq!(send("GET", &format!("{base}/stripe"), &[], "").await.unwrap().json(), merged);
    for body in [r#"{"decline_rat":0.5}"#, r#"{"decline_rate":1.5}"#, r#"{"down":"yes"}"#, "", "[]x"] {
        assert_eq!(put("stripe", body).await.status, 400, "{body}");
    }
    assert_eq!(put("paypaul", "{}").await.status, 404);
    assert_eq!(send("GET", &format!("{base}/stripe/ledger"), &[], "").await.unwrap().json(), json!({ "items": [] }));
    assert_eq!(send("GET", &format!("{base}/paypaul/ledger"), &[], "").await.unwrap().status, 404);

    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap().unwrap();
}
