//! Held money and the time at which its provider lets it go: the merchant is told in good time, what is configured is done
//! before it, and after it the provider is asked. What was missed while nobody looked is gone through in the same order.

use std::time::Duration;

use crate::domain::event::EventName;
use crate::domain::pre_auth::draft::Draft;
use crate::domain::pre_auth::due::{MANY_TRIES, asked_at};
use crate::domain::pre_auth::{
    EndedOperation, OnExpiry, OperationKind, OperationOutcome, PreAuth, PreAuthPolicy, ReleaseWhy, begin,
};
use crate::domain::time::Timestamp;

/// The shortest wait before what was refused at its time is tried again.
const AGAIN_FIRST: Duration = Duration::from_secs(10);

/// The moments before the end of a hold at which something is done; `None` for what is done already.
struct Boundaries {
    expires_at: Timestamp,
    tell_at: Option<Timestamp>,
    act_at: Timestamp,
    extend_at: Option<Timestamp>,
}

impl Boundaries {
    fn of(pre_auth: &PreAuth, policy: &PreAuthPolicy) -> Option<Self> {
        let expires_at = pre_auth.expires_at?;
        let tell_at = (!pre_auth.expiring_told).then(|| expires_at.minus(policy.expiring_before));
        let acts_at = expires_at.minus(policy.on_expiry_before);
        let is_ending = |kind: &OperationKind| {
            matches!(kind, OperationKind::Capture { .. } | OperationKind::Release { why: ReleaseWhy::Expiry })
        };
        let act_at = again_at(pre_auth, acts_at, expires_at, is_ending);
        let is_extension = |kind: &OperationKind| *kind == OperationKind::Extend;
        let is_extended = pre_auth
            .operations
            .iter()
            .any(|ended| is_extension(&ended.kind) && ended.outcome != OperationOutcome::Refused);
        let extend_at = pre_auth.honor_until.filter(|_| !is_extended);
        let extend_at = extend_at.map(|until| again_at(pre_auth, until, expires_at, is_extension));
        Some(Self { expires_at, tell_at, act_at, extend_at: extend_at.filter(|at| *at < acts_at) })
    }
}

/// When what is to be done at `time` is tried, or tried again after it was refused: when as much time has passed once more
/// as since the first try, so that a channel that was away for a moment costs nobody the money, and one that refuses for good
/// is not asked all the time. Of the time that is left until the end of the hold no try waits away more than half.
fn again_at(
    pre_auth: &PreAuth,
    time: Timestamp,
    expires_at: Timestamp,
    is_kind: impl Fn(&OperationKind) -> bool,
) -> Timestamp {
    // What was sent before its time, by whomever, was no try of this.
    let is_try = |ended: &&EndedOperation| is_kind(&ended.kind) && ended.sent_at >= time;
    let first = pre_auth.operations.iter().find(is_try);
    let last = pre_auth.operations.iter().rfind(is_try);
    let Some((first, last)) = first.zip(last) else { return time };
    let doubled = last.ended_at.since(first.sent_at);
    let left = expires_at.since(last.ended_at);
    let wait = if left.is_zero() { doubled } else { doubled.min(left / 2) };
    last.ended_at.plus(wait.max(AGAIN_FIRST))
}

/// When held money has to be looked at again.
pub(super) fn next_due_at(pre_auth: &PreAuth, policy: &PreAuthPolicy, now: Timestamp) -> Option<Timestamp> {
    let boundaries = Boundaries::of(pre_auth, policy);
    let is_over = boundaries.as_ref().is_some_and(|boundaries| now >= boundaries.expires_at);
    if let Some(operation) = &pre_auth.operation {
        // Nothing else begins while it is open, but the merchant is told in time.
        let tell_at = boundaries.and_then(|boundaries| boundaries.tell_at).filter(|_| !is_over);
        return tell_at.into_iter().chain([asked_at(operation, policy, now)]).min();
    }
    let Boundaries { expires_at, tell_at, act_at, extend_at } = boundaries?;
    if is_over {
        return Some(now.plus(policy.resolve.wait(MANY_TRIES, now.since(expires_at))));
    }
    [tell_at, Some(act_at), extend_at, Some(expires_at)].into_iter().flatten().min()
}

/// Does what is due about held money.
pub(super) fn on_due(
    draft: &mut Draft<'_>,
    policy: &PreAuthPolicy,
    now: Timestamp,
    next_key: impl FnOnce(&str, u32) -> String,
) {
    let boundaries = Boundaries::of(&draft.pre_auth, policy);
    let is_over = boundaries.as_ref().is_some_and(|boundaries| now >= boundaries.expires_at);
    let is_due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
    if is_due(boundaries.as_ref().and_then(|boundaries| boundaries.tell_at)) && !is_over {
        draft.pre_auth.expiring_told = true;
        draft.tell(EventName::PreAuthExpiring);
    }
    let is_held_on = draft.pre_auth.is_held_on && policy.is_clock_believed;
    if (is_over && !is_held_on) || draft.pre_auth.operation.is_some() {
        // Whether the provider has let it go is never assumed.
        begin::ask(draft);
        return;
    }
    let Some(boundaries) = boundaries else { return };
    let number = draft.pre_auth.next_operation_number();
    if boundaries.act_at <= now {
        match policy.on_expiry {
            OnExpiry::Release => {
                let kind = OperationKind::Release { why: ReleaseWhy::Expiry };
                begin::open_release(draft, ReleaseWhy::Expiry, next_key(kind.as_str(), number), now);
            }
            OnExpiry::Capture => {
                let money_minor = draft.pre_auth.authorized_minor;
                let key = next_key(OperationKind::Capture { money_minor }.as_str(), number);
                begin::open_capture(draft, money_minor, key, now);
            }
        }
    } else if is_over {
        begin::ask(draft);
    } else if is_due(boundaries.extend_at) {
        let key = next_key(OperationKind::Extend.as_str(), number);
        draft.open(OperationKind::Extend, key, now);
    }
}
