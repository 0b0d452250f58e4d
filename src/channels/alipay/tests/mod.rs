//! The Alipay adapter against its emulator over real sockets, and against peers that are not Alipay.

mod charges;
mod holds;
mod notifications;
mod operations;
mod wrong_peers;

use std::time::Duration;

use crate::channels::tests::{Bench, hold_of, question_about, sent_first};
use crate::channels::{
    AuthorizeRequest, CaptureRequest, HoldAnswer, HoldQuestion, HoldState, ProviderRefs, ReleaseRequest, Sent,
};
use crate::config::ChannelKind;
use crate::domain::money::Money;
use crate::domain::time::Timestamp;
use crate::sandbox::LedgerOperation;

const NOTHING: ProviderRefs =
    ProviderRefs { channel_order_no: None, client_secret: None, hold_no: None, parent_hold_no: None, capture_no: None };
/// Old enough that a request can't be on its way any more.
const SETTLED_S: i64 = 5;

fn bench() -> Bench {
    Bench::new(ChannelKind::Alipay)
}

/// A hold of 12.30 USD with this token.
fn hold_with(token: Option<&str>) -> AuthorizeRequest {
    AuthorizeRequest { payment_token: token.map(str::to_owned), ..hold_of(1230) }
}

/// A question about a hold that was sent so many seconds ago.
fn question(bench: &Bench, hold: &AuthorizeRequest, age_s: i64, close: bool) -> HoldQuestion {
    let now = bench.clock.now();
    let first_sent_at = Timestamp::from_unix_s(now.unix_s() - age_s);
    let settling = Duration::from_secs(5);
    HoldQuestion { first_sent_at, sent_by: first_sent_at, settling, now, close, ..question_about(hold) }
}

/// Taking so much of a hold, for the first time.
fn capture_of(hold: &AuthorizeRequest, refs: &ProviderRefs, amount_minor: i64, number: u32) -> CaptureRequest {
    CaptureRequest {
        hold: hold.clone(),
        refs: refs.clone(),
        provider_key: format!("tg7_{}_{number}", hold.reference),
        capture_reference: format!("{}-{number}", hold.reference),
        money: Money::new(amount_minor, hold.money.currency),
        sent: sent_first(),
    }
}

/// Letting all of a hold go, for the first time.
fn release_of(hold: &AuthorizeRequest, refs: &ProviderRefs, number: u32) -> ReleaseRequest {
    ReleaseRequest {
        hold: hold.clone(),
        refs: refs.clone(),
        provider_key: format!("tg7_{}_{number}", hold.reference),
        held: hold.money,
        reason: Some(String::from("the guest has left")),
        sent: sent_first(),
    }
}

/// A repetition so many seconds after the first try.
fn again_after(seconds: u64) -> Sent {
    let first = sent_first();
    Sent { is_first: false, now: first.now.plus(Duration::from_secs(seconds)), ..first }
}

fn is_held(answer: &HoldAnswer, amount_minor: i64) -> bool {
    matches!(answer.state, HoldState::Held { held_minor, .. } if held_minor == amount_minor)
}

fn is_captured(answer: &HoldAnswer, amount_minor: i64) -> bool {
    matches!(answer.state, HoldState::Captured { captured_minor, .. } if captured_minor == amount_minor)
}

fn is_released(answer: &HoldAnswer) -> bool {
    matches!(answer.state, HoldState::Released { .. })
}

fn is_unknown_hold(answer: &HoldAnswer) -> bool {
    matches!(answer.state, HoldState::Unknown { .. })
}

/// What the emulator has done with money: the operations and their amounts.
fn book(bench: &Bench) -> Vec<(LedgerOperation, i64)> {
    bench.ledger().into_iter().map(|entry| (entry.operation, entry.amount_minor)).collect()
}
