//! Money that comes although a pre-auth is over. It is never ignored: it is written down once, somebody is woken for it,
//! what is held is closed, and what was taken goes back where that is configured.

use crate::domain::outcome::{HoldState, StrayKind};
use crate::domain::pre_auth::draft::Draft;
use crate::domain::pre_auth::due::next_due_at;
use crate::domain::pre_auth::{
    Alert, Change, Dispatch, EventKind, PreAuth, PreAuthPolicy, PreAuthStatus, ReleaseWhy, Sending,
};
use crate::domain::refund::Refund;
use crate::domain::stray::{Stray, StrayAction, StrayPolicy};
use crate::domain::time::Timestamp;

/// Takes in where the object of a pre-auth that is over stands.
pub(super) fn after_the_end(draft: &mut Draft<'_>, state: &HoldState, now: Timestamp) {
    let is_captured = draft.pre_auth.status == PreAuthStatus::Captured;
    match state {
        HoldState::Captured { captured_minor, fee_minor } => {
            if is_captured && *captured_minor == draft.pre_auth.captured_minor {
                learn_fee(draft, *fee_minor);
            }
            let kind = if is_captured { StrayKind::Over } else { StrayKind::Late };
            let known_minor = draft.pre_auth.captured_minor + stray_minor(&draft.pre_auth);
            let received_minor = captured_minor.saturating_sub(known_minor);
            if received_minor > 0 {
                note(draft, kind, Some(received_minor), now);
                draft.alert(Alert::Stray { kind, received_minor: Some(received_minor) });
            }
            draft.pre_auth.closing = None;
        }
        HoldState::Held { held_minor, .. } if !is_captured && draft.pre_auth.closing.is_none() => {
            let is_noted = draft.pre_auth.strays.iter().any(|stray| stray.received_minor.is_none());
            if !is_noted {
                note(draft, StrayKind::Late, None, now);
            }
            draft.alert(Alert::Stray { kind: StrayKind::Late, received_minor: Some(*held_minor) });
            draft.pre_auth.closing = Some(ReleaseWhy::Stray);
            draft.send(Sending::Ask { close: true }, false);
        }
        HoldState::Released { .. } | HoldState::Declined(_) | HoldState::NotDone(_) => draft.pre_auth.closing = None,
        HoldState::Held { .. }
        | HoldState::AwaitsMethod { .. }
        | HoldState::ActionRequired { .. }
        | HoldState::Processing
        | HoldState::Unknown { .. } => {}
    }
}

/// Takes over what the channel took, which it often says only some time after the capture. The fee of more than was captured is
/// not learned: it is also that of what goes back. Nobody is told: no amount of the merchant's has changed.
fn learn_fee(draft: &mut Draft<'_>, fee_minor: Option<i64>) {
    draft.pre_auth.reported_fee_minor = fee_minor.or(draft.pre_auth.reported_fee_minor);
}

fn note(draft: &mut Draft<'_>, kind: StrayKind, received_minor: Option<i64>, now: Timestamp) {
    draft.step(EventKind::StrayMoney, draft.pre_auth.status);
    draft.pre_auth.strays.push(Stray { kind, received_minor, attempt: 0, seen_at: now, action: StrayAction::Reported });
}

/// Minor units that came after the end, as far as is known.
fn stray_minor(pre_auth: &PreAuth) -> i64 {
    pre_auth.strays.iter().filter_map(|stray| stray.received_minor).fold(0, i64::saturating_add)
}

/// Has the money that a change found after the end given back, where that is configured. `make` makes the refund of so many
/// minor units.
pub fn refund_strays(
    before: &PreAuth,
    mut change: Change,
    policy: &PreAuthPolicy,
    now: Timestamp,
    mut make: impl FnMut(i64) -> Refund,
) -> Change {
    if policy.stray == StrayPolicy::Report {
        return change;
    }
    let pre_auth = &mut change.pre_auth;
    for stray in pre_auth.strays.iter_mut().skip(before.strays.len()) {
        let Some(received_minor) = stray.received_minor else { continue };
        let refund = make(received_minor);
        stray.action = StrayAction::Refunding(refund.refund_no.clone());
        change.send.push(Dispatch { what: Sending::Refund(refund.refund_no.clone()), is_first: true });
        pre_auth.refunds.push(refund);
    }
    pre_auth.due_at = next_due_at(pre_auth, policy, now);
    change
}
