//! Charges and their refunds.

use std::time::Duration;

use crate::channels::alipay::number_of;
use crate::channels::alipay::rsa2::Signer;
use crate::channels::alipay::tests::{NOTHING, SETTLED_S, bench};
use crate::channels::tests::{
    TIMEOUT_MS, browse, channel_at, charge_with, failure_of, http_answer, is_success, is_unknown, peer_that_answers,
    refund_of,
};
use crate::channels::{ChargeAnswer, ChargeRequest, ChargeState, DeclineScope, NextAction, ProviderRefs, RefundState};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::domain::money::{Currency, Money};
use crate::domain::payment::failure_allows;
use crate::sandbox::{FaultPatch, LedgerOperation, credentials};

fn page_of(answer: &ChargeAnswer) -> &str {
    match &answer.state {
        ChargeState::ActionRequired { next_action: Some(NextAction::Redirect { url }), .. } => url,
        other => panic!("no page: {other:?}"),
    }
}

#[test]
fn numbers_fit_alipays_rules() {
    assert_eq!(number_of("tg7_PY1_1"), "tg7_PY1_1");
    for key in ["tg7-PY1-1", "", "支付", &"a".repeat(65)] {
        let number = number_of(key);
        assert_eq!(number.len(), 64);
        assert!(number.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(number, number_of("tg7-PY1-2"));
    }
}

#[tokio::test]
async fn a_bar_code_is_charged_at_once() {
    for (money, token) in [
        (Money::new(1230, Currency::USD), Some("tok_visa")),
        (Money::new(1, Currency::CNY), Some("28763443825664394")),
        (Money::new(500, "JPY".parse().unwrap()), None),
    ] {
        let bench = bench();
        let request = ChargeRequest { money, ..charge_with(token) };
        let answer = bench.charge(&request).await;
        assert_eq!(answer.state, ChargeState::Success { fee_minor: None }, "{money}");
        assert!(answer.refs.channel_order_no.is_some());
        bench.assert_charged_once(&request);
    }
}

#[tokio::test]
async fn an_amount_that_alipay_cannot_express_is_not_sent() {
    let bench = bench();
    for (amount_minor, code) in [(1250, "KWD"), (10_000_000_001, "CNY")] {
        let mut request = charge_with(Some("tok_visa"));
        request.money = Money::new(amount_minor, code.parse().unwrap());
        let answer = bench.charge(&request).await;
        assert!(matches!(answer.state, ChargeState::NotDone(_)));
        assert_eq!(failure_of(&answer).code, "amount_not_supported");
    }
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_decline_closes_the_trade() {
    for (token, code, scope) in [
        ("tok_declined", "payment_fail", DeclineScope::Bank),
        ("tok_insufficient_funds", "insufficient_funds", DeclineScope::Customer),
        ("tok_stolen_card", "payment_request_has_risk", DeclineScope::Bank),
        ("not_a_bar_code", "payment_auth_code_invalid", DeclineScope::Customer),
    ] {
        let bench = bench();
        let request = charge_with(Some(token));
        let answer = bench.charge(&request).await;
        assert!(matches!(answer.state, ChargeState::Declined(_)), "{answer:?}");
        assert_eq!((failure_of(&answer).code.as_str(), failure_of(&answer).decline_scope), (code, scope));
        if token != "not_a_bar_code" {
            // There was a trade, so that its number is used up, whoever tries it next.
            assert!(is_unknown(&bench.charge(&charge_with(Some("tok_visa"))).await));
        }
        let later = bench.resolve(&request, &NOTHING, SETTLED_S, false).await;
        assert!(matches!(later.state, ChargeState::Canceled | ChargeState::NotDone(_)), "{later:?}");
        assert!(bench.ledger().is_empty());
    }
}

#[tokio::test]
async fn a_qr_code_waits_for_its_payer() {
    let bench = bench();
    let request = charge_with(Some("tok_3ds"));
    let answer = bench.charge(&request).await;
    let url = page_of(&answer).to_owned();
    // Not scanned, Alipay knows no trade; that is no reason to give up. The payer has the code, so it is not renewed.
    let waiting = bench.resolve_offered(&request, 1_799, false).await;
    assert!(matches!(waiting.state, ChargeState::ActionRequired { next_action: None, .. }), "{waiting:?}");
    assert!(browse("GET", &url).await.1.contains("Approve"));
    browse("POST", &format!("{url}/approve")).await;
    assert!(is_success(&bench.resolve(&request, &NOTHING, SETTLED_S, false).await));
    assert!(is_success(&bench.resolve(&request, &NOTHING, SETTLED_S, true).await));
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn a_qr_code_that_is_declined_is_closed_at_once() {
    let bench = bench();
    let request = charge_with(Some("tok_3ds"));
    let url = page_of(&bench.charge(&request).await).to_owned();
    browse("POST", &format!("{url}/decline")).await;
    for close in [false, true] {
        assert_eq!(bench.resolve_offered(&request, SETTLED_S, close).await.state, ChargeState::Canceled);
    }
    browse("POST", &format!("{url}/approve")).await;
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_qr_code_that_nobody_scans_is_over_only_when_it_cannot_be_scanned_any_more() {
    let bench = bench();
    let request = charge_with(Some("tok_3ds"));
    let url = page_of(&bench.charge(&request).await).to_owned();
    let pass = async |age_s: i64, last_age_s: i64| {
        bench.clock.advance(Duration::from_secs(u64::try_from(age_s - last_age_s).unwrap()));
        bench.resolve_offered(&request, age_s, true).await
    };
    let mut last_age_s = 0;
    for age_s in [1, SETTLED_S, 600, 1_799, 1_804] {
        let given_up = pass(age_s, last_age_s).await;
        assert!(is_unknown(&given_up), "after {age_s} s: {given_up:?}");
        last_age_s = age_s;
    }
    assert_eq!(pass(1_805, last_age_s).await.state, ChargeState::Canceled);
    browse("POST", &format!("{url}/approve")).await;
    assert!(bench.ledger().is_empty(), "the code is dead");
}

#[tokio::test]
async fn a_payer_who_scans_after_the_merchant_gave_up_is_not_lost() {
    let bench = bench();
    let request = charge_with(Some("tok_3ds"));
    let url = page_of(&bench.charge(&request).await).to_owned();
    assert!(is_unknown(&bench.resolve_offered(&request, 60, true).await));
    browse("POST", &format!("{url}/approve")).await;
    assert!(is_success(&bench.resolve_offered(&request, 120, true).await));
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn a_qr_code_whose_answer_was_lost_is_offered_again_and_over_soon() {
    let bench = bench();
    let request = charge_with(Some("tok_3ds"));
    bench.faults(FaultPatch { lost_response_rate: Some(1.0), ..FaultPatch::default() }).await;
    assert!(is_unknown(&bench.charge(&request).await));
    bench.faults(FaultPatch { lost_response_rate: Some(0.0), ..FaultPatch::default() }).await;
    let offered = bench.resolve(&request, &NOTHING, 1, false).await;
    assert!(page_of(&offered).starts_with("http://"));
    // Where nobody ever got it, nobody can scan it.
    assert!(is_unknown(&bench.resolve(&request, &NOTHING, 1, true).await));
    let over = bench.resolve(&request, &NOTHING, SETTLED_S, true).await;
    assert!(matches!(over.state, ChargeState::NotDone(_)), "{over:?}");
}

#[tokio::test]
async fn only_bar_codes_and_the_emulators_tokens_are_alipay_s() {
    let bench = bench();
    for token in ["28763443825664394", "2500000000000000", "tok_visa", "tok_3ds"] {
        assert!(bench.channel.takes_token(token), "{token}");
    }
    for token in ["tok_1Pgafm", "pm_card_visa", "31763443825664394", "287634438256643", "2876344382566439x", ""] {
        assert!(!bench.channel.takes_token(token), "{token}");
    }
}

#[tokio::test]
async fn an_effect_that_comes_late_is_found_before_anything_is_given_up() {
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    let late = FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(4_000), ..FaultPatch::default() };
    bench.faults(late).await;
    assert!(is_unknown(&bench.charge(&request).await));
    bench.faults(FaultPatch { late_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
    for age_s in 1..4 {
        bench.clock.advance(Duration::from_secs(1));
        // Nothing is there, and closing what is not there keeps nothing from coming.
        assert!(is_unknown(&bench.resolve(&request, &NOTHING, age_s, age_s == 2).await));
    }
    bench.clock.advance(Duration::from_secs(2));
    assert!(is_success(&bench.resolve(&request, &NOTHING, SETTLED_S, true).await));
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn a_payer_who_confirms_later_is_processing_until_then() {
    let bench = bench();
    let request = charge_with(Some("tok_processing"));
    assert_eq!(bench.charge(&request).await.state, ChargeState::Processing);
    let waiting = bench.resolve(&request, &NOTHING, 1, false).await;
    assert_eq!(waiting.state, ChargeState::Processing);
    bench.clock.advance(Duration::from_secs(5));
    assert!(is_success(&bench.resolve(&request, &waiting.refs, 6, false).await));
    bench.assert_charged_once(&request);
}

#[tokio::test]
async fn a_bar_code_that_waits_too_long_is_closed() {
    let bench = bench();
    let request = charge_with(Some("tok_processing"));
    bench.charge(&request).await;
    assert_eq!(bench.resolve(&request, &NOTHING, 601, false).await.state, ChargeState::Processing);
    assert_eq!(bench.resolve(&request, &NOTHING, 602, false).await.state, ChargeState::Canceled);
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(bench.resolve(&request, &NOTHING, 607, false).await.state, ChargeState::Canceled);
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn closing_a_trade_that_waits_keeps_it_from_being_paid() {
    let bench = bench();
    let request = charge_with(Some("tok_processing"));
    bench.charge(&request).await;
    assert_eq!(bench.resolve(&request, &NOTHING, 1, true).await.state, ChargeState::Canceled);
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(bench.resolve(&request, &NOTHING, 6, false).await.state, ChargeState::Canceled);
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_lost_answer_is_found_by_asking_and_charged_once() {
    for close in [false, true] {
        let bench = bench();
        let request = charge_with(Some("tok_lost_response"));
        assert!(is_unknown(&bench.charge(&request).await));
        assert!(is_success(&bench.resolve(&request, &NOTHING, 1, close).await));
        bench.assert_charged_once(&request);
    }
}

#[tokio::test]
async fn a_request_that_never_arrived_is_closed_once_it_cannot_be_on_its_way() {
    for (token, close) in [("tok_timeout", true), ("tok_timeout", false), ("tok_error", true), ("tok_error", false)] {
        let bench = bench();
        let request = charge_with(Some(token));
        assert!(is_unknown(&bench.charge(&request).await));
        assert!(is_unknown(&bench.resolve(&request, &NOTHING, 1, close).await));
        let answer = bench.resolve(&request, &NOTHING, SETTLED_S, close).await;
        assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
        assert!(bench.ledger().is_empty());
    }
}

#[tokio::test]
async fn a_failure_after_the_effect_is_found() {
    let bench = bench();
    let request = charge_with(Some("tok_visa"));
    bench.faults(FaultPatch { error_after_effect_rate: Some(1.0), ..FaultPatch::default() }).await;
    assert!(is_unknown(&bench.charge(&request).await));
    bench.faults(FaultPatch { error_after_effect_rate: Some(0.0), ..FaultPatch::default() }).await;
    assert!(is_success(&bench.resolve(&request, &NOTHING, 1, true).await));
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
        (FaultPatch { down: Some(true), ..FaultPatch::default() }, "not done"),
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
async fn refunds_in_parts_up_to_the_amount_and_not_beyond() {
    let bench = bench();
    let charge = charge_with(Some("tok_visa"));
    let refs = bench.charge(&charge).await.refs;
    let first = refund_of(&charge, &refs, 500, 1);
    let answer = bench.channel.refund(&first).await;
    assert_eq!(answer.state, RefundState::Success);
    assert_eq!(bench.channel.refund(&first).await, answer);
    let over = bench.channel.refund(&refund_of(&charge, &refs, 731, 2)).await;
    assert!(matches!(over.state, RefundState::Failed(_)), "{over:?}");
    assert_eq!(bench.channel.refund(&refund_of(&charge, &refs, 730, 3)).await.state, RefundState::Success);
    // Given back in full, the trade is closed; asking for the same refund still finds it.
    assert_eq!(bench.channel.refund(&refund_of(&charge, &refs, 730, 3)).await.state, RefundState::Success);
    let refunds: Vec<_> =
        bench.ledger().into_iter().skip(1).map(|entry| (entry.reference, entry.amount_minor)).collect();
    assert_eq!(refunds, [(charge.reference.clone(), 500), (charge.reference, 730)]);
}

#[tokio::test]
async fn a_refund_without_an_answer_is_unknown_and_done_once() {
    let bench = bench();
    let charge = charge_with(Some("tok_visa"));
    let refs = bench.charge(&charge).await.refs;
    let mut refund = refund_of(&charge, &refs, 500, 1);
    for patch in [
        FaultPatch { down: Some(true), ..FaultPatch::default() },
        FaultPatch { down: Some(false), rate_limited_rate: Some(1.0), ..FaultPatch::default() },
        FaultPatch { rate_limited_rate: Some(0.0), lost_response_rate: Some(1.0), ..FaultPatch::default() },
    ] {
        bench.faults(patch).await;
        let answer = bench.channel.refund(&refund).await;
        assert!(matches!(answer.state, RefundState::Unknown { .. }), "{patch:?}: {answer:?}");
    }
    bench.faults(FaultPatch { lost_response_rate: Some(0.0), ..FaultPatch::default() }).await;
    refund.now = refund.now.plus(Duration::from_secs(10));
    refund.is_first = false;
    assert_eq!(bench.channel.refund(&refund).await.state, RefundState::Success);
    assert_eq!(bench.count(LedgerOperation::Refund), 1);
}

#[tokio::test]
async fn what_is_not_alipays_answer_is_unknown() {
    let charge = charge_with(Some("tok_visa"));
    let number = number_of(&charge.provider_key);
    let paid = format!(
        r#"{{"code":"10000","msg":"Success","trade_no":"T1","out_trade_no":"{number}","total_amount":"12.30"}}"#
    );
    let sign = |text: &str| Signer::new(credentials::ALIPAY_PRIVATE_KEY).unwrap().sign(text).unwrap();
    let body = |name: &str, text: &str, signature: &str| format!(r#"{{"{name}":{text},"sign":"{signature}"}}"#);
    let name = "alipay_trade_pay_response";
    let genuine = body(name, &paid, &sign(&paid));
    let dearer = paid.replace("12.30", "12.31");
    let refused = r#"{"code":"40002","msg":"Invalid Arguments","sub_code":"isv.invalid-app-id"}"#;
    let html = String::from("<html>Bad gateway</html>");
    let respond = |status: u16, body: &String| http_answer(status, "text/html;charset=utf-8", body, body.len());

    // The genuine one counts, so that what follows fails for its own reason.
    let channel = channel_at(ChannelKind::Alipay, &peer_that_answers(respond(200, &genuine)).await, Clock::system());
    assert!(is_success(&channel.charge(&charge).await));

    let wrong = [
        respond(200, &html),
        respond(502, &html),
        respond(500, &genuine),
        respond(200, &body(name, &paid, "bm9uc2Vuc2U=")),
        respond(200, &body(name, &dearer, &sign(&paid))),
        respond(200, &body(name, &dearer, &sign(&dearer))),
        respond(200, &body(name, &paid.replace("\"code\":", "\"code\": "), &sign(&paid))),
        respond(200, &body("alipay_trade_query_response", &paid, &sign(&paid))),
        respond(200, &format!(r#"{{"{name}":{paid}}}"#)),
        respond(200, &format!(r#"{{"error_response":{refused}}}"#)),
        respond(200, &body(name, refused, &sign(&paid))),
        http_answer(200, "text/html", &genuine, genuine.len() + 10),
        Vec::new(),
    ];
    for peer in wrong {
        let shown = String::from_utf8_lossy(&peer).into_owned();
        let channel = channel_at(ChannelKind::Alipay, &peer_that_answers(peer).await, Clock::system());
        assert!(is_unknown(&channel.charge(&charge).await), "{shown}");
        for close in [false, true] {
            let request = crate::channels::ResolveRequest {
                charge: charge.clone(),
                first_sent_at: crate::domain::time::Timestamp::from_unix_s(0),
                now: crate::domain::time::Timestamp::from_unix_s(86_400),
                sent_by: crate::domain::time::Timestamp::from_unix_s(0),
                settling: Duration::from_secs(60),
                set_back: Duration::ZERO,
                offered_at: None,
                money_sent_at: None,
                refs: NOTHING,
                close,
            };
            assert!(is_unknown(&channel.resolve(&request).await), "{shown}");
        }
        let refs = ProviderRefs { channel_order_no: Some(String::from("T1")), ..ProviderRefs::default() };
        let refund = channel.refund(&refund_of(&charge, &refs, 500, 1)).await;
        assert!(matches!(refund.state, RefundState::Unknown { .. }), "{shown}: {refund:?}");
    }
    assert!(Duration::from_millis(TIMEOUT_MS) < Duration::from_secs(u64::try_from(SETTLED_S).unwrap()));
}

#[tokio::test]
async fn a_trade_is_looked_for_without_anything_being_done_about_it() {
    let bench = bench();
    let paid = charge_with(Some("tok_visa"));
    bench.charge(&paid).await;
    assert!(is_success(&bench.find(&paid, 0).await.unwrap().unwrap()));
    let waiting = ChargeRequest { provider_key: String::from("tg_waiting"), ..charge_with(Some("tok_processing")) };
    bench.charge(&waiting).await;
    assert_eq!(bench.find(&waiting, 0).await.unwrap().unwrap().state, ChargeState::Processing);
    let other_amount = ChargeRequest { money: Money::new(1, Currency::USD), ..paid.clone() };
    assert!(bench.find(&other_amount, 0).await.is_err());
    // A request may be on its way for a while, and a QR code be scanned for longer.
    let nobodys = ChargeRequest { provider_key: String::from("tg_nobodys"), ..charge_with(Some("tok_visa")) };
    assert!(bench.find(&nobodys, 0).await.is_err());
    assert_eq!(bench.find(&nobodys, SETTLED_S).await.unwrap(), None);
    let scanned = ChargeRequest { provider_key: String::from("tg_scanned"), ..charge_with(Some("tok_3ds")) };
    let url = page_of(&bench.charge(&scanned).await).to_owned();
    assert!(bench.find(&scanned, 1_700).await.is_err());
    browse("POST", &format!("{url}/approve")).await;
    assert!(is_success(&bench.find(&scanned, 1_700).await.unwrap().unwrap()), "looking has not closed it");
    assert_eq!(bench.count(LedgerOperation::Charge), 2);
}

/// Reasons that the emulator can refuse with, over sockets: who refused, and whether another channel may be asked.
#[tokio::test]
async fn reasons_come_through_with_what_they_mean() {
    use DeclineScope::{Bank, Customer, Processor};
    for (reason, code, scope) in [
        ("BUYER_BANKCARD_BALANCE_NOT_ENOUGH", "insufficient_funds", Customer),
        ("BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR", "buyer_payment_amount_day_limit_error", Customer),
        ("TRADE_BUYER_NOT_MATCH", "trade_buyer_not_match", Customer),
        ("BUYER_BANKCARD_FORBID", "buyer_bankcard_forbid", Bank),
        ("PAYMENT_REQUEST_HAS_RISK", "payment_request_has_risk", Bank),
        ("INVALID_PARAMETER", "invalid_parameter", Customer),
        ("TOTAL_FEE_EXCEED", "amount_not_supported", Processor),
        ("SELLER_BEEN_BLOCKED", "seller_been_blocked", Processor),
        ("ACCESS_FORBIDDEN", "access_forbidden", Processor),
    ] {
        let bench = bench();
        let answer = bench.charge(&charge_with(Some(&format!("tok_alipay_declines:{reason}")))).await;
        let failure = failure_of(&answer);
        assert_eq!((failure.code.as_str(), failure.decline_scope), (code, scope), "{reason}");
        assert_eq!(failure_allows(failure).is_ok(), scope == Processor, "{reason}");
        assert!(bench.ledger().is_empty());
    }
    for reason in ["SYSTEM_ERROR", "CONCURRENT_REQUEST", "UNHEARD_OF"] {
        let answer = bench().charge(&charge_with(Some(&format!("tok_alipay_declines:{reason}")))).await;
        assert!(is_unknown(&answer), "{reason}: {answer:?}");
    }
    let elsewhere = bench().charge(&charge_with(Some("tok_stripe_declines:processing_error"))).await;
    assert!(is_success(&elsewhere), "{elsewhere:?}");
}
