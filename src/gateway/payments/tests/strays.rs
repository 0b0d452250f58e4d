//! Money that came otherwise than it was asked for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fixture::{Failure, Fixture, START, UnsteadyStore, pass, told};
use crate::channels::{ChargeState, DeclineScope, Failure as Refusal, ProviderRefs, RefundState, StrayKind};
use crate::clock::Clock;
use crate::domain::ids::{MerchantId, PaymentNo};
use crate::domain::money::{Currency, Money};
use crate::domain::payment::{Payment, RefundStatus};
use crate::domain::stray::{StrayAction, StrayPolicy};
use crate::gateway::payments::rows;
use crate::storage::Batch;

async fn house_with(policy: StrayPolicy) -> Fixture {
    let change = |config: &mut crate::config::Config| config.payments.on_stray = policy;
    Fixture::over(std::sync::Arc::<UnsteadyStore>::default(), &Clock::virtual_from(START), change).await
}

fn shop() -> MerchantId {
    MerchantId::new("m_1")
}

fn stored(house: &Fixture) -> Payment {
    let payment_no = PaymentNo::new(house.only().payment_no);
    rows::read(&house.core, &shop(), &payment_no).unwrap().payment
}

fn late(amount_minor: i64) -> ChargeState {
    ChargeState::Stray { kind: StrayKind::Late, received: Some(Money::new(amount_minor, Currency::USD)) }
}

fn declined() -> ChargeState {
    ChargeState::Declined(Refusal::new("no", "No.", DeclineScope::Bank))
}

fn refunds_sent(house: &Fixture) -> usize {
    house.stripe.refunds.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_was_paid_late_ends_as_the_policy_says() {
    for (policy, status, refunds) in
        [(StrayPolicy::Refund, "failed", 1), (StrayPolicy::Report, "failed", 0), (StrayPolicy::Accept, "success", 0)]
    {
        let house = house_with(policy).await;
        let waits = ChargeState::ActionRequired { next_action: None, expires_at: None };
        house.stripe.set(|script| (script.charge, script.resolve) = (waits, late(900)));
        house.payments.start().unwrap();
        assert_eq!(told(&house.pay("O-1").await.unwrap()), (201, "requires_action"));
        pass(Duration::from_secs(5)).await;
        let payment = stored(&house);
        assert_eq!((payment.status.as_str(), payment.strays.len()), (status, 1), "{policy:?}");
        assert_eq!((payment.refunds.len(), refunds_sent(&house)), (refunds, refunds), "{policy:?}");
        assert_eq!(payment.refunded_minor(), if refunds == 1 { 900 } else { 0 });
        let figures = house.core.figures.text();
        assert!(figures.contains("tollgate_strays_total{kind=\"late\"} 1"), "{figures}");
        let shown = house.payments.find(payment.payment_no.as_str()).unwrap();
        assert_eq!((shown.strays.len(), shown.strays[0].amount), (1, Some(900)));
        // The order number is free where nothing counts as paid.
        let other = house.payments.create(&house.caller, super::fixture::origin("key-2"), command("O-1")).await;
        assert_eq!(other.is_ok(), policy != StrayPolicy::Accept, "{policy:?}");
    }
}

fn command(order_no: &str) -> crate::gateway::command::CreatePayment {
    let command = serde_json::json!({ "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe" });
    serde_json::from_value(command).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_late_success_is_written_down_and_given_back_once_however_often_it_is_told() {
    for policy in [StrayPolicy::Refund, StrayPolicy::Report] {
        let house = house_with(policy).await;
        house.stripe.set(|script| script.charge = declined());
        assert_eq!(told(&house.pay("O-1").await.unwrap()), (201, "failed"));
        let payment_no = PaymentNo::new(house.only().payment_no);
        house.payments.look_again(&shop(), &payment_no).await.unwrap();
        for _ in 0..4 {
            house.payments.look_again(&shop(), &payment_no).await.unwrap();
        }
        assert_eq!(house.stripe.closing.load(Ordering::SeqCst), 5, "nothing may be charged by asking");
        let payment = stored(&house);
        assert_eq!((payment.status.as_str(), payment.strays.len()), ("failed", 1));
        match policy {
            StrayPolicy::Refund => {
                assert_eq!(payment.strays[0].action, StrayAction::Refunding(payment.refunds[0].refund_no.clone()));
                assert_eq!((payment.refunded_minor(), refunds_sent(&house)), (900, 1));
            }
            _ => assert_eq!((payment.strays[0].action.clone(), refunds_sent(&house)), (StrayAction::Reported, 0)),
        }
        assert!(house.core.figures.text().contains("tollgate_strays_total{kind=\"late\"} 1"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_only_reported_the_merchant_gives_back_and_no_more() {
    let house = house_with(StrayPolicy::Report).await;
    house.stripe.set(|script| script.charge = declined());
    house.pay("O-1").await.unwrap();
    let payment_no = house.only().payment_no;
    assert!(house.refund(&payment_no, "r-0").await.is_err(), "nothing came yet");
    house.payments.look_again(&shop(), &PaymentNo::new(payment_no.as_str())).await.unwrap();
    for number in 1..=9 {
        assert_eq!(told(&house.refund(&payment_no, &format!("r-{number}")).await.unwrap()), (201, "success"));
    }
    assert!(house.refund(&payment_no, "r-10").await.is_err(), "all of it is given back");
    assert_eq!(stored(&house).refunded_minor(), 900);
}

#[tokio::test(start_paused = true)]
async fn a_refund_without_answer_is_asked_for_and_not_begun_again() {
    let house = house_with(StrayPolicy::Refund).await;
    let unknown = RefundState::Unknown { reason: String::from("timeout") };
    house.stripe.set(|script| (script.charge, script.refund) = (declined(), unknown));
    house.payments.start().unwrap();
    house.pay("O-1").await.unwrap();
    let payment_no = PaymentNo::new(house.only().payment_no);
    house.payments.look_again(&shop(), &payment_no).await.unwrap();
    assert_eq!(stored(&house).refunds[0].status, RefundStatus::Pending);
    house.payments.look_again(&shop(), &payment_no).await.unwrap();
    house.stripe.set(|script| script.refund = RefundState::Success);
    pass(Duration::from_secs(60)).await;
    let payment = stored(&house);
    assert_eq!((payment.refunds.len(), payment.refunded_minor()), (1, 900));
    assert_eq!(house.stripe.refunds_doubled.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_a_number_is_looked_for_and_never_asked_about() {
    let house = house_with(StrayPolicy::Report).await;
    house.stripe.set(|script| script.charge = declined());
    house.pay("O-1").await.unwrap();
    let payment_no = PaymentNo::new(house.only().payment_no);
    let before = rows::read(&house.core, &shop(), &payment_no).unwrap();
    let mut nameless = before.payment.clone();
    nameless.attempts[0].refs = ProviderRefs::default();
    let mut batch = Batch::finishing();
    rows::replace(&mut batch, &before, &nameless).unwrap();
    house.core.store.commit(batch).await.unwrap();

    house.payments.look_again(&shop(), &payment_no).await.unwrap();
    house.stripe.find(Ok(None));
    house.payments.look_again(&shop(), &payment_no).await.unwrap();
    assert!(stored(&house).strays.is_empty());
    let key = nameless.attempts[0].provider_key.clone();
    house.stripe.find(Ok(Some((key, ChargeState::Success { fee_minor: None }))));
    house.payments.look_again(&shop(), &payment_no).await.unwrap();
    assert_eq!(stored(&house).strays.len(), 1);
    assert_eq!((house.stripe.finds.load(Ordering::SeqCst), house.stripe.resolves.load(Ordering::SeqCst)), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_changed_about_a_payment_that_is_as_it_was() {
    let house = house_with(StrayPolicy::Refund).await;
    house.pay("O-1").await.unwrap();
    let before = stored(&house);
    house.payments.look_again(&shop(), &before.payment_no).await.unwrap();
    assert_eq!(stored(&house), before, "its own success is none that comes late");
    let nobody = house.payments.look_again(&shop(), &PaymentNo::new("PY0")).await;
    assert!(nobody.is_err());
}

#[tokio::test(start_paused = true)]
async fn stray_money_that_can_t_be_given_back_is_left_to_a_person_and_counted() {
    let house = house_with(StrayPolicy::Refund).await;
    let no = RefundState::Failed(Refusal::new("channel_unreachable", "No.", DeclineScope::Processor));
    house.stripe.set(|script| (script.charge, script.refund) = (declined(), no));
    house.pay("O-1").await.unwrap();
    let payment_no = house.only().payment_no;
    for _ in 0..3 {
        house.payments.look_again(&shop(), &PaymentNo::new(payment_no.as_str())).await.unwrap();
    }
    let payment = stored(&house);
    assert_eq!((payment.strays.len(), &payment.strays[0].action), (1, &StrayAction::Reported));
    assert_eq!((payment.refunds[0].status, refunds_sent(&house)), (RefundStatus::Failed, 1));
    assert!(house.core.figures.text().contains("tollgate_needs_review_total{object=\"refund\"} 1"));
    house.stripe.set(|script| script.refund = RefundState::Success);
    assert_eq!(told(&house.refund(&payment_no, "r-1").await.unwrap()), (201, "success"));
}

#[tokio::test(start_paused = true)]
async fn stray_money_that_could_not_be_written_down_is_not_taken_for_dealt_with() {
    let house = house_with(StrayPolicy::Refund).await;
    house.stripe.set(|script| script.charge = declined());
    house.pay("O-1").await.unwrap();
    let payment_no = PaymentNo::new(house.only().payment_no);
    house.store.fail([Failure::Conflict; 8]);
    assert!(house.payments.look_again(&shop(), &payment_no).await.is_err());
    assert!(stored(&house).strays.is_empty());
    house.payments.look_again(&shop(), &payment_no).await.unwrap();
    assert_eq!(stored(&house).strays.len(), 1);
}
