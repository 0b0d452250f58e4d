//! PayPal's rules.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::random::Random;
use crate::sandbox::testing::{Answer, send};
use crate::sandbox::tests::sandbox;
use crate::sandbox::{FaultPatch, LedgerOperation, Sandbox, SandboxOptions};

struct Client {
    sandbox: Arc<Sandbox>,
    token: String,
}

impl Client {
    async fn new(sandbox: Arc<Sandbox>) -> Self {
        let mut client = Self { sandbox, token: String::new() };
        client.token = client.fetch_token().await;
        client
    }

    async fn fetch_token(&self) -> String {
        let basic = format!("Basic {}", STANDARD.encode("tollgate-sandbox-client:tollgate-sandbox-secret"));
        let headers = [("authorization", basic.as_str())];
        let answer =
            send("POST", &self.url("/v1/oauth2/token"), &headers, "grant_type=client_credentials").await.unwrap();
        assert_eq!((answer.status, &answer.json()["token_type"]), (200, &json!("Bearer")));
        assert_eq!(answer.json()["expires_in"], 32_400);
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.urls()["paypal"])
    }

    async fn get(&self, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        send("GET", &self.url(path), &[("authorization", &bearer)], "").await.unwrap()
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.post_with(path, key, body, ("prefer", "return=representation")).await
    }

    async fn post_with(&self, path: &str, key: &str, body: &Value, header: (&str, &str)) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json"), header];
        if !key.is_empty() {
            headers.push(("paypal-request-id", key));
        }
        send("POST", &self.url(path), &headers, &body.to_string()).await.unwrap()
    }

    /// Money held with this token; the numbers of the order and the authorization.
    async fn held(&self) -> (String, String) {
        let answer = self.post("/v2/checkout/orders", "", &order("AUTHORIZE", "20.00", "tok_visa")).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let order = answer.json();
        let authorization = &order["purchase_units"][0]["payments"]["authorizations"][0];
        (order["id"].as_str().unwrap().to_owned(), authorization["id"].as_str().unwrap().to_owned())
    }

    fn operations(&self) -> Vec<LedgerOperation> {
        self.sandbox.ledger("paypal").unwrap().iter().map(|entry| entry.operation).collect()
    }
}

async fn client() -> (Client, Clock) {
    let (sandbox, clock) = sandbox();
    (Client::new(sandbox).await, clock)
}

fn order(intent: &str, value: &str, token: &str) -> Value {
    let unit = json!({ "custom_id": "PY1~m_1", "amount": { "currency_code": "USD", "value": value } });
    json!({ "intent": intent, "purchase_units": [unit], "payment_source": { "paypal": { "vault_id": token } } })
}

fn issue_of(answer: &Answer) -> String {
    answer.json()["details"][0]["issue"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn only_a_token_opens_it_and_only_for_its_time() {
    let (mut client, clock) = client().await;
    assert_eq!(client.get("/v2/checkout/orders/X").await.status, 404);
    clock.advance(Duration::from_secs(32_400));
    assert_eq!(client.get("/v2/checkout/orders/X").await.status, 401);
    client.token = client.fetch_token().await;
    assert_eq!(client.get("/v2/checkout/orders/X").await.status, 404);
    let basic = format!("Basic {}", STANDARD.encode("tollgate-sandbox-client:wrong"));
    for headers in [&[][..], &[("authorization", basic.as_str())]] {
        let answer = send("POST", &client.url("/v1/oauth2/token"), headers, "grant_type=client_credentials").await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("invalid_client")));
    }
}

#[tokio::test]
async fn an_id_answers_with_the_present_state_and_for_six_hours() {
    let (client, clock) = client().await;
    let body = order("CAPTURE", "20.00", "tok_processing");
    let first = client.post("/v2/checkout/orders", "k1", &body).await;
    let status = |answer: &Answer| {
        let capture = answer.json()["purchase_units"][0]["payments"]["captures"][0]["status"].clone();
        (answer.status, capture)
    };
    assert_eq!(status(&first), (201, json!("PENDING")));
    clock.advance(Duration::from_secs(5));
    let again = client.post("/v2/checkout/orders", "k1", &body).await;
    assert_eq!((status(&again), &again.json()["id"]), ((200, json!("COMPLETED")), &first.json()["id"]));
    clock.advance(Duration::from_secs(6 * 60 * 60));
    let forgotten = client.post("/v2/checkout/orders", "k1", &body).await;
    assert_eq!(forgotten.status, 201);
    assert_ne!(forgotten.json()["id"], first.json()["id"]);
}

#[tokio::test]
async fn an_id_whose_first_request_has_no_answer_yet_is_in_use() {
    let sandbox = Arc::new(Sandbox::start(SandboxOptions::new(Clock::system(), Random::seeded(1))).unwrap());
    let client = Client::new(sandbox).await;
    let slow = FaultPatch { latency_ms: Some(600_000), ..FaultPatch::default() };
    client.sandbox.set_faults("paypal", slow).await.unwrap();
    let body = order("CAPTURE", "20.00", "tok_visa");
    let first = client.post("/v2/checkout/orders", "k1", &body);
    assert!(tokio::time::timeout(Duration::from_millis(200), first).await.is_err());
    client.sandbox.set_faults("paypal", FaultPatch { latency_ms: Some(0), ..FaultPatch::default() }).await.unwrap();
    let second = client.post("/v2/checkout/orders", "k1", &body).await;
    assert_eq!((second.status, issue_of(&second).as_str()), (422, "PREVIOUS_REQUEST_IN_PROGRESS"));
}

#[tokio::test]
async fn the_rest_stays_held_unless_a_capture_is_final() {
    let (client, _) = client().await;
    let (_, id) = client.held().await;
    let path = format!("/v2/payments/authorizations/{id}");
    let part = json!({ "amount": { "currency_code": "USD", "value": "5.00" } });
    let captured = client.post(&format!("{path}/capture"), "c1", &part).await;
    assert_eq!((captured.status, &captured.json()["final_capture"]), (201, &json!(false)));
    assert_eq!(client.get(&path).await.json()["status"], "PARTIALLY_CAPTURED");
    let too_much = json!({ "amount": { "currency_code": "USD", "value": "15.01" } });
    let refused = client.post(&format!("{path}/capture"), "c2", &too_much).await;
    assert_eq!(issue_of(&refused), "MAX_CAPTURE_AMOUNT_EXCEEDED");
    let last = json!({ "amount": { "currency_code": "USD", "value": "1.00" }, "final_capture": true });
    assert_eq!(client.post(&format!("{path}/capture"), "c3", &last).await.status, 201);
    assert_eq!(client.get(&path).await.json()["status"], "CAPTURED");
    assert_eq!(issue_of(&client.post(&format!("{path}/capture"), "c4", &last).await), "AUTHORIZATION_ALREADY_CAPTURED");
    assert_eq!(issue_of(&client.post(&format!("{path}/void"), "", &json!({})).await), "PREVIOUSLY_CAPTURED");
    assert_eq!(client.operations(), [LedgerOperation::Hold, LedgerOperation::Capture, LedgerOperation::Capture]);
}

#[tokio::test]
async fn a_void_is_one_and_answers_as_it_is_asked_to() {
    let (client, _) = client().await;
    let (_, id) = client.held().await;
    let path = format!("/v2/payments/authorizations/{id}/void");
    let minimal = client.post_with(&path, "", &json!({}), ("prefer", "return=minimal")).await;
    assert_eq!((minimal.status, minimal.body.as_str()), (204, ""));
    assert_eq!(issue_of(&client.post(&path, "", &json!({})).await), "PREVIOUSLY_VOIDED");
    let (_, id) = client.held().await;
    let shown = client.post(&format!("/v2/payments/authorizations/{id}/void"), "", &json!({})).await;
    assert_eq!((shown.status, &shown.json()["status"]), (200, &json!("VOIDED")));
}

#[tokio::test]
async fn an_authorization_is_replaced_once_and_after_three_days() {
    let (mut client, clock) = client().await;
    let (_, id) = client.held().await;
    let path = |id: &str, verb: &str| format!("/v2/payments/authorizations/{id}/{verb}");
    let early = client.post(&path(&id, "reauthorize"), "r0", &json!({})).await;
    assert_eq!(issue_of(&early), "REAUTHORIZATION_TOO_SOON");
    clock.advance(Duration::from_secs(4 * 24 * 60 * 60));
    client.token = client.fetch_token().await;
    let child =
        client.post(&path(&id, "reauthorize"), "r1", &json!({})).await.json()["id"].as_str().unwrap().to_owned();
    assert_ne!(child, id);
    for again in [&id, &child] {
        let refused = client.post(&path(again, "reauthorize"), "r2", &json!({})).await;
        assert_eq!(issue_of(&refused), "REAUTHORIZATION_NOT_SUPPORTED");
    }
    assert_eq!(issue_of(&client.post(&path(&child, "void"), "", &json!({})).await), "CANNOT_BE_VOIDED");
    assert_eq!(client.post(&path(&id, "void"), "", &json!({})).await.status, 200);
    assert_eq!(client.get(&format!("/v2/payments/authorizations/{child}")).await.json()["status"], "VOIDED");
    assert_eq!(client.operations(), [LedgerOperation::Hold, LedgerOperation::Void]);
}

#[tokio::test]
async fn amounts_have_paypal_s_decimals() {
    let (client, _) = client().await;
    for (code, value, issue) in [
        ("USD", "20.001", "DECIMAL_PRECISION"),
        ("JPY", "500.00", "DECIMALS_NOT_SUPPORTED"),
        ("HUF", "500.00", "DECIMALS_NOT_SUPPORTED"),
        ("KWD", "5.000", "CURRENCY_NOT_SUPPORTED"),
        ("XXX", "5.00", "INVALID_CURRENCY_CODE"),
        ("USD", "0.00", "CANNOT_BE_ZERO_OR_NEGATIVE"),
    ] {
        let mut body = order("CAPTURE", value, "tok_visa");
        body["purchase_units"][0]["amount"]["currency_code"] = code.into();
        assert_eq!(issue_of(&client.post("/v2/checkout/orders", "", &body).await), issue, "{code} {value}");
    }
    let mut body = order("CAPTURE", "500", "tok_visa");
    body["purchase_units"][0]["amount"]["currency_code"] = "HUF".into();
    let shown = client.post("/v2/checkout/orders", "", &body).await.json();
    assert_eq!(shown["purchase_units"][0]["amount"]["value"], "500");
    assert_eq!(client.sandbox.ledger("paypal").unwrap()[0].amount_minor, 50_000);
}

#[tokio::test]
async fn an_order_is_captured_when_it_is_approved_and_an_invoice_paid_once() {
    let (client, _) = client().await;
    let mut body = order("CAPTURE", "20.00", "tok_3ds");
    body["purchase_units"][0]["invoice_id"] = "inv-1".into();
    let make = async || client.post("/v2/checkout/orders", "", &body).await.json()["id"].as_str().unwrap().to_owned();
    let (first, second) = (make().await, make().await);
    let path = |id: &str, verb: &str| format!("/v2/checkout/orders/{id}/{verb}");
    assert_eq!(issue_of(&client.post(&path(&first, "capture"), "", &json!({})).await), "ORDER_NOT_APPROVED");
    for id in [&first, &second] {
        send("POST", &client.url(&format!("/pay/{id}/approve")), &[], "").await.unwrap();
    }
    let mismatch = client.post(&path(&first, "authorize"), "", &json!({})).await;
    assert_eq!(issue_of(&mismatch), "ACTION_DOES_NOT_MATCH_INTENT");
    assert_eq!(client.post(&path(&first, "capture"), "", &json!({})).await.status, 201);
    assert_eq!(issue_of(&client.post(&path(&first, "capture"), "", &json!({})).await), "ORDER_ALREADY_CAPTURED");
    assert_eq!(issue_of(&client.post(&path(&second, "capture"), "", &json!({})).await), "DUPLICATE_INVOICE_ID");
    assert_eq!(client.operations(), [LedgerOperation::Charge]);
}

#[tokio::test]
async fn a_header_asks_for_an_issue_and_a_body_has_to_be_json() {
    let (client, _) = client().await;
    let wish = ("paypal-mock-response", r#"{"mock_application_codes":"AUTHORIZATION_EXPIRED"}"#);
    let body = order("CAPTURE", "20.00", "tok_visa");
    let answer = client.post_with("/v2/checkout/orders", "", &body, wish).await;
    assert_eq!((answer.status, issue_of(&answer).as_str()), (422, "AUTHORIZATION_EXPIRED"));
    assert_eq!(answer.json()["debug_id"].as_str().map(str::len), Some(16));
    let bearer = format!("Bearer {}", client.token);
    let untyped = send("POST", &client.url("/v2/checkout/orders"), &[("authorization", &bearer)], "{}").await.unwrap();
    assert_eq!(untyped.status, 415);
    let bare = send("POST", &client.url("/v2/payments/authorizations/X/void"), &[("authorization", &bearer)], "").await;
    assert_eq!(bare.unwrap().status, 404, "without a body there is no type to be wrong");
    assert!(client.operations().is_empty());
}

#[tokio::test]
async fn the_largest_amount_there_is_can_be_taken() {
    let (client, _) = client().await;
    let answer = client.post("/v2/checkout/orders", "", &order("CAPTURE", "92233720368547758.07", "tok_visa")).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
}

#[tokio::test]
async fn what_was_made_is_shown_whole_only_where_that_is_asked_for() {
    let (client, _) = client().await;
    let body = order("CAPTURE", "20.00", "tok_visa");
    for key in ["k1", "k1", ""] {
        let minimal = client.post_with("/v2/checkout/orders", key, &body, ("prefer", "return=minimal")).await.json();
        let names: Vec<&String> = minimal.as_object().unwrap().keys().collect();
        assert_eq!(names, ["id", "links", "status"], "{minimal}");
    }
    let whole = client.post("/v2/checkout/orders", "k1", &body).await.json();
    assert_eq!(whole["purchase_units"][0]["payments"]["captures"][0]["status"], "COMPLETED");
}
