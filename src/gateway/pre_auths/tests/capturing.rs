//! What is held is taken once, and never more than is held.

use std::time::Duration;

use super::fixture::{Asked, HELD, House, pass, state_of, stranger, told};
use crate::channels::{DeclineScope, Failure};
use crate::gateway::command::CapturePreAuth;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::tests::fixture::Failure as StoreFailure;
use crate::storage::{Scan, keys};

async fn held() -> (House, String) {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    (house, no)
}

#[tokio::test(start_paused = true)]
async fn a_part_is_taken_and_the_rest_is_released() {
    let (house, no) = held().await;
    let captured = house.capture(&no, Some(2_500), "k-1").await.unwrap();
    assert_eq!(told(&captured), (200, "captured"));
    let view = house.view(&no).await;
    assert_eq!((view.captured_amount, view.released_amount, view.refundable_amount), (2_500, HELD - 2_500, 2_500));
    assert_eq!(house.provider.asked.lock().last(), Some(&Asked::Capture { amount: 2_500, is_first: true }));
    assert_eq!(house.capture(&no, Some(2_500), "k-1").await.unwrap().answer, captured.answer);
    assert_eq!(state_of(house.capture(&no, Some(2_500), "k-2").await), "captured");
    assert_eq!(state_of(house.cancel(&no, "k-3").await), "captured");
    assert_eq!(house.provider.captures(), 1);
    assert_eq!(house.events(), ["pre_auth.authorized", "pre_auth.captured"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_and_given_back_on_later_days_is_entered_by_those_days() {
    let (house, no) = held().await;
    let merchant_id = &house.caller.merchant.merchant_id;
    let entered = |prefix: &str| {
        let first = keys::late_money_from(merchant_id, prefix, "");
        let entries = house.core.store.scan(&Scan::prefix(&first, 10)).unwrap();
        entries.iter().map(|entry| keys::parse_late_money(&entry.key).unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let day = Duration::from_secs(86_400);
    pass(day).await;
    assert_eq!(entered("PA"), [""; 0], "no money has moved");
    house.capture(&no, Some(2_500), "k-1").await.unwrap();
    assert_eq!(entered("PA"), [no.as_str()]);
    // On the day on which it is asked for: its number has that day.
    house.refund(&no, Some(100), "k-2").await.unwrap();
    assert_eq!(entered("RF"), [""; 0]);
    house.provider.set(|mood| mood.is_away = true);
    house.refund(&no, Some(200), "k-3").await.unwrap();
    pass(day).await;
    house.provider.set(|mood| mood.is_away = false);
    pass(day / 24).await;
    let refunds = house.row(&no).refunds;
    assert_eq!(entered("RF"), [refunds[1].refund_no.as_str()]);
    assert_eq!(entered("PA"), [no.as_str()], "the capture has moved once");
}

#[tokio::test(start_paused = true)]
async fn a_fee_that_is_said_later_is_known_to_who_asks_again() {
    let (house, no) = held().await;
    house.capture(&no, Some(2_500), "k-1").await.unwrap();
    house.provider.set(|mood| mood.fee_minor = Some(103));
    let of = async |refresh| house.pre_auths.get(&house.caller, &no, refresh).await.unwrap().fee.map(|fee| fee.amount);
    assert_eq!(of(false).await, None);
    assert_eq!(of(true).await, Some(103));
    assert_eq!(of(false).await, Some(103));
    let asked = house.provider.asked.lock().len();
    assert_eq!(of(true).await, Some(103));
    assert_eq!(house.provider.asked.lock().len(), asked, "nothing is left to ask for");
}

#[tokio::test(start_paused = true)]
async fn without_an_amount_all_is_taken() {
    let (house, no) = held().await;
    assert_eq!(told(&house.capture(&no, None, "k-1").await.unwrap()), (200, "captured"));
    let view = house.view(&no).await;
    assert_eq!((view.captured_amount, view.released_amount), (HELD, 0));
}

#[tokio::test(start_paused = true)]
async fn amounts_are_checked_after_the_state_and_change_nothing() {
    let (house, no) = held().await;
    for amount in [0, -1] {
        let refused = house.capture(&no, Some(amount), "k-1").await;
        assert!(matches!(refused, Err(GatewayError::InvalidRequest(_))), "{amount}: {refused:?}");
    }
    let more = house.capture(&no, Some(HELD + 1), "k-1").await;
    assert!(matches!(more, Err(GatewayError::AmountTooLarge { max_minor: HELD })), "{more:?}");
    for unknown in ["PA20250124104000abcdefgh", "nothing"] {
        let refused = house.capture(unknown, None, "k-1").await;
        assert!(matches!(refused, Err(GatewayError::NotFound(_))), "{unknown}: {refused:?}");
    }
    let stranger = stranger();
    let other = house.pre_auths.capture(&stranger, super::fixture::origin("k-1"), &no, CapturePreAuth::default());
    assert!(matches!(other.await, Err(GatewayError::NotFound(_))), "another merchant's");
    assert_eq!((house.provider.captures(), house.view(&no).await.status.as_str()), (0, "requires_capture"));
    house.cancel(&no, "k-2").await.unwrap();
    assert_eq!(state_of(house.capture(&no, Some(HELD + 1), "k-3").await), "canceled", "the state first");
}

#[tokio::test(start_paused = true)]
async fn of_two_at_once_one_is_refused_with_the_state() {
    let (house, no) = held().await;
    house.provider.set(|mood| mood.takes = Duration::from_secs(5));
    let capture = |amount, key: &'static str| house.capture(&no, Some(amount), key);
    let (one, other) = tokio::join!(capture(1_000, "k-1"), capture(2_000, "k-2"));
    let (taken, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(told(&taken.unwrap()), (200, "captured"));
    assert_eq!(state_of(refused), "processing");
    assert_eq!(house.provider.captures(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_a_capture_and_a_cancellation_one_is_refused_with_the_state() {
    let (house, no) = held().await;
    house.provider.set(|mood| mood.takes = Duration::from_secs(5));
    let (captured, canceled) = tokio::join!(house.capture(&no, None, "k-1"), house.cancel(&no, "k-2"));
    let refused = if captured.is_ok() { canceled } else { captured };
    assert_eq!(state_of(refused), "processing");
    assert_eq!(house.provider.asked.lock().len(), 2, "the hold and one of the two");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_stays_held_and_may_be_tried_again() {
    let (house, no) = held().await;
    let failure = Failure::new("try_again_later", "", DeclineScope::Processor);
    house.provider.set(|mood| mood.refuses = Some(failure));
    assert_eq!(told(&house.capture(&no, Some(500), "k-1").await.unwrap()), (502, "not_done"));
    let view = house.view(&no).await;
    assert_eq!((view.status.as_str(), view.captured_amount), ("requires_capture", 0));
    assert_eq!((view.operations[1].kind.as_str(), view.operations[1].status.as_str()), ("capture", "refused"));
    house.provider.set(|mood| mood.refuses = None);
    assert_eq!(told(&house.capture(&no, Some(500), "k-1").await.unwrap()), (502, "not_done"), "told again");
    assert_eq!(told(&house.capture(&no, Some(500), "k-2").await.unwrap()), (200, "captured"));
    let keys: Vec<u32> = house.row(&no).operations.iter().map(|ended| ended.number).collect();
    assert_eq!(keys, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_and_the_money_is_taken_once() {
    for is_away in [false, true] {
        let (house, no) = held().await;
        house.provider.set(|mood| (mood.is_away, mood.is_mute) = (is_away, true));
        let unknown = house.capture(&no, Some(700), "k-1").await.unwrap();
        assert_eq!(told(&unknown), (202, "processing"));
        assert_eq!(state_of(house.capture(&no, Some(700), "k-2").await), "processing");
        assert_eq!(state_of(house.cancel(&no, "k-3").await), "processing");
        pass(Duration::from_secs(60)).await;
        assert_eq!(house.view(&no).await.status, "processing");
        house.provider.set(|mood| (mood.is_away, mood.is_mute) = (false, false));
        pass(Duration::from_secs(60)).await;
        let view = house.view(&no).await;
        assert_eq!((view.status.as_str(), view.captured_amount), ("captured", 700));
        assert_eq!(house.provider.count(|asked| *asked == Asked::Capture { amount: 700, is_first: true }), 1);
        assert_eq!(house.capture(&no, Some(700), "k-1").await.unwrap().answer, unknown.answer);
        assert_eq!(house.events(), ["pre_auth.authorized", "pre_auth.captured"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_say_for_three_days_needs_a_person() {
    let (house, no) = held().await;
    house.provider.set(|mood| mood.is_away = true);
    house.capture(&no, None, "k-1").await.unwrap();
    pass(Duration::from_secs(73 * 3_600)).await;
    assert_eq!(house.view(&no).await.status, "needs_review");
    assert_eq!(state_of(house.capture(&no, None, "k-2").await), "needs_review");
    let asked = house.provider.asked.lock().len();
    house.provider.set(|mood| mood.is_away = false);
    pass(Duration::from_secs(3_600)).await;
    assert_eq!(house.provider.asked.lock().len(), asked, "nobody asks any more");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_stored_is_processing_and_stored_later() {
    let (house, no) = held().await;
    house.store.fail(vec![StoreFailure::NoRoom; 3]);
    let first = house.capture(&no, Some(900), "k-1").await.unwrap();
    assert_eq!(told(&first), (202, "processing"), "it says what is stored");
    assert_eq!(house.capture(&no, Some(900), "k-1").await.unwrap().answer, first.answer, "told again");
    pass(Duration::from_secs(60)).await;
    let view = house.view(&no).await;
    assert_eq!((view.status.as_str(), view.captured_amount), ("captured", 900));
    assert_eq!(house.capture(&no, Some(900), "k-1").await.unwrap().answer, first.answer, "the same bytes");
    assert_eq!(house.provider.captures(), 1, "the outcome was known all the time");
    assert!(house.core.told.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_perhaps_stored_is_told_when_it_is_read() {
    let (house, no) = held().await;
    house.store.fail(vec![StoreFailure::StoredUnknown]);
    let unsure = house.capture(&no, Some(900), "k-1").await;
    assert!(matches!(unsure, Err(GatewayError::Internal(_))), "{unsure:?}");
    let first = house.capture(&no, Some(900), "k-1").await.unwrap();
    assert_eq!((told(&first), first.replayed), ((200, "captured"), true));
    pass(Duration::from_secs(60)).await;
    assert_eq!(house.capture(&no, Some(900), "k-1").await.unwrap().answer, first.answer, "the same bytes");
    assert_eq!((house.provider.captures(), house.view(&no).await.captured_amount), (1, 900));
    assert!(house.core.told.is_empty());
}
