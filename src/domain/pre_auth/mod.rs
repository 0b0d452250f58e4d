//! A pre-auth: money that is held first and taken later, or let go. What it is, what it may become, and what belongs to a
//! change of it.

mod begin;
mod change;
mod draft;
mod due;
mod erase;
mod expiry;
mod operation;
mod policy;
mod refund;
mod review;
mod status;
mod stray;
#[cfg(test)]
mod tests;
mod transition;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use begin::{Intent, OPERATIONS_MAX, begin, begin_capture, begin_release, on_recovery};
pub use change::{Alert, Change, Dispatch, Rejection, ReviewVerdict, Sending};
pub use due::{next_due_at, on_due, on_hint};
pub use erase::{erasability, erase_customer_data};
pub use operation::{EndedOperation, Operation, OperationKind, OperationOutcome, ReleaseWhy};
pub use policy::{OnExpiry, PreAuthPolicy};
pub use refund::{begin_refund, on_refund_answer, on_refund_review};
pub use review::on_review;
pub use status::{EventKind, PreAuthStatus, table};
pub use stray::refund_strays;
pub use transition::on_answer;

use crate::domain::ids::{ChannelName, MerchantId, PreAuthNo};
use crate::domain::money::Money;
use crate::domain::outcome::{Failure, NextAction, ProviderRefs};
use crate::domain::refund::{Refund, RefundStatus};
use crate::domain::routing::DecisionRecord;
use crate::domain::stray::{Stray, StrayAction};
use crate::domain::time::Timestamp;

/// What the merchant asked for, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreAuthTerms {
    /// The merchant's number.
    pub order_no: String,
    /// How much is to be held.
    pub money: Money,
    /// The payer's country, ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The method asked for; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The channel asked for; routed when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_channel: Option<ChannelName>,
    /// The provider's token for the payer's means of payment. Dropped when the money is held, or the pre-auth is final.
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
    /// The merchant's own number of the pre-auth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// A pre-auth as it is stored. Its row holds everything about it. Of the amounts none ever falls, and at every moment
/// `captured + capture pending + released ≤ authorized` and `refunded + pending ≤ captured`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreAuth {
    /// Our number.
    pub pre_auth_no: PreAuthNo,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// What was asked for.
    pub terms: PreAuthTerms,
    /// The channel. There is only one: what a payer is asked for belongs to one provider.
    pub channel: ChannelName,
    /// Why this channel.
    pub decision: DecisionRecord,
    /// Identifies the hold to the provider.
    pub provider_key: String,
    /// Where it stands.
    pub status: PreAuthStatus,
    /// Whether the outcome is unknown and being asked for.
    #[serde(default)]
    pub reconciling: bool,
    /// Given up before anything was held, and why; the channel is asked to close it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<ReleaseWhy>,
    /// The operation that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Those that are over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<EndedOperation>,
    /// Operations begun so far; the number of the last one.
    #[serde(default)]
    pub operation_count: u32,
    /// The provider's names for it.
    #[serde(default)]
    pub refs: ProviderRefs,
    /// What the payer has to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_action: Option<NextAction>,
    /// When the payer last got something to act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_at: Option<Timestamp>,
    /// When a question about it last sent what may move money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money_sent_at: Option<Timestamp>,
    /// Minor units that were held.
    #[serde(default)]
    pub authorized_minor: i64,
    /// Minor units that were taken.
    #[serde(default)]
    pub captured_minor: i64,
    /// Minor units that were let go.
    #[serde(default)]
    pub released_minor: i64,
    /// What the channel took for what was taken, in minor units of the pre-auth's currency: its own figure, once it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_fee_minor: Option<i64>,
    /// Money on its way back or given back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refunds: Vec<Refund>,
    /// Why it failed, or was declined last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Money that came in another way than it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Stray>,
    /// When the payer's time to act ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act_by: Option<Timestamp>,
    /// When the provider lets go of the money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Until when capturing is sure to work, where the provider says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub honor_until: Option<Timestamp>,
    /// Whether the merchant was told that it expires soon.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expiring_told: bool,
    /// Whether its provider has said after its end that it holds the money on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_held_on: bool,
    /// Events told so far; the number of the last one.
    #[serde(default)]
    pub event_count: u64,
    /// When it has to be looked at again; there is a due entry for exactly this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When the money was first held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorized_at: Option<Timestamp>,
    /// When it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_at: Option<Timestamp>,
    /// When the customer's data was last erased from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
}

impl PreAuth {
    /// Minor units that an open capture has reserved.
    pub fn capture_pending_minor(&self) -> i64 {
        match self.operation.as_ref().map(|operation| &operation.kind) {
            Some(OperationKind::Capture { money_minor }) => *money_minor,
            _ => 0,
        }
    }

    /// Which operation is open; 0 for none. An answer is about what was open when its channel was asked.
    pub fn operation_number(&self) -> u32 {
        self.operation.as_ref().map_or(0, |operation| operation.number)
    }

    /// The number of the operation that begins next.
    pub const fn next_operation_number(&self) -> u32 {
        self.operation_count.saturating_add(1)
    }

    /// What the channel took for what was captured, in minor units: its own figure where it gave one, else ours. Ours was made
    /// for all that was asked for, so that of a part it is not known. `None` also while nothing was captured.
    pub fn fee_minor(&self) -> Option<i64> {
        if self.captured_minor == 0 {
            return None;
        }
        let is_all = self.captured_minor == self.terms.money.amount_minor;
        let estimate = || self.decision.chosen_channel().and_then(|verdict| verdict.fee_minor).filter(|_| is_all);
        self.reported_fee_minor.or_else(estimate)
    }

    /// Minor units given back of what was taken.
    pub fn refunded_minor(&self) -> i64 {
        self.refunds_sum(|status| status == RefundStatus::Success)
    }

    /// Minor units that may still be given back: captured, less what went back, less what is on its way or unknown.
    pub fn refundable_minor(&self) -> i64 {
        if self.status != PreAuthStatus::Captured {
            return 0;
        }
        self.captured_minor - self.refunds_sum(|status| status != RefundStatus::Failed)
    }

    /// Money that came after the end goes back beside what was taken, and is not counted with it.
    fn refunds_sum(&self, counts: impl Fn(RefundStatus) -> bool) -> i64 {
        let counted = self.refunds.iter().filter(|refund| counts(refund.status) && !self.is_of_stray(refund));
        counted.map(|refund| refund.amount_minor).sum()
    }

    fn is_of_stray(&self, refund: &Refund) -> bool {
        let of_it = |action: &StrayAction| matches!(action, StrayAction::Refunding(no) if *no == refund.refund_no);
        self.strays.iter().any(|stray| of_it(&stray.action))
    }

    /// Whether its amounts agree with each other, and none has fallen since `before`.
    fn is_balanced_after(&self, before: &Self) -> bool {
        let spent_minor = self.captured_minor + self.capture_pending_minor() + self.released_minor;
        let back_minor = self.refunds_sum(|status| status != RefundStatus::Failed);
        let amounts = |pre_auth: &Self| {
            [
                pre_auth.authorized_minor,
                pre_auth.captured_minor,
                pre_auth.released_minor,
                pre_auth.refunded_minor(),
                i64::from(pre_auth.operation_count),
                i64::try_from(pre_auth.event_count).unwrap_or(i64::MAX),
            ]
        };
        let none_fell =
            amounts(before).into_iter().zip(amounts(self)).all(|(before, now)| 0 <= before && before <= now);
        none_fell && spent_minor <= self.authorized_minor && back_minor <= self.captured_minor
    }
}
