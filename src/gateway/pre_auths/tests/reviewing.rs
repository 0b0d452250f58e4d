//! What an operator says about pre-auths, and refunds of them, that nobody could resolve.

use std::time::Duration;

use super::fixture::{Asked, HELD, House, pass, told};
use crate::domain::audit::Operator;
use crate::gateway::audit;
use crate::gateway::command::{ResolveByHand, ResolvePreAuthByHand, ResolvedPreAuthStatus, ResolvedStatus};
use crate::gateway::error::GatewayError;

const REVIEW_AFTER: Duration = Duration::from_secs(73 * 3_600);

fn operator() -> Operator {
    Operator { name: String::from("anna"), request_id: String::from("req_1") }
}

fn verdict(status: ResolvedPreAuthStatus) -> ResolvePreAuthByHand {
    let reason = String::from("as the provider's dashboard shows it");
    ResolvePreAuthByHand { status, reason, captured_amount: None, expires_at: None }
}

fn audited(house: &House) -> u64 {
    audit::head(house.core.store.as_ref()).unwrap().number
}

/// One whose provider fell silent at its capture, for too long.
async fn stuck() -> (House, String) {
    let house = House::new().await;
    house.hold("O-1").await.unwrap();
    let no = house.only().pre_auth_no;
    house.provider.set(|mood| mood.is_away = true);
    assert_eq!(told(&house.capture(&no, Some(3_000), "capture").await.unwrap()), (202, "processing"));
    pass(REVIEW_AFTER).await;
    assert_eq!(house.view(&no).await.status, "needs_review");
    (house, no)
}

#[tokio::test(start_paused = true)]
async fn a_person_says_where_a_pre_auth_stands_and_it_is_in_the_audit() {
    let captured = ResolvePreAuthByHand { captured_amount: Some(3_000), ..verdict(ResolvedPreAuthStatus::Captured) };
    for (command, status, event) in [
        (captured, "captured", "pre_auth.captured"),
        (verdict(ResolvedPreAuthStatus::Canceled), "canceled", "pre_auth.canceled"),
    ] {
        let (house, no) = stuck().await;
        let (entries, events) = (audited(&house), house.events().len());
        let view = house.pre_auths.resolve(&operator(), &no, command.clone()).await.unwrap();
        assert_eq!((view.pre_auth.status.as_str(), view.merchant_id.as_str()), (status, "m_1"));
        let (taken, released) = if status == "captured" { (3_000, HELD - 3_000) } else { (0, HELD) };
        assert_eq!((view.pre_auth.captured_amount, view.pre_auth.released_amount), (taken, released));
        assert_eq!((audited(&house), house.events().len()), (entries + 1, events + 1));
        assert_eq!(house.events().last().map(String::as_str), Some(event));
        let again = house.pre_auths.resolve(&operator(), &no, command).await;
        assert!(matches!(again, Err(GatewayError::InvalidState { status: now }) if now == status));
        assert_eq!(audited(&house), entries + 1);
        house.provider.set(|mood| mood.is_away = false);
        assert_eq!(house.hold("O-1").await.is_ok(), status == "canceled", "the order number is free again or is not");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_person_found_to_be_held_can_be_captured() {
    let (house, no) = stuck().await;
    let (captures, later) = (house.provider.captures(), house.core.clock.now().plus(REVIEW_AFTER));
    let held =
        ResolvePreAuthByHand { expires_at: Some(later.rfc3339()), ..verdict(ResolvedPreAuthStatus::RequiresCapture) };
    let view = house.pre_auths.resolve(&operator(), &no, held).await.unwrap().pre_auth;
    assert_eq!((view.status.as_str(), view.expires_at), ("requires_capture", Some(later.rfc3339())));
    house.provider.set(|mood| mood.is_away = false);
    let captured = house.capture(&no, Some(2_000), "k-2").await.unwrap();
    assert_eq!(told(&captured), (200, "captured"), "its actor knows what the person said");
    assert_eq!(house.provider.captures(), captures + 1);
    assert_eq!(house.provider.asked.lock().last(), Some(&Asked::Capture { amount: 2_000, is_first: true }));
}

#[tokio::test(start_paused = true)]
async fn what_can_t_be_so_is_refused() {
    let (house, no) = stuck().await;
    let entries = audited(&house);
    let captured =
        |captured_amount| ResolvePreAuthByHand { captured_amount, ..verdict(ResolvedPreAuthStatus::Captured) };
    let canceled = verdict(ResolvedPreAuthStatus::Canceled);
    for wrong in [
        captured(None),
        captured(Some(0)),
        ResolvePreAuthByHand { reason: String::from(" "), ..canceled.clone() },
        ResolvePreAuthByHand { captured_amount: Some(1), ..canceled.clone() },
        ResolvePreAuthByHand { expires_at: Some(String::from("2030-01-01T00:00:00Z")), ..canceled.clone() },
        ResolvePreAuthByHand {
            expires_at: Some(String::from("tomorrow")),
            ..verdict(ResolvedPreAuthStatus::RequiresCapture)
        },
    ] {
        let refused = house.pre_auths.resolve(&operator(), &no, wrong.clone()).await;
        assert!(matches!(refused, Err(GatewayError::InvalidRequest(_))), "{wrong:?}: {refused:?}");
    }
    let more = house.pre_auths.resolve(&operator(), &no, captured(Some(HELD + 1))).await;
    assert!(matches!(more, Err(GatewayError::AmountTooLarge { max_minor: HELD })), "{more:?}");
    let never = house.pre_auths.resolve(&operator(), &no, verdict(ResolvedPreAuthStatus::Failed)).await;
    assert!(matches!(never, Err(GatewayError::InvalidState { .. })), "it was held: {never:?}");
    let unknown = house.pre_auths.resolve(&operator(), "PA0", canceled).await;
    assert!(matches!(unknown, Err(GatewayError::NotFound(_))), "{unknown:?}");
    assert_eq!((audited(&house), house.view(&no).await.status.as_str()), (entries, "needs_review"));
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_nobody_could_resolve_is_ended_by_hand() {
    for (status, expected, refunded) in
        [(ResolvedStatus::Success, "success", 1_000), (ResolvedStatus::Failed, "failed", 0)]
    {
        let house = House::new().await;
        house.hold("O-1").await.unwrap();
        let no = house.only().pre_auth_no;
        house.capture(&no, None, "capture").await.unwrap();
        house.provider.set(|mood| mood.is_mute = true);
        house.refund(&no, Some(1_000), "k-1").await.unwrap();
        pass(REVIEW_AFTER).await;
        let refund = house.pre_auths.refunds(&house.caller, &no).unwrap().items.remove(0);
        assert_eq!(refund.status, "needs_review");
        let entries = audited(&house);
        let command = ResolveByHand { status, reason: String::from("in the provider's books") };
        let of_payments = house.refunds.resolve(&operator(), &refund.refund_no, command.clone()).await;
        assert!(matches!(of_payments, Err(GatewayError::NotFound(_))), "{of_payments:?}");
        let ended = house.pre_auths.resolve_refund(&operator(), &refund.refund_no, command.clone()).await.unwrap();
        assert_eq!((ended.refund.status.as_str(), ended.merchant_id.as_str()), (expected, "m_1"));
        let view = house.view(&no).await;
        assert_eq!((view.refunded_amount, view.refundable_amount), (refunded, HELD - refunded));
        assert_eq!(house.events().last(), Some(&format!("refund.{expected}")));
        let again = house.pre_auths.resolve_refund(&operator(), &refund.refund_no, command).await;
        assert!(matches!(again, Err(GatewayError::InvalidState { .. })), "{again:?}");
        assert_eq!(audited(&house), entries + 1);
    }
}
