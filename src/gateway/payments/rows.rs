//! Payments in the store: the row, the order number that it holds, its due entry, its refunds' index, and when its money moved.

use std::time::Duration;

use crate::domain::ids::{ChannelName, MerchantId, PRE_AUTH_NO_PREFIX, PaymentNo, PreAuthNo, RefundNo};
use crate::domain::payment::{Payment, PaymentStatus};
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::error::GatewayError;
use crate::gateway::numbered_list::Numbered;
use crate::gateway::reconciliation::late;
use crate::storage::record::{Record, decode, encode};
use crate::storage::{Batch, Committed, StoreError, keys};

/// Tries of a commit that finishes something while the store has no room.
const FINISH_TRIES_MAX: u32 = 8;
/// Wait before the second of them; doubles from then on.
const FINISH_FIRST_WAIT: Duration = Duration::from_millis(25);

impl Record for Payment {
    const NAME: &'static str = "payment";
}

impl Numbered for Payment {
    type Status = PaymentStatus;

    fn status_named(text: &str) -> Result<PaymentStatus, Vec<&'static str>> {
        let known = || PaymentStatus::ALL.iter().map(|status| status.as_str()).collect();
        PaymentStatus::parse(text).ok_or_else(known)
    }

    fn rows() -> Vec<u8> {
        keys::payments()
    }

    fn rows_of(merchant_id: &MerchantId) -> Vec<u8> {
        keys::payments_of(merchant_id)
    }

    fn rows_from(merchant_id: &MerchantId, from: Timestamp) -> Vec<u8> {
        keys::payments_from(merchant_id, from)
    }

    fn row(merchant_id: &MerchantId, number: &str) -> Vec<u8> {
        keys::payment(merchant_id, &PaymentNo::new(number))
    }

    fn order(merchant_id: &MerchantId, order_no: &str) -> Vec<u8> {
        keys::order(merchant_id, order_no)
    }

    fn status(&self) -> PaymentStatus {
        self.status
    }

    fn channel(&self) -> Option<&ChannelName> {
        self.current().map(|attempt| &attempt.channel)
    }

    fn order_no(&self) -> &str {
        &self.terms.order_no
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }
}

/// A payment as it was read, with the revision that a change of it has to name.
#[derive(Clone, Debug)]
pub(crate) struct StoredPayment {
    /// The payment.
    pub(crate) payment: Payment,
    /// Of its row.
    pub(crate) revision: u64,
}

/// The payment with this number, if it is this merchant's.
pub(crate) fn read(
    core: &Core,
    merchant_id: &MerchantId,
    payment_no: &PaymentNo,
) -> Result<StoredPayment, GatewayError> {
    let stored = core.store.get(&keys::payment(merchant_id, payment_no))?.ok_or(GatewayError::NotFound("payment"))?;
    Ok(StoredPayment { payment: decode(&stored.value)?, revision: stored.revision })
}

/// The number of the payment that holds an order number, if any.
pub(crate) fn holder_of_order(
    core: &Core,
    merchant_id: &MerchantId,
    order_no: &str,
) -> Result<Option<PaymentNo>, GatewayError> {
    let stored = core.store.get(&keys::order(merchant_id, order_no))?;
    Ok(stored.map(|stored| PaymentNo::new(String::from_utf8_lossy(&stored.value).into_owned())))
}

/// What a refund belongs to.
pub(crate) enum Refunded {
    /// This payment.
    Payment(PaymentNo),
    /// This pre-auth.
    PreAuth(PreAuthNo),
}

/// What a refund belongs to.
pub(crate) fn object_of_refund(
    core: &Core,
    merchant_id: &MerchantId,
    refund_no: &RefundNo,
) -> Result<Refunded, GatewayError> {
    let stored = core.store.get(&keys::refund(merchant_id, refund_no))?.ok_or(GatewayError::NotFound("refund"))?;
    let number = String::from_utf8_lossy(&stored.value).into_owned();
    Ok(match number.starts_with(PRE_AUTH_NO_PREFIX) {
        true => Refunded::PreAuth(PreAuthNo::new(number)),
        false => Refunded::Payment(PaymentNo::new(number)),
    })
}

/// Adds a new payment to `batch`. Returns the index of the precondition that fails when the order number is taken.
pub(crate) fn insert(batch: &mut Batch, payment: &Payment) -> Result<usize, GatewayError> {
    batch.insert(keys::payment(&payment.merchant_id, &payment.payment_no), encode(payment)?);
    late::enter_payment(batch, None, payment);
    let order_index = batch.preconditions.len();
    let order_key = keys::order(&payment.merchant_id, &payment.terms.order_no);
    batch.insert(order_key, payment.payment_no.as_str().as_bytes().to_vec());
    if let Some(due_at) = payment.due_at {
        put_due(batch, payment, due_at);
    }
    Ok(order_index)
}

/// Adds a payment that was made again, in the state that its provider says. Returns the index of the precondition that
/// fails when the order number is taken; a payment that is closed holds none.
pub(crate) fn insert_adopted(batch: &mut Batch, payment: &Payment) -> Result<Option<usize>, GatewayError> {
    if !payment.status.frees_order_no() {
        return insert(batch, payment).map(Some);
    }
    batch.insert(keys::payment(&payment.merchant_id, &payment.payment_no), encode(payment)?);
    late::enter_payment(batch, None, payment);
    Ok(None)
}

/// Adds a changed payment to `batch`, on condition that nobody else changed it.
pub(crate) fn replace(batch: &mut Batch, before: &StoredPayment, after: &Payment) -> Result<(), GatewayError> {
    batch.replace(keys::payment(&after.merchant_id, &after.payment_no), before.revision, encode(after)?);
    late::enter_payment(batch, Some(&before.payment), after);
    if before.payment.due_at != after.due_at {
        if let Some(due_at) = before.payment.due_at {
            batch.delete(keys::payment_due(due_at, &after.payment_no));
        }
        if let Some(due_at) = after.due_at {
            put_due(batch, after, due_at);
        }
    }
    if after.status.frees_order_no() && !before.payment.status.frees_order_no() {
        batch.delete(keys::order(&after.merchant_id, &after.terms.order_no));
    }
    for refund in after.refunds.iter().skip(before.payment.refunds.len()) {
        let refund_key = keys::refund(&after.merchant_id, &refund.refund_no);
        batch.insert(refund_key, after.payment_no.as_str().as_bytes().to_vec());
    }
    Ok(())
}

/// What is under a due entry: whose payment it is and which channel has to be asked, so that the timer need not read the
/// payments of a channel that has no room.
fn due_value(payment: &Payment) -> Vec<u8> {
    let channel = payment.current().map_or("", |attempt| attempt.channel.as_str());
    format!("{}\n{channel}", payment.merchant_id).into_bytes()
}

/// Reads what [`due_value`] has written.
pub(crate) fn parse_due_value(value: &[u8]) -> Option<(MerchantId, ChannelName)> {
    let text = std::str::from_utf8(value).ok()?;
    // Without a channel it was written before there was one in it.
    let (merchant_id, channel) = text.split_once('\n').unwrap_or((text, ""));
    Some((MerchantId::new(merchant_id), ChannelName::new(channel)))
}

/// Inserted rather than put, so that the store knows that the key is new: an entry that is soon deleted again then never
/// reaches the index.
fn put_due(batch: &mut Batch, payment: &Payment, due_at: Timestamp) {
    batch.insert(keys::payment_due(due_at, &payment.payment_no), due_value(payment));
}

/// Commits what finishes something that has begun. While the store has no room it is tried again for a few seconds:
/// giving up would leave a known outcome to be asked for again.
pub(crate) async fn commit_finish(core: &Core, batch: Batch) -> Result<Committed, StoreError> {
    let mut wait = FINISH_FIRST_WAIT;
    for _ in 1..FINISH_TRIES_MAX {
        match core.store.commit(batch.clone()).await {
            Err(StoreError::Overloaded(_)) => {}
            result => return result,
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    core.store.commit(batch).await
}
