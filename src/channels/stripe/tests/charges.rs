//! Charges and what is given back of them.

use std::time::Duration;

use crate::channels::stripe::response::PaymentIntent;
use crate::channels::stripe::tests::NOTHING;
use crate::channels::tests::{
    Bench, browse, channel_at, charge_with, failure_of, http_answer, is_success, is_unknown, peer_that_answers,
    refund_of,
};
use crate::channels::{ChargeState, DeclineScope, NextAction, ProviderRefs, RefundState};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::domain::money::Money;
use crate::domain::outcome::RetryAdvice;
use crate::domain::payment::failure_allows;
use crate::domain::time::Timestamp;
use crate::sandbox::{FaultPatch, LedgerOperation};

fn bench() -> Bench {
    Bench::new(ChannelKind::Stripe)
}

#[tokio::test]
async fn an_approved_charge_is_in_the_ledger_once_with_its_fee() {
    for token in [Some("tok_visa"), Some("pm_card_visa"), None] {
        let bench = bench();
        let request = charge_with(token);
        let answer = bench.charge(&request).await;
        // 2.9 % of 12.30 is 35.67 cents, and 30 more.
        assert_eq!(answer.state, ChargeState::Success { fee_minor: Some(66) }, "{token:?}");
        assert!(answer.refs.channel_order_no.unwrap().starts_with("pi_"));
        bench.assert_charged_once(&request);
    }
}

#[test]
fn a_fee_taken_in_another_currency_is_the_same_share_of_the_payment() {
    let fee = |amount_minor, code: &str, transaction: serde_json::Value| {
        let intent: PaymentIntent = serde_json::from_value(serde_json::json!({
            "id": "pi_1", "status": "succeeded", "amount": amount_minor, "currency": code,
            "latest_charge": { "id": "ch_1", "balance_transaction": transaction },
        }))
        .unwrap();
        intent.fee_minor(Money::new(amount_minor, code.to_ascii_uppercase().parse().unwrap()))
    };
    let transaction = |amount: i64, fee: i64| serde_json::json!({ "amount": amount, "fee": fee, "currency": "usd" });
    // 100.00 EUR are 105.00 USD; 3.35 USD of it are 3.19 EUR. 5,000 yen are 32.00 USD; 2.03 USD of it are 317 yen.
    assert_eq!(fee(10_000, "eur", transaction(10_500, 335)), Some(319));
    assert_eq!(fee(5_000, "jpy", transaction(3_200, 203)), Some(317));
    assert_eq!(fee(10_000, "usd", transaction(10_000, 320)), Some(320));
    assert_eq!(fee(10_000, "eur", transaction(0, 335)), None);
    assert_eq!(fee(10_000, "eur", serde_json::Value::Null), None);
}

#[tokio::test]
async fn currencies_with_exceptions_come_out_as_our_own_minor_units() {
    for (amount_minor, code) in [(500, "JPY"), (5, "ISK"), (5, "UGX"), (500, "MGA"), (1250, "KWD")] {
        let bench = bench();
        let request = crate::channels::ChargeRequest {
            money: Money::new(amount_minor, code.parse().unwrap()),
            ..charge_with(Some("tok_visa"))
        };
        let answer = bench.charge(&request).await;
        assert_eq!(answer.state, ChargeState::Success { fee_minor: None }, "{code}");
        bench.assert_charged_once(&request);
    }
}

#[tokio::test]
async fn an_amount_that_stripe_cannot_express_is_not_sent() {
    let bench = bench();
    for (amount_minor, code) in [(1255, "KWD"), (550, "MGA"), (100, "IRR")] {
        let mut request = charge_with(Some("tok_visa"));
        request.money = Money::new(amount_minor, code.parse().unwrap());
        let answer = bench.charge(&request).await;
        assert!(matches!(answer.state, ChargeState::NotDone(_)));
        assert_eq!(failure_of(&answer).code, "amount_not_supported");
    }
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_decline_closes_what_it_leaves_behind() {
    for (token, code, scope) in [
        ("tok_declined", "card_declined", DeclineScope::Bank),
        ("tok_insufficient_funds", "insufficient_funds", DeclineScope::Customer),
        ("tok_stolen_card", "stolen_card", DeclineScope::Bank),
        ("tok_chargeDeclinedProcessingError", "processing_error", DeclineScope::Processor),
    ] {
        let bench = bench();
        let request = charge_with(Some(token));
        let answer = bench.charge(&request).await;
        assert!(matches!(answer.state, ChargeState::Declined(_)), "{answer:?}");
        assert_eq!((failure_of(&answer).code.as_str(), failure_of(&answer).decline_scope), (code, scope));
        // Asked by its number, it is closed and says why; asked by its key, too.
        for refs in [&answer.refs, &NOTHING] {
            for close in [false, true] {
                let later = bench.resolve(&request, refs, 5, close).await;
                if refs == &NOTHING && close {
                    // The key is known with other parameters: the list has the object.
                    assert!(matches!(later.state, ChargeState::Declined(_)), "{later:?}");
                }
                assert_eq!(failure_of(&later), failure_of(&answer));
            }
        }
        assert!(bench.ledger().is_empty());
    }
}

#[tokio::test]
async fn an_unknown_token_is_refused_and_not_charged() {
    let bench = bench();
    for token in ["tok_nonsense", "pm_nonsense", "nonsense"] {
        let answer = bench.charge(&charge_with(Some(token))).await;
        assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
        // Its sender's mistake: no other channel is asked, and nothing is wrong with this one.
        assert_eq!(failure_of(&answer).decline_scope, DeclineScope::Customer);
    }
}

#[tokio::test]
async fn only_stripe_s_tokens_are_stripe_s() {
    let bench = bench();
    for token in ["tok_visa", "tok_1Pgafm", "pm_1Pgafm", "card_1", "src_1"] {
        assert!(bench.channel.takes_token(token), "{token}");
    }
    for token in ["28763443825664394", "nonsense", "", "xtok_visa"] {
        assert!(!bench.channel.takes_token(token), "{token}");
    }
}

#[tokio::test]
async fn an_effect_that_comes_late_is_found_and_never_made_twice() {
    for close in [false, true] {
        let bench = bench();
        let request = charge_with(Some("tok_visa"));
        let late = FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(20_000), ..FaultPatch::default() };
        bench.faults(late).await;
        assert!(is_unknown(&bench.charge(&request).await));
        bench.faults(FaultPatch { late_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
        assert!(bench.ledger().is_empty(), "not carried out yet");
        bench.clock.advance(Duration::from_secs(5));
        let early = bench.resolve(&request, &NOTHING, 5, close).await;
        if close {
            // The key is taken: what comes late is refused.
            assert!(matches!(early.state, ChargeState::NotDone(_)), "{early:?}");
        } else {
            assert!(is_success(&early), "{early:?}");
        }
        bench.clock.advance(Duration::from_secs(60));
        assert_eq!(bench.count(LedgerOperation::Charge), usize::from(!close));
    }
}

#[tokio::test]
async fn what_others_paid_since_does_not_hide_a_payment() {
    let bench = bench();
    let attempt = |number: u32, token: &str| {
        let mut request = charge_with(Some(token));
        request.provider_key = format!("tg7_PY20260924000000abcdefgh_{number}");
        request
    };
    let first = attempt(1, "tok_visa");
    assert!(is_success(&bench.charge(&first).await));
    bench.clock.advance(Duration::from_secs(25 * 60 * 60));
    for number in 2..=2_010 {
        bench.charge(&attempt(number, "tok_3ds")).await;
    }
    assert!(is_success(&bench.resolve(&first, &NOTHING, 25 * 60 * 60, false).await));
}

/// Charges of others, `per_second` in each of some seconds from now on.
async fn others_pay(bench: &Bench, seconds: u32, per_second: u32) {
    for second in 0..seconds {
        for number in 0..per_second {
            let mut other = charge_with(Some("tok_3ds"));
            other.provider_key = format!("tg7_PY20260924000000other_{second}_{number}");
            bench.charge(&other).await;
        }
        bench.clock.advance(Duration::from_secs(1));
    }
}

/// Asks until there is an answer, and at most `tries` times.
async fn resolve_patiently(bench: &Bench, request: &crate::channels::ChargeRequest, tries: i64) -> ChargeState {
    for _ in 0..tries {
        let age_s = bench.clock.now().unix_s() - crate::channels::tests::START.unix_s();
        let answer = bench.resolve(request, &NOTHING, age_s, false).await;
        if !is_unknown(&answer) {
            return answer.state;
        }
        bench.clock.advance(Duration::from_secs(10));
    }
    ChargeState::Unknown { reason: format!("asked {tries} times") }
}

#[tokio::test]
async fn that_nothing_was_done_is_proved_on_a_busy_account_too() {
    let bench = bench();
    let request = charge_with(Some("tok_error"));
    assert!(is_unknown(&bench.charge(&request).await));
    others_pay(&bench, 20, 110).await;
    assert!(is_unknown(&bench.resolve(&request, &NOTHING, 20, false).await));
    bench.clock.advance(Duration::from_secs(40));
    assert!(is_unknown(&bench.resolve(&request, &NOTHING, 60, false).await), "one call has no time for so much");
    let state = resolve_patiently(&bench, &request, 10).await;
    assert!(matches!(state, ChargeState::NotDone(_)), "{state:?}");
}

#[tokio::test]
async fn a_failure_after_the_effect_is_found_on_a_busy_account_too() {
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    bench.faults(FaultPatch { error_after_effect_rate: Some(1.0), ..FaultPatch::default() }).await;
    assert!(is_unknown(&bench.charge(&request).await));
    bench.faults(FaultPatch { error_after_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
    others_pay(&bench, 20, 110).await;
    let state = resolve_patiently(&bench, &request, 1).await;
    assert!(matches!(state, ChargeState::Success { .. }), "{state:?}");
    assert_eq!(bench.count(LedgerOperation::Charge), 1);
}

#[tokio::test]
async fn the_effect_of_a_repetition_is_found_however_late_it_was() {
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    bench.clock.advance(Duration::from_secs(3_600));
    // The first try never arrived; this one does, and takes the money.
    bench.faults(FaultPatch { error_after_effect_rate: Some(1.0), ..FaultPatch::default() }).await;
    assert!(is_unknown(&bench.resolve(&request, &NOTHING, 3_600, false).await));
    bench.faults(FaultPatch { error_after_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
    bench.clock.advance(Duration::from_secs(3_600));
    assert!(is_success(&bench.resolve(&request, &NOTHING, 7_200, false).await));
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn a_payer_who_has_to_act_approves_or_declines_on_the_page() {
    for approve in [true, false] {
        let bench = bench();
        let request = charge_with(Some("tok_3ds"));
        let answer = bench.charge(&request).await;
        let ChargeState::ActionRequired { next_action: Some(NextAction::Redirect { url }), .. } = &answer.state else {
            panic!("{answer:?}");
        };
        assert!(answer.refs.client_secret.is_some());
        let waiting = bench.resolve(&request, &answer.refs, 5, false).await;
        assert!(matches!(waiting.state, ChargeState::ActionRequired { .. }));
        assert!(browse("GET", url).await.1.contains("Approve"));
        let action = if approve { "approve" } else { "decline" };
        assert_eq!(browse("POST", &format!("{url}/{action}")).await.0, 200);
        let later = bench.resolve(&request, &answer.refs, 10, false).await;
        if approve {
            assert!(is_success(&later), "{later:?}");
            bench.assert_charged_once(&request);
        } else {
            assert!(matches!(later.state, ChargeState::Declined(_)), "{later:?}");
            assert_eq!(failure_of(&later).decline_scope, DeclineScope::Customer);
            assert_eq!(browse("POST", &format!("{url}/approve")).await.0, 200);
            assert!(bench.ledger().is_empty());
        }
    }
}

#[tokio::test]
async fn closing_what_waits_for_the_payer_keeps_it_from_being_paid() {
    let bench = bench();
    let request = charge_with(Some("tok_3ds"));
    let answer = bench.charge(&request).await;
    let ChargeState::ActionRequired { next_action: Some(NextAction::Redirect { url }), .. } = &answer.state else {
        panic!("{answer:?}");
    };
    for _ in 0..2 {
        let closed = bench.resolve(&request, &answer.refs, 5, true).await;
        assert_eq!(closed.state, ChargeState::Canceled);
    }
    browse("POST", &format!("{url}/approve")).await;
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_recorded_answer_does_not_hide_what_happened_since() {
    let bench = bench();
    let request = charge_with(Some("tok_3ds"));
    let answer = bench.charge(&request).await;
    let ChargeState::ActionRequired { next_action: Some(NextAction::Redirect { url }), .. } = &answer.state else {
        panic!("{answer:?}");
    };
    browse("POST", &format!("{url}/approve")).await;
    // The key still answers `requires_action`.
    assert!(is_success(&bench.resolve(&request, &NOTHING, 5, false).await));
    // And closing comes too late.
    assert!(is_success(&bench.resolve(&request, &NOTHING, 5, true).await));
    bench.assert_charged_once(&request);
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
async fn a_lost_answer_is_found_by_asking_and_charged_once() {
    for close in [false, true] {
        let bench = bench();
        let request = charge_with(Some("tok_lost_response"));
        assert!(is_unknown(&bench.charge(&request).await));
        bench.assert_charged_once(&request);
        let answer = bench.resolve(&request, &NOTHING, 1, close).await;
        assert_eq!(answer.state, ChargeState::Success { fee_minor: Some(66) }, "close: {close}");
        bench.assert_charged_once(&request);
    }
}

#[tokio::test]
async fn a_request_that_never_arrived_is_closed_for_ever() {
    let bench = bench();
    let request = charge_with(Some("tok_timeout"));
    assert!(is_unknown(&bench.charge(&request).await));
    let answer = bench.resolve(&request, &NOTHING, 1, true).await;
    assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
    // Should the request arrive after all, even with a card that pays, its key is taken.
    for token in ["tok_timeout", "tok_visa"] {
        let late = bench.charge(&charge_with(Some(token))).await;
        assert!(is_unknown(&late), "{late:?}");
    }
    for close in [true, false] {
        let again = bench.resolve(&request, &NOTHING, 2, close).await;
        assert!(matches!(again.state, ChargeState::NotDone(_)), "{again:?}");
    }
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_recorded_failure_is_not_done_only_when_it_is_old_and_nothing_is_there() {
    let bench = bench();
    let request = charge_with(Some("tok_error"));
    assert!(is_unknown(&bench.charge(&request).await));
    for close in [false, true] {
        assert!(is_unknown(&bench.resolve(&request, &NOTHING, 5, close).await));
        let answer = bench.resolve(&request, &NOTHING, 61, close).await;
        assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
    }
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_fresh_failure_proves_nothing_however_old_the_request_is() {
    let bench = bench();
    let request = charge_with(Some("tok_error"));
    // Nothing has arrived before, so that this repetition is the first to fail.
    assert!(is_unknown(&bench.resolve(&request, &NOTHING, 3_600, false).await));
    // Now the failure is recorded, and nothing is there.
    let answer = bench.resolve(&request, &NOTHING, 3_600, false).await;
    assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
}

#[tokio::test]
async fn a_failure_after_the_effect_is_found_in_the_list() {
    for close in [false, true] {
        let bench = bench();
        let request = charge_with(Some("tok_visa"));
        bench.faults(FaultPatch { error_after_effect_rate: Some(1.0), ..FaultPatch::default() }).await;
        assert!(is_unknown(&bench.charge(&request).await));
        bench.faults(FaultPatch { error_after_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
        assert!(is_success(&bench.resolve(&request, &NOTHING, 5, close).await));
        bench.assert_charged_once(&request);
    }
}

#[tokio::test]
async fn after_the_keys_lifetime_nothing_is_sent_again() {
    let day_s = 24 * 60 * 60;
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    // The last repetition may have been sent just before the key's time was over.
    assert!(is_unknown(&bench.resolve(&request, &NOTHING, 23 * 60 * 60 + 59, false).await));
    let answer = bench.resolve(&request, &NOTHING, day_s, false).await;
    assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
    assert!(bench.ledger().is_empty());
    assert!(is_success(&bench.charge(&request).await));
    bench.clock.advance(Duration::from_secs(25 * 60 * 60));
    assert!(is_success(&bench.resolve(&request, &NOTHING, 25 * 60 * 60, false).await));
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn with_a_clock_that_was_set_back_nothing_is_sent_again_whose_key_may_be_forgotten() {
    let hours = |count: u64| Duration::from_secs(count * 3_600);
    for (charged_after, closes) in [(0, false), (0, true), (12, false)] {
        let bench = bench();
        let request = charge_with(Some("tok_visa"));
        // In the last case our clock was ahead when it was sent, by hours.
        bench.clock.advance(hours(12));
        let sent_at = bench.clock.now().plus(hours(charged_after));
        assert!(is_success(&bench.charge(&request).await));
        bench.clock.advance(hours(30));
        let question = |now, set_back| crate::channels::ResolveRequest {
            first_sent_at: sent_at,
            sent_by: sent_at,
            now,
            set_back,
            ..bench.question(&request, &NOTHING, 0, closes)
        };
        for (now, set_back) in [(sent_at.minus(hours(2)), Duration::ZERO), (sent_at.plus(hours(1)), hours(29))] {
            let answer = bench.channel.resolve(&question(now, set_back)).await;
            let is_found = charged_after == 0 || now < sent_at;
            assert_eq!(is_success(&answer), is_found, "{answer:?}");
            assert!(is_found || is_unknown(&answer), "{answer:?}");
            bench.assert_charged_once(&request);
        }
    }
    // What is not there may be on its way as far as anybody knows.
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    for close in [false, true] {
        assert!(is_unknown(&bench.resolve(&request, &NOTHING, -301, close).await));
        assert!(bench.ledger().is_empty());
    }
    // A few minutes are a time server's work.
    assert!(is_success(&bench.resolve(&request, &NOTHING, -299, false).await));
}

#[tokio::test]
async fn a_refund_is_not_sent_again_with_a_clock_that_was_set_back() {
    let bench = bench();
    let charge = charge_with(Some("tok_visa"));
    let refs = bench.charge(&charge).await.refs;
    let mut refund = refund_of(&charge, &refs, 500, 1);
    assert_eq!(bench.channel.refund(&refund).await.state, RefundState::Success);
    // Stripe forgets the key.
    bench.clock.advance(Duration::from_secs(30 * 3_600));
    refund.is_first = false;
    refund.now = refund.first_sent_at.minus(Duration::from_secs(3_600));
    assert_eq!(bench.channel.refund(&refund).await.state, RefundState::Success, "it is in the list");
    refund.now = refund.first_sent_at.plus(Duration::from_secs(3_600));
    refund.set_back = Duration::from_secs(29 * 3_600);
    assert_eq!(bench.channel.refund(&refund).await.state, RefundState::Success);
    assert_eq!(bench.count(LedgerOperation::Refund), 1);
    let absent = crate::channels::RefundRequest {
        is_first: false,
        now: refund.first_sent_at.minus(Duration::from_secs(3_600)),
        ..refund_of(&charge, &refs, 100, 2)
    };
    assert!(matches!(bench.channel.refund(&absent).await.state, RefundState::Unknown { .. }));
    assert_eq!(bench.count(LedgerOperation::Refund), 1);
}

#[tokio::test]
async fn a_repeated_refund_that_is_refused_is_looked_for_whatever_the_clock_says() {
    let bench = bench();
    let charge = charge_with(Some("tok_visa"));
    let refs = bench.charge(&charge).await.refs;
    let refund = refund_of(&charge, &refs, 1230, 1);
    assert_eq!(bench.channel.refund(&refund).await.state, RefundState::Success);
    bench.clock.advance(Duration::from_secs(30 * 3_600));
    // Refused as given back already. By the clock it is the very moment of the first try.
    let again = crate::channels::RefundRequest { is_first: false, ..refund };
    assert_eq!(bench.channel.refund(&again).await.state, RefundState::Success);
}

#[tokio::test]
async fn the_list_is_searched_to_its_end_and_tells_attempts_apart() {
    let bench = bench();
    let attempt = |number: u32, token: &str| {
        let mut request = charge_with(Some(token));
        request.provider_key = format!("tg7_PY20260924000000abcdefgh_{number}");
        request
    };
    let first = attempt(1, "tok_visa");
    assert!(is_success(&bench.charge(&first).await));
    for number in 2..=120 {
        bench.charge(&attempt(number, "tok_declined")).await;
    }
    let day = Duration::from_secs(24 * 60 * 60);
    bench.clock.advance(day);
    assert!(is_success(&bench.resolve(&first, &NOTHING, 86_400, false).await));
    let answer = bench.resolve(&attempt(121, "tok_visa"), &NOTHING, 86_400, false).await;
    assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
}

#[tokio::test]
async fn an_emulator_that_is_down_certainly_charges_nothing_and_recovers() {
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    // Warm up a pooled connection, which `down` breaks.
    let mut other = charge_with(Some("tok_declined"));
    other.provider_key.push('0');
    bench.charge(&other).await;
    bench.faults(FaultPatch { down: Some(true), ..FaultPatch::default() }).await;
    let answer = bench.charge(&request).await;
    assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
    assert_eq!(failure_of(&answer).code, "channel_unreachable");
    assert!(is_unknown(&bench.resolve(&request, &NOTHING, 1, true).await));
    bench.faults(FaultPatch { down: Some(false), ..FaultPatch::default() }).await;
    assert!(is_success(&bench.charge(&request).await));
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn faults_are_what_they_say() {
    let cases = [
        (FaultPatch { decline_rate: Some(1.0), ..FaultPatch::default() }, "declined"),
        (FaultPatch { error_rate: Some(1.0), ..FaultPatch::default() }, "unknown"),
        (FaultPatch { lost_response_rate: Some(1.0), ..FaultPatch::default() }, "unknown"),
        (FaultPatch { rate_limited_rate: Some(1.0), ..FaultPatch::default() }, "not done"),
        (FaultPatch { latency_ms: Some(5_000), ..FaultPatch::default() }, "unknown"),
    ];
    for (patch, expected) in cases {
        let bench = bench();
        bench.faults(patch).await;
        let answer = bench.charge(&charge_with(Some("tok_visa"))).await;
        let found = match &answer.state {
            ChargeState::Declined(_) => "declined",
            ChargeState::Unknown { .. } => "unknown",
            ChargeState::NotDone(_) => "not done",
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{patch:?}");
        let charged = patch.lost_response_rate.is_some() || patch.latency_ms.is_some();
        assert_eq!(bench.count(LedgerOperation::Charge), usize::from(charged), "{patch:?}");
    }
}

#[tokio::test]
async fn a_rate_limit_says_nothing_about_an_earlier_request() {
    let bench = bench();
    let request = charge_with(Some("tok_lost_response"));
    bench.charge(&request).await;
    bench.faults(FaultPatch { rate_limited_rate: Some(1.0), ..FaultPatch::default() }).await;
    for (age_s, close) in [(1, false), (1, true), (3_600, false), (3_600, true), (90_000, false)] {
        assert!(is_unknown(&bench.resolve(&request, &NOTHING, age_s, close).await));
    }
}

#[tokio::test]
async fn refunds_in_parts_up_to_the_amount_and_not_beyond() {
    let bench = bench();
    let charge = charge_with(Some("tok_visa"));
    let refs = bench.charge(&charge).await.refs;
    let first = refund_of(&charge, &refs, 500, 1);
    let answer = bench.channel.refund(&first).await;
    assert_eq!(answer.state, RefundState::Success);
    assert!(answer.channel_refund_no.as_deref().unwrap().starts_with("re_"));
    // The same again is the same refund.
    assert_eq!(bench.channel.refund(&first).await, answer);
    let over = bench.channel.refund(&refund_of(&charge, &refs, 731, 2)).await;
    assert!(matches!(over.state, RefundState::Failed(_)), "{over:?}");
    assert_eq!(bench.channel.refund(&refund_of(&charge, &refs, 730, 3)).await.state, RefundState::Success);
    let nothing_left = bench.channel.refund(&refund_of(&charge, &refs, 1, 4)).await;
    assert!(matches!(&nothing_left.state, RefundState::Failed(failure) if failure.code == "charge_already_refunded"));
    let refunds: Vec<_> =
        bench.ledger().into_iter().skip(1).map(|entry| (entry.reference, entry.amount_minor)).collect();
    assert_eq!(refunds, [(charge.reference.clone(), 500), (charge.reference, 730)]);
}

#[tokio::test]
async fn a_refund_whose_answer_is_lost_is_found() {
    for (fault, age) in [
        (FaultPatch { lost_response_rate: Some(1.0), ..FaultPatch::default() }, Duration::from_secs(5)),
        (FaultPatch { lost_response_rate: Some(1.0), ..FaultPatch::default() }, Duration::from_secs(90_000)),
        (FaultPatch { error_after_effect_rate: Some(1.0), ..FaultPatch::default() }, Duration::from_secs(5)),
    ] {
        let bench = bench();
        let charge = charge_with(Some("tok_visa"));
        let refs = bench.charge(&charge).await.refs;
        let mut refund = refund_of(&charge, &refs, 500, 1);
        bench.faults(fault).await;
        assert!(matches!(bench.channel.refund(&refund).await.state, RefundState::Unknown { .. }));
        let calm =
            FaultPatch { lost_response_rate: Some(0.0), error_after_effect_rate: Some(0.0), ..FaultPatch::default() };
        bench.faults(calm).await;
        refund.now = refund.now.plus(age);
        refund.is_first = false;
        bench.clock.advance(age);
        assert_eq!(bench.channel.refund(&refund).await.state, RefundState::Success);
        assert_eq!(bench.count(LedgerOperation::Refund), 1);
    }
}

#[tokio::test]
async fn a_refund_that_was_not_done_fails_only_when_that_is_certain() {
    let bench = bench();
    let charge = charge_with(Some("tok_visa"));
    let refs = bench.charge(&charge).await.refs;
    let mut refund = refund_of(&charge, &refs, 500, 1);
    bench.faults(FaultPatch { down: Some(true), ..FaultPatch::default() }).await;
    assert!(matches!(bench.channel.refund(&refund).await.state, RefundState::Unknown { .. }));
    bench.faults(FaultPatch { down: Some(false), error_rate: Some(1.0), ..FaultPatch::default() }).await;
    assert!(matches!(bench.channel.refund(&refund).await.state, RefundState::Unknown { .. }));
    bench.faults(FaultPatch { error_rate: Some(0.0), ..FaultPatch::default() }).await;
    refund.is_first = false;
    refund.now = refund.first_sent_at.plus(Duration::from_secs(30));
    assert!(matches!(bench.channel.refund(&refund).await.state, RefundState::Unknown { .. }));
    refund.now = refund.first_sent_at.plus(Duration::from_secs(60));
    assert!(matches!(bench.channel.refund(&refund).await.state, RefundState::Failed(_)));
    assert_eq!(bench.count(LedgerOperation::Refund), 0);
}

#[tokio::test]
async fn what_is_not_stripes_answer_is_unknown() {
    let html = "<html>Bad gateway</html>";
    let foreign =
        r#"{"id":"pi_x","status":"succeeded","amount":1230,"amount_received":1230,"currency":"usd","metadata":{}}"#;
    let peers = [
        http_answer(200, "text/html", html, html.len()),
        http_answer(400, "text/html", html, html.len()),
        http_answer(402, "application/json", "{}", 2),
        http_answer(403, "application/json", r#"{"error":"forbidden"}"#, 21),
        http_answer(404, "application/json", r#"{"error":{"message":"no"}}"#, 26),
        http_answer(502, "text/html", html, html.len()),
        http_answer(301, "text/html", html, html.len()),
        http_answer(200, "application/json", foreign, foreign.len()),
        // Half a body.
        http_answer(200, "application/json", foreign, foreign.len() + 10),
        http_answer(200, "application/json", &"x".repeat(300_000), 300_000),
        b"not HTTP at all\r\n\r\n".to_vec(),
        Vec::new(),
    ];
    for peer in peers {
        let shown = String::from_utf8_lossy(&peer[..peer.len().min(80)]).into_owned();
        let channel = channel_at(ChannelKind::Stripe, &peer_that_answers(peer).await, Clock::system());
        let charge = charge_with(Some("tok_visa"));
        assert!(is_unknown(&channel.charge(&charge).await), "{shown}");
        let refs = ProviderRefs { channel_order_no: Some(String::from("pi_x")), ..ProviderRefs::default() };
        for (refs, close) in [(&NOTHING, false), (&NOTHING, true), (&refs, false), (&refs, true)] {
            let request = crate::channels::ResolveRequest {
                charge: charge.clone(),
                first_sent_at: Timestamp::from_unix_s(0),
                now: Timestamp::from_unix_s(3_600),
                sent_by: Timestamp::from_unix_s(0),
                settling: Duration::from_secs(60),
                set_back: Duration::ZERO,
                offered_at: None,
                money_sent_at: None,
                refs: refs.clone(),
                close,
            };
            assert!(is_unknown(&channel.resolve(&request).await), "{shown}");
        }
        let refund = channel.refund(&refund_of(&charge, &refs, 500, 1)).await;
        assert!(matches!(refund.state, RefundState::Unknown { .. }), "{shown}: {refund:?}");
    }
}

/// Every code that the emulator can refuse with, over sockets: who refused, and whether another channel may be asked.
#[tokio::test]
async fn codes_come_through_with_what_they_mean() {
    use DeclineScope::{Bank, Customer, Network, Processor, Unknown};
    use RetryAdvice::{Corrected, Later, Never, NotNow};
    for (codes, scope, advice, may_go_on) in [
        ("processing_error", Processor, None, true),
        ("processing_error:try_again_later", Processor, Some(Later), true),
        ("issuer_not_available", Network, None, true),
        ("reenter_transaction::19", Network, None, true),
        ("processing_error:do_not_try_again", Bank, Some(Never), false),
        ("processing_error:confirm_card_data", Processor, Some(Corrected), false),
        ("processing_error::R1", Bank, Some(Never), false),
        ("issuer_not_available:try_again_later:91:03", Bank, Some(Never), false),
        ("issuer_not_available:try_again_later:91:25", Network, Some(NotNow), false),
        ("issuer_not_available:try_again_later:91:02", Network, Some(Later), true),
        ("do_not_honor::05", Bank, None, false),
        ("generic_decline", Bank, None, false),
        ("lost_card::41", Bank, Some(Never), false),
        ("stolen_card:do_not_try_again:43", Bank, Some(Never), false),
        ("duplicate_transaction", Bank, Some(NotNow), false),
        ("merchant_blacklist", Customer, Some(Never), false),
        ("insufficient_funds:try_again_later:51", Customer, Some(Later), false),
        ("incorrect_cvc", Customer, Some(Corrected), false),
        ("unheard_of", Unknown, None, false),
    ] {
        let bench = bench();
        let token = format!("tok_stripe_declines:{codes}");
        let request = charge_with(Some(&token));
        let answer = bench.charge(&request).await;
        assert!(matches!(answer.state, ChargeState::Declined(_)), "{codes}: {answer:?}");
        let failure = failure_of(&answer);
        assert_eq!((failure.decline_scope, failure.advice), (scope, advice), "{codes}");
        assert_eq!(failure_allows(failure).is_ok(), may_go_on, "{codes}");
        let mut parts = codes.split(':').skip(2);
        assert_eq!(failure.network_code.as_deref(), parts.next().filter(|code| !code.is_empty()), "{codes}");
        assert_eq!(failure.network_advice_code.as_deref(), parts.next(), "{codes}");
        // The same when it is asked for afterwards: what follows after a restore depends on it.
        assert_eq!(failure_of(&bench.resolve(&request, &answer.refs, 5, false).await), failure, "{codes}");
        assert!(bench.ledger().is_empty());
    }
    let unknown = bench().charge(&charge_with(Some("tok_stripe_declines:no_code_of_stripes"))).await;
    assert!(matches!(unknown.state, ChargeState::NotDone(_)), "{unknown:?}");
    let elsewhere = bench().charge(&charge_with(Some("tok_alipay_declines:PAYMENT_FAIL"))).await;
    assert!(is_success(&elsewhere), "{elsewhere:?}");
}
