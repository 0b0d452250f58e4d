//! What payments have cost, through the operator's API, over restarts, and in tiers.

use serde_json::{Value, json};

use crate::support::{House, eventually};

const COSTS: &str = "/admin/v1/costs";

async fn by_channel(house: &House) -> Value {
    let answer = house.admin("GET", &format!("{COSTS}?group=channel"), None).await.expect(200, "SUCCESS");
    assert_eq!(
        (&answer.body["data"]["complete"], &answer.body["data"]["baseline_channel"]),
        (&json!(true), &json!("stripe"))
    );
    answer.body["data"]["items"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fees_are_shown_beside_the_baseline_and_survive_restarts() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let stripe = shop.pay("O-1", 10_000, json!({ "country": "US", "method": "card" })).await.expect(201, "SUCCESS");
    shop.pay("O-2", 10_000, json!({ "country": "US", "method": "alipay" })).await.expect(201, "SUCCESS");
    shop.pay("O-3", 10_000, json!({ "payment_token": "tok_declined", "method": "card" })).await.expect(201, "SUCCESS");
    let refunds = format!("/api/v1/payments/{}/refunds", stripe.data("payment_no"));
    shop.post_with_key(&refunds, json!({ "amount": 300 }), "k-1").await.expect(201, "SUCCESS");
    let items = by_channel(&house).await;
    let row = |place: usize| {
        ["channel", "payments", "amount", "fees", "fees_reported", "baseline_fees", "saved", "refunds", "refunded"]
            .map(|key| items[place][key].clone())
    };
    assert_eq!(json!(row(0)), json!(["alipay", 1, 10_000, 60, 0, 320, 260, 0, 0]));
    assert_eq!(json!(row(1)), json!(["stripe", 1, 10_000, 320, 1, 320, 0, 1, 300]));
    // A row a page; the totals are of all rows, each currency converted once.
    shop.pay("O-4", 10_000, json!({ "country": "CN", "method": "alipay", "currency": "CNY" }))
        .await
        .expect(201, "SUCCESS");
    let page = house.admin("GET", &format!("{COSTS}?limit=1"), None).await.expect(200, "SUCCESS");
    // 100 yuan are 13.80 USD: 0.6 % of them are 0.60 yuan, 8 US cents; on Stripe 5.4 % and 0.30 USD, 7.57 yuan, 1.04 USD.
    let totals = json!({ "currency": "USD", "payments": 3, "amount": 21_380, "fees": 388, "baseline_fees": 744,
        "saved": 356, "saved_percent": 47.8, "left_out": [] });
    assert_eq!((page.items().len(), &page.body["data"]["totals"]), (1, &totals));
    let items = by_channel(&house).await;
    let metrics = house.admin("GET", "/admin/v1/metrics", None).await.text;
    assert!(
        metrics.contains("tollgate_fees_baseline_minor_total{channel=\"alipay\",currency=\"USD\"} 320"),
        "{metrics}"
    );
    for wrong in ["from=yesterday", "from=2026-01-02&to=2026-01-01", "group=week", "limit=0", "x=1"] {
        house.admin("GET", &format!("{COSTS}?{wrong}"), None).await.expect(400, "INVALID_REQUEST");
    }
    let none = house.admin("GET", &format!("{COSTS}?to=2020-01-01"), None).await.expect(200, "SUCCESS");
    assert!(none.items().is_empty());
    let directory = house.stop().await;
    let file = directory.path().join("data").join("costs");
    assert!(file.exists(), "a clean stop leaves them");
    let house = House::start_in(directory, |_| {}).await;
    assert_eq!(by_channel(&house).await, items);
    let directory = house.stop().await;
    std::fs::remove_file(&file).unwrap();
    let house = House::start_in(directory, |_| {}).await;
    eventually("the count", || async {
        let answer = house.admin("GET", COSTS, None).await;
        answer.body["data"]["complete"].as_bool().filter(|complete| *complete)
    })
    .await;
    assert_eq!(by_channel(&house).await, items);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_is_reached_by_what_was_charged_this_month_also_after_a_restart() {
    let with_tier = |config: &mut tollgate::config::Config| {
        let tier = serde_json::from_value(json!({ "from_minor": 20_000, "percent": "0.1" })).unwrap();
        config.channels.get_mut("alipay").unwrap().fees.tiers = vec![tier];
    };
    let house = House::start_with(with_tier).await;
    let shop = house.merchant("premium").await;
    let pay = async |shop: &crate::support::Client, order_no: &str| {
        let paid = shop.pay(order_no, 10_000, json!({ "method": "alipay" })).await.expect(201, "SUCCESS");
        paid.body["data"]["fee"]["amount"].clone()
    };
    assert_eq!(
        (pay(&shop, "O-1").await, pay(&shop, "O-2").await, pay(&shop, "O-3").await),
        (json!(60), json!(60), json!(10))
    );
    let directory = house.stop().await;
    let house = House::start_in(directory, with_tier).await;
    let shop = shop.at(&house.url);
    assert_eq!(pay(&shop, "O-4").await, json!(10));
    house.stop().await;
}
