//! What is found when the store is looked at now and then.

use std::time::Duration;

use super::fixture::{FakeReceiver, Fixture, START, answer, settle, webhook_config};
use super::store::store;
use crate::clock::Clock;
use crate::domain::event::EventName;
use crate::domain::ids::EndpointId;
use crate::domain::webhook::{Endpoint, EndpointHealth};
use crate::gateway::webhooks::metrics::look;
use crate::gateway::webhooks::{SettableStatus, UpdateEndpoint};
use crate::storage::{Batch, Store, keys, record};

/// A receiver that takes nothing, so that all stays due.
async fn fixture() -> Fixture {
    let clock = Clock::virtual_from(START);
    let receiver = FakeReceiver::new(&clock, |_, _| answer(503));
    Fixture::start(&store(), &clock, receiver, webhook_config()).await
}

fn figure(fixture: &Fixture, name: &str) -> f64 {
    let text = fixture.webhooks.core.figures.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("tollgate_webhook_{name} ")));
    line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
}

fn is(fixture: &Fixture, name: &str, expected: f64) {
    let found = figure(fixture, name);
    assert!((found - expected).abs() < 0.5, "{name}: {found}, expected {expected}");
}

async fn set(fixture: &Fixture, endpoint_id: &EndpointId, status: SettableStatus) {
    let changes = UpdateEndpoint { status: Some(status), ..UpdateEndpoint::default() };
    fixture.webhooks.update_endpoint(&fixture.merchant_id, endpoint_id, changes).await.unwrap();
}

fn stored(fixture: &Fixture, endpoint_id: &EndpointId) -> Endpoint {
    let row = fixture.store.get(&keys::endpoint(&fixture.merchant_id, endpoint_id)).unwrap().unwrap();
    record::decode(&row.value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_counted_and_its_age_told_by_whether_it_may_be_sent() {
    let fixture = fixture().await;
    let (paused, waiting) =
        (fixture.endpoint("https://a.example/").await, fixture.endpoint("https://b.example/").await);
    look(&fixture.webhooks).await;
    is(&fixture, "waiting", 0.0);
    is(&fixture, "endpoints{status=\"enabled\"}", 2.0);
    set(&fixture, &paused, SettableStatus::Paused).await;
    for number in 0..3 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    settle().await;
    fixture.pass(Duration::from_secs(100)).await;
    fixture.webhooks.read_figures();
    is(&fixture, "waiting", 6.0);
    look(&fixture.webhooks).await;
    is(&fixture, "waiting", 6.0);
    is(&fixture, "oldest_held_age_seconds", 100.0);
    // Every try of the other is made in time, so nothing of it is late.
    assert!(figure(&fixture, "oldest_due_age_seconds") < 2.0);
    is(&fixture, "endpoints{status=\"paused\"}", 1.0);

    // A breaker that is open holds back, too.
    let open_until = fixture.clock.now().plus(Duration::from_secs(10_000));
    let health = EndpointHealth { open_until: Some(open_until), ..EndpointHealth::default() };
    let mut batch = Batch::new();
    batch.put(keys::endpoint_health(&fixture.merchant_id, &waiting), record::encode(&health).unwrap());
    fixture.store.commit(batch).await.unwrap();
    fixture.webhooks.actors.forget_health(&waiting);
    fixture.webhooks.delete_endpoint(&fixture.merchant_id, &paused).await.unwrap();
    fixture.pass(Duration::from_secs(200)).await;
    look(&fixture.webhooks).await;
    is(&fixture, "breakers_open", 1.0);
    is(&fixture, "waiting", 3.0);
    let (held, due) = (figure(&fixture, "oldest_held_age_seconds"), figure(&fixture, "oldest_due_age_seconds"));
    assert!(held > 50.0 && due < 2.0, "{held} {due}");
    let view = fixture.webhooks.get_endpoint(&fixture.merchant_id, &waiting).unwrap();
    assert_eq!((view.health.state.as_str(), view.health.breaker.as_str()), ("open", "open"));
    fixture.webhooks.delete_endpoint(&fixture.merchant_id, &waiting).await.unwrap();
    let left = fixture.store.get(&keys::endpoint_health(&fixture.merchant_id, &waiting)).unwrap();
    assert!(left.is_none(), "health goes with its endpoint");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_signs_no_more_is_not_kept() {
    let fixture = fixture().await;
    let endpoint_id = fixture.endpoint("https://a.example/").await;
    fixture.webhooks.rotate_secret(&fixture.merchant_id, &endpoint_id).await.unwrap();
    fixture.pass(Duration::from_secs(3_600)).await;
    fixture.webhooks.rotate_secret(&fixture.merchant_id, &endpoint_id).await.unwrap();
    look(&fixture.webhooks).await;
    assert_eq!(stored(&fixture, &endpoint_id).secrets.former.len(), 2, "both may be in use");
    fixture.pass(Duration::from_secs(86_400 - 3_599)).await;
    look(&fixture.webhooks).await;
    assert_eq!(stored(&fixture, &endpoint_id).secrets.former.len(), 1);
    let view = fixture.webhooks.get_endpoint(&fixture.merchant_id, &endpoint_id).unwrap();
    assert!(view.previous_secret_valid_until.is_some());
    fixture.pass(Duration::from_secs(3_600)).await;
    look(&fixture.webhooks).await;
    let endpoint = stored(&fixture, &endpoint_id);
    assert!(endpoint.secrets.former.is_empty());
    assert!(endpoint.updated_at < START.plus(Duration::from_secs(3_700)), "nobody has changed it since");
}
