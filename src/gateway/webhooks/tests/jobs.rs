//! Work on many notifications at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fixture::{Act, FakeReceiver, Fixture, START, answer, settle, webhook_config};
use super::store::{Stored, TestStore, store};
use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::domain::audit::Operator;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, JobId, MerchantId, NotificationId, dated_number};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{Endpoint, EndpointStatus};
use crate::gateway::error::{GatewayError, JobRefusal};
use crate::gateway::page::PageRequest;
use crate::gateway::webhooks::{JobView, NotificationFilter};
use crate::random::Random;
use crate::storage::{Batch, Store, StoreError, keys, record};

const URL: &str = "https://example.com/hook";
const LONG: Duration = Duration::from_secs(86_400);

/// Sets an endpoint's status as nobody outside can.
pub(super) async fn set(fixture: &Fixture, endpoint_id: &EndpointId, status: EndpointStatus) {
    let key = keys::endpoint(&fixture.merchant_id, endpoint_id);
    let mut endpoint: Endpoint = record::decode(&fixture.store.get(&key).unwrap().unwrap().value).unwrap();
    match status {
        EndpointStatus::Disabled => endpoint.disable("for a test", fixture.clock.now()),
        _ => endpoint.set_status(status, fixture.clock.now()),
    }
    let mut batch = Batch::new();
    batch.put(key, record::encode(&endpoint).unwrap());
    fixture.store.commit(batch).await.unwrap();
    fixture.webhooks.forget_endpoints(&fixture.merchant_id);
}

/// Waits for the end of a job.
pub(super) async fn ended(fixture: &Fixture, job: &JobView) -> JobView {
    let job_id = JobId::new(job.id.as_str());
    for turn in 0..2_000 {
        let job = fixture.webhooks.get_job(&fixture.merchant_id, &job_id).unwrap();
        if job.status != "running" {
            return job;
        }
        // After trouble it is left alone for a while.
        fixture.pass(Duration::from_millis(if turn < 1_000 { 0 } else { 1_000 })).await;
    }
    panic!("{job:?} does not end");
}

fn counts(job: &JobView) -> (&str, u64, u64, u64) {
    (job.status.as_str(), job.looked_at, job.changed, job.skipped)
}

fn statuses(fixture: &Fixture) -> Vec<(String, String, u32)> {
    let view = fixture.notifications().into_iter();
    view.map(|view| (view.payment_no.unwrap(), view.status, view.attempts)).collect()
}

/// An endpoint with so many dead letters that were kept while it was disabled, and is `status` now.
async fn with_dead_letters(fixture: &Fixture, count: usize, status: EndpointStatus) -> EndpointId {
    let endpoint_id = fixture.endpoint(URL).await;
    set(fixture, &endpoint_id, EndpointStatus::Disabled).await;
    for number in 0..count {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number:04}")).await;
    }
    set(fixture, &endpoint_id, status).await;
    endpoint_id
}

fn dead_letters(store: &TestStore) -> usize {
    store.count(&keys::dead_letters())
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_cut_off_everywhere_changes_each_row_once() {
    const ROWS: usize = 1_000;
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = with_dead_letters(&fixture, ROWS, EndpointStatus::Paused).await;
    assert_eq!((dead_letters(&store), fixture.due()), (ROWS, 0));
    let job = fixture.webhooks.recover(&fixture.merchant_id, &endpoint_id, START).await.unwrap();
    fixture.webhooks.stop(Duration::from_secs(1)).await;
    settle().await;
    let indeterminate = || StoreError::Indeterminate(String::from("test"));
    let mut lives = 0_usize;
    let mut progress = Vec::new();
    loop {
        lives += 1;
        assert!(lives < 1_000, "it does not end");
        let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
        match lives % 5 {
            0 => store.fail([(StoreError::Overloaded("test"), Stored::No)]),
            1 => store.fail([(indeterminate(), Stored::No)]),
            2 => store.fail([(indeterminate(), Stored::Yes)]),
            _ => {}
        }
        // Before the commit, in it, and after it.
        for _ in 0..lives % 4 {
            tokio::task::yield_now().await;
        }
        fixture.webhooks.stop(Duration::from_secs(1)).await;
        let job = fixture.webhooks.get_job(&fixture.merchant_id, &JobId::new(job.id.as_str())).unwrap();
        assert_eq!(job.changed, u64::try_from(fixture.due()).unwrap(), "progress is what was done");
        assert_eq!(ROWS - fixture.due(), dead_letters(&store));
        progress.push(job.changed);
        if job.status != "running" {
            assert_eq!(counts(&job), ("done", 1_000, 1_000, 0));
            break;
        }
    }
    while !store.has_failed() {
        let _ = store.commit(Batch::new()).await;
    }
    progress.dedup();
    assert!(progress.len() > 10, "{progress:?} in {lives} lives");
    assert_eq!(store.count(&keys::webhook_jobs_open()), 0);
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    set(&fixture, &endpoint_id, EndpointStatus::Enabled).await;
    fixture.pass(LONG).await;
    let ids: HashSet<String> = receiver.seen().iter().map(|seen| seen.id().to_owned()).collect();
    assert_eq!((ids.len(), receiver.seen().len(), fixture.due()), (ROWS, ROWS, 0));
}

#[tokio::test(start_paused = true)]
async fn rows_that_move_while_a_job_pages_are_taken_once_and_none_is_passed_over() {
    for seed in 0..20 {
        let (store, clock) = (store(), Clock::virtual_from(START));
        // Everything that is sent again is a dead letter again at once, behind where the job is.
        let receiver = FakeReceiver::new(&clock, |_, _| answer(404));
        let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
        let endpoint_id = with_dead_letters(&fixture, 300, EndpointStatus::Enabled).await;
        fixture.pass(Duration::from_secs(1)).await;
        // Commits fail, and rows are found to have changed.
        store.fail_by_chance(&Random::seeded(seed), 30);
        let by_hand: Vec<NotificationId> =
            fixture.notifications().into_iter().take(20).map(|view| NotificationId::new(view.id)).collect();
        let job = fixture.webhooks.recover(&fixture.merchant_id, &endpoint_id, START).await.unwrap();
        settle().await;
        for (number, id) in by_hand.iter().enumerate() {
            let _ = fixture.webhooks.retry_notification(&fixture.merchant_id, id).await;
            fixture.publish(EventName::PaymentFailed, &format!("NEW{number}")).await;
            settle().await;
        }
        let job = ended(&fixture, &job).await;
        fixture.pass(LONG).await;
        assert_eq!(job.status, "done", "seed {seed}");
        assert!((280..=300).contains(&job.changed) && (280..=300).contains(&job.looked_at), "seed {seed}: {job:?}");
        let mut only_by_the_job = 0;
        let mut cursor = None;
        loop {
            let page = PageRequest { limit: Some(100), cursor };
            let filter = NotificationFilter::default();
            let found = fixture.webhooks.list_notifications(&fixture.merchant_id, &filter, &page).unwrap();
            for view in found.items {
                assert_eq!(view.status, "failed", "seed {seed}: {view:?}");
                let is_new = view.payment_no.as_deref().is_some_and(|number| number.starts_with("NEW"));
                let is_by_hand = by_hand.iter().any(|id| id.as_str() == view.id);
                only_by_the_job += usize::from(!is_new && !is_by_hand);
                let attempts_max = if is_by_hand { 2 } else { 1 };
                assert!((1..=attempts_max).contains(&view.attempts), "seed {seed}: {view:?}");
            }
            cursor = found.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(only_by_the_job, 280);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_has_the_whole_schedule_before_it() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let receiver = FakeReceiver::new(&clock, move |_, _| answer(if up.load(Ordering::SeqCst) { 200 } else { 503 }));
    let config = WebhookConfig { max_attempts: 3, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver.clone(), config).await;
    let endpoint_id = fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PY1").await;
    fixture.pass(Duration::from_secs(60)).await;
    assert_eq!(statuses(&fixture), [(String::from("PY1"), String::from("failed"), 3)]);
    let again_at = clock.now();
    let filter = NotificationFilter { endpoint_id: Some(endpoint_id.to_string()), ..NotificationFilter::default() };
    let job = fixture.webhooks.retry_many(&fixture.merchant_id, &filter).await.unwrap();
    assert_eq!(counts(&ended(&fixture, &job).await), ("done", 1, 1, 0));
    fixture.pass(Duration::from_secs(60)).await;
    let waits: Vec<u64> = receiver.seen()[3..].iter().map(|seen| seen.at.since(again_at).as_secs()).collect();
    assert_eq!(waits, [0, 1, 3]);
    assert_eq!(statuses(&fixture), [(String::from("PY1"), String::from("failed"), 6)]);
    is_up.store(true, Ordering::SeqCst);
    fixture.webhooks.retry_many(&fixture.merchant_id, &filter).await.unwrap();
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(statuses(&fixture), [(String::from("PY1"), String::from("success"), 7)]);
    assert_eq!(dead_letters(&store), 0);
}

#[tokio::test(start_paused = true)]
async fn only_what_the_filter_takes_is_sent_again() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| answer(if number < 6 { 404 } else { 200 }));
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    let mut times: Vec<Timestamp> = Vec::new();
    for number in 0..6 {
        let name = if number % 2 == 0 { EventName::PaymentSuccess } else { EventName::RefundFailed };
        times.push(clock.now());
        fixture.publish(name, &format!("PY{number}")).await;
        fixture.pass(Duration::from_secs(1)).await;
    }
    set(&fixture, &endpoint_id, EndpointStatus::Paused).await;
    fixture.publish(EventName::PaymentSuccess, "PY6").await;
    let canceled = NotificationId::new(fixture.notifications()[0].id.as_str());
    fixture.webhooks.cancel_notification(&fixture.merchant_id, &canceled).await.unwrap();
    set(&fixture, &endpoint_id, EndpointStatus::Enabled).await;
    let retried = async |filter: NotificationFilter| {
        let before = receiver.seen().len();
        let job = fixture.webhooks.retry_many(&fixture.merchant_id, &filter).await.unwrap();
        let job = ended(&fixture, &job).await;
        fixture.pass(Duration::from_secs(1)).await;
        assert_eq!(usize::try_from(job.changed).unwrap(), receiver.seen().len() - before);
        let about = |seen: &super::fixture::Seen| {
            serde_json::from_str::<serde_json::Value>(&seen.body).unwrap()["payment_no"].as_str().unwrap().to_owned()
        };
        let mut numbers: Vec<String> = receiver.seen()[before..].iter().map(about).collect();
        numbers.sort();
        numbers.join(" ")
    };
    let none = NotificationFilter::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(retried(NotificationFilter { payment_no: text("PY1"), ..none() }).await, "PY1");
    let early = NotificationFilter { to: Some(times[2]), event: text("payment.success"), ..none() };
    assert_eq!(retried(early).await, "PY0");
    let late = NotificationFilter { from: Some(times[4]), endpoint_id: text(endpoint_id.as_str()), ..none() };
    assert_eq!(retried(late).await, "PY4 PY5", "what was canceled stays so");
    assert_eq!(retried(NotificationFilter { failure: text("canceled"), ..none() }).await, "PY6");
    assert_eq!(retried(NotificationFilter { status: text("failed"), ..none() }).await, "PY2 PY3");
    assert_eq!(retried(NotificationFilter { status: text("failed"), ..none() }).await, "");
}

#[tokio::test(start_paused = true)]
async fn what_was_made_long_before_a_payment_is_not_looked_at_for_it() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver, webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    set(&fixture, &endpoint_id, EndpointStatus::Paused).await;
    for _ in 0..5 {
        fixture.publish(EventName::PaymentSuccess, &dated_number("PY", clock.now(), 1)).await;
    }
    fixture.pass(2 * LONG).await;
    let payment_no = dated_number("PY", clock.now(), 2);
    fixture.publish(EventName::PaymentSuccess, &payment_no).await;
    let filter = NotificationFilter { payment_no: Some(payment_no.clone()), ..NotificationFilter::default() };
    let page = PageRequest { limit: Some(1), cursor: None };
    let listed = fixture.webhooks.list_notifications(&fixture.merchant_id, &filter, &page).unwrap();
    assert_eq!(listed.items[0].payment_no.as_deref(), Some(payment_no.as_str()));
    assert_eq!(listed.next_cursor, None, "there can be nothing before it");
    let job = fixture.webhooks.cancel_many(&fixture.merchant_id, &filter).await.unwrap();
    assert_eq!(counts(&ended(&fixture, &job).await), ("done", 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn looking_at_what_is_not_meant_commits_little() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver, webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    set(&fixture, &endpoint_id, EndpointStatus::Paused).await;
    for number in 0..2_000 {
        let name = if number == 1_500 { EventName::RefundFailed } else { EventName::PaymentSuccess };
        fixture.publish(name, &format!("PY{number:04}")).await;
    }
    let commits = async || store.commit(Batch::new()).await.unwrap().sequence;
    let before = commits().await;
    let filter = NotificationFilter { event: Some(String::from("refund.failed")), ..NotificationFilter::default() };
    let job = fixture.webhooks.cancel_many(&fixture.merchant_id, &filter).await.unwrap();
    assert_eq!(counts(&ended(&fixture, &job).await), ("done", 2_000, 1, 0));
    // Those of 31 pages, if each had one.
    let made = commits().await - before;
    assert!(made <= 8, "{made} commits");
}

#[tokio::test(start_paused = true)]
async fn wrong_requests_for_jobs_are_refused() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver, webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    let none = NotificationFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let (webhooks, merchant_id) = (&fixture.webhooks, &fixture.merchant_id);
    let wrong = [
        ("filter", none()),
        ("status", NotificationFilter { status: text("sent"), ..none() }),
        ("event", NotificationFilter { event: text("payment.*"), ..none() }),
        ("failure", NotificationFilter { failure: text("lost"), ..none() }),
    ];
    for (field, filter) in wrong {
        for refused in
            [webhooks.retry_many(merchant_id, &filter).await, webhooks.cancel_many(merchant_id, &filter).await]
        {
            let Err(GatewayError::InvalidRequest(errors)) = refused else { panic!("{field}: {refused:?}") };
            assert!(errors[0].field == field || errors[0].field == "status", "{field}: {errors:?}");
        }
    }
    let open = NotificationFilter { status: text("retrying"), ..none() };
    assert!(matches!(webhooks.retry_many(merchant_id, &open).await, Err(GatewayError::InvalidRequest(_))));
    let failed = NotificationFilter { status: text("failed"), ..none() };
    assert!(matches!(webhooks.cancel_many(merchant_id, &failed).await, Err(GatewayError::InvalidRequest(_))));
    let given_up = NotificationFilter { failure: text("exhausted"), ..none() };
    let refused = webhooks.cancel_many(merchant_id, &given_up).await;
    let Err(GatewayError::InvalidRequest(errors)) = refused else { panic!("{refused:?}") };
    assert_eq!(errors[0].field, "failure", "the field that was given is the one that is wrong");
    let later = clock.now().plus(Duration::from_secs(1));
    assert!(matches!(webhooks.recover(merchant_id, &endpoint_id, later).await, Err(GatewayError::InvalidRequest(_))));
    let stranger = MerchantId::new("m_2");
    assert!(matches!(webhooks.recover(&stranger, &endpoint_id, START).await, Err(GatewayError::NotFound(_))));
    let of_endpoint = NotificationFilter { endpoint_id: text(endpoint_id.as_str()), ..none() };
    assert!(matches!(webhooks.retry_many(&stranger, &of_endpoint).await, Err(GatewayError::NotFound(_))));
    assert!(matches!(webhooks.cancel_many(&stranger, &of_endpoint).await, Err(GatewayError::NotFound(_))));
    set(&fixture, &endpoint_id, EndpointStatus::Disabled).await;
    for refused in
        [webhooks.recover(merchant_id, &endpoint_id, START).await, webhooks.retry_many(merchant_id, &of_endpoint).await]
    {
        assert!(matches!(&refused, Err(GatewayError::InvalidState { status }) if status == "disabled"), "{refused:?}");
    }
    let all = PageRequest { limit: None, cursor: None };
    assert!(webhooks.list_jobs(merchant_id, &all).unwrap().items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_merchant_has_so_many_jobs_at_once_and_each_only_once() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let config = WebhookConfig { jobs_max: 2, ..webhook_config() };
    let fixture = Fixture::start(&store, &clock, receiver, config).await;
    let endpoint_id = with_dead_letters(&fixture, 300, EndpointStatus::Enabled).await;
    let (webhooks, merchant_id) = (&fixture.webhooks, &fixture.merchant_id);
    let (first, second) = tokio::join!(
        webhooks.recover(merchant_id, &endpoint_id, START),
        webhooks.recover(merchant_id, &endpoint_id, START)
    );
    let first = first.unwrap();
    let second = second.unwrap_err();
    assert!(
        matches!(&second, GatewayError::JobRefused(JobRefusal::UnderWay(job_id)) if *job_id == first.id),
        "{second:?}"
    );
    settle().await;
    let cancel = NotificationFilter { status: Some(String::from("retrying")), ..NotificationFilter::default() };
    let canceling = webhooks.cancel_many(merchant_id, &cancel).await.unwrap();
    let third = webhooks.cancel_many(merchant_id, &cancel).await.unwrap_err();
    assert!(matches!(&third, GatewayError::JobRefused(JobRefusal::TooMany(2))), "{third:?}");
    // Another merchant's are its own.
    webhooks.cancel_many(&MerchantId::new("m_2"), &cancel).await.unwrap();
    assert_eq!(counts(&ended(&fixture, &first).await), ("done", 300, 300, 0));
    ended(&fixture, &canceling).await;
    webhooks.recover(merchant_id, &endpoint_id, START).await.unwrap();
    let list = |cursor| webhooks.list_jobs(merchant_id, &PageRequest { limit: Some(2), cursor }).unwrap();
    let page = list(None);
    let rest = list(page.next_cursor);
    assert_eq!((page.items.len(), rest.items.len(), &rest.items[0].id), (2, 1, &first.id), "newest first");
    assert!(matches!(webhooks.get_job(&MerchantId::new("m_2"), &JobId::new(first.id)), Err(GatewayError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn a_canceled_job_leaves_what_it_has_done() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver, webhook_config()).await;
    let endpoint_id = with_dead_letters(&fixture, 300, EndpointStatus::Paused).await;
    let job = fixture.webhooks.recover(&fixture.merchant_id, &endpoint_id, START).await.unwrap();
    let job_id = JobId::new(job.id.as_str());
    while fixture.webhooks.get_job(&fixture.merchant_id, &job_id).unwrap().changed == 0 {
        settle().await;
    }
    let canceled = fixture.webhooks.cancel_job(&fixture.merchant_id, &job_id).await.unwrap();
    assert_eq!((canceled.status.as_str(), canceled.finished_at.is_some()), ("canceled", true));
    assert!((1..300).contains(&canceled.changed), "{canceled:?}");
    fixture.pass(LONG).await;
    assert_eq!(fixture.webhooks.get_job(&fixture.merchant_id, &job_id).unwrap(), canceled);
    assert_eq!(u64::try_from(fixture.due()).unwrap(), canceled.changed);
    let again = fixture.webhooks.cancel_job(&fixture.merchant_id, &job_id).await;
    assert!(matches!(again, Err(GatewayError::InvalidState { .. })));
    assert_eq!(store.count(&keys::webhook_jobs_open()), 0);
    // What was done long ago goes.
    fixture.pass(7 * LONG).await;
    assert!(matches!(fixture.webhooks.get_job(&fixture.merchant_id, &job_id), Err(GatewayError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn the_operator_finds_what_is_under_way_and_ends_it() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver, webhook_config()).await;
    let endpoint_id = with_dead_letters(&fixture, 300, EndpointStatus::Paused).await;
    let (webhooks, by) = (&fixture.webhooks, Operator::process("test"));
    let job = webhooks.recover_any(&endpoint_id, START, &by).await.unwrap();
    let refused = webhooks.recover_any(&endpoint_id, START, &by).await;
    assert!(matches!(refused, Err(GatewayError::JobRefused(JobRefusal::UnderWay(_)))), "{refused:?}");
    assert_eq!(store.count(&keys::audit()), 1, "what was refused was not done");
    let all = PageRequest { limit: Some(10), cursor: None };
    let open = webhooks.list_all_jobs(None, &all).unwrap().items;
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].merchant_id.as_str(), &open[0].job.id), (fixture.merchant_id.as_str(), &job.id));
    let job_id = JobId::new(job.id.as_str());
    let canceled = webhooks.cancel_any_job(&job_id, &by).await.unwrap();
    assert_eq!((canceled.job.status.as_str(), store.count(&keys::audit())), ("canceled", 2));
    assert!(webhooks.list_all_jobs(None, &all).unwrap().items.is_empty());
    let of_merchant = webhooks.list_all_jobs(Some(fixture.merchant_id.as_str()), &all).unwrap().items;
    assert_eq!(of_merchant, [webhooks.find_job(&job_id).unwrap()]);
    assert!(matches!(webhooks.find_job(&JobId::new("wj_nobody")), Err(GatewayError::NotFound(_))));
    // What it was asked for is told.
    let filter = NotificationFilter { event: Some(String::from("refund.failed")), ..NotificationFilter::default() };
    let job = webhooks.cancel_many(&fixture.merchant_id, &filter).await.unwrap();
    assert_eq!((job.filter.event.as_deref(), job.filter.status), (Some("refund.failed"), None));
}

#[tokio::test(start_paused = true)]
async fn a_job_ends_with_its_endpoint() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |_, _| answer(200));
    let fixture = Fixture::start(&store, &clock, receiver, webhook_config()).await;
    let endpoint_id = with_dead_letters(&fixture, 300, EndpointStatus::Paused).await;
    let job = fixture.webhooks.recover(&fixture.merchant_id, &endpoint_id, START).await.unwrap();
    fixture.webhooks.delete_endpoint(&fixture.merchant_id, &endpoint_id).await.unwrap();
    let job = ended(&fixture, &job).await;
    assert_eq!((job.status.as_str(), job.error.as_deref()), ("failed", Some("the endpoint was deleted")));
    assert!(job.looked_at < 300, "{job:?}");
    // Of all endpoints, those of the one that is gone are passed over.
    let all = NotificationFilter { status: Some(String::from("failed")), ..NotificationFilter::default() };
    let job = fixture.webhooks.retry_many(&fixture.merchant_id, &all).await.unwrap();
    let job = ended(&fixture, &job).await;
    assert_eq!((job.status.as_str(), job.changed, job.looked_at), ("done", 0, 300));
    assert_eq!(job.skipped, u64::try_from(dead_letters(&store)).unwrap());
}

#[tokio::test(start_paused = true)]
async fn canceling_many_while_requests_are_under_way() {
    let (store, clock) = (store(), Clock::virtual_from(START));
    let receiver = FakeReceiver::new(&clock, |number, _| match number {
        0 => answer(200),
        _ => Act::AnswerAfterWith(Duration::from_secs(10), if number % 2 == 0 { 200 } else { 500 }),
    });
    let fixture = Fixture::start(&store, &clock, receiver.clone(), webhook_config()).await;
    let endpoint_id = fixture.endpoint(URL).await;
    fixture.publish(EventName::PaymentSuccess, "PROVEN").await;
    fixture.pass(Duration::from_secs(1)).await;
    for number in 0..150 {
        fixture.publish(EventName::PaymentSuccess, &format!("PY{number}")).await;
    }
    fixture.pass(Duration::from_secs(1)).await;
    let under_way = receiver.seen().len() - 1;
    assert!(under_way > 0);
    let filter = NotificationFilter { endpoint_id: Some(endpoint_id.to_string()), ..NotificationFilter::default() };
    let job = fixture.webhooks.cancel_many(&fixture.merchant_id, &filter).await.unwrap();
    // What comes now is not what was meant.
    fixture.pass(Duration::from_millis(2)).await;
    fixture.publish(EventName::PaymentSuccess, "LATER").await;
    let job = ended(&fixture, &job).await;
    assert_eq!((job.status.as_str(), job.changed), ("done", 150));
    fixture.pass(LONG).await;
    assert_eq!((receiver.seen().len() - 1, fixture.due()), (under_way + 1 + retries_of_the_later(&receiver), 0));
    let canceled = NotificationFilter { failure: Some(String::from("canceled")), ..NotificationFilter::default() };
    let page = PageRequest { limit: Some(100), cursor: None };
    let found = fixture.webhooks.list_notifications(&fixture.merchant_id, &canceled, &page).unwrap();
    assert_eq!((found.items.len(), found.next_cursor.is_some()), (100, true));
    assert!(found.items.iter().all(|view| view.attempts <= 1 && view.error.as_deref() == Some("canceled")));
}

fn retries_of_the_later(receiver: &FakeReceiver) -> usize {
    receiver.seen().iter().filter(|seen| seen.body.contains("LATER")).count() - 1
}
