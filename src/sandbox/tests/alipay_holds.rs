//! Alipay's rules about held money.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sandbox::LedgerOperation::{Capture, Hold, Refund, Void};
use crate::sandbox::alipay::rsa2::{Signer, signed_text};
use crate::sandbox::testing::send;
use crate::sandbox::tests::alipay::call;
use crate::sandbox::tests::sandbox;
use crate::sandbox::{LedgerOperation, Sandbox, credentials};

const FREEZE: &str = "alipay.fund.auth.order.freeze";
const UNFREEZE: &str = "alipay.fund.auth.order.unfreeze";
const CANCEL: &str = "alipay.fund.auth.operation.cancel";
const DETAIL: &str = "alipay.fund.auth.operation.detail.query";
const PAY: &str = "alipay.trade.pay";

fn freeze(number: &str, amount: &str, auth_code: &str) -> Value {
    json!({
        "out_order_no": number, "out_request_no": format!("{number}f"), "order_title": "Deposit", "amount": amount,
        "product_code": "PRE_AUTH", "auth_code": auth_code, "auth_code_type": "bar_code",
        "extra_param": "{\"reference\":\"PA1\"}",
    })
}

/// Holds 10.00 and gives Alipay's number of that.
async fn held(sandbox: &Sandbox) -> String {
    let answer = call(sandbox, FREEZE, freeze("H1", "10.00", "tok_visa")).await;
    assert_eq!((&answer["code"], &answer["status"]), (&json!("10000"), &json!("SUCCESS")), "{answer}");
    answer["auth_no"].as_str().unwrap().to_owned()
}

async fn unfreeze(sandbox: &Sandbox, auth_no: &str, number: &str, amount: &str) -> Value {
    let content = json!({ "auth_no": auth_no, "out_request_no": number, "amount": amount, "remark": "r" });
    call(sandbox, UNFREEZE, content).await
}

async fn take(sandbox: &Sandbox, auth_no: &str, number: &str, amount: &str, mode: Option<&str>) -> Value {
    let mut content = json!({
        "out_trade_no": number, "total_amount": amount, "subject": "Stay", "body": "PA1", "auth_no": auth_no,
        "product_code": "PRE_AUTH",
    });
    if let Some(mode) = mode {
        content["auth_confirm_mode"] = json!(mode);
    }
    call(sandbox, PAY, content).await
}

/// The order's status, what is held of it and what was taken.
async fn standing(sandbox: &Sandbox, auth_no: &str) -> [Value; 3] {
    let content = json!({ "auth_no": auth_no, "out_request_no": "H1f", "operation_type": "FREEZE" });
    let answer = call(sandbox, DETAIL, content).await;
    [answer["order_status"].clone(), answer["rest_amount"].clone(), answer["total_pay_amount"].clone()]
}

fn book(sandbox: &Sandbox) -> Vec<(LedgerOperation, i64)> {
    let ledger = sandbox.ledger("alipay").unwrap();
    assert!(ledger.iter().all(|entry| entry.reference == "PA1"), "{ledger:?}");
    ledger.into_iter().map(|entry| (entry.operation, entry.amount_minor)).collect()
}

#[tokio::test]
async fn money_stays_held_unless_the_order_is_said_to_be_complete() {
    let (sandbox, _) = sandbox();
    let auth_no = held(&sandbox).await;
    assert_eq!(take(&sandbox, &auth_no, "C1", "4.00", None).await["code"], "10000");
    assert_eq!(standing(&sandbox, &auth_no).await, ["AUTHORIZED", "6.00", "4.00"]);
    let over = take(&sandbox, &auth_no, "C2", "6.01", Some("COMPLETE")).await;
    assert_eq!(over["sub_code"], "ACQ.AUTH_AMOUNT_NOT_ENOUGH");
    // A number that was used is never used again, not even after a failure.
    assert_eq!(take(&sandbox, &auth_no, "C2", "6.01", None).await["sub_code"], "ACQ.TRADE_HAS_CLOSE");
    assert_eq!(take(&sandbox, &auth_no, "C2", "6.00", None).await["sub_code"], "ACQ.CONTEXT_INCONSISTENT");
    assert_eq!(take(&sandbox, &auth_no, "C1", "4.00", None).await["sub_code"], "ACQ.TRADE_HAS_SUCCESS");
    assert_eq!(take(&sandbox, &auth_no, "C3", "5.00", Some("COMPLETE")).await["code"], "10000");
    assert_eq!(standing(&sandbox, &auth_no).await, ["FINISH", "0.00", "9.00"]);
    let late = take(&sandbox, &auth_no, "C4", "1.00", None).await;
    assert_eq!(late["sub_code"], "ACQ.AUTH_ORDER_HAS_FINISHED");
    assert_eq!(unfreeze(&sandbox, &auth_no, "U1", "1.00").await["sub_code"], "ORDER_ALREADY_FINISH");
    let refund = json!({ "out_trade_no": "C3", "out_request_no": "R1", "refund_amount": "2.00" });
    assert_eq!(call(&sandbox, "alipay.trade.refund", refund).await["fund_change"], "Y");
    assert_eq!(book(&sandbox), [(Hold, 1000), (Capture, 400), (Capture, 500), (Refund, 200)]);
}

#[tokio::test]
async fn what_takes_money_names_the_hold_and_its_product() {
    let (sandbox, _) = sandbox();
    let auth_no = held(&sandbox).await;
    assert_eq!(take(&sandbox, "2026", "C1", "1.00", None).await["sub_code"], "ACQ.AUTH_NO_ERROR");
    let other = json!({
        "out_trade_no": "C2", "total_amount": "1.00", "subject": "Stay", "auth_no": auth_no,
        "product_code": "PREAUTH_PAY",
    });
    assert_eq!(call(&sandbox, PAY, other).await["sub_code"], "ACQ.PRE_AUTH_PROD_CODE_INCONSISTENT");
    let waiting = call(&sandbox, FREEZE, freeze("H2", "1.00", "tok_processing")).await;
    assert_eq!(waiting["code"], "10003");
    let unpaid = take(&sandbox, waiting["auth_no"].as_str().unwrap(), "C3", "1.00", None).await;
    assert_eq!(unpaid["sub_code"], "ACQ.AUTH_ORDER_NOT_PAID");
    assert_eq!(book(&sandbox), [(Hold, 1000)]);
}

#[tokio::test]
async fn the_number_of_an_operation_is_its_key() {
    let (sandbox, _) = sandbox();
    let auth_no = held(&sandbox).await;
    assert_eq!(call(&sandbox, FREEZE, freeze("H1", "10.00", "tok_visa")).await["auth_no"], json!(auth_no));
    let dearer = call(&sandbox, FREEZE, freeze("H1", "10.01", "tok_visa")).await;
    assert_eq!(dearer["sub_code"], "ACQ.CONTEXT_INCONSISTENT");
    let first = unfreeze(&sandbox, &auth_no, "U1", "4.00").await;
    assert_eq!(first["status"], "SUCCESS");
    assert_eq!(unfreeze(&sandbox, &auth_no, "U1", "4.00").await, first);
    for (number, amount, sub_code) in [
        ("U1", "4.01", "ACQ.CONTEXT_INCONSISTENT"),
        ("H1f", "4.00", "ACQ.CONTEXT_INCONSISTENT"),
        ("U2", "6.01", "REQUEST_AMOUNT_EXCEED"),
    ] {
        assert_eq!(unfreeze(&sandbox, &auth_no, number, amount).await["sub_code"], sub_code, "{number} {amount}");
    }
    assert_eq!(unfreeze(&sandbox, "2026", "U3", "1.00").await["sub_code"], "AUTH_ORDER_NOT_EXIST");
    assert_eq!(standing(&sandbox, &auth_no).await, ["AUTHORIZED", "6.00", "0.00"]);
    let asked = json!({ "auth_no": auth_no, "out_request_no": "U1", "operation_type": "UNFREEZE" });
    assert_eq!(call(&sandbox, DETAIL, asked).await["amount"], "4.00");
    let asked = json!({ "auth_no": auth_no, "out_request_no": "U1", "operation_type": "FREEZE" });
    assert_eq!(call(&sandbox, DETAIL, asked).await["sub_code"], "AUTH_OPERATION_NOT_EXIST");
    assert_eq!(unfreeze(&sandbox, &auth_no, "U4", "6.00").await["status"], "SUCCESS");
    assert_eq!(standing(&sandbox, &auth_no).await, ["FINISH", "0.00", "0.00"]);
    assert_eq!(book(&sandbox), [(Hold, 1000), (Void, 400), (Void, 600)]);
}

#[tokio::test]
async fn canceling_closes_or_lets_go_and_leaves_an_unknown_number_alone() {
    let (sandbox, clock) = sandbox();
    let cancel = async |number: &str| {
        let request = format!("{number}f");
        call(&sandbox, CANCEL, json!({ "out_order_no": number, "out_request_no": request, "remark": "r" })).await
    };
    assert_eq!(cancel("H1").await.get("action"), None);
    let auth_no = held(&sandbox).await;
    assert_eq!(cancel("H1").await["action"], "unfreeze");
    assert_eq!(cancel("H1").await["action"], "close");
    assert_eq!(standing(&sandbox, &auth_no).await, ["CLOSED", "0.00", "0.00"]);
    call(&sandbox, FREEZE, freeze("H2", "1.00", "tok_processing")).await;
    assert_eq!(cancel("H2").await["action"], "close");
    clock.advance(Duration::from_secs(60));
    let closed = call(&sandbox, FREEZE, freeze("H2", "1.00", "tok_visa")).await;
    assert_eq!(closed["sub_code"], "ORDER_ALREADY_CLOSED");
    assert_eq!(book(&sandbox), [(Hold, 1000), (Void, 1000)]);
}

#[tokio::test]
async fn what_is_wrong_with_a_freeze_is_said() {
    let (sandbox, _) = sandbox();
    for (name, value, sub_code) in [
        ("out_order_no", "H-1", "ACQ.INVALID_PARAMETER"),
        ("out_request_no", "", "isv.missing-out-request-no"),
        ("order_title", "a/b", "ACQ.INVALID_PARAMETER"),
        ("amount", "0.00", "ACQ.INVALID_PARAMETER"),
        ("product_code", "PREAUTH_PAY", "ILLEGAL_ARGUMENT"),
        ("auth_code", "nonsense", "ACQ.PAYMENT_AUTH_CODE_INVALID"),
        ("auth_code_type", "wave_code", "ILLEGAL_ARGUMENT"),
        ("extra_param", "{", "ILLEGAL_ARGUMENT"),
        ("pay_timeout", "soon", "ACQ.INVALID_PARAMETER"),
    ] {
        let mut content = freeze("H1", "1.00", "tok_visa");
        content[name] = json!(value);
        assert_eq!(call(&sandbox, FREEZE, content).await["sub_code"], sub_code, "{name}");
    }
    assert!(book(&sandbox).is_empty());
}

#[tokio::test]
async fn a_payer_who_takes_too_long_finds_it_closed() {
    let (sandbox, clock) = sandbox();
    // Refused once, it waits for another try.
    call(&sandbox, FREEZE, freeze("H1", "10.00", "tok_declined")).await;
    clock.advance(Duration::from_secs(899));
    let status = async || {
        let content = json!({ "out_order_no": "H1", "out_request_no": "H1f" });
        call(&sandbox, DETAIL, content).await["status"].clone()
    };
    assert_eq!(status().await, "INIT");
    clock.advance(Duration::from_secs(1));
    assert_eq!(status().await, "CLOSED");
    assert!(book(&sandbox).is_empty());
}

#[tokio::test]
async fn the_payers_app_takes_an_order_that_was_signed_for_it() {
    let (sandbox, _) = sandbox();
    let mut content = freeze("H1", "10.00", "");
    for (name, value) in [("product_code", "PREAUTH_PAY"), ("auth_code", ""), ("pay_timeout", "10m")] {
        content[name] = json!(value);
    }
    let mut parameters = vec![
        ("app_id", credentials::ALIPAY_APP_ID.to_owned()),
        ("biz_content", content.to_string()),
        ("charset", String::from("utf-8")),
        ("method", String::from("alipay.fund.auth.order.app.freeze")),
        ("sign_type", String::from("RSA2")),
        ("timestamp", String::from("2026-11-21 01:50:18")),
        ("version", String::from("1.0")),
    ];
    let signature = Signer::new(credentials::ALIPAY_APP_PRIVATE_KEY).unwrap().sign(&signed_text(&parameters)).unwrap();
    parameters.push(("sign", signature));
    let order = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&parameters).finish();
    let base = sandbox.urls()["alipay"].clone();
    let forged = send("GET", &format!("{base}/pay/app?{}", order.replace("10.00", "1.00")), &[], "").await.unwrap();
    assert_eq!(forged.status, 400, "{}", forged.body);
    let page = send("GET", &format!("{base}/pay/app?{order}"), &[], "").await.unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
    let approve = page.body.split("action=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(book(&sandbox).is_empty());
    send("POST", &format!("{base}{approve}"), &[], "").await.unwrap();
    assert_eq!(book(&sandbox), [(Hold, 1000)]);
}
