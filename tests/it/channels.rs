//! Channels whose credentials are missing, that are full, that fail, and what of that outlives a restart.

use std::path::Path;

use serde_json::{Value, json};
use tollgate::config::Config;
use tollgate::domain::audit::Operator;
use tollgate::storage::whole_file::WholeFile;

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
    let house = House::start_with_two(without).await;
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
    let house = House::start_with_two(capped).await;
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

/// What a kill leaves of a store at least.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if ["LOCK", "index", "heartbeat", "windows"].iter().any(|left_out| entry.ends_with(left_out)) {
            continue;
        }
        if entry.is_dir() {
            copy(&entry, &to);
        } else if !entry.ends_with("next.tmp") {
            std::fs::copy(&entry, &to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_gives_no_channel_a_second_budget_for_its_day() {
    // The file with what is known of channels is as old as can be.
    let never_written = |config: &mut Config| config.routing.snapshot_interval_ms = 3_600_000;
    let capped = |config: &mut Config| {
        never_written(config);
        let caps = &mut config.channels.get_mut("stripe").unwrap().caps;
        (caps.per_day, caps.amount_per_day_minor) = (Some(5), Some(1_000));
    };
    let house = House::start_with_two(capped).await;
    let shop = house.merchant("premium").await;
    let pays = |more: Value| json!({ "country": "US", "payment_token": more });
    assert_eq!(shop.pay("O-1", 100, json!({ "country": "US" })).await.data("channel"), "stripe");
    let refused = shop.pay("O-2", 100, pays(json!("tok_stripe_declines:do_not_honor"))).await;
    assert_eq!(refused.data("status"), "failed", "{}", refused.text);
    let passed_on = shop.pay("O-3", 100, pays(json!("tok_stripe_declines:processing_error"))).await;
    assert_eq!((passed_on.data("status"), passed_on.data("channel")), ("success", "alipay"), "{}", passed_on.text);
    let today = async |house: &House| {
        let mut figures = Vec::new();
        for name in ["stripe", "alipay"] {
            let channel = channel(house, name).await;
            figures
                .push((channel["payments_today"].as_i64().unwrap(), channel["amount_today_minor"].as_i64().unwrap()));
        }
        figures
    };
    let expected = [(3, 300), (1, 100)];
    assert_eq!(today(&house).await, expected);
    let kill = |house: &House| {
        let killed = tempfile::tempdir().unwrap();
        copy(&house.directory.path().join("data"), &killed.path().join("data"));
        killed
    };
    let killed = kill(&house);
    // Nobody asked for a cap at the next start; that one stops in order, and the one after it has caps.
    let uncapped = House::start_in(kill(&house), never_written).await;
    let capped_later = House::start_in(uncapped.stop().await, capped).await;
    assert_eq!(today(&capped_later).await, expected);
    capped_later.stop().await;
    house.stop().await;

    let house = House::start_in(killed, capped).await;
    assert_eq!(today(&house).await, expected, "as before the kill");
    let shop = shop.at(&house.url);
    assert_eq!(shop.pay("O-4", 100, json!({ "country": "US" })).await.data("channel"), "stripe");
    // The amount comes first: 400 of 1,000 are used up.
    assert_eq!(shop.pay("O-5", 601, json!({ "country": "US" })).await.data("channel"), "alipay");
    let directory = house.stop().await;
    let left = WholeFile::new(directory.path().join("data/channels")).read().unwrap().unwrap();
    let left: Value = serde_json::from_slice(&left).unwrap();
    let house = House::start_in(directory, capped).await;
    let last_change = house.gateway.store_health().last_change;
    assert_eq!(left["router"]["complete_at"], last_change, "after a stop in order nothing is counted again");
    let twice_killed = House::start_in(kill(&house), capped).await;
    for house in [&house, &twice_killed] {
        assert_eq!(today(house).await, [(4, 400), (2, 701)]);
    }
    let shop = shop.at(&twice_killed.url);
    assert_eq!(shop.pay("O-6", 600, json!({ "country": "US" })).await.data("channel"), "stripe");
    let full = shop.pay("O-7", 1, json!({ "channel": "stripe" })).await.expect(503, "NO_CHANNEL_AVAILABLE");
    assert!(full.text.contains("as many payments today"), "{}", full.text);
    house.stop().await;
    twice_killed.stop().await;
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
