//! The operator's side: who gets in, merchants, channels, the emulators' controls, and what is not there for others.

use std::time::Duration;

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::support::{House, http_client};

const MERCHANTS: &str = "/admin/v1/merchants";

type Headers = HashMap<String, String>;

fn bearer(token: &str) -> Headers {
    Headers::from([("authorization".to_owned(), format!("Bearer {token}"))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_needs_the_token() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let one = format!("{MERCHANTS}/{}", shop.merchant_id);
    let paths = [
        ("GET", MERCHANTS),
        ("POST", MERCHANTS),
        ("GET", one.as_str()),
        ("PATCH", one.as_str()),
        ("DELETE", one.as_str()),
        ("GET", "/admin/v1/channels"),
        ("GET", "/admin/v1/metrics"),
        ("GET", "/metrics"),
        ("GET", "/admin/v1/sandbox/stripe"),
        ("PUT", "/admin/v1/sandbox/stripe"),
        ("GET", "/admin/v1/sandbox/stripe/ledger"),
        ("GET", "/admin/v1/nothing"),
        ("GET", "/admin/v1"),
    ];
    for (method, path) in paths {
        let refused = house.admin_as(method, path, None, Headers::new()).await.expect(401, "UNAUTHENTICATED");
        assert!(refused.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
    }
    let token = house.admin_token.clone();
    for wrong in ["", " ", "x", &token[1..], &token[..token.len() - 1], &format!("{token}x"), &token.to_uppercase()] {
        house.admin_as("GET", MERCHANTS, None, bearer(wrong)).await.expect(401, "UNAUTHENTICATED");
    }
    for scheme in ["Basic", "Token", ""] {
        let headers = Headers::from([("authorization".to_owned(), format!("{scheme} {token}"))]);
        house.admin_as("GET", MERCHANTS, None, headers).await.expect(401, "UNAUTHENTICATED");
    }
    for path in [format!("{MERCHANTS}?token={token}"), format!("{MERCHANTS}?access_token={token}")] {
        house.admin_as("GET", &path, None, Headers::new()).await.expect(401, "UNAUTHENTICATED");
    }
    // A merchant's own credentials open nothing here.
    let signed = shop.signed("GET", MERCHANTS, "", None, crate::support::unix_s(), "n");
    house.admin_as("GET", MERCHANTS, None, signed).await.expect(401, "UNAUTHENTICATED");
    house.admin_as("GET", MERCHANTS, None, bearer(&shop.key.secret)).await.expect(401, "UNAUTHENTICATED");
    house.admin("GET", MERCHANTS, None).await.expect(200, "SUCCESS");
    assert_eq!(house.admin("GET", &one, None).await.data("status"), "active", "nothing was changed");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_in_a_private_file_and_stays() {
    use std::os::unix::fs::PermissionsExt;

    let house = House::start().await;
    let token = house.admin_token.clone();
    let data = house.directory.path().join("data");
    for file in ["admin.token", "master.key"] {
        let mode = std::fs::metadata(data.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_to_string(data.join("admin.token")).unwrap().trim(), token);
    let directory = house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    assert_eq!(house.admin_token, token);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_this_server_s_is_refused() {
    let house = House::start().await;
    let with_host = |host: &str| {
        let mut headers = bearer(&house.admin_token);
        headers.insert("host".to_owned(), host.to_owned());
        headers
    };
    for host in ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1"] {
        house.admin_as("GET", MERCHANTS, None, with_host(host)).await.expect(403, "FORBIDDEN");
        house.admin_as("GET", "/healthz", None, with_host(host)).await.expect(403, "FORBIDDEN");
    }
    for host in ["localhost", "localhost:1", "127.0.0.1", "[::1]:8081"] {
        house.admin_as("GET", MERCHANTS, None, with_host(host)).await.expect(200, "SUCCESS");
    }
    // Merchants may come by any name.
    let shop = house.merchant("premium").await;
    let mut headers = shop.signed("GET", "/api/v1/limits", "", None, crate::support::unix_s(), "n");
    headers.insert("host".to_owned(), "pay.example".to_owned());
    shop.send("GET", "/api/v1/limits", None, headers).await.expect(200, "SUCCESS");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_listener_serves_the_other_s_paths() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    for path in
        [MERCHANTS, "/admin/v1/channels", "/admin/v1/sandbox/stripe", "/admin/v1", "/admin", "/metrics", "/console"]
    {
        shop.send("GET", path, None, bearer(&house.admin_token)).await.expect(404, "NOT_FOUND");
        shop.get(path).await.expect(404, "NOT_FOUND");
    }
    for path in ["/api/v1/payments", "/api/v1/limits", "/api/v1"] {
        house.admin("GET", path, None).await.expect(404, "NOT_FOUND");
        let signed = shop.signed("GET", path, "", None, crate::support::unix_s(), &crate::support::nonce());
        house.admin_as("GET", path, None, signed).await.expect(404, "NOT_FOUND");
    }
    let http = http_client();
    for url in [&house.url, &house.admin_url] {
        for path in ["/healthz", "/readyz", "/openapi.json"] {
            let answer = http.get(format!("{url}{path}")).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{url}{path}");
        }
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merchants_are_made_read_changed_and_removed() {
    let house = House::start().await;
    let body = json!({ "name": "Café 门店", "tier": "starter", "country": "HK", "limits": { "per_second": 5 }, "channels": ["alipay"] });
    let made = house.admin("POST", MERCHANTS, Some(body)).await.expect(201, "SUCCESS");
    let path = format!("{MERCHANTS}/{}", made.data("merchant_id"));
    let key_id = made.body["data"]["key"]["id"].as_str().unwrap();
    let read = house.admin("GET", &path, None).await.expect(200, "SUCCESS");
    assert_eq!((read.data("name"), read.data("tier"), read.data("country")), ("Café 门店", "starter", "HK"));
    assert_eq!(read.body["data"]["limits"], json!({ "per_second": 5 }));
    assert_eq!(read.body["data"]["channels"], json!(["alipay"]));
    assert_eq!(read.body["data"]["keys"], json!([key_id]));
    assert!(!read.text.contains("sk_"), "the secret is shown once: {}", read.text);

    let renamed = house.admin("PATCH", &path, Some(json!({ "name": "Café 2" }))).await.expect(200, "SUCCESS");
    assert_eq!((renamed.data("name"), renamed.data("tier")), ("Café 2", "starter"));
    assert_eq!(renamed.body["data"]["limits"], json!({ "per_second": 5 }), "only what is given changes");
    let moved = json!({ "tier": "business", "country": "US", "limits": null, "channels": [], "status": "suspended" });
    let moved = house.admin("PATCH", &path, Some(moved)).await.expect(200, "SUCCESS");
    assert_eq!((moved.data("tier"), moved.data("country"), moved.data("status")), ("business", "US", "suspended"));
    assert_eq!((&moved.body["data"]["limits"], &moved.body["data"]["channels"]), (&json!({}), &json!([])));
    assert_eq!(house.admin("GET", &path, None).await.body["data"], moved.body["data"]);
    let unchanged = house.admin("PATCH", &path, None).await.expect(200, "SUCCESS");
    assert_eq!(unchanged.data("name"), "Café 2");

    house.admin("DELETE", &path, None).await.expect(200, "SUCCESS");
    for method in ["GET", "PATCH", "DELETE"] {
        house.admin(method, &path, None).await.expect(404, "NOT_FOUND");
    }
    house.admin("GET", &format!("{path}/limits"), None).await.expect(404, "NOT_FOUND");
    house.admin("POST", &format!("{path}/keys"), None).await.expect(404, "NOT_FOUND");
    assert!(house.admin("GET", MERCHANTS, None).await.items().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_merchants_are_refused_by_field() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let one = format!("{MERCHANTS}/{}", shop.merchant_id);
    let before = house.admin("GET", &one, None).await;
    let wrong = [
        ("name", json!("")),
        ("name", json!("x".repeat(101))),
        ("name", json!(7)),
        ("tier", json!("platinum")),
        ("tier", json!("")),
        ("tier", json!(null)),
        ("country", json!("us")),
        ("country", json!("ZZ")),
        ("limits", json!({ "per_second": 0 })),
        ("limits", json!({ "concurrent": 0 })),
        ("limits", json!({ "per_second": 1, "burst": 100_000 })),
        ("limits.per_second", json!({ "per_second": "5" })),
        ("limits.per_second", json!({ "per_second": -5 })),
        ("limits.per_hour", json!({ "per_hour": 4_294_967_296_i64 })),
        ("limits.per_day", json!({ "per_day": 5 })),
        ("channels", json!(["nobody"])),
        ("channels", json!("stripe")),
        ("merchant_id", json!("m_mine")),
    ];
    for (field, value) in wrong {
        let name = field.split('.').next().unwrap();
        let mut body = json!({ "name": "a shop", "tier": "starter" });
        body[name] = value.clone();
        let refused = house.admin("POST", MERCHANTS, Some(body)).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [field], "{value}: {}", refused.text);
        if value.is_null() {
            continue;
        }
        let refused = house.admin("PATCH", &one, Some(json!({ name: value }))).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [field], "{value}: {}", refused.text);
    }
    let refused = house.admin("PATCH", &one, Some(json!({ "status": "deleted" }))).await.expect(400, "INVALID_REQUEST");
    assert_eq!(refused.wrong_fields(), ["status"], "{}", refused.text);
    for missing in ["name", "tier"] {
        let mut body = json!({ "name": "a shop", "tier": "starter" });
        body.as_object_mut().unwrap().remove(missing);
        let refused = house.admin("POST", MERCHANTS, Some(body)).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [missing], "{}", refused.text);
    }
    assert_eq!(house.admin("GET", &one, None).await.body["data"], before.body["data"]);
    assert_eq!(house.admin("GET", MERCHANTS, None).await.items().len(), 1);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merchants_are_listed_page_by_page() {
    let house = House::start().await;
    let mut made = BTreeSet::new();
    for _ in 0..7 {
        made.insert(house.merchant("starter").await.merchant_id);
    }
    let mut seen = Vec::new();
    let mut path = format!("{MERCHANTS}?limit=3");
    let mut pages = 0;
    loop {
        let page = house.admin("GET", &path, None).await.expect(200, "SUCCESS");
        pages += 1;
        assert!(page.items().len() <= 3);
        seen.extend(page.items().iter().map(|item| item["merchant_id"].as_str().unwrap().to_owned()));
        match page.body["data"]["next_cursor"].as_str() {
            Some(cursor) => path = format!("{MERCHANTS}?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 7));
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), made, "each once");
    for query in ["limit=0", "limit=101", "limit=x", "cursor=zz", "status=active"] {
        house.admin("GET", &format!("{MERCHANTS}?{query}"), None).await.expect(400, "INVALID_REQUEST");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emulators_are_told_to_misbehave_within_bounds() {
    let house = House::start().await;
    let path = "/admin/v1/sandbox/stripe";
    let before = house.admin("GET", path, None).await.expect(200, "SUCCESS");
    for (wrong, field) in [
        (json!({ "decline_rate": 1.1 }), "decline_rate"),
        (json!({ "decline_rate": -0.1 }), "decline_rate"),
        (json!({ "error_rate": 2 }), "error_rate"),
        (json!({ "lost_response_rate": "all" }), "lost_response_rate"),
        (json!({ "latency_ms": -1 }), "latency_ms"),
        (json!({ "latency_ms": 600_001 }), "latency_ms"),
        (json!({ "latency_jitter_ms": 1.5 }), "latency_jitter_ms"),
        (json!({ "down": "yes" }), "down"),
        (json!({ "latency": 5 }), "latency"),
    ] {
        let refused = house.admin("PUT", path, Some(wrong.clone())).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [field], "{wrong}: {}", refused.text);
    }
    assert_eq!(house.admin("GET", path, None).await.body["data"], before.body["data"], "refusals change nothing");
    let patched = house.admin("PUT", path, Some(json!({ "decline_rate": 1.0 }))).await.expect(200, "SUCCESS");
    assert_eq!(patched.body["data"]["decline_rate"], 1.0);
    let merged = house.admin("PUT", path, Some(json!({ "latency_ms": 5 }))).await.expect(200, "SUCCESS");
    assert_eq!((&merged.body["data"]["decline_rate"], &merged.body["data"]["latency_ms"]), (&json!(1.0), &json!(5)));
    let shop = house.merchant("premium").await;
    let declined = shop.pay("O-1", 900, json!({ "channel": "stripe" })).await.expect(201, "SUCCESS");
    assert_eq!(declined.data("status"), "failed");
    house.admin("PUT", path, Some(json!({ "decline_rate": 0 }))).await.expect(200, "SUCCESS");
    let paid = shop.pay("O-1", 900, json!({ "channel": "stripe" })).await.expect(201, "SUCCESS");
    assert_eq!(paid.data("status"), "success");
    let ledger = house.ledger("stripe", paid.data("payment_no")).await;
    assert_eq!(ledger.len(), 1);
    let entry = &ledger[0];
    assert_eq!(
        (&entry["operation"], &entry["amount_minor"], &entry["currency"]),
        (&json!("charge"), &json!(900), &json!("USD"))
    );
    for (method, path) in [
        ("GET", "/admin/v1/sandbox/nobody"),
        ("PUT", "/admin/v1/sandbox/nobody"),
        ("GET", "/admin/v1/sandbox/nobody/ledger"),
    ] {
        house.admin(method, path, None).await.expect(404, "NOT_FOUND");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_show_how_they_do() {
    let house = House::start_with(|config| config.routing.breaker_consecutive_failures = 3).await;
    let shop = house.merchant("premium").await;
    let channel = |name: &'static str| {
        let house = &house;
        async move {
            let list = house.admin("GET", "/admin/v1/channels", None).await.expect(200, "SUCCESS");
            list.items().into_iter().find(|channel| channel["name"] == name).unwrap_or(Value::Null)
        }
    };
    let fresh = channel("stripe").await;
    assert_eq!(
        (&fresh["kind"], &fresh["enabled"], &fresh["breaker"]),
        (&json!("stripe"), &json!(true), &json!("closed"))
    );
    assert_eq!((&fresh["samples"], &fresh["in_flight"]), (&json!(0), &json!(0)), "{fresh}");
    assert!(fresh["success_rate"].is_number(), "{fresh}");
    assert!(channel("alipay").await.is_object());
    for index in 0..4 {
        shop.pay(&format!("O-{index}"), 900, json!({ "channel": "stripe" })).await.expect(201, "SUCCESS");
    }
    // The router learns of an outcome beside the answer, so that the last one may still be on its way.
    let once = |field: &'static str, value: Value| {
        let channel = &channel;
        async move {
            let mut shown = channel("stripe").await;
            for _ in 0..100 {
                if shown[field] == value {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                shown = channel("stripe").await;
            }
            shown
        }
    };
    let used = once("samples", json!(4)).await;
    assert_eq!((&used["samples"], &used["in_flight"]), (&json!(4), &json!(0)), "{used}");
    assert_eq!(channel("alipay").await["samples"], 0);

    house.disturb("stripe", json!({ "down": true })).await;
    for index in 0..3 {
        shop.pay(&format!("D-{index}"), 900, json!({ "channel": "stripe" })).await.expect(502, "CHANNEL_ERROR");
    }
    let broken = once("breaker", json!("open")).await;
    assert_eq!(broken["breaker"], "open", "{broken}");
    let refused = shop.pay("D-3", 900, json!({ "channel": "stripe" })).await.expect(503, "NO_CHANNEL_AVAILABLE");
    assert!(!refused.header("retry-after").is_empty());
    assert!(refused.body["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{}", refused.text);
    let elsewhere = shop.pay("D-4", 900, json!({ "country": "US" })).await.expect(201, "SUCCESS");
    assert_eq!(elsewhere.data("channel"), "alipay");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_there_for_prometheus() {
    let house = House::start().await;
    let before = house.admin("GET", "/metrics", None).await;
    assert_eq!((before.status, before.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    house.merchant("starter").await;
    let after = house.admin("GET", "/admin/v1/metrics", None).await;
    let value = |text: &str, name: &str| -> f64 {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    };
    for name in ["tollgate_store_committed_sequence", "tollgate_store_journal_written_bytes_total"] {
        assert!(value(&after.text, name) > value(&before.text, name), "{name}");
    }
    assert_eq!(value(&after.text, "tollgate_store_disk_low"), 0.0);
    assert!(value(&after.text, "tollgate_store_disk_free_bytes") > 0.0);
    for line in after.text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("tollgate_"), "{line}");
    }
    house.admin("GET", "/metrics?x=1", None).await.expect(400, "INVALID_REQUEST");
    house.stop().await;
}
