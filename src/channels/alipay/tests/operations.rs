//! Taking held money and letting it go: once, whatever happens to the answers.

use std::time::Duration;

use crate::channels::alipay::tests::{
    again_after, bench, book, capture_of, hold_with, is_captured, is_held, is_released, is_unknown_hold, question,
    release_of,
};
use crate::channels::tests::{Bench, charge_with, refund_of, sent_first};
use crate::channels::{
    AuthorizeRequest, CaptureRequest, ChargeRequest, HoldAnswer, HoldState, ProviderRefs, RefundState, ReleaseRequest,
    Sent,
};
use crate::domain::money::{Currency, Money};
use crate::sandbox::LedgerOperation::{Capture, Hold, Refund, Void};
use crate::sandbox::{FaultPatch, LedgerOperation};

/// A hold of 12.30 USD by bar code.
async fn held() -> (Bench, AuthorizeRequest, ProviderRefs) {
    let bench = bench();
    let hold = hold_with(Some("tok_visa"));
    let answer = bench.channel.authorize(&hold).await;
    assert!(is_held(&answer, 1230), "{answer:?}");
    (bench, hold, answer.refs)
}

fn refusal_of(answer: &HoldAnswer) -> Option<&str> {
    answer.refused.as_ref().map(|failure| failure.code.as_str())
}

#[tokio::test]
async fn what_is_not_taken_is_let_go_in_the_same_step() {
    for amount_minor in [1230, 500, 1] {
        let (bench, hold, refs) = held().await;
        let request = capture_of(&hold, &refs, amount_minor, 2);
        let answer = bench.channel.capture(&request).await;
        assert!(is_captured(&answer, amount_minor), "{answer:?}");
        assert!(answer.refs.capture_no.is_some() && answer.refused.is_none());
        let ledger = bench.ledger();
        assert_eq!(book(&bench), [(Hold, 1230), (Capture, amount_minor)]);
        assert!(ledger.iter().all(|entry| entry.reference == hold.reference), "{ledger:?}");
        let asked = bench.channel.ask_hold(&question(&bench, &hold, 60, false)).await;
        assert!(is_captured(&asked, amount_minor), "nothing is held any more: {asked:?}");
        // However often it is repeated, it counts once and has the same answer.
        let again = CaptureRequest { sent: again_after(1), ..request };
        assert_eq!(bench.channel.capture(&again).await, answer);
        assert_eq!(book(&bench).len(), 2);
    }
}

#[tokio::test]
async fn money_is_taken_and_let_go_once_at_most() {
    let (bench, hold, refs) = held().await;
    assert!(is_captured(&bench.channel.capture(&capture_of(&hold, &refs, 500, 2)).await, 500));
    let second = bench.channel.capture(&capture_of(&hold, &refs, 500, 3)).await;
    assert!(is_captured(&second, 500) && second.refs.capture_no.is_none(), "only what was taken before: {second:?}");
    let release = bench.channel.release(&release_of(&hold, &refs, 4)).await;
    assert!(is_captured(&release, 500), "{release:?}");
    assert_eq!(book(&bench), [(Hold, 1230), (Capture, 500)]);

    let (bench, hold, refs) = held().await;
    let released = bench.channel.release(&release_of(&hold, &refs, 2)).await;
    assert_eq!((&released.state, &released.refused), (&HoldState::Released { expired: false }, &None));
    let again = ReleaseRequest { sent: again_after(1), ..release_of(&hold, &refs, 2) };
    assert_eq!(bench.channel.release(&again).await, released);
    assert!(is_released(&bench.channel.release(&release_of(&hold, &refs, 3)).await));
    assert!(is_released(&bench.channel.capture(&capture_of(&hold, &refs, 500, 4)).await));
    assert_eq!(book(&bench), [(Hold, 1230), (Void, 1230)]);
}

#[tokio::test]
async fn more_than_is_held_is_refused_and_stays_held() {
    let (bench, hold, refs) = held().await;
    let over = capture_of(&hold, &refs, 1231, 2);
    let refused = bench.channel.capture(&over).await;
    assert!(is_held(&refused, 1230), "{refused:?}");
    assert_eq!(refusal_of(&refused), Some("auth_amount_not_enough"));
    // Its number is used up. A repetition says no more than that, and only once nothing can be on its way.
    let soon = bench.channel.capture(&CaptureRequest { sent: again_after(59), ..over.clone() }).await;
    assert!(is_unknown_hold(&soon), "{soon:?}");
    let settled = bench.channel.capture(&CaptureRequest { sent: again_after(60), ..over }).await;
    assert!(is_held(&settled, 1230) && refusal_of(&settled) == Some("trade_closed"), "{settled:?}");
    let release = ReleaseRequest { held: Money::new(1231, Currency::USD), ..release_of(&hold, &refs, 3) };
    let refused = bench.channel.release(&release).await;
    assert!(is_held(&refused, 1230) && refusal_of(&refused) == Some("request_amount_exceed"), "{refused:?}");
    assert!(is_captured(&bench.channel.capture(&capture_of(&hold, &refs, 1230, 4)).await, 1230));
    assert_eq!(book(&bench), [(Hold, 1230), (Capture, 1230)]);
}

#[tokio::test]
async fn letting_go_needs_a_number_other_than_that_of_the_freeze() {
    let (bench, hold, refs) = held().await;
    let release = ReleaseRequest { provider_key: format!("{}f", hold.provider_key), ..release_of(&hold, &refs, 2) };
    let refused = bench.channel.release(&release).await;
    assert!(is_held(&refused, 1230) && refusal_of(&refused) == Some("context_inconsistent"), "{refused:?}");
    assert_eq!(book(&bench), [(Hold, 1230)]);
}

#[tokio::test]
async fn without_a_number_or_an_amount_nothing_is_sent() {
    let (bench, hold, refs) = held().await;
    let dinars = Money::new(1255, "KWD".parse().unwrap());
    let captures = [
        (capture_of(&hold, &ProviderRefs::default(), 500, 2), "missing_hold"),
        (CaptureRequest { money: dinars, ..capture_of(&hold, &refs, 500, 2) }, "amount_not_supported"),
    ];
    for (request, code) in captures {
        let first = bench.channel.capture(&request).await;
        assert!(is_unknown_hold(&first) && refusal_of(&first) == Some(code), "{first:?}");
        let again = bench.channel.capture(&CaptureRequest { sent: again_after(600), ..request }).await;
        assert!(is_unknown_hold(&again) && again.refused.is_none(), "{again:?}");
    }
    let releases = [
        (release_of(&hold, &ProviderRefs::default(), 2), "missing_hold"),
        (ReleaseRequest { held: dinars, ..release_of(&hold, &refs, 2) }, "amount_not_supported"),
    ];
    for (request, code) in releases {
        let first = bench.channel.release(&request).await;
        assert!(is_unknown_hold(&first) && refusal_of(&first) == Some(code), "{first:?}");
        let again = bench.channel.release(&ReleaseRequest { sent: again_after(600), ..request }).await;
        assert!(is_unknown_hold(&again) && again.refused.is_none(), "{again:?}");
    }
    assert_eq!(book(&bench), [(Hold, 1230)]);
}

/// Faults that leave it open what happened, or that say that nothing did.
fn faults() -> Vec<(FaultPatch, Expected)> {
    let none = FaultPatch::default;
    vec![
        (FaultPatch { error_rate: Some(1.0), ..none() }, Expected::Unknown),
        (FaultPatch { error_after_effect_rate: Some(1.0), ..none() }, Expected::Unknown),
        (FaultPatch { lost_response_rate: Some(1.0), ..none() }, Expected::Unknown),
        (FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(4_000), ..none() }, Expected::Unknown),
        (FaultPatch { latency_ms: Some(5_000), ..none() }, Expected::Unknown),
        (FaultPatch { rate_limited_rate: Some(1.0), ..none() }, Expected::Unknown),
        (FaultPatch { down: Some(true), ..none() }, Expected::Refused),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Unknown,
    Refused,
}

const NO_FAULTS: FaultPatch = FaultPatch {
    latency_ms: Some(0),
    latency_jitter_ms: None,
    decline_rate: None,
    error_rate: Some(0.0),
    error_after_effect_rate: Some(0.0),
    lost_response_rate: Some(0.0),
    late_effect_rate: Some(0.0),
    late_effect_ms: None,
    rate_limited_rate: Some(0.0),
    duplicate_notification_rate: None,
    down: Some(false),
    seed: None,
};

/// Sends an operation under a fault, and again when the fault is gone; gives the last answer and the book.
async fn through(
    patch: FaultPatch,
    expected: Expected,
    send: impl AsyncFn(&Bench, &AuthorizeRequest, &ProviderRefs, Sent) -> HoldAnswer,
) -> (HoldAnswer, Vec<(LedgerOperation, i64)>) {
    let (bench, hold, refs) = held().await;
    bench.faults(patch).await;
    let first = send(&bench, &hold, &refs, sent_first()).await;
    let found = match &first.state {
        _ if first.refused.is_some() => Expected::Refused,
        HoldState::Unknown { .. } => Expected::Unknown,
        other => panic!("{patch:?}: {other:?}"),
    };
    assert_eq!(found, expected, "{patch:?}: {first:?}");
    bench.faults(NO_FAULTS).await;
    bench.clock.advance(Duration::from_secs(5));
    let last = send(&bench, &hold, &refs, again_after(5)).await;
    (last, book(&bench))
}

#[tokio::test]
async fn a_capture_is_done_once_whatever_happens_to_its_answer() {
    for (patch, expected) in faults() {
        let (answer, book) = through(patch, expected, async |bench, hold, refs, sent| {
            bench.channel.capture(&CaptureRequest { sent, ..capture_of(hold, refs, 500, 2) }).await
        })
        .await;
        assert!(is_captured(&answer, 500) && answer.refs.capture_no.is_some(), "{patch:?}: {answer:?}");
        assert_eq!(book, [(Hold, 1230), (Capture, 500)], "{patch:?}");
    }
}

#[tokio::test]
async fn a_release_is_done_once_whatever_happens_to_its_answer() {
    for (patch, expected) in faults() {
        let (answer, book) = through(patch, expected, async |bench, hold, refs, sent| {
            bench.channel.release(&ReleaseRequest { sent, ..release_of(hold, refs, 2) }).await
        })
        .await;
        assert_eq!(answer.state, HoldState::Released { expired: false }, "{patch:?}");
        assert_eq!(book, [(Hold, 1230), (Void, 1230)], "{patch:?}");
    }
}

#[tokio::test]
async fn what_was_taken_is_given_back_by_the_trade_that_took_it() {
    let (bench, hold, mut refs) = held().await;
    refs.learn(&bench.channel.capture(&capture_of(&hold, &refs, 800, 2)).await.refs);
    let captured =
        ChargeRequest { reference: hold.reference.clone(), money: Money::new(800, Currency::USD), ..charge_with(None) };
    for (amount_minor, number, expected) in [(300, 1, true), (501, 2, false), (500, 3, true)] {
        let state = bench.channel.refund(&refund_of(&captured, &refs, amount_minor, number)).await.state;
        assert_eq!(state == RefundState::Success, expected, "{amount_minor}: {state:?}");
    }
    assert_eq!(book(&bench), [(Hold, 1230), (Capture, 800), (Refund, 300), (Refund, 500)]);
    // The number of a hold, or of its order, is no trade's.
    let held_only = ProviderRefs { channel_order_no: Some(String::from("O")), capture_no: None, ..refs };
    let state = bench.channel.refund(&refund_of(&captured, &held_only, 1, 4)).await.state;
    assert!(matches!(state, RefundState::Failed(failure) if failure.code == "missing_payment"));
}
