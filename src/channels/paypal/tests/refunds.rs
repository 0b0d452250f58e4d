//! Refunds of payments and of captured holds.

use std::time::Duration;

use super::{bench, capture_of, held, sent};
use crate::channels::tests::{charge_with, is_success, refund_of};
use crate::channels::{RefundRequest, RefundState};
use crate::domain::time::Timestamp;
use crate::sandbox::{FaultPatch, LedgerOperation};

#[tokio::test]
async fn a_refund_names_the_capture_and_is_made_once() {
    let bench = bench();
    let charge = charge_with(Some("tok_visa"));
    let answer = bench.charge(&charge).await;
    assert!(is_success(&answer));
    let request = refund_of(&charge, &answer.refs, 400, 1);
    let refund = bench.channel.refund(&request).await;
    assert_eq!(refund.state, RefundState::Success);
    let again = bench.channel.refund(&RefundRequest { is_first: false, ..request.clone() }).await;
    assert_eq!(again, refund);
    assert_eq!(bench.channel.refund(&refund_of(&charge, &answer.refs, 830, 2)).await.state, RefundState::Success);
    let too_much = bench.channel.refund(&refund_of(&charge, &answer.refs, 1, 3)).await;
    assert!(matches!(too_much.state, RefundState::Failed(_)), "{too_much:?}");
    assert_eq!(bench.count(LedgerOperation::Refund), 2);
    assert!(bench.ledger().iter().all(|entry| entry.reference == charge.reference));
}

#[tokio::test]
async fn a_captured_hold_is_refunded_by_its_capture() {
    let bench = bench();
    let (hold, mut refs) = held(&bench).await;
    let captured = bench.channel.capture(&capture_of(&hold, &refs, 1230, sent(&bench, 0, true))).await;
    refs.learn(&captured.refs);
    let charge = charge_with(None);
    let request = RefundRequest { reference: hold.reference.clone(), ..refund_of(&charge, &refs, 1230, 1) };
    assert_eq!(bench.channel.refund(&request).await.state, RefundState::Success);
    assert_eq!(bench.ledger().last().map(|entry| entry.reference.clone()), Some(hold.reference));
}

#[tokio::test]
async fn a_lost_refund_is_found_by_repeating_and_made_once() {
    for fault in [
        FaultPatch { lost_response_rate: Some(1.0), ..FaultPatch::default() },
        FaultPatch { error_after_effect_rate: Some(1.0), ..FaultPatch::default() },
        FaultPatch { error_rate: Some(1.0), ..FaultPatch::default() },
        FaultPatch { rate_limited_rate: Some(1.0), ..FaultPatch::default() },
    ] {
        let bench = bench();
        let charge = charge_with(Some("tok_visa"));
        let refs = bench.charge(&charge).await.refs;
        bench.faults(fault).await;
        let request = refund_of(&charge, &refs, 400, 1);
        let answer = bench.channel.refund(&request).await;
        assert!(matches!(answer.state, RefundState::Unknown { .. }), "{fault:?}: {answer:?}");
        let well = FaultPatch {
            lost_response_rate: Some(0.0),
            error_after_effect_rate: Some(0.0),
            error_rate: Some(0.0),
            rate_limited_rate: Some(0.0),
            ..FaultPatch::default()
        };
        bench.faults(well).await;
        let again = bench.channel.refund(&RefundRequest { is_first: false, ..request }).await;
        assert_eq!(again.state, RefundState::Success, "{fault:?}");
        assert_eq!(bench.count(LedgerOperation::Refund), 1);
    }
}

#[tokio::test]
async fn what_nobody_can_ask_about_any_more_stays_unknown_and_is_not_sent() {
    let bench = bench();
    let charge = charge_with(Some("tok_visa"));
    let refs = bench.charge(&charge).await.refs;
    let request = refund_of(&charge, &refs, 400, 1);
    let now = Timestamp::from_unix_s(request.now.unix_s() + 44 * 24 * 60 * 60);
    let old = RefundRequest { is_first: false, now, ..request.clone() };
    assert!(matches!(bench.channel.refund(&old).await.state, RefundState::Unknown { .. }));
    let back = RefundRequest { is_first: false, set_back: Duration::from_secs(44 * 24 * 60 * 60), ..request.clone() };
    assert!(matches!(bench.channel.refund(&back).await.state, RefundState::Unknown { .. }));
    let without = RefundRequest { refs: super::NOTHING, ..request };
    assert!(matches!(bench.channel.refund(&without).await.state, RefundState::Failed(_)));
    assert_eq!(bench.count(LedgerOperation::Refund), 0);
}
