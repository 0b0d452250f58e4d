//! What payments teach about channels: each attempt once, when its end is stored, however it became known.

use std::time::Duration;

use super::fixture::{Failure, Fixture, pass, told};
use crate::actors::router::ChannelStatus;
use crate::channels::{ChargeState, DeclineScope, Failure as Refusal};

fn status(house: &Fixture, name: &str) -> ChannelStatus {
    let all = house.payments.0.router.channels();
    all.into_iter().find(|status| status.name.as_str() == name).unwrap()
}

fn unknown() -> ChargeState {
    ChargeState::Unknown { reason: String::from("no answer") }
}

#[tokio::test(start_paused = true)]
async fn a_late_outcome_teaches_and_only_once() {
    for first in [ChargeState::Processing, unknown()] {
        let house = Fixture::new().await;
        house.payments.start().unwrap();
        house.stripe.set(|script| (script.charge, script.resolve) = (first.clone(), ChargeState::Processing));
        assert_eq!(told(&house.pay("O-1").await.unwrap()), (202, "processing"));
        pass(Duration::from_secs(5)).await;
        assert_eq!(status(&house, "stripe").samples, 0, "{first:?} says nothing about approvals");
        house.stripe.set(|script| script.resolve = ChargeState::Success { fee_minor: None });
        pass(Duration::from_secs(30)).await;
        assert_eq!(house.only().status, "success");
        let learned = status(&house, "stripe");
        assert_eq!(learned.samples, 1);
        assert!(learned.success_ppm > house.core.config.routing.prior_success_percent * 10_000, "an approval");
        let table = house.payments.0.router.table();
        let place = table.setup.place_of(&learned.name).unwrap();
        assert_eq!(table.learned[place].segments(), 2, "of its method and currency, too");
        // Repetitions of the request and of the question.
        house.pay("O-1").await.unwrap();
        pass(Duration::from_secs(100)).await;
        assert_eq!(status(&house, "stripe").samples, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_teaches_about_its_own_channel_also_when_storing_takes_several_tries() {
    let house = Fixture::new().await;
    house.stripe.set(|script| {
        script.charge = ChargeState::Declined(Refusal::new("x", "", DeclineScope::Processor));
    });
    house.store.fail([Failure::NoRoom; 3]);
    let by_country = |command: &mut crate::gateway::command::CreatePayment| {
        (command.channel, command.country) = (None, Some(String::from("US")));
    };
    assert_eq!(told(&house.pay_with("O-1", by_country).await.unwrap()), (201, "success"));
    pass(Duration::from_secs(1)).await;
    let (stripe, alipay) = (status(&house, "stripe"), status(&house, "alipay"));
    assert_eq!((stripe.samples, alipay.samples), (1, 1));
    assert!(stripe.success_ppm < alipay.success_ppm);
}

#[tokio::test(start_paused = true)]
async fn what_the_payer_or_the_bank_did_teaches_nothing_and_every_rung_teaches() {
    for scope in [DeclineScope::Bank, DeclineScope::Customer] {
        let house = Fixture::new().await;
        house.stripe.set(|script| script.charge = ChargeState::Declined(Refusal::new("x", "", scope)));
        house.pay("O-1").await.unwrap();
        pass(Duration::from_secs(1)).await;
        assert_eq!(status(&house, "stripe").samples, 0, "{scope:?}");
    }
    for smart in [true, false] {
        let house = Fixture::over(
            std::sync::Arc::default(),
            &crate::clock::Clock::virtual_from(super::fixture::START),
            |config| config.routing.smart = smart,
        )
        .await;
        house.pay("O-1").await.unwrap();
        house.pay_with("O-2", |command| command.channel = None).await.unwrap();
        pass(Duration::from_secs(1)).await;
        let samples: u32 = ["stripe", "alipay"].iter().map(|name| status(&house, name).samples).sum();
        assert_eq!(samples, 2, "asked for, and by strategies or by default");
    }
}
