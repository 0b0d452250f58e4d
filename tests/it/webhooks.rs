//! Webhooks end to end: endpoints, what goes out, what comes back, and what the merchant can do about it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate::domain::time::Timestamp;

use crate::support::{Answer, Client, Delivery, House, Receiver, eventually};

const ENDPOINTS: &str = "/api/v1/webhooks/endpoints";
const NOTIFICATIONS: &str = "/api/v1/webhooks/notifications";

async fn endpoint(shop: &Client, url: &str) -> Answer {
    shop.post(ENDPOINTS, json!({ "url": url })).await.expect(201, "SUCCESS")
}

fn path_of(endpoint: &Answer) -> String {
    format!("{ENDPOINTS}/{}", endpoint.data("id"))
}

async fn patch(shop: &Client, path: &str, body: Value) -> Answer {
    shop.request("PATCH", path, Some(body.to_string()), None).await
}

async fn delete(shop: &Client, path: &str) -> Answer {
    shop.request("DELETE", path, None, None).await
}

/// Waits until the receiver has got this many deliveries.
async fn deliveries(receiver: &Receiver, count: usize) -> Vec<Delivery> {
    eventually("the deliveries", || async { Some(receiver.deliveries()).filter(|got| got.len() >= count) }).await
}

/// Waits until the only notification has this status, and reads it with its tries.
async fn notification_in(shop: &Client, status: &str) -> Answer {
    let found = eventually("the notification's status", || async {
        let list = shop.get(&format!("{NOTIFICATIONS}?status={status}")).await.expect(200, "SUCCESS");
        list.items().into_iter().next()
    })
    .await;
    shop.get(&format!("{NOTIFICATIONS}/{}", found["id"].as_str().unwrap())).await.expect(200, "SUCCESS")
}

fn events_of(deliveries: &[Delivery]) -> BTreeSet<String> {
    deliveries.iter().map(|delivery| delivery.body["event"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_made_read_changed_and_removed() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let body = json!({ "url": "https://shop.example/hook", "events": ["payment.*"], "description": "till 1", "max_attempts": 3 });
    let made = shop.post(ENDPOINTS, body).await.expect(201, "SUCCESS");
    assert!(made.data("secret").starts_with("whsec_"), "{}", made.text);
    assert_eq!(made.data("status"), "enabled");
    let path = path_of(&made);
    let read = shop.get(&path).await.expect(200, "SUCCESS");
    let mut without_secret = made.body["data"].clone();
    without_secret.as_object_mut().unwrap().remove("secret");
    assert_eq!(read.body["data"], without_secret, "the secret is shown once");
    let listed = shop.get(ENDPOINTS).await.expect(200, "SUCCESS");
    // Nothing is counted for a list.
    let mut without_counts = without_secret;
    for count in ["waiting", "dead_letters"] {
        assert_eq!(without_counts.as_object_mut().unwrap().remove(count), Some(json!(0)), "{count}");
    }
    assert_eq!(listed.items(), [without_counts]);

    let changed = patch(&shop, &path, json!({ "description": "till 2" })).await.expect(200, "SUCCESS");
    assert_eq!((changed.data("description"), changed.data("url")), ("till 2", "https://shop.example/hook"));
    assert_eq!(changed.body["data"]["events"], json!(["payment.*"]));
    let paused = patch(&shop, &path, json!({ "status": "paused" })).await.expect(200, "SUCCESS");
    assert_eq!(paused.data("status"), "paused");
    for (wrong, field) in [
        (json!({ "status": "disabled" }), "status"),
        (json!({ "events": [] }), "events"),
        (json!({ "events": ["payment"] }), "events"),
        (json!({ "events": ["payment.successful"] }), "events"),
        (json!({ "events": "payment.success" }), "events"),
        (json!({ "max_attempts": 0 }), "max_attempts"),
        (json!({ "secret": "whsec_mine" }), "secret"),
        (json!({ "url": 1 }), "url"),
    ] {
        let refused = patch(&shop, &path, wrong.clone()).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [field], "{wrong}: {}", refused.text);
    }
    patch(&shop, &path, json!({ "url": "https://10.0.0.1/" })).await.expect(422, "URL_NOT_ALLOWED");
    assert_eq!(shop.get(&path).await.body["data"], paused.body["data"], "refusals change nothing");

    let rotated = shop.post(&format!("{path}/rotate-secret"), json!({})).await.expect(200, "SUCCESS");
    assert!(rotated.data("secret").starts_with("whsec_") && rotated.data("secret") != made.data("secret"));
    assert!(!shop.get(&path).await.text.contains("whsec_"));
    delete(&shop, &path).await.expect(200, "SUCCESS");
    shop.get(&path).await.expect(404, "NOT_FOUND");
    delete(&shop, &path).await.expect(404, "NOT_FOUND");
    patch(&shop, &path, json!({})).await.expect(404, "NOT_FOUND");
    shop.post(&format!("{path}/rotate-secret"), json!({})).await.expect(404, "NOT_FOUND");
    shop.post(&format!("{path}/test"), json!({})).await.expect(404, "NOT_FOUND");
    assert!(shop.get(ENDPOINTS).await.items().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_gets_the_same_answer_and_does_nothing() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let body = json!({ "url": receiver.url });
    let made = shop.post_with_key(ENDPOINTS, body.clone(), "k-1").await.expect(201, "SUCCESS");
    let again = shop.post_with_key(ENDPOINTS, body.clone(), "k-1").await.expect(201, "SUCCESS");
    assert_eq!((&again.text, again.header("idempotent-replayed")), (&made.text, "true"));
    let other = json!({ "url": "https://shop.example/" });
    shop.post_with_key(ENDPOINTS, other.clone(), "k-1").await.expect(422, "IDEMPOTENCY_MISMATCH");
    assert_eq!(shop.get(ENDPOINTS).await.items().len(), 1);
    // Keys are the merchant's own, and belong to one path.
    let stranger = house.merchant("premium").await;
    stranger.post_with_key(ENDPOINTS, other, "k-1").await.expect(201, "SUCCESS");
    let path = path_of(&made);
    let rotated = shop.post_with_key(&format!("{path}/rotate-secret"), json!({}), "k-1").await.expect(200, "SUCCESS");
    let tested = shop.post_with_key(&format!("{path}/test"), json!({}), "k-1").await.expect(200, "SUCCESS");
    // What fails is not kept, so that it can be put right.
    let wrong = json!({ "url": "https://10.0.0.1/" });
    shop.post_with_key(ENDPOINTS, wrong, "k-2").await.expect(422, "URL_NOT_ALLOWED");
    shop.post_with_key(ENDPOINTS, json!({ "url": "https://shop.example/2" }), "k-2").await.expect(201, "SUCCESS");

    let directory = house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    let shop = shop.at(&house.url);
    let again = shop.post_with_key(ENDPOINTS, body, "k-1").await;
    assert_eq!((again.status, &again.text), (201, &made.text));
    let again = shop.post_with_key(&format!("{path}/rotate-secret"), json!({}), "k-1").await;
    assert_eq!((again.status, &again.text), (200, &rotated.text));
    let again = shop.post_with_key(&format!("{path}/test"), json!({}), "k-1").await;
    assert_eq!((again.status, &again.text), (200, &tested.text));
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let sent = deliveries(&receiver, 2).await;
    sent[1].verify(rotated.data("secret")).unwrap();
    assert_eq!(sent.len(), 2, "one test event and one payment");
    assert_eq!(shop.get(ENDPOINTS).await.items().len(), 2);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_equal_requests_at_once_one_is_carried_out() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let body = json!({ "url": "https://shop.example/" });
    let sent = (0..8).map(|_| shop.post_with_key(ENDPOINTS, body.clone(), "k-1"));
    let answers = futures_util::future::join_all(sent).await;
    let made: BTreeSet<&str> =
        answers.iter().filter(|answer| answer.status == 201).map(|answer| answer.text.as_str()).collect();
    assert_eq!(made.len(), 1, "all that were answered got the same");
    let others = answers.iter().filter(|answer| answer.status != 201);
    assert!(others.into_iter().all(|answer| answer.code() == "IDEMPOTENCY_IN_PROGRESS"));
    assert_eq!(shop.get(ENDPOINTS).await.items().len(), 1);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merchant_has_sixteen_endpoints_at_most() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let mut made = Vec::new();
    for number in 0..16 {
        made.push(endpoint(&shop, &format!("https://shop.example/{number}")).await);
    }
    let one_more = json!({ "url": "https://shop.example/16" });
    shop.post(ENDPOINTS, one_more.clone()).await.expect(403, "FORBIDDEN");
    let other = house.merchant("premium").await;
    endpoint(&other, "https://other.example/").await;
    delete(&shop, &path_of(&made[3])).await.expect(200, "SUCCESS");
    shop.post(ENDPOINTS, one_more.clone()).await.expect(201, "SUCCESS");
    shop.post(ENDPOINTS, one_more).await.expect(403, "FORBIDDEN");
    let mut seen = Vec::new();
    let mut path = format!("{ENDPOINTS}?limit=5");
    loop {
        let page = shop.get(&path).await.expect(200, "SUCCESS");
        seen.extend(page.items().iter().map(|item| item["url"].as_str().unwrap().to_owned()));
        match page.body["data"]["next_cursor"].as_str() {
            Some(cursor) => path = format!("{ENDPOINTS}?limit=5&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 16);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 16);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_endpoint_gets_the_events_that_it_wants() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let other = house.merchant("premium").await;
    let [successes, payments, refunds, all, others] = [(); 5].map(|()| Receiver::down().up());
    for (receiver, events) in [
        (&successes, json!(["payment.success"])),
        (&payments, json!(["payment.*"])),
        (&refunds, json!(["refund.*", "refund.success"])),
    ] {
        shop.post(ENDPOINTS, json!({ "url": receiver.url, "events": events })).await.expect(201, "SUCCESS");
    }
    endpoint(&shop, &all.url).await;
    endpoint(&other, &others.url).await;
    let paid = shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    shop.pay("O-2", 900, json!({ "payment_token": "tok_declined" })).await.expect(201, "SUCCESS");
    shop.pay("O-3", 900, json!({ "payment_token": "tok_3ds", "channel": "stripe" })).await.expect(201, "SUCCESS");
    let path = format!("/api/v1/payments/{}/refunds", paid.data("payment_no"));
    let refund = shop.post_with_key(&path, json!({ "amount": 100 }), "k").await.expect(201, "SUCCESS");

    let to_all = deliveries(&all, 4).await;
    let every = ["payment.failed", "payment.requires_action", "payment.success", "refund.success"];
    assert_eq!(events_of(&to_all), BTreeSet::from(every.map(str::to_owned)));
    assert_eq!(
        events_of(&deliveries(&payments, 3).await),
        BTreeSet::from([every[0], every[1], every[2]].map(str::to_owned))
    );
    assert_eq!(events_of(&deliveries(&successes, 1).await), BTreeSet::from(["payment.success".to_owned()]));
    assert_eq!(events_of(&deliveries(&refunds, 1).await), BTreeSet::from(["refund.success".to_owned()]));
    let told = to_all.iter().find(|delivery| delivery.body["event"] == "refund.success").unwrap();
    assert_eq!(told.body["refund_no"], refund.data("refund_no"), "{}", told.body);
    assert_eq!(told.header("x-webhook-event"), "refund.success");
    eventually("everything's end", || async {
        let open = shop.get(&format!("{NOTIFICATIONS}?status=success&limit=100")).await;
        (open.items().len() == 9).then_some(())
    })
    .await;
    let counts = [&successes, &payments, &refunds, &all, &others].map(|receiver| receiver.deliveries().len());
    assert_eq!(counts, [1, 3, 1, 4, 0]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_taken_is_sent_again_by_the_schedule() {
    let house = House::start_with(|config| config.webhook.schedule_s = vec![1, 1]).await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let made = endpoint(&shop, &receiver.url).await;
    receiver.answer(500);
    shop.pay("O-1", 900, json!({ "metadata": { "table": "7" } })).await.expect(201, "SUCCESS");
    deliveries(&receiver, 2).await;
    let retrying = notification_in(&shop, "retrying").await;
    assert!(retrying.body["data"]["next_retry_at"].is_string(), "{}", retrying.text);
    assert_eq!(retrying.body["data"]["status_code"], 500);
    receiver.answer(204);
    let sent = deliveries(&receiver, 3).await;
    let attempts: Vec<&str> = sent.iter().map(|delivery| delivery.header("x-webhook-attempt")).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    for delivery in &sent {
        assert_eq!(delivery.bytes, sent[0].bytes, "the same body at every try");
        assert_eq!(delivery.header("webhook-id"), sent[0].header("webhook-id"));
        assert!(!delivery.header("webhook-id").is_empty());
        delivery.verify(made.data("secret")).unwrap();
    }
    let done = notification_in(&shop, "success").await;
    let data = &done.body["data"];
    assert_eq!((&data["attempts"], &data["max_attempts"]), (&json!(3), &json!(13)), "{}", done.text);
    assert_eq!((&data["next_retry_at"], &data["error"]), (&Value::Null, &Value::Null), "{}", done.text);
    assert!(data["succeeded_at"].is_string());
    let tries = data["tries"].as_array().unwrap();
    let codes: Vec<u64> = tries.iter().map(|a_try| a_try["status_code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [500, 500, 204]);
    let at = |index: usize| Timestamp::parse_rfc3339(tries[index]["at"].as_str().unwrap()).unwrap();
    // Two waits of a second less 10 % of jitter lie between; times are written in whole seconds.
    assert!(at(2).unix_s() - at(0).unix_s() >= 1, "{}", done.text);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tries_end_and_a_failed_notification_can_be_sent_again() {
    let house = House::start_with(|config| config.webhook.schedule_s = vec![0, 1]).await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    shop.post(ENDPOINTS, json!({ "url": receiver.url, "max_attempts": 2 })).await.expect(201, "SUCCESS");
    receiver.answer(503);
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let failed = notification_in(&shop, "failed").await;
    let data = &failed.body["data"];
    assert_eq!((&data["attempts"], &data["status_code"]), (&json!(2), &json!(503)), "{}", failed.text);
    assert_eq!(data["error"], "the receiver answered 503");
    assert!(data["failed_at"].is_string() && data["next_retry_at"].is_null());
    let path = format!("{NOTIFICATIONS}/{}", failed.data("id"));
    shop.post(&format!("{path}/cancel"), json!({})).await.expect(409, "INVALID_STATE");

    receiver.answer(200);
    let again = shop.post(&format!("{path}/retry"), json!({})).await.expect(200, "SUCCESS");
    assert_eq!(again.data("status"), "pending", "{}", again.text);
    let sent = deliveries(&receiver, 3).await;
    assert_eq!(sent[2].header("x-webhook-attempt"), "3", "attempts go on counting");
    assert_eq!((sent[2].header("webhook-id"), &sent[2].bytes), (sent[0].header("webhook-id"), &sent[0].bytes));
    let done = notification_in(&shop, "success").await;
    assert_eq!(done.body["data"]["tries"].as_array().unwrap().len(), 3);
    let refused = shop.post(&format!("{path}/retry"), json!({})).await.expect(409, "INVALID_STATE");
    assert_eq!(refused.body["status"], "success");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_will_not_change_end_the_notification() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let made = endpoint(&shop, &receiver.url).await;
    for (count, status) in [302, 400, 404, 422].into_iter().enumerate() {
        receiver.answer(status);
        let paid = shop.pay(&format!("O-{status}"), 900, json!({})).await.expect(201, "SUCCESS");
        let path = format!("{NOTIFICATIONS}?payment_no={}&status=failed", paid.data("payment_no"));
        let failed = eventually("the end", || async { shop.get(&path).await.items().pop() }).await;
        assert_eq!((&failed["attempts"], &failed["status_code"]), (&json!(1), &json!(status)));
        assert_eq!(receiver.deliveries().len(), count + 1);
    }
    assert_eq!(shop.get(&path_of(&made)).await.data("status"), "enabled");

    receiver.answer(410);
    shop.pay("O-gone", 900, json!({})).await.expect(201, "SUCCESS");
    let path = path_of(&made);
    eventually("the endpoint's end", || async { (shop.get(&path).await.data("status") == "disabled").then_some(()) })
        .await;
    assert!(shop.get(&path).await.data("disabled_reason").contains("410"));
    receiver.answer(200);
    let unheard = shop.pay("O-unheard", 900, json!({})).await.expect(201, "SUCCESS");
    shop.post(&format!("{path}/test"), json!({})).await.expect(409, "INVALID_STATE");
    let about = format!("{NOTIFICATIONS}?payment_no={}", unheard.data("payment_no"));
    let kept = shop.get(&about).await.items();
    assert_eq!((kept.len(), &kept[0]["status"], &kept[0]["attempts"]), (1, &json!("failed"), &json!(0)));
    assert!(receiver.about(unheard.data("payment_no")).is_empty(), "a disabled endpoint is not told");
    let enabled = patch(&shop, &path, json!({ "status": "enabled" })).await.expect(200, "SUCCESS");
    assert_eq!(enabled.body["data"]["disabled_reason"], Value::Null);
    let heard = shop.pay("O-heard", 900, json!({})).await.expect(201, "SUCCESS");
    eventually("the webhook", || async { receiver.about(heard.data("payment_no")).pop() }).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_endpoint_is_sent_to_later() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let path = path_of(&endpoint(&shop, &receiver.url).await);
    patch(&shop, &path, json!({ "status": "paused" })).await.expect(200, "SUCCESS");
    let mut numbers = Vec::new();
    for index in 0..3 {
        numbers.push(shop.pay(&format!("O-{index}"), 900, json!({})).await.data("payment_no").to_owned());
    }
    let waiting = shop.get(&format!("{NOTIFICATIONS}?status=pending")).await;
    assert_eq!(waiting.items().len(), 3, "{}", waiting.text);
    let canceled = waiting.items().pop().unwrap();
    let canceled_path = format!("{NOTIFICATIONS}/{}", canceled["id"].as_str().unwrap());
    let given_up = shop.post(&format!("{canceled_path}/cancel"), json!({})).await.expect(200, "SUCCESS");
    assert_eq!((given_up.data("status"), given_up.data("error")), ("failed", "canceled"), "{}", given_up.text);
    assert!(receiver.deliveries().is_empty());
    patch(&shop, &path, json!({ "status": "enabled" })).await.expect(200, "SUCCESS");
    deliveries(&receiver, 2).await;
    let done = eventually("the ends", || async {
        let list = shop.get(&format!("{NOTIFICATIONS}?status=success")).await;
        (list.items().len() == 2).then(|| list.items())
    })
    .await;
    assert!(done.iter().all(|notification| notification["id"] != canceled["id"]));
    assert_eq!(receiver.deliveries().len(), 2, "what was canceled is not sent");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_never_go_to_private_addresses() {
    let house = House::start_with(|config| config.webhook.allowed_private_networks.clear()).await;
    let shop = house.merchant("premium").await;
    for url in [
        "http://shop.example/hook",
        "ftp://shop.example/hook",
        "https://localhost/",
        "https://localhost./",
        "https://LOCALHOST:443/",
        "https://a.localhost/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://0x7f.0.0.1/",
        "https://0x7f000001/",
        "https://127.0.0.1./",
        "https://%31%32%37.0.0.1/",
        "https://１２７.0.0.1/",
        "https://0.0.0.0/",
        "https://0/",
        "https://10.1.2.3/",
        "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://2852039166/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://198.18.0.1/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://[::7f00:1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[2001::1]/",
        "https://[fe80::1]/",
        "https://[fd00:ec2::254]/",
        "https://[ff02::1]/",
        "https://intranet/",
        "https://printer.local/",
        "https://vault.internal/",
        "https://user:password@shop.example/",
        "https://shop.example:22/",
        "https://shop.example:6379/",
        "https://shop.example/#fragment",
        "https://shop.example\\@127.0.0.1/",
        "https://shop.example/\n",
        " https://shop.example/",
        "https://",
        "shop.example",
        "//shop.example/",
        "",
        &format!("https://shop.example/{}", "x".repeat(2_048)),
    ] {
        let refused = shop.post(ENDPOINTS, json!({ "url": url })).await;
        let refused = refused.expect(422, "URL_NOT_ALLOWED");
        assert!(!refused.body["message"].as_str().unwrap().is_empty(), "{url}");
    }
    assert!(shop.get(ENDPOINTS).await.items().is_empty());
    for url in [
        "https://shop.example/hook?a=b",
        "https://shop.example:8443/",
        "https://93.184.216.34/",
        "https://[2606:4700::1111]/",
    ] {
        endpoint(&shop, url).await;
    }
    house.stop().await;
}

/// What was allowed when the endpoint was made is looked at again before each request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_no_longer_allowed_is_not_sent_to() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    endpoint(&shop, &receiver.url).await;
    let directory = house.stop().await;
    let house = House::start_in(directory, |config| config.webhook.allowed_private_networks.clear()).await;
    let shop = shop.at(&house.url);
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let retrying = notification_in(&shop, "retrying").await;
    assert_eq!(retrying.body["data"]["status_code"], Value::Null, "{}", retrying.text);
    assert!(retrying.body["data"]["error"].is_string(), "{}", retrying.text);
    assert!(receiver.deliveries().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_verify_with_either_secret_while_it_is_changed() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let made = endpoint(&shop, &receiver.url).await;
    let old = made.data("secret").to_owned();
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let first = deliveries(&receiver, 1).await.remove(0);
    first.verify(&old).unwrap();
    assert!(first.header("user-agent").starts_with("Tollgate/"));
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!(first.header("x-webhook-timestamp"), first.header("webhook-timestamp"));
    let mut tampered = first.clone();
    tampered.bytes[10] ^= 1;
    assert!(tampered.verify(&old).is_err());

    let rotated = shop.post(&format!("{}/rotate-secret", path_of(&made)), json!({})).await.expect(200, "SUCCESS");
    let new = rotated.data("secret").to_owned();
    assert!(first.verify(&new).is_err());
    assert!(rotated.body["data"]["previous_secret_valid_until"].is_string());
    shop.pay("O-2", 900, json!({})).await.expect(201, "SUCCESS");
    let during = deliveries(&receiver, 2).await.remove(1);
    during.verify(&old).unwrap();
    during.verify(&new).unwrap();
    assert_eq!(during.header("webhook-signature").split(' ').count(), 2);
    assert_eq!(during.header("x-webhook-signature"), hmac_hex(new.as_bytes(), &during.bytes), "the new one alone");
    house.stop().await;
}

fn hmac_hex(secret: &[u8], body: &[u8]) -> String {
    use hmac::Mac;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_event_goes_to_one_endpoint_whatever_it_wants() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let (asked, other) = (Receiver::start().await, Receiver::start().await);
    let made =
        shop.post(ENDPOINTS, json!({ "url": asked.url, "events": ["refund.failed"] })).await.expect(201, "SUCCESS");
    endpoint(&shop, &other.url).await;
    let sent = shop.post(&format!("{}/test", path_of(&made)), json!({})).await.expect(200, "SUCCESS");
    assert_eq!(sent.data("event"), "test", "{}", sent.text);
    let delivery = deliveries(&asked, 1).await.remove(0);
    delivery.verify(made.data("secret")).unwrap();
    assert_eq!((&delivery.body["event"], &delivery.body["amount"]), (&json!("test"), &Value::Null));
    assert_eq!(delivery.header("webhook-id"), sent.data("id"));
    let listed = shop.get(&format!("{NOTIFICATIONS}?event=test")).await;
    assert_eq!(listed.items().len(), 1, "{}", listed.text);
    assert!(other.deliveries().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_are_listed_by_filter() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let made = endpoint(&shop, &receiver.url).await;
    let second = endpoint(&shop, &receiver.url).await;
    let paid = shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    shop.pay("O-2", 900, json!({ "payment_token": "tok_declined" })).await.expect(201, "SUCCESS");
    deliveries(&receiver, 4).await;
    let count = |query: String| {
        let shop = shop.clone();
        async move { shop.get(&format!("{NOTIFICATIONS}?{query}")).await.expect(200, "SUCCESS").items().len() }
    };
    eventually("the ends", || async { (count("status=success".to_owned()).await == 4).then_some(()) }).await;
    assert_eq!(count(String::new()).await, 4);
    assert_eq!(count(format!("endpoint_id={}", made.data("id"))).await, 2);
    assert_eq!(count(format!("payment_no={}", paid.data("payment_no"))).await, 2);
    let both = format!("payment_no={}&endpoint_id={}", paid.data("payment_no"), second.data("id"));
    assert_eq!(count(both).await, 1);
    assert_eq!(count("event=payment.failed".to_owned()).await, 2);
    assert_eq!(count("status=failed".to_owned()).await, 0);
    shop.get(&format!("{NOTIFICATIONS}?status=done")).await.expect(400, "INVALID_REQUEST");
    shop.get(&format!("{NOTIFICATIONS}?order_no=O-1")).await.expect(400, "INVALID_REQUEST");
    let page = shop.get(&format!("{NOTIFICATIONS}?limit=3")).await;
    let cursor = page.body["data"]["next_cursor"].as_str().unwrap().to_owned();
    let rest = shop.get(&format!("{NOTIFICATIONS}?limit=3&cursor={cursor}")).await;
    assert_eq!((page.items().len(), rest.items().len()), (3, 1));
    assert!(rest.body["data"]["next_cursor"].is_null());
    let one = &page.items()[0];
    let sent = receiver.deliveries().into_iter().find(|sent| one["id"] == sent.header("webhook-id")).unwrap();
    assert_eq!(one["payload"], sent.body, "what is shown is what was sent");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_merchants_webhooks_are_not_there() {
    let house = House::start().await;
    let (shop, stranger) = (house.merchant("premium").await, house.merchant("premium").await);
    let receiver = Receiver::start().await;
    receiver.answer(400);
    let made = endpoint(&shop, &receiver.url).await;
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let failed = notification_in(&shop, "failed").await;
    let notification = format!("{NOTIFICATIONS}/{}", failed.data("id"));
    let path = path_of(&made);
    stranger.get(&path).await.expect(404, "NOT_FOUND");
    patch(&stranger, &path, json!({ "url": "https://stranger.example/" })).await.expect(404, "NOT_FOUND");
    delete(&stranger, &path).await.expect(404, "NOT_FOUND");
    stranger.post(&format!("{path}/rotate-secret"), json!({})).await.expect(404, "NOT_FOUND");
    stranger.post(&format!("{path}/test"), json!({})).await.expect(404, "NOT_FOUND");
    stranger.get(&notification).await.expect(404, "NOT_FOUND");
    stranger.post(&format!("{notification}/retry"), json!({})).await.expect(404, "NOT_FOUND");
    stranger.post(&format!("{notification}/cancel"), json!({})).await.expect(404, "NOT_FOUND");
    for list in
        [ENDPOINTS, NOTIFICATIONS, "/api/v1/events", &format!("{NOTIFICATIONS}?endpoint_id={}", made.data("id"))]
    {
        assert!(stranger.get(list).await.expect(200, "SUCCESS").items().is_empty(), "{list}");
    }
    assert_eq!(shop.get(&path).await.data("url"), receiver.url);
    assert_eq!(shop.get(&notification).await.text.replace(' ', ""), failed.text.replace(' ', ""));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_while_the_receiver_is_down_loses_nothing() {
    let spread = |config: &mut tollgate::config::Config| config.webhook.restart_spread_ms = 50;
    let house = House::start_with(spread).await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::down();
    let made = endpoint(&shop, &receiver.url).await;
    let mut numbers = BTreeSet::new();
    for index in 0..5 {
        numbers.insert(shop.pay(&format!("O-{index}"), 900, json!({})).await.data("payment_no").to_owned());
    }
    let retrying = notification_in(&shop, "retrying").await;
    assert!(retrying.body["data"]["error"].is_string(), "{}", retrying.text);
    let directory = house.stop().await;
    let house = House::start_in(directory, spread).await;
    let shop = shop.at(&house.url);
    let receiver = receiver.up();
    let sent = deliveries(&receiver, 5).await;
    let told: BTreeSet<String> = sent.iter().map(|sent| sent.body["payment_no"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, numbers);
    for delivery in &sent {
        delivery.verify(made.data("secret")).unwrap();
        assert!(delivery.header("x-webhook-attempt").parse::<u32>().unwrap() >= 2);
    }
    eventually("the ends", || async {
        (shop.get(&format!("{NOTIFICATIONS}?status=success")).await.items().len() == 5).then_some(())
    })
    .await;
    assert_eq!(receiver.deliveries().len(), 5, "each once");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poller_beside_many_writers_misses_nothing_and_sees_nothing_twice() {
    const WRITERS: usize = 8;
    const PAYMENTS: usize = 12;
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let shop = shop.clone();
        writers.spawn(async move {
            let mut numbers = Vec::new();
            for index in 0..PAYMENTS {
                let paid = shop.pay(&format!("O-{writer}-{index}"), 900, json!({})).await.expect(201, "SUCCESS");
                numbers.push(paid.data("payment_no").to_owned());
            }
            numbers
        });
    }
    let writing = tokio::spawn(writers.join_all());
    let (mut sequences, mut told) = (Vec::new(), Vec::new());
    let mut path = String::from("/api/v1/events?limit=7");
    loop {
        // What was committed before a poll is seen by it.
        let is_last = writing.is_finished();
        let page = shop.get(&path).await.expect(200, "SUCCESS");
        for event in page.items() {
            sequences.push(event["sequence"].as_u64().unwrap());
            told.push(event["payment_no"].as_str().unwrap().to_owned());
        }
        if let Some(cursor) = page.body["data"]["next_cursor"].as_str() {
            path = format!("/api/v1/events?limit=7&cursor={cursor}");
        }
        if page.items().is_empty() {
            if is_last {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let mut paid: Vec<String> = writing.await.unwrap().into_iter().flatten().collect();
    let expected: Vec<u64> = (1..=u64::try_from(WRITERS * PAYMENTS).unwrap()).collect();
    assert_eq!(sequences, expected, "in order, without gaps");
    told.sort();
    paid.sort();
    assert_eq!(told, paid);
    house.stop().await;
}
