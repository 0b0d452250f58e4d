//! Tests of what becomes of notifications.

use std::time::Duration;

use super::{NOW, after, answered, notification, settings};
use crate::domain::webhook::{
    Anew, EXCERPT_OF_OLDER_TRIES_MAX_BYTES, Ending, Failure, Next, NotificationStatus, Schedule, ScheduleSettings,
    TRIES_KEPT_MAX, TryResult,
};

#[test]
fn a_success_ends_it() {
    let done = after(notification(), &answered(204));
    assert_eq!(done.next, Next::Done);
    assert_eq!(done.notification.status, NotificationStatus::Success);
    assert_eq!(done.notification.succeeded_at, Some(NOW));
    assert_eq!(done.notification.due_at, None);
    assert_eq!(done.notification.error_text(), None);
    assert_eq!(done.notification.tries[0].at, NOW.minus(Duration::from_millis(20)));
}

#[test]
fn a_failure_is_tried_again_until_all_tries_are_used() {
    let mut current = notification();
    for attempt in 1..13 {
        let step = after(current, &answered(503));
        let Next::RetryAt(at) = step.next else { panic!("given up after {attempt} tries") };
        assert_eq!(step.notification.due_at, Some(at));
        assert_eq!(step.notification.status, NotificationStatus::Retrying);
        current = step.notification;
    }
    let last = after(current, &TryResult { error: Some(String::from("no answer")), ..TryResult::default() });
    assert_eq!(last.next, Next::Failed);
    assert_eq!(last.notification.failure, Some(Failure::Exhausted));
    assert_eq!(last.notification.attempts, 13);
    assert_eq!(last.notification.error_text().as_deref(), Some("no answer"));
}

#[test]
fn a_refusal_fails_at_once_and_410_disables_the_endpoint_too() {
    for code in [301, 307, 400, 401, 404, 422] {
        let step = after(notification(), &answered(code));
        assert_eq!((step.next, step.disable_endpoint), (Next::Failed, None), "{code}");
        assert_eq!(step.notification.failure, Some(Failure::Refused));
    }
    let gone = after(notification(), &answered(410));
    assert_eq!(gone.next, Next::Failed);
    assert!(gone.disable_endpoint.is_some());
}

#[test]
fn two_rounds_never_have_the_same_due_time() {
    let step = notification()
        .after_try(&answered(500), &Schedule::from(ScheduleSettings { own_waits_s: vec![0], ..settings() }), NOW, 0)
        .unwrap();
    assert_eq!(step.next, Next::RetryAt(NOW.plus(Duration::from_millis(1))));
}

#[test]
fn every_other_pair_of_state_and_event_is_refused() {
    let pending = notification;
    let retrying = || after(notification(), &answered(500)).notification;
    let success = || after(notification(), &answered(200)).notification;
    let failed = || after(notification(), &answered(404)).notification;
    let schedule = Schedule::from(settings());
    for (state, is_open, is_failed) in
        [(pending(), true, false), (retrying(), true, false), (success(), false, false), (failed(), false, true)]
    {
        let name = state.status;
        assert_eq!(state.clone().after_try(&answered(200), &schedule, NOW, 0).is_ok(), is_open, "{name:?}");
        assert_eq!(state.clone().end(Ending::Canceled, NOW).is_ok(), is_open, "{name:?}");
        assert_eq!(state.begin_anew(13, Anew::Manual, NOW).is_ok(), is_failed, "{name:?}");
    }
}

#[test]
fn a_manual_retry_has_the_whole_schedule_before_it_and_counts_on() {
    let failed = after(notification(), &answered(404)).notification;
    let again = failed.begin_anew(2, Anew::Manual, NOW).unwrap();
    assert_eq!((again.status, again.failure, again.failed_at), (NotificationStatus::Pending, None, None));
    assert_eq!((again.next_attempt(), again.due_at), (2, Some(NOW)));
    let first = after(again, &answered(500));
    assert_eq!(first.next, Next::RetryAt(NOW.plus(Duration::from_secs(1))));
    let second = after(first.notification, &answered(500));
    assert_eq!(second.next, Next::Failed);
    assert_eq!(second.notification.attempts, 3);
}

#[test]
fn a_try_that_ends_after_a_cancel_is_noted_and_changes_nothing_else() {
    let mut canceled = notification().end(Ending::Canceled, NOW).unwrap();
    canceled.note_late_try(&answered(200), NOW);
    assert_eq!(canceled.status, NotificationStatus::Failed);
    assert_eq!(canceled.error_text().as_deref(), Some("canceled"));
    assert_eq!((canceled.attempts, canceled.tries.len()), (1, 1));
    let again = canceled.begin_anew(1, Anew::Manual, NOW).unwrap();
    assert_eq!(after(again, &answered(500)).next, Next::Failed);
}

#[test]
fn what_is_remembered_of_tries_is_bounded() {
    let long = TryResult { response: Some("é".repeat(4_000)), ..answered(404) };
    let mut current = notification();
    for _ in 0..40 {
        current = after(current, &long).notification.begin_anew(13, Anew::Manual, NOW).unwrap();
    }
    assert_eq!((current.attempts, current.tries.len()), (40, TRIES_KEPT_MAX));
    let bytes: Vec<usize> = current.tries.iter().map(|a_try| a_try.response.as_ref().unwrap().len()).collect();
    assert_eq!(bytes.last(), Some(&8_000));
    assert!(bytes[..TRIES_KEPT_MAX - 1].iter().all(|len| *len <= EXCERPT_OF_OLDER_TRIES_MAX_BYTES));
}

#[test]
fn the_days_of_a_dead_letter_run_from_its_first_failure_until_somebody_asks_for_it() {
    let minute = Duration::from_secs(60);
    let once = notification().end(Ending::EndpointDisabled, NOW).unwrap();
    assert_eq!((once.dead_since, once.sweeps), (Some(NOW), 0));
    let swept = once.begin_anew(1, Anew::Sweep, NOW.plus(minute)).unwrap();
    assert_eq!((swept.dead_since, swept.sweeps, swept.failed_at), (Some(NOW), 1, None));
    let again = swept
        .clone()
        .after_try(&answered(500), &Schedule::from(settings()), NOW.plus(2 * minute), 0)
        .unwrap()
        .notification;
    assert_eq!((again.failure, again.failed_at), (Some(Failure::Exhausted), Some(NOW.plus(2 * minute))));
    assert_eq!((again.dead_since, again.sweeps), (Some(NOW), 1));
    for why in [Anew::Manual, Anew::Recover, Anew::Enabled] {
        let asked_for = again.clone().begin_anew(1, why, NOW).unwrap();
        assert_eq!((asked_for.dead_since, asked_for.sweeps), (None, 0), "{why:?}");
    }
    let taken = after(swept, &answered(200)).notification;
    assert_eq!((taken.dead_since, taken.sweeps), (None, 0));
    for ending in [Ending::Canceled, Ending::EndpointDeleted, Ending::Expired] {
        assert_eq!(notification().end(ending, NOW).unwrap().dead_since, None, "{ending:?}");
    }
}
