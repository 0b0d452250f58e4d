//! Holding money, by bar code and by QR code, and finding out what became of it.

use std::time::Duration;

use crate::channels::alipay::number_of;
use crate::channels::alipay::tests::{
    SETTLED_S, bench, book, capture_of, hold_with, is_captured, is_held, is_released, is_unknown_hold, question,
};
use crate::channels::tests::{Bench, START, browse};
use crate::channels::{AuthorizeRequest, DeclineScope, HoldAnswer, HoldQuestion, HoldState, NextAction};
use crate::domain::money::{Currency, Money};
use crate::sandbox::{FaultPatch, LedgerOperation};

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn page_of(answer: &HoldAnswer) -> String {
    match &answer.state {
        HoldState::AwaitsMethod { next_action: Some(NextAction::Redirect { url }), .. }
        | HoldState::ActionRequired { next_action: Some(NextAction::Redirect { url }), .. } => url.clone(),
        other => panic!("no page: {other:?}"),
    }
}

async fn ask(bench: &Bench, hold: &AuthorizeRequest, age_s: i64, close: bool) -> HoldAnswer {
    bench.channel.ask_hold(&question(bench, hold, age_s, close)).await
}

/// The same about a hold whose payer got a QR code when it was sent.
async fn ask_offered(bench: &Bench, hold: &AuthorizeRequest, age_s: i64, close: bool) -> HoldAnswer {
    let question = question(bench, hold, age_s, close);
    let offered_at = Some(question.first_sent_at);
    bench.channel.ask_hold(&HoldQuestion { offered_at, ..question }).await
}

#[tokio::test]
async fn a_bar_code_holds_at_once_and_for_as_long_as_the_contract_says() {
    for (money, token) in [
        (Money::new(1230, Currency::USD), "tok_visa"),
        (Money::new(1, Currency::CNY), "28763443825664394"),
        (Money::new(500, "JPY".parse().unwrap()), "tok_visa"),
    ] {
        let bench = bench();
        let hold = AuthorizeRequest { money, ..hold_with(Some(token)) };
        let answer = bench.channel.authorize(&hold).await;
        let expires_at = Some(START.plus(WEEK));
        let held = HoldState::Held { held_minor: money.amount_minor, expires_at, honor_until: None };
        assert_eq!(answer.state, held, "{money}");
        assert!(answer.refs.hold_no.is_some() && answer.refs.channel_order_no.is_none(), "{answer:?}");
        // Asked a while later, it says the same.
        bench.clock.advance(Duration::from_secs(60));
        let asked = ask(&bench, &hold, 60, false).await;
        assert_eq!((asked.state, asked.refs), (held, answer.refs));
        let ledger = bench.ledger();
        assert_eq!(ledger.len(), 1);
        assert_eq!((ledger[0].operation, &ledger[0].reference), (LedgerOperation::Hold, &hold.reference));
        assert_eq!((ledger[0].amount_minor, ledger[0].currency.as_str()), (money.amount_minor, money.currency.code()));
    }
}

#[tokio::test]
async fn an_amount_that_alipay_cannot_express_is_not_sent() {
    let bench = bench();
    for (amount_minor, code) in [(1250, "KWD"), (10_000_000_001, "CNY")] {
        let money = Money::new(amount_minor, code.parse().unwrap());
        let answer = bench.channel.authorize(&AuthorizeRequest { money, ..hold_with(Some("tok_visa")) }).await;
        let HoldState::NotDone(failure) = answer.state else { panic!("{:?}", answer.state) };
        assert_eq!(failure.code, "amount_not_supported");
    }
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_refused_freeze_is_closed() {
    for (token, code, scope) in [
        ("tok_declined", "payment_fail", DeclineScope::Bank),
        ("tok_insufficient_funds", "insufficient_funds", DeclineScope::Customer),
        ("not_a_bar_code", "payment_auth_code_invalid", DeclineScope::Customer),
    ] {
        let bench = bench();
        let hold = hold_with(Some(token));
        let answer = bench.channel.authorize(&hold).await;
        let HoldState::Declined(failure) = answer.state else { panic!("{token}: {:?}", answer.state) };
        assert_eq!((failure.code.as_str(), failure.decline_scope), (code, scope));
        // Where there was a freeze, its number is used up, whoever tries it next.
        let next = bench.channel.authorize(&hold_with(Some("tok_visa"))).await;
        assert_eq!(is_unknown_hold(&next), token != "not_a_bar_code", "{next:?}");
    }
    let refused = bench().channel.authorize(&hold_with(Some("tok_alipay_declines:SELLER_BEEN_BLOCKED"))).await;
    assert!(matches!(refused.state, HoldState::NotDone(_)), "{refused:?}");
    let unclear = bench().channel.authorize(&hold_with(Some("tok_alipay_declines:SYSTEM_ERROR"))).await;
    assert!(is_unknown_hold(&unclear), "{unclear:?}");
}

#[tokio::test]
async fn without_a_token_of_its_own_a_hold_waits_for_its_payer() {
    for token in [None, Some("tok_3ds")] {
        let bench = bench();
        let hold = hold_with(token);
        let answer = bench.channel.authorize(&hold).await;
        let url = page_of(&answer);
        assert_eq!(matches!(answer.state, HoldState::AwaitsMethod { .. }), token.is_none(), "{answer:?}");
        assert!(bench.ledger().is_empty(), "nothing stands in for the payer");
        let number = answer.refs.channel_order_no.clone();
        assert_eq!(number, Some(number_of(&hold.provider_key)), "it has a number before it holds anything");
        // Not followed, Alipay knows no freeze; that is no reason to give up.
        let waiting = ask_offered(&bench, &hold, 1_799, false).await;
        assert_eq!(matches!(waiting.state, HoldState::AwaitsMethod { .. }), token.is_none(), "{waiting:?}");
        assert!(browse("GET", &url).await.1.contains("Approve"));
        browse("POST", &format!("{url}/approve")).await;
        let held = ask_offered(&bench, &hold, SETTLED_S, false).await;
        assert!(is_held(&held, 1230), "{held:?}");
        assert_eq!(held.refs.channel_order_no, number);
        // By now its token is forgotten. Whoever takes the money has to name the product that a QR code has.
        let forgotten = AuthorizeRequest { payment_token: None, ..hold };
        let mut refs = answer.refs;
        refs.learn(&held.refs);
        let taken = bench.channel.capture(&capture_of(&forgotten, &refs, 1230, 2)).await;
        assert!(is_captured(&taken, 1230), "{taken:?}");
    }
}

#[tokio::test]
async fn a_bar_codes_hold_stays_one_when_its_token_is_forgotten() {
    let bench = bench();
    let hold = hold_with(Some("tok_visa"));
    let mut refs = bench.channel.authorize(&hold).await.refs;
    let forgotten = AuthorizeRequest { payment_token: None, ..hold };
    let asked = HoldQuestion { refs: refs.clone(), ..question(&bench, &forgotten, 60, false) };
    refs.learn(&bench.channel.ask_hold(&asked).await.refs);
    let taken = bench.channel.capture(&capture_of(&forgotten, &refs, 1230, 2)).await;
    assert!(is_captured(&taken, 1230), "{taken:?}");
}

#[tokio::test]
async fn a_qr_code_that_is_declined_is_closed_at_once() {
    let bench = bench();
    let hold = hold_with(None);
    let url = page_of(&bench.channel.authorize(&hold).await);
    browse("POST", &format!("{url}/decline")).await;
    for close in [false, true] {
        assert_eq!(ask_offered(&bench, &hold, SETTLED_S, close).await.state, HoldState::Released { expired: false });
    }
    browse("POST", &format!("{url}/approve")).await;
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_qr_code_that_nobody_follows_is_over_only_when_it_cannot_be_followed_any_more() {
    for close in [true, false] {
        let bench = bench();
        let hold = hold_with(None);
        let url = page_of(&bench.channel.authorize(&hold).await);
        let mut last_age_s = 0;
        for age_s in [1, SETTLED_S, 600, 1_799, 1_804] {
            bench.clock.advance(Duration::from_secs(u64::try_from(age_s - last_age_s).unwrap()));
            let answer = ask_offered(&bench, &hold, age_s, close).await;
            let is_open = is_unknown_hold(&answer) || matches!(answer.state, HoldState::AwaitsMethod { .. });
            assert!(is_open, "after {age_s} s: {answer:?}");
            last_age_s = age_s;
        }
        bench.clock.advance(Duration::from_secs(1));
        let over = ask_offered(&bench, &hold, 1_805, close).await;
        assert_eq!(over.state, HoldState::Released { expired: !close });
        browse("POST", &format!("{url}/approve")).await;
        assert!(bench.ledger().is_empty(), "the code is dead");
    }
}

#[tokio::test]
async fn a_payer_who_confirms_after_the_merchant_gave_up_gets_the_money_back() {
    let bench = bench();
    let hold = hold_with(None);
    let url = page_of(&bench.channel.authorize(&hold).await);
    assert!(is_unknown_hold(&ask_offered(&bench, &hold, 60, true).await));
    browse("POST", &format!("{url}/approve")).await;
    assert_eq!(ask_offered(&bench, &hold, 120, true).await.state, HoldState::Released { expired: false });
    assert_eq!(book(&bench), [(LedgerOperation::Hold, 1230), (LedgerOperation::Void, 1230)]);
}

#[tokio::test]
async fn a_qr_code_whose_answer_was_lost_is_offered_again_and_over_soon() {
    let bench = bench();
    let hold = hold_with(None);
    bench.faults(FaultPatch { lost_response_rate: Some(1.0), ..FaultPatch::default() }).await;
    assert!(is_unknown_hold(&bench.channel.authorize(&hold).await));
    bench.faults(FaultPatch { lost_response_rate: Some(0.0), ..FaultPatch::default() }).await;
    assert!(page_of(&ask(&bench, &hold, 1, false).await).starts_with("http://"));
    // Where nobody ever got it, nobody can follow it.
    assert!(is_unknown_hold(&ask(&bench, &hold, 1, true).await));
    let over = ask(&bench, &hold, SETTLED_S, true).await;
    assert!(matches!(over.state, HoldState::NotDone(_)), "{over:?}");
}

#[tokio::test]
async fn a_payer_who_confirms_later_is_processing_until_then() {
    let bench = bench();
    let hold = hold_with(Some("tok_processing"));
    assert_eq!(bench.channel.authorize(&hold).await.state, HoldState::Processing);
    let waiting = ask(&bench, &hold, 1, false).await;
    assert_eq!(waiting.state, HoldState::Processing);
    bench.clock.advance(Duration::from_secs(5));
    assert!(is_held(&ask(&bench, &hold, 6, false).await, 1230));
    assert_eq!(book(&bench), [(LedgerOperation::Hold, 1230)]);
}

#[tokio::test]
async fn a_bar_code_that_waits_too_long_or_is_given_up_is_closed_and_stays_so() {
    for (age_s, close) in [(602, false), (1, true)] {
        let bench = bench();
        let hold = hold_with(Some("tok_processing"));
        bench.channel.authorize(&hold).await;
        assert_eq!(ask(&bench, &hold, 601, false).await.state, HoldState::Processing);
        assert_eq!(ask(&bench, &hold, age_s, close).await.state, HoldState::Released { expired: !close });
        bench.clock.advance(Duration::from_secs(5));
        assert!(is_released(&ask(&bench, &hold, age_s + 5, close).await));
        assert!(bench.ledger().is_empty());
    }
}

#[tokio::test]
async fn a_lost_answer_is_found_by_asking_and_held_once() {
    let bench = bench();
    let hold = hold_with(Some("tok_lost_response"));
    assert!(is_unknown_hold(&bench.channel.authorize(&hold).await));
    let found = ask(&bench, &hold, 1, false).await;
    assert!(is_held(&found, 1230) && found.refs.hold_no.is_some(), "{found:?}");
    assert_eq!(book(&bench), [(LedgerOperation::Hold, 1230)]);
    // Given up, it is let go.
    assert_eq!(ask(&bench, &hold, 2, true).await.state, HoldState::Released { expired: false });
    assert_eq!(book(&bench), [(LedgerOperation::Hold, 1230), (LedgerOperation::Void, 1230)]);
    assert!(is_released(&ask(&bench, &hold, 3, true).await));
    assert_eq!(book(&bench).len(), 2, "once");
}

#[tokio::test]
async fn a_request_that_never_arrived_is_over_once_it_cannot_be_on_its_way() {
    for (token, close) in [("tok_timeout", true), ("tok_timeout", false), ("tok_error", true), ("tok_error", false)] {
        let bench = bench();
        let hold = hold_with(Some(token));
        assert!(is_unknown_hold(&bench.channel.authorize(&hold).await));
        assert!(is_unknown_hold(&ask(&bench, &hold, 1, close).await));
        let answer = ask(&bench, &hold, SETTLED_S, close).await;
        assert!(matches!(answer.state, HoldState::NotDone(_)), "{answer:?}");
        assert!(bench.ledger().is_empty());
    }
}

#[tokio::test]
async fn an_effect_that_comes_late_is_found_before_anything_is_given_up() {
    let bench = bench();
    let hold = hold_with(Some("tok_visa"));
    let late = FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(4_000), ..FaultPatch::default() };
    bench.faults(late).await;
    assert!(is_unknown_hold(&bench.channel.authorize(&hold).await));
    bench.faults(FaultPatch { late_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
    for age_s in 1..4 {
        bench.clock.advance(Duration::from_secs(1));
        assert!(is_unknown_hold(&ask(&bench, &hold, age_s, age_s == 2).await));
    }
    bench.clock.advance(Duration::from_secs(2));
    assert!(is_held(&ask(&bench, &hold, SETTLED_S, false).await, 1230));
    assert_eq!(book(&bench), [(LedgerOperation::Hold, 1230)]);
}

#[tokio::test]
async fn faults_are_what_they_say() {
    let cases = [
        (FaultPatch { decline_rate: Some(1.0), ..FaultPatch::default() }, "declined", 0),
        (FaultPatch { error_rate: Some(1.0), ..FaultPatch::default() }, "unknown", 0),
        (FaultPatch { error_after_effect_rate: Some(1.0), ..FaultPatch::default() }, "unknown", 1),
        (FaultPatch { lost_response_rate: Some(1.0), ..FaultPatch::default() }, "unknown", 1),
        (FaultPatch { rate_limited_rate: Some(1.0), ..FaultPatch::default() }, "not done", 0),
        (FaultPatch { latency_ms: Some(5_000), ..FaultPatch::default() }, "unknown", 1),
        (FaultPatch { down: Some(true), ..FaultPatch::default() }, "not done", 0),
    ];
    for (patch, expected, held) in cases {
        let bench = bench();
        bench.faults(patch).await;
        let answer = bench.channel.authorize(&hold_with(Some("tok_visa"))).await;
        let found = match &answer.state {
            HoldState::Declined(_) => "declined",
            HoldState::Unknown { .. } => "unknown",
            HoldState::NotDone(_) => "not done",
            other => panic!("{other:?}"),
        };
        assert_eq!((found, bench.count(LedgerOperation::Hold)), (expected, held), "{patch:?}");
    }
}

#[tokio::test]
async fn money_that_is_held_for_too_long_is_let_go_by_alipay() {
    let bench = bench();
    let hold = hold_with(Some("tok_visa"));
    let refs = bench.channel.authorize(&hold).await.refs;
    bench.clock.advance(WEEK - Duration::from_secs(1));
    assert!(is_held(&ask(&bench, &hold, 604_799, false).await, 1230));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&bench, &hold, 604_800, false).await.state, HoldState::Released { expired: true });
    let late = bench.channel.capture(&capture_of(&hold, &refs, 1230, 2)).await;
    assert_eq!(late.state, HoldState::Released { expired: true });
    assert_eq!(book(&bench), [(LedgerOperation::Hold, 1230), (LedgerOperation::Void, 1230)]);
}

#[tokio::test]
async fn a_hold_of_another_amount_is_not_ours() {
    let bench = bench();
    bench.channel.authorize(&hold_with(Some("tok_visa"))).await;
    let other = AuthorizeRequest { money: Money::new(1231, Currency::USD), ..hold_with(Some("tok_visa")) };
    assert!(is_unknown_hold(&bench.channel.authorize(&other).await));
    for close in [false, true] {
        assert!(is_unknown_hold(&ask(&bench, &other, 60, close).await));
    }
    assert_eq!(book(&bench), [(LedgerOperation::Hold, 1230)]);
}
