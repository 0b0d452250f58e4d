//! Customers' data is erased everywhere, and everything else stays as it was.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate::clock::Clock;
use tollgate::storage::export::ExportReader;
use tollgate::storage::{Row, Scan, Store, keys};

use crate::support::{
    Answer, Client, House, LogBook, Receiver, eventually, http_client, make_base, nonce, open_store, unix_s,
};

/// Every one of these is in what `customer` sends and must be nowhere afterwards.
const WORDS: [&str; 6] = ["ann.smith@", "198.51.100.77", "honeymoon", "annsmith-17", "back.example", "was taken ill"];
/// What the merchant's tracing sends along.
const TRACE: [(&str, &str); 2] = [
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "shop=jane.doe@example.com"),
];

fn customer() -> Value {
    json!({
        "customer_email": "ann.smith@example.com", "customer_ip": "198.51.100.77", "description": "a honeymoon suite",
        "metadata": { "customer_id": "annsmith-17" }, "return_url": "https://back.example/ann", "channel": "stripe",
    })
}

fn order(order_no: &str, more: &Value) -> Value {
    let mut body = json!({ "order_no": order_no, "amount": 5_000, "currency": "USD" });
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

fn words_in(text: &str) -> Vec<&'static str> {
    WORDS.into_iter().filter(|word| text.contains(word)).collect()
}

/// What the files of one of the store's directories hold, as text.
fn files_in(directory: &Path) -> String {
    let files = std::fs::read_dir(directory).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
    files.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

#[track_caller]
fn assert_nothing_in(rows: &[Row]) {
    assert!(rows.len() > 10);
    for row in rows {
        let bytes = [row.key.as_slice(), &row.versioned.value].concat();
        let text = String::from_utf8_lossy(&bytes);
        let found = words_in(&text).len() + text.matches("jane.doe@").count();
        assert_eq!(found, 0, "{} in {}", String::from_utf8_lossy(&bytes), hex::encode(&row.key));
    }
}

async fn rows_of(data_directory: &Path) -> Vec<Row> {
    let store = open_store(data_directory);
    let rows = store.scan(&Scan { start: vec![0], end: None, limit: 10_000, reverse: false }).unwrap();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
    rows
}

async fn done(house: &House, begun: &Answer) -> Value {
    let path = format!("/admin/v1/erasures/{}", begun.data("erasure_id"));
    eventually("the erasure", || async {
        let erasure = house.admin("GET", &path, None).await.expect(200, "SUCCESS");
        (erasure.data("status") == "done").then(|| erasure.body["data"].clone())
    })
    .await
}

async fn refund(shop: &Client, payment_no: &str) -> Answer {
    let path = format!("/api/v1/payments/{payment_no}/refunds");
    shop.post_with_key(&path, json!({ "amount": 1_000, "reason": "she was taken ill" }), "k-refund").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_s_customer_is_in_no_row_afterwards() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let endpoint = json!({ "url": receiver.url });
    shop.post("/api/v1/webhooks/endpoints", endpoint).await.expect(201, "SUCCESS");
    let text = order("O-1", &customer()).to_string();
    let mut headers = shop.signed("POST", "/api/v1/payments", &text, Some("k-1"), unix_s(), &nonce());
    headers.extend(TRACE.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let first = shop.send("POST", "/api/v1/payments", Some(text), headers).await.expect(201, "SUCCESS");
    let payment_no = first.data("payment_no").to_owned();
    let refunded = refund(&shop, &payment_no).await.expect(201, "SUCCESS");
    assert_eq!(refunded.data("status"), "success");
    let other = json!({ "customer_email": "bob@example.com", "description": "for Bob", "channel": "stripe" });
    let other = shop.post_with_key("/api/v1/payments", order("O-2", &other), "k-2").await.expect(201, "SUCCESS");
    eventually("all webhooks", || async {
        let sent = shop.get("/api/v1/webhooks/notifications?status=success").await;
        (sent.items().len() == 3).then_some(())
    })
    .await;
    let events = shop.get("/api/v1/events").await.text;
    let before = shop.get(&format!("/api/v1/payments/{payment_no}")).await;
    let journal = house.directory.path().join("data/journal");
    assert_eq!(words_in(&files_in(&journal)), WORDS, "all of it was stored");
    assert!(files_in(&journal).contains("jane.doe@"));

    let path = format!("/admin/v1/merchants/{}/payments/{payment_no}/erase", shop.merchant_id);
    let begun = house.admin("POST", &path, None).await.expect(202, "SUCCESS");
    let erased = done(&house, &begun).await["erased"].clone();
    assert_eq!((&erased["payments"], &erased["answers"]), (&json!(1), &json!(2)), "{erased}");

    // The payment is what it was, but for its customer.
    let after = shop.get(&format!("/api/v1/payments/{payment_no}")).await;
    let mut expected = before.body["data"].clone();
    (expected["description"], expected["metadata"], expected["client_secret"]) = (Value::Null, json!({}), Value::Null);
    let mut data = after.body["data"].clone();
    assert!(data["erased_at"].as_str().is_some_and(|at| at.ends_with('Z')));
    data.as_object_mut().unwrap().remove("erased_at");
    assert_eq!(data, expected);
    // The same key gives the same status and the redacted body, the same order number makes no second charge.
    let again = shop.post_with_key("/api/v1/payments", order("O-1", &customer()), "k-1").await.expect(201, "SUCCESS");
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(words_in(&again.text), Vec::<&str>::new());
    assert_eq!(again.data("payment_no"), payment_no);
    assert_eq!(again.body["data"]["amount"], 5_000);
    let again = refund(&shop, &payment_no).await.expect(201, "SUCCESS");
    assert_eq!((again.data("refund_no"), &again.body["data"]["reason"]), (refunded.data("refund_no"), &Value::Null));
    shop.post_with_key("/api/v1/payments", order("O-1", &json!({})), "k-1").await.expect(422, "IDEMPOTENCY_MISMATCH");
    shop.pay("O-1", 5_000, json!({})).await.expect(409, "ORDER_EXISTS");
    assert_eq!(house.charges(&payment_no).await, 1);
    assert_eq!(shop.get("/api/v1/events").await.text, events, "events never held any of it");
    let untouched = shop.post_with_key(
        "/api/v1/payments",
        order("O-2", &json!({ "customer_email": "bob@example.com", "description": "for Bob", "channel": "stripe" })),
        "k-2",
    );
    assert_eq!(untouched.await.text, other.text, "another customer's answer");
    // The rest can still be given back.
    let path = format!("/api/v1/payments/{payment_no}/refunds");
    shop.post_with_key(&path, json!({ "amount": 4_000 }), "k-rest").await.expect(201, "SUCCESS");

    let merchant_id = shop.merchant_id.clone();
    let directory = house.stop().await;
    let rows = rows_of(&directory.path().join("data")).await;
    assert_nothing_in(&rows);
    assert!(rows.iter().any(|row| {
        row.key.starts_with(&keys::payments_of(&tollgate::domain::ids::MerchantId::new(merchant_id.as_str())))
    }));
}

/// Pays on all ways that there are: paid, declined, answered 202, waiting for the payer; answers the numbers.
async fn pay_on_all_ways(house: &House, shop: &Client) -> Vec<(String, Value)> {
    let mut made = Vec::new();
    for channel in ["stripe", "alipay"] {
        for (token, status) in [("tok_visa", 201), ("tok_declined", 201), ("tok_lost_response", 202), ("tok_3ds", 201)]
        {
            let order_no = format!("{channel}-{token}");
            let mut body = order(&order_no, &customer());
            (body["channel"], body["currency"], body["payment_token"]) = (json!(channel), json!("CNY"), json!(token));
            let answer = shop.post_with_key("/api/v1/payments", body.clone(), &order_no).await;
            assert_eq!(answer.status, status, "{}", answer.text);
            let path = format!("/api/v1/payments/{}", answer.data("payment_no"));
            if token == "tok_3ds" {
                let page = answer.body["data"]["next_action"]["url"].as_str().unwrap();
                assert!(http_client().post(format!("{page}/approve")).send().await.unwrap().status().is_success());
            }
            eventually("an end", || async {
                let is_over = ["success", "failed"].contains(&shop.get(&path).await.data("status"));
                is_over.then_some(())
            })
            .await;
            made.push((answer.data("payment_no").to_owned(), body));
        }
    }
    for (payment_no, _) in [&made[0], &made[4]] {
        refund(shop, payment_no).await.expect(201, "SUCCESS");
        assert_eq!(house.charges(payment_no).await, 1);
    }
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_a_payment_went_its_customer_is_nowhere_afterwards() {
    // Of all tests: none of them may log any of it.
    let log = LogBook::open();
    let house = House::start().await;
    let shop = house.merchant("enterprise").await;
    let made = pay_on_all_ways(&house, &shop).await;
    let directory = house.stop().await;
    // Only what lies behind another start can leave the journal.
    let house = House::start_in(directory, |_| {}).await;
    house.merchant("starter").await;
    let directory = house.stop().await;
    let data = directory.path().join("data");
    let before = rows_of(&data).await.into_iter().map(|row| row.versioned.value.to_vec()).collect::<Vec<_>>().concat();
    assert_eq!(words_in(&String::from_utf8_lossy(&before)), WORDS, "all of it is there to be erased");
    assert_eq!(words_in(&files_in(&data.join("journal"))), WORDS);
    make_base(&data, Clock::system());
    assert_eq!(words_in(&files_in(&data.join("base"))), WORDS);

    let house = House::start_in(directory, |_| {}).await;
    let shop = shop.at(&house.url);
    let erasures = format!("/admin/v1/merchants/{}/erasures", shop.merchant_id);
    let begun = house.admin("POST", &erasures, Some(json!({ "customer_id": "annsmith-17" }))).await;
    let erased = done(&house, &begun.expect(202, "SUCCESS")).await["erased"].clone();
    let counts = [&erased["payments"], &erased["open_payments"], &erased["answers"], &erased["unreadable"]];
    assert_eq!(counts, [&json!(made.len()), &json!(0), &json!(made.len() + 2), &json!(0)], "{erased}");
    for (payment_no, body) in &made {
        let key = body["order_no"].as_str().unwrap();
        let again = shop.post_with_key("/api/v1/payments", body.clone(), key).await;
        assert_eq!((again.header("idempotent-replayed"), again.data("payment_no")), ("true", payment_no.as_str()));
        assert_eq!(words_in(&again.text), Vec::<&str>::new());
        assert!(again.body["data"]["next_action"].is_null() && again.body["data"]["client_secret"].is_null());
    }
    let directory = house.stop().await;
    assert_nothing_in(&rows_of(&directory.path().join("data")).await);

    // A base that is made now, and what it leaves of the journal, have none of it either.
    let data = directory.path().join("data");
    let later = Clock::system().now().plus(Duration::from_secs(7_200));
    make_base(&data, Clock::virtual_from(later));
    assert_eq!(words_in(&(files_in(&data.join("base")) + &files_in(&data.join("journal")))), Vec::<&str>::new());
    let base = std::fs::read_dir(data.join("base")).unwrap().next().unwrap().unwrap().path();
    let mut reader = ExportReader::open(&base).unwrap();
    let rows: Vec<Row> = std::iter::from_fn(|| reader.next_row().unwrap()).collect();
    assert_nothing_in(&rows);

    let logged = log.text();
    assert!(logged.contains("customers' data was erased"), "the log is read");
    assert_eq!(words_in(&logged), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_is_found_by_address_or_id_within_one_merchant() {
    let house = House::start().await;
    let (shop, other_shop) = (house.merchant("premium").await, house.merchant("premium").await);
    let by_mail = json!({ "customer_email": "ann.smith@example.com", "description": "by mail", "channel": "stripe" });
    let by_id = json!({ "metadata": { "customer_id": "annsmith-17" }, "description": "by id", "channel": "stripe" });
    let open = json!({ "customer_email": "ANN.SMITH@example.com", "description": "open", "channel": "stripe",
        "payment_token": "tok_3ds" });
    let mail = shop.pay("O-1", 500, by_mail.clone()).await.data("payment_no").to_owned();
    let id = shop.pay("O-2", 500, by_id).await.data("payment_no").to_owned();
    let waiting = shop.pay("O-3", 500, open).await;
    assert_eq!(waiting.data("status"), "requires_action");
    let foreign = other_shop.pay("O-1", 500, by_mail).await.data("payment_no").to_owned();
    let erasures = format!("/admin/v1/merchants/{}/erasures", shop.merchant_id);

    let begun = house.admin("POST", &erasures, Some(json!({ "customer_email": "Ann.Smith@Example.com " }))).await;
    let erased = done(&house, &begun.expect(202, "SUCCESS")).await;
    assert_eq!((&erased["erased"]["payments"], &erased["erased"]["open_payments"]), (&json!(1), &json!(1)));
    let description = async |shop: &Client, payment_no: &str| {
        let payment = shop.get(&format!("/api/v1/payments/{payment_no}")).await;
        payment.body["data"]["description"].clone()
    };
    assert_eq!(description(&shop, &mail).await, Value::Null);
    assert_eq!(description(&shop, &id).await, "by id");
    assert_eq!(description(&shop, waiting.data("payment_no")).await, "open");
    assert_eq!(description(&other_shop, &foreign).await, "by mail");

    let begun = house.admin("POST", &erasures, Some(json!({ "customer_id": "annsmith-17" }))).await;
    assert_eq!(done(&house, &begun.expect(202, "SUCCESS")).await["erased"]["payments"], 1);
    assert_eq!(description(&shop, &id).await, Value::Null);

    let path = format!("/admin/v1/merchants/{}/payments/{}/erase", shop.merchant_id, waiting.data("payment_no"));
    let refused = house.admin("POST", &path, None).await.expect(409, "INVALID_STATE");
    assert_eq!(refused.body["status"], "requires_action");
    let path = format!("/admin/v1/merchants/{}/payments/{foreign}/erase", shop.merchant_id);
    house.admin("POST", &path, None).await.expect(404, "NOT_FOUND");
    let nobody = json!({ "customer_id": "annsmith-17" });
    house.admin("POST", "/admin/v1/merchants/m_0/erasures", Some(nobody)).await.expect(404, "NOT_FOUND");
    for wrong in [json!({}), json!({ "customer_email": " " }), json!({ "customer_email": "a", "customer_id": "b" })] {
        house.admin("POST", &erasures, Some(wrong)).await.expect(400, "INVALID_REQUEST");
    }
    // That it was done is written down, whose data it was is not.
    let audit = house.admin("GET", "/admin/v1/audit?action=customer.erase&verify=true", None).await;
    assert_eq!((audit.items().len(), &audit.body["data"]["chain"]["intact"]), (2, &json!(true)));
    assert_eq!(words_in(&audit.text), Vec::<&str>::new());
    assert_eq!(house.admin("GET", "/admin/v1/erasures", None).await.items().len(), 2);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pre_auth_s_customer_is_in_no_row_afterwards() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    let pre_auths = "/api/v1/pre-auths";
    let with_token = |order_no: &str| {
        let mut body = order(order_no, &customer());
        body["payment_token"] = json!("tok_visa");
        body
    };
    let taken = shop.post_with_key(pre_auths, with_token("O-1"), "k-1").await.expect(201, "SUCCESS");
    let number = taken.data("pre_auth_no").to_owned();
    let path = format!("{pre_auths}/{number}");
    let captured = shop.post_with_key(&format!("{path}/capture"), json!({ "amount": 2_000 }), "k-2").await;
    assert_eq!(captured.expect(200, "SUCCESS").data("status"), "captured");
    let reason = json!({ "amount": 500, "reason": "she was taken ill" });
    shop.post_with_key(&format!("{path}/refunds"), reason, "k-3").await.expect(201, "SUCCESS");
    // One that is named by the merchant, waits for its payer, and is given up.
    let named = json!({ "channel": "stripe", "pre_auth_no": "deposit-7", "amount": 700, "currency": "USD",
        "customer_email": "ann.smith@example.com", "description": "a honeymoon suite" });
    let waiting = shop.post_with_key("/api/v1/channel/pre-auth", named.clone(), "k-4").await.expect(201, "SUCCESS");
    assert!(waiting.body["data"]["client_secret"].is_string(), "{}", waiting.text);
    let erase = |number: &str| format!("/admin/v1/merchants/{}/pre-auths/{number}/erase", shop.merchant_id);
    let open = shop.get(&format!("{pre_auths}/deposit-7")).await.data("pre_auth_no").to_owned();
    let refused = house.admin("POST", &erase(&open), None).await.expect(409, "INVALID_STATE");
    assert_eq!(refused.body["status"], waiting.data("status"));
    let reason = json!({ "reason": "she was taken ill" });
    let canceled = shop.post_with_key(&format!("{pre_auths}/{open}/cancel"), reason, "k-5").await;
    assert_eq!(canceled.expect(200, "SUCCESS").data("status"), "canceled");
    let journal = house.directory.path().join("data/journal");
    assert_eq!(words_in(&files_in(&journal)), WORDS, "all of it was stored");

    let begun = house.admin("POST", &erase(&number), None).await.expect(202, "SUCCESS");
    let erased = done(&house, &begun).await;
    assert_eq!((&erased["subject"], &erased["pre_auth_no"]), (&json!("pre_auth"), &json!(number)), "{erased}");
    assert_eq!((&erased["erased"]["pre_auths"], &erased["erased"]["answers"]), (&json!(1), &json!(3)), "{erased}");
    let erasures = format!("/admin/v1/merchants/{}/erasures", shop.merchant_id);
    let whom = json!({ "customer_email": "ann.smith@example.com" });
    let begun = house.admin("POST", &erasures, Some(whom)).await.expect(202, "SUCCESS");
    let erased = done(&house, &begun).await["erased"].clone();
    assert_eq!((&erased["pre_auths"], &erased["answers"]), (&json!(1), &json!(2)), "{erased}");

    let again = shop.post_with_key(pre_auths, with_token("O-1"), "k-1").await.expect(201, "SUCCESS");
    assert_eq!((again.header("idempotent-replayed"), again.data("pre_auth_no")), ("true", number.as_str()));
    assert_eq!(words_in(&again.text), Vec::<&str>::new());
    let again = shop.post_with_key("/api/v1/channel/pre-auth", named, "k-4").await.expect(201, "SUCCESS");
    assert!(again.body["data"]["client_secret"].is_null() && again.body["data"]["next_action"].is_null());
    let after = shop.get(&path).await;
    assert_eq!((&after.body["data"]["metadata"], &after.body["data"]["captured_amount"]), (&json!({}), &json!(2_000)));
    // What was captured can still be given back.
    shop.post_with_key(&format!("{path}/refunds"), json!({}), "k-6").await.expect(201, "SUCCESS");
    house.admin("POST", &erase("PA0"), None).await.expect(404, "NOT_FOUND");
    let audit = house.admin("GET", "/admin/v1/audit?action=pre_auth.erase&verify=true", None).await;
    assert_eq!((audit.items().len(), &audit.body["data"]["chain"]["intact"]), (1, &json!(true)));
    let directory = house.stop().await;
    assert_nothing_in(&rows_of(&directory.path().join("data")).await);
}
