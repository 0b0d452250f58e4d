//! BTCPay's rules.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sandbox::testing::{Answer, send};
use crate::sandbox::tests::sandbox;
use crate::sandbox::{LedgerOperation, Sandbox, credentials};

async fn call(sandbox: &Sandbox, method: &str, path: &str, body: &Value) -> Answer {
    let authorization = format!("token {}", credentials::BTCPAY_API_KEY);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(method, &format!("{}/api/v1{path}", sandbox.urls()["crypto"]), &headers, &body).await.unwrap()
}

async fn get(sandbox: &Sandbox, path: &str) -> Value {
    call(sandbox, "GET", path, &Value::Null).await.json()
}

fn of_store(what: &str) -> String {
    format!("/stores/{}/{what}", credentials::BTCPAY_STORE_ID)
}

async fn create(sandbox: &Sandbox, order: &str, amount: &str) -> Value {
    let body = json!({ "amount": amount, "currency": "USD", "metadata": { "orderId": order },
        "checkout": { "expirationMinutes": 15, "monitoringMinutes": 60 } });
    let answer = call(sandbox, "POST", &of_store("invoices"), &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn pay(invoice: &Value, amount: &str) {
    let page = format!("{}/approve?amount={amount}", invoice["checkoutLink"].as_str().unwrap());
    assert_eq!(send("POST", &page, &[], "").await.unwrap().status, 200);
}

async fn state(sandbox: &Sandbox, invoice: &Value) -> (String, String, String) {
    let now = get(sandbox, &format!("/invoices/{}", invoice["id"].as_str().unwrap())).await;
    let text = |name: &str| now[name].as_str().unwrap().to_owned();
    (text("status"), text("additionalStatus"), text("paidAmount"))
}

fn is(status: &str, special: &str, paid: &str) -> (String, String, String) {
    (status.to_owned(), special.to_owned(), paid.to_owned())
}

#[tokio::test]
async fn only_the_stores_key_opens_the_store() {
    let (sandbox, _) = sandbox();
    let url = format!("{}/api/v1{}", sandbox.urls()["crypto"], of_store("invoices"));
    for key in ["", "token x", "Bearer tollgate-sandbox-key"] {
        assert_eq!(send("GET", &url, &[("authorization", key)], "").await.unwrap().status, 401, "{key}");
    }
    assert_eq!(call(&sandbox, "GET", "/stores/Other/invoices", &Value::Null).await.status, 403);
    assert_eq!(call(&sandbox, "GET", "/nothing", &Value::Null).await.status, 404);
    assert_eq!(call(&sandbox, "GET", "/invoices/nothing", &Value::Null).await.json()["code"], "invoice-not-found");
}

#[tokio::test]
async fn creating_is_not_idempotent_and_invoices_are_found_by_their_order() {
    let (sandbox, _) = sandbox();
    let first = create(&sandbox, "O1", "20.00").await;
    let second = create(&sandbox, "O1", "20.00").await;
    create(&sandbox, "O2", "20.00").await;
    assert_ne!(first["id"], second["id"]);
    let listed = get(&sandbox, &of_store("invoices?orderId=O1")).await;
    let ids: Vec<&Value> = listed.as_array().unwrap().iter().map(|invoice| &invoice["id"]).collect();
    assert_eq!(ids, [&second["id"], &first["id"]]);
    assert_eq!(get(&sandbox, &of_store("invoices?take=1&skip=1")).await.as_array().unwrap().len(), 1);
    let by_store = get(&sandbox, &of_store(&format!("invoices/{}", first["id"].as_str().unwrap()))).await;
    assert_eq!((&by_store["amount"], &by_store["status"]), (&json!("20.00"), &json!("New")));
    for (amount, currency) in [("0", "USD"), ("1.001", "USD"), ("-1", "USD"), ("1", "XXX"), ("", "USD")] {
        let body = json!({ "amount": amount, "currency": currency });
        let refused = call(&sandbox, "POST", &of_store("invoices"), &body).await;
        assert!(refused.status == 422 && refused.json()[0]["path"].is_string(), "{}", refused.body);
    }
}

#[tokio::test]
async fn time_and_what_is_paid_decide_what_an_invoice_is() {
    let (sandbox, clock) = sandbox();
    let (in_full, in_part, over, late, never) = (
        create(&sandbox, "full", "20.00").await,
        create(&sandbox, "part", "20.00").await,
        create(&sandbox, "over", "20.00").await,
        create(&sandbox, "late", "20.00").await,
        create(&sandbox, "never", "20.00").await,
    );
    pay(&in_full, "20.00").await;
    pay(&in_part, "5.00").await;
    pay(&over, "25.00").await;
    assert_eq!(state(&sandbox, &in_full).await, is("Processing", "None", "20.00"));
    assert_eq!(state(&sandbox, &in_part).await, is("New", "PaidPartial", "5.00"));
    clock.advance(Duration::from_secs(3));
    assert_eq!(state(&sandbox, &in_full).await, is("Settled", "None", "20.00"));
    assert_eq!(state(&sandbox, &over).await, is("Settled", "PaidOver", "25.00"));
    clock.advance(Duration::from_secs(15 * 60));
    pay(&late, "20.00").await;
    assert_eq!(state(&sandbox, &late).await, is("Expired", "PaidLate", "20.00"));
    assert_eq!(state(&sandbox, &in_part).await, is("Expired", "PaidPartial", "5.00"));
    clock.advance(Duration::from_secs(60 * 60));
    pay(&never, "20.00").await;
    assert_eq!(state(&sandbox, &never).await, is("Expired", "None", "0.00"), "nobody looks any more");
    let ledger = sandbox.ledger("crypto").unwrap();
    let charged: Vec<i64> = ledger.iter().map(|entry| entry.amount_minor).collect();
    assert_eq!(charged, [2000, 500, 2500, 2000, 2000], "what was sent was sent");
}

#[tokio::test]
async fn an_invoice_is_marked_by_hand_and_watched_all_the_same() {
    let (sandbox, _) = sandbox();
    let invoice = create(&sandbox, "O1", "20.00").await;
    let status = format!("/invoices/{}/status", invoice["id"].as_str().unwrap());
    let mark = async |what: &str| call(&sandbox, "POST", &status, &json!({ "status": what })).await.status;
    assert_eq!(mark("Paid").await, 422);
    assert_eq!(mark("Invalid").await, 200);
    assert_eq!(mark("Invalid").await, 422, "it is already");
    pay(&invoice, "20.00").await;
    assert_eq!(state(&sandbox, &invoice).await, is("Invalid", "Marked", "20.00"));
    assert_eq!(mark("Settled").await, 200);
    assert_eq!(state(&sandbox, &invoice).await, is("Settled", "Marked", "20.00"));
}

#[tokio::test]
async fn a_refund_is_what_the_payer_claims() {
    let (sandbox, clock) = sandbox();
    let invoice = create(&sandbox, "O1", "20.00").await;
    let refund = format!("/invoices/{}/refund", invoice["id"].as_str().unwrap());
    let wanted = json!({ "name": "R1", "refundVariant": "Custom", "customAmount": "7.50", "customCurrency": "USD",
        "payoutMethodId": "BTC-CHAIN" });
    assert_eq!(call(&sandbox, "POST", &refund, &wanted).await.json()["code"], "non-refundable");
    pay(&invoice, "20.00").await;
    clock.advance(Duration::from_secs(3));
    for (name, value) in [("payoutMethodId", Value::Null), ("customAmount", json!("0")), ("refundVariant", json!("x"))]
    {
        let mut wrong = wanted.clone();
        wrong[name] = value;
        assert_eq!(call(&sandbox, "POST", &refund, &wrong).await.status, 422, "{name}");
    }
    let pull = call(&sandbox, "POST", &refund, &wanted).await.json();
    assert_eq!((&pull["name"], &pull["amount"]), (&json!("R1"), &json!("7.50")));
    let payouts = format!("/pull-payments/{}/payouts", pull["id"].as_str().unwrap());
    assert_eq!(get(&sandbox, &payouts).await, json!([]));
    for _ in 0..2 {
        pay(&json!({ "checkoutLink": pull["viewLink"] }), "").await;
    }
    assert_eq!(get(&sandbox, &payouts).await[0]["state"], "Completed");
    assert_eq!(get(&sandbox, &of_store("pull-payments")).await.as_array().unwrap().len(), 1);
    let ledger = sandbox.ledger("crypto").unwrap();
    let operations: Vec<_> = ledger.iter().map(|entry| (entry.operation, entry.amount_minor)).collect();
    assert_eq!(operations, [(LedgerOperation::Charge, 2000), (LedgerOperation::Refund, 750)]);
}
