//! A configuration that changes while the gateway runs.

use serde_json::json;
use tollgate::config::Config;
use tollgate::domain::audit::Operator;

use crate::support::{House, eventually};

fn by() -> Operator {
    Operator::process("signal")
}

/// The configuration that the gateway was opened with, changed.
fn changed(house: &House, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = house.gateway.config().clone();
    change(&mut config);
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_and_channels_change_at_once_and_the_rest_is_named() {
    let house = House::start_with_two(|_| {}).await;
    let shop = house.merchant("starter").await;
    assert_eq!(shop.get("/api/v1/limits").await.header("x-ratelimit-limit"), "10");
    let china = json!({ "country": "CN" });
    assert_eq!(shop.pay("O-1", 100, china.clone()).await.data("channel"), "alipay");

    let config = changed(&house, |config| {
        let starter = config.tiers.get_mut("starter").unwrap();
        (starter.per_second, starter.burst) = (30, 60);
        config.channels.get_mut("alipay").unwrap().enabled = false;
        config.server.body_max_bytes = 2_048;
    });
    let reloaded = house.gateway.reload(&config, &by()).await.unwrap();
    assert_eq!(reloaded.applied, ["channels.alipay.enabled", "tiers.starter.burst", "tiers.starter.per_second"]);
    assert_eq!(reloaded.needs_restart, ["server.body_max_bytes"]);
    // The operator sees it before the merchant has sent anything.
    let limits = house.admin("GET", &format!("/admin/v1/merchants/{}/limits", shop.merchant_id), None).await;
    assert_eq!(limits.body["data"]["active"], true, "{}", limits.text);
    assert_eq!((&limits.body["data"]["per_second"], &limits.body["data"]["burst"]), (&json!(30), &json!(60)));
    assert_eq!(shop.get("/api/v1/limits").await.header("x-ratelimit-limit"), "30");
    assert_eq!(shop.pay("O-2", 100, china.clone()).await.data("channel"), "stripe");

    let again = house.gateway.reload(&config, &by()).await.unwrap();
    assert!(again.applied.is_empty(), "{again:?}");
    assert_eq!(again.needs_restart, ["server.body_max_bytes"]);

    let back = house.gateway.reload(&changed(&house, |_| {}), &by()).await.unwrap();
    assert_eq!((back.applied.len(), back.needs_restart.len()), (3, 0));
    assert_eq!(shop.get("/api/v1/limits").await.header("x-ratelimit-limit"), "10");
    assert_eq!(shop.pay("O-3", 100, china).await.data("channel"), "alipay");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_channel_that_costs_are_compared_with_changes_at_once() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    assert_eq!(shop.pay("O-1", 10_000, json!({ "country": "CN" })).await.data("channel"), "alipay");
    let compared = async |wanted: &str| {
        eventually("another channel to compare with", || async {
            let costs = house.admin("GET", "/admin/v1/costs", None).await.expect(200, "SUCCESS");
            let is_wanted = costs.data("baseline_channel") == wanted && costs.body["data"]["complete"] == true;
            is_wanted.then(|| costs.items()[0]["baseline_fees"].as_i64().unwrap())
        })
        .await
    };
    let before = compared("stripe").await;
    let config = changed(&house, |config| config.routing.baseline_channel = Some(String::from("alipay")));
    let reloaded = house.gateway.reload(&config, &by()).await.unwrap();
    assert_eq!((reloaded.applied, reloaded.needs_restart), (vec![String::from("routing.baseline_channel")], vec![]));
    let after = compared("alipay").await;
    assert!(after < before, "{after} of {before}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_longer_fits_a_new_file_is_told_with_it() {
    let house = House::start().await;
    let default = json!({ "default_channel": "alipay" });
    house.admin("PUT", "/admin/v1/routing", Some(default)).await.expect(200, "SUCCESS");
    let config = changed(&house, |config| config.channels.get_mut("alipay").unwrap().enabled = false);
    let reloaded = house.gateway.reload(&config, &by()).await.unwrap();
    let unfit: Vec<&str> = reloaded.unfit.iter().map(|unfit| unfit.what.as_str()).collect();
    assert_eq!(unfit, ["routing.default_channel"]);
    assert!(house.gateway.reload(&changed(&house, |_| {}), &by()).await.unwrap().unfit.is_empty());
    house.stop().await;
}

#[tokio::test]
async fn a_change_that_is_cut_off_is_made_whole() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    let config = changed(&house, |config| {
        let starter = config.tiers.get_mut("starter").unwrap();
        (starter.per_second, starter.burst) = (30, 60);
        config.routing.smart = !config.routing.smart;
    });
    let by = by();
    {
        let mut reload = std::pin::pin!(house.gateway.reload(&config, &by));
        // On one thread nobody can answer before this returns.
        assert!(futures_util::poll!(reload.as_mut()).is_pending());
    }
    eventually("the limits that follow the routing", || async {
        let limits = shop.get("/api/v1/limits").await;
        (limits.header("x-ratelimit-limit") == "30").then_some(())
    })
    .await;
    assert!(house.gateway.reload(&config, &by).await.unwrap().applied.is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_does_not_fit_changes_nothing() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    let config = changed(&house, |config| {
        config.tiers.get_mut("starter").unwrap().burst = 40;
        // Needs a restart, and the default channel needs it at once.
        let new = config.channels["stripe"].clone();
        config.channels.insert(String::from("second"), new);
        config.routing.default_channel = String::from("second");
    });
    let refused = house.gateway.reload(&config, &by()).await.unwrap_err();
    assert!(refused.to_string().contains("routing.default_channel"), "{refused}");
    let limits = shop.get("/api/v1/limits").await;
    assert_eq!(limits.body["data"]["windows"][0]["limit"], 20, "{}", limits.text);
    house.stop().await;
}
