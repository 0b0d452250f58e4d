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

use crate::support::{Client, House, eventually, http_client, without_polling};

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

const PAYMENTS: &str = "/api/v1/payments";
const PRE_AUTHS: &str = "/api/v1/pre-auths";

/// Begins something at a channel and lets the payer approve it, if he is asked; answers its number.
async fn begun(shop: &Client, path: &str, channel: &str, token: Option<&str>) -> String {
    let order_no = format!("{channel}-{}", token.unwrap_or("none"));
    let order = json!({
        "order_no": order_no, "amount": 900, "currency": "USD", "channel": channel, "payment_token": token,
    });
    let begun = shop.post(path, order).await;
    let waits = match token {
        None => (201, "requires_payment_method"),
        Some("tok_3ds") => (201, "requires_action"),
        _ => (202, "processing"),
    };
    assert_eq!((begun.status, begun.data("status")), waits, "{}", begun.text);
    if let Some(page) = begun.body["data"]["next_action"]["url"].as_str() {
        let looked_at = http_client().get(page).send().await.unwrap().text().await.unwrap();
        assert!(looked_at.contains("/approve") && looked_at.contains("/decline"), "{looked_at}");
        let approved = http_client().post(format!("{page}/approve")).send().await.unwrap();
        assert!(approved.status().is_success());
    }
    begun.data(if path == PAYMENTS { "payment_no" } else { "pre_auth_no" }).to_owned()
}

/// The names of the events about something.
async fn events_about(shop: &Client, number: &str) -> Vec<String> {
    let events = shop.get("/api/v1/events?limit=100").await.items();
    let is_about = |event: &&Value| event["payment_no"] == number || event["pre_auth_no"] == number;
    events.iter().filter(is_about).map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

/// With the notifications of all four providers, each sent twice, and with nobody who asks of his own accord.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_payer_or_time_decides_is_known_by_the_provider_s_notification() {
    let house = House::start_with(without_polling).await;
    house.gateway.register_callbacks(&house.url).await.unwrap();
    let shop = house.merchant("premium").await;
    let mut begun_ones = Vec::new();
    for channel in ["stripe", "paypal", "alipay", "crypto"] {
        house.disturb(channel, json!({ "duplicate_notification_rate": 1 })).await;
        for token in ["tok_3ds", "tok_processing", "tok_lost_response"] {
            let number = begun(&shop, PAYMENTS, channel, Some(token)).await;
            begun_ones.push((channel, PAYMENTS, number, "success", "charge"));
        }
        if channel == "crypto" {
            let order = json!({ "order_no": "coins", "amount": 900, "currency": "USD", "channel": channel });
            shop.post(PRE_AUTHS, order).await.expect(422, "PRE_AUTH_NOT_SUPPORTED");
            continue;
        }
        for token in [None, Some("tok_3ds"), Some("tok_processing"), Some("tok_lost_response")] {
            let number = begun(&shop, PRE_AUTHS, channel, token).await;
            begun_ones.push((channel, PRE_AUTHS, number, "requires_capture", "hold"));
        }
    }
    for (channel, path, number, status, done) in &begun_ones {
        eventually(&format!("{channel}{path} {status}"), || async {
            (shop.get(&format!("{path}/{number}")).await.data("status") == *status).then_some(())
        })
        .await;
        let told = if *path == PAYMENTS { "payment.success" } else { "pre_auth.authorized" };
        let events = events_about(&shop, number).await;
        assert_eq!(events.iter().filter(|event| *event == told).count(), 1, "{channel}{path}: {events:?}");
        let ledger = house.ledger(channel, number).await;
        assert_eq!((ledger.len(), &ledger[0]["operation"]), (1, &json!(done)), "{ledger:?}");
    }
    for channel in ["stripe", "paypal", "alipay", "crypto"] {
        let figures = house.admin("GET", "/admin/v1/metrics", None).await.text;
        let came = |outcome| {
            let line = format!("tollgate_callbacks_total{{channel=\"{channel}\",outcome=\"{outcome}\"}} ");
            figures.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse::<u64>().unwrap()
        };
        assert!(came("taken") >= 3 && came("duplicate") >= 3 && came("refused") == 0, "{channel}: {figures}");
    }
    house.stop().await;
}

/// Emulators know one address for each provider, also for channels of other names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_channel_at_the_same_emulator_hears_too() {
    let house = House::start_with(|config| {
        without_polling(config);
        config.channels.insert(String::from("second"), config.channels["stripe"].clone());
    })
    .await;
    house.gateway.register_callbacks(&house.url).await.unwrap();
    let shop = house.merchant("premium").await;
    for (path, status) in [(PAYMENTS, "success"), (PRE_AUTHS, "requires_capture")] {
        let number = begun(&shop, path, "second", Some("tok_3ds")).await;
        eventually(status, || async {
            (shop.get(&format!("{path}/{number}")).await.data("status") == status).then_some(())
        })
        .await;
    }
    house.stop().await;
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
    let answer = http_client().get(format!("{base}healthz")).send().await.unwrap();
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
    let answer = http_client().get(format!("{control}/callbacks")).send().await.unwrap();
    let registered: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(registered, json!({ "url": "http://127.0.0.1:9/" }));
}
