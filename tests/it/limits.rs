//! Tier limits over HTTP: what is admitted, what a refusal says, and that its word can be taken.

use std::time::Duration;

use serde_json::json;
use tollgate::clock::Clock;
use tollgate::domain::audit::Operator;

use crate::support::{Answer, Client, Delivery, House, Receiver, eventually, nonce, unix_s};

const LIMITS: &str = "/api/v1/limits";
const PAYMENTS: &str = "/api/v1/payments";

/// How much of a window is used, as the operator sees it; asking does not count.
async fn used(house: &House, shop: &Client, window: &str) -> u64 {
    let path = format!("/admin/v1/merchants/{}/limits", shop.merchant_id);
    let limits = house.admin("GET", &path, None).await.expect(200, "SUCCESS");
    window_of(&limits, window)["used"].as_u64().unwrap()
}

/// Waits until so many requests are in flight.
async fn wait_for_flight(house: &House, shop: &Client, requests: u64) {
    let path = format!("/admin/v1/merchants/{}/limits", shop.merchant_id);
    eventually("the requests in flight", || async {
        let limits = house.admin("GET", &path, None).await;
        (limits.body["data"]["concurrency"]["used"] == requests).then_some(())
    })
    .await;
}

fn window_of(limits: &Answer, name: &str) -> serde_json::Value {
    let windows = limits.body["data"]["windows"].as_array().unwrap();
    windows.iter().find(|window| window["name"] == name).unwrap_or_else(|| panic!("{}", limits.text)).clone()
}

async fn in_chinese(shop: &Client) -> Answer {
    let mut headers = shop.signed("GET", LIMITS, "", None, unix_s(), &nonce());
    headers.insert("accept-language".to_owned(), "zh-CN,zh;q=0.9,en;q=0.8".to_owned());
    shop.send("GET", LIMITS, None, headers).await
}

async fn wait_as_told(refusal: &Answer) {
    let seconds: u64 = refusal.header("retry-after").parse().unwrap();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_pass_in_tier_starter_and_the_next_is_refused() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    for number in 1..=20 {
        let answer = shop.get(LIMITS).await.expect(200, "SUCCESS");
        assert_eq!(answer.header("x-ratelimit-limit"), "10");
        assert_eq!(answer.header("x-ratelimit-tier"), "starter");
        assert_eq!(answer.header("x-ratelimit-nearlimit"), if number < 16 { "" } else { "true" }, "request {number}");
        assert!(!answer.headers.contains_key("retry-after"));
    }
    let refusal = shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refusal.body["message"], "Request rate exceeds the limit: more than 10 requests per second");
    let chinese = in_chinese(&shop).await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(chinese.body["message"], "请求频率超过限制: 超过每秒 10 次请求限制");
    house.stop().await;
}

/// With a window of 30 s no time passes during the test that would matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_everything_and_consumes_nothing() {
    let house = House::start().await;
    let shop = house.merchant_limited(json!({ "per_second": 1, "burst": 30 })).await;
    let mut remaining = Vec::new();
    for _ in 0..30 {
        let answer = shop.get(LIMITS).await.expect(200, "SUCCESS");
        remaining.push(answer.header("x-ratelimit-remaining").parse::<u32>().unwrap());
        let reset_s: u64 = answer.header("x-ratelimit-reset").parse().unwrap();
        assert!((unix_s()..=unix_s() + 32).contains(&reset_s), "{reset_s}");
    }
    assert_eq!(remaining, (0..30).rev().collect::<Vec<_>>());

    for _ in 0..10 {
        let refusal = shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");
        let retry_after = refusal.body["retry_after"].as_u64().unwrap();
        let expected = json!({
            "code": "RATE_LIMIT_EXCEEDED",
            "message": "Request rate exceeds the limit: more than 1 requests per second",
            "tier": "business",
            "limit": "second",
            "violated_policies": ["second"],
            "retry_after": retry_after,
            "request_id": refusal.header("x-request-id"),
        });
        assert_eq!(refusal.body, expected);
        assert!((1..=31).contains(&retry_after));
        assert_eq!(refusal.header("retry-after"), retry_after.to_string());
        assert_eq!(refusal.header("x-ratelimit-limit"), "1");
        assert_eq!(refusal.header("x-ratelimit-remaining"), "0");
        assert_eq!(refusal.header("x-ratelimit-tier"), "business");
        assert_eq!(refusal.header("x-ratelimit-nearlimit"), "true");
        let reset_s: u64 = refusal.header("x-ratelimit-reset").parse().unwrap();
        assert!(reset_s.abs_diff(unix_s() + retry_after) <= 1, "{refusal:?}");
        assert_eq!(refusal.header("ratelimit"), format!("\"second\";r=0;t={retry_after}"));
        let policies = "\"second\";q=30;w=30, \"minute\";q=2500;w=60, \"hour\";q=50000;w=3600, \
                        \"concurrency\";q=50;qu=\"concurrent-requests\"";
        assert_eq!(refusal.header("ratelimit-policy"), policies);
        assert_eq!(refusal.header("content-type"), "application/json");
    }
    for window in ["second", "minute", "hour"] {
        assert_eq!(used(&house, &shop, window).await, 30, "{window}");
    }
    let path = format!("/admin/v1/merchants/{}/limits", shop.merchant_id);
    let limits = house.admin("GET", &path, None).await;
    assert_eq!(limits.body["data"]["today"]["admitted"], 30, "{}", limits.text);
    assert_eq!(limits.body["data"]["today"]["refused"], 10, "{}", limits.text);
    let neighbour = house.merchant("starter").await;
    neighbour.get(LIMITS).await.expect(200, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_as_told_is_admitted() {
    let house = House::start().await;
    // A strict limit of 15 in any 3 s, of which a third is used a second before the rest.
    let shop = house.merchant_limited(json!({ "per_second": 5, "burst": 15 })).await;
    let batch = || futures_util::future::join_all((0..5).map(|_| shop.get(LIMITS)));
    let clock = Clock::system();
    let began = clock.monotonic();
    for answer in batch().await {
        answer.expect(200, "SUCCESS");
    }
    let counted = clock.monotonic();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // However slowly this runs, it is met within a few hundred requests.
    let mut refused = None;
    for _ in 0..500 {
        batch().await;
        // By itself: no other request can take what becomes free.
        let asked = clock.monotonic();
        let answer = shop.get(LIMITS).await;
        if answer.status == 429 {
            refused = Some((answer, asked));
            break;
        }
    }
    let (refusal, asked) = refused.expect("the limit was never met");
    let told_s: u64 = refusal.header("retry-after").parse().unwrap();
    let window = Duration::from_secs(3);
    // The oldest of the window was counted between two readings of the clock, and so was the refusal decided: that says
    // between what the wait must lie, unless this has run so slowly that the oldest had gone.
    let (least, most) =
        (window.saturating_sub(clock.monotonic().since(began)), window - asked.since(counted).min(window));
    let expected = if least.is_zero() { 1..=3 } else { seconds_up(least)..=seconds_up(most) };
    assert!(expected.contains(&told_s), "{told_s} s, not {expected:?}");
    wait_as_told(&refusal).await;
    shop.get(LIMITS).await.expect(200, "SUCCESS");
    house.stop().await;
}

fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tightest_limit_is_named_and_all_violated_ones_are_listed() {
    let house = House::start().await;
    let limits = json!({ "per_second": 1, "burst": 6, "per_minute": 6, "per_hour": 6 });
    let shop = house.merchant_limited(limits).await;
    for _ in 0..6 {
        shop.get(LIMITS).await.expect(200, "SUCCESS");
    }
    let refusal = shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refusal.body["violated_policies"], json!(["second", "minute", "hour"]), "{}", refusal.text);
    assert_eq!(refusal.body["limit"], "hour", "the one that holds longest says when to come back: {}", refusal.text);
    assert_eq!(refusal.body["message"], "Request rate exceeds the limit: more than 6 requests per hour");
    assert!(refusal.body["retry_after"].as_u64().unwrap() > 3_500, "{}", refusal.text);
    let chinese = in_chinese(&shop).await;
    assert_eq!(chinese.body["message"], "请求频率超过限制: 超过每小时 6 次请求限制");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_counts_and_is_warned_from_eighty_percent_on() {
    let house = House::start().await;
    let shop = house.merchant_limited(json!({ "per_minute": 10 })).await;
    let mut near = Vec::new();
    let mut note = |answer: Answer| near.push(answer.header("x-ratelimit-nearlimit") == "true");
    let body = json!({ "order_no": "O-1", "amount": 900, "currency": "USD" });
    note(shop.post_with_key(PAYMENTS, body.clone(), "k").await.expect(201, "SUCCESS"));
    note(shop.post_with_key(PAYMENTS, body, "k").await.expect(201, "SUCCESS"));
    note(shop.get("/api/v1/payments/PY1").await.expect(404, "NOT_FOUND"));
    note(shop.get("/api/v1/nothing").await.expect(404, "NOT_FOUND"));
    note(shop.request("PUT", PAYMENTS, None, None).await.expect(405, "METHOD_NOT_ALLOWED"));
    note(shop.post(PAYMENTS, json!({})).await.expect(400, "INVALID_REQUEST"));
    note(shop.post_bytes(PAYMENTS, b"{}", None).await.expect(415, "UNSUPPORTED_MEDIA_TYPE"));
    for _ in 0..3 {
        note(shop.get(PAYMENTS).await.expect(200, "SUCCESS"));
    }
    assert_eq!(near, [false, false, false, false, false, false, false, true, true, true]);
    shop.get(PAYMENTS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    // What is refused before it is known who asks counts for nobody.
    let mut unsigned = shop.signed("GET", PAYMENTS, "", None, unix_s(), &nonce());
    unsigned.insert("x-signature".to_owned(), "v1=".to_owned());
    shop.send("GET", PAYMENTS, None, unsigned).await.expect(401, "UNAUTHENTICATED");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_figures_can_be_read() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    for _ in 0..4 {
        shop.get(PAYMENTS).await.expect(200, "SUCCESS");
    }
    let limits = shop.get(LIMITS).await.expect(200, "SUCCESS");
    let data = &limits.body["data"];
    assert_eq!(data["tier"], "business");
    let names: Vec<&str> = data["windows"].as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["second", "minute", "hour"]);
    for (name, limit, window_s) in [("second", 100, 2.0), ("minute", 2_500, 60.0), ("hour", 50_000, 3_600.0)] {
        let window = window_of(&limits, name);
        assert_eq!((&window["limit"], &window["window_s"]), (&json!(limit), &json!(window_s)), "{}", limits.text);
        let (used, remaining) = (window["used"].as_u64().unwrap(), window["remaining"].as_u64().unwrap());
        assert_eq!(used + remaining, limit, "{}", limits.text);
        assert!(window["reset_at"].as_str().unwrap().ends_with('Z'), "{}", limits.text);
    }
    assert_eq!(window_of(&limits, "hour")["used"], 5, "asking counts too: {}", limits.text);
    assert_eq!(data["concurrency"], json!({ "limit": 50, "used": 1 }), "{}", limits.text);
    assert_eq!((&data["today"]["admitted"], &data["today"]["refused"]), (&json!(5), &json!(0)), "{}", limits.text);
    assert_eq!(limits.header("x-ratelimit-remaining"), window_of(&limits, "second")["remaining"].to_string());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_take_effect_at_once_and_keep_what_was_used() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    let path = format!("/admin/v1/merchants/{}", shop.merchant_id);
    let patch = |body| house.admin("PATCH", &path, Some(body));
    for _ in 0..5 {
        shop.get(LIMITS).await.expect(200, "SUCCESS");
    }
    patch(json!({ "limits": { "per_minute": 6 } })).await.expect(200, "SUCCESS");
    let last = shop.get(LIMITS).await.expect(200, "SUCCESS");
    assert_eq!(window_of(&last, "minute")["used"], 6, "{}", last.text);
    assert_eq!(last.header("x-ratelimit-remaining"), "0");
    let refusal = shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refusal.body["limit"], "minute", "{}", refusal.text);

    // The limits that are not named stay.
    patch(json!({ "tier": "premium", "limits": { "concurrent": 7 } })).await.expect(200, "SUCCESS");
    assert_eq!(shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED").body["limit"], "minute");
    patch(json!({ "limits": null })).await.expect(200, "SUCCESS");
    let promoted = shop.get(LIMITS).await.expect(200, "SUCCESS");
    assert_eq!(promoted.header("x-ratelimit-limit"), "500");
    assert_eq!(promoted.header("x-ratelimit-tier"), "premium");
    assert_eq!(window_of(&promoted, "minute")["used"], 7, "{}", promoted.text);
    assert_eq!(window_of(&promoted, "minute")["limit"], 25_000, "{}", promoted.text);

    // Below what is used already: refused until enough of it has passed.
    patch(json!({ "tier": "starter", "limits": { "per_hour": 3 } })).await.expect(200, "SUCCESS");
    let refusal = shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(
        (&refusal.body["tier"], &refusal.body["limit"]),
        (&json!("starter"), &json!("hour")),
        "{}",
        refusal.text
    );
    assert_eq!(used(&house, &shop, "hour").await, 7);
    for wrong in [
        json!({ "limits": { "per_second": 0 } }),
        json!({ "limits": { "per_second": -1 } }),
        json!({ "limits": { "per_day": 5 } }),
        json!({ "tier": "platinum" }),
    ] {
        let refused = patch(wrong.clone()).await.expect(400, "INVALID_REQUEST");
        let field = refused.wrong_fields().remove(0);
        assert!(field.starts_with("limits") || field == "tier", "{wrong}: {}", refused.text);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_are_limited_and_their_ends_make_room() {
    let house = House::start().await;
    house.disturb("stripe", json!({ "latency_ms": 500 })).await;
    let shop = house.merchant_limited(json!({ "concurrent": 2 })).await;
    let slow = |order_no: &str| {
        let (shop, order_no) = (shop.clone(), order_no.to_owned());
        tokio::spawn(async move { shop.pay(&order_no, 900, json!({ "channel": "stripe" })).await })
    };
    let running = [slow("O-1"), slow("O-2")];
    wait_for_flight(&house, &shop, 2).await;
    let refusal = shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refusal.body["limit"], "concurrency", "{}", refusal.text);
    assert_eq!(refusal.body["violated_policies"], json!(["concurrency"]), "{}", refusal.text);
    assert_eq!(refusal.body["message"], "Too many requests in flight: more than 2 at the same time");
    assert_eq!(refusal.header("x-ratelimit-remaining"), "0");
    assert_eq!(refusal.header("ratelimit"), "\"concurrency\";r=0");
    assert!(refusal.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(in_chinese(&shop).await.body["message"], "并发请求超过限制: 超过 2 个并发请求限制");
    for payment in running {
        payment.await.unwrap().expect(201, "SUCCESS");
    }
    shop.get(LIMITS).await.expect(200, "SUCCESS");
    assert_eq!(used(&house, &shop, "minute").await, 3, "refusals have used nothing");
    house.stop().await;
}

/// A client that hangs up gives its place back when its request ends, not a minute later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_leaves_no_permit_behind() {
    let house = House::start().await;
    house.disturb("stripe", json!({ "latency_ms": 400 })).await;
    let shop = house.merchant_limited(json!({ "concurrent": 1 })).await;
    let running = tokio::spawn({
        let shop = shop.clone();
        async move { shop.pay("O-1", 900, json!({ "channel": "stripe" })).await }
    });
    wait_for_flight(&house, &shop, 1).await;
    running.abort();
    wait_for_flight(&house, &shop, 0).await;
    shop.get(LIMITS).await.expect(200, "SUCCESS");
    eventually("the payment's end", || async {
        let list = shop.get(PAYMENTS).await;
        (list.items().first()?["status"] == "success").then_some(())
    })
    .await;
    house.stop().await;
}

/// A client can't have more worked on at once by hanging up: what it began counts until it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_goes_on_without_its_client_is_in_flight() {
    let house = House::start_with(|config| config.channels.get_mut("stripe").unwrap().timeout_ms = 5_000).await;
    house.disturb("stripe", json!({ "latency_ms": 2_000 })).await;
    let shop = house.merchant_limited(json!({ "concurrent": 1 })).await;
    let at_the_channel = || {
        let channels = house.gateway.channels();
        channels.iter().find(|channel| channel.name == "stripe").unwrap().in_flight
    };
    let running = tokio::spawn({
        let shop = shop.clone();
        async move { shop.pay("O-1", 900, json!({ "channel": "stripe" })).await }
    });
    eventually("the payment's beginning", || async { (at_the_channel() == 1).then_some(()) }).await;
    running.abort();
    let path = format!("/admin/v1/merchants/{}/limits", shop.merchant_id);
    eventually("the payment's end", || async {
        let limits = house.admin("GET", &path, None).await.expect(200, "SUCCESS");
        // Asked afterwards: what is not over now was not over then.
        let is_over = at_the_channel() == 0;
        let used = &limits.body["data"]["concurrency"]["used"];
        assert!(is_over || *used == 1, "the payment runs and is not counted: {}", limits.text);
        is_over.then_some(())
    })
    .await;
    wait_for_flight(&house, &shop, 0).await;
    shop.get(LIMITS).await.expect(200, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_survive_a_restart() {
    let house = House::start().await;
    let shop = house.merchant_limited(json!({ "per_minute": 5 })).await;
    let untouched = house.merchant("starter").await;
    for _ in 0..5 {
        shop.get(LIMITS).await.expect(200, "SUCCESS");
    }
    shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    let directory = house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    let shop = shop.at(&house.url);
    let refusal = shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refusal.body["limit"], "minute", "{}", refusal.text);
    assert_eq!(used(&house, &shop, "hour").await, 5);
    let path = format!("/admin/v1/merchants/{}/limits", shop.merchant_id);
    let limits = house.admin("GET", &path, None).await;
    assert_eq!(limits.body["data"]["today"]["admitted"], 5, "{}", limits.text);
    assert_eq!(limits.body["data"]["today"]["refused"], 2, "{}", limits.text);
    assert_eq!(limits.body["data"]["concurrency"]["used"], 0, "{}", limits.text);
    untouched.at(&house.url).get(LIMITS).await.expect(200, "SUCCESS");
    assert_eq!(used(&house, &untouched, "hour").await, 1);
    house.stop().await;
}

/// With a window of 50 s no time passes during the test that would matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merchant_near_its_limit_is_told_once_at_each_share() {
    let house = House::start().await;
    let shop = house.merchant_limited(json!({ "per_second": 1, "burst": 50 })).await;
    let receiver = Receiver::start().await;
    let body = json!({ "url": receiver.url, "events": ["limit.near"] });
    let endpoint = shop.post("/api/v1/webhooks/endpoints", body).await.expect(201, "SUCCESS");
    for _ in 0..49 {
        shop.get(LIMITS).await.expect(200, "SUCCESS");
    }
    for _ in 0..10 {
        shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    }
    eventually("both events", || async { (receiver.deliveries().len() >= 2).then_some(()) }).await;
    let events: Vec<serde_json::Value> = receiver
        .deliveries()
        .into_iter()
        .map(|delivery| {
            delivery.verify(endpoint.data("secret")).unwrap();
            assert_eq!(delivery.header("x-webhook-event"), "limit.near");
            delivery.body
        })
        .collect();
    let mut shares: Vec<u64> =
        events.iter().map(|event| event["extra"]["threshold_percent"].as_u64().unwrap()).collect();
    shares.sort_unstable();
    assert_eq!(shares, [80, 95], "each once: {events:?}");
    for event in &events {
        let extra = &event["extra"];
        assert_eq!(
            (&event["event"], &event["amount"], &event["payment_no"]),
            (&json!("limit.near"), &json!(null), &json!(null))
        );
        assert_eq!((&extra["limit"], &extra["quota"], &extra["window_s"]), (&json!("second"), &json!(50), &json!(50)));
        let (share, used) = if extra["threshold_percent"] == 80 { (80, 40) } else { (95, 48) };
        assert_eq!((&extra["threshold_percent"], &extra["used"]), (&json!(share), &json!(used)));
        assert_eq!(extra["sequence"], if share == 80 { 1 } else { 2 });
        assert!(extra["tier"].is_string());
    }
    let text = house.admin("GET", "/admin/v1/metrics", None).await.text;
    for line in [
        "tollgate_limit_near_total{limit=\"second\",threshold=\"80\"} 1",
        "tollgate_limit_near_total{limit=\"hour\",threshold=\"95\"} 0",
        "tollgate_limit_decisions_total{result=\"admitted\"} 50",
        "tollgate_limit_decisions_total{result=\"refused\"} 10",
        "tollgate_limit_refused_total{limit=\"second\"} 10",
        "tollgate_limit_leases_expired_total 0",
        "tollgate_limit_near_dropped_total 0",
        "tollgate_merchants_active 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_sees_refusals_by_limit_and_who_is_nearest() {
    let house = House::start().await;
    let full = house.merchant_limited(json!({ "per_second": 1, "burst": 50 })).await;
    let quiet = house.merchant_limited(json!({ "per_second": 1, "burst": 50 })).await;
    for _ in 0..53 {
        full.get(LIMITS).await;
    }
    let own = quiet.get(LIMITS).await.expect(200, "SUCCESS");
    assert_eq!((&own.body["data"]["burst"], &own.body["data"]["per_second"]), (&json!(50), &json!(1)));
    let path = format!("/admin/v1/merchants/{}/limits", full.merchant_id);
    let limits = house.admin("GET", &path, None).await.expect(200, "SUCCESS").body["data"].take();
    let by = json!({ "second": 3, "minute": 0, "hour": 0, "concurrency": 0 });
    for day in [&limits["today"], &limits["days"][0]] {
        assert_eq!((&day["admitted"], &day["refused"], &day["refused_by"]), (&json!(50), &json!(3), &by));
        assert_eq!(day["peak_concurrency"], 1);
    }
    assert_eq!((&limits["active"], &limits["leases_expired"]), (&json!(true), &json!(0)));

    let list = |query: &str| {
        let path = format!("/admin/v1/limits{query}");
        let house = &house;
        async move { house.admin("GET", &path, None).await }
    };
    let near = list("?near=true").await.expect(200, "SUCCESS").items();
    assert_eq!(near.len(), 1);
    assert_eq!((&near[0]["merchant_id"], &near[0]["limit"]), (&json!(full.merchant_id), &json!("second")));
    let all = list("").await.expect(200, "SUCCESS").items();
    let ids: Vec<&str> = all.iter().map(|row| row["merchant_id"].as_str().unwrap()).collect();
    assert_eq!(ids, [full.merchant_id.as_str(), quiet.merchant_id.as_str()]);
    assert_eq!(list("?limit=1").await.expect(200, "SUCCESS").items().len(), 1);
    for (query, field) in
        [("?near=maybe", "near"), ("?limit=101", "limit"), ("?cursor=00", "cursor"), ("?full=1", "full")]
    {
        assert_eq!(list(query).await.expect(400, "INVALID_REQUEST").wrong_fields(), [field]);
    }
    house.stop().await;
}

const CHECK: &str = "/admin/v1/limits/check";
const RELEASE: &str = "/admin/v1/limits/release";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_services_ask_and_give_permits_back() {
    let house = House::start().await;
    let shop = house.merchant_limited(json!({ "concurrent": 2, "burst": 6, "per_second": 1 })).await;
    let check = |cost: u32| house.admin("POST", CHECK, Some(json!({ "merchant_id": shop.merchant_id, "cost": cost })));
    let first = check(1).await.expect(200, "SUCCESS");
    assert_eq!(first.body["data"]["admitted"], true, "{}", first.text);
    assert!(first.data("permit").starts_with("lp_") && first.data("permit").len() == 35, "{}", first.text);
    assert!(first.data("expires_at").ends_with('Z'), "{}", first.text);
    assert_eq!(first.body["data"]["concurrency"], json!({ "limit": 2, "used": 1 }));
    assert_eq!(window_of(&first, "second")["used"], 1);
    let second = check(2).await.expect(200, "SUCCESS");
    assert_eq!(window_of(&second, "second")["used"], 3, "cost counts");
    assert_ne!(first.data("permit"), second.data("permit"));

    let refused = check(1).await.expect(200, "SUCCESS");
    let data = &refused.body["data"];
    assert_eq!((&data["admitted"], &data["permit"]), (&json!(false), &json!(null)), "{}", refused.text);
    assert_eq!((&data["limit"], &data["retry_after"]), (&json!("concurrency"), &json!(1)), "{}", refused.text);
    let looked = check(0).await.expect(200, "SUCCESS");
    assert_eq!(looked.body["data"]["violated_policies"], json!(["concurrency"]), "{}", looked.text);
    // The merchant's own requests share its limits.
    shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");

    let release = |permit: &str| house.admin("POST", RELEASE, Some(json!({ "permit": permit })));
    for (permit, released) in
        [(first.data("permit"), true), (first.data("permit"), false), ("lp_0", false), ("", false)]
    {
        let answer = release(permit).await.expect(200, "SUCCESS");
        assert_eq!(answer.body["data"], json!({ "released": released }), "{permit}");
    }
    let looked = check(0).await.expect(200, "SUCCESS");
    assert_eq!(looked.body["data"]["admitted"], true, "{}", looked.text);
    assert_eq!((&looked.body["data"]["permit"], &window_of(&looked, "second")["used"]), (&json!(null), &json!(3)));
    assert_eq!(looked.body["data"]["concurrency"]["used"], 1, "{}", looked.text);

    let dear = check(7).await.expect(400, "INVALID_REQUEST");
    assert_eq!(dear.wrong_fields(), ["cost"]);
    assert!(dear.text.contains("at most 6"), "{}", dear.text);
    let unknown = json!({ "merchant_id": "m_nobody" });
    house.admin("POST", CHECK, Some(unknown)).await.expect(404, "NOT_FOUND");
    house.admin("POST", CHECK, Some(json!({ "cost": 1 }))).await.expect(400, "INVALID_REQUEST");
    let path = format!("/admin/v1/merchants/{}", shop.merchant_id);
    house.admin("PATCH", &path, Some(json!({ "status": "suspended" }))).await.expect(200, "SUCCESS");
    check(1).await.expect(403, "FORBIDDEN");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dear_request_of_another_service_gets_an_answer_of_its_own() {
    let house = House::start().await;
    // With a window of 30 s no time passes during the test that would matter.
    let shop = house.merchant_limited(json!({ "per_second": 1, "burst": 30 })).await;
    let check = async |cost: u32| {
        let body = json!({ "merchant_id": shop.merchant_id, "cost": cost });
        house.admin("POST", CHECK, Some(body)).await
    };
    check(30).await.expect(200, "SUCCESS");
    for _ in 0..2 {
        let refused = check(1).await.expect(200, "SUCCESS");
        assert_eq!(refused.body["data"]["admitted"], false, "{}", refused.text);
    }
    let dear = check(31).await.expect(400, "INVALID_REQUEST");
    assert_eq!(dear.wrong_fields(), ["cost"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_of_other_services_are_bounded_and_end_with_their_lease() {
    let house = House::start_with(|config| {
        config.server.request_timeout_ms = 900;
        config.payments.failover_within_ms = 500;
        config.limits.lease_ms = 1000;
        config.limits.external_permits_max = 2;
    })
    .await;
    let shop = house.merchant("business").await;
    let check = || house.admin("POST", CHECK, Some(json!({ "merchant_id": shop.merchant_id })));
    let permit = check().await.expect(200, "SUCCESS").data("permit").to_owned();
    check().await.expect(200, "SUCCESS");
    let used_before = used(&house, &shop, "hour").await;
    check().await.expect(503, "OVERLOADED");
    assert_eq!(used(&house, &shop, "hour").await, used_before, "where there is no room nothing is consumed");
    wait_for_flight(&house, &shop, 0).await;
    // Found by the watch: nobody has asked for permits since.
    eventually("both to be taken back", || async {
        let text = house.admin("GET", "/admin/v1/metrics", None).await.text;
        text.contains("tollgate_limit_external_permits_expired_total 2\n").then_some(())
    })
    .await;
    let release = house.admin("POST", RELEASE, Some(json!({ "permit": permit }))).await.expect(200, "SUCCESS");
    assert_eq!(release.body["data"]["released"], false, "it had ended by itself");
    check().await.expect(200, "SUCCESS");
    house.stop().await;
}

/// With a window of 50 s no time passes during the test that would matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_shares_hold_with_a_reload_for_merchants_in_memory() {
    let house = House::start().await;
    let shop = house.merchant_limited(json!({ "per_second": 1, "burst": 50 })).await;
    let receiver = Receiver::start().await;
    let body = json!({ "url": receiver.url, "events": ["limit.near"] });
    shop.post("/api/v1/webhooks/endpoints", body).await.expect(201, "SUCCESS");
    let told = || -> Vec<u64> {
        let share = |delivery: Delivery| delivery.body["extra"]["threshold_percent"].as_u64().unwrap();
        receiver.deliveries().into_iter().map(share).collect()
    };
    let ask = async |requests: usize| {
        for _ in 0..requests {
            shop.get(LIMITS).await.expect(200, "SUCCESS");
        }
    };
    let reload = async |near_percent: &[u8], near_interval_s: u32| {
        let mut config = house.gateway.config().clone();
        (config.limits.near_percent, config.limits.near_interval_s) = (near_percent.to_vec(), near_interval_s);
        house.gateway.reload(&config, &Operator::process("signal")).await.unwrap().applied
    };
    let near = || house.admin("GET", "/admin/v1/limits?near=true", None);
    // 30 of 50.
    ask(29).await;
    assert_eq!(near().await.items().len(), 0);
    assert_eq!(reload(&[50, 80], 600).await, ["limits.near_percent"]);
    let text = house.admin("GET", "/admin/v1/metrics", None).await.text;
    assert!(text.contains("tollgate_limit_near_total{limit=\"hour\",threshold=\"50\"} 0\n"), "{text}");
    assert_eq!(near().await.items().len(), 1, "above the lowest share");
    ask(1).await;
    eventually("the new share", || async { (told() == [50]).then_some(()) }).await;
    ask(9).await;
    eventually("the share of before", || async { (told() == [50, 80]).then_some(()) }).await;
    // In other places, and 95 is back: what was told stays told.
    assert_eq!(reload(&[80, 95], 60).await, ["limits.near_interval_s", "limits.near_percent"]);
    ask(10).await;
    shop.get(LIMITS).await.expect(429, "RATE_LIMIT_EXCEEDED");
    eventually("the last share", || async { (told() == [50, 80, 95]).then_some(()) }).await;
    house.stop().await;
    assert_eq!(told(), [50, 80, 95]);
}
