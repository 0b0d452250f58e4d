//! Input that nobody should send: each gets the right code, names the field, and leaves nothing behind.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Answer, Client, House, eventually, nonce, unix_s};

const PAYMENTS: &str = "/api/v1/payments";
const JSON: Option<&str> = Some("application/json");
/// Passes the check digit; nobody's card.
const PAN: &str = "4242424242424242";

async fn post_text(shop: &Client, text: &str) -> Answer {
    shop.post_bytes(PAYMENTS, text.as_bytes(), JSON).await
}

fn payment_with(field: &str, value: Value) -> Value {
    let mut body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" });
    body[field] = value;
    body
}

async fn assert_nothing_stored(house: &House, shop: &Client) {
    assert!(shop.get(PAYMENTS).await.expect(200, "SUCCESS").items().is_empty());
    assert!(shop.get("/api/v1/events").await.expect(200, "SUCCESS").items().is_empty());
    for channel in ["stripe", "alipay"] {
        let ledger = house.admin("GET", &format!("/admin/v1/sandbox/{channel}/ledger"), None).await;
        assert!(ledger.items().is_empty(), "{}", ledger.text);
    }
    let paid = shop.pay("O-1", 900, json!({})).await;
    assert_eq!((paid.status, paid.data("status")), (201, "success"), "the order number is free: {}", paid.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_json_object_is_refused() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let whole = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" }).to_string();
    for length in 1..whole.len() {
        let refused = post_text(&shop, &whole[..length]).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), ["body"], "{}", refused.text);
    }
    let brackets = "[".repeat(32_000);
    let closed = format!("{{\"metadata\":{brackets}{}}}", "]".repeat(32_000));
    let objects = "{\"a\":".repeat(13_000);
    for text in [
        "",
        " ",
        "null",
        "true",
        "1",
        "\"O-1\"",
        "[]",
        "[\"O-1\",900,\"USD\"]",
        "{",
        "}",
        "{}{}",
        "{\"order_no\"}",
        "{'order_no':'O-1'}",
        "{\"order_no\":\"O-1\",}",
        "\u{feff}{}",
        &format!("{whole}x"),
        &format!("{whole}{whole}"),
        &brackets,
        &objects,
        &format!("{{\"metadata\":{objects}"),
    ] {
        let refused = post_text(&shop, text).await.expect(400, "INVALID_REQUEST");
        let fields = refused.wrong_fields();
        assert!(fields.len() == 1 && !fields[0].is_empty(), "{}", refused.text);
        assert!(refused.text.len() < 500, "input is not repeated: {}", refused.text);
    }
    let nested = post_text(&shop, &closed).await.expect(400, "INVALID_REQUEST");
    assert_eq!(nested.wrong_fields(), ["metadata"], "{}", nested.text);
    for bytes in
        [&b"\xff\xfe{}"[..], b"{\"order_no\":\"\xff\"}", b"{\"order_no\":\"O-\x00\"}", b"\x00", b"{\"\xc3\x28\":1}"]
    {
        let refused = shop.post_bytes(PAYMENTS, bytes, JSON).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields().len(), 1, "{}", refused.text);
    }
    assert_nothing_stored(&house, &shop).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_brackets_harm_nobody() {
    let house = House::start_with(|config| config.server.body_max_bytes = 1 << 20).await;
    let shop = house.merchant("premium").await;
    let deep = "[".repeat(100_000);
    for text in [
        deep.clone(),
        format!("{{\"metadata\":{deep}"),
        format!("{{\"metadata\":{{\"a\":{deep}"),
        format!("{{\"x\":{deep}"),
    ] {
        let refused = post_text(&shop, &text).await.expect(400, "INVALID_REQUEST");
        assert!(refused.text.len() < 500, "{}", refused.text);
    }
    let deep_object = "{\"a\":".repeat(100_000);
    post_text(&shop, &deep_object).await.expect(400, "INVALID_REQUEST");
    assert_nothing_stored(&house, &shop).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_is_checked_and_named() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let long = "x".repeat(300);
    let many: serde_json::Map<String, Value> = (0..21).map(|n| (format!("k{n}"), json!("v"))).collect();
    let wrong: Vec<(&str, Vec<Value>)> = vec![
        (
            "order_no",
            vec![
                json!(""),
                json!("a/b"),
                json!("../etc/passwd"),
                json!("a\nb"),
                json!("a\u{0}b"),
                json!("a b"),
                json!("Ö-1"),
                json!("x".repeat(65)),
                json!(7),
                json!(null),
                json!(["O-1"]),
                json!({ "a": 1 }),
                json!(true),
            ],
        ),
        (
            "amount",
            vec![
                json!(0),
                json!(-1),
                json!(i64::MIN),
                json!(1.5),
                json!(900.0),
                json!(1e3),
                json!(u64::MAX),
                json!("900"),
                json!(null),
                json!([900]),
                json!(true),
            ],
        ),
        ("currency", vec![json!("usd"), json!("US"), json!("USDX"), json!(""), json!("U$D"), json!(840), json!(null)]),
        ("country", vec![json!("us"), json!("USA"), json!("ZZ"), json!(""), json!(1), json!(["US"])]),
        ("method", vec![json!(""), json!("CARD"), json!("a b"), json!("x".repeat(33)), json!(1)]),
        ("channel", vec![json!("nobody"), json!(""), json!("STRIPE"), json!(1), json!("stripe\u{0}")]),
        ("payment_token", vec![json!(""), json!("a b"), json!("a\nb"), json!("é"), json!(&long), json!(1)]),
        (
            "customer_email",
            vec![
                json!(""),
                json!("a"),
                json!("a@b"),
                json!("a b@c.de"),
                json!("a@b@c.de"),
                json!("a\n@b.cd"),
                json!(1),
            ],
        ),
        (
            "customer_ip",
            vec![json!(""), json!("1.2.3"), json!("1.2.3.4/8"), json!("::g"), json!("localhost"), json!(1)],
        ),
        ("description", vec![json!("a\nb"), json!("a\u{0}b"), json!(&long), json!(1), json!({})]),
        (
            "return_url",
            vec![
                json!(""),
                json!("example.com"),
                json!("javascript:alert(1)"),
                json!("ftp://example.com"),
                json!("https://"),
                json!("https://exa\nmple.com"),
                json!(" https://example.com"),
                json!("https://example.com/\u{0}"),
                json!(1),
            ],
        ),
        ("metadata", vec![json!("a"), json!(["a"]), json!(1), json!(many)]),
    ];
    for (field, values) in wrong {
        for value in values {
            let refused = shop.post(PAYMENTS, payment_with(field, value.clone())).await;
            let refused = refused.expect(400, "INVALID_REQUEST");
            assert_eq!(refused.wrong_fields(), [field], "{value}: {}", refused.text);
        }
    }
    for (key, value) in [("", json!("v")), ("k", json!(1)), ("k", json!(null)), ("k", json!("v".repeat(501)))] {
        let refused = shop.post(PAYMENTS, payment_with("metadata", json!({ key: value }))).await;
        let fields = refused.expect(400, "INVALID_REQUEST").wrong_fields();
        assert!(fields.len() == 1 && fields[0].starts_with("metadata"), "{fields:?}");
    }
    let long_key = shop.post(PAYMENTS, payment_with("metadata", json!({ "k".repeat(41): "v" }))).await;
    long_key.expect(400, "INVALID_REQUEST");
    let all_at_once = json!({ "order_no": "", "amount": 0, "currency": "usd", "country": "x" });
    let mut fields = shop.post(PAYMENTS, all_at_once).await.expect(400, "INVALID_REQUEST").wrong_fields();
    fields.sort();
    assert_eq!(fields, ["amount", "country", "currency", "order_no"]);
    for missing in ["order_no", "amount", "currency"] {
        let mut body = payment_with("country", json!("US"));
        body.as_object_mut().unwrap().remove(missing);
        let refused = shop.post(PAYMENTS, body).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [missing], "{}", refused.text);
    }
    for unknown in ["amout", "Amount", "payment_no", "livemode", "__proto__", ""] {
        let refused = shop.post(PAYMENTS, payment_with(unknown, json!(1))).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [unknown], "{}", refused.text);
    }
    assert_nothing_stored(&house, &shop).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_and_currencies_beyond_what_is_supported() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    for amount in [1_000_000_000_000_i64, i64::MAX] {
        let refused = shop.post(PAYMENTS, payment_with("amount", json!(amount))).await;
        let refused = refused.expect(422, "AMOUNT_TOO_LARGE");
        assert_eq!(refused.body["max_amount"], 999_999_999_999_i64, "{}", refused.text);
    }
    for amount in
        ["9223372036854775808", "-9223372036854775809", "1e400", "123456789012345678901234567890", "0x10", "NaN"]
    {
        let text = format!("{{\"order_no\":\"O-1\",\"amount\":{amount},\"currency\":\"USD\"}}");
        let refused = post_text(&shop, &text).await.expect(400, "INVALID_REQUEST");
        let field = &refused.wrong_fields()[0];
        assert!(["amount", "body"].contains(&field.as_str()), "{amount}: {}", refused.text);
    }
    for currency in ["XXX", "ABC", "ZZZ"] {
        shop.post(PAYMENTS, payment_with("currency", json!(currency))).await.expect(422, "CURRENCY_NOT_SUPPORTED");
    }
    assert_nothing_stored(&house, &shop).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_there_twice_is_refused() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    for (text, field) in [
        ("{\"order_no\":\"O-1\",\"amount\":900,\"amount\":901,\"currency\":\"USD\"}", "amount"),
        ("{\"order_no\":\"O-1\",\"amount\":900,\"amount\":900,\"currency\":\"USD\"}", "amount"),
        ("{\"order_no\":\"O-1\",\"order_no\":\"O-2\",\"amount\":900,\"currency\":\"USD\"}", "order_no"),
        ("{\"order_no\":\"O-1\",\"amount\":900,\"currency\":\"USD\",\"country\":null,\"country\":\"US\"}", "country"),
        (
            "{\"order_no\":\"O-1\",\"amount\":900,\"currency\":\"USD\",\"metadata\":{\"a\":\"1\",\"a\":\"2\"}}",
            "metadata.a",
        ),
    ] {
        let refused = post_text(&shop, text).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [field], "{}", refused.text);
    }
    assert_nothing_stored(&house, &shop).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn card_numbers_are_refused_wherever_they_stand_and_kept_nowhere() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let spaced = "4242 4242 4242 4242";
    let fields = [
        ("order_no", json!(PAN)),
        ("country", json!(PAN)),
        ("currency", json!(PAN)),
        ("method", json!(PAN)),
        ("channel", json!(PAN)),
        ("payment_token", json!(PAN)),
        ("customer_email", json!(format!("{PAN}@mail.example"))),
        ("customer_ip", json!(PAN)),
        ("description", json!(format!("card {spaced} ok"))),
        ("return_url", json!(format!("https://shop.example/?card={PAN}"))),
        ("metadata", json!({ "card": PAN })),
        ("metadata", json!({ PAN: "card" })),
        ("metadata", json!({ "note": "4242-4242-4242-4242" })),
    ];
    for (field, value) in fields {
        let refused = shop.post(PAYMENTS, payment_with(field, value)).await.expect(422, "PAN_REFUSED");
        assert_eq!(refused.body["field"], field, "{}", refused.text);
        assert!(!refused.text.contains("4242"), "{}", refused.text);
        let quoted = shop.post("/api/v1/routing/quote", payment_with("description", json!(PAN))).await;
        quoted.expect(422, "PAN_REFUSED");
    }
    let unknown_field = shop.post(PAYMENTS, payment_with("card_number", json!(PAN))).await;
    let unknown_field = unknown_field.expect(400, "INVALID_REQUEST");
    assert!(!unknown_field.text.contains(PAN), "{}", unknown_field.text);
    let wrong_type = shop.post(PAYMENTS, payment_with("order_no", json!(4_242_424_242_424_242_i64))).await;
    assert!(!wrong_type.expect(400, "INVALID_REQUEST").text.contains(PAN));
    let as_key = shop.post_with_key(PAYMENTS, payment_with("description", json!(PAN)), "k-1").await;
    as_key.expect(422, "PAN_REFUSED");
    let endpoint = json!({ "url": "https://shop.example/", "description": PAN });
    shop.post("/api/v1/webhooks/endpoints", endpoint).await.expect(422, "PAN_REFUSED");
    let endpoint = json!({ "url": format!("https://shop.example/{PAN}") });
    shop.post("/api/v1/webhooks/endpoints", endpoint).await.expect(422, "PAN_REFUSED");
    assert_nothing_stored(&house, &shop).await;

    let paid = shop.get(PAYMENTS).await.items().remove(0);
    let refunds = format!("{PAYMENTS}/{}/refunds", paid["payment_no"].as_str().unwrap());
    let refused = shop.post_with_key(&refunds, json!({ "reason": spaced }), "k-2").await.expect(422, "PAN_REFUSED");
    assert_eq!(refused.body["field"], "reason");
    assert!(shop.get(&refunds).await.items().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_have_a_size_and_a_type() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let padded = |bytes: usize| {
        let body = payment_with("country", json!("US")).to_string();
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    let too_large = post_text(&shop, &padded(65_537)).await.expect(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(too_large.body["max_bytes"], 65_536);
    for content_type in [
        None,
        Some(""),
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonp"),
        Some("application/json2"),
        Some("multipart/form-data; boundary=x"),
        Some("text/json"),
    ] {
        let body = padded(200);
        let refused = shop.post_bytes(PAYMENTS, body.as_bytes(), content_type).await;
        refused.expect(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let body = padded(200);
    for coding in ["gzip", "br", "deflate"] {
        let mut headers = shop.signed("POST", PAYMENTS, &body, None, unix_s(), &nonce());
        headers.insert("content-encoding".to_owned(), coding.to_owned());
        shop.send("POST", PAYMENTS, Some(body.clone()), headers).await.expect(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    assert!(shop.get(PAYMENTS).await.items().is_empty());
    // The largest body that is allowed, with parameters in its type.
    let largest = padded(65_536);
    let taken = shop.post_bytes(PAYMENTS, largest.as_bytes(), Some("Application/JSON; charset=utf-8")).await;
    taken.expect(201, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_methods_and_queries_are_exact() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    for path in [
        "/api/v1",
        "/api/v1/",
        "/api/v1/nothing",
        "/api/v1/payment",
        "/api/v1/payments/",
        "/api/v1//payments",
        "/api/v1/PAYMENTS",
        "/api/v1/payments/PY1/nothing",
        "/api/v1/payments/PY1",
        "/api/v1/payments/%00",
        "/api/v1/payments/%ff",
        "/api/v1/payments/..%2f..%2fadmin",
        "/api/v1/refunds/RF1",
        "/api/v1/webhooks/endpoints/we_1",
        "/api/v1/webhooks/notifications/%00%00",
    ] {
        shop.get(path).await.expect(404, "NOT_FOUND");
    }
    let long = format!("/api/v1/payments/{}", "x".repeat(6_000));
    shop.get(&long).await.expect(404, "NOT_FOUND");
    for (method, path, allowed) in [
        ("DELETE", PAYMENTS, "GET"),
        ("PUT", PAYMENTS, "POST"),
        ("PATCH", "/api/v1/payments/PY1", "GET"),
        ("POST", "/api/v1/payments/PY1", "GET"),
        ("GET", "/api/v1/payments/PY1/cancel", "POST"),
        ("GET", "/api/v1/routing/quote", "POST"),
        ("POST", "/api/v1/limits", "GET"),
        ("PUT", "/api/v1/webhooks/endpoints/we_1", "PATCH"),
    ] {
        let refused = shop.request(method, path, None, None).await.expect(405, "METHOD_NOT_ALLOWED");
        assert!(refused.header("allow").contains(allowed), "{method} {path}: {}", refused.header("allow"));
    }
    for query in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=1.5",
        "limit=99999999999999999999",
        "limit=1&limit=2",
        "cursor=%00",
        "cursor=zz",
        "cursor=abc",
        "order_no=O-1&limit=0",
        "order_no=O-1&cursor=zz",
        "status=paid",
        "status=SUCCESS",
        "from=yesterday",
        "from=2025-13-01T00:00:00Z",
        "to=1700000000",
        "Status=failed",
        "status[]=failed",
        "&&x",
        "=",
        "%ff=1",
        "a=%zz",
    ] {
        shop.get(&format!("{PAYMENTS}?{query}")).await.expect(400, "INVALID_REQUEST");
    }
    for query in ["", "&", "&&", "status=", "cursor=", "order_no=nobody", "channel=nobody", "order_no=%00%ff"] {
        let list = shop.get(&format!("{PAYMENTS}?{query}")).await.expect(200, "SUCCESS");
        assert!(list.items().is_empty());
    }
    // A cursor that no list has given.
    for cursor in ["00", "ff", &"ff".repeat(500), "5059", "50590000", &"00".repeat(8), &"00".repeat(17)] {
        for list in ["payments", "pre-auths", "events", "webhooks/endpoints", "webhooks/notifications"] {
            let refused = shop.get(&format!("/api/v1/{list}?cursor={cursor}")).await.expect(400, "INVALID_REQUEST");
            assert_eq!(refused.wrong_fields(), ["cursor"], "{list} {cursor}");
        }
        for list in ["merchants", "payments", "pre-auths", "erasures", "webhooks/endpoints", "costs"] {
            let list = format!("/admin/v1/{list}?cursor={cursor}");
            let refused = house.admin("GET", &list, None).await.expect(400, "INVALID_REQUEST");
            assert_eq!(refused.wrong_fields(), ["cursor"], "{list}");
        }
    }
    for list in ["audit", "routing/versions"] {
        let list = format!("/admin/v1/{list}?cursor=5059");
        assert_eq!(house.admin("GET", &list, None).await.expect(400, "INVALID_REQUEST").wrong_fields(), ["cursor"]);
    }
    // One of another list's making that has the form leads nowhere bad.
    let another = hex::encode(b"we_0m6a1b2c3d4e5f6g7h8\0");
    shop.get(&format!("{PAYMENTS}?cursor={another}")).await.expect(200, "SUCCESS");
    shop.get("/api/v1/payments/PY1?x=1").await.expect(400, "INVALID_REQUEST");
    assert_nothing_stored(&house, &shop).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_narrow_a_list_by_order_number_too() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    shop.pay("O-1", 900, json!({ "channel": "stripe" })).await.expect(201, "SUCCESS");
    for (query, count) in [
        ("order_no=O-1", 1),
        ("order_no=O-1&status=success", 1),
        ("order_no=O-1&status=failed", 0),
        ("order_no=O-1&channel=stripe", 1),
        ("order_no=O-1&channel=alipay", 0),
        ("order_no=O-1&from=2020-01-01T00:00:00Z", 1),
        ("order_no=O-1&from=2099-01-01T00:00:00Z", 0),
        ("order_no=O-1&to=2020-01-01T00:00:00Z", 0),
        ("from=2099-01-01T00:00:00Z", 0),
        ("from=2020-01-01T00:00:00Z&to=2099-01-01T00:00:00Z", 1),
    ] {
        let list = shop.get(&format!("{PAYMENTS}?{query}")).await.expect(200, "SUCCESS");
        assert_eq!(list.items().len(), count, "{query}: {}", list.text);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotency_keys_have_a_form() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" });
    for key in ["", "a b", &"k".repeat(256)] {
        let refused = shop.post_with_key(PAYMENTS, body.clone(), key).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), ["Idempotency-Key"], "{}", refused.text);
    }
    assert_nothing_stored(&house, &shop).await;
    let longest = "k".repeat(255);
    let body = json!({ "order_no": "O-2", "amount": 900, "currency": "USD" });
    let first = shop.post_with_key(PAYMENTS, body.clone(), &longest).await.expect(201, "SUCCESS");
    let again = shop.post_with_key(PAYMENTS, body, &longest).await;
    assert_eq!((again.text.as_str(), again.header("idempotent-replayed")), (first.text.as_str(), "true"));
    house.stop().await;
}

/// Sends bytes as they are and reads what comes back until the connection ends.
async fn raw(url: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    // The other side may hang up before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stayed open after {:?}", String::from_utf8_lossy(bytes));
    String::from_utf8_lossy(&answer).into_owned()
}

fn head_of(method: &str, path: &str, headers: &HashMap<String, String>) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{lines}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_http_end_the_connection() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /api/v1/payments HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /api/v1/payments HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /api/v1/payments HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\ncontent-length: 5\r\n\r\n",
    ] {
        let answer = raw(&house.url, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"), "{answer}");
    }
    let huge_head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-filler: {}\r\n\r\n", "x".repeat(64 * 1024));
    let answer = raw(&house.url, huge_head.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = "x-a: b\r\n".repeat(1_000);
    let answer = raw(&house.url, format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_nothing_stored(&house, &shop).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_make_no_sense_are_refused() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let body = payment_with("country", json!("US")).to_string();
    let mut headers = shop.signed("POST", PAYMENTS, &body, None, unix_s(), &nonce());
    headers.insert("content-type".to_owned(), "application/json".to_owned());
    headers.insert("transfer-encoding".to_owned(), "chunked".to_owned());
    let head = head_of("POST", PAYMENTS, &headers);
    let answer = raw(&house.url, format!("{head}\r\nzz\r\n{body}\r\n0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("INVALID_REQUEST"), "{answer}");
    // Larger than allowed, without ever saying how large.
    let chunk = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
    let answer = raw(&house.url, format!("{head}\r\n{chunk}{chunk}{chunk}0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("PAYLOAD_TOO_LARGE"), "{answer}");
    assert_nothing_stored(&house, &shop).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_cut_off_and_are_in_nobodys_way() {
    let house = House::start_with(|config| {
        config.server.header_timeout_ms = 300;
        config.server.body_timeout_ms = 300;
        config.server.requests_in_flight_max = 8;
    })
    .await;
    let shop = house.merchant("premium").await;
    let address = house.url.trim_start_matches("http://").to_owned();
    // Four times as many as may be worked on at once: none of them counts before its head is complete.
    let mut slow = Vec::new();
    for _ in 0..32 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"GET /api/v1/payments HTTP/1.1\r\nhost: loc").await.unwrap();
        slow.push(stream);
    }
    shop.get(PAYMENTS).await.expect(200, "SUCCESS");
    for mut stream in slow {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "a slow head was waited for");
        assert!(answer.is_empty());
    }

    let body = payment_with("country", json!("US")).to_string();
    let mut headers = shop.signed("POST", PAYMENTS, &body, None, unix_s(), &nonce());
    headers.insert("content-type".to_owned(), "application/json".to_owned());
    headers.insert("content-length".to_owned(), body.len().to_string());
    let half = format!("{}\r\n{}", head_of("POST", PAYMENTS, &headers), &body[..20]);
    let halves = (0..6).map(|_| raw(&house.url, half.as_bytes()));
    let meanwhile = async {
        for _ in 0..5 {
            shop.get(PAYMENTS).await.expect(200, "SUCCESS");
        }
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(halves), meanwhile);
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("REQUEST_TIMEOUT"), "{answer}");
    }
    // A client that breaks off in the middle leaves nothing, not even a used nonce.
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(half.as_bytes()).await.unwrap();
    drop(stream);
    eventually("the place of the broken request", || async { (shop.get(PAYMENTS).await.status == 200).then_some(()) })
        .await;
    headers.remove("content-length");
    let paid = shop.send("POST", PAYMENTS, Some(body), headers).await.expect(201, "SUCCESS");
    assert_eq!(house.charges(paid.data("payment_no")).await, 1);
    assert_eq!(shop.get(PAYMENTS).await.items().len(), 1);
    house.stop().await;
}
