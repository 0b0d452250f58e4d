//! Stripe's rules.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::random::Random;
use crate::sandbox::testing::{Answer, send};
use crate::sandbox::tests::sandbox;
use crate::sandbox::{FaultPatch, LedgerOperation, Sandbox, SandboxOptions};

const KEY: (&str, &str) = ("authorization", "Bearer sk_test_tollgate_sandbox");
const CHARGE: &str =
    "amount=2000&currency=usd&confirm=true&payment_method=pm_card_visa&metadata[gateway_payment_id]=PY1";

struct Client(Arc<Sandbox>);

impl Client {
    async fn get(&self, path: &str) -> Answer {
        send("GET", &format!("{}/v1/{path}", self.0.urls()["stripe"]), &[KEY], "").await.unwrap()
    }

    async fn post(&self, path: &str, key: &str, form: &str) -> Answer {
        let headers = [KEY, ("idempotency-key", key)];
        let headers = if key.is_empty() { &headers[..1] } else { &headers[..] };
        send("POST", &format!("{}/v1/{path}", self.0.urls()["stripe"]), headers, form).await.unwrap()
    }

    async fn made(&self, form: &str) -> String {
        let answer = self.post("payment_intents", "", form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    }
}

fn client() -> (Client, Clock) {
    let (sandbox, clock) = sandbox();
    (Client(sandbox), clock)
}

fn error_of(answer: &Answer) -> Value {
    answer.json()["error"].clone()
}

fn is_replayed(answer: &Answer) -> bool {
    answer.head.contains("idempotent-replayed: true")
}

#[tokio::test]
async fn only_the_secret_key_opens_it() {
    let (client, _) = client();
    let url = format!("{}/v1/payment_intents", client.0.urls()["stripe"]);
    for headers in [
        &[][..],
        &[("authorization", "Bearer sk_test_other")],
        &[("authorization", "sk_test_tollgate_sandbox")],
        // Another user, base64 of `other:`.
        &[("authorization", "Basic b3RoZXI6")],
    ] {
        let answer = send("GET", &url, headers, "").await.unwrap();
        assert_eq!(answer.status, 401);
        assert_eq!(error_of(&answer)["type"], "invalid_request_error");
    }
    use base64::Engine;
    let user = base64::engine::general_purpose::STANDARD.encode("sk_test_tollgate_sandbox:");
    let basic = format!("Basic {user}");
    assert_eq!(send("GET", &url, &[("authorization", &basic)], "").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_key_gives_its_first_answer_again() {
    let (client, _) = client();
    let charge = client.post("payment_intents", "k1", CHARGE).await;
    assert_eq!((charge.status, is_replayed(&charge)), (200, false));
    let again = client.post("payment_intents", "k1", CHARGE).await;
    assert_eq!((again.status, is_replayed(&again), &again.body), (200, true, &charge.body));

    let declined = CHARGE.replace("pm_card_visa", "pm_card_chargeDeclined");
    let decline = client.post("payment_intents", "k2", &declined).await;
    assert_eq!(decline.status, 402);
    assert_eq!(error_of(&decline)["payment_intent"]["status"], "requires_payment_method");
    let again = client.post("payment_intents", "k2", &declined).await;
    assert_eq!((again.status, is_replayed(&again), &again.body), (402, true, &decline.body));

    let errors = FaultPatch { error_rate: Some(1.0), ..FaultPatch::default() };
    client.0.set_faults("stripe", errors).await.unwrap();
    assert_eq!(client.post("payment_intents", "k3", CHARGE).await.status, 500);
    client.0.set_faults("stripe", FaultPatch { error_rate: Some(0.0), ..FaultPatch::default() }).await.unwrap();
    let again = client.post("payment_intents", "k3", CHARGE).await;
    assert_eq!((again.status, is_replayed(&again)), (500, true));
    assert_eq!(client.0.ledger("stripe").unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_is_for_one_request_and_for_a_day() {
    let (client, clock) = client();
    client.post("payment_intents", "k1", CHARGE).await;
    for other in [CHARGE.replace("2000", "2001"), CHARGE.replace("&confirm=true", "")] {
        let answer = client.post("payment_intents", "k1", &other).await;
        assert_eq!(answer.status, 400);
        assert_eq!(error_of(&answer)["type"], "idempotency_error");
    }
    assert_eq!(error_of(&client.post("refunds", "k1", CHARGE).await)["type"], "idempotency_error");
    // What fails validation leaves the key free.
    assert_eq!(client.post("payment_intents", "k2", "amount=-1&currency=usd").await.status, 400);
    assert_eq!(client.post("payment_intents", "k2", CHARGE).await.status, 200);
    clock.advance(Duration::from_secs(24 * 60 * 60));
    let answer = client.post("payment_intents", "k1", CHARGE).await;
    assert_eq!((answer.status, is_replayed(&answer)), (200, false));
    assert_eq!(client.0.ledger("stripe").unwrap().len(), 3);
}

#[tokio::test]
async fn a_key_whose_first_request_has_no_answer_yet_is_in_use() {
    let options = SandboxOptions::new(Clock::system(), Random::seeded(1));
    let client = Client(Arc::new(Sandbox::start(options).unwrap()));
    client.0.set_faults("stripe", FaultPatch { latency_ms: Some(600_000), ..FaultPatch::default() }).await.unwrap();
    let first = tokio::time::timeout(Duration::from_millis(200), client.post("payment_intents", "k1", CHARGE)).await;
    assert!(first.is_err());
    client.0.set_faults("stripe", FaultPatch { latency_ms: Some(0), ..FaultPatch::default() }).await.unwrap();
    let second = client.post("payment_intents", "k1", CHARGE).await;
    assert_eq!((second.status, error_of(&second)["code"].clone()), (409, json!("idempotency_key_in_use")));
}

#[tokio::test]
async fn what_is_over_stays_over() {
    let (client, _) = client();
    let canceled = client.made("amount=2000&currency=usd").await;
    assert_eq!(client.post(&format!("payment_intents/{canceled}/cancel"), "", "").await.json()["status"], "canceled");
    let succeeded = client.made(CHARGE).await;
    for (id, status) in [(&canceled, "canceled"), (&succeeded, "succeeded")] {
        for verb in ["cancel", "capture", "confirm"] {
            let form = if verb == "confirm" { "payment_method=pm_card_visa" } else { "" };
            let answer = client.post(&format!("payment_intents/{id}/{verb}"), "", form).await;
            assert_eq!(answer.status, 400);
            let error = error_of(&answer);
            assert_eq!(error["code"], "payment_intent_unexpected_state");
            assert_eq!(
                (&error["payment_intent"]["id"], &error["payment_intent"]["status"]),
                (&json!(id), &json!(status))
            );
        }
    }
    assert_eq!(client.0.ledger("stripe").unwrap().len(), 1);
}

#[tokio::test]
async fn an_intent_can_be_confirmed_later_and_after_a_decline() {
    let (client, _) = client();
    let id = client.made("amount=2000&currency=usd&capture_method=automatic&metadata[gateway_payment_id]=PY2").await;
    let path = format!("payment_intents/{id}/confirm");
    assert_eq!(client.post(&path, "", "payment_method=pm_card_chargeDeclined").await.status, 402);
    let paid =
        client.post(&path, "", "payment_method=pm_card_visa&expand[]=latest_charge.balance_transaction").await.json();
    assert_eq!((&paid["status"], &paid["amount_received"]), (&json!("succeeded"), &json!(2000)));
    assert_eq!(paid["latest_charge"]["balance_transaction"]["fee"], 88);
    // Captured behind the answer, as without `capture_method`, a charge has no fee yet.
    let later = client
        .post("payment_intents", "", "amount=2000&currency=usd&confirm=true&payment_method=pm_card_visa&expand[]=latest_charge.balance_transaction")
        .await
        .json();
    assert_eq!((&later["status"], &later["capture_method"]), (&json!("succeeded"), &json!("automatic_async")));
    assert_eq!(later["latest_charge"]["balance_transaction"], Value::Null);
    let ledger = client.0.ledger("stripe").unwrap();
    assert_eq!((ledger.len(), ledger[0].reference.as_str()), (2, "PY2"));
    assert_eq!(ledger[0].at, "2026-09-21T14:13:20Z");
}

#[tokio::test]
async fn wrong_requests_are_named() {
    let (client, _) = client();
    for (form, code, param) in [
        ("amount=1&currency=usd&colour=red", "parameter_unknown", "colour"),
        ("currency=usd", "parameter_missing", "amount"),
        ("amount=1", "parameter_missing", "currency"),
        ("amount=x&currency=usd", "parameter_invalid_integer", "amount"),
        ("amount=1000000000000&currency=usd", "amount_too_large", "amount"),
        ("amount=1&currency=xxx", "invalid_currency", "currency"),
        ("amount=150&currency=isk", "invalid_charge_amount_no_decimal_compatible", "amount"),
        ("amount=1005&currency=kwd", "parameter_invalid_integer", "amount"),
        ("amount=1&currency=usd&payment_method=tok_visa", "resource_missing", "payment_method"),
        ("amount=1&currency=usd&capture_method=later", "parameter_invalid_string", "capture_method"),
    ] {
        let answer = client.post("payment_intents", "", form).await;
        assert_eq!(answer.status, 400, "{form}");
        let error = error_of(&answer);
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{form}");
    }
    assert_eq!(client.get("payment_intents/pi_none").await.status, 404);
    assert_eq!(client.get("nothing").await.status, 404);
}

#[tokio::test]
async fn refunds_keep_stripes_words() {
    let (client, _) = client();
    let id = client.made(&CHARGE.replace("2000", "1200")).await;
    let over = client.post("refunds", "", &format!("payment_intent={id}&amount=9999")).await;
    let error = error_of(&over);
    assert_eq!(error["message"], "Refund amount ($99.99) is greater than unrefunded amount on charge ($12.00)");
    assert_eq!((over.status, &error["param"]), (400, &json!("amount")));
    let part = client.post("refunds", "r1", &format!("payment_intent={id}&amount=200")).await.json();
    assert_eq!(client.post("refunds", "r1", &format!("payment_intent={id}&amount=200")).await.json(), part);
    let rest = client.post("refunds", "", &format!("payment_intent={id}")).await.json();
    assert_eq!((&part["amount"], &rest["amount"], &rest["status"]), (&json!(200), &json!(1000), &json!("succeeded")));
    let none_left = client.post("refunds", "", &format!("payment_intent={id}")).await;
    assert_eq!(error_of(&none_left)["code"], "charge_already_refunded");
    let listed = client.get(&format!("refunds?payment_intent={id}")).await.json();
    assert_eq!(listed["data"], json!([rest, part]));
    assert_eq!(client.get(&format!("refunds/{}", part["id"].as_str().unwrap())).await.json(), part);
    let unpaid = client.made("amount=2000&currency=usd").await;
    assert_eq!(client.post("refunds", "", &format!("payment_intent={unpaid}")).await.status, 400);
}

#[tokio::test]
async fn lists_are_newest_first_in_pages_and_by_time() {
    let (client, clock) = client();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, client.made("amount=2000&currency=usd").await);
        clock.advance(Duration::from_secs(10));
    }
    let page = |query: String| {
        let client = &client;
        async move {
            let list = client.get(&format!("payment_intents?{query}")).await.json();
            let ids: Vec<String> = list["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|intent| intent["id"].as_str().unwrap().to_owned())
                .collect();
            (ids, list["has_more"].as_bool().unwrap())
        }
    };
    assert_eq!(page(String::from("limit=2")).await, (ids[..2].to_vec(), true));
    assert_eq!(page(format!("limit=3&starting_after={}", ids[1])).await, (ids[2..].to_vec(), false));
    let from = super::START.unix_s() + 20;
    assert_eq!(page(format!("created[gte]={from}")).await, (ids[..3].to_vec(), false));
    assert_eq!(page(format!("created[lt]={from}")).await, (ids[3..].to_vec(), false));
    assert_eq!(client.get("payment_intents?limit=101").await.status, 400);
}

const HOLD: &str = "amount=2000&currency=usd&capture_method=manual&confirm=true&payment_method=pm_card_visa\
    &metadata[gateway_payment_id]=PA1&expand[]=latest_charge.balance_transaction";

/// What was done with money, and how much of it.
fn lines(client: &Client) -> Vec<(LedgerOperation, i64)> {
    client.0.ledger("stripe").unwrap().into_iter().map(|entry| (entry.operation, entry.amount_minor)).collect()
}

#[tokio::test]
async fn a_hold_is_captured_in_part_and_its_amounts_are_stripes() {
    let (client, _) = client();
    let held = client.post("payment_intents", "", HOLD).await.json();
    let id = held["id"].as_str().unwrap();
    let shown = |intent: &Value| {
        (intent["status"].clone(), intent["amount_capturable"].clone(), intent["amount_received"].clone())
    };
    assert_eq!(shown(&held), (json!("requires_capture"), json!(2000), json!(0)));
    assert_eq!((&held["capture_method"], &held["latest_charge"]["captured"]), (&json!("manual"), &json!(false)));
    let capture = format!("payment_intents/{id}/capture");
    let form = "amount_to_capture=1500&metadata[gateway_capture_id]=PA1-2&expand[]=latest_charge.balance_transaction";
    let captured = client.post(&capture, "c1", form).await;
    assert_eq!(shown(&captured.json()), (json!("succeeded"), json!(0), json!(1500)));
    let charge = &captured.json()["latest_charge"];
    assert_eq!((&charge["amount"], &charge["amount_captured"]), (&json!(2000), &json!(1500)));
    assert_eq!((&charge["amount_refunded"], &charge["captured"]), (&json!(0), &json!(true)));
    assert_eq!(charge["balance_transaction"]["fee"], 74);
    assert_eq!(captured.json()["metadata"], json!({ "gateway_payment_id": "PA1", "gateway_capture_id": "PA1-2" }));
    let again = client.post(&capture, "c1", form).await;
    assert_eq!((is_replayed(&again), again.body), (true, captured.body));
    let second = error_of(&client.post(&capture, "c2", "").await);
    assert_eq!(second["code"], "payment_intent_unexpected_state");
    assert_eq!(second["payment_intent"]["amount_received"], 1500);
    assert!(second["message"].as_str().unwrap().starts_with("The remaining amount on this PaymentIntent could not be"));
    let over = client.post("refunds", "", &format!("payment_intent={id}&amount=1501")).await;
    assert!(error_of(&over)["message"].as_str().unwrap().contains("unrefunded amount on charge ($15.00)"));
    assert_eq!(client.post("refunds", "", &format!("payment_intent={id}")).await.json()["amount"], 1500);
    assert_eq!(
        lines(&client),
        [(LedgerOperation::Hold, 2000), (LedgerOperation::Capture, 1500), (LedgerOperation::Refund, 1500)]
    );
}

#[tokio::test]
async fn wrong_captures_are_named_and_take_nothing() {
    let (client, _) = client();
    let id = client.made(HOLD).await;
    let capture = format!("payment_intents/{id}/capture");
    for (form, code, param) in [
        ("amount_to_capture=0", json!("parameter_invalid_integer"), "amount"),
        ("amount_to_capture=-5", json!("parameter_invalid_integer"), "amount_to_capture"),
        ("amount_to_capture=x", json!("parameter_invalid_integer"), "amount_to_capture"),
        ("amount_to_capture=2001", json!("amount_too_large"), "amount_to_capture"),
        ("final_capture=false", Value::Null, "final_capture"),
        ("colour=red", json!("parameter_unknown"), "colour"),
    ] {
        let answer = client.post(&capture, "", form).await;
        assert_eq!(answer.status, 400, "{form}");
        assert_eq!((&error_of(&answer)["code"], &error_of(&answer)["param"]), (&code, &json!(param)), "{form}");
    }
    assert_eq!(client.post("payment_intents/pi_none/capture", "", "").await.status, 404);
    let unheld = client.post("refunds", "", &format!("payment_intent={id}")).await;
    assert_eq!(unheld.status, 400, "what is only held can't be given back");
    let waiting = client.made("amount=2000&currency=usd&capture_method=manual").await;
    let early = client.post(&format!("payment_intents/{waiting}/capture"), "", "").await;
    assert_eq!(error_of(&early)["payment_intent"]["status"], "requires_payment_method");
    assert_eq!(lines(&client), [(LedgerOperation::Hold, 2000)]);
    let whole = client.post(&capture, "", "").await.json();
    assert_eq!((&whole["status"], &whole["amount_received"]), (&json!("succeeded"), &json!(2000)));
    let again = error_of(&client.post(&capture, "", "").await);
    assert!(again["message"].as_str().unwrap().contains("already been captured"));
}

#[tokio::test]
async fn a_hold_is_canceled_once_and_expires_by_itself() {
    let (client, clock) = client();
    let canceled = client.made(HOLD).await;
    let cancel = format!("payment_intents/{canceled}/cancel");
    assert_eq!(client.post(&cancel, "", "cancellation_reason=expired").await.status, 400);
    assert_eq!(client.post(&cancel, "", "cancellation_reason=abandoned").await.json()["status"], "canceled");
    let again = client.post(&cancel, "", "").await;
    assert_eq!((again.status, error_of(&again)["payment_intent"]["status"].clone()), (400, json!("canceled")));

    let here = client.made(HOLD).await;
    let away = client.made(&format!("{HOLD}&off_session=true")).await;
    let path = |id: &str| format!("payment_intents/{id}?expand[]=latest_charge");
    let capture_before =
        |intent: Value| intent["latest_charge"]["payment_method_details"]["card"]["capture_before"].as_i64().unwrap();
    let now_s = super::START.unix_s();
    assert_eq!(capture_before(client.get(&path(&here)).await.json()), now_s + 7 * 86_400);
    // Merchant-initiated: four days and eighteen hours.
    assert_eq!(capture_before(client.get(&path(&away)).await.json()), now_s + 4 * 86_400 + 18 * 3_600);
    clock.advance(Duration::from_secs(4 * 86_400 + 18 * 3_600));
    let expired = client.get(&path(&away)).await.json();
    assert_eq!((&expired["status"], &expired["cancellation_reason"]), (&json!("canceled"), &json!("automatic")));
    assert_eq!(client.get(&path(&here)).await.json()["status"], "requires_capture");
    assert_eq!(client.post(&format!("payment_intents/{here}/capture"), "", "").await.status, 200);
    clock.advance(Duration::from_secs(4 * 86_400));
    assert_eq!(client.get(&path(&here)).await.json()["status"], "succeeded", "what was captured does not expire");
    use LedgerOperation::{Capture, Hold, Void};
    let operations: Vec<_> = lines(&client).into_iter().map(|(operation, _)| operation).collect();
    assert_eq!(operations, [Hold, Void, Hold, Hold, Void, Capture]);
}

#[tokio::test]
async fn a_hold_waits_for_its_payer_on_the_page_and_can_be_confirmed_by_its_own_client() {
    let (client, _) = client();
    let waiting = client.post("payment_intents", "", "amount=2000&currency=usd&capture_method=manual").await.json();
    let page = waiting["sandbox_payer_page"].as_str().unwrap();
    assert!(send("GET", page, &[], "").await.unwrap().body.contains("Decline"));
    send("POST", &format!("{page}/decline"), &[], "").await.unwrap();
    let path = format!("payment_intents/{}", waiting["id"].as_str().unwrap());
    let declined = client.get(&path).await.json();
    assert_eq!(declined["last_payment_error"]["code"], "card_declined");
    assert_eq!(declined["status"], "requires_payment_method");
    let confirm = format!("{path}/confirm");
    assert_eq!(client.post(&confirm, "", "payment_method=pm_card_chargeDeclined").await.status, 402);
    let held = client.post(&confirm, "", "payment_method=pm_card_visa").await.json();
    assert_eq!((&held["status"], &held["sandbox_payer_page"]), (&json!("requires_capture"), &Value::Null));
    assert_eq!(lines(&client), [(LedgerOperation::Hold, 2000)]);
    // Nothing is chosen on a page for what is charged at once.
    let charge = client.post("payment_intents", "", "amount=2000&currency=usd").await.json();
    assert_eq!(charge["sandbox_payer_page"], Value::Null);
}
