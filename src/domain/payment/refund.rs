//! Refunds of a payment.

use crate::domain::ids::RefundNo;
use crate::domain::outcome::RefundAnswer;
use crate::domain::payment::resolve::{ResolvePolicy, next_due_at};
use crate::domain::payment::transition::{Effect, Outcome};
use crate::domain::payment::{Payment, PaymentStatus};
use crate::domain::refund::{Refund, RefundStatus, answered};
use crate::domain::stray::refund_failed;
use crate::domain::time::Timestamp;

/// Why a refund of a payment can't begin.
pub type RefundRejection = crate::domain::refund::RefundRejection<PaymentStatus>;

/// Reserves the amount of `refund`. The state is checked first, then the amount.
///
/// # Errors
/// [`RefundRejection`]; nothing is reserved then.
pub fn begin_refund(
    before: &Payment,
    refund: Refund,
    refunds_max: usize,
    policy: &ResolvePolicy,
    now: Timestamp,
) -> Result<Payment, RefundRejection> {
    if before.status != PaymentStatus::Success && before.strayed_minor() == 0 {
        return Err(RefundRejection::State(before.status));
    }
    let refundable_minor = before.refundable_minor();
    if refund.amount_minor < 1 || refund.amount_minor > refundable_minor {
        return Err(RefundRejection::TooMuch { refundable_minor });
    }
    if before.refunds.len() >= refunds_max {
        return Err(RefundRejection::TooMany);
    }
    let mut payment = before.clone();
    payment.refunds.push(refund);
    payment.updated_at = now;
    payment.due_at = next_due_at(&payment, policy, now);
    Ok(payment)
}

/// Takes an answer of the channel about a refund. `None` when it changes nothing: there is no such refund, or it is
/// final.
pub fn on_refund_answer(
    before: &Payment,
    refund_no: &RefundNo,
    answer: &RefundAnswer,
    policy: &ResolvePolicy,
    now: Timestamp,
) -> Option<Outcome> {
    let mut payment = before.clone();
    let refund = payment.refunds.iter_mut().find(|refund| refund.refund_no == *refund_no)?;
    if refund.status != RefundStatus::Pending {
        return None;
    }
    let effect = answered(refund, answer, policy, now).map_or(Effect::None, Effect::Tell);
    if refund.status == RefundStatus::Failed {
        refund_failed(&mut payment.strays, refund_no);
    }
    payment.updated_at = now;
    payment.due_at = next_due_at(&payment, policy, now);
    if effect != Effect::None {
        payment.event_count += 1;
    }
    Some(Outcome { payment, effect })
}
