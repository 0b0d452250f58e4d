//! What an operator says about payments and refunds that could not be resolved. It is in the audit in the same commit.

use serde_json::json;

use crate::domain::audit::{Change, Operator};
use crate::domain::ids::{MerchantId, PaymentNo, RefundNo};
use crate::domain::payment::{Payment, Refund, on_refund_review, on_review};
use crate::gateway::command::ResolveByHand;
use crate::gateway::error::GatewayError;
use crate::gateway::numbered_list;
use crate::gateway::payments::rows::{self, Refunded, StoredPayment};
use crate::gateway::payments::{CONFLICTS_MAX, Inner, Payments, Refunds, terms, views};
use crate::gateway::view::{OperatorPaymentView, OperatorRefundView};
use crate::storage::{Batch, StoreError};

impl Payments {
    /// Ends a payment that could not be resolved as somebody has found out that it ended. The merchant is told, and the
    /// order number is free again if nothing was charged.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`]; [`GatewayError::InvalidState`] for one that does not need it;
    /// [`GatewayError::InvalidRequest`] without a reason.
    pub async fn resolve(
        &self,
        by: &Operator,
        payment_no: &str,
        command: ResolveByHand,
    ) -> Result<OperatorPaymentView, GatewayError> {
        check_resolution(&command.reason)?;
        let found = numbered_list::find(&self.0.core, payment_no)?;
        let (payments, by) = (self.clone(), by.clone());
        self.0.core.carry(async move { payments.0.resolve_payment(&by, &found, &command).await }).await
    }
}

impl Refunds {
    /// Ends a refund of a payment that could not be resolved; one that failed gives its reservation back. The merchant is told.
    ///
    /// # Errors
    /// As for [`Payments::resolve`].
    pub async fn resolve(
        &self,
        by: &Operator,
        refund_no: &str,
        command: ResolveByHand,
    ) -> Result<OperatorRefundView, GatewayError> {
        check_resolution(&command.reason)?;
        let refund_no = RefundNo::new(refund_no);
        let inner = &self.payments().0;
        let (merchant_id, payment_no) = match numbered_list::holder_of_refund(&inner.core, &refund_no)? {
            (merchant_id, Refunded::Payment(payment_no)) => (merchant_id, payment_no),
            (_, Refunded::PreAuth(_)) => return Err(GatewayError::NotFound("refund")),
        };
        let (payments, by) = (self.payments().clone(), by.clone());
        let work = async move { payments.0.resolve_refund(&by, &merchant_id, &payment_no, &refund_no, &command).await };
        inner.core.carry(work).await
    }
}

impl Inner {
    async fn resolve_payment(
        &self,
        by: &Operator,
        found: &Payment,
        command: &ResolveByHand,
    ) -> Result<OperatorPaymentView, GatewayError> {
        let (merchant_id, payment_no) = (&found.merchant_id, &found.payment_no);
        for _ in 0..CONFLICTS_MAX {
            let now = self.core.clock.now();
            let before = rows::read(&self.core, merchant_id, payment_no)?;
            let was = before.payment.status.as_str();
            let outcome = on_review(&before.payment, command.status.verdict(), &self.policy, now);
            let outcome = outcome.ok_or_else(|| GatewayError::InvalidState { status: was.to_owned() })?;
            let mut batch = Batch::finishing();
            let tell = |name, id| views::payment_event(&outcome.payment, name, id);
            let planned = self.record(&mut batch, &before, &outcome, tell, now)?;
            let object = format!("{merchant_id}/{payment_no}");
            let is = outcome.payment.status.as_str();
            let change = resolution("payment.resolve", &object, was, is, &command.reason);
            match self.costs.commit_audited(batch, by, &change, &before.payment, &outcome.payment).await {
                Ok(_) => {
                    self.announce(planned, outcome.payment.due_at);
                    return Ok(self.operator_view(&outcome.payment));
                }
                Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    async fn resolve_refund(
        &self,
        by: &Operator,
        merchant_id: &MerchantId,
        payment_no: &PaymentNo,
        refund_no: &RefundNo,
        command: &ResolveByHand,
    ) -> Result<OperatorRefundView, GatewayError> {
        for _ in 0..CONFLICTS_MAX {
            let now = self.core.clock.now();
            let before = rows::read(&self.core, merchant_id, payment_no)?;
            let was = refund_in(&before, refund_no)?.status.as_str();
            let outcome = on_refund_review(&before.payment, refund_no, command.status.verdict(), &self.policy, now);
            let outcome = outcome.ok_or_else(|| GatewayError::InvalidState { status: was.to_owned() })?;
            let payment = &outcome.payment;
            let refund = payment.refunds.iter().find(|refund| refund.refund_no == *refund_no);
            let refund = refund.ok_or(GatewayError::NotFound("refund"))?;
            let mut batch = Batch::finishing();
            let tell = |name, id| views::refund_event(payment, refund, name, id);
            let planned = self.record(&mut batch, &before, &outcome, tell, now)?;
            let object = format!("{merchant_id}/{payment_no}/{refund_no}");
            let change = resolution("refund.resolve", &object, was, refund.status.as_str(), &command.reason);
            match self.costs.commit_audited(batch, by, &change, &before.payment, payment).await {
                Ok(_) => {
                    self.announce(planned, payment.due_at);
                    let view = views::refund_view(payment, refund, self.core.livemode());
                    return Ok(OperatorRefundView { merchant_id: merchant_id.to_string(), refund: view });
                }
                Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }
}

fn refund_in<'a>(stored: &'a StoredPayment, refund_no: &RefundNo) -> Result<&'a Refund, GatewayError> {
    let found = stored.payment.refunds.iter().find(|refund| refund.refund_no == *refund_no);
    found.ok_or(GatewayError::NotFound("refund"))
}

/// Whether it is said how something was found out.
///
/// # Errors
/// [`GatewayError::InvalidRequest`].
pub(in crate::gateway) fn check_resolution(reason: &String) -> Result<(), GatewayError> {
    if reason.trim().is_empty() {
        return Err(GatewayError::field("reason", "must say how that was found out"));
    }
    terms::check_reason(Some(reason))
}

/// The audit's entry about something that a person has ended.
pub(in crate::gateway) fn resolution(action: &'static str, object: &str, was: &str, is: &str, reason: &str) -> Change {
    let change = Change::new(action, object.to_owned()).field("status", Some(json!(was)), Some(json!(is)));
    change.field("reason", None, Some(json!(reason)))
}
