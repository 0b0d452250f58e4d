//! When to ask about a payment again.

use std::time::Duration;

use crate::domain::payment::{Payment, PaymentStatus, RefundStatus};
use crate::domain::time::Timestamp;

/// How long the early, quick phase of asking lasts.
const EARLY_PHASE: Duration = Duration::from_secs(600);

/// How outcomes are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvePolicy {
    /// Wait before the first question; doubles from then on.
    pub first: Duration,
    /// Longest wait in the first ten minutes.
    pub early_max: Duration,
    /// Longest wait after them.
    pub late_max: Duration,
    /// What is unknown for this long needs a person.
    pub needs_review_after: Duration,
    /// What the payer does not act on for this long is given up.
    pub action_expires: Duration,
    /// A payment whose task has vanished without a trace is looked at after this.
    pub abandoned_after: Duration,
}

impl ResolvePolicy {
    /// The wait before question number `tries` + 1 about something that began `age` ago.
    pub fn wait(&self, tries: u32, age: Duration) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(tries.min(31)).unwrap_or(u32::MAX));
        if age < EARLY_PHASE {
            return doubled.min(self.early_max);
        }
        // A tenth of the age grows from a minute to the late maximum without a jump.
        (age / 10).clamp(self.early_max.min(self.late_max), self.late_max)
    }
}

/// When the payment has to be looked at again; `None` when nothing is open.
pub fn next_due_at(payment: &Payment, policy: &ResolvePolicy, now: Timestamp) -> Option<Timestamp> {
    let own = match payment.status {
        PaymentStatus::Pending => Some(now.plus(policy.abandoned_after)),
        PaymentStatus::Processing | PaymentStatus::RequiresAction => {
            let wait = policy.wait(payment.resolve_tries, now.since(payment.created_at));
            let asked =
                now.plus(if payment.cancel_requested && payment.resolve_tries == 0 { policy.first } else { wait });
            Some(payment.expires_at.filter(|expiry| *expiry > now).map_or(asked, |expiry| expiry.min(asked)))
        }
        PaymentStatus::Success | PaymentStatus::Failed | PaymentStatus::Canceled | PaymentStatus::NeedsReview => None,
    };
    let refunds = payment
        .refunds
        .iter()
        .filter(|refund| refund.status == RefundStatus::Pending)
        .map(|refund| now.plus(policy.wait(refund.resolve_tries, now.since(refund.created_at))));
    refunds.chain(own).min()
}
