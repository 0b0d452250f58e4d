//! Work on many webhooks at once, through real ports: catching up after an outage, sending again and giving up by filter.

use serde_json::{Value, json};

use crate::support::{Answer, Client, House, Receiver, eventually};

const ENDPOINTS: &str = "/api/v1/webhooks/endpoints";
const NOTIFICATIONS: &str = "/api/v1/webhooks/notifications";
const JOBS: &str = "/api/v1/webhooks/jobs";
const LONG_AGO: &str = "2020-01-01T00:00:00Z";

/// Waits until a job is at its end.
async fn done(shop: &Client, job: &Answer) -> Answer {
    let path = format!("{JOBS}/{}", job.data("id"));
    eventually("the job's end", || async {
        let job = shop.get(&path).await.expect(200, "SUCCESS");
        Some(job).filter(|job| job.data("status") != "running")
    })
    .await
}

async fn count(shop: &Client, status: &str) -> usize {
    shop.get(&format!("{NOTIFICATIONS}?status={status}&limit=100")).await.expect(200, "SUCCESS").items().len()
}

/// A shop whose receiver has refused webhooks about this many payments.
async fn refused(house: &House, payments: usize) -> (Client, Receiver, String) {
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    receiver.answer(400);
    let made = shop.post(ENDPOINTS, json!({ "url": receiver.url })).await.expect(201, "SUCCESS");
    for number in 0..payments {
        shop.pay(&format!("O-{number}"), 900, json!({})).await.expect(201, "SUCCESS");
    }
    eventually("all are given up", || async { Some(()).filter(|()| receiver.deliveries().len() >= payments) }).await;
    eventually("all failed", || async {
        let failed = count(&shop, "failed").await;
        Some(()).filter(|()| failed == payments)
    })
    .await;
    let id = made.data("id").to_owned();
    (shop, receiver, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_catches_up_with_what_it_has_missed() {
    let house = House::start().await;
    let (shop, receiver, id) = refused(&house, 5).await;
    receiver.answer(200);
    let recover = format!("{ENDPOINTS}/{id}/recover");
    for (body, field) in [
        (json!({}), "since"),
        (json!({ "since": "yesterday" }), "since"),
        (json!({ "since": 5 }), "since"),
        (json!({ "since": "2999-01-01T00:00:00Z" }), "since"),
        (json!({ "since": LONG_AGO, "until": LONG_AGO }), "until"),
    ] {
        let answer = shop.post(&recover, body.clone()).await.expect(400, "INVALID_REQUEST");
        assert_eq!(answer.wrong_fields(), [field], "{body}: {}", answer.text);
    }
    let stranger = house.merchant("premium").await;
    stranger.post(&recover, json!({ "since": LONG_AGO })).await.expect(404, "NOT_FOUND");

    let job = shop.post_with_key(&recover, json!({ "since": LONG_AGO }), "k").await.expect(202, "SUCCESS");
    assert_eq!((job.data("kind"), job.data("endpoint_id")), ("recover", id.as_str()));
    let again = shop.post_with_key(&recover, json!({ "since": LONG_AGO }), "k").await;
    assert_eq!((again.status, &again.text), (202, &job.text), "one job for one key");
    let ended = done(&shop, &job).await;
    assert_eq!((ended.data("status"), ended.body["data"]["changed"].as_u64()), ("done", Some(5)), "{}", ended.text);
    eventually("all have arrived", || async { Some(()).filter(|()| receiver.deliveries().len() >= 10) }).await;
    eventually("all are known to have", || async {
        let taken = count(&shop, "success").await;
        Some(()).filter(|()| taken == 5)
    })
    .await;
    assert_eq!(shop.get(JOBS).await.expect(200, "SUCCESS").items().len(), 1);
    let path = format!("{JOBS}/{}", job.data("id"));
    stranger.get(&path).await.expect(404, "NOT_FOUND");
    shop.post(&format!("{path}/cancel"), json!({})).await.expect(409, "INVALID_STATE");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_sent_again_and_given_up_by_filter() {
    let house = House::start().await;
    let (shop, receiver, id) = refused(&house, 3).await;
    let payment_no = shop.get(&format!("{NOTIFICATIONS}?limit=1")).await.items()[0]["payment_no"].clone();
    for (path, body) in [
        ("retry", json!({})),
        ("cancel", json!({})),
        ("retry", json!({ "status": "success" })),
        ("retry", json!({ "status": "sent" })),
        ("cancel", json!({ "status": "failed" })),
        ("retry", json!({ "event": "payment.successful" })),
        ("retry", json!({ "from": "now" })),
        ("retry", json!({ "since": LONG_AGO })),
        ("retry", json!({ "merchant_id": "m_1" })),
    ] {
        shop.post(&format!("{NOTIFICATIONS}/{path}"), body).await.expect(400, "INVALID_REQUEST");
    }
    let retry = |body: Value| async { shop.post(&format!("{NOTIFICATIONS}/retry"), body).await };
    let elsewhere = retry(json!({ "endpoint_id": "we_of_another" })).await;
    elsewhere.expect(404, "NOT_FOUND");
    receiver.answer(200);
    let job = retry(json!({ "payment_no": payment_no })).await.expect(202, "SUCCESS");
    let ended = done(&shop, &job).await;
    assert_eq!(ended.body["data"]["changed"], 1, "{}", ended.text);
    eventually("it has arrived", || async {
        let taken = count(&shop, "success").await;
        Some(()).filter(|()| taken == 1)
    })
    .await;
    assert_eq!(count(&shop, "failed").await, 2, "the others are left alone");

    // What waits for a paused endpoint is given up.
    let path = format!("{ENDPOINTS}/{id}");
    shop.request("PATCH", &path, Some(json!({ "status": "paused" }).to_string()), None).await.expect(200, "SUCCESS");
    for number in 0..4 {
        shop.pay(&format!("P-{number}"), 900, json!({})).await.expect(201, "SUCCESS");
    }
    let cancel = format!("{NOTIFICATIONS}/cancel");
    let job = shop.post(&cancel, json!({ "endpoint_id": id })).await.expect(202, "SUCCESS");
    assert_eq!(done(&shop, &job).await.body["data"]["changed"], 4);
    assert_eq!((count(&shop, "pending").await, count(&shop, "failed").await), (0, 6));
    assert_eq!(receiver.deliveries().len(), 4, "three refused, one taken");
    house.stop().await;
}
