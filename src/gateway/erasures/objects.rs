//! What customers' data can be erased from: payments and pre-auths.

use crate::domain::ids::{MerchantId, PaymentNo, PreAuthNo};
use crate::domain::payment::{self, Erasability, Payment};
use crate::domain::pre_auth::{self, PreAuth};
use crate::domain::time::Timestamp;
use crate::gateway::core::Core;
use crate::gateway::erasures::{CUSTOMER_ID_FIELD, Counts, EraseCustomer, ErasureRecord};
use crate::gateway::error::GatewayError;
use crate::gateway::numbered_list::Numbered;
use crate::storage::record::decode;

/// An object with customers' data in it.
pub(super) trait Erasable: Numbered + Send {
    /// What the audit says of an erasure of one.
    const ACTION: &'static str;

    /// Its number.
    fn number(&self) -> &str;

    /// Whose it is.
    fn merchant_id(&self) -> &MerchantId;

    /// When it last changed.
    fn updated_at(&self) -> Timestamp;

    /// Whether it is about this customer.
    fn is_of(&self, customer: &EraseCustomer) -> bool;

    /// Whether the data can be taken out now.
    fn erasability(&self) -> Erasability;

    /// The same without the data.
    fn without_customer(&self, now: Timestamp) -> Self;

    /// Whether the data was taken out.
    fn is_erased(&self) -> bool;

    /// Why it is still open, in one word.
    fn open_as(&self) -> &'static str;

    /// Has an erasure be about the one with this number.
    fn name_in(record: &mut ErasureRecord, number: &str);

    /// Those that were erased.
    fn erased_in(counts: &mut Counts) -> &mut u64;

    /// Those that were left because they are open.
    fn open_in(counts: &mut Counts) -> &mut u64;
}

/// As it was read.
pub(super) struct Stored<T> {
    pub(super) object: T,
    pub(super) revision: u64,
}

/// The one with this number.
///
/// # Errors
/// [`GatewayError::NotFound`].
pub(super) fn read<T: Erasable>(
    core: &Core,
    merchant_id: &MerchantId,
    number: &str,
) -> Result<Stored<T>, GatewayError> {
    let stored = core.store.get(&T::row(merchant_id, number))?.ok_or(GatewayError::NotFound(T::NAME))?;
    Ok(Stored { object: decode(&stored.value)?, revision: stored.revision })
}

impl Erasable for Payment {
    const ACTION: &'static str = "payment.erase";

    fn number(&self) -> &str {
        self.payment_no.as_str()
    }

    fn merchant_id(&self) -> &MerchantId {
        &self.merchant_id
    }

    fn updated_at(&self) -> Timestamp {
        self.updated_at
    }

    fn is_of(&self, customer: &EraseCustomer) -> bool {
        let terms = &self.terms;
        is_meant(customer, terms.customer_email.as_deref(), terms.metadata.get(CUSTOMER_ID_FIELD))
    }

    fn erasability(&self) -> Erasability {
        payment::erasability(self)
    }

    fn without_customer(&self, now: Timestamp) -> Self {
        payment::erase_customer_data(self, now)
    }

    fn is_erased(&self) -> bool {
        self.erased_at.is_some()
    }

    fn open_as(&self) -> &'static str {
        if self.status.is_final() { REFUND_PENDING } else { self.status.as_str() }
    }

    fn name_in(record: &mut ErasureRecord, number: &str) {
        record.payment_no = Some(PaymentNo::new(number));
    }

    fn erased_in(counts: &mut Counts) -> &mut u64 {
        &mut counts.payments
    }

    fn open_in(counts: &mut Counts) -> &mut u64 {
        &mut counts.open_payments
    }
}

impl Erasable for PreAuth {
    const ACTION: &'static str = "pre_auth.erase";

    fn number(&self) -> &str {
        self.pre_auth_no.as_str()
    }

    fn merchant_id(&self) -> &MerchantId {
        &self.merchant_id
    }

    fn updated_at(&self) -> Timestamp {
        self.updated_at
    }

    fn is_of(&self, customer: &EraseCustomer) -> bool {
        let terms = &self.terms;
        is_meant(customer, terms.customer_email.as_deref(), terms.metadata.get(CUSTOMER_ID_FIELD))
    }

    fn erasability(&self) -> Erasability {
        pre_auth::erasability(self)
    }

    fn without_customer(&self, now: Timestamp) -> Self {
        pre_auth::erase_customer_data(self, now)
    }

    fn is_erased(&self) -> bool {
        self.erased_at.is_some()
    }

    fn open_as(&self) -> &'static str {
        if self.status.is_final() { REFUND_PENDING } else { self.status.as_str() }
    }

    fn name_in(record: &mut ErasureRecord, number: &str) {
        record.pre_auth_no = Some(PreAuthNo::new(number));
    }

    fn erased_in(counts: &mut Counts) -> &mut u64 {
        &mut counts.pre_auths
    }

    fn open_in(counts: &mut Counts) -> &mut u64 {
        &mut counts.open_pre_auths
    }
}

/// What is said of one that is over, but for money that is on its way back.
const REFUND_PENDING: &str = "refund_pending";

fn is_meant(customer: &EraseCustomer, email: Option<&str>, customer_id: Option<&String>) -> bool {
    if let Some(wanted) = &customer.customer_email {
        return email.unwrap_or_default().trim().to_lowercase() == wanted.trim().to_lowercase();
    }
    customer.customer_id.is_some() && customer_id == customer.customer_id.as_ref()
}
