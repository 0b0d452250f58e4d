//! Who gets in: signatures, times, nonces, HTTP Basic, keys that come and go.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tollgate::domain::audit::Operator;

use crate::support::{Answer, Client, House, Key, LogBook, Receiver, eventually, nonce, unix_s};

const PAYMENTS: &str = "/api/v1/payments";
const QUOTE: &str = "/api/v1/routing/quote";

type Headers = HashMap<String, String>;

/// An answer's body without what differs between any two requests.
fn without_id(answer: &Answer) -> serde_json::Value {
    let mut body = answer.body.clone();
    body.as_object_mut().unwrap().remove("request_id");
    body
}

/// Names of an answer's headers.
fn header_names(answer: &Answer) -> Vec<String> {
    let mut names: Vec<String> = answer.headers.keys().cloned().collect();
    names.sort();
    names
}

fn basic(key_id: &str, secret: &str) -> Headers {
    let encoded = STANDARD.encode(format!("{key_id}:{secret}"));
    Headers::from([("authorization".to_owned(), format!("Basic {encoded}"))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_of_a_request_is_signed_and_every_failure_looks_the_same() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    let other = house.merchant("enterprise").await;
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" }).to_string();
    let good = shop.signed("POST", QUOTE, &body, Some("k-1"), unix_s(), &nonce());
    let with = |name: &str, value: String| {
        let mut headers = good.clone();
        headers.insert(name.to_owned(), value);
        headers
    };
    let without = |name: &str| {
        let mut headers = good.clone();
        headers.remove(name);
        headers
    };
    let unknown_key = shop.send("POST", QUOTE, Some(body.clone()), with("x-api-key", "ak_nobody".to_owned())).await;
    let unknown_key = unknown_key.expect(401, "UNAUTHENTICATED");
    assert!(unknown_key.header("x-ratelimit-limit").is_empty(), "nothing is said about a merchant");

    let signature = good["x-signature"].clone();
    let mut flipped = signature.clone().into_bytes();
    flipped[10] = if flipped[10] == b'0' { b'1' } else { b'0' };
    let later = (good["x-timestamp"].parse::<u64>().unwrap() + 1).to_string();
    let wrong_headers = [
        with("x-api-key", other.key.id.clone()),
        with("x-timestamp", later),
        with("x-nonce", nonce()),
        with("idempotency-key", "k-2".to_owned()),
        without("idempotency-key"),
        with("x-signature", String::from_utf8(flipped).unwrap()),
        with("x-signature", signature.replace("v1=", "v2=")),
        with("x-signature", signature.replace("v1=", "")),
        with("x-signature", signature[..signature.len() - 2].to_owned()),
        with("x-signature", String::new()),
    ];
    for headers in wrong_headers {
        let shown = format!("{headers:?}");
        let answer = shop.send("POST", QUOTE, Some(body.clone()), headers).await.expect(401, "UNAUTHENTICATED");
        assert_eq!(without_id(&answer), without_id(&unknown_key), "{shown}");
        assert_eq!(header_names(&answer), header_names(&unknown_key), "{shown}");
    }
    let incomplete = [without("x-api-key"), without("x-timestamp"), without("x-nonce"), without("x-signature")];
    for headers in incomplete.into_iter().chain([Headers::new()]) {
        let answer = shop.send("POST", QUOTE, Some(body.clone()), headers).await.expect(401, "UNAUTHENTICATED");
        assert_eq!(without_id(&answer), without_id(&unknown_key));
    }
    let elsewhere =
        [("PUT", QUOTE), ("POST", PAYMENTS), ("POST", "/api/v1/routing/quote?"), ("POST", "/api/v1/nothing")];
    for (method, path) in elsewhere {
        let answer = shop.send(method, path, Some(body.clone()), good.clone()).await.expect(401, "UNAUTHENTICATED");
        assert_eq!(without_id(&answer), without_id(&unknown_key), "{method} {path}");
    }
    let other_body = body.replace("900", "901");
    shop.send("POST", QUOTE, Some(other_body), good.clone()).await.expect(401, "UNAUTHENTICATED");
    // None of these has used the nonce up.
    shop.send("POST", QUOTE, Some(body.clone()), good).await.expect(200, "SUCCESS");
    assert!(shop.get(PAYMENTS).await.items().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_is_good_for_its_time_only() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    // A second may pass between signing and checking, which makes the old older and what is ahead less so.
    for (timestamp_s, is_accepted) in [
        (unix_s() - 301, false),
        (unix_s() - 295, true),
        (unix_s(), true),
        (unix_s() + 30, true),
        (unix_s() + 35, false),
        (0, false),
    ] {
        let headers = shop.signed("GET", PAYMENTS, "", None, timestamp_s, &nonce());
        let answer = shop.send("GET", PAYMENTS, None, headers).await;
        if is_accepted {
            answer.expect(200, "SUCCESS");
            continue;
        }
        let answer = answer.expect(401, "SIGNATURE_EXPIRED");
        let server_time = answer.body["server_time"].as_u64().unwrap();
        assert!(server_time.abs_diff(unix_s()) <= 2, "{}", answer.text);
    }
    for timestamp in ["", "soon", "-1", "1e9", "99999999999999999999", "170000000 0"] {
        let headers = shop.signed_at("GET", PAYMENTS, timestamp);
        shop.send("GET", PAYMENTS, None, headers).await.expect(401, "SIGNATURE_EXPIRED");
    }
    // A wrong signature does not learn anything about the time.
    let mut headers = shop.signed("GET", PAYMENTS, "", None, unix_s() - 1_000, &nonce());
    headers.insert("x-signature".to_owned(), format!("v1={}", "0".repeat(64)));
    shop.send("GET", PAYMENTS, None, headers).await.expect(401, "UNAUTHENTICATED");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_signed_before_the_start_may_only_read() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" }).to_string();
    let signed_s = unix_s();
    let post = shop.signed("POST", PAYMENTS, &body, Some("k-1"), signed_s, &nonce());
    let first = shop.send("POST", PAYMENTS, Some(body.clone()), post.clone()).await.expect(201, "SUCCESS");
    let get = shop.signed("GET", PAYMENTS, "", None, signed_s, &nonce());
    let delete_path = "/api/v1/webhooks/endpoints/we_1";
    let delete = shop.signed("DELETE", delete_path, "", None, signed_s, &nonce());
    // The same second as the start's would be accepted.
    eventually("the next second", || async { (unix_s() > signed_s).then_some(()) }).await;
    let directory = house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    let shop = shop.at(&house.url);

    let replayed = shop.send("POST", PAYMENTS, Some(body.clone()), post).await.expect(401, "SIGNATURE_EXPIRED");
    assert!(replayed.body["server_time"].as_u64().unwrap() > signed_s);
    shop.send("DELETE", delete_path, None, delete).await.expect(401, "SIGNATURE_EXPIRED");
    shop.send("GET", PAYMENTS, None, get).await.expect(200, "SUCCESS");
    let signed_anew = shop.request("POST", PAYMENTS, Some(body), Some("k-1")).await;
    assert_eq!((signed_anew.status, &signed_anew.text), (201, &first.text));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_is_good_once_per_key() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    let once = nonce();
    let now_s = unix_s();
    let headers = shop.signed("GET", PAYMENTS, "", None, now_s, &once);
    shop.send("GET", PAYMENTS, None, headers.clone()).await.expect(200, "SUCCESS");
    shop.send("GET", PAYMENTS, None, headers).await.expect(401, "NONCE_REUSED");
    for timestamp_s in [now_s - 1, now_s + 2] {
        let headers = shop.signed("GET", PAYMENTS, "", None, timestamp_s, &once);
        shop.send("GET", PAYMENTS, None, headers).await.expect(401, "NONCE_REUSED");
    }
    let headers = shop.signed("GET", "/api/v1/limits", "", None, now_s, &once);
    shop.send("GET", "/api/v1/limits", None, headers).await.expect(401, "NONCE_REUSED");
    let other = house.merchant("enterprise").await;
    let headers = other.signed("GET", PAYMENTS, "", None, now_s, &once);
    other.send("GET", PAYMENTS, None, headers).await.expect(200, "SUCCESS");

    for bad in ["", "a b", "a.b", "n+1", "{}", &"n".repeat(65)] {
        let headers = shop.signed("GET", PAYMENTS, "", None, now_s, bad);
        shop.send("GET", PAYMENTS, None, headers).await.expect(401, "UNAUTHENTICATED");
    }
    for good in ["n", "A-Z_09", &"n".repeat(64)] {
        let headers = shop.signed("GET", PAYMENTS, "", None, now_s, good);
        shop.send("GET", PAYMENTS, None, headers).await.expect(200, "SUCCESS");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_equal_requests_at_once_one_gets_in() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" }).to_string();
    let headers = shop.signed("POST", PAYMENTS, &body, None, unix_s(), &nonce());
    let sent = (0..8).map(|_| shop.send("POST", PAYMENTS, Some(body.clone()), headers.clone()));
    let answers = futures_util::future::join_all(sent).await;
    let codes: Vec<&str> = answers.iter().map(Answer::code).collect();
    assert_eq!(codes.iter().filter(|code| **code == "SUCCESS").count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == "NONCE_REUSED").count(), 7, "{codes:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn basic_is_for_loopback_without_a_proxy() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    let good = basic(&shop.key.id, &shop.key.secret);
    shop.send("GET", PAYMENTS, None, good.clone()).await.expect(200, "SUCCESS");
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" }).to_string();
    shop.send("POST", PAYMENTS, Some(body), good.clone()).await.expect(201, "SUCCESS");

    let unknown = shop.send("GET", PAYMENTS, None, basic("ak_nobody", &shop.key.secret)).await;
    let unknown = unknown.expect(401, "UNAUTHENTICATED");
    let other = house.merchant("enterprise").await;
    for (key_id, secret) in [
        (shop.key.id.as_str(), "sk_wrong"),
        (shop.key.id.as_str(), ""),
        ("", shop.key.secret.as_str()),
        (shop.key.id.as_str(), other.key.secret.as_str()),
        (shop.key.id.as_str(), &shop.key.secret.to_uppercase()),
    ] {
        let refused = shop.send("GET", PAYMENTS, None, basic(key_id, secret)).await.expect(401, "UNAUTHENTICATED");
        assert_eq!(without_id(&refused), without_id(&unknown));
    }
    for value in ["Basic", "Basic !!", "Bearer x", &format!("Basic {}", STANDARD.encode("nocolon"))] {
        let headers = Headers::from([("authorization".to_owned(), value.to_owned())]);
        shop.send("GET", PAYMENTS, None, headers).await.expect(401, "UNAUTHENTICATED");
    }
    for (name, value) in [
        ("forwarded", "for=192.0.2.1;proto=https"),
        ("via", "1.1 proxy"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "192.0.2.1"),
        ("cf-connecting-ip", "192.0.2.1"),
    ] {
        let mut headers = good.clone();
        headers.insert(name.to_owned(), value.to_owned());
        shop.send("GET", PAYMENTS, None, headers).await.expect(401, "UNAUTHENTICATED");
        // A signature needs no private way.
        let mut headers = shop.signed("GET", PAYMENTS, "", None, unix_s(), &nonce());
        headers.insert(name.to_owned(), value.to_owned());
        shop.send("GET", PAYMENTS, None, headers).await.expect(200, "SUCCESS");
    }
    // Whoever begins to sign is not taken at the password's word.
    let mut mixed = good;
    mixed.insert("x-signature".to_owned(), format!("v1={}", "0".repeat(64)));
    shop.send("GET", PAYMENTS, None, mixed).await.expect(401, "UNAUTHENTICATED");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_that_saw_tls_may_pass_a_password_on() {
    let house = House::start_with(|config| config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()]).await;
    let shop = house.merchant("enterprise").await;
    for (protocols, status) in [("https", 200), ("HTTPS", 200), ("http", 401), ("https, http", 401), ("", 401)] {
        let mut headers = basic(&shop.key.id, &shop.key.secret);
        headers.insert("x-forwarded-for".to_owned(), "192.0.2.1".to_owned());
        headers.insert("x-forwarded-proto".to_owned(), protocols.to_owned());
        let answer = shop.send("GET", PAYMENTS, None, headers).await;
        assert_eq!(answer.status, status, "{protocols}: {}", answer.text);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_merchant_is_kept_out_from_the_next_request_on() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    let path = format!("/admin/v1/merchants/{}", shop.merchant_id);
    shop.get(PAYMENTS).await.expect(200, "SUCCESS");
    for _ in 0..3 {
        house.admin("PATCH", &path, Some(json!({ "status": "suspended" }))).await.expect(200, "SUCCESS");
        shop.get(PAYMENTS).await.expect(403, "FORBIDDEN");
        shop.pay("O-1", 900, json!({})).await.expect(403, "FORBIDDEN");
        let with_password = shop.send("GET", PAYMENTS, None, basic(&shop.key.id, &shop.key.secret)).await;
        with_password.expect(403, "FORBIDDEN");
        // Whoever can't sign does not learn that the merchant is suspended.
        shop.send("GET", PAYMENTS, None, basic(&shop.key.id, "sk_wrong")).await.expect(401, "UNAUTHENTICATED");
        house.admin("PATCH", &path, Some(json!({ "status": "active" }))).await.expect(200, "SUCCESS");
        assert!(shop.get(PAYMENTS).await.expect(200, "SUCCESS").items().is_empty());
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merchant_changes_over_to_another_key() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    let keys = format!("/admin/v1/merchants/{}/keys", shop.merchant_id);
    let made = house.admin("POST", &keys, None).await.expect(201, "SUCCESS");
    let second = shop.with_key(Key { id: made.data("id").to_owned(), secret: made.data("secret").to_owned() });
    assert!(second.key.id.starts_with("ak_") && second.key.secret.starts_with("sk_"));
    assert_ne!(second.key.secret, shop.key.secret);
    shop.get(PAYMENTS).await.expect(200, "SUCCESS");
    second.get(PAYMENTS).await.expect(200, "SUCCESS");
    let crossed = shop.with_key(Key { id: shop.key.id.clone(), secret: second.key.secret.clone() });
    crossed.get(PAYMENTS).await.expect(401, "UNAUTHENTICATED");
    house.admin("POST", &keys, None).await.expect(409, "INVALID_STATE");

    let first_key = format!("{keys}/{}", shop.key.id);
    house.admin("DELETE", &first_key, None).await.expect(200, "SUCCESS");
    shop.get(PAYMENTS).await.expect(401, "UNAUTHENTICATED");
    second.get(PAYMENTS).await.expect(200, "SUCCESS");
    house.admin("DELETE", &first_key, None).await.expect(404, "NOT_FOUND");
    let made = house.admin("POST", &keys, None).await.expect(201, "SUCCESS");
    let third = shop.with_key(Key { id: made.data("id").to_owned(), secret: made.data("secret").to_owned() });

    let directory = house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    shop.at(&house.url).get(PAYMENTS).await.expect(401, "UNAUTHENTICATED");
    second.at(&house.url).get(PAYMENTS).await.expect(200, "SUCCESS");
    third.at(&house.url).get(PAYMENTS).await.expect(200, "SUCCESS");
    house.admin("DELETE", &format!("/admin/v1/merchants/{}", shop.merchant_id), None).await.expect(200, "SUCCESS");
    second.at(&house.url).get(PAYMENTS).await.expect(401, "UNAUTHENTICATED");
    third.at(&house.url).get(PAYMENTS).await.expect(401, "UNAUTHENTICATED");
    house.stop().await;
}

/// A key that is used all the time while it is taken away must not live on in a cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_key_stays_deleted_under_traffic() {
    let house = House::start_with(|config| config.auth.key_cache_max = 1).await;
    let shop = house.merchant("premium").await;
    // With room for one key in memory, two in turn are read from the store again and again.
    let other = house.merchant("premium").await;
    let keys = format!("/admin/v1/merchants/{}/keys", shop.merchant_id);
    for _ in 0..5 {
        let made = house.admin("POST", &keys, None).await.expect(201, "SUCCESS");
        let key = Key { id: made.data("id").to_owned(), secret: made.data("secret").to_owned() };
        let doomed = shop.with_key(key);
        let traffic = |client: Client| async move {
            for _ in 0..30 {
                client.get("/api/v1/limits").await;
            }
        };
        let path = format!("{keys}/{}", doomed.key.id);
        let delete = house.admin("DELETE", &path, None);
        let (_, _, _, deleted) =
            tokio::join!(traffic(doomed.clone()), traffic(doomed.clone()), traffic(other.clone()), delete);
        deleted.expect(200, "SUCCESS");
        doomed.get(PAYMENTS).await.expect(401, "UNAUTHENTICATED");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_in_no_log_no_debug_output_and_no_file() {
    let log = LogBook::open();
    let house = House::start().await;
    let command = serde_json::from_value(json!({ "name": "a shop", "tier": "premium" })).unwrap();
    let made = house.gateway.merchants().create(command, &Operator::process("test")).await.unwrap();
    let shown = format!("{made:?}");
    assert!(!shown.contains(&made.key.secret), "{shown}");
    let key = Key { id: made.key.id.clone(), secret: made.key.secret.clone() };
    let shop = Client::new(&house.url, key, &made.merchant.merchant_id);

    let receiver = Receiver::start().await;
    // With a key, so that the answer with the secret is kept for repetition.
    let endpoint = shop.post_with_key("/api/v1/webhooks/endpoints", json!({ "url": receiver.url }), "k-1").await;
    let endpoint = endpoint.expect(201, "SUCCESS");
    receiver.answer(500);
    let token = "281234567890123456789012";
    let more = json!({ "payment_token": token, "customer_email": "payer@mail.example", "channel": "alipay" });
    let paid = shop.pay("O-1", 900, more).await;
    assert_eq!(paid.status, 201, "{}", paid.text);
    eventually("the webhook", || async { receiver.about(paid.data("payment_no")).pop() }).await;
    shop.send("GET", PAYMENTS, None, basic(&shop.key.id, &shop.key.secret)).await.expect(200, "SUCCESS");
    let mut wrong = shop.signed("GET", PAYMENTS, "", None, unix_s(), &nonce());
    let signature = wrong["x-signature"].clone();
    wrong.insert("x-nonce".to_owned(), nonce());
    shop.send("GET", PAYMENTS, None, wrong).await.expect(401, "UNAUTHENTICATED");
    let admin_token = house.admin_token.clone();
    let directory = house.stop().await;

    let logged = log.text();
    assert!(logged.contains(&shop.merchant_id), "requests are logged");
    let secret = endpoint.data("secret");
    let password = STANDARD.encode(format!("{}:{}", shop.key.id, shop.key.secret));
    for hidden in [shop.key.secret.as_str(), secret, &admin_token, &password, &signature, token, "payer@mail.example"] {
        assert!(!hidden.is_empty() && !logged.contains(hidden), "the log holds {hidden}");
    }
    for hidden in [shop.key.secret.as_str(), secret] {
        assert_files_lack(directory.path(), hidden.as_bytes());
    }
}

/// No file below `directory` holds `hidden`.
fn assert_files_lack(directory: &std::path::Path, hidden: &[u8]) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_files_lack(&path, hidden);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let holds = bytes.windows(hidden.len()).any(|window| window == hidden);
        assert!(!holds, "{} holds a secret in clear", path.display());
    }
}
