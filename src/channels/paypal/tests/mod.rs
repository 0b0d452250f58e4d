//! The PayPal adapter against its emulator over real sockets, and against peers that are not PayPal.

mod charges;
mod faults;
mod holds;
mod notifications;
mod refunds;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use crate::channels::tests::{Bench, browse, config, hold_of, question_about};
use crate::channels::{
    AuthorizeRequest, CaptureRequest, Channel, ChargeRequest, Credentials, HoldAnswer, HoldQuestion, HoldState,
    NextAction, ProviderRefs, ReleaseRequest, Sent, build,
};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::domain::ids::ChannelName;
use crate::domain::time::Timestamp;
use crate::sandbox::credentials;

const NOTHING: ProviderRefs =
    ProviderRefs { channel_order_no: None, client_secret: None, hold_no: None, parent_hold_no: None, capture_no: None };

fn bench() -> Bench {
    Bench::new(ChannelKind::Paypal)
}

/// A channel with credentials that bring no means of payment of their own, and with `changes`.
fn channel_with(base_url: &str, clock: Clock, changes: &[(&'static str, &'static str)]) -> Arc<dyn Channel> {
    let mut given: Vec<(&'static str, &'static str)> = credentials::of(ChannelKind::Paypal);
    given.retain(|(name, _)| *name != "default_payment_token" && changes.iter().all(|(changed, _)| changed != name));
    given.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    build(&ChannelName::new("x"), &config(ChannelKind::Paypal), base_url, &Credentials::new(given), clock).unwrap()
}

/// A bench whose payers have to approve, unless a payment brings its means.
fn bench_without_default() -> Bench {
    let mut bench = bench();
    bench.channel = channel_with(&bench.sandbox.urls()["paypal"], bench.clock.clone(), &[]);
    bench
}

/// A hold with this token.
fn hold_with(token: Option<&str>) -> AuthorizeRequest {
    AuthorizeRequest { payment_token: token.map(str::to_owned), ..hold_of(2000) }
}

/// A question about a hold that was sent so many seconds ago.
fn question(bench: &Bench, hold: &AuthorizeRequest, refs: &ProviderRefs, age_s: i64, close: bool) -> HoldQuestion {
    let now = bench.clock.now();
    let first_sent_at = Timestamp::from_unix_s(now.unix_s() - age_s);
    HoldQuestion { refs: refs.clone(), first_sent_at, sent_by: first_sent_at, now, close, ..question_about(hold) }
}

/// What is known about an operation that was sent so many seconds ago.
fn sent(bench: &Bench, age_s: i64, is_first: bool) -> Sent {
    let now = bench.clock.now();
    let first_sent_at = Timestamp::from_unix_s(now.unix_s() - age_s);
    Sent {
        first_sent_at,
        sent_by: first_sent_at,
        settling: Duration::from_secs(60),
        set_back: Duration::ZERO,
        now,
        is_first,
    }
}

fn capture_of(hold: &AuthorizeRequest, refs: &ProviderRefs, amount_minor: i64, sent: Sent) -> CaptureRequest {
    CaptureRequest {
        hold: hold.clone(),
        refs: refs.clone(),
        provider_key: format!("{}_2", hold.provider_key),
        capture_reference: format!("{}-2", hold.reference),
        money: crate::domain::money::Money::new(amount_minor, hold.money.currency),
        sent,
    }
}

fn release_of(hold: &AuthorizeRequest, refs: &ProviderRefs, sent: Sent) -> ReleaseRequest {
    ReleaseRequest {
        hold: hold.clone(),
        refs: refs.clone(),
        provider_key: format!("{}_3", hold.provider_key),
        held: hold.money,
        reason: None,
        sent,
    }
}

/// The page of an answer that waits for the payer.
fn page_in(next_action: Option<&NextAction>) -> String {
    match next_action {
        Some(NextAction::Redirect { url }) => url.clone(),
        None => panic!("there is no page"),
    }
}

fn page_of(answer: &HoldAnswer) -> String {
    match &answer.state {
        HoldState::AwaitsMethod { next_action, .. } | HoldState::ActionRequired { next_action, .. } => {
            page_in(next_action.as_ref())
        }
        other => panic!("it waits for nobody: {other:?}"),
    }
}

fn is_held(answer: &HoldAnswer) -> bool {
    matches!(answer.state, HoldState::Held { held_minor: 2000, .. })
}

fn is_unknown(answer: &HoldAnswer) -> bool {
    matches!(answer.state, HoldState::Unknown { .. })
}

/// Money that is held at once.
async fn held(bench: &Bench) -> (AuthorizeRequest, ProviderRefs) {
    let hold = hold_with(Some("tok_visa"));
    let answer = bench.channel.authorize(&hold).await;
    assert!(is_held(&answer), "{answer:?}");
    (hold, answer.refs)
}

async fn approve(page: &str) {
    assert_eq!(browse("POST", &format!("{page}/approve")).await.0, 200);
}

/// A charge in other money.
fn in_money(charge: ChargeRequest, amount_minor: i64, code: &str) -> ChargeRequest {
    ChargeRequest { money: crate::domain::money::Money::new(amount_minor, code.parse().unwrap()), ..charge }
}

#[tokio::test]
async fn tokens_that_can_be_paypal_s_are_told_from_those_that_can_t() {
    let bench = bench();
    for token in ["tok_visa", "tok_paypal_declines:CARD_CLOSED", "8kk845", "36E69605T6352462P", "B-1AB23456CD789012E"] {
        assert!(bench.channel.takes_token(token), "{token}");
    }
    for token in ["tok_1Pgafm", "pm_1Pgafm", "28763443825664394", "", "a b", "x"] {
        assert!(!bench.channel.takes_token(token), "{token}");
    }
}

#[tokio::test]
async fn it_says_what_it_can_do_and_checks_its_credentials() {
    let bench = bench();
    let can = bench.channel.capabilities();
    assert!(can.charge && can.refund && can.pre_auth && can.partial_capture && can.notifications && can.check);
    let report = bench.channel.check().await.unwrap();
    assert_eq!((report.livemode, report.findings.len()), (None, 0));
    assert!(report.account.is_some());
    let url = bench.sandbox.urls()["paypal"].clone();
    let deaf = channel_with(&url, bench.clock.clone(), &[("webhook_id", "")]);
    assert!(!deaf.capabilities().notifications);
    assert_eq!(deaf.check().await.unwrap().findings.len(), 1);
    let wrong = channel_with(&url, bench.clock.clone(), &[("client_secret", "wrong")]);
    assert!(matches!(wrong.check().await, Err(crate::channels::CheckFailure::Refused(_))));
    let nobody = channel_with("http://127.0.0.1:9", bench.clock.clone(), &[]);
    assert!(matches!(nobody.check().await, Err(crate::channels::CheckFailure::Unreachable(_))));
    assert!(bench.ledger().is_empty());
}
