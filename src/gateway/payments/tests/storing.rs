//! What happens when the store does not take an outcome: nobody is told an error about money that has moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::fixture::{Failure, Fixture, pass, told};
use crate::channels::{ChargeState, DeclineScope, Failure as Refusal, RefundState};
use crate::gateway::answer::StoredAnswer;
use crate::gateway::error::GatewayError;
use crate::gateway::idempotency::{IdempotencyKey, once};

/// More than one commit's own tries.
const LONG: usize = 20;

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_stored_is_processing_and_stored_later() {
    let house = Fixture::new().await;
    house.store.fail([Failure::NoRoom; LONG]);
    let first = house.pay("O-1").await.unwrap();
    assert_eq!(told(&first), (202, "processing"));
    let meanwhile = house.pay("O-1").await.unwrap();
    assert_eq!((meanwhile.answer, meanwhile.replayed), (first.answer.clone(), true), "what was told is told again");
    let other_body = house.pay_with_body("O-1", b"{ }").await;
    assert!(matches!(other_body, Err(GatewayError::IdempotencyMismatch)), "{other_body:?}");
    assert_eq!(house.only().status, "pending", "still not stored");
    pass(Duration::from_secs(60)).await;
    assert_eq!(house.only().status, "success");
    let again = house.pay("O-1").await.unwrap();
    assert_eq!((again.answer, again.replayed), (first.answer, true), "the same key gets the same bytes");
    assert_eq!(house.stripe.charges.load(Ordering::SeqCst), 1);
    assert_eq!(house.stripe.resolves.load(Ordering::SeqCst), 0, "the outcome was known all the time");
}

#[tokio::test(start_paused = true)]
async fn what_is_unreadable_after_the_charge_is_no_error_of_the_payment() {
    let house = Fixture::new().await;
    // What is looked for at the start has been.
    pass(Duration::from_millis(1)).await;
    house.store.fail_scans(1);
    let first = house.pay("O-1").await.unwrap();
    assert_eq!(told(&first), (202, "processing"));
    pass(Duration::from_secs(5)).await;
    assert_eq!(house.only().status, "success");
    assert_eq!(house.pay("O-1").await.unwrap().answer, first.answer);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_was_stored_without_anybody_knowing_is_found() {
    let house = Fixture::new().await;
    // What is written at the start has been.
    pass(Duration::from_millis(1)).await;
    house.store.fail([Failure::StoredUnknown]);
    let first = house.pay("O-1").await.unwrap();
    assert_eq!(told(&first), (202, "processing"));
    pass(Duration::from_secs(5)).await;
    assert_eq!(house.only().status, "success");
    let kept = house.pay("O-1").await.unwrap();
    assert_eq!(told(&kept), (201, "success"), "what was stored first has the word");
    assert_eq!(house.pay("O-1").await.unwrap().answer, kept.answer);
    assert_eq!(house.stripe.charges.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn no_further_channel_is_asked_when_its_intent_cannot_be_stored() {
    for failure in [Failure::NoRoom, Failure::StoredUnknown] {
        let house = Fixture::new().await;
        pass(Duration::from_millis(1)).await;
        let refusal = Refusal::new("rate_limit", "", DeclineScope::Processor);
        house.stripe.set(|script| script.charge = ChargeState::NotDone(refusal));
        let failures = if matches!(failure, Failure::NoRoom) { 8 } else { 1 };
        house.store.fail(std::iter::repeat_n(failure, failures));
        let pay = || {
            house.pay_with("O-1", |command| {
                (command.channel, command.country) = (None, Some(String::from("US")));
            })
        };
        let answered = pay().await.unwrap();
        pass(Duration::from_secs(60)).await;
        assert_eq!(house.stripe.charges.load(Ordering::SeqCst), 1, "the router asks stripe first");
        assert_eq!(house.alipay.charges.load(Ordering::SeqCst), 0);
        assert_eq!(house.only().status, "failed", "{failure:?}: {answered:?}");
        let routing = house.payments.routing(&house.caller, &house.only().payment_no, Default::default()).unwrap();
        let last = routing.attempts.last().unwrap().failover.clone().unwrap();
        assert_eq!((last.allowed, last.reason.as_str()), (true, "not_stored"));
        assert_eq!(pay().await.unwrap().answer, answered.answer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_process_leaves_the_outcome_to_the_next_one() {
    let house = Fixture::new().await;
    house.store.fail([Failure::NoRoom; 1000]);
    assert_eq!(told(&house.pay("O-1").await.unwrap()), (202, "processing"));
    house.core.stopping.cancel();
    house.core.tasks.close();
    house.core.tasks.wait().await;
    house.store.recover();
    assert_eq!(house.only().status, "pending");

    let next = Fixture::over(house.store.clone(), &house.core.clock, |_| {}).await;
    next.payments.start().unwrap();
    pass(Duration::from_secs(10)).await;
    assert_eq!(next.only().status, "success");
    assert_eq!(next.stripe.charges.load(Ordering::SeqCst), 0, "asked about, not charged again");
    assert_eq!(next.stripe.resolves.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refund_whose_outcome_cannot_be_stored_is_pending_and_stored_later() {
    for failures in [vec![Failure::NoRoom; LONG], vec![Failure::StoredUnknown]] {
        let house = Fixture::new().await;
        house.payments.start().unwrap();
        house.pay("O-1").await.unwrap();
        let payment_no = house.only().payment_no;
        let was_stored = failures.len() == 1;
        house.store.fail(failures);
        let first = house.refund(&payment_no, "k-1").await.unwrap();
        assert_eq!(told(&first), (202, "pending"));
        assert_eq!(house.refund(&payment_no, "k-1").await.unwrap().answer, first.answer, "told again");
        pass(Duration::from_secs(60)).await;
        assert_eq!(house.only().refunded_amount, 100);
        let again = house.refund(&payment_no, "k-1").await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.answer == first.answer, !was_stored, "{again:?}");
        assert_eq!(house.stripe.refunds.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_whose_answer_cannot_be_stored_is_answered_all_the_same() {
    let house = Fixture::new().await;
    house.stripe.set(|script| {
        script.charge = ChargeState::ActionRequired { next_action: None, expires_at: None };
        script.resolve = ChargeState::Canceled;
    });
    house.pay("O-1").await.unwrap();
    let payment_no = house.only().payment_no;
    house.store.fail([Failure::NoRoom; 2 * LONG]);
    let first = house.cancel(&payment_no, "k-1").await.unwrap();
    assert_eq!(told(&first).1, "requires_action");
    assert_eq!(house.cancel(&payment_no, "k-1").await.unwrap().answer, first.answer, "told again");
    pass(Duration::from_secs(600)).await;
    assert_eq!(house.cancel(&payment_no, "k-1").await.unwrap().answer, first.answer);
}

#[tokio::test(start_paused = true)]
async fn a_refund_is_sent_by_one_at_a_time() {
    let house = Fixture::new().await;
    house.payments.start().unwrap();
    house.pay("O-1").await.unwrap();
    let payment_no = house.only().payment_no;
    house.stripe.set(|script| {
        script.refund = RefundState::Unknown { reason: String::new() };
        script.takes = Duration::from_secs(3);
    });
    house.refund(&payment_no, "k-1").await.unwrap();
    // The timer asks about the first one, and will be back before the second one has its answer.
    pass(Duration::from_millis(4_500)).await;
    let quicken = async {
        pass(Duration::from_millis(100)).await;
        house.stripe.set(|script| (script.refund, script.takes) = (RefundState::Success, Duration::ZERO));
    };
    let (second, ()) = tokio::join!(house.refund(&payment_no, "k-2"), quicken);
    second.unwrap();
    pass(Duration::from_secs(60)).await;
    assert_eq!(house.only().refunded_amount, 200);
    assert_eq!(house.stripe.refunds_doubled.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_answered_and_done_once_though_its_answer_cannot_be_stored() {
    let house = Fixture::new().await;
    let done = Arc::new(AtomicUsize::new(0));
    let ask = || {
        let done = Arc::clone(&done);
        let work = async move {
            let number = done.fetch_add(1, Ordering::SeqCst) + 1;
            Ok::<_, GatewayError>(StoredAnswer { status: 201, body: format!("secret {number}") })
        };
        let key = IdempotencyKey::new("POST", "/endpoints", "k-1", b"{}").unwrap();
        once(&house.core, &house.caller.merchant.merchant_id, Some(key), None, work)
    };
    house.store.fail([Failure::NoRoom; LONG]);
    let first = ask().await.unwrap();
    assert_eq!((first.answer.body.as_str(), first.replayed), ("secret 1", false));
    for _ in 0..2 {
        let again = ask().await.unwrap();
        assert_eq!((again.answer, again.replayed), (first.answer.clone(), true));
        pass(Duration::from_secs(60)).await;
        assert!(house.core.told.is_empty(), "stored by now");
    }
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn canceling_what_is_canceled_already_is_answered_the_same_again() {
    let house = Fixture::new().await;
    house.stripe.set(|script| {
        script.charge = ChargeState::ActionRequired { next_action: None, expires_at: None };
        script.resolve = ChargeState::Canceled;
    });
    house.pay("O-1").await.unwrap();
    let payment_no = house.only().payment_no;
    assert_eq!(told(&house.cancel(&payment_no, "first").await.unwrap()), (200, "canceled"));
    let second = house.cancel(&payment_no, "second").await.unwrap();
    assert!(!second.replayed);
    let again = house.cancel(&payment_no, "second").await.unwrap();
    assert_eq!((again.answer, again.replayed), (second.answer, true));
}
