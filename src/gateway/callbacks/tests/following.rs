//! What notifications lead to: questions, bounded, about what they are about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::fixture::{House, pass, shop};
use crate::channels::{ChargeState, DeclineScope, Failure, HoldState, RefundState, Subject};
use crate::clock::Clock;
use crate::gateway::payments::tests::fixture::START;
use crate::storage::{Batch, keys};

fn declined() -> ChargeState {
    ChargeState::Declined(Failure::new("no", "No.", DeclineScope::Bank))
}

#[tokio::test(start_paused = true)]
async fn many_about_one_payment_lead_to_few_questions() {
    let house = House::new().await;
    let payment = house.pay("O-1").await;
    house.provider.set(|mood| mood.resolve = ChargeState::Processing);
    for number in 0..500 {
        house.tell(&format!("evt_{number}"), &payment).await;
    }
    pass(10).await;
    assert_eq!((house.inbox().len(), house.open()), (500, 0));
    assert!((1..=3).contains(&house.resolves()), "{} questions", house.resolves());
    house.has_figure("tollgate_callbacks_open 0");
}

#[tokio::test(start_paused = true)]
async fn the_order_in_which_they_come_makes_no_difference() {
    for ids in [["evt_created", "evt_processing", "evt_paid"], ["evt_paid", "evt_processing", "evt_created"]] {
        let house = House::new().await;
        let payment = house.pay("O-1").await;
        for id in ids {
            house.tell(id, &payment).await;
            pass(2).await;
        }
        assert_eq!(house.payment(payment.payment_no.as_str()).status.as_str(), "success");
        assert_eq!((house.resolves(), house.open()), (1, 0), "what is charged is not asked about any more");
        assert_eq!(house.events(), ["payment.requires_action", "payment.success"]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_before_the_answer_of_its_own_request_is_gone_into_after_it() {
    let house = Arc::new(House::new().await);
    house.provider.set(|mood| mood.charge_takes = Duration::from_secs(20));
    let payer = Arc::clone(&house);
    let paying = tokio::spawn(async move { payer.pay("O-1").await });
    pass(2).await;
    let page = house.core.store.scan(&crate::storage::Scan::prefix(&keys::payments(), 10)).unwrap();
    let early: crate::domain::payment::Payment = crate::storage::record::decode(&page[0].versioned.value).unwrap();
    assert_eq!(early.status.as_str(), "pending");
    house.tell("evt_1", &early).await;
    pass(10).await;
    assert_eq!((house.open(), house.resolves()), (1, 0), "whoever works on it may have asked before it happened");
    let answered = paying.await.unwrap();
    assert_eq!(answered.status.as_str(), "requires_action");
    pass(3).await;
    assert_eq!(house.payment(answered.payment_no.as_str()).status.as_str(), "success");
    assert_eq!((house.open(), house.resolves()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_yet_is_looked_for_for_a_day() {
    let house = House::new().await;
    let payment = house.pay("O-1").await;
    let key = keys::payment(&shop(), &payment.payment_no);
    let row = house.core.store.get(&key).unwrap().unwrap();
    let mut batch = Batch::finishing();
    batch.delete(key.clone());
    house.core.store.commit(batch).await.unwrap();
    house.tell("evt_1", &payment).await;
    pass(60).await;
    assert_eq!((house.open(), house.provider.asked()), (1, 0));
    let mut batch = Batch::finishing();
    batch.put(key, row.value.to_vec());
    house.core.store.commit(batch).await.unwrap();
    pass(70).await;
    assert_eq!((house.open(), house.outcome().as_deref()), (0, Some("asked")));
    assert_eq!(house.payment(payment.payment_no.as_str()).status.as_str(), "success");
}

#[tokio::test(start_paused = true)]
async fn what_cant_be_read_holds_up_nothing_else() {
    let house = House::new().await;
    let (broken, whole) = (house.pay("O-1").await, house.pay("O-2").await);
    let mut batch = Batch::finishing();
    batch.put(keys::payment(&shop(), &broken.payment_no), b"?".to_vec());
    // An entry without its notification, in front of all others.
    batch.put(keys::inbox_open(START, &crate::domain::ids::ChannelName::new("stripe"), "evt_0"), Vec::new());
    house.core.store.commit(batch).await.unwrap();
    house.tell("evt_1", &broken).await;
    house.tell("evt_2", &whole).await;
    pass(5).await;
    assert_eq!(house.payment(whole.payment_no.as_str()).status.as_str(), "success");
    assert_eq!((house.open(), house.resolves()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_never_comes_up_is_given_up_and_counted() {
    let house = House::new().await;
    let subject = json!({ "reference": "PY20260101000000abcdefgh", "merchant_id": "m_1" });
    house.arrives("right", &json!({ "id": "evt_1", "subjects": [subject] })).await.unwrap();
    pass(86_000).await;
    assert_eq!(house.open(), 1);
    assert!((100..200).contains(&house.inbox()[0].tries), "{:?}", house.inbox());
    pass(1_200).await;
    assert_eq!((house.open(), house.outcome().as_deref(), house.provider.asked()), (0, Some("unknown"), 0));
    house.has_figure("tollgate_callbacks_unknown_total 1");
    house.has_figure("tollgate_callbacks_open 0");
}

#[tokio::test(start_paused = true)]
async fn another_channel_s_payment_or_another_merchant_s_is_none() {
    let house = House::new().await;
    let payment = house.pay("O-1").await;
    let subject = json!({ "reference": payment.payment_no.as_str(), "merchant_id": "m_2" });
    house.arrives("right", &json!({ "id": "evt_1", "subjects": [subject] })).await.unwrap();
    pass(30).await;
    assert_eq!((house.open(), house.provider.asked()), (1, 0));
    assert_eq!(house.payment(payment.payment_no.as_str()), payment);
}

#[tokio::test(start_paused = true)]
async fn questions_are_so_many_a_second_at_most() {
    let house = House::with(|config| config.callbacks.asks_per_second = 20).await;
    let mut payments = Vec::new();
    for number in 0..200 {
        payments.push(house.pay(&format!("O-{number}")).await);
    }
    for (number, payment) in payments.iter().enumerate() {
        house.tell(&format!("evt_{number}"), payment).await;
    }
    pass(2).await;
    let early = house.resolves();
    assert!((50..=50 + 40 + 5).contains(&early), "{early} questions");
    pass(10).await;
    assert_eq!((house.resolves(), house.open()), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn the_next_process_goes_into_what_was_left() {
    let house = House::over(Arc::default(), &Clock::virtual_from(START), |_| {}).await;
    house.payments.start().unwrap();
    let payment = house.pay("O-1").await;
    for number in 0..1_000 {
        house.tell(&format!("evt_{number}"), &payment).await;
    }
    assert_eq!((house.open(), house.provider.asked()), (1_000, 0));
    house.core.stopping.cancel();
    let next = House::over(Arc::clone(&house.store), &house.core.clock, |_| {}).await;
    next.start();
    next.has_figure("tollgate_callbacks_open 1000");
    pass(20).await;
    assert_eq!(next.open(), 0);
    assert_eq!(next.payment(payment.payment_no.as_str()).status.as_str(), "success");
    assert!((1..=3).contains(&next.resolves()), "{} questions", next.resolves());
    next.has_figure("tollgate_callbacks_open 0");
}

#[tokio::test(start_paused = true)]
async fn a_success_after_the_end_is_found_and_written_down_once() {
    let house = House::new().await;
    house.provider.set(|mood| mood.charge = declined());
    let payment = house.pay("O-1").await;
    assert_eq!(payment.status.as_str(), "failed");
    for number in 0..3 {
        house.tell(&format!("evt_{number}"), &payment).await;
        pass(2).await;
    }
    let after = house.payment(payment.payment_no.as_str());
    assert_eq!((after.status.as_str(), after.strays.len(), after.refunds.len()), ("failed", 1, 1));
    assert_eq!((house.provider.refunds.load(Ordering::SeqCst), house.open()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_question_about_what_is_over_is_repeated_until_it_is_answered() {
    let house = House::new().await;
    house.provider.set(|mood| {
        (mood.charge, mood.resolve) = (declined(), ChargeState::Unknown { reason: "away".to_owned() });
    });
    let payment = house.pay("O-1").await;
    house.tell("evt_1", &payment).await;
    pass(5).await;
    assert_eq!(house.open(), 1);
    house.provider.set(|mood| mood.resolve = ChargeState::Success { fee_minor: None });
    pass(30).await;
    assert_eq!((house.open(), house.payment(payment.payment_no.as_str()).strays.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_is_under_way_is_asked_about() {
    let house = House::new().await;
    house.provider.set(|mood| {
        mood.charge = ChargeState::Success { fee_minor: None };
        mood.refund = RefundState::Pending;
    });
    let payment = house.pay("O-1").await;
    let refunds = crate::gateway::payments::Refunds::new(house.payments.clone());
    let command = crate::gateway::command::CreateRefund { amount: Some(100), reason: None };
    let caller = crate::gateway::payments::tests::fixture::caller();
    refunds.create(&caller, super::fixture::origin(), payment.payment_no.as_str(), command).await.unwrap();
    house.provider.set(|mood| mood.refund = RefundState::Success);
    pass(5).await;
    assert_eq!(house.payment(payment.payment_no.as_str()).refunded_minor(), 0, "nobody asks of his own accord");
    house.tell("evt_1", &payment).await;
    pass(5).await;
    assert_eq!((house.payment(payment.payment_no.as_str()).refunded_minor(), house.open()), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_the_payer_s_bank_is_told_once() {
    let house = House::new().await;
    house.provider.set(|mood| mood.charge = ChargeState::Success { fee_minor: None });
    let payment = house.pay("O-1").await;
    let number = format!("ch_{}", payment.payment_no);
    let named = Subject {
        reference: Some(payment.payment_no.to_string()),
        merchant_id: Some("m_1".to_owned()),
        provider_key: None,
        provider_no: None,
    };
    house.provider.set(|mood| mood.names = Some(BTreeMap::from([(number.clone(), named)])));
    // By the provider's number alone, as providers tell of claims, and as several events.
    for (id, claim) in [("evt_1", "du_1"), ("evt_2", "du_1"), ("evt_3", "du_2")] {
        let body = json!({ "id": id, "subjects": [{ "provider_no": number }], "dispute": claim });
        house.arrives("right", &body).await.unwrap();
        pass(3).await;
    }
    let after = house.payment(payment.payment_no.as_str());
    let claims: Vec<&str> = after.disputes.iter().map(|dispute| dispute.dispute_no.as_str()).collect();
    assert_eq!((after.status.as_str(), claims), ("success", vec!["du_1", "du_2"]));
    assert_eq!(house.events(), ["payment.success", "payment.disputed", "payment.disputed"]);
    assert_eq!((house.open(), house.resolves()), (0, 0));
    // A number that the provider knows and that is none of ours.
    let body = json!({ "id": "evt_4", "subjects": [{ "provider_no": "ch_other" }], "dispute": "du_3" });
    house.arrives("right", &body).await.unwrap();
    pass(3).await;
    assert_eq!((house.open(), house.events().len()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_its_payer_approved_is_asked_about() {
    let house = House::new().await;
    let pre_auth = house.hold("O-1").await;
    assert_eq!(pre_auth.status.as_str(), "requires_payment_method");
    let held = HoldState::Held {
        held_minor: 900,
        expires_at: Some(START.plus(Duration::from_secs(600_000))),
        honor_until: None,
    };
    house.provider.set(|mood| mood.hold = held);
    pass(10).await;
    assert_eq!(house.provider.asked(), 0);
    // By the provider's number alone, which is known here.
    let body = json!({ "id": "evt_1", "subjects": [{ "provider_no": format!("ch_{}", pre_auth.pre_auth_no) }] });
    for _ in 0..5 {
        house.arrives("right", &body).await.unwrap();
    }
    pass(2).await;
    assert_eq!(house.pre_auth(pre_auth.pre_auth_no.as_str()).status.as_str(), "requires_capture");
    assert_eq!((house.provider.holds_asked.load(Ordering::SeqCst), house.open()), (1, 0));
    assert_eq!(house.events(), ["pre_auth.authorized"]);
}
