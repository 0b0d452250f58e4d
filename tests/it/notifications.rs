//! The emulators tell the gateway, wherever it is, what has happened.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate::clock::Clock;
use tollgate::random::Random;
use tollgate::sandbox::{Sandbox, SandboxOptions, serve_control};

use crate::support::{House, eventually};

/// Something that takes all that comes, and where it is.
async fn taker() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let came = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&came);
    let router = Router::new().fallback(move |uri: Uri| {
        kept.lock().push(uri.path().to_owned());
        std::future::ready("success")
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (base, came)
}

async fn separate_sandbox() -> (Arc<Sandbox>, String) {
    let sandbox = Arc::new(Sandbox::start(SandboxOptions::new(Clock::system(), Random::from_os())).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve_control(listener, Arc::clone(&sandbox), std::future::pending()));
    (sandbox, url)
}

async fn told_of_a_payment(house: &House) {
    let (base, came) = taker().await;
    house.gateway.register_callbacks(&base).await.unwrap();
    let shop = house.merchant("premium").await;
    let order = json!({ "payment_token": "tok_visa", "channel": "stripe" });
    shop.pay("O-1", 900, order).await.expect(201, "SUCCESS");
    // Created, charged, succeeded.
    eventually("the notifications", || async { (came.lock().len() == 3).then_some(()) }).await;
    assert_eq!(*came.lock(), ["/callbacks/stripe"; 3]);
}

#[tokio::test]
async fn built_in_emulators_tell_the_gateway_that_has_registered() {
    let house = House::start().await;
    told_of_a_payment(&house).await;
    assert!(house.gateway.register_callbacks("https://127.0.0.1").await.is_err());
    house.stop().await;
}

#[tokio::test]
async fn separate_emulators_are_told_where_the_gateway_is() {
    let (sandbox, url) = separate_sandbox().await;
    let house = House::start_with(|config| config.sandbox.as_mut().unwrap().url = Some(url)).await;
    told_of_a_payment(&house).await;
    assert!(house.gateway.register_callbacks("https://127.0.0.1").await.is_err());
    house.stop().await;
    sandbox.stop().await;
}

/// A process that ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `serve` registers the listener that it really has.
#[tokio::test]
async fn serve_registers_itself_with_a_separate_sandbox() {
    let (sandbox, url) = separate_sandbox().await;
    let directory = tempfile::tempdir().unwrap();
    let serve = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["serve", "--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"])
        .env("TOLLGATE_STORAGE__DIR", format!("\"{}\"", directory.path().display()))
        .env("TOLLGATE_SANDBOX__URL", format!("\"{url}\""))
        .env("TOLLGATE_STORAGE__BALLAST_BYTES", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _serve = Process(serve.unwrap());
    let base = eventually("the registration", || async { sandbox.callbacks() }).await;
    assert!(base.starts_with("http://127.0.0.1:"), "{base}");
    let answer = crate::support::http_client().get(format!("{base}healthz")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    sandbox.stop().await;
}

/// `tollgate sandbox` takes a base and says what it is.
#[tokio::test]
async fn the_sandbox_command_takes_a_base() {
    let command = |callbacks: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--callbacks", callbacks]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command
    };
    let refused = command("https://127.0.0.1").status().unwrap();
    assert_eq!(refused.code(), Some(2));
    let mut running = Process(command("http://127.0.0.1:9").spawn().unwrap());
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let control = line.split_whitespace().last().unwrap().to_owned();
    let answer = crate::support::http_client().get(format!("{control}/callbacks")).send().await.unwrap();
    let registered: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(registered, json!({ "url": "http://127.0.0.1:9/" }));
}
