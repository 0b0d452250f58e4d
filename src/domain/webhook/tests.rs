//! Tests of `webhook`.

use std::time::Duration;

use serde_json::value::RawValue;

use super::*;
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, MerchantId, NotificationId};
use crate::domain::time::Timestamp;

const NOW: Timestamp = Timestamp::from_unix_s(1_737_715_200);

fn settings() -> ScheduleSettings {
    ScheduleSettings { initial_backoff_s: 1, max_backoff_s: 3_600, own_waits_s: Vec::new(), jitter_percent: 0 }
}

fn notification() -> Notification {
    Notification::new(
        NewNotification {
            id: NotificationId::new("wn_1"),
            merchant_id: MerchantId::new("m_1"),
            endpoint_id: EndpointId::new("we_1"),
            url: String::from("https://example.com/"),
            event: EventName::PaymentSuccess,
            object_no: Some(String::from("PY1")),
            order_no: None,
            body: RawValue::from_string(String::from("{}")).unwrap(),
            amount_minor: 100,
            max_attempts: 13,
        },
        NOW,
    )
}

fn answered(status_code: u16) -> TryResult {
    TryResult { duration_ms: 20, status_code: Some(status_code), ..TryResult::default() }
}

fn after(notification: Notification, result: &TryResult) -> AfterTry {
    notification.after_try(result, &Schedule::from(settings()), NOW, 0).unwrap()
}

#[test]
fn the_built_in_schedule_is_the_documented_table() {
    let schedule = Schedule::from(settings());
    let mut since_first_s = 0;
    let table = [
        (1, 0, 0),
        (2, 1, 1),
        (3, 2, 3),
        (4, 4, 7),
        (5, 8, 15),
        (6, 16, 31),
        (7, 32, 63),
        (8, 60, 123),
        (9, 120, 243),
        (10, 300, 543),
        (11, 600, 1_143),
        (12, 1_800, 2_943),
        (13, 3_600, 6_543),
        (14, 3_600, 10_143),
    ];
    for (attempt, wait_s, documented_since_first_s) in table {
        assert_eq!(schedule.wait_before(attempt).as_secs(), wait_s, "before attempt {attempt}");
        since_first_s += wait_s;
        assert_eq!(since_first_s, documented_since_first_s, "since the first at attempt {attempt}");
    }
    assert_eq!(schedule.wait_before(u32::MAX).as_secs(), 3_600);
}

#[test]
fn another_initial_or_maximum_backoff_scales_and_cuts_the_table() {
    let scaled = Schedule::from(ScheduleSettings { initial_backoff_s: 5, max_backoff_s: 100, ..settings() });
    let waits: Vec<u64> = (1..=9).map(|attempt| scaled.wait_before(attempt).as_secs()).collect();
    assert_eq!(waits, [0, 5, 10, 20, 40, 80, 100, 100, 100]);
}

#[test]
fn an_own_list_replaces_the_table_and_its_last_wait_repeats() {
    let own = Schedule::from(ScheduleSettings { own_waits_s: vec![0, 3, 7], ..settings() });
    let waits: Vec<u64> = (1..=6).map(|attempt| own.wait_before(attempt).as_secs()).collect();
    assert_eq!(waits, [0, 0, 3, 7, 7, 7]);
}

#[test]
fn jitter_stays_within_its_share_and_reaches_both_ends() {
    let schedule = Schedule::from(ScheduleSettings { jitter_percent: 10, ..settings() });
    let waits: Vec<u64> = (0..=200)
        .map(|draw| u64::try_from(schedule.jittered_wait_before(2, None, draw).as_millis()).unwrap())
        .collect();
    assert_eq!(waits.iter().min(), Some(&900));
    assert_eq!(waits.iter().max(), Some(&1_100));
    for draw in [0, 1, u64::MAX] {
        assert_eq!(schedule.jittered_wait_before(1, Some(Duration::from_secs(9)), draw), Duration::ZERO);
        assert_eq!(Schedule::from(settings()).jittered_wait_before(9, None, draw), Duration::from_secs(120));
    }
}

#[test]
fn no_jitter_makes_a_retry_earlier_than_the_receiver_asked() {
    let schedule = Schedule::from(ScheduleSettings { jitter_percent: 10, max_backoff_s: 600, ..settings() });
    for draw in 0..1_000 {
        let asked = schedule.jittered_wait_before(2, Some(Duration::from_secs(30)), draw);
        assert!((30..=33).contains(&asked.as_secs()), "{asked:?}");
        let capped = schedule.jittered_wait_before(2, Some(Duration::from_secs(86_400)), draw);
        assert!((600..=660).contains(&capped.as_secs()), "{capped:?}");
        let shorter_than_planned = schedule.jittered_wait_before(9, Some(Duration::from_secs(1)), draw);
        assert!((108..=132).contains(&shorter_than_planned.as_secs()), "{shorter_than_planned:?}");
    }
}

#[test]
fn retry_after_is_read_as_seconds_or_as_a_date() {
    let table = [
        ("120", Some(120)),
        (" 0 ", Some(0)),
        ("Fri, 24 Jan 2025 10:41:00 GMT", Some(60)),
        ("Fri, 24 Jan 2025 10:39:00 GMT", Some(0)),
        ("99999999999999999999", Some(u64::from(u32::MAX))),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
    ];
    for (text, seconds) in table {
        assert_eq!(parse_retry_after(text, NOW).map(|wait| wait.as_secs()), seconds, "{text:?}");
    }
}

#[test]
fn every_status_code_has_the_documented_verdict() {
    for code in 0..=1_000_u16 {
        let expected = match code {
            200..=299 => Verdict::Success,
            410 => Verdict::Gone,
            408 | 429 | 500..=599 => Verdict::Retry,
            300..=499 => Verdict::Refused,
            _ => Verdict::Retry,
        };
        assert_eq!(verdict(Some(code)), expected, "{code}");
    }
    assert_eq!(verdict(None), Verdict::Retry);
}

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
        assert_eq!(state.begin_anew(13, NOW).is_ok(), is_failed, "{name:?}");
    }
}

#[test]
fn a_manual_retry_has_the_whole_schedule_before_it_and_counts_on() {
    let failed = after(notification(), &answered(404)).notification;
    let again = failed.begin_anew(2, NOW).unwrap();
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
    let again = canceled.begin_anew(1, NOW).unwrap();
    assert_eq!(after(again, &answered(500)).next, Next::Failed);
}

#[test]
fn what_is_remembered_of_tries_is_bounded() {
    let long = TryResult { response: Some("é".repeat(4_000)), ..answered(404) };
    let mut current = notification();
    for _ in 0..40 {
        current = after(current, &long).notification.begin_anew(13, NOW).unwrap();
    }
    assert_eq!((current.attempts, current.tries.len()), (40, TRIES_KEPT_MAX));
    let bytes: Vec<usize> = current.tries.iter().map(|a_try| a_try.response.as_ref().unwrap().len()).collect();
    assert_eq!(bytes.last(), Some(&8_000));
    assert!(bytes[..TRIES_KEPT_MAX - 1].iter().all(|len| *len <= EXCERPT_OF_OLDER_TRIES_MAX_BYTES));
}

#[test]
fn patterns_match_names_groups_and_everything() {
    let table = [
        ("*", EventName::RefundFailed, true),
        ("payment.*", EventName::PaymentFailed, true),
        ("payment.*", EventName::RefundFailed, false),
        ("payment.success", EventName::PaymentSuccess, true),
        ("payment.success", EventName::PaymentFailed, false),
    ];
    for (pattern, name, expected) in table {
        assert_eq!(EventPattern::parse(pattern).unwrap().matches(name), expected, "{pattern} {name:?}");
    }
    for never_matches in ["", "payment", "payment.", "pay*", "payment*", ".*", "**", "nothing.*", "payment.succes"] {
        assert_eq!(EventPattern::parse(never_matches), None, "{never_matches:?}");
    }
}

#[test]
fn only_a_disabled_endpoint_gets_no_new_notifications() {
    let mut endpoint = Endpoint {
        proven_at: None,
        id: EndpointId::new("we_1"),
        merchant_id: MerchantId::new("m_1"),
        url: String::from("https://example.com/"),
        events: vec![EventPattern::all()],
        description: None,
        max_attempts: 13,
        status: EndpointStatus::Enabled,
        disabled_reason: None,
        secrets: SealedSecrets::new(String::from("a")),
        created_at: NOW,
        updated_at: NOW,
    };
    assert!(endpoint.wants(EventName::PaymentSuccess));
    endpoint.set_status(EndpointStatus::Paused, NOW);
    assert!(endpoint.wants(EventName::PaymentSuccess));
    endpoint.disable("gone", NOW);
    assert!(!endpoint.wants(EventName::PaymentSuccess));
    endpoint.set_status(EndpointStatus::Enabled, NOW);
    assert_eq!(endpoint.disabled_reason, None);
}

#[test]
fn the_secret_before_the_current_one_signs_only_during_the_rotation() {
    let mut secrets = SealedSecrets::new(String::from("first"));
    assert_eq!(secrets.previous_at(NOW), None);
    let end = NOW.plus(Duration::from_secs(60));
    secrets.rotate(String::from("second"), end);
    assert_eq!((secrets.current.as_str(), secrets.previous_at(NOW)), ("second", Some("first")));
    secrets.forget_expired(NOW);
    assert_eq!(secrets.previous_at(NOW), Some("first"));
    assert_eq!(secrets.previous_at(end), None);
    secrets.forget_expired(end);
    assert_eq!(secrets, SealedSecrets::new(String::from("second")));
}
