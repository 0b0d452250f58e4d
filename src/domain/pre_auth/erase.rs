//! Taking a customer's data out of a pre-auth, as out of a payment: what it was about stays.

use crate::domain::payment::Erasability;
use crate::domain::pre_auth::{OperationKind, PreAuth, ReleaseWhy};
use crate::domain::refund::RefundStatus;
use crate::domain::time::Timestamp;

/// Whether customers' data can be taken out of this pre-auth now.
pub fn erasability(pre_auth: &PreAuth) -> Erasability {
    let refund_is_open = pre_auth.refunds.iter().any(|refund| refund.status == RefundStatus::Pending);
    if !pre_auth.status.is_final() || refund_is_open || pre_auth.due_at.is_some() {
        Erasability::Open
    } else if erase_customer_data(pre_auth, pre_auth.created_at).is_other_than(pre_auth) {
        Erasability::Erasable
    } else {
        Erasability::Nothing
    }
}

/// The pre-auth without its customer's data.
pub fn erase_customer_data(pre_auth: &PreAuth, now: Timestamp) -> PreAuth {
    let mut erased = pre_auth.clone();
    let terms = &mut erased.terms;
    terms.payment_token = None;
    terms.customer_email = None;
    terms.customer_ip = None;
    terms.description = None;
    terms.return_url = None;
    terms.metadata.clear();
    erased.next_action = None;
    erased.refs.client_secret = None;
    for refund in &mut erased.refunds {
        refund.reason = None;
    }
    for operation in &mut erased.operations {
        if let OperationKind::Release { why: ReleaseWhy::Merchant { reason } } = &mut operation.kind {
            *reason = None;
        }
    }
    erased.erased_at = Some(now);
    erased
}

impl PreAuth {
    /// Whether more than the time of an erasure is different.
    fn is_other_than(&self, other: &Self) -> bool {
        let mut same = other.clone();
        same.erased_at = self.erased_at;
        *self != same
    }
}
