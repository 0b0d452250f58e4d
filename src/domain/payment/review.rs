//! What a person says about a payment or a refund that could not be resolved.

use crate::domain::ids::RefundNo;
use crate::domain::outcome::{DeclineScope, Failure};
use crate::domain::payment::resolve::{ResolvePolicy, next_due_at};
use crate::domain::payment::transition::{Effect, Outcome, finish, succeed};
use crate::domain::payment::{AttemptOutcome, Payment, PaymentStatus};
use crate::domain::refund::reviewed;
use crate::domain::stray::refund_failed;
use crate::domain::time::Timestamp;

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVerdict {
    /// The money moved.
    Success,
    /// It certainly did not, and is not going to.
    Failed,
}

/// Takes a person's word about a payment. `None` when the payment does not wait for one.
pub fn on_review(before: &Payment, verdict: ReviewVerdict, policy: &ResolvePolicy, now: Timestamp) -> Option<Outcome> {
    if before.status != PaymentStatus::NeedsReview {
        return None;
    }
    let mut payment = before.clone();
    match verdict {
        ReviewVerdict::Success => succeed(&mut payment, None, now),
        ReviewVerdict::Failed => {
            payment.status = PaymentStatus::Failed;
            if let Some(attempt) = payment.attempts.last_mut() {
                attempt.outcome = Some(AttemptOutcome::NotDone);
                attempt.failure = Some(said_by_person("Somebody found that nothing was charged."));
            }
        }
    }
    Some(finish(before, payment, policy, now))
}

/// Takes a person's word about a refund; one that failed gives its reservation back. `None` when there is no such refund,
/// or it does not wait for one.
pub fn on_refund_review(
    before: &Payment,
    refund_no: &RefundNo,
    verdict: ReviewVerdict,
    policy: &ResolvePolicy,
    now: Timestamp,
) -> Option<Outcome> {
    let mut payment = before.clone();
    let refund = payment.refunds.iter_mut().find(|refund| refund.refund_no == *refund_no)?;
    let name = reviewed(refund, verdict, now)?;
    if verdict == ReviewVerdict::Failed {
        refund_failed(&mut payment.strays, refund_no);
    }
    payment.updated_at = now;
    payment.event_count += 1;
    payment.due_at = next_due_at(&payment, policy, now);
    Some(Outcome { payment, effect: Effect::Tell(name) })
}

/// What stands as a failure that a person found.
pub(in crate::domain) fn said_by_person(message: &str) -> Failure {
    Failure::new("resolved_by_operator", message, DeclineScope::Unknown)
}
