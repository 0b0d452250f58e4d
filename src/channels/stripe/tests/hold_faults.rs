//! Holds while something goes wrong: lost, late, spoilt and foreign answers, forgotten keys and clocks that were set back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::channels::stripe::tests::NOTHING;
use crate::channels::stripe::tests::holds::{ask, bench, capture_of, held, hold_with, lines, made, release_of};
use crate::channels::tests::{Bench, START, channel_at, http_answer, peer_that_answers, question_about, sent_first};
use crate::channels::{CaptureRequest, HoldAnswer, HoldQuestion, HoldState, ProviderRefs, Sent};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::sandbox::FaultPatch;
use crate::sandbox::LedgerOperation::{Capture, Hold, Void};

const HOUR_S: u64 = 3_600;
const RELEASED: HoldState = HoldState::Released { expired: false };
const CAPTURED: HoldState = HoldState::Captured { captured_minor: 1500, fee_minor: Some(74) };

fn calm() -> FaultPatch {
    FaultPatch {
        error_rate: Some(0.0),
        error_after_effect_rate: Some(0.0),
        lost_response_rate: Some(0.0),
        late_effect_rate: Some(0.0),
        rate_limited_rate: Some(0.0),
        latency_ms: Some(0),
        ..FaultPatch::default()
    }
}

/// Every fault that leaves open what happened.
fn faults() -> [FaultPatch; 6] {
    let nothing = FaultPatch::default();
    [
        FaultPatch { lost_response_rate: Some(1.0), ..nothing },
        FaultPatch { error_after_effect_rate: Some(1.0), ..nothing },
        FaultPatch { error_rate: Some(1.0), ..nothing },
        FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(20_000), ..nothing },
        FaultPatch { rate_limited_rate: Some(1.0), ..nothing },
        FaultPatch { latency_ms: Some(5_000), ..nothing },
    ]
}

/// What is known of a first try so many seconds ago.
fn repeated(age_s: u64) -> Sent {
    Sent { now: START.plus(Duration::from_secs(age_s)), is_first: false, ..sent_first() }
}

fn is_unknown(answer: &HoldAnswer) -> bool {
    matches!(answer.state, HoldState::Unknown { .. }) && answer.refused.is_none()
}

fn refusal_of(answer: &HoldAnswer) -> Option<&str> {
    answer.refused.as_ref().map(|failure| failure.code.as_str())
}

#[tokio::test]
async fn a_hold_whose_answer_is_lost_is_found_or_closed() {
    for token in ["tok_lost_response", "tok_timeout", "tok_error"] {
        for close in [false, true] {
            let bench = bench();
            let hold = hold_with(Some(token));
            assert!(is_unknown(&bench.channel.authorize(&hold).await), "{token}");
            bench.clock.advance(Duration::from_secs(61));
            let answer = ask(&bench, &hold, &NOTHING, close).await;
            match (token, close) {
                ("tok_lost_response", false) => {
                    assert_eq!(answer.state, held(2000));
                    assert_eq!(lines(&bench), [(Hold, 2000)]);
                }
                ("tok_lost_response", true) => {
                    assert_eq!(answer.state, RELEASED);
                    assert_eq!(lines(&bench), [(Hold, 2000), (Void, 2000)]);
                }
                ("tok_timeout", false) => assert!(is_unknown(&answer), "it is sent again: {answer:?}"),
                _ => assert!(matches!(answer.state, HoldState::NotDone(_)), "{token} {close}: {answer:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_hold_that_comes_late_is_made_once_or_never() {
    for close in [false, true] {
        let bench = bench();
        let hold = hold_with(Some("tok_visa"));
        bench
            .faults(FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(20_000), ..FaultPatch::default() })
            .await;
        assert!(is_unknown(&bench.channel.authorize(&hold).await));
        bench.faults(calm()).await;
        let early = ask(&bench, &hold, &NOTHING, close).await;
        if close {
            assert!(matches!(early.state, HoldState::NotDone(_)), "the key is taken: {early:?}");
        } else {
            assert_eq!(early.state, held(2000));
        }
        bench.clock.advance(Duration::from_secs(60));
        assert_eq!(bench.count(Hold), usize::from(!close));
    }
}

#[tokio::test]
async fn a_capture_takes_the_money_once_whatever_happens_to_its_answer() {
    for fault in faults() {
        let bench = bench();
        let (hold, refs) = made(&bench).await;
        bench.faults(fault).await;
        assert!(is_unknown(&bench.channel.capture(&capture_of(&hold, &refs, 1500, sent_first())).await), "{fault:?}");
        bench.faults(calm()).await;
        if fault.latency_ms.is_some() {
            // Until then the key is in use.
            bench.clock.advance(Duration::from_secs(6));
        }
        let answer = bench.channel.capture(&capture_of(&hold, &refs, 1500, repeated(5))).await;
        if fault.error_rate.is_some() {
            // Recorded: the key says the same for ever, so that the hold is read.
            assert!(is_unknown(&answer), "{answer:?}");
            let settled = bench.channel.capture(&capture_of(&hold, &refs, 1500, repeated(60))).await;
            assert_eq!((&settled.state, refusal_of(&settled)), (&held(2000), Some("not_received")));
            assert_eq!(lines(&bench), [(Hold, 2000)]);
            continue;
        }
        assert_eq!((&answer.state, &answer.refused), (&CAPTURED, &None), "{fault:?}");
        bench.clock.advance(Duration::from_secs(60));
        assert_eq!(lines(&bench), [(Hold, 2000), (Capture, 1500)], "{fault:?}");
    }
}

#[tokio::test]
async fn a_release_lets_go_once_whatever_happens_to_its_answer() {
    for fault in faults() {
        let bench = bench();
        let (hold, refs) = made(&bench).await;
        bench.faults(fault).await;
        assert!(is_unknown(&bench.channel.release(&release_of(&hold, &refs, sent_first())).await), "{fault:?}");
        bench.faults(calm()).await;
        let answer = bench.channel.release(&release_of(&hold, &refs, repeated(5))).await;
        assert_eq!((&answer.state, &answer.refused), (&RELEASED, &None), "{fault:?}");
        bench.clock.advance(Duration::from_secs(60));
        assert_eq!(lines(&bench), [(Hold, 2000), (Void, 2000)], "{fault:?}");
    }
}

#[tokio::test]
async fn when_a_question_about_a_hold_fails_nothing_is_known() {
    for fault in faults().into_iter().filter(|fault| fault.error_after_effect_rate.is_none()) {
        let bench = bench();
        let (hold, refs) = made(&bench).await;
        bench.faults(fault).await;
        for refs in [&refs, &NOTHING] {
            let answer = ask(&bench, &hold, refs, false).await;
            // Late effects are of requests that change something; by its number it is only read.
            let is_read = fault.late_effect_rate.is_some() && refs.channel_order_no.is_some();
            assert_eq!(is_unknown(&answer), !is_read, "{fault:?}: {answer:?}");
        }
        assert_eq!(bench.count(Hold), 1);
    }
}

#[tokio::test]
async fn what_was_certainly_not_sent_is_refused_and_says_nothing_about_an_earlier_try() {
    let bench = bench();
    let (hold, refs) = made(&bench).await;
    bench.faults(FaultPatch { down: Some(true), ..FaultPatch::default() }).await;
    let (first, again) = (sent_first(), repeated(5));
    for (answer, is_first) in [
        (bench.channel.capture(&capture_of(&hold, &refs, 1500, first)).await, true),
        (bench.channel.release(&release_of(&hold, &refs, first)).await, true),
        (bench.channel.capture(&capture_of(&hold, &refs, 1500, again)).await, false),
        (bench.channel.release(&release_of(&hold, &refs, again)).await, false),
    ] {
        assert!(matches!(answer.state, HoldState::Unknown { .. }), "{answer:?}");
        assert_eq!(refusal_of(&answer), is_first.then_some("channel_unreachable"));
    }
    let new = hold_with(None);
    assert!(matches!(bench.channel.authorize(&new).await.state, HoldState::NotDone(_)));
    // Without a number there is nothing to send.
    for answer in [
        bench.channel.capture(&capture_of(&hold, &NOTHING, 1500, first)).await,
        bench.channel.release(&release_of(&hold, &NOTHING, first)).await,
    ] {
        assert_eq!(refusal_of(&answer), Some("missing_hold"));
    }
}

#[tokio::test]
async fn a_capture_is_not_sent_again_when_its_key_may_be_forgotten() {
    // It was done, and its answer is lost.
    let bench = bench();
    let (hold, refs) = made(&bench).await;
    bench.faults(FaultPatch { lost_response_rate: Some(1.0), ..FaultPatch::default() }).await;
    assert!(is_unknown(&bench.channel.capture(&capture_of(&hold, &refs, 1500, sent_first())).await));
    bench.faults(calm()).await;
    bench.clock.advance(Duration::from_secs(25 * HOUR_S));
    let answer = bench.channel.capture(&capture_of(&hold, &refs, 1500, repeated(25 * HOUR_S))).await;
    assert_eq!(answer.state, CAPTURED);
    assert_eq!(bench.count(Capture), 1);

    // It was not done.
    let (hold, refs) = {
        let bench = self::bench();
        let (hold, refs) = made(&bench).await;
        let unsettled = bench.channel.capture(&capture_of(&hold, &refs, 1500, repeated(23 * HOUR_S + 59))).await;
        assert!(is_unknown(&unsettled), "the last repetition may be on its way: {unsettled:?}");
        let settled = bench.channel.capture(&capture_of(&hold, &refs, 1500, repeated(23 * HOUR_S + 60))).await;
        assert_eq!((&settled.state, refusal_of(&settled)), (&held(2000), Some("not_received")));
        assert_eq!(bench.count(Capture), 0);
        // A release may be sent at any time.
        let answer = bench.channel.release(&release_of(&hold, &refs, repeated(25 * HOUR_S))).await;
        assert_eq!(answer.state, RELEASED);
        (hold, refs)
    };
    // Of what is not there at all, nothing is made any more.
    let nobody = self::bench();
    let answer = nobody.channel.capture(&capture_of(&hold, &refs, 1500, repeated(25 * HOUR_S))).await;
    assert!(is_unknown(&answer), "{answer:?}");
}

#[tokio::test]
async fn with_a_clock_that_was_set_back_nothing_is_captured_again() {
    let bench = bench();
    let (hold, refs) = made(&bench).await;
    let behind = Sent { now: START.minus(Duration::from_secs(301)), is_first: false, ..sent_first() };
    let set_back = Sent { set_back: Duration::from_secs(24 * HOUR_S), ..repeated(60) };
    for sent in [behind, set_back] {
        assert!(is_unknown(&bench.channel.capture(&capture_of(&hold, &refs, 1500, sent)).await), "{sent:?}");
    }
    assert_eq!(lines(&bench), [(Hold, 2000)]);
    // A few minutes are a time server's work.
    let little = Sent { now: START.minus(Duration::from_secs(299)), is_first: false, ..sent_first() };
    assert_eq!(bench.channel.capture(&capture_of(&hold, &refs, 1500, little)).await.state, CAPTURED);
}

#[tokio::test]
async fn a_hold_is_not_asked_for_again_when_its_key_may_be_forgotten() {
    for was_made in [true, false] {
        let bench = bench();
        let hold = hold_with(Some("tok_visa"));
        if was_made {
            bench.channel.authorize(&hold).await;
        }
        bench.clock.advance(Duration::from_secs(25 * HOUR_S));
        let answer = ask(&bench, &hold, &NOTHING, false).await;
        if was_made {
            assert_eq!(answer.state, held(2000));
        } else {
            assert!(matches!(answer.state, HoldState::NotDone(_)), "{answer:?}");
        }
        assert_eq!(bench.count(Hold), usize::from(was_made));
    }
}

#[tokio::test]
async fn a_capture_that_took_another_amount_is_told_as_it_is() {
    let bench = bench();
    let (hold, refs) = made(&bench).await;
    // Somebody has captured by hand in the meantime.
    let by_hand =
        CaptureRequest { provider_key: String::from("somebody"), ..capture_of(&hold, &refs, 1500, sent_first()) };
    assert_eq!(bench.channel.capture(&by_hand).await.state, CAPTURED);
    let answer = bench.channel.capture(&capture_of(&hold, &refs, 2000, sent_first())).await;
    assert_eq!((&answer.state, &answer.refused), (&CAPTURED, &None));
}

/// All five calls about a hold with the number `pi_x`.
async fn all_calls(url: &str) -> Vec<HoldAnswer> {
    let channel = channel_at(ChannelKind::Stripe, url, Clock::manual(START));
    let hold = hold_with(Some("tok_visa"));
    let refs = ProviderRefs { channel_order_no: Some(String::from("pi_x")), ..ProviderRefs::default() };
    let mut answers = vec![channel.authorize(&hold).await];
    for (refs, close) in [(&NOTHING, false), (&NOTHING, true), (&refs, false), (&refs, true)] {
        let question = HoldQuestion { refs: refs.clone(), close, now: repeated(3_600).now, ..question_about(&hold) };
        answers.push(channel.ask_hold(&question).await);
    }
    for sent in [sent_first(), repeated(3_600), repeated(25 * HOUR_S)] {
        answers.push(channel.capture(&capture_of(&hold, &refs, 1500, sent)).await);
        answers.push(channel.release(&release_of(&hold, &refs, sent)).await);
    }
    answers
}

#[tokio::test]
async fn what_is_not_stripes_answer_is_unknown() {
    let html = "<html>Bad gateway</html>";
    let foreign =
        r#"{"id":"pi_x","status":"succeeded","amount":2000,"amount_received":1500,"currency":"usd","metadata":{}}"#;
    let other = foreign.replace("pi_x", "pi_y");
    let error = r#"{"error":{"type":"api_error","message":"try later"}}"#;
    let in_use = r#"{"error":{"type":"invalid_request_error","code":"idempotency_key_in_use"}}"#;
    let peers = [
        http_answer(200, "text/html", html, html.len()),
        http_answer(400, "text/html", html, html.len()),
        http_answer(402, "application/json", "{}", 2),
        http_answer(403, "application/json", r#"{"error":"forbidden"}"#, 21),
        http_answer(404, "application/json", r#"{"error":{"message":"no"}}"#, 26),
        http_answer(409, "application/json", in_use, in_use.len()),
        http_answer(500, "application/json", error, error.len()),
        http_answer(502, "text/html", html, html.len()),
        http_answer(301, "text/html", html, html.len()),
        // An error that claims success.
        http_answer(200, "application/json", error, error.len()),
        http_answer(200, "application/json", foreign, foreign.len()),
        http_answer(200, "application/json", &other, other.len()),
        // Half a body.
        http_answer(200, "application/json", foreign, foreign.len() + 10),
        http_answer(200, "application/json", &"x".repeat(300_000), 300_000),
        b"not HTTP at all\r\n\r\n".to_vec(),
        Vec::new(),
    ];
    for peer in peers {
        let shown = String::from_utf8_lossy(&peer[..peer.len().min(80)]).into_owned();
        for answer in all_calls(&peer_that_answers(peer).await).await {
            assert!(is_unknown(&answer), "{shown}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn another_amount_or_currency_is_not_ours() {
    let hold = hold_with(Some("tok_visa"));
    let intent = |amount: i64, currency: &str, reference: &str| {
        format!(
            r#"{{"id":"pi_x","status":"requires_capture","amount":{amount},"amount_capturable":{amount},"currency":"{currency}","metadata":{{"gateway_payment_id":"{reference}","gateway_attempt":"{}"}}}}"#,
            hold.provider_key
        )
    };
    for (body, is_ours) in [
        (intent(2000, "usd", &hold.reference), true),
        (intent(2001, "usd", &hold.reference), false),
        (intent(2000, "eur", &hold.reference), false),
        (intent(2000, "usd", "PA20260924000000zzzzzzzz"), false),
    ] {
        let url = peer_that_answers(http_answer(200, "application/json", &body, body.len())).await;
        let channel = channel_at(ChannelKind::Stripe, &url, Clock::manual(START));
        let answer = channel.authorize(&hold).await;
        assert_eq!(is_unknown(&answer), !is_ours, "{body}: {answer:?}");
        let answers = all_calls(&url).await;
        assert_eq!(answers.iter().any(|answer| !is_unknown(answer)), is_ours, "{body}: {answers:?}");
    }
}

#[tokio::test]
async fn a_busy_account_does_not_hide_a_hold() {
    let bench = bench();
    let (hold, _) = made(&bench).await;
    others_hold(&bench, 150).await;
    bench.clock.advance(Duration::from_secs(25 * HOUR_S));
    assert_eq!(ask(&bench, &hold, &NOTHING, false).await.state, held(2000));
}

async fn others_hold(bench: &Bench, count: u32) {
    for number in 0..count {
        let mut other = hold_with(None);
        other.provider_key = format!("tg7_PA20260924000000other_{number}");
        bench.channel.authorize(&other).await;
    }
}

#[tokio::test]
async fn pages_of_real_size_are_read_and_endless_ones_are_not() {
    for (bytes_each, is_read) in [(8_000, true), (30_000, false)] {
        let page: Vec<Value> = (0..100)
            .map(|number| {
                json!({ "id": format!("pi_{number}"), "status": "succeeded", "amount": 1, "currency": "usd",
                    "description": "x".repeat(bytes_each) })
            })
            .collect();
        let body = json!({ "object": "list", "data": page, "has_more": false }).to_string();
        let url = peer_that_answers(http_answer(200, "application/json", &body, body.len())).await;
        let listed = channel_at(ChannelKind::Stripe, &url, Clock::manual(START)).list_charges(START, None).await;
        assert_eq!(listed.map(|page| page.items.len()).ok(), is_read.then_some(100), "{bytes_each}");
    }
}
