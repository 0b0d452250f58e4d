//! Which refusals are followed by another channel, and what is noted about each.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::channels::{AMOUNT_NOT_SUPPORTED, ChargeState};
use crate::domain::language::Language;
use crate::domain::outcome::{DeclineScope, Failure, RetryAdvice};
use crate::gateway::payments::tests::fixture::{Fixture, pass, told};

/// Pays by way of stripe first, and whoever may be asked then.
async fn pay(house: &Fixture, order_no: &str) -> (u16, String) {
    let answered = house
        .pay_with(order_no, |command| (command.channel, command.country) = (None, Some(String::from("US"))))
        .await
        .unwrap();
    let (status, word) = told(&answered);
    (status, word.to_owned())
}

/// The attempts as their merchant sees them: channel, outcome, scope and advice of the failure, and the reason why
/// another channel was asked or not.
fn attempts(house: &Fixture) -> Vec<String> {
    let payment_no = house.only().payment_no;
    let view = house.payments.routing(&house.caller, &payment_no, Language::English).unwrap();
    let line = |attempt: &crate::gateway::view::AttemptView| {
        let failure = attempt.failure.as_ref();
        let scope = failure.map_or("-", |failure| failure.decline_scope.as_str());
        let advice = failure.and_then(|failure| failure.advice.as_deref()).unwrap_or("-");
        let failover = attempt.failover.as_ref().map_or("-", |failover| failover.reason.as_str());
        format!("{} {} {scope} {advice} {failover}", attempt.channel, attempt.outcome)
    };
    view.attempts.iter().map(line).collect()
}

fn asked(house: &Fixture) -> (usize, usize) {
    (house.stripe.charges.load(Ordering::SeqCst), house.alipay.charges.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_followed_by_another_channel_only_when_it_lies_with_the_channel() {
    use DeclineScope::{Bank, Customer, Network, Processor, Unknown};
    let cases = [
        (Processor, None, "stripe declined processor - asked"),
        (Network, None, "stripe declined network - asked"),
        (Processor, Some(RetryAdvice::Later), "stripe declined processor later asked"),
        (Bank, None, "stripe declined bank - refused_by_bank"),
        (Customer, None, "stripe declined customer - refused_by_customer"),
        (Unknown, None, "stripe declined unknown - refused_by_unknown"),
        (Processor, Some(RetryAdvice::Never), "stripe declined processor never advised_against"),
        (Network, Some(RetryAdvice::NotNow), "stripe declined network not_now advised_against"),
        (Processor, Some(RetryAdvice::Corrected), "stripe declined processor corrected advised_against"),
    ];
    for (scope, advice, first) in cases {
        let house = Fixture::new().await;
        let failure = Failure { advice, ..Failure::new("some_code", "", scope) };
        house.stripe.set(|script| script.charge = ChargeState::Declined(failure));
        let (status, word) = pay(&house, "O-1").await;
        let attempts = attempts(&house);
        assert_eq!(attempts[0], first);
        if first.ends_with(" asked") {
            assert_eq!((status, word.as_str(), asked(&house)), (201, "success", (1, 1)));
            assert_eq!(attempts[1..], ["alipay success - - -"]);
        } else {
            assert_eq!((status, word.as_str(), asked(&house)), (201, "failed", (1, 0)));
            assert_eq!(attempts.len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_or_open_outcome_is_never_followed_by_another_channel() {
    let unknown = ChargeState::Unknown { reason: String::from("no answer") };
    let action = ChargeState::ActionRequired { next_action: None, expires_at: None };
    for (state, word, line) in [
        (unknown, "processing", "stripe open - - outcome_unknown"),
        (ChargeState::Processing, "processing", "stripe open - - outcome_open"),
        (action, "requires_action", "stripe open - - outcome_open"),
    ] {
        let house = Fixture::new().await;
        house.stripe.set(|script| script.charge = state);
        assert_eq!(pay(&house, "O-1").await.1, word);
        assert_eq!((attempts(&house), asked(&house)), (vec![line.to_owned()], (1, 0)));
        // Also when it turns out later that the channel refused, through a fault of its own.
        let failure = Failure::new("processing_error", "", DeclineScope::Processor);
        house.stripe.set(|script| script.resolve = ChargeState::Declined(failure));
        house.payments.start().unwrap();
        pass(Duration::from_secs(24 * 3_600 + 700)).await;
        assert_eq!((house.only().status.as_str(), asked(&house)), ("failed", (1, 0)));
        let reason = line.rsplit(' ').next().unwrap();
        assert_eq!(attempts(&house), [format!("stripe declined processor - {reason}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_done_at_all_is_tried_elsewhere_until_nobody_is_left() {
    let house = Fixture::new().await;
    let amount = Failure::new(AMOUNT_NOT_SUPPORTED, "", DeclineScope::Processor);
    house.stripe.set(|script| script.charge = ChargeState::NotDone(amount));
    let refused = Failure::new("rate_limit", "", DeclineScope::Processor);
    house.alipay.set(|script| script.charge = ChargeState::NotDone(refused));
    assert_eq!(pay(&house, "O-1").await, (502, String::from("failed")));
    assert_eq!(attempts(&house), ["stripe not_done processor - asked", "alipay not_done processor - no_channel_left"]);
}

#[tokio::test(start_paused = true)]
async fn a_requested_channel_is_the_only_one() {
    let house = Fixture::new().await;
    let refused = Failure::new("rate_limit", "", DeclineScope::Processor);
    house.stripe.set(|script| script.charge = ChargeState::NotDone(refused));
    house.pay("O-1").await.unwrap();
    assert_eq!(attempts(&house), ["stripe not_done processor - channel_requested"]);
}
