//! PayPal when it is unwell, and peers that are not PayPal.

use super::{NOTHING, bench, capture_of, channel_with, held, hold_with, is_unknown, question, release_of, sent};
use crate::channels::tests::{Bench, START, charge_with, is_success, peer_that_answers, refund_of};
use crate::channels::{ChargeState, HoldState, ProviderRefs, RefundState};
use crate::clock::Clock;
use crate::sandbox::{FaultPatch, LedgerOperation};

/// After which an answer is lost or spoilt, though the effect is there, or never comes to be.
fn troubles() -> [FaultPatch; 4] {
    let none = FaultPatch::default();
    [
        FaultPatch { lost_response_rate: Some(1.0), ..none },
        FaultPatch { error_after_effect_rate: Some(1.0), ..none },
        FaultPatch { error_rate: Some(1.0), ..none },
        FaultPatch { late_effect_rate: Some(1.0), late_effect_ms: Some(20_000), ..none },
    ]
}

async fn get_well(bench: &Bench) {
    let well = FaultPatch {
        lost_response_rate: Some(0.0),
        error_after_effect_rate: Some(0.0),
        error_rate: Some(0.0),
        late_effect_rate: Some(0.0),
        down: Some(false),
        ..FaultPatch::default()
    };
    bench.faults(well).await;
}

#[tokio::test]
async fn a_charge_in_trouble_is_unknown_and_made_once_in_the_end() {
    for trouble in troubles() {
        let bench = bench();
        let request = charge_with(Some("tok_visa"));
        bench.faults(trouble).await;
        let answer = bench.charge(&request).await;
        assert!(matches!(answer.state, ChargeState::Unknown { .. }), "{trouble:?}: {answer:?}");
        get_well(&bench).await;
        bench.clock.advance(std::time::Duration::from_secs(30));
        assert!(is_success(&bench.resolve(&request, &NOTHING, 30, false).await), "{trouble:?}");
        bench.assert_charged_once(&request);
    }
}

#[tokio::test]
async fn a_hold_in_trouble_is_unknown_and_made_once_in_the_end() {
    for trouble in troubles() {
        let bench = bench();
        let hold = hold_with(Some("tok_visa"));
        bench.faults(trouble).await;
        assert!(is_unknown(&bench.channel.authorize(&hold).await), "{trouble:?}");
        get_well(&bench).await;
        bench.clock.advance(std::time::Duration::from_secs(30));
        let answer = bench.channel.ask_hold(&question(&bench, &hold, &NOTHING, 30, false)).await;
        assert!(matches!(answer.state, HoldState::Held { .. }), "{trouble:?}: {answer:?}");
        assert_eq!(bench.count(LedgerOperation::Hold), 1);
    }
}

#[tokio::test]
async fn a_capture_and_a_release_in_trouble_are_unknown_and_made_once_in_the_end() {
    for trouble in troubles() {
        for captures in [true, false] {
            let bench = bench();
            let (hold, refs) = held(&bench).await;
            bench.faults(trouble).await;
            let call = async |age_s, is_first| {
                let sent = sent(&bench, age_s, is_first);
                match captures {
                    true => bench.channel.capture(&capture_of(&hold, &refs, 1230, sent)).await,
                    false => bench.channel.release(&release_of(&hold, &refs, sent)).await,
                }
            };
            let answer = call(0, true).await;
            assert!(is_unknown(&answer) && answer.refused.is_none(), "{trouble:?} {captures}: {answer:?}");
            get_well(&bench).await;
            bench.clock.advance(std::time::Duration::from_secs(30));
            let answer = call(30, false).await;
            match captures {
                true => assert!(
                    matches!(answer.state, HoldState::Captured { captured_minor: 1230, .. }),
                    "{trouble:?}: {answer:?}"
                ),
                false => assert_eq!(answer.state, HoldState::Released { expired: false }, "{trouble:?}"),
            }
            let end = if captures { LedgerOperation::Capture } else { LedgerOperation::Void };
            assert_eq!((bench.ledger().len(), bench.count(end)), (2, 1), "{trouble:?}");
        }
    }
}

#[tokio::test]
async fn nobody_at_home_is_not_done_the_first_time_and_unknown_later() {
    let bench = bench();
    let (hold, refs) = held(&bench).await;
    bench.faults(FaultPatch { down: Some(true), ..FaultPatch::default() }).await;
    let charge = charge_with(Some("tok_visa"));
    assert!(matches!(bench.charge(&charge).await.state, ChargeState::NotDone(_)));
    assert!(matches!(bench.resolve(&charge, &NOTHING, 5, false).await.state, ChargeState::Unknown { .. }));
    assert!(matches!(bench.channel.authorize(&hold).await.state, HoldState::NotDone(_)));
    assert!(is_unknown(&bench.channel.ask_hold(&question(&bench, &hold, &refs, 5, false)).await));
    let first = bench.channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, 0, true))).await;
    assert_eq!(first.refused.map(|failure| failure.code).as_deref(), Some("channel_unreachable"));
    let later = bench.channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, 5, false))).await;
    assert!(is_unknown(&later) && later.refused.is_none(), "{later:?}");
    get_well(&bench).await;
    assert_eq!(bench.ledger().len(), 1);
}

#[tokio::test]
async fn too_many_requests_are_not_done_the_first_time_and_unknown_later() {
    let bench = bench();
    let (hold, refs) = held(&bench).await;
    bench.faults(FaultPatch { rate_limited_rate: Some(1.0), ..FaultPatch::default() }).await;
    let charge = charge_with(Some("tok_visa"));
    assert!(matches!(bench.charge(&charge).await.state, ChargeState::NotDone(_)));
    assert!(matches!(bench.resolve(&charge, &NOTHING, 600, false).await.state, ChargeState::Unknown { .. }));
    let later = bench.channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, 600, false))).await;
    assert!(is_unknown(&later) && later.refused.is_none(), "{later:?}");
}

#[tokio::test]
async fn a_release_that_paypal_turns_away_is_refused_the_first_time_and_unknown_later() {
    let body = r#"{"name":"NOT_AUTHORIZED","details":[{"issue":"PERMISSION_DENIED"}]}"#;
    let url = peer_after_token(403, "application/json", body, body.len()).await;
    let bench = bench();
    let channel = channel_with(&url, Clock::manual(START), &[]);
    let hold = hold_with(Some("tok_visa"));
    let refs = ProviderRefs { hold_no: Some(String::from("A1")), ..NOTHING };
    for is_first in [true, false] {
        let answer = channel.release(&release_of(&hold, &refs, sent(&bench, 0, is_first))).await;
        assert_eq!((is_unknown(&answer), answer.refused.is_some()), (true, is_first), "{answer:?}");
    }
    let closing = channel.ask_hold(&question(&bench, &hold, &refs, 600, true)).await;
    assert!(is_unknown(&closing) && closing.refused.is_none(), "{closing:?}");
}

/// A peer that gives out a token and answers everything else with this.
async fn peer_after_token(status: u16, content_type: &'static str, body: &'static str, length: usize) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 16 * 1024];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let is_token = request[..read].starts_with(b"POST /v1/oauth2/token");
                let token = r#"{"access_token":"t","expires_in":32400}"#;
                let answer = if is_token {
                    crate::channels::tests::http_answer(200, "application/json", token, token.len())
                } else {
                    crate::channels::tests::http_answer(status, content_type, body, length)
                };
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn nonsense_is_unknown_for_every_call() {
    let another =
        r#"{"id":"O9","status":"COMPLETED","amount":{"currency_code":"USD","value":"12.30"},"purchase_units":[]}"#;
    let error = r#"{"name":"UNPROCESSABLE_ENTITY","details":[{"issue":"PREVIOUS_REQUEST_IN_PROGRESS"}]}"#;
    for (status, content_type, body, length) in [
        (200, "application/json", "{}", 2),
        (200, "text/html", "<html>It works</html>", 21),
        (201, "application/json", r#"{"id":"O1","sta"#, 15),
        (200, "application/json", r#"{"id":"O1"}"#, 4_000),
        (200, "application/json", r#"{"name":"INTERNAL_SERVER_ERROR"}"#, 32),
        (201, "application/json", another, another.len()),
        (302, "text/html", "", 0),
        (400, "text/html", "<html>Bad request</html>", 24),
        (404, "text/html", "<html>Not found</html>", 22),
        (409, "application/json", error, error.len()),
        (422, "application/json", error, error.len()),
        (500, "application/json", error, error.len()),
        (502, "text/html", "<html>Bad gateway</html>", 24),
        (503, "text/plain", "", 0),
    ] {
        let url = peer_after_token(status, content_type, body, length).await;
        let bench = bench();
        let channel = channel_with(&url, Clock::manual(START), &[]);
        let said = format!("{status} {body}");
        let charge = charge_with(Some("tok_visa"));
        let refs = ProviderRefs {
            channel_order_no: Some(String::from("O1")),
            hold_no: Some(String::from("A1")),
            capture_no: Some(String::from("C1")),
            ..NOTHING
        };
        assert!(matches!(channel.charge(&charge).await.state, ChargeState::Unknown { .. }), "{said}");
        for refs in [&refs, &NOTHING] {
            let answer = channel.resolve(&bench.question(&charge, refs, 600, false)).await;
            assert!(matches!(answer.state, ChargeState::Unknown { .. }), "{said}: {answer:?}");
        }
        let refund = channel.refund(&refund_of(&charge, &refs, 400, 1)).await;
        assert!(matches!(refund.state, RefundState::Unknown { .. }), "{said}: {refund:?}");
        let hold = hold_with(Some("tok_visa"));
        assert!(is_unknown(&channel.authorize(&hold).await), "{said}");
        for refs in [&refs, &NOTHING] {
            for close in [false, true] {
                let answer = channel.ask_hold(&question(&bench, &hold, refs, 600, close)).await;
                assert!(is_unknown(&answer), "{said}: {answer:?}");
            }
        }
        for is_first in [true, false] {
            let capture = channel.capture(&capture_of(&hold, &refs, 500, sent(&bench, 0, is_first))).await;
            assert!(is_unknown(&capture) && capture.refused.is_none(), "{said}: {capture:?}");
            let release = channel.release(&release_of(&hold, &refs, sent(&bench, 0, is_first))).await;
            assert!(is_unknown(&release) && release.refused.is_none(), "{said}: {release:?}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_is_not_paypal_gets_no_payment() {
    let garbage = peer_that_answers(b"not http at all\r\n\r\n".to_vec()).await;
    let channel = channel_with(&garbage, Clock::manual(START), &[]);
    assert!(matches!(channel.charge(&charge_with(Some("tok_visa"))).await.state, ChargeState::NotDone(_)));
}
