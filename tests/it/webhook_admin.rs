//! Webhooks as the operator sees them, and endpoints that have something of their own.

use serde_json::{Value, json};

use crate::support::{Answer, Client, House, Receiver, eventually};

const ENDPOINTS: &str = "/api/v1/webhooks/endpoints";
const NOTIFICATIONS: &str = "/api/v1/webhooks/notifications";
const ALL_ENDPOINTS: &str = "/admin/v1/webhooks/endpoints";
const ALL_NOTIFICATIONS: &str = "/admin/v1/webhooks/notifications";

async fn endpoint(shop: &Client, url: &str) -> String {
    shop.post(ENDPOINTS, json!({ "url": url })).await.expect(201, "SUCCESS").data("id").to_owned()
}

async fn patch(shop: &Client, id: &str, body: Value) -> Answer {
    shop.request("PATCH", &format!("{ENDPOINTS}/{id}"), Some(body.to_string()), None).await
}

async fn notification_in(shop: &Client, status: &str) -> String {
    eventually("the notification's status", || async {
        let list = shop.get(&format!("{NOTIFICATIONS}?status={status}")).await.expect(200, "SUCCESS");
        list.items().first().map(|item| item["id"].as_str().unwrap().to_owned())
    })
    .await
}

fn ids(answer: &Answer) -> Vec<String> {
    answer.items().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_finds_every_merchants_endpoints_and_notifications() {
    let house = House::start().await;
    let (one, other) = (house.merchant("premium").await, house.merchant("premium").await);
    let receiver = Receiver::start().await;
    let first = endpoint(&one, &receiver.url).await;
    let second = endpoint(&one, "https://shop.example/hook").await;
    let foreign = endpoint(&other, "https://other.example/hook").await;
    patch(&one, &second, json!({ "status": "paused" })).await.expect(200, "SUCCESS");

    let all = house.admin("GET", ALL_ENDPOINTS, None).await.expect(200, "SUCCESS");
    let mut found = ids(&all);
    found.sort();
    let mut expected = vec![first.clone(), second.clone(), foreign.clone()];
    expected.sort();
    assert_eq!(found, expected);
    assert!(!all.text.contains("whsec_") && !all.text.contains("secrets"), "{}", all.text);
    let list = async |query: &str| house.admin("GET", &format!("{ALL_ENDPOINTS}?{query}"), None).await;
    assert_eq!(ids(&list(&format!("merchant_id={}", other.merchant_id)).await), [foreign.as_str()]);
    assert_eq!(ids(&list("status=paused").await), [second.as_str()]);
    assert_eq!(list("health=unknown").await.items().len(), 3);
    assert!(list("health=open").await.items().is_empty());
    assert!(list("merchant_id=m_nobody").await.items().is_empty());
    for wrong in ["status=gone", "health=good", "state=open", "limit=0", "cursor=x"] {
        list(wrong).await.expect(400, "INVALID_REQUEST");
    }
    let mut paged = Vec::new();
    let mut cursor = String::new();
    for _ in 0..3 {
        let page = list(&format!("limit=1{cursor}")).await.expect(200, "SUCCESS");
        paged.extend(ids(&page));
        let Some(next) = page.body["data"]["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, ids(&all), "page by page in the same order");

    one.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let sent = notification_in(&one, "success").await;
    let read = house.admin("GET", &format!("{ALL_NOTIFICATIONS}/{sent}"), None).await.expect(200, "SUCCESS");
    assert_eq!(read.data("merchant_id"), one.merchant_id);
    assert_eq!(read.body["data"]["tries"][0]["status_code"], 200, "{}", read.text);
    let path = format!("{ALL_NOTIFICATIONS}?merchant_id={}&endpoint_id={first}", one.merchant_id);
    assert_eq!(ids(&house.admin("GET", &path, None).await.expect(200, "SUCCESS")), [sent.as_str()]);
    let unnamed = house.admin("GET", ALL_NOTIFICATIONS, None).await.expect(400, "INVALID_REQUEST");
    assert_eq!(unnamed.wrong_fields(), ["merchant_id"]);
    let one_endpoint = house.admin("GET", &format!("{ALL_ENDPOINTS}/{second}"), None).await.expect(200, "SUCCESS");
    assert_eq!((one_endpoint.data("status"), &one_endpoint.body["data"]["waiting"]), ("paused", &json!(1)));
    let healthy = house.admin("GET", &format!("{ALL_ENDPOINTS}/{first}"), None).await.expect(200, "SUCCESS");
    assert_eq!(healthy.body["data"]["health"]["state"], "healthy", "{}", healthy.text);
    for path in [format!("{ALL_ENDPOINTS}/we_nobody"), format!("{ALL_NOTIFICATIONS}/wn_nobody")] {
        house.admin("GET", &path, None).await.expect(404, "NOT_FOUND");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_operator_does_is_done_and_in_the_audit() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    receiver.answer(400);
    let id = endpoint(&shop, &receiver.url).await;
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let failed = notification_in(&shop, "failed").await;
    receiver.answer(200);
    let act = async |path: String, body: Option<Value>| house.admin("POST", &path, body).await;
    let retried = act(format!("{ALL_NOTIFICATIONS}/{failed}/retry"), None).await.expect(200, "SUCCESS");
    assert_eq!((retried.data("id"), retried.data("merchant_id")), (failed.as_str(), shop.merchant_id.as_str()));
    notification_in(&shop, "success").await;
    act(format!("{ALL_NOTIFICATIONS}/{failed}/retry"), None).await.expect(409, "INVALID_STATE");

    let paused = act(format!("{ALL_ENDPOINTS}/{id}/pause"), None).await.expect(200, "SUCCESS");
    assert_eq!(paused.data("status"), "paused");
    shop.pay("O-2", 900, json!({})).await.expect(201, "SUCCESS");
    let wrong = act(format!("{ALL_ENDPOINTS}/{id}/enable"), Some(json!({ "kept": "send" }))).await;
    assert_eq!(wrong.expect(400, "INVALID_REQUEST").wrong_fields(), ["kept"]);
    let arrived = receiver.deliveries().len();
    act(format!("{ALL_ENDPOINTS}/{id}/enable"), Some(json!({}))).await.expect(200, "SUCCESS");
    eventually("what was kept", || async { Some(()).filter(|()| receiver.deliveries().len() > arrived) }).await;
    for path in ["pause", "enable"] {
        act(format!("{ALL_ENDPOINTS}/we_nobody/{path}"), None).await.expect(404, "NOT_FOUND");
        act(format!("{ALL_ENDPOINTS}/{id}/{path}"), Some(json!({ "what": 1 }))).await.expect(400, "INVALID_REQUEST");
    }
    let audit = house.admin("GET", "/admin/v1/audit?limit=4", None).await.expect(200, "SUCCESS");
    let entries: Vec<(String, String)> = audit
        .items()
        .iter()
        .map(|entry| (entry["action"].as_str().unwrap().to_owned(), entry["object"].as_str().unwrap().to_owned()))
        .collect();
    let object = |of: &str| format!("{}/{of}", shop.merchant_id);
    let expected = [
        (String::from("webhook_endpoint.enable"), object(&id)),
        (String::from("webhook_endpoint.pause"), object(&id)),
        (String::from("webhook_notification.retry"), object(&failed)),
    ];
    assert_eq!(entries[..3], expected);
    assert_eq!(audit.items()[1]["changes"]["status"], json!({ "before": "enabled", "after": "paused" }));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_resets_how_an_endpoint_did_and_sees_whose_a_job_is() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let id = endpoint(&shop, &receiver.url).await;
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    let one = shop.get(&format!("{ENDPOINTS}/{id}")).await.expect(200, "SUCCESS");
    assert_eq!(
        (&one.body["data"]["waiting"], &one.body["data"]["dead_letters"]),
        (&json!(1), &json!(0)),
        "{}",
        one.text
    );
    let act = async |path: String| house.admin("POST", &path, None).await;
    let reset = act(format!("{ALL_ENDPOINTS}/{id}/reset-health")).await.expect(200, "SUCCESS");
    assert_eq!(
        (reset.data("merchant_id"), &reset.body["data"]["health"]["breaker"]),
        (shop.merchant_id.as_str(), &json!("closed"))
    );
    act(format!("{ALL_ENDPOINTS}/we_nobody/reset-health")).await.expect(404, "NOT_FOUND");

    let since = json!({ "since": "2020-01-01T00:00:00Z" });
    let job = shop.post(&format!("{ENDPOINTS}/{id}/recover"), since).await.expect(202, "SUCCESS");
    let path = format!("/admin/v1/webhooks/jobs/{}", job.data("id"));
    let read = eventually("the job's end", || async {
        let job = house.admin("GET", &path, None).await.expect(200, "SUCCESS");
        Some(job).filter(|job| job.data("status") == "done")
    })
    .await;
    assert_eq!(read.data("merchant_id"), shop.merchant_id);
    act(format!("{path}/cancel")).await.expect(409, "INVALID_STATE");
    act(String::from("/admin/v1/webhooks/jobs/wj_nobody/cancel")).await.expect(404, "NOT_FOUND");
    let of_merchant = format!("/admin/v1/webhooks/jobs?merchant_id={}", shop.merchant_id);
    let listed = house.admin("GET", &of_merchant, None).await.expect(200, "SUCCESS");
    assert_eq!(ids(&listed), [job.data("id")]);
    let open = house.admin("GET", "/admin/v1/webhooks/jobs", None).await.expect(200, "SUCCESS");
    assert!(open.items().is_empty(), "{}", open.text);
    let sent = house.admin("GET", &format!("{ALL_NOTIFICATIONS}?endpoint_id={id}"), None).await.expect(200, "SUCCESS");
    assert_eq!(sent.items()[0]["merchant_id"], shop.merchant_id.as_str());
    house.admin("GET", &format!("{ALL_NOTIFICATIONS}?endpoint_id=we_nobody"), None).await.expect(404, "NOT_FOUND");
    let audit = house.admin("GET", "/admin/v1/audit?limit=1", None).await.expect(200, "SUCCESS");
    assert_eq!(audit.items()[0]["action"], "webhook_endpoint.reset_health");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_may_have_a_schedule_of_its_own() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let body =
        json!({ "url": receiver.url, "max_attempts": 3, "schedule_s": [0], "jitter_percent": 0, "timeout_s": 2 });
    let made = shop.post(ENDPOINTS, body).await.expect(201, "SUCCESS");
    let own = |answer: &Answer| {
        let data = &answer.body["data"];
        ["schedule_s", "initial_backoff_s", "max_backoff_s", "jitter_percent", "timeout_s"].map(|key| data[key].clone())
    };
    assert_eq!(own(&made), [json!([0]), Value::Null, Value::Null, json!(0), json!(2)]);
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    // With the gateway's schedule the third try would come after three seconds at the earliest.
    let failed = notification_in(&shop, "failed").await;
    let tries = shop.get(&format!("{NOTIFICATIONS}/{failed}")).await.expect(200, "SUCCESS");
    assert_eq!(tries.body["data"]["tries"].as_array().unwrap().len(), 3);

    let id = made.data("id");
    let changed = json!({ "schedule_s": null, "initial_backoff_s": 7, "max_backoff_s": 70, "timeout_s": null });
    let changed = patch(&shop, id, changed).await.expect(200, "SUCCESS");
    assert_eq!(own(&changed), [Value::Null, json!(7), json!(70), json!(0), Value::Null]);
    let merged = patch(&shop, id, json!({ "max_backoff_s": null })).await.expect(200, "SUCCESS");
    assert_eq!(own(&merged), [Value::Null, json!(7), Value::Null, json!(0), Value::Null]);
    for (wrong, field) in [
        (json!({ "initial_backoff_s": 0 }), "initial_backoff_s"),
        (json!({ "initial_backoff_s": 3601 }), "initial_backoff_s"),
        (json!({ "max_backoff_s": 6 }), "max_backoff_s"),
        (json!({ "max_backoff_s": 604_801 }), "max_backoff_s"),
        (json!({ "jitter_percent": 51 }), "jitter_percent"),
        (json!({ "timeout_s": 0 }), "timeout_s"),
        (json!({ "timeout_s": 301 }), "timeout_s"),
        (json!({ "schedule_s": [1, 604_801] }), "schedule_s"),
        (json!({ "schedule_s": vec![1; 101] }), "schedule_s"),
        (json!({ "schedule_s": [-1] }), "schedule_s[0]"),
        (json!({ "kept": "send" }), "kept"),
        (json!({ "kept": "drop", "status": "enabled" }), "kept"),
    ] {
        let refused = patch(&shop, id, wrong.clone()).await.expect(400, "INVALID_REQUEST");
        assert_eq!(refused.wrong_fields(), [field], "{wrong}: {}", refused.text);
        if wrong.get("kept").is_none() {
            let mut body = wrong.clone();
            body["url"] = json!("https://shop.example/");
            // Where only the gateway's own first wait is known, less than it is still too little.
            if wrong["max_backoff_s"] != 6 {
                shop.post(ENDPOINTS, body).await.expect(400, "INVALID_REQUEST");
            }
        }
    }
    let read = shop.get(&format!("{ENDPOINTS}/{id}")).await;
    assert_eq!(own(&read), own(&merged), "refusals change nothing");
    let disabled = Receiver::start().await;
    disabled.answer(410);
    let gone = endpoint(&shop, &disabled.url).await;
    shop.post(&format!("{ENDPOINTS}/{gone}/test"), json!({})).await.expect(200, "SUCCESS");
    eventually("the endpoint is disabled", || async {
        let read = shop.get(&format!("{ENDPOINTS}/{gone}")).await.expect(200, "SUCCESS");
        Some(read).filter(|read| read.data("status") == "disabled" && read.body["data"]["disabled_at"].is_string())
    })
    .await;
    let enabled = json!({ "status": "enabled", "kept": "drop" });
    let enabled = patch(&shop, &gone, enabled).await.expect(200, "SUCCESS");
    assert_eq!((enabled.data("status"), &enabled.body["data"]["disabled_at"]), ("enabled", &Value::Null));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_two_rotations_every_secret_of_the_day_verifies() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let made = shop.post(ENDPOINTS, json!({ "url": receiver.url })).await.expect(201, "SUCCESS");
    let path = format!("{ENDPOINTS}/{}", made.data("id"));
    let mut secrets = vec![made.data("secret").to_owned()];
    for _ in 0..2 {
        let rotated = shop.post(&format!("{path}/rotate-secret"), json!({})).await.expect(200, "SUCCESS");
        assert!(rotated.body["data"]["previous_secret_valid_until"].is_string());
        secrets.push(rotated.data("secret").to_owned());
    }
    shop.post(&format!("{path}/test"), json!({})).await.expect(200, "SUCCESS");
    let sent = eventually("the test event", || async { receiver.deliveries().into_iter().next() }).await;
    for secret in &secrets {
        sent.verify(secret).unwrap();
    }
    assert_eq!(sent.header("webhook-signature").split(' ').count(), 3);
    house.stop().await;
}
