//! Money that came otherwise than it was asked for: written down, somebody alerted, and given back if that is the rule.

use crate::channels::ListError;
use crate::domain::ids::{MerchantId, PaymentNo, RefundNo, dated_number};
use crate::domain::outcome::{ChargeAnswer, ChargeState, StrayKind};
use crate::domain::payment::{NewRefund, Payment, PaymentStatus, Refund, RefundStatus, StrayRules, on_stray};
use crate::domain::pre_auth::{PreAuth, PreAuthStatus};
use crate::domain::stray::{Stray, StrayAction};
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, IntCounterVec};
use crate::gateway::payments::hold::Stage;
use crate::gateway::payments::reconcile::log_resolution;
use crate::gateway::payments::rows::{self, StoredPayment};
use crate::gateway::payments::{CONFLICTS_MAX, Inner, Payments, views};
use crate::storage::{Batch, StoreError};

/// What somebody has to look at, counted.
pub(super) struct Alerts {
    strays: IntCounterVec,
    needs_review: IntCounterVec,
}

impl Alerts {
    pub(super) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        let strays = figures.counters("strays_total", "Money that came otherwise than it was asked for", &["kind"])?;
        for kind in [StrayKind::Partial, StrayKind::Late, StrayKind::Over] {
            strays.with_label_values(&[kind.as_str()]);
        }
        let needs_review = figures.counters(
            "needs_review_total",
            "Payments, pre-auths and refunds that could not be resolved and were left to a person",
            &["object"],
        )?;
        for object in ["payment", "pre_auth", "refund"] {
            needs_review.with_label_values(&[object]);
        }
        Ok(Self { strays, needs_review })
    }

    /// Counts and says in the log what a stored change leaves to a person.
    pub(super) fn note(&self, before: &Payment, after: &Payment) {
        let payment_no = &after.payment_no;
        for stray in after.strays.iter().skip(before.strays.len()) {
            self.count_stray(stray);
            let refund_no = match &stray.action {
                StrayAction::Refunding(refund_no) => Some(refund_no.as_str()),
                StrayAction::Reported | StrayAction::Accepted => None,
            };
            tracing::error!(
                %payment_no,
                kind = stray.kind.as_str(),
                amount_minor = stray.received_minor,
                refund_no,
                accepted = stray.action == StrayAction::Accepted,
                "money came otherwise than it was asked for"
            );
        }
        for (was, is) in before.strays.iter().zip(&after.strays) {
            if let (StrayAction::Refunding(refund_no), StrayAction::Reported) = (&was.action, &is.action) {
                self.needs_review.with_label_values(&["refund"]).inc();
                let amount_minor = is.received_minor;
                tracing::error!(%payment_no, %refund_no, amount_minor, "stray money could not be given back and needs a person");
            }
        }
        if after.status == PaymentStatus::NeedsReview && before.status != after.status {
            self.needs_review.with_label_values(&["payment"]).inc();
        }
        self.note_refunds(payment_no.as_str(), &before.refunds, &after.refunds);
    }

    /// The same of a pre-auth. What its actor is to say in the log, it says.
    pub(super) fn note_pre_auth(&self, before: &PreAuth, after: &PreAuth) {
        after.strays.iter().skip(before.strays.len()).for_each(|stray| self.count_stray(stray));
        for (was, is) in before.strays.iter().zip(&after.strays) {
            if matches!((&was.action, &is.action), (StrayAction::Refunding(_), StrayAction::Reported)) {
                self.needs_review.with_label_values(&["refund"]).inc();
            }
        }
        if after.status == PreAuthStatus::NeedsReview && before.status != after.status {
            self.needs_review.with_label_values(&["pre_auth"]).inc();
        }
        self.note_refunds(after.pre_auth_no.as_str(), &before.refunds, &after.refunds);
    }

    fn count_stray(&self, stray: &Stray) {
        self.strays.with_label_values(&[stray.kind.as_str()]).inc();
    }

    fn note_refunds(&self, number: &str, before: &[Refund], after: &[Refund]) {
        for refund in after {
            let needed = |refund_no: &RefundNo| {
                let was = before.iter().find(|before| before.refund_no == *refund_no);
                was.is_some_and(|before| before.status == RefundStatus::NeedsReview)
            };
            if refund.status == RefundStatus::NeedsReview && !needed(&refund.refund_no) {
                self.needs_review.with_label_values(&["refund"]).inc();
                tracing::error!(number, refund_no = %refund.refund_no, "refund could not be resolved and needs a person");
            }
        }
    }
}

impl Payments {
    /// Asks again about a payment that is over, because its provider says that something has happened. Money that came all
    /// the same is dealt with; whatever is still open at the provider is closed, and nothing is charged by asking.
    ///
    /// `false` when it is not known yet, because a provider gave no answer or somebody else works on it.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], and what the store says.
    pub async fn look_again(&self, merchant_id: &MerchantId, payment_no: &PaymentNo) -> Result<bool, GatewayError> {
        let inner = &self.0;
        let Some(_working) = inner.work_on(payment_no) else { return Ok(false) };
        let mut is_known = true;
        let mut stored = rows::read(&inner.core, merchant_id, payment_no)?;
        for place in 0..stored.payment.attempts.len() {
            if !stored.payment.status.is_final() {
                // It is asked about when it is due.
                return Ok(is_known);
            }
            if let Some(answer) = inner.ask_again(&stored.payment, place).await {
                is_known &= !matches!(answer.state, ChargeState::Unknown { .. });
                stored = inner.settle_stray(stored, place, &answer).await?;
            }
        }
        Ok(is_known)
    }
}

impl Inner {
    /// What became of an attempt that is over. One whose number is not known is only looked for: to ask about it could be
    /// what sends it.
    async fn ask_again(&self, payment: &Payment, place: usize) -> Option<ChargeAnswer> {
        let request = self.question(payment, place, true)?;
        let channel = self.channels.get(&payment.attempts.get(place)?.channel)?;
        if request.refs.channel_order_no.is_some() {
            return Some(channel.resolve(&request).await);
        }
        match channel.find_charge(&request).await {
            Ok(found) => found,
            Err(ListError::NotSupported) => None,
            Err(ListError::Failed(reason)) => Some(ChargeAnswer::unknown(reason)),
        }
    }

    /// Makes durable what an answer says about money that came otherwise than it was asked for, and gives it back if a
    /// refund began with that.
    pub(super) async fn settle_stray(
        &self,
        mut stored: StoredPayment,
        place: usize,
        answer: &ChargeAnswer,
    ) -> Result<StoredPayment, GatewayError> {
        let settings = self.core.settings();
        let rules = StrayRules { policy: settings.payments.on_stray, refunds_max: settings.payments.refunds_max };
        for _ in 0..CONFLICTS_MAX {
            let now = self.core.clock.now();
            let refund_no = RefundNo::new(dated_number("RF", now, self.core.random.draw_u64()));
            // Held before it is stored: from then on the timer sees it.
            let Some(refunding) = self.work_on_refund(&refund_no) else { continue };
            let provider_key = self.provider_keys.key(refund_no.as_str(), "refund", 1);
            let names = NewRefund { refund_no: refund_no.clone(), provider_key };
            let Some(outcome) = on_stray(&stored.payment, place, answer, rules, names, &self.policy, now) else {
                return Ok(stored);
            };
            let mut batch = Batch::finishing();
            let tell = |name, id| views::payment_event(&outcome.payment, name, id);
            let planned = self.record(&mut batch, &stored, &outcome, tell, now)?;
            match self.costs.commit(batch, Some(&stored.payment), &outcome.payment).await {
                Ok(committed) => {
                    log_resolution(&stored.payment, &outcome.payment);
                    self.alerts.note(&stored.payment, &outcome.payment);
                    self.teach(&stored.payment, &outcome.payment, &answer.state);
                    self.announce(planned, outcome.payment.due_at);
                    let begun = outcome.payment.refunds.len() > stored.payment.refunds.len();
                    stored = StoredPayment { payment: outcome.payment, revision: committed.sequence };
                    // After a restore no money moves until it may; the due entry stands.
                    if begun && self.stage.get() == Stage::Free {
                        self.send_begun(&mut stored, &refund_no).await;
                    }
                    drop(refunding);
                    return Ok(stored);
                }
                Err(StoreError::Precondition { .. }) => {
                    stored = rows::read(&self.core, &stored.payment.merchant_id, &stored.payment.payment_no)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Whoever asked must not take it for dealt with.
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    /// Sends a refund that is stored. What comes of it that can't be stored now is asked for.
    async fn send_begun(&self, stored: &mut StoredPayment, refund_no: &RefundNo) {
        let sent = async {
            let answer = self.ask_refund(&stored.payment, refund_no, true).await?;
            self.store_refund(stored, refund_no, &answer, None).await
        };
        if let Err(error) = sent.await {
            tracing::warn!(%refund_no, %error, "a refund's outcome could not be stored yet; its channel is asked again");
        }
    }
}
