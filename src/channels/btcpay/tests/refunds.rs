//! Refunds: asked for once, claimed by the payer.

use std::time::Duration;

use super::{EXPIRED, ask, bench, pay, waiting};
use crate::channels::tests::{Bench, START, browse, charge_with, refund_of};
use crate::channels::{ChargeRequest, ProviderRefs, RefundAnswer, RefundRequest, RefundState};
use crate::sandbox::{FaultPatch, LedgerOperation};

async fn paid(bench: &Bench) -> (ChargeRequest, ProviderRefs) {
    let charge = charge_with(Some("tok_visa"));
    let refs = bench.charge(&charge).await.refs;
    (charge, refs)
}

/// The same refund, asked about this much later.
fn later(refund: &RefundRequest, seconds: u64) -> RefundRequest {
    RefundRequest { is_first: false, now: START.plus(Duration::from_secs(seconds)), ..refund.clone() }
}

fn code(answer: &RefundAnswer) -> &str {
    match &answer.state {
        RefundState::Failed(failure) => &failure.code,
        other => panic!("not failed: {other:?}"),
    }
}

async fn claim(bench: &Bench, answer: &RefundAnswer) {
    let id = answer.channel_refund_no.as_deref().unwrap();
    let (status, _) = browse("POST", &format!("{}/pay/{id}/approve", bench.sandbox.urls()["crypto"])).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_refund_is_pending_until_the_payer_claims_it() {
    let bench = bench();
    let (charge, refs) = paid(&bench).await;
    let refund = refund_of(&charge, &refs, 230, 1);
    let answer = bench.channel.refund(&refund).await;
    assert_eq!(answer.state, RefundState::Pending);
    assert_eq!(bench.channel.refund(&later(&refund, 600)).await, answer);
    assert_eq!(bench.count(LedgerOperation::Refund), 0);
    claim(&bench, &answer).await;
    let done = bench.channel.refund(&later(&refund, 601)).await;
    assert_eq!((done.state, done.channel_refund_no), (RefundState::Success, answer.channel_refund_no));
    let ledger = bench.ledger();
    let last = ledger.last().unwrap();
    assert_eq!((last.operation, last.amount_minor, &last.reference), (LedgerOperation::Refund, 230, &charge.reference));
}

#[tokio::test]
async fn a_refund_whose_answer_was_lost_is_found_and_never_made_again() {
    let bench = bench();
    let (charge, refs) = paid(&bench).await;
    let refund = refund_of(&charge, &refs, 230, 1);
    // The way that the payer paid is asked for first, and answered.
    bench.faults(FaultPatch { error_after_effect_rate: Some(1.0), ..FaultPatch::default() }).await;
    assert_eq!(code(&bench.channel.refund(&refund).await), "refund_failed", "nothing was sent that moves money");
    bench.faults(FaultPatch { error_after_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
    let answer = bench.channel.refund(&refund).await;
    assert_eq!(bench.channel.refund(&later(&refund, 1)).await, answer, "as if its answer had been lost");
    let other = refund_of(&charge, &refs, 100, 2);
    let unknown = bench.channel.refund(&later(&other, 59)).await;
    assert!(matches!(unknown.state, RefundState::Unknown { .. }), "{unknown:?}");
    assert_eq!(code(&bench.channel.refund(&later(&other, 60)).await), "not_received");
    let dearer = refund_of(&charge, &refs, 231, 1);
    let unknown = bench.channel.refund(&later(&dearer, 60)).await;
    assert!(matches!(unknown.state, RefundState::Unknown { .. }), "another amount: {unknown:?}");
}

#[tokio::test]
async fn what_can_t_be_given_back_fails() {
    let bench = bench();
    let (charge, refs) = paid(&bench).await;
    assert_eq!(
        code(&bench.channel.refund(&refund_of(&charge, &ProviderRefs::default(), 100, 1)).await),
        "missing_payment"
    );
    assert_eq!(code(&bench.channel.refund(&refund_of(&charge, &refs, 0, 1)).await), "amount_not_supported");
    let nowhere = ProviderRefs { channel_order_no: Some(String::from("nowhere")), ..ProviderRefs::default() };
    assert_eq!(code(&bench.channel.refund(&refund_of(&charge, &nowhere, 100, 1)).await), "invoice-not-found");
    let (charge, refs, _) = waiting(&bench).await;
    assert_eq!(code(&bench.channel.refund(&refund_of(&charge, &refs, 100, 1)).await), "refund_failed", "nothing came");
    bench.faults(FaultPatch { down: Some(true), ..FaultPatch::default() }).await;
    assert_eq!(code(&bench.channel.refund(&refund_of(&charge, &refs, 100, 1)).await), "channel_unreachable");
}

#[tokio::test]
async fn what_came_late_can_be_given_back() {
    let bench = bench();
    let (charge, refs, url) = waiting(&bench).await;
    bench.clock.advance(EXPIRED);
    pay(&url, "5.00").await;
    ask(&bench, &charge, &refs).await;
    let answer = bench.channel.refund(&refund_of(&charge, &refs, 500, 1)).await;
    assert_eq!(answer.state, RefundState::Pending);
    claim(&bench, &answer).await;
    assert_eq!(bench.count(LedgerOperation::Refund), 1);
}

#[tokio::test]
async fn however_many_refunds_there_are_one_is_found_and_that_another_is_not_there_is_found_out() {
    let bench = bench();
    let (charge, refs) = paid(&bench).await;
    let first = refund_of(&charge, &refs, 1, 1);
    let answer = bench.channel.refund(&first).await;
    for number in 2..=900 {
        let made = bench.channel.refund(&refund_of(&charge, &refs, 1, number)).await;
        assert_eq!(made.state, RefundState::Pending);
    }
    assert_eq!(bench.channel.refund(&later(&first, 60)).await, answer);
    let missing = refund_of(&charge, &refs, 1, 901);
    assert_eq!(code(&bench.channel.refund(&later(&missing, 60)).await), "not_received");

    let known = RefundRequest { channel_refund_no: answer.channel_refund_no.clone(), ..later(&first, 60) };
    assert_eq!(bench.channel.refund(&known).await, answer);
    let other = RefundRequest { channel_refund_no: Some(String::from("nowhere")), ..known };
    let unknown = bench.channel.refund(&other).await;
    assert!(matches!(unknown.state, RefundState::Unknown { .. }), "it is asked for by its number: {unknown:?}");
}
