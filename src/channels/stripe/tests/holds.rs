//! The life of a hold, with nothing going wrong between Stripe and here.

use std::time::Duration;

use serde_json::{Value, json};

use crate::channels::stripe::hold::state_of_hold;
use crate::channels::stripe::response::PaymentIntent;
use crate::channels::stripe::tests::NOTHING;
use crate::channels::tests::{
    Bench, START, browse, channel_at, charge_with, hold_of, question_about, refund_of, sent_first,
};
use crate::channels::{
    AuthorizeRequest, CaptureRequest, ChargeState, CheckFailure, Credentials, DeclineScope, HoldAnswer, HoldQuestion,
    HoldState, NextAction, ProviderRefs, RefundState, ReleaseRequest, Sent, build,
};
use crate::clock::Clock;
use crate::config::ChannelKind;
use crate::domain::ids::ChannelName;
use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;
use crate::sandbox::LedgerOperation::{self, Capture, Hold, Refund, Void};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

pub(super) fn bench() -> Bench {
    Bench::new(ChannelKind::Stripe)
}

/// A hold of 20.00 USD with this token.
pub(super) fn hold_with(token: Option<&str>) -> AuthorizeRequest {
    AuthorizeRequest { payment_token: token.map(str::to_owned), ..hold_of(2000) }
}

pub(super) fn capture_of(
    hold: &AuthorizeRequest,
    refs: &ProviderRefs,
    amount_minor: i64,
    sent: Sent,
) -> CaptureRequest {
    CaptureRequest {
        hold: hold.clone(),
        refs: refs.clone(),
        provider_key: String::from("tg7_PA20260924000000abcdefgh_c2"),
        capture_reference: String::from("PA20260924000000abcdefgh-2"),
        money: Money::new(amount_minor, hold.money.currency),
        sent,
    }
}

pub(super) fn release_of(hold: &AuthorizeRequest, refs: &ProviderRefs, sent: Sent) -> ReleaseRequest {
    ReleaseRequest {
        hold: hold.clone(),
        refs: refs.clone(),
        provider_key: String::from("tg7_PA20260924000000abcdefgh_r2"),
        held: hold.money,
        reason: Some(String::from("left early")),
        sent,
    }
}

/// Asks about a hold by its number, or without one.
pub(super) async fn ask(bench: &Bench, hold: &AuthorizeRequest, refs: &ProviderRefs, close: bool) -> HoldAnswer {
    let question = HoldQuestion { refs: refs.clone(), now: bench.clock.now(), close, ..question_about(hold) };
    bench.channel.ask_hold(&question).await
}

/// A hold that was made, and its names.
pub(super) async fn made(bench: &Bench) -> (AuthorizeRequest, ProviderRefs) {
    let hold = hold_with(Some("tok_visa"));
    let answer = bench.channel.authorize(&hold).await;
    assert_eq!(answer.state, held(2000), "{answer:?}");
    (hold, answer.refs)
}

pub(super) fn held(held_minor: i64) -> HoldState {
    HoldState::Held { held_minor, expires_at: Some(START.plus(WEEK)), honor_until: None }
}

pub(super) fn lines(bench: &Bench) -> Vec<(LedgerOperation, i64)> {
    bench.ledger().into_iter().map(|entry| (entry.operation, entry.amount_minor)).collect()
}

fn page_of(state: &HoldState) -> String {
    match state {
        HoldState::AwaitsMethod { next_action: Some(NextAction::Redirect { url }), .. }
        | HoldState::ActionRequired { next_action: Some(NextAction::Redirect { url }), .. } => url.clone(),
        other => panic!("nothing for the payer to do: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_captured_is_what_was_received_and_the_rest_is_released() {
    let bench = bench();
    let (hold, refs) = made(&bench).await;
    assert!(refs.channel_order_no.as_deref().unwrap().starts_with("pi_"));
    assert_eq!(refs.client_secret, None, "nobody has to act");
    let answer = bench.channel.capture(&capture_of(&hold, &refs, 1500, sent_first())).await;
    // 2.9 % of 15.00 is 43.5 cents, and 30 more.
    let captured = HoldState::Captured { captured_minor: 1500, fee_minor: Some(74) };
    assert_eq!((&answer.state, &answer.refused), (&captured, &None));
    assert_eq!(lines(&bench), [(Hold, 2000), (Capture, 1500)]);
    for (refs, close) in [(&refs, false), (&refs, true), (&NOTHING, false), (&NOTHING, true)] {
        let later = ask(&bench, &hold, refs, close).await;
        assert_eq!(later.state, captured, "close: {close}");
    }
    // Another capture and a release are told what it is by now.
    let again = CaptureRequest {
        provider_key: String::from("tg7_PA20260924000000abcdefgh_c3"),
        ..capture_of(&hold, &refs, 500, sent_first())
    };
    for answer in
        [bench.channel.capture(&again).await, bench.channel.release(&release_of(&hold, &refs, sent_first())).await]
    {
        assert_eq!((&answer.state, &answer.refused), (&captured, &None));
    }
    // Only what was captured can be given back.
    let charge = crate::channels::ChargeRequest { reference: hold.reference.clone(), ..charge_with(None) };
    let over = bench.channel.refund(&refund_of(&charge, &refs, 1501, 1)).await;
    assert!(matches!(over.state, RefundState::Failed(_)), "{over:?}");
    assert_eq!(bench.channel.refund(&refund_of(&charge, &refs, 1500, 2)).await.state, RefundState::Success);
    assert_eq!(lines(&bench), [(Hold, 2000), (Capture, 1500), (Refund, 1500)]);
    assert!(bench.ledger().iter().all(|entry| entry.reference == hold.reference));
}

#[tokio::test]
async fn a_release_that_was_done_before_is_done() {
    let bench = bench();
    let (hold, refs) = made(&bench).await;
    let repeated = Sent { is_first: false, ..sent_first() };
    for sent in [sent_first(), sent_first(), repeated] {
        let answer = bench.channel.release(&release_of(&hold, &refs, sent)).await;
        assert_eq!((&answer.state, &answer.refused), (&HoldState::Released { expired: false }, &None));
    }
    let captured = bench.channel.capture(&capture_of(&hold, &refs, 2000, sent_first())).await;
    assert_eq!((&captured.state, &captured.refused), (&HoldState::Released { expired: false }, &None));
    assert_eq!(lines(&bench), [(Hold, 2000), (Void, 2000)]);
}

#[tokio::test]
async fn a_declined_hold_is_left_open_for_its_payer() {
    let bench = bench();
    let hold = hold_with(Some("tok_insufficient_funds"));
    let answer = bench.channel.authorize(&hold).await;
    let HoldState::AwaitsMethod { failure: Some(failure), .. } = &answer.state else { panic!("{answer:?}") };
    assert_eq!((failure.code.as_str(), failure.decline_scope), ("insufficient_funds", DeclineScope::Customer));
    assert!(answer.refs.channel_order_no.is_some() && answer.refs.client_secret.is_some());
    // The key says the same for ever, and the object is read.
    let again = bench.channel.authorize(&hold).await;
    assert_eq!(again.state, answer.state);
    for refs in [&answer.refs, &NOTHING] {
        assert_eq!(ask(&bench, &hold, refs, false).await, answer);
    }
    assert!(bench.ledger().is_empty());
    browse("POST", &format!("{}/approve", page_of(&answer.state))).await;
    for refs in [&answer.refs, &NOTHING] {
        assert_eq!(ask(&bench, &hold, refs, false).await.state, held(2000));
    }
    assert_eq!(lines(&bench), [(Hold, 2000)]);
}

#[tokio::test]
async fn without_a_token_the_payer_chooses_and_no_other_token_stands_in() {
    for (visit, expected) in [("approve", "held"), ("decline", "waits"), ("close", "released")] {
        let bench = bench();
        let hold = hold_with(None);
        let answer = bench.channel.authorize(&hold).await;
        assert!(matches!(&answer.state, HoldState::AwaitsMethod { failure: None, .. }), "{answer:?}");
        assert!(bench.ledger().is_empty());
        let page = page_of(&answer.state);
        assert!(browse("GET", &page).await.1.contains("Approve"));
        if visit == "close" {
            assert_eq!(ask(&bench, &hold, &answer.refs, true).await.state, HoldState::Released { expired: false });
            browse("POST", &format!("{page}/approve")).await;
        } else {
            browse("POST", &format!("{page}/{visit}")).await;
        }
        let now = ask(&bench, &hold, &answer.refs, false).await.state;
        let found = match &now {
            HoldState::Held { .. } => "held",
            HoldState::AwaitsMethod { failure: Some(_), .. } => "waits",
            HoldState::Released { expired: false } => "released",
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected);
        assert_eq!(bench.ledger().len(), usize::from(visit == "approve"));
    }
}

#[tokio::test]
async fn a_payer_who_has_to_act_approves_or_declines() {
    for approve in [true, false] {
        let bench = bench();
        let hold = hold_with(Some("tok_3ds"));
        let answer = bench.channel.authorize(&hold).await;
        assert!(matches!(&answer.state, HoldState::ActionRequired { .. }), "{answer:?}");
        assert!(answer.refs.client_secret.is_some());
        let action = if approve { "approve" } else { "decline" };
        browse("POST", &format!("{}/{action}", page_of(&answer.state))).await;
        let now = ask(&bench, &hold, &answer.refs, false).await.state;
        match now {
            HoldState::Held { .. } => assert!(approve),
            HoldState::AwaitsMethod { failure: Some(failure), .. } => {
                assert!(!approve && failure.decline_scope == DeclineScope::Customer, "{failure:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_processed_is_held_later_and_can_be_closed_then() {
    let bench = bench();
    let hold = hold_with(Some("tok_processing"));
    let answer = bench.channel.authorize(&hold).await;
    assert_eq!(answer.state, HoldState::Processing);
    assert_eq!(ask(&bench, &hold, &answer.refs, true).await.state, HoldState::Processing, "it can't be closed now");
    bench.clock.advance(Duration::from_secs(5));
    let now = ask(&bench, &hold, &answer.refs, false).await.state;
    assert!(matches!(now, HoldState::Held { held_minor: 2000, .. }), "{now:?}");
    assert_eq!(ask(&bench, &hold, &answer.refs, true).await.state, HoldState::Released { expired: false });
    assert_eq!(lines(&bench), [(Hold, 2000), (Void, 2000)]);
}

#[tokio::test]
async fn what_nobody_captures_in_time_expires() {
    let bench = bench();
    let (hold, refs) = made(&bench).await;
    bench.clock.advance(WEEK - Duration::from_secs(1));
    assert_eq!(ask(&bench, &hold, &refs, false).await.state, held(2000));
    bench.clock.advance(Duration::from_secs(1));
    let expired = HoldState::Released { expired: true };
    assert_eq!(ask(&bench, &hold, &refs, false).await.state, expired);
    let sent =
        Sent { first_sent_at: bench.clock.now(), sent_by: bench.clock.now(), now: bench.clock.now(), ..sent_first() };
    for answer in [
        bench.channel.capture(&capture_of(&hold, &refs, 2000, sent)).await,
        bench.channel.release(&release_of(&hold, &refs, sent)).await,
    ] {
        assert_eq!((&answer.state, &answer.refused), (&expired, &None));
    }
    assert_eq!(lines(&bench), [(Hold, 2000), (Void, 2000)]);
}

#[tokio::test]
async fn too_much_is_refused_and_the_hold_stays() {
    let bench = bench();
    let (hold, refs) = made(&bench).await;
    let answer = bench.channel.capture(&capture_of(&hold, &refs, 2001, sent_first())).await;
    assert_eq!(answer.state, held(2000));
    assert_eq!(answer.refused.map(|failure| failure.code).as_deref(), Some("amount_not_supported"));
    assert_eq!(lines(&bench), [(Hold, 2000)]);
}

#[tokio::test]
async fn currencies_with_exceptions_are_held_and_captured_in_our_own_minor_units() {
    for (amount_minor, part_minor, code) in
        [(500, 499, "JPY"), (5, 4, "ISK"), (5, 5, "UGX"), (500, 300, "MGA"), (1250, 1240, "KWD"), (100, 99, "HUF")]
    {
        let bench = bench();
        let money = Money::new(amount_minor, code.parse().unwrap());
        let hold = AuthorizeRequest { money, ..hold_with(Some("tok_visa")) };
        let answer = bench.channel.authorize(&hold).await;
        assert_eq!(answer.state, held(amount_minor), "{code}");
        let captured = bench.channel.capture(&capture_of(&hold, &answer.refs, part_minor, sent_first())).await;
        assert_eq!(captured.state, HoldState::Captured { captured_minor: part_minor, fee_minor: None }, "{code}");
        assert_eq!(lines(&bench), [(Hold, amount_minor), (Capture, part_minor)]);
    }
    // What can't be expressed is not sent.
    let bench = bench();
    let of = |amount_minor, code: &str| AuthorizeRequest {
        money: Money::new(amount_minor, code.parse().unwrap()),
        ..hold_with(Some("tok_visa"))
    };
    for odd in [of(1255, "KWD"), of(550, "MGA"), of(10_000_000_001, "ISK"), of(100, "IRR")] {
        let answer = bench.channel.authorize(&odd).await;
        assert!(matches!(&answer.state, HoldState::NotDone(failure) if failure.code == "amount_not_supported"));
    }
    assert!(bench.ledger().is_empty());
    let hold = of(1250, "KWD");
    let refs = bench.channel.authorize(&hold).await.refs;
    let answer = bench.channel.capture(&capture_of(&hold, &refs, 1245, sent_first())).await;
    assert_eq!(answer.state, held(1250));
    assert_eq!(answer.refused.map(|failure| failure.code).as_deref(), Some("amount_not_supported"));
}

#[tokio::test]
async fn holds_are_listed_as_holds() {
    let bench = bench();
    let (hold, refs) = made(&bench).await;
    assert!(matches!(bench.charge(&charge_with(Some("tok_visa"))).await.state, ChargeState::Success { .. }));
    let items = bench.channel.list_charges(START, None).await.unwrap().items;
    let [charge, listed] = &items[..] else { panic!("{items:?}") };
    assert_eq!(charge.hold, None);
    assert_eq!(listed.hold, Some(held(2000)));
    assert!(matches!(listed.state, ChargeState::Unknown { .. }));
    assert_eq!(
        (listed.reference.as_ref(), listed.provider_key.as_ref()),
        (Some(&hold.reference), Some(&hold.provider_key))
    );
    bench.channel.capture(&capture_of(&hold, &refs, 700, sent_first())).await;
    let items = bench.channel.list_charges(START, None).await.unwrap().items;
    assert_eq!(items[1].hold, Some(HoldState::Captured { captured_minor: 700, fee_minor: Some(50) }));
}

fn state_of(more: Value) -> HoldState {
    let mut intent = json!({ "id": "pi_1", "status": "succeeded", "amount": 2000, "currency": "usd" });
    for (name, value) in more.as_object().unwrap() {
        intent[name] = value.clone();
    }
    let intent: PaymentIntent = serde_json::from_value(intent).unwrap();
    state_of_hold(&intent, Money::new(2000, Currency::USD))
}

#[test]
fn states_are_read_with_their_amounts() {
    let unknown = |more: Value| {
        let state = state_of(more.clone());
        assert!(matches!(state, HoldState::Unknown { .. }), "{more}: {state:?}");
    };
    // What is capturable after a capture is nothing, and what is missing is not nothing.
    let captured = |received: i64| json!({ "amount_capturable": 0, "amount_received": received });
    assert_eq!(state_of(captured(1500)), HoldState::Captured { captured_minor: 1500, fee_minor: None });
    for odd in [captured(0), captured(-1), captured(2001), json!({}), json!({ "amount_capturable": 1500 })] {
        unknown(odd);
    }
    let held = |capturable: Value| json!({ "status": "requires_capture", "amount_capturable": capturable });
    let bare = HoldState::Held { held_minor: 2000, expires_at: None, honor_until: None };
    assert_eq!(state_of(held(json!(2000))), bare);
    for odd in [held(json!(1999)), held(json!(0)), held(Value::Null), json!({ "status": "requires_capture" })] {
        unknown(odd);
    }
    unknown(json!({ "status": "requires_capture", "amount_capturable": 2000, "amount_received": 1 }));
    unknown(json!({ "status": "requires_reauthorization" }));
    // After a cancellation amounts mean nothing.
    for (reason, expired) in [
        (json!("automatic"), true),
        (json!("expired"), true),
        (json!("requested_by_customer"), false),
        (json!("abandoned"), false),
        (json!("of_next_year"), false),
        (Value::Null, false),
    ] {
        let canceled = json!({ "status": "canceled", "amount_capturable": 2000, "cancellation_reason": reason });
        assert_eq!(state_of(canceled), HoldState::Released { expired });
    }
    let closing = json!({ "gateway_closed": "true" });
    assert!(matches!(state_of(json!({ "status": "canceled", "metadata": closing })), HoldState::NotDone(_)));
    unknown(json!({ "status": "requires_payment_method", "metadata": closing }));
}

#[test]
fn a_charge_is_a_number_or_an_object() {
    let expires_at = |charge: Value| {
        let held = json!({ "status": "requires_capture", "amount_capturable": 2000, "latest_charge": charge });
        match state_of(held) {
            HoldState::Held { expires_at, .. } => expires_at,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(expires_at(json!("ch_1")), None);
    assert_eq!(expires_at(Value::Null), None);
    assert_eq!(expires_at(json!({ "id": "ch_1" })), None);
    assert_eq!(expires_at(json!({ "id": "ch_1", "payment_method_details": null })), None);
    assert_eq!(expires_at(json!({ "id": "ch_1", "payment_method_details": { "type": "card", "card": {} } })), None);
    let card = json!({ "card": { "capture_before": 1_790_410_400 } });
    let expected = Timestamp::from_unix_s(1_790_410_400);
    assert_eq!(expires_at(json!({ "id": "ch_1", "payment_method_details": card })), Some(expected));
}

#[tokio::test]
async fn a_check_says_whose_account_it_is_and_what_is_missing() {
    let bench = bench();
    let report = bench.channel.check().await.unwrap();
    assert_eq!(report.account.as_deref(), Some("acct_tollgate_sandbox"));
    assert_eq!((report.livemode, report.findings.len()), (Some(false), 0));
    let url = &bench.sandbox.urls()["stripe"];
    let config = crate::channels::tests::config(ChannelKind::Stripe);
    let with = |secret_key: &str| {
        let credentials = Credentials::new([("secret_key", secret_key)]);
        build(&ChannelName::new("x"), &config, url, &credentials, Clock::manual(START)).unwrap()
    };
    let bare = with(crate::sandbox::credentials::STRIPE_SECRET_KEY);
    assert!(!bare.capabilities().notifications && bare.capabilities().pre_auth);
    assert!(bare.check().await.unwrap().findings[0].contains("webhook_secret"));
    assert!(matches!(with("sk_live_other").check().await, Err(CheckFailure::Refused(_))));
    let nobody = channel_at(ChannelKind::Stripe, "http://127.0.0.1:9", Clock::manual(START));
    assert!(matches!(nobody.check().await, Err(CheckFailure::Unreachable(_))));
}

#[tokio::test]
async fn what_is_over_is_not_made_by_asking_about_it() {
    let bench = bench();
    let hold = hold_with(Some("tok_visa"));
    let over = HoldQuestion { is_over: true, now: START.plus(Duration::from_secs(90)), ..question_about(&hold) };
    let answer = bench.channel.ask_hold(&over).await;
    assert!(matches!(answer.state, HoldState::Unknown { .. }), "{answer:?}");
    assert!(bench.ledger().is_empty());
    // What is there all the same is found.
    let (hold, _) = made(&bench).await;
    let over = HoldQuestion { is_over: true, ..question_about(&hold) };
    assert_eq!(bench.channel.ask_hold(&over).await.state, held(2000));
}
