//! What a payment becomes. The table of documented transitions is enforced here and nowhere else.

use crate::domain::event::EventName;
use crate::domain::outcome::{ChargeAnswer, ChargeState, Failure};
use crate::domain::payment::resolve::{ResolvePolicy, next_due_at};
use crate::domain::payment::{Attempt, AttemptOutcome, Failover, Payment, PaymentStatus};
use crate::domain::time::Timestamp;

/// What has to be done along with storing the payment's new state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Tell the merchant.
    Tell(EventName),
}

/// A payment's new state and what goes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The new state.
    pub payment: Payment,
    /// What goes with it.
    pub effect: Effect,
}

/// Takes an answer of the channel about the current attempt. `None` when it changes nothing: the payment is final, or
/// needs a person.
pub fn on_answer(before: &Payment, answer: &ChargeAnswer, policy: &ResolvePolicy, now: Timestamp) -> Option<Outcome> {
    if before.status.is_final() || before.status == PaymentStatus::NeedsReview {
        return None;
    }
    let mut payment = before.clone();
    learn(&mut payment, answer, now);
    match &answer.state {
        ChargeState::Success { fee_minor } => succeed(&mut payment, *fee_minor, now),
        ChargeState::Declined(failure) => close(&mut payment, AttemptOutcome::Declined, Some(failure)),
        ChargeState::NotDone(failure) => close(&mut payment, AttemptOutcome::NotDone, Some(failure)),
        ChargeState::Canceled => close(&mut payment, AttemptOutcome::Canceled, None),
        ChargeState::ActionRequired { next_action, expires_at } => {
            payment.reconciling = false;
            payment.known_at = Some(now);
            note_failover(&mut payment, Failover::OutcomeOpen);
            if next_action.is_some() {
                payment.next_action.clone_from(next_action);
                if let Some(attempt) = payment.attempts.last_mut() {
                    attempt.offered_at = Some(now);
                }
            }
            let latest = before.created_at.plus(policy.action_expires);
            payment.expires_at = Some(expires_at.map_or(latest, |provider| provider.min(latest)));
            // A payment that was answered `processing` stays so: the way back to `requires_action` is not documented,
            // and the page to visit is shown all the same.
            if before.status == PaymentStatus::Pending {
                payment.status = PaymentStatus::RequiresAction;
            }
        }
        ChargeState::Processing => {
            payment.status = PaymentStatus::Processing;
            payment.reconciling = false;
            payment.known_at = Some(now);
            note_failover(&mut payment, Failover::OutcomeOpen);
        }
        // Whoever asks about it deals with money that came otherwise than it was asked for; until then nothing is known.
        ChargeState::Unknown { .. } | ChargeState::Stray { .. } => stay_unknown(&mut payment, policy, now),
    }
    if before.status != PaymentStatus::Pending {
        payment.resolve_tries = payment.resolve_tries.saturating_add(1);
    }
    Some(finish(before, payment, policy, now))
}

/// The process that carried this payment is gone: whether its request was ever sent is not known.
pub fn on_recovery(before: &Payment, policy: &ResolvePolicy, now: Timestamp) -> Option<Outcome> {
    if before.status != PaymentStatus::Pending {
        return None;
    }
    let mut payment = before.clone();
    payment.status = PaymentStatus::Processing;
    payment.reconciling = true;
    note_unanswered(&mut payment, now);
    Some(finish(before, payment, policy, now))
}

/// The merchant gives the payment up. The channel has to close it before it is `canceled`.
///
/// # Errors
/// The payment's status, when it can't be canceled in it.
pub fn on_cancel_request(before: &Payment, policy: &ResolvePolicy, now: Timestamp) -> Result<Outcome, PaymentStatus> {
    match before.status {
        PaymentStatus::RequiresAction | PaymentStatus::Processing => {}
        other => return Err(other),
    }
    let mut payment = before.clone();
    payment.cancel_requested = true;
    payment.resolve_tries = 0;
    Ok(finish(before, payment, policy, now))
}

/// Ends the current attempt as certainly not charged and begins the next one, in one step.
pub fn begin_attempt(before: &Payment, answer: &ChargeAnswer, next: Attempt, now: Timestamp) -> Option<Payment> {
    let (outcome, failure) = match &answer.state {
        ChargeState::Declined(failure) => (AttemptOutcome::Declined, failure),
        ChargeState::NotDone(failure) => (AttemptOutcome::NotDone, failure),
        _ => return None,
    };
    if before.status != PaymentStatus::Pending {
        return None;
    }
    let mut payment = before.clone();
    learn(&mut payment, answer, now);
    if let Some(attempt) = payment.attempts.last_mut() {
        attempt.outcome = Some(outcome);
        attempt.failure = Some(failure.clone());
        attempt.failover = Some(Failover::Asked);
    }
    payment.attempts.push(next);
    payment.updated_at = now;
    Some(payment)
}

/// Nothing was learned. What nobody has known anything about for long needs a person; a payer's payment by way of
/// `processing`, as documented.
fn stay_unknown(payment: &mut Payment, policy: &ResolvePolicy, now: Timestamp) {
    payment.reconciling = true;
    let unknown_for = now.since(payment.known_at.unwrap_or(payment.created_at));
    let is_too_long = unknown_for >= policy.needs_review_after;
    match payment.status {
        PaymentStatus::Pending => {
            note_unanswered(payment, now);
            payment.status = PaymentStatus::Processing;
        }
        PaymentStatus::RequiresAction if is_too_long => payment.status = PaymentStatus::Processing,
        PaymentStatus::Processing if is_too_long => payment.status = PaymentStatus::NeedsReview,
        _ => {}
    }
}

fn note_unanswered(payment: &mut Payment, now: Timestamp) {
    if let Some(attempt) = payment.attempts.last_mut() {
        attempt.unanswered_at = Some(now);
    }
    note_failover(payment, Failover::OutcomeUnknown);
}

/// Why no other channel is asked; what was the reason first stays.
fn note_failover(payment: &mut Payment, failover: Failover) {
    if let Some(attempt) = payment.attempts.last_mut() {
        attempt.failover.get_or_insert(failover);
    }
}

pub(super) fn learn(payment: &mut Payment, answer: &ChargeAnswer, now: Timestamp) {
    let Some(attempt) = payment.attempts.last_mut() else { return };
    attempt.refs.learn(&answer.refs);
    if answer.sent_money {
        attempt.money_sent_at = Some(now);
    }
}

pub(super) fn succeed(payment: &mut Payment, fee_minor: Option<i64>, now: Timestamp) {
    payment.status = PaymentStatus::Success;
    payment.paid_at = Some(now);
    if fee_minor.is_some() {
        payment.fee_minor = fee_minor;
        payment.fee_reported = true;
    }
    if let Some(attempt) = payment.attempts.last_mut() {
        attempt.outcome = Some(AttemptOutcome::Success);
    }
}

/// The attempt is over and nothing was charged. What the payer or the merchant gave up is `canceled`, the rest `failed`.
pub(super) fn close(payment: &mut Payment, outcome: AttemptOutcome, failure: Option<&Failure>) {
    // The payer had something to act on, whether that was known at once or only later.
    let waited = payment.status == PaymentStatus::RequiresAction || payment.next_action.is_some();
    let given_up = payment.cancel_requested || (waited && outcome == AttemptOutcome::Canceled);
    let given_up = given_up && payment.status != PaymentStatus::Pending;
    payment.status = if given_up { PaymentStatus::Canceled } else { PaymentStatus::Failed };
    if let Some(attempt) = payment.attempts.last_mut() {
        attempt.outcome = Some(outcome);
        attempt.failure = failure.cloned().or_else(|| (!given_up).then(closed_by_channel));
    }
}

fn closed_by_channel() -> Failure {
    let message = "The channel closed the payment before anything was charged.";
    Failure::new("closed_by_channel", message, crate::domain::outcome::DeclineScope::Unknown)
}

/// What follows from the new state alone: when to look again, what to forget, whom to tell.
pub(super) fn finish(before: &Payment, mut payment: Payment, policy: &ResolvePolicy, now: Timestamp) -> Outcome {
    if payment.status.is_final() {
        payment.reconciling = false;
        payment.next_action = None;
        payment.expires_at = None;
        payment.terms.payment_token = None;
    }
    if payment.status.frees_order_no() {
        payment.fee_minor = None;
    }
    payment.updated_at = now;
    payment.due_at = next_due_at(&payment, policy, now);
    let effect = match payment.status {
        status if status == before.status => Effect::None,
        PaymentStatus::Success => Effect::Tell(EventName::PaymentSuccess),
        PaymentStatus::Failed => Effect::Tell(EventName::PaymentFailed),
        PaymentStatus::Canceled => Effect::Tell(EventName::PaymentCanceled),
        PaymentStatus::RequiresAction => Effect::Tell(EventName::PaymentRequiresAction),
        PaymentStatus::Pending | PaymentStatus::Processing | PaymentStatus::NeedsReview => Effect::None,
    };
    if effect != Effect::None {
        payment.event_count += 1;
    }
    Outcome { payment, effect }
}
