//! Erasing customers' data: of one payment or pre-auth, of all of one customer of a merchant, or of all that are old enough.
//!
//! An erasure is a row, committed with its entry in the audit, and worked off in the background; a process that dies
//! meanwhile goes on at its next start. It goes over the payments and pre-auths first, then over the answers kept under
//! idempotency keys and the notifications of those that were erased. Events and notifications' bodies never hold customers'
//! data.

mod objects;
mod redact;
mod work;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;
use utoipa::ToSchema;

use crate::domain::audit::{Change, Operator};
use crate::domain::ids::{MerchantId, PaymentNo, PreAuthNo, sortable_id};
use crate::domain::payment::{Erasability, Payment};
use crate::domain::pre_auth::PreAuth;
use crate::domain::time::Timestamp;
use crate::gateway::audit;
use crate::gateway::core::Core;
use crate::gateway::erasures::objects::{Erasable, Stored};
use crate::gateway::error::GatewayError;
use crate::gateway::numbered_list::Numbered;
use crate::gateway::page::{Page, PageRequest, cursor_of};
use crate::storage::record::{Record, decode, encode};
use crate::storage::unreadable::UnreadableRows;
use crate::storage::vault::Vault;
use crate::storage::{Batch, Row, Scan, StoreError, keys};

/// Tries of a change that others keep overtaking.
const CONFLICTS_MAX: usize = 8;
/// Erasures under way or waiting at once.
const WAITING_MAX: usize = 1_000;
/// Rows looked at to find those that wait.
const ROWS_LOOKED_AT_MAX: usize = 10_000;
/// Longest text that says who the customer is, in bytes.
const CUSTOMER_BYTES_MAX: usize = 512;
/// The field of the metadata that a customer's id is looked for in.
const CUSTOMER_ID_FIELD: &str = "customer_id";

/// An erasure as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ErasureRecord {
    /// Its id.
    erasure_id: String,
    /// Of which merchant's payments and pre-auths; of all merchants' when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    merchant_id: Option<MerchantId>,
    /// The payment, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payment_no: Option<PaymentNo>,
    /// The pre-auth, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pre_auth_no: Option<PreAuthNo>,
    /// The customer, if it is of one; encrypted, and taken away at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_customer: Option<String>,
    /// What has not changed since then, if it is of old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    older_than: Option<Timestamp>,
    /// Who asked for it.
    requested_by: String,
    /// When.
    requested_at: Timestamp,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    /// What was erased so far.
    #[serde(default)]
    done: Counts,
}

impl Record for ErasureRecord {
    const NAME: &'static str = "erasure";
}

/// What an erasure did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ErasedCounts)]
pub struct Counts {
    /// Payments erased.
    pub payments: u64,
    /// Payments that were still open and were left as they are; erase them again once they are final.
    pub open_payments: u64,
    /// Pre-auths erased.
    #[serde(default)]
    pub pre_auths: u64,
    /// Pre-auths that were still open and were left as they are; erase them again once they are final.
    #[serde(default)]
    pub open_pre_auths: u64,
    /// Answers under idempotency keys that were changed.
    pub answers: u64,
    /// Notifications from which receivers' answers were taken.
    pub notifications: u64,
    /// Rows that may hold such data and could not be read, so that it may still be in them; the log names them.
    #[serde(default)]
    pub unreadable: u64,
}

/// Whose data is erased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseCustomer {
    /// Payments and pre-auths with this `customer_email`, whatever its capitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_email: Option<String>,
    /// Payments and pre-auths with this `customer_id` in their metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
}

/// An erasure as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErasureView {
    /// Its id.
    pub erasure_id: String,
    /// Of which merchant's payments and pre-auths; null for all.
    pub merchant_id: Option<String>,
    /// `payment`, `pre_auth`, `customer` or `older_than`.
    pub subject: String,
    /// The payment, if it is of one.
    pub payment_no: Option<String>,
    /// The pre-auth, if it is of one.
    pub pre_auth_no: Option<String>,
    /// `running` or `done`.
    pub status: String,
    /// What was erased so far.
    pub erased: Counts,
    /// Who asked for it.
    pub requested_by: String,
    /// When.
    pub requested_at: String,
    /// When it was done.
    pub finished_at: Option<String>,
}

/// The erasures of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Erasures(Arc<Inner>);

struct Inner {
    core: Core,
    /// Something waits to be worked off.
    wake: Notify,
    unreadable: UnreadableRows,
}

impl Erasures {
    pub(crate) fn new(core: Core) -> Self {
        Self(Arc::new(Inner { core, wake: Notify::new(), unreadable: UnreadableRows::default() }))
    }

    /// Works off what waits, now and whenever something is asked for, and what grows old enough. Ends when the gateway
    /// stops.
    pub(crate) fn start(&self) {
        let worker = self.clone();
        let core = &self.0.core;
        let stopping = core.stopping.clone();
        core.tasks.spawn(async move {
            // Cut off anywhere, what is committed is done and the rest waits for the next start.
            stopping.run_until_cancelled(work::run(&worker)).await;
        });
    }

    /// Erases the customer's data of one payment; its row is erased when this returns, what belongs to it soon after.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`], [`GatewayError::InvalidState`] while the payment or a refund of it is open.
    pub async fn erase_payment(
        &self,
        merchant_id: &str,
        payment_no: &str,
        by: &Operator,
    ) -> Result<ErasureView, GatewayError> {
        self.erase_one::<Payment>(merchant_id, payment_no, by).await
    }

    /// The same of one pre-auth, named by our number.
    ///
    /// # Errors
    /// As for [`Erasures::erase_payment`].
    pub async fn erase_pre_auth(
        &self,
        merchant_id: &str,
        pre_auth_no: &str,
        by: &Operator,
    ) -> Result<ErasureView, GatewayError> {
        self.erase_one::<PreAuth>(merchant_id, pre_auth_no, by).await
    }

    /// Erases the customer's data of all final payments and pre-auths of one customer of a merchant, in the background.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] unless the command says who in exactly one way, [`GatewayError::NotFound`] when
    /// there is neither such a merchant nor anything of it, [`GatewayError::Overloaded`] when very many erasures wait.
    pub async fn erase_customer(
        &self,
        merchant_id: &str,
        command: EraseCustomer,
        by: &Operator,
    ) -> Result<ErasureView, GatewayError> {
        check(&command)?;
        let (this, by, merchant_id) = (self.clone(), by.clone(), MerchantId::new(merchant_id));
        self.0.core.carry(async move { this.begin_customer(&merchant_id, &command, &by).await }).await
    }

    /// One erasure.
    ///
    /// # Errors
    /// [`GatewayError::NotFound`].
    pub fn get(&self, erasure_id: &str) -> Result<ErasureView, GatewayError> {
        let stored = self.0.core.store.get(&keys::erasure(erasure_id))?.ok_or(GatewayError::NotFound("erasure"))?;
        Ok(view_of(&decode(&stored.value)?))
    }

    /// A page of erasures, newest first.
    ///
    /// # Errors
    /// [`GatewayError::InvalidRequest`] for a wrong limit or cursor.
    pub fn list(&self, page: &PageRequest) -> Result<Page<ErasureView>, GatewayError> {
        let rows = page.rows()?;
        let prefix = keys::erasures();
        let mut scan = Scan::prefix_reverse(&prefix, rows + 1);
        if let Some(before) = page.key_after(&prefix)? {
            scan.end = Some(before);
        }
        let found = self.0.core.store.scan(&scan)?;
        let last = found.get(rows.saturating_sub(1)).filter(|_| found.len() > rows);
        let next_cursor = last.map(|row| cursor_of(&prefix, &row.key));
        let items = found.iter().take(rows).filter_map(|row| self.read(row)).map(|record| view_of(&record)).collect();
        Ok(Page { items, next_cursor })
    }

    async fn erase_one<T: Erasable>(
        &self,
        merchant_id: &str,
        number: &str,
        by: &Operator,
    ) -> Result<ErasureView, GatewayError> {
        let (this, by) = (self.clone(), by.clone());
        let (merchant_id, number) = (MerchantId::new(merchant_id), number.to_owned());
        self.0.core.carry(async move { this.begin_one::<T>(&merchant_id, &number, &by).await }).await
    }

    async fn begin_one<T: Erasable>(
        &self,
        merchant_id: &MerchantId,
        number: &str,
        by: &Operator,
    ) -> Result<ErasureView, GatewayError> {
        let core = &self.0.core;
        self.refuse_too_many()?;
        for _ in 0..CONFLICTS_MAX {
            let Stored { object, revision } = objects::read::<T>(core, merchant_id, number)?;
            let mut batch = Batch::finishing();
            let mut record = self.record(Some(merchant_id), by);
            T::name_in(&mut record, number);
            match object.erasability() {
                Erasability::Open => return Err(GatewayError::InvalidState { status: object.open_as().to_owned() }),
                // Its answers and notifications are looked through all the same.
                Erasability::Nothing => {}
                Erasability::Erasable => {
                    let erased = encode(&object.without_customer(core.clock.now()))?;
                    batch.replace(T::row(merchant_id, number), revision, erased);
                    *T::erased_in(&mut record.done) = 1;
                }
            }
            batch.insert(keys::erasure(&record.erasure_id), encode(&record)?);
            let object = format!("{merchant_id}/{number}");
            let change = Change::new(T::ACTION, object).field("erasure", None, Some(json!(record.erasure_id)));
            match audit::commit(core, batch, by, &change).await {
                Ok(_) => {
                    self.0.wake.notify_one();
                    return Ok(view_of(&record));
                }
                Err(StoreError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(GatewayError::Overloaded { retry_after_s: 1 })
    }

    async fn begin_customer(
        &self,
        merchant_id: &MerchantId,
        command: &EraseCustomer,
        by: &Operator,
    ) -> Result<ErasureView, GatewayError> {
        let core = &self.0.core;
        self.check_merchant(merchant_id)?;
        self.refuse_too_many()?;
        let mut record = self.record(Some(merchant_id), by);
        let customer = serde_json::to_vec(command)
            .map_err(|error| GatewayError::Internal(format!("an erasure can't be written: {error}")))?;
        let sealing = core.vault.sealing();
        record.sealed_customer = Some(sealing.seal(&identity_of(&record.erasure_id), &customer)?);
        // The entry must not say who the customer is.
        let named_by = if command.customer_email.is_some() { "customer_email" } else { "customer_id" };
        let change = Change::new("customer.erase", merchant_id.as_str())
            .field("erasure", None, Some(json!(record.erasure_id)))
            .field("named_by", None, Some(json!(named_by)));
        self.begin(record, by, change).await
    }

    /// Begins an erasure of everything older than this, of all merchants.
    async fn begin_older_than(&self, cutoff: Timestamp) -> Result<ErasureView, GatewayError> {
        let by = Operator::process("retention");
        let mut record = self.record(None, &by);
        record.older_than = Some(cutoff);
        let change = Change::new("customer_data.expire", "payments")
            .field("erasure", None, Some(json!(record.erasure_id)))
            .field("older_than", None, Some(json!(cutoff.rfc3339())));
        self.begin(record, &by, change).await
    }

    async fn begin(&self, record: ErasureRecord, by: &Operator, change: Change) -> Result<ErasureView, GatewayError> {
        // What must be erased must not wait until the disk has room again.
        let mut batch = Batch::finishing();
        batch.insert(keys::erasure(&record.erasure_id), encode(&record)?);
        audit::commit(&self.0.core, batch, by, &change).await?;
        self.0.wake.notify_one();
        Ok(view_of(&record))
    }

    fn record(&self, merchant_id: Option<&MerchantId>, by: &Operator) -> ErasureRecord {
        let core = &self.0.core;
        let now = core.clock.now();
        ErasureRecord {
            erasure_id: sortable_id("er_", now, core.random.draw_u64()),
            merchant_id: merchant_id.cloned(),
            payment_no: None,
            pre_auth_no: None,
            sealed_customer: None,
            older_than: None,
            requested_by: by.name.clone(),
            requested_at: now,
            finished_at: None,
            done: Counts::default(),
        }
    }

    fn refuse_too_many(&self) -> Result<(), GatewayError> {
        if self.waiting()?.len() < WAITING_MAX { Ok(()) } else { Err(GatewayError::Overloaded { retry_after_s: 60 }) }
    }

    /// A merchant's payments and pre-auths outlive it, and what may have to be erased with them.
    fn check_merchant(&self, merchant_id: &MerchantId) -> Result<(), GatewayError> {
        let store = self.0.core.store.as_ref();
        let has_rows = |prefix: &[u8]| Ok::<_, StoreError>(!store.scan(&Scan::prefix(prefix, 1))?.is_empty());
        let is_known = store.get(&keys::merchant(merchant_id))?.is_some()
            || has_rows(&Payment::rows_of(merchant_id))?
            || has_rows(&PreAuth::rows_of(merchant_id))?;
        if is_known { Ok(()) } else { Err(GatewayError::NotFound("merchant")) }
    }

    /// An erasure's row. One that can't be read is passed over, so that it does not hold up the others.
    fn read(&self, row: &Row) -> Option<ErasureRecord> {
        decode(&row.versioned.value).map_err(|error| self.0.unreadable.report(&row.key, error)).ok()
    }

    /// The ids of the erasures that are not done, oldest first.
    fn waiting(&self) -> Result<Vec<String>, GatewayError> {
        // The newest rows, because the others are done long since: they are worked off in their order.
        let rows = self.0.core.store.scan(&Scan::prefix_reverse(&keys::erasures(), ROWS_LOOKED_AT_MAX))?;
        let mut waiting = Vec::new();
        for row in rows.iter().rev() {
            let Some(record) = self.read(row) else { continue };
            if record.finished_at.is_none() {
                waiting.push(record.erasure_id);
            }
        }
        Ok(waiting)
    }
}

/// How long finished erasures are kept; the audit keeps that they were asked for.
const KEEP_FINISHED: Duration = Duration::from_secs(90 * 86_400);

fn check(command: &EraseCustomer) -> Result<(), GatewayError> {
    let (field, text) = match (&command.customer_email, &command.customer_id) {
        (Some(email), None) => ("customer_email", email),
        (None, Some(id)) => ("customer_id", id),
        _ => return Err(GatewayError::field("customer_email", "give either this or customer_id")),
    };
    if text.trim().is_empty() || text.len() > CUSTOMER_BYTES_MAX {
        return Err(GatewayError::field(field, format!("must have 1 to {CUSTOMER_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// What an encrypted customer is bound to.
fn identity_of(erasure_id: &str) -> String {
    format!("erasure|{erasure_id}")
}

/// The row of an erasure with its customer under the master key that seals; `None` when it is, or when there is none.
pub(crate) fn reseal_erasure(vault: &Vault, row: &Row) -> Result<Option<Vec<u8>>, GatewayError> {
    let mut record: ErasureRecord = decode(&row.versioned.value)?;
    let Some(sealed) = &record.sealed_customer else { return Ok(None) };
    let Some(resealed) = vault.reseal(&identity_of(&record.erasure_id), sealed)? else { return Ok(None) };
    record.sealed_customer = Some(resealed);
    Ok(Some(encode(&record)?))
}

fn view_of(record: &ErasureRecord) -> ErasureView {
    let subject = match (&record.payment_no, &record.pre_auth_no, record.older_than) {
        (Some(_), _, _) => "payment",
        (None, Some(_), _) => "pre_auth",
        (None, None, Some(_)) => "older_than",
        (None, None, None) => "customer",
    };
    ErasureView {
        erasure_id: record.erasure_id.clone(),
        merchant_id: record.merchant_id.as_ref().map(ToString::to_string),
        subject: subject.to_owned(),
        payment_no: record.payment_no.as_ref().map(ToString::to_string),
        pre_auth_no: record.pre_auth_no.as_ref().map(ToString::to_string),
        status: if record.finished_at.is_some() { "done" } else { "running" }.to_owned(),
        erased: record.done,
        requested_by: record.requested_by.clone(),
        requested_at: record.requested_at.rfc3339(),
        finished_at: record.finished_at.map(Timestamp::rfc3339),
    }
}

#[cfg(test)]
mod tests;
