//! A person says what became of a pre-auth that could not be resolved.

use crate::domain::pre_auth::draft::Draft;
use crate::domain::pre_auth::{
    Change, EventKind, OperationKind, OperationOutcome, PreAuth, PreAuthPolicy, PreAuthStatus, Rejection, ReviewVerdict,
};
use crate::domain::time::Timestamp;

/// Takes over what a person found out. The operation that is open ends with it.
///
/// # Errors
/// [`Rejection`], when nobody asked for a person, what was held is said never to have been, or the amount can't be right.
pub fn on_review(
    before: &PreAuth,
    verdict: ReviewVerdict,
    policy: &PreAuthPolicy,
    now: Timestamp,
) -> Result<Change, Rejection> {
    if before.status != PreAuthStatus::NeedsReview {
        return Err(Rejection::State(before.status));
    }
    let mut draft = Draft::of(before);
    draft.pre_auth.reconciling = false;
    let kind = before.operation.as_ref().map(|operation| operation.kind.clone());
    let end = |draft: &mut Draft<'_>, is_done: fn(&OperationKind) -> bool| {
        let is_done = kind.as_ref().is_some_and(is_done);
        draft.end_operation(if is_done { OperationOutcome::Done } else { OperationOutcome::Refused }, None, now);
    };
    let held_minor = before.terms.money.amount_minor;
    let was_held = before.authorized_minor > 0;
    match verdict {
        ReviewVerdict::Held { expires_at } => {
            draft.step(EventKind::Reviewed, PreAuthStatus::RequiresCapture);
            end(&mut draft, |kind| *kind == OperationKind::Authorize);
            let expires_at = expires_at.or(before.expires_at);
            draft.pre_auth.expires_at = Some(expires_at.unwrap_or_else(|| now.plus(policy.hold_valid)));
            draft.hold(held_minor, now);
        }
        ReviewVerdict::Captured { captured_minor } => {
            if captured_minor < 1 || captured_minor > held_minor {
                return Err(Rejection::TooMuch { max_minor: held_minor });
            }
            draft.step(EventKind::Reviewed, PreAuthStatus::Captured);
            end(&mut draft, |kind| matches!(kind, OperationKind::Authorize | OperationKind::Capture { .. }));
            if !was_held {
                draft.hold(held_minor, now);
            }
            draft.take(captured_minor, None, now);
        }
        ReviewVerdict::Canceled => {
            draft.step(EventKind::Reviewed, PreAuthStatus::Canceled);
            end(&mut draft, |kind| matches!(kind, OperationKind::Release { .. }));
            draft.let_go();
        }
        ReviewVerdict::Failed if was_held => return Err(Rejection::State(before.status)),
        ReviewVerdict::Failed => {
            draft.step(EventKind::Reviewed, PreAuthStatus::Failed);
            end(&mut draft, |_| false);
            draft.let_go();
        }
    }
    Ok(draft.finish(policy, now).unwrap_or_else(|| Change::nothing(before)))
}
