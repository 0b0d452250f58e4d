//! Money given back, of whatever it was taken with: an operation that reserves its amount before it is sent.

use serde::{Deserialize, Serialize};

use crate::domain::event::EventName;
use crate::domain::ids::RefundNo;
use crate::domain::outcome::{Failure, RefundAnswer, RefundState};
use crate::domain::payment::{ResolvePolicy, ReviewVerdict, said_by_person};
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

/// One refund of a payment or of a captured pre-auth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refund {
    /// Our number.
    pub refund_no: RefundNo,
    /// Minor units of the currency in which the money was taken.
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

/// Why a refund can't begin. `S` is the status of what the money was taken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundRejection<S> {
    /// No money was taken.
    State(S),
    /// More than is left.
    TooMuch {
        /// What is left, in minor units.
        refundable_minor: i64,
    },
    /// It has as many refunds as it may have.
    TooMany,
}

/// Takes a person's word about a refund, and says whom to tell; one that failed gives its reservation back. `None` when it
/// does not wait for one.
pub fn reviewed(refund: &mut Refund, verdict: ReviewVerdict, now: Timestamp) -> Option<EventName> {
    if refund.status != RefundStatus::NeedsReview {
        return None;
    }
    let name = match verdict {
        ReviewVerdict::Success => {
            refund.status = RefundStatus::Success;
            EventName::RefundSuccess
        }
        ReviewVerdict::Failed => {
            refund.status = RefundStatus::Failed;
            refund.failure = Some(said_by_person("Somebody found that nothing was given back."));
            EventName::RefundFailed
        }
    };
    refund.updated_at = now;
    Some(name)
}

/// Takes an answer of the channel about a refund, and says whom to tell. A refund that is not pending stays as it is.
pub fn answered(
    refund: &mut Refund,
    answer: &RefundAnswer,
    policy: &ResolvePolicy,
    now: Timestamp,
) -> Option<EventName> {
    if refund.status != RefundStatus::Pending {
        return None;
    }
    if answer.channel_refund_no.is_some() {
        refund.channel_refund_no.clone_from(&answer.channel_refund_no);
    }
    refund.updated_at = now;
    match &answer.state {
        RefundState::Success => {
            refund.status = RefundStatus::Success;
            Some(EventName::RefundSuccess)
        }
        RefundState::Failed(failure) => {
            refund.status = RefundStatus::Failed;
            refund.failure = Some(failure.clone());
            Some(EventName::RefundFailed)
        }
        RefundState::Pending => {
            refund.resolve_tries = refund.resolve_tries.saturating_add(1);
            refund.known_at = Some(now);
            None
        }
        RefundState::Unknown { .. } => {
            refund.unanswered_at.get_or_insert(now);
            refund.resolve_tries = refund.resolve_tries.saturating_add(1);
            let unknown_for = now.since(refund.known_at.unwrap_or(refund.created_at));
            if unknown_for >= policy.needs_review_after {
                refund.status = RefundStatus::NeedsReview;
            }
            None
        }
    }
}
