//! Payments in coins, over the emulator of a BTCPay server: who pays late or not at all, and what becomes of the order number.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate::clock::Clock;
use tollgate::domain::time::Timestamp;

use crate::support::{Client, House, eventually, http_client, unix_s};

const PAYMENTS: &str = "/api/v1/payments";
const MINUTE: Duration = Duration::from_secs(60);

/// A house on a clock that can be set.
async fn house() -> (House, Clock) {
    let clock = Clock::virtual_from(Timestamp::from_unix_s(i64::try_from(unix_s()).unwrap()));
    let house = House::start_at(tempfile::tempdir().unwrap(), clock.clone(), |_| {}).await;
    (house, clock)
}

fn coins(token: &str) -> Value {
    json!({ "channel": "crypto", "payment_token": token })
}

async fn comes_to(shop: &Client, payment_no: &str, status: &str) -> Value {
    eventually(status, || async {
        let payment = shop.get(&format!("{PAYMENTS}/{payment_no}")).await;
        (payment.data("status") == status).then(|| payment.body["data"].clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_number_is_held_until_nobody_looks_for_coins_any_more() {
    let (house, clock) = house().await;
    let shop = house.merchant("business").await;
    shop.pay("O-0", 900, coins("tok_visa")).await.expect(201, "SUCCESS");
    let waits = shop.pay("O-1", 900, coins("tok_3ds")).await.expect(201, "SUCCESS");
    assert_eq!(waits.data("status"), "requires_action");
    assert!(waits.body["data"]["next_action"]["url"].as_str().unwrap().contains("/pay/"), "{}", waits.text);
    let number = waits.data("payment_no").to_owned();
    shop.post_with_key(&format!("{PAYMENTS}/{number}/cancel"), json!({}), "k-cancel").await.expect(202, "SUCCESS");
    clock.set_forward(16 * MINUTE);
    shop.pay("O-1", 900, coins("tok_visa")).await.expect(409, "ORDER_EXISTS");
    clock.set_forward(25 * 60 * MINUTE);
    comes_to(&shop, &number, "canceled").await;
    shop.pay("O-1", 900, coins("tok_visa")).await.expect(201, "SUCCESS");
    assert_eq!((house.charges(&number).await, house.ledger("crypto", &number).await.len()), (0, 0));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paid_late_goes_back_to_who_paid_it() {
    let (house, clock) = house().await;
    let shop = house.merchant("business").await;
    let waits = shop.pay("O-1", 900, coins("tok_3ds")).await.expect(201, "SUCCESS");
    let number = waits.data("payment_no").to_owned();
    let page = waits.body["data"]["next_action"]["url"].as_str().unwrap().to_owned();
    clock.set_forward(16 * MINUTE);
    let http = http_client();
    assert_eq!(http.post(format!("{page}/approve")).send().await.unwrap().status(), 200);
    clock.set_forward(60 * MINUTE);
    let failed = comes_to(&shop, &number, "failed").await;
    assert_eq!((&failed["failure"]["code"], &failed["refunded_amount"]), (&json!("paid_late"), &json!(0)));
    let refunds = format!("{PAYMENTS}/{number}/refunds");
    let pull = eventually("the refund's number", || async {
        let refunds = shop.get(&refunds).await.items();
        assert_eq!(refunds.len(), 1);
        refunds[0]["channel_refund_no"].as_str().map(str::to_owned)
    })
    .await;
    let base = page.rsplit_once("/pay/").unwrap().0;
    assert_eq!(http.post(format!("{base}/pay/{pull}/approve")).send().await.unwrap().status(), 200);
    let refund = eventually("the refund", || async {
        let refund = shop.get(&refunds).await.items().remove(0);
        (refund["status"] == "success").then_some(refund)
    })
    .await;
    assert_eq!((&refund["amount"], &refund["reason"]), (&json!(900), &json!("late_success")));
    let shown = house.admin("GET", &format!("/admin/v1/payments/{number}"), None).await;
    let stray = &shown.body["data"]["strays"][0];
    assert_eq!((&stray["kind"], &stray["action"]), (&json!("late"), &json!("refunding")));
    assert_eq!(stray["refund_no"], refund["refund_no"]);
    let ledger = house.ledger("crypto", &number).await;
    let operations: Vec<(&Value, &Value)> =
        ledger.iter().map(|line| (&line["operation"], &line["amount_minor"])).collect();
    assert_eq!(operations, [(&json!("charge"), &json!(900)), (&json!("refund"), &json!(900))]);
    house.stop().await;
}
