//! Money given back: an operation that reserves its amount before it is sent.

use serde::{Deserialize, Serialize};

use crate::domain::event::EventName;
use crate::domain::ids::RefundNo;
use crate::domain::outcome::{Failure, RefundAnswer, RefundState};
use crate::domain::payment::resolve::{ResolvePolicy, next_due_at};
use crate::domain::payment::transition::{Effect, Outcome};
use crate::domain::payment::{Payment, PaymentStatus};
use crate::domain::time::Timestamp;

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// Sent or about to be; its amount is reserved.
    Pending,
    /// The money went back.
    Success,
    /// Certainly not done; the reservation is given back.
    Failed,
    /// Could not be resolved; a person has to look. The reservation stays.
    NeedsReview,
}

impl RefundStatus {
    /// The status as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::NeedsReview => "needs_review",
        }
    }
}

/// One refund of a payment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refund {
    /// Our number.
    pub refund_no: RefundNo,
    /// Minor units of the payment's currency.
    pub amount_minor: i64,
    /// Where it stands.
    pub status: RefundStatus,
    /// The merchant's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Identifies it to the provider.
    pub provider_key: String,
    /// The provider's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_refund_no: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Questions asked about its outcome so far.
    #[serde(default)]
    pub resolve_tries: u32,
    /// When it became clear that its first request has no answer: by then it was sent, or never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered_at: Option<Timestamp>,
    /// When the channel last said that it works on it; `None` when it never has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Why a refund can't begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundRejection {
    /// The payment is not charged.
    State(PaymentStatus),
    /// More than is left.
    TooMuch {
        /// What is left, in minor units.
        refundable_minor: i64,
    },
    /// The payment has as many refunds as it may have.
    TooMany,
}

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
    if before.status != PaymentStatus::Success {
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
    if answer.channel_refund_no.is_some() {
        refund.channel_refund_no.clone_from(&answer.channel_refund_no);
    }
    let effect = match &answer.state {
        RefundState::Success => {
            refund.status = RefundStatus::Success;
            Effect::Tell(EventName::RefundSuccess)
        }
        RefundState::Failed(failure) => {
            refund.status = RefundStatus::Failed;
            refund.failure = Some(failure.clone());
            Effect::Tell(EventName::RefundFailed)
        }
        RefundState::Pending => {
            refund.resolve_tries = refund.resolve_tries.saturating_add(1);
            refund.known_at = Some(now);
            Effect::None
        }
        RefundState::Unknown { .. } => {
            refund.unanswered_at.get_or_insert(now);
            refund.resolve_tries = refund.resolve_tries.saturating_add(1);
            let unknown_for = now.since(refund.known_at.unwrap_or(refund.created_at));
            if unknown_for >= policy.needs_review_after {
                refund.status = RefundStatus::NeedsReview;
            }
            Effect::None
        }
    };
    refund.updated_at = now;
    payment.updated_at = now;
    payment.due_at = next_due_at(&payment, policy, now);
    if effect != Effect::None {
        payment.event_count += 1;
    }
    Some(Outcome { payment, effect })
}
