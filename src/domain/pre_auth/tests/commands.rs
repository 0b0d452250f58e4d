//! What merchants, operators and a start after a crash may begin, in every situation.

use super::super::*;
use super::NOW;
use super::bench::*;
use crate::domain::event::EventName;
use crate::domain::outcome::HoldState;
use crate::domain::payment::Erasability;

/// What is sent by a capture, a cancellation, a hint and a start after a crash; `-` nothing, `409` refused.
const DOCUMENTED: &str = "
    fresh              409      close    ask        ask
    offered            409      close    ask        -
    action             409      close    ask        -
    processing         409      close    ask        -
    closing            409      -        close      -
    unconfirmed        409      -        close      -
    capturing          409      409      capture    capture
    releasing          409      -        release    release
    held               capture! release! ask        -
    extending          409      409      extend     extend
    releasing-in-time  409      -        release    release
    captured           409      409      ask        -
    canceled           409      -        ask        -
    expired            409      409      ask        -
    failed             409      409      ask        -
    review             409      409      -          -
    review-capturing   409      409      -          -
";

fn sent(change: Option<&Change>) -> String {
    let Some(change) = change else { return String::from("-") };
    match change.send.as_slice() {
        [] => String::from("-"),
        [Dispatch { what, is_first }] => {
            let what = match what {
                Sending::Authorize => "authorize",
                Sending::Capture => "capture",
                Sending::Release => "release",
                Sending::Extend => "extend",
                Sending::Ask { close: true } => "close",
                Sending::Ask { close: false } => "ask",
                Sending::Refund(_) => "refund",
            };
            format!("{what}{}", if *is_first { "!" } else { "" })
        }
        more => panic!("{more:?}"),
    }
}

#[test]
fn every_command_in_every_situation_is_as_documented() {
    let rows = DOCUMENTED.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows: Vec<_> = rows.filter(|row| !row.is_empty()).collect();
    assert_eq!(rows.len(), situations().len());
    for (row, (name, before)) in rows.iter().zip(situations()) {
        let begun = |result: Result<Change, Rejection>| match result {
            Ok(change) => sent(Some(&change)),
            Err(rejection) => {
                assert_eq!(rejection, Rejection::State(before.status), "{name}");
                String::from("409")
            }
        };
        let why = ReleaseWhy::Merchant { reason: None };
        let found = [
            String::from(name),
            begun(begin_capture(&before, Some(600), key(), &policy(), NOW)),
            begun(begin_release(&before, why, key(), &policy(), NOW)),
            sent(on_hint(&before, &policy(), NOW).as_ref()),
            sent(on_recovery(&before, &policy(), NOW).as_ref()),
        ];
        assert_eq!(found.as_slice(), row.as_slice());
    }
}

#[test]
fn the_state_is_checked_before_the_amount() {
    let begun = |before: &PreAuth, amount| begin_capture(before, amount, key(), &policy(), NOW);
    for amount in [Some(0), Some(-1), Some(1001), Some(i64::MAX)] {
        assert_eq!(begun(&is_held(), amount).unwrap_err(), Rejection::TooMuch { max_minor: 1000 }, "{amount:?}");
        assert_eq!(begun(&capturing(600), amount).unwrap_err(), Rejection::State(PreAuthStatus::Processing));
        assert_eq!(begun(&situation("captured"), amount).unwrap_err(), Rejection::State(PreAuthStatus::Captured));
    }
    for (amount, reserved_minor) in [(None, 1000), (Some(1000), 1000), (Some(1), 1)] {
        let change = begun(&is_held(), amount).unwrap();
        assert_eq!(change.pre_auth.capture_pending_minor(), reserved_minor);
        assert_eq!((change.pre_auth.status, change.tell.len()), (PreAuthStatus::Processing, 0));
        let operation = change.pre_auth.operation.unwrap();
        assert_eq!((operation.number, operation.provider_key, operation.sent_at), (2, key(), NOW));
    }
}

#[test]
fn giving_up_again_changes_nothing() {
    for name in ["closing", "unconfirmed", "releasing", "canceled"] {
        let before = situation(name);
        let why = ReleaseWhy::Merchant { reason: Some(String::from("again")) };
        let change = begin_release(&before, why, key(), &policy(), NOW.plus(HOUR)).unwrap();
        assert_eq!(change, Change::nothing(&before), "{name}: nor is it asked about later for that");
    }
}

#[test]
fn however_often_a_channel_refused_the_money_can_be_taken_or_let_go() {
    let mut before = is_held();
    for tries in 2..100 {
        let capture = begin_capture(&before, Some(1), key(), &policy(), NOW).unwrap().pre_auth;
        assert_eq!(capture.operation_number(), tries, "numbers, and with them provider keys, are never used again");
        let refused = crate::domain::outcome::HoldAnswer::refused(held(), failure());
        before = on_answer(&capture, capture.operation_number(), &refused, &policy(), NOW).unwrap().pre_auth;
    }
    assert_eq!(before.operations.len(), OPERATIONS_MAX);
    let numbers: Vec<u32> = before.operations.iter().map(|ended| ended.number).collect();
    assert_eq!((numbers[0], numbers[1], numbers[31]), (1, 69, 99), "how it was held, and what was refused last");
    let why = ReleaseWhy::Merchant { reason: None };
    assert!(begin_release(&before, why, key(), &policy(), NOW).is_ok());
    let expiring = due(&before, expires_at().minus(HOUR)).unwrap();
    assert_eq!(expiring.send, [Dispatch { what: Sending::Release, is_first: true }]);
    let captured = begin_capture(&before, None, key(), &policy(), NOW).unwrap().pre_auth;
    let captured = take(&captured, super::bench::captured(MONEY_MINOR), NOW).unwrap().pre_auth;
    assert_eq!((captured.status, captured.operations.len()), (PreAuthStatus::Captured, OPERATIONS_MAX));
}

#[test]
fn what_a_crash_left_behind_is_unknown_and_asked_for() {
    let cases = [
        ("fresh", PreAuthStatus::Processing),
        ("capturing", PreAuthStatus::Processing),
        ("releasing", PreAuthStatus::Processing),
        ("extending", PreAuthStatus::RequiresCapture),
        ("releasing-in-time", PreAuthStatus::Processing),
    ];
    for (name, status) in cases {
        let before = situation(name);
        let change = on_recovery(&before, &policy(), NOW.plus(HOUR)).unwrap();
        let after = &change.pre_auth;
        assert_eq!((after.status, after.reconciling), (status, true), "{name}");
        assert_eq!(after.operation.as_ref().unwrap().unanswered_at, Some(NOW.plus(HOUR)), "{name}");
        assert!(change.send.iter().all(|dispatch| !dispatch.is_first), "{name}: it may have been sent");
        assert_eq!(on_recovery(after, &policy(), NOW.plus(HOUR)), None, "{name}: once");
    }
}

#[test]
fn a_person_says_what_became_of_it() {
    let held = ReviewVerdict::Held { expires_at: None };
    let taken = ReviewVerdict::Captured { captured_minor: 600 };
    let cases = [
        ("review", held, PreAuthStatus::RequiresCapture, vec![EventName::PreAuthAuthorized]),
        ("review", taken, PreAuthStatus::Captured, vec![EventName::PreAuthAuthorized, EventName::PreAuthCaptured]),
        ("review", ReviewVerdict::Canceled, PreAuthStatus::Canceled, vec![EventName::PreAuthCanceled]),
        ("review", ReviewVerdict::Failed, PreAuthStatus::Failed, vec![EventName::PreAuthFailed]),
        ("review-capturing", held, PreAuthStatus::RequiresCapture, vec![EventName::PreAuthAuthorized]),
        ("review-capturing", taken, PreAuthStatus::Captured, vec![EventName::PreAuthCaptured]),
        ("review-capturing", ReviewVerdict::Canceled, PreAuthStatus::Canceled, vec![EventName::PreAuthCanceled]),
    ];
    for (name, verdict, status, told) in cases {
        let change = on_review(&situation(name), verdict, &policy(), NOW).unwrap();
        assert_eq!((change.pre_auth.status, change.tell), (status, told), "{name}, {verdict:?}");
        assert!(change.pre_auth.operation.is_none() && !change.pre_auth.reconciling, "{name}, {verdict:?}");
        assert_eq!(change.pre_auth.due_at.is_some(), status == PreAuthStatus::RequiresCapture, "{name}, {verdict:?}");
    }
    let never_held = on_review(&situation("review-capturing"), ReviewVerdict::Failed, &policy(), NOW);
    assert_eq!(never_held.unwrap_err(), Rejection::State(PreAuthStatus::NeedsReview), "it was held once");
    for captured_minor in [0, -1, 1001] {
        let verdict = ReviewVerdict::Captured { captured_minor };
        let reviewed = on_review(&situation("review"), verdict, &policy(), NOW);
        assert_eq!(reviewed.unwrap_err(), Rejection::TooMuch { max_minor: 1000 });
    }
    for (name, before) in situations().into_iter().filter(|(_, before)| before.status != PreAuthStatus::NeedsReview) {
        let reviewed = on_review(&before, held, &policy(), NOW);
        assert_eq!(reviewed.unwrap_err(), Rejection::State(before.status), "{name}");
    }
}

#[test]
fn customers_data_is_erased_when_nothing_is_open() {
    let why = ReleaseWhy::Merchant { reason: Some(String::from("Ms Miller called")) };
    let mut before = taken(&given_up(&is_held(), why), HoldState::Released { expired: false });
    before.terms.customer_email = Some(String::from("miller@example.com"));
    before.refs.client_secret = Some(String::from("pi_1_secret_2"));
    assert_eq!(erasability(&before), Erasability::Erasable);
    let erased = erase_customer_data(&before, NOW.plus(DAY));
    assert_eq!((erased.erased_at, erasability(&erased)), (Some(NOW.plus(DAY)), Erasability::Nothing));
    let written = serde_json::to_string(&erased).unwrap();
    assert!(!written.contains("iller") && !written.contains("secret"), "{written}");
    assert_eq!(erased.operations.len(), 2, "what was done stays");
    for (name, before) in situations().into_iter().filter(|(_, before)| !before.status.is_final()) {
        assert_eq!(erasability(&before), Erasability::Open, "{name}");
    }
}
