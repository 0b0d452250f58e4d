//! What Prometheus is told about money: how payments, refunds and captures ended, and how much that was. Counted when the
//! end is durable.

use crate::domain::ids::ChannelName;
use crate::domain::money::Currency;
use crate::domain::payment::{Payment, PaymentStatus};
use crate::domain::pre_auth::PreAuth;
use crate::domain::refund::{Refund, RefundStatus};
use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, IntCounter, IntCounterVec};

/// How a payment ends. One that a person has looked at ends once more.
const PAYMENT_ENDS: [PaymentStatus; 4] =
    [PaymentStatus::Success, PaymentStatus::Failed, PaymentStatus::Canceled, PaymentStatus::NeedsReview];
/// The same of a refund.
const REFUND_ENDS: [RefundStatus; 3] = [RefundStatus::Success, RefundStatus::Failed, RefundStatus::NeedsReview];

/// The figures of one gateway. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MoneyFigures {
    begun: IntCounter,
    payments: IntCounterVec,
    taken: IntCounterVec,
    refunds: IntCounterVec,
    refunded: IntCounterVec,
    captured: IntCounterVec,
    fees: IntCounterVec,
    fees_baseline: IntCounterVec,
}

impl MoneyFigures {
    /// Of these channels each figure is there from the first reading on, amounts in `currency`, in which most is settled.
    ///
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice.
    pub(super) fn new<'a>(
        figures: &Figures,
        channels: impl Iterator<Item = &'a String>,
        currency: Currency,
    ) -> Result<Self, GatewayError> {
        let by_end = |name: &str, help: &str| figures.counters(name, help, &["channel", "end"]);
        let by_currency = |name: &str, help: &str| figures.counters(name, help, &["channel", "currency"]);
        let made = Self {
            begun: figures.counter("payments_begun_total", "Payments that were stored before a channel was asked")?,
            payments: by_end("payments_total", "Payments that came to their end, by their last channel and how")?,
            taken: by_currency("payment_amount_minor_total", "Amounts of payments that succeeded, minor units")?,
            refunds: by_end("refunds_total", "Refunds of payments and pre-auths that came to their end, by how")?,
            refunded: by_currency("refund_amount_minor_total", "Amounts of refunds that succeeded, minor units")?,
            fees: by_currency("fees_minor_total", "Fees of payments charged since the start, minor units")?,
            fees_baseline: by_currency(
                "fees_baseline_minor_total",
                "What the same payments would have cost on the baseline channel, minor units",
            )?,
            captured: by_currency("pre_auth_captured_minor_total", "Amounts captured from pre-auths, minor units")?,
        };
        for channel in channels {
            let channel = channel.as_str();
            for end in PAYMENT_ENDS {
                made.payments.with_label_values(&[channel, end.as_str()]);
            }
            for end in REFUND_ENDS {
                made.refunds.with_label_values(&[channel, end.as_str()]);
            }
            for amounts in [&made.taken, &made.refunded, &made.captured, &made.fees, &made.fees_baseline] {
                amounts.with_label_values(&[channel, currency.code()]);
            }
        }
        Ok(made)
    }

    /// A payment was stored.
    pub(super) fn begun(&self) {
        self.begun.inc();
    }

    /// Counts what a change of a payment has brought to its end. `before` is none for one that was not there.
    pub(super) fn note(&self, before: Option<&Payment>, after: &Payment) {
        let Some(channel) = after.current().map(|attempt| &attempt.channel) else { return };
        let money = after.terms.money;
        if before.is_none_or(|before| before.status != after.status) && PAYMENT_ENDS.contains(&after.status) {
            self.payments.with_label_values(&[channel.as_str(), after.status.as_str()]).inc();
            if after.status == PaymentStatus::Success {
                add(&self.taken, channel, money.currency, money.amount_minor);
            }
        }
        let were = before.map_or([].as_slice(), |before| &before.refunds);
        self.note_refunds(channel, money.currency, were, &after.refunds);
    }

    /// The same of a pre-auth, whose own ends are counted elsewhere.
    pub(super) fn note_pre_auth(&self, before: &PreAuth, after: &PreAuth) {
        let currency = after.terms.money.currency;
        add(&self.captured, &after.channel, currency, after.captured_minor - before.captured_minor);
        self.note_refunds(&after.channel, currency, &before.refunds, &after.refunds);
    }

    /// Fees of a payment have become so much more, beside what they would be on the baseline channel.
    pub(super) fn note_fees(&self, channel: &ChannelName, currency: Currency, fees_minor: i64, baseline_minor: i64) {
        add(&self.fees, channel, currency, fees_minor);
        add(&self.fees_baseline, channel, currency, baseline_minor);
    }

    /// Refunds keep their places.
    fn note_refunds(&self, channel: &ChannelName, currency: Currency, were: &[Refund], are: &[Refund]) {
        for (place, refund) in are.iter().enumerate() {
            let was = were.get(place).map(|was| was.status);
            if was == Some(refund.status) || !REFUND_ENDS.contains(&refund.status) {
                continue;
            }
            self.refunds.with_label_values(&[channel.as_str(), refund.status.as_str()]).inc();
            if refund.status == RefundStatus::Success {
                add(&self.refunded, channel, currency, refund.amount_minor);
            }
        }
    }
}

fn add(amounts: &IntCounterVec, channel: &ChannelName, currency: Currency, amount_minor: i64) {
    // Counters never go back.
    if let Ok(more) = u64::try_from(amount_minor)
        && more > 0
    {
        amounts.with_label_values(&[channel.as_str(), currency.code()]).inc_by(more);
    }
}
