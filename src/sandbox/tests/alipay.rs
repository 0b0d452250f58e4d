//! Alipay's rules.

use serde_json::{Value, json};

use crate::sandbox::alipay::rsa2::{Signer, Verifier, signed_text};
use crate::sandbox::testing::send;
use crate::sandbox::tests::sandbox;
use crate::sandbox::{LedgerOperation, Sandbox, credentials};

/// Calls a method; `change` may spoil the parameters before they are signed, `sign` the signature.
async fn call_with(
    sandbox: &Sandbox,
    method: &str,
    content: &Value,
    change: impl Fn(&mut Vec<(&str, String)>),
    sign: impl Fn(String) -> String,
) -> Value {
    let mut parameters = vec![
        ("app_id", credentials::ALIPAY_APP_ID.to_owned()),
        ("biz_content", content.to_string()),
        ("charset", String::from("utf-8")),
        ("method", method.to_owned()),
        ("sign_type", String::from("RSA2")),
        ("timestamp", String::from("2026-11-21 01:50:18")),
        ("version", String::from("1.0")),
    ];
    change(&mut parameters);
    let text = signed_text(&parameters);
    let signature = Signer::new(credentials::ALIPAY_APP_PRIVATE_KEY).unwrap().sign(&text).unwrap();
    parameters.push(("sign", sign(signature)));
    // Everything in the body, as other clients of Alipay do.
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&parameters).finish();
    let url = format!("{}/gateway.do", sandbox.urls()["alipay"]);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = send("POST", &url, &headers, &form).await.unwrap();
    assert_eq!(answer.status, 200);
    open(&answer.body)
}

/// The signed object, after its signature was checked over its bytes.
fn open(body: &str) -> Value {
    let (signed, signature) = body.split_once("_response\":").unwrap().1.rsplit_once(",\"sign\":\"").unwrap();
    let signature = signature.strip_suffix("\"}").unwrap();
    let verifier = Verifier::new(credentials::ALIPAY_PUBLIC_KEY).unwrap();
    assert!(verifier.verify(signed.as_bytes(), signature), "{body}");
    serde_json::from_str(signed).unwrap()
}

/// Calls a method as the application does.
pub(super) async fn call(sandbox: &Sandbox, method: &str, content: Value) -> Value {
    call_with(sandbox, method, &content, |_| {}, |signature| signature).await
}

fn pay(number: &str, amount: &str, auth_code: &str) -> Value {
    json!({
        "out_trade_no": number, "total_amount": amount, "subject": "Tea", "body": "PY1", "auth_code": auth_code,
        "scene": "bar_code",
    })
}

#[tokio::test]
async fn only_the_applications_own_requests_are_served() {
    let (sandbox, _) = sandbox();
    let keep = |signature: String| signature;
    let content = pay("N1", "1.00", "tok_visa");
    let method = "alipay.trade.pay";
    let tampered = call_with(&sandbox, method, &content, |_| {}, |signature| signature.replace('A', "B")).await;
    assert_eq!(tampered["sub_code"], "isv.invalid-signature");
    let set = |name: &'static str, value: &'static str| {
        move |parameters: &mut Vec<(&str, String)>| {
            for parameter in parameters.iter_mut().filter(|parameter| parameter.0 == name) {
                parameter.1 = value.to_owned();
            }
        }
    };
    for (name, value, sub_code) in [
        ("app_id", "1", "isv.invalid-app-id"),
        ("timestamp", "2026-11-21T01:50:18Z", "isv.invalid-timestamp"),
        ("sign_type", "RSA", "isv.invalid-signature-type"),
        ("biz_content", "{", "isv.invalid-parameter"),
        ("method", "alipay.trade.nothing", "isv.invalid-method"),
        ("version", "", "isv.missing-version"),
    ] {
        assert_eq!(call_with(&sandbox, method, &content, set(name, value), keep).await["sub_code"], sub_code);
    }
    assert!(sandbox.ledger("alipay").unwrap().is_empty());
}

#[tokio::test]
async fn a_number_is_used_once() {
    let (sandbox, _) = sandbox();
    let sub_code = async |content| call(&sandbox, "alipay.trade.pay", content).await["sub_code"].clone();
    assert_eq!(call(&sandbox, "alipay.trade.pay", pay("N1", "1.00", "tok_visa")).await["code"], "10000");
    assert_eq!(sub_code(pay("N1", "1.00", "tok_visa")).await, "ACQ.TRADE_HAS_SUCCESS");
    assert_eq!(sub_code(pay("N1", "2.00", "tok_visa")).await, "ACQ.CONTEXT_INCONSISTENT");
    for (content, expected) in [
        (pay("N-2", "1.00", "tok_visa"), "ACQ.INVALID_PARAMETER"),
        (pay("N2", "0.00", "tok_visa"), "ACQ.INVALID_PARAMETER"),
        (pay("N2", "1.001", "tok_visa"), "ACQ.INVALID_PARAMETER"),
        (pay("N2", "1.00", "31763443825664394"), "ACQ.PAYMENT_AUTH_CODE_INVALID"),
        (json!({ "out_trade_no": "N2" }), "isv.missing-subject"),
    ] {
        assert_eq!(sub_code(content.clone()).await, expected, "{content}");
    }
    assert_eq!(sandbox.ledger("alipay").unwrap().len(), 1);
}

#[tokio::test]
async fn canceling_closes_or_gives_back_and_leaves_an_unknown_number_alone() {
    let (sandbox, _) = sandbox();
    let cancel = async |number: &str| call(&sandbox, "alipay.trade.cancel", json!({ "out_trade_no": number })).await;
    call(&sandbox, "alipay.trade.pay", pay("PAID", "1.00", "tok_visa")).await;
    call(&sandbox, "alipay.trade.pay", pay("WAITS", "1.00", "tok_processing")).await;
    assert_eq!(cancel("PAID").await["action"], "refund");
    assert_eq!(cancel("WAITS").await["action"], "close");
    assert_eq!(cancel("NEVER").await.get("action"), None);
    let closed = call(&sandbox, "alipay.trade.pay", pay("WAITS", "1.00", "tok_visa")).await;
    assert_eq!(closed["sub_code"], "ACQ.TRADE_HAS_CLOSE");
    let late = call(&sandbox, "alipay.trade.pay", pay("NEVER", "1.00", "tok_declined")).await;
    assert_eq!(late["sub_code"], "ACQ.PAYMENT_FAIL", "it is carried out");
    cancel("PAID").await;
    let ledger = sandbox.ledger("alipay").unwrap();
    let operations: Vec<_> = ledger.iter().map(|entry| entry.operation).collect();
    assert_eq!(operations, [LedgerOperation::Charge, LedgerOperation::Refund]);
    assert!(ledger.iter().all(|entry| entry.reference == "PY1" && entry.amount_minor == 100));
}

#[tokio::test]
async fn a_refund_is_done_once_by_its_number() {
    let (sandbox, _) = sandbox();
    let paid = call(&sandbox, "alipay.trade.pay", pay("N1", "1.00", "tok_visa")).await;
    let trade_no = paid["trade_no"].clone();
    let refund = async |number: &str, amount: &str| {
        let content = json!({ "trade_no": trade_no, "out_request_no": number, "refund_amount": amount });
        call(&sandbox, "alipay.trade.refund", content).await
    };
    let first = refund("R1", "0.40").await;
    assert_eq!((&first["fund_change"], &first["refund_fee"]), (&json!("Y"), &json!("0.40")));
    let again = refund("R1", "0.40").await;
    assert_eq!((&again["fund_change"], &again["refund_fee"]), (&json!("N"), &json!("0.40")));
    assert_eq!(refund("R1", "0.41").await["sub_code"], "ACQ.DISCORDANT_REPEAT_REQUEST");
    assert_eq!(refund("R2", "0.61").await["sub_code"], "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL");
    assert_eq!(refund("R2", "0.60").await["refund_fee"], "1.00");
    let trade = call(&sandbox, "alipay.trade.query", json!({ "out_trade_no": "N1" })).await;
    assert_eq!(trade["trade_status"], "TRADE_CLOSED");
    let query = async |number: &str| {
        let content = json!({ "out_trade_no": "N1", "out_request_no": number });
        call(&sandbox, "alipay.trade.fastpay.refund.query", content).await
    };
    assert_eq!(query("R1").await["refund_status"], "REFUND_SUCCESS");
    assert_eq!(query("R9").await.get("refund_status"), None);
}
