//! What was captured may go back, once, and no more than that.

use std::time::Duration;

use super::fixture::{Asked, HELD, House, pass, state_of, stranger, told};
use crate::channels::{DeclineScope, Failure};
use crate::domain::ids::PreAuthNo;
use crate::gateway::error::GatewayError;

async fn captured(amount: i64) -> (House, String) {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    house.capture(&no, Some(amount), "capture").await.unwrap();
    (house, no)
}

#[tokio::test(start_paused = true)]
async fn no_more_goes_back_than_was_captured() {
    let (house, no) = captured(3_000).await;
    let first = house.refund(&no, Some(1_000), "k-1").await.unwrap();
    assert_eq!(told(&first), (201, "success"));
    assert_eq!(house.refund(&no, Some(1_000), "k-1").await.unwrap().answer, first.answer);
    assert_eq!(house.provider.asked.lock().last(), Some(&Asked::Refund { amount: 1_000, charged: 3_000 }));
    let more = house.refund(&no, Some(2_001), "k-2").await;
    assert!(matches!(more, Err(GatewayError::AmountTooLarge { max_minor: 2_000 })), "{more:?}");
    assert_eq!(told(&house.refund(&no, None, "k-3").await.unwrap()), (201, "success"), "all that is left");
    let view = house.view(&no).await;
    assert_eq!((view.refunded_amount, view.refundable_amount), (3_000, 0));
    let listed = house.pre_auths.refunds(&house.caller, &no).unwrap().items;
    assert_eq!(listed.iter().map(|refund| refund.amount).collect::<Vec<_>>(), [2_000, 1_000]);
    let read = house.refunds.get(&house.caller, &listed[1].refund_no).unwrap();
    assert_eq!((&read, read.payment_no.as_ref(), read.pre_auth_no.as_ref()), (&listed[1], None, Some(&no)));
    assert!(matches!(house.refunds.get(&stranger(), &read.refund_no), Err(GatewayError::NotFound(_))));
    let tail = house.events().split_off(2);
    assert_eq!(tail, ["refund.success", "refund.success"]);
}

#[tokio::test(start_paused = true)]
async fn only_what_was_captured_is_refunded() {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    assert_eq!(state_of(house.refund(&no, None, "k-1").await), "requires_capture");
    let zero = house.refund(&no, Some(0), "k-1").await;
    assert!(matches!(zero, Err(GatewayError::InvalidRequest(_))), "{zero:?}");
    assert_eq!(house.provider.count(|asked| matches!(asked, Asked::Refund { .. })), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_is_not_known_keeps_its_amount_until_it_is() {
    let (house, no) = captured(3_000).await;
    house.provider.set(|mood| mood.is_mute = true);
    assert_eq!(told(&house.refund(&no, Some(2_000), "k-1").await.unwrap()), (202, "pending"));
    assert_eq!(house.view(&no).await.refundable_amount, 1_000);
    let failure = Failure::new("refused", "", DeclineScope::Processor);
    house.provider.set(|mood| (mood.is_mute, mood.refuses) = (false, Some(failure)));
    pass(Duration::from_secs(60)).await;
    let view = house.view(&no).await;
    assert_eq!((view.refundable_amount, view.refunded_amount), (3_000, 0), "it is given back");
    assert_eq!(house.events().last().map(String::as_str), Some("refund.failed"));
    assert_eq!(told(&house.refund(&no, Some(3_000), "k-2").await.unwrap()), (502, "failed"));
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_after_the_end_goes_back_and_the_operator_sees_it() {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    house.cancel(&no, "k-1").await.unwrap();
    assert!(house.pre_auths.find(&no).unwrap().strays.is_empty());
    house.provider.take_by_hand();
    for _ in 0..2 {
        let merchant_id = &house.caller.merchant.merchant_id;
        house.pre_auths.follow_hint(merchant_id, &PreAuthNo::new(no.as_str())).await.unwrap();
        pass(Duration::from_secs(60)).await;
    }
    let found = house.pre_auths.find(&no).unwrap();
    let [stray] = found.strays.as_slice() else { panic!("{:?}", found.strays) };
    assert_eq!((stray.kind.as_str(), stray.amount, stray.action.as_str()), ("late", Some(HELD), "refunding"));
    assert_eq!((found.pre_auth.status.as_str(), found.pre_auth.captured_amount), ("canceled", 0));
    let refunds = house.pre_auths.refunds(&house.caller, &no).unwrap().items;
    assert_eq!(stray.refund_no.as_ref(), Some(&refunds[0].refund_no));
    assert_eq!((refunds.len(), refunds[0].status.as_str()), (1, "success"));
    assert_eq!(house.provider.count(|asked| *asked == Asked::Refund { amount: HELD, charged: HELD }), 1);
}
