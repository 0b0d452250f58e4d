//! Claims of payers' banks to have money back. The provider tells of them, and the merchant is told: once for each claim.

use serde::{Deserialize, Serialize};

use crate::domain::event::EventName;
use crate::domain::payment::{Effect, Outcome, Payment};
use crate::domain::time::Timestamp;

/// Claims about one payment that are told; there is hardly ever a second one.
pub const DISPUTES_MAX: usize = 32;

/// A claim of the payer's bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// The provider's number of it.
    pub dispute_no: String,
    /// When it was heard of first.
    pub seen_at: Timestamp,
}

/// Notes a claim. `None` when it is known, or there are too many.
pub fn on_dispute(before: &Payment, dispute_no: &str, now: Timestamp) -> Option<Outcome> {
    let is_known = before.disputes.iter().any(|dispute| dispute.dispute_no == dispute_no);
    if is_known || before.disputes.len() >= DISPUTES_MAX {
        return None;
    }
    let mut payment = before.clone();
    payment.disputes.push(Dispute { dispute_no: dispute_no.to_owned(), seen_at: now });
    payment.event_count += 1;
    payment.updated_at = now;
    Some(Outcome { payment, effect: Effect::Tell(EventName::PaymentDisputed) })
}
