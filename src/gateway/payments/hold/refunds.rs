//! Refunds that providers have since the restore point: compared with what is here, or adopted.

use crate::channels::{ListedRefund, RefundState};
use crate::config::ChannelKind;
use crate::domain::ids::{ChannelName, MerchantId, PaymentNo, RefundNo};
use crate::domain::money::Money;
use crate::domain::outcome::{DeclineScope, Failure, RefundAnswer};
use crate::domain::payment::{Outcome, Payment, PaymentStatus, Refund, RefundStatus, on_refund_answer};
use crate::domain::time::Timestamp;
use crate::gateway::error::GatewayError;
use crate::gateway::payments::hold::Hold;
use crate::gateway::payments::hold::charges::Adoption;
use crate::gateway::payments::hold::lists::Collected;
use crate::gateway::payments::hold::open::at_once;
use crate::gateway::payments::hold::pre_auths::is_of_pre_auth;
use crate::gateway::payments::hold::report::{ChannelState, HeldItemView};
use crate::gateway::payments::rows;
use crate::gateway::payments::{CONFLICTS_MAX, views};
use crate::gateway::pre_auths::held::Compared;
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

/// A refund that was under way at the restore point and that no provider has named. It is never sent again: behind the
/// point it may have been refused, and the merchant may have made another in its place.
pub(super) struct PendingRefund {
    pub(super) merchant_id: MerchantId,
    /// Of its payment or pre-auth.
    pub(super) number: String,
    pub(super) refund_no: RefundNo,
    pub(super) channel: ChannelName,
    pub(super) money: Money,
    pub(super) created_at: Timestamp,
}

/// What becomes of a refund that no list names.
enum Fate {
    /// It is not known yet.
    Wait,
    /// There is nobody who could have it.
    Stays,
    /// The provider's list shows that it was not done.
    NotDone,
    /// Nobody can say; a person has to look.
    Review,
}

impl Hold {
    /// Goes through the refunds; returns those whose payments are not decided yet.
    pub(super) async fn adopt_refunds(
        &self,
        refunds: Vec<(ChannelName, ListedRefund)>,
        adoptions: &[Adoption],
        undecided: &[PendingRefund],
    ) -> Vec<(ChannelName, ListedRefund)> {
        let mut left = Vec::new();
        for (channel, refund) in refunds {
            let waits = refund
                .reference
                .as_deref()
                .is_some_and(|reference| adoptions.iter().any(|adoption| adoption.has_number(reference)));
            let verdict = match is_of_pre_auth(refund.reference.as_deref()) {
                _ if waits => Ok(Verdict::Later),
                true => self.decide_refund_of_pre_auth(&refund, undecided).await,
                false => self.decide_refund(&refund, undecided).await,
            };
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

    /// Ends the refunds that were under way at the restore point and that no list names; returns those that are not decided
    /// yet.
    pub(super) async fn close_refunds(&self, pending: Vec<PendingRefund>, collected: &Collected) -> Vec<PendingRefund> {
        let mut left = Vec::new();
        for refund in pending {
            let closed = match self.fate_of(&refund, collected) {
                Fate::Wait => Ok(false),
                Fate::Stays => Ok(true),
                Fate::NotDone => {
                    let message = "The provider never received the refund.";
                    let failure = Failure::new("not_received", message, DeclineScope::Processor);
                    self.end_refund(&refund, &RefundAnswer::failed(failure), false).await
                }
                Fate::Review => {
                    let answer =
                        RefundAnswer::unknown("whether it was done before the store was restored is not known");
                    self.end_refund(&refund, &answer, true).await
                }
            };
            let is_over = closed.unwrap_or_else(|error| {
                tracing::warn!(refund_no = %refund.refund_no, %error, "a refund can't be ended yet");
                false
            });
            if !is_over {
                left.push(refund);
            }
        }
        left
    }

    fn fate_of(&self, refund: &PendingRefund, collected: &Collected) -> Fate {
        let config = &self.inner().core.config;
        if config.channels.get(refund.channel.as_str()).is_some_and(|found| found.kind == ChannelKind::Instant) {
            return Fate::Stays;
        }
        if collected.refund_nos.contains(&refund.refund_no) {
            return Fate::Stays;
        }
        let mut state = self.0.state.lock();
        let Some(report) = state.channels.get_mut(&refund.channel) else { return Fate::Review };
        match (report.refunds_listed_since, report.state) {
            (Some(since), _) if refund.created_at >= since => Fate::NotDone,
            (Some(_), _) | (None, ChannelState::Confirmed) => Fate::Review,
            (None, ChannelState::NeedsConfirmation) => {
                let reason = "it was under way at the restore point and is not sent: compare by hand whether it was done; \
                              once the channel is confirmed it needs a review";
                report.list_once(HeldItemView::new("", Some(refund.refund_no.as_str()), Some(refund.money), reason));
                Fate::Wait
            }
            (None, _) => Fate::Wait,
        }
    }

    /// Stores what became of a refund. Returns whether that is so.
    async fn end_refund(
        &self,
        refund: &PendingRefund,
        answer: &RefundAnswer,
        is_left_to_person: bool,
    ) -> Result<bool, GatewayError> {
        let PendingRefund { merchant_id, number, refund_no, .. } = refund;
        if is_of_pre_auth(Some(number)) {
            return self.pre_auths().end_refund(merchant_id, number, refund_no, answer, is_left_to_person).await;
        }
        let inner = self.inner();
        let policy = if is_left_to_person { at_once(&inner.policy) } else { inner.policy };
        let before = rows::read(&inner.core, merchant_id, &PaymentNo::new(number.as_str()))?;
        let now = inner.core.clock.now();
        let Some(outcome) = on_refund_answer(&before.payment, refund_no, answer, &policy, now) else {
            return Ok(true);
        };
        let found = outcome.payment.refunds.iter().find(|found| found.refund_no == refund.refund_no);
        let found = found.ok_or(GatewayError::NotFound("refund"))?;
        let mut batch = Batch::finishing();
        let tell = |name, id| views::refund_event(&outcome.payment, found, name, id);
        let planned = inner.record(&mut batch, &before, &outcome, tell, now)?;
        match inner.costs.commit(batch, Some(&before.payment), &outcome.payment).await {
            Ok(_) => {
                inner.alerts.note(&before.payment, &outcome.payment);
                tracing::warn!(refund_no = %refund.refund_no, status = found.status.as_str(), "a refund is not sent again");
                inner.announce(planned, outcome.payment.due_at);
                Ok(true)
            }
            Err(StoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn decide_refund_of_pre_auth(
        &self,
        listed: &ListedRefund,
        undecided: &[PendingRefund],
    ) -> Result<Verdict, GatewayError> {
        Ok(match self.pre_auths().compare_refund(listed).await? {
            Compared::Agrees => Verdict::Agrees,
            Compared::Adopted => Verdict::Adopted,
            Compared::Later | Compared::After(_) => Verdict::Later,
            Compared::TooMuch if undecided.iter().any(|refund| Some(&refund.number) == listed.reference.as_ref()) => {
                Verdict::Later
            }
            Compared::TooMuch => Verdict::Person("the pre-auth here has not so much left to give back"),
            Compared::Person(reason) => Verdict::Person(reason),
        })
    }

    async fn decide_refund(&self, listed: &ListedRefund, undecided: &[PendingRefund]) -> Result<Verdict, GatewayError> {
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
                // What another one has reserved may be given back.
                Learned::TooMuch if undecided.iter().any(|refund| refund.number == payment_no.as_str()) => {
                    return Ok(Verdict::Later);
                }
                Learned::TooMuch => {
                    return Ok(Verdict::Person("the payment here has not so much left to give back"));
                }
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
            match inner.costs.commit(batch, Some(&before.payment), &outcome.payment).await {
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
        if payment.status != PaymentStatus::Success {
            return Learned::Wrong("the payment here is not charged");
        }
        if gives_back && amount_minor > payment.refundable_minor() {
            return Learned::TooMuch;
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
    TooMuch,
    Wrong(&'static str),
    News(Box<Outcome>),
}
