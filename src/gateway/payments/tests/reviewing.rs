//! What an operator says about payments and refunds that could not be resolved.

use std::time::Duration;

use super::fixture::{Fixture, START, UnsteadyStore, origin, pass, told};
use crate::channels::{ChargeState, RefundState};
use crate::clock::Clock;
use crate::domain::audit::Operator;
use crate::domain::ids::{MerchantId, PaymentNo};
use crate::domain::payment::{Payment, RefundStatus};
use crate::gateway::audit;
use crate::gateway::command::{ResolveByHand, ResolvedStatus};
use crate::gateway::error::GatewayError;
use crate::gateway::payments::{Refunds, rows};
use crate::storage::{Scan, keys};

const REVIEW_AFTER: Duration = Duration::from_secs(73 * 3_600);

fn verdict(status: ResolvedStatus) -> ResolveByHand {
    ResolveByHand { status, reason: String::from("not in the provider's dashboard") }
}

fn operator() -> Operator {
    Operator { name: String::from("anna"), request_id: String::from("req_1") }
}

async fn house() -> Fixture {
    let house = Fixture::over(std::sync::Arc::<UnsteadyStore>::default(), &Clock::virtual_from(START), |_| {}).await;
    house.payments.start().unwrap();
    house
}

/// A payment that nobody could resolve.
async fn stuck(house: &Fixture) -> String {
    let unknown = || ChargeState::Unknown { reason: String::from("timeout") };
    house.stripe.set(|script| (script.charge, script.resolve) = (unknown(), unknown()));
    house.pay("O-1").await.unwrap();
    pass(REVIEW_AFTER).await;
    let payment = house.only();
    assert_eq!(payment.status, "needs_review");
    payment.payment_no
}

fn stored(house: &Fixture, payment_no: &str) -> Payment {
    rows::read(&house.core, &MerchantId::new("m_1"), &PaymentNo::new(payment_no)).unwrap().payment
}

fn audited(house: &Fixture) -> u64 {
    audit::head(house.core.store.as_ref()).unwrap().number
}

fn events(house: &Fixture) -> usize {
    house.core.store.scan(&Scan::prefix(&keys::events(), 100)).unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn an_operator_ends_a_payment_and_it_is_in_the_audit() {
    for (status, expected) in [(ResolvedStatus::Success, "success"), (ResolvedStatus::Failed, "failed")] {
        let house = house().await;
        let payment_no = stuck(&house).await;
        assert!(house.core.figures.text().contains("tollgate_needs_review_total{object=\"payment\"} 1"));
        let (entries, told_before) = (audited(&house), events(&house));
        let another = house.payments.create(&house.caller, origin("key-2"), command("O-1")).await;
        assert!(matches!(another, Err(GatewayError::OrderExists { .. })), "the order number is held");
        let view = house.payments.resolve(&operator(), &payment_no, verdict(status)).await.unwrap();
        assert_eq!((view.payment.status.as_str(), view.merchant_id.as_str()), (expected, "m_1"));
        assert_eq!((audited(&house), events(&house)), (entries + 1, told_before + 1));
        let again = house.payments.resolve(&operator(), &payment_no, verdict(status)).await;
        assert!(matches!(again, Err(GatewayError::InvalidState { status }) if status == expected));
        assert_eq!((audited(&house), events(&house)), (entries + 1, told_before + 1));
        house.stripe.set(|script| script.charge = ChargeState::Success { fee_minor: None });
        let another = house.payments.create(&house.caller, origin("key-3"), command("O-1")).await;
        assert_eq!(another.is_ok(), expected == "failed");
        if expected == "success" {
            assert_eq!(told(&house.refund(&payment_no, "r-1").await.unwrap()), (201, "success"));
        }
    }
}

fn command(order_no: &str) -> crate::gateway::command::CreatePayment {
    let command = serde_json::json!({ "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe" });
    serde_json::from_value(command).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_person_has_no_reason_or_is_not_there_is_left_alone() {
    let house = house().await;
    house.pay("O-0").await.unwrap();
    let paid = house.only().payment_no;
    let refused = house.payments.resolve(&operator(), &paid, verdict(ResolvedStatus::Failed)).await;
    assert!(matches!(refused, Err(GatewayError::InvalidState { status }) if status == "success"));
    for reason in [String::new(), String::from("  "), "x".repeat(256), String::from("card 4111111111111111")] {
        let command = ResolveByHand { status: ResolvedStatus::Failed, reason };
        assert!(house.payments.resolve(&operator(), &paid, command).await.is_err());
    }
    let nobody = house.payments.resolve(&operator(), "PY0", verdict(ResolvedStatus::Failed)).await;
    assert!(matches!(nobody, Err(GatewayError::NotFound(_))));
    let refunds = Refunds::new(house.payments.clone());
    let nobody = refunds.resolve(&operator(), "RF0", verdict(ResolvedStatus::Failed)).await;
    assert!(matches!(nobody, Err(GatewayError::NotFound(_))));
    assert_eq!(audited(&house), 0);
    assert_eq!(stored(&house, &paid).status.as_str(), "success");
}

#[tokio::test(start_paused = true)]
async fn a_refunds_reservation_is_given_back_or_kept() {
    for (status, expected, left) in
        [(ResolvedStatus::Success, RefundStatus::Success, 800), (ResolvedStatus::Failed, RefundStatus::Failed, 900)]
    {
        let house = house().await;
        house.stripe.set(|script| script.refund = RefundState::Unknown { reason: String::from("timeout") });
        house.pay("O-1").await.unwrap();
        let payment_no = house.only().payment_no;
        house.refund(&payment_no, "r-1").await.unwrap();
        let refunds = Refunds::new(house.payments.clone());
        let refund_no = stored(&house, &payment_no).refunds[0].refund_no.to_string();
        let early = refunds.resolve(&operator(), &refund_no, verdict(status)).await;
        assert!(matches!(early, Err(GatewayError::InvalidState { status }) if status == "pending"));
        pass(REVIEW_AFTER).await;
        assert_eq!(stored(&house, &payment_no).refunds[0].status, RefundStatus::NeedsReview);
        assert!(house.core.figures.text().contains("tollgate_needs_review_total{object=\"refund\"} 1"));
        let told_before = events(&house);
        let view = refunds.resolve(&operator(), &refund_no, verdict(status)).await.unwrap();
        assert_eq!((view.refund.status.as_str(), view.refund.refund_no), (expected.as_str(), refund_no));
        let payment = stored(&house, &payment_no);
        assert_eq!((payment.refunds[0].status, payment.refundable_minor()), (expected, left));
        assert_eq!((audited(&house), events(&house)), (1, told_before + 1));
    }
}
