//! Pre-auths from the signed request to the answer, the lists and the webhook.

use std::collections::HashMap;

use serde_json::{Value, json};
use tollgate::config::{ChannelKind, Config};

use crate::support::{Answer, Client, House, Receiver, eventually, nonce};

const PRE_AUTHS: &str = "/api/v1/pre-auths";

/// A channel beside the others that holds money at once.
pub fn with_instant(config: &mut Config) {
    config.sandbox.get_or_insert_default().allow_instant = true;
    let mut channel = config.channels["alipay"].clone();
    (channel.kind, channel.sandbox) = (ChannelKind::Instant, false);
    config.channels.insert(String::from("instant"), channel);
}

async fn hold(shop: &Client, order_no: &str, more: Value) -> Answer {
    let mut body = json!({ "order_no": order_no, "amount": 10_000, "currency": "USD", "channel": "instant" });
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    shop.post(PRE_AUTHS, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_is_held_taken_in_part_and_given_back() {
    let house = House::start_with(with_instant).await;
    let shop = house.merchant("business").await;
    let receiver = Receiver::start().await;
    let endpoint = json!({ "url": receiver.url, "events": ["pre_auth.*", "refund.*"] });
    shop.post("/api/v1/webhooks/endpoints", endpoint).await.expect(201, "SUCCESS");

    let held = hold(&shop, "ROOM-1", json!({ "metadata": { "room": "7" } })).await.expect(201, "SUCCESS");
    assert_eq!((held.data("status"), held.data("channel")), ("requires_capture", "instant"));
    let data = &held.body["data"];
    assert_eq!((&data["authorized_amount"], &data["livemode"]), (&json!(10_000), &json!(false)));
    assert_eq!(data["metadata"]["room"], "7");
    let number = held.data("pre_auth_no").to_owned();
    let path = format!("{PRE_AUTHS}/{number}");
    assert_eq!(shop.get(&path).await.body["data"], held.body["data"]);
    let refreshed = shop.get(&format!("{path}?refresh=true")).await.expect(200, "SUCCESS");
    assert_eq!(refreshed.data("status"), "requires_capture");
    shop.get(&format!("{path}?refresh=maybe")).await.expect(400, "INVALID_REQUEST");

    let capture = format!("{path}/capture");
    shop.post(&capture, json!({ "amount": 2_500 })).await.expect(400, "INVALID_REQUEST");
    let more = shop.post_with_key(&capture, json!({ "amount": 10_001 }), "k-1").await.expect(422, "AMOUNT_TOO_LARGE");
    assert_eq!(more.body["max_amount"], 10_000);
    let captured = shop.post_with_key(&capture, json!({ "amount": 2_500 }), "k-2").await.expect(200, "SUCCESS");
    assert_eq!(captured.data("status"), "captured");
    assert_eq!(captured.body["data"]["released_amount"], 7_500);
    let again = shop.post_with_key(&capture, json!({ "amount": 2_500 }), "k-2").await;
    assert_eq!(
        (again.text, again.headers.get("idempotent-replayed").map(String::as_str)),
        (captured.text, Some("true"))
    );
    let other = shop.post_with_key(&capture, json!({ "amount": 2_501 }), "k-2").await;
    other.expect(422, "IDEMPOTENCY_MISMATCH");
    let late = shop.post_with_key(&format!("{path}/cancel"), json!({}), "k-3").await.expect(409, "INVALID_STATE");
    assert_eq!(late.body["status"], "captured");

    let refunds = format!("{path}/refunds");
    let refund = shop.post_with_key(&refunds, json!({ "amount": 1_000 }), "k-4").await.expect(201, "SUCCESS");
    assert_eq!(refund.data("pre_auth_no"), number);
    assert!(refund.body["data"].get("payment_no").is_none(), "{}", refund.text);
    let read = shop.get(&format!("/api/v1/refunds/{}", refund.data("refund_no"))).await.expect(200, "SUCCESS");
    assert_eq!(read.body["data"], refund.body["data"]);
    assert_eq!(shop.get(&refunds).await.items(), [refund.body["data"].clone()]);
    assert_eq!(shop.get(&path).await.body["data"]["refunded_amount"], 1_000);

    let told = eventually("the webhooks", || async {
        let mut told = receiver.deliveries();
        told.retain(|delivery| delivery.body["pre_auth_no"] == number.as_str());
        (told.len() == 3).then_some(told)
    })
    .await;
    let by_name: HashMap<&str, &Value> =
        told.iter().map(|delivery| (delivery.body["event"].as_str().unwrap(), &delivery.body)).collect();
    let taken = by_name["pre_auth.captured"];
    assert_eq!((&taken["amount"], &taken["extra"]["captured_amount"]), (&json!(10_000), &json!(2_500)));
    assert_eq!(taken["extra"]["sequence"], 2);
    assert_eq!(by_name["refund.success"]["payment_no"], Value::Null);
    let events = shop.get("/api/v1/events").await.items();
    assert!(events.iter().all(|event| event["pre_auth_no"] == number.as_str() && event["payment_no"].is_null()));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_the_merchant_s_own_and_the_operator_sees_all() {
    let house = House::start_with(with_instant).await;
    let (shop, other) = (house.merchant("business").await, house.merchant("business").await);
    for order_no in ["A", "B", "C"] {
        hold(&shop, order_no, json!({})).await.expect(201, "SUCCESS");
    }
    let foreign = hold(&other, "A", json!({})).await.expect(201, "SUCCESS");
    let foreign = foreign.data("pre_auth_no").to_owned();
    let b = shop.get(&format!("{PRE_AUTHS}?order_no=B")).await.items().remove(0);
    let b = b["pre_auth_no"].as_str().unwrap().to_owned();
    shop.post_with_key(&format!("{PRE_AUTHS}/{b}/cancel"), json!({ "reason": "left" }), "k-1")
        .await
        .expect(200, "SUCCESS");
    let orders = |answer: Answer| {
        answer.items().iter().map(|item| item["order_no"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(orders(shop.get(PRE_AUTHS).await), ["C", "B", "A"]);
    assert_eq!(orders(shop.get(&format!("{PRE_AUTHS}?status=requires_capture")).await), ["C", "A"]);
    assert_eq!(orders(shop.get(&format!("{PRE_AUTHS}?channel=stripe")).await), [""; 0]);
    let page = shop.get(&format!("{PRE_AUTHS}?limit=2")).await;
    let next = page.body["data"]["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(orders(shop.get(&format!("{PRE_AUTHS}?limit=2&cursor={next}")).await), ["A"]);
    shop.get(&format!("{PRE_AUTHS}?status=success")).await.expect(400, "INVALID_REQUEST");
    for path in [foreign.clone(), format!("{foreign}/refunds"), String::from("PA1")] {
        shop.get(&format!("{PRE_AUTHS}/{path}")).await.expect(404, "NOT_FOUND");
    }
    for action in ["capture", "cancel", "refunds"] {
        let path = format!("{PRE_AUTHS}/{foreign}/{action}");
        shop.post_with_key(&path, json!({}), "k-9").await.expect(404, "NOT_FOUND");
    }
    let all = house.admin("GET", "/admin/v1/pre-auths", None).await.expect(200, "SUCCESS");
    assert_eq!(all.items().len(), 4);
    let of_one = format!("/admin/v1/pre-auths?merchant_id={}", other.merchant_id);
    assert_eq!(house.admin("GET", &of_one, None).await.items().len(), 1);
    let found = house.admin("GET", &format!("/admin/v1/pre-auths/{foreign}"), None).await.expect(200, "SUCCESS");
    assert_eq!((found.data("merchant_id"), found.data("pre_auth_no")), (other.merchant_id.as_str(), foreign.as_str()));
    house.admin("GET", "/admin/v1/pre-auths/PA1", None).await.expect(404, "NOT_FOUND");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_holds_no_money_says_so_in_the_merchant_s_language() {
    let house = House::start_with(|config| {
        with_instant(config);
        config.channels.get_mut("crypto").unwrap().enabled = true;
    })
    .await;
    let shop = house.merchant("business").await;
    let body = json!({ "order_no": "O-1", "amount": 100, "currency": "USD", "channel": "crypto" });
    let refused = shop.post(PRE_AUTHS, body.clone()).await.expect(422, "PRE_AUTH_NOT_SUPPORTED");
    assert_eq!(refused.body["message"], "The payment channel does not support pre-authorization");
    let by_method = |method: &str| json!({ "order_no": "O-1", "amount": 100, "currency": "USD", "method": method });
    shop.post(PRE_AUTHS, by_method("crypto")).await.expect(422, "PRE_AUTH_NOT_SUPPORTED");
    shop.post(PRE_AUTHS, by_method("shells")).await.expect(503, "NO_CHANNEL_AVAILABLE");
    let text = body.to_string();
    let mut headers: HashMap<String, String> =
        shop.signed("POST", PRE_AUTHS, &text, None, crate::support::unix_s(), &nonce());
    headers.insert(String::from("accept-language"), String::from("zh"));
    let refused = shop.send("POST", PRE_AUTHS, Some(text), headers).await.expect(422, "PRE_AUTH_NOT_SUPPORTED");
    assert_eq!(refused.body["message"], "当前支付渠道不支持预授权功能");
    assert!(shop.get(PRE_AUTHS).await.items().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pre_auth_outlives_its_process() {
    let house = House::start_with(with_instant).await;
    let shop = house.merchant("business").await;
    let held = hold(&shop, "O-1", json!({})).await.expect(201, "SUCCESS");
    let house = House::start_in(house.stop().await, with_instant).await;
    let shop = shop.at(&house.url);
    let path = format!("{PRE_AUTHS}/{}", held.data("pre_auth_no"));
    assert_eq!(shop.get(&path).await.body["data"], held.body["data"]);
    let again = hold(&shop, "O-1", json!({})).await.expect(409, "ORDER_EXISTS");
    assert_eq!(again.body["pre_auth_no"], held.data("pre_auth_no"));
    let captured = shop.post_with_key(&format!("{path}/capture"), json!({}), "k-1").await.expect(200, "SUCCESS");
    assert_eq!(captured.body["data"]["captured_amount"], 10_000);
    house.stop().await;
}
