//! Charges.

use std::time::Duration;

use super::{NOTHING, approve, bench, bench_without_default, in_money, page_in};
use crate::channels::tests::{browse, charge_with, failure_of, is_success, is_unknown};
use crate::channels::{ChargeAnswer, ChargeRequest, ChargeState, DeclineScope, ProviderRefs, ResolveRequest};
use crate::sandbox::{FaultPatch, LedgerOperation};

fn page(answer: &ChargeAnswer) -> String {
    match &answer.state {
        ChargeState::ActionRequired { next_action, .. } => page_in(next_action.as_ref()),
        other => panic!("it waits for nobody: {other:?}"),
    }
}

#[tokio::test]
async fn an_approved_charge_is_in_the_ledger_once_with_its_fee() {
    for token in [Some("tok_visa"), None] {
        let bench = bench();
        let request = charge_with(token);
        let answer = bench.charge(&request).await;
        // 3.49 % of 12.30 is 42.93 cents, and 49 more.
        assert_eq!(answer.state, ChargeState::Success { fee_minor: Some(92) }, "{token:?}");
        assert!(answer.refs.channel_order_no.is_some() && answer.refs.capture_no.is_some());
        bench.assert_charged_once(&request);
    }
}

#[tokio::test]
async fn currencies_without_decimals_come_out_as_our_own_minor_units() {
    for (amount_minor, code) in [(500, "JPY"), (50_000, "HUF"), (50_000, "TWD"), (1230, "EUR")] {
        let bench = bench();
        let request = in_money(charge_with(Some("tok_visa")), amount_minor, code);
        let answer = bench.charge(&request).await;
        assert_eq!(answer.state, ChargeState::Success { fee_minor: None }, "{code}");
        bench.assert_charged_once(&request);
    }
}

#[tokio::test]
async fn an_amount_that_paypal_cannot_express_is_not_sent() {
    let bench = bench();
    for (amount_minor, code) in [(50_001, "HUF"), (50_001, "TWD"), (1250, "KWD")] {
        let answer = bench.charge(&in_money(charge_with(Some("tok_visa")), amount_minor, code)).await;
        assert!(matches!(answer.state, ChargeState::NotDone(_)));
        assert_eq!(failure_of(&answer).code, "amount_not_supported");
    }
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_refusal_says_who_refused() {
    for (token, code, scope) in [
        ("tok_declined", "instrument_declined", DeclineScope::Bank),
        ("tok_insufficient_funds", "payer_cannot_pay", DeclineScope::Customer),
        ("tok_stolen_card", "card_closed", DeclineScope::Bank),
        ("tok_paypal_declines:TRANSACTION_REFUSED", "transaction_refused", DeclineScope::Bank),
    ] {
        let bench = bench();
        let answer = bench.charge(&charge_with(Some(token))).await;
        assert!(matches!(answer.state, ChargeState::Declined(_)), "{answer:?}");
        assert_eq!((failure_of(&answer).code.as_str(), failure_of(&answer).decline_scope), (code, scope));
        assert!(bench.ledger().is_empty());
    }
    let bench = bench();
    let answer = bench.charge(&charge_with(Some("tok_paypal_declines:PAYEE_ACCOUNT_RESTRICTED"))).await;
    assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
    assert_eq!(failure_of(&answer).decline_scope, DeclineScope::Processor);
}

#[tokio::test]
async fn an_answer_of_201_is_not_success() {
    let bench = bench();
    let answer = bench.charge(&charge_with(Some("tok_paypal_declines:CAPTURE_DECLINED"))).await;
    assert!(matches!(answer.state, ChargeState::Declined(_)), "{answer:?}");
    assert_eq!(failure_of(&answer).code, "capture_declined");
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn what_settles_later_is_processing_until_then() {
    let bench = bench();
    let request = charge_with(Some("tok_processing"));
    let answer = bench.charge(&request).await;
    assert_eq!(answer.state, ChargeState::Processing);
    for close in [false, true] {
        assert_eq!(bench.resolve(&request, &answer.refs, 1, close).await.state, ChargeState::Processing);
    }
    assert!(bench.ledger().is_empty());
    bench.clock.advance(Duration::from_secs(5));
    assert!(is_success(&bench.resolve(&request, &answer.refs, 6, false).await));
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn an_approved_order_is_captured_once_however_often_it_is_asked_about() {
    let bench = bench_without_default();
    let request = charge_with(None);
    let offered = bench.charge(&request).await;
    let page = page(&offered);
    let waiting = bench.resolve(&request, &offered.refs, 5, false).await;
    assert!(matches!(waiting.state, ChargeState::ActionRequired { .. }), "{waiting:?}");
    assert!(browse("GET", &page).await.1.contains("Approve"));
    approve(&page).await;
    assert!(bench.ledger().is_empty(), "nobody has captured it");
    let ask = || bench.resolve(&request, &offered.refs, 10, false);
    let answers = tokio::join!(ask(), ask(), ask(), ask(), ask());
    for answer in [answers.0, answers.1, answers.2, answers.3, answers.4] {
        assert!(is_success(&answer), "{answer:?}");
        assert!(answer.refs.capture_no.is_some());
    }
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn a_payer_who_declines_ends_it() {
    let bench = bench_without_default();
    let request = charge_with(Some("tok_3ds"));
    let offered = bench.charge(&request).await;
    browse("POST", &format!("{}/decline", page(&offered))).await;
    assert_eq!(bench.resolve(&request, &offered.refs, 10, false).await.state, ChargeState::Canceled);
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn what_is_given_up_is_never_captured() {
    for approves in [false, true] {
        let bench = bench_without_default();
        let request = charge_with(None);
        let offered = bench.charge(&request).await;
        if approves {
            approve(&page(&offered)).await;
        }
        assert_eq!(bench.resolve(&request, &offered.refs, 5, true).await.state, ChargeState::Canceled);
        assert!(bench.ledger().is_empty());
    }
}

#[tokio::test]
async fn a_capture_that_may_be_on_its_way_keeps_an_order_open() {
    let bench = bench_without_default();
    let request = charge_with(None);
    let offered = bench.charge(&request).await;
    approve(&page(&offered)).await;
    let late = FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(20_000), ..FaultPatch::default() };
    // Reading is not delayed, so that the capture alone is.
    bench.faults(late).await;
    let answer = bench.resolve(&request, &offered.refs, 10, false).await;
    assert!(is_unknown(&answer) && answer.sent_money, "{answer:?}");
    bench.faults(FaultPatch { late_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
    let question = bench.question(&request, &offered.refs, 11, true);
    let early = ResolveRequest { money_sent_at: Some(bench.clock.now()), ..question };
    assert!(is_unknown(&bench.channel.resolve(&early).await));
    bench.clock.advance(Duration::from_secs(30));
    assert!(is_success(&bench.resolve(&request, &offered.refs, 41, true).await));
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn a_lost_answer_is_found_by_repeating_and_charged_once() {
    for close in [false, true] {
        let bench = bench();
        let request = charge_with(Some("tok_lost_response"));
        assert!(is_unknown(&bench.charge(&request).await));
        bench.assert_charged_once(&request);
        assert!(is_success(&bench.resolve(&request, &NOTHING, 1, close).await), "close: {close}");
        bench.assert_charged_once(&request);
    }
}

#[tokio::test]
async fn an_effect_that_comes_late_is_found_and_never_made_twice() {
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    // The first call of all fetches a token, which is not delayed.
    let late = FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(20_000), ..FaultPatch::default() };
    bench.faults(late).await;
    assert!(is_unknown(&bench.charge(&request).await));
    bench.faults(FaultPatch { late_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
    assert!(is_success(&bench.resolve(&request, &NOTHING, 5, false).await));
    bench.clock.advance(Duration::from_secs(60));
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn a_failure_before_anything_happened_ends_once_nothing_can_be_on_its_way() {
    for token in ["tok_error", "tok_timeout"] {
        let bench = bench();
        let request = charge_with(Some(token));
        assert!(is_unknown(&bench.charge(&request).await), "{token}");
        assert!(is_unknown(&bench.resolve(&request, &NOTHING, 5, false).await), "{token}: too early to tell");
        let answer = bench.resolve(&request, &NOTHING, 60, false).await;
        assert!(matches!(answer.state, ChargeState::Declined(_)), "{token}: {answer:?}");
        assert!(bench.ledger().is_empty());
    }
}

#[tokio::test]
async fn an_id_that_paypal_may_have_forgotten_is_never_sent_again() {
    let (six_hours, margin) = (6 * 60 * 60, 60 * 60);
    let bench = bench_without_default();
    for token in ["tok_visa", "tok_lost_response"] {
        let with_means = charge_with(Some(token));
        assert!(is_unknown(&bench.resolve(&with_means, &NOTHING, six_hours - margin, false).await));
        assert!(is_unknown(&bench.resolve(&with_means, &NOTHING, 30 * six_hours, true).await));
    }
    let needs_approval = charge_with(None);
    let answer = bench.resolve(&needs_approval, &NOTHING, six_hours, false).await;
    assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
    assert!(is_unknown(&bench.resolve(&needs_approval, &NOTHING, six_hours - margin, false).await));
    // The clock is earlier than when it was sent.
    assert!(is_unknown(&bench.resolve(&charge_with(Some("tok_visa")), &NOTHING, -1_000, false).await));
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn an_answer_about_another_payment_is_not_believed() {
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    let answer = bench.charge(&request).await;
    let mut other = request.clone();
    other.reference = String::from("PY20260924000000zzzzzzzz");
    assert!(is_unknown(&bench.resolve(&other, &answer.refs, 5, false).await));
    let mut other = request.clone();
    other.provider_key = String::from("tg7_another");
    assert!(is_unknown(&bench.resolve(&other, &answer.refs, 5, false).await));
    for (amount_minor, code) in [(1231, "USD"), (1230, "EUR")] {
        let other = in_money(request.clone(), amount_minor, code);
        assert!(is_unknown(&bench.resolve(&other, &answer.refs, 5, false).await));
    }
    assert_eq!(bench.count(LedgerOperation::Charge), 1);
}

#[tokio::test]
async fn closing_what_never_arrived_charges_nobody() {
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    for (age_s, is_closed) in [(5, false), (6, true)] {
        let refs = if is_closed { known(&bench, &request).await } else { NOTHING };
        let answer = bench.resolve(&request, &refs, age_s, true).await;
        assert_eq!(answer.state == ChargeState::Canceled, is_closed, "{answer:?}");
    }
    // The request itself, should it arrive by now, finds its id taken.
    assert!(!is_success(&bench.charge(&request).await));
    assert!(bench.ledger().is_empty());
}

/// The names of what a request's id has made.
async fn known(bench: &crate::channels::tests::Bench, request: &ChargeRequest) -> ProviderRefs {
    bench.resolve(request, &NOTHING, 5, true).await.refs
}

#[tokio::test]
async fn closing_what_did_arrive_finds_it() {
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    bench.charge(&request).await;
    assert!(is_success(&bench.resolve(&request, &NOTHING, 5, true).await));
    bench.assert_charged_once(&request);
}
