//! Holds end: the merchant is told, and what is configured is done in time, also when the process was off meanwhile.

use std::time::Duration;

use super::fixture::{Asked, HELD, House, pass};
use crate::channels::{DeclineScope, Failure};
use crate::domain::pre_auth::OnExpiry;

const HOUR: Duration = Duration::from_secs(3_600);

/// A pre-auth that ends in `hours`.
async fn ending_in(hours: u32, on_expiry: OnExpiry) -> (House, String) {
    let house = House::with(|config| config.pre_auth.on_expiry = on_expiry).await;
    let expires_at = house.core.clock.now().plus(HOUR * hours);
    house.provider.set(|mood| mood.expires_at = Some(expires_at));
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    (house, no)
}

#[tokio::test(start_paused = true)]
async fn the_merchant_is_told_six_hours_before_and_it_is_released_one_hour_before() {
    let (house, no) = ending_in(24, OnExpiry::Release).await;
    pass(HOUR * 17 + HOUR / 2).await;
    assert_eq!(house.events(), ["pre_auth.authorized"]);
    pass(HOUR).await;
    assert_eq!(house.events(), ["pre_auth.authorized", "pre_auth.expiring"]);
    assert_eq!(house.view(&no).await.status, "requires_capture");
    pass(HOUR * 5).await;
    assert_eq!(house.view(&no).await.status, "expired");
    assert_eq!(house.view(&no).await.released_amount, HELD);
    assert_eq!(house.events().split_off(2), ["pre_auth.expired"]);
    assert_eq!(house.provider.count(|asked| *asked == Asked::Release { is_first: true }), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_captured_where_that_is_configured() {
    let (house, no) = ending_in(24, OnExpiry::Capture).await;
    pass(HOUR * 23 + HOUR / 2).await;
    let view = house.view(&no).await;
    assert_eq!((view.status.as_str(), view.captured_amount), ("captured", HELD));
    assert_eq!(house.provider.count(|asked| *asked == Asked::Capture { amount: HELD, is_first: true }), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_off_asks_what_became_of_it() {
    let (house, no) = ending_in(24, OnExpiry::Release).await;
    let house = house
        .off_for(HOUR * 48, |provider| {
            provider.expire();
        })
        .await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(house.view(&no).await.status, "expired");
    assert_eq!(house.view(&no).await.captured_amount, 0);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_away_for_a_moment_costs_nobody_the_money() {
    let (house, no) = ending_in(24, OnExpiry::Capture).await;
    let unreachable = Failure::new("channel_unreachable", "", DeclineScope::Processor);
    house.provider.set(|mood| mood.refuses = Some(unreachable));
    pass(HOUR * 23 + Duration::from_secs(5)).await;
    assert_eq!(house.view(&no).await.status, "requires_capture");
    house.provider.set(|mood| mood.refuses = None);
    pass(Duration::from_secs(60)).await;
    let view = house.view(&no).await;
    assert_eq!((view.status.as_str(), view.captured_amount), ("captured", HELD));
    let is_first = |asked: &Asked| *asked == Asked::Capture { amount: HELD, is_first: true };
    assert_eq!(house.provider.count(is_first), 2, "refused once, done once");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_off_releases_what_is_held_on() {
    let (house, no) = ending_in(24, OnExpiry::Release).await;
    let house = house.off_for(HOUR * 48, |_| {}).await;
    pass(Duration::from_secs(3_600)).await;
    let view = house.view(&no).await;
    assert_eq!((view.status.as_str(), view.released_amount), ("expired", HELD));
    assert_eq!(house.provider.count(|asked| *asked == Asked::Release { is_first: true }), 1);
}
