//! What is counted and measured of pre-auths.

use std::time::Duration;

use super::fixture::{House, pass, state_of};
use crate::actors::pre_auth::{PreAuthId, PreAuthMessage};
use crate::domain::ids::PreAuthNo;

fn figure(house: &House, name: &str) -> String {
    let text = house.core.figures.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::trim).map(str::to_owned));
    line.unwrap_or_else(|| panic!("{name} is missing in\n{text}"))
}

#[tokio::test(start_paused = true)]
async fn what_the_channel_takes_is_not_the_gateway_s_own_time() {
    let house = House::new().await;
    assert_eq!(figure(&house, "tollgate_pre_auth_own_seconds_count"), "0", "there from the first reading on");
    house.provider.set(|mood| mood.takes = Duration::from_secs(2));
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    house.capture(&no, None, "k-1").await.unwrap();
    let seconds: f64 = figure(&house, "tollgate_pre_auth_own_seconds_sum").parse().unwrap();
    assert!(seconds < 0.5, "{seconds}");
    assert_eq!(figure(&house, "tollgate_pre_auth_own_seconds_count"), "2");
    // What never got to its channel is not counted, and neither is a repetition.
    assert_eq!(state_of(house.capture(&no, None, "k-2").await), "captured");
    house.capture(&no, None, "k-1").await.unwrap();
    assert_eq!(figure(&house, "tollgate_pre_auth_own_seconds_count"), "2");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_to_a_person_is_counted() {
    let house = House::new().await;
    let needs_review = |object: &str| format!("tollgate_needs_review_total{{object=\"{object}\"}}");
    for object in ["payment", "pre_auth", "refund"] {
        assert_eq!(figure(&house, &needs_review(object)), "0");
    }
    house.hold("O-1").await.unwrap();
    house.hold("O-2").await.unwrap();
    let [second, first] = house.all().try_into().unwrap();
    house.capture(&first.pre_auth_no, None, "k-1").await.unwrap();
    house.provider.set(|mood| mood.is_away = true);
    house.capture(&second.pre_auth_no, None, "k-2").await.unwrap();
    house.refund(&first.pre_auth_no, None, "k-3").await.unwrap();
    pass(Duration::from_secs(74 * 3_600)).await;
    assert_eq!(house.view(&second.pre_auth_no).await.status, "needs_review");
    assert_eq!(figure(&house, &needs_review("pre_auth")), "1");
    assert_eq!(figure(&house, &needs_review("refund")), "1");
    assert_eq!(figure(&house, &needs_review("payment")), "0");
}

#[tokio::test(start_paused = true)]
async fn money_that_comes_after_the_end_is_counted() {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    house.provider.take(500);
    assert_eq!(house.pre_auths.get(&house.caller, &no, true).await.unwrap().captured_amount, 500);
    assert_eq!(figure(&house, "tollgate_strays_total{kind=\"over\"}"), "0");
    house.provider.take_more(800);
    let id =
        PreAuthId { merchant_id: house.caller.merchant.merchant_id.clone(), pre_auth_no: PreAuthNo::new(no.as_str()) };
    house.pre_auths.0.directory.send(&id, PreAuthMessage::Hint).unwrap();
    pass(Duration::from_secs(1)).await;
    assert_eq!(figure(&house, "tollgate_strays_total{kind=\"over\"}"), "1");
}
