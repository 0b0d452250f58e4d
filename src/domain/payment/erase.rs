//! Taking a customer's data out of a payment. What the payment was about (numbers, amounts, states, decisions) stays, so
//! that sums and records go on being right.

use crate::domain::payment::{Payment, RefundStatus};
use crate::domain::time::Timestamp;

/// Whether customers' data can be taken out of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erasability {
    /// It can.
    Erasable,
    /// There is none in it.
    Nothing,
    /// Not before the payment is final and its refunds are done: until then its provider may have to be told again what
    /// it was told first.
    Open,
}

/// Whether customers' data can be taken out of this payment now.
pub fn erasability(payment: &Payment) -> Erasability {
    let refund_is_open = payment.refunds.iter().any(|refund| refund.status == RefundStatus::Pending);
    if !payment.status.is_final() || refund_is_open || payment.due_at.is_some() {
        Erasability::Open
    } else if has_customer_data(payment) {
        Erasability::Erasable
    } else {
        Erasability::Nothing
    }
}

fn has_customer_data(payment: &Payment) -> bool {
    let terms = &payment.terms;
    let texts =
        [&terms.payment_token, &terms.customer_email, &terms.customer_ip, &terms.description, &terms.return_url];
    texts.into_iter().any(Option::is_some)
        || !terms.metadata.is_empty()
        || payment.next_action.is_some()
        || payment.attempts.iter().any(|attempt| attempt.refs.client_secret.is_some())
        || payment.refunds.iter().any(|refund| refund.reason.is_some())
}

/// The payment without its customer's data.
pub fn erase_customer_data(payment: &Payment, now: Timestamp) -> Payment {
    let mut erased = payment.clone();
    let terms = &mut erased.terms;
    terms.payment_token = None;
    terms.customer_email = None;
    terms.customer_ip = None;
    terms.description = None;
    terms.return_url = None;
    terms.metadata.clear();
    erased.next_action = None;
    for attempt in &mut erased.attempts {
        attempt.refs.client_secret = None;
    }
    for refund in &mut erased.refunds {
        refund.reason = None;
    }
    erased.erased_at = Some(now);
    erased
}
