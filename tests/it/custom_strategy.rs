//! The example of a strategy of one's own does what its head says.

#[allow(dead_code, reason = "its main is the example's")]
#[path = "../../examples/custom_strategy.rs"]
mod example;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_keeps_subscriptions_where_the_card_is_on_file() {
    let lines = example::run().await.unwrap();
    let said = lines.join("\n");
    assert!(lines[0].starts_with("order: "), "{said}");
    assert!(!lines[0].contains("card_on_file"), "{said}");
    assert!(lines.iter().any(|line| line == "subscription: stripe by card_on_file"), "{said}");
}
