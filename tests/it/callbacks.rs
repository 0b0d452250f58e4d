//! What providers send of their own accord, over real sockets: proved, kept, and gone into while nobody else asks.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::config::Config;
use tollgate::sandbox::credentials::{
    ALIPAY_APP_ID, ALIPAY_PRIVATE_KEY, BTCPAY_STORE_ID, BTCPAY_WEBHOOK_SECRET, STRIPE_WEBHOOK_SECRET,
};

use crate::support::{Client, House, eventually, http_client, unix_s};

const PAYMENTS: &str = "/api/v1/payments";
const DAY_MS: u64 = 86_400_000;

/// Nobody asks of his own accord within a day.
fn without_polling(config: &mut Config) {
    config.payments.resolve_first_ms = DAY_MS;
    config.payments.resolve_early_max_ms = DAY_MS;
}

fn hmac_of(secret: &str, message: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    hex::encode(mac.chain_update(message).finalize().into_bytes())
}

/// Posts to a channel's address; answers status, content type and body.
async fn post(house: &House, channel: &str, headers: &[(&str, String)], body: String) -> (u16, String, String) {
    let mut request = http_client().post(format!("{}/callbacks/{channel}", house.url)).body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = request.send().await.unwrap();
    let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), content_type.unwrap_or_default(), response.text().await.unwrap())
}

fn stripe_signature(body: &str, at_s: u64) -> String {
    format!("t={at_s},v1={}", hmac_of(STRIPE_WEBHOOK_SECRET, format!("{at_s}.{body}").as_bytes()))
}

async fn stripe_tells(house: &House, body: &Value) -> u16 {
    let body = body.to_string();
    let signature = stripe_signature(&body, unix_s());
    post(house, "stripe", &[("stripe-signature", signature)], body).await.0
}

/// An event of Stripe's about a PaymentIntent with our names in it.
fn event(id: &str, kind: &str, number: &str, reference: &str, shop: &Client) -> Value {
    let metadata = json!({ "gateway_payment_id": reference, "gateway_merchant": shop.merchant_id });
    let intent = json!({ "id": number, "object": "payment_intent", "metadata": metadata });
    json!({ "id": id, "object": "event", "type": kind, "livemode": false, "data": { "object": intent } })
}

async fn comes_to(shop: &Client, path: &str, status: &str) -> Value {
    eventually(status, || async {
        let found = shop.get(path).await;
        (found.data("status") == status).then(|| found.body["data"].clone())
    })
    .await
}

async fn figure(house: &House, line: &str) {
    eventually(line, || async {
        let figures = house.admin("GET", "/admin/v1/metrics", None).await;
        figures.text.lines().any(|found| found == line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payer_approves_and_the_provider_says_so() {
    let house = House::start_with(without_polling).await;
    let shop = house.merchant("business").await;
    let waits = shop.pay("O-1", 900, json!({ "channel": "stripe", "payment_token": "tok_3ds" })).await;
    let waits = waits.expect(201, "SUCCESS");
    assert_eq!(waits.data("status"), "requires_action");
    let (payment_no, number) = (waits.data("payment_no").to_owned(), waits.data("channel_order_no").to_owned());
    let page = waits.body["data"]["next_action"]["url"].as_str().unwrap().to_owned();
    assert!(http_client().post(format!("{page}/approve")).send().await.unwrap().status().is_success());
    let path = format!("{PAYMENTS}/{payment_no}");
    assert_eq!(shop.get(&path).await.data("status"), "requires_action", "nobody has asked");
    let told = event("evt_1", "payment_intent.succeeded", &number, &payment_no, &shop);
    for _ in 0..5 {
        assert_eq!(stripe_tells(&house, &told).await, 200);
    }
    comes_to(&shop, &path, "success").await;
    // What came before comes late, and a claim about it by the provider's number alone, twice.
    let late = event("evt_0", "payment_intent.requires_action", &number, &payment_no, &shop);
    assert_eq!(stripe_tells(&house, &late).await, 200);
    for id in ["evt_2", "evt_3"] {
        let claim = json!({ "id": "du_1", "object": "dispute", "payment_intent": number, "metadata": {} });
        let told = json!({
            "id": id, "type": "charge.dispute.created", "livemode": false, "data": { "object": claim },
        });
        assert_eq!(stripe_tells(&house, &told).await, 200);
    }
    figure(&house, "tollgate_callbacks_open 0").await;
    figure(&house, r#"tollgate_callbacks_total{channel="stripe",outcome="duplicate"} 4"#).await;
    assert_eq!(shop.get(&path).await.data("status"), "success");
    let events = shop.get("/api/v1/events").await.items();
    let disputed: Vec<&Value> = events.iter().filter(|event| event["event"] == "payment.disputed").collect();
    assert_eq!(disputed.len(), 1, "{events:?}");
    assert_eq!(house.ledger("stripe", &payment_no).await.len(), 1);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_is_approved_and_the_provider_says_so() {
    let house = House::start_with(without_polling).await;
    let shop = house.merchant("business").await;
    let wanted = json!({ "order_no": "ROOM-1", "amount": 10_000, "currency": "USD", "channel": "stripe" });
    let waits = shop.post("/api/v1/pre-auths", wanted).await.expect(201, "SUCCESS");
    assert_eq!(waits.data("status"), "requires_payment_method");
    let (number, reference) = (waits.data("channel_pre_auth_no").to_owned(), waits.data("pre_auth_no").to_owned());
    let page = waits.body["data"]["next_action"]["url"].as_str().unwrap().to_owned();
    assert!(http_client().post(format!("{page}/approve")).send().await.unwrap().status().is_success());
    let told = event("evt_1", "payment_intent.amount_capturable_updated", &number, &reference, &shop);
    assert_eq!(stripe_tells(&house, &told).await, 200);
    comes_to(&shop, &format!("/api/v1/pre-auths/{reference}"), "requires_capture").await;
    let events = shop.get("/api/v1/events").await.items();
    assert!(events.iter().any(|event| event["event"] == "pre_auth.authorized"), "{events:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_provider_reads_what_it_wants_to() {
    let house = House::start_with(without_polling).await;
    let body = json!({ "id": "evt_1", "type": "x", "livemode": false, "data": { "object": {} } }).to_string();
    let signature = stripe_signature(&body, unix_s());
    let (status, content_type, text) = post(&house, "stripe", &[("stripe-signature", signature)], body).await;
    assert_eq!((status, content_type.as_str(), text.as_str()), (200, "text/plain", ""));

    let body = json!({ "deliveryId": "d1", "type": "InvoiceSettled", "storeId": BTCPAY_STORE_ID }).to_string();
    let signature = format!("sha256={}", hmac_of(BTCPAY_WEBHOOK_SECRET, body.as_bytes()));
    let (status, _, text) = post(&house, "crypto", &[("btcpay-sig", signature)], body).await;
    assert_eq!((status, text.as_str()), (200, ""));

    let mut fields =
        vec![("app_id", ALIPAY_APP_ID.to_owned()), ("notify_id", "n1".to_owned()), ("notify_type", "x".to_owned())];
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(ALIPAY_PRIVATE_KEY).unwrap()).unwrap();
    let signed: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut signature = vec![0; key.public().modulus_len()];
    let text = signed.join("&");
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    fields.extend([("sign_type", "RSA2".to_owned()), ("sign", STANDARD.encode(signature))]);
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
    let form = ("content-type", "application/x-www-form-urlencoded".to_owned());
    let (status, _, text) = post(&house, "alipay", &[form], body).await;
    assert_eq!((status, text.as_str()), (200, "success"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_proves_is_refused_without_a_word() {
    let house = House::start_with(|config| {
        without_polling(config);
        config.server.body_timeout_ms = 500;
    })
    .await;
    let shop = house.merchant("business").await;
    let waits = shop.pay("O-1", 900, json!({ "channel": "stripe", "payment_token": "tok_3ds" })).await;
    let number = waits.data("channel_order_no");
    let body = event("evt_1", "payment_intent.succeeded", number, waits.data("payment_no"), &shop).to_string();
    let now = unix_s();
    let signatures = [
        String::new(),
        String::from("v1=00"),
        stripe_signature(&format!("{body} "), now),
        stripe_signature(&body, now - 400),
        stripe_signature(&body, now + 400),
        stripe_signature(&body, now).replace("v1=", "v0="),
    ];
    for signature in signatures {
        let (status, _, text) = post(&house, "stripe", &[("stripe-signature", signature.clone())], body.clone()).await;
        assert_eq!(status, 401, "{signature}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["code"], "UNAUTHENTICATED");
        assert!(!text.contains("evt_1") && !text.contains("payment_intent"), "{text}");
    }
    assert_eq!(post(&house, "stripe", &[], String::new()).await.0, 401, "no body, no signature");
    for channel in ["nobody", "", "stripe/x", "%00"] {
        let (status, ..) = post(&house, channel, &[], body.clone()).await;
        assert_eq!(status, 404, "{channel}");
    }
    let (status, _, text) = post(&house, "stripe", &[], "x".repeat(1024 * 1024)).await;
    assert_eq!(status, 413, "{text}");
    let read = http_client().get(format!("{}/callbacks/stripe", house.url)).send().await.unwrap();
    assert_eq!(read.status().as_u16(), 405);
    // Live events are none of the sandbox's, and another account's none of ours.
    for (field, value) in [("livemode", json!(true)), ("account", json!("acct_other"))] {
        let mut other: Value = serde_json::from_str(&body).unwrap();
        other[field] = value;
        assert_eq!(stripe_tells(&house, &other).await, 401, "{field}");
    }
    // A body that does not come, and one that breaks off.
    let address = house.url.trim_start_matches("http://").to_owned();
    let mut slow = TcpStream::connect(&address).await.unwrap();
    slow.write_all(b"POST /callbacks/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(Duration::from_secs(10), slow.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    let figures = house.admin("GET", "/admin/v1/metrics", None).await.text;
    assert!(figures.contains("tollgate_callbacks_open 0\n"), "{figures}");
    assert!(figures.contains("tollgate_callbacks_total{channel=\"stripe\",outcome=\"taken\"} 0\n"), "{figures}");
    assert_eq!(shop.get(&format!("{PAYMENTS}/{}", waits.data("payment_no"))).await.data("status"), "requires_action");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_chunks_is_read_as_it_comes() {
    let house = House::start_with(without_polling).await;
    // White space that no program would write again.
    let body = "{ \"id\":\"evt_1\" ,\n\t\"type\":\"x\",\"livemode\":false, \"data\":{\"object\":{}} }";
    let signature = stripe_signature(body, unix_s());
    let address = house.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /callbacks/stripe?from=x HTTP/1.1\r\nhost: x\r\nstripe-signature: {signature}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in body.as_bytes().chunks(7) {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
        stream.write_all(piece).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_is_gone_into_after_a_restart() {
    let house = House::start_with(without_polling).await;
    let shop = house.merchant("business").await;
    let mut paths = Vec::new();
    for number in 0..10 {
        let more = json!({ "channel": "stripe", "payment_token": "tok_3ds" });
        let waits = shop.pay(&format!("O-{number}"), 900, more).await.expect(201, "SUCCESS");
        let reference = waits.data("payment_no");
        let told = event(
            &format!("evt_{number}"),
            "payment_intent.canceled",
            waits.data("channel_order_no"),
            reference,
            &shop,
        );
        assert_eq!(stripe_tells(&house, &told).await, 200);
        paths.push(format!("{PAYMENTS}/{reference}"));
    }
    let directory = house.stop().await;
    // Its emulators begin anew and know nothing of them: what was told is asked about all the same.
    let house = House::start_in(directory, without_polling).await;
    let shop = shop.at(&house.url);
    figure(&house, "tollgate_callbacks_open 0").await;
    for path in paths {
        assert!(!shop.get(&path).await.data("status").is_empty());
    }
    let again = event("evt_3", "payment_intent.canceled", "pi_1", "PY1", &shop);
    assert_eq!(stripe_tells(&house, &again).await, 200);
    figure(&house, r#"tollgate_callbacks_total{channel="stripe",outcome="duplicate"} 1"#).await;
    house.stop().await;
}
