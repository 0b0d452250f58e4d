//! What the adapter makes of peers that are not Alipay, or that answer about something else.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::channels::alipay::number_of;
use crate::channels::alipay::rsa2::Signer;
use crate::channels::alipay::tests::{
    again_after, capture_of, hold_with, is_captured, is_held, is_unknown_hold, release_of,
};
use crate::channels::tests::{
    channel_at, charge_with, http_answer, peer_that_answers, question_about, refund_of, sent_first,
};
use crate::channels::{
    CaptureRequest, ChargeState, CheckFailure, HoldAnswer, HoldQuestion, HoldState, ProviderRefs, RefundState,
    ReleaseRequest, Sent,
};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::sandbox::credentials;

fn sign(text: &str) -> String {
    Signer::new(credentials::ALIPAY_PRIVATE_KEY).unwrap().sign(text).unwrap()
}

fn enveloped(name: &str, text: &str, signature: &str) -> String {
    format!(r#"{{"{name}":{text},"sign":"{signature}"}}"#)
}

fn respond(body: &str) -> Vec<u8> {
    http_answer(200, "text/html;charset=utf-8", body, body.len())
}

/// A peer that answers each method with the next of its answers, signed as Alipay does; the last one stays.
async fn alipay_that_says(answers: Vec<(&'static str, Vec<String>)>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut answers = answers;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let asked = request.split("method=").nth(1).and_then(|rest| rest.split(['&', ' ']).next());
            let Some((method, texts)) = answers.iter_mut().find(|(method, _)| Some(*method) == asked) else { continue };
            let text = if texts.len() > 1 { texts.remove(0) } else { texts[0].clone() };
            let body = enveloped(&format!("{}_response", method.replace('.', "_")), &text, &sign(&text));
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("http://{address}")
}

fn refs() -> ProviderRefs {
    ProviderRefs { hold_no: Some(String::from("A1")), ..ProviderRefs::default() }
}

const PAY: &str = "alipay.trade.pay";
const TRADE: &str = "alipay.trade.query";
const DETAIL: &str = "alipay.fund.auth.operation.detail.query";
const UNFREEZE: &str = "alipay.fund.auth.order.unfreeze";

fn refused(sub_code: &str) -> String {
    format!(r#"{{"code":"40004","msg":"Business Failed","sub_code":"{sub_code}"}}"#)
}

/// What Alipay says of a hold of 12.30.
fn detail(order_status: &str, rest: &str, taken: &str) -> String {
    let hold = hold_with(None);
    let (number, request) = (number_of(&hold.provider_key), number_of(&format!("{}f", hold.provider_key)));
    format!(
        r#"{{"code":"10000","out_order_no":"{number}","out_request_no":"{request}","auth_no":"A1","status":"SUCCESS","order_status":"{order_status}","amount":"12.30","rest_amount":"{rest}","total_pay_amount":"{taken}"}}"#
    )
}

/// The same by an Alipay that leaves out where the order stands.
fn without_order_status(rest: &str) -> String {
    detail("AUTHORIZED", rest, "0.00").replace(r#""order_status":"AUTHORIZED","#, "")
}

fn trade(status: &str, amount: &str) -> String {
    let number = capture_of(&hold_with(None), &refs(), 500, 2).provider_key;
    format!(
        r#"{{"code":"10000","out_trade_no":"{number}","trade_no":"T1","trade_status":"{status}","total_amount":"{amount}"}}"#
    )
}

async fn capture_at(answers: Vec<(&'static str, Vec<String>)>, sent: Sent) -> HoldAnswer {
    let channel = channel_at(ChannelKind::Alipay, &alipay_that_says(answers).await, Clock::system());
    channel.capture(&CaptureRequest { sent, ..capture_of(&hold_with(None), &refs(), 500, 2) }).await
}

async fn release_at(answers: Vec<(&'static str, Vec<String>)>, sent: Sent) -> HoldAnswer {
    let channel = channel_at(ChannelKind::Alipay, &alipay_that_says(answers).await, Clock::system());
    channel.release(&ReleaseRequest { sent, ..release_of(&hold_with(None), &refs(), 2) }).await
}

#[tokio::test]
async fn what_is_not_alipays_answer_about_a_hold_is_unknown() {
    let hold = hold_with(Some("tok_visa"));
    let (number, request) = (number_of(&hold.provider_key), number_of(&format!("{}f", hold.provider_key)));
    let frozen = format!(
        r#"{{"code":"10000","msg":"Success","auth_no":"A1","out_order_no":"{number}","out_request_no":"{request}","operation_id":"1","amount":"12.30","status":"SUCCESS"}}"#
    );
    let name = "alipay_fund_auth_order_freeze_response";
    let genuine = enveloped(name, &frozen, &sign(&frozen));
    // The genuine one counts, so that what follows fails for its own reason.
    let channel = channel_at(ChannelKind::Alipay, &peer_that_answers(respond(&genuine)).await, Clock::system());
    let answer = channel.authorize(&hold).await;
    assert!(is_held(&answer, 1230), "{answer:?}");

    let door = r#"{"code":"40002","msg":"Invalid Arguments","sub_code":"isv.invalid-app-id"}"#;
    let reserialized = frozen.replace("\"code\":", "\"code\": ");
    let html = "<html>Bad gateway</html>";
    let mut wrong = vec![
        respond(html),
        http_answer(502, "text/html", html, html.len()),
        http_answer(500, "text/html", &genuine, genuine.len()),
        respond(&enveloped(name, &frozen, "bm9uc2Vuc2U=")),
        respond(&enveloped(name, &reserialized, &sign(&frozen))),
        respond(&enveloped("alipay_trade_refund_response", &frozen, &sign(&frozen))),
        respond(&format!(r#"{{"{name}":{frozen}}}"#)),
        respond(&format!(r#"{{"error_response":{door}}}"#)),
        respond(&enveloped(name, door, &sign(&frozen))),
        http_answer(200, "text/html", &genuine, genuine.len() + 10),
        Vec::new(),
    ];
    // Signed, and about something else.
    for (from, to) in [
        ("12.30", "12.31"),
        (&*number, "tg7_other_1"),
        (&*request, "tg7_other_1f"),
        ("SUCCESS", "ODD"),
        ("auth_no", "auth"),
    ] {
        let other = frozen.replace(from, to);
        wrong.push(respond(&enveloped(name, &other, &sign(&other))));
    }
    // Not one byte of what is signed can be another.
    for index in (0..frozen.len()).step_by(7) {
        let mut bytes = frozen.clone().into_bytes();
        bytes[index] ^= 1;
        let changed = String::from_utf8(bytes).unwrap();
        wrong.push(respond(&enveloped(name, &changed, &sign(&frozen))));
    }
    for peer in wrong {
        let shown = String::from_utf8_lossy(&peer).into_owned();
        let channel = channel_at(ChannelKind::Alipay, &peer_that_answers(peer).await, Clock::system());
        assert!(is_unknown_hold(&channel.authorize(&hold).await), "{shown}");
        let capture = channel.capture(&capture_of(&hold, &refs(), 500, 2)).await;
        assert!(is_unknown_hold(&capture) && capture.refused.is_none(), "{shown}: {capture:?}");
        let release = channel.release(&release_of(&hold, &refs(), 2)).await;
        assert!(is_unknown_hold(&release) && release.refused.is_none(), "{shown}: {release:?}");
        for close in [false, true] {
            let settled = question_about(&hold).now.plus(Duration::from_secs(86_400));
            let question = HoldQuestion { close, now: settled, ..question_about(&hold) };
            assert!(is_unknown_hold(&channel.ask_hold(&question).await), "{shown}");
        }
        let check = channel.check().await;
        assert!(matches!(check, Err(CheckFailure::Unreachable(_))), "{shown}: {check:?}");
    }
}

#[tokio::test]
async fn a_capture_that_alipay_has_not_finished_is_asked_about() {
    let busy = String::from(r#"{"code":"20000","sub_code":"isp.unknow-error"}"#);
    let waiting = String::from(r#"{"code":"10003"}"#);
    for unclear in [&busy, &waiting] {
        let done =
            capture_at(vec![(PAY, vec![unclear.clone()]), (TRADE, vec![trade("TRADE_SUCCESS", "5.00")])], sent_first());
        let done = done.await;
        assert!(is_captured(&done, 500) && done.refs.capture_no.as_deref() == Some("T1"), "{done:?}");
        for (answer, processing) in [
            (trade("WAIT_BUYER_PAY", "5.00"), true),
            (refused("ACQ.TRADE_NOT_EXIST"), *unclear == waiting),
            (busy.clone(), *unclear == waiting),
        ] {
            let open =
                capture_at(vec![(PAY, vec![unclear.clone()]), (TRADE, vec![answer.clone()])], sent_first()).await;
            assert_eq!(open.state == HoldState::Processing, processing, "{answer}: {open:?}");
            assert!(open.refused.is_none() && !matches!(open.state, HoldState::Captured { .. }), "{open:?}");
        }
    }
}

#[tokio::test]
async fn a_number_that_is_used_up_is_ours_only_with_our_amount() {
    for sent in [sent_first(), again_after(3_600)] {
        let not_there = refused("ACQ.TRADE_NOT_EXIST");
        let used = vec![refused("ACQ.TRADE_HAS_SUCCESS")];
        let before = if sent.is_first { Vec::new() } else { vec![not_there] };
        let then = |last: String| before.iter().cloned().chain([last]).collect::<Vec<_>>();
        let ours = then(trade("TRADE_FINISHED", "5.00"));
        assert!(is_captured(&capture_at(vec![(PAY, used.clone()), (TRADE, ours)], sent).await, 500));
        let others = then(trade("TRADE_SUCCESS", "5.01"));
        let answer = capture_at(vec![(PAY, used.clone()), (TRADE, others)], sent).await;
        assert!(is_unknown_hold(&answer) && answer.refused.is_none(), "{answer:?}");
        // Closed, the trade says nothing of the money; the hold does.
        for (detail, expected) in [
            (detail("AUTHORIZED", "12.30", "0.00"), "held"),
            (detail("FINISH", "0.00", "5.00"), "captured"),
            (detail("CLOSED", "0.00", "0.00"), "released"),
            (detail("AUTHORIZED", "7.30", "5.00"), "unknown"),
            (detail("FINISH", "1.00", "5.00"), "unknown"),
            (detail("FINISH", "0.00", "x"), "unknown"),
            (without_order_status("12.30"), "held"),
            (without_order_status("0.00"), "unknown"),
        ] {
            let closed = then(trade("TRADE_CLOSED", "5.00"));
            let answers = vec![(PAY, used.clone()), (TRADE, closed), (DETAIL, vec![detail.clone()])];
            let answer = capture_at(answers, sent).await;
            let found = match answer.state {
                HoldState::Held { .. } => "held",
                HoldState::Captured { .. } => "captured",
                HoldState::Released { .. } => "released",
                _ => "unknown",
            };
            assert_eq!(found, expected, "{detail}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_of_a_repetition_is_believed_once_nothing_can_be_on_its_way() {
    let held = detail("AUTHORIZED", "12.30", "0.00");
    for (seconds, expected) in [(59, None), (60, Some("payment_request_has_risk"))] {
        let answers = vec![
            (TRADE, vec![refused("ACQ.TRADE_NOT_EXIST")]),
            (PAY, vec![refused("ACQ.PAYMENT_REQUEST_HAS_RISK")]),
            (DETAIL, vec![held.clone()]),
        ];
        let answer = capture_at(answers, again_after(seconds)).await;
        assert_eq!(answer.refused.as_ref().map(|failure| failure.code.as_str()), expected, "{answer:?}");
        let answers = vec![(UNFREEZE, vec![refused("HAS_NO_PRIVILEGE")]), (DETAIL, vec![held.clone()])];
        let answer = release_at(answers, again_after(seconds)).await;
        assert_eq!(answer.refused.is_some(), expected.is_some(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_release_that_alipay_has_not_finished_is_asked_about() {
    let busy = String::from(r#"{"code":"20000","sub_code":"isp.unknow-error"}"#);
    let gone = detail("FINISH", "0.00", "0.00");
    let released = release_at(vec![(UNFREEZE, vec![busy.clone()]), (DETAIL, vec![gone])], sent_first()).await;
    assert!(matches!(released.state, HoldState::Released { .. }), "{released:?}");
    let held = detail("AUTHORIZED", "12.30", "0.00");
    for (unclear, processing) in [(busy, false), (String::from(r#"{"code":"10003"}"#), true)] {
        let answers = vec![(UNFREEZE, vec![unclear]), (DETAIL, vec![held.clone()])];
        let open = release_at(answers, sent_first()).await;
        assert_eq!(open.state == HoldState::Processing, processing, "{open:?}");
        assert!(open.refused.is_none() && !is_held(&open, 1230), "it may still be done: {open:?}");
    }
}

#[tokio::test]
async fn what_alipay_does_not_know_needs_no_canceling() {
    const FREEZE: &str = "alipay.fund.auth.order.freeze";
    const CANCEL: &str = "alipay.fund.auth.operation.cancel";
    let hold = hold_with(Some("tok_visa"));
    for gone in ["AUTH_ORDER_NOT_EXIST", "AUTH_OPERATION_NOT_EXIST"] {
        let says = vec![
            (FREEZE, vec![refused("ACQ.PAYMENT_FAIL")]),
            (CANCEL, vec![refused(gone)]),
            (DETAIL, vec![refused(gone)]),
        ];
        let channel = channel_at(ChannelKind::Alipay, &alipay_that_says(says).await, Clock::system());
        let declined = channel.authorize(&hold).await;
        assert!(matches!(declined.state, HoldState::Declined(_)), "{gone}: {declined:?}");
        let early = HoldQuestion { close: true, ..question_about(&hold) };
        let late = HoldQuestion { now: early.now.plus(Duration::from_secs(86_400)), ..early.clone() };
        let answer = channel.ask_hold(&early).await;
        assert!(is_unknown_hold(&answer), "it may be on its way: {answer:?}");
        let answer = channel.ask_hold(&late).await;
        assert!(matches!(answer.state, HoldState::NotDone(_)), "{gone}: {answer:?}");
    }
    let says =
        vec![(PAY, vec![refused("ACQ.PAYMENT_FAIL")]), ("alipay.trade.cancel", vec![refused("ACQ.TRADE_NOT_EXIST")])];
    let channel = channel_at(ChannelKind::Alipay, &alipay_that_says(says).await, Clock::system());
    let declined = channel.charge(&charge_with(Some("tok_visa"))).await;
    assert!(matches!(declined.state, ChargeState::Declined(_)), "{declined:?}");
}

#[tokio::test]
async fn a_refund_that_alipay_took_and_does_not_carry_out_is_not_known_to_be_under_way() {
    let says = vec![
        ("alipay.trade.refund", vec![String::from(r#"{"code":"10000","trade_no":"T1","fund_change":"N"}"#)]),
        ("alipay.trade.fastpay.refund.query", vec![String::from(r#"{"code":"10000","trade_no":"T1"}"#)]),
    ];
    let channel = channel_at(ChannelKind::Alipay, &alipay_that_says(says).await, Clock::system());
    let named = ProviderRefs { channel_order_no: Some(String::from("T1")), ..ProviderRefs::default() };
    let answer = channel.refund(&refund_of(&charge_with(None), &named, 500, 1)).await;
    assert!(matches!(answer.state, RefundState::Unknown { .. }), "{answer:?}");
}
