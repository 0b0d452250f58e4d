//! Held money and the time at which its provider lets it go: the merchant is told in good time, what is configured is done
//! before it, and after it the provider is asked. What was missed while nobody looked is gone through in the same order.

use crate::domain::event::EventName;
use crate::domain::pre_auth::draft::Draft;
use crate::domain::pre_auth::due::{MANY_TRIES, asked_at};
use crate::domain::pre_auth::{OnExpiry, OperationKind, PreAuth, PreAuthPolicy, ReleaseWhy, begin};
use crate::domain::time::Timestamp;

/// The moments before the end of a hold at which something is done; `None` for what is done already.
struct Boundaries {
    expires_at: Timestamp,
    tell_at: Option<Timestamp>,
    act_at: Option<Timestamp>,
    extend_at: Option<Timestamp>,
}

impl Boundaries {
    fn of(pre_auth: &PreAuth, policy: &PreAuthPolicy) -> Option<Self> {
        let expires_at = pre_auth.expires_at?;
        let tell_at = (!pre_auth.expiring_told).then(|| expires_at.minus(policy.expiring_before));
        let acts_at = expires_at.minus(policy.on_expiry_before);
        let act_at = (!pre_auth.expiry_acted).then_some(acts_at);
        let extend_at = pre_auth.honor_until.filter(|until| !pre_auth.extended && *until < acts_at);
        Some(Self { expires_at, tell_at, act_at, extend_at })
    }
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
    [tell_at, act_at, extend_at, Some(expires_at)].into_iter().flatten().min()
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
    if is_over || draft.pre_auth.operation.is_some() {
        // Whether the provider has let it go is never assumed.
        begin::ask(draft);
        return;
    }
    let Some(boundaries) = boundaries else { return };
    let number = draft.pre_auth.next_operation_number();
    if is_due(boundaries.act_at) {
        draft.pre_auth.expiry_acted = true;
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
    } else if is_due(boundaries.extend_at) {
        draft.pre_auth.extended = true;
        let key = next_key(OperationKind::Extend.as_str(), number);
        draft.open(OperationKind::Extend, key, now);
    }
}
