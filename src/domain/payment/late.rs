//! Money that came otherwise than it was asked for: late, in part, in excess, or for a payment that is over. A status that
//! is final stays as it is; the money is written down once, however often it is told, and a policy says what becomes of it.

use crate::domain::ids::RefundNo;
use crate::domain::money::Money;
use crate::domain::outcome::{ChargeAnswer, ChargeState, DeclineScope, Failure, StrayKind};
use crate::domain::payment::resolve::ResolvePolicy;
use crate::domain::payment::transition::{Outcome, close, finish, learn, succeed};
use crate::domain::payment::{AttemptOutcome, Payment, PaymentStatus};
use crate::domain::refund::{Refund, RefundStatus};
use crate::domain::stray::{Stray, StrayAction, StrayPolicy};
use crate::domain::time::Timestamp;

/// Why such money is given back, as it stands on the refund.
const REFUND_REASON: &str = "late_success";

/// The names of a refund that may have to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRefund {
    /// Its number.
    pub refund_no: RefundNo,
    /// Identifies it to the provider.
    pub provider_key: String,
}

/// What is done about such money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrayRules {
    /// What becomes of it.
    pub policy: StrayPolicy,
    /// Refunds of one payment at most; beyond them somebody has to look.
    pub refunds_max: usize,
}

/// All that came with one attempt.
struct Arrival {
    kind: StrayKind,
    total_minor: Option<i64>,
}

impl Arrival {
    /// `None` when the answer says nothing of money that came.
    fn of(state: &ChargeState, asked: Money) -> Option<Self> {
        match state {
            ChargeState::Success { .. } => Some(Self { kind: StrayKind::Late, total_minor: Some(asked.amount_minor) }),
            ChargeState::Stray { kind, received } => {
                let comparable = received.filter(|money| money.currency == asked.currency);
                Some(Self { kind: *kind, total_minor: comparable.map(|money| money.amount_minor) })
            }
            _ => None,
        }
    }
}

/// Takes an answer about the attempt at `place`, counted from 0, that says that money came which was not asked for so.
/// `None` when it changes nothing: all of it is known, or it is none.
pub fn on_stray(
    before: &Payment,
    place: usize,
    answer: &ChargeAnswer,
    rules: StrayRules,
    names: NewRefund,
    policy: &ResolvePolicy,
    now: Timestamp,
) -> Option<Outcome> {
    let asked = before.terms.money;
    let arrival = Arrival::of(&answer.state, asked)?;
    before.attempts.get(place)?;
    let is_open = place + 1 == before.attempts.len() && !before.status.is_final();
    let mut payment = before.clone();
    if is_open {
        let is_waiting = matches!(before.status, PaymentStatus::RequiresAction | PaymentStatus::Processing);
        if !is_waiting || !matches!(answer.state, ChargeState::Stray { .. }) {
            return None;
        }
        learn(&mut payment, answer, now);
        let is_accepted = rules.policy == StrayPolicy::Accept
            && arrival.kind == StrayKind::Late
            && arrival.total_minor == Some(asked.amount_minor);
        if is_accepted || arrival.kind == StrayKind::Over {
            succeed(&mut payment, None, now);
        } else {
            close(&mut payment, AttemptOutcome::Declined, Some(&failure_of(arrival.kind)));
        }
        if is_accepted {
            payment.strays.push(Stray {
                kind: arrival.kind,
                received_minor: arrival.total_minor,
                attempt: place,
                seen_at: now,
                action: StrayAction::Accepted,
            });
            return Some(finish(before, payment, policy, now));
        }
    }
    let is_new = write_down(&mut payment, place, &arrival, rules, names, now);
    (is_new || is_open).then(|| finish(before, payment, policy, now))
}

/// Writes down what of it is not known yet, and begins to give it back if that is the rule. Says whether there was any.
fn write_down(
    payment: &mut Payment,
    place: usize,
    arrival: &Arrival,
    rules: StrayRules,
    names: NewRefund,
    now: Timestamp,
) -> bool {
    let attempt = payment.attempts.get(place);
    let is_charged = attempt.is_some_and(|attempt| attempt.outcome == Some(AttemptOutcome::Success));
    let own_minor = if is_charged { payment.terms.money.amount_minor } else { 0 };
    let mut known_minor = own_minor;
    let mut is_first = true;
    for stray in payment.strays.iter().filter(|stray| stray.attempt == place) {
        known_minor = known_minor.saturating_add(stray.refundable_minor());
        is_first = false;
    }
    let received_minor = arrival.total_minor.map(|total| total.saturating_sub(known_minor));
    let is_new = match received_minor {
        Some(received) => received > 0,
        None => is_first && (!is_charged || arrival.kind == StrayKind::Over),
    };
    if !is_new {
        return false;
    }
    let may_refund = rules.policy != StrayPolicy::Report && payment.refunds.len() < rules.refunds_max;
    let action = match received_minor.filter(|_| may_refund) {
        Some(amount_minor) => {
            let refund_no = names.refund_no.clone();
            payment.refunds.push(refund_of(amount_minor, names, now));
            StrayAction::Refunding(refund_no)
        }
        None => StrayAction::Reported,
    };
    let kind = if is_charged { StrayKind::Over } else { arrival.kind };
    payment.strays.push(Stray { kind, received_minor, attempt: place, seen_at: now, action });
    true
}

fn refund_of(amount_minor: i64, names: NewRefund, now: Timestamp) -> Refund {
    Refund {
        refund_no: names.refund_no,
        amount_minor,
        status: RefundStatus::Pending,
        reason: Some(String::from(REFUND_REASON)),
        provider_key: names.provider_key,
        channel_refund_no: None,
        failure: None,
        resolve_tries: 0,
        unanswered_at: None,
        known_at: None,
        created_at: now,
        updated_at: now,
    }
}

fn failure_of(kind: StrayKind) -> Failure {
    let (code, message) = match kind {
        StrayKind::Partial => ("partially_paid", "Less was paid than was asked for."),
        StrayKind::Late | StrayKind::Over => ("paid_late", "It was paid after the time for it was over."),
    };
    Failure::new(code, message, DeclineScope::Customer)
}
