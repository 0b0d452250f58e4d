//! Payments and pre-auths that could not be resolved, ended by the operator over HTTP and from the command line.

use std::ffi::OsString;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate::cli::{self, CommandLine};
use tollgate::clock::Clock;
use tollgate::domain::time::Timestamp;

use crate::support::{Browser, Client, House, eventually, unix_s};

/// A house whose clock can be set.
async fn house() -> (House, Clock) {
    let clock = Clock::virtual_from(Timestamp::from_unix_s(i64::try_from(unix_s()).unwrap()));
    let house = House::start_at(tempfile::tempdir().unwrap(), clock.clone(), |_| {}).await;
    (house, clock)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_without_outcome_is_ended_by_hand() {
    let (house, clock) = house().await;
    let shop = house.merchant("business").await;
    house.disturb("stripe", json!({ "error_rate": 1.0 })).await;
    let mut stuck = Vec::new();
    for order_no in ["O-1", "O-2"] {
        let pending = shop.pay(order_no, 900, json!({ "channel": "stripe" })).await.expect(202, "SUCCESS");
        stuck.push(pending.data("payment_no").to_owned());
    }
    clock.set_forward(Duration::from_secs(73 * 3_600));
    for number in &stuck {
        let path = format!("/admin/v1/payments/{number}");
        eventually("a person is needed", || async {
            let payment = house.admin("GET", &path, None).await;
            (payment.data("status") == "needs_review").then_some(())
        })
        .await;
    }
    let resolve = format!("/admin/v1/payments/{}/resolve", stuck[0]);
    let verdict = json!({ "status": "failed", "reason": "not in the dashboard" });
    for wrong in [json!({}), json!({ "status": "failed" }), json!({ "status": "canceled", "reason": "x" })] {
        house.admin("POST", &resolve, Some(wrong)).await.expect(400, "INVALID_REQUEST");
    }
    let ended = house.admin("POST", &resolve, Some(verdict.clone())).await.expect(200, "SUCCESS");
    assert_eq!((ended.data("status"), ended.data("merchant_id")), ("failed", shop.merchant_id.as_str()));
    let again = house.admin("POST", &resolve, Some(verdict.clone())).await.expect(409, "INVALID_STATE");
    assert_eq!(again.body["status"], "failed");
    house.admin("POST", "/admin/v1/payments/PY0/resolve", Some(verdict.clone())).await.expect(404, "NOT_FOUND");
    house.admin("POST", "/admin/v1/refunds/RF0/resolve", Some(verdict)).await.expect(404, "NOT_FOUND");

    let words =
        ["tollgate", "payment", "resolve", stuck[1].as_str(), "--status", "success", "--reason", "in the books"];
    let flags = ["--admin-url", house.admin_url.as_str(), "--admin-token", house.admin_token.as_str()];
    let words: Vec<OsString> = words.into_iter().chain(flags).map(OsString::from).collect();
    for expected in [0, 1] {
        let command = CommandLine::from_arguments(words.clone()).unwrap();
        assert_eq!(cli::run(command, Vec::new()).await, expected, "the second time there is nothing to end");
    }

    let audit = house.admin("GET", "/admin/v1/audit?action=payment.resolve&verify=true", None).await;
    let items = audit.items();
    let object = |number: &str| Value::from(format!("{}/{number}", shop.merchant_id));
    assert_eq!((&items[0]["object"], &items[1]["object"]), (&object(&stuck[1]), &object(&stuck[0])));
    let expected = json!({ "status": { "before": "needs_review", "after": "failed" },
        "reason": { "after": "not in the dashboard" } });
    assert_eq!((&items[1]["changes"], items.len()), (&expected, 2));
    assert_eq!(audit.body["data"]["chain"]["intact"], true);

    let events = shop.get("/api/v1/events").await;
    let told: Vec<&Value> =
        events.body["data"]["items"].as_array().unwrap().iter().map(|event| &event["body"]["event"]).collect();
    assert_eq!(told, [&json!("payment.failed"), &json!("payment.success")]);
    house.disturb("stripe", json!({ "error_rate": 0.0 })).await;
    shop.pay("O-1", 900, json!({ "channel": "stripe" })).await.expect(201, "SUCCESS");
    shop.pay("O-2", 900, json!({ "channel": "stripe" })).await.expect(409, "ORDER_EXISTS");
    let metrics = house.admin("GET", "/admin/v1/metrics", None).await;
    for line in ["tollgate_needs_review_total{object=\"payment\"} 2", "tollgate_strays_total{kind=\"late\"} 0"] {
        assert!(metrics.text.contains(line), "{line} is missing in\n{}", metrics.text);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pre_auth_without_outcome_is_ended_by_hand() {
    let (house, clock) = house().await;
    let shop = house.merchant("business").await;
    let mut stuck = Vec::new();
    for order_no in ["O-1", "O-2"] {
        let body = json!({ "order_no": order_no, "amount": 9_000, "currency": "USD", "channel": "stripe",
            "payment_token": "tok_visa" });
        let held = shop.post("/api/v1/pre-auths", body).await.expect(201, "SUCCESS");
        assert_eq!(held.data("status"), "requires_capture", "{}", held.text);
        stuck.push(held.data("pre_auth_no").to_owned());
    }
    house.disturb("stripe", json!({ "error_rate": 1.0 })).await;
    for number in &stuck {
        let path = format!("/api/v1/pre-auths/{number}/capture");
        shop.post_with_key(&path, json!({ "amount": 4_000 }), number).await.expect(202, "SUCCESS");
    }
    clock.set_forward(Duration::from_secs(73 * 3_600));
    for number in &stuck {
        let path = format!("/admin/v1/pre-auths/{number}");
        eventually("a person is needed", || async {
            (house.admin("GET", &path, None).await.data("status") == "needs_review").then_some(())
        })
        .await;
    }
    let resolve = format!("/admin/v1/pre-auths/{}/resolve", stuck[0]);
    for wrong in
        [json!({}), json!({ "status": "success", "reason": "x" }), json!({ "status": "captured", "reason": "x" })]
    {
        house.admin("POST", &resolve, Some(wrong)).await.expect(400, "INVALID_REQUEST");
    }
    let verdict = json!({ "status": "captured", "captured_amount": 4_000, "reason": "in the dashboard" });
    let ended = house.admin("POST", &resolve, Some(verdict.clone())).await.expect(200, "SUCCESS");
    assert_eq!((ended.data("status"), ended.data("merchant_id")), ("captured", shop.merchant_id.as_str()));
    assert_eq!(ended.body["data"]["released_amount"], 5_000);
    house.admin("POST", &resolve, Some(verdict)).await.expect(409, "INVALID_STATE");

    let words =
        ["tollgate", "pre-auth", "resolve", stuck[1].as_str(), "--status", "canceled", "--reason", "voided there"];
    let flags = ["--admin-url", house.admin_url.as_str(), "--admin-token", house.admin_token.as_str()];
    let words: Vec<OsString> = words.into_iter().chain(flags).map(OsString::from).collect();
    for expected in [0, 1] {
        let command = CommandLine::from_arguments(words.clone()).unwrap();
        assert_eq!(cli::run(command, Vec::new()).await, expected, "the second time there is nothing to end");
    }
    let audit = house.admin("GET", "/admin/v1/audit?action=pre_auth.resolve&verify=true", None).await;
    assert_eq!((audit.items().len(), &audit.body["data"]["chain"]["intact"]), (2, &json!(true)));
    house.stop().await;
}

/// A payment, a held pre-auth and a refund of another payment, of which nobody knows what became.
async fn stuck(house: &House, clock: &Clock, shop: &Client) -> [String; 3] {
    let hold = json!({ "order_no": "ROOM", "amount": 9_000, "currency": "USD", "channel": "stripe",
        "payment_token": "tok_visa" });
    let held = shop.post("/api/v1/pre-auths", hold).await.expect(201, "SUCCESS").data("pre_auth_no").to_owned();
    let paid = shop.pay("PAID", 5_000, json!({ "channel": "stripe" })).await.expect(201, "SUCCESS");
    house.disturb("stripe", json!({ "error_rate": 1.0 })).await;
    let capture = format!("/api/v1/pre-auths/{held}/capture");
    shop.post_with_key(&capture, json!({ "amount": 4_000 }), "k-1").await.expect(202, "SUCCESS");
    let refunds = format!("/api/v1/payments/{}/refunds", paid.data("payment_no"));
    let refund = shop.post_with_key(&refunds, json!({ "amount": 1_234 }), "k-2").await.expect(202, "SUCCESS");
    let pending = shop.pay("O-1", 900, json!({ "channel": "stripe" })).await.expect(202, "SUCCESS");
    let [payment, refund] = [pending.data("payment_no").to_owned(), refund.data("refund_no").to_owned()];
    clock.set_forward(Duration::from_secs(73 * 3_600));
    for path in [
        format!("/api/v1/payments/{payment}"),
        format!("/api/v1/pre-auths/{held}"),
        format!("/api/v1/refunds/{refund}"),
    ] {
        eventually("a person is needed", || async {
            (shop.get(&path).await.data("status") == "needs_review").then_some(())
        })
        .await;
    }
    [payment, held, refund]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_outcome_is_ended_in_the_console_by_who_says_how() {
    let (house, clock) = house().await;
    let shop = house.merchant("business").await;
    let [payment, held, refund] = stuck(&house, &clock, &shop).await;
    let browser = Browser::logged_in(&house).await;
    let paths = [
        format!("/console/payments/{payment}/resolve"),
        format!("/console/pre-auths/{held}/resolve"),
        format!("/console/refunds/{refund}/resolve"),
    ];
    for (path, amount) in paths.iter().zip(["9.00 USD", "90.00 USD", "12.34 USD"]) {
        let asked = browser.page(path).await;
        assert!(asked.contains("<select name=\"status\" required><option value=\"\""), "nothing is chosen: {asked}");
        for part in [amount, "needs review", shop.merchant_id.as_str()] {
            assert!(asked.contains(part), "{part} in {asked}");
        }
        // Who says how it was found out, but not what, ends nothing; nor does who says what alone.
        for fields in [[("status", ""), ("reason", "declined there")], [("status", "failed"), ("reason", "")]] {
            let refused = browser.post(path, &fields).await;
            let page = browser.page(refused.header("location")).await;
            assert!(page.contains("notice bad") && page.contains("needs review"), "{fields:?}: {page}");
        }
    }
    let verdicts: [&[(&str, &str)]; 3] = [
        &[("status", "failed"), ("reason", "declined there")],
        &[("status", "captured"), ("captured_amount", "40.00"), ("reason", "taken there")],
        &[("status", "success"), ("reason", "paid out there")],
    ];
    for ((path, fields), says) in
        paths.iter().zip(verdicts).zip(["was ended: failed", "is now: captured", "was ended: success"])
    {
        let done = browser.post(path, fields).await;
        assert_eq!(done.status, 303, "{path}: {}", done.text);
        let page = browser.page(done.header("location")).await;
        assert!(page.contains("notice good") && page.contains(says), "{says}: {page}");
    }
    let status = async |path: String| shop.get(&path).await.data("status").to_owned();
    assert_eq!(status(format!("/api/v1/payments/{payment}")).await, "failed");
    assert_eq!(status(format!("/api/v1/pre-auths/{held}")).await, "captured");
    assert_eq!(status(format!("/api/v1/refunds/{refund}")).await, "success");
    let audit = house.admin("GET", "/admin/v1/audit?verify=true", None).await;
    for (action, object, reason) in [
        ("payment.resolve", &payment, "declined there"),
        ("pre_auth.resolve", &held, "taken there"),
        ("refund.resolve", &refund, "paid out there"),
    ] {
        let of: Vec<Value> = audit.items().into_iter().filter(|entry| entry["action"] == action).collect();
        assert_eq!(of.len(), 1, "{action}: {}", audit.text);
        // A refund is named below the payment that it is of.
        let named = of[0]["object"].as_str().unwrap();
        assert!(named.starts_with(&shop.merchant_id) && named.ends_with(&format!("/{object}")), "{action}: {named}");
        assert_eq!(of[0]["changes"]["reason"]["after"], reason, "{action}");
    }
    house.stop().await;
}
