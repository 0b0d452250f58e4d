//! What was given up: how long it is kept, and when it is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fixture::{FakeReceiver, Fixture, START, answer, event, webhook_config};
use super::jobs::{ended, set};
use super::store::store;
use crate::actors::webhook::rows::{self, Planned};
use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::domain::audit::Operator;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, JobId, NotificationId};
use crate::domain::webhook::{Endpoint, EndpointHealth, EndpointStatus, JobKind, WebhookJob};
use crate::gateway::error::{GatewayError, JobRefusal};
use crate::gateway::page::PageRequest;
use crate::gateway::webhooks::{JobView, Kept, NotificationFilter, SettableStatus, UpdateEndpoint};
use crate::storage::{Batch, Store, keys, record};

const URL: &str = "https://example.com/hook";
/// In which the work that nobody asks for is looked for once, and done.
const SWEEP: Duration = Duration::from_secs(310);
const DAY: Duration = Duration::from_secs(86_400);

fn endpoint(fixture: &Fixture, endpoint_id: &EndpointId) -> Endpoint {
    let key = keys::endpoint(&fixture.merchant_id, endpoint_id);
    record::decode(&fixture.store.get(&key).unwrap().unwrap().value).unwrap()
}

fn count(fixture: &Fixture, failure: &str) -> usize {
    let mut found = 0;
    let mut cursor = None;
    loop {
        let filter = NotificationFilter { failure: Some(failure.to_owned()), ..NotificationFilter::default() };
        let page = PageRequest { limit: Some(100), cursor };
        let page = fixture.webhooks.list_notifications(&fixture.merchant_id, &filter, &page).unwrap();
        found += page.items.len();
        cursor = page.next_cursor;
        if cursor.is_none() {
            return found;
        }
    }
}

fn jobs(fixture: &Fixture, kind: &str) -> Vec<JobView> {
    let page = PageRequest { limit: Some(100), cursor: None };
    let jobs = fixture.webhooks.list_jobs(&fixture.merchant_id, &page).unwrap().items;
    jobs.into_iter().filter(|job| job.kind == kind).collect()
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_an_endpoint_that_is_gone_is_kept_and_sent_if_wished() {
    for is_wished in [false, true] {
        let (store, clock) = (store(), Clock::virtual_from(START));
        let is_gone = Arc::new(AtomicBool::new(true));
        let gone = Arc::clone(&is_gone);
        let receiver =
            FakeReceiver::new(&clock, move |_, _| answer(if gone.load(Ordering::SeqCst) { 410 } else { 200 }));
        let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
        let endpoint_id = fixture.endpoint(URL).await;
        set(&fixture, &endpoint_id, EndpointStatus::Paused).await;
        for number in 0..301 {
            fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
        }
        let status = |status| UpdateEndpoint { status: Some(status), ..UpdateEndpoint::default() };
        let enable = || async {
            let changes = status(SettableStatus::Enabled);
            fixture.webhooks.update_endpoint(&fixture.merchant_id, &endpoint_id, changes).await.unwrap()
        };
        enable().await;
        fixture.pass(2 * SWEEP).await;
        assert_eq!(endpoint(&fixture, &endpoint_id).status, EndpointStatus::Disabled);
        assert_eq!(fixture.due(), 0);
        // Each that was asked about was answered that it is gone; all the others are kept.
        let asked = receiver.seen().len();
        assert_eq!((count(&fixture, "refused"), count(&fixture, "endpoint_disabled")), (asked, 301 - asked));
        // So is what happens now.
        for number in 0..10 {
            fixture.publish(EventName::PaymentSuccess, &format!("LATER{number}")).await;
        }
        fixture.pass(DAY).await;
        assert_eq!((receiver.seen().len(), fixture.due()), (asked, 0));
        let kept = 301 - asked + 10;
        assert_eq!(store.count(&keys::dead_letters()), asked + kept);
        let one = NotificationId::new(fixture.notifications()[0].id.as_str());
        let refused = fixture.webhooks.retry_notification(&fixture.merchant_id, &one).await;
        assert!(matches!(&refused, Err(GatewayError::InvalidState { status }) if status == "disabled"), "{refused:?}");
        is_gone.store(false, Ordering::SeqCst);
        let disabled = endpoint(&fixture, &endpoint_id);
        enable().await;
        if is_wished {
            let (mut batch, mut planned) = (Batch::new(), Planned::default());
            fixture.webhooks.add_enable_job(&mut batch, &mut planned, &disabled).unwrap();
            store.commit(batch).await.unwrap();
            fixture.webhooks.announce(planned);
        }
        fixture.pass(Duration::from_secs(3_600)).await;
        let sent = if is_wished { kept } else { 0 };
        assert_eq!((fixture.due(), receiver.seen().len()), (0, asked + sent));
        assert_eq!(store.count(&keys::dead_letters()), asked + kept - sent);
        let jobs = jobs(&fixture, "enable");
        assert_eq!(jobs.iter().map(|job| job.changed).sum::<u64>(), u64::try_from(sent).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_enabled_again_keeps_what_waits_for_it() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver, webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    set(&fixture, &endpoint_id, EndpointStatus::Paused).await;
    for number in 0..300 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    fixture.webhooks.stop(Duration::from_secs(1)).await;
    let of_endpoint = (fixture.merchant_id.clone(), endpoint_id.clone());
    for (kind, number) in [(JobKind::Park, 1), (JobKind::Expire, 2)] {
        let job_id = JobId::new(format!("wj_{number}"));
        // Expire is for paused ones, Park for disabled ones.
        let status = if kind == JobKind::Park { EndpointStatus::Paused } else { EndpointStatus::Enabled };
        set(&fixture, &endpoint_id, status).await;
        let (mut batch, mut planned) = (Batch::new(), Planned::default());
        rows::add_job(
            &mut batch,
            &mut planned,
            &WebhookJob::of_endpoint(job_id.clone(), of_endpoint.clone(), kind, clock.now()),
        )
        .unwrap();
        store.commit(batch).await.unwrap();
        drop(planned);
        let later =
            Fixture::start(&store, &clock, FakeReceiver::new(&clock, |_, _| answer(200)), webhook_config()).await;
        later.pass(Duration::from_millis(1)).await;
        let job = later.webhooks.get_job(&later.merchant_id, &job_id).unwrap();
        assert_eq!((job.status.as_str(), job.looked_at), ("done", 0), "{kind:?}");
        later.webhooks.stop(Duration::from_secs(1)).await;
    }
    assert_eq!(count(&fixture, "endpoint_disabled") + count(&fixture, "expired"), 0);
}

async fn set_health(fixture: &Fixture, endpoint_id: &EndpointId, change: impl FnOnce(&mut EndpointHealth)) {
    let key = keys::endpoint_health(&fixture.merchant_id, endpoint_id);
    let stored = fixture.store.get(&key).unwrap();
    let mut health: EndpointHealth = stored.map(|stored| record::decode(&stored.value).unwrap()).unwrap_or_default();
    change(&mut health);
    let mut batch = Batch::new();
    batch.put(key, record::encode(&health).unwrap());
    fixture.store.commit(batch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_sent_again_when_their_endpoint_has_answered_well_since_and_five_times_at_most() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| answer(if number == 1 { 404 } else { 503 }));
    let config = WebhookConfig { max_attempts: 1, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    let endpoint_id = fixture.endpoint(URL).await;
    for number in 0..3 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
        fixture.pass(Duration::from_secs(1)).await;
    }
    let dead_at = clock.now();
    set_health(&fixture, &endpoint_id, |health| health.dead_until_success = Some(dead_at)).await;
    fixture.pass(DAY).await;
    assert_eq!(receiver.seen().len(), 3, "it has not answered well since");
    set_health(&fixture, &endpoint_id, |health| health.last_success_at = Some(dead_at)).await;
    fixture.pass(SWEEP).await;
    assert_eq!(receiver.seen().len(), 3, "that was before");
    let now = clock.now();
    set_health(&fixture, &endpoint_id, |health| {
        health.last_success_at = Some(now);
        health.open_until = Some(now.plus(2 * SWEEP));
    })
    .await;
    fixture.pass(SWEEP).await;
    assert_eq!(receiver.seen().len(), 3, "its breaker is open");
    for round in 1..=8 {
        let now = clock.now();
        set_health(&fixture, &endpoint_id, |health| {
            health.dead_until_success = Some(now);
            health.last_success_at = Some(now.plus(Duration::from_millis(1)));
            health.open_until = None;
        })
        .await;
        fixture.pass(SWEEP).await;
        // Not what was refused.
        assert_eq!(receiver.seen().len(), 3 + 2 * round.min(5), "round {round}");
        fixture.pass(SWEEP).await;
        assert_eq!(receiver.seen().len(), 3 + 2 * round.min(5), "once for each time that it has recovered");
    }
    assert_eq!(jobs(&fixture, "sweep").len(), 8);
    let times: Vec<u32> = fixture.notifications().iter().map(|view| view.attempts).collect();
    assert_eq!(times, [6, 1, 6]);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_an_endpoint_that_is_gone_goes() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver, webhook_config()).await;
    let endpoint_id = EndpointId::new("we_gone");
    set_health(&fixture, &endpoint_id, |health| {
        health.dead_until_success = Some(START);
        health.last_success_at = Some(START.plus(DAY));
    })
    .await;
    fixture.pass(SWEEP).await;
    assert_eq!((store.count(&keys::endpoint_healths()), jobs(&fixture, "sweep").len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_paused_endpoint_expires() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    let days = u32::try_from(fixture.webhooks.core.config.retention.notifications_days).unwrap();
    set(&fixture, &endpoint_id, EndpointStatus::Paused).await;
    for number in 0..100 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
    }
    fixture.pass(DAY * (days - 1)).await;
    assert_eq!((fixture.due(), jobs(&fixture, "expire").len()), (100, 0));
    fixture.publish(EventName::PaymentSuccess, "LATER").await;
    fixture.pass(DAY + SWEEP).await;
    assert_eq!((fixture.due(), count(&fixture, "expired")), (1, 100));
    let job = jobs(&fixture, "expire").remove(0);
    assert_eq!((job.status.as_str(), job.changed, job.looked_at), ("done", 100, 100));
    assert_eq!(store.count(&keys::dead_letters()), 0);
    set(&fixture, &endpoint_id, EndpointStatus::Enabled).await;
    fixture.pass(Duration::from_secs(60)).await;
    assert_eq!((fixture.due(), receiver.seen().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_webhooks_of_a_merchant_that_was_removed_end() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(500));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let first = fixture.endpoint(URL).await;
    let paused = fixture.endpoint("https://paused.example/").await;
    set(&fixture, &paused, EndpointStatus::Paused).await;
    set_health(&fixture, &first, |health| health.tries_since_success = 1).await;
    for number in 0..100 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(Duration::from_millis(500)).await;
    let before = receiver.seen().len();
    assert!(before > 0);
    let purge = WebhookJob::new(JobId::new("wj_1"), fixture.merchant_id.clone(), JobKind::Purge, clock.now());
    let (mut batch, mut planned) = (Batch::new(), Planned::default());
    rows::add_job(&mut batch, &mut planned, &purge).unwrap();
    store.commit(batch).await.unwrap();
    fixture.webhooks.announce(planned);
    let canceled = fixture.webhooks.cancel_job(&fixture.merchant_id, &purge.id).await;
    assert!(matches!(canceled, Err(GatewayError::JobRefused(JobRefusal::HasToBeDone("purge")))), "{canceled:?}");
    let job = fixture.webhooks.get_job(&fixture.merchant_id, &purge.id).unwrap();
    let job = ended(&fixture, &job).await;
    assert_eq!((job.status.as_str(), job.looked_at), ("done", 200));
    let seen = receiver.seen().len();
    fixture.pass(DAY).await;
    assert_eq!((receiver.seen().len(), fixture.due(), count(&fixture, "endpoint_deleted")), (seen, 0, 200));
    let left =
        [keys::endpoints(), keys::endpoint_healths(), keys::webhook_jobs_open()].map(|prefix| store.count(&prefix));
    assert_eq!(left, [0, 0, 0]);
    let canceled = fixture.webhooks.cancel_job(&fixture.merchant_id, &purge.id).await;
    assert!(matches!(canceled, Err(GatewayError::InvalidState { .. })));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_of_one_endpoint_are_listed_by_their_own_index() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, request| answer(if request.url.contains("no") { 404 } else { 200 }));
    let fixture = Fixture::start(&store, &clock, receiver, webhook_config()).await;
    let no = fixture.endpoint("https://no.example/").await;
    fixture.endpoint("https://yes.example/").await;
    let mut times = Vec::new();
    for number in 0..30 {
        times.push(clock.now());
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:02}")).await;
        fixture.pass(Duration::from_secs(1)).await;
    }
    let list = |filter: &NotificationFilter| {
        let mut numbers = Vec::new();
        let mut cursor = None;
        loop {
            let page = PageRequest { limit: Some(7), cursor };
            let page = fixture.webhooks.list_notifications(&fixture.merchant_id, filter, &page).unwrap();
            numbers.extend(page.items.into_iter().map(|view| (view.payment_no.unwrap(), view.status)));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return numbers;
            }
        }
    };
    let failed = |numbers: std::ops::Range<usize>| -> Vec<(String, String)> {
        numbers.rev().map(|number| (format!("PY{number:02}"), String::from("failed"))).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    let refused = NotificationFilter {
        endpoint_id: text(no.as_str()),
        failure: text("refused"),
        ..NotificationFilter::default()
    };
    assert_eq!(list(&refused), failed(0..30));
    let between = NotificationFilter { from: Some(times[10]), to: Some(times[20]), ..refused.clone() };
    assert_eq!(list(&between), failed(10..20));
    let of_all = NotificationFilter { endpoint_id: None, ..between };
    assert_eq!(list(&of_all), failed(10..20));
    let exhausted = NotificationFilter { failure: text("exhausted"), ..refused.clone() };
    assert_eq!(list(&exhausted), []);
    let elsewhere = NotificationFilter { endpoint_id: text("we_other"), ..refused };
    assert_eq!(list(&elsewhere), []);
    let nothing = NotificationFilter { from: Some(times[20]), to: Some(times[10]), ..NotificationFilter::default() };
    assert_eq!(list(&nothing), []);
}

#[tokio::test(start_paused = true)]
async fn what_was_planned_while_an_endpoint_was_disabled_and_committed_after_is_sent_too() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    set(&fixture, &endpoint_id, EndpointStatus::Disabled).await;
    fixture.publish(EventName::PaymentSuccess, "PY0").await;
    fixture.pass(Duration::from_secs(1)).await;
    let mut straggler = Batch::new();
    let late = event(EventName::PaymentSuccess, "PY1", clock.now());
    let planned = fixture.webhooks.plan(&mut straggler, &fixture.merchant_id, &late, None).unwrap();
    let changes =
        UpdateEndpoint { status: Some(SettableStatus::Enabled), kept: Some(Kept::Send), ..UpdateEndpoint::default() };
    fixture.webhooks.update_endpoint(&fixture.merchant_id, &endpoint_id, changes).await.unwrap();
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(receiver.seen().len(), 1, "what was kept is sent at once");
    store.commit(straggler).await.unwrap();
    fixture.webhooks.announce(planned);
    // One that was planned with the list of endpoints as it was, after the change.
    let mut stored = endpoint(&fixture, &endpoint_id);
    stored.disable("as the list still says", clock.now());
    let mut batch = Batch::new();
    let last = event(EventName::PaymentSuccess, "PY2", clock.now());
    let (_, changed) = fixture.webhooks.planner.notify(&mut batch, &stored, &last, None).unwrap();
    store.commit(batch).await.unwrap();
    fixture.webhooks.count(&changed);
    fixture.pass(Duration::from_secs(10)).await;
    assert_eq!((receiver.seen().len(), count(&fixture, "endpoint_disabled")), (3, 0));
    let [job] = <[JobView; 1]>::try_from(jobs(&fixture, "enable")).unwrap();
    assert_eq!((job.status.as_str(), job.changed), ("done", 3));
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_released_gradually() {
    for is_reset in [false, true] {
        let (store, clock) = (store(), Clock::virtual_from(START));
        let is_gone = Arc::new(AtomicBool::new(true));
        let gone = Arc::clone(&is_gone);
        let status = if is_reset { 503 } else { 410 };
        let receiver =
            FakeReceiver::new(&clock, move |_, _| answer(if gone.load(Ordering::SeqCst) { status } else { 200 }));
        let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
        let endpoint_id = fixture.endpoint(URL).await;
        for number in 0..200 {
            fixture.publish(EventName::PaymentSuccess, &format!("PY{number:03}")).await;
        }
        // Until it was disabled, or its breaker has opened for the longest time.
        fixture.pass(Duration::from_secs(3_600)).await;
        is_gone.store(false, Ordering::SeqCst);
        let asked = receiver.seen().len();
        if is_reset {
            let health = fixture.webhooks.get_endpoint(&fixture.merchant_id, &endpoint_id).unwrap().health;
            assert_eq!(health.breaker, "open", "{health:?}");
            let by = Operator::process("test");
            let view = fixture.webhooks.reset_any_health(&endpoint_id, &by).await.unwrap();
            assert_eq!((view.endpoint.health.breaker.as_str(), view.endpoint.waiting), ("closed", Some(200)));
        } else {
            assert_eq!(endpoint(&fixture, &endpoint_id).status, EndpointStatus::Disabled);
            let changes = UpdateEndpoint {
                status: Some(SettableStatus::Enabled),
                kept: Some(Kept::Send),
                ..UpdateEndpoint::default()
            };
            fixture.webhooks.update_endpoint(&fixture.merchant_id, &endpoint_id, changes).await.unwrap();
        }
        fixture.pass(Duration::from_millis(990)).await;
        let in_a_second = receiver.seen().len() - asked;
        assert!((1..=11).contains(&in_a_second), "{in_a_second} in the first second");
        fixture.pass(Duration::from_secs(30)).await;
        assert!(receiver.seen().len() - asked >= 190, "{} of 200", receiver.seen().len() - asked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_was_cut_off_is_made_up_for_after_the_next_success() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let receiver = FakeReceiver::new(&clock, move |_, _| answer(if down.load(Ordering::SeqCst) { 503 } else { 200 }));
    let config = WebhookConfig { max_attempts: 1, breaker_min: 1_000, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    let endpoint_id = fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY0").await;
    fixture.pass(Duration::from_secs(1)).await;
    is_down.store(false, Ordering::SeqCst);
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(Duration::from_secs(1)).await;
    // It is disabled between what finds that there is something to sweep and the sweep itself.
    let mut sweep = WebhookJob::of_endpoint(
        JobId::new("wj_0"),
        (fixture.merchant_id.clone(), endpoint_id.clone()),
        JobKind::Sweep,
        clock.now(),
    );
    sweep.until = Some(clock.now());
    set_health(&fixture, &endpoint_id, |health| health.dead_until_success = None).await;
    set(&fixture, &endpoint_id, EndpointStatus::Disabled).await;
    let (mut batch, mut planned) = (Batch::new(), Planned::default());
    rows::add_job(&mut batch, &mut planned, &sweep).unwrap();
    store.commit(batch).await.unwrap();
    fixture.webhooks.announce(planned);
    let job = fixture.webhooks.get_job(&fixture.merchant_id, &sweep.id).unwrap();
    assert_eq!(ended(&fixture, &job).await.status, "failed");
    set(&fixture, &endpoint_id, EndpointStatus::Enabled).await;
    fixture.pass(2 * SWEEP).await;
    assert_eq!(count(&fixture, "exhausted"), 1, "it has taken nothing since");
    fixture.publish(EventName::PaymentSuccess, "PY2").await;
    fixture.pass(2 * SWEEP).await;
    assert_eq!(count(&fixture, "exhausted"), 0);
}
