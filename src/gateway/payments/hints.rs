//! Payments of which their providers have told something. What was told is a hint to ask, whatever it says.

use crate::config::ChannelKind;
use crate::domain::ids::{ChannelName, MerchantId, PaymentNo};
use crate::domain::payment::{AttemptOutcome, Payment, PaymentStatus, RefundStatus, on_dispute};
use crate::gateway::error::GatewayError;
use crate::gateway::payments::rows::{self, StoredPayment};
use crate::gateway::payments::{CONFLICTS_MAX, Inner, Payments, views};
use crate::storage::{Batch, StoreError};

/// What a hint about something calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Need {
    /// To ask its channel.
    Question,
    /// Nothing: what can be learned of it is known.
    Nothing,
    /// To wait: it is being worked on, by somebody who may have asked before it happened.
    Patience,
    /// To look again later: it is not there, or not on this channel.
    Presence,
}

/// What came of following a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Followed {
    /// The channel was asked, or it is stored that it has to be.
    Asked,
    /// Somebody else works on it.
    Busy,
    /// The channel was asked and gave no answer, and nobody else asks it again.
    Unanswered,
}

impl Payments {
    /// What a hint about a payment calls for. `names` are the provider's number and our key, as far as the hint has them.
    ///
    /// # Errors
    /// What the store says.
    pub(in crate::gateway) fn need(
        &self,
        merchant_id: &MerchantId,
        payment_no: &PaymentNo,
        channel: &ChannelName,
        names: &[&str],
    ) -> Result<Need, GatewayError> {
        let inner = &self.0;
        let payment = match rows::read(&inner.core, merchant_id, payment_no) {
            Ok(stored) => stored.payment,
            Err(GatewayError::NotFound(_)) => return Ok(Need::Presence),
            Err(error) => return Err(error),
        };
        if !payment.attempts.iter().any(|attempt| attempt.channel == *channel) {
            return Ok(Need::Presence);
        }
        if inner.working.contains(payment_no) {
            return Ok(Need::Patience);
        }
        let is_settled = match payment.status {
            // A person looks at it, who sees what the provider says.
            PaymentStatus::NeedsReview => true,
            PaymentStatus::Success => inner.has_all(&payment, channel, names),
            _ => false,
        };
        Ok(if is_settled && !has_open_refunds(&payment) { Need::Nothing } else { Need::Question })
    }

    /// Sees to it that the channel of a payment is asked. For one that is open that is stored and left to whoever looks after
    /// those; one that is over is asked about here.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], and what the store says.
    pub(in crate::gateway) async fn follow_hint(
        &self,
        merchant_id: &MerchantId,
        payment_no: &PaymentNo,
    ) -> Result<Followed, GatewayError> {
        let inner = &self.0;
        for _ in 0..CONFLICTS_MAX {
            if inner.working.contains(payment_no) {
                return Ok(Followed::Busy);
            }
            let stored = rows::read(&inner.core, merchant_id, payment_no)?;
            let is_over = stored.payment.status.is_final();
            match inner.make_due(&stored).await {
                Ok(()) => {}
                Err(StoreError::Precondition { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
            if !is_over {
                return Ok(Followed::Asked);
            }
            let is_known = self.look_again(merchant_id, payment_no).await?;
            return Ok(if is_known { Followed::Asked } else { Followed::Unanswered });
        }
        Ok(Followed::Busy)
    }

    /// Notes that a payer's bank claims a payment's money back, and tells the merchant: once for each claim.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], and what the store says.
    pub(in crate::gateway) async fn note_dispute(
        &self,
        merchant_id: &MerchantId,
        payment_no: &PaymentNo,
        dispute_no: &str,
    ) -> Result<Followed, GatewayError> {
        let inner = &self.0;
        for _ in 0..CONFLICTS_MAX {
            let stored = rows::read(&inner.core, merchant_id, payment_no)?;
            let now = inner.core.clock.now();
            let Some(outcome) = on_dispute(&stored.payment, dispute_no, now) else { return Ok(Followed::Asked) };
            let mut batch = Batch::finishing();
            let tell = |name, id| views::payment_event(&outcome.payment, name, id);
            let planned = inner.record(&mut batch, &stored, &outcome, tell, now)?;
            match inner.costs.commit(batch, Some(&stored.payment), &outcome.payment).await {
                Ok(_) => {
                    tracing::warn!(%payment_no, dispute_no, "the payer's bank claims a payment's money back");
                    inner.announce(planned, None);
                    return Ok(Followed::Asked);
                }
                Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Followed::Busy)
    }
}

impl Inner {
    /// Stores that what is open about a payment is due now.
    async fn make_due(&self, stored: &StoredPayment) -> Result<(), StoreError> {
        let now = self.core.clock.now();
        if stored.payment.due_at.is_some_and(|due_at| due_at > now) {
            let mut payment = stored.payment.clone();
            payment.due_at = Some(now);
            let mut batch = Batch::finishing();
            rows::replace(&mut batch, stored, &payment).map_err(|error| StoreError::Invalid(error.to_string()))?;
            self.costs.commit(batch, Some(&stored.payment), &payment).await?;
        }
        self.due.notify_one();
        Ok(())
    }

    /// Whether the attempt that a hint names has brought all that it can: where a payer can send more than was asked for,
    /// nobody knows that.
    fn has_all(&self, payment: &Payment, channel: &ChannelName, names: &[&str]) -> bool {
        let kind = self.core.config.channels.get(channel.as_str()).map(|channel| channel.kind);
        if kind.is_none_or(|kind| matches!(kind, ChannelKind::Btcpay | ChannelKind::Custom)) {
            return false;
        }
        let named = payment.attempts.iter().find(|attempt| {
            let known = attempt.refs.numbers().chain([attempt.provider_key.as_str()]);
            known.into_iter().any(|name| names.contains(&name))
        });
        let attempt = match (named, payment.attempts.as_slice()) {
            (Some(named), _) => Some(named),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        attempt.is_some_and(|attempt| attempt.outcome == Some(AttemptOutcome::Success))
    }
}

fn has_open_refunds(payment: &Payment) -> bool {
    payment.refunds.iter().any(|refund| refund.status == RefundStatus::Pending)
}
