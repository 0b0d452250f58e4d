//! What is held is released, and what is not held yet is closed.

use std::time::Duration;

use super::fixture::{Asked, HELD, House, pass, state_of, told};
use crate::channels::{DeclineScope, Failure};
use crate::domain::ids::PreAuthNo;

#[tokio::test(start_paused = true)]
async fn what_is_held_is_released_once() {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    let canceled = house.cancel(&no, "k-1").await.unwrap();
    assert_eq!(told(&canceled), (200, "canceled"));
    assert_eq!(house.cancel(&no, "k-1").await.unwrap().answer, canceled.answer);
    assert_eq!(told(&house.cancel(&no, "k-2").await.unwrap()), (200, "canceled"), "the present state");
    let again = house.cancel(&no, "k-2").await.unwrap();
    assert!(again.replayed, "which is kept, too");
    assert_eq!(state_of(house.capture(&no, None, "k-3").await), "canceled");
    let view = house.view(&no).await;
    assert_eq!((view.released_amount, view.captured_amount), (HELD, 0));
    assert_eq!(house.provider.count(|asked| matches!(asked, Asked::Release { .. })), 1);
    assert_eq!(house.events(), ["pre_auth.authorized", "pre_auth.canceled"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_payer_is_closed_at_the_provider() {
    let house = House::new().await;
    house.provider.set(|mood| mood.waits = true);
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    assert_eq!(told(&house.cancel(&no, "k-1").await.unwrap()), (200, "canceled"));
    house.provider.approve();
    pass(Duration::from_secs(3_600)).await;
    assert_eq!(house.view(&no).await.status, "canceled");
    assert_eq!(house.provider.count(|asked| matches!(asked, Asked::Release { .. })), 0);
    assert_eq!(house.events(), ["pre_auth.canceled"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_about_what_is_over_is_told_that_it_is() {
    let house = House::new().await;
    house.provider.set(|mood| mood.waits = true);
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    let number = PreAuthNo::new(no.clone());
    let open = house.provider.count(|asked| *asked == Asked::Ask { close: false, is_over: false });
    house.pre_auths.follow_hint(&house.caller.merchant.merchant_id, &number).await.unwrap();
    assert_eq!(house.provider.count(|asked| *asked == Asked::Ask { close: false, is_over: false }), open + 1);
    house.cancel(&no, "k-1").await.unwrap();
    let over = house.provider.count(|asked| matches!(asked, Asked::Ask { is_over: true, .. }));
    assert_eq!(over, 0);
    house.pre_auths.follow_hint(&house.caller.merchant.merchant_id, &number).await.unwrap();
    assert_eq!(house.provider.count(|asked| matches!(asked, Asked::Ask { is_over: true, .. })), 1);
}

#[tokio::test(start_paused = true)]
async fn until_it_is_closed_the_answer_says_so() {
    let house = House::new().await;
    house.provider.set(|mood| mood.waits = true);
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    house.provider.set(|mood| mood.is_away = true);
    assert_eq!(house.cancel(&no, "k-1").await.unwrap().answer.status, 202);
    assert!(house.view(&no).await.reconciling);
    house.provider.set(|mood| mood.is_away = false);
    pass(Duration::from_secs(60)).await;
    assert_eq!(house.view(&no).await.status, "canceled");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_refused_leaves_it_held() {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    house.provider.set(|mood| mood.refuses = Some(Failure::new("not_now", "", DeclineScope::Processor)));
    assert_eq!(told(&house.cancel(&no, "k-1").await.unwrap()), (502, "not_done"));
    house.provider.set(|mood| mood.refuses = None);
    assert_eq!(told(&house.capture(&no, None, "k-2").await.unwrap()), (200, "captured"));
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_answer_is_lost_is_asked_about() {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    house.provider.set(|mood| mood.is_mute = true);
    assert_eq!(told(&house.cancel(&no, "k-1").await.unwrap()), (202, "processing"));
    assert_eq!(told(&house.cancel(&no, "k-2").await.unwrap()), (202, "processing"), "it is on its way");
    house.provider.set(|mood| mood.is_mute = false);
    pass(Duration::from_secs(60)).await;
    assert_eq!(house.view(&no).await.status, "canceled");
}
