//! What is taken, what is refused, and what is kept before the provider is told so.

use bytes::Bytes;
use serde_json::json;

use super::fixture::{House, pass};
use crate::gateway::error::GatewayError;
use crate::storage::{DISK_SPACE_IS_LOW, StoreError};

#[tokio::test(start_paused = true)]
async fn the_same_notification_counts_once_however_often_it_comes() {
    let house = House::new().await;
    let payment = house.pay("O-1").await;
    assert_eq!(payment.status.as_str(), "requires_action");
    for _ in 0..3 {
        house.tell("evt_1", &payment).await;
    }
    pass(1).await;
    for _ in 0..2 {
        house.tell("evt_1", &payment).await;
    }
    pass(5).await;
    assert_eq!(house.payment(payment.payment_no.as_str()).status.as_str(), "success");
    assert_eq!((house.inbox().len(), house.resolves(), house.open()), (1, 1, 0));
    assert_eq!(house.outcome().as_deref(), Some("asked"));
    assert_eq!(house.events(), ["payment.requires_action", "payment.success"]);
    house.has_figure(r#"tollgate_callbacks_total{channel="stripe",outcome="taken"} 1"#);
    house.has_figure(r#"tollgate_callbacks_total{channel="stripe",outcome="duplicate"} 4"#);
    house.has_figure("tollgate_callbacks_open 0");
}

#[tokio::test(start_paused = true)]
async fn it_is_durable_before_the_provider_reads_that_it_was_taken() {
    let house = House::over(Default::default(), &crate::clock::Clock::virtual_from(START), |_| {}).await;
    let body = json!({ "id": "evt_1", "subjects": [{ "provider_no": "ch_1" }] });
    let refusals = [
        (StoreError::Overloaded("full"), "overloaded"),
        (StoreError::Overloaded(DISK_SPACE_IS_LOW), "low"),
        (StoreError::Indeterminate(String::from("who knows")), "overloaded"),
        (StoreError::Poisoned(String::from("broken")), "overloaded"),
    ];
    for (error, expected) in refusals {
        *house.store.refuses.lock() = Some(error.clone());
        let refused = house.arrives("right", &body).await.unwrap_err();
        let kind = match refused {
            GatewayError::Overloaded { .. } => "overloaded",
            GatewayError::StorageLow => "low",
            other => panic!("{error:?}: {other:?}"),
        };
        assert_eq!((kind, house.inbox().len()), (expected, 0), "{error:?}");
    }
    house.has_figure(r#"tollgate_callbacks_total{channel="stripe",outcome="unavailable"} 4"#);
    *house.store.refuses.lock() = None;
    assert_eq!(house.arrives("right", &body).await.unwrap().body, "success");
    assert_eq!((house.inbox().len(), house.open()), (1, 1), "kept when the provider is told, and not gone into yet");
}

use crate::gateway::payments::tests::fixture::START;

#[tokio::test(start_paused = true)]
async fn what_is_not_proved_leaves_no_trace_and_asks_nothing() {
    let house = House::new().await;
    let payment = house.pay("O-1").await;
    let body =
        json!({ "id": "evt_1", "subjects": [{ "reference": payment.payment_no.as_str(), "merchant_id": "m_1" }] });
    let before = house.core.store.health().committed;
    for _ in 0..10_000 {
        assert!(matches!(house.arrives("wrong", &body).await, Err(GatewayError::Unauthenticated)));
    }
    for signature in ["stale", "account", "mode"] {
        assert!(matches!(house.arrives(signature, &body).await, Err(GatewayError::Unauthenticated)), "{signature}");
    }
    for body in [json!("half"), json!({ "id": "" }), json!({ "id": "x\u{0}y" }), json!({ "id": "x".repeat(129) })] {
        assert!(matches!(house.arrives("right", &body).await, Err(GatewayError::Unauthenticated)), "{body}");
    }
    let nothing = house.callbacks.receive("stripe", Vec::new(), None, Bytes::new()).await;
    assert!(matches!(nothing, Err(GatewayError::Unauthenticated)));
    assert!(matches!(house.arrives("certificate", &body).await, Err(GatewayError::Overloaded { .. })));
    assert!(matches!(house.arrives("unsupported", &body).await, Err(GatewayError::NotFound(_))));
    pass(60).await;
    assert_eq!((house.inbox().len(), house.provider.asked(), house.core.store.health().committed), (0, 0, before));
    house.has_figure(r#"tollgate_callbacks_total{channel="stripe",outcome="refused"} 10008"#);
    house.has_figure(r#"tollgate_callbacks_total{channel="stripe",outcome="unavailable"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn only_channels_that_understand_notifications_take_them() {
    let house = House::new().await;
    assert!(house.callbacks.takes("stripe"));
    for channel in ["alipay", "nobody", "", "stripe/x"] {
        assert!(!house.callbacks.takes(channel), "{channel}");
        let refused = house.callbacks.receive(channel, Vec::new(), None, Bytes::new()).await;
        assert!(matches!(refused, Err(GatewayError::NotFound(_))), "{channel}");
    }
    // There from the first scrape, for every channel of the configuration.
    house.has_figure(r#"tollgate_callbacks_total{channel="alipay",outcome="taken"} 0"#);
    house.has_figure("tollgate_callbacks_unknown_total 0");
    house.core.stopping.cancel();
    let stopping = house.arrives("right", &json!({ "id": "evt_1" })).await;
    assert!(matches!(stopping, Err(GatewayError::ShuttingDown)));
}

#[tokio::test(start_paused = true)]
async fn what_is_of_no_interest_or_somebody_elses_is_known_and_ignored() {
    let house = House::new().await;
    let foreign = json!([{ "reference": "invoice-7", "merchant_id": "x", "provider_no": "ch_9" }]);
    for (id, subjects) in [("evt_1", json!([])), ("evt_2", foreign), ("evt_3", json!([{}]))] {
        house.arrives("right", &json!({ "id": id, "subjects": subjects })).await.unwrap();
        house.arrives("right", &json!({ "id": id, "subjects": subjects })).await.unwrap();
    }
    pass(5).await;
    let outcomes: Vec<_> = house.inbox().into_iter().map(|row| row.outcome.unwrap()).collect();
    assert_eq!((outcomes, house.provider.asked(), house.open()), (vec!["ignored".to_owned(); 3], 0, 0));
}
