//! Pre-auths are taken once, and nobody holds money who can't.

use std::time::Duration;

use super::fixture::{Asked, HELD, House, origin, pass, stranger, told};
use crate::channels::{DeclineScope, Failure};
use crate::gateway::command::{CancelChannelPreAuth, CaptureChannelPreAuth, CreateChannelPreAuth};
use crate::gateway::error::GatewayError;

fn holder_of(refused: Result<crate::gateway::answer::Answered, GatewayError>) -> String {
    match refused {
        Err(GatewayError::OrderExists { field: "pre_auth_no", number }) => number,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn money_is_held_once_and_the_same_key_gets_the_same_bytes() {
    let house = House::new().await;
    let first = house.hold("O-1").await.unwrap();
    assert_eq!(told(&first), (201, "requires_capture"));
    let again = house.hold("O-1").await.unwrap();
    assert_eq!((again.answer, again.replayed), (first.answer, true));
    let view = house.only();
    assert_eq!((view.amount, view.authorized_amount, view.captured_amount), (HELD, HELD, 0));
    assert!(view.pre_auth_no.starts_with("PA") && !view.reconciling && view.expires_at.is_some());
    assert_eq!(view.channel_pre_auth_no, Some(format!("ch_{}", view.pre_auth_no)));
    assert_eq!(house.provider.authorizes(), 1);
    assert_eq!(house.events(), ["pre_auth.authorized"]);
    let row = house.row(&view.pre_auth_no);
    assert_eq!((row.authorized_minor, row.operation), (HELD, None));
    assert_ne!(row.provider_key, view.pre_auth_no, "the provider's key is our own");
}

#[tokio::test(start_paused = true)]
async fn an_order_number_and_a_merchant_s_own_number_are_taken_once() {
    let house = House::new().await;
    house.provider.set(|mood| mood.takes = Duration::from_secs(5));
    let named = |key: &'static str, reference: &'static str| {
        house.hold_with(key, move |command| command.reference = Some(reference.to_owned()))
    };
    let create = |key: &'static str| house.hold_with(key, |command| command.wanted.order_no = String::from("O-1"));
    let (one, other) = tokio::join!(create("k-1"), create("k-2"));
    let refused = if one.is_ok() { other } else { one };
    assert_eq!(holder_of(refused), house.only().pre_auth_no);
    let (one, other) = tokio::join!(named("O-2", "R-1"), named("O-3", "R-1"));
    let refused = if one.is_ok() { other } else { one };
    let own = house.view("R-1").await;
    assert_eq!(holder_of(refused), own.pre_auth_no);
    assert_eq!(own.reference.as_deref(), Some("R-1"));
    assert_eq!(house.provider.authorizes(), 2);
    // The order number is free again when the pre-auth is over, the merchant's own number never.
    assert_eq!(told(&house.cancel(&own.pre_auth_no, "c-1").await.unwrap()), (200, "canceled"));
    assert_eq!(holder_of(named("O-4", "R-1").await), own.pre_auth_no);
    let ours = own.pre_auth_no.clone();
    let shadowing = house.hold_with("O-6", |command| command.reference = Some(ours)).await;
    assert_eq!(holder_of(shadowing), own.pre_auth_no, "our number names one pre-auth, too");
    let order_no = own.order_no.clone();
    let again = house.hold_with("k-5", |command| command.wanted.order_no = order_no).await.unwrap();
    assert_eq!(told(&again), (201, "requires_capture"));
}

#[tokio::test(start_paused = true)]
async fn a_number_of_the_merchant_s_own_has_its_form() {
    let house = House::new().await;
    for reference in ["", "a b", "ä", &"x".repeat(65)] {
        let refused = house.hold_with("O-1", |command| command.reference = Some(reference.to_owned())).await;
        assert!(matches!(refused, Err(GatewayError::InvalidRequest(_))), "{reference}: {refused:?}");
    }
    let card = house.hold_with("O-1", |command| command.reference = Some("4242424242424242".to_owned())).await;
    assert!(matches!(&card, Err(GatewayError::PanRefused(field)) if field == "pre_auth_no"), "{card:?}");
    assert!(house.all().is_empty() && house.provider.authorizes() == 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_channel_did_not_do_is_no_hold() {
    let house = House::new().await;
    let failure = Failure::new("channel_unreachable", "", DeclineScope::Processor);
    house.provider.set(|mood| mood.refuses = Some(failure));
    let refused = house.hold("O-1").await.unwrap();
    assert_eq!(told(&refused), (502, "not_done"));
    assert_eq!(house.only().status, "failed");
    house.provider.set(|mood| mood.refuses = None);
    assert_eq!(house.hold("O-1").await.unwrap().answer, refused.answer, "the same key gets the same bytes");
    let again = house.hold_with("k-2", |command| command.wanted.order_no = String::from("O-1")).await.unwrap();
    assert_eq!(told(&again), (201, "requires_capture"), "the order number is free");
    assert_eq!(house.events(), ["pre_auth.failed", "pre_auth.authorized"]);
}

#[tokio::test(start_paused = true)]
async fn a_decline_is_no_error() {
    let house = House::new().await;
    let failure = Failure::new("insufficient_funds", "", DeclineScope::Bank);
    house.provider.set(|mood| mood.declines = Some(failure));
    let declined = house.hold("O-1").await.unwrap();
    assert_eq!(told(&declined), (201, "failed"));
    let view = house.only();
    assert_eq!(view.failure.unwrap().code, "insufficient_funds");
    assert_eq!(view.operations[0].status, "declined");
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_holds_nothing_is_refused_before_anything_is_stored_or_sent() {
    let mut house = House::new().await;
    let asked = house.hold_with("O-1", |command| command.wanted.channel = Some("alipay".to_owned())).await;
    assert!(matches!(asked, Err(GatewayError::PreAuthNotSupported)), "{asked:?}");
    let mut merchant = (*house.caller.merchant).clone();
    merchant.channels = vec![crate::domain::ids::ChannelName::new("alipay")];
    house.caller.merchant = std::sync::Arc::new(merchant);
    let routed = house.hold_with("O-1", |command| command.wanted.channel = None).await;
    assert!(matches!(routed, Err(GatewayError::PreAuthNotSupported)), "{routed:?}");
    assert!(house.all().is_empty() && house.events().is_empty());
    assert!(house.provider.asked.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_asked_for_and_nothing_is_held_twice() {
    let house = House::new().await;
    house.provider.set(|mood| mood.is_mute = true);
    let unknown = house.hold("O-1").await.unwrap();
    assert_eq!(told(&unknown), (202, "processing"));
    assert!(house.only().reconciling);
    house.provider.set(|mood| mood.is_mute = false);
    pass(Duration::from_secs(30)).await;
    let view = house.only();
    assert_eq!((view.status.as_str(), view.reconciling), ("requires_capture", false));
    assert_eq!(house.provider.authorizes(), 1);
    assert_eq!(house.hold("O-1").await.unwrap().answer, unknown.answer, "what was told is told again");
    assert_eq!(house.events(), ["pre_auth.authorized"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_changes_nothing() {
    let house = House::new().await;
    house.provider.set(|mood| mood.takes = Duration::from_secs(5));
    let gone = tokio::time::timeout(Duration::from_secs(1), house.hold("O-1")).await;
    assert!(gone.is_err());
    pass(Duration::from_secs(10)).await;
    assert_eq!(house.only().status, "requires_capture");
    assert_eq!(told(&house.hold("O-1").await.unwrap()), (201, "requires_capture"));
    assert_eq!(house.provider.authorizes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_payer_may_come_later_or_never() {
    let house = House::new().await;
    house.provider.set(|mood| mood.waits = true);
    let waits = house.hold("O-1").await.unwrap();
    assert_eq!(told(&waits), (201, "requires_payment_method"));
    let no = house.only().pre_auth_no;
    house.provider.approve();
    let seen = house.pre_auths.get(&house.caller, &no, true).await.unwrap();
    assert_eq!(seen.status, "requires_capture", "its channel was asked");
    house.hold("O-2").await.unwrap();
    pass(Duration::from_secs(25 * 3_600)).await;
    let never = house.all().into_iter().find(|view| view.order_no == "O-2").unwrap();
    assert_eq!(never.status, "expired");
    assert!(
        house.provider.count(|asked| matches!(asked, Asked::Ask { close: true, .. })) >= 1,
        "it is closed at the provider"
    );
    assert_eq!(house.provider.authorizes(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_channel_s_number_addresses_a_pre_auth_for_its_merchant_alone() {
    let house = House::new().await;
    let command = CreateChannelPreAuth {
        channel: String::from("stripe"),
        pre_auth_no: Some(String::from("MY-1")),
        amount: HELD,
        currency: String::from("USD"),
        ..CreateChannelPreAuth::default()
    };
    let by_channel = house.pre_auths.by_channel();
    let created = by_channel.create(&house.caller, origin("k-1"), command.clone()).await.unwrap();
    assert_eq!(told(&created), (201, "requires_capture"));
    let again = by_channel.create(&house.caller, origin("k-2"), command.clone()).await;
    let no = house.only().pre_auth_no;
    assert_eq!(holder_of(again), no);
    assert_eq!(house.only().order_no, "MY-1", "without an order number the merchant's own stands for it");
    let number = format!("ch_{no}");
    for known in [number.as_str(), "MY-1", no.as_str(), &house.row(&no).provider_key] {
        let view = by_channel.get(&house.caller, "stripe", known).await.unwrap();
        assert_eq!((view.pre_auth_no.as_str(), view.status.as_str()), ("MY-1", "requires_capture"), "{known}");
    }
    for (caller, channel) in [(&house.caller, "alipay"), (&stranger(), "stripe")] {
        let unknown = by_channel.get(caller, channel, &number).await;
        assert!(matches!(unknown, Err(GatewayError::NotFound(_))), "{channel}: {unknown:?}");
    }
    let capture = |currency: &str| CaptureChannelPreAuth {
        channel: String::from("stripe"),
        channel_pre_auth_no: number.clone(),
        amount: Some(2_500),
        currency: Some(currency.to_owned()),
    };
    let other = by_channel.capture(&house.caller, origin("k-3"), capture("EUR")).await;
    assert!(matches!(other, Err(GatewayError::InvalidRequest(_))), "{other:?}");
    let captured = by_channel.capture(&house.caller, origin("k-4"), capture("USD")).await.unwrap();
    assert_eq!(told(&captured), (200, "captured"));
    assert!(captured.answer.body.contains("amount: 2500"), "{captured:?}");
    let cancel =
        CancelChannelPreAuth { channel: String::from("stripe"), channel_pre_auth_no: number.clone(), reason: None };
    let late = by_channel.cancel(&house.caller, origin("k-5"), cancel).await;
    assert_eq!(super::fixture::state_of(late), "captured");
    let unnamed = CreateChannelPreAuth { pre_auth_no: None, ..command };
    by_channel.create(&house.caller, origin("k-6"), unnamed).await.unwrap();
    let newest = house.all().into_iter().find(|view| view.pre_auth_no != no).unwrap();
    assert_eq!(newest.order_no, newest.pre_auth_no, "without any number ours stands for it");
}
