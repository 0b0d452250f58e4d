//! What becomes of webhooks when those whom they are for are gone, or were gone for a while.

use serde_json::json;
use tollgate::domain::ids::{EndpointId, JobId, MerchantId};
use tollgate::domain::time::Timestamp;
use tollgate::gateway::page::PageRequest;

use crate::support::{House, Receiver, eventually};

const ENDPOINTS: &str = "/api/v1/webhooks/endpoints";
const NOTIFICATIONS: &str = "/api/v1/webhooks/notifications";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_merchants_webhooks_end() {
    let house = House::start().await;
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let (shop, other) = (house.merchant("premium").await, house.merchant("premium").await);
    for client in [&shop, &other] {
        client.post(ENDPOINTS, json!({ "url": receiver.url })).await.expect(201, "SUCCESS");
        client.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    }
    eventually("the first tries", || async { (receiver.deliveries().len() >= 2).then_some(()) }).await;
    house.admin("DELETE", &format!("/admin/v1/merchants/{}", shop.merchant_id), None).await.expect(200, "SUCCESS");
    let merchant_id = MerchantId::new(shop.merchant_id.as_str());
    let (webhooks, page) = (house.gateway.webhooks(), PageRequest::default());
    eventually("the end of the job", || async {
        let jobs = webhooks.list_jobs(&merchant_id, &page).unwrap().items;
        jobs.iter().any(|job| (job.kind.as_str(), job.status.as_str()) == ("purge", "done")).then_some(())
    })
    .await;
    assert!(webhooks.list_endpoints(&merchant_id, &page).unwrap().items.is_empty());
    let left = webhooks.list_notifications(&merchant_id, &Default::default(), &page).unwrap().items;
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].status.as_str(), left[0].error.as_deref()), ("failed", Some("the endpoint was deleted")));
    assert_eq!(other.get(ENDPOINTS).await.items().len(), 1, "another merchant's stay");
    let others = other.get(NOTIFICATIONS).await.items();
    assert_eq!(others[0]["status"], "retrying");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_an_endpoint_was_gone_is_sent_when_it_is_asked_for() {
    let house = House::start().await;
    let receiver = Receiver::start().await;
    let shop = house.merchant("premium").await;
    let made = shop.post(ENDPOINTS, json!({ "url": receiver.url })).await.expect(201, "SUCCESS");
    let path = format!("{ENDPOINTS}/{}", made.data("id"));
    receiver.answer(410);
    shop.pay("O-gone", 900, json!({})).await.expect(201, "SUCCESS");
    eventually("the endpoint's end", || async { (shop.get(&path).await.data("status") == "disabled").then_some(()) })
        .await;
    let asked = receiver.deliveries().len();
    for number in 0..5 {
        shop.pay(&format!("O-{number}"), 900, json!({})).await.expect(201, "SUCCESS");
    }
    let directory = house.stop().await;
    // The start after it knows of all.
    let house = House::start_in(directory, |_| {}).await;
    let shop = shop.at(&house.url);
    let kept = shop.get(&format!("{NOTIFICATIONS}?status=failed")).await.items();
    assert_eq!(kept.len(), asked + 5);
    assert_eq!(receiver.deliveries().len(), asked, "a disabled endpoint is not told");
    receiver.answer(200);
    let (webhooks, merchant_id) = (house.gateway.webhooks(), MerchantId::new(shop.merchant_id.as_str()));
    let endpoint_id = EndpointId::new(made.data("id"));
    let since = Timestamp::parse_rfc3339(made.data("created_at")).unwrap();
    assert!(webhooks.recover(&merchant_id, &endpoint_id, since).await.is_err(), "it is still disabled");
    shop.request("PATCH", &path, Some(json!({ "status": "enabled" }).to_string()), None).await.expect(200, "SUCCESS");
    let job = webhooks.recover(&merchant_id, &endpoint_id, since).await.unwrap();
    let job = eventually("the end of the job", || async {
        let job = webhooks.get_job(&merchant_id, &JobId::new(job.id.as_str())).unwrap();
        (job.status == "done").then_some(job)
    })
    .await;
    assert_eq!((usize::try_from(job.changed).unwrap(), job.skipped), (kept.len(), 0));
    eventually("the webhooks", || async { (receiver.deliveries().len() >= asked + kept.len()).then_some(()) }).await;
    eventually("their ends", || async {
        shop.get(&format!("{NOTIFICATIONS}?status=failed")).await.items().is_empty().then_some(())
    })
    .await;
    for one in &kept {
        assert!(!receiver.about(one["payment_no"].as_str().unwrap()).is_empty());
    }
    house.stop().await;
}
