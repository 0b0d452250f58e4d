//! A request is in flight until the work that it began has ended, whether or not its client waits for it.

use std::sync::Arc;
use std::time::Duration;

use super::fixture::{Failure, Fixture, origin, pass, told};
use crate::actors::directory::{AdmitRequest, DirectorySettings, MerchantDirectory};
use crate::actors::supervisor::{RestartBudget, Supervisor};
use crate::domain::limit::LimitFigures;
use crate::domain::outcome::ChargeState;
use crate::gateway::command::CreateRefund;
use crate::gateway::idempotency::Origin;
use crate::gateway::payments::Refunds;
use crate::ratelimit::MemorySnapshots;

const FIGURES: LimitFigures =
    LimitFigures { per_second: 10, per_minute: 500, per_hour: 10_000, burst: 20, concurrent: 10 };
const TAKES: Duration = Duration::from_secs(8);

/// The limits of the fixture's merchant.
struct Limits {
    directory: MerchantDirectory,
    request: AdmitRequest,
    _supervisor: Supervisor,
}

impl Limits {
    async fn of(house: &Fixture) -> Self {
        let clock = house.core.clock.clone();
        let settings = DirectorySettings {
            lease: Duration::from_secs(60),
            merchants_active_max: 8,
            idle: Duration::from_secs(600),
            mailbox_max: 64,
            mailboxes_total_max: 64,
            claims_max: 64,
            snapshot_interval: Duration::from_secs(5),
        };
        let supervisor = Supervisor::start(RestartBudget::default(), clock.clone()).await.unwrap();
        let snapshots = Arc::new(MemorySnapshots::new(8, clock.clone()));
        let directory = MerchantDirectory::start(settings, clock, snapshots, supervisor.clone());
        let merchant_id = house.caller.merchant.merchant_id.clone();
        let request = AdmitRequest { merchant_id, figures: FIGURES, revision: Some(1), idempotency: None, cost: 1 };
        Self { directory, request, _supervisor: supervisor }
    }

    /// What a request has that was let in; its permit is held by nobody else.
    async fn origin(&self, key: &str) -> Origin {
        let permit = self.directory.admit(self.request.clone()).await.unwrap().permit;
        Origin { permit: Some(Arc::new(permit)), ..origin(key) }
    }

    async fn in_flight(&self) -> u32 {
        let AdmitRequest { merchant_id, figures, revision, .. } = &self.request;
        self.directory.usage(merchant_id, *figures, *revision).await.unwrap().view.concurrency.used
    }
}

/// Sends `request`, hangs up after a moment, and waits for what it began.
async fn hang_up<T>(limits: &Limits, request: impl Future<Output = T>) {
    assert!(tokio::time::timeout(Duration::from_secs(1), request).await.is_err());
    assert_eq!(limits.in_flight().await, 1, "the client has gone, the work has not");
    pass(TAKES - Duration::from_secs(2)).await;
    assert_eq!(limits.in_flight().await, 1);
    pass(Duration::from_secs(2)).await;
    assert_eq!(limits.in_flight().await, 0, "and its end makes room");
}

#[tokio::test(start_paused = true)]
async fn payments_refunds_and_cancellations_are_in_flight_until_they_have_ended() {
    let house = Fixture::new().await;
    let limits = Limits::of(&house).await;
    house.stripe.set(|script| script.takes = TAKES);
    let pay = async |order_no: &str| {
        let command = serde_json::json!({
            "order_no": order_no, "amount": 900, "currency": "USD", "channel": "stripe",
        });
        let origin = limits.origin(order_no).await;
        house.payments.create(&house.caller, origin, serde_json::from_value(command).unwrap()).await
    };
    hang_up(&limits, pay("O-1")).await;
    let payment_no = house.only().payment_no;

    let command = CreateRefund { amount: Some(100), reason: None };
    let refund = async {
        let origin = limits.origin("r-1").await;
        Refunds::new(house.payments.clone()).create(&house.caller, origin, &payment_no, command).await
    };
    hang_up(&limits, refund).await;
    assert_eq!(house.only().refunded_amount, 100);

    house.stripe.set(|script| {
        script.takes = Duration::ZERO;
        script.charge = ChargeState::Processing;
        script.resolve = ChargeState::Processing;
    });
    pay("O-2").await.unwrap();
    assert_eq!(limits.in_flight().await, 0);
    house.stripe.set(|script| script.takes = TAKES);
    let payment_no = house.all()[0].payment_no.clone();
    let cancel = async {
        let origin = limits.origin("c-1").await;
        house.payments.cancel(&house.caller, origin, &payment_no).await
    };
    hang_up(&limits, cancel).await;
}

/// What only waits for the store to have room again is no work of a client's.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_waits_for_room_holds_no_place() {
    let house = Fixture::new().await;
    let limits = Limits::of(&house).await;
    house.store.fail([Failure::NoRoom; 100]);
    let command = serde_json::json!({ "order_no": "O-1", "amount": 900, "currency": "USD", "channel": "stripe" });
    let origin = limits.origin("O-1").await;
    let answered = house.payments.create(&house.caller, origin, serde_json::from_value(command).unwrap()).await;
    assert_eq!(told(&answered.unwrap()).0, 202);
    assert_eq!(limits.in_flight().await, 0);
    house.store.recover();
}
