//! A payment: what it is, what it may become, and what has to be done next.

mod dispute;
mod erase;
mod failover;
mod late;
mod refund;
mod resolve;
mod review;
#[cfg(test)]
mod tests;
mod transition;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use dispute::{DISPUTES_MAX, Dispute, on_dispute};
pub use erase::{Erasability, erasability, erase_customer_data};
pub use failover::{FAILOVERS_MAX, Failover, FailoverBounds, failure_allows, may_ask_another};
pub use late::{NewRefund, StrayRules, on_stray};
pub use refund::{RefundRejection, begin_refund, on_refund_answer};
pub use resolve::{ResolvePolicy, next_due_at};
pub(in crate::domain) use review::said_by_person;
pub use review::{ReviewVerdict, on_refund_review, on_review};
pub use transition::{Effect, Outcome, begin_attempt, on_answer, on_cancel_request, on_recovery};

use crate::domain::ids::{ChannelName, MerchantId, PaymentNo, RefundNo};
use crate::domain::money::Money;
use crate::domain::outcome::{Failure, NextAction, ProviderRefs};
pub use crate::domain::refund::{Refund, RefundStatus};
use crate::domain::routing::DecisionRecord;
use crate::domain::stray::{Stray, StrayAction};
use crate::domain::time::Timestamp;

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// The intent is stored, the channel is being asked.
    Pending,
    /// The payer must act.
    RequiresAction,
    /// The channel works on it, or the outcome is unknown.
    Processing,
    /// Charged.
    Success,
    /// Certainly not charged, and the provider's object is closed.
    Failed,
    /// Given up before charging, and the provider's object is closed.
    Canceled,
    /// Could not be resolved; a person has to look.
    NeedsReview,
}

impl PaymentStatus {
    /// All statuses, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::RequiresAction,
        Self::Processing,
        Self::Success,
        Self::Failed,
        Self::Canceled,
        Self::NeedsReview,
    ];

    /// The status as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::RequiresAction => "requires_action",
            Self::Processing => "processing",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::NeedsReview => "needs_review",
        }
    }

    /// The status that is written `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing of its own accord changes it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Canceled)
    }

    /// Whether the order number is free for another payment.
    pub const fn frees_order_no(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled)
    }
}

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// Charged.
    Success,
    /// Refused by the channel, and closed there.
    Declined,
    /// Certainly not done.
    NotDone,
    /// Closed at the channel before anything was charged.
    Canceled,
}

impl AttemptOutcome {
    /// The outcome as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Declined => "declined",
            Self::NotDone => "not_done",
            Self::Canceled => "canceled",
        }
    }
}

/// One try of a payment on one channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The channel.
    pub channel: ChannelName,
    /// Identifies the attempt to the provider.
    pub provider_key: String,
    /// Why this channel.
    pub decision: DecisionRecord,
    /// When it was about to be sent.
    pub sent_at: Timestamp,
    /// The provider's names for it.
    #[serde(default)]
    pub refs: ProviderRefs,
    /// When it became clear that its request has no answer: by then it was sent, or never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered_at: Option<Timestamp>,
    /// When the payer last got something to act on, such as a QR code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_at: Option<Timestamp>,
    /// When a question about it last sent what may move money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money_sent_at: Option<Timestamp>,
    /// What came of it; `None` while that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether another channel was asked after it, or why not; `None` for one that charged, or is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
}

/// What the merchant asked for, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentTerms {
    /// The merchant's number.
    pub order_no: String,
    /// What the payer pays.
    pub money: Money,
    /// The payer's country, ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The country of the payer's card, ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card_country: Option<String>,
    /// The method asked for; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The channel asked for; routed when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_channel: Option<ChannelName>,
    /// The provider's token for the payer's means of payment. Dropped when the payment is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_token: Option<String>,
    /// For receipts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_email: Option<String>,
    /// The payer's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_ip: Option<String>,
    /// Shown to the payer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The merchant's own values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Where the payer returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
}

/// A payment as it is stored. Its row holds everything about it: attempts with their decisions, and refunds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    /// Our number.
    pub payment_no: PaymentNo,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// What was asked for.
    pub terms: PaymentTerms,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Whether the outcome is unknown and being asked for.
    #[serde(default)]
    pub reconciling: bool,
    /// Whether the merchant gave it up; the channel is then asked to close it.
    #[serde(default)]
    pub cancel_requested: bool,
    /// Its tries, the last one current. Never empty.
    pub attempts: Vec<Attempt>,
    /// Money on its way back or given back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refunds: Vec<Refund>,
    /// Money that came otherwise than it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Stray>,
    /// Claims of the payer's bank.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disputes: Vec<Dispute>,
    /// What the payer has to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_action: Option<NextAction>,
    /// What the channel takes, in minor units of the payment's currency: its own figure once it gave one, else ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_minor: Option<i64>,
    /// Whether that is the channel's own figure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fee_reported: bool,
    /// Questions asked about the outcome so far.
    #[serde(default)]
    pub resolve_tries: u32,
    /// When the channel last said where it stands; `None` when it never has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<Timestamp>,
    /// Events told so far; the number of the last one.
    #[serde(default)]
    pub event_count: u64,
    /// When it has to be looked at again; there is a due entry for exactly this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// When the payer's time to act ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<Timestamp>,
    /// When the customer's data was last erased from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
}

impl Payment {
    /// The current attempt.
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        if self.status == PaymentStatus::Failed {
            self.current().and_then(|attempt| attempt.failure.as_ref())
        } else {
            None
        }
    }

    /// Minor units given back.
    pub fn refunded_minor(&self) -> i64 {
        self.refunds_sum(|status| status == RefundStatus::Success)
    }

    /// Minor units that may still be given back: charged and come otherwise, less what went back, less what is on its way
    /// or unknown.
    pub fn refundable_minor(&self) -> i64 {
        let charged = if self.status == PaymentStatus::Success { self.terms.money.amount_minor } else { 0 };
        charged + self.strayed_minor() - self.refunds_sum(|status| status != RefundStatus::Failed)
    }

    /// Minor units that came otherwise than they were asked for, and can be given back.
    pub fn strayed_minor(&self) -> i64 {
        self.strays.iter().map(Stray::refundable_minor).sum()
    }

    /// The attempt whose money a refund gives back, and how many minor units that attempt has brought.
    pub fn source_of(&self, refund_no: &RefundNo) -> Option<(&Attempt, i64)> {
        let is_source = |stray: &&Stray| matches!(&stray.action, StrayAction::Refunding(of) if of == refund_no);
        let any = || self.strays.last().filter(|_| self.status != PaymentStatus::Success);
        let last = self.attempts.len().checked_sub(1)?;
        let place = self.strays.iter().find(is_source).or_else(any).map_or(last, |stray| stray.attempt);
        let attempt = self.attempts.get(place)?;
        let is_charged = self.status == PaymentStatus::Success && place == last;
        let charged = if is_charged { self.terms.money.amount_minor } else { 0 };
        let strayed = self.strays.iter().filter(|stray| stray.attempt == place).map(Stray::refundable_minor);
        Some((attempt, strayed.fold(charged, i64::saturating_add)))
    }

    fn refunds_sum(&self, counts: impl Fn(RefundStatus) -> bool) -> i64 {
        self.refunds.iter().filter(|refund| counts(refund.status)).map(|refund| refund.amount_minor).sum()
    }
}
