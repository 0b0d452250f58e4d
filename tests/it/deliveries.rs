//! What goes over the wire to a receiver, as others see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::json;
use standardwebhooks::Webhook;

use crate::support::{Answer, Client, House, Receiver, eventually};

const ENDPOINTS: &str = "/api/v1/webhooks/endpoints";
const NOTIFICATIONS: &str = "/api/v1/webhooks/notifications";

async fn endpoint(shop: &Client, url: &str) -> Answer {
    shop.post(ENDPOINTS, json!({ "url": url })).await.expect(201, "SUCCESS")
}

async fn test_event(shop: &Client, endpoint: &Answer) {
    let path = format!("{ENDPOINTS}/{}/test", endpoint.data("id"));
    shop.post(&path, json!({})).await.expect(200, "SUCCESS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_library_accepts_what_arrives_with_either_secret_of_a_rotation() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let made = endpoint(&shop, &receiver.url).await;
    test_event(&shop, &made).await;
    // Signatures are made when it is sent: the first one has to be on its way before the change.
    eventually("one delivery", || async { (!receiver.deliveries().is_empty()).then_some(()) }).await;
    let rotated =
        shop.post(&format!("{ENDPOINTS}/{}/rotate-secret", made.data("id")), json!({})).await.expect(200, "SUCCESS");
    test_event(&shop, &made).await;
    let deliveries = eventually("two deliveries", || async {
        Some(receiver.deliveries()).filter(|deliveries| deliveries.len() >= 2)
    })
    .await;
    let (first, second) = (made.data("secret"), rotated.data("secret"));
    assert_ne!(first, second);
    let verify = |secret: &str, number: usize, bytes: &[u8]| {
        Webhook::new(secret).unwrap().verify(bytes, &deliveries[number].headers)
    };
    verify(first, 0, &deliveries[0].bytes).unwrap();
    verify(second, 0, &deliveries[0].bytes).unwrap_err();
    verify(first, 1, &deliveries[1].bytes).unwrap();
    verify(second, 1, &deliveries[1].bytes).unwrap();
    let changed = [&deliveries[1].bytes[..], b" "].concat();
    verify(second, 1, &changed).unwrap_err();
}

#[derive(Clone, Default)]
struct Late {
    wait_ms: Arc<AtomicU64>,
    ids: Arc<Mutex<Vec<String>>>,
}

async fn answer_late(State(late): State<Late>, headers: HeaderMap) {
    late.ids.lock().push(headers["webhook-id"].to_str().unwrap().to_owned());
    tokio::time::sleep(Duration::from_millis(late.wait_ms.load(Ordering::SeqCst))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_after_the_deadline_is_none_and_the_same_notification_comes_again() {
    let house = House::start_with(|config| {
        config.webhook.timeout_s = 1;
        config.webhook.schedule_s = vec![1];
    })
    .await;
    let shop = house.merchant("premium").await;
    let late = Late::default();
    late.wait_ms.store(30_000, Ordering::SeqCst);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", post(answer_late)).with_state(late.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    endpoint(&shop, &url).await;
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let retrying = eventually("a try without an answer", || async {
        let list = shop.get(&format!("{NOTIFICATIONS}?status=retrying")).await.expect(200, "SUCCESS");
        list.items().into_iter().next()
    })
    .await;
    late.wait_ms.store(0, Ordering::SeqCst);
    let id = retrying["id"].as_str().unwrap().to_owned();
    let done = eventually("the success", || async {
        let read = shop.get(&format!("{NOTIFICATIONS}/{id}")).await.expect(200, "SUCCESS");
        Some(read).filter(|read| read.data("status") == "success")
    })
    .await;
    let tries = done.body["data"]["tries"].as_array().unwrap();
    assert_eq!(tries[0]["error"], "no answer within 1 s", "{}", done.text);
    assert_eq!(tries[tries.len() - 1]["status_code"], 200, "{}", done.text);
    let arrived = late.ids.lock().iter().filter(|arrived| **arrived == id).count();
    assert_eq!(arrived, tries.len(), "each try has the same id");
    assert!(arrived >= 2);
}
