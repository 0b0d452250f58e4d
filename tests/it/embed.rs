//! The gateway inside another program: the examples do what their heads say, and calls without HTTP keep the same promises.

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tollgate::domain::audit::Operator;
use tollgate::domain::merchant::MerchantStatus;
use tollgate::gateway::command::{CreatePayment, CreateRefund, UpdateMerchant};
use tollgate::gateway::error::GatewayError;
use tollgate::gateway::idempotency::Origin;
use tollgate::gateway::view::{PaymentView, RefundView};

use crate::support::{House, eventually, http_client};

#[allow(dead_code, reason = "its main is the example's")]
#[path = "../../examples/embed.rs"]
mod embedding;

#[allow(dead_code, reason = "its main is the example's")]
#[path = "../../examples/verify_webhook.rs"]
mod verify_webhook;

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shop_takes_payments_in_its_own_process_and_keeps_them() {
    let directory = tempfile::tempdir().unwrap();
    let client = http_client();
    for start in 0..2 {
        let ((shop, url), (merchants, merchants_url), (operator, operator_url)) =
            (listener().await, listener().await, listener().await);
        let (stop, stopped) = oneshot::channel::<()>();
        let data = directory.path().to_owned();
        let served = tokio::spawn(async move {
            let listeners = embedding::Listeners { shop, merchants, operator };
            let stop = async move { drop(stopped.await) };
            embedding::serve(&data, listeners, stop).await.map_err(|error| error.to_string())
        });
        if start == 0 {
            let pay = || {
                let body = json!({ "amount": 4500, "currency": "EUR" });
                client.post(format!("{url}/orders/O-1/pay")).json(&body).send()
            };
            let paid: Value = pay().await.unwrap().json().await.unwrap();
            assert_eq!((&paid["status"], &paid["order_no"]), (&json!("success"), &json!("O-1")), "{paid}");
            assert_eq!(pay().await.unwrap().status(), 409, "an order is paid once");
            let wrong = client.post(format!("{url}/orders/O-2/pay")).json(&json!({ "amount": 0, "currency": "EUR" }));
            let refused = wrong.send().await.unwrap();
            assert_eq!(refused.status(), 400);
            let refused: Value = refused.json().await.unwrap();
            assert!(refused["fields"][0].as_str().unwrap().starts_with("amount "), "{refused}");
            let ready = client.get(format!("{merchants_url}/readyz")).send().await.unwrap();
            assert_eq!(ready.status(), 200, "the gateway's own listener answers beside it");
            // More merchants than a page of them holds; the next start has to find its own behind them.
            let token = std::fs::read_to_string(directory.path().join("tollgate/admin.token")).unwrap();
            for number in 0..101 {
                let other = json!({ "name": format!("Shop {number}"), "tier": "starter" });
                let add = client.post(format!("{operator_url}/admin/v1/merchants")).bearer_auth(token.trim());
                assert_eq!(add.json(&other).send().await.unwrap().status(), 201);
            }
        }
        let orders: Value = client.get(format!("{url}/orders/O-1")).send().await.unwrap().json().await.unwrap();
        assert_eq!(orders.as_array().unwrap().len(), 1, "start {start}: {orders}");
        assert_eq!(orders[0]["amount"], 4500);
        stop.send(()).unwrap();
        assert_eq!(served.await.unwrap(), Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_takes_each_webhook_once_and_no_forged_one() {
    let house = House::start().await;
    let merchant = house.merchant("business").await;
    let (receiver, url) = listener().await;
    let made = merchant.post("/api/v1/webhooks/endpoints", json!({ "url": format!("{url}/webhooks") })).await;
    let inbox = verify_webhook::Inbox::new(made.data("secret"));
    let served = tokio::spawn(axum::serve(receiver, inbox.router()).into_future());
    let payment_no = merchant.pay("O-1", 4_500, json!({})).await.expect(201, "SUCCESS").data("payment_no").to_owned();
    let event = eventually("the webhook is handled", async || inbox.handled().first().cloned()).await;
    assert_eq!((event.event.as_str(), event.payment_no.as_deref()), ("payment.success", Some(payment_no.as_str())));
    assert_eq!(event.amount, Some(4_500));

    let secret = tollgate::delivery::signing::Secret::parse(made.data("secret")).unwrap();
    let body = r#"{"event":"payment.success","payment_no":"PY2","timestamp":1}"#;
    let send = async |id: &str, signed: &str| {
        let now = tollgate::clock::Clock::system().now().unix_s();
        let request = http_client()
            .post(format!("{url}/webhooks"))
            .header("webhook-id", id)
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", secret.sign_message(id, now, signed.as_bytes()))
            .header("x-webhook-signature", secret.sign_body(signed.as_bytes()));
        request.body(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send("wn_a", "{}").await, 401, "signed over something else");
    assert_eq!(inbox.handled().len(), 1);
    assert_eq!(send("wn_a", body).await, 204);
    assert_eq!(send("wn_a", body).await, 204, "sent again it is taken, and handled no more");
    assert_eq!(send("wn_b", body).await, 204);
    assert_eq!(inbox.handled().len(), 3);
    served.abort();
    house.stop().await;
}

fn order(order_no: &str, amount: i64) -> CreatePayment {
    CreatePayment {
        order_no: String::from(order_no),
        amount,
        currency: String::from("USD"),
        ..CreatePayment::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_http_are_done_once_and_for_their_merchant_only() {
    let house = House::start().await;
    let gateway = &house.gateway;
    let (mine, others) = (house.merchant("starter").await, house.merchant("starter").await);
    let caller = gateway.caller(&mine.merchant_id).unwrap();
    let once = |key: &str, amount: i64| Origin::in_process_once("payments", key, &order("O-1", amount));
    let take = async |key: &str, amount: i64| {
        gateway.payments().create(&caller, once(key, amount).unwrap(), order("O-1", amount)).await
    };
    let first = take("k-1", 4_500).await.unwrap();
    let payment: PaymentView = first.read().unwrap();
    assert_eq!((payment.status.as_str(), first.replayed), ("success", false));
    assert!(first.read::<RefundView>().is_err(), "a payment is no refund");
    let again = take("k-1", 4_500).await.unwrap();
    assert!(again.replayed && again.answer == first.answer);
    assert!(matches!(take("k-1", 4_501).await, Err(GatewayError::IdempotencyMismatch)));
    assert!(matches!(take("k-2", 4_500).await, Err(GatewayError::OrderExists { .. })));
    assert!(matches!(once("", 1), Err(GatewayError::InvalidRequest(_))));

    let other = gateway.caller(&others.merchant_id).unwrap();
    let refund = || CreateRefund { amount: Some(500), reason: None };
    let foreign = gateway.refunds().create(&other, Origin::in_process(), &payment.payment_no, refund()).await;
    assert!(matches!(foreign, Err(GatewayError::NotFound(_))));
    let own = gateway.refunds().create(&caller, Origin::in_process(), &payment.payment_no, refund()).await.unwrap();
    assert_eq!(own.read::<RefundView>().unwrap().amount, 500);
    assert_eq!(
        mine.get(&format!("/api/v1/payments/{}", payment.payment_no)).await.body["data"]["refunded_amount"],
        500
    );

    let declined = CreatePayment { payment_token: Some(String::from("tok_declined")), ..order("O-2", 100) };
    let answered = gateway.payments().create(&caller, Origin::in_process(), declined).await.unwrap();
    assert_eq!(answered.read::<PaymentView>().unwrap().status, "failed");

    let suspended = UpdateMerchant { status: Some(MerchantStatus::Suspended), ..UpdateMerchant::default() };
    gateway.merchants().update(&mine.merchant_id, suspended, &Operator::process("test")).await.unwrap();
    assert!(matches!(gateway.caller(&mine.merchant_id), Err(GatewayError::Forbidden(_))));
    assert!(matches!(gateway.caller("m_none"), Err(GatewayError::NotFound(_))));
    house.stop().await;
}
