//! What a pre-auth becomes by an answer of its channel. An answer says where the provider's object stands, whatever was
//! asked for; what is not a step of the documented table is not taken.

use crate::domain::event::EventName;
use crate::domain::outcome::{Failure, HoldAnswer, HoldState, NextAction};
use crate::domain::pre_auth::draft::Draft;
use crate::domain::pre_auth::stray;
use crate::domain::pre_auth::{
    Change, EventKind, OperationKind, OperationOutcome, PreAuth, PreAuthPolicy, PreAuthStatus, ReleaseWhy, Sending,
};
use crate::domain::time::Timestamp;

/// An answer that is being taken in.
struct Taking<'a> {
    state: &'a HoldState,
    /// Why what was asked for was certainly not done.
    refused: Option<&'a Failure>,
    policy: &'a PreAuthPolicy,
    now: Timestamp,
}

/// Takes an answer of the channel that was asked while `operation` was open (see [`PreAuth::operation_number`]). `None` when
/// it changes nothing: it is about another operation, or says nothing new, or a person has to look.
pub fn on_answer(
    before: &PreAuth,
    operation: u32,
    answer: &HoldAnswer,
    policy: &PreAuthPolicy,
    now: Timestamp,
) -> Option<Change> {
    if before.status == PreAuthStatus::NeedsReview || !is_meant(before, operation, &answer.state) {
        return None;
    }
    let unsound = HoldState::Unknown { reason: String::from("its amount is not the one that was asked for") };
    let is_sound = is_sound(before, &answer.state);
    let taking = Taking {
        state: if is_sound { &answer.state } else { &unsound },
        refused: answer.refused.as_ref().filter(|_| is_sound),
        policy,
        now,
    };
    let mut draft = Draft::of(before);
    draft.learn(answer, now);
    match before.status {
        PreAuthStatus::RequiresPaymentMethod | PreAuthStatus::RequiresAction => not_held_yet(&mut draft, &taking),
        PreAuthStatus::Processing => match before.operation.as_ref().map(|operation| &operation.kind) {
            Some(OperationKind::Capture { .. } | OperationKind::Release { .. }) => under_way(&mut draft, &taking),
            _ => not_held_yet(&mut draft, &taking),
        },
        PreAuthStatus::RequiresCapture => held(&mut draft, &taking),
        _ => stray::after_the_end(&mut draft, taking.state, now),
    }
    draft.finish(policy, now)
}

/// Whether an answer is about what is open. About what is over, only money is news.
fn is_meant(before: &PreAuth, asked: u32, state: &HoldState) -> bool {
    let open = before.operation_number();
    asked == open || (open == 0 && matches!(state, HoldState::Captured { .. }))
}

/// Whether the amounts of an answer can be those of this pre-auth. What others are about is not known.
fn is_sound(before: &PreAuth, state: &HoldState) -> bool {
    let asked_minor = before.terms.money.amount_minor;
    match state {
        HoldState::Held { held_minor, .. } => *held_minor == asked_minor || before.status.is_final(),
        // After the end more than was asked for is news, too.
        HoldState::Captured { captured_minor, .. } => {
            *captured_minor >= 1 && (*captured_minor <= asked_minor || before.status.is_final())
        }
        _ => true,
    }
}

/// Nothing was held so far.
fn not_held_yet(draft: &mut Draft<'_>, taking: &Taking<'_>) {
    let Taking { state, policy, now, .. } = *taking;
    match state {
        HoldState::AwaitsMethod { .. }
        | HoldState::ActionRequired { .. }
        | HoldState::Processing
        | HoldState::Held { .. }
            if draft.pre_auth.closing.is_some() =>
        {
            still_open(draft, now);
        }
        HoldState::AwaitsMethod { failure, next_action, expires_at } => {
            draft.note_known(now);
            if failure.is_some() {
                draft.pre_auth.failure.clone_from(failure);
            }
            let came_back = draft.pre_auth.status == PreAuthStatus::RequiresAction;
            if came_back {
                draft.step(EventKind::PayerActs, PreAuthStatus::RequiresPaymentMethod);
                draft.pre_auth.next_action = None;
            } else if draft.pre_auth.status == PreAuthStatus::RequiresPaymentMethod && failure.is_some() {
                draft.step(EventKind::Declined, PreAuthStatus::RequiresPaymentMethod);
            }
            offer(draft, next_action.as_ref(), *expires_at, taking);
        }
        HoldState::ActionRequired { next_action, expires_at } => {
            draft.note_known(now);
            // What was answered `processing` stays so, and what the payer has to do is shown all the same.
            if draft.pre_auth.status == PreAuthStatus::RequiresPaymentMethod {
                draft.step(EventKind::PayerConfirms, PreAuthStatus::RequiresAction);
            }
            offer(draft, next_action.as_ref(), *expires_at, taking);
        }
        HoldState::Processing => {
            draft.note_known(now);
            draft.pre_auth.act_by = None;
            to_processing(draft);
        }
        HoldState::Held { held_minor, .. } => {
            become_held(draft, *held_minor, taking);
        }
        HoldState::Captured { captured_minor, fee_minor } => {
            // Somebody has taken it at the provider's own console. What was held was what was asked for.
            let asked_minor = draft.pre_auth.terms.money.amount_minor;
            become_held(draft, asked_minor, taking);
            draft.step(EventKind::Capture, PreAuthStatus::Captured);
            draft.take(*captured_minor, *fee_minor, now);
        }
        HoldState::Released { expired } => closed(draft, *expired, now),
        HoldState::NotDone(failure) if draft.pre_auth.closing.is_some() => {
            draft.pre_auth.failure = Some(failure.clone());
            closed(draft, false, now);
        }
        HoldState::Declined(failure) | HoldState::NotDone(failure) => {
            to_processing(draft);
            draft.step(EventKind::OutcomeKnown, PreAuthStatus::Failed);
            draft.pre_auth.failure = Some(failure.clone());
            let outcome = match state {
                HoldState::Declined(_) => OperationOutcome::Declined,
                _ => OperationOutcome::Refused,
            };
            draft.end_operation(outcome, Some(failure.clone()), now);
            draft.let_go();
        }
        HoldState::Unknown { .. } => {
            let never_known = draft.pre_auth.operation.as_ref().is_none_or(|operation| operation.known_at.is_none());
            draft.note_unanswered(now);
            let is_too_long = draft.is_unknown_for_too_long(policy, now);
            if never_known || is_too_long {
                to_processing(draft);
            }
            if is_too_long {
                draft.give_to_person();
            }
        }
    }
}

/// It was given up and is not closed yet. What was asked before it was given up says nothing about that: it is asked again at
/// once, and then when it is due.
fn still_open(draft: &mut Draft<'_>, now: Timestamp) {
    let is_first = draft.pre_auth.operation.as_ref().is_some_and(|operation| operation.resolve_tries == 0);
    draft.note_known(now);
    if is_first {
        draft.send(Sending::Ask { close: true }, false);
    }
}

fn offer(
    draft: &mut Draft<'_>,
    next_action: Option<&NextAction>,
    expires_at: Option<Timestamp>,
    Taking { policy, now, .. }: &Taking<'_>,
) {
    if let Some(next_action) = next_action {
        draft.pre_auth.next_action = Some(next_action.clone());
        draft.pre_auth.offered_at = Some(*now);
    }
    let latest = draft.pre_auth.created_at.plus(policy.unconfirmed_expires);
    draft.pre_auth.act_by = Some(expires_at.map_or(latest, |provider| provider.min(latest)));
}

fn to_processing(draft: &mut Draft<'_>) {
    match draft.pre_auth.status {
        PreAuthStatus::RequiresPaymentMethod => draft.step(EventKind::PayerConfirms, PreAuthStatus::Processing),
        PreAuthStatus::RequiresAction => draft.step(EventKind::PayerActs, PreAuthStatus::Processing),
        _ => {}
    }
}

fn become_held(draft: &mut Draft<'_>, held_minor: i64, taking: &Taking<'_>) {
    let event = match draft.pre_auth.status {
        PreAuthStatus::RequiresPaymentMethod => EventKind::PayerConfirms,
        PreAuthStatus::RequiresAction => EventKind::PayerActs,
        _ => EventKind::OutcomeKnown,
    };
    draft.step(event, PreAuthStatus::RequiresCapture);
    draft.pre_auth.reconciling = false;
    draft.end_operation(OperationOutcome::Done, None, taking.now);
    draft.pre_auth.expires_at = Some(taking.now.plus(taking.policy.hold_valid));
    learn_times(draft, taking.state, taking.now);
    draft.hold(held_minor, taking.now);
}

/// Takes over when a hold ends, where the provider says so, and that it goes on behind that.
fn learn_times(draft: &mut Draft<'_>, state: &HoldState, now: Timestamp) {
    let HoldState::Held { expires_at, honor_until, .. } = state else { return };
    draft.pre_auth.expires_at = expires_at.or(draft.pre_auth.expires_at);
    draft.pre_auth.honor_until = honor_until.or(draft.pre_auth.honor_until);
    draft.pre_auth.is_held_on = draft.pre_auth.expires_at.is_some_and(|expires_at| now >= expires_at);
}

/// Closed before anything was held. Who gave it up decides what that is called; from `processing` on it is canceled.
fn closed(draft: &mut Draft<'_>, expired: bool, now: Timestamp) {
    let ran_out = match &draft.pre_auth.closing {
        Some(why) => *why == ReleaseWhy::Unconfirmed,
        None => expired,
    };
    let (event, to) = match draft.pre_auth.status {
        PreAuthStatus::Processing => (EventKind::OutcomeKnown, PreAuthStatus::Canceled),
        _ if ran_out => (EventKind::Unconfirmed, PreAuthStatus::Expired),
        _ => (EventKind::Cancel, PreAuthStatus::Canceled),
    };
    draft.step(event, to);
    draft.end_operation(OperationOutcome::Refused, None, now);
    draft.let_go();
}

/// A capture or a release is under way.
fn under_way(draft: &mut Draft<'_>, taking: &Taking<'_>) {
    let Taking { state, refused, policy, now } = *taking;
    let is_capture = draft.pre_auth.capture_pending_minor() > 0;
    let outcome_if = |is_done: bool| match is_done && refused.is_none() {
        true => OperationOutcome::Done,
        false => OperationOutcome::Refused,
    };
    match state {
        HoldState::Captured { captured_minor, fee_minor } => {
            draft.step(EventKind::OutcomeKnown, PreAuthStatus::Captured);
            draft.end_operation(outcome_if(is_capture), refused.cloned(), now);
            draft.take(*captured_minor, *fee_minor, now);
        }
        HoldState::Released { .. } | HoldState::Declined(_) | HoldState::NotDone(_) => {
            draft.step(EventKind::OutcomeKnown, PreAuthStatus::Canceled);
            if let HoldState::Declined(failure) | HoldState::NotDone(failure) = state {
                draft.pre_auth.failure = Some(failure.clone());
            }
            draft.end_operation(outcome_if(!is_capture), refused.cloned(), now);
            draft.let_go();
        }
        _ if refused.is_some() => back_to_held(draft, taking),
        HoldState::Processing => draft.note_known(now),
        // That the money is still held does not say that it is not going to be taken.
        HoldState::AwaitsMethod { .. }
        | HoldState::ActionRequired { .. }
        | HoldState::Held { .. }
        | HoldState::Unknown { .. } => {
            draft.note_unanswered(now);
            learn_times(draft, state, now);
            if draft.is_unknown_for_too_long(policy, now) {
                draft.give_to_person();
            }
        }
    }
}

/// What was under way was certainly not done. Who was told that this is not known yet is told that it is held again.
fn back_to_held(draft: &mut Draft<'_>, taking: &Taking<'_>) {
    let was_open = draft.pre_auth.operation.as_ref().is_some_and(super::Operation::had_answer);
    draft.step(EventKind::OutcomeKnown, PreAuthStatus::RequiresCapture);
    draft.pre_auth.reconciling = false;
    learn_times(draft, taking.state, taking.now);
    draft.pre_auth.failure = taking.refused.cloned();
    draft.end_operation(OperationOutcome::Refused, taking.refused.cloned(), taking.now);
    if was_open {
        draft.tell(EventName::PreAuthAuthorized);
    }
}

/// The money is held, and perhaps being released before its time or held for longer.
fn held(draft: &mut Draft<'_>, taking: &Taking<'_>) {
    let Taking { state, refused, now, .. } = *taking;
    let is_releasing = is_releasing(&draft.pre_auth);
    match state {
        HoldState::Captured { captured_minor, fee_minor } => {
            draft.step(EventKind::Capture, PreAuthStatus::Captured);
            draft.end_operation(OperationOutcome::Refused, refused.cloned(), now);
            draft.take(*captured_minor, *fee_minor, now);
        }
        HoldState::Released { expired } => {
            let its_time_came = draft.pre_auth.expires_at.is_some_and(|expires_at| now >= expires_at);
            match *expired || is_releasing || its_time_came {
                true => draft.step(EventKind::ProviderExpiry, PreAuthStatus::Expired),
                false => draft.step(EventKind::Cancel, PreAuthStatus::Canceled),
            }
            let outcome = if is_releasing { OperationOutcome::Done } else { OperationOutcome::Refused };
            draft.end_operation(outcome, None, now);
            draft.let_go();
        }
        HoldState::Declined(failure) | HoldState::NotDone(failure) => {
            draft.step(EventKind::ProviderExpiry, PreAuthStatus::Expired);
            draft.pre_auth.failure = Some(failure.clone());
            draft.end_operation(OperationOutcome::Refused, Some(failure.clone()), now);
            draft.let_go();
        }
        _ => {
            learn_times(draft, state, now);
            still_held(draft, taking);
        }
    }
}

fn is_releasing(pre_auth: &PreAuth) -> bool {
    let kind = pre_auth.operation.as_ref().map(|operation| &operation.kind);
    matches!(kind, Some(OperationKind::Release { .. }))
}

/// It is held as far as is known; what of the open operation?
fn still_held(draft: &mut Draft<'_>, taking: &Taking<'_>) {
    let Taking { state, refused, policy, now } = *taking;
    let is_unknown = matches!(state, HoldState::Unknown { .. });
    if draft.pre_auth.operation.is_none() {
        // Past its end and nobody could say for too long what became of it.
        let over_for = draft.pre_auth.expires_at.map_or_else(Default::default, |expires_at| now.since(expires_at));
        if is_unknown && over_for >= policy.resolve.needs_review_after {
            draft.step(EventKind::OutcomeOpen, PreAuthStatus::Processing);
            draft.give_to_person();
        }
        return;
    }
    if let Some(failure) = refused {
        draft.end_operation(OperationOutcome::Refused, Some(failure.clone()), now);
        return;
    }
    match state {
        HoldState::Held { .. } if !is_releasing(&draft.pre_auth) => {
            draft.end_operation(OperationOutcome::Done, None, now);
        }
        HoldState::Unknown { .. } => {
            draft.note_unanswered(now);
            let is_too_long = draft.is_unknown_for_too_long(policy, now);
            if is_releasing(&draft.pre_auth) || is_too_long {
                draft.step(EventKind::OutcomeOpen, PreAuthStatus::Processing);
            } else {
                // An extension that is not known moves no money: what is held is known.
                draft.pre_auth.reconciling = false;
            }
            if is_too_long {
                draft.give_to_person();
            }
        }
        _ => draft.note_known(now),
    }
}
