//! Payments from the signed request to the answer, the record and the webhook.

use serde_json::json;
use tollgate::gateway::auth::Credentials;
use tollgate::gateway::idempotency::IdempotencyKey;

use crate::support::{House, Receiver, eventually, http_client};

const PAYMENTS: &str = "/api/v1/payments";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_is_taken_stored_answered_and_told() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    let receiver = Receiver::start().await;
    let endpoint = shop.post("/api/v1/webhooks/endpoints", json!({ "url": receiver.url })).await;
    assert_eq!(endpoint.status, 201, "{}", endpoint.text);
    let secret = endpoint.data("secret").to_owned();

    let paid = shop.pay("O-1", 5_000, json!({ "country": "US", "metadata": { "table": "7" } })).await;
    assert_eq!(paid.status, 201, "{}", paid.text);
    assert_eq!(paid.code(), "SUCCESS");
    assert_eq!(paid.data("status"), "success");
    assert_eq!(paid.body["data"]["metadata"]["table"], "7");
    assert_eq!(paid.body["data"]["livemode"], false);
    assert!(paid.headers.contains_key("x-request-id"));
    assert_eq!(paid.headers["x-ratelimit-tier"], "business");
    let number = paid.data("payment_no").to_owned();
    assert_eq!(house.charges(&number).await, 1);

    let read = shop.get(&format!("{PAYMENTS}/{number}")).await;
    assert_eq!(read.body["data"], paid.body["data"]);

    let delivery = eventually("the webhook", || async { receiver.about(&number).pop() }).await;
    assert_eq!(delivery.body["event"], "payment.success");
    assert_eq!(delivery.body["amount"], 5_000);
    assert_eq!(delivery.header("x-webhook-attempt"), "1");
    assert_eq!(delivery.header("x-webhook-signature"), hmac_hex(secret.as_bytes(), &delivery.bytes));

    let events = shop.get("/api/v1/events").await;
    assert_eq!(events.body["data"]["items"][0]["sequence"], 1);
    assert_eq!(events.body["data"]["items"][0]["body"]["payment_no"], number.as_str());
    house.stop().await;
}

fn hmac_hex(secret: &[u8], body: &[u8]) -> String {
    use hmac::Mac;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn magic_tokens_lead_where_they_say() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    for channel in ["stripe", "alipay"] {
        let pay = |token: &'static str| {
            let shop = shop.clone();
            async move {
                let order_no = format!("{channel}-{token}");
                let more = json!({ "payment_token": token, "channel": channel, "currency": "CNY" });
                shop.pay(&order_no, 700, more).await
            }
        };
        for token in ["tok_declined", "tok_insufficient_funds", "tok_stolen_card"] {
            let declined = pay(token).await;
            assert_eq!((declined.status, declined.data("status")), (201, "failed"), "{token}: {}", declined.text);
            assert!(declined.body["data"]["failure"]["code"].is_string(), "{}", declined.text);
            assert_eq!(house.charges(declined.data("payment_no")).await, 0);
            let again = shop.pay(&format!("{channel}-{token}"), 700, json!({ "currency": "CNY" })).await;
            assert_eq!((again.status, again.data("status")), (201, "success"), "the order number is free again");
        }
        let waits = pay("tok_3ds").await;
        assert_eq!((waits.status, waits.data("status")), (201, "requires_action"), "{}", waits.text);
        let page = waits.body["data"]["next_action"]["url"].as_str().unwrap().to_owned();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        assert_eq!(client.get(&page).send().await.unwrap().status(), 200);
        assert!(client.post(format!("{page}/approve")).send().await.unwrap().status().is_success());
        let number = waits.data("payment_no").to_owned();
        eventually("the approved payment's success", || async {
            let read = shop.get(&format!("{PAYMENTS}/{number}")).await;
            (read.data("status") == "success").then_some(())
        })
        .await;

        let lost = pay("tok_lost_response").await;
        assert_eq!((lost.status, lost.data("status")), (202, "processing"), "{}", lost.text);
        let number = lost.data("payment_no").to_owned();
        eventually("the lost answer", || async {
            let read = shop.get(&format!("{PAYMENTS}/{number}")).await;
            (read.data("status") == "success").then_some(())
        })
        .await;
        assert_eq!(house.charges(&number).await, 1, "asked about, not charged again");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_gets_the_same_bytes_and_one_charge() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" });
    let first = shop.post_with_key(PAYMENTS, body.clone(), "k-1").await;
    let again = shop.post_with_key(PAYMENTS, body.clone(), "k-1").await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.headers.get("idempotent-replayed").map(String::as_str), Some("true"));
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let other =
        shop.post_with_key(PAYMENTS, json!({ "order_no": "O-1", "amount": 901, "currency": "USD" }), "k-1").await;
    assert_eq!((other.status, other.code()), (422, "IDEMPOTENCY_MISMATCH"));
    let held = shop.post_with_key(PAYMENTS, body, "k-2").await;
    assert_eq!((held.status, held.code()), (409, "ORDER_EXISTS"));
    assert_eq!(held.body["payment_no"], first.data("payment_no"));
    assert_eq!(house.charges(first.data("payment_no")).await, 1);

    let directory = house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    let shop = shop.at(&house.url);
    // What was signed before the second in which the process started is refused, so the clock has to pass it.
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" });
    let after_restart = shop.post_with_key(PAYMENTS, body, "k-1").await;
    assert_eq!((after_restart.status, &after_restart.text), (first.status, &first.text));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_equal_orders_at_once_one_is_charged() {
    let house = House::start().await;
    house.disturb("stripe", json!({ "latency_ms": 50 })).await;
    let shop = house.merchant("enterprise").await;
    for round in 0..5 {
        let order_no = format!("O-{round}");
        let one = |key: String| {
            let shop = shop.clone();
            let body = json!({ "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe" });
            async move { shop.post_with_key(PAYMENTS, body, &key).await }
        };
        let (a, b) = tokio::join!(one(format!("a-{round}")), one(format!("b-{round}")));
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "{} / {}", a.text, b.text);
        let winner = if a.status == 201 { &a } else { &b };
        assert_eq!(house.charges(winner.data("payment_no")).await, 1);
        let (c, d) = tokio::join!(one(format!("c-{round}")), one(format!("c-{round}")));
        assert!([c.status, d.status].iter().all(|status| *status == 409), "{} / {}", c.text, d.text);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_a_running_key_is_refused_until_it_is_answered() {
    let house = House::start().await;
    house.disturb("stripe", json!({ "latency_ms": 900 })).await;
    let shop = house.merchant("business").await;
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD", "channel": "stripe" });
    let running = tokio::spawn({
        let (shop, body) = (shop.clone(), body.clone());
        async move { shop.post_with_key(PAYMENTS, body, "k-1").await }
    });
    eventually("the running request", || async { (!shop.get(PAYMENTS).await.items().is_empty()).then_some(()) }).await;
    let second = shop.post_with_key(PAYMENTS, body.clone(), "k-1").await.expect(409, "IDEMPOTENCY_IN_PROGRESS");
    assert!(!second.header("retry-after").is_empty());
    let first = running.await.unwrap();
    let again = shop.post_with_key(PAYMENTS, body, "k-1").await;
    assert_eq!(again.text, first.text);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_has_its_answer_is_answered_though_its_key_is_in_use() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" });
    let first = shop.post_with_key(PAYMENTS, body.clone(), "k-1").await.expect(201, "SUCCESS");
    let caller = house.gateway.authenticate(Credentials::Basic { key_id: &shop.key.id, secret: &shop.key.secret });
    let key = IdempotencyKey::new("POST", PAYMENTS, "k-1", body.to_string().as_bytes()).unwrap();
    // As a task does whose answer was given and is being stored.
    let holding = house.gateway.admit(&caller.unwrap(), Some(key.fingerprint)).await.unwrap();
    let again = shop.post_with_key(PAYMENTS, body, "k-1").await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    assert_eq!(again.header("idempotent-replayed"), "true");
    let other = json!({ "order_no": "O-2", "amount": 900, "currency": "USD" });
    shop.post_with_key(PAYMENTS, other, "k-1").await.expect(422, "IDEMPOTENCY_MISMATCH");
    drop(holding);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_no_channel_knows_is_the_request_s_mistake() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    for more in [json!({ "payment_token": "abc" }), json!({ "payment_token": "pm_1", "channel": "alipay" })] {
        let refused = shop.pay("O-1", 900, more).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), ["payment_token"]);
    }
    assert!(shop.get(PAYMENTS).await.items().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_channel_is_passed_over_and_a_hanging_one_is_not() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    house.disturb("stripe", json!({ "down": true })).await;
    let passed_over = shop.pay("O-1", 900, json!({ "country": "US" })).await;
    assert_eq!((passed_over.status, passed_over.data("status")), (201, "success"), "{}", passed_over.text);
    assert_eq!(passed_over.data("channel"), "alipay");
    let routing = shop.get(&format!("{PAYMENTS}/{}/routing", passed_over.data("payment_no"))).await;
    assert_eq!(routing.body["data"]["attempts"].as_array().unwrap().len(), 2, "{}", routing.text);
    let asked_for = shop.pay("O-2", 900, json!({ "channel": "stripe" })).await;
    assert_eq!((asked_for.status, asked_for.code()), (502, "CHANNEL_ERROR"), "{}", asked_for.text);
    house.disturb("stripe", json!({ "down": false, "latency_ms": 3_000 })).await;
    let hanging = shop.pay("O-3", 900, json!({ "channel": "stripe" })).await;
    assert_eq!((hanging.status, hanging.data("status")), (202, "processing"), "{}", hanging.text);
    assert_eq!(hanging.data("channel"), "stripe");
    house.disturb("stripe", json!({ "latency_ms": 0 })).await;
    let number = hanging.data("payment_no").to_owned();
    eventually("the hanging payment's end", || async {
        let read = shop.get(&format!("{PAYMENTS}/{number}")).await;
        (read.data("status") == "success").then_some(())
    })
    .await;
    assert_eq!(house.charges(&number).await, 1);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refunds_never_exceed_the_charge_and_are_told() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    for channel in ["stripe", "alipay"] {
        let paid = shop.pay(&format!("O-{channel}"), 1_000, json!({ "channel": channel, "currency": "CNY" })).await;
        let number = paid.data("payment_no").to_owned();
        let path = format!("{PAYMENTS}/{number}/refunds");
        let keyless = shop.post(&path, json!({ "amount": 1 })).await;
        assert_eq!((keyless.status, keyless.code()), (400, "INVALID_REQUEST"), "{}", keyless.text);
        let part =
            shop.post_with_key(&path, json!({ "amount": 400, "reason": "cold soup" }), &format!("{channel}-1")).await;
        assert_eq!((part.status, part.data("status")), (201, "success"), "{}", part.text);
        let again =
            shop.post_with_key(&path, json!({ "amount": 400, "reason": "cold soup" }), &format!("{channel}-1")).await;
        assert_eq!(again.text, part.text);
        let too_much = shop.post_with_key(&path, json!({ "amount": 601 }), &format!("{channel}-2")).await;
        assert_eq!((too_much.status, too_much.code()), (422, "AMOUNT_TOO_LARGE"), "{}", too_much.text);
        let rest = shop.post_with_key(&path, json!({}), &format!("{channel}-3")).await;
        assert_eq!(rest.body["data"]["amount"], 600, "{}", rest.text);
        let read = shop.get(&format!("{PAYMENTS}/{number}")).await;
        assert_eq!(read.body["data"]["refunded_amount"], 1_000);
        let one = shop.get(&format!("/api/v1/refunds/{}", part.data("refund_no"))).await;
        assert_eq!(one.body["data"], part.body["data"]);
        let list = shop.get(&path).await;
        assert_eq!(list.body["data"]["items"].as_array().unwrap().len(), 2);
        let ledger = house.ledger(channel, &number).await;
        let refunded: i64 = ledger
            .iter()
            .filter(|line| line["operation"] == "refund")
            .map(|line| line["amount_minor"].as_i64().unwrap())
            .sum();
        assert_eq!(refunded, 1_000);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_refund_is_asked_about_and_given_back_once() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    for channel in ["stripe", "alipay"] {
        let paid = shop.pay(&format!("O-{channel}"), 1_000, json!({ "channel": channel, "currency": "CNY" })).await;
        let number = paid.data("payment_no").to_owned();
        house.disturb(channel, json!({ "lost_response_rate": 1.0 })).await;
        let path = format!("{PAYMENTS}/{number}/refunds");
        let lost = shop.post_with_key(&path, json!({ "amount": 300 }), channel).await;
        assert_eq!((lost.status, lost.data("status")), (202, "pending"), "{}", lost.text);
        let reserved = shop.post_with_key(&path, json!({ "amount": 701 }), &format!("{channel}-2")).await;
        assert_eq!(reserved.code(), "AMOUNT_TOO_LARGE", "an unknown refund keeps its reservation: {}", reserved.text);
        house.disturb(channel, json!({ "lost_response_rate": 0.0 })).await;
        let refund_no = lost.data("refund_no").to_owned();
        eventually("the refund's outcome", || async {
            let read = shop.get(&format!("/api/v1/refunds/{refund_no}")).await;
            (read.data("status") == "success").then_some(())
        })
        .await;
        let refunds = house.ledger(channel, &number).await;
        assert_eq!(refunds.iter().filter(|line| line["operation"] == "refund").count(), 1);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_charged_yet_can_be_canceled_and_nothing_else() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    for channel in ["stripe", "alipay"] {
        let more = json!({ "channel": channel, "payment_token": "tok_3ds", "currency": "CNY" });
        let waits = shop.pay(&format!("O-{channel}"), 1_000, more).await;
        let path = format!("{PAYMENTS}/{}/cancel", waits.data("payment_no"));
        let canceled = shop.post_with_key(&path, json!({}), &format!("{channel}-1")).await;
        // Stripe closes at once; at Alipay nothing closes a code that nobody has scanned yet.
        let expected = if channel == "stripe" { (200, "canceled") } else { (202, "requires_action") };
        assert_eq!((canceled.status, canceled.data("status")), expected, "{}", canceled.text);
        let again = shop.post_with_key(&path, json!({}), &format!("{channel}-1")).await;
        assert_eq!(again.text, canceled.text);
        let read = format!("{PAYMENTS}/{}", waits.data("payment_no"));
        if channel == "alipay" {
            let held = shop.pay(&format!("O-{channel}"), 1_000, json!({ "channel": channel, "currency": "CNY" })).await;
            assert_eq!(held.code(), "ORDER_EXISTS", "the payer may still scan it: {}", held.text);
            let page = waits.body["data"]["next_action"]["url"].as_str().unwrap();
            let scanned = http_client().post(format!("{page}/decline")).send().await.unwrap();
            assert!(scanned.status().is_success());
        }
        eventually("the cancellation", || async { (shop.get(&read).await.data("status") == "canceled").then_some(()) })
            .await;
        let paid = shop.pay(&format!("O-{channel}"), 1_000, json!({ "channel": channel, "currency": "CNY" })).await;
        assert_eq!(paid.data("status"), "success", "the order number is free again: {}", paid.text);
        let path = format!("{PAYMENTS}/{}/cancel", paid.data("payment_no"));
        let late = shop.post_with_key(&path, json!({}), &format!("{channel}-2")).await;
        assert_eq!((late.status, late.code()), (409, "INVALID_STATE"), "{}", late.text);
        assert_eq!(late.body["status"], "success");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merchants_see_only_their_own() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    let other = house.merchant("business").await;
    let paid = shop.pay("O-1", 900, json!({})).await;
    let number = paid.data("payment_no");
    for path in
        [format!("{PAYMENTS}/{number}"), format!("{PAYMENTS}/{number}/routing"), format!("{PAYMENTS}/{number}/refunds")]
    {
        let answer = other.get(&path).await;
        assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"), "{path}: {}", answer.text);
    }
    for path in [format!("{PAYMENTS}/{number}/cancel"), format!("{PAYMENTS}/{number}/refunds")] {
        let answer = other.post_with_key(&path, json!({}), "k").await;
        assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"), "{path}: {}", answer.text);
    }
    assert_eq!(other.get(PAYMENTS).await.body["data"]["items"], json!([]));
    let same_number = other.pay("O-1", 900, json!({})).await;
    assert_eq!(same_number.status, 201, "order numbers are unique per merchant only");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_page_and_filter() {
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    let mut numbers = Vec::new();
    for index in 0..7 {
        let token = if index % 3 == 0 { "tok_declined" } else { "tok_visa" };
        let paid = shop.pay(&format!("O-{index}"), 900 + index, json!({ "payment_token": token })).await;
        numbers.push(paid.data("payment_no").to_owned());
    }
    numbers.reverse();
    let mut seen = Vec::new();
    let mut path = format!("{PAYMENTS}?limit=3");
    loop {
        let page = shop.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let items = page.body["data"]["items"].as_array().unwrap().clone();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|item| item["payment_no"].as_str().unwrap().to_owned()));
        match page.body["data"]["next_cursor"].as_str() {
            Some(cursor) => path = format!("{PAYMENTS}?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, numbers, "newest first, each once");
    let failed = shop.get(&format!("{PAYMENTS}?status=failed")).await;
    assert_eq!(failed.body["data"]["items"].as_array().unwrap().len(), 3);
    let by_order = shop.get(&format!("{PAYMENTS}?order_no=O-4")).await;
    assert_eq!(by_order.body["data"]["items"][0]["order_no"], "O-4");
    for query in ["limit=0", "limit=101", "limit=x", "cursor=zz", "status=paid", "from=yesterday", "colour=red"] {
        let answer = shop.get(&format!("{PAYMENTS}?{query}")).await;
        assert_eq!((answer.status, answer.code()), (400, "INVALID_REQUEST"), "{query}: {}", answer.text);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quote_says_where_a_payment_would_go_and_takes_nothing() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    let body = json!({ "order_no": "O-1", "amount": 10_000, "currency": "USD", "country": "US" });
    let quote = shop.post("/api/v1/routing/quote", body).await;
    assert_eq!(quote.status, 200, "{}", quote.text);
    assert_eq!(quote.body["data"]["channel"], "stripe");
    assert_eq!(quote.body["data"]["strategy"], "geographic");
    let channels = quote.body["data"]["channels"].as_array().unwrap();
    let fee = |name: &str| {
        channels.iter().find(|channel| channel["channel"] == name).unwrap()["fee"]["amount"].as_i64().unwrap()
    };
    assert_eq!((fee("stripe"), fee("alipay")), (320, 60));
    assert_eq!(shop.get(PAYMENTS).await.body["data"]["items"], json!([]));
    house.stop().await;
}
