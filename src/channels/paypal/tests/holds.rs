//! Holding money, taking it, releasing it and holding it for longer.

use std::time::Duration;

use super::{
    NOTHING, approve, bench, bench_without_default, capture_of, held, hold_with, is_held, is_unknown, page_of,
    question, release_of, sent,
};
use crate::channels::tests::{START, browse};
use crate::channels::{AuthorizeRequest, ExtendRequest, HoldAnswer, HoldQuestion, HoldState, ProviderRefs};
use crate::domain::time::Timestamp;
use crate::sandbox::{FaultPatch, LedgerOperation};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn captured(answer: &HoldAnswer) -> Option<i64> {
    match answer.state {
        HoldState::Captured { captured_minor, .. } => Some(captured_minor),
        _ => None,
    }
}

#[tokio::test]
async fn stored_means_hold_money_at_once_with_paypal_s_own_times() {
    let bench = bench();
    let hold = hold_with(Some("tok_visa"));
    let answer = bench.channel.authorize(&hold).await;
    let expected = HoldState::Held {
        held_minor: 2000,
        expires_at: Some(START.plus(29 * DAY)),
        honor_until: Some(START.plus(3 * DAY)),
    };
    assert_eq!(answer.state, expected);
    assert!(answer.refs.channel_order_no.is_some() && answer.refs.hold_no.is_some());
    assert_ne!(answer.refs.channel_order_no, answer.refs.hold_no);
    let ledger = bench.ledger();
    assert_eq!((ledger.len(), ledger[0].operation), (1, LedgerOperation::Hold));
    assert_eq!((ledger[0].reference.as_str(), ledger[0].amount_minor), (hold.reference.as_str(), 2000));
}

#[tokio::test]
async fn a_hold_never_uses_the_means_that_stand_in_for_payments() {
    let bench = bench();
    let answer = bench.channel.authorize(&hold_with(None)).await;
    assert!(matches!(answer.state, HoldState::AwaitsMethod { failure: None, .. }), "{answer:?}");
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn an_approved_order_is_authorized_once_however_often_it_is_asked_about() {
    let bench = bench();
    let hold = hold_with(None);
    let offered = bench.channel.authorize(&hold).await;
    approve(&page_of(&offered)).await;
    assert!(bench.ledger().is_empty(), "an approved order holds nothing yet");
    let asked = question(&bench, &hold, &offered.refs, 10, false);
    let ask = || bench.channel.ask_hold(&asked);
    let answers = tokio::join!(ask(), ask(), ask(), ask(), ask());
    for answer in [answers.0, answers.1, answers.2, answers.3, answers.4] {
        assert!(is_held(&answer), "{answer:?}");
    }
    assert_eq!(bench.count(LedgerOperation::Hold), 1);
}

#[tokio::test]
async fn means_that_want_their_payer_are_told_from_none() {
    let bench = bench();
    let answer = bench.channel.authorize(&hold_with(Some("tok_3ds"))).await;
    assert!(matches!(answer.state, HoldState::ActionRequired { .. }), "{answer:?}");
    let other = AuthorizeRequest { provider_key: String::from("another"), ..hold_with(Some("tok_declined")) };
    let declined = bench.channel.authorize(&other).await;
    assert!(matches!(declined.state, HoldState::Declined(_)), "{declined:?}");
}

#[tokio::test]
async fn closing_before_and_after_the_payer_approves() {
    for approves in [false, true] {
        let bench = bench();
        let hold = hold_with(None);
        let offered = bench.channel.authorize(&hold).await;
        if approves {
            approve(&page_of(&offered)).await;
        }
        let closed = bench.channel.ask_hold(&question(&bench, &hold, &offered.refs, 5, true)).await;
        assert!(matches!(closed.state, HoldState::NotDone(_)), "{closed:?}");
        assert!(bench.ledger().is_empty());
    }
    let bench = bench();
    let (hold, refs) = held(&bench).await;
    for refs in [&refs, &ProviderRefs { hold_no: None, ..refs.clone() }, &NOTHING] {
        let closed = bench.channel.ask_hold(&question(&bench, &hold, refs, 5, true)).await;
        assert!(matches!(closed.state, HoldState::Released { .. }), "{closed:?}");
    }
    assert_eq!(bench.count(LedgerOperation::Void), 1);
}

#[tokio::test]
async fn what_the_payer_approves_after_the_end_is_held_by_nobody() {
    let bench = bench();
    let hold = hold_with(None);
    let offered = bench.channel.authorize(&hold).await;
    approve(&page_of(&offered)).await;
    let over = HoldQuestion { is_over: true, ..question(&bench, &hold, &offered.refs, 90, false) };
    let answer = bench.channel.ask_hold(&over).await;
    assert!(matches!(answer.state, HoldState::NotDone(_)), "{answer:?}");
    let stored = hold_with(Some("tok_visa"));
    let nameless = HoldQuestion { is_over: true, ..question(&bench, &stored, &NOTHING, 90, false) };
    assert!(is_unknown(&bench.channel.ask_hold(&nameless).await), "it is not made by asking");
    assert!(bench.ledger().is_empty());
    // What is held all the same is told.
    let (hold, refs) = held(&bench).await;
    let over = HoldQuestion { is_over: true, ..question(&bench, &hold, &refs, 90, false) };
    assert!(is_held(&bench.channel.ask_hold(&over).await));
}

#[tokio::test]
async fn what_a_dead_process_may_have_sent_to_an_approved_order_is_waited_for() {
    let bench = bench();
    let hold = hold_with(None);
    let offered = bench.channel.authorize(&hold).await;
    for (approves, after_s, is_closed) in [(false, 5, true), (true, 5, false), (true, 65, true)] {
        if approves {
            approve(&page_of(&offered)).await;
        }
        let asked = question(&bench, &hold, &offered.refs, 600 + after_s, true);
        let restarted_at = Timestamp::from_unix_s(asked.now.unix_s() - after_s);
        let closed = bench.channel.ask_hold(&HoldQuestion { sent_by: restarted_at, ..asked }).await;
        assert_eq!(matches!(closed.state, HoldState::NotDone(_)), is_closed, "{approves} {after_s}: {closed:?}");
        assert!(is_closed || is_unknown(&closed), "{closed:?}");
    }
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn closing_what_never_arrived_holds_nothing() {
    let bench = bench();
    let hold = hold_with(Some("tok_visa"));
    let closed = bench.channel.ask_hold(&question(&bench, &hold, &NOTHING, 90, true)).await;
    assert!(matches!(closed.state, HoldState::NotDone(_)), "{closed:?}");
    assert!(!is_held(&bench.channel.authorize(&hold).await), "its id is taken");
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn an_authorization_on_its_way_keeps_an_order_open() {
    let bench = bench_without_default();
    let hold = hold_with(None);
    let offered = bench.channel.authorize(&hold).await;
    approve(&page_of(&offered)).await;
    let late = FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(20_000), ..FaultPatch::default() };
    bench.faults(late).await;
    let answer = bench.channel.ask_hold(&question(&bench, &hold, &offered.refs, 10, false)).await;
    assert!(is_unknown(&answer) && answer.sent_money, "{answer:?}");
    bench.faults(FaultPatch { late_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
    let asked = question(&bench, &hold, &offered.refs, 11, true);
    let early = HoldQuestion { money_sent_at: Some(bench.clock.now()), ..asked };
    assert!(is_unknown(&bench.channel.ask_hold(&early).await));
    bench.clock.advance(Duration::from_secs(30));
    let closed = bench.channel.ask_hold(&question(&bench, &hold, &offered.refs, 41, true)).await;
    assert!(matches!(closed.state, HoldState::Released { .. }), "{closed:?}");
    assert_eq!((bench.count(LedgerOperation::Hold), bench.count(LedgerOperation::Void)), (1, 1));
}

#[tokio::test]
async fn taking_a_part_releases_the_rest() {
    let bench = bench();
    let (hold, refs) = held(&bench).await;
    let answer = bench.channel.capture(&capture_of(&hold, &refs, 1230, sent(&bench, 0, true))).await;
    assert_eq!(answer.state, HoldState::Captured { captured_minor: 1230, fee_minor: Some(92) });
    assert!(answer.refused.is_none() && answer.refs.capture_no.is_some());
    let mut learned = refs.clone();
    learned.learn(&answer.refs);
    for refs in [&refs, &learned] {
        let later = bench.channel.ask_hold(&question(&bench, &hold, refs, 10, false)).await;
        assert_eq!(captured(&later), Some(1230), "{later:?}");
    }
    assert_eq!(bench.count(LedgerOperation::Capture), 1);
}

#[tokio::test]
async fn a_capture_repeated_is_the_same_capture() {
    let bench = bench();
    let (hold, refs) = held(&bench).await;
    for is_first in [true, false, false] {
        let answer = bench.channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, 0, is_first))).await;
        assert_eq!(captured(&answer), Some(500), "{answer:?}");
    }
    // Another one is refused, and what there is is said.
    let mut another = capture_of(&hold, &refs, 700, sent(&bench, 0, true));
    another.provider_key.push_str("_b");
    let answer = bench.channel.capture(&another).await;
    assert_eq!((captured(&answer), answer.refused), (Some(500), None));
    assert_eq!(bench.count(LedgerOperation::Capture), 1);
}

#[tokio::test]
async fn a_capture_declined_in_an_answer_of_201_is_refused_and_the_money_is_still_held() {
    let bench = bench();
    let hold = hold_with(Some("tok_paypal_declines:CAPTURE_DECLINED"));
    let refs = bench.channel.authorize(&hold).await.refs;
    let answer = bench.channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, 0, true))).await;
    assert!(is_held(&answer), "{answer:?}");
    assert_eq!(answer.refused.unwrap().code, "capture_declined");
    assert_eq!(bench.count(LedgerOperation::Capture), 0);
}

#[tokio::test]
async fn a_capture_that_is_pending_is_taken_when_it_has_settled() {
    let bench = bench();
    let hold = hold_with(Some("tok_processing"));
    let offered = bench.channel.authorize(&hold).await;
    assert_eq!(offered.state, HoldState::Processing);
    bench.clock.advance(Duration::from_secs(5));
    let now_held = bench.channel.ask_hold(&question(&bench, &hold, &offered.refs, 5, false)).await;
    assert!(is_held(&now_held), "{now_held:?}");
    let request = capture_of(&hold, &offered.refs, 500, sent(&bench, 0, true));
    let answer = bench.channel.capture(&request).await;
    assert_eq!((answer.state, bench.count(LedgerOperation::Capture)), (HoldState::Processing, 0));
    bench.clock.advance(Duration::from_secs(5));
    let again = bench.channel.capture(&capture_of(&hold, &offered.refs, 500, sent(&bench, 5, false))).await;
    assert_eq!((captured(&again), bench.count(LedgerOperation::Capture)), (Some(500), 1));
}

#[tokio::test]
async fn more_than_is_held_is_refused_and_the_money_is_still_held() {
    let bench = bench();
    let (hold, refs) = held(&bench).await;
    let answer = bench.channel.capture(&capture_of(&hold, &refs, 2001, sent(&bench, 0, true))).await;
    assert!(is_held(&answer) && answer.refused.is_some(), "{answer:?}");
    assert_eq!(bench.count(LedgerOperation::Capture), 0);
}

#[tokio::test]
async fn a_release_repeated_is_one_release_and_too_late_after_a_capture() {
    let bench = bench();
    let (hold, refs) = held(&bench).await;
    for is_first in [true, false, true] {
        let answer = bench.channel.release(&release_of(&hold, &refs, sent(&bench, 0, is_first))).await;
        assert_eq!(answer.state, HoldState::Released { expired: false });
        assert_eq!(answer.refused, None);
    }
    assert_eq!(bench.count(LedgerOperation::Void), 1);
    let late = bench.channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, 0, true))).await;
    assert!(matches!(late.state, HoldState::Released { .. }), "{late:?}");

    let bench = super::bench();
    let (hold, refs) = held(&bench).await;
    bench.channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, 0, true))).await;
    let late = bench.channel.release(&release_of(&hold, &refs, sent(&bench, 0, true))).await;
    assert_eq!((captured(&late), late.refused), (Some(500), None));
}

#[tokio::test]
async fn holding_for_longer_changes_the_number_and_voiding_names_the_first() {
    for releases in [true, false] {
        let bench = bench();
        let (hold, refs) = held(&bench).await;
        let extend = |refs: &ProviderRefs| ExtendRequest {
            hold: hold.clone(),
            refs: refs.clone(),
            provider_key: format!("{}_4", hold.provider_key),
            held: hold.money,
            sent: sent(&bench, 0, true),
        };
        let early = bench.channel.extend(&extend(&refs)).await;
        assert!(is_held(&early) && early.refused.is_some(), "{early:?}");
        bench.clock.advance(4 * DAY);
        let answer = bench.channel.extend(&extend(&refs)).await;
        assert!(is_held(&answer) && answer.refused.is_none(), "{answer:?}");
        assert_eq!(answer.refs.parent_hold_no, refs.hold_no);
        assert_ne!(answer.refs.hold_no, refs.hold_no);
        // Lost and repeated, it is the same one.
        assert_eq!(bench.channel.extend(&extend(&refs)).await.refs, answer.refs);
        let mut extended = refs.clone();
        extended.learn(&answer.refs);
        let again = bench.channel.extend(&extend(&extended)).await;
        assert!(is_held(&again) && again.refused.is_some(), "{again:?}");
        if releases {
            let answer = bench.channel.release(&release_of(&hold, &extended, sent(&bench, 0, true))).await;
            assert_eq!(answer.state, HoldState::Released { expired: false });
        } else {
            let answer = bench.channel.capture(&capture_of(&hold, &extended, 700, sent(&bench, 0, true))).await;
            assert_eq!(captured(&answer), Some(700));
        }
        let ledger: Vec<LedgerOperation> = bench.ledger().iter().map(|entry| entry.operation).collect();
        let end = if releases { LedgerOperation::Void } else { LedgerOperation::Capture };
        assert_eq!(ledger, [LedgerOperation::Hold, end]);
    }
}

#[tokio::test]
async fn what_runs_out_is_expired() {
    let bench = bench();
    let (hold, refs) = held(&bench).await;
    bench.clock.advance(29 * DAY);
    let answer = bench.channel.ask_hold(&question(&bench, &hold, &refs, 5, false)).await;
    assert_eq!(answer.state, HoldState::Released { expired: true });
    let late = bench.channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, 0, true))).await;
    assert_eq!(late.state, HoldState::Released { expired: true });
    assert_eq!((bench.count(LedgerOperation::Void), bench.count(LedgerOperation::Capture)), (1, 0));
}

#[tokio::test]
async fn after_the_id_s_time_only_reading_tells() {
    let bench = bench();
    let (hold, refs) = held(&bench).await;
    let age_s = 44 * 24 * 60 * 60;
    let request = capture_of(&hold, &refs, 500, sent(&bench, age_s, false));
    assert!(is_unknown(&bench.channel.capture(&request).await), "it may have been sent again just now");
    let answer = bench.channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, age_s + 61, false))).await;
    assert!(is_held(&answer) && answer.refused.is_some(), "{answer:?}");
    // The clock is earlier than when it was sent.
    let answer = bench.channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, -1_000, false))).await;
    assert!(is_unknown(&answer), "{answer:?}");
    assert_eq!(bench.count(LedgerOperation::Capture), 0);
}

#[tokio::test]
async fn an_answer_about_another_hold_is_not_believed() {
    let bench = bench();
    let (hold, refs) = held(&bench).await;
    let mut other = hold.clone();
    other.reference = String::from("PA20260924000000zzzzzzzz");
    assert!(is_unknown(&bench.channel.ask_hold(&question(&bench, &other, &refs, 5, false)).await));
    let mut other = hold.clone();
    other.money.amount_minor += 1;
    assert!(is_unknown(&bench.channel.ask_hold(&question(&bench, &other, &refs, 5, false)).await));
}

#[tokio::test]
async fn a_payer_who_declines_leaves_nothing_held() {
    let bench = bench();
    let hold = hold_with(None);
    let offered = bench.channel.authorize(&hold).await;
    browse("POST", &format!("{}/decline", page_of(&offered))).await;
    let answer = bench.channel.ask_hold(&question(&bench, &hold, &offered.refs, 5, false)).await;
    assert!(matches!(answer.state, HoldState::NotDone(_)), "{answer:?}");
}
