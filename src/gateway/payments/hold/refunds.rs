//! Refunds that providers have since the restore point: compared with what is here, or adopted.

use crate::channels::{ListedRefund, RefundState};
use crate::domain::ids::{ChannelName, MerchantId, PaymentNo, RefundNo};
use crate::domain::outcome::RefundAnswer;
use crate::domain::payment::{Outcome, Payment, PaymentStatus, Refund, RefundStatus, on_refund_answer};
use crate::gateway::error::GatewayError;
use crate::gateway::payments::hold::Hold;
use crate::gateway::payments::hold::charges::Adoption;
use crate::gateway::payments::hold::report::HeldItemView;
use crate::gateway::payments::rows;
use crate::gateway::payments::{CONFLICTS_MAX, views};
use crate::storage::{Batch, StoreError};

/// What to do about a refund.
enum Verdict {
    /// Nothing: what is here agrees.
    Agrees,
    /// It was made again or learned from.
    Adopted,
    /// Its payment is not decided yet.
    Later,
    /// A person has to look.
    Person(&'static str),
}

impl Hold {
    /// Goes through the refunds; returns those whose payments are not decided yet.
    pub(super) async fn adopt_refunds(
        &self,
        refunds: Vec<(ChannelName, ListedRefund)>,
        adoptions: &[Adoption],
    ) -> Vec<(ChannelName, ListedRefund)> {
        let mut left = Vec::new();
        for (channel, refund) in refunds {
            let waits = refund
                .reference
                .as_deref()
                .is_some_and(|reference| adoptions.iter().any(|adoption| adoption.has_number(reference)));
            let verdict = if waits { Ok(Verdict::Later) } else { self.decide_refund(&refund).await };
            let verdict = verdict.unwrap_or_else(|error| {
                tracing::warn!(%error, "a refund of the time after the restore point can't be taken over yet");
                Verdict::Later
            });
            match verdict {
                Verdict::Agrees => self.report(&channel, |report| report.agreeing += 1),
                Verdict::Adopted => self.report(&channel, |report| report.adopted += 1),
                Verdict::Later => left.push((channel, refund)),
                Verdict::Person(reason) => {
                    let reference = refund.refund_reference.as_deref();
                    let item = HeldItemView::new(&refund.provider_no, reference, refund.money, reason);
                    self.report(&channel, |report| report.list(item));
                }
            }
        }
        left
    }

    async fn decide_refund(&self, listed: &ListedRefund) -> Result<Verdict, GatewayError> {
        let inner = self.inner();
        let (Some(reference), Some(refund_no), Some(merchant_id), Some(money)) =
            (&listed.reference, &listed.refund_reference, &listed.merchant_id, listed.money)
        else {
            return Ok(Verdict::Person("it carries marks of a gateway and not all of them"));
        };
        let merchant_id = MerchantId::new(merchant_id.as_str());
        let payment_no = PaymentNo::new(reference.as_str());
        let refund_no = RefundNo::new(refund_no.as_str());
        for _ in 0..CONFLICTS_MAX {
            let before = match rows::read(&inner.core, &merchant_id, &payment_no) {
                Ok(stored) => stored,
                Err(GatewayError::NotFound(_)) => return Ok(Verdict::Person("its payment is not here")),
                Err(error) => return Err(error),
            };
            let payment = &before.payment;
            if payment.terms.money.currency != money.currency {
                return Ok(Verdict::Person("its currency is not that of the payment here"));
            }
            let outcome = match self.learn_refund(payment, &refund_no, money.amount_minor, listed) {
                Learned::Nothing => return Ok(Verdict::Agrees),
                Learned::Later => return Ok(Verdict::Later),
                Learned::Wrong(reason) => return Ok(Verdict::Person(reason)),
                Learned::News(outcome) => outcome,
            };
            let now = inner.core.clock.now();
            let mut batch = Batch::finishing();
            let tell = |name, id| {
                let found = outcome.payment.refunds.iter().find(|refund| refund.refund_no == refund_no);
                views::refund_event(&outcome.payment, found.ok_or(GatewayError::NotFound("refund"))?, name, id)
            };
            let planned = inner.record(&mut batch, &before, &outcome, tell, now)?;
            match rows::commit_finish(&inner.core, batch).await {
                Ok(_) => {
                    inner.announce(planned, outcome.payment.due_at);
                    return Ok(Verdict::Adopted);
                }
                Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Verdict::Later)
    }

    fn learn_refund(
        &self,
        payment: &Payment,
        refund_no: &RefundNo,
        amount_minor: i64,
        listed: &ListedRefund,
    ) -> Learned {
        let policy = &self.inner().policy;
        let now = self.inner().core.clock.now();
        let answer = RefundAnswer { state: listed.state.clone(), channel_refund_no: Some(listed.provider_no.clone()) };
        let news = |payment: &Payment| match on_refund_answer(payment, refund_no, &answer, policy, now) {
            Some(outcome) => Learned::News(Box::new(outcome)),
            None => Learned::Nothing,
        };
        if let Some(known) = payment.refunds.iter().find(|refund| refund.refund_no == *refund_no) {
            return match (known.status, &listed.state) {
                _ if known.amount_minor != amount_minor => Learned::Wrong("its amount is not that of the refund here"),
                (RefundStatus::Pending, RefundState::Success | RefundState::Failed(_)) => news(payment),
                (RefundStatus::Pending, RefundState::Pending | RefundState::Unknown { .. })
                | (RefundStatus::Success, RefundState::Success)
                | (RefundStatus::Failed, RefundState::Failed(_)) => Learned::Nothing,
                _ => Learned::Wrong("the refund here is final and says something else"),
            };
        }
        if !payment.status.is_final() {
            return Learned::Later;
        }
        let gives_back = !matches!(listed.state, RefundState::Failed(_));
        if payment.status != PaymentStatus::Success || (gives_back && amount_minor > payment.refundable_minor()) {
            return Learned::Wrong("the payment here has not so much left to give back");
        }
        let mut changed = payment.clone();
        changed.refunds.push(Refund {
            refund_no: refund_no.clone(),
            amount_minor,
            status: RefundStatus::Pending,
            reason: None,
            provider_key: self.inner().provider_keys.key(refund_no.as_str(), "refund", 1),
            channel_refund_no: None,
            failure: None,
            resolve_tries: 0,
            unanswered_at: None,
            known_at: None,
            created_at: listed.created_at,
            updated_at: now,
        });
        news(&changed)
    }
}

/// What a listed refund teaches.
enum Learned {
    Nothing,
    Later,
    Wrong(&'static str),
    News(Box<Outcome>),
}
