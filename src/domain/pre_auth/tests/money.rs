//! Amounts: what they add up to, which ones are not believed, and money that comes after the end.

use super::super::*;
use super::bench::*;
use super::{NOW, refund};
use crate::domain::event::EventName;
use crate::domain::outcome::{DeclineScope, HoldAnswer, HoldState, ProviderRefs, RefundAnswer, RefundState, StrayKind};
use crate::domain::refund::RefundStatus;
use crate::domain::stray::{StrayAction, StrayPolicy};

fn amounts(pre_auth: &PreAuth) -> (i64, i64, i64) {
    (pre_auth.authorized_minor, pre_auth.captured_minor, pre_auth.released_minor)
}

#[test]
fn what_is_not_taken_is_released() {
    assert_eq!(amounts(&situation("captured")), (1000, 600, 400));
    assert_eq!(amounts(&situation("canceled")), (1000, 0, 1000));
    assert_eq!(amounts(&situation("expired")), (1000, 0, 1000));
    assert_eq!(amounts(&situation("failed")), (0, 0, 0));
    assert_eq!(amounts(&taken(&fresh(), captured(600))), (1000, 600, 400), "taken at the provider's own console");
    assert_eq!(amounts(&taken(&capturing(600), captured(1000))), (1000, 1000, 0), "the provider says how much");
}

fn captured_for(captured_minor: i64, fee_minor: i64) -> HoldState {
    HoldState::Captured { captured_minor, fee_minor: Some(fee_minor) }
}

#[test]
fn what_the_channel_says_it_took_is_kept_from_whichever_answer_says_it() {
    for before in [fresh(), capturing(600), is_held()] {
        let captured = taken(&before, captured_for(600, 47));
        assert_eq!((captured.reported_fee_minor, captured.fee_minor()), (Some(47), Some(47)), "{before:?}");
    }
    assert_eq!((fresh().fee_minor(), is_held().fee_minor()), (None, None), "nothing was taken");
}

#[test]
fn a_fee_may_become_known_after_the_capture_and_tells_nobody_anything() {
    let before = situation("captured");
    assert_eq!(before.fee_minor(), None, "ours was made for all of it");
    let change = take(&before, captured_for(600, 47), NOW.plus(HOUR)).unwrap();
    assert!(change.tell.is_empty() && change.send.is_empty() && change.alerts.is_empty(), "{change:?}");
    let learned = change.pre_auth;
    assert_eq!((learned.fee_minor(), amounts(&learned)), (Some(47), amounts(&before)));
    assert_eq!(learned.captured_at, before.captured_at, "it counts on the day on which it was taken");
    assert_eq!(take(&learned, captured(600), NOW), None, "an answer without a fee takes none away");
    assert_eq!(take(&learned, captured_for(600, 47), NOW), None, "told again");
    assert_eq!(taken(&learned, captured_for(600, 50)).fee_minor(), Some(50), "the channel corrects itself");
    assert_eq!(taken(&learned, captured_for(900, 80)).fee_minor(), Some(47), "it is also that of what goes back");
    assert_eq!(taken(&situation("canceled"), captured_for(600, 47)).fee_minor(), None);
}

#[test]
fn our_fee_stands_for_all_of_it_only() {
    let mut all = taken(&capturing(1000), captured(1000));
    all.decision.channels[0].fee_minor = Some(59);
    assert_eq!(all.fee_minor(), Some(59));
    assert_eq!(taken(&all, captured_for(1000, 61)).fee_minor(), Some(61));
    let mut part = situation("captured");
    part.decision.channels[0].fee_minor = Some(59);
    assert_eq!(part.fee_minor(), None);
}

#[test]
fn an_amount_that_can_not_be_is_no_answer() {
    let held = |held_minor| HoldState::Held { held_minor, expires_at: None, honor_until: None };
    for (name, before) in situations().into_iter().filter(|(_, before)| !before.status.is_final()) {
        for state in [held(999), held(1001), held(0), captured(0), captured(-1), captured(1001)] {
            let as_unknown = take(&before, unknown(), NOW);
            assert_eq!(take(&before, state.clone(), NOW), as_unknown, "{name}, {state:?}");
            let refused = HoldAnswer::refused(state.clone(), failure());
            let as_refused = on_answer(&before, before.operation_number(), &refused, &policy(), NOW);
            assert_eq!(
                as_refused, as_unknown,
                "{name}, {state:?}: what is wrong in one thing is not believed in another"
            );
        }
    }
}

#[test]
fn names_are_learned_with_every_answer() {
    let number = |no: &str| ProviderRefs { capture_no: Some(no.to_owned()), ..ProviderRefs::default() };
    for name in ["capturing", "captured", "held"] {
        let before = situation(name);
        let answer = HoldAnswer { refs: number("C-1"), ..HoldAnswer::bare(unknown()) };
        let change = on_answer(&before, before.operation_number(), &answer, &policy(), NOW).unwrap();
        assert_eq!(change.pre_auth.refs.capture_no.as_deref(), Some("C-1"), "{name}");
        assert!(change.tell.is_empty() && change.send.is_empty(), "{name}");
    }
    let sent = HoldAnswer { sent_money: true, ..HoldAnswer::bare(HoldState::Processing) };
    let change = on_answer(&fresh(), 1, &sent, &policy(), NOW.plus(HOUR)).unwrap();
    assert_eq!(change.pre_auth.money_sent_at, Some(NOW.plus(HOUR)));
}

fn with_strays_refunded(before: &PreAuth, change: Change, policy: &PreAuthPolicy) -> Change {
    refund_strays(before, change, policy, NOW, |amount_minor| refund(RefundStatus::Pending, amount_minor))
}

#[test]
fn money_that_comes_after_the_end_is_noted_alerted_and_given_back_once() {
    for (name, kind, minor) in [
        ("canceled", StrayKind::Late, 600),
        ("expired", StrayKind::Late, 600),
        ("failed", StrayKind::Late, 600),
        ("captured", StrayKind::Over, 300),
    ] {
        let before = situation(name);
        let state = captured(if name == "captured" { 900 } else { 600 });
        let change = take(&before, state.clone(), NOW).unwrap();
        assert_eq!(change.alerts, [Alert::Stray { kind, received_minor: Some(minor) }], "{name}");
        assert_eq!((amounts(&change.pre_auth), change.tell.len()), (amounts(&before), 0), "{name}");
        for stray in [StrayPolicy::Refund, StrayPolicy::Accept] {
            let policy = PreAuthPolicy { stray, ..policy() };
            let refunded = with_strays_refunded(&before, change.clone(), &policy);
            let refund_no = refunded.pre_auth.refunds[0].refund_no.clone();
            assert_eq!(
                refunded.send,
                [Dispatch { what: Sending::Refund(refund_no.clone()), is_first: true }],
                "{name}"
            );
            assert_eq!(refunded.pre_auth.strays[0].action, StrayAction::Refunding(refund_no.clone()), "{name}");
            assert!(refunded.pre_auth.due_at.is_some(), "{name}: it is seen to when nobody answers");
            let refundable_minor = if name == "captured" { 600 } else { 0 };
            assert_eq!(
                refunded.pre_auth.refundable_minor(),
                refundable_minor,
                "{name}: what is the merchant's stays it"
            );
            assert_eq!(take(&refunded.pre_auth, state.clone(), NOW), None, "{name}: told again");
            let answer = RefundAnswer::bare(RefundState::Success);
            let done = on_refund_answer(&refunded.pre_auth, &refund_no, &answer, &policy, NOW).unwrap();
            assert_eq!((done.tell, done.pre_auth.refunded_minor()), (vec![EventName::RefundSuccess], 0), "{name}");
            assert_eq!(done.pre_auth.due_at, None, "{name}");
            let no = RefundAnswer::failed(Failure::new("no", "No.", DeclineScope::Processor));
            let failed = on_refund_answer(&refunded.pre_auth, &refund_no, &no, &policy, NOW).unwrap();
            assert_eq!(failed.pre_auth.strays[0].action, StrayAction::Reported, "{name}");
            assert_eq!(failed.alerts, [Alert::NeedsReview], "{name}: nobody else gives it back");
        }
        let report = PreAuthPolicy { stray: StrayPolicy::Report, ..policy() };
        let reported = with_strays_refunded(&before, change.clone(), &report);
        assert_eq!(reported, change, "{name}");
        assert_eq!(reported.pre_auth.strays[0].action, StrayAction::Reported, "{name}");
    }
}

#[test]
fn what_is_held_after_the_end_is_closed() {
    let before = situation("expired");
    let change = take(&before, held(), NOW).unwrap();
    assert_eq!(change.send, [Dispatch { what: Sending::Ask { close: true }, is_first: false }]);
    assert_eq!(change.alerts, [Alert::Stray { kind: StrayKind::Late, received_minor: Some(1000) }]);
    let closing = with_strays_refunded(&before, change, &policy()).pre_auth;
    assert_eq!((closing.strays.len(), closing.refunds.len()), (1, 0), "nothing was taken");
    assert!(closing.due_at.is_some() && take(&closing, held(), NOW).is_none(), "it is being closed");
    let again = due(&closing, closing.due_at.unwrap()).unwrap();
    assert_eq!(again.send, [Dispatch { what: Sending::Ask { close: true }, is_first: false }]);
    assert_eq!(again.pre_auth, closing, "the due entry stands until there is an answer");
    let closed = taken(&closing, HoldState::Released { expired: false });
    assert_eq!((closed.closing.clone(), closed.due_at, closed.status), (None, None, PreAuthStatus::Expired));
    let held_again = take(&closed, held(), NOW).unwrap();
    assert_eq!((held_again.pre_auth.strays.len(), held_again.alerts.len()), (1, 1), "its row does not grow by it");
}

#[test]
fn refunds_of_what_was_taken() {
    let before = situation("captured");
    let begun =
        |amount_minor, max| begin_refund(&before, refund(RefundStatus::Pending, amount_minor), max, &policy(), NOW);
    for amount_minor in [0, -1, 601, i64::MAX] {
        assert_eq!(begun(amount_minor, 9).unwrap_err(), Rejection::TooMuch { max_minor: 600 }, "{amount_minor}");
    }
    assert_eq!(begun(1, 0).unwrap_err(), Rejection::TooMany);
    let change = begun(500, 9).unwrap();
    let refund_no = change.pre_auth.refunds[0].refund_no.clone();
    assert_eq!(change.send, [Dispatch { what: Sending::Refund(refund_no.clone()), is_first: true }]);
    assert_eq!(change.pre_auth.refundable_minor(), 100);
    assert_eq!(due(&change.pre_auth, change.pre_auth.due_at.unwrap()).unwrap().send[0].what, change.send[0].what);
    let answered =
        |state| on_refund_answer(&change.pre_auth, &refund_no, &RefundAnswer::bare(state), &policy(), NOW).unwrap();
    let failed = answered(RefundState::Failed(failure()));
    assert_eq!((failed.tell, failed.pre_auth.refundable_minor()), (vec![EventName::RefundFailed], 600));
    let done = answered(RefundState::Success).pre_auth;
    let again = RefundAnswer::bare(RefundState::Failed(failure()));
    assert_eq!(on_refund_answer(&done, &refund_no, &again, &policy(), NOW), None, "it is over");
    assert_eq!(on_refund_answer(&before, &refund_no, &again, &policy(), NOW), None, "there is none");
    for (name, other) in situations().into_iter().filter(|(name, _)| *name != "captured") {
        let begun = begin_refund(&other, refund(RefundStatus::Pending, 1), 9, &policy(), NOW);
        assert_eq!(begun.unwrap_err(), Rejection::State(other.status), "{name}");
    }
    let unknown = RefundAnswer::unknown("no answer");
    let late = on_refund_answer(&change.pre_auth, &refund_no, &unknown, &policy(), NOW.plus(3 * DAY)).unwrap();
    assert_eq!((late.alerts, late.pre_auth.refundable_minor()), (vec![Alert::NeedsReview], 100));
}
