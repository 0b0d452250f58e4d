//! Time: what is due when, while the process runs and when it did not.

use std::time::Duration;

use super::super::*;
use super::NOW;
use super::bench::*;
use crate::domain::event::EventName;
use crate::domain::outcome::HoldState;

const SECONDS_10: Duration = Duration::from_secs(10);

fn told_and_sent(change: &Change) -> (Vec<EventName>, Vec<Sending>) {
    (change.tell.clone(), change.send.iter().map(|dispatch| dispatch.what.clone()).collect())
}

#[test]
fn a_hold_is_looked_at_six_hours_and_one_hour_before_its_end_and_at_its_end() {
    let before = is_held();
    assert_eq!(before.due_at, Some(expires_at().minus(6 * HOUR)));
    assert_eq!(due(&before, before.due_at.unwrap().minus(Duration::from_millis(1))), None, "too early");
    let told = due(&before, before.due_at.unwrap()).unwrap();
    assert_eq!(told_and_sent(&told), (vec![EventName::PreAuthExpiring], vec![]));
    assert_eq!(told.pre_auth.due_at, Some(expires_at().minus(HOUR)));
    let released = due(&told.pre_auth, expires_at().minus(HOUR)).unwrap();
    assert_eq!(told_and_sent(&released), (vec![], vec![Sending::Release]));
    assert_eq!(released.pre_auth.status, PreAuthStatus::RequiresCapture, "it ends as expired");
    let number = released.pre_auth.operation_number();
    assert_eq!(released.pre_auth.operation.as_ref().unwrap().provider_key, format!("tg_release_{number}"));
    let refused = crate::domain::outcome::HoldAnswer::refused(held(), failure());
    let kept = on_answer(&released.pre_auth, number, &refused, &policy(), expires_at().minus(HOUR)).unwrap();
    assert_eq!(kept.pre_auth.due_at, Some(expires_at().minus(HOUR).plus(SECONDS_10)), "it is tried again");
    let asked = due(&kept.pre_auth, expires_at()).unwrap();
    assert_eq!(told_and_sent(&asked), (vec![], vec![Sending::Ask { close: false }]));
    assert_eq!(asked.pre_auth, kept.pre_auth, "the due entry stands until there is an answer");
    let still = take(&asked.pre_auth, held(), expires_at()).unwrap().pre_auth;
    assert_eq!(still.due_at, Some(expires_at().plus(Duration::from_secs(10))), "it was not assumed");
    let over = take(&still, HoldState::Released { expired: false }, expires_at().plus(HOUR)).unwrap();
    assert_eq!((over.pre_auth.status, over.tell), (PreAuthStatus::Expired, vec![EventName::PreAuthExpired]));
}

#[test]
fn all_is_taken_before_the_end_where_that_is_configured() {
    let policy = PreAuthPolicy { on_expiry: OnExpiry::Capture, ..policy() };
    let at = expires_at().minus(HOUR);
    let change = on_due(&is_held(), &policy, at, |kind, number| format!("{kind}{number}")).unwrap();
    assert_eq!(told_and_sent(&change), (vec![EventName::PreAuthExpiring], vec![Sending::Capture]));
    assert_eq!((change.pre_auth.status, change.pre_auth.capture_pending_minor()), (PreAuthStatus::Processing, 1000));
    assert_eq!(change.pre_auth.operation.as_ref().unwrap().provider_key, "capture2");
    let refused = crate::domain::outcome::HoldAnswer::refused(held(), failure());
    let back = on_answer(&change.pre_auth, 2, &refused, &policy, at).unwrap().pre_auth;
    assert_eq!(back.due_at, Some(at.plus(SECONDS_10)), "again");
}

/// What refuses once, because it is away for a moment, need not do so again; what refuses for good is not asked all the time.
#[test]
fn what_is_refused_before_the_end_is_tried_again_in_doubling_waits() {
    for on_expiry in [OnExpiry::Release, OnExpiry::Capture] {
        let policy = PreAuthPolicy { on_expiry, ..policy() };
        let first_at = expires_at().minus(HOUR);
        let (mut before, mut waits) = (is_held(), Vec::new());
        before.due_at = Some(first_at);
        while let Some(at) = before.due_at.filter(|at| *at < expires_at()) {
            waits.push(at.since(first_at).as_secs());
            let change = on_due(&before, &policy, at, |kind, number| format!("{kind}{number}")).unwrap();
            assert!(change.send.len() == 1 && change.send[0].is_first, "{change:?}");
            let number = change.pre_auth.operation_number();
            let refused = crate::domain::outcome::HoldAnswer::refused(held(), failure());
            before = on_answer(&change.pre_auth, number, &refused, &policy, at).unwrap().pre_auth;
        }
        assert_eq!(waits[..9], [0, 10, 20, 40, 80, 160, 320, 640, 1280]);
        // From then on no try waits away more than half of what is left.
        for pair in waits[8..].windows(2) {
            assert!(pair[1] - pair[0] <= ((3_600 - pair[0]) / 2).max(10), "{waits:?}");
        }
        assert!((16..24).contains(&waits.len()) && *waits.last().unwrap() >= 3_580, "{waits:?}");
        assert_eq!((before.due_at, before.status), (Some(expires_at()), PreAuthStatus::RequiresCapture));
    }
}

/// A capture that the merchant tried just before says nothing about when the rest is to be done.
#[test]
fn a_refused_capture_of_the_merchant_s_own_puts_nothing_off() {
    let refused = crate::domain::outcome::HoldAnswer::refused(held(), failure());
    let before = on_answer(&capturing(600), 2, &refused, &policy(), NOW).unwrap().pre_auth;
    let told = due(&before, expires_at().minus(6 * HOUR)).unwrap().pre_auth;
    assert_eq!(told.due_at, Some(expires_at().minus(HOUR)));
}

/// What was sent before its time and refused behind it was no try of it either.
#[test]
fn a_capture_that_was_open_at_the_time_puts_nothing_off() {
    let acts_at = expires_at().minus(HOUR);
    let sent_at = acts_at.minus(Duration::from_secs(60));
    let open = begin_capture(&is_held(), Some(600), key(), &policy(), sent_at).unwrap().pre_auth;
    let refused = crate::domain::outcome::HoldAnswer::refused(held(), failure());
    let known_at = acts_at.plus(Duration::from_secs(35 * 60));
    let number = open.operation_number();
    let back = on_answer(&open, number, &refused, &policy(), known_at).unwrap().pre_auth;
    let released = due(&back, known_at).unwrap();
    assert_eq!(told_and_sent(&released).1, vec![Sending::Release], "at once");
}

/// A first try that came late, because the process was off, is repeated as soon as one in time.
#[test]
fn a_late_first_try_is_repeated_soon() {
    let late = expires_at().minus(Duration::from_secs(600));
    let released = due(&is_held(), late).unwrap().pre_auth;
    let refused = crate::domain::outcome::HoldAnswer::refused(held(), failure());
    let number = released.operation_number();
    let kept = on_answer(&released, number, &refused, &policy(), late).unwrap().pre_auth;
    assert_eq!(kept.due_at, Some(late.plus(SECONDS_10)));
}

/// The process was off meanwhile, and the provider has not let it go: what should have been done is done.
#[test]
fn what_is_held_on_behind_its_end_is_seen_to() {
    let back_at = expires_at().plus(HOUR);
    let endless = HoldState::Held { held_minor: MONEY_MINOR, expires_at: None, honor_until: None };
    let asked = due(&is_held(), back_at).unwrap();
    assert_eq!(told_and_sent(&asked), (vec![], vec![Sending::Ask { close: false }]), "first it is asked");
    let held_on = take(&asked.pre_auth, endless.clone(), back_at).unwrap().pre_auth;
    let at = held_on.due_at.unwrap();
    for (on_expiry, sends) in [(OnExpiry::Release, Sending::Release), (OnExpiry::Capture, Sending::Capture)] {
        let policy = PreAuthPolicy { on_expiry, ..policy() };
        let change = on_due(&held_on, &policy, at, |kind, number| format!("{kind}{number}")).unwrap();
        assert_eq!(told_and_sent(&change), (vec![], vec![sends]));
        let doubted = PreAuthPolicy { is_clock_believed: false, ..policy };
        let change = on_due(&held_on, &doubted, at, |_, _| unreachable!()).unwrap();
        assert_eq!(told_and_sent(&change), (vec![], vec![Sending::Ask { close: false }]), "the clock may be ahead");
    }
    // Refused, it is tried again, and not all the time.
    let refused = crate::domain::outcome::HoldAnswer::refused(endless.clone(), failure());
    let (mut before, mut now, mut releases, mut questions) = (held_on.clone(), at, 0, 0);
    while now < at.plus(DAY) {
        let change = due(&before, now).unwrap();
        before = match change.send[0].what {
            Sending::Release => {
                releases += 1;
                on_answer(&change.pre_auth, change.pre_auth.operation_number(), &refused, &policy(), now)
                    .unwrap()
                    .pre_auth
            }
            _ => {
                questions += 1;
                take(&change.pre_auth, endless.clone(), now).map_or(change.pre_auth, |change| change.pre_auth)
            }
        };
        now = before.due_at.unwrap();
    }
    assert!((4..=12).contains(&releases) && questions > releases, "{releases} times, asked {questions} times");
    let later = HoldState::Held { held_minor: MONEY_MINOR, expires_at: Some(NOW.plus(30 * DAY)), honor_until: None };
    let longer = take(&held_on, later, at).unwrap().pre_auth;
    assert_eq!((longer.is_held_on, longer.due_at), (false, Some(NOW.plus(30 * DAY).minus(6 * HOUR))), "not its end");
}

/// The node was off; what it finds depends on when it comes back, and on nothing else.
#[test]
fn what_was_missed_is_caught_up_with_in_order() {
    let expiring = vec![EventName::PreAuthExpiring];
    let ask = vec![Sending::Ask { close: false }];
    let cases = [
        (7 * HOUR, None),
        (5 * HOUR, Some((expiring.clone(), vec![]))),
        (Duration::from_secs(1800), Some((expiring, vec![Sending::Release]))),
        (Duration::ZERO, Some((vec![], ask))),
    ];
    for (left, expected) in cases {
        let found = due(&is_held(), expires_at().minus(left)).map(|change| told_and_sent(&change));
        assert_eq!(found, expected, "{left:?} before its end");
    }
    let long_over = due(&is_held(), expires_at().plus(30 * DAY)).unwrap();
    assert_eq!(long_over.send, [Dispatch { what: Sending::Ask { close: false }, is_first: false }]);
    assert!(long_over.tell.is_empty(), "that it expires soon is no news any more");
}

#[test]
fn a_short_hold_is_told_of_at_once() {
    let short = HoldState::Held { held_minor: MONEY_MINOR, expires_at: Some(NOW.plus(2 * HOUR)), honor_until: None };
    let before = taken(&fresh(), short);
    assert!(before.due_at.unwrap() <= NOW);
    let change = due(&before, NOW).unwrap();
    assert_eq!(told_and_sent(&change), (vec![EventName::PreAuthExpiring], vec![]));
    assert_eq!(change.pre_auth.due_at, Some(NOW.plus(HOUR)));
}

#[test]
fn a_hold_without_an_end_has_the_configured_one() {
    let endless = HoldState::Held { held_minor: MONEY_MINOR, expires_at: None, honor_until: None };
    assert_eq!(taken(&fresh(), endless).expires_at, Some(NOW.plus(policy().hold_valid)));
}

#[test]
fn it_is_held_for_longer_once_when_the_provider_would_no_longer_honor_it() {
    let extending = extending();
    assert_eq!(extending.status, PreAuthStatus::RequiresCapture);
    let longer = HoldState::Held {
        held_minor: MONEY_MINOR,
        expires_at: Some(NOW.plus(29 * DAY)),
        honor_until: Some(NOW.plus(6 * DAY)),
    };
    let extended = take(&extending, longer, NOW.plus(3 * DAY)).unwrap().pre_auth;
    assert_eq!((extended.operation.clone(), extended.honor_until), (None, Some(NOW.plus(6 * DAY))));
    assert_eq!(extended.due_at, Some(NOW.plus(29 * DAY).minus(6 * HOUR)), "not again");
    let unknown_for_now = take(&extending, unknown(), NOW.plus(3 * DAY)).unwrap().pre_auth;
    assert_eq!(unknown_for_now.status, PreAuthStatus::RequiresCapture, "what is held is known");
    let told = due(&unknown_for_now, expires_at().minus(6 * HOUR)).unwrap();
    assert_eq!(told_and_sent(&told), (vec![EventName::PreAuthExpiring], vec![Sending::Extend]));
    let refused = crate::domain::outcome::HoldAnswer::refused(held(), failure());
    let number = extending.operation_number();
    let kept = on_answer(&extending, number, &refused, &policy(), NOW.plus(3 * DAY)).unwrap().pre_auth;
    assert_eq!(kept.due_at, Some(NOW.plus(3 * DAY).plus(SECONDS_10)), "refused, perhaps for a moment only");
    assert_eq!(due(&kept, kept.due_at.unwrap()).unwrap().send[0].what, Sending::Extend);
}

/// The process was gone while it was being held for longer. What is held is known all the same.
#[test]
fn nothing_is_unknown_of_a_hold_on_which_nothing_is_open() {
    let left_behind = on_recovery(&extending(), &policy(), NOW.plus(4 * DAY)).unwrap().pre_auth;
    for (state, is_refused) in [(held(), false), (held(), true), (unknown(), true)] {
        let answer = match is_refused {
            true => crate::domain::outcome::HoldAnswer::refused(state, failure()),
            false => crate::domain::outcome::HoldAnswer::bare(state),
        };
        let number = left_behind.operation_number();
        let after = on_answer(&left_behind, number, &answer, &policy(), NOW.plus(4 * DAY)).unwrap().pre_auth;
        assert_eq!((after.operation, after.reconciling), (None, false), "{answer:?}");
    }
}

#[test]
fn a_payer_who_does_not_act_has_a_day() {
    for name in ["offered", "action"] {
        let before = situation(name);
        assert_eq!(before.act_by, Some(NOW.plus(DAY)), "{name}");
        let early = due(&before, NOW.plus(DAY).minus(Duration::from_millis(1))).unwrap();
        assert_eq!(told_and_sent(&early), (vec![], vec![Sending::Ask { close: false }]), "{name}");
        let change = due(&before, NOW.plus(DAY)).unwrap();
        assert_eq!(told_and_sent(&change), (vec![], vec![Sending::Ask { close: true }]), "{name}");
        assert_eq!(change.pre_auth.closing, Some(ReleaseWhy::Unconfirmed), "{name}");
        let closed = take(&change.pre_auth, HoldState::Released { expired: false }, NOW.plus(DAY)).unwrap();
        assert_eq!((closed.pre_auth.status, closed.tell), (PreAuthStatus::Expired, vec![EventName::PreAuthExpired]));
    }
    let processing = due(&situation("processing"), NOW.plus(2 * DAY)).unwrap();
    assert_eq!(processing.send, [Dispatch { what: Sending::Ask { close: false }, is_first: false }], "they acted");
    let never_known = taken(&fresh(), unknown());
    let change = due(&never_known, NOW.plus(DAY)).unwrap();
    assert_eq!(change.send, [Dispatch { what: Sending::Ask { close: true }, is_first: false }]);
    let closed = take(&change.pre_auth, HoldState::NotDone(failure()), NOW.plus(DAY)).unwrap();
    assert_eq!(closed.pre_auth.status, PreAuthStatus::Canceled, "nothing expires from processing");
    let sooner = HoldState::ActionRequired { next_action: None, expires_at: Some(NOW.plus(HOUR)) };
    assert_eq!(taken(&fresh(), sooner).act_by, Some(NOW.plus(HOUR)), "the provider's time is shorter");
}

#[test]
fn questions_become_rarer() {
    let mut before = taken(&fresh(), unknown());
    let mut now = NOW;
    let mut waits = Vec::new();
    while now < NOW.plus(HOUR) {
        let at = before.due_at.unwrap();
        waits.push(at.since(now).as_secs());
        now = at;
        before = take(&before, unknown(), now).unwrap().pre_auth;
    }
    assert_eq!(waits[..5], [1, 2, 4, 8, 10], "{waits:?}");
    assert!(waits.is_sorted() && waits.iter().all(|wait| *wait <= 600), "{waits:?}");
}

/// A due entry stands for exactly the stored time; a clock that is set back or forward neither repeats nor leaves out.
#[test]
fn a_clock_that_is_set_changes_what_is_told_once() {
    let told = due(&is_held(), expires_at().minus(5 * HOUR)).unwrap().pre_auth;
    for back in [HOUR, 10 * HOUR, 7 * DAY] {
        let now = expires_at().minus(5 * HOUR).minus(back);
        let change = due(&told, now);
        assert!(change.is_none(), "{back:?}: {change:?}");
    }
    let acted = due(&told, expires_at().minus(HOUR)).unwrap().pre_auth;
    let back = take(&acted, held(), NOW).unwrap();
    assert!(back.tell.is_empty() && back.pre_auth.operation.is_some() && back.pre_auth.due_at.unwrap() > NOW);
    // Set forward over everything by mistake: the provider says that it is held, and so it goes on.
    let ahead = due(&is_held(), expires_at().plus(DAY)).unwrap();
    let still = take(&ahead.pre_auth, held(), expires_at().plus(DAY)).unwrap().pre_auth;
    assert_eq!(still.status, PreAuthStatus::RequiresCapture);
    assert!(begin_capture(&still, None, key(), &policy(), NOW).is_ok());
}
