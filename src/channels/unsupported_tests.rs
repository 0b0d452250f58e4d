//! What a channel does that implements nothing: it refuses everything, sends nothing and claims nothing.

use std::time::Duration;

use bytes::Bytes;

use crate::channels::tests::{START, charge_with, hold_of, question_about, refund_of, sent_first};
use crate::channels::*;
use crate::domain::money::{Currency, Money};

struct Nothing;

impl Channel for Nothing {}

fn is_unknown(state: &HoldState) -> bool {
    matches!(state, HoldState::Unknown { .. })
}

#[tokio::test]
async fn it_can_do_nothing() {
    assert_eq!(Nothing.capabilities(), Capabilities::default());
    let can = serde_json::to_value(Capabilities::default()).unwrap();
    let can = can.as_object().unwrap();
    assert!(can.len() == 6 && can.values().all(|can| can == false), "{can:?}");
    assert_eq!(Nothing.check().await, Err(CheckFailure::NotSupported));
    let inbound = Inbound { headers: Vec::new(), query: None, body: Bytes::new(), received_at: START };
    assert_eq!(Nothing.verify(&inbound).await, Err(NotificationRefusal::NotSupported));
    assert_eq!(Nothing.acknowledgement(), Acknowledgement { content_type: "text/plain", body: "" });
}

#[tokio::test]
async fn it_takes_no_payment_and_knows_of_none() {
    let charge = charge_with(None);
    let ChargeState::NotDone(failure) = Nothing.charge(&charge).await.state else { panic!() };
    assert_eq!((failure.code.as_str(), failure.decline_scope), (NOT_SUPPORTED, DeclineScope::Processor));
    let question = |close| ResolveRequest {
        charge: charge.clone(),
        first_sent_at: START,
        sent_by: START,
        settling: Duration::ZERO,
        now: START.plus(Duration::from_secs(1_000_000)),
        set_back: Duration::ZERO,
        refs: ProviderRefs::default(),
        offered_at: None,
        money_sent_at: None,
        close,
    };
    for close in [false, true] {
        let state = Nothing.resolve(&question(close)).await.state;
        assert!(matches!(state, ChargeState::Unknown { .. }), "another program may have sent it: {state:?}");
    }
    let first = refund_of(&charge, &ProviderRefs::default(), 500, 1);
    let RefundState::Failed(failure) = Nothing.refund(&first).await.state else { panic!() };
    assert_eq!(failure.code, NOT_SUPPORTED);
    let again = RefundRequest { is_first: false, ..first };
    assert!(matches!(Nothing.refund(&again).await.state, RefundState::Unknown { .. }));
}

#[tokio::test]
async fn it_holds_nothing_and_moves_nothing_that_is_held() {
    let hold = hold_of(1230);
    let HoldState::NotDone(failure) = Nothing.authorize(&hold).await.state else { panic!() };
    assert_eq!(failure.code, NOT_SUPPORTED);
    for close in [false, true] {
        let answer = Nothing.ask_hold(&HoldQuestion { close, ..question_about(&hold) }).await;
        assert!(is_unknown(&answer.state) && answer.refused.is_none(), "{answer:?}");
    }
    for is_first in [true, false] {
        let sent = Sent { is_first, ..sent_first() };
        let (refs, provider_key) = (ProviderRefs::default(), String::from("tg_2"));
        let capture = CaptureRequest {
            hold: hold.clone(),
            refs: refs.clone(),
            provider_key: provider_key.clone(),
            capture_reference: String::from("PA1-2"),
            money: Money::new(1, Currency::USD),
            sent,
        };
        let release = ReleaseRequest {
            hold: hold.clone(),
            refs: refs.clone(),
            provider_key: provider_key.clone(),
            held: hold.money,
            reason: None,
            sent,
        };
        let extend = ExtendRequest { hold: hold.clone(), refs, provider_key, held: hold.money, sent };
        let answers = [Nothing.capture(&capture).await, Nothing.release(&release).await, Nothing.extend(&extend).await];
        for answer in answers {
            assert!(is_unknown(&answer.state) && !answer.sent_money, "{answer:?}");
            let code = answer.refused.map(|failure| failure.code);
            assert_eq!(code.as_deref(), is_first.then_some(NOT_SUPPORTED), "only what was never sent is refused");
        }
    }
}
