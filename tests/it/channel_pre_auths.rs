//! Pre-auths for clients that know them by their channel's number.

use serde_json::{Value, json};

use crate::pre_auths::with_instant;
use crate::support::House;

const CHANNEL: &str = "/api/v1/channel/pre-auth";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pre_auth_is_taken_and_captured_by_its_channel_s_number() {
    let house = House::start_with(with_instant).await;
    let (shop, other) = (house.merchant("business").await, house.merchant("business").await);
    let body = json!({ "channel": "instant", "pre_auth_no": "CAR-1", "amount": 9_000, "currency": "USD" });
    let held = shop.post(CHANNEL, body.clone()).await.expect(201, "SUCCESS");
    assert_eq!((held.data("pre_auth_no"), held.data("status")), ("CAR-1", "requires_capture"));
    assert!(held.body["data"]["expires_at"].as_i64().is_some_and(|at| at > 1_700_000_000), "{}", held.text);
    let number = held.data("channel_pre_auth_no").to_owned();
    assert!(!number.is_empty() && !number.contains("CAR-1"), "the channel knows nothing of the merchant's number");
    let taken = shop.post(CHANNEL, body).await.expect(409, "ORDER_EXISTS");
    assert!(taken.body["pre_auth_no"].as_str().is_some_and(|number| number.starts_with("PA")));

    let path = format!("{CHANNEL}/{number}?channel=instant");
    assert_eq!(shop.get(&path).await.body["data"], held.body["data"]);
    shop.get(&format!("{CHANNEL}/{number}")).await.expect(400, "INVALID_REQUEST");
    shop.get(&format!("{CHANNEL}/{number}?channel=stripe")).await.expect(404, "NOT_FOUND");
    other.get(&path).await.expect(404, "NOT_FOUND");
    let own = shop.get("/api/v1/pre-auths/CAR-1").await.expect(200, "SUCCESS");
    assert_eq!((own.data("reference"), own.data("order_no")), ("CAR-1", "CAR-1"));

    let capture = |amount: i64, currency: &str| json!({ "channel": "instant", "channel_pre_auth_no": number, "amount": amount, "currency": currency });
    let path = format!("{CHANNEL}/capture");
    let wrong = shop.post(&path, capture(1_000, "EUR")).await.expect(400, "INVALID_REQUEST");
    assert_eq!(wrong.wrong_fields(), ["currency"]);
    other.post(&path, capture(1_000, "USD")).await.expect(404, "NOT_FOUND");
    let captured = shop.post(&path, capture(1_000, "USD")).await.expect(200, "SUCCESS");
    assert_eq!((captured.data("status"), &captured.body["data"]["amount"]), ("captured", &json!(1_000)));
    assert!(!captured.data("channel_trade_no").is_empty());
    shop.post(&path, capture(1_000, "USD")).await.expect(409, "INVALID_STATE");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pre_auth_is_canceled_by_its_channel_s_number() {
    let house = House::start_with(with_instant).await;
    let shop = house.merchant("business").await;
    let body = json!({ "channel": "instant", "amount": 9_000, "currency": "USD" });
    let held = shop.post(CHANNEL, body).await.expect(201, "SUCCESS");
    assert!(held.data("pre_auth_no").starts_with("PA"), "without a number of the merchant's ours is told");
    let cancel = json!({ "channel": "instant", "channel_pre_auth_no": held.data("channel_pre_auth_no") });
    let canceled = shop.post(&format!("{CHANNEL}/cancel"), cancel).await.expect(200, "SUCCESS");
    assert_eq!((canceled.data("status"), &canceled.body["data"]["amount"]), ("canceled", &json!(9_000)));
    let wrong = json!({ "channel": "instant", "channel_pre_auth_no": "x", "pre_auth_no": 5 });
    let refused = shop.post(&format!("{CHANNEL}/cancel"), wrong).await.expect(400, "INVALID_REQUEST");
    assert_eq!(refused.wrong_fields(), ["pre_auth_no"]);
    let unknown: Value = json!({ "channel": "instant", "channel_pre_auth_no": "x" });
    shop.post(&format!("{CHANNEL}/cancel"), unknown).await.expect(404, "NOT_FOUND");
    house.stop().await;
}
