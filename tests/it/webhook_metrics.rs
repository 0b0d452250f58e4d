//! What the operator's figures say about webhooks, with real deliveries.

use serde_json::json;

use crate::support::{House, Receiver, eventually};

const ENDPOINTS: &str = "/api/v1/webhooks/endpoints";

/// A figure's value, by its line up to the value.
async fn figure(house: &House, name: &str) -> f64 {
    let text = house.admin("GET", "/metrics", None).await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("tollgate_webhook_{name} ")));
    line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
}

async fn becomes(house: &House, name: &str, expected: f64) {
    eventually(name, || async {
        let value = figure(house, name).await;
        Some(()).filter(|()| (value - expected).abs() < 0.001)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_there_at_once_and_move_with_what_is_sent() {
    let house = House::start().await;
    let text = house.admin("GET", "/metrics", None).await.text;
    for name in [
        "tries_total{outcome=\"success\"}",
        "tries_total{outcome=\"retry\"}",
        "tries_total{outcome=\"refused\"}",
        "tries_total{outcome=\"gone\"}",
        "tries_total{outcome=\"no_answer\"}",
        "tries_total{outcome=\"not_allowed\"}",
        "notifications_total{end=\"success\"}",
        "notifications_total{end=\"exhausted\"}",
        "notifications_total{end=\"canceled\"}",
        "try_duration_seconds_count",
        "delivery_latency_seconds_bucket{le=\"0.005\"}",
        "in_flight{pool=\"quick\"}",
        "in_flight{pool=\"slow\"}",
        "connections_idle",
        "dns_lookups_total{result=\"cached\"}",
        "unreadable",
        "results_waiting",
        "oldest_due_age_seconds",
        "oldest_held_age_seconds",
        "waiting",
        "dead_letters",
        "breakers_open",
        "endpoints{status=\"enabled\"}",
        "endpoints{status=\"paused\"}",
        "endpoints{status=\"disabled\"}",
        "jobs_open",
        "reminded_total",
    ] {
        let start = format!("tollgate_webhook_{name} ");
        assert!(text.lines().any(|line| line.starts_with(&start)), "{name} is missing in\n{text}");
    }
    let shop = house.merchant("premium").await;
    let receiver = Receiver::start().await;
    let made = shop.post(ENDPOINTS, json!({ "url": receiver.url })).await.expect(201, "SUCCESS");
    // Of a new house there is nothing, and that is soon known.
    becomes(&house, "waiting", 0.0).await;
    becomes(&house, "dead_letters", 0.0).await;
    shop.pay("O-1", 900, json!({})).await.expect(201, "SUCCESS");
    becomes(&house, "notifications_total{end=\"success\"}", 1.0).await;
    becomes(&house, "delivery_latency_seconds_count", 1.0).await;
    receiver.answer(400);
    shop.pay("O-2", 900, json!({})).await.expect(201, "SUCCESS");
    becomes(&house, "notifications_total{end=\"refused\"}", 1.0).await;
    becomes(&house, "dead_letters", 1.0).await;
    assert!((figure(&house, "tries_total{outcome=\"success\"}").await - 1.0).abs() < 0.001);
    assert!((figure(&house, "tries_total{outcome=\"refused\"}").await - 1.0).abs() < 0.001);
    assert!((figure(&house, "try_duration_seconds_count").await - 2.0).abs() < 0.001);
    assert!((figure(&house, "delivery_latency_seconds_count").await - 1.0).abs() < 0.001);
    let path = format!("{ENDPOINTS}/{}", made.data("id"));
    shop.request("PATCH", &path, Some(json!({ "status": "paused" }).to_string()), None).await.expect(200, "SUCCESS");
    shop.pay("O-3", 900, json!({})).await.expect(201, "SUCCESS");
    becomes(&house, "waiting", 1.0).await;

    // After a restart what waits is counted anew, and what is held back is told apart from what is late.
    let directory = house.stop().await;
    let house = House::start_in(directory, |_| {}).await;
    becomes(&house, "waiting", 1.0).await;
    becomes(&house, "dead_letters", 1.0).await;
    becomes(&house, "endpoints{status=\"paused\"}", 1.0).await;
    assert!(figure(&house, "oldest_held_age_seconds").await > 0.0);
    assert!(figure(&house, "oldest_due_age_seconds").await.abs() < 0.001);
    house.stop().await;
}
