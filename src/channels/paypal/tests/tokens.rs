//! Access tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{bench, channel_with};
use crate::channels::ChargeState;
use crate::channels::tests::{START, charge_with, http_answer, is_success, is_unknown};
use crate::clock::Clock;

/// A peer that gives out numbered tokens, and takes those only that `takes` says; its address and how many it gave out.
async fn peer(takes: fn(usize) -> bool) -> (String, Arc<AtomicUsize>) {
    peer_that(|_| true, takes).await
}

/// The same, which gives out only those that `gives` says.
async fn peer_that(gives: fn(usize) -> bool, takes: fn(usize) -> bool) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let given = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&given);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut request = vec![0; 16 * 1024];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                let answer = if text.starts_with("POST /v1/oauth2/token") {
                    let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
                    let body = format!(r#"{{"access_token":"token-{number}-","expires_in":32400}}"#);
                    http_answer(if gives(number) { 200 } else { 503 }, "application/json", &body, body.len())
                } else {
                    let number =
                        text.split("earer token-").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
                    match number {
                        Some(number) if takes(number) => {
                            let body = r#"{"name":"UNPROCESSABLE_ENTITY","details":[{"issue":"INSTRUMENT_DECLINED"}]}"#;
                            http_answer(422, "application/json", body, body.len())
                        }
                        _ => http_answer(401, "application/json", "{}", 2),
                    }
                };
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (format!("http://{address}"), given)
}

#[tokio::test]
async fn many_calls_at_once_fetch_one_token() {
    let (url, given) = peer(|_| true).await;
    let channel = channel_with(&url, Clock::manual(START), &[]);
    let calls = (0..100).map(|_| {
        let channel = Arc::clone(&channel);
        tokio::spawn(async move { channel.charge(&charge_with(Some("tok_visa"))).await })
    });
    for call in calls.collect::<Vec<_>>() {
        // A busy machine may not answer all in time; what matters is how many tokens were fetched.
        let _ = call.await.unwrap();
    }
    assert_eq!(given.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_token_that_is_not_taken_any_more_is_renewed_once() {
    let (url, given) = peer(|number| number >= 2).await;
    let channel = channel_with(&url, Clock::manual(START), &[]);
    let answer = channel.charge(&charge_with(Some("tok_visa"))).await;
    assert!(matches!(answer.state, ChargeState::Declined(_)), "{answer:?}");
    assert_eq!(given.load(Ordering::SeqCst), 2);
    let (url, given) = peer(|_| false).await;
    let channel = channel_with(&url, Clock::manual(START), &[]);
    let answer = channel.charge(&charge_with(Some("tok_visa"))).await;
    assert!(matches!(answer.state, ChargeState::NotDone(_)), "{answer:?}");
    assert_eq!(given.load(Ordering::SeqCst), 2, "and then no more");
}

#[tokio::test]
async fn a_token_is_renewed_before_its_time_is_over() {
    let (url, given) = peer(|_| true).await;
    let clock = Clock::manual(START);
    let channel = channel_with(&url, clock.clone(), &[]);
    for (after_s, fetched) in [(0, 1), (29_159, 1), (1, 2)] {
        clock.advance(Duration::from_secs(after_s));
        channel.charge(&charge_with(Some("tok_visa"))).await;
        assert_eq!(given.load(Ordering::SeqCst), fetched, "{after_s}");
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_is_used_to_its_end() {
    let (url, asked) = peer_that(|number| number == 1, |_| true).await;
    let clock = Clock::manual(START);
    let channel = channel_with(&url, clock.clone(), &[]);
    for (after_s, is_sent, asked_for) in
        [(0, true, 1), (29_160, true, 2), (9, true, 2), (1, true, 3), (3_229, true, 4), (1, false, 5)]
    {
        clock.advance(Duration::from_secs(after_s));
        let answer = channel.charge(&charge_with(Some("tok_visa"))).await;
        assert_eq!(matches!(answer.state, ChargeState::Declined(_)), is_sent, "{after_s}: {answer:?}");
        assert_eq!(asked.load(Ordering::SeqCst), asked_for, "{after_s}");
    }
}

#[tokio::test]
async fn without_a_token_nothing_was_sent() {
    let html = http_answer(500, "text/html", "<html>", 6);
    let broken = crate::channels::tests::peer_that_answers(html).await;
    for url in ["http://127.0.0.1:9", &broken] {
        let channel = channel_with(url, Clock::manual(START), &[]);
        let answer = channel.charge(&charge_with(Some("tok_visa"))).await;
        assert!(matches!(answer.state, ChargeState::NotDone(_)), "{url}: {answer:?}");
    }
    let bench = bench();
    let url = bench.sandbox.urls()["paypal"].clone();
    let wrong = channel_with(&url, bench.clock.clone(), &[("client_secret", "wrong")]);
    assert!(matches!(wrong.charge(&charge_with(Some("tok_visa"))).await.state, ChargeState::NotDone(_)));
    assert!(bench.ledger().is_empty());
}

#[tokio::test]
async fn a_token_whose_time_is_over_at_paypal_is_renewed() {
    let bench = bench();
    assert!(is_success(&bench.charge(&charge_with(Some("tok_visa"))).await));
    bench.clock.advance(Duration::from_secs(40_000));
    let mut another = charge_with(Some("tok_visa"));
    another.provider_key.push_str("_b");
    let answer = bench.charge(&another).await;
    assert!(is_success(&answer) && !is_unknown(&answer), "{answer:?}");
}
