//! Pre-auths that nobody should ask for so, over the emulators of all channels: each gets the right code, and the books of
//! both sides agree afterwards, whatever the provider did with its answers.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::{Answer, Client, House, eventually, http_client, nonce, unix_s};

const PRE_AUTHS: &str = "/api/v1/pre-auths";
const CHANNEL: &str = "/api/v1/channel/pre-auth";
/// The channels that hold money.
const HOLDING: [&str; 3] = ["stripe", "paypal", "alipay"];
/// Passes the check digit; nobody's card.
const PAN: &str = "4242424242424242";
const HELD: i64 = 10_000;

async fn hold(shop: &Client, channel: &str, order_no: &str, token: Option<&str>) -> Answer {
    let mut body = json!({ "order_no": order_no, "amount": HELD, "currency": "USD", "channel": channel });
    if let Some(token) = token {
        body["payment_token"] = json!(token);
    }
    shop.post(PRE_AUTHS, body).await
}

/// The path of one that is held.
async fn held(shop: &Client, channel: &str, order_no: &str) -> (String, String) {
    let held = hold(shop, channel, order_no, Some("tok_visa")).await.expect(201, "SUCCESS");
    assert_eq!((held.data("status"), held.data("channel")), ("requires_capture", channel), "{}", held.text);
    let number = held.data("pre_auth_no").to_owned();
    (format!("{PRE_AUTHS}/{number}"), number)
}

async fn comes_to(shop: &Client, path: &str, statuses: &[&str]) -> Value {
    eventually(&format!("{path} {statuses:?}"), || async {
        let found = shop.get(path).await.expect(200, "SUCCESS");
        statuses.contains(&found.data("status")).then(|| found.body["data"].clone())
    })
    .await
}

/// What the provider's book has of a pre-auth.
async fn book(house: &House, channel: &str, number: &str) -> Vec<(String, i64)> {
    let lines = house.ledger(channel, number).await;
    let line = |line: &Value| (line["operation"].as_str().unwrap().to_owned(), line["amount_minor"].as_i64().unwrap());
    lines.iter().map(line).collect()
}

fn lines(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(operation, amount)| ((*operation).to_owned(), *amount)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_out_of_turn_is_refused_with_where_it_stands() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    for channel in HOLDING {
        let (path, number) = held(&shop, channel, &format!("{channel}-1")).await;
        let capture = format!("{path}/capture");
        for (amount, field) in
            [(json!(0), "amount"), (json!(-1), "amount"), (json!("1"), "amount"), (json!(1.5), "amount")]
        {
            let refused = shop.post_with_key(&capture, json!({ "amount": amount }), &nonce()).await;
            assert_eq!(refused.expect(400, "INVALID_REQUEST").wrong_fields(), [field]);
        }
        let other = shop.post_with_key(&capture, json!({ "amount": 1, "currency": "EUR" }), &nonce()).await;
        assert_eq!(other.expect(400, "INVALID_REQUEST").wrong_fields(), ["currency"], "{channel}");
        let more = shop.post_with_key(&capture, json!({ "amount": HELD + 1 }), &nonce()).await;
        assert_eq!(more.expect(422, "AMOUNT_TOO_LARGE").body["max_amount"], HELD);
        let huge = shop.post_with_key(&capture, json!({ "amount": i64::MAX }), &nonce()).await;
        huge.expect(422, "AMOUNT_TOO_LARGE");
        assert_eq!(book(&house, channel, &number).await, lines(&[("hold", HELD)]), "nothing was sent: {channel}");

        let captured = shop.post_with_key(&capture, json!({ "amount": 2_500 }), "take").await.expect(200, "SUCCESS");
        assert_eq!((captured.data("status"), &captured.body["data"]["captured_amount"]), ("captured", &json!(2_500)));
        for (action, body) in
            [("capture", json!({ "amount": 1 })), ("capture", json!({ "amount": HELD + 1 })), ("cancel", json!({}))]
        {
            let refused = shop.post_with_key(&format!("{path}/{action}"), body, &nonce()).await;
            assert_eq!(refused.expect(409, "INVALID_STATE").body["status"], "captured", "the state goes first");
        }
        let again = shop.post_with_key(&capture, json!({ "amount": 2_500 }), "take").await;
        assert_eq!((&again.text, again.header("idempotent-replayed")), (&captured.text, "true"));
        let refunds = format!("{path}/refunds");
        let much = shop.post_with_key(&refunds, json!({ "amount": 2_501 }), &nonce()).await;
        assert_eq!(much.expect(422, "AMOUNT_TOO_LARGE").body["max_amount"], 2_500);
        let back = shop.post_with_key(&refunds, json!({ "amount": 1_000 }), &nonce()).await.expect(201, "SUCCESS");
        assert_eq!(back.data("status"), "success", "{channel}: {}", back.text);
        let expected = lines(&[("hold", HELD), ("capture", 2_500), ("refund", 1_000)]);
        assert_eq!(book(&house, channel, &number).await, expected, "{channel}");

        let (path, number) = held(&shop, channel, &format!("{channel}-2")).await;
        let early = shop.post_with_key(&format!("{path}/refunds"), json!({}), &nonce()).await;
        assert_eq!(early.expect(409, "INVALID_STATE").body["status"], "requires_capture");
        let cancel = format!("{path}/cancel");
        let canceled = shop.post_with_key(&cancel, json!({ "reason": "left" }), &nonce()).await.expect(200, "SUCCESS");
        assert_eq!((canceled.data("status"), &canceled.body["data"]["released_amount"]), ("canceled", &json!(HELD)));
        let late = shop.post_with_key(&format!("{path}/capture"), json!({}), &nonce()).await;
        assert_eq!(late.expect(409, "INVALID_STATE").body["status"], "canceled");
        let twice = shop.post_with_key(&cancel, json!({}), &nonce()).await.expect(200, "SUCCESS");
        assert_eq!(twice.data("status"), "canceled");
        assert_eq!(book(&house, channel, &number).await, lines(&[("hold", HELD), ("void", HELD)]), "{channel}");
        let (_, free) = held(&shop, channel, &format!("{channel}-2")).await;
        let taken = hold(&shop, channel, &format!("{channel}-2"), Some("tok_visa")).await.expect(409, "ORDER_EXISTS");
        assert_eq!(taken.body["pre_auth_no"], free.as_str());
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_once_one_is_done() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    for channel in HOLDING {
        house.disturb(channel, json!({ "latency_ms": 60 })).await;
        for (round, other) in ["capture", "cancel"].into_iter().enumerate() {
            let (path, number) = held(&shop, channel, &format!("{channel}-{round}")).await;
            let (first, second) = (format!("{path}/capture"), format!("{path}/{other}"));
            let (keys, body) = ([nonce(), nonce()], json!({}));
            let (one, two) = tokio::join!(
                shop.post_with_key(&first, body.clone(), &keys[0]),
                shop.post_with_key(&second, body.clone(), &keys[1]),
            );
            let (done, refused) = if one.status == 200 { (one, two) } else { (two, one) };
            let done = done.expect(200, "SUCCESS");
            let refused = refused.expect(409, "INVALID_STATE");
            let status = refused.body["status"].as_str().unwrap();
            assert!(["processing", done.data("status")].contains(&status), "{channel}: {}", refused.text);
            let operation = if done.data("status") == "captured" { "capture" } else { "void" };
            assert_eq!(book(&house, channel, &number).await, lines(&[("hold", HELD), (operation, HELD)]), "{channel}");
        }
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_are_not_the_merchant_s_own_are_not_found() {
    let house = House::start().await;
    let (shop, other) = (house.merchant("business").await, house.merchant("business").await);
    for channel in HOLDING {
        let (path, number) = held(&shop, channel, &format!("{channel}-1")).await;
        let shown = shop.get(&path).await.expect(200, "SUCCESS");
        let of_channel = shown.data("channel_pre_auth_no").to_owned();
        assert!(!of_channel.is_empty(), "{}", shown.text);
        for named in [number.as_str(), "PA20250124104000abcdefgh", "nobody-s", "%00", "..%2f..%2fpayments"] {
            for action in ["capture", "cancel", "refunds"] {
                let path = format!("{PRE_AUTHS}/{named}/{action}");
                other.post_with_key(&path, json!({}), &nonce()).await.expect(404, "NOT_FOUND");
            }
            other.get(&format!("{PRE_AUTHS}/{named}?refresh=true")).await.expect(404, "NOT_FOUND");
        }
        for action in ["capture", "cancel"] {
            let path = format!("{CHANNEL}/{action}");
            for (who, named, at) in [
                (&other, of_channel.as_str(), channel),
                (&shop, "pi_nobody_s", channel),
                (&shop, &of_channel, "crypto"),
            ] {
                let body = json!({ "channel": at, "channel_pre_auth_no": named });
                who.post(&path, body).await.expect(404, "NOT_FOUND");
            }
        }
        let wrong = json!({ "channel": channel, "channel_pre_auth_no": of_channel, "amount": 100, "currency": "EUR" });
        let refused = shop.post(&format!("{CHANNEL}/capture"), wrong).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), ["currency"]);
        assert_eq!(book(&house, channel, &number).await, lines(&[("hold", HELD)]), "nothing was sent: {channel}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coins_can_not_be_held_whoever_is_asked() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    let coins_only = house.merchant_with(json!({ "name": "a mine", "tier": "business", "channels": ["crypto"] })).await;
    let asked = json!({ "order_no": "O-1", "amount": HELD, "currency": "USD", "channel": "crypto" });
    let left = json!({ "order_no": "O-1", "amount": HELD, "currency": "USD" });
    for (who, body) in [(&shop, asked), (&coins_only, left)] {
        for (language, message) in [
            ("en", "The payment channel does not support pre-authorization"),
            ("zh-CN", "当前支付渠道不支持预授权功能"),
        ] {
            let text = body.to_string();
            let mut headers: HashMap<String, String> = who.signed("POST", PRE_AUTHS, &text, None, unix_s(), &nonce());
            headers.insert(String::from("accept-language"), String::from(language));
            let refused = who.send("POST", PRE_AUTHS, Some(text), headers).await;
            assert_eq!(refused.expect(422, "PRE_AUTH_NOT_SUPPORTED").body["message"], message);
        }
        assert!(who.get(PRE_AUTHS).await.items().is_empty());
        assert!(who.get("/api/v1/events").await.items().is_empty());
    }
    let by_channel = json!({ "channel": "crypto", "amount": HELD, "currency": "USD" });
    shop.post(CHANNEL, by_channel).await.expect(422, "PRE_AUTH_NOT_SUPPORTED");
    let ledger = house.admin("GET", "/admin/v1/sandbox/crypto/ledger", None).await.expect(200, "SUCCESS");
    assert!(ledger.items().is_empty(), "{}", ledger.text);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_none_leave_nothing_behind() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let whole = json!({ "order_no": "O-1", "amount": HELD, "currency": "USD", "channel": "stripe" });
    let text = whole.to_string();
    let (path, number) = held(&shop, "stripe", "O-0").await;
    let json_type = Some("application/json");
    for target in [PRE_AUTHS.to_owned(), CHANNEL.to_owned(), format!("{CHANNEL}/capture"), format!("{CHANNEL}/cancel")]
    {
        for length in [0, 1, text.len() / 2, text.len() - 1] {
            let refused = shop.post_bytes(&target, &text.as_bytes()[..length], json_type).await;
            refused.expect(400, "INVALID_REQUEST");
        }
        for wrong in [&b"<html></html>"[..], b"null", b"[]", b"\xff\xfe", b"{\"channel\":\"\x00\"}"] {
            shop.post_bytes(&target, wrong, json_type).await.expect(400, "INVALID_REQUEST");
        }
        let unknown = shop.post(&target, json!({ "channel": "stripe", "surprise": 1 })).await;
        assert!(!unknown.expect(400, "INVALID_REQUEST").wrong_fields().is_empty());
    }
    for action in ["capture", "cancel", "refunds"] {
        let target = format!("{path}/{action}");
        for wrong in
            [json!([]), json!({ "surprise": 1 }), json!({ "amount": {} }), json!({ "reason": "x".repeat(256) })]
        {
            let refused = shop.post_with_key(&target, wrong, &nonce()).await;
            refused.expect(400, "INVALID_REQUEST");
        }
        shop.post(&target, json!({})).await.expect(400, "INVALID_REQUEST");
    }
    for (field, value, status, code) in [
        ("order_no", json!("a/b"), 400, "INVALID_REQUEST"),
        ("order_no", json!(PAN), 422, "PAN_REFUSED"),
        ("amount", json!(0), 400, "INVALID_REQUEST"),
        ("amount", json!(-1), 400, "INVALID_REQUEST"),
        ("amount", json!(1.5), 400, "INVALID_REQUEST"),
        ("currency", json!("usd"), 400, "INVALID_REQUEST"),
        ("currency", json!("XTS"), 422, "CURRENCY_NOT_SUPPORTED"),
        ("channel", json!("nobody"), 400, "INVALID_REQUEST"),
        ("description", json!(PAN), 422, "PAN_REFUSED"),
    ] {
        let mut body = whole.clone();
        body[field] = value;
        let refused = shop.post(PRE_AUTHS, body).await;
        assert_eq!((refused.status, refused.code()), (status, code), "{field}: {}", refused.text);
    }
    for (reference, code) in [("", 400), ("a/b", 400), ("Ö", 400), ("x".repeat(65).as_str(), 400), (PAN, 422)] {
        let body = json!({ "channel": "stripe", "pre_auth_no": reference, "amount": HELD, "currency": "USD" });
        let refused = shop.post(CHANNEL, body).await;
        assert_eq!(refused.status, code, "{reference}: {}", refused.text);
    }
    assert_eq!(shop.get(PRE_AUTHS).await.items().len(), 1);
    assert_eq!(book(&house, "stripe", &number).await, lines(&[("hold", HELD)]));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payers_decide_on_their_page_and_tokens_say_what_becomes_of_a_hold() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let http = http_client();
    for channel in HOLDING {
        for (decision, token) in [("approve", None), ("decline", None), ("approve", Some("tok_3ds"))] {
            let order_no = format!("{channel}-{decision}-{}", token.is_some());
            let waits = hold(&shop, channel, &order_no, token).await.expect(201, "SUCCESS");
            let path = format!("{PRE_AUTHS}/{}", waits.data("pre_auth_no"));
            let expected = if token.is_some() { "requires_action" } else { "requires_payment_method" };
            assert_eq!(waits.data("status"), expected, "{channel}: {}", waits.text);
            let page = waits.body["data"]["next_action"]["url"].as_str().unwrap().to_owned();
            let early = shop.post_with_key(&format!("{path}/capture"), json!({}), &nonce()).await;
            assert_eq!(early.expect(409, "INVALID_STATE").body["status"], expected);
            assert_eq!(http.post(format!("{page}/{decision}")).send().await.unwrap().status(), 200, "{channel}");
            let seen = eventually(&format!("{channel} {decision}"), || async {
                let seen = shop.get(&format!("{path}?refresh=true")).await.expect(200, "SUCCESS");
                let has_acted = match decision {
                    "approve" => seen.data("status") == "requires_capture",
                    _ => {
                        seen.body["data"]["failure"].is_object()
                            || matches!(seen.data("status"), "canceled" | "expired")
                    }
                };
                has_acted.then_some(seen)
            })
            .await;
            if decision == "approve" {
                assert_eq!(seen.body["data"]["authorized_amount"], HELD);
                let taken = shop.post_with_key(&format!("{path}/capture"), json!({}), &nonce()).await;
                assert_eq!(taken.expect(200, "SUCCESS").body["data"]["captured_amount"], HELD);
            }
        }
        let declined = hold(&shop, channel, &format!("{channel}-declined"), Some("tok_declined")).await;
        let declined = declined.expect(201, "SUCCESS");
        let expected = if channel == "stripe" { "requires_payment_method" } else { "failed" };
        assert_eq!(declined.data("status"), expected, "{channel}: {}", declined.text);
        assert!(declined.body["data"]["failure"]["code"].is_string(), "{}", declined.text);
        let number = declined.data("pre_auth_no").to_owned();
        assert_eq!(book(&house, channel, &number).await, [], "{channel}");
    }
    house.stop().await;
}

/// What the emulator does to every request.
const FAULTS: [&str; 3] = ["lost_response_rate", "error_after_effect_rate", "error_rate"];

/// Holds and takes over a provider whose answers fail; afterwards it is well again.
async fn through(house: &House, shop: &Client, channel: &str) {
    for fault in FAULTS {
        let (well, ill) = (json!({ fault: 0 }), json!({ fault: 1 }));
        house.disturb(channel, ill.clone()).await;
        let asked = hold(shop, channel, &format!("{channel}-{fault}"), Some("tok_visa")).await;
        assert!([201, 202, 502].contains(&asked.status), "{channel} {fault}: {}", asked.text);
        house.disturb(channel, well.clone()).await;
        let number = asked.body["data"]["pre_auth_no"].as_str().or(asked.body["pre_auth_no"].as_str());
        let number = number.unwrap_or_else(|| panic!("{channel} {fault}: {}", asked.text)).to_owned();
        let path = format!("{PRE_AUTHS}/{number}");
        let known = comes_to(shop, &path, &["requires_capture", "failed", "canceled"]).await;
        let holds = book(house, channel, &number).await.iter().filter(|(operation, _)| operation == "hold").count();
        assert_eq!(holds, usize::from(known["status"] == "requires_capture"), "{channel} {fault}: {known}");

        let (path, number) = held(shop, channel, &format!("{channel}-{fault}-taken")).await;
        house.disturb(channel, ill).await;
        let capture = format!("{path}/capture");
        let asked = shop.post_with_key(&capture, json!({ "amount": 4_000 }), &format!("{channel}-{fault}")).await;
        assert!([200, 202, 502].contains(&asked.status), "{channel} {fault}: {}", asked.text);
        if asked.status == 202 {
            let second = shop.post_with_key(&capture, json!({ "amount": 4_000 }), &nonce()).await;
            assert_eq!(second.expect(409, "INVALID_STATE").body["status"], "processing", "{channel} {fault}");
        }
        house.disturb(channel, well).await;
        let known = comes_to(shop, &path, &["captured", "requires_capture"]).await;
        if known["status"] == "requires_capture" {
            assert_eq!(book(house, channel, &number).await, lines(&[("hold", HELD)]), "{channel} {fault}");
            continue;
        }
        let expected = lines(&[("hold", HELD), ("capture", 4_000)]);
        assert_eq!(book(house, channel, &number).await, expected, "{channel} {fault}");
        assert_eq!((&known["captured_amount"], &known["released_amount"]), (&json!(4_000), &json!(6_000)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_agree_whatever_becomes_of_the_answers() {
    let house = House::start().await;
    let shops = [house.merchant("premium").await, house.merchant("premium").await, house.merchant("premium").await];
    tokio::join!(
        through(&house, &shops[0], "stripe"),
        through(&house, &shops[1], "paypal"),
        through(&house, &shops[2], "alipay"),
    );
    house.stop().await;
}
