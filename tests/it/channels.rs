//! Channels whose credentials are missing, that are full, that fail, and what of that outlives a restart.

use serde_json::{Value, json};
use tollgate::config::Config;
use tollgate::domain::audit::Operator;

use crate::support::{House, eventually};

async fn channel(house: &House, name: &str) -> Value {
    let list = house.admin("GET", "/admin/v1/channels", None).await.expect(200, "SUCCESS");
    list.items().into_iter().find(|channel| channel["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_without_credentials_is_left_out_until_a_reload_finds_them() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("stripe.key");
    let path = key.display().to_string();
    let without = |config: &mut Config| {
        let stripe = config.channels.get_mut("stripe").unwrap();
        (stripe.sandbox, stripe.base_url) = (false, Some(String::from("https://api.stripe.com")));
        stripe.credentials.insert(String::from("secret_key_file"), path.clone());
    };
    let house = House::start_with(without).await;
    let shop = house.merchant("starter").await;
    let lacks = channel(&house, "stripe").await["lacks"].clone();
    assert!(lacks.as_str().is_some_and(|lacks| lacks.contains(&path)), "{lacks}");
    assert_eq!(channel(&house, "alipay").await["lacks"], Value::Null);
    assert_eq!(shop.pay("O-1", 100, json!({ "country": "US" })).await.data("channel"), "alipay");
    let refused = shop.pay("O-2", 100, json!({ "channel": "stripe" })).await.expect(503, "NO_CHANNEL_AVAILABLE");
    assert!(refused.text.contains("has no credentials"), "{}", refused.text);

    let config = house.gateway.config().clone();
    let by = Operator::process("signal");
    assert!(house.gateway.reload(&config, &by).await.unwrap().applied.is_empty());
    std::fs::write(&key, "sk_test_found").unwrap();
    assert_eq!(house.gateway.reload(&config, &by).await.unwrap().applied, ["channels.stripe.credentials"]);
    assert_eq!(channel(&house, "stripe").await["lacks"], Value::Null);
    let quote = json!({ "order_no": "O-3", "amount": 100, "currency": "USD", "country": "US" });
    let quote = shop.post("/api/v1/routing/quote", quote).await.expect(200, "SUCCESS");
    assert_eq!(quote.data("channel"), "stripe", "{}", quote.text);
    assert!(house.gateway.reload(&config, &by).await.unwrap().applied.is_empty(), "once");
    let audit = house.admin("GET", "/admin/v1/audit", None).await.expect(200, "SUCCESS");
    assert!(audit.text.contains("channels.stripe.credentials") && !audit.text.contains("sk_test_found"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_channel_leaves_payments_to_others_also_after_a_restart() {
    let capped = |config: &mut Config| config.channels.get_mut("alipay").unwrap().caps.per_day = Some(2);
    let house = House::start_with(capped).await;
    let shop = house.merchant("premium").await;
    let china = || json!({ "country": "CN" });
    for (order_no, expected) in [("O-1", "alipay"), ("O-2", "alipay"), ("O-3", "stripe")] {
        assert_eq!(shop.pay(order_no, 100, china()).await.data("channel"), expected);
    }
    // What was refused for another reason has not begun.
    assert_eq!(shop.pay("O-1", 100, china()).await.code(), "ORDER_EXISTS");
    let alipay = channel(&house, "alipay").await;
    assert_eq!((&alipay["payments_today"], &alipay["amount_today_minor"]), (&json!(2), &json!(200)));
    let (key, merchant_id) = (shop.key.clone(), shop.merchant_id.clone());
    let house = House::start_in(house.stop().await, capped).await;
    let shop = crate::support::Client::new(&house.url, key, &merchant_id);
    let full = shop.pay("O-4", 100, json!({ "channel": "alipay" })).await.expect(503, "NO_CHANNEL_AVAILABLE");
    assert!(full.text.contains("as many payments today"), "{}", full.text);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_breaker_is_shown_measured_and_kept_over_a_restart() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    house.disturb("alipay", json!({ "down": true })).await;
    for index in 0..5 {
        shop.pay(&format!("O-{index}"), 100, json!({ "channel": "alipay" })).await;
    }
    let open = eventually("the breaker", || async {
        let alipay = channel(&house, "alipay").await;
        (alipay["breaker"] == "open").then_some(alipay)
    })
    .await;
    assert_eq!((&open["opened_by"], &open["failed_probes"]), (&json!("consecutive"), &json!(0)), "{open}");
    assert!(open["opens_until"].is_string(), "{open}");
    let metrics = house.admin("GET", "/metrics", None).await.text;
    for line in [
        "tollgate_channel_breaker{channel=\"alipay\"} 2",
        "tollgate_channel_breaker{channel=\"stripe\"} 0",
        "tollgate_channel_calls_total{channel=\"alipay\",class=\"technical_failure\"} 5",
        "tollgate_channel_calls_total{channel=\"stripe\",class=\"approved\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    let house = House::start_in(house.stop().await, |_| {}).await;
    let kept = channel(&house, "alipay").await;
    assert_eq!((&kept["breaker"], &kept["opened_by"]), (&json!("open"), &json!("consecutive")));
    house.stop().await;
}
