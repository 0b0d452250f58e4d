//! Refunds of what was taken.

use crate::domain::ids::RefundNo;
use crate::domain::outcome::RefundAnswer;
use crate::domain::payment::ReviewVerdict;
use crate::domain::pre_auth::draft::Draft;
use crate::domain::pre_auth::{Alert, Change, EventKind, PreAuth, PreAuthPolicy, PreAuthStatus, Rejection, Sending};
use crate::domain::refund::{Refund, RefundStatus, answered, reviewed};
use crate::domain::stray::{Stray, StrayAction, refund_failed};
use crate::domain::time::Timestamp;

/// Reserves the amount of `refund`. The state is checked first, then the amount.
///
/// # Errors
/// [`Rejection`]; nothing is reserved then.
pub fn begin_refund(
    before: &PreAuth,
    refund: Refund,
    refunds_max: usize,
    policy: &PreAuthPolicy,
    now: Timestamp,
) -> Result<Change, Rejection> {
    if before.status != PreAuthStatus::Captured {
        return Err(Rejection::State(before.status));
    }
    let max_minor = before.refundable_minor();
    if refund.amount_minor < 1 || refund.amount_minor > max_minor {
        return Err(Rejection::TooMuch { max_minor });
    }
    if before.refunds.len() >= refunds_max {
        return Err(Rejection::TooMany);
    }
    let mut draft = Draft::of(before);
    draft.step(EventKind::Refund, PreAuthStatus::Captured);
    draft.send(Sending::Refund(refund.refund_no.clone()), true);
    draft.pre_auth.refunds.push(refund);
    Ok(draft.finish(policy, now).unwrap_or_else(|| Change::nothing(before)))
}

/// Takes a person's word about a refund; one that failed gives its reservation back. `None` when there is no such refund, or
/// it does not wait for one.
pub fn on_refund_review(
    before: &PreAuth,
    refund_no: &RefundNo,
    verdict: ReviewVerdict,
    policy: &PreAuthPolicy,
    now: Timestamp,
) -> Option<Change> {
    let mut draft = Draft::of(before);
    let refund = draft.pre_auth.refunds.iter_mut().find(|refund| refund.refund_no == *refund_no)?;
    let event = reviewed(refund, verdict, now)?;
    if verdict == ReviewVerdict::Failed {
        refund_failed(&mut draft.pre_auth.strays, refund_no);
    }
    draft.tell(event);
    draft.finish(policy, now)
}

/// Takes an answer of the channel about a refund. `None` when it changes nothing: there is no such refund, or it is
/// final.
pub fn on_refund_answer(
    before: &PreAuth,
    refund_no: &RefundNo,
    answer: &RefundAnswer,
    policy: &PreAuthPolicy,
    now: Timestamp,
) -> Option<Change> {
    let mut draft = Draft::of(before);
    let refund = draft.pre_auth.refunds.iter_mut().find(|refund| refund.refund_no == *refund_no)?;
    if refund.status != RefundStatus::Pending {
        return None;
    }
    let event = answered(refund, answer, &policy.resolve, now);
    let status = refund.status;
    if let Some(event) = event {
        draft.tell(event);
    }
    let is_of_stray = |stray: &Stray| matches!(&stray.action, StrayAction::Refunding(of) if of == refund_no);
    let is_left = status == RefundStatus::Failed && draft.pre_auth.strays.iter().any(is_of_stray);
    if is_left {
        refund_failed(&mut draft.pre_auth.strays, refund_no);
    }
    if is_left || status == RefundStatus::NeedsReview {
        draft.alert(Alert::NeedsReview);
    }
    draft.finish(policy, now)
}
