//! Every answer in every situation.

use super::super::*;
use super::NOW;
use super::bench::*;
use crate::domain::event::EventName;
use crate::domain::outcome::{HoldAnswer, HoldState};

/// The columns: awaits, declined-open, action, processing, held, captured, released, expired, declined, not-done, unknown,
/// held-refused, unknown-refused. `=` changes the row and not the status, `-` changes nothing.
const DOCUMENTED: &str = "
    fresh              =  =  ra pr rc cd cx ex fa fa pr rc pr
    offered            =  =  ra pr rc cd cx ex fa fa =  rc =
    action             pm pm =  pr rc cd cx ex fa fa =  rc =
    processing         =  =  =  =  rc cd cx cx fa fa =  rc =
    closing            =  =  =  =  =  cd cx cx fa cx =  =  =
    unconfirmed        =  =  =  =  =  cd ex ex fa ex =  =  =
    capturing          =  =  =  =  =  cd cx cx cx cx =  rc rc
    releasing          =  =  =  =  =  cd cx cx cx cx =  rc rc
    held               -  -  -  -  -  cd cx ex ex ex -  -  -
    extending          =  =  =  =  =  cd cx ex ex ex =  =  =
    releasing-in-time  =  =  =  =  =  cd ex ex ex ex pr =  =
    captured           -  -  -  -  -  -  -  -  -  -  -  -  -
    canceled           -  -  -  -  =  =  -  -  -  -  -  =  -
    expired            -  -  -  -  =  =  -  -  -  -  -  =  -
    failed             -  -  -  -  =  =  -  -  -  -  -  =  -
    review             -  -  -  -  -  -  -  -  -  -  -  -  -
    review-capturing   -  -  -  -  -  -  -  -  -  -  -  -  -
";

const fn short(status: PreAuthStatus) -> &'static str {
    match status {
        PreAuthStatus::RequiresPaymentMethod => "pm",
        PreAuthStatus::RequiresAction => "ra",
        PreAuthStatus::Processing => "pr",
        PreAuthStatus::RequiresCapture => "rc",
        PreAuthStatus::Captured => "cd",
        PreAuthStatus::Canceled => "cx",
        PreAuthStatus::Expired => "ex",
        PreAuthStatus::Failed => "fa",
        PreAuthStatus::NeedsReview => "nr",
    }
}

#[test]
fn every_answer_in_every_situation_is_as_documented() {
    let rows: Vec<Vec<&str>> = DOCUMENTED.lines().map(|line| line.split_whitespace().collect()).collect();
    let rows: Vec<_> = rows.into_iter().filter(|row| !row.is_empty()).collect();
    assert_eq!(rows.len(), situations().len());
    for (row, (name, before)) in rows.iter().zip(situations()) {
        assert_eq!(row[0], name);
        for (expected, (answer_name, answer)) in row[1..].iter().zip(answers()) {
            let change = on_answer(&before, before.operation_number(), &answer, &policy(), NOW);
            let found = change.as_ref().map_or("-", |change| match change.pre_auth.status == before.status {
                true => "=",
                false => short(change.pre_auth.status),
            });
            assert_eq!(found, *expected, "{name}, {answer_name}: {change:?}");
        }
        assert_eq!(row.len(), answers().len() + 1, "{name}");
    }
}

#[test]
fn an_answer_about_another_operation_changes_nothing() {
    for (name, before) in situations() {
        for (answer_name, answer) in answers() {
            let change = on_answer(&before, before.operation_number() + 1, &answer, &policy(), NOW);
            let is_late_money = before.operation.is_none() && matches!(answer.state, HoldState::Captured { .. });
            assert!(change.is_none() || is_late_money, "{name}, {answer_name}: {change:?}");
        }
    }
}

#[test]
fn each_status_is_told_once_and_only_when_it_is_new() {
    let told = |status| match status {
        PreAuthStatus::Captured => Some(EventName::PreAuthCaptured),
        PreAuthStatus::Canceled => Some(EventName::PreAuthCanceled),
        PreAuthStatus::Expired => Some(EventName::PreAuthExpired),
        PreAuthStatus::Failed => Some(EventName::PreAuthFailed),
        _ => None,
    };
    for (name, before) in situations() {
        for (answer_name, answer) in answers() {
            let Some(change) = on_answer(&before, before.operation_number(), &answer, &policy(), NOW) else { continue };
            let after = &change.pre_auth;
            let mut expected = Vec::new();
            // What is found captured was authorized before.
            if before.authorized_minor == 0 && after.authorized_minor > 0 {
                expected.push(EventName::PreAuthAuthorized);
            }
            if after.status != before.status {
                expected.extend(told(after.status));
            }
            assert_eq!(change.tell, expected, "{name}, {answer_name}");
            assert_eq!(after.event_count, before.event_count + expected.len() as u64);
        }
    }
}

#[test]
fn the_order_of_answers_about_one_operation_does_not_decide_how_it_ends() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let of_captures = [unknown(), HoldState::Processing, captured(600)];
    let of_releases = [held(), unknown(), HoldState::Released { expired: false }];
    let of_holds = [action(), HoldState::Processing, held()];
    let cases = [
        (capturing(600), of_captures, PreAuthStatus::Captured),
        (releasing(), of_releases, PreAuthStatus::Canceled),
        (fresh(), of_holds, PreAuthStatus::RequiresCapture),
    ];
    for (before, states, end) in cases {
        for order in orders {
            let number = before.operation_number();
            let mut now = before.clone();
            for index in order {
                let answer = HoldAnswer::bare(states[index].clone());
                if let Some(change) = on_answer(&now, number, &answer, &policy(), NOW) {
                    now = change.pre_auth;
                }
            }
            assert_eq!(now.status, end, "{order:?}");
            assert_eq!((now.operation.is_none(), now.operations.len()), (true, number as usize), "{order:?}");
        }
    }
}

#[test]
fn an_operation_ends_as_what_it_did() {
    let refused = |state| HoldAnswer::refused(state, failure());
    let cases = [
        ("capturing", HoldAnswer::bare(captured(600)), OperationOutcome::Done),
        ("capturing", refused(captured(600)), OperationOutcome::Refused),
        ("capturing", refused(held()), OperationOutcome::Refused),
        ("capturing", HoldAnswer::bare(HoldState::Released { expired: false }), OperationOutcome::Refused),
        ("releasing", HoldAnswer::bare(HoldState::Released { expired: true }), OperationOutcome::Done),
        ("releasing", HoldAnswer::bare(captured(600)), OperationOutcome::Refused),
        ("extending", HoldAnswer::bare(held()), OperationOutcome::Done),
        ("extending", refused(held()), OperationOutcome::Refused),
        ("releasing-in-time", HoldAnswer::bare(HoldState::Released { expired: false }), OperationOutcome::Done),
        ("fresh", HoldAnswer::bare(held()), OperationOutcome::Done),
        ("fresh", HoldAnswer::bare(HoldState::NotDone(failure())), OperationOutcome::Refused),
    ];
    for (name, answer, outcome) in cases {
        let before = situation(name);
        let number = before.operation_number();
        let after = on_answer(&before, number, &answer, &policy(), NOW).unwrap().pre_auth;
        let ended = after.operations.last().unwrap();
        assert_eq!((ended.number, ended.outcome), (number, outcome), "{name}, {answer:?}");
        assert!(after.operation.is_none(), "{name}, {answer:?}");
    }
}

/// Whoever was answered that it is not known learns that it is held again; whoever is answered now does not need to.
#[test]
fn a_refused_capture_is_told_to_who_was_left_waiting() {
    let refused = HoldAnswer::refused(held(), failure());
    let at_once = on_answer(&capturing(600), 2, &refused, &policy(), NOW).unwrap();
    assert_eq!((at_once.tell, at_once.pre_auth.capture_pending_minor()), (vec![], 0));
    let waited = taken(&capturing(600), unknown());
    assert!(waited.reconciling && waited.capture_pending_minor() == 600, "its amount stays reserved");
    let later = on_answer(&waited, 2, &refused, &policy(), NOW).unwrap();
    assert_eq!(later.tell, [EventName::PreAuthAuthorized]);
    assert_eq!((later.pre_auth.failure.clone(), later.pre_auth.reconciling), (Some(failure()), false));
    let captured_then = begin_capture(&later.pre_auth, None, key(), &policy(), NOW).unwrap().pre_auth;
    let captured_then = taken(&captured_then, captured(MONEY_MINOR));
    assert_eq!((captured_then.status, captured_then.failure), (PreAuthStatus::Captured, None));
}

#[test]
fn what_nobody_knows_for_long_is_given_to_a_person_once() {
    for (name, before) in situations().into_iter().filter(|(_, before)| !before.status.is_final()) {
        if before.status == PreAuthStatus::NeedsReview || name == "held" {
            continue;
        }
        let soon = take(&before, unknown(), NOW.plus(2 * DAY)).unwrap();
        assert!(soon.alerts.is_empty(), "{name}");
        let late = take(&before, unknown(), NOW.plus(11 * DAY)).unwrap();
        assert_eq!(
            (late.pre_auth.status, late.alerts),
            (PreAuthStatus::NeedsReview, vec![Alert::NeedsReview]),
            "{name}"
        );
        assert_eq!(late.pre_auth.due_at, None, "{name}");
        assert!(late.tell.is_empty(), "{name}");
    }
    let held = situation("held");
    let over = take(&held, unknown(), expires_at().plus(HOUR)).unwrap();
    assert_eq!(over.pre_auth.status, PreAuthStatus::RequiresCapture, "it is only asked for");
    let long_over = take(&held, unknown(), expires_at().plus(3 * DAY)).unwrap();
    assert_eq!(long_over.pre_auth.status, PreAuthStatus::NeedsReview);
}

/// An answer that was on its way when it was given up does not keep it open, and it is asked for to be closed at once.
#[test]
fn what_was_given_up_is_closed_though_it_came_to_be_held() {
    let closing = given_up(&fresh(), ReleaseWhy::Merchant { reason: None });
    let change = take(&closing, held(), NOW).unwrap();
    assert_eq!((change.pre_auth.status, change.pre_auth.authorized_minor), (PreAuthStatus::RequiresPaymentMethod, 0));
    assert_eq!(change.send, [Dispatch { what: Sending::Ask { close: true }, is_first: false }]);
    let again = take(&change.pre_auth, held(), NOW).unwrap();
    assert!(again.send.is_empty(), "from then on when it is due");
    assert!(again.pre_auth.due_at.unwrap() > NOW);
    let closed = take(&again.pre_auth, HoldState::Released { expired: false }, NOW).unwrap();
    assert_eq!(closed.tell, [EventName::PreAuthCanceled]);
    assert_eq!((closed.pre_auth.closing, closed.pre_auth.due_at), (None, None));
}

#[test]
fn what_is_not_needed_any_more_is_forgotten() {
    for name in ["held", "captured", "canceled", "expired", "failed"] {
        let after = situation(name);
        assert_eq!((after.terms.payment_token, after.next_action, after.act_by), (None, None, None), "{name}");
    }
    for name in ["fresh", "action", "processing"] {
        assert!(situation(name).terms.payment_token.is_some(), "{name}: it may have to be sent again word for word");
    }
}
