//! What becomes of invoices.

use std::time::Duration;

use super::{CONFIRMED, EXPIRED, MINUTE, UNWATCHED, ask, bench, pay, waiting};
use crate::channels::tests::{START, charge_with, failure_of, hold_of, is_success, is_unknown};
use crate::channels::{
    Capabilities, ChargeAnswer, ChargeState, Failure, HoldState, ListError, NOT_SUPPORTED, ProviderRefs, StrayKind,
};
use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;
use crate::sandbox::{FaultPatch, LedgerOperation};

fn stray(answer: &ChargeAnswer) -> (StrayKind, Option<i64>) {
    match &answer.state {
        ChargeState::Stray { kind, received } => (*kind, received.map(|money| money.amount_minor)),
        other => panic!("no stray money: {other:?}"),
    }
}

#[tokio::test]
async fn it_says_what_it_can_do_and_nothing_is_held() {
    let bench = bench();
    let expected =
        Capabilities { charge: true, refund: true, notifications: true, check: true, ..Capabilities::default() };
    assert_eq!(bench.channel.capabilities(), expected);
    assert_eq!(bench.channel.methods(), ["crypto"]);
    assert!(bench.channel.takes_token("tok_visa") && !bench.channel.takes_token("pm_card_visa"));
    let report = bench.channel.check().await.unwrap();
    assert_eq!((report.account.as_deref(), report.findings.len()), (Some("TollgateSandboxStore"), 0));
    let held = bench.channel.authorize(&hold_of(1000)).await;
    assert!(matches!(held.state, HoldState::NotDone(failure) if failure.code == NOT_SUPPORTED));
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_payer_who_pays_at_once_has_paid() {
    for token in [None, Some("tok_visa")] {
        let bench = bench();
        let charge = charge_with(token);
        let answer = bench.charge(&charge).await;
        assert!(is_success(&answer), "{answer:?}");
        bench.assert_charged_once(&charge);
        assert!(is_success(&ask(&bench, &charge, &answer.refs).await));
    }
}

#[tokio::test]
async fn a_payer_has_until_the_server_stops_looking() {
    let bench = bench();
    let (charge, refs, url) = waiting(&bench).await;
    let ChargeState::ActionRequired { expires_at, .. } = ask(&bench, &charge, &refs).await.state else { panic!() };
    assert_eq!(expires_at, Some(START.plus((15 + 1_440) * MINUTE)));
    pay(&url, "12.30").await;
    assert_eq!(ask(&bench, &charge, &refs).await.state, ChargeState::Processing);
    bench.clock.advance(CONFIRMED);
    assert!(is_success(&ask(&bench, &charge, &refs).await));
    bench.assert_charged_once(&charge);
}

#[tokio::test]
async fn an_invoice_that_nobody_paid_is_over_when_nobody_looks_any_more() {
    let bench = bench();
    let (charge, refs, _) = waiting(&bench).await;
    bench.clock.advance(EXPIRED);
    let answer = ask(&bench, &charge, &refs).await;
    assert!(is_unknown(&answer), "coins may still come: {answer:?}");
    bench.clock.advance(UNWATCHED);
    assert_eq!(ask(&bench, &charge, &refs).await.state, ChargeState::Canceled);
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn what_is_given_up_is_closed_at_once_and_over_when_nobody_looks_any_more() {
    let bench = bench();
    let (charge, refs, url) = waiting(&bench).await;
    assert!(is_unknown(&bench.resolve(&charge, &refs, 60, true).await));
    pay(&url, "12.30").await;
    assert!(is_unknown(&ask(&bench, &charge, &refs).await), "it can be taken back for some seconds");
    bench.clock.advance(CONFIRMED);
    let late = ask(&bench, &charge, &refs).await;
    assert_eq!(stray(&late), (StrayKind::Late, Some(1230)), "it was paid after all");

    let bench = super::bench();
    let (charge, refs, _) = waiting(&bench).await;
    assert!(is_unknown(&bench.resolve(&charge, &refs, 60, true).await));
    bench.clock.advance(UNWATCHED);
    assert_eq!(bench.resolve(&charge, &refs, 60, true).await.state, ChargeState::Canceled);
}

#[tokio::test]
async fn what_is_paid_is_not_closed() {
    let bench = bench();
    let (charge, refs, url) = waiting(&bench).await;
    pay(&url, "12.30").await;
    assert_eq!(bench.resolve(&charge, &refs, 60, true).await.state, ChargeState::Processing);
    bench.clock.advance(CONFIRMED);
    assert!(is_success(&bench.resolve(&charge, &refs, 60, true).await));
}

#[tokio::test]
async fn money_that_comes_late_in_part_or_in_excess_is_no_success() {
    // Late and in full.
    let bench = bench();
    let (charge, refs, url) = waiting(&bench).await;
    bench.clock.advance(EXPIRED);
    pay(&url, "12.30").await;
    assert!(is_unknown(&ask(&bench, &charge, &refs).await), "it can be taken back for some seconds");
    bench.clock.advance(CONFIRMED);
    assert_eq!(stray(&ask(&bench, &charge, &refs).await), (StrayKind::Late, Some(1230)));
    assert_eq!(bench.count(LedgerOperation::Charge), 1);

    // In part: the rest may come, until nobody looks for it any more.
    for late in [false, true] {
        let bench = super::bench();
        let (charge, refs, url) = waiting(&bench).await;
        if late {
            bench.clock.advance(EXPIRED);
        }
        pay(&url, "12.00").await;
        bench.clock.advance(EXPIRED);
        assert!(is_unknown(&ask(&bench, &charge, &refs).await), "{late}");
        bench.clock.advance(UNWATCHED);
        assert_eq!(stray(&ask(&bench, &charge, &refs).await), (StrayKind::Partial, Some(1200)), "{late}");
    }

    // In two parts, the second of them late.
    let bench = super::bench();
    let (charge, refs, url) = waiting(&bench).await;
    pay(&url, "12.00").await;
    bench.clock.advance(EXPIRED);
    pay(&url, "0.30").await;
    bench.clock.advance(CONFIRMED);
    assert_eq!(stray(&ask(&bench, &charge, &refs).await), (StrayKind::Late, Some(1230)));

    // In two parts, both in time.
    let bench = super::bench();
    let (charge, refs, url) = waiting(&bench).await;
    pay(&url, "12.00").await;
    pay(&url, "0.30").await;
    bench.clock.advance(CONFIRMED);
    assert!(is_success(&ask(&bench, &charge, &refs).await));

    // Too much.
    let bench = super::bench();
    let (charge, refs, url) = waiting(&bench).await;
    pay(&url, "20.00").await;
    bench.clock.advance(CONFIRMED);
    assert_eq!(stray(&ask(&bench, &charge, &refs).await), (StrayKind::Over, Some(2000)));

    // In full, and then more: that it is paid does not wait for the rest.
    let bench = super::bench();
    let (charge, refs, url) = waiting(&bench).await;
    pay(&url, "12.30").await;
    bench.clock.advance(CONFIRMED);
    pay(&url, "7.70").await;
    assert_eq!(stray(&ask(&bench, &charge, &refs).await), (StrayKind::Over, None));
    bench.clock.advance(CONFIRMED);
    assert_eq!(stray(&ask(&bench, &charge, &refs).await), (StrayKind::Over, Some(2000)));
}

#[tokio::test]
async fn an_invoice_whose_answer_was_lost_is_found_and_never_made_again() {
    let bench = bench();
    let charge = charge_with(Some("tok_lost_response"));
    assert!(is_unknown(&bench.charge(&charge).await));
    let answer = ask(&bench, &charge, &ProviderRefs::default()).await;
    assert!(is_success(&answer) && answer.refs.channel_order_no.is_some(), "{answer:?}");
    bench.assert_charged_once(&charge);
    let found = bench.find(&charge, 60).await.unwrap().unwrap();
    assert_eq!(found, answer);
}

#[tokio::test]
async fn what_never_arrived_is_not_done_once_it_can_t_arrive_any_more() {
    let bench = bench();
    let charge = charge_with(Some("tok_timeout"));
    assert!(is_unknown(&bench.charge(&charge).await));
    let nameless = ProviderRefs::default();
    for close in [false, true] {
        assert!(is_unknown(&bench.resolve(&charge, &nameless, 4, close).await), "it may be on its way");
        let answer = bench.resolve(&charge, &nameless, 5, close).await;
        assert_eq!(failure_of(&answer).code, "not_received");
    }
    assert!(matches!(bench.find(&charge, 4).await, Err(ListError::Failed(_))));
    assert_eq!(bench.find(&charge, 5).await, Ok(None));
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn of_several_invoices_the_paid_one_counts_and_the_others_are_closed() {
    let bench = bench();
    let (charge, first, first_url) = waiting(&bench).await;
    bench.clock.advance(MINUTE);
    let (_, second, second_url) = waiting(&bench).await;
    let nameless = ProviderRefs::default();
    assert_eq!(ask(&bench, &charge, &nameless).await.refs, first, "the oldest, as long as none is paid");
    let closed = ask(&bench, &charge, &second).await;
    assert!(is_unknown(&closed), "{closed:?}");
    // A payer who had its page open all the same.
    pay(&second_url, "12.30").await;
    bench.clock.advance(CONFIRMED);
    let late = ask(&bench, &charge, &nameless).await;
    assert_eq!((stray(&late), &late.refs), ((StrayKind::Late, Some(1230)), &second));
    let (_, page) = super::browse("GET", &first_url).await;
    assert!(page.contains("Invalid"), "{page}");
}

#[tokio::test]
async fn attempts_of_one_payment_are_told_apart() {
    let bench = bench();
    let charge = charge_with(Some("tok_visa"));
    assert!(is_success(&bench.charge(&charge).await));
    let mut other = charge.clone();
    other.provider_key.push('x');
    let answer = ask(&bench, &other, &ProviderRefs::default()).await;
    assert_eq!(failure_of(&answer).code, "not_received");
    let refs = ask(&bench, &charge, &ProviderRefs::default()).await.refs;
    assert!(is_unknown(&ask(&bench, &other, &refs).await), "that is the first attempt's");
    let mut dearer = charge.clone();
    dearer.money = Money::new(1231, Currency::USD);
    assert!(is_unknown(&ask(&bench, &dearer, &refs).await), "another amount");
}

#[tokio::test]
async fn refusals_are_not_done() {
    let bench = bench();
    for token in ["tok_declined", "tok_insufficient_funds", "tok_stolen_card"] {
        let answer = bench.charge(&charge_with(Some(token))).await;
        let Failure { code, message, .. } = failure_of(&answer);
        assert_eq!(code, "validation-error");
        assert!(message.contains("No wallet"), "{message}");
    }
    let mut nothing = charge_with(None);
    nothing.money = Money::new(0, Currency::USD);
    assert_eq!(failure_of(&bench.charge(&nothing).await).code, "amount_not_supported");
    bench.faults(FaultPatch { rate_limited_rate: Some(1.0), ..FaultPatch::default() }).await;
    assert_eq!(failure_of(&bench.charge(&charge_with(None)).await).code, "too-many-requests");
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn troubles_leave_the_outcome_open_until_it_is_found_out() {
    let troubles = [
        FaultPatch { error_after_effect_rate: Some(1.0), ..FaultPatch::default() },
        FaultPatch { lost_response_rate: Some(1.0), ..FaultPatch::default() },
        FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(2_000), ..FaultPatch::default() },
    ];
    for trouble in troubles {
        let bench = bench();
        let charge = charge_with(Some("tok_visa"));
        bench.faults(trouble).await;
        assert!(is_unknown(&bench.charge(&charge).await), "{trouble:?}");
        let nameless = ProviderRefs::default();
        if trouble.lost_response_rate.is_some() {
            assert!(is_unknown(&ask(&bench, &charge, &nameless).await));
        }
        let well = FaultPatch {
            error_after_effect_rate: Some(0.0),
            lost_response_rate: Some(0.0),
            late_effect_rate: Some(0.0),
            ..FaultPatch::default()
        };
        bench.faults(well).await;
        bench.clock.advance(Duration::from_secs(2));
        assert!(is_success(&bench.resolve(&charge, &nameless, 2, false).await), "{trouble:?}");
        bench.assert_charged_once(&charge);
    }

    let bench = bench();
    bench.faults(FaultPatch { error_rate: Some(1.0), ..FaultPatch::default() }).await;
    assert!(is_unknown(&bench.charge(&charge_with(None)).await), "nobody knows what is behind a 500");
    bench.faults(FaultPatch { down: Some(true), error_rate: Some(0.0), ..FaultPatch::default() }).await;
    assert_eq!(failure_of(&bench.charge(&charge_with(None)).await).code, "channel_unreachable");
    assert!(is_unknown(&ask(&bench, &charge_with(None), &ProviderRefs::default()).await));
}

#[tokio::test]
async fn a_clock_that_is_behind_lets_nothing_go_too_early() {
    let bench = bench();
    let (charge, refs, _) = waiting(&bench).await;
    bench.clock.advance((15 + 1_440 + 4) * MINUTE);
    assert!(is_unknown(&ask(&bench, &charge, &refs).await), "the server's clock may be four minutes behind");
    let question = bench.question(&charge, &refs, 60, false);
    let earlier = crate::channels::ResolveRequest { now: Timestamp::from_unix_s(0), ..question };
    assert!(is_unknown(&bench.channel.resolve(&earlier).await));
}
