//! The timer: which channel is asked when, what an earlier process left, and that it ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fixture::{Fixture, START, UnsteadyStore, pass, told};
use crate::channels::{ChargeState, DeclineScope, Failure as Refusal, NextAction, RefundState};
use crate::clock::Clock;
use crate::gateway::error::GatewayError;

fn unknown() -> ChargeState {
    ChargeState::Unknown { reason: String::from("timeout") }
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_does_not_answer_keeps_nobody_from_asking_another() {
    let clock = Clock::virtual_from(START);
    let change = |config: &mut crate::config::Config| {
        config.payments.resolve_in_flight_max = 4;
        (config.routing.breaker_consecutive_failures, config.routing.breaker_min_outcomes) = (1_000, 200);
    };
    let house = Fixture::over(std::sync::Arc::<UnsteadyStore>::default(), &clock, change).await;
    for channel in [&house.stripe, &house.alipay] {
        channel.set(|script| script.charge = unknown());
    }
    for index in 0..20 {
        house.pay(&format!("S-{index}")).await.unwrap();
    }
    house.pay_with("A-1", |command| command.channel = Some(String::from("alipay"))).await.unwrap();
    house.stripe.set(|script| script.takes = Duration::from_secs(3_600));
    house.payments.start().unwrap();
    pass(Duration::from_secs(5)).await;
    let paid = house.all().into_iter().find(|payment| payment.order_no == "A-1").unwrap();
    assert_eq!(paid.status, "success");
    assert_eq!(house.stripe.most_in_flight.load(Ordering::SeqCst), 4);

    house.core.stopping.cancel();
    house.core.tasks.close();
    pass(Duration::from_secs(3_700)).await;
    tokio::time::timeout(Duration::from_secs(1), house.core.tasks.wait()).await.unwrap();
    assert_eq!(house.stripe.resolves.load(Ordering::SeqCst), 4, "nothing was begun after the stop");
}

#[tokio::test(start_paused = true)]
async fn what_a_question_sends_has_to_settle_too() {
    let clock = Clock::virtual_from(START);
    let house = Fixture::over(std::sync::Arc::<UnsteadyStore>::default(), &clock, |_| {}).await;
    house.stripe.set(|script| (script.charge, script.resolve) = (unknown(), ChargeState::Processing));
    house.pay("O-1").await.unwrap();
    house.payments.start().unwrap();
    let settled = || house.stripe.settled.lock().last().copied();
    pass(Duration::from_secs(400)).await;
    assert_eq!(settled(), Some(true));
    house.stripe.set(|script| script.asking_sends_money = true);
    pass(Duration::from_secs(30)).await;
    assert_eq!(settled(), Some(false), "it may be on its way");
    house.stripe.set(|script| script.asking_sends_money = false);
    pass(Duration::from_secs(500)).await;
    assert_eq!(settled(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_told_the_same_address_with_each_request() {
    let clock = Clock::virtual_from(START);
    let reached = |config: &mut crate::config::Config| {
        config.callbacks.public_url = Some(String::from("https://pay.example.com/"));
    };
    let house = Fixture::over(std::sync::Arc::<UnsteadyStore>::default(), &clock, reached).await;
    house.stripe.set(|script| script.charge = unknown());
    house.pay("O-1").await.unwrap();
    house.payments.start().unwrap();
    pass(Duration::from_secs(5)).await;
    let address = Some(String::from("https://pay.example.com/callbacks/stripe"));
    assert_eq!(*house.stripe.notify_urls.lock(), [address.clone(), address]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_no_key_younger() {
    let hour = Duration::from_secs(3_600);
    let clock = Clock::virtual_from(START);
    let house = Fixture::over(std::sync::Arc::<UnsteadyStore>::default(), &clock, |_| {}).await;
    house.core.clock_guard.is_believed(&clock);
    house
        .stripe
        .set(|script| (script.charge, script.refund) = (unknown(), RefundState::Unknown { reason: String::new() }));
    let (status, _) = told(&house.pay("O-1").await.unwrap());
    assert_eq!(status, 202);
    clock.set_back(30 * hour);
    house.payments.start().unwrap();
    // The timer follows the time of day: when that has come up to the payment's again, 30 hours have gone by.
    pass(31 * hour).await;
    assert_eq!(house.only().status, "success");
    let age = house.stripe.key_ages.lock().pop().unwrap();
    assert!(age.is_some_and(|age| age >= 30 * hour), "{age:?}");

    // As for refunds.
    let payment_no = house.only().payment_no;
    house.refund(&payment_no, "r-1").await.unwrap();
    assert!(house.stripe.key_ages.lock().pop().unwrap().is_some_and(|age| age < hour), "this one is sent now");
    clock.set_back(30 * hour);
    pass(31 * hour).await;
    let age = house.stripe.key_ages.lock().pop().unwrap();
    assert!(age.is_some_and(|age| age >= 30 * hour), "{age:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_settles_nothing() {
    let clock = Clock::virtual_from(START);
    let house = Fixture::over(std::sync::Arc::<UnsteadyStore>::default(), &clock, |_| {}).await;
    house.core.clock_guard.is_believed(&clock);
    house.stripe.set(|script| (script.charge, script.resolve) = (unknown(), unknown()));
    house.payments.start().unwrap();
    house.pay("O-1").await.unwrap();
    clock.set_forward(Duration::from_secs(23 * 3_600));
    pass(Duration::from_secs(60)).await;
    let settled = std::mem::take(&mut *house.stripe.settled.lock());
    assert!(!settled.is_empty() && !settled.contains(&true), "a minute after it was sent: {settled:?}");
    pass(Duration::from_secs(30 * 60)).await;
    assert_eq!(house.stripe.settled.lock().last(), Some(&true), "half an hour after it was sent");
}

#[tokio::test(start_paused = true)]
async fn everything_that_an_earlier_process_left_is_taken_over() {
    let house = Fixture::new().await;
    house.stripe.set(|script| script.takes = Duration::from_secs(3_600));
    let mut waiting = tokio::task::JoinSet::new();
    let house = std::sync::Arc::new(house);
    for index in 0..250 {
        let house = std::sync::Arc::clone(&house);
        waiting.spawn(async move { drop(house.pay(&format!("O-{index}")).await) });
    }
    pass(Duration::from_secs(1)).await;
    waiting.abort_all();

    let next = Fixture::over(house.store.clone(), &house.core.clock, |_| {}).await;
    next.payments.start().unwrap();
    pass(Duration::from_secs(30)).await;
    let (mut cursor, mut success) = (None, 0);
    loop {
        let page = next.page(cursor);
        success += page.items.iter().filter(|payment| payment.status == "success").count();
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(success, 250);
    assert_eq!(next.stripe.charges.load(Ordering::SeqCst), 0);
    assert_eq!(next.stripe.resolves.load(Ordering::SeqCst), 250);
}

/// Its process ended before it was answered. It stays `processing`, from which there is no way back to `requires_action`,
/// with the page to visit; nothing is unknown about it.
#[tokio::test(start_paused = true)]
async fn what_is_taken_over_and_waits_for_its_payer_is_asked_about_until_the_payer_acts_or_it_expires() {
    for acts in [true, false] {
        let house = std::sync::Arc::new(Fixture::new().await);
        house.stripe.set(|script| script.takes = Duration::from_secs(1_000_000));
        let waiting = tokio::spawn({
            let house = std::sync::Arc::clone(&house);
            async move { drop(house.pay("O-1").await) }
        });
        pass(Duration::from_secs(1)).await;
        waiting.abort();

        let next = Fixture::over(house.store.clone(), &house.core.clock, |_| {}).await;
        let page = NextAction::Redirect { url: "https://pay.example/1".to_owned() };
        let waits = ChargeState::ActionRequired { next_action: Some(page), expires_at: None };
        next.stripe.set(|script| script.resolve = waits);
        next.payments.start().unwrap();
        pass(Duration::from_secs(80)).await;
        let payment = next.only();
        assert_eq!((payment.status.as_str(), payment.reconciling), ("processing", false));
        assert!(payment.next_action.is_some());
        let asked = next.stripe.resolves.load(Ordering::SeqCst);
        assert!(asked > 5, "it is not forgotten: {asked}");
        if acts {
            next.stripe.set(|script| script.resolve = ChargeState::Success { fee_minor: None });
            pass(Duration::from_secs(11)).await;
            assert_eq!(next.only().status, "success");
        } else {
            pass(Duration::from_secs(23 * 3_600)).await;
            assert_eq!((next.only().status.as_str(), next.stripe.closing.load(Ordering::SeqCst)), ("processing", 0));
            next.stripe.set(|script| script.resolve = ChargeState::Canceled);
            pass(Duration::from_secs(3_600 + 601)).await;
            assert_eq!(next.only().status, "canceled");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_shown_to_its_own_provider_alone() {
    let house = Fixture::new().await;
    house.stripe.set(|script| {
        script.tokens = "tok_";
        script.charge = ChargeState::NotDone(Refusal::new("rate_limit", "", DeclineScope::Processor));
    });
    house.alipay.set(|script| script.tokens = "28");
    let pay = |order_no: &'static str, token: &str| {
        let token = token.to_owned();
        house.pay_with(order_no, |command| {
            (command.channel, command.payment_token, command.country) = (None, Some(token), Some(String::from("US")));
        })
    };
    // Stripe refuses for its own reasons, and Alipay would be next.
    let refused = pay("O-1", "tok_1").await.unwrap();
    assert_eq!(told(&refused), (502, "failed"));
    assert_eq!(house.alipay.charges.load(Ordering::SeqCst), 0);
    assert_eq!(told(&pay("O-2", "28-from-the-app").await.unwrap()), (201, "success"));
    assert_eq!(house.stripe.charges.load(Ordering::SeqCst), 1);
    // The token's own channel may not be available; another channel is no way out.
    house.stripe.set(|script| script.charge = unknown());
    for index in 0..50 {
        if house.pay(&format!("B-{index}")).await.is_err() {
            break;
        }
    }
    let named = house.pay_with("O-3", |command| command.payment_token = Some(String::from("tok_2"))).await;
    assert!(matches!(named, Err(GatewayError::NoChannelAvailable { .. })));
    // Where none is named it is the last one, and takes what nobody else could.
    let charges = house.stripe.charges.load(Ordering::SeqCst);
    assert_eq!(told(&pay("O-4", "tok_2").await.unwrap()), (202, "processing"));
    assert_eq!(house.stripe.charges.load(Ordering::SeqCst), charges + 1);
    assert_eq!(house.alipay.charges.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_no_channel_in_question_knows_is_the_request_s_mistake() {
    let house = Fixture::new().await;
    house.stripe.set(|script| script.tokens = "tok_");
    house.alipay.set(|script| script.tokens = "28");
    for (channel, token) in [(None, "abc"), (Some("alipay"), "tok_1"), (Some("stripe"), "28-from-the-app")] {
        let refused = house
            .pay_with("O-1", |command| {
                (command.channel, command.payment_token) = (channel.map(String::from), Some(token.to_owned()));
            })
            .await;
        let Err(GatewayError::InvalidRequest(fields)) = refused else { panic!("{channel:?} {token}: {refused:?}") };
        assert_eq!(fields[0].field, "payment_token");
    }
    assert!(house.all().is_empty(), "nothing was stored");
    let paid = house.pay_with("O-1", |command| command.payment_token = Some(String::from("tok_1"))).await.unwrap();
    assert_eq!(told(&paid), (201, "success"), "order number and key are free");
}

#[tokio::test(start_paused = true)]
async fn the_timer_looks_no_more_often_the_more_often_it_is_woken() {
    let clock = Clock::virtual_from(START);
    let change = |config: &mut crate::config::Config| {
        config.payments.resolve_in_flight_max = 1;
        (config.routing.breaker_consecutive_failures, config.routing.breaker_min_outcomes) = (1_000, 200);
    };
    let house = Fixture::over(std::sync::Arc::<UnsteadyStore>::default(), &clock, change).await;
    house.stripe.set(|script| script.charge = unknown());
    for index in 0..5 {
        house.pay(&format!("S-{index}")).await.unwrap();
    }
    house.stripe.set(|script| script.takes = Duration::from_secs(3_600));
    house.payments.start().unwrap();
    pass(Duration::from_secs(5)).await;
    let looked = house.store.due_scans.load(Ordering::SeqCst);
    for _ in 0..1_000 {
        house.payments.0.due.notify_one();
        pass(Duration::from_millis(1)).await;
    }
    let looks = house.store.due_scans.load(Ordering::SeqCst) - looked;
    assert!((5..=11).contains(&looks), "{looks} in a second");
}
