//! When a pre-auth has to be looked at again, and what is done then.

use crate::domain::pre_auth::draft::Draft;
use crate::domain::pre_auth::{
    Change, Operation, PreAuth, PreAuthPolicy, PreAuthStatus, ReleaseWhy, Sending, begin, expiry,
};
use crate::domain::refund::RefundStatus;
use crate::domain::time::Timestamp;

/// Stands for more questions than there can be: then only how long it takes already says when the next one is due.
pub(super) const MANY_TRIES: u32 = 31;

/// When the pre-auth has to be looked at again; `None` when nothing is open.
pub fn next_due_at(pre_auth: &PreAuth, policy: &PreAuthPolicy, now: Timestamp) -> Option<Timestamp> {
    let own = match pre_auth.status {
        PreAuthStatus::RequiresPaymentMethod | PreAuthStatus::RequiresAction | PreAuthStatus::Processing => {
            let asked = pre_auth.operation.as_ref().map(|operation| {
                let is_new = pre_auth.closing.is_some() && operation.resolve_tries == 0;
                if is_new { now.plus(policy.resolve.first) } else { asked_at(operation, policy, now) }
            });
            asked.into_iter().chain(gives_up_at(pre_auth)).min()
        }
        PreAuthStatus::RequiresCapture => expiry::next_due_at(pre_auth, policy, now),
        PreAuthStatus::Captured | PreAuthStatus::Canceled | PreAuthStatus::Expired | PreAuthStatus::Failed => {
            let stray = pre_auth.strays.last().filter(|_| pre_auth.closing.is_some());
            stray.map(|stray| now.plus(policy.resolve.wait(MANY_TRIES, now.since(stray.seen_at))))
        }
        PreAuthStatus::NeedsReview => None,
    };
    let refunds = pending_refunds(pre_auth)
        .map(|refund| now.plus(policy.resolve.wait(refund.resolve_tries, now.since(refund.created_at))));
    refunds.chain(own).min()
}

/// When to ask about an open operation; one that has no answer at all is under way, or was lost without a trace.
pub(super) fn asked_at(operation: &Operation, policy: &PreAuthPolicy, now: Timestamp) -> Timestamp {
    now.plus(match operation.had_answer() {
        true => policy.resolve.wait(operation.resolve_tries, now.since(operation.sent_at)),
        false => policy.resolve.abandoned_after,
    })
}

/// When the payer's time is over, if that is still to come of it.
fn gives_up_at(pre_auth: &PreAuth) -> Option<Timestamp> {
    pre_auth.act_by.filter(|_| pre_auth.closing.is_none())
}

/// Does what is due. `None` when nothing is. `next_key` makes the provider key of an operation of the kind and with the
/// number that it is given.
pub fn on_due(
    before: &PreAuth,
    policy: &PreAuthPolicy,
    now: Timestamp,
    next_key: impl FnOnce(&str, u32) -> String,
) -> Option<Change> {
    let mut draft = Draft::of(before);
    match before.status {
        PreAuthStatus::RequiresPaymentMethod | PreAuthStatus::RequiresAction | PreAuthStatus::Processing => {
            match gives_up_at(before) {
                Some(act_by) if act_by <= now => begin::close(&mut draft, ReleaseWhy::Unconfirmed),
                _ => begin::ask(&mut draft),
            }
        }
        PreAuthStatus::RequiresCapture => expiry::on_due(&mut draft, policy, now, next_key),
        PreAuthStatus::Captured | PreAuthStatus::Canceled | PreAuthStatus::Expired | PreAuthStatus::Failed => {
            if before.closing.is_some() {
                draft.send(Sending::Ask { close: true }, false);
            }
        }
        PreAuthStatus::NeedsReview => {}
    }
    ask_about_refunds(&mut draft, before);
    draft.finish(policy, now)
}

/// The provider has something to tell: it is asked, also about what is over. `None` while a person has to look.
pub fn on_hint(before: &PreAuth, policy: &PreAuthPolicy, now: Timestamp) -> Option<Change> {
    if before.status == PreAuthStatus::NeedsReview {
        return None;
    }
    let mut draft = Draft::of(before);
    begin::ask(&mut draft);
    ask_about_refunds(&mut draft, before);
    draft.finish(policy, now)
}

fn ask_about_refunds(draft: &mut Draft<'_>, before: &PreAuth) {
    for refund in pending_refunds(before) {
        draft.send(Sending::Refund(refund.refund_no.clone()), false);
    }
}

fn pending_refunds(pre_auth: &PreAuth) -> impl Iterator<Item = &crate::domain::refund::Refund> {
    pre_auth.refunds.iter().filter(|refund| refund.status == RefundStatus::Pending)
}
